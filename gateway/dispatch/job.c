#include "gateway/dispatch/internal.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/utf8.h"
#include "shared/ipc/body.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lookup and moves
 * -------------------------------------------------------------------------------------- */

static struct link *bucket(struct dispatch *d, uint64_t id)
{
    return &d->by_id[(id * 0x9e3779b97f4a7c15u) >> (64 - JOB_TABLE_BITS)];
}

struct job *job_find(struct dispatch *d, uint64_t id)
{
    struct link *head = bucket(d, id);
    for (struct link *l = head->next; l != head; l = l->next) {
        struct job *j = list_entry(l, struct job, hash);
        if (j->id == id)
            return j;
    }
    return NULL;
}

void job_set_state(struct job *j, enum job_state state, struct member *on)
{
    struct model_entry *m = j->model;
    switch (j->state) { /* leave the old place */
    case JOB_QUEUED:
        m->queued--;
        break;
    case JOB_SENT:
    case JOB_RUNNING:
        j->member->jobs--;
        j->member->seqs -= j->board_seqs;
        j->member->suspects -= j->probation;
        m->running--;
        if (j->member->jobs == 0)
            worker_set_busy(j->member->worker, false);
        break;
    case JOB_NEW:
    case JOB_DONE:
        break;
    }
    list_remove(&j->link);
    j->state = state;
    j->member = NULL;
    switch (state) { /* enter the new one */
    case JOB_QUEUED:
        m->queued++; /* the caller links it at the front or at the back */
        break;
    case JOB_SENT:
    case JOB_RUNNING:
        j->member = on;
        j->board_seqs = j->head.n;
        on->jobs++;
        on->seqs += j->board_seqs;
        on->suspects += j->probation;
        m->running++;
        list_push_back(&on->on_board, &j->link);
        worker_set_busy(on->worker, true);
        break;
    case JOB_NEW:
    case JOB_DONE:
        break;
    }
}

uint32_t job_tokens(const struct job *j)
{
    uint32_t n = j->embedded_tokens;
    for (uint32_t c = 0; c < j->head.n; c++)
        n += j->choices[c].n;
    return n;
}

/* ---- hashes
 * -------------------------------------------------------------------------------------------------
 */

static uint64_t keyed_hash(const struct dispatch *d, uint64_t chain, const void *p, size_t n)
{
    uint64_t h;
    _Static_assert(crypto_shorthash_BYTES == sizeof(h), "SipHash-2-4");
    unsigned char key[crypto_shorthash_KEYBYTES];
    memcpy(key, d->salt_key, sizeof(key));
    for (size_t i = 0; i < sizeof(chain); i++)
        key[i] ^= (unsigned char)(chain >> (8 * i));
    crypto_shorthash((unsigned char *)&h, p, n, key);
    return h;
}

void job_spec_add_prefix(const struct dispatch *d, struct job_spec *spec, const void *piece,
                         size_t n)
{
    uint64_t chain = spec->n_prefixes ? spec->prefixes[spec->n_prefixes - 1] : 0;
    if (spec->n_prefixes == JOB_MAX_PREFIXES) {
        memmove(spec->prefixes, spec->prefixes + 1,
                (JOB_MAX_PREFIXES - 1) * sizeof(spec->prefixes[0]));
        spec->n_prefixes--;
    }
    spec->prefixes[spec->n_prefixes++] = keyed_hash(d, chain, piece, n);
}

/* ---- admission
 * ------------------------------------------------------------------------------------------------
 */

/* Cut at the array's size, on a UTF-8 border. */
static void copy_text(char *dst, size_t size, struct str s)
{
    size_t n = s.n < size - 1 ? s.n : size - 1;
    if (n)
        memcpy(dst, s.p, n);
    n -= utf8_incomplete_tail(dst, n);
    dst[n] = 0;
}

static void fill_row(struct usage_row *row, const struct job *j, const struct job_spec *spec)
{
    copy_text(row->request_id, sizeof(row->request_id), spec->request_id);
    copy_text(row->key_id, sizeof(row->key_id), spec->key_id);
    copy_text(row->end_user, sizeof(row->end_user), spec->end_user);
    copy_text(row->model, sizeof(row->model), spec->model);
    copy_text(row->dialect, sizeof(row->dialect), spec->dialect);
    row->choices = j->head.n;
    row->created_ms = clock_wall_ms();
    /* Unique over restarts and machines: the time in milliseconds, then 80 random bits (the order
     * of RFC 9562's version 7, so that rows are appended to the table's tree, not strewn over it).
     * The request id is for people. */
    unsigned char r[16];
    randombytes_buf(r, sizeof(r));
    for (int i = 0; i < 6; i++)
        r[i] = (unsigned char)((uint64_t)row->created_ms >> (40 - 8 * i));
    sodium_bin2hex(row->id, sizeof(row->id), r, sizeof(r));
}

static uint32_t count_inputs(const struct job *j)
{
    const struct body b = {.sections = (const unsigned char *)j->body.p + sizeof(j->head),
                           .n = j->body.n - sizeof(j->head)};
    struct body_part part;
    uint32_t n = 0;
    for (size_t at = 0; body_next(&b, &at, &part);)
        n += part.kind == SECTION_INPUT_TEXT || part.kind == SECTION_INPUT_TOKENS;
    return n;
}

static void job_free(struct job *j)
{
    if (j->choices)
        for (uint32_t c = 0; c < j->head.n; c++)
            free(j->choices[c].tokens);
    free(j->choices);
    buf_fini(&j->body);
    free(j);
}

enum err job_submit(struct dispatch *d, struct job_spec *spec, const struct job_sink *sink,
                    struct job **out, uint32_t *retry_after_s)
{
    struct buf body = spec->body; /* moved */
    spec->body = (struct buf){0};
    struct job_head head = {0};
    if (!body.failed && body.n >= sizeof(head))
        memcpy(&head, body.p, sizeof(head));
    struct model_entry *m = NULL;
    for (size_t i = 0; i < d->n_models && !m; i++)
        if (str_eq(d->models[i].config->name, spec->model))
            m = &d->models[i];
    enum err e = ERR_OK;
    uint32_t unavailable_s = 0;
    if (!m)
        e = ERR_NOT_FOUND;
    else if (d->draining)
        e = ERR_CLOSED;
    else if (m->queued >= m->queue_limit)
        e = ERR_FULL;
    else if (resident_refuses(m, &unavailable_s))
        e = ERR_AGAIN;
    else if (head.n == 0 || head.n > PROTO_MAX_CHOICES)
        e = body.failed ? ERR_NOMEM : ERR_RANGE;
    if (e != ERR_OK) {
        if (m)
            *retry_after_s = unavailable_s ? unavailable_s : pool_retry_after(m);
        buf_fini(&body);
        return e;
    }

    struct job *j = calloc(1, sizeof(*j));
    struct choice *choices = j ? calloc(head.n, sizeof(*choices)) : NULL;
    struct usage_row *row = choices ? usage_take(d->o.usage) : NULL;
    if (!row) {
        *retry_after_s = pool_retry_after(m);
        e = choices ? ERR_FULL : ERR_NOMEM;
        free(choices);
        free(j);
        buf_fini(&body);
        return e;
    }
    list_init(&j->link);
    j->d = d;
    j->model = m;
    j->id = ++d->next_id;
    j->head = head;
    if (!j->head.cache_salt)
        j->head.cache_salt = keyed_hash(d, 1, spec->key_id.p ? spec->key_id.p : "", spec->key_id.n);
    memcpy(body.p, &j->head, sizeof(j->head));
    j->body = body;
    if (head.kind == JOB_EMBEDDING)
        j->n_inputs = count_inputs(j);
    j->sink = *sink;
    j->choices = choices;
    j->row = row;
    memcpy(j->prefixes, spec->prefixes, sizeof(j->prefixes));
    j->n_prefixes = spec->n_prefixes;
    j->queued_ns = clock_mono_ns();
    fill_row(row, j, spec);
    usage_begin(d->o.usage, row);
    list_push_back(bucket(d, j->id), &j->hash);
    d->n_jobs++;
    job_set_state(j, JOB_QUEUED, NULL);
    list_push_back(&m->queue, &j->link);
    resident_used(m);
    *out = j;
    pool_pump_soon(m); /* sending may fail, and end a job: no callback from in here */
    return ERR_OK;
}

uint64_t job_id(const struct job *j)
{
    return j->id;
}

/* ---- flow control
 * ------------------------------------------------------------------------------------------------
 */

void job_pause(struct job *j)
{
    if (j->paused)
        return;
    j->paused = true;
    if (j->member)
        worker_tell(j->member->worker, REC_PAUSE, j->id);
}

void job_resume(struct job *j)
{
    if (!j->paused)
        return;
    j->paused = false;
    if (j->member)
        worker_tell(j->member->worker, REC_RESUME, j->id);
}

void job_delivered(struct job *j, uint32_t tokens)
{
    if (j->row)
        j->row->delivered_tokens += tokens;
}

/* ---- the end
 * -------------------------------------------------------------------------------------------------------
 */

void job_fill_usage(const struct job *j, struct job_usage *u)
{
    const struct usage_row *r = j->row;
    *u = (struct job_usage){.prompt_tokens = r->prompt_tokens,
                            .cached_tokens = r->cached_tokens,
                            .completion_tokens = r->completion_tokens,
                            .reasoning_tokens = r->reasoning_tokens,
                            .computed_tokens = r->computed_tokens,
                            .failovers = r->failovers,
                            .queue_ns = j->running_ns ? j->running_ns - j->queued_ns : 0,
                            .ttft_ns = j->first_token_ns ? j->first_token_ns - j->queued_ns : 0,
                            .total_ns = clock_mono_ns() - j->queued_ns};
}

static void write_row(struct job *j, enum usage_outcome outcome, const char *cause)
{
    struct usage_row *row = j->row;
    struct job_usage u;
    job_fill_usage(j, &u);
    row->outcome = outcome;
    row->queue_us = (j->running_ns ? u.queue_ns : u.total_ns) / 1000;
    row->ttft_us = u.ttft_ns / 1000;
    row->duration_us = u.total_ns / 1000;
    if (cause)
        snprintf(row->cause, sizeof(row->cause), "%s", cause);
    if (outcome == USAGE_FINISHED) {
        static const char *const names[] = {"stop", "length", "tool_calls", "cancelled"};
        if (j->head.kind != JOB_EMBEDDING) /* its end has no reason */
            snprintf(row->finish, sizeof(row->finish), "%s", names[j->choices[0].reason & 3]);
        double s = (double)u.total_ns / 1e9;
        struct model_entry *m = j->model;
        m->avg_job_s = m->avg_job_s > 0 ? m->avg_job_s * 0.9 + s * 0.1 : s;
    }
    if (j->d->o.on_job_end)
        j->d->o.on_job_end(j->d->o.app, row);
    usage_end(j->d->o.usage, row);
    j->row = NULL;
}

static void bury(struct job *j)
{
    job_set_state(j, JOB_DONE, NULL);
    resident_used(j->model);
    list_remove(&j->hash);
    list_push_back(&j->d->graveyard, &j->link); /* the sink may still be on the C stack */
    j->d->n_jobs--;
}

void job_finish(struct job *j, const struct job_end *end)
{
    struct dispatch *d = j->d;
    struct model_entry *m = j->model;
    if (j->state == JOB_DONE)
        return;
    if (!j->cancelled) {
        j->cancelled = true; /* whatever the sink does now, it is not called again */
        struct job_usage u;
        job_fill_usage(j, &u);
        if (end->message)
            j->sink.on_failed(j->sink.user, end->err, end->param, end->message, &u);
        else
            j->sink.on_finished(j->sink.user, &u);
        write_row(j, end->outcome, end->cause);
    }
    bury(j);
    if (!d->closing)
        pool_pump(m);
}

/* The row is written now, with what is known. A job on board stays there, silent, until the worker
 * confirms the cancellation: only then is its slot free. The worker's own last count may be a step
 * ahead of ours; the tokens of that step were never delivered, and stream.c adds them to the row's
 * computed_tokens no more. */
void job_cancel(struct job *j, const char *cause)
{
    if (j->cancelled || j->state == JOB_DONE)
        return;
    j->cancelled = true;
    write_row(j, USAGE_CANCELLED, cause);
    if (j->member) {
        worker_tell(j->member->worker, REC_CANCEL, j->id);
        return;
    }
    struct model_entry *m = j->model;
    bury(j);
    pool_pump_soon(m);
}

void job_free_dead(struct dispatch *d)
{
    while (!list_empty(&d->graveyard)) {
        struct job *j = list_entry(d->graveyard.next, struct job, link);
        list_remove(&j->link);
        job_free(j);
    }
}
