"""Attention in a plan: the buffers of its forward op and of its backward op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast._engine import Buffer, Rows
from rnnfast.plan.builder import Builder, Tensor
from rnnfast.plan.live import history, leave, take
from rnnfast.plan.params import Variable


@dataclass
class Score:
    """How a query step is compared with a key, and which keys it sees.

    Attributes
    ----------
    additive : bool
        ``weight . tanh(inner (q + k))`` instead of ``q . k``.
    constant : float
    scale : Variable of shape () or None
        The score is multiplied by both.
    inner, weight : Variable or None
        Of additive scores, of shapes () and (width,); ones where there is none.
    causal : bool
        Only keys up to the query's step.
    window : int or None
        Only keys at most this many steps away.
    dropout : float
        Of the softmax, in training.
    seen : Tensor or None
        Of a live sequence, whose values start with steps before the queries' first: how many of them there were already, one number a row.
    """

    additive: bool = False
    constant: float = 1.0
    scale: Variable | None = None
    inner: Variable | None = None
    weight: Variable | None = None
    causal: bool = False
    window: int | None = None
    dropout: float = 0.0
    seeds: Any = None
    seen: Tensor | None = None


class _Attention:
    """One attention on its way into a plan."""

    def __init__(self, b: Builder, query: Tensor, value: Tensor, key: Tensor, score: Score, show: bool) -> None:
        self.b, self.score, self.tensors = b, score, [query, value, key]
        self.y = b.tensor("attention", query, value.features)
        self.shown = b.tensor("attention scores", query, (value.rows.time,)) if show else None
        dropped = b.training and score.dropout > 0
        operand = b.params.operand
        weights: dict[str, Buffer | None] = {name: operand(v) if v else None for name, v in (("scale", score.scale), ("inner", score.inner), ("weight", score.weight))}
        if score.additive and score.weight is None:
            weights["weight"] = b.constant(1.0, query.width, query.width)
        self.buffers: dict[str, Buffer | None] = {
            **weights, "query": query.buffer, "value": value.buffer, "key": key.buffer, "y": self.y.buffer, "seed": b.seed(score.seeds) if dropped else None,
            "scores": self.shown.buffer if self.shown else None, "seen": score.seen.buffer if score.seen else None,
        }  # fmt: skip
        steps = max(query.rows.time, value.rows.time)
        self.numbers = {
            "width": query.width, "depth": value.width, "window": -1 if score.window is None else min(score.window, steps), "additive": score.additive,
            "causal": score.causal, "constant": score.constant, "rate": score.dropout if dropped else 0.0,
            "shift": value.rows.time - query.rows.time if score.seen else 0,
        }  # fmt: skip

    def add(self, kind: str, backward: bool) -> None:
        b, (query, value, key) = self.b, self.tensors
        given = {name: buffer for name, buffer in self.buffers.items() if buffer is not None}
        op = _engine.AttentionOp(b.dtype, [query.rows, value.rows, key.rows], given, self.numbers, backward)
        size = -(-op.scratch // 16) * 16
        op.lend(b.buffer("attention scratch", size * b.plan.threads, size))
        seen = value.rows.time if self.score.window is None else min(value.rows.time, 2 * self.score.window + 1)
        flops = (5.0 if backward else 2.0) * query.rows.batch * query.rows.time * seen * (query.width + value.width)
        b.plan.add(op, f"{kind:<16}{query.rows.time} x {value.rows.time} of {query.width}, {value.width}{' additive' if self.score.additive else ''}", flops)

    def back(self) -> None:
        b, buffers, score, (query, value, _) = self.b, self.buffers, self.score, self.tensors
        shown = self.shown.grad if self.shown else None
        if self.y.grad is None and shown is None:
            return
        gradients = [b.rows_buffer(f"d {t.buffer.name}", t.rows, t.width) if t.needs_grad else None for t in self.tensors]
        buffers |= {"dy": self.y.grad, "dscores": shown, "scores": None} | dict(zip(("dquery", "dvalue", "dkey"), gradients, strict=True))
        for name, variable in (("dscale", score.scale), ("dinner", score.inner), ("dweight", score.weight)):
            buffers[name] = b.gradient(variable) if variable else None
        if score.weight:
            padded = -(-query.width // b.lanes) * b.lanes
            buffers["weight_rows"] = b.rows_buffer("d weight of rows", query.rows, padded)
        buffers["partial"] = b.buffer("partial gradients", 2 * (2 * query.rows.capacity + value.rows.capacity))
        self.add("attention back", True)
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            b.hand_over(tensor, gradient)


def window_of_stream(b: Builder, value: Tensor, key: Tensor, states: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Value and key of a live sequence with the steps before them in front, and how many of those there were already."""
    *kept, count = states
    seen = take(b, value, count)
    longer = b.tensor("seen", seen, (1,))
    b.op("advance", seen.rows, {"x": seen.buffer, "y": longer.buffer}, n=value.rows.time, m=kept[0].shape[1])
    leave(b, longer, count)
    values = history(b, value, kept[0])
    return values, history(b, key, kept[1]) if len(kept) > 1 else values, seen


def packed_inputs(b: Builder, x: list[Tensor]) -> list[Tensor]:
    """Query, value and key (the value where there is none) as packed rows."""
    packed = {id(t): t for t in x}
    packed = {name: b.packed(t) for name, t in packed.items()}
    query, value, key = (*x, x[1])[:3]
    return [packed[id(t)] for t in (query, value, key)]


def add_attention(b: Builder, query: Tensor, value: Tensor, key: Tensor, score: Score, show: bool = False) -> tuple[Tensor, Tensor | None]:
    """Each valid step of `query` reads the mean of `value`'s valid steps, weighted by the softmax of its scores with `key`.

    A query step that sees no key gives zeros, and so do masked query steps.

    Parameters
    ----------
    query, value, key : Tensor
        Packed, each with row maps of their own; query and key of one width, value and key of one time.
    score : Score
    show : bool
        Whether the softmax is returned too, as rows [value's time] of the query's map.
    """
    made = _Attention(b, query, value, key, score, show)
    b.show_masked(query.rows, False)
    made.add("attention", False)
    b.on_backward(made.back)
    return made.y, made.shown


def learnt_query(b: Builder, rows: Rows, vector: Variable) -> Tensor:
    """A weight of shape (1, F) as one step of every sequence of `rows`."""
    one = Tensor(b.batch_rows(rows), (1,), b.constant(1.0, rows.batch * 2, 1), timed=False, needs_grad=False)
    return b.dense(one, vector, None, "linear")
