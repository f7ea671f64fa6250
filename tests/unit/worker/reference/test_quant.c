/* test_quant.c - every block format against the reference values in tests/data/quant: blocks that a
 * quantizer made, and random bit patterns that reach every code. Bit-exact, not close. */
#include "worker/quant/qtype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA "tests/data/quant/"

static void *read_file(const char *type, const char *suffix, size_t *n)
{
    char path[128];
    snprintf(path, sizeof path, DATA "%s.%s", type, suffix);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: not readable; run from the repository's root", path);
    char *p = malloc(1 << 20);
    assert_non_null(p);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static void check_set(const char *type, const char *blocks_suffix, const char *values_suffix)
{
    const struct qtype_info *q = qtype_info((uint32_t)qtype_by_name(type));
    assert_non_null(q);
    assert_non_null(q->dequantize);
    size_t n_raw, n_ref;
    char *raw = read_file(type, blocks_suffix, &n_raw);
    float *ref = read_file(type, values_suffix, &n_ref);
    size_t n = n_ref / sizeof(float);
    assert_int_equal(n % q->block_elems, 0);
    assert_int_equal(n_raw, n / q->block_elems * q->block_bytes);

    /* One byte off, because blocks may stand anywhere. */
    char *moved = malloc(n_raw + 1);
    float *got = malloc(n_ref);
    assert_true(moved && got);
    memcpy(moved + 1, raw, n_raw);
    q->dequantize(got, moved + 1, n);
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &ref[i], sizeof(float)) != 0)
            fail_msg("%s %s: element %zu is %a, not %a", type, blocks_suffix, i, (double)got[i],
                     (double)ref[i]);
    free(got);
    free(moved);
    free(ref);
    free(raw);
}

static void dequantizes_bit_exactly(void **state)
{
    check_set(*state, "blocks.bin", "f32");
    check_set(*state, "random.bin", "random.f32");
}

int main(void)
{
    static const char *const types[] = {"F16",     "BF16",   "Q4_0",  "Q4_1",    "Q5_0",   "Q5_1",
                                        "Q8_0",    "Q2_K",   "Q3_K",  "Q4_K",    "Q5_K",   "Q6_K",
                                        "IQ4_NL",  "IQ4_XS", "MXFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S",
                                        "IQ3_XXS", "IQ3_S",  "IQ1_S", "IQ1_M",   "TQ1_0",  "TQ2_0"};
    enum { N = sizeof types / sizeof *types };
    struct CMUnitTest tests[N];
    static char names[N][64];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%s_dequantizes_bit_exactly", types[i]);
        tests[i] = (struct CMUnitTest){names[i], dequantizes_bit_exactly, NULL, NULL,
                                       (void *)(uintptr_t)types[i]};
    }
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
