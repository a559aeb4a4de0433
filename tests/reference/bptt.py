"""Back-propagation through time for every layer of the oracle: the reverse loops, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference import activations
from tests.reference import layers as L

Array = np.ndarray
Arrays = list[Array]
Back = tuple[Array, Arrays, Arrays]
"""Gradients with respect to (input, weights, initial states)."""


def _recurrent(layer: L.Recurrent, tape: Any, d_outs: Arrays) -> Back:
    cell = layer.cell
    cell.clear()
    (shape, tapes) = tape
    dy, d_states = d_outs[0], d_outs[1:]
    sequence = layer.get("return_sequences", False)
    zero = layer.get("zero_output_for_mask", False)
    if not d_states:
        d_states = [np.zeros((shape[0], n)) for n in cell.state_sizes]
    if cell.shown:
        d_states = [np.zeros((shape[0], dy.shape[-1])), *d_states]
    dx = np.zeros(shape)
    if not tapes and not sequence and not zero:
        d_states = [d_states[0] + dy, *d_states[1:]]
    for k in reversed(range(len(tapes))):
        t, keep, step = tapes[k]
        d_out = dy[:, k] if sequence else dy * (k == len(tapes) - 1)
        d_new = [np.where(keep, d, 0.0) for d in d_states]
        d_new[0] = d_new[0] + np.where(keep, d_out, 0.0)
        dx[:, t], d_held = cell.back(step, d_new)
        d_states = [h + np.where(keep, 0.0, d) for h, d in zip(d_held, d_states, strict=True)]
        if not zero:
            d_states[0] = d_states[0] + np.where(keep, 0.0, d_out)
    return dx, [g.copy() for g in cell.grads], cell.lead_back(d_states)


def _bidirectional(layer: L.Bidirectional, tape: Any, d_outs: Arrays) -> Back:
    a, b, runs = tape
    dy = d_outs[0]
    count = 2 if layer.merge is None else 1
    da, db = {
        "concat": lambda: (dy[..., : a.shape[-1]], dy[..., a.shape[-1] :]),
        "sum": lambda: (dy, dy),
        "mul": lambda: (dy * b, dy * a),
        "ave": lambda: (dy / 2.0, dy / 2.0),
        None: lambda: (dy, d_outs[1]),
    }[layer.merge]()
    if layer.pair[0].get("return_sequences"):
        db = db[:, ::-1]
    states = d_outs[count:]
    half = len(states) // 2
    fx, fw, fs = backward(layer.pair[0], runs[0][2], [da, *states[:half]])
    bx, bw, bs = backward(layer.pair[1], runs[1][2], [db, *states[half:]])
    return fx + bx, fw + bw, fs + bs


def _dense(layer: L.Dense, tape: Any, d_outs: Arrays) -> Back:
    x, a = tape
    da = activations.vjp(layer.get("activation"), a, d_outs[0])
    rows = da.reshape(-1, da.shape[-1])
    grads = [x.reshape(-1, x.shape[-1]).T @ rows]
    if layer.get("use_bias", True):
        grads.append(rows.sum(axis=0))
    return da @ layer.weights[0].T, grads, []


def _activation(layer: L.Activation, tape: Any, d_outs: Arrays) -> Back:
    return activations.vjp(layer.get("activation"), tape, d_outs[0]), [], []


def _embedding(layer: L.Embedding, tape: Any, d_outs: Arrays) -> Back:
    table = np.zeros_like(layer.weights[0])
    np.add.at(table, tape, d_outs[0])
    return np.zeros(tape.shape), [table], []


def _masking(layer: L.Masking, tape: Any, d_outs: Arrays) -> Back:
    return np.where(tape[..., None], d_outs[0], 0.0), [], []


def _layer_normalization(layer: L.LayerNormalization, tape: Any, d_outs: Arrays) -> Back:
    normal, scale = tape
    dy = d_outs[0]
    axes = tuple(range(dy.ndim - 1))
    grads = []
    dn = dy
    if layer.get("scale", True):
        grads.append((dy * normal).sum(axis=axes))
        dn = dy * layer.weights[0]
    if layer.get("center", True):
        grads.append(dy.sum(axis=axes))
    mean = dn.mean(axis=-1, keepdims=True)
    along = (dn * normal).mean(axis=-1, keepdims=True)
    return scale * (dn - mean - normal * along), grads, []


def _time_distributed(layer: L.TimeDistributed, tape: Any, d_outs: Arrays) -> Back:
    x_shape, y_shape, inner = tape
    dx, grads, _ = backward(layer.layer, inner, [d_outs[0].reshape(y_shape)])
    return dx.reshape(x_shape), grads, []


def _repeat(layer: L.RepeatVector, tape: Any, d_outs: Arrays) -> Back:
    return d_outs[0].sum(axis=1), [], []


def _reshape(layer: L.Reshape, tape: Any, d_outs: Arrays) -> Back:
    return d_outs[0].reshape(tape), [], []


def _pooling(layer: L.GlobalPooling, tape: Any, d_outs: Arrays) -> Back:
    weight, shape = tape
    dy = d_outs[0] if layer.get("keepdims") else d_outs[0][:, None]
    return np.broadcast_to(dy, shape) * weight, [], []


def _sequential(layer: L.Sequential, tape: Any, d_outs: Arrays) -> Back:
    grads: Arrays = []
    states: Arrays = []
    for inner, step in zip(reversed(layer.stack), reversed(tape), strict=True):
        dx, inner_grads, states = backward(inner, step, d_outs)
        grads = inner_grads + grads
        d_outs = [dx]
    return d_outs[0], grads, states


def _identity(layer: L.Layer, tape: Any, d_outs: Arrays) -> Back:
    return d_outs[0], [], []


RULES: dict[type[L.Layer], Callable[[Any, Any, Arrays], Back]] = {
    L.Recurrent: _recurrent,
    L.Bidirectional: _bidirectional,
    L.Dense: _dense,
    L.Activation: _activation,
    L.Embedding: _embedding,
    L.Masking: _masking,
    L.LayerNormalization: _layer_normalization,
    L.TimeDistributed: _time_distributed,
    L.RepeatVector: _repeat,
    L.Reshape: _reshape,
    L.GlobalPooling: _pooling,
    L.Sequential: _sequential,
    L.Layer: _identity,
}


def backward(layer: L.Layer, tape: Any, d_outs: Arrays) -> Back:
    """Gradients of sum(outs * d_outs), given what ``layer.forward`` kept."""
    return RULES[type(layer)](layer, tape, d_outs)


def vjp(
    layer: L.Layer,
    x: Array,
    dy: Array | Arrays | None,
    mask: Array | None = None,
    lengths: Array | None = None,
    initial_state: Arrays | None = None,
    dstates: list[Array | None] | None = None,
) -> dict[str, Any]:
    """The same call as the package's ``layer.vjp``: {"y", "x", "weights", "initial_state"}, all float64.

    ``dy`` is a list of two arrays for a Bidirectional with ``merge_mode=None``; None stands for zeros.
    """
    x = np.asarray(x, np.float64)
    outs, _, tape = layer.forward(x, L.valid_mask(x, mask, lengths), initial_state)
    given = list(dy) if isinstance(dy, (list, tuple)) else [dy]
    given += [None] * (len(outs) - len(given)) if dstates is None else list(dstates)
    d_outs = [np.zeros_like(o) if d is None else np.asarray(d, np.float64) for d, o in zip(given, outs, strict=True)]
    dx, grads, states = backward(layer, tape, d_outs)
    return {"y": outs[0] if len(outs) == 1 else outs, "x": dx, "weights": grads, "initial_state": states}
