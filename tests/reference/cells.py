"""The three cells: one time step forward, and the same step backward, both by hand.

Layouts and gate order are Keras': kernel ``[I, G*H]``, recurrent kernel ``[H, G*H]``, LSTM gates i, f, c, o, GRU gates
z, r, h. ``grads`` collects the gradients in the order of ``weights``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference.activations import value, vjp

Array = np.ndarray
Arrays = list[Array]


class Cell:
    """What the cells share: weights in float64 and the sums of their gradients."""

    gates = 1
    states = 1
    shown = 0  # 1 where what the layer gives is not the first state: then it stands before the states
    options: tuple[str, ...] = ()

    def __init__(self, weights: Arrays, use_bias: bool = True, activation: str | None = "tanh") -> None:
        self.weights = [np.asarray(w, np.float64) for w in weights]
        self.W, self.R = self.weights[:2]
        self.b = self.weights[2] if use_bias else None
        self.units = self.R.shape[0]
        self.state_sizes = [self.units] * self.states
        self.activation = activation
        self.clear()

    def clear(self) -> None:
        self.grads = [np.zeros_like(w) for w in self.weights]

    def _split(self, a: Array) -> Arrays:
        return np.split(a, self.gates, axis=-1)

    def lead(self, states: Arrays) -> Arrays:
        """What is shown before the first step, where it is not the first state."""
        return []

    def lead_back(self, d_states: Arrays) -> Arrays:
        """Gradients of the states alone."""
        return d_states

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        raise NotImplementedError

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        raise NotImplementedError


class SimpleRNNCell(Cell):
    """h' = f(x W + h R + b). Elman 1990."""

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        a = x @ self.W + states[0] @ self.R
        if self.b is not None:
            a = a + self.b
        return [value(self.activation, a)], (x, states[0], a)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, a = tape
        da = vjp(self.activation, a, d_states[0])
        self.grads[0] += x.T @ da
        self.grads[1] += h.T @ da
        if self.b is not None:
            self.grads[2] += da.sum(axis=0)
        return da @ self.W.T, [da @ self.R.T]


class LSTMCell(Cell):
    """c' = f c + i g, h' = o act(c'). Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000."""

    gates = 4
    states = 2

    def __init__(self, weights: Arrays, recurrent_activation: str | None = "sigmoid", **kwargs: Any) -> None:
        super().__init__(weights, **kwargs)
        self.recurrent_activation = recurrent_activation

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        h, c = states
        a = x @ self.W + h @ self.R
        if self.b is not None:
            a = a + self.b
        ai, af, ag, ao = self._split(a)
        gate = self.recurrent_activation
        i, f, g, o = value(gate, ai), value(gate, af), value(self.activation, ag), value(gate, ao)
        c_new = f * c + i * g
        tape = (x, h, c, (ai, af, ag, ao), (i, f, g, o), c_new)
        return [o * value(self.activation, c_new), c_new], tape

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, c, (ai, af, ag, ao), (i, f, g, o), c_new = tape
        dh, dc = d_states
        gate = self.recurrent_activation
        dc = dc + vjp(self.activation, c_new, dh * o)
        da = np.concatenate(
            [
                vjp(gate, ai, dc * g),
                vjp(gate, af, dc * c),
                vjp(self.activation, ag, dc * i),
                vjp(gate, ao, dh * value(self.activation, c_new)),
            ],
            axis=-1,
        )
        self.grads[0] += x.T @ da
        self.grads[1] += h.T @ da
        if self.b is not None:
            self.grads[2] += da.sum(axis=0)
        return da @ self.W.T, [da @ self.R.T, dc * f]


class GRUCell(Cell):
    """h' = z h + (1 - z) h~. Cho et al. 2014: the reset gate acts after (v1) or before (v3) the recurrent product."""

    gates = 3

    def __init__(
        self, weights: Arrays, recurrent_activation: str | None = "sigmoid", reset_after: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(weights, **kwargs)
        self.recurrent_activation = recurrent_activation
        self.reset_after = reset_after

    def _biases(self) -> tuple[Array, Array]:
        zero = np.zeros(3 * self.units)
        if self.b is None:
            return zero, zero
        return (self.b[0], self.b[1]) if self.reset_after else (self.b, zero)

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        (h,) = states
        bx, bh = self._biases()
        xz, xr, xh = self._split(x @ self.W + bx)
        Rz, Rr, Rh = self._split(self.R)
        bz, br, bc = self._split(bh)
        az, ar = xz + h @ Rz + bz, xr + h @ Rr + br
        z, r = value(self.recurrent_activation, az), value(self.recurrent_activation, ar)
        inner = h @ Rh + bc if self.reset_after else r * h
        ah = xh + (r * inner if self.reset_after else inner @ Rh)
        candidate = value(self.activation, ah)
        return [z * h + (1.0 - z) * candidate], (x, h, az, ar, z, r, inner, ah, candidate)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, az, ar, z, r, inner, ah, candidate = tape
        (dh,) = d_states
        Rz, Rr, Rh = self._split(self.R)
        dah = vjp(self.activation, ah, dh * (1.0 - z))
        daz = vjp(self.recurrent_activation, az, dh * (h - candidate))
        d_previous = dh * z
        if self.reset_after:
            dar = vjp(self.recurrent_activation, ar, dah * inner)
            d_inner = dah * r
            d_previous = d_previous + d_inner @ Rh.T
            dRh = h.T @ d_inner
        else:
            d_inner = dah @ Rh.T
            dar = vjp(self.recurrent_activation, ar, d_inner * h)
            d_previous = d_previous + d_inner * r
            dRh = inner.T @ dah
        d_previous = d_previous + daz @ Rz.T + dar @ Rr.T
        dx_gates = np.concatenate([daz, dar, dah], axis=-1)
        self.grads[0] += x.T @ dx_gates
        self.grads[1] += np.concatenate([h.T @ daz, h.T @ dar, dRh], axis=-1)
        if self.b is not None and self.reset_after:
            self.grads[2] += np.stack([dx_gates.sum(axis=0), np.concatenate([daz, dar, d_inner], axis=-1).sum(axis=0)])
        elif self.b is not None:
            self.grads[2] += dx_gates.sum(axis=0)
        return dx_gates @ self.W.T, [d_previous]


class Zoneout:
    """A cell whose states keep a share of what they were: the inference rule of Krueger et al. 2017. Rates of h (and c)."""

    def __init__(self, cell: Cell, rates: list[float]) -> None:
        self.cell, self.rates = cell, rates

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cell, name)

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        new, tape = self.cell.step(x, states)
        return [p * s + (1.0 - p) * n for p, s, n in zip(self.rates, states, new, strict=True)], tape

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        dx, d_old = self.cell.back(tape, [(1.0 - p) * d for p, d in zip(self.rates, d_states, strict=True)])
        return dx, [o + p * d for o, p, d in zip(d_old, self.rates, d_states, strict=True)]


PLAIN_CELLS: dict[str, type[Cell]] = {"SimpleRNN": SimpleRNNCell, "LSTM": LSTMCell, "GRU": GRUCell}
