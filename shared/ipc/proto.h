/* proto.h - what the gateway and a worker say to each other. The header is the protocol document.
 *
 * One sealed memfd per worker process, created by the gateway, inherited by the worker as a
 * descriptor and dropped when that worker is gone: the next one gets a fresh memfd and a new epoch.
 *
 *   0            4096 total_bytes | shm_header | status | submit ring (gateway -> worker) | event
 * ring (worker -> gateway) | payload space |
 *
 *   gateway ──SUBMIT, CANCEL, PAUSE ...──▶ submit ring ──▶ worker        eventfd "work":  gateway
 * -> worker gateway ◀── event ring ◀──ADMITTED, DELTA, FINISHED ...── worker     eventfd "news":
 * worker -> gateway
 *
 * Small records travel inside the rings (ring.h). A job's body (up to megabytes) is written by the
 * gateway into the payload space, which the gateway alone allocates; SUBMIT names offset and
 * length. The worker copies it out and answers TAKEN; then the gateway may reuse the extent.
 *
 * Life of a job, as events:
 *
 *   SUBMIT ─▶ TAKEN ─▶ ADMITTED ─▶ DELTA* ─▶ CHOICE_DONE (one per choice) ─▶ FINISHED
 *                          │           └─────────────────────────────────▶ FAILED
 *                          └─▶ EMBEDDING* ─▶ FINISHED        any time: CANCEL ─▶ FINISHED (reason
 * CANCELLED)
 *
 * An embedding job gives one EMBEDDING per input, in order, then FINISHED. It has no replay: one
 * that lost its worker starts over, and gives the same numbers.
 *
 * Invariant: exactly one terminal event (FINISHED or FAILED) per SUBMIT, and nothing after it.
 * Every decode step of a choice yields one DELTA with its token, even with empty text (bytes held
 * back for UTF-8 or a stop string), and further ones without tokens where its text is of more than
 * one kind: so the gateway's count of tokens, and its usage journal, are exact at every
 * moment.
 *
 * Replay (failover): SUBMIT may carry the tokens already delivered per choice. The worker feeds
 * them through prefill and through its text pipeline, says nothing about them, and goes on with the
 * next token. Text of theirs that had not arrived (the last records of a choice that ended) follows
 * ADMITTED, without tokens. Text is a pure function of the tokens, sampling is keyed by (seed,
 * choice, position): the client can't see the seam.
 *
 * Numbers are little-endian, structs have no implicit padding (static_asserts below).
 * Trust: neither side believes a length or an offset of the other: copy once, check, then use. */
#ifndef MILLRACE_IPC_PROTO_H
#define MILLRACE_IPC_PROTO_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PROTO_MAGIC   0x43524c4cu /* "LLRC" */
#define PROTO_VERSION 1u

enum {
    PROTO_MAX_CHOICES = 128,     /* OpenAI's bound of `n` */
    PROTO_MAX_TOP_LOGPROBS = 20, /* OpenAI's bound */
    PROTO_MAX_STOPS = 16,
    PROTO_MAX_STOP_BYTES = 1024,
    PROTO_MAX_LOGIT_BIAS = 1024,
    PROTO_MAX_JOB_BYTES = 64 << 20,
    PROTO_MAX_MESSAGE_BYTES = 512, /* of FAILED and FATAL */
    PROTO_MAX_INPUTS = 2048,       /* of an embedding job; OpenAI's bound */
    PROTO_MAX_DIMS = 1 << 16,      /* of an embedding: a record must fit the event ring */
};

/* Records: X(name, value, direction, payload struct, terminal) */
#define PROTO_RECORDS(X)                                                                           \
    X(SUBMIT, 1, TO_WORKER, struct rec_submit, 0)                                                  \
    X(CANCEL, 2, TO_WORKER, struct rec_empty, 0)                                                   \
    X(PAUSE, 3, TO_WORKER, struct rec_empty, 0)                                                    \
    X(RESUME, 4, TO_WORKER, struct rec_empty, 0)                                                   \
    X(DRAIN, 5, TO_WORKER, struct rec_empty, 0)                                                    \
    X(TAKEN, 32, TO_GATEWAY, struct rec_taken, 0)                                                  \
    X(ADMITTED, 33, TO_GATEWAY, struct rec_admitted, 0)                                            \
    X(DELTA, 34, TO_GATEWAY, struct rec_delta, 0)                                                  \
    X(CHOICE_DONE, 35, TO_GATEWAY, struct rec_choice_done, 0)                                      \
    X(EMBEDDING, 36, TO_GATEWAY, struct rec_embedding, 0)                                          \
    X(FINISHED, 37, TO_GATEWAY, struct rec_finished, 1)                                            \
    X(FAILED, 38, TO_GATEWAY, struct rec_failed, 1)                                                \
    X(MODEL_INFO, 39, TO_GATEWAY, struct rec_text, 0)                                              \
    X(FATAL, 40, TO_GATEWAY, struct rec_text, 0)

enum rec_type {
#define X(name, value, direction, payload, terminal) REC_##name = value,
    PROTO_RECORDS(X)
#undef X
};

/* ---- records to the worker
 * ---------------------------------------------------------------------------- */

struct rec_empty { /* CANCEL, PAUSE, RESUME: the job id stands in the ring header. DRAIN: no job */
    uint64_t zero;
};

struct rec_submit {
    uint64_t offset; /* of a struct job_head, from the start of the payload space; multiple of 8 */
    uint64_t bytes;  /* of the whole job body */
};

/* ---- records to the gateway
 * --------------------------------------------------------------------------- */

struct rec_taken {
    uint64_t offset; /* the extent that the worker no longer needs */
};

struct rec_admitted { /* the prompt is tokenized and fits; computing starts */
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* of prompt_tokens: found in the prefix cache */
    uint32_t context;       /* tokens that prompt and completion may have together */
    uint32_t zero;
};

enum delta_kind {
    DELTA_CONTENT = 0,
    DELTA_REASONING = 1,
    DELTA_TOOL_NAME = 2,
    DELTA_TOOL_ARGS = 3
};

/* Text of one kind. A tool call is one TOOL_NAME with its whole name, then TOOL_ARGS of the same
 * tool_index, which joined are its arguments; tool_index counts a choice's calls from 0. A token
 * without text has the kind that it was read as.
 * Followed by n_tokens i32 token ids, text_bytes of UTF-8, logprob_bytes of logprob entries, in
 * that order. Logprob entries, for each of the n_tokens: struct logprob_entry of the chosen token
 * (n_top says how many alternatives follow it), its bytes, then each alternative with its bytes;
 * packed, no padding. */
struct rec_delta {
    uint16_t choice;
    uint16_t kind;       /* enum delta_kind of the text */
    uint32_t n_tokens;   /* 1; 0 for more text of the token before it, or held back to the end */
    uint32_t text_bytes; /* may be 0; always whole code points */
    uint32_t logprob_bytes;
    uint32_t reasoning_tokens; /* of this choice so far */
    uint32_t tool_index;       /* of TOOL_NAME and TOOL_ARGS */
};

struct logprob_entry {
    int32_t id;
    float logprob;
    uint16_t n_bytes; /* of the token's text, which follows */
    uint16_t n_top;   /* 0 in an alternative */
};

enum finish_reason {
    FINISH_STOP = 0,       /* end-of-generation token, or a stop string */
    FINISH_LENGTH = 1,     /* max_tokens or the context is used up */
    FINISH_TOOL_CALLS = 2, /* as STOP, or after a single call; the choice has made calls */
    FINISH_CANCELLED = 3,  /* CANCEL was received; never shown to a client */
};

struct rec_choice_done {
    uint16_t choice;
    uint16_t reason;            /* enum finish_reason */
    uint32_t completion_tokens; /* replayed ones included */
    uint32_t reasoning_tokens;
    int32_t stop_index; /* the stop string that matched; -1: none */
};

struct rec_embedding { /* followed by n_dims float32, finite; 1..PROTO_MAX_DIMS of them */
    uint32_t index;    /* of the input */
    uint32_t n_dims;
    uint32_t n_tokens; /* of this input */
    uint32_t zero;
};

struct rec_finished { /* exact counts of this worker's work on the job; sums over choices */
    uint32_t reason;  /* FINISH_CANCELLED, else the first choice's */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t completion_tokens; /* sampled or replayed, the end token included */
    uint32_t reasoning_tokens;
    uint32_t computed_tokens; /* positions run through the model: prompt not cached, completion,
                                 recomputed */
    uint64_t queue_ns;        /* in the worker, before the first step */
    uint64_t prefill_ns;
    uint64_t decode_ns;
};

/* Followed by message_bytes of UTF-8: one line, safe to show to the client. */
struct rec_failed {
    uint32_t
        err; /* enum err: CONTEXT_LENGTH, TEMPLATE, INVALID, UNSUPPORTED, NOMEM, INTERNAL ... */
    uint32_t param;         /* enum job_param: the field at fault */
    uint32_t prompt_tokens; /* where known: for "your messages resulted in N tokens" */
    uint32_t context;
    uint32_t message_bytes;
    uint32_t zero;
};

/* Followed by `bytes` of UTF-8. MODEL_INFO: a JSON object, once, before the state turns READY.
 * FATAL: why the worker ends, one line. */
struct rec_text {
    uint32_t bytes;
    uint32_t zero;
};

enum job_param {
    PARAM_NONE,
    PARAM_MESSAGES,
    PARAM_PROMPT,
    PARAM_MAX_TOKENS,
    PARAM_LOGIT_BIAS,
    PARAM_TOOLS,
    PARAM_RESPONSE_FORMAT,
    PARAM_INPUT,
    PARAM_STOP,
    PARAM_DIMENSIONS,
    PARAM_MODEL, /* the wrong one for this kind of job */
    PARAM_COUNT_,
};

/* ---- a job's body in the payload space
 * ------------------------------------------------------------------
 *
 *   | struct job_head | section | section | ...   section: u32 kind, u32 bytes, bytes, zeros up to
 * 8 */

enum job_kind {
    JOB_CHAT = 0,
    JOB_COMPLETION = 1,
    JOB_EMBEDDING = 2,
    JOB_TOKENIZE = 3,
    JOB_DETOKENIZE = 4
};

enum job_flags {
    JOB_IGNORE_EOS = 1u << 0,
    JOB_LOGPROBS = 1u << 1,       /* with top_logprobs alternatives per token; 0 is allowed */
    JOB_ECHO = 1u << 2,           /* completions: the prompt is part of the answer */
    JOB_NO_ADD_SPECIAL = 1u << 3, /* completions: don't add BOS */
    JOB_NO_PREFIX_CACHE = 1u << 4,
    JOB_PARSE_REASONING =
        1u << 5,               /* chat: told apart from content, as the template's form has it */
    JOB_PARSE_TOOLS = 1u << 6, /* chat: tool calls are recognised */
    JOB_SINGLE_CALL = 1u << 7, /* chat: the answer ends with its first call */
};

struct job_head {
    uint32_t version;         /* PROTO_VERSION */
    uint16_t kind;            /* enum job_kind */
    uint16_t n;               /* choices, 1..PROTO_MAX_CHOICES */
    uint32_t flags;           /* enum job_flags */
    uint32_t max_tokens;      /* per choice; 0: what the context leaves */
    uint64_t seed;            /* always set: the gateway draws one where the client gave none */
    uint64_t cache_salt;      /* prefixes are shared only between equal salts (one per API key) */
    uint64_t deadline_ns;     /* CLOCK_MONOTONIC; 0: none */
    int32_t priority;         /* higher first */
    float temperature;        /* 0: greedy */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    int32_t top_k;            /* 0: off */
    float repetition_penalty; /* 1: off */
    float frequency_penalty;  /* 0: off */
    float presence_penalty;   /* 0: off */
    int32_t penalty_last_n;   /* tokens looked back on; -1: all of prompt and completion */
    uint16_t top_logprobs;    /* 0..PROTO_MAX_TOP_LOGPROBS */
    uint16_t n_sections;
    uint32_t min_tokens; /* no end token before that many */
    uint32_t dimensions; /* embedding: values per vector, 0: the model's; other kinds: 0 */
};

enum job_section {
    SECTION_REQUEST_JSON =
        1, /* chat: {"messages":[...],"tools":[...],"chat_template_kwargs":{...}} */
    SECTION_PROMPT_TEXT = 2,
    SECTION_PROMPT_TOKENS = 3, /* i32[] */
    SECTION_STOP = 4,          /* one stop string; repeated */
    SECTION_LOGIT_BIAS = 5,    /* { i32 token; f32 bias }[] */
    SECTION_REPLAY =
        6, /* u32 choice, u32 bytes of text, i32 tokens[]; one per choice with delivered tokens */
    SECTION_INPUT_TEXT = 7, /* embedding: one input; repeated, in order with INPUT_TOKENS */
    SECTION_INPUT_TOKENS = 8,
    SECTION_SCHEMA_JSON = 9, /* structured output */
    SECTION_GRAMMAR = 10,
};

/* ---- the memfd's first page
 * --------------------------------------------------------------------------- */

enum worker_state {
    WORKER_STARTING = 0,
    WORKER_LOADING = 1,
    WORKER_READY = 2,
    WORKER_DRAINING = 3,
    WORKER_FAILED = 4,
};

struct shm_header { /* written by the gateway before the worker starts, constant afterwards */
    uint32_t magic;
    uint32_t version;
    uint64_t build_id; /* hash of the build: a worker of another build refuses to attach */
    uint64_t epoch;    /* of this worker process */
    uint64_t total_bytes;
    uint64_t status_offset;
    uint64_t submit_offset, submit_bytes; /* of struct ring and its records */
    uint64_t event_offset, event_bytes;
    uint64_t payload_offset, payload_bytes;
};

/* Written by the worker with relaxed stores, read by the gateway at any time: gauges, never used as
 * lengths. */
struct shm_status {
    _Atomic uint32_t state; /* enum worker_state */
    _Atomic uint32_t load_permille;
    _Atomic uint64_t steps; /* engine steps done: the heartbeat while jobs are held */
    _Atomic uint64_t
        last_step_ns; /* CLOCK_MONOTONIC; the idle loop bumps it at least twice a second, too */
    _Atomic uint32_t running; /* sequences in the batch */
    _Atomic uint32_t waiting; /* jobs taken, not yet in the batch */
    _Atomic uint32_t kv_blocks_total, kv_blocks_used;
    _Atomic uint64_t prompt_tokens, cached_tokens, generated_tokens, preemptions;
};

static_assert(sizeof(struct rec_submit) == 16, "layout");
static_assert(sizeof(struct rec_admitted) == 16, "layout");
static_assert(sizeof(struct rec_delta) == 24, "layout");
static_assert(sizeof(struct logprob_entry) == 12, "layout");
static_assert(sizeof(struct rec_choice_done) == 16, "layout");
static_assert(sizeof(struct rec_embedding) == 16, "layout");
static_assert(sizeof(struct rec_finished) == 48, "layout");
static_assert(sizeof(struct rec_failed) == 24, "layout");
static_assert(sizeof(struct job_head) == 88, "layout");
static_assert(offsetof(struct job_head, temperature) == 44, "layout");
static_assert(sizeof(struct shm_header) == 88, "layout");
static_assert(sizeof(struct shm_status) == 72, "layout");

#endif
