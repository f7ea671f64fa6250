/* pool.h - the worker's compute threads: one parallel region at a time, no allocation, no locks
 * inside.
 *
 * pool_run() calls fn(arg, ith, nth) on every thread, the caller included (ith 0), and returns when
 * all are done. Between regions threads spin briefly, then sleep on a futex: an idle worker uses no
 * CPU. pool_barrier() is for use inside a region only. Thread: pool_run from one thread at a time.
 */
#ifndef MILLRACE_WORKER_CPU_POOL_H
#define MILLRACE_WORKER_CPU_POOL_H

#include "shared/base/err.h"

struct pool; /* opaque */

enum err pool_open(struct pool **out, int n_threads, struct errmsg *why) MUST_CHECK; /* 1..512 */
void pool_close(struct pool *p); /* NULL is fine */
int pool_threads(const struct pool *p);
void pool_run(struct pool *p, void (*fn)(void *arg, int ith, int nth), void *arg);
void pool_barrier(struct pool *p);

#endif
