"""Stream: one live sequence, a step or a chunk at a time."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import ShapeError
from rnnfast.layers.runner import Bound, describe
from rnnfast.plan import Builder

if TYPE_CHECKING:
    from rnnfast.models.model import Runnable


class Stream:
    """A live sequence of a model, made by `model.stream()`. It keeps the states between calls.

    Parameters
    ----------
    model : Sequential or Model
        Built, with one input and one output. Its weights are read at every call.
    """

    def __init__(self, model: Runnable) -> None:
        self._runner = model.runner()
        graph = self._runner.graph
        if len(graph.inputs) != 1 or len({s.node for s in graph.outputs}) != 1:
            raise ValueError(f"{self._runner.owner}: a streamed model must have one input and one output, got {len(graph.inputs)} and {len(graph.outputs)}.")
        for layer in self._runner.layers:
            if not layer.streams or getattr(layer, "go_backwards", False):
                raise ValueError(f"{type(layer).__name__} '{layer.name}': cannot be streamed, because {layer.waits_for}.")
        self.dtype = self._runner.dtype
        starts = {layer.name: layer.stream_start() for layer in self._runner.layers}
        self._states = {name: start for name, start in starts.items() if start}
        self.pace = prod(layer.pace for layer in self._runner.layers)
        self._inlet = self._runner.inlets[0]
        self._width: tuple[int, ...] = tuple(self._inlet.shape[2:])  # type: ignore[arg-type]
        self._bounds: dict[int, Bound] = {}
        self._first = self._bound(self.pace)
        self._call = self._first.program.call if self.pace == 1 else self._refuse

    def _bound(self, time: int) -> Bound:
        """The plan for a chunk of `time` steps."""
        if time not in self._bounds:
            runner = self._runner
            b = Builder(runner.params, False, False, _engine.get_num_threads())
            b.streaming = self._states
            x = runner.source(self._inlet, np.empty((1, time, *self._width), self.dtype), False, False)
            tensors = {runner.graph.inputs[0]: x}
            describe(b, runner.graph, tensors, {})
            h = tensors[runner.graph.outputs[0]]
            target = b.output(h, "output")
            bound = Bound(b, b.plan.compile(), [x], [(target, h)])
            shapes = (self._width, h.features) if time == 1 else ((time, *self._width), (h.rows.time, *h.features))
            if not self._inlet.tokens:
                bound.program.set_direct(x.buffer, target, *shapes, self.dtype)
            runner.connect(bound, [np.empty(1, self.dtype)], [np.empty(1, self.dtype)])
            self._bounds[time] = bound
        return self._bounds[time]

    def _refuse(self, x: Any) -> None:
        raise ValueError(f"{self._runner.owner}: a stream gives one output for {self.pace} steps. Give process() chunks whose length is a multiple of {self.pace}.")

    def step(self, x: Any) -> np.ndarray:
        """The output for the next input; for models whose layers give one for each.

        Parameters
        ----------
        x : array_like of shape (I,), or an integer token

        Returns
        -------
        ndarray of shape (O,)
        """
        if self._runner.params.stale:
            self._runner.params.pack(1)
        y = self._call(x)
        return y if y is not None else self.process(np.asarray(x)[None])[0]

    def process(self, chunk: Any) -> np.ndarray:
        """The outputs for the next inputs; the same numbers as step by step.

        Parameters
        ----------
        chunk : array_like of shape (T, I), or (T,) tokens
            T is a multiple of the product of all strides, `pace`.

        Returns
        -------
        ndarray of shape (T / pace, O)
        """
        x = np.asarray(chunk)
        if x.ndim != 1 + len(self._width) or x.shape[1:] != self._width:
            wanted = ", ".join(["T", *map(str, self._width)])
            raise ShapeError(f"{self._runner.owner}: a stream's chunk must have shape ({wanted}), got {x.shape}.")
        if len(x) % self.pace:
            self._refuse(x)
        x = self._inlet.check(x[None], self.dtype)
        if not x.shape[1]:
            return np.empty((0, *self._first.outputs[0][1].features), self.dtype)
        bound = self._bound(x.shape[1])
        result = bound.outputs[0][1]
        output = np.empty((result.rows.time, *result.features), self.dtype)
        with bound.program.lock:
            self._runner.params.pack(bound.program.team_size)
            self._runner.connect(bound, [x], [output])
            bound.program.run()
        return output

    def reset(self) -> None:
        """Start a new sequence: all states are zero, or what a cell of the user's starts from."""
        for layer in self._runner.layers:
            for state, start in zip(self._states.get(layer.name, ()), layer.stream_start(), strict=True):
                state[...] = start

    def get_state(self) -> dict[str, list[np.ndarray]]:
        """Copies of what each layer keeps, by its name: [h] or, for an LSTM, [h, c], each of shape (H,); the last inputs of a convolution."""
        return {name: [state[0].copy() for state in states] for name, states in self._states.items()}

    def set_state(self, state: dict[str, list[Any]]) -> None:
        """Go on from what :meth:`get_state` gave."""
        if set(state) != set(self._states):
            raise ValueError(f"{self._runner.owner}: a stream's state must have the layers {sorted(self._states)}, got {sorted(state)}.")
        for name, arrays in self._states.items():
            for i, (own, value) in enumerate(zip(arrays, state[name], strict=True)):
                if np.shape(value) != own.shape[1:]:
                    raise ShapeError(f"{self._runner.owner}: state {i} of '{name}' must have shape {own.shape[1:]}, got {np.shape(value)}.")
                own[0] = value
