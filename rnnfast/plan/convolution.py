"""Convolutions, pooling and padding over time in a plan: where an output's steps are, and the ops forward and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.plan.builder import FIRST_KEEPING_INPUT, Builder, Tensor
from rnnfast.plan.params import Variable

GATHERED = 1 << 14  # values that a product's gathered windows hold at most, so that they stay in cache
RUN, SLICE = 128, 32  # of a gradient's sum, as the engine has them


@dataclass
class Window:
    """Step s of an output reads the steps ``s stride + k dilation - left`` of its row, 0 <= k < taps; those outside are zeros.

    Attributes
    ----------
    taps, stride, dilation : int
    left, right : int
        Zeros before and after a row; negative where steps are cut off.
    same : bool
        Whether left and right follow from each row's own length instead, so that it gives ceil(length / stride) steps.
    """

    taps: int
    stride: int = 1
    dilation: int = 1
    left: int = 0
    right: int = 0
    same: bool = False

    @classmethod
    def padded(cls, padding: str, taps: int, stride: int, dilation: int = 1) -> Window:
        """The window of Keras' `padding`: "valid", "same" or "causal"."""
        reach = (taps - 1) * dilation
        left = {"valid": 0, "causal": reach, "same": reach // 2}[padding]
        return cls(taps, stride, dilation, left, reach - left if padding == "same" else 0, padding == "same" and stride > 1)

    @property
    def reach(self) -> int:
        """Steps between a window's first and last one."""
        return (self.taps - 1) * self.dilation

    def steps(self, length: int) -> int:
        """Steps of the output of a row of `length`."""
        room = length if self.same else length + self.left + self.right - self.reach
        return max(0, (room - 1) // self.stride + 1)

    @property
    def keeps_time(self) -> bool:
        """Whether every row keeps its length."""
        return self.stride == 1 and self.left + self.right == self.reach


def output_rows(b: Builder, rows: Rows, window: Window) -> Rows:
    """The map of what windows over `rows` give; its masked steps show the rows' pads."""
    b.show_masked(rows, False)
    if window.keeps_time:
        return rows
    return b.derive(_engine.WindowRows(rows.batch, window.steps(rows.time), asdict(window)), "set_windows_of", rows)


def add_op(b: Builder, name: str, x: Tensor, y: Tensor, buffers: dict[str, Buffer | None], numbers: dict[str, Any], groups: Any = ((), ())) -> None:
    """One op of the engine's windows."""
    given = {field: buffer for field, buffer in buffers.items() if buffer is not None}
    op = _engine.WindowOp(name, b.dtype, x.rows, y.rows, given, numbers, *map(list, groups))
    line = f"{name:<16}{numbers['taps']} taps {x.width} -> {y.width} T={x.rows.time} -> {y.rows.time}"
    b.plan.add(op, line, 2.0 * y.rows.capacity * numbers["taps"] * numbers["channels"] * y.width)


def scratch(b: Builder, size: int) -> Buffer:
    """So many values for each thread."""
    return b.buffer("scratch", size * b.plan.threads, size)


def convolution(b: Builder, x: Tensor, kernel: Variable, bias: Variable | None, window: Window, groups: int, activation: str) -> Tensor:
    """y = activation(windows of x . kernel + bias); the kernel is [taps, channels of a group, filters]."""
    x = b.packed(x)
    act = _engine.ACTIVATIONS.index(activation)
    fused = act < (FIRST_KEEPING_INPUT if b.gradients else _engine.ACTIVATIONS.index("softmax"))
    taps, channels, filters = kernel.shape[0], kernel.shape[1], kernel.shape[2] // groups
    padded = -(-filters // b.lanes) * b.lanes
    chunk = max(8, min(RUN, GATHERED // (taps * channels)))
    numbers = asdict(window) | {"channels": channels, "filters": filters, "groups": groups, "padded": padded, "chunk": chunk, "act": act if fused else 0}
    y = b.tensor(kernel.path, x, (groups * filters,), output_rows(b, x.rows, window), timed=True)
    panels = [b.params.panels(kernel, (taps * channels, filters, 1), (j,)) for j in range(groups)]
    biases = [b.params.panels(bias, (1, filters, 1), (j,)) if bias else None for j in range(groups)]
    views: dict[str, Buffer | None] = {"x": x.buffer, "y": y.buffer}
    add_op(b, "convolve", x, y, views | {"scratch": scratch(b, chunk * taps * channels)}, numbers, (panels, biases))

    def back() -> None:
        chunk = max(8, min(RUN, GATHERED // (taps * padded)))
        buffers = views | {
            "dy": y.grad, "kernel": b.params.operand(kernel), "dkernel": b.gradient(kernel), "dbias": b.gradient(bias) if bias else None,
            "work": b.rows_buffer("d before activation", y.rows, groups * padded),
            "scratch": scratch(b, max(chunk * taps * padded, RUN * SLICE + RUN * (SLICE + 8))),
        }  # fmt: skip
        if x.needs_grad:
            buffers["turned"] = b.buffer("turned kernel", groups * taps * padded * (-(-channels // b.lanes) * b.lanes))
            b.give(x, lambda dx: add_op(b, "convolve_back", x, y, buffers | {"dx": dx}, numbers | {"chunk": chunk}))
        else:
            add_op(b, "convolve_back", x, y, buffers, numbers)

    b.on_backward(back)
    return y if fused else b.activation(y, activation)


def pooled(b: Builder, x: Tensor, window: Window, kind: str) -> Tensor:
    """The mean or maximum of each window's steps; with one tap, steps padded or cut off."""
    x = b.packed(x)
    numbers = asdict(window) | {"channels": x.width, "kind": {"mean": 0, "maximum": 1}[kind]}
    y = b.tensor(kind, x, x.features, output_rows(b, x.rows, window), timed=True)
    views: dict[str, Buffer | None] = {"x": x.buffer, "y": y.buffer}
    add_op(b, "pool_windows", x, y, views, numbers)

    def back() -> None:
        buffers = views | {"dy": y.grad, "scratch": scratch(b, 2 * x.width)}
        b.give(x, lambda dx: add_op(b, "pool_windows_back", x, y, buffers | {"dx": dx}, numbers))

    b.on_backward(back)
    return y
