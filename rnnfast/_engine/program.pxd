from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int64_t

from rnnfast._engine.buffers cimport op_work
from rnnfast._engine.kernels cimport rnnf_team

cdef int forked  # how many forks lead to this process

cdef class Lock:
    cdef PyThread_type_lock handle
    cdef unsigned long owner  # the thread that has it, 0 if none
    cdef int forks  # as many as led to the process that it was made in
    cdef bint take(self)
    cdef void renew(self)
    cdef void give(self)

cdef class Trial:
    cdef double seconds[2]  # of a call on one thread and on the team, first as estimated
    cdef double credit      # seconds that calls of the slower way may cost now
    cdef double share       # of the time that is added to them
    cdef readonly int way   # of the next call
    cdef int faster, last   # the better way so far, and that of the last call
    cdef bint met           # one thread was timed
    cdef double born        # when the first call began
    cdef double age         # seconds after which what the calls said is doubted next
    cdef void rethink(self) noexcept nogil
    cdef void learn(self, double took) noexcept nogil

cdef class Program:
    cdef op_work *works
    cdef void **args
    cdef int64_t *met  # of the team: see rnnf_team
    cdef int count
    cdef readonly list ops
    cdef readonly object arena
    cdef readonly int team_size
    cdef int made
    cdef readonly Lock lock
    cdef double *ends  # where the moments at which the ops end are written, if somebody asks
    cdef Trial whole, rest  # of runs from the first op on, and of those from a later one
    cdef list guarded  # ops that call Python
    cdef void member(self, rnnf_team *team, int tid, int begin, int end) noexcept nogil
    cdef void gather(self, int size, int begin, int end) noexcept nogil
    cdef void timed(self, Trial trial, int size, int begin, int end) noexcept nogil
    cdef void launch(self, int size, int begin, int end) noexcept nogil
    cdef bint is_current(self)
    cdef object finish(self)
