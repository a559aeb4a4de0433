from rnnfast._engine.kernels cimport rnnf_kernels

cdef const rnnf_kernels *kernels_of(str dtype) except NULL
