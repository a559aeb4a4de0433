"""The pickle inside PyTorch's `.pt` files: read by a machine that calls nothing, and written for tensors alone.

The machine has 31 opcodes, those that `torch.save` writes for dicts, lists, numbers, text and tensors, and three kinds of globals: ``collections.OrderedDict``,
``torch._utils._rebuild_tensor_v2`` and the markers ``torch.FloatStorage`` and its like. None of them is looked up or called: they are words that it knows.
A Parameter (``_rebuild_parameter``), a ``torch.Size``, a module, an object of NumPy are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rnnfast.interop.bounds import refuse

MAX_PICKLE, MAX_OPS = 16 << 20, 250_000
STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2",
    "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
_ORDERED, _TENSOR = ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")


@dataclass(frozen=True)
class Storage:
    """Numbers in a member of the archive."""

    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class View:
    """A tensor: which elements of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Ordered(dict[Any, Any]):
    """What ``OrderedDict()`` of a file becomes."""


@dataclass(frozen=True)
class _Word:
    """A global."""

    module: str
    name: str


class Machine:
    """Reads one pickle. It builds dicts, lists, tuples, numbers, text and :class:`View`; it calls nothing."""

    def __init__(self, path: str, member: str, text: bytes) -> None:
        self.path, self.member, self.text, self.at = path, member, text, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def refuse(self, reason: str) -> Any:
        refuse(self.path, self.member, f"{reason} (byte {self.at})")

    def take(self, count: int) -> bytes:
        found = self.text[self.at : self.at + count]
        if len(found) < count:
            self.refuse("is cut off")
        self.at += count
        return found

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def run(self) -> Any:
        for _ in range(MAX_OPS):
            code = self.take(1)
            if code == b".":
                break
            if code not in _OPS:
                self.refuse(f"opcode {code!r} is none that a state dict needs; save module.state_dict() with torch.save and its default protocol")
            _OPS[code](self)
        else:
            self.refuse(f"has more than {MAX_OPS} operations")
        if len(self.stack) != 1 or self.below or self.at != len(self.text):
            self.refuse("does not end with one object")
        return self.stack[0]

    # -- what the opcodes do ---------------------------------------------------------------------------------------------------

    def protocol(self) -> None:
        if self.take(1) != b"\x02":
            self.refuse("must have protocol 2, the default of torch.save")

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            self.refuse("takes more from the stack than there is")
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def tuple_since_mark(self) -> None:
        found = tuple(self.since_mark())
        self.stack.append(found)

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, _Ordered) or len(pairs) % 2 or any(type(key) not in (str, int) for key in pairs[::2]):
            self.refuse("sets items of what is no dict, or by keys that are no text")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))
        if len(target) > MAX_OPS:
            self.refuse("has too many items")

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self.refuse("appends to what is no list")
        self.stack[-1].extend(values)

    def word(self) -> None:
        end = self.text.find(b"\n", self.at, self.at + 200)
        stop = self.text.find(b"\n", end + 1, end + 200)
        if min(end, stop) < 0:
            self.refuse("has a global without a name")
        module, name = self.text[self.at : end].decode(), self.text[end + 1 : stop].decode()
        self.at = stop + 1
        if (module, name) not in (_ORDERED, _TENSOR) and not (module == "torch" and name in STORAGES):
            self.refuse(f"names {module}.{name}, and nothing but tensors in dicts is read: save module.state_dict(), whose values are plain dense tensors of floats, not the module itself")
        self.stack.append(_Word(module, name))

    def persistent(self) -> None:
        given = self.stack.pop()
        good = type(given) is tuple and len(given) == 5 and [type(one) for one in given] == [str, _Word, str, str, int]
        if not good or given[0] != "storage" or given[1].name not in STORAGES or given[4] < 0:
            self.refuse("a storage must be ('storage', type, key, place, size)")
        found = Storage(given[1].name, given[2], given[4])
        if self.storages.setdefault(found.key, found) != found:
            self.refuse(f"storage {found.key[:40]!r} has two sizes or types")
        self.stack.append(found)

    def reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if type(called) is not _Word or type(arguments) is not tuple:
            self.refuse("calls what is no function of a state dict")
        if (called.module, called.name) == _ORDERED and not arguments:
            self.stack.append(_Ordered())
        elif (called.module, called.name) == _TENSOR:
            self.stack.append(self.view(arguments))
        else:
            self.refuse(f"calls {called.module}.{called.name} with what it does not take")

    def view(self, arguments: tuple[Any, ...]) -> View:
        if len(arguments) != 6 or type(arguments[0]) is not Storage or type(arguments[5]) is not _Ordered or arguments[5]:
            self.refuse("a tensor must be dense, without hooks and without marks of its own")
        storage, offset, shape, strides = arguments[:4]
        numbers = [offset, *shape, *strides] if type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides) <= 32 else [None]
        if any(type(n) is not int or not 0 <= n < 1 << 62 for n in numbers):
            self.refuse("a tensor's offset, shape and strides must be integers of at least 0, one stride an axis")
        if 0 not in shape:
            reach = 0
            for stride, n in sorted((stride, n) for stride, n in zip(strides, shape, strict=True) if n > 1):
                if stride <= reach:
                    self.refuse(f"strides {strides} of shape {shape} overlap; save tensor.contiguous()")
                reach += (n - 1) * stride
            if offset + reach >= storage.size:
                self.refuse(f"shape {shape}, strides {strides} from {offset} lead out of a storage of {storage.size}")
        return View(storage, offset, shape, strides)

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not _Ordered or type(state) is not dict or list(state) != ["_metadata"]:
            self.refuse("sets attributes, which only the versions ('_metadata') of a state dict are")

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))


_OPS: dict[bytes, Any] = {
    b"\x80": Machine.protocol, b"(": Machine.mark, b"c": Machine.word, b"Q": Machine.persistent, b"R": Machine.reduce, b"b": Machine.build, b"\x8a": Machine.long,
    b"}": lambda m: m.stack.append({}), b"]": lambda m: m.stack.append([]), b")": lambda m: m.stack.append(()),
    b"N": lambda m: m.stack.append(None), b"\x88": lambda m: m.stack.append(True), b"\x89": lambda m: m.stack.append(False),
    b"t": Machine.tuple_since_mark, b"\x85": lambda m: m.tuple_of(1), b"\x86": lambda m: m.tuple_of(2), b"\x87": lambda m: m.tuple_of(3),
    b"u": lambda m: m.items(m.since_mark()), b"s": lambda m: m.items([m.stack.pop(-2), m.stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()), b"a": lambda m: m.append([m.stack.pop()]),
    b"X": lambda m: m.stack.append(m.take(m.number("<I")).decode()), b"G": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    b"K": lambda m: m.stack.append(m.number("<B")), b"M": lambda m: m.stack.append(m.number("<H")), b"J": lambda m: m.stack.append(m.number("<i")),
    b"q": lambda m: m.put("<B"), b"r": lambda m: m.put("<I"),
    b"h": lambda m: m.stack.append(m.memo[m.number("<B")]), b"j": lambda m: m.stack.append(m.memo[m.number("<I")]),
}  # fmt: skip


# Writing


def write_pickle(tensors: Iterable[tuple[str, str, tuple[int, ...], list[int], int]]) -> bytes:
    """The pickle of an OrderedDict of contiguous tensors, given as (name, storage's type, shape, strides, elements); the first has storage "0"."""
    text = [b"\x80\x02", _global(*_ORDERED), b")R("]
    for key, (name, kind, shape, strides, size) in enumerate(tensors):
        text += [_text(name), _global(*_TENSOR), b"((", _text("storage"), _global("torch", kind), _text(str(key)), _text("cpu"), _integer(size), b"tQ"]
        text += [_integer(0), _integers(shape), _integers(strides), b"\x89", _global(*_ORDERED), b")RtR"]
    return b"".join([*text, b"u."])


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little")


def _integers(values: Any) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
