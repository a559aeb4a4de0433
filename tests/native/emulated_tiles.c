/* The tile instructions as csrc/split.h says them to the assembler, on a CPU that does not have them: each one traps, is decoded from its bytes and done here,
 * by registers of this file. Products must have the bits of the tiles in plain C; where the CPU has the instructions, their numbers to 1e-5 of the sum of sizes.
 * Prints "traps" and their number, or what is wrong. */
#define _GNU_SOURCE
#define TILES amx
#define TILES_AMX
#include "split.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

extern const rnnf_tiles rnnf_tiles_portable;

static uint8_t held[8][16][64], shape[64];
static int configured;
static long traps;

static void fail(const char *what) {
    puts(what);
    fflush(stdout);
    _exit(1);
}

/* The address that a ModRM byte means; *stride is what its index register adds to it for each row. */
static char *address(const greg_t *r, const uint8_t *at, int index_high, int base_high, int64_t *stride, int *length) {
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const int mod = at[0] >> 6, rm = at[0] & 7;
    int64_t sum = 0;
    int32_t far = 0;
    *length = 1, *stride = 0;
    if (rm == 4) {
        const int index = (at[1] >> 3 & 7) | index_high << 3, base = (at[1] & 7) | base_high << 3;
        *length = 2;
        if (index != 4) *stride = r[order[index]] << (at[1] >> 6);
        if (mod == 0 && (at[1] & 7) == 5) fail("an address without a base");
        sum = r[order[base]];
    } else if (!(mod == 0 && rm == 5)) sum = r[order[rm | base_high << 3]];
    if (mod == 1) sum += (int8_t)at[*length], *length += 1;
    else if (mod == 2 || (mod == 0 && rm == 5)) {
        memcpy(&far, at + *length, 4);
        sum += far, *length += 4;
        if (mod == 0) sum += r[REG_RIP] + 4 + *length;
    }
    return (char *)sum;
}

static float number(uint16_t bf16) {
    const uint32_t bits = (uint32_t)bf16 << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void dot(void *sums, const void *left, const void *right) {
    float(*c)[16] = sums;
    const uint16_t(*a)[32] = left, (*b)[32] = right;
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float chain[2] = {0, 0};
            for (int k = 0; k < 32; k++) chain[k % 2] = fmaf(number(a[m][k]), number(b[k / 2][2 * n + k % 2]), chain[k % 2]);
            c[m][n] += chain[0] + chain[1];
        }
}

static void trap(int signal, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)r[REG_RIP], *modrm = code + 4;
    const int prefix = code[2] & 3, op = code[3], reg = modrm[0] >> 3 & 7, third = ~(code[2] >> 3) & 15, plain = modrm[0] >> 6 == 3;
    int64_t stride = 0;
    int length = 1;
    (void)signal, (void)info;
    traps++;
    if (code[0] != 0xc4 || (code[1] & 31) != 2 || !(code[1] & 0x80)) fail("not a tile instruction");
    char *where = plain ? 0 : address(r, modrm, !(code[1] & 0x40), !(code[1] & 0x20), &stride, &length);
    if (op == 0x49 && prefix == 0 && !plain) memcpy(shape, where, 64), memset(held, 0, sizeof(held)), configured = 1;
    else if (!configured) fail("a tile instruction before ldtilecfg");
    else if (op == 0x49 && prefix == 0) configured = 0;
    else if (op == 0x49 && prefix == 3 && plain) memset(held[reg], 0, sizeof(held[reg]));
    else if (op == 0x4b && prefix == 3)
        for (int i = 0; i < 16; i++) memcpy(held[reg][i], where + i * stride, 64);
    else if (op == 0x4b && prefix == 2)
        for (int i = 0; i < 16; i++) memcpy(where + i * stride, held[reg][i], 64);
    else if (op == 0x5c && prefix == 2 && plain) dot(held[reg], held[modrm[0] & 7], held[third & 7]);
    else fail("an instruction that is not among the six");
    for (int t = 0; t < 8 && configured; t++)
        if (shape[0] != 1 || shape[16 + 2 * t] != 64 || shape[48 + t] != 16) fail("tiles are not 16 rows of 64 bytes");
    r[REG_RIP] += 4 + length;
}

enum { DEPTH = 257, COLUMNS = 80 };
static float a[SPLIT_ROWS][DEPTH], w[DEPTH * COLUMNS], bias[COLUMNS], c[2][SPLIT_ROWS * 64];
static uint16_t parts[2][SPLIT_ROWS * 288 * 3], panels[2][9 * 8 * 3 * 512];

static void products(const rnnf_tiles *tiles, int side, int rows, int columns, int depth, int count, const float *init) {
    const int64_t wide = columns < 64 ? columns / 16 : 4, shape_of[3] = {depth, columns / wide, wide};
    const int order[4] = {0, 1, 2, 3};
    tiles->enter();
    tiles->pack(panels[side], w, columns, shape_of, order, 16, count);
    tiles->rows(&(rnnf_split_rows){parts[side], &a[0][0], DEPTH, 1, depth, 0, rows, count});
    tiles->product(&(rnnf_split_product){parts[side], panels[side], 0, columns, depth, init, c[side], columns, rows, columns, count});
    tiles->leave();
}

static void compare(int rows, int columns, int depth, int count, const float *init) {
    products(&rnnf_tiles_amx, 0, rows, columns, depth, count, init);
    products(&rnnf_tiles_portable, 1, rows, columns, depth, count, init);
    for (int i = 0; i < rows * columns; i++) {
        double size = init ? fabs(init[i % columns]) : 0;
        for (int k = 0; k < depth; k++) size += fabs(a[i / columns][k] * w[k * columns + i % columns]);
        if (traps ? memcmp(&c[0][i], &c[1][i], 4) : fabs(c[0][i] - c[1][i]) > 1e-5 * size) {
            printf("%d parts, %d x %d x %d, element %d: %a for %a\n", count, rows, depth, columns, i, c[0][i], c[1][i]);
            exit(1);
        }
    }
}

int main(void) {
    const int rows[4] = {1, 16, 17, 32}, columns[4] = {16, 32, 48, 64}, depths[3] = {1, 64, DEPTH};
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
    rnnf_tiles_amx.request();
    for (int i = 0; i < SPLIT_ROWS * DEPTH; i++) a[i / DEPTH][i % DEPTH] = (float)(rand() / (RAND_MAX / 2.0) - 1);
    for (int i = 0; i < DEPTH * COLUMNS; i++) w[i] = (float)(rand() / (RAND_MAX / 2.0) - 1);
    for (int i = 0; i < COLUMNS; i++) bias[i] = (float)i;
    for (int i = 0; i < 4 * 4 * 3 * 3 * 2; i++) compare(rows[i % 4], columns[i / 4 % 4], depths[i / 16 % 3], 1 + i / 48 % 3, i / 144 ? bias : 0);
    printf("traps %ld\n", traps);
    return 0;
}
