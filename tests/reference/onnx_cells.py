"""ONNX's RNN, LSTM and GRU in float64 NumPy, written from the operators' definitions: loops over directions, rows and steps."""

from __future__ import annotations

from typing import Any

import numpy as np

FUNCTIONS: dict[str, Any] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "LeakyRelu": lambda x, a=0.01: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a=1.0: np.where(x > a, x, 0),
    "Elu": lambda x, a=1.0: np.where(x < 0, a * (np.exp(x) - 1), x),
    "Affine": lambda x, a=1.0, b=0.0: a * x + b,
    "ScaledTanh": lambda x, a=1.0, b=1.0: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a=0.2, b=0.5: np.clip(a * x + b, 0, 1),
}
TAKES = {"LeakyRelu": 1, "ThresholdedRelu": 1, "Elu": 1, "Affine": 2, "ScaledTanh": 2, "HardSigmoid": 2}
DEFAULTS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def activations(names: list[str], alphas: list[float], betas: list[float], clip: float | None) -> list[Any]:
    alphas, betas, made = list(alphas), list(betas), []
    for place, name in enumerate(names):
        clipped = clip is not None and not (len(names) in (3, 6) and place % 3 == 2)  # not what an LSTM's cell state goes through
        values = [which.pop(0) for which in (alphas, betas)[: TAKES.get(name, 0)] if which]
        f = FUNCTIONS[name]
        made.append(lambda x, f=f, v=values, clipped=clipped: f(np.clip(x, -clip, clip) if clipped else x, *v))
    return made


def step(op: str, f: list[Any], x: Any, h: Any, c: Any, w: Any, r: Any, wb: Any, rb: Any, p: Any, coupled: bool, reset_after: bool) -> tuple[Any, Any]:
    """One step of one row."""
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[op]
    W, R, WB, RB = (np.split(a, gates) for a in (w, r, wb, rb))
    plain = lambda k: W[k] @ x + R[k] @ h + WB[k] + RB[k]
    if op == "RNN":
        return f[0](plain(0)), c
    if op == "GRU":
        z, reset = f[0](plain(0)), f[0](plain(1))
        inner = reset * (R[2] @ h + RB[2]) if reset_after else R[2] @ (reset * h) + RB[2]
        return (1 - z) * f[1](W[2] @ x + inner + WB[2]) + z * h, c
    pi, po, pf = np.split(p, 3)
    i = f[0](plain(0) + pi * c)
    forget = 1 - i if coupled else f[0](plain(2) + pf * c)
    new = forget * c + i * f[1](plain(3))
    return f[0](plain(1) + po * new) * f[2](new), new  # f[2] without the clip, as onnxruntime


def recurrent(op: str, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h0: Any = None, c0: Any = None, p: Any = None, **attributes: Any) -> list[np.ndarray]:
    """Y, Y_h and, of an LSTM, Y_c of float64 arrays in the node's own layout. A sequence without steps gives zeros."""
    layout = attributes.get("layout", 0)
    x = np.swapaxes(x, 0, 1) if layout else np.asarray(x)
    directions, units = r.shape[0], r.shape[2]
    time, batch = x.shape[:2]
    swap = lambda a: np.zeros((directions, batch, units)) if a is None else np.swapaxes(a, 0, 1) if layout else a
    h0, c0 = swap(h0), swap(c0)
    gates, roles = w.shape[1] // units, len(DEFAULTS[op])
    b = np.zeros((directions, 2 * gates * units)) if b is None else b
    p = np.zeros((directions, 3 * units)) if p is None else p
    names = attributes.get("activations") or DEFAULTS[op] * directions
    f = activations(names, attributes.get("activation_alpha", []), attributes.get("activation_beta", []), attributes.get("clip"))
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[attributes.get("direction", "forward")]
    y, hs, cs = np.zeros((time, directions, batch, units)), np.zeros_like(h0), np.zeros_like(h0)
    for d, back in enumerate(backwards):
        wb, rb = np.split(b[d], 2)
        for n in range(batch):
            count = time if lengths is None else lengths[n]
            h, c = h0[d, n], c0[d, n]
            for t in reversed(range(count)) if back else range(count):
                flags = bool(attributes.get("input_forget", 0)), bool(attributes.get("linear_before_reset", 0))
                h, c = step(op, f[d * roles : (d + 1) * roles], x[t, n], h, c, w[d], r[d], wb, rb, p[d], *flags)
                y[t, d, n] = h
            if count:
                hs[d, n], cs[d, n] = h, c
    states = [hs, cs] if op == "LSTM" else [hs]
    if layout:
        return [y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in states)]
    return [y, *states]
