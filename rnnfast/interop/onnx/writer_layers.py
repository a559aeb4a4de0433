"""Layers without a state in ONNX's operators, and the table of all that can be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from rnnfast import layers
from rnnfast.interop.onnx.writer import Value, Writer
from rnnfast.interop.onnx.writer_activations import activate
from rnnfast.interop.onnx.writer_attention import attention, attention_pooling
from rnnfast.interop.onnx.writer_recurrent import bidirectional, recurrent
from rnnfast.interop.onnx.writer_windows import conv1d, ends, pooling1d

Handler = Callable[[Writer, Any, list[Value], list[str]], list[Value]]
Emit = Callable[[Writer, Any, list[Value]], str]


def stepwise(emit: Emit) -> Handler:
    """A layer with one output whose every step follows from that step alone."""

    def handle(w: Writer, layer: Any, xs: list[Value], initial: list[str]) -> list[Value]:
        if len({(x.lengths, x.reversed) for x in xs}) > 1:
            w.refuse(layer, "its inputs have different lengths, so that it cannot be written with lengths")
        shape = layer.output_shapes([x.shape for x in xs] if layer.many else xs[0].shape)[0]
        return [replace(xs[0], name=emit(w, layer, xs), shape=shape)]

    return handle


def whole(handler: Handler) -> Handler:
    """A layer whose output at a step depends on others, in a way that has no lengths in ONNX."""

    def handle(w: Writer, layer: Any, xs: list[Value], initial: list[str]) -> list[Value]:
        if any(x.lengths for x in xs):
            w.refuse(layer, "cannot be written with lengths")
        return handler(w, layer, xs, initial)

    return handle


def single(emit: Emit) -> Handler:
    """As `whole`, of a layer with one output."""
    return whole(lambda w, layer, xs, initial: [Value(emit(w, layer, xs), layer.output_shapes(xs[0].shape)[0])])


def _dense(w: Writer, layer: Any, xs: list[Value]) -> str:
    y = w.op("MatMul", xs[0].name, w.weight(layer.kernel.numpy(), "kernel"))
    if layer.bias is not None:
        y = w.op("Add", y, w.weight(layer.bias.numpy(), "bias"))
    return activate(w, layer, layer.activation, y)


def _embedding(w: Writer, layer: Any, xs: list[Value]) -> str:
    if layer.mask_zero:
        _masked(w, layer, xs)
    if xs[0].lengths:
        w.holds[xs[0].lengths] = False
    return w.op("Gather", w.weight(layer.embeddings.numpy(), "embeddings"), xs[0].name, axis=0)


def _masked(w: Writer, layer: Any, xs: list[Value]) -> str:
    """A layer that makes a mask, which only lengths can say in ONNX."""
    if xs[0].lengths is None:
        w.refuse(layer, "its mask has no place in ONNX; write it with lengths=True, where an input says how many steps each row has")
    w.holds[xs[0].lengths] = False
    return xs[0].name


def _identity(w: Writer, layer: Any, xs: list[Value]) -> str:
    return xs[0].name


def _activation(w: Writer, layer: Any, xs: list[Value]) -> str:
    if layer.activation != "glu":
        return activate(w, layer, layer.activation, xs[0].name)
    width = xs[0].shape[-1]
    assert width is not None
    value, gate = (w.slice(xs[0].name, len(xs[0].shape) - 1, start, start + width // 2) for start in (0, width // 2))
    return w.op("Mul", value, w.op("Sigmoid", gate))


def _layer_normalization(w: Writer, layer: Any, xs: list[Value]) -> str:
    shape = layer.weights[0].shape if layer.weights else layer._normalized(xs[0].shape)
    scale = w.weight(layer.gamma.numpy() if layer.gamma is not None else np.ones(shape), "gamma")
    shift = [w.weight(layer.beta.numpy(), "beta")] if layer.beta is not None else []
    return w.op("LayerNormalization", xs[0].name, scale, *shift, axis=-len(shape), epsilon=layer.epsilon)


def _batch_normalization(w: Writer, layer: Any, xs: list[Value]) -> str:
    """As a factor and a shift, which keeps the features on the last axis."""
    mean, variance = (v.numpy().astype(np.float64) for v in (layer.moving_mean, layer.moving_variance))
    factor = (1.0 if layer.gamma is None else layer.gamma.numpy()) / np.sqrt(variance + layer.epsilon)
    y = w.op("Mul", w.op("Sub", xs[0].name, w.weight(mean, "moving_mean")), w.weight(factor, "factor"))
    return y if layer.beta is None else w.op("Add", y, w.weight(layer.beta.numpy(), "beta"))


def _time_distributed(w: Writer, layer: Any, xs: list[Value]) -> str:
    """The steps of all rows as rows of their own."""
    x, scope = xs[0], w.scope
    inner = w.op("Concat", w.integers(-1), w.op("Shape", x.name, start=2), axis=0)
    (y, *_) = w.emit(layer.layer, [Value(w.op("Reshape", x.name, inner), (None, *x.shape[2:]))], [])
    w.scope = scope
    outer = w.op("Concat", w.op("Shape", x.name, start=0, end=2), w.op("Shape", y.name, start=1), axis=0)
    return w.op("Reshape", y.name, outer)


def _merge(kind: str, **attributes: Any) -> Emit:
    return lambda w, layer, xs: w.op(kind, *(x.name for x in xs), **attributes)


def _multiply(w: Writer, layer: Any, xs: list[Value]) -> str:
    y = xs[0].name
    for x in xs[1:]:
        y = w.op("Mul", y, x.name)
    return y


def _reshape(w: Writer, layer: Any, xs: list[Value]) -> str:
    return w.op("Reshape", xs[0].name, w.integers(0, *layer.target_shape))


def _repeat(w: Writer, layer: Any, xs: list[Value]) -> str:
    return w.op("Expand", w.unsqueeze(xs[0].name, 1), w.integers(1, layer.n, 1))


def _pool_all(w: Writer, layer: Any, xs: list[Value], initial: list[str]) -> list[Value]:
    """The mean or maximum over the steps that exist."""
    x, shape = xs[0], layer.output_shapes(xs[0].shape)[0]
    keep = layer.keepdims
    if x.reversed:
        w.refuse(layer, "stands behind a layer with go_backwards, so that it cannot be written with lengths")
    if x.lengths is None:
        return [Value(w.reduce("ReduceMean" if layer.kind == "mean" else "ReduceMax", x.name, 1, keep), shape)]
    chosen = w.op("Where", w.valid(x.name, x.lengths, len(x.shape)), x.name, w.weight(0.0 if layer.kind == "mean" else -np.inf, "hidden"))
    if layer.kind != "mean":
        return [Value(w.reduce("ReduceMax", chosen, 1, keep), shape)]
    count = w.op("Cast", w.unsqueeze(x.lengths, *range(1, len(shape))), to=w.kind(w.dtype))
    return [Value(w.op("Div", w.reduce("ReduceSum", chosen, 1, keep), count), shape)]


LAYERS: dict[type, Handler] = {
    layers.SimpleRNN: recurrent,
    layers.LSTM: recurrent,
    layers.GRU: recurrent,
    layers.PeepholeLSTM: recurrent,
    layers.Bidirectional: bidirectional,
    layers.Dense: stepwise(_dense),
    layers.Embedding: stepwise(_embedding),
    layers.Masking: stepwise(_masked),
    layers.Activation: stepwise(_activation),
    layers.Dropout: stepwise(_identity),
    layers.SpatialDropout1D: stepwise(_identity),
    layers.LayerNormalization: stepwise(_layer_normalization),
    layers.BatchNormalization: stepwise(_batch_normalization),
    layers.TimeDistributed: stepwise(_time_distributed),
    layers.Add: stepwise(_merge("Sum")),
    layers.Average: stepwise(_merge("Mean")),
    layers.Subtract: stepwise(_merge("Sub")),
    layers.Multiply: stepwise(_multiply),
    layers.Concatenate: stepwise(_merge("Concat", axis=-1)),
    layers.GlobalAveragePooling1D: _pool_all,
    layers.GlobalMaxPooling1D: _pool_all,
    layers.Flatten: single(lambda w, layer, xs: w.op("Flatten", xs[0].name, axis=1)),
    layers.Reshape: single(_reshape),
    layers.RepeatVector: single(_repeat),
    layers.Conv1D: single(conv1d),
    layers.MaxPooling1D: single(pooling1d),
    layers.AveragePooling1D: single(pooling1d),
    layers.ZeroPadding1D: single(ends),
    layers.Cropping1D: single(ends),
    layers.Attention: whole(attention),
    layers.AdditiveAttention: whole(attention),
    layers.AttentionPooling1D: whole(attention_pooling),
}
