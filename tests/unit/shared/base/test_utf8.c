#include "shared/base/utf8.h"
#include "tests/support/test.h"

static void every_scalar_value_round_trips_and_nothing_else_encodes(void **state)
{
    UNUSED(state);
    char s[4];
    for (uint32_t cp = 0; cp < 0x110100; cp++) {
        uint32_t back = 0;
        int n = utf8_encode(cp, s);
        bool scalar = cp <= 0x10ffff && !(cp >= 0xd800 && cp <= 0xdfff);
        assert_int_equal(n != 0, scalar);
        if (!scalar)
            continue;
        assert_int_equal(utf8_decode(s, (size_t)n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(utf8_decode(s, (size_t)n - 1, &back), 0);
    }
}

static void overlong_forms_surrogates_and_beyond_10ffff_are_invalid(void **state)
{
    UNUSED(state);
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xfe",
        "\xc3(",
        "\xe2\x82(",
        "\xf0\x9f\x98(",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint32_t cp = 7;
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
        assert_int_equal(utf8_decode(bad[i], strlen(bad[i]), &cp), 0);
        assert_int_equal(cp, 7);
    }
    static const char *const good[] = {"\xe0\xa0\x80",     "\xed\x9f\xbf",     "\xee\x80\x80",
                                       "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xdf\xbf"};
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(utf8_valid(good[i], strlen(good[i])));
}

static void valid_prefix_ends_before_the_first_fault_at_every_alignment(void **state)
{
    UNUSED(state);
    char text[64];
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        text[at] = '\xff';
        assert_int_equal(utf8_valid_prefix(text, sizeof(text)), at);
    }
    assert_int_equal(utf8_valid_prefix("", 0), 0);
}

static void incomplete_tail_is_what_more_bytes_could_complete(void **state)
{
    UNUSED(state);
    assert_int_equal(utf8_incomplete_tail("", 0), 0);
    assert_int_equal(utf8_incomplete_tail("a", 1), 0);
    assert_int_equal(utf8_incomplete_tail("a\xc3", 2), 1);
    assert_int_equal(utf8_incomplete_tail("a\xe2\x82", 3), 2);
    assert_int_equal(utf8_incomplete_tail("\xe2\x82\xac", 3), 0);
    assert_int_equal(utf8_incomplete_tail("\xf0\x9f\x98", 3), 3);
    assert_int_equal(utf8_incomplete_tail("\xf0\x9f\x98\x80", 4), 0);
    assert_int_equal(utf8_incomplete_tail("\xe0\x80", 2), 0); /* overlong: hopeless */
    assert_int_equal(utf8_incomplete_tail("\xff", 1), 0);
    assert_int_equal(utf8_incomplete_tail("\x80\x80\x80\x80", 4), 0);
}

/* The example of the Unicode Standard 15, table 3-8. */
static void sanitize_replaces_each_maximal_subpart(void **state)
{
    UNUSED(state);
    static const char in[] = "\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64";
    static const char want[] = "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                               "b\xef\xbf\xbd"
                               "c\xef\xbf\xbd\xef\xbf\xbd"
                               "d";
    char out[3 * sizeof(in)];
    size_t n = utf8_sanitize(in, sizeof(in) - 1, out);
    assert_int_equal(n, sizeof(want) - 1);
    assert_memory_equal(out, want, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_round_trips_and_nothing_else_encodes),
        cmocka_unit_test(overlong_forms_surrogates_and_beyond_10ffff_are_invalid),
        cmocka_unit_test(valid_prefix_ends_before_the_first_fault_at_every_alignment),
        cmocka_unit_test(incomplete_tail_is_what_more_bytes_could_complete),
        cmocka_unit_test(sanitize_replaces_each_maximal_subpart),
    };
    return RUN_TESTS(tests);
}
