"""A cell written in NumPy, run over packed rows, forward and back through time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnnfast.autodiff.tape import Array, Tape, Traced, record, recording_on, value_of
from rnnfast.errors import ShapeError

Arrays = dict[str, Array]


def call_cell(cell: Any, inputs: Any, states: Sequence[Any], training: bool) -> tuple[Any, list[Any]]:
    """(output, new states) of one step, shapes checked. A cell with a `backward` of its own is one operation of the tape."""
    if not hasattr(cell, "backward"):
        return _called(cell, inputs, list(states), training)
    values, before = value_of(inputs), [value_of(s) for s in states]
    with recording_on(None):
        output, new = _called(cell, values, before, training)
    after = [np.array(value_of(one)) for one in (output, *new)]
    weights = cell.handles

    def pull(given: list[Array]) -> list[Array | None]:
        dx, dstates, dweights = cell.backward(values, before, after[0], after[1:], given[0], given[1:])
        gradients = [dx, *dstates, *dweights]
        wanted = [values, *before, *(w.value for w in weights)]
        if [np.shape(g) for g in gradients] != [w.shape for w in wanted]:
            raise ShapeError(
                f"{type(cell).__name__}: backward must return (d_inputs, d_states, d_weights) of shapes {[w.shape for w in wanted]}, got {[np.shape(g) for g in gradients]}."
            )
        return gradients

    output, *new = record(after, [inputs, *states, *weights], pull)
    return output, new


def _called(cell: Any, inputs: Any, states: list[Any], training: bool) -> tuple[Any, list[Any]]:
    name, rows = type(cell).__name__, inputs.shape[0]
    result = cell.call(inputs, states, training=training) if cell.takes_training else cell.call(inputs, states)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}: call must return (output, new_states), got {type(result).__name__}.")
    output, new = result
    new = list(new) if isinstance(new, (list, tuple)) else [new]
    sizes = cell.state_sizes
    if np.shape(value_of(output)) != (rows, cell.output_width):
        raise ShapeError(f"{name}: call must return an output of shape {(rows, cell.output_width)}, got {np.shape(value_of(output))}.")
    if [np.shape(value_of(s)) for s in new] != [(rows, n) for n in sizes]:
        raise ShapeError(f"{name}: call must return new states of shapes {[(rows, n) for n in sizes]}, got {[np.shape(value_of(s)) for s in new]}.")
    return output, new


def initial_states(cell: Any, batch: int, dtype: Any) -> list[Any]:
    """The cell's own initial states, or zeros."""
    sizes = cell.state_sizes
    if not hasattr(cell, "get_initial_state"):
        return [np.zeros((batch, n), dtype) for n in sizes]
    given = cell.get_initial_state(batch_size=batch)
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    if [np.shape(value_of(s)) for s in given] != [(batch, n) for n in sizes]:
        shapes = [np.shape(value_of(s)) for s in given]
        raise ShapeError(f"{type(cell).__name__}: get_initial_state must return arrays of shapes {[(batch, n) for n in sizes]}, got {shapes}.")
    return given


@dataclass
class Step:
    """What backward needs of one time step."""

    tape: Tape
    inputs: Traced
    states: list[Traced]
    results: list[Any]


@dataclass
class Scan:
    """The loop over time of one cell.

    Parameters
    ----------
    cell : Cell
    owner : str
        As errors name the layer.
    rows : Rows
    features : tuple of int
        Of an input row.
    training, taped, backwards : bool
    """

    cell: Any
    owner: str
    rows: Any
    features: tuple[int, ...]
    training: bool
    taped: bool
    backwards: bool
    steps: list[Step | None] = field(default_factory=list)
    start: Tape = field(default_factory=Tape)
    own: list[Any] = field(default_factory=list)

    def order(self) -> list[int]:
        times = list(range(self.rows.time))
        return times[::-1] if self.backwards else times

    def forward(self, a: Arrays) -> None:
        """From x and, where given, state_in0, state_in1, ...: y, last, state_out0, ... Rows without a step give 0 and their initial state."""
        table, dtype = self.rows.steps, a["x"].dtype
        states = self._initial(a, dtype)
        if "y" in a:
            a["y"][: self.rows.count + self.rows.pads] = 0
        if "last" in a:
            a["last"][...] = 0
        self.steps = [None] * len(table)
        for t in self.order():
            first, n = table[t]
            if n == 0:
                continue
            inputs = a["x"][first : first + n].reshape(n, *self.features)
            inputs.flags.writeable = False  # it may be the caller's
            output, new = self._step(t, inputs, [s[:n].copy() for s in states])
            for state, value in zip(states, new, strict=True):
                state[:n] = value_of(value)
            if "y" in a:
                a["y"][first : first + n] = value_of(output)
            if "last" in a:
                a["last"][:n] = value_of(output)
        for i, state in enumerate(states):
            if f"state_out{i}" in a:
                a[f"state_out{i}"][: len(state)] = state

    def _initial(self, a: Arrays, dtype: Any) -> list[Array]:
        self.start, self.own = Tape(), []
        if "state_in0" in a:
            return [a[f"state_in{i}"][: self.rows.batch].copy() for i in range(len(self.cell.state_sizes))]
        with self.start.recording():
            self.own = [state[self.rows.order] for state in initial_states(self.cell, self.rows.batch, dtype)]
        return [np.array(value_of(s), dtype) for s in self.own]

    def _step(self, t: int, inputs: Array, states: list[Array]) -> tuple[Any, list[Any]]:
        try:
            if not self.taped:
                return call_cell(self.cell, inputs, states, self.training)
            tape = Tape()
            with tape.recording():
                x, before = tape.input(inputs), [tape.input(s) for s in states]
                output, new = call_cell(self.cell, x, before, self.training)
        except Exception as error:
            error.add_note(f"{self.owner}: raised at time step {t}.")
            raise
        self.steps[t] = Step(tape, x, before, [output, *new])
        return output, new

    def backward(self, a: Arrays) -> None:
        """From dy, dlast, dstate_out0, ... where given: dx, dstate_in0, ... where wanted, and dweight0, ... of the cell's weights."""
        table, handles, dtype = self.rows.steps, self.cell.handles, a["x"].dtype
        weights = [a[f"dweight{i}"].reshape(handle.shape) for i, handle in enumerate(handles)]
        for gradient in weights:
            gradient[...] = 0
        if "dx" in a:
            a["dx"][: self.rows.count + self.rows.pads] = 0
        batch = self.rows.batch
        dstates = [a[f"dstate_out{i}"][:batch].copy() if f"dstate_out{i}" in a else np.zeros((batch, n), dtype) for i, n in enumerate(self.cell.state_sizes)]
        for t in self.order()[::-1]:
            first, n = table[t]
            step = self.steps[t] if n else None
            if step is None:
                continue
            found = self._step_back(t, step, self._upstream(a, t, first, n), [d[:n] for d in dstates])
            if "dx" in a and step.inputs in found:
                a["dx"][first : first + n] = found[step.inputs].reshape(n, -1)
            for d, state in zip(dstates, step.states, strict=True):
                d[:n] = found.get(state, 0)
            self._add(weights, step.tape, found)
            self.steps[t] = None
        self._end(a, dstates, weights)

    def _upstream(self, a: Arrays, t: int, first: int, n: int) -> Array:
        """The gradient of step t's output: as a part of the sequence, and as the last one of the rows that end here."""
        d = a["dy"][first : first + n].copy() if "dy" in a else np.zeros((n, self.cell.output_width), a["x"].dtype)
        if "dlast" in a:
            later = (0 if t == 0 else n) if self.backwards else self.rows.steps[t + 1][1] if t + 1 < self.rows.time else 0
            d[later:] += a["dlast"][later:n]
        return d

    def _step_back(self, t: int, step: Step, d_output: Array, d_states: list[Array]) -> dict[Traced, Array]:
        try:
            return step.tape.gradients(step.results, [d_output, *(d.copy() for d in d_states)])
        except Exception as error:
            error.add_note(f"{self.owner}: raised in the gradient of time step {t}.")
            raise

    def _add(self, weights: list[Array], tape: Tape, found: dict[Traced, Array]) -> None:
        for gradient, handle in zip(weights, self.cell.handles, strict=True):
            leaf = tape.leaves.get(handle)
            if leaf is not None and leaf in found:
                gradient += found[leaf]

    def _end(self, a: Arrays, dstates: list[Array], weights: list[Array]) -> None:
        if self.own:
            self._add(weights, self.start, self.start.gradients(self.own, dstates))
        for i, d in enumerate(dstates):
            if f"dstate_in{i}" in a:
                a[f"dstate_in{i}"][: self.rows.batch] = d

