#include "worker/sched/engine_model.h"

#include "worker/text/output/output.h"
#include "worker/text/stop_match.h"
#include "worker/text/stream_text.h"
#include <stdlib.h>
#include <string.h>

struct engine_model {
    struct engine table;
    struct model *model;
    const struct tokenizer *tokenizer;
    int32_t *end_tokens; /* owned */
};

/* All text is content:       tokens ──stream_text, with the stop strings──▶ content
 * The answer is parsed:      tokens ──stream_text──▶ text ──output──▶ reasoning, calls, content
 *                            and of these only the content meets the stop strings. */
struct text_pipe {
    const struct tokenizer *tokenizer;   /* borrowed */
    const struct output_job *output_job; /* borrowed; NULL: all text is content */
    struct stream_text *stream;          /* owned */
    struct output *output;               /* owned; with output_job */
    struct stop_match *stops;            /* owned; with output_job */
    struct buf text;                     /* scratch: what one token adds */
    struct buf kept;                     /* an event that must wait for the next part ... */
    struct output_event kept_event;      /* ... its kind and call */
    bool has_kept, stopped, ended;
    bool called; /* a call was told; what stands behind a stop string is none */
};

static enum err step(void *self, const struct step_seq *seqs, int n_seqs, struct errmsg *why)
{
    struct engine_model *e = self;
    return model_step(e->model, seqs, n_seqs, NULL, why);
}

static enum err embed(void *self, const struct embed_seq *seqs, int n_seqs, struct errmsg *why)
{
    struct engine_model *e = self;
    return model_embed_step(e->model, seqs, n_seqs, why);
}

/* What the model is for: the file's word, unless whoever serves it says otherwise. */
static enum err set_purpose(struct engine *t, const struct model_desc *d,
                            const struct embed_opts *o, struct errmsg *why)
{
    t->embeds = d->embeds || o->pooling != POOL_MODEL;
    if (!t->embeds)
        return o->min_dims ? err_set(why, ERR_INVALID, "dimensions: this model gives no embeddings")
                           : ERR_OK;
    t->pooling = o->pooling == POOL_MODEL ? d->pooling : o->pooling;
    t->min_dims = o->min_dims ? o->min_dims : d->min_dims;
    t->step = NULL;
    t->embed = embed;
    t->max_step_tokens = d->max_step_tokens;
    if (t->pooling == POOL_RANK)
        return err_set(why, ERR_UNSUPPORTED,
                       "this model is a reranker, and there is no endpoint for those; say "
                       "pooling=mean, cls or last to have its embeddings");
    if (t->pooling == POOL_NONE)
        return err_set(why, ERR_UNSUPPORTED,
                       "the file does not say how a text's vector is made of its tokens': say "
                       "pooling=mean, cls or last, as the model's card has it");
    if (t->n_embd > PROTO_MAX_DIMS)
        return err_set(why, ERR_UNSUPPORTED, "vectors of %u dimensions are too large", t->n_embd);
    if (t->min_dims > t->n_embd)
        return err_set(why, ERR_INVALID, "dimensions=%u: the model's vectors have %u", t->min_dims,
                       t->n_embd);
    return ERR_OK;
}

static struct str piece(void *self, int32_t id)
{
    const struct engine_model *e = self;
    return tokenizer_piece(e->tokenizer, id, true);
}

static void text_close(struct text_pipe *p)
{
    if (!p)
        return;
    stream_text_close(p->stream);
    output_close(p->output);
    stop_match_close(p->stops);
    buf_fini(&p->text);
    buf_fini(&p->kept);
    free(p);
}

static enum err text_open(void *self, const struct job_req *r, uint32_t choice,
                          struct text_pipe **out)
{
    (void)choice;
    const struct engine_model *e = self;
    struct text_pipe *p = calloc(1, sizeof(*p));
    if (!p)
        return ERR_NOMEM;
    p->tokenizer = e->tokenizer;
    p->output_job = r->output;
    buf_init(&p->text);
    buf_init(&p->kept);
    enum err err = stream_text_open(&p->stream, e->tokenizer, r->stops, r->output ? 0 : r->n_stops);
    if (!err && r->output)
        err = output_open(&p->output, r->output);
    if (!err && r->output)
        err = stop_match_open(&p->stops, r->stops, r->n_stops);
    if (err) {
        text_close(p);
        return err;
    }
    *out = p;
    return ERR_OK;
}

/* The oldest event; its text is copied, so that it may wait. */
static bool next_event(struct text_pipe *p)
{
    struct output_event ev;
    if (p->has_kept)
        return true;
    if (!output_next(p->output, &ev))
        return false;
    buf_clear(&p->kept);
    buf_put(&p->kept, ev.text.p, ev.text.n);
    p->kept_event = ev;
    p->has_kept = true;
    return true;
}

/* Events of one kind and one call into `out`; what comes behind them waits. */
static enum err next_part(struct text_pipe *p, struct text_out *out)
{
    /* One that shows no text is what it was read as: an end tag of thoughts is thought. */
    const bool thought = output_reasoning_tokens(p->output) > out->reasoning_tokens;
    out->kind = thought ? DELTA_REASONING : output_kind(p->output);
    while (!p->stopped && next_event(p)) {
        const struct output_event *ev = &p->kept_event;
        if (p->kept.failed)
            return ERR_NOMEM;
        if (out->text.n > 0 && (ev->kind != out->kind || ev->tool_index != out->tool_index))
            break;
        struct str text = {p->kept.p, p->kept.n};
        out->kind = ev->kind;
        out->tool_index = ev->tool_index;
        p->has_kept = false;
        p->called |= ev->kind == DELTA_TOOL_NAME;
        if (ev->kind != DELTA_CONTENT) {
            buf_put(&out->text, text.p, text.n);
            continue;
        }
        enum err e = stop_match_feed(p->stops, text, &out->text, &out->stop);
        if (e)
            return e;
        p->stopped = out->stop >= 0;
    }
    out->more = !p->stopped && p->has_kept;
    out->called = p->called;
    out->ends = !out->more && output_over(p->output);
    out->reasoning_tokens = output_reasoning_tokens(p->output);
    return out->text.failed ? ERR_NOMEM : ERR_OK;
}

static bool is_marker(const struct text_pipe *p, int32_t id)
{
    return tokenizer_piece(p->tokenizer, id, false).n == 0 &&
           output_job_marks(p->output_job, tokenizer_piece(p->tokenizer, id, true));
}

static enum err text_feed(struct text_pipe *p, int32_t id, struct text_out *out)
{
    int32_t none;
    out->kind = DELTA_CONTENT;
    out->stop = -1;
    if (!p->output) {
        enum err e = stream_text_feed(p->stream, id, &out->text, &out->stop);
        p->stopped = out->stop >= 0;
        return e;
    }
    buf_clear(&p->text);
    enum err e = is_marker(p, id) ? stream_text_feed_shown(p->stream, id, &p->text, &none)
                                  : stream_text_feed(p->stream, id, &p->text, &none);
    if (!e)
        e = output_feed(p->output, (struct str){p->text.p, p->text.n});
    return e ? e : next_part(p, out);
}

static enum err text_more(struct text_pipe *p, struct text_out *out)
{
    return next_part(p, out);
}

/* First what the decoder and the parser held back, at the end what might have become a stop string:
 * content again, behind whatever was last. */
static enum err text_end(struct text_pipe *p, struct text_out *out)
{
    out->kind = DELTA_CONTENT;
    out->stop = -1;
    out->more = false;
    if (p->stopped)
        return ERR_OK;
    if (!p->output)
        return stream_text_end(p->stream, &out->text);
    enum err e = ERR_OK;
    if (!p->ended) {
        p->ended = true;
        buf_clear(&p->text);
        e = stream_text_end(p->stream, &p->text);
        if (!e && p->text.n > 0)
            e = output_feed(p->output, (struct str){p->text.p, p->text.n});
        if (!e)
            e = output_end(p->output);
    }
    if (!e)
        e = next_part(p, out);
    if (e || p->stopped || out->more)
        return e;
    if (out->text.n > 0 && out->kind != DELTA_CONTENT) {
        out->more = true; /* once again, for the content that was held back */
        return ERR_OK;
    }
    out->kind = DELTA_CONTENT;
    out->tool_index = 0;
    return stop_match_end(p->stops, &out->text);
}

enum err engine_model_open(struct engine_model **out, struct model *m, const struct tokenizer *t,
                           uint32_t max_seqs, uint32_t max_step_tokens,
                           const struct embed_opts *embeddings, struct errmsg *why)
{
    const struct model_desc *d = model_desc(m);
    uint32_t n_vocab = tokenizer_n_vocab(t);
    if (n_vocab > d->n_vocab)
        return err_set(why, ERR_INVALID,
                       "the tokenizer has %u tokens, but the model's embedding has %u rows",
                       n_vocab, d->n_vocab);
    struct engine_model *e = calloc(1, sizeof(*e));
    int32_t *ends = calloc((size_t)n_vocab + 1, sizeof(*ends));
    if (!e || !ends) {
        free(e);
        free(ends);
        return err_set(why, ERR_NOMEM, "out of memory");
    }
    size_t n_ends = 0;
    for (uint32_t id = 0; id < n_vocab; id++)
        if (tokenizer_is_eog(t, (int32_t)id))
            ends[n_ends++] = (int32_t)id;
    e->model = m;
    e->tokenizer = t;
    e->end_tokens = ends;
    e->table = (struct engine){.self = e,
                               .n_vocab = d->n_vocab,
                               .n_embd = d->n_embd,
                               .context = d->context,
                               .kv_blocks = d->kv_blocks,
                               .block_tokens = KV_BLOCK_TOKENS,
                               .window_blocks = d->kv_window_blocks,
                               .ring_blocks = d->kv_ring_blocks,
                               .window = d->kv_window,
                               .chunked = d->kv_chunked,
                               .max_seqs = max_seqs,
                               .max_step_tokens = max_step_tokens,
                               .end_tokens = ends,
                               .n_end_tokens = n_ends,
                               .is_encoder = d->is_encoder,
                               .step = step,
                               .piece = piece,
                               .text_open = text_open,
                               .text_close = text_close,
                               .text_feed = text_feed,
                               .text_more = text_more,
                               .text_end = text_end};
    enum err err = set_purpose(&e->table, d, embeddings, why);
    if (err != ERR_OK) {
        engine_model_close(e);
        return err;
    }
    *out = e;
    return ERR_OK;
}

void engine_model_close(struct engine_model *e)
{
    if (!e)
        return;
    free(e->end_tokens);
    free(e);
}

const struct engine *engine_model_table(const struct engine_model *e)
{
    return &e->table;
}
