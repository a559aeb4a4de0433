#if !defined(__AVX512F__) || !defined(__AVX512DQ__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile with -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma"
#endif
#define ISA avx512
#define VBYTES 64
#include "../template.h"
