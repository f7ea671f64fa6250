/* job.h - one unit of model work: from admission to exactly one end, whatever happens on the way.
 *
 * An API dialect fills a job_spec and submits it with a sink; dispatch queues it (bounded, per
 * model), hands it to a worker (prefix affinity, then load), remembers every delivered token id,
 * and when the worker dies continues it on another: the sink sees no seam. Success, error,
 * deadline, disconnect: all end in one job_finish(), which writes the usage row.
 *
 *   NEW ──admit──▶ QUEUED ──worker free──▶ SENT ──ADMITTED──▶ RUNNING ──▶ DONE
 *                    ▲                      │                   │
 *                    └────── worker died: requeued at the front (at most once more) ─┘      any
 * state ──cancel──▶ DONE
 *
 * Sink: callbacks come from the loop, never from inside job_submit(); exactly one of on_finished
 * and on_failed, last; none after job_cancel(). Thread: the loop's. */
#ifndef MILLRACE_GATEWAY_DISPATCH_JOB_H
#define MILLRACE_GATEWAY_DISPATCH_JOB_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include "shared/ipc/proto.h"
#include <stdbool.h>

struct dispatch; /* opaque: all models, queues and workers of this gateway */
struct job;      /* opaque */

struct job_delta { /* pointers borrowed for the call */
    uint32_t choice;
    enum delta_kind kind;
    struct str text; /* whole code points; may be empty */
    const int32_t *tokens;
    uint32_t n_tokens;
    struct str logprobs; /* packed struct logprob_entry, checked; empty unless asked for */
    uint32_t tool_index;
};

struct job_usage { /* what the client is told and the row says: over all choices, all attempts */
    uint32_t prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
    uint32_t computed_tokens;
    uint32_t failovers;
    uint64_t queue_ns, ttft_ns, total_ns;
};

struct job_sink {
    void *user;
    void (*on_admitted)(void *user, uint32_t prompt_tokens, uint32_t cached_tokens);
    void (*on_delta)(void *user, const struct job_delta *d);
    void (*on_choice_done)(void *user, uint32_t choice, enum finish_reason reason);
    void (*on_embedding)(void *user, uint32_t index, const float *v, uint32_t n_dims,
                         uint32_t n_tokens); /* v may be unaligned */
    void (*on_finished)(void *user, const struct job_usage *u);
    void (*on_failed)(void *user, enum err e, enum job_param param, const char *message,
                      const struct job_usage *u);
};

enum { JOB_MAX_PREFIXES = 16 };

struct job_spec {
    struct str model; /* a name that dispatch_has_model() knows */
    /* The job's body: body_begin(head), body_section() ... (shared/ipc/body.h). MOVED into the job,
     * on failure too. */
    struct buf body;
    struct str dialect;    /* "chat", "completions", ...: static text, for the row */
    struct str request_id; /* copied */
    struct str key_id;     /* copied; empty: no keys configured */
    struct str end_user;   /* copied: safety_identifier or user; for the row */
    /* Affinity: chained, salted hashes of the prompt's beginnings, longest last:
     * job_spec_add_prefix(). */
    uint64_t prefixes[JOB_MAX_PREFIXES];
    uint32_t n_prefixes;
};

/* ERR_NOT_FOUND: no such model. ERR_FULL: the queue is full; *retry_after_s is the estimate from
 * the real queue. On failure no callback fires and no row is written (nothing was admitted). *out
 * is borrowed: valid until the terminal callback. */
enum err job_submit(struct dispatch *d, struct job_spec *spec, const struct job_sink *sink,
                    struct job **out, uint32_t *retry_after_s) MUST_CHECK;
/* The client left, in any phase. No callback fires afterwards; the row says cause. The pointer is
 * dead. */
void job_cancel(struct job *j, const char *cause);
/* Slow client: the worker stops stepping this job's sequences, nobody else's. */
void job_pause(struct job *j);
void job_resume(struct job *j);
/* The dialect has handed the text of `tokens` more tokens to the client's connection. A stream says
 * so in on_delta, a whole answer in on_finished (the row is written right after that callback). */
void job_delivered(struct job *j, uint32_t tokens);
/* Extends the chain by the next piece of the prompt (one message, say). Only the last
 * JOB_MAX_PREFIXES links are kept. */
void job_spec_add_prefix(const struct dispatch *d, struct job_spec *spec, const void *piece,
                         size_t n);
uint64_t job_id(const struct job *j);

enum model_state { /* what /v1/models says */
                   MODEL_STATE_UNLOADED,
                   MODEL_STATE_LOADING,
                   MODEL_STATE_LOADED, /* until its memory is free again */
                   MODEL_STATE_FAILED, /* it could not be loaded; tried again after a while */
};
const char *model_state_name(enum model_state s); /* "loaded" */

struct model_status { /* for /v1/models, /readyz, /metrics; strings borrowed until the next loop
                         turn */
    struct str name;
    struct str info_json;    /* MODEL_INFO of a ready worker; empty before */
    struct str inspect_json; /* what `millrace-worker inspect` says of the file; may be empty */
    enum model_state state;
    bool available;        /* a job would be served: now, or after loading */
    uint64_t memory_bytes; /* that it needs, or is known to need, when loaded; 0: not known */
    uint64_t loads, unloads, load_failures; /* since start */
    uint32_t slots;                         /* sequences per worker */
    int64_t created;                        /* Unix seconds: the model file's time */
    uint32_t workers, ready;  /* configured; able to take a job and stepped recently */
    uint32_t queued, running; /* jobs */
    uint32_t queue_limit;
    uint64_t restarts, failovers;
    uint32_t kv_blocks_total, kv_blocks_used;
    uint64_t prompt_tokens, cached_tokens, generated_tokens,
        preemptions;       /* since start, over all worker lives */
    struct str last_error; /* why no worker is ready, one line; empty */
    struct str failure;    /* the same for clients: it names no file; empty unless FAILED */
};
size_t dispatch_n_models(const struct dispatch *d);
void dispatch_model_status(const struct dispatch *d, size_t i, struct model_status *out);
bool dispatch_has_model(const struct dispatch *d, struct str name);

#endif
