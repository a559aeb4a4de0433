"""Cells with weights of single units or without a recurrent product: IndRNN, minGRU, LSTM with peepholes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference.activations import value, vjp
from tests.reference.cells import Array, Arrays, Cell, LSTMCell


class IndRNNCell(Cell):
    """h' = f(x W + u * h + b). Li et al. 2018, arXiv 1803.04831."""

    def __init__(self, weights: Arrays, use_bias: bool = True, activation: str | None = "relu") -> None:
        super().__init__(weights, use_bias, activation)

    @classmethod
    def shapes(cls, features: int, units: int, use_bias: bool = True, **_: Any) -> list[tuple[int, ...]]:
        return [(features, units), (units,), (units,)][: 2 + use_bias]

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        a = x @ self.W + states[0] * self.R + (0.0 if self.b is None else self.b)
        return [value(self.activation, a)], (x, states[0], a)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, a = tape
        da = vjp(self.activation, a, d_states[0])
        self.grads[0] += x.T @ da
        self.grads[1] += (h * da).sum(axis=0)
        if self.b is not None:
            self.grads[2] += da.sum(axis=0)
        return da @ self.W.T, [da * self.R]


class MinGRUCell(Cell):
    """z = s(x W_z + b_z), h' = (1 - z) h + z f(x W_h + b_h). Feng et al. 2024, arXiv 2410.01201 (f linear)."""

    gates = 2

    def __init__(self, weights: Arrays, use_bias: bool = True, activation: str | None = None, recurrent_activation: str | None = "sigmoid") -> None:
        super().__init__([weights[0], np.zeros((weights[0].shape[1] // 2, 0)), *weights[1:]], use_bias, activation)
        self.recurrent_activation = recurrent_activation
        self.clear()

    def clear(self) -> None:
        self.grads = [np.zeros_like(w) for w in (self.weights[0], *self.weights[2:])]

    @classmethod
    def shapes(cls, features: int, units: int, use_bias: bool = True, **_: Any) -> list[tuple[int, ...]]:
        return [(features, 2 * units), (2 * units,)][: 1 + use_bias]

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        az, ah = self._split(x @ self.W + (0.0 if self.b is None else self.b))
        z, candidate = value(self.recurrent_activation, az), value(self.activation, ah)
        return [(1.0 - z) * states[0] + z * candidate], (x, states[0], az, ah, z, candidate)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, az, ah, z, candidate = tape
        (dh,) = d_states
        da = np.concatenate([vjp(self.recurrent_activation, az, dh * (candidate - h)), vjp(self.activation, ah, dh * z)], axis=-1)
        self.grads[0] += x.T @ da
        if self.b is not None:
            self.grads[1] += da.sum(axis=0)
        return da @ self.W.T, [dh * (1.0 - z)]


class PeepholeLSTMCell(LSTMCell):
    """The LSTM whose i and f see p_i * c and p_f * c, and whose o sees p_o * c'. Gers and Schmidhuber 2000."""

    @classmethod
    def shapes(cls, features: int, units: int, use_bias: bool = True, **_: Any) -> list[tuple[int, ...]]:
        bias: list[tuple[int, ...]] = [(4 * units,)] if use_bias else []
        return [(features, 4 * units), (units, 4 * units), *bias, (3 * units,)]

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        h, c = states
        pi, pf, po = np.split(self.weights[-1], 3)
        ai, af, ag, ao = self._split(x @ self.W + h @ self.R + (0.0 if self.b is None else self.b))
        gate = self.recurrent_activation
        ai, af = ai + pi * c, af + pf * c
        i, f, g = value(gate, ai), value(gate, af), value(self.activation, ag)
        c_new = f * c + i * g
        ao = ao + po * c_new
        o = value(gate, ao)
        return [o * value(self.activation, c_new), c_new], (x, h, c, (ai, af, ag, ao), (i, f, g, o), c_new)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, c, (ai, af, ag, ao), (i, f, g, o), c_new = tape
        dh, dc = d_states
        pi, pf, po = np.split(self.weights[-1], 3)
        gate = self.recurrent_activation
        dao = vjp(gate, ao, dh * value(self.activation, c_new))
        dc = dc + vjp(self.activation, c_new, dh * o) + dao * po
        dai, daf, dag = vjp(gate, ai, dc * g), vjp(gate, af, dc * c), vjp(self.activation, ag, dc * i)
        da = np.concatenate([dai, daf, dag, dao], axis=-1)
        self.grads[0] += x.T @ da
        self.grads[1] += h.T @ da
        if self.b is not None:
            self.grads[2] += da.sum(axis=0)
        self.grads[-1] += np.concatenate([(dai * c).sum(axis=0), (daf * c).sum(axis=0), (dao * c_new).sum(axis=0)])
        return da @ self.W.T, [da @ self.R.T, dc * f + dai * pi + daf * pf]
