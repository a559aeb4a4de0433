"""Recurrent layers, back through time: step by step the cell's backward, which leaves the gates' gradients on the tape; then dx, dW, dR and db as deep products."""
from libc.stdint cimport int64_t
from libc.string cimport memset

from rnnfast._engine.buffers cimport operand, share
from rnnfast._engine.kernels cimport ACT_linear, OUTER_RUNS, rnnf_barrier, rnnf_fetch, rnnf_matmul, rnnf_outer, rnnf_step_back, rnnf_team
from rnnfast._engine.recurrent cimport (
    at, at_step, copy_units, keep_row, layer, mask_of, meets, move_apart, part, part_of, set_keep, SPLIT_UNITS, STATES_MOST, tape_at, wide_row,
)


cdef inline bint apart(const layer *a) noexcept nogil:
    """Whether backward the products, if there are any, are added to the states' gradients before the cell's step instead of within."""
    return a.masks != NULL or a.wide > 1 or a.cell.phase[0].product_gates == 0


cdef inline int64_t carry_state(const layer *a) noexcept nogil:
    return a.rows.batch * a.padded + a.gaps


cdef inline char *carry_at(const layer *a, int64_t state, int64_t row) noexcept nogil:
    """Address of the gradient of a row's state."""
    return a.carry.data + (state * carry_state(a) + row * a.padded) * a.k.itemsize


cdef void begin_carry(const layer *a, part own) noexcept nogil:
    """Gradients of the final states and of the last output."""
    cdef int64_t r, s, first = own.p0 * a.k.lanes
    cdef int64_t n = min(own.p1 * a.k.lanes, a.units) - first
    cdef char *carry
    for s in range(a.states):
        for r in range(own.r0, own.r1):
            carry = carry_at(a, s, r)
            copy_units(a, own, carry, at(a, a.dstate_out[s], r) if a.dstate_out[s] != NULL else NULL)
            if s < a.wide and a.dlast != NULL and r < a.rows.active[0] and n > 0:
                a.k.add(carry + first * a.k.itemsize, at(a, a.dlast, r) + (s * a.units + first) * a.k.itemsize, n)


cdef void gated_gradient(const layer *a, int64_t t, int64_t r0, int64_t r1) noexcept nogil:
    """carry += sum over gates of mask * (gate gradients of step t . R_gate^T), for rows [r0, r1); of many states each with its mask and part of R."""
    cdef rnnf_matmul g
    cdef int64_t r, row = a.padded * a.k.itemsize
    cdef int i, gate, state
    memset(&g, 0, sizeof(g))
    g.a_row, g.blocks, g.block, g.block_stride = a.cell.slots * a.k.lanes, a.panels, a.k.lanes, a.tape_panel
    g.c, g.c_row, g.cols, g.nv, g.act = a.product.data + r0 * row, a.padded, a.units, 4, ACT_linear
    for i in range(max(a.wide, a.cell.phase[0].product_gates)):
        gate = 0 if a.wide > 1 else i
        state = i - gate
        g.a = tape_at(a, t, r0, a.cell.phase[0].slot + gate)
        g.panels = a.state_recurrent_t[state].data if a.wide > 1 else a.gate_recurrent_t[gate].data
        a.k.matmul(&g, 0, r1 - r0, 0, (a.panels + 3) // 4)
        for r in range(r0, r1):
            a.k.multiply(a.product.data + r * row, a.product.data + r * row, mask_of(a, r, i), a.units)
            a.k.add(carry_at(a, state, r), a.product.data + r * row, a.units)


cdef void state_product(const layer *a, part own, int64_t t, int64_t r0, int64_t r1, int64_t state, char *target) noexcept nogil:
    """target (of r0's row on) += gate gradients of step t . R^T, for rows [r0, r1) of a state."""
    cdef rnnf_matmul g
    memset(&g, 0, sizeof(g))
    g.a, g.a_row = tape_at(a, t, r0, a.cell.phase[0].slot), a.cell.slots * a.k.lanes
    g.blocks, g.block, g.block_stride = a.panels, a.cell.phase[0].product_gates * a.k.lanes, a.tape_panel
    g.panels = a.state_recurrent_t[state].data if a.wide > 1 else a.recurrent_t[0].data
    g.cols, g.nv, g.accumulate, g.act, g.c, g.c_row = a.units, 4, 1, ACT_linear, target, a.padded
    a.k.matmul(&g, 0, r1 - r0, own.p0 // 4, (own.p1 + 3) // 4)


cdef void state_gradient(const layer *a, part own, int64_t t, int64_t r0, int64_t r1) noexcept nogil:
    """carry += the products' gradients of step t: those of the states before it, of rows [r0, r1)."""
    cdef int64_t s
    r0, r1 = max(r0, own.r0), min(r1, own.r1)
    if r0 >= r1 or a.cell.phase[0].product_gates == 0:
        return
    if a.masks != NULL:
        gated_gradient(a, t, r0, r1)
        return
    for s in range(a.wide):
        state_product(a, own, t, r0, r1, s, carry_at(a, s, r0))


cdef void keep_gradient(const layer *a, part own, int64_t t, int64_t r0, int64_t rows, int64_t next) noexcept nogil:
    """dh of step t: what carry, the layers above and the step that followed say, as the cell's backward is about to add them up."""
    cdef int64_t r, first = own.p0 * a.k.lanes * a.k.itemsize, n = min(own.p1 * a.k.lanes, a.units) - own.p0 * a.k.lanes
    for r in range(r0, r0 + rows):
        copy_units(a, own, at_step(a, a.dh, t, r), carry_at(a, 0, r))
        if a.dy != NULL and n > 0:
            a.k.add(at_step(a, a.dh, t, r) + first, at_step(a, a.dy, t, r) + first, n)
    if next >= 0 and not apart(a):  # else the product is in carry
        state_product(a, own, next, r0, r0 + rows, 0, at_step(a, a.dh, t, r0))


cdef void run_step_back(const layer *a, rnnf_team *team, part own, int64_t t, int64_t r0, int64_t r1, int64_t next) noexcept nogil:
    """All phases, backward, of rows [r0, r1) of step t; next is the step that followed them in time, or -1."""
    cdef rnnf_step_back s
    cdef int phase
    cdef int64_t size = a.k.itemsize, rows = max(<int64_t>0, min(r1, own.r1) - max(r0, own.r0)), row = max(r0, own.r0), panel
    memset(&s, 0, sizeof(s))
    s.carry, s.carry_row, s.carry_state = carry_at(a, 0, row), a.padded, carry_state(a)
    s.tape_panel, s.units, s.act, s.recurrent_act, s.h_row, s.backwards = a.tape_panel, a.units, a.act, a.gate, wide_row(a), t & 1
    s.vectors, s.vector_count, s.states, s.state_next = a.vectors.data if a.vectors != NULL else NULL, a.vector_count, a.wide, a.padded
    if rows > 0:
        s.tape, s.h = tape_at(a, t, row, 0), at_step(a, a.h_tape, t, row)
        s.dy = at_step(a, a.dy, t, row) if a.dy != NULL else NULL
        s.dy_row = a.dy.stride if a.dy != NULL else 0
        set_keep(a, s.keep, t, row)
        s.keep_row = keep_row(a)
        if a.dshown != NULL and (a.shown_timed or (t == 0 if a.reverse else row >= a.rows.active[t + 1])):
            s.dshown, s.dshown_row = at_step(a, a.dshown, t, row) if a.shown_timed else at(a, a.dshown, row), a.dshown.stride
    for phase in range(a.cell.phases):
        s.panels = a.recurrent_t[phase].data if a.recurrent_t[phase] != NULL else NULL
        if phase > 0:
            if a.split == SPLIT_UNITS:
                rnnf_barrier(team, own.member)
            s.dg_next = tape_at(a, t, row, a.cell.phase[phase].slot) if rows > 0 else NULL
            if a.masks != NULL:
                s.product_mask = a.masks.data + ((a.mask_count - 1) * a.rows.batch + row) * a.padded * size
        elif apart(a):
            if next >= 0:
                state_gradient(a, own, next, row, row + rows)
        else:
            s.dg_next = tape_at(a, next, row, a.cell.phase[phase].slot) if next >= 0 and rows > 0 else NULL
            if s.dg_next != NULL and rows == 1 and meets(a) and team.size > 1:
                for panel in range(a.panels):
                    rnnf_fetch(<const char *>s.dg_next + panel * a.tape_panel * size, a.cell.phase[phase].product_gates * a.k.lanes * size)
        if phase == 0 and a.dh != NULL and rows > 0:
            keep_gradient(a, own, t, row, rows, next)
        if rows > 0:
            a.cell.phase[phase].backward(&s, rows, own.p0, own.p1)


cdef void end_carry(const layer *a, part own) noexcept nogil:
    """Gradients of the initial states, which the pads of the output may have shown too."""
    cdef int64_t t, r, s, first = own.p0 * a.k.lanes
    cdef int64_t n = min(own.p1 * a.k.lanes, a.units) - first, size = a.k.itemsize
    cdef bint cut
    for t in range(a.rows.time):
        if not a.reverse and t == 0:
            state_gradient(a, own, 0, 0, a.rows.active[0])
        elif a.reverse and a.rows.active[t + 1] < a.rows.active[t]:
            state_gradient(a, own, t, a.rows.active[t + 1], a.rows.active[t])
    for s in range(a.states):
        for r in range(own.r0, own.r1):
            cut = a.rows.cuts and not a.reverse and r < a.rows.active[0] and a.rows.cut[r]
            copy_units(a, own, at(a, a.dstate_in[s], r), NULL if cut else carry_at(a, s, r))
            if s < a.wide and n > 0 and a.dy != NULL and a.rows.pads and not a.zero_pads:
                a.k.add(at(a, a.dstate_in[s], r) + first * size, at(a, a.dy, a.rows.count + r) + (s * a.units + first) * size, n)


cdef void run_episodes_back(const layer *a, rnnf_team *team, part own, int64_t t, int64_t rows, int64_t next) noexcept nogil:
    """run_step_back for rows that go on with step `next`, those that start a new episode there as if they ended: in runs of rows of one kind."""
    cdef int64_t r, s, begin = own.r0, end = min(rows, own.r1), border = t if a.reverse else next
    cdef const int64_t *cut = a.rows.cut + a.rows.offset[border]
    while begin < end:
        r = begin
        while r < end and cut[r] == cut[begin]:
            for s in range(a.states if cut[r] else 0):
                copy_units(a, own, carry_at(a, s, r), NULL)
            r += 1
        run_step_back(a, team, own, t, begin, r, -1 if cut[begin] else next)
        begin = r


cdef void through_time(const layer *a, rnnf_team *team, part own) noexcept nogil:
    """The loop back through time: gate gradients on the tape, state gradients in carry."""
    cdef int64_t i, t, time = a.rows.time, active, following
    begin_carry(a, own)
    for i in range(time):
        t = i if a.reverse else time - 1 - i
        active = a.rows.active[t]
        if a.reverse:
            following = active if t > 0 else 0
        else:
            following = a.rows.active[t + 1]
        if a.rows.cuts:
            run_episodes_back(a, team, own, t, following, t - 1 if a.reverse else t + 1)
            if following < active:
                run_step_back(a, team, own, t, following, active, -1)
        elif a.split == SPLIT_UNITS and a.cell.phases > 1:
            # both parts of the rows meet the barrier between the phases
            run_step_back(a, team, own, t, 0, following, t - 1 if a.reverse else t + 1)
            run_step_back(a, team, own, t, following, active, -1)
        else:
            if following > 0:
                run_step_back(a, team, own, t, 0, following, t - 1 if a.reverse else t + 1)
            if following < active:
                run_step_back(a, team, own, t, following, active, -1)
        if meets(a):
            rnnf_barrier(team, own.member)
    if a.dstate_in[0] != NULL:
        end_carry(a, own)


cpdef int64_t outer_scratch(int64_t rows, int64_t k) noexcept nogil:
    """Elements of the scratch of `outer` that C met as seldom as possible asks for."""
    return 128 * max(<int64_t>1, min(<int64_t>OUTER_RUNS, (rows + 127) // 128)) * (k + 8)


# Sums over all rows that one thread adds up in one pass over the tape, and their share of scratch.
ctypedef struct sums:
    rnnf_outer one[4 + STATES_MOST]
    int count
    int64_t p0, p1  # unit panels that are this thread's
    char *scratch


cdef void turned_sum(const layer *a, const sums *all, const operand *inputs, int64_t width, int slot, int gates, const int *order, char *target) noexcept nogil:
    """target[columns, width] = gradients of `gates` gates of a product from `slot` on, transposed, . inputs."""
    cdef rnnf_matmul g
    cdef int zero = 0, i
    cdef int64_t[4] shape = [0, width, 1, 1]
    cdef int64_t p, u, r = 0, size = a.k.itemsize, lanes = a.k.lanes
    cdef int64_t most = outer_scratch(1, width) // ((width + lanes - 1) // lanes * lanes)  # rows for which, packed, there is room
    cdef char *dg
    if a.rows.count == 1:
        for i in range(gates):
            for u in range(all.p0 * lanes, min(all.p1 * lanes, a.units)):
                dg = tape_at(a, 0, 0, slot + i) + (u // lanes * a.tape_panel + u % lanes) * size
                a.k.scale(target + (order[i] * a.units + u) * width * size, inputs.data, (<float *>dg)[0] if size == 4 else (<double *>dg)[0], width)
        return
    memset(&g, 0, sizeof(g))
    g.a_row, g.block, g.block_stride = 1, 1, a.cell.slots * lanes  # row by row of the tape, of which a unit is a column
    g.panels, g.c_row, g.cols, g.nv, g.act = all.scratch, width, width, 4, ACT_linear
    while r < a.rows.count:
        g.blocks = shape[0] = min(most, a.rows.count - r)
        a.k.pack(all.scratch, at(a, inputs, r), inputs.stride, shape, &zero)
        for i in range(gates):
            for p in range(all.p0, all.p1):
                g.a = tape_at(a, 0, r, slot + i) + p * a.tape_panel * size
                g.c = target + (order[i] * a.units + p * lanes) * width * size
                a.k.matmul(&g, 0, min(lanes, a.units - p * lanes), 0, (width + 4 * lanes - 1) // (4 * lanes))
        g.accumulate = 1
        r += most


cdef void add_sum(const layer *a, sums *all, const operand *inputs, int64_t k0, int64_t k1, int slot, int gates, int product, char *target) noexcept nogil:
    """Add target[k, columns] = inputs[:, k]^T . gradients of `gates` gates of a product from `slot` on, for k in [k0, k1); without inputs sums of the gradients."""
    cdef rnnf_outer *g = &all.one[all.count]
    cdef int i, first = slot - a.cell.phase[0].slot if product == 1 else slot
    cdef int64_t size = a.k.itemsize
    if k0 >= k1:
        return
    if a.turned and inputs != NULL:
        turned_sum(a, all, inputs, k1, slot, gates, &a.order[product][first], target)
        return
    memset(g, 0, sizeof(rnnf_outer))
    g.b, g.b_row, g.b_panel, g.nv = tape_at(a, 0, 0, slot), a.cell.slots * a.k.lanes, a.tape_panel, gates
    g.c_row, g.c_panel, g.c_vector, g.cols, g.gated = a.cell.gates * a.units, a.k.lanes, a.units, a.units, 1
    g.c = target + k0 * g.c_row * size
    for i in range(gates):
        g.order[i] = i if product == 2 else a.order[product][first + i]
    if inputs != NULL:
        g.a, g.a_row, g.k, g.sums = inputs.data + k0 * size, inputs.stride, k1 - k0, all.scratch
        g.scratch = all.scratch + 4 * a.k.lanes * g.k * size
        all.scratch = <char *>g.scratch + outer_scratch(a.rows.count, g.k) * size
    if all.count:
        all.one[all.count - 1].next = g
    all.count += 1


cdef void add_recurrent(const layer *a, sums *all, int64_t k0, int64_t k1) noexcept nogil:
    """dR: of all gates of a phase at once, or one by one where each gate or state has an operand of its own."""
    cdef int i, phase, slot, gates
    cdef operand one
    for phase in range(a.cell.phases):
        slot, gates = a.cell.phase[phase].slot, a.cell.phase[phase].product_gates
        if gates > 0 and (phase > 0 or (a.masks == NULL and a.wide == 1)):
            add_sum(a, all, a.h_tape if phase == 0 else a.reset_tape, k0, k1, slot, gates, 1 if phase == 0 else 0, a.drecurrent.data)
        elif gates > 0:
            for i in range(max(a.wide, gates)):
                one = a.masked_tape[0] if a.masks != NULL else a.h_tape[0]
                one.data += i * a.padded * a.k.itemsize
                add_sum(a, all, &one, k0, k1, slot if a.wide > 1 else slot + i, 1, 1,
                        a.drecurrent.data + (i * a.units * a.units * a.k.itemsize if a.wide > 1 else 0))


cdef void weight_gradients(const layer *a, rnnf_team *team, int member) noexcept nogil:
    """Threads share unit panels, or, where one gate makes these fewer than the inputs, the rows of the gradients: each packs its own inputs alone."""
    cdef sums all
    cdef int64_t x0 = 0, x1 = a.inputs, h0 = 0, h1 = a.units
    cdef bint by_inputs = a.cell.gates == 1 and not a.turned
    all.p0, all.p1 = 0, a.panels
    if by_inputs:
        share(a.inputs, team, member, 12, &x0, &x1)
        share(a.units, team, member, 12, &h0, &h1)
    else:
        share(a.panels, team, member, 1, &all.p0, &all.p1)
    all.count, all.scratch = 0, a.scratch.data + member * a.scratch_size * a.k.itemsize
    add_sum(a, &all, a.x, x0, x1, 0, a.cell.gates, 0, a.dkernel.data)
    if a.drecurrent != NULL:
        add_recurrent(a, &all, h0, h1)
    if not by_inputs or member == 0:
        if a.dbias != NULL:
            add_sum(a, &all, NULL, 0, 1, 0, a.cell.gates, 0, a.dbias.data)
            if a.recurrent_bias_rows:
                add_sum(a, &all, NULL, 0, 1, a.cell.phase[0].slot, a.cell.phase[0].product_gates, 1, a.dbias.data + a.cell.gates * a.units * a.k.itemsize)
        if a.dvectors != NULL:
            add_sum(a, &all, NULL, 0, 1, a.cell.vector_slot, a.cell.vectors, 2, a.dvectors.data)
    if all.count > 0 and all.p0 < all.p1:
        a.k.outer(&all.one[0], a.rows.count, all.p0, all.p1)


cdef void input_gradient(const layer *a, rnnf_team *team, int member) noexcept nogil:
    """dx = gate gradients . W^T over all packed rows; a pad row showed no input."""
    cdef rnnf_matmul g
    cdef int64_t r0, r1, size = a.k.itemsize
    share(a.rows.count, team, member, 24, &r0, &r1)
    memset(&g, 0, sizeof(g))
    g.a, g.a_row = a.tape.data, a.cell.slots * a.k.lanes
    g.blocks, g.block, g.block_stride = a.panels, a.cell.gates * a.k.lanes, a.tape_panel
    g.panels, g.c, g.c_row, g.cols, g.nv, g.act = a.kernel_t.data, a.dx.data, a.dx.stride, a.inputs, 4, ACT_linear
    a.k.matmul(&g, r0, r1, 0, (a.inputs + 4 * a.k.lanes - 1) // (4 * a.k.lanes))
    if member == 0 and a.rows.pads:
        memset(at(a, a.dx, a.rows.count), 0, a.rows.pads * a.dx.stride * size)


cdef void backward_work(void *args, rnnf_team *team, int member) noexcept nogil:
    cdef layer own_rows = (<layer *>args)[0]
    cdef layer *a = &own_rows
    cdef part own = part_of(a, team, member, 4)
    cdef operand carry
    move_apart(a, member, &a.carry, &carry)
    if own.r0 < own.r1:
        through_time(a, team, own)
    rnnf_barrier(team, own.member)
    weight_gradients(a, team, member)
    if a.dx != NULL:
        input_gradient(a, team, member)
