"""What every reader keeps to: limits on sizes, checked with Python's integers before memory is asked for, and errors that name file, member and reason.

Loading never runs code from a file and never opens a second one. It takes at most `MAX_BYTES`, and above `FREE_BYTES` at most `EXPANSION` times the bytes that are stored.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from math import prod
from typing import Any, NoReturn

import numpy as np

from rnnfast.errors import FormatError
from rnnfast.models.saving import MAX_BYTES

MAX_TEXT = 64 << 20
FREE_BYTES = 64 << 20
EXPANSION = 100
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
        refuse(path, member, f"{wanted} bytes of {stored} stored ones are more than {EXPANSION} times as many")
    return wanted


def check_dtype(path: str | os.PathLike[str], member: str, dtype: Any) -> np.dtype[Any]:
    """A type of numbers that weights can have."""
    found = np.dtype(dtype)
    if found.name not in DTYPES:
        refuse(path, member, f"dtype {found} is not one of {', '.join(DTYPES)}")
    return found


def read_member(path: str | os.PathLike[str], archive: zipfile.ZipFile, name: str, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a zip member, whose size is checked first."""
    if archive.namelist().count(name) != 1:
        refuse(path, name, "is missing, or is there twice")
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(path, name, f"compression {info.compress_type} is neither none nor deflate")
    if info.file_size > limit or info.compress_size > _length(archive):
        refuse(path, name, f"{info.file_size} bytes of {info.compress_size} stored ones are more than the file has, or than the {limit} allowed")
    check_size(path, name, (info.file_size,), 1, info.compress_size)
    with as_format_error(path, name), archive.open(info) as member:
        found = member.read(info.file_size + 1)
    if len(found) != info.file_size:
        refuse(path, name, f"holds {len(found)} bytes, its header says {info.file_size}")
    return found


def _length(archive: zipfile.ZipFile) -> int:
    file: Any = archive.fp
    return int(file.seek(0, os.SEEK_END))  # each reading of a member seeks its own place


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
