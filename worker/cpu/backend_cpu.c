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
    if (b->kv_memory)
        munmap(b->kv_memory, b->kv_bytes);
    matmul_ws_close(b->ws);
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
        e = matmul_ws_open(&b->ws, o->max_rows, o->max_in, pool_threads(b->pool), b->isa, why);
    for (int i = 0; !e && i < o->n_rope; i++) {
        const size_t n = (size_t)o->max_tok * (size_t)(o->rope[i].n_rot / 2);
        b->cos[i] = cpu_alloc(b, n);
        b->sin[i] = cpu_alloc(b, n);
        if (!b->cos[i] || !b->sin[i])
            e = err_set(why, ERR_NOMEM, "no memory for the rotation tables of %d tokens",
                        o->max_tok);
    }
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
        float *v = cpu_alloc(b, (size_t)t->n_in);
        if (!v)
            return err_set(why, ERR_NOMEM, "no memory for a vector of %d values", t->n_in);
        q->dequantize(v, t->data, (size_t)t->n_in);
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

static void cpu_matmul(struct backend *b, const struct product *p, int n_products, const float *x,
                       int ldx, int rows)
{
    struct matmul_out o[3];
    for (int i = 0; i < n_products; i++)
        o[i] = (struct matmul_out){p[i].w->dev, p[i].y, p[i].ldy};
    matmul(b->pool, b->ws, o, n_products, x, ldx, rows);
}

static void cpu_matmul_experts(struct backend *b, const struct tensor *w, const int32_t *ids,
                               int n_used, const float *x, int ldx, bool per_use, float *y, int ldy,
                               int rows)
{
    matmul_experts(b->pool, b->ws, w->dev, w->mat_bytes, w->n_mat, ids, n_used, rows, x, ldx,
                   per_use, y, ldy);
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
    .kv_open = cpu_kv_open,
    .begin = cpu_begin,
    .end = cpu_end,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .matmul = cpu_matmul,
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
