/* cmd_render.c - `render TEMPLATE.jinja < case.json`: the prompt text of one conversation. */
#include "worker/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/base/arena.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "worker/text/template.h"

enum { MAX_INPUT = 64 << 20 };

static enum err read_all(FILE *f, const char *name, struct buf *out, struct errmsg *why)
{
    char piece[1 << 16];
    out->limit = MAX_INPUT;
    for (size_t n; (n = fread(piece, 1, sizeof(piece), f)) > 0;)
        buf_put(out, piece, n);
    if (ferror(f))
        return err_set(why, ERR_IO, "%s: cannot be read", name);
    if (out->failed)
        return err_set(why, ERR_RANGE, "%s: longer than %d bytes", name, MAX_INPUT);
    return ERR_OK;
}

/* "2025-02-06T12:34:56", as UTC. */
static enum err parse_now(const struct json *now, int64_t *out, struct errmsg *why)
{
    struct tm tm = {0};
    char text[32] = "";
    *out = clock_wall_ms() / 1000;
    if (!now || json_is(now, JSON_NULL))
        return ERR_OK;
    if (json_is(now, JSON_STRING) && now->s.n < sizeof(text))
        memcpy(text, now->s.p, now->s.n);
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end || *end)
        return err_set(why, ERR_INVALID, "now: must look like \"2025-02-06T12:34:56\"");
    *out = timegm(&tm);
    return ERR_OK;
}

/* The case's fields become the template's variables; those of `extra` stand beside them. */
static enum err build_vars(struct arena *a, const struct json *c, struct json *vars,
                           struct errmsg *why)
{
    static const char *const fields[] = {"messages", "tools", "add_generation_prompt", "bos_token",
                                         "eos_token"};
    const struct json *extra = json_get(c, "extra");
    const struct json *documents = json_get(extra, "documents");
    struct json **end = &vars->list.first;
    *vars = (struct json){.kind = JSON_OBJECT};
    if (extra && !json_is(extra, JSON_OBJECT))
        return err_set(why, ERR_INVALID, "extra: must be an object");
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) + (documents == NULL); i++) {
        bool is_field = i < sizeof(fields) / sizeof(fields[0]);
        const struct json *v = is_field ? json_get(c, fields[i]) : NULL;
        if ((is_field && json_get(extra, fields[i])) || (is_field && !v))
            continue;
        struct json *copy = arena_zalloc(a, sizeof(*copy));
        if (!copy)
            return err_set(why, ERR_NOMEM, "out of memory");
        if (v)
            *copy = *v;
        copy->key = str_of(is_field ? fields[i] : "documents"); /* transformers always defines it */
        copy->next = NULL;
        *end = copy;
        end = &copy->next;
    }
    if (extra)
        *end = extra->list.first;
    for (const struct json *v = vars->list.first; v; v = v->next)
        vars->list.count++;
    return ERR_OK;
}

static enum err render(const char *path, struct buf *source, struct buf *input, struct buf *out,
                       struct errmsg *why)
{
    struct arena a;
    struct json *c, vars;
    struct chat_template *t = NULL;
    struct template_env env = {0};
    arena_init(&a, (size_t)8 * MAX_INPUT);
    enum err e;
    FILE *f = fopen(path, "rb");
    if (!f) {
        arena_fini(&a);
        return err_set(why, ERR_NOT_FOUND, "%s: cannot be opened", path);
    }
    e = read_all(f, path, source, why);
    fclose(f);
    if (!e)
        e = read_all(stdin, "the case on standard input", input, why);
    if (!e)
        e = json_parse(&c, &a, input->p, input->n, NULL, why);
    if (!e && !json_is(c, JSON_OBJECT))
        e = err_set(why, ERR_INVALID, "the case must be a JSON object");
    if (!e)
        e = build_vars(&a, c, &vars, why);
    if (!e)
        e = parse_now(json_get(c, "now"), &env.now_unix, why);
    if (!e)
        e = template_compile(&t, source->p, source->n, why);
    env.vars = &vars;
    if (!e)
        e = template_render(t, &env, out, why);
    template_free(t);
    arena_fini(&a);
    return e;
}

int cmd_render(int argc, char **argv)
{
    struct buf source, input, out;
    struct errmsg why = {""};
    if (argc != 2) {
        fprintf(stderr, "usage: millrace-worker render TEMPLATE.jinja < case.json\n");
        return EXIT_USAGE;
    }
    buf_init(&source);
    buf_init(&input);
    buf_init(&out);
    enum err e = render(argv[1], &source, &input, &out, &why);
    if (e)
        fprintf(stderr, "render: %s\n", why.text[0] ? why.text : err_text(e));
    else if (out.n && (fwrite(out.p, 1, out.n, stdout) != out.n || fflush(stdout) != 0))
        e = ERR_IO;
    buf_fini(&source);
    buf_fini(&input);
    buf_fini(&out);
    return e ? EXIT_FAILED : EXIT_DONE;
}
