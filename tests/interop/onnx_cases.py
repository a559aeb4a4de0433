"""Small ONNX graphs for tests, and onnxruntime as a judge."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

import rnnfast
from tests.peers import require

onnx = require("onnx")
TYPES = {np.dtype(name): getattr(onnx.TensorProto, code) for name, code in {"f4": "FLOAT", "f8": "DOUBLE", "i8": "INT64", "i4": "INT32", "?": "BOOL", "u1": "UINT8"}.items()}
RECURRENT = ("X", "W", "R", "B", "L", "H", "C", "P")


def value(name: str, array: Any = None, dims: Any = None) -> Any:
    """A graph's input or output."""
    dtype = onnx.TensorProto.FLOAT if array is None else TYPES[np.asarray(array).dtype]
    return onnx.helper.make_tensor_value_info(name, dtype, dims if dims is not None or array is None else np.shape(array))


def graph(nodes: list[Any], inputs: list[Any], outputs: list[str], weights: dict[str, Any] | None = None, opset: int = 17) -> Any:
    """A model of some nodes; outputs are of any type and shape."""
    initializers = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    made = onnx.helper.make_graph(nodes, "graph", inputs, [onnx.helper.make_empty_tensor_value_info(name) for name in outputs], initializers)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 10)


def judged(model: Any, feeds: dict[str, Any]) -> list[np.ndarray]:
    """What onnxruntime makes of it."""
    ort = require("onnxruntime")
    ort.set_default_logger_severity(4)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


def repeated(ready: Any, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    """What a model gives: at the first call and, bit for bit, at later ones, with calls of other numbers between them."""
    first = ready.run(feeds)
    for _ in range(2):
        with contextlib.suppress(ValueError, rnnfast.FormatError):  # some numbers are positions
            ready.run({name: np.roll(array, 1) for name, array in feeds.items()})
        for name, found in ready.run(feeds).items():
            assert found.dtype == first[name].dtype and not any(np.shares_memory(found, other) for other in (first[name], *feeds.values()))
            np.testing.assert_array_equal(found, first[name], strict=True)
    return first  # type: ignore[no-any-return]


def recurrent_arrays(op: str, rng: Any, dtype: str = "f4", sizes: tuple[int, ...] = (5, 3, 4, 6), lengths: Any = None, leave: str = "", **attributes: Any) -> dict[str, Any]:
    """Random arrays for one node by their short names; `leave` names those to leave out."""
    time, batch, inputs, units = sizes
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[op]
    draw = lambda *shape: (0.7 * rng.standard_normal(shape)).astype(dtype)
    swap = lambda a: np.ascontiguousarray(a.swapaxes(0, 1)) if attributes.get("layout") else a
    found = {
        "X": swap(draw(time, batch, inputs)), "W": draw(directions, gates * units, inputs), "R": draw(directions, gates * units, units),
        "B": draw(directions, 2 * gates * units), "L": None if lengths is None else np.array(lengths, np.int32), "H": swap(draw(directions, batch, units)),
        "C": swap(draw(directions, batch, units)), "P": draw(directions, 3 * units),
    }  # fmt: skip
    kept = RECURRENT if op == "LSTM" else RECURRENT[:6]
    return {name: found[name] for name in kept if name not in leave and found[name] is not None}


def recurrent_model(op: str, arrays: dict[str, Any], opset: int = 14, fixed: bool = True, **attributes: Any) -> Any:
    """A graph of one node; with `fixed` its weights are initializers, else inputs."""
    names = [name if name in arrays else "" for name in (RECURRENT if op == "LSTM" else RECURRENT[:6])]
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    units = arrays["R"].shape[2]
    node = onnx.helper.make_node(op, names, outputs, **{"hidden_size": units} | attributes)
    weights = {name: array for name, array in arrays.items() if name in "WRBP" and fixed}
    return graph([node], [value(name, array) for name, array in arrays.items() if name not in weights], outputs, weights, opset)
