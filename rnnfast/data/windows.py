"""Sliding windows over series, as arrays or batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnfast.data.checks import as_series, count
from rnnfast.random import SeedGenerator, generator

__all__ = ["TimeseriesDataset", "timeseries_dataset_from_array", "windows"]


def windows(series: Any, length: int, horizon: int = 1, stride: int = 1, target: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every `length` consecutive steps of a series and the `horizon` steps after them.

    Parameters
    ----------
    series : array_like, (T,) or (T, F)
    length : int
        Steps of an input.
    horizon : int
        Steps of a target.
    stride : int
        Steps from the start of one window to the start of the next.
    target : int, optional
        The column that is to be forecast; all of them when None.

    Returns
    -------
    x : ndarray of shape (N, length, F)
        F is 1 for a series of shape (T,).
    y : ndarray of shape (N, horizon) or (N, horizon, F)
        The second for a series of several columns without `target`.

    Raises
    ------
    ValueError
        If the series is shorter than ``length + horizon``.

    Examples
    --------
    >>> x, y = windows([1, 2, 3, 4, 5], length=2, horizon=2)
    >>> x[..., 0]
    array([[1, 2],
           [2, 3]])
    >>> y
    array([[3, 4],
           [4, 5]])
    """
    values = as_series("windows", series, (1, 2))
    length, horizon, stride = count("windows", "length", length), count("windows", "horizon", horizon), count("windows", "stride", stride)
    if len(values) < length + horizon:
        raise ValueError(f"windows: series must have at least length + horizon = {length + horizon} steps, got {len(values)}.")
    both = np.lib.stride_tricks.sliding_window_view(values.reshape(len(values), -1), length + horizon, axis=0)[::stride].swapaxes(1, 2)
    x, y = both[:, :length], both[:, length:]
    if values.ndim == 1 or target is not None:
        y = y[..., target or 0]
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


class TimeseriesDataset:
    """Batches of windows that are cut when they are asked for; see :func:`timeseries_dataset_from_array`.

    It can be walked any number of times, so that :meth:`rnnfast.Sequential.fit` takes it.
    """

    def __init__(self, data: np.ndarray, targets: np.ndarray | None, starts: np.ndarray, steps: np.ndarray, batch_size: int | None, seeds: SeedGenerator | None) -> None:
        self.data, self.targets, self.starts, self.steps, self.batch_size, self.seeds = data, targets, starts, steps, batch_size, seeds

    def __len__(self) -> int:
        return -(-len(self.starts) // (self.batch_size or 1))

    def __iter__(self) -> Iterator[Any]:
        starts = self.starts if self.seeds is None else generator(self.seeds.next()).permutation(self.starts)
        for first in range(0, len(starts), self.batch_size or 1):
            chosen: Any = starts[first] if self.batch_size is None else starts[first : first + self.batch_size]
            x = self.data[np.add.outer(chosen, self.steps)]
            yield x if self.targets is None else (x, self.targets[chosen])


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> TimeseriesDataset:
    """Batches of sliding windows, with the arguments of Keras' function of this name.

    Window i takes ``data[i], data[i + sampling_rate], ...``, `sequence_length` of them, and ``targets[i]``; i rises by `sequence_stride`.

    Parameters
    ----------
    data : array_like, (T, ...)
    targets : array_like, (N, ...), or None
        ``targets[i]`` belongs to the window that starts at ``data[i]``; windows without one are left out.
    sequence_length, sequence_stride, sampling_rate : int
    batch_size : int or None
        None yields one window at a time, without a batch axis.
    shuffle : bool
        Windows come in a new random order every time the dataset is walked.
    seed : int, optional
        Of the orders.
    start_index, end_index : int, optional
        Only ``data[start_index:end_index]`` is used; `end_index` must be less than the length of the data.

    Returns
    -------
    TimeseriesDataset
        An iterable of x or (x, targets).

    Examples
    --------
    >>> series = np.arange(10)
    >>> dataset = timeseries_dataset_from_array(series[:-3], series[3:], sequence_length=3, batch_size=2)
    >>> x, y = next(iter(dataset))
    >>> x.tolist(), y.tolist(), len(dataset)
    ([[0, 1, 2], [1, 2, 3]], [3, 4], 3)
    """
    owner = "timeseries_dataset_from_array"
    data, targets = np.asarray(data), None if targets is None else np.asarray(targets)
    length, stride, rate = count(owner, "sequence_length", sequence_length), count(owner, "sequence_stride", sequence_stride), count(owner, "sampling_rate", sampling_rate)
    for name, value in (("sequence_stride", stride), ("sampling_rate", rate)):
        if value >= len(data):
            raise ValueError(f"{owner}: {name} must be less than the length of the data, {len(data)}, got {value}.")
    first, last = start_index or 0, end_index or len(data)
    if not 0 <= first < last <= len(data) - bool(end_index):
        raise ValueError(f"{owner}: must have 0 <= start_index < end_index < {len(data)}, the length of the data, got {start_index} and {end_index}.")
    size = None if batch_size is None else count(owner, "batch_size", batch_size)
    found = last - first - (length - 1) * rate
    if targets is not None:
        found = min(found, len(targets) - first)
    starts = first + np.arange(0, max(found, 0), stride)
    return TimeseriesDataset(data, targets, starts, np.arange(length) * rate, size, SeedGenerator(seed) if shuffle else None)
