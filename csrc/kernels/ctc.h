/* Pieces of connectionist temporal classification (Graves, Fernandez, Gomez, Schmidhuber 2006), in logarithms. The engine calls those on vectors in float64,
 * whatever the model's type; their n is a multiple of LANES. widen and narrow stand between the two types. */

static void V(widen)(double *y, const void *x_, int64_t n) {
    const real *x = x_;
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
}

static void V(narrow)(void *y_, const double *x, double factor, int64_t n) {
    real *y = y_;
    for (int64_t i = 0; i < n; i++) y[i] = (real)(factor * x[i]);
}

/* log of the sum of exp(x). NaN where an x is NaN or +inf, or all are -inf. */
static double V(log_sum_exp)(const void *x_, int64_t n) {
    const real *x = x_;
    vec most = vload(x), sums = {0};
    for (int64_t i = LANES; i < n; i += LANES) most = vmax(most, vload(x + i));
    real shift = most[0];
    double sum = 0;
    for (int64_t l = 1; l < LANES; l++) shift = most[l] > shift ? most[l] : shift;
    for (int64_t i = 0; i < n; i += LANES) sums += V(exp_nonpositive)(vload(x + i) - vset(shift));
    for (int64_t l = 0; l < LANES; l++) sum += sums[l];
    return (double)shift + log(sum);
}

/* y = exp(x - shift), for x up to shift. */
static void V(exp_below)(void *y_, const void *x_, double shift, int64_t n) {
    real *y = y_;
    const real *x = x_;
    for (int64_t i = 0; i < n; i += LANES) vstore(y + i, V(exp_nonpositive)(vload(x + i) - vset(shift)));
}

/* log(exp(a) + exp(b)); both finite. */
INLINE vec V(log_add)(vec a, vec b) { return vmax(a, b) + V(log1p_unit)(V(exp_nonpositive)(vnabs(a - b))); }

/* One step over the states of an extended label: next[s] = emit[s] + log(e^prev[s] + e^prev[s-1] + e^(prev[s-2] + skip[s])); skip is 0 where a blank may be
 * jumped over, and the log of nothing elsewhere. Two values stand before prev. */
static void V(ctc_step)(void *next_, const void *prev_, const void *emit_, const void *skip_, int64_t n) {
    real *next = next_;
    const real *prev = prev_, *emit = emit_, *skip = skip_;
    for (int64_t s = 0; s < n; s += LANES)
        vstore(next + s, vload(emit + s) + V(log_add)(V(log_add)(vload(prev + s), vload(prev + s - 1)), vload(prev + s - 2) + vload(skip + s)));
}
