#include "gateway/usage/store.h"

#include "gateway/usage/schema.h"
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { BUSY_MS = 2000 };

/* The statements of this file, one table: store_open() prepares them all, so that a typo fails at
 * start. */
enum statement { ST_BEGIN, ST_COMMIT, ST_ROLLBACK, ST_PUT, ST_COUNT };
// clang-format off
static const char *const statements[ST_COUNT] = {
    [ST_BEGIN]    = "BEGIN IMMEDIATE",
    [ST_COMMIT]   = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_PUT]      = "INSERT INTO jobs (id, request_id, key_id, end_user, model, dialect, created_ms, outcome, cause, finish,"
                    " choices, prompt_tokens, cached_tokens, completion_tokens, delivered_tokens, reasoning_tokens,"
                    " computed_tokens, failovers, queue_us, ttft_us, duration_us)"
                    " VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21)"
                    " ON CONFLICT (id) DO NOTHING",
};
// clang-format on

struct store {
    sqlite3 *db;
    sqlite3_stmt *st[ST_COUNT];
};

const char *usage_outcome_name(enum usage_outcome o)
{
    static const char *const names[] = {"finished", "cancelled", "failed", "interrupted"};
    return (unsigned)o < 4 ? names[o] : "failed";
}

static enum err fault(struct store *s, struct errmsg *why, const char *doing)
{
    return err_set(why, ERR_IO, "usage store: %s: %s", doing, sqlite3_errmsg(s->db));
}

enum err store_open(struct store **out, const char *path, struct errmsg *why)
{
    struct store *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(why, ERR_NOMEM, "out of memory");
    enum err e = ERR_OK;
    if (sqlite3_open_v2(path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        e = err_set(why, ERR_IO, "%s: cannot open: %s", path,
                    s->db ? sqlite3_errmsg(s->db) : "out of memory");
        goto fail;
    }
    sqlite3_busy_timeout(s->db, BUSY_MS);
    sqlite3_extended_result_codes(s->db, 1);
    /* NORMAL in WAL mode: a killed process loses nothing; a power cut may lose the last commits
     * (never corrupts). */
    if (sqlite3_exec(s->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;", NULL, NULL,
                     NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, usage_schema_sql, NULL, NULL, NULL) != SQLITE_OK) {
        e = err_set(why, ERR_IO, "%s: cannot set up: %s", path, sqlite3_errmsg(s->db));
        goto fail;
    }
    for (int i = 0; i < ST_COUNT; i++) {
        if (sqlite3_prepare_v3(s->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i],
                               NULL) != SQLITE_OK) {
            e = err_set(why, ERR_IO, "%s: not a usage store of this version: %s", path,
                        sqlite3_errmsg(s->db));
            goto fail;
        }
    }
    *out = s;
    return ERR_OK;
fail:
    store_close(s);
    return e;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(s->st[i]);
    sqlite3_close(s->db);
    free(s);
}

static int step(struct store *s, enum statement i)
{
    int rc = sqlite3_step(s->st[i]);
    sqlite3_reset(s->st[i]);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

enum err store_begin(struct store *s, struct errmsg *why)
{
    return step(s, ST_BEGIN) == SQLITE_OK ? ERR_OK : fault(s, why, "cannot begin");
}

enum err store_commit(struct store *s, struct errmsg *why)
{
    return step(s, ST_COMMIT) == SQLITE_OK ? ERR_OK : fault(s, why, "cannot commit");
}

void store_rollback(struct store *s)
{
    if (!sqlite3_get_autocommit(
            s->db)) /* SQLite may have rolled back by itself: on a full disk, say */
        step(s, ST_ROLLBACK);
}

enum err store_put(struct store *s, const struct usage_row *r, struct errmsg *why)
{
    sqlite3_stmt *st = s->st[ST_PUT];
    const char *texts[] = {r->id, r->request_id, r->key_id, r->end_user, r->model, r->dialect};
    const size_t sizes[] = {sizeof(r->id),       sizeof(r->request_id), sizeof(r->key_id),
                            sizeof(r->end_user), sizeof(r->model),      sizeof(r->dialect)};
    int n = 1;
    for (; n <= 6; n++) /* strnlen: the row may come from a file that somebody has damaged */
        sqlite3_bind_text(st, n, texts[n - 1], (int)strnlen(texts[n - 1], sizes[n - 1]),
                          SQLITE_STATIC);
    sqlite3_bind_int64(st, n++, r->created_ms);
    sqlite3_bind_text(st, n++, usage_outcome_name((enum usage_outcome)r->outcome), -1,
                      SQLITE_STATIC);
    sqlite3_bind_text(st, n++, r->cause, (int)strnlen(r->cause, sizeof(r->cause)), SQLITE_STATIC);
    sqlite3_bind_text(st, n++, r->finish, (int)strnlen(r->finish, sizeof(r->finish)),
                      SQLITE_STATIC);
    const uint32_t counts[] = {r->choices,           r->prompt_tokens,    r->cached_tokens,
                               r->completion_tokens, r->delivered_tokens, r->reasoning_tokens,
                               r->computed_tokens,   r->failovers};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        sqlite3_bind_int64(st, n++, counts[i]);
    sqlite3_bind_int64(st, n++, (sqlite3_int64)r->queue_us);
    sqlite3_bind_int64(st, n++, (sqlite3_int64)r->ttft_us);
    sqlite3_bind_int64(st, n++, (sqlite3_int64)r->duration_us);
    return step(s, ST_PUT) == SQLITE_OK ? ERR_OK : fault(s, why, "cannot write a row");
}
