/* Any bytes as a job's body: refused with a reason, or a job whose every part may be used without
 * another look: then it is run through the scheduler with a small scripted engine. */
#include "shared/ipc/msg.h"
#include "tests/unit/worker/sched/fake_engine.h"
#include "worker/sched/sched.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

struct heard {
    struct buf wire;
    uint64_t now_ns;
    unsigned terminals;
};

static void on_event(void *user, const struct msg *sent)
{
    struct heard *h = user;
    require(h->terminals == 0);
    buf_clear(&h->wire);
    msg_put(&h->wire, sent);
    struct ring_record rec = {
        .type = (uint16_t)sent->type, .job = sent->job, .payload = h->wire.p, .n = h->wire.n};
    struct msg m;
    require(msg_read(&m, TO_GATEWAY, &rec, NULL) == ERR_OK);
    h->terminals += msg_type_terminal(sent->type);
}

static uint64_t now_ns(void *user)
{
    return ((struct heard *)user)->now_ns += 1000;
}

/* What prompt_prepare() would leave; text becomes one token per byte. */
static bool prepare(struct job_req *r)
{
    r->n_prompt = r->prompt_ids.ids ? r->prompt_ids.n : r->prompt_text.n + r->request_json.n;
    r->prompt = calloc(r->n_prompt + 1, sizeof *r->prompt);
    for (size_t i = 0; r->prompt && i < r->n_prompt && r->prompt_ids.ids; i++)
        r->prompt[i] = r->prompt_ids.ids[i];
    for (size_t i = 0; i < r->n_inputs; i++) {
        struct job_input *in = &r->inputs[i];
        if (in->is_text) {
            in->n = in->text.n;
            in->ids = calloc(in->n + 1, sizeof *in->ids);
        }
    }
    return r->prompt != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *bytes = malloc(size ? size : 1);
    struct job_req *r = NULL;
    struct job_fault fault = {0};
    if (!bytes)
        return 0;
    if (size)
        memcpy(bytes, data, size);
    if (!job_req_parse(&r, bytes, size, FAKE_VOCAB, &fault)) {
        require(!r && fault.err != ERR_OK && fault.why.text[0]);
        return 0;
    }
    for (uint32_t i = 0; i < r->n_stops; i++)
        if (r->stops[i].n > 30) { /* the scripted engine holds back no more than that */
            job_req_free(r);
            return 0;
        }
    struct fake f;
    struct heard heard = {0};
    fake_open(&f, 4, 40, 40, 64);
    const struct sched_opts o = {.now_ns = now_ns, .emit = on_event, .user = &heard};
    struct sched *s = NULL;
    require(sched_open(&s, &f.engine, &o, NULL) == ERR_OK);
    require(sched_announce(s, 1) == ERR_OK && prepare(r));
    sched_ready(s, 1, r);
    while (sched_step(s))
        continue;
    require(heard.terminals == 1 && sched_idle(s));
    struct sched_stats st;
    sched_stats(s, &st);
    require(st.kv_blocks_used == 0);
    sched_close(s);
    fake_close(&f);
    buf_fini(&heard.wire);
    return 0;
}
