"""Convolution and pooling over one axis of steps: [B, C, T]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rnnfast.interop.onnx.operators.table import bounded, ints, operator

Array = np.ndarray


def _one(name: str, values: list[int] | None, default: int | None = 1) -> int:
    if values is None and default is not None:
        return default
    if values is None or len(values) != 1 or values[0] < 1:
        raise ValueError(f"{name} must be one positive number, got {values}: only windows over one axis are supported")
    return values[0]


def _around(steps: int, span: int, stride: int, pads: list[int] | None, auto_pad: str) -> tuple[int, int]:
    """Steps to add in front and behind."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        more = max(0, (-(-steps // stride) - 1) * stride + span - steps)
        return (more // 2, more - more // 2) if auto_pad == "SAME_UPPER" else (more - more // 2, more // 2)
    if auto_pad not in ("NOTSET", "VALID"):
        raise ValueError(f"auto_pad must be 'NOTSET', 'VALID', 'SAME_UPPER' or 'SAME_LOWER', got {auto_pad!r}")
    if auto_pad == "VALID" or pads is None:
        return 0, 0
    if len(pads) != 2 or min(pads) < 0:
        raise ValueError(f"pads must be two numbers of at least 0, got {pads}: only windows over one axis are supported")
    return pads[0], pads[1]


def _check(x: Array) -> None:
    if x.ndim != 3 or x.dtype.kind != "f":
        raise ValueError(f"must be floats of shape (B, C, T), got {x.dtype} of shape {x.shape}")


def _windows(x: Array, kernel: int, stride: int, dilation: int, around: tuple[int, int], fill: float, beyond: int = 0) -> Array:
    """[B, C, windows, kernel]; `beyond` more steps behind the pad."""
    front, behind = around
    span = (kernel - 1) * dilation + 1
    steps = x.shape[2] + front + behind + beyond
    if steps < span:
        raise ValueError(f"a window of {span} steps does not fit into {steps}")
    bounded((*x.shape[:2], steps), x.itemsize)
    if steps > x.shape[2]:
        x = np.pad(x, ((0, 0), (0, 0), (front, behind + beyond)), constant_values=fill)
    return sliding_window_view(x, span, 2)[:, :, ::stride, ::dilation]


@operator("Conv", folds=False)
def conv(
    x: Array, w: Array, b: Array | None = None, *, auto_pad: str = "NOTSET", dilations: ints | None = None, group: int = 1,
    kernel_shape: ints | None = None, pads: ints | None = None, strides: ints | None = None,
) -> Array:  # fmt: skip
    y, calls = conv_calls(x, w, b, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides)
    for call in calls:
        call()
    return y


def conv_calls(
    x: Array, w: Array, b: Array | None = None, *, auto_pad: str = "NOTSET", dilations: Any = None, group: int = 1, kernel_shape: Any = None, pads: Any = None,
    strides: Any = None,
) -> tuple[Array, list[Callable[[], Any]]]:  # fmt: skip
    """An array, and the calls that write the convolution of what x holds into it."""
    _check(x)
    stride, dilation = _one("strides", strides), _one("dilations", dilations)
    if w.ndim != 3 or w.dtype != x.dtype or group < 1 or w.shape[0] % group or w.shape[1] * group != x.shape[1] or kernel_shape not in (None, [w.shape[2]]):
        raise ValueError(f"W of {w.dtype} {w.shape} does not fit X of {x.dtype} {x.shape} in {group} groups and kernel_shape {kernel_shape}")
    filters, depth, kernel = w.shape
    around = _around(x.shape[2], (kernel - 1) * dilation + 1, stride, pads, auto_pad)
    padded, calls = x, list[Callable[[], Any]]()
    if any(around):
        bounded((*x.shape[:2], x.shape[2] + sum(around)), x.itemsize)
        padded = np.zeros((*x.shape[:2], x.shape[2] + sum(around)), x.dtype)
        calls.append(partial(np.copyto, padded[:, :, around[0] : around[0] + x.shape[2]], x))
    windows = _windows(padded, kernel, stride, dilation, (0, 0), 0).transpose(0, 2, 1, 3)
    batch, steps = windows.shape[:2]
    rows = np.empty(bounded((group, batch, steps, depth, kernel), x.itemsize), x.dtype)
    sums = np.empty(bounded((group, batch, steps, filters // group), x.itemsize), x.dtype)
    y = np.empty((batch, group, filters // group, steps), x.dtype)
    kernels = w.reshape(group, filters // group, depth * kernel).transpose(0, 2, 1)
    calls += [
        partial(np.copyto, rows.transpose(1, 2, 0, 3, 4), windows.reshape(batch, steps, group, depth, kernel)),
        partial(np.matmul, rows.reshape(group, batch * steps, depth * kernel), kernels, sums.reshape(group, batch * steps, filters // group)),
        partial(np.copyto, y, sums.transpose(1, 0, 3, 2)) if b is None else partial(np.add, sums.transpose(1, 0, 3, 2), b.reshape(group, -1, 1), y),
    ]
    return y.reshape(batch, filters, steps), calls


def _pooled(x: Array, fill: float, kernel_shape: Any, strides: Any, dilations: Any, pads: Any, auto_pad: str, ceil_mode: int) -> tuple[Array, tuple[int, ...]]:
    """The windows, and what they follow from: kernel, stride, dilation, front, behind, beyond."""
    _check(x)
    kernel, stride, dilation = _one("kernel_shape", kernel_shape, None), _one("strides", strides), _one("dilations", dilations)
    span = (kernel - 1) * dilation + 1
    front, behind = _around(x.shape[2], span, stride, pads, auto_pad)
    rest = (x.shape[2] + front + behind - span) % stride
    beyond = stride - rest if ceil_mode and rest else 0
    starts = x.shape[2] + front + behind + beyond - span  # of the last window, which must not begin in the pad behind
    if beyond and starts >= x.shape[2] + front:
        beyond = 0
    return _windows(x, kernel, stride, dilation, (front, behind), fill, beyond), (kernel, stride, dilation, front, behind, beyond)


@operator("MaxPool", folds=False)
def max_pool(
    x: Array, *, kernel_shape: ints, strides: ints | None = None, dilations: ints | None = None, pads: ints | None = None, auto_pad: str = "NOTSET",
    ceil_mode: int = 0, storage_order: int = 0,
) -> Array:  # fmt: skip
    found: Array = _pooled(x, -np.inf, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)[0].max(-1)
    return found


@operator("AveragePool", folds=False)
def average_pool(
    x: Array, *, kernel_shape: ints, strides: ints | None = None, dilations: ints | None = None, pads: ints | None = None, auto_pad: str = "NOTSET",
    ceil_mode: int = 0, count_include_pad: int = 0,
) -> Array:  # fmt: skip
    windows, (kernel, stride, dilation, front, behind, beyond) = _pooled(x, 0, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    counted = np.pad(np.ones((1, 1, x.shape[2]), x.dtype), ((0, 0), (0, 0), (front, behind)), constant_values=float(bool(count_include_pad)))
    found: Array = windows.sum(-1) / _windows(counted, kernel, stride, dilation, (0, 0), 0, beyond).sum(-1)
    return found


@operator("GlobalAveragePool", folds=False)
def global_average_pool(x: Array) -> Array:
    return x.mean(tuple(range(2, x.ndim)), keepdims=True)  # type: ignore[no-any-return]


@operator("GlobalMaxPool", folds=False)
def global_max_pool(x: Array) -> Array:
    return x.max(tuple(range(2, x.ndim)), keepdims=True)  # type: ignore[no-any-return]
