"""Stream: one live sequence, a step or a chunk at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.layers.runner import PLANS_KEPT, Arrays, Bound, States
from rnnfast.models._live import LiveModel

if TYPE_CHECKING:
    from rnnfast.models.model import Runnable


class Stream(_engine.LiveStream):
    """A live sequence of a model, made by `model.stream()`. It keeps the states between calls.

    A stream belongs to one thread at a time; several threads run streams of their own side by side. From the second call of a size on, a `step` or `process`
    allocates nothing but its result, and nothing at all with `out`.

    Parameters
    ----------
    model : Sequential or Model
        Built. Its weights are read at every call.

    Attributes
    ----------
    pace : int
        Steps for one step of the output: the product of all strides.

    Raises
    ------
    ValueError
        If a layer cannot give its output step by step.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, layers
    >>> model = Sequential([Input((None, 3)), layers.GRU(4, return_sequences=True), layers.Dense(2)])
    >>> stream, x = model.stream(), np.ones((5, 3), np.float32)
    >>> first = stream.process(x[:4])
    >>> last = stream.step(x[4])
    >>> bool((np.vstack([first, last]) == model.predict_on_batch(x[None])[0]).all())
    True
    """

    def __init__(self, model: Runnable) -> None:
        self._live = LiveModel(model)
        self._states = self._live.rows(1)
        self._prepare()

    def _prepare(self) -> None:
        """Make the plan of the shortest chunk."""
        self._bounds: dict[int, Bound] = {}
        self.single = self.latest = None
        self.version = self._live.runner.params.age
        self._first = self._bound(self.pace)
        if self.pace == 1:
            self.single = self._channel(self._first, 1, True)

    @property
    def dtype(self) -> str:
        """Of inputs, outputs and states."""
        return self._live.dtype

    @property
    def pace(self) -> int:
        return self._live.pace

    def _bound(self, time: int) -> Bound:
        """The plan for a chunk of `time` steps."""
        bound = self._bounds.get(time)
        if bound is None or not bound.program.current:
            bound = self._bounds[time] = self._live.plan(self._states, 1, time)
            if len(self._bounds) > PLANS_KEPT:
                self._bounds.pop(next(iter(self._bounds)))
        return bound

    def _channel(self, bound: Bound, time: int, single: bool) -> _engine.Channel | None:
        """The straight way through a plan of one input and one output."""
        live = self._live
        if len(live.inlets) > 1 or len(bound.outputs) > 1:
            return None
        (inlet,), (width,), (target, tensor) = live.inlets, live.widths, bound.outputs[0]
        if any(layer.mask_zero for layer in inlet.embeddings):
            return None
        vocabulary = min((layer.input_dim for layer in inlet.embeddings), default=0)
        gives = (*(() if single or not tensor.timed else (tensor.rows.time,)), *tensor.features)
        shapes = (width if single else (time, *width)), gives
        return _engine.Channel(bound.program, bound.sources[0].buffer, target, shapes, live.dtype, bound.builder.plan.brief, vocabulary)

    def careful_step(self, x: Any, out: Any = None) -> Any:
        """As step, for whatever a caller gives."""
        self._live.check_time(1)
        return self._careful([np.asarray(one)[None] for one in self._live.each(x)], out, True)

    def careful_process(self, chunk: Any, out: Any = None) -> Any:
        """As process, for whatever a caller gives."""
        return self._careful(self._live.each(chunk), out, False)

    def _careful(self, given: list[Any], out: Any, single: bool) -> Any:
        if not self._live.current:  # the weights have moved into another vector
            self._live = LiveModel(self._live.model)
            self._prepare()
        xs = self._live.check(given, ("T",))
        time = xs[0].shape[1]
        self._live.check_time(time)
        if time == 0:
            empty = [np.empty((*((0,) if t.timed else ()), *t.features), self.dtype) for _, t in self._first.outputs]
            return empty if len(empty) > 1 else empty[0]
        bound = self._bound(time)
        outs = self._live.outputs(bound, (), single, out)
        self._run(bound, xs, outs)
        if single:
            self.single = self._channel(bound, 1, True)
        else:
            self.latest = self._channel(bound, time, False)
        return outs if len(outs) > 1 else outs[0]

    def _run(self, bound: Bound, xs: Arrays, outs: Arrays) -> None:
        runner = self._live.runner
        runner.params.pack(bound.program.team_size)
        runner.connect(bound, xs, outs)
        self.run(bound.program)

    def reset(self) -> None:
        """Start a new sequence: all states are zero, or what a cell of the user's starts from."""
        self._live.reset(self._states, 0)

    def get_state(self) -> States:
        """Copies of what each layer keeps, by its name: [h] or, for an LSTM, [h, c], each of shape (H,); the last inputs of a convolution or of a window of attention."""
        return self._live.read(self._states, 0)

    def set_state(self, state: dict[str, list[Any]]) -> None:
        """Go on from what :meth:`get_state` gave."""
        self._live.write(self._states, 0, state)

    def copy(self) -> Stream:
        """Another stream that stands where this one does; from here on they know nothing of each other."""
        other = type(self)(self._live.model)
        other.set_state(self.get_state())
        return other
