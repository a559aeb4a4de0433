"""Attention layers and random problems that the tests of attention run over."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast import layers
from tests.reference.attention import attention

SCORES: dict[str, tuple[type, dict[str, Any], str]] = {
    "dot": (layers.Attention, {}, "dot"),
    "dot-scale": (layers.Attention, {"use_scale": True}, "dot"),
    "scaled": (layers.Attention, {"score_mode": "scaled", "use_scale": True}, "scaled"),
    "general": (layers.Attention, {"score_mode": "general"}, "general"),
    "general-scale": (layers.Attention, {"score_mode": "general", "use_scale": True}, "general"),
    "concat": (layers.Attention, {"score_mode": "concat"}, "concat"),
    "concat-scale": (layers.Attention, {"score_mode": "concat", "use_scale": True}, "concat"),
    "additive": (layers.AdditiveAttention, {}, "additive"),
    "additive-plain": (layers.AdditiveAttention, {"use_scale": False}, "additive"),
    "additive-units": (layers.AdditiveAttention, {"units": 5}, "additive"),
}
SEEN: dict[str, dict[str, Any]] = {
    "all": {}, "causal": {"use_causal_mask": True}, "window": {"window": 2}, "causal-window": {"window": 3, "use_causal_mask": True},
}  # fmt: skip
SIZES = {"small": (3, 4, 5, 3, 2), "one-row": (1, 40, 37, 6, 9), "wide": (4, 35, 70, 33, 20), "one-query": (5, 1, 9, 8, 8)}  # B, Tq, Tv, width, depth


class Problem:
    """A layer with random weights, its inputs, masks and upstream gradients, and the oracle's answer."""

    def __init__(self, score: str, seen: str, size: str, rng: np.random.Generator, dtype: str, masked: bool = False, own_key: bool = True) -> None:
        make, options, self.kind = SCORES[score]
        batch, steps, times, width, depth = SIZES[size]
        self.options = SEEN[seen]
        self.layer = make(return_attention_scores=True, dtype=dtype, **options, **self.options)
        shapes = [(batch, steps, width), (batch, times, depth if own_key else width), (batch, times, width)][: 3 if own_key else 2]
        self.xs = [(0.5 * rng.standard_normal(shape)).astype(dtype) for shape in shapes]
        self.layer.build([(None, None, shape[-1]) for shape in shapes])
        for w in self.layer.weights:
            w.assign(0.5 + 0.3 * rng.standard_normal(w.shape))
        self.masks: Any = None
        if masked:
            self.masks = [rng.random((batch, steps)) < 0.7, rng.random((batch, times)) < 0.6]
            self.masks[0][0], self.masks[1][-1] = False, False
        self.dy, self.dscores = rng.standard_normal((batch, steps, shapes[1][-1])).astype(dtype), rng.standard_normal((batch, steps, times)).astype(dtype)

    @property
    def mask(self) -> Any:
        """As the layer is given it: one for each input."""
        return None if self.masks is None else [*self.masks, *([self.masks[1]] if len(self.xs) == 3 else [])]

    def vjp(self) -> dict[str, Any]:
        return self.layer.vjp(self.xs, [self.dy, self.dscores], mask=self.mask)  # type: ignore[no-any-return]

    def expected(self) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """[outputs], [gradients of inputs], [gradients of weights]."""
        weights = {w.name: w.numpy().astype(np.float64) for w in self.layer.weights}
        query, value, key = (x.astype(np.float64) for x in (*self.xs, self.xs[1])[:3])
        found = attention(
            self.kind, weights, query, value, key, self.masks, self.options.get("window"), self.options.get("use_causal_mask", False),
            self.dy.astype(np.float64), self.dscores.astype(np.float64),
        )  # fmt: skip
        gradients = [found["query"], found["value"], found["key"]] if len(self.xs) == 3 else [found["query"], found["value"] + found["key"]]
        return [found["y"], found["scores"]], gradients, [found["weights"][w.name] for w in self.layer.weights]
