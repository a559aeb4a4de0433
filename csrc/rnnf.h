/* Public C of the kernels: argument structs and the table of one (element type, ISA). No Python, no threads, no allocation.
 *
 * Letters: B batch, T time, I inputs, H units, G gates, V lanes of a vector, K depth of a product; the rightmost dimension is contiguous.
 * Every stride counts elements, not bytes. void pointers are to the table's element type. */
#ifndef RNNF_H
#define RNNF_H
#include <stddef.h>
#include <stdint.h>

enum {
#define ACTIVATION(name, keeps) ACT_##name,
#include "activations.def"
#undef ACTIVATION
    ACT_COUNT,
    ACT_FIRST_KEEPING_INPUT = ACT_silu
};

/* What a product's panels hold; all but the first are of float alone. BFLOAT16 and INT8: weights stored so (kernels/stored.h); DOT4: as INT8, in
 * fours for vdot4. SPLITn: each weight as the sum of n bfloat16 parts, in tiles (split.h). */
enum rnnf_weights { WEIGHTS_SAME, WEIGHTS_BFLOAT16, WEIGHTS_INT8, WEIGHTS_DOT4, WEIGHTS_SPLIT1, WEIGHTS_SPLIT2, WEIGHTS_SPLIT3 };

/* Rows of A, given as in rnnf_matmul, become `count` parts; `to` has room for SPLIT_ROWS rows, their depth a multiple of 32. */
typedef struct {
    void *to;
    const float *a;
    int64_t a_row, blocks, block, block_stride, rows;
    int count;
} rnnf_split_rows;

/* c[rows, columns] = init + A . P, P the panel `index` of those of `full` columns (the last one may have fewer), A in parts. c has room for SPLIT_ROWS rows. */
typedef struct {
    const void *parts, *panels;
    int64_t index, full, depth;
    const float *init; /* one a column, readable up to a multiple of 16; NULL for zeros */
    float *c;
    int64_t c_row, rows, columns;
    int count;
} rnnf_split_product;

#define SPLIT_ROWS 64 /* at once, at most */

typedef struct {
    const char *name;
    int (*request)(void);                /* before all others, once a process: whether the system gives tiles */
    void (*enter)(void), (*leave)(void); /* a thread's first and last call around products */
    void (*pack)(void *panels, const float *w, int64_t w_row, const int64_t *shape, const int *order, int lanes, int count);
    void (*rows)(const rnnf_split_rows *);
    void (*product)(const rnnf_split_product *);
} rnnf_tiles;

/* C[rows, cols] = (C if accumulate) + bias + A . P, then an activation. A row of A is `blocks` runs of `block` values, `block_stride` apart: a plain matrix has
 * one block. P holds panels [ceil(cols / nv V)][K][nv][V], the last one with as many vectors as it needs; bias is [cols padded to V]. */
typedef struct {
    const void *a;
    int64_t a_row, blocks, block, block_stride;
    const void *panels, *bias;
    void *c;
    int64_t c_row, cols, nv;
    int accumulate, act;
    int weights;             /* enum rnnf_weights, of the panels */
    const rnnf_tiles *tiles; /* of SPLITn */
    void *parts;             /* of SPLITn room for the parts of SPLIT_ROWS rows, of INT8 and DOT4 for ROWS_RUN rows of integers */
} rnnf_matmul;

enum { OUTER_RUNS = 8 };
/* C[k, column(p, v)] = (C if accumulate) + sum over rows of A[row, k] B[row, p, v, :], column(p, v) = p c_panel + order[v] c_vector, lanes beyond `lanes_end`
 * (counted from the panel's or vector's start as the stride says) are not written. scratch holds 128 (K + 8) values. Where A is NULL
 * it counts as ones and K as 1. With room for the sums of four vectors of all k, aligned to vectors, and scratch for OUTER_RUNS times 128 rows (or all, rounded
 * up to 128), C is met once in so many rows. `next`: another sum over the same rows and panels, with scratch and sums of its own. */
typedef struct rnnf_outer {
    const void *a;
    int64_t a_row, k;
    const void *b;
    int64_t b_row, b_panel, nv;
    void *c;
    int64_t c_row, c_panel, c_vector, cols;
    int order[4];
    int accumulate, gated;
    void *scratch, *sums;
    const struct rnnf_outer *next;
} rnnf_outer;

/* One step of a cell for rows of a batch: gates = x_gates + (a . R + c), then the cell's forward. Unit panels [p0, p1) of V units. Where kernel is given,
 * x_gates is computed within: x . W + b. */
typedef struct {
    const void *a; /* [rows, H] operand of the recurrent product; gate v has its own at a + v a_gate */
    int64_t a_row, a_gate;
    const void *h; /* [rows, H] previous state */
    void *out;     /* [rows, H padded] new state; not a, not h */
    void *memory;  /* [rows, H padded] second state, in place: c of the LSTM; NULL if none */
    int64_t state_row;
    int64_t states, state_next; /* of cells of many states: how many lie side by side in a row of a, h and out, and from one to the next */
    const void *panels, *bias;  /* recurrent kernel and bias; bias may be NULL */
    const void *vectors;        /* weights of each unit, [panel][vector_count][V] */
    int64_t vector_count;
    const void *keep[2]; /* zoneout: [rows, H padded] factors of the new states, the rest is taken from the old ones; may be NULL */
    int64_t keep_row;
    const void *x_gates; /* [rows][panel][G][V], or x: [rows, inputs] */
    int64_t x_row, inputs;
    const void *kernel, *x_bias; /* panels of W, for cells whose product has all gates, and bias; may be NULL */
    void *y;                     /* [rows, H] output sequence at this step, of many states side by side; may be NULL */
    void *shown;                 /* [rows, H] what a cell of many states gives beside them, row stride y_row; may be NULL */
    int64_t y_row, units;
    void *tape; /* [panel][row][slots][V], saved for backward; NULL in inference */
    int64_t tape_panel;
    int act, recurrent_act;
    int backwards; /* walk over the panels from the last to the first */
    int fresh;     /* the state is zero, and what would be multiplied with it is not read */
    int weights;   /* and the two that follow: as of rnnf_matmul */
    const rnnf_tiles *tiles;
    void *parts;
} rnnf_step;

/* Steps of one row of a cell without dropout or zoneout. */
typedef struct {
    const void *x; /* [steps, I], a step x_step after the other; x . W + b, [steps][panel][G][V], where kernel is NULL */
    int64_t x_step, inputs, units, steps;
    const void *kernel, *bias;                 /* panels; a bias may be NULL */
    void *x_gates;                             /* of cells of two phases, where kernel is given: room for x . W + b of a step */
    const void *recurrent[2], *recurrent_bias; /* panels of each phase */
    const void *vectors;                       /* as of rnnf_step */
    void *h[2];                                /* [H padded] state before the first step; the states take turns in both */
    void *memory;                              /* [H padded] second state, in place */
    void *reset;                               /* [H padded] what goes from the first phase to the second */
    int first_phase, end_phase;                /* which phases to compute: all of them, or of one step one */
    void *y;                                   /* [steps, H], a step y_step after the other; may be NULL */
    int64_t y_step;
    int act, recurrent_act;
    int weights; /* of the recurrent panels, and parts: as of rnnf_matmul; a kernel is as WEIGHTS_SAME */
    void *parts;
    int fresh;  /* as of rnnf_step, of the first step */
    int turn;   /* odd: the first step walks over the panels from the last to the first; steps take turns */
    void *tape; /* as of rnnf_step; of training, where states follow one another from h[0] on, h_step apart, instead of taking turns, and so from reset on */
    int64_t tape_panel, h_step;
} rnnf_run;

/* One step of a cell's backward: d state = carry + dy + dg_next . R^T, then the cell's backward, which turns the tape's slots into gate gradients. */
typedef struct {
    const void *dg_next; /* slots of the following step, first slot of the product; NULL if there is none */
    const void *panels;  /* transposed recurrent kernel */
    const void *dy;      /* [rows, H]; may be NULL */
    const void *dshown;  /* [rows, H]; may be NULL */
    int64_t dy_row, dshown_row;
    const void *vectors; /* and the fields to `state_next` as forward */
    int64_t vector_count, states, state_next;
    void *carry; /* [states][rows, H padded]: direct path of the states' gradients, in place */
    int64_t carry_row, carry_state;
    void *tape;
    int64_t tape_panel, units;
    const void *h; /* [rows, H padded] previous state */
    int64_t h_row;
    const void *product_mask; /* [rows, H padded], row stride h_row; the product is multiplied by it; may be NULL */
    const void *keep[2];      /* as forward */
    int64_t keep_row;
    int act, recurrent_act;
    int backwards;
} rnnf_step_back;

typedef void (*rnnf_step_fn)(const rnnf_step *, int64_t rows, int64_t p0, int64_t p1);
typedef void (*rnnf_step_back_fn)(const rnnf_step_back *, int64_t rows, int64_t p0, int64_t p1);

/* A phase is one recurrent product and the gates that follow it; most cells have one, whose product_gates are 0 where there is no product. x gates are slots
 * 0..gates-1 of the tape after backward; the product's gate gradients are slots slot .. slot + product_gates - 1; the terms of the gradients of the weights of
 * each unit are slots vector_slot .. vector_slot + vectors - 1. */
typedef struct {
    int product_gates, slot;
    rnnf_step_fn forward;
    rnnf_step_back_fn backward;
} rnnf_phase;

typedef struct {
    const char *name;
    int gates, slots, states, phases, vectors, vector_slot;
    rnnf_phase phase[2];
    void (*run)(const rnnf_run *, int64_t p0, int64_t p1); /* unit panels [p0, p1); NULL if steps are called one by one */
} rnnf_cell;

/* A row of a cell whose gates lie plain, [gate][unit] in Keras' order; see cell_rows.h. Pointers that are NULL are read as zeros and not written. */
typedef struct {
    int64_t units;
    int act, recurrent_act;
    const void *gates[2]; /* of the input, of the state */
    void *dgates[2];
    const void *state[2]; /* before the step */
    void *mid;            /* [2][units], from the first half of the equations to the second */
    void *out[2];         /* states after the step; may be `state` */
    void *saved;          /* [slots][units], for backward */
    void *d[2];           /* gradients of the states, after the step -> of its direct path before it */
} rnnf_cell_row;

typedef void (*rnnf_row_fn)(const rnnf_cell_row *);

typedef struct {
    const char *name;
    int gates, slots, late, states, first; /* the first `late` slots are filled by row_output; gradients of the state's gates are slots first.. */
    int order[2][4];                       /* gate of the cell -> Keras' gate, of the input and of the state */
    rnnf_row_fn row_gates, row_output, row_backward, row_output_backward;
} rnnf_row_cell;

enum {
#define CELL(name) CELL_##name,
#include "cells/cells.def"
#undef CELL
    CELL_COUNT
};

/* Row-wise functions of Dense and Activation, beside the element-wise list. */
enum { ROW_softmax = ACT_COUNT, ROW_log_softmax, ROW_sparsemax, ROW_COUNT };

enum {
    LOSS_mse,
    LOSS_mae,
    LOSS_mape,
    LOSS_msle,
    LOSS_huber,
    LOSS_log_cosh,
    LOSS_binary_crossentropy,
    LOSS_categorical_crossentropy,
    LOSS_sparse_categorical_crossentropy,
    LOSS_kl_divergence,
    LOSS_poisson,
    LOSS_hinge,
    LOSS_squared_hinge,
    LOSS_categorical_hinge,
    LOSS_cosine_similarity,
    LOSS_COUNT
};

/* Value and gradient of a loss over rows [r0, r1): returns sum of weight[r] * mean over the row; dp = its gradient (may be NULL). Targets of the sparse loss
 * are one real a row; that of row r is the place[r]-th. */
typedef struct {
    int kind, from_logits;
    double parameter[3]; /* delta of Huber; label smoothing, epsilon; ignored class (NaN: none) */
    const void *p, *target;
    void *dp;
    int64_t cols, target_cols;
    const int64_t *place;
    const double *weight;
} rnnf_loss;

/* One row x of n values (a multiple of V, zeros beyond the features) against `count` rows of the other side, in additive attention; s holds the scores, s_step
 * apart. dv may be NULL. */
typedef struct {
    const void *x, *other, *v;
    void *s, *dx, *dv;
    int64_t other_row, s_step, count, n;
} rnnf_additive;

enum { UPDATE_sgd, UPDATE_rmsprop, UPDATE_adam, UPDATE_nadam, UPDATE_adagrad, UPDATE_COUNT };

/* One optimizer step over elements [i0, i1). clip, if positive, bounds each gradient first. */
typedef struct {
    int kind;
    const double *scalars;
    void *w;
    const void *g;
    void *slot[3];
    double clip;
} rnnf_update;

typedef struct {
    const char *isa, *dtype;
    int lanes, itemsize;
    rnnf_cell cell[CELL_COUNT];
    rnnf_row_cell row_cell[2]; /* lstm, gru */
    void (*matmul)(const rnnf_matmul *, int64_t r0, int64_t r1, int64_t p0, int64_t p1);
    void (*outer)(const rnnf_outer *, int64_t rows, int64_t p0, int64_t p1);
    void (*column_sum)(const rnnf_outer *, int64_t rows, int64_t p0, int64_t p1); /* as outer with A all ones and K = 1 */
    void (*pack)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order);
    void (*pack_transposed)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order);
    void (*pack_stored)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order, int weights);
    void (*activate)(int act, const void *x, void *y, int64_t n);
    void (*derivative)(int act, const void *kept, const void *dy, void *dx, int64_t n);
    void (*row_activate)(int act, const void *x, void *y, int64_t rows, int64_t cols);
    void (*row_derivative)(int act, const void *y, const void *dy, void *dx, int64_t rows, int64_t cols);
    double (*loss)(const rnnf_loss *, int64_t r0, int64_t r1);
    void (*update)(const rnnf_update *, int64_t i0, int64_t i1);
    double (*sum_squares)(const void *x, int64_t n);
    double (*penalize)(const void *w, void *g, double l1, double l2, int64_t n);
    void (*add)(void *y, const void *x, int64_t n);
    void (*multiply)(void *y, const void *x, const void *m, int64_t n);
    void (*scale)(void *y, const void *x, double factor, int64_t n);
    void (*maximum)(void *y, const void *x, int64_t n);
    void (*count_equal)(void *count, const void *x, const void *y, int64_t n);
    void (*share_equal)(void *dx, const void *x, const void *y, const void *dy, const void *count, int64_t n);
    void (*dropout)(void *y, const void *x, double rate, uint64_t seed, uint64_t index, int64_t n);
    void (*keep)(void *y, double rate, uint64_t seed, uint64_t index, int64_t n);
    void (*normalize)(void *y, const void *x, const void *gamma, const void *beta, double eps, double *kept, int64_t n);
    void (*normalize_back)(void *dx, const void *x, const void *dy, const void *gamma, const double *kept, int64_t n);
    void (*normalize_sums)(void *dgamma, void *dbeta, const void *x, const void *dy, const double *kept, const int64_t *shape);
    void (*column_moments)(const void *x, int64_t rows, int64_t n, double *kept, int64_t c0, int64_t c1);
    void (*standardize)(void *y, const void *x, int64_t rows, int64_t n, const double *kept, const void *gamma, const void *beta);
    void (*column_products)(const void *x, const void *dy, int64_t rows, int64_t n, double *kept, int64_t c0, int64_t c1);
    void (*standardize_back)(void *dx, const void *x, const void *dy, int64_t rows, int64_t n, const double *kept, const void *gamma, double count);
    void (*widen)(double *y, const void *x, int64_t n);
    void (*narrow)(void *y, const double *x, double factor, int64_t n);
    double (*log_sum_exp)(const void *x, int64_t n);
    void (*exp_below)(void *y, const void *x, double shift, int64_t n);
    void (*ctc_step)(void *next, const void *prev, const void *emit, const void *skip, int64_t n);
    double (*dot)(const void *x, const void *y, int64_t n);
    double (*read_only)(const void *x, int64_t n, int64_t times);
    double (*multiply_adds)(int64_t n, int64_t *operations);
    void (*additive)(const rnnf_additive *);
    void (*additive_back)(const rnnf_additive *);
} rnnf_kernels;

/* The tables compiled into this build, best first; isa is NULL at the end. */
typedef struct {
    const char *isa;
    const rnnf_kernels *f32, *f64;
} rnnf_tables;
extern const rnnf_tables rnnf_available[];
extern const rnnf_tiles *const rnnf_tiles_available[]; /* best first, NULL at the end */
int rnnf_cpu_supports(const char *isa);                /* or the tiles of that name, or "vnni" beside avx512 */

#endif
