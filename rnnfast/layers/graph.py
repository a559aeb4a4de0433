"""Graphs: which layer takes what from which. A layer called on a symbol adds a node; a chain of layers is the simplest graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from rnnfast.errors import ShapeError

if TYPE_CHECKING:
    from rnnfast.layers.base import Layer

Shape = tuple[int | None, ...]


@dataclass(eq=False)
class Symbol:
    """A tensor of a graph, without numbers.

    Attributes
    ----------
    shape : tuple of int or None
        Batch first, None where it may vary.
    layer : Layer or None
        What makes it: for an input its InputLayer, if it has one.
    node : Node or None
        None for an input.
    """

    shape: Shape
    layer: Layer | None = None
    node: Node | None = None

    def __repr__(self) -> str:
        return f"<Symbol {self.shape} of '{self.layer.name if self.layer else 'input'}'>"


@dataclass(eq=False)
class Node:
    """One use of a layer: what it takes, the states that it starts from, what it gives."""

    layer: Layer
    inputs: list[Symbol]
    states: list[Symbol]
    outputs: list[Symbol] = field(default_factory=list)


@dataclass
class Graph:
    """Nodes, each after those that it takes from."""

    nodes: list[Node]
    inputs: list[Symbol]
    outputs: list[Symbol]

    @property
    def layers(self) -> list[Layer]:
        """Each layer once, inputs' first."""
        made = [s.layer for s in self.inputs if s.layer is not None]
        return list(dict.fromkeys([*made, *(node.layer for node in self.nodes)]))

    def uses(self) -> Counter[Symbol]:
        """How often each symbol is read."""
        return Counter([*self.outputs, *(symbol for node in self.nodes for symbol in (*node.inputs, *node.states))])

    def numbers(self, given: Iterable[Shape]) -> int:
        """How many a plan has, at most, in all tensors together and in the maps of their steps, for inputs of these shapes."""
        shapes: dict[Symbol, Any] = dict(zip(self.inputs, given, strict=True))
        for node in self.nodes:
            inputs = [shapes[s] for s in node.inputs]
            shapes.update(zip(node.outputs, node.layer.output_shapes(inputs if node.layer.many else inputs[0]), strict=True))
        return sum(prod(n or 1 for n in shape) + 18 * prod(n or 1 for n in shape[:2]) for shape in shapes.values())

    def __getstate__(self) -> dict[str, Any]:
        """Connections as numbers: copies and pickles would follow the references of a long graph too deep."""
        places = {s: i for i, s in enumerate([*self.inputs, *(s for node in self.nodes for s in node.outputs)])}
        nodes = [(n.layer, [places[s] for s in n.inputs], [places[s] for s in n.states], [s.shape for s in n.outputs]) for n in self.nodes]
        return {"nodes": nodes, "inputs": self.inputs, "outputs": [places[s] for s in self.outputs]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.nodes, self.inputs = [], state["inputs"]
        symbols = list(self.inputs)
        for layer, inputs, states, shapes in state["nodes"]:
            node = Node(layer, [symbols[i] for i in inputs], [symbols[i] for i in states])
            node.outputs = [Symbol(shape, layer, node) for shape in shapes]
            self.nodes.append(node)
            symbols += node.outputs
        self.outputs = [symbols[i] for i in state["outputs"]]


def symbol_of(x: Any) -> Symbol | None:
    """x as a symbol: one itself, or what an `Input` stands for; None for anything else."""
    return x if isinstance(x, Symbol) else getattr(x, "symbol", None)


def symbols_of(x: Any) -> list[Symbol] | None:
    """The symbols of a call's argument; None if it has numbers."""
    found = [symbol_of(one) for one in (x if isinstance(x, list | tuple) else [x])]
    return [s for s in found if s is not None] if found and all(s is not None for s in found) else None


def apply(layer: Layer, inputs: list[Symbol], states: Iterable[Symbol] = ()) -> list[Symbol]:
    """Add a node; its outputs, first the layer's, then its states if it returns them."""
    node = Node(layer, inputs, list(states))
    sizes = [n for one in (layer.sublayers() or [layer]) for n in one.state_sizes] if node.states else []  # type: ignore[attr-defined]
    if node.states and [s.shape[1:] for s in node.states] != [(n,) for n in sizes]:
        raise ShapeError(f"{type(layer).__name__} '{layer.name}': initial_state must have shapes {[(None, n) for n in sizes]}, got {[s.shape for s in node.states]}.")
    shape: Any = [s.shape for s in inputs] if layer.many else inputs[0].shape
    node.outputs = [Symbol(tuple(one), layer, node) for one in layer.output_shapes(shape)]
    return node.outputs


def chain(layers: Sequence[Layer]) -> Graph:
    """The graph of layers one after the other: each takes the first output of the one before."""
    first = symbol_of(layers[0])
    source = first or Symbol(layers[0].input_shape or (), None)
    nodes, outputs = [], [source]
    for layer in layers[1 if first else 0 :]:
        outputs = apply(layer, [outputs[0]])
        nodes.append(outputs[0].node)
    return Graph([n for n in nodes if n is not None], [source], outputs)


def between(inputs: list[Symbol], outputs: list[Symbol]) -> Graph:
    """The graph that leads from some symbols to others. Nodes, and so layers and their weights, stand in Keras' order: the further from the outputs the earlier.

    Raises
    ------
    ValueError
        If an output depends on an input that is not among `inputs`, or an input on nothing that is asked for.
    """
    order, places = _walk(inputs, outputs)
    depths: dict[Node | Layer | None, int] = {}
    for node in reversed(order):  # each before those that it takes from
        depth = depths[node] = depths[node.layer] = max(depths.get(node, 0), depths.get(node.layer, 0))
        for symbol in [*node.inputs, *node.states]:
            depths[symbol.node] = max(depths.get(symbol.node, 0), depth + 1)
    return Graph(sorted(order, key=lambda node: (-depths[node], places[node.layer])), inputs, outputs)


def _walk(inputs: list[Symbol], outputs: list[Symbol]) -> tuple[list[Node], dict[Layer, int]]:
    """The nodes, each after those that it takes from, and the layers' places in the order in which a walk from the outputs meets them."""
    order: list[Node] = []
    places: dict[Layer, int] = {}
    seen: set[Symbol | Node] = set()
    pending: list[Symbol | Node] = list(reversed(outputs))
    while pending:
        found = pending.pop()
        if isinstance(found, Node):  # all that it takes from has been met
            order.append(found)
            continue
        seen.add(found)
        if found in inputs or found.node in seen:
            continue
        if found.node is None:
            name = f"'{found.layer.name}'" if found.layer else "without a layer"
            raise ValueError(f"Model: outputs depend on the input {name} of shape {found.shape}, which must be among inputs.")
        seen.add(found.node)
        places.setdefault(found.node.layer, len(places))
        pending += [found.node, *reversed([*found.node.inputs, *found.node.states])]
    for i, symbol in enumerate(inputs):
        if symbol not in seen:
            raise ValueError(f"Model: inputs[{i}] of shape {symbol.shape} leads to none of the outputs; leave it out.")
    return order, places
