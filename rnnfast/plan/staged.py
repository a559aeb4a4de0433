"""Recurrent layers of more stages in a plan: the inputs' gates for all steps, the loop, and dense products for the gradients of its matrices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rnnfast import _engine
from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.direction import Direction, Part
from rnnfast.plan.params import Variable
from rnnfast.plan.schedule import SPLIT_ROWS, Work

GROUPS = {"lstm": (0, 4), "gru": (0, 2, 3)}  # borders of the gates that are normalised together


@dataclass
class StagedDirection(Direction):
    """One direction of a staged layer. `units` is the width of its output.

    Attributes
    ----------
    hidden : int
        Units H of the cell.
    projection : Variable or None
        (H, units).
    gains, shifts : list of (Variable or None, int)
        Of the normalisations of the input's gates, the state's gates and the cell state, each with the variable's row; [] where nothing is normalised.
    epsilon : float
    """

    hidden: int = 0
    projection: Variable | None = None
    recurrent_kernel: Variable
    gains: list[Variable | None] = field(default_factory=list)
    shifts: list[tuple[Variable | None, int]] = field(default_factory=list)
    epsilon: float = 0.0


class StagedPart(Part):
    """A direction that `_engine/staged.pyx` runs."""

    d: StagedDirection
    ways = (SPLIT_ROWS,)

    def __init__(self, b: Builder, x: Tensor, d: StagedDirection, sequence: bool, last: bool, states: bool, into: Buffer | None) -> None:
        self.gate_count, self.slots, self.state_count = _engine.row_cell_facts(b.dtype, d.cell)
        self.columns = self.gate_count * d.hidden
        super().__init__(b, x, d, sequence, last, states, into)
        self.work = 2.0 * self.batch * self.time * self.columns * d.units
        bias = d.bias if not d.gains else None
        self.gates = b.dense(x, d.kernel, bias, "linear")
        self._outside()
        self._forward()

    def state_sizes(self) -> list[int]:
        return [self.d.units, self.d.hidden][: self.state_count]

    def _forward(self) -> None:
        b, d, rows, buffers = self.b, self.d, self.x.rows, self.buffers
        per_thread = 2 * self.columns + 4 * d.hidden + b.lanes
        buffers |= {
            "gates": self.gates.buffer, "h": b.buffer("h", self.batch * d.units, d.units), "memory": b.buffer("memory", self.batch * d.hidden, d.hidden),
            "work": b.buffer("work", per_thread * b.plan.threads, per_thread),
            "recurrent": b.params.panels(d.recurrent_kernel, (d.units, self.columns, 1), (0,)),
            "product": self._rows("product", self.columns, bool(d.gains)),
        }  # fmt: skip
        if d.projection is not None:
            buffers["projection"] = b.params.panels(d.projection, (d.hidden, d.units, 1), (0,))
            buffers["hidden"] = self._rows("hidden", d.hidden, True)
        for i, gain in enumerate(d.gains):
            buffers[f"gain{i}"] = b.params.operand(gain) if gain else None
            shift = d.shifts[i][0]
            buffers[f"shift{i}"] = b.params.operand(shift) if shift else None
        if d.gains:
            buffers["kept"] = b.buffer("means and deviations", rows.batch * (rows.time + 1) * 4 * (2 * len(GROUPS[d.cell]) - 1))
        if b.gradients:
            buffers["tape"] = b.rows_buffer("tape", rows, self.slots * d.hidden)
            buffers["h_tape"] = b.rows_buffer("h tape", rows, d.units)
            if d.gains and d.gains[-1]:
                buffers["cell_tape"] = b.rows_buffer("cell tape", rows, d.hidden)

    def _rows(self, name: str, width: int, taped: bool) -> Buffer:
        """A buffer of all steps where the backward pass reads it, else of one step."""
        if taped and self.b.gradients:
            return self.b.rows_buffer(name, self.x.rows, width)
        return self.b.buffer(name, self.batch * width, width)

    def op(self, backward: bool) -> Any:
        b, d = self.b, self.d
        sizes = {
            "width": d.units, "units": d.hidden, "groups": [n * d.hidden for n in GROUPS[d.cell]], "reverse": int(d.backwards),
            "act": _engine.ACTIVATIONS.index(d.activation), "gate": _engine.ACTIVATIONS.index(d.recurrent_activation), "zero_pads": int(d.zero_output),
            "shared": int(self.choice.split == SPLIT_ROWS), "epsilon": d.epsilon, "shift_rows": [row for _, row in d.shifts],
        }  # fmt: skip
        given = {name: buffer for name, buffer in self.buffers.items() if buffer is not None}
        return _engine.StagedLayer(b.dtype, d.cell, self.x.rows, given, sizes, backward)

    def cost(self) -> Work:
        return Work(self.batch, self.time, 0, self.d.hidden, self.gate_count, self.d.units, self.b.itemsize, self.b.lanes, max(1, self.time))

    def line(self, kind: str) -> str:
        d = self.d
        words = "normalised " * bool(d.gains) + "projected " * (d.projection is not None)
        return f"{kind:<16}{words}{d.cell} {self.inputs} {'<-' if d.backwards else '->'} {d.units} T={self.time} {self.shared()}"

    def prepare_backward(self, dy: Buffer | None) -> None:
        b, d, rows, buffers = self.b, self.d, self.x.rows, self.buffers
        self._outside_back(dy)
        buffers |= {
            "carry": b.buffer("carry", self.batch * d.units, d.units), "carry_cell": b.buffer("carry cell", self.batch * d.hidden, d.hidden),
            "dgates": b.rows_buffer("d gates", rows, self.columns), "dproduct": b.rows_buffer("d product", rows, self._padded(self.columns)),
            "recurrent_t": b.params.panels(d.recurrent_kernel, (d.units, self.columns, 1), (0,), transposed=True),
        }  # fmt: skip
        if d.projection is not None:
            buffers["projection_t"] = b.params.panels(d.projection, (d.hidden, d.units, 1), (0,), transposed=True)
            buffers["dhidden"] = b.buffer("d hidden", self.batch * d.hidden, d.hidden)
            buffers["dh_tape"] = b.rows_buffer("d h tape", rows, self._padded(d.units))
        for i, gain in enumerate(d.gains):
            if gain:
                one = i == 1 and d.cell == "lstm"  # whose two sides' gradients are the same
                buffers[f"dnormal{i}"] = buffers["dnormal0"] if one else b.rows_buffer("d normal", rows, d.hidden if i == 2 else self.columns)
                buffers[f"dgain{i}"] = b.gradient(gain)
        shifts = {shift: b.gradient(shift) for shift, _ in d.shifts if shift}
        buffers |= {f"dshift{i}": shifts[shift] for i, (shift, _) in enumerate(d.shifts) if shift}

    def _padded(self, width: int) -> int:
        return -(-width // self.b.lanes) * self.b.lanes

    def after_backward(self) -> None:
        d, buffers = self.d, self.buffers
        self._matrix("h_tape", "dproduct", d.recurrent_kernel)
        if d.projection is not None:
            self._matrix("hidden", "dh_tape", d.projection)
        self.b.hand_over(self.gates, buffers["dgates"])
        super().after_backward()

    def _matrix(self, x: str, dy: str, variable: Variable) -> None:
        """The gradient of one matrix: x^T dy over all rows."""
        b = self.b
        inputs, outputs = variable.shape
        size = b.sums_room(self.x.rows, inputs)
        buffers = {
            "x": self.buffers[x], "y": self.buffers[dy], "dy": self.buffers[dy], "dkernel": b.gradient(variable),
            "work": b.rows_buffer("d rows", self.x.rows, self._padded(outputs)), "slot0": b.buffer("scratch", size * b.plan.threads, size),
        }  # fmt: skip
        b.op("dense_back", self.x.rows, buffers, variable.path, n=inputs, m=outputs, act=0)
