/* Everything that is compiled once per ISA. The ISA file defines ISA (a name) and VBYTES (16, 32 or 64) after checking its compiler flags; this header
 * includes the kernels for float and then for double and emits the tables rnnf_f32_<ISA> and rnnf_f64_<ISA>. All else is static, so nothing compiled for one
 * ISA can be linked into another's path. */
#include <float.h>
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#include "rnnf.h"

#define PASTE_(a, b, c) a##b##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

#define real float
#define REAL64 0
#define V(name) PASTE(name, _f32_, ISA)
#include "table.h"
#undef real
#undef REAL64
#undef V

#define real double
#define REAL64 1
#define V(name) PASTE(name, _f64_, ISA)
#include "table.h"
