#include "worker/sched/engine_model.h"

#include "worker/text/stream_text.h"
#include <stdlib.h>

struct engine_model {
    struct engine table;
    struct model *model;
    const struct tokenizer *tokenizer;
    int32_t *end_tokens; /* owned */
};

struct text_pipe {
    struct stream_text *stream; /* owned */
    bool stopped;               /* a stop string ended it: nothing is held back */
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

static enum err text_open(void *self, const struct job_req *r, uint32_t choice,
                          struct text_pipe **out)
{
    (void)choice;
    const struct engine_model *e = self;
    struct text_pipe *p = calloc(1, sizeof(*p));
    if (!p)
        return ERR_NOMEM;
    enum err err = stream_text_open(&p->stream, e->tokenizer, r->stops, r->n_stops);
    if (err != ERR_OK) {
        free(p);
        return err;
    }
    *out = p;
    return ERR_OK;
}

static void text_close(struct text_pipe *p)
{
    if (!p)
        return;
    stream_text_close(p->stream);
    free(p);
}

static enum err text_feed(struct text_pipe *p, int32_t id, struct text_out *out)
{
    out->kind = DELTA_CONTENT;
    out->stop = -1;
    enum err e = stream_text_feed(p->stream, id, &out->text, &out->stop);
    p->stopped = out->stop >= 0;
    return e;
}

static enum err text_end(struct text_pipe *p, struct text_out *out)
{
    out->kind = DELTA_CONTENT;
    out->stop = -1;
    out->more = false;
    return p->stopped ? ERR_OK : stream_text_end(p->stream, &out->text);
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
