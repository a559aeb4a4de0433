/* Activations over arrays: element by element, and over rows (softmax). */

static void V(activate_array)(int act, const void *x_, void *y_, int64_t n) {
    const real *x = x_;
    real *y = y_;
    for (int64_t i = 0; i < n; i += LANES) vstore_n(y + i, V(activate)(act, vload_n(x + i, n - i)), n - i);
}

/* dx = dy f'(x); dx may equal dy. */
static void V(derivative_array)(int act, const void *kept_, const void *dy_, void *dx_, int64_t n) {
    const real *kept = kept_, *dy = dy_;
    real *dx = dx_;
    for (int64_t i = 0; i < n; i += LANES) vstore_n(dx + i, vload_n(dy + i, n - i) * V(derivative)(act, vload_n(kept + i, n - i)), n - i);
}

/* Sum of squares in float64, in a fixed order. */
static double V(sum_squares)(const void *x_, int64_t n) {
    const real *x = x_;
    double sum[8] = {0};
    for (int64_t i = 0; i < n; i++) sum[i % 8] += (double)x[i] * x[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* l1 sum |w| + l2 sum w^2, in float64; g += its gradient unless it is NULL. */
static double V(penalize)(const void *w_, void *g_, double l1, double l2, int64_t n) {
    const real *w = w_;
    real *g = g_;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += l1 * fabs((double)w[i]) + l2 * w[i] * w[i];
        if (g) g[i] += (real)(l1 * ((w[i] > 0) - (w[i] < 0)) + 2 * l2 * w[i]);
    }
    return sum;
}

/* sparsemax (Martins and Astudillo 2016): y = max(x - tau, 0) of sum 1. tau by shrinking the support until it stays (Michelot 1986). y may equal x. */
static void V(sparsemax_row)(const real *x, real *y, int64_t cols) {
    double tau = -INFINITY;
    for (int64_t inside = -1, count = 0; count != inside;) {
        double sum = 0;
        inside = count;
        count = 0;
        for (int64_t i = 0; i < cols; i++)
            if (x[i] > tau) sum += x[i], count++;
        tau = count ? (sum - 1) / (double)count : NAN;
    }
    for (int64_t i = 0; i < cols; i++) y[i] = (real)(x[i] < tau ? 0 : x[i] - tau);
}

/* softmax: y = exp(x - max) / sum; log_softmax: y = x - max - log(sum). y may equal x. */
static void V(row_activate)(int act, const void *x_, void *y_, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        const real *x = (const real *)x_ + r * cols;
        real *y = (real *)y_ + r * cols, most = x[0];
        double sum = 0;
        if (act == ROW_sparsemax) {
            V(sparsemax_row)(x, y, cols);
            continue;
        }
        for (int64_t i = 1; i < cols; i++) most = x[i] > most || x[i] != x[i] ? x[i] : most;
        for (int64_t i = 0; i < cols; i += LANES) {
            const int64_t n = cols - i < LANES ? cols - i : LANES;
            const vec shifted = vload_n(x + i, n) - vset(most), e = V(exp)(shifted);
            for (int64_t j = 0; j < n; j++) sum += e[j];
            vstore_n(y + i, act == ROW_softmax ? e : shifted, n);
        }
        const real scale = (real)(act == ROW_softmax ? 1 / sum : log(sum));
        for (int64_t i = 0; i < cols; i++) y[i] = act == ROW_softmax ? y[i] * scale : y[i] - scale;
    }
}

/* softmax: dx = y (dy - sum(dy y)); log_softmax: dx = dy - exp(y) sum(dy); sparsemax: dx = dy - mean(dy) where y > 0. dx may equal dy. */
static void V(row_derivative)(int act, const void *y_, const void *dy_, void *dx_, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        const real *y = (const real *)y_ + r * cols, *dy = (const real *)dy_ + r * cols;
        real *dx = (real *)dx_ + r * cols;
        double sum = 0;
        if (act == ROW_sparsemax) {
            int64_t inside = 0;
            for (int64_t i = 0; i < cols; i++)
                if (y[i] > 0) sum += dy[i], inside++;
            for (int64_t i = 0; i < cols; i++) dx[i] = y[i] > 0 ? (real)(dy[i] - sum / (double)inside) : 0;
            continue;
        }
        for (int64_t i = 0; i < cols; i++) sum += (double)dy[i] * (act == ROW_softmax ? y[i] : 1);
        for (int64_t i = 0; i < cols; i++) dx[i] = act == ROW_softmax ? y[i] * (dy[i] - (real)sum) : dy[i] - (real)(exp(y[i]) * sum);
    }
}
