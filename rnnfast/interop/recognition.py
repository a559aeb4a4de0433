"""What kind of file this is, by its first bytes and, of an archive, by its members' names."""

from __future__ import annotations

import json
import os
import re
import zipfile

from rnnfast.errors import FormatError
from rnnfast.interop.bounds import MAX_TEXT, refuse
from rnnfast.models.saving import open_zip

_HDF5 = b"\x89HDF\r\n\x1a\n"
_OLD_TORCH = re.compile(rb"\x80[\x02-\x05]")
MAX_OBJECTS = 112 << 20
_COSTS = {b"{": 200, b"[": 100, b",": 52, b":": 120, b'"': 30}  # bytes of Python's objects, at most, that come with one of these signs
KNOWN = ".rnnf, .keras, Keras .h5, ONNX, RTNeural JSON, .nam, .safetensors, PyTorch .pt, .npz"


def recognize(path: str | os.PathLike[str]) -> str:
    """The format of a file: "rnnf", "keras", "h5", "onnx", "rtneural", "nam", "pt", "safetensors" or "npz"."""
    path = os.fspath(path)
    with open(path, "rb") as file:
        head = file.read(16)
        if head.startswith(b"PK"):
            return _archive(path)
        if _HDF5 in (head[:8], *(_at(file, 512 << i) for i in range(3))):
            return "h5"
        if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= os.fstat(file.fileno()).st_size:
            return "safetensors"
        if head.lstrip()[:1] == b"{":
            return _json(path)
    if _OLD_TORCH.match(head):
        refuse(path, "pickle", "a bare pickle is not read, since it can run code; save the state dict with torch.save of PyTorch 1.6 or newer")
    if head[:1] in (b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42"):  # the first field of a protobuf message that can be a model
        return "onnx"
    raise FormatError(f"{path}: header: not a file of a known format. Known: {KNOWN}.")


def _at(file: object, place: int) -> bytes:
    file.seek(place)  # type: ignore[attr-defined]
    return file.read(8)  # type: ignore[attr-defined,no-any-return]


def _archive(path: str) -> str:
    try:
        with open_zip(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, RuntimeError, EOFError) as error:
        raise FormatError(f"{path}: archive: not a whole zip file ({error}).") from error
    if "manifest.json" in names:
        return "rnnf"
    if "config.json" in names:
        return "keras" if "metadata.json" in names or "model.weights.h5" in names else "rnnf"
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        return "pt"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise FormatError(f"{path}: archive: not a file of a known format. Known: {KNOWN}.")


def _json(path: str) -> str:
    """By the names in the text, which takes a hundredth of the time that parsing does; the reader looks closer."""
    text = _text(path)
    if b'"architecture"' in text:
        return "nam"
    if b'"layers"' in text or b'weight_ih_l0"' in text:
        return "rtneural"
    raise FormatError(f"{path}: JSON: must have 'layers' (RTNeural) or 'architecture' (NAM), got {sorted(parse_json(path, 'JSON', text))[:8]}.")


def _text(path: str) -> bytes:
    size = os.path.getsize(path)
    if size > MAX_TEXT:
        refuse(path, "JSON", f"{size} bytes are more than the {MAX_TEXT} allowed")
    with open(path, "rb") as file:
        return file.read()


def read_json(path: str | os.PathLike[str]) -> dict[str, object]:
    """The object in a JSON file, not larger than `MAX_TEXT`."""
    path = os.fspath(path)
    return parse_json(path, "JSON", _text(path))


def parse_json(path: str, member: str, text: bytes) -> dict[str, object]:
    """The object that `text` holds; names that occur twice, endless nesting, and more than fits `MAX_OBJECTS` bytes of memory are refused."""
    cost = len(text) * (2 if text.isascii() else 6) + sum(size * text.count(sign) for sign, size in _COSTS.items())
    if cost > MAX_OBJECTS:
        refuse(path, member, f"its values would take up to {cost} bytes of memory, more than the {MAX_OBJECTS} allowed")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            refuse(path, member, "a name occurs twice in one object")
        return found

    try:
        found = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: {member}: not whole JSON ({error}).") from error
    if not isinstance(found, dict):
        refuse(path, member, f"must be a JSON object, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]
