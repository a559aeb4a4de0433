"""Activations by name. Layers take these names, or one of these functions, as their `activation`.

Each is Keras 3's function of the same name with its default parameters, computed by the engine in x's own float type. `hard_sigmoid_02` is the hard_sigmoid of
Keras 1 and 2 and of ONNX, ``0.2 x + 0.5`` clipped to [0, 1]; that of Keras 3 and PyTorch is ``x / 6 + 0.5``. `leaky_relu` has Keras' slope of 0.2 below zero;
`leaky_relu_001` has 0.01, that of PyTorch's and ONNX's, and `leaky_relu_03` 0.3, that of Keras' layer LeakyReLU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import suggest

_ALIASES = {"swish": "silu", "hard_swish": "hard_silu", "exp": "exponential"}


class Activation:
    """One activation: call it on an array of any shape."""

    def __init__(self, name: str) -> None:
        self.name = self.__name__ = name

    def __call__(self, x: Any) -> np.ndarray:
        """f(x), in float32 or float64 as x is; other numbers become float32."""
        array = np.asarray(x)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32)
        return _engine.elementwise(self.name, array)

    def __repr__(self) -> str:
        return f"<activation {self.name}>"


LEAKY = {"leaky_relu": 0.2, "leaky_relu_001": 0.01, "leaky_relu_03": 0.3}  # the slopes below zero
ROWS = _engine.ACTIVATIONS[_engine.ACTIVATIONS.index("softmax") :]  # that work on all values of a row together
_ALL = {name: Activation(name) for name in _engine.ACTIVATIONS}
globals().update(_ALL)
__all__ = ["Activation", "get", "glu", "name_of", *_ALL]


def glu(x: Any) -> np.ndarray:
    """The gated linear unit: ``a * sigmoid(g)`` of the halves [a, g] of the last axis (Dauphin et al. 2017, arXiv 1612.08083). As a layer: ``Activation("glu")``."""
    array = np.asarray(x)
    if array.ndim == 0 or array.shape[-1] % 2:
        raise ValueError(f"activations.glu: the last axis must have an even size, got shape {array.shape}.")
    value, gate = np.split(array, 2, axis=-1)
    return value * _ALL["sigmoid"](gate)


def name_of(owner: str, argument: str, identifier: Any) -> str:
    """The engine's name of an activation given as a name, one of this module's functions, or None (linear)."""
    if identifier is None:
        return "linear"
    name = identifier.name if isinstance(identifier, Activation) else identifier
    name = _ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in _ALL:
        raise ValueError(f"{owner}: unknown {argument} {identifier!r}. {suggest(str(identifier), [*_ALL, *_ALIASES])}")
    return name


def of_units(owner: str, argument: str, identifier: Any) -> str:
    """As name_of, for a recurrent layer whose activations must work on each unit by itself."""
    name = name_of(owner, argument, identifier)
    if name in ROWS:
        raise ValueError(f"{owner}: {argument} must work on each unit by itself, got {name!r}, which works on rows. Use it in a layer behind this one.")
    return name


def get(identifier: Any) -> Callable[[Any], np.ndarray]:
    """The function for a name, a function of this module, or None.

    Examples
    --------
    >>> get("relu")([-1.0, 2.0])
    array([0., 2.])
    """
    return glu if identifier in ("glu", glu) else _ALL[name_of("activations.get", "activation", identifier)]
