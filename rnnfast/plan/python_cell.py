"""A recurrent layer whose cell is Python, in a plan: the engine calls back into Python once a pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

from rnnfast import _engine
from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.direction import Part
from rnnfast.plan.noise import keep_factors, state_masks
from rnnfast.plan.params import Variable


@dataclass
class PythonDirection:
    """One direction of such a layer; see `plan.direction.Direction`.

    Attributes
    ----------
    width : int
        Of the output.
    states : list of int
        Widths of the states.
    variables : list of Variable
        The cell's.
    scan : callable
        Of (rows, features, training, taped): what runs the cell, with methods `forward` and `backward` of a dict of arrays.
    gates, recurrent_dropout, zoneout, seeds
        In training it is given `masks` of the state, [gates * batch, width], and `keep0`..., the new states' shares, [packed rows, width]; see `Direction`.
    """

    width: int
    states: list[int]
    variables: list[Variable]
    scan: Any
    backwards: bool
    zero_output: bool
    initial: list[Tensor] = field(default_factory=list)
    layer: Any = None
    gates: int = 1
    recurrent_dropout: float = 0.0
    zoneout: tuple[float, ...] = ()
    seeds: Any = None


class PythonPart(Part):
    """A direction that calls Python."""

    d: Any

    def __init__(self, b: Builder, x: Tensor, d: PythonDirection, sequence: bool, last: bool, states: bool, into: Buffer | None) -> None:
        super().__init__(b, b.packed(x), d, sequence, last, states, into)  # type: ignore[arg-type]
        if self.result.sequence:
            self.result.sequence.strided = False
        self._outside()
        if b.training:
            self._noise(d)
        self.scan = d.scan(self.x.rows, self.x.features, b.training, b.gradients)

    def _noise(self, d: PythonDirection) -> None:
        if d.recurrent_dropout:
            padded = -(-d.width // self.b.lanes) * self.b.lanes  # the fused engine's noise
            self.buffers["masks"] = state_masks(self.b, self.x.rows, d.gates, padded, d.recurrent_dropout, d.seeds)
        for i, rate in enumerate(d.zoneout):
            if rate:
                self.buffers[f"keep{i}"] = keep_factors(self.b, self.x.rows, d.width, d.width, rate, d.seeds)

    def state_sizes(self) -> list[int]:
        return list(self.d.states)

    def line(self, kind: str) -> str:
        d = self.d
        return f"{kind:<16}python {self.inputs} {'<-' if d.backwards else '->'} {d.width} T={self.time}"

    def op(self, backward: bool) -> Any:
        rows, d = self.x.rows.capacity, self.d
        wide = {"y": d.width, "dy": d.width, "x": self.inputs, "dx": self.inputs}
        arrays = {name: (buffer, rows, wide[name]) for name, buffer in self.buffers.items() if name in wide and buffer is not None}
        narrow = {"last": d.width, "dlast": d.width} | {f"{kind}{i}": n for kind in STATES for i, n in enumerate(d.states)}
        arrays |= {name: (buffer, self.batch, narrow[name]) for name, buffer in self.buffers.items() if name in narrow and buffer is not None}
        counts = {"masks": d.gates * self.batch, "keep0": rows, "keep1": rows}
        arrays |= {name: (buffer, counts[name], d.width) for name, buffer in self.buffers.items() if name in counts and buffer is not None}
        for i, variable in enumerate(d.variables if backward else []):
            arrays[f"dweight{i}"] = (self.b.gradient(variable), 1, prod(variable.shape))
        return _engine.PythonOp(self.scan.backward if backward else self.scan.forward, self.b.dtype, arrays)

    def prepare_backward(self, dy: Buffer | None) -> None:
        self._outside_back(dy)
        if self.x.needs_grad:
            self.buffers["dx"] = self.b.rows_buffer("d x", self.x.rows, self.inputs)


STATES = ("state_in", "state_out", "dstate_in", "dstate_out")
