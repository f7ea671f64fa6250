/* parser.c - tokens, names and statements; expressions are in parse_expr.c. */
#include "worker/text/jinja/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/names.h"
#include "worker/text/jinja/parser_int.h"

/* --- tokens -------------------------------------------------------------------------- */

void p_advance(struct jj_parser *p)
{
    p->cur = p->has_ahead ? p->ahead : jj_lexer_next(&p->lx);
    p->has_ahead = false;
    if (p->lx.err)
        p->cur.type = T_EOF;
}

struct jj_token p_look(struct jj_parser *p)
{
    if (!p->has_ahead)
        p->ahead = jj_lexer_next(&p->lx);
    p->has_ahead = true;
    return p->ahead;
}

bool p_failed(const struct jj_parser *p)
{
    return p->lx.err != ERR_OK;
}

void p_fail(struct jj_parser *p, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    jj_lexer_fail(&p->lx, ERR_INVALID, p->cur.at, "%s", text);
    p->cur.type = T_EOF;
}

bool p_is_name(const struct jj_parser *p, const char *word)
{
    return p->cur.type == T_NAME && str_is(p->cur.text, word);
}

bool p_skip_name(struct jj_parser *p, const char *word)
{
    if (!p_is_name(p, word))
        return false;
    p_advance(p);
    return true;
}

bool p_skip(struct jj_parser *p, enum jj_tok t)
{
    if (p->cur.type != t || p_failed(p))
        return false;
    p_advance(p);
    return true;
}

void p_expect(struct jj_parser *p, enum jj_tok t)
{
    if (p->cur.type == t && !p_failed(p))
        p_advance(p);
    else if (p->cur.type == T_NAME)
        p_fail(p, "expected %s, got '" STR_FMT "'", jj_tok_name(t), STR_ARG(p->cur.text));
    else
        p_fail(p, "expected %s, got %s", jj_tok_name(t), jj_tok_name(p->cur.type));
}

bool p_nest(struct jj_parser *p)
{
    if (p->nesting >= JJ_MAX_NESTING) {
        p_fail(p, "nested more than %d deep", JJ_MAX_NESTING);
        return false;
    }
    p->nesting++;
    return true;
}

/* --- nodes --------------------------------------------------------------------------- */

static void *p_alloc(struct jj_parser *p, size_t n)
{
    void *m = arena_zalloc(&p->prog->arena, n);
    if (!m)
        jj_lexer_fail(&p->lx, ERR_NOMEM, p->cur.at, "the template needs too much memory");
    return m;
}

struct jj_node *p_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line)
{
    struct jj_node *n = p_failed(p) ? NULL : p_alloc(p, sizeof(*n));
    if (!n)
        return &p->bad;
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

void p_raise(struct jj_parser *p, struct jj_node *n, const struct jj_node *child)
{
    if (child->height + 1 <= n->height)
        return;
    n->height = (uint16_t)(child->height + 1);
    if (n->height > JJ_MAX_TREE)
        p_fail(p, "an expression of more than %d levels", JJ_MAX_TREE);
}

struct jj_node *p_branch(struct jj_parser *p, enum jj_node_kind kind, int op, uint32_t line,
                         struct jj_node *a, struct jj_node *b, struct jj_node *c)
{
    struct jj_node *n = p_node(p, kind, line);
    if (n == &p->bad)
        return n;
    n->op = (uint8_t)op;
    struct jj_node *child[3] = {a, b, c};
    for (int i = 0; i < 3; i++)
        if (child[i])
            p_raise(p, n, child[i]);
    n->a = a;
    n->b = b;
    n->c = c;
    return n;
}

struct jj_value p_text(struct jj_parser *p, struct str s)
{
    static const struct jj_text empty = {.p = "", .n = 0, .n_cp = 0};
    struct jj_value v = {.kind = JJ_STR, .s = (struct jj_text *)&empty};
    struct jj_text *t = p_failed(p) ? NULL : p_alloc(p, sizeof(*t));
    if (!t)
        return v;
    *t = (struct jj_text){.p = s.p, .n = s.n, .n_cp = SIZE_MAX};
    v.s = t;
    (void)jj_cps(v); /* renders of other threads read it */
    return v;
}

static void grow_names(struct jj_parser *p)
{
    struct jj_program *g = p->prog;
    size_t cap = p->names_cap ? 2 * p->names_cap : 64;
    struct jj_text **names = p_alloc(p, cap * sizeof(*names));
    uint32_t *index = p_alloc(p, 2 * cap * sizeof(*index));
    if (!names || !index)
        return;
    if (g->n_names)
        memcpy(names, g->names, g->n_names * sizeof(*names));
    g->names = names;
    p->names_cap = cap;
    p->name_index = index;
    p->n_index = 2 * cap;
    for (uint32_t i = 0; i < g->n_names; i++) {
        size_t at = str_hash((struct str){names[i]->p, names[i]->n}) & (p->n_index - 1);
        while (index[at])
            at = (at + 1) & (p->n_index - 1);
        index[at] = i + 1;
    }
}

uint32_t p_name_id(struct jj_parser *p, struct str s)
{
    struct jj_program *g = p->prog;
    if (g->n_names == p->names_cap)
        grow_names(p);
    if (p_failed(p))
        return 0;
    size_t at = str_hash(s) & (p->n_index - 1);
    for (; p->name_index[at]; at = (at + 1) & (p->n_index - 1)) {
        const struct jj_text *t = g->names[p->name_index[at] - 1];
        if (str_eq((struct str){t->p, t->n}, s))
            return p->name_index[at] - 1;
    }
    g->names[g->n_names++] = p_text(p, s).s;
    p->name_index[at] = g->n_names;
    return g->n_names - 1;
}

struct jj_node *p_name(struct jj_parser *p, struct str s, uint32_t line)
{
    uint32_t id = p_name_id(p, s);
    struct jj_node *n = p_node(p, N_NAME, line);
    if (n == &p->bad)
        return n;
    n->name.id = id;
    n->name.text = p->prog->names[id];
    return n;
}

/* --- statements ---------------------------------------------------------------------- */

static struct jj_node *subparse(struct jj_parser *p, const char *const *ends);

/* The body of a block up to one of `ends`, on which the parser then stands. */
static struct jj_node *parse_body(struct jj_parser *p, const char *const *ends)
{
    uint32_t line = p->cur.line;
    p_skip(p, T_COLON);
    p_expect(p, T_BLOCK_END);
    struct jj_node *body = subparse(p, ends);
    if (p->cur.type == T_EOF)
        p_fail(p, "the template ends where '%s' was expected (the block starts in line %u)",
               ends[0], line);
    return body;
}

#define ENDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct jj_node *parse_body_to(struct jj_parser *p, const char *end)
{
    struct jj_node *body = parse_body(p, ENDS(end));
    p_advance(p);
    return body;
}

static struct jj_frame *new_frames(struct jj_parser *p, size_t n)
{
    return p_alloc(p, n * sizeof(struct jj_frame));
}

static struct jj_node *parse_for(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = p_node(p, S_FOR, line);
    struct jj_node *target = p_target(p, false);
    if (!p_skip_name(p, "in"))
        p_fail(p, "expected 'in'");
    struct jj_node *iter = p_tuple(p, false);
    struct jj_node *test = p_skip_name(p, "if") ? p_expression(p, true) : NULL;
    bool recursive = p_skip_name(p, "recursive");
    struct jj_node *body = parse_body(p, ENDS("endfor", "else")), *orelse = NULL;
    bool has_else = p_is_name(p, "else");
    p_advance(p);
    if (has_else)
        orelse = parse_body_to(p, "endfor");
    if (p_failed(p) || n == &p->bad)
        return &p->bad;
    n->loop.target = target;
    n->loop.iter = iter;
    n->loop.test = test;
    n->loop.body = body;
    n->loop.orelse = orelse;
    n->loop.has_else = orelse != NULL;
    n->loop.recursive = recursive;
    n->loop.frames = new_frames(p, 2);
    return n;
}

static struct jj_node *parse_if(struct jj_parser *p, uint32_t line)
{
    struct jj_node *result = p_node(p, S_IF, line), *n = result, **elifs = NULL;
    while (!p_failed(p)) {
        struct jj_node *test = p_tuple(p, false);
        struct jj_node *body = parse_body(p, ENDS("elif", "else", "endif"));
        if (p_failed(p))
            break;
        n->cond.test = test;
        n->cond.body = body;
        if (!elifs)
            elifs = &result->cond.elifs;
        if (p_skip_name(p, "elif")) {
            n = p_node(p, S_IF, p->cur.line);
            if (n == &p->bad)
                break;
            *elifs = n;
            elifs = &n->next;
            continue;
        }
        bool orelse = p_is_name(p, "else");
        p_advance(p);
        if (orelse)
            result->cond.orelse = parse_body_to(p, "endif");
        break;
    }
    return p_failed(p) ? &p->bad : result;
}

static struct jj_node *parse_set(struct jj_parser *p, uint32_t line)
{
    struct jj_node *target = p_target(p, true);
    if (p_skip(p, T_ASSIGN))
        return p_branch(p, S_SET, 0, line, target, p_tuple(p, true), NULL);
    struct jj_node *n = p_node(p, S_SET_BLOCK, line);
    struct jj_node *filter = p->cur.type == T_PIPE ? p_filter(p, NULL, false) : NULL;
    struct jj_node *body = parse_body_to(p, "endset");
    if (p_failed(p))
        return &p->bad;
    n->scoped.a = target;
    n->scoped.b = filter;
    n->scoped.body = body;
    n->scoped.frame = new_frames(p, 1);
    return n;
}

static struct jj_node *parse_filter_block(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = p_node(p, S_FILTER_BLOCK, line);
    struct jj_node *filter = p_filter(p, NULL, true);
    struct jj_node *body = parse_body_to(p, "endfilter");
    if (p_failed(p))
        return &p->bad;
    n->scoped.b = filter;
    n->scoped.body = body;
    n->scoped.frame = new_frames(p, 1);
    return n;
}

static struct jj_node *parse_with(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = p_node(p, S_WITH, line);
    struct jj_node *targets = NULL, **t = &targets, *values = NULL, **v = &values;
    while (p->cur.type != T_BLOCK_END && !p_failed(p)) {
        if (targets)
            p_expect(p, T_COMMA);
        *t = p_target(p, false);
        p_expect(p, T_ASSIGN);
        *v = p_expression(p, true);
        if (p_failed(p))
            return &p->bad;
        t = &(*t)->next;
        v = &(*v)->next;
    }
    struct jj_node *body = parse_body_to(p, "endwith");
    if (p_failed(p))
        return &p->bad;
    n->scoped.a = targets;
    n->scoped.b = values;
    n->scoped.body = body;
    n->scoped.frame = new_frames(p, 1);
    return n;
}

static struct jj_text *parse_plain_name(struct jj_parser *p, uint32_t *id)
{
    struct str s = p->cur.text;
    p_expect(p, T_NAME);
    if (p_failed(p))
        return NULL;
    *id = p_name_id(p, s);
    return p_failed(p) ? NULL : p->prog->names[*id];
}

/* (a, b=1) */
static void parse_signature(struct jj_parser *p, struct jj_macro *m)
{
    size_t cap = 0;
    p_expect(p, T_LPAREN);
    while (p->cur.type != T_RPAREN && !p_failed(p)) {
        if (m->n_params)
            p_expect(p, T_COMMA);
        if (m->n_params == cap) {
            cap = cap ? 2 * cap : 8;
            struct jj_param *grown = p_alloc(p, cap * sizeof(*grown));
            if (!grown)
                return;
            if (m->n_params)
                memcpy(grown, m->params, m->n_params * sizeof(*grown));
            m->params = grown;
        }
        struct jj_param *a = &m->params[m->n_params];
        a->name = parse_plain_name(p, &a->id);
        for (size_t i = 0; i < m->n_params && !p_failed(p); i++)
            if (m->params[i].id == a->id)
                p_fail(p, "the parameter '" STR_FMT "' is there twice", (int)a->name->n,
                       a->name->p);
        if (p_skip(p, T_ASSIGN))
            a->def = p_expression(p, true);
        else if (m->n_params && m->params[m->n_params - 1].def)
            p_fail(p, "a parameter without default behind one with a default");
        if (!p_failed(p))
            m->explicit_caller |= a->id == p->prog->id_caller;
        m->n_params++;
    }
    p_expect(p, T_RPAREN);
}

static struct jj_node *macro_node(struct jj_parser *p, enum jj_node_kind kind, uint32_t line)
{
    struct jj_node *n = p_node(p, kind, line);
    struct jj_macro *m = n == &p->bad ? NULL : p_alloc(p, sizeof(*m));
    if (!m)
        return &p->bad;
    n->macro = m;
    return n;
}

static struct jj_node *parse_macro(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = macro_node(p, S_MACRO, line);
    if (p_failed(p))
        return &p->bad;
    n->macro->name = parse_plain_name(p, &n->macro->id);
    parse_signature(p, n->macro);
    n->macro->body = parse_body_to(p, "endmacro");
    return n;
}

static struct jj_node *parse_call_block(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = macro_node(p, S_CALL_BLOCK, line);
    if (p_failed(p))
        return &p->bad;
    if (p->cur.type == T_LPAREN)
        parse_signature(p, n->macro);
    n->macro->call = p_expression(p, true);
    if (!p_failed(p) && n->macro->call->kind != N_CALL)
        p_fail(p, "expected a call");
    n->macro->body = parse_body_to(p, "endcall");
    return n;
}

static struct jj_node *parse_generation(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = p_node(p, S_GENERATION, line);
    struct jj_node *body = parse_body_to(p, "endgeneration");
    if (p_failed(p))
        return &p->bad;
    n->scoped.body = body;
    n->scoped.frame = new_frames(p, 1);
    return n;
}

static struct jj_node *parse_print(struct jj_parser *p, uint32_t line)
{
    struct jj_node *n = p_node(p, S_PRINT, line), **end = n == &p->bad ? NULL : &n->list.first;
    while (p->cur.type != T_BLOCK_END && !p_failed(p)) {
        if (n->list.n)
            p_expect(p, T_COMMA);
        struct jj_node *e = p_expression(p, true);
        if (p_failed(p))
            break;
        *end = e;
        end = &e->next;
        n->list.n++;
    }
    return n;
}

static struct jj_node *parse_break(struct jj_parser *p, uint32_t line)
{
    return p_node(p, S_BREAK, line);
}

static struct jj_node *parse_continue(struct jj_parser *p, uint32_t line)
{
    return p_node(p, S_CONTINUE, line);
}

/* NULL: this engine has no such statement, though Jinja2 does. */
static const struct {
    const char *word;
    struct jj_node *(*parse)(struct jj_parser *p, uint32_t line);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_continue},
    {"generation", parse_generation},
    {"include", NULL},
    {"import", NULL},
    {"from", NULL},
    {"extends", NULL},
    {"block", NULL},
    {"autoescape", NULL},
};

static struct jj_node *parse_statement(struct jj_parser *p)
{
    struct jj_token t = p->cur;
    if (t.type != T_NAME) {
        p_fail(p, "expected the name of a statement, got %s", jj_tok_name(t.type));
        return &p->bad;
    }
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        if (!str_is(t.text, statements[i].word))
            continue;
        if (!statements[i].parse) {
            jj_lexer_fail(&p->lx, ERR_UNSUPPORTED, t.at,
                          "'{%% %s %%}' is not supported in a chat template", statements[i].word);
            return &p->bad;
        }
        p_advance(p);
        return statements[i].parse(p, t.line);
    }
    p_fail(p, "unknown statement '" STR_FMT "'", STR_ARG(t.text));
    return &p->bad;
}

static struct jj_node *subparse(struct jj_parser *p, const char *const *ends)
{
    struct jj_node *first = NULL, **end = &first;
    if (!p_nest(p))
        return NULL;
    while (p->cur.type != T_EOF && !p_failed(p)) {
        struct jj_node *n = &p->bad;
        uint32_t line = p->cur.line;
        if (p->cur.type == T_DATA) {
            n = p_node(p, S_DATA, line);
            if (!p_failed(p))
                n->value = p_text(p, p->cur.text);
            p_advance(p);
        } else if (p->cur.type == T_PRINT_BEGIN) {
            p_advance(p);
            n = p_node(p, S_PRINT, line);
            struct jj_node *e = p_tuple(p, true);
            p_expect(p, T_PRINT_END);
            if (!p_failed(p)) {
                n->list.first = e;
                n->list.n = 1;
            }
        } else {
            p_expect(p, T_BLOCK_BEGIN);
            for (size_t i = 0; ends && ends[i]; i++)
                if (p_is_name(p, ends[i])) {
                    p->nesting--;
                    return first;
                }
            n = parse_statement(p);
            p_expect(p, T_BLOCK_END);
        }
        if (p_failed(p))
            break;
        *end = n;
        end = &n->next;
    }
    p->nesting--;
    return first;
}

enum err jj_parse(struct jj_program *prog, const char *src, size_t n, struct errmsg *why)
{
    struct jj_parser p = {.prog = prog};
    enum err e = jj_lexer_init(&p.lx, &prog->arena, src, n, why);
    if (e)
        return e;
    prog->id_loop = p_name_id(&p, STR("loop"));
    prog->id_caller = p_name_id(&p, STR("caller"));
    prog->id_kwargs = p_name_id(&p, STR("kwargs"));
    prog->id_varargs = p_name_id(&p, STR("varargs"));
    p_advance(&p);
    prog->body = subparse(&p, NULL);
    if (p.lx.err) {
        if (why)
            *why = p.lx.why;
        return p.lx.err;
    }
    return jj_names_check(prog, why);
}
