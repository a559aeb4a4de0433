"""Everything that is not a loop over time: dense products, gathers, dropout, normalisation, pooling, loss, clipping, optimizer steps.

Each work function reads a `task`; its docstring says which operands. Rows are packed rows of `rows` (then its pads) unless said otherwise; the
threads share them, and no sum depends on how.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, length_of, op_work, operand, rows_map, share
from rnnfast._engine.cpu cimport kernels_of, tiles_of
from rnnfast._engine.kernels cimport (
    ACT_COUNT, ACT_FIRST_KEEPING_INPUT, ACT_linear, rnnf_barrier, rnnf_kernels, rnnf_loss, rnnf_matmul, rnnf_outer, rnnf_tiles, rnnf_team, rnnf_update,
    WEIGHTS_SAME, WEIGHTS_SPLIT1,
)

ctypedef struct task:
    const rnnf_kernels *k
    const rows_map *rows
    operand *x
    operand *y
    operand *kept
    operand *kernel
    operand *bias
    operand *dx
    operand *dy
    operand *dkernel
    operand *dbias
    operand *work           # scratch
    operand *tokens         # int64, the caller's
    operand *seed           # uint64, one
    operand *weight         # float64, one a row
    operand *result         # float64
    operand *slot[3]
    int64_t n, m            # features of a row; of the other side
    int kind, act, weights
    double rate
    rnnf_loss loss
    const rnnf_tiles *tiles  # what multiplies parts, where the kernel's panels hold parts
    int64_t *segments       # [segment_count + 1] borders of the parameter vector
    int64_t segment_count


cdef inline int64_t all_rows(const task *a) noexcept nogil:
    return a.rows.count + a.rows.pads


cdef inline char *row_of(const task *a, const operand *o, int64_t row) noexcept nogil:
    return o.data + row * o.stride * a.k.itemsize


cdef void gather(void *args, rnnf_team *team, int member) noexcept nogil:
    """y[packed] = x[caller's row, step]; pads are 0."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end, bytes = a.n * a.k.itemsize
    if a.x.data == a.y.data:
        return
    share(all_rows(a), team, member, 1, &begin, &end)
    for i in range(begin, end):
        if i < a.rows.count:
            memcpy(row_of(a, a.y, i), a.x.data + a.rows.source[i] * bytes, bytes)
        else:
            memset(row_of(a, a.y, i), 0, bytes)


cdef void gather_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx[caller's row, step] = dy[packed] of m steps later, 0 at masked steps."""
    cdef task *a = <task *>args
    cdef int64_t i, bytes = a.n * a.k.itemsize
    if member == 0:
        if a.rows.count < a.rows.batch * a.rows.time:
            memset(a.dx.data, 0, a.rows.batch * a.rows.time * bytes)
        for i in range(a.rows.count):
            memcpy(a.dx.data + a.rows.source[i] * bytes, row_of(a, a.dy, i + a.m * a.rows.batch), bytes)


cdef inline int64_t unrolled_row(const task *a, int64_t i) noexcept nogil:
    """Where (row, step) i of a full array is packed: rows are the caller's when kind is 0, sorted ones when it is 1."""
    cdef int64_t time = a.rows.time
    return a.rows.shown[(a.rows.order[i // time] * time + i % time) if a.kind else i]


cdef void scatter(void *args, rnnf_team *team, int member) noexcept nogil:
    """y[row, step] = x[the packed row shown there], a full array."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end, bytes = a.n * a.k.itemsize
    if a.x.data == a.y.data:
        return
    share(a.rows.batch * a.rows.time, team, member, 1, &begin, &end)
    for i in range(begin, end):
        memcpy(a.y.data + i * bytes, row_of(a, a.x, unrolled_row(a, i)), bytes)


cdef void scatter_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx[packed] = sum of dy over the places where it is shown."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end, bytes = a.n * a.k.itemsize, time = a.rows.time
    share(all_rows(a), team, member, 1, &begin, &end)
    memset(row_of(a, a.dx, begin), 0, max(<int64_t>0, end - begin) * bytes)
    rnnf_barrier(team, member)
    share(a.rows.batch, team, member, 1, &begin, &end)
    for i in range(begin * time, end * time):
        a.k.add(row_of(a, a.dx, unrolled_row(a, i)), a.dy.data + i * bytes, a.n)


cdef void dense(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = act(x . kernel + bias); n inputs, m outputs. With `kept`, x . kernel + bias stays there and y is its activation. slot0: room for parts of x, a thread's each."""
    cdef task *a = <task *>args
    cdef rnnf_matmul g
    cdef int64_t begin, end, wide = 4 * a.k.lanes
    cdef operand *target = a.kept if a.kept != NULL else a.y
    share(all_rows(a), team, member, 1, &begin, &end)
    if begin >= end:
        return
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.blocks, g.block = a.x.data, a.x.stride, 1, a.n
    g.panels, g.bias = a.kernel.data, a.bias.data if a.bias != NULL else NULL
    g.c, g.c_row, g.cols, g.nv = target.data, target.stride, a.m, 4
    g.act = a.act if a.act < ACT_COUNT and a.kept == NULL else ACT_linear
    g.weights, g.tiles, g.parts = a.weights, a.tiles, row_of(a, a.slot[0], member) if a.slot[0] != NULL else NULL
    if a.tiles != NULL:
        a.tiles.enter()
    a.k.matmul(&g, begin, end, 0, (a.m + wide - 1) // wide)
    if a.tiles != NULL:
        a.tiles.leave()
    if a.act >= ACT_COUNT:
        a.k.row_activate(a.act, row_of(a, target, begin), row_of(a, a.y, begin), end - begin, a.m)
    elif a.kept != NULL:
        a.k.activate(a.act, row_of(a, a.kept, begin), row_of(a, a.y, begin), (end - begin) * a.m)


cdef void derivative_rows(const task *a, const operand *kept, int64_t cols, int64_t begin, int64_t end) noexcept nogil:
    """work (or dx, when there is no work) = gradient before the activation, rows [begin, end)."""
    cdef operand *target = a.work if a.work != NULL else a.dx
    cdef int64_t r, bytes = cols * a.k.itemsize
    for r in range(begin, end):
        if a.act >= ACT_COUNT:
            a.k.row_derivative(a.act, row_of(a, kept, r), row_of(a, a.dy, r), row_of(a, target, r), 1, cols)
        elif a.act == ACT_linear:
            memcpy(row_of(a, target, r), row_of(a, a.dy, r), bytes)
        else:
            a.k.derivative(a.act, row_of(a, kept, r), row_of(a, a.dy, r), row_of(a, target, r), cols)


cdef void outer_columns(const task *a, rnnf_team *team, int member) noexcept nogil:
    """dkernel = x^T . work and dbias = sum of work, whole panels first, then what is left."""
    cdef rnnf_outer g
    cdef int64_t v = a.k.lanes, full = a.m // (4 * v), begin, end, done = full * 4 * v, vectors = (a.m - full * 4 * v + v - 1) // v
    cdef int i
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.k, g.b_row, g.b_panel, g.nv = a.x.data, a.x.stride, a.n, a.work.stride, 4 * v, 4
    g.c_panel, g.c_vector, g.cols, g.b = 4 * v, v, a.m, a.work.data
    g.sums = a.slot[0].data + member * a.slot[0].stride * a.k.itemsize
    g.scratch = <char *>g.sums + 4 * v * a.n * a.k.itemsize
    for i in range(4):
        g.order[i] = i
    share(full, team, member, 1, &begin, &end)
    for i in range(2):  # 0: whole panels, 1: the rest, by the last member
        if i == 1:
            begin, end = 0, 1 if vectors and member == team.size - 1 else 0
            g.b, g.nv, g.cols = row_of(a, a.work, 0) + done * a.k.itemsize, vectors, a.m - done
        if begin >= end:
            continue
        g.c, g.c_row = a.dkernel.data + (done * a.k.itemsize if i else 0), a.m
        a.k.outer(&g, all_rows(a), begin, end)
        if a.dbias != NULL:
            g.c = a.dbias.data + (done * a.k.itemsize if i else 0)
            a.k.column_sum(&g, all_rows(a), begin, end)


cdef void dense_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """From dy: work = gradient before the activation (rows padded to vectors), dkernel, dbias, dx = work . kernel^T (kernel: transposed panels)."""
    cdef task *a = <task *>args
    cdef rnnf_matmul g
    cdef int64_t begin, end, wide = 4 * a.k.lanes
    share(all_rows(a), team, member, 1, &begin, &end)
    derivative_rows(a, a.kept if a.kept != NULL else a.y, a.m, begin, end)
    if a.dx != NULL and begin < end:
        memset(&g, 0, sizeof(g))
        g.a, g.a_row, g.blocks, g.block = a.work.data, a.work.stride, 1, a.work.stride
        g.panels, g.c, g.c_row, g.cols, g.nv, g.act = a.kernel.data, a.dx.data, a.dx.stride, a.n, 4, ACT_linear
        a.k.matmul(&g, begin, end, 0, (a.n + wide - 1) // wide)
    rnnf_barrier(team, member)
    outer_columns(a, team, member)


cdef void activation(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = act(x), n features."""
    cdef task *a = <task *>args
    cdef int64_t begin, end
    share(all_rows(a), team, member, 1, &begin, &end)
    if a.act >= ACT_COUNT:
        a.k.row_activate(a.act, row_of(a, a.x, begin), row_of(a, a.y, begin), end - begin, a.n)
    else:
        a.k.activate(a.act, row_of(a, a.x, begin), row_of(a, a.y, begin), (end - begin) * a.n)


cdef void activation_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx from dy and x or y."""
    cdef task *a = <task *>args
    cdef int64_t begin, end
    share(all_rows(a), team, member, 1, &begin, &end)
    derivative_rows(a, a.x if ACT_FIRST_KEEPING_INPUT <= a.act < ACT_COUNT else a.y, a.n, begin, end)


cdef inline int64_t token_of(const task *a, int64_t row, int64_t place) noexcept nogil:
    return (<int64_t *>a.tokens.data)[a.rows.source[row] * a.kind + place] if row < a.rows.count else 0


cdef void embed(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = kernel[tokens]; n features of each of a row's `kind` tokens. Pads show row 0."""
    cdef task *a = <task *>args
    cdef int64_t i, j, begin, end, bytes = a.n * a.k.itemsize
    share(all_rows(a), team, member, 1, &begin, &end)
    for i in range(begin, end):
        for j in range(a.kind):
            memcpy(row_of(a, a.y, i) + j * bytes, a.kernel.data + token_of(a, i, j) * bytes, bytes)


cdef void embed_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dkernel[token] = sum of dy; each thread owns a range of the m tokens and reads all rows in order."""
    cdef task *a = <task *>args
    cdef int64_t i, j, begin, end, token, bytes = a.n * a.k.itemsize
    share(a.m, team, member, 1, &begin, &end)
    memset(a.dkernel.data + begin * bytes, 0, max(<int64_t>0, end - begin) * bytes)
    for i in range(all_rows(a)):
        for j in range(a.kind):
            token = token_of(a, i, j)
            if begin <= token < end:
                a.k.add(a.dkernel.data + token * bytes, row_of(a, a.dy, i) + j * bytes, a.n)


cdef void dropout(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = x dropped out; kind 1 drops the same features at every step of a row. Noise goes by the caller's row and step, so packing does not change it."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end, place
    cdef uint64_t seed = (<uint64_t *>a.seed.data)[0]
    share(all_rows(a), team, member, 1, &begin, &end)
    for i in range(begin, end):
        if i < a.rows.count:
            place = a.rows.source[i] // a.rows.time if a.kind else a.rows.source[i]
        else:
            place = a.rows.order[i - a.rows.count] + (0 if a.kind else a.rows.batch * a.rows.time)
        a.k.dropout(row_of(a, a.y, i), row_of(a, a.x, i), a.rate, seed, <uint64_t>(place * a.n), a.n)


cdef void keep(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = 1 with probability 1 - rate, else 0; noise as in dropout."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end
    share(a.rows.count, team, member, 1, &begin, &end)
    for i in range(begin, end):
        a.k.keep(row_of(a, a.y, i), a.rate, (<uint64_t *>a.seed.data)[0], <uint64_t>(a.rows.source[i] * a.n), a.n)


cdef void normalize(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = layer normalisation of x (kernel: gamma, bias: beta); kept: two float64 a row."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end
    share(all_rows(a), team, member, 1, &begin, &end)
    for i in range(begin, end):
        a.k.normalize(row_of(a, a.y, i), row_of(a, a.x, i), a.kernel.data if a.kernel != NULL else NULL, a.bias.data if a.bias != NULL else NULL, a.rate,
                      <double *>a.kept.data + 2 * i, a.n)


cdef void normalize_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx, dkernel (gamma) and dbias (beta) of normalize."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end
    cdef int64_t shape[4]
    share(all_rows(a), team, member, 1, &begin, &end)
    for i in range(begin, end):
        a.k.normalize_back(row_of(a, a.dx, i), row_of(a, a.x, i), row_of(a, a.dy, i), a.kernel.data if a.kernel != NULL else NULL,
                           <double *>a.kept.data + 2 * i, a.n)
    shape[0], shape[1] = all_rows(a), a.n
    share(a.n, team, member, 1, &shape[2], &shape[3])
    if a.dkernel != NULL or a.dbias != NULL:
        a.k.normalize_sums(a.dkernel.data if a.dkernel != NULL else NULL, a.dbias.data if a.dbias != NULL else NULL, a.x.data, a.dy.data,
                           <double *>a.kept.data, shape)


cdef void pool(void *args, rnnf_team *team, int member) noexcept nogil:
    """y[row] = mean (kind 0) or maximum (1) over the row's valid steps; 0 where it has none."""
    cdef task *a = <task *>args
    cdef int64_t r, t, begin, end, length
    share(a.rows.batch, team, member, 1, &begin, &end)
    for r in range(begin, end):
        length = length_of(a.rows, r)
        memset(row_of(a, a.y, r), 0, a.n * a.k.itemsize)
        for t in range(length):
            if a.kind == 0:
                a.k.add(row_of(a, a.y, r), row_of(a, a.x, a.rows.offset[t] + r), a.n)
            elif t == 0:
                memcpy(row_of(a, a.y, r), row_of(a, a.x, r), a.n * a.k.itemsize)
            else:
                a.k.maximum(row_of(a, a.y, r), row_of(a, a.x, a.rows.offset[t] + r), a.n)
        if a.kind == 0 and length:
            a.k.scale(row_of(a, a.y, r), row_of(a, a.y, r), 1.0 / length, a.n)


cdef void pool_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx of pool; ties of a maximum share its gradient. work: [batch, n]."""
    cdef task *a = <task *>args
    cdef int64_t r, t, begin, end, length, row
    share(a.rows.batch, team, member, 1, &begin, &end)
    if member == 0 and a.rows.pads:
        memset(row_of(a, a.dx, a.rows.count), 0, a.rows.pads * a.n * a.k.itemsize)
    for r in range(begin, end):
        length = length_of(a.rows, r)
        if a.kind == 1:
            memset(row_of(a, a.work, r), 0, a.n * a.k.itemsize)
            for t in range(length):
                a.k.count_equal(row_of(a, a.work, r), row_of(a, a.x, a.rows.offset[t] + r), row_of(a, a.y, r), a.n)
        for t in range(length):
            row = a.rows.offset[t] + r
            if a.kind == 0:
                a.k.scale(row_of(a, a.dx, row), row_of(a, a.dy, r), 1.0 / length, a.n)
            else:
                a.k.share_equal(row_of(a, a.dx, row), row_of(a, a.x, row), row_of(a, a.y, r), row_of(a, a.dy, r), row_of(a, a.work, r), a.n)


cdef void repeat(void *args, rnnf_team *team, int member) noexcept nogil:
    """y[step, row] = x[row, step % m of n]: m is 1 for the same vector at every step, else the steps of x's row."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end, bytes = a.n * a.k.itemsize, batch = a.rows.batch
    share(a.rows.count, team, member, 1, &begin, &end)
    for i in range(begin, end):
        memcpy(row_of(a, a.y, i), a.x.data + ((i % batch) * a.m + (i // batch if a.m > 1 else 0)) * bytes, bytes)


cdef void repeat_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx of repeat."""
    cdef task *a = <task *>args
    cdef int64_t r, t, begin, end, bytes = a.n * a.k.itemsize, batch = a.rows.batch
    share(batch, team, member, 1, &begin, &end)
    memset(a.dx.data + begin * a.m * bytes, 0, max(<int64_t>0, end - begin) * a.m * bytes)
    for r in range(begin, end):
        for t in range(a.rows.time):
            a.k.add(a.dx.data + (r * a.m + (t if a.m > 1 else 0)) * bytes, row_of(a, a.dy, t * batch + r), a.n)


cdef void merge(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = (x + p kept) q (kind 0; loss.parameter holds p, q) or x kept (1), n features."""
    cdef task *a = <task *>args
    cdef int64_t begin, end, n
    share(all_rows(a), team, member, 1, &begin, &end)
    n = (end - begin) * a.n
    if a.kind == 1:
        a.k.multiply(row_of(a, a.y, begin), row_of(a, a.x, begin), row_of(a, a.kept, begin), n)
        return
    a.k.scale(row_of(a, a.y, begin), row_of(a, a.kept, begin), a.loss.parameter[0], n)
    a.k.add(row_of(a, a.y, begin), row_of(a, a.x, begin), n)
    if a.loss.parameter[1] != 1:
        a.k.scale(row_of(a, a.y, begin), row_of(a, a.y, begin), a.loss.parameter[1], n)


cdef void merge_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx and work, the gradients of merge's x and kept."""
    cdef task *a = <task *>args
    cdef int64_t begin, end, n
    share(all_rows(a), team, member, 1, &begin, &end)
    n = (end - begin) * a.n
    if a.kind == 1:
        a.k.multiply(row_of(a, a.dx, begin), row_of(a, a.dy, begin), row_of(a, a.kept, begin), n)
        a.k.multiply(row_of(a, a.work, begin), row_of(a, a.dy, begin), row_of(a, a.x, begin), n)
    else:
        a.k.scale(row_of(a, a.dx, begin), row_of(a, a.dy, begin), a.loss.parameter[1], n)
        a.k.scale(row_of(a, a.work, begin), row_of(a, a.dy, begin), a.loss.parameter[0] * a.loss.parameter[1], n)


cdef void copy(void *args, rnnf_team *team, int member) noexcept nogil:
    """y of m steps later = x, n features; strides may differ."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end
    share(all_rows(a), team, member, 1, &begin, &end)
    for i in range(begin, end):
        memcpy(row_of(a, a.y, i + a.m * a.rows.batch), row_of(a, a.x, i), a.n * a.k.itemsize)


cdef void advance(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = x + n, at most m: one number a row."""
    cdef task *a = <task *>args
    cdef int64_t i
    if member == 0:
        for i in range(a.rows.count):
            if a.k.itemsize == 8:
                (<double *>row_of(a, a.y, i))[0] = min((<double *>row_of(a, a.x, i))[0] + a.n, <double>a.m)
            else:
                (<float *>row_of(a, a.y, i))[0] = min((<float *>row_of(a, a.x, i))[0] + a.n, <float>a.m)


cdef void flip(void *args, rnnf_team *team, int member) noexcept nogil:
    """y[step] = x[length - 1 - step] of each row; pads stay."""
    cdef task *a = <task *>args
    cdef int64_t r, t, length, begin, end, bytes = a.n * a.k.itemsize
    share(a.rows.batch, team, member, 1, &begin, &end)
    for r in range(begin, end):
        length = length_of(a.rows, r)
        for t in range(length):
            memcpy(row_of(a, a.y, a.rows.offset[t] + r), row_of(a, a.x, a.rows.offset[length - 1 - t] + r), bytes)
        if a.rows.pads:
            memcpy(row_of(a, a.y, a.rows.count + r), row_of(a, a.x, a.rows.count + r), bytes)


cdef void blank(void *args, rnnf_team *team, int member) noexcept nogil:
    """y[row] = x[row], or 0 where the row's last step in processing order (the first one when kind is 1) is masked. One row a sequence of `rows`."""
    cdef task *a = <task *>args
    cdef int64_t r, begin, end, time = a.rows.time, last = 0 if a.kind else time - 1
    share(a.rows.batch, team, member, 1, &begin, &end)
    for r in range(begin, end):
        if time and a.rows.shown[a.rows.order[r] * time + last] < a.rows.count:
            memcpy(row_of(a, a.y, r), row_of(a, a.x, r), a.n * a.k.itemsize)
        else:
            memset(row_of(a, a.y, r), 0, a.n * a.k.itemsize)


cdef void accumulate(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx += dy, n features."""
    cdef task *a = <task *>args
    cdef int64_t begin, end
    share(all_rows(a), team, member, 1, &begin, &end)
    a.k.add(row_of(a, a.dx, begin), row_of(a, a.dy, begin), (end - begin) * a.n)


cdef enum:
    LOSS_RUN = 64  # rows whose losses are summed together, whatever the number of threads


cdef void loss(void *args, rnnf_team *team, int member) noexcept nogil:
    """result[0] = sum over rows of weight * loss(x, y), where y is the caller's array; dx = its gradient. work: float64, one a run of rows."""
    cdef task *a = <task *>args
    cdef rnnf_loss g = a.loss
    cdef int64_t i, begin, end, rows = a.rows.count, runs = (rows + LOSS_RUN - 1) // LOSS_RUN
    cdef double *sums = <double *>a.work.data
    cdef double total = 0
    g.p, g.target, g.dp, g.cols, g.target_cols = a.x.data, a.y.data, a.dx.data if a.dx != NULL else NULL, a.n, a.m
    g.place, g.weight = a.rows.source, <double *>a.weight.data
    share(runs, team, member, 1, &begin, &end)
    for i in range(begin, end):
        sums[i] = a.k.loss(&g, i * LOSS_RUN, min(rows, (i + 1) * LOSS_RUN))
    rnnf_barrier(team, member)
    if member == 0:
        for i in range(runs):
            total += sums[i]
        (<double *>a.result.data)[0] = total
        if a.dx != NULL and a.rows.pads:
            memset(row_of(a, a.dx, rows), 0, a.rows.pads * a.n * a.k.itemsize)


cdef void penalty(void *args, rnnf_team *team, int member) noexcept nogil:
    """result[0] += l1 sum|x| + l2 sum x^2 (loss.parameter holds l1, l2); dx, if there, += its gradient. n values."""
    cdef task *a = <task *>args
    if member == 0:
        (<double *>a.result.data)[0] += a.k.penalize(a.x.data, a.dx.data if a.dx != NULL else NULL, a.loss.parameter[0], a.loss.parameter[1], a.n)


cdef void activity(void *args, rnnf_team *team, int member) noexcept nogil:
    """The penalty of x, n features, over its valid rows: result[0] += its value, or, with dx, dx = its gradient."""
    cdef task *a = <task *>args
    cdef double value
    if member == 0:
        if a.dx != NULL:
            memset(a.dx.data, 0, all_rows(a) * a.n * a.k.itemsize)
        value = a.k.penalize(a.x.data, a.dx.data if a.dx != NULL else NULL, a.loss.parameter[0], a.loss.parameter[1], a.rows.count * a.n)
        if a.result != NULL:
            (<double *>a.result.data)[0] += value


cdef void clip(void *args, rnnf_team *team, int member) noexcept nogil:
    """result[0] = norm of the whole gradient dx; by kind: 1 scales it to at most `rate`, 2 does so for each segment, 0 only measures. work: float64, one a segment."""
    cdef task *a = <task *>args
    cdef int64_t i, begin, end, first, length
    cdef double *squares = <double *>a.work.data
    cdef double total = 0, norm
    share(a.segment_count, team, member, 1, &begin, &end)
    for i in range(begin, end):
        squares[i] = a.k.sum_squares(a.dx.data + a.segments[i] * a.k.itemsize, a.segments[i + 1] - a.segments[i])
    rnnf_barrier(team, member)
    for i in range(a.segment_count):
        total += squares[i]
    total = sqrt(total)
    for i in range(begin, end):
        norm = total if a.kind == 1 else sqrt(squares[i])
        first, length = a.segments[i], a.segments[i + 1] - a.segments[i]
        if a.kind and norm > a.rate:
            a.k.scale(a.dx.data + first * a.k.itemsize, a.dx.data + first * a.k.itemsize, a.rate / norm, length)
    if member == 0:
        (<double *>a.result.data)[0] = total


cdef void update(void *args, rnnf_team *team, int member) noexcept nogil:
    """kernel (the parameters) -= step of the optimizer `kind` along dkernel; bias: its float64 scalars; rate: the bound of each gradient value, or 0."""
    cdef task *a = <task *>args
    cdef rnnf_update g
    cdef int64_t begin, end
    cdef int i
    memset(&g, 0, sizeof(g))
    g.kind, g.scalars, g.w, g.g, g.clip = a.kind, <double *>a.bias.data, a.kernel.data, a.dkernel.data, a.rate
    for i in range(3):
        g.slot[i] = a.slot[i].data if a.slot[i] != NULL else NULL
    share(a.n, team, member, 64, &begin, &end)
    a.k.update(&g, begin, end)


cdef dict WORK = {}
cdef register(str name, op_work work):
    WORK[name] = <size_t>work

register("gather", gather)
register("gather_back", gather_back)
register("scatter", scatter)
register("scatter_back", scatter_back)
register("dense", dense)
register("dense_back", dense_back)
register("activation", activation)
register("activation_back", activation_back)
register("embed", embed)
register("embed_back", embed_back)
register("dropout", dropout)
register("keep", keep)
register("normalize", normalize)
register("normalize_back", normalize_back)
register("pool", pool)
register("pool_back", pool_back)
register("repeat", repeat)
register("repeat_back", repeat_back)
register("merge", merge)
register("merge_back", merge_back)
register("copy", copy)
register("advance", advance)
register("flip", flip)
register("blank", blank)
register("accumulate", accumulate)
register("loss", loss)
register("penalty", penalty)
register("activity", activity)
register("clip", clip)
register("update", update)


cdef class RowOp(Op):
    """One op of this file.

    Parameters
    ----------
    name : str
        The work function.
    dtype : str
    rows, to : Rows or None
    buffers : dict of str to Buffer
        By the names of `task`'s fields; slot0, slot1, slot2 are the three slots.
    numbers : dict of str to number
        n, m, kind, act, weights, rate; of a loss also loss, from_logits and parameter (three floats).
    segments : int64 array or None
    """

    cdef int64_t[::1] segments

    def __init__(self, str name, str dtype, Rows rows, dict buffers, dict numbers, segments=None):
        cdef task *a = <task *>calloc(1, sizeof(task))
        cdef int i
        if a == NULL:
            raise MemoryError()
        self.args = a
        self.record = (rows, buffers)
        self.work = <op_work><size_t>WORK[name]
        a.k = kernels_of(dtype)
        a.rows = &rows.map if rows is not None else NULL
        a.x, a.y, a.kept, a.kernel = view(buffers, "x"), view(buffers, "y"), view(buffers, "kept"), view(buffers, "kernel")
        a.bias, a.dx, a.dy, a.dkernel = view(buffers, "bias"), view(buffers, "dx"), view(buffers, "dy"), view(buffers, "dkernel")
        a.dbias, a.work, a.tokens, a.seed = view(buffers, "dbias"), view(buffers, "work"), view(buffers, "tokens"), view(buffers, "seed")
        a.weight, a.result = view(buffers, "weight"), view(buffers, "result")
        for i in range(3):
            a.slot[i] = view(buffers, f"slot{i}")
        a.n, a.m, a.kind, a.act = numbers.get("n", 0), numbers.get("m", 0), numbers.get("kind", 0), numbers.get("act", 0)
        a.rate, a.weights = numbers.get("rate", 0.0), numbers.get("weights", 0)
        a.tiles = tiles_of() if a.weights >= WEIGHTS_SPLIT1 else NULL
        a.loss.kind, a.loss.from_logits = numbers.get("loss", 0), numbers.get("from_logits", 0)
        for i, value in enumerate(numbers.get("parameter", ())):
            a.loss.parameter[i] = value
        if segments is not None:
            self.segments = segments
            a.segments, a.segment_count = &self.segments[0], len(segments) - 1

    def __dealloc__(self):
        free(self.args)


cdef operand *view(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


ctypedef struct pack_job:
    const rnnf_kernels *k
    operand *source
    operand *target
    int64_t w_row
    int64_t shape[3]
    int order[4]
    int transposed, weights
    int64_t source_offset
    const rnnf_tiles *tiles


cdef void pack_all(void *args, rnnf_team *team, int member) noexcept nogil:
    """Panels of weights from the parameter vector, one job a thread at a time."""
    cdef pack_job *job = <pack_job *>args
    cdef int i = 0
    cdef char *source
    while job.k != NULL:
        if i % team.size == member:
            source = job.source.data + job.source_offset * job.k.itemsize
            if job.transposed:
                job.k.pack_transposed(job.target.data, source, job.w_row, job.shape, job.order)
            elif job.tiles != NULL:
                job.tiles.pack(job.target.data, <const float *>source, job.w_row, job.shape, job.order, job.k.lanes, job.weights - WEIGHTS_SPLIT1 + 1)
            elif job.weights != WEIGHTS_SAME:
                job.k.pack_stored(job.target.data, source, job.w_row, job.shape, job.order, job.weights)
            else:
                job.k.pack(job.target.data, source, job.w_row, job.shape, job.order)
        i += 1
        job += 1


cdef class PackOp(Op):
    """Pack weights into panels.

    Parameters
    ----------
    dtype : str
    params : Buffer
        The parameter vector.
    jobs : list of (offset, target Buffer, row stride, (K or outputs, units, vectors), order, transposed, weights)
    """

    def __init__(self, str dtype, Buffer params, list jobs):
        cdef pack_job *all_jobs = <pack_job *>calloc(len(jobs) + 1, sizeof(pack_job))
        cdef pack_job *job
        cdef Buffer target
        cdef int i, j
        if all_jobs == NULL:
            raise MemoryError()
        self.args, self.work, self.record = all_jobs, pack_all, (params, jobs)
        jobs = sorted(jobs, key=lambda job: -job[3][0] * job[3][1] * job[3][2] * (2 if job[5] else 1))  # so that threads have about as much
        for i, (offset, target, w_row, shape, order, transposed, weights) in enumerate(jobs):
            job = &all_jobs[i]
            job.k, job.source, job.target, job.w_row = kernels_of(dtype), &params.view, &target.view, w_row
            job.source_offset, job.transposed, job.weights = offset, transposed, weights
            job.tiles = tiles_of() if weights >= WEIGHTS_SPLIT1 else NULL
            for j in range(3):
                job.shape[j] = shape[j]
            for j in range(len(order)):
                job.order[j] = order[j]

    def __dealloc__(self):
        free(self.args)
