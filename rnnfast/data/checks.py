"""Checks that the data helpers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.errors import ShapeError


def count(owner: str, name: str, value: Any) -> int:
    """`value` as an int greater than zero, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{owner}: {name} must be an integer > 0, got {value!r}.")
    return int(value)


def as_series(owner: str, series: Any, dimensions: tuple[int, ...], name: str = "series") -> np.ndarray:
    """`series` as an array of finite real numbers with one of these numbers of axes."""
    values = np.asarray(series)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{owner}: {name} must hold real numbers, got dtype {values.dtype}.")
    if values.ndim not in dimensions:
        raise ShapeError(f"{owner}: {name} must have {' or '.join(map(str, dimensions))} axes, got shape {values.shape}.")
    if not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"{owner}: {name} must be finite, got {values[place]} at {place if len(place) > 1 else place[0]}. Fill the gap or cut the series there.")
    return values
