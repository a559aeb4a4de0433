"""Writing ONNX: the graph of a model, walked node by node, and what goes into and comes out of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from rnnfast.errors import suggest
from rnnfast.interop.bounds import extra, refuse
from rnnfast.layers import Layer, Masking
from rnnfast.layers.graph import Graph, Shape, Symbol
from rnnfast.models.model import Runnable
from rnnfast.models.saving import replacing

OPSETS = range(17, 23)
LARGEST = (1 << 31) - (1 << 20)  # bytes of a protobuf message, with room for the nodes


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph.

    Attributes
    ----------
    name : str
    shape : tuple of int or None
    lengths : str or None
        The tensor (batch,) that says how many steps each row has.
    reversed : bool
        Whether the steps that a row does not have stand in front.
    """

    name: str
    shape: Shape
    lengths: str | None = None
    reversed: bool = False


class Writer:
    """Collects an ONNX graph. What adds to it gives the names of tensors.

    Parameters
    ----------
    path : path-like
        As errors name it.
    dtype : str
    opset : int
    states : bool
        Whether states come in and go out.
    """

    def __init__(self, path: Any, dtype: str, opset: int, states: bool) -> None:
        self.onnx = extra("onnx", "onnx", "Writing ONNX files")
        self.path, self.dtype, self.opset, self.states = path, dtype, opset, states
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.state_outputs: list[tuple[str, str, Any]] = []
        self.constants: dict[Any, str] = {}
        self.initializers: list[Any] = []
        self.scope = ""
        self.holds: dict[str, bool] = {}  # of each lengths, whether steps behind show the last one, as the engine's row maps have it

    # -- nodes -----------------------------------------------------------------------------------------------------------------

    def many(self, kind: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
        """The outputs of a new node."""
        name = f"{self.scope}/{kind}_{len(self.nodes)}"
        outputs = [name if count == 1 else f"{name}_{i}" for i in range(count)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, name, **attributes))
        return outputs

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The one output of a new node."""
        return self.many(kind, list(inputs), 1, **attributes)[0]

    def constant(self, value: Any, hint: str = "constant") -> str:
        """An array that the file stores, once."""
        array = np.ascontiguousarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = f"{self.scope}/{hint}_{len(self.constants)}"
            self.initializers.append(self.onnx.numpy_helper.from_array(array, self.constants[key]))
        return self.constants[key]

    def weight(self, value: Any, hint: str) -> str:
        """An array in the model's own float type."""
        return self.constant(np.asarray(value, self.dtype), hint)

    def integers(self, *values: int) -> str:
        """A list of integers."""
        return self.constant(np.array(values, np.int64))

    def squeeze(self, x: str, axis: int) -> str:
        return self.op("Squeeze", x, self.integers(axis))

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self.op("Unsqueeze", x, self.integers(*axes))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=list(order))

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        return self.op("Slice", x, *map(self.integers, (start, end, axis, step)))

    def backwards(self, x: str, axis: int) -> str:
        """x with the order of one axis reversed."""
        return self.slice(x, axis, -1, -(1 << 63), -1)

    def reduce(self, kind: str, x: str, axis: int, keepdims: bool = False) -> str:
        """ReduceSum, ReduceMean or ReduceMax; where the axis is given changed with opset 18."""
        if kind == "ReduceSum" or self.opset >= 18:
            return self.op(kind, x, self.integers(axis), keepdims=int(keepdims))
        return self.op(kind, x, axes=[axis], keepdims=int(keepdims))

    def range(self, x: str, axis: int) -> str:
        """The places along an axis of x, int64."""
        count = self.op("Squeeze", self.op("Shape", x, start=axis, end=axis + 1))
        return self.op("Range", self.constant(np.int64(0)), count, self.constant(np.int64(1)))

    def valid(self, x: str, lengths: str, rank: int) -> str:
        """Which steps of x exist, bool (batch, time, 1, ...)."""
        steps = self.op("Less", self.range(x, 1), self.unsqueeze(self.op("Cast", lengths, to=self.onnx.TensorProto.INT64), 1))
        return self.unsqueeze(steps, *range(2, rank)) if rank > 2 else steps

    # -- what goes in and out --------------------------------------------------------------------------------------------------

    def kind(self, dtype: str) -> int:
        """ONNX's number of a type."""
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def add_input(self, name: str, dtype: str, shape: Any) -> str:
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, self.kind(dtype), shape))
        return name

    def add_output(self, name: str, source: str, shape: Any) -> None:
        self.nodes.append(self.onnx.helper.make_node("Identity", [source], [name], name))
        self.outputs.append(self.onnx.helper.make_tensor_value_info(name, self.kind(self.dtype), shape))

    def state(self, name: str, shape: tuple[int, ...]) -> str:
        """The graph's input for a state."""
        return self.add_input(f"{name}_in", self.dtype, ["batch", *shape])

    def keep_state(self, name: str, source: str, shape: tuple[int, ...]) -> None:
        """The graph's output for a state; it stands behind the model's own."""
        self.state_outputs.append((f"{name}_out", source, ["batch", *shape]))

    def refuse(self, layer: Layer, reason: str) -> NoReturn:
        """Raise the error that names a layer."""
        refuse(self.path, f"{type(layer).__name__} '{layer.name}'", reason)

    def emit(self, layer: Layer, xs: list[Value], initial: list[str]) -> list[Value]:
        """Add a layer; its outputs."""
        from rnnfast.interop.onnx.writer_layers import LAYERS  # which needs this module

        if type(layer) not in LAYERS:
            self.refuse(layer, f"cannot be written as ONNX. {suggest(type(layer).__name__, [one.__name__ for one in LAYERS]).rstrip('.')}")
        self.scope = layer.name
        return LAYERS[type(layer)](self, layer, xs, initial)


def write(model: Any, path: str | os.PathLike[str], opset: int = 17, *, states: bool = False, lengths: bool = False) -> None:
    """Write a model as ONNX, with dynamic batch and time axes.

    Parameters
    ----------
    model : Sequential or Model
        Built, of layers that ONNX can express at inference; docs/onnx.md lists them.
    path : str or path-like
    opset : int, default 17
        From 17 to 22.
    states : bool
        Whether each recurrent layer's initial states are inputs ``<layer>_h_in`` (and ``<layer>_c_in``), (batch, width), and its final states outputs
        ``<layer>_h_out``, so that a stream can be run call by call; of a causal convolution also the inputs that it still reads, ``<layer>_inputs_in``.
        A layer's `initial_values(batch)` are what a stream starts from.
    lengths : bool
        Whether there is an input ``lengths`` (``<input>_lengths`` where several have a time axis), int32 (batch,): the steps that each row has, at least 1. It takes the place of
        the masks of `Masking` and of `Embedding(mask_zero=True)`, which cannot be written without it.

    Raises
    ------
    FormatError
        If a layer, an activation or an option has no counterpart; the text names it.
    ImportError
        If the package onnx is missing.

    Notes
    -----
    Inputs have their layers' names, outputs those of the layers that make them. The file is checked by onnx before it takes its name.

    Examples
    --------
    >>> import tempfile
    >>> from rnnfast import Input, Sequential, interop, layers
    >>> model = Sequential([Input((None, 3), name="x"), layers.LSTM(4, return_sequences=True), layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     interop.to_onnx(model, f"{folder}/m.onnx", states=True)
    """
    if not isinstance(model, Runnable) or not model.built:
        refuse(path, "model", f"must be a built Sequential or Model, got {type(model).__name__}")
    if opset not in OPSETS:
        refuse(path, "opset", f"must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset!r}")
    if sum(v.numpy().nbytes for v in model.weights) > LARGEST:
        refuse(path, "weights", "an ONNX file without external data holds at most 2 GiB; save the model as .rnnf")
    w = Writer(path, model.runner().dtype, opset, states)
    _add_graph(w, model, lengths)
    onnx = w.onnx
    imports = [onnx.helper.make_opsetid("", opset)]
    graph = onnx.helper.make_graph(w.nodes, model.name, w.inputs, w.outputs, w.initializers)
    made = onnx.helper.make_model(graph, opset_imports=imports, producer_name="rnnfast", ir_version=onnx.helper.find_min_ir_version_for(imports))
    onnx.checker.check_model(made, full_check=True)
    with replacing(os.fspath(path)) as file:
        file.write(made.SerializeToString())


def _add_graph(w: Writer, model: Any, lengths: bool) -> None:
    graph: Graph = model.graph()
    values = _add_inputs(w, model, lengths)
    for node in graph.nodes:
        made = w.emit(node.layer, [values[s] for s in node.inputs], [values[s].name for s in node.states])
        values.update(zip(node.outputs, made, strict=True))
    taken = [one.name for one in w.inputs]
    for symbol in graph.outputs:
        name = symbol.layer.name if symbol.layer else "output"
        name = next(n for n in [name, *(f"{name}_{i}" for i in range(1, 1000))] if n not in taken)
        taken.append(name)
        w.scope = name
        w.add_output(name, _shown(w, values[symbol]), [None if n is None else n for n in ("batch", *symbol.shape[1:])])
    for name, source, shape in w.state_outputs:
        w.add_output(name, source, shape)


def _add_inputs(w: Writer, model: Any, lengths: bool) -> dict[Symbol, Value]:
    inlets = model.runner().inlets
    timed = [inlet for inlet in inlets if len(inlet.shape) > (1 if inlet.tokens else 2)]
    if lengths and not (timed and model.runner().uses_mask):
        refuse(w.path, f"model '{model.name}'", "none of its layers depends on how many steps a row has; write it without lengths")
    known = [layer for inlet in inlets for layer in inlet.maskers]
    for node in model.graph().nodes:
        if lengths and isinstance(node.layer, Masking) and node.layer not in known:
            w.refuse(node.layer, "masks by values that are computed, which lengths cannot say")
    values = {}
    for inlet, symbol in zip(inlets, model.graph().inputs, strict=True):
        shape = ["batch", *(f"{inlet.name}_{'time' if i == 0 else f'axis{i + 1}'}" if n is None else n for i, n in enumerate(inlet.shape[1:]))]
        name = w.add_input(inlet.name, "int64" if inlet.tokens else w.dtype, shape)
        steps = None
        if lengths and inlet in timed:
            steps = w.add_input("lengths" if len(timed) == 1 else f"{inlet.name}_lengths", "int32", ["batch"])
            w.holds[steps] = True
            name = w.op("Where", w.valid(name, steps, len(shape)), name, w.constant(np.zeros((), "int64" if inlet.tokens else w.dtype)))
        values[symbol] = Value(name, tuple(symbol.shape), steps)
    return values


def _shown(w: Writer, x: Value) -> str:
    """An output; steps that a row does not have show what the model shows there."""
    if x.lengths is None or x.reversed or not w.holds[x.lengths]:
        return x.name
    last = w.op("Sub", w.op("Cast", x.lengths, to=w.onnx.TensorProto.INT64), w.constant(np.int64(1)))
    place = w.op("Min", w.unsqueeze(w.range(x.name, 1), 0), w.unsqueeze(last, 1))
    place = w.unsqueeze(place, *range(2, len(x.shape))) if len(x.shape) > 2 else place
    return w.op("GatherElements", x.name, w.op("Expand", place, w.op("Shape", x.name)), axis=1)
