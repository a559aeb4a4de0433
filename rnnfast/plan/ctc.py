"""The CTC loss in a plan."""

from __future__ import annotations

from typing import Any

from rnnfast import _engine
from rnnfast._engine import Buffer
from rnnfast.plan.builder import Builder, Tensor

LABELS_STEP = 16  # a plan serves label sequences up to the next multiple of this


def label_room(columns: int) -> int:
    """Columns of labels that the plan for `columns` has room for."""
    return -(-columns // LABELS_STEP) * LABELS_STEP


def add_ctc(b: Builder, x: Tensor, columns: int, outside: dict[str, Buffer], numbers: dict[str, Any], train: bool) -> None:
    """Add the loss of x, packed rows of classes, and, in training, hand its gradient to x.

    Parameters
    ----------
    b : Builder
    x : Tensor
    columns : int
        Greatest number of labels of a sequence.
    outside : dict of str to Buffer
        labels (int64), weight and result (float64).
    numbers : dict
        blank, padding, from_logits, zero_infinity, per_label, epsilon.
    train : bool
    """
    rows, classes, doubles = x.rows, x.width, 8 // b.itemsize
    size = _engine.ctc_scratch_size(rows.time, label_room(columns), classes, train)
    buffers: dict[str, Buffer | None] = {
        **outside,
        "x": x.buffer,
        "dx": b.rows_buffer("d loss", rows, classes) if train else None,
        "work": b.buffer("losses", rows.batch * doubles),
        "scratch": b.buffer("CTC paths", size * b.plan.threads * doubles, size),
    }
    op = _engine.CTCOp(b.dtype, rows, buffers, classes=classes, **numbers)
    b.plan.add(op, f"{'ctc':<16}{classes} classes, up to {label_room(columns)} labels", 100.0 * rows.capacity * (classes + 2 * min(columns, rows.time)))
    b.hand_over(x, buffers["dx"])
