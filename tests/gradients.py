"""Gradients from elsewhere: central differences, Keras through torch's autograd, and torch's own recurrent modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests import cases
from tests.peers import require

Array = np.ndarray


def central_differences(f: Callable[[], float], array: Array, step: float = 1e-4) -> Array:
    """df/d(array) by fourth-order central differences; ``f`` reads ``array``, which is moved in place and put back."""
    grad = np.zeros_like(array, dtype=np.float64)
    flat, out = array.reshape(-1), grad.reshape(-1)
    assert np.shares_memory(flat, array)
    for i in range(flat.size):
        kept = flat[i]
        values = []
        for move in (step, -step, 2.0 * step, -2.0 * step):
            flat[i] = kept + move
            values.append(f())
        flat[i] = kept
        out[i] = (8.0 * (values[0] - values[1]) - (values[2] - values[3])) / (12.0 * step)
    return grad


def _gradients(torch: Any, outs: list[Any], ups: list[Array], wrt: list[Any]) -> list[Array]:
    total = sum((o * torch.as_tensor(u)).sum() for o, u in zip(outs, ups, strict=True))
    live = [w for w in wrt if w.requires_grad]
    found = iter(torch.autograd.grad(total, live, allow_unused=True)) if total.requires_grad else iter([None] * len(live))
    grads = [next(found) if w.requires_grad else None for w in wrt]
    return [np.zeros(tuple(w.shape)) if g is None else g.numpy() for w, g in zip(wrt, grads, strict=True)]


@contextmanager
def keras_floatx(dtype: str) -> Iterator[Any]:
    """Keras computing in ``dtype``. Its type promotion narrows float64 to float32 (as JAX does), so that rule is lifted."""
    keras = require("keras")
    narrowing = importlib.import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE
    kept = keras.config.floatx(), narrowing["float64"], keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)  # which would stay what it was at its first use
    narrowing["float64"] = dtype
    try:
        yield keras
    finally:
        keras.config.set_floatx(kept[0])
        narrowing["float64"] = kept[1]
        keras.config.set_dtype_policy(kept[2])


def keras_vjp(p: cases.Problem, dtype: str = "float64") -> dict[str, Any]:
    """The problem in Keras on its torch backend, gradients by autograd."""
    with keras_floatx(dtype) as keras:
        return _keras_vjp(keras, p, dtype)


def _keras_vjp(keras: Any, p: cases.Problem, dtype: str) -> dict[str, Any]:
    torch = require("torch")
    layer = p.build(keras, dtype)
    x = torch.tensor(p.x.astype(dtype) if p.x.dtype == np.float64 else p.x, requires_grad=p.x.dtype == np.float64)
    kwargs: dict[str, Any] = {}
    states = []
    if p.initial_state is not None:
        states = [torch.tensor(s.astype(dtype), requires_grad=True) for s in p.initial_state]
        kwargs["initial_state"] = states
    if p.mask is not None:
        kwargs["mask"] = torch.tensor(p.mask)
    outs = cases.as_list(layer(x, **kwargs))
    ups = [u.astype(dtype) for u in cases.as_list(p.dy) + (p.dstates or [])]
    weights = [v.value for v in layer.weights]
    grads = _gradients(torch, outs, ups, [x, *weights, *states])
    y = [o.detach().numpy() for o in outs]
    count = 1 + len(weights)
    return {"y": y, "x": grads[0], "weights": grads[1:count], "initial_state": grads[count:]}


def _to_torch(torch: Any, kind: str, weights: list[Array]) -> list[Any]:
    """Keras' [W, R, b] as torch's [w_ih, w_hh, b_ih, b_hh]: transposed, and r before z in a GRU."""
    W, R, b = weights
    if kind == "GRU":
        W, R, b = (np.concatenate([np.split(a, 3, axis=-1)[i] for i in (1, 0, 2)], axis=-1) for a in (W, R, b))
    bx, bh = (b[0], b[1]) if kind == "GRU" else (b, np.zeros_like(b))
    return [torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (W.T, R.T, bx, bh)]


def _from_torch(kind: str, grads: list[Array]) -> list[Array]:
    W, R, bx, bh = grads
    W, R, b = W.T, R.T, np.stack([bx, bh]) if kind == "GRU" else bx
    if kind == "GRU":
        return [np.concatenate([np.split(a, 3, axis=-1)[i] for i in (1, 0, 2)], axis=-1) for a in (W, R, b)]
    return [W, R, b]


def torch_recurrent(torch: Any, p: cases.Problem, lengths: Array | None = None, dtype: str = "float64") -> dict[str, Any]:
    """The problem in torch.nn.RNN, LSTM or GRU, packed by ``lengths``; y is zero after a row's end."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    twice = p.spec[0] == "Bidirectional"
    kind = p.spec[1]["layer"][0] if twice else p.spec[0]
    halves = [p.oracle.weights[:3], p.oracle.weights[3:]] if twice else [p.oracle.weights]
    weights = [w for half in halves for w in _to_torch(torch, kind, [a.astype(dtype) for a in half])]
    units = p.oracle.weights[1].shape[0]
    kind_of = {"SimpleRNN": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[kind]
    module = kind_of(p.features, units, batch_first=True, bidirectional=twice, dtype=getattr(torch, dtype))
    x = torch.tensor(p.x.astype(dtype), requires_grad=True)
    states = [torch.tensor(s.astype(dtype), requires_grad=True) for s in p.initial_state or []]
    per = 2 if kind == "LSTM" else 1
    hx = None
    if states:
        stacked = [torch.stack(states[i::per]) for i in range(per)]
        hx = tuple(stacked) if per == 2 else stacked[0]
    sequence = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), True, enforce_sorted=False)
    named = dict(zip([n for n, _ in module.named_parameters()], weights, strict=True))
    out, last = torch.func.functional_call(module, named, (sequence, hx))
    if lengths is not None:
        out, _ = pad_packed_sequence(out, batch_first=True, total_length=p.x.shape[1])
    finals = last if per == 2 else (last,)
    outs = [out] + [s[d] for d in range(len(halves)) for s in finals]
    ups = [u.astype(dtype) for u in cases.as_list(p.dy) + (p.dstates or [])]
    grads = _gradients(torch, outs, ups, [x, *weights, *states])
    found = [g for d in range(len(halves)) for g in _from_torch(kind, grads[1 + 4 * d : 5 + 4 * d])]
    after = 1 + 4 * len(halves)
    return {"y": [o.detach().numpy() for o in outs], "x": grads[0], "weights": found, "initial_state": grads[after:]}
