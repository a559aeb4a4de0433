"""Live streams: what a step costs from Python, a sample of a chunk, and a stream of a pool, beside NumPy, PyTorch and RTNeural.

Each figure is the median of single calls, with the 99.9th percentile beside it; rnnfast and its peers are timed in turns in one process.

RTNeural (Chowdhury 2021, arXiv 2106.03037: C++ whose models are fixed at compile time) stands beside `process` with figures measured once on an AMD EPYC 7003 (Eigen, -march=native
-ffast-math). Its project publishes how much faster than 48 kHz it runs; for an LSTM of 16 units that is 0.424 us a sample on an Apple M2 and 1.03 us on an Intel Core i5 of the 11th generation, for a
GRU 0.304 and 0.744 (its pull request 108). To measure it here: clone https://github.com/jatinchowdhury18/RTNeural with its submodules, ``cmake -Bbuild -DCMAKE_BUILD_TYPE=Release -DBUILD_BENCH=ON
-DCMAKE_CXX_FLAGS="-march=native -ffast-math"`` (with ``-DRTNEURAL_STL=ON`` no submodule is needed), and run its ``rtneural_layer_bench`` with the layer, seconds and sizes.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rnnfast import Input, Sequential, _engine, layers
from rnnfast.utils import set_random_seed

GOALS = {  # microseconds a step (a sample of a chunk, a stream of a pool) that are aimed at
    "step lstm 16": 1.0, "step lstm 64": 1.6, "step lstm 256": 12.0, "step gru 16": 1.0, "step gru 64": 1.6, "step gru 256": 12.0,
    "process lstm 16": 0.060, "process lstm 40": 0.180, "process lstm 64": 0.450,
}  # fmt: skip
RTNEURAL = {"process lstm 16": 0.083, "process lstm 40": 0.267, "process lstm 64": 0.631}
CHUNK, STREAMS, UNITS = 512, 256, 128
Run = Callable[[], Any]


def model(cell: str, inputs: int, units: int, dense: bool = False) -> Sequential:
    """One recurrent layer, and Dense(1) behind it if it is asked for."""
    set_random_seed(0)
    layer = {"lstm": layers.LSTM, "gru": layers.GRU}[cell](units, return_sequences=True)
    return Sequential([Input((None, inputs)), layer, *([layers.Dense(1)] if dense else [])])


def percentiles(runs: dict[str, Run], seconds: float) -> dict[str, tuple[float, float]]:
    """Median and 99.9th percentile of each, in microseconds; they take turns in blocks of calls."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds * len(runs)
    for run in runs.values():
        run()
    while time.perf_counter() < end:
        for name, run in runs.items():
            found, block = times[name], time.perf_counter() + seconds / 20
            while (start := time.perf_counter()) < block:
                run()
                found.append(time.perf_counter() - start)
    return {name: (1e6 * float(np.median(found)), 1e6 * float(np.percentile(found, 99.9))) for name, found in times.items() if found}


def numpy_step(cell: str, weights: list[np.ndarray]) -> Run:
    """A step of the same cell in NumPy, which keeps its state."""
    kernel, recurrent, bias = weights[:3]
    units, one = len(recurrent), np.float32(1)
    x, state = np.zeros(len(kernel), np.float32), [np.zeros(units, np.float32), np.zeros(units, np.float32)]

    def lstm() -> None:
        i, f, g, o = (x @ kernel + state[0] @ recurrent + bias).reshape(4, units)
        state[1] = state[1] / (one + np.exp(-f)) + np.tanh(g) / (one + np.exp(-i))
        state[0] = np.tanh(state[1]) / (one + np.exp(-o))

    def gru() -> None:
        a, b = (x @ kernel + bias[0]).reshape(3, units), (state[0] @ recurrent + bias[1]).reshape(3, units)
        z, r = one / (one + np.exp(-a[0] - b[0])), one / (one + np.exp(-a[1] - b[1]))
        state[0] = z * state[0] + (one - z) * np.tanh(a[2] + r * b[2])

    return {"lstm": lstm, "gru": gru}[cell]


def torch_steps(cell: str, inputs: int, units: int, steps: int, dense: bool) -> Run:
    """As many steps in PyTorch, which hands the state over."""
    import torch

    net = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](inputs, units)
    head = torch.nn.Linear(units, 1) if dense else torch.nn.Identity()
    x, state = torch.zeros(steps, 1, inputs), [net(torch.zeros(1, 1, inputs))[1]]

    def run() -> None:
        with torch.inference_mode():
            y, state[0] = net(x, state[0])
            head(y)

    return run


def one_step(cell: str, units: int, threads: int, peers: list[str], seconds: float) -> dict[str, tuple[float, float]]:
    """`step` of a layer of as many inputs as units."""
    _engine.set_num_threads(threads)
    made = model(cell, units, units)
    stream, x, y = made.stream(), np.zeros(units, np.float32), np.empty(units, np.float32)
    step = stream.step
    runs: dict[str, Run] = {"rnnfast": lambda: step(x, y), "numpy": numpy_step(cell, made.get_weights())}
    if "torch" in peers:
        runs["torch"] = torch_steps(cell, units, units, 1, False)
    return percentiles(runs, seconds)


def one_chunk(units: int, peers: list[str], seconds: float) -> dict[str, tuple[float, float]]:
    """A sample of `process` of an LSTM of one input and Dense(1)."""
    _engine.set_num_threads(1)
    stream, x, y = model("lstm", 1, units, True).stream(), np.zeros((CHUNK, 1), np.float32), np.empty((CHUNK, 1), np.float32)
    process = stream.process
    runs: dict[str, Run] = {"rnnfast": lambda: process(x, y)}
    if "torch" in peers:
        runs["torch"] = torch_steps("lstm", 1, units, CHUNK, True)
    return {name: (median / CHUNK, tail / CHUNK) for name, (median, tail) in percentiles(runs, seconds).items()}


def pools(threads: list[int], seconds: float) -> dict[str, tuple[float, float]]:
    """A step of a single stream, and of a stream of a pool of 256 on each number of threads."""
    made, x = model("lstm", UNITS, UNITS), np.zeros((STREAMS, UNITS), np.float32)
    _engine.set_num_threads(1)
    stream, row, y, ys = made.stream(), x[0].copy(), np.empty(UNITS, np.float32), np.empty((STREAMS, UNITS), np.float32)
    found = {"a stream alone": percentiles({"": lambda: stream.step(row, y)}, seconds)[""]}
    for n in threads:
        _engine.set_num_threads(n)
        pool = made.stream_pool(STREAMS)
        ids = np.array([pool.open() for _ in range(STREAMS)])
        median, tail = percentiles({"": lambda: pool.step(ids, x, ys)}, seconds)[""]  # noqa: B023 - it is run here
        found[f"in a pool of {STREAMS}, threads {n}"] = median / STREAMS, tail / STREAMS
    return found


def report(name: str, found: dict[str, tuple[float, float]], lines: list[dict[str, Any]]) -> None:
    """Print a line of the table and keep it."""
    median, tail = found["rnnfast"]
    others = {**{peer: times[0] for peer, times in found.items() if peer != "rnnfast"}, **({"RTNeural": RTNEURAL[name]} if name in RTNEURAL else {})}
    beside = "  ".join(f"{peer} {time:.3f}" for peer, time in others.items())
    print(f"{name:<18}{median:>9.3f}{tail:>10.3f}{tail / median:>7.1f}{GOALS[name]:>9.3f}   {beside}", flush=True)
    lines.append({"case": name, "median": median, "p99.9": tail, "goal": GOALS[name], "peers": others})


def main(seconds: float = 1.0, json_file: str | None = None) -> int:
    """Print all figures.

    Parameters
    ----------
    seconds : float
        Of each library in each case.
    json_file : str, optional
        Where the figures are written too.
    """
    before, lines = _engine.get_num_threads(), []  # type: ignore[var-annotated]
    peers = [name for name in ("torch",) if importlib.util.find_spec(name)]
    if peers:
        import torch

        torch.set_num_threads(1)
    try:
        print(
            f"isa {_engine.isa()}, float32; microseconds a step, a sample of chunks of {CHUNK}, a stream of a pool; steps of 256 units on {before} threads, the others on one"
        )
        print(f"{'case':<18}{'median':>9}{'p99.9':>10}{'ratio':>7}{'goal':>9}   others' medians")
        for cell in ("lstm", "gru"):
            for units in (16, 64, 256):
                report(f"step {cell} {units}", one_step(cell, units, before if units == 256 else 1, peers, seconds), lines)
        for units in (16, 40, 64):
            report(f"process lstm {units}", one_chunk(units, peers, seconds), lines)
        alone = 0.0
        for name, (median, tail) in pools(sorted({1, before}), seconds).items():
            alone = alone or median
            print(f"lstm {UNITS} {name:<28}{median:>9.3f}{tail:>10.3f}   {median / alone:.2f} of a stream alone", flush=True)
            lines.append({"case": f"lstm {UNITS} {name}", "median": median, "p99.9": tail, "share": median / alone})
    finally:
        _engine.set_num_threads(before)
    if json_file:
        Path(json_file).write_text(json.dumps({"isa": _engine.isa(), "rows": lines}, indent=1))
    return 0
