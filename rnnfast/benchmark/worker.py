"""One library in a process of its own: `python -m rnnfast.benchmark.worker LIBRARY THREADS`, commands as JSON lines on standard input.

["prepare", slot, case, file] makes the case ready in a slot, 0 forgetting all others, and writes what is compared to the file; ["time", slot, seconds] answers with the median and the 99.9th
percentile of repeated calls, in seconds.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import prepare

Run = Callable[[], Any]

BRIEF = 20e-6  # seconds that two looks at the clock, of up to 0.3 us, are little of


def call_times(run: Run, seconds: float) -> tuple[float, float]:
    """Median and 99.9th percentile of calls over about `seconds`, at least three after one to warm up. The percentile is of single calls; so is the median, unless they are so brief that looking at the clock counts."""
    run()
    single = _times(run, seconds, 1)
    median = float(np.median(single))
    if median < BRIEF:
        median = float(np.median(_times(run, seconds, math.ceil(BRIEF / median))))
    return median, float(np.percentile(single, 99.9))


def _times(run: Run, seconds: float, calls: int) -> list[float]:
    """Seconds of a call, each the mean of so many between two looks at the clock."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in itertools.repeat(None, calls):
            run()
        times.append((time.perf_counter() - start) / calls)
    return times


def answer(command: list[Any], library: str, threads: int, runs: dict[int, Run]) -> Any:
    """Do what a command says."""
    name, slot, argument, *file = command
    if name == "time":
        gc.collect()
        return call_times(runs[slot], argument)
    if slot == 0:
        runs.clear()
    runs[slot], check = prepare(library, Case(**argument), threads)
    np.save(file[0], np.asarray(check(), np.float32))
    return True


def main() -> None:
    """Answer commands until standard input ends."""
    warnings.simplefilter("ignore")
    library, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints does not mix with the answers
    runs: dict[int, Run] = {}
    for line in sys.stdin:
        try:
            found = answer(json.loads(line), library, threads, runs)
        except Exception as error:  # a library that cannot run a case is reported and left out of it
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
