from rnnfast._engine.kernels cimport rnnf_team

cdef void backward_work(void *args, rnnf_team *team, int member) noexcept nogil
