"""The table of operators. A function's arguments are the operator's inputs, its keywords the attributes: by their names, types and defaults nodes are checked."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from rnnfast.errors import FormatError
from rnnfast.interop.bounds import FREE_BYTES
from rnnfast.interop.onnx.parsing import DTYPES

REQUIRED = inspect.Parameter.empty
_KINDS: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: isinstance(v, int), "float": lambda v: isinstance(v, float), "str": lambda v: isinstance(v, str),
    "ints": lambda v: isinstance(v, list) and all(isinstance(n, int) for n in v), "array": lambda v: isinstance(v, np.ndarray),
    "dtype": lambda v: v in DTYPES,
    "floats": lambda v: isinstance(v, list) and all(isinstance(n, float) for n in v),
    "strings": lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v),
}  # fmt: skip
ints = list[int]  # as attributes' types are written
dtype = Any
EXPANSION = 100  # times that one array may be larger than all that a graph has; scores of attention are as many
_allowed: ContextVar[int] = ContextVar("bytes that one array may take", default=FREE_BYTES)


@dataclass
class Operator:
    """What is known of one operator.

    Attributes
    ----------
    function : callable
    inputs : (int, int or None)
        Least and greatest number.
    outputs : int or None
        Greatest number; None for any.
    attributes : dict of str to (str, default)
    folds : bool
        Whether nodes of constants are computed when a model is read.
    asks : set of str
        Which of "opset" and "outputs" the function wants to know.
    moved : dict of str to int
        Attributes of old versions that became inputs: the place.
    vectors : tuple of int
        Places of inputs that are read as lists of numbers; constants there are made lists once.
    """

    function: Callable[..., Any]
    inputs: tuple[int, int | None]
    outputs: int | None
    attributes: dict[str, tuple[str, Any]]
    folds: bool
    asks: set[str]
    moved: dict[str, int]
    vectors: tuple[int, ...]

    def bind(self, attributes: dict[str, Any], opset: int, outputs: int) -> Callable[..., Any]:
        """The function with a node's attributes, which are checked."""
        given = {name: check_attribute(name, value, self.attributes) for name, value in attributes.items()}
        missing = [name for name, (_, default) in self.attributes.items() if default is REQUIRED and name not in given]
        if missing:
            raise ValueError(f"attribute '{missing[0]}' must be given")
        given |= {name: value for name, value in {"opset": opset, "outputs": outputs}.items() if name in self.asks}
        return partial(self.function, **given) if given else self.function


def check_attribute(name: str, value: Any, known: dict[str, tuple[str, Any]]) -> Any:
    """An attribute's value, of the right type."""
    if name not in known:
        raise ValueError(f"attribute '{name}' is not one that is known: {', '.join(known) or 'it has none'}")
    kind = known[name][0]
    if not _KINDS[kind](value):
        wanted = f"one of the types {DTYPES}" if kind == "dtype" else kind
        raise ValueError(f"attribute '{name}' must be {wanted}, got {value!r}")
    return np.dtype(DTYPES[value]) if kind == "dtype" else value


OPERATORS: dict[str, Operator] = {}


def operator(*names: str, outputs: int | None = 1, folds: bool = True, moved: dict[str, int] | None = None, vectors: tuple[int, ...] = ()) -> Callable[[Any], Any]:
    """Put a function into the table. Attributes are keyword-only; `opset` and `outputs` among them are what it wants to know of the node."""

    def put(function: Any) -> Any:
        parameters = inspect.signature(function).parameters.values()
        places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        least = sum(p.default is REQUIRED for p in places) + any_number
        keywords = {p.name: (str(p.annotation).split(" |")[0], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
        asks: set[str] = {name for name in ("opset", "outputs") if name in keywords}
        attributes = {name: value for name, value in keywords.items() if name not in asks}
        for name in names:
            OPERATORS[name] = Operator(function, (least, None if any_number else len(places)), outputs, attributes, folds, asks, moved or {}, vectors)
        return function

    return put


@contextlib.contextmanager
def limited_to(allowed: int) -> Iterator[None]:
    """Inside, no array that a graph asks for may take more bytes."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def allowance(stored: int) -> int:
    """Bytes that one array may take where there are `stored` in inputs and weights."""
    return max(FREE_BYTES, EXPANSION * stored)


def bounded(shape: Any, itemsize: int = 8) -> tuple[int, ...]:
    """The shape as a tuple, if an array of it may be made."""
    sizes = tuple(int(n) for n in shape)
    if any(n < 0 for n in sizes) or len(sizes) > 32 or prod(max(n, 1) for n in sizes) * itemsize > _allowed.get():
        raise FormatError(f"an array of shape {sizes[:40]} is not allowed")
    return sizes


def broadcast(*arrays: np.ndarray) -> None:
    """Check the size of what arrays make together."""
    first = arrays[0].shape
    if any(a.ndim and a.shape != first for a in arrays):
        bounded(np.broadcast_shapes(*(a.shape for a in arrays)), arrays[-1].itemsize)


def integers(array: np.ndarray | list[int]) -> list[int]:
    """A vector (or number) of whole numbers as Python's."""
    if isinstance(array, list):
        return array
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > 1 << 16:
        raise ValueError(f"must be a vector of integers, got {array.dtype} of shape {array.shape}")
    return [int(n) for n in array.reshape(-1).tolist()]
