"""Weights: variables, the flat vector they are views of, and the packed panels that the kernels read."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import ShapeError
from rnnfast.plan.schedule import parts_of, stored_values

ALIGN = 16  # elements: every variable starts a cache line of float32


class Variable:
    """One weight of a layer.

    Attributes
    ----------
    name, path : str
    shape : tuple of int
    dtype : str
    trainable : bool
    fixed : bool
        Whether no optimizer ever changes it: moving statistics.
    regularizer, constraint : object or None
    """

    def __init__(self, value: np.ndarray, name: str, trainable: bool = True, fixed: bool = False, **roles: Any) -> None:
        self.name = self.path = name
        self.trainable, self.fixed = trainable and not fixed, fixed
        self.regularizer = roles.get("regularizer")
        self.constraint = roles.get("constraint")
        self.params: Params | None = None
        self.offset = 0
        self._storage = np.asarray(value, order="C")  # keeps the shape () of a single number

    @property
    def shape(self) -> tuple[int, ...]:
        return self._storage.shape

    @property
    def dtype(self) -> str:
        return self._storage.dtype.name

    @property
    def value(self) -> np.ndarray:
        """The numbers, as a read-only view; :meth:`assign` changes them."""
        view = self._storage.view()
        view.flags.writeable = False
        return view

    def numpy(self) -> np.ndarray:
        """A copy of the numbers."""
        return self._storage.copy()

    def assign(self, value: Any) -> None:
        """Set all numbers.

        Raises
        ------
        ShapeError
            If `value` has another shape.
        """
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ShapeError(f"Weight '{self.path}': value must have shape {self.shape}, got {array.shape}.")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"Weight '{self.path}': value must be real numbers, got dtype {array.dtype}.")
        self._storage[...] = array
        if self.params is not None:
            self.params.age.now += 1

    def detach(self) -> None:
        """Leave the vector: who has plans over it makes new ones."""
        if self.params is not None:
            self.params.age.now += 1
        self.params = None

    def rebind(self, params: Params, offset: int, storage: np.ndarray) -> None:
        storage[...] = self._storage
        if self.params is not None:
            self.params.age.now += 1  # who reads that vector looks again where its weights are
        self._storage, self.params, self.offset = storage, params, offset

    def __getstate__(self) -> dict[str, Any]:
        """What pickles and copies hold: numbers of their own, outside of any vector."""
        return self.__dict__ | {"params": None, "offset": 0, "_storage": self._storage.copy()}

    def __repr__(self) -> str:
        return f"<Variable {self.path} shape={self.shape} dtype={self.dtype}>"


HUGE_PAGE = 2 << 20


def aligned_zeros(size: int, dtype: str) -> np.ndarray:
    """Zeros that start on a 64-byte line; large ones on huge pages, where the system gives them, since panels are read as a stream at every step."""
    itemsize = np.dtype(dtype).itemsize
    if size * itemsize >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory = mmap.mmap(-1, size * itemsize + HUGE_PAGE)
        memory.madvise(mmap.MADV_HUGEPAGE)
        raw, line = np.frombuffer(memory, np.uint8), HUGE_PAGE
    else:
        raw, line = np.zeros(size * itemsize + 64, np.uint8), 64
    start = -raw.ctypes.data % line
    return raw[start : start + size * itemsize].view(dtype)


class Params:
    """The flat parameter vector of a model, trainable variables first.

    Parameters
    ----------
    variables : list of Variable
        Each becomes a view into the vector.
    dtype : str
    """

    def __init__(self, variables: list[Variable], dtype: str) -> None:
        self.dtype = dtype
        self.variables = sorted(dict.fromkeys(variables), key=lambda v: not v.trainable)
        sizes = [-(-int(np.prod(v.shape, dtype=object)) // ALIGN) * ALIGN for v in self.variables]
        self.segments = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._training = [v.trainable for v in self.variables]
        self.trainable_count = sum(self._training)
        self.values = aligned_zeros(int(self.segments[-1]) + ALIGN, dtype)
        self.buffer = _engine.Buffer("params", 0)
        self.buffer.hold(self.values, 0)
        self.age = _engine.Version()
        self._panels: dict[tuple[Any, ...], tuple[_engine.Buffer, np.ndarray]] = {}
        self._jobs: list[tuple[Any, ...]] = []
        self._pack: _engine.Program | None = None
        self._packing = _engine.Lock()
        self._grads: np.ndarray | None = None
        for variable, offset in zip(self.variables, self.segments, strict=False):
            size = int(np.prod(variable.shape, dtype=object))
            variable.rebind(self, int(offset), self.values[offset : offset + size].reshape(variable.shape))

    @property
    def trainable_size(self) -> int:
        """Elements of the vector that an optimizer changes."""
        return int(self.segments[self.trainable_count])

    @property
    def grads(self) -> np.ndarray:
        """The flat gradient, of the parameters' layout."""
        if self._grads is None:
            self._grads = aligned_zeros(len(self.values), self.dtype)
        return self._grads

    def holds(self, variables: list[Variable]) -> bool:
        """Whether these variables are views of this vector, and all of the vector's train as they did."""
        for v in variables:
            if v.params is not self:
                return False
        return [v.trainable for v in self.variables] == self._training

    @classmethod
    def holding(cls, variables: list[Variable], dtype: str) -> Params | None:
        """The vector that holds all of these already, as that of a larger model does; None if there is none."""
        params = variables[0].params if variables else None
        return params if params is not None and params.dtype == dtype and params.holds(variables) else None

    def gradient_of(self, variable: Variable) -> np.ndarray:
        size = int(np.prod(variable.shape, dtype=object))
        return self.grads[variable.offset : variable.offset + size].reshape(variable.shape)

    def address(self, variable: Variable, gradient: bool = False) -> int:
        """Of the variable's first number, or of its gradient's."""
        base = self.grads if gradient else self.values
        return int(base.ctypes.data) + variable.offset * base.itemsize

    def operand(self, variable: Variable, gradient: bool = False) -> _engine.Buffer:
        """A buffer over the variable's numbers, or over its gradient."""
        buffer = _engine.Buffer(variable.path, 0, variable.shape[-1] if variable.shape else 1)
        buffer.point(self.address(variable, gradient), buffer.stride)
        return buffer

    def panels(self, variable: Variable, shape: tuple[int, int, int], order: tuple[int, ...], transposed: bool = False, row: int = 0, weights: int = 0) -> _engine.Buffer:
        """Packed panels of a variable, or of its row `row` (a bias).

        Parameters
        ----------
        shape : (K or outputs, units, vectors)
        order : tuple of int
            Gate of the variable that each vector takes.
        weights : int
            What the panels hold, see csrc/rnnf.h.
        """
        key = (variable.path, id(variable), shape, order, transposed, row, weights)
        with self._packing:  # models are asked for their first plans by several threads at once
            if key not in self._panels:
                lanes = _engine.lanes(self.dtype)
                depth, units, vectors = shape
                padded = -(-units // lanes) * lanes
                size = -(-depth // lanes) * lanes * vectors * padded if transposed else depth * vectors * padded
                if parts_of(weights):
                    size = _engine.split_panel_values(shape, lanes, parts_of(weights))
                elif weights:
                    size = stored_values(depth, vectors * padded, weights)
                array = aligned_zeros(size + 4 * lanes, self.dtype)
                buffer = _engine.Buffer(f"{variable.path} panels", size)
                buffer.hold(array, 0)
                width = variable.shape[-1]
                self._jobs.append((variable.offset + row * width, buffer, width, shape, order, int(transposed), weights))
                self._pack, self.age.packed = None, -1
                self._panels[key] = buffer, array  # last: a child that is forked before makes them once more
            return self._panels[key][0]

    def pack_op(self) -> _engine.PackOp:
        """An op that packs all panels asked for so far."""
        return _engine.PackOp(self.dtype, self.buffer, list(self._jobs))

    @property
    def panel_bytes(self) -> int:
        """Of all panels asked for so far."""
        return sum(array.nbytes for _, array in self._panels.values())

    @property
    def stale(self) -> bool:
        """Whether the panels are older than the numbers."""
        return self.age.packed != self.age.now

    def pack(self, team_size: int) -> None:
        """Bring the panels up to date with the numbers."""
        if not self.stale:
            return
        with self._packing:  # programs of several threads may read the same panels
            if not self.stale:
                return
            version = self.age.now
            if self._pack is None:
                self._pack = _engine.Program([self.pack_op()], [], 0, team_size)
            self._pack.run()
            self.age.packed = version
