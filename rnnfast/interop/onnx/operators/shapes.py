"""Operators that move numbers, and those that compute with shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.interop.onnx.operators.table import bounded, integers, ints, operator

Array = np.ndarray


@operator("Transpose")
def transpose(x: Array, *, perm: ints | None = None) -> Array:
    return x.transpose(perm)


@operator("Reshape", vectors=(1,))
def reshape(x: Array, shape: Array, *, allowzero: int = 0) -> Array:
    sizes = integers(shape)
    if not allowzero:
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    if any(n < -1 for n in sizes):
        raise ValueError(f"a shape cannot be {sizes}")
    return x.reshape(sizes)


@operator("Flatten")
def flatten(x: Array, *, axis: int = 1) -> Array:
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis {axis} is not one of shape {x.shape}")
    axis += x.ndim if axis < 0 else 0
    return x.reshape(int(np.prod(x.shape[:axis], dtype=object)), int(np.prod(x.shape[axis:], dtype=object)))


@operator("Squeeze", moved={"axes": 1}, vectors=(1,))
def squeeze(x: Array, axes: Array | None = None) -> Array:
    return x.squeeze() if axes is None else x.squeeze(tuple(integers(axes)))


@operator("Unsqueeze", moved={"axes": 1}, vectors=(1,))
def unsqueeze(x: Array, axes: Array) -> Array:
    places = integers(axes)
    if x.ndim + len(places) > 32:
        raise ValueError(f"{len(places)} more axes are too many")
    return np.expand_dims(x, tuple(places))


@operator("Concat")
def concat(*arrays: Array, axis: int) -> Array:
    if len({a.dtype for a in arrays}) > 1:
        raise ValueError(f"the inputs must have one type, got {', '.join(str(a.dtype) for a in arrays)}")
    bounded((sum(a.size for a in arrays),), arrays[0].itemsize)
    return np.concatenate(arrays, axis)


@operator("Slice", moved={"starts": 1, "ends": 2, "axes": 3}, vectors=(1, 2, 3, 4))
def slice_of(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    first, last = integers(starts), integers(ends)
    places = list(range(len(first))) if axes is None else integers(axes)
    strides = [1] * len(first) if steps is None else integers(steps)
    index = [slice(None)] * x.ndim
    for a, b, axis, step in zip(first, last, places, strides, strict=True):
        index[axis] = _between(a, b, step, x.shape[axis])
    return x[tuple(index)]


def _between(first: int, last: int, step: int, count: int) -> slice:
    """The places from `first` up to `last`, which count from the end if they are negative and stop at both ends. Backwards, "as far as possible" forwards is taken for backwards, too, as ONNX Runtime does."""
    low, high = (0, count) if step > 0 else (-1, count - 1)
    begin = min(max(first + count if first < 0 else first, 0), high)
    end = low if step < 0 and last in (2**31 - 1, 2**63 - 1) else min(max(last + count if last < 0 else last, low), high)
    return slice(max(begin, 0), end if end >= 0 else None, step) if count else slice(0, 0)


@operator("Split", outputs=None, moved={"split": 1}, vectors=(1,))
def split(x: Array, parts: Array | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int) -> Any:
    count = x.shape[axis]
    if parts is not None:
        sizes = integers(parts)
    else:
        each = -(-count // (num_outputs or outputs))
        sizes = [max(0, min(each, count - i * each)) for i in range(num_outputs or outputs)]
    if sum(sizes) != count or min(sizes, default=0) < 0 or len(sizes) != outputs:
        raise ValueError(f"{outputs} parts of {sizes} do not make the {count} of axis {axis}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


@operator("Gather")
def gather(x: Array, indices: Array, *, axis: int = 0) -> Array:
    if indices.dtype.kind != "i":
        raise ValueError(f"indices must be integers, got {indices.dtype}")
    bounded((indices.size, x.size // max(1, x.shape[axis])), x.itemsize)
    return np.take(x, indices, axis)


@operator("GatherElements")
def gather_elements(x: Array, indices: Array, *, axis: int = 0) -> Array:
    whole = axis % x.ndim
    if indices.ndim != x.ndim or any(n > m for i, (n, m) in enumerate(zip(indices.shape, x.shape, strict=True)) if i != whole):
        raise ValueError(f"indices of shape {indices.shape} reach beyond {x.shape}")
    part = x[tuple(slice(None) if i == whole else slice(n) for i, n in enumerate(indices.shape))]
    return np.take_along_axis(part, np.where(indices < 0, indices + x.shape[axis], indices), axis)


@operator("Shape")
def shape_of(x: Array, *, start: int = 0, end: int | None = None) -> Array:
    return np.array(x.shape[start:end], np.int64)


@operator("Size")
def size_of(x: Array) -> Array:
    return np.array(x.size, np.int64)


@operator("ConstantOfShape", vectors=(0,))
def constant_of_shape(shape: Array, *, value: array | None = None) -> Array:  # type: ignore[name-defined]  # noqa: F821
    one = np.zeros(1, np.float32) if value is None else value
    if one.size != 1:
        raise ValueError(f"value must be a single number, got shape {one.shape}")
    return np.full(bounded(integers(shape), one.itemsize), one.reshape(()), one.dtype)


@operator("Expand", vectors=(1,))
def expand(x: Array, shape: Array) -> Array:
    wanted = bounded(integers(shape), x.itemsize)
    return np.broadcast_to(x, bounded(np.broadcast_shapes(x.shape, wanted), x.itemsize)).copy()


@operator("Tile", vectors=(1,))
def tile(x: Array, repeats: Array) -> Array:
    times = integers(repeats)
    if len(times) != x.ndim:
        raise ValueError(f"repeats must be {x.ndim} numbers, got {times}")
    bounded([n * k for n, k in zip(x.shape, times, strict=True)], x.itemsize)
    return np.tile(x, times)


@operator("Range")
def range_of(start: Array, limit: Array, delta: Array) -> Array:
    a, b, step = (one.reshape(()).item() for one in (start, limit, delta))
    if step == 0 or not np.isfinite((b - a) / step):
        raise ValueError(f"a range from {a} to {b} in steps of {step}")
    count = max(0, int(np.ceil((b - a) / step)))
    bounded((count,), start.itemsize)
    return (start.reshape(()) + np.arange(count).astype(start.dtype) * delta.reshape(())).astype(start.dtype, copy=False)  # type: ignore[no-any-return]


@operator("Pad", moved={"pads": 1, "value": 2}, vectors=(1, 3))
def pad(x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, *, mode: str = "constant") -> Array:
    sizes, places = integers(pads), list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in integers(axes)]
    if len(sizes) != 2 * len(places) or len(set(places)) < len(places):
        raise ValueError(f"pads must be {2 * len(places)} numbers, got {sizes}")
    around = [(0, 0)] * x.ndim
    for i, axis in enumerate(places):
        around[axis] = (sizes[i], sizes[i + len(places)])
    bounded([max(0, n + max(0, a) + max(0, b)) for n, (a, b) in zip(x.shape, around, strict=True)], x.itemsize)
    kept = x[tuple(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape, around, strict=True))]
    more = [(max(0, a), max(0, b)) for a, b in around]
    if mode == "constant":
        return np.pad(kept, more, constant_values=0 if value is None else value.reshape(()))
    if mode not in ("reflect", "edge", "wrap"):
        raise ValueError(f"mode must be 'constant', 'reflect', 'edge' or 'wrap', got {mode!r}")
    return np.pad(kept, more, mode)  # type: ignore[call-overload,no-any-return]


@operator("SplitToSequence", folds=False)
def split_to_sequence(x: Array, parts: Array | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Array]:
    """As a step of a graph that was unrolled over time; only SequenceAt takes the list."""
    if parts is None:
        whole = np.split(x, x.shape[axis], axis) if x.shape[axis] else []
        return whole if keepdims else [one.squeeze(axis) for one in whole]
    sizes = integers(parts)
    if parts.ndim == 0:
        count = max(1, sizes[0])
        sizes = [min(count, x.shape[axis] - i) for i in range(0, x.shape[axis], count)]
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise ValueError(f"parts of {sizes} do not make the {x.shape[axis]} of axis {axis}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


@operator("SequenceAt", folds=False)
def sequence_at(sequence: list[Array], position: Array) -> Array:
    if not isinstance(sequence, list):
        raise ValueError("must be given a sequence")
    return sequence[int(position.reshape(()))]
