"""Calls that go straight from a caller's arrays to the engine: of a program, of a live stream, of a pool of them. Nothing is looked at twice, and nothing is
allocated but a result that the caller has no array for, if it is large or those before are still held."""
import numpy as np

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongLong, PyLong_CheckExact
from libc.stdint cimport int64_t

from rnnfast._engine.buffers cimport Buffer, Rows, Version
from rnnfast._engine.program cimport forked, Program

cnp.import_array()

cdef object np_int64 = np.int64

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(void *)

cdef enum:
    RANK_MOST = 6
    RESULT_BYTES = 16 * 1024  # of arrays that a channel keeps

# What an array of the caller's must be.
cdef struct form:
    int rank, type_number
    cnp.npy_intp shape[RANK_MOST]


cdef form form_of(tuple shape, dtype):
    cdef form made
    made.rank, made.type_number = len(shape), (<cnp.dtype>np.dtype(dtype)).num
    if made.rank > RANK_MOST:
        made.rank = -1  # nothing fits
        return made
    for i, n in enumerate(shape):
        made.shape[i] = n
    return made


cdef inline bint fits(const form *wanted, object x, int flags):
    """Whether x is such an array, contiguous, aligned and of the machine's byte order."""
    cdef int i
    if not cnp.PyArray_CheckExact(x) or cnp.PyArray_TYPE(x) != wanted.type_number or cnp.PyArray_NDIM(x) != wanted.rank:
        return False
    if cnp.PyArray_FLAGS(x) & flags != flags or not cnp.PyArray_ISNOTSWAPPED(x):
        return False
    for i in range(wanted.rank):
        if cnp.PyArray_DIM(x, i) != wanted.shape[i]:
            return False
    return True


cdef enum:
    READ = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    WRITE = READ | cnp.NPY_ARRAY_WRITEABLE


cdef class Lengths:
    """Maps of rows that are made anew for the lengths, or the mask, of a call.

    Parameters
    ----------
    rows : Rows
        The input's.
    derived : iterable of tuple
        Maps that follow it, each with how and which one.
    """

    cdef Rows rows
    cdef tuple derived
    cdef form takes
    cdef form takes_mask

    def __init__(self, Rows rows, derived):
        self.rows, self.derived = rows, tuple(derived)
        self.takes, self.takes_mask = form_of((rows.map.batch,), "int64"), form_of((rows.map.batch, rows.map.time), "bool")

    cdef bint fit(self, object lengths, object mask) noexcept:
        """Whether the one of both that is given needs no closer look."""
        cdef int64_t b
        cdef const int64_t *given
        if lengths is None:
            return fits(&self.takes_mask, mask, READ)
        if not fits(&self.takes, lengths, READ):
            return False
        given = <const int64_t *>cnp.PyArray_DATA(lengths)
        for b in range(self.rows.map.batch):
            if not 0 <= given[b] <= self.rows.map.time:
                return False
        return True

    cdef object lay(self, object lengths, object mask):
        if lengths is None:
            self.rows.lay(<const unsigned char *>cnp.PyArray_DATA(mask), NULL)
        else:
            self.rows.lay(NULL, <const int64_t *>cnp.PyArray_DATA(lengths))
        for rows, how, parent in self.derived:
            getattr(rows, how)(parent)


cdef class Port:
    """An array of the caller's in a channel.

    Parameters
    ----------
    buffer : Buffer
    shape : tuple of int
        Of the array.
    dtype : str
    """

    cdef Buffer buffer
    cdef form array
    cdef int64_t bytes

    def __init__(self, Buffer buffer, tuple shape, str dtype):
        self.buffer, self.array, self.bytes = buffer, form_of(shape, dtype), np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize


cdef inline bint meet(Port one, Port other):
    """Whether the arrays have bytes in common."""
    return one.buffer.view.data < other.buffer.view.data + other.bytes and other.buffer.view.data < one.buffer.view.data + one.bytes


cdef class Intake(Port):
    """An input: numbers, or tokens from `least` on, of which there are `vocabulary`."""

    cdef int64_t vocabulary, least
    cdef int64_t token

    def __init__(self, Buffer buffer, tuple shape, str dtype, int64_t vocabulary=0, int64_t least=0):
        super().__init__(buffer, shape, "int64" if vocabulary else dtype)
        self.vocabulary, self.least = vocabulary, least

    cdef bint point_at(self, object x) except -1:
        """Read x; False if it needs a closer look."""
        cdef int64_t i
        cdef int64_t *tokens
        if self.vocabulary and self.array.rank == 0 and (PyLong_CheckExact(x) or type(x) is np_int64):
            try:
                self.token = PyLong_AsLongLong(x)
            except OverflowError:
                return False
            self.buffer.view.data = <char *>&self.token
            return self.least <= self.token < self.vocabulary
        if not fits(&self.array, x, READ):
            return False
        self.buffer.view.data = <char *>cnp.PyArray_DATA(x)
        if self.vocabulary:
            tokens = <int64_t *>cnp.PyArray_DATA(x)
            for i in range(cnp.PyArray_SIZE(x)):
                if not self.least <= tokens[i] < self.vocabulary:
                    return False
        return True


cdef class Outlet(Port):
    """An output."""

    cdef object older  # the last two results: a caller who puts each in the place of the one before holds one of them
    cdef object newer

    cdef object result(self):
        """An array for the output: a small one that was given out before and that nobody holds any more, else a new one."""
        cdef object made = self.older
        if made is None or Py_REFCNT(<void *>made) > 2 or not fits(&self.array, made, WRITE):  # 2: `older` and `made`
            made = cnp.PyArray_EMPTY(self.array.rank, self.array.shape, self.array.type_number, 0)
        if self.bytes <= RESULT_BYTES:
            self.older, self.newer = self.newer, made
        self.buffer.view.data = <char *>cnp.PyArray_DATA(made)
        return made

    cdef bint point_at(self, object out):
        """Write to a caller's array; False if it needs a closer look."""
        if not fits(&self.array, out, WRITE):
            return False
        self.buffer.view.data = <char *>cnp.PyArray_DATA(out)
        return True


cdef class Channel:
    """The straight way through a program whose buffers are connected to arrays of these shapes already.

    Parameters
    ----------
    program : Program
    intakes : list of Intake
    outlets : list of Outlet
    brief : bool
        Whether a run is so short that another thread may wait for it.
    lengths : Lengths, optional
        If the input, the only one, comes with them.
    """

    cdef readonly Program program
    cdef list intakes
    cdef list outlets
    cdef Intake first
    cdef Outlet main
    cdef Lengths lengths
    cdef bint brief

    def __init__(self, Program program, list intakes, list outlets, bint brief=False, Lengths lengths=None):
        self.program, self.intakes, self.outlets, self.brief, self.lengths = program, intakes, outlets, brief, lengths
        self.first, self.main = intakes[0], outlets[0]

    cdef bint point_at(self, object x) except -1:
        """Read the inputs; False if one of them needs a closer look."""
        cdef Intake one
        cdef Py_ssize_t i
        if len(self.intakes) == 1:
            return self.first.point_at(x)
        if not isinstance(x, list) or len(<list>x) != len(self.intakes):
            return False
        for i in range(len(self.intakes)):
            one = self.intakes[i]
            if not one.point_at((<list>x)[i]):
                return False
        return True

    cdef object write_to(self, object out):
        """`out`, or new arrays if it is None, to which the outputs go; None if it needs a closer look."""
        cdef Outlet one
        cdef Py_ssize_t i
        if out is None:
            return self.main.result() if len(self.outlets) == 1 else [(<Outlet>one).result() for one in self.outlets]
        if len(self.outlets) == 1:
            return out if self.main.point_at(out) and (self.apart() if len(self.intakes) > 1 else not meet(self.main, self.first)) else None
        if not isinstance(out, list) or len(<list>out) != len(self.outlets):
            return None
        for i in range(len(self.outlets)):
            one = self.outlets[i]
            if not one.point_at((<list>out)[i]):
                return None
        return out if self.apart() else None

    cdef bint apart(self):
        """Whether no output is where an input or another output is."""
        cdef Py_ssize_t i, j
        cdef Port one, other
        for i in range(len(self.outlets)):
            one = self.outlets[i]
            for other in self.intakes:
                if meet(one, other):
                    return False
            for j in range(i):
                if meet(one, <Port>self.outlets[j]):
                    return False
        return True

    cdef object pass_through(self, object x, object out):
        """The outputs for x, in `out` if it is not None; None if x or `out` needs a closer look."""
        out = self.write_to(out) if self.program.is_current() and self.point_at(x) else None
        if out is None:
            return None
        if self.brief and not self.program.guarded:
            self.program.launch(self.program.team_size, 0, self.program.count)
        else:
            with nogil:
                self.program.launch(self.program.team_size, 0, self.program.count)
        self.program.finish()
        return out

    cdef object call(self, object x, object lengths, object mask):
        """As pass_through, to a new array; None too while another thread is in the program."""
        if not self.program.lock.take():
            return None
        try:
            if self.lengths is not None:
                self.lengths.lay(lengths, mask)
            return self.pass_through(x, None)
        finally:
            self.program.lock.give()


cdef class Lesson:
    """The straight way through a training program of one input and one target, in which everything but these arrays is as the last step left it.

    Parameters
    ----------
    program : Program
    source, target : Buffer
    shapes : pair of tuple of int
        Of the caller's arrays.
    dtype : str
    scalars : ndarray of float64
        Where the optimizer's numbers are read.
    result : ndarray of float64, one
        Where the loss is written.
    version : Version
        Of the weights, which a step changes.
    lengths : Lengths, optional
        If the input comes with them.
    scored : Rows, optional
        With lengths, the output's map.
    weights : ndarray of float64, optional
        With lengths, what each of the output's rows weighs in the loss: all the same.
    mean : bool
        Whether that is their share, instead of one.
    """

    cdef readonly Program program
    cdef Buffer source
    cdef Buffer target
    cdef form takes
    cdef form aims
    cdef Lengths lengths
    cdef Rows scored
    cdef double[::1] weights
    cdef bint mean
    cdef double[::1] scalars
    cdef double[::1] result
    cdef Version version

    def __init__(self, Program program, Buffer source, Buffer target, shapes, str dtype, double[::1] scalars, double[::1] result, Version version,
                 Lengths lengths=None, Rows scored=None, double[::1] weights=None, bint mean=True):
        self.program, self.source, self.target, self.scalars, self.result, self.version = program, source, target, scalars, result, version
        self.takes, self.aims = form_of(shapes[0], dtype), form_of(shapes[1], dtype)
        self.lengths, self.scored, self.weights, self.mean = lengths, scored, weights, mean

    def learn(self, x, y, lengths, tuple scalars):
        """The loss before a step with these numbers of the optimizer; None, and no step, if anything needs a closer look."""
        cdef Py_ssize_t i
        if not self.program.is_current() or not fits(&self.takes, x, READ) or not fits(&self.aims, y, READ):
            return None
        if (self.lengths is None) != (lengths is None) or (lengths is not None and not self.lengths.fit(lengths, None)) or not self.program.lock.take():
            return None
        try:
            if lengths is not None:
                self.lengths.lay(lengths, None)
                for i in range(self.scored.map.count):
                    self.weights[i] = 1.0 / self.scored.map.count if self.mean else 1.0
            self.source.view.data, self.target.view.data = <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(y)
            for i in range(len(scalars)):
                self.scalars[i] = scalars[i]
            with nogil:
                self.program.launch(self.program.team_size, 0, self.program.count)
            self.program.finish()
            self.version.now += 1
            return self.result[0]
        finally:
            self.program.lock.give()


cdef enum:
    CHANNELS_KEPT = 16


cdef class Predictor:
    """Base of models: what a subclass's `careful_predict` need not look at.

    Attributes
    ----------
    version : Version or None
        Of the weights that the channels read.
    """

    cdef public Version version
    cdef list channels  # of the shapes that came last, the latest first

    def forget(self, Version version=None):
        """Let go of all channels; those to come read weights of this version."""
        self.version, self.channels = version, []

    def remember(self, Channel channel, Version version):
        """Take this channel, which reads weights of this version, from now on for arrays that fit it."""
        if version is not self.version:
            return
        self.channels = [channel, *[one for one in self.channels if one is not channel]][:CHANNELS_KEPT]

    def predict_on_batch(self, x, *, lengths=None, mask=None, resets=None):
        """Return the outputs for one batch, in one call of the engine.

        Parameters
        ----------
        x : array_like, or a list or dict of them
            The inputs, [B, T, I] or as the model's Input says; of several inputs a list in their order or a dict by their names.
        lengths : array_like of int, shape (B,), optional
            Valid steps of each row.
        mask : array_like of bool, shape (B, T), optional
            Which steps are valid.
        resets : array_like of bool, shape (B, T), optional
            Before which steps states start from zero.

        Returns
        -------
        ndarray, or a list or dict of them
        """
        cdef Channel channel
        cdef bint ragged = lengths is not None or mask is not None
        if (lengths is None or mask is None) and resets is None and self.version is not None and self.version.now == self.version.packed:
            for channel in self.channels:
                if (channel.lengths is not None) == ragged and fits(&channel.first.array, x, READ) and not (ragged and not channel.lengths.fit(lengths, mask)):
                    y = channel.call(x, lengths, mask)
                    if y is not None:
                        return y
                    break
        return self.careful_predict(x, lengths, mask, resets)


cdef class LiveStream:
    """Base of streams: what a subclass's `careful_step` and `careful_process` need not look at.

    Attributes
    ----------
    single : Channel or None
        Of one step.
    chunks : list of Channel
        Of the chunks that came last, the latest first.
    version : Version
        Of the weights.
    """

    cdef public Channel single
    cdef public list chunks
    cdef public Version version
    cdef int busy  # in a call: how many forks led to the process that it is in, and one

    cdef object enter(self):
        if self.busy == forked + 1:
            raise RuntimeError("A stream was called by two threads at once. Give each thread a stream of its own: model.stream(), or copy() of one.")
        self.busy = forked + 1

    def _alone(self, call, *args):
        """What call(*args) gives, while no other thread uses the stream."""
        self.enter()
        try:
            return call(*args)
        finally:
            self.busy = 0

    def step(self, x, out=None):
        """The output for the next input; for models whose layers give one for each.

        Parameters
        ----------
        x : array_like of shape (I,), or an integer token
            Of several inputs a list in their order or a dict by their names.
        out : ndarray of shape (O,), optional
            Where the output goes, C-contiguous and of the model's dtype; with it, and an x of that dtype, a call allocates nothing. Of several outputs a list.

        Returns
        -------
        ndarray of shape (O,), or a list of them
            `out` if it was given.
        """
        self.enter()
        try:
            y = self.single.pass_through(x, out) if self.single is not None and self.version.now == self.version.packed else None
            return y if y is not None else self.careful_step(x, out)
        finally:
            self.busy = 0

    def process(self, chunk, out=None):
        """The outputs for the next inputs; the same numbers as step by step.

        Parameters
        ----------
        chunk : array_like of shape (T, I), or (T,) tokens
            T is a multiple of the product of all strides, `pace`. Of several inputs a list in their order or a dict by their names.
        out : ndarray of shape (T / pace, O), optional
            As of :meth:`step`.

        Returns
        -------
        ndarray of shape (T / pace, O), or a list of them
        """
        cdef Channel channel
        self.enter()
        try:
            if self.version.now == self.version.packed:
                for channel in self.chunks:
                    y = channel.pass_through(chunk, out)
                    if y is not None:
                        return y
            return self.careful_process(chunk, out)
        finally:
            self.busy = 0


cdef class PoolPlan:
    """The program of a pool for chunks of some length, and the maps that say which rows are in a call.

    Parameters
    ----------
    program : Program
    sources, targets : list of Buffer
    maps : list of Rows
        Those of which only the rows in a call exist.
    parts : list of (Rows, Rows)
        Those that are parts of another's.
    slots : list of Rows
        Those that lead to the states.
    flops : float
        Of one row, about.
    """

    cdef readonly Program program
    cdef list sources
    cdef list targets
    cdef list maps
    cdef list parts
    cdef list slots
    cdef int64_t active
    cdef double flops

    def __init__(self, Program program, list sources, list targets, list maps, list parts, list slots, double flops):
        self.program, self.sources, self.targets, self.maps, self.parts, self.slots, self.flops, self.active = program, sources, targets, maps, parts, slots, flops, -1

    cdef object run(self, const int64_t *slots, int64_t n, list xs, list outs, double region):
        cdef Rows one, parent
        cdef Buffer buffer
        cdef int i, size
        if n != self.active:
            self.active = n
            for one in self.maps:
                one.resize(n)
            for one, parent in self.parts:
                one.set_parts_of(parent)
        for one in self.slots:
            one.set_slots(slots, n)
        for i in range(len(self.sources)):
            buffer = self.sources[i]
            buffer.view.data = <char *>cnp.PyArray_DATA(xs[i])
        for i in range(len(self.targets)):
            buffer = self.targets[i]
            buffer.view.data = <char *>cnp.PyArray_DATA(outs[i])
        size = self.program.team_size if n > 1 and n * self.flops >= region else 1
        with nogil:
            self.program.launch(size, 0, self.program.count)
        self.program.finish()


cdef class PoolRows:
    """Which stream is in which row of a pool's states. Ids are never given twice.

    Parameters
    ----------
    capacity : int
    """

    cdef readonly int64_t capacity
    cdef readonly int64_t count
    cdef int64_t[::1] owner    # the stream in each row, or -1
    cdef int64_t[::1] free     # a stack of the rows without one
    cdef int64_t[::1] given    # how many streams each row has had
    cdef int64_t[::1] seen     # the call that asked for a row last
    cdef int64_t[::1] rows     # of the streams of a call
    cdef int64_t calls

    def __init__(self, int64_t capacity):
        self.capacity = capacity
        self.owner, self.given, self.seen, self.rows = np.full(capacity, -1), np.zeros(capacity, np.int64), np.zeros(capacity, np.int64), np.empty(capacity, np.int64)
        self.free = np.arange(capacity)[::-1].copy()

    def open(self):
        """(id, row) of a new stream; None if there is no room."""
        cdef int64_t row
        if self.count == self.capacity:
            return None
        row = self.free[self.capacity - self.count - 1]
        self.count += 1
        self.owner[row] = self.given[row] * self.capacity + row
        self.given[row] += 1
        return self.owner[row], row

    def close(self, int64_t row):
        """Give a row back."""
        self.owner[row] = -1
        self.count -= 1
        self.free[self.capacity - self.count - 1] = row

    def row_of(self, int64_t stream):
        """The row of an open stream, or -1."""
        cdef int64_t row = stream % self.capacity
        return row if stream >= 0 and self.owner[row] == stream else -1

    def ids(self):
        """The open streams."""
        return [one for one in self.owner if one >= 0]

    def find(self, const int64_t[::1] ids):
        """Look up the rows of a call's streams: None, or the place in `ids` of one that is not open or comes twice."""
        cdef int64_t i, row
        self.calls += 1
        if ids.shape[0] > self.capacity:
            return self._first_wrong(ids)
        for i in range(ids.shape[0]):
            row = ids[i] % self.capacity
            if ids[i] < 0 or self.owner[row] != ids[i] or self.seen[row] == self.calls:
                return i
            self.seen[row] = self.calls
            self.rows[i] = row
        return None

    def _first_wrong(self, ids):
        """More streams than rows: one comes twice, if it is open."""
        met = set()
        for i, one in enumerate(ids):
            if one in met or self.row_of(one) < 0:
                return i
            met.add(one)

    def run(self, PoolPlan plan, list xs, list outs, double region):
        """Run the rows that were found last."""
        plan.run(&self.rows[0], cnp.PyArray_DIM(xs[0], 0), xs, outs, region)
