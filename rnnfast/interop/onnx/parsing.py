"""An ONNX file as plain data: a description that JSON can hold, and arrays. Nothing is computed here."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np

from rnnfast.interop.bounds import as_format_error, check_size, extra, refuse
from rnnfast.interop.onnx.external import read_external
from rnnfast.interop.onnx.wire import check_parts

MAX_FILE = 2 << 30  # of a protobuf message
MAX_NODES = 100_000
MAX_DEPTH = 12  # of graphs within graphs
DTYPES = {  # TensorProto.DataType
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
_FIELDS = {"float32": "float_data", "float64": "double_data", "int64": "int64_data", "uint32": "uint64_data", "uint64": "uint64_data"}
_SCALARS = {1: "f", 2: "i"}
_LISTS = {6: "floats", 7: "ints"}


def read_bytes(path: str) -> bytes:
    """The content of a file that can be a protobuf message."""
    size = os.path.getsize(path)
    if size > MAX_FILE:
        refuse(path, "file", f"{size} bytes are more than the {MAX_FILE} of an ONNX file")
    with open(path, "rb") as file:
        return file.read()


def dtype_of(label: str, member: str, code: int) -> str:
    """The name of a type of elements."""
    if code not in DTYPES:
        hint = "; convert the model to float32" if code in (10, 16) else ""
        refuse(label, member, f"elements of type {code} are not supported, known: {', '.join(DTYPES.values())}{hint}")
    return DTYPES[code]


def parse(label: str, content: bytes, folder: str | None) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The graph of a serialized model.

    Parameters
    ----------
    label : str
        What errors call the file.
    content : bytes
    folder : str or None
        Where external data may stand; None if nowhere.

    Returns
    -------
    description : dict
        "opset", "inputs" [name, dtype, dims], "outputs", "initializers" {name: place in arrays}, "nodes".
    arrays : list of ndarray
    """
    onnx = extra("onnx", "onnx", "reading ONNX files")
    proto = onnx.ModelProto()
    check_parts(label, content, proto.DESCRIPTOR)
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's own class, which has no fixed place
        refuse(label, "model", f"not a whole ONNX file ({error})")
    with as_format_error(label, "graph"):
        return _Parser(label, folder).model(proto)


class _Parser:
    def __init__(self, label: str, folder: str | None) -> None:
        self.label, self.folder = label, folder
        self.arrays: list[np.ndarray] = []
        self.nodes = 0

    def model(self, proto: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
        opset = self._opset(proto)
        if proto.functions:
            names = sorted({f"{one.domain}.{one.name}" for one in proto.functions})
            refuse(self.label, "functions", f"functions of the model's own are not supported: {', '.join(names[:8])}; inline them (onnx.inliner)")
        if not proto.HasField("graph"):
            refuse(self.label, "graph", "is missing")
        described = self._graph(proto.graph, 0)
        given = set(described["initializers"])
        inputs = [self._input(one) for one in proto.graph.input if one.name not in given]
        return {"opset": opset, "inputs": inputs, **described}, self.arrays

    def _opset(self, proto: Any) -> int:
        versions = [one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")]
        if len(versions) != 1:
            refuse(self.label, "opset_import", f"must name the standard operators once, got {[(one.domain, one.version) for one in proto.opset_import[:8]]}")
        return int(versions[0])

    def _graph(self, graph: Any, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            refuse(self.label, "graph", f"graphs are nested more than {MAX_DEPTH} deep")
        if graph.sparse_initializer:
            refuse(self.label, "initializers", "sparse ones are not supported")
        initializers: dict[str, int] = {}
        for one in graph.initializer:
            if one.name in initializers or not one.name:
                refuse(self.label, f"initializer '{one.name}'", "has no name, or one that occurs twice")
            initializers[one.name] = self._tensor(one, f"initializer '{one.name}'")
        nodes = [self._node(one, depth) for one in graph.node]
        return {"outputs": [one.name for one in graph.output], "initializers": initializers, "nodes": nodes}

    def _input(self, value: Any) -> list[Any]:
        member = f"input '{value.name}'"
        if value.type.WhichOneof("value") != "tensor_type":
            refuse(self.label, member, f"must be a tensor, got {value.type.WhichOneof('value')}")
        tensor = value.type.tensor_type
        dims: list[int | str | None] | None = None
        if tensor.HasField("shape"):
            dims = []
            for dim in tensor.shape.dim:
                dims.append(int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param) or None)
            check_size(self.label, member, [n for n in dims if isinstance(n, int)], 1, 1 << 30)
        return [value.name, dtype_of(self.label, member, tensor.elem_type), dims]

    def _node(self, node: Any, depth: int) -> dict[str, Any]:
        self.nodes += 1
        member = f"node '{node.name}' ({node.op_type})"
        if self.nodes > MAX_NODES:
            refuse(self.label, "graph", f"has more than {MAX_NODES} nodes")
        if node.domain not in ("", "ai.onnx"):
            refuse(self.label, f"node '{node.name}' ({node.domain}.{node.op_type})", f"operators of the domain '{node.domain}' are not supported")
        attributes = {one.name: self._attribute(one, member, depth) for one in node.attribute}
        if len(attributes) < len(node.attribute):
            refuse(self.label, member, "an attribute occurs twice")
        return {"op": node.op_type, "name": node.name, "inputs": list(node.input), "outputs": list(node.output), "attributes": attributes}

    def _attribute(self, one: Any, member: str, depth: int) -> Any:
        if one.ref_attr_name:
            refuse(self.label, member, f"attribute '{one.name}' refers to a function's")
        if one.type in _SCALARS:
            return getattr(one, _SCALARS[one.type])
        if one.type in _LISTS:
            return list(getattr(one, _LISTS[one.type]))
        if one.type == 3:
            return one.s.decode()
        if one.type == 8:
            return [text.decode() for text in one.strings]
        if one.type == 4:
            return {"tensor": self._tensor(one.t, f"{member}: attribute '{one.name}'")}
        if one.type == 5:
            return {"graph": None if one.g.input else self._graph(one.g, depth + 1)}  # inputs: of an operator that is refused
        return refuse(self.label, member, f"attribute '{one.name}': type {one.type} is not supported")

    def _tensor(self, tensor: Any, member: str) -> int:
        """The place of a tensor's array."""
        dtype = np.dtype(dtype_of(self.label, member, tensor.data_type))
        dims = [int(n) for n in tensor.dims]
        wanted = check_size(self.label, member, dims, dtype.itemsize, MAX_FILE)
        if tensor.HasField("segment"):
            refuse(self.label, member, "a tensor in segments")
        if tensor.data_location == 1:
            content = read_external(self.label, member, [(one.key, one.value) for one in tensor.external_data], self.folder, wanted)
        elif tensor.HasField("raw_data"):
            content = tensor.raw_data
        else:
            values = getattr(tensor, _FIELDS.get(dtype.name, "int32_data"))
            if len(values) != prod(dims):
                refuse(self.label, member, f"shape {tuple(dims)} needs {prod(dims)} numbers, {len(values)} are there")
            return self._keep(np.fromiter(values, dtype, len(values)).reshape(dims))  # np.array would make Python's numbers of all first
        if len(content) != wanted:
            refuse(self.label, member, f"shape {tuple(dims)} of {dtype} needs {wanted} bytes, {len(content)} are there")
        return self._keep(np.frombuffer(content, dtype.newbyteorder("<")).reshape(dims).astype(dtype))

    def _keep(self, array: np.ndarray) -> int:
        self.arrays.append(array)
        if len(self.arrays) > MAX_NODES:
            refuse(self.label, "graph", f"has more than {MAX_NODES} tensors")
        return len(self.arrays) - 1
