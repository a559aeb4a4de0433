"""Attention in float64, one query step at a time, forward and back: plain loops over the equations."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def scores_of(kind: str, q: Array, k: Array, w: dict[str, Array]) -> tuple[Array, Any]:
    """The scores of one query step q (D,) with keys k (n, D), and their derivatives: by score -> d q, d k, d weights."""
    if kind in ("dot", "scaled"):
        factor = w.get("scale", 1.0) / (np.sqrt(len(q)) if kind == "scaled" else 1.0)
        plain = k @ q / (np.sqrt(len(q)) if kind == "scaled" else 1.0)

        def back(d: Array) -> tuple[Array, Array, dict[str, Array]]:
            return factor * d @ k, factor * np.outer(d, q), {"scale": np.asarray(d @ plain)}

        return k @ q * factor, back
    inner = w["scale"] if kind == "concat" and "scale" in w else 1.0
    t = np.tanh(inner * (q + k))
    weight = w.get("scale", 1.0) * np.ones(len(q)) if kind == "additive" else w["concat_score_weight"] * np.ones(len(q))

    def back(d: Array) -> tuple[Array, Array, dict[str, Array]]:
        slope = d[:, None] * weight * (1 - t * t)
        if kind == "additive":
            return slope.sum(0), slope, {"scale": d @ t}
        return inner * slope.sum(0), inner * slope, {"scale": np.asarray((slope * (q + k)).sum()), "concat_score_weight": np.asarray(d @ t.sum(1))}

    return t @ weight, back


def seen_by(step: int, value_mask: Array, window: int | None, causal: bool) -> Array:
    """The keys that a query step sees."""
    steps = np.arange(len(value_mask))
    seen = value_mask.copy()
    if window is not None:
        seen &= np.abs(steps - step) <= window
    if causal:
        seen &= steps <= step
    return np.flatnonzero(seen)


def attention(
    kind: str, weights: dict[str, Array], query: Array, value: Array, key: Array, masks: Any = None, window: int | None = None, causal: bool = False,
    dy: Array | None = None, dscores: Array | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Outputs and scores (B, Tq, ...), and with dy the gradients of sum(dy y) + sum(dscores scores).

    kind is a score mode of the layers or "additive"; projections ("kernel", "query_kernel", "key_kernel") are applied where they are among the weights.
    """
    w = {name: np.asarray(a, np.float64) for name, a in weights.items()}
    batch, steps, times = len(query), query.shape[1], value.shape[1]
    query_mask, value_mask = (np.ones((batch, n), bool) if m is None else np.asarray(m, bool) for n, m in zip((steps, times), masks or (None, None), strict=True))
    q = query @ w["kernel"] if "kernel" in w else query @ w["query_kernel"] if "query_kernel" in w else query
    k = key @ w["key_kernel"] if "key_kernel" in w else key
    y, shown = np.zeros((batch, steps, value.shape[2])), np.zeros((batch, steps, times))
    dq, dk, dv, dw = np.zeros(q.shape), np.zeros(k.shape), np.zeros(value.shape), {name: np.zeros(a.shape) for name, a in w.items()}
    for b, i in np.argwhere(query_mask):
        seen = seen_by(i, value_mask[b], window, causal)
        if not len(seen):
            continue
        s, back = scores_of("dot" if kind == "general" else kind, q[b, i], k[b, seen], w)
        a = np.exp(s - s.max())
        a /= a.sum()
        y[b, i], shown[b, i, seen] = a @ value[b, seen], a
        if dy is None:
            continue
        da = value[b, seen] @ dy[b, i] + (0 if dscores is None else dscores[b, i, seen])
        one_q, one_k, one_w = back(a * (da - a @ da))
        dq[b, i] += one_q
        dk[b, seen] += one_k
        dv[b, seen] += np.outer(a, dy[b, i])
        for name in one_w.keys() & dw.keys():
            dw[name] += one_w[name]
    for name, rows, d in (("kernel", query, dq), ("query_kernel", query, dq), ("key_kernel", key, dk)):
        if name in w:
            dw[name] = np.einsum("bti,btj->ij", rows, d)
    dquery = dq @ w["kernel"].T if "kernel" in w else dq @ w["query_kernel"].T if "query_kernel" in w else dq
    return {"y": y, "scores": shown, "query": dquery, "value": dv, "key": dk @ w["key_kernel"].T if "key_kernel" in w else dk, "weights": dw}
