"""The libraries' processes, and what they measure of a case."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.limits import spent

TOLERANCE = 1e-4
STOLEN_MOST, TRIES = 0.05, 10  # of one CPU's time during a measurement, and how often one is made that lost more
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""What keeps the other libraries to AVX2 when rnnfast is, as far as they can be told."""
Times = dict[tuple[str, int], list[tuple[float, float]]]
"""Median and 99.9th percentile of each round, in seconds, by library and threads; those of the case's base under "base"."""


def backend() -> str:
    """Keras' backend: TensorFlow where it is, else JAX, else PyTorch."""
    return next((name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)), "numpy")


class Worker:
    """A library with one thread setting, in a process that is stopped unless it is asked."""

    def __init__(self, library: str, threads: int) -> None:
        self.peer, self.threads = library, threads
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RNNFAST_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment = os.environ | {name: str(threads) for name in counts} | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.setdefault("KERAS_BACKEND", backend())
        flags = ["--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"] if threads == 1 else []
        if os.environ.get("RNNFAST_ISA") == "avx2":
            environment |= AVX2
            flags.append("--xla_cpu_max_isa=AVX2")
        environment["XLA_FLAGS"] = " ".join(flags)
        command = [sys.executable, "-m", "rnnfast.benchmark.worker", library, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        if threads == 1 and hasattr(os, "sched_setaffinity") and library in ("jax", "keras"):
            os.sched_setaffinity(self.process.pid, {min(os.sched_getaffinity(0))})
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, *command: Any) -> Any:
        """Wake the process for one command."""
        assert self.process.stdin and self.process.stdout
        self.process.send_signal(signal.SIGCONT)
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": "the process ended"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass  # waits and closes the pipes


@contextmanager
def team(libraries: list[str], settings: list[int]) -> Iterator[list[Worker]]:
    """A process for each library and number of threads, for as long as it is wanted."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or stopped processes would outlive this one
    workers = [Worker(library, threads) for library in libraries for threads in settings]
    try:
        yield workers
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            worker.close()


@contextmanager
def quiet_machine() -> Iterator[None]:
    """Hold the lock that keeps two benchmarks from running at once."""
    with open(Path(tempfile.gettempdir()) / "rnnfast-bench.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Greatest difference, against the greatest value or 1; NaN agrees with NaN."""
    if found.shape != expected.shape or (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    return float(np.nan_to_num(np.abs(found - expected)).max() / max(1.0, np.nan_to_num(np.abs(expected)).max()))


def prepare(workers: list[Worker], case: Case, folder: str) -> list[Worker]:
    """The workers that run the case and agree with the first."""
    ready, expected, said = [], None, set()
    for i, worker in enumerate(workers):
        path = f"{folder}/{i}.npy"
        answer, reason = worker.ask("prepare", 0, case.packed(), path), ""
        if answer is True:
            found = np.load(path)
            expected = found if expected is None else expected
            error = difference(found, expected)
            reason = "" if error <= TOLERANCE else f"differs by {error:.1e}"
        else:
            reason = answer["error"]
        if not reason:
            ready.append(worker)
        elif not reason.startswith("CannotRunError") and (worker.peer, reason) not in said:
            print(f"  {worker.peer} left out of {case.name}: {reason}", file=sys.stderr)
            said.add((worker.peer, reason))
    return ready


def stolen() -> float:
    """Seconds of all CPUs that a hypervisor has given to others so far."""
    return float(spent()[7])


def timed(worker: Worker, slot: int, seconds: float) -> Any:
    """The answer to a measurement, which is repeated while too much of its time was stolen."""
    for _ in range(TRIES):
        began, before = time.perf_counter(), stolen()
        answer = worker.ask("time", slot, seconds)
        if stolen() - before <= STOLEN_MOST * (time.perf_counter() - began):
            break
    return answer


def measure(workers: list[Worker], case: Case, rounds: int, seconds: float, folder: str, times: Times) -> None:
    """Add all rounds to `times`, of the first worker's library those of the case's base too."""
    own = workers[0].peer
    turns = [(worker, worker.peer, 0) for worker in workers]
    if case.base:
        for worker in [worker for worker in workers if worker.peer == own]:
            worker.ask("prepare", 1, case.base.packed(), f"{folder}/base.npy")
            turns.append((worker, "base", 1))
    for _ in range(rounds):
        for worker, name, slot in turns:
            answer = timed(worker, slot, seconds)
            if isinstance(answer, list):
                times.setdefault((name, worker.threads), []).append((answer[0], answer[1]))


def deviation(values: list[float]) -> float:
    """The standard deviation that the median absolute deviation stands for."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def row(case: Case, own: str, times: Times, limit: float) -> dict[str, Any]:
    """The case's line of a table: each library at its better number of threads."""
    medians = {key: median(m for m, _ in found) for key, found in times.items()}
    best: dict[str, tuple[str, int]] = {}
    for key in medians:
        best[key[0]] = min(best.get(key[0], key), key, key=lambda k: medians[k])
    base = best.pop("base", None)
    peers = [name for name in best if name != own]
    winner = min(peers, key=lambda name: medians[best[name]]) if peers else None
    mine, threads = medians[best[own]], sorted(n for name, n in medians if name == own)
    return {
        "case": case.name, "mode": case.mode, "cell": case.cell, "flops": case.flops, "touched_bytes": case.touched_bytes,
        "microseconds": {name: 1e6 * medians[key] for name, key in best.items()},
        "threads": {name: n for name, (_, n) in best.items()},
        "spread": {name: deviation([m for m, _ in times[key]]) / medians[key] for name, key in best.items()},
        "tail": 1e6 * median(t for _, t in times[best[own]]),
        "best_peer": winner, "ratio": medians[best[winner]] / mine if winner else None,
        "limit": 1e6 * limit, "limit_share": limit / mine,
        "gain": medians[own, threads[0]] / medians[own, threads[-1]] if len(threads) > 1 else None,
        "cost": mine / (case.work * medians[base]) if base and case.base else None,
    }  # fmt: skip
