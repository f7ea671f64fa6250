/* ops_kv.c - the paged KV cache of the CPU backend: its layout, rows into it, attention out of it.
 */
#include "shared/base/checked.h"
#include "worker/cpu/backend_cpu.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

_Static_assert(ATTN_ROWS >= 8, "scratch holds the rows of any instruction set");

static size_t elem_bytes(enum qtype type)
{
    return type == QTYPE_F32 ? 4 : type == QTYPE_Q8_0 ? 1 : 2;
}

static size_t up64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

void kv_layout_init(struct kv_layout *l, const struct kv_pool_shape *s)
{
    const size_t e = elem_bytes(s->type), f16 = sizeof(uint16_t);
    *l = (struct kv_layout){.type = s->type,
                            .head_k = s->head_k,
                            .head_v = s->head_v,
                            .n_head_kv = s->n_head_kv,
                            .v_in_k = s->v_in_k,
                            .pad_v = (s->head_v + KV_PAD - 1) / KV_PAD * KV_PAD};
    size_t at = up64((size_t)l->head_k * KV_TOKENS * e);
    l->groups_k = (s->head_k + KV_GROUP - 1) / KV_GROUP;
    l->groups_v = (l->pad_v + KV_GROUP - 1) / KV_GROUP;
    l->k_scales = at;
    if (s->type == QTYPE_Q8_0)
        at += up64((size_t)l->groups_k * KV_TOKENS * f16);
    l->v_off = at;
    if (!s->v_in_k)
        at += up64((size_t)l->pad_v * KV_TOKENS * e);
    l->v_scales = at;
    if (!s->v_in_k && s->type == QTYPE_Q8_0)
        at += up64((size_t)l->groups_v * KV_TOKENS * f16);
    l->head_bytes = at;
    l->block_bytes = at * (size_t)s->n_head_kv;
}

size_t cpu_kv_block_bytes(const struct kv_pool_shape *s, enum kv_kind kind)
{
    struct kv_layout l;
    kv_layout_init(&l, s);
    return l.block_bytes * (size_t)s->n_layer[kind];
}

static enum err open_pool(struct kv_pool *pool, const struct kv_layout *l, int n_layer,
                          uint32_t n_blocks, struct errmsg *why)
{
    if (!n_layer)
        return ERR_OK;
    if (!mul_size(&pool->layer_bytes, l->block_bytes, n_blocks) ||
        !mul_size(&pool->bytes, pool->layer_bytes, (size_t)n_layer) || pool->bytes == 0)
        return err_set(why, ERR_RANGE, "KV cache: %u blocks of %d layers are too many", n_blocks,
                       n_layer);
    void *p = mmap(NULL, pool->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(
            why, ERR_NOMEM,
            "KV cache: no memory for %zu MiB; lower the context, the slots or the KV type",
            pool->bytes >> 20);
    pool->memory = p;
    return ERR_OK;
}

enum err cpu_kv_open(struct backend *b, const struct kv_pool_shape *s, struct errmsg *why)
{
    struct kv_layout *l = &b->kv;
    if (s->head_k > HEAD_MAX || s->head_v > HEAD_MAX)
        return err_set(why, ERR_UNSUPPORTED, "heads of %d values; this backend takes up to %d",
                       s->head_k, HEAD_MAX);
    if (s->type != QTYPE_F32 && s->type != QTYPE_F16 && s->type != QTYPE_BF16 &&
        s->type != QTYPE_Q8_0)
        return err_set(why, ERR_UNSUPPORTED, "KV cache type: use f16, f32, bf16 or q8_0");
    kv_layout_init(l, s);
    for (int i = 0; i < KV_KINDS; i++) {
        const enum err e = open_pool(&b->kv_pools[i], l, s->n_layer[i], s->n_blocks[i], why);
        if (e)
            return e;
    }
    const int n = pool_threads(b->pool);
    b->scratch = arena_array(&b->memory, (size_t)n, sizeof *b->scratch);
    for (int i = 0; b->scratch && i < n; i++) {
        struct attn_scratch *w = &b->scratch[i];
        const size_t k = (size_t)l->head_k * KV_TOKENS, v = (size_t)l->pad_v * KV_TOKENS,
                     sc = 8 * KV_TOKENS, acc = (size_t)ATTN_ROWS * (size_t)l->pad_v,
                     sum = (size_t)ATTN_ROWS * 16;
        /* a line of 64 bytes apart, so that threads don't share one */
        float *m =
            arena_alloc(&b->memory, (k + v + sc + acc + sum + ATTN_ROWS + 32) * sizeof(float));
        if (!m) {
            b->scratch = NULL;
            break;
        }
        m = (float *)(((uintptr_t)m + 63) & ~(uintptr_t)63);
        *w = (struct attn_scratch){
            m, m + k, m + k + v, m + k + v + sc, m + k + v + sc + acc, m + k + v + sc + acc + sum};
    }
    return b->scratch ? ERR_OK : err_set(why, ERR_NOMEM, "no memory for attention scratch");
}

/* --- K and V into the cache ------------------------------------------------------------------ */

static char *kv_head(const struct backend *b, const struct qkv *a, uint32_t block, int head)
{
    const struct kv_pool *pool = &b->kv_pools[a->kind];
    return pool->memory + (size_t)a->layer * pool->layer_bytes + block * b->kv.block_bytes +
           (size_t)head * b->kv.head_bytes;
}

static const uint32_t *blocks_of(const struct batch_seq *s, enum kv_kind kind)
{
    return kind == KV_WINDOW ? s->window_blocks : s->blocks;
}

/* n values z at dst[i*step], quantized to 8 bits in groups; group g's scale at d[g*d_step]. */
static void store_q8(int8_t *dst, int step, uint16_t *d, int d_step, const float *z, int n)
{
    for (int g = 0; g * KV_GROUP < n; g++) {
        const int from = g * KV_GROUP, to = from + KV_GROUP < n ? from + KV_GROUP : n;
        float top = 0;
        for (int i = from; i < to; i++)
            top = fabsf(z[i]) > top ? fabsf(z[i]) : top;
        const uint16_t h = f32_to_f16(top / 127);
        const float f = f16_to_f32(h);
        for (int i = from; i < to; i++) {
            float q = f > 0 ? rintf(z[i] / f) : 0;
            dst[i * step] = (int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
        }
        d[g * d_step] = h;
    }
}

/* n values z at dst[i*step] in a 2-byte or 4-byte type. */
static void store_plain(const struct backend *b, void *dst, int step, const float *z, int n)
{
    if (b->kv.type == QTYPE_F32) {
        float *y = dst;
        for (int i = 0; i < n; i++)
            y[i * step] = z[i];
        return;
    }
    uint16_t *y = dst, half[HEAD_MAX];
    if (b->kv.type == QTYPE_F16)
        b->ops->convert_f16(half, z, n);
    else
        for (int i = 0; i < n; i++)
            half[i] = f32_to_bf16(z[i]);
    for (int i = 0; i < n; i++)
        y[i * step] = half[i];
}

static void store_k(const struct backend *b, char *head, int slot, const float *z)
{
    const struct kv_layout *l = &b->kv;
    char *at = head + (size_t)slot * elem_bytes(l->type);
    if (l->type == QTYPE_Q8_0)
        store_q8((int8_t *)at, KV_TOKENS, (uint16_t *)(void *)(head + l->k_scales) + slot,
                 KV_TOKENS, z, l->head_k);
    else
        store_plain(b, at, KV_TOKENS, z, l->head_k);
}

static void store_v(const struct backend *b, char *head, int slot, const float *z)
{
    const struct kv_layout *l = &b->kv;
    char *at = head + l->v_off + (size_t)slot * (size_t)l->pad_v * elem_bytes(l->type);
    if (l->type == QTYPE_Q8_0)
        store_q8((int8_t *)at, 1, (uint16_t *)(void *)(head + l->v_scales) + slot * l->groups_v, 1,
                 z, l->head_v);
    else
        store_plain(b, at, 1, z, l->head_v);
}

static void add_to(float *z, const float *bias, int n)
{
    for (int i = 0; i < n; i++)
        z[i] += bias[i];
}

static void turn(const struct backend *b, const struct qkv *a, float *z, int row)
{
    if (a->rope < 0)
        return;
    const struct rope *r = &b->opts.rope[a->rope];
    const size_t at = (size_t)row * (size_t)(r->n_rot / 2);
    b->ops->rotate(z + a->rope_from, b->cos[a->rope] + at, b->sin[a->rope] + at, r->n_rot, r->kind);
}

static void query_head(struct backend *b, const struct qkv *a, int row, int h)
{
    float *z = a->q + (size_t)row * (size_t)a->ldq + (size_t)h * (size_t)a->head_k;
    if (a->bias_q)
        add_to(z, a->bias_q + h * a->head_k, a->head_k);
    if (a->norm_q.w) {
        struct norm w = a->norm_q;
        w.w += h * a->norm_q_stride;
        b->ops->norm(z, z, &w, a->norm_n);
    }
    turn(b, a, z, row);
    if (a->warm_scale != 0) {
        const int turns = (b->batch->pos[row] + 1) / a->warm_floor;
        b->ops->scale(z, 1 + a->warm_scale * logf(1 + (float)turns), a->head_k);
    }
}

static void key_head(struct backend *b, const struct qkv *a, char *head, int slot, int row, int h)
{
    float z[HEAD_MAX];
    memcpy(z, a->k + (size_t)row * (size_t)a->ldk + (size_t)h * (size_t)a->head_k,
           (size_t)a->head_k * sizeof *z);
    if (a->bias_k)
        add_to(z, a->bias_k + h * a->head_k, a->head_k);
    if (a->norm_k.w) {
        struct norm w = a->norm_k;
        w.w += h * a->norm_k_stride;
        b->ops->norm(z, z, &w, a->norm_n);
    }
    turn(b, a, z, row);
    store_k(b, head, slot, z);
}

static void value_head(struct backend *b, const struct qkv *a, char *head, int slot, int row, int h)
{
    float z[HEAD_MAX];
    memcpy(z, a->v + (size_t)row * (size_t)a->ldv + (size_t)h * (size_t)a->head_v,
           (size_t)a->head_v * sizeof *z);
    if (a->bias_v)
        add_to(z, a->bias_v + h * a->head_v, a->head_v);
    store_v(b, head, slot, z);
}

/* Items are heads (queries, then KV), so that two threads never write the same line of a K tile. */
static void qkv_heads(struct backend *b, const void *op, int begin, int end)
{
    const struct qkv *a = op;
    for (int s = 0; s < b->batch->n_seq; s++) {
        const struct batch_seq *q = &b->batch->seqs[s];
        for (int i = begin; i < end; i++)
            for (int t = 0; t < q->n_tok; t++) {
                const int row = q->first + t, pos = q->pos + t, slot = pos % KV_TOKENS,
                          g = i - a->n_head;
                if (i < a->n_head) {
                    query_head(b, a, row, i);
                    continue;
                }
                char *head = kv_head(b, a, blocks_of(q, a->kind)[pos / KV_TOKENS], g);
                key_head(b, a, head, slot, row, g);
                if (a->v)
                    value_head(b, a, head, slot, row, g);
            }
    }
}

void cpu_qkv(struct backend *b, const struct qkv *a)
{
    const int n = a->n_head + a->n_head_kv;
    run_ranges(b, qkv_heads, a, n, (size_t)a->head_k * (size_t)b->batch->n_tok * 2);
}

/* --- attention ------------------------------------------------------------------------------- */

/* The work is cut into (sequence, KV head, group of its query heads, tile of queries); threads take
 * the next one. */
enum { ALONE_PRODUCTS = 64 << 10 }; /* take one thread about as long as waking the others */

struct attn_run {
    struct backend *b;
    const struct attention *a;
    int n_h, n_groups, n_q; /* query heads per task, groups per KV head, queries per task */
    int n_tasks;
    atomic_int next;
};

static int tiles(const struct attn_run *r, const struct batch_seq *s)
{
    return (s->n_tok + r->n_q - 1) / r->n_q;
}

static void attend_task(const struct attn_run *r, int task, int ith)
{
    const struct backend *b = r->b;
    const struct attention *a = r->a;
    const struct kv_layout *l = &b->kv;
    const struct kv_pool *pool = &b->kv_pools[a->kind];
    const struct batch_seq *s = b->batch->seqs;
    const int per_tile = l->n_head_kv * r->n_groups, n_rep = a->n_head / l->n_head_kv;
    while (task >= tiles(r, s) * per_tile)
        task -= tiles(r, s++) * per_tile;
    /* the last queries see most: first, so that no thread is left alone with one */
    const int tile = tiles(r, s) - 1 - task / per_tile, g = task % per_tile / r->n_groups,
              group = task % r->n_groups;
    const int i = tile * r->n_q, h = g * n_rep + group * r->n_h, left = n_rep - group * r->n_h;
    const size_t row = (size_t)(s->first + i);
    struct attn_task t = {
        .kv = l,
        .base = pool->memory + (size_t)a->layer * pool->layer_bytes + (size_t)g * l->head_bytes,
        .blocks = blocks_of(s, a->kind),
        .q = a->q + row * (size_t)a->ldq + (size_t)h * (size_t)l->head_k,
        .out = a->out + row * (size_t)a->ldo + (size_t)h * (size_t)l->head_v,
        .ldq = a->ldq,
        .ldo = a->ldo,
        .n_q = s->n_tok - i < r->n_q ? s->n_tok - i : r->n_q,
        .n_h = left < r->n_h ? left : r->n_h,
        .pos = s->pos + i,
        .n_kv = a->causal ? 0 : s->pos + s->n_tok,
        .window = a->window,
        .chunked = a->chunked,
        .scale = a->scale,
        .softcap = a->softcap,
        .sinks = a->sinks ? a->sinks + h : NULL,
    };
    b->ops->attend(&t, &b->scratch[ith]);
}

static void attend_thread(void *arg, int ith, int nth)
{
    struct attn_run *r = arg;
    (void)nth;
    for (int i; (i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed)) < r->n_tasks;)
        attend_task(r, i, ith);
}

void cpu_attention(struct backend *b, const struct attention *a)
{
    const int n_rep = a->n_head / b->kv.n_head_kv;
    struct attn_run r = {.b = b, .a = a, .n_h = n_rep < ATTN_ROWS ? n_rep : ATTN_ROWS};
    r.n_groups = (n_rep + r.n_h - 1) / r.n_h;
    r.n_q = ATTN_ROWS / r.n_h;
    atomic_init(&r.next, 0);
    size_t pairs = 0; /* of a query and a position that it may see */
    for (int s = 0; s < b->batch->n_seq; s++) {
        const struct batch_seq *q = &b->batch->seqs[s];
        r.n_tasks += tiles(&r, q) * b->kv.n_head_kv * r.n_groups;
        pairs += (size_t)q->n_tok * (size_t)(q->pos + q->n_tok);
    }
    if (pairs * (size_t)a->n_head * (size_t)(b->kv.head_k + b->kv.head_v) < ALONE_PRODUCTS)
        attend_thread(&r, 0, 1);
    else
        pool_run(b->pool, attend_thread, &r);
}
