/* Which tables this build has, and which of them this CPU and its operating system can run. */
#include "rnnf.h"
#include <string.h>

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

/* The compiler's run-time library reads CPUID and, for the state that the system saves, XGETBV. */
int rnnf_cpu_supports(const char *isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(isa, "avx2") || !strcmp(isa, "emulated_avx512")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(isa, "generic") || !strcmp(isa, "neon");
}
