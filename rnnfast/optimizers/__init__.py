"""Optimizers: how gradients move weights.

``apply`` is the readable definition and works on plain arrays; in training the engine runs the same update over all
weights at once, from the numbers of ``step_scalars()``. A whole step is: clip the gradients, shrink the weights by
``learning_rate * weight_decay``, update, count the iteration.
"""

from __future__ import annotations

from typing import Any

from rnnfast.optimizers.adam import Adam, AdamW, Nadam
from rnnfast.optimizers.base import Optimizer
from rnnfast.optimizers.gradient import SGD, Adagrad, RMSprop
from rnnfast.registry import Registry

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Nadam", "Optimizer", "RMSprop", "deserialize", "get", "serialize"]

_REGISTRY: Registry[Optimizer] = Registry(
    "optimizer", {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW, "nadam": Nadam, "adagrad": Adagrad}
)

serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize


def get(identifier: Any) -> Optimizer:
    """Return the optimizer for a name, class, config or :class:`Optimizer`.

    Examples
    --------
    >>> get("adam").learning_rate
    0.001
    """
    optimizer = _REGISTRY.get(identifier)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer must be a name or an Optimizer of rnnfast.optimizers, got {identifier!r}.")
    return optimizer
