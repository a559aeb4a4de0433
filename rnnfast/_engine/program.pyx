"""Programs: a list of ops over one arena, run by a team of threads in one parallel region."""
import os

import numpy as np

from rnnfast._engine.python import PythonOp, raise_failure
from rnnfast.errors import suggest

from cpython.pythread cimport NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock
from cython.parallel cimport parallel, threadid
from openmp cimport omp_get_num_threads
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from rnnfast._engine.buffers cimport Buffer, Op, Rows, op_steps, op_work, rows_map
from rnnfast._engine.kernels cimport (
    RNNF_APART, rnnf_arrive, rnnf_await, rnnf_barrier, rnnf_call_from_here, rnnf_float_mode_enter, rnnf_float_mode_leave, rnnf_place, rnnf_reach, rnnf_team,
)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec, tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil, void (*child)() noexcept nogil)

cdef int threads = 1
cdef int settings = 0  # both in one number; a program made under other settings is not called directly
forked = 0


cdef inline double clock_seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef void in_child() noexcept nogil:
    # the parent's OpenMP workers do not exist here and its runtime would wait for them
    global forked
    forked += 1


pthread_atfork(NULL, NULL, in_child)


def _default_threads():
    """Cores that this process may use: affinity and cgroup quota, then RNNFAST_NUM_THREADS or OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 here
    for name in ("RNNFAST_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0]
        if value.isdigit() and int(value) > 0:
            return min(int(value), cores)
    return cores


cdef int number_of_settings():
    return threads * len(PRECISIONS) + PRECISIONS.index(precision)


def set_num_threads(n):
    """Use n threads in every model of this process.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import rnnfast
    >>> before = rnnfast.get_num_threads()
    >>> rnnfast.set_num_threads(1)
    >>> rnnfast.get_num_threads()
    1
    >>> rnnfast.set_num_threads(before)
    """
    global threads, settings
    if isinstance(n, bool) or int(n) != n or n < 1:
        raise ValueError(f"set_num_threads: n must be an integer of at least 1, got {n!r}.")
    threads = int(n)
    settings = number_of_settings()


def get_num_threads():
    """Threads in use: 1 in a forked child of a process whose team had started."""
    return 1 if forked else threads


PRECISIONS = ("highest", "high", "medium")
precision = "highest"
set_num_threads(_default_threads())


def set_float32_matmul_precision(value):
    """Set how exact the products of float32 matrices are in every model of this process, with PyTorch's words and meaning.

    It has an effect on CPUs with AMX alone, for batches of 16 rows and more and large layers; anywhere else the three give the same bits.

    Parameters
    ----------
    value : {"highest", "high", "medium"}
        Each number is a float32 ("highest", the default), the sum of two bfloat16 ("high") or one bfloat16 ("medium"). Sums are float32.

    Raises
    ------
    ValueError
        For any other value.

    Examples
    --------
    >>> import rnnfast
    >>> rnnfast.set_float32_matmul_precision("high")
    >>> rnnfast.get_float32_matmul_precision()
    'high'
    >>> rnnfast.set_float32_matmul_precision("highest")
    """
    global precision, settings
    if value not in PRECISIONS:
        raise ValueError(f"set_float32_matmul_precision: value must be 'highest', 'high' or 'medium', got {value!r}. {suggest(value, PRECISIONS)}")
    precision = value
    settings = number_of_settings()


def get_float32_matmul_precision():
    """Return what :func:`set_float32_matmul_precision` was last given, "highest" if nothing."""
    return precision


ctypedef struct pair:
    op_work work[2]
    void *args[2]
    rnnf_team team[2]


cdef void pair_work(void *args, rnnf_team *team, int member) noexcept nogil:
    """Two ops at once, each by half of the team; one thread runs them one after the other."""
    cdef pair *p = <pair *>args
    cdef int half = team.size // 2
    if member == 0:
        p.team[0].size, p.team[1].size = max(1, half), max(1, team.size - half)
        p.team[0].failed = p.team[1].failed = 0
        p.team[0].met, p.team[1].met = team.met + 1, team.met + 1 + half * RNNF_APART
    if team.size > 1:
        team.met[member * RNNF_APART + 1] = 0  # a half counts beside the whole
    rnnf_barrier(team, member)
    if team.size == 1:
        p.work[0](p.args[0], team, 0)
        p.work[1](p.args[1], team, 0)
    elif member < half:
        p.work[0](p.args[0], &p.team[0], member)
    else:
        p.work[1](p.args[1], &p.team[1], member - half)
    if p.team[0].failed or p.team[1].failed:
        team.failed = 1


cdef class PairOp(Op):
    """Two independent ops, as the two directions of a bidirectional layer."""

    def __init__(self, Op first, Op second):
        cdef pair *p = <pair *>calloc(1, sizeof(pair))
        if p == NULL:
            raise MemoryError()
        self.args, self.work, self.record = p, pair_work, (first, second)
        p.work[0], p.args[0] = first.work, first.args
        p.work[1], p.args[1] = second.work, second.args

    def __dealloc__(self):
        free(self.args)


# Layers over the same rows, each of the one before it; stage s has layers [first[s], first[s + 1]).
ctypedef struct wave:
    int stages, count
    int64_t chunk
    const rows_map *rows
    int *first
    op_steps *steps
    void **args
    int64_t *done  # [stages * RNNF_APART] steps that a stage has finished, for the next one


cdef void wave_work(void *args, rnnf_team *team, int member) noexcept nogil:
    """A stage a thread, each a chunk of steps behind the one before it."""
    cdef wave *w = <wave *>args
    cdef int64_t t = 0, end, time = w.rows.time
    cdef int64_t *own = w.done + member * RNNF_APART
    cdef int i
    if team.size < w.stages:
        for i in range(w.count if member == 0 else 0):
            w.steps[i](w.args[i], 0, time)
        return
    while t < time and member < w.stages:
        end = min(t + w.chunk, time)
        if member > 0:
            rnnf_await(own - RNNF_APART, end)
        for i in range(w.first[member], w.first[member + 1]):
            w.steps[i](w.args[i], t, end)
        if member < w.stages - 1:
            rnnf_reach(own, end)
        t = end
    if 0 < member < w.stages:
        own[-RNNF_APART] = 0  # for the next run: its stage has finished, and nobody else looks


cdef class WaveOp(Op):
    """Layers over the same rows, each the input of the next one, as a wavefront of chunks of steps.

    Parameters
    ----------
    layers : list of Op
        That go through time from its first step on.
    rows : Rows
    stages : list of int
        Layers of each stage.
    chunk : int
    """

    def __init__(self, list layers, Rows rows, list stages, int64_t chunk):
        cdef wave *w = <wave *>calloc(1, sizeof(wave))
        cdef Op layer
        cdef int i
        if w == NULL:
            raise MemoryError()
        self.args, self.work, self.record = w, wave_work, (*layers,)
        w.stages, w.count, w.chunk, w.rows = len(stages), len(layers), chunk, &rows.map
        w.first = <int *>calloc(w.stages + 1, sizeof(int))
        w.steps = <op_steps *>calloc(w.count, sizeof(op_steps))
        w.args = <void **>calloc(w.count, sizeof(void *))
        w.done = <int64_t *>calloc(w.stages * RNNF_APART, sizeof(int64_t))
        if w.first == NULL or w.steps == NULL or w.args == NULL or w.done == NULL:
            raise MemoryError()
        for i, layer in enumerate(layers):
            if layer.steps == NULL:
                raise ValueError("WaveOp: every layer must go through time from its first step on.")
            w.steps[i], w.args[i] = layer.steps, layer.args
        for i in range(w.stages):
            w.first[i + 1] = w.first[i] + stages[i]

    def __dealloc__(self):
        cdef wave *w = <wave *>self.args
        if w != NULL:
            free(w.first)
            free(w.steps)
            free(w.args)
            free(w.done)
            free(w)


cdef class Lock:
    """A lock for `with`, which C takes without a call of Python. A thread that has it already is told so; in a forked child, where the thread that has it may not be, it is a new one."""

    def __cinit__(self):
        self.handle, self.forks, self.owner = PyThread_allocate_lock(), forked, 0
        if self.handle == NULL:
            raise MemoryError()

    def __dealloc__(self):
        if self.handle != NULL:
            PyThread_free_lock(self.handle)

    cdef bint take(self):
        """Take it if nobody holds it."""
        if self.forks != forked:
            self.renew()
        if PyThread_acquire_lock(self.handle, NOWAIT_LOCK) != 1:
            return False
        self.owner = PyThread_get_thread_ident()
        return True

    cdef void renew(self):
        cdef PyThread_type_lock fresh
        self.forks = forked
        if self.owner == PyThread_get_thread_ident():
            return  # it is this thread that forked
        fresh = PyThread_allocate_lock()
        if fresh != NULL:
            PyThread_free_lock(self.handle)
            self.handle = fresh

    cdef void give(self):
        self.owner = 0
        PyThread_release_lock(self.handle)

    def __enter__(self):
        if self.take():
            return
        if self.owner == PyThread_get_thread_ident():
            raise RuntimeError("A layer or cell in Python called its own model while that runs, with arrays of the same shapes. Call another model: a copy of it, or one of fewer of its layers.")
        with nogil:
            PyThread_acquire_lock(self.handle, WAIT_LOCK)
        self.owner = PyThread_get_thread_ident()

    def __exit__(self, *failure):
        self.give()


cdef double SHARE = 0.1, LEAST = 0.01   # of a program's time that calls of its slower way may cost: at first, and once it has long been slower
cdef double FIRST = 1e-3, MOST = 50e-3  # seconds that they may cost at once and ever, unless the two ways are near each other
cdef double COLD = 5e-3                 # seconds, at most, that the first call of another way may take longer
cdef double YOUNG = 0.25                # seconds from its first call on in which a program says little: NumPy's threads may still spin
cdef double OLDER = 4                   # times as old, it is doubted again: a core may have been missing for longer


cdef class Trial:
    """Which of two ways is faster, one thread (0) or the team (1), as timed calls say; the slower one is tried again at times.

    Parameters
    ----------
    seconds : pair of float
        What a call of each is estimated to take.
    """

    def __init__(self, seconds):
        self.seconds[0], self.seconds[1] = seconds
        self.way = self.faster = self.last = 1
        self.credit, self.share, self.met, self.born, self.age = FIRST, SHARE, False, 0.0, YOUNG

    def judge(self, double took):
        """Learn what a call of `way` took, and say in `way` how the next one is to run."""
        self.learn(took)

    def doubt(self):
        """If one thread was faster until now, try the team again as if it were a little better."""
        self.rethink()

    cdef void rethink(self) noexcept nogil:
        if self.faster == 0:
            self.seconds[1] = 0.9 * self.seconds[0]
            self.faster = self.way = 1
            self.share = SHARE

    cdef void learn(self, double took) noexcept nogil:
        cdef double *seconds = self.seconds
        cdef double known = seconds[self.way]
        cdef bint warm = self.way == self.last  # the first call after another way finds caches, or the team, cold
        cdef bint first = warm and self.way == 0 and not self.met  # what takes the place of an estimate, be it longer
        cdef int slower
        if first or (warm and took < known):
            self.met |= first
            seconds[self.way] = took
            if not self.met:  # what was estimated too high for the team is so for one thread
                seconds[0] *= took / known
        elif warm:  # a late call says little, since a core may be missing for a moment, though not for longer
            seconds[self.way] += (took - known if took > MOST else min(took, 2 * known) - known) / 8
        self.credit = min(max(MOST, seconds[self.faster] + COLD), self.credit + (self.share * min(took, known) if self.way == self.faster else seconds[self.faster] - took))
        if seconds[1 - self.faster] < seconds[self.faster]:
            self.faster, self.share = 1 - self.faster, SHARE
        elif warm and self.way != self.faster:
            self.share = max(LEAST, self.share / 2)
        slower = 1 - self.faster
        self.last = self.way
        # two calls of the slower way, of which the second counts
        if self.credit > 2 * (seconds[slower] - seconds[self.faster]) + min(seconds[self.faster], COLD) if warm else self.way == slower:
            self.way = slower
        else:
            self.way = self.faster


cdef class Program:
    """Ops, bound to an arena.

    Parameters
    ----------
    ops : list of Op
    buffers : list of Buffer
        Those of the arena, with `offset` set (bytes).
    arena_bytes : int
    team_size : int
        Threads to run on.
    estimate : pair of float, optional
        Seconds that a run is estimated to take on one thread and on so many: then what is faster is found out as it runs. Bits do not depend on it.
    """

    def __init__(self, list ops, list buffers, size_t arena_bytes, int team_size, estimate=None):
        cdef Op op
        cdef Buffer buffer
        cdef int i
        self.ops, self.team_size, self.count, self.lock, self.made = ops, team_size, len(ops), Lock(), settings
        if estimate is not None and team_size > 1:
            self.whole, self.rest = Trial(estimate), Trial(estimate)
        self.guarded = [one for op in ops for one in (op.record if isinstance(op, PairOp) else (op,)) if isinstance(one, PythonOp)]
        self.arena = np.zeros(arena_bytes + 128, np.uint8)
        address = (self.arena.ctypes.data + 63) // 64 * 64
        for buffer in buffers:
            buffer.view.data = <char *><size_t>(address + buffer.offset)
        self.works = <op_work *>calloc(self.count + 1, sizeof(op_work))
        self.args = <void **>calloc(self.count + 1, sizeof(void *))
        self.met = <int64_t *>calloc(team_size * RNNF_APART, sizeof(int64_t))
        if self.works == NULL or self.args == NULL or self.met == NULL:
            raise MemoryError()
        for i, op in enumerate(ops):
            self.works[i], self.args[i] = op.work, op.args

    def __dealloc__(self):
        free(self.works)
        free(self.args)
        free(self.met)

    cdef void member(self, rnnf_team *team, int tid, int begin, int end) noexcept nogil:
        cdef int i
        cdef uint32_t mode = rnnf_float_mode_enter()
        team.met[tid * RNNF_APART] = team.begun  # a smaller team may have met without this thread
        for i in range(begin, end):
            self.works[i](self.args[i], team, tid)
            if team.failed:
                team.stop = i + 1
            rnnf_barrier(team, tid)
            if self.ends != NULL and tid == 0:
                self.ends[i] = clock_seconds()
            if team.stop == i + 1:
                break
        rnnf_float_mode_leave(mode)

    cdef void launch(self, int size, int begin, int end) noexcept nogil:
        """Run ops [begin, end) on so many threads, or on one if that is faster."""
        if forked or size == 1:
            self.gather(1, begin, end)
        elif self.whole is None:
            self.gather(size, begin, end)
        elif begin == 0:
            self.timed(self.whole, size, begin, end)
        else:
            self.timed(self.rest, size, begin, end)

    cdef void timed(self, Trial trial, int size, int begin, int end) noexcept nogil:
        cdef double begun = clock_seconds()
        if trial.born == 0:
            trial.born = begun
        elif begun - trial.born > trial.age:
            trial.age *= OLDER
            trial.rethink()
        self.gather(size if trial.way else 1, begin, end)
        trial.learn(clock_seconds() - begun)

    cdef void gather(self, int size, int begin, int end) noexcept nogil:
        cdef rnnf_team team[1]
        cdef rnnf_place *place
        team[0].size, team[0].failed, team[0].stop, team[0].met, team[0].begun = size, 0, 0, self.met, self.met[0]
        if size == 1:
            self.member(team, 0, begin, end)
            return
        place = rnnf_call_from_here()
        with parallel(num_threads=size):
            team[0].size = omp_get_num_threads()  # there may be fewer than asked for; all write the same
            if threadid() > 0:
                rnnf_arrive(place, threadid(), size)
            self.member(team, threadid(), begin, end)

    def run(self, int begin=0, int end=-1):
        """Run all ops, or those from `begin` up to `end`. The caller has pointed the outside buffers at its arrays and holds the lock if it shares the program."""
        if end < 0:
            end = self.count
        if not 0 <= begin <= end <= self.count:
            raise ValueError(f"run: must be given ops between 0 and {self.count}, got {begin} to {end}.")
        with nogil:
            self.launch(self.team_size, begin, end)
        self.finish()

    cdef object finish(self):
        """Raise what an op that calls Python has met."""
        if self.guarded:
            raise_failure(self.guarded)

    cdef bint is_current(self):
        return self.made == settings

    @property
    def current(self):
        """Whether the number of threads and the precision are those under which it was made."""
        return self.is_current()

    def run_timed(self):
        """As run; returns the seconds that each op took, float64."""
        cdef double[::1] ends = np.zeros(self.count + 1)
        self.ends = &ends[0] + 1
        ends[0] = clock_seconds()
        try:
            self.run()
        finally:
            self.ends = NULL
        return np.diff(ends)

    def read(self, Buffer buffer, array):
        """Fill an array from the start of a buffer."""
        cdef unsigned char[::1] target = array.reshape(-1).view(np.uint8)
        memcpy(&target[0], buffer.view.data, target.shape[0])

    def write(self, Buffer buffer, array):
        """Copy an array's bytes to the start of a buffer."""
        cdef const unsigned char[::1] source = array.view(np.uint8)
        memcpy(buffer.view.data, &source[0], source.shape[0])
