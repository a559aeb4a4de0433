/* Steps of one row, one after another within one call, so that a short step costs its own latency and little else.
 *
 * The same chains of additions as a tile's and the same equations as a step's, hence the same bits. The unit panels stand in groups of about the same size
 * whose sums fit the registers; panels of one-gate products, which hold four unit panels, and the narrower one at their end share a group. */
#define RUN_CHAINS 12
#define RUN_TURNED 32 /* inputs of a kernel that is worth meeting in cache */

/* The chains over `depth` values of one row for n vectors: panels of nv beside each other, the last one with as many as are left. */
INLINE void V(run_product)(const real *a, int64_t depth, const real *w, const real *init, const int n, const int nv, vec *sums) {
    const int rest = n % nv, whole = n - rest;
    const int64_t w_panel = depth * nv * LANES;
    const real *last = w + whole * depth * LANES;
    vec acc[RUN_CHAINS];
    UNROLL
    for (int j = 0; j < n; j++) acc[j] = init ? vload(init + j * LANES) : vset(0);
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < depth; k++, w += nv * LANES, last += rest * LANES) {
        const vec value = vset(a[k]);
        UNROLL
        for (int j = 0; j < n; j++) acc[j] = vfma(value, vload(j < whole ? w + (j / nv) * w_panel + (j % nv) * LANES : last + (j - whole) * LANES), acc[j]);
    }
    UNROLL
    for (int j = 0; j < n; j++) sums[j] = acc[j];
}

/* The same as functions of their own, for where a call costs little or the activations are looked up: chains[nv - 2][n - 1]. */
typedef void (*V(chains_fn))(const real *, int64_t, const real *, const real *, vec *);
/* clang-format off */
#define CHAINS(n, nv) \
    static void V(chains_##n##_##nv)(const real *a, int64_t depth, const real *w, const real *init, vec *sums) { V(run_product)(a, depth, w, init, n, nv, sums); }
CHAINS(2, 2) CHAINS(4, 2) CHAINS(6, 2) CHAINS(8, 2) CHAINS(10, 2) CHAINS(12, 2)
CHAINS(3, 3) CHAINS(6, 3) CHAINS(9, 3) CHAINS(12, 3)
CHAINS(1, 4) CHAINS(2, 4) CHAINS(3, 4) CHAINS(4, 4) CHAINS(5, 4) CHAINS(6, 4) CHAINS(7, 4) CHAINS(8, 4) CHAINS(9, 4) CHAINS(10, 4) CHAINS(11, 4) CHAINS(12, 4)
static const V(chains_fn) V(chains)[3][RUN_CHAINS] = {
    {0, V(chains_2_2), 0, V(chains_4_2), 0, V(chains_6_2), 0, V(chains_8_2), 0, V(chains_10_2), 0, V(chains_12_2)},
    {0, 0, V(chains_3_3), 0, 0, V(chains_6_3), 0, 0, V(chains_9_3), 0, 0, V(chains_12_3)},
    {V(chains_1_4), V(chains_2_4), V(chains_3_4), V(chains_4_4), V(chains_5_4), V(chains_6_4), V(chains_7_4), V(chains_8_4), V(chains_9_4), V(chains_10_4),
     V(chains_11_4), V(chains_12_4)},
};
/* clang-format on */

/* What a phase of a step reads and writes: x, or x . W + b; what enters the product, and its panels; the states before and after; the output. */
typedef struct {
    const real *x, *a, *recurrent, *recurrent_bias, *h;
    real *out, *y;
    int64_t depth; /* of the product: none with a state of zero */
    int backwards;
} V(run_at);

/* Slots [first, end) of the tape of a step. */
INLINE void V(run_save)(const rnnf_run *k, const V(phase_shape) c, int64_t unit, int first, int end, const vec *saved) {
    if (!k->tape) return;
    real *tape = (real *)k->tape + unit / LANES * k->tape_panel;
    UNROLL
    for (int i = first; i < end; i++) vstore(tape + i * LANES, saved[i]);
}

/* The first half of a phase for one unit panel. */
INLINE void V(run_gates)(const rnnf_run *k, const V(phase_shape) c, V(gates_fn) gates, int act, int gate, int64_t unit, const real *x, const vec *hs,
                         const real *h, vec *mid) {
    vec xs[4], s[5] = {vload(h + unit), c.reads ? vload((const real *)k->memory + unit) : vset(0)}, saved[8];
    UNROLL
    for (int i = c.x0; i < c.x0 + c.nx; i++) xs[i] = vload(x + i * LANES);
    UNROLL
    for (int i = 0; i < c.vectors; i++) s[2 + i] = vload((const real *)k->vectors + unit * c.vectors + i * LANES);
    gates(act, gate, xs, hs, s, mid, saved);
    V(run_save)(k, c, unit, c.s0 + c.late, c.s0 + c.ns, saved);
}

/* The second half of a phase for one unit panel. */
INLINE void V(run_output)(const rnnf_run *k, const V(phase_shape) c, V(output_fn) output, int act, int64_t unit, const vec *mid, const V(run_at) * at) {
    vec s[1] = {vload(at->h + unit)}, new[2], saved[8];
    output(act, mid, s, new, saved);
    vstore(at->out + unit, new[0]);
    if (c.writes) vstore((real *)k->memory + unit, new[1]);
    if (at->y) vstore_n(at->y + unit, new[0], k->units - unit);
    V(run_save)(k, c, unit, c.s0, c.s0 + c.late, saved);
}

/* One phase of np unit panels. The equations of few panels stand in a row, where the activations are known to the compiler. */
INLINE void V(run_panels)(const rnnf_run *k, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, const int known, const int np,
                          int64_t panel, const V(run_at) * at, const V(operands) * o) {
    const int nv = c.nv > 1 ? c.nv : 4, n = np * c.nv;
    const int64_t first = panel * c.nv * LANES;
    vec xs[RUN_CHAINS], hs[RUN_CHAINS], mid[RUN_CHAINS][2];
    const V(chains_fn) chains = V(chains)[nv - 2][n - 1];
    const real *bias = k->bias ? (const real *)k->bias + first : 0, *recurrent_bias = at->recurrent_bias ? at->recurrent_bias + first : 0;
    const real *kernel = (const real *)k->kernel + first * k->inputs, *recurrent = at->recurrent + first * k->units;
    const int within = c.nv == c.xg && k->kernel;
    const int behind = at->backwards && k->inputs >= RUN_TURNED; /* the kernel that was read last is read first */
    const real *const x = within ? (const real *)xs : at->x + panel * c.xg * LANES;
    if (within && !behind && known && c.nv > 1) V(run_product)(at->x, k->inputs, kernel, bias, n, nv, xs);
    else if (within && !behind) chains(at->x, k->inputs, kernel, bias, xs);
    (void)o;
    if (c.nv > 1 && c.nv == c.xg && stored(k) && at->depth) stored_product(o, recurrent_bias, panel * c.nv, np, c.nv, 1, hs);
    else if (known) V(run_product)(at->a, at->depth, recurrent, recurrent_bias, n, nv, hs);
    else chains(at->a, at->depth, recurrent, recurrent_bias, hs);
    if (within && behind) chains(at->x, k->inputs, kernel, bias, xs);
    if (known && np <= 4) {
        UNROLL
        for (int u = 0; u < np; u++) V(run_gates)(k, c, gates, act, gate, (panel + u) * LANES, x + u * c.xg * LANES, hs + u * c.nv, at->h, mid[u]);
        UNROLL
        for (int u = 0; u < np; u++) V(run_output)(k, c, output, act, (panel + u) * LANES, mid[u], at);
    } else {
        _Pragma("GCC unroll 1") for (int u = 0; u < np; u++)
            V(run_gates)(k, c, gates, act, gate, (panel + u) * LANES, x + u * c.xg * LANES, hs + u * c.nv, at->h, mid[u]);
        _Pragma("GCC unroll 1") for (int u = 0; u < np; u++) V(run_output)(k, c, output, act, (panel + u) * LANES, mid[u], at);
    }
}

/* One phase of unit panels [p0, p1). */
INLINE void V(run_phase)(const rnnf_run *k, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, const int known, int64_t p0,
                         int64_t p1, const V(run_at) * at) {
    const int wide = c.nv > 1 ? 1 : 4, most = RUN_CHAINS / (c.nv * wide);
    const int64_t panels = (p1 - p0 + wide - 1) / wide, groups = (panels + most - 1) / most;
    V(operands) o;
    if (c.nv > 1 && c.nv == c.xg && stored(k) && at->depth)
        o = stored_operands(k->weights, at->recurrent, (k->units + LANES - 1) / LANES * c.nv, k->units, k->parts, at->a, 0, 1);
    for (int64_t i = 0; i < groups; i++) {
        const int64_t g = at->backwards ? groups - 1 - i : i, panel = p0 + g * panels / groups * wide, end = p0 + (g + 1) * panels / groups * wide;
        const int np = (int)((end < p1 ? end : p1) - panel);
        /* one text for any number of panels: up to 5 % slower where the chains are short, and a third fewer bytes of each cell */
        if (!known) V(run_panels)(k, c, gates, output, act, gate, 0, np, panel, at, &o);
        else switch (np) {
#define GROUP(np) \
    case np: \
        if (np * c.nv <= RUN_CHAINS) V(run_panels)(k, c, gates, output, act, gate, 1, np, panel, at, &o); \
        break;
                GROUP(1) GROUP(2) GROUP(3) GROUP(4) GROUP(5) GROUP(6) GROUP(7) GROUP(8) GROUP(9) GROUP(10) GROUP(11) GROUP(12)
#undef GROUP
            }
    }
}

/* x . W + b of a step for unit panels [p0, p1), which two phases read. */
static void V(run_inputs)(const rnnf_run *k, int nv, int64_t p0, int64_t p1, const real *x) {
    const int most = RUN_CHAINS / nv;
    for (int64_t p = p0; p < p1; p += most) {
        const int n = (p1 - p < most ? (int)(p1 - p) : most) * nv;
        const int64_t first = p * nv * LANES;
        const V(chains_fn) chains = V(chains)[nv - 2][n - 1];
        const real *kernel = (const real *)k->kernel + first * k->inputs, *bias = k->bias ? (const real *)k->bias + first : 0;
        chains(x, k->inputs, kernel, bias, (vec *)((real *)k->x_gates + first));
    }
}

/* Unit panels [p0, p1) of all steps, whose phases are c0 and, of two, c1. */
INLINE void V(run)(const rnnf_run *given, const int phases, const V(phase_shape) c0, V(gates_fn) gates0, V(output_fn) output0, const V(phase_shape) c1,
                   V(gates_fn) gates1, V(output_fn) output1, int act, int gate, const int known, int64_t p0, int64_t p1) {
    rnnf_run own_copy = *given;
    const rnnf_run *k = &own_copy;
    const real *x = k->x;
    real *h = k->h[0], *out = k->h[1], *y = k->y;
    for (int64_t t = 0; t < k->steps; t++) {
        const V(run_at) at = {x, h, k->recurrent[0], k->recurrent_bias, h, out, y, k->fresh && t == 0 ? 0 : k->units, (k->turn + t) & 1};
        if (phases == 1) V(run_phase)(k, c0, gates0, output0, act, gate, known, p0, p1, &at);
        else {
            V(run_at) first = at, second = at;
            if (k->kernel && k->first_phase == 0) V(run_inputs)(k, c0.xg, p0, p1, x);
            if (k->kernel) first.x = second.x = k->x_gates;
            first.out = k->reset, first.y = 0;
            second.a = k->reset, second.recurrent = k->recurrent[1];
            if (k->first_phase == 0) V(run_phase)(k, c0, gates0, output0, act, gate, known, p0, p1, &first);
            if (k->end_phase == 2) V(run_phase)(k, c1, gates1, output1, act, gate, known, p0, p1, &second);
        }
        real *const last = h;
        h = out, out = k->tape ? out + k->h_step : last;
        x += k->x_step;
        if (y) y += k->y_step;
        if (k->tape) own_copy.tape = (real *)k->tape + c0.slots * LANES;
        if (k->tape && k->reset) own_copy.reset = (real *)k->reset + k->h_step;
    }
}

#define PHASE(phase) V(phase##_shape), V(phase##_gates), V(phase##_output)
#define RUN_PHASES(cell, phases, first, second, gate0) \
    static void V(cell##_run)(const rnnf_run *k, int64_t p0, int64_t p1) { \
        if (k->act == ACT_tanh && k->recurrent_act == gate0) V(run)(k, phases, PHASE(first), PHASE(second), ACT_tanh, gate0, 1, p0, p1); \
        else V(run)(k, phases, PHASE(first), PHASE(second), k->act, k->recurrent_act, 0, p0, p1); \
    }
#define RUN(cell, gate0) RUN_PHASES(cell, 1, cell, cell, gate0)
RUN(simple_rnn, ACT_linear)
RUN(lstm, ACT_sigmoid)
RUN(gru, ACT_sigmoid)
RUN(peephole_lstm, ACT_sigmoid)
RUN_PHASES(gru_reset_before, 2, gru_reset_before_gates, gru_reset_before_candidate, ACT_sigmoid)
