/* Losses: value and gradient in one pass, in float64. Definitions and the mean over the last axis are Keras 3's. */

typedef struct {
    double value, gradient;
} V(loss_term);

INLINE double V(softplus_scalar)(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

/* log(clip(p, eps, 1)) style terms have gradient 0 where they are clipped. */
INLINE double V(clip)(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* One element of the losses that are a mean over elements: loss(p, t) and its derivative by p. */
INLINE V(loss_term) V(loss_element)(const rnnf_loss *k, int kind, double p, double t) {
    const double d = p - t, eps = k->parameter[1];
    switch (kind) {
    case LOSS_mse: return (V(loss_term)){d * d, 2 * d};
    case LOSS_mae: return (V(loss_term)){fabs(d), (d > 0) - (d < 0)};
    case LOSS_mape: {
        const double scale = 100 / fmax(fabs(t), eps);
        return (V(loss_term)){fabs(d) * scale, ((d > 0) - (d < 0)) * scale};
    }
    case LOSS_msle: {
        const double q = fmax(p, eps), e = log1p(q) - log1p(fmax(t, eps));
        return (V(loss_term)){e * e, p > eps ? 2 * e / (1 + q) : 0};
    }
    case LOSS_huber: {
        const double delta = k->parameter[0], a = fabs(d);
        return a <= delta ? (V(loss_term)){0.5 * d * d, d} : (V(loss_term)){delta * a - 0.5 * delta * delta, delta * ((d > 0) - (d < 0))};
    }
    case LOSS_log_cosh: return (V(loss_term)){d + V(softplus_scalar)(-2 * d) - 0.69314718055994530942, tanh(d)};
    case LOSS_poisson: return (V(loss_term)){p - t * log(p + eps), 1 - t / (p + eps)};
    case LOSS_hinge: return t * p >= 1 ? (V(loss_term)){0, 0} : (V(loss_term)){1 - t * p, -t};
    case LOSS_squared_hinge: return t * p >= 1 ? (V(loss_term)){0, 0} : (V(loss_term)){(1 - t * p) * (1 - t * p), -2 * t * (1 - t * p)};
    default: { /* binary_crossentropy */
        const double y = t * (1 - k->parameter[0]) + 0.5 * k->parameter[0], q = V(clip)(p, eps, 1 - eps);
        if (k->from_logits) return (V(loss_term)){V(softplus_scalar)(p) - p * y, 1 / (1 + exp(-p)) - y};
        return (V(loss_term)){-(y * log(q) + (1 - y) * log(1 - q)), q == p || p != p ? (p - y) / (p * (1 - p)) : 0};
    }
    }
}

/* The target distribution's i-th value: one-hot of an index, or a smoothed row. */
INLINE double V(target_value)(const rnnf_loss *k, const real *t, int64_t i) {
    if (k->kind == LOSS_sparse_categorical_crossentropy) return i == (int64_t)t[0];
    return t[i] * (1 - k->parameter[0]) + k->parameter[0] / (double)k->cols;
}

/* Cross-entropy of a row of logits: sum over i of t_i (log sum exp p - p_i). */
static double V(row_cross_entropy_logits)(const rnnf_loss *k, const real *p, const real *t, real *dp, double weight) {
    double most = p[0], sum = 0, value = 0, mass = 0;
    for (int64_t i = 1; i < k->cols; i++) most = p[i] > most ? p[i] : most;
    for (int64_t i = 0; i < k->cols; i++) sum += exp(p[i] - most);
    const double log_sum = most + log(sum);
    for (int64_t i = 0; i < k->cols; i++) {
        const double y = V(target_value)(k, t, i);
        value += y == 0 && p[i] == p[i] ? 0 : y * (log_sum - p[i]);
        mass += y;
    }
    if (dp)
        for (int64_t i = 0; i < k->cols; i++) dp[i] = (real)(weight * (mass * exp(p[i] - log_sum) - V(target_value)(k, t, i)));
    return value;
}

/* Cross-entropy of a row of probabilities, normalised to sum 1 and clipped as Keras does: q = clip(p / sum p), loss = -sum t log q. */
static double V(row_cross_entropy)(const rnnf_loss *k, const real *p, const real *t, real *dp, double weight) {
    const double eps = k->parameter[1];
    double sum = 0, value = 0, inside = 0;
    for (int64_t i = 0; i < k->cols; i++) sum += p[i];
    for (int64_t i = 0; i < k->cols; i++) {
        const double y = V(target_value)(k, t, i), raw = p[i] / sum, q = V(clip)(raw, eps, 1 - eps);
        value += y == 0 && q == q ? 0 : -y * log(q);
        if (q == raw) inside += y;
    }
    if (dp)
        for (int64_t i = 0; i < k->cols; i++) {
            const double y = V(target_value)(k, t, i), raw = p[i] / sum;
            dp[i] = (real)(weight * (inside / sum - (raw == V(clip)(raw, eps, 1 - eps) ? y / p[i] : 0)));
        }
    return value;
}

static double V(row_kl_divergence)(const rnnf_loss *k, const real *p, const real *t, real *dp, double weight) {
    const double eps = k->parameter[1];
    double value = 0;
    for (int64_t i = 0; i < k->cols; i++) {
        const double y = V(clip)(t[i], eps, 1), q = V(clip)(p[i], eps, 1);
        value += y * log(y / q);
        if (dp) dp[i] = (real)(q == p[i] ? -weight * y / q : 0);
    }
    return value;
}

/* max(1 + max((1 - t) p) - sum(t p), 0); the gradient of the inner maximum goes to the first of equals. */
static double V(row_categorical_hinge)(const rnnf_loss *k, const real *p, const real *t, real *dp, double weight) {
    double right = 0, wrong = -INFINITY;
    int64_t worst = 0;
    for (int64_t i = 0; i < k->cols; i++) {
        const double e = (1 - (double)t[i]) * p[i];
        right += (double)t[i] * p[i];
        if (e > wrong) wrong = e, worst = i;
    }
    const double value = 1 + wrong - right, factor = value <= 0 ? 0 : weight;
    if (dp) {
        for (int64_t i = 0; i < k->cols; i++) dp[i] = (real)(-factor * t[i]);
        dp[worst] += (real)(factor * (1 - (double)t[worst]));
    }
    return value <= 0 ? 0 : value;
}

/* -sum(t p) / (|t| |p|), lengths of at least epsilon. */
static double V(row_cosine_similarity)(const rnnf_loss *k, const real *p, const real *t, real *dp, double weight) {
    double pp = 0, tt = 0, pt = 0;
    for (int64_t i = 0; i < k->cols; i++) pp += (double)p[i] * p[i], tt += (double)t[i] * t[i], pt += (double)p[i] * t[i];
    const double eps = k->parameter[1], length = fmax(sqrt(pp), eps), scale = 1 / (length * fmax(sqrt(tt), eps)), value = -pt * scale;
    const double along = sqrt(pp) > eps ? value / pp : 0;
    if (dp)
        for (int64_t i = 0; i < k->cols; i++) dp[i] = (real)(-weight * (t[i] * scale + p[i] * along));
    return value;
}

/* n elements, a sum for each. */
INLINE void V(elements)(const rnnf_loss *k, int kind, const real *p, const real *t, real *dp, double factor, double *sums, const int64_t n) {
    for (int64_t l = 0; l < n; l++) {
        const V(loss_term) e = V(loss_element)(k, kind, p[l], t[l]);
        sums[l] += e.value;
        if (dp) dp[l] = (real)(factor * e.gradient);
    }
}

/* A sum a lane and a constant number of them, so that the loop of a constant kind is vectorised. */
INLINE double V(row_elements)(const rnnf_loss *k, int kind, const real *restrict p, const real *restrict t, real *restrict dp, double weight) {
    double sums[LANES] = {0}, value = 0;
    const double scale = 1.0 / (double)k->cols, factor = weight * scale;
    int64_t i = 0;
    for (; i + LANES <= k->cols && dp; i += LANES) V(elements)(k, kind, p + i, t + i, dp + i, factor, sums, LANES);
    for (; i + LANES <= k->cols; i += LANES) V(elements)(k, kind, p + i, t + i, 0, factor, sums, LANES);
    V(elements)(k, kind, p + i, t + i, dp ? dp + i : 0, factor, sums, k->cols - i);
    for (int64_t l = 0; l < LANES; l++) value += sums[l];
    return value * scale;
}

#define TARGETS_AHEAD 4 /* targets of neighbouring rows lie a sequence apart, where no processor expects them */

INLINE const real *V(target_of)(const rnnf_loss *k, int64_t r) { return (const real *)k->target + k->place[r] * k->target_cols; }

static double V(loss)(const rnnf_loss *k, int64_t r0, int64_t r1) {
    double total = 0;
    for (int64_t r = r0; r < r1; r++) {
        for (int64_t i = 0; r + TARGETS_AHEAD < r1 && i < k->target_cols; i += LINE_BYTES / (int64_t)sizeof(real))
            __builtin_prefetch(V(target_of)(k, r + TARGETS_AHEAD) + i);
        const real *p = (const real *)k->p + r * k->cols, *t = V(target_of)(k, r);
        real *dp = k->dp ? (real *)k->dp + r * k->cols : 0;
        const int sparse = k->kind == LOSS_sparse_categorical_crossentropy;
        const double weight = sparse && t[0] == k->parameter[2] ? 0 : k->weight[r];
        double value;
        if (sparse || k->kind == LOSS_categorical_crossentropy)
            value = k->from_logits ? V(row_cross_entropy_logits)(k, p, t, dp, weight) : V(row_cross_entropy)(k, p, t, dp, weight);
        else if (k->kind == LOSS_kl_divergence) value = V(row_kl_divergence)(k, p, t, dp, weight);
        else if (k->kind == LOSS_categorical_hinge) value = V(row_categorical_hinge)(k, p, t, dp, weight);
        else if (k->kind == LOSS_cosine_similarity) value = V(row_cosine_similarity)(k, p, t, dp, weight);
        else if (k->kind == LOSS_mse) value = V(row_elements)(k, LOSS_mse, p, t, dp, weight);
        else value = V(row_elements)(k, k->kind, p, t, dp, weight);
        if (weight != 0) total += weight * value; /* a row of weight 0 is absent, even if it is NaN */
        else if (dp)
            for (int64_t i = 0; i < k->cols; i++) dp[i] = 0;
    }
    return total;
}
