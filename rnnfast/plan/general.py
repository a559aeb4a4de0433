"""Recurrent layers with any activations, a clip or coupled gates in a plan: the inputs' gates for all steps, then the loop. For inference."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

from rnnfast import _engine
from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.direction import Direction, Part
from rnnfast.plan.params import Variable
from rnnfast.plan.schedule import SPLIT_ROWS, Work


@dataclass
class GeneralDirection(Direction):
    """One direction of a general layer. Its `bias` is what is added to x W; `vectors` are the peepholes (3 H) of i, f, o.

    Attributes
    ----------
    functions : list of (str, float, float)
        Name (of `_engine.FUNCTIONS`), alpha and beta of the gates' activation, the candidate's and an LSTM's output's.
    clip : float
        The gates' sums are kept in [-clip, clip] before their activations, as onnxruntime does; an LSTM's cell state is not.
    coupled : bool
        Whether an LSTM's forget gate is 1 - i.
    recurrent_bias : Variable or None
        (H), of the candidate of a GRU that resets after the product.
    """

    recurrent_kernel: Variable
    functions: list[tuple[str, float, float]] = field(default_factory=list)
    clip: float = inf
    coupled: bool = False
    recurrent_bias: Variable | None = None


class GeneralPart(Part):
    """A direction that `_engine/general.pyx` runs."""

    d: GeneralDirection
    ways = (SPLIT_ROWS,)

    def __init__(self, b: Builder, x: Tensor, d: GeneralDirection, sequence: bool, last: bool, states: bool, into: Buffer | None) -> None:
        if b.gradients:
            raise ValueError(f"{b.plan.maker}: a recurrent layer with a clip, coupled gates or activations with parameters is for inference alone.")
        self.gate_count, self.state_count = _engine.GENERAL_CELLS[d.cell]
        super().__init__(b, x, d, sequence, last, states, into)
        self.columns = self.gate_count * d.units
        self.work = 2.0 * self.batch * self.time * self.columns * d.units
        self.gates = b.dense(x, d.kernel, d.bias, "linear")
        self._outside()
        self._forward()

    def state_sizes(self) -> list[int]:
        return [self.d.units] * self.state_count

    def _forward(self) -> None:
        b, d, units = self.b, self.d, self.d.units
        before = d.cell == "gru_reset_before"
        rows = lambda name, width: b.buffer(name, self.batch * width, width)
        self.buffers |= {
            "gates": self.gates.buffer, "h": rows("h", units), "product": rows("product", self.columns),
            "recurrent0": b.params.panels(d.recurrent_kernel, (units, 2 * units if before else self.columns, 1), (0,)),
        }  # fmt: skip
        if before:
            self.buffers["recurrent1"] = b.params.panels(d.recurrent_kernel, (units, units, 1), (2,))
            self.buffers["reset"] = rows("reset h", units)
        if self.state_count > 1:
            self.buffers["memory"] = rows("memory", units)
        for name, variable in {"recurrent_bias": d.recurrent_bias, "peephole": d.vectors}.items():
            if variable is not None:
                self.buffers[name] = b.params.operand(variable)

    def op(self, backward: bool) -> Any:
        d = self.d
        functions = [(_engine.FUNCTIONS.index(name), alpha, beta) for name, alpha, beta in d.functions]
        sizes = {"units": d.units, "reverse": int(d.backwards), "shared": int(self.choice.split == SPLIT_ROWS), "coupled": int(d.coupled), "clip": d.clip}
        given = {name: buffer for name, buffer in self.buffers.items() if buffer is not None}
        return _engine.GeneralLayer(self.b.dtype, d.cell, self.x.rows, given, functions, sizes)

    def cost(self) -> Work:
        return Work(self.batch, self.time, self.inputs, self.d.units, self.gate_count, self.d.units, self.b.itemsize, self.b.lanes, max(1, self.time))

    def line(self, kind: str) -> str:
        d = self.d
        return f"{kind:<16}general {d.cell} {self.inputs} {'<-' if d.backwards else '->'} {d.units} T={self.time} {self.shared()}"
