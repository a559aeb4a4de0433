#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile with -mavx2 -mfma"
#endif
#define ISA avx2
#define VBYTES 32
#include "../template.h"
