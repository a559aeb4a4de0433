"""The Statal cell: the four rules written out one by one, with the surrogate backward of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference.activations import value, vjp
from tests.reference.cells import Array, Arrays, Cell


class StatalCell(Cell):
    """Weights: kernel (I, H), recurrent kernel (K H, H), bias (H). States: K arrays. What it gives stands before the states (`shown`)."""

    options = ("state", "slots", "threshold", "sharpness", "decays", "firing", "output")
    shown = 1

    def __init__(
        self, weights: Arrays, use_bias: bool = True, activation: str | None = "relu", state: str = "value", slots: int = 1, threshold: float = 0.0,
        sharpness: float = 4.0, decays: Any = None, firing: str = "hard", output: str = "activation",
    ) -> None:  # fmt: skip
        super().__init__(weights, use_bias, activation)
        self.units, self.states = self.R.shape[1], slots
        self.state_sizes = [self.units] * slots
        self.rule, self.threshold, self.sharpness, self.output = state, threshold, sharpness, output
        self.soft = firing == "soft"
        half_lives = [100.0] if slots == 1 else [10.0 * 100.0 ** (k / (slots - 1)) for k in range(slots)]
        self.decays = decays or [2.0 ** (-1.0 / n) for n in half_lives]

    @classmethod
    def shapes(cls, features: int, units: int, slots: int = 1, use_bias: bool = True, **_: Any) -> list[tuple[int, ...]]:
        return [(features, units), (slots * units, units), (units,)][: 2 + use_bias]

    def _give(self, a: Array, states: Arrays) -> Array:
        return {"activation": a, "state": np.hstack(states), "both": np.hstack([a, *states])}[self.output]

    def lead(self, states: Arrays) -> Arrays:
        return [self._give(np.zeros_like(states[0]), states)]

    def _taken(self, d_given: Array) -> tuple[Array, Arrays]:
        """The gradient of what is given as that of the activation and of each state."""
        parts = np.split(d_given, d_given.shape[1] // self.units, axis=1)
        if self.output == "activation":
            return parts[0], [np.zeros_like(parts[0])] * self.states
        if self.output == "state":
            return np.zeros_like(parts[0]), parts
        return parts[0], parts[1:]

    def lead_back(self, d_states: Arrays) -> Arrays:
        _, d_given = self._taken(d_states[0])
        return [a + b for a, b in zip(d_states[1:], d_given, strict=True)]

    def _next(self, a: Array, g: Array, p: Array, s: Array, decay: float) -> Array:
        if self.rule == "value":
            return g * a + (1.0 - g) * s
        if self.rule == "trace":
            return g * a + (1.0 - g) * decay * s
        if self.rule == "probability" or self.soft:
            return 1.0 - (1.0 - s) * (1.0 - p)
        return np.maximum(s, g)

    def _next_back(self, a: Array, g: Array, p: Array, s: Array, decay: float) -> tuple[Array, Array, Array]:
        """Derivatives of the next state by a (beside the firing), by the firing, by s."""
        if self.rule == "value":
            return g, a - s, 1.0 - g
        if self.rule == "trace":
            return g, a - decay * s, (1.0 - g) * decay
        fired = p if self.rule == "probability" else g
        return np.zeros_like(a), 1.0 - s, 1.0 - fired

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        old = states[1:]
        pre = x @ self.W + np.hstack(old) @ self.R + (0.0 if self.b is None else self.b)
        a = value(self.activation, pre)
        p = 1.0 / (1.0 + np.exp(-self.sharpness * (a - self.threshold)))
        g = p if self.soft else (a > self.threshold).astype(float)
        new = [self._next(a, g, p, s, d) for s, d in zip(old, self.decays, strict=False)]
        return [self._give(a, new), *new], (x, old, pre, a, p, g)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, old, pre, a, p, g = tape
        da, d_given = self._taken(d_states[0])
        d_old = []
        for s, decay, d_new, d_more in zip(old, self.decays, d_states[1:], d_given, strict=False):
            by_a, by_firing, by_s = self._next_back(a, g, p, s, decay)
            d = d_new + d_more
            da = da + d * (by_a + by_firing * self.sharpness * p * (1.0 - p))
            d_old.append(d * by_s)
        d_pre = vjp(self.activation, pre, da)
        self.grads[0] += x.T @ d_pre
        self.grads[1] += np.hstack(old).T @ d_pre
        if self.b is not None:
            self.grads[2] += d_pre.sum(axis=0)
        d_read = np.split(d_pre @ self.R.T, self.states, axis=1)
        return d_pre @ self.W.T, [np.zeros_like(d_states[0]), *(a + b for a, b in zip(d_old, d_read, strict=True))]
