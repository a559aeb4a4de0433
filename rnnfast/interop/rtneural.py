"""RTNeural's JSON, in both of its styles.

Keras style: ``{"in_shape", "layers": [{"type", "activation", "shape", "weights", ...}]}`` with the weights in Keras' shapes and order. RTNeural runs such a file sample by sample, with
tanh and sigmoid in its LSTM and GRU and every convolution causal, whatever the source had; a file that says something else is refused.
PyTorch style: a state dict as nested lists, which becomes layers by its names, all of a stack's layers among them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from rnnfast.errors import suggest
from rnnfast.interop import json_models
from rnnfast.interop.bounds import as_format_error, refuse
from rnnfast.interop.recognition import read_json
from rnnfast.layers import GRU, LSTM, Activation, BatchNormalization, Conv1D, Dense, Input, Layer, TimeDistributed
from rnnfast.layers.base import given_weights
from rnnfast.models.sequential import Sequential

ACTIVATIONS = ("tanh", "relu", "sigmoid", "softmax", "elu")
CHANGING = ("in_skip", "in_gain", "out_gain")  # members that some plug-ins add to the format
TIMED = ("conv1d", "gru", "lstm")
_COUNTS = {"dense": (1, 2), "time-distributed-dense": (1, 2), "conv1d": (1, 2), "gru": (2, 3), "lstm": (2, 3), "batchnorm": (2, 4), "activation": (0,)}


def read(path: str | os.PathLike[str]) -> Any:
    """The model of an RTNeural file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Sequential
        [B, T, inputs] -> [B, T, outputs], or [B, inputs] -> [B, outputs] where the file has no time axis. `model.stream()` runs it as RTNeural does.
        `model.origin` holds what else the file says of itself.

    Raises
    ------
    FormatError
        If the file is damaged, or holds a layer that rnnfast does not have (convolutions over two axes, PReLU) or that RTNeural itself would skip or compute otherwise than the file says.

    Notes
    -----
    Source: RTNeural/model_loader.h, RTNeural/torch_helpers.h.

    Examples
    --------
    >>> import tempfile, rnnfast
    >>> from rnnfast import layers
    >>> model = Sequential([Input((None, 1)), layers.GRU(4, return_sequences=True), layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(model, f"{folder}/m.json")
    ...     stream = rnnfast.load(f"{folder}/m.json").stream()
    >>> stream.step(np.ones(1, np.float32)).shape
    (1,)
    """
    found = read_json(path)
    if "layers" in found:
        return _read_layers(path, found)
    from rnnfast.interop.state_dicts import from_state_dict

    return from_state_dict({name: json_models.array(path, name[:80], value) for name, value in found.items()}, os.fspath(path))


def _read_layers(path: Any, found: dict[str, Any]) -> Sequential:
    entries = found["layers"]
    if not isinstance(entries, list) or not entries:
        refuse(path, "layers", "must be a list of at least one layer")
    changing = next((name for name in CHANGING if found.get(name)), None)
    if changing:
        refuse(path, changing, "changes the output in a program beside RTNeural, and is not supported")
    shape = _shape(path, "in_shape", found.get("in_shape"))
    made: list[Layer] = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            refuse(path, f"layers[{i}]", f"must be an object, got {type(entry).__name__}")
        made += _layers(path, f"layers[{i}]", entry, len(shape))
    inlet = Input((None, shape[-1]) if len(shape) == 3 else (shape[-1],))
    arrays = [_weights(path, f"layers[{i}]", entry) for i, entry in enumerate(entries)]
    with as_format_error(path, "layers"), given_weights([w for each in arrays for w in each]) as left:
        model = Sequential([inlet, *made])
    if left:
        refuse(path, "layers", f"{len(left)} weights are left over")
    model.origin = json_models.origin(path, {name: value for name, value in found.items() if name not in ("in_shape", "layers")})
    return model


def _shape(path: Any, member: str, value: Any) -> list[Any]:
    """[batch, features] or [batch, time, features], of which only the features must be known."""
    if not isinstance(value, list) or len(value) not in (2, 3):
        refuse(path, member, "must be [batch, features] or [batch, time, features]; two-dimensional convolutions are not supported")
    json_models.size(path, member, value[-1])
    return value


def _layers(path: Any, where: str, entry: dict[str, Any], rank: int) -> list[Layer]:
    """The layer, and its activation if it is one of its own here."""
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in _COUNTS:
        reason = "which RTNeural skips; remove it before the export" if kind == "unknown" else f"which is not supported. {suggest(str(kind)[:40], _COUNTS).rstrip('.')}"
        refuse(path, where, f"type {str(kind)[:40]!r}, {reason}")
    where = f"{where} ({kind})"
    shape = _shape(path, f"{where}.shape", entry.get("shape"))
    if kind in TIMED and rank != 3:
        refuse(path, where, "needs an in_shape [batch, time, features]")
    activation = entry.get("activation", "")
    if activation not in ("", *ACTIVATIONS):
        refuse(path, f"{where}.activation", f"must be '' or one of {', '.join(ACTIVATIONS)}, got {str(activation)[:40]!r}")
    allowed = {"type", "activation", "shape", "weights"} | {"conv1d": {"kernel_size", "dilation", "groups"}, "batchnorm": {"epsilon"}}.get(kind, set())
    unknown = sorted(set(entry) - allowed)
    if unknown:
        refuse(path, where, f"holds {unknown[:5]}, which have no meaning there")
    with as_format_error(path, where):
        return _MAKERS[kind](path, where, entry, shape, activation or None)


def _weights(path: Any, where: str, entry: dict[str, Any]) -> list[np.ndarray]:
    values, counts = entry.get("weights"), _COUNTS[entry["type"]]
    if not isinstance(values, list) or len(values) not in counts:
        got = f"{len(values)}" if isinstance(values, list) else type(values).__name__
        refuse(path, f"{where}.weights", f"must be a list of {' or '.join(map(str, counts))} arrays, got {got}")
    return [json_models.array(path, f"{where}.weights[{i}]", value) for i, value in enumerate(values)]


def _dense(path: Any, where: str, entry: dict[str, Any], shape: list[Any], activation: Any) -> list[Layer]:
    return [Dense(shape[-1], activation=activation, use_bias=_has_bias(entry, 2))]


def _has_bias(entry: dict[str, Any], count: int) -> bool:
    return isinstance(entry.get("weights"), list) and len(entry["weights"]) == count


def _gated(kind: type[LSTM] | type[GRU]) -> Callable[..., list[Layer]]:
    def make(path: Any, where: str, entry: dict[str, Any], shape: list[Any], activation: Any) -> list[Layer]:
        if activation not in (None, "tanh"):
            refuse(path, f"{where}.activation", f"must be 'tanh', which RTNeural computes whatever the file says, got {activation!r}")
        return [kind(shape[-1], return_sequences=len(shape) == 3, use_bias=_has_bias(entry, 3))]

    return make


def _conv1d(path: Any, where: str, entry: dict[str, Any], shape: list[Any], activation: Any) -> list[Layer]:
    numbers = {}
    for name in ("kernel_size", "dilation", "groups"):
        value = entry.get(name, 1 if name == "groups" else None)
        numbers[name] = json_models.size(path, f"{where}.{name}", value[-1] if isinstance(value, list) and value else value)
    layer = Conv1D(
        shape[-1], numbers["kernel_size"], padding="causal", dilation_rate=numbers["dilation"], groups=numbers["groups"], activation=activation, use_bias=_has_bias(entry, 2)
    )
    return [layer]


def _batchnorm(path: Any, where: str, entry: dict[str, Any], shape: list[Any], activation: Any) -> list[Layer]:
    epsilon = float(json_models.array(path, f"{where}.epsilon", [entry.get("epsilon")])[0])
    affine = _has_bias(entry, 4)
    return [BatchNormalization(epsilon=epsilon, center=affine, scale=affine)]


def _activation(path: Any, where: str, entry: dict[str, Any], shape: list[Any], activation: Any) -> list[Layer]:
    if activation is None:
        refuse(path, f"{where}.activation", "is empty: the exporter did not know it, and RTNeural skips the layer; remove it before the export")
    return [Activation(activation)]


_MAKERS: dict[str, Callable[..., list[Layer]]] = {
    "dense": _dense, "time-distributed-dense": _dense, "conv1d": _conv1d, "gru": _gated(GRU), "lstm": _gated(LSTM), "batchnorm": _batchnorm,
    "activation": _activation,
}  # fmt: skip


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a chain of layers as RTNeural reads it (Keras style).

    Parameters
    ----------
    model : Sequential or Model
        Of Dense, LSTM, GRU (`reset_after`), Conv1D (causal, without strides), BatchNormalization and Activation; Dropout is left out.
    path : str or path-like

    Raises
    ------
    FormatError
        If the model holds anything else, or a layer has options that RTNeural does not compute.
    """
    layers = json_models.chain(path, model)
    shape = model.graph().inputs[0].shape
    if len(shape) not in (2, 3) or any(getattr(layer, "tokens", False) for layer in layers):
        refuse(path, "in_shape", f"must be (batch, features) or (batch, time, features) in this format, got {shape}")
    json_models.write_json(path, {"in_shape": list(shape), "layers": [_entry(path, node.layer, node.outputs[0].shape) for node in model.graph().nodes if node.layer in layers]})


def _entry(path: Any, layer: Layer, shape: Any) -> dict[str, Any]:
    where = f"{type(layer).__name__} '{layer.name}'"
    inner: Any = layer.layer if isinstance(layer, TimeDistributed) else layer
    kinds: dict[type, str] = {Dense: "dense", LSTM: "lstm", GRU: "gru", Conv1D: "conv1d", BatchNormalization: "batchnorm", Activation: "activation"}
    kind = kinds.get(type(inner))
    if kind is None or (inner is not layer and kind != "dense"):
        refuse(path, where, f"is not a layer of this format. Known: {', '.join(one.__name__ for one in kinds)}, Dropout")
    entry = {"type": kind, "activation": _name_of(path, where, inner), "shape": list(shape)}
    if kind in ("lstm", "gru"):
        weights = _gated_weights(path, where, inner)
    elif kind == "batchnorm":
        entry["epsilon"] = inner.epsilon
        weights = _normalization(inner)
    else:
        weights = inner.get_weights()
    if kind == "conv1d":
        if inner.padding != "causal" or inner.strides != 1:
            refuse(path, where, f"must have padding='causal' and strides=1 in this format, got {inner.padding!r} and {inner.strides}")
        entry |= {"kernel_size": [inner.kernel_size], "dilation": [inner.dilation_rate], "groups": inner.groups}
        weights = weights if inner.use_bias else [*weights, np.zeros(inner.filters)]  # RTNeural reads a bias always
    return entry | {"weights": [w.tolist() for w in weights]}


def _name_of(path: Any, where: str, layer: Any) -> str:
    name = getattr(layer, "activation", "linear")
    if name not in ("linear", *ACTIVATIONS):
        refuse(path, where, f"activation must be one of {', '.join(ACTIVATIONS)} in this format, got {name!r}")
    return "" if name == "linear" else str(name)


def _gated_weights(path: Any, where: str, layer: Any) -> list[np.ndarray]:
    if getattr(layer, "reset_after", True) is False:
        refuse(path, where, "reset_after must be True in this format")
    if any(state.any() for state in json_models.initial_states(layer)):
        refuse(path, where, "its trained initial state has no place in this format, which starts from zeros")
    return json_models.gate_weights(path, layer)


def _normalization(layer: BatchNormalization) -> list[np.ndarray]:
    moving = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
    if not layer.scale and not layer.center:
        return moving
    gamma = layer.gamma.numpy() if layer.gamma is not None else np.ones_like(moving[0])
    return [gamma, layer.beta.numpy() if layer.beta is not None else np.zeros_like(moving[0]), *moving]
