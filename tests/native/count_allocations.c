/* Preloaded into a test's process: counts calls of the C library's allocator while `counting` is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

long allocation_count = 0;
int allocation_counting = 0;
#define COUNT() ((void)(allocation_counting && __atomic_add_fetch(&allocation_count, 1, __ATOMIC_RELAXED)))

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n) {
    COUNT();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    COUNT();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    COUNT();
    return __libc_realloc(p, n);
}
void *memalign(size_t alignment, size_t n) {
    COUNT();
    return __libc_memalign(alignment, n);
}
void *aligned_alloc(size_t alignment, size_t n) {
    COUNT();
    return __libc_memalign(alignment, n);
}
int posix_memalign(void **p, size_t alignment, size_t n) {
    COUNT();
    *p = __libc_memalign(alignment, n);
    return *p ? 0 : 12;
}
