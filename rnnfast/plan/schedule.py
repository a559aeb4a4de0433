"""The one place that chooses how a recurrent layer is cut into chunks of time and shares of threads."""

from __future__ import annotations

L2_BYTES = 512 * 1024  # the smallest private cache of the CPUs in view; a chunk's gate inputs take a third of it
SPLIT_NONE, SPLIT_ROWS, SPLIT_UNITS = 0, 1, 2
REGION_FLOPS = 250_000  # about 5 us of one core: below, a second thread costs more than it brings
BARRIER_FLOPS = 24_000  # about 0.6 us of one core at batch 1, a few times a spin barrier


def choose_split(batch: int, time: int, inputs: int, units: int, gates: int, depth: int, itemsize: int, threads: int) -> int:
    """Rows where there are enough, else units where a step is worth a barrier or (its product's depth being 0) needs none, else one thread."""
    step = 2 * batch * gates * units * depth
    if threads == 1 or (step + 2 * batch * gates * units * inputs) * time < REGION_FLOPS:
        return SPLIT_NONE
    recurrent_bytes = gates * units * depth * itemsize
    if step >= BARRIER_FLOPS * threads and recurrent_bytes > 0.75 * L2_BYTES and units >= 32 * threads:
        return SPLIT_UNITS
    if batch >= threads:
        return SPLIT_ROWS
    return SPLIT_UNITS if (step >= BARRIER_FLOPS or depth == 0) and units >= 16 * threads else SPLIT_NONE


def choose_chunk(batch: int, time: int, gate_row: int, itemsize: int, inputs: int) -> int:
    """Steps whose gate inputs stay in cache, and enough rows to reuse each panel of W."""
    fits = L2_BYTES // 3 // max(1, batch * gate_row * itemsize)
    reuse = -(-48 // max(1, batch))
    return max(1, min(time, max(fits, reuse)))
