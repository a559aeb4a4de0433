"""The states of live sequences in a plan: which arrays they stand in, and how ops read and leave them."""

from __future__ import annotations

import numpy as np

from rnnfast._engine import Buffer, Rows
from rnnfast.plan.builder import Builder, Tensor


class Live:
    """What the layers of live sequences go on from and leave.

    Parameters
    ----------
    states : dict of layer name to list of ndarray
        Each [capacity, *shape], one row a sequence.
    rows : int
        Sequences of a plan, at most.

    Attributes
    ----------
    maps : list of Rows
        Maps of a plan's rows that no other leads to.
    slots : dict of int to Rows
        By the number of steps kept, maps from a plan's rows to rows of the arrays.
    """

    def __init__(self, states: dict[str, list[np.ndarray]], rows: int) -> None:
        self.states, self.rows = states, rows
        self.maps: list[Rows] = []
        self.slots: dict[int, Rows] = {}

    def slot(self, steps: int = 1) -> Rows:
        """The map to arrays that keep so many steps of a sequence."""
        if steps not in self.slots:
            self.slots[steps] = Rows(self.rows, steps)
        return self.slots[steps]


def buffer_of(values: np.ndarray) -> Buffer:
    """An array of states, a row of it the values of one step."""
    made = Buffer("state", 0, values.shape[-1])
    made.hold(values, values.shape[-1])
    return made


def take(b: Builder, x: Tensor, values: np.ndarray) -> Tensor:
    """A state [capacity, width] of the sequences of x, as it stands now."""
    assert b.live is not None
    rows = b.batch_rows(x.rows)
    y = b.tensor("state", x, values.shape[1:], rows, timed=False)
    y.needs_grad = False
    b.op("gather", b.live.slot(), {"x": buffer_of(values), "y": y.buffer}, "state", n=y.width)
    return y


def leave(b: Builder, state: Tensor, values: np.ndarray) -> None:
    """Keep a state for the next call."""
    assert b.live is not None
    b.op("gather_back", b.live.slot(), {"dy": state.buffer, "dx": buffer_of(values)}, "state", n=state.width)


def history(b: Builder, x: Tensor, values: np.ndarray) -> Tensor:
    """x with the steps before it in front, which stand in `values` [capacity, steps, width]; the last ones stay there for the next call."""
    assert b.live is not None
    x, steps = b.packed(x), values.shape[1]
    rows, before, kept = Rows(x.rows.batch, steps + x.rows.time), b.live.slot(steps), buffer_of(values)
    b.live.maps.append(rows)
    y = b.tensor("history", x, x.features, rows)
    b.op("gather", before, {"x": kept, "y": y.buffer}, "inputs before", n=x.width)
    b.op("copy", x.rows, {"x": x.buffer, "y": y.buffer}, n=x.width, m=steps)
    b.op("gather_back", before, {"dy": y.buffer, "dx": kept}, "to the next call", n=x.width, m=x.rows.time)
    return y
