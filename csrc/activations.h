/* Keras 3's activations with default parameters: value, and derivative from what activations.def says is kept. */
#define SELU_SCALE 1.05070098735548049342
#define SELU_ALPHA 1.67326324235437728482

INLINE vec V(clip01)(vec x) { return vmin(vset(1), vmax(vset(0), x)); }
INLINE vec V(expm1_or_x)(vec x) { return vsel_lt(vset(0), x, x, V(expm1_nonpositive)(vmin(vset(0), x))); }

INLINE vec V(lanes_sqrt)(vec x) {
    for (int64_t i = 0; i < LANES; i++) x[i] = REAL64 ? sqrt(x[i]) : sqrtf(x[i]);
    return x;
}

/* The normal distribution function, by the C library's erf (below 1 ULP in glibc). */
INLINE vec V(normal_cdf)(vec x) {
    for (int64_t i = 0; i < LANES; i++) x[i] = (real)0.5 * (REAL64 ? erfc(-x[i] * M_SQRT1_2) : erfcf((float)(-x[i] * M_SQRT1_2)));
    return x;
}

static vec V(rare_activation)(int act, vec x) {
    vec zero = vset(0), one = vset(1), half = vset(0.5);
    switch (act) {
    case ACT_hard_sigmoid: return vmin(vset(6), vmax(zero, x + 3)) / 6;
    case ACT_hard_sigmoid_02: return V(clip01)(vfma(x, vset(0.2), half));
    case ACT_softplus: return V(softplus)(x);
    case ACT_softsign: return x / (1 + vabs(x));
    case ACT_elu:
    case ACT_celu: return V(expm1_or_x)(x);
    case ACT_selu: return vsel_lt(zero, x, x, vset(SELU_ALPHA) * V(expm1_or_x)(x)) * vset(SELU_SCALE);
    case ACT_exponential: return V(exp)(x);
    case ACT_relu6: return vmin(vset(6), vmax(zero, x));
    case ACT_leaky_relu: return vsel_lt(x, zero, x * vset(0.2), x);
    case ACT_leaky_relu_001: return vsel_lt(x, zero, x * vset(0.01), x);
    case ACT_leaky_relu_03: return vsel_lt(x, zero, x * vset(0.3), x);
    case ACT_hard_tanh: return vmin(one, vmax(-one, x));
    case ACT_hard_shrink: return vsel_lt(half, vabs(x), x, x * 0);
    case ACT_soft_shrink: return vsel_lt(half, vabs(x), x - vcopysign(half, x), x * 0);
    case ACT_squareplus: return (x + V(lanes_sqrt)(x * x + 4)) * half;
    case ACT_log_sigmoid: return -V(softplus)(-x);
    case ACT_sparse_plus: return vsel_lt(x, one, vmax(zero, x + 1) * vmax(zero, x + 1) * vset(0.25), x);
    case ACT_sparse_sigmoid: return V(clip01)((x + 1) * half);
    case ACT_silu: return x * V(sigmoid)(x);
    case ACT_gelu: return x * V(normal_cdf)(x);
    case ACT_mish: return x * V(tanh)(V(softplus)(x));
    case ACT_tanh_shrink: return x - V(tanh)(x);
    case ACT_hard_silu: return x * (vmin(vset(6), vmax(zero, x + 3)) / 6);
    default: return x;
    }
}

/* f(x). The four of the recurrent fast paths fold away when act is a constant. */
INLINE vec V(activate)(int act, vec x) {
    if (act == ACT_tanh) return V(tanh)(x);
    if (act == ACT_sigmoid) return V(sigmoid)(x);
    if (act == ACT_relu) return vmax(vset(0), x);
    if (act == ACT_linear) return x;
    return V(rare_activation)(act, x);
}

static vec V(rare_derivative)(int act, vec kept) {
    vec zero = vset(0), one = vset(1), half = vset(0.5), s, t;
    switch (act) {
    case ACT_hard_sigmoid: return vsel_lt(zero, kept, vsel_lt(kept, one, one, zero), zero) / 6;
    case ACT_hard_sigmoid_02: return vsel_lt(zero, kept, vsel_lt(kept, one, vset(0.2), zero), zero);
    case ACT_softplus: return -V(expm1_nonpositive)(-kept);
    case ACT_softsign: return (1 - vabs(kept)) * (1 - vabs(kept));
    case ACT_elu:
    case ACT_celu: return vsel_lt(zero, kept, one, kept + 1);
    case ACT_selu: return vsel_lt(zero, kept, vset(SELU_SCALE), kept + vset(SELU_SCALE * SELU_ALPHA));
    case ACT_exponential: return kept;
    case ACT_relu6: return vsel_lt(zero, kept, vsel_lt(kept, vset(6), one, zero), zero);
    case ACT_leaky_relu: return vsel_lt(kept, zero, vset(0.2), one);
    case ACT_leaky_relu_001: return vsel_lt(kept, zero, vset(0.01), one);
    case ACT_leaky_relu_03: return vsel_lt(kept, zero, vset(0.3), one);
    case ACT_hard_tanh: return vsel_lt(vabs(kept), one, one, zero);
    case ACT_hard_shrink:
    case ACT_soft_shrink: return vsel_lt(zero, vabs(kept), one, zero);
    case ACT_squareplus: return kept * kept / (kept * kept + 1);
    case ACT_log_sigmoid: return -V(expm1_nonpositive)(kept);
    case ACT_sparse_plus: return vsel_lt(kept, one, V(lanes_sqrt)(kept), one);
    case ACT_sparse_sigmoid: return vsel_lt(zero, kept, vsel_lt(kept, one, half, zero), zero);
    case ACT_silu: s = V(sigmoid)(kept); return s * (1 + kept * (1 - s));
    case ACT_gelu: return V(normal_cdf)(kept) + kept * V(exp)(-half * kept * kept) * vset(0.398942280401432677940);
    case ACT_mish: t = V(tanh)(V(softplus)(kept)); return t + kept * (1 - t * t) * V(sigmoid)(kept);
    case ACT_tanh_shrink: return V(tanh)(kept) * V(tanh)(kept);
    case ACT_hard_silu: return vsel_lt(kept, vset(-3), zero, vsel_lt(kept, vset(3), kept / 3 + half, one));
    default: return one;
    }
}

/* f'(x) from what is kept of x. */
INLINE vec V(derivative)(int act, vec kept) {
    if (act == ACT_tanh) return 1 - kept * kept;
    if (act == ACT_sigmoid) return kept * (1 - kept);
    if (act == ACT_relu) return vsel_lt(vset(0), kept, vset(1), vset(0));
    if (act == ACT_linear) return vset(1);
    return V(rare_derivative)(act, kept);
}

/* What to save of a gate whose input is x and whose output is y, and the output again from what was saved. */
INLINE vec V(keep)(int act, vec x, vec y) { return act < ACT_FIRST_KEEPING_INPUT ? y : x; }
INLINE vec V(kept_output)(int act, vec kept) { return act < ACT_FIRST_KEEPING_INPUT ? kept : V(activate)(act, kept); }
