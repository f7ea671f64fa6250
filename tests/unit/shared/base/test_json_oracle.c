/* The reader beside cJSON, on random documents and on random damage to them. cJSON is laxer in
 * known ways (listed in judge()), so: what we accept it must accept with the same tree; what we
 * refuse and it accepts must have one of those reasons. */
#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include "tests/support/test.h"
#include <cjson/cJSON.h>
#include <stdlib.h>

static uint64_t seed;

static unsigned rnd(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static void random_value(struct buf *b, int depth)
{
    static const char *const scalars[] = {"0",
                                          "-1",
                                          "12345678901",
                                          "0.5",
                                          "-1e-3",
                                          "6E4",
                                          "true",
                                          "false",
                                          "null",
                                          "\"\"",
                                          "\"x\"",
                                          "\"\\n\\/\"",
                                          "\"\\u00e9\xc3\xa9\\ud83d\\ude00\"",
                                          "123456789012345678901234567890"};
    unsigned n = rnd(4);
    switch (rnd(depth > 4 ? 2 : 4)) {
    case 2:
        buf_putc(b, '[');
        for (unsigned i = 0; i < n; i++) {
            buf_puts(b, i ? " ," : "");
            random_value(b, depth + 1);
        }
        buf_puts(b, rnd(2) ? "]" : "\n]");
        break;
    case 3:
        buf_putc(b, '{');
        for (unsigned i = 0; i < n; i++) {
            buf_printf(b, "%s\"k%u\":", i ? "," : " ", i);
            random_value(b, depth + 1);
        }
        buf_putc(b, '}');
        break;
    default:
        buf_puts(b, scalars[rnd(COUNT(scalars))]);
    }
}

static bool same(const struct json *v, const cJSON *c)
{
    size_t n = 0;
    switch (v->kind) {
    case JSON_NULL:
        return cJSON_IsNull(c);
    case JSON_BOOL:
        return v->b ? cJSON_IsTrue(c) : cJSON_IsFalse(c);
    case JSON_INT:
    case JSON_FLOAT:
        return cJSON_IsNumber(c) && c->valuedouble == json_f64(v);
    case JSON_STRING:
        return cJSON_IsString(c) && str_is(v->s, c->valuestring);
    case JSON_ARRAY:
    case JSON_OBJECT:
        if (v->kind == JSON_ARRAY ? !cJSON_IsArray(c) : !cJSON_IsObject(c))
            return false;
        c = c->child;
        for (v = v->list.first; v && c; v = v->next, c = c->next, n++)
            if (!same(v, c) || (c->string && !str_is(v->key, c->string)))
                return false;
        return !v && !c;
    }
    return false;
}

static void judge(const char *text, size_t n, const enum err e, const struct json *v,
                  const struct errmsg *why)
{
    cJSON *c = cJSON_ParseWithLengthOpts(text, n + 1, NULL, 1);
    static const char *const stricter[] = {
        "UTF-8",     "duplicate key",    "control character", "leading zero", "digits",
        "surrogate", "beyond the range", "expected",          "text after",   "text ends"};
    if (e == ERR_OK && (!c || !same(v, c)))
        fail_msg("only we accept, or the trees differ: %s", text);
    if (e != ERR_OK && c) {
        bool known = false;
        for (size_t i = 0; i < COUNT(stricter); i++)
            known |= strstr(why->text, stricter[i]) != NULL;
        /* cJSON skips any control character as white space, and a byte order mark. */
        bool odd_space = false;
        for (size_t i = 0; i < n; i++)
            odd_space |= (unsigned char)text[i] < ' ' && !strchr("\t\n\r", text[i]);
        if (!known ||
            (strstr(why->text, "expected") && !odd_space && !strstr(text, "\xef\xbb\xbf")))
            fail_msg("cJSON accepts, we say %s: %s", why->text, text);
    }
    cJSON_Delete(c);
}

static void random_documents_give_the_same_tree(void **state)
{
    UNUSED(state);
    struct arena a;
    struct buf b;
    arena_init(&a, 0);
    buf_init(&b);
    seed = 1;
    for (int round = 0; round < 3000; round++) {
        struct json *v = NULL;
        struct errmsg why = {0};
        buf_clear(&b);
        random_value(&b, 0);
        enum err e = json_parse(&v, &a, b.p, b.n, NULL, &why);
        if (e)
            fail_msg("%s: %s", why.text, b.p);
        judge(b.p, b.n, e, v, &why);
        arena_reset(&a);
    }
    buf_fini(&b);
    arena_fini(&a);
}

static void damaged_documents_are_judged_alike(void **state)
{
    UNUSED(state);
    static const char marks[] = "{}[]\",:0129.-+eE\\untrfas \n/";
    struct arena a;
    struct buf b;
    arena_init(&a, 0);
    buf_init(&b);
    seed = 1;
    int accepted = 0;
    for (int round = 0; round < 20000; round++) {
        struct json *v = NULL;
        struct errmsg why = {0};
        buf_clear(&b);
        random_value(&b, 0);
        for (unsigned k = rnd(2) + 1; k > 0 && b.n > 0; k--) {
            unsigned at = rnd((unsigned)b.n);
            if (rnd(2))
                b.p[at] = marks[rnd(sizeof(marks) - 1)];
            else {
                memmove(b.p + at, b.p + at + 1, b.n - at);
                b.n--;
            }
        }
        enum err e = json_parse(&v, &a, b.p, b.n, NULL, &why);
        accepted += e == ERR_OK;
        judge(b.p, b.n, e, v, &why);
        arena_reset(&a);
    }
    assert_in_range(accepted, 1000, 19000); /* the damage is of both sorts */
    buf_fini(&b);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_documents_give_the_same_tree),
        cmocka_unit_test(damaged_documents_are_judged_alike),
    };
    return RUN_TESTS(tests);
}
