"""Files of tensors by name: PyTorch's `.pt` and `.pth`, `.safetensors`, and NumPy's `.npz`. NumPy is all that they need."""

from __future__ import annotations

import json
import os
import re
from math import prod
from typing import Any

import numpy as np

from rnnfast.errors import FormatError
from rnnfast.interop.bounds import as_format_error, check_dtype, check_size, opened_archive, refuse
from rnnfast.interop.recognition import parse_json, recognize
from rnnfast.interop.state_dicts import from_state_dict, load_state_dict, to_state_dict
from rnnfast.interop.torch_archive import from_bfloat16, read_pt, write_pt
from rnnfast.layers.base import assign_all
from rnnfast.models.saving import replacing

MAX_HEADER, MAX_TENSORS = 4 << 20, 4000
_NPY_HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<>|][a-z]\d)', 'fortran_order': (?P<columns>True|False), 'shape': \((?P<shape>(?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n"
)
_SAFE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def read(path: str | os.PathLike[str]) -> Any:
    """The model that the state dict in a file describes; see :func:`rnnfast.interop.state_dicts.from_state_dict`."""
    kind, tensors = _read(path)
    return from_state_dict(tensors, os.fspath(path), kind != "safetensors")


def read_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Set a model's weights from a state dict in a file, or from an `.npz` of :func:`write`."""
    kind, tensors = _read(path)
    if kind == "npz" and all("/" in name for name in tensors):
        _assign(os.fspath(path), model, tensors)
    else:
        load_state_dict(model, tensors, os.fspath(path), kind != "safetensors")


def _assign(path: str, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """Set weights by "layer/weight"; where layers have other names, in their order, as long as the weights' own names and shapes are the same."""
    wanted = {v.path: v for v in model.weights}
    names = list(wanted if wanted.keys() == arrays.keys() else arrays)
    found, needed = ([(name.rpartition("/")[2], np.shape(one)) for name, one in some] for some in ([(n, arrays[n]) for n in names], wanted.items()))
    if found != needed:
        place = next((i for i, (a, b) in enumerate(zip(found, needed, strict=False)) if a != b), min(len(found), len(needed)))
        told = [f"{list(some)[place]} {what[place][1]}" if place < len(what) else "nothing" for some, what in ((names, found), (wanted, needed))]
        refuse(path, "weights", f"weight {place} must be the model's {told[1]}, got {told[0]}")
    assign_all(path, list(wanted.values()), [arrays[name] for name in names])


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model's weights, atomically: to `.pt`, `.pth` or `.safetensors` by PyTorch's names and layout, to `.npz` as the layers hold them.

    Raises
    ------
    FormatError
        If PyTorch has no module for one of the layers, or the ending is unknown.
    """
    ending = os.path.splitext(os.fspath(path))[1]
    if ending == ".npz":
        arrays = {v.path: v.numpy() for v in model.weights}
        if len(arrays) < len(model.weights):
            refuse(path, "weights", "two weights have one name; name the layers differently")
        with replacing(os.fspath(path)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    elif ending in (".pt", ".pth"):
        write_pt(path, to_state_dict(model))
    elif ending == ".safetensors":
        _write_safetensors(os.fspath(path), to_state_dict(model))
    else:
        raise FormatError(f"{os.fspath(path)}: ending: must be .pt, .pth, .safetensors or .npz, got {ending!r}.")


def _read(path: str | os.PathLike[str]) -> tuple[str, dict[str, np.ndarray]]:
    kind = recognize(path)
    reader = {"pt": read_pt, "safetensors": read_safetensors, "npz": read_npz}.get(kind)
    if reader is None:
        refuse(path, "header", f"must be a PyTorch state dict, safetensors or npz, got a file of kind '{kind}'")
    return kind, reader(path)


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` file by name; the format keeps no order.

    Raises
    ------
    FormatError
        If the header is not one object of {name: {dtype, shape, data_offsets}} whose places fill the rest of the file without holes.
    """
    path = os.fspath(path)
    with open(path, "rb") as file, as_format_error(path, "header"):
        size = int.from_bytes(file.read(8), "little")
        room = os.fstat(file.fileno()).st_size - 8 - size
        if size > MAX_HEADER or room < 0:
            refuse(path, "header", f"{size} bytes are more than the file has, or than the {MAX_HEADER} allowed")
        header = parse_json(path, "header", file.read(size))
        header.pop("__metadata__", None)
        if len(header) > MAX_TENSORS:
            refuse(path, "header", f"has {len(header)} tensors, more than the {MAX_TENSORS} allowed")
        entries = sorted(((name, *_entry(path, name, entry)) for name, entry in header.items()), key=lambda one: one[3])
        found, place = {}, 0
        for name, kind, shape, start, end in entries:
            if start != place or end > room:
                refuse(path, name, f"has the bytes {start} to {end} of {room}, where {place} is due: tensors must follow each other without holes")
            array = np.frombuffer(file.read(end - start), _SAFE[kind]).reshape(shape)
            found[name] = from_bfloat16(array) if kind == "BF16" else array.astype(array.dtype.newbyteorder("="), copy=False)
            place = end
        if place != room:
            refuse(path, "data", f"has {room} bytes, the header describes {place}")
    return {name: found[name] for name in header}


def _entry(path: str, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, start and end of one tensor, checked."""
    if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
        refuse(path, name, "must have dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _SAFE:
        refuse(path, name, f"dtype must be one of {', '.join(_SAFE)}, got {str(kind)[:40]!r}")
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= 32 else [None]
    if any(type(n) is not int or not 0 <= n < 1 << 62 for n in numbers):
        refuse(path, name, "shape and data_offsets must be lists of integers of at least 0")
    if offsets[1] - offsets[0] != prod(shape) * np.dtype(_SAFE[kind]).itemsize:
        refuse(path, name, f"shape {shape} of {kind} does not take {offsets[1] - offsets[0]} bytes")
    return kind, tuple(shape), offsets[0], offsets[1]


def _write_safetensors(path: str, tensors: dict[str, np.ndarray]) -> None:
    kinds = {np.dtype(code): kind for kind, code in _SAFE.items() if kind != "BF16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, array in tensors.items():
        header[name] = {"dtype": kinds[array.dtype.newbyteorder("<")], "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name; objects are refused."""
    path = os.fspath(path)
    with opened_archive(path) as archive:
        if len(archive.names) > MAX_TENSORS:
            refuse(path, "archive", f"has {len(archive.names)} arrays, more than the {MAX_TENSORS} allowed")
        return {name.removesuffix(".npy"): _npy(path, name, archive.read(name)) for name in archive.names}


def _npy(path: str, member: str, content: bytes) -> np.ndarray:
    start = {b"\x93NUMPY\x01\x00": 10, b"\x93NUMPY\x02\x00": 12}.get(content[:8], 0)
    size = int.from_bytes(content[8:start], "little")
    match = _NPY_HEADER.fullmatch(content[start : start + size]) if start else None
    if match is None:
        refuse(path, member, "not an array in NumPy's format 1.0 or 2.0 of one plain type")
    with as_format_error(path, member):
        dtype = check_dtype(path, member, match["type"].decode())
        shape = tuple(int(n) for n in match["shape"].split(b",") if n.strip())
        wanted, stored = check_size(path, member, shape, dtype.itemsize, len(content)), len(content) - start - size
        if wanted != stored:
            refuse(path, member, f"shape {shape} of {dtype} needs {wanted} bytes, the member holds {stored}")
        array = np.frombuffer(content, dtype, offset=start + size).reshape(shape, order="F" if match["columns"] == b"True" else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)
