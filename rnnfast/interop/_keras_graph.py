"""The rnnfast model of a Keras model's parts."""

from __future__ import annotations

import heapq
from typing import Any

from rnnfast import layers
from rnnfast.interop._keras_config import Net, Part, Ref, flat, is_operation, mapped
from rnnfast.interop._keras_layers import Maker
from rnnfast.interop._keras_masks import Masks
from rnnfast.layers.base import given_weights
from rnnfast.layers.graph import Graph, Node, Symbol, between
from rnnfast.models.model import Model
from rnnfast.models.sequential import Sequential

MAX_CALLS = 20_000


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
        embedded = [(s.layer, mask) for s, mask in self.masks.of_keras.items() if isinstance(s.layer, layers.Embedding)]
        unread = {layer for layer, _ in embedded} - {layer for layer, mask in embedded if mask in self.masks.read}
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
        ranks |= {plain.layer: ranks[symbol.layer] for symbol, plain in self.masks.dropped.items() if symbol.layer in ranks and plain.layer}
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
                values[place] = self.call(part, mapped(value, args), mapped(value, kwargs))
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
        if is_operation(part.saved):
            return [self.masks.operation(member, part.kind, [*args, *kwargs.values()])]
        inputs, states, flags = self._arguments(part, member, args, kwargs)
        blind = bool(states) and not self.maker.old and kwargs.get("mask") is None  # Keras 3 finds the mask of a call's one tensor alone
        if part.net is not None:
            return self.run(part.net, inputs)
        with self.maker.naming(member), given_weights(part.arrays):
            return self._apply(part, inputs, states, flags, blind)

    def _arguments(self, part: Part, member: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Symbol], list[Symbol], dict[str, bool]]:
        """Inputs, initial states, and an attention's flags."""
        recurrent = bool(part.layers) and part.layers[0].has_states
        inputs, rest = flat(args[:1]), dict(kwargs)
        if recurrent and len(args) > 1:
            rest["initial_state"] = args.pop(1)
        states = inputs[1:] + [one for one in flat(rest.pop("initial_state", [])) if one is not None] if recurrent else []
        inputs = inputs[:1] if recurrent else inputs
        self.masks.check_given(part.layers, member, rest.pop("mask", None), inputs)
        attends = bool(part.layers) and isinstance(part.layers[0], layers.Attention)
        flags: dict[str, bool] = {name: bool(rest.pop(name)) for name in ("return_attention_scores", "use_causal_mask") if attends and name in rest}
        wrong = next((f"{name}={str(one)[:50]}" for name, one in rest.items() if one not in (None, False)), None) or (f"{len(args)} arguments" if len(args) > 1 else None)
        if wrong or not all(isinstance(one, Symbol) for one in [*inputs, *states]) or not inputs:
            self.maker.refuse(member, f"is called with {wrong or 'something that is no tensor of a layer'}, which is not supported")
        return inputs, states, flags

    def _apply(self, part: Part, inputs: list[Symbol], states: list[Symbol], flags: dict[str, bool], blind: bool) -> list[Symbol]:
        if part.flags is not None and part.flags != flags:
            raise ValueError("is called with different flags, which are the layer's own in rnnfast")
        part.flags = flags
        outputs = inputs
        final: list[Symbol] = []
        handed = self.masks.of_keras.get(inputs[0]) if blind else None
        for layer in part.layers:
            count = len(states) if layer is part.layers[-1] else getattr(layer, "states", 0)
            given, states = states[:count], states[count:]
            ready = self.masks.before(layer, outputs, blind)
            found = layer(ready if layer.many else _only(ready), initial_state=given or None, **flags)  # type: ignore[arg-type]
            outputs = found if isinstance(found, list) else [found]
            self.masks.after(layer, ready, outputs, handed)
            if len(part.layers) > 1 and getattr(layer, "return_state", False):
                outputs, final = outputs[:1], final + outputs[1:]
        return outputs + final


def _only(inputs: list[Symbol]) -> Symbol:
    if len(inputs) != 1:
        raise ValueError(f"takes one input, got {len(inputs)}")
    return inputs[0]
