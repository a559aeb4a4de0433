"""Metrics: numbers that are watched, not trained on, added up in float64 over the batches since the last reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from rnnfast.metrics.base import Mean, MeanMetricWrapper, Metric
from rnnfast.metrics.confusion import AUC, F1Score, FBetaScore, Precision, Recall
from rnnfast.metrics.edits import CharacterErrorRate, WordErrorRate
from rnnfast.metrics.regression import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
)
from rnnfast.registry import Registry

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CharacterErrorRate",
    "F1Score",
    "FBetaScore",
    "Huber",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "MetricList",
    "Poisson",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "WordErrorRate",
    "deserialize",
    "get",
    "serialize",
]

_REGISTRY: Registry[Metric] = Registry(
    "metric",
    {
        "accuracy": Accuracy,
        "binary_accuracy": BinaryAccuracy,
        "categorical_accuracy": CategoricalAccuracy,
        "sparse_categorical_accuracy": SparseCategoricalAccuracy,
        "top_k_categorical_accuracy": TopKCategoricalAccuracy,
        "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
        "auc": AUC,
        "precision": Precision,
        "recall": Recall,
        "fbeta_score": FBetaScore,
        "f1_score": F1Score,
        "r2_score": R2Score,
        "mean": Mean,
        "mean_squared_error": MeanSquaredError,
        "mse": MeanSquaredError,
        "root_mean_squared_error": RootMeanSquaredError,
        "rmse": RootMeanSquaredError,
        "mean_absolute_error": MeanAbsoluteError,
        "mae": MeanAbsoluteError,
        "mean_absolute_percentage_error": MeanAbsolutePercentageError,
        "mape": MeanAbsolutePercentageError,
        "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
        "msle": MeanSquaredLogarithmicError,
        "log_cosh": LogCoshError,
        "log_cosh_error": LogCoshError,
        "huber": Huber,
        "kl_divergence": KLDivergence,
        "kld": KLDivergence,
        "poisson": Poisson,
        "binary_crossentropy": BinaryCrossentropy,
        "bce": BinaryCrossentropy,
        "categorical_crossentropy": CategoricalCrossentropy,
        "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
        "character_error_rate": CharacterErrorRate,
        "cer": CharacterErrorRate,
        "word_error_rate": WordErrorRate,
        "wer": WordErrorRate,
    },
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize


def get(identifier: Any) -> Metric:
    """Return the metric for a name, class, config, :class:`Metric` or function of (y_true, y_pred).

    Examples
    --------
    >>> get("mae").name
    'mean_absolute_error'
    """
    metric = _REGISTRY.get(identifier)
    if metric is None:
        raise ValueError("metric must be a name, a Metric or a function of (y_true, y_pred), got None.")
    return metric if isinstance(metric, Metric) else MeanMetricWrapper(metric)


class MetricList:
    """The metrics of a compiled model.

    Parameters
    ----------
    metrics : sequence, optional
        Names, metrics or functions; sample weights do not reach them.
    weighted_metrics : sequence, optional
        The same, with sample weights.

    Notes
    -----
    ``"accuracy"`` and ``"acc"`` become binary, categorical or sparse categorical accuracy by the shapes of the first
    batch: predictions of one value are binary, targets of lower rank or of one value are class numbers.
    """

    def __init__(self, metrics: Sequence[Any] | None = None, weighted_metrics: Sequence[Any] | None = None) -> None:
        for name, given in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if given is not None and not isinstance(given, list | tuple):
                raise ValueError(f"compile: {name} must be a list, got {given!r}.")
        self._given = [(each, False) for each in metrics or ()] + [(each, True) for each in weighted_metrics or ()]
        self._made: list[Metric | None] = [None if _is_accuracy(each) else _named(each) for each, _ in self._given]

    def __len__(self) -> int:
        return len(self._given)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics whose kind is known, all of them after the first batch."""
        return [metric for metric in self._made if metric is not None]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        """Add a batch to all."""
        for index, (identifier, weighted) in enumerate(self._given):
            metric = self._made[index]
            if metric is None:
                metric = self._made[index] = _accuracy(identifier, np.shape(y_true), np.shape(y_pred))
            metric.update_state(y_true, y_pred, sample_weight if weighted else None, mask)

    def reset_state(self) -> None:
        """Forget all batches."""
        for metric in self.metrics:
            metric.reset_state()

    def result(self) -> dict[str, Any]:
        """Return all results by name; a second metric of one name gets ``_1``, or ``weighted_`` if it is weighted."""
        results: dict[str, Any] = {}
        for metric, (_, weighted) in zip(self._made, self._given, strict=True):
            if metric is not None:
                name = metric.name
                if name in results and weighted:
                    name = f"weighted_{name}"
                names = (name, *(f"{name}_{count}" for count in range(1, len(self) + 1)))
                results[next(each for each in names if each not in results)] = metric.result()
        return results


def _is_accuracy(identifier: Any) -> bool:
    return isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc")


def _named(identifier: Any) -> Metric:
    metric = get(identifier)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def _accuracy(identifier: str, y_true: tuple[int, ...], y_pred: tuple[int, ...]) -> Metric:
    if y_pred[-1:] == (1,):
        return BinaryAccuracy(identifier)
    if len(y_true) < len(y_pred) or y_true[-1:] == (1,):
        return SparseCategoricalAccuracy(identifier)
    return CategoricalAccuracy(identifier)
