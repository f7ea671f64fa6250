#include "gateway/supervise/worker.h"

#include "gateway/supervise/extents.h"
#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/ipc/shm.h"
#include "shared/ipc/wake.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUBMIT_RING_BYTES = 64 << 10,
    EVENT_RING_BYTES = 1 << 20,
    RECORDS_PER_WAKE =
        512, /* then other handles get their turn; the rest follows in the same loop iteration */
    WATCH_INTERVAL_MS = 200, /* state changes and stalls are seen this fast */
    START_LIMIT_MS = 30000,  /* from spawn to the first sign of life (attached and loading) */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 10000,
    GOOD_LIFE_MS = 60000, /* a worker that lived so long restarts at once */
};

enum worker_phase {
    WORKER_PARKED,
    WORKER_DOWN,
    WORKER_SPAWNED,
    WORKER_UP,
    WORKER_LEAVING,
    WORKER_CLOSED
};

struct told { /* a CANCEL/PAUSE/RESUME/DRAIN that found the ring full */
    uint32_t type;
    uint64_t job;
};

/* What belongs to one process and dies with it: a fresh one per spawn. */
struct life {
    uv_process_t process;
    uv_poll_t news_poll;
    uv_idle_t again; /* more records than RECORDS_PER_WAKE: look again without sleeping */
    int open_handles;
    struct worker *w; /* NULL once the worker has let go of it */
    struct shm shm;
    int work_fd, news_fd;
    struct ring_writer submit;
    struct ring_reader events;
    struct extents extents;
    uint64_t spawned_ms;
    bool has_process, exited;
    char reason[PROTO_MAX_MESSAGE_BYTES +
                64]; /* FATAL's line, or why it was killed; empty: see the exit status */
};

struct worker {
    struct worker_spec spec;
    char name[96];
    enum worker_phase phase;
    struct life *life; /* owned until on_lost; NULL when down */
    uv_timer_t watch;  /* stall and state watch */
    uv_timer_t backoff;
    int open_handles, lives; /* lives: of this worker whose handles are not closed yet */
    uint64_t restarts, epoch;
    uint32_t backoff_ms;
    bool busy, wants_room, refused;
    bool spawn_due; /* as soon as the life before is gone, its memory with it */
    uint64_t busy_since_ms;
    struct buf told; /* struct told[] */
    void (*on_closed)(void *user);
    void *closed_user;
};

static void worker_spawn(struct worker *w);
static void life_look(struct life *l);

static void maybe_closed(struct worker *w)
{
    if (w->phase != WORKER_CLOSED || w->open_handles || w->lives)
        return;
    if (w->on_closed)
        w->on_closed(w->closed_user);
    buf_fini(&w->told);
    free(w);
}

static void maybe_stopped(struct worker *w)
{
    if (w->phase != WORKER_LEAVING || w->lives)
        return;
    w->phase = WORKER_PARKED;
    uv_timer_stop(&w->backoff);
    if (w->spec.on_stopped)
        w->spec.on_stopped(w->spec.user);
}

/* ---- the end of a life
 * ------------------------------------------------------------------------------------- */

static void on_life_handle_closed(uv_handle_t *h)
{
    struct life *l = h->data;
    if (--l->open_handles)
        return;
    struct worker *w = l->w;
    ring_reader_close(&l->events);
    shm_close(&l->shm);
    wake_close(&l->work_fd);
    wake_close(&l->news_fd);
    extents_fini(&l->extents);
    free(l);
    w->lives--;
    if (w->spawn_due && !w->lives && w->phase == WORKER_DOWN)
        worker_spawn(w);
    maybe_stopped(w);
    maybe_closed(w);
}

/* Closes what is open of a life. The process handle closes only after the exit was seen, so that no
 * zombie stays. */
static void life_close_handles(struct life *l)
{
    if (!uv_is_closing((uv_handle_t *)&l->news_poll)) {
        uv_close((uv_handle_t *)&l->news_poll, on_life_handle_closed);
        uv_close((uv_handle_t *)&l->again, on_life_handle_closed);
    }
    if ((!l->has_process || l->exited) && !uv_is_closing((uv_handle_t *)&l->process))
        uv_close((uv_handle_t *)&l->process, on_life_handle_closed);
}

static void life_kill(struct life *l)
{
    if (l->has_process && !l->exited && l->process.pid > 0) {
        kill(-l->process.pid, SIGKILL); /* the group: helpers of the worker, too */
        kill(l->process.pid, SIGKILL);  /* in case it died before setsid */
    }
}

static void worker_lose(struct worker *w, const char *reason);

static void on_backoff(uv_timer_t *t)
{
    struct worker *w = t->data;
    if (w->phase != WORKER_LEAVING && w->lives)
        w->spawn_due = true;
    else if (w->phase != WORKER_LEAVING)
        worker_spawn(w);
    else if (w->life)
        worker_lose(w, "did not end when asked to");
    else
        maybe_stopped(w);
}

/* The worker is lost: whoever noticed first calls this, once per life. */
static void worker_lose(struct worker *w, const char *reason)
{
    struct life *l = w->life;
    bool was_up = w->phase == WORKER_UP;
    char why[sizeof(l->reason)];
    snprintf(why, sizeof(why), "%s", l->reason[0] ? l->reason : reason);

    uint64_t lived_ms = clock_mono_ms() - l->spawned_ms;
    life_kill(l);
    w->life = NULL;
    life_close_handles(l);
    buf_clear(&w->told);
    w->wants_room = w->busy = false;
    if (w->phase == WORKER_CLOSED)
        return;
    if (w->phase == WORKER_LEAVING) { /* on_stopped follows with the last handle */
        log_info("supervise", "worker stopped", KV_S("worker", w->name), KV_S("reason", why),
                 KV_U("lived_ms", lived_ms));
        return;
    }
    w->phase = WORKER_DOWN;
    w->refused = l->reason[0] != 0;
    if (was_up && lived_ms >= GOOD_LIFE_MS)
        w->backoff_ms = 0;
    uint32_t delay = w->backoff_ms;
    w->backoff_ms =
        delay ? (delay * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : delay * 2) : BACKOFF_FIRST_MS;
    log_warn("supervise", "worker lost", KV_S("worker", w->name), KV_S("reason", why),
             KV_U("lived_ms", lived_ms), KV_U("restart_in_ms", delay));
    w->restarts++;
    uv_timer_start(&w->backoff, on_backoff, delay, 0);
    w->spec.on_lost(w->spec.user, was_up, why);
}

static void on_exit_seen(uv_process_t *p, int64_t status, int sig)
{
    struct life *l = (struct life *)p->data;
    l->exited = true;
    if (l->w->life != l) { /* lost before: only the handle was waiting */
        life_close_handles(l);
        return;
    }
    life_look(l); /* what it published before it died still counts */
    if (l->w->life != l)
        return;
    char why[64];
    if (sig)
        snprintf(why, sizeof(why), "killed by signal %d (%s)", sig, strsignal(sig));
    else
        snprintf(why, sizeof(why), "exited with status %d", (int)status);
    worker_lose(l->w, why);
}

void worker_kill(struct worker *w, const char *reason)
{
    if (w->life)
        worker_lose(w, reason);
}

/* ---- records
 * -------------------------------------------------------------------------------------------------
 */

/* False: the worker was lost meanwhile. */
static bool handle_record(struct worker *w, struct life *l, const struct ring_record *rec)
{
    if (rec->type == REC_FATAL) {
        struct rec_text t;
        if (rec->n < sizeof(t))
            return worker_lose(w, "broke the protocol: short FATAL record"), false;
        memcpy(&t, rec->payload, sizeof(t));
        size_t n = rec->n - sizeof(t) < t.bytes ? rec->n - sizeof(t) : t.bytes;
        if (n > PROTO_MAX_MESSAGE_BYTES)
            n = PROTO_MAX_MESSAGE_BYTES;
        snprintf(l->reason, sizeof(l->reason), "%.*s", (int)n,
                 (const char *)rec->payload + sizeof(t));
        return true;
    }
    if (rec->type == REC_TAKEN) {
        struct rec_taken t;
        if (rec->n != sizeof(t))
            return worker_lose(w, "broke the protocol: TAKEN of a wrong size"), false;
        memcpy(&t, rec->payload, sizeof(t));
        if (!extents_give(&l->extents, t.offset))
            return worker_lose(w,
                               "broke the protocol: it gave back an extent that it does not have"),
                   false;
        if (w->wants_room) {
            w->wants_room = false;
            w->spec.on_room(w->spec.user);
        }
        return w->life == l;
    }
    w->spec.on_record(w->spec.user, rec);
    return w->life == l;
}

static void flush_told(struct worker *w)
{
    struct life *l = w->life;
    size_t done = 0;
    while (done < w->told.n) {
        struct told t;
        memcpy(&t, w->told.p + done, sizeof(t));
        struct rec_empty zero = {0};
        if (ring_write(&l->submit, (uint16_t)t.type, 0, t.job, &zero, sizeof(zero)) != ERR_OK)
            break;
        done += sizeof(t);
    }
    if (done) {
        buf_drop_front(&w->told, done);
        if (ring_reader_needs_wake(&l->submit))
            wake_send(l->work_fd);
    }
    /* Asks for a wake-up when there is room; true means that there still is none. */
    if (w->told.n && !ring_writer_arm(&l->submit, sizeof(struct rec_empty)))
        flush_told(w);
}

static void check_up(struct worker *w)
{
    if (w->phase != WORKER_SPAWNED)
        return;
    uint32_t state = atomic_load_explicit(&w->life->shm.status->state, memory_order_acquire);
    if (state != WORKER_READY)
        return;
    w->phase = WORKER_UP;
    log_info("supervise", "worker ready", KV_S("worker", w->name), KV_I("pid", worker_pid(w)),
             KV_U("load_ms", clock_mono_ms() - w->life->spawned_ms));
    w->spec.on_up(w->spec.user);
}

static void on_again(uv_idle_t *idle)
{
    life_look(idle->data);
}

static void life_look(struct life *l)
{
    struct worker *w = l->w;
    struct ring_record rec;
    enum err e = ERR_OK;
    for (int i = 0; i < RECORDS_PER_WAKE; i++) {
        e = ring_read(&l->events, &rec);
        if (e != ERR_OK)
            break;
        if (!handle_record(w, l, &rec))
            return;
    }
    if (ring_writer_needs_wake(&l->events))
        wake_send(l->work_fd);
    if (e == ERR_PROTOCOL) {
        worker_lose(w, "broke the protocol: its event ring is corrupt");
        return;
    }
    if (w->told.n)
        flush_told(w);
    check_up(w);
    if (w->life != l)
        return;
    bool more = e == ERR_OK || !ring_reader_arm(&l->events);
    if (more && !uv_is_active((uv_handle_t *)&l->again))
        uv_idle_start(&l->again, on_again);
    else if (!more)
        uv_idle_stop(&l->again);
}

static void on_news(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct life *l = poll->data;
    if (status < 0)
        return;
    wake_clear(l->news_fd);
    life_look(l);
}

/* ---- watching
 * --------------------------------------------------------------------------------------------------
 */

static void on_watch(uv_timer_t *t)
{
    struct worker *w = t->data;
    struct life *l = w->life;
    if (!l)
        return;
    life_look(l);
    if (w->life != l)
        return;
    uint64_t now_ns = clock_mono_ns();
    if (w->phase == WORKER_SPAWNED) {
        uint32_t state = atomic_load_explicit(&l->shm.status->state, memory_order_acquire);
        if (state == WORKER_STARTING && now_ns / 1000000 - l->spawned_ms > START_LIMIT_MS)
            worker_lose(w, "gave no sign of life after its start");
        return;
    }
    if (!w->busy)
        return;
    /* The later of "was given work" and "stepped": a worker that wakes up gets its whole time. */
    uint64_t last_ms =
        atomic_load_explicit(&l->shm.status->last_step_ns, memory_order_relaxed) / 1000000;
    if (last_ms < w->busy_since_ms)
        last_ms = w->busy_since_ms;
    if (now_ns / 1000000 > last_ms + w->spec.stall_ms)
        worker_lose(w, "stalled: it holds jobs and makes no step");
}

void worker_set_busy(struct worker *w, bool busy)
{
    if (busy && !w->busy)
        w->busy_since_ms = clock_mono_ms();
    w->busy = busy;
}

bool worker_refused(const struct worker *w)
{
    return w->refused;
}

bool worker_is_up(const struct worker *w)
{
    return w->phase == WORKER_UP;
}

bool worker_stepped_within(const struct worker *w, uint32_t ms)
{
    if (w->phase != WORKER_UP)
        return false;
    uint64_t last =
        atomic_load_explicit(&w->life->shm.status->last_step_ns, memory_order_relaxed) / 1000000;
    return clock_mono_ms() <= last + ms;
}

int worker_pid(const struct worker *w)
{
    return w->life && w->life->has_process ? w->life->process.pid : 0;
}

uint64_t worker_restarts(const struct worker *w)
{
    return w->restarts;
}

const struct shm_status *worker_status(const struct worker *w)
{
    return w->life ? w->life->shm.status : NULL;
}

/* ---- to the worker
 * --------------------------------------------------------------------------------------------- */

enum err worker_submit(struct worker *w, uint64_t job, const void *body, size_t n)
{
    if (w->phase != WORKER_UP)
        return ERR_CLOSED;
    struct life *l = w->life;
    struct rec_submit rec = {.bytes = n};
    enum err e = extents_take(&l->extents, rec.bytes, job, &rec.offset);
    if (e != ERR_OK) {
        w->wants_room |= e == ERR_FULL;
        return e;
    }
    memcpy(shm_extent(&l->shm, rec.offset, rec.bytes), body, n);
    /* What is told later must not overtake: while told is not empty the ring counts as full. */
    e = w->told.n ? ERR_FULL : ring_write(&l->submit, REC_SUBMIT, 0, job, &rec, sizeof(rec));
    if (e != ERR_OK) {
        extents_give(&l->extents, rec.offset);
        w->wants_room = true;
        return ERR_FULL;
    }
    if (ring_reader_needs_wake(&l->submit))
        wake_send(l->work_fd);
    return ERR_OK;
}

void worker_tell(struct worker *w, enum rec_type type, uint64_t job)
{
    if (!w->life)
        return;
    struct told t = {.type = type, .job = job};
    buf_put(&w->told, &t, sizeof(t));
    if (w->told.failed) {
        worker_lose(w, "out of memory while it did not read its ring");
        return;
    }
    flush_told(w);
}

/* ---- spawning
 * ----------------------------------------------------------------------------------------------------
 */

static enum err life_spawn(struct worker *w, struct life *l, struct errmsg *why)
{
    char fds[3][16];
    const char *argv[80];
    int n = 0;
    argv[n++] = w->spec.program;
    for (const char *const *a = w->spec.argv; *a && n < 70; a++)
        argv[n++] = *a;
    static const char *const names[3] = {"--shm-fd", "--work-fd", "--news-fd"};
    for (int i = 0; i < 3; i++) {
        snprintf(fds[i], sizeof(fds[i]), "%d", 3 + i);
        argv[n++] = names[i];
        argv[n++] = fds[i];
    }
    char parent[16]; /* so that a worker started in the moment of our death can tell */
    snprintf(parent, sizeof(parent), "%d", (int)getpid());
    argv[n++] = "--parent-pid";
    argv[n++] = parent;
    argv[n] = NULL;

    uv_stdio_container_t stdio[6] = {{.flags = UV_IGNORE},
                                     {.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2},
                                     {.flags = UV_INHERIT_FD, .data.fd = l->shm.fd},
                                     {.flags = UV_INHERIT_FD, .data.fd = l->work_fd},
                                     {.flags = UV_INHERIT_FD, .data.fd = l->news_fd}};
    uv_process_options_t o = {
        .exit_cb = on_exit_seen,
        .file = w->spec.program,
        .args = (char **)(uintptr_t)argv, /* libuv does not write to it */
        .flags = UV_PROCESS_DETACHED,     /* its own process group, to be killed as one */
        .stdio_count = 6,
        .stdio = stdio};
    int rc = uv_spawn(w->spec.loop, &l->process, &o);
    l->has_process = rc == 0;
    if (rc)
        return err_set(why, ERR_IO, "%s: cannot start: %s", w->spec.program, uv_strerror(rc));
    return ERR_OK;
}

static enum err life_open(struct worker *w, struct errmsg *why)
{
    struct life *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(why, ERR_NOMEM, "out of memory");
    l->w = w;
    l->shm.fd = l->work_fd = l->news_fd = -1;
    l->spawned_ms = clock_mono_ms();
    struct shm_spec spec = {.build_id = shm_build_id(),
                            .epoch = ++w->epoch,
                            .submit_bytes = SUBMIT_RING_BYTES,
                            .event_bytes = EVENT_RING_BYTES,
                            .payload_bytes = w->spec.payload_bytes};
    enum err e = shm_create(&l->shm, &spec, why);
    if (e == ERR_OK && (e = wake_open(&l->work_fd)) != ERR_OK)
        err_set(why, e, "cannot create an eventfd; raise the limit of open files");
    if (e == ERR_OK && (e = wake_open(&l->news_fd)) != ERR_OK)
        err_set(why, e, "cannot create an eventfd; raise the limit of open files");
    if (e == ERR_OK)
        e = ring_writer_open(&l->submit, l->shm.submit, l->shm.head.submit_bytes);
    if (e == ERR_OK)
        e = ring_reader_open(&l->events, l->shm.events, l->shm.head.event_bytes);
    if (e != ERR_OK) {
        ring_reader_close(&l->events);
        shm_close(&l->shm);
        wake_close(&l->work_fd);
        wake_close(&l->news_fd);
        free(l);
        return e;
    }
    extents_init(&l->extents, l->shm.head.payload_bytes);

    /* From here on the handles own the life: it is freed when the last is closed. */
    l->process.data = l->news_poll.data = l->again.data = l;
    uv_poll_init(w->spec.loop, &l->news_poll, l->news_fd);
    uv_idle_init(w->spec.loop, &l->again);
    l->open_handles = 3;
    w->lives++;
    e = life_spawn(w, l, why); /* also a failed uv_spawn() leaves a handle that wants uv_close() */
    if (e != ERR_OK) {
        life_close_handles(l);
        return e;
    }
    w->life = l;
    w->phase = WORKER_SPAWNED;
    ring_reader_arm(&l->events);
    uv_poll_start(&l->news_poll, UV_READABLE, on_news);
    return ERR_OK;
}

static void worker_spawn(struct worker *w)
{
    struct errmsg why = {0};
    w->spawn_due = false;
    if (life_open(w, &why) == ERR_OK)
        return;
    log_error("supervise", "worker not started", KV_S("worker", w->name), KV_S("reason", why.text));
    w->backoff_ms = w->backoff_ms
                        ? (w->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : w->backoff_ms * 2)
                        : BACKOFF_FIRST_MS;
    uv_timer_start(&w->backoff, on_backoff, w->backoff_ms, 0);
    w->spec.on_lost(w->spec.user, false, why.text);
}

enum err worker_open(struct worker **out, const struct worker_spec *spec, struct errmsg *why)
{
    struct worker *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(why, ERR_NOMEM, "out of memory");
    w->spec = *spec;
    snprintf(w->name, sizeof(w->name), "%s", spec->name);
    buf_init(&w->told);
    enum err e = spec->parked ? ERR_OK : life_open(w, why);
    if (e != ERR_OK && !w->lives) {
        buf_fini(&w->told);
        free(w);
        return e;
    }
    uv_timer_init(spec->loop, &w->watch);
    uv_timer_init(spec->loop, &w->backoff);
    w->open_handles = 2;
    w->watch.data = w->backoff.data = w;
    uv_timer_start(&w->watch, on_watch, WATCH_INTERVAL_MS, WATCH_INTERVAL_MS);
    if (e != ERR_OK) { /* the program can't be started at all: the caller gives up */
        worker_close(w, NULL, NULL);
        return e;
    }
    *out = w;
    return ERR_OK;
}

void worker_start(struct worker *w)
{
    if (w->phase != WORKER_PARKED)
        return;
    w->phase = WORKER_DOWN;
    w->refused = false;
    w->backoff_ms = 0;
    uv_timer_start(&w->backoff, on_backoff, 0, 0);
}

bool worker_stop(struct worker *w)
{
    if (w->phase == WORKER_PARKED || w->phase == WORKER_LEAVING || w->phase == WORKER_CLOSED)
        return w->phase == WORKER_LEAVING;
    bool up = w->phase == WORKER_UP;
    w->phase = WORKER_LEAVING;
    uv_timer_stop(&w->backoff);
    if (w->life && !up) /* it loads: it reads its ring only when that is done */
        worker_lose(w, "stopped while it loaded");
    else if (w->life)
        worker_tell(w, REC_DRAIN, 0);
    /* The limit of an orderly end; or, with nothing left to wait for, the next turn of the loop. */
    uv_timer_start(&w->backoff, on_backoff, w->life || w->lives ? w->spec.stall_ms : 0, 0);
    return true;
}

static void on_worker_handle_closed(uv_handle_t *h)
{
    struct worker *w = h->data;
    w->open_handles--;
    maybe_closed(w);
}

void worker_close(struct worker *w, void (*on_closed)(void *user), void *user)
{
    w->phase = WORKER_CLOSED;
    w->on_closed = on_closed;
    w->closed_user = user;
    if (w->life)
        worker_lose(w, "closed");
    uv_close((uv_handle_t *)&w->watch, on_worker_handle_closed);
    uv_close((uv_handle_t *)&w->backoff, on_worker_handle_closed);
}
