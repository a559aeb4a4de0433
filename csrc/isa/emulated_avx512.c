/* For tests alone: what avx512.c compiles, in portable words on AVX2, so that vectors of 64 bytes run on any machine. */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile with -mavx2 -mfma"
#endif
#define ISA emulated_avx512
#define VBYTES 64
#include "../template.h"
