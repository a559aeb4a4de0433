/* Attention: the scores that are no matrix product, and sums of products in float64. */

/* Sum of x y in float64, in a fixed order. */
static double V(dot)(const void *x_, const void *y_, int64_t n) {
    const real *x = x_, *y = y_;
    double sum[8] = {0};
    for (int64_t i = 0; i < n; i++) sum[i % 8] += (double)x[i] * y[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* Additive scores (Bahdanau, Cho and Bengio 2015): s[j] = sum over d of v[d] tanh(x[d] + other[j, d]). */
static void V(additive)(const rnnf_additive *g) {
    const real *x = g->x, *v = g->v;
    for (int64_t j = 0; j < g->count; j++) {
        const real *other = (const real *)g->other + j * g->other_row;
        vec sum = vset(0);
        real total = 0;
        for (int64_t d = 0; d < g->n; d += LANES) sum = vfma(vload(v + d), V(tanh)(vload(x + d) + vload(other + d)), sum);
        for (int64_t i = 0; i < LANES; i++) total += sum[i];
        ((real *)g->s)[j * g->s_step] = total;
    }
}

/* With t = tanh(x[d] + other[j, d]) and s the scores' gradient: dx[d] += sum over j of s[j] v[d] (1 - t^2), dv[d] += sum over j of s[j] t. */
static void V(additive_back)(const rnnf_additive *g) {
    const real *x = g->x, *v = g->v, *s = g->s;
    real *dx = g->dx, *dv = g->dv;
    for (int64_t d = 0; d < g->n; d += LANES) {
        vec slope = vset(0), height = vset(0);
        for (int64_t j = 0; j < g->count; j++) {
            const vec t = V(tanh)(vload(x + d) + vload((const real *)g->other + j * g->other_row + d)), ds = vset(s[j * g->s_step]);
            slope = vfma(ds, 1 - t * t, slope);
            height = vfma(ds, t, height);
        }
        vstore(dx + d, vfma(slope, vload(v + d), vload(dx + d)));
        if (dv) vstore(dv + d, vload(dv + d) + height);
    }
}
