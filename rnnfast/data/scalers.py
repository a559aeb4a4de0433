"""Scalers: a column's numbers brought to a common size, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.data.checks import as_series
from rnnfast.errors import NotBuiltError, ShapeError
from rnnfast.registry import Registry

__all__ = ["MinMaxScaler", "Scaler", "StandardScaler", "deserialize_scaler", "get_scaler", "serialize_scaler"]


class Scaler:
    """Base of the scalers: ``(x - offset) / scale``, each column by its own numbers.

    The last axis holds the columns; an array of one axis is a single column. Fit it on the training part alone.

    Attributes
    ----------
    offset, scale : ndarray of shape (F,), or None before :meth:`fit`
    """

    offset: np.ndarray | None = None
    scale: np.ndarray | None = None

    def _measure(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offset and scale of float64 columns (N, F)."""
        raise NotImplementedError

    def fit(self, x: Any) -> Scaler:
        """Measure the columns of x, (N,) or (..., F); a column that never changes gets the scale 1."""
        values = as_series(type(self).__name__, x, tuple(range(1, 9)), "x")
        if not values.size:
            raise ValueError(f"{type(self).__name__}: x must have at least one value to fit, got shape {values.shape}.")
        columns = values.reshape(-1, 1 if values.ndim == 1 else values.shape[-1]).astype(np.float64)
        self.offset, scale = self._measure(columns)
        self.scale = np.where((columns.min(0) == columns.max(0)) | (scale == 0), 1.0, scale)
        return self

    def transform(self, x: Any) -> np.ndarray:
        """Scale an array of the columns that :meth:`fit` saw; floats keep their type, whole numbers become float64."""
        return self._apply(x, lambda values, offset, scale: (values - offset) / scale)

    def inverse_transform(self, x: Any) -> np.ndarray:
        """Undo :meth:`transform`."""
        return self._apply(x, lambda values, offset, scale: values * scale + offset)

    def fit_transform(self, x: Any) -> np.ndarray:
        """Fit, then transform."""
        return self.fit(x).transform(x)

    def _apply(self, x: Any, function: Any) -> np.ndarray:
        if self.offset is None or self.scale is None:
            raise NotBuiltError(f"{type(self).__name__}: not fitted. Call fit(x) with the training data.")
        values = np.asarray(x)
        if values.ndim == 0 or (1 if values.ndim == 1 else values.shape[-1]) != len(self.scale):
            raise ShapeError(f"{type(self).__name__}: x must have {len(self.scale)} columns on its last axis as at fit, got shape {values.shape}.")
        result: np.ndarray = function(values.astype(np.float64), self.offset, self.scale)
        return result.astype(values.dtype) if values.dtype.kind == "f" else result

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and what :meth:`fit` found, as JSON types."""
        fitted = {} if self.offset is None or self.scale is None else {"offset": self.offset.tolist(), "scale": self.scale.tolist()}
        return self.arguments() | fitted

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Scaler:
        """Make a scaler, fitted if that one was, from :meth:`get_config`'s result."""
        arguments = dict(config)
        offset, scale = arguments.pop("offset", None), arguments.pop("scale", None)
        scaler = cls(**arguments)
        if offset is not None:
            scaler.offset, scaler.scale = np.array(offset, np.float64), np.array(scale, np.float64)
            if scaler.offset.ndim != 1 or scaler.offset.shape != scaler.scale.shape or not np.isfinite(scaler.offset).all() or not (np.isfinite(scaler.scale) & (scaler.scale != 0)).all():
                raise ValueError(f"{cls.__name__}: offset and scale must be finite lists of one length, no scale 0.")
        return scaler


class StandardScaler(Scaler):
    """Mean 0 and (population) standard deviation 1 of each column.

    Examples
    --------
    >>> scaler = StandardScaler().fit([[0.0, 5.0], [2.0, 5.0]])
    >>> scaler.transform([[3.0, 6.0]])
    array([[2., 1.]])
    >>> scaler.inverse_transform([[2.0, 1.0]])
    array([[3., 6.]])
    """

    def _measure(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return columns.mean(0), columns.std(0)


class MinMaxScaler(Scaler):
    """Minimum and maximum of each column at the ends of `feature_range`; what lies outside at a later time is not cut.

    Parameters
    ----------
    feature_range : tuple of float

    Examples
    --------
    >>> MinMaxScaler((-1, 1)).fit_transform([10.0, 15.0, 20.0])
    array([-1.,  0.,  1.])
    """

    def __init__(self, feature_range: tuple[float, float] = (0.0, 1.0)) -> None:
        low, high = feature_range
        if not low < high:
            raise ValueError(f"MinMaxScaler: feature_range must rise, got {feature_range!r}.")
        self.feature_range = (float(low), float(high))

    def _measure(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (low, high), least, most = self.feature_range, columns.min(0), columns.max(0)
        scale = np.where(most > least, (most - least) / (high - low), 1.0)
        return least - low * scale, scale

    def arguments(self) -> dict[str, Any]:
        return {"feature_range": list(self.feature_range)}


_REGISTRY: Registry[Scaler] = Registry("scaler", {"standard": StandardScaler, "minmax": MinMaxScaler})
get_scaler, serialize_scaler, deserialize_scaler = _REGISTRY.get, _REGISTRY.serialize, _REGISTRY.deserialize
