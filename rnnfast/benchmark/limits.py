"""What the machine can do at most: multiply-adds a second on all cores, and bytes read a second from each level of memory, by one core and by all.

Both are loops of the engine's own vectors that do nothing else: multiply-adds in registers, and reads of an array of half a level's size (of main memory: of twice the last cache's). Each
thread has an array of its own. They are those of the instruction set in use.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine.cpu import multiply_adds, read_only
from rnnfast._report import config
from rnnfast.benchmark.cases import Case

CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 16 << 20}
LARGEST, ROUNDS, READ = 256 << 20, 200_000, 8 << 20
"""Bytes of an array at most; multiply-adds of a chain, and bytes, that are timed at once."""
Limits = dict[str, Any]
"""`busy`: share of the CPUs that others took; `flops`; `reads` by level: bytes that the level holds of all cores, bytes a second of one core, of all."""


def machine_limits(seconds: float = 0.1) -> Limits:
    """Measure both; about `seconds` for each figure."""
    cores, sizes = _engine.get_num_threads(), caches()
    held = {"L1": sizes["L1"] * cores, "L2": sizes["L2"] * cores, "L3": sizes["L3"], "DRAM": 1 << 60}
    arrays = {"L1": sizes["L1"] // 2, "L2": sizes["L2"] // 2, "L3": sizes["L3"] // (2 * cores), "DRAM": 2 * sizes["L3"]}
    reads = {name: [held[name], read_rate(size, 1, seconds), read_rate(size, cores, seconds)] for name, size in arrays.items() if size <= LARGEST}
    return {"busy": busy(3 * seconds), "flops": total([lambda: multiply_adds(ROUNDS)] * cores, seconds), "reads": reads}


def spent() -> np.ndarray:
    """Seconds of all CPUs so far in /proc/stat's order: the fourth and fifth idle, the eighth given to others by a hypervisor. Zeros where there is no such file."""
    try:
        return np.array(Path("/proc/stat").read_text().split()[1:9], float) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return np.zeros(8)


def busy(seconds: float) -> float:
    """Share of all CPUs that others take while this process sleeps."""
    before = spent()
    time.sleep(seconds)
    found = spent() - before
    return 1 - float(found[3] + found[4]) / float(found.sum()) if found.any() else 0.0


def joined(found: list[Limits]) -> Limits:
    """The best of several measurements."""
    names = found[0]["reads"]
    reads = {name: [max(limits["reads"][name][i] for limits in found) for i in range(3)] for name in names}
    return {"busy": max(limits["busy"] for limits in found), "flops": max(limits["flops"] for limits in found), "reads": reads}


def least_time(case: Case, limits: Limits) -> float:
    """Seconds that the case takes at least: its products at the rate of multiply-adds, or its weights at the rate of the level that holds them."""
    rate = next((every for size, _, every in limits["reads"].values() if case.kernel_bytes <= size), list(limits["reads"].values())[-1][2])
    return float(max(case.flops / limits["flops"], case.weight_bytes / rate))


def caches() -> dict[str, int]:
    """Bytes of each data cache that a core sees."""
    found = {f"L{level}": int(size) << {"K": 10, "M": 20}[unit] for level, size, unit in re.findall(r"L(\d) (\d+)([KM])", config()["caches"])}
    return {name: found.get(name, size) for name, size in CACHES.items()}


def read_rate(size: int, threads: int, seconds: float) -> float:
    """Bytes a second that so many threads read together."""
    arrays, times = [aligned(size // 4) for _ in range(threads)], max(1, READ // size)

    def reader(array: np.ndarray) -> Callable[[], int]:
        return lambda: (read_only(array, times), times * array.nbytes)[1]

    return total([reader(array) for array in arrays], seconds)


def aligned(n: int) -> np.ndarray:
    """n ones from the start of a cache line on."""
    array = np.ones(n + 16, np.float32)
    start = -array.ctypes.data % 64 // 4
    return array[start : start + n]


def total(runs: list[Callable[[], int]], seconds: float) -> float:
    """The rates of runs that go on at the same time, each in a thread, added up; a run gives how much it has done."""

    def rate(run: Callable[[], int]) -> float:
        end = time.perf_counter() + seconds
        found: list[float] = []
        while len(found) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            done = run()
            found.append(done / (time.perf_counter() - start))
        return float(np.percentile(found, 90))  # a limit: what a busy moment took away does not count

    with ThreadPoolExecutor(len(runs)) as pool:
        return sum(pool.map(rate, runs))
