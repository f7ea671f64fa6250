/* The scheduler over real models: what a job of many inputs gets, in steps shared with others, cut
 * where the budget ends, is bit for bit what model_embed() gives for each input alone. */
#include "shared/base/clock.h"
#include "shared/ipc/body.h"
#include "tests/unit/worker/synth_model.h"
#include "worker/sched/engine_model.h"
#include "worker/sched/sched.h"

#include <stdlib.h>
#include <unistd.h>

enum { JOBS = 3, INPUTS = 12, CONTEXT = 200, DIMS = 64 };

static char path[] = "/tmp/millrace-embed-XXXXXX";

static int make_path(void **state)
{
    UNUSED(state);
    const int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int drop_path(void **state)
{
    UNUSED(state);
    return unlink(path);
}

struct house {
    struct model *model;
    struct tokenizer *tokenizer;
    struct engine_model *engine;
    struct sched *sched;
    float vectors[JOBS][INPUTS][DIMS];
    uint32_t n_vectors[JOBS], n_over;
};

static void on_event(void *user, const struct msg *m)
{
    struct house *h = user;
    if (m->type == REC_FAILED)
        fail_msg("%.*s", (int)m->failed.message.n, m->failed.message.p);
    if (m->type == REC_EMBEDDING) {
        assert_int_equal(m->embedding.head.index, h->n_vectors[m->job]++);
        assert_int_equal(m->embedding.head.n_dims, DIMS);
        memcpy(h->vectors[m->job][m->embedding.head.index], m->embedding.values,
               sizeof h->vectors[0][0]);
    }
    h->n_over += m->type == REC_FINISHED;
}

static uint64_t now(void *user)
{
    UNUSED(user);
    return clock_mono_ns();
}

static void house_open(struct house *h, uint32_t step, uint32_t slots)
{
    struct errmsg why = {0};
    const struct model_opts o = {
        .n_threads = 2, .max_step_tokens = step, .max_seqs = slots, .kv_type = QTYPE_F16};
    const struct sched_opts so = {.now_ns = now, .emit = on_event, .user = h};
    *h = (struct house){0};
    if (model_open(&h->model, path, &o, &why) ||
        tokenizer_open(&h->tokenizer, model_gguf(h->model), &why) ||
        engine_model_open(&h->engine, h->model, h->tokenizer, slots, step,
                          &(struct embed_opts){.pooling = POOL_MODEL}, &why) ||
        sched_open(&h->sched, engine_model_table(h->engine), &so, &why))
        fail_msg("%s", why.text);
}

static void house_close(struct house *h)
{
    sched_close(h->sched);
    engine_model_close(h->engine);
    tokenizer_close(h->tokenizer);
    model_close(h->model);
}

/* Of every length from one token to the context, long and short ones mixed. */
static size_t input_of(int job, int input, int32_t *ids)
{
    static const size_t lengths[INPUTS] = {1, 200, 7, 32, 33, 150, 2, 64, 31, 199, 90, 5};
    const size_t n = lengths[(input + 5 * job) % INPUTS];
    for (size_t i = 0; i < n; i++)
        ids[i] =
            (int32_t)((i * 7919 + (size_t)input * 104729 + (size_t)job * 31 + i * i * 13) % 290);
    return n;
}

static void submit(struct house *h, int job)
{
    struct buf b = {0};
    struct job_req *r;
    struct job_fault fault;
    body_begin(
        &b, &(struct job_head){.kind = JOB_EMBEDDING, .n = 1, .top_p = 1, .repetition_penalty = 1});
    for (int i = 0; i < INPUTS; i++) {
        int32_t ids[CONTEXT];
        const size_t n = input_of(job, i, ids);
        body_section(&b, SECTION_INPUT_TOKENS, ids, n * sizeof *ids);
    }
    assert_int_equal(body_end(&b), ERR_OK);
    if (!job_req_parse(&r, b.p, b.n, 300, &fault))
        fail_msg("%s", fault.why.text);
    assert_int_equal(sched_announce(h->sched, (uint64_t)job), ERR_OK);
    sched_ready(h->sched, (uint64_t)job, r);
}

static void check(const char *arch, const char *params, uint32_t step, uint32_t slots)
{
    static struct house h;
    (void)synth_model(path, arch, "Q8_0", params, 7);
    house_open(&h, step, slots);
    for (int j = 0; j < JOBS; j++) {
        submit(&h, j);
        sched_step(h.sched);
    }
    while (sched_step(h.sched))
        ;
    assert_int_equal(h.n_over, JOBS);
    for (int j = 0; j < JOBS; j++)
        for (int i = 0; i < INPUTS; i++) {
            int32_t ids[CONTEXT];
            float alone[DIMS];
            struct errmsg why = {0};
            const size_t n = input_of(j, i, ids);
            if (model_embed(h.model, ids, (uint32_t)n, POOL_MODEL, true, alone, &why))
                fail_msg("%s", why.text);
            if (memcmp(alone, h.vectors[j][i], sizeof alone) != 0)
                fail_msg("%s %s: input %d of job %d (%zu tokens) differs", arch, params, i, j, n);
        }
    house_close(&h);
}

#define SHAPE "layers=3,embd=64,ff=128,heads=4,vocab=300,context=200"

static void encoders_give_the_same_in_company(void **state)
{
    UNUSED(state);
    check("bert", SHAPE, 512, 16);
    check("bert", SHAPE ",pooling=2", 0, 4);
    check("nomic-bert", SHAPE, 300, 16);
}

static void decoders_give_the_same_in_company_and_in_pieces(void **state)
{
    UNUSED(state);
    check("qwen3", SHAPE ",kv-heads=2,pooling=3", 48, 6);
    check("llama", SHAPE ",kv-heads=2,pooling=1", 77, 8);
    check("qwen2", SHAPE ",kv-heads=2,pooling=2", 512, 16);
}

static void layers_with_a_window_give_the_same_too(void **state)
{
    UNUSED(state);
    check("gemma3",
          "layers=7,embd=64,ff=128,heads=4,kv-heads=2,vocab=300,context=200,window=20,"
          "pooling=1",
          24, 4);
}

/* What the file says decides, unless somebody says otherwise. */
static void a_model_is_for_embeddings_or_for_text(void **state)
{
    UNUSED(state);
    static const struct {
        const char *arch, *params;
        struct embed_opts opts;
        enum err err;
        bool embeds;
        const char *says;
    } rows[] = {
        {"llama", SHAPE, {POOL_MODEL, 0}, ERR_OK, false, NULL},
        {"llama", SHAPE, {POOL_LAST, 0}, ERR_OK, true, NULL},
        {"llama", SHAPE ",pooling=0", {POOL_MODEL, 0}, ERR_OK, false, NULL},
        {"llama", SHAPE ",pooling=3", {POOL_MODEL, 0}, ERR_OK, true, NULL},
        {"bert", SHAPE, {POOL_MODEL, 16}, ERR_OK, true, NULL},
        {"bert", SHAPE ",pooling=0", {POOL_MODEL, 0}, ERR_UNSUPPORTED, true, "say pooling=mean"},
        {"bert", SHAPE ",pooling=0", {POOL_CLS, 0}, ERR_OK, true, NULL},
        {"bert", SHAPE ",pooling=4", {POOL_MODEL, 0}, ERR_UNSUPPORTED, true, "a reranker"},
        {"bert", SHAPE, {POOL_MODEL, 65}, ERR_INVALID, true, "the model's vectors have 64"},
        {"llama", SHAPE, {POOL_MODEL, 8}, ERR_INVALID, false, "gives no embeddings"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct model *m = NULL;
        struct tokenizer *t = NULL;
        struct engine_model *e = NULL;
        struct errmsg why = {0};
        (void)synth_model(path, rows[i].arch, "Q8_0", rows[i].params, 7);
        assert_int_equal(model_open(&m, path, &(struct model_opts){.n_threads = 1}, &why), ERR_OK);
        assert_int_equal(tokenizer_open(&t, model_gguf(m), &why), ERR_OK);
        assert_int_equal(engine_model_open(&e, m, t, 1, 64, &rows[i].opts, &why), rows[i].err);
        if (rows[i].err)
            assert_non_null(strstr(why.text, rows[i].says));
        else
            assert_int_equal(engine_model_table(e)->embeds, rows[i].embeds);
        engine_model_close(e);
        tokenizer_close(t);
        model_close(m);
    }
}

static void an_encoder_refuses_a_piece_of_an_input(void **state)
{
    UNUSED(state);
    struct model *m = NULL;
    struct errmsg why = {0};
    float vector[DIMS];
    double sums[DIMS];
    const int32_t ids[] = {2, 5, 3};
    const uint32_t block = 0;
    struct pooled p = {.kind = POOL_MEAN, .n = DIMS, .sums = sums, .vector = vector};
    struct embed_seq s = {.tokens = ids, .n_tok = 3, .blocks = &block, .n_blocks = 1, .pooled = &p};
    (void)synth_model(path, "bert", "Q8_0", SHAPE, 7);
    assert_int_equal(model_open(&m, path, &(struct model_opts){.n_threads = 1}, &why), ERR_OK);
    assert_int_equal(model_embed_step(m, &s, 1, &why), ERR_INVALID);
    s.last = true;
    s.pos = 1;
    assert_int_equal(model_embed_step(m, &s, 1, &why), ERR_INVALID);
    s.pos = 0;
    assert_int_equal(model_embed_step(m, &s, 1, &why), ERR_OK);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoders_give_the_same_in_company),
        cmocka_unit_test(decoders_give_the_same_in_company_and_in_pieces),
        cmocka_unit_test(layers_with_a_window_give_the_same_too),
        cmocka_unit_test(a_model_is_for_embeddings_or_for_text),
        cmocka_unit_test(an_encoder_refuses_a_piece_of_an_input),
    };
    return cmocka_run_group_tests(tests, make_path, drop_path);
}
