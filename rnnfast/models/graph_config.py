"""Graphs as JSON can hold them."""

from __future__ import annotations

from typing import Any

from rnnfast.layers import deserialize, serialize
from rnnfast.layers import graph as graphs
from rnnfast.layers.graph import Graph, Node, Symbol


def to_config(graph: Graph) -> dict[str, Any]:
    """The layers, nodes, inputs and outputs: a symbol is [place of its node, which of its outputs], an input [-1 - its place, 0]."""
    layers = graph.layers
    places: dict[Symbol, list[int]] = {s: [-1 - i, 0] for i, s in enumerate(graph.inputs)}
    nodes = []
    for i, node in enumerate(graph.nodes):
        nodes.append([layers.index(node.layer), [places[s] for s in node.inputs], [places[s] for s in node.states]])
        places |= {s: [i, j] for j, s in enumerate(node.outputs)}
    inputs = [layers.index(s.layer) for s in graph.inputs]  # type: ignore[arg-type]
    return {"layers": [serialize(layer) for layer in layers], "nodes": nodes, "inputs": inputs, "outputs": [places[s] for s in graph.outputs]}


def from_config(config: dict[str, Any]) -> Graph:
    """The graph, with new layers, of :func:`to_config`'s result; outputs may be a dict of names and places."""
    layers = [deserialize(saved) for saved in config["layers"]]
    inputs = [graphs.symbol_of(layers[i]) for i in config["inputs"]]
    nodes: list[Node] = []

    def at(place: list[int]) -> Any:
        return inputs[-1 - place[0]] if place[0] < 0 else nodes[place[0]].outputs[place[1]]

    for number, sources, states in config["nodes"]:
        given = [at(place) for place in sources]
        found = layers[number](given if layers[number].many else given[0], initial_state=[at(place) for place in states] or None)
        nodes.append((found[0] if isinstance(found, list) else found).node)
    outputs = config["outputs"]
    return Graph(nodes, inputs, [at(place) for place in (outputs.values() if isinstance(outputs, dict) else outputs)])  # type: ignore[arg-type]
