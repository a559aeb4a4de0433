# The C of csrc/, as Cython sees it. Every struct and its fields are described in csrc/rnnf.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "rnnf.h" nogil:
    enum:
        ACT_linear
        ACT_tanh
        ACT_sigmoid
        ACT_COUNT
        ACT_FIRST_KEEPING_INPUT
        CELL_COUNT
        OUTER_RUNS
        ROW_softmax
        WEIGHTS_SAME
        WEIGHTS_SPLIT1
        SPLIT_ROWS

    ctypedef struct rnnf_split_rows:
        pass

    ctypedef struct rnnf_split_product:
        pass

    ctypedef struct rnnf_tiles:
        const char *name
        int (*request)() noexcept nogil
        void (*enter)() noexcept nogil
        void (*leave)() noexcept nogil
        void (*pack)(void *panels, const float *w, int64_t w_row, const int64_t *shape, const int *order, int lanes, int count) noexcept nogil
        void (*rows)(const rnnf_split_rows *) noexcept nogil
        void (*product)(const rnnf_split_product *) noexcept nogil

    ctypedef struct rnnf_matmul:
        const void *a
        int64_t a_row, blocks, block, block_stride
        const void *panels
        const void *bias
        void *c
        int64_t c_row, cols, nv
        int accumulate, act, weights
        const rnnf_tiles *tiles
        void *parts

    ctypedef struct rnnf_outer:
        const void *a
        int64_t a_row, k
        const void *b
        int64_t b_row, b_panel, nv
        void *c
        int64_t c_row, c_panel, c_vector, cols
        int order[4]
        int accumulate, gated
        void *scratch
        void *sums
        const rnnf_outer *next

    ctypedef struct rnnf_step:
        const void *a
        int64_t a_row, a_gate
        const void *h
        void *out
        void *memory
        int64_t state_row, states, state_next
        const void *panels
        const void *bias
        const void *keep[2]
        int64_t keep_row
        const void *vectors
        int64_t vector_count
        const void *x_gates
        int64_t x_row, inputs
        const void *kernel
        const void *x_bias
        void *y
        void *shown
        int64_t y_row, units
        void *tape
        int64_t tape_panel
        int act, recurrent_act, backwards, fresh, weights
        const rnnf_tiles *tiles
        void *parts

    ctypedef struct rnnf_run:
        const void *x
        int64_t x_step, inputs, units, steps
        const void *kernel
        const void *bias
        void *x_gates
        const void *recurrent[2]
        const void *recurrent_bias
        const void *vectors
        void *h[2]
        void *memory
        void *reset
        int first_phase, end_phase
        void *y
        int64_t y_step
        int act, recurrent_act, fresh, turn, weights
        void *parts
        void *tape
        int64_t tape_panel, h_step

    ctypedef struct rnnf_step_back:
        const void *dg_next
        const void *panels
        const void *dy
        const void *dshown
        int64_t dy_row, dshown_row
        const void *vectors
        int64_t vector_count, states, state_next
        void *carry
        int64_t carry_row, carry_state
        void *tape
        int64_t tape_panel, units
        const void *h
        int64_t h_row
        const void *product_mask
        const void *keep[2]
        int64_t keep_row
        int act, recurrent_act, backwards

    ctypedef struct rnnf_phase:
        int product_gates, slot
        void (*forward)(const rnnf_step *, int64_t rows, int64_t p0, int64_t p1) noexcept nogil
        void (*backward)(const rnnf_step_back *, int64_t rows, int64_t p0, int64_t p1) noexcept nogil

    ctypedef struct rnnf_cell:
        const char *name
        int gates, slots, states, phases, vectors, vector_slot
        rnnf_phase phase[2]
        void (*run)(const rnnf_run *, int64_t p0, int64_t p1) noexcept nogil

    ctypedef struct rnnf_cell_row:
        int64_t units
        int act, recurrent_act
        const void *gates[2]
        void *dgates[2]
        const void *state[2]
        void *mid
        void *out[2]
        void *saved
        void *d[2]

    ctypedef struct rnnf_row_cell:
        const char *name
        int gates, slots, late, states, first
        void (*row_gates)(const rnnf_cell_row *) noexcept nogil
        void (*row_output)(const rnnf_cell_row *) noexcept nogil
        void (*row_backward)(const rnnf_cell_row *) noexcept nogil
        void (*row_output_backward)(const rnnf_cell_row *) noexcept nogil

    ctypedef struct rnnf_loss:
        int kind, from_logits
        double parameter[3]
        const void *p
        const void *target
        void *dp
        int64_t cols, target_cols
        const int64_t *place
        const double *weight

    ctypedef struct rnnf_update:
        int kind
        const double *scalars
        void *w
        const void *g
        void *slot[3]
        double clip

    ctypedef struct rnnf_additive:
        const void *x
        const void *other
        const void *v
        void *s
        void *dx
        void *dv
        int64_t other_row, s_step, count, n

    ctypedef struct rnnf_kernels:
        const char *isa
        const char *dtype
        int lanes, itemsize
        rnnf_cell *cell
        rnnf_row_cell *row_cell
        void (*matmul)(const rnnf_matmul *, int64_t r0, int64_t r1, int64_t p0, int64_t p1) noexcept nogil
        void (*outer)(const rnnf_outer *, int64_t rows, int64_t p0, int64_t p1) noexcept nogil
        void (*column_sum)(const rnnf_outer *, int64_t rows, int64_t p0, int64_t p1) noexcept nogil
        void (*pack)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order) noexcept nogil
        void (*pack_transposed)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order) noexcept nogil
        void (*pack_stored)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order, int weights) noexcept nogil
        void (*activate)(int act, const void *x, void *y, int64_t n) noexcept nogil
        void (*derivative)(int act, const void *kept, const void *dy, void *dx, int64_t n) noexcept nogil
        void (*row_activate)(int act, const void *x, void *y, int64_t rows, int64_t cols) noexcept nogil
        void (*row_derivative)(int act, const void *y, const void *dy, void *dx, int64_t rows, int64_t cols) noexcept nogil
        double (*loss)(const rnnf_loss *, int64_t r0, int64_t r1) noexcept nogil
        void (*update)(const rnnf_update *, int64_t i0, int64_t i1) noexcept nogil
        double (*sum_squares)(const void *x, int64_t n) noexcept nogil
        double (*penalize)(const void *w, void *g, double l1, double l2, int64_t n) noexcept nogil
        void (*add)(void *y, const void *x, int64_t n) noexcept nogil
        void (*multiply)(void *y, const void *x, const void *m, int64_t n) noexcept nogil
        void (*scale)(void *y, const void *x, double factor, int64_t n) noexcept nogil
        void (*maximum)(void *y, const void *x, int64_t n) noexcept nogil
        void (*count_equal)(void *count, const void *x, const void *y, int64_t n) noexcept nogil
        void (*share_equal)(void *dx, const void *x, const void *y, const void *dy, const void *count, int64_t n) noexcept nogil
        void (*dropout)(void *y, const void *x, double rate, uint64_t seed, uint64_t index, int64_t n) noexcept nogil
        void (*keep)(void *y, double rate, uint64_t seed, uint64_t index, int64_t n) noexcept nogil
        void (*normalize)(void *y, const void *x, const void *gamma, const void *beta, double eps, double *kept, int64_t n) noexcept nogil
        void (*normalize_back)(void *dx, const void *x, const void *dy, const void *gamma, const double *kept, int64_t n) noexcept nogil
        void (*normalize_sums)(void *dgamma, void *dbeta, const void *x, const void *dy, const double *kept, const int64_t *shape) noexcept nogil
        void (*column_moments)(const void *x, int64_t rows, int64_t n, double *kept, int64_t c0, int64_t c1) noexcept nogil
        void (*standardize)(void *y, const void *x, int64_t rows, int64_t n, const double *kept, const void *gamma, const void *beta) noexcept nogil
        void (*column_products)(const void *x, const void *dy, int64_t rows, int64_t n, double *kept, int64_t c0, int64_t c1) noexcept nogil
        void (*standardize_back)(void *dx, const void *x, const void *dy, int64_t rows, int64_t n, const double *kept, const void *gamma, double count) noexcept nogil
        void (*widen)(double *y, const void *x, int64_t n) noexcept nogil
        void (*narrow)(void *y, const double *x, double factor, int64_t n) noexcept nogil
        double (*log_sum_exp)(const void *x, int64_t n) noexcept nogil
        void (*exp_below)(void *y, const void *x, double shift, int64_t n) noexcept nogil
        void (*ctc_step)(void *next, const void *prev, const void *emit, const void *skip, int64_t n) noexcept nogil
        double (*dot)(const void *x, const void *y, int64_t n) noexcept nogil
        double (*read_only)(const void *x, int64_t n, int64_t times) noexcept nogil
        double (*multiply_adds)(int64_t n, int64_t *operations) noexcept nogil
        void (*additive)(const rnnf_additive *) noexcept nogil
        void (*additive_back)(const rnnf_additive *) noexcept nogil

    ctypedef struct rnnf_tables:
        const char *isa
        const rnnf_kernels *f32
        const rnnf_kernels *f64

    const rnnf_tables rnnf_available[]
    const rnnf_tiles *rnnf_tiles_available[]
    int rnnf_cpu_supports(const char *isa)


cdef extern from "team.h" nogil:
    enum:
        RNNF_APART
    ctypedef struct rnnf_team:
        int size, failed, stop
        int64_t *met
        int64_t begun
    void rnnf_barrier(const rnnf_team *team, int member)
    void rnnf_fetch(const void *bytes, int64_t count)
    void rnnf_claim(const void *bytes, int64_t count)
    void rnnf_reach(int64_t *count, int64_t value)
    void rnnf_await(const int64_t *count, int64_t value)


cdef extern from "place.h" nogil:
    ctypedef struct rnnf_place:
        pass
    rnnf_place *rnnf_call_from_here()
    void rnnf_arrive(rnnf_place *place, int member, int size)


cdef extern from "float_mode.h" nogil:
    uint32_t rnnf_float_mode_enter()
    void rnnf_float_mode_leave(uint32_t mode)
