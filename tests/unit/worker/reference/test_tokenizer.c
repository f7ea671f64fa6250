/* test_tokenizer.c - token ids against the reference tokenizers: every vocabulary of the reference
 * data with its cases (text, flags, ids, printed bytes), and the .inp/.out pairs that go with some
 * of them.
 *
 * The vocabularies belong to their publishers and are not in the repository: they are read in
 * place, from $MILLRACE_REFERENCE or ../shared/reference; without them the test is skipped. */
#include "shared/base/arena.h"
#include "shared/base/json.h"
#include "tests/support/test.h"
#include "worker/model/gguf.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REPORTED = 12 };

static char root[512];

static bool have_reference(void)
{
    const char *env = getenv("MILLRACE_REFERENCE");
    snprintf(root, sizeof root, "%s/tokenizer", env && *env ? env : "../shared/reference");
    char path[600];
    snprintf(path, sizeof path, "%s/index.json", root);
    FILE *f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f != NULL;
}

/* Whole file with a NUL behind; NULL when absent. */
static char *read_file(const char *name, size_t *n)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    assert_true(size >= 0);
    rewind(f);
    char *p = malloc((size_t)size + 1);
    assert_non_null(p);
    *n = fread(p, 1, (size_t)size, f);
    p[*n] = '\0';
    fclose(f);
    return p;
}

static struct json *read_json(const char *name, struct arena *a, char **text)
{
    size_t n;
    struct json *v = NULL;
    struct errmsg why = {0};
    *text = read_file(name, &n);
    if (!*text || json_parse(&v, a, *text, n, NULL, &why))
        fail_msg("%s/%s: %s", root, name, *text ? why.text : "not readable");
    return v;
}

static struct tokenizer *open_vocab(const char *name)
{
    char path[700];
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct errmsg why = {0};
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (gguf_open(&g, path, &why) || tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    gguf_close(g); /* the tokenizer stands by itself */
    return t;
}

static size_t unhex(const char *hex, size_t n, char *out)
{
    for (size_t i = 0; i + 1 < n; i += 2) {
        char two[3] = {hex[i], hex[i + 1], '\0'};
        out[i / 2] = (char)strtoul(two, NULL, 16);
    }
    return n / 2;
}

static bool has_all_bytes(const struct tokenizer *t)
{
    const char *kind = tokenizer_kind(t); /* in BPE the character U+00FF stands for byte 255 */
    struct str last = strcmp(kind, "spm") == 0 ? STR("<0xFF>") : STR("\u00ff");
    return (strncmp(kind, "bpe", 3) == 0 || strcmp(kind, "spm") == 0) &&
           str_eq(tokenizer_piece(t, tokenizer_find(t, last), false), STR("\xff"));
}

static void print_ids(const char *label, const int32_t *ids, size_t n)
{
    fprintf(stderr, "    %s", label);
    for (size_t i = 0; i < n && i < 60; i++)
        fprintf(stderr, " %d", ids[i]);
    fprintf(stderr, "\n");
}

/* True: as expected. */
static bool check_case(const struct tokenizer *t, const char *vocab, size_t index,
                       const struct json *c)
{
    const struct json *text = json_get(c, "text"), *hex = json_get(c, "bytes_hex");
    const struct json *ids = json_get(c, "ids"), *detok = json_get(c, "detok_hex");
    char raw[4096];
    struct str in = text ? text->s : (struct str){raw, unhex(hex->s.p, hex->s.n, raw)};
    unsigned flags = (json_get(c, "add_special")->b ? TOK_ADD_SPECIAL : 0u) |
                     (json_get(c, "parse_special")->b ? TOK_PARSE_SPECIAL : 0u);
    struct token_list got = {0};
    struct buf printed;
    struct errmsg why = {0};
    bool ok = true;
    buf_init(&printed);
    if (tokenizer_encode(t, in.p, in.n, flags, &got, &why))
        fail_msg("%s: case %zu: %s", vocab, index, why.text);
    assert_int_equal(tokenizer_decode(t, got.ids, got.n, true, false, &printed), ERR_OK);

    if (hex) { /* not UTF-8: the ids are anyone's choice, but where every byte has a token none may
                  be lost */
        if (has_all_bytes(t)) {
            bool space = printed.n == in.n + 1 && printed.p[0] == ' '; /* SentencePiece's prefix */
            ok = printed.n == in.n + space &&
                 (in.n == 0 || memcmp(printed.p + space, in.p, in.n) == 0);
            if (!ok)
                fprintf(stderr, "%s: case %zu: the bytes " STR_FMT " are not kept\n", vocab, index,
                        STR_ARG(hex->s));
        }
    } else {
        int32_t *want = calloc(ids->list.count + 1, sizeof *want);
        size_t n = 0;
        for (const struct json *id = ids->list.first; id; id = id->next)
            want[n++] = (int32_t)id->i;
        ok = got.n == n && (n == 0 || memcmp(got.ids, want, n * sizeof *want) == 0);
        if (!ok) {
            fprintf(stderr, "%s: case %zu flags %u: " STR_FMT "\n", vocab, index, flags,
                    STR_ARG(in));
            print_ids("want", want, n);
            print_ids("got ", got.ids, got.n);
        } else {
            char *bytes = malloc(detok->s.n / 2 + 1);
            size_t m = unhex(detok->s.p, detok->s.n, bytes);
            ok = printed.n == m && (m == 0 || memcmp(printed.p, bytes, m) == 0);
            if (!ok)
                fprintf(stderr, "%s: case %zu prints '%s'\n", vocab, index, printed.p);
            free(bytes);
        }
        free(want);
    }
    buf_fini(&printed);
    token_list_fini(&got);
    return ok;
}

static void every_case_has_the_reference_ids(void **state)
{
    (void)state;
    if (!have_reference())
        skip();
    struct arena a;
    arena_init(&a, 0);
    char *index_text;
    struct json *index = read_json("index.json", &a, &index_text);
    size_t n_cases = 0, n_wrong = 0;
    for (const struct json *row = index->list.first; row; row = row->next) {
        char vocab[200], cases_name[200], *text;
        snprintf(vocab, sizeof vocab, STR_FMT, STR_ARG(json_get(row, "vocab")->s));
        snprintf(cases_name, sizeof cases_name, STR_FMT, STR_ARG(json_get(row, "cases")->s));
        struct tokenizer *t = open_vocab(vocab);
        struct json *cases = read_json(cases_name, &a, &text);
        size_t i = 0, wrong = 0;
        for (const struct json *c = cases->list.first; c; c = c->next, i++)
            if (wrong < MAX_REPORTED)
                wrong += !check_case(t, vocab, i, c);
        n_cases += i;
        n_wrong += wrong;
        tokenizer_close(t);
        free(text);
    }
    free(index_text);
    arena_fini(&a);
    printf("%zu cases\n", n_cases);
    assert_true(n_cases > 7000);
    assert_int_equal(n_wrong, 0);
}

/* Line k of the .out file holds the ids of text k of the .inp file. */
static size_t check_pair(const char *vocab, size_t *n_texts)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char name[256];
    size_t n_in, n_out, wrong = 0;
    snprintf(name, sizeof name, "%s.inp", vocab);
    char *in = read_file(name, &n_in);
    snprintf(name, sizeof name, "%s.out", vocab);
    char *out = read_file(name, &n_out);
    assert_true(in && out);
    struct tokenizer *t = open_vocab(vocab);
    char *text = in, *line = out;
    while (text) {
        char *end = strstr(text, separator);
        size_t n = end ? (size_t)(end - text) : strlen(text);
        struct token_list got = {0};
        struct errmsg why = {0};
        if (tokenizer_encode(t, text, n, 0, &got, &why))
            fail_msg("%s: %s", vocab, why.text);
        char *line_end = strchr(line, '\n');
        bool ok = line_end != NULL;
        for (size_t i = 0; ok; i++) {
            char *after;
            long id = strtol(line, &after, 10);
            if (after == line || after > line_end) {
                ok = i == got.n;
                break;
            }
            ok = i < got.n && got.ids[i] == id;
            line = after;
        }
        if (!ok)
            fprintf(stderr, "%s.inp: text %zu differs\n", vocab, *n_texts);
        wrong += !ok;
        line = line_end ? line_end + 1 : line;
        (*n_texts)++;
        token_list_fini(&got);
        text = end && end[sizeof separator - 1] ? end + sizeof separator - 1 : NULL;
    }
    tokenizer_close(t);
    free(in);
    free(out);
    return wrong;
}

static void every_pair_has_the_reference_ids(void **state)
{
    (void)state;
    if (!have_reference())
        skip();
    struct arena a;
    arena_init(&a, 0);
    char *index_text;
    struct json *index = read_json("index.json", &a, &index_text);
    size_t n_texts = 0, n_wrong = 0;
    for (const struct json *row = index->list.first; row; row = row->next) {
        char vocab[200];
        snprintf(vocab, sizeof vocab, STR_FMT, STR_ARG(json_get(row, "vocab")->s));
        if (json_get(row, "pairs")->b)
            n_wrong += check_pair(vocab, &n_texts);
    }
    free(index_text);
    arena_fini(&a);
    printf("%zu texts\n", n_texts);
    assert_true(n_texts > 300);
    assert_int_equal(n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_has_the_reference_ids),
        cmocka_unit_test(every_pair_has_the_reference_ids),
    };
    return cmocka_run_group_tests_name("tokenizer reference", tests, NULL, NULL);
}
