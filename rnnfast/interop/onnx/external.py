"""External data of ONNX files: bytes of a regular file within the model's folder, which no link leads to or out of."""

from __future__ import annotations

import os
import stat

from rnnfast.interop.bounds import refuse

KEYS = ("location", "offset", "length", "checksum")


def read_external(label: str, member: str, entries: list[tuple[str, str]], folder: str | None, wanted: int) -> bytes:
    """The `wanted` bytes of a tensor whose data stand in another file."""
    if folder is None:
        refuse(label, member, "external data are read only of a model that is given as a path")
    found = dict(entries)
    if len(found) < len(entries) or not set(found) <= set(KEYS):
        refuse(label, member, f"external data must have the entries {', '.join(KEYS)}, each once, got {[key for key, _ in entries]}")
    offset, length = _number(label, member, found.get("offset", "0")), _number(label, member, found.get("length", str(wanted)))
    if length != wanted:
        refuse(label, member, f"external data are {length} bytes, its type and shape need {wanted}")
    location = found.get("location", "")
    handle = _open(label, member, folder, location)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            refuse(label, member, f"external data in '{location}', which is not a regular file with a single name")
        if offset + length > facts.st_size:
            refuse(label, member, f"external data end at byte {offset + length} of '{location}', which has {facts.st_size}")
        with open(handle, "rb", closefd=False) as file:
            file.seek(offset)
            content = file.read(length)
    finally:
        os.close(handle)
    if len(content) != length:
        refuse(label, member, f"external data of '{location}' are cut off")
    return content


def _number(label: str, member: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        refuse(label, member, f"offset and length of external data must be whole numbers, got {text[:40]!r}")
    return int(text)


def _open(label: str, member: str, folder: str, location: str) -> int:
    """A handle of a file below the folder; no part of the way may be a link."""
    parts = location.split("/")
    if os.path.isabs(location) or not location.isprintable() or set('\\:*?"<>|') & set(location) or any(part in ("", ".", "..") for part in parts):
        refuse(label, member, f"external data outside of the model's folder: {location!r}")
    way = folder
    for part in parts:
        way = os.path.join(way, part)
        if os.path.islink(way):
            refuse(label, member, f"external data behind a link: {location!r}")
    try:
        return _follow(folder, parts)
    except OSError as error:
        refuse(label, member, f"external data in {location!r} cannot be opened ({error.strerror})")


def _follow(folder: str, parts: list[str]) -> int:
    """Open part after part, so that nothing exchanged meanwhile is followed either."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if os.open not in os.supports_dir_fd:
        return os.open(os.path.join(folder, *parts), flags)
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(parts[-1], flags, dir_fd=at)
    finally:
        os.close(at)
