/* Preloaded into a test's process: counts calls of the C library's allocator while `counting` is set, and notes the largest. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

long allocation_count = 0, allocation_largest = 0;
int allocation_counting = 0;

static void note(size_t n) {
    if (!allocation_counting) return;
    __atomic_add_fetch(&allocation_count, 1, __ATOMIC_RELAXED);
    if ((long)n > allocation_largest) allocation_largest = (long)n;
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n) {
    note(n);
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    note(n * size);
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    note(n);
    return __libc_realloc(p, n);
}
void *memalign(size_t alignment, size_t n) {
    note(n);
    return __libc_memalign(alignment, n);
}
void *aligned_alloc(size_t alignment, size_t n) {
    note(n);
    return __libc_memalign(alignment, n);
}
int posix_memalign(void **p, size_t alignment, size_t n) {
    note(n);
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : 12;
}
