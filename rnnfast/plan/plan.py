"""A finished plan: ops, their buffers in one arena, and the program that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rnnfast import _engine
from rnnfast.plan.entry import Entry
from rnnfast.plan.memory import memory_of
from rnnfast.plan.schedule import BRIEF_FLOPS, GAIN, plain_seconds, precision_line, region_seconds
from rnnfast.plan.wave import with_waves

if TYPE_CHECKING:
    from rnnfast.plan.params import Params

LINE = 64


@dataclass
class Plan:
    """What one call of a model at one size runs.

    Attributes
    ----------
    dtype : str
    threads : int
        At most; a plan that would gain too little from more runs on one.
    precision : str
        Of the products of float32, as it was set.
    waves : bool
        Whether chains of recurrent layers may become one op, because no backward pass follows.
    params : Params or None
        The weights that its ops read.
    entries : list of Entry
    buffers : list of Buffer
        Those that live in the arena.
    """

    dtype: str
    threads: int
    precision: str
    waves: bool = False
    params: Params | None = None
    entries: list[Entry] = field(default_factory=list)
    buffers: list[_engine.Buffer] = field(default_factory=list)
    arena_bytes: int = 0
    maker: str = ""
    estimate: tuple[float, float] = (0.0, 0.0)  # seconds on one thread and on the team

    @property
    def ops(self) -> list[Any]:
        """The engine's ops."""
        return [entry.op for entry in self.entries]

    @property
    def lines(self) -> list[str]:
        """One line an op, as `print(plan)` shows them."""
        return [entry.line if isinstance(entry.line, str) else entry.line() for entry in self.entries]

    @property
    def flops(self) -> list[float]:
        """Floating-point operations of each op, about."""
        return [entry.flops for entry in self.entries]

    @property
    def makers(self) -> list[str]:
        """The layer that added each op."""
        return [entry.maker for entry in self.entries]

    def add(
        self, op: Any, line: str | Callable[[], str], flops: float = 0.0, at: int | None = None, seconds: tuple[float, float] | None = None, part: Any = None
    ) -> None:
        """Append an op, or insert it at a place; without `seconds` it is taken to share its operations among all threads."""
        entry = Entry(op, line, flops, self.maker, seconds or plain_seconds(flops, self.threads), part)
        self.entries.insert(len(self.entries) if at is None else at, entry)

    def compile(self) -> _engine.Program:
        """Lay the buffers out and make the program."""
        itemsize = 8 if self.dtype == "float64" else 4
        offset = 0
        for buffer in self.buffers:
            if buffer.owner is None:
                buffer.offset = offset
                offset += -(-buffer.size * itemsize // LINE) * LINE
        for buffer in self.buffers:
            if buffer.owner is not None:  # a part of another buffer: `size` is where it starts
                buffer.offset = buffer.owner.offset + buffer.size * itemsize
        self.arena_bytes = offset
        if self.threads > 1:
            if self.waves:
                self.entries = with_waves(self.entries, self.threads)
            one, team = (sum(entry.seconds[i] for entry in self.entries) for i in range(2))
            self.estimate = one, team + region_seconds(self.threads)
            if self.estimate[1] > GAIN * one:
                self.threads = 1
        return _engine.Program(self.ops, self.buffers, offset, self.threads, self.estimate)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by kind: weights, panels, tape, states kept (before each step, for the backward pass), working (states and gate inputs at hand, shared by all threads), gradients, outputs."""
        return memory_of(self)

    @property
    def brief(self) -> bool:
        """Whether a run is so short that it keeps the interpreter's lock."""
        return sum(self.flops) < BRIEF_FLOPS

    def __str__(self) -> str:
        head = f"plan {self.dtype} {_engine.isa()} threads={self.threads} arena {self.arena_bytes / 2**20:.2f} MiB"
        if any(self.estimate):
            head += " (estimated: one thread {:.3g} us, the team {:.3g} us)".format(*(1e6 * seconds for seconds in self.estimate))
        head += precision_line(self.precision)
        memory = ", ".join(f"{kind} {size / 2**20:.2f}" for kind, size in self.memory.items() if size)
        return "\n".join([head, f"memory in MiB: {memory}", *(f"{i:3d} {line}" for i, line in enumerate(self.lines))])
