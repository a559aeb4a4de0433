/* A team of threads inside one parallel region: a barrier that spins for a bounded time, and lines that go from one thread to another. */
#ifndef RNNF_TEAM_H
#define RNNF_TEAM_H
#include <sched.h>
#include <stdint.h>

#define RNNF_APART 16 /* counts between those of two threads: each on cache lines of its own */

typedef struct {
    int size;
    int failed;    /* set by an op that cannot go on */
    int stop;      /* 1 + the number of that op: its team leaves behind the barrier that follows it, and nobody sooner */
    int64_t *met;  /* how often each has come to the barrier, RNNF_APART apart */
    int64_t begun; /* what that is at first */
} rnnf_team;

static inline void rnnf_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spins some 50 us, then yields the core between looks, so that a team larger than its cores still ends. */
#define RNNF_SPINS 4000
static inline void rnnf_rest(int looks) {
    if (looks < RNNF_SPINS) rnnf_relax();
    else sched_yield();
}

/* A count that one thread raises and one other waits for. */
static inline void rnnf_reach(int64_t *count, int64_t value) { __atomic_store_n(count, value, __ATOMIC_RELEASE); }

static inline void rnnf_await(const int64_t *count, int64_t value) {
    for (int looks = 0; __atomic_load_n(count, __ATOMIC_ACQUIRE) < value; looks++) rnnf_rest(looks);
}

/* Everybody's stores before it are seen by everybody behind it. One line goes from each thread to each other; no word has to follow that all have come. */
static inline void rnnf_barrier(const rnnf_team *team, int member) {
    if (team->size == 1) return;
    const int64_t times = team->met[member * RNNF_APART] + 1;
    rnnf_reach(team->met + member * RNNF_APART, times);
    for (int other = 0; other < team->size; other++)
        if (other != member) rnnf_await(team->met + other * RNNF_APART, times);
}

/* Bytes that other threads have written begin to come, while this one computes. */
static inline void rnnf_fetch(const void *bytes, int64_t count) {
    for (int64_t i = 0; i < count; i += 64) __builtin_prefetch((const char *)bytes + i);
}

/* Bytes that other threads have read become this one's, which is about to write them. */
static inline void rnnf_claim(const void *bytes, int64_t count) {
    for (int64_t i = 0; i < count; i += 64) {
#if defined(__x86_64__)
        __asm__ volatile("prefetchw %0" : : "m"(((const char *)bytes)[i])); /* where a CPU lacks it, it does nothing */
#else
        __builtin_prefetch((const char *)bytes + i, 1);
#endif
    }
}
#endif
