#include "worker/model/pooling.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {[POOL_NONE] = "none",
                                    [POOL_MEAN] = "mean",
                                    [POOL_CLS] = "cls",
                                    [POOL_LAST] = "last",
                                    [POOL_RANK] = "rank"};

bool pooling_by_name(const char *name, enum pooling *out)
{
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum pooling)i;
            return true;
        }
    return false;
}

const char *pooling_name(enum pooling kind)
{
    return kind >= POOL_NONE && kind <= POOL_RANK ? names[kind] : "unknown";
}

uint32_t pooled_wants(const struct pooled *p, uint32_t n_tok, bool last, uint32_t *first)
{
    *first = 0;
    switch (p->kind) {
    case POOL_CLS:
    case POOL_RANK:
        return p->n_rows == 0 ? 1 : 0;
    case POOL_LAST:
        *first = n_tok - 1;
        return last ? 1 : 0;
    case POOL_NONE:
    case POOL_MEAN:
    case POOL_MODEL:
        break;
    }
    return n_tok;
}

void pooled_add(struct pooled *p, const float *rows, uint32_t n_tok, bool last)
{
    uint32_t first, n = pooled_wants(p, n_tok, last, &first);
    if (p->kind == POOL_MEAN) {
        for (uint32_t i = 0; i < p->n; i++) {
            double sum = p->n_rows ? p->sums[i] : 0;
            for (uint32_t t = 0; t < n; t++)
                sum += (double)rows[(size_t)t * p->n + i];
            p->sums[i] = sum;
            if (last)
                p->vector[i] = (float)(sum / ((double)p->n_rows + n));
        }
    } else if (n) {
        float *to = p->vector + (p->kind == POOL_NONE ? (size_t)p->n_rows * p->n : 0);
        memcpy(to, rows, (size_t)n * p->n * sizeof *rows);
    }
    p->n_rows += n_tok;
}

void pooled_normalize(float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    const double f = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)(x[i] * f);
}
