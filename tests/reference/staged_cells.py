"""Projected LSTM, and LSTM and GRU with layer normalisation: a step forward and back, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference.activations import value, vjp
from tests.reference.cells import Array, Arrays, Cell


def lstm_gates(cell: Any, a: Array, c: Array) -> tuple[Array, Any]:
    """(c', tape) from the gates' inputs in Keras' order i, f, g, o."""
    ai, af, ag, ao = np.split(a, 4, axis=-1)
    gate, act = cell.recurrent_activation, cell.activation
    i, f, g, o = value(gate, ai), value(gate, af), value(act, ag), value(gate, ao)
    return f * c + i * g, (ai, af, ag, ao, i, f, g, o, c)


def lstm_gates_back(cell: Any, tape: Any, d_new: Array, d_o: Array) -> tuple[Array, Array]:
    """(gradient of the gates' inputs, of c) from those of c' and of o."""
    ai, af, ag, ao, i, f, g, _, c = tape
    gate, act = cell.recurrent_activation, cell.activation
    parts = [vjp(gate, ai, d_new * g), vjp(gate, af, d_new * c), vjp(act, ag, d_new * i), vjp(gate, ao, d_o)]
    return np.concatenate(parts, axis=-1), d_new * f


class ProjectedLSTMCell(Cell):
    """h' = (o f(c')) P. Sak, Senior and Beaufays 2014."""

    gates, states = 4, 2

    def __init__(self, weights: Arrays, recurrent_activation: str = "sigmoid", **kwargs: Any) -> None:
        super().__init__(weights, **kwargs)
        self.recurrent_activation = recurrent_activation
        self.P = self.weights[-1]
        self.state_sizes = [self.P.shape[1], self.P.shape[0]]

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        h, c = states
        a = x @ self.W + h @ self.R + (0.0 if self.b is None else self.b)
        c_new, gates = lstm_gates(self, a, c)
        m = gates[7] * value(self.activation, c_new)
        return [m @ self.P, c_new], (x, h, c_new, m, gates)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, c_new, m, gates = tape
        dm = d_states[0] @ self.P.T
        dc = d_states[1] + vjp(self.activation, c_new, dm * gates[7])
        da, dc = lstm_gates_back(self, gates, dc, dm * value(self.activation, c_new))
        self.grads[0] += x.T @ da
        self.grads[1] += h.T @ da
        if self.b is not None:
            self.grads[2] += da.sum(axis=0)
        self.grads[-1] += m.T @ d_states[0]
        return da @ self.W.T, [da @ self.R.T, dc]


def normal(v: Array, epsilon: float) -> tuple[Array, Any]:
    """(v - mean) / deviation over the last axis, and what its backward needs."""
    centred = v - v.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    return centred / deviation, (centred / deviation, deviation)


def normal_back(kept: Any, d: Array) -> Array:
    n, deviation = kept
    return (d - d.mean(axis=-1, keepdims=True) - n * (d * n).mean(axis=-1, keepdims=True)) / deviation


class Normalised(Cell):
    def __init__(self, weights: Arrays, recurrent_activation: str = "sigmoid", epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(weights, **kwargs)
        self.recurrent_activation, self.epsilon = recurrent_activation, epsilon
        self.first = 3 if self.b is not None else 2  # of the gains
        self.ux, self.uh = self.weights[self.first : self.first + 2]

    def groups(self, v: Array, parts: list[slice]) -> tuple[Array, list[Any]]:
        pairs = [normal(v[:, part], self.epsilon) for part in parts]
        return np.concatenate([n for n, _ in pairs], axis=-1), [kept for _, kept in pairs]

    def groups_back(self, kept: list[Any], d: Array, parts: list[slice]) -> Array:
        return np.concatenate([normal_back(k, d[:, part]) for k, part in zip(kept, parts, strict=True)], axis=-1)

    def side_back(self, index: int, source: Array, n: Array, kept: list[Any], d: Array, parts: list[slice]) -> Array:
        """Gradient of the source from that of N(source matrix) gain; adds those of the matrix and the gain."""
        matrix, gain = self.weights[index], self.weights[self.first + index]
        self.grads[self.first + index] += (d * n).sum(axis=0)
        raw = self.groups_back(kept, d * gain, parts)
        self.grads[index] += source.T @ raw
        return raw @ matrix.T


class LayerNormLSTMCell(Normalised):
    """Ba, Kiros and Hinton 2016, equations 20 to 22."""

    gates, states = 4, 2

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        h, c = states
        nx, kx = self.groups(x @ self.W, [slice(None)])
        nh, kh = self.groups(h @ self.R, [slice(None)])
        c_new, gates = lstm_gates(self, nx * self.ux + nh * self.uh + (0.0 if self.b is None else self.b), c)
        nc, kc = normal(c_new, self.epsilon)
        m = nc * self.weights[self.first + 2] + (0.0 if self.b is None else self.weights[self.first + 3])
        return [gates[7] * value(self.activation, m), c_new], (x, h, nx, kx, nh, kh, gates, nc, kc, m)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, nx, kx, nh, kh, gates, nc, kc, m = tape
        dm = vjp(self.activation, m, d_states[0] * gates[7])
        self.grads[self.first + 2] += (dm * nc).sum(axis=0)
        dc = d_states[1] + normal_back(kc, dm * self.weights[self.first + 2])
        da, dc = lstm_gates_back(self, gates, dc, d_states[0] * value(self.activation, m))
        if self.b is not None:
            self.grads[2] += da.sum(axis=0)
            self.grads[-1] += dm.sum(axis=0)
        return self.side_back(0, x, nx, kx, da, [slice(None)]), [self.side_back(1, h, nh, kh, da, [slice(None)]), dc]


class LayerNormGRUCell(Normalised):
    """Ba, Kiros and Hinton 2016, equations 23 to 25, with Keras' z."""

    gates = 3

    def step(self, x: Array, states: Arrays) -> tuple[Arrays, Any]:
        (h,) = states
        H = self.units
        parts = [slice(0, 2 * H), slice(2 * H, 3 * H)]
        bx, bh = (0.0, 0.0) if self.b is None else self.b
        nx, kx = self.groups(x @ self.W, parts)
        nh, kh = self.groups(h @ self.R, parts)
        gx, gh = nx * self.ux + bx, nh * self.uh + bh
        az, ar = (gx + gh)[:, :H], (gx + gh)[:, H : 2 * H]
        z, r = value(self.recurrent_activation, az), value(self.recurrent_activation, ar)
        an = gx[:, 2 * H :] + r * gh[:, 2 * H :]
        candidate = value(self.activation, an)
        return [z * h + (1.0 - z) * candidate], (x, h, parts, nx, kx, nh, kh, gh, az, ar, z, r, an, candidate)

    def back(self, tape: Any, d_states: Arrays) -> tuple[Array, Arrays]:
        x, h, parts, nx, kx, nh, kh, gh, az, ar, z, r, an, candidate = tape
        (dh,) = d_states
        d_an = vjp(self.activation, an, dh * (1.0 - z))
        d_az = vjp(self.recurrent_activation, az, dh * (h - candidate))
        d_ar = vjp(self.recurrent_activation, ar, d_an * gh[:, 2 * self.units :])
        dx, dg = np.concatenate([d_az, d_ar, d_an], axis=-1), np.concatenate([d_az, d_ar, d_an * r], axis=-1)
        if self.b is not None:
            self.grads[2] += np.stack([dx.sum(axis=0), dg.sum(axis=0)])
        return self.side_back(0, x, nx, kx, dx, parts), [dh * z + self.side_back(1, h, nh, kh, dg, parts)]


CELLS: dict[str, type[Cell]] = {"ProjectedLSTM": ProjectedLSTMCell, "LayerNormLSTM": LayerNormLSTMCell, "LayerNormGRU": LayerNormGRUCell}


def weight_shapes(kind: str, config: dict[str, Any], features: int) -> list[tuple[int, ...]]:
    """Shapes of the weights of one of these layers."""
    H, bias = config["units"], config.get("use_bias", True)
    wide, P = CELLS[kind].gates * H, config.get("projection", H)
    shapes: list[tuple[int, ...]] = [(features, wide), (P, wide)]
    if bias:
        shapes.append((2, wide) if kind == "LayerNormGRU" else (wide,))
    if kind == "ProjectedLSTM":
        return [*shapes, (H, P)]
    shapes += [(wide,), (wide,)]
    if kind == "LayerNormLSTM":
        shapes += [(H,), (H,)][: 1 + bias]
    return shapes
