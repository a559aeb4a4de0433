/* The SIMD alphabet: the only file that spells vector types and intrinsics.
 *
 * Included once per (ISA, element type) by template.h, which defines
 *   real, REAL64      float and 0, or double and 1
 *   VBYTES            bytes of a native register: 16, 32 or 64
 *   V(name)           name with the suffix of this type and ISA
 * Words: vec (LANES reals), ivec (LANES integers of the same size), vload, vstore (any address), vload_n, vstore_n (the first n lanes),
 * vset, vfma (a*b + c), vmin, vmax (the second argument when either is NaN), vsel_lt (a < b ? x : y), vsel_negative (sign bit of s ? x : y),
 * vfetch (the line at p, into L2);
 * of vectors of 16 floats alone vlookup(table, i), lane by lane entry i mod 16 of the sixteen at a 64-byte boundary;
 * of float alone svec (2 LANES int16), vwiden8 (2 LANES int8 at an address as such), vmadd (products of two svec, added in pairs to an ivec), vdot4 (an ivec +
 * products of unsigned by signed bytes, added in fours; on AVX-512 for CPUs with VNNI alone, which the table's other words do not need).
 * Arithmetic on vec is C's own: + - * /. The build forbids contraction, so that only vfma fuses and a result does not depend on the shape
 * of the code around it. */
#define LANES ((int64_t)(VBYTES / sizeof(real)))
#define UNROLL _Pragma("GCC unroll 32")
#define INLINE static inline __attribute__((always_inline, unused))

typedef real V(vec_t) __attribute__((vector_size(VBYTES)));
typedef real V(vec_any_t) __attribute__((vector_size(VBYTES), aligned(sizeof(real)), may_alias));
#if REAL64
typedef int64_t V(ivec_t) __attribute__((vector_size(VBYTES)));
#else
typedef int32_t V(ivec_t) __attribute__((vector_size(VBYTES)));
#endif
#define vec V(vec_t)
#define ivec V(ivec_t)
#define vload(p) ((vec) * (const V(vec_any_t) *)(p))
#define vstore(p, x) (*(V(vec_any_t) *)(p) = (V(vec_any_t))(x))
#define vset(x) ((real)(x) - (vec){0})
#define vfetch(p) __builtin_prefetch(p, 0, 2)

#if VBYTES == 64 && defined(__AVX512F__)
#if REAL64
#define vload_few(p, n) ((vec)_mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1), p))
#define vstore_few(p, x, n) _mm512_mask_storeu_pd(p, (__mmask8)((1u << (n)) - 1), (__m512d)(x))
#define vfma(a, b, c) ((vec)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define vmax(a, b) ((vec)_mm512_max_pd((__m512d)(a), (__m512d)(b)))
#define vmin(a, b) ((vec)_mm512_min_pd((__m512d)(a), (__m512d)(b)))
#define vsel_lt(a, b, x, y) ((vec)_mm512_mask_blend_pd(_mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), _CMP_LT_OQ), (__m512d)(y), (__m512d)(x)))
#else
#define vload_few(p, n) ((vec)_mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p))
#define vstore_few(p, x, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), (__m512)(x))
#define vfma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vmax(a, b) ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define vmin(a, b) ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define vsel_lt(a, b, x, y) ((vec)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LT_OQ), (__m512)(y), (__m512)(x)))
#endif
#elif VBYTES == 32 && defined(__AVX2__) && defined(__FMA__)
#if REAL64
#define vfma(a, b, c) ((vec)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define vmax(a, b) ((vec)_mm256_max_pd((__m256d)(a), (__m256d)(b)))
#define vmin(a, b) ((vec)_mm256_min_pd((__m256d)(a), (__m256d)(b)))
#define vsel_negative(s, x, y) ((vec)_mm256_blendv_pd((__m256d)(y), (__m256d)(x), (__m256d)(s)))
#define vsel_lt(a, b, x, y) ((vec)_mm256_blendv_pd((__m256d)(y), (__m256d)(x), _mm256_cmp_pd((__m256d)(a), (__m256d)(b), _CMP_LT_OQ)))
#else
#define vfma(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vmax(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define vmin(a, b) ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define vsel_negative(s, x, y) ((vec)_mm256_blendv_ps((__m256)(y), (__m256)(x), (__m256)(s)))
#define vsel_lt(a, b, x, y) ((vec)_mm256_blendv_ps((__m256)(y), (__m256)(x), _mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_LT_OQ)))
#endif
#else
/* Portable words. NEON has a fused multiply-add, and so has AVX2 under vectors of 64 bytes (emulated_avx512.c); plain x86-64 rounds twice. */
#define vsel_lt(a, b, x, y) V(select)((ivec)((vec)(a) < (vec)(b)), (x), (y))
INLINE vec V(select)(ivec mask, vec x, vec y) { return (vec)((mask & (ivec)x) | (~mask & (ivec)y)); }
#define vmax(a, b) vsel_lt(b, a, a, b)
#define vmin(a, b) vsel_lt(a, b, a, b)
#if defined(__ARM_NEON) && defined(__aarch64__) && REAL64
#define vfma(a, b, c) ((vec)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define vfma(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#elif defined(__FMA__)
INLINE vec V(fused)(vec a, vec b, vec c) {
    typedef real half __attribute__((vector_size(32)));
    union {
        vec whole;
        half part[2];
    } x = {a}, y = {b}, z = {c};
    for (int i = 0; i < 2; i++) {
#if REAL64
        z.part[i] = (half)_mm256_fmadd_pd((__m256d)x.part[i], (__m256d)y.part[i], (__m256d)z.part[i]);
#else
        z.part[i] = (half)_mm256_fmadd_ps((__m256)x.part[i], (__m256)y.part[i], (__m256)z.part[i]);
#endif
    }
    return z.whole;
}
#define vfma V(fused)
#else
#define vfma(a, b, c) ((a) * (b) + (c))
#endif
#endif

#ifndef vload_few
/* In halves, each a move of its own: of a loop over the lanes GCC makes a call of memcpy. */
INLINE void V(copy_few)(real *to, const real *from, int64_t n) {
    int64_t i = 0;
    UNROLL
    for (int64_t half = LANES / 2; half > 0; half /= 2)
        if (n & half) memcpy(to + i, from + i, (size_t)half * sizeof(real)), i += half;
}

INLINE vec V(load_few)(const real *p, int64_t n) {
    real lanes[LANES] = {0};
    V(copy_few)(lanes, p, n);
    return vload(lanes);
}

INLINE void V(store_few)(real *p, vec x, int64_t n) {
    real lanes[LANES];
    vstore(lanes, x);
    V(copy_few)(p, lanes, n);
}
#define vload_few V(load_few)
#define vstore_few V(store_few)
#endif

INLINE vec V(vload_n)(const real *p, int64_t n) { return n >= LANES ? vload(p) : n > 0 ? vload_few(p, n) : vset(0); }

INLINE void V(vstore_n)(real *p, vec x, int64_t n) {
    if (n >= LANES) vstore(p, x);
    else if (n > 0) vstore_few(p, x, n);
}
#define vload_n V(vload_n)
#define vstore_n V(vstore_n)

#if VBYTES == 64 && !REAL64
#ifdef __AVX512F__
#define vlookup(table, i) ((vec)_mm512_permutexvar_ps((__m512i)(i), _mm512_load_ps(table)))
#else
#define vlookup(table, i) V(lookup)((table), (i))
INLINE vec V(lookup)(const void *table, ivec i) {
    ivec all, x;
    memcpy(&all, table, sizeof all);
    for (int64_t lane = 0; lane < LANES; lane++) x[lane] = all[i[lane] & 15];
    return (vec)x;
}
#endif
#endif

#if !REAL64
typedef int16_t V(svec_t) __attribute__((vector_size(VBYTES)));
#define svec V(svec_t)
#if VBYTES == 64 && defined(__AVX512BW__)
#define vwiden8(p) ((svec)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(p))))
#define vmadd(a, b) ((ivec)_mm512_madd_epi16((__m512i)(a), (__m512i)(b)))
#elif VBYTES == 32 && defined(__AVX2__)
#define vwiden8(p) ((svec)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p))))
#define vmadd(a, b) ((ivec)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#elif VBYTES == 16 && defined(__SSE2__)
#define vwiden8(p) ((svec)_mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)(p))), 8))
#define vmadd(a, b) ((ivec)_mm_madd_epi16((__m128i)(a), (__m128i)(b)))
#elif VBYTES == 16 && defined(__ARM_NEON) && defined(__aarch64__)
#define vwiden8(p) ((svec)vmovl_s8(vld1_s8(p)))
#define vmadd(a, b) ((ivec)vpaddq_s32(vmull_s16(vget_low_s16((int16x8_t)(a)), vget_low_s16((int16x8_t)(b))), vmull_high_s16((int16x8_t)(a), (int16x8_t)(b))))
#else
#define vwiden8(p) V(widen8)(p)
#define vmadd(a, b) ((((ivec)(a) << 16) >> 16) * (((ivec)(b) << 16) >> 16) + ((ivec)(a) >> 16) * ((ivec)(b) >> 16))
INLINE svec V(widen8)(const int8_t *p) {
    svec x;
    for (int64_t i = 0; i < 2 * LANES; i++) x[i] = p[i];
    return x;
}
#endif
INLINE ivec V(vdot4)(ivec acc, ivec u, ivec s) {
#if VBYTES == 64 && defined(__AVX512F__)
    /* Its intrinsic would need a flag, with which the compiler may use the instruction anywhere. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
    return acc;
#else
    acc += (u & 255) * (s << 24 >> 24) + (u >> 8 & 255) * (s << 16 >> 24);
    return acc + (u >> 16 & 255) * (s << 8 >> 24) + (u >> 24 & 255) * (s >> 24);
#endif
}
#define vdot4 V(vdot4)
#endif

#ifndef vsel_negative
#define vsel_negative(s, x, y) vsel_lt(s, vset(0), x, y)
#endif
#define vsignbit ((ivec)vset(-0.0))
#define vabs(x) ((vec)((ivec)(x) & ~vsignbit))
#define vnabs(x) ((vec)((ivec)(x) | vsignbit))
#define vcopysign(x, s) ((vec)((ivec)vabs(x) | ((ivec)(s) & vsignbit)))
