/* Operations on runs of values that need no tile: sums, products, dropout, layer normalisation. n counts values; y may equal x. */

static void V(add)(void *y_, const void *x_, int64_t n) {
    real *y = y_;
    const real *x = x_;
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void V(multiply)(void *y_, const void *x_, const void *m_, int64_t n) {
    real *y = y_;
    const real *x = x_, *m = m_;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * m[i];
}

static void V(scale)(void *y_, const void *x_, double factor, int64_t n) {
    real *y = y_;
    const real *x = x_;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * (real)factor;
}

/* y = max(y, x), NaN winning. */
static void V(maximum)(void *y_, const void *x_, int64_t n) {
    real *y = y_;
    const real *x = x_;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] > y[i] || x[i] != x[i] ? x[i] : y[i];
}

/* count += (x == y). */
static void V(count_equal)(void *count_, const void *x_, const void *y_, int64_t n) {
    real *count = count_;
    const real *x = x_, *y = y_;
    for (int64_t i = 0; i < n; i++) count[i] += x[i] == y[i];
}

/* dx = (x == y) dy / count: the gradient of a maximum, shared evenly by ties. */
static void V(share_equal)(void *dx_, const void *x_, const void *y_, const void *dy_, const void *count_, int64_t n) {
    real *dx = dx_;
    const real *x = x_, *y = y_, *dy = dy_, *count = count_;
    for (int64_t i = 0; i < n; i++) dx[i] = x[i] == y[i] ? dy[i] / count[i] : 0;
}

/* A uniform 32-bit word for (seed, index): splitmix64's finaliser (Steele, Lea, Flood 2014), so that backward can make the mask again. */
INLINE uint32_t V(noise)(uint64_t seed, uint64_t index) {
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

/* Inverted dropout: x / (1 - rate) with probability 1 - rate, else 0. Element i has the noise of index + i. */
static void V(dropout)(void *y_, const void *x_, double rate, uint64_t seed, uint64_t index, int64_t n) {
    real *y = y_;
    const real *x = x_, keep = (real)(1 / (1 - rate));
    const uint64_t threshold = (uint64_t)(rate * 4294967296.0);
    for (int64_t i = 0; i < n; i++) y[i] = V(noise)(seed, index + (uint64_t)i) >= threshold ? x[i] * keep : 0;
}

/* Zoneout's choice: 1 with probability 1 - rate, else 0. */
static void V(keep_noise)(void *y_, double rate, uint64_t seed, uint64_t index, int64_t n) {
    real *y = y_;
    const uint64_t threshold = (uint64_t)(rate * 4294967296.0);
    for (int64_t i = 0; i < n; i++) y[i] = V(noise)(seed, index + (uint64_t)i) >= threshold;
}

/* y = (x - mean) / sqrt(var + eps) * gamma + beta over a row (Ba, Kiros, Hinton 2016); gamma, beta may be NULL. kept: mean and 1 / sqrt(var + eps). */
static void V(normalize)(void *y_, const void *x_, const void *gamma_, const void *beta_, double eps, double *kept, int64_t n) {
    real *y = y_;
    const real *x = x_, *gamma = gamma_, *beta = beta_;
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean);
    const double inverse = 1 / sqrt(var / (double)n + eps);
    for (int64_t i = 0; i < n; i++) y[i] = (real)((x[i] - mean) * inverse * (gamma ? gamma[i] : 1) + (beta ? beta[i] : 0));
    kept[0] = mean;
    kept[1] = inverse;
}

/* dx of normalize from the row's x and kept. */
static void V(normalize_back)(void *dx_, const void *x_, const void *dy_, const void *gamma_, const double *kept, int64_t n) {
    real *dx = dx_;
    const real *x = x_, *dy = dy_, *gamma = gamma_;
    double mean_g = 0, mean_gx = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = dy[i] * (double)(gamma ? gamma[i] : 1), xhat = (x[i] - kept[0]) * kept[1];
        mean_g += g / (double)n;
        mean_gx += g * xhat / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        const double g = dy[i] * (double)(gamma ? gamma[i] : 1), xhat = (x[i] - kept[0]) * kept[1];
        dx[i] = (real)((g - mean_g - xhat * mean_gx) * kept[1]);
    }
}

/* Columns [c0, c1) of dgamma = sum over rows of dy xhat and dbeta = sum of dy; kept as normalize left it, two a row. */
static void V(normalize_sums)(void *dgamma_, void *dbeta_, const void *x_, const void *dy_, const double *kept, const int64_t *shape) {
    const int64_t rows = shape[0], n = shape[1];
    const real *x = x_, *dy = dy_;
    real *dgamma = dgamma_, *dbeta = dbeta_;
    for (int64_t c = shape[2]; c < shape[3]; c++) {
        double g = 0, b = 0;
        for (int64_t r = 0; r < rows; r++) {
            g += dy[r * n + c] * (x[r * n + c] - kept[2 * r]) * kept[2 * r + 1];
            b += dy[r * n + c];
        }
        if (dgamma) dgamma[c] = (real)g;
        if (dbeta) dbeta[c] = (real)b;
    }
}
