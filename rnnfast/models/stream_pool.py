"""StreamPool: many live sequences of one model, of which any step together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnfast import _engine
from rnnfast.errors import ShapeError
from rnnfast.layers.runner import PLANS_KEPT, Arrays, Bound, States
from rnnfast.models._live import LiveModel
from rnnfast.plan.schedule import region_flops

if TYPE_CHECKING:
    from rnnfast.models.model import Runnable


class StreamPool:
    """Live sequences of a model that join and leave at any step, made by `model.stream_pool(capacity)`.

    The sequences of a call run as the rows of one batch, in one call of the engine, without the interpreter's lock and on as many threads as their work is
    worth; each gives the bits that a stream of its own would. Sequences that are not in a call cost nothing. Calls from several threads wait for each other.

    Parameters
    ----------
    model : Sequential or Model
        Built. Its weights are read at every call.
    capacity : int
        Sequences at most.

    Attributes
    ----------
    pace : int
        Steps for one step of the output, as of a stream.

    Examples
    --------
    >>> import numpy as np
    >>> from rnnfast import Input, Sequential, layers
    >>> model = Sequential([Input((None, 3)), layers.GRU(4, return_sequences=True)])
    >>> pool = model.stream_pool(100)
    >>> first, second = pool.open(), pool.open()
    >>> x = np.ones((2, 3), np.float32)
    >>> pool.step([first, second], x).shape
    (2, 4)
    >>> pool.step({second: x[0]})[second].shape
    (4,)
    >>> pool.close(first)
    >>> len(pool)
    1
    """

    def __init__(self, model: Runnable, capacity: int) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, (int, np.integer)) or capacity < 1:
            raise ValueError(f"stream_pool: capacity must be an integer of at least 1, got {capacity!r}.")
        self._live, self.capacity, self._lock = LiveModel(model), int(capacity), _engine.Lock()
        self._plans: dict[int, tuple[Bound, _engine.PoolPlan]] = {}
        try:
            self._rows, self._states = _engine.PoolRows(self.capacity), self._live.rows(self.capacity)
        except (MemoryError, OverflowError, ValueError) as error:
            raise MemoryError(f"{self._live.owner}: a pool of {capacity} streams does not fit into memory: {error}") from error
        self._plan(self.pace)

    def __reduce__(self) -> Any:
        raise TypeError("A pool of streams cannot be pickled or copied: keep what get_state(stream) gives.")

    @property
    def dtype(self) -> str:
        """Of inputs, outputs and states."""
        return self._live.dtype

    @property
    def pace(self) -> int:
        return self._live.pace

    def __len__(self) -> int:
        return int(self._rows.count)

    def __contains__(self, stream: object) -> bool:
        return self._find(stream) >= 0

    @property
    def ids(self) -> list[int]:
        """The open streams."""
        return self._rows.ids()

    # -- streams ---------------------------------------------------------------------------------------------------------------

    def open(self) -> int:
        """Begin a sequence; the id that it is called by, which no other ever gets.

        Raises
        ------
        RuntimeError
            If the pool is full.
        """
        with self._lock:
            stream, row = self._take()
            self._live.reset(self._states, row)
        return stream

    def _take(self) -> tuple[int, int]:
        found = self._rows.open()
        if found is None:
            raise RuntimeError(f"{self._live.owner}: all {self.capacity} streams of the pool are open. Close one, or make a larger pool.")
        return found

    def close(self, stream: int) -> None:
        """End a sequence."""
        with self._lock:
            self._rows.close(self._row(stream))

    def copy(self, stream: int) -> int:
        """A new sequence that stands where another does: its id."""
        with self._lock:
            source = self._row(stream)
            made, row = self._take()
            for arrays in self._states.values():
                for own in arrays:
                    own[row] = own[source]
        return made

    def reset(self, stream: int) -> None:
        """Let a sequence start anew."""
        with self._lock:
            self._live.reset(self._states, self._row(stream))

    def get_state(self, stream: int) -> States:
        """Copies of what each layer keeps of a sequence, as of a single stream: either takes the other's."""
        with self._lock:
            return self._live.read(self._states, self._row(stream))

    def set_state(self, stream: int, state: dict[str, list[Any]]) -> None:
        """Let a sequence go on from what :meth:`get_state` gave."""
        with self._lock:
            self._live.write(self._states, self._row(stream), state)

    def _find(self, stream: Any) -> int:
        """The row of an open stream, or -1."""
        known = isinstance(stream, int | np.integer) and not isinstance(stream, bool) and 0 <= stream < 2**63
        return self._rows.row_of(int(stream)) if known else -1

    def _row(self, stream: Any) -> int:
        row = self._find(stream)
        if row < 0:
            raise ValueError(f"{self._live.owner}: no stream {stream!r} is open in the pool.")
        return row

    # -- steps -----------------------------------------------------------------------------------------------------------------

    def step(self, ids: Any, x: Any = None, out: Any = None) -> Any:
        """The outputs for the next input of some of the sequences.

        Parameters
        ----------
        ids : array_like of int, (n,), or dict of id to input
            Each at most once, in any order.
        x : array_like of shape (n, I), or (n,) tokens
            Of several inputs a list in their order or a dict by their names.
        out : ndarray of shape (n, O), optional
            Where the outputs go, C-contiguous and of the model's dtype; of several outputs a list.

        Returns
        -------
        ndarray of shape (n, O), a list of them, or for a dict of inputs a dict of id to output
        """
        self._live.check_time(1)
        return self._by_id(ids, x, out, True) if isinstance(ids, Mapping) else self._call(ids, x, out, True)

    def process(self, ids: Any, chunks: Any = None, out: Any = None) -> Any:
        """The outputs for the next T inputs of some of the sequences; the same numbers as step by step.

        Parameters
        ----------
        ids : array_like of int, (n,), or dict of id to chunk
        chunks : array_like of shape (n, T, I), or (n, T) tokens
            T is a multiple of `pace`.
        out : ndarray of shape (n, T / pace, O), optional

        Returns
        -------
        ndarray of shape (n, T / pace, O), a list of them, or a dict of id to output
        """
        return self._by_id(ids, chunks, out, False) if isinstance(ids, Mapping) else self._call(ids, chunks, out, False)

    def _by_id(self, given: Mapping[int, Any], x: Any, out: Any, single: bool) -> dict[int, Any]:
        if x is not None or out is not None:
            raise TypeError(f"{self._live.owner}: a dict of id to input comes alone, and its outputs are a dict. Give ids and an array to say where the outputs go.")
        ids, live = list(given), self._live
        columns = list(zip(*(live.each(x) for x in given.values()), strict=True)) or [()] * len(live.inlets)
        try:
            xs = [np.asarray(column) if ids else np.empty((0, *(() if single else (0,)), *width)) for column, width in zip(columns, live.widths, strict=True)]
        except ValueError as error:
            raise ShapeError(
                f"{live.owner}: the inputs of a pool's streams must have one shape, got {sorted({np.shape(x) for x in given.values()})}."
            ) from error
        found = self._call(ids, xs if len(xs) > 1 else xs[0], None, single)
        if isinstance(found, list):
            return {one: list(ys) for one, *ys in zip(ids, *found, strict=True)}
        return dict(zip(ids, found, strict=True))

    def _call(self, ids: Any, x: Any, out: Any, single: bool) -> Any:
        given = np.asarray(ids) if np.size(ids) else np.empty(0, np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise TypeError(f"{self._live.owner}: ids must be integers of shape (n,), got {given.dtype} of shape {given.shape}.")
        streams = np.ascontiguousarray(given, np.int64)
        with self._lock:
            live = self._live.renewed()
            if live is not self._live:
                self._live, self._plans = live, {}
            xs = self._live.check(self._live.each(x), ("n",) if single else ("n", "T"))
            if len(xs[0]) != len(streams):
                raise ShapeError(f"{self._live.owner}: inputs must have a row for each of {len(streams)} ids, got {len(xs[0])}.")
            self._live.check_time(xs[0].shape[1])
            wrong = self._rows.find(streams)
            if wrong is not None:
                self._row(int(given[wrong]))
                raise ValueError(f"{self._live.owner}: stream {streams[wrong]} is in the call twice.")
            return self._run(xs, out, single)

    def _run(self, xs: Arrays, out: Any, single: bool) -> Any:
        n, time = xs[0].shape[:2]
        bound, plan = self._plan(time or self.pace)
        outs = self._live.outputs(bound, (n,), single, out, empty=not time)
        if n and time:
            self._live.runner.params.pack(bound.program.team_size)
            self._rows.run(plan, self._live.apart(xs, outs), outs, region_flops(bound.program.team_size))
        return outs if len(outs) > 1 else outs[0]

    def _plan(self, time: int) -> tuple[Bound, _engine.PoolPlan]:
        """The plan for chunks of `time` steps."""
        found = self._plans.get(time)
        if found is None or not found[0].program.current:
            bound = self._live.plan(self._states, self.capacity, time)
            b = bound.builder
            assert b.live is not None
            maps = [*(source.rows for source in bound.sources), *b.live.maps, *(rows for rows, how, _ in b.derived if how != "set_parts_of")]
            parts = [(rows, parent) for rows, how, parent in b.derived if how == "set_parts_of"]
            buffers = [source.buffer for source in bound.sources], [buffer for buffer, _ in bound.outputs]
            plan = _engine.PoolPlan(bound.program, *buffers, maps, parts, list(b.live.slots.values()), sum(b.plan.flops) / self.capacity)
            found = self._plans[time] = bound, plan
            if len(self._plans) > PLANS_KEPT:
                self._plans.pop(next(iter(self._plans)))
        return found
