/* usage.h - who used what: one row per admitted job, whatever became of it.
 *
 * Two parts with one face:
 *   journal  a memory-mapped file in the data directory with a slot per running job, updated with
 * every event by plain stores: after kill -9 of the gateway the next start turns what it finds
 * there into rows; store    SQLite (WAL) behind one writer thread: rows are queued to it, committed
 * in batches, off the loop. A slot is freed only after its row is committed, and rows carry a
 * unique id: nothing is lost or doubled. schemas/usage.sql is the only DDL. Prepared statements
 * only. Thread: the loop's, but for the writer inside.  Errors: a store that can't write keeps rows
 * (journal and queue) and reports itself through usage_healthy(); it never drops one in silence. */
#ifndef MILLRACE_GATEWAY_USAGE_USAGE_H
#define MILLRACE_GATEWAY_USAGE_USAGE_H

#include "shared/base/err.h"
#include "shared/base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum usage_outcome {
    USAGE_FINISHED = 0,    /* the worker finished it */
    USAGE_CANCELLED = 1,   /* the client left, or asked */
    USAGE_FAILED = 2,      /* an error was told to the client */
    USAGE_INTERRUPTED = 3, /* found in the journal after the gateway died */
};

/* Fixed size, no pointers: lives in the journal's slots as it is. Texts are NUL-terminated, cut at
 * the array's size on a UTF-8 border. */
struct usage_row {
    char id[40]; /* hex: time, then randomness; unique over restarts and machines */
    char request_id[40];
    char key_id[40]; /* empty: no key */
    char end_user[64];
    char model[96];
    char dialect[24];
    int64_t created_ms; /* wall clock at admission */
    uint32_t outcome;   /* enum usage_outcome */
    uint32_t choices;
    uint32_t prompt_tokens, cached_tokens;
    uint32_t completion_tokens; /* sampled by the worker and reported to the gateway */
    uint32_t delivered_tokens;  /* of those, handed to the client's connection */
    uint32_t reasoning_tokens;
    uint32_t computed_tokens; /* positions run through a model, all attempts */
    uint32_t failovers;
    uint32_t zero;
    uint64_t queue_us, ttft_us, duration_us; /* ttft 0: no token */
    char finish[16];                         /* "stop", "length", ...; empty */
    char cause[48]; /* why it ended, for outcomes but FINISHED: "client_gone", "worker_lost",
                       "context_length" ... */
};

struct usage;

struct usage_options {
    const char
        *data_dir; /* created when missing: usage.db, journal; an exclusive lock is taken on it */
    uint32_t max_jobs; /* journal slots: running, queued, not yet committed; 0: 16384 */
};

/* Replays the journal of a gateway that died: each slot found becomes a row (outcome INTERRUPTED).
 * *recovered says how many. */
enum err usage_open(struct usage **out, const struct usage_options *o, uint32_t *recovered,
                    struct errmsg *why) MUST_CHECK;
void usage_close(
    struct usage *u); /* commits what is queued; blocks until done: after the loop has ended */

/* A slot in the journal, cleared. NULL: all taken (the caller refuses the job with 429). The caller
 * fills the identifying fields, then usage_begin() makes it count; afterwards it may store to the
 * numbers at any time. */
struct usage_row *usage_take(struct usage *u);
void usage_begin(struct usage *u, struct usage_row *row);
/* Gives slot back without a row: the job was refused after all. */
void usage_abandon(struct usage *u, struct usage_row *row);
/* The end: the row goes to the writer; the slot is freed when it is committed. Don't touch `row`
 * afterwards. */
void usage_end(struct usage *u, struct usage_row *row);

bool usage_healthy(const struct usage *u);     /* the last commit worked */
uint64_t usage_pending(const struct usage *u); /* rows not yet committed */
uint64_t usage_written(const struct usage *u); /* rows committed since start */
void usage_flush(struct usage *u,
                 uint32_t timeout_ms); /* waits for the writer: tests and shutdown only */

/* Where the data directory is when nobody names one: $MILLRACE_DATA, else $XDG_STATE_HOME/millrace,
 * else $HOME/.local/state/millrace, else ./millrace-data. */
void usage_default_dir(char *out, size_t size);

/* `millrace usage`: reads data_dir/usage.db (also while a gateway serves) and prints to stdout.
 * Returns the exit status. */
int cmd_usage(int argc, char **argv);

#endif
