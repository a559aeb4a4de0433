/* The floating-point mode of a thread: subnormals are flushed inside the engine, and the caller's mode is restored. */
#ifndef RNNF_FLOAT_MODE_H
#define RNNF_FLOAT_MODE_H
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define FLUSH_X86 0x8040u /* MXCSR: flush to zero, denormals are zero */
#define FLUSH_ARM (1u << 24)

static inline uint32_t rnnf_float_mode_enter(void) {
#if defined(__x86_64__)
    const uint32_t mode = _mm_getcsr();
    _mm_setcsr(mode | FLUSH_X86);
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | FLUSH_ARM));
    return (uint32_t)mode;
#else
    return 0;
#endif
}

static inline void rnnf_float_mode_leave(uint32_t mode) {
#if defined(__x86_64__)
    _mm_setcsr((_mm_getcsr() & ~FLUSH_X86) | (mode & FLUSH_X86));
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode));
#else
    (void)mode;
#endif
}
#endif
