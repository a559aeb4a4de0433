"""Convolutions, pooling and batch normalisation in float64, one window after the other, each row over its own valid steps."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def steps_read(length: int, taps: int, stride: int, dilation: int, padding: str) -> list[list[int | None]]:
    """For each output step the input steps of its window; None outside the row. Keras' rules."""
    reach = (taps - 1) * dilation
    if padding == "valid":
        count, left = len(range(0, length - reach, stride)), 0
    else:
        count = len(range(0, length, stride))
        left = reach if padding == "causal" else max((count - 1) * stride + reach + 1 - length, 0) // 2
    places = [[s * stride + k * dilation - left for k in range(taps)] for s in range(count)]
    return [[t if 0 <= t < length else None for t in window] for window in places]


def convolve_row(x: Array, kernel: Array, bias: Array, groups: int, windows: list[list[int | None]]) -> Array:
    """[T', filters] of one row [T, channels], before the activation."""
    y = np.tile(bias, (len(windows), 1))
    channels, filters = kernel.shape[1], kernel.shape[2] // groups
    for s, window in enumerate(windows):
        for k, t in enumerate(window):
            for g in range(groups if t is not None else 0):
                y[s, g * filters : (g + 1) * filters] += x[t, g * channels : (g + 1) * channels] @ kernel[k, :, g * filters : (g + 1) * filters]
    return y


def convolve_row_back(x: Array, kernel: Array, groups: int, windows: list[list[int | None]], dz: Array) -> tuple[Array, Array, Array]:
    """(dx, dkernel, dbias) of one row."""
    dx, dkernel = np.zeros_like(x), np.zeros_like(kernel)
    channels, filters = kernel.shape[1], kernel.shape[2] // groups
    for s, window in enumerate(windows):
        for k, t in enumerate(window):
            for g in range(groups if t is not None else 0):
                inner, outer = slice(g * channels, (g + 1) * channels), slice(g * filters, (g + 1) * filters)
                dx[t, inner] += kernel[k, :, outer] @ dz[s, outer]
                dkernel[k, :, outer] += np.outer(x[t, inner], dz[s, outer])
    return dx, dkernel, dz.sum(axis=0)


def pool_row(x: Array, kind: str, windows: list[list[int | None]]) -> Array:
    """[T', C] of one row: the mean or maximum over the steps of a window that exist."""
    reduce = np.max if kind == "max" else np.mean
    return np.array([reduce(x[[t for t in window if t is not None]], axis=0) for window in windows]).reshape(len(windows), x.shape[1])


def pool_row_back(x: Array, kind: str, windows: list[list[int | None]], dy: Array) -> Array:
    """dx of one row; a maximum's gradient is shared by ties."""
    dx = np.zeros_like(x)
    for s, window in enumerate(windows):
        inside = [t for t in window if t is not None]
        part = np.ones((len(inside), x.shape[1])) if kind == "mean" else (x[inside] == x[inside].max(axis=0)).astype(float)
        dx[inside] += part / part.sum(axis=0) * dy[s]
    return dx


def batch_normalize(x: Array, valid: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """(y, mean, variance), statistics over the valid steps of x [B, T, C]."""
    mean, variance = x[valid].mean(axis=0), x[valid].var(axis=0)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta, mean, variance
