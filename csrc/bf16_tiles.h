/* The alphabet of tiles: the only file that spells AMX.
 *
 * A thread has eight tile registers of 16 rows of 64 bytes. They hold sums, float32 [16][16], or operands: of A 16 rows of 32 values of k in bfloat16, of B 16
 * pairs of k, each for 16 columns. t, c, a, b are literal numbers of registers, strides are bytes:
 *   tile_config(), tile_release()              before a thread's first word and after its last
 *   tile_zero(t), tile_load(t, from, stride)   stride 0: every row is the same
 *   tile_store(t, to, stride, columns)         the first `columns` of 16; AMX always stores all, so it serves tables of 16 lanes alone
 *   tile_dot_bf16(c, a, b)                     C += A . B
 *
 * The second definition is plain C for any machine and follows the operation of TDPBF16PS in Intel's manual (Software Developer's Manual, volume 2): products
 * of the even and of the odd values of k are two chains of fused multiply-adds from zero, rounded to nearest even; their sum is added to C. That subnormals are
 * zeros, read and written, is left to the thread's mode (float_mode.h). */
#include <stdint.h>

enum { TILE_ROWS = 16, TILE_COLUMNS = 16, TILE_DEPTH = 32, TILE_VALUES = TILE_ROWS * TILE_DEPTH };

#ifdef TILES_AMX
/* Said to the assembler, since the compiler's own words do not tell it that memory is read. */
#define tile_release() __asm__ volatile("tilerelease" ::: "memory")
#define tile_zero(t) __asm__ volatile("tilezero %%tmm" #t::)
#define tile_load(t, from, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((int64_t)(stride)) : "memory")
#define tile_store(t, to, stride, columns) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((int64_t)(stride) + 0 * (columns)) : "memory")
#define tile_dot_bf16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c::)

static inline void tile_config(void) {
    static const struct {
        uint8_t palette, start, none[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" : : "m"(shape));
}

#else
#include <math.h>
#include <string.h>

static _Thread_local union {
    float f32[TILE_ROWS][TILE_COLUMNS];
    uint16_t bf16[TILE_ROWS][TILE_DEPTH];
} registers[8];

#define tile_config() memset(registers, 0, sizeof(registers))
#define tile_release() tile_config()
#define tile_zero(t) memset(&registers[t], 0, sizeof(registers[t]))

static __attribute__((noinline)) void tile_load(int t, const void *from, int64_t stride) {
    for (int row = 0; row < TILE_ROWS; row++) memcpy(registers[t].f32[row], (const char *)from + row * stride, sizeof(registers[t].f32[row]));
}

static __attribute__((noinline)) void tile_store(int t, void *to, int64_t stride, int64_t columns) {
    for (int row = 0; row < TILE_ROWS; row++) memcpy((char *)to + row * stride, registers[t].f32[row], (size_t)columns * sizeof(float));
}

static inline float tile_number(uint16_t bf16) {
    const uint32_t bits = (uint32_t)bf16 << 16;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static __attribute__((noinline)) void tile_dot_bf16(int c, int a, int b) {
    for (int row = 0; row < TILE_ROWS; row++)
        for (int column = 0; column < TILE_COLUMNS; column++) {
            float even = 0, odd = 0;
            for (int pair = 0; pair < TILE_ROWS; pair++) {
                even = fmaf(tile_number(registers[a].bf16[row][2 * pair]), tile_number(registers[b].bf16[pair][2 * column]), even);
                odd = fmaf(tile_number(registers[a].bf16[row][2 * pair + 1]), tile_number(registers[b].bf16[pair][2 * column + 1]), odd);
            }
            registers[c].f32[row][column] += even + odd;
        }
}
#endif
