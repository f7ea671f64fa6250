#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/base/log.h"
#include "tests/support/test.h"
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static int out[2];
static char line[2 * LOG_LINE_MAX];

/* What the last event wrote; a pipe, so one write(2) is one read. */
static size_t caught(void)
{
    ssize_t n = read(out[0], line, sizeof(line) - 1);
    assert_true(n > 0);
    line[n] = '\0';
    return (size_t)n;
}

static void plain_lines_read_as_documented(void **state)
{
    UNUSED(state);
    log_setup(LOG_INFO, LOG_PLAIN, out[1]);
    log_info("supervise", "worker ready", KV_U("pid", 12), KV_S("model", "tiny"), KV_I("left", -3),
             KV_F("load_s", 0.25));
    caught();
    assert_int_equal(strlen("2026-11-23T10:00:00.123Z"), strcspn(line, " "));
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[23], 'Z');
    assert_string_equal(line + 24,
                        " info  supervise worker ready pid=12 model=tiny left=-3 load_s=0.25\n");
    log_warn("gateway", "stopping");
    caught();
    assert_string_equal(line + 24, " warn  gateway stopping\n");
}

static void below_the_level_nothing_is_written(void **state)
{
    UNUSED(state);
    log_setup(LOG_WARN, LOG_PLAIN, out[1]);
    log_debug("m", "no");
    log_info("m", "no");
    log_error("m", "yes");
    caught();
    assert_non_null(strstr(line, "error m yes"));
}

static void a_hostile_value_cannot_forge_a_line(void **state)
{
    UNUSED(state);
    log_setup(LOG_INFO, LOG_PLAIN, out[1]);
    log_info("m", "x", KV_S("a", "1\n2026 error m forged k=\"v\"\x1b[2J\xc2\x9b\xff"),
             KV_S("empty", ""), KV_S("null", NULL), KV_S("eq", "a=b"));
    size_t n = caught();
    assert_ptr_equal(memchr(line, '\n', n), line + n - 1);
    assert_null(strchr(line, 0x1b));
    assert_non_null(strstr(line,
                           "a=\"1\\u000a2026 error m forged k=\\\"v\\\"\\u001b[2J\\u009b\\xff\" "
                           "empty=\"\" null=\"\" eq=\"a=b\"\n"));
}

static struct json *parsed(struct arena *a)
{
    struct json *v = NULL;
    struct errmsg why;
    size_t n = caught();
    assert_int_equal(line[n - 1], '\n');
    assert_ptr_equal(memchr(line, '\n', n), line + n - 1);
    if (json_parse(&v, a, line, n, NULL, &why))
        fail_msg("%s in %s", why.text, line);
    return v;
}

static void json_lines_are_json(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    log_setup(LOG_INFO, LOG_JSON, out[1]);
    log_warn("mod", "two\nlines \"q\"", KV_S("s", "\\\xff\x01"), KV_I("i", INT64_MIN),
             KV_U("u", UINT64_MAX), KV_F("nan", NAN), KV_F("f", 1.5));
    struct json *v = parsed(&a);
    assert_true(str_is(json_get(v, "level")->s, "warn"));
    assert_true(str_is(json_get(v, "module")->s, "mod"));
    assert_true(str_is(json_get(v, "msg")->s, "two\nlines \"q\""));
    assert_true(str_is(json_get(v, "s")->s, "\\\xef\xbf\xbd\x01"));
    assert_true(json_get(v, "i")->i == INT64_MIN);
    assert_true(str_is(json_get(v, "u")->raw, "18446744073709551615"));
    assert_true(json_is(json_get(v, "nan"), JSON_NULL));
    assert_true(json_f64(json_get(v, "f")) == 1.5);
    arena_fini(&a);
}

/* Every way to run out of room: in the message, in a key, in a value, in an escape, at each byte.
 */
static void long_lines_are_cut_whole_and_say_so(void **state)
{
    UNUSED(state);
    static char text[LOG_LINE_MAX + 100];
    struct arena a;
    arena_init(&a, 0);
    for (size_t n = LOG_LINE_MAX - 180; n < LOG_LINE_MAX + 20; n++) {
        memset(text, 'x', n);
        text[n] = '\0';
        log_setup(LOG_INFO, LOG_JSON, out[1]);
        log_info("m", "cut", KV_S("long", text), KV_S("quoted", "\"\xe2\x82\xac\""),
                 KV_I("last", 1));
        struct json *v = parsed(&a);
        assert_true(strlen(line) <= LOG_LINE_MAX);
        assert_int_equal(json_get(v, "truncated") == NULL, json_get(v, "last") != NULL);
        arena_reset(&a);
        log_info("m", text, KV_S("k", "v"));
        parsed(&a);
        arena_reset(&a);
        log_setup(LOG_INFO, LOG_PLAIN, out[1]);
        log_info("m", "cut", KV_S("long", text), KV_S("quoted", "\"\xe2\x82\xac\""),
                 KV_I("last", 1));
        assert_true(caught() <= LOG_LINE_MAX);
        assert_int_equal(strstr(line, " truncated=true\n") == NULL,
                         strstr(line, " last=1\n") != NULL);
    }
    arena_fini(&a);
}

static void level_names_parse(void **state)
{
    UNUSED(state);
    enum log_level l = LOG_DEBUG;
    assert_true(log_level_parse("error", &l));
    assert_int_equal(l, LOG_ERROR);
    assert_false(log_level_parse("loud", &l));
    assert_int_equal(l, LOG_ERROR);
}

static void clocks_run_forward_in_their_units(void **state)
{
    UNUSED(state);
    uint64_t t0 = clock_mono_ns();
    int64_t w0 = clock_wall_ms();
    usleep(20000);
    uint64_t took = clock_mono_ns() - t0;
    assert_in_range(took, 20000000, 5000000000);
    assert_true(clock_wall_ms() - w0 >= 10);
    assert_true(clock_mono_ms() - t0 / 1000000 < 10000);
    assert_true(w0 > 1700000000000); /* after 2023, so milliseconds */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines_read_as_documented),
        cmocka_unit_test(below_the_level_nothing_is_written),
        cmocka_unit_test(a_hostile_value_cannot_forge_a_line),
        cmocka_unit_test(json_lines_are_json),
        cmocka_unit_test(long_lines_are_cut_whole_and_say_so),
        cmocka_unit_test(level_names_parse),
        cmocka_unit_test(clocks_run_forward_in_their_units),
    };
    if (pipe(out))
        return 1;
    return RUN_TESTS(tests);
}
