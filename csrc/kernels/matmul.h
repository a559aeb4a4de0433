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

#define OUTER_RUN 128 /* rows reduced at a time: B's slice of a panel and A's slice of a tile stay in L1 */

/* C (+)= sums of rows [k, k + count) and np panels of nv vectors, product[count][np][nv]. */
INLINE void V(outer_store)(const rnnf_outer *g, int np, int64_t panel, int64_t k, int64_t count, const vec *product, int add) {
    const int nv = (int)g->nv;
    int64_t place[4], left[4];
    for (int i = 0; i < np * nv; i++) {
        const int64_t p = panel + (nv == 1 ? i : 0), v = nv == 1 ? 0 : i;
        left[i] = g->gated ? g->cols - p * LANES : g->cols - (p * nv + v) * LANES;
        place[i] = p * g->c_panel + g->order[v] * g->c_vector;
    }
    real *row = (real *)g->c + k * g->c_row;
    for (int64_t m = 0; m < count; m++, row += g->c_row)
        for (int i = 0; i < np * nv; i++) {
            real *c = row + place[i];
            const vec sum = *product++;
            if (left[i] > 0) vstore_n(c, add ? vload_n(c, left[i]) + sum : sum, left[i]);
        }
}

#define FETCH_ROWS (VBYTES == 64 ? 32 : OUTER_RUN) /* of a block: a tile fetches little at a time, so that its own reads need not wait */

/* Rows that are read next: `lines` of each, of which the first one's before `line` are fetched. */
typedef struct {
    const char *at;
    int64_t row, rows, lines, line;
} V(fetch);

/* A tile's share: up to four lines of as many rows as it has blocks. */
INLINE void V(fetch_share)(V(fetch) * f, V(tile_args) * t) {
    t->fetch_lines = 0;
    if (f->rows < t->blocks) return;
    t->fetch = f->at + f->line * LINE_BYTES, t->fetch_step = f->row;
    t->fetch_lines = f->lines - f->line < 4 ? f->lines - f->line : 4;
    f->line += t->fetch_lines;
    if (f->line == f->lines) f->line = 0, f->at += t->blocks * f->row, f->rows -= t->blocks;
}

/* Rows [row0, row0 + rows), whose A is packed at a, of np panels; np > 1 only for one vector. Into or onto sums, if there is room for them, else C. */
static void V(outer_panels)(const rnnf_outer *g, const int np, const real *a, int64_t rows, int64_t row0, int64_t panel, int add, V(fetch) * ahead) {
    const int wide = np * (int)g->nv, blocked = rows % FETCH_ROWS == 0;
    const int64_t most = ROWS_MOST(g->nv == 1 ? 4 : g->nv);
    const V(tile_fn) *const tiles = g->nv == 1 ? V(tiles_single)[np - 1] : V(tiles)[g->nv - 1];
    V(tile_args)
    t = {.a_row = 1,
         .blocks = blocked ? rows / FETCH_ROWS : 1,
         .block = blocked ? FETCH_ROWS : rows,
         .w = (const real *)g->b + panel * g->b_panel + row0 * g->b_row,
         .w_panel = g->b_panel,
         .w_k = g->b_row,
         .add = g->sums && add};
    for (int64_t k = 0; k < g->k; k += t.a_k) {
        vec own[TILE_VECTORS * 4], *const product = g->sums ? (vec *)g->sums + k * wide : own;
        t.a_k = g->k - k < TILE_VECTORS ? g->k - k : TILE_VECTORS;
        t.block_stride = FETCH_ROWS * t.a_k;
        for (int64_t m = 0; m < t.a_k; m += t.a_next) {
            t.a = a + k * rows + m;
            t.a_next = V(next_share)(t.a_k - m, most);
            V(fetch_share)(ahead, &t);
            tiles[t.a_next - 1](&t, 1, product + m * wide);
        }
        if (!g->sums) V(outer_store)(g, np, panel, k, t.a_k, product, add);
    }
}

/* The same with an A of ones and K = 1, for one panel. */
static void V(outer_ones)(const rnnf_outer *g, int64_t rows, int64_t row0, int64_t panel, int add) {
    const real *b = (const real *)g->b + panel * g->b_panel + row0 * g->b_row;
    vec sums[4] = {vset(0), vset(0), vset(0), vset(0)};
    for (int64_t r = 0; r < rows; r++, b += g->b_row) {
        UNROLL
        for (int v = 0; v < 4; v++)
            if (v < g->nv) sums[v] += vload(b + v * LANES);
    }
    V(outer_store)(g, 1, panel, 0, 1, sums, add);
}

/* A's run with TILE_VECTORS of k side by side, of which tiles take parts: [k / TILE_VECTORS][row][TILE_VECTORS], the last ones as wide as is left.
 * A row is copied by whole vectors; what they hold beyond it is written over by the next one. */
static void V(outer_pack)(const rnnf_outer *g, real *to, int64_t rows, int64_t row0) {
    const int64_t safe = g->k >= LANES && g->a_row >= LANES ? rows - 1 : 0; /* rows behind which a whole vector can be read */
    for (int64_t k = 0; k < g->k; k += TILE_VECTORS) {
        const real *from = (const real *)g->a + row0 * g->a_row + k;
        const int64_t wide = g->k - k < TILE_VECTORS ? g->k - k : TILE_VECTORS;
        for (int64_t r = 0; r < rows; r++, from += g->a_row, to += wide)
            for (int64_t i = 0; i < wide; i += LANES) vstore(to + i, r < safe ? vload(from + i) : vload_n(from + i, wide - i));
    }
}

/* Panels that a sum takes beside each other when it comes to the one after `done` of them; 0 where one before took this one. */
INLINE int V(outer_beside)(const rnnf_outer *g, int64_t done, int64_t left) {
    const int most = g->a && g->nv == 1 ? 4 : 1;
    return done % most ? 0 : left < most ? (int)left : most;
}

/* Rows [row0, end) of the panel after `done` of all sums, run by run, so that each run of B and the panel's sums stay near. Of a run of B lines
 * [at, at + lines) of each row are read. */
static void V(outer_round)(const rnnf_outer *first, int64_t row0, int64_t end, int64_t p0, int64_t p1, int64_t done, const char *at, int64_t lines) {
    const int64_t p = p0 + done, row = first->b_row * sizeof(real), following = p + (first->nv == 1 ? 4 : 1);
    int64_t r = row0;
    do { /* once even if there are no rows */
        const int64_t run = end - r < OUTER_RUN ? end - r : OUTER_RUN, panel = r + run < end ? p : following, next = r + run < end ? r + run : row0;
        V(fetch) ahead = {.at = at + panel * first->b_panel * sizeof(real) + next * row, .row = row, .rows = panel < p1 ? run : 0, .lines = lines};
        for (const rnnf_outer *g = first; g; g = g->next) {
            const int np = V(outer_beside)(g, done, p1 - p), add = g->accumulate || row0 > 0;
            if (!np) continue;
            if (!g->a) V(outer_ones)(g, run, r, p, add || r > row0);
            else V(outer_panels)(g, np, (const real *)g->scratch + (r - row0) * (g->k + 8), run, r, p, g->sums ? r > row0 : add, &ahead);
        }
        r += run;
    } while (r < end);
    for (const rnnf_outer *g = first; g; g = g->next) {
        const int np = V(outer_beside)(g, done, p1 - p);
        if (np && g->a && g->sums) V(outer_store)(g, np, p, 0, g->k, g->sums, g->accumulate || row0 > 0);
    }
}

/* The sum and those that follow it, side by side, so that what they read of B is read from memory once. A round ends where a scratch is full. */
static void V(outer)(const rnnf_outer *first, int64_t rows, int64_t p0, int64_t p1) {
    const real *low = first->b, *high = low;
    int64_t row0 = 0, most = OUTER_RUNS * OUTER_RUN;
    for (const rnnf_outer *g = first; g; g = g->next) {
        const real *const b = g->b;
        if (g->a && !g->sums) most = OUTER_RUN;
        if (b < low) low = b;
        if (b + g->nv * LANES > high) high = b + g->nv * LANES;
    }
    do {
        const int64_t end = rows - row0 < most ? rows : row0 + most;
        for (const rnnf_outer *g = first; g; g = g->next) {
            real *to = g->scratch;
            for (int64_t r = row0; g->a && r < end; r += OUTER_RUN, to += OUTER_RUN * (g->k + 8))
                V(outer_pack)(g, to, end - r < OUTER_RUN ? end - r : OUTER_RUN, r);
        }
        for (int64_t p = p0; p < p1; p++)
            V(outer_round)(first, row0, end, p0, p1, p - p0, (const char *)low, ((high - low) * (int64_t)sizeof(real) + LINE_BYTES - 1) / LINE_BYTES);
        row0 = end;
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
