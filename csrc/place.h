/* Where the threads of a team run: its workers keep off the core of the thread that calls them.
 *
 * A scheduler that knows of no cache that cores share, as in many virtual machines, wakes a worker on the core of the thread that wakes it. There it waits
 * until that thread sleeps or the scheduler looks again, milliseconds later, while another core idles. */
#ifndef RNNF_PLACE_H
#define RNNF_PLACE_H
#if defined(__linux__)
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RNNF_WORKERS 256 /* those beyond are left to the scheduler */

/* Of a thread that calls teams. */
typedef struct {
    int core;        /* where it ran when it last called one */
    cpu_set_t cores; /* where it might */
    pid_t worker[RNNF_WORKERS];
} rnnf_place;

/* A worker may run on all of its caller's cores but the one that the caller is on, unless a team of `size` has to share cores. */
static inline void rnnf_keep_off(const rnnf_place *place, pid_t worker, int size) {
    cpu_set_t left = place->cores;
    CPU_CLR(place->core, &left);
    if (CPU_COUNT(&place->cores) >= size) sched_setaffinity(worker, sizeof(left), &left);
}

/* Before a team is called: the workers that are known make room if the caller has moved. */
static inline rnnf_place *rnnf_call_from_here(int size) {
    static __thread rnnf_place place = {.core = -1};
    const int core = sched_getcpu();
    if (core == place.core) return &place;
    place.core = core;
    if (core < 0 || sched_getaffinity(0, sizeof(place.cores), &place.cores)) memset(&place.cores, 0, sizeof(place.cores));
    for (int i = 1; i < size && i < RNNF_WORKERS; i++)
        if (place.worker[i] && !syscall(SYS_tgkill, getpid(), place.worker[i], 0)) /* else it has ended, and its number may be another process's */
            rnnf_keep_off(&place, place.worker[i], size);
    return &place;
}

/* At each start of a worker in a team, of which the first counts. One that may not run where its caller may was bound by somebody else and is left alone. */
static inline void rnnf_arrive(rnnf_place *place, int member, int size) {
    static __thread const rnnf_place *caller;
    cpu_set_t own;
    if (caller == place || member >= RNNF_WORKERS) return;
    caller = place;
    if (sched_getaffinity(0, sizeof(own), &own) || !CPU_EQUAL(&own, &place->cores)) return;
    place->worker[member] = (pid_t)syscall(SYS_gettid);
    rnnf_keep_off(place, place->worker[member], size);
}
#else
typedef int rnnf_place;
static inline rnnf_place *rnnf_call_from_here(int size) { return (void)size, (rnnf_place *)0; }
static inline void rnnf_arrive(rnnf_place *place, int member, int size) { (void)place, (void)member, (void)size; }
#endif
#endif
