"""Products, normalisations and softmax."""

from __future__ import annotations

from math import prod

import numpy as np

from rnnfast.interop.onnx.operators.table import bounded, operator

Array = np.ndarray


@operator("MatMul", folds=False)
def matmul(a: Array, b: Array) -> Array:
    if a.dtype != b.dtype:
        raise ValueError(f"the inputs must have one type, got {a.dtype} and {b.dtype}")
    bounded((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2] if a.ndim > 1 else 1, b.shape[-1] if b.ndim > 1 else 1), a.itemsize)
    return np.matmul(a, b)


@operator("Gemm", folds=False)
def gemm(a: Array, b: Array, c: Array | None = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0) -> Array:
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype:
        raise ValueError(f"must be two matrices of one type, got {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    a, b = a.T if transA else a, b.T if transB else b
    bounded((a.shape[0], b.shape[1]), a.itemsize)
    y = a @ b
    if alpha != 1:
        y *= y.dtype.type(alpha)
    if c is None:
        return y
    if np.broadcast_shapes(c.shape, y.shape) != y.shape or c.dtype != y.dtype:
        raise ValueError(f"C must fit {y.dtype} {y.shape}, got {c.dtype} {c.shape}")
    y += c if beta == 1 else y.dtype.type(beta) * c
    return y


def _rows(x: Array, axis: int | None, opset: int) -> tuple[Array, int]:
    """x and the axis to normalise; before opset 13 all axes from `axis` on are one."""
    if opset >= 13:
        return x, -1 if axis is None else axis
    axis = 1 if axis is None else axis
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis {axis} is not one of shape {x.shape}")
    return x.reshape(prod(x.shape[: axis % x.ndim if axis < 0 else axis]), -1), 1


@operator("Softmax")
def softmax(x: Array, *, axis: int | None = None, opset: int) -> Array:
    if not x.size:
        return x
    rows, place = _rows(x, axis, opset)
    e = np.exp(rows - rows.max(place, keepdims=True))
    return (e / e.sum(place, keepdims=True)).reshape(x.shape)  # type: ignore[no-any-return]


@operator("LogSoftmax")
def log_softmax(x: Array, *, axis: int | None = None, opset: int) -> Array:
    if not x.size:
        return x
    rows, place = _rows(x, axis, opset)
    shifted = rows - rows.max(place, keepdims=True)
    return (shifted - np.log(np.exp(shifted).sum(place, keepdims=True))).reshape(x.shape)  # type: ignore[no-any-return]


@operator("LayerNormalization", folds=False)
def layer_normalization(x: Array, scale: Array, bias: Array | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Array:
    axes = tuple(range(axis % x.ndim, x.ndim))
    d = x - x.mean(axes, keepdims=True)
    y = d / np.sqrt((d * d).mean(axes, keepdims=True) + x.dtype.type(epsilon)) * scale
    return y if bias is None else y + bias  # type: ignore[no-any-return]


@operator("BatchNormalization", folds=False)
def batch_normalization(
    x: Array, scale: Array, bias: Array, mean: Array, variance: Array, *, epsilon: float = 1e-5, momentum: float = 0.9, spatial: int = 1, training_mode: int = 0
) -> Array:
    if training_mode or spatial != 1:
        raise ValueError(f"training_mode must be 0 and spatial 1, got {training_mode} and {spatial}")
    factor = scale / np.sqrt(variance + variance.dtype.type(epsilon))
    column = (-1,) + (1,) * (x.ndim - 2)
    return x * factor.reshape(column) + (bias - mean * factor).reshape(column)  # type: ignore[no-any-return]
