"""Recurrent networks on CPUs.

Layers with Keras' names, trained and run by a native engine::

    models -> layers -> plan -> _engine -> csrc

A model's layers describe themselves to a plan, a flat list of ops over one arena of memory; the engine runs it in one call on all cores.
"""

from importlib import import_module
from typing import Any

from rnnfast import (
    activations,
    callbacks,
    config,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
    utils,
)
from rnnfast._engine import get_float32_matmul_precision, get_num_threads, set_float32_matmul_precision, set_num_threads
from rnnfast.errors import FormatError, NotBuiltError, ShapeError, UnsupportedISAError
from rnnfast.layers import Input, register_cell
from rnnfast.models.model import Model
from rnnfast.models.sequential import Sequential

# imported at the first use, so that a model in a service starts fast
_LATER = ("builders", "data", "decoding", "diagnostics", "interop", "sklearn", "torch")
_LATER_FROM = {"from_keras": "interop", "from_onnx": "interop", "from_torch": "interop", "load": "interop", "show_config": "_report"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return import_module(f"rnnfast.{name}")
    if name in _LATER_FROM:
        return getattr(import_module(f"rnnfast.{_LATER_FROM[name]}"), name)
    raise AttributeError(f"module 'rnnfast' has no attribute {name!r}")


__version__ = "0.1.0"
__all__ = [
    "FormatError",
    "Input",
    "Model",
    "NotBuiltError",
    "Sequential",
    "ShapeError",
    "UnsupportedISAError",
    "__version__",
    "activations",
    "builders",
    "callbacks",
    "config",
    "constraints",
    "data",
    "decoding",
    "diagnostics",
    "from_keras",
    "from_onnx",
    "from_torch",
    "get_float32_matmul_precision",
    "get_num_threads",
    "initializers",
    "interop",
    "layers",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "register_cell",
    "regularizers",
    "schedules",
    "set_float32_matmul_precision",
    "set_num_threads",
    "show_config",
    "utils",
]
