"""Layers of windows over time in ONNX's operators, which have the channels in front of the steps."""

from __future__ import annotations

from typing import Any

from rnnfast.interop.onnx.writer import Value, Writer
from rnnfast.interop.onnx.writer_activations import activate


def _padding(layer: Any) -> dict[str, Any]:
    """Where windows over strides follow from the length, ONNX's SAME_UPPER is the same rule."""
    window = layer.window
    if window.same:
        return {"auto_pad": "SAME_UPPER"}
    return {"pads": [window.left, window.right]}


def conv1d(w: Writer, layer: Any, xs: list[Value]) -> str:
    """Conv1D; with states, a causal one goes on from the inputs that it still reads."""
    x, window = xs[0].name, layer.window
    padding = _padding(layer)
    kept = layer.stream_start()
    if w.states and kept:
        shape = kept[0].shape[1:]
        x = w.op("Concat", w.state(f"{layer.name}_inputs", shape), x, axis=1)
        w.keep_state(f"{layer.name}_inputs", w.slice(x, 1, -window.reach, (1 << 63) - 1), shape)
        padding = {"pads": [0, 0]}
    kernel = w.weight(layer.kernel.numpy().transpose(2, 1, 0), "kernel")
    bias = [w.weight(layer.bias.numpy(), "bias")] if layer.bias is not None else []
    y = w.op("Conv", w.transpose(x, 0, 2, 1), kernel, *bias, strides=[window.stride], dilations=[window.dilation], group=layer.groups, kernel_shape=[window.taps], **padding)
    return activate(w, layer, layer.activation, w.transpose(y, 0, 2, 1))


def pooling1d(w: Writer, layer: Any, xs: list[Value]) -> str:
    """MaxPooling1D or AveragePooling1D; padding does not count."""
    kind = "MaxPool" if layer.kind == "maximum" else "AveragePool"
    y = w.op(kind, w.transpose(xs[0].name, 0, 2, 1), kernel_shape=[layer.pool_size], strides=[layer.strides], **_padding(layer))
    return w.transpose(y, 0, 2, 1)


def ends(w: Writer, layer: Any, xs: list[Value]) -> str:
    """ZeroPadding1D or Cropping1D."""
    front, back = layer.ends
    if layer.sign > 0:
        return w.op("Pad", xs[0].name, w.integers(0, front, 0, 0, back, 0))
    return w.slice(xs[0].name, 1, front, -back if back else (1 << 63) - 1)
