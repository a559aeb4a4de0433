"""Activations in ONNX's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.activations import LEAKY
from rnnfast.interop.onnx.writer import Writer
from rnnfast.layers import Layer

# name: (operator, its attributes)
_PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "tanh": ("Tanh", {}), "sigmoid": ("Sigmoid", {}), "relu": ("Relu", {}), "softplus": ("Softplus", {}), "softsign": ("Softsign", {}), "exponential": ("Exp", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}), "hard_sigmoid_02": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "sparse_sigmoid": ("HardSigmoid", {"alpha": 0.5, "beta": 0.5}),
    "elu": ("Elu", {"alpha": 1.0}), "celu": ("Elu", {"alpha": 1.0}), "selu": ("Selu", {}),
    **{name: ("LeakyRelu", {"alpha": slope}) for name, slope in LEAKY.items()},
    "softmax": ("Softmax", {"axis": -1}), "log_softmax": ("LogSoftmax", {"axis": -1}),
}  # fmt: skip

# of the recurrent operators: (name, alpha, beta)
_RECURRENT: dict[str, tuple[str, list[float], list[float]]] = {
    "tanh": ("Tanh", [], []), "sigmoid": ("Sigmoid", [], []), "relu": ("Relu", [], []), "softplus": ("Softplus", [], []), "softsign": ("Softsign", [], []),
    "hard_sigmoid": ("HardSigmoid", [1 / 6], [0.5]), "hard_sigmoid_02": ("HardSigmoid", [0.2], [0.5]), "sparse_sigmoid": ("HardSigmoid", [0.5], [0.5]),
    "elu": ("Elu", [1.0], []), "celu": ("Elu", [1.0], []),
    **{name: ("LeakyRelu", [slope], []) for name, slope in LEAKY.items()}, "linear": ("Affine", [1.0], [0.0]),
}  # fmt: skip


def _clip(w: Writer, x: str, low: float, high: float) -> str:
    return w.op("Clip", x, w.weight(low, "low"), w.weight(high, "high"))


def _times(w: Writer, x: str, number: float) -> str:
    return w.op("Mul", x, w.weight(number, "factor"))


def _squareplus(w: Writer, x: str) -> str:
    root = w.op("Sqrt", w.op("Add", w.op("Mul", x, x), w.weight(4.0, "b")))
    return _times(w, w.op("Add", x, root), 0.5)


def _sparse_plus(w: Writer, x: str) -> str:
    """((clip(x, -1, 1) + 1) / 2)^2 + relu(x - 1)"""
    half = _times(w, w.op("Add", _clip(w, x, -1.0, 1.0), w.weight(1.0, "one")), 0.5)
    return w.op("Add", w.op("Mul", half, half), w.op("Relu", w.op("Sub", x, w.weight(1.0, "one"))))


def _gelu(w: Writer, x: str) -> str:
    erf = w.op("Erf", _times(w, x, np.sqrt(0.5)))
    return w.op("Mul", _times(w, x, 0.5), w.op("Add", erf, w.weight(1.0, "one")))


_MADE: dict[str, Callable[[Writer, str], str]] = {
    "linear": lambda w, x: x,
    "relu6": lambda w, x: _clip(w, x, 0.0, 6.0),
    "hard_tanh": lambda w, x: _clip(w, x, -1.0, 1.0),
    "log_sigmoid": lambda w, x: w.op("Neg", w.op("Softplus", w.op("Neg", x))),
    "silu": lambda w, x: w.op("Mul", x, w.op("Sigmoid", x)),
    "mish": lambda w, x: w.op("Mul", x, w.op("Tanh", w.op("Softplus", x))),
    "tanh_shrink": lambda w, x: w.op("Sub", x, w.op("Tanh", x)),
    "soft_shrink": lambda w, x: w.op("Sub", x, _clip(w, x, -0.5, 0.5)),
    "hard_shrink": lambda w, x: w.op("Where", w.op("Greater", w.op("Abs", x), w.weight(0.5, "edge")), x, w.weight(0.0, "zero")),
    "hard_silu": lambda w, x: w.op("Mul", x, w.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "gelu": _gelu,
}


def activate(w: Writer, layer: Layer, name: str, x: str) -> str:
    """An activation of x."""
    if name in _MADE:
        return _MADE[name](w, x)
    if name not in _PLAIN:
        w.refuse(layer, f"activation {name!r} cannot be written as ONNX")
    kind, attributes = _PLAIN[name]
    return w.op(kind, x, **attributes)


def recurrent_attributes(w: Writer, layer: Layer, names: list[str]) -> dict[str, Any]:
    """The attributes `activations`, `activation_alpha` and `activation_beta` of a recurrent operator."""
    unknown = next((name for name in names if name not in _RECURRENT), None)
    if unknown is not None:
        w.refuse(layer, f"activation {unknown!r} is not one of ONNX's recurrent operators, which have {', '.join(_RECURRENT)}")
    found = [_RECURRENT[name] for name in names]
    made: dict[str, Any] = {"activations": [name for name, _, _ in found]}
    for key, place in (("activation_alpha", 1), ("activation_beta", 2)):
        numbers = [number for one in found for number in one[place]]
        if numbers:
            made[key] = numbers
    return made
