"""Sequences of different lengths as arrays: padded all together, or in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.data.checks import count
from rnnfast.errors import ShapeError, suggest
from rnnfast.random import SeedGenerator, generator

__all__ = ["Buckets", "bucket_by_length", "pad_sequences"]

_SIDES = ("pre", "post")


def pad_sequences(sequences: Any, maxlen: int | None = None, dtype: Any = "int32", padding: str = "pre", truncating: str = "pre", value: Any = 0.0) -> np.ndarray:
    """Sequences of different lengths as one array, with Keras' arguments and defaults.

    The defaults pad and cut at the *beginning*. `lengths=` of a model counts valid steps from the beginning, so it belongs to ``padding="post"``; with
    the default padding give `mask=`, or begin with `Masking` or ``Embedding(mask_zero=True)``. And ``dtype="int32"`` cuts fractions off.

    Parameters
    ----------
    sequences : list of array_like, (T_i, ...)
    maxlen : int, optional
        Length of the result; the longest sequence's when None.
    dtype : str or dtype
    padding, truncating : {"pre", "post"}
        Where values are added and taken away.
    value : float or str
        What is added.

    Returns
    -------
    ndarray of shape (N, maxlen, ...)

    Examples
    --------
    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2)
    array([[0, 1],
           [3, 4]], dtype=int32)
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in _SIDES:
            raise ValueError(f"pad_sequences: {name} must be 'pre' or 'post', got {side!r}. {suggest(side, _SIDES)}")
    if not hasattr(sequences, "__len__") or not all(hasattr(each, "__len__") for each in sequences):
        raise ValueError("pad_sequences: sequences must be a list of sequences.")
    if isinstance(value, str) and np.dtype(dtype).kind not in "OUS":
        raise ValueError(f"pad_sequences: dtype must be object for the value {value!r}, got {dtype!r}.")
    size = max((len(each) for each in sequences), default=0) if maxlen is None else int(maxlen)
    if size < 0:
        raise ValueError(f"pad_sequences: maxlen must be at least 0, got {maxlen}.")
    shape = next((np.asarray(each).shape[1:] for each in sequences if len(each)), ())
    padded = np.full((len(sequences), size, *shape), value, dtype=dtype)
    for i, sequence in enumerate(sequences):
        kept = np.asarray(sequence[max(0, len(sequence) - size) :] if truncating == "pre" else sequence[:size], dtype=dtype)
        if len(kept) and kept.shape[1:] != shape:
            raise ShapeError(f"pad_sequences: steps of sequence {i} must have shape {shape} as the first one's, got {kept.shape[1:]}.")
        if len(kept):
            padded[i, slice(len(kept)) if padding == "post" else slice(size - len(kept), None)] = kept
    return padded


class Buckets:
    """Batches of sequences of similar length; see :func:`bucket_by_length`."""

    def __init__(self, sequences: list[np.ndarray], targets: Any, weights: np.ndarray | None, batch_size: int, value: float, seeds: SeedGenerator | None) -> None:
        self.sequences, self.targets, self.weights, self.batch_size, self.value, self.seeds = sequences, targets, weights, batch_size, value, seeds
        self.lengths = np.array([len(each) for each in sequences], np.int64)

    def __len__(self) -> int:
        return -(-len(self.sequences) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any, Any, np.ndarray]]:
        rng = None if self.seeds is None else generator(self.seeds.next())
        # A stable sort of a random order: equal lengths meet in new company every time.
        order = np.arange(len(self.sequences)) if rng is None else rng.permutation(len(self.sequences))
        order = order[np.argsort(self.lengths[order], kind="stable")]
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        for i in range(len(batches)) if rng is None else rng.permutation(len(batches)):
            yield self._batch(batches[i])

    def _batch(self, rows: np.ndarray) -> tuple[Any, Any, Any, np.ndarray]:
        x = _stacked([self.sequences[i] for i in rows], self.value)
        y: Any = self.targets
        if isinstance(y, list):
            y = _stacked([y[i] for i in rows], self.value)
        elif y is not None:
            y = y[rows]
        return x, y, None if self.weights is None else self.weights[rows], self.lengths[rows]


def _stacked(arrays: list[np.ndarray], value: float) -> np.ndarray:
    stacked = np.full((len(arrays), max(len(each) for each in arrays), *arrays[0].shape[1:]), value, arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def _arrays(given: Any) -> list[np.ndarray]:
    """Arrays of one type: whole numbers, or :func:`rnnfast.config.floatx` if any value is not; an empty list says nothing."""
    arrays = [np.asarray(each) for each in given]
    whole = all(each.dtype.kind in "iu" for each in arrays if each.size)
    return [each.astype(np.int64 if whole else config.floatx()) for each in arrays]


def bucket_by_length(
    sequences: Any, targets: Any = None, batch_size: int = 32, *, sample_weight: Any = None, value: float = 0.0, shuffle: bool = True, seed: int | None = None
) -> Buckets:
    """Batches of sequences of similar length, padded at the end to the longest of their batch.

    Parameters
    ----------
    sequences : list of array_like, (T_i, ...)
        Whole numbers stay as they are (tokens), others become :func:`rnnfast.config.floatx`.
    targets : array_like, (N, ...), or list of array_like, (T_i, ...), optional
        One a sequence; targets that differ in length are padded as the sequences are.
    batch_size : int
    sample_weight : array_like, (N,), optional
    value : float
        Of the padding, which the lengths exclude.
    shuffle : bool
        Every walk draws new batches, in a random order; otherwise they come by rising length.
    seed : int, optional
        Of the orders.

    Returns
    -------
    Buckets
        An iterable of (x, y, sample_weight, lengths), which :meth:`rnnfast.Sequential.fit` takes.

    Examples
    --------
    >>> batches = bucket_by_length([[1, 2, 3], [4], [5, 6]], [0, 1, 1], batch_size=2, shuffle=False)
    >>> for x, y, weight, lengths in batches:
    ...     print(x.tolist(), y, lengths)
    [[4, 0], [5, 6]] [1 1] [1 2]
    [[1, 2, 3]] [0] [3]
    """
    owner = "bucket_by_length"
    arrays = _arrays(sequences)
    if not arrays or any(each.ndim == 0 or each.shape[1:] != arrays[0].shape[1:] for each in arrays):
        raise ShapeError(f"{owner}: sequences must be a list, not empty, of sequences whose steps have one shape.")
    for name, given in (("targets", targets), ("sample_weight", sample_weight)):
        if given is not None and len(given) != len(arrays):
            raise ShapeError(f"{owner}: {name} must have {len(arrays)} entries as sequences has, got {len(given)}.")
    if targets is not None:
        targets = _arrays(targets)
        if len({each.shape for each in targets}) == 1:
            targets = np.stack(targets)
        elif [len(each) if each.ndim else -1 for each in targets] != [len(each) for each in arrays]:
            raise ShapeError(f"{owner}: targets must have one shape, or each the length of its sequence.")
    weights = None if sample_weight is None else np.asarray(sample_weight)
    return Buckets(arrays, targets, weights, count(owner, "batch_size", batch_size), value, SeedGenerator(seed) if shuffle else None)
