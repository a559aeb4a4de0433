"""ONNX's RNN, LSTM and GRU on the engine: the node's arrays in ONNX's layouts, the layer's in the engine's."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from rnnfast.interop.onnx.layer import GATES, OnnxRecurrent, settings_of

ATTRIBUTES: dict[str, dict[str, str]] = {
    op: {"activation_alpha": "floats", "activation_beta": "floats", "activations": "strings", "clip": "float", "direction": "str", "hidden_size": "int", "layout": "int"}
    | {"LSTM": {"input_forget": "int"}, "GRU": {"linear_before_reset": "int"}}.get(op, {})
    for op in GATES
}
WEIGHTS = (1, 2, 3, 7)  # the places of W, R, B and P


class RecurrentNode:
    """One node. Weights that are known when it is made are made ready then; others at every call.

    Parameters
    ----------
    op : {"RNN", "LSTM", "GRU"}
    attributes : dict
    constants : dict of int to ndarray
        The inputs that are known, by place.
    weights : list of int
        The places of W, R, B and P that the node has.
    outputs : int
        How many of Y, Y_h, Y_c the graph has names for.
    sequence : bool
        Whether Y is among them.
    name : str
    """

    def __init__(self, op: str, attributes: dict[str, Any], constants: dict[int, np.ndarray], weights: list[int], outputs: int, sequence: bool, name: str) -> None:
        self.op, self.attributes, self.outputs, self.sequence, self.name = op, attributes, outputs, sequence, name
        self.layout = attributes.get("layout", 0)
        if self.layout not in (0, 1):
            raise ValueError(f"layout must be 0 or 1, got {self.layout}")
        settings_of(op, 1, attributes)
        self.directions = 2 if attributes.get("direction") == "bidirectional" else 1
        self.layer = self._layer([constants.get(place) for place in WEIGHTS]) if all(place in constants for place in weights) else None

    def _layer(self, arrays: list[np.ndarray | None]) -> OnnxRecurrent:
        w, r = arrays[:2]
        if w is None or r is None:
            raise ValueError("W and R must be given")
        if w.dtype.name not in ("float32", "float64"):
            raise ValueError(f"W must be float32 or float64, got {w.dtype}")
        gates, directions = GATES[self.op], self.directions
        if w.ndim != 3 or w.shape[0] != directions or w.shape[1] % gates or not w.shape[1] or not w.shape[2]:
            raise ValueError(f"W must have shape ({directions}, {gates} H, I), got {w.shape}")
        units = w.shape[1] // gates
        if self.attributes.get("hidden_size", units) != units:
            raise ValueError(f"hidden_size is {self.attributes['hidden_size']}, but W of shape {w.shape} has {units} units")
        wanted = ((directions, gates * units, w.shape[2]), (directions, gates * units, units), (directions, 2 * gates * units), (directions, 3 * units))
        for name, array, shape in zip("WRBP", arrays, wanted, strict=True):
            if array is not None and (array.shape != shape or array.dtype != w.dtype):
                raise ValueError(f"{name} must be {w.dtype} of shape {shape}, got {array.dtype} of shape {array.shape}")
        return OnnxRecurrent(settings_of(self.op, units, self.attributes), arrays, self.sequence, self.name)

    def __call__(self, x: np.ndarray, w: Any = None, r: Any = None, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None, p: Any = None) -> Any:
        layer = self.layer or self._layer([w, r, b, p])
        if x.ndim != 3 or x.dtype != layer.dtype:
            raise ValueError(f"X must be {layer.dtype} of rank 3, got {x.dtype} of shape {x.shape}")
        batch_first = x if self.layout else x.swapaxes(0, 1)
        batch, time = batch_first.shape[:2]
        states = self._initial(layer, batch, [h, c] if self.op == "LSTM" else [h])
        counts = None if lengths is None else self._counts(lengths, batch, time)
        found = layer.runner().predict(batch_first, lengths=counts, initial_state=states)
        found = found if isinstance(found, list) else [found]
        finals = found[1:] if self.sequence else found
        if counts is not None and not counts.all():
            for state in finals:
                state[counts == 0] = 0  # as onnxruntime: a sequence without steps gives zeros, whatever it starts from
        return self._results(found[0] if self.sequence else None, finals, batch, time)

    def standing(self, x: np.ndarray, w: Any = None, r: Any = None, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None, p: Any = None) -> Any:
        """The node between arrays that stay where they are, of shapes that it has run with: results, calls that compute them, and what must live as long.

        None where its weights or the sequences' lengths come with every call.
        """
        layer = self.layer
        if layer is None or lengths is not None:
            return None
        batch_first = x if self.layout else x.swapaxes(0, 1)
        given = [batch_first, *(self._initial(layer, len(batch_first), [h, c] if self.op == "LSTM" else [h]) or [])]
        sources = [np.ascontiguousarray(array) for array in given]
        calls = [partial(np.copyto, to, array) for to, array in zip(sources, given, strict=True) if not np.may_share_memory(to, array)]
        runner = layer.runner()
        bound = runner.start(sources[:1], [None], False, False, len(sources) - 1)
        bound.outputs = [(bound.builder.output(t, f"output {i}"), t) for i, (_, t) in enumerate(bound.outputs)]
        bound.program = bound.builder.plan.compile()
        batch, time = batch_first.shape[:2]
        ends = [np.empty((self.directions, batch, layer.settings.units), layer.dtype) for _ in range(2 if self.op == "LSTM" else 1)]
        y = [np.empty(bound.outputs[0][1].shape, layer.dtype)] if self.sequence else []
        targets = [*y, *(end[i] for i in range(self.directions) for end in ends)]
        runner.execute(bound, sources[:1], [None], [None], sources[1:], targets)
        shown = self._shown(y[0], batch, time) if self.sequence else np.empty(0, layer.dtype)
        results = [shown, *(end.swapaxes(0, 1) if self.layout else end for end in ends)]
        return results[: self.outputs], [*calls, bound.program.run], (bound, sources, targets)

    def _initial(self, layer: OnnxRecurrent, batch: int, given: list[Any]) -> list[np.ndarray] | None:
        """Initial states in the layer's order, [B, H] each; those that are not given are zeros."""
        if all(state is None for state in given):
            return None
        units, directions = layer.settings.units, self.directions
        shape = (batch, directions, units) if self.layout else (directions, batch, units)
        arrays = [np.zeros(shape, layer.dtype) if state is None else state for state in given]
        for name, state in zip(("initial_h", "initial_c"), arrays, strict=False):
            if state.shape != shape or state.dtype != layer.dtype:
                raise ValueError(f"{name} must be {layer.dtype} of shape {shape}, got {state.dtype} of shape {state.shape}")
        return [state[:, i] if self.layout else state[i] for i in range(directions) for state in arrays]

    @staticmethod
    def _counts(lengths: np.ndarray, batch: int, time: int) -> np.ndarray | None:
        """The sequences' lengths, or None where all are whole."""
        if lengths.shape != (batch,) or lengths.dtype.kind != "i":
            raise ValueError(f"sequence_lens must be integers of shape ({batch},), got {lengths.dtype} of shape {lengths.shape}")
        return None if (lengths == time).all() else lengths

    def _results(self, y: np.ndarray | None, finals: list[np.ndarray], batch: int, time: int) -> Any:
        directions = self.directions
        kinds = len(finals) // directions
        axis = 1 if self.layout else 0
        states = [finals[k][None] if directions == 1 and not self.layout else np.stack(finals[k::kinds], axis) for k in range(kinds)]
        return (None if y is None else self._shown(y, batch, time), *states)[: self.outputs]

    def _shown(self, y: np.ndarray, batch: int, time: int) -> np.ndarray:
        """Y as ONNX lays it out."""
        y = y.reshape(batch, time, self.directions, y.shape[-1] // self.directions)
        return y if self.layout else y.transpose(1, 2, 0, 3)
