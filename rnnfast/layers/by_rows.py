"""SimpleRNN, LSTM and GRU with an activation over all units of a gate, as softmax: their steps in NumPy, since the fused step has a vector of units at a time.

Products are made a row at a time, so that a row's bits do not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.autodiff.scan import Arrays, Scan
from rnnfast.autodiff.tape import Array, Weight, record, value_of
from rnnfast.plan import Tensor
from rnnfast.plan.python_cell import PythonDirection, PythonPart

Step = Callable[["RowCell", Any, list[Any]], list[Any]]


def times(x: Any, weight: Any) -> Any:
    """x . weight."""
    rows, matrix = value_of(x), value_of(weight)
    return record([_times(rows, matrix)], [x, weight], lambda given: [_times(given[0], matrix.T), rows.T @ given[0]])[0]


def _times(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return (x[:, None] @ matrix)[:, 0]


def activate(name: str, x: Any) -> Any:
    """The engine's activation, over the last axis where it works on rows."""
    before = value_of(x)
    y = _engine.elementwise(name, before)
    return record([y], [x], lambda given: [_engine.elementwise_back(name, before, y, given[0])])[0]


def _split(gates: Any, count: int) -> Any:
    return np.split(gates, count, axis=1)


def _simple_rnn(cell: RowCell, x: Any, states: list[Any]) -> list[Any]:
    return [cell.inner(x + cell.product(states[0], 1))]


def _lstm(cell: RowCell, x: Any, states: list[Any]) -> list[Any]:
    h, c = states
    i, f, g, o = _split(x + cell.product(h, 4), 4)
    c = cell.gate(f) * c + cell.gate(i) * cell.inner(g)
    return [cell.gate(o) * cell.inner(c), c]


def _gru(cell: RowCell, x: Any, states: list[Any]) -> list[Any]:
    (h,) = states
    z_x, r_x, n_x = _split(x, 3)
    if cell.resets_before:
        z_h, r_h = _split(cell.product(h, 2), 2)
        n_h = times(cell.gate(r_x + r_h) * cell.dropped(h, 2), cell.recurrent[:, 2 * cell.output_width :])
    else:
        z_h, r_h, n_h = _split(cell.with_bias(cell.product(h, 3), 1), 3)
        n_h = cell.gate(r_x + r_h) * n_h
    z, n = cell.gate(z_x + z_h), cell.inner(n_x + n_h)
    return [z * h + (1 - z) * n]


STEPS: dict[str, Step] = {"simple_rnn": _simple_rnn, "lstm": _lstm, "gru": _gru, "gru_reset_before": _gru}


class RowCell:
    """A layer's step as `autodiff.scan` runs it.

    Parameters
    ----------
    layer : SimpleRNN, LSTM or GRU
    """

    takes_training = False

    def __init__(self, layer: Any) -> None:
        self.layer, self.step = layer, STEPS[layer.cell]
        self.state_sizes, self.output_width, self.resets_before = layer.state_sizes, layer.units, layer.cell == "gru_reset_before"
        self.variables = [v for v in (layer.kernel, layer.recurrent_kernel, layer.bias) if v is not None]
        self.handles = [Weight(v) for v in self.variables]
        self.kernel, self.recurrent = self.handles[:2]
        self.masks: np.ndarray | None = None  # of the rows at hand: recurrent dropout's, a gate each
        self.keeps: list[Any] = []  # the new value's share of each state, of those with zoneout

    def gate(self, x: Any) -> Any:
        return activate(self.layer.recurrent_activation, x)

    def inner(self, x: Any) -> Any:
        return activate(self.layer.activation, x)

    def dropped(self, h: Any, gate: int) -> Any:
        """The state as a gate's product takes it."""
        return h if self.masks is None else h * self.masks[gate]

    def product(self, h: Any, gates: int) -> Any:
        """h . R of the first gates, side by side."""
        n = self.output_width
        if self.masks is None:
            return times(h, self.recurrent[:, : gates * n])
        return np.concatenate([times(self.dropped(h, gate), self.recurrent[:, gate * n : (gate + 1) * n]) for gate in range(gates)], axis=1)

    def with_bias(self, product: Any, row: int) -> Any:
        """The product with its bias, of the input (0) or the state (1)."""
        if not self.layer.use_bias:
            return product
        bias = self.handles[2]
        return product + (bias[row] if len(bias.shape) == 2 else bias)

    def call(self, inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """One step: (output, new states)."""
        new = self.step(self, self.with_bias(times(inputs, self.kernel), 0), states)
        new = [after if keep is None else keep * after + (1 - keep) * before for keep, after, before in zip(self.keeps, new, states, strict=True)]
        return new[0], new


@dataclass
class RowScan(Scan):
    """As the engine, without NumPy's warnings and with its noise, `masks` and `keep0`, `keep1`, in training."""

    noise: Arrays = field(default_factory=dict)

    @np.errstate(all="ignore")
    def forward(self, a: Arrays) -> None:
        self.noise = {name: a[name].copy() for name in ("masks", "keep0", "keep1") if name in a}  # which the tape refers to
        super().forward(a)

    def _step(self, t: int, inputs: Array, states: list[Array]) -> tuple[Any, list[Any]]:
        cell, noise, (first, n) = self.cell, self.noise, self.rows.steps[t]
        if "masks" in noise:
            cell.masks = noise["masks"].reshape(-1, self.rows.batch, cell.output_width)[:, :n]
        expected = [1 - rate if rate else None for rate in cell.layer.zoneouts()]
        cell.keeps = [noise[f"keep{i}"][first : first + n] if f"keep{i}" in noise else share for i, share in enumerate(expected)]
        return super()._step(t, inputs, states)

    backward = np.errstate(all="ignore")(Scan.backward)


def direction(layer: Any, initial: list[Tensor], backwards: bool) -> PythonDirection:
    """What `plan.recurrent.add_recurrent` runs."""
    cell = RowCell(layer)
    scan = lambda rows, features, training, taped: RowScan(cell, f"{type(layer).__name__} '{layer.name}'", rows, features, training, taped, backwards)
    return PythonDirection(
        layer.units, cell.state_sizes, cell.variables, scan, backwards, layer.zero_output_for_mask, initial, PythonPart,
        layer.gates, layer.recurrent_dropout, layer.zoneouts(), layer.seeds,
    )  # fmt: skip
