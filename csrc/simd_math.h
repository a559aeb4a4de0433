/* Elementary functions over vec. Bounds are over all normal arguments and results, with flushing off or on; each is enforced by a test that
 * sweeps float32 densely under every ISA. The method is the classical one (Muller, Elementary Functions, 3rd ed., ch. 11): exp(x) = 2^n exp(r),
 * n = round(x / ln 2), |r| <= ln(2)/2, with ln 2 in two parts. */
#define LOG2_E 0x1.71547652b82fep+0
#if REAL64
#define EXP_MAGIC 0x1.8p52 /* adding it leaves round(x) in the low bits of the mantissa */
#define EXP_BIAS 1023
#define EXP_SHIFT 52
#define LN2_HI 0x1.62e42fefa38p-1
#define LN2_LO 0x1.ef35793c7673p-45
#define EXP_UNDERFLOW -709.0 /* n >= -1023 there, where 2^n is stored as zero */
#define EXP_LOW -746.0
#define EXP_HIGH 710.0
#define LN2 0x1.62e42fefa39efp-1
#else
#define EXP_MAGIC 0x1.8p23
#define EXP_BIAS 127
#define EXP_SHIFT 23
#define LN2_HI 0x1.62e4p-1
#define LN2_LO 0x1.7f7d1cp-20
#define EXP_UNDERFLOW -88.0
#define EXP_LOW -104.0
#define EXP_HIGH 89.0
#define LN2 0x1.62e43p-1
#endif

/* expm1(r) on |r| <= ln(2)/2. float32: degree 6, minimax to 3e-9; float64: Taylor to degree 13, truncation 4e-18. */
INLINE vec V(expm1_core)(vec r) {
#if REAL64
    static const double c[] = {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
                               1.0 / 5040.0,       1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,      1.0 / 6.0,      0.5};
#else
    static const float c[] = {0.001394649618305266f, 0.00836661085486412f, 0.04166628047823906f, 0.1666654348373413f, 0.5f};
#endif
    vec r2 = r * r;
#if REAL64
    vec q = vset(c[0]);
#pragma GCC unroll 16
    for (unsigned i = 1; i < sizeof c / sizeof c[0]; i++) q = vfma(q, r, vset(c[i]));
#else
    vec q = vfma(vfma(vset(c[0]), r2, vfma(vset(c[1]), r, vset(c[2]))), r2, vfma(vset(c[3]), r, vset(c[4]))); /* short of latency: recurrence waits for it */
#endif
    return vfma(r2, q, r);
}

/* x = n ln 2 + r; returns r and, in the low bits of *biased, n + EXP_BIAS. */
INLINE vec V(exp_reduce)(vec x, vec *biased) {
    *biased = vfma(x, vset(LOG2_E), vset(EXP_MAGIC + EXP_BIAS));
    vec n = *biased - vset(EXP_MAGIC + EXP_BIAS);
    return vfma(n, vset(-LN2_LO), vfma(n, vset(-LN2_HI), x));
}

/* 2^n for n in [-EXP_BIAS, EXP_BIAS]; 2^-EXP_BIAS is given as 0. */
INLINE vec V(exp2_integer)(vec biased) { return (vec)((ivec)biased << EXP_SHIFT); }

/* exp(x). Max error: 2 ULP. All x: +inf above the range, 0 below, NaN to NaN. */
INLINE vec V(exp)(vec x) {
    vec biased, r = V(exp_reduce)(vmin(vset(EXP_HIGH), vmax(vset(EXP_LOW), x)), &biased), n = biased - vset(EXP_MAGIC + EXP_BIAS);
    vec half = vfma(n, vset(0.5), vset(EXP_MAGIC)) - vset(EXP_MAGIC), bias = vset(EXP_MAGIC + EXP_BIAS); /* two factors, since 2^n itself may overflow */
    return (V(expm1_core)(r) + 1) * V(exp2_integer)(half + bias) * V(exp2_integer)((n - half) + bias);
}

/* exp(x) for x <= 0, flushed to 0 where the result is not a normal number. Max error: 2 ULP. */
INLINE vec V(exp_nonpositive)(vec x) {
    vec n, r = V(exp_reduce)(vmax(vset(EXP_UNDERFLOW), x), &n), scale = V(exp2_integer)(n);
    return (V(expm1_core)(r) + 1) * scale; /* not p * scale + scale, whose product may be flushed where there is no fused multiply-add */
}

/* expm1_step(r): expm1(r) on |r| <= ln(2) / (2 STEPS). exp2_step: 2^(n / STEPS) for n in [-EXP_BIAS STEPS, EXP_BIAS STEPS], from n + EXP_BIAS STEPS in the low
 * bits; 2^-EXP_BIAS is given as 0. Where sixteen numbers can be looked up, the steps are so small that degree 3 will do, minimax to 2e-9: a shorter chain for a
 * recurrence. */
#if VBYTES == 64 && !REAL64
#define STEPS 16
INLINE vec V(expm1_step)(vec r) { return vfma(r * r, vfma(r, vset(0x1.555556p-3), vset(0.500016212463379f)), r); }
INLINE vec V(exp2_step)(vec biased) {
    /* the mantissas of 2^(i / 16) less i in the place that the shift below leaves it in */
    static const int32_t mantissas[16] __attribute__((aligned(64))) = {0,       -152893, -289342, -408621, -509968, -592590, -655657, -698305,
                                                                       -719629, -718684, -694486, -646004, -572163, -471841, -343865, -187011};
    return (vec)(((ivec)biased << (EXP_SHIFT - 4)) + (ivec)vlookup(mantissas, (ivec)biased));
}
#else
#define STEPS 1
#define expm1_step expm1_core
#define exp2_step exp2_integer
#endif

/* 1 / (1 + e), e = exp(-x) = 2^(n / STEPS) (1 + p). Max error: 4 ULP. e stays finite; the result is flushed to 0 where it is not a normal number. */
INLINE vec V(sigmoid)(vec x) {
    const vec a = vmin(vset(-EXP_UNDERFLOW), vmax(vset(EXP_UNDERFLOW), x)), magic = vset(EXP_MAGIC + STEPS * EXP_BIAS),
              n = vfma(a, vset(-STEPS * LOG2_E), magic);
    const vec minus_n = magic - n, p = V(expm1_step)(vfma(minus_n, vset(LN2_LO / STEPS), vfma(minus_n, vset(LN2_HI / STEPS), -a))), scale = V(exp2_step)(n);
    /* 1 + scale waits for less, but is a rounding more, by which a step may begin below the end of the last one; between few steps it does not show */
    return 1 / (STEPS > 1 ? 1 + vfma(p, scale, scale) : vfma(p, scale, 1 + scale));
}

/* exp(x) - 1 for x <= 0, relative to itself. Max error: 2 ULP. */
INLINE vec V(expm1_nonpositive)(vec x) {
    vec n, r = V(exp_reduce)(vmax(vset(EXP_UNDERFLOW), x), &n), scale = V(exp2_integer)(n);
    return vfma(V(expm1_core)(r), scale, scale - 1);
}

#if VBYTES == 64 && !REAL64
#include "tanh_table.h"
/* tanh(x), a polynomial for each piece of |x|. Max error: 2 ULP. A recurrence waits for no division and no exponential. */
INLINE vec V(tanh)(vec x) {
    const vec a = vmin(vset(9.02), vabs(x));
    const ivec piece = (ivec)(a + 1) >> (EXP_SHIFT - 2); /* two bits of the exponent, two of the mantissa */
    const vec u = a - vlookup(V(tanh_table)[0], piece), u2 = u * u;
    vec c[7];
    UNROLL
    for (int k = 0; k < 7; k++) c[k] = vlookup(V(tanh_table)[k + 1], piece);
    const vec q = vfma(vfma(vfma(c[6], u, c[5]), u2, vfma(c[4], u, c[3])), u2, vfma(c[2], u, c[1]));
    return (vec)((ivec)vfma(q, u, c[0]) | ((ivec)x & vsignbit));
}
#else
/* tanh(x) = (1 - e) / (1 + e), e = exp(-2|x|) = 2^n (1 + p), each of the two rounded once. Max error: 2 ULP. One part of ln 2 will do, since e is small where n
 * is large. */
INLINE vec V(tanh)(vec x) {
    const vec half = vmax(vset(EXP_UNDERFLOW / 2), vnabs(x)), magic = vset(EXP_MAGIC + EXP_BIAS), n = vfma(half, vset(2 * LOG2_E), magic);
    const vec p = V(expm1_core)(vfma(n - magic, vset(-LN2), 2 * half)), scale = V(exp2_integer)(n);
    const vec above = vfma(-p, scale, 1 - scale), below = vfma(p, scale, 1 + scale);
    return (vec)((ivec)(above / below) | ((ivec)x & vsignbit));
}
#endif

/* log(1 + e) for e in [0, 1], by atanh. Max error: 3 ULP. */
INLINE vec V(log1p_unit)(vec e) {
    vec high = (e - 1) * vset(0.5), split = vset(0x1.a827999fcef3p-2); /* above sqrt(2) - 1: log((1 + e) / 2) + log(2) */
    vec f = vsel_lt(split, e, high, e), ln2 = vsel_lt(split, e, vset(0x1.62e42fefa39efp-1), vset(0));
    vec s = f / (f + 2), s2 = s * s, q = vset(1.0 / (REAL64 ? 25 : 13));
#pragma GCC unroll 16
    for (int k = REAL64 ? 23 : 11; k >= 3; k -= 2) q = vfma(q, s2, vset(1.0 / k));
    return ln2 + vfma(2 * s * s2, q, 2 * s);
}

/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)). Max error: 4 ULP. */
INLINE vec V(softplus)(vec x) { return vmax(vset(0), x) + V(log1p_unit)(V(exp_nonpositive)(vnabs(x))); }

#undef STEPS
#undef expm1_step
#undef exp2_step
#undef EXP_MAGIC
#undef EXP_BIAS
#undef EXP_SHIFT
#undef LOG2_E
#undef LN2
#undef LN2_HI
#undef LN2_LO
#undef EXP_UNDERFLOW
#undef EXP_LOW
#undef EXP_HIGH
