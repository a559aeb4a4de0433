/* C = A . P (+ bias, + C, activation), C += A^T . B, and the packing of P. */

/* One row of a tile to C, of which `left` columns exist. */
INLINE void V(matmul_store)(const rnnf_matmul *g, real *c, const vec *product, int nv, int64_t left) {
    for (int v = 0; v < nv; v++, c += LANES, left -= LANES) {
        vec y = g->accumulate ? vload_n(c, left) + product[v] : product[v];
        vstore_n(c, g->act == ACT_linear ? y : V(activate)(g->act, y), left);
    }
}

/* Rows [r0, r1) of np panels of nv vectors; np > 1 only for a row alone. */
static void V(matmul_panels)(const rnnf_matmul *g, const int np, const int nv, int64_t r0, int64_t r1, int64_t panel) {
    const int64_t depth = g->blocks * g->block, column = panel * g->nv * LANES;
    V(tile_args)
    t = {.a_row = g->a_row,
         .a_k = 1,
         .blocks = g->blocks,
         .block = g->block,
         .block_stride = g->block_stride,
         .w = (const real *)g->panels + panel * depth * g->nv * LANES,
         .w_panel = depth * nv * LANES,
         .w_k = nv * LANES,
         .init = g->bias ? (const real *)g->bias + column : 0};
    for (int64_t r = r0; r < r1;) {
        const int64_t n = V(next_share)(r1 - r, ROWS_RUN);
        vec product[ROWS_RUN * 4];
        t.a = (const real *)g->a + r * g->a_row;
        V(any_product)(&t, np, nv, n, product);
        for (int64_t m = 0; m < n; m++) V(matmul_store)(g, (real *)g->c + (r + m) * g->c_row + column, product + m * np * nv, np * nv, g->cols - column);
        r += n;
    }
}

/* Whether the panels are of bfloat16 parts, and of how many. float64 has none. */
#define parts_of(k) (REAL64 || (k)->weights < WEIGHTS_SPLIT1 ? 0 : (k)->weights - WEIGHTS_SPLIT1 + 1)

#if !REAL64
/* The same by tiles of bfloat16. */
static void V(matmul_split)(const rnnf_matmul *g, int64_t r0, int64_t r1, int64_t p0, int64_t p1) {
    const int64_t full = g->nv * LANES;
    for (int64_t r = r0, n; r < r1; r += n) {
        n = r1 - r < SPLIT_ROWS ? r1 - r : SPLIT_ROWS;
        g->tiles->rows(&(rnnf_split_rows){g->parts, (const float *)g->a + r * g->a_row, g->a_row, g->blocks, g->block, g->block_stride, n, parts_of(g)});
        for (int64_t p = p0; p < p1; p++) {
            const int64_t column = p * full, vectors = (g->cols - column + LANES - 1) / LANES, nv = vectors < g->nv ? vectors : g->nv;
            vec product[SPLIT_ROWS * 4];
            g->tiles->product(&(rnnf_split_product){.parts = g->parts,
                                                    .panels = g->panels,
                                                    .index = p,
                                                    .full = full,
                                                    .depth = g->blocks * g->block,
                                                    .init = g->bias ? (const float *)g->bias + column : 0,
                                                    .c = (float *)product,
                                                    .c_row = nv * LANES,
                                                    .rows = n,
                                                    .columns = nv * LANES,
                                                    .count = parts_of(g)});
            for (int64_t m = 0; m < n; m++) V(matmul_store)(g, (real *)g->c + (r + m) * g->c_row + column, product + m * nv, (int)nv, g->cols - column);
        }
    }
}
#endif
/* The same with weights stored otherwise. */
static void V(matmul_stored)(const rnnf_matmul *g, int64_t r0, int64_t r1, int64_t p0, int64_t p1) {
    const int64_t total = (g->cols + LANES - 1) / LANES;
    for (int64_t r = r0, n; r < r1; r += n) {
        n = V(next_share)(r1 - r, ROWS_RUN);
        const V(operands) o = stored_operands(g->weights, g->panels, total, g->block, g->parts, (const real *)g->a + r * g->a_row, g->a_row, n);
        for (int64_t p = p0, np; p < p1; p += np) {
            const int64_t first = p * g->nv, left = total - first, whole = left / g->nv < p1 - p ? left / g->nv : p1 - p;
            const int nv = (int)(left < g->nv ? left : g->nv);
            vec product[ROWS_RUN * 4];
            np = n == 1 && whole > 1 ? V(next_share)(whole, ROW_PANELS) : 1;
            stored_product(&o, g->bias ? (const real *)g->bias + first * LANES : 0, first, (int)np, nv, n, product);
            for (int64_t m = 0; m < n; m++)
                V(matmul_store)(g, (real *)g->c + (r + m) * g->c_row + first * LANES, product + m * np * nv, (int)np * nv, g->cols - first * LANES);
        }
        (void)o;
    }
}

#define RUN_VALUES (1 << 20) /* of A: a part of the L3 cache */

/* Rows in runs, panels inside a run: each part of a panel is read from memory once a run, A once a panel from the caches. */
static void V(matmul)(const rnnf_matmul *g, int64_t r0, int64_t r1, int64_t p0, int64_t p1) {
#if !REAL64
    if (parts_of(g)) {
        V(matmul_split)(g, r0, r1, p0, p1);
        return;
    }
#endif
    if (stored(g)) {
        V(matmul_stored)(g, r0, r1, p0, p1);
        return;
    }
    for (int64_t r = r0; r < r1;) {
        const int64_t end = r + V(next_share)(r1 - r, RUN_VALUES / (g->blocks * g->block + 1) + ROWS_RUN);
        for (int64_t p = p0; p < p1;) {
            const int64_t vectors = (g->cols - p * g->nv * LANES + LANES - 1) / LANES, whole = vectors / g->nv < p1 - p ? vectors / g->nv : p1 - p;
            const int nv = (int)(vectors < g->nv ? vectors : g->nv), np = r1 - r0 == 1 && whole > 1 ? V(next_share)(whole, ROW_PANELS) : 1;
            V(matmul_panels)(g, np, nv, r, end, p);
            p += np;
        }
        r = end;
    }
}

#define OUTER_RUN 128          /* rows reduced at a time: B's slice of a panel and A's slice of a tile stay in L1 */
#define OUTER_FAR (128 * 1024) /* bytes of C that are more than stays near while B and A pass by */

/* Sums of one run of rows, product[m][np][nv], to the rows of C from k on. */
INLINE void V(outer_store)(const rnnf_outer *g, int np, int nv, int64_t panel, int64_t k, int64_t mr, const vec *product, int add) {
    for (int i = 0; i < np * nv; i++) {
        const int64_t p = panel + (nv == 1 ? i : 0), v = nv == 1 ? 0 : i;
        const int64_t left = g->gated ? g->cols - p * LANES : g->cols - (p * nv + v) * LANES;
        real *c = (real *)g->c + k * g->c_row + p * g->c_panel + g->order[v] * g->c_vector;
        for (int64_t m = 0; m < mr && left > 0; m++, c += g->c_row) {
            const vec sum = product[m * np * nv + i];
            vstore_n(c, add ? vload_n(c, left) + sum : sum, left);
        }
    }
}

/* Fetch what the next tile adds to and some of what the next panel reads. */
INLINE void V(outer_fetch)(const rnnf_outer *g, int64_t panel, int64_t k, int64_t mr, const real *next, int64_t values) {
    for (int64_t v = 0; v < g->nv; v++)
        for (int64_t m = 0; m < mr; m++) __builtin_prefetch((real *)g->c + (k + m) * g->c_row + panel * g->c_panel + g->order[v] * g->c_vector, 1, 3);
    for (int64_t i = 0; i < values; i += 64 / (int64_t)sizeof(real)) __builtin_prefetch(next + i, 0, 2);
}

/* np panels of nv vectors; np > 1 only for one vector. */
static void V(outer_panels)(const rnnf_outer *g, const int np, int64_t rows, int64_t row0, int64_t panel, int64_t most, int add) {
    const int nv = (int)g->nv, far = nv > 1 && g->k * g->c_row * (int64_t)sizeof(real) > OUTER_FAR;
    const int64_t ahead = rows * g->b_row * most / (g->k ? g->k : 1);
    V(tile_args)
    t = {.a_row = 1, .blocks = 1, .block = rows, .w = (const real *)g->b + panel * g->b_panel + row0 * g->b_row, .w_panel = g->b_panel, .w_k = g->b_row};
    const real *next = t.w + g->b_panel;
    for (int64_t k = 0; k < g->k;) {
        vec product[TILE_VECTORS];
        const int64_t first = k - k % TILE_VECTORS;
        t.a_k = g->k - first < TILE_VECTORS ? g->k - first : TILE_VECTORS;
        t.a = (const real *)g->scratch + first * rows + (k - first);
        const int64_t mr = V(next_share)(first + t.a_k - k, most);
        if (far) V(outer_fetch)(g, panel, k, mr, next, ahead);
        (nv == 1 ? V(tiles_single)[np - 1] : V(tiles)[nv - 1])[mr - 1](&t, 1, product);
        V(outer_store)(g, np, nv, panel, k, mr, product, add);
        next += ahead;
        k += mr;
    }
}

/* The same with an A of ones and K = 1, for one panel. */
static void V(outer_sums)(const rnnf_outer *g, int64_t rows, int64_t row0, int64_t panel, int add) {
    const real *b = (const real *)g->b + panel * g->b_panel + row0 * g->b_row;
    vec sums[4] = {vset(0), vset(0), vset(0), vset(0)};
    for (int64_t r = 0; r < rows; r++, b += g->b_row) {
        UNROLL
        for (int v = 0; v < 4; v++)
            if (v < g->nv) sums[v] += vload(b + v * LANES);
    }
    V(outer_store)(g, 1, (int)g->nv, panel, 0, 1, sums, add);
}

/* scratch = A's run with TILE_VECTORS of k side by side, of which tiles take parts: [k / TILE_VECTORS][row][TILE_VECTORS], the last ones as wide as is left.
 * A row is copied by whole vectors; what they hold beyond it is written over by the next one. */
static void V(outer_pack)(const rnnf_outer *g, int64_t rows, int64_t row0) {
    real *to = g->scratch;
    const int64_t safe = g->k >= LANES && g->a_row >= LANES ? rows - 1 : 0; /* rows behind which a whole vector can be read */
    for (int64_t k = 0; k < g->k; k += TILE_VECTORS) {
        const real *from = (const real *)g->a + row0 * g->a_row + k;
        const int64_t wide = g->k - k < TILE_VECTORS ? g->k - k : TILE_VECTORS;
        for (int64_t r = 0; r < rows; r++, from += g->a_row, to += wide)
            for (int64_t i = 0; i < wide; i += LANES) vstore(to + i, r < safe ? vload(from + i) : vload_n(from + i, wide - i));
    }
}

/* The sum and those that follow it, side by side, so that what they read of B is read from memory once. */
static void V(outer)(const rnnf_outer *first, int64_t rows, int64_t p0, int64_t p1) {
    int64_t row0 = 0;
    do { /* once even if there are no rows */
        const int64_t run = rows - row0 < OUTER_RUN ? rows - row0 : OUTER_RUN;
        for (const rnnf_outer *g = first; g; g = g->next)
            if (g->a) V(outer_pack)(g, run, row0);
        for (int64_t p = p0; p < p1; p++)
            for (const rnnf_outer *g = first; g; g = g->next) {
                const int beside = g->a && g->nv == 1 ? 4 : 1, add = g->accumulate || row0 > 0;
                if ((p - p0) % beside) continue;
                const int np = p1 - p < beside ? (int)(p1 - p) : beside;
                if (g->a) V(outer_panels)(g, np, run, row0, p, ROWS_MOST(g->nv * beside), add);
                else V(outer_sums)(g, run, row0, p, add);
            }
        row0 += run;
    } while (row0 < rows);
}

static void V(column_sum)(const rnnf_outer *g, int64_t rows, int64_t p0, int64_t p1) {
    rnnf_outer sums = *g;
    sums.a = sums.next = 0;
    V(outer)(&sums, rows, p0, p1);
}

/* shape = {K, units, vectors, gates in w}. panels[p][k][v][lane] = w[k, order[v] * units + p V + lane], 0 beyond units. With one vector a unit panel, four unit
 * panels stand side by side as one panel: [p / 4][k][p % 4][lane]. */
static void V(pack)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order) {
    const int64_t depth = shape[0], units = shape[1], vectors = shape[2], wide = vectors == 1 ? 4 : vectors;
    const int64_t total = (units + LANES - 1) / LANES * vectors;
    for (int64_t j = 0; j < total; j++) {
        const int64_t p = j / vectors, first = j / wide * wide, nv = total - first < wide ? total - first : wide;
        const real *from = (const real *)w + order[j % vectors] * units + p * LANES;
        real *to = (real *)panels + first * depth * LANES + j % wide * LANES;
        for (int64_t k = 0; k < depth; k++) vstore(to + k * nv * LANES, vload_n(from + k * w_row, units - p * LANES));
    }
}

/* A vector of rows of a matrix as columns, 0 where there are fewer of them or they are shorter. */
static void V(pack_block)(real *to, int64_t to_row, const real *from, int64_t from_row, int64_t rows, int64_t columns) {
    real block[LANES][LANES];
    for (int64_t r = 0; r < LANES; r++) vstore(block[r], r < rows ? vload_n(from + r * from_row, columns) : vset(0));
    for (int64_t c = 0; c < LANES; c++, to += to_row)
        for (int64_t r = 0; r < LANES; r++) to[r] = block[r][c];
}

/* The same kernel transposed, for gradients: panels of four output vectors, depth over [unit panel][v][lane] as the tape's slots lie.
 * shape = {outputs, units, vectors}: panels[q][(p, v, lane)][w][:] = w[output, order[v] * units + p V + lane]. */
static void V(pack_transposed)(void *panels, const void *w, int64_t w_row, const int64_t *shape, const int *order) {
    const int64_t outputs = shape[0], units = shape[1], vectors = shape[2], unit_panels = (units + LANES - 1) / LANES;
    const int64_t depth = unit_panels * vectors * LANES, total = (outputs + LANES - 1) / LANES;
    for (int64_t j = 0; j < total; j++) {
        const int64_t first = j / 4 * 4, nv = total - first < 4 ? total - first : 4;
        real *to = (real *)panels + first * depth * LANES + j % 4 * LANES;
        for (int64_t p = 0; p < unit_panels; p++)
            for (int64_t v = 0; v < vectors; v++, to += LANES * nv * LANES)
                V(pack_block)(to, nv * LANES, (const real *)w + j * LANES * w_row + order[v] * units + p * LANES, w_row, outputs - j * LANES,
                              units - p * LANES);
    }
}
