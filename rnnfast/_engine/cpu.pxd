from rnnfast._engine.kernels cimport rnnf_kernels, rnnf_tiles

cdef const rnnf_kernels *kernels_of(str dtype) except NULL
cdef const rnnf_tiles *tiles_of() except NULL
