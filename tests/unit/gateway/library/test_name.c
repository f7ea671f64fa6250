/* Names and URLs: what they mean, what is refused, and that no part can leave its folder. */
#include "gateway/library/name.h"
#include "tests/support/test.h"

static void name_gets_its_defaults(void **state)
{
    // clang-format off
    static const struct { const char *text, *path, *shown; } rows[] = {
        {"qwen2.5", "registry.ollama.ai/library/qwen2.5/latest", "qwen2.5"},
        {"qwen2.5:0.5b", "registry.ollama.ai/library/qwen2.5/0.5b", "qwen2.5:0.5b"},
        {"some_one/M-1:q8_0", "registry.ollama.ai/some_one/M-1/q8_0", "some_one/M-1:q8_0"},
        {"library/x:latest", "registry.ollama.ai/library/x/latest", "x"},
        {"hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0", "hf.co/Qwen/Qwen3-0.6B-GGUF/Q8_0", "hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0"},
        {"localhost:5000/library/x:1", "localhost:5000/library/x/1", "localhost:5000/library/x:1"},
    };
    // clang-format on
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct model_name n, again;
        struct buf b = {0};
        assert_int_equal(name_parse(&n, str_of(rows[i].text), NULL), ERR_OK);
        name_put_path(&b, &n);
        assert_string_equal(b.p, rows[i].path);
        buf_clear(&b);
        name_put(&b, &n);
        assert_string_equal(b.p, rows[i].shown);
        assert_int_equal(name_parse(&again, (struct str){b.p, b.n}, NULL), ERR_OK);
        assert_true(name_eq(&n, &again));
        buf_fini(&b);
    }
}

static void name_that_could_leave_its_folder_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        "/",
        "x:",
        ":x",
        "x::y",
        "x/",
        "/x",
        "../x",
        "x/..",
        "..",
        ".x",
        "-x",
        "a/b/c/d",
        "x:../..",
        "x:a/../b",
        "a..b",
        "x y",
        "x\ny",
        "x%2fy",
        "x\\y",
        "host:99999/a/b",
        "host:/a/b",
        "a:1/b",
        "x@sha256:0",
        "h/../x",
        "\xc3\xbc",
        "x:y:z",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaa",
    };
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct model_name n;
        struct errmsg why = {0};
        if (name_parse(&n, str_of(rows[i]), &why) != ERR_INVALID)
            fail_msg("taken: '%s'", rows[i]);
        assert_non_null(strstr(why.text, "is no name of a model"));
        assert_null(strchr(why.text, '\n'));
    }
    struct model_name n;
    assert_int_equal(name_parse(&n, (struct str){"a\0b", 3}, NULL), ERR_INVALID);
}

static void digest_is_sha256_and_64_hex_digits(void **state)
{
    static const char good[] =
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const char *const bad[] = {
        "",
        "sha256:",
        "sha512:0123",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
        "sha256:../../../../../../../../../../../../../../../../../../../../../x",
    };
    char hex[DIGEST_HEX + 1];
    UNUSED(state);
    assert_true(digest_parse(hex, str_of(good)));
    assert_string_equal(hex, good + 7);
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(digest_parse(hex, str_of(bad[i])));
}

static void url_names_a_file_or_a_split_set(void **state)
{
    struct gguf_url u;
    struct buf b = {0};
    UNUSED(state);
    assert_int_equal(gguf_url_parse(&u, STR("https://h/a/b/m-Q4.gguf?download=true#x"), NULL),
                     ERR_OK);
    assert_true(str_is(u.stem, "m-Q4") && str_is(u.file, "m-Q4.gguf") && u.n_parts == 1);
    gguf_url_put(&b, &u, 1);
    assert_string_equal(b.p, "https://h/a/b/m-Q4.gguf?download=true");
    buf_clear(&b);
    assert_int_equal(gguf_url_parse(&u, STR("HTTPS://h:1/m-00002-of-00003.gguf?x=/y"), NULL),
                     ERR_OK);
    assert_true(str_is(u.stem, "m") && u.part == 2 && u.n_parts == 3);
    gguf_url_put(&b, &u, 3);
    assert_string_equal(b.p, "HTTPS://h:1/m-00003-of-00003.gguf?x=/y");
    buf_fini(&b);
    /* Numbers that make no sense are a plain file's name. */
    assert_int_equal(gguf_url_parse(&u, STR("https://h/m-00004-of-00003.gguf"), NULL), ERR_OK);
    assert_true(u.n_parts == 1 && str_is(u.stem, "m-00004-of-00003"));
}

static void url_that_names_no_gguf_file_is_refused(void **state)
{
    static const char *const rows[] = {
        "ftp://h/x.gguf",      "https://",
        "https://h",           "https://h/",
        "https://h/.gguf",     "https://h/x.bin",
        "https://h?x=/y.gguf", "https://u:p@h/x.gguf",
        "https://h/a b.gguf",  "https:///x.gguf",
        "https://h/x.gguf/",   "https://h/m-00001-of-99999.gguf",
    };
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct gguf_url u;
        struct errmsg why = {0};
        if (gguf_url_parse(&u, str_of(rows[i]), &why) == ERR_OK)
            fail_msg("taken: %s", rows[i]);
        assert_true(why.text[0] && !strchr(why.text, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_gets_its_defaults),
        cmocka_unit_test(name_that_could_leave_its_folder_is_refused),
        cmocka_unit_test(digest_is_sha256_and_64_hex_digits),
        cmocka_unit_test(url_names_a_file_or_a_split_set),
        cmocka_unit_test(url_that_names_no_gguf_file_is_refused),
    };
    return RUN_TESTS(tests);
}
