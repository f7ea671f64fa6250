#include "shared/base/err.h"
#include "shared/base/utf8.h"
#include "tests/support/test.h"

static void every_code_has_a_name_and_a_text(void **state)
{
    UNUSED(state);
    for (int e = ERR_OK; e < ERR_COUNT_; e++) {
        assert_string_not_equal(err_name((enum err)e), "?");
        assert_string_not_equal(err_text((enum err)e), "unknown error");
    }
    assert_string_equal(err_name(ERR_INVALID), "INVALID");
    assert_string_equal(err_text(ERR_INVALID), "malformed input");
    assert_string_equal(err_name(ERR_COUNT_), "?");
    assert_string_equal(err_text((enum err)999), "unknown error");
}

static void err_set_returns_its_code_with_or_without_a_message(void **state)
{
    UNUSED(state);
    struct errmsg why = {0};
    assert_int_equal(err_set(&why, ERR_IO, "%s: %d", "file", 7), ERR_IO);
    assert_string_equal(why.text, "file: 7");
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
}

static void a_message_can_be_wrapped_into_itself(void **state)
{
    UNUSED(state);
    struct errmsg why = {0};
    err_set(&why, ERR_IO, "no such file");
    err_set(&why, ERR_IO, "%s: %s", "model.gguf", why.text);
    assert_string_equal(why.text, "model.gguf: no such file");
}

static void control_characters_and_broken_text_become_question_marks(void **state)
{
    UNUSED(state);
    struct errmsg why;
    err_set(&why, ERR_INVALID, "a\nb\x1b[31m\x7f \xc2\x85 \xff \xc3\xa9");
    assert_string_equal(why.text, "a?b?[31m? ?? ? \xc3\xa9");
}

static void a_long_message_is_cut_visibly_between_characters(void **state)
{
    UNUSED(state);
    struct errmsg why;
    char name[600];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(name, 'x', shift);
        for (size_t i = shift; i + 3 <= sizeof(name) - 1; i += 3)
            memcpy(name + i, "\xe2\x82\xac", 4);
        err_set(&why, ERR_INVALID, "%s", name);
        size_t n = strlen(why.text);
        assert_in_range(n, sizeof(why.text) - 4, sizeof(why.text) - 1);
        assert_string_equal(why.text + n - 3, "...");
        assert_true(utf8_valid(why.text, n));
        assert_null(strchr(why.text, '?'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_and_a_text),
        cmocka_unit_test(err_set_returns_its_code_with_or_without_a_message),
        cmocka_unit_test(a_message_can_be_wrapped_into_itself),
        cmocka_unit_test(control_characters_and_broken_text_become_question_marks),
        cmocka_unit_test(a_long_message_is_cut_visibly_between_characters),
    };
    return RUN_TESTS(tests);
}
