"""Stream: one live sequence, a step or a chunk at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnfast import _engine
from rnnfast.layers.runner import PLANS_KEPT, Bound, States
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
        self.single, self.chunks = None, []
        self.version = self._live.runner.params.age
        self._first = self._bound(self.pace)
        if self.pace == 1:
            self.single = self._channel(self._first, 1, True)

    def __reduce__(self) -> Any:
        raise TypeError("A stream cannot be pickled or copied by the module copy: use its copy(), or keep what get_state() gives.")

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

    def _channel(self, bound: Bound, time: int, single: bool) -> _engine.Channel:
        """The straight way through a plan."""
        live, intakes = self._live, []
        for inlet, width, source in zip(live.inlets, live.widths, bound.sources, strict=True):
            vocabulary = min((layer.input_dim for layer in inlet.embeddings), default=0)
            least = int(any(layer.mask_zero for layer in inlet.embeddings))
            intakes.append(_engine.Intake(source.buffer, width if single else (time, *width), live.dtype, vocabulary, least))
        outlets = [_engine.Outlet(buffer, live.output_shape(t, (), single), live.dtype) for buffer, t in bound.outputs]
        return _engine.Channel(bound.program, intakes, outlets, bound.builder.plan.brief)

    def careful_step(self, x: Any, out: Any = None) -> Any:
        """As step, for whatever a caller gives."""
        self._live.check_time(1)
        return self._careful(x, out, True)

    def careful_process(self, chunk: Any, out: Any = None) -> Any:
        """As process, for whatever a caller gives."""
        return self._careful(chunk, out, False)

    def _careful(self, x: Any, out: Any, single: bool) -> Any:
        live = self._live.renewed()
        if live is not self._live:
            self._live = live
            self._prepare()
        xs = live.check(live.each(x), () if single else ("T",))
        time = xs[0].shape[1]
        live.check_time(time)
        bound = self._bound(time) if time else self._first
        outs = live.outputs(bound, (), single, out, empty=not time)
        if time:
            xs = live.apart(xs, outs)
            live.runner.params.pack(bound.program.team_size)
            live.runner.connect(bound, xs, outs)
            bound.program.run()
            made = self._channel(bound, time, single)
            if single:
                self.single = made
            else:
                self.chunks = [made, *self.chunks][:PLANS_KEPT]
        return outs if len(outs) > 1 else outs[0]

    def reset(self) -> None:
        """Start a new sequence: all states are zero, or what a cell of the user's starts from."""
        self._alone(self._live.reset, self._states, 0)

    def get_state(self) -> States:
        """Copies of what each layer keeps, by its name: [h] or, for an LSTM, [h, c], each of shape (H,); the last inputs of a convolution or of a window of attention."""
        state: States = self._alone(self._live.read, self._states, 0)
        return state

    def set_state(self, state: dict[str, list[Any]]) -> None:
        """Go on from what :meth:`get_state` gave."""
        self._alone(self._live.write, self._states, 0, state)

    def copy(self) -> Stream:
        """Another stream that stands where this one does; from here on they know nothing of each other."""
        other = type(self)(self._live.model)
        other.set_state(self.get_state())
        return other
