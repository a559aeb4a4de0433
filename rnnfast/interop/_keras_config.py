"""A Keras model's configuration, of version 2 or 3, read into parts and their calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from rnnfast import layers
from rnnfast.interop._keras_layers import MODELS, Maker, is_plain


@dataclass(frozen=True)
class Ref:
    """An output of a call: the part's name, which of its calls, which output."""

    name: str
    call: int
    output: int


@dataclass
class Part:
    """A layer of Keras: a nested model has its net, an operation neither net nor layers."""

    name: str
    saved: dict[str, Any]
    layers: list[layers.Layer] = field(default_factory=list)
    net: Net | None = None
    calls: list[tuple[list[Any], dict[str, Any]]] = field(default_factory=list)
    arrays: list[np.ndarray] = field(default_factory=list)  # the weights, in Keras' order
    flags: dict[str, bool] | None = None

    @property
    def kind(self) -> str:
        return str(self.saved["class_name"])

    @property
    def is_input(self) -> bool:
        return self.kind == "InputLayer"


@dataclass
class Net:
    """A model of Keras."""

    name: str
    parts: dict[str, Part]
    inputs: list[Ref]
    outputs: list[Ref]
    chain: bool = False
    keys: list[str] | None = None  # of outputs that are a dict
    input_keys: list[str] | None = None

    def leaves(self) -> Iterator[Part]:
        """All layers, those of nested models too."""
        for part in self.parts.values():
            yield from part.net.leaves() if part.net else [part]


def parse(maker: Maker, saved: Any, prefix: str = "") -> Net:
    """The parts of a model; layers of nested models are called by the model's name and their own."""
    if not isinstance(saved, dict) or saved.get("class_name") not in MODELS or not is_plain(saved, "models", "engine", "layers", "functional"):
        found = saved.get("registered_name") or saved.get("class_name") if isinstance(saved, dict) else saved
        maker.refuse("model", f"must be a Sequential or functional model of Keras, got {str(found)[:100]!r}. A class of its own is code, which is not run: make a functional model of it in Keras")
    config = saved["config"] if isinstance(saved["config"], dict) else {"layers": saved["config"]}
    name, chain = str(config.get("name") or "model"), saved["class_name"] == "Sequential"
    parts: dict[str, Part] = {}
    for one in config["layers"]:
        part = Part(str(one.get("name") or one["config"].get("name") or f"layer_{len(parts)}"), one)
        if part.name in parts:
            maker.refuse(f"layer '{part.name}'", "the name occurs twice")
        if one["class_name"] in MODELS:
            part.net = parse(maker, one, f"{prefix}{part.name}/")
        elif not part.is_input and not is_operation(one):
            part.layers = maker.make(one, prefix + part.name)
        parts[part.name] = part
    if chain:
        return _chain(name, config, parts)
    for part in parts.values():
        part.calls = [_call(node) for node in part.saved.get("inbound_nodes", [])]
    ends = [config["input_layers"], config["output_layers"]]
    keys = [sorted(one) if isinstance(one, dict) else None for one in ends]
    net = Net(name, parts, _ends(ends[0]), _ends(ends[1]), keys=keys[1], input_keys=keys[0])
    _renumber(net)
    return net


def is_operation(saved: dict[str, Any]) -> bool:
    """Whether this is a function in a graph of Keras 3, as + is; an .h5 file does not name its module."""
    return ".ops." in str(saved.get("module")) or ("module" not in saved and "trainable" not in saved["config"] and saved["class_name"] not in (*MODELS, "InputLayer", "SpatialDropout1D"))


def _chain(name: str, config: dict[str, Any], parts: dict[str, Part]) -> Net:
    """A Sequential, whose input may be known from its first layer alone."""
    order = list(parts.values())
    if not order:
        raise ValueError("a Sequential must have layers")
    if not order[0].is_input:
        shape = order[0].saved["config"].get("batch_input_shape") or config.get("build_input_shape") or (order[0].saved.get("build_config") or {}).get("input_shape")
        order.insert(0, Part(f"{order[0].name}_input", {"class_name": "InputLayer", "config": {"batch_shape": shape}}))
    for before, part in pairwise(order):
        part.calls = [([Ref(before.name, 0, 0)], {})]
    return Net(name, {part.name: part for part in order}, [Ref(order[0].name, 0, 0)], [Ref(order[-1].name, 0, 0)], True)


def _call(node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call: of Keras 3 as they were given, of Keras 2 the tensors in one list, each with the call's other arguments."""
    if isinstance(node, dict):
        return _tensors(node["args"]), _tensors(node["kwargs"])
    refs = [Ref(str(one[0]), int(one[1]), int(one[2])) for one in node]
    return [refs if len(refs) > 1 else refs[0]], dict(node[0][3]) if len(node[0]) > 3 else {}


def _tensors(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_tensors(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":
        name, call, output = value["config"]["keras_history"]
        return Ref(str(name), int(call), int(output))
    return {key: _tensors(one) for key, one in sorted(value.items())}


def _ends(value: Any) -> list[Ref]:
    """Inputs or outputs of a model: one, a list, or a dict, which Keras takes in the order of its names."""
    if isinstance(value, dict):
        return [ref for _, one in sorted(value.items()) for ref in _ends(one)]
    if len(value) == 3 and isinstance(value[0], str):
        return [Ref(value[0], int(value[1]), int(value[2]))]
    return [ref for one in value for ref in _ends(one)]


def flat(value: Any) -> list[Any]:
    """The entries of nested lists and dicts."""
    if isinstance(value, dict):
        return [one for key in sorted(value) for one in flat(value[key])]
    return [one for entry in value for one in flat(entry)] if isinstance(value, list) else [value]


def _renumber(net: Net) -> None:
    """Count a nested model's calls from 0. Files count its own making as call 0: those of Keras 2 everywhere, those of Keras 3 in the outputs."""
    for name, part in net.parts.items():
        if part.net is None:
            continue
        old = any(isinstance(node, list) for node in part.saved.get("inbound_nodes", []))
        calls = [one for other in net.parts.values() for args, kwargs in other.calls for one in flat([args, kwargs]) if isinstance(one, Ref) and one.name == name]
        first = min((one.call for one in [*calls, *net.outputs] if one.name == name), default=0) if old else int(part.kind != "Sequential")
        moved = lambda one, name=name, first=first: Ref(name, one.call - first, one.output) if isinstance(one, Ref) and one.name == name else one
        net.outputs = [moved(one) for one in net.outputs]
        if old:
            for other in net.parts.values():
                other.calls = [(mapped(moved, args), mapped(moved, kwargs)) for args, kwargs in other.calls]


def mapped(function: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: mapped(function, one) for key, one in value.items()}
    return [mapped(function, one) for one in value] if isinstance(value, list) else function(value)
