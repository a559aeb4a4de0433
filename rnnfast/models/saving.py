"""The native file format: one zip archive that holds a configuration and named arrays, and proves that it is whole.

Members, in this order, stored without compression and dated 1980, so that equal contents make equal files:

=================== =============================================================================================
``manifest.json``   ``{"format": "rnnfast", "version": 1, "members": {name: {"size": ..., "sha256": ...}}}``
``config.json``     a JSON object; floats are written so that they come back exactly
``<name>.npy``      one a named array, in NumPy's format 1.0, sorted by name
=================== =============================================================================================

The archive's comment is ``rnnfast sha256`` and the digest of all bytes before it, so a flipped bit anywhere is found.
Nothing in a file is ever executed, unpickled or unpacked to disk, and every size is checked before memory is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from rnnfast.errors import FormatError

__all__ = ["load_archive", "replacing", "save_archive"]

VERSION = 1
MAX_BYTES = 4 << 30
_MAX_DIRECTORY = 4 << 20  # of a zip file: at least 46 bytes a member, of which zipfile makes up to ten times as many
_MAX_TEXT = 64 << 20
_COMMENT = b"rnnfast sha256 "
_DIGITS = 64
_CHUNK = 1 << 20
_DTYPES = frozenset("|b1 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8 <f2 <f4 <f8".split())
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), \} *\n"
)


def save_archive(path: str | os.PathLike[str], config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], overwrite: bool = True) -> None:
    """Write a configuration and arrays to one file, all or nothing.

    The bytes go to a new file beside `path`, which is flushed to the disk and then takes its name, with the permissions
    of the file it replaces. Whatever stops this, the old file is there as it was. A symbolic link at `path` is
    replaced, not followed.

    Parameters
    ----------
    path : str or path
    config : mapping
        Of JSON types; NumPy scalars are written as Python's.
    arrays : mapping of str to ndarray
        Booleans, integers and floats. Names are relative paths such as ``"weights/gru/kernel"``.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    FileExistsError
        If one is there and not to be replaced.
    ValueError
        For names and types that the format does not have.
    OSError
        When the disk is full or not writable.
    """
    path = os.fspath(path)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(f"{path!r} is there already. Give another name, or overwrite=True to replace it.")
    text = json.dumps(config, default=_plain, sort_keys=True).encode()
    written = {f"{name}.npy": _to_native(name, np.asarray(array)) for name, array in sorted(arrays.items())}
    members = {"config.json": {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}}
    for name, array in written.items():
        header = _npy_header(array)
        digest = hashlib.sha256(header)
        digest.update(_bytes_of(array))
        members[name] = {"size": len(header) + array.nbytes, "sha256": digest.hexdigest()}
    manifest = json.dumps({"format": "rnnfast", "version": VERSION, "members": members}, sort_keys=True).encode()
    with replacing(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _write_member(archive, "manifest.json", manifest)
            _write_member(archive, "config.json", text)
            for name, array in written.items():
                _write_member(archive, name, _npy_header(array), _bytes_of(array))
            archive.comment = _COMMENT + b"0" * _DIGITS
        digits = _digest(file).encode()
        file.seek(-_DIGITS, os.SEEK_END)
        file.write(digits)


def load_archive(
    path: str | os.PathLike[str], max_bytes: int = MAX_BYTES
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file that :func:`save_archive` wrote.

    Parameters
    ----------
    path : str or path
    max_bytes : int
        A file whose members are larger in sum is refused before memory is taken for it.

    Returns
    -------
    config : dict
    arrays : dict of str to ndarray
        New arrays, by the names they were saved under.

    Raises
    ------
    FormatError
        When the file is anything but what was written; the text names the file, the member and the reason.
    OSError
        When it cannot be opened or read.
    """
    path = os.fspath(path)
    with open(path, "rb") as file, _as_format_error(path, "archive"):
        with open_zip(file.fileno()) as archive:  # what is read is what is checked below
            infos = _checked_infos(path, archive, os.fstat(file.fileno()).st_size, max_bytes)
            members = _manifest_members(path, archive, infos)
            config = _read_json(path, archive, infos["config.json"], members["config.json"])
            arrays = {
                name.removesuffix(".npy"): _read_array(path, archive, info, members[name])
                for name, info in infos.items()
                if name not in ("manifest.json", "config.json")
            }
        file.seek(-_DIGITS, os.SEEK_END)
        if file.read() != _digest(file).encode():
            raise _error(path, "archive", "the checksum of the whole file does not match; it is damaged")
    return config, arrays


# Writing


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise ValueError(f"save: config must hold JSON types, got {value!r} of type {type(value).__name__}.")


def _to_native(name: str, array: np.ndarray) -> np.ndarray:
    if not _is_safe(name):
        raise ValueError(f"save: an array's name must be a relative path of printable characters, got {name!r}.")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    if array.dtype.str not in _DTYPES:
        raise ValueError(f"save: array {name!r} must hold booleans, integers or floats, got dtype {array.dtype}.")
    return array


def _npy_header(array: np.ndarray) -> bytes:
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}".encode()
    # NumPy wants the data to start at a multiple of 64.
    padded = text.ljust(-(-(len(_NPY_MAGIC) + 2 + len(text) + 1) // 64) * 64 - len(_NPY_MAGIC) - 3) + b"\n"
    return _NPY_MAGIC + struct.pack("<H", len(padded)) + padded


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _write_member(archive: zipfile.ZipFile, name: str, *parts: bytes | memoryview) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    info.file_size = sum(len(part) for part in parts)
    with archive.open(info, "w") as member:
        for part in parts:
            for start in range(0, len(part), _CHUNK):
                member.write(part[start : start + _CHUNK])


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the name `path` when the block ends well, and vanishes when it does not."""
    folder, base = os.path.split(os.path.abspath(path))
    draft = os.path.join(folder, f".{base}.{os.urandom(6).hex()}.tmp")
    try:
        with open(draft, "x+b") as file:
            try:
                with contextlib.suppress(FileNotFoundError):
                    found = os.lstat(path).st_mode
                    if stat.S_ISREG(found):
                        os.chmod(draft, stat.S_IMODE(found))
                yield file
                file.flush()
                os.fsync(file.fileno())
                file.close()  # some systems do not rename an open file
                os.replace(draft, path)
            except BaseException:
                file.close()
                with contextlib.suppress(OSError):
                    os.unlink(draft)
                raise
    except OSError as error:
        if error.filename == draft:  # which says nothing to a caller
            raise type(error)(error.errno, error.strerror, path) from None
        raise
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# Reading


class _Unread(io.BufferedReader):
    """A file of which zipfile cannot read a large directory: it asks for all of it at once, wherever the file's end says that it is."""

    limit = _MAX_DIRECTORY

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > self.limit:
            raise zipfile.BadZipFile(f"its list of members has {size} bytes, more than the {self.limit} allowed")
        return super().read(size)


@contextlib.contextmanager
def open_zip(path: str | int) -> Iterator[zipfile.ZipFile]:
    """A zip file, by its path or its descriptor, which stays open, unless it has so many members that only their names would take seconds."""
    with _Unread(io.FileIO(path, closefd=isinstance(path, str))) as file, zipfile.ZipFile(file) as archive:
        file.limit = MAX_BYTES
        yield archive


def _error(path: str, member: str, reason: str) -> FormatError:
    return FormatError(f"{path}: {member}: {reason}.")


@contextlib.contextmanager
def _as_format_error(path: str, member: str) -> Iterator[None]:
    """Turn what the standard library says about broken files into a FormatError."""
    try:
        yield
    except FormatError:
        raise
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise _error(path, member, f"not a whole rnnfast file ({error})") from error
    except (struct.error, KeyError, IndexError) as error:
        raise _error(path, member, f"not a whole rnnfast file ({type(error).__name__})") from error


def _is_safe(name: str) -> bool:
    return (
        0 < len(name) <= 500
        and name.isprintable()
        and not set('\\:*?"<>|') & set(name)
        and not any(part in ("", ".", "..") for part in name.split("/"))
    )


def _checked_infos(path: str, archive: zipfile.ZipFile, file_size: int, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name in infos:
            raise _error(path, name, "the name occurs twice")
        if not _is_safe(name) or not (name.endswith(".npy") or name in ("manifest.json", "config.json")):
            raise _error(path, repr(name), "the name is not one of this format")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise _error(path, name, "compressed or encrypted members are not part of this format")
        if not 0 <= info.header_offset < file_size:
            raise _error(path, name, "its place is not inside the file; it is cut off or damaged")
        infos[name] = info
    for name in ("manifest.json", "config.json"):
        if name not in infos:
            raise _error(path, name, "missing; this is not an rnnfast file or it is cut off")
        if infos[name].file_size > _MAX_TEXT:
            raise _error(path, name, f"{infos[name].file_size} bytes are more than the {_MAX_TEXT} allowed")
    total = sum(info.file_size for info in infos.values())
    if total > file_size:
        raise _error(path, "archive", f"members claim {total} bytes in a file of {file_size}")
    if total > max_bytes:
        raise _error(path, "archive", f"{total} bytes are more than max_bytes={max_bytes}")
    return infos


def _manifest_members(
    path: str, archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]
) -> dict[str, tuple[int, str]]:
    manifest = _read_json(path, archive, infos["manifest.json"], None)
    if manifest.get("format") != "rnnfast":
        raise _error(path, "manifest.json", f"format must be 'rnnfast', got {manifest.get('format')!r}")
    if manifest.get("version") != VERSION:
        raise _error(
            path, "manifest.json", f"version {manifest.get('version')!r} is not {VERSION}; install a newer rnnfast"
        )
    listed = manifest.get("members")
    if not isinstance(listed, dict) or set(listed) != set(infos) - {"manifest.json"}:
        names = set(listed) if isinstance(listed, dict) else set()
        odd = sorted(names ^ (set(infos) - {"manifest.json"})) or ["manifest.json"]
        raise _error(path, odd[0], "the manifest and the archive do not list the same members")
    members = {}
    for name, entry in listed.items():
        size, digest = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if size != infos[name].file_size or not isinstance(digest, str):
            raise _error(path, name, f"has {infos[name].file_size} bytes, the manifest says {size!r}")
        members[name] = (infos[name].file_size, digest)
    return members


def _read_json(
    path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: tuple[int, str] | None
) -> dict[str, Any]:
    with _as_format_error(path, info.filename):
        text = archive.read(info)
        if entry is not None:
            _check_digest(path, info.filename, hashlib.sha256(text).hexdigest(), entry)
        found = json.loads(text)
    if not isinstance(found, dict):
        raise _error(path, info.filename, f"must be a JSON object, got {type(found).__name__}")
    return found


def _read_array(path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: tuple[int, str]) -> np.ndarray:
    name = info.filename
    member: Any
    with _as_format_error(path, name), archive.open(info) as member:
        start = member.read(len(_NPY_MAGIC) + 2)
        if len(start) < len(_NPY_MAGIC) + 2 or not start.startswith(_NPY_MAGIC):
            raise _error(path, name, "not an array in NumPy's format 1.0")
        header = member.read(struct.unpack("<H", start[-2:])[0])
        match = _NPY_HEADER.fullmatch(header)
        descr = match[1].decode() if match else ""
        if match is None or descr not in _DTYPES:
            raise _error(path, name, "the array's header is not one that this format has")
        shape = tuple(int(size) for size in match[2].split(b",") if size.strip())
        wanted = math.prod(shape) * int(descr[2])
        if wanted != info.file_size - len(start) - len(header):
            raise _error(path, name, f"shape {shape} of {descr!r} needs {wanted} bytes, the member holds others")
        array = np.empty(shape, descr)
        content = _bytes_of(array)
        filled = 0
        while filled < wanted:
            count = member.readinto(content[filled : filled + _CHUNK])
            if not count:
                raise _error(path, name, "cut off")
            filled += count
        digest = hashlib.sha256(start + header)
        digest.update(content)
        _check_digest(path, name, digest.hexdigest(), entry)
    return array


def _check_digest(path: str, name: str, found: str, entry: tuple[int, str]) -> None:
    if found != entry[1]:
        raise _error(path, name, "the checksum does not match; the file is damaged")


def _digest(file: IO[bytes]) -> str:
    """The digest of everything but the last digits, which are its place."""
    left = file.seek(0, os.SEEK_END) - _DIGITS
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()
