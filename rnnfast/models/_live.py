"""What streams and pools of streams have in common: which layers can be live, their states, and the plans of their steps."""

from __future__ import annotations

from copy import copy
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import ShapeError
from rnnfast.layers.graph import Graph, Node, Symbol
from rnnfast.layers.inlets import Inlet, each
from rnnfast.layers.runner import Arrays, Bound, States, describe
from rnnfast.plan import Builder
from rnnfast.plan.live import Live

if TYPE_CHECKING:
    from rnnfast.models.model import Runnable


def refusal(node: Node, graph: Graph) -> str | None:
    """Why a layer cannot be part of a live sequence, or None."""
    layer: Any = node.layer
    if not layer.streams or getattr(layer, "go_backwards", False):
        return str(layer.waits_for)
    if any(s not in graph.inputs or any(s in other.inputs for other in graph.nodes) for s in node.states):
        return "it starts from what other layers give. Make a model of what follows, with an Input for each of its initial states, and stream that"
    if layer.stream_start() and sum(other.layer is layer for other in graph.nodes) > 1:
        return "it is used more than once, and a live sequence keeps one state of a layer"
    return None


class LiveModel:
    """A model as its live sequences see it.

    Inputs that layers only start from (initial states) are not inputs of a step: a sequence starts from zeros, or from what `set_state` gives it.

    Parameters
    ----------
    model : Sequential or Model
        Built.
    """

    def __init__(self, model: Runnable) -> None:
        self.model, self.runner = model, model.runner()
        graph, self.owner, self.dtype = self.runner.graph, self.runner.owner, self.runner.dtype
        for node in graph.nodes:
            reason = refusal(node, graph)
            if reason:
                raise ValueError(f"{type(node.layer).__name__} '{node.layer.name}': cannot be streamed, because {reason}.")
        states: set[Symbol] = {s for node in graph.nodes for s in node.states}
        self.inlets = [self._inlet(inlet) for inlet in self.runner.inlets if inlet.symbol not in states]
        self.names = [inlet.name for inlet in self.inlets]
        self.widths: list[tuple[int, ...]] = [tuple(inlet.shape[2:]) for inlet in self.inlets]  # type: ignore[misc, arg-type]
        self.pace = prod(layer.pace for layer in self.runner.layers)
        self.keeping = [layer for layer in self.runner.layers if layer.stream_start()]

    def _inlet(self, inlet: Inlet) -> Inlet:
        """An input of any number of steps."""
        if len(inlet.shape) < (2 if inlet.tokens else 3):
            raise ValueError(f"{self.owner}: cannot be streamed, because its input '{inlet.name}' of shape {inlet.shape} has no time axis.")
        made = copy(inlet)
        made.shape = (None, None, *inlet.shape[2:])
        return made

    @property
    def current(self) -> bool:
        """Whether the model's weights still stand where they did."""
        return self.model.runner() is self.runner

    def plan(self, states: States, rows: int, time: int) -> Bound:
        """The plan for chunks of `time` steps of up to so many sequences."""
        runner, graph = self.runner, self.runner.graph
        b = Builder(runner.params, False, False, _engine.get_num_threads())
        b.live = Live(states, rows)
        shapes = [(rows, time, *width) for width in self.widths]
        sources = [runner.source(inlet, np.broadcast_to(0, shape), False, False) for inlet, shape in zip(self.inlets, shapes, strict=True)]
        tensors = {inlet.symbol: source for inlet, source in zip(self.inlets, sources, strict=True)}
        describe(b, graph, tensors, {})
        outputs = [(b.output(tensors[symbol], f"output {i}"), tensors[symbol]) for i, symbol in enumerate(graph.outputs)]
        bound = Bound(b, b.plan.compile(), sources, outputs)
        runner.connect(bound, [np.empty(1, self.dtype)] * len(sources), [np.empty(1, self.dtype)] * len(outputs))
        return bound

    def check(self, xs: list[Any], axes: tuple[str, ...]) -> Arrays:
        """The inputs, each of shape (*axes, *width), as the engine reads them."""
        made = []
        for inlet, width, x in zip(self.inlets, self.widths, xs, strict=True):
            array = np.asarray(x)
            if array.ndim != len(axes) + len(width) or array.shape[len(axes) :] != width or array.shape[: len(axes)] != np.shape(xs[0])[: len(axes)]:
                wanted = ", ".join([*axes, *map(str, width)])
                which = "" if len(xs) == 1 else f" of '{inlet.name}'"
                raise ShapeError(
                    f"{self.owner}: a stream's input{which} must have shape ({wanted}{',' if len(axes) + len(width) == 1 else ''}), got {array.shape}."
                )
            # without an axis of rows or of steps there is one row, or one step
            full = inlet.check(array[None] if axes == ("T",) else array[:, None] if axes == ("n",) else array, self.dtype)
            if any(layer.mask_zero for layer in inlet.embeddings) and not full.all():
                raise ValueError(f"{self.owner}: token 0 is padding ('{inlet.embeddings[0].name}' has mask_zero=True), which a stream leaves out.")
            made.append(full)
        return made

    def each(self, x: Any) -> list[Any]:
        """What a caller gave for each input."""
        return each(self.owner, "input", self.names, x)

    def outputs(self, bound: Bound, lead: tuple[int, ...], single: bool, out: Any) -> Arrays:
        """Arrays for the outputs, the caller's if they are given: (*lead, steps, *features), or without steps where there is one alone or none."""
        shapes = [(*lead, *(() if single or not t.timed else (t.rows.time,)), *t.features) for _, t in bound.outputs]
        if out is None:
            return [np.empty(shape, self.dtype) for shape in shapes]
        given = out if isinstance(out, list) else [out]
        if len(given) != len(shapes):
            raise ValueError(f"{self.owner}: out must be {len(shapes)} arrays, got {len(given)}.")
        for array, shape in zip(given, shapes, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype != self.dtype or array.shape != shape:
                got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise ShapeError(f"{self.owner}: out must be {self.dtype} of shape {shape}, got {got}.")
            if not array.flags.carray:
                raise ValueError(f"{self.owner}: out must be C-contiguous, aligned and writeable.")
        return given

    def check_time(self, time: int) -> None:
        """Raise unless so many steps give whole steps of the output."""
        if time % self.pace:
            raise ValueError(f"{self.owner}: a stream gives one output for {self.pace} steps. Give process() chunks whose length is a multiple of {self.pace}.")

    # -- states ----------------------------------------------------------------------------------------------------------------

    def rows(self, capacity: int) -> States:
        """States of so many sequences, all at their start."""
        return {layer.name: [np.repeat(start, capacity, axis=0) for start in layer.stream_start()] for layer in self.keeping}

    def reset(self, states: States, row: int) -> None:
        """Let a sequence start anew."""
        for layer in self.keeping:
            for own, start in zip(states[layer.name], layer.stream_start(), strict=True):
                own[row] = start[0]

    @staticmethod
    def read(states: States, row: int) -> States:
        """Copies of a sequence's states."""
        return {name: [own[row].copy() for own in arrays] for name, arrays in states.items()}

    def write(self, states: States, row: int, values: Any) -> None:
        """Set a sequence's states, all or none."""
        if not isinstance(values, dict) or set(values) != set(states):
            got = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"{self.owner}: a stream's state must have the layers {sorted(states)}, got {got}.")
        for name, arrays in states.items():
            if len(values[name]) != len(arrays):
                raise ValueError(f"{self.owner}: the state of '{name}' must be {len(arrays)} arrays, got {len(values[name])}.")
            for i, (own, value) in enumerate(zip(arrays, values[name], strict=True)):
                if np.shape(value) != own.shape[1:]:
                    raise ShapeError(f"{self.owner}: state {i} of '{name}' must have shape {own.shape[1:]}, got {np.shape(value)}.")
        for name, arrays in states.items():
            for own, value in zip(arrays, values[name], strict=True):
                own[row] = value
