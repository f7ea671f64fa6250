/* Masks: for every token, what feeding its bytes says; along random walks of random grammars. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"
#include "worker/grammar/grammar.h"
#include "worker/grammar/token_tree.h"

enum { N_VOCAB = 3000 };

static char texts[N_VOCAB][16];

static uint32_t rng(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*s >> 33);
}

static struct str piece(void *self, uint32_t id)
{
    (void)self;
    return str_of(texts[id]);
}

static bool is_end(void *self, uint32_t id)
{
    (void)self;
    return id == 0 || id == 7;
}

static void append(char text[16], const char *part)
{
    size_t n = strlen(text);
    snprintf(text + n, 16 - n, "%s", part);
}

/* All single bytes, and pieces like those of a real vocabulary: words, JSON's marks, parts of
 * characters. */
static struct token_tree *vocabulary(void)
{
    static const char *const parts[] = {"a",    "b",  "er", " the", "\"",   "{",    "}",
                                        ",",    ":",  "\\", "\\n",  "\n",   " ",    "12",
                                        "é",    "日", "😀",  "\xe6", "\x97", "\xa5", "\xf0\x9f",
                                        "true", "nu", "ll", "id",   "]",    "["};
    uint64_t s = 7;
    struct token_tree *t = NULL;
    struct errmsg why;
    for (int id = 1; id < N_VOCAB; id++) {
        texts[id][0] = 0;
        if (id < 256)
            texts[id][0] = (char)id;
        else
            for (uint32_t n = 1 + rng(&s) % 3; n > 0; n--)
                append(texts[id], parts[rng(&s) % COUNT(parts)]);
    }
    struct token_source from = {NULL, N_VOCAB, piece, is_end};
    assert_int_equal(token_tree_open(&t, &from, &why), 0);
    return t;
}

static const struct {
    enum grammar_kind kind;
    const char *text;
} grammars[] = {
    {GRAMMAR_JSON_OBJECT, ""},
    {GRAMMAR_JSON_SCHEMA, "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":7}}"},
    {GRAMMAR_JSON_SCHEMA, "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"},"
                          "\"ab\":{\"enum\":[\"a\",\"b\",null]}},\"additionalProperties\":true}"},
    {GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^[^x]*é{2,5}$\"}"},
    {GRAMMAR_GBNF, "root ::= (word \" \")* word \".\"\nword ::= [a-z]+ | [^ -~\\n]+"},
    {GRAMMAR_REGEX, "(ab|a)*12{3,}.*"},
};

static void a_mask_says_what_feeding_each_token_says(void **state)
{
    (void)state;
    struct token_tree *t = vocabulary();
    uint64_t s = 1;
    for (size_t k = 0; k < COUNT(grammars); k++) {
        struct grammar *g = NULL;
        struct errmsg why = {""};
        enum err e = grammar_compile(&g, grammars[k].kind, str_of(grammars[k].text), &why);
        if (e)
            print_message("%s: %s\n", grammars[k].text, why.text);
        assert_int_equal(e, 0);
        for (int walk = 0; walk < 20; walk++) {
            uint32_t at = grammar_start(g);
            for (int step = 0; step < 40 && at != GRAMMAR_DEAD; step++) {
                const uint64_t *mask = grammar_mask(g, t, at);
                uint32_t allowed[N_VOCAB], n = 0;
                assert_non_null(mask);
                for (uint32_t id = 0; id < N_VOCAB; id++) {
                    struct str p = piece(NULL, id);
                    bool fits = is_end(NULL, id) ? grammar_accepts(g, at)
                                                 : p.n && grammar_feed(g, at, p.p, p.n);
                    bool set = mask[id / 64] >> id % 64 & 1;
                    if (fits != set)
                        print_message("grammar %zu, token %u: fits %d, mask %d\n", k, id, fits,
                                      set);
                    assert_int_equal(fits, set);
                    if (set && !is_end(NULL, id))
                        allowed[n++] = id;
                }
                assert_true(n > 0 || grammar_accepts(g, at)); /* no dead ends */
                if (n == 0)
                    break;
                struct str p = piece(NULL, allowed[rng(&s) % n]);
                at = grammar_feed(g, at, p.p, p.n);
            }
        }
        grammar_release(g);
    }
    token_tree_close(t);
}

static void a_mask_is_made_once_for_each_state(void **state)
{
    (void)state;
    struct token_tree *t = vocabulary();
    struct grammar *g = NULL;
    struct errmsg why;
    assert_int_equal(grammar_compile(&g, GRAMMAR_JSON_OBJECT, STR(""), &why), 0);
    uint32_t in_key = grammar_feed(g, grammar_start(g), "{\"abc", 5);
    assert_int_equal(in_key, grammar_feed(g, in_key, " more text, é日", 17));
    grammar_mask(g, t, in_key);
    grammar_mask(g, t, in_key);
    assert_int_equal(grammar_stats(g).masks_made, 1);
    assert_int_equal(grammar_stats(g).masks_found, 1);
    grammar_release(g);
    token_tree_close(t);
}

static void a_loop_of_many_rounds_is_not_unrolled(void **state)
{
    (void)state;
    struct grammar *g = NULL;
    struct errmsg why;
    static char text[100002];
    assert_int_equal(grammar_compile(&g, GRAMMAR_JSON_SCHEMA,
                                     STR("{\"type\":\"string\",\"minLength\":99990,"
                                         "\"maxLength\":99999}"),
                                     &why),
                     0);
    memset(text, 'x', sizeof(text));
    text[0] = text[99999 + 1] = '"';
    assert_true(grammar_matches(g, (struct str){text, 99999 + 2}));
    text[99980] = '"';
    assert_false(grammar_matches(g, (struct str){text, 99981}));
    grammar_release(g);
}

static void gbnf_errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"root ::= word", "no rule \"word\""},
        {"root ::= \"a\"\nroot ::= \"b\"", "line 2 of the grammar: a rule is defined twice"},
        {"root ::= (\"a\"", "not closed"},
        {"root ::= root \"a\" | \"b\"", "left recursion"},
        {"root ::= \"a", "not closed"},
        {"root = \"a\"", "::="},
        {"", "no rule \"root\""},
        {"root ::= [z-a]", "backwards"},
        {"root ::= \"a\"{3,1}", "malformed"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct grammar *g = NULL;
        struct errmsg why = {""};
        assert_int_not_equal(grammar_compile(&g, GRAMMAR_GBNF, str_of(cases[i].text), &why), 0);
        if (!strstr(why.text, cases[i].says))
            print_message("%s\n", why.text);
        assert_non_null(strstr(why.text, cases[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mask_says_what_feeding_each_token_says),
        cmocka_unit_test(a_mask_is_made_once_for_each_state),
        cmocka_unit_test(a_loop_of_many_rounds_is_not_unrolled),
        cmocka_unit_test(gbnf_errors_name_the_line),
    };
    return RUN_TESTS(tests);
}
