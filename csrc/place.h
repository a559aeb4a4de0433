/* Where the threads of a team run: its workers keep off the core of the thread that calls them.
 *
 * A scheduler that knows of no cache that cores share, as in many virtual machines, wakes a worker on the core of the thread that wakes it. There it waits
 * until that thread sleeps or the scheduler looks again, milliseconds later, while another core idles. */
#ifndef RNNF_PLACE_H
#define RNNF_PLACE_H
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RNNF_WORKERS 256 /* those beyond are left to the scheduler */

/* Of a thread that calls teams. */
typedef struct {
    int core;                   /* where it ran when it last called one */
    cpu_set_t cores;            /* where it might, and its workers but for `core` */
    pid_t worker[RNNF_WORKERS]; /* those that keep off, 0 elsewhere */
} rnnf_place;

static inline void rnnf_keep_off(const rnnf_place *place, pid_t worker) {
    cpu_set_t left = place->cores;
    CPU_CLR(place->core, &left);
    sched_setaffinity(worker, sizeof(left), &left);
}

/* The caller has moved, and its workers make room. Where somebody has bound it since, they may run where they might before; those that were bound themselves,
 * or have ended, are left alone. */
static inline void rnnf_move(rnnf_place *place, int core) {
    cpu_set_t cores, own, left = place->cores;
    if (core < 0 || sched_getaffinity(0, sizeof(cores), &cores)) CPU_ZERO(&cores);
    const int bound = !CPU_EQUAL(&cores, &place->cores);
    if (place->core >= 0) CPU_CLR(place->core, &left);
    place->core = core;
    for (int i = 0; i < RNNF_WORKERS; i++) {
        const pid_t worker = place->worker[i];
        if (!worker) continue;
        place->worker[i] = 0;
        if (syscall(SYS_tgkill, getpid(), worker, 0) || sched_getaffinity(worker, sizeof(own), &own) || !CPU_EQUAL(&own, &left)) continue;
        if (bound) sched_setaffinity(worker, sizeof(place->cores), &place->cores);
        else rnnf_keep_off(place, place->worker[i] = worker);
    }
    place->cores = cores;
}

/* Before a team is called. */
static inline rnnf_place *rnnf_call_from_here(void) {
    static __thread rnnf_place place = {.core = -1};
    const int core = sched_getcpu();
    if (core != place.core) rnnf_move(&place, core);
    return &place;
}

/* At each start of a worker in a team of `size`, of which the first counts. One that may not run where its caller may was bound by somebody else; a team that
 * is larger than its cores has to share them. */
static inline void rnnf_arrive(rnnf_place *place, int member, int size) {
    static __thread const rnnf_place *caller;
    cpu_set_t own;
    if (caller == place || member >= RNNF_WORKERS) return;
    caller = place;
    if (sched_getaffinity(0, sizeof(own), &own) || !CPU_EQUAL(&own, &place->cores) || CPU_COUNT(&own) < size) return;
    place->worker[member] = (pid_t)syscall(SYS_gettid);
    rnnf_keep_off(place, place->worker[member]);
}
#else
typedef int rnnf_place;
static inline rnnf_place *rnnf_call_from_here(void) { return 0; }
static inline void rnnf_arrive(rnnf_place *place, int member, int size) { (void)place, (void)member, (void)size; }
#endif
#endif
