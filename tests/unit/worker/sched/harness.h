/* harness.h - jobs in, events out: keeps what each job said, and checks the protocol at every
 * event. */
#ifndef MILLRACE_TESTS_SCHED_HARNESS_H
#define MILLRACE_TESTS_SCHED_HARNESS_H

#include "shared/ipc/body.h"
#include "tests/unit/worker/sched/fake_engine.h"
#include "worker/sched/sched_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { MAX_SEEN = 700, SEEN_CHOICES = 8, SEEN_TOKENS = 200, SEEN_TEXT = 1200, SEEN_INPUTS = 40 };

struct seen_choice {
    int32_t tokens[SEEN_TOKENS];
    uint32_t n_tokens;
    char text[SEEN_TEXT]; /* a '|' where the kind changes */
    size_t n_text;
    enum delta_kind kind;
    float logprob_sum;
    bool done;
    struct rec_choice_done end;
};

struct seen {
    uint64_t id;
    bool admitted, over, failed;
    uint32_t n_events;
    struct rec_admitted admission;
    struct seen_choice choice[SEEN_CHOICES];
    struct rec_finished finished;
    struct rec_failed failure;
    char message[300];
    uint32_t n_embeddings, n_dims;
    uint64_t at_step[SEEN_INPUTS]; /* engine steps done when the vector came */
    float vectors[SEEN_INPUTS][FAKE_EMBD];
};

struct harness {
    struct fake fake;
    struct sched *s;
    struct seen *seen; /* [MAX_SEEN] */
    uint32_t n_seen;
    struct buf wire;
};

static inline struct seen *seen_of(struct harness *h, uint64_t id)
{
    for (uint32_t i = 0; i < h->n_seen; i++)
        if (h->seen[i].id == id)
            return &h->seen[i];
    fail_msg("an event of job %llu, which was never announced", (unsigned long long)id);
    return NULL;
}

static inline void on_delta(struct seen *j, const struct msg *m)
{
    struct seen_choice *c = &j->choice[m->delta.head.choice];
    assert_true(j->admitted && !c->done);
    assert_in_range(m->delta.n_tokens, 0, 1);
    assert_true(m->delta.n_tokens == 1 || m->delta.text.n > 0);
    if (m->delta.n_tokens)
        c->tokens[c->n_tokens++] = m->delta.tokens[0];
    if (m->delta.text.n > 0) {
        if (m->delta.head.kind != c->kind)
            c->text[c->n_text++] = '|';
        c->kind = (enum delta_kind)m->delta.head.kind;
        memcpy(c->text + c->n_text, m->delta.text.p, m->delta.text.n);
        c->n_text += m->delta.text.n;
    }
    struct str rest = m->delta.logprobs, text;
    struct logprob_entry e;
    while (msg_next_logprob(&rest, &e, &text))
        c->logprob_sum += e.logprob;
}

static inline void on_event(void *user, const struct msg *sent)
{
    struct harness *h = user;
    /* Over the wire and back: what the gateway would refuse, fails here. */
    buf_clear(&h->wire);
    msg_put(&h->wire, sent);
    struct ring_record rec = {
        .type = (uint16_t)sent->type, .job = sent->job, .payload = h->wire.p, .n = h->wire.n};
    struct msg m;
    struct errmsg why = {""};
    if (msg_read(&m, TO_GATEWAY, &rec, &why))
        fail_msg("%s", why.text);

    struct seen *j = seen_of(h, m.job);
    assert_false(j->over); /* nothing after the terminal event */
    j->n_events++;
    switch (m.type) {
    case REC_ADMITTED:
        assert_false(j->admitted);
        j->admitted = true;
        j->admission = m.admitted;
        break;
    case REC_DELTA:
        on_delta(j, &m);
        break;
    case REC_CHOICE_DONE: {
        struct seen_choice *c = &j->choice[m.choice_done.choice];
        assert_true(j->admitted && !c->done);
        c->done = true;
        c->end = m.choice_done;
        break;
    }
    case REC_EMBEDDING:
        assert_true(j->admitted);
        assert_int_equal(m.embedding.head.index, j->n_embeddings++);
        assert_in_range(m.embedding.head.n_dims, 1, FAKE_EMBD);
        j->n_dims = m.embedding.head.n_dims;
        j->at_step[m.embedding.head.index] = h->fake.n_steps;
        memcpy(j->vectors[m.embedding.head.index], m.embedding.values, j->n_dims * sizeof(float));
        break;
    case REC_FINISHED:
        j->over = true;
        j->finished = m.finished;
        break;
    case REC_FAILED:
        j->over = j->failed = true;
        j->failure = m.failed.head;
        memcpy(j->message, m.failed.message.p, m.failed.message.n < 299 ? m.failed.message.n : 299);
        break;
    default:
        fail_msg("a record of type %d", (int)m.type);
    }
}

static inline uint64_t fake_now(void *user)
{
    return ((struct harness *)user)->fake.now_ns;
}

struct room { /* of a harness; zeros: roomy */
    uint32_t slots, step_tokens, blocks, context;
    uint64_t target_ns;
    uint32_t window, window_blocks; /* window 0: none; window_blocks 0: roomy */
    bool chunked;
    enum pooling pooling; /* other than 0: it embeds */
    bool encoder;
};

static inline struct harness *harness_open(struct room room)
{
    struct harness *h = calloc(1, sizeof *h);
    h->seen = calloc(MAX_SEEN, sizeof *h->seen);
    fake_open(&h->fake, room.slots ? room.slots : 16, room.step_tokens ? room.step_tokens : 64,
              room.blocks ? room.blocks : 512, room.context ? room.context : 128);
    if (room.window)
        fake_open_windows(&h->fake, room.window, room.chunked, room.window_blocks);
    if (room.pooling)
        fake_make_embed(&h->fake, room.pooling, room.encoder);
    struct sched_opts o = {
        .target_ns = room.target_ns, .now_ns = fake_now, .emit = on_event, .user = h};
    struct errmsg why = {""};
    if (sched_open(&h->s, &h->fake.engine, &o, &why))
        fail_msg("%s", why.text);
    return h;
}

static inline void harness_close(struct harness *h)
{
    sched_close(h->s);
    fake_close(&h->fake);
    buf_fini(&h->wire);
    free(h->seen);
    free(h);
}

struct spec { /* of a job; zeros are neutral */
    struct job_head head;
    const int32_t *prompt;
    size_t n_prompt;
    const char *stops[3];
    const struct logit_bias *bias;
    size_t n_bias;
    struct {
        const int32_t *tokens;
        size_t n;
        uint32_t text_bytes;
    } replay[SEEN_CHOICES];
    const int32_t *inputs[SEEN_INPUTS];
    size_t n_input[SEEN_INPUTS];
};

static inline struct spec spec_of(const int32_t *prompt, size_t n)
{
    return (struct spec){.head = {.kind = JOB_COMPLETION,
                                  .n = 1,
                                  .seed = 5,
                                  .temperature = 1,
                                  .top_p = 1,
                                  .repetition_penalty = 1,
                                  .penalty_last_n = -1,
                                  .max_tokens = 24},
                         .prompt = prompt,
                         .n_prompt = n};
}

static inline struct job_req *make_req(const struct spec *sp)
{
    struct buf b = {0};
    body_begin(&b, &sp->head);
    if (sp->prompt)
        body_section(&b, SECTION_PROMPT_TOKENS, sp->prompt, sp->n_prompt * sizeof(int32_t));
    for (int i = 0; i < 3; i++)
        if (sp->stops[i])
            body_section(&b, SECTION_STOP, sp->stops[i], strlen(sp->stops[i]));
    if (sp->n_bias)
        body_section(&b, SECTION_LOGIT_BIAS, sp->bias, sp->n_bias * sizeof *sp->bias);
    for (uint32_t c = 0; c < SEEN_CHOICES; c++)
        if (sp->replay[c].n)
            body_replay(&b, c, sp->replay[c].text_bytes, sp->replay[c].tokens, sp->replay[c].n);
    for (int i = 0; i < SEEN_INPUTS; i++)
        if (sp->inputs[i])
            body_section(&b, SECTION_INPUT_TOKENS, sp->inputs[i], sp->n_input[i] * sizeof(int32_t));
    assert_int_equal(body_end(&b), ERR_OK);
    struct job_req *r = NULL;
    struct job_fault fault;
    if (!job_req_parse(&r, b.p, b.n, FAKE_VOCAB, &fault))
        fail_msg("%s", fault.why.text);
    r->n_prompt = r->prompt_ids.n; /* what prompt_prepare() does for a prompt of tokens */
    if (r->n_prompt) {
        r->prompt = malloc(r->n_prompt * sizeof(int32_t));
        memcpy(r->prompt, r->prompt_ids.ids, r->n_prompt * sizeof(int32_t));
    }
    return r;
}

static inline struct seen *announce(struct harness *h, uint64_t id)
{
    assert_true(h->n_seen < MAX_SEEN);
    h->seen[h->n_seen++] = (struct seen){.id = id};
    assert_int_equal(sched_announce(h->s, id), ERR_OK);
    return &h->seen[h->n_seen - 1];
}

static inline struct seen *submit(struct harness *h, uint64_t id, const struct spec *sp)
{
    struct seen *j = announce(h, id);
    sched_ready(h->s, id, make_req(sp));
    return j;
}

static inline void audit(struct harness *h)
{
    struct errmsg why = {""};
    if (!kv_audit(h->s->kv, &why))
        fail_msg("%s", why.text);
}

static inline void run_all(struct harness *h)
{
    for (int i = 0; sched_step(h->s); i++)
        if (i > 100000)
            fail_msg("it never ends");
}

/* All jobs are over, nothing is held. */
static inline void assert_quiet(struct harness *h)
{
    assert_true(sched_idle(h->s));
    for (uint32_t i = 0; i < h->n_seen; i++)
        assert_true(h->seen[i].over);
    struct sched_stats st;
    sched_stats(h->s, &st);
    assert_int_equal(st.kv_blocks_used, 0);
    assert_int_equal(st.running + st.waiting, 0);
    audit(h);
}

/* Same tokens, text, kinds, log probabilities and end. */
static inline void assert_same_answer(const struct seen *a, const struct seen *b, uint32_t n)
{
    assert_int_equal(a->failed, b->failed);
    for (uint32_t i = 0; i < n; i++) {
        const struct seen_choice *x = &a->choice[i], *y = &b->choice[i];
        assert_int_equal(x->n_tokens, y->n_tokens);
        assert_memory_equal(x->tokens, y->tokens, x->n_tokens * sizeof x->tokens[0]);
        assert_int_equal(x->n_text, y->n_text);
        assert_memory_equal(x->text, y->text, x->n_text);
        assert_memory_equal(&x->logprob_sum, &y->logprob_sum, sizeof x->logprob_sum);
        assert_memory_equal(&x->end, &y->end, sizeof x->end);
    }
    assert_int_equal(a->finished.reason, b->finished.reason);
    assert_int_equal(a->finished.prompt_tokens, b->finished.prompt_tokens);
    assert_int_equal(a->finished.completion_tokens, b->finished.completion_tokens);
    assert_int_equal(a->finished.reasoning_tokens, b->finished.reasoning_tokens);
}

/* A random but reproducible job. */
struct random_job {
    struct spec spec;
    int32_t prompt[100];
    struct logit_bias bias;
};

static inline void random_job(struct random_job *r, unsigned seed)
{
    srand(seed);
    size_t n = 1 + rand() % 60, same = rand() % 2 ? rand() % 40 : 0;
    for (size_t i = 0; i < n; i++)
        r->prompt[i] = i < same ? (int32_t)(i % 5) : rand() % 26;
    r->spec = spec_of(r->prompt, n);
    struct job_head *h = &r->spec.head;
    h->n = rand() % 4 == 0 ? 1 + rand() % 4 : 1;
    h->seed = (uint64_t)rand();
    h->temperature = rand() % 3 ? 0.8f : 0;
    h->top_p = rand() % 2 ? 1 : 0.9f;
    h->top_k = rand() % 2 ? 10 : 0;
    h->max_tokens = rand() % 3 ? 1 + rand() % 40 : 0;
    h->min_tokens = h->max_tokens > 6 && rand() % 3 == 0 ? 5 : 0;
    h->repetition_penalty = rand() % 3 ? 1 : 1.3f;
    h->frequency_penalty = rand() % 3 ? 0 : 0.4f;
    h->presence_penalty = rand() % 3 ? 0 : 0.3f;
    h->penalty_last_n = rand() % 2 ? -1 : 8;
    h->cache_salt = (uint64_t)(rand() % 2);
    /* One draw a statement: in an expression their order would be the compiler's. */
    h->flags = rand() % 3 == 0 ? JOB_LOGPROBS : 0;
    h->flags |= rand() % 8 == 0 ? JOB_IGNORE_EOS : 0;
    h->flags |= rand() % 6 == 0 ? JOB_NO_PREFIX_CACHE : 0;
    h->top_logprobs = rand() % 3;
    h->priority = rand() % 6 == 0 ? rand() % 3 - 1 : 0;
    if (rand() % 3 == 0)
        r->spec.stops[0] = "ab", r->spec.stops[1] = "cde", r->spec.stops[2] = "q";
    if (rand() % 4 == 0) {
        r->bias = (struct logit_bias){rand() % 26, 3};
        r->spec.bias = &r->bias;
        r->spec.n_bias = 1;
    }
}

#endif
