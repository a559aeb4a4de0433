"""RNN, LSTM and GRU with what the fused cells leave out: an activation of its own for every role, with parameters, a clip, coupled gates. For inference.

The inputs' part of the gates (x . W + b) is given for all steps. A step is the recurrent product of a thread's rows, then the cell's equations, number by
number in double. A thread owns rows, so there is no barrier inside the loop and no number depends on how they are shared.
"""
from libc.math cimport exp, expm1, fabs, log1p, tanh
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, operand, rows_map, share_rows
from rnnfast._engine.cpu cimport kernels_of
from rnnfast._engine.kernels cimport ACT_linear, rnnf_kernels, rnnf_matmul, rnnf_team

FUNCTIONS = ("Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus")
GENERAL_CELLS = {"simple_rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1), "gru_reset_before": (3, 1)}  # gates, states

cdef enum:  # in the order of FUNCTIONS
    RELU, TANH, SIGMOID, AFFINE, LEAKY_RELU, THRESHOLDED_RELU, SCALED_TANH, HARD_SIGMOID, ELU, SOFTSIGN, SOFTPLUS

cdef enum:
    SIMPLE_RNN, LSTM, GRU, GRU_RESET_BEFORE

ctypedef fused real:
    float
    double

ctypedef struct function:
    int kind
    double alpha, beta

# Operands that a layer does not need are NULL. H is the number of units, G that of gates; all rows are packed.
ctypedef struct general:
    const rnnf_kernels *k
    const rows_map *rows
    int64_t units, columns                # H, G H
    int cell, reverse, shared, coupled
    double clip
    function act[3]                       # gates, candidate, output of an LSTM; gates, candidate of a GRU; the one of a simple RNN
    operand *gates                        # [count, G H]
    operand *recurrent[2]                 # panels of R; of a GRU that resets before the product, of its two gates and of its candidate
    operand *recurrent_bias               # [H] of a candidate that is reset after the product
    operand *peephole                     # [3 H] of i, f, o
    operand *state_in[2]
    operand *state_out[2]
    operand *y
    operand *last
    operand *h                            # [batch, H]
    operand *memory                       # [batch, H]
    operand *product                      # [batch, G H]
    operand *reset                        # [batch, H]


cdef double sigmoid(double x) noexcept nogil:
    cdef double e = exp(-fabs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e) if x < 0 else x


cdef double apply(const function *f, double x) noexcept nogil:
    """One activation. NaN stays NaN."""
    cdef double a = f.alpha, b = f.beta, y
    if f.kind == TANH:
        return tanh(x)
    if f.kind == SIGMOID:
        return sigmoid(x)
    if f.kind == RELU:
        return 0 if x < 0 else x
    if f.kind == AFFINE:
        return a * x + b
    if f.kind == LEAKY_RELU:
        return a * x if x < 0 else x
    if f.kind == THRESHOLDED_RELU:
        return 0 if x <= a else x
    if f.kind == SCALED_TANH:
        return a * tanh(b * x)
    if f.kind == HARD_SIGMOID:
        y = a * x + b
        return 0 if y < 0 else 1 if y > 1 else y
    if f.kind == ELU:
        return a * expm1(x) if x < 0 else x
    if f.kind == SOFTSIGN:
        return x / (1 + fabs(x))
    return log1p(exp(-fabs(x))) + (x if x > 0 else 0) if x == x else x


cdef inline double gate(const general *a, int role, double x) noexcept nogil:
    """An activation of a clipped sum."""
    return apply(&a.act[role], a.clip if x > a.clip else -a.clip if x < -a.clip else x)


cdef inline char *row_of(const general *a, const operand *o, int64_t row) noexcept nogil:
    return o.data + row * o.stride * a.k.itemsize


cdef inline void fill(const general *a, char *target, const char *source) noexcept nogil:
    """A row of H; a NULL source means zeros."""
    if source != NULL:
        memcpy(target, source, a.units * a.k.itemsize)
    else:
        memset(target, 0, a.units * a.k.itemsize)


cdef void product_of(const general *a, const operand *x, int64_t r0, int64_t rows, const operand *panels, int64_t first, int64_t columns) noexcept nogil:
    """Some columns of the gates: x . R."""
    cdef rnnf_matmul g
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.blocks, g.block, g.panels = row_of(a, x, r0), x.stride, 1, a.units, panels.data
    g.c, g.c_row, g.cols, g.nv, g.act = row_of(a, a.product, r0) + first * a.k.itemsize, a.product.stride, columns, 4, ACT_linear
    a.k.matmul(&g, 0, rows, 0, (columns + 4 * a.k.lanes - 1) // (4 * a.k.lanes))


cdef void simple_rnn_row(const general *a, const real *x, const real *p, real *h) noexcept nogil:
    cdef int64_t u
    for u in range(a.units):
        h[u] = <real>gate(a, 0, <double>x[u] + p[u])


cdef void lstm_row(const general *a, const real *x, const real *p, real *h, real *c) noexcept nogil:
    cdef int64_t u, n = a.units
    cdef const real *w = <const real *>a.peephole.data if a.peephole != NULL else NULL
    cdef double i, f, g, o
    for u in range(n):
        i, f = <double>x[u] + p[u], <double>x[n + u] + p[n + u]
        g, o = <double>x[2 * n + u] + p[2 * n + u], <double>x[3 * n + u] + p[3 * n + u]
        if w != NULL:
            i += <double>w[u] * c[u]
            f += <double>w[n + u] * c[u]
        i = gate(a, 0, i)
        f = 1 - i if a.coupled else gate(a, 0, f)
        c[u] = <real>(f * c[u] + i * gate(a, 1, g))
        if w != NULL:
            o += <double>w[2 * n + u] * c[u]
        h[u] = <real>(gate(a, 0, o) * apply(&a.act[2], c[u]))


cdef void gru_row(const general *a, const real *x, const real *p, real *h) noexcept nogil:
    cdef int64_t u, n = a.units
    cdef const real *bias = <const real *>a.recurrent_bias.data if a.recurrent_bias != NULL else NULL
    cdef double z, r, m
    for u in range(n):
        z, r = gate(a, 0, <double>x[u] + p[u]), gate(a, 0, <double>x[n + u] + p[n + u])
        m = <double>p[2 * n + u] + (bias[u] if bias != NULL else 0)
        h[u] = <real>(z * h[u] + (1 - z) * gate(a, 1, <double>x[2 * n + u] + r * m))


cdef void reset_row(const general *a, const real *x, const real *p, const real *h, real *reset) noexcept nogil:
    """r h, for the candidate's product."""
    cdef int64_t u, n = a.units
    for u in range(n):
        reset[u] = <real>(gate(a, 0, <double>x[n + u] + p[n + u]) * h[u])


cdef void gru_reset_before_row(const general *a, const real *x, const real *p, real *h) noexcept nogil:
    cdef int64_t u, n = a.units
    cdef double z
    for u in range(n):
        z = gate(a, 0, <double>x[u] + p[u])
        h[u] = <real>(z * h[u] + (1 - z) * gate(a, 1, <double>x[2 * n + u] + p[2 * n + u]))


cdef void cell_step(const general *a, int64_t packed, int64_t r, real *_) noexcept nogil:
    """The cell of one row."""
    cdef const real *x = <const real *>row_of(a, a.gates, packed)
    cdef const real *p = <const real *>row_of(a, a.product, r)
    cdef real *h = <real *>row_of(a, a.h, r)
    if a.cell == LSTM:
        lstm_row(a, x, p, h, <real *>row_of(a, a.memory, r))
    elif a.cell == GRU:
        gru_row(a, x, p, h)
    elif a.cell == GRU_RESET_BEFORE:
        gru_reset_before_row(a, x, p, h)
    else:
        simple_rnn_row(a, x, p, h)


cdef void reset_step(const general *a, int64_t packed, int64_t r, real *_) noexcept nogil:
    reset_row(a, <const real *>row_of(a, a.gates, packed), <const real *>row_of(a, a.product, r), <const real *>row_of(a, a.h, r), <real *>row_of(a, a.reset, r))


cdef void begin_states(const general *a, int64_t r0, int64_t r1) noexcept nogil:
    """Initial states of the rows; results of those that have no step."""
    cdef int64_t r
    cdef int s
    cdef char *given
    for r in range(r0, r1):
        for s in range(2 if a.memory != NULL else 1):
            given = row_of(a, a.state_in[s], r) if a.state_in[s] != NULL else NULL
            fill(a, row_of(a, a.memory if s else a.h, r), given)
            if r >= a.rows.active[0] and a.state_out[s] != NULL:
                fill(a, row_of(a, a.state_out[s], r), given)
        if a.y != NULL and a.rows.pads and not a.y.step:
            fill(a, row_of(a, a.y, a.rows.count + r), NULL)
        if r >= a.rows.active[0] and a.last != NULL:
            fill(a, row_of(a, a.last, r), NULL)


cdef void end_rows(const general *a, int64_t r0, int64_t r1) noexcept nogil:
    """Rows [r0, r1) have had their last step: hand out their states."""
    cdef int64_t r
    for r in range(r0, r1):
        if a.last != NULL:
            fill(a, row_of(a, a.last, r), row_of(a, a.h, r))
        if a.state_out[0] != NULL:
            fill(a, row_of(a, a.state_out[0], r), row_of(a, a.h, r))
        if a.state_out[1] != NULL:
            fill(a, row_of(a, a.state_out[1], r), row_of(a, a.memory, r))


cdef void forward_step(const general *a, int64_t t, int64_t r0, int64_t rows) noexcept nogil:
    cdef int64_t r, first = a.rows.offset[t] + r0, candidate = 2 * a.units
    cdef bint wide = a.k.itemsize == sizeof(double)
    cdef char *target
    if a.cell == GRU_RESET_BEFORE:
        product_of(a, a.h, r0, rows, a.recurrent[0], 0, candidate)
        for r in range(rows):
            if wide:
                reset_step[double](a, first + r, r0 + r, NULL)
            else:
                reset_step[float](a, first + r, r0 + r, NULL)
        product_of(a, a.reset, r0, rows, a.recurrent[1], candidate, a.units)
    else:
        product_of(a, a.h, r0, rows, a.recurrent[0], 0, a.columns)
    for r in range(rows):
        if wide:
            cell_step[double](a, first + r, r0 + r, NULL)
        else:
            cell_step[float](a, first + r, r0 + r, NULL)
        if a.y != NULL:
            target = a.y.data + (t * a.y.step + (r0 + r) * a.y.stride) * a.k.itemsize if a.y.step else row_of(a, a.y, first + r)
            fill(a, target, row_of(a, a.h, r0 + r))


cdef void forward_work(void *args, rnnf_team *team, int member) noexcept nogil:
    cdef general *a = <general *>args
    cdef int64_t i, t, r0 = 0, r1 = a.rows.batch if member == 0 else 0, time = a.rows.time
    if a.shared and team.size > 1:
        share_rows(a.rows, team, member, &r0, &r1)
    begin_states(a, r0, r1)
    for i in range(time):
        t = time - 1 - i if a.reverse else i
        if a.rows.active[t] > r0 and r1 > r0:
            forward_step(a, t, r0, min(r1, a.rows.active[t]) - r0)
        if a.reverse and t == 0:
            end_rows(a, r0, min(r1, a.rows.active[0]))
        elif not a.reverse:
            end_rows(a, max(r0, a.rows.active[t + 1]), min(r1, a.rows.active[t]))


cdef operand *view(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef class GeneralLayer(Op):
    """One direction of a layer of this file.

    Parameters
    ----------
    dtype : str
    cell : str
        Of GENERAL_CELLS.
    rows : Rows
    buffers : dict of str to Buffer
        By the names of the fields of `general`; arrays of operands have their index behind the name.
    functions : list of (int, float, float)
        For each role the place in FUNCTIONS, alpha and beta.
    sizes : dict of str to number
        units, reverse, shared, coupled, clip.
    """

    def __init__(self, str dtype, str cell, Rows rows, dict buffers, list functions, dict sizes):
        cdef general *a = <general *>calloc(1, sizeof(general))
        cdef int i
        if a == NULL:
            raise MemoryError()
        self.args, self.work, self.record = a, forward_work, (rows, buffers)
        a.k, a.rows, a.cell = kernels_of(dtype), &rows.map, list(GENERAL_CELLS).index(cell)
        a.units, a.columns = sizes["units"], GENERAL_CELLS[cell][0] * sizes["units"]
        a.reverse, a.shared, a.coupled, a.clip = sizes["reverse"], sizes["shared"], sizes["coupled"], sizes["clip"]
        for i, (kind, alpha, beta) in enumerate(functions):
            a.act[i].kind, a.act[i].alpha, a.act[i].beta = kind, alpha, beta
        a.gates, a.product, a.reset = view(buffers, "gates"), view(buffers, "product"), view(buffers, "reset")
        a.y, a.last, a.h, a.memory = view(buffers, "y"), view(buffers, "last"), view(buffers, "h"), view(buffers, "memory")
        a.recurrent_bias, a.peephole = view(buffers, "recurrent_bias"), view(buffers, "peephole")
        for i in range(2):
            a.recurrent[i] = view(buffers, f"recurrent{i}")
            a.state_in[i], a.state_out[i] = view(buffers, f"state_in{i}"), view(buffers, f"state_out{i}")

    def __dealloc__(self):
        free(self.args)
