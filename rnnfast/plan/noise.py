"""Noise of the states in a plan: recurrent dropout and zoneout."""

from __future__ import annotations

from typing import Any

from rnnfast._engine import Buffer, Rows
from rnnfast.plan.builder import Builder


def keep_factors(b: Builder, rows: Rows, units: int, padded: int, rate: float, seeds: Any) -> Buffer:
    """Zoneout (Krueger et al. 2017): the new state's share of each unit, in training 1 or 0 for every step of every row, else 1 - rate everywhere."""
    if not b.training:
        return b.constant(1 - rate, padded)
    made = b.rows_buffer("zoneout", rows, padded)
    b.op("keep", rows, {"y": made, "seed": b.seed(seeds)}, f"zoneout {rate}", n=units, rate=rate)
    return made


def state_masks(b: Builder, rows: Rows, count: int, padded: int, rate: float, seeds: Any) -> Buffer:
    """Recurrent dropout: so many masks of the states [batch, padded], the same at every step; rows keep theirs however they are sorted."""
    ones, masks = b.constant(1, rows.batch * padded, padded), b.buffer("recurrent masks", count * rows.batch * padded, padded)
    per_row = b.batch_rows(rows)
    for i in range(count):
        target = b.part(masks, i * rows.batch * padded)
        b.op("dropout", per_row, {"x": ones, "y": target, "seed": b.seed(seeds)}, f"recurrent {rate}", n=padded, rate=rate, kind=1)
    return masks
