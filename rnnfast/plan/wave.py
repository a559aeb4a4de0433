"""Chains of recurrent layers in a plan become wavefronts where that is faster: a stage a thread, each a chunk of steps behind the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnfast import _engine
from rnnfast.plan.entry import Entry
from rnnfast.plan.schedule import SPLIT_NONE, choose_wave

if TYPE_CHECKING:
    from rnnfast.plan.direction import Part


def with_waves(entries: list[Entry], threads: int) -> list[Entry]:
    """The entries of a plan without a backward pass, chains that gain from it each as one."""
    made: list[Entry] = []
    chain: list[Entry] = []
    for entry in entries:
        if chain and not _follows(chain, entry):
            made += _best(chain, threads)
            chain = []
        chain.append(entry)
    return made + _best(chain, threads)


def _follows(chain: list[Entry], entry: Entry) -> bool:
    """Whether an entry is one layer that computes a step from that step of the chain's last layer and from nothing later."""
    before, part = chain[-1].part, entry.part
    if not (_forward(before) and _forward(part)) or before.x.rows is not part.x.rows or part.buffers["x"] is not before.buffers.get("y"):
        return False
    started = {buffer for name, buffer in part.buffers.items() if name.startswith("state_in")}
    return not started & {buffer for one in chain for buffer in one.part.buffers.values()}


def _forward(part: Part | None) -> bool:
    return part is not None and part.chunk > 0 and part.time > 0 and not part.d.backwards


def _best(chain: list[Entry], threads: int) -> list[Entry]:
    """A chain as it is, or as a wavefront if that is estimated to be clearly faster."""
    if len(chain) < 2:
        return chain
    parts = [entry.part for entry in chain]
    wave = choose_wave([part.cost() for part in parts], threads)
    one, team = (sum(entry.seconds[i] for entry in chain) for i in range(2))
    if not wave.better(one, team):
        return chain
    for entry in chain:
        entry.op.split = SPLIT_NONE
    op = _engine.WaveOp([entry.op for entry in chain], parts[0].x.rows, wave.stages, wave.chunk)
    note = f"wave={'+'.join(map(str, wave.stages))} layers, chunk={wave.chunk} (one thread {1e6 * one:.3g}, layer by layer {1e6 * team:.3g}, wave {1e6 * wave.seconds:.3g} us)"
    line = f"{'recurrent':<16}{', '.join(map(str, parts))} T={parts[0].time} {note}"
    return [Entry(op, line, sum(entry.flops for entry in chain), ", ".join(entry.maker for entry in chain), (one, wave.seconds))]
