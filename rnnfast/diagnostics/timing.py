"""Where the time of a prediction goes: every op of the plan, timed inside the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from rnnfast import _engine


@dataclass
class OpTime:
    """One op of the plan.

    Attributes
    ----------
    layer : str
        That added it; empty for copies between the caller's arrays and the plan.
    op : str
        As `print(model.plan(...))` shows it.
    milliseconds : float
        The least of the runs.
    gflops : float
        Floating-point operations a second, 1e9.
    share : float
        Of the machine's limit.
    megabytes : float
        Of its operands, each counted once: what it has to move at least.
    """

    layer: str
    op: str
    milliseconds: float
    gflops: float
    share: float
    megabytes: float


@dataclass
class Profile:
    """What :func:`profile` found; print it.

    Attributes
    ----------
    ops : list of OpTime
    milliseconds : float
        Of the whole, the sum of the ops.
    limit : float
        GFLOP/s: of NumPy's product of large matrices on this machine, or of the fastest op, if that is more.
    threads : int
    """

    ops: list[OpTime]
    milliseconds: float
    limit: float
    threads: int

    def by_layer(self) -> dict[str, float]:
        """Milliseconds of each layer."""
        found: dict[str, float] = {}
        for one in self.ops:
            found[one.layer] = found.get(one.layer, 0.0) + one.milliseconds
        return found

    def __str__(self) -> str:
        lines = [f"{'layer':<18}{'op':<52}{'ms':>9}{'time':>7}{'GFLOP/s':>9}{'of limit':>10}{'MB':>8}"]
        for one in self.ops:
            part = one.milliseconds / self.milliseconds if self.milliseconds else 0.0
            lines.append(f"{one.layer:<18.17}{one.op:<52.51}{one.milliseconds:9.4f}{part:7.1%}{one.gflops:9.2f}{one.share:10.1%}{one.megabytes:8.2f}")
        lines.append(f"{'all':<70}{self.milliseconds:9.4f}   threads {self.threads}, limit {self.limit:.0f} GFLOP/s")
        return "\n".join(lines)


def profile(model: Any, x: Any, lengths: Any = None, mask: Any = None, repeats: int = 20) -> Profile:
    """Time a prediction op by op.

    Parameters
    ----------
    model : Sequential or Model
        Built.
    x : array_like (B, T, F) or tokens (B, T)
    lengths, mask : optional
        As for `predict`.
    repeats : int
        Runs, of which each op's fastest counts; one more warms up.

    Returns
    -------
    Profile

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, diagnostics, layers
    >>> model = Sequential([Input((None, 8)), layers.LSTM(16, name="memory"), layers.Dense(1, name="head")])
    >>> found = diagnostics.profile(model, np.zeros((4, 20, 8), np.float32))
    >>> sorted(name for name in found.by_layer() if name)
    ['head', 'memory']
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"profile: repeats must be a positive integer, got {repeats!r}.")
    runner = model.runner()
    xs = runner.check_inputs(x)
    valid, uncut = runner.steps_to_run(runner.check_masks(xs, mask, lengths)), [None] * len(xs)
    bound = runner.predict_plan(xs, valid, uncut, False, 0)
    outputs = [np.empty(t.shape, runner.dtype) for _, t in bound.outputs]
    runner.execute(bound, xs, valid, uncut, [], outputs)  # warms up, and points the plan at the arrays
    with bound.program.lock:
        runner.connect(bound, xs, outputs)
        seconds = np.maximum(np.min([bound.program.run_timed() for _ in range(repeats)], axis=0), 1e-9)
    plan = bound.builder.plan
    rates = np.array(plan.flops) / seconds / 1e9
    limit = max(machine_limit(runner.dtype), float(rates.max()))
    ops = []
    for maker, line, op, taken, rate in zip(plan.makers, plan.lines, plan.ops, seconds, rates, strict=True):
        moved = operand_bytes(op, bound.builder.itemsize) / 1e6
        ops.append(OpTime(maker, " ".join(line.split()), 1e3 * float(taken), float(rate), float(rate) / limit, moved))
    return Profile(ops, 1e3 * float(seconds.sum()), limit, bound.program.team_size)


def operand_bytes(op: Any, itemsize: int) -> int:
    """Bytes of all operands of an op, each once."""
    if isinstance(op, (_engine.PairOp, _engine.WaveOp)):
        return sum(operand_bytes(one, itemsize) for one in op.record)
    if isinstance(op, _engine.PythonOp):
        return sum(itemsize * rows * width for _, rows, width in op.buffers.values())
    rows, buffers, *_ = op.record
    count = rows.count + rows.pads if rows is not None else 0
    return sum(itemsize * (b.size if b.size and b.owner is None else rows.batch * b.stride if b.step else count * b.stride) for b in set(buffers.values()))


@cache
def machine_limit(dtype: str, size: int = 768, repeats: int = 20) -> float:
    """GFLOP/s of NumPy's product of two matrices, the best of some."""
    a, best = np.ones((size, size), dtype), np.inf
    product = a @ a
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(a, a, out=product)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9
