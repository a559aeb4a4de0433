"""What a user gives as X, as one array [N, T, F] and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from rnnfast.data import pad_sequences


def unequal(X: Any) -> list[np.ndarray] | None:
    """X as a list of arrays if it is a list, tuple or object array of sequences that differ in length; None otherwise."""
    listed = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1)
    if not listed or not len(X) or not all(hasattr(one, "__len__") and not isinstance(one, str | bytes | dict) for one in X):
        return None
    arrays = [np.asarray(one) for one in X]
    return arrays if len({array.shape for array in arrays}) > 1 else None


def plain(X: Any) -> Any:
    """A list or object array of arrays of one shape as one array; anything else as it is."""
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1 and len(X) and np.ndim(X[0]):
        X = list(X)
    return np.stack(X) if isinstance(X, list | tuple) and len(X) and np.ndim(X[0]) == 2 else X


def as_sequences(estimator: Any, X: Any, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """X as float32 [N, T, F], padded behind the ends, and the lengths [N], or None where all are T.

    Parameters
    ----------
    estimator : estimator
        With `features`; gets `n_features_in_` (and `feature_names_in_`) if `reset`, and is checked against otherwise.
    X : array_like of shape (N, T, F) or (N, M), or list of N arrays of shape (T_i, F) or (T_i,)
    reset : bool

    Returns
    -------
    x : ndarray
    lengths : ndarray or None

    Raises
    ------
    ValueError
        For NaN, infinite values and shapes that do not fit.
    """
    ragged = unequal(X)
    if ragged is not None:
        parts = [_steps(estimator, check_array(one.reshape(len(one), -1), dtype=np.float32, ensure_min_samples=0, estimator=estimator), one.ndim) for one in ragged]
        _check_width(estimator, {part.shape[1] for part in parts}, reset)
        return pad_sequences(parts, dtype="float32", padding="post"), np.array([len(part) for part in parts])
    X = plain(X)
    if getattr(X, "ndim", np.ndim(X) if isinstance(X, list | tuple) else 0) == 3:
        x = check_array(X, dtype=np.float32, order="C", allow_nd=True, estimator=estimator)
        _check_width(estimator, {x.shape[2]}, reset)
        return x, None
    if not reset and not estimator._flat:
        x = check_array(X, dtype=np.float32, order="C", estimator=estimator)
        _check_width(estimator, {estimator.features}, reset)
    else:
        x = validate_data(estimator, X, dtype=np.float32, order="C", reset=reset)
        estimator._flat = True
    return _cut(estimator, x), None


def _cut(estimator: Any, x: np.ndarray) -> np.ndarray:
    width = estimator.features
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1 or x.shape[1] % width:
        raise ValueError(f"{type(estimator).__name__}: features must be a positive divisor of the {x.shape[1]} columns of X, got {width!r}.")
    return x.reshape(len(x), -1, width)


def _steps(estimator: Any, rows: np.ndarray, ndim: int) -> np.ndarray:
    """One sequence as (T, F); one axis holds step after step."""
    if ndim > 2:
        raise ValueError(f"{type(estimator).__name__}: a sequence must have shape (T, F) or (T,), got {ndim} axes.")
    steps: np.ndarray = rows if ndim == 2 else _cut(estimator, rows.reshape(1, -1))[0]
    return steps


def _check_width(estimator: Any, found: set[int], reset: bool) -> None:
    """Keep or check the number of features of a step."""
    name = type(estimator).__name__
    if len(found) > 1:
        raise ValueError(f"{name}: all sequences must have the same number of features, got {sorted(found)}.")
    (width,) = found
    if reset:
        estimator._flat, estimator.n_features_in_ = False, width
        estimator.__dict__.pop("feature_names_in_", None)
        return
    expected = estimator.features if estimator._flat else estimator.n_features_in_
    if width != expected:
        raise ValueError(f"X has {width} features, but {name} is expecting {expected} features as input.")
