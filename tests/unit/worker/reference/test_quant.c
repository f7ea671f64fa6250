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

/* --- the other direction: no reference bytes to match, but an error to stay under ------------ */

/* On the pack's source blocks (zeros, constants, outliers among them): at most a quarter more than
 * the error of the reference quantizer, and blocks of zeros stay zero. */
static void quantizes_about_as_well_as_the_reference(void **state)
{
    const char *type = *state;
    const struct qtype_info *q = qtype_info((uint32_t)qtype_by_name(type));
    assert_non_null(q->quantize);
    size_t n_src, n_ref;
    float *src = read_file(type, "src.f32", &n_src);
    float *ref = read_file(type, "f32", &n_ref);
    assert_int_equal(n_src, n_ref);
    size_t n = n_src / sizeof(float);
    char *blocks = malloc(n / q->block_elems * q->block_bytes);
    float *got = malloc(n_src);
    assert_true(blocks && got);
    q->quantize(blocks, src, n);
    q->dequantize(got, blocks, n);
    double err = 0, err_ref = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        double a = (double)got[i] - (double)src[i], b = (double)ref[i] - (double)src[i];
        err += a * a;
        err_ref += b * b;
        power += (double)src[i] * (double)src[i];
        assert_true(isfinite(got[i]));
    }
    if (sqrt(err) > 1.3 * sqrt(err_ref) + 1e-12 * power)
        fail_msg("%s: error %g, the reference has %g", type, sqrt(err / power),
                 sqrt(err_ref / power));
    memset(src, 0, n_src);
    q->quantize(blocks, src, n);
    q->dequantize(got, blocks, n);
    for (size_t i = 0; i < n; i++)
        assert_true(got[i] == 0);
    free(got);
    free(blocks);
    free(ref);
    free(src);
}

static void halves_convert_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        bool nan = (h & 0x7fff) > 0x7c00;
        float f = f16_to_f32((uint16_t)h);
        assert_true(isnan(f) == nan);
        if (!nan)
            assert_int_equal(f32_to_f16(f), h);
        assert_true((h & 0x7fff) <= 0x7f80 ? f32_to_bf16(bf16_to_f32((uint16_t)h)) == h
                                           : isnan(bf16_to_f32((uint16_t)h)));
    }
    /* Halfway cases go to the even neighbour; the largest and the smallest values stay in range. */
    assert_int_equal(f32_to_f16(1 + 0x1p-11f), 0x3c00);
    assert_int_equal(f32_to_f16(1 + 0x1.8p-10f), 0x3c02);
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520), 0x7c00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0);
    assert_int_equal(f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(f32_to_bf16(1 + 0x1p-8f), 0x3f80);
    assert_int_equal(f32_to_bf16(1 + 0x1.8p-7f), 0x3f82);
    assert_true(isnan(f16_to_f32(f32_to_f16(NAN))) && isnan(bf16_to_f32(f32_to_bf16(NAN))));
}

int main(void)
{
    static const char *const types[] = {"F16",     "BF16",   "Q4_0",  "Q4_1",    "Q5_0",   "Q5_1",
                                        "Q8_0",    "Q2_K",   "Q3_K",  "Q4_K",    "Q5_K",   "Q6_K",
                                        "IQ4_NL",  "IQ4_XS", "MXFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S",
                                        "IQ3_XXS", "IQ3_S",  "IQ1_S", "IQ1_M",   "TQ1_0",  "TQ2_0"};

    static const char *const writable[] = {"F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",
                                           "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"};
    enum { N = sizeof types / sizeof *types, W = sizeof writable / sizeof *writable };
    struct CMUnitTest tests[N + W + 1];
    static char names[N + W][64];
    int n = 0;
    for (int i = 0; i < N; i++, n++) {
        snprintf(names[n], sizeof names[n], "%s_dequantizes_bit_exactly", types[i]);
        tests[n] = (struct CMUnitTest){names[n], dequantizes_bit_exactly, NULL, NULL,
                                       (void *)(uintptr_t)types[i]};
    }
    for (int i = 0; i < W; i++, n++) {
        snprintf(names[n], sizeof names[n], "%s_quantizes_about_as_well_as_the_reference",
                 writable[i]);
        tests[n] = (struct CMUnitTest){names[n], quantizes_about_as_well_as_the_reference, NULL,
                                       NULL, (void *)(uintptr_t)writable[i]};
    }
    tests[n] = (struct CMUnitTest)cmocka_unit_test(halves_convert_exactly);
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
