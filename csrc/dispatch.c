/* Which tables this build has, and which of them this CPU and its operating system can run. */
#include "rnnf.h"
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define TABLES(isa) extern const rnnf_kernels rnnf_f32_##isa, rnnf_f64_##isa;
TABLES(generic)
#if defined(__x86_64__)
TABLES(avx2)
TABLES(avx512)
#if defined(RNNF_EMULATE)
TABLES(emulated_avx512)
#endif
#elif defined(__aarch64__)
TABLES(neon)
#endif

const rnnf_tables rnnf_available[] = {
#if defined(__x86_64__)
    {"avx512", &rnnf_f32_avx512, &rnnf_f64_avx512},
    {"avx2", &rnnf_f32_avx2, &rnnf_f64_avx2},
#elif defined(__aarch64__)
    {"neon", &rnnf_f32_neon, &rnnf_f64_neon},
#endif
    {"generic", &rnnf_f32_generic, &rnnf_f64_generic},
#if defined(__x86_64__) && defined(RNNF_EMULATE)
    {"emulated_avx512", &rnnf_f32_emulated_avx512, &rnnf_f64_emulated_avx512},
#endif
    {0, 0, 0},
};

extern const rnnf_tiles rnnf_tiles_portable;
#if defined(__x86_64__) && defined(__linux__)
extern const rnnf_tiles rnnf_tiles_amx;
const rnnf_tiles *const rnnf_tiles_available[] = {&rnnf_tiles_amx, &rnnf_tiles_portable, 0};
#else
const rnnf_tiles *const rnnf_tiles_available[] = {&rnnf_tiles_portable, 0};
#endif

#if defined(__x86_64__)
/* Tiles and their bfloat16 product (CPUID leaf 7, EDX bits 24 and 22), and a system that saves them (XCR0 bits 17 and 18). Compilers older than these
 * instructions do not know their names. */
static int has_amx(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 22 & 1)) return 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0; /* XGETBV */
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}
#endif

/* The compiler's run-time library reads CPUID and, for the state that the system saves, XGETBV. */
int rnnf_cpu_supports(const char *isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(isa, "avx2") || !strcmp(isa, "emulated_avx512")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (!strcmp(isa, "vnni")) return rnnf_cpu_supports("avx512") && __builtin_cpu_supports("avx512vnni");
    if (!strcmp(isa, "amx")) return rnnf_cpu_supports("avx512") && has_amx();
#endif
    return !strcmp(isa, "portable") || !strcmp(isa, "generic") || !strcmp(isa, "neon");
}
