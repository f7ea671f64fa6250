/* What clients send becomes what templates expect, and nothing is left out in silence. */
#include "tests/support/test.h"
#include "worker/text/chat_prompt.h"

#include <stdio.h>

static const char plain[] = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
                            "{% if add_generation_prompt %}<assistant>{% endif %}";

static const char *build(const char *source, const char *request, enum err *e, struct errmsg *why)
{
    static struct buf out;
    struct chat_template *t;
    struct errmsg compile_why = {0};
    if (template_compile(&t, source, strlen(source), &compile_why) != ERR_OK)
        fail_msg("%s", compile_why.text);
    buf_clear(&out);
    struct chat_prompt_env env = {
        .bos_token = STR("<s>"), .eos_token = STR("</s>"), .template_source = str_of(source)};
    env.wants = chat_wants_of(t, &env);
    const struct output_format format = output_format_of(env.template_source);
    env.calls = format.calls;
    *why = (struct errmsg){0};
    *e = chat_prompt_build(t, str_of(request), &env, &out, why);
    template_free(t);
    return out.p ? out.p : "";
}

static void expect(const char *source, const char *request, const char *prompt)
{
    enum err e;
    struct errmsg why;
    const char *got = build(source, request, &e, &why);
    if (e != ERR_OK)
        fail_msg("%s", why.text);
    assert_string_equal(got, prompt);
}

static void text_parts_should_become_one_string(void **state)
{
    (void)state;
    expect(plain,
           "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{"
           "\"type\":\"text\",\"text\":\"b\"}]}]}",
           "<user>a\nb<assistant>");
}

static void parts_that_are_not_text_should_be_refused(void **state)
{
    (void)state;
    enum err e;
    struct errmsg why;
    build(plain, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", &e,
          &why);
    assert_int_equal(e, ERR_UNSUPPORTED);
}

static void developer_should_be_system_unless_the_template_knows_it(void **state)
{
    (void)state;
    expect(plain, "{\"messages\":[{\"role\":\"developer\",\"content\":\"x\"}]}",
           "<system>x<assistant>");
    expect("{# developer #}{{ messages[0].role }}",
           "{\"messages\":[{\"role\":\"developer\",\"content\":\"x\"}]}", "developer");
}

static void tool_arguments_should_be_an_object_for_the_template(void **state)
{
    (void)state;
    expect("{{ messages[0].tool_calls[0].function.arguments | tojson }}|{{ messages[0].content is "
           "none }}",
           "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":"
           "\"function\",\"function\":{\"name\":"
           "\"f\",\"arguments\":\"{\\\"b\\\": 1.0, \\\"a\\\": 2}\"}}]}]}",
           "{\"b\": 1.0, \"a\": 2}|True");
    expect("{{ messages[0].tool_calls[0].function.arguments }}",
           "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":"
           "\"not json\"}}]}]}",
           "not json");
}

static void scattered_system_messages_should_be_merged_only_where_the_template_raises(void **state)
{
    (void)state;
    static const char request[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},{"
                                  "\"role\":\"user\",\"content\":\"u\"},"
                                  "{\"role\":\"system\",\"content\":\"b\"}]}";
    expect(plain, request, "<system>a<user>u<system>b<assistant>");
    expect("{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ "
           "raise_exception('system must be first') }}"
           "{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}",
           request, "<system>a\n\nb<user>u");
}

static void the_templates_own_message_should_be_the_error(void **state)
{
    (void)state;
    enum err e;
    struct errmsg why;
    const char *out =
        build("x{{ raise_exception('roles must alternate') }}", "{\"messages\":[]}", &e, &why);
    assert_int_equal(e, ERR_TEMPLATE);
    assert_string_equal(why.text, "roles must alternate");
    assert_string_equal(out, "");
}

static void kwargs_should_be_variables_but_not_replace_the_messages(void **state)
{
    (void)state;
    expect("{{ enable_thinking }}{{ add_generation_prompt }}",
           "{\"messages\":[],\"chat_template_kwargs\":{\"enable_thinking\":false,\"add_generation_"
           "prompt\":false}}",
           "FalseFalse");
    enum err e;
    struct errmsg why;
    build(plain, "{\"messages\":[],\"chat_template_kwargs\":{\"messages\":[]}}", &e, &why);
    assert_int_equal(e, ERR_INVALID);
}

static void tools_should_be_none_without_any(void **state)
{
    (void)state;
    expect("{{ tools is none }}{{ bos_token }}{{ eos_token }}", "{\"messages\":[]}", "True<s></s>");
    expect("{{ tools | length }}", "{\"messages\":[],\"tools\":[{\"type\":\"function\"}]}", "1");
}

static struct chat_wants wants_of(const char *source)
{
    struct chat_template *t;
    struct errmsg why = {0};
    if (template_compile(&t, source, strlen(source), &why) != ERR_OK)
        fail_msg("%s", why.text);
    const struct chat_prompt_env env = {.template_source = str_of(source)};
    const struct chat_wants w = chat_wants_of(t, &env);
    template_free(t);
    return w;
}

static bool wants_text(const char *source)
{
    return wants_of(source).text_arguments;
}

#define EACH_CALL(body)                                                                            \
    "{% for m in messages %}{% for c in m.tool_calls or [] %}" body "{% endfor %}{% endfor %}"

static void arguments_should_come_in_the_form_that_the_template_writes_as_json(void **state)
{
    (void)state;
    assert_false(wants_text(EACH_CALL("{{ c.function.arguments | tojson }}")));
    assert_false(wants_text(EACH_CALL("{{ c.function | tojson }}")));
    assert_true(wants_text(EACH_CALL("{{ '```json\n' + c.function.arguments + '```' }}")));
    assert_true(wants_text(EACH_CALL("{{ c.function.arguments }}")));
    assert_false(wants_text(EACH_CALL("{{ c.function.arguments if c.function.arguments is string "
                                      "else c.function.arguments | tojson }}")));
    assert_false(wants_text(plain));
    assert_false(wants_text("{{ raise_exception('no tools here') }}"));
}

static void parts_should_reach_the_templates_that_go_through_them(void **state)
{
    (void)state;
    static const char looks[] =
        "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}";
    static const char only_user[] =
        "{% for m in messages %}{% if m.role == 'user' and m.content is not string %}"
        "{% for p in m.content %}[{{ p['text'] }}]{% endfor %}{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}";
    static const char request[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"s\"},{"
        "\"type\":\"text\",\"text\":\"t\"}]},{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"user\",\"content\":\"c\"}"
        "]}";
    struct chat_wants w = wants_of(looks);
    assert_true(w.parts[CHAT_SYSTEM] && w.parts[CHAT_USER] && w.parts[CHAT_ASSISTANT]);
    expect(looks, request, "<system>[s][t]<user>[a][b]<user>c");
    w = wants_of(only_user);
    assert_true(w.parts[CHAT_USER] && !w.parts[CHAT_SYSTEM] && !w.parts[CHAT_TOOL]);
    expect(only_user, request, "s\nt[a][b]c");
    w = wants_of(plain); /* it would print the list */
    assert_false(w.parts[CHAT_USER] || w.parts[CHAT_SYSTEM]);
    w = wants_of("{% for m in messages %}{{ m.content | tojson }}{% endfor %}");
    assert_false(w.parts[CHAT_USER]);
}

static void ids_should_be_nine_characters_where_the_template_raises_on_others(void **state)
{
    (void)state;
    static const char strict[] =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}"
        "{{ raise_exception('nine') }}{% endif %}<{{ c.id }}>"
        "{{ c.function.name if c.function.name != 'f' }}{% endfor %}"
        "{% if m.role == 'tool' %}{{ m.tool_call_id }}{% endif %}{% endfor %}";
#define TALK(id)                                                                                   \
    "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"" id "\",\"function\":{"     \
    "\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"" id            \
    "\",\"content\":\"\"}]}"
    enum err e;
    struct errmsg why;
    assert_true(wants_of(strict).short_ids);
    assert_false(wants_of(plain).short_ids);
    expect(strict, TALK("a1B2c3D4e"), "<a1B2c3D4e>a1B2c3D4e");
    char first[32];
    snprintf(first, sizeof(first), "%s", build(strict, TALK("call_77aa0000"), &e, &why));
    assert_int_equal(e, ERR_OK);
    assert_int_equal(strlen(first), 20);
    assert_memory_equal(first + 1, first + 11, 9); /* the answer names its call */
    assert_string_equal(first, build(strict, TALK("call_77aa0000"), &e, &why));
    assert_string_not_equal(first, build(strict, TALK("call_77aa0001"), &e, &why));
    expect("{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
           "{% endfor %}{{ m.tool_call_id }}{% endfor %}",
           TALK("call_77aa0000"), "fcall_77aa0000");
#undef TALK
}

static void no_content_beside_calls_should_be_what_the_template_can_take(void **state)
{
    (void)state;
#define CALLS "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
    static const char prints[] = "{% for m in messages %}<{{ m.content }}>" CALLS "{% endfor %}";
    static const char searches[] =
        "{% for m in messages %}{{ 'x' in m.content }}" CALLS "{% endfor %}{{ tools }}";
    static const char asks[] =
        "{% for m in messages %}{{ m.content is none }}" CALLS "{% endfor %}";
#define SAYS(content)                                                                              \
    "{\"messages\":[{\"role\":\"assistant\"" content ",\"tool_calls\":[{\"id\":\"1\",\"type\":"    \
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}]}"
    static const char *const requests[] = {SAYS(""), SAYS(",\"content\":null"),
                                           SAYS(",\"content\":\"\"")};
    for (size_t i = 0; i < COUNT(requests); i++) {
        expect(prints, requests[i], "<>f");
        expect(searches, requests[i], "FalsefNone");
        expect(asks, requests[i], "Truef");
    }
    expect(prints, SAYS(",\"content\":\"c\""), "<c>f");
#undef SAYS
#undef CALLS
}

static void calls_that_the_template_leaves_out_should_be_content_or_refused(void **state)
{
    (void)state;
    static const char request[] =
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"c\",\"tool_calls\":[{\"id\":\"1\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}},{\"id\":\"2\","
        "\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]}]}";
    enum err e;
    struct errmsg why;
    expect("{# <|tool_call|> #}{% for m in messages %}{{ m.content }}{% endfor %}", request,
           "c<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", "
           "\"arguments\": {}}]");
    build(plain, request, &e, &why);
    assert_int_equal(e, ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "past tool calls"));
}

static void a_template_that_never_looks_at_tools_should_be_known(void **state)
{
    (void)state;
    assert_true(wants_of(plain).no_tools);
    assert_false(wants_of("{{ tools | tojson if tools else '' }}").no_tools);
    assert_false(wants_of("{{ raise_exception('no tools here') if tools else '' }}").no_tools);
}

static void thoughts_should_have_the_name_that_the_template_reads(void **state)
{
    (void)state;
#define THOUGHT(more)                                                                              \
    "{\"messages\":[{\"role\":\"assistant\",\"content\":\"c\",\"reasoning\":\"hm\"" more "}]}"
    expect("{{ messages[0].reasoning_content }}", THOUGHT(""), "hm");
    expect("{% for message in messages %}{{ message.thinking }}{% endfor %}", THOUGHT(""), "hm");
    expect("{% for message in messages %}{{ message.thinking is defined }}{% endfor %}",
           THOUGHT(",\"tool_calls\":[]"), "False");
    expect("{{ messages[0].thinking is defined }}", THOUGHT(""), "False");
#undef THOUGHT
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_that_the_template_leaves_out_should_be_content_or_refused),
        cmocka_unit_test(no_content_beside_calls_should_be_what_the_template_can_take),
        cmocka_unit_test(parts_should_reach_the_templates_that_go_through_them),
        cmocka_unit_test(ids_should_be_nine_characters_where_the_template_raises_on_others),
        cmocka_unit_test(a_template_that_never_looks_at_tools_should_be_known),
        cmocka_unit_test(thoughts_should_have_the_name_that_the_template_reads),
        cmocka_unit_test(arguments_should_come_in_the_form_that_the_template_writes_as_json),
        cmocka_unit_test(text_parts_should_become_one_string),
        cmocka_unit_test(parts_that_are_not_text_should_be_refused),
        cmocka_unit_test(developer_should_be_system_unless_the_template_knows_it),
        cmocka_unit_test(tool_arguments_should_be_an_object_for_the_template),
        cmocka_unit_test(scattered_system_messages_should_be_merged_only_where_the_template_raises),
        cmocka_unit_test(the_templates_own_message_should_be_the_error),
        cmocka_unit_test(kwargs_should_be_variables_but_not_replace_the_messages),
        cmocka_unit_test(tools_should_be_none_without_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
