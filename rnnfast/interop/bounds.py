"""What every reader keeps to: limits on sizes, checked with Python's integers before memory is asked for, and errors that name file, member and reason.

Loading never runs code from a file and never opens a second one. It takes at most `MAX_BYTES`, and above `FREE_BYTES` at most `EXPANSION` times the bytes that are stored.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any, NoReturn

import numpy as np

from rnnfast.errors import FormatError
from rnnfast.models.saving import MAX_BYTES, open_zip

MAX_TEXT = 64 << 20
FREE_BYTES = 48 << 20  # inflating takes twice as much
EXPANSION = 16
DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, MemoryError, OverflowError, RecursionError, EOFError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error)


def refuse(path: str | os.PathLike[str], member: str, reason: str) -> NoReturn:
    """Raise the one error of all readers."""
    raise FormatError(f"{os.fspath(path)}: {member}: {reason}.")


def check_size(path: str | os.PathLike[str], member: str, shape: Any, itemsize: int, stored: int) -> int:
    """Bytes of an array of `shape`, of which a file stores `stored`; negative, overflowing and hugely expanding sizes are refused."""
    sizes = [int(n) for n in shape]
    wanted = prod(sizes) * itemsize
    if any(n < 0 for n in sizes) or len(sizes) > 32 or wanted > MAX_BYTES:
        refuse(path, member, f"shape {tuple(sizes)} is not allowed")
    if wanted > max(FREE_BYTES, EXPANSION * stored):
        refuse(path, member, f"{wanted} bytes of {stored} stored ones are more than {EXPANSION} times as many, and than the {FREE_BYTES} that are always allowed")
    return wanted


def check_dtype(path: str | os.PathLike[str], member: str, dtype: Any) -> np.dtype[Any]:
    """A type of numbers that weights can have."""
    found = np.dtype(dtype)
    if found.name not in DTYPES:
        refuse(path, member, f"dtype {found} is not one of {', '.join(DTYPES)}")
    return found


class Archive:
    """The members of an open zip file: sizes, of each and of all that are read, are checked before memory is asked for.

    Parameters
    ----------
    path : str
        As errors name the file.
    members : zipfile.ZipFile

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, path: str, members: zipfile.ZipFile) -> None:
        self.path, self._members, self.names = path, members, members.namelist()
        self._counts = Counter(self.names)
        self._length = os.path.getsize(path)
        self._stored = self._expanded = 0

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """The bytes of a member."""
        if self._counts[name] != 1:
            refuse(self.path, name, "is missing, or is there twice")
        info = self._members.getinfo(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            refuse(self.path, name, f"compression {info.compress_type} is neither none nor deflate")
        self._stored, self._expanded = self._stored + info.compress_size, self._expanded + info.file_size
        if info.file_size > limit or self._stored > self._length:
            refuse(self.path, name, f"{info.file_size} bytes of {info.compress_size} stored ones are more than the file has, or than the {limit} allowed")
        check_size(self.path, f"{name} and all read before it", (self._expanded,), 1, self._stored)
        with as_format_error(self.path, name), self._members.open(info) as member:
            found = member.read(info.file_size + 1)
        if len(found) != info.file_size:
            refuse(self.path, name, f"holds {len(found)} bytes, its header says {info.file_size}")
        return found


@contextlib.contextmanager
def opened_archive(path: str) -> Iterator[Archive]:
    """The members of a zip file."""
    with as_format_error(path, "archive"), open_zip(path) as members:
        yield Archive(path, members)


@contextlib.contextmanager
def as_format_error(path: str | os.PathLike[str], member: str) -> Iterator[None]:
    """Turn what a parser says about broken content into the one error of all readers."""
    try:
        yield
    except (FormatError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except BROKEN as error:
        raise FormatError(f"{os.fspath(path)}: {member}: cannot be read ({type(error).__name__}: {error}).") from error


def extra(module: str, name: str, what: str) -> Any:
    """An optional package, or an error that names the extra that installs it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what} needs {module}: pip install 'rnnfast[{name}]'") from error
