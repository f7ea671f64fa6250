/* What model.h promises of a step: the logits of a position depend on its sequence's tokens alone,
 * bit for bit; a cancelled step can be repeated; what can't be run is refused before anything is
 * written. */
#include "tests/unit/worker/arch_case.h"

enum { SEQS = 4, LENGTH = 90, BLOCKS_PER_SEQ = 3, VOCAB_MAX = 512 };

static uint64_t seed = 1;

static uint32_t random_below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % n;
}

static const struct arch_case models[] = {
    {"tests/data/arch", "llama-tied", "llama", "F32", true, false},
    {"tests/data/arch", "llama-q4_k_m", "llama", "Q4_K_M", true, false},
    {"tests/data/arch", "qwen2-q8_0", "qwen2", "Q8_0", true, false},
};

struct run {
    struct model *m;
    uint32_t n_vocab;
    int32_t tokens[SEQS][LENGTH];
    uint32_t blocks[SEQS][BLOCKS_PER_SEQ];
    uint32_t pos[SEQS];
    float *logits; /* [SEQS][LENGTH][n_vocab] */
};

static void run_open(struct run *r, const struct arch_case *c, int n_threads, enum qtype kv)
{
    memset(r->pos, 0, sizeof r->pos);
    r->m = case_model(c, &(struct model_opts){.context = 128,
                                              .n_threads = n_threads,
                                              .max_seqs = SEQS,
                                              .max_step_tokens = 100,
                                              .kv_type = kv});
    r->n_vocab = model_desc(r->m)->n_vocab;
    r->logits = calloc((size_t)SEQS * LENGTH * r->n_vocab, sizeof *r->logits);
    assert_non_null(r->logits);
    for (uint32_t i = 0; i < SEQS * BLOCKS_PER_SEQ;
         i++) /* interleaved: no sequence has neighbours */
        r->blocks[i % SEQS][i / SEQS] = i;
}

static void run_close(struct run *r)
{
    model_close(r->m);
    free(r->logits);
}

static struct step_seq part_of(struct run *r, uint32_t s, uint32_t n)
{
    return (struct step_seq){.tokens = r->tokens[s] + r->pos[s],
                             .n_tok = n,
                             .pos = r->pos[s],
                             .blocks = r->blocks[s],
                             .n_blocks = BLOCKS_PER_SEQ,
                             .n_logits = n,
                             .logits = r->logits + ((size_t)s * LENGTH + r->pos[s]) * r->n_vocab};
}

static void step(struct run *r, const struct step_seq *seqs, int n)
{
    struct errmsg why = {0};
    if (model_step(r->m, seqs, n, NULL, &why) != ERR_OK)
        fail_msg("%s", why.text);
}

static void run_alone(struct run *r)
{
    for (uint32_t s = 0; s < SEQS; s++) {
        const struct step_seq one = part_of(r, s, LENGTH);
        step(r, &one, 1);
        r->pos[s] = LENGTH;
    }
}

/* Random company, random cuts: single tokens, a few, long chunks, in any mixture. */
static void run_together(struct run *r)
{
    for (uint32_t done = 0; done < SEQS;) {
        struct step_seq seqs[SEQS];
        uint32_t who[SEQS];
        int n = 0;
        for (uint32_t s = 0; s < SEQS; s++) {
            const uint32_t left = LENGTH - r->pos[s];
            if (!left || random_below(3) == 0)
                continue;
            uint32_t part = random_below(2) ? 1 : 1 + random_below(23);
            part = part < left ? part : left;
            who[n] = s;
            seqs[n++] = part_of(r, s, part);
        }
        if (!n)
            continue;
        step(r, seqs, n);
        for (int i = 0; i < n; i++) {
            r->pos[who[i]] += seqs[i].n_tok;
            done += r->pos[who[i]] == LENGTH;
        }
    }
}

static void logits_are_the_same_alone_and_in_any_company(void **state)
{
    UNUSED(state);
    const enum qtype kvs[] = {QTYPE_F16, QTYPE_F32, QTYPE_BF16, QTYPE_Q8_0};
    for (size_t i = 0; i < COUNT(models); i++)
        for (size_t k = 0; k < COUNT(kvs); k++) {
            struct run alone, together;
            run_open(&alone, &models[i], 2, kvs[k]);
            for (uint32_t s = 0; s < SEQS; s++)
                for (uint32_t t = 0; t < LENGTH; t++)
                    alone.tokens[s][t] = (int32_t)random_below(alone.n_vocab);
            run_alone(&alone);
            for (int threads = 1; threads <= 3; threads += 2) {
                run_open(&together, &models[i], threads, kvs[k]);
                memcpy(together.tokens, alone.tokens, sizeof alone.tokens);
                run_together(&together);
                assert_memory_equal(together.logits, alone.logits,
                                    (size_t)SEQS * LENGTH * alone.n_vocab * sizeof *alone.logits);
                run_close(&together);
            }
            run_close(&alone);
        }
}

static void a_reused_prefix_gives_what_computing_it_gives(void **state)
{
    UNUSED(state);
    struct run r;
    run_open(&r, &models[1], 2, QTYPE_F16);
    for (uint32_t t = 0; t < LENGTH; t++)
        r.tokens[0][t] = r.tokens[1][t] = (int32_t)random_below(r.n_vocab);
    struct step_seq first = part_of(&r, 0, LENGTH);
    step(&r, &first, 1);
    r.blocks[1][0] = r.blocks[0][0]; /* sequence 1 takes over two finished blocks */
    r.blocks[1][1] = r.blocks[0][1];
    r.pos[1] = 2 * KV_BLOCK_TOKENS;
    struct step_seq second = part_of(&r, 1, LENGTH - r.pos[1]);
    step(&r, &second, 1);
    assert_memory_equal(second.logits, first.logits + (size_t)r.pos[1] * r.n_vocab,
                        (LENGTH - r.pos[1]) * r.n_vocab * sizeof *second.logits);
    run_close(&r);
}

static void a_cancelled_step_can_be_repeated(void **state)
{
    UNUSED(state);
    struct run r;
    struct errmsg why = {0};
    run_open(&r, &models[0], 2, QTYPE_F16);
    for (uint32_t t = 0; t < LENGTH; t++)
        r.tokens[0][t] = r.tokens[1][t] = (int32_t)random_below(r.n_vocab);
    const volatile int stop = 1;
    struct step_seq one = part_of(&r, 0, LENGTH), two = part_of(&r, 1, LENGTH);
    assert_int_equal(model_step(r.m, &one, 1, &stop, &why), ERR_CANCELLED);
    step(&r, &one, 1);
    step(&r, &two, 1);
    assert_memory_equal(one.logits, two.logits, LENGTH * r.n_vocab * sizeof *one.logits);
    run_close(&r);
}

static void only_the_wanted_rows_are_written(void **state)
{
    UNUSED(state);
    struct run r;
    run_open(&r, &models[2], 2, QTYPE_F16);
    for (uint32_t s = 0; s < 3; s++)
        for (uint32_t t = 0; t < LENGTH; t++)
            r.tokens[s][t] = (int32_t)(s == 1 ? t : t * 7 % 250);
    struct step_seq whole = part_of(&r, 0, 40);
    step(&r, &whole, 1);
    struct step_seq parts[2] = {part_of(&r, 1, 30), part_of(&r, 2, 40)};
    parts[0].n_logits = 0;
    parts[0].logits = NULL;
    parts[1].n_logits = 2;
    step(&r, parts, 2);
    assert_memory_equal(parts[1].logits, whole.logits + 38 * (size_t)r.n_vocab,
                        2 * r.n_vocab * sizeof *whole.logits);
    assert_true(parts[1].logits[2 * r.n_vocab] == 0); /* nothing behind them */
    run_close(&r);
}

static void what_cannot_run_is_refused(void **state)
{
    UNUSED(state);
    struct run r;
    run_open(&r, &models[0], 1, QTYPE_F16);
    const struct step_seq good = part_of(&r, 0, 10);
    const uint32_t no_block[BLOCKS_PER_SEQ] = {1u << 20, 0, 0};
    const int32_t beyond[10] = {0, (int32_t)r.n_vocab}, negative[10] = {0, 0, -1};
    struct {
        struct step_seq s;
        enum err e;
    } cases[] = {
        {good, ERR_INVALID},        {good, ERR_INVALID},        {good, ERR_INVALID},
        {good, ERR_INVALID},        {good, ERR_INVALID},        {good, ERR_INVALID},
        {good, ERR_CONTEXT_LENGTH}, {good, ERR_CONTEXT_LENGTH},
    };
    cases[0].s.tokens = beyond;
    cases[1].s.tokens = negative;
    cases[2].s.n_tok = 0;
    cases[3].s.n_logits = 11;
    cases[4].s.blocks = no_block;
    cases[5].s.n_blocks = 0;
    cases[6].s.pos = 120;
    cases[7].s.pos = UINT32_MAX;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct errmsg why = {0};
        assert_int_equal(model_step(r.m, &cases[i].s, 1, NULL, &why), cases[i].e);
        assert_true(why.text[0] != 0);
    }
    struct errmsg why = {0};
    const struct step_seq many[SEQS + 1] = {good, good, good, good, good};
    assert_int_equal(model_step(r.m, many, SEQS + 1, NULL, &why), ERR_INVALID);
    assert_int_equal(model_step(r.m, many, 0, NULL, &why), ERR_INVALID);
    run_close(&r);
}

static void a_decoder_embeds_with_each_pooling(void **state)
{
    UNUSED(state);
    struct run r;
    struct errmsg why = {0};
    run_open(&r, &models[0], 2, QTYPE_F32);
    const uint32_t n = model_desc(r.m)->n_embd, n_tok = 33;
    float *all = calloc((size_t)n * n_tok, sizeof *all), *one = calloc(n, sizeof *one);
    assert_true(all && one);
    for (uint32_t t = 0; t < n_tok; t++)
        r.tokens[0][t] = (int32_t)(t * 5 % r.n_vocab);
    assert_int_equal(model_embed(r.m, r.tokens[0], n_tok, POOL_NONE, false, all, &why), ERR_OK);
    assert_int_equal(model_embed(r.m, r.tokens[0], n_tok, POOL_MODEL, false, one, &why),
                     ERR_OK); /* the last */
    assert_memory_equal(one, all + (size_t)(n_tok - 1) * n, n * sizeof *one);
    assert_int_equal(model_embed(r.m, r.tokens[0], n_tok, POOL_MEAN, false, one, &why), ERR_OK);
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t t = 0; t < n_tok; t++)
            sum += (double)all[t * n + i];
        assert_true(fabs((double)one[i] - sum / n_tok) < 1e-6);
    }
    assert_int_equal(model_embed(r.m, r.tokens[0], n_tok, POOL_CLS, true, one, &why), ERR_OK);
    double sq = 0;
    for (uint32_t i = 0; i < n; i++)
        sq += (double)one[i] * one[i];
    assert_true(fabs(sq - 1) < 1e-5);
    assert_int_equal(model_embed(r.m, r.tokens[0], n_tok, POOL_RANK, false, one, &why),
                     ERR_UNSUPPORTED);
    free(one);
    free(all);
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_same_alone_and_in_any_company),
        cmocka_unit_test(a_reused_prefix_gives_what_computing_it_gives),
        cmocka_unit_test(a_cancelled_step_can_be_repeated),
        cmocka_unit_test(only_the_wanted_rows_are_written),
        cmocka_unit_test(what_cannot_run_is_refused),
        cmocka_unit_test(a_decoder_embeds_with_each_pooling),
    };
    return RUN_TESTS(tests);
}
