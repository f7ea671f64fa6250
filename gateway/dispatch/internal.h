/* internal.h - the dispatcher's own structures; nobody outside gateway/dispatch includes it.
 *
 *   dispatch ── models[] ── members[] (one worker each) ── on_board: jobs SENT or RUNNING there
 *                 │
 *                 └── queue: jobs QUEUED, bounded; a job is always in exactly one of the two lists
 *
 * Which models have workers at all is resident.c's business.
 *
 * Each state is a place (job.h draws the graph); every move goes through job_set_state(). */
#ifndef MILLRACE_GATEWAY_DISPATCH_INTERNAL_H
#define MILLRACE_GATEWAY_DISPATCH_INTERNAL_H

#include "gateway/dispatch/dispatch.h"
#include "gateway/supervise/inspect.h"
#include "gateway/supervise/worker.h"
#include "shared/base/list.h"
#include <uv.h>

enum {
    DEFAULT_QUEUE_LIMIT = 512,
    DEFAULT_SLOTS = 32,
    DEFAULT_STALL_MS = 30000,
    DEFAULT_MAX_ATTEMPTS = 2,
    SWEEP_INTERVAL_MS = 100, /* deadlines */
    GIVE_UP_LOADS =
        3, /* failed loads in a row, per worker: then jobs are refused until one comes up */
    AHEAD_JOBS =
        2, /* sent beyond a worker's slots, so that a freed slot finds its next job there */
    AFFINITY_SLACK = 4, /* a warm prefix is worth waiting behind so many more sequences */
    AFFINITY_ENTRIES =
        1 << 12, /* per model; direct-mapped: a collision costs a cold prefix, nothing else */
    PROGRESS_TOKENS =
        16, /* a job that got so far since its last crash is not suspected for the next */
    READY_WITHIN_MS = 2000, /* readiness: stepped within */
    DEFAULT_TURN_MS = 10000,
    RETRY_FIRST_MS = 1000, /* after a failed load, doubling */
    RETRY_MAX_MS = 60000,
};

enum job_state { JOB_NEW, JOB_QUEUED, JOB_SENT, JOB_RUNNING, JOB_DONE };

struct choice {
    int32_t *tokens; /* owned: all that the worker reported, for replay */
    uint32_t n, cap;
    uint32_t text_bytes; /* that came with them */
    uint32_t reasoning_tokens;
    uint64_t last_token_ns;
    bool done;
    enum finish_reason reason;
};

struct job {
    struct link link; /* in model->queue or member->on_board */
    struct link hash; /* chain of dispatch->by_id */
    struct dispatch *d;
    struct model_entry *model;
    struct member *member; /* set while SENT or RUNNING */
    uint64_t id;
    enum job_state state;
    bool admitted;  /* the client has been told; not told again after a failover */
    bool cancelled; /* no callback any more; waiting for the worker's terminal event */
    bool paused;
    bool probation; /* suspected of killing workers: runs only where no other suspect is on board */
    int strikes;    /* workers lost under it without PROGRESS_TOKENS in between */
    uint32_t tokens_at_send;
    struct job_head head; /* a copy of the body's */
    struct buf body;      /* without replay sections: those are made anew for each attempt */
    struct job_sink sink;
    struct usage_row *row; /* in the journal; NULL once ended */
    struct choice *choices;
    /* Embedding jobs: inputs there are, told by the worker of this attempt, told to the sink. */
    uint32_t n_inputs, next_input, n_embedded, n_dims;
    uint32_t embedded_tokens; /* of the inputs told to the sink */
    uint64_t prefixes[JOB_MAX_PREFIXES];
    uint32_t n_prefixes;
    uint32_t board_seqs; /* sequences counted on its member */
    uint64_t queued_ns, first_token_ns, running_ns;
    uint32_t computed_before; /* positions computed by workers that are gone: a lower bound */
};

struct member { /* one worker of a model */
    struct model_entry *model;
    struct worker *worker;
    struct link on_board;
    uint32_t jobs, seqs;
    int suspects; /* probation jobs on board */
    uint32_t index;
    bool was_up;
    uint64_t totals[4], last[4]; /* prompt, cached, generated, preemptions: of lives gone, of this
                                    life when last seen */
};

struct affinity {
    uint64_t hash;
    uint32_t member_plus_1;
};

enum model_phase { /* resident.c draws the graph */
                   MODEL_UNLOADED,
                   MODEL_LOADING,
                   MODEL_LOADED,
                   MODEL_DRAINING,
                   MODEL_UNLOADING,
                   MODEL_FAILED,
};

struct model_entry {
    struct dispatch *d;
    const struct model_config *config;
    const char **argv; /* owned; of the worker */
    char **argv_text;  /* owned numbers inside argv */
    struct member *members;
    uint32_t n_members;
    struct link queue;
    uint32_t queued, running, queue_limit, slots;
    struct affinity *affinity;
    struct buf info; /* MODEL_INFO */
    int64_t created;
    uint64_t failovers;
    char last_error[256];
    uint32_t failed_loads; /* in a row, without one worker up */
    double avg_job_s;      /* of finished jobs, exponentially weighted: for Retry-After */
    bool pumping, told_ready;
    bool pump_due; /* pool_pump_soon() asked for it */

    enum model_phase phase;
    bool inspected;                /* and found fit to be loaded */
    struct inspection *inspection; /* running; NULL: none */
    const char *inspect_argv[12];
    struct buf report;                    /* of the inspection, JSON */
    uint64_t need_bytes;                  /* of all its workers; 0: not known */
    uint64_t limit_bytes;                 /* that each worker is told to keep to; 0: none */
    uint32_t stopping;                    /* workers asked to end and not gone yet */
    uint64_t loaded_ns, used_ns, left_ns; /* last: loaded; job begun or ended; made to leave */
    uint64_t retry_ns;                    /* FAILED: not before */
    uint32_t failures;                    /* in a row */
    uint64_t loads, unloads, load_failures;
    char failure[256]; /* of the last failed load, for clients */
};

enum { JOB_TABLE_BITS = 12, JOB_TABLE = 1 << JOB_TABLE_BITS };

struct dispatch {
    struct dispatch_options o;
    struct model_entry *models;
    size_t n_models;
    uint64_t next_id;
    unsigned char
        salt_key[16]; /* SipHash key: prefix hashes and cache salts tell nobody anything */
    uv_timer_t sweep;
    uv_prepare_t pump; /* the queues that changed are served before the loop waits again */
    uv_check_t dead;   /* frees finished jobs at one safe point of the loop */
    struct link graveyard;
    struct link by_id[JOB_TABLE];
    size_t n_jobs;
    bool managed; /* models load on first use */
    bool draining, closing;
    int closing_handles;
    void (*on_closed)(void *user);
    void *closed_user;
};

/* job.c */
struct job *job_find(struct dispatch *d, uint64_t id);
void job_set_state(struct job *j, enum job_state state, struct member *on);
/* The one end: usage row, sink, log and metrics, then the graveyard. `message` NULL: finished well.
 */
struct job_end {
    enum usage_outcome outcome;
    const char *cause; /* for the row; NULL when finished */
    enum err err;      /* of on_failed */
    enum job_param param;
    const char *message;
};
void job_finish(struct job *j, const struct job_end *end);
void job_free_dead(struct dispatch *d); /* empties the graveyard */
void job_fill_usage(const struct job *j, struct job_usage *u);
uint32_t job_tokens(const struct job *j); /* delivered so far: what says that a job gets on */

/* dispatch.c */
bool model_any_up(const struct model_entry *m);
void model_fail_queue(struct model_entry *m, const char *cause, enum err e, const char *message);

/* resident.c */
enum err resident_open(struct model_entry *m,
                       struct errmsg *why) MUST_CHECK; /* before its workers */
/* All that is to be decided now: called when something may have changed, and on every sweep. Not
 * from inside a pump or a sink. */
void resident_turn(struct dispatch *d);
void resident_up(struct model_entry *m);
/* A load failed for good (for now): waiting jobs are told so. */
void resident_failed(struct model_entry *m, const char *reason);
void resident_stopped(void *member); /* worker_spec.on_stopped */
void resident_used(struct model_entry *m);
/* May the job be sent, if a worker has room? */
bool resident_takes(const struct model_entry *m, const struct job *j);
/* True: new jobs are refused. */
bool resident_refuses(const struct model_entry *m, uint32_t *retry_after_s);
void resident_status(const struct model_entry *m, struct model_status *out);

/* pool.c */
void pool_pump(struct model_entry *m); /* sends queued jobs while workers have room */
/* The same, before the loop waits again: for callers whose own caller must hear nothing of it yet.
 */
void pool_pump_soon(struct model_entry *m);
void pool_member_lost(struct member *mb, const char *reason);
uint32_t pool_retry_after(const struct model_entry *m);
void pool_sample_totals(struct member *mb); /* folds the worker's counters into the member's */

/* stream.c */
void stream_record(struct member *mb, const struct ring_record *rec);

#endif
