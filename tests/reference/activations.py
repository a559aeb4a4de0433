"""Every activation that Keras 3 knows by name, with its vector-Jacobian product, in float64.

Sources: Keras 3 API, ``keras.activations``; GELU: Hendrycks and Gimpel 2016; SELU: Klambauer et al. 2017; Mish: Misra 2019;
sparsemax: Martins and Astudillo 2016. At a kink the derivative is that of the side Keras' torch backend takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
_erf = np.vectorize(math.erf, otypes=[np.float64])
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _d_sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return e / (1.0 + e) ** 2


def _d_tanh(x: Array) -> Array:
    return 4.0 * _d_sigmoid(2.0 * x)


def _between(x: Array, low: float, high: float) -> Array:
    return ((x > low) & (x < high)).astype(np.float64)


def _d_mish(x: Array) -> Array:
    t = np.tanh(softplus(x))
    return t + x * (1.0 - t * t) * sigmoid(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def _normal_pdf(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _expm1_negative(x: Array) -> Array:
    return np.expm1(np.minimum(x, 0.0))


def _exp_negative(x: Array) -> Array:
    return np.exp(np.minimum(x, 0.0))


def _hard_sigmoid(x: Array) -> Array:
    return np.clip(x / 6.0 + 0.5, 0.0, 1.0)


ELEMENTWISE: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0) * 1.0),
    "leaky_relu_001": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
    "leaky_relu_03": (lambda x: np.where(x > 0, x, 0.3 * x), lambda x: np.where(x > 0, 1.0, 0.3)),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1.0, 0.2)),
    "relu6": (lambda x: np.clip(x, 0.0, 6.0), lambda x: _between(x, 0.0, 6.0)),
    "elu": (lambda x: np.where(x > 0, x, _expm1_negative(x)), lambda x: np.where(x > 0, 1.0, _exp_negative(x))),
    "celu": (lambda x: np.where(x > 0, x, _expm1_negative(x)), lambda x: np.where(x > 0, 1.0, _exp_negative(x))),
    "selu": (
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * _expm1_negative(x)),
        lambda x: SELU_SCALE * np.where(x > 0, 1.0, SELU_ALPHA * _exp_negative(x)),
    ),
    "softplus": (softplus, sigmoid),
    "softsign": (lambda x: x / (1.0 + np.abs(x)), lambda x: 1.0 / (1.0 + np.abs(x)) ** 2),
    "squareplus": (lambda x: 0.5 * (x + np.sqrt(x * x + 4.0)), lambda x: 0.5 * (1.0 + x / np.sqrt(x * x + 4.0))),
    "soft_shrink": (lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0.0), lambda x: (np.abs(x) > 0.5) * 1.0),
    "hard_shrink": (lambda x: np.where(np.abs(x) > 0.5, x, 0.0), lambda x: (np.abs(x) > 0.5) * 1.0),
    "sparse_plus": (
        lambda x: np.where(x <= -1, 0.0, np.where(x < 1, 0.25 * (x + 1.0) ** 2, x)),
        lambda x: np.where(x <= -1, 0.0, np.where(x < 1, 0.5 * (x + 1.0), 1.0)),
    ),
    "sparse_sigmoid": (lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0), lambda x: 0.5 * _between(x, -1.0, 1.0)),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * _d_sigmoid(x)),
    "gelu": (lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_pdf(x)),
    "tanh": (np.tanh, _d_tanh),
    "tanh_shrink": (lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2),
    "hard_tanh": (lambda x: np.clip(x, -1.0, 1.0), lambda x: _between(x, -1.0, 1.0)),
    "sigmoid": (sigmoid, _d_sigmoid),
    "hard_sigmoid": (_hard_sigmoid, lambda x: _between(x, -3.0, 3.0) / 6.0),
    "hard_sigmoid_02": (lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0), lambda x: 0.2 * _between(x, -2.5, 2.5)),  # of Keras 1 and 2
    "hard_silu": (lambda x: x * _hard_sigmoid(x), lambda x: _hard_sigmoid(x) + x * _between(x, -3.0, 3.0) / 6.0),
    "exponential": (np.exp, np.exp),
    "log_sigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x)),
    "mish": (lambda x: x * np.tanh(softplus(x)), _d_mish),
}
ALIASES = {None: "linear", "swish": "silu", "hard_swish": "hard_silu"}


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_vjp(x: Array, dy: Array) -> Array:
    s = softmax(x)
    return s * (dy - (dy * s).sum(axis=-1, keepdims=True))


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _log_softmax_vjp(x: Array, dy: Array) -> Array:
    return dy - softmax(x) * dy.sum(axis=-1, keepdims=True)


def _sparsemax(x: Array) -> Array:
    z = -np.sort(-x, axis=-1)
    total = np.cumsum(z, axis=-1)
    inside = 1.0 + np.arange(1, x.shape[-1] + 1) * z > total
    k = inside.sum(axis=-1, keepdims=True)
    threshold = (np.take_along_axis(total, k - 1, axis=-1) - 1.0) / k
    return np.maximum(x - threshold, 0.0)


def _sparsemax_vjp(x: Array, dy: Array) -> Array:
    support = _sparsemax(x) > 0
    mean = (dy * support).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
    return support * (dy - mean)


def _glu(x: Array) -> Array:
    a, b = np.split(x, 2, axis=-1)
    return a * sigmoid(b)


def _glu_vjp(x: Array, dy: Array) -> Array:
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([dy * sigmoid(b), dy * a * _d_sigmoid(b)], axis=-1)


ROWWISE: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "softmax": (softmax, _softmax_vjp),
    "log_softmax": (_log_softmax, _log_softmax_vjp),
    "sparsemax": (_sparsemax, _sparsemax_vjp),
    "glu": (_glu, _glu_vjp),
}
NAMES = sorted([*ELEMENTWISE, "swish", "hard_swish"])
"""The elementwise names, aliases included: each can stand inside a cell."""
CELL_NAMES = sorted([*NAMES, "softmax", "log_softmax", "sparsemax"])
"""Names that keep the shape of their argument, so that a cell may use them. (``glu`` halves the last axis.)"""


def value(name: str | None, x: Array) -> Array:
    """f(x)."""
    name = ALIASES.get(name, name)
    return (ROWWISE if name in ROWWISE else ELEMENTWISE)[name][0](x)


def vjp(name: str | None, x: Array, dy: Array) -> Array:
    """dyᵀ f'(x)."""
    name = ALIASES.get(name, name)
    if name in ROWWISE:
        return ROWWISE[name][1](x, dy)
    return dy * ELEMENTWISE[name][1](x)
