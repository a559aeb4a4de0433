"""A finished plan: ops, their buffers in one arena, and the program that runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rnnfast import _engine
from rnnfast.plan.schedule import REGION_FLOPS

LINE = 64


@dataclass
class Plan:
    """What one call of a model at one size runs.

    Attributes
    ----------
    lines : list of str
        One line an op, as `print(plan)` shows them.
    ops : list of engine ops
    flops : list of float
        Floating-point operations of each op, about.
    makers : list of str
        The layer that added each op.
    buffers : list of Buffer
        Those that live in the arena.
    dtype : str
    threads : int
        At most; a plan with little work runs on one.
    """

    dtype: str
    threads: int
    lines: list[str] = field(default_factory=list)
    ops: list[Any] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)
    makers: list[str] = field(default_factory=list)
    buffers: list[_engine.Buffer] = field(default_factory=list)
    arena_bytes: int = 0
    maker: str = ""

    def add(self, op: Any, line: str, flops: float = 0.0, at: int | None = None) -> None:
        """Append an op, or insert it at a place."""
        at = len(self.ops) if at is None else at
        columns: Any = ((self.ops, op), (self.lines, line), (self.flops, flops), (self.makers, self.maker))
        for column, value in columns:
            column.insert(at, value)

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
        if sum(self.flops) < REGION_FLOPS:
            self.threads = 1
        return _engine.Program(self.ops, self.buffers, offset, self.threads)

    def __str__(self) -> str:
        head = f"plan {self.dtype} {_engine.isa()} threads={self.threads} arena {self.arena_bytes / 2**20:.2f} MiB"
        return "\n".join([head, *(f"{i:3d} {line}" for i, line in enumerate(self.lines))])
