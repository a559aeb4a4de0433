/* Products with weights that are stored in fewer bits than the arithmetic has, of float alone: a large kernel's bytes are what a row alone waits for.
 *
 * bfloat16: the upper half of a float. The chain of fused multiply-adds is that of tile.h, over the decoded weights: the same bits as floats of these values.
 * Panels are [k / 2][nv][V] words, word i of which holds vector 2 i in its lower and 2 i + 1 in its upper half, over the vectors of k, then of k + 1.
 *
 * int8: weight = scale q, |q| <= 127, a scale for each column. A row of the other side becomes integers too, of as many bits as its sums leave free, so that a
 * vector multiplies twice as many numbers as floats would be. Integer sums are exact: the same for any order of the terms. Scales, one a column, stand before
 * the panels, which are [k / 2][nv][V][2]. A row or a column with a number that is not finite gives NaN.
 *
 * In both the depth is even, filled up with a zero.
 *
 * DOT4: the same integers, for instructions that multiply unsigned by signed bytes and add four products at once. A row's q + 2^15 = 256 high + low, in bytes:
 * sum(w q) = 256 (sum(w high) - 128 sum(w)) + sum(w low), in sums that wrap around and so end as those of INT8. Panels are [k / 4][nv][V][4], filled up with
 * zeros; between them and the scales stand -128 sum(w) of each column, where the sums of high begin. */
#if REAL64
typedef struct {
    int none;
} V(operands);
#define stored(k) 0
#define stored_operands(...) ((V(operands)){0})
#define stored_product(...) ((void)0)
#else
#define stored(k) ((k)->weights > WEIGHTS_SAME && (k)->weights < WEIGHTS_SPLIT1)
#define EVEN(depth) (((depth) + 1) & ~(int64_t)1)
#define FOURS(depth) (((depth) + 3) & ~(int64_t)3)
#define INTEGER_ROW(depth) (((depth) + 15) & ~(int64_t)15)
#define SMALLEST 1e-30f /* below, numbers count as zeros: their reciprocals would overflow */

/* Rows of the other side, at most ROWS_RUN, and the panels. */
typedef struct {
    int weights;
    int64_t depth, a_row;
    const real *a, *scales;
    const int32_t *starts; /* of DOT4, as scales */
    const char *panels;
    int16_t *q;    /* [rows][INTEGER_ROW(depth)], of DOT4 all high bytes of a row, then all low ones */
    real *factors; /* [rows]: a = factor q */
} V(operands);

INLINE ivec V(nearest)(vec x) { /* ties to even, |x| < 2^22 */
    const vec shift = vset(12582912);
    return (ivec)(x + shift) - (ivec)shift;
}

INLINE real V(magnitude)(ivec top) { /* the greatest of magnitudes, NaN if one was */
    int32_t most = 0;
    real value;
    for (int64_t i = 0; i < LANES; i++) most = top[i] > most ? top[i] : most;
    memcpy(&value, &most, sizeof(value));
    return value;
}

/* Magnitudes compare as their bits do. */
INLINE ivec V(greater)(ivec top, vec x) {
    const ivec bits = (ivec)vabs(x);
    const ivec own = top > bits;
    return (top & own) | (bits & ~own);
}

/* One row as integers; returns its factor. */
static real V(integer_row)(const real *a, int64_t depth, int weights, int16_t *q) {
    typedef int16_t narrow __attribute__((vector_size(VBYTES / 2), aligned(2), may_alias));
    typedef uint8_t bytes __attribute__((vector_size(VBYTES / 4), aligned(1), may_alias));
    uint8_t *const high = (uint8_t *)q, *const low = high + INTEGER_ROW(depth);
    const int64_t fits = INT32_MAX / (127 * depth + 1);
    const real most = fits < INT16_MAX ? (real)fits : INT16_MAX;
    ivec top = {0};
    for (int64_t k = 0; k < depth; k += LANES) top = V(greater)(top, vload_n(a + k, depth - k));
    const real largest = V(magnitude)(top);
    const int finite = largest <= FLT_MAX;
    const vec inverse = vset(finite && largest > SMALLEST ? most / largest : 0);
    if (weights == WEIGHTS_INT8) memset(q + INTEGER_ROW(depth) - 16, 0, 16 * sizeof(*q));
    for (int64_t k = 0; k < depth; k += LANES) {
        const vec x = finite ? vload_n(a + k, depth - k) : vset(0);
        const ivec integers = V(nearest)(x * inverse), shifted = integers + 32768;
        if (weights == WEIGHTS_INT8) *(narrow *)(q + k) = __builtin_convertvector(integers, narrow);
        else *(bytes *)(high + k) = __builtin_convertvector(shifted >> 8, bytes), *(bytes *)(low + k) = __builtin_convertvector(shifted & 255, bytes);
    }
    return finite ? largest > SMALLEST ? largest / most : 0 : NAN;
}

/* What the products of some rows with all panels of `vectors` vectors in sum need; `room` of int8: see INTEGER_ROW. */
static V(operands) V(stored_operands)(int weights, const void *panels, int64_t vectors, int64_t depth, void *room, const void *a, int64_t a_row, int64_t rows) {
    V(operands) o = {.weights = weights, .depth = depth, .a_row = a_row, .a = a, .scales = panels, .panels = panels};
    if (weights != WEIGHTS_BFLOAT16) {
        o.starts = (const int32_t *)(o.scales + vectors * LANES);
        o.panels = (const char *)(o.starts + (weights == WEIGHTS_DOT4 ? vectors * LANES : 0));
        o.factors = room;
        o.q = (int16_t *)(o.factors + ROWS_RUN + 8);
        for (int64_t r = 0; r < rows; r++) o.factors[r] = V(integer_row)(o.a + r * a_row, depth, weights, o.q + r * INTEGER_ROW(depth));
    }
    return o;
}

/* -- bfloat16 -- */

/* `ks` steps, 1 or 2, of the chains of one row. */
INLINE void V(halves_step)(const real *a, const char *w, int64_t w_panel, const int ks, const int np, const int nv, vec *acc) {
    const ivec upper = (ivec){0} + (int32_t)0xffff0000;
    vec x[2];
    UNROLL
    for (int k = 0; k < ks; k++) x[k] = vset(a[k]);
    UNROLL
    for (int j = 0; j < np * nv; j++) {
        const ivec word = (ivec)vload(w + j / nv * w_panel + j % nv * VBYTES);
        const int low = j % nv * 2, high = low + 1;
        vec *const own = acc + j / nv * nv;
        if (low < ks * nv) own[low % nv] = vfma(x[low / nv], (vec)(word << 16), own[low % nv]);
        if (high < ks * nv) own[high % nv] = vfma(x[high / nv], (vec)(word & upper), own[high % nv]);
    }
}

INLINE void V(halves_row)(const real *a, int64_t depth, const char *w, const real *init, const int np, const int nv, vec *product) {
    const int64_t w_panel = EVEN(depth) / 2 * nv * VBYTES;
    vec acc[8];
    int64_t k = 0;
    UNROLL
    for (int j = 0; j < np * nv; j++) acc[j] = init ? vload(init + j * LANES) : vset(0);
    for (; k + 2 <= depth; k += 2, w += nv * VBYTES) V(halves_step)(a + k, w, w_panel, 2, np, nv, acc);
    if (k < depth) V(halves_step)(a + k, w, w_panel, 1, np, nv, acc);
    UNROLL
    for (int j = 0; j < np * nv; j++) product[j] = acc[j];
}

/* Rows against one panel, a part of whose depth at a time is decoded for the tiles. */
static void V(halves_rows)(const V(operands) * o, const char *w, const real *init, int nv, int64_t rows, vec *product) {
    real part[PART_BYTES / sizeof(real)] __attribute__((aligned(64)));
    const ivec upper = (ivec){0} + (int32_t)0xffff0000;
    const int64_t most = PART_BYTES / (nv * VBYTES) & ~1;
    V(tile_args)
    t = {.a = o->a, .a_row = o->a_row, .a_k = 1, .blocks = 1, .w = part, .w_panel = 0, .w_k = nv * LANES, .init = init};
    for (int64_t k = 0; k < o->depth; k += most, t.a += most, t.resume = 1) {
        t.block = o->depth - k < most ? o->depth - k : most;
        for (int64_t i = 0; i < EVEN(t.block) / 2 * nv; i++, w += VBYTES) {
            const ivec word = (ivec)vload(w);
            vstore(part + 2 * i * LANES, (vec)(word << 16));
            vstore(part + (2 * i + 1) * LANES, (vec)(word & upper));
        }
        V(rows_pass)(&t, nv, rows, 0, product);
    }
}

/* -- int8 -- */

INLINE ivec V(again)(const void *q) { /* four bytes, again and again */
    int32_t word;
    memcpy(&word, q, sizeof(word));
    return (ivec){0} + word;
}

INLINE void V(bytes_row)(const int16_t *q, int64_t depth, const char *w, const int np, const int nv, ivec *sums) {
    const int64_t w_panel = EVEN(depth) * nv * LANES;
    ivec acc[8] = {{0}};
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < depth; k += 2, w += 2 * nv * LANES) {
        const svec x = (svec)V(again)(q + k);
        UNROLL
        for (int j = 0; j < np * nv; j++) acc[j] += vmadd(vwiden8((const int8_t *)w + j / nv * w_panel + j % nv * 2 * LANES), x);
    }
    UNROLL
    for (int j = 0; j < np * nv; j++) sums[j] = acc[j];
}

/* sums += of mr rows over `pairs` pairs of k, with weights that are int16 already. */
INLINE void V(bytes_tile)(const int16_t *q, int64_t q_row, int64_t pairs, const int16_t *w, const int mr, const int nv, ivec *sums) {
    ivec acc[9];
    UNROLL
    for (int i = 0; i < mr * nv; i++) acc[i] = sums[i];
    for (int64_t p = 0; p < pairs; p++, q += 2, w += nv * 2 * LANES) {
        svec wp[4];
        UNROLL
        for (int j = 0; j < nv; j++) wp[j] = (svec)vload(w + j * 2 * LANES);
        UNROLL
        for (int m = 0; m < mr; m++) {
            const svec x = (svec)V(again)(q + m * q_row);
            UNROLL
            for (int j = 0; j < nv; j++) acc[m * nv + j] += vmadd(wp[j], x);
        }
    }
    UNROLL
    for (int i = 0; i < mr * nv; i++) sums[i] = acc[i];
}

/* sums of mr rows with np panels: several only of a row alone. Not unrolled: GCC would copy all sums at each step. */
INLINE void V(dots)(const uint8_t *high, int64_t depth, const char *w, const int32_t *starts, const int mr, const int np, const int nv, ivec *sums) {
    const int64_t row = INTEGER_ROW(depth), w_panel = FOURS(depth) * nv * LANES;
    const int n = np * nv;
    ivec acc[12], low[12]; /* with four vectors, two bytes and one spare the 32 registers of AVX-512 */
    UNROLL
    for (int i = 0; i < mr * n; i++) acc[i] = (ivec)vload(starts + i % n * LANES), low[i] = (ivec){0};
    _Pragma("GCC unroll 1") for (int64_t k = 0; k < depth; k += 4, high += 4, w += nv * 4 * LANES) {
        ivec wk[8];
        UNROLL
        for (int j = 0; j < n; j++) wk[j] = (ivec)vload(w + j / nv * w_panel + j % nv * 4 * LANES);
        UNROLL
        for (int m = 0; m < mr; m++) {
            const ivec x = V(again)(high + m * 2 * row), rest = V(again)(high + m * 2 * row + row);
            UNROLL
            for (int j = 0; j < n; j++) acc[m * n + j] = vdot4(acc[m * n + j], x, wk[j]), low[m * n + j] = vdot4(low[m * n + j], rest, wk[j]);
        }
    }
    UNROLL
    for (int i = 0; i < mr * n; i++) sums[i] = (acc[i] << 8) + low[i];
}

/* clang-format off */
#define STORED(np, nv) \
    static void V(halves_##np##x##nv)(const real *a, int64_t depth, const char *w, const real *init, vec *product) { V(halves_row)(a, depth, w, init, np, nv, product); } \
    static void V(bytes_##np##x##nv)(const int16_t *q, int64_t depth, const char *w, ivec *sums) { V(bytes_row)(q, depth, w, np, nv, sums); }
#define STORED_TILE(mr, nv) \
    static void V(bytes_tile_##mr##x##nv)(const int16_t *q, int64_t q_row, int64_t pairs, const int16_t *w, ivec *sums) { V(bytes_tile)(q, q_row, pairs, w, mr, nv, sums); }
#define DOTS(mr, np, nv) \
    static void V(dots_##mr##x##np##x##nv)(const uint8_t *high, int64_t depth, const char *w, const int32_t *starts, ivec *sums) { V(dots)(high, depth, w, starts, mr, np, nv, sums); }
STORED(1, 1) STORED(1, 2) STORED(1, 3) STORED(1, 4) STORED(2, 1) STORED(2, 2) STORED(2, 3) STORED(2, 4)
STORED_TILE(1, 1) STORED_TILE(1, 2) STORED_TILE(1, 3) STORED_TILE(1, 4) STORED_TILE(3, 3) STORED_TILE(2, 4) STORED_TILE(4, 1) STORED_TILE(4, 2)
DOTS(1, 1, 1) DOTS(2, 1, 1) DOTS(3, 1, 1) DOTS(4, 1, 1) DOTS(1, 1, 2) DOTS(2, 1, 2) DOTS(3, 1, 2) DOTS(4, 1, 2)
DOTS(1, 1, 3) DOTS(2, 1, 3) DOTS(3, 1, 3) DOTS(4, 1, 3) DOTS(1, 1, 4) DOTS(2, 1, 4) DOTS(3, 1, 4) DOTS(1, 2, 1) DOTS(1, 2, 2) DOTS(1, 2, 3) DOTS(1, 2, 4)
#define BOTH(name) {{V(name##_1x1), V(name##_2x1)}, {V(name##_1x2), V(name##_2x2)}, {V(name##_1x3), V(name##_2x3)}, {V(name##_1x4), V(name##_2x4)}}
/* [nv - 1][np - 1] */
static void (*const V(halves)[4][2])(const real *, int64_t, const char *, const real *, vec *) = BOTH(halves);
static void (*const V(bytes)[4][2])(const int16_t *, int64_t, const char *, ivec *) = BOTH(bytes);
/* [nv - 1][whether of more than one row] */
static void (*const V(bytes_tiles)[4][2])(const int16_t *, int64_t, int64_t, const int16_t *, ivec *) = {
    {V(bytes_tile_1x1), V(bytes_tile_4x1)}, {V(bytes_tile_1x2), V(bytes_tile_4x2)}, {V(bytes_tile_1x3), V(bytes_tile_3x3)}, {V(bytes_tile_1x4), V(bytes_tile_2x4)}};
/* [nv - 1][rows - 1], of two panels beside each other [nv - 1] */
typedef void (*V(dots_fn))(const uint8_t *, int64_t, const char *, const int32_t *, ivec *);
#define DOTS_OF(nv) V(dots_1x1x##nv), V(dots_2x1x##nv), V(dots_3x1x##nv)
static const V(dots_fn) V(dots_rows)[4][4] = {{DOTS_OF(1), V(dots_4x1x1)}, {DOTS_OF(2), V(dots_4x1x2)}, {DOTS_OF(3), V(dots_4x1x3)}, {DOTS_OF(4)}};
static const V(dots_fn) V(dots_beside)[4] = {V(dots_1x2x1), V(dots_1x2x2), V(dots_1x2x3), V(dots_1x2x4)};
/* clang-format on */

/* Rows against one panel, a part of whose depth at a time is widened for the tiles. */
static void V(bytes_rows)(const V(operands) * o, const char *w, int nv, int64_t rows, ivec *sums) {
    int16_t part[PART_BYTES / sizeof(int16_t)] __attribute__((aligned(64)));
    const int64_t most = PART_BYTES / (nv * VBYTES), total = EVEN(o->depth) / 2, q_row = INTEGER_ROW(o->depth);
    const int mr = nv == 4 ? 2 : nv == 3 ? 3 : 4;
    memset(sums, 0, rows * nv * sizeof(*sums));
    for (int64_t p = 0; p < total; p += most) {
        const int64_t pairs = total - p < most ? total - p : most;
        for (int64_t i = 0; i < pairs * nv; i++, w += 2 * LANES) vstore(part + i * 2 * LANES, (vec)vwiden8((const int8_t *)w));
        for (int64_t r = 0, n; r < rows; r += n) {
            n = rows - r < mr ? 1 : mr;
            V(bytes_tiles)[nv - 1][n > 1](o->q + r * q_row + 2 * p, q_row, pairs, part, sums + r * nv);
        }
    }
}

/* Rows against one panel, or a row against np panels, two beside each other. Rows read a panel from L1 or L2 as it is: there is nothing to widen. */
static void V(dots_product)(const V(operands) * o, const char *w, const int32_t *starts, int np, int nv, int64_t rows, ivec *sums) {
    const int64_t panel = FOURS(o->depth) * LANES;
    int n;
    for (int j = 0; rows == 1 && j < np * nv; j += n * nv) {
        n = np * nv - j > nv ? 2 : 1;
        (n == 2 ? V(dots_beside)[nv - 1] : V(dots_rows)[nv - 1][0])((const uint8_t *)o->q, o->depth, w + j * panel, starts + j * LANES, sums + j);
    }
    for (int64_t r = 0; rows > 1 && r < rows; r += n) {
        n = V(next_share)(rows - r, nv == 4 ? 3 : 4);
        V(dots_rows)[nv - 1][n - 1]((const uint8_t *)(o->q + r * INTEGER_ROW(o->depth)), o->depth, w, starts, sums + r * nv);
    }
}

/* product[row][panel][v] = init + rows . panels: np panels (several only of a row alone) of nv vectors from vector `first` on. */
static void V(stored_product)(const V(operands) * o, const real *init, int64_t first, int np, int nv, int64_t rows, vec *product) {
    const int dots = o->weights == WEIGHTS_DOT4, bytes = dots || o->weights == WEIGHTS_INT8;
    const int64_t panel = dots ? FOURS(o->depth) * LANES : EVEN(o->depth) * LANES * (bytes ? 1 : 2);
    const char *w = o->panels + first * panel;
    ivec sums[ROWS_RUN * 4];
    if (dots) V(dots_product)(o, w, o->starts + first * LANES, np, nv, rows, sums);
    for (int q = 0, n; !dots && rows == 1 && q < np * nv; q += n * nv, w += n * nv * panel) {
        n = np * nv - q > nv ? 2 : 1;
        if (bytes) V(bytes)[nv - 1][n - 1](o->q, o->depth, w, sums + q);
        else V(halves)[nv - 1][n - 1](o->a, o->depth, w, init ? init + q * LANES : 0, product + q);
    }
    if (rows > 1 && bytes && !dots) V(bytes_rows)(o, w, nv, rows, sums);
    else if (rows > 1 && !bytes) V(halves_rows)(o, w, init, nv, rows, product);
    for (int64_t i = 0; bytes && i < rows * np * nv; i++) {
        const int64_t column = i % (np * nv) * LANES;
        const vec unit = vset(o->factors[i / (np * nv)]) * vload(o->scales + first * LANES + column);
        product[i] = vfma(__builtin_convertvector(sums[i], vec), unit, init ? vload(init + column) : vset(0));
    }
}

/* -- packing: shape and order as of pack -- */

INLINE uint16_t V(upper_half)(real x) { /* to nearest, ties to even; NaN stays */
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return x != x ? (uint16_t)(bits >> 16 | 0x40) : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The scale of a vector of columns; *inverse makes integers of them. */
INLINE vec V(column_scales)(const real *from, int64_t w_row, int64_t depth, int64_t left, vec *inverse) {
    ivec top = {0};
    for (int64_t k = 0; k < depth; k++) top = V(greater)(top, vload_n(from + k * w_row, left));
    vec scale = vset(0);
    for (int64_t i = 0; i < LANES; i++) {
        const real largest = ((vec)top)[i];
        const int plain = largest > SMALLEST && largest <= FLT_MAX;
        scale[i] = plain ? largest / 127 : largest <= FLT_MAX ? 0 : NAN;
        (*inverse)[i] = plain ? 127 / largest : 0;
    }
    return scale;
}

static void V(pack_stored)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order, int weights) {
    const int64_t depth = shape[0], units = shape[1], vectors = shape[2], wide = vectors == 1 ? 4 : vectors;
    const int64_t total = (units + LANES - 1) / LANES * vectors;
    const int64_t group = weights == WEIGHTS_DOT4 ? 4 : 2, filled = (depth + group - 1) / group * group;
    int32_t *const starts = (int32_t *)panels + total * LANES;
    int8_t *const integers = (int8_t *)(starts + (weights == WEIGHTS_DOT4 ? total * LANES : 0));
    for (int64_t j = 0; j < total; j++) {
        const int64_t p = j / vectors, first = j / wide * wide, nv = total - first < wide ? total - first : wide, v = j - first, left = units - p * LANES;
        const real *from = (const real *)w + order[j % vectors] * units + p * LANES;
        vec inverse = vset(0);
        ivec sum = {0};
        if (weights != WEIGHTS_BFLOAT16) vstore((real *)panels + j * LANES, V(column_scales)(from, w_row, depth, left, &inverse));
        for (int64_t k = 0; k < depth; k++) {
            const vec x = vload_n(from + k * w_row, left);
            const int64_t place = first * filled + k / group * nv * group, both = k % 2 * nv + v;
            if (weights != WEIGHTS_BFLOAT16) {
                const ivec q = V(nearest)(x * inverse);
                for (int64_t i = 0; i < LANES; i++) integers[(place + group * v) * LANES + group * i + k % group] = (int8_t)q[i];
                sum += q;
            } else
                for (int64_t i = 0; i < LANES; i++) ((uint16_t *)panels)[(place + both / 2 * 2) * LANES + 2 * i + both % 2] = V(upper_half)(x[i]);
        }
        if (weights == WEIGHTS_DOT4) vstore(starts + j * LANES, (vec)(-128 * sum));
    }
}
#define stored_operands V(stored_operands)
#define stored_product V(stored_product)
#endif
