"""PyTorch's recurrent modules against those of `rnnfast.torch`, case by case in one process: `python -m rnnfast.benchmark --torch`.

Both have the same weights; outputs and gradients are compared before anything is timed. Rounds are interleaved, figures are medians, and torch counts with the better of one
thread and all. A training case is forward and backward for all weights. Packed cases hold sequences of lengths between one step and all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
import torch

import rnnfast.torch
from rnnfast import _engine
from rnnfast.benchmark.cases import CELLS, GRID, Case
from rnnfast.benchmark.worker import median_time

TOLERANCE = 1e-4
PACKED = ((8, 50, 16, 32), (32, 100, 64, 64), (32, 100, 128, 128), (64, 200, 32, 128))
CELL_SHAPES = ((1, 1, 16, 16), (1, 1, 256, 256), (32, 1, 128, 128))
MODULES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@dataclass(frozen=True)
class ModuleCase(Case):
    """A case of the grid as a call of a module, on a padded or a packed batch, or on one step of a cell."""

    form: str = "padded"

    @property
    def name(self) -> str:
        return f"{super().name}{'' if self.form == 'padded' else ' ' + self.form}"

    def input(self) -> Any:
        """What the module is called with."""
        rng = np.random.default_rng([self.batch, self.time, self.inputs, self.units])
        x = torch.from_numpy(rng.standard_normal((self.time, self.batch, self.inputs), dtype=np.float32))
        if self.form == "cell":
            return x[0]
        if self.form == "padded":
            return x
        return torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(np.sort(rng.integers(1, self.time + 1, self.batch))[::-1].copy()))

    def modules(self) -> list[Any]:
        """Torch's and rnnfast's."""
        name = MODULES[self.cell] + ("Cell" if self.form == "cell" else "")
        both = [getattr(package, name)(self.inputs, self.units) for package in (torch.nn, rnnfast.torch)]
        both[1].load_state_dict(both[0].state_dict())
        return both


def grid() -> list[ModuleCase]:
    """All cases."""
    cases = [ModuleCase(c.mode, c.cell, c.batch, c.time, c.inputs, c.units) for c in GRID]
    for form, shapes in (("packed", PACKED), ("cell", CELL_SHAPES)):
        cases += [ModuleCase(mode, cell, *shape, form) for mode in ("infer", "train") for cell in CELLS for shape in shapes]
    return cases


def output(result: Any) -> torch.Tensor:
    """The main output of what a module gives."""
    first = result[0] if isinstance(result, tuple) and not isinstance(result, torch.nn.utils.rnn.PackedSequence) else result
    found: torch.Tensor = first if isinstance(first, torch.Tensor) else first.data
    return found


def caller(case: ModuleCase, module: Any) -> Callable[[], list[torch.Tensor]]:
    """A call that runs the case once and gives what is compared."""
    x = case.input()
    if case.mode == "infer":

        def infer() -> list[torch.Tensor]:
            with torch.inference_mode():
                return [output(module(x))]

        return infer
    with torch.no_grad():
        upstream = torch.randn(output(module(x)).shape, generator=torch.Generator().manual_seed(0))
    weights = list(module.parameters())

    def train() -> list[torch.Tensor]:
        for weight in weights:
            weight.grad = None
        y = output(module(x))
        y.backward(upstream)
        return [y.detach(), *(weight.grad for weight in weights)]

    return train


def check(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for own, other in zip(ours, theirs, strict=True):
        error = float((own - other).abs().max() / max(1.0, float(other.abs().max())))
        if not error <= TOLERANCE:
            raise AssertionError(f"rnnfast.torch differs from torch by {error:.1e}.")


def measure(case: ModuleCase, rounds: int, seconds: float) -> dict[str, float]:
    """Seconds a call: torch's with one thread and with all, rnnfast's."""
    theirs, ours = (caller(case, module) for module in case.modules())
    check(ours(), theirs())
    threads = _engine.get_num_threads()
    runs = {f"torch {n}": (theirs, n) for n in sorted({1, threads})} | {"rnnfast": (ours, threads)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (run, n) in runs.items():
            torch.set_num_threads(n)
            times[name].append(median_time(run, seconds))
    torch.set_num_threads(threads)
    return {name: median(found) for name, found in times.items()}


def compare(cases: str, rounds: int, seconds: float, path: str | None) -> int:
    """Run the cases whose names match, print a line each and the summary; write them to a file."""
    print(f"isa {_engine.isa()}, threads {_engine.get_num_threads()}, torch {torch.__version__}")
    print(f"{'case (mode cell B,T,I,H)':<36}{'rnnfast us':>12}{'torch us':>12}{'ratio':>8}")
    lines: list[dict[str, Any]] = []
    for case in grid():
        if re.search(cases, case.name):
            times = measure(case, rounds, seconds)
            best = min(seconds for name, seconds in times.items() if name != "rnnfast")
            lines.append({"case": case.name, "microseconds": {name: 1e6 * s for name, s in times.items()}, "ratio": best / times["rnnfast"]})
            print(f"{case.name:<36}{1e6 * times['rnnfast']:>12.1f}{1e6 * best:>12.1f}{lines[-1]['ratio']:>8.2f}", flush=True)
    for word in ("infer", "train", "packed", "cell"):
        ratios = {line["case"]: line["ratio"] for line in lines if word in line["case"].split()}
        if ratios:
            worst = min(ratios, key=lambda name: ratios[name])
            print(f"{word}: {len(ratios)} cases, geometric mean {geometric_mean(ratios.values()):.2f}, worst {ratios[worst]:.2f} ({worst})")
    if path:
        Path(path).write_text(json.dumps({"isa": _engine.isa(), "torch": torch.__version__, "rows": lines}, indent=1))
    return 0
