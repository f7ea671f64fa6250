/* engine.h - what the scheduler needs of a model, as one table: arithmetic, and tokens to text.
 *
 * engine_model.c fills it from a loaded model; tests fill it with a scripted one.
 * Thread: all functions are called from the scheduler's thread. */
#ifndef MILLRACE_WORKER_SCHED_ENGINE_H
#define MILLRACE_WORKER_SCHED_ENGINE_H

#include "shared/base/buf.h"
#include "shared/ipc/proto.h"
#include "worker/model/model.h"
#include "worker/sched/job_req.h"

/* What one token adds to what the client sees, one kind at a time: when a token ends one kind and
 * starts another, `more` says so and text_more() gives the next part. */
struct text_out {
    struct buf text; /* the pipeline appends; whole code points */
    enum delta_kind kind;
    uint32_t tool_index;
    int32_t stop;              /* the stop string that this token completed; -1: none */
    bool more;                 /* there is another part: text_more(), or text_end() again */
    bool ends;                 /* the choice ends with this token: its one call is complete */
    uint32_t reasoning_tokens; /* of this choice so far */
    bool called;               /* this choice has made tool calls */
};

/* One choice's way from tokens to text: detokenizer, reasoning and tool calls, stop strings. The
 * text is a pure function of the tokens fed (replay depends on it). */
struct text_pipe; /* opaque: the engine's own */

struct engine {
    void *self;
    uint32_t n_vocab, n_embd, context;
    uint32_t kv_blocks, block_tokens;
    uint32_t window_blocks, ring_blocks, window; /* kv_shape's; window_blocks 0: no such pool */
    bool chunked;
    uint32_t max_seqs, max_step_tokens;
    const int32_t *end_tokens; /* borrowed: ids that end a generation */
    size_t n_end_tokens;
    /* An engine writes text or gives embeddings; the jobs of the other kind are refused. */
    bool embeds;
    bool is_encoder;      /* of those that embed: an input is one step */
    enum pooling pooling; /* of those that embed: MEAN, CLS or LAST */
    uint32_t min_dims;    /* 0: vectors can't be shortened */

    /* As model_step(): a failed step may be repeated. NULL when it embeds. */
    enum err (*step)(void *self, const struct step_seq *seqs, int n_seqs, struct errmsg *why);
    /* As model_embed_step(). NULL when it does not. */
    enum err (*embed)(void *self, const struct embed_seq *seqs, int n_seqs, struct errmsg *why);

    struct str (*piece)(void *self, int32_t id); /* a token's text, for logprobs; borrowed */
    enum err (*text_open)(void *self, const struct job_req *r, uint32_t choice,
                          struct text_pipe **out);
    void (*text_close)(struct text_pipe *p);
    enum err (*text_feed)(struct text_pipe *p, int32_t id, struct text_out *out);
    /* The next part of the last token, after text_feed() or text_more() said `more`. */
    enum err (*text_more)(struct text_pipe *p, struct text_out *out);
    enum err (*text_end)(struct text_pipe *p,
                         struct text_out *out); /* the rest; see text_out.more */
};

#endif
