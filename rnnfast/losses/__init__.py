"""Losses: what training makes small.

The NumPy code here is the readable definition, in float64; the engine computes the same values and their derivatives
in C, told which by :meth:`Loss.engine`.

A loss has two halves. ``call(y_true, y_pred)`` gives one value a sample or time step: the last axis is averaged (or
summed, for cross-entropy and divergence) away. The reduction is then one weighted sum of these values, whose weights
:meth:`Loss.coefficients` computes from the reduction, the sample weights and the mask.
"""

from __future__ import annotations

from typing import Any

from rnnfast.losses.base import REDUCTIONS, Loss, expand_weights
from rnnfast.losses.crossentropy import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from rnnfast.losses.ctc import CTC
from rnnfast.losses.margins import CategoricalHinge, Hinge, SquaredHinge
from rnnfast.losses.regression import (
    CosineSimilarity,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
)
from rnnfast.registry import Registry

__all__ = [
    "CTC",
    "REDUCTIONS",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "deserialize",
    "expand_weights",
    "get",
    "serialize",
]

_REGISTRY: Registry[Loss] = Registry(
    "loss",
    {
        "mean_squared_error": MeanSquaredError,
        "mse": MeanSquaredError,
        "mean_absolute_error": MeanAbsoluteError,
        "mae": MeanAbsoluteError,
        "mean_absolute_percentage_error": MeanAbsolutePercentageError,
        "mape": MeanAbsolutePercentageError,
        "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
        "msle": MeanSquaredLogarithmicError,
        "huber": Huber,
        "huber_loss": Huber,
        "log_cosh": LogCosh,
        "binary_crossentropy": BinaryCrossentropy,
        "bce": BinaryCrossentropy,
        "categorical_crossentropy": CategoricalCrossentropy,
        "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
        "kl_divergence": KLDivergence,
        "kld": KLDivergence,
        "poisson": Poisson,
        "hinge": Hinge,
        "squared_hinge": SquaredHinge,
        "categorical_hinge": CategoricalHinge,
        "cosine_similarity": CosineSimilarity,
        "ctc": CTC,
    },
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize


def get(identifier: Any) -> Loss | None:
    """Return the loss for a name, class, config or :class:`Loss`; None for None.

    Examples
    --------
    >>> get("mse").name
    'mean_squared_error'
    """
    loss = _REGISTRY.get(identifier)
    if loss is not None and not isinstance(loss, Loss):
        raise ValueError(f"loss must be a name or a Loss of rnnfast.losses (the engine computes it), got {loss!r}.")
    return loss
