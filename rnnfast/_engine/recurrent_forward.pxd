from libc.stdint cimport int64_t

from rnnfast._engine.kernels cimport rnnf_team

cdef void forward_work(void *args, rnnf_team *team, int member) noexcept nogil
cdef void steps_alone(void *args, int64_t begin, int64_t end) noexcept nogil
