#include "shared/base/buf.h"
#include "tests/support/test.h"

static void pieces_join_and_a_nul_follows(void **state)
{
    UNUSED(state);
    struct buf b;
    buf_init(&b);
    buf_puts(&b, "a");
    buf_putc(&b, 'b');
    buf_put(&b, "cd", 2);
    buf_put(&b, NULL, 0);
    buf_printf(&b, "%d-%s", 7, "x");
    buf_put_u64(&b, 0);
    buf_put_u64(&b, UINT64_MAX);
    buf_put_i64(&b, INT64_MIN);
    buf_put_i64(&b, INT64_MAX);
    assert_string_equal(b.p, "abcd7-x018446744073709551615-92233720368547758089223372036854775807");
    assert_int_equal(b.n, strlen(b.p));
    assert_false(b.failed);
    buf_fini(&b);
    assert_null(b.p);
}

static void printf_grows_at_every_fill(void **state)
{
    UNUSED(state);
    for (size_t fill = 0; fill < 200; fill++) {
        struct buf b;
        buf_init(&b);
        for (size_t i = 0; i < fill; i++)
            buf_putc(&b, '.');
        buf_printf(&b, "%s", "0123456789");
        assert_int_equal(b.n, fill + 10);
        assert_string_equal(b.p + fill, "0123456789");
        buf_fini(&b);
    }
}

static void past_the_limit_nothing_changes_and_failed_sticks(void **state)
{
    UNUSED(state);
    struct buf b;
    buf_init(&b);
    b.limit = 8;
    buf_puts(&b, "12345678");
    assert_false(b.failed);
    buf_putc(&b, '9');
    assert_true(b.failed);
    buf_clear(&b);
    buf_puts(&b, "12345");
    buf_printf(&b, "%s", "abcd");
    assert_true(b.failed);
    buf_putc(&b, 'x'); /* would fit, but a hole must not stay unseen */
    assert_string_equal(b.p, "12345");
    buf_clear(&b);
    assert_false(b.failed);
    buf_puts(&b, "1234567");
    buf_put_i64(&b, -5);
    assert_true(b.failed);
    assert_string_equal(b.p, "1234567");
    buf_fini(&b);
}

static void a_reserve_that_overflows_fails(void **state)
{
    UNUSED(state);
    struct buf b;
    buf_init(&b);
    buf_putc(&b, 'x');
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    assert_string_equal(b.p, "x");
    buf_fini(&b);
}

static void drop_front_keeps_the_rest(void **state)
{
    UNUSED(state);
    struct buf b;
    buf_init(&b);
    buf_drop_front(&b, 5);
    buf_puts(&b, "header body");
    buf_drop_front(&b, 7);
    assert_string_equal(b.p, "body");
    assert_int_equal(b.n, 4);
    buf_drop_front(&b, 100);
    assert_int_equal(b.n, 0);
    assert_string_equal(b.p, "");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_join_and_a_nul_follows),
        cmocka_unit_test(printf_grows_at_every_fill),
        cmocka_unit_test(past_the_limit_nothing_changes_and_failed_sticks),
        cmocka_unit_test(a_reserve_that_overflows_fails),
        cmocka_unit_test(drop_front_keeps_the_rest),
    };
    return RUN_TESTS(tests);
}
