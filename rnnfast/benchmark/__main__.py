"""Run the grid against the installed libraries and print, case by case, who is how fast.

Each library runs in processes of its own, one for one thread and one for all; while one is timed all others are stopped. The outputs are compared before anything is timed.
Rounds are interleaved, figures are medians, and a library counts with the better of its two thread settings.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.benchmark import streams
from rnnfast.benchmark.cases import GRID, Case
from rnnfast.benchmark.rivals import ALL, INFERENCE_ONLY

TOLERANCE = 1e-4


class Worker:
    """A library with one thread setting, in a process that is stopped unless it is asked."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        count = str(threads)
        environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RNNFAST_NUM_THREADS": count, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.setdefault("KERAS_BACKEND", "jax")
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        command = [sys.executable, "-m", "rnnfast.benchmark.worker", name, count]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        if threads == 1 and hasattr(os, "sched_setaffinity") and name in ("jax", "keras"):
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
def quiet_machine() -> Iterator[None]:
    """Hold the lock that keeps two benchmarks from running at once."""
    with open(Path(tempfile.gettempdir()) / "rnnfast-bench.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def machine_limits() -> tuple[float, float]:
    """Floating-point rate of all cores by a large matrix product (flop/s), and read rate of one core from a 256 KB array (bytes/s)."""
    a = np.ones((1536, 1536), np.float32)
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        rates.append(2 * 1536**3 / (time.perf_counter() - start))
    x, reads = np.ones(65536, np.float32), []
    for _ in range(200):
        start = time.perf_counter()
        x.dot(x)
        reads.append(x.nbytes / (time.perf_counter() - start))
    return max(rates), max(reads)


def prepare(workers: list[Worker], case: Case, index: int, folder: str) -> list[Worker]:
    """The workers that run the case and agree with rnnfast's first."""
    ready, expected = [], None
    for i, worker in enumerate(workers):
        if case.mode == "train" and worker.name in INFERENCE_ONLY:
            continue
        path = f"{folder}/{i}.npy"
        answer = worker.ask("prepare", index, path)
        if answer is not True:
            print(f"  {worker.name} ({worker.threads} threads) left out: {answer['error']}", file=sys.stderr)
            continue
        found = np.load(path)
        expected = found if expected is None else expected
        error = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
        if not error <= TOLERANCE:
            print(f"  {worker.name} ({worker.threads} threads) left out: differs by {error:.1e}", file=sys.stderr)
            continue
        ready.append(worker)
    return ready


def measure(workers: list[Worker], rounds: int, seconds: float) -> dict[str, float]:
    """Seconds a call of each library, at its better thread setting."""
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for worker in workers:
            answer = worker.ask("time", seconds)
            if isinstance(answer, float):
                times.setdefault((worker.name, worker.threads), []).append(answer)
    best: dict[str, float] = {}
    for (library, _), found in times.items():
        best[library] = min(best.get(library, float("inf")), median(found))
    return best


def row(case: Case, best: dict[str, float], limits: tuple[float, float]) -> dict[str, Any]:
    """The case's line of the table."""
    peers = {name: seconds for name, seconds in best.items() if name != "rnnfast"}
    own, winner = best["rnnfast"], min(peers, key=lambda name: peers[name]) if peers else None
    limit = max(case.flops / limits[0], case.weight_bytes / (limits[1] * 2) if case.batch == 1 and case.mode == "infer" else 0.0)
    return {
        "case": case.name, "mode": case.mode, "microseconds": {name: 1e6 * seconds for name, seconds in best.items()}, "best_peer": winner,
        "ratio": peers[winner] / own if winner else None, "limit_share": limit / own,
    }  # fmt: skip


def show(line: dict[str, Any]) -> str:
    times = line["microseconds"]
    peer = f"{line['best_peer']:<12}{times[line['best_peer']]:>11.1f}{line['ratio']:>8.2f}" if line["best_peer"] else ""
    return f"{line['case']:<32}{times['rnnfast']:>11.1f}  {peer}{100 * line['limit_share']:>7.0f} %"


def summary(lines: list[dict[str, Any]]) -> list[str]:
    """Geometric mean and worst case of each mode."""
    text = []
    for mode in ("infer", "train"):
        ratios = {line["case"]: line["ratio"] for line in lines if line["mode"] == mode and line["ratio"]}
        if ratios:
            worst = min(ratios, key=lambda name: ratios[name])
            text.append(f"{mode}: {len(ratios)} cases, geometric mean {geometric_mean(ratios.values()):.2f}, worst {ratios[worst]:.2f} ({worst})")
    return text


def plot(lines: list[dict[str, Any]], path: str) -> None:
    """Ratios as bars from 1 on, one a case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [line for line in lines if line["ratio"]]
    figure = Figure(figsize=(9, 1 + 0.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colors = {"infer": "tab:blue", "train": "tab:orange"}
    axes.barh([line["case"] for line in shown], [line["ratio"] - 1 for line in shown], left=1, color=[colors[line["mode"]] for line in shown])
    axes.legend(handles=[Patch(color=colors["infer"], label="inference"), Patch(color=colors["train"], label="training step")], loc="lower right")
    axes.axvline(1, color="0.2", linewidth=1)
    axes.set(xscale="log", xlabel="best peer's time / rnnfast's time", title="Speed against the best of the other libraries")
    axes.set_xticks(ticks := [0.5, 1, 2, 4, 8, 16], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(0.8, 0.9 * min(line["ratio"] for line in shown)), 1.1 * max(2.0, *(line["ratio"] for line in shown)))
    axes.invert_yaxis()
    axes.margins(y=0.005)
    axes.tick_params(axis="y", labelsize=7)
    figure.savefig(path, dpi=110)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rnnfast.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default="", metavar="REGEX", help="only cases whose name matches, e.g. 'infer lstm 1,'")
    parser.add_argument("--peers", default=",".join(name for name in ALL if name != "rnnfast"), help="libraries to compare with (default: the installed ones of %(default)s)")
    parser.add_argument("--torch", action="store_true", help="compare torch's modules with those of rnnfast.torch, in one process")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="per measurement (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of 0.05 s")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the ratios (needs matplotlib)")
    parser.add_argument("--streams", action="store_true", help="live streams and pools of them instead of the grid")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    chosen = options(arguments)
    if chosen.streams:
        with quiet_machine():
            return streams.main(0.05 if chosen.quick else 5 * chosen.seconds, chosen.json)
    rounds, seconds = (1, 0.05) if chosen.quick else (chosen.rounds, chosen.seconds)
    if chosen.torch:
        from rnnfast.benchmark.torch_modules import compare

        with quiet_machine():
            return compare(chosen.cases, rounds, seconds, chosen.json)
    peers = [name for name in chosen.peers.split(",") if name and importlib.util.find_spec(name)]
    settings = sorted({1, _engine.get_num_threads()}, reverse=True)
    with quiet_machine(), tempfile.TemporaryDirectory() as folder:
        limits = machine_limits()
        print(f"isa {_engine.isa()}, threads {settings}, peers {', '.join(peers) or 'none'}; limits {limits[0] / 1e9:.0f} GFLOP/s, {limits[1] / 1e9:.0f} GB/s a core")
        print(f"{'case (mode cell B,T,I,H)':<32}{'rnnfast us':>11}  {'best peer':<12}{'us':>11}{'ratio':>8}{'limit':>9}")
        workers = [Worker(name, n) for name in ("rnnfast", *peers) for n in settings]
        lines = []
        try:
            for index, case in enumerate(GRID):
                if re.search(chosen.cases, case.name):
                    best = measure(prepare(workers, case, index, folder), rounds, seconds)
                    lines.append(row(case, best, limits))
                    print(show(lines[-1]), flush=True)
        finally:
            for worker in workers:
                worker.close()
    print("\n".join(summary(lines)))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps({"isa": _engine.isa(), "limits": limits, "rows": lines}, indent=1))
    if chosen.plot:
        plot(lines, chosen.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
