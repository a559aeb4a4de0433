"""Plans of a module of PyTorch's, whose forward and backward parts run apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rnnfast._engine import Buffer, Rows, point_all
from rnnfast.plan import Builder, Tensor
from rnnfast.plan.recurrent import add_recurrent
from rnnfast.torch.weights import Weights


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
    precision : str
        rnnfast's own, of the products of float32.
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
    precision: str


class Bound:
    """A compiled plan of a module at one size; its arena is the tape between its forward and its backward part.

    Parameters
    ----------
    weights : Weights
    size : Size
    """

    def __init__(self, weights: Weights, size: Size) -> None:
        self.weights, self.size, self.spec = weights, size, weights.spec
        self.reads_weights = self.spec.sequence or size.dx or size.dstates  # backward; a cell does for the gradients of what the step starts from alone
        self.shapes = [(*self.spec.stack, size.batch, width) for width in self.spec.widths]  # of the states
        self.itemsize = 8 if self.spec.dtype == "float64" else 4
        b = self.builder = Builder(weights.params, size.rate > 0, size.gradients, size.threads)
        self.rows = Rows(size.batch, size.time)
        self.shown: Any = None  # what the map of rows was last set to
        self.x = Tensor(self.rows, (self.spec.inputs,), Buffer("input", 0, self.spec.inputs), timed=True, outside=size.batch_first, needs_grad=size.dx)
        self.y = self._describe([self._given(i) for i in range(len(self.spec.widths))] if size.given else [])
        self.forward_ops = len(b.plan.ops) if size.gradients else -1  # all, of a plan without a backward part, which may join some when it is compiled
        self.zeros = np.zeros((max(self.spec.width, self.spec.units) + 64) * 2, self.spec.dtype)
        self.nothing = int(self.zeros.ctypes.data)
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
        if not self.spec.sequence:
            self._list_ports()
        states = [buffer for places in (self.states_out, self.dstates_in) for buffers in places for buffer, _, _ in buffers]
        taken = {id(buffer) for buffer in [self.y.buffer if self.y else None, self.dx, *self.y_parts, *self.dy_parts, *states]}
        b.plan.buffers = [buffer for buffer in b.plan.buffers if id(buffer) not in taken]

    def _list_ports(self) -> None:
        """What a cell's step and the step back read and write, each with the width of its rows."""
        first = lambda *all_places: [(buffer, width) for places in all_places for ((buffer, _, width),) in places]
        x = [(self.x.buffer, self.spec.inputs)]
        self.ports = x + first(self.states_in, self.states_out)
        if self.size.gradients:
            own, (kernel, recurrent, *bias) = self.builder.recurrent[0].buffers, [v.shape for v in self.weights.sets[0].values()]
            self.shapes_back = [kernel[::-1], recurrent[::-1], *bias]
            names = ("dkernel", "drecurrent", "dbias")
            dweights = [(own[name], shape[-1]) for name, shape in zip(names, self.shapes_back, strict=False)]
            self.ports_back = first(self.dstates_out) + x + first(self.dstates_in) + dweights + ([(self.dx, self.spec.inputs)] if self.size.dx else [])

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

    def step(self, tensors: Sequence[torch.Tensor]) -> None:
        """As forward, of a cell: x, the states to start from if there are any, the states after."""
        point_all(self.ports, tensors, self.nothing)
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
        with self.weights.lock:  # all plans of a module write the weights' gradients to one place
            self.program.run(self.forward_ops)
            return self.weights.gradients()

    def step_back(self, x: torch.Tensor, dstates: list[torch.Tensor | None], dx: torch.Tensor | None, dstates_in: list[torch.Tensor]) -> list[torch.Tensor]:
        """As backward, of a cell, whose weights' gradients are written where they are handed out."""
        dweights = [x.new_empty(shape) for shape in self.shapes_back]
        point_all(self.ports_back, [*dstates, x, *dstates_in, *dweights, *(() if dx is None else (dx,))], self.nothing)
        self.program.run(self.forward_ops)
        if self.spec.bias:
            bias = dweights.pop()
            dweights += bias.unbind() if bias.dim() == 2 else (bias, bias.clone())
        return dweights

    def _point_x(self, x: torch.Tensor) -> None:
        n = self.spec.inputs
        if self.x.outside:
            self.x.buffer.point(x.data_ptr(), self.rows.time * n, n)
        else:
            self.x.buffer.point(x.data_ptr(), n)

    def _point_y(self, parts: list[Buffer], tensor: torch.Tensor | None) -> None:
        """Each direction's columns of the caller's sequence; of None zeros, one row for all."""
        address, whole = (self.nothing, 0) if tensor is None else (tensor.data_ptr(), self.spec.width * len(parts))
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
                    buffer.point(self.nothing, 0)
            else:
                address = tensor.data_ptr()
                for buffer, place, width in buffers:
                    buffer.point(address + place, width)
