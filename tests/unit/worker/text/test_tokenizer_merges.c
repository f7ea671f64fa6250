/* test_tokenizer_merges.c - the fast merging of long and short words gives what the plain loop of
 * the papers gives, and no text costs more than its length: time is compared between n and 8 n,
 * where a quadratic step would show as 64. */
#include "tests/support/test.h"
#include "tests/support/vocab.h"
#include "worker/text/pretokenizers.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>
#include <time.h>

enum {
    LETTERS = 4,
    MERGES = 70,
    MAX_LEN = 12,
    BYTES = 256,
    MAX_TOKENS = BYTES + 3 + LETTERS + 1 + MERGES
};

struct token {
    char text[40];
    float score;
};

/* A vocabulary of random merges over a few letters: every token but the letters is the sum of two
 * others. */
struct random_vocab {
    struct token tokens[MAX_TOKENS];
    char merges[MERGES][40];
    int parts[MERGES][2]; /* tokens */
    int sums[MERGES];
    int n, n_merges;
    uint32_t seed;
};

static uint32_t draw(struct random_vocab *v, uint32_t below)
{
    v->seed = v->seed * 1664525u + 1013904223u;
    return (v->seed >> 8) % below;
}

static int find_token(const struct random_vocab *v, const char *text)
{
    for (int i = 0; i < v->n; i++)
        if (strcmp(v->tokens[i].text, text) == 0)
            return i;
    return -1;
}

static int add_token(struct random_vocab *v, const char *text, float score)
{
    snprintf(v->tokens[v->n].text, sizeof v->tokens[v->n].text, "%s", text);
    v->tokens[v->n].score = score;
    return v->n++;
}

/* Merges of tokens from `first` on. A score is one of few values, so that ties are common. */
static void add_merges(struct random_vocab *v, int first)
{
    while (v->n_merges < MERGES) {
        char sum[80];
        int a = first + (int)draw(v, (uint32_t)(v->n - first)),
            b = first + (int)draw(v, (uint32_t)(v->n - first));
        snprintf(sum, sizeof sum, "%s%s", v->tokens[a].text, v->tokens[b].text);
        if (strlen(sum) > MAX_LEN)
            continue;
        int id = find_token(v, sum), m = v->n_merges;
        char line[sizeof v->merges[0]];
        snprintf(line, sizeof line, "%.19s %.19s", v->tokens[a].text, v->tokens[b].text);
        bool known = false;
        for (int i = 0; i < m; i++)
            known |= strcmp(v->merges[i], line) == 0;
        if (known)
            continue;
        memcpy(v->merges[m], line, sizeof line);
        v->parts[m][0] = a;
        v->parts[m][1] = b;
        v->sums[m] = id >= 0 ? id : add_token(v, sum, -(float)draw(v, 6));
        v->n_merges++;
    }
}

static struct tokenizer *open_random(const struct random_vocab *v, const char *model)
{
    struct vocab_file f;
    struct str texts[MAX_TOKENS], merges[MERGES];
    float scores[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    bool bytes = strcmp(model, "llama") == 0;
    for (int i = 0; i < v->n; i++) {
        texts[i] = str_of(v->tokens[i].text);
        scores[i] = v->tokens[i].score;
        types[i] = !bytes ? 1 : i == 0 ? 2 : i < 3 ? 3 : i < 3 + BYTES ? 6 : 1;
    }
    for (int i = 0; i < v->n_merges; i++)
        merges[i] = str_of(v->merges[i]);
    vocab_begin(&f, model);
    vocab_str(&f, "tokenizer.ggml.pre", "gpt-2");
    vocab_strings(&f, "tokenizer.ggml.tokens", texts, (size_t)v->n);
    vocab_f32s(&f, "tokenizer.ggml.scores", scores, (size_t)v->n);
    vocab_i32s(&f, "tokenizer.ggml.token_type", types, (size_t)v->n);
    vocab_strings(&f, "tokenizer.ggml.merges", merges, (size_t)v->n_merges);
    vocab_bool(&f, "tokenizer.ggml.add_space_prefix", false);
    struct gguf *g = vocab_open_gguf(&f);
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    gguf_close(g);
    vocab_free(&f);
    return t;
}

static void assert_same(const struct tokenizer *t, const char *text, const int *want, int n)
{
    struct token_list got = {0};
    struct errmsg why = {{0}};
    if (tokenizer_encode(t, text, strlen(text), 0, &got, &why))
        fail_msg("%s", why.text);
    bool same = got.n == (size_t)n;
    for (int i = 0; i < n && same; i++)
        same = got.ids[i] == want[i];
    if (!same)
        fail_msg("'%s': %zu tokens, not the %d of the plain loop, or others", text, got.n, n);
    token_list_fini(&got);
}

/* "Find the pair of lowest rank, the leftmost of equals; merge it; again." */
static int plain_bpe(const struct random_vocab *v, const char *text, int *ids)
{
    int n = 0;
    for (; text[n]; n++)
        ids[n] = (unsigned char)text[n];
    for (;;) {
        int best = -1, rank = v->n_merges;
        for (int i = 0; i + 1 < n; i++)
            for (int m = 0; m < rank; m++)
                if (v->parts[m][0] == ids[i] && v->parts[m][1] == ids[i + 1]) {
                    best = i;
                    rank = m;
                }
        if (best < 0)
            return n;
        ids[best] = v->sums[rank];
        memmove(ids + best + 1, ids + best + 2, (size_t)(n - best - 2) * sizeof *ids);
        n--;
    }
}

static void bpe_equals_the_plain_loop_at_every_length(void **state)
{
    UNUSED(state);
    for (uint32_t round = 0; round < 8; round++) {
        struct random_vocab *v = calloc(1, sizeof *v);
        assert_non_null(v);
        v->seed = round;
        for (int b = 0; b < BYTES; b++) {
            char c[3];
            vocab_byte_char(b, c);
            add_token(v, c, 0);
        }
        /* Letters only: 'a' to 'd' are tokens 97 to 100, and what comes after 255. */
        for (int i = 0; i < LETTERS; i++)
            for (int k = 0; k < LETTERS && v->n_merges < 8; k++) {
                char sum[3] = {(char)('a' + i), (char)('a' + (k * 3 + i) % LETTERS), 0};
                int m = v->n_merges++;
                snprintf(v->merges[m], sizeof v->merges[m], "%c %c", sum[0], sum[1]);
                v->parts[m][0] = sum[0];
                v->parts[m][1] = sum[1];
                v->sums[m] = add_token(v, sum, 0);
            }
        add_merges(v, BYTES);
        struct tokenizer *t = open_random(v, "gpt2");
        for (int n = 1; n <= 150;
             n += n < 70 ? 1 : 13) { /* across the border of short and long words */
            char text[160] = {0};
            int want[160];
            for (int i = 0; i < n; i++)
                text[i] = (char)('a' + draw(v, LETTERS));
            int m = plain_bpe(v, text, want);
            assert_same(t, text, want, m);
        }
        tokenizer_close(t);
        free(v);
    }
}

static int plain_spm(const struct random_vocab *v, const char *text, int *ids)
{
    int n = 0;
    for (; text[n]; n++) {
        char c[2] = {text[n], 0};
        ids[n] = find_token(v, c);
    }
    for (;;) {
        int best = -1, best_id = -1;
        for (int i = 0; i + 1 < n; i++) {
            char sum[128];
            snprintf(sum, sizeof sum, "%s%s", v->tokens[ids[i]].text, v->tokens[ids[i + 1]].text);
            int id = find_token(v, sum);
            if (id >= 0 && (best < 0 || v->tokens[id].score > v->tokens[best_id].score)) {
                best = i;
                best_id = id;
            }
        }
        if (best < 0)
            return n;
        ids[best] = best_id;
        memmove(ids + best + 1, ids + best + 2, (size_t)(n - best - 2) * sizeof *ids);
        n--;
    }
}

static void sentencepiece_equals_the_plain_loop(void **state)
{
    UNUSED(state);
    for (uint32_t round = 0; round < 6; round++) {
        struct random_vocab *v = calloc(1, sizeof *v);
        assert_non_null(v);
        v->seed = 100 + round;
        add_token(v, "<unk>", 0);
        add_token(v, "<s>", 0);
        add_token(v, "</s>", 0);
        for (int b = 0; b < BYTES; b++) {
            char name[8];
            snprintf(name, sizeof name, "<0x%02X>", b);
            add_token(v, name, 0);
        }
        int first = v->n;
        for (int i = 0; i < LETTERS; i++) {
            char c[2] = {(char)('a' + i), 0};
            add_token(v, c, -9);
        }
        add_merges(v, first);
        struct tokenizer *t = open_random(v, "llama");
        for (int n = 1; n <= 60; n += 3) {
            char text[64] = {0};
            int want[64];
            for (int i = 0; i < n; i++)
                text[i] = (char)('a' + draw(v, LETTERS));
            assert_same(t, text, want, plain_spm(v, text, want));
        }
        tokenizer_close(t);
        free(v);
    }
}

/* ------------------------------------------------------------------ time */

static double cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Runs that a search may rescan, words that never end, marks, bytes that are no text, halves of
 * special tokens. */
static const char *const units[] = {
    "a",       "A",    " ",        "\n", " \n", "7",  "!",       "'",      "\u4e2d", "\U0001f600",
    "e\u0301", "\xff", "\xf0\x9f", "ab", " a",  "aA", "<|im_en", "\u0301", "\u2581", "\u00a0"};

/* What comes after a run decides whether a pattern takes it or searches on. */
static const char endings[] = "x7!";

/* n bytes of a unit and one of the ending. */
static char *fill(const char *unit, size_t n, char ending)
{
    size_t len = strlen(unit);
    char *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i + 1 < n; i++)
        p[i] = unit[i % len];
    p[n - 1] = ending;
    return p;
}

/* 24 lies between 8 (linear) and 64 (quadratic); what takes less than the floor can't be told apart
 * from noise. */
static void assert_linear(double t1, double t8, const char *what, const char *unit)
{
    const double floor_s = 0.004;
    if (t8 > 24 * (t1 > floor_s ? t1 : floor_s))
        fail_msg("%s: eight times as much of '%s' took %.1f ms instead of %.1f", what, unit,
                 t8 * 1e3, t1 * 1e3);
}

static double time_encode(const struct tokenizer *t, const char *text, size_t n)
{
    struct token_list ids = {0};
    struct errmsg why = {{0}};
    double start = cpu_seconds();
    if (tokenizer_encode(t, text, n, TOK_PARSE_SPECIAL, &ids, &why))
        fail_msg("%s", why.text);
    double took = cpu_seconds() - start;
    token_list_fini(&ids);
    return took;
}

static void assert_encodes_in_linear_time(const struct tokenizer *t)
{
    enum { N = 1 << 15 };
    for (size_t i = 0; i < COUNT(units); i++) {
        char *text = fill(units[i], N, 'x'), *more = fill(units[i], 8 * N, 'x');
        assert_linear(time_encode(t, text, N), time_encode(t, more, 8 * N), tokenizer_kind(t),
                      units[i]);
        free(text);
        free(more);
    }
}

static double time_split(const struct pretokenizer *p, const char *unit, size_t n, char ending)
{
    struct cuts cuts = {0};
    struct errmsg why = {{0}};
    char *text = fill(unit, n, ending);
    double start = cpu_seconds();
    if (pretokenizer_split(p, text, n, &cuts, &why))
        fail_msg("%s", why.text);
    double took = cpu_seconds() - start;
    cuts_fini(&cuts);
    free(text);
    return took;
}

static void every_pattern_splits_in_linear_time(void **state)
{
    UNUSED(state);
    enum { N = 1 << 13 };
    for (size_t row = 0; row < pretokenizer_count(); row++) {
        struct pretokenizer *p = NULL;
        struct errmsg why = {{0}};
        const char *name = pretokenizer_name(row);
        assert_int_equal(pretokenizer_open(&p, str_of(name), "x.gguf", &why), ERR_OK);
        for (size_t i = 0; i < COUNT(units); i++)
            for (const char *end = endings; *end; end++)
                assert_linear(time_split(p, units[i], N, *end),
                              time_split(p, units[i], 8 * N, *end), name, units[i]);
        pretokenizer_close(p);
    }
}

static void byte_level_bpe_takes_linear_time(void **state)
{
    UNUSED(state);
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (gguf_open(&g, "deploy/models/millrace-tiny-q8_0.gguf", &why) || tokenizer_open(&t, g, &why))
        fail_msg("%s (run from the repository's root)", why.text);
    gguf_close(g);
    assert_encodes_in_linear_time(t);
    tokenizer_close(t);
}

/* Runs of 1, 2, 4 ... 64 of several units are tokens, so that a run merges all the way. */
static struct tokenizer *open_runs(const char *model)
{
    static char texts[BYTES + 3 + 80][64 * 6 + 1];
    static const char *const runs[] = {"a", "A", "\u2581", "7", "!", "\u2581\u2581", "ab", "\n"};
    struct str tokens[COUNT(texts)];
    int32_t types[COUNT(texts)];
    float scores[COUNT(texts)];
    size_t n = 0;
    struct vocab_file f;
    for (int i = 0; i < BYTES + 3; i++, n++) {
        snprintf(texts[n], sizeof texts[n],
                 i == 0   ? "[UNK]"
                 : i == 1 ? "[CLS]"
                 : i == 2 ? "[SEP]"
                          : "<0x%02X>",
                 i - 3);
        types[n] = i == 0 ? 2 : i < 3 ? 3 : 6;
        scores[n] = 0;
    }
    for (size_t r = 0; r < COUNT(runs); r++)
        for (int len = 1; len <= 64; len *= 2, n++) {
            size_t unit = strlen(runs[r]);
            assert_true(unit * (size_t)len < sizeof texts[n]);
            for (size_t i = 0; i < unit * (size_t)len; i++)
                texts[n][i] = runs[r][i % unit];
            texts[n][unit * (size_t)len] = '\0';
            types[n] = 1;
            scores[n] = -(float)n / (float)len;
        }
    for (size_t i = 0; i < n; i++)
        tokens[i] = str_of(texts[i]);
    vocab_begin(&f, model);
    vocab_strings(&f, "tokenizer.ggml.tokens", tokens, n);
    vocab_i32s(&f, "tokenizer.ggml.token_type", types, n);
    vocab_f32s(&f, "tokenizer.ggml.scores", scores, n);
    vocab_u32(&f, "tokenizer.ggml.unknown_token_id", 0);
    vocab_u32(&f, "tokenizer.ggml.cls_token_id", 1);
    vocab_u32(&f, "tokenizer.ggml.seperator_token_id", 2);
    struct gguf *g = vocab_open_gguf(&f);
    struct tokenizer *t = NULL;
    struct errmsg why = {{0}};
    if (tokenizer_open(&t, g, &why))
        fail_msg("%s", why.text);
    gguf_close(g);
    vocab_free(&f);
    return t;
}

static void the_other_kinds_take_linear_time(void **state)
{
    UNUSED(state);
    static const char *const models[] = {"llama", "bert", "t5"};
    for (size_t i = 0; i < COUNT(models); i++) {
        struct tokenizer *t = open_runs(models[i]);
        assert_encodes_in_linear_time(t);
        tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_equals_the_plain_loop_at_every_length),
        cmocka_unit_test(sentencepiece_equals_the_plain_loop),
        cmocka_unit_test(every_pattern_splits_in_linear_time),
        cmocka_unit_test(byte_level_bpe_takes_linear_time),
        cmocka_unit_test(the_other_kinds_take_linear_time),
    };
    return RUN_TESTS(tests);
}
