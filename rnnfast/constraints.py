"""Projections that a weight goes through after every optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.registry import Registry

Axis = int | Sequence[int]


class Constraint:
    """Base class: called with an array, returns the projected array of the same shape and type."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """Return the projection of `w`; `w` itself stays as it is."""
        return w

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constraint:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


class NonNeg(Constraint):
    """Negative values become zero.

    Examples
    --------
    >>> NonNeg()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return np.maximum(w, 0)


class MinMaxNorm(Constraint):
    """The norm along `axis` is moved into [min_value, max_value].

    Parameters
    ----------
    min_value, max_value : float
    rate : float
        1 moves the whole way in one step, a smaller number that share of it.
    axis : int or sequence of int
        0 for kernels: the norm of each unit's incoming weights.
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axis = 0) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        norms = _norms(w, self.axis)
        wanted = self.rate * np.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (wanted / (config.epsilon() + norms))

    def get_config(self) -> dict[str, Any]:
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


class MaxNorm(Constraint):
    """The norm along `axis` is at most `max_value`.

    Examples
    --------
    >>> MaxNorm(1.0)(np.array([[3.0], [4.0]])).round(3)
    array([[0.6],
           [0.8]])
    """

    def __init__(self, max_value: float = 2, axis: Axis = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        norms = _norms(w, self.axis)
        return w * (np.clip(norms, 0, self.max_value) / (config.epsilon() + norms))

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(Constraint):
    """The norm along `axis` is one."""

    def __init__(self, axis: Axis = 0) -> None:
        self.axis = axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return w / (config.epsilon() + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


def _norms(w: np.ndarray, axis: Axis) -> np.ndarray:
    axes = axis if isinstance(axis, int) else tuple(axis)
    norms: np.ndarray = np.sqrt(np.sum(np.square(w), axis=axes, keepdims=True))
    return norms


_REGISTRY: Registry[Constraint] = Registry(
    "constraint", {"max_norm": MaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm, "min_max_norm": MinMaxNorm}
)

get = _REGISTRY.get
serialize = _REGISTRY.serialize
deserialize = _REGISTRY.deserialize
