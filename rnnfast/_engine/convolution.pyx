"""Windows over time: convolutions, pooling, padding and cropping, forward and back.

Step s of an output reads steps ``s stride + k dilation - left`` of its row, for k from 0 to taps - 1; those outside the row are zeros. A product reads
windows where they lie, if they lie one after the other, and else gathers them into scratch: the same numbers in the same order. The gradient of the
input is such a product too, of windows over the output's gradient. A gradient of weights is summed over rows in their order by the one thread that owns it.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, length_of, op_work, operand, rows_map, share
from rnnfast._engine.cpu cimport kernels_of
from rnnfast._engine.kernels cimport rnnf_barrier, rnnf_kernels, rnnf_matmul, rnnf_outer, rnnf_team

cdef enum:
    RUN = 128   # rows of a gradient's sum that are reduced at a time
    SLICE = 32  # channels of it that one thread takes

ctypedef struct window:
    int64_t taps, stride, dilation, left, right
    int same                # left and right follow from a row's length, as Keras' "same" has it

ctypedef struct task:
    const rnnf_kernels *k
    window w
    const rows_map *rows    # of x
    const rows_map *to      # of y
    operand *x
    operand *y
    operand *dx
    operand *dy
    operand *kernel         # the weights [taps, channels, groups filters]
    operand *bias
    operand *dkernel
    operand *dbias
    operand *work           # [rows of y, groups, padded filters] gradient before the activation
    operand *turned         # a group's panels of the transposed kernel after the other's
    operand *scratch        # one row a thread
    operand **panels        # one a group
    operand **biases
    int64_t channels, filters, groups, padded, chunk  # of one group; rows of a product at a time
    int act, kind

# How a product sees rows through windows: forward, rows of y read x; turned, rows of x read the gradient of y.
ctypedef struct view:
    const rows_map *source
    const rows_map *at
    const operand *rows
    bint turned


cdef inline int64_t steps_of(const window *w, int64_t length) noexcept nogil:
    """Steps of the output of a row."""
    cdef int64_t room = length + w.left + w.right - (w.taps - 1) * w.dilation
    if w.same:
        return (length + w.stride - 1) // w.stride
    return (room - 1) // w.stride + 1 if room > 0 else 0


cdef inline int64_t left_of(const task *a, int64_t r) noexcept nogil:
    """Zeros before the first step of row r."""
    cdef int64_t length
    if not a.w.same:
        return a.w.left
    length = length_of(a.rows, r)
    return max(<int64_t>0, (steps_of(&a.w, length) - 1) * a.w.stride + (a.w.taps - 1) * a.w.dilation + 1 - length) // 2


cdef inline int64_t step_at(const task *a, const view *v, int64_t step, int64_t left, int64_t k) noexcept nogil:
    """The step that tap k of `step` reads; one outside [0, time) is not there."""
    cdef int64_t shift = k * a.w.dilation - left, place = step - shift
    if not v.turned:
        return step * a.w.stride + shift
    return place // a.w.stride if place >= 0 and place % a.w.stride == 0 else -1


cdef inline int64_t row_at(const rows_map *m, int64_t step, int64_t r) noexcept nogil:
    """The packed row of a step of row r, or -1."""
    return m.offset[step] + r if 0 <= step < m.time and r < m.active[step] else -1


cdef int64_t step_of(const rows_map *m, int64_t i) noexcept nogil:
    """The step of packed row i."""
    cdef int64_t low = 0, high = m.time - 1, middle
    while low < high:
        middle = (low + high + 1) // 2
        if m.offset[middle] <= i:
            low = middle
        else:
            high = middle - 1
    return low


cdef inline char *row_of(const task *a, const operand *o, int64_t row) noexcept nogil:
    return o.data + row * o.stride * a.k.itemsize


cdef bint lies_still(const task *a, const view *v, int64_t i, int64_t n, int64_t k, int64_t taps) noexcept nogil:
    """Whether taps [k, k + taps) of rows [i, i + n) are inside, at strides that do not change."""
    cdef int64_t first, last, far = k + taps - 1, time = v.source.time
    if not v.at.dense or a.w.same or (a.w.stride > 1 and v.turned):
        return False
    first, last = i // v.at.batch, (i + n - 1) // v.at.batch
    if a.w.stride > 1 and v.at.batch > 1 and first != last:
        return False
    return (0 <= step_at(a, v, first, a.w.left, k) < time and 0 <= step_at(a, v, first, a.w.left, far) < time
            and 0 <= step_at(a, v, last, a.w.left, k) < time and 0 <= step_at(a, v, last, a.w.left, far) < time)


cdef char *windows(const task *a, const view *v, int64_t i, int64_t n, int64_t k, int64_t taps, int64_t column, int64_t width, char *scratch,
                   int64_t *row, int64_t *block) noexcept nogil:
    """Columns [column, column + width) of taps [k, k + taps) for rows [i, i + n): where they are, and their strides from row to row and from tap to tap (side by side if `block` is NULL)."""
    cdef int64_t j = i, tap, step, place, r, last, found, size = a.k.itemsize, bytes = width * size
    cdef char *to
    if (taps == 1 or block != NULL) and lies_still(a, v, i, n, k, taps):
        row[0] = v.rows.stride * (a.w.stride if v.at.batch == 1 else 1)
        if block != NULL:
            block[0] = a.w.dilation * v.at.batch * v.rows.stride * (-1 if v.turned else 1)
        return row_of(a, v.rows, step_at(a, v, i // v.at.batch, a.w.left, k) * v.at.batch + i % v.at.batch) + column * size
    row[0] = taps * width
    if block != NULL:
        block[0] = width
    step = step_of(v.at, i)
    while j < i + n:  # a step's rows at a time
        while j >= v.at.offset[step + 1]:
            step += 1
        last = min(i + n, v.at.offset[step + 1])
        for tap in range(k, k + taps):
            to, place = scratch + ((j - i) * taps + tap - k) * bytes, step_at(a, v, step, a.w.left, tap)
            for r in range(j - v.at.offset[step], last - v.at.offset[step]):
                found = row_at(v.source, step_at(a, v, step, left_of(a, r), tap) if a.w.same else place, r)
                if found < 0:
                    memset(to, 0, bytes)
                elif bytes == 4:  # one value: no call
                    (<float *>to)[0] = (<float *>(row_of(a, v.rows, found) + column * size))[0]
                else:
                    memcpy(to, row_of(a, v.rows, found) + column * size, bytes)
                to += taps * bytes
        j = last
    return scratch


cdef inline char *own_scratch(const task *a, int member) noexcept nogil:
    return row_of(a, a.scratch, member)


cdef void clear_pads(const task *a, const rows_map *m, const operand *o, int64_t width, int member) noexcept nogil:
    if member == 0 and m.pads:
        memset(row_of(a, o, m.count), 0, m.pads * width * a.k.itemsize)


cdef void product(const task *a, const view *v, rnnf_matmul *g, const operand *to, int64_t j, int64_t begin, int64_t end, char *scratch) noexcept nogil:
    """Rows [begin, end) of group j: g has its block, panels and columns."""
    cdef int64_t n, i = begin, wide = 4 * a.k.lanes
    g.blocks, g.c_row, g.nv = a.w.taps, to.stride, 4
    while i < end:
        n = min(a.chunk, end - i)
        if a.w.stride > 1 and v.at.dense and not v.turned:
            n = min(n, v.at.batch - i % v.at.batch) if v.at.batch > 1 else n  # a step's windows lie still
        g.a = windows(a, v, i, n, 0, a.w.taps, j * g.block, g.block, scratch, &g.a_row, &g.block_stride)
        g.c = row_of(a, to, i) + j * g.cols * a.k.itemsize
        a.k.matmul(g, 0, n, 0, (g.cols + wide - 1) // wide)
        i += n


cdef void convolve(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = act(windows of x . kernel + bias), pads are act(0)."""
    cdef task *a = <task *>args
    cdef view v = view(a.rows, a.to, a.x, False)
    cdef rnnf_matmul g
    cdef int64_t begin, end, j
    share(a.to.count, team, member, 1, &begin, &end)
    for j in range(a.groups):
        memset(&g, 0, sizeof(g))
        g.panels, g.bias = a.panels[j].data, a.biases[j].data if a.biases[j] != NULL else NULL
        g.block, g.cols, g.act = a.channels, a.filters, a.act
        product(a, &v, &g, a.y, j, begin, end, own_scratch(a, member))
    clear_pads(a, a.to, a.y, a.groups * a.filters, member)
    if member == 0:
        a.k.activate(a.act, row_of(a, a.y, a.to.count), row_of(a, a.y, a.to.count), a.to.pads * a.groups * a.filters)


cdef void turn_kernel(const task *a, int64_t j, int64_t tap) noexcept nogil:
    """Panels of a group's kernel with filters as depth, tap after tap."""
    cdef int64_t i, first, nv, v = a.k.lanes, all_filters = a.groups * a.filters, size = a.k.itemsize
    cdef int64_t shape[3]
    cdef int order = 0
    cdef char *group = a.turned.data + j * a.w.taps * a.padded * ((a.channels + v - 1) // v * v) * size
    for i in range((a.channels + 4 * v - 1) // (4 * v)):
        first = i * 4 * v
        shape[0], shape[1], shape[2] = min(4 * v, a.channels - first), a.filters, 1
        nv = (shape[0] + v - 1) // v
        a.k.pack_transposed(group + (first * a.w.taps + tap * nv * v) * a.padded * size,
                            a.kernel.data + ((tap * a.channels + first) * all_filters + j * a.filters) * size, all_filters, shape, &order)


cdef void outer_whole(const task *a, rnnf_outer *g, char *c, const char *b, int64_t rows, bint sums) noexcept nogil:
    """c = (c +) A^T . b, or sums of b's columns: whole panels, then the columns that are left."""
    cdef int64_t v = a.k.lanes, full = a.filters // (4 * v), done = full * 4 * v, size = a.k.itemsize
    cdef int i
    g.b_row, g.b_panel, g.c_row, g.c_panel, g.c_vector = a.work.stride, 4 * v, a.groups * a.filters, 4 * v, v
    for i in range(4):
        g.order[i] = i
    for i in range(2):
        g.c, g.b, g.cols = c + i * done * size, b + i * done * size, a.filters - i * done
        g.nv = (g.cols + v - 1) // v if i else 4
        if (full if i == 0 else g.cols) == 0:
            continue
        if sums:
            a.k.column_sum(g, rows, 0, 1 if i else full)
        else:
            a.k.outer(g, rows, 0, 1 if i else full)


cdef void kernel_gradient(const task *a, rnnf_team *team, int member) noexcept nogil:
    """dkernel and dbias; a thread owns slices of a tap's channels, or several taps of few channels."""
    cdef view v = view(a.rows, a.to, a.x, False)
    cdef rnnf_outer g
    cdef int64_t begin, end, unit, run, i, n, j, tap, taps, first, size = a.k.itemsize
    cdef int64_t slices = (a.channels + SLICE - 1) // SLICE, beside = min(a.w.taps, max(<int64_t>1, SLICE // a.channels)), each = (a.w.taps + beside - 1) // beside
    cdef char *scratch = own_scratch(a, member)
    share(a.groups * each * slices, team, member, 1, &begin, &end)
    for unit in range(begin, end):
        j, tap, first = unit // slices // each, unit // slices % each * beside, unit % slices * SLICE
        taps = min(beside, a.w.taps - tap)
        memset(&g, 0, sizeof(g))
        g.k, g.scratch = taps * min(<int64_t>SLICE, a.channels - first), scratch + RUN * SLICE * size
        for run in range((a.to.count + RUN - 1) // RUN):
            i, n = run * RUN, min(<int64_t>RUN, a.to.count - run * RUN)
            g.a = windows(a, &v, i, n, tap, taps, j * a.channels + first, g.k // taps, scratch, &g.a_row, NULL)
            g.accumulate = i > 0
            outer_whole(a, &g, a.dkernel.data + ((tap * a.channels + first) * a.groups + j) * a.filters * size,
                        row_of(a, a.work, i) + j * a.padded * size, n, False)
    if member == team.size - 1 and a.dbias != NULL:
        for j in range(a.groups):
            memset(&g, 0, sizeof(g))
            outer_whole(a, &g, a.dbias.data + j * a.filters * size, a.work.data + j * a.padded * size, a.to.count, True)
    if member == 0 and a.to.count == 0:
        memset(a.dkernel.data, 0, a.w.taps * a.channels * a.groups * a.filters * size)


cdef void convolve_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """From dy: work = gradient before the activation, dkernel, dbias, dx."""
    cdef task *a = <task *>args
    cdef view v = view(a.to, a.rows, a.work, True)
    cdef rnnf_matmul g
    cdef int64_t begin, end, i, j, lanes = a.k.lanes, size = a.k.itemsize
    share(a.to.count, team, member, 1, &begin, &end)
    if a.padded == a.filters:
        i = a.groups * a.filters
        a.k.derivative(a.act, row_of(a, a.y, begin), row_of(a, a.dy, begin), row_of(a, a.work, begin), max(<int64_t>0, end - begin) * i)
        begin = end
    for i in range(begin, end):
        for j in range(a.groups):
            a.k.derivative(a.act, row_of(a, a.y, i) + j * a.filters * size, row_of(a, a.dy, i) + j * a.filters * size,
                           row_of(a, a.work, i) + j * a.padded * size, a.filters)
    if a.dx != NULL:
        share(a.groups * a.w.taps, team, member, 1, &begin, &end)
        for i in range(begin, end):
            turn_kernel(a, i // a.w.taps, i % a.w.taps)
    rnnf_barrier(team, member)
    kernel_gradient(a, team, member)
    if a.dx == NULL:
        return
    share(a.rows.count, team, member, 1, &begin, &end)
    for j in range(a.groups):
        memset(&g, 0, sizeof(g))
        g.panels = a.turned.data + j * a.w.taps * a.padded * ((a.channels + lanes - 1) // lanes * lanes) * size
        g.block, g.cols = a.padded, a.channels
        product(a, &v, &g, a.dx, j, begin, end, own_scratch(a, member))
    clear_pads(a, a.rows, a.dx, a.groups * a.channels, member)


cdef void pool_windows(void *args, rnnf_team *team, int member) noexcept nogil:
    """y = mean (kind 0) or maximum (1) over the steps of a window that exist; 0 where none does."""
    cdef task *a = <task *>args
    cdef view v = view(a.rows, a.to, a.x, False)
    cdef int64_t i, k, begin, end, step = 0, r, left, found, count, n = a.channels
    share(a.to.count, team, member, 1, &begin, &end)
    for i in range(begin, end):
        step = step_of(a.to, i) if i == begin else step
        while i >= a.to.offset[step + 1]:
            step += 1
        r = i - a.to.offset[step]
        left, count = left_of(a, r), 0
        memset(row_of(a, a.y, i), 0, n * a.k.itemsize)
        for k in range(a.w.taps):
            found = row_at(a.rows, step_at(a, &v, step, left, k), r)
            if found < 0:
                continue
            if count == 0:
                memcpy(row_of(a, a.y, i), row_of(a, a.x, found), n * a.k.itemsize)
            elif a.kind:
                a.k.maximum(row_of(a, a.y, i), row_of(a, a.x, found), n)
            else:
                a.k.add(row_of(a, a.y, i), row_of(a, a.x, found), n)
            count += 1
        if a.kind == 0 and count > 1:
            a.k.scale(row_of(a, a.y, i), row_of(a, a.y, i), 1.0 / count, n)
    clear_pads(a, a.to, a.y, n, member)


cdef void pool_window_back(const task *a, int64_t step, int64_t r, char *share_of, char *ties) noexcept nogil:
    """dx += the gradient of one window."""
    cdef view v = view(a.rows, a.to, a.x, False)
    cdef int64_t k, found, left = left_of(a, r), i = a.to.offset[step] + r, n = a.channels, count = 0
    memset(ties, 0, n * a.k.itemsize)
    for k in range(a.w.taps):
        found = row_at(a.rows, step_at(a, &v, step, left, k), r)
        if found >= 0:
            count += 1
            a.k.count_equal(ties, row_of(a, a.x, found), row_of(a, a.y, i), n)
    for k in range(a.w.taps):
        found = row_at(a.rows, step_at(a, &v, step, left, k), r)
        if found < 0:
            continue
        if a.kind:
            a.k.share_equal(share_of, row_of(a, a.x, found), row_of(a, a.y, i), row_of(a, a.dy, i), ties, n)
        else:
            a.k.scale(share_of, row_of(a, a.dy, i), 1.0 / count, n)
        a.k.add(row_of(a, a.dx, found), share_of, n)


cdef void pool_windows_back(void *args, rnnf_team *team, int member) noexcept nogil:
    """dx of pool_windows; ties of a maximum share its gradient. A thread owns rows with all their steps."""
    cdef task *a = <task *>args
    cdef int64_t r, t, begin, end, bytes = a.channels * a.k.itemsize
    cdef char *scratch = own_scratch(a, member)
    share(a.rows.batch, team, member, 1, &begin, &end)
    for r in range(begin, end):
        for t in range(length_of(a.rows, r)):
            memset(row_of(a, a.dx, a.rows.offset[t] + r), 0, bytes)
        for t in range(length_of(a.to, r)):
            pool_window_back(a, t, r, scratch, scratch + bytes)
    clear_pads(a, a.rows, a.dx, a.channels, member)


cdef dict WORK = {
    "convolve": <size_t><op_work>convolve,
    "convolve_back": <size_t><op_work>convolve_back,
    "pool_windows": <size_t><op_work>pool_windows,
    "pool_windows_back": <size_t><op_work>pool_windows_back,
}


cdef read_window(window *w, dict numbers):
    w.taps, w.stride, w.dilation = numbers["taps"], numbers["stride"], numbers["dilation"]
    w.left, w.right, w.same = numbers["left"], numbers["right"], numbers["same"]


cdef class WindowRows(Rows):
    """The map of an output of windows: the parent's rows in its order, each with the steps that follow from its own length.

    Parameters
    ----------
    batch, time : int
    numbers : dict
        taps, stride, dilation, left, right, same.
    """

    cdef window w

    def __init__(self, int64_t batch, int64_t time, dict numbers):
        super().__init__(batch, time)
        read_window(&self.w, numbers)

    def set_windows_of(self, Rows parent):
        """Follow the parent's lengths. A step beyond a row's last one shows what the parent's masked steps show: that last one, or the row's pad."""
        cdef rows_map *m = &self.map
        cdef int64_t r, t, length, caller
        self.set_dense()
        if parent.map.dense:
            return
        m.dense, self.hold = 0, parent.hold
        for t in range(m.time):
            m.active[t] = 0
        for r in range(m.batch):
            m.order[r] = parent.map.order[r]
            for t in range(steps_of(&self.w, length_of(&parent.map, r))):
                m.active[t] += 1
        for t in range(m.time):
            m.offset[t + 1] = m.offset[t] + m.active[t]
        m.count = m.offset[m.time]
        m.pads = 0 if m.count == m.batch * m.time else m.batch
        for r in range(m.batch):
            caller, length = m.order[r] * m.time, steps_of(&self.w, length_of(&parent.map, r))
            for t in range(m.time):
                if t < length:
                    m.shown[caller + t] = m.offset[t] + r
                    m.source[m.offset[t] + r] = caller + t
                else:
                    m.shown[caller + t] = m.shown[caller + length - 1] if self.hold and length else m.count + r


cdef operand *view_of(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef class WindowOp(Op):
    """One op of this file.

    Parameters
    ----------
    name : str
        convolve, pool_windows, or either's _back.
    dtype : str
    rows, to : Rows
        Of x and of y.
    buffers : dict of str to Buffer
        By the names of `task`'s fields.
    numbers : dict
        Those of the window, and channels, filters (of a group), groups, padded, chunk, act, kind.
    panels, biases : list of Buffer or None
        Of the kernel and bias, one a group.
    """

    def __init__(self, str name, str dtype, Rows rows, Rows to, dict buffers, dict numbers, list panels, list biases):
        cdef task *a = <task *>calloc(1, sizeof(task))
        cdef Buffer one
        if a == NULL:
            raise MemoryError()
        self.args, self.record, self.work = a, (rows, to, buffers, panels, biases), <op_work><size_t>WORK[name]
        a.k, a.rows, a.to = kernels_of(dtype), &rows.map, &to.map
        read_window(&a.w, numbers)
        a.x, a.y, a.dx, a.dy = view_of(buffers, "x"), view_of(buffers, "y"), view_of(buffers, "dx"), view_of(buffers, "dy")
        a.kernel, a.dkernel, a.dbias = view_of(buffers, "kernel"), view_of(buffers, "dkernel"), view_of(buffers, "dbias")
        a.work, a.turned, a.scratch = view_of(buffers, "work"), view_of(buffers, "turned"), view_of(buffers, "scratch")
        a.channels, a.filters, a.groups = numbers["channels"], numbers.get("filters", 0), numbers.get("groups", 1)
        a.padded, a.chunk, a.act, a.kind = numbers.get("padded", 0), numbers.get("chunk", 1), numbers.get("act", 0), numbers.get("kind", 0)
        a.panels, a.biases = <operand **>calloc(len(panels) + 1, sizeof(operand *)), <operand **>calloc(len(biases) + 1, sizeof(operand *))
        if a.panels == NULL or a.biases == NULL:
            raise MemoryError()
        for i, one in enumerate(panels):
            a.panels[i] = &one.view
        for i, one in enumerate(biases):
            a.biases[i] = &one.view if one is not None else NULL

    def __dealloc__(self):
        cdef task *a = <task *>self.args
        if a != NULL:
            free(a.panels)
            free(a.biases)
            free(a)
