"""Zoneout in a plan: which units of a state take their new value, and which keep the old one (Krueger et al. 2017)."""

from __future__ import annotations

from typing import Any

from rnnfast._engine import Buffer, Rows
from rnnfast.plan.builder import Builder


def keep_factors(b: Builder, rows: Rows, units: int, padded: int, rate: float, seeds: Any) -> Buffer:
    """The new state's share of each unit: in training 1 or 0 for every step of every row, else 1 - rate everywhere."""
    if not b.training:
        return b.constant(1 - rate, padded)
    made = b.rows_buffer("zoneout", rows, padded)
    b.op("keep", rows, {"y": made, "seed": b.seed(seeds)}, f"zoneout {rate}", n=units, rate=rate)
    return made
