"""Recurrent layers in ONNX's operators: gates in its order, states in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rnnfast.interop.onnx.writer import Value, Writer
from rnnfast.interop.onnx.writer_activations import recurrent_attributes
from rnnfast.layers import GRU, LSTM, Bidirectional, PeepholeLSTM, SimpleRNN
from rnnfast.layers.recurrent import Recurrent

# layer: (operator, where each of its gates stands in the layer's weights)
OPERATORS: dict[type, tuple[str, list[int]]] = {SimpleRNN: ("RNN", [0]), LSTM: ("LSTM", [0, 3, 1, 2]), PeepholeLSTM: ("LSTM", [0, 3, 1, 2]), GRU: ("GRU", [0, 1, 2])}


def _ordered(weights: np.ndarray, order: list[int]) -> np.ndarray:
    """[1, gates H, ...] of a layer's [..., gates H]."""
    gates = np.split(np.asarray(weights), len(order), axis=-1)
    return np.concatenate([gates[place].T for place in order])[None]


def _bias(layer: Any, order: list[int]) -> np.ndarray:
    """[1, 2 gates H]: of the input, then of the recurrent product."""
    both = np.zeros((2, len(order) * layer.units))
    if layer.use_bias:
        given = layer.bias.numpy()
        both[: 2 if given.ndim == 2 else 1] = given
    return np.concatenate([_ordered(one, order) for one in both], axis=1)


def _attributes(w: Writer, layer: Any, backwards: bool) -> dict[str, Any]:
    names = [layer.activation] if type(layer) is SimpleRNN else [layer.recurrent_activation, layer.activation]
    if isinstance(layer, LSTM):
        names.append(layer.activation)
    made = recurrent_attributes(w, layer, names) | {"hidden_size": layer.units, "direction": "reverse" if backwards else "forward"}
    return made | ({"linear_before_reset": int(layer.reset_after)} if isinstance(layer, GRU) else {})


def _state_names(layer: Any) -> list[str]:
    return [f"{layer.name}_{letter}" for letter in "hc"[: layer.states]]


def _initial(w: Writer, layer: Any, x: Value, given: list[str]) -> list[str]:
    """The states that the layer starts from, (1, batch, width); empty for zeros."""
    if not given and w.states:
        given = [w.state(name, (layer.units,)) for name in _state_names(layer)]
    if given:
        return [w.unsqueeze(one, 0) for one in given]
    if layer.stateful:
        w.refuse(layer, "is stateful, which only states=True can say")
    batch = w.op("Shape", x.name, start=0, end=1)
    shape = w.op("Concat", w.integers(1), batch, w.integers(layer.units), axis=0) if layer.initial_state else ""
    return [w.op("Expand", w.weight(one.numpy()[None], one.name), shape) for one in layer.initial_state]


def run(w: Writer, layer: Any, x: Value, given: list[str]) -> tuple[str, list[str]]:
    """One direction: the sequence (time, batch, units) in the input's order, and the final states (batch, units)."""
    if type(layer) not in OPERATORS:
        w.refuse(layer, "cannot be written as ONNX: its cell is none of the three recurrent operators'")
    if layer.zoneout or getattr(layer, "zoneout_cell", 0):
        w.refuse(layer, "zoneout must be 0 to be written as ONNX, whose operators do not have it")
    if x.reversed:
        w.refuse(layer, "stands behind a layer with go_backwards, so that rows would be padded in front, which ONNX's lengths cannot say")
    w.scope = layer.name
    kind, order = OPERATORS[type(layer)]
    if x.lengths:
        w.holds[x.lengths] = not layer.zero_output_for_mask
    initial = _initial(w, layer, x, given)
    states = initial + [""] * (layer.states - len(initial))
    weights = [(layer.kernel, "W"), (layer.recurrent_kernel, "R")]
    inputs = [w.transpose(x.name, 1, 0, 2), *(w.weight(_ordered(v.numpy(), order), name) for v, name in weights)]
    inputs += [w.weight(_bias(layer, order), "B") if layer.use_bias else "", x.lengths or "", *states]
    if isinstance(layer, PeepholeLSTM):
        inputs.append(w.weight(_ordered(layer.peephole.numpy(), [0, 2, 1]), "P"))
    while not inputs[-1]:
        inputs.pop()
    found = w.many(kind, inputs, 1 + layer.states, **_attributes(w, layer, layer.go_backwards))
    final = [w.squeeze(one, 0) for one in found[1:]]
    if w.states:
        for name, state in zip(_state_names(layer), final, strict=True):
            w.keep_state(name, state, (layer.units,))
    return w.squeeze(found[0], 1), final


def recurrent(w: Writer, layer: Recurrent, xs: list[Value], initial: list[str]) -> list[Value]:
    """SimpleRNN, LSTM, PeepholeLSTM or GRU."""
    (x,) = xs
    if x.lengths and layer.zero_output_for_mask and not layer.return_sequences:
        w.refuse(layer, "zero_output_for_mask needs return_sequences to be written with lengths")
    sequence, states = run(w, layer, x, initial)
    given = layer.output_shapes(x.shape)
    if layer.return_sequences:
        y = w.backwards(sequence, 0) if layer.go_backwards else sequence
        output = replace(x, name=w.transpose(y, 1, 0, 2), shape=given[0], reversed=layer.go_backwards and x.lengths is not None)
    else:
        output = Value(states[0], given[0])
    return [output] + [Value(name, shape) for name, shape in zip(states, given[1:], strict=False)]


def bidirectional(w: Writer, layer: Bidirectional, xs: list[Value], initial: list[str]) -> list[Value]:
    """Both directions, one operator each, and their merge."""
    (x,) = xs
    pair = [layer.forward_layer, layer.backward_layer]
    found, states = [], []
    for one, given in zip(pair, (initial[: pair[0].states], initial[pair[0].states :]), strict=True):
        sequence, final = run(w, one, x, given)
        found.append(w.transpose(sequence, 1, 0, 2) if layer.return_sequences else final[0])
        states += final if layer.return_state else []
    w.scope = layer.name
    shapes = layer.output_shapes(x.shape)
    outputs = {"concat": ("Concat", {"axis": -1}), "sum": ("Sum", {}), "ave": ("Mean", {}), "mul": ("Mul", {})}
    if layer.merge_mode is not None:
        kind, attributes = outputs[layer.merge_mode]
        found = [w.op(kind, *found, **attributes)]
    made = [replace(x, name=name, shape=shape) if layer.return_sequences else Value(name, shape) for name, shape in zip(found, shapes, strict=False)]
    return made + [Value(name, shape) for name, shape in zip(states, shapes[len(made) :], strict=True)]
