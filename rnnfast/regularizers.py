"""Penalties on weights, added to the loss in training and evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnnfast.registry import Registry


class Regularizer:
    """Base class: ``l1 * sum(|w|) + l2 * sum(w^2)``; `l1` and `l2` are all that the engine reads."""

    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, w: Any) -> float:
        """Return the penalty of the array `w`, summed in float64."""
        w = np.asarray(w, np.float64)
        return float(self.l1 * np.abs(w).sum() + self.l2 * np.square(w).sum())

    def gradient(self, w: Any) -> np.ndarray:
        """Return the penalty's derivative, ``l1 * sign(w) + 2 * l2 * w``, in float64."""
        w = np.asarray(w, np.float64)
        gradient: np.ndarray = self.l1 * np.sign(w) + 2.0 * self.l2 * w
        return gradient

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


class L1(Regularizer):
    """``l1 * sum(|w|)``.

    Examples
    --------
    >>> L1(0.5)([1.0, -3.0])
    2.0
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _factor("L1", "l1", l1)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(Regularizer):
    """``l2 * sum(w^2)``.

    Examples
    --------
    >>> L2(0.5)([1.0, -3.0])
    5.0
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _factor("L2", "l2", l2)

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


class L1L2(Regularizer):
    """``l1 * sum(|w|) + l2 * sum(w^2)``.

    Examples
    --------
    >>> L1L2(l1=0.5, l2=0.5)([1.0, -3.0])
    7.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = _factor("L1L2", "l1", l1), _factor("L1L2", "l2", l2)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


def _factor(owner: str, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0.0 <= value < math.inf:
        raise ValueError(f"{owner}: {name} must be a finite float of at least 0, got {value!r}.")
    return float(value)


_REGISTRY: Registry[Regularizer] = Registry("regularizer", {"l1": L1, "l2": L2, "l1_l2": L1L2})

get = _REGISTRY.get
serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize
