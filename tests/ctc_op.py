"""The engine's CTC op on arrays, without a model around it."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import losses
from rnnfast._engine import Buffer, CTCOp, Program, Rows, ctc_scratch_size


def _outside(array: np.ndarray, stride: int) -> Buffer:
    buffer = Buffer("", 0)
    buffer.point(array.ctypes.data, stride)
    return buffer


def run(x: Any, labels: Any, lengths: Any = None, weight: Any = None, threads: int = 1, gradient: bool = True, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weighted loss of each sequence (B,), and the gradient of their sum by x (B, T, classes), 0 behind `lengths`. Options are those of losses.CTC."""
    x = np.ascontiguousarray(x)
    labels = np.ascontiguousarray(labels, np.int64)
    (B, T, C), L, dtype = x.shape, labels.shape[1], x.dtype.name
    rows = Rows(B, T)
    if lengths is not None:
        rows.set_valid((np.arange(T) < np.asarray(lengths)[:, None]).astype(np.uint8))
    packed, dx = np.zeros((rows.capacity, C), dtype), np.full((rows.capacity, C), np.nan, dtype)
    packed[: rows.count] = x.reshape(-1, C)[rows.source]
    weights = np.ones(B) if weight is None else np.asarray(weight, np.float64)[rows.order]
    values, total, size = np.zeros(B), np.zeros(1), ctc_scratch_size(T, L, C, gradient)
    scratch = np.full(size * threads, np.nan)
    arrays = {"x": (packed, C), "labels": (labels, L), "weight": (weights, 1), "work": (values, 1), "result": (total, 1), "scratch": (scratch, size)}
    buffers: dict[str, Any] = {name: _outside(*pair) for name, pair in arrays.items()} | {"dx": _outside(dx, C) if gradient else None}
    op = CTCOp(dtype, rows, buffers, classes=C, **losses.CTC(**options).numbers(C))
    Program([op], [], 0, threads).run()
    np.testing.assert_array_equal(total[0], np.add.accumulate(values)[-1] if B else 0.0)
    full = np.zeros((B * T, C), dtype)
    full[rows.source] = dx[: rows.count]
    return values, full.reshape(B, T, C)
