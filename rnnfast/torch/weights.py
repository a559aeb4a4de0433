"""What a module of PyTorch's is to the engine, and its weights in the plan's layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rnnfast import _engine
from rnnfast.plan import Params, Tensor, Variable
from rnnfast.plan.direction import Direction
from rnnfast.plan.staged import StagedDirection, StagedPart

GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}
GRU_ORDER = ((2, 1, 0), (1, 0, 2))  # gate of the engine -> PyTorch's r, z, n


def turn(matrix: torch.Tensor, target: torch.Tensor) -> None:
    """Write the transpose of a matrix to a contiguous one; torch's own copy takes 1.4 to 2 times as long."""
    columns, rows = target.shape
    if matrix.shape == (rows, columns) and matrix.dtype == target.dtype and matrix.is_contiguous() and not matrix.is_neg():
        _engine.transpose(matrix.data_ptr(), target.data_ptr(), rows, columns, matrix.element_size())
    else:
        target.copy_(matrix.t())


@dataclass(frozen=True)
class Spec:
    """What of a module does not change while it lives.

    Attributes
    ----------
    cell : {"lstm", "gru", "simple_rnn"}
    inputs, units, projection, layers : int
        projection is 0 where there is none.
    both : bool
        Whether each layer has two directions.
    bias : bool
    activation : {"tanh", "relu"}
    sequence : bool
        Whether the output of every step is asked for; a cell gives its states alone.
    dtype : {"float32", "float64"}
    """

    cell: str
    inputs: int
    units: int
    projection: int
    layers: int
    both: bool
    bias: bool
    activation: str
    sequence: bool
    dtype: str

    @property
    def directions(self) -> int:
        return 2 if self.both else 1

    @property
    def stack(self) -> tuple[int, ...]:
        """First extents of a state, before [batch, width]."""
        return (self.layers * self.directions,) if self.sequence else ()

    @property
    def width(self) -> int:
        """Of h."""
        return self.projection or self.units

    @property
    def widths(self) -> list[int]:
        """Of each state."""
        return [self.width, self.units] if self.cell == "lstm" else [self.width]


class Weights:
    """A module's weights in the plan's layout, brought up to date when PyTorch's have changed.

    Parameters
    ----------
    spec : Spec
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.sets: list[dict[str, Variable]] = []  # one a direction, PyTorch's order
        for k in range(spec.layers * spec.directions):
            inputs = spec.inputs if k < spec.directions else spec.width * spec.directions
            self.sets.append({name: Variable(np.zeros(shape, spec.dtype), f"{name} {k}") for name, shape in self._shapes(inputs).items()})
        self.params = Params([v for one in self.sets for v in one.values()], spec.dtype)
        with torch.inference_mode(False):  # views that may be written to in any mode
            self.views = [{name: torch.from_numpy(self._array(v)) for name, v in one.items()} for one in self.sets]
        self.grads: list[torch.Tensor] = []
        self.watch: Any = None
        self.lock = _engine.Lock()

    def _shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        spec, columns = self.spec, GATES[self.spec.cell] * self.spec.units
        shapes: dict[str, tuple[int, ...]] = {"kernel": (inputs, columns), "recurrent_kernel": (spec.width, columns)}
        if spec.bias:
            shapes["bias"] = (2, columns) if spec.cell == "gru" else (columns,)
        return shapes | ({"projection": (spec.units, spec.projection)} if spec.projection else {})

    def _array(self, v: Variable) -> np.ndarray:
        array: np.ndarray = self.params.values[v.offset : v.offset + int(np.prod(v.shape))].reshape(v.shape)
        return array

    def direction(self, k: int, initial: list[Tensor]) -> Direction:
        """What the plan runs as the k-th direction of all."""
        spec, own = self.spec, self.sets[k]
        common: dict[str, Any] = {
            "cell": spec.cell, "units": spec.width, "kernel": own["kernel"], "recurrent_kernel": own["recurrent_kernel"], "bias": own.get("bias"),
            "activation": spec.activation, "recurrent_activation": "linear" if spec.cell == "simple_rnn" else "sigmoid",
            "backwards": k % spec.directions == 1, "zero_output": False, "initial": initial,
        }  # fmt: skip
        if spec.projection:
            return StagedDirection(**common, hidden=spec.units, projection=own["projection"], layer=StagedPart)
        return Direction(**common, order=GRU_ORDER if spec.cell == "gru" else (), turned=not spec.sequence)

    # -- up to date --------------------------------------------------------------------------------------------------------------

    def holds(self, tensors: list[torch.Tensor]) -> bool:
        """Whether these tensors' numbers are here."""
        watch = self.watch
        return watch is not None and watch.same(tensors)

    def bring(self, tensors: list[torch.Tensor]) -> None:
        """Take these tensors' numbers."""
        with self.lock:
            if not self.holds(tensors):
                self._copy(tensors)

    def pack(self, threads: int) -> None:
        """Bring the panels up to date."""
        if self.params.stale:
            with self.lock:
                self.params.pack(threads)

    def forget(self) -> None:
        """Take the tensors for changed."""
        self.watch = None

    def _copy(self, tensors: list[torch.Tensor]) -> None:
        each = len(tensors) // len(self.views)
        with torch.no_grad():
            for k, views in enumerate(self.views):
                w_ih, w_hh, *rest = tensors[each * k : each * k + each]
                turn(w_ih, views["kernel"])
                turn(w_hh, views["recurrent_kernel"])
                if self.spec.cell == "gru" and self.spec.bias:
                    views["bias"][0].copy_(rest[0])
                    views["bias"][1].copy_(rest[1])
                elif self.spec.bias:
                    torch.add(rest[0], rest[1], out=views["bias"])
                if self.spec.projection:
                    turn(rest[-1], views["projection"])
        self.params.age.now += 1
        lasting = all(type(t) is torch.nn.Parameter and t.is_contiguous() and not t.is_inference() for t in tensors)  # others come and go with every call
        self.watch = _engine.Watch(tensors) if lasting else None

    def gradients(self) -> list[torch.Tensor]:
        """PyTorch's gradients, in the order of its weights, as the last backward pass has left them."""
        if not self.grads:
            with torch.inference_mode(False):
                self.grads = [view for one in self.sets for view in self._torchs({n: torch.from_numpy(self.params.gradient_of(v)) for n, v in one.items()})]
        made = [view.new_empty(view.shape[::-1]) for view in self.grads]
        for view, one in zip(self.grads, made, strict=True):
            turn(view, one) if view.dim() > 1 else one.copy_(view)
        return made

    def _torchs(self, found: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """A direction's gradients in the order of PyTorch's weights; matrices are still to be turned."""
        biases = [] if "bias" not in found else list(found["bias"]) if self.spec.cell == "gru" else [found["bias"]] * 2
        first, second, *rest = (matrix for name, matrix in found.items() if name != "bias")
        return [first, second, *biases, *rest]
