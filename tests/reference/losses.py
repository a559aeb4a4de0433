"""Losses and Keras' weighted, masked mean, in float64. Sources: Keras 3 API, ``keras.losses``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference.activations import softmax, softplus

Array = np.ndarray
EPSILON = 1e-7


def _clip(p: Array) -> Array:
    return np.clip(p, EPSILON, 1.0 - EPSILON)


def _log_cosh(d: Array) -> Array:
    return d + softplus(-2.0 * d) - np.log(2.0)


def _huber(d: Array, delta: float) -> Array:
    a = np.abs(d)
    return np.where(a <= delta, 0.5 * d * d, delta * a - 0.5 * delta**2)


def _binary(y: Array, p: Array, from_logits: bool = False, label_smoothing: float = 0.0) -> Array:
    y = y * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        return (softplus(p) - y * p).mean(axis=-1)
    p = _clip(p)
    return -(y * np.log(p) + (1.0 - y) * np.log(1.0 - p)).mean(axis=-1)


def _categorical(y: Array, p: Array, from_logits: bool = False, label_smoothing: float = 0.0) -> Array:
    y = y * (1.0 - label_smoothing) + label_smoothing / y.shape[-1]
    if from_logits:
        shifted = p - p.max(axis=-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    else:
        log_p = np.log(_clip(p / p.sum(axis=-1, keepdims=True)))
    return -(y * log_p).sum(axis=-1)


def _sparse(y: Array, p: Array, from_logits: bool = False) -> Array:
    labels = y.astype(np.int64)
    labels = labels[..., 0] if labels.ndim == p.ndim else labels
    return _categorical(np.eye(p.shape[-1])[labels], p, from_logits)


def _kl(y: Array, p: Array) -> Array:
    y, p = np.clip(y, EPSILON, 1.0), np.clip(p, EPSILON, 1.0)
    return (y * np.log(y / p)).sum(axis=-1)


def _msle(y: Array, p: Array) -> Array:
    return ((np.log1p(np.maximum(p, EPSILON)) - np.log1p(np.maximum(y, EPSILON))) ** 2).mean(axis=-1)


VALUES: dict[str, Callable[..., Array]] = {
    "mse": lambda y, p: ((y - p) ** 2).mean(axis=-1),
    "mae": lambda y, p: np.abs(y - p).mean(axis=-1),
    "mape": lambda y, p: 100.0 * np.abs((y - p) / np.maximum(np.abs(y), EPSILON)).mean(axis=-1),
    "msle": _msle,
    "huber": lambda y, p, delta=1.0: _huber(p - y, delta).mean(axis=-1),
    "log_cosh": lambda y, p: _log_cosh(p - y).mean(axis=-1),
    "binary_crossentropy": _binary,
    "categorical_crossentropy": _categorical,
    "sparse_categorical_crossentropy": _sparse,
    "kl_divergence": _kl,
    "poisson": lambda y, p: (p - y * np.log(p + EPSILON)).mean(axis=-1),
}


def loss(
    name: str, y: Array, p: Array, sample_weight: Array | None = None, mask: Array | None = None, **config: Any
) -> float:
    """Mean over the valid entries of weight times value, as Keras reduces "sum_over_batch_size"."""
    values = VALUES[name](np.asarray(y, np.float64), np.asarray(p, np.float64), **config)
    weights = np.ones_like(values)
    if sample_weight is not None:
        weight = np.asarray(sample_weight, np.float64)
        weights = weights * weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
    if mask is None:
        return float((values * weights).mean()) if values.size else 0.0
    valid = np.asarray(mask, bool)
    return float((np.where(valid, values, 0.0) * weights).sum() / valid.sum()) if valid.any() else 0.0


def gradient(
    name: str, y: Array, p: Array, sample_weight: Array | None = None, mask: Array | None = None, **config: Any
) -> Array:
    """d loss / d p for the losses that the training tests need: mse and the two softmax cross-entropies on logits."""
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    if name == "mse":
        d = 2.0 * (p - y) / p.shape[-1]
    elif name == "sparse_categorical_crossentropy" and config.get("from_logits"):
        d = softmax(p) - np.eye(p.shape[-1])[y.astype(np.int64)]
    elif name == "categorical_crossentropy" and config.get("from_logits"):
        d = softmax(p) * y.sum(axis=-1, keepdims=True) - y
    else:
        raise ValueError(f"no hand-derived gradient for {name} with {config}")
    weights = np.ones(p.shape[:-1])
    if sample_weight is not None:
        weight = np.asarray(sample_weight, np.float64)
        weights = weights * weight.reshape(weight.shape + (1,) * (weights.ndim - weight.ndim))
    if mask is not None:
        valid = np.asarray(mask, bool)
        return d * np.where(valid, weights, 0.0)[..., None] / max(int(valid.sum()), 1)
    return d * weights[..., None] / weights.size
