"""The named sets of cases: `--set NAME`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

from rnnfast.benchmark.cases import CELLS, Case

Shape = tuple[int, int, int, int]
INFERENCE: tuple[Shape, ...] = (
    (1, 1, 16, 16), (1, 1, 64, 64), (1, 1, 256, 256), (1, 1, 1024, 1024), (1, 100, 8, 32), (1, 100, 64, 64), (1, 100, 128, 128), (1, 100, 256, 256),
    (1, 100, 512, 512), (1, 50, 1024, 1024), (8, 100, 64, 64), (8, 100, 256, 256), (32, 100, 32, 32), (32, 100, 128, 128), (32, 100, 256, 256),
    (64, 50, 512, 512), (128, 20, 1024, 1024), (256, 100, 16, 64), (1, 1000, 1, 16), (1, 1000, 1, 40),
)  # fmt: skip
TRAINING: tuple[Shape, ...] = (
    (8, 50, 16, 32), (32, 100, 32, 64), (32, 100, 128, 128), (32, 100, 256, 256), (64, 50, 512, 512), (128, 25, 64, 256), (1, 200, 64, 128),
)  # fmt: skip
LIBRARIES = ("torch", "onnxruntime", "openvino", "jax", "keras")


@dataclass(frozen=True)
class Set:
    """Cases, the libraries that they are compared with, and rnnfast's side of it."""

    cases: Callable[[], list[Case]]
    peers: tuple[str, ...] = LIBRARIES
    own: str = "rnnfast"

    @property
    def about(self) -> str:
        """What the cases are."""
        return (self.cases.__doc__ or "").split("\n")[0].rstrip(".")


def grid() -> list[Case]:
    """60 cases of inference and 21 of training."""
    return [Case(mode, cell, *shape) for mode, shapes in (("infer", INFERENCE), ("train", TRAINING)) for cell in CELLS for shape in shapes]


def threads() -> list[Case]:
    """The grid of rnnfast alone, all threads against one."""
    return grid()


def models() -> list[Case]:
    """Shapes of models in use; the inputs of a recurrent layer are what the layers before it give."""
    cases = [
        Case("infer", "gru", 1, 1, 256, 256, layers=3, live=True, label="RNNoise"),
        Case("infer", "lstm", 1, 1, 128, 128, live=True, label="Silero VAD"),
        Case("infer", "lstm", 1, 1, 640, 640, layers=2, live=True, label="Parakeet"),
    ]
    nam = [(1, 12), (1, 16), (1, 24), (2, 8)]
    cases += [Case("infer", "lstm", 1, block, 1, units, layers=layers, outputs=1, live=True, label="NAM") for layers, units in nam for block in (64, 512, 2048)]
    cases += [
        Case("infer", "lstm", 1, 293, 60, 128, layers=4, bidirectional=True, label="pyannote"),
        Case("infer", "lstm", 1, 400, 960, 200, layers=3, bidirectional=True, label="kraken"),
    ]
    for mode in ("infer", "train"):
        cases.append(Case(mode, "lstm", 32, 24, 1, 25, layers=2, outputs=1, label="darts"))
        cases.append(Case(mode, "lstm", 8, 128, 64, 256, resets=True, label="sb3"))
    return cases


def ragged() -> list[Case]:
    """Rows of lengths uniform in 1..T, beside rows of T steps; a cost of 1 is what the valid steps are worth."""
    shapes = ((8, 50, 16, 32), (32, 100, 64, 64), (32, 100, 128, 128), (32, 100, 256, 256), (64, 200, 32, 128))
    return [_beside(Case(mode, cell, *shape, lengths=True), lengths=False) for mode in ("infer", "train") for cell in CELLS for shape in shapes]


def bidirectional() -> list[Case]:
    """Both directions, beside one; a cost of 1 is both one after the other."""
    cases = [Case("infer", cell, 1, time, units, units, bidirectional=True) for cell in CELLS for time, units in ((100, 32), (100, 64), (100, 128), (100, 256), (100, 512))]
    return [_beside(case, bidirectional=False) for case in cases]


def stacked() -> list[Case]:
    """Four layers, which several threads can work at at once."""
    return [Case("infer", cell, batch, 100, units, units, layers=4) for cell in CELLS for batch in (1, 8) for units in (32, 64, 128, 256, 512)]


def extremes() -> list[Case]:
    """Inputs that slow or upset arithmetic, beside normal ones; at a cost of 1 they do neither."""
    shapes = (("infer", (1, 100, 64, 64)), ("infer", (32, 100, 128, 128)), ("train", (32, 100, 128, 128)))
    values = ("subnormal", "saturated", "nan")
    return [_beside(Case(mode, cell, *shape, values=word), values="normal") for (mode, shape), cell, word in product(shapes, CELLS, values)]


def streams() -> list[Case]:
    """A step of a stream, 512 samples of one, and a pool of 256 beside a stream alone."""
    cases = [Case("infer", cell, 1, 1, units, units, live=True) for cell in ("lstm", "gru") for units in (16, 64, 256)]
    cases += [Case("infer", "lstm", 1, 512, 1, units, outputs=1, live=True) for units in (16, 40, 64)]
    return [*cases, _beside(Case("infer", "lstm", 256, 1, 128, 128, live=True), batch=1)]


def modules() -> list[Case]:
    """PyTorch's modules against those of `rnnfast.torch`: the grid, ragged batches and single cells, forward and forward with backward."""
    packed = ((8, 50, 16, 32), (32, 100, 64, 64), (32, 100, 128, 128), (64, 200, 32, 128))
    cells = ((1, 1, 16, 16), (1, 1, 256, 256), (32, 1, 128, 128))
    cases = [replace(case, mode="backward" if case.mode == "train" else "infer") for case in grid()]
    cases += [Case(mode, cell, *shape, lengths=True) for mode in ("infer", "backward") for cell in CELLS for shape in packed]
    return cases + [Case(mode, cell, *shape, alone=True) for mode in ("infer", "backward") for cell in CELLS for shape in cells]


def _beside(case: Case, **other: object) -> Case:
    """The case beside one that differs as said."""
    base = replace(case, **other)  # type: ignore[arg-type]
    work = case.steps * case.directions / (base.steps * base.directions)
    return replace(case, base=base, work=work)


SETS = {
    "grid": Set(grid), "models": Set(models), "ragged": Set(ragged), "bidirectional": Set(bidirectional), "stacked": Set(stacked), "threads": Set(threads, ()),
    "extremes": Set(extremes, ()), "streams": Set(streams, ("numpy", "torch", "onnxruntime", "openvino", "jax", "keras")), "torch": Set(modules, ("torch",), "rnnfast.torch"),
}  # fmt: skip
