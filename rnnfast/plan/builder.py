"""Builder: what a layer's `describe` writes into. Each method adds an op and remembers how to add its backward.

Gradients flow by a tape of closures: `backward()` runs them in reverse. A tensor used twice gets both gradients summed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.errors import ShapeError
from rnnfast.plan.params import Params, Variable
from rnnfast.plan.plan import Plan
from rnnfast.plan.schedule import choose_weights, parts_room, products_line

if TYPE_CHECKING:
    from rnnfast.plan.live import Live

ROW_ACTIVATIONS = _engine.ACTIVATIONS[_engine.ACTIVATIONS.index("softmax") :]
FIRST_KEEPING_INPUT = _engine.ACTIVATIONS.index("silu")


@dataclass
class Tensor:
    """Rows of features: [rows of the map, *features].

    Attributes
    ----------
    rows : Rows
    features : tuple of int
    buffer : Buffer
    timed : bool
        Whether the map has a time axis of the caller's.
    outside : bool
        Whether the buffer is the caller's full array instead of packed rows.
    strided : bool
        Whether the op that made it can write into the caller's full array.
    spread : bool
        Whether it can where not all steps exist, and shows there what masked steps show.
    """

    rows: Rows
    features: tuple[int, ...]
    buffer: Buffer
    timed: bool
    outside: bool = False
    strided: bool = False
    spread: bool = False
    needs_grad: bool = True
    grad: Buffer | None = None
    parts: list[Tensor] = field(default_factory=list)
    maskers: tuple[Any, ...] = ()  # of an input, the layers whose masks its map has already

    @property
    def width(self) -> int:
        return prod(self.features)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the caller's array."""
        time = (self.rows.time,) if self.timed else ()
        return (self.rows.batch, *time, *self.features)


class Builder:
    """A plan in the making.

    Parameters
    ----------
    params : Params
    training : bool
        Whether dropout is active.
    gradients : bool
        Whether a backward pass follows.
    threads : int
    """

    def __init__(self, params: Params, training: bool, gradients: bool, threads: int) -> None:
        self.params, self.training, self.gradients = params, training, gradients
        self.dtype, self.itemsize = params.dtype, 8 if params.dtype == "float64" else 4
        self.lanes = _engine.lanes(params.dtype)
        self.plan = Plan(params.dtype, threads, _engine.get_float32_matmul_precision(), waves=not gradients, params=params)
        self.derived: list[tuple[Rows, str, Rows]] = []
        self.seeds: list[tuple[Any, Buffer]] = []
        self.carried: dict[str, list[np.ndarray]] | None = None  # of truncated training: the states that its layers go on from, by name
        self.live: Live | None = None  # of a stream or a pool of them
        self.activities: list[tuple[Tensor, Any]] = []  # outputs that a regularizer looks at
        self.late_rows: list[Rows] = []  # maps that are set in the middle of a run
        self.when_masked: list[Callable[[], None]] = []  # what is called when all of them are
        self._wholes: set[Buffer] = set()  # buffers that others are parts of
        self.shared: set[Buffer] = set()  # results that more than one layer or caller reads
        self.recurrent: list[Any] = []  # the directions of recurrent layers, for who looks at what they keep
        self._tape: list[Callable[[], None]] = []
        self._written: set[Variable] = set()  # whose gradient an op writes
        self._sums: list[Callable[[], None]] = []

    # -- buffers and ops -------------------------------------------------------------------------------------------------------

    def buffer(self, name: str, size: int, stride: int = 0) -> Buffer:
        """A run of the arena; it starts as zeros."""
        made = Buffer(name, size, stride)
        self.plan.buffers.append(made)
        return made

    def part(self, whole: Buffer, first: int) -> Buffer:
        """Columns of another buffer's rows, from column `first`."""
        made = Buffer(whole.name, first, whole.stride)
        made.owner = whole
        self._wholes.add(whole)
        self.plan.buffers.append(made)
        return made

    def seed(self, seeds: Any) -> Buffer:
        """One uint64, drawn from `seeds` at every run."""
        made = self.buffer("seed", 16)
        self.seeds.append((seeds, made))
        return made

    def constant(self, value: float, size: int, stride: int = 0) -> Buffer:
        """So many times the same number."""
        return self.constants_of(np.full(size, value), stride)

    def constants_of(self, values: np.ndarray, stride: int = 0) -> Buffer:
        """These numbers."""
        made = Buffer("constants", 0, stride)
        made.hold(np.ascontiguousarray(values, self.dtype), stride)
        return made

    def rows_buffer(self, name: str, rows: Rows, width: int) -> Buffer:
        return self.buffer(name, rows.capacity * width, width)

    def tensor(self, name: str, like: Tensor, features: tuple[int, ...], rows: Rows | None = None, timed: bool | None = None) -> Tensor:
        rows = like.rows if rows is None else rows
        buffer = self.rows_buffer(name, rows, prod(features))
        return Tensor(rows, features, buffer, like.timed if timed is None else timed)

    def op(self, name: str, rows: Rows | None, buffers: Mapping[str, Buffer | None], note: str = "", segments: Any = None, /, **numbers: Any) -> None:
        given = {field: buffer for field, buffer in buffers.items() if buffer is not None}
        flops = 2 * (rows.capacity if rows else 1) * numbers.get("n", 1) * max(1, numbers.get("m", 1))
        self.plan.add(_engine.RowOp(name, self.dtype, rows, given, numbers, segments), f"{name:<16}{note}", flops)

    def derive(self, rows: Rows, how: str, parent: Rows) -> Rows:
        """A map that follows another; how names its method."""
        getattr(rows, how)(parent)
        rows.follow(parent)
        self.derived.append((rows, how, parent))
        return rows

    def show_masked(self, rows: Rows, hold: bool) -> None:
        """What masked steps show: the step before them (`hold`) or the pad. It holds for all maps that have these steps."""
        chain: dict[int, tuple[str, Rows]] = {id(made): (how, parent) for made, how, parent in self.derived}
        while id(rows) in chain:
            how, rows = chain[id(rows)]
            if how in ("set_batch_of", "set_repeat_of"):  # behind which every step exists
                return
        rows.hold = hold

    def batch_rows(self, rows: Rows) -> Rows:
        """The map of one row a sequence."""
        return self.derive(Rows(rows.batch, 1), "set_batch_of", rows)

    # -- gradients -------------------------------------------------------------------------------------------------------------

    def gradient(self, variable: Variable) -> Buffer:
        """Where an op writes the gradient of a variable. Of a variable that several ops use, the later ones' are added when all are written."""
        if variable not in self._written:
            self._written.add(variable)
            return self.params.operand(variable, True)
        size = prod(variable.shape)
        made = self.buffer(f"d {variable.path}", size, variable.shape[-1] if variable.shape else 1)
        whole, own = Buffer(variable.path, 0, size), Buffer(variable.path, 0, size)
        whole.point(self.params.address(variable, True), size)
        own.owner = made
        self.plan.buffers.append(own)
        self._sums.append(lambda: self.op("accumulate", Rows(1, 1), {"dx": whole, "dy": own}, variable.path, n=size))
        return made

    def on_backward(self, step: Callable[[], None], of: Tensor | None = None) -> None:
        """Note what adds an op's backward part; that of a tensor which nothing reads, and so has no gradient, is left out."""

        def unless_unread() -> None:
            if of is None or of.grad is not None:
                step()

        if self.gradients:
            self._tape.append(unless_unread)

    def backward(self) -> None:
        """Add the ops of the backward pass; the outputs' `grad` buffers are set."""
        for step in reversed(self._tape):
            step()
        for step in self._sums:
            step()

    def give(self, x: Tensor, produce: Callable[[Buffer], None]) -> None:
        """Let `produce` write a gradient of x, which is added to what x has already."""
        if not x.needs_grad:
            return
        target = self.rows_buffer(f"d {x.buffer.name}", x.rows, x.width)
        produce(target)
        if x.grad is None:
            x.grad = target
        else:
            self.op("accumulate", x.rows, {"dx": x.grad, "dy": target}, n=x.width)

    def same_layout(self, x: Tensor) -> bool:
        """Whether packed rows lie as the caller's array does, and are not read as rows of another width."""
        return not x.rows.masked and (x.rows.batch == 1 or x.rows.time == 1) and len(x.features) < 2

    # -- row-wise ops ----------------------------------------------------------------------------------------------------------

    def packed(self, x: Tensor) -> Tensor:
        """x as packed rows."""
        if not x.outside:
            return x
        if x.parts:
            return x.parts[0]
        if self.same_layout(x):
            x.outside = False
            return x
        made = self.tensor(f"{x.buffer.name} rows", x, x.features)
        made.needs_grad = x.needs_grad
        self.op("gather", x.rows, {"x": x.buffer, "y": made.buffer}, x.buffer.name, n=x.width)
        x.parts.append(made)  # the caller's gradient is this one's, unpacked
        return made

    def dense(self, x: Tensor, kernel: Variable, bias: Variable | None, activation: str, mode: str | None = None) -> Tensor:
        """y = activation(x . kernel + bias) on the last axis; `mode`: what the kernel is stored as."""
        x = self.packed(x)
        inputs, outputs = kernel.shape
        act = _engine.ACTIVATIONS.index(activation)
        rows = self._flat_rows(x, inputs)
        y = self.tensor(kernel.path, x, (*x.features[:-1], outputs))
        keeps_input = self.gradients and FIRST_KEEPING_INPUT <= act < _engine.ACTIVATIONS.index("softmax")
        kept = self.rows_buffer("before activation", x.rows, y.width) if keeps_input else None
        weights = choose_weights(mode, self.plan.precision, self.dtype, x.rows.batch, inputs, outputs)
        room = parts_room(inputs, weights)
        parts = self.buffer("parts", room * self.plan.threads, room) if room else None
        panels = self.params.panels(kernel, (inputs, outputs, 1), (0,), weights=weights)
        bias_panels = self.params.panels(bias, (1, outputs, 1), (0,)) if bias else None
        views = {"x": self._narrow(x.buffer, inputs), "y": self._narrow(y.buffer, outputs), "kept": kept and self._narrow(kept, outputs)}
        note = f"{inputs} -> {outputs} {activation}" + (f" W={products_line(weights)}" if weights else "")
        self.op("dense", rows, {**views, "kernel": panels, "bias": bias_panels, "slot0": parts}, note, n=inputs, m=outputs, act=act, weights=weights)

        def back() -> None:
            padded = -(-outputs // self.lanes) * self.lanes
            scratch_size = self.sums_room(rows, inputs)
            numbers = {"n": inputs, "m": outputs, "act": act}
            work = self.buffer("d before activation", rows.capacity * padded, padded)
            buffers = {
                **views, "dy": self._narrow(y.grad, outputs), "work": work, "kernel": self.params.panels(kernel, (inputs, outputs, 1), (0,), transposed=True),
                "dkernel": self.gradient(kernel), "dbias": self.gradient(bias) if bias else None,
                "slot0": self.buffer("scratch", scratch_size * self.plan.threads, scratch_size),
            }  # fmt: skip
            if x.needs_grad:
                self.give(x, lambda dx: self.op("dense_back", rows, {**buffers, "dx": self._narrow(dx, inputs)}, f"{outputs} -> {inputs}", **numbers))
            else:
                self.op("dense_back", rows, buffers, f"{outputs} -> {inputs}", **numbers)

        self.on_backward(back)
        return y

    def sums_room(self, rows: Rows, *depths: int) -> int:
        """Elements of scratch with which one thread adds up kernels of so many rows, side by side, over packed rows."""
        return sum(_engine.outer_scratch(rows.capacity, depth) + 4 * self.lanes * depth for depth in depths)

    def _narrow(self, buffer: Buffer | None, width: int) -> Buffer:
        """The same memory as rows of `width`: features of rank 2 and more are rows of their last axis."""
        assert buffer is not None
        if buffer.stride == width:
            return buffer
        narrow = Buffer(buffer.name, 0, width)
        narrow.owner = buffer
        self._wholes.add(buffer)
        self.plan.buffers.append(narrow)
        return narrow

    def _flat_rows(self, x: Tensor, width: int) -> Rows:
        """A map whose rows are runs of `width` of x's values."""
        return x.rows if width == x.width else self.derive(Rows(1, x.rows.capacity * (x.width // width)), "set_parts_of", x.rows)

    def activation(self, x: Tensor, name: str) -> Tensor:
        """y = f(x)."""
        if name == "linear":
            return x
        x = self.packed(x)
        act, width = _engine.ACTIVATIONS.index(name), x.features[-1] if name in ROW_ACTIVATIONS else x.width
        rows = self._flat_rows(x, width)
        y = self.tensor(name, x, x.features)
        views = {"x": self._narrow(x.buffer, width), "y": self._narrow(y.buffer, width)}
        self.op("activation", rows, views, name, n=width, act=act)
        self.on_backward(
            lambda: self.give(
                x, lambda dx: self.op("activation_back", rows, {**views, "dy": self._narrow(y.grad, width), "dx": self._narrow(dx, width)}, name, n=width, act=act)
            )
        )
        return y

    def embedding(self, tokens: Tensor, table: Variable) -> Tensor:
        """y = table[tokens], the rows of several tokens of a step one after the other."""
        vocabulary, width = table.shape
        y, count = self.tensor(table.path, tokens, (*tokens.features, width)), tokens.width
        buffers = {"tokens": tokens.buffer, "y": y.buffer}
        self.op("embed", y.rows, {**buffers, "kernel": self.params.operand(table)}, f"{vocabulary} x {width}", n=width, kind=count)
        self.on_backward(
            lambda: self.op("embed_back", y.rows, {"tokens": tokens.buffer, "dy": y.grad, "dkernel": self.gradient(table)}, n=width, m=vocabulary, kind=count)
        )
        return y

    def dropout(self, x: Tensor, rate: float, seeds: Any, over_time: bool = False) -> Tensor:
        """Inverted dropout with noise of a fresh seed each run; over_time drops the same features at all steps."""
        if not self.training or rate == 0:
            return x
        x = self.packed(x)
        seed = self.seed(seeds)
        y = self.tensor("dropout", x, x.features)
        numbers = {"n": x.width, "rate": rate, "kind": int(over_time)}
        self.op("dropout", x.rows, {"x": x.buffer, "y": y.buffer, "seed": seed}, f"rate {rate}", **numbers)
        self.on_backward(lambda: self.give(x, lambda dx: self.op("dropout", x.rows, {"x": y.grad, "y": dx, "seed": seed}, f"rate {rate}", **numbers)))
        return y

    def normalize(self, x: Tensor, gamma: Variable | None, beta: Variable | None, epsilon: float, width: int) -> Tensor:
        """Layer normalisation over the last `width` values of a row."""
        x = self.packed(x)
        y = self.tensor("normalize", x, x.features)
        rows = self._flat_rows(x, width)
        kept = self.buffer("mean and deviation", rows.capacity * 4)
        views = {"x": self._narrow(x.buffer, width), "y": self._narrow(y.buffer, width), "kept": kept}
        weights = {"kernel": self.params.operand(gamma) if gamma else None, "bias": self.params.operand(beta) if beta else None}
        self.op("normalize", rows, {**views, **weights}, n=width, rate=epsilon)

        def back() -> None:
            grads = {"dkernel": self.gradient(gamma) if gamma else None, "dbias": self.gradient(beta) if beta else None}
            dx = self.rows_buffer("d normalize", x.rows, x.width)
            self.op("normalize_back", rows, {**views, **weights, **grads, "dy": self._narrow(y.grad, width), "dx": self._narrow(dx, width)}, n=width)
            self.give(x, lambda target: self.op("accumulate", x.rows, {"dx": target, "dy": dx}, n=x.width))

        self.on_backward(back)
        return y

    def pool(self, x: Tensor, kind: str) -> Tensor:
        """Mean or maximum over valid steps."""
        x = self.packed(x)
        y = self.tensor(kind, x, x.features, self.batch_rows(x.rows), timed=False)
        which = {"mean": 0, "maximum": 1}[kind]
        self.op("pool", x.rows, {"x": x.buffer, "y": y.buffer}, kind, n=x.width, kind=which)

        def back() -> None:
            work = self.rows_buffer("ties", y.rows, x.width)
            buffers = {"x": x.buffer, "y": y.buffer, "dy": y.grad, "work": work}
            self.give(x, lambda dx: self.op("pool_back", x.rows, {**buffers, "dx": dx}, kind, n=x.width, kind=which))

        self.on_backward(back)
        return y

    def roll(self, x: Tensor, time: int, features: tuple[int, ...]) -> Tensor:
        """Rows of one vector become sequences: of that vector again and again, or of its `time` parts."""
        x = self.packed(x)
        parts = time if prod(features) != x.width else 1
        rows = self.derive(Rows(x.rows.batch, time), "set_repeat_of", x.rows)
        y = self.tensor("sequence", x, features, rows, timed=True)
        self.op("repeat", rows, {"x": x.buffer, "y": y.buffer}, f"{time} steps", n=y.width, m=parts)
        self.on_backward(lambda: self.give(x, lambda dx: self.op("repeat_back", rows, {"dx": dx, "dy": y.grad}, n=y.width, m=parts)))
        return y

    def unroll(self, x: Tensor) -> Tensor:
        """Sequences become one vector a row; a masked step gives what it shows."""
        x = self.packed(x)
        y = self.tensor("flat", x, (x.rows.time * x.width,), self.batch_rows(x.rows), timed=False)
        self.op("scatter", x.rows, {"x": x.buffer, "y": y.buffer}, "to rows", n=x.width, kind=1)
        self.on_backward(lambda: self.give(x, lambda dx: self.op("scatter_back", x.rows, {"dx": dx, "dy": y.grad}, n=x.width, kind=1)))
        return y

    def merge(self, a: Tensor, b: Tensor, mode: str, among: int = 2) -> Tensor:
        """Sum, difference or product of two tensors of one shape, or their mean: with `among` of more than two, a counts as the mean of all but b."""
        a, b = self.packed(a), self.aligned(b, a.rows)
        y = self.tensor(mode, a, a.features)
        views = {"x": a.buffer, "kept": b.buffer}
        numbers: dict[str, Any] = {"n": a.width, "kind": int(mode == "mul")}
        numbers["parameter"] = {"sub": (-1.0, 1.0), "ave": (1 / (among - 1), (among - 1) / among)}.get(mode, (1.0, 1.0))
        self.op("merge", a.rows, {**views, "y": y.buffer}, mode, **numbers)

        def back() -> None:
            da, db = (self.rows_buffer(f"d {t.buffer.name}", t.rows, t.width) for t in (a, b))
            self.op("merge_back", a.rows, {**views, "dy": y.grad, "dx": da, "work": db}, mode, **numbers)
            self.hand_over(a, da)
            self.hand_over(b, db)

        self.on_backward(back, y)
        return y

    def flip(self, x: Tensor) -> Tensor:
        """Time in reverse."""
        x = self.packed(x)
        y = self.tensor("flip", x, x.features, self.derive(Rows(x.rows.batch, x.rows.time), "set_flip_of", x.rows))
        self.op("flip", x.rows, {"x": x.buffer, "y": y.buffer}, n=x.width)
        self.on_backward(lambda: self.give(x, lambda dx: self.op("flip", x.rows, {"x": y.grad, "y": dx}, n=x.width)), y)
        return y

    def blank(self, x: Tensor, rows: Rows, backwards: bool) -> Tensor:
        """Last outputs [B, H] of the sequences of `rows`, 0 where the step that is processed last is masked."""
        if not x.rows.masked:
            return x
        y = self.tensor("blank", x, x.features)
        numbers = {"n": x.width, "kind": int(backwards)}
        self.op("blank", rows, {"x": x.buffer, "y": y.buffer}, **numbers)
        self.on_backward(lambda: self.give(x, lambda dx: self.op("blank", rows, {"x": y.grad, "y": dx}, **numbers)), y)
        return y

    def aligned(self, x: Tensor, rows: Rows, look: Callable[[Buffer], None] | None = None) -> Tensor:
        """x in the order of another map of as many sequences and steps; a masked step of x counts as what it shows. `look` adds an op that sees all steps."""
        x = self.packed(x)
        if rows.root is x.rows.root or not (rows.masked or x.rows.masked):
            return x
        full, y = self.buffer("unpacked", rows.batch * rows.time * x.width, x.width), self.tensor("aligned", x, x.features, rows)
        self.op("scatter", x.rows, {"x": x.buffer, "y": full}, "align", n=x.width, kind=0)
        if look is not None:
            look(full)
        self.op("gather", rows, {"x": full, "y": y.buffer}, "align", n=x.width)

        def back() -> None:
            dfull = self.buffer("d unpacked", rows.batch * rows.time * x.width, x.width)
            self.op("gather_back", rows, {"dy": y.grad, "dx": dfull}, "align", n=x.width)
            self.give(x, lambda dx: self.op("scatter_back", x.rows, {"dx": dx, "dy": dfull}, "align", n=x.width, kind=0))

        self.on_backward(back, y)
        return y

    def concat(self, parts: list[Tensor]) -> Tensor:
        """Tensors side by side on the last axis."""
        first = self.packed(parts[0])
        parts = [first, *(self.aligned(x, first.rows) for x in parts[1:])]
        y = self.tensor("concat", first, (sum(t.width for t in parts),))
        column = 0
        for x in parts:
            self.op("copy", x.rows, {"x": x.buffer, "y": self.part(y.buffer, column)}, n=x.width)
            self._concat_back(x, y, column)
            column += x.width
        return y

    def _concat_back(self, x: Tensor, y: Tensor, column: int) -> None:
        def back() -> None:
            assert y.grad is not None
            part = self.part(y.grad, column)
            self.give(x, lambda dx: self.op("copy", x.rows, {"x": part, "y": dx}, n=x.width))

        self.on_backward(back, y)

    # -- the same memory under another shape -----------------------------------------------------------------------------------

    def alias(self, x: Tensor, rows: Rows, features: tuple[int, ...], timed: bool) -> Tensor:
        """x's packed rows read as another tensor; gradients pass through."""
        y = Tensor(rows, features, x.buffer, timed, needs_grad=x.needs_grad)
        self.on_backward(lambda: self.hand_over(x, y.grad))
        return y

    def hand_over(self, x: Tensor, gradient: Buffer | None) -> None:
        """Give x a gradient that already stands in a buffer."""
        if gradient is None:
            return
        if x.grad is None:
            x.grad = gradient
        else:
            self.op("accumulate", x.rows, {"dx": x.grad, "dy": gradient}, n=x.width)

    def reshaped(self, x: Tensor, features: tuple[int, ...]) -> Tensor:
        """Other features of the same size."""
        x = self.packed(x)
        return self.alias(x, x.rows, features, x.timed)

    def each_step(self, x: Tensor, describe: Callable[[Builder, Tensor], Tensor], nested: bool) -> Tensor:
        """Apply a layer to every packed row as if it were a row of a batch."""
        x = self.packed(x)
        if not nested:
            y = describe(self, self.alias(x, x.rows, x.features, timed=False))
            return self.alias(y, x.rows, y.features, timed=True)
        if x.rows.masked:
            raise ValueError(f"TimeDistributed '{self.plan.maker}': a mask or lengths cannot be combined with inputs of rank 4 and more.")
        steps = self.alias(x, Rows(x.rows.count, 1), x.features, timed=False)
        live, self.live = self.live, None  # within a step there is no stream
        y = describe(self, self.roll(steps, x.features[0], x.features[1:]))
        self.live = live
        features = (y.rows.time, *y.features) if y.timed else y.features
        return self.alias(self.unroll(y) if y.timed else y, x.rows, features, timed=True)

    # -- states ----------------------------------------------------------------------------------------------------------------

    def outside_state(self, name: str, units: int, rows: Rows) -> tuple[Buffer, Tensor]:
        """A state [batch, units] that the caller gives, of the sequences of `rows`: its buffer, and the tensor in this plan's order."""
        outside = Tensor(self.batch_rows(rows), (units,), Buffer(name, 0, units), timed=False, outside=True)
        return outside.buffer, self.packed(outside)

    def repeated(self, variable: Variable, rows: Rows) -> Tensor:
        """A variable (1, width) as a state of all sequences of `rows`: the product with a column of ones."""
        ones = Tensor(self.batch_rows(rows), (1,), self.constant(1, rows.batch, 1), timed=False, needs_grad=False)
        return self.dense(ones, variable, None, "linear")

    def carried_states(self, layer: Any, rows: Rows) -> list[Tensor]:
        """Where a stateful layer over the sequences of `rows` goes on from."""
        if self.carried is not None:
            return self._states_at(layer, self.carried[layer.name], rows)
        if not layer.stateful:
            return []
        if layer.state_values is None:
            layer.state_values = layer.initial_values(rows.batch)
        if layer.state_values[0].shape[0] != rows.batch:
            raise ShapeError(
                f"{type(layer).__name__} '{layer.name}': a stateful layer keeps the states of {layer.state_values[0].shape[0]} rows, got a batch of {rows.batch}. "
                "Make a new model to change the batch."
            )
        return self._states_at(layer, layer.state_values, rows)

    def _states_at(self, layer: Any, arrays: list[np.ndarray], rows: Rows) -> list[Tensor]:
        states = []
        for i, values in enumerate(arrays):
            buffer, state = self.outside_state(f"{layer.name} state {i}", values.shape[1], rows)
            buffer.point(values.ctypes.data, values.shape[1])
            state.needs_grad = False
            states.append(state)
        return states

    def carry_states(self, layer: Any, states: list[Tensor]) -> None:
        """Keep a stateful layer's final states."""
        arrays = layer.state_values if self.carried is None else self.carried[layer.name]
        for state, values in zip(states, arrays, strict=True):
            target = Buffer("carried", 0, values.shape[1])
            target.point(values.ctypes.data, values.shape[1])
            self.op("scatter", state.rows, {"x": state.buffer, "y": target}, f"{layer.name} state", n=values.shape[1], kind=0)

    def output(self, x: Tensor, name: str) -> Buffer:
        """The caller's array of a result."""
        free = not self.gradients and x.buffer in self.plan.buffers and x.buffer.owner is None and x.buffer not in self._wholes | self.shared
        if free and ((x.spread if x.rows.masked else x.strided) or self.same_layout(x)):
            self.plan.buffers.remove(x.buffer)  # its op writes into the caller's memory
            return x.buffer
        target = Buffer(name, 0, x.width)
        x = self.packed(x)
        self.op("scatter", x.rows, {"x": x.buffer, "y": target}, name, n=x.width, kind=0)
        return target
