"""Inlets: the inputs of a graph, and the checks of what a caller gives for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnfast.errors import NotBuiltError, ShapeError, suggest
from rnnfast.layers.base import Layer
from rnnfast.layers.graph import Graph, Symbol

REAL_KINDS = "fiub"


def ready(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array as the engine reads it: of this type, contiguous, aligned. np.require is a microsecond slower where nothing is to be done."""
    return array if array.dtype == dtype and array.flags.carray else np.require(array, dtype, ["C", "A"])


def real(owner: str, what: str, given: Any, dtype: str) -> np.ndarray:
    """`given` as the engine reads it, or an error that says what holds no real numbers."""
    array = np.asarray(given)
    if array.dtype.kind not in REAL_KINDS:
        raise TypeError(f"{owner}: {what} must be real numbers, got dtype {array.dtype}.")
    return ready(array, dtype)


class Inlet:
    """One input of a graph.

    Parameters
    ----------
    graph : Graph
    symbol : Symbol
    owner : str
        As errors name the model.
    """

    def __init__(self, graph: Graph, symbol: Symbol, owner: str) -> None:
        self.symbol, self.owner, self.shape = symbol, owner, symbol.shape
        readers = [node.layer for node in graph.nodes if symbol in [*node.inputs, *node.states]]
        self.first: Layer | None = readers[0] if readers else symbol.layer
        self.name = symbol.layer.name if symbol.layer else "input"
        self.embeddings: list[Any] = [layer for layer in readers if getattr(layer, "tokens", False)]
        self.tokens = bool(self.embeddings)
        if self.tokens and len(self.embeddings) < len(readers):
            raise ValueError(f"{owner}: the tokens of '{self.name}' must go into Embedding layers alone, got {[layer.name for layer in readers]}.")
        if not self.tokens and getattr(symbol.layer, "tokens", False):
            raise ValueError(f"{owner}: the tokens of '{self.name}', an Input of an integer dtype, must go into Embedding layers.")
        front, self.maskers = {symbol}, []
        for node in graph.nodes:  # layers that say which steps of the input are masked, for all that reads it
            kind, source = type(node.layer).__name__, node.inputs[0]
            if (kind == "Embedding" and source is symbol) or (kind == "Masking" and source in front and graph.uses()[source] == 1):
                self.maskers.append(node.layer)
                front.update(node.outputs if kind == "Masking" else ())

    def timed(self, x: np.ndarray) -> bool:
        """Whether the array has a time axis."""
        return x.ndim > (1 if self.tokens else 2)

    def check(self, x: Any, dtype: str) -> np.ndarray:
        """x as a contiguous array of the right type and shape."""
        array = np.asarray(x)
        expected = self.shape
        if not expected:
            raise NotBuiltError(f"{self.owner}: not built. Call build(input_shape), or start the model with Input(shape).")
        if array.dtype.kind not in REAL_KINDS:
            raise TypeError(f"{self.owner}: input must be real numbers, got dtype {array.dtype}.")
        if array.ndim != len(expected) or not all(b is None or a == b for a, b in zip(array.shape[1:], expected[1:], strict=True)):
            wanted = ", ".join("B" if i == 0 else "T" if n is None else str(n) for i, n in enumerate(expected))
            first = f"{type(self.first).__name__} '{self.first.name}'" if self.first else self.owner
            raise ShapeError(f"{first}: input must have shape ({wanted}), got {array.shape}.")
        if not self.tokens:
            try:
                return ready(array, dtype)
            except MemoryError as error:
                raise MemoryError(f"{self.owner}: input of shape {array.shape} does not fit into memory.") from error
        if array.dtype.kind == "f" and not (array == np.floor(array)).all():
            raise TypeError(f"{self.owner}: tokens must be whole numbers, got dtype {array.dtype} with fractions.")
        array = np.ascontiguousarray(array, dtype=np.int64)
        for layer in self.embeddings:
            layer.check_tokens(array)
        return array

    def valid(self, x: np.ndarray, mask: Any, lengths: Any) -> np.ndarray | None:
        """The valid steps [B, T] as the caller and the layers in front say, or None when all are."""
        if (mask is not None or lengths is not None) and not self.timed(x):
            raise ValueError(f"{self.owner}: mask and lengths need an input with a time axis, got shape {x.shape}.")
        valid = None
        if mask is not None and np.asarray(mask).ndim == 1 and np.asarray(mask).dtype != bool:
            if lengths is not None:
                raise ValueError(f"{self.owner}: lengths are given twice, as `lengths` and, of one axis, as `mask`.")
            mask, lengths = None, mask
        if lengths is not None:
            valid = self._from_lengths(x, lengths)
        if mask is not None:
            given = np.asarray(mask)
            if given.shape != x.shape[:2] or given.dtype.kind not in "biu":
                raise ShapeError(f"{self.owner}: mask must be bool of shape {x.shape[:2]}, got {given.dtype} of shape {given.shape}.")
            valid = given.astype(bool) if valid is None else valid & given.astype(bool)
        for layer in self.maskers:
            valid = layer.compute_mask(x, valid)
        return valid

    def _from_lengths(self, x: np.ndarray, lengths: Any) -> np.ndarray:
        given = np.asarray(lengths)
        if given.shape != x.shape[:1] or given.dtype.kind not in "iu":
            raise ShapeError(f"{self.owner}: lengths must be integers of shape {x.shape[:1]}, got {given.dtype} of shape {given.shape}.")
        if given.size and (given.min() < 0 or given.max() > x.shape[1]):
            raise ValueError(f"{self.owner}: lengths must be in [0, {x.shape[1]}], got values from {given.min()} to {given.max()}.")
        steps: np.ndarray = np.arange(x.shape[1]) < given[:, None]
        return steps


def each(owner: str, what: str, names: list[str], given: Any, kind: str = "input") -> list[Any]:
    """What a caller gave for each input (or output, as `kind` says): of one input the thing itself, of several a list in their order or a dict by name; None for all is None for each."""
    if len(names) == 1 and not isinstance(given, Mapping):
        return [given[0] if what == "input" and isinstance(given, list | tuple) and len(given) == 1 and isinstance(given[0], np.ndarray) else given]
    if given is None:
        return [None] * len(names)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(f"{owner}: {what} has no {kind} called {unknown[0]!r}. {suggest(unknown[0], names)}")
        return [given.get(name) for name in names]
    if not isinstance(given, list | tuple) or len(given) != len(names):
        got = f"{len(given)}" if isinstance(given, list | tuple) else type(given).__name__
        raise ValueError(f"{owner}: {what} must be a list of {len(names)}, for {', '.join(names)}, or a dict by name, got {got}.")
    return list(given)
