"""Recurrent layers in a plan: the buffers of each direction, its forward op and its backward op."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.direction import Direction, Part, Result
from rnnfast.plan.live import buffer_of
from rnnfast.plan.noise import keep_factors, state_masks
from rnnfast.plan.params import Variable
from rnnfast.plan.schedule import (
    SPLIT_ROWS,
    SPLIT_UNITS,
    Work,
    choose_chunk,
    choose_pair,
    choose_split,
    choose_weights,
    choose_within,
    parts_room,
    products_line,
    weight_bytes,
)  # fmt: skip

# Gate of the engine -> Keras' gate, of the kernel and of the first phase's recurrent kernel.
GATE_ORDER = {
    "simple_rnn": ((0,), (0,)),
    "lstm": ((0, 1, 2, 3), (0, 1, 2, 3)),
    "gru": ((2, 0, 1), (0, 1, 2)),
    "gru_reset_before": ((2, 0, 1), (0, 1)),
    "statal": ((0,), (0,)),
    "statal_seen": ((0,), (0,)),
    "indrnn": ((0,), ()),
    "mingru": ((1, 0), ()),
    "peephole_lstm": ((0, 1, 2, 3), (0, 1, 2, 3)),
}
TAPE_GAP = 192  # bytes between the tape's panels, so that a row's panels fall into different cache sets
STATES_GAP = 2048  # bytes between the rows of states of two threads: a core fetches lines ahead of those that it reads, and would take those that another is about to write


class _Layer(Part):
    """A direction that the fused engine runs."""

    def __init__(self, b: Builder, x: Tensor, d: Direction, sequence: bool, last: bool, states: bool, into: Buffer | None) -> None:
        self.gates, self.slots, self.state_count, self.phases, self.vector_count = _engine.cell_facts(b.dtype, d.cell)
        self.order = d.order or GATE_ORDER[d.cell]
        self.state_count = max(self.state_count, d.wide)
        super().__init__(b, x, d, sequence, last, states, into)
        if self.result.sequence:
            self.result.sequence.spread = into is None and d.output == "state" and self.batch > 1  # one row is run as packed
        self.padded = -(-d.units // b.lanes) * b.lanes
        self.depth = d.wide * d.units if d.recurrent_kernel else 0
        self.work = 2.0 * self.batch * self.time * self.gates * d.units * (self.inputs + self.depth)
        self.dropped = b.training and d.recurrent_dropout > 0
        self._weights()
        self._state()
        if self.dropped:
            self._masks()
        for i, rate in enumerate(d.zoneout):
            if rate:
                self.buffers[f"keep{i}"] = keep_factors(b, x.rows, d.units, self.padded, rate, d.seeds)

    def state_sizes(self) -> list[int]:
        return [self.d.units] * self.state_count

    def _weights(self) -> None:
        d, params, buffers = self.d, self.b.params, self.buffers
        x_order, h_order = self.order
        choose = lambda depth: choose_weights(d.weights, self.b.plan.precision, self.b.dtype, self.batch, depth, d.units)
        self.kernel_weights = choose(self.inputs)
        plain = self.dropped or (d.weights is not None and d.wide > 1)  # operands that are not one run of values
        self.recurrent_weights = 0 if plain else choose(self.depth)
        room = max(parts_room(self.inputs, self.kernel_weights), parts_room(self.depth, self.recurrent_weights))
        if room:
            buffers["parts"] = self.b.buffer("parts", room * self.b.plan.threads, room)
        buffers["kernel"] = params.panels(d.kernel, (self.inputs, d.units, self.gates), x_order, weights=self.kernel_weights)
        for i, (gates, slot) in enumerate(self.phases):
            order = h_order if i == 0 else x_order[slot : slot + gates]
            if d.recurrent_kernel is not None:
                buffers[f"recurrent{i}"] = params.panels(d.recurrent_kernel, (self.depth, d.units, gates), order, weights=self.recurrent_weights)
        if d.bias is not None:
            buffers["bias"] = params.panels(d.bias, (1, d.units, self.gates), x_order)
            if len(d.bias.shape) == 2:
                buffers["recurrent_bias"] = params.panels(d.bias, (1, d.units, self.phases[0][0]), h_order, row=1)

        if d.vectors is not None:
            buffers["vectors"] = params.panels(d.vectors, (1, d.units, self.vector_count), tuple(range(self.vector_count)))
        elif d.constants:
            self.vector_count = len(d.constants)
            buffers["vectors"] = self.b.constants_of(np.tile(np.repeat(d.constants, self.b.lanes), self.padded // self.b.lanes))

    def _state(self) -> None:
        b, d, buffers = self.b, self.d, self.buffers
        gate_row = self.padded * self.gates
        self.chunk = choose_chunk(max(1, self.batch // b.plan.threads), self.time, gate_row, self.inputs * gate_row, b.itemsize)
        joins = len(self.phases) == 1 and self.phases[0][0] == self.gates  # the cell's step has all gates in one product, beside which it can compute their inputs
        self.within, self.ways = False, (SPLIT_ROWS,) if self.dropped else (SPLIT_ROWS, SPLIT_UNITS)  # masked states are made a row at a time
        self.within = joins and not self.kernel_weights and "parts" not in buffers and choose_within(self.cost(), b.plan.threads, self.ways)
        if self.x.outside and self.x.rows.masked:
            self._inputs()
        rows = 1 if self.within else self.batch  # of a pool there may be one row, whose steps are run alone
        buffers["x_gates"] = b.buffer("gate inputs", self.chunk * rows * gate_row, gate_row)
        self.gap = STATES_GAP // b.itemsize
        self.gaps = b.plan.threads * self.gap
        buffers["h"] = b.buffer("h", 2 * (self.batch * d.wide * self.padded + self.gaps), d.wide * self.padded)
        if self.state_count > d.wide or len(self.phases) > 1:
            buffers["memory"] = b.buffer("memory", self.batch * self.padded + self.gaps, self.padded)
        if len(self.phases) > 1:
            buffers["reset"] = b.buffer("reset h", self.batch * self.padded + self.gaps, self.padded)
        self._outside()
        for i, values in enumerate(d.kept):
            buffers[f"state_in{i}"] = buffers[f"state_out{i}"] = buffer_of(values)
        self.tape_panel = 0
        if b.gradients:
            capacity = self.x.rows.capacity
            self.tape_panel = capacity * self.slots * b.lanes + TAPE_GAP // b.itemsize
            buffers["tape"] = b.buffer("tape", self.padded // b.lanes * self.tape_panel)
            buffers["h_tape"] = b.rows_buffer("h tape", self.x.rows, d.wide * self.padded)
            if len(self.phases) > 1:
                buffers["reset_tape"] = b.rows_buffer("reset tape", self.x.rows, self.padded)

    def _inputs(self) -> None:
        """Where steps collect the rows of an input of which not all steps exist, or all of them at once."""
        if self.within:
            self.buffers["x_rows"] = self.b.buffer("input rows", self.b.plan.threads * self.batch * self.inputs, self.inputs)
        else:
            self.x = self.b.packed(self.x)
            self.buffers["x"] = self.x.buffer

    def _masks(self) -> None:
        """Recurrent dropout: a mask for each gate, or each state that enters the product."""
        b, d, buffers, rows, count = self.b, self.d, self.buffers, self.x.rows, self.mask_count
        buffers["masks"] = state_masks(b, rows, count, self.padded, d.recurrent_dropout, d.seeds)
        buffers["masked"] = b.buffer("masked h", self.batch * count * self.padded, self.padded)
        buffers["masked_tape"] = b.rows_buffer("masked h tape", rows, count * self.padded)
        buffers["reset_tape"] = b.rows_buffer("reset tape", rows, self.padded) if len(self.phases) > 1 else None

    @property
    def mask_count(self) -> int:
        return max(self.d.wide, sum(gates for gates, _ in self.phases))

    def op(self, backward: bool) -> Any:
        d = self.d
        sizes = {
            "inputs": self.inputs, "units": d.units, "chunk": self.chunk, "within": int(self.within), "tape_panel": self.tape_panel, "gap": self.gap, "gaps": self.gaps, "reverse": int(d.backwards),
            "act": _engine.ACTIVATIONS.index(d.activation), "gate": _engine.ACTIVATIONS.index(d.recurrent_activation), "split": self.choice.split,
            "zero_pads": int(d.zero_output), "scratch_size": self._scratch_size(),
            "mask_count": self.mask_count, "states": self.state_count, "wide": d.wide, "shown_timed": int(self.result.sequence is not None),
            "vector_count": self.vector_count, "kernel_weights": self.kernel_weights, "recurrent_weights": self.recurrent_weights,
            "recurrent_bias_rows": int(d.bias is not None and len(d.bias.shape) == 2), "turned": int(d.turned),
        }  # fmt: skip
        given = {name: buffer for name, buffer in self.buffers.items() if buffer is not None}
        slots = self.b.live.slot() if self.b.live is not None and d.kept else None
        return _engine.RecurrentLayer(self.b.dtype, d.cell, self.x.rows, given, sizes, self.order, backward, slots)

    def cost(self) -> Work:
        stored = tuple(weight_bytes(weights, self.b.itemsize) for weights in (self.kernel_weights, self.recurrent_weights))
        return Work(self.batch, self.time, self.inputs, self.d.units, self.gates, self.depth, self.b.itemsize, self.b.lanes, 1 if self.within else self.chunk, stored, not (self.d.initial or self.d.kept))

    def line(self, kind: str) -> str:
        inputs = "inputs within steps" if self.within else f"chunk={self.chunk}"
        return f"{kind:<16}{self} T={self.time} {inputs} {self.shared()}"

    def __str__(self) -> str:
        stored = "".join(f" {name}={products_line(weights)}" for name, weights in (("W", self.kernel_weights), ("R", self.recurrent_weights)) if weights)
        return f"{self.d.cell} {self.inputs} {'<-' if self.d.backwards else '->'} {self.d.units}{stored}"

    def prepare_backward(self, dy: Buffer | None) -> None:
        """Buffers of the backward op."""
        b, d, buffers = self.b, self.d, self.buffers
        self._outside_back(dy)
        if d.recurrent_kernel is not None:
            self._transposed(d.recurrent_kernel)
            buffers["drecurrent"] = b.gradient(d.recurrent_kernel)
        buffers["dkernel"] = b.gradient(d.kernel)
        buffers["dbias"] = b.gradient(d.bias) if d.bias is not None else None
        buffers["dvectors"] = b.gradient(d.vectors) if d.vectors is not None else None
        if self.dropped:
            buffers["product"] = b.buffer("product", self.batch * self.padded, self.padded)
        buffers["carry"] = b.buffer("carry", self.state_count * (self.batch * self.padded + self.gaps), self.padded)
        size = self._scratch_size()
        buffers["scratch"] = b.buffer("scratch", size * b.plan.threads, size)
        if self.x.needs_grad:
            buffers["kernel_t"] = b.params.panels(d.kernel, (self.inputs, d.units, self.gates), self.order[0], transposed=True)
            buffers["dx"] = b.rows_buffer("d x", self.x.rows, self.inputs)

    def _scratch_size(self) -> int:
        """Of one thread: what it adds up side by side."""
        operands = self.mask_count + 1 if self.dropped else max(self.d.wide, len(self.phases))
        return self.b.sums_room(self.x.rows, self.inputs, *operands * [self.d.units])

    def outputs(self, buffer: Buffer | None, name: str, prefix: str = "") -> dict[str, Buffer | None]:
        """Where the states and what is shown beside them stand in a buffer of outputs (or of their gradients)."""
        d = self.d
        if buffer is None:
            return {}
        shown: dict[str, Buffer | None] = {f"{prefix}shown": buffer} if d.output != "state" else {}
        if d.output == "activation":
            return shown
        return shown | {f"{prefix}{name}": self.b.part(buffer, d.units) if shown else buffer}

    def _transposed(self, kernel: Variable) -> None:
        """The recurrent kernel for the gradients of what enters the products: of all gates at once, and where it is needed of each gate or each state."""
        d, panels, (x_order, h_order) = self.d, self.b.params.panels, self.order
        for i, (gates, slot) in enumerate(self.phases):
            order = h_order if i == 0 else x_order[slot : slot + gates]
            self.buffers[f"recurrent_t{i}"] = panels(kernel, (d.units, d.units, gates), order, transposed=True)
        for state in range(d.wide if d.wide > 1 else 0):
            self.buffers[f"state_recurrent_t{state}"] = panels(kernel, (d.units, d.units, self.gates), h_order, transposed=True, row=state * d.units)
        for gate in range(self.phases[0][0] if self.dropped else 0):
            self.buffers[f"gate_recurrent_t{gate}"] = panels(kernel, (d.units, d.units, 1), (h_order[gate],), transposed=True)


def add_recurrent(b: Builder, x: Tensor, directions: list[Any], sequence: bool, last: bool, states: bool, concat: bool = False) -> list[Result]:
    """Add one layer or, side by side, the two directions of a bidirectional one.

    Parameters
    ----------
    sequence, last, states : bool
        What is asked for.
    concat : bool
        Whether the two directions write into one tensor, side by side; then the first result holds it.
    """
    if b.gradients or (x.rows.masked and any(d.layer for d in directions)):
        x = b.packed(x)
    b.show_masked(x.rows, not directions[-1].zero_output)
    width = sum(d.width for d in directions)
    whole = b.tensor("both directions", x, (width,)) if concat and sequence else None
    ends = b.tensor("both ends", x, (width,), b.batch_rows(x.rows), timed=False) if concat and last else None
    layers: list[Part] = []
    column = 0
    for d in directions:
        layer = (d.layer or _Layer)(b, x, d, sequence, last, states, b.part(whole.buffer, column) if whole else None)
        if ends:
            assert layer.result.last is not None
            layer.result.last.buffer = b.part(ends.buffer, column)
            layer.buffers |= layer.outputs(layer.result.last.buffer, "last")
        layers.append(layer)
        column += d.width
    b.recurrent += layers
    beside = _choose(b, layers)
    _add(b, layers, beside, backward=False)
    b.on_backward(lambda: _backward(b, layers, beside, whole, ends))
    results = [layer.result for layer in layers]
    if whole:
        results[0].sequence = whole
    if ends:
        results[0].last = ends
    return results


def _choose(b: Builder, layers: list[Part]) -> bool:
    """How threads share the directions of a layer; whether two of them run side by side."""
    beside = len(layers) == 2
    if beside and layers[0].ways:
        beside, choices = choose_pair([layer.cost() for layer in layers], b.plan.threads, layers[0].ways)
    else:
        choices = [choose_split(layer.cost(), b.plan.threads, layer.ways) if layer.ways else layer.choice for layer in layers]
    for layer, choice in zip(layers, choices, strict=True):
        layer.choice = choice
    return beside


def _add(b: Builder, layers: list[Part], beside: bool, backward: bool) -> None:
    kind, passes = ("through time", 2.0) if backward else ("recurrent", 1.0)
    one, team = ([passes * seconds for seconds in (getattr(layer.choice, way) for layer in layers)] for way in ("one", "best"))
    if beside:
        line = lambda: " | ".join(layer.line(kind) for layer in layers)
        b.plan.add(_engine.PairOp(*(layer.op(backward) for layer in layers)), line, passes * sum(layer.work for layer in layers), seconds=(sum(one), max(team)))
        return
    for layer, *seconds in zip(layers, one, team, strict=True):
        b.plan.add(layer.op(backward), partial(layer.line, kind), passes * layer.work, seconds=(seconds[0], seconds[1]), part=None if backward else layer)


def _backward(b: Builder, layers: list[Part], beside: bool, whole: Tensor | None, ends: Tensor | None) -> None:
    column = 0
    for layer in layers:
        own = layer.result.sequence.grad if layer.result.sequence else None
        dy = b.part(whole.grad, column) if whole and whole.grad else own
        layer.prepare_backward(dy)
        if ends and ends.grad:
            layer.buffers |= layer.outputs(b.part(ends.grad, column), "last", "d")
        column += layer.d.width
    _add(b, layers, beside, backward=True)
    for layer in layers:
        layer.after_backward()
