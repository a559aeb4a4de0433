"""A small reverse-mode tape over NumPy (Linnainmaa 1970; Griewank and Walther 2008).

A :class:`Traced` array stands for an ndarray. NumPy hands every function that meets one to it (`__array_ufunc__`, `__array_function__`); the table in
`rules.py` computes the result and says how a gradient goes back, and the tape keeps that. What is not in the table is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import local
from typing import Any

import numpy as np

__all__ = ["Tape", "Traced", "Weight", "record", "recording_on", "value_of"]

Array = np.ndarray
Pull = Callable[[list[Array]], Sequence[Array | None]]
_here = local()


class Tape:
    """What was computed, in order.

    Examples
    --------
    >>> import numpy as np
    >>> tape = Tape()
    >>> with tape.recording():
    ...     x = tape.input(np.array([1.0, 2.0]))
    ...     y = (x * x).sum()
    >>> tape.gradients([y], [np.array(1.0)])[x]
    array([2., 4.])
    """

    def __init__(self) -> None:
        self._nodes: list[tuple[list[Traced], list[Traced], Pull]] = []
        self.leaves: dict[Weight, Traced] = {}

    def recording(self) -> AbstractContextManager[None]:
        """Let this thread's operations be recorded here."""
        return recording_on(self)

    def input(self, value: Array) -> Traced:
        """A new leaf."""
        return Traced(value, self)

    def leaf(self, x: Traced) -> Traced:
        """x as this tape knows it."""
        if isinstance(x, Weight):
            if x not in self.leaves:
                self.leaves[x] = self.input(x.value)
            return self.leaves[x]
        if x.tape is not self:
            raise RuntimeError("A traced array of another time step is used. A cell must keep nothing between steps but its states.")
        return x

    def add(self, values: Sequence[Array], parents: Sequence[Traced], pull: Pull) -> list[Traced]:
        """Results that `pull` takes gradients back from: gradients of the results -> of the parents (None for none)."""
        results = [Traced(value, self) for value in values]
        self._nodes.append((results, list(parents), pull))
        return results

    def gradients(self, outputs: Sequence[Any], upstream: Sequence[Array]) -> dict[Traced, Array]:
        """Gradients of sum(upstream * outputs) by every array of the tape that the outputs depend on."""
        found: dict[Traced, Array] = {}

        def give(x: Any, gradient: Array | None) -> None:
            if gradient is not None and isinstance(x, Traced):
                x = self.leaf(x)
                found[x] = found[x] + gradient if x in found else gradient

        for output, gradient in zip(outputs, upstream, strict=True):
            give(output, gradient)
        for results, parents, pull in reversed(self._nodes):
            if any(result in found for result in results):
                given = [found[result] if result in found else np.zeros_like(result.value) for result in results]
                for parent, back in zip(parents, pull(given), strict=True):
                    give(parent, back)
        return found


@contextmanager
def recording_on(tape: Tape | None) -> Iterator[None]:
    """Let this thread's operations be recorded on a tape, or on none."""
    before = getattr(_here, "tape", None)
    _here.tape = tape
    try:
        yield
    finally:
        _here.tape = before


def value_of(x: Any) -> Any:
    """The numbers behind x, or x itself."""
    return x.value if isinstance(x, Traced) else x


def record(values: Sequence[Array], parents: Sequence[Any], pull: Callable[[list[Array]], Sequence[Array | None]]) -> list[Any]:
    """The results of an operation on `parents`, traced if one of them is and a tape is recording."""
    tape = getattr(_here, "tape", None)
    live = [i for i, parent in enumerate(parents) if isinstance(parent, Traced)]
    if tape is None or not live:
        return list(values)

    def pull_live(given: list[Array]) -> list[Array | None]:
        gradients = pull(given)
        return [gradients[i] for i in live]

    return list(tape.add(values, [tape.leaf(parents[i]) for i in live], pull_live))


def _refuse(name: str) -> Any:
    raise TypeError(
        f"{name} is not recorded by the gradient tape of a cell. Write the step with the operations listed in docs/custom_cells.md, or give the cell a `backward`."
    )


class Traced:
    """An array whose gradient is wanted. It has ndarray's operators and the methods below; numpy's functions take it."""

    __slots__ = ("tape", "value")
    __array_priority__ = 1000

    def __init__(self, value: Array, tape: Tape | None) -> None:
        self.value, self.tape = value, tape

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from rnnfast.autodiff import rules  # which imports this module

        if method != "__call__":
            _refuse(f"np.{ufunc.__name__}.{method}")
        if kwargs:
            _refuse(f"np.{ufunc.__name__} with {next(iter(kwargs))}=")
        if ufunc in rules.FLAT:
            return ufunc(*map(value_of, inputs))
        if ufunc not in rules.UFUNCS:
            _refuse(f"np.{ufunc.__name__}")
        return rules.elementwise(ufunc, inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from rnnfast.autodiff import rules

        if function not in rules.FUNCTIONS:
            _refuse(f"{function.__module__.replace('numpy', 'np')}.{function.__name__}")
        return rules.FUNCTIONS[function](*args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        _refuse("np.asarray, or another conversion to an ndarray,")

    def __float__(self) -> float:
        return _refuse("float()")  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse("Writing into an array (a[i] = b)")

    def __getitem__(self, key: Any) -> Any:
        from rnnfast.autodiff import rules

        return rules.item(self, key)

    def __getattr__(self, name: str) -> Any:
        """Methods of ndarray that are in the table of functions."""
        from rnnfast.autodiff import rules

        if name in ("shape", "ndim", "size", "dtype"):
            return getattr(self.value, name)
        if name == "T":
            return np.transpose(self)  # type: ignore[call-overload]
        if name in rules.METHODS:
            return lambda *args, **kwargs: rules.METHODS[name](self, *args, **kwargs)
        if not name.startswith("_") and hasattr(np.ndarray, name):
            _refuse(f"ndarray.{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"


def _operator(ufunc: Any, swapped: bool = False) -> Any:
    return (lambda self, other: ufunc(other, self)) if swapped else lambda self, other: ufunc(self, other)


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "pow": np.power, "matmul": np.matmul,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    setattr(Traced, f"__{_name}__", _operator(_ufunc))
for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "pow": np.power, "matmul": np.matmul}.items():
    setattr(Traced, f"__r{_name}__", _operator(_ufunc, swapped=True))
Traced.__hash__ = object.__hash__  # type: ignore[assignment]
Traced.__neg__ = lambda self: np.negative(self)  # type: ignore[attr-defined,operator]
Traced.__abs__ = lambda self: np.absolute(self)  # type: ignore[attr-defined]


class Weight(Traced):
    """A cell's weight: an array in every expression. `variable` is what holds its numbers.

    Parameters
    ----------
    variable : Variable
    """

    __slots__ = ("variable",)

    def __init__(self, variable: Any) -> None:
        self.variable, self.tape = variable, None

    @property
    def value(self) -> Array:  # type: ignore[override]
        """The numbers, read-only."""
        found: Array = self.variable.value
        return found

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        if getattr(_here, "tape", None) is not None:
            _refuse("np.asarray, or another conversion to an ndarray,")
        return np.array(self.value, *args, **kwargs)

    def assign(self, value: Any) -> None:
        """Set all numbers."""
        self.variable.assign(value)
