/* JSON Schema to grammar: the pack's schemas, and what the schema compiler promises beyond them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/json.h"
#include "tests/support/test.h"
#include "worker/grammar/grammar.h"

#define DATA "tests/data/grammar/schemas.json"

static struct str read_data(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = malloc(1 << 20);
    size_t n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return (struct str){p, n};
}

static struct grammar *compile(struct str schema)
{
    struct grammar *g = NULL;
    struct errmsg why = {""};
    enum err e = grammar_compile(&g, GRAMMAR_JSON_SCHEMA, schema, &why);
    if (e)
        print_message("%.*s: %s\n", (int)schema.n, schema.p, why.text);
    return e ? NULL : g;
}

/* Every canonical text can be produced, and no invalid one. */
static void the_pack_is_decided_as_a_validator_decides_it(void **state)
{
    (void)state;
    struct str text = read_data(DATA);
    struct arena a;
    struct json *cases;
    struct errmsg why;
    int bad = 0, n = 0;
    arena_init(&a, 0);
    assert_int_equal(json_parse(&cases, &a, text.p, text.n, NULL, &why), 0);
    for (const struct json *c = cases->list.first; c; c = c->next) {
        const struct json *name = json_get(c, "name");
        struct grammar *g = compile(json_get(c, "schema")->raw);
        bad += g == NULL;
        for (const struct json *v = g ? json_get(c, "valid")->list.first : NULL; v; v = v->next) {
            const struct json *t = json_get(v, "text");
            n++;
            if (json_get(v, "canonical")->b && !grammar_matches(g, t->s)) {
                print_message("%.*s refuses %.*s\n", (int)name->s.n, name->s.p, (int)t->s.n,
                              t->s.p);
                bad++;
            }
        }
        for (const struct json *t = g ? json_get(c, "invalid")->list.first : NULL; t; t = t->next) {
            n++;
            if (grammar_matches(g, t->s)) {
                print_message("%.*s admits %.*s\n", (int)name->s.n, name->s.p, (int)t->s.n, t->s.p);
                bad++;
            }
        }
        grammar_release(g);
    }
    print_message("%zu schemas, %d texts\n", cases->list.count, n);
    arena_fini(&a);
    free((char *)text.p);
    assert_int_equal(bad, 0);
}

static void check(const char *schema, const char *const *yes, const char *const *no)
{
    struct grammar *g = compile(str_of(schema));
    int bad = g == NULL;
    for (; g && *yes; yes++)
        if (!grammar_matches(g, str_of(*yes))) {
            print_message("%s refuses %s\n", schema, *yes);
            bad++;
        }
    for (; g && *no; no++)
        if (grammar_matches(g, str_of(*no))) {
            print_message("%s admits %s\n", schema, *no);
            bad++;
        }
    grammar_release(g);
    assert_int_equal(bad, 0);
}
#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void number_ranges_are_exact(void **state)
{
    (void)state;
    check("{\"type\":\"number\",\"minimum\":1.25,\"exclusiveMaximum\":10.5}",
          TEXTS("1.25", "1.3", "2", "9.999", "10", "10.49", "10.0"),
          TEXTS("1.24", "1", "0", "-2", "10.5", "10.50", "11", "1.", "100"));
    check("{\"type\":\"number\",\"exclusiveMinimum\":-0.5,\"maximum\":0}",
          TEXTS("-0.4", "0", "-0.49", "0.0", "-0"), TEXTS("-0.5", "0.1", "-1", "1"));
    check("{\"type\":\"number\",\"minimum\":-20.5,\"maximum\":-3}",
          TEXTS("-3", "-3.0", "-20.5", "-19", "-4.75"), TEXTS("-2.9", "-20.51", "0", "3", "-21"));
    check("{\"type\":\"integer\",\"minimum\":98,\"maximum\":1203}",
          TEXTS("98", "99", "100", "999", "1000", "1199", "1203"),
          TEXTS("97", "1204", "0", "12030", "-99", "098", "98.0"));
    check("{\"type\":\"integer\",\"minimum\":0.5}", TEXTS("1", "2", "17"), TEXTS("0", "-1"));
    check("{\"type\":\"number\",\"exclusiveMinimum\":0}", TEXTS("0.1", "1", "0.01", "7.5"),
          TEXTS("0", "0.0", "-1", "-0"));
    check("{\"type\":\"integer\",\"multipleOf\":7}", TEXTS("0", "7", "-14", "7007"),
          TEXTS("1", "15", "7006"));
    check("{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":-7,\"maximum\":12}",
          TEXTS("-5", "0", "5", "10"), TEXTS("-10", "15", "1"));
    check("{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0}", TEXTS("0.25", "3", "10.5"),
          TEXTS("0.255", "-1", "1e5"));
}

static void white_space_is_allowed_and_capped(void **state)
{
    (void)state;
    check("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},"
          "\"b\":{\"type\":\"array\",\"items\":{}}},\"required\":[\"a\"]}",
          TEXTS("{\"a\":1}", "{\"a\": 1, \"b\": []}", "{\n  \"a\": 1,\n  \"b\": [\n    1\n  ]\n}",
                "{ \"a\": 1 }"),
          TEXTS("{   \"a\":1}", "{\n\n\"a\":1}", "{\"a\":\n1}", "{\"a\":  1}", " {\"a\":1}",
                "{\"a\":1}\n"));
}

static void undeclared_names_never_repeat_a_declared_one(void **state)
{
    (void)state;
    check("{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"},"
          "\"idea\":{\"type\":\"integer\"}},\"additionalProperties\":{\"type\":\"string\"}}",
          TEXTS("{\"x\":\"1\"}", "{\"i\":\"1\"}", "{\"ide\":\"1\"}", "{\"ideas\":\"1\"}",
                "{\"id\":1,\"\":\"1\"}", "{}"),
          TEXTS("{\"id\":\"1\"}", "{\"idea\":\"1\"}", "{\"\\u0069d\":\"1\"}",
                "{\"id\":1,\"id\":\"1\"}"));
}

static void what_cannot_be_enforced_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *says;
    } cases[] = {
        {"{\"not\":{\"type\":\"string\"}}", "'not'"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "'uniqueItems'"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"if\":{}}}}",
         "'if' is not supported (at #/properties/a"},
        {"{\"type\":\"string\",\"format\":\"idn-email\"}", "\"idn-email\""},
        {"{\"$ref\":\"https://example.com/s\"}", "'$ref'"},
        {"{\"$ref\":\"#/$defs/gone\"}", "points to nothing"},
        {"{\"type\":\"strin\"}", "'type'"},
        {"{\"type\":\"string\",\"pattern\":\"(?=x)\"}", "lookahead"},
        {"{\"type\":\"string\",\"pattern\":\"a(\"}", "not closed"},
        {"{\"type\":\"string\",\"pattern\":\"a+\",\"maxLength\":5}", "'minLength' or 'maxLength'"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "'oneOf'"},
        {"{\"oneOf\":[{\"properties\":{\"a\":{}}},{\"type\":\"string\"}]}", "'oneOf'"},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"additionalProperties\":false}", "no text"},
        {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "no text"},
        {"{\"enum\":[]}", "'enum'"},
        {"false", "no text"},
        {"[]", "must be an object"},
        {"{\"minLength\":-1,\"type\":\"string\"}", "'minLength'"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct grammar *g = NULL;
        struct errmsg why = {""};
        enum err e = grammar_compile(&g, GRAMMAR_JSON_SCHEMA, str_of(cases[i].schema), &why);
        if (!e || !strstr(why.text, cases[i].says))
            print_message("%s: %s, not %s\n", cases[i].schema, why.text, cases[i].says);
        assert_int_not_equal(e, ERR_OK);
        assert_non_null(strstr(why.text, cases[i].says));
    }
}

static void one_of_is_accepted_where_its_branches_exclude_each_other(void **state)
{
    (void)state;
    check("{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"}},"
          "\"required\":[\"t\"]},{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"b\"},"
          "\"n\":{\"type\":\"integer\"}},\"required\":[\"t\",\"n\"]}]}",
          TEXTS("{\"t\":\"a\"}", "{\"t\":\"b\",\"n\":1}"), TEXTS("{\"t\":\"b\"}", "{}"));
    check("{\"oneOf\":[{\"const\":1},{\"enum\":[2,3]},{\"type\":\"string\"}]}",
          TEXTS("1", "3", "\"x\""), TEXTS("4", "null"));
}

static void schemas_of_pydantic_and_zod_compile(void **state)
{
    (void)state;
    check("{\"$defs\":{\"Step\":{\"properties\":{\"explanation\":{\"title\":\"Explanation\","
          "\"type\":\"string\"},\"output\":{\"title\":\"Output\",\"type\":\"string\"}},"
          "\"required\":[\"explanation\",\"output\"],\"title\":\"Step\",\"type\":\"object\","
          "\"additionalProperties\":false}},\"properties\":{\"steps\":{\"items\":{\"$ref\":"
          "\"#/$defs/Step\"},\"title\":\"Steps\",\"type\":\"array\"},\"final_answer\":{\"title\":"
          "\"Final Answer\",\"type\":\"string\"}},\"required\":[\"steps\",\"final_answer\"],"
          "\"title\":\"Math\",\"type\":\"object\",\"additionalProperties\":false}",
          TEXTS("{\"steps\":[],\"final_answer\":\"x\"}",
                "{\"steps\":[{\"explanation\":\"a\",\"output\":\"b\"}],\"final_answer\":\"x\"}"),
          TEXTS("{\"steps\":[{\"explanation\":\"a\"}],\"final_answer\":\"x\"}"));
    check("{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},{\"type\":\"null\"}],"
          "\"default\":null,\"title\":\"Name\"}",
          TEXTS("null", "\"abc\""), TEXTS("\"abcd\"", "1"));
    check("{\"type\":\"object\",\"patternProperties\":{\"^x_[a-z]+$\":{\"type\":\"integer\"}},"
          "\"additionalProperties\":false}",
          TEXTS("{}", "{\"x_a\":1}"), TEXTS("{\"y\":1}", "{\"x_a\":\"1\"}"));
    check("{\"type\":\"object\",\"propertyNames\":{\"enum\":[\"a\",\"b\"]},"
          "\"additionalProperties\":{\"type\":\"integer\"}}",
          TEXTS("{}", "{\"a\":1,\"b\":2}"), TEXTS("{\"c\":1}", "{\"a\":\"1\"}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pack_is_decided_as_a_validator_decides_it),
        cmocka_unit_test(number_ranges_are_exact),
        cmocka_unit_test(white_space_is_allowed_and_capped),
        cmocka_unit_test(undeclared_names_never_repeat_a_declared_one),
        cmocka_unit_test(what_cannot_be_enforced_is_refused_by_name),
        cmocka_unit_test(one_of_is_accepted_where_its_branches_exclude_each_other),
        cmocka_unit_test(schemas_of_pydantic_and_zod_compile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
