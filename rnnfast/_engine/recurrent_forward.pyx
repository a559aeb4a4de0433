"""Recurrent layers, forward: a chunk of steps at a time so that the chunk's gate inputs stay in cache: x_gates = x . W + b for all its steps, then
step by step the cell; or, with enough rows, both `within` each step.
"""
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport operand
from rnnfast._engine.kernels cimport (
    ACT_linear, rnnf_barrier, rnnf_claim, rnnf_fetch, rnnf_matmul, rnnf_run, rnnf_step, rnnf_team, WEIGHTS_SAME,
)
from rnnfast._engine.recurrent cimport (
    at, at_step, copy_units, keep_row, layer, mask_of, meets, move_apart, part, part_of, set_keep, SPLIT_ROWS, SPLIT_UNITS, tape_at, wide_row,
)

cdef enum:
    RUN_INPUTS = 4  # up to so many, x . W + b costs a run of steps less than reading it would


cdef inline bint spread(const layer *a, const operand *o) noexcept nogil:
    """Whether an operand is a caller's array in which the rows of a step do not lie at one distance from each other."""
    return o != NULL and o.step != 0 and not a.rows.dense


cdef inline char *at_source(const layer *a, const operand *o, int64_t t, int64_t row) noexcept nogil:
    """Address of a step's row in a caller's array, whichever steps exist."""
    return o.data + a.rows.source[a.rows.offset[t] + row] * o.step * a.k.itemsize


cdef inline int64_t half(const layer *a) noexcept nogil:
    """Bytes of one half of h."""
    return (a.rows.batch * wide_row(a) + a.gaps) * a.k.itemsize


cdef inline char *state_at(const layer *a, char *h, int64_t row, int64_t state) noexcept nogil:
    """Address of a row of a state, where h is the current half of the states that enter the product."""
    if state < a.wide:
        return h + (row * a.wide + state) * a.padded * a.k.itemsize
    return a.memory.data + row * a.padded * a.k.itemsize


cdef inline char *outside(const layer *a, const operand *state, int64_t row) noexcept nogil:
    """Address of a row's state outside, given or handed out."""
    return at(a, state, a.slots.order[row] if a.slots != NULL else row)


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


cdef void restart(const layer *a, part own, int64_t t, char *h) noexcept nogil:
    """Zero the states of this thread's rows and units that a new episode starts from at step t."""
    cdef int64_t r, s, border = t + 1 if a.reverse else t  # the later of the two steps that it parts
    if t < 0 or border >= a.rows.time:
        return
    for r in range(own.r0, min(own.r1, a.rows.active[border])):
        if a.rows.cut[a.rows.offset[border] + r]:
            for s in range(a.states):
                copy_units(a, own, state_at(a, h, r, s), NULL)


cdef bint stands_alike(const layer *a, part own, const operand *state) noexcept nogil:
    """Whether this thread's rows of a state stand outside as they do within, so that a single step need not copy them."""
    cdef int64_t r
    if state == NULL or own.r0 >= own.r1 or a.wide > 1 or a.units != a.padded or state.stride != a.padded:
        return False
    if a.slots != NULL:
        for r in range(own.r0 + 1, own.r1):
            if a.slots.order[r] != a.slots.order[r - 1] + 1:
                return False
    return True


cdef inline char *first_row(const layer *a, part own, const operand *state) noexcept nogil:
    """Of a state whose rows stand outside as within, where the batch's first one would."""
    return outside(a, state, own.r0) - own.r0 * a.padded * a.k.itemsize


cdef void begin_states(const layer *a, part own, char *h) noexcept nogil:
    """Initial states of this thread's rows and units; results of rows that have no step."""
    cdef int64_t r, s, column = a.units * a.k.itemsize
    cdef char *given
    for r in range(own.r0, own.r1):
        for s in range(a.states):
            given = outside(a, a.state_in[s], r) if a.state_in[s] != NULL else NULL
            copy_units(a, own, state_at(a, h, r, s), given)
            if s < a.wide and a.reverse and not a.rows.dense and a.rows.time > 1:  # a row's first step may be any of the batch's
                copy_units(a, own, state_at(a, h + half(a), r, s), given)
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
        begin_states(a, own, a.h.data if a.tape == NULL else a.h_tape.data)
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
    cdef operand states[4]
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
    if stay:
        h = at_step(a, a.h_tape, time - 1 - begin if a.reverse else begin, 0)
    elif time == 1 and not a.rows.cuts and stands_alike(a, own, a.state_in[0]):
        h = first_row(a, own, a.state_in[0])
    if time == 1 and a.memory != NULL and stands_alike(a, own, a.state_out[1]):
        own_rows = a[0]
        a = &own_rows
        states[3].data = first_row(a, own, a.state_out[1])
        a.memory = &states[3]
    prepare_steps(a, own, phases)
    if begin == 0:
        begin_states(a, own, h)
        if a.rows.cuts and not a.reverse:
            restart(a, own, 0, h)
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
