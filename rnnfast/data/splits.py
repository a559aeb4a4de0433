"""Parts of a series in the order of time: what comes later is never seen earlier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnfast.data.checks import count

__all__ = ["rolling_origins", "split_in_time"]


def split_in_time(series: Any, test: float | int, validation: float | int = 0, history: int = 0) -> tuple[np.ndarray, ...]:
    """Cut a series into train, validation and test parts, the test at the end.

    Parameters
    ----------
    series : array_like, (T, ...)
    test, validation : float or int
        A share of the steps (a float below 1) or a number of steps.
    history : int
        So many steps of the part before are repeated at the front of a later part, so that the first window whose target lies in it has its inputs.

    Returns
    -------
    tuple of ndarray
        (train, test), or (train, validation, test) with `validation`; views of the series.

    Examples
    --------
    >>> train, test = split_in_time(np.arange(10), test=0.3)
    >>> train, test
    (array([0, 1, 2, 3, 4, 5, 6]), array([7, 8, 9]))
    >>> split_in_time(np.arange(10), test=3, history=2)[1]
    array([5, 6, 7, 8, 9])
    """
    values = np.asarray(series)
    sizes = []
    for name, size in (("validation", validation), ("test", test)):
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if isinstance(size, bool) or size < 0 or (not whole and size >= 1) or (name == "test" and not size):
            raise ValueError(f"split_in_time: {name} must be a share in (0, 1) or a number of steps, got {size!r}.")
        sizes.append(int(size) if whole else round(size * len(values)))
    last = len(values) - sizes[1]
    middle = last - sizes[0]
    if middle <= 0 or not sizes[1] or not 0 <= history <= middle:
        raise ValueError(f"split_in_time: {len(values)} steps cannot be cut into validation {validation!r} and test {test!r} with a history of {history!r}.")
    tail = (values[last - history :],)
    return (values[:middle], values[middle - history : last], *tail) if validation else (values[:middle], *tail)


def rolling_origins(length: int, horizon: int, start: float | int = 0.5, stride: int = 1, window: int | None = None) -> Iterator[tuple[slice, slice]]:
    """History and target of each forecast that a series of `length` steps allows, the origin rolling through it.

    Parameters
    ----------
    length : int
        Steps of the series.
    horizon : int
        Steps of a forecast.
    start : float or int
        The first origin: a share of the steps (a float below 1) or a number of steps.
    stride : int
        Steps from one origin to the next.
    window : int, optional
        The history is the last `window` steps before the origin (sliding); all of them when None (expanding).

    Yields
    ------
    tuple of slice

    Examples
    --------
    >>> [(h.start, h.stop, t.stop) for h, t in rolling_origins(10, horizon=2, start=6, stride=2)]
    [(0, 6, 8), (0, 8, 10)]
    """
    owner = "rolling_origins"
    length, horizon, stride = count(owner, "length", length), count(owner, "horizon", horizon), count(owner, "stride", stride)
    first = round(start * length) if isinstance(start, float) and 0 < start < 1 else count(owner, "start", start)
    if first + horizon > length:
        raise ValueError(f"{owner}: start {first} and horizon {horizon} need a series of at least {first + horizon} steps, got {length}.")
    if window is not None and not 0 < window <= first:
        raise ValueError(f"{owner}: window must lie in [1, {first}], the first origin, got {window!r}.")
    for origin in range(first, length - horizon + 1, stride):
        yield slice(0 if window is None else origin - window, origin), slice(origin, origin + horizon)
