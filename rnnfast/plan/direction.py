"""What the recurrent layers of a plan have in common: what a direction is, what it gives, and how it is connected to the tensors around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.params import Variable
from rnnfast.plan.schedule import SPLIT_NONE, Choice, Work


@dataclass
class Direction:
    """One direction of a layer: its cell, weights and what it starts from.

    Attributes
    ----------
    cell : str
        A name of csrc/cells/cells.def.
    units : int
    kernel : Variable
    recurrent_kernel : Variable or None
        None where a cell has no recurrent product.
    bias : Variable or None
        Of shape (G H) or, with a recurrent bias, (2, G H).
    activation, recurrent_activation : str
    backwards : bool
        Whether time runs from the last valid step to the first.
    zero_output : bool
        Whether masked steps show zeros instead of the output before.
    initial : list of Tensor
        Empty for zeros.
    recurrent_dropout : float
        In training, each gate's recurrent product has a mask of its own over the state (Keras' form of Gal and Ghahramani 2016).
    seeds : SeedGenerator or None
    zoneout : tuple of float
        Of each state, the probability that a unit keeps its value of the step before.
    layer : type or None
        What takes the direction into a plan, where it is not the fused engine.
    vectors : Variable or None
        Weights that each unit has for itself, (n H).
    constants : tuple of float
        In their place, numbers that all units share; those beyond the cell's own stand for one state each.
    wide : int
        States that enter the product side by side; then the recurrent kernel is (wide H, G H).
    kept : list of ndarray
        Of a live sequence, the arrays [capacity, width] in which its states stand, to go on from and to leave.
    output : {"state", "activation", "both"}
        What the layer gives: the first `wide` states, what the cell gives beside them, or first this and then those.
    weights : {None, "bfloat16", "int8"}
        What the matrices are stored as.
    order : pair of tuples of int, or ()
        Gate of the engine -> gate of the kernel and of the recurrent kernel; () where they stand in Keras' order.
    turned : bool
        Whether the gradients of the kernels are written as their transposes.
    """

    cell: str
    units: int
    kernel: Variable
    recurrent_kernel: Variable | None
    bias: Variable | None
    activation: str
    recurrent_activation: str
    backwards: bool
    zero_output: bool
    initial: list[Tensor] = field(default_factory=list)
    recurrent_dropout: float = 0.0
    seeds: Any = None
    zoneout: tuple[float, ...] = ()
    layer: Any = None
    vectors: Variable | None = None
    constants: tuple[float, ...] = ()
    wide: int = 1
    kept: list[np.ndarray] = field(default_factory=list)
    output: str = "state"
    weights: str | None = None
    order: tuple[tuple[int, ...], ...] = ()
    turned: bool = False

    @property
    def width(self) -> int:
        """Of the output."""
        return self.units * {"state": self.wide, "activation": 1, "both": 1 + self.wide}[self.output]


@dataclass
class Result:
    """What a direction gives: all steps, the last one, the final states. None and [] where they were not asked for."""

    sequence: Tensor | None
    last: Tensor | None
    states: list[Tensor]


class Part:
    """One direction on its way into a plan: what the fused engine's layers and all others have in common. `op` and `line` make its op.

    Parameters
    ----------
    b : Builder
    x : Tensor
    d : Direction
    sequence, last, states : bool
        What is asked for.
    into : Buffer or None
        Where the sequence is written, if not into a tensor of its own.
    """

    work = 0.0
    ways: tuple[int, ...] = ()  # how threads may share it
    chunk = 0  # steps whose gate inputs the fused engine computes at once
    choice = Choice(SPLIT_NONE, {SPLIT_NONE: 0.0})

    def __init__(self, b: Builder, x: Tensor, d: Direction, sequence: bool, last: bool, states: bool, into: Buffer | None) -> None:
        self.b, self.x, self.d, self.maker = b, x, d, b.plan.maker
        self.batch, self.time, self.inputs = x.rows.batch, x.rows.time, x.width
        self.buffers: dict[str, Buffer | None] = {"x": x.buffer}
        self.result = self._results(sequence, last, states, into)

    def op(self, backward: bool) -> Any:
        raise NotImplementedError

    def line(self, kind: str) -> str:
        raise NotImplementedError

    def shared(self) -> str:
        """How threads share it, for `line`."""
        return str(self.choice) if self.b.plan.threads > 1 else "split=one thread"

    def cost(self) -> Work:
        """What the schedule looks at, of a part that has `ways`."""
        raise NotImplementedError

    def prepare_backward(self, dy: Buffer | None) -> None:
        """Buffers of the backward op."""
        raise NotImplementedError

    def state_sizes(self) -> list[int]:
        """Width of each state."""
        raise NotImplementedError

    def _results(self, sequence: bool, last: bool, states: bool, into: Buffer | None) -> Result:
        b, x, width = self.b, self.x, (self.d.width,)
        y = None
        if sequence:
            buffer = into or b.rows_buffer("sequence", x.rows, self.d.width)
            y = Tensor(x.rows, width, buffer, timed=True, strided=into is None)
        rows = b.batch_rows(x.rows) if last or states else x.rows
        final = b.tensor("last", x, width, rows, timed=False) if last else None
        return Result(y, final, [b.tensor(f"state {i}", x, (n,), rows, timed=False) for i, n in enumerate(self.state_sizes() if states else [])])

    def _outside(self) -> None:
        """Buffers of the results and of the states to start from."""
        r, buffers = self.result, self.buffers
        buffers |= self.outputs(r.sequence.buffer if r.sequence else None, "y") | self.outputs(r.last.buffer if r.last else None, "last")
        buffers |= {f"state_out{i}": s.buffer for i, s in enumerate(r.states)} | {f"state_in{i}": s.buffer for i, s in enumerate(self.d.initial)}

    def _outside_back(self, dy: Buffer | None) -> None:
        r, buffers = self.result, self.buffers
        buffers |= self.outputs(dy, "y", "d") | self.outputs(r.last.grad if r.last else None, "last", "d")
        for i, state in enumerate(r.states):
            buffers[f"dstate_out{i}"] = state.grad
        for i, state in enumerate(self.d.initial):
            if state.needs_grad:
                buffers[f"dstate_in{i}"] = self.b.rows_buffer("d state", state.rows, state.width)

    def outputs(self, buffer: Buffer | None, name: str, prefix: str = "") -> dict[str, Buffer | None]:
        """What the op calls a buffer of outputs (or of their gradients)."""
        return {} if buffer is None else {f"{prefix}{name}": buffer}

    def after_backward(self) -> None:
        """What follows the backward op."""
        self.b.hand_over(self.x, self.buffers.get("dx"))
        for i, state in enumerate(self.d.initial):
            self.b.hand_over(state, self.buffers.get(f"dstate_in{i}"))
