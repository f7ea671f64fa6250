/* test_arch.c - every architecture of the reference set: the logits of every position and the
 * tokens that follow, or the embeddings, within the tolerances that the set's README gives for the
 * kind of weights.
 *
 * Always runs tests/data/arch; the full set too when it is at hand (MILLRACE_REFERENCE, or
 * ../shared/reference). A model whose architecture or block format the engine does not have yet is
 * a visible skip. */
#include "tests/unit/worker/arch_case.h"
#include "worker/model/arch.h"

#include <unistd.h>

enum { CASES_MAX = 256 };

static uint32_t blocks_up_to(uint32_t *blocks, uint32_t n_blocks)
{
    /* not in order: a sequence's blocks lie anywhere in the pool */
    for (uint32_t i = 0; i < n_blocks; i++)
        blocks[i] = n_blocks - 1 - i;
    return n_blocks;
}

/* All logits of the prompt, `chunk` tokens per step. */
static void prompt_logits(struct model *m, const struct expectation *e, uint32_t chunk,
                          const uint32_t *blocks, uint32_t n_blocks, float *out)
{
    struct errmsg why = {0};
    for (uint32_t at = 0; at < e->n_tokens; at += chunk) {
        const uint32_t n = e->n_tokens - at < chunk ? e->n_tokens - at : chunk;
        const struct step_seq s = {.tokens = e->tokens + at,
                                   .n_tok = n,
                                   .pos = at,
                                   .blocks = blocks,
                                   .n_blocks = n_blocks,
                                   .n_logits = n,
                                   .logits = out + (size_t)at * e->columns};
        if (model_step(m, &s, 1, NULL, &why) != ERR_OK)
            fail_msg("%s", why.text);
    }
}

static uint32_t best_of(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* How many of the expected tokens come, in order. */
static uint32_t greedy_match(struct model *m, const struct expectation *e, const uint32_t *blocks,
                             uint32_t n_blocks, float *row)
{
    struct errmsg why = {0};
    uint32_t match = 0;
    for (; match < e->n_greedy; match++) {
        const int32_t next = (int32_t)best_of(row, e->columns);
        if (next != e->greedy[match])
            break;
        const struct step_seq s = {.tokens = &next,
                                   .n_tok = 1,
                                   .pos = e->n_tokens + match,
                                   .blocks = blocks,
                                   .n_blocks = n_blocks,
                                   .n_logits = 1,
                                   .logits = row};
        if (model_step(m, &s, 1, NULL, &why) != ERR_OK)
            fail_msg("%s", why.text);
    }
    return match;
}

static void check_decoder(const struct arch_case *c, const struct expectation *e, struct model *m)
{
    const size_t n = (size_t)e->rows * e->columns;
    float *got = calloc(n, sizeof *got), *again = calloc(n, sizeof *again);
    uint32_t blocks[16];
    const uint32_t n_blocks =
        blocks_up_to(blocks, (e->n_tokens + e->n_greedy) / KV_BLOCK_TOKENS + 1);
    assert_non_null(got);
    assert_non_null(again);
    assert_int_equal(model_desc(m)->n_vocab, e->columns);

    prompt_logits(m, e, e->n_tokens, blocks, n_blocks, got);
    const double diff = case_max_diff(got, e->exact, n) / e->std;
    const double near_exact = case_row_cosine(got, e->exact, e->rows, e->columns),
                 near_first = case_row_cosine(got, e->first, e->rows, e->columns);
    memcpy(again, got + n - e->columns, e->columns * sizeof *again);
    const uint32_t match = greedy_match(m, e, blocks, n_blocks, again);
    printf("%-22s %-8s max diff/std %.1e  cosine %.6f  greedy %u of %u\n", c->name, c->weights,
           diff, near_exact, match, e->n_greedy);

    if (c->weights[0] == 'F' || c->weights[0] == 'B') { /* F32, F16, BF16: float32 arithmetic */
        assert_true(diff <= 1e-3);
        assert_int_equal(match, e->n_greedy);
    } else { /* 8-bit activations */
        assert_true(near_first >= 0.999 || near_exact >= 0.998);
    }

    /* Cut anywhere, the prompt gives the same bits. */
    const uint32_t chunks[] = {1, 7};
    for (size_t i = 0; i < COUNT(chunks); i++) {
        prompt_logits(m, e, chunks[i], blocks, n_blocks, again);
        assert_memory_equal(again, got, n * sizeof *got);
    }
    free(again);
    free(got);
}

static void check_encoder(const struct arch_case *c, const struct expectation *e, struct model *m)
{
    const size_t n = (size_t)e->rows * e->columns;
    struct errmsg why = {0};
    float *got = calloc(n, sizeof *got);
    assert_non_null(got);
    assert_int_equal(model_desc(m)->n_embd, e->columns);
    assert_int_equal(model_embed(m, e->tokens, e->n_tokens, POOL_NONE, false, got, &why), ERR_OK);
    const double diff = case_max_diff(got, e->exact, n) / e->std;
    printf("%-22s %-8s max diff/std %.1e\n", c->name, c->weights, diff);
    assert_true(diff <= 1e-3);
    const float *const pools[] = {[POOL_MEAN] = e->mean, [POOL_CLS] = e->cls};
    for (int p = POOL_MEAN; p <= POOL_CLS; p++) {
        if (!pools[p])
            continue;
        assert_int_equal(model_embed(m, e->tokens, e->n_tokens, (enum pooling)p, false, got, &why),
                         ERR_OK);
        assert_true(case_cosine(got, pools[p], e->columns) >= 0.9999);
    }
    if (e->rank) {
        assert_int_equal(model_embed(m, e->tokens, e->n_tokens, POOL_RANK, false, got, &why),
                         ERR_OK);
        assert_true(fabs((double)got[0] - (double)e->rank[0]) <=
                    1e-3 * fabs((double)e->rank[0]) + 1e-4);
    }
    free(got);
}

/* Names the first tensor type of the file that has no block format here; NULL: all are there. */
static const char *missing_format(const struct arch_case *c)
{
    char path[512];
    struct gguf *g = NULL;
    struct errmsg why = {0};
    const char *missing = NULL;
    snprintf(path, sizeof path, "%s/%s.gguf", c->dir, c->name);
    if (gguf_open(&g, path, &why) != ERR_OK)
        fail_msg("%s", why.text);
    for (size_t i = 0; i < gguf_n_tensors(g) && !missing; i++) {
        const struct qtype_info *q = qtype_info(gguf_tensor_at(g, i)->type);
        if (!q->dequantize)
            missing = q->name;
    }
    gguf_close(g);
    return missing;
}

static void gives_the_reference_numbers(void **state)
{
    const struct arch_case *c = *state;
    if (!arch_find(str_of(c->arch))) {
        printf("skip: %s: no row for the architecture %s\n", c->name, c->arch);
        skip();
    }
    const char *missing = missing_format(c);
    if (missing) {
        printf("skip: %s: no block format %s\n", c->name, missing);
        skip();
    }
    struct expectation e;
    expectation_open(&e, c);
    struct model *m = case_model(
        c, &(struct model_opts){.context = e.context, .kv_type = QTYPE_F32, .n_threads = 2});
    if (c->decoder)
        check_decoder(c, &e, m);
    else
        check_encoder(c, &e, m);
    model_close(m);
    expectation_close(&e);
}

int main(void)
{
    static struct arch_case cases[CASES_MAX];
    static struct CMUnitTest tests[CASES_MAX];
    static char names[CASES_MAX][80];
    char full[256];
    const char *env = getenv("MILLRACE_REFERENCE");
    snprintf(full, sizeof full, "%s/arch", env ? env : "../shared/reference");
    int n = cases_list("tests/data/arch", cases, CASES_MAX);
    const int own = n;
    char index[300];
    snprintf(index, sizeof index, "%s/index.json", full);
    if (access(index, R_OK) == 0)
        n += cases_list(full, cases + n, CASES_MAX - n);
    else
        printf("the full reference set is not at hand: %s\n", full);
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s_%s", i < own ? "own" : "full", cases[i].name);
        for (char *p = names[i]; *p; p++)
            *p = *p == '-' ? '_' : *p;
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = gives_the_reference_numbers, .initial_state = &cases[i]};
    }
    return _cmocka_run_group_tests("test_arch", tests, (size_t)n, NULL, NULL);
}
