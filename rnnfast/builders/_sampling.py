"""Choosing the next token from a model's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.data.checks import count
from rnnfast.random import SeedGenerator, generator


class Sampler:
    """Draws tokens: the temperature first, then the `top_k` likeliest, then the nucleus of those.

    Parameters
    ----------
    temperature : float
        Logits are divided by it: below 1 prefers the likely tokens, 0 takes the likeliest one always, 1 samples what the model says.
    top_k : int, optional
        Only among so many of the likeliest (Fan, Lewis and Dauphin 2018, arXiv 1805.04833).
    nucleus : float in (0, 1], optional
        Only among the fewest tokens whose probabilities sum to this ("top-p"; Holtzman et al. 2020, arXiv 1904.09751).
    seed : int, optional
    """

    def __init__(self, temperature: float = 1.0, top_k: int | None = None, nucleus: float | None = None, seed: int | None = None) -> None:
        if isinstance(temperature, bool) or not isinstance(temperature, int | float | np.number) or not 0 <= temperature < float("inf"):
            raise ValueError(f"generate: temperature must be a finite number >= 0, got {temperature!r}.")
        if nucleus is not None and (isinstance(nucleus, bool) or not isinstance(nucleus, int | float | np.number) or not 0 < nucleus <= 1):
            raise ValueError(f"generate: nucleus must be a number in (0, 1], got {nucleus!r}.")
        self.temperature, self.nucleus = float(temperature), nucleus
        self.top_k = None if top_k is None else count("generate", "top_k", top_k)
        self.random = generator(SeedGenerator(seed).next())

    def probabilities(self, logits: Any) -> np.ndarray:
        """What a token is drawn with, from logits (or log-probabilities) (V,); -inf is never drawn."""
        values = np.asarray(logits, np.float64)
        if np.isnan(values).any() or not np.isfinite(values.max()):
            raise ValueError("generate: the model's output is not finite. It may have been trained with too large a learning rate.")
        order = np.argsort(-values, kind="stable")  # ties go to the smaller number
        p = np.zeros(len(values))
        if not self.temperature:
            p[order[0]] = 1.0
            return p
        order = order[: self.top_k]
        with np.errstate(over="ignore"):  # a quotient by a tiny temperature is an infinity that exp takes to 0
            kept = np.exp((values[order] - values[order[0]]) / self.temperature)
        kept /= kept.sum()
        if self.nucleus is not None:
            kept = np.where(np.cumsum(kept) - kept < self.nucleus, kept, 0.0)
        p[order] = kept / kept.sum()
        return p

    def __call__(self, logits: Any) -> int:
        """Draw a token."""
        p = self.probabilities(logits)
        if not self.temperature:
            return int(p.argmax())
        return int(self.random.choice(len(p), p=p))
