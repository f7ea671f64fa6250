/* names.c - scopes, decided before anything runs.
 *
 * Variables are looked up at run time through the chain of scopes, which agrees with Jinja2 but for
 * one rule: in
 *     {% for m in messages %}{{ x }}{% endfor %}{% set x = 1 %}
 * x is a variable of the outer scope from its first line on, because it is assigned there and
 * nothing read it before in that scope itself; so the loop prints nothing even if the caller passed
 * an x. This file walks the tree as jinja2/idtracking.py does and notes such names in the frame of
 * their scope (struct jj_frame).
 *
 * One `symbols` per scope: for each name it mentions, how it would be loaded on entry. An if
 * statement is three copies of its scope's symbols, merged afterwards. */
#include "worker/text/jinja/names.h"

#include "worker/text/jinja/names_int.h"

/* --- the names a macro body leaves to its caller (find_undeclared) ------------------- */

struct wanted {
    uint32_t id[3];
    bool mentioned[3], assigned[3];
};

static void want_body(struct checker *c, struct wanted *w, const struct jj_node *n);

static void want_expr(struct checker *c, struct wanted *w, const struct jj_node *n)
{
    struct symbols mentioned = {0};
    names_see_expr(c, &mentioned, n);
    for (int i = 0; i < 3; i++)
        w->mentioned[i] |= !w->assigned[i] && sym_find(c, &mentioned, w->id[i]);
}

static void want_target(struct checker *c, struct wanted *w, const struct jj_node *n)
{
    struct symbols assigned = {0};
    for (; n; n = n->next)
        names_see_target(c, &assigned, n, true);
    for (int i = 0; i < 3; i++) {
        const struct sym *e = sym_find(c, &assigned, w->id[i]);
        w->assigned[i] |= e && e->stored;
    }
}

static void want_macro(struct checker *c, struct wanted *w, const struct jj_macro *m)
{
    for (size_t i = 0; i < m->n_params; i++)
        for (int k = 0; k < 3; k++)
            w->assigned[k] |= m->params[i].id == w->id[k];
    for (size_t i = 0; i < m->n_params; i++)
        want_expr(c, w, m->params[i].def);
    want_body(c, w, m->body);
}

static void want_node(struct checker *c, struct wanted *w, const struct jj_node *n)
{
    switch ((enum jj_node_kind)n->kind) {
    case S_PRINT:
        for (const struct jj_node *e = n->list.first; e; e = e->next)
            want_expr(c, w, e);
        break;
    case S_IF:
        want_expr(c, w, n->cond.test);
        want_body(c, w, n->cond.body);
        want_body(c, w, n->cond.elifs);
        want_body(c, w, n->cond.orelse);
        break;
    case S_FOR:
        want_target(c, w, n->loop.target);
        want_expr(c, w, n->loop.iter);
        want_body(c, w, n->loop.body);
        want_body(c, w, n->loop.orelse);
        want_expr(c, w, n->loop.test);
        break;
    case S_SET:
        want_target(c, w, n->a);
        want_expr(c, w, n->b);
        break;
    case S_MACRO:
        want_macro(c, w, n->macro);
        break;
    case S_CALL_BLOCK:
        want_expr(c, w, n->macro->call);
        want_macro(c, w, n->macro);
        break;
    case S_SET_BLOCK:
    case S_FILTER_BLOCK:
    case S_WITH:
    case S_GENERATION:
        if (n->kind == S_SET_BLOCK || n->kind == S_WITH)
            want_target(c, w, n->scoped.a);
        for (const struct jj_node *e = n->scoped.b; e; e = n->kind == S_WITH ? e->next : NULL)
            want_expr(c, w, e);
        want_body(c, w, n->scoped.body);
        break;
    default:
        break;
    }
}

static void want_body(struct checker *c, struct wanted *w, const struct jj_node *n)
{
    for (; n && names_work(c, 1); n = n->next)
        want_node(c, w, n);
}

/* --- scopes inside scopes ------------------------------------------------------------ */

struct place {
    bool soft;      /* inside an if: an unknown filter is an error only when it is reached */
    bool in_loop;   /* break is allowed */
    bool below_for; /* anywhere below a for statement: "loop" must not be assigned */
};

static void check_body(struct checker *c, struct symbols *s, struct jj_node *n, struct place at);

static void check_expr(struct checker *c, const struct jj_node *n, bool soft);

static void check_list(struct checker *c, const struct jj_node *n, bool soft)
{
    for (; n && !c->err; n = n->next)
        check_expr(c, n, soft);
}

static void check_call(struct checker *c, const struct jj_node *n, bool soft)
{
    bool filter = n->kind == N_FILTER, test = n->kind == N_TEST;
    if (((filter && !n->call.filter) || (test && !n->call.test)) && !soft)
        names_fail(c, ERR_INVALID, n->line, "there is no %s named '" STR_FMT "'",
                   filter ? "filter" : "test", (int)n->call.name->n, n->call.name->p);
    check_expr(c, n->call.of, soft);
    check_list(c, n->call.args.pos, soft);
    check_list(c, n->call.args.kw, soft);
    check_expr(c, n->call.args.star, soft);
    check_expr(c, n->call.args.star2, soft);
}

static void check_expr(struct checker *c, const struct jj_node *n, bool soft)
{
    if (!n || !names_work(c, 1))
        return;
    switch ((enum jj_node_kind)n->kind) {
    case N_CONST:
    case N_NAME:
    case N_NSREF:
        break;
    case N_TUPLE:
    case N_LIST:
    case N_DICT:
    case N_CONCAT:
    case N_COMPARE:
        check_list(c, n->list.first, soft);
        break;
    case N_GETATTR:
    case N_KEYWORD:
        check_expr(c, n->get.of, soft);
        break;
    case N_CALL:
    case N_FILTER:
    case N_TEST:
        check_call(c, n, soft);
        break;
    default:
        soft |= n->kind == N_COND;
        check_expr(c, n->a, soft);
        check_expr(c, n->b, soft);
        check_expr(c, n->c, soft);
        check_expr(c, n->d, soft);
    }
}

/* Notes the names of a scope that start as missing. */
static void close_frame(struct checker *c, const struct symbols *s, struct jj_frame *f)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->v[i].load == LOAD_MISSING;
    if (n == 0 || c->err)
        return;
    f->missing = arena_array(&c->prog->arena, n, sizeof(*f->missing));
    if (!f->missing) {
        names_fail(c, ERR_NOMEM, 1, "out of memory while checking names");
        return;
    }
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].load == LOAD_MISSING)
            f->missing[f->n_missing++] = s->v[i].id;
}

static void check_assignable(struct checker *c, const struct jj_node *n, struct place at)
{
    if (n->kind == N_TUPLE)
        for (const struct jj_node *e = n->list.first; e; e = e->next)
            check_assignable(c, e, at);
    else if (n->kind == N_NAME && n->name.id == c->prog->id_loop && at.below_for)
        names_fail(c, ERR_INVALID, n->line, "cannot assign to 'loop' inside a for loop");
}

static void check_for(struct checker *c, struct symbols *s, struct jj_node *n, struct place at)
{
    struct symbols body = {.parent = s}, orelse = {.parent = s};
    struct place inside = {.in_loop = true, .below_for = true};
    struct place after = {.in_loop = at.in_loop && !n->loop.recursive, .below_for = true};
    check_assignable(c, n->loop.target, inside);
    check_expr(c, n->loop.iter, at.soft);
    check_expr(c, n->loop.test, false);
    sym_param(c, &body, c->prog->id_loop);
    names_see_target(c, &body, n->loop.target, true);
    names_see_body(c, &body, n->loop.body);
    check_body(c, &body, n->loop.body, inside);
    close_frame(c, &body, &n->loop.frames[0]);
    names_see_body(c, &orelse, n->loop.orelse);
    check_body(c, &orelse, n->loop.orelse, after);
    close_frame(c, &orelse, &n->loop.frames[1]);
}

static void check_macro(struct checker *c, struct symbols *s, struct jj_node *n, struct place at)
{
    struct jj_macro *m = n->macro;
    const struct jj_program *g = c->prog;
    struct symbols inner = {.parent = s};
    struct wanted w = {.id = {g->id_caller, g->id_kwargs, g->id_varargs}};
    bool named[3] = {false, false, false}, caller_default = false;
    want_body(c, &w, m->body);
    for (size_t i = 0; i < m->n_params; i++) {
        sym_param(c, &inner, m->params[i].id);
        check_expr(c, m->params[i].def, false);
        for (int k = 0; k < 3; k++)
            named[k] |= m->params[i].id == w.id[k];
        caller_default |= m->params[i].id == g->id_caller && m->params[i].def;
    }
    if (w.mentioned[0] && named[0] && !caller_default)
        names_fail(c, ERR_INVALID, n->line,
                   "the parameter 'caller' must be left out or have a default");
    m->takes_caller = w.mentioned[0];
    m->takes_kwargs = w.mentioned[1] && !named[1];
    m->takes_varargs = w.mentioned[2] && !named[2];
    for (size_t i = 0; i < m->n_params; i++)
        names_see_expr(c, &inner, m->params[i].def);
    if (m->takes_caller)
        sym_param(c, &inner, w.id[0]);
    if (m->takes_kwargs)
        sym_param(c, &inner, w.id[1]);
    if (m->takes_varargs)
        sym_param(c, &inner, w.id[2]);
    names_see_body(c, &inner, m->body);
    check_body(c, &inner, m->body, (struct place){.below_for = at.below_for});
    close_frame(c, &inner, &m->frame);
}

static void check_scoped(struct checker *c, struct symbols *s, struct jj_node *n, struct place at)
{
    struct symbols inner = {.parent = s};
    struct place inside = {.in_loop = at.in_loop && n->kind != S_GENERATION,
                           .below_for = at.below_for};
    if (n->kind == S_WITH) {
        check_list(c, n->scoped.b, at.soft);
        for (const struct jj_node *t = n->scoped.a; t; t = t->next)
            names_see_target(c, &inner, t, true);
    } else {
        check_expr(c, n->scoped.b, false);
    }
    if (n->kind == S_SET_BLOCK)
        check_assignable(c, n->scoped.a, at);
    names_see_body(c, &inner, n->scoped.body);
    check_body(c, &inner, n->scoped.body, inside);
    close_frame(c, &inner, n->scoped.frame);
}

static void check_if(struct checker *c, struct symbols *s, struct jj_node *n, struct place at)
{
    at.soft = true;
    check_expr(c, n->cond.test, true);
    check_body(c, s, n->cond.body, at);
    check_body(c, s, n->cond.elifs, at);
    check_body(c, s, n->cond.orelse, at);
}

static void check_node(struct checker *c, struct symbols *s, struct jj_node *n, struct place at)
{
    switch ((enum jj_node_kind)n->kind) {
    case S_PRINT:
        check_list(c, n->list.first, at.soft);
        break;
    case S_IF:
        check_if(c, s, n, at);
        break;
    case S_FOR:
        check_for(c, s, n, at);
        break;
    case S_SET:
        check_assignable(c, n->a, at);
        check_expr(c, n->b, at.soft);
        break;
    case S_MACRO:
        check_macro(c, s, n, at);
        break;
    case S_CALL_BLOCK:
        check_expr(c, n->macro->call, at.soft);
        check_macro(c, s, n, at);
        break;
    case S_SET_BLOCK:
    case S_FILTER_BLOCK:
    case S_WITH:
    case S_GENERATION:
        check_scoped(c, s, n, at);
        break;
    case S_BREAK:
    case S_CONTINUE:
        if (!at.in_loop)
            names_fail(c, ERR_INVALID, n->line, "'%s' outside a loop",
                       n->kind == S_BREAK ? "break" : "continue");
        break;
    default:
        break;
    }
}

static void check_body(struct checker *c, struct symbols *s, struct jj_node *n, struct place at)
{
    for (; n && names_work(c, 1); n = n->next)
        check_node(c, s, n, at);
}

enum err jj_names_check(struct jj_program *prog, struct errmsg *why)
{
    struct checker c = {.prog = prog};
    struct symbols root = {0};
    arena_init(&c.scratch, 64 << 20);
    names_see_body(&c, &root, prog->body);
    check_body(&c, &root, prog->body, (struct place){0});
    close_frame(&c, &root, &prog->frame);
    arena_fini(&c.scratch);
    if (c.err && why)
        *why = c.why;
    return c.err;
}
