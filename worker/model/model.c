/* model.c - opens a model and runs steps: the checks of model.h, around forward.c. */
#include "worker/model/model.h"

#include "worker/model/forward.h"
#include "worker/model/matryoshka.h"
#include "worker/model/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)KV_BLOCK_TOKENS == (int)KV_TOKENS, "one block size");

struct model {
    struct gguf *gguf; /* owned */
    const struct arch *arch;
    struct hparams h;
    struct weights w;
    const struct backend_ops *ops;
    struct backend *backend; /* owned */
    struct forward forward;
    struct arena memory;
    struct model_desc desc;
    struct model_opts opts;

    /* Of the step under way. */
    int32_t *tokens, *pos, *rows; /* [max_step_tokens] */
    struct batch_seq *seqs;       /* [max_seqs] */
    uint32_t *own_blocks;         /* 0, 1, 2 ...: for model_embed() */
    uint32_t *own_ring;           /* 0 .. kv_ring_blocks-1, again and again; NULL: none */
    uint32_t n_own_blocks;        /* of one context */
    float *states;                /* [max_step_tokens, n_embd] and */
    float *pooled;                /* [n_embd] and */
    double *sums;                 /* [n_embd]: for model_embed() */
};

enum { STEP_TOKENS_MAX = 1 << 16, SEQS_MAX = 4096 };

/* --- what the file is ------------------------------------------------------------------------ */

static void describe(struct model *m)
{
    struct model_desc *d = &m->desc;
    gguf_get_str(m->gguf, "general.name", &d->name);
    gguf_get_str(m->gguf, "general.size_label", &d->size_label);
    d->arch = str_of(m->arch->name);
    model_mix_name(d->quant, m->gguf);
    d->n_params = m->w.n_params;
    d->weight_bytes = m->w.bytes;
    d->n_layer = m->h.n_layer;
    d->n_vocab = m->h.n_vocab;
    d->n_embd = m->h.n_embd;
    d->context_train = m->h.n_ctx_train;
    d->pooling = (enum pooling)m->h.pooling;
    d->embeds = m->h.embeds;
    d->max_step_tokens = m->opts.max_step_tokens;
    d->min_dims = matryoshka_min(d->name);
    d->n_labels = m->h.n_labels;
    d->is_encoder = m->arch->encoder;
    m->ops->describe(m->backend, d->device, sizeof d->device);
}

/* --- opening --------------------------------------------------------------------------------- */

const struct backend_ops *backend_find(const char *device)
{
    return strcmp(device, cpu_backend.name) == 0 ? &cpu_backend : NULL;
}

static enum err find_row(struct model *m, struct errmsg *why)
{
    struct str name;
    if (!gguf_get_str(m->gguf, "general.architecture", &name))
        return err_set(why, ERR_INVALID, "%s: the key general.architecture is missing",
                       gguf_path(m->gguf));
    m->arch = arch_find(name);
    if (!m->arch)
        return err_set(why, ERR_UNSUPPORTED, "%s: the architecture '" STR_FMT "' is not supported",
                       gguf_path(m->gguf), (int)(name.n < 64 ? name.n : 64), name.p);
    return ERR_OK;
}

static enum err check_opts(struct model *m, struct errmsg *why)
{
    struct model_opts *o = &m->opts;
    if (!o->device)
        o->device = "cpu";
    m->ops = backend_find(o->device);
    if (!m->ops)
        return err_set(why, ERR_UNSUPPORTED,
                       "device '%s': this program has no such device; 'cpu' is there", o->device);
    if (!o->context)
        o->context = m->h.n_ctx_train;
    if (o->context > m->h.n_ctx_train)
        return err_set(why, ERR_RANGE,
                       "context %u is longer than the %u tokens that the model is made for",
                       o->context, m->h.n_ctx_train);
    if (!o->max_seqs)
        o->max_seqs = 1;
    if (!o->max_step_tokens)
        o->max_step_tokens = 512;
    if (m->arch->encoder && o->max_step_tokens < o->context) /* an input is one step */
        o->max_step_tokens = o->context;
    if (o->max_step_tokens > o->context * (uint64_t)o->max_seqs)
        o->max_step_tokens = (uint32_t)(o->context * (uint64_t)o->max_seqs);
    if (o->max_seqs > SEQS_MAX || o->max_step_tokens > STEP_TOKENS_MAX)
        return err_set(why, ERR_RANGE, "%u sequences and %u tokens per step: at most %d and %d",
                       o->max_seqs, o->max_step_tokens, SEQS_MAX, STEP_TOKENS_MAX);
    if (o->kv_type != QTYPE_F16 && o->kv_type != QTYPE_F32 && o->kv_type != QTYPE_BF16 &&
        o->kv_type != QTYPE_Q8_0)
        return err_set(why, ERR_UNSUPPORTED, "KV cache type: use f16, f32, bf16 or q8_0");
    return ERR_OK;
}

static uint64_t free_memory(void)
{
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib << 10;
}

/* As many blocks as were asked for (who gives a number knows what for), or enough for every slot,
 * as far as memory goes: a fifth stays free for everything else. */
static enum err size_kv(const struct model *m, struct kv_need *n, struct errmsg *why)
{
    const struct model_opts *o = &m->opts;
    const struct kv_ask ask = {.context = o->context,
                               .slots = o->max_seqs,
                               .step_tokens = o->max_step_tokens,
                               .blocks = o->kv_blocks,
                               .type = o->kv_type};
    const uint64_t weights = m->desc.weight_bytes;
    uint64_t room = o->kv_blocks ? 0 : free_memory() / 5 * 4; /* who gives a number knows */
    if (o->memory_bytes && o->memory_bytes <= weights)
        return err_set(why, ERR_NOMEM,
                       "the weights take %.1f MiB, and the model may take %.1f: raise its memory",
                       (double)weights / 1048576, (double)o->memory_bytes / 1048576);
    if (o->memory_bytes && !o->kv_blocks && (!room || room > o->memory_bytes - weights))
        room = o->memory_bytes - weights;
    if (!room)
        return model_kv_need(n, &m->h, m->arch, m->ops, &ask, why);
    return model_kv_fit(n, &m->h, m->arch, m->ops, &ask, room, why);
}

static enum err open_kv(struct model *m, struct errmsg *why)
{
    struct kv_need n;
    const enum err e = size_kv(m, &n, why);
    if (e)
        return e;
    struct model_desc *d = &m->desc;
    d->kv_blocks = n.shape.n_blocks[KV_WHOLE];
    d->kv_window_blocks = n.shape.n_blocks[KV_WINDOW];
    d->kv_ring_blocks = n.ring_blocks;
    d->kv_window = n.window;
    d->kv_chunked = n.chunked;
    d->kv_bytes_per_token = n.token_bytes;
    d->kv_bytes = n.bytes;
    m->own_blocks = arena_array(&m->memory, n.seq_blocks, sizeof *m->own_blocks);
    m->own_ring = n.ring_blocks ? arena_array(&m->memory, n.seq_blocks, sizeof *m->own_ring) : NULL;
    if (!m->own_blocks || (n.ring_blocks && !m->own_ring))
        return err_set(why, ERR_NOMEM, "no memory for a block table");
    m->n_own_blocks = n.seq_blocks;
    for (uint32_t i = 0; i < n.seq_blocks; i++) {
        m->own_blocks[i] = i < d->kv_blocks ? i : 0; /* model_embed() stops short of those */
        if (m->own_ring)
            m->own_ring[i] = i % n.ring_blocks;
    }
    return m->ops->kv_open(m->backend, &n.shape, why);
}

/* The factors that apply to this context (Ding et al. 2024, "LongRoPE": long ones beyond the
 * original context). */
static enum err rotation(struct model *m, struct backend_opts *bo, struct errmsg *why)
{
    const struct hparams *h = &m->h;
    if (m->arch->rope == ROPE_NONE || h->no_rope)
        return ERR_OK;
    const enum slot by_length = m->opts.context > h->rope_ctx ? ROPE_LONG : ROPE_SHORT;
    const enum slot s = model_tensor(&m->w, by_length) ? by_length : ROPE_FREQS;
    const struct tensor *t = model_tensor(&m->w, s);
    float *factors = NULL;
    if (t) {
        factors = arena_array(&m->memory, (size_t)t->n_in, sizeof *factors);
        const enum err e = factors ? tensor_floats(factors, t, arch_slots[s].name, why)
                                   : err_set(why, ERR_NOMEM, "no memory for rotation factors");
        if (e)
            return e;
        for (int i = 0; i < t->n_in; i++)
            if (!(factors[i] > 0))
                return err_set(why, ERR_INVALID, "the tensor %s is not positive at %d",
                               arch_slots[s].name, i);
    }
    bo->n_rope = h->local_rope_base > 0 ? 2 : 1;
    for (int i = 0; i < bo->n_rope; i++) {
        double *freq = arena_array(&m->memory, h->n_rot / 2, sizeof *freq);
        if (!freq)
            return err_set(why, ERR_NOMEM, "no memory for rotation frequencies");
        bo->rope[i] =
            (struct rope){.kind = m->arch->rope, .n_rot = (int)h->n_rot, .inv_freq = freq};
        rope_frequencies(h, m->arch, factors, i == 1, freq, &bo->rope[i].mscale);
        for (uint32_t k = 0; k < h->n_rot / 2; k++)
            if (!isfinite(freq[k]))
                return err_set(why, ERR_INVALID, "the rotation frequency of pair %u is not finite",
                               k);
    }
    return ERR_OK;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static enum err open_device(struct model *m, struct errmsg *why)
{
    const struct hparams *h = &m->h;
    struct backend_opts bo = {.n_threads = m->opts.n_threads,
                              .max_tok = (int)m->opts.max_step_tokens,
                              .max_seqs = (int)m->opts.max_seqs};
    bo.max_rows = larger(larger(bo.max_tok, LOGITS_ROWS),
                         bo.max_tok * (int)(h->n_expert ? h->n_expert_used : 1));
    if (m->arch->attn == ATTN_MLA)
        bo.max_rows = larger(bo.max_rows, (int)h->n_head);
    for (enum slot s = 0; s < SLOTS_; s++)
        for (uint32_t il = 0; il < (slot_of_layer(s) ? h->n_layer : 1); il++) {
            const struct tensor *t =
                slot_of_layer(s) ? layer_tensor(&m->w.layers[il], s) : model_tensor(&m->w, s);
            if (t && !slot_is_vector(s))
                bo.max_in = larger(bo.max_in, t->n_in);
        }
    enum err e = rotation(m, &bo, why);
    if (!e)
        e = m->ops->open(&m->backend, &bo, why);
    return e;
}

static enum err open_buffers(struct model *m, struct errmsg *why)
{
    const size_t t = m->opts.max_step_tokens;
    m->tokens = arena_array(&m->memory, t, sizeof *m->tokens);
    m->pos = arena_array(&m->memory, t, sizeof *m->pos);
    m->rows = arena_array(&m->memory, t, sizeof *m->rows);
    m->seqs = arena_array(&m->memory, m->opts.max_seqs, sizeof *m->seqs);
    m->states = arena_array(&m->memory, t * m->h.n_embd, sizeof *m->states);
    m->sums = arena_array(&m->memory, m->h.n_embd, sizeof *m->sums);
    m->pooled = arena_array(&m->memory, m->h.n_embd, sizeof *m->pooled);
    if (!m->pooled || !m->tokens || !m->pos || !m->rows || !m->seqs || !m->states || !m->sums)
        return err_set(why, ERR_NOMEM, "no memory for steps of %zu tokens", t);
    m->forward = (struct forward){.a = m->arch,
                                  .h = &m->h,
                                  .w = &m->w,
                                  .ops = m->ops,
                                  .b = m->backend,
                                  .rings = m->desc.kv_ring_blocks > 0,
                                  .max_tok = (int)m->opts.max_step_tokens,
                                  .on_layer = m->opts.on_layer,
                                  .user = m->opts.user};
    return forward_open(&m->forward, why);
}

static void progress(const struct model *m, uint32_t permille)
{
    if (m->opts.on_progress)
        m->opts.on_progress(m->opts.user, permille);
}

enum err model_open(struct model **out, const char *path, const struct model_opts *opts,
                    struct errmsg *why)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(why, ERR_NOMEM, "no memory for a model");
    arena_init(&m->memory, 0);
    m->opts = *opts;
    progress(m, 0);
    enum err e = gguf_open(&m->gguf, path, why);
    if (!e)
        e = find_row(m, why);
    if (!e)
        e = hparams_read(&m->h, m->arch, m->gguf, why);
    if (!e)
        e = check_opts(m, why);
    if (!e)
        e = weights_find(&m->w, &m->memory, m->arch, &m->h, m->gguf, why);
    if (!e)
        e = weights_derive(&m->w, &m->memory, m->arch, &m->h, why);
    if (!e)
        e = open_device(m, why);
    progress(m, 100);
    if (!e)
        e = weights_bind(&m->w, &m->h, m->ops, m->backend, why);
    progress(m, 900);
    if (!e)
        describe(m);
    if (!e)
        e = open_kv(m, why);
    if (!e)
        e = open_buffers(m, why);
    if (e) {
        model_close(m);
        return e;
    }
    m->desc.context = m->opts.context;
    progress(m, 1000);
    *out = m;
    return ERR_OK;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    if (m->backend)
        m->ops->close(m->backend);
    gguf_close(m->gguf);
    arena_fini(&m->memory);
    free(m);
}

const struct model_desc *model_desc(const struct model *m)
{
    return &m->desc;
}

const struct gguf *model_gguf(const struct model *m)
{
    return m->gguf;
}

/* --- steps ----------------------------------------------------------------------------------- */

static enum err check_tokens(const struct model *m, const int32_t *tokens, uint32_t n,
                             struct errmsg *why)
{
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= m->h.n_vocab)
            return err_set(why, ERR_INVALID, "token %d at %u: the vocabulary has the ids 0 to %u",
                           tokens[i], i, m->h.n_vocab - 1);
    return ERR_OK;
}

static enum err check_seq(const struct model *m, const struct step_seq *s, struct errmsg *why)
{
    if (s->n_tok < 1 || s->n_tok > m->opts.max_step_tokens || s->n_logits > s->n_tok ||
        (s->n_logits && !s->logits))
        return err_set(why, ERR_INVALID, "a sequence of %u tokens with %u rows of logits", s->n_tok,
                       s->n_logits);
    if (s->pos > m->opts.context || s->n_tok > m->opts.context - s->pos)
        return err_set(why, ERR_CONTEXT_LENGTH, "%u tokens at position %u: the context is %u",
                       s->n_tok, s->pos, m->opts.context);
    const uint32_t blocks = (s->pos + s->n_tok + KV_TOKENS - 1) / KV_TOKENS;
    if (s->n_blocks < blocks)
        return err_set(why, ERR_INVALID, "%u KV blocks for %u positions", s->n_blocks,
                       s->pos + s->n_tok);
    for (uint32_t i = 0; i < blocks; i++)
        if (s->blocks[i] >= m->desc.kv_blocks)
            return err_set(why, ERR_INVALID, "KV block %u: there are %u", s->blocks[i],
                           m->desc.kv_blocks);
    if (m->desc.kv_ring_blocks) {
        if (!s->window_blocks)
            return err_set(why, ERR_INVALID, "no window blocks for %u positions",
                           s->pos + s->n_tok);
        for (uint32_t i = kv_first_seen(m->desc.kv_window, m->desc.kv_chunked, s->pos) / KV_TOKENS;
             i < blocks; i++)
            if (s->window_blocks[i] >= m->desc.kv_window_blocks)
                return err_set(why, ERR_INVALID, "KV window block %u: there are %u",
                               s->window_blocks[i], m->desc.kv_window_blocks);
    }
    return check_tokens(m, s->tokens, s->n_tok, why);
}

/* Adds one sequence to the batch; false: it doesn't fit. */
static bool add_seq(struct model *m, struct batch *b, const int32_t *tokens, uint32_t n_tok,
                    uint32_t pos, const uint32_t *blocks, const uint32_t *window_blocks)
{
    if (n_tok > m->opts.max_step_tokens - (uint32_t)b->n_tok)
        return false;
    m->seqs[b->n_seq++] = (struct batch_seq){b->n_tok, (int)n_tok, (int)pos, blocks, window_blocks};
    memcpy(m->tokens + b->n_tok, tokens, n_tok * sizeof *tokens);
    for (uint32_t i = 0; i < n_tok; i++)
        m->pos[b->n_tok + (int)i] = (int32_t)(pos + i);
    b->n_tok += (int)n_tok;
    return true;
}

static struct batch new_batch(const struct model *m)
{
    return (struct batch){.tokens = m->tokens, .pos = m->pos, .seqs = m->seqs};
}

/* Rows are computed LOGITS_ROWS at a time, whatever sequences they belong to: the output matrix is
 * read once for all. */
static void deliver_logits(struct model *m, const struct step_seq *s, int n_rows)
{
    uint32_t of_seq = 0;
    for (int at = 0; at < n_rows; at += LOGITS_ROWS) {
        const int n = n_rows - at < LOGITS_ROWS ? n_rows - at : LOGITS_ROWS;
        forward_logits(&m->forward, at, n);
        for (int i = 0; i < n; i++) {
            for (; of_seq == s->n_logits; s++)
                of_seq = 0;
            forward_read_logits(&m->forward, i, s->logits + (size_t)of_seq++ * m->h.n_vocab);
        }
    }
}

enum err model_step(struct model *m, const struct step_seq *seqs, int n_seqs,
                    const volatile int *stop, struct errmsg *why)
{
    if (m->arch->encoder)
        return err_set(why, ERR_UNSUPPORTED, "%s models give embeddings, no text", m->arch->name);
    if (n_seqs < 1 || (uint32_t)n_seqs > m->opts.max_seqs)
        return err_set(why, ERR_INVALID, "%d sequences in a step of 1 to %u", n_seqs,
                       m->opts.max_seqs);
    struct batch b = new_batch(m);
    int n_rows = 0;
    for (int i = 0; i < n_seqs; i++) {
        const struct step_seq *s = &seqs[i];
        const enum err e = check_seq(m, s, why);
        if (e)
            return e;
        if (!add_seq(m, &b, s->tokens, s->n_tok, s->pos, s->blocks, s->window_blocks))
            return err_set(why, ERR_INVALID, "more than %u tokens in a step",
                           m->opts.max_step_tokens);
        for (uint32_t r = s->n_tok - s->n_logits; r < s->n_tok; r++)
            m->rows[n_rows++] = m->seqs[i].first + (int)r;
    }
    const enum err e = forward_layers(&m->forward, &b, m->rows, n_rows, stop);
    if (e)
        return err_set(why, e, "the step was cancelled");
    deliver_logits(m, seqs, n_rows);
    return ERR_OK;
}

/* --- embeddings ------------------------------------------------------------------------------ */

static enum err check_embed(const struct model *m, const struct embed_seq *s, struct errmsg *why)
{
    const struct step_seq as_step = {.tokens = s->tokens,
                                     .n_tok = s->n_tok,
                                     .pos = s->pos,
                                     .blocks = s->blocks,
                                     .n_blocks = s->n_blocks,
                                     .window_blocks = s->window_blocks};
    if (m->arch->encoder && (s->pos || !s->last))
        return err_set(why, ERR_INVALID,
                       "an encoder sees an input whole: %u tokens at position %u are a piece",
                       s->n_tok, s->pos);
    return check_seq(m, &as_step, why);
}

enum err model_embed_step(struct model *m, const struct embed_seq *seqs, int n_seqs,
                          struct errmsg *why)
{
    if (n_seqs < 1 || (uint32_t)n_seqs > m->opts.max_seqs)
        return err_set(why, ERR_INVALID, "%d inputs in a step of 1 to %u", n_seqs,
                       m->opts.max_seqs);
    struct batch b = new_batch(m);
    int n_rows = 0;
    for (int i = 0; i < n_seqs; i++) {
        const struct embed_seq *s = &seqs[i];
        uint32_t first;
        const enum err e = check_embed(m, s, why);
        if (e)
            return e;
        if (!add_seq(m, &b, s->tokens, s->n_tok, s->pos, s->blocks, s->window_blocks))
            return err_set(why, ERR_INVALID, "more than %u tokens in a step",
                           m->opts.max_step_tokens);
        const uint32_t wanted = pooled_wants(s->pooled, s->n_tok, s->last, &first);
        for (uint32_t r = first; r < first + wanted; r++)
            m->rows[n_rows++] = m->seqs[i].first + (int)r;
    }
    const enum err e = forward_layers(&m->forward, &b, m->rows, n_rows, NULL);
    if (e)
        return err_set(why, e, "the step was cancelled");
    if (n_rows)
        forward_states(&m->forward, n_rows, m->states);
    const float *rows = m->states;
    for (int i = 0; i < n_seqs; i++) {
        const struct embed_seq *s = &seqs[i];
        uint32_t first;
        const uint32_t wanted = pooled_wants(s->pooled, s->n_tok, s->last, &first);
        pooled_add(s->pooled, rows, s->n_tok, s->last);
        rows += (size_t)wanted * m->h.n_embd;
    }
    return ERR_OK;
}

enum err model_embed(struct model *m, const int32_t *tokens, uint32_t n_tok, enum pooling pooling,
                     bool normalize, float *out, struct errmsg *why)
{
    if (pooling == POOL_MODEL)
        pooling = m->desc.pooling;
    if (pooling < POOL_NONE || pooling > POOL_RANK)
        return err_set(why, ERR_INVALID, "pooling %d is unknown", (int)pooling);
    if (pooling == POOL_RANK && !m->desc.n_labels)
        return err_set(why, ERR_UNSUPPORTED, "the file has no reranker's head (cls.output)");
    if (n_tok < 1)
        return err_set(why, ERR_INVALID, "no tokens to embed");
    if (n_tok > m->opts.context || n_tok > (uint64_t)m->desc.kv_blocks * KV_TOKENS)
        return err_set(why, ERR_CONTEXT_LENGTH,
                       "%u tokens: the context is %u, the KV cache has room for %llu", n_tok,
                       m->opts.context, (unsigned long long)m->desc.kv_blocks * KV_TOKENS);
    enum err e = check_tokens(m, tokens, n_tok, why);
    const uint32_t n = m->h.n_embd, most = m->opts.max_step_tokens;
    struct pooled p = {
        .kind = pooling, .n = n, .sums = m->sums, .vector = pooling == POOL_RANK ? m->pooled : out};
    for (uint32_t at = 0, part; !e && at < n_tok; at += part) {
        part = n_tok - at < most ? n_tok - at : most;
        const struct embed_seq s = {.tokens = tokens + at,
                                    .n_tok = part,
                                    .pos = at,
                                    .blocks = m->own_blocks,
                                    .n_blocks = m->n_own_blocks,
                                    .window_blocks = m->own_ring,
                                    .last = at + part == n_tok,
                                    .pooled = &p};
        e = model_embed_step(m, &s, 1, why);
    }
    if (e)
        return e;
    if (pooling == POOL_RANK)
        forward_rank(&m->forward, m->pooled, out);
    else if (normalize)
        for (uint32_t t = 0; t < (pooling == POOL_NONE ? n_tok : 1); t++)
            pooled_normalize(out + (size_t)t * n, n);
    return ERR_OK;
}
