"""Runner: checks a caller's arrays, finds or makes the plan for their sizes, and runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.errors import NotBuiltError, ShapeError
from rnnfast.layers.base import Layer
from rnnfast.plan import Builder, Params, Tensor

PLANS_KEPT = 16
REAL_KINDS = "fiub"


def point(buffer: Buffer, tensor: Tensor, array: np.ndarray, strided: bool) -> None:
    """Let an outside buffer be the caller's contiguous array: the full one, or (not strided) packed rows of the same layout."""
    if strided and tensor.timed:
        buffer.point(array.ctypes.data, tensor.rows.time * tensor.width, tensor.width)
    else:
        buffer.point(array.ctypes.data, tensor.width, 0)


def ready(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array as the engine reads it: of this type, contiguous, aligned. np.require is a microsecond slower where nothing is to be done."""
    return array if array.dtype == dtype and array.flags.carray else np.require(array, dtype, ["C", "A"])


@dataclass
class Bound:
    """A compiled plan and its connections to the outside."""

    builder: Builder
    program: Any
    source: Tensor
    outputs: list[tuple[Buffer, Tensor]]
    initial: list[Buffer] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


class Runner:
    """Runs a chain of layers.

    Parameters
    ----------
    layers : list of Layer
        Built.
    owner : str
        As errors name it.
    """

    def __init__(self, layers: Sequence[Layer], owner: str) -> None:
        self.layers, self.owner = list(layers), owner
        self.first = next((one for one in self.layers if type(one).__name__ != "InputLayer"), self.layers[0])
        self.tokens = bool(getattr(self.first, "tokens", False))
        self.uses_mask = any(layer.uses_mask for layer in self.layers)
        self.dtype = self.layers[0].dtype
        for layer in self.layers:
            if layer.dtype != self.dtype:
                raise ValueError(f"{self.owner}: all layers must have one dtype, got {self.dtype} and {layer.dtype} ({layer.name}).")
        self.params = Params([v for layer in self.layers for v in layer.weights], self.dtype)
        self.bounds: dict[tuple[Any, ...], Bound] = {}

    def current(self) -> bool:
        """Whether the layers still are as they were when this was made."""
        return self.params.current()

    # -- the caller's arrays ---------------------------------------------------------------------------------------------------

    def check_input(self, x: Any) -> np.ndarray:
        """x as a contiguous array of the right type and shape."""
        array = np.asarray(x)
        expected = self.first.input_shape if self.first.built else None
        if expected is None:
            raise NotBuiltError(f"{self.owner}: not built. Call build(input_shape), or start the model with Input(shape).")
        if array.dtype.kind not in REAL_KINDS:
            raise TypeError(f"{self.owner}: input must be real numbers, got dtype {array.dtype}.")
        fits = array.ndim == len(expected) and all(b is None or a == b for a, b in zip(array.shape[1:], expected[1:], strict=True))
        if not fits:
            wanted = ", ".join("B" if i == 0 else "T" if n is None else str(n) for i, n in enumerate(expected))
            first = f"{type(self.first).__name__} '{self.first.name}'"
            raise ShapeError(f"{first}: input must have shape ({wanted}), got {array.shape}.")
        if self.tokens:
            if array.dtype.kind == "f" and not (array == np.floor(array)).all():
                raise TypeError(f"{self.owner}: tokens must be whole numbers, got dtype {array.dtype} with fractions.")
            array = np.ascontiguousarray(array, dtype=np.int64)
            self.first.check_tokens(array)  # type: ignore[attr-defined]
            return array
        return ready(array, self.dtype)

    def check_mask(self, x: np.ndarray, mask: Any, lengths: Any) -> np.ndarray | None:
        """The valid steps [B, T] as layers in front and the caller say, or None when all are."""
        timed = x.ndim > 1 if self.tokens else x.ndim > 2
        if (mask is not None or lengths is not None) and not timed:
            raise ValueError(f"{self.owner}: mask and lengths need an input with a time axis, got shape {x.shape}.")
        valid = None
        if mask is not None and np.asarray(mask).ndim == 1 and np.asarray(mask).dtype != bool:
            mask, lengths = None, mask
        if lengths is not None:
            valid = self._from_lengths(x, lengths)
        if mask is not None:
            given = np.asarray(mask)
            if given.shape != x.shape[:2] or given.dtype.kind not in "biu":
                raise ShapeError(f"{self.owner}: mask must be bool of shape {x.shape[:2]}, got {given.dtype} of shape {given.shape}.")
            valid = given.astype(bool) if valid is None else valid & given.astype(bool)
        for layer in self.layers:
            if type(layer).__name__ not in ("InputLayer", "Masking", "Embedding"):
                break
            valid = layer.compute_mask(x, valid)
        return valid

    def steps_to_run(self, valid: np.ndarray | None) -> np.ndarray | None:
        """The mask that a plan follows: none where no layer looks at it."""
        return valid if self.uses_mask else None

    def _from_lengths(self, x: np.ndarray, lengths: Any) -> np.ndarray:
        given = np.asarray(lengths)
        if given.shape != x.shape[:1] or given.dtype.kind not in "iu":
            raise ShapeError(f"{self.owner}: lengths must be integers of shape {x.shape[:1]}, got {given.dtype} of shape {given.shape}.")
        if given.size and (given.min() < 0 or given.max() > x.shape[1]):
            raise ValueError(f"{self.owner}: lengths must be in [0, {x.shape[1]}], got values from {given.min()} to {given.max()}.")
        steps: np.ndarray = np.arange(x.shape[1]) < given[:, None]
        return steps

    # -- plans -----------------------------------------------------------------------------------------------------------------

    def start(self, x: np.ndarray, masked: bool, training: bool, gradients: bool, initial: int, dx: bool = False) -> Bound:
        """Describe all layers into a new builder; the program is not made yet."""
        timed = x.ndim > 1 if self.tokens else x.ndim > 2
        features = x.shape[2 if timed else 1 :] if not self.tokens else ()
        rows = Rows(x.shape[0], x.shape[1] if timed else 1)
        b = Builder(self.params, rows, masked, training, gradients, _engine.get_num_threads())
        h = source = Tensor(rows, features, Buffer("input", 0, int(np.prod(features, dtype=object))), timed, outside=True, needs_grad=dx and gradients)
        states: list[Tensor] = []
        given: list[Tensor] = []
        buffers: list[Buffer] = []
        outputs: Any = h
        for layer in self.layers:
            problem = layer.input_problem(h.features, h.timed)
            if problem and type(layer).__name__ != "InputLayer":
                raise ShapeError(f"{type(layer).__name__} '{layer.name}': {problem}.")
            if hasattr(layer, "describe_states"):
                if initial and not given:
                    given, buffers = self._initial(b, layer, initial, dx and gradients)
                outputs, states = layer.describe_states(b, h, given if given and layer is self._stateful_layer() else [])
            else:
                outputs, states = layer.describe(b, h), []
            h = outputs[0] if isinstance(outputs, list) else outputs
        results = [*(outputs if isinstance(outputs, list) else [outputs]), *states]
        return Bound(b, None, source, [(Buffer("", 0), t) for t in results], buffers, {"given": given, "states": len(states)})

    def _stateful_layer(self) -> Layer | None:
        return next((layer for layer in self.layers if hasattr(layer, "describe_states")), None)

    def _initial(self, b: Builder, layer: Any, count: int, needs_grad: bool) -> tuple[list[Tensor], list[Buffer]]:
        wanted = layer.states
        if count != wanted:
            raise ValueError(f"{type(layer).__name__} '{layer.name}': initial_state must be {wanted} arrays, got {count}.")
        pairs = [b.outside_state(f"initial state {i}", n) for i, n in enumerate(self._state_units(layer))]
        for _, tensor in pairs:
            tensor.needs_grad = needs_grad
        return [tensor for _, tensor in pairs], [buffer for buffer, _ in pairs]

    @staticmethod
    def _state_units(layer: Any) -> list[int]:
        return [one.units for one in (layer.sublayers() or [layer]) for _ in range(one.states)]

    def finish(self, key: tuple[Any, ...], bound: Bound) -> Bound:
        """Make the program and keep it."""
        bound.program = bound.builder.plan.compile()
        if len(self.bounds) >= PLANS_KEPT:
            self.bounds.pop(next(iter(self.bounds)))
        self.bounds[key] = bound
        return bound

    def refresh(self, bound: Bound, valid: np.ndarray | None) -> None:
        """Set the row maps and seeds for this call."""
        b = bound.builder
        if valid is not None:
            b.rows.set_valid(np.ascontiguousarray(valid).view(np.uint8), b.hold)
            for rows, how, parent in b.derived:
                getattr(rows, how)(parent)
        for seeds, buffer in b.seeds:
            bound.program.write(buffer, np.array([seeds.next()], np.uint64))

    def predict_plan(self, x: np.ndarray, masked: bool, training: bool, initial: int) -> Bound:
        key = ("predict", x.shape, masked, training, initial, _engine.get_num_threads())
        bound = self.bounds.get(key)
        if bound is None:
            bound = self.start(x, masked, training, False, initial)
            bound.outputs = [(bound.builder.output(t, f"output {i}"), t) for i, (_, t) in enumerate(bound.outputs)]
            self.finish(key, bound)
            if not (masked or training or initial or self.tokens) and len(bound.outputs) == 1:
                bound.program.set_direct(bound.source.buffer, bound.outputs[0][0], x.shape, bound.outputs[0][1].shape, self.dtype)
                self.connect(bound, x, [np.empty(1, self.dtype)])
        return bound

    def predict(self, x: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None, training: bool = False) -> Any:
        """The output for x, or the list of outputs and states."""
        x = self.check_input(x)
        valid = self.steps_to_run(self.check_mask(x, mask, lengths))
        initial = self.check_states(x, initial_state)
        bound = self.predict_plan(x, valid is not None, training, len(initial))
        outputs = [np.empty(t.shape, self.dtype) for _, t in bound.outputs]
        self.execute(bound, x, valid, initial, outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def direct_program(self, x: np.ndarray) -> Any:
        """The program whose `call` takes x's shape straight to a result, or None."""
        bound = self.bounds.get(("predict", x.shape, False, False, 0, _engine.get_num_threads()))
        return bound.program if bound is not None and bound.program.direct else None

    def check_states(self, x: np.ndarray, initial_state: Any) -> list[np.ndarray]:
        """Initial states as contiguous arrays [B, H]."""
        if initial_state is None:
            return []
        given = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        layer = self._stateful_layer()
        if layer is None:
            raise ValueError(f"{self.owner}: initial_state needs a recurrent layer.")
        units = self._state_units(layer)
        if len(given) != len(units):
            raise ValueError(f"{type(layer).__name__} '{layer.name}': initial_state must be {len(units)} arrays, got {len(given)}.")
        for i, (state, n) in enumerate(zip(given, units, strict=True)):
            if np.shape(state) != (x.shape[0], n):
                raise ShapeError(f"{type(layer).__name__} '{layer.name}': initial_state[{i}] must have shape {(x.shape[0], n)}, got {np.shape(state)}.")
        return [ready(np.asarray(state), self.dtype) for state in given]

    def execute(self, bound: Bound, x: np.ndarray, valid: np.ndarray | None, initial: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """One native call. Another thread in the same program waits."""
        with bound.program.lock:
            self.params.pack(bound.program.team_size)
            self.refresh(bound, valid)
            for buffer, state in zip(bound.initial, initial, strict=True):
                buffer.point(state.ctypes.data, state.shape[1])
            self.connect(bound, x, outputs)
            bound.program.run()

    @staticmethod
    def connect(bound: Bound, x: np.ndarray, outputs: list[np.ndarray]) -> None:
        """Point the outside buffers at the caller's arrays."""
        point(bound.source.buffer, bound.source, x, bound.source.outside)
        for (buffer, tensor), array in zip(bound.outputs, outputs, strict=True):
            point(buffer, tensor, array, tensor.strided)

    # -- gradients -------------------------------------------------------------------------------------------------------------

    def vjp(
        self, x: Any, dy: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None, dstates: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Gradients of sum(dy * y) + sum(dstates * states) by inputs, weights and initial states."""
        x = self.check_input(x)
        valid = self.steps_to_run(self.check_mask(x, mask, lengths))
        initial = self.check_states(x, initial_state)
        bound = self.start(x, valid is not None, training, True, len(initial), dx=True)
        b = bound.builder
        tensors = [t for _, t in bound.outputs]
        outputs = [np.empty(t.shape, self.dtype) for t in tensors]
        given = self._upstream(outputs, bound.extra["states"], dy, dstates)
        bound.outputs = [(b.output(t, "output"), t) for t in tensors]
        upstream = []
        for tensor, array in zip(tensors, given, strict=True):
            buffer = Buffer("upstream", 0, tensor.width)
            buffer.point(array.ctypes.data, tensor.width)
            packed = b.rows_buffer("d output", tensor.rows, tensor.width)
            b.op("scatter_back", tensor.rows, {"dx": packed, "dy": buffer}, n=tensor.width, kind=0)
            b.hand_over(tensor, packed)
            upstream.append(buffer)
        b.backward()
        results = [np.zeros(x.shape, self.dtype), *(np.zeros(s.shape, self.dtype) for s in initial)]
        for tensor, array in zip([bound.source, *bound.extra["given"]], results, strict=True):
            inner = tensor.parts[0] if tensor.parts and tensor.parts[0].grad is not None else tensor
            if inner.grad is not None:
                target = Buffer("gradient", 0, tensor.width)
                target.point(array.ctypes.data, tensor.width)
                b.op("gather_back", inner.rows, {"dy": inner.grad, "dx": target}, n=tensor.width)
        bound.program = b.plan.compile()
        self.params.grads[...] = 0
        self.execute(bound, x, valid, initial, outputs)
        weights = [self.params.gradient_of(v).copy() for layer in self.layers for v in layer.weights]
        y = outputs if len(outputs) > 1 else outputs[0]
        return {"y": y, "x": results[0], "weights": weights, "initial_state": results[1:]}

    def _upstream(self, outputs: list[np.ndarray], states: int, dy: Any, dstates: Any) -> list[np.ndarray]:
        main = len(outputs) - states
        given = list(dy) if isinstance(dy, (list, tuple)) else [dy] * 1 + [None] * (main - 1)
        given += list(dstates) if dstates is not None else [None] * states
        arrays = []
        for array, output in zip(given, outputs, strict=True):
            full = np.zeros(output.shape, self.dtype) if array is None else ready(np.asarray(array), self.dtype)
            if full.shape != output.shape:
                raise ShapeError(f"{self.owner}: the gradient of an output must have its shape {output.shape}, got {full.shape}.")
            arrays.append(full)
        return arrays
