#if !defined(__AVX512F__) || !defined(__AVX512DQ__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile with the flags of avx512.c; tiles are said to the assembler and need none"
#endif
#define TILES amx
#define TILES_AMX
#include "../split.h"
