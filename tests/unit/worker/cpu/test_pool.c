/* What worker/cpu/pool.h promises. */
#include "worker/cpu/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 3000 };

struct shared {
    struct pool *pool;
    int calls[THREADS]; /* by thread, each written by its own */
    int nth[THREADS];
    long stage[THREADS];
    int torn;
    unsigned sleep_us; /* each thread, before the barrier, by its number */
};

static void count(void *arg, int ith, int nth)
{
    struct shared *s = arg;
    s->calls[ith]++;
    s->nth[ith] = nth;
}

static void every_thread_runs_the_function_once_per_region(void **state)
{
    (void)state;
    for (int n = 1; n <= THREADS; n++) {
        struct shared s = {0};
        struct errmsg why = {0};
        assert_int_equal(pool_open(&s.pool, n, &why), ERR_OK);
        assert_int_equal(pool_threads(s.pool), n);
        for (int i = 0; i < ROUNDS; i++)
            pool_run(s.pool, count, &s);
        pool_close(s.pool);
        for (int i = 0; i < n; i++) {
            assert_int_equal(s.calls[i], ROUNDS);
            assert_int_equal(s.nth[i], n);
        }
    }
}

/* Everybody writes his stage, and after the barrier sees everybody else's. */
static void stages(void *arg, int ith, int nth)
{
    struct shared *s = arg;
    for (int step = 0; step < 5; step++) {
        s->stage[ith]++;
        if (s->sleep_us)
            usleep(s->sleep_us * (unsigned)ith);
        pool_barrier(s->pool);
        for (int i = 0; i < nth; i++)
            if (s->stage[i] != s->stage[ith])
                __atomic_store_n(&s->torn, 1, __ATOMIC_RELAXED);
        pool_barrier(s->pool);
    }
}

static void a_barrier_shows_all_writes_made_before_it(void **state)
{
    (void)state;
    struct shared s = {0};
    assert_int_equal(pool_open(&s.pool, THREADS, NULL), ERR_OK);
    for (int i = 0; i < 200; i++)
        pool_run(s.pool, stages, &s);
    pool_close(s.pool);
    assert_false(s.torn);
    assert_int_equal(s.stage[THREADS - 1], 1000);
}

static void threads_that_fell_asleep_are_woken(void **state)
{
    (void)state;
    struct shared s = {.sleep_us = 1500};
    assert_int_equal(pool_open(&s.pool, THREADS, NULL), ERR_OK);
    for (int i = 0; i < 4; i++) {
        pool_run(s.pool, stages, &s);
        usleep(3000);
    }
    pool_close(s.pool);
    assert_false(s.torn);
    assert_int_equal(s.stage[0], 20);
}

static void an_idle_pool_uses_no_cpu(void **state)
{
    (void)state;
    struct shared s = {0};
    struct timespec a, b;
    assert_int_equal(pool_open(&s.pool, THREADS, NULL), ERR_OK);
    pool_run(s.pool, count, &s);
    usleep(50000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    usleep(200000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    pool_close(s.pool);
    double used_ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    assert_true(used_ms < 20.0);
}

static void thread_counts_outside_the_range_are_refused(void **state)
{
    (void)state;
    struct pool *p = NULL;
    struct errmsg why = {0};
    assert_int_equal(pool_open(&p, 0, &why), ERR_RANGE);
    assert_non_null(strstr(why.text, "0 is outside 1..512"));
    assert_int_equal(pool_open(&p, POOL_THREADS_MAX + 1, &why), ERR_RANGE);
    assert_null(p);
    pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_the_function_once_per_region),
        cmocka_unit_test(a_barrier_shows_all_writes_made_before_it),
        cmocka_unit_test(threads_that_fell_asleep_are_woken),
        cmocka_unit_test(an_idle_pool_uses_no_cpu),
        cmocka_unit_test(thread_counts_outside_the_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
