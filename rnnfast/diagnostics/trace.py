"""Runs of a model whose tape stays open: what each direction of each recurrent layer kept, as the caller's arrays [B, T, ...]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows


@dataclass
class Trace:
    """One direction of a recurrent layer after a run with a tape.

    Attributes
    ----------
    kept : the direction as it stands in the plan
    program : engine program that ran
    lanes : int
        Of the engine's vectors.
    dtype : str
    """

    kept: Any
    program: Any
    lanes: int
    dtype: str

    @property
    def name(self) -> str:
        """Of the layer, as its weights' paths say."""
        d = self.kept.d
        first = d.kernel if hasattr(d, "kernel") else next(iter(d.variables), None)
        return str(self.kept.maker if first is None else first.path.rpartition("/")[0])

    @property
    def cell(self) -> str:
        return str(getattr(self.kept.d, "cell", "python"))

    @property
    def fused(self) -> bool:
        """Whether the fused engine runs it, whose tape holds the gates."""
        return hasattr(self.kept, "tape_panel")

    @property
    def units(self) -> int:
        return int(self.kept.d.units if hasattr(self.kept.d, "units") else self.kept.d.width)

    @property
    def backwards(self) -> bool:
        return bool(self.kept.d.backwards)

    @property
    def rows(self) -> Rows:
        rows: Rows = self.kept.x.rows
        return rows

    def _rows_of(self, buffer: Buffer, rows: int) -> np.ndarray:
        """The first H columns of a buffer's rows."""
        run = np.empty(max(0, (rows - 1) * buffer.stride + self.units), self.dtype)
        self.program.read(buffer, run)
        return np.lib.stride_tricks.as_strided(run, (rows, self.units), (buffer.stride * run.itemsize, run.itemsize))

    @property
    def valid(self) -> np.ndarray:
        """Which steps exist [B, T]."""
        found = np.zeros(self.rows.batch * self.rows.time, bool)
        found[self.rows.source] = True
        return found.reshape(self.rows.batch, self.rows.time)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Packed rows as [B, T, width], NaN at masked steps."""
        rows = self.rows
        full = np.full((rows.batch * rows.time, packed.shape[1]), np.nan, self.dtype)
        full[rows.source] = packed[: rows.count]
        return full.reshape(rows.batch, rows.time, -1)

    def state_gradients(self) -> np.ndarray:
        """dL/dh after each step [B, T, H]."""
        return self.unpack(self._rows_of(self.kept.buffers["dh"], self.rows.count))

    def slot(self, index: int) -> np.ndarray:
        """One slot of the tape [B, T, H]."""
        size, slots, lanes, rows = self.kept.tape_panel, self.kept.slots, self.lanes, self.rows.count
        panels = -(-self.units // lanes)
        tape = np.empty((panels, size), self.dtype)
        self.program.read(self.kept.buffers["tape"], tape)
        cut = tape[:, : rows * slots * lanes].reshape(panels, rows, slots, lanes)[:, :, index]
        return self.unpack(np.moveaxis(cut, 0, 1).reshape(rows, panels * lanes)[:, : self.units])

    def gate(self, index: int, activation: str) -> np.ndarray:
        """The output of a gate [B, T, H]: a slot of the tape, which holds the input of activations whose derivative needs that."""
        kept = self.slot(index)
        names = _engine.ACTIVATIONS
        if names.index("silu") <= names.index(activation) < names.index("softmax"):
            return np.asarray(_engine.elementwise(activation, kept)).reshape(kept.shape)
        return kept

    def states(self) -> np.ndarray:
        """h after each step [B, T, H]."""
        buffers, rows = self.kept.buffers, self.rows
        if buffers.get("y") is not None:
            return self.unpack(self._rows_of(buffers["y"], rows.count))
        if buffers.get("h_tape") is None or buffers.get("last") is None:
            raise ValueError(f"hidden_states: '{self.name}' ({self.cell}) keeps its states with return_sequences=True alone.")
        # without a sequence: the state before the step that follows, and the last output
        after = before = self.unpack(self._rows_of(buffers["h_tape"], rows.count))
        last, valid = self._rows_of(buffers["last"], rows.batch), self.valid
        for place, row in enumerate(rows.order):
            steps = np.flatnonzero(valid[row])[:: -1 if self.backwards else 1]
            after[row, steps[:-1]] = before[row, steps[1:]]
            after[row, steps[-1:]] = last[place]
        return after


def traces(builder: Any, program: Any) -> list[Trace]:
    """One for each direction of each recurrent layer of a plan that has run."""
    return [Trace(kept, program, builder.lanes, builder.dtype) for kept in builder.recurrent]


def forward(model: Any, x: Any, lengths: Any = None, mask: Any = None) -> list[Trace]:
    """Predict with a tape.

    Raises
    ------
    ValueError
        If the model has no recurrent layer.
    """
    runner = model.runner()
    xs = runner.check_inputs(x)
    valid = runner.steps_to_run(runner.check_masks(xs, mask, lengths))
    bound = runner.start(xs, valid, False, True, 0)
    need_recurrent(runner.owner, bound.builder)
    bound.outputs = [(bound.builder.output(t, "output"), t) for _, t in bound.outputs]
    bound.program = bound.builder.plan.compile()
    runner.execute(bound, xs, valid, [None] * len(xs), [], [np.empty(t.shape, runner.dtype) for _, t in bound.outputs])
    return traces(bound.builder, bound.program)


def need_recurrent(owner: str, builder: Any) -> None:
    """Complain about a plan without a recurrent layer."""
    if not builder.recurrent:
        raise ValueError(f"{owner}: has no recurrent layer to look into; add SimpleRNN, LSTM, GRU or a Bidirectional of them.")
