"""Which instruction set the engine runs on, and element-wise functions for tests and activations."""
import os

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memset

from rnnfast._engine.kernels cimport (
    ACT_COUNT, ACT_linear, SPLIT_ROWS, WEIGHTS_SPLIT1, rnnf_available, rnnf_cpu_supports, rnnf_float_mode_enter, rnnf_float_mode_leave, rnnf_kernels, rnnf_matmul,
    rnnf_tiles, rnnf_tiles_available,
)

from rnnfast.errors import UnsupportedISAError

cnp.import_array()

ACTIVATIONS = (
    "linear", "tanh", "sigmoid", "relu", "hard_sigmoid", "hard_sigmoid_02", "softplus", "softsign", "elu", "selu", "celu", "exponential", "relu6",
    "leaky_relu", "leaky_relu_001", "leaky_relu_03", "hard_tanh", "hard_shrink", "soft_shrink", "squareplus", "log_sigmoid", "sparse_plus", "sparse_sigmoid", "silu", "gelu", "mish", "tanh_shrink", "hard_silu",
    "softmax", "log_softmax", "sparsemax",
)
"""Names in the order of csrc/activations.def, then those that work on rows."""
assert ACTIVATIONS.index("softmax") == ACT_COUNT
cdef dict PLACES = {name: place for place, name in enumerate(ACTIVATIONS)}
PLACES |= {"exp": PLACES["exponential"], "swish": PLACES["silu"]}

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


cdef const rnnf_tiles *multiplier = NULL  # what multiplies float32 as parts of bfloat16
cdef int asked = 0


def tiles():
    """Name of the bfloat16 tiles in use, "" where there are none. The system is asked for them at the first call, and may refuse."""
    global multiplier, asked
    if not asked and isa() == "avx512" and rnnf_cpu_supports(b"amx"):
        _use_tiles("amx")
    asked = 1
    return "" if multiplier == NULL else multiplier.name.decode()


def _use_tiles(str name):
    """Use these tiles, or none with "". Tests of all that stands around tiles use those in plain C, "portable"; plans that were made keep their own."""
    global multiplier, asked
    cdef int i = 0
    multiplier, asked = NULL, 1
    while name and rnnf_tiles_available[i] != NULL:
        if rnnf_tiles_available[i].name.decode() == name and rnnf_tiles_available[i].request():
            multiplier = rnnf_tiles_available[i]
        i += 1


cdef const rnnf_tiles *tiles_of() except NULL:
    if multiplier == NULL:
        raise RuntimeError("This CPU has no bfloat16 tiles.")
    return multiplier


cdef bint dots = isa() == "avx512" and rnnf_cpu_supports(b"vnni")


def dot4():
    """Whether panels of int8 are those for products of bytes in fours."""
    return bool(dots)


def _use_dot4(bint wanted):
    """Use these panels or the others, where the instruction set can; whether it does. For tests; plans that were made keep their own."""
    global dots
    dots = wanted and (isa() != "avx512" or rnnf_cpu_supports(b"vnni"))
    return dots == wanted


cdef const rnnf_kernels *kernels_of(str dtype) except NULL:
    if dtype == "float32":
        return rnnf_available[chosen].f32
    if dtype == "float64":
        return rnnf_available[chosen].f64
    raise TypeError(f"dtype must be 'float32' or 'float64', got {dtype!r}.")


def lanes(str dtype):
    """Elements of a vector register."""
    return kernels_of(dtype).lanes


def elementwise(str name, x, out=None):
    """Apply an activation to an array.

    Parameters
    ----------
    name : str
        One of `ACTIVATIONS`; the last three work along the last axis.
    x : ndarray of float32 or float64, any shape
    out : ndarray of x's type and shape, optional
        Where the result goes; contiguous.

    Returns
    -------
    ndarray
        Of x's shape and dtype; `out` if it was given.
    """
    source = np.ascontiguousarray(x)
    target = np.empty_like(source) if out is None else out
    run_elementwise(name, source, None, target)
    return target


def elementwise_back(str name, x, y, dy):
    """The gradient of sum(dy * y) by x, where y = elementwise(name, x); arrays of one dtype and shape."""
    keeps_input = PLACES["silu"] <= PLACES[name] < ACT_COUNT
    dx = np.empty_like(y, order="C")
    run_elementwise(name, np.ascontiguousarray(x if keeps_input else y), np.ascontiguousarray(dy), dx)
    return dx


cdef run_elementwise(str name, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray result):
    """The activation of x, or, with dy, its gradient from what its derivative needs."""
    cdef int kind = cnp.PyArray_TYPE(x)
    cdef const rnnf_kernels *k = rnnf_available[chosen].f32 if kind == cnp.NPY_FLOAT32 else kernels_of(x.dtype.name)
    cdef int act = PLACES[name]
    cdef long n = cnp.PyArray_SIZE(x), cols
    cdef bint back = dy is not None
    if cnp.PyArray_TYPE(result) != kind or cnp.PyArray_SIZE(result) != n or not cnp.PyArray_ISCARRAY(result):
        raise ValueError(f"elementwise: the result must be a contiguous array of {n} {x.dtype}.")
    if back and (cnp.PyArray_TYPE(dy) != kind or cnp.PyArray_SIZE(dy) != n or not cnp.PyArray_ISCARRAY_RO(dy)):
        raise ValueError(f"elementwise_back: dy must be an array of {n} {x.dtype}, got {dy.size} {dy.dtype}.")
    if n == 0:
        return
    cols = cnp.PyArray_DIM(x, cnp.PyArray_NDIM(x) - 1)
    cdef const void *source = cnp.PyArray_DATA(x)
    cdef const void *upstream = source if dy is None else cnp.PyArray_DATA(dy)
    cdef void *target = cnp.PyArray_DATA(result)
    cdef unsigned int mode
    with nogil:
        mode = rnnf_float_mode_enter()
        if back and act < ACT_COUNT:
            k.derivative(act, source, upstream, target, n)
        elif back:
            k.row_derivative(act, source, upstream, target, n // cols, cols)
        elif act < ACT_COUNT:
            k.activate(act, source, target, n)
        else:
            k.row_activate(act, source, target, n // cols, cols)
        rnnf_float_mode_leave(mode)


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


def parts_values(long depth, int count):
    """Room for the parts of as many rows as are multiplied at once, in float32."""
    return SPLIT_ROWS * ((depth + 31) // 32) * 32 * count // 2


def split_panel_values(shape, int lanes, int count):
    """Room for panels of parts, in float32. shape = (K, units, vectors)."""
    cdef long depth = shape[0], units = shape[1], vectors = shape[2], wide = 4 if vectors == 1 else vectors
    cdef long panels = ((units + lanes - 1) // lanes * vectors + wide - 1) // wide
    return panels * ((wide * lanes + 15) // 16) * ((depth + 31) // 32) * count * 256


def split_matmul(a, w, bias, int count):
    """a . w + bias as sums of products of bfloat16 parts, by the tiles in use; for tests.

    Parameters
    ----------
    a : float32 array [rows, K]
    w : float32 array [K, N]
    bias : float32 array [N]
    count : int
        1, 2 or 3 parts, hence 1, 3 or 6 products.

    Returns
    -------
    float32 array [rows, N]
    """
    cdef const float[:, ::1] left = a, right = w
    if left.shape[1] != right.shape[0] or np.shape(bias) != (right.shape[1],) or not 1 <= count <= 3 or 0 in (*np.shape(a), *np.shape(w)):
        raise ValueError(f"split_matmul: a must be [rows, K], w [K, N], bias [N] and count 1 to 3, got {np.shape(a)}, {np.shape(w)}, {np.shape(bias)}, {count}.")
    cdef const rnnf_tiles *tiles = tiles_of()
    cdef const rnnf_kernels *k = kernels_of("float32")
    cdef int64_t rows = left.shape[0], wide = 4 * k.lanes
    cdef int64_t *shape = [right.shape[0], right.shape[1], 1]
    cdef int *order = [0]
    cdef float[::1] panels = np.zeros(split_panel_values((shape[0], shape[1], 1), k.lanes, count), np.float32)
    cdef float[::1] parts = np.zeros(parts_values(shape[0], count), np.float32)
    cdef float[::1] start = np.pad(bias, (0, wide + 16))
    cdef float[:, ::1] result = np.empty((rows, shape[1]), np.float32)
    cdef unsigned int mode
    cdef rnnf_matmul g
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.blocks, g.block = &left[0, 0], shape[0], 1, shape[0]
    g.panels, g.bias, g.c, g.c_row, g.cols, g.nv, g.act = &panels[0], &start[0], &result[0, 0], shape[1], shape[1], 4, ACT_linear
    g.weights, g.tiles, g.parts = WEIGHTS_SPLIT1 + count - 1, tiles, &parts[0]
    mode = rnnf_float_mode_enter()
    tiles.enter()
    tiles.pack(&panels[0], &right[0, 0], shape[1], shape, order, k.lanes, count)
    k.matmul(&g, 0, rows, 0, (shape[1] + wide - 1) // wide)
    tiles.leave()
    rnnf_float_mode_leave(mode)
    return np.asarray(result)
