"""NAM: `.nam` files of Neural Amp Modeler with the architecture "LSTM".

Such a file is JSON with one flat list of weights: for each layer a matrix [4 H, I + H] row by row (gates i, f, g, o; the columns of the input, then of the state), a bias (4 H), and the
states h and c that it starts from; then the head's matrix [outputs, H] and bias. Its model is LSTM layers, with trained initial states where they are not zero, and a Dense layer.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from rnnfast.interop import json_models
from rnnfast.interop.bounds import as_format_error, refuse
from rnnfast.interop.recognition import read_json
from rnnfast.layers import LSTM, Dense, Input
from rnnfast.layers.base import given_weights
from rnnfast.models.sequential import Sequential

OLDEST, NEWEST = (0, 5, 0), (0, 7)
_ORIGIN = ("version", "sample_rate", "metadata")
_SIZES = ("input_size", "hidden_size", "num_layers")


def read(path: str | os.PathLike[str]) -> Sequential:
    """The model of a `.nam` file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Sequential
        [B, T, inputs] -> [B, T, outputs]. `model.origin` holds the file's version, sample rate and metadata, if it has them.

    Raises
    ------
    FormatError
        If it is damaged, of another architecture, or holds more or fewer weights than its sizes say.

    Notes
    -----
    The file's own states are where the model starts. Plug-ins also feed silence for half a second before they play; `stream().process(zeros)` does the same.

    Source: NeuralAmpModelerCore, NAM/lstm.cpp.

    Examples
    --------
    >>> import tempfile, rnnfast
    >>> from rnnfast import layers
    >>> model = Sequential([Input((None, 1)), layers.LSTM(4, return_sequences=True), layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(model, f"{folder}/amp.nam")
    ...     again = rnnfast.load(f"{folder}/amp.nam")
    >>> again.predict_on_batch(np.zeros((1, 480, 1), np.float32)).shape
    (1, 480, 1)
    """
    found = read_json(path)
    if found.get("architecture") != "LSTM":
        refuse(path, "architecture", f"must be 'LSTM', the recurrent one, got {str(found.get('architecture'))[:40]!r}")
    _check_version(path, found.get("version"))
    inputs, units, count, outputs = _sizes(path, found.get("config"))
    *cells, head = _cut(path, found.get("weights"), inputs, units, count, outputs)
    with as_format_error(path, "weights"), given_weights([w for each in (*cells, head) for w in each]):
        recurrent = [LSTM(units, return_sequences=True, trained_initial_state=len(each) == 5) for each in cells]
        model = Sequential([Input((None, inputs)), *recurrent, Dense(outputs)])
    model.origin = json_models.origin(path, {name: found[name] for name in _ORIGIN if name in found})
    return model


def _check_version(path: Any, version: Any) -> None:
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version) if isinstance(version, str) else None
    numbers = tuple(map(int, match.groups())) if match else ()
    if not numbers or not (numbers >= OLDEST and numbers[:2] <= NEWEST):
        refuse(path, "version", f"must be from 0.5.0 to 0.7, got {str(version)[:40]!r}")


def _sizes(path: Any, config: Any) -> tuple[int, int, int, int]:
    """Inputs, units, layers and outputs."""
    if not isinstance(config, dict):
        refuse(path, "config", f"must be an object, got {type(config).__name__}")
    unknown = sorted(set(config) - {*_SIZES, "in_channels", "out_channels"})
    if unknown:
        refuse(path, "config", f"holds {unknown[:5]}, which have no meaning for an LSTM")
    inputs, units, count = (json_models.size(path, f"config.{name}", config.get(name)) for name in _SIZES)
    if config.get("in_channels", inputs) != inputs:
        refuse(path, "config.in_channels", f"must be input_size, {inputs}, got {str(config['in_channels'])[:40]}")
    return inputs, units, count, json_models.size(path, "config.out_channels", config.get("out_channels", 1))


def _cut(path: Any, values: Any, inputs: int, units: int, count: int, outputs: int) -> list[list[np.ndarray]]:
    """The flat list as the weights of each layer; initial states of zeros are left out."""
    expected = 4 * units * (inputs + units + (count - 1) * 2 * units) + count * 6 * units + outputs * (units + 1)
    if not isinstance(values, list) or len(values) != expected:
        got = f"{len(values)}" if isinstance(values, list) else type(values).__name__
        refuse(path, "weights", f"must be a list of {expected} numbers for these sizes, got {got}")
    flat = json_models.array(path, "weights", values)
    if flat.ndim != 1:
        refuse(path, "weights", f"must be a flat list, got lists of shape {flat.shape}")
    place, made = 0, list[list[np.ndarray]]()

    def take(*shape: int) -> np.ndarray:
        nonlocal place
        start, place = place, place + int(np.prod(shape))
        return flat[start:place].reshape(shape)

    for layer in range(count):
        width = units if layer else inputs
        both = take(4 * units, width + units).T
        bias, states = take(4 * units), [take(1, units), take(1, units)]
        made.append([both[:width], both[width:], bias, *(states if any(state.any() for state in states) else [])])
    return [*made, [take(outputs, units).T, take(outputs)]]


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a chain of LSTM layers of one size and a Dense layer as a `.nam` file.

    Parameters
    ----------
    model : Sequential or Model
    path : str or path-like

    Raises
    ------
    FormatError
        If the model is anything else, or its LSTM layers have activations of their own.
    """
    *recurrent, head = json_models.chain(path, model)
    if not recurrent or not all(type(layer) is LSTM for layer in recurrent) or type(head) is not Dense or head.activation != "linear":
        kinds = ", ".join(type(layer).__name__ for layer in [*recurrent, head])
        refuse(path, f"model '{model.name}'", f"must be LSTM layers and a linear Dense layer for this format, got {kinds}")
    units, inputs = recurrent[0].units, recurrent[0].input_shape[-1]  # type: ignore[attr-defined,index]
    other = next((layer for layer in recurrent if layer.units != units), None)  # type: ignore[attr-defined]
    if other is not None:
        refuse(path, f"LSTM '{other.name}'", f"all must have {units} units, as the first has, got {other.units}")  # type: ignore[attr-defined]
    parts: list[np.ndarray] = []
    for layer in recurrent:
        kernel, recurrent_kernel, bias = json_models.gate_weights(path, layer)  # type: ignore[arg-type]
        parts += [np.vstack([kernel, recurrent_kernel]).T, bias, *json_models.initial_states(layer)]  # type: ignore[arg-type]
    parts += [head.kernel.numpy().T, head.bias.numpy() if head.bias else np.zeros(head.units)]
    config = {"input_size": inputs, "hidden_size": units, "num_layers": len(recurrent), "in_channels": inputs, "out_channels": head.units}
    content = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": [float(v) for part in parts for v in part.ravel()]}
    json_models.write_json(path, content | {name: value for name, value in (model.origin or {}).items() if name in _ORIGIN})
