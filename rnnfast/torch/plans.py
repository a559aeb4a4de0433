"""What a module of PyTorch's is to the engine: weights in the plan's layout, and plans whose forward and backward parts run apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.plan import Builder, Params, Tensor, Variable
from rnnfast.plan.direction import Direction
from rnnfast.plan.recurrent import add_recurrent
from rnnfast.plan.staged import StagedDirection, StagedPart

GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}
GRU_ORDER = ((2, 1, 0), (1, 0, 2))  # gate of the engine -> PyTorch's r, z, n


@dataclass(frozen=True)
class Spec:
    """What of a module does not change while it lives.

    Attributes
    ----------
    cell : {"lstm", "gru", "simple_rnn"}
    inputs, units, projection, layers : int
        projection is 0 where there is none.
    both : bool
        Whether each layer has two directions.
    bias : bool
    activation : {"tanh", "relu"}
    sequence : bool
        Whether the output of every step is asked for; a cell gives its states alone.
    dtype : {"float32", "float64"}
    """

    cell: str
    inputs: int
    units: int
    projection: int
    layers: int
    both: bool
    bias: bool
    activation: str
    sequence: bool
    dtype: str

    @property
    def directions(self) -> int:
        return 2 if self.both else 1

    @property
    def stack(self) -> tuple[int, ...]:
        """First extents of a state, before [batch, width]."""
        return (self.layers * self.directions,) if self.sequence else ()

    @property
    def width(self) -> int:
        """Of h."""
        return self.projection or self.units

    @property
    def widths(self) -> list[int]:
        """Of each state."""
        return [self.width, self.units] if self.cell == "lstm" else [self.width]


class Size(NamedTuple):
    """What a plan is made for.

    Attributes
    ----------
    batch, time : int
        time is room: fewer steps may be run.
    batch_first : bool
    given : bool
        Whether the states to start from are given.
    rate : float
        Of the dropout between layers.
    gradients, dx, dstates : bool
        Whether a backward part follows, and whether it gives the gradients of the input and of the given states.
    threads : int
    """

    batch: int
    time: int
    batch_first: bool
    given: bool
    rate: float
    gradients: bool
    dx: bool
    dstates: bool
    threads: int


class Weights:
    """A module's weights in the plan's layout, brought up to date when PyTorch's have changed.

    Parameters
    ----------
    spec : Spec
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.sets: list[dict[str, Variable]] = []  # one a direction, PyTorch's order
        for k in range(spec.layers * spec.directions):
            inputs = spec.inputs if k < spec.directions else spec.width * spec.directions
            self.sets.append({name: Variable(np.zeros(shape, spec.dtype), f"{name} {k}") for name, shape in self._shapes(inputs).items()})
        self.params = Params([v for one in self.sets for v in one.values()], spec.dtype)
        with torch.inference_mode(False):  # views that may be written to in any mode
            self.views = [{name: torch.from_numpy(self._array(v)) for name, v in one.items()} for one in self.sets]
        self.watch: Any = None
        self.lock = Lock()

    def _shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        spec, columns = self.spec, GATES[self.spec.cell] * self.spec.units
        shapes: dict[str, tuple[int, ...]] = {"kernel": (inputs, columns), "recurrent_kernel": (spec.width, columns)}
        if spec.bias:
            shapes["bias"] = (2, columns) if spec.cell == "gru" else (columns,)
        return shapes | ({"projection": (spec.units, spec.projection)} if spec.projection else {})

    def _array(self, v: Variable) -> np.ndarray:
        array: np.ndarray = self.params.values[v.offset : v.offset + int(np.prod(v.shape))].reshape(v.shape)
        return array

    def direction(self, k: int, initial: list[Tensor]) -> Direction:
        """What the plan runs as the k-th direction of all."""
        spec, own = self.spec, self.sets[k]
        common: dict[str, Any] = {
            "cell": spec.cell, "units": spec.width, "kernel": own["kernel"], "recurrent_kernel": own["recurrent_kernel"], "bias": own.get("bias"),
            "activation": spec.activation, "recurrent_activation": "linear" if spec.cell == "simple_rnn" else "sigmoid",
            "backwards": k % spec.directions == 1, "zero_output": False, "initial": initial,
        }  # fmt: skip
        if spec.projection:
            return StagedDirection(**common, hidden=spec.units, projection=own["projection"], layer=StagedPart)
        return Direction(**common, order=GRU_ORDER if spec.cell == "gru" else ())

    # -- up to date --------------------------------------------------------------------------------------------------------------

    def holds(self, tensors: list[torch.Tensor]) -> bool:
        """Whether these tensors' numbers are here."""
        watch = self.watch
        return watch is not None and watch.same(tensors)

    def bring(self, tensors: list[torch.Tensor]) -> None:
        """Take these tensors' numbers."""
        with self.lock:
            if not self.holds(tensors):
                self._copy(tensors)

    def pack(self, threads: int) -> None:
        """Bring the panels up to date."""
        if self.params.stale:
            with self.lock:
                self.params.pack(threads)

    def forget(self) -> None:
        """Take the tensors for changed."""
        self.watch = None

    def _copy(self, tensors: list[torch.Tensor]) -> None:
        each = len(tensors) // len(self.views)
        with torch.no_grad():
            for k, views in enumerate(self.views):
                w_ih, w_hh, *rest = tensors[each * k : each * k + each]
                views["kernel"].copy_(w_ih.t())
                views["recurrent_kernel"].copy_(w_hh.t())
                if self.spec.cell == "gru" and self.spec.bias:
                    views["bias"][0].copy_(rest[0])
                    views["bias"][1].copy_(rest[1])
                elif self.spec.bias:
                    torch.add(rest[0], rest[1], out=views["bias"])
                if self.spec.projection:
                    views["projection"].copy_(rest[-1].t())
        self.params.version += 1
        lasting = all(type(t) is torch.nn.Parameter and t.is_contiguous() and not t.is_inference() for t in tensors)  # others come and go with every call
        self.watch = _engine.Watch(tensors) if lasting else None

    def gradients(self, written: dict[Variable, torch.Tensor]) -> list[torch.Tensor]:
        """PyTorch's gradients, in the order of its weights, from the plan's."""
        found = []
        for one in self.sets:
            matrices = [written[v].t().contiguous() for name, v in one.items() if name != "bias"]
            biases = []
            if "bias" in one:
                bias = written[one["bias"]]
                biases = [bias[0].clone(), bias[1].clone()] if self.spec.cell == "gru" else [bias, bias.clone()]
            found += matrices[:2] + biases + matrices[2:]
        return found


class Bound:
    """A compiled plan of a module at one size; its arena is the tape between its forward and its backward part.

    Parameters
    ----------
    weights : Weights
    size : Size
    """

    def __init__(self, weights: Weights, size: Size) -> None:
        self.weights, self.size, self.spec = weights, size, weights.spec
        self.itemsize = 8 if self.spec.dtype == "float64" else 4
        b = self.builder = Builder(weights.params, size.rate > 0, size.gradients, size.threads)
        self.rows = Rows(size.batch, size.time)
        self.shown: Any = None  # what the map of rows was last set to
        self.x = Tensor(self.rows, (self.spec.inputs,), Buffer("input", 0, self.spec.inputs), timed=True, outside=size.batch_first, needs_grad=size.dx)
        self.y = self._describe([self._given(i) for i in range(len(self.spec.widths))] if size.given else [])
        self.forward_ops = len(b.plan.ops)
        self.zeros = np.zeros((max(self.spec.width, self.spec.units) + 64) * 2, self.spec.dtype)
        if size.gradients:
            self._describe_backward()
        self.seeds = [buffer for _, buffer in b.seeds]
        self._take_out()
        self.program = b.plan.compile()

    def _given(self, i: int) -> list[Tensor]:
        """The tensors of a state to start from, one a direction."""
        rows, width = Rows(self.size.batch, 1), self.spec.widths[i]
        count = self.spec.layers * self.spec.directions
        return [Tensor(rows, (width,), Buffer("initial state", 0, width), timed=False, needs_grad=self.size.dstates) for _ in range(count)]

    def _describe(self, initial: list[list[Tensor]]) -> Tensor | None:
        """The ops of the forward part; returns the last layer's sequence."""
        b, spec, n = self.builder, self.spec, self.spec.directions
        h: Any = self.x
        for layer in range(spec.layers):
            if layer:
                h = b.dropout(h, self.size.rate, None)
            ks = range(layer * n, layer * n + n)
            directions = [self.weights.direction(k, [states[k] for states in initial]) for k in ks]
            h = add_recurrent(b, h, directions, spec.sequence, False, True, concat=spec.both)[0].sequence
        return h

    def _describe_backward(self) -> None:
        for state in (state for part in self.builder.recurrent for state in part.result.states):
            state.grad = Buffer("d state", 0, state.width)
        if self.y is not None:
            self.y.grad = Buffer("d output", 0, self.y.width)
        self.builder.backward()
        self.written = list(self.builder.written.items())

    def _take_out(self) -> None:
        """Take the buffers that are the caller's out of the arena."""
        b, n = self.builder, self.spec.directions
        last = b.recurrent[-n:]
        self.y_parts = [part.buffers["y"] for part in last] if self.y else []
        self.dy_parts = [part.buffers["dy"] for part in last] if self.y and self.size.gradients else []
        self.states_in = self._places("state_in") if self.size.given else []
        self.states_out = self._places("state_out")
        self.dstates_in = self._places("dstate_in") if self.size.dstates else []
        self.dstates_out = self._places("dstate_out") if self.size.gradients else []
        self.dx = (self.x.parts[0] if self.x.parts else self.x).grad
        states = [buffer for places in (self.states_out, self.dstates_in) for buffers in places for buffer, _, _ in buffers]
        taken = {id(buffer) for buffer in [self.y.buffer if self.y else None, self.dx, *self.y_parts, *self.dy_parts, *states]}
        b.plan.buffers = [buffer for buffer in b.plan.buffers if id(buffer) not in taken]

    def _places(self, name: str) -> list[list[tuple[Buffer, int, int]]]:
        """For each state and direction the buffer, its place in the caller's tensor in bytes, and its width."""
        sizes = enumerate(self.spec.widths)
        each = self.size.batch * self.itemsize
        return [[(part.buffers[f"{name}{i}"], k * each * width, width) for k, part in enumerate(self.builder.recurrent)] for i, width in sizes]

    # -- runs ----------------------------------------------------------------------------------------------------------------------

    def set_rows(self, time: int, batch_sizes: Any) -> None:
        """Say which steps exist: `time` of each row, or as a PackedSequence says."""
        if batch_sizes is not None:
            self.rows.set_active(batch_sizes)
            self.shown = None
        elif self.shown != time:
            self.rows.set_time(time)
            self.shown = time

    def forward(self, x: torch.Tensor, states: list[torch.Tensor], y: torch.Tensor | None, states_out: list[torch.Tensor], seeds: list[int]) -> None:
        """Run the forward part from and to the caller's tensors."""
        self._point_x(x)
        if states:
            self._point_states(self.states_in, states)
        if y is not None:
            self._point_y(self.y_parts, y)
        self._point_states(self.states_out, states_out)
        for buffer, seed in zip(self.seeds, seeds, strict=True):
            self.program.write(buffer, np.array([seed], np.uint64))
        self.program.run(0, self.forward_ops)

    def backward(
        self, x: torch.Tensor, dy: torch.Tensor | None, dstates: list[torch.Tensor | None], dx: torch.Tensor | None, dstates_in: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Run the backward part; returns the weights' gradients."""
        self._point_x(x)
        self._point_y(self.dy_parts, dy)
        self._point_states(self.dstates_out, dstates)
        self._point_states(self.dstates_in, dstates_in)
        if dx is not None and self.dx is not None:
            self.dx.point(dx.data_ptr(), self.spec.inputs)
        grads = {}
        for variable, buffer in self.written:
            grads[variable] = gradient = torch.empty(variable.shape, dtype=x.dtype)
            buffer.point(gradient.data_ptr(), variable.shape[-1])
        self.program.run(self.forward_ops)
        return self.weights.gradients(grads)

    def _point_x(self, x: torch.Tensor) -> None:
        n = self.spec.inputs
        if self.x.outside:
            self.x.buffer.point(x.data_ptr(), self.rows.time * n, n)
        else:
            self.x.buffer.point(x.data_ptr(), n)

    def _point_y(self, parts: list[Buffer], tensor: torch.Tensor | None) -> None:
        """Each direction's columns of the caller's sequence; of None zeros, one row for all."""
        address, whole = (self.zeros.ctypes.data, 0) if tensor is None else (tensor.data_ptr(), self.spec.width * len(parts))
        for part in parts:
            if self.size.batch_first:
                part.point(address, self.rows.time * whole, whole)
            else:
                part.point(address, whole)
            address += whole // len(parts) * self.itemsize

    def _point_states(self, directions: list[list[tuple[Buffer, int, int]]], tensors: Sequence[torch.Tensor | None]) -> None:
        """Each direction's part of the caller's states; of None zeros."""
        for buffers, tensor in zip(directions, tensors, strict=True):
            if tensor is None:
                for buffer, _, _ in buffers:
                    buffer.point(self.zeros.ctypes.data, 0)
            else:
                address = tensor.data_ptr()
                for buffer, place, width in buffers:
                    buffer.point(address + place, width)
