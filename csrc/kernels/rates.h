/* The machine's own rates, which limits are computed from: vectors read and fused multiply-adds, as fast as they come, and nothing else. */
enum { V(RATE_CHAINS) = 12 };

/* Read n elements so many times; what does not fill the last block is left out. The result depends on all of them. */
static double V(read_only)(const void *x_, int64_t n, int64_t times) {
    const real *x = x_;
    ivec acc[8];
    UNROLL
    for (int j = 0; j < 8; j++) acc[j] = (ivec)vset(0);
    while (times-- > 0)
        for (int64_t i = 0; i + 8 * LANES <= n; i += 8 * LANES) {
            UNROLL
            for (int j = 0; j < 8; j++) acc[j] |= (ivec)vload(x + i + j * LANES);
        }
    UNROLL
    for (int j = 1; j < 8; j++) acc[0] |= acc[j];
    int64_t all = 0;
    for (int i = 0; i < LANES; i++) all |= acc[0][i];
    return (double)all;
}

/* n rounds of multiply-adds in registers, a chain each; the operations of a round are their number. */
static double V(multiply_adds)(int64_t n, int64_t *operations) {
    vec acc[V(RATE_CHAINS)];
    real total = 0;
    for (int j = 0; j < V(RATE_CHAINS); j++) acc[j] = vset(j);
    const vec a = vset(0.999), b = vset(0.001);
    for (int64_t i = 0; i < n; i++) {
        UNROLL
        for (int j = 0; j < V(RATE_CHAINS); j++) acc[j] = vfma(acc[j], a, b);
    }
    for (int j = 0; j < V(RATE_CHAINS); j++)
        for (int i = 0; i < LANES; i++) total += acc[j][i];
    *operations = 2 * LANES * V(RATE_CHAINS) * n;
    return total;
}
