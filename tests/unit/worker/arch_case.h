/* arch_case.h - one model of the reference data (tests/data/arch, or reference/arch of the full
 * set) with what it must give. For test programs of worker/model; fails the running test when a
 * file is not as described. */
#ifndef MILLRACE_TESTS_ARCH_CASE_H
#define MILLRACE_TESTS_ARCH_CASE_H

#include "shared/base/json.h"
#include "tests/support/test.h"
#include "worker/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct arch_case {
    char dir[256], name[64], arch[32], weights[16];
    bool decoder, optional;
};

struct expectation {
    struct arena mem;
    int32_t *tokens, *greedy;
    uint32_t n_tokens, n_greedy, context;
    uint32_t rows, columns;
    const float *first;             /* `logits`, or `unpooled` */
    const float *exact;             /* the better values where there are any, else first */
    const float *mean, *cls, *rank; /* encoders; NULL where not given; rank is one number */
    double std;                     /* of the numbers compared with */
};

static inline void *case_file(struct arena *mem, const char *dir, const char *name, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: not readable; run from the repository's root", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = arena_alloc(mem, *n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, f), *n);
    p[*n] = 0;
    fclose(f);
    return p;
}

static inline const struct json *case_json(struct arena *mem, const char *dir, const char *name)
{
    size_t n;
    const char *text = case_file(mem, dir, name, &n);
    struct json *root;
    struct errmsg why = {0};
    if (json_parse(&root, mem, text, n, NULL, &why) != ERR_OK)
        fail_msg("%s/%s: %s", dir, name, why.text);
    return root;
}

static inline void case_text(char *out, size_t n, const struct json *v)
{
    assert_true(json_is(v, JSON_STRING));
    snprintf(out, n, STR_FMT, STR_ARG(v->s));
}

/* The cases of DIR/index.json; returns how many (at most max). */
static inline int cases_list(const char *dir, struct arch_case *out, int max)
{
    struct arena mem;
    arena_init(&mem, 0);
    const struct json *index = case_json(&mem, dir, "index.json");
    int n = 0;
    for (const struct json *e = index->list.first; e && n < max; e = e->next) {
        struct arch_case *c = &out[n++];
        snprintf(c->dir, sizeof c->dir, "%s", dir);
        case_text(c->name, sizeof c->name, json_get(e, "name"));
        case_text(c->arch, sizeof c->arch, json_get(e, "arch"));
        case_text(c->weights, sizeof c->weights, json_get(e, "weights"));
        c->decoder = str_is(json_get(e, "kind")->s, "decoder");
        c->optional = json_get(e, "optional")->b;
    }
    arena_fini(&mem);
    return n;
}

static inline int32_t *case_ids(struct arena *mem, const struct json *list, uint32_t *n)
{
    assert_true(json_is(list, JSON_ARRAY));
    int32_t *ids = arena_array(mem, list->list.count, sizeof *ids);
    assert_non_null(ids);
    *n = 0;
    for (const struct json *v = list->list.first; v; v = v->next)
        ids[(*n)++] = (int32_t)v->i;
    return ids;
}

static inline const float *case_floats(struct expectation *e, const struct arch_case *c,
                                       const struct json *file, size_t n)
{
    char name[128];
    size_t bytes;
    if (!file)
        return NULL;
    case_text(name, sizeof name, file);
    const float *p = case_file(&e->mem, c->dir, name, &bytes);
    assert_int_equal(bytes, n * sizeof *p);
    return p;
}

static inline double case_std(const float *x, size_t n)
{
    double sum = 0, sq = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    for (size_t i = 0; i < n; i++)
        sq += ((double)x[i] - sum / (double)n) * ((double)x[i] - sum / (double)n);
    return sqrt(sq / (double)n);
}

static inline void expectation_open(struct expectation *e, const struct arch_case *c)
{
    char name[128];
    memset(e, 0, sizeof *e);
    arena_init(&e->mem, 0);
    snprintf(name, sizeof name, "%s.json", c->name);
    const struct json *j = case_json(&e->mem, c->dir, name), *ctx = json_get(j, "n_ctx");
    e->tokens = case_ids(&e->mem, json_get(j, "tokens"), &e->n_tokens);
    e->context = ctx ? (uint32_t)ctx->i : 0;
    if (c->decoder) {
        const struct json *l = json_get(j, "logits"), *x = json_get(j, "logits_exact");
        e->rows = (uint32_t)json_at(json_get(l, "shape"), 0)->i;
        e->columns = (uint32_t)json_at(json_get(l, "shape"), 1)->i;
        e->greedy = case_ids(&e->mem, json_get(j, "greedy"), &e->n_greedy);
        e->first = case_floats(e, c, json_get(l, "file"), (size_t)e->rows * e->columns);
        e->exact =
            x ? case_floats(e, c, json_get(x, "file"), (size_t)e->rows * e->columns) : e->first;
    } else {
        const struct json *all = json_get(j, "embeddings"), *u = json_get(all, "unpooled"),
                          *exact = json_get(u, "exact_file");
        e->rows = e->n_tokens;
        e->columns = (uint32_t)json_get(j, "n_embd")->i;
        e->first = case_floats(e, c, json_get(u, "file"), (size_t)e->rows * e->columns);
        e->exact = exact ? case_floats(e, c, exact, (size_t)e->rows * e->columns) : e->first;
        const char *const pools[] = {"mean", "cls", "rank"};
        const float **const to[] = {&e->mean, &e->cls, &e->rank};
        for (size_t i = 0; i < COUNT(pools); i++) {
            const struct json *p = json_get(all, pools[i]), *better = json_get(p, "exact_file");
            if (p)
                *to[i] = case_floats(e, c, better ? better : json_get(p, "file"),
                                     i == 2 ? 1 : e->columns);
        }
    }
    assert_int_equal(e->rows, e->n_tokens);
    e->std = case_std(e->exact, (size_t)e->rows * e->columns);
}

static inline void expectation_close(struct expectation *e)
{
    arena_fini(&e->mem);
}

/* Opens the case's model; the test fails with the message when that fails. */
static inline struct model *case_model(const struct arch_case *c, const struct model_opts *o)
{
    char path[512];
    struct model *m = NULL;
    struct errmsg why = {0};
    snprintf(path, sizeof path, "%s/%s.gguf", c->dir, c->name);
    if (model_open(&m, path, o, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return m;
}

/* Largest |a-b| over n numbers; infinite when one is NaN. */
static inline double case_max_diff(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= most))
            most = isnan(d) ? INFINITY : d;
    }
    return most;
}

static inline double case_cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* The smallest cosine of any row. */
static inline double case_row_cosine(const float *a, const float *b, size_t rows, size_t columns)
{
    double least = 1;
    for (size_t r = 0; r < rows; r++) {
        const double c = case_cosine(a + r * columns, b + r * columns, columns);
        if (!(c >= least))
            least = c;
    }
    return least;
}

#endif
