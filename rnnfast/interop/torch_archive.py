"""PyTorch's `.pt` files, read and written without PyTorch and without `pickle`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from math import prod
from typing import Any, Literal

import numpy as np

from rnnfast.interop._torch_pickle import MAX_PICKLE, STORAGES, Machine, View, write_pickle
from rnnfast.interop.bounds import Archive, as_format_error, opened_archive, refuse
from rnnfast.models.saving import replacing

MAX_MEMBERS, MAX_TENSORS = 20_000, 4000
SHARED = 4  # times that a number can be part of tensors, as in tied weights
_NESTED = ("state_dict", "model_state_dict", "model")
_DATES = (1980, 1, 1, 0, 0, 0)


def read_pt(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of the state dict in a `.pt` file, by name and in their order.

    The state dict is the saved object itself, or what a saved dict has under one of "state_dict", "model_state_dict" and "model"; what stands beside it, such as
    an optimizer's state, is left alone.

    Raises
    ------
    FormatError
        If the file is damaged, hostile, or holds something else.
    """
    path = os.fspath(path)
    with opened_archive(path) as archive:
        names = archive.names
        roots = [name.removesuffix("data.pkl") for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(roots) != 1 or len(names) > MAX_MEMBERS:
            refuse(path, "archive", f"must hold one data.pkl and at most {MAX_MEMBERS} members, got {len(roots)} and {len(names)}")
        root = roots[0]
        if f"{root}constants.pkl" in names or any(name.startswith(f"{root}code/") for name in names):
            refuse(path, "archive", "a TorchScript model, which is code; save module.state_dict() with torch.save")
        member = f"{root}data.pkl"
        machine = Machine(path, member, archive.read(member, MAX_PICKLE))
        with as_format_error(path, member):
            views = _state_dict(path, machine.run())
        order = archive.read(f"{root}byteorder", 16).strip() if f"{root}byteorder" in names else b"little"
        if order not in (b"little", b"big"):
            refuse(path, f"{root}byteorder", "must be 'little' or 'big'")
        arrays = _arrays(path, archive, root, views, "<" if order == b"little" else ">")
        unused = [name for name in names if name.startswith(f"{root}data/") and name.removeprefix(f"{root}data/") not in machine.storages]
        if unused:
            refuse(path, unused[0], "belongs to no tensor")
        return arrays


def _state_dict(path: str, found: Any) -> dict[str, View]:
    """The dict of tensors in what a file holds."""
    if isinstance(found, dict) and not any(type(value) is View for value in found.values()):
        keys = [key for key in _NESTED if isinstance(found.get(key), dict)]
        if len(keys) != 1:
            refuse(path, "data.pkl", f"must be a state dict, or hold one under one of {', '.join(_NESTED)}; got a dict of {[str(key)[:40] for key in list(found)[:8]]}")
        found = found[keys[0]]
    if not isinstance(found, dict) or not found:
        refuse(path, "data.pkl", f"must be a state dict with tensors, got {'an empty one' if isinstance(found, dict) else 'a ' + type(found).__name__}")
    if len(found) > MAX_TENSORS:
        refuse(path, "data.pkl", f"has {len(found)} tensors, more than the {MAX_TENSORS} allowed")
    odd = next((name for name, value in found.items() if type(name) is not str or type(value) is not View), None)
    if odd is not None:
        refuse(path, "data.pkl", f"entry {str(odd)[:80]!r} of the state dict must be a tensor, got {type(found[odd]).__name__}")
    return found


def _arrays(path: str, archive: Archive, root: str, views: dict[str, View], order: Literal["<", ">"]) -> dict[str, np.ndarray]:
    contents: dict[str, np.ndarray] = {}
    for storage in {view.storage for view in views.values()}:
        dtype = np.dtype(STORAGES[storage.kind]).newbyteorder(order)
        content = archive.read(f"{root}data/{storage.key}")
        if len(content) != storage.size * dtype.itemsize:
            refuse(path, f"{root}data/{storage.key}", f"must have {storage.size} numbers of {storage.kind}, got {len(content)} bytes")
        contents[storage.key] = np.frombuffer(content, dtype)
    wanted, stored = sum(prod(view.shape) * contents[view.storage.key].itemsize for view in views.values()), sum(base.nbytes for base in contents.values())
    if wanted > SHARED * stored:
        refuse(path, "data", f"{stored} bytes are used for {wanted} bytes of tensors, more than {SHARED} times over; save tensors that share nothing")
    found = {}
    for name, view in views.items():
        base = contents[view.storage.key]
        steps = [stride * base.itemsize for stride in view.strides]
        array = np.lib.stride_tricks.as_strided(base[view.offset :], view.shape, steps) if 0 not in view.shape else np.empty(view.shape, base.dtype)
        found[name] = from_bfloat16(array) if view.storage.kind == "BFloat16Storage" else array.astype(base.dtype.newbyteorder("="), copy=False)
    return found


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 numbers of those whose upper halves are given; exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)

def write_pt(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dict so that ``torch.load(path, weights_only=True)`` gives an OrderedDict of these tensors; atomic."""
    path = os.fspath(path)
    kinds = {np.dtype(code): kind for kind, code in STORAGES.items() if kind != "BFloat16Storage"}
    arrays = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape) for name, array in tensors.items()}
    text = write_pickle((name, kinds[a.dtype.newbyteorder("=")], a.shape, [n // a.itemsize for n in a.strides], a.size) for name, a in arrays.items())
    members = {"data.pkl": text, "byteorder": b"little"}
    members |= {f"data/{key}": array.tobytes() for key, array in enumerate(arrays.values())} | {"version": b"3\n"}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", _DATES), content)
