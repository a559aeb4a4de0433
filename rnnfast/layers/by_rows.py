"""SimpleRNN, LSTM and GRU with an activation over all units of a gate, as softmax: their steps in NumPy, since the fused step has a vector of units at a time.

Products are made a row at a time, so that a row's bits do not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.autodiff.scan import Scan
from rnnfast.autodiff.tape import Weight, record, value_of
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
    return [cell.inner(x + times(states[0], cell.recurrent))]


def _lstm(cell: RowCell, x: Any, states: list[Any]) -> list[Any]:
    h, c = states
    i, f, g, o = _split(x + times(h, cell.recurrent), 4)
    c = cell.gate(f) * c + cell.gate(i) * cell.inner(g)
    return [cell.gate(o) * cell.inner(c), c]


def _gru(cell: RowCell, x: Any, states: list[Any]) -> list[Any]:
    (h,) = states
    z_x, r_x, n_x = _split(x, 3)
    if cell.resets_before:
        border = 2 * cell.output_width
        z_h, r_h = _split(times(h, cell.recurrent[:, :border]), 2)
        n_h = times(cell.gate(r_x + r_h) * h, cell.recurrent[:, border:])
    else:
        z_h, r_h, n_h = _split(cell.with_bias(times(h, cell.recurrent), 1), 3)
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

    def gate(self, x: Any) -> Any:
        return activate(self.layer.recurrent_activation, x)

    def inner(self, x: Any) -> Any:
        return activate(self.layer.activation, x)

    def with_bias(self, product: Any, row: int) -> Any:
        """The product with its bias, of the input (0) or the state (1)."""
        if not self.layer.use_bias:
            return product
        bias = self.handles[2]
        return product + (bias[row] if len(bias.shape) == 2 else bias)

    def call(self, inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """One step: (output, new states)."""
        new = self.step(self, self.with_bias(times(inputs, self.kernel), 0), states)
        return new[0], new


class RowScan(Scan):
    """As the engine, without NumPy's warnings."""

    forward = np.errstate(all="ignore")(Scan.forward)
    backward = np.errstate(all="ignore")(Scan.backward)


def direction(layer: Any, initial: list[Tensor], backwards: bool) -> PythonDirection:
    """What `plan.recurrent.add_recurrent` runs."""
    cell = RowCell(layer)
    scan = lambda rows, features, training, taped: RowScan(cell, f"{type(layer).__name__} '{layer.name}'", rows, features, training, taped, backwards)
    return PythonDirection(layer.units, cell.state_sizes, cell.variables, scan, backwards, layer.zero_output_for_mask, initial, PythonPart)
