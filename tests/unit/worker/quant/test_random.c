/* test_random.c - random blocks: finite, of mean zero, of the size asked for, repeatable. */
#include "worker/quant/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 1 << 15 };

static void blocks_of_every_type_have_the_spread_asked_for(void **state)
{
    (void)state;
    char *raw = malloc(N * sizeof(float));
    float *x = malloc(N * sizeof(float));
    assert_true(raw && x);
    static const float stds[] = {0.005f, 0.02f, 1.0f};
    for (uint32_t id = 0; id < QTYPE_COUNT_; id++) {
        const struct qtype_info *q = qtype_info(id);
        if (!q || !q->dequantize)
            continue;
        for (size_t k = 0; k < sizeof stds / sizeof *stds; k++) {
            struct qrandom r;
            qrandom_seed(&r, 7);
            qrandom_blocks(raw, (enum qtype)id, N, stds[k], &r);
            q->dequantize(x, raw, N);
            double sum = 0, squares = 0;
            for (int i = 0; i < N; i++) {
                assert_true(isfinite(x[i]));
                sum += (double)x[i];
                squares += (double)x[i] * (double)x[i];
            }
            double std = sqrt(squares / N), mean = sum / N, want = (double)stds[k];
            /* Subnormal halves are coarse, and MXFP4 has powers of two only. */
            if (std < 0.7 * want || std > 1.4 * want || fabs(mean) > 0.1 * want)
                fail_msg("%s: mean %g, deviation %g, not %g", q->name, mean, std, want);
        }
    }
    free(x);
    free(raw);
}

static void the_seed_decides_the_bytes(void **state)
{
    (void)state;
    char a[3][210 * 16];
    for (int i = 0; i < 3; i++) {
        struct qrandom r;
        qrandom_seed(&r, i < 2 ? 5 : 6);
        qrandom_blocks(a[i], QTYPE_Q6_K, 256 * 16, 0.1f, &r);
    }
    assert_memory_equal(a[0], a[1], sizeof a[0]);
    assert_memory_not_equal(a[0], a[2], sizeof a[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_type_have_the_spread_asked_for),
        cmocka_unit_test(the_seed_decides_the_bytes),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
