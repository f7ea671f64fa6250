/* Published chat templates against what Jinja2 3.1 made of them (reference/template: its README
 * section). */
#include "tests/support/template_case.h"

static const char *reference(void)
{
    const char *dir = getenv("MILLRACE_REFERENCE");
    return dir ? dir : "../shared/reference";
}

static char *path_of(const char *file, size_t n)
{
    static char path[1024];
    snprintf(path, sizeof(path), "%s/template/%.*s", reference(), (int)n, file);
    return path;
}

/* The fields of a case become variables; `documents` is none unless the case says otherwise. */
static struct json *vars_of(struct arena *a, const struct json *c)
{
    static const char *const fields[] = {"messages", "tools", "add_generation_prompt", "bos_token",
                                         "eos_token"};
    struct json *vars = arena_zalloc(a, sizeof(*vars)), **end = &vars->list.first;
    const struct json *extra = json_get(c, "extra");
    vars->kind = JSON_OBJECT;
    for (size_t i = 0; i < COUNT(fields) + 1; i++) {
        const struct json *v = i < COUNT(fields) ? json_get(c, fields[i]) : NULL;
        const char *name = i < COUNT(fields) ? fields[i] : "documents";
        if ((!v && i < COUNT(fields)) || json_get(extra, name))
            continue;
        struct json *copy = arena_zalloc(a, sizeof(*copy));
        if (v)
            *copy = *v;
        copy->key = str_of(name);
        copy->next = NULL;
        *end = copy;
        end = &copy->next;
    }
    if (extra)
        *end = extra->list.first;
    return vars;
}

/* 1: as expected. Prints what differs. */
static int check(const char *name, size_t name_n, size_t index, const struct json *c,
                 const struct rendered *got)
{
    const struct json *expected = json_get(c, "expected"), *error = json_get(c, "error");
    bool ok;
    if (expected)
        ok = !got->err && str_eq(expected->s, (struct str){got->text.p, got->text.n});
    else if (json_is(error, JSON_STRING))
        ok = got->err == ERR_TEMPLATE && str_eq(error->s, str_of(got->why.text));
    else
        ok = got->err != ERR_OK;
    if (!ok)
        print_message("%.*s, case %zu: %s %s\n", (int)name_n, name, index, err_name(got->err),
                      got->why.text);
    return ok;
}

static void published_templates_render_byte_equal(void **state)
{
    UNUSED(state);
    struct arena a;
    char *bytes, *case_bytes;
    size_t good = 0, total = 0;
    arena_init(&a, 0);
    const struct json *index = read_json(&a, path_of("index.json", 10), &bytes);
    if (!index) {
        print_message("skipped: no %s\n", path_of("index.json", 10));
        skip();
    }
    for (const struct json *e = index->list.first; e; e = e->next) {
        const struct json *name = json_get(e, "template"), *file = json_get(e, "cases");
        if (!json_is(name, JSON_STRING) || name->s.n < 6 ||
            memcmp(name->s.p + name->s.n - 6, ".jinja", 6) != 0)
            continue;
        size_t n = 0;
        char *source = read_file(path_of(name->s.p, name->s.n), &n);
        assert_non_null(source);
        const struct json *cases = read_json(&a, path_of(file->s.p, file->s.n), &case_bytes);
        assert_non_null(cases);
        size_t i = 0;
        for (const struct json *c = cases->list.first; c; c = c->next, i++) {
            struct rendered got = render_vars((struct str){source, n}, vars_of(&a, c));
            good += (size_t)check(name->s.p, name->s.n, i, c, &got);
            total++;
            rendered_fini(&got);
        }
        free(source);
        free(case_bytes);
    }
    print_message("%zu of %zu conversations\n", good, total);
    free(bytes);
    arena_fini(&a);
    assert_true(total >= 1000);
    assert_int_equal(good, total);
}

static void single_features_of_the_language_agree(void **state)
{
    UNUSED(state);
    static const char file[] = "jinja-features.cases.json";
    struct arena a;
    char *bytes;
    size_t good = 0, total = 0;
    arena_init(&a, 0);
    const struct json *cases = read_json(&a, path_of(file, sizeof(file) - 1), &bytes);
    if (!cases) {
        print_message("skipped: no %s\n", path_of(file, sizeof(file) - 1));
        skip();
    }
    for (const struct json *c = cases->list.first; c; c = c->next) {
        const struct json *source = json_get(c, "template");
        struct rendered got = render_vars(source->s, json_get(c, "context"));
        good += (size_t)check(source->s.p, source->s.n, total++, c, &got);
        rendered_fini(&got);
    }
    free(bytes);
    arena_fini(&a);
    assert_true(total >= 100);
    assert_int_equal(good, total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_render_byte_equal),
        cmocka_unit_test(single_features_of_the_language_agree),
    };
    return RUN_TESTS(tests);
}
