"""Recurrent layers: the loop over time, forward and back through time.

Forward, a chunk of steps at a time so that the chunk's gate inputs stay in cache: x_gates = x . W + b for all its steps, then step by step
the cell; or, with enough rows, both `within` each step. Backward: step by step the cell's backward, which leaves the gates' gradients on the tape; then dx, dW, dR and db as deep products.

A thread owns rows (SPLIT_ROWS: no barrier at all) or unit panels (SPLIT_UNITS: one barrier a step, each core keeps its part of the
recurrent kernel in its own cache). Either way every number is computed by one thread in one order, so results do not depend on the split.
"""
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, operand, rows_map, share, share_rows
from rnnfast._engine.cpu cimport kernels_of, tiles_of
from rnnfast._engine.kernels cimport (
    ACT_linear, CELL_COUNT, OUTER_RUNS, rnnf_barrier, rnnf_cell, rnnf_claim, rnnf_fetch, rnnf_kernels, rnnf_matmul, rnnf_outer, rnnf_run, rnnf_tiles, rnnf_step, rnnf_step_back, rnnf_team,
    WEIGHTS_SAME, WEIGHTS_SPLIT1,
)

cdef enum:
    SPLIT_NONE = 0
    SPLIT_ROWS = 1
    SPLIT_UNITS = 2
    STATES_MOST = 8
    RUN_INPUTS = 4  # up to so many, x . W + b costs a run of steps less than reading it would

# Weights and buffers of one direction of one layer. Operands that a plan does not need are NULL.
ctypedef struct layer:
    const rnnf_kernels *k
    const rnnf_cell *cell
    const rows_map *rows
    int64_t inputs, units, padded, panels, chunk, tape_panel
    int reverse, act, gate, split
    int within              # a step computes its gate inputs itself
    int zero_pads           # a step that nothing precedes shows 0, not the initial state
    int states, wide        # of the states the first `wide` enter the product, side by side
    operand *x
    operand *y              # output sequence
    operand *last           # [batch, units] output at the last valid step, 0 where there is none
    operand *shown          # what a cell gives beside its states: output sequence, or [batch, units] of the last valid step
    int shown_timed
    const rows_map *slots   # which row of the states each row goes on from and leaves, where it is not its own
    operand *state_in[STATES_MOST]
    operand *state_out[STATES_MOST]
    operand *kernel         # panels of W
    operand *bias
    operand *recurrent[2]   # panels of R, one a phase
    operand *vectors        # weights of each unit, [panels, vector_count, V]
    int vector_count
    operand *recurrent_bias
    operand *x_rows         # [threads, batch, inputs], of one step, where the caller's rows do not lie side by side
    operand *x_gates        # [chunk, batch, panels, gates, V] or packed, see gates_place
    operand *h              # [2, batch, wide, padded]; what only one thread reads, of this and the next two, stands `gap` values behind what only the thread before reads
    operand *memory         # [batch, padded] second state
    operand *reset          # [batch, padded] r h, where the reset comes before the product
    int64_t gap, gaps       # gaps: of all threads, at the end of each state of all rows
    operand *tape
    operand *h_tape         # [count, wide, padded] states before each step
    operand *reset_tape     # [count, padded] r h of each step
    # recurrent dropout: a mask for each gate of the products or each state that enters one, all of a row together
    operand *masks          # [mask_count, batch, padded], 1 / (1 - rate) or 0
    operand *masked         # [batch, mask_count, padded] state times masks
    operand *masked_tape    # [count, mask_count, padded]
    operand *gate_recurrent_t[4]  # panels of each gate's part of R transposed
    operand *state_recurrent_t[STATES_MOST]  # of each state's part
    operand *product        # [batch, padded]
    int mask_count
    operand *keep[2]        # zoneout: [count, padded] or one row for all, the new states' shares
    # backward
    operand *dy
    operand *dlast
    operand *dshown
    operand *dstate_out[STATES_MOST]
    operand *dstate_in[STATES_MOST]
    operand *dx
    operand *kernel_t       # panels of W transposed
    operand *recurrent_t[2]
    operand *dkernel
    operand *drecurrent
    operand *dbias
    operand *dvectors
    int turned              # dkernel and drecurrent are the gradients' transposes, [columns, rows]
    operand *carry          # [states, batch, padded], with gaps as the states
    operand *dh             # [count, padded] dL/d state after each step, for who wants to look at it
    operand *scratch        # [threads, scratch_size], see `sums`
    int64_t scratch_size
    int order[2][4]         # x gates, recurrent gates -> Keras' gate
    int recurrent_bias_rows  # 1 when the bias is (2, G H)
    int runs                # a row alone may leave its steps to the cell's `run`
    int turn                # how that walks over the panels next, so that it meets first what it left in cache
    int kernel_weights, recurrent_weights  # what the panels of W and R hold
    const rnnf_tiles *tiles  # what multiplies parts of bfloat16, where one of them holds such
    operand *parts          # [threads, rows of x or h as parts or as integers]

# The part of a layer that one thread computes.
ctypedef struct part:
    int member
    int64_t r0, r1, p0, p1
    char *parts


cdef inline char *at(const layer *a, const operand *o, int64_t row) noexcept nogil:
    """Address of a packed row."""
    return o.data + row * o.stride * a.k.itemsize


cdef inline char *at_step(const layer *a, const operand *o, int64_t t, int64_t row) noexcept nogil:
    """Address of a step's row, packed or in a caller's array."""
    if o.step:
        return o.data + (t * o.step + row * o.stride) * a.k.itemsize
    return o.data + (a.rows.offset[t] + row) * o.stride * a.k.itemsize


cdef inline bint spread(const layer *a, const operand *o) noexcept nogil:
    """Whether an operand is a caller's array in which the rows of a step do not lie at one distance from each other."""
    return o != NULL and o.step != 0 and not a.rows.dense


cdef inline char *at_source(const layer *a, const operand *o, int64_t t, int64_t row) noexcept nogil:
    """Address of a step's row in a caller's array, whichever steps exist."""
    return o.data + a.rows.source[a.rows.offset[t] + row] * o.step * a.k.itemsize


cdef inline char *tape_at(const layer *a, int64_t t, int64_t row, int64_t slot) noexcept nogil:
    return a.tape.data + ((a.rows.offset[t] + row) * a.cell.slots + slot) * a.k.lanes * a.k.itemsize


cdef inline int64_t wide_row(const layer *a) noexcept nogil:
    """Elements of a row of h."""
    return a.wide * a.padded


cdef inline bint meets(const layer *a) noexcept nogil:
    """Whether a step's products read what other threads have written."""
    return a.split == SPLIT_UNITS and a.cell.phase[0].product_gates > 0


cdef inline bint apart(const layer *a) noexcept nogil:
    """Whether backward the products, if there are any, are added to the states' gradients before the cell's step instead of within."""
    return a.masks != NULL or a.wide > 1 or a.cell.phase[0].product_gates == 0


cdef inline int64_t half(const layer *a) noexcept nogil:
    """Bytes of one half of h."""
    return (a.rows.batch * wide_row(a) + a.gaps) * a.k.itemsize


cdef inline void move_apart(const layer *a, int member, operand **states, operand *own) noexcept nogil:
    """Let `states`, if there are any, be this thread's, apart from others', since a core also fetches lines behind those that it reads. Of several rows whose units are shared
    the threads' parts are interleaved and stay so."""
    if states[0] != NULL and (a.split == SPLIT_ROWS or (a.split == SPLIT_UNITS and a.rows.batch == 1)):
        own[0] = states[0][0]
        own.data += member * a.gap * a.k.itemsize
        states[0] = own


cdef inline char *state_at(const layer *a, char *h, int64_t row, int64_t state) noexcept nogil:
    """Address of a row of a state, where h is the current half of the states that enter the product."""
    if state < a.wide:
        return h + (row * a.wide + state) * a.padded * a.k.itemsize
    return a.memory.data + row * a.padded * a.k.itemsize


cdef inline char *outside(const layer *a, const operand *state, int64_t row) noexcept nogil:
    """Address of a row's state outside, given or handed out."""
    return at(a, state, a.slots.order[row] if a.slots != NULL else row)


cdef part part_of(const layer *a, rnnf_team *team, int member, int64_t grain) noexcept nogil:
    """What this thread computes."""
    cdef part own
    own.member, own.r0, own.r1, own.p0, own.p1 = member, 0, a.rows.batch, 0, a.panels
    own.parts = at(a, a.parts, member) if a.parts != NULL else NULL
    if a.split == SPLIT_UNITS:
        share(a.panels, team, member, grain, &own.p0, &own.p1)
    elif a.split == SPLIT_NONE or team.size == 1:
        own.r1 = a.rows.batch if member == 0 else 0
    else:
        share_rows(a.rows, team, member, &own.r0, &own.r1)
    return own


cdef inline int64_t gates_place(const layer *a, part own, int64_t t0, int64_t t) noexcept nogil:
    """First row of step t in the gate inputs of a chunk that starts at t0: packed, unless threads share the rows, since they may be in different chunks."""
    if own.r0 == 0 and own.r1 == a.rows.batch:
        return a.rows.offset[t] - a.rows.offset[t0]
    return (t - t0) * a.rows.batch


cdef void project(const layer *a, part own, int64_t t0, int64_t t1) noexcept nogil:
    """x_gates of steps [t0, t1): x . W + b for this thread's rows and panels."""
    cdef rnnf_matmul g
    cdef int64_t wide = 4 if a.cell.gates == 1 else 1, t, r, batch = a.rows.batch, size = a.k.itemsize
    cdef int64_t gates_row = a.x_gates.stride, first = own.p0 // wide, last = (own.p1 + wide - 1) // wide
    cdef int64_t step = a.x.step if a.x.step else batch * a.x.stride
    memset(&g, 0, sizeof(g))
    g.blocks, g.block, g.panels, g.act = 1, a.inputs, a.kernel.data, ACT_linear
    g.bias = a.bias.data if a.bias != NULL else NULL
    g.cols, g.nv = gates_row, wide if wide > 1 else a.cell.gates
    g.weights, g.tiles, g.parts = a.kernel_weights, a.tiles, own.parts
    if own.r0 == 0 and own.r1 == batch and step == batch * a.x.stride:
        g.a, g.a_row, g.c, g.c_row = at_step(a, a.x, t0, 0), a.x.stride, a.x_gates.data, gates_row
        a.k.matmul(&g, 0, a.rows.offset[t1] - a.rows.offset[t0], first, last)
    elif a.rows.dense and t1 - t0 >= own.r1 - own.r0:
        for r in range(own.r0, own.r1):
            g.a, g.a_row = at_step(a, a.x, t0, r), step
            g.c, g.c_row = a.x_gates.data + r * gates_row * size, batch * gates_row
            a.k.matmul(&g, 0, t1 - t0, first, last)
    else:
        for t in range(t0, t1):
            g.a, g.a_row = at_step(a, a.x, t, 0), a.x.stride
            g.c, g.c_row = a.x_gates.data + gates_place(a, own, t0, t) * gates_row * size, gates_row
            a.k.matmul(&g, own.r0, min(own.r1, a.rows.active[t]), first, last)


cdef inline void copy_units(const layer *a, part own, char *target, const char *source) noexcept nogil:
    """This thread's units of one row; a NULL source means zeros."""
    cdef int64_t first = own.p0 * a.k.lanes, n = min(own.p1 * a.k.lanes, a.units) - first, size = a.k.itemsize
    if n > 0 and source != NULL:
        memcpy(target + first * size, source + first * size, n * size)
    elif n > 0:
        memset(target + first * size, 0, n * size)


cdef void restart(const layer *a, part own, int64_t t, char *h) noexcept nogil:
    """Zero the states of this thread's rows and units that a new episode starts from at step t."""
    cdef int64_t r, s, border = t + 1 if a.reverse else t  # the later of the two steps that it parts
    if t < 0 or border >= a.rows.time:
        return
    for r in range(own.r0, min(own.r1, a.rows.active[border])):
        if a.rows.cut[a.rows.offset[border] + r]:
            for s in range(a.states):
                copy_units(a, own, state_at(a, h, r, s), NULL)


cdef void begin_states(const layer *a, part own) noexcept nogil:
    """Initial states of this thread's rows and units; results of rows that have no step."""
    cdef int64_t r, s, column = a.units * a.k.itemsize
    cdef char *given
    for r in range(own.r0, own.r1):
        for s in range(a.states):
            given = outside(a, a.state_in[s], r) if a.state_in[s] != NULL else NULL
            copy_units(a, own, state_at(a, a.h.data, r, s), given)
            if s < a.wide:
                copy_units(a, own, state_at(a, a.h.data + half(a), r, s), given)
            if r >= a.rows.active[0] and a.state_out[s] != NULL:
                copy_units(a, own, outside(a, a.state_out[s], r), given)
            if s < a.wide and a.y != NULL and a.rows.pads and not a.y.step:
                copy_units(a, own, at(a, a.y, a.rows.count + r) + s * column, NULL if a.zero_pads else given)
            if s < a.wide and r >= a.rows.active[0] and a.last != NULL:
                copy_units(a, own, at(a, a.last, r) + s * column, NULL)
        if a.shown != NULL and not a.shown_timed:
            copy_units(a, own, at(a, a.shown, r), NULL)
        elif a.shown != NULL and a.rows.pads and not a.shown.step:
            copy_units(a, own, at(a, a.shown, a.rows.count + r), NULL)


cdef void end_rows(const layer *a, part own, int64_t r0, int64_t r1, char *h) noexcept nogil:
    """Rows [r0, r1) have had their last step: hand out their states."""
    cdef int64_t r, s
    for r in range(max(r0, own.r0), min(r1, own.r1)):
        for s in range(a.states):
            if a.last != NULL and s < a.wide:
                copy_units(a, own, at(a, a.last, r) + s * a.units * a.k.itemsize, state_at(a, h, r, s))
            if a.state_out[s] != NULL:
                copy_units(a, own, outside(a, a.state_out[s], r), state_at(a, h, r, s))


cdef void keep_states(const layer *a, part own, int64_t t, int64_t end, char *h) noexcept nogil:
    """The states before step t, of rows up to `end`, on the tape."""
    cdef int64_t r, s
    for r in range(own.r0, end):
        for s in range(a.wide):
            copy_units(a, own, at_step(a, a.h_tape, t, r) + s * a.padded * a.k.itemsize, state_at(a, h, r, s))


cdef inline char *tape_after(const layer *a, int64_t t) noexcept nogil:
    """Where the states after step t stay: on the tape before the step that follows; the last ones behind it, or, as there is nothing in front of it, in h."""
    if not a.reverse:
        return at_step(a, a.h_tape, t + 1, 0)
    return at_step(a, a.h_tape, t - 1, 0) if t > 0 else a.h.data


cdef char *collect_inputs(const layer *a, part own, int64_t t, int64_t rows) noexcept nogil:
    """This thread's rows of a step's inputs, side by side."""
    cdef int64_t r, row = a.inputs * a.k.itemsize
    cdef char *collected = at(a, a.x_rows, own.member * a.rows.batch)
    for r in range(rows):
        memcpy(collected + r * row, at_source(a, a.x, t, own.r0 + r), row)
    return collected


cdef void claim_places(const layer *a, part own, int64_t t, int64_t rows) noexcept nogil:
    """Fetch the lines of `spread_states`."""
    cdef int64_t r, s, first = own.p0 * a.k.lanes, n = min(own.p1 * a.k.lanes, a.units) - first
    for r in range(own.r0, own.r0 + rows):
        for s in range(a.wide):
            rnnf_claim(at_source(a, a.y, t, r) + (s * a.units + first) * a.k.itemsize, n * a.k.itemsize)


cdef void spread_states(const layer *a, part own, int64_t t, int64_t rows, char *h) noexcept nogil:
    """The states after step t where the caller has that step of each row."""
    cdef int64_t r, s
    for r in range(own.r0, own.r0 + rows):
        for s in range(a.wide):
            copy_units(a, own, at_source(a, a.y, t, r) + s * a.units * a.k.itemsize, state_at(a, h, r, s))


cdef void show_masked(const layer *a, part own) noexcept nogil:
    """What this thread's units and rows show at masked steps, where the caller has these."""
    cdef int64_t r, i, s, shown, column = a.units * a.k.itemsize, step = a.y.step * a.k.itemsize
    cdef char *origin
    for r in range(own.r0, own.r1):
        for i in range(a.rows.order[r] * a.rows.time, (a.rows.order[r] + 1) * a.rows.time):
            shown = a.rows.shown[i]
            if shown < a.rows.count and a.rows.source[shown] == i:
                continue
            for s in range(a.wide):
                if shown < a.rows.count:
                    origin = a.y.data + a.rows.source[shown] * step + s * column
                else:
                    origin = NULL if a.zero_pads or a.state_in[s] == NULL else outside(a, a.state_in[s], r)
                copy_units(a, own, a.y.data + i * step + s * column, origin)


cdef inline char *mask_of(const layer *a, int64_t row, int gate) noexcept nogil:
    return a.masks.data + (gate * a.rows.batch + row) * a.padded * a.k.itemsize


cdef void mask_states(const layer *a, int64_t t, int64_t r0, int64_t r1, char *h) noexcept nogil:
    """The states of rows [r0, r1) times each gate's or state's mask, kept on the tape."""
    cdef int64_t r, row = a.padded * a.k.itemsize
    cdef int g, count = max(a.wide, a.cell.phase[0].product_gates)
    for r in range(r0, r1):
        for g in range(count):
            a.k.multiply(a.masked.data + (r * a.mask_count + g) * row, state_at(a, h, r, g if a.wide > 1 else 0), mask_of(a, r, g), a.units)
        memcpy(at_step(a, a.masked_tape, t, r), a.masked.data + r * a.mask_count * row, a.mask_count * row)


cdef void mask_reset(const layer *a, int64_t t, int64_t r0, int64_t r1) noexcept nogil:
    """r h times the candidate's mask, where the reset comes before the product."""
    cdef int64_t r, row = a.padded * a.k.itemsize
    for r in range(r0, r1):
        a.k.multiply(a.reset.data + r * row, a.reset.data + r * row, mask_of(a, r, a.mask_count - 1), a.units)
        memcpy(at_step(a, a.reset_tape, t, r), a.reset.data + r * row, row)


cdef void prepare_steps(const layer *a, part own, rnnf_step *phases) noexcept nogil:
    """What the steps of this thread have in common, one struct a phase."""
    cdef rnnf_step *s
    cdef int phase, last = a.cell.phases - 1
    cdef int64_t size = a.k.itemsize, first = own.r0 * a.padded * size, row = wide_row(a)
    memset(phases, 0, 2 * sizeof(rnnf_step))
    for phase in range(a.cell.phases):
        s = &phases[phase]
        s.state_row, s.states, s.state_next, s.x_row, s.units, s.act, s.recurrent_act = row, a.wide, a.padded, a.x_gates.stride, a.units, a.act, a.gate
        if a.within:
            s.kernel, s.x_bias, s.inputs = a.kernel.data, a.bias.data if a.bias != NULL else NULL, a.inputs
            s.x_row = a.inputs if spread(a, a.x) else a.x.stride
        s.memory = a.memory.data + first if a.memory != NULL else NULL
        s.bias = a.recurrent_bias.data if a.recurrent_bias != NULL else NULL
        s.vectors, s.vector_count = a.vectors.data if a.vectors != NULL else NULL, a.vector_count
        s.panels, s.tape_panel, s.a_row = a.recurrent[phase].data if a.recurrent[phase] != NULL else NULL, a.tape_panel, row
        if phase < last:
            s.out = a.reset.data + first
        if phase > 0:
            s.a = a.reset.data + first
        elif a.masks != NULL:
            s.a, s.a_row = a.masked.data + own.r0 * a.mask_count * a.padded * size, a.mask_count * a.padded
            s.a_gate = a.padded if a.cell.phase[0].product_gates > 1 else 0
        s.y_row = a.padded if phase < last else a.y.stride if a.y != NULL else a.shown.stride if a.shown != NULL else 0
        s.weights, s.tiles, s.parts = a.recurrent_weights, a.tiles, own.parts
        s.keep_row = keep_row(a)


cdef inline int64_t keep_row(const layer *a) noexcept nogil:
    return a.keep[0].stride if a.keep[0] != NULL else a.keep[1].stride if a.keep[1] != NULL else 0


cdef inline void set_keep(const layer *a, const void **keep, int64_t t, int64_t row) noexcept nogil:
    cdef int s
    for s in range(2):
        if a.keep[s] != NULL:
            keep[s] = at_step(a, a.keep[s], t, row)


cdef inline void claim(const layer *a, part own, int64_t rows, char *states) noexcept nogil:
    """Of rows of states, those that this thread is about to write, from the threads that have read them."""
    cdef int64_t r, row = a.padded * a.k.itemsize, panel = a.k.lanes * a.k.itemsize
    for r in range(rows):
        rnnf_claim(states + r * row + own.p0 * panel, (own.p1 - own.p0) * panel)


cdef inline void run_step(
    const layer *a, rnnf_team *team, part own, rnnf_step *phases, int64_t t, int64_t rows, int64_t place, bint fresh, char *h, char *h_next,
) noexcept nogil:
    """All phases of one step for this thread's rows and panels; `place` is the step's first row in the gate inputs, `fresh` says that the states are zero."""
    cdef rnnf_step *s
    cdef int phase, last = a.cell.phases - 1
    cdef int64_t size = a.k.itemsize, first = own.r0 * wide_row(a) * size
    cdef bint places = spread(a, a.y)
    for phase in range(a.cell.phases):
        s = &phases[phase]
        s.backwards, s.fresh = t & 1, fresh
        s.h = h + first
        if a.within:
            s.x_gates = collect_inputs(a, own, t, rows) if spread(a, a.x) else at_step(a, a.x, t, own.r0)
        else:
            s.x_gates = at(a, a.x_gates, place + own.r0)
        if phase == 0 and a.masks == NULL:
            s.a = s.h
        if a.tape != NULL:
            s.tape = tape_at(a, t, own.r0, 0)
        if phase == last:
            s.out = h_next + first
            s.y = at_step(a, a.y, t, own.r0) if a.y != NULL and not places else NULL
            if places:
                claim_places(a, own, t, rows)
            set_keep(a, s.keep, t, own.r0)
            if a.shown != NULL:
                s.shown = at_step(a, a.shown, t, own.r0) if a.shown_timed else at(a, a.shown, own.r0)
        elif a.reset_tape != NULL:
            s.y = at_step(a, a.reset_tape, t, own.r0)
        if meets(a) and team.size > 1:
            claim(a, own, rows * a.wide, <char *>s.out)
        a.cell.phase[phase].forward(s, rows, own.p0, own.p1)
        if a.masks != NULL and phase < last:
            mask_reset(a, t, own.r0, own.r0 + rows)
        if phase == last and places:
            spread_states(a, own, t, rows, h_next)
        if phase == last and a.rows.cuts:
            restart(a, own, t - 1 if a.reverse else t + 1, h_next)
        if meets(a):
            rnnf_barrier(team, own.member)


cdef bint prepare_run(const layer *a, part own, rnnf_run *k) noexcept nogil:
    """What the runs of a row have in common; whether they make their gate inputs themselves."""
    cdef bint whole = a.kernel_weights == WEIGHTS_SAME and (a.rows.time == 1 or a.inputs <= RUN_INPUTS)
    cdef int64_t way = -1 if a.reverse else 1
    cdef int phase
    memset(k, 0, sizeof(rnnf_run))
    k.inputs, k.units, k.act, k.recurrent_act = a.inputs, a.units, a.act, a.gate
    for phase in range(a.cell.phases):
        k.recurrent[phase] = a.recurrent[phase].data
    k.recurrent_bias = a.recurrent_bias.data if a.recurrent_bias != NULL else NULL
    k.memory, k.weights, k.parts = a.memory.data if a.memory != NULL else NULL, a.recurrent_weights, own.parts
    k.vectors, k.reset = a.vectors.data if a.vectors != NULL else NULL, a.reset.data if a.reset != NULL else NULL
    if whole:
        k.kernel, k.bias, k.x_gates = a.kernel.data, a.bias.data if a.bias != NULL else NULL, a.x_gates.data
        k.x_step = way * (a.x.step if a.x.step else a.x.stride)
    else:
        k.x_step = way * a.x_gates.stride
    k.y_step = 0 if a.y == NULL else way * (a.y.step if a.y.step else a.y.stride)
    if a.tape != NULL:
        k.tape_panel, k.h_step = a.tape_panel, a.h_tape.stride
    return whole


cdef void run_row(layer *a, rnnf_team *team, part own, int64_t begin, int64_t end) noexcept nogil:
    """Steps [begin, end) of a batch of one row, in the order in which they are computed, as far as they exist."""
    cdef rnnf_run k
    cdef bint whole = prepare_run(a, own, &k)
    cdef bint last, meeting = meets(a) and team.size > 1
    cdef int64_t t = begin, chunk_end = begin, first = 0, step, count = a.rows.count, size = a.k.itemsize, state = half(a)
    cdef int turn = a.turn, phase
    end = min(end, count)
    if begin == 0:
        begin_states(a, own)
        if a.tape != NULL:  # the states stay where they are made
            copy_units(a, own, a.h_tape.data, a.h.data)
    if meeting:
        rnnf_barrier(team, own.member)
    while t < end:
        step = count - 1 - t if a.reverse else t
        if whole:
            k.x, k.steps = at_step(a, a.x, step, 0), end - t
        else:
            if t == chunk_end:
                chunk_end = min(t + a.chunk, end)
                first = count - chunk_end if a.reverse else t
                project(a, own, first, first + chunk_end - t)
            k.x, k.steps = a.x_gates.data + (step - first) * a.x_gates.stride * size, chunk_end - t
        if meeting:
            k.steps = 1
        k.y = at_step(a, a.y, step, 0) if a.y != NULL else NULL
        k.fresh = t == 0 and a.state_in[0] == NULL
        k.h[0], k.h[1], k.turn = a.h.data + (t & 1) * state, a.h.data + (~t & 1) * state, turn + <int>(t & 1)
        if a.tape != NULL:
            k.h[0], k.h[1], k.tape = at(a, a.h_tape, t), at(a, a.h_tape, t + 1), tape_at(a, t, 0, 0)
            k.reset = at(a, a.reset_tape, t) if a.reset_tape != NULL else NULL
        for phase in range(a.cell.phases if meeting else 1):  # threads that share units meet after each
            k.first_phase, k.end_phase = phase, phase + 1 if meeting else a.cell.phases
            if meeting:
                last = phase == a.cell.phases - 1
                rnnf_fetch(k.reset if phase else k.h[0], a.padded * size)
                claim(a, own, 1, <char *>(k.h[1] if last else k.reset))
                if last and k.y != NULL:
                    claim(a, own, 1, <char *>k.y)
            a.cell.run(&k, own.p0, own.p1)
            if meeting:
                rnnf_barrier(team, own.member)
        t += k.steps
    if begin < count == end:
        a.turn = (turn + count) & 1
        end_rows(a, own, 0, 1, a.h.data + (count & 1) * state if a.tape == NULL else at(a, a.h_tape, count))


cdef void forward_steps(layer *all_rows, rnnf_team *team, int member, int64_t begin, int64_t end) noexcept nogil:
    """Steps [begin, end) in the order in which they are computed; those before have been."""
    # four unit panels of a one-gate product are one panel of its kernel
    cdef part own = part_of(all_rows, team, member, 4 if all_rows.cell.gates == 1 or all_rows.cell.phase[all_rows.cell.phases - 1].product_gates == 1 else 1)
    cdef int64_t chunk0, i, t, steps, rows, first, time = all_rows.rows.time, state = half(all_rows)
    cdef char *h
    cdef char *h_next
    cdef rnnf_step phases[2]
    cdef layer own_rows
    cdef layer *a = all_rows
    cdef operand states[3]
    cdef bint stay = a.h_tape != NULL and a.rows.dense and begin < end  # states, where they are made: on the tape
    if team.size > 1:
        own_rows = all_rows[0]
        a = &own_rows
        move_apart(a, member, &a.memory, &states[0])
        if a.split == SPLIT_ROWS:
            move_apart(a, member, &a.h, &states[1])
            move_apart(a, member, &a.reset, &states[2])
    if a.runs and a.rows.batch == 1 and not a.rows.cuts:
        if own.r0 < own.r1:
            run_row(a, team, own, begin, end)
            if member == 0 or a.split != SPLIT_UNITS:
                all_rows.turn = a.turn
        return
    h, h_next = a.h.data + (begin & 1) * state, a.h.data + (~begin & 1) * state
    prepare_steps(a, own, phases)
    if begin == 0:
        begin_states(a, own)
        if a.rows.cuts and not a.reverse:
            restart(a, own, 0, h)
    if stay:
        t = time - 1 - begin if a.reverse else begin
        keep_states(a, own, t, own.r1, h)
        h = at_step(a, a.h_tape, t, 0)
    if a.split == SPLIT_UNITS:
        rnnf_barrier(team, own.member)
    elif own.r0 >= own.r1:
        return
    chunk0 = begin
    while chunk0 < end:
        steps = min(a.chunk, end - chunk0)
        first = time - chunk0 - steps if a.reverse else chunk0
        if not a.within:
            project(a, own, first, first + steps)
        for i in range(steps):
            t = first + (steps - 1 - i if a.reverse else i)
            rows = min(own.r1, a.rows.active[t]) - own.r0
            if stay:
                h_next = tape_after(a, t)
            elif a.h_tape != NULL:
                keep_states(a, own, t, own.r0 + rows, h)
            if a.masks != NULL:
                mask_states(a, t, own.r0, own.r0 + rows, h)
            if rows > 0:
                run_step(a, team, own, phases, t, rows, gates_place(a, own, first, t), chunk0 + i == 0 and a.state_in[0] == NULL, h, h_next)
            h, h_next = h_next, h
            if a.reverse:
                if t == 0:
                    end_rows(a, own, 0, a.rows.active[0], h)
            elif a.rows.active[t + 1] < a.rows.active[t]:
                end_rows(a, own, a.rows.active[t + 1], a.rows.active[t], h)
        chunk0 += steps
    if end == time and spread(a, a.y):
        show_masked(a, own)


cdef void forward_work(void *args, rnnf_team *team, int member) noexcept nogil:
    tiled_steps(<layer *>args, team, member, 0, (<layer *>args).rows.time)


cdef void steps_alone(void *args, int64_t begin, int64_t end) noexcept nogil:
    cdef rnnf_team alone[1]
    alone[0].size = 1
    tiled_steps(<layer *>args, alone, 0, begin, end)


cdef void tiled_steps(layer *a, rnnf_team *team, int member, int64_t begin, int64_t end) noexcept nogil:
    """forward_steps, within which the thread has tiles if its products need them."""
    if a.tiles != NULL:
        a.tiles.enter()
    forward_steps(a, team, member, begin, end)
    if a.tiles != NULL:
        a.tiles.leave()


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


cdef operand *view(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef class RecurrentLayer(Op):
    """One direction of a recurrent layer.

    Parameters
    ----------
    dtype : str
    cell : str
        A name of csrc/cells/cells.def.
    rows : Rows
    buffers : dict of str to Buffer
        By the names of the fields of `layer`; what is missing is not computed.
    sizes : dict of str to int
        inputs, units, chunk, within, tape_panel, reverse, act, gate, split, scratch_size, recurrent_bias_rows, turned, states, wide, shown_timed,
        vector_count, kernel_weights, recurrent_weights.
    order : pair of sequences of int
        Gate of the engine -> Keras' gate, of the kernel and of the recurrent kernel's first phase.
    backward : bool
    slots : Rows, optional
        Whose order says which row of the states each row goes on from and leaves.
    """

    def __init__(self, str dtype, str cell, Rows rows, dict buffers, dict sizes, order, bint backward, Rows slots=None):
        cdef layer *a = <layer *>calloc(1, sizeof(layer))
        cdef int i, j
        if a == NULL:
            raise MemoryError()
        self.args = a
        self.record = (rows, buffers, slots)
        a.slots = &slots.map if slots is not None else NULL
        self.work = backward_work if backward else forward_work
        if not backward and not sizes["reverse"]:
            self.steps = steps_alone
        a.k = kernels_of(dtype)
        for i in range(CELL_COUNT):
            if a.k.cell[i].name.decode() == cell:
                a.cell = &a.k.cell[i]
        a.rows = &rows.map
        a.inputs, a.units, a.chunk, a.tape_panel = sizes["inputs"], sizes["units"], sizes["chunk"], sizes.get("tape_panel", 0)
        a.gap, a.gaps = sizes["gap"], sizes["gaps"]
        a.panels = (a.units + a.k.lanes - 1) // a.k.lanes
        a.padded = a.panels * a.k.lanes
        a.reverse, a.act, a.gate, a.split, a.within = sizes["reverse"], sizes["act"], sizes["gate"], sizes["split"], sizes["within"]
        a.scratch_size, a.recurrent_bias_rows, a.turned = sizes.get("scratch_size", 0), sizes.get("recurrent_bias_rows", 0), sizes["turned"]
        for i in range(2):
            for j in range(len(order[i])):
                a.order[i][j] = order[i][j]
        a.zero_pads, a.mask_count = sizes["zero_pads"], sizes.get("mask_count", 0)
        a.states, a.wide, a.shown_timed, a.vector_count = sizes["states"], sizes["wide"], sizes["shown_timed"], sizes["vector_count"]
        a.kernel_weights, a.recurrent_weights = sizes["kernel_weights"], sizes["recurrent_weights"]
        self._take(a, buffers)
        a.tiles = tiles_of() if max(a.kernel_weights, a.recurrent_weights) >= WEIGHTS_SPLIT1 else NULL
        stored = a.tiles == NULL and a.cell.gates > 1 and a.cell.phases == 1  # whether a run would read stored weights
        a.runs = (a.cell.run != NULL and (a.recurrent_weights == WEIGHTS_SAME or stored) and not (a.reverse and a.tape != NULL)
                  and a.masks == NULL and a.shown == NULL and a.keep[0] == NULL and a.keep[1] == NULL)

    cdef _take(self, layer *a, dict buffers):
        cdef int s
        a.x, a.y, a.last, a.x_rows = view(buffers, "x"), view(buffers, "y"), view(buffers, "last"), view(buffers, "x_rows")
        a.kernel, a.bias, a.recurrent_bias = view(buffers, "kernel"), view(buffers, "bias"), view(buffers, "recurrent_bias")
        a.x_gates, a.h, a.memory, a.reset = view(buffers, "x_gates"), view(buffers, "h"), view(buffers, "memory"), view(buffers, "reset")
        a.tape, a.h_tape, a.reset_tape = view(buffers, "tape"), view(buffers, "h_tape"), view(buffers, "reset_tape")
        a.dy, a.dlast, a.dx, a.kernel_t = view(buffers, "dy"), view(buffers, "dlast"), view(buffers, "dx"), view(buffers, "kernel_t")
        a.dkernel, a.drecurrent, a.dbias = view(buffers, "dkernel"), view(buffers, "drecurrent"), view(buffers, "dbias")
        a.dh = view(buffers, "dh")
        a.carry, a.scratch, a.product, a.parts = view(buffers, "carry"), view(buffers, "scratch"), view(buffers, "product"), view(buffers, "parts")
        a.vectors, a.dvectors, a.shown, a.dshown = view(buffers, "vectors"), view(buffers, "dvectors"), view(buffers, "shown"), view(buffers, "dshown")
        a.masks, a.masked, a.masked_tape = view(buffers, "masks"), view(buffers, "masked"), view(buffers, "masked_tape")
        for s in range(4):
            a.gate_recurrent_t[s] = view(buffers, f"gate_recurrent_t{s}")
        for s in range(STATES_MOST):
            a.state_recurrent_t[s] = view(buffers, f"state_recurrent_t{s}")
            a.state_in[s], a.state_out[s] = view(buffers, f"state_in{s}"), view(buffers, f"state_out{s}")
            a.dstate_in[s], a.dstate_out[s] = view(buffers, f"dstate_in{s}"), view(buffers, f"dstate_out{s}")
        for s in range(2):
            a.keep[s] = view(buffers, f"keep{s}")
            a.recurrent[s], a.recurrent_t[s] = view(buffers, f"recurrent{s}"), view(buffers, f"recurrent_t{s}")

    @property
    def split(self):
        """What threads share: SPLIT_NONE, SPLIT_ROWS or SPLIT_UNITS."""
        return (<layer *>self.args).split

    @split.setter
    def split(self, int value):
        (<layer *>self.args).split = value

    def __dealloc__(self):
        free(self.args)


def cell_facts(str dtype, str cell):
    """gates, slots, states, (product_gates, slot) of each phase and the number of weights of each unit."""
    cdef const rnnf_kernels *k = kernels_of(dtype)
    cdef int i, p
    for i in range(CELL_COUNT):
        if k.cell[i].name.decode() == cell:
            phases = [(k.cell[i].phase[p].product_gates, k.cell[i].phase[p].slot) for p in range(k.cell[i].phases)]
            return k.cell[i].gates, k.cell[i].slots, k.cell[i].states, phases, k.cell[i].vectors
    raise KeyError(cell)
