/* Statistics of columns over rows of n values, for batch normalisation (Ioffe and Szegedy 2015). Sums are in float64, row after row.
 * kept holds four rows of n: mean, inverse deviation, and backward's two sums. */

/* Mean and variance (in the inverse's place) of columns [c0, c1). */
static void V(column_moments)(const void *x_, int64_t rows, int64_t n, double *kept, int64_t c0, int64_t c1) {
    const real *x = x_;
    double *mean = kept, *variance = kept + n;
    for (int64_t c = c0; c < c1; c++) mean[c] = variance[c] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = c0; c < c1; c++) mean[c] += x[r * n + c];
    for (int64_t c = c0; c < c1; c++) mean[c] /= (double)rows;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = c0; c < c1; c++) variance[c] += (x[r * n + c] - mean[c]) * (x[r * n + c] - mean[c]);
    for (int64_t c = c0; c < c1; c++) variance[c] /= (double)rows;
}

/* y = (x - mean) inverse gamma + beta for each row; gamma, beta may be NULL. */
static void V(standardize)(void *y_, const void *x_, int64_t rows, int64_t n, const double *kept, const void *gamma_, const void *beta_) {
    const real *x = x_, *gamma = gamma_, *beta = beta_;
    const double *mean = kept, *inverse = kept + n;
    real *y = y_;
    for (int64_t r = 0; r < rows; r++, x += n, y += n)
        for (int64_t c = 0; c < n; c++) y[c] = (real)((x[c] - mean[c]) * inverse[c] * (gamma ? gamma[c] : 1) + (beta ? beta[c] : 0));
}

/* Columns [c0, c1) of the sums over rows of dy and of dy (x - mean) inverse. */
static void V(column_products)(const void *x_, const void *dy_, int64_t rows, int64_t n, double *kept, int64_t c0, int64_t c1) {
    const real *x = x_, *dy = dy_;
    double *mean = kept, *inverse = kept + n, *sum = kept + 2 * n, *product = kept + 3 * n;
    for (int64_t c = c0; c < c1; c++) sum[c] = product[c] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = c0; c < c1; c++) {
            sum[c] += dy[r * n + c];
            product[c] += dy[r * n + c] * ((x[r * n + c] - mean[c]) * inverse[c]);
        }
}

/* dx = gamma inverse (dy - (sum + (x - mean) inverse product) / count) for each row; without the part of the statistics when count is 0. */
static void V(standardize_back)(void *dx_, const void *x_, const void *dy_, int64_t rows, int64_t n, const double *kept, const void *gamma_, double count) {
    const real *x = x_, *dy = dy_, *gamma = gamma_;
    const double *mean = kept, *inverse = kept + n, *sum = kept + 2 * n, *product = kept + 3 * n, part = count > 0 ? 1 / count : 0;
    real *dx = dx_;
    for (int64_t r = 0; r < rows; r++, x += n, dy += n, dx += n)
        for (int64_t c = 0; c < n; c++) {
            const double through = (sum[c] + (x[c] - mean[c]) * inverse[c] * product[c]) * part;
            dx[c] = (real)((dy[c] - through) * inverse[c] * (gamma ? gamma[c] : 1));
        }
}
