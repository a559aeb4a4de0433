"""HDF5 files, read with care: hard links to plain datasets alone, and sizes known before memory is asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from rnnfast.interop.bounds import MAX_TEXT, as_format_error, check_dtype, check_size, extra, refuse

MAX_OBJECTS = 20_000
MAX_DEPTH = 60


class Tree:
    """The datasets and groups of an open file, by their paths.

    Parameters
    ----------
    path : str
        As errors name the file.
    file : h5py.File
    stored : int
        Bytes of the file.

    Attributes
    ----------
    datasets : dict of str to h5py.Dataset
        Those not taken yet.
    groups : dict of str to h5py.Group
    """

    def __init__(self, path: str, file: Any, stored: int) -> None:
        self.path, self.stored, self.read = path, stored, 0
        self.h5py = extra("h5py", "keras", "reading HDF5")
        self.datasets: dict[str, Any] = {}
        self.groups: dict[str, Any] = {"": file["/"]}
        self.seen = {self._address(file["/"])}
        pending = [("", file["/"], 0)]
        while pending:
            name, group, depth = pending.pop()
            if depth > MAX_DEPTH:
                refuse(path, name, f"groups are nested more than {MAX_DEPTH} deep")
            if len(self.datasets) + len(self.groups) + len(group) > MAX_OBJECTS:  # before the names of all are read
                refuse(path, name or "/", f"holds {len(group)} of more than {MAX_OBJECTS} objects")
            for child in group:
                self._add(f"{name}/{child}".lstrip("/"), group, child, pending, depth + 1)

    def _address(self, group: Any) -> int:
        return int(self.h5py.h5o.get_info(group.id).addr)

    def _add(self, name: str, group: Any, child: str, pending: list[Any], depth: int) -> None:
        link = group.get(child, getlink=True)
        if not isinstance(link, self.h5py.HardLink):
            refuse(self.path, name, f"is a {type(link).__name__}; links to other places are not followed")
        found = group[child]
        if len(self.datasets) + len(self.groups) >= MAX_OBJECTS:
            refuse(self.path, name, f"is one of more than {MAX_OBJECTS} objects")
        if isinstance(found, self.h5py.Group):
            address = self._address(found)
            if address in self.seen:
                refuse(self.path, name, "is a group that is there twice")
            self.seen.add(address)
            self.groups[name] = found
            pending.append((name, found, depth))
        elif isinstance(found, self.h5py.Dataset):
            self.datasets[name] = found
        else:
            refuse(self.path, name, f"is a {type(found).__name__}, which is neither a group nor an array")

    def take(self, name: str) -> np.ndarray:
        """An array, in this machine's byte order."""
        if name not in self.datasets:
            near = [other for other in self.datasets if other.rpartition("/")[0] == name.rpartition("/")[0]]
            refuse(self.path, name, f"is missing; there {'is' if len(near) == 1 else 'are'} {', '.join(sorted(near)[:5]) or 'nothing'}")
        found = self.datasets.pop(name)
        with as_format_error(self.path, name):
            if found.external or found.is_virtual:
                refuse(self.path, name, "its values lie in other files, which are not opened")
            if found.id.get_create_plist().get_nfilters():
                refuse(self.path, name, "is compressed, as Keras writes nothing; save it again without compression")
            dtype = check_dtype(self.path, name, found.dtype)
            held = min(self.stored, found.id.get_storage_size())
            self.read += check_size(self.path, name, found.shape, dtype.itemsize, held)
            if found.chunks:
                check_size(self.path, name, found.chunks, dtype.itemsize, held)
            check_size(self.path, name, (self.read,), 1, self.stored)
            array: np.ndarray = found[()]
            return np.asarray(array, dtype.newbyteorder("="))

    def attribute(self, group: str, name: str) -> Any:
        """An attribute of a group: text, or a list of texts; None where there is none."""
        attributes = self.groups[group].attrs
        member = f"{group}@{name}"
        with as_format_error(self.path, member):
            if name not in attributes:
                return None
            found = attributes.get_id(name)
            count = prod(found.shape or ())
            if count == 0:
                return []
            if found.get_storage_size() > MAX_TEXT or count > MAX_OBJECTS or found.dtype.kind not in "SO":
                refuse(self.path, member, "must be a text, or a list of texts, of an ordinary size")
            value = attributes[name]
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in np.ravel(value)]
        return texts if np.ndim(value) else texts[0]

    def texts(self, group: str, name: str) -> list[str] | None:
        """A list of texts, which Keras cuts into attributes `name0`, `name1`, ... where it is long."""
        whole = self.attribute(group, name)
        if whole is not None:
            return list(whole) if isinstance(whole, list) else [whole]
        found: list[str] | None = None
        for i in range(MAX_OBJECTS):
            part = self.attribute(group, f"{name}{i}")
            if not isinstance(part, list):
                break
            found = (found or []) + part
        return found


@contextmanager
def opened(path: str | os.PathLike[str], content: bytes | None = None) -> Iterator[Tree]:
    """The tree of a file, or of one inside an archive, whose bytes are given."""
    path = os.fspath(path)
    h5py = extra("h5py", "keras", "reading HDF5")
    with io.BytesIO(content) if content is not None else open(path, "rb") as stream, as_format_error(path, "HDF5"):
        stored = len(content) if content is not None else os.fstat(stream.fileno()).st_size  # type: ignore[union-attr]
        with h5py.File(stream, "r") as file:
            yield Tree(path, file, stored)
