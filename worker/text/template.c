/* template.c - chat templates: the public face of the Jinja engine in jinja/. */
#include "worker/text/template.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/utf8.h"
#include "worker/text/jinja/eval.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/parser.h"
#include "worker/text/jinja/render.h"

struct chat_template {
    struct jj_program program;
};

enum err template_compile(struct chat_template **out, const char *src, size_t n, struct errmsg *why)
{
    if (n > JJ_MAX_SOURCE)
        return err_set(why, ERR_INVALID, "the chat template has %zu bytes, at most %d are allowed",
                       n, JJ_MAX_SOURCE);
    struct chat_template *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(why, ERR_NOMEM, "out of memory for a chat template");
    arena_init(&t->program.arena, JJ_MAX_PROGRAM);
    enum err e = jj_parse(&t->program, src, n, why);
    if (e)
        template_free(t);
    else
        *out = t;
    return e;
}

void template_free(struct chat_template *t)
{
    if (!t)
        return;
    arena_fini(&t->program.arena);
    free(t);
}

/* A message that had to be cut must not end inside a character. */
static void copy_message(struct errmsg *why, const struct errmsg *from)
{
    if (!why)
        return;
    *why = *from;
    size_t n = strlen(why->text);
    why->text[n - utf8_incomplete_tail(why->text, n)] = '\0';
}

enum err template_render(const struct chat_template *t, const struct template_env *env,
                         struct buf *out, struct errmsg *why)
{
    if (!json_is(env->vars, JSON_OBJECT))
        return err_set(why, ERR_INVALID, "the variables of a chat template must be an object");
    struct buf text;
    struct jj_render r = {.program = &t->program, .env = env, .out = &text};
    arena_init(&r.arena, JJ_MAX_MEMORY);
    r.max_steps = env->max_steps && env->max_steps < JJ_MAX_STEPS ? env->max_steps : JJ_MAX_STEPS;
    jj_buf(&text);
    r.piped = jj_none();
    r.context = jj_from_json(&r, env->vars).d;
    r.scope = jj_failed(&r) ? NULL : jj_scope_new(&r, NULL, &t->program.frame);
    if (!jj_failed(&r))
        jj_exec(&r, t->program.body);
    enum err e = r.error.code;
    if (e)
        copy_message(why, &r.error.msg);
    else if (text.n)
        buf_put(out, text.p, text.n);
    if (!e && out->failed)
        e = err_set(why, ERR_NOMEM, "no room for a prompt of %zu bytes", text.n);
    buf_fini(&text);
    arena_fini(&r.arena);
    return e;
}
