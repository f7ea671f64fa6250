/* memory.c - see memory.h. */
#include "worker/plan/memory.h"

#include "worker/cpu/matmul.h"
#include "worker/model/forward.h"
#include "worker/text/tokenizer.h"

/* Measured on workers of models that are next to nothing (gcc 12, glibc 2.36, Linux 6). */
enum {
    PROCESS_BYTES = 4700 * 1000, /* program, libraries, rings, main stack */
    THREAD_BYTES = 60 * 1000,    /* a compute thread's stack */
    KV_TABLE_BYTES = 8, /* per position of the pool: its token id, and a share of a block */
};

uint32_t load_step_tokens(const struct subject *s, const struct load *l)
{
    uint64_t step = l->step_tokens ? l->step_tokens : model_default_step(l->slots);
    if (s->arch->encoder && step < l->context) /* an input is one step */
        step = l->context;
    const uint64_t most = (uint64_t)l->context * l->slots;
    return (uint32_t)(step < most ? step : most);
}

static enum err need_of(struct kv_need *out, const struct subject *s, const struct load *l,
                        struct errmsg *why)
{
    return model_kv_need(out, &s->h, s->arch, backend_find("cpu"),
                         &(struct kv_ask){.context = l->context,
                                          .slots = l->slots,
                                          .step_tokens = load_step_tokens(s, l),
                                          .type = l->kv_type},
                         why);
}

/* Buffers of a pass, rotation tables, and what model.c keeps per row. */
static uint64_t step_bytes(const struct subject *s, uint64_t t)
{
    const uint64_t rope = s->arch->rope == ROPE_NONE || s->h.no_rope ? 0
                          : s->h.local_rope_base > 0                 ? 2
                                                                     : 1;
    return forward_bytes(s->arch, &s->h, (uint32_t)t) + rope * t * s->h.n_rot * sizeof(float) +
           t * (s->h.n_embd + 3) * sizeof(float);
}

enum err memory_of_worker(struct memory *out, const struct subject *s, const struct load *l,
                          struct errmsg *why)
{
    struct memory m = {.weights = s->weight_bytes, .copies = s->copied_bytes};
    const enum err e = need_of(&m.need, s, l, why);
    if (e)
        return e;
    const uint64_t t = load_step_tokens(s, l), vocab = s->h.n_vocab;
    m.kv = m.need.bytes +
           (uint64_t)m.need.shape.n_blocks[KV_WHOLE] * KV_TOKENS * (uint64_t)KV_TABLE_BYTES;
    m.step =
        step_bytes(s, t) + matmul_ws_bytes(t * s->quant_columns, t * s->float_columns, l->threads);
    /* x, w and the kept ids of the sampler, counts of what was seen, the tokenizer's ends */
    m.sampling = s->h.embeds ? (uint64_t)l->slots * s->h.n_embd * sizeof(double)
                             : ((uint64_t)l->slots + 5) * vocab * sizeof(float);
    m.tokenizer = tokenizer_bytes(vocab, s->n_merges, str_of(s->pre)) + s->metadata_bytes;
    m.process = PROCESS_BYTES + (uint64_t)l->threads * THREAD_BYTES;
    m.total = m.weights + m.copies + m.kv + m.step + m.sampling + m.tokenizer + m.process;
    *out = m;
    return ERR_OK;
}

/* --- GPUs ------------------------------------------------------------------------------------ */

struct dealer {
    struct gpu_memory *out;
    uint64_t room; /* of a GPU, without CUDA's share */
    uint64_t step;
    uint64_t weights, kv; /* on the GPU being filled */
    bool fits;
};

static void close_gpu(struct dealer *d)
{
    const uint64_t used = d->weights + d->kv + d->step + CUDA_BYTES;
    struct gpu_memory *o = d->out;
    o->gpus++;
    o->total += used;
    if (used > o->fullest) {
        o->fullest = used;
        o->weights = d->weights;
        o->kv = d->kv;
        o->step = d->step;
    }
    d->weights = d->kv = 0;
}

/* One thing that can't be cut, onto this GPU or the next. */
static void deal(struct dealer *d, uint64_t weights, uint64_t kv)
{
    if (d->weights + d->kv && d->weights + d->kv + weights + kv + d->step > d->room)
        close_gpu(d);
    d->weights += weights;
    d->kv += kv;
    d->fits = d->fits && d->weights + d->kv + d->step <= d->room;
}

enum err memory_of_gpus(struct gpu_memory *out, const struct subject *s, const struct load *l,
                        uint64_t gpu_bytes, struct errmsg *why)
{
    struct gpu_memory m = {0};
    const enum err e = need_of(&m.need, s, l, why);
    if (e)
        return e;
    const uint64_t usable = gpu_bytes - gpu_bytes / GPU_RESERVE;
    struct dealer d = {.out = &m, .fits = true};
    d.room = usable > CUDA_BYTES ? usable - CUDA_BYTES : 0;
    d.step = step_bytes(s, load_step_tokens(s, l));
    uint64_t kv[KV_KINDS];
    for (int k = 0; k < KV_KINDS; k++) {
        const uint64_t layers = (uint64_t)m.need.shape.n_layer[k];
        kv[k] = layers ? m.need.block_bytes[k] * m.need.shape.n_blocks[k] / layers : 0;
    }
    deal(&d, s->first_bytes, 0);
    for (uint32_t il = 0; il < s->h.n_layer; il++) {
        const bool ring = m.need.ring_blocks && layer_window(&s->h, s->arch, il) > 0;
        deal(&d, s->layer_bytes[il], s->arch->encoder && il ? 0 : kv[ring ? KV_WINDOW : KV_WHOLE]);
    }
    /* On one GPU a tied embedding lies there already. */
    deal(&d, s->last_bytes - (m.gpus == 0 ? s->tied_bytes : 0), 0);
    close_gpu(&d);
    if (!d.fits)
        m.gpus = 0;
    *out = m;
    return ERR_OK;
}
