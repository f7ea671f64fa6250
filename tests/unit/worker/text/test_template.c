/* The template engine: the demo model's own template on its conversations, cases written for this
 * test, errors and where they are found, and the limits that end a hostile template. */
#include <pthread.h>

#include "tests/support/template_case.h"
#include "worker/model/gguf.h"

static void expect_error(const char *source, enum err err, const char *text)
{
    struct rendered got = render_text(source, "{\"d\":{},\"l\":[1,2],\"s\":\"text\"}");
    if (got.err != err || !strstr(got.why.text, text))
        fail_msg("%s\n  gave %s \"%s\"\n  expected %s \"%s\"", source, err_name(got.err),
                 got.why.text, err_name(err), text);
    rendered_fini(&got);
}

static void the_demo_models_template_renders_its_conversations(void **state)
{
    UNUSED(state);
    struct arena a;
    struct gguf *g;
    struct errmsg why = {""};
    struct str source;
    char *bytes;
    size_t n = 0;
    arena_init(&a, 0);
    if (gguf_open(&g, "deploy/models/millrace-tiny-q8_0.gguf", &why))
        fail_msg("%s", why.text);
    assert_true(gguf_get_str(g, "tokenizer.chat_template", &source));
    const struct json *cases = read_json(&a, "tests/data/demo-model/expected.json", &bytes);
    assert_non_null(cases);
    for (const struct json *c = cases->list.first; c; c = c->next, n++) {
        const struct json *request = json_get(c, "request"), *prompt = json_get(c, "prompt");
        struct json *vars = arena_zalloc(&a, sizeof(*vars)),
                    *flag = arena_zalloc(&a, sizeof(*flag));
        *vars = *request;
        *flag = (struct json){.kind = JSON_BOOL, .b = true, .key = STR("add_generation_prompt")};
        flag->next = vars->list.first;
        vars->list.first = flag;
        struct rendered got = render_vars(source, vars);
        if (got.err)
            fail_msg("case %zu: %s", n, got.why.text);
        assert_int_equal(got.text.n, prompt->s.n);
        assert_memory_equal(got.text.p, prompt->s.p, prompt->s.n);
        rendered_fini(&got);
    }
    assert_true(n >= 20);
    free(bytes);
    gguf_close(g);
    arena_fini(&a);
}

/* tests/data/template/cases.json, made by make_cases.py beside it with Jinja2 itself. */
static void own_cases_agree_with_jinja2(void **state)
{
    UNUSED(state);
    struct arena a;
    char *bytes;
    size_t good = 0, total = 0;
    arena_init(&a, 0);
    const struct json *cases = read_json(&a, "tests/data/template/cases.json", &bytes);
    assert_non_null(cases);
    for (const struct json *c = cases->list.first; c; c = c->next) {
        const struct json *source = json_get(c, "template"), *expected = json_get(c, "expected");
        struct rendered got = render_vars(source->s, json_get(c, "context"));
        bool ok = expected ? !got.err && str_eq(expected->s, (struct str){got.text.p, got.text.n})
                           : got.err == ERR_INVALID || got.err == ERR_UNSUPPORTED;
        if (!ok)
            print_message("%.*s\n  %s %s %.*s\n", (int)source->s.n, source->s.p, err_name(got.err),
                          got.why.text, (int)got.text.n, got.text.p ? got.text.p : "");
        good += ok;
        total++;
        rendered_fini(&got);
    }
    free(bytes);
    arena_fini(&a);
    assert_true(total >= 300);
    assert_int_equal(good, total);
}

static void syntax_errors_name_line_and_column(void **state)
{
    UNUSED(state);
    expect_error("a\n{% if x %}", ERR_INVALID,
                 "line 2, column 11: the template ends where 'elif' was expected");
    expect_error("a\nb {{ 1 + }}", ERR_INVALID, "line 2, column 10: unexpected '}}'");
    expect_error("{{ 'open }}", ERR_INVALID, "line 1, column 4: this string has no closing quote");
    expect_error("\n\n{% nonsense %}", ERR_INVALID,
                 "line 3, column 4: unknown statement 'nonsense'");
    expect_error("{{ a ? b }}", ERR_INVALID, "line 1, column 6: unexpected character '?'");
    expect_error("{{ (1 }}", ERR_INVALID, "unexpected '}', expected ')'");
    expect_error("{# no end", ERR_INVALID, "line 1, column 1: this comment has no end");
    expect_error("{% raw %}{{ x }}", ERR_INVALID, "this raw block has no end");
    expect_error("{% endif %}", ERR_INVALID, "unknown statement 'endif'");
    expect_error("{% for x in l %}{% endif %}", ERR_INVALID, "unknown statement 'endif'");
    expect_error("{% set 1 = 2 %}", ERR_INVALID, "cannot assign");
    expect_error("\n{{ s|nofilter }}", ERR_INVALID, "line 2: there is no filter named 'nofilter'");
    expect_error("{{ s is notest }}", ERR_INVALID, "line 1: there is no test named 'notest'");
    expect_error("{% break %}", ERR_INVALID, "line 1: 'break' outside a loop");
    expect_error("\xff", ERR_INVALID, "not valid UTF-8");
}

static void run_time_errors_name_the_line(void **state)
{
    UNUSED(state);
    expect_error("a\n{{ d.x.y }}", ERR_INVALID,
                 "line 2: 'dict object' has no attribute or element 'x'");
    expect_error("\n\n{{ nothing() }}", ERR_INVALID, "line 3: 'nothing' is undefined");
    expect_error("{{ 1 + 'a' }}", ERR_INVALID, "unsupported operands for +: 'int' and 'str'");
    expect_error("{{ l.append(3) }}", ERR_INVALID,
                 "access to attribute 'append' of 'list' object is unsafe");
    expect_error("{{ 1 // 0 }}", ERR_INVALID, "division by zero");
    expect_error("{% for a, b in [[1]] %}{% endfor %}", ERR_INVALID,
                 "cannot unpack 1 values into 2 names");
    expect_error("{% set d.x = 1 %}", ERR_INVALID, "'d': it is no namespace");
    expect_error("{{ range(200000) }}", ERR_INVALID, "range() of more than 100000 items");
    expect_error("{{ 'x' | truncate(1, wrong=2) }}", ERR_INVALID,
                 "truncate takes no argument 'wrong'");
}

static void what_the_engine_lacks_is_named(void **state)
{
    UNUSED(state);
    expect_error("{% include 'other' %}", ERR_UNSUPPORTED, "'{% include %}' is not supported");
    expect_error("{% extends 'base' %}", ERR_UNSUPPORTED, "'{% extends %}'");
    expect_error("{{ 'a'|urlize }}", ERR_UNSUPPORTED, "the filter 'urlize'");
    expect_error("{{ s.encode() }}", ERR_UNSUPPORTED, "the method str.encode()");
    expect_error("{{ 9223372036854775807 + 1 }}", ERR_UNSUPPORTED, "beyond 64 bits");
    expect_error("{{ 99999999999999999999 }}", ERR_UNSUPPORTED, "beyond 64 bits");
    expect_error("{{ lipsum() }}", ERR_UNSUPPORTED, "lipsum()");
    expect_error("{{ l|map('string') }}", ERR_UNSUPPORTED, "printing a generator");
}

static void raise_exception_gives_the_templates_words(void **state)
{
    UNUSED(state);
    expect_error("{{ raise_exception('roles must alternate: ' ~ s) }}", ERR_TEMPLATE,
                 "roles must alternate: text");
    struct rendered got = render_text("{{ raise_exception('only this') }}", "{}");
    assert_string_equal(got.why.text, "only this");
    rendered_fini(&got);
}

static void hostile_templates_end_with_an_error(void **state)
{
    UNUSED(state);
    expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ERR_INVALID,
                 "recurses too deeply");
    expect_error("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                 ERR_INVALID, "than is allowed");
    expect_error("{% set x = 'x' * 1000000 %}{% set y = x ~ 'y' %}{% for a in range(9999) %}"
                 "{{ x in y and y.replace(x, '') }}{% endfor %}",
                 ERR_INVALID, "too many steps");
    expect_error("{% set n = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set n.s = n.s ~ "
                 "n.s %}{% endfor %}",
                 ERR_INVALID, "more memory");
    expect_error("{{ 'x' * 99999999999 }}", ERR_INVALID, "more than is allowed");
    expect_error("{{ 'x'.center(9999999999) }}", ERR_INVALID, "longer than is allowed");
    expect_error("{% set x = 'x' * 1000000 %}{% for a in range(100) %}{{ x }}{% endfor %}",
                 ERR_INVALID, "longer than is allowed");
    expect_error("{% set n = namespace(l=[]) %}{% for a in range(9999) %}{% set n.l = [n.l] %}{% "
                 "endfor %}{{ n.l }}",
                 ERR_INVALID, "recurses too deeply");
    static const char *const uses[] = {"d[n.t]", "n.t in d", "n.t == n.u", "n.t|string",
                                       "n.t|tojson"};
    for (size_t i = 0; i < COUNT(uses);
         i++) { /* a value that is small, but 2^60 leaves when walked */
        char source[300];
        snprintf(source, sizeof(source),
                 "{%% set n = namespace(t=(1, 2), u=(1, 2)) %%}{%% for a in range(60) %%}"
                 "{%% set n.t = (n.t, n.t) %%}{%% set n.u = (n.u, n.u) %%}{%% endfor %%}{{ %s }}",
                 uses[i]);
        expect_error(source, ERR_INVALID, "the template ");
    }
    expect_error("{% for x in l recursive %}{{ loop(l) }}{% endfor %}", ERR_INVALID,
                 "recurses too deeply");
}

static void deep_nesting_of_the_source_is_refused(void **state)
{
    UNUSED(state);
    enum { N = 20000 };
    static const char *const opens[] = {
        "(", "[", "-", "not ", "{'a':", "a|b(", "1 if 1 else ", "{% if x %}", "a.b+", "1 if "};
    for (size_t k = 0; k < COUNT(opens); k++) {
        size_t n = strlen(opens[k]);
        char *source = malloc(N * n + 4);
        assert_non_null(source);
        snprintf(source, 4, "%s", opens[k][1] == '%' ? "" : "{{ ");
        size_t at = strlen(source);
        for (size_t i = 0; i < N; i++, at += n)
            memcpy(source + at, opens[k], n);
        source[at] = '\0';
        struct rendered got = render_text(source, "{}");
        assert_int_equal(got.err, ERR_INVALID);
        rendered_fini(&got);
        free(source);
    }
}

static void a_failed_render_leaves_the_output_as_it_was(void **state)
{
    UNUSED(state);
    struct chat_template *t;
    struct json vars = {.kind = JSON_OBJECT};
    struct template_env env = {.vars = &vars};
    struct errmsg why;
    struct buf out;
    buf_init(&out);
    buf_puts(&out, "before");
    assert_int_equal(template_compile(&t, "text {{ 1 // 0 }}", 17, &why), ERR_OK);
    assert_int_equal(template_render(t, &env, &out, &why), ERR_INVALID);
    assert_string_equal(out.p, "before");
    template_free(t);
    assert_int_equal(template_compile(&t, "text", 4, &why), ERR_OK);
    assert_int_equal(template_render(t, &env, &out, &why), ERR_OK);
    assert_string_equal(out.p, "beforetext");
    template_free(t);
    buf_fini(&out);
}

static void a_prompt_built_piece_by_piece_stays_linear(void **state)
{
    UNUSED(state);
    /* 4 MB in 4000 appends: copied afresh each time, this would need 8 GB. */
    struct rendered got = render_text(
        "{% set n = namespace(s='', l=[]) %}{% for i in range(4000) %}{% set n.s = n.s ~ piece %}"
        "{% set n.l = n.l + [i] %}{% endfor %}{{ n.s|length }} {{ n.l|length }}",
        "{\"piece\":"
        "\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234"
        "567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234"
        "56789"
        "\"}");
    if (got.err)
        fail_msg("%s", got.why.text);
    assert_string_equal(got.text.p, "720000 4000");
    rendered_fini(&got);
}

static void max_steps_shortens_the_leash(void **state)
{
    UNUSED(state);
    static const char source[] = "{% for i in range(1000) %}{{ i }}{% endfor %}";
    struct chat_template *t;
    struct json vars = {.kind = JSON_OBJECT};
    struct template_env env = {.vars = &vars, .max_steps = 1000};
    struct errmsg why;
    struct buf out;
    buf_init(&out);
    assert_int_equal(template_compile(&t, source, sizeof(source) - 1, &why), ERR_OK);
    assert_int_equal(template_render(t, &env, &out, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "too many steps"));
    env.max_steps = 100000;
    assert_int_equal(template_render(t, &env, &out, &why), ERR_OK);
    template_free(t);
    buf_fini(&out);
}

struct shared_render {
    const struct chat_template *t;
    const struct json *vars;
    bool same;
};

static void *render_many(void *arg)
{
    struct shared_render *s = arg;
    for (int i = 0; i < 50; i++) {
        struct template_env env = {.vars = s->vars};
        struct errmsg why;
        struct buf out;
        buf_init(&out);
        s->same &= !template_render(s->t, &env, &out, &why) &&
                   str_is((struct str){out.p, out.n}, "\u00c4-X 3 [1, 2] a;\u00e4;3 \u00c4-x");
        buf_fini(&out);
    }
    return NULL;
}

/* Run under ThreadSanitizer (make tsan), this shows that a render writes nothing of the program. */
static void renders_of_one_template_run_side_by_side(void **state)
{
    UNUSED(state);
    static const char source[] =
        "{% macro f(x='\u00e4') %}{{ x ~ ';' }}{% endmacro %}{% set s = '\u00c4-x' %}"
        "{{ s|upper }} {{ s|length }} {{ [1] + [2] }} {{ f('a') }}{{ f() }}{{ n }} {{ s[0:] }}";
    enum { THREADS = 4 };
    struct chat_template *t;
    struct errmsg why;
    struct arena a;
    struct json *vars;
    pthread_t thread[THREADS];
    struct shared_render s[THREADS];
    arena_init(&a, 0);
    assert_int_equal(json_parse(&vars, &a, "{\"n\":3}", 7, NULL, &why), ERR_OK);
    assert_int_equal(template_compile(&t, source, sizeof(source) - 1, &why), ERR_OK);
    for (int i = 0; i < THREADS; i++) {
        s[i] = (struct shared_render){t, vars, true};
        assert_int_equal(pthread_create(&thread[i], NULL, render_many, &s[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(s[i].same);
    }
    template_free(t);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_demo_models_template_renders_its_conversations),
        cmocka_unit_test(own_cases_agree_with_jinja2),
        cmocka_unit_test(syntax_errors_name_line_and_column),
        cmocka_unit_test(run_time_errors_name_the_line),
        cmocka_unit_test(what_the_engine_lacks_is_named),
        cmocka_unit_test(raise_exception_gives_the_templates_words),
        cmocka_unit_test(hostile_templates_end_with_an_error),
        cmocka_unit_test(deep_nesting_of_the_source_is_refused),
        cmocka_unit_test(a_failed_render_leaves_the_output_as_it_was),
        cmocka_unit_test(a_prompt_built_piece_by_piece_stays_linear),
        cmocka_unit_test(max_steps_shortens_the_leash),
        cmocka_unit_test(renders_of_one_template_run_side_by_side),
    };
    return RUN_TESTS(tests);
}
