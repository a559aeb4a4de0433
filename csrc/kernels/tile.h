/* The register tile under every product: product[m][q][v] = init[q][v] + sum over k of a[m, k] * panel[q][k][v][:].
 *
 * mr rows, np panels beside each other, nv vectors of a panel are constants of each instance, so that the sums stay in registers; one instance serves every
 * cell. Each element is one chain of fused multiply-adds in rising k, whatever the tile's shape: a row's bits do not depend on the rows beside it. */
#if VBYTES == 64 || defined(__ARM_NEON)
#define TILE_VECTORS 24 /* accumulators of a full tile: 32 registers less operands */
#else
#define TILE_VECTORS 12 /* 16 registers */
#endif
/* Rows of a full tile of nv vectors. */
#define ROWS_MOST(nv) (TILE_VECTORS / (nv) < 8 ? TILE_VECTORS / (nv) : 8)

#define LINE_BYTES 64

typedef struct {
    const real *a; /* row m's k-th value: a[m a_row + k a_k], in blocks of `block` values of k, block_stride apart; the next tile's rows start a_next later */
    int64_t a_row, a_next, a_k, blocks, block, block_stride;
    const real *w; /* vector v of panel q at k: w + q w_panel + k w_k + v V */
    int64_t w_panel, w_k;
    const real *init;  /* np nv vectors, or NULL for zero */
    int resume;        /* go on from the sums in product instead */
    int add;           /* add the sums of this depth to those in product */
    const char *fetch; /* where the first block fetches fetch_lines lines into L2, and each of those after it fetch_step bytes further */
    int64_t fetch_step, fetch_lines;
    const real *next; /* rows_product fetches into L2 the part that it reads next while it computes with one, and at its end this; NULL: it fetches none */
} V(tile_args);

typedef void (*V(tile_fn))(const V(tile_args) *, int64_t tiles, vec *product);

INLINE void V(tile)(const V(tile_args) * t, const real *from, const int mr, const int np, const int nv, vec *product) {
    const int nw = np * nv;
    const int64_t a_row = t->a_row, a_k = t->a_k, w_panel = t->w_panel, w_k = t->w_k;
    const real *w = t->w;
    vec acc[TILE_VECTORS];
    UNROLL
    for (int i = 0; i < mr * nw; i++) acc[i] = t->resume ? product[i] : t->init ? vload(t->init + i % nw * LANES) : vset(0);
    for (int64_t b = 0; b < t->blocks; b++) {
        const real *a = from + b * t->block_stride;
        for (int64_t l = 0; l < t->fetch_lines; l++) vfetch(t->fetch + b * t->fetch_step + l * LINE_BYTES);
        _Pragma("GCC unroll 4") /* and so fewer mispredicted ends of short loops */
            for (int64_t k = 0; k < t->block; k++, a += a_k, w += w_k) {
            if (mr <= nw && mr > 1) { /* hold the rows' values, stream the vectors: mr + 1 registers beside acc */
                vec x[8];
                UNROLL
                for (int m = 0; m < mr; m++) x[m] = vset(a[m * a_row]);
                UNROLL
                for (int j = 0; j < nw; j++) {
                    vec wj = vload(w + (j / nv) * w_panel + (j % nv) * LANES);
                    UNROLL
                    for (int m = 0; m < mr; m++) acc[m * nw + j] = vfma(x[m], wj, acc[m * nw + j]);
                }
            } else { /* hold the vectors, stream the rows' values */
                vec wk[TILE_VECTORS];
                UNROLL
                for (int j = 0; j < nw; j++) wk[j] = vload(w + (j / nv) * w_panel + (j % nv) * LANES);
                UNROLL
                for (int m = 0; m < mr; m++) {
                    vec x = vset(a[m * a_row]);
                    UNROLL
                    for (int j = 0; j < nw; j++) acc[m * nw + j] = vfma(x, wk[j], acc[m * nw + j]);
                }
            }
        }
    }
    if (t->add) {
        UNROLL
        for (int i = 0; i < mr * nw; i++) acc[i] += product[i];
    }
    UNROLL
    for (int i = 0; i < mr * nw; i++) product[i] = acc[i];
}

/* clang-format off */
#define TILE(mr, np, nv) \
    static void V(tile_##mr##x##np##x##nv)(const V(tile_args) * t, int64_t tiles, vec *product) { \
        const real *a = t->a; \
        for (int64_t i = 0; i < tiles; i++, a += t->a_next, product += mr * np * nv) V(tile)(t, a, mr, np, nv, product); \
    }
TILE(1, 1, 1) TILE(2, 1, 1) TILE(3, 1, 1) TILE(4, 1, 1) TILE(5, 1, 1) TILE(6, 1, 1) TILE(7, 1, 1) TILE(8, 1, 1)
TILE(1, 1, 2) TILE(2, 1, 2) TILE(3, 1, 2) TILE(4, 1, 2) TILE(5, 1, 2) TILE(6, 1, 2)
TILE(1, 1, 3) TILE(2, 1, 3) TILE(3, 1, 3) TILE(4, 1, 3)
TILE(1, 1, 4) TILE(2, 1, 4) TILE(3, 1, 4)
TILE(1, 2, 1) TILE(2, 2, 1) TILE(3, 2, 1) TILE(1, 3, 1) TILE(2, 3, 1) TILE(3, 3, 1) TILE(1, 4, 1) TILE(2, 4, 1) TILE(3, 4, 1)
TILE(1, 2, 2) TILE(1, 3, 2) TILE(1, 4, 2) TILE(1, 5, 2) TILE(1, 6, 2) TILE(1, 2, 3) TILE(1, 3, 3) TILE(1, 4, 3) TILE(1, 2, 4) TILE(1, 3, 4)
#if TILE_VECTORS == 24
TILE(4, 2, 1) TILE(5, 2, 1) TILE(6, 2, 1) TILE(4, 3, 1) TILE(5, 3, 1) TILE(6, 3, 1) TILE(4, 4, 1) TILE(5, 4, 1) TILE(6, 4, 1)
TILE(7, 1, 2) TILE(8, 1, 2)
TILE(5, 1, 3) TILE(6, 1, 3) TILE(7, 1, 3) TILE(8, 1, 3)
TILE(4, 1, 4) TILE(5, 1, 4) TILE(6, 1, 4)
TILE(1, 7, 2) TILE(1, 8, 2) TILE(1, 5, 3) TILE(1, 6, 3) TILE(1, 7, 3) TILE(1, 8, 3) TILE(1, 4, 4) TILE(1, 5, 4) TILE(1, 6, 4)
#define WIDE_TILE(mr, nv) V(tile_##mr##x1x##nv)
#define WIDE_SINGLE(mr, np) V(tile_##mr##x##np##x1)
#define WIDE_BESIDE(np, nv) V(tile_1x##np##x##nv)
#else
#define WIDE_TILE(mr, nv) 0
#define WIDE_SINGLE(mr, np) 0
#define WIDE_BESIDE(np, nv) 0
#endif

/* tiles[nv - 1][mr - 1], mr up to ROWS_MOST(nv). */
#define TILE_AT(mr, nv) V(tile_##mr##x1x##nv)
static const V(tile_fn) V(tiles)[4][8] = {
    {TILE_AT(1, 1), TILE_AT(2, 1), TILE_AT(3, 1), TILE_AT(4, 1), TILE_AT(5, 1), TILE_AT(6, 1), TILE_AT(7, 1), TILE_AT(8, 1)},
    {TILE_AT(1, 2), TILE_AT(2, 2), TILE_AT(3, 2), TILE_AT(4, 2), TILE_AT(5, 2), TILE_AT(6, 2), WIDE_TILE(7, 2), WIDE_TILE(8, 2)},
    {TILE_AT(1, 3), TILE_AT(2, 3), TILE_AT(3, 3), TILE_AT(4, 3), WIDE_TILE(5, 3), WIDE_TILE(6, 3), WIDE_TILE(7, 3), WIDE_TILE(8, 3)},
    {TILE_AT(1, 4), TILE_AT(2, 4), TILE_AT(3, 4), WIDE_TILE(4, 4), WIDE_TILE(5, 4), WIDE_TILE(6, 4), 0, 0},
};

/* A row alone takes up to BESIDE_MOST(nv) panels at once, for more independent chains: tiles_beside[nv - 1][np - 1]. */
#define ROW_PANELS 8
#define BESIDE_MOST(nv) ((nv) == 1 ? 1 : TILE_VECTORS / (nv) < ROW_PANELS ? TILE_VECTORS / (nv) : ROW_PANELS)
static const V(tile_fn) V(tiles_beside)[4][ROW_PANELS] = {
    {V(tile_1x1x1)},
    {V(tile_1x1x2), V(tile_1x2x2), V(tile_1x3x2), V(tile_1x4x2), V(tile_1x5x2), V(tile_1x6x2), WIDE_BESIDE(7, 2), WIDE_BESIDE(8, 2)},
    {V(tile_1x1x3), V(tile_1x2x3), V(tile_1x3x3), V(tile_1x4x3), WIDE_BESIDE(5, 3), WIDE_BESIDE(6, 3), WIDE_BESIDE(7, 3), WIDE_BESIDE(8, 3)},
    {V(tile_1x1x4), V(tile_1x2x4), V(tile_1x3x4), WIDE_BESIDE(4, 4), WIDE_BESIDE(5, 4), WIDE_BESIDE(6, 4), 0, 0},
};

/* Up to four panels of one vector beside each other: tiles_single[np - 1][mr - 1], mr up to ROWS_MOST(4). */
#define SINGLES(np) {V(tile_1x##np##x1), V(tile_2x##np##x1), V(tile_3x##np##x1), WIDE_SINGLE(4, np), WIDE_SINGLE(5, np), WIDE_SINGLE(6, np)}
static const V(tile_fn) V(tiles_single)[4][6] = {SINGLES(1), SINGLES(2), SINGLES(3), SINGLES(4)};
/* clang-format on */

/* Rows, or panels beside each other, of the next tile: at most `most`, and no lone one at the end. */
INLINE int V(next_share)(int64_t left, int64_t most) {
    if (left <= most) return (int)left;
    if (left >= 2 * most) return (int)most;
    return (int)((left + 1) / 2);
}

/* Products of up to ROWS_RUN rows are kept before their equations are computed. */
#define ROWS_RUN 24

#define PART_BYTES 16384
#define WHOLE_BYTES (VBYTES == 64 ? 32768 : PART_BYTES) /* of a panel that is not worth parting */

#define FETCH_DEPTH 16 /* of a part, for each portion of what is fetched ahead: more lines at once would keep a tile's own reads waiting */

/* One part of the depth of rows_product. Each tile fetches its share of a part from `ahead` on, if that is not NULL. */
INLINE void V(rows_pass)(V(tile_args) * t, int nv, int64_t rows, const real *ahead, vec *product) {
    const int64_t most = ROWS_MOST(nv), blocks = t->blocks, block = t->block, stride = t->block_stride;
    const real *const a = t->a;
    if (ahead) {
        if (blocks == 1 && block % FETCH_DEPTH == 0) t->blocks = block / FETCH_DEPTH, t->block = FETCH_DEPTH, t->block_stride = FETCH_DEPTH * t->a_k;
        const int64_t portions = (rows + most - 1) / most * t->blocks;
        t->fetch = (const char *)ahead, t->fetch_lines = (PART_BYTES / LINE_BYTES + portions - 1) / portions, t->fetch_step = t->fetch_lines * LINE_BYTES;
    }
    while (rows > 0) {
        const int64_t mr = V(next_share)(rows, most), tiles = rows >= 2 * most && !ahead ? rows / most - 1 : 1;
        t->a_next = mr * t->a_row;
        V(tiles)[nv - 1][mr - 1](t, tiles, product);
        t->a += tiles * t->a_next;
        product += tiles * mr * nv;
        rows -= tiles * mr;
        if (ahead) t->fetch += t->blocks * t->fetch_step;
    }
    t->a = a;
    if (ahead) t->blocks = blocks, t->block = block, t->block_stride = stride, t->fetch_lines = 0;
}

/* Rows [0, rows) against one panel of nv vectors: product[row][v]. A large panel that several tiles read is read in parts that stay in L1. *t is left as it
 * was. */
static void V(rows_product)(V(tile_args) * t, int nv, int64_t rows, vec *product) {
    const int plain = t->blocks == 1;
    int64_t *const count = plain ? &t->block : &t->blocks;
    const int64_t total = *count, a_step = plain ? t->a_k : t->block_stride, w_step = (plain ? 1 : t->block) * t->w_k;
    const int64_t bytes = nv * VBYTES * (plain ? 1 : t->block), part = plain ? PART_BYTES / bytes / FETCH_DEPTH * FETCH_DEPTH : PART_BYTES / bytes;
    const int64_t most = rows <= ROWS_MOST(nv) || total * bytes <= WHOLE_BYTES || part < 1 ? total : part;
    const real *const a = t->a, *const w = t->w;
    int64_t done = 0;
    do { /* once even if there is no depth */
        *count = total - done < most ? total - done : most;
        t->a = a + done * a_step, t->w = w + done * w_step, t->resume = done > 0;
        done += most;
        V(rows_pass)(t, nv, rows, t->next && done < total ? w + done * w_step : t->next, product);
    } while (done < total);
    *count = total, t->a = a, t->w = w, t->resume = 0;
}

/* A row alone against np <= ROW_PANELS panels of nv vectors. *t is left as it was. */
static void V(row_product)(V(tile_args) * t, int np, int nv, vec *product) {
    const real *const w = t->w, *const init = t->init;
    for (int q = 0; q < np;) {
        const int n = V(next_share)(np - q, BESIDE_MOST(nv));
        V(tiles_beside)[nv - 1][n - 1](t, 1, product + q * nv);
        t->w += n * t->w_panel;
        if (init) t->init += n * nv * LANES;
        q += n;
    }
    t->w = w, t->init = init;
}

/* Rows against one panel, or a row alone against np > 1. */
INLINE void V(any_product)(V(tile_args) * t, int np, int nv, int64_t rows, vec *product) {
    if (np > 1) V(row_product)(t, np, nv, product);
    else V(rows_product)(t, nv, rows, product);
}

/* A walk over unit panels [p0, p1), `wide` of them a whole panel of the kernel: the narrower rest, then up to `most` whole panels at a time. Walking from the
 * other end every other step meets the part of a large kernel that is still in cache. */
typedef struct {
    int64_t p0, whole, left;
    int wide, rest, most, backwards;
} V(walk);

INLINE V(walk) V(walk_over)(int64_t p0, int64_t p1, int wide, int most, int backwards) {
    const int64_t left = (p1 - p0) / wide;
    return (V(walk)){p0, left * wide, left, wide, (int)(p1 - p0 - left * wide), most, backwards};
}

/* The next np panels of `units` unit panels each, from unit panel *p on; 0 at the end. */
INLINE int V(walk_on)(V(walk) * w, int64_t *p, int *units) {
    *units = w->rest ? w->rest : w->wide;
    if (w->rest) {
        *p = w->p0 + w->whole;
        w->rest = 0;
        return 1;
    }
    const int np = V(next_share)(w->left, w->most);
    *p = w->p0 + (w->backwards ? w->left - np : w->whole / w->wide - w->left) * w->wide;
    w->left -= np;
    return np;
}
