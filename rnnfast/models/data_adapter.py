"""Where batches come from: arrays, gathered by index, or anything that yields tuples of arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rnnfast.errors import ShapeError
from rnnfast.layers.inlets import each
from rnnfast.models.heads import Heads, by_output, is_row
from rnnfast.random import SeedGenerator, generator

DEFAULT_BATCH_SIZE = 32


class Batch(NamedTuple):
    """What one step works on. `mask` is bool (B, T), or int (B,) for lengths, or None. For a model of several inputs x, mask and resets are lists, for one of
    several outputs y and sample_weight."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    mask: Any = None
    resets: Any = None

    @property
    def episodes(self) -> dict[str, Any]:
        """`resets` as a step's argument, if there are any."""
        return {} if self.resets is None else {"resets": self.resets}

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.x[0] if isinstance(self.x, list) else self.x)

    def take(self, rows: Any) -> Batch:
        """Return the samples that an index or slice picks."""
        return Batch(*(_take(field, rows) for field in self))


def _take(field: Any, rows: Any) -> Any:
    if isinstance(field, list):
        return [_take(one, rows) for one in field]
    return None if field is None else field[rows]


def one_mask(owner: str, x: np.ndarray, lengths: Any, mask: Any) -> np.ndarray | None:
    """Return the mask (B, T) or the lengths (B,) of `x`, whichever is given, checked against its shape."""
    if lengths is None and mask is None:
        return None
    if lengths is not None and mask is not None:
        raise ValueError(f"{owner}: only one of lengths and mask can be given.")
    given = np.asarray(mask if lengths is None else lengths)
    what, wanted = ("mask", x.shape[:2]) if lengths is None else ("lengths", x.shape[:1])
    if x.ndim < 2 or given.shape != wanted:
        raise ShapeError(f"{owner}: {what} must have shape {wanted} for x of shape {x.shape}, got {given.shape}.")
    if lengths is None:
        if given.dtype.kind not in "biu":
            raise ValueError(f"{owner}: mask must be boolean, got dtype {given.dtype}.")
        return given.astype(bool, copy=False)
    if given.dtype.kind not in "iu" and not (given.dtype.kind == "f" and (given == np.floor(given)).all()):
        raise ValueError(f"{owner}: lengths must be integers, got dtype {given.dtype}.")
    if given.size and not 0 <= given.min() <= given.max() <= x.shape[1]:
        raise ValueError(
            f"{owner}: lengths must lie in [0, {x.shape[1]}], the time axis of x, got {given.min()} to {given.max()}."
        )
    return given.astype(np.int64, copy=False)


def as_numbers(owner: str, name: str, given: Any) -> np.ndarray:
    """Return `given` as an array of real numbers or raise an error that names it."""
    try:
        array = np.asarray(given)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"{owner}: {name} must be a regular array, got lists that differ in length.") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{owner}: {name} must hold real numbers, got dtype {array.dtype}.")
    if array.ndim == 0:
        raise ShapeError(f"{owner}: {name} must have a batch axis, got a single number.")
    return array


def _inputs(owner: str, x: Any, lengths: Any, mask: Any, names: list[str]) -> tuple[Any, Any]:
    """The inputs and their masks: arrays for one input, lists for several."""
    if len(names) < 2:
        x = as_numbers(owner, "x", x)
        return x, one_mask(owner, x, lengths, mask)
    xs = [as_numbers(owner, f"x['{name}']", one) for name, one in zip(names, each(owner, "x", names, x), strict=True)]
    counts, masks = each(owner, "lengths", names, lengths), each(owner, "mask", names, mask)
    for name, one in zip(names, xs, strict=True):
        if len(one) != len(xs[0]):
            raise ShapeError(f"{owner}: x['{name}'] must have {len(xs[0])} samples as x['{names[0]}'] does, got {len(one)}.")
    return xs, [one_mask(owner, one, n, m) for one, n, m in zip(xs, counts, masks, strict=True)]


def _output(owner: str, what: str, given: Any, heads: Heads | None) -> np.ndarray | None:
    """What is given for the only output, alone or in a dict."""
    if given is None:
        return None
    return as_numbers(owner, what, by_output(owner, what, heads.names, given)[0] if heads and isinstance(given, dict) else given)


def _outputs(owner: str, y: Any, sample_weight: Any, heads: Heads | None) -> tuple[Any, Any]:
    """The targets and weights: arrays for one output, lists for several."""
    if heads is None or not heads.several:
        return _output(owner, "y", y, heads), _output(owner, "sample_weight", sample_weight, heads)
    if y is not None:
        y = [None if one is None else as_numbers(owner, f"y['{name}']", one) for name, one in zip(heads.names, heads.targets(owner, y), strict=True)]
    weights = [sample_weight] * len(heads.names) if is_row(sample_weight) else by_output(owner, "sample_weight", heads.names, sample_weight)
    return y, [None if one is None else as_numbers(owner, f"sample_weight['{name}']", one) for name, one in zip(heads.names, weights, strict=True)]


def make_batch(
    owner: str, x: Any, y: Any = None, sample_weight: Any = None, lengths: Any = None, mask: Any = None, names: list[str] | None = None, resets: Any = None,
    heads: Heads | None = None,
) -> Batch:  # fmt: skip
    """Check arrays against each other and return them as one batch."""
    x, mask = _inputs(owner, x, lengths, mask, names or [])
    y, sample_weight = _outputs(owner, y, sample_weight, heads)
    if resets is not None:
        found = [None if one is None else as_numbers(owner, "resets", one) for one in each(owner, "resets", names or ["x"], resets)]
        resets = found if len(found) > 1 else found[0]
    batch = Batch(x, y, sample_weight, mask, resets)
    samples = batch.samples
    for name, given in (("y", y), ("sample_weight", sample_weight), ("resets", resets)):
        for array in () if given is None else given if isinstance(given, list) else (given,):
            if array is not None and len(array) != samples:
                raise ShapeError(f"{owner}: {name} must have {samples} samples as x does, got {len(array)}.")
    return batch


class ArrayBatches:
    """Batches of arrays that lie in memory.

    Parameters
    ----------
    data : Batch
        All samples.
    batch_size : int, optional
        32 when None.
    shuffle : SeedGenerator, optional
        A new order every epoch, from a seed of this; in order when None.
    steps : int, optional
        At most so many batches an epoch.

    Attributes
    ----------
    resumes : bool
        Whether a walk that `steps` has cut goes on with the next one, to the end of the data, instead of starting anew.
    """

    resumes = False

    def __init__(
        self, data: Batch, batch_size: int | None = None, shuffle: SeedGenerator | None = None, steps: int | None = None
    ) -> None:
        self.data, self.batch_size, self.shuffle = data, batch_size or DEFAULT_BATCH_SIZE, shuffle
        # No samples make one empty batch, so that outputs keep their shape.
        self._count = max(1, math.ceil(data.samples / self.batch_size))
        self.steps = self._count if steps is None else min(self._count, steps)
        self._at = 0  # the batch that comes next
        self._order: np.ndarray | None = None

    def __iter__(self) -> Iterator[Batch]:
        size, begin = self.batch_size, self._at
        if begin == 0:
            self._order = None if self.shuffle is None else generator(self.shuffle.next()).permutation(self.data.samples)
        end = min(begin + self.steps, self._count)
        self._at = end if self.resumes and end < self._count else 0
        for start in range(begin * size, end * size, size):
            rows: Any = slice(start, start + size)
            if self._order is not None:
                rows = self._order[rows]
            yield self.data.take(rows)


class StreamBatches:
    """Batches that a generator, iterator or iterable yields: x alone or (x, y[, sample_weight[, mask or lengths[, resets]]]).

    An iterable that can be walked again starts anew every epoch; a generator goes on where it stopped. With `steps`
    an epoch takes that many, and a walk that ends is begun again where that is possible.
    """

    def __init__(self, owner: str, source: Any, steps: int | None = None, names: list[str] | None = None, heads: Heads | None = None) -> None:
        self.owner, self.source, self.names, self.heads = owner, source, names, heads
        self.steps = steps if steps is not None else (len(source) if hasattr(source, "__len__") else None)
        self._limit = steps
        self._walk: Iterator[Any] | None = None
        self.exhausted = False

    def __iter__(self) -> Iterator[Batch]:
        taken = 0
        if self._walk is None or self._limit is None:
            self._walk = iter(self.source)
        while self._limit is None or taken < self._limit:
            try:
                item = next(self._walk)
            except StopIteration:
                again = iter(self.source)
                if self._limit is None or again is self._walk or taken == 0:
                    break
                self._walk = again
                continue
            taken += 1
            yield self._batch(item)
        if taken == 0 or (self._limit is not None and taken < self._limit):
            self.exhausted = True
            warnings.warn(
                f"{self.owner}: the data ended after {taken} of {self._limit or 'any'} batches of an epoch.",
                stacklevel=3,
            )
        elif self._limit is None:
            self.steps = taken

    def _batch(self, item: Any) -> Batch:
        parts = tuple(item) if isinstance(item, tuple) else (item,)
        if not 1 <= len(parts) <= 5:
            raise ValueError(
                f"{self.owner}: a generator must yield x or (x, y[, sample_weight[, mask or lengths[, resets]]]), "
                f"got a tuple of {len(parts)}."
            )
        x, y, weight, mask, resets = (*parts, None, None, None, None)[:5]
        flat = [one for one in (mask.values() if isinstance(mask, Mapping) else mask if isinstance(mask, list) else [mask]) if one is not None]
        kind = "lengths" if flat and np.ndim(flat[0]) == 1 else "mask"
        return make_batch(self.owner, x, y, weight, **{kind: mask}, names=self.names, resets=resets, heads=self.heads)


Batches = ArrayBatches | StreamBatches


def is_stream(x: Any) -> bool:
    """Whether `x` yields batches, instead of being an array, lists of numbers or a dict of arrays."""
    return not isinstance(x, list | tuple | np.ndarray | Mapping) and not hasattr(x, "__array__") and hasattr(x, "__iter__")


def make_batches(
    owner: str,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: SeedGenerator | None = None,
    steps: int | None = None,
    lengths: Any = None,
    mask: Any = None,
    names: list[str] | None = None,
    resets: Any = None,
    heads: Heads | None = None,
) -> Batches:
    """Return the batches of arrays or of a stream.

    Raises
    ------
    ValueError
        When arguments that belong to arrays come with a stream, or counts are not positive.
    """
    for name, count in (("batch_size", batch_size), ("steps", steps)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1):
            raise ValueError(f"{owner}: {name} must be an integer > 0, got {count!r}.")
    if not is_stream(x):
        return ArrayBatches(make_batch(owner, x, y, sample_weight, lengths, mask, names, resets, heads), batch_size, shuffle, steps)
    extra = {"y": y, "sample_weight": sample_weight, "lengths": lengths, "mask": mask, "resets": resets, "batch_size": batch_size}
    given = [name for name, value in extra.items() if value is not None]
    if given:
        raise ValueError(f"{owner}: {given[0]} cannot be given when x yields batches; yield it with x.")
    return StreamBatches(owner, x, steps, names, heads)


def split_last(data: Batch, share: float) -> tuple[Batch, Batch]:
    """Split off the last `share` of the samples.

    Returns
    -------
    tuple of Batch
        What is left, and the last samples, at most ``share`` of all, rounded up.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"fit: validation_split must be in (0, 1), got {share!r}.")
    count = data.samples
    at = math.floor(count * (1.0 - share))
    if not 0 < at < count:
        raise ValueError(f"fit: validation_split {share!r} of {count} samples leaves one of the two parts empty.")
    return data.take(slice(at)), data.take(slice(at, None))
