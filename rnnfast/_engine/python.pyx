"""Ops that call Python: one thread of the team takes the GIL, the others wait at the barrier behind the op."""
import numpy as np

from rnnfast._engine.buffers cimport Buffer, Op
from rnnfast._engine.kernels cimport rnnf_float_mode_enter, rnnf_float_mode_leave, rnnf_team
from libc.stdint cimport uint32_t


cdef void call(void *args, rnnf_team *team, int member) noexcept nogil:
    cdef uint32_t mode
    if member == 0:
        mode = rnnf_float_mode_enter()
        rnnf_float_mode_leave(0)  # Python's own mode: subnormals are kept
        with gil:
            if not (<PythonOp>args).run():
                team.failed = 1
        rnnf_float_mode_leave(mode)


cdef class PythonOp(Op):
    """A call of a Python function.

    What the function raises ends the program, and its `run` raises it again.

    Parameters
    ----------
    function : callable
        Of the dict of arrays.
    dtype : str
    buffers : dict of str to (Buffer, rows, width)
        What the function sees as arrays [rows, width], views of the engine's memory.
    """

    cdef object function, dtype
    cdef readonly dict buffers
    cdef public object failure

    def __init__(self, function, str dtype, dict buffers):
        self.function, self.buffers, self.dtype, self.record = function, buffers, np.dtype(dtype), ()
        self.args, self.work = <void *>self, call

    cdef bint run(self) noexcept:
        try:
            self.function({name: self.array_of(buffer, rows, width) for name, (buffer, rows, width) in self.buffers.items()})
        except BaseException as failure:
            self.failure = failure
            return False
        return True

    cdef array_of(self, Buffer buffer, Py_ssize_t rows, Py_ssize_t width):
        cdef Py_ssize_t size = self.dtype.itemsize, stride = buffer.view.stride * size
        if rows == 0 or width == 0:
            return np.empty((rows, width), self.dtype)
        cdef char[::1] memory = <char[:(rows - 1) * stride + width * size]>buffer.view.data
        return np.ndarray((rows, width), self.dtype, memory, 0, (stride, size))


def raise_failure(ops):
    """Raise what the first of these ops that failed has caught."""
    failures = [op.failure for op in ops if op.failure is not None]
    for op in ops:
        op.failure = None
    if failures:
        raise failures[0]
