"""Attention: each valid step of a query sequence reads a weighted sum of the valid steps of a value sequence.

Query, value and key have row maps of their own. A sequence's keys and values are laid out once, then its query steps go through in blocks, whose scores
live in scratch alone; backward computes them again. Threads take sequences in turn, or share the steps of each sequence where there are fewer sequences
than threads. No sum depends on which.
"""
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, length_of, operand, rows_map, share
from rnnfast._engine.cpu cimport kernels_of
from rnnfast._engine.kernels cimport ACT_linear, ROW_softmax, rnnf_additive, rnnf_barrier, rnnf_kernels, rnnf_matmul, rnnf_outer, rnnf_team

cdef enum:
    BLOCK = 32  # query steps whose scores are in scratch at once

ctypedef struct task:
    const rnnf_kernels *k
    const rows_map *queries
    const rows_map *values
    const rows_map *keys
    operand *query
    operand *value
    operand *key
    operand *y
    operand *scores         # [query rows, value time], after softmax and dropout; may be NULL, as all that follow
    operand *scale          # one value: factor of the scores
    operand *inner          # one value: factor of query + key inside tanh
    operand *weight         # [width], of additive scores
    operand *seed
    operand *seen           # [batch]: how many of the values' first steps, which a stream keeps from before, there were already
    operand *dy
    operand *dscores
    operand *dquery
    operand *dkey
    operand *dvalue
    operand *dscale
    operand *dinner
    operand *dweight
    operand *weight_rows    # [query rows, padded width], each row's part of dweight
    operand *partial        # float64: each query row's part of dscale and dinner, then each value row's of dinner
    operand *scratch
    int64_t width, depth    # of query and key; of value
    int64_t window          # -1 for none
    int64_t shift           # steps of the values before the first query's own
    int additive, causal, backward
    double constant, rate

# A thread's, or the team's, place in scratch. Rows are padded to vectors with zeros.
ctypedef struct desk:
    rnnf_team *team
    int rank
    int64_t first, stride              # sequences to work on: first, first + stride, ...
    int64_t width, depth, span, block  # padded; values in a row of scores; query steps in a block
    int64_t *place                     # caller's row -> sorted row of the values
    char *query                        # [block, width], times its factors
    char *scores                       # [block, span], of keys `base` and on
    char *rows                         # [block, depth]: outputs, or their gradients
    char *key
    char *value
    char *key_columns                  # panels: what a product with keys as columns reads
    char *value_rows                   # panels: with value's steps as depth
    char *weight
    char *dscores
    char *dquery
    char *dweight
    char *dkey
    char *dvalue
    char *value_columns
    char *key_rows
    char *packed                       # of `outer`, one a thread

# Query steps [start, stop) of a sequence; query i reads keys [lo[i - start], hi[i - start]), all of them within [base, end).
ctypedef struct block:
    int64_t start, stop, base, end
    int64_t lo[BLOCK]
    int64_t hi[BLOCK]


cdef inline char *at(const task *a, const operand *o, int64_t row) noexcept nogil:
    return o.data + row * o.stride * a.k.itemsize


cdef inline int64_t rounded(int64_t n, int64_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline int64_t packed_row(const rows_map *m, int64_t r, int64_t i) noexcept nogil:
    return m.offset[i] + r


cdef inline int64_t key_row(const task *a, int64_t value_row) noexcept nogil:
    """The key of a value: what the keys' map shows at the value's step."""
    return a.keys.shown[a.values.source[value_row]]


cdef inline double number_at(const task *a, const operand *o, int64_t row) noexcept nogil:
    return (<double *>at(a, o, row))[0] if a.k.itemsize == 8 else <double>(<float *>at(a, o, row))[0]


cdef inline double number(const task *a, const operand *o) noexcept nogil:
    return 1 if o == NULL else number_at(a, o, 0)


cdef inline void set_number(const task *a, const operand *o, double x) noexcept nogil:
    if a.k.itemsize == 8:
        (<double *>o.data)[0] = x
    else:
        (<float *>o.data)[0] = <float>x


cdef char *take(const task *a, char **place, int64_t values) noexcept nogil:
    cdef char *start = place[0]
    place[0] = start + rounded(values * a.k.itemsize, 64)
    return start


cdef int64_t lay_out(const task *a, char *start, desk *d) noexcept nogil:
    """Cut scratch into its parts; the bytes of one thread."""
    cdef char *place = start
    cdef int64_t wide = 4 * a.k.lanes, time = a.values.time, reach = (1 if a.causal else 2) * a.window + 1
    d.width, d.depth, d.span, d.block = rounded(a.width, a.k.lanes), rounded(a.depth, a.k.lanes), rounded(time, wide), BLOCK
    if a.window >= 0:
        d.block = min(<int64_t>BLOCK, max(<int64_t>8, reach))
        d.span = min(d.span, rounded(d.block + reach, wide) + wide)
    d.place = <int64_t *>take(a, &place, a.values.batch * 8 // a.k.itemsize)
    d.query, d.scores, d.rows = take(a, &place, d.block * d.width), take(a, &place, d.block * d.span), take(a, &place, d.block * d.depth)
    d.key, d.value, d.weight = take(a, &place, time * d.width), take(a, &place, time * d.depth), take(a, &place, d.width)
    d.key_columns, d.value_rows = take(a, &place, 0 if a.additive else rounded(time, wide) * d.width), take(a, &place, time * d.depth)
    if a.backward:
        d.dscores, d.dquery, d.dweight = take(a, &place, d.block * d.span), take(a, &place, d.block * d.width), take(a, &place, d.block * d.width)
        d.dkey, d.dvalue = take(a, &place, time * d.width), take(a, &place, time * d.depth)
        d.value_columns, d.key_rows = take(a, &place, rounded(time, wide) * d.depth), take(a, &place, 0 if a.additive else time * d.width)
        d.packed = take(a, &place, BLOCK * (time + 8))
    return place - start


cdef void sit_down(const task *a, rnnf_team *team, int member, rnnf_team *alone, desk *d) noexcept nogil:
    """A thread's desk: its own, or all threads' one where they share each sequence."""
    cdef int64_t i
    cdef bint own = a.queries.batch >= team.size
    cdef char *packed
    cdef int64_t bytes = a.scratch.stride * a.k.itemsize
    alone.size = 1
    lay_out(a, a.scratch.data + member * bytes, d)
    packed = d.packed
    if not own:
        lay_out(a, a.scratch.data, d)
    d.team, d.rank, d.packed = alone if own else team, 0 if own else member, packed
    d.first, d.stride = member if own else 0, team.size if own else 1
    if d.rank == 0:
        for i in range(a.values.batch):
            d.place[a.values.order[i]] = i
        if a.additive:
            memset(d.weight, 0, d.width * a.k.itemsize)
            a.k.scale(d.weight, a.weight.data, a.constant * number(a, a.scale), a.width)
    rnnf_barrier(d.team, d.rank)


cdef void load(const task *a, char *target, int64_t padded, const char *source, double factor, int64_t n) noexcept nogil:
    """One row, times a factor, zeros beyond its n values."""
    memset(target + n * a.k.itemsize, 0, (padded - n) * a.k.itemsize)
    a.k.scale(target, source, factor, n)


cdef void pack_columns(const task *a, const desk *d, char *panels, const char *rows, int64_t width, int64_t count) noexcept nogil:
    """Panels of the transposed rows: a product with them is one with each row. The threads share the panels."""
    cdef int64_t wide = 4 * a.k.lanes, p, p0, p1
    cdef int64_t shape[3]
    cdef int order[1]
    order[0] = 0
    share((count + wide - 1) // wide, d.team, d.rank, 1, &p0, &p1)
    for p in range(p0, p1):
        shape[0], shape[1], shape[2] = min(wide, count - p * wide), width, 1
        a.k.pack_transposed(panels + p * wide * width * a.k.itemsize, rows + p * wide * width * a.k.itemsize, width, shape, order)


cdef void pack_rows(const task *a, const desk *d, char *panels, const char *rows, int64_t width, int64_t count) noexcept nogil:
    """Panels whose depth is the rows."""
    cdef int64_t wide = 4 * a.k.lanes, p, p0, p1
    cdef int64_t shape[3]
    cdef int order[1]
    order[0] = 0
    share((width + wide - 1) // wide, d.team, d.rank, 1, &p0, &p1)
    for p in range(p0, p1):
        shape[0], shape[1], shape[2] = count, min(wide, width - p * wide), 1
        a.k.pack(panels + p * wide * count * a.k.itemsize, rows + p * wide * a.k.itemsize, width, shape, order)


cdef void load_sequence(const task *a, const desk *d, int64_t r, int64_t count) noexcept nogil:
    """Keys and values of the values' sorted row r as rows and as panels."""
    cdef int64_t j, begin, end, row, size = a.k.itemsize
    cdef double inner = number(a, a.inner)
    share(count, d.team, d.rank, 1, &begin, &end)
    for j in range(begin, end):
        row = packed_row(a.values, r, j)
        load(a, d.key + j * d.width * size, d.width, at(a, a.key, key_row(a, row)), inner, a.width)
        load(a, d.value + j * d.depth * size, d.depth, at(a, a.value, row), 1, a.depth)
    rnnf_barrier(d.team, d.rank)
    pack_rows(a, d, d.value_rows, d.value, d.depth, count)
    if not a.additive:
        pack_columns(a, d, d.key_columns, d.key, d.width, count)
    if a.backward:
        pack_columns(a, d, d.value_columns, d.value, d.depth, count)
        if not a.additive:
            pack_rows(a, d, d.key_rows, d.key, d.width, count)
        memset(d.dkey + begin * d.width * size, 0, max(<int64_t>0, end - begin) * d.width * size)
        memset(d.dvalue + begin * d.depth * size, 0, max(<int64_t>0, end - begin) * d.depth * size)
    rnnf_barrier(d.team, d.rank)


cdef void next_block(const task *a, const desk *d, int64_t r, int64_t count, int64_t rv, int64_t keys, block *k) noexcept nogil:
    """The block after k: as many query steps as the scores of all their keys fit into scratch."""
    cdef int64_t i, j, row, step, lo = k.lo[k.stop - k.start - 1] if k.stop else 0, hi = k.hi[k.stop - k.start - 1] if k.stop else 0
    cdef int64_t time = a.values.time, wide = 4 * a.k.lanes, first, last
    cdef int64_t unseen = 0 if a.seen == NULL else a.shift - <int64_t>number_at(a, a.seen, r)
    cdef const int64_t *source = a.values.source
    k.start = k.stop
    for i in range(k.start, min(count, k.start + d.block)):
        row = packed_row(a.queries, r, i)
        step = a.queries.source[row] % a.queries.time + a.shift
        first = max(unseen, step - a.window) if a.window >= 0 else 0
        last = step if a.causal else step + a.window if a.window >= 0 else time
        if a.window < 0 and not a.causal:
            hi = keys
        while lo < keys and source[packed_row(a.values, rv, lo)] % time < first:
            lo += 1
        while hi < keys and source[packed_row(a.values, rv, hi)] % time <= last:
            hi += 1
        if i == k.start:
            k.base = lo // wide * wide
        elif hi - k.base > d.span:
            break
        j = i - k.start
        k.lo[j], k.hi[j], k.stop = lo, max(lo, hi), i + 1
    k.end = max(k.base, k.hi[k.stop - k.start - 1])


cdef void product(const task *a, const char *x, int64_t x_row, int64_t rows, int64_t depth, const char *panels, char *y, int64_t y_row, int64_t cols,
                  int64_t p0, int64_t p1) noexcept nogil:
    """y = x . panels, of which [p0, p1) are computed."""
    cdef rnnf_matmul g
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.blocks, g.block, g.panels = x, x_row, 1, depth, panels
    g.c, g.c_row, g.cols, g.nv, g.act = y, y_row, cols, 4, ACT_linear
    a.k.matmul(&g, 0, rows, p0, p1)


cdef void product_of_keys(const task *a, const block *k, const char *x, int64_t x_row, int64_t rows, const char *panels, int64_t keys, char *y, int64_t width) noexcept nogil:
    """y = x . the panels' rows [base, end) of `keys`."""
    cdef int64_t p, wide = 4 * a.k.lanes, size = a.k.itemsize, vectors, depth = k.end - k.base
    if depth == 0:
        memset(y, 0, rows * width * size)
    elif depth == keys:
        product(a, x, x_row, rows, depth, panels, y, width, width, 0, (width + wide - 1) // wide)
    else:
        for p in range((width + wide - 1) // wide):
            vectors = min(wide, width - p * wide)
            product(a, x, x_row, rows, depth, panels + (p * wide * keys + k.base * vectors) * size, y + p * wide * size, width, vectors, 0, 1)


cdef void weights_of(const task *a, const desk *d, int64_t r, const block *k, int64_t keys, int64_t begin, int64_t end) noexcept nogil:
    """Softmax of the scores of query steps [begin, end), 0 outside of their keys."""
    cdef int64_t i, n, wide = 4 * a.k.lanes, size = a.k.itemsize
    cdef rnnf_additive g
    cdef char *row
    cdef double factor = number(a, a.inner) if a.additive else a.constant * number(a, a.scale)
    if begin >= end:
        return
    for i in range(begin, end):
        load(a, d.query + (i - k.start) * d.width * size, d.width, at(a, a.query, packed_row(a.queries, r, i)), factor, a.width)
    if not a.additive:
        row = d.scores + ((begin - k.start) * d.span - k.base) * size
        product(a, d.query + (begin - k.start) * d.width * size, d.width, end - begin, d.width, d.key_columns, row, d.span, keys, k.base // wide, (k.end + wide - 1) // wide)
    for i in range(begin - k.start, end - k.start):
        row, n = d.scores + i * d.span * size, k.hi[i] - k.lo[i]
        if a.additive:
            g.x, g.other, g.v, g.s = d.query + i * d.width * size, d.key + k.lo[i] * d.width * size, d.weight, row + (k.lo[i] - k.base) * size
            g.other_row, g.s_step, g.count, g.n = d.width, 1, n, d.width
            a.k.additive(&g)
        memset(row, 0, (k.lo[i] - k.base) * size)
        memset(row + (k.hi[i] - k.base) * size, 0, (k.end - k.hi[i]) * size)
        if n:
            a.k.row_activate(ROW_softmax, row + (k.lo[i] - k.base) * size, row + (k.lo[i] - k.base) * size, 1, n)


cdef void drop(const task *a, const desk *d, int64_t r, const block *k, int64_t i, char *values) noexcept nogil:
    """Dropout of what stands in `values` for the keys of query i. Noise goes by the caller's row and step."""
    cdef int64_t j = i - k.start
    cdef uint64_t index = a.queries.source[packed_row(a.queries, r, i)] * a.values.time + k.lo[j]
    cdef char *row = values + (j * d.span + k.lo[j] - k.base) * a.k.itemsize
    if a.rate > 0:
        a.k.dropout(row, row, a.rate, (<uint64_t *>a.seed.data)[0], index, k.hi[j] - k.lo[j])


cdef void show_scores(const task *a, const desk *d, int64_t r, int64_t rv, const block *k, int64_t i) noexcept nogil:
    """Scores of query i at the caller's steps."""
    cdef int64_t j, place, size = a.k.itemsize
    cdef char *row = at(a, a.scores, packed_row(a.queries, r, i))
    cdef char *found = d.scores + ((i - k.start) * d.span - k.base) * size
    memset(row, 0, a.values.time * size)
    for j in range(k.lo[i - k.start], k.hi[i - k.start]):
        place = a.values.source[packed_row(a.values, rv, j)] % a.values.time
        memcpy(row + place * size, found + j * size, size)


cdef void add_shown(const task *a, const desk *d, int64_t r, int64_t rv, const block *k, int64_t i) noexcept nogil:
    """The gradient of the shown scores of query i, added to that of its weights."""
    cdef int64_t j, place, size = a.k.itemsize
    cdef char *row = at(a, a.dscores, packed_row(a.queries, r, i))
    cdef char *found = d.dscores + ((i - k.start) * d.span - k.base) * size
    for j in range(k.lo[i - k.start], k.hi[i - k.start]):
        place = a.values.source[packed_row(a.values, rv, j)] % a.values.time
        a.k.add(found + j * size, row + place * size, 1)


cdef void clear(const task *a, const operand *o, const rows_map *m, int64_t first, int64_t n, rnnf_team *team, int member) noexcept nogil:
    """Zeros in rows `first` and on, pads too."""
    cdef int64_t i, begin, end
    if o != NULL:
        share(m.count + m.pads - first, team, member, 1, &begin, &end)
        for i in range(begin, end):
            memset(at(a, o, first + i), 0, n * a.k.itemsize)


cdef void attend(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = softmax(scores(query, key)) . value."""
    cdef task *a = <task *>args
    cdef desk d
    cdef rnnf_team alone
    cdef block k
    cdef int64_t r, rv, i, steps, keys, begin, end, size = a.k.itemsize
    if a.queries.batch == 0:
        return
    sit_down(a, team, member, &alone, &d)
    clear(a, a.y, a.queries, a.queries.count, a.depth, team, member)
    clear(a, a.scores, a.queries, a.queries.count, a.values.time, team, member)
    r = d.first
    while r < a.queries.batch:
        rv = d.place[a.queries.order[r]]
        steps, keys = length_of(a.queries, r), length_of(a.values, rv)
        load_sequence(a, &d, rv, keys)
        k.start = k.stop = 0
        while k.stop < steps:
            next_block(a, &d, r, steps, rv, keys, &k)
            share(k.stop - k.start, d.team, d.rank, 1, &begin, &end)
            begin, end = begin + k.start, end + k.start
            weights_of(a, &d, r, &k, keys, begin, end)
            for i in range(begin, end):
                drop(a, &d, r, &k, i, d.scores)
                if a.scores != NULL:
                    show_scores(a, &d, r, rv, &k, i)
            i = begin - k.start
            if begin < end:
                product_of_keys(a, &k, d.scores + i * d.span * size, d.span, end - begin, d.value_rows, keys, d.rows + i * d.depth * size, d.depth)
            for i in range(begin, end):
                memcpy(at(a, a.y, packed_row(a.queries, r, i)), d.rows + (i - k.start) * d.depth * size, a.depth * size)
            rnnf_barrier(d.team, d.rank)
        r += d.stride


cdef void add_outer(const task *a, const char *x, int64_t x_row, int64_t count, const char *y, int64_t width, int64_t rows, char *target, char *packed) noexcept nogil:
    """target[i, :] += sum over rows of x[row, i] y[row, :], for i < count; width is a multiple of V."""
    cdef rnnf_outer g
    cdef int i
    cdef int64_t v = a.k.lanes, full = width // (4 * v), done = full * 4 * v, size = a.k.itemsize
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.k, g.b, g.b_row, g.b_panel, g.nv = x, x_row, count, y, width, 4 * v, 4
    g.c, g.c_row, g.c_panel, g.c_vector, g.cols, g.accumulate, g.scratch = target, width, 4 * v, v, width, 1, packed
    for i in range(4):
        g.order[i] = i
    if count > 0 and full:
        a.k.outer(&g, rows, 0, full)
    if count > 0 and done < width:
        g.b, g.c, g.nv, g.cols = y + done * size, target + done * size, (width - done) // v, width - done
        a.k.outer(&g, rows, 0, 1)


cdef void query_gradients(const task *a, const desk *d, int64_t r, int64_t rv, const block *k, int64_t keys, int64_t begin, int64_t end) noexcept nogil:
    """Of query steps [begin, end): gradients of scores and queries; the weights are left in d.scores as the values met them."""
    cdef int64_t i, j, n, lo, row, wide = 4 * a.k.lanes, size = a.k.itemsize, first = begin - k.start
    cdef rnnf_additive g
    if begin >= end:
        return
    weights_of(a, d, r, k, keys, begin, end)
    for i in range(begin, end):
        row = packed_row(a.queries, r, i)
        j = i - k.start
        if a.dy != NULL:
            load(a, d.rows + j * d.depth * size, d.depth, at(a, a.dy, row), 1, a.depth)
        else:
            memset(d.rows + j * d.depth * size, 0, d.depth * size)
    product(a, d.rows + first * d.depth * size, d.depth, end - begin, d.depth, d.value_columns, d.dscores + (first * d.span - k.base) * size, d.span, keys,
            k.base // wide, (k.end + wide - 1) // wide)
    memset(d.dquery + first * d.width * size, 0, (end - begin) * d.width * size)
    memset(d.dweight + first * d.width * size, 0, (end - begin) * d.width * size)
    for i in range(begin, end):
        j = i - k.start
        lo, n = j * d.span + k.lo[j] - k.base, k.hi[j] - k.lo[j]
        if a.dscores != NULL:
            add_shown(a, d, r, rv, k, i)
        drop(a, d, r, k, i, d.dscores)
        memset(d.dscores + j * d.span * size, 0, (k.lo[j] - k.base) * size)
        memset(d.dscores + (lo + n) * size, 0, (k.end - k.hi[j]) * size)
        if n:
            a.k.row_derivative(ROW_softmax, d.scores + lo * size, d.dscores + lo * size, d.dscores + lo * size, 1, n)
        drop(a, d, r, k, i, d.scores)
        if a.additive:
            g.x, g.other, g.v, g.s = d.query + j * d.width * size, d.key + k.lo[j] * d.width * size, d.weight, d.dscores + lo * size
            g.other_row, g.s_step, g.count, g.n = d.width, 1, n, d.width
            g.dx, g.dv = d.dquery + j * d.width * size, d.dweight + j * d.width * size
            a.k.additive_back(&g)
    if not a.additive:
        product_of_keys(a, k, d.dscores + first * d.span * size, d.span, end - begin, d.key_rows, keys, d.dquery + first * d.width * size, d.width)
    for i in range(begin, end):
        row_gradients(a, d, packed_row(a.queries, r, i), (i - k.start) * d.width * size)


cdef void row_gradients(const task *a, const desk *d, int64_t row, int64_t place) noexcept nogil:
    """Of one query row: dquery, and its parts of the gradients of scale, inner and weight."""
    cdef double *partial = <double *>a.partial.data + 2 * row
    cdef double factor = a.constant * number(a, a.scale)
    if a.dquery != NULL:
        a.k.scale(at(a, a.dquery, row), d.dquery + place, number(a, a.inner) if a.additive else factor, a.width)
    if a.dweight != NULL:
        a.k.scale(at(a, a.weight_rows, row), d.dweight + place, factor, d.width)
    if a.dscale != NULL:
        partial[0] = a.constant * (a.k.dot(a.weight.data, d.dweight + place, a.width) if a.additive else a.k.dot(at(a, a.query, row), d.dquery + place, a.width))
    if a.dinner != NULL:
        partial[1] = a.k.dot(at(a, a.query, row), d.dquery + place, a.width)


cdef void key_gradients(const task *a, const desk *d, const block *k, int64_t begin, int64_t end) noexcept nogil:
    """What a block adds to the gradients of keys and values [begin, end)."""
    cdef int64_t j, steps = k.stop - k.start, size = a.k.itemsize
    cdef rnnf_additive g
    add_outer(a, d.scores + (begin - k.base) * size, d.span, end - begin, d.rows, d.depth, steps, d.dvalue + begin * d.depth * size, d.packed)
    if not a.additive:
        add_outer(a, d.dscores + (begin - k.base) * size, d.span, end - begin, d.query, d.width, steps, d.dkey + begin * d.width * size, d.packed)
        return
    for j in range(begin, end):
        g.x, g.other, g.v, g.s = d.key + j * d.width * size, d.query, d.weight, d.dscores + (j - k.base) * size
        g.other_row, g.s_step, g.count, g.n, g.dx, g.dv = d.width, d.span, steps, d.width, d.dkey + j * d.width * size, NULL
        a.k.additive_back(&g)


cdef void hand_out(const task *a, const desk *d, int64_t r, int64_t keys) noexcept nogil:
    """Gradients of a sequence's keys and values to their rows."""
    cdef int64_t j, row, begin, end, size = a.k.itemsize
    cdef double inner = number(a, a.inner)
    cdef double *partial = <double *>a.partial.data + 2 * a.queries.count
    cdef char *gradient
    share(keys, d.team, d.rank, 1, &begin, &end)
    for j in range(begin, end):
        row = packed_row(a.values, r, j)
        gradient = d.dkey + j * d.width * size
        if a.dvalue != NULL:
            memcpy(at(a, a.dvalue, row), d.dvalue + j * d.depth * size, a.depth * size)
        if a.dinner != NULL:
            partial[row] = a.k.dot(at(a, a.key, key_row(a, row)), gradient, a.width)
        if a.dkey != NULL:
            a.k.scale(gradient, gradient, inner, a.width)
            a.k.add(at(a, a.dkey, key_row(a, row)), gradient, a.width)


cdef void add_up(const task *a, rnnf_team *team, int member) noexcept nogil:
    """Gradients of scale, inner and weight, from each row's parts."""
    cdef double *partial = <double *>a.partial.data
    cdef double scale = 0, inner = 0
    cdef int64_t i, begin, end, v = a.k.lanes
    cdef rnnf_outer g
    if member == 0:
        for i in range(a.queries.count):
            scale += partial[2 * i]
            inner += partial[2 * i + 1]
        for i in range(a.values.count):
            inner += partial[2 * a.queries.count + i]
        if a.dscale != NULL:
            set_number(a, a.dscale, scale)
        if a.dinner != NULL:
            set_number(a, a.dinner, inner)
    if a.dweight != NULL:
        memset(&g, 0, sizeof(g))
        g.b, g.b_row, g.b_panel, g.nv, g.c, g.c_panel, g.cols = a.weight_rows.data, a.weight_rows.stride, v, 1, a.dweight.data, v, a.width
        share((a.width + v - 1) // v, team, member, 1, &begin, &end)
        a.k.column_sum(&g, a.queries.count, begin, end)


cdef void attend_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """Gradients of query, key, value and of the weights of the scores, from dy and dscores."""
    cdef task *a = <task *>args
    cdef desk d
    cdef rnnf_team alone
    cdef block k
    cdef int64_t r, rv, steps, keys, begin, end
    clear(a, a.dquery, a.queries, a.queries.count, a.width, team, member)
    clear(a, a.dvalue, a.values, 0, a.depth, team, member)
    clear(a, a.dkey, a.keys, 0, a.width, team, member)
    if a.queries.batch:
        sit_down(a, team, member, &alone, &d)
        rnnf_barrier(team, member)
        r = d.first
        while r < a.queries.batch:
            rv = d.place[a.queries.order[r]]
            steps, keys = length_of(a.queries, r), length_of(a.values, rv)
            load_sequence(a, &d, rv, keys)
            k.start = k.stop = 0
            while k.stop < steps:
                next_block(a, &d, r, steps, rv, keys, &k)
                share(k.stop - k.start, d.team, d.rank, 1, &begin, &end)
                query_gradients(a, &d, r, rv, &k, keys, begin + k.start, end + k.start)
                rnnf_barrier(d.team, d.rank)
                share(k.end - k.base, d.team, d.rank, 1, &begin, &end)
                key_gradients(a, &d, &k, begin + k.base, end + k.base)
                rnnf_barrier(d.team, d.rank)
            hand_out(a, &d, rv, keys)
            rnnf_barrier(d.team, d.rank)
            r += d.stride
    rnnf_barrier(team, member)
    add_up(a, team, member)


cdef operand *view(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef class AttentionOp(Op):
    """One pass over a batch.

    Parameters
    ----------
    dtype : str
    rows : list of Rows
        Of query, value and key.
    buffers : dict of str to Buffer
        By the names of `task`'s fields.
    numbers : dict of str to number
        width, depth, window (-1: none), additive, causal, constant, rate.
    backward : bool
    """

    def __init__(self, str dtype, list rows, dict buffers, dict numbers, bint backward):
        cdef task *a = <task *>calloc(1, sizeof(task))
        cdef Rows queries = rows[0], values = rows[1], keys = rows[2]
        if a == NULL:
            raise MemoryError()
        self.args, self.record, self.work = a, (rows, buffers), attend_back if backward else attend
        a.k = kernels_of(dtype)
        a.queries, a.values, a.keys = &queries.map, &values.map, &keys.map
        a.query, a.value, a.key, a.y = view(buffers, "query"), view(buffers, "value"), view(buffers, "key"), view(buffers, "y")
        a.scores, a.seed, a.scratch, a.partial = view(buffers, "scores"), view(buffers, "seed"), view(buffers, "scratch"), view(buffers, "partial")
        a.scale, a.inner, a.weight = view(buffers, "scale"), view(buffers, "inner"), view(buffers, "weight")
        a.seen, a.shift = view(buffers, "seen"), numbers["shift"]
        a.dscale, a.dinner, a.dweight = view(buffers, "dscale"), view(buffers, "dinner"), view(buffers, "dweight")
        a.dy, a.dscores, a.weight_rows = view(buffers, "dy"), view(buffers, "dscores"), view(buffers, "weight_rows")
        a.dquery, a.dkey, a.dvalue = view(buffers, "dquery"), view(buffers, "dkey"), view(buffers, "dvalue")
        a.width, a.depth, a.window = numbers["width"], numbers["depth"], numbers["window"]
        a.additive, a.causal, a.backward = numbers["additive"], numbers["causal"], backward
        a.constant, a.rate = numbers["constant"], numbers["rate"]

    @property
    def scratch(self):
        """Elements of scratch that one thread needs."""
        cdef desk d
        cdef task *a = <task *>self.args
        return lay_out(a, NULL, &d) // a.k.itemsize

    def lend(self, Buffer scratch):
        """Use this scratch."""
        (<task *>self.args).scratch = &scratch.view
        self.record = (self.record, scratch)

    def __dealloc__(self):
        free(self.args)
