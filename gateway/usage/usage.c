#include "gateway/usage/usage.h"

#include "gateway/usage/journal.h"
#include "gateway/usage/store.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    DEFAULT_SLOTS = 16384,
    BATCH_ROWS = 1024,
    GATHER_MS = 5,   /* after the first row, so that a commit serves many */
    RETRY_MS = 1000, /* after a failed commit */
    COMPLAIN_S = 10, /* one log line in so many seconds while it fails */
};

struct usage {
    struct journal journal;
    struct store *store; /* the writer thread's, once it runs */
    int lock_fd;
    pthread_t writer;
    bool has_writer;

    pthread_mutex_t
        mutex; /* guards what follows; held for a few instructions only, never over I/O */
    pthread_cond_t more, done;
    uint32_t *free_slots; /* stack */
    uint32_t n_free;
    uint32_t *ended; /* ring of slots to be committed */
    uint32_t ended_head, n_ended;
    bool closing;
    _Atomic bool healthy;
    _Atomic uint64_t written;
};

/* ---- the writer thread
 * -------------------------------------------------------------------------------------------- */

static enum err write_batch(struct usage *u, const uint32_t *slots, uint32_t n, struct errmsg *why)
{
    enum err e = store_begin(u->store, why);
    for (uint32_t i = 0; i < n && e == ERR_OK; i++)
        e = store_put(u->store, &u->journal.slots[slots[i]].row, why);
    if (e == ERR_OK)
        e = store_commit(u->store, why);
    if (e != ERR_OK)
        store_rollback(u->store);
    return e;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void *writer_main(void *arg)
{
    struct usage *u = arg;
    static const uint32_t capacity = BATCH_ROWS;
    uint32_t batch[BATCH_ROWS];
    uint64_t complained_ms = 0;
    pthread_mutex_lock(&u->mutex);
    for (;;) {
        while (!u->n_ended && !u->closing)
            pthread_cond_wait(&u->more, &u->mutex);
        if (!u->n_ended)
            break;
        bool hurry = u->closing || u->n_ended >= capacity;
        pthread_mutex_unlock(&u->mutex);
        if (!hurry)
            sleep_ms(GATHER_MS);
        pthread_mutex_lock(&u->mutex);
        uint32_t n = u->n_ended < capacity ? u->n_ended : capacity;
        for (uint32_t i = 0; i < n; i++)
            batch[i] = u->ended[(u->ended_head + i) % u->journal.n];
        pthread_mutex_unlock(&u->mutex);

        struct errmsg why = {0};
        enum err e = write_batch(u, batch, n, &why);

        bool gave_up = false;
        if (e != ERR_OK) {
            uint64_t now = clock_mono_ms();
            if (!complained_ms || now - complained_ms > COMPLAIN_S * 1000) {
                complained_ms = now;
                log_error("usage",
                          "rows not committed; they stay in the journal and are tried again",
                          KV_S("reason", why.text), KV_U("waiting", usage_pending(u)));
            }
        }
        pthread_mutex_lock(&u->mutex);
        u->healthy = e == ERR_OK;
        if (e == ERR_OK) {
            complained_ms = 0;
            for (uint32_t i = 0; i < n; i++) {
                atomic_store_explicit(&u->journal.slots[batch[i]].state, SLOT_FREE,
                                      memory_order_release);
                u->free_slots[u->n_free++] = batch[i];
            }
            u->ended_head = (u->ended_head + n) % u->journal.n;
            u->n_ended -= n;
            u->written += n;
            pthread_cond_broadcast(&u->done);
        } else if (u->closing) {
            gave_up = true; /* the slots stay ENDED: the next start writes them */
        } else {
            pthread_mutex_unlock(&u->mutex);
            sleep_ms(RETRY_MS);
            pthread_mutex_lock(&u->mutex);
        }
        if (gave_up)
            break;
    }
    pthread_mutex_unlock(&u->mutex);
    return NULL;
}

/* ---- opening
 * -------------------------------------------------------------------------------------------------------
 */

/* Rows of the process before us. In one transaction, then the slots are freed: dying in between
 * repeats it, and rows with known ids are left alone. */
static enum err recover(struct usage *u, uint32_t *recovered, struct errmsg *why)
{
    uint32_t found = 0;
    enum err e = store_begin(u->store, why);
    for (uint32_t i = 0; i < u->journal.n && e == ERR_OK; i++) {
        struct slot *s = &u->journal.slots[i];
        uint32_t state = atomic_load_explicit(&s->state, memory_order_acquire);
        if (state != SLOT_LIVE && state != SLOT_ENDED)
            continue;
        struct usage_row row = s->row;
        if (state == SLOT_LIVE) {
            row.outcome = USAGE_INTERRUPTED;
            snprintf(row.cause, sizeof(row.cause), "gateway_killed");
            int64_t ran_ms =
                clock_wall_ms() - row.created_ms; /* an upper bound: when it ended nobody knows */
            row.duration_us = ran_ms > 0 ? (uint64_t)ran_ms * 1000 : 0;
        }
        e = store_put(u->store, &row, why);
        found++;
    }
    if (e == ERR_OK)
        e = store_commit(u->store, why);
    if (e != ERR_OK) {
        store_rollback(u->store);
        return e;
    }
    for (uint32_t i = 0; i < u->journal.n; i++)
        atomic_store_explicit(&u->journal.slots[i].state, SLOT_FREE, memory_order_release);
    *recovered = found;
    return ERR_OK;
}

static enum err take_lock(struct usage *u, const char *dir, struct errmsg *why)
{
    char path[4096];
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_set(why, ERR_IO, "%s: cannot create the data directory: %s", dir,
                       strerror(errno));
    if (snprintf(path, sizeof(path), "%s/lock", dir) >= (int)sizeof(path))
        return err_set(why, ERR_RANGE, "%s: the path is too long", dir);
    u->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (u->lock_fd < 0)
        return err_set(why, ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(u->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(
            why, ERR_EXISTS,
            "%s: another millrace uses this data directory; give each its own with --data", dir);
    return ERR_OK;
}

enum err usage_open(struct usage **out, const struct usage_options *o, uint32_t *recovered,
                    struct errmsg *why)
{
    struct usage *u = calloc(1, sizeof(*u));
    if (!u)
        return err_set(why, ERR_NOMEM, "out of memory");
    u->lock_fd = -1;
    u->journal.fd = -1;
    pthread_mutex_init(&u->mutex, NULL);
    pthread_cond_init(&u->more, NULL);
    pthread_cond_init(&u->done, NULL);
    char path[4200];
    enum err e = take_lock(u, o->data_dir, why);
    if (e == ERR_OK) {
        snprintf(path, sizeof(path), "%s/usage.db", o->data_dir);
        e = store_open(&u->store, path, why);
    }
    if (e == ERR_OK) {
        snprintf(path, sizeof(path), "%s/usage.journal", o->data_dir);
        e = journal_open(&u->journal, path, o->max_jobs ? o->max_jobs : DEFAULT_SLOTS, why);
    }
    if (e == ERR_OK)
        e = recover(u, recovered, why);
    if (e == ERR_OK) {
        u->free_slots = calloc(u->journal.n, sizeof(*u->free_slots));
        u->ended = calloc(u->journal.n, sizeof(*u->ended));
        if (!u->free_slots || !u->ended)
            e = err_set(why, ERR_NOMEM, "out of memory");
    }
    if (e != ERR_OK) {
        usage_close(u);
        return e;
    }
    for (uint32_t i = 0; i < u->journal.n; i++) /* the lowest on top: few pages are touched */
        u->free_slots[i] = u->journal.n - 1 - i;
    u->n_free = u->journal.n;
    u->healthy = true;
    if (pthread_create(&u->writer, NULL, writer_main, u) != 0) {
        usage_close(u);
        return err_set(why, ERR_NOMEM, "cannot start the usage writer's thread");
    }
    u->has_writer = true;
    *out = u;
    return ERR_OK;
}

void usage_close(struct usage *u)
{
    if (!u)
        return;
    if (u->has_writer) {
        pthread_mutex_lock(&u->mutex);
        u->closing = true;
        pthread_cond_signal(&u->more);
        pthread_mutex_unlock(&u->mutex);
        pthread_join(u->writer, NULL);
    }
    store_close(u->store);
    journal_close(&u->journal);
    if (u->lock_fd >= 0)
        close(u->lock_fd);
    pthread_cond_destroy(&u->done);
    pthread_cond_destroy(&u->more);
    pthread_mutex_destroy(&u->mutex);
    free(u->free_slots);
    free(u->ended);
    free(u);
}

/* ---- the loop's side
 * --------------------------------------------------------------------------------------------------
 */

static struct slot *slot_of(struct usage_row *row)
{
    return (struct slot *)((char *)row - offsetof(struct slot, row));
}

struct usage_row *usage_take(struct usage *u)
{
    pthread_mutex_lock(&u->mutex);
    uint32_t i = u->n_free ? u->free_slots[--u->n_free] : UINT32_MAX;
    pthread_mutex_unlock(&u->mutex);
    if (i == UINT32_MAX)
        return NULL;
    struct slot *s = &u->journal.slots[i];
    memset(&s->row, 0, sizeof(s->row));
    atomic_store_explicit(&s->state, SLOT_TAKEN, memory_order_release);
    return &s->row;
}

void usage_begin(struct usage *u, struct usage_row *row)
{
    (void)u;
    atomic_store_explicit(&slot_of(row)->state, SLOT_LIVE, memory_order_release);
}

void usage_abandon(struct usage *u, struct usage_row *row)
{
    struct slot *s = slot_of(row);
    atomic_store_explicit(&s->state, SLOT_FREE, memory_order_release);
    pthread_mutex_lock(&u->mutex);
    u->free_slots[u->n_free++] = (uint32_t)(s - u->journal.slots);
    pthread_mutex_unlock(&u->mutex);
}

void usage_end(struct usage *u, struct usage_row *row)
{
    struct slot *s = slot_of(row);
    atomic_store_explicit(&s->state, SLOT_ENDED, memory_order_release);
    pthread_mutex_lock(&u->mutex);
    u->ended[(u->ended_head + u->n_ended++) % u->journal.n] = (uint32_t)(s - u->journal.slots);
    if (u->n_ended == 1)
        pthread_cond_signal(&u->more);
    pthread_mutex_unlock(&u->mutex);
}

bool usage_healthy(const struct usage *u)
{
    return u->healthy;
}

uint64_t usage_pending(const struct usage *u)
{
    struct usage *m =
        (struct usage *)(uintptr_t)u; /* the mutex is not part of what const promises */
    pthread_mutex_lock(&m->mutex);
    uint64_t n = m->n_ended;
    pthread_mutex_unlock(&m->mutex);
    return n;
}

uint64_t usage_written(const struct usage *u)
{
    return u->written;
}

void usage_flush(struct usage *u, uint32_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&u->mutex);
    while (u->n_ended && pthread_cond_timedwait(&u->done, &u->mutex, &until) == 0)
        ;
    pthread_mutex_unlock(&u->mutex);
}

void usage_default_dir(char *out, size_t size)
{
    const char *own = getenv("MILLRACE_DATA"), *state = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME");
    if (own && *own)
        snprintf(out, size, "%s", own);
    else if (state && *state)
        snprintf(out, size, "%s/millrace", state);
    else if (home && *home)
        snprintf(out, size, "%s/.local/state/millrace", home);
    else
        snprintf(out, size, "millrace-data");
}
