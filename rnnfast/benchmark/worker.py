"""One library in a process of its own: `python -m rnnfast.benchmark.worker LIBRARY THREADS`, commands as JSON lines on standard input.

["prepare", index of the case, file] writes what is compared to the file; ["time", seconds] answers with the median of repeated calls in seconds.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.benchmark.cases import GRID
from rnnfast.benchmark.rivals import ALL


def median_time(run: Callable[[], Any], seconds: float) -> float:
    """Median of single calls over about `seconds`, at least five after two to warm up."""
    run()
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Answer commands until standard input ends."""
    warnings.simplefilter("ignore")
    library, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints does not mix with the answers
    run: Callable[[], Any] = lambda: None
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            if name == "prepare":
                run, check = ALL[library](GRID[arguments[0]], threads)
                np.save(arguments[1], np.asarray(check(), np.float32))
                answer: Any = True
            else:
                gc.collect()
                answer = median_time(run, arguments[0])
        except Exception as error:  # a library that cannot run a case is reported and left out of it
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
