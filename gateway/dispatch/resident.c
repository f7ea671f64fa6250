/* resident.c - which models are in memory.
 *
 *                 a job waits, and there is room            its first worker is up
 *   UNLOADED ──────────────────────────────────▶ LOADING ────────────────────────▶ LOADED
 *     ▲   ▲                                         │                              │    ▲
 *     │   └─ all processes reaped ── UNLOADING ◀────│── no job of it runs ── DRAINING ──┘
 *     │                                             ▼                          nobody waits for
 *     └── backoff over, inspected again ───────── FAILED                       its place any more
 *
 * Without a limit (--max-loaded, --memory-budget, --idle-unload) all models are LOADING from the
 * start and stay; the supervisor restarts what dies. With one:
 *
 * Room: places (max_loaded) and bytes (budget). A model holds both from LOADING on until each of
 * its processes was reaped, so never do two processes share what is meant for one.
 *
 * Order: the model that waits longest comes first, and no later one overtakes it, so that many
 * small models can't starve a large one. It waits since its oldest job came, but not since before
 * it left memory itself: after its turn it queues behind the others.
 *
 * Who leaves: first what has no jobs, least recently used first. If all are busy, then one whose
 * turn is over (turn_ms since it was loaded) as soon as the next has waited for a turn, too: it
 * takes no new jobs, finishes those that it has, and leaves. So a job waits at most for the turns,
 * longest running jobs and load times of the models before it, however much traffic the loaded ones
 * get.
 *
 * A job that lost its worker (failover) still goes to a DRAINING model: its client has half an
 * answer. */
#include "gateway/dispatch/internal.h"

#include "shared/base/checked.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/base/log.h"
#include "shared/base/utf8.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a model needs
 * ------------------------------------------------------------------------------- */

struct need {
    int64_t weight_bytes, kv_bytes, kv_bytes_per_token, context;
    bool runs;
    char refusal[256];
};

static bool read_need(struct str json, struct need *out)
{
    const struct {
        const char *key;
        int64_t *value;
    } numbers[] = {{"weight_bytes", &out->weight_bytes},
                   {"kv_bytes", &out->kv_bytes},
                   {"kv_bytes_per_token", &out->kv_bytes_per_token},
                   {"context", &out->context}};
    struct arena a;
    struct json *root;
    *out = (struct need){0};
    arena_init(&a, 4 << 20);
    bool good = json.n && json_parse(&root, &a, json.p, json.n, NULL, NULL) == ERR_OK;
    for (size_t i = 0; good && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const struct json *v = json_get(root, numbers[i].key);
        if (json_is(v, JSON_INT) && v->i > 0)
            *numbers[i].value = v->i;
    }
    if (good) {
        const struct json *runs = json_get(root, "runs"), *refusal = json_get(root, "refusal");
        out->runs = json_is(runs, JSON_BOOL) && runs->b;
        if (json_is(refusal, JSON_STRING))
            snprintf(out->refusal, sizeof(out->refusal), STR_FMT, STR_ARG(refusal->s));
    }
    arena_fini(&a);
    return good;
}

static uint64_t replicas(const struct model_entry *m)
{
    return m->config->replicas > 0 ? (uint64_t)m->config->replicas : 1;
}

/* Of one worker. The KV cache may be smaller than asked for, but not than one context. */
static enum err need_of(const struct model_entry *m, const struct need *n, uint64_t *out,
                        struct errmsg *why)
{
    uint64_t least, all;
    if (!mul_u64(&least, (uint64_t)n->kv_bytes_per_token, (uint64_t)n->context) ||
        !add_u64(&least, least, (uint64_t)n->weight_bytes) ||
        !add_u64(&all, (uint64_t)n->kv_bytes, (uint64_t)n->weight_bytes))
        return err_set(why, ERR_RANGE, "it needs more memory than there can be");
    if (!m->limit_bytes || all <= m->limit_bytes) {
        *out = all;
        return ERR_OK;
    }
    if (least > m->limit_bytes)
        return err_set(why, ERR_NOMEM,
                       "it needs %.1f MiB for its weights and one context of %lld tokens, and may "
                       "take %.1f: lower its context, or raise its memory or the budget",
                       (double)least / 1048576, (long long)n->context,
                       (double)m->limit_bytes / 1048576);
    *out = m->limit_bytes;
    return ERR_OK;
}

enum err resident_open(struct model_entry *m, struct errmsg *why)
{
    uint64_t limit = m->config->memory_bytes, budget = m->d->o.memory_budget_bytes;
    if (limit && budget && limit > budget)
        return err_set(why, ERR_RANGE,
                       "model " STR_FMT ": its memory is more than the budget of all models",
                       STR_ARG(m->config->name));
    m->limit_bytes = (limit ? limit : budget) / replicas(m);
    m->phase = m->d->managed ? MODEL_UNLOADED : MODEL_LOADING;
    return ERR_OK;
}

/* ---- failing
 * ------------------------------------------------------------------------------------------ */

/* The worker's line without the names of files, for clients: what names the model's file, lies
 * beside it, or begins at the root becomes "the model file". */
static void put_failure(struct model_entry *m, const char *reason)
{
    static const char name[] = "the model file";
    const char *paths[] = {m->config->path, m->config->chat_template, m->d->o.worker_path};
    const char *slash = strrchr(m->config->path, '/');
    size_t dir = slash ? (size_t)(slash - m->config->path) + 1 : 0, n = 0;
    bool at_word = true;
    while (*reason && n + sizeof(name) < sizeof(m->failure)) {
        size_t skip = 0;
        for (size_t i = 0; at_word && i < sizeof(paths) / sizeof(paths[0]); i++) {
            size_t len = paths[i] ? strlen(paths[i]) : 0;
            if (len > skip && strncmp(reason, paths[i], len) == 0 &&
                !isalnum((unsigned char)reason[len]))
                skip = len;
        }
        bool beside = at_word && (*reason == '/' || strncmp(reason, "./", 2) == 0 ||
                                  strncmp(reason, "../", 3) == 0 ||
                                  (dir && strncmp(reason, m->config->path, dir) == 0));
        if (!skip && beside)
            skip = strcspn(reason, " :,;'\"()");
        if (skip) {
            memcpy(m->failure + n, name, sizeof(name) - 1);
            n += sizeof(name) - 1;
            reason += skip;
            at_word = false;
            continue;
        }
        at_word = strchr(" '\"`(=:,", *reason) != NULL;
        m->failure[n++] = *reason++;
    }
    m->failure[n - utf8_incomplete_tail(m->failure, n)] = 0;
}

static void set_phase(struct model_entry *m, enum model_phase phase)
{
    static const char *const names[] = {"unloaded", "loading",   "loaded",
                                        "draining", "unloading", "failed"};
    m->phase = phase;
    if (m->d->managed)
        log_info("dispatch", "model state", KV_S("model", m->config->name.p),
                 KV_S("state", names[phase]), KV_U("queued", m->queued),
                 KV_U("need_mib", m->need_bytes >> 20));
}

static void stop_workers(struct model_entry *m)
{
    m->stopping = m->n_members;
    for (uint32_t i = 0; i < m->n_members; i++) {
        pool_sample_totals(&m->members[i]);
        if (!worker_stop(m->members[i].worker))
            m->stopping--;
    }
}

void resident_failed(struct model_entry *m, const char *reason)
{
    struct dispatch *d = m->d;
    char message[sizeof(m->failure) + 64];
    uint64_t wait_ms = RETRY_FIRST_MS;
    for (uint32_t i = 0; i < m->failures && wait_ms < RETRY_MAX_MS; i++)
        wait_ms *= 2;
    m->failures++;
    m->retry_ns =
        clock_mono_ns() + (wait_ms < RETRY_MAX_MS ? wait_ms : RETRY_MAX_MS) * (uint64_t)1000000;
    if (reason != m->last_error)
        snprintf(m->last_error, sizeof(m->last_error), "%s", reason);
    put_failure(m, m->last_error);
    if (d->managed) {
        log_error("dispatch", "model can't be loaded", KV_S("model", m->config->name.p),
                  KV_S("reason", m->last_error), KV_U("retry_in_ms", wait_ms));
        m->inspected = false;
        stop_workers(m);
    }
    set_phase(m, MODEL_FAILED);
    snprintf(message, sizeof(message), "The model can't be loaded: %s", m->failure);
    model_fail_queue(m, "model_unavailable", ERR_AGAIN, message);
}

bool resident_refuses(const struct model_entry *m, uint32_t *retry_after_s)
{
    uint64_t now = clock_mono_ns();
    if (m->phase != MODEL_FAILED || (m->d->managed && now >= m->retry_ns))
        return false;
    *retry_after_s = now < m->retry_ns ? (uint32_t)((m->retry_ns - now) / 1000000000) + 1 : 1;
    return true;
}

/* ---- inspection
 * --------------------------------------------------------------------------------------- */

static void on_inspected(void *user, struct str json, const char *error)
{
    struct model_entry *m = user;
    struct dispatch *d = m->d;
    struct need n;
    struct errmsg why = {0};
    m->inspection = NULL;
    if (json.n == 0)
        (void)err_set(&why, ERR_INVALID, "%s", error);
    else if (!read_need(json, &n))
        (void)err_set(&why, ERR_PROTOCOL, "its inspection can't be read");
    else if (!n.runs)
        (void)err_set(&why, ERR_UNSUPPORTED, "%s", n.refusal[0] ? n.refusal : "it can't run here");
    else if (need_of(m, &n, &m->need_bytes, &why) == ERR_OK) {
        m->need_bytes *= replicas(m);
        buf_clear(&m->report);
        buf_put(&m->report, json.p, json.n);
        m->inspected = true;
        set_phase(m, MODEL_UNLOADED);
        if (!m->told_ready) {
            m->told_ready = true;
            if (d->o.on_model_state)
                d->o.on_model_state(d->o.app, m->config, NULL);
        }
    }
    if (!m->inspected) {
        m->load_failures++;
        resident_failed(m, why.text);
    }
    resident_turn(d);
}

static void inspect(struct model_entry *m)
{
    static const char *const passed[] = {"--context", "--slots", "--kv-type"};
    struct errmsg why = {0};
    int n = 0;
    m->inspect_argv[n++] = "inspect";
    m->inspect_argv[n++] = m->config->path;
    m->inspect_argv[n++] = "--json";
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
        for (const char **a = m->argv; *a; a++)
            if (strcmp(*a, passed[i]) == 0) {
                m->inspect_argv[n++] = a[0];
                m->inspect_argv[n++] = a[1];
            }
    m->inspect_argv[n] = NULL;
    const struct inspect_spec spec = {.loop = m->d->o.loop,
                                      .program = m->d->o.worker_path,
                                      .argv = m->inspect_argv,
                                      .user = m,
                                      .on_done = on_inspected};
    if (inspect_start(&m->inspection, &spec, &why) != ERR_OK)
        resident_failed(m, why.text);
}

/* One at a time: a list of 64 models is no reason for 64 processes. */
static void inspect_next(struct dispatch *d, uint64_t now)
{
    struct model_entry *next = NULL;
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        if (m->inspection)
            return;
        bool due = m->phase == MODEL_UNLOADED ||
                   (m->phase == MODEL_FAILED && !m->stopping && now >= m->retry_ns);
        if (!m->inspected && due && (!next || (m->queued && !next->queued)))
            next = m;
    }
    if (next)
        inspect(next);
}

/* ---- coming and going
 * ---------------------------------------------------------------------------------- */

static bool holds_room(const struct model_entry *m)
{
    return (m->phase >= MODEL_LOADING && m->phase <= MODEL_UNLOADING) || m->stopping;
}

static bool is_leaving(const struct model_entry *m)
{
    return m->phase == MODEL_DRAINING || m->phase == MODEL_UNLOADING || m->stopping;
}

static bool is_moved(const struct job *j)
{
    return j->row && j->row->failovers;
}

/* Jobs that moved stand at the front. */
static bool has_work_begun(const struct model_entry *m)
{
    return m->running ||
           (!list_empty(&m->queue) && is_moved(list_entry(m->queue.next, struct job, link)));
}

bool resident_takes(const struct model_entry *m, const struct job *j)
{
    return m->phase == MODEL_LOADED || (m->phase == MODEL_DRAINING && is_moved(j));
}

void resident_used(struct model_entry *m)
{
    m->used_ns = clock_mono_ns();
}

static void load(struct model_entry *m)
{
    set_phase(m, MODEL_LOADING);
    m->failed_loads = 0;
    memset(m->affinity, 0, AFFINITY_ENTRIES * sizeof(*m->affinity)); /* its prefixes are gone */
    for (uint32_t i = 0; i < m->n_members; i++)
        worker_start(m->members[i].worker);
}

/* DRAINING, and on to UNLOADING when nothing is left to do. */
static void leave(struct model_entry *m)
{
    if (m->phase == MODEL_LOADED) {
        set_phase(m, MODEL_DRAINING);
        m->left_ns = clock_mono_ns();
    }
    if (m->phase != MODEL_DRAINING || has_work_begun(m))
        return;
    set_phase(m, MODEL_UNLOADING);
    stop_workers(m);
}

void resident_up(struct model_entry *m)
{
    struct need n;
    uint64_t each;
    if (m->phase != MODEL_LOADING && m->phase != MODEL_FAILED)
        return;
    m->loaded_ns = m->used_ns = clock_mono_ns();
    m->loads++;
    m->failures = 0;
    m->failure[0] = 0;
    /* The worker knows better than the estimate. */
    if (read_need((struct str){m->info.p, m->info.n}, &n) &&
        add_u64(&each, (uint64_t)n.weight_bytes, (uint64_t)n.kv_bytes) && each &&
        mul_u64(&each, each, replicas(m)))
        m->need_bytes = each;
    set_phase(m, MODEL_LOADED);
}

void resident_stopped(void *member)
{
    struct member *mb = member;
    struct model_entry *m = mb->model;
    if (m->stopping && --m->stopping)
        return;
    if (m->phase == MODEL_UNLOADING) {
        m->unloads++;
        set_phase(m, MODEL_UNLOADED);
    }
    resident_turn(m->d);
}

/* ---- deciding
 * ----------------------------------------------------------------------------------------- */

static uint64_t waiting_since(const struct model_entry *m)
{
    uint64_t oldest = UINT64_MAX;
    for (const struct link *l = m->queue.next; l != &m->queue; l = l->next) {
        const struct job *j = list_entry(l, const struct job, link);
        if (j->queued_ns < oldest)
            oldest = j->queued_ns;
    }
    return oldest > m->left_ns ? oldest : m->left_ns;
}

static struct model_entry *longest_waiting(struct dispatch *d)
{
    struct model_entry *first = NULL;
    uint64_t since = 0;
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        if (m->phase != MODEL_UNLOADED || !m->inspected || !m->queued)
            continue;
        uint64_t t = waiting_since(m);
        if (!first || t < since) {
            first = m;
            since = t;
        }
    }
    return first;
}

struct room {
    uint32_t places;
    uint64_t bytes;
};

static void room_add(struct room *r, const struct model_entry *m)
{
    r->places++;
    r->bytes += m->need_bytes;
}

/* Does `m` fit beside what `taken` says, less what `leaving` says? */
static bool fits(const struct dispatch *d, const struct room *taken, const struct room *leaving,
                 const struct model_entry *m)
{
    uint32_t places = taken->places - leaving->places;
    uint64_t bytes = taken->bytes - leaving->bytes, budget = d->o.memory_budget_bytes;
    return (!d->o.max_loaded || places < d->o.max_loaded) &&
           (!budget || (bytes <= budget && m->need_bytes <= budget - bytes));
}

static struct model_entry *choose_victim(struct dispatch *d, bool busy, uint64_t now)
{
    struct model_entry *best = NULL;
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        if (m->phase != MODEL_LOADED)
            continue;
        if (!busy && !m->queued && !m->running && (!best || m->used_ns < best->used_ns))
            best = m;
        if (busy && now >= m->loaded_ns + (uint64_t)d->o.turn_ms * 1000000 &&
            (!best || m->loaded_ns < best->loaded_ns))
            best = m;
    }
    return best;
}

/* True: there is room now. Else what should leave has been asked to. */
static bool make_room(struct dispatch *d, const struct model_entry *m, uint64_t now)
{
    struct room taken = {0}, leaving = {0}, none = {0};
    for (size_t i = 0; i < d->n_models; i++) {
        const struct model_entry *other = &d->models[i];
        if (holds_room(other))
            room_add(&taken, other);
        if (is_leaving(other))
            room_add(&leaving, other);
    }
    if (fits(d, &taken, &none, m))
        return true;
    bool patient = now < waiting_since(m) + (uint64_t)d->o.turn_ms * 1000000;
    while (!fits(d, &taken, &leaving, m)) {
        struct model_entry *victim = choose_victim(d, false, now);
        if (!victim && !patient)
            victim = choose_victim(d, true, now);
        if (!victim)
            break;
        room_add(&leaving, victim);
        leave(victim);
    }
    return false;
}

void resident_turn(struct dispatch *d)
{
    uint64_t now = clock_mono_ns();
    if (!d->managed || d->draining || d->closing)
        return;
    inspect_next(d, now);
    struct model_entry *next = longest_waiting(d);
    for (size_t i = 0; i < d->n_models; i++) {
        struct model_entry *m = &d->models[i];
        uint64_t idle_ns = (uint64_t)d->o.idle_unload_ms * 1000000;
        if (m->phase == MODEL_DRAINING && !next) { /* who waited for its place is gone */
            set_phase(m, MODEL_LOADED);
            pool_pump(m);
        } else if (m->phase == MODEL_DRAINING ||
                   (m->phase == MODEL_LOADED && idle_ns && !m->queued && !m->running &&
                    now >= m->used_ns + idle_ns)) {
            leave(m);
        }
    }
    for (; next && make_room(d, next, now); next = longest_waiting(d))
        load(next);
}

/* ---- status
 * ------------------------------------------------------------------------------------------- */

const char *model_state_name(enum model_state s)
{
    static const char *const names[] = {"unloaded", "loading", "loaded", "failed"};
    return names[s];
}

/* After `out->ready` was counted. */
void resident_status(const struct model_entry *m, struct model_status *out)
{
    static const enum model_state states[] = {
        [MODEL_UNLOADED] = MODEL_STATE_UNLOADED, [MODEL_LOADING] = MODEL_STATE_LOADING,
        [MODEL_LOADED] = MODEL_STATE_LOADED,     [MODEL_DRAINING] = MODEL_STATE_LOADED,
        [MODEL_UNLOADING] = MODEL_STATE_LOADED,  [MODEL_FAILED] = MODEL_STATE_FAILED};
    out->state = states[m->phase];
    out->inspect_json = (struct str){m->report.p, m->report.n};
    out->memory_bytes = m->need_bytes;
    out->slots = m->slots;
    out->loads = m->loads;
    out->unloads = m->unloads;
    out->load_failures = m->load_failures;
    out->failure = str_of(m->phase == MODEL_FAILED ? m->failure : "");
    bool waits = m->phase == MODEL_UNLOADED || m->phase == MODEL_LOADING ||
                 m->phase == MODEL_UNLOADING; /* a job would have it loaded */
    out->available = m->d->managed && waits ? m->inspected : out->ready > 0;
}
