"""Operators that work on each number by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.interop.onnx.operators.table import broadcast, dtype, operator

Array = np.ndarray


def _same(*arrays: Array) -> None:
    """ONNX converts no types by itself."""
    if len({a.dtype for a in arrays}) > 1:
        raise ValueError(f"the inputs must have one type, got {', '.join(str(a.dtype) for a in arrays)}")
    broadcast(*arrays)


def _pairwise(function: Callable[[Array, Array], Array]) -> Any:
    def run(a: Array, b: Array) -> Array:
        _same(a, b)
        return function(a, b)

    return run


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    if not np.all(b):
        raise ValueError("division of integers by zero")
    whole: Array = np.trunc(a / b).astype(a.dtype) if a.dtype.itemsize < 8 else np.where((a < 0) != (b < 0), -(np.abs(a) // np.abs(b)), np.abs(a) // np.abs(b))
    return whole


PLAIN_PAIRS: dict[str, np.ufunc] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip
_PAIRS: dict[str, Callable[[Array, Array], Array]] = {**PLAIN_PAIRS, "Div": _divide}
for _name, _function in _PAIRS.items():
    operator(_name)(_pairwise(_function))


def _by_engine(name: str, otherwise: Callable[[Array], Array] | None = None) -> Callable[[Array], Array]:
    """The engine's function of floats."""

    def run(x: Array) -> Array:
        if x.dtype.kind != "f":
            if otherwise is None:
                raise ValueError(f"must be floats, got {x.dtype}")
            return otherwise(x)
        return np.asarray(_engine.elementwise(name, x))

    return run


def _floats(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        if x.dtype.kind != "f":
            raise ValueError(f"must be floats, got {x.dtype}")
        return function(x)

    return run


ENGINE_SINGLES = {name: name.lower() for name in ("Tanh", "Sigmoid", "Softplus", "Softsign", "Mish", "Relu")}
_SINGLES: dict[str, Callable[[Array], Array]] = {
    "Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Not": np.logical_not, "Sqrt": _floats(np.sqrt), "Exp": _floats(np.exp), "Log": _floats(np.log),
    "Reciprocal": _floats(np.reciprocal), "Floor": _floats(np.floor), "Ceil": _floats(np.ceil), "Round": _floats(np.rint), "Sin": _floats(np.sin),
    "Cos": _floats(np.cos), "IsNaN": _floats(np.isnan), **{name: _by_engine(function) for name, function in ENGINE_SINGLES.items()},
    "Relu": _by_engine("relu", lambda x: np.maximum(x, x.dtype.type(0))),
}  # fmt: skip


def _single(function: Callable[[Array], Array]) -> Any:
    def run(x: Array) -> Array:
        return function(x)

    return run


for _name, _unary in _SINGLES.items():
    operator(_name)(_single(_unary))


@operator("Pow")
def power(x: Array, y: Array) -> Array:
    broadcast(x, y)
    return np.power(x, y).astype(x.dtype, copy=False)


def _chain(function: Callable[[Array, Array], Array]) -> Any:
    def run(*arrays: Array) -> Array:
        _same(*arrays)
        found = arrays[0]
        for one in arrays[1:]:
            found = function(found, one)
        return found

    return run


for _name, _function in {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}.items():
    operator(_name)(_chain(_function))


@operator("Mean")
def mean(*arrays: Array) -> Array:
    return _chain(np.add)(*arrays) / arrays[0].dtype.type(len(arrays))  # type: ignore[no-any-return]


@operator("Clip", moved={"min": 1, "max": 2})
def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    for bound in (low, high):
        if bound is not None and bound.size != 1:
            raise ValueError(f"the limits must be single numbers, got shape {bound.shape}")
    if low is not None:
        x = np.maximum(x, low.reshape(()).astype(x.dtype))
    return x if high is None else np.minimum(x, high.reshape(()).astype(x.dtype))


@operator("Where")
def where(condition: Array, x: Array, y: Array) -> Array:
    if condition.dtype != bool or x.dtype != y.dtype:
        raise ValueError(f"must be a bool and two arrays of one type, got {condition.dtype}, {x.dtype}, {y.dtype}")
    broadcast(condition, x, y)
    return np.where(condition, x, y)


@operator("LeakyRelu")
def leaky_relu(x: Array, *, alpha: float = 0.01) -> Array:
    return np.where(x < 0, x.dtype.type(alpha) * x, x)


@operator("PRelu")
def prelu(x: Array, slope: Array) -> Array:
    _same(x, slope)
    return np.where(x < 0, slope * x, x)


@operator("ThresholdedRelu")
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Array:
    return np.where(x > alpha, x, x.dtype.type(0))


@operator("Elu")
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    return np.where(x < 0, x.dtype.type(alpha) * np.expm1(x), x)


@operator("Celu")
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    a = x.dtype.type(alpha)
    return np.maximum(x, 0) + np.minimum(a * np.expm1(x / a), 0)  # type: ignore[no-any-return]


@operator("Selu")
def selu(x: Array, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Array:
    return x.dtype.type(gamma) * np.where(x <= 0, x.dtype.type(alpha) * np.expm1(x), x)  # type: ignore[no-any-return]


@operator("HardSigmoid")
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(x.dtype.type(alpha) * x + x.dtype.type(beta), 0, 1)


@operator("HardSwish")
def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x, alpha=1 / 6)


@operator("Swish")
def swish(x: Array, *, alpha: float = 1.0) -> Array:
    return x * np.asarray(_engine.elementwise("sigmoid", x.dtype.type(alpha) * x))


@operator("Erf")
def erf(x: Array) -> Array:
    if x.dtype.kind != "f":
        raise ValueError(f"must be floats, got {x.dtype}")
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(x.dtype)


@operator("Gelu")
def gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    if approximate == "none":
        return np.asarray(_engine.elementwise("gelu", x))
    one = x.dtype.type
    return one(0.5) * x * (one(1) + np.tanh(one(math.sqrt(2 / math.pi)) * (x + one(0.044715) * x * x * x)))


@operator("Identity")
def identity(x: Array) -> Array:
    return x


@operator("Dropout", outputs=2, moved={"ratio": 1})
def dropout(x: Array, ratio: Array | None = None, training: Array | None = None, *, seed: int = 0, outputs: int) -> Any:
    if training is not None and training.any():
        raise ValueError("training_mode must be false")
    return (x, np.ones(x.shape, bool)) if outputs > 1 else x


@operator("Cast")
def cast(x: Array, *, to: dtype, saturate: int = 1, round_mode: str = "up") -> Array:
    return x.astype(to, copy=False)


@operator("CastLike")
def cast_like(x: Array, like: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    return x.astype(like.dtype, copy=False)
