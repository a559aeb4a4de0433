"""Batch normalisation: statistics of each feature over the valid rows of a batch. Threads share columns for the statistics, then rows."""
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from rnnfast._engine.buffers cimport Buffer, Op, Rows, operand, rows_map, share
from rnnfast._engine.cpu cimport kernels_of
from rnnfast._engine.kernels cimport rnnf_barrier, rnnf_kernels, rnnf_team

ctypedef struct task:
    const rnnf_kernels *k
    const rows_map *rows
    operand *x
    operand *y
    operand *gamma
    operand *beta
    operand *moving_mean
    operand *moving_variance
    operand *kept           # float64 [4][n]: mean, 1 / sqrt(variance + epsilon), and backward's two sums
    operand *dx
    operand *dy
    operand *dgamma
    operand *dbeta
    int64_t n
    double epsilon, momentum
    bint training           # statistics are the batch's, and the moving ones follow


cdef inline double get(const task *a, const operand *o, int64_t c) noexcept nogil:
    return (<float *>o.data)[c] if a.k.itemsize == 4 else (<double *>o.data)[c]


cdef inline void put(const task *a, const operand *o, int64_t c, double value) noexcept nogil:
    if a.k.itemsize == 4:
        (<float *>o.data)[c] = <float>value
    else:
        (<double *>o.data)[c] = value


cdef inline char *row_of(const task *a, const operand *o, int64_t row) noexcept nogil:
    return o.data + row * a.n * a.k.itemsize


cdef inline void *data_of(const operand *o) noexcept nogil:
    return o.data if o != NULL else NULL


cdef void normalize(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = (x - mean) / sqrt(variance + epsilon) gamma + beta. A batch without a valid row is normalised by the moving statistics, which stay."""
    cdef task *a = <task *>args
    cdef double *mean = <double *>a.kept.data
    cdef double *inverse = mean + a.n
    cdef int64_t c, begin, end
    cdef bint own = a.training and a.rows.count > 0
    share(a.n, team, member, 8, &begin, &end)
    if own:
        a.k.column_moments(a.x.data, a.rows.count, a.n, mean, begin, end)
    for c in range(begin, end):
        if own:
            put(a, a.moving_mean, c, get(a, a.moving_mean, c) * a.momentum + mean[c] * (1 - a.momentum))
            put(a, a.moving_variance, c, get(a, a.moving_variance, c) * a.momentum + inverse[c] * (1 - a.momentum))
        else:
            mean[c], inverse[c] = get(a, a.moving_mean, c), get(a, a.moving_variance, c)
        inverse[c] = 1 / sqrt(inverse[c] + a.epsilon)
    rnnf_barrier(team, member)
    share(a.rows.count + a.rows.pads, team, member, 1, &begin, &end)
    a.k.standardize(row_of(a, a.y, begin), row_of(a, a.x, begin), end - begin, a.n, mean, data_of(a.gamma), data_of(a.beta))


cdef void normalize_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx, dgamma and dbeta of normalize. Pads are normalised by the statistics, but are no part of them."""
    cdef task *a = <task *>args
    cdef double *kept = <double *>a.kept.data
    cdef int64_t c, begin, end, split, count = a.rows.count
    share(a.n, team, member, 8, &begin, &end)
    a.k.column_products(a.x.data, a.dy.data, count + a.rows.pads, a.n, kept, begin, end)
    for c in range(begin, end):
        if a.dgamma != NULL:
            put(a, a.dgamma, c, kept[3 * a.n + c])
        if a.dbeta != NULL:
            put(a, a.dbeta, c, kept[2 * a.n + c])
    rnnf_barrier(team, member)
    share(count + a.rows.pads, team, member, 1, &begin, &end)
    split = min(max(begin, count), end)
    if a.dx == NULL:
        return
    a.k.standardize_back(row_of(a, a.dx, begin), row_of(a, a.x, begin), row_of(a, a.dy, begin), split - begin, a.n, kept, data_of(a.gamma),
                         count if a.training else 0)
    a.k.standardize_back(row_of(a, a.dx, split), row_of(a, a.x, split), row_of(a, a.dy, split), end - split, a.n, kept, data_of(a.gamma), 0)


cdef operand *view_of(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef class BatchNormOp(Op):
    """Batch normalisation or, backward, its gradient.

    Parameters
    ----------
    dtype : str
    rows : Rows
    buffers : dict of str to Buffer
        By the names of `task`'s fields.
    n : int
        Features.
    numbers : (epsilon, momentum)
    training, backward : bool
    """

    def __init__(self, str dtype, Rows rows, dict buffers, int64_t n, tuple numbers, bint training, bint backward):
        cdef task *a = <task *>calloc(1, sizeof(task))
        if a == NULL:
            raise MemoryError()
        self.args, self.record, self.work = a, (rows, buffers), normalize_back if backward else normalize
        a.k, a.rows, a.n, a.training = kernels_of(dtype), &rows.map, n, training
        a.epsilon, a.momentum = numbers
        a.x, a.y, a.gamma, a.beta = view_of(buffers, "x"), view_of(buffers, "y"), view_of(buffers, "gamma"), view_of(buffers, "beta")
        a.moving_mean, a.moving_variance = view_of(buffers, "moving_mean"), view_of(buffers, "moving_variance")
        a.kept, a.dx, a.dy = view_of(buffers, "kept"), view_of(buffers, "dx"), view_of(buffers, "dy")
        a.dgamma, a.dbeta = view_of(buffers, "dgamma"), view_of(buffers, "dbeta")

    def __dealloc__(self):
        free(self.args)
