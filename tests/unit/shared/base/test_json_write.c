#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include "tests/support/test.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

static struct buf b;

static const char *str_form(const char *p, size_t n)
{
    buf_clear(&b);
    json_put_str(&b, p, n);
    assert_false(b.failed);
    return b.p;
}

static const char *f64_form(double v)
{
    buf_clear(&b);
    json_put_f64(&b, v);
    return b.p;
}

static void strings_are_escaped_as_rfc_8259_wants(void **state)
{
    UNUSED(state);
    assert_string_equal(str_form("", 0), "\"\"");
    assert_string_equal(str_form("a\"b\\c/", 6), "\"a\\\"b\\\\c/\"");
    assert_string_equal(str_form("\b\f\n\r\t\x01\x1f\x7f", 8),
                        "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
    assert_string_equal(str_form("a\0b", 3), "\"a\\u0000b\"");
    assert_string_equal(str_form("\xc3\xa9\xf0\x9f\x98\x80", 6), "\"\xc3\xa9\xf0\x9f\x98\x80\"");
}

/* Byte for byte what utf8_sanitize() makes of it, over all short strings of awkward bytes. */
static void invalid_utf8_becomes_the_replacement_character(void **state)
{
    UNUSED(state);
    static const char awkward[] = "a\x80\xbf\xc3\xe2\x82\xed\xa0\xf0\x9f\xf4\xff";
    enum { N = sizeof(awkward) - 1 };
    for (size_t code = 0; code < N * N * N * N; code++) {
        char in[4], want[16] = "\"";
        size_t c = code;
        for (int i = 0; i < 4; i++, c /= N)
            in[i] = awkward[c % N];
        size_t n = utf8_sanitize(in, 4, want + 1);
        memcpy(want + 1 + n, "\"", 2);
        if (strcmp(str_form(in, 4), want) != 0)
            fail_msg("%02x %02x %02x %02x: %s", in[0] & 255, in[1] & 255, in[2] & 255, in[3] & 255,
                     b.p);
    }
}

static void what_is_written_reads_back(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    char text[256];
    for (int i = 0; i < 128; i++)
        text[i] = (char)i;
    str_form(text, 128);
    struct json *v = NULL;
    assert_int_equal(json_parse(&v, &a, b.p, b.n, NULL, NULL), ERR_OK);
    assert_int_equal(v->s.n, 128);
    assert_memory_equal(v->s.p, text, 128);
    arena_fini(&a);
}

static void a_string_past_the_limit_leaves_nothing_behind(void **state)
{
    UNUSED(state);
    struct buf small;
    buf_init(&small);
    small.limit = 10;
    buf_puts(&small, "abc");
    json_put_str(&small, "0123\n56789", 10);
    assert_true(small.failed);
    assert_string_equal(small.p, "abc");
    buf_fini(&small);
}

static void numbers_are_short_valid_and_exact(void **state)
{
    UNUSED(state);
    assert_string_equal(f64_form(0), "0");
    assert_string_equal(f64_form(-0.0), "-0");
    assert_string_equal(f64_form(1), "1");
    assert_string_equal(f64_form(0.1), "0.1");
    assert_string_equal(f64_form(-1.5), "-1.5");
    assert_string_equal(f64_form(1e22), "1e+22");
    assert_string_equal(f64_form(0.1 + 0.2), "0.30000000000000004");
    assert_string_equal(f64_form(NAN), "null");
    assert_string_equal(f64_form(-INFINITY), "null");
}

static void any_double_reads_back_equal(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    uint64_t bits = 0x123456789abcdef;
    for (int i = 0; i < 20000; i++) {
        double v;
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&v, &bits, sizeof(v));
        if (i == 0)
            v = DBL_MAX;
        if (i == 1)
            v = 5e-324;
        if (!isfinite(v))
            continue;
        struct json *back = NULL;
        f64_form(v);
        assert_int_equal(json_parse(&back, &a, b.p, b.n, NULL, NULL), ERR_OK);
        assert_true(json_f64(back) == v);
        arena_reset(&a);
    }
    arena_fini(&a);
}

static int close_buf(void **state)
{
    UNUSED(state);
    buf_fini(&b);
    return 0;
}

static void members_are_parted_by_commas_at_every_depth(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out);
    buf_putc(&out, '{');
    json_put_member_u64(&out, "n", UINT64_MAX);
    json_put_member_str(&out, "s", str_of("a\"b"));
    json_put_key(&out, "o");
    buf_putc(&out, '{');
    json_put_member_bool(&out, "t", true);
    json_put_member_bool(&out, "f", false);
    buf_puts(&out, "}}");
    buf_putc(&out, 0);
    assert_string_equal(
        out.p, "{\"n\":18446744073709551615,\"s\":\"a\\\"b\",\"o\":{\"t\":true,\"f\":false}}");
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_parted_by_commas_at_every_depth),
        cmocka_unit_test(strings_are_escaped_as_rfc_8259_wants),
        cmocka_unit_test(invalid_utf8_becomes_the_replacement_character),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(a_string_past_the_limit_leaves_nothing_behind),
        cmocka_unit_test(numbers_are_short_valid_and_exact),
        cmocka_unit_test(any_double_reads_back_equal),
    };
    return cmocka_run_group_tests(tests, NULL, close_buf);
}
