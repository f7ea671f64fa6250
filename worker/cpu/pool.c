/* pool.c - see pool.h.
 *
 * Two words that threads wait on, each on a cache line of its own:
 *   epoch    +1 starts a region; POOL_STOP set asks the threads to leave.
 *   phase    +1 whenever the last thread arrives at a barrier (the end of a region is one, too).
 * A waiter spins on its word, then marks that it sleeps and calls futex_wait, which the kernel
 * refuses when the word has moved meanwhile; so no wake-up is lost. A waker pays for the system
 * call only when somebody sleeps. Order: the waker changes the word, then reads `sleepers`; the
 * waiter raises `sleepers`, then reads the word (in futex_wait); both sequentially consistent, so
 * at least one sees the other. */
#include "worker/cpu/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 50 us of spinning: longer than the gap between two regions of one forward pass (a few us),
 * much shorter than a scheduler tick, so an idle worker costs nothing. Measured in pauses (20 to
 * 140 cycles). */
enum { SPINS = 2000 };

#define POOL_STOP 0x80000000u

struct word {
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

struct member {
    struct pool *pool;
    int ith;
    pthread_t thread;
};

struct pool {
    struct word epoch;
    struct word phase;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) void (*fn)(void *arg, int ith, int nth);
    void *arg;
    int n_threads;
    struct member *members; /* owned; [0] is the caller */
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void word_wait(struct word *w, uint32_t old)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&w->value, memory_order_acquire) != old)
            return;
        pause_cpu();
    }
    atomic_fetch_add(&w->sleepers, 1);
    while (atomic_load(&w->value) == old)
        syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&w->sleepers, 1);
}

static void word_set(struct word *w, uint32_t value)
{
    atomic_store(&w->value, value);
    if (atomic_load(&w->sleepers) != 0)
        syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void pool_barrier(struct pool *p)
{
    if (p->n_threads == 1)
        return;
    /* Read before arriving: the last arrival changes it. */
    uint32_t phase = atomic_load_explicit(&p->phase.value, memory_order_relaxed);
    uint32_t n = atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1;
    if (n == (uint32_t)p->n_threads) {
        /* Nobody can arrive again before the phase changes, so this store cannot race with an
         * arrival. */
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        word_set(&p->phase, phase + 1);
    } else {
        word_wait(&p->phase, phase);
    }
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct pool *p = m->pool;
    uint32_t seen = 0;
    for (;;) {
        word_wait(&p->epoch, seen);
        uint32_t now = atomic_load_explicit(&p->epoch.value, memory_order_acquire);
        if (now & POOL_STOP)
            return NULL;
        seen = now;
        p->fn(p->arg, m->ith, p->n_threads);
        pool_barrier(p);
    }
}

void pool_run(struct pool *p, void (*fn)(void *arg, int ith, int nth), void *arg)
{
    if (p->n_threads > 1) {
        p->fn = fn;
        p->arg = arg;
        uint32_t epoch = atomic_load_explicit(&p->epoch.value, memory_order_relaxed);
        word_set(&p->epoch, (epoch + 1) & ~POOL_STOP);
    }
    fn(arg, 0, p->n_threads);
    pool_barrier(p);
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}

enum err pool_open(struct pool **out, int n_threads, struct errmsg *why)
{
    if (n_threads < 1 || n_threads > POOL_THREADS_MAX)
        return err_set(why, ERR_RANGE, "threads: %d is outside 1..%d", n_threads, POOL_THREADS_MAX);
    struct pool *p = aligned_alloc(64, sizeof *p);
    if (!p)
        return err_set(why, ERR_NOMEM, "thread pool: out of memory");
    memset(p, 0, sizeof *p);
    p->members = calloc((size_t)n_threads, sizeof *p->members);
    if (!p->members) {
        free(p);
        return err_set(why, ERR_NOMEM, "thread pool: out of memory");
    }
    p->n_threads = 1;

    /* Signals belong to the main thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0, started = 1;
    for (; started < n_threads; started++) {
        struct member *m = &p->members[started];
        m->pool = p;
        m->ith = started;
        rc = pthread_create(&m->thread, NULL, member_main, m);
        if (rc != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    p->n_threads = started;
    if (rc != 0) {
        pool_close(p);
        return err_set(why, ERR_NOMEM, "thread pool: thread %d of %d does not start: %s",
                       started + 1, n_threads, strerror(rc));
    }
    *out = p;
    return ERR_OK;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    if (p->n_threads > 1) {
        uint32_t epoch = atomic_load_explicit(&p->epoch.value, memory_order_relaxed);
        word_set(&p->epoch, epoch | POOL_STOP);
        for (int i = 1; i < p->n_threads; i++)
            pthread_join(p->members[i].thread, NULL);
    }
    free(p->members);
    free(p);
}
