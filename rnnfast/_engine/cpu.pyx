"""Which instruction set the engine runs on, and element-wise functions for tests and activations."""
import os

import numpy as np

from libc.stdint cimport int64_t

from rnnfast._engine.kernels cimport (
    ACT_COUNT, rnnf_available, rnnf_cpu_supports, rnnf_float_mode_enter, rnnf_float_mode_leave, rnnf_kernels,
)

from rnnfast.errors import UnsupportedISAError

ACTIVATIONS = (
    "linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "hard_sigmoid_02", "softplus", "softsign", "elu", "selu", "celu", "exponential", "relu6",
    "leaky_relu", "hard_tanh", "hard_shrink", "soft_shrink", "squareplus", "log_sigmoid", "sparse_plus", "sparse_sigmoid", "silu", "gelu", "mish", "tanh_shrink", "hard_silu",
    "softmax", "log_softmax", "sparsemax",
)
"""Names in the order of csrc/activations.def, then those that work on rows."""
assert ACTIVATIONS.index("softmax") == ACT_COUNT

cdef int chosen = -1


def available_isas():
    """Names of the instruction sets that this build has and this CPU runs, best first."""
    names = []
    cdef int i = 0
    while rnnf_available[i].isa != NULL:
        if rnnf_cpu_supports(rnnf_available[i].isa):
            names.append(rnnf_available[i].isa.decode())
        i += 1
    return names


def isa():
    """Name of the instruction set in use."""
    return rnnf_available[chosen].isa.decode()


def _choose(wanted):
    """Use `wanted`, or the best when it is empty."""
    global chosen
    names = available_isas()
    if wanted and wanted not in names:
        raise UnsupportedISAError(
            f"RNNFAST_ISA={wanted!r} is not supported by this CPU or build (has: {', '.join(names)}). Unset it to use {names[0]!r}."
        )
    cdef int i = 0
    while rnnf_available[i].isa.decode() != (wanted or names[0]):
        i += 1
    chosen = i


_choose(os.environ.get("RNNFAST_ISA", "").strip().lower())


cdef const rnnf_kernels *kernels_of(str dtype) except NULL:
    if dtype == "float32":
        return rnnf_available[chosen].f32
    if dtype == "float64":
        return rnnf_available[chosen].f64
    raise TypeError(f"dtype must be 'float32' or 'float64', got {dtype!r}.")


def lanes(str dtype):
    """Elements of a vector register."""
    return kernels_of(dtype).lanes


def elementwise(str name, x):
    """Apply an activation to an array.

    Parameters
    ----------
    name : str
        One of `ACTIVATIONS`; the last three work along the last axis.
    x : ndarray of float32 or float64, any shape

    Returns
    -------
    ndarray
        Of x's shape and dtype.
    """
    x = np.ascontiguousarray(x)
    cdef const rnnf_kernels *k = kernels_of(x.dtype.name)
    cdef int act = ACTIVATIONS.index({"exp": "exponential", "swish": "silu"}.get(name, name))
    y = np.empty_like(x)
    cdef const unsigned char[::1] source = x.reshape(-1).view(np.uint8)
    cdef unsigned char[::1] target = y.reshape(-1).view(np.uint8)
    if x.size == 0:
        return y
    cdef long cols = x.shape[x.ndim - 1] if x.ndim else 1, n = x.size
    cdef unsigned int mode
    with nogil:
        mode = rnnf_float_mode_enter()
        if act < ACT_COUNT:
            k.activate(act, &source[0], &target[0], n)
        else:
            k.row_activate(act, &source[0], &target[0], n // cols, cols)
        rnnf_float_mode_leave(mode)
    return y


def read_only(const float[::1] x, long times):
    """Read an array so many times, as fast as vectors can. What is returned is of no use, but for that it depends on every element."""
    cdef const rnnf_kernels *k = kernels_of("float32")
    cdef double found = 0
    cdef int64_t n = x.shape[0]
    if n:
        with nogil:
            found = k.read_only(&x[0], n, times)
    return found


def multiply_adds(long rounds):
    """Multiply and add in registers as fast as vectors can; returns how many operations that were."""
    cdef const rnnf_kernels *k = kernels_of("float32")
    cdef int64_t operations = 0
    with nogil:
        k.multiply_adds(rounds, &operations)
    return operations
