/* ops_rows.c - the operations of the CPU backend that work row by row: embedding, norms, residuals,
 * activations. */
#include "worker/cpu/backend_cpu.h"

#include <math.h>
#include <string.h>

/* Waking the pool costs about as much as this many floats on one thread. */
enum { ALONE_FLOATS = 16 << 10 };

struct ranges {
    struct backend *b;
    range_fn fn;
    const void *op;
    int n;
};

static void ranges_thread(void *arg, int ith, int nth)
{
    const struct ranges *r = arg;
    const int begin = (int)((int64_t)r->n * ith / nth),
              end = (int)((int64_t)r->n * (ith + 1) / nth);
    if (begin < end)
        r->fn(r->b, r->op, begin, end);
}

void run_ranges(struct backend *b, range_fn fn, const void *op, int n, size_t cost)
{
    struct ranges r = {b, fn, op, n};
    if (n == 1 || (size_t)n * cost <= ALONE_FLOATS)
        fn(b, op, 0, n);
    else
        pool_run(b->pool, ranges_thread, &r);
}

/* --- rotation tables: once per step, for all layers ------------------------------------------ */

static void rope_rows(struct backend *b, const void *op, int begin, int end)
{
    (void)op;
    for (int k = 0; k < b->opts.n_rope; k++) {
        const struct rope *r = &b->opts.rope[k];
        const int half = r->n_rot / 2;
        for (int t = begin; t < end; t++)
            for (int i = 0; i < half; i++) {
                /* in double: at position 100000 a float angle is off by 0.004 */
                const double angle = b->batch->pos[t] * r->inv_freq[i];
                b->cos[k][(size_t)t * (size_t)half + (size_t)i] = (float)cos(angle) * r->mscale;
                b->sin[k][(size_t)t * (size_t)half + (size_t)i] = (float)sin(angle) * r->mscale;
            }
    }
}

void cpu_rope_tables(struct backend *b)
{
    if (b->opts.n_rope)
        run_ranges(b, rope_rows, NULL, b->batch->n_tok, (size_t)b->opts.rope[0].n_rot * 32);
}

/* --- embedding ------------------------------------------------------------------------------- */

struct embed_op {
    float *x;
    const struct weight *table, *pos_table;
    const struct weight *types;
    float scale;
    int n;
};

static void weight_row(float *y, const struct weight *w, int row)
{
    qtype_info(w->type)->dequantize(y, (const char *)w->data + (size_t)row * w->row_bytes,
                                    (size_t)w->n_in);
}

static void add_weight_row(struct backend *b, float *y, const struct weight *w, int row)
{
    float part[256]; /* a multiple of every block size */
    const struct qtype_info *q = qtype_info(w->type);
    const char *src = (const char *)w->data + (size_t)row * w->row_bytes;
    for (int i = 0; i < w->n_in; i += 256) {
        const int n = w->n_in - i < 256 ? w->n_in - i : 256;
        q->dequantize(part, src + (size_t)i / q->block_elems * q->block_bytes, (size_t)n);
        b->ops->add(y + i, part, n);
    }
}

static void embed_rows(struct backend *b, const void *op, int begin, int end)
{
    const struct embed_op *e = op;
    for (int t = begin; t < end; t++) {
        float *y = e->x + (size_t)t * (size_t)e->n;
        weight_row(y, e->table, b->batch->tokens[t]);
        if (e->scale != 1)
            b->ops->scale(y, e->scale, e->n);
        if (e->types)
            add_weight_row(b, y, e->types, 0);
        if (e->pos_table)
            add_weight_row(b, y, e->pos_table, b->batch->pos[t]);
    }
}

void cpu_embed(struct backend *b, float *x, const struct tensor *table, float scale,
               const struct tensor *pos_table, const struct tensor *types, int n)
{
    struct embed_op e = {
        x, table->dev, pos_table ? pos_table->dev : NULL, types ? types->dev : NULL, scale, n};
    run_ranges(b, embed_rows, &e, b->batch->n_tok, (size_t)n);
}

/* --- norms and residuals --------------------------------------------------------------------- */

struct norm_op {
    float *y;
    const float *x;
    const struct norm *w;
    int ldy, ldx, n;
};

static void norm_rows(struct backend *b, const void *op, int begin, int end)
{
    const struct norm_op *o = op;
    for (int t = begin; t < end; t++)
        b->ops->norm(o->y + (size_t)t * (size_t)o->ldy, o->x + (size_t)t * (size_t)o->ldx, o->w,
                     o->n);
}

void cpu_norm(struct backend *b, float *y, int ldy, const float *x, int ldx, const struct norm *w,
              int n, int rows)
{
    struct norm_op o = {y, x, w, ldy, ldx, n};
    run_ranges(b, norm_rows, &o, rows, (size_t)n);
}

static void residual_rows(struct backend *b, const void *op, int begin, int end)
{
    const struct residual *r = op;
    const struct cpu_ops *k = b->ops;
    const size_t n = (size_t)r->n;
    for (size_t t = (size_t)begin; t < (size_t)end; t++) {
        float *x = r->x + t * n;
        if (r->y) {
            float *y = (float *)r->y + t * n; /* y is dead after this: worked on in place */
            if (r->bias)
                k->add(y, r->bias, r->n);
            if (r->post.w)
                k->norm(y, y, &r->post, r->n);
            if (r->scale == 1)
                k->add(x, y, r->n);
            else
                k->add_scaled(x, y, r->scale, r->n);
        }
        if (!r->h)
            continue;
        if (r->next.w)
            k->norm(r->h + t * n, x, &r->next, r->n);
        else if (r->h != r->x)
            memcpy(r->h + t * n, x, n * sizeof *x);
    }
}

void cpu_residual(struct backend *b, const struct residual *r)
{
    run_ranges(b, residual_rows, r, r->rows, (size_t)r->n * 2);
}

/* --- activations and logits: cut across columns too, for the sake of single rows ------------- */

enum { PART = 1024 }; /* columns per piece */

static int parts(int n)
{
    return (n + PART - 1) / PART;
}

static void activation_parts(struct backend *b, const void *op, int begin, int end)
{
    const struct activation *a = op;
    const int per_row = parts(a->n);
    for (int i = begin; i < end; i++) {
        const int t = i / per_row, c = i % per_row * PART, n = a->n - c < PART ? a->n - c : PART;
        const size_t row = (size_t)t,
                     of = a->ids ? (size_t)a->ids[t] * (size_t)a->n + (size_t)c : (size_t)c;
        float *gate = a->gate ? (float *)a->gate + row * (size_t)a->ld_gate + c : NULL,
              *up = (float *)a->up + row * (size_t)a->ld_up + c; /* dead after this */
        if (a->row_scale) {
            b->ops->scale(up, a->row_scale[t], n);
            if (gate)
                b->ops->scale(gate, a->row_scale[t], n);
        }
        b->ops->activate(a->f + row * (size_t)a->ld_f + c, gate, up,
                         a->bias_gate ? a->bias_gate + of : NULL,
                         a->bias_up ? a->bias_up + of : NULL, a->kind, n);
    }
}

void cpu_activation(struct backend *b, const struct activation *a)
{
    run_ranges(b, activation_parts, a, a->rows * parts(a->n), PART * 2);
}

struct logits_op {
    float *y;
    const float *bias;
    float scale, softcap;
    int n;
};

static void logits_parts(struct backend *b, const void *op, int begin, int end)
{
    const struct logits_op *o = op;
    const int per_row = parts(o->n);
    for (int i = begin; i < end; i++) {
        const int c = i % per_row * PART, n = o->n - c < PART ? o->n - c : PART;
        float *y = o->y + (size_t)(i / per_row) * (size_t)o->n + c;
        if (o->bias)
            b->ops->add(y, o->bias + c, n);
        if (o->scale != 1)
            b->ops->scale(y, o->scale, n);
        if (o->softcap != 0)
            b->ops->softcap(y, o->softcap, n);
    }
}

void cpu_logits(struct backend *b, float *y, const float *bias, float scale, float softcap, int n,
                int rows)
{
    struct logits_op o = {y, bias, scale, softcap, n};
    if (bias || scale != 1 || softcap != 0)
        run_ranges(b, logits_parts, &o, rows * parts(n), PART * 2);
}
