from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from rnnfast._engine.buffers cimport operand, rows_map, share, share_rows
from rnnfast._engine.kernels cimport rnnf_cell, rnnf_kernels, rnnf_team, rnnf_tiles

cdef enum:
    SPLIT_NONE = 0
    SPLIT_ROWS = 1
    SPLIT_UNITS = 2
    STATES_MOST = 8

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

cdef inline char *tape_at(const layer *a, int64_t t, int64_t row, int64_t slot) noexcept nogil:
    return a.tape.data + ((a.rows.offset[t] + row) * a.cell.slots + slot) * a.k.lanes * a.k.itemsize

cdef inline int64_t wide_row(const layer *a) noexcept nogil:
    """Elements of a row of h."""
    return a.wide * a.padded

cdef inline bint meets(const layer *a) noexcept nogil:
    """Whether a step's products read what other threads have written."""
    return a.split == SPLIT_UNITS and a.cell.phase[0].product_gates > 0

cdef inline void move_apart(const layer *a, int member, operand **states, operand *own) noexcept nogil:
    """Let `states`, if there are any, be this thread's, apart from others', since a core also fetches lines behind those that it reads. Of several rows whose units are shared
    the threads' parts are interleaved and stay so."""
    if states[0] != NULL and (a.split == SPLIT_ROWS or (a.split == SPLIT_UNITS and a.rows.batch == 1)):
        own[0] = states[0][0]
        own.data += member * a.gap * a.k.itemsize
        states[0] = own

cdef inline part part_of(const layer *a, rnnf_team *team, int member, int64_t grain) noexcept nogil:
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

cdef inline void copy_units(const layer *a, part own, char *target, const char *source) noexcept nogil:
    """This thread's units of one row, where they are not there already; a NULL source means zeros."""
    cdef int64_t first = own.p0 * a.k.lanes, n = min(own.p1 * a.k.lanes, a.units) - first, size = a.k.itemsize
    if n > 0 and source == NULL:
        memset(target + first * size, 0, n * size)
    elif n > 0 and source != target:
        memcpy(target + first * size, source + first * size, n * size)

cdef inline char *mask_of(const layer *a, int64_t row, int gate) noexcept nogil:
    return a.masks.data + (gate * a.rows.batch + row) * a.padded * a.k.itemsize

cdef inline int64_t keep_row(const layer *a) noexcept nogil:
    return a.keep[0].stride if a.keep[0] != NULL else a.keep[1].stride if a.keep[1] != NULL else 0

cdef inline void set_keep(const layer *a, const void **keep, int64_t t, int64_t row) noexcept nogil:
    cdef int s
    for s in range(2):
        if a.keep[s] != NULL:
            keep[s] = at_step(a, a.keep[s], t, row)
