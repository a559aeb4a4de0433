/* One time step of a cell: the recurrent product of a tile of rows and unit panels, then the cell's equations on the tile while it is in cache.
 *
 * The equations stand in two halves, `gates` and `output`, each run over the whole tile: the second half of one vector waits for nothing that the processor
 * could not fill with the next one's. STEP(phase, ...) instantiates the kernels of one phase of a cell. Its constants: nv gates of the product; x0, nx: gates
 * of x_gates that it reads, of xg in all; s0, ns: slots of the tape that it fills, of slots in all, the first `late` of them in the second half; reads, writes:
 * whether it reads and writes the second state. */
typedef struct {
    int nv, xg, x0, nx, slots, s0, ns, late, reads, writes;
} V(phase_shape);

typedef void (*V(gates_fn))(int, int, const vec *, const vec *, const vec *, vec *, vec *);
typedef void (*V(output_fn))(int, const vec *, const vec *, vec *, vec *);
typedef void (*V(backward_fn))(int, int, vec, const vec *, vec, vec *, vec *);

INLINE void V(save)(const rnnf_step *k, const V(phase_shape) c, int64_t row, int64_t panel, int first, int end, const vec *saved) {
    if (!k->tape) return;
    real *tape = (real *)k->tape + panel * k->tape_panel + row * c.slots * LANES;
    UNROLL
    for (int i = first; i < end; i++) vstore(tape + i * LANES, saved[i]);
}

/* Zoneout (Krueger et al. 2017): a state is the new one times `keep` plus the old one times what is left. */
INLINE vec V(zone)(vec fresh, vec old, const void *keep, int64_t at) {
    const vec kept = vload((const real *)keep + at);
    return kept * fresh + (1 - kept) * old;
}

/* The first half for one row and one unit panel. */
INLINE void V(step_gates)(const rnnf_step *k, const V(phase_shape) c, V(gates_fn) gates, int act, int gate, int64_t row, int64_t panel, const vec *product,
                          vec *mid) {
    const int64_t at = row * k->state_row + panel * LANES;
    const real *x = (const real *)k->x_gates + row * k->x_row + panel * c.xg * LANES;
    vec xs[4], hs[4], s[2], saved[5];
    UNROLL
    for (int i = 0; i < c.nx; i++) xs[c.x0 + i] = vload(x + (c.x0 + i) * LANES);
    UNROLL
    for (int i = 0; i < c.nv; i++) hs[i] = product[i];
    s[0] = vload((const real *)k->h + at);
    if (c.reads) s[1] = vload((const real *)k->memory + at);
    gates(act, gate, xs, hs, s, mid, saved);
    V(save)(k, c, row, panel, c.s0 + c.late, c.s0 + c.ns, saved);
}

/* The second half. */
INLINE void V(step_output)(const rnnf_step *k, const V(phase_shape) c, V(output_fn) output, int act, int64_t row, int64_t panel, const vec *mid) {
    const int64_t at = row * k->state_row + panel * LANES;
    vec s[1] = {vload((const real *)k->h + at)}, out[2], saved[5];
    output(act, mid, s, out, saved);
    if (k->keep[0]) out[0] = V(zone)(out[0], s[0], k->keep[0], row * k->keep_row + panel * LANES);
    if (c.writes && k->keep[1]) out[1] = V(zone)(out[1], vload((const real *)k->memory + at), k->keep[1], row * k->keep_row + panel * LANES);
    vstore((real *)k->out + at, out[0]);
    if (c.writes) vstore((real *)k->memory + at, out[1]);
    if (k->y) vstore_n((real *)k->y + row * k->y_row + panel * LANES, out[0], k->units - panel * LANES);
    V(save)(k, c, row, panel, c.s0, c.s0 + c.late, saved);
}

/* The product where every gate has an operand of its own (recurrent dropout): a tile a gate. */
static void V(gated_product)(const rnnf_step *k, V(tile_args) t, int64_t mr, int nv, vec *product) {
    for (int v = 0; v < nv; v++) {
        V(tile_args) one = t;
        vec column[ROWS_RUN];
        one.a += v * k->a_gate;
        one.w += v * LANES;
        if (one.init) one.init += v * LANES;
        V(rows_product)(one, 1, mr, column);
        for (int m = 0; m < mr; m++) product[m * nv + v] = column[m];
    }
}

/* All rows of np panels of nv vectors; a panel of a one-gate product holds nv unit panels, of any other one. */
INLINE void V(step_panels)(const rnnf_step *given, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, int np, int nv,
                           int64_t rows, int64_t panel) {
    const rnnf_step own_copy = *given, *k = &own_copy; /* which no store can alter: its fields stay in registers */
    const int units = np * nv / c.nv;
    const int64_t depth = k->units, first = panel * c.nv;
    V(tile_args)
    t = {.a_row = k->a_row,
         .a_k = 1,
         .blocks = 1,
         .block = depth,
         .w = (const real *)k->panels + first * depth * LANES,
         .w_panel = depth * nv * LANES,
         .w_k = nv * LANES,
         .init = k->bias ? (const real *)k->bias + first * LANES : 0};
    for (int64_t r = 0; r < rows;) {
        const int64_t n = V(next_share)(rows - r, ROWS_RUN);
        vec product[ROWS_RUN * 4], mid[ROWS_RUN * 4][2];
        t.a = (const real *)k->a + r * k->a_row;
        if (k->a_gate) V(gated_product)(given, t, n, nv, product);
        else if (np > 1) V(row_product)(t, np, nv, product);
        else V(rows_product)(t, nv, n, product);
        int i = 0;
        for (int64_t m = 0; m < n; m++)
            for (int u = 0; u < units; u++, i++) V(step_gates)(k, c, gates, act, gate, r + m, panel + u, product + i * c.nv, mid[i]);
        i = 0;
        for (int64_t m = 0; m < n; m++)
            for (int u = 0; u < units; u++, i++) V(step_output)(k, c, output, act, r + m, panel + u, mid[i]);
        r += n;
    }
}

INLINE void V(step)(const rnnf_step *k, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, int64_t rows, int64_t p0,
                    int64_t p1) {
    V(walk) walk = V(walk_over)(p0, p1, c.nv > 1 ? 1 : 4, rows == 1 && !k->a_gate ? ROW_PANELS : 1, k->backwards);
    int64_t p;
    for (int np, units; (np = V(walk_on)(&walk, &p, &units));) V(step_panels)(k, c, gates, output, act, gate, np, units * c.nv, rows, p);
}

/* The cell's backward for one row and one unit panel. */
INLINE void V(step_back_unit)(const rnnf_step_back *k, const V(phase_shape) c, V(backward_fn) backward, int act, int gate, int first, int64_t row,
                              int64_t panel, vec product) {
    const int64_t at = row * k->carry_row + panel * LANES;
    real *tape = (real *)k->tape + panel * k->tape_panel + row * c.slots * LANES, *carry = (real *)k->carry + at;
    vec saved[5], dg[5], ds[2], old[2] = {vset(0), vset(0)}, h = vload((const real *)k->h + row * k->h_row + panel * LANES);
    UNROLL
    for (int i = 0; i < c.slots; i++) saved[i] = vload(tape + i * LANES);
    if (k->product_mask) product *= vload((const real *)k->product_mask + row * k->h_row + panel * LANES);
    ds[0] = vload(carry);
    if (c.reads) ds[1] = vload(carry + k->carry_state);
    if (first && k->dy) ds[0] += vload_n((const real *)k->dy + row * k->dy_row + panel * LANES, k->units - panel * LANES);
    if (first && k->keep[0]) { /* the old states' shares go past the cell */
        const vec whole = ds[0] + product;
        product = V(zone)(whole, vset(0), k->keep[0], row * k->keep_row + panel * LANES);
        old[0] = whole - product;
        ds[0] = vset(0);
    }
    if (c.reads && k->keep[1]) {
        const vec whole = ds[1];
        ds[1] = V(zone)(whole, vset(0), k->keep[1], row * k->keep_row + panel * LANES);
        old[1] = whole - ds[1];
    }
    backward(act, gate, product, saved, h, ds, dg);
    UNROLL
    for (int i = 0; i < c.ns; i++) vstore(tape + i * LANES, dg[i]);
    if (first && k->keep[0]) ds[0] += old[0];
    if (c.reads && k->keep[1]) ds[1] += old[1];
    vstore(carry, ds[0]);
    if (c.reads) vstore(carry + k->carry_state, ds[1]);
}

INLINE void V(step_back_panels)(const rnnf_step_back *k, const V(phase_shape) c, V(backward_fn) backward, int act, int gate, int first, int np, int nv,
                                int64_t rows, int64_t p) {
    const int64_t unit_panels = (k->units + LANES - 1) / LANES, block = c.nv * LANES;
    V(tile_args)
    t = {.a_row = c.slots * LANES,
         .a_k = 1,
         .blocks = k->dg_next ? unit_panels : 0,
         .block = block,
         .block_stride = k->tape_panel,
         .w = (const real *)k->panels + p * unit_panels * block * LANES,
         .w_panel = unit_panels * block * nv * LANES,
         .w_k = nv * LANES};
    for (int64_t r = 0; r < rows;) {
        const int64_t n = V(next_share)(rows - r, ROWS_RUN);
        vec product[ROWS_RUN * 4];
        t.a = (const real *)k->dg_next + r * t.a_row;
        if (np > 1) V(row_product)(t, np, nv, product);
        else V(rows_product)(t, nv, n, product);
        const vec *own = product;
        for (int64_t m = 0; m < n; m++)
            for (int u = 0; u < np * nv; u++) V(step_back_unit)(k, c, backward, act, gate, first, r + m, p + u, *own++);
        r += n;
    }
}

INLINE void V(step_back)(const rnnf_step_back *k, const V(phase_shape) c, V(backward_fn) backward, int act, int gate, int first, int64_t rows, int64_t p0,
                         int64_t p1) {
    V(walk) walk = V(walk_over)(p0, p1, 4, rows == 1 ? ROW_PANELS : 1, k->backwards);
    int64_t p;
    for (int np, nv; (np = V(walk_on)(&walk, &p, &nv));) V(step_back_panels)(k, c, backward, act, gate, first, np, nv, rows, p);
}

/* The default activations are constants of their own instance; all others are looked up for each vector. */
#define STEP(phase, act0, gate0, ...) \
    static void V(phase##_step)(const rnnf_step *k, int64_t rows, int64_t p0, int64_t p1) { \
        const V(phase_shape) c = {__VA_ARGS__}; \
        if (k->act == act0 && k->recurrent_act == gate0) V(step)(k, c, V(phase##_gates), V(phase##_output), act0, gate0, rows, p0, p1); \
        else V(step)(k, c, V(phase##_gates), V(phase##_output), k->act, k->recurrent_act, rows, p0, p1); \
    }
#define STEP_BACK(phase, act0, gate0, first, ...) \
    static void V(phase##_step_back)(const rnnf_step_back *k, int64_t rows, int64_t p0, int64_t p1) { \
        const V(phase_shape) c = {__VA_ARGS__}; \
        if (k->act == act0 && k->recurrent_act == gate0) V(step_back)(k, c, V(phase##_backward), act0, gate0, first, rows, p0, p1); \
        else V(step_back)(k, c, V(phase##_backward), k->act, k->recurrent_act, first, rows, p0, p1); \
    }

STEP(simple_rnn, ACT_tanh, ACT_linear, .nv = 1, .xg = 1, .x0 = 0, .nx = 1, .slots = 1, .s0 = 0, .ns = 1, .late = 1)
STEP_BACK(simple_rnn, ACT_tanh, ACT_linear, 1, .nv = 1, .slots = 1, .ns = 1)
STEP(lstm, ACT_tanh, ACT_sigmoid, .nv = 4, .xg = 4, .x0 = 0, .nx = 4, .slots = 5, .s0 = 0, .ns = 5, .reads = 1, .writes = 1)
STEP_BACK(lstm, ACT_tanh, ACT_sigmoid, 1, .nv = 4, .slots = 5, .ns = 4, .reads = 1)
STEP(gru, ACT_tanh, ACT_sigmoid, .nv = 3, .xg = 3, .x0 = 0, .nx = 3, .slots = 4, .s0 = 0, .ns = 4, .late = 1)
STEP_BACK(gru, ACT_tanh, ACT_sigmoid, 1, .nv = 3, .slots = 4, .ns = 4)
STEP(gru_reset_before_gates, ACT_tanh, ACT_sigmoid, .nv = 2, .xg = 3, .x0 = 1, .nx = 2, .slots = 3, .s0 = 1, .ns = 2, .writes = 1)
STEP(gru_reset_before_candidate, ACT_tanh, ACT_sigmoid, .nv = 1, .xg = 3, .x0 = 0, .nx = 1, .slots = 3, .s0 = 0, .ns = 1, .late = 1, .reads = 1)
STEP_BACK(gru_reset_before_candidate, ACT_tanh, ACT_sigmoid, 1, .nv = 2, .slots = 3, .ns = 3)
STEP_BACK(gru_reset_before_gates, ACT_tanh, ACT_sigmoid, 0, .nv = 1, .slots = 3, .ns = 3)
