/* pool.h - the worker's compute threads: one parallel region at a time, no allocation, no locks
 * inside.
 *
 * pool_run() calls fn(arg, ith, nth) on every thread, the caller included (ith 0), and returns when
 * all are done. Between regions threads spin briefly, then sleep on a futex: an idle worker uses no
 * CPU. pool_barrier() is for use inside a region only; all threads of the region must reach it.
 * Everything written before a barrier (or before pool_run, or inside fn) is visible after it.
 * Thread: pool_run from one thread at a time; never from inside a region. */
#ifndef MILLRACE_WORKER_CPU_POOL_H
#define MILLRACE_WORKER_CPU_POOL_H

#include "shared/base/err.h"

enum { POOL_THREADS_MAX = 512 };

struct pool; /* opaque */

/* OWNED: close with pool_close(). n_threads 1..POOL_THREADS_MAX, the caller's thread counted. */
enum err pool_open(struct pool **out, int n_threads, struct errmsg *why) MUST_CHECK;
void pool_close(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);
void pool_run(struct pool *p, void (*fn)(void *arg, int ith, int nth), void *arg);
void pool_barrier(struct pool *p);

#endif
