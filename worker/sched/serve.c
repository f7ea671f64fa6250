/* serve.c - rings, preparation threads, scheduler and model put together in one loop. */
#include "worker/sched/serve.h"

#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/base/log.h"
#include "shared/ipc/msg.h"
#include "shared/ipc/shm.h"
#include "shared/ipc/wake.h"
#include "worker/sched/engine_model.h"
#include "worker/sched/prepare.h"
#include "worker/sched/sched.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    HEARTBEAT_MS = 200, /* an idle worker says that it lives, and looks for a SIGTERM */
    FULL_RING_MS = 50,  /* look again at least so often while the gateway does not read */
};
/* A preparation that takes so long hangs: the heartbeat stops, and the gateway replaces this
 * worker. */
static const uint64_t prepare_hangs_ns = 20ull * 1000 * 1000 * 1000;
/* What a step with prefill should take: the pause that a long prompt causes in other streams, and
 * the time until a CANCEL is obeyed. */
static const uint64_t target_step_ns = 80u * 1000 * 1000;

struct serve {
    const struct serve_options *o;
    struct shm shm;
    struct ring_reader in;
    struct ring_writer out;
    struct buf scratch;
    struct model *model;
    struct tokenizer *tokenizer;
    struct prompt_maker maker;
    struct engine_model *engine;
    struct prepare *prepare;
    struct sched *sched;
    bool draining;
    enum err broken; /* the gateway broke the protocol: the worker ends */
};

/* SIGTERM is blocked in all threads and fetched here, once per turn of the loop: no handler, no
 * global. */
static bool sigterm_came(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    return sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGTERM;
}

/* ---- to the gateway
 * ---------------------------------------------------------------------------------------------- */

static void beat(struct serve *s)
{
    uint64_t since = s->prepare ? prepare_busy_since_ns(s->prepare) : 0;
    if (since && clock_mono_ns() - since > prepare_hangs_ns)
        return;
    atomic_store_explicit(&s->shm.status->last_step_ns, clock_mono_ns(), memory_order_relaxed);
}

/* Waits while the ring is full: the gateway always drains it, and its death is ours. Nothing is
 * lost or reordered. */
static void emit(void *user, const struct msg *m)
{
    struct serve *s = user;
    enum err e;
    while ((e = msg_send(&s->out, &s->scratch, m)) == ERR_FULL) {
        if (ring_reader_needs_wake(&s->out))
            wake_send(s->o->news_fd);
        if (ring_writer_arm(&s->out, s->scratch.n))
            (void)!wake_wait(s->o->work_fd, FULL_RING_MS);
        beat(s);
    }
    if (e != ERR_OK)
        s->broken = e;
}

static void flush(struct serve *s)
{
    if (ring_reader_needs_wake(&s->out))
        wake_send(s->o->news_fd);
}

static void set_state(struct serve *s, enum worker_state state)
{
    atomic_store_explicit(&s->shm.status->state, state, memory_order_release);
    wake_send(s->o->news_fd);
}

static void publish_stats(struct serve *s)
{
    struct sched_stats st;
    sched_stats(s->sched, &st);
    struct shm_status *out = s->shm.status;
#define PUT(field, value) atomic_store_explicit(&out->field, value, memory_order_relaxed)
    PUT(steps, st.steps);
    PUT(running, st.running);
    PUT(waiting, st.waiting);
    PUT(kv_blocks_total, st.kv_blocks_total);
    PUT(kv_blocks_used, st.kv_blocks_used);
    PUT(prompt_tokens, st.prompt_tokens);
    PUT(cached_tokens, st.cached_tokens);
    PUT(generated_tokens, st.generated_tokens);
    PUT(preemptions, st.preemptions);
#undef PUT
    beat(s);
}

static void send_model_info(struct serve *s)
{
    const struct model_desc *d = model_desc(s->model);
    const struct engine *engine = engine_model_table(s->engine);
    struct buf b;
    buf_init(&b);
    const struct {
        const char *key;
        struct str value;
    } texts[] = {{"name", d->name},
                 {"arch", d->arch},
                 {"size", d->size_label},
                 {"quant", str_of(d->quant)},
                 {"device", str_of(d->device)},
                 {"tokenizer", str_of(tokenizer_kind(s->tokenizer))},
                 {"tool_format", str_of(output_format_calls(&s->maker.format))},
                 {"reasoning_format", str_of(output_format_reasoning(&s->maker.format))}};
    const bool chat = s->maker.chat && !engine->embeds;
    buf_putc(&b, '{');
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_put_cstr(&b, texts[i].key);
        buf_putc(&b, ':');
        json_put_str(&b, texts[i].value.p ? texts[i].value.p : "", texts[i].value.n);
        buf_putc(&b, ',');
    }
    if (s->maker.unusable.text[0]) {
        buf_puts(&b, "\"chat_error\":");
        json_put_cstr(&b, s->maker.unusable.text);
        buf_putc(&b, ',');
    }
    buf_printf(&b,
               "\"params\":%llu,\"weight_bytes\":%llu,\"context\":%u,\"context_train\":%u,\"n_"
               "vocab\":%u,\"kv_blocks\":%u,"
               "\"kv_bytes\":%llu,\"slots\":%u,\"chat\":%s,\"tools\":%s,\"reasoning\":%s,"
               "\"embeddings\":%s",
               (unsigned long long)d->n_params, (unsigned long long)d->weight_bytes, d->context,
               d->context_train, d->n_vocab, d->kv_blocks, (unsigned long long)d->kv_bytes,
               s->o->model.max_seqs, chat ? "true" : "false",
               chat && !s->maker.wants.no_tools ? "true" : "false",
               chat && s->maker.format.reasoning ? "true" : "false",
               engine->embeds ? "true" : "false");
    if (engine->embeds)
        buf_printf(&b, ",\"pooling\":\"%s\",\"dimensions\":%u,\"min_dimensions\":%u",
                   pooling_name(engine->pooling), engine->n_embd,
                   engine->min_dims ? engine->min_dims : engine->n_embd);
    buf_putc(&b, '}');
    emit(s, &(struct msg){.type = REC_MODEL_INFO, .text = {b.p, b.n}});
    flush(s);
    buf_fini(&b);
}

/* ---- from the gateway
 * --------------------------------------------------------------------------------------------- */

static void on_submit(struct serve *s, uint64_t job, const struct rec_submit *r)
{
    const unsigned char *extent = shm_extent(&s->shm, r->offset, r->bytes);
    if (!extent || r->bytes > PROTO_MAX_JOB_BYTES) {
        s->broken = ERR_PROTOCOL;
        return;
    }
    void *copy = malloc(r->bytes ? r->bytes : 1);
    if (copy)
        memcpy(copy, extent, r->bytes);
    emit(s, &(struct msg){.type = REC_TAKEN, .taken = {.offset = r->offset}});
    enum err e = sched_announce(s->sched, job);
    if (e == ERR_EXISTS) { /* a FAILED would end the job that has this id */
        free(copy);
        s->broken = ERR_PROTOCOL;
        return;
    }
    if (e != ERR_OK) {
        free(copy);
        emit(s, &(struct msg){.type = REC_FAILED,
                              .job = job,
                              .failed = {.head = {.err = e},
                                         .message = str_of("the worker can't take another job")}});
        return;
    }
    if (s->draining) {
        free(copy);
        struct job_fault fault;
        (void)job_fault_set(&fault, ERR_CLOSED, PARAM_NONE, "the worker is shutting down");
        sched_refuse(s->sched, job, &fault);
        return;
    }
    if (!copy || prepare_push(s->prepare, job, copy, r->bytes) != ERR_OK) {
        struct job_fault fault;
        (void)job_fault_set(&fault, ERR_NOMEM, PARAM_NONE, "the worker is out of memory");
        sched_refuse(s->sched, job, &fault);
    }
}

static void drain(struct serve *s)
{
    s->draining = true;
    set_state(s, WORKER_DRAINING);
}

static void handle(struct serve *s, const struct msg *m)
{
    switch (m->type) {
    case REC_SUBMIT:
        on_submit(s, m->job, &m->submit);
        break;
    case REC_CANCEL:
        sched_cancel(s->sched, m->job);
        break;
    case REC_PAUSE:
        sched_pause(s->sched, m->job);
        break;
    case REC_RESUME:
        sched_resume(s->sched, m->job);
        break;
    case REC_DRAIN:
        drain(s);
        break;
    default: /* msg_read() lets nothing else through in this direction */
        s->broken = ERR_PROTOCOL;
    }
}

static void read_ring(struct serve *s)
{
    struct ring_record rec;
    struct msg m;
    enum err e;
    while (s->broken == ERR_OK && (e = ring_read(&s->in, &rec)) != ERR_AGAIN) {
        if (e == ERR_OK)
            e = msg_read(&m, TO_WORKER, &rec, NULL);
        if (e == ERR_OK)
            handle(s, &m);
        else
            s->broken = e;
    }
    if (ring_writer_needs_wake(&s->in))
        wake_send(s->o->news_fd);
}

static void read_prepared(struct serve *s)
{
    struct prepared p;
    while (prepare_pop(s->prepare, &p)) {
        if (p.req)
            sched_ready(s->sched, p.job, p.req);
        else
            sched_refuse(s->sched, p.job, &p.fault);
    }
}

static int idle_ms(const struct serve *s)
{
    uint64_t due = sched_next_deadline_ns(s->sched), now = clock_mono_ns();
    if (!due)
        return HEARTBEAT_MS;
    uint64_t ms = due > now ? (due - now) / 1000000 + 1 : 0;
    return ms < HEARTBEAT_MS ? (int)ms : HEARTBEAT_MS;
}

static void loop(struct serve *s)
{
    while (s->broken == ERR_OK) {
        read_ring(s);
        read_prepared(s);
        bool worked = sched_step(s->sched);
        publish_stats(s);
        flush(s);
        if (sigterm_came())
            drain(s);
        if (s->draining && sched_idle(s->sched))
            return;
        if (worked)
            continue;
        if (ring_reader_arm(&s->in) && !prepare_ready(s->prepare))
            (void)!wake_wait(s->o->work_fd, idle_ms(s));
    }
}

/* ---- start and end
 * --------------------------------------------------------------------------------------------------
 */

static void on_progress(void *user, uint32_t permille)
{
    struct serve *s = user;
    atomic_store_explicit(&s->shm.status->load_permille, permille, memory_order_relaxed);
    beat(s);
}

/* A step of a large model, or of a long input to an encoder, may be longer than the gateway waits
 * for a sign of life. */
static void on_layer(void *user)
{
    beat(user);
}

static uint64_t now_ns(void *user)
{
    (void)user;
    return clock_mono_ns();
}

/* No event of this model may be larger than the ring: one token with all its alternatives and as
 * much text as goes into one event, or one embedding. Looked at here, it can't end a job later. */
static enum err check_records(struct serve *s, struct errmsg *why)
{
    const struct model_desc *d = model_desc(s->model);
    size_t longest = 0, room = s->shm.head.event_bytes - RING_OVERHEAD;
    for (uint32_t id = 0; id < tokenizer_n_vocab(s->tokenizer); id++) {
        size_t n = tokenizer_piece(s->tokenizer, (int32_t)id, true).n;
        longest = n > longest ? n : longest;
    }
    size_t delta = sizeof(struct rec_delta) + 64 + SCHED_DELTA_BYTES +
                   (1 + PROTO_MAX_TOP_LOGPROBS) * (sizeof(struct logprob_entry) + longest);
    size_t embedding = sizeof(struct rec_embedding) + 64 + d->n_embd * sizeof(float);
    if (longest > UINT16_MAX || delta > room || embedding > room)
        return err_set(
            why, ERR_UNSUPPORTED,
            "%s: events of this model (tokens of up to %zu bytes, %u dimensions) don't fit "
            "the event ring of %zu bytes",
            s->o->path, longest, d->n_embd, room);
    return ERR_OK;
}

static enum err load(struct serve *s, struct errmsg *why)
{
    struct model_opts mo = s->o->model;
    mo.on_progress = on_progress;
    mo.on_layer = on_layer;
    mo.user = s;
    enum err e = model_open(&s->model, s->o->path, &mo, why);
    if (e != ERR_OK)
        return e;
    e = tokenizer_open(&s->tokenizer, model_gguf(s->model), why);
    if (e != ERR_OK)
        return e;
    e = prompt_maker_open(&s->maker, model_gguf(s->model), s->tokenizer, s->o->chat_template, why);
    if (e != ERR_OK)
        return e;
    e = engine_model_open(&s->engine, s->model, s->tokenizer, mo.max_seqs, mo.max_step_tokens,
                          &s->o->embeddings, why);
    if (e != ERR_OK)
        return e;
    s->maker.embeds = engine_model_table(s->engine)->embeds;
    if (s->maker.unusable.text[0])
        log_warn("worker", "chat is refused: the model's chat template can't be used",
                 KV_S("reason", s->maker.unusable.text));
    e = check_records(s, why);
    if (e != ERR_OK)
        return e;
    const struct sched_opts so = {
        .target_ns = target_step_ns, .now_ns = now_ns, .emit = emit, .user = s};
    e = sched_open(&s->sched, engine_model_table(s->engine), &so, why);
    if (e != ERR_OK)
        return e;
    return prepare_open(&s->prepare, &s->maker, model_desc(s->model)->n_vocab, s->o->work_fd, why);
}

enum err serve_run(const struct serve_options *o, struct errmsg *why)
{
    /* The gateway's death is ours. It may have died before the call below; its pid tells (a gateway
     * that runs as pid 1 of a container looks like an orphan's new parent, so "1" alone tells
     * nothing). */
    pid_t parent = o->parent ? o->parent : getppid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        return err_set(why, ERR_CLOSED, "the gateway is gone");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    signal(SIGPIPE, SIG_IGN);

    struct serve s = {.o = o, .shm = {.fd = -1}};
    buf_init(&s.scratch);
    enum err e = shm_attach(&s.shm, o->shm_fd, shm_build_id(), why);
    if (e == ERR_OK)
        e = ring_reader_open(&s.in, s.shm.submit, s.shm.head.submit_bytes);
    if (e == ERR_OK)
        e = ring_writer_open(&s.out, s.shm.events, s.shm.head.event_bytes);
    if (e == ERR_OK) {
        set_state(&s, WORKER_LOADING);
        e = load(&s, why);
        if (e != ERR_OK) { /* the gateway tells its operator */
            emit(&s, &(struct msg){.type = REC_FATAL,
                                   .text = str_of(why->text[0] ? why->text : err_text(e))});
            flush(&s);
            set_state(&s, WORKER_FAILED);
        }
    }
    if (e == ERR_OK) {
        send_model_info(&s);
        publish_stats(&s);
        set_state(&s, WORKER_READY);
        loop(&s);
        if (s.broken != ERR_OK)
            e = err_set(why, s.broken, "the gateway broke the protocol: %s", err_text(s.broken));
    }
    prepare_close(s.prepare);
    sched_close(s.sched);
    engine_model_close(s.engine);
    prompt_maker_fini(&s.maker);
    tokenizer_close(s.tokenizer);
    model_close(s.model);
    ring_reader_close(&s.in);
    shm_close(&s.shm);
    buf_fini(&s.scratch);
    return e;
}
