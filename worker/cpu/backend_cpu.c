/* backend_cpu.c - the CPU backend: threads, memory, weights as they lie in the file, and the table
 * of operations. */
#include "worker/cpu/backend_cpu.h"

#include "shared/base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sched.h>

_Static_assert(KV_TOKENS == 32, "the loops hold a block's positions in two vectors of 16");

const struct cpu_ops *cpu_ops_for(enum cpu_isa isa)
{
    if (isa == CPU_ISA_C)
        return &cpu_ops_c;
    return isa == CPU_ISA_AVX2 ? &cpu_ops_avx2 : &cpu_ops_avx512;
}

static int cores_available(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > 512 ? 512 : n;
}

static float *cpu_alloc(struct backend *b, size_t n)
{
    size_t bytes;
    /* 64 more, so that rows start on a cache line */
    if (!mul_size(&bytes, n, sizeof(float)) || !add_size(&bytes, bytes, 64))
        return NULL;
    char *p = arena_zalloc(&b->memory, bytes);
    return p ? (float *)(void *)(((uintptr_t)p + 63) & ~(uintptr_t)63) : NULL;
}

static void cpu_close(struct backend *b)
{
    if (!b)
        return;
    for (int i = 0; i < KV_KINDS; i++)
        if (b->kv_pools[i].memory)
            munmap(b->kv_pools[i].memory, b->kv_pools[i].bytes);
    matmul_ws_close(b->ws);
    pool_close(b->solo);
    pool_close(b->pool);
    arena_fini(&b->memory);
    free(b);
}

static enum err cpu_open(struct backend **out, const struct backend_opts *o, struct errmsg *why)
{
    struct backend *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(why, ERR_NOMEM, "no memory for the cpu backend");
    arena_init(&b->memory, 0);
    b->opts = *o;
    b->isa = cpu_isa_best();
    b->ops = cpu_ops_for(b->isa);
    enum err e = pool_open(&b->pool, o->n_threads ? o->n_threads : cores_available(), why);
    if (!e)
        e = pool_open(&b->solo, 1, why);
    if (!e)
        e = matmul_ws_open(&b->ws, o->max_rows, o->max_in, pool_threads(b->pool), b->isa, why);
    for (int i = 0; !e && i < o->n_rope; i++) {
        const size_t n = (size_t)o->max_tok * (size_t)(o->rope[i].n_rot / 2);
        b->cos[i] = cpu_alloc(b, n);
        b->sin[i] = cpu_alloc(b, n);
        if (!b->cos[i] || !b->sin[i])
            e = err_set(why, ERR_NOMEM, "no memory for the rotation tables of %d tokens",
                        o->max_tok);
    }
    b->head_ids = arena_array(&b->memory, (size_t)o->max_rows, sizeof *b->head_ids);
    if (!e && !b->head_ids)
        e = err_set(why, ERR_NOMEM, "no memory for %d rows", o->max_rows);
    if (e) {
        cpu_close(b);
        return e;
    }
    *out = b;
    return ERR_OK;
}

static void cpu_describe(const struct backend *b, char *text, size_t n)
{
    snprintf(text, n, "cpu, %d threads, %s", pool_threads(b->pool), cpu_isa_name(b->isa));
}

static void cpu_upload(struct backend *b, float *dst, const float *src, size_t n)
{
    (void)b;
    memcpy(dst, src, n * sizeof *dst);
}

static enum err cpu_bind(struct backend *b, struct tensor *t, bool is_vector, struct errmsg *why)
{
    const struct qtype_info *q = qtype_info(t->type);
    if (is_vector) {
        const size_t n = (size_t)t->n_in * (size_t)t->n_out;
        float *v = cpu_alloc(b, n);
        if (!v)
            return err_set(why, ERR_NOMEM, "no memory for a vector of %zu values", n);
        q->dequantize(v, t->data, n);
        t->vec = v;
        return ERR_OK;
    }
    struct weight *w = arena_zalloc(&b->memory, sizeof *w);
    if (!w)
        return err_set(why, ERR_NOMEM, "no memory for a weight's descriptor");
    w->type = t->type;
    w->n_in = t->n_in;
    w->n_out = t->n_out;
    w->data = t->data;
    w->row_bytes = (size_t)t->n_in / q->block_elems * q->block_bytes;
    t->dev = w;
    return ERR_OK;
}

static void cpu_begin(struct backend *b, const struct batch *batch)
{
    b->batch = batch;
    cpu_rope_tables(b);
}

static void cpu_end(struct backend *b)
{
    b->batch = NULL;
}

/* Work that takes one core less than this is not shared: waking the others saves little of it, and
 * costs a time slice of the scheduler whenever they are busy with something else. Estimated from
 * what one core reads (about 14 GB/s; a weight is about a byte) and multiplies (about 150 per ns in
 * 8 bits). */
enum { SOLO_NS = 30000, READ_PER_NS = 14, PRODUCTS_PER_NS = 150 };

static struct pool *pool_for(const struct backend *b, size_t weights, int rows)
{
    const size_t ns = weights / READ_PER_NS + weights * (size_t)rows / PRODUCTS_PER_NS;
    return ns <= SOLO_NS ? b->solo : b->pool;
}

static void cpu_matmul(struct backend *b, const struct product *p, int n_products, const float *x,
                       int ldx, int rows)
{
    struct matmul_out o[3];
    size_t weights = 0;
    for (int i = 0; i < n_products; i++) {
        o[i] = (struct matmul_out){p[i].w->dev, p[i].y, p[i].ldy};
        weights += (size_t)p[i].w->n_in * (size_t)p[i].w->n_out;
    }
    matmul(pool_for(b, weights, rows), b->ws, o, n_products, x, ldx, rows);
}

static void cpu_matmul_experts(struct backend *b, const struct tensor *w, const int32_t *ids,
                               int n_used, const float *x, int ldx, bool per_use, float *y, int ldy,
                               int rows)
{
    const size_t weights = (size_t)n_used * (size_t)w->n_in * (size_t)w->n_out;
    matmul_experts(pool_for(b, weights, rows), b->ws, w->dev, w->mat_bytes, w->n_mat, ids, n_used,
                   rows, x, ldx, per_use, y, ldy);
}

/* A head's matrix is an expert that every token uses: one (token, head) pair is one row with one
 * expert. */
static void cpu_heads(struct backend *b, const struct heads *a)
{
    const struct tensor *w = a->w;
    const int n_head = w->n_mat;
    if (b->head_ids_of != n_head) {
        for (int i = 0; i < b->opts.max_rows; i++)
            b->head_ids[i] = i % n_head;
        b->head_ids_of = n_head;
    }
    const int most = b->opts.max_rows / n_head; /* tokens at a time: at least 1 */
    for (int t = 0; t < a->rows; t += most) {
        const int rows = (a->rows - t < most ? a->rows - t : most) * n_head;
        const float *x = a->x + (size_t)t * (size_t)n_head * (size_t)a->ldx;
        float *y = a->y + (size_t)t * (size_t)n_head * (size_t)a->ldy;
        matmul_experts(b->pool, b->ws, w->dev, w->mat_bytes, n_head, b->head_ids, 1, rows, x,
                       a->ldx, 1, y, a->ldy);
        for (int i = 0; a->n_copy && i < rows; i++)
            memcpy(y + (size_t)i * (size_t)a->ldy + w->n_out,
                   x + (size_t)i * (size_t)a->ldx + w->n_in, (size_t)a->n_copy * sizeof *y);
    }
}

static void cpu_gather(struct backend *b, float *y, const float *x, const int32_t *row_of, int rows,
                       int n)
{
    (void)b;
    for (int i = 0; i < rows; i++)
        memcpy(y + (size_t)i * (size_t)n, x + (size_t)row_of[i] * (size_t)n, (size_t)n * sizeof *y);
}

const struct backend_ops cpu_backend = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .alloc = cpu_alloc,
    .upload = cpu_upload,
    .download = cpu_upload,
    .bind = cpu_bind,
    .kv_block_bytes = cpu_kv_block_bytes,
    .kv_open = cpu_kv_open,
    .begin = cpu_begin,
    .end = cpu_end,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .matmul = cpu_matmul,
    .heads = cpu_heads,
    .qkv = cpu_qkv,
    .attention = cpu_attention,
    .residual = cpu_residual,
    .activation = cpu_activation,
    .logits = cpu_logits,
    .gather = cpu_gather,
    .route = cpu_route,
    .matmul_experts = cpu_matmul_experts,
    .combine = cpu_combine,
};
