"""Operators that make one number of many."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnfast.interop.onnx.operators.table import integers, operator

Array = np.ndarray


def _reduction(function: Any) -> Any:
    def run(x: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
        places = None if axes is None else tuple(integers(axes))
        if not places:
            if noop_with_empty_axes:
                return x
            places = None
        found: Array = np.asarray(function(x, axis=places, keepdims=bool(keepdims)))
        return found.astype(x.dtype, copy=False)

    return run


_REDUCTIONS = {
    "ReduceMean": np.mean, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod,
    "ReduceL2": lambda x, **how: np.sqrt(np.sum(x * x, **how)), "ReduceSumSquare": lambda x, **how: np.sum(x * x, **how),
}  # fmt: skip
for _name, _function in _REDUCTIONS.items():
    operator(_name, moved={"axes": 1}, vectors=(1,))(_reduction(_function))


def _place(function: Any) -> Any:
    def run(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
        if select_last_index:
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=bool(keepdims))
        else:
            found = function(x, axis=axis, keepdims=bool(keepdims))
        return np.asarray(found, np.int64)

    return run


for _name, _function in {"ArgMax": np.argmax, "ArgMin": np.argmin}.items():
    operator(_name)(_place(_function))
