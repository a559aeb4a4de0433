/* One time step of a cell: the recurrent product of a tile of rows and unit panels, then the cell's equations on the tile while it is in cache.
 *
 * The equations stand in two halves, `gates` and `output`, each run over the whole tile: the second half of one vector waits for nothing that the processor
 * could not fill with the next one's. STEP(phase, ...) instantiates the kernels of one phase of a cell. Its constants: nv gates of the product; x0, nx: gates
 * of x_gates that it reads, of xg in all; s0, ns: slots of the tape that it fills, of slots in all, the first `late` of them in the second half; reads, writes:
 * whether it reads and writes the second state; vectors: weights of each unit that `gates` finds behind the states and `backward` behind the tape's slots;
 * many: whether it has k->states states, which all enter the product, with a weight of each unit more for each, which `output` finds in the place of the first,
 * and an output beside them. nv is 0 where there is no product. */
typedef struct {
    int nv, xg, x0, nx, slots, s0, ns, late, reads, writes, vectors, many;
} V(phase_shape);

/* Of large kernels the products of so many rows are kept before their equations are computed: each panel is read from memory once in as many. */
#define STEP_ROWS 66
#define FAR_BYTES (7 << 20) /* kernels that are worth fetching ahead: L3 is slow in giving as many at each step */

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

/* Its backward: *ds becomes the new state's share, and the old state's, which goes past the cell, is returned. */
INLINE vec V(zone_past)(vec *ds, const void *keep, int64_t at) {
    const vec whole = *ds;
    *ds = whole * vload((const real *)keep + at);
    return whole - *ds;
}

/* The first half for one row and one unit panel, whose x_gates are at x. */
INLINE void V(step_gates)(const rnnf_step *k, const V(phase_shape) c, V(gates_fn) gates, int act, int gate, int64_t row, int64_t panel, const real *x,
                          const vec *product, vec *mid) {
    const int64_t at = row * k->state_row + panel * LANES;
    const real *vectors = (const real *)k->vectors + panel * k->vector_count * LANES;
    vec xs[4], hs[4], s[5], saved[8];
    UNROLL
    for (int i = 0; i < c.nx; i++) xs[c.x0 + i] = vload(x + (c.x0 + i) * LANES);
    UNROLL
    for (int i = 0; i < c.nv; i++) hs[i] = product[i];
    s[0] = vload((const real *)k->h + at);
    if (c.reads) s[1] = vload((const real *)k->memory + at);
    UNROLL
    for (int i = 0; i < c.vectors; i++) s[2 + i] = vload(vectors + i * LANES);
    gates(act, gate, xs, hs, s, mid, saved);
    V(save)(k, c, row, panel, c.s0 + c.late, c.s0 + c.ns, saved);
}

/* The second half, for state i of those that enter the product. */
INLINE void V(step_state)(const rnnf_step *k, const V(phase_shape) c, V(output_fn) output, int act, int64_t row, int64_t panel, int64_t i, const vec *mid,
                          vec *saved) {
    const int64_t unit = panel * LANES, at = row * k->state_row + i * k->state_next + unit, left = k->units - unit;
    vec s[3] = {vload((const real *)k->h + at)}, out[2];
    if (c.many) s[2] = vload((const real *)k->vectors + (panel * k->vector_count + c.vectors + i) * LANES);
    output(act, mid, s, out, saved);
    if (k->keep[0]) out[0] = V(zone)(out[0], s[0], k->keep[0], row * k->keep_row + unit);
    if (c.writes && k->keep[1]) out[1] = V(zone)(out[1], vload((const real *)k->memory + at), k->keep[1], row * k->keep_row + unit);
    vstore((real *)k->out + at, out[0]);
    if (c.writes) vstore((real *)k->memory + at, out[1]);
    if (k->y) vstore_n((real *)k->y + row * k->y_row + i * k->units + unit, out[0], left);
    if (c.many && i == 0 && k->shown) vstore_n((real *)k->shown + row * k->y_row + unit, out[1], left);
}

INLINE void V(step_output)(const rnnf_step *k, const V(phase_shape) c, V(output_fn) output, int act, int64_t row, int64_t panel, const vec *mid) {
    vec saved[8];
    V(step_state)(k, c, output, act, row, panel, 0, mid, saved);
    if (c.many)
        for (int64_t i = 1; i < k->states; i++) V(step_state)(k, c, output, act, row, panel, i, mid, saved);
    V(save)(k, c, row, panel, c.s0, c.s0 + c.late, saved);
}

/* The product where every gate has an operand of its own (recurrent dropout): a tile a gate. */
static void V(gated_product)(const rnnf_step *k, V(tile_args) t, int64_t mr, int nv, vec *product) {
    for (int v = 0; v < nv; v++) {
        V(tile_args) one = t;
        vec column[STEP_ROWS];
        one.a += v * k->a_gate;
        one.w += v * LANES;
        if (one.init) one.init += v * LANES;
        V(rows_product)(&one, 1, mr, column);
        for (int m = 0; m < mr; m++) product[m * nv + v] = column[m];
    }
}

/* The operands of rows [r0, r1) as parts, for all panels. */
static void V(step_split)(const rnnf_step *k, int64_t blocks, int64_t r0, int64_t r1) {
    k->tiles->rows(&(rnnf_split_rows){k->parts, (const float *)k->a + r0 * k->a_row, k->a_row, blocks, k->units, k->state_next, r1 - r0, parts_of(k)});
}

/* Their products with a panel of nv vectors, the panel `index` of those of `full`. */
static void V(split_panel)(const rnnf_step *k, V(tile_args) t, int64_t index, int full, int nv, int64_t rows, vec *product) {
    k->tiles->product(&(rnnf_split_product){.parts = k->parts,
                                            .panels = k->panels,
                                            .index = index,
                                            .full = full * LANES,
                                            .depth = t.blocks * t.block,
                                            .init = (const float *)t.init,
                                            .c = (float *)product,
                                            .c_row = nv * LANES,
                                            .rows = rows,
                                            .columns = nv * LANES,
                                            .count = parts_of(k)});
}

/* Rows [r0, r1) of np panels of `wide` unit panels each; o is of these rows, where weights are stored otherwise. */
INLINE void V(step_panels)(const rnnf_step *given, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, int np, int wide,
                           int64_t r0, int64_t r1, int64_t panel, const V(operands) * o) {
    const rnnf_step own_copy = *given, *k = &own_copy; /* which no store can alter: its fields stay in registers */
    const int units = np * wide, nv = wide * c.nv;
    const int64_t blocks = c.many ? k->states : 1, depth = blocks * k->units, first = panel * c.nv;
    V(tile_args)
    t = {.a_row = k->a_row,
         .a_k = 1,
         .blocks = k->fresh ? 0 : blocks,
         .block = k->units,
         .block_stride = k->state_next,
         .w = (const real *)k->panels + first * depth * LANES,
         .w_panel = depth * nv * LANES,
         .w_k = nv * LANES,
         .init = k->bias ? (const real *)k->bias + first * LANES : 0};
    const int within = c.nv > 0 && c.nv == c.xg && k->kernel; /* then x_gates are made here, as a product of their own */
    const int64_t x_row = within ? np * nv * LANES : k->x_row;
    V(tile_args)
    tx = {.a_row = k->x_row,
          .a_k = 1,
          .blocks = 1,
          .block = k->inputs,
          .w = (const real *)k->kernel + first * k->inputs * LANES,
          .w_panel = k->inputs * nv * LANES,
          .w_k = nv * LANES,
          .init = k->x_bias ? (const real *)k->x_bias + first * LANES : 0};
    const int far = !k->fresh && r1 - r0 > ROWS_MOST(nv) && k->units * c.nv * (depth + (within ? k->inputs : 0)) * (int64_t)sizeof(real) > FAR_BYTES;
    const int64_t on = (k->backwards ? -1 : 1) * nv * LANES;
    (void)o;
    for (int64_t r = r0; r < r1;) {
        const int64_t n = parts_of(k) ? r1 - r : V(next_share)(r1 - r, far ? STEP_ROWS : ROWS_RUN);
        vec product[STEP_ROWS * 4], x_product[STEP_ROWS * 4], mid[STEP_ROWS * 4][2];
        tx.next = far && r == r0 ? t.w : 0; /* further runs of rows find in L2 what the first one has read */
        t.next = !far || r > r0 ? 0 : within ? tx.w + on * k->inputs : t.w + on * depth;
        const real *x = (const real *)k->x_gates + r * k->x_row + (within ? 0 : panel * c.xg * LANES);
        t.a = (const real *)k->a + r * k->a_row;
        for (int64_t m = 0; k->y && m < n; m++) /* else the stores at the end wait for these lines one after the other */
            for (int64_t i = 0; i < units * LANES; i += LINE_BYTES / (int64_t)sizeof(real)) vfetch((const real *)k->y + (r + m) * k->y_row + panel * LANES + i);
        if (within) {
            tx.a = x, x = (const real *)x_product;
            V(any_product)(&tx, np, nv, n, x_product);
        }
        if (c.nv == 0) product[0] = vset(0);
        else if (parts_of(k)) V(split_panel)(k, t, panel / (c.nv > 1 ? 1 : 4), c.nv > 1 ? c.nv : 4, nv, n, product);
        else if (stored(k) && !k->fresh) stored_product(o, t.init, first, np, nv, n, product);
        else if (k->a_gate) V(gated_product)(given, t, n, nv, product);
        else V(any_product)(&t, np, nv, n, product);
        for (int u = 0; u < units; u++) /* rows within, for there are more of them */
            for (int64_t m = 0; m < n; m++) {
                const int64_t i = m * units + u;
                V(step_gates)(k, c, gates, act, gate, r + m, panel + u, x + m * x_row + u * c.xg * LANES, product + i * c.nv, mid[i]);
            }
        for (int u = 0; u < units; u++)
            for (int64_t m = 0; m < n; m++) V(step_output)(k, c, output, act, r + m, panel + u, mid[m * units + u]);
        r += n;
    }
}

INLINE void V(step)(const rnnf_step *k, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, int64_t rows, int64_t p0,
                    int64_t p1) {
    const int64_t most = parts_of(k) ? SPLIT_ROWS : stored(k) ? ROWS_RUN : rows, vectors = (k->units + LANES - 1) / LANES * c.nv;
    for (int64_t r = 0, n, p; r < rows; r += n) {
        n = stored(k) ? V(next_share)(rows - r, most) : rows - r < most ? rows - r : most;
        V(walk) walk = V(walk_over)(p0, p1, c.nv > 1 ? 1 : 4, n == 1 && !k->a_gate && !parts_of(k) ? ROW_PANELS : 1, k->backwards);
        V(operands) o;
        if (parts_of(k) && !k->fresh) V(step_split)(k, c.many ? k->states : 1, r, r + n);
        if (stored(k) && !k->fresh) o = stored_operands(k->weights, k->panels, vectors, k->units, k->parts, (const real *)k->a + r * k->a_row, k->a_row, n);
        for (int np, units; (np = V(walk_on)(&walk, &p, &units));) V(step_panels)(k, c, gates, output, act, gate, np, units, r, r + n, p, &o);
    }
    (void)vectors;
}

/* The cell's backward for one row, one unit panel and state i of those that enter the product; the gates' gradients are added to those of the states before. */
INLINE void V(step_back_state)(const rnnf_step_back *k, const V(phase_shape) c, V(backward_fn) backward, int act, int gate, int first, int64_t row,
                               int64_t panel, int64_t i, vec product, vec *saved, vec *dg) {
    const int64_t unit = panel * LANES, left = k->units - unit, keep = row * k->keep_row + unit;
    real *carry = (real *)k->carry + row * k->carry_row + unit + i * k->carry_state;
    vec ds[2] = {vload(carry)}, past[2] = {vset(0), vset(0)}, before = dg[0];
    if (c.reads) ds[1] = vload(carry + k->carry_state);
    if (first && k->dy) ds[0] += vload_n((const real *)k->dy + row * k->dy_row + i * k->units + unit, left);
    if (c.many) {
        ds[1] = i == 0 && k->dshown ? vload_n((const real *)k->dshown + row * k->dshown_row + unit, left) : vset(0);
        saved[c.slots + c.vectors] = vload((const real *)k->vectors + (panel * k->vector_count + c.vectors + i) * LANES);
    }
    if (first && k->keep[0]) {
        ds[0] += product;
        product = vset(0);
        past[0] = V(zone_past)(&ds[0], k->keep[0], keep);
    }
    if (c.reads && k->keep[1]) past[1] = V(zone_past)(&ds[1], k->keep[1], keep);
    backward(act, gate, product, saved, vload((const real *)k->h + row * k->h_row + i * k->state_next + unit), ds, dg);
    if (i > 0) dg[0] += before;
    vstore(carry, ds[0] + past[0]);
    if (c.reads) vstore(carry + k->carry_state, ds[1] + past[1]);
}

INLINE void V(step_back_unit)(const rnnf_step_back *k, const V(phase_shape) c, V(backward_fn) backward, int act, int gate, int first, int64_t row,
                              int64_t panel, vec product) {
    const real *vectors = (const real *)k->vectors + panel * k->vector_count * LANES;
    real *tape = (real *)k->tape + panel * k->tape_panel + row * c.slots * LANES;
    vec saved[11], dg[8] = {vset(0)};
    UNROLL
    for (int i = 0; i < c.slots; i++) saved[i] = vload(tape + i * LANES);
    UNROLL
    for (int i = 0; i < c.vectors; i++) saved[c.slots + i] = vload(vectors + i * LANES);
    if (k->product_mask) product *= vload((const real *)k->product_mask + row * k->h_row + panel * LANES);
    V(step_back_state)(k, c, backward, act, gate, first, row, panel, 0, product, saved, dg);
    if (c.many)
        for (int64_t i = 1; i < k->states; i++) V(step_back_state)(k, c, backward, act, gate, first, row, panel, i, product, saved, dg);
    UNROLL
    for (int i = 0; i < c.ns; i++) vstore(tape + i * LANES, dg[i]);
}

INLINE void V(step_back_panels)(const rnnf_step_back *k, const V(phase_shape) c, V(backward_fn) backward, int act, int gate, int first, int np, int nv,
                                int64_t rows, int64_t p) {
    const int64_t unit_panels = (k->units + LANES - 1) / LANES, block = (c.nv ? c.nv : 1) * LANES;
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
        V(any_product)(&t, np, nv, n, product);
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

/* The default activations are constants of their own instance, and of STEP_OR a second pair; all others are looked up for each vector. */
#define STEP_OR(phase, act0, gate0, act1, gate1, ...) \
    static const V(phase_shape) V(phase##_shape) = {__VA_ARGS__}; \
    static void V(phase##_step)(const rnnf_step *k, int64_t rows, int64_t p0, int64_t p1) { \
        const V(phase_shape) c = V(phase##_shape); \
        if (k->act == act0 && k->recurrent_act == gate0) V(step)(k, c, V(phase##_gates), V(phase##_output), act0, gate0, rows, p0, p1); \
        else if (k->act == act1 && k->recurrent_act == gate1) V(step)(k, c, V(phase##_gates), V(phase##_output), act1, gate1, rows, p0, p1); \
        else V(step)(k, c, V(phase##_gates), V(phase##_output), k->act, k->recurrent_act, rows, p0, p1); \
    }
#define STEP(phase, act0, gate0, ...) STEP_OR(phase, act0, gate0, act0, gate0, __VA_ARGS__)
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
STEP_OR(statal, ACT_relu, ACT_linear, ACT_tanh, ACT_linear, .nv = 1, .xg = 1, .x0 = 0, .nx = 1, .slots = 1, .s0 = 0, .ns = 1, .vectors = 2, .many = 1)
STEP_BACK(statal, ACT_relu, ACT_linear, 1, .nv = 1, .slots = 1, .ns = 1, .vectors = 2, .many = 1)
STEP_OR(statal_seen, ACT_relu, ACT_linear, ACT_relu, ACT_sigmoid, .nv = 1, .xg = 1, .x0 = 0, .nx = 1, .slots = 1, .s0 = 0, .ns = 1, .vectors = 2, .many = 1)
STEP_BACK(statal_seen, ACT_relu, ACT_linear, 1, .nv = 1, .slots = 1, .ns = 1, .vectors = 2, .many = 1)
STEP(indrnn, ACT_relu, ACT_linear, .nv = 0, .xg = 1, .x0 = 0, .nx = 1, .slots = 2, .s0 = 0, .ns = 1, .late = 1, .vectors = 1)
STEP_BACK(indrnn, ACT_relu, ACT_linear, 1, .nv = 0, .slots = 2, .ns = 2, .vectors = 1)
STEP(mingru, ACT_linear, ACT_sigmoid, .nv = 0, .xg = 2, .x0 = 0, .nx = 2, .slots = 2, .s0 = 0, .ns = 2, .late = 1)
STEP_BACK(mingru, ACT_linear, ACT_sigmoid, 1, .nv = 0, .slots = 2, .ns = 2)
STEP(peephole_lstm, ACT_tanh, ACT_sigmoid, .nv = 4, .xg = 4, .x0 = 0, .nx = 4, .slots = 7, .s0 = 0, .ns = 5, .reads = 1, .writes = 1, .vectors = 3)
STEP_BACK(peephole_lstm, ACT_tanh, ACT_sigmoid, 1, .nv = 4, .slots = 7, .ns = 7, .reads = 1, .vectors = 3)
