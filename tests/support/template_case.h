/* template_case.h - compiling and rendering in tests: one call, and what came of it. */
#ifndef MILLRACE_TESTS_TEMPLATE_CASE_H
#define MILLRACE_TESTS_TEMPLATE_CASE_H

#include <stdio.h>
#include <stdlib.h>

#include "shared/base/json.h"
#include "tests/support/test.h"
#include "worker/text/template.h"

struct rendered {
    enum err err;
    struct errmsg why;
    struct buf text; /* owned; rendered_fini() */
};

enum { CASE_NOW = 1738845296 }; /* 2025-02-06T12:34:56Z, the time of the reference cases */

static inline struct rendered render_vars(struct str source, const struct json *vars)
{
    struct rendered out = {.err = ERR_OK};
    struct chat_template *t = NULL;
    struct template_env env = {.vars = vars, .now_unix = CASE_NOW};
    buf_init(&out.text);
    out.err = template_compile(&t, source.p, source.n, &out.why);
    if (!out.err)
        out.err = template_render(t, &env, &out.text, &out.why);
    template_free(t);
    return out;
}

static inline struct rendered render_text(const char *source, const char *vars)
{
    struct arena a;
    struct json *j;
    struct errmsg why = {""};
    arena_init(&a, 0);
    if (json_parse(&j, &a, vars, strlen(vars), NULL, &why))
        fail_msg("the test's own variables: %s", why.text);
    struct rendered out = render_vars(str_of(source), j);
    arena_fini(&a);
    return out;
}

static inline void rendered_fini(struct rendered *x)
{
    buf_fini(&x->text);
}

/* NULL: there is no such file. */
static inline char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *p = malloc((size_t)size + 1);
    assert_non_null(p);
    *n = fread(p, 1, (size_t)size, f);
    p[*n] = '\0';
    fclose(f);
    return p;
}

/* A published template or its cases, in place; NULL where the reference set is not at hand. The
 * caller frees it. */
static inline char *read_reference_template(struct str file, size_t *n)
{
    const char *dir = getenv("MILLRACE_REFERENCE");
    char path[1024];
    snprintf(path, sizeof path, "%s/template/" STR_FMT, dir ? dir : "../shared/reference",
             STR_ARG(file));
    return read_file(path, n);
}

/* The file's bytes back the tree: free both when done. */
static inline struct json *read_json(struct arena *a, const char *path, char **bytes)
{
    size_t n;
    struct json *j = NULL;
    struct errmsg why = {""};
    *bytes = read_file(path, &n);
    if (*bytes && json_parse(&j, a, *bytes, n, NULL, &why))
        fail_msg("%s: %s", path, why.text);
    return j;
}

#endif
