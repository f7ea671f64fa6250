#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "tests/support/test.h"
#include <math.h>
#include <stdlib.h>

static struct arena arena;
static struct errmsg why;

/* From memory of exactly that length, so that a sanitizer sees a read past the end. */
static enum err parse_n(struct json **v, const char *text, size_t n,
                        const struct json_limits *limits)
{
    static char *copy; /* raw spans borrow from it until the next parse */
    free(copy);
    copy = malloc(n ? n : 1);
    memcpy(copy, text, n);
    arena_reset(&arena);
    memset(&why, 0, sizeof(why));
    return json_parse(v, &arena, copy, n, limits, &why);
}

static struct json *good(const char *text)
{
    struct json *v = NULL;
    if (parse_n(&v, text, strlen(text), NULL))
        fail_msg("%s: %s", text, why.text);
    return v;
}

static void bad(const char *text, enum err code, const char *message)
{
    struct json *v = NULL;
    assert_int_equal(parse_n(&v, text, strlen(text), NULL), code);
    assert_null(v);
    assert_string_equal(why.text, message);
}

static void all_kinds_are_read_with_their_spans(void **state)
{
    UNUSED(state);
    struct json *v =
        good(" { \"a\" : [ 1 , -2.50e+1, \"x\\ny\" ] , \"b\":{}, \"c\":[true,false,null] } ");
    assert_true(json_is(v, JSON_OBJECT));
    assert_int_equal(v->list.count, 3);
    assert_true(str_is(json_get(v, "a")->raw, "[ 1 , -2.50e+1, \"x\\ny\" ]"));
    assert_true(str_is(json_get(v, "b")->raw, "{}"));
    assert_true(str_is(json_get(v, "a")->key, "a"));
    const struct json *a = json_get(v, "a"), *c = json_get(v, "c");
    assert_int_equal(json_at(a, 0)->i, 1);
    assert_true(json_at(a, 1)->f == -25);
    assert_true(str_is(json_at(a, 1)->raw, "-2.50e+1"));
    assert_true(str_is(json_at(a, 2)->s, "x\ny"));
    assert_true(str_is(json_at(a, 2)->raw, "\"x\\ny\""));
    assert_true(json_at(c, 0)->b && !json_at(c, 1)->b && json_is(json_at(c, 2), JSON_NULL));
    assert_null(json_at(c, 3));
    assert_null(json_at(v, 0));
    assert_null(json_get(v, "d"));
    assert_null(json_get(a, "a"));
    assert_null(json_get(NULL, "a"));
}

static void a_scalar_alone_is_a_text(void **state)
{
    UNUSED(state);
    assert_int_equal(good("0")->i, 0);
    assert_true(str_is(good("\"\"")->s, ""));
    assert_true(json_is(good("null"), JSON_NULL));
    assert_true(json_is(good("\t\r\n true \n"), JSON_BOOL));
}

static void numbers_keep_kind_and_spelling(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text;
        enum json_kind kind;
        double f;
    } rows[] = {
        {"1", JSON_INT, 1},
        {"1.0", JSON_FLOAT, 1},
        {"1e0", JSON_FLOAT, 1},
        {"-0", JSON_INT, 0},
        {"-0.0", JSON_FLOAT, -0.0},
        {"0E5", JSON_FLOAT, 0},
        {"9223372036854775807", JSON_INT, 9223372036854775807.0},
        {"-9223372036854775808", JSON_INT, -9223372036854775808.0},
        {"9223372036854775808", JSON_FLOAT, 9223372036854775808.0},
        {"-9223372036854775809", JSON_FLOAT, -9223372036854775808.0},
        {"100000000000000000000000000000000000000000000000000000000000000000000", JSON_FLOAT, 1e68},
        {"1e308", JSON_FLOAT, 1e308},
        {"1e-400", JSON_FLOAT, 0},
        {"5e-324", JSON_FLOAT, 5e-324},
        {"0.1", JSON_FLOAT, 0.1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct json *v = good(rows[i].text);
        assert_int_equal(v->kind, rows[i].kind);
        assert_true(json_is_number(v));
        assert_true(json_f64(v) == rows[i].f && signbit(json_f64(v)) == signbit(rows[i].f));
        assert_true(str_is(v->raw, rows[i].text));
    }
    assert_true(good("9007199254740993")->i == 9007199254740993); /* 2^53 + 1 */
}

static void numbers_beyond_a_double_are_refused(void **state)
{
    UNUSED(state);
    bad("[1e400]", ERR_RANGE, "invalid JSON: number beyond the range of a double at byte 1");
    bad("-1e999999999999999999999", ERR_RANGE,
        "invalid JSON: number beyond the range of a double at byte 0");
    size_t n = 5000; /* 5,000 nines: no exponent needed */
    char *text = malloc(n + 1);
    memset(text, '9', n);
    text[n] = '\0';
    bad(text, ERR_RANGE, "invalid JSON: number beyond the range of a double at byte 0");
    free(text);
}

static void malformed_numbers_are_refused(void **state)
{
    UNUSED(state);
    static const char *const rows[] = {"01",        "-",     "-01",  "1.",   ".5",  "1e",
                                       "1e+",       "+1",    "0x10", "1.e3", "NaN", "Infinity",
                                       "-Infinity", "1_000", "--1",  "1e1.5"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct json *v = NULL;
        assert_int_equal(parse_n(&v, rows[i], strlen(rows[i]), NULL), ERR_INVALID);
    }
}

static void escapes_are_decoded(void **state)
{
    UNUSED(state);
    assert_true(str_is(good("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")->s, "\"\\/\b\f\n\r\t"));
    assert_true(str_is(good("\"\\u0041\\u00e9\\u20AC\\uD83D\\ude00\"")->s,
                       "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
    struct str s = good("\"a\\u0000b\"")->s;
    assert_int_equal(s.n, 3);
    assert_memory_equal(s.p, "a\0b", 3);
    struct json *v = good("{\"\\u0061b\":1}");
    assert_int_equal(json_get(v, "ab")->i, 1);
    v = good("\"plain\"");
    assert_ptr_equal(v->s.p, v->raw.p + 1); /* nothing escaped: no copy */
}

static void lone_surrogates_are_refused(void **state)
{
    UNUSED(state);
    bad("\"\\ud800\"", ERR_INVALID, "invalid JSON: lone surrogate at byte 1");
    bad("\"ab\\udc00\"", ERR_INVALID, "invalid JSON: lone surrogate at byte 3");
    bad("\"\\ud800\\ud800\"", ERR_INVALID, "invalid JSON: lone surrogate at byte 1");
    bad("\"\\ud800\\n\"", ERR_INVALID, "invalid JSON: lone surrogate at byte 1");
    bad("\"\\ud800\\u00\"", ERR_INVALID, "invalid JSON: lone surrogate at byte 1");
    bad("\"\\ud800\xf0\x9f\x98\x80\"", ERR_INVALID, "invalid JSON: lone surrogate at byte 1");
}

static void broken_strings_are_refused_at_their_byte(void **state)
{
    UNUSED(state);
    bad("\"ab", ERR_INVALID, "invalid JSON: unterminated string at byte 0");
    bad("\"ab\\", ERR_INVALID, "invalid JSON: unterminated string at byte 0");
    bad("\"ab\\\"", ERR_INVALID, "invalid JSON: unterminated string at byte 0");
    bad("\"a\nb\"", ERR_INVALID, "invalid JSON: control character in a string at byte 2");
    bad("\"a\\\nb\"", ERR_INVALID, "invalid JSON: control character in a string at byte 3");
    bad("\"\\x\"", ERR_INVALID, "invalid JSON: unknown escape at byte 1");
    bad("\"\\u12G4\"", ERR_INVALID, "invalid JSON: \\u without four hexadecimal digits at byte 1");
    bad("\"\\u12\"", ERR_INVALID, "invalid JSON: \\u without four hexadecimal digits at byte 1");
    bad("\"a\xff\"", ERR_INVALID, "invalid JSON: invalid UTF-8 at byte 2");
    bad("[\"\xed\xa0\x80\"]", ERR_INVALID, "invalid JSON: invalid UTF-8 at byte 2");
    bad("[\"\xc3\"]", ERR_INVALID, "invalid JSON: invalid UTF-8 at byte 2");
    struct json *v = NULL;
    assert_int_equal(parse_n(&v, "\"a\0b\"", 5, NULL), ERR_INVALID);
}

static void broken_structure_is_refused_at_its_byte(void **state)
{
    UNUSED(state);
    bad("", ERR_INVALID, "invalid JSON: text ends where a value should be at byte 0");
    bad("  ", ERR_INVALID, "invalid JSON: text ends where a value should be at byte 2");
    bad("[", ERR_INVALID, "invalid JSON: text ends where a value should be at byte 1");
    bad("[1,]", ERR_INVALID, "invalid JSON: expected a value at byte 3");
    bad("[,1]", ERR_INVALID, "invalid JSON: expected a value at byte 1");
    bad("[1 2]", ERR_INVALID, "invalid JSON: expected ',' or ']' at byte 3");
    bad("[1}", ERR_INVALID, "invalid JSON: expected ',' or ']' at byte 2");
    bad("{\"a\":1]", ERR_INVALID, "invalid JSON: expected ',' or '}' at byte 6");
    bad("{\"a\":1,}", ERR_INVALID, "invalid JSON: expected a key in double quotes at byte 7");
    bad("{a:1}", ERR_INVALID, "invalid JSON: expected a key in double quotes at byte 1");
    bad("{\"a\" 1}", ERR_INVALID, "invalid JSON: expected ':' at byte 5");
    bad("{\"a\":}", ERR_INVALID, "invalid JSON: expected a value at byte 5");
    bad("{\"a\"", ERR_INVALID, "invalid JSON: expected ':' at byte 4");
    bad("{} {}", ERR_INVALID, "invalid JSON: text after the value at byte 3");
    bad("nul", ERR_INVALID, "invalid JSON: expected a value at byte 0");
    bad("truee", ERR_INVALID, "invalid JSON: text after the value at byte 4");
    bad("True", ERR_INVALID, "invalid JSON: expected a value at byte 0");
    bad("'a'", ERR_INVALID, "invalid JSON: expected a value at byte 0");
    bad("/**/1", ERR_INVALID, "invalid JSON: expected a value at byte 0");
    bad("\xef\xbb\xbf{}", ERR_INVALID, "invalid JSON: expected a value at byte 0"); /* BOM */
    bad("\f1", ERR_INVALID, "invalid JSON: expected a value at byte 0");
    bad("\xc2\xa0"
        "1",
        ERR_INVALID, "invalid JSON: expected a value at byte 0");
}

static void duplicate_keys_are_refused_however_spelled(void **state)
{
    UNUSED(state);
    bad("{\"a\":1,\"a\":2}", ERR_INVALID,
        "invalid JSON: duplicate key 'a' with its value at byte 11");
    bad("{\"a\":1,\"\\u0061\":2}", ERR_INVALID,
        "invalid JSON: duplicate key 'a' with its value at byte 16");
    bad("[{\"\":1,\"\":1}]", ERR_INVALID,
        "invalid JSON: duplicate key '' with its value at byte 10");
    good("{\"a\":{\"a\":1},\"b\":{\"a\":1}}");
    good("{\"a\":1,\"a\\u0000\":2,\"aa\":3}");
}

/* One object of n members; the member at `twin` repeats the first key (0: none). */
static char *big_object(size_t n, size_t twin, size_t *len)
{
    struct buf b;
    buf_init(&b);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%c\"key%zu\":%zu", i ? ',' : '{', i == twin ? 0 : i, i);
    buf_putc(&b, '}');
    assert_false(b.failed);
    *len = b.n;
    return b.p;
}

static void duplicate_keys_are_found_in_objects_of_any_size(void **state)
{
    UNUSED(state);
    for (size_t n = 2; n < 40; n++) {
        for (size_t twin = 0; twin < n; twin++) {
            size_t len;
            struct json *v = NULL;
            char *text = big_object(n, twin, &len);
            assert_int_equal(parse_n(&v, text, len, NULL), twin ? ERR_INVALID : ERR_OK);
            free(text);
        }
    }
    bad("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"h\":1,\"b\":1,"
        "\"h\":1}",
        ERR_INVALID, "invalid JSON: duplicate key 'h' with its value at byte 59");
}

static void a_hostile_megabyte_is_read_in_no_time(void **state)
{
    UNUSED(state);
    size_t len;
    struct json *v = NULL;
    char *text = big_object(70000, 69999, &len);
    assert_true(len > 1000000);
    uint64_t t0 = clock_mono_ms();
    assert_int_equal(parse_n(&v, text, len, NULL), ERR_INVALID);
    /* About 30 ms; pairwise it would be 2.4e9 comparisons, many seconds. Sanitizers are 10 times
     * slower. */
    assert_true(clock_mono_ms() - t0 < 3000);
    free(text);
    /* Keys with a long common start, so that every comparison is as long as it can be. */
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 1000; i++) {
        buf_puts(&b, i ? ",\"" : "{\"");
        for (int k = 0; k < 100; k++)
            buf_puts(&b, "aaaaaaaaaa");
        buf_printf(&b, "%d\":0", i);
    }
    buf_putc(&b, '}');
    t0 = clock_mono_ms();
    assert_int_equal(parse_n(&v, b.p, b.n, NULL), ERR_OK);
    assert_true(clock_mono_ms() - t0 < 3000);
    buf_fini(&b);
}

static void depth_is_limited_without_recursion(void **state)
{
    UNUSED(state);
    struct json *v = NULL;
    static char text[2000001];
    memset(text, '[', 129);
    memset(text + 129, ']', 129);
    assert_int_equal(parse_n(&v, text + 1, 256, NULL), ERR_OK);
    assert_int_equal(parse_n(&v, text, 258, NULL), ERR_RANGE);
    assert_string_equal(why.text, "invalid JSON: nested too deeply at byte 128");
    assert_int_equal(parse_n(&v, "[[1]]", 5, &(struct json_limits){.max_depth = 2}), ERR_OK);
    assert_int_equal(parse_n(&v, "[[1]]", 5, &(struct json_limits){.max_depth = 1}), ERR_RANGE);
    assert_int_equal(parse_n(&v, "[[],[],[[]]]", 12, &(struct json_limits){.max_depth = 3}),
                     ERR_OK);
    memset(text, '[', 1000000);
    memset(text + 1000000, ']', 1000000);
    struct json_limits deep = {.max_depth = 1000000};
    assert_int_equal(parse_n(&v, text, 2000000, &deep), ERR_OK);
}

static void nodes_and_memory_are_limited(void **state)
{
    UNUSED(state);
    struct json *v = NULL;
    assert_int_equal(parse_n(&v, "[1,2,3]", 7, &(struct json_limits){.max_nodes = 4}), ERR_OK);
    assert_int_equal(parse_n(&v, "[1,2,3]", 7, &(struct json_limits){.max_nodes = 3}), ERR_RANGE);
    struct arena small;
    arena_init(&small, 500);
    v = NULL;
    assert_int_equal(json_parse(&v, &small, "[1,2,3,4,5,6,7,8,9]", 19, NULL, &why), ERR_NOMEM);
    assert_null(v);
    arena_fini(&small);
}

static void every_prefix_of_a_text_is_refused_and_survived(void **state)
{
    UNUSED(state);
    static const char text[] =
        "{\"a\":[1,-2.5e+3,\"\\u00e9\\ud83d\\ude00\xc3\xa9\",true,null],\"b\":{\"c\":{}}}";
    struct json *v = NULL;
    for (size_t n = 0; n < sizeof(text) - 1; n++)
        assert_int_equal(parse_n(&v, text, n, NULL), ERR_INVALID);
    assert_null(v);
    good(text);
}

static void kind_names_are_those_of_the_messages(void **state)
{
    UNUSED(state);
    assert_string_equal(json_kind_name(JSON_INT), "integer");
    assert_string_equal(json_kind_name(JSON_BOOL), "boolean");
    assert_string_equal(json_kind_name(JSON_OBJECT), "object");
}

static int close_arena(void **state)
{
    UNUSED(state);
    arena_fini(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_are_read_with_their_spans),
        cmocka_unit_test(a_scalar_alone_is_a_text),
        cmocka_unit_test(numbers_keep_kind_and_spelling),
        cmocka_unit_test(numbers_beyond_a_double_are_refused),
        cmocka_unit_test(malformed_numbers_are_refused),
        cmocka_unit_test(escapes_are_decoded),
        cmocka_unit_test(lone_surrogates_are_refused),
        cmocka_unit_test(broken_strings_are_refused_at_their_byte),
        cmocka_unit_test(broken_structure_is_refused_at_its_byte),
        cmocka_unit_test(duplicate_keys_are_refused_however_spelled),
        cmocka_unit_test(duplicate_keys_are_found_in_objects_of_any_size),
        cmocka_unit_test(a_hostile_megabyte_is_read_in_no_time),
        cmocka_unit_test(depth_is_limited_without_recursion),
        cmocka_unit_test(nodes_and_memory_are_limited),
        cmocka_unit_test(every_prefix_of_a_text_is_refused_and_survived),
        cmocka_unit_test(kind_names_are_those_of_the_messages),
    };
    return cmocka_run_group_tests(tests, NULL, close_arena);
}
