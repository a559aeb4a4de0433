"""Runner: finds or makes the plan of a graph for the sizes of a caller's arrays, and runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.errors import ShapeError
from rnnfast.layers.graph import Graph, Node, Symbol
from rnnfast.layers.inlets import Inlet, each, real
from rnnfast.plan import Builder, Params, Tensor

PLANS_KEPT = 16
Arrays = list[np.ndarray]
Masks = list[np.ndarray | None]
States = dict[str, list[np.ndarray]]


def point(buffer: Buffer, tensor: Tensor, array: np.ndarray, strided: bool) -> None:
    """Let an outside buffer be the caller's contiguous array: the full one, or (not strided) packed rows of the same layout."""
    if strided and tensor.timed:
        buffer.point(array.ctypes.data, tensor.rows.time * tensor.width, tensor.width)
    else:
        buffer.point(array.ctypes.data, tensor.width, 0)


@dataclass
class Bound:
    """A compiled plan and its connections to the outside."""

    builder: Builder
    program: Any
    sources: list[Tensor]
    outputs: list[tuple[Buffer, Tensor]]
    initial: list[Buffer] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    direct: _engine.Channel | None = None


def describe(b: Builder, graph: Graph, tensors: dict[Symbol, Tensor], initial: dict[Node, list[Tensor]]) -> None:
    """Add all nodes' ops to a plan; `tensors` holds the inputs' and gets the others'."""
    for node in graph.nodes:
        layer, inputs = node.layer, [tensors[s] for s in node.inputs]
        b.plan.maker = layer.name
        for one in inputs:
            problem = layer.input_problem(one.features, one.timed)
            if problem:
                raise ShapeError(f"{type(layer).__name__} '{layer.name}': {problem}.")
        x: Any = inputs if layer.many else inputs[0]
        try:
            if layer.has_states:
                order = b.batch_rows(inputs[0].rows) if node.states else None
                given = _in_order(b, initial.get(node, []), inputs[0].rows) or [b.aligned(tensors[s], order) for s in node.states if s in tensors]  # type: ignore[arg-type]
                outputs, states = layer.describe_states(b, x, given)  # type: ignore[attr-defined]
            else:
                outputs, states = layer.describe(b, x), []
        except MemoryError as error:
            raise MemoryError(f"{type(layer).__name__} '{layer.name}': {error}") from error
        results = [*(outputs if isinstance(outputs, list) else [outputs]), *states]
        tensors.update(zip(node.outputs, results, strict=True))
    uses, others = graph.uses(), Counter[Buffer]()
    for symbol, tensor in tensors.items():
        others[tensor.buffer] += uses[symbol] - 1  # a layer that hands on what it is given reads nothing
    b.shared.update(buffer for buffer, count in others.items() if count > 0)


def _in_order(b: Builder, states: list[Tensor], rows: Rows) -> list[Tensor]:
    """States that came in the order of an input's map in that of another."""
    if not states or states[0].rows.root is rows.root:
        return states
    order = b.batch_rows(rows)
    return [b.aligned(state, order) for state in states]


class Runner:
    """Runs a graph.

    Parameters
    ----------
    graph : Graph
        Of built layers.
    owner : str
        As errors name it.
    alone : bool
        Whether the weights must be a vector of this graph's own, as training needs it; otherwise they may be a part of a larger model's.
    """

    def __init__(self, graph: Graph, owner: str, alone: bool = False) -> None:
        self.graph, self.owner, self.layers = graph, owner, graph.layers
        self.inlets = [Inlet(graph, symbol, owner) for symbol in graph.inputs]
        for node in graph.nodes:
            source = node.inputs[0]
            if getattr(node.layer, "tokens", False) and source not in graph.inputs:
                raise ValueError(
                    f"{owner}: {type(node.layer).__name__} '{node.layer.name}' must take tokens from an input of the model, got what '{source.layer and source.layer.name}' gives."
                )
        self.names = [inlet.name for inlet in self.inlets]
        self.uses_mask = any(layer.uses_mask for layer in self.layers)
        self.dtype = next((layer for layer in self.layers if not hasattr(layer, "symbol")), self.layers[0]).dtype
        for layer in self.layers:
            if layer.dtype != self.dtype and getattr(layer, "given_dtype", layer.dtype) == layer.dtype:  # an Input without one of its own follows
                raise ValueError(f"{self.owner}: all layers must have one dtype, got {self.dtype} and {layer.dtype} ({layer.name}).")
        self.variables = list(dict.fromkeys(v for layer in self.layers for v in layer.weights))
        shared = None if alone else Params.holding(self.variables, self.dtype)
        self.params = shared or Params(self.variables, self.dtype)
        self.training_layers = [layer.trainable for layer in self.layers]  # whose plans may depend on it
        self.bounds: dict[tuple[Any, ...], Bound] = {}

    def current(self, alone: bool = False) -> bool:
        """Whether the layers still are as they were when this was made."""
        if self.training_layers != [layer.trainable for layer in self.layers]:
            return False
        return self.params.holds(self.variables) and not (alone and len(self.params.variables) > len(self.variables))

    # -- the caller's arrays ---------------------------------------------------------------------------------------------------

    def check_inputs(self, x: Any) -> Arrays:
        """The inputs as contiguous arrays of the right type and shape."""
        if len(self.inlets) == 1 and isinstance(x, np.ndarray):
            return [self.inlets[0].check(x, self.dtype)]
        xs = [inlet.check(one, self.dtype) for inlet, one in zip(self.inlets, each(self.owner, "input", self.names, x), strict=True)]
        for name, one in zip(self.names, xs, strict=True):
            if len(one) != len(xs[0]):
                raise ShapeError(f"{self.owner}: input '{name}' must have {len(xs[0])} rows as '{self.names[0]}' has, got {len(one)}.")
        return xs

    def check_masks(self, xs: Arrays, mask: Any, lengths: Any) -> Masks:
        """For each input the valid steps [B, T] as layers in front and the caller say, or None when all are."""
        if len(self.inlets) == 1 and mask is None and lengths is None and not self.inlets[0].maskers:
            return [None]
        masks, counts = each(self.owner, "mask", self.names, mask), each(self.owner, "lengths", self.names, lengths)
        return [inlet.valid(x, m, n) for inlet, x, m, n in zip(self.inlets, xs, masks, counts, strict=True)]

    def steps_to_run(self, valid: Masks) -> Masks:
        """The masks that a plan follows: none where no layer looks at them."""
        return valid if self.uses_mask else [None] * len(valid)

    def check_resets(self, xs: Arrays, resets: Any) -> Masks:
        """For each input the steps [B, T] before which states start from zero, or None."""
        if resets is None:
            return [None] * len(xs)
        mixing = next((layer for layer in self.layers if layer.uses_mask and not layer.has_states), None)
        if mixing is not None:
            raise ValueError(f"{self.owner}: resets cannot be used with {type(mixing).__name__} '{mixing.name}', which mixes steps of different episodes.")
        if self._stateful_node() is None:
            raise ValueError(f"{self.owner}: resets need a recurrent layer.")
        inner = [one for layer in self.layers for one in (layer.sublayers() or [layer])]
        slow = next((one for one in inner if one.has_states and not getattr(one, "fused", True)), None)
        if slow is not None:
            raise ValueError(f"{self.owner}: resets cannot be used with {type(slow).__name__} '{slow.name}', whose steps are not the fused engine's.")
        learned = next((one for one in inner if getattr(one, "trained_initial_state", False)), None)
        if learned is not None:
            raise ValueError(f"{self.owner}: resets start from zeros; they cannot be used with trained_initial_state of {type(learned).__name__} '{learned.name}'.")
        found: Masks = []
        for name, x, one in zip(self.names, xs, each(self.owner, "resets", self.names, resets), strict=True):
            given = None if one is None else np.asarray(one)
            if given is not None and (given.dtype != bool or x.ndim < 2 or given.shape != x.shape[:2]):
                raise ShapeError(f"{self.owner}: resets of '{name}' must be bool of shape {x.shape[:2]}, got {given.dtype} of shape {given.shape}.")
            found.append(given)
        return found

    # -- plans -----------------------------------------------------------------------------------------------------------------

    def source(self, inlet: Inlet, x: np.ndarray, masked: bool, needs_grad: bool) -> Tensor:
        """The tensor of an input."""
        timed = inlet.timed(x)
        features = x.shape[2 if timed else 1 :]
        rows = Rows(x.shape[0], x.shape[1] if timed else 1)
        rows.masked = masked
        return Tensor(rows, features, Buffer(inlet.name, 0, int(np.prod(features, dtype=object))), timed, outside=True, needs_grad=needs_grad, maskers=tuple(inlet.maskers))

    def start(self, xs: Arrays, valid: Masks, training: bool, gradients: bool, initial: int, dx: bool = False, carried: States | None = None) -> Bound:
        """Describe all nodes into a new builder; the program is not made yet. `carried`: states that layers go on from and leave, by layer."""
        quantized = next((layer for layer in self.layers if layer.quantization_mode), None)
        if gradients and quantized is not None:
            raise ValueError(
                f"{self.owner}: '{quantized.name}' is quantized to {quantized.quantization_mode}, which is for inference alone. Call quantize(None) before training."
            )
        b = Builder(self.params, training, gradients, _engine.get_num_threads())
        b.carried = carried
        sources = [self.source(inlet, x, steps is not None, dx and gradients) for inlet, x, steps in zip(self.inlets, xs, valid, strict=True)]
        tensors = dict(zip(self.graph.inputs, sources, strict=True))
        given: list[Tensor] = []
        buffers: list[Buffer] = []
        if initial:
            given, buffers = self._initial(b, sources[0].rows, dx and gradients)
        node = self._stateful_node()
        describe(b, self.graph, tensors, {node: given} if node and given else {})
        results = [tensors[symbol] for symbol in self.graph.outputs]
        states = 0 if node is None or node.outputs[-1] not in self.graph.outputs or not getattr(node.layer, "return_state", False) else node.layer.states  # type: ignore[attr-defined]
        return Bound(b, None, sources, [(Buffer("", 0), t) for t in results], buffers, {"given": given, "states": states})

    def _stateful_node(self) -> Node | None:
        return next((node for node in self.graph.nodes if node.layer.has_states), None)

    def _initial(self, b: Builder, rows: Rows, needs_grad: bool) -> tuple[list[Tensor], list[Buffer]]:
        pairs = [b.outside_state(f"initial state {i}", n, rows) for i, n in enumerate(self._state_units())]
        for _, tensor in pairs:
            tensor.needs_grad = needs_grad
        return [tensor for _, tensor in pairs], [buffer for buffer, _ in pairs]

    def _state_units(self) -> list[int]:
        node = self._stateful_node()
        layer: Any = node.layer if node else None
        return [n for one in (layer.sublayers() or [layer]) for n in one.state_sizes] if layer else []

    def keep(self, key: tuple[Any, ...], bound: Bound) -> Bound:
        """Let calls find a plan whose program is made. Other threads may do so at once."""
        for old in list(self.bounds)[: max(0, len(self.bounds) - PLANS_KEPT + 1)]:
            self.bounds.pop(old, None)
        self.bounds[key] = bound
        return bound

    def refresh(self, bound: Bound, valid: Masks, resets: Masks) -> None:
        """Set the row maps and seeds for this call."""
        b, changed = bound.builder, False
        for source, steps, cuts in zip(bound.sources, valid, resets, strict=True):
            if steps is not None:
                source.rows.set_valid(np.ascontiguousarray(steps).view(np.uint8))
            if cuts is not None:
                source.rows.set_resets(np.ascontiguousarray(cuts).view(np.uint8))
            changed |= steps is not None or cuts is not None
        if changed:
            for rows, how, parent in b.derived:
                getattr(rows, how)(parent)
        for seeds, buffer in b.seeds:
            bound.program.write(buffer, np.array([seeds.next()], np.uint64))

    @staticmethod
    def sizes(xs: Arrays, valid: Masks, resets: Masks) -> tuple[Any, ...]:
        """What of the arrays a plan depends on."""
        return (*(x.shape for x in xs), *(steps is not None for steps in [*valid, *resets]), _engine.get_num_threads(), _engine.get_float32_matmul_precision())

    def predict_plan(self, xs: Arrays, valid: Masks, resets: Masks, training: bool, initial: int) -> Bound:
        key = ("predict", training, initial, self.sizes(xs, valid, resets))
        bound = self.bounds.get(key)
        if bound is None:
            bound = self.start(xs, valid, training, False, initial)
            bound.outputs = [(bound.builder.output(t, f"output {i}"), t) for i, (_, t) in enumerate(bound.outputs)]
            bound.program = bound.builder.plan.compile()
            plain = not (training or initial or self.inlets[0].tokens or self.inlets[0].maskers or any(cuts is not None for cuts in resets))
            if plain and len(xs) == 1:
                source, b = bound.sources[0], bound.builder
                lengths = _engine.Lengths(source.rows, b.derived) if valid[0] is not None else None
                outlets = [_engine.Outlet(target, tensor.shape, self.dtype) for target, tensor in bound.outputs]
                bound.direct = _engine.Channel(bound.program, [_engine.Intake(source.buffer, xs[0].shape, self.dtype)], outlets, b.plan.brief, lengths)
                self.connect(bound, xs, [np.empty(1, self.dtype)] * len(outlets))
            self.keep(key, bound)
        return bound

    def predict(self, x: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None, training: bool = False, resets: Any = None) -> Any:
        """The output for x, or the list of outputs and states."""
        xs = self.check_inputs(x)
        valid = self.steps_to_run(self.check_masks(xs, mask, lengths))
        cuts = self.check_resets(xs, resets)
        initial = self.check_states(xs[0], initial_state)
        bound = self.predict_plan(xs, valid, cuts, training, len(initial))
        outputs = [np.empty(t.shape, self.dtype) for _, t in bound.outputs]
        self.execute(bound, xs, valid, cuts, initial, outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def direct_channel(self, x: np.ndarray, steps: Any = None) -> Any:
        """What takes arrays of x's shape, with lengths or a mask if there are any, straight to a result, or None."""
        bound = self.bounds.get(("predict", False, 0, self.sizes([x], [steps], [None])))
        return bound.direct if bound is not None else None

    def check_states(self, x: np.ndarray, initial_state: Any) -> Arrays:
        """Initial states as contiguous arrays [B, H]."""
        if initial_state is None:
            return []
        given = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        node = self._stateful_node()
        if node is None:
            raise ValueError(f"{self.owner}: initial_state needs a recurrent layer.")
        name, units = f"{type(node.layer).__name__} '{node.layer.name}'", self._state_units()
        if len(given) != len(units):
            raise ValueError(f"{name}: initial_state must be {len(units)} arrays, got {len(given)}.")
        for i, (state, n) in enumerate(zip(given, units, strict=True)):
            if np.shape(state) != (x.shape[0], n):
                raise ShapeError(f"{name}: initial_state[{i}] must have shape {(x.shape[0], n)}, got {np.shape(state)}.")
        return [real(name, f"initial_state[{i}]", state, self.dtype) for i, state in enumerate(given)]

    def execute(self, bound: Bound, xs: Arrays, valid: Masks, resets: Masks, initial: Arrays, outputs: Arrays) -> None:
        """One native call. Another thread in the same program waits."""
        with bound.program.lock:
            self.params.pack(bound.program.team_size)
            self.refresh(bound, valid, resets)
            for buffer, state in zip(bound.initial, initial, strict=True):
                buffer.point(state.ctypes.data, state.shape[1])
            self.connect(bound, xs, outputs)
            bound.program.run()

    @staticmethod
    def connect(bound: Bound, xs: Sequence[np.ndarray], outputs: Arrays) -> None:
        """Point the outside buffers at the caller's arrays."""
        for source, x in zip(bound.sources, xs, strict=True):
            point(source.buffer, source, x, source.outside)
        for (buffer, tensor), array in zip(bound.outputs, outputs, strict=True):
            point(buffer, tensor, array, tensor.strided)

    # -- gradients -------------------------------------------------------------------------------------------------------------

    def vjp(
        self, x: Any, dy: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None, dstates: Any = None, training: bool = False, resets: Any = None
    ) -> dict[str, Any]:
        """Gradients of sum(dy * y) + sum(dstates * states) by inputs, weights and initial states."""
        xs = self.check_inputs(x)
        valid = self.steps_to_run(self.check_masks(xs, mask, lengths))
        cuts = self.check_resets(xs, resets)
        initial = self.check_states(xs[0], initial_state)
        bound = self.start(xs, valid, training, True, len(initial), dx=True)
        b, tensors = bound.builder, [t for _, t in bound.outputs]
        outputs = [np.empty(t.shape, self.dtype) for t in tensors]
        given = self._upstream(outputs, bound.extra["states"], dy, dstates)
        bound.outputs = [(b.output(t, "output"), t) for t in tensors]
        for tensor, array in zip(tensors, given, strict=True):
            buffer = Buffer("upstream", 0, tensor.width)
            buffer.point(array.ctypes.data, tensor.width)
            packed = b.rows_buffer("d output", tensor.rows, tensor.width)
            b.op("scatter_back", tensor.rows, {"dx": packed, "dy": buffer}, n=tensor.width, kind=0)
            b.hand_over(tensor, packed)
        b.backward()
        results, terms = [np.zeros(one.shape, self.dtype) for one in [*xs, *initial]], []
        for tensor, array in zip([*bound.sources, *bound.extra["given"]], results, strict=True):
            for inner in [*tensor.parts[:1], tensor]:  # of layers that read it packed, and of those that hand it on as it is
                if inner.grad is not None:
                    terms.append((array, np.zeros_like(array)))
                    target = Buffer("gradient", 0, tensor.width)
                    target.hold(terms[-1][1], tensor.width)
                    b.op("gather_back", inner.rows, {"dy": inner.grad, "dx": target}, n=tensor.width)
        bound.program = b.plan.compile()
        self.params.grads[...] = 0
        self.execute(bound, xs, valid, cuts, initial, outputs)
        for array, term in terms:
            array += term
        weights = [self.params.gradient_of(v).copy() for v in self.variables]
        y = outputs if len(outputs) > 1 else outputs[0]
        return {"y": y, "x": results[0] if len(xs) == 1 else results[: len(xs)], "weights": weights, "initial_state": results[len(xs) :]}

    def _upstream(self, outputs: Arrays, states: int, dy: Any, dstates: Any) -> Arrays:
        main = len(outputs) - states
        given = list(dy) if isinstance(dy, (list, tuple)) else [dy] * 1 + [None] * (main - 1)
        if len(given) == main:  # else the outputs are a model's, its states among them
            given += list(dstates) if dstates is not None else [None] * states
        if len(given) != len(outputs):
            raise ValueError(f"{self.owner}: dy must be a list of {main} arrays, for the outputs, got {len(given)}.")
        arrays = []
        for array, output in zip(given, outputs, strict=True):
            full = np.zeros(output.shape, self.dtype) if array is None else real(self.owner, "the gradient of an output", array, self.dtype)
            if full.shape != output.shape:
                raise ShapeError(f"{self.owner}: the gradient of an output must have its shape {output.shape}, got {full.shape}.")
            arrays.append(full)
        return arrays
