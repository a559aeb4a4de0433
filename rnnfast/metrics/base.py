"""What all metrics share: rows, weights and running means.

Every metric sees rows: the arrays' leading axes (B,) or (B, T) are flattened to N, rows outside the mask are dropped
whatever they hold, and one weight a row is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast import losses
from rnnfast.errors import ShapeError


class Metric:
    """Base class.

    Subclasses define ``reset_state()``, ``_update(y_true, y_pred, weights)`` on rows, and ``result()``.

    Attributes
    ----------
    direction : {"up", "down"} or None
        Whether greater or smaller is better, for callbacks with ``mode="auto"``.
    """

    default_name = ""
    arguments: tuple[str, ...] = ()
    direction: str | None = "up"

    def __init__(self, name: str | None = None) -> None:
        self.name = name or self.default_name
        self.reset_state()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        y_true : array_like
            Shape of `y_pred`, or without its last axis where that is of size one or the targets are class numbers.
        y_pred : array_like, (B, F) or (B, T, F)
        sample_weight : array_like, (B,) or (B, T), optional
        mask : array_like of bool, (B,) or (B, T), optional
        """
        self._update(*rows(self.name, y_true, y_pred, sample_weight, mask))

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        raise NotImplementedError

    def result(self) -> Any:
        """Return the metric of all batches since the last reset: a float, or an array where there are several."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """Add a batch and return the result so far."""
        self.update_state(y_true, y_pred, sample_weight, mask)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, **{argument: getattr(self, argument) for argument in self.arguments}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """Make one from :meth:`get_config`'s result."""
        return cls(**config)


class RowMean(Metric):
    """Weighted mean of ``_values(y_true, y_pred)``, of shape (N,) or (N, F)."""

    def reset_state(self) -> None:
        self.total = self.count = 0.0

    def _update(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> None:
        self._add(np.asarray(self._values(y_true, y_pred), np.float64), weights)

    def _values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _add(self, values: np.ndarray, weights: np.ndarray) -> None:
        rows = values.reshape(len(weights), -1).mean(-1) if values.size else np.zeros(len(weights))
        self.total += float(rows @ weights)
        self.count += float(weights.sum())

    def result(self) -> float:
        return self.total / self.count if self.count else 0.0


class Mean(RowMean):
    """Weighted mean of values.

    Examples
    --------
    >>> mean = Mean()
    >>> mean.update_state([1.0, 4.0], sample_weight=[2.0, 1.0])
    >>> mean.result()
    2.0
    """

    default_name = "mean"
    direction: str | None = None

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Add a value, or an array of them with one weight a row."""
        if isinstance(values, float):  # the loss of every batch comes this way
            weight = 1.0 if sample_weight is None else float(sample_weight)
            self.total += values * weight
            self.count += weight
            return
        values = np.atleast_1d(np.asarray(values, np.float64))
        self._add(
            values, np.broadcast_to(np.asarray(1.0 if sample_weight is None else sample_weight), values.shape[:1])
        )


class MeanMetricWrapper(RowMean):
    """Mean of what a function ``fn(y_true, y_pred)`` returns for a whole batch: a number, or one a sample or step."""

    direction = None

    def __init__(self, fn: Callable[[Any, Any], Any], name: str | None = None) -> None:
        self.fn = fn
        super().__init__(name or getattr(fn, "__name__", type(fn).__name__))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        values = np.asarray(self.fn(y_true, y_pred), np.float64)
        if values.ndim == 0:
            self._add(values, np.ones(1))
            return
        kept, weights = row_weights(self.name, values.shape, sample_weight, mask)
        self._add(values.reshape(-1)[kept], weights[kept])


def rows(
    name: str, y_true: Any, y_pred: Any, sample_weight: Any, mask: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flatten to y_true (N, F) or (N, 1), y_pred (N, F), weights (N,); masked rows are gone."""
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_pred.ndim == 1:
        y_pred = y_pred[:, None]
    lead = y_pred.shape[:-1]
    if y_true.shape not in (y_pred.shape, lead, (*lead, 1)):
        raise ShapeError(f"{name}: y_true must have shape {y_pred.shape} or {lead}, got {y_true.shape}.")
    kept, weights = row_weights(name, lead, sample_weight, mask)
    width = y_true.shape[-1] if y_true.ndim == y_pred.ndim else 1
    return y_true.reshape(-1, width)[kept], y_pred.reshape(-1, y_pred.shape[-1])[kept], weights[kept]


def row_weights(name: str, lead: tuple[int, ...], sample_weight: Any, mask: Any) -> tuple[Any, np.ndarray]:
    """An index of the rows that count and the weights of all rows."""
    weights, kept = np.ones(lead), slice(None)
    if sample_weight is not None:
        given = losses.expand_weights(name, "sample_weight", np.asarray(sample_weight, np.float64), lead)
        weights = np.broadcast_to(given, lead)
    if mask is not None:
        given = losses.expand_weights(name, "mask", np.asarray(mask, bool), lead)
        return np.broadcast_to(given, lead).reshape(-1), weights.reshape(-1)
    return kept, weights.reshape(-1)


def same_shape(name: str, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    if y_true.shape != y_pred.shape:
        raise ShapeError(
            f"{name}: y_true must have {y_pred.shape[-1]} values on its last axis as y_pred does, "
            f"got {y_true.shape[-1]}."
        )
    return y_true


def class_numbers(name: str, y_true: np.ndarray) -> np.ndarray:
    if y_true.shape[-1] != 1:
        raise ShapeError(f"{name}: y_true must hold one class number a row, got {y_true.shape[-1]} values.")
    return y_true[:, 0]
