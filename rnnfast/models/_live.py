"""What streams and pools of streams have in common: which layers can be live, their states, and the plans of their steps."""

from __future__ import annotations

from copy import copy
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import ShapeError
from rnnfast.layers.graph import Graph, Node, Symbol
from rnnfast.layers.inlets import Inlet, each, real
from rnnfast.layers.runner import Arrays, Bound, States, describe
from rnnfast.plan import Builder, Tensor
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

    def renewed(self) -> LiveModel:
        """This, or another one if the model's weights no longer stand where they did."""
        if self.model.runner() is self.runner:
            return self
        made = LiveModel(self.model)
        if [node.layer for node in made.runner.graph.nodes] != [node.layer for node in self.runner.graph.nodes]:
            raise RuntimeError(f"{self.owner}: has other layers than when its live sequences began. Begin anew: model.stream() or model.stream_pool(capacity).")
        return made

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
            try:
                array = np.asarray(x)
            except ValueError as error:
                raise ShapeError(f"{self.owner}: a stream's input must be an array, got what is none: {error}") from error
            if array.ndim != len(axes) + len(width) or array.shape[len(axes) :] != width or array.shape[: len(axes)] != np.shape(xs[0])[: len(axes)]:
                wanted = ", ".join([*axes, *map(str, width)])
                which = "" if len(xs) == 1 else f" of '{inlet.name}'"
                raise ShapeError(
                    f"{self.owner}: a stream's input{which} must have shape ({wanted}{',' if len(axes) + len(width) == 1 else ''}), got {array.shape}."
                )
            alone = [i for i, axis in enumerate("nT") if axis not in axes]  # there is one row, or one step
            full = inlet.check(np.expand_dims(array, alone), self.dtype)
            if any(layer.mask_zero for layer in inlet.embeddings) and not full.all():
                raise ValueError(f"{self.owner}: token 0 is padding ('{inlet.embeddings[0].name}' has mask_zero=True), which a stream leaves out.")
            made.append(full)
        return made

    def each(self, x: Any) -> list[Any]:
        """What a caller gave for each input."""
        return each(self.owner, "input", self.names, x)

    @staticmethod
    def output_shape(t: Tensor, lead: tuple[int, ...], single: bool, empty: bool = False) -> tuple[int, ...]:
        """(*lead, steps, *features), or without steps where there is one alone or none."""
        return (*lead, *(() if single or not t.timed else (0 if empty else t.rows.time,)), *t.features)

    def outputs(self, bound: Bound, lead: tuple[int, ...], single: bool, out: Any, empty: bool = False) -> Arrays:
        """Arrays for the outputs, the caller's if they are given; of a chunk without steps if `empty`."""
        if empty and not all(t.timed for _, t in bound.outputs):
            raise ValueError(f"{self.owner}: a chunk of no steps has no last one, which an output of this model shows. Leave it out.")
        shapes = [self.output_shape(t, lead, single, empty) for _, t in bound.outputs]
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
        if any(np.may_share_memory(one, other) for one, other in combinations(given, 2)):
            raise ValueError(f"{self.owner}: out must be an array of its own for each output.")
        return given

    @staticmethod
    def apart(xs: Arrays, outs: Arrays) -> Arrays:
        """The inputs, copied where an output is about to be written over them."""
        return [x.copy() if any(np.may_share_memory(x, out) for out in outs) else x for x in xs]

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
        pairs = []
        for name, arrays in states.items():
            given = values[name]
            several = isinstance(given, list | tuple | np.ndarray)
            if not several or len(given) != len(arrays):
                raise ValueError(f"{self.owner}: the state of '{name}' must be {len(arrays)} arrays, got {len(given) if several else type(given).__name__}.")
            for i, (own, value) in enumerate(zip(arrays, given, strict=True)):
                made = real(self.owner, f"state {i} of '{name}'", value, self.dtype)
                if made.shape != own.shape[1:]:
                    raise ShapeError(f"{self.owner}: state {i} of '{name}' must have shape {own.shape[1:]}, got {made.shape}.")
                pairs.append((own, made))
        for own, made in pairs:
            own[row] = made
