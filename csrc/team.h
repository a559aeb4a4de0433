/* A team of threads inside one parallel region: who am I, and a barrier that spins for a bounded time. */
#ifndef RNNF_TEAM_H
#define RNNF_TEAM_H
#include <sched.h>
#include <stdint.h>

typedef struct {
    int size;
    int failed;                /* set by an op that cannot go on */
    int stop;                  /* 1 + the number of that op: its team leaves behind the barrier that follows it, and nobody sooner */
    _Alignas(128) int arrived; /* each on cache lines of its own: the waiters read only `passed` */
    _Alignas(128) int passed;
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

static inline void rnnf_barrier(rnnf_team *team) {
    if (team->size == 1) return;
    const int passed = __atomic_load_n(&team->passed, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == team->size) {
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->passed, passed + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int looks = 0; __atomic_load_n(&team->passed, __ATOMIC_ACQUIRE) == passed; looks++) rnnf_rest(looks);
}

/* A count that one thread raises and one other waits for. */
static inline void rnnf_reach(int64_t *count, int64_t value) { __atomic_store_n(count, value, __ATOMIC_RELEASE); }

static inline void rnnf_await(const int64_t *count, int64_t value) {
    for (int looks = 0; __atomic_load_n(count, __ATOMIC_ACQUIRE) < value; looks++) rnnf_rest(looks);
}
#endif
