#include "worker/sample/select.h"
#include "worker/sample/vexp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { N = 700 };

static const float *sort_by;
static int by_value_then_index(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    if (sort_by[i] != sort_by[k])
        return sort_by[i] > sort_by[k] ? -1 : 1;
    return i < k ? -1 : 1;
}

static int ascending(const void *a, const void *b)
{
    return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1;
}

/* Several shapes of z: spread, many ties, all equal, narrow, far below the bins, with -inf. */
static void fill(float *z, uint32_t n, int shape)
{
    for (uint32_t i = 0; i < n; i++) {
        float r = (float)rand() / (float)RAND_MAX;
        float v[] = {-20 * r,    -(float)(rand() % 5),
                     0,          -1e-3f * r,
                     -400 * r,   rand() % 3 ? -3 * r : -INFINITY,
                     -1e-35f * r};
        z[i] = v[shape];
    }
    z[rand() % n] = 0; /* the greatest */
}

static void the_prefix_is_that_of_a_full_sort(void **state)
{
    (void)state;
    static struct select_scratch scratch;
    float z[N], w[N];
    int32_t order[N], keep[N];
    srand(3);
    for (int round = 0; round < 3000; round++) {
        uint32_t n = 1 + rand() % N;
        fill(z, n, round % 7);
        for (uint32_t i = 0; i < n; i++) {
            w[i] = vexp_one(z[i]);
            order[i] = (int32_t)i;
        }
        bool count = rand() % 2;
        double total = 0;
        for (uint32_t i = 0; i < n; i++)
            total += (double)w[i];
        double target = count ? 1 + rand() % n : total * (rand() % 1000 / 1000.0);

        uint32_t got = select_prefix(z, count ? NULL : w, n, target, keep, &scratch);

        sort_by = z;
        qsort(order, n, sizeof order[0], by_value_then_index);
        qsort(order, got, sizeof order[0], ascending);
        assert_memory_equal(keep, order, got * sizeof keep[0]);
        if (count)
            assert_int_equal(got, (uint32_t)target);
        qsort(order, got, sizeof order[0], by_value_then_index);
        double sum = 0,
               before = 0; /* reached by the last one, not earlier; sums round differently */
        for (uint32_t i = 0; i < got; i++) {
            before = sum;
            sum += count ? 1 : (double)w[order[i]];
        }
        assert_true(sum > target - 1e-9 * total || got == n);
        assert_true(got == 1 || before < target + 1e-9 * total);
    }
}

static void the_best_few_come_in_order_and_ties_by_index(void **state)
{
    (void)state;
    float x[N];
    int32_t order[N], best[20];
    srand(4);
    for (int round = 0; round < 500; round++) {
        uint32_t n = 1 + rand() % N, k = rand() % 21;
        for (uint32_t i = 0; i < n; i++) {
            x[i] = (float)(rand() % 60) - 30;
            order[i] = (int32_t)i;
        }
        uint32_t got = select_best(x, n, k, best);
        assert_int_equal(got, k < n ? k : n);
        sort_by = x;
        qsort(order, n, sizeof order[0], by_value_then_index);
        assert_memory_equal(best, order, got * sizeof best[0]);
    }
}

static void exp_is_as_exact_as_its_header_says(void **state)
{
    (void)state;
    double worst = 0;
    for (float x = 0; x > -87; x -= 0.00037f) {
        double want = exp((double)x), got = (double)vexp_one(x);
        double err = fabs(got - want) / want;
        worst = err > worst ? err : worst;
    }
    assert_true(worst < 3e-7);
    assert_true(vexp_one(0) == 1.0f);
    assert_true(vexp_one(-87.5f) == 0.0f);
    assert_true(vexp_one(-INFINITY) == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prefix_is_that_of_a_full_sort),
        cmocka_unit_test(the_best_few_come_in_order_and_ties_by_index),
        cmocka_unit_test(exp_is_as_exact_as_its_header_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
