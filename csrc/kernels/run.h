/* Steps of one row, one after another within one call, so that a short step costs its own latency and little else.
 *
 * The same chains of additions as a tile's and the same equations as a step's, hence the same bits. The panels stand in groups whose sums fit the registers. */

/* The chain over `depth` values of one row for np panels of nv vectors. */
INLINE void V(run_product)(const real *a, int64_t depth, const real *w, const real *init, const int np, const int nv, vec *sums) {
    const int64_t w_panel = depth * nv * LANES;
    vec acc[12];
    UNROLL
    for (int j = 0; j < np * nv; j++) acc[j] = init ? vload(init + j * LANES) : vset(0);
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < depth; k++, w += nv * LANES) {
        const vec value = vset(a[k]);
        UNROLL
        for (int j = 0; j < np * nv; j++) acc[j] = vfma(value, vload(w + (j / nv) * w_panel + (j % nv) * LANES), acc[j]);
    }
    UNROLL
    for (int j = 0; j < np * nv; j++) sums[j] = acc[j];
}

/* One step of np unit panels. */
INLINE void V(run_panels)(const rnnf_run *k, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, const int np, int64_t panel,
                          const real *x, const real *h, real *out, real *y) {
    const int64_t first = panel * c.nv * LANES;
    vec xs[12], hs[12], mid[4][2], saved[8];
    if (k->kernel) V(run_product)(x, k->inputs, (const real *)k->kernel + first * k->inputs, k->bias ? (const real *)k->bias + first : 0, np, c.nv, xs);
    else {
        UNROLL
        for (int j = 0; j < np * c.nv; j++) xs[j] = vload(x + first + j * LANES);
    }
    V(run_product)(h, k->units, (const real *)k->recurrent + first * k->units, k->recurrent_bias ? (const real *)k->recurrent_bias + first : 0, np, c.nv, hs);
    UNROLL
    for (int u = 0; u < np; u++) {
        const int64_t unit = (panel + u) * LANES;
        vec s[2] = {vload(h + unit), c.reads ? vload((const real *)k->memory + unit) : vset(0)};
        gates(act, gate, xs + u * c.nv, hs + u * c.nv, s, mid[u], saved);
    }
    UNROLL
    for (int u = 0; u < np; u++) {
        const int64_t unit = (panel + u) * LANES;
        vec s[1] = {vload(h + unit)}, new[2];
        output(act, mid[u], s, new, saved);
        vstore(out + unit, new[0]);
        if (c.writes) vstore((real *)k->memory + unit, new[1]);
        if (y) vstore_n(y + unit, new[0], k->units - unit);
    }
}

/* Unit panels [p0, p1) of all steps. */
INLINE void V(run)(const rnnf_run *given, const V(phase_shape) c, V(gates_fn) gates, V(output_fn) output, int act, int gate, int64_t p0, int64_t p1) {
    const rnnf_run own_copy = *given, *k = &own_copy;
    const real *x = k->x;
    real *h = k->h[0], *out = k->h[1], *y = k->y;
    for (int64_t t = 0; t < k->steps; t++) {
        const int backwards = (k->turn + t) & 1;
        for (int64_t left = p1 - p0; left > 0;) {
            const int np = V(next_share)(left, c.nv > 3 ? 3 : 4);
            const int64_t panel = backwards ? p0 + left - np : p1 - left;
            if (c.nv < 4 && np == 4) V(run_panels)(k, c, gates, output, act, gate, 4, panel, x, h, out, y);
            else if (np == 3) V(run_panels)(k, c, gates, output, act, gate, 3, panel, x, h, out, y);
            else if (np == 2) V(run_panels)(k, c, gates, output, act, gate, 2, panel, x, h, out, y);
            else V(run_panels)(k, c, gates, output, act, gate, 1, panel, x, h, out, y);
            left -= np;
        }
        real *const last = h;
        h = out, out = last;
        x += k->x_step;
        if (y) y += k->y_step;
    }
}

#define RUN(cell, ...) \
    static void V(cell##_run)(const rnnf_run *k, int64_t p0, int64_t p1) { \
        const V(phase_shape) c = {__VA_ARGS__}; \
        if (k->act == ACT_tanh && k->recurrent_act == ACT_sigmoid) V(run)(k, c, V(cell##_gates), V(cell##_output), ACT_tanh, ACT_sigmoid, p0, p1); \
        else V(run)(k, c, V(cell##_gates), V(cell##_output), k->act, k->recurrent_act, p0, p1); \
    }
RUN(lstm, .nv = 4, .reads = 1, .writes = 1)
RUN(gru, .nv = 3)
