/* pool.c - which worker gets which job, and what happens to the jobs of a worker that died. */
#include "gateway/dispatch/internal.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/ipc/body.h"
#include <string.h>

/* ---- choosing
 * ----------------------------------------------------------------------------------------------------
 */

static struct affinity *affinity_slot(struct model_entry *m, uint64_t hash)
{
    return &m->affinity[hash & (AFFINITY_ENTRIES - 1)];
}

static bool can_take(const struct member *mb, const struct job *j)
{
    if (!worker_is_up(mb->worker) || (j->probation && mb->suspects))
        return false;
    /* A job of many choices may exceed the slots when the worker is empty; otherwise it could never
     * run. */
    return mb->jobs == 0 || mb->seqs + j->head.n <= mb->model->slots + AHEAD_JOBS;
}

/* Longest known prefix first, unless its worker is much busier than the least loaded one. */
static struct member *choose(struct model_entry *m, const struct job *j)
{
    struct member *least = NULL;
    for (uint32_t i = 0; i < m->n_members; i++) {
        struct member *mb = &m->members[i];
        if (can_take(mb, j) && (!least || mb->seqs < least->seqs))
            least = mb;
    }
    if (!least || m->n_members == 1)
        return least;
    for (uint32_t i = j->n_prefixes; i-- > 0;) {
        const struct affinity *a = affinity_slot(m, j->prefixes[i]);
        if (a->hash != j->prefixes[i] || !a->member_plus_1)
            continue;
        struct member *warm = &m->members[a->member_plus_1 - 1];
        if (can_take(warm, j) && warm->seqs <= least->seqs + AFFINITY_SLACK)
            return warm;
    }
    return least;
}

static void remember(struct model_entry *m, const struct job *j, const struct member *mb)
{
    for (uint32_t i = 0; i < j->n_prefixes; i++)
        *affinity_slot(m, j->prefixes[i]) = (struct affinity){j->prefixes[i], mb->index + 1};
}

/* ---- sending
 * ------------------------------------------------------------------------------------------------------
 */

/* The body as the worker wants it: the dialect's sections, and the tokens already delivered. */
static enum err send_job(struct member *mb, struct job *j)
{
    size_t plain = j->body.n;
    j->next_input = 0; /* an embedding job starts over */
    for (uint32_t c = 0; c < j->head.n; c++)
        if (j->choices[c].n)
            body_replay(&j->body, c, j->choices[c].text_bytes, j->choices[c].tokens,
                        j->choices[c].n);
    enum err e = body_end(&j->body);
    if (e == ERR_OK)
        e = worker_submit(mb->worker, j->id, j->body.p, j->body.n);
    j->body.n = plain;
    j->body.failed = false;
    memcpy(j->body.p, &j->head, sizeof(j->head)); /* the count of sections, too */
    return e;
}

void pool_pump(struct model_entry *m)
{
    if (m->pumping) /* job_finish() below comes back here */
        return;
    m->pumping = true;
    struct link *l = m->queue.next;
    while (l != &m->queue) {
        struct job *j = list_entry(l, struct job, link);
        l = l->next;
        if (!resident_takes(m, j))
            break; /* those that may pass a model that drains stand at the front */
        struct member *mb = choose(m, j);
        if (!mb) {
            if (j->probation)
                continue; /* it waits for a worker without suspects; others may pass */
            break;
        }
        enum err e = send_job(mb, j);
        if (e == ERR_FULL || e == ERR_CLOSED)
            break; /* on_room or on_up comes back here */
        if (e != ERR_OK) {
            job_finish(j, &(struct job_end){
                              .outcome = USAGE_FAILED,
                              .cause = "too_large",
                              .err = e == ERR_RANGE ? ERR_RANGE : ERR_NOMEM,
                              .message = "the request is too large for the worker's memory"});
            l = m->queue.next; /* the sink may have changed the queue */
            continue;
        }
        remember(m, j, mb);
        j->tokens_at_send = job_tokens(j);
        job_set_state(j, JOB_SENT, mb);
        if (j->paused)
            worker_tell(mb->worker, REC_PAUSE, j->id);
    }
    m->pumping = false;
}

void pool_pump_soon(struct model_entry *m)
{
    m->pump_due = true;
}

/* ---- failover
 * ------------------------------------------------------------------------------------------------------
 */

/* All choices were already told as done: only the final count was missing. It is what we counted.
 */
static bool all_done(const struct job *j)
{
    if (j->head.kind == JOB_EMBEDDING)
        return j->admitted && j->n_embedded == j->n_inputs;
    for (uint32_t c = 0; c < j->head.n; c++)
        if (!j->choices[c].done)
            return false;
    return j->admitted;
}

void pool_member_lost(struct member *mb, const char *reason)
{
    struct model_entry *m = mb->model;
    uint32_t max_strikes = m->d->o.max_attempts;
    struct link again, failed;
    list_init(&again);
    list_init(&failed);
    uint32_t suspects = 0;
    bool was_pumping = m->pumping;
    m->pumping = true; /* nothing is sent before all are sorted */

    /* A worker dies of one job at most, and takes the others with it. Who made progress since its
     * last crash is innocent; who did not is suspected, and from the second time on runs without
     * other suspects beside it, so that the next crash tells who it was. */
    for (struct link *l = mb->on_board.next; l != &mb->on_board; l = l->next) {
        struct job *j = list_entry(l, struct job, link);
        j->strikes = job_tokens(j) >= j->tokens_at_send + PROGRESS_TOKENS ? 0 : j->strikes + 1;
        suspects += (uint32_t)j->strikes >= max_strikes;
    }
    while (!list_empty(&mb->on_board)) {
        struct job *j = list_entry(mb->on_board.prev, struct job,
                                   link); /* from the back: order is kept below */
        bool guilty = (uint32_t)j->strikes >= max_strikes && (suspects == 1 || j->probation);
        if (j->cancelled) {
            job_finish(j, &(struct job_end){.outcome = USAGE_CANCELLED});
        } else if (all_done(j)) {
            job_finish(j, &(struct job_end){.outcome = USAGE_FINISHED});
        } else if (guilty) {
            job_finish(j, &(struct job_end){
                              .outcome = USAGE_FAILED,
                              .cause = "worker_lost",
                              .err = ERR_INTERNAL,
                              .message =
                                  "the model's worker died twice while it computed this request; "
                                  "it is not tried again"});
        } else {
            job_set_state(j, JOB_QUEUED, NULL);
            j->probation = (uint32_t)j->strikes >= max_strikes;
            list_push_front(&m->queue, &j->link);
            j->row->failovers++;
            j->computed_before = j->row->computed_tokens;
            m->failovers++;
            log_info("dispatch", "job moved", KV_S("request", j->row->request_id),
                     KV_S("reason", reason), KV_U("tokens", job_tokens(j)),
                     KV_I("strikes", j->strikes));
        }
    }
    m->pumping = was_pumping;
    pool_pump(m);
}

uint32_t pool_retry_after(const struct model_entry *m)
{
    double slots = (double)m->slots * m->n_members;
    double s = (m->avg_job_s > 0 ? m->avg_job_s : 1) * (1 + (double)m->queued / slots);
    return s < 1 ? 1 : s > 60 ? 60 : (uint32_t)(s + 0.999);
}

void pool_sample_totals(struct member *mb)
{
    const struct shm_status *s = worker_status(mb->worker);
    if (!s)
        return;
    uint64_t now[4] = {atomic_load_explicit(&s->prompt_tokens, memory_order_relaxed),
                       atomic_load_explicit(&s->cached_tokens, memory_order_relaxed),
                       atomic_load_explicit(&s->generated_tokens, memory_order_relaxed),
                       atomic_load_explicit(&s->preemptions, memory_order_relaxed)};
    for (int i = 0; i < 4; i++) {
        if (now[i] < mb->last[i]) /* another life: its counters began at 0 */
            mb->last[i] = 0;
        mb->totals[i] += now[i] - mb->last[i];
        mb->last[i] = now[i];
    }
}
