"""The one place that chooses how a recurrent layer is cut into chunks of time and shares of threads: by what each way is estimated to take.

Results do not depend on the choice, so that estimates need only tell clear differences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

from rnnfast import _engine
from rnnfast.plan.machine import L2_BYTES, Machine, machine

ROWS_WITHIN = 4  # from so many rows on the tiles of one step are as full as those of many steps
ROWS_HIDING = 16  # with so many a step computes longer than it reads its kernels
KERNELS_NEAR = 4 << 20  # bytes of two kernels that a step of half as many rows still reads in time
SPLIT_NONE, SPLIT_ROWS, SPLIT_UNITS = 0, 1, 2
NAMES = ("one thread", "rows", "units")
GAIN = 0.9  # of one thread's time, or less: only then are more threads worth it
STEP = 50e-9  # seconds of a step beside its product
STEADY = 5e-8  # seconds of a thread's part of a barrier: of a virtual machine cores are near each other at times, and far at others
MEETING = 1.1  # times what is estimated, at least, is what layers take that meet at each step
HANDOVER = 200e-9  # seconds of beginning a chunk of a layer in a wavefront
CHAIN = 1.2e-9  # seconds of one multiplication after another
FEW, MANY = 0.5, 0.2  # of reading a kernel, what a few rows do not hide, and of reading it from behind the second cache, many
NEAREST = 16 * 1024  # bytes of a recurrent kernel that a step meets in the first cache, since steps walk over it from either end in turn
EQUATIONS = 75  # operations that the functions of a gate of a unit take about as long as
BRIEF_FLOPS = 100_000  # about 2 us of one core: below, letting go of the interpreter's lock costs other threads more than waiting for it


@dataclass(frozen=True)
class Work:
    """What a direction of a recurrent layer computes.

    Attributes
    ----------
    batch, time, inputs, units, gates : int
    depth : int
        Of the recurrent product, 0 if there is none.
    itemsize, lanes : int
    chunk : int
        Steps whose gate inputs are computed at once, 1 where steps do it themselves.
    stored : pair of int, or ()
        Bytes of a weight of the kernel and of the recurrent kernel, where they are not the itemsize.
    fresh : bool
        Whether the first step's state is zero, with which nothing is multiplied.
    """

    batch: int
    time: int
    inputs: int
    units: int
    gates: int
    depth: int
    itemsize: int
    lanes: int
    chunk: int
    stored: tuple[int, ...] = ()
    fresh: bool = False

    @property
    def kernel_bytes(self) -> int:
        """Of both kernels."""
        kernel, recurrent = self.stored or (self.itemsize, self.itemsize)
        return self.gates * self.units * (self.inputs * kernel + self.depth * recurrent)

    def seconds(self, m: Machine, rows: int, units: int, threads: int = 1) -> float:
        """Of a thread that computes so many rows and units; with more threads than one they meet after each step."""
        flops, width = m.flops * 4 / self.itemsize, self.gates * units
        sizes = self.stored or (self.itemsize, self.itemsize)
        kernel, recurrent = width * self.inputs * sizes[0], width * self.depth * sizes[1]
        far = recurrent > 0.75 * m.l2_bytes
        kept = m.l2_bytes / 2 if far and rows == 1 else 0.0  # one row meets as much of a large kernel in L2 as the step before has left there
        product, read = 2 * rows * width * self.depth / flops, max(0.0, recurrent - NEAREST - kept) / (m.l3_rate if far else m.l2_rate) + kept / m.l2_rate
        recurrent_seconds = max(_met(rows, product, read, far), self.depth * CHAIN)
        step = STEP + rows * width * EQUATIONS / flops + (2 * m.barrier if threads > 1 and self.depth else 0.0)
        far = kernel > 0.5 * m.l2_bytes
        chunk = _met(rows * self.chunk, 2 * rows * self.chunk * width * self.inputs / flops, kernel / (m.l3_rate if far else m.l2_rate), far)
        return (self.time - self.fresh) * recurrent_seconds + self.time * (step + chunk / self.chunk)


def _met(rows: int, product: float, read: float, far: bool) -> float:
    """Seconds of a product with so many rows, whose kernel takes `read` to come into the first cache: one row only waits for it, a few hide half of it, many most."""
    if 1 < rows < ROWS_HIDING:
        return product + FEW * read
    return max(product, read) + (MANY * read if far and rows > 1 else 0)


@dataclass(frozen=True)
class Choice:
    """How a layer is shared, and the seconds that each way is estimated to take."""

    split: int
    seconds: dict[int, float]

    @property
    def one(self) -> float:
        """Seconds on one thread."""
        return self.seconds[SPLIT_NONE]

    @property
    def best(self) -> float:
        """Seconds as chosen."""
        return self.seconds[self.split]

    def __str__(self) -> str:
        if len(self.seconds) == 1:
            return f"split={NAMES[self.split]}"
        return f"split={NAMES[self.split]} ({', '.join(f'{NAMES[way]} {1e6 * s:.3g}' for way, s in self.seconds.items())} us)"


def choose_split(work: Work, threads: int, ways: tuple[int, ...] = (SPLIT_ROWS, SPLIT_UNITS), team: int | None = None) -> Choice:
    """One thread, or a share of the rows (no meetings) or of the units (a meeting a step) for each of several.

    Parameters
    ----------
    ways : tuple of int
        Besides one thread, what the layer's op can do.
    team : int, optional
        Threads of the team of which these are part, whose rates count; `threads` by default.
    """
    m = machine(team or threads)
    seconds = {SPLIT_NONE: work.seconds(m, work.batch, work.units)}
    if threads > 1 and work.batch >= threads and SPLIT_ROWS in ways:
        seconds[SPLIT_ROWS] = work.seconds(m, -(-work.batch // threads), work.units)
        m = replace(m, barrier=max(m.barrier, threads * STEADY))
    else:  # a team that meets in vain is left as it runs
        m = replace(m, barrier=min(m.barrier, threads * STEADY))
    panels = -(-work.units // work.lanes)
    if threads > 1 and panels >= threads and SPLIT_UNITS in ways:
        seconds[SPLIT_UNITS] = work.seconds(m, work.batch, -(-panels // threads) * work.lanes, threads)
    split = min(seconds, key=lambda way: seconds[way])
    return Choice(split if seconds[split] < GAIN * seconds[SPLIT_NONE] else SPLIT_NONE, seconds)


def choose_pair(works: list[Work], threads: int, ways: tuple[int, ...]) -> tuple[bool, list[Choice]]:
    """Whether two directions run side by side, each on half of the team, or one after the other; and how each is shared."""
    after = [choose_split(work, threads, ways) for work in works]
    if threads == 1:
        return True, after
    beside = [choose_split(work, threads // 2, ways, threads) for work in works]
    together = max(c.best for c in beside) <= sum(c.best for c in after)
    return together, beside if together else after


@dataclass(frozen=True)
class Wave:
    """Layers as a wavefront: how many each stage has, the steps of a chunk, what it is estimated to take, and whether all kernels of a stage stay in L2."""

    stages: list[int]
    chunk: int
    seconds: float
    near: bool = False

    def better(self, one: float, team: float) -> bool:
        """Than one thread and than the team layer by layer, whose estimates are the lower the more often threads meet."""
        return self.seconds < min(GAIN * one, (MEETING if self.near else GAIN) * team)


def choose_wave(works: list[Work], threads: int) -> Wave:
    """The best wavefront of a chain of layers over the same rows, a stage a thread."""
    m = machine(threads)
    count = min(threads, len(works))
    best = None
    for chunk in (4, 8, 16, 32):
        times = [w.seconds(m, w.batch, w.units) for w in (replace(work, chunk=min(chunk, work.chunk)) for work in works)]
        stages, slowest = _stages(tuple(times), count)
        turns = -(-works[0].time // chunk)
        seconds = slowest * (turns + count - 1) / turns + (turns + count) * (m.barrier + max(stages) * HANDOVER)
        if best is None or seconds < best.seconds:
            best = Wave(stages, chunk, seconds, _most(works, stages) <= 0.75 * m.l2_bytes)
    assert best is not None
    return best


def _most(works: list[Work], stages: list[int]) -> int:
    """Bytes of the kernels of the stage that has most."""
    left = iter(works)
    return max(sum(work.kernel_bytes for work in islice(left, count)) for count in stages)


@lru_cache(maxsize=4096)
def _stages(times: tuple[float, ...], count: int) -> tuple[list[int], float]:
    """Cut a row of times into so many runs whose greatest sum is least: their lengths and that sum."""
    if count == 1:
        return [len(times)], sum(times)
    found: tuple[list[int], float] = ([], float("inf"))
    for first in range(1, len(times) - count + 2):
        rest, slowest = _stages(times[first:], count - 1)
        slowest = max(slowest, sum(times[:first]))
        if slowest < found[1]:
            found = [first, *rest], slowest
    return found


def plain_seconds(flops: float, threads: int) -> tuple[float, float]:
    """Of an op whose operations threads share and then meet: on one thread and on so many."""
    m = machine(threads)
    return flops / m.flops, flops / m.flops / threads + m.barrier


def region_seconds(threads: int) -> float:
    """That calling a team together takes."""
    return machine(threads).region


def region_flops(threads: int) -> float:
    """Operations below which a call stays on one thread."""
    m = machine(threads)
    return 2 * m.region * m.flops


WEIGHTS_SPLIT1 = 4  # of enum rnnf_weights, with which all numbers here that say what panels hold agree
PARTS = {"medium": 1, "high": 2}
TILE_ROWS, TILE_SIZE, TILE_DEPTH = 16, 256, 32  # the fewest rows, units or inputs, and depth, for which parts of bfloat16 are multiplied
MODES = (None, "bfloat16", "int8")  # what weights are stored as, None as what they are
WEIGHTS = (*MODES, "int8")  # the last one in fours
WEIGHTS_DOT4 = 3
WEIGHTS_BYTES: dict[str | None, int] = {"bfloat16": 2, "int8": 1}
STORED_LEAST = 64  # rows and columns of a matrix: smaller ones cost little to read, and raw inputs of different sizes, which are few, are not rounded together
ROWS_RUN = 24  # of csrc/kernels/tile.h


def choose_weights(stored: str | None, precision: str, dtype: str, rows: int, depth: int, units: int) -> int:
    """What the panels of a product hold: what the layer's weights are stored as, else parts of bfloat16 where the precision, the CPU and the size allow it. Rows are those of the batch: a sequence's bits do not depend on where it is cut."""
    if stored is not None:
        weights = WEIGHTS_DOT4 if stored == "int8" and _engine.dot4() else WEIGHTS.index(stored)
        return weights if min(depth, units) >= STORED_LEAST else 0
    wanted = precision in PARTS and dtype == "float32" and rows >= TILE_ROWS and max(depth, units) >= TILE_SIZE and min(depth, units) >= TILE_DEPTH
    return WEIGHTS_SPLIT1 - 1 + PARTS[precision] if wanted and _engine.tiles() else 0


def parts_of(weights: int) -> int:
    """Parts of bfloat16 that each weight of a panel has, 0 if it is a number as others."""
    return max(0, weights - WEIGHTS_SPLIT1 + 1)


def weight_bytes(weights: int, itemsize: int) -> int:
    """Bytes that a panel keeps of each weight."""
    return 2 * parts_of(weights) or WEIGHTS_BYTES.get(WEIGHTS[weights], itemsize)


def stored_values(depth: int, columns: int, weights: int) -> int:
    """Elements of float32 that panels of so many columns take."""
    even = depth + depth % 2
    if weights == WEIGHTS_DOT4:
        return 2 * columns + -(-depth // 4) * columns
    return columns + even * columns // 4 if WEIGHTS[weights] == "int8" else even * columns // 2


def parts_room(depth: int, weights: int) -> int:
    """Elements of float32 in which one thread keeps rows as parts, or a run of them as integers as csrc/kernels/stored.h lays them out."""
    if parts_of(weights):
        return _engine.parts_values(depth, parts_of(weights))
    return 32 + ROWS_RUN * (-(-depth // 16) * 8) if WEIGHTS[weights] == "int8" else 0


def products_line(weights: int) -> str:
    """How a plan's line says what panels hold."""
    return f"{parts_of(weights)}x bfloat16" if parts_of(weights) else str(WEIGHTS[weights])


def precision_line(precision: str) -> str:
    """The same of a whole plan; nothing for "highest"."""
    if precision == "highest":
        return ""
    return f" precision={precision} ({_engine.tiles() or 'as highest: no AMX'})"


def choose_chunk(rows: int, time: int, gate_row: int, kernel: int, itemsize: int) -> int:
    """Steps whose gate inputs are computed at once, with so many rows in one thread: chunks of about one size. Where the second cache has W near, few steps, since what they take there
    is taken from the kernels. Where W comes from behind it, as many as stay in half of it."""
    near = kernel * itemsize <= L2_BYTES // 2
    room, reuse = (L2_BYTES // 32, 24) if near else (L2_BYTES // 2, 48)
    most = max(1, room // max(1, rows * gate_row * itemsize), -(-reuse // max(1, rows)))
    return max(1, -(-time // -(-time // most)) if time else 1)


def choose_within(work: Work, threads: int, ways: tuple[int, ...]) -> bool:
    """Whether steps compute their gate inputs themselves, with so many rows in one thread: where both kernels stay in L2, or a chunk would be so short that W is
    read nearly as often, or there are rows enough to hide that, fewer of them where L3 has both kernels near."""
    rows = work.batch // threads if choose_split(work, threads, ways).split == SPLIT_ROWS else work.batch
    kernels = work.kernel_bytes
    hiding = ROWS_HIDING if kernels > KERNELS_NEAR else ROWS_HIDING // 2
    return rows >= ROWS_WITHIN and (kernels <= 0.75 * L2_BYTES or work.chunk <= 2 or rows >= hiding)
