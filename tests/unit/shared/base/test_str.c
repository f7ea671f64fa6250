#include "shared/base/checked.h"
#include "shared/base/str.h"
#include "tests/support/test.h"

static void unsigned_numbers_are_whole_and_in_range(void **state)
{
    UNUSED(state);
    uint64_t v = 7;
    assert_true(str_to_u64(STR("18446744073709551615"), UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    assert_true(str_to_u64(STR("007"), 10, &v));
    assert_int_equal(v, 7);
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1a",
                                      "11",
                                      "0x1",
                                      "18446744073709551616",
                                      "99999999999999999999"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(str_to_u64(str_of(bad[i]), 10, &v));
    assert_false(str_to_u64(STR("18446744073709551616"), UINT64_MAX, &v));
    assert_int_equal(v, 7);
}

static void signed_numbers_reach_both_ends(void **state)
{
    UNUSED(state);
    int64_t v = 7;
    assert_true(str_to_i64(STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &v));
    assert_true(v == INT64_MIN);
    assert_true(str_to_i64(STR("9223372036854775807"), INT64_MIN, INT64_MAX, &v));
    assert_true(v == INT64_MAX);
    assert_false(str_to_i64(STR("9223372036854775808"), INT64_MIN, INT64_MAX, &v));
    assert_false(str_to_i64(STR("-9223372036854775809"), INT64_MIN, INT64_MAX, &v));
    assert_false(str_to_i64(STR("-"), INT64_MIN, INT64_MAX, &v));
    assert_false(str_to_i64(STR("--1"), INT64_MIN, INT64_MAX, &v));
    assert_false(str_to_i64(STR("-3"), -2, 2, &v));
    assert_false(str_to_i64(STR("3"), -2, 2, &v));
    assert_true(v == INT64_MAX);
}

static void floats_are_finite_decimal_and_whole(void **state)
{
    UNUSED(state);
    double v = 7;
    assert_true(str_to_f64(STR("-0.25"), &v));
    assert_true(v == -0.25);
    assert_true(str_to_f64(STR("1e3"), &v));
    assert_true(v == 1000);
    static const char *const bad[] = {"",   "nan", "inf",   "1e400", "0x10", " 1",   "1 ",
                                      "+1", "1e",  "1.2.3", "--1",   "e",    "1\n2", "."};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(str_to_f64(str_of(bad[i]), &v));
    assert_false(str_to_f64((struct str){"1\0002", 3}, &v));
    assert_true(v == 1000);
}

static void comparing_looks_at_length_and_bytes(void **state)
{
    UNUSED(state);
    assert_true(str_is(STR("abc"), "abc"));
    assert_false(str_is(STR("abc"), "ab"));
    assert_true(str_eq((struct str){NULL, 0}, STR("")));
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_true(str_starts(STR("abc"), STR("")));
    assert_false(str_starts(STR("a"), STR("ab")));
}

static void checked_arithmetic_leaves_the_result_alone_on_overflow(void **state)
{
    UNUSED(state);
    size_t z = 7;
    uint64_t u = 7;
    assert_false(add_size(&z, SIZE_MAX, 1));
    assert_false(mul_size(&z, SIZE_MAX / 2 + 1, 2));
    assert_false(add_u64(&u, UINT64_MAX, 1));
    assert_false(mul_u64(&u, UINT64_MAX, 2));
    assert_false(align_up_u64(&u, UINT64_MAX - 6, 8));
    assert_int_equal(z, 7);
    assert_int_equal(u, 7);
    assert_true(align_up_u64(&u, 9, 8) && u == 16);
    assert_true(align_up_u64(&u, UINT64_MAX - 7, 8) && u == UINT64_MAX - 7);
    assert_true(range_ok(8, 0, 8));
    assert_false(range_ok(9, 0, 8));
    assert_false(range_ok(8, UINT64_MAX, 16));
}

static void sizes_count_by_1024_or_with_a_plain_b_by_1000(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } cases[] = {{"4096", 4096},
                 {"24G", 24ull << 30},
                 {"24g", 24ull << 30},
                 {"1.5GiB", 3ull << 29},
                 {"800MB", 800000000},
                 {"2T", 2ull << 40},
                 {"", 0},
                 {"G", 0},
                 {"0G", 0},
                 {"-1G", 0},
                 {"24X", 0},
                 {"24Gi", 0},
                 {"24GBB", 0},
                 {"1e30", 0},
                 {"9999999P", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t v = 0;
        assert_int_equal(str_to_bytes(str_of(cases[i].text), &v), cases[i].bytes > 0);
        assert_int_equal(v, cases[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_count_by_1024_or_with_a_plain_b_by_1000),
        cmocka_unit_test(unsigned_numbers_are_whole_and_in_range),
        cmocka_unit_test(signed_numbers_reach_both_ends),
        cmocka_unit_test(floats_are_finite_decimal_and_whole),
        cmocka_unit_test(comparing_looks_at_length_and_bytes),
        cmocka_unit_test(checked_arithmetic_leaves_the_result_alone_on_overflow),
    };
    return RUN_TESTS(tests);
}
