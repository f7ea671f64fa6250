#include "gateway/dispatch/dispatch.h"

#include "gateway/dispatch/internal.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sparse: untouched pages cost nothing. Room for one largest job and many small ones. */
enum { PAYLOAD_BYTES = 96 << 20 };

/* ---- what workers report
 * --------------------------------------------------------------------------------------- */

static void on_worker_up(void *user)
{
    struct member *mb = user;
    struct model_entry *m = mb->model;
    mb->was_up = true;
    memset(mb->last, 0, sizeof(mb->last));
    m->failed_loads = 0;
    m->last_error[0] = 0;
    resident_up(m);
    if (!m->told_ready) {
        m->told_ready = true;
        if (m->d->o.on_model_state)
            m->d->o.on_model_state(m->d->o.app, m->config, NULL);
    }
    pool_pump(m);
}

static void on_worker_record(void *user, const struct ring_record *rec)
{
    stream_record(user, rec);
}

static void on_worker_room(void *user)
{
    struct member *mb = user;
    pool_pump(mb->model);
}

void model_fail_queue(struct model_entry *m, const char *cause, enum err e, const char *message)
{
    bool was = m->pumping;
    m->pumping = true;
    while (!list_empty(&m->queue)) {
        struct job *j = list_entry(m->queue.next, struct job, link);
        job_finish(j, &(struct job_end){
                          .outcome = USAGE_FAILED, .cause = cause, .err = e, .message = message});
    }
    m->pumping = was;
}

bool model_any_up(const struct model_entry *m)
{
    for (uint32_t i = 0; i < m->n_members; i++)
        if (worker_is_up(m->members[i].worker))
            return true;
    return false;
}

static void on_worker_lost(void *user, bool was_up, const char *reason)
{
    struct member *mb = user;
    struct model_entry *m = mb->model;
    snprintf(m->last_error, sizeof(m->last_error), "%s", reason);
    pool_member_lost(mb, reason);
    if (was_up)
        return;
    m->failed_loads++;
    m->load_failures++;
    if (!m->d->managed && !m->told_ready && m->d->o.on_model_state)
        m->d->o.on_model_state(m->d->o.app, m->config, m->last_error);
    bool hopeless = m->failed_loads >= GIVE_UP_LOADS * m->n_members ||
                    (m->d->managed && worker_refused(mb->worker));
    if (hopeless && !model_any_up(m))
        resident_failed(m, m->last_error);
}

/* ---- models
 * ------------------------------------------------------------------------------------------------------
 */

/* "serve MODEL --context N ...": texts live as long as the model entry. */
static enum err build_argv(struct model_entry *m, struct errmsg *why)
{
    const struct model_config *c = m->config;
    const struct {
        const char *option;
        uint64_t value;
    } numbers[] = {{"--context", c->context},
                   {"--slots", m->slots},
                   {"--threads", (uint64_t)c->threads},
                   {"--dimensions", c->dimensions},
                   {"--memory", m->limit_bytes}};
    enum { MAX_ARGS = 26 };
    m->argv = calloc(MAX_ARGS, sizeof(*m->argv));
    m->argv_text = calloc(MAX_ARGS, sizeof(*m->argv_text));
    if (!m->argv || !m->argv_text)
        return err_set(why, ERR_NOMEM, "out of memory");
    int n = 0, texts = 0;
    m->argv[n++] = "serve";
    m->argv[n++] = c->path;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (!numbers[i].value)
            continue;
        char *text = malloc(24);
        if (!text)
            return err_set(why, ERR_NOMEM, "out of memory");
        snprintf(text, 24, "%llu", (unsigned long long)numbers[i].value);
        m->argv_text[texts++] = text;
        m->argv[n++] = numbers[i].option;
        m->argv[n++] = text;
    }
    const char *const options[][2] = {{"--device", c->device},
                                      {"--kv-type", c->kv_type},
                                      {"--chat-template", c->chat_template},
                                      {"--pooling", c->pooling}};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (!options[i][1])
            continue;
        m->argv[n++] = options[i][0];
        m->argv[n++] = options[i][1];
    }
    return ERR_OK;
}

static enum err model_open_entry(struct model_entry *m, const struct dispatch_options *o,
                                 struct errmsg *why)
{
    const struct model_config *c = m->config;
    list_init(&m->queue);
    buf_init(&m->info);
    buf_init(&m->report);
    m->queue_limit = c->queue_limit ? c->queue_limit : DEFAULT_QUEUE_LIMIT;
    m->slots = c->slots ? c->slots : DEFAULT_SLOTS;
    struct stat st;
    if (stat(c->path, &st) != 0)
        return err_set(why, ERR_IO, "%s: no such model file", c->path);
    if (!S_ISREG(st.st_mode) || access(c->path, R_OK) != 0)
        return err_set(why, ERR_IO, "%s: the model file can't be read", c->path);
    m->created = (int64_t)st.st_mtime;
    enum err e = resident_open(m, why);
    if (e == ERR_OK)
        e = build_argv(m, why);
    if (e != ERR_OK)
        return e;
    uint32_t n = c->replicas > 0 ? (uint32_t)c->replicas : 1;
    m->affinity = calloc(AFFINITY_ENTRIES, sizeof(*m->affinity));
    m->members = calloc(n, sizeof(*m->members));
    if (!m->affinity || !m->members)
        return err_set(why, ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++) {
        struct member *mb = &m->members[i];
        mb->model = m;
        mb->index = i;
        list_init(&mb->on_board);
        char name[128];
        snprintf(name, sizeof(name), STR_FMT "/%u", STR_ARG(c->name), i);
        struct worker_spec spec = {.loop = o->loop,
                                   .name = name,
                                   .program = o->worker_path,
                                   .argv = m->argv,
                                   .payload_bytes = PAYLOAD_BYTES,
                                   .stall_ms = o->stall_ms,
                                   .parked = m->d->managed,
                                   .user = mb,
                                   .on_up = on_worker_up,
                                   .on_record = on_worker_record,
                                   .on_lost = on_worker_lost,
                                   .on_room = on_worker_room,
                                   .on_stopped = resident_stopped};
        e = worker_open(&mb->worker, &spec, why);
        if (e != ERR_OK)
            return e;
        m->n_members = i + 1;
    }
    return ERR_OK;
}

static void model_free(struct model_entry *m)
{
    if (m->argv_text)
        for (int i = 0; m->argv_text[i]; i++)
            free(m->argv_text[i]);
    free(m->argv_text);
    free(m->argv);
    free(m->members);
    free(m->affinity);
    buf_fini(&m->info);
    buf_fini(&m->report);
}

/* ---- timers
 * -------------------------------------------------------------------------------------------------------
 */

static void on_sweep(uv_timer_t *t)
{
    struct dispatch *d = t->data;
    uint64_t now = clock_mono_ns();
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        for (uint32_t k = 0; k < m->n_members; k++)
            pool_sample_totals(&m->members[k]);
        for (struct link *l = m->queue.next; l != &m->queue;) {
            struct job *j = list_entry(l, struct job, link);
            l = l->next;
            if (j->head.deadline_ns && now > j->head.deadline_ns) {
                job_finish(j, &(struct job_end){
                                  .outcome = USAGE_FAILED,
                                  .cause = "deadline",
                                  .err = ERR_TIMEOUT,
                                  .message = "the request waited in the queue past its deadline"});
                l = m->queue.next;
            } else if (!j->admitted && d->o.queue_ms &&
                       now > j->queued_ns + (uint64_t)d->o.queue_ms * 1000000) {
                job_finish(j, &(struct job_end){
                                  .outcome = USAGE_FAILED,
                                  .cause = "queue_timeout",
                                  .err = ERR_TIMEOUT,
                                  .message =
                                      "the request waited in the queue as long as this server lets "
                                      "requests wait; please retry later"});
                l = m->queue.next;
            }
        }
    }
    resident_turn(d);
}

static void on_prepare(uv_prepare_t *p)
{
    struct dispatch *d = p->data;
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        if (m->pump_due && !d->closing) {
            m->pump_due = false;
            pool_pump(m);
        }
    }
}

static void on_check(uv_check_t *c)
{
    struct dispatch *d = c->data;
    job_free_dead(d);
    if (d->managed)
        resident_turn(d);
}

/* ---- opening and closing
 * ------------------------------------------------------------------------------------------ */

static void maybe_closed(void *user)
{
    struct dispatch *d = user;
    if (--d->closing_handles)
        return;
    void (*on_closed)(void *) = d->on_closed;
    void *closed_user = d->closed_user;
    job_free_dead(d);
    for (size_t i = 0; i < d->n_models; i++)
        model_free(&d->models[i]);
    free(d->models);
    free(d);
    if (on_closed)
        on_closed(closed_user);
}

static void on_handle_closed(uv_handle_t *h)
{
    maybe_closed(h->data);
}

enum err dispatch_open(struct dispatch **out, const struct dispatch_options *o, struct errmsg *why)
{
    if (sodium_init() < 0)
        return err_set(why, ERR_INTERNAL, "libsodium can't find a source of randomness");
    struct dispatch *d = calloc(1, sizeof(*d));
    struct model_entry *models = d ? calloc(o->n_models ? o->n_models : 1, sizeof(*models)) : NULL;
    if (!models) {
        free(d);
        return err_set(why, ERR_NOMEM, "out of memory");
    }
    d->o = *o;
    d->o.stall_ms = o->stall_ms ? o->stall_ms : DEFAULT_STALL_MS;
    d->o.turn_ms = o->turn_ms ? o->turn_ms : DEFAULT_TURN_MS;
    d->managed = o->max_loaded || o->memory_budget_bytes || o->idle_unload_ms;
    d->o.max_attempts = o->max_attempts ? o->max_attempts : DEFAULT_MAX_ATTEMPTS;
    d->models = models;
    list_init(&d->graveyard);
    for (int i = 0; i < JOB_TABLE; i++)
        list_init(&d->by_id[i]);
    randombytes_buf(d->salt_key, sizeof(d->salt_key));
    uv_timer_init(o->loop, &d->sweep);
    uv_check_init(o->loop, &d->dead);
    uv_prepare_init(o->loop, &d->pump);
    d->sweep.data = d->dead.data = d->pump.data = d;
    uv_timer_start(&d->sweep, on_sweep, SWEEP_INTERVAL_MS, SWEEP_INTERVAL_MS);
    uv_check_start(&d->dead, on_check);
    uv_unref((uv_handle_t *)&d->dead);
    uv_prepare_start(&d->pump, on_prepare);
    uv_unref((uv_handle_t *)&d->pump);
    for (size_t i = 0; i < o->n_models; i++) {
        struct model_entry *m = &d->models[i];
        m->d = d;
        m->config = &o->models[i];
        d->n_models = i + 1;
        enum err e = model_open_entry(m, &d->o, why);
        if (e != ERR_OK) {
            dispatch_close(d, NULL,
                           NULL); /* the caller runs its loop once more to let the handles close */
            return e;
        }
    }
    *out = d;
    return ERR_OK;
}

void dispatch_drain(struct dispatch *d)
{
    d->draining = true;
    for (size_t i = 0; i < d->n_models; i++)
        model_fail_queue(&d->models[i], "draining", ERR_CLOSED,
                         "the server is shutting down; please retry");
}

bool dispatch_idle(const struct dispatch *d)
{
    return d->n_jobs == 0;
}

void dispatch_close(struct dispatch *d, void (*on_closed)(void *user), void *user)
{
    d->draining = d->closing = true;
    d->on_closed = on_closed;
    d->closed_user = user;
    d->closing_handles = 3;
    const struct job_end end = {.outcome = USAGE_FAILED,
                                .cause = "shutdown",
                                .err = ERR_CLOSED,
                                .message = "the server is shutting down; please retry"};
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        model_fail_queue(m, end.cause, end.err, end.message);
        for (uint32_t k = 0; k < m->n_members; k++) {
            struct member *mb = &m->members[k];
            while (!list_empty(&mb->on_board))
                job_finish(list_entry(mb->on_board.next, struct job, link), &end);
            d->closing_handles++;
        }
        d->closing_handles += m->inspection != NULL;
    }
    for (size_t i = 0; i < d->n_models; i++)
        if (d->models[i].inspection)
            inspect_cancel(d->models[i].inspection, maybe_closed, d);
    for (size_t i = 0; i < d->n_models; i++)
        for (uint32_t k = 0; k < d->models[i].n_members; k++)
            worker_close(d->models[i].members[k].worker, maybe_closed, d);
    uv_close((uv_handle_t *)&d->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&d->dead, on_handle_closed);
    uv_close((uv_handle_t *)&d->pump, on_handle_closed);
}

/* ---- status
 * --------------------------------------------------------------------------------------------------------
 */

size_t dispatch_n_models(const struct dispatch *d)
{
    return d->n_models;
}

bool dispatch_has_model(const struct dispatch *d, struct str name)
{
    for (size_t i = 0; i < d->n_models; i++)
        if (str_eq(d->models[i].config->name, name))
            return true;
    return false;
}

void dispatch_model_status(const struct dispatch *d, size_t i, struct model_status *out)
{
    const struct model_entry *m = &d->models[i];
    *out = (struct model_status){.name = m->config->name,
                                 .info_json = {m->info.p, m->info.n},
                                 .created = m->created,
                                 .workers = m->n_members,
                                 .queued = m->queued,
                                 .running = m->running,
                                 .queue_limit = m->queue_limit,
                                 .failovers = m->failovers,
                                 .last_error = str_of(m->last_error)};
    for (uint32_t k = 0; k < m->n_members; k++) {
        struct member *mb = &m->members[k];
        out->ready += worker_stepped_within(mb->worker, READY_WITHIN_MS);
        out->restarts += worker_restarts(mb->worker);
        pool_sample_totals(mb);
        out->prompt_tokens += mb->totals[0];
        out->cached_tokens += mb->totals[1];
        out->generated_tokens += mb->totals[2];
        out->preemptions += mb->totals[3];
        const struct shm_status *s = worker_status(mb->worker);
        if (s && worker_is_up(mb->worker)) {
            out->kv_blocks_total += atomic_load_explicit(&s->kv_blocks_total, memory_order_relaxed);
            out->kv_blocks_used += atomic_load_explicit(&s->kv_blocks_used, memory_order_relaxed);
        }
    }
    resident_status(m, out);
}
