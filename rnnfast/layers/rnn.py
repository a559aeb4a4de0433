"""RNN: a layer around a cell of the user's own, and cells of cells."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rnnfast.errors import suggest
from rnnfast.layers.base import REGISTRY, Layer, register
from rnnfast.layers.recurrent import OverTime
from rnnfast.plan import Tensor

if TYPE_CHECKING:
    from rnnfast.autodiff import Weight
    from rnnfast.plan.python_cell import PythonDirection

CELLS: dict[str, type[Cell]] = {}
C = TypeVar("C", bound="type[Cell]")


def register_cell(cls: C) -> C:
    """Make a cell class known by its name, so that models with it can be saved and loaded. A decorator.

    Parameters
    ----------
    cls : subclass of Cell
        Its `get_config` must give the arguments of its constructor.

    Raises
    ------
    TypeError
        If it is no subclass of :class:`Cell`.
    ValueError
        If a layer or another module's cell has its name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Cell)):
        raise TypeError(f"register_cell: must be given a subclass of rnnfast.layers.Cell, got {cls!r}.")
    before = CELLS.get(cls.__name__)
    if cls.__name__ in REGISTRY or (before is not None and before.__module__ != cls.__module__):
        raise ValueError(f"register_cell: the name {cls.__name__!r} is taken by {REGISTRY.get(cls.__name__, before)!r}. Rename the class.")
    CELLS[cls.__name__] = cls
    return cls


class Cell(Layer):
    """Base of a user's own recurrent cell, with the contract of Keras' cells and a step written in NumPy.

    A subclass sets `state_size` (an int, or a list of ints for several states) and, where the output is not as wide as the first state, `output_size`; makes
    its weights in `build(input_shape)` with :meth:`add_weight`; and computes one step in ``call(inputs, states)`` or ``call(inputs, states, training)``, which
    returns ``(output, new_states)``. `inputs` is [rows, features], `states` a list of arrays [rows, width]; rows may be fewer than the batch, since only
    sequences that have the step are computed. `get_initial_state(batch_size)` and `backward` are optional; docs/custom_cells.md describes them, the
    operations that gradients are known of, and a cell from start to end.

    Examples
    --------
    >>> import numpy as np
    >>> import rnnfast
    >>> class Leaky(rnnfast.layers.Cell):
    ...     state_size = 4
    ...     def build(self, input_shape):
    ...         self.kernel = self.add_weight((input_shape[-1], 4), name="kernel")
    ...     def call(self, inputs, states):
    ...         h = 0.9 * states[0] + np.tanh(inputs @ self.kernel)
    ...         return h, [h]
    >>> rnnfast.layers.RNN(Leaky(), return_sequences=True)(np.zeros((2, 5, 3), np.float32)).shape
    (2, 5, 4)
    """

    state_size: Any = None
    output_size: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.handles: list[Weight] = []

    def call(self, inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """One step: (output, new states)."""
        raise NotImplementedError(f"{type(self).__name__}: a cell must have a method call(inputs, states) that returns (output, new_states).")

    def add_weight(  # type: ignore[override]
        self, shape: tuple[int, ...], initializer: Any = "glorot_uniform", name: str = "weight", regularizer: Any = None, constraint: Any = None
    ) -> Any:
        """Make one weight; it is an array in the expressions of `call`."""
        from rnnfast.autodiff import Weight  # the tape is imported with the first cell

        self.handles.append(Weight(super().add_weight(tuple(shape), name, initializer, regularizer, constraint)))
        return self.handles[-1]

    def ready(self, input_shape: tuple[int | None, ...]) -> None:
        """Build it once."""
        if not self.built:
            self.build(input_shape)
            self.built = True

    @property
    def state_sizes(self) -> list[int]:
        """Width of each state."""
        sizes = list(self.state_size) if isinstance(self.state_size, (list, tuple)) else [self.state_size]
        if not sizes or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n <= 0 for n in sizes):
            raise ValueError(f"{type(self).__name__} '{self.name}': state_size must be a positive integer or a list of them, got {self.state_size!r}.")
        return [int(n) for n in sizes]

    @property
    def output_width(self) -> int:
        """`output_size`, or the width of the first state."""
        return self.state_sizes[0] if self.output_size is None else int(self.output_size)

    @cached_property
    def takes_training(self) -> bool:
        """Whether `call` has an argument `training`."""
        return "training" in inspect.signature(self.call).parameters


def serialize_cell(cell: Cell) -> dict[str, Any]:
    """{"class_name", "config"} of a registered cell."""
    name = type(cell).__name__
    if CELLS.get(name) is not type(cell):
        raise ValueError(f"{name} '{cell.name}': not registered, so a file that names it could not be loaded. Put @rnnfast.register_cell on the class.")
    return {"class_name": name, "config": cell.get_config()}


def deserialize_cell(saved: Any) -> Cell:
    """A cell from :func:`serialize_cell`'s result; only registered classes are known."""
    name = saved.get("class_name") if isinstance(saved, dict) else None
    if name not in CELLS:
        known = suggest(str(name), CELLS) if CELLS else ""
        raise ValueError(f"Unknown cell {name!r}. Import the module of its class, and put @rnnfast.register_cell on it, before the model is loaded. {known}".rstrip())
    made: Cell = CELLS[name].from_config(dict(saved.get("config") or {}))  # type: ignore[assignment]
    return made


@register_cell
class StackedRNNCells(Cell):
    """Cells one on top of the other as one cell; its states are theirs in one flat list.

    Parameters
    ----------
    cells : list of Cell
        The output of each is the input of the next.
    """

    def __init__(self, cells: list[Cell], **kwargs: Any) -> None:
        super().__init__(**({"dtype": getattr(cells[0], "dtype", None)} if cells else {}) | kwargs)
        for cell in cells:
            if not isinstance(cell, Cell):
                raise TypeError(f"StackedRNNCells '{self.name}': cells must be a list of rnnfast.layers.Cell, got {cell!r}.")
        if not cells:
            raise ValueError(f"StackedRNNCells '{self.name}': cells must hold at least one cell, got {cells!r}.")
        self.cells = list(cells)

    @property
    def state_sizes(self) -> list[int]:
        return [n for cell in self.cells for n in cell.state_sizes]

    @property
    def output_width(self) -> int:
        return self.cells[-1].output_width

    takes_training = True  # type: ignore[assignment]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for cell in self.cells:
            cell.ready(input_shape)
            for variable in cell.weights:
                variable.path = f"{self.name}/{cell.name}/{variable.name}"
            input_shape = (input_shape[0], cell.output_width)
        self.weights = [variable for cell in self.cells for variable in cell.weights]
        self.handles = [handle for cell in self.cells for handle in cell.handles]

    def get_initial_state(self, batch_size: int) -> list[Any]:
        from rnnfast.autodiff.scan import initial_states

        return [state for cell in self.cells for state in initial_states(cell, batch_size, self.dtype)]

    def call(self, inputs: Any, states: list[Any], training: bool = False) -> tuple[Any, list[Any]]:  # type: ignore[override]
        from rnnfast.autodiff.scan import call_cell

        left: list[Any] = list(states)
        new: list[Any] = []
        for cell in self.cells:
            count = len(cell.state_sizes)
            inputs, own = call_cell(cell, inputs, left[:count], training)
            left, new = left[count:], new + own
        return inputs, new

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"cells": [serialize_cell(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls([deserialize_cell(saved) for saved in config.pop("cells")], **config)


@register
class RNN(OverTime):
    """A recurrent layer around a cell written in Python.

    It has what the native layers have (masks and lengths, states in and out, streams, both directions, training, saving by the registered name), and beside
    them in a model it runs in the same call of the engine, which calls back into Python; so it is slower. A masked step in front of the first valid one gives 0.

    Parameters
    ----------
    cell : Cell or list of Cell
        A list becomes :class:`StackedRNNCells`.
    **kwargs
        Of :class:`OverTime`: return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask, activity_regularizer.
    """

    def __init__(self, cell: Cell | list[Cell], **kwargs: Any) -> None:
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(list(cell))
        super().__init__(**({"dtype": getattr(cell, "dtype", None)} | kwargs))  # type: ignore[arg-type]
        if not isinstance(cell, Cell):
            raise TypeError(f"RNN '{self.name}': cell must be an rnnfast.layers.Cell or a list of them, got {cell!r}.")
        if cell.dtype != self.dtype:
            raise ValueError(f"RNN '{self.name}': dtype must be that of its cell, {cell.dtype}, got {self.dtype}.")
        self.cell = cell

    @property
    def output_size(self) -> int:
        return self.cell.output_width

    @property
    def state_sizes(self) -> list[int]:
        return self.cell.state_sizes

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.state_sizes)

    def create_weights(self, input_shape: tuple[int | None, ...]) -> None:
        self.cell.ready((input_shape[0], *input_shape[2:]))
        for variable in self.cell.weights:
            variable.path = f"{self.name}/{variable.path}"
        self.weights = self.cell.weights

    def initial_values(self, batch: int) -> list[np.ndarray]:
        from rnnfast.autodiff.scan import initial_states
        from rnnfast.autodiff.tape import value_of

        return [np.array(value_of(state), self.dtype) for state in initial_states(self.cell, batch, self.dtype)]

    def direction(self, initial: list[Tensor], backwards: bool = False) -> PythonDirection:
        back, owner = self.go_backwards or backwards, f"RNN '{self.name}'"
        from rnnfast.autodiff.scan import Scan
        from rnnfast.plan.python_cell import PythonDirection, PythonPart

        scan = lambda rows, features, training, taped: Scan(self.cell, owner, rows, features, training, taped, back)
        return PythonDirection(self.output_size, self.state_sizes, self.weights, scan, back, self.zero_output_for_mask, initial, PythonPart)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"cell": serialize_cell(self.cell)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls(deserialize_cell(config.pop("cell")), **config)
