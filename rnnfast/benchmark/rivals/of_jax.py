"""JAX: a scan over time, compiled whole."""

from __future__ import annotations

from typing import Any

import jax as library
import numpy as np
from jax import numpy as jnp

from rnnfast.benchmark.cases import Case
from rnnfast.benchmark.rivals import Prepared, after, refuse, twice


def cell(kind: str, w: Any, state: Any, gates: Any) -> Any:
    """One step of a cell from its input's gates."""
    h, c = state
    product = h @ w["recurrent"] + (w["bias"][1] if kind == "gru" else 0)
    if kind == "rnn":
        return jnp.tanh(gates + product), c
    if kind == "lstm":
        i, f, g, o = jnp.split(gates + product, 4, axis=-1)
        c = library.nn.sigmoid(f) * c + library.nn.sigmoid(i) * jnp.tanh(g)
        return library.nn.sigmoid(o) * jnp.tanh(c), c
    (xz, xr, xn), (hz, hr, hn) = jnp.split(gates, 3, axis=-1), jnp.split(product, 3, axis=-1)
    z = library.nn.sigmoid(xz + hz)
    return z * h + (1 - z) * jnp.tanh(xn + library.nn.sigmoid(xr + hr) * hn), c


def direction(case: Case, w: Any, x: Any, start: Any, flags: Any, reverse: bool) -> Any:
    """A layer in one direction; x and flags are time first, flags say where a row starts anew and where its steps are valid."""
    gates = x @ w["kernel"] + (w["bias"][0] if case.cell == "gru" else w["bias"])

    def step(state: Any, given: Any) -> Any:
        gates, fresh, valid = given
        if case.resets:
            state = tuple(jnp.where(fresh, 0, part) for part in state)
        found = cell(case.cell, w, state, gates)
        if case.lengths:
            found = tuple(jnp.where(valid, new, old) for new, old in zip(found, state, strict=True))
        return found, found[0]

    return library.lax.scan(step, start, (gates, *flags), reverse=reverse)


def forward(case: Case, w: Any, x: Any, states: Any, flags: Any) -> Any:
    """Output (B, T, O) and the states after it."""
    y, ends = jnp.swapaxes(x, 0, 1), []
    for layer, start in zip(w["layers"], states, strict=True):
        found = [direction(case, part, y, start[i], flags, i == 1) for i, part in enumerate(layer)]
        y = jnp.concatenate([out for _, out in found], axis=-1)
        ends.append([state for state, _ in found])
    y = y @ w["head"][0] + w["head"][1] if case.outputs else y
    return jnp.swapaxes(y, 0, 1), ends


def jax(case: Case, threads: int) -> Prepared:
    refuse(case, mode="backward", alone=True)
    data = library.tree.map(jnp.asarray, case.data())
    w = library.tree.map(jnp.asarray, {"layers": case.weights(), "head": case.head() if case.outputs else ()})
    valid = jnp.asarray(case.valid)
    flags = [jnp.swapaxes(array, 0, 1)[..., None] for array in (data["resets"], valid)]
    zeros = jnp.zeros((case.batch, case.units))
    start = [[(zeros, zeros)] * case.directions for _ in range(case.layers)]
    if case.mode == "infer":
        compiled = library.jit(lambda w, x, states: forward(case, w, x, states, flags))
        states = [start]

        def run() -> Any:
            y, ends = library.block_until_ready(compiled(w, data["x"], states[0]))
            states[0] = ends if case.live else start
            return y

        return run, twice(run) if case.live else lambda: np.asarray(run())

    def loss(w: Any) -> Any:
        squares = (forward(case, w, data["x"], start, flags)[0] - data["target"]) ** 2
        return (squares * valid[..., None]).sum() / (case.steps * squares.shape[-1]) if case.lengths else squares.mean()

    def update(w: Any, m: Any, v: Any, t: Any) -> Any:
        g = library.grad(loss)(w)
        m = library.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = library.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return library.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), w, m, v), m, v, t + 1

    step_of = library.jit(update)
    none = library.tree.map(jnp.zeros_like, w)
    state = [w, none, none, jnp.float32(1)]

    def step() -> None:
        state[:] = library.block_until_ready(step_of(*state))

    return step, after(step, lambda: np.asarray(state[0]["layers"][0][0]["recurrent"]))
