#if !defined(__ARM_NEON) || !defined(__aarch64__)
#error "compile for AArch64"
#endif
#define ISA neon
#define VBYTES 16
#include "../template.h"
