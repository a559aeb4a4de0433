/* Products of float32 by tiles of bfloat16. A number is split into the sum of `count` bfloat16 parts, each the nearest to what is left, and of the products of
 * parts those are summed whose places add up to less than `count`: 1 part, 1 product; 2 and 3; 3 and 6. Sums are float32 throughout.
 *
 * Infinity is the parts +-1, 0, .., +-infinity: each product of an infinity with a number but zero then has the infinity in one place, beside finite numbers,
 * and none meets a zero or a part of the other sign. A finite number has finite parts, NaN is NaN in all.
 *
 * The file that includes this defines TILES, the name of the tiles, and how bf16_tiles.h is to define its words. */
#include <string.h>
#include "bf16_tiles.h"
#include "rnnf.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define INLINE static inline __attribute__((always_inline))

/* The nearest bfloat16, ties to even, in the upper half; of numbers that it does not carry beyond the largest. */
INLINE uint32_t rounded(uint32_t bits) { return (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u; }

/* The same of any number; of finite ones beyond the largest that one. */
INLINE uint32_t nearest(uint32_t bits) {
    const uint32_t size = bits & 0x7fffffffu;
    return (size < 0x7f7f8000u ? rounded(bits) : bits & 0xffff0000u) | (size > 0x7f800000u ? 0x00400000u : 0);
}

/* Parts of a line that holds numbers near the largest one, infinities or NaN. */
static __attribute__((noinline)) void split_large(const float *line, uint16_t *to, int64_t next, int count) {
    for (int i = 0; i < TILE_DEPTH; i++) {
        uint32_t whole, bits, part;
        float left = line[i], taken;
        memcpy(&whole, &left, sizeof(whole));
        const int infinite = count > 1 && (whole & 0x7fffffffu) == 0x7f800000u;
        for (int p = 0; p < count; p++) {
            memcpy(&bits, &left, sizeof(bits));
            part = nearest(bits);
            if (infinite) part = p == 0 ? (whole & 0x80000000u) | 0x3f800000u : p < count - 1 ? 0 : whole;
            to[p * next + i] = (uint16_t)(part >> 16);
            memcpy(&taken, &part, sizeof(taken));
            left -= taken;
        }
    }
}

/* Parts of one line of 32 values, to[part * next]. */
INLINE void split_line(const float *line, uint16_t *to, int64_t next, const int count) {
    uint32_t bits[TILE_DEPTH], large = 0;
    float left[TILE_DEPTH];
    memcpy(bits, line, sizeof(bits));
    for (int i = 0; i < TILE_DEPTH; i++) large |= (bits[i] & 0x7fffffffu) >= 0x7f000000u;
    if (large) {
        split_large(line, to, next, count);
        return;
    }
    memcpy(left, line, sizeof(left));
    for (int p = 0; p < count; p++) {
        memcpy(bits, left, sizeof(bits));
        if (p < 2) /* the third part is exact */
            for (int i = 0; i < TILE_DEPTH; i++) bits[i] = rounded(bits[i]);
        for (int i = 0; i < TILE_DEPTH; i++) to[p * next + i] = (uint16_t)(bits[i] >> 16);
        for (int i = 0; i < TILE_DEPTH; i++) {
            float taken;
            memcpy(&taken, &bits[i], sizeof(taken));
            left[i] -= taken;
        }
    }
}

static void split_any(const float *line, uint16_t *to, int64_t next, int count) {
    if (count == 1) split_line(line, to, next, 1);
    else if (count == 2) split_line(line, to, next, 2);
    else split_line(line, to, next, 3);
}

INLINE int64_t lines_of(int64_t depth) { return (depth + TILE_DEPTH - 1) / TILE_DEPTH; }

/* Values k .. k + 31 of a row, zeros beyond its depth: where they stand, or copied into `line`. */
static const float *row_line(const rnnf_split_rows *g, const float *row, int64_t k, float *line) {
    int64_t block = k / g->block, at = k % g->block;
    if (at + TILE_DEPTH <= g->block) return row + block * g->block_stride + at;
    for (int i = 0; i < TILE_DEPTH; i++) {
        line[i] = block < g->blocks ? row[block * g->block_stride + at] : 0;
        if (++at == g->block) block++, at = 0;
    }
    return line;
}

/* to[line of k][part][row tile][row][32] */
static void split_rows(const rnnf_split_rows *g) {
    const int64_t row_tiles = (g->rows + TILE_ROWS - 1) / TILE_ROWS, next = row_tiles * TILE_VALUES;
    uint16_t *to = g->to;
    for (int64_t k = 0; k < g->blocks * g->block; k += TILE_DEPTH, to += g->count * next) {
        for (int64_t row = 0; row < g->rows; row++) {
            float line[TILE_DEPTH];
            split_any(row_line(g, g->a + row * g->a_row, k, line), to + row * TILE_DEPTH, next, g->count);
        }
        for (int p = 0; p < g->count; p++) memset(to + p * next + g->rows * TILE_DEPTH, 0, (size_t)(next - g->rows * TILE_DEPTH) * sizeof(*to));
    }
}

/* panels[panel][column tile][line of k][part][pair of k][column][2]. Columns and the arguments `shape` and `order` are those of `pack` in kernels/matmul.h. */
static void split_pack(void *panels, const float *w, int64_t w_row, const int64_t *shape, const int *order, int lanes, int count) {
    const int64_t depth = shape[0], units = shape[1], vectors = shape[2], wide = vectors == 1 ? 4 : vectors;
    const int64_t total = (units + lanes - 1) / lanes * vectors, tiles_of = (wide * lanes + TILE_COLUMNS - 1) / TILE_COLUMNS;
    uint16_t *to = panels;
    for (int64_t tile = 0; tile < (total + wide - 1) / wide * tiles_of; tile++) {
        int64_t column[TILE_COLUMNS]; /* of w; -1: none */
        for (int i = 0; i < TILE_COLUMNS; i++) {
            const int64_t at = tile % tiles_of * TILE_COLUMNS + i, vector = tile / tiles_of * wide + at / lanes;
            const int64_t unit = vector / vectors * lanes + at % lanes;
            column[i] = at < wide * lanes && unit < units ? order[vector % vectors] * units + unit : -1;
        }
        for (int64_t k = 0; k < lines_of(depth) * TILE_DEPTH; k += 2) {
            float line[TILE_DEPTH];
            for (int i = 0; i < TILE_DEPTH; i++) line[i] = k + i % 2 < depth && column[i / 2] >= 0 ? w[(k + i % 2) * w_row + column[i / 2]] : 0;
            split_any(line, to, TILE_VALUES, count);
            to += TILE_DEPTH;
            if (k % TILE_DEPTH == TILE_DEPTH - 2) to += (count - 1) * TILE_VALUES;
        }
    }
}

/* Which parts of A and B meet. Each pair has a part in common with the one before, also when those of more than `count` are left out. */
static const int meetings[6][2] = {{1, 1}, {1, 0}, {2, 0}, {0, 0}, {0, 1}, {0, 2}};

/* One row tile, or two, by some column tiles. a_next: from a part of a line of A to the next one; b_next: from a column tile of B to the next one. */
typedef struct {
    const uint16_t *a, *b;
    int64_t a_next, b_next, lines, c_row, columns;
    const float *init;
    float *c;
} block;

INLINE int64_t width(const block *g, int tile) {
    const int64_t left = g->columns - tile * TILE_COLUMNS;
    return left < TILE_COLUMNS ? left : TILE_COLUMNS;
}

INLINE void zero_sums(void) {
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
}

/* Two row tiles by two column tiles: registers 0 to 3 are the sums, 4 and 5 are of A, 6 and 7 of B. Four sums, since a sum is ready for its next product only
 * when three others have been at it. */
INLINE void square(const block *g, const int count) {
    const uint16_t *a = g->a, *b = g->b;
    const int64_t stride = g->c_row * (int64_t)sizeof(float);
    zero_sums();
    if (g->init) {
        tile_load(0, g->init, 0);
        tile_load(1, g->init + TILE_COLUMNS, 0);
        tile_load(2, g->init, 0);
        tile_load(3, g->init + TILE_COLUMNS, 0);
    }
    for (int64_t line = 0; line < g->lines; line++, a += count * g->a_next, b += count * TILE_VALUES) {
        int held_a = -1, held_b = -1;
        _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++) {
            const int pa = meetings[i][0], pb = meetings[i][1];
            if (pa + pb >= count) continue;
            if (pa != held_a) tile_load(4, a + pa * g->a_next, 64);
            if (pa != held_a) tile_load(5, a + pa * g->a_next + TILE_VALUES, 64);
            if (pb != held_b) tile_load(6, b + pb * TILE_VALUES, 64);
            if (pb != held_b) tile_load(7, b + pb * TILE_VALUES + g->b_next, 64);
            held_a = pa, held_b = pb;
            tile_dot_bf16(0, 4, 6);
            tile_dot_bf16(1, 4, 7);
            tile_dot_bf16(2, 5, 6);
            tile_dot_bf16(3, 5, 7);
        }
    }
    tile_store(0, g->c, stride, TILE_COLUMNS);
    tile_store(1, g->c + TILE_COLUMNS, stride, width(g, 1));
    tile_store(2, g->c + TILE_ROWS * g->c_row, stride, TILE_COLUMNS);
    tile_store(3, g->c + TILE_ROWS * g->c_row + TILE_COLUMNS, stride, width(g, 1));
}

/* One row tile by up to four column tiles: registers 0 to 3 are the sums, 4 is of A, 5 to 7 of B. The same products in the same order, hence the same bits. */
INLINE void strip(const block *g, const int columns, const int count) {
    const uint16_t *a = g->a, *b = g->b;
    const int64_t stride = g->c_row * (int64_t)sizeof(float), next = g->b_next;
    zero_sums();
    if (g->init) {
        tile_load(0, g->init, 0);
        if (columns > 1) tile_load(1, g->init + TILE_COLUMNS, 0);
        if (columns > 2) tile_load(2, g->init + 2 * TILE_COLUMNS, 0);
        if (columns > 3) tile_load(3, g->init + 3 * TILE_COLUMNS, 0);
    }
    for (int64_t line = 0; line < g->lines; line++, a += count * g->a_next, b += count * TILE_VALUES) {
        int held_a = -1;
        _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++) {
            const int pa = meetings[i][0], pb = meetings[i][1];
            if (pa + pb >= count) continue;
            if (pa != held_a) tile_load(4, a + pa * g->a_next, 64);
            held_a = pa;
            tile_load(5, b + pb * TILE_VALUES, 64);
            tile_dot_bf16(0, 4, 5);
            if (columns > 1) tile_load(6, b + pb * TILE_VALUES + next, 64);
            if (columns > 1) tile_dot_bf16(1, 4, 6);
            if (columns > 2) tile_load(7, b + pb * TILE_VALUES + 2 * next, 64);
            if (columns > 2) tile_dot_bf16(2, 4, 7);
            if (columns > 3) tile_load(5, b + pb * TILE_VALUES + 3 * next, 64);
            if (columns > 3) tile_dot_bf16(3, 4, 5);
        }
    }
    tile_store(0, g->c, stride, width(g, 0));
    if (columns > 1) tile_store(1, g->c + TILE_COLUMNS, stride, width(g, 1));
    if (columns > 2) tile_store(2, g->c + 2 * TILE_COLUMNS, stride, width(g, 2));
    if (columns > 3) tile_store(3, g->c + 3 * TILE_COLUMNS, stride, width(g, 3));
}

/* clang-format off */
#define STRIP(columns, count) static void strip_##columns##_##count(const block *g) { strip(g, columns, count); }
#define BLOCKS(count) \
    static void square_##count(const block *g) { square(g, count); } \
    STRIP(1, count) STRIP(2, count) STRIP(3, count) STRIP(4, count)
BLOCKS(1) BLOCKS(2) BLOCKS(3)
#define BLOCKS_OF(count) {square_##count, strip_1_##count, strip_2_##count, strip_3_##count, strip_4_##count}
static void (*const blocks[3][5])(const block *) = {BLOCKS_OF(1), BLOCKS_OF(2), BLOCKS_OF(3)};
/* clang-format on */

/* c[rows, columns] = init + A . P for one panel: squares as far as both sides are even numbers of tiles, else strips. */
static void split_product(const rnnf_split_product *g) {
    const int64_t lines = lines_of(g->depth), next = lines * g->count * TILE_VALUES, row_tiles = (g->rows + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t column_tiles = (g->columns + TILE_COLUMNS - 1) / TILE_COLUMNS, full = (g->full + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int64_t paired = column_tiles % 2 ? 0 : row_tiles / 2 * 2; /* rows of tiles in squares */
    for (int64_t i = 0; i < row_tiles; i += i < paired ? 2 : 1)
        for (int64_t j = 0, n; j < column_tiles; j += n) {
            block one = {.a_next = row_tiles * TILE_VALUES, .b_next = next, .lines = lines, .c_row = g->c_row};
            n = i < paired ? 2 : column_tiles - j < 4 ? column_tiles - j : 4;
            one.a = (const uint16_t *)g->parts + i * TILE_VALUES;
            one.b = (const uint16_t *)g->panels + (g->index * full + j) * next;
            one.init = g->init ? g->init + j * TILE_COLUMNS : 0;
            one.c = g->c + i * TILE_ROWS * g->c_row + j * TILE_COLUMNS, one.columns = g->columns - j * TILE_COLUMNS;
            blocks[g->count - 1][i < paired ? 0 : n](&one);
        }
}

/* Linux gives a process the tile registers when it asks for them (arch/x86/xstate in the kernel's documentation). */
#ifdef TILES_AMX
#include <sys/syscall.h>
#include <unistd.h>
static int request(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }
#else
static int request(void) { return 1; }
#endif

static void enter(void) { tile_config(); }
static void leave(void) { tile_release(); }

const rnnf_tiles PASTE(rnnf_tiles_, TILES) = {TEXT(TILES), request, enter, leave, split_pack, split_rows, split_product};
