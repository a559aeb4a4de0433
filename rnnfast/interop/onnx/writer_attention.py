"""Attention in ONNX's operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.interop.onnx.writer import Value, Writer
from rnnfast.interop.onnx.writer_activations import activate
from rnnfast.layers import AdditiveAttention

_UNSEEN = -1e30


def attention(w: Writer, layer: Any, xs: list[Value], initial: list[str]) -> list[Value]:
    """Attention or AdditiveAttention."""
    query, value, key = (x.name for x in (*xs, xs[1])[:3])
    scores = _additive(w, layer, query, key) if isinstance(layer, AdditiveAttention) or layer.score_mode == "concat" else _dot(w, layer, query, key, xs)
    weights = _softmax(w, layer, scores, query, key)
    shapes = layer.output_shapes([x.shape for x in xs])
    return [Value(name, shape) for name, shape in zip((w.op("MatMul", weights, value), weights), shapes, strict=False)]


def _dot(w: Writer, layer: Any, query: str, key: str, xs: list[Value]) -> str:
    if layer.kernel is not None:
        query = w.op("MatMul", query, w.weight(layer.kernel.numpy(), "kernel"))
    scores = w.op("MatMul", query, w.transpose(key, 0, 2, 1))
    width = (*xs, xs[1])[2].shape[-1]
    assert width is not None
    factor = (1.0 if layer.scale is None else layer.scale.numpy()) * (width**-0.5 if layer.score_mode == "scaled" else 1.0)
    return w.op("Mul", scores, w.weight(factor, "scale"))


def _additive(w: Writer, layer: Any, query: str, key: str) -> str:
    """weight . tanh(inner (q + k)) for each pair of steps."""
    inner, outer = None, layer.scale
    if isinstance(layer, AdditiveAttention):
        if layer.query_kernel is not None and layer.key_kernel is not None:
            query = w.op("MatMul", query, w.weight(layer.query_kernel.numpy(), "query_kernel"))
            key = w.op("MatMul", key, w.weight(layer.key_kernel.numpy(), "key_kernel"))
    else:
        inner, outer = layer.scale, layer.concat_score_weight
    both = w.op("Add", w.unsqueeze(query, 2), w.unsqueeze(key, 1))
    if inner is not None:
        both = w.op("Mul", both, w.weight(inner.numpy(), "scale"))
    both = w.op("Tanh", both)
    if outer is not None:
        both = w.op("Mul", both, w.weight(outer.numpy(), "weight"))
    return w.reduce("ReduceSum", both, 3)


def _softmax(w: Writer, layer: Any, scores: str, query: str, key: str) -> str:
    """Over the steps that a query step sees; zeros where it sees none."""
    seen = _seen(w, layer, query, key)
    if seen is None:
        return w.op("Softmax", scores, axis=-1)
    found = w.op("Softmax", w.op("Where", seen, scores, w.weight(_UNSEEN, "unseen")), axis=-1)
    return w.op("Where", seen, found, w.weight(0.0, "zero"))


def _seen(w: Writer, layer: Any, query: str, key: str) -> str | None:
    """Which steps of the key (columns) each step of the query (rows) sees; None for all."""
    if not layer.use_causal_mask and layer.window is None:
        return None
    ahead = w.op("Sub", w.unsqueeze(w.range(key, 1), 0), w.unsqueeze(w.range(query, 1), 1))
    tests = [w.op("LessOrEqual", ahead, w.constant(np.int64(0)))] if layer.use_causal_mask else []
    if layer.window is not None:
        tests.append(w.op("LessOrEqual", w.op("Abs", ahead), w.constant(np.int64(layer.window))))
    return tests[0] if len(tests) == 1 else w.op("And", *tests)


def attention_pooling(w: Writer, layer: Any, xs: list[Value], initial: list[str]) -> list[Value]:
    """AttentionPooling1D."""
    x = key = xs[0].name
    if layer.kernel is not None:
        product = w.op("MatMul", x, w.weight(layer.kernel.numpy(), "kernel"))
        key = activate(w, layer, layer.activation, w.op("Add", product, w.weight(layer.bias.numpy(), "bias")))
    scores = w.op("MatMul", key, w.weight(layer.query.numpy().T, "query"))
    weights = w.squeeze(w.op("Softmax", scores, axis=1), 2)
    y = w.squeeze(w.op("MatMul", w.unsqueeze(weights, 1), x), 1)
    return [Value(name, shape) for name, shape in zip((y, weights), layer.output_shapes(xs[0].shape), strict=False)]
