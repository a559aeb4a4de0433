"""Recurrent cells whose step has more stages than a product and an epilogue: layer-normalised gates, projected states.

The inputs' part of the gates (x . W) is given for all steps. A step is done in stages, each over all rows of a thread: the recurrent product, for each row
its normalisations and the cell's equations (csrc/kernels/cell_rows.h), the projection. A thread owns rows, so there is no barrier inside the loop and no number
depends on how they are shared. The gradients of the two matrices are left to a dense product over all rows of the tape.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, operand, rows_map, share, share_rows
from rnnfast._engine.cpu cimport kernels_of
from rnnfast._engine.kernels cimport ACT_linear, rnnf_barrier, rnnf_cell_row, rnnf_kernels, rnnf_matmul, rnnf_row_cell, rnnf_team

cdef enum:
    INPUT = 0   # what is normalised: the input's gates, the state's, the cell state
    STATE = 1
    CELL = 2
    GROUPS = 2  # of gates that are normalised together, at most

# Operands that a layer does not need are NULL. P is the width of h, H that of the cell, G its gates; all rows are packed.
ctypedef struct staged:
    const rnnf_kernels *k
    const rnnf_row_cell *cell
    const rows_map *rows
    int64_t width, units, columns         # P, H, G H
    int64_t group[GROUPS + 1]             # borders of the groups of gates
    int groups, reverse, act, gate, zero_pads, shared
    double epsilon
    operand *gates                        # [count, G H]
    operand *recurrent                    # panels of R
    operand *projection                   # panels of the projection, or NULL: P = H
    operand *gain[3]                      # of each normalisation, or NULL: there is none
    operand *shift[3]
    int64_t shift_first[3]                # where it starts in its variable
    operand *state_in[2]
    operand *state_out[2]
    operand *y
    operand *last
    operand *h                            # [batch, P]
    operand *memory                       # [batch, H]
    operand *product                      # [count, G H] h . R where its gradient needs it, else [batch, G H]
    operand *hidden                       # [count, H] before the projection; likewise
    operand *work                         # [threads, 2 G H + 4 H]
    operand *tape                         # [count, slots H]
    operand *h_tape                       # [count, P] h before each step
    operand *cell_tape                    # [count, H] c before its normalisation
    operand *kept                         # float64 [2 groups + 1][capacity][2] mean and deviation
    # backward
    operand *dy
    operand *dlast
    operand *dstate_out[2]
    operand *dstate_in[2]
    operand *carry                        # [batch, P]
    operand *carry_cell                   # [batch, H]
    operand *dhidden                      # [batch, H]
    operand *dh_tape                      # [count, P padded] gradients of the projection's output
    operand *dgates                       # [count, G H]
    operand *dproduct                     # [count, G H padded]
    operand *dnormal[3]                   # [count, G H or H] gradients of what the normalisations gave
    operand *recurrent_t
    operand *projection_t
    operand *dgain[3]
    operand *dshift[3]


cdef inline char *row_of(const staged *a, const operand *o, int64_t row) noexcept nogil:
    return o.data + row * o.stride * a.k.itemsize


cdef inline char *step_row(const staged *a, const operand *o, int64_t t, int64_t row) noexcept nogil:
    """A step's row, packed or in a caller's array."""
    if o.step:
        return o.data + (t * o.step + row * o.stride) * a.k.itemsize
    return row_of(a, o, a.rows.offset[t] + row)


cdef inline char *member_row(const staged *a, int member, int64_t first) noexcept nogil:
    """This thread's scratch, from its `first`-th value."""
    return row_of(a, a.work, member) + first * a.k.itemsize


cdef inline void fill(const staged *a, char *target, const char *source, int64_t n) noexcept nogil:
    """n values; a NULL source means zeros."""
    if source != NULL:
        memcpy(target, source, n * a.k.itemsize)
    else:
        memset(target, 0, n * a.k.itemsize)


cdef inline int64_t state_width(const staged *a, int state) noexcept nogil:
    return a.units if state else a.width


cdef inline double *kept_of(const staged *a, int side, int group, int64_t packed) noexcept nogil:
    cdef int64_t section = side * a.groups + group
    return <double *>a.kept.data + 2 * (section * (a.rows.time + 1) * a.rows.batch + packed)


cdef void product_of(const staged *a, const char *x, int64_t x_row, int64_t depth, const operand *panels, char *y, int64_t y_row, int64_t cols, int64_t rows,
                     bint accumulate) noexcept nogil:
    cdef rnnf_matmul g
    memset(&g, 0, sizeof(g))
    g.a, g.a_row, g.blocks, g.block, g.panels = x, x_row, 1, depth, panels.data
    g.c, g.c_row, g.cols, g.nv, g.act, g.accumulate = y, y_row, cols, 4, ACT_linear, accumulate
    a.k.matmul(&g, 0, rows, 0, (cols + 4 * a.k.lanes - 1) // (4 * a.k.lanes))


cdef void own_rows(const staged *a, rnnf_team *team, int member, int64_t *r0, int64_t *r1) noexcept nogil:
    if a.shared and team.size > 1:
        share_rows(a.rows, team, member, r0, r1)
    else:
        r0[0], r1[0] = 0, a.rows.batch if member == 0 else 0


cdef inline char *data_of(const operand *o, int64_t first, int64_t size) noexcept nogil:
    return o.data + first * size if o != NULL else NULL


cdef void normalize_gates(const staged *a, int side, char *target, const char *source, int64_t packed) noexcept nogil:
    """Each group of one side's gates of a row."""
    cdef int i
    cdef int64_t first, size = a.k.itemsize
    for i in range(a.groups):
        first = a.group[i]
        a.k.normalize(target + first * size, source + first * size, data_of(a.gain[side], first, size), data_of(a.shift[side], a.shift_first[side] + first, size), a.epsilon,
                      kept_of(a, side, i, packed), a.group[i + 1] - first)


cdef void begin_states(const staged *a, int64_t r0, int64_t r1) noexcept nogil:
    """Initial states of the rows; results of those that have no step."""
    cdef int64_t r
    cdef int s
    cdef char *given
    for r in range(r0, r1):
        for s in range(a.cell.states):
            given = row_of(a, a.state_in[s], r) if a.state_in[s] != NULL else NULL
            fill(a, row_of(a, a.memory if s else a.h, r), given, state_width(a, s))
            if r >= a.rows.active[0] and a.state_out[s] != NULL:
                fill(a, row_of(a, a.state_out[s], r), given, state_width(a, s))
            if s == 0 and a.y != NULL and a.rows.pads and not a.y.step:
                fill(a, row_of(a, a.y, a.rows.count + r), NULL if a.zero_pads else given, a.width)
        if r >= a.rows.active[0] and a.last != NULL:
            fill(a, row_of(a, a.last, r), NULL, a.width)


cdef void end_rows(const staged *a, int64_t r0, int64_t r1) noexcept nogil:
    """Rows [r0, r1) have had their last step: hand out their states."""
    cdef int64_t r
    for r in range(r0, r1):
        if a.last != NULL:
            fill(a, row_of(a, a.last, r), row_of(a, a.h, r), a.width)
        if a.state_out[0] != NULL:
            fill(a, row_of(a, a.state_out[0], r), row_of(a, a.h, r), a.width)
        if a.state_out[1] != NULL:
            fill(a, row_of(a, a.state_out[1], r), row_of(a, a.memory, r), a.units)


cdef void cell_step(const staged *a, int member, int64_t packed, int64_t r, char *product, char *hidden) noexcept nogil:
    """The cell of one row."""
    cdef rnnf_cell_row c
    cdef int64_t size = a.k.itemsize
    cdef char *mid = member_row(a, member, 2 * a.columns)
    memset(&c, 0, sizeof(c))
    c.units, c.act, c.recurrent_act, c.mid = a.units, a.act, a.gate, mid
    c.gates[0], c.gates[1] = row_of(a, a.gates, packed), product
    if a.gain[INPUT] != NULL:
        normalize_gates(a, INPUT, member_row(a, member, 0), row_of(a, a.gates, packed), packed)
        normalize_gates(a, STATE, member_row(a, member, a.columns), product, packed)
        c.gates[0], c.gates[1] = member_row(a, member, 0), member_row(a, member, a.columns)
    if a.projection == NULL:
        c.state[0] = c.out[0] = row_of(a, a.h, r)
    else:
        c.out[0] = hidden
    if a.cell.states > 1:
        c.state[1] = c.out[1] = row_of(a, a.memory, r)
    c.saved = row_of(a, a.tape, packed) if a.tape != NULL else NULL
    a.cell.row_gates(&c)
    if a.gain[CELL] != NULL:
        fill(a, row_of(a, a.memory, r), mid + a.units * size, a.units)
        if a.cell_tape != NULL:
            fill(a, row_of(a, a.cell_tape, packed), mid + a.units * size, a.units)
        a.k.normalize(mid + a.units * size, mid + a.units * size, a.gain[CELL].data, data_of(a.shift[CELL], 0, 0), a.epsilon, kept_of(a, CELL, 0, packed), a.units)
        c.out[1] = NULL
    a.cell.row_output(&c)


cdef void forward_step(const staged *a, int member, int64_t t, int64_t r0, int64_t rows) noexcept nogil:
    cdef int64_t r, first = a.rows.offset[t] + r0, size = a.k.itemsize
    cdef char *product = row_of(a, a.product, first if a.tape != NULL and a.gain[STATE] != NULL else r0)
    cdef char *hidden = row_of(a, a.hidden, first if a.tape != NULL else r0) if a.hidden != NULL else NULL
    if a.h_tape != NULL:
        for r in range(rows):
            fill(a, row_of(a, a.h_tape, first + r), row_of(a, a.h, r0 + r), a.width)
    product_of(a, row_of(a, a.h, r0), a.h.stride, a.width, a.recurrent, product, a.columns, a.columns, rows, False)
    for r in range(rows):
        cell_step(a, member, first + r, r0 + r, product + r * a.columns * size, hidden + r * a.units * size if hidden != NULL else NULL)
    if a.projection != NULL:
        product_of(a, hidden, a.units, a.units, a.projection, row_of(a, a.h, r0), a.h.stride, a.width, rows, False)
    if a.y != NULL:
        for r in range(rows):
            fill(a, step_row(a, a.y, t, r0 + r), row_of(a, a.h, r0 + r), a.width)


cdef void forward_work(void *args, rnnf_team *team, int member) noexcept nogil:
    cdef staged *a = <staged *>args
    cdef int64_t i, t, r0, r1, time = a.rows.time
    own_rows(a, team, member, &r0, &r1)
    begin_states(a, r0, r1)
    for i in range(time):
        t = time - 1 - i if a.reverse else i
        if a.rows.active[t] > r0 and r1 > r0:
            forward_step(a, member, t, r0, min(r1, a.rows.active[t]) - r0)
        if a.reverse and t == 0:
            end_rows(a, r0, min(r1, a.rows.active[0]))
        elif not a.reverse:
            end_rows(a, max(r0, a.rows.active[t + 1]), min(r1, a.rows.active[t]))


cdef void begin_carry(const staged *a, int64_t r0, int64_t r1) noexcept nogil:
    """Gradients of the final states and of the last output."""
    cdef int64_t r
    cdef int s
    for r in range(r0, r1):
        for s in range(a.cell.states):
            fill(a, row_of(a, a.carry_cell if s else a.carry, r), row_of(a, a.dstate_out[s], r) if a.dstate_out[s] != NULL else NULL, state_width(a, s))
        if a.dlast != NULL and r < a.rows.active[0]:
            a.k.add(row_of(a, a.carry, r), row_of(a, a.dlast, r), a.width)


cdef void normal_gradient(const staged *a, int side, char *target, const char *source, int64_t packed) noexcept nogil:
    """Gradient of one side's raw gates from that of the normalised ones."""
    cdef int i
    cdef int64_t first, size = a.k.itemsize
    for i in range(a.groups):
        first = a.group[i] * size
        a.k.normalize_back(target + first, source + first, row_of(a, a.dnormal[side], packed) + first, a.gain[side].data + first, kept_of(a, side, i, packed),
                           a.group[i + 1] - a.group[i])


cdef void cell_step_back(const staged *a, int member, int64_t packed, int64_t r) noexcept nogil:
    cdef rnnf_cell_row c
    cdef int64_t size = a.k.itemsize
    cdef char *mid = member_row(a, member, 2 * a.columns)
    cdef char *dcell = mid + 2 * a.units * size
    memset(&c, 0, sizeof(c))
    c.units, c.act, c.recurrent_act, c.mid, c.saved = a.units, a.act, a.gate, mid, row_of(a, a.tape, packed)
    c.d[0] = row_of(a, a.carry if a.projection == NULL else a.dhidden, r)
    c.d[1] = row_of(a, a.carry_cell, r) if a.cell.states > 1 else NULL
    c.state[0] = row_of(a, a.h_tape, packed) if a.projection == NULL else NULL
    c.dgates[0] = row_of(a, a.dgates if a.gain[INPUT] == NULL else a.dnormal[INPUT], packed)
    c.dgates[1] = row_of(a, a.dproduct if a.gain[INPUT] == NULL else a.dnormal[STATE], packed)
    if a.gain[CELL] != NULL:
        a.k.normalize(mid + a.units * size, row_of(a, a.cell_tape, packed), a.gain[CELL].data, data_of(a.shift[CELL], 0, 0), a.epsilon,
                      kept_of(a, CELL, 0, packed), a.units)
        a.cell.row_output_backward(&c)
        fill(a, row_of(a, a.dnormal[CELL], packed), mid + a.units * size, a.units)
        a.k.normalize_back(dcell, row_of(a, a.cell_tape, packed), mid + a.units * size, a.gain[CELL].data, kept_of(a, CELL, 0, packed), a.units)
        a.k.add(c.d[1], dcell, a.units)
        memset(c.d[0], 0, a.units * size)  # what h' gave has gone through the normalisation
    a.cell.row_backward(&c)
    if a.gain[CELL] != NULL:
        fill(a, <char *>c.dgates[0] + 3 * a.units * size, mid, a.units)
        fill(a, <char *>c.dgates[1] + 3 * a.units * size, mid, a.units)
    if a.gain[INPUT] != NULL:
        normal_gradient(a, INPUT, row_of(a, a.dgates, packed), row_of(a, a.gates, packed), packed)
        normal_gradient(a, STATE, row_of(a, a.dproduct, packed), row_of(a, a.product, packed), packed)


cdef void backward_step(const staged *a, int member, int64_t t, int64_t r0, int64_t rows) noexcept nogil:
    cdef int64_t r, first = a.rows.offset[t] + r0
    for r in range(rows):
        if a.dy != NULL:
            a.k.add(row_of(a, a.carry, r0 + r), step_row(a, a.dy, t, r0 + r), a.width)
        if a.projection != NULL:
            fill(a, row_of(a, a.dh_tape, first + r), row_of(a, a.carry, r0 + r), a.width)
            memset(row_of(a, a.carry, r0 + r), 0, a.width * a.k.itemsize)
    if a.projection != NULL:
        product_of(a, row_of(a, a.dh_tape, first), a.dh_tape.stride, a.dh_tape.stride, a.projection_t, row_of(a, a.dhidden, r0), a.dhidden.stride, a.units, rows,
                   False)
    for r in range(rows):
        cell_step_back(a, member, first + r, r0 + r)
    product_of(a, row_of(a, a.dproduct, first), a.dproduct.stride, a.dproduct.stride, a.recurrent_t, row_of(a, a.carry, r0), a.carry.stride, a.width, rows, True)


cdef void end_carry(const staged *a, int64_t r0, int64_t r1) noexcept nogil:
    """Gradients of the initial states, which the pads of the output may have shown too."""
    cdef int64_t r
    cdef int s
    for r in range(r0, r1):
        for s in range(a.cell.states):
            if a.dstate_in[s] != NULL:
                fill(a, row_of(a, a.dstate_in[s], r), row_of(a, a.carry_cell if s else a.carry, r), state_width(a, s))
        if a.dstate_in[0] != NULL and a.dy != NULL and a.rows.pads and not a.zero_pads:
            a.k.add(row_of(a, a.dstate_in[0], r), row_of(a, a.dy, a.rows.count + r), a.width)


cdef void clear_pads(const staged *a, const operand *o) noexcept nogil:
    """The dense products over the tape read pads too."""
    if o != NULL and a.rows.pads:
        memset(row_of(a, o, a.rows.count), 0, a.rows.pads * o.stride * a.k.itemsize)


cdef void normal_sums(const staged *a, rnnf_team *team, int member, int side, int group, int64_t first, int64_t n, const operand *source) noexcept nogil:
    """This thread's columns of the gradients of a gain and a shift."""
    cdef int64_t shape[4]
    cdef int64_t size = a.k.itemsize
    shape[0], shape[1] = a.rows.count, a.dnormal[side].stride
    share(n, team, member, 1, &shape[2], &shape[3])
    a.k.normalize_sums(data_of(a.dgain[side], first, size), data_of(a.dshift[side], a.shift_first[side] + first, size), source.data + first * size,
                       a.dnormal[side].data + first * size, kept_of(a, side, group, 0), shape)


cdef void backward_work(void *args, rnnf_team *team, int member) noexcept nogil:
    cdef staged *a = <staged *>args
    cdef int64_t i, t, r0, r1, time = a.rows.time
    cdef int side, group
    own_rows(a, team, member, &r0, &r1)
    begin_carry(a, r0, r1)
    for i in range(time):
        t = i if a.reverse else time - 1 - i
        if a.rows.active[t] > r0 and r1 > r0:
            backward_step(a, member, t, r0, min(r1, a.rows.active[t]) - r0)
    end_carry(a, r0, r1)
    if member == 0:
        clear_pads(a, a.dgates)
        clear_pads(a, a.dproduct)
        clear_pads(a, a.h_tape)
        clear_pads(a, a.hidden)
        clear_pads(a, a.dh_tape)
    if a.gain[INPUT] != NULL:
        rnnf_barrier(team, member)
        for group in range(a.groups):
            for side in range(2):
                normal_sums(a, team, member, side, group, a.group[group], a.group[group + 1] - a.group[group], a.product if side else a.gates)
        if a.gain[CELL] != NULL:
            normal_sums(a, team, member, CELL, 0, 0, a.units, a.cell_tape)


cdef operand *view(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef const rnnf_row_cell *row_cell(str dtype, str cell) except NULL:
    cdef const rnnf_kernels *k = kernels_of(dtype)
    cdef int i
    for i in range(2):
        if k.row_cell[i].name.decode() == cell:
            return &k.row_cell[i]
    raise KeyError(cell)


cdef class StagedLayer(Op):
    """One direction of a layer of this file.

    Parameters
    ----------
    dtype : str
    cell : str
        "lstm" or "gru".
    rows : Rows
    buffers : dict of str to Buffer
        By the names of the fields of `staged`; arrays of operands have their index behind the name.
    sizes : dict of str to number
        width, units, groups (their borders), reverse, act, gate, zero_pads, shared, epsilon, shift_rows.
    backward : bool
    """

    def __init__(self, str dtype, str cell, Rows rows, dict buffers, dict sizes, bint backward):
        cdef staged *a = <staged *>calloc(1, sizeof(staged))
        cdef int i
        if a == NULL:
            raise MemoryError()
        self.args, self.record = a, (rows, buffers)
        self.work = backward_work if backward else forward_work
        a.k, a.cell, a.rows = kernels_of(dtype), row_cell(dtype, cell), &rows.map
        a.width, a.units, a.columns = sizes["width"], sizes["units"], a.cell.gates * sizes["units"]
        a.groups = len(sizes["groups"]) - 1
        for i, border in enumerate(sizes["groups"]):
            a.group[i] = border
        for i, row in enumerate(sizes["shift_rows"]):
            a.shift_first[i] = row * a.columns
        a.reverse, a.act, a.gate, a.zero_pads = sizes["reverse"], sizes["act"], sizes["gate"], sizes["zero_pads"]
        a.shared, a.epsilon = sizes["shared"], sizes["epsilon"]
        self._take(a, buffers)

    cdef _take(self, staged *a, dict buffers):
        cdef int i
        a.gates, a.recurrent, a.projection = view(buffers, "gates"), view(buffers, "recurrent"), view(buffers, "projection")
        a.y, a.last, a.h, a.memory = view(buffers, "y"), view(buffers, "last"), view(buffers, "h"), view(buffers, "memory")
        a.product, a.hidden, a.work, a.tape = view(buffers, "product"), view(buffers, "hidden"), view(buffers, "work"), view(buffers, "tape")
        a.h_tape, a.cell_tape, a.kept = view(buffers, "h_tape"), view(buffers, "cell_tape"), view(buffers, "kept")
        a.dy, a.dlast, a.carry, a.carry_cell = view(buffers, "dy"), view(buffers, "dlast"), view(buffers, "carry"), view(buffers, "carry_cell")
        a.dhidden, a.dh_tape, a.dgates, a.dproduct = view(buffers, "dhidden"), view(buffers, "dh_tape"), view(buffers, "dgates"), view(buffers, "dproduct")
        a.recurrent_t, a.projection_t = view(buffers, "recurrent_t"), view(buffers, "projection_t")
        for i in range(3):
            a.gain[i], a.shift[i], a.dnormal[i] = view(buffers, f"gain{i}"), view(buffers, f"shift{i}"), view(buffers, f"dnormal{i}")
            a.dgain[i], a.dshift[i] = view(buffers, f"dgain{i}"), view(buffers, f"dshift{i}")
        for i in range(2):
            a.state_in[i], a.state_out[i] = view(buffers, f"state_in{i}"), view(buffers, f"state_out{i}")
            a.dstate_in[i], a.dstate_out[i] = view(buffers, f"dstate_in{i}"), view(buffers, f"dstate_out{i}")

    def __dealloc__(self):
        free(self.args)


def row_cell_facts(str dtype, str cell):
    """gates, slots and states."""
    cdef const rnnf_row_cell *c = row_cell(dtype, cell)
    return c.gates, c.slots, c.states
