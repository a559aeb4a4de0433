"""What a serialized message takes once protobuf has parsed it, counted before anything is made of it: an empty message is two bytes in a file and a hundred in memory."""

from __future__ import annotations

from functools import cache
from typing import Any

from rnnfast.interop.bounds import refuse

MAX_PARTS = 84 << 20
_SCALAR, _TEXT = 32, 96  # bytes at most, with Python's objects; an upper bound of the fields is one of the time too
_NUMBER, _LISTED = 32, 64  # in arrays that grow; and in attributes, which become lists
_WIDTHS = {1: 8, 2: 4, 6: 8, 7: 4, 15: 4, 16: 8}  # of the types of fields that are not of varying length
_OTHER = _TEXT, None, 0


@cache
def _fields(kind: Any) -> dict[int, tuple[int, Any, float]]:
    """For each number of a field: bytes of memory for one occurrence, what it holds if that is a message, and bytes of memory for each byte of packed numbers."""
    found: dict[int, tuple[int, Any, float]] = {}
    for number, field in kind.fields_by_number.items():
        if field.message_type is not None:
            found[number] = 48 + 8 * len(field.message_type.fields), field.message_type, 0
        elif field.cpp_type == field.CPPTYPE_STRING:
            found[number] = (_SCALAR, None, 0) if kind.name == "StringStringEntryProto" else _OTHER
        else:
            each = _LISTED if kind.name == "AttributeProto" else 0 if field.type in _WIDTHS else _NUMBER
            found[number] = max(each, _SCALAR), None, each / _WIDTHS.get(field.type, 1)
    return found


def check_parts(label: str, content: bytes, kind: Any) -> None:
    """Refuse a message of the type `kind` whose parts, all but the bytes of tensors, would take more than `MAX_PARTS`."""
    left, at, end = float(MAX_PARTS), 0, len(content)
    fields, outer = _fields(kind), list[tuple[int, Any]]()
    try:
        while at < end or outer:
            if at == end:
                end, fields = outer.pop()
                continue
            tag, at = _varint(content, at)
            cost, inner, each = fields.get(tag >> 3, _OTHER)
            left -= cost
            match tag & 7:
                case 0:
                    _, at = _varint(content, at)
                case 1:
                    at += 8
                case 5:
                    at += 4
                case 2:
                    size, at = _varint(content, at)
                    left -= size * each
                    if inner is None:
                        at += size
                    else:
                        outer.append((end, fields))
                        end, fields = at + size, _fields(inner)
                case wire:
                    refuse(label, "model", f"not a whole ONNX file (a field of kind {wire})")
            if left < 0:
                refuse(label, "model", f"its parts would take more than the {MAX_PARTS} bytes allowed; numbers are small as raw_data")
            if at > end or (outer and end > outer[-1][0]):
                raise IndexError
    except IndexError:
        refuse(label, "model", f"not a whole ONNX file (cut off at byte {min(at, len(content))})")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    byte = content[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while byte > 127 and shift < 70:
        at += 1
        byte = content[at]
        value |= (byte & 127) << shift
        shift += 7
    return value, at + 1
