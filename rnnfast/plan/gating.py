"""The gated linear unit."""

from __future__ import annotations

from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor


def add_glu(b: Builder, x: Tensor) -> Tensor:
    """y = a sigmoid(g), where a and g are the halves of x's features."""
    given, x = x.outside, b.packed(x)
    n, whole = x.width // 2, x.buffer
    if given:  # columns can be taken of the arena's buffers alone
        whole = b.rows_buffer("input", x.rows, x.width)
        b.op("copy", x.rows, {"x": x.buffer, "y": whole}, n=x.width)
    halves = [b.tensor(name, x, (n,)) for name in ("value", "gate")]
    for i, half in enumerate(halves):
        b.op("copy", x.rows, {"x": b.part(whole, i * n), "y": half.buffer}, n=n)

    def join(dx: Buffer) -> None:
        for i, half in enumerate(halves):
            b.op("copy", x.rows, {"x": half.grad, "y": b.part(dx, i * n)}, n=n)

    b.on_backward(lambda: b.give(x, join))
    return b.merge(halves[0], b.activation(halves[1], "sigmoid"), "mul")
