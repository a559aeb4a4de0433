/* Any CPU: 16-byte vectors of the compiler's choosing (SSE2 on x86-64). */
#define ISA generic
#define VBYTES 16
#include "../template.h"
