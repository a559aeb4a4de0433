from libc.stdint cimport int64_t, uint64_t
from rnnfast._engine.kernels cimport rnnf_kernels, rnnf_team

# Rows of a sequence batch. Rows are sorted by falling length, so at step t rows [0, active[t]) exist; row r of step t is packed row
# offset[t] + r. After the `count` real rows, `pads` rows (0 or batch) hold what a masked step shows that no valid step precedes.
ctypedef struct rows_map:
    int64_t batch, time, count, pads
    int64_t *active   # [time + 1], the last is 0
    int64_t *offset   # [time + 1]
    int64_t *order    # [batch]: sorted row -> row of the caller
    int64_t *source   # [count]: packed row -> caller's row * time + step
    int64_t *shown    # [batch * time]: caller's row * time + step -> packed row shown there
    int64_t *cut      # [count]: whether the state starts from zero before this step
    int dense         # every row has every step, in the caller's order
    int cuts          # whether any state does

# An operand: packed rows (step == 0) at data + row * stride, or the caller's array at data + t * step + r * stride. In elements.
ctypedef struct operand:
    char *data
    int64_t stride, step

# Work of one op on one thread of the team.
ctypedef void (*op_work)(void *op, rnnf_team *team, int member) noexcept nogil

# Of an op that goes through time, its steps [begin, end) in the order in which it computes them, on one thread; those before have been computed.
ctypedef void (*op_steps)(void *op, int64_t begin, int64_t end) noexcept nogil

cdef class Rows:
    cdef rows_map map
    cdef readonly int64_t capacity
    cdef int64_t steps_made  # the greatest time
    cdef public bint masked  # whether a call says which steps exist; otherwise all do
    cdef public bint hold    # a masked step shows the step before it, not the pad
    cdef Rows source_of      # the map that this one follows
    cdef int64_t[::1] tables
    cdef void lay(self, const unsigned char *valid, const int64_t *lengths) noexcept nogil
    cdef void resize(self, int64_t batch) noexcept
    cdef void set_slots(self, const int64_t *slots, int64_t batch) noexcept

cdef class Version:
    cdef public int64_t now, packed

cdef class Buffer:
    cdef operand view
    cdef readonly int64_t size
    cdef readonly str name
    cdef public int64_t offset
    cdef public object owner
    cdef object held  # the array at which it points for good

cdef class Op:
    cdef op_work work
    cdef op_steps steps
    cdef void *args
    cdef readonly object record

cdef inline void share(int64_t n, rnnf_team *team, int member, int64_t grain, int64_t *begin, int64_t *end) noexcept nogil:
    """[begin, end): the member's part of n, cut at multiples of grain."""
    cdef int64_t parts = (n + grain - 1) // grain
    begin[0] = parts * member // team.size * grain
    end[0] = min(n, parts * (member + 1) // team.size * grain)

cdef inline int64_t length_of(const rows_map *rows, int64_t r) noexcept nogil:
    """Steps of sorted row r."""
    cdef int64_t low = 0, high = rows.time, middle
    if rows.dense:
        return rows.time
    while low < high:  # active[low - 1] > r >= active[high]
        middle = (low + high) // 2
        if rows.active[middle] > r:
            low = middle + 1
        else:
            high = middle
    return low

cdef inline void share_rows(const rows_map *rows, rnnf_team *team, int member, int64_t *r0, int64_t *r1) noexcept nogil:
    """[r0, r1): the member's rows, so that each thread has about as many valid steps: a row is on the side of a border where most of it is."""
    cdef int64_t t = rows.time, r, steps = 0, begin = rows.count * member // team.size, end = rows.count * (member + 1) // team.size
    if rows.dense:
        share(rows.batch, team, member, 1, r0, r1)
        return
    r0[0] = r1[0] = -1
    for r in range(rows.batch):
        while t > 0 and rows.active[t - 1] <= r:
            t -= 1
        if r0[0] < 0 and 2 * steps + t >= 2 * begin:
            r0[0] = r
        if r1[0] < 0 and 2 * steps + t >= 2 * end and member < team.size - 1:
            r1[0] = r
        steps += t
    if r0[0] < 0:
        r0[0] = rows.batch
    if r1[0] < 0:
        r1[0] = rows.batch
