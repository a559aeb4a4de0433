"""What the cost model knows of the machine: a few rates, measured once in a few milliseconds when the first plan for more than one thread is made."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Program, RowOp, Rows

REPEATS = 8  # of each measurement, unless they take longer than LONGEST seconds; the fastest counts
LONGEST = 2e-3
MEETINGS = 24
# a thread's part of a barrier, and a region, which finds more to fetch between other work than when it is measured; what is beyond was a busy moment and says nothing of later ones
BARRIERS, REGIONS = (1e-8, 1.5e-7), (2e-6, 4e-6)


@dataclass(frozen=True)
class Machine:
    """Rates of one thread.

    Attributes
    ----------
    flops : float
        Operations a second of float32 products whose operands are in the nearest cache.
    l2_bytes : int
        Of the cache that a core has for itself.
    l2_rate, l3_rate : float
        Bytes a second of weights that are read from that cache and from behind it.
    barrier, region : float
        Seconds that a meeting of the team takes, and calling it together.
    measured : bool
    """

    flops: float = 50e9
    l2_bytes: int = 512 * 1024
    l2_rate: float = 40e9
    l3_rate: float = 15e9
    barrier: float = 0.3e-6
    region: float = 4e-6
    measured: bool = False


def _l2_bytes() -> int:
    """As the operating system says, else that of the smallest CPUs in view."""
    for i in range(8):
        found: list[int] = []
        with suppress(OSError, ValueError):
            for name in ("level", "size"):
                with open(f"/sys/devices/system/cpu/cpu0/cache/index{i}/{name}") as file:
                    found.append(int(file.read().strip().removesuffix("K")))
            if found[0] == 2:
                return found[1] * 1024
    return Machine.l2_bytes


L2_BYTES = _l2_bytes()


def _dense(rows: int, inputs: int, outputs: int, kept: list[np.ndarray]) -> RowOp:
    """A product of ones: zeros would all lie in one page until they are written to."""
    lanes = _engine.lanes("float32")
    sizes = {"x": (rows * inputs, inputs), "y": (rows * outputs, outputs), "kernel": (inputs * (outputs + 4 * lanes), 0)}
    buffers = {}
    for name, (size, stride) in sizes.items():
        kept.append(np.ones(size + 16, np.float32))
        buffers[name] = Buffer(name, 0, stride)
        buffers[name].point((kept[-1].ctypes.data + 63) // 64 * 64, stride)
    return RowOp("dense", "float32", Rows(1, rows), buffers, {"n": inputs, "m": outputs, "act": 0}, None)


def _seconds(ops: list[Any], threads: int) -> float:
    """The least that a run of these ops took."""
    program, runs = Program(ops, [], 0, threads), [perf_counter()]
    while len(runs) <= REPEATS and runs[-1] - runs[0] < LONGEST:
        program.run()
        runs.append(perf_counter())
    return float(np.diff(runs).min())


def _measured(threads: int) -> Machine:
    kept: list[np.ndarray] = []
    width, near, far = 128, L2_BYTES * 3 // 8, 4 * L2_BYTES
    little, some = [_dense(1, 1, 1, kept)], [_dense(1, 64, 64, kept)] * MEETINGS  # which one thread computes while the others wait for it
    call = _seconds(little, 1)
    rows, depth, outputs = 24, 256, 32  # a run of rows and one panel, as a step meets them
    reads = [_dense(1, width, size // (4 * width), kept) for size in (near, far)]
    times = [_seconds(ops, 1) - call for ops in ([_dense(rows, depth, outputs, kept)] * MEETINGS, *([op] for op in reads))]
    if min(times) <= 0:  # a clock that is too coarse
        return Machine(l2_bytes=L2_BYTES)
    region = _seconds(little, threads) - call
    barrier = (_seconds(some, threads) - _seconds(some, 1) - region) / MEETINGS
    (least, most), (shortest, longest) = BARRIERS, REGIONS
    barrier, region = min(max(barrier, threads * least), threads * most), min(max(region, shortest), longest)
    return Machine(MEETINGS * 2 * rows * depth * outputs / times[0], L2_BYTES, near / times[1], far / times[2], barrier, region, True)


@cache
def machine(threads: int) -> Machine:
    """The rates for a team of so many threads. ``RNNFAST_CALIBRATE=0`` takes fixed ones, for plans that are the same on every machine.

    Examples
    --------
    >>> from rnnfast.plan.machine import machine
    >>> machine(1).measured
    False
    """
    if threads == 1 or os.environ.get("RNNFAST_CALIBRATE", "") == "0":
        return Machine(l2_bytes=L2_BYTES if threads == 1 else Machine.l2_bytes)
    return _measured(threads)
