"""Masks of computed values: which steps exist is found out in the middle of a run, by an op in Python that sets the row maps of all that follows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.plan.builder import Builder, Tensor

Find = Callable[[np.ndarray, np.ndarray], np.ndarray]


def add_masking(b: Builder, x: Tensor, find: Find) -> Tensor:
    """x without the steps that a function of its values (B, T, ...) and of the steps (B, T) that exist leaves out; these show zeros."""
    before, rows = b.packed(x).rows, Rows(x.rows.batch, x.rows.time)
    rows.masked, rows.hold = True, False
    shape = (rows.batch, rows.time, *x.features)

    def set_rows(arrays: dict[str, np.ndarray]) -> None:
        exists = np.zeros((rows.batch, rows.time), bool)
        exists.reshape(-1)[before.source] = True
        rows.set_valid(find(arrays["x"].reshape(shape), exists).view(np.uint8))
        for made, how, parent in b.derived:
            if made.root is rows:
                getattr(made, how)(parent)
        for hook in b.when_masked if rows is b.late_rows[-1] else ():
            hook()

    def look(full: Buffer) -> None:
        b.plan.add(_engine.PythonOp(set_rows, b.dtype, {"x": (full, rows.batch * rows.time, x.width)}), f"{'mask':<16}by values")

    b.late_rows.append(rows)
    return b.aligned(x, rows, look)
