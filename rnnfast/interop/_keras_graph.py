"""A Keras model's configuration, read into parts and calls, and the rnnfast model made of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnnfast import layers
from rnnfast.interop._keras_layers import MODELS, Maker, is_plain
from rnnfast.interop._keras_masks import Masks
from rnnfast.layers.base import given_weights
from rnnfast.layers.graph import Graph, Node, Symbol, between
from rnnfast.models.model import Model
from rnnfast.models.sequential import Sequential

MAX_CALLS = 20_000


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
        elif not part.is_input and not _is_operation(one):
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


def _is_operation(saved: dict[str, Any]) -> bool:
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
    for before, part in zip(order, order[1:], strict=False):
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
                other.calls = [(_map(moved, args), _map(moved, kwargs)) for args, kwargs in other.calls]


def _map(function: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map(function, one) for key, one in value.items()}
    return [_map(function, one) for one in value] if isinstance(value, list) else function(value)


class Assembler:
    """Makes the rnnfast model of a net whose parts have their weights.

    Parameters
    ----------
    maker : Maker
    """

    def __init__(self, maker: Maker) -> None:
        self.maker, self.masks = maker, Masks(maker)
        self.calls = 0

    def model(self, net: Net) -> Model | Sequential:
        """The model."""
        dtypes = {layer.dtype for part in net.leaves() for layer in part.layers}
        if len(dtypes) > 1:
            self.maker.refuse("model", f"all layers must have one dtype, got {sorted(dtypes)}")
        names = net.input_keys or [ref.name for ref in net.inputs]
        inputs = [self._input(net.parts[ref.name], name, *dtypes) for ref, name in zip(net.inputs, names, strict=True)]
        outputs = self.run(net, [layer.symbol for layer in inputs])
        unread = {s.layer for s, mask in self.masks.of_keras.items() if isinstance(s.layer, layers.Embedding) and mask not in self.masks.read}
        if unread and self.masks.dropped:  # simpler without masks
            for layer in unread:
                layer.mask_zero = False
            self.masks, self.calls = Masks(self.maker), 0
            outputs = self.run(net, [layer.symbol for layer in inputs])
        graph = self._ordered(between([layer.symbol for layer in inputs], outputs), net)
        self.masks.finish(graph)
        for part in net.leaves():
            if any(not layer.built for layer in part.layers):
                self.maker.refuse(f"layer '{part.name}'", "leads to none of the outputs")
        order = [node.layer for node in graph.nodes]
        if net.chain and len(set(order)) == len(order) and not any(layer.many for layer in order):
            return Sequential([inputs[0], *order], name=net.name)
        return Model.from_graph(graph, net.name, net.keys)

    def _ordered(self, graph: Graph, net: Net) -> Graph:
        """The nodes such that the layers, and so the weights, are in Keras' order: those of a nested model together."""
        ranks = {layer: rank for rank, layer in enumerate(layer for part in net.leaves() for layer in part.layers)}
        ranks |= {plain.layer: ranks[symbol.layer] for symbol, plain in self.masks.dropped.items() if symbol.layer in ranks}  # type: ignore[dict-item]
        waits = {node: {s.node for s in [*node.inputs, *node.states] if s.node is not None} for node in graph.nodes}
        readers: dict[Node, list[Node]] = {}
        for node, sources in waits.items():
            for source in sources:
                readers.setdefault(source, []).append(node)
        places = {node: i for i, node in enumerate(graph.nodes)}
        ready = [(ranks.get(node.layer, 0), places[node], node) for node in graph.nodes if not waits[node]]
        heapq.heapify(ready)
        nodes = []
        while ready:
            node = heapq.heappop(ready)[-1]
            nodes.append(node)
            for reader in readers.get(node, []):
                waits[reader].discard(node)
                if not waits[reader]:
                    heapq.heappush(ready, (ranks.get(reader.layer, 0), places[reader], reader))
        return Graph(nodes, graph.inputs, graph.outputs)

    def _input(self, part: Part, name: str, dtype: str = "float32") -> layers.InputLayer:
        config = part.saved["config"]
        if not part.is_input or config.get("sparse") or config.get("ragged"):
            self.maker.refuse(f"input '{part.name}'", "must be an InputLayer, neither sparse nor ragged")
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        if not shape:
            self.maker.refuse(f"input '{part.name}'", "its shape is not known; build the model in Keras, or begin it with Input(shape)")
        return layers.InputLayer(batch_shape=tuple(shape), name=name, dtype=dtype)

    def run(self, net: Net, given: list[Symbol]) -> list[Symbol]:
        """The outputs of a net for some inputs; called again for each use of a nested model."""
        if len(given) != len(net.inputs):
            self.maker.refuse(f"model '{net.name}'", f"has {len(net.inputs)} inputs, is called on {len(given)}")
        values: dict[tuple[str, int], Any] = {(ref.name, ref.call): [symbol] for ref, symbol in zip(net.inputs, given, strict=True)}
        busy: set[tuple[str, int]] = set()

        def value(ref: Any) -> Any:
            if not isinstance(ref, Ref):
                return ref
            place = (ref.name, ref.call)
            if place not in values:
                if place in busy or ref.name not in net.parts or not 0 <= ref.call < len(net.parts[ref.name].calls) or ref.output < 0:
                    self.maker.refuse(f"layer '{ref.name}'", f"its call {ref.call} {'needs its own result' if place in busy else 'is not there'}")
                busy.add(place)
                part = net.parts[ref.name]
                args, kwargs = part.calls[ref.call]
                values[place] = self.call(part, _map(value, args), _map(value, kwargs))
            return values[place][ref.output]

        for part in net.parts.values():
            for i in range(len(part.calls)):
                value(Ref(part.name, i, 0))
        return [value(ref) for ref in net.outputs]

    def call(self, part: Part, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        """What a part gives for the arguments of one of its calls."""
        self.calls += 1
        member = f"{part.kind} '{part.name}'"
        if self.calls > MAX_CALLS:
            self.maker.refuse(member, f"is call {MAX_CALLS + 1} of a layer; there may not be more")
        if _is_operation(part.saved):
            return [self.masks.operation(member, part.kind, [*args, *kwargs.values()])]
        inputs, states, flags = self._arguments(part, member, args, kwargs)
        if part.net is not None:
            return self.run(part.net, inputs)
        with self.maker.naming(member), given_weights(part.arrays):
            return self._apply(part, inputs, states, flags)

    def _arguments(self, part: Part, member: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Symbol], list[Symbol], dict[str, bool]]:
        """Inputs, initial states, and an attention's flags."""
        recurrent = bool(part.layers) and hasattr(part.layers[0], "describe_states")
        inputs, rest = flat(args[:1]), dict(kwargs)
        if recurrent and len(args) > 1:
            rest["initial_state"] = args.pop(1)
        states = inputs[1:] + [one for one in flat(rest.pop("initial_state", [])) if one is not None] if recurrent else []
        inputs = inputs[:1] if recurrent else inputs
        self.masks.check_given(part.layers, member, rest.pop("mask", None), inputs)
        attends = bool(part.layers) and isinstance(part.layers[0], layers.Attention)
        flags = {name: bool(rest.pop(name)) for name in ("return_attention_scores", "use_causal_mask") if attends and name in rest}
        wrong = next((f"{name}={str(one)[:50]}" for name, one in rest.items() if one not in (None, False)), None) or (f"{len(args)} arguments" if len(args) > 1 else None)
        if wrong or not all(isinstance(one, Symbol) for one in [*inputs, *states]) or not inputs:
            self.maker.refuse(member, f"is called with {wrong or 'something that is no tensor of a layer'}, which is not supported")
        return inputs, states, flags

    def _apply(self, part: Part, inputs: list[Symbol], states: list[Symbol], flags: dict[str, bool]) -> list[Symbol]:
        if part.flags is not None and part.flags != flags:
            raise ValueError("is called with different flags, which are the layer's own in rnnfast")
        part.flags = flags
        outputs, final = inputs, []
        for layer in part.layers:
            count = len(states) if layer is part.layers[-1] else getattr(layer, "states", 0)
            given, states = states[:count], states[count:]
            ready = self.masks.before(layer, outputs)
            found = layer(ready if layer.many else _only(ready), **({"initial_state": given} if given else {}), **flags)
            outputs = found if isinstance(found, list) else [found]
            self.masks.after(layer, ready, outputs)
            if len(part.layers) > 1 and getattr(layer, "return_state", False):
                outputs, final = outputs[:1], final + outputs[1:]
        return outputs + final


def _only(inputs: list[Symbol]) -> Symbol:
    if len(inputs) != 1:
        raise ValueError(f"takes one input, got {len(inputs)}")
    return inputs[0]
