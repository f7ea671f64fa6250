/* ops_moe.c - routing of tokens to experts and the weighted sum of what they answer. */
#include "worker/cpu/backend_cpu.h"

#include <math.h>
#include <string.h>

enum { EXPERTS_MAX = 1024 };

/* Index of the best of n scores that is allowed and not yet taken; ties go to the smaller index. */
static int best_of(const float *score, const bool *out, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!out[i] && (best < 0 || score[i] > score[best]))
            best = i;
    return best;
}

/* Marks the experts outside the n_group_used best groups as out. A group is worth its best expert
 * under softmax (DeepSeek-V2), the sum of its two best under sigmoid (DeepSeek-V3). */
static void close_groups(const struct route *r, const float *score, bool *out)
{
    const int per = r->n_expert / r->n_group;
    float worth[EXPERTS_MAX];
    bool taken[EXPERTS_MAX] = {false};
    for (int g = 0; g < r->n_group; g++) {
        float a = -INFINITY, b = -INFINITY;
        for (int i = g * per; i < (g + 1) * per; i++)
            if (score[i] > a) {
                b = a;
                a = score[i];
            } else if (score[i] > b) {
                b = score[i];
            }
        worth[g] = per > 1 && r->gating == GATE_SIGMOID ? a + b : a;
    }
    for (int i = 0; i < r->n_group_used; i++)
        taken[best_of(worth, taken, r->n_group)] = true;
    for (int i = 0; i < r->n_expert; i++)
        out[i] = !taken[i / per];
}

static void route_row(struct backend *b, const struct route *r, int t)
{
    const int n = r->n_expert;
    const float *x = r->logits + (size_t)t * (size_t)n;
    float p[EXPERTS_MAX] = {0}, score[EXPERTS_MAX];
    if (r->gating == GATE_SOFTMAX) {
        float top = x[0], sum = 0;
        for (int i = 1; i < n; i++)
            top = x[i] > top ? x[i] : top;
        for (int i = 0; i < n; i++)
            p[i] = x[i] - top;
        b->ops->exp(p, p, n);
        for (int i = 0; i < n; i++)
            sum += p[i];
        for (int i = 0; i < n; i++)
            p[i] /= sum;
    } else if (r->gating == GATE_SIGMOID) {
        for (int i = 0; i < n; i++)
            p[i] = -x[i];
        b->ops->exp(p, p, n);
        for (int i = 0; i < n; i++)
            p[i] = 1 / (1 + p[i]);
    } else {
        memcpy(p, x, (size_t)n * sizeof *p);
    }
    for (int i = 0; i < n; i++)
        score[i] = r->bias ? p[i] + r->bias[i] : p[i];

    bool out[EXPERTS_MAX] = {false};
    if (r->n_group > 1)
        close_groups(r, score, out);
    int32_t *ids = r->ids + (size_t)t * (size_t)r->n_used;
    float *w = r->weights + (size_t)t * (size_t)r->n_used;
    float sum = 0;
    for (int u = 0; u < r->n_used; u++) {
        const int i = best_of(score, out, n);
        out[i] = true;
        ids[u] = i;
        w[u] = p[i];
    }
    if (r->gating == GATE_SOFTMAX_CHOSEN) {
        for (int u = r->n_used; u-- > 0;)
            w[u] -= w[0];
        b->ops->exp(w, w, r->n_used);
    }
    for (int u = 0; u < r->n_used; u++)
        sum += w[u];
    const float f = r->renorm || r->gating == GATE_SOFTMAX_CHOSEN ? r->scale / sum : r->scale;
    for (int u = 0; u < r->n_used; u++)
        w[u] *= f;
}

static void route_rows(struct backend *b, const void *op, int begin, int end)
{
    for (int t = begin; t < end; t++)
        route_row(b, op, t);
}

void cpu_route(struct backend *b, const struct route *r)
{
    run_ranges(b, route_rows, r, r->rows, (size_t)(r->n_expert * (r->n_used + 4)));
}

static void combine_rows(struct backend *b, const void *op, int begin, int end)
{
    const struct combine *c = op;
    const size_t n = (size_t)c->n;
    for (size_t t = (size_t)begin; t < (size_t)end; t++) {
        float *y = c->y + t * n;
        memset(y, 0, n * sizeof *y);
        for (int u = 0; u < c->n_used; u++) {
            const size_t row = t * (size_t)c->n_used + (size_t)u;
            const float w = c->weights ? c->weights[row] : 1;
            b->ops->add_scaled(y, c->d + row * n, w, c->n);
            if (c->bias)
                b->ops->add_scaled(y, c->bias + (size_t)c->ids[row] * n, w, c->n);
        }
        if (!c->shared)
            continue;
        float f = 1;
        if (c->gate) {
            f = -c->gate[t];
            b->ops->exp(&f, &f, 1);
            f = 1 / (1 + f);
        }
        b->ops->add_scaled(y, c->shared + t * n, f, c->n);
    }
}

void cpu_combine(struct backend *b, const struct combine *c)
{
    run_ranges(b, combine_rows, c, c->rows, (size_t)c->n * (size_t)(c->n_used + 1));
}
