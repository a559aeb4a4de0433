"""What the formats in JSON share: arrays of nested lists, and models that are a chain of layers."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from rnnfast import config
from rnnfast.interop.bounds import refuse
from rnnfast.layers import Layer
from rnnfast.layers.recurrent import Recurrent
from rnnfast.models.saving import replacing

Path = str | os.PathLike[str]


def array(path: Path, member: str, value: Any) -> np.ndarray:
    """The array that nested lists of numbers give; ragged lists, and what is not a finite number, are refused."""
    shape: list[int] = []
    inner, level = value, [value]
    while isinstance(inner, list) and len(shape) <= 4:
        shape.append(len(inner))
        inner = inner[0] if inner else None
    for n in shape:
        if any(not isinstance(one, list) or len(one) != n for one in level):
            refuse(path, member, "must be lists of one length")
        level = [x for one in level for x in one]
    wrong = set(map(type, level)) - {int, float}
    if wrong or not level:
        refuse(path, member, f"must be numbers, got {', '.join(sorted(one.__name__ for one in wrong)) or 'an empty list'}")
    try:
        with np.errstate(over="ignore"):
            found = np.array(level, np.float64).reshape(shape).astype(config.floatx())
    except OverflowError:
        refuse(path, member, "holds an integer that no float can hold")
    if not np.isfinite(found).all():
        refuse(path, member, f"holds numbers that are not finite in {config.floatx()}")
    return found


def size(path: Path, member: str, value: Any) -> int:
    """value as a positive integer."""
    if type(value) is not int or not 0 < value < 1 << 31:
        refuse(path, member, f"must be a positive integer, got {str(value)[:40]}")
    return value


def origin(path: Path, members: dict[str, Any]) -> dict[str, Any] | None:
    """What a file says of its model beside layers and weights; None if that is nothing."""
    try:
        json.dumps(members, allow_nan=False)
    except (ValueError, RecursionError) as error:
        refuse(path, ", ".join(members)[:80], f"cannot be kept ({error})")
    return members or None


def chain(path: Path, model: Any) -> list[Layer]:
    """The layers of a model that is a chain of them with one input, without those that do nothing at inference."""
    graph = model.graph()
    last = graph.inputs[0]
    for node in graph.nodes:
        if len(graph.inputs) > 1 or node.inputs != [last] or node.states:
            refuse(path, f"layer '{node.layer.name}'", "this format holds chains of layers, each with one input and without given states")
        last = node.outputs[0]
    if graph.outputs != [last]:
        refuse(path, f"model '{model.name}'", f"this format holds models whose one output is their last layer's, got {len(graph.outputs)} outputs")
    return [node.layer for node in graph.nodes if type(node.layer).__name__ not in ("Dropout", "SpatialDropout1D")]


def gate_weights(path: Path, layer: Recurrent) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias (zeros if it has none) of a plain LSTM or GRU, as these formats' programs compute them."""
    where = f"{type(layer).__name__} '{layer.name}'"
    gates = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False, "zoneout": 0.0, "zoneout_cell": 0.0}
    for name, expected in gates.items():
        if getattr(layer, name, expected) != expected:
            refuse(path, where, f"{name} must be {expected!r} in this format, got {getattr(layer, name)!r}")
    kernel, recurrent, *rest = layer.get_weights()
    return [kernel, recurrent, rest[0] if layer.use_bias else np.zeros(layer.bias_shape())]


def initial_states(layer: Recurrent) -> list[np.ndarray]:
    """The states that a sequence starts from, each (H,)."""
    return [state[0] for state in layer.initial_values(1)]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, atomically."""
    text = json.dumps(content, allow_nan=False).encode()
    with replacing(os.fspath(path)) as file:
        file.write(text)
