"""A graph at one set of shapes, between arrays that stay where they are: what only moves numbers is a view that is made once, any other node a call from array to array."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.interop.bounds import BROKEN
from rnnfast.interop.onnx.operators import OPERATORS
from rnnfast.interop.onnx.operators.elementwise import ENGINE_SINGLES, PLAIN_PAIRS
from rnnfast.interop.onnx.operators.windows import conv_calls
from rnnfast.interop.onnx.recurrent import RecurrentNode

if TYPE_CHECKING:
    from rnnfast.interop.onnx.program import Step

MOST_BYTES = 1 << 20  # of all arrays; with more the calls' own work is what takes time
NOTHING = 0  # the slot of inputs and outputs that are left out
Array = np.ndarray
Calls = list[Callable[[], Any]]


class UnfitError(ValueError):
    """A graph that cannot run between such arrays."""


class Standing:
    """The steps of a graph, bound to arrays.

    Parameters
    ----------
    steps : list of Step
        Those that look at the inputs' numbers.
    inputs, outputs : list of int
        Slots.
    values : list
        What is known of the slots at these shapes; the constants, and what the shapes decide.
    given : list of ndarray
        Inputs that the graph takes.

    Raises
    ------
    UnfitError
        If the arrays are too large, or values are sequences.
    """

    def __init__(self, steps: list[Step], inputs: list[int], outputs: list[int], values: list[Any], given: list[Array]) -> None:
        self.values, self.moving, self.left = values.copy(), set(inputs), MOST_BYTES
        self.calls: Calls = []
        self.kept: list[Any] = []  # what calls only know by its address
        self.lock = Lock()
        self.inputs = [array.copy() for array in given]
        self._put(inputs, self.inputs)
        for step in steps:
            self._bind(step)
        self.results = [np.asarray(self.values[slot]) for slot in outputs]

    def _put(self, slots: list[int], arrays: Iterable[Any]) -> None:
        for slot, array in zip(slots, arrays, strict=False):
            if slot != NOTHING:
                self.values[slot] = array
                self.left -= array.nbytes
        if self.left < 0:
            raise UnfitError("too large")

    def _bind(self, step: Step) -> None:
        """Run a step once, and say how it is run again."""
        given = [self.values[slot] for slot in step.inputs]
        moving = [slot in self.moving for slot in step.inputs]
        bound = step.function.standing(*given) if isinstance(step.function, RecurrentNode) else None
        if bound is not None:
            results, calls, kept = bound
            self.kept.append(kept)
        elif step.op == "Conv":
            result, calls = conv_calls(*given, **step.attributes)
            for call in calls:
                call()
            results = [result]
        else:
            results, calls = _arrays(step, given, moving)
        self._put(step.outputs, results)
        if any(moving) and step.op not in ("Shape", "Size"):
            self.calls += calls
            self.moving.update(slot for slot in step.outputs if slot != NOTHING)

    def run(self, given: list[Array]) -> list[Array] | None:
        """The outputs, in new arrays; None if another thread is here, or if something is wrong that needs a closer look.

        Raises
        ------
        UnfitError
            If other numbers give other shapes.
        """
        if not self.lock.acquire(blocking=False):
            return None
        try:
            for own, array in zip(self.inputs, given, strict=True):
                own[...] = array
            with np.errstate(all="ignore"):
                for call in self.calls:
                    call()
            return [one.copy() for one in self.results]
        except UnfitError:
            raise
        except BROKEN:
            return None
        finally:
            self.lock.release()


def _arrays(step: Step, given: list[Any], moving: list[bool]) -> tuple[list[Array], Calls]:
    """The results of a step, in arrays that stay, and the calls that write them there."""
    found = step.function(*given)
    results = list(found) if isinstance(found, tuple) else [found]
    if any(isinstance(one, list) for one in results):
        raise UnfitError("a sequence")
    if not any(moving):
        return results, []
    if step.op == "Gather" and not moving[1] and given[1].ndim == 0:  # one place of an axis
        results = [np.moveaxis(given[0], step.attributes.get("axis", 0), 0)[int(given[1]), ...]]
    sources = [value for value, moves in zip(given, moving, strict=True) if moves]
    if len(sources) == 1 and all(np.may_share_memory(one, sources[0]) for one in results):
        return results, []  # views of what moves, whatever its numbers
    targets = [np.array(one, order="C") for one in results]
    sized = step.op in OPERATORS and not any(moves and place in OPERATORS[step.op].vectors for place, moves in enumerate(moving))
    calls = INTO[step.op](targets[0], *given, **step.attributes) if sized and step.op in INTO else []
    return targets, calls or [partial(_fill, step.function, given, targets)]


def _fill(function: Callable[..., Any], given: list[Any], targets: list[Array]) -> None:
    """Run a step and copy what it gives."""
    found = function(*given)
    for one, target in zip(found if isinstance(found, tuple) else (found,), targets, strict=True):
        if one.shape != target.shape or one.dtype != target.dtype:
            raise UnfitError("a shape that depends on numbers")
        target[...] = one


# -- operators that write into an array; an empty list: not with these attributes or types -------------------------------------------


def _gemm(to: Array, a: Array, b: Array, c: Array | None = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0) -> Calls:
    if alpha != 1 or beta != 1:
        return []
    product = partial(np.matmul, a.T if transA else a, b.T if transB else b, to)
    return [product] if c is None else [product, partial(np.add, to, c, to)]


def _by_engine(name: str) -> Callable[..., Calls]:
    return lambda to, x: [partial(_engine.elementwise, name, x, to)] if x.dtype.kind == "f" else []


def _by_numpy(function: Any) -> Callable[..., Calls]:
    return lambda to, a, b: [partial(function, a, b, to)]


INTO: dict[str, Callable[..., Calls]] = {
    "Gemm": _gemm, "MatMul": _by_numpy(np.matmul), "Div": lambda to, a, b: [partial(np.divide, a, b, to)] if to.dtype.kind == "f" else [],
    "Concat": lambda to, *arrays, axis: [partial(np.concatenate, arrays, axis, to)],
    "Gather": lambda to, x, indices, axis=0: [partial(np.take, x, indices, axis, to)],
    "Reshape": lambda to, x, shape, allowzero=0: [partial(np.copyto, to.reshape(x.shape), x)],
    **{name: _by_numpy(function) for name, function in PLAIN_PAIRS.items()},
    **{name: _by_engine(function) for name, function in ENGINE_SINGLES.items()},
}  # fmt: skip
