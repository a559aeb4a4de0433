"""Batch normalisation in a plan."""

from __future__ import annotations

from rnnfast import _engine
from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.params import Variable


def batch_normalize(
    b: Builder, x: Tensor, gamma: Variable | None, beta: Variable | None, moving: tuple[Variable, Variable], numbers: tuple[float, float], training: bool
) -> Tensor:
    """y = (x - mean) / sqrt(variance + epsilon) gamma + beta, feature by feature.

    Parameters
    ----------
    moving : (mean, variance)
        Followed in training, else used.
    numbers : (epsilon, momentum)
    """
    x = b.packed(x)
    width = x.features[-1]
    y = b.tensor("batch normalize", x, x.features)
    rows = b._flat_rows(x, width)
    params = b.params
    weights = {name: params.operand(v) for name, v in (("gamma", gamma), ("beta", beta)) if v}
    state = {"moving_mean": params.operand(moving[0]), "moving_variance": params.operand(moving[1])}
    views = {"x": b._narrow(x.buffer, width), "y": b._narrow(y.buffer, width), "kept": b.buffer("statistics", 4 * width * 8 // b.itemsize)}
    _add(b, "batch normalize", _engine.BatchNormOp(b.dtype, rows, {**views, **weights, **state}, width, numbers, training, False), y)

    def back() -> None:
        grads = {name: b.gradient(v) for name, v in (("dgamma", gamma), ("dbeta", beta)) if v}

        def produce(dx: Buffer | None) -> None:
            buffers = {**views, **weights, **grads, "dy": b._narrow(y.grad, width)} | ({"dx": b._narrow(dx, width)} if dx else {})
            _add(b, "its gradient", _engine.BatchNormOp(b.dtype, rows, buffers, width, numbers, training, True), y)

        if x.needs_grad:
            b.give(x, produce)
        else:
            produce(None)

    b.on_backward(back)
    return y


def _add(b: Builder, name: str, op: _engine.BatchNormOp, y: Tensor) -> None:
    b.plan.add(op, f"{name:<16}{y.features[-1]} features", 16.0 * y.rows.capacity * y.width)
