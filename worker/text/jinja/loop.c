/* loop.c - for statements and their loop variable. */
#include "worker/text/jinja/loop.h"

#include "worker/text/jinja/eval.h"
#include "worker/text/jinja/limits.h"
#include "worker/text/jinja/repr.h"

/* Gets one more item of the source, passing over those that the loop's condition refuses. */
static bool fetch(struct jj_render *r, struct jj_loop *l)
{
    struct jj_value v;
    while (!l->ended && jj_iter_next(r, &l->source, &v)) {
        if (!l->node->loop.test) {
            jj_list_push(r, l->items, v);
            return !jj_failed(r);
        }
        struct jj_scope *outer = r->scope;
        r->scope = jj_scope_new(r, l->scope, NULL);
        jj_assign(r, l->node->loop.target, v);
        struct jj_value keep = jj_failed(r) ? jj_none() : jj_eval(r, l->node->loop.test);
        r->scope = outer;
        if (jj_failed(r))
            break;
        if (jj_truth(r, keep)) {
            jj_list_push(r, l->items, v);
            return !jj_failed(r);
        }
    }
    l->ended = true;
    return false;
}

bool jj_loop_next(struct jj_render *r, struct jj_loop *l, bool first)
{
    size_t next = first ? 0 : l->at + 1;
    if (next >= l->items->n && !fetch(r, l))
        return false;
    l->at = next;
    return !jj_failed(r);
}

static int64_t loop_length(struct jj_render *r, struct jj_loop *l)
{
    while (!l->ended && fetch(r, l))
        ;
    return (int64_t)l->items->n;
}

static bool is_last(struct jj_render *r, struct jj_loop *l)
{
    return l->at + 1 >= l->items->n && !fetch(r, l);
}

struct jj_value jj_loop_attr(struct jj_render *r, struct jj_loop *l, struct str name)
{
    int64_t at = (int64_t)l->at;
    if (str_is(name, "index"))
        return jj_int(at + 1);
    if (str_is(name, "index0"))
        return jj_int(at);
    if (str_is(name, "first"))
        return jj_bool(at == 0);
    if (str_is(name, "last"))
        return jj_bool(is_last(r, l));
    if (str_is(name, "length"))
        return jj_int(loop_length(r, l));
    if (str_is(name, "revindex"))
        return jj_int(loop_length(r, l) - at);
    if (str_is(name, "revindex0"))
        return jj_int(loop_length(r, l) - at - 1);
    if (str_is(name, "depth"))
        return jj_int(l->depth0 + 1);
    if (str_is(name, "depth0"))
        return jj_int(l->depth0);
    if (str_is(name, "previtem"))
        return at == 0 ? jj_undefined(r, "there is no previous item") : l->items->v[at - 1];
    if (str_is(name, "nextitem"))
        return is_last(r, l) ? jj_undefined(r, "there is no next item") : l->items->v[at + 1];
    return jj_missing();
}

void jj_loop_put(struct jj_render *r, struct buf *b, struct jj_loop *l)
{
    buf_printf(b, "<LoopContext %zu/%lld>", l->at + 1, (long long)loop_length(r, l));
}

static void run_else(struct jj_render *r, const struct jj_node *n, struct jj_scope *outer)
{
    r->scope = jj_scope_new(r, outer, &n->loop.frames[1]);
    jj_exec(r, n->loop.orelse);
    r->scope = outer;
}

void jj_exec_for(struct jj_render *r, const struct jj_node *n, struct jj_value iterable, int depth0)
{
    struct jj_loop *l = jj_alloc(r, sizeof(*l));
    if (!l)
        return;
    *l = (struct jj_loop){.node = n, .scope = r->scope, .iterable = iterable, .depth0 = depth0};
    l->items = jj_list_new(r, 0);
    if (!jj_iter_init(r, &l->source, iterable))
        return;
    struct jj_scope *outer = r->scope;
    struct jj_value self = {.kind = JJ_LOOP, .loop = l};
    bool completed = false; /* Jinja2 runs the else block unless some turn came to its end */
    for (bool first = true; jj_loop_next(r, l, first); first = false) {
        r->scope = jj_scope_new(r, outer, &n->loop.frames[0]);
        jj_scope_set(r, r->scope, r->program->id_loop, self);
        jj_assign(r, n->loop.target, l->items->v[l->at]);
        if (!jj_failed(r))
            jj_exec(r, n->loop.body);
        r->scope = outer;
        enum jj_flow flow = r->flow;
        r->flow = JJ_NEXT;
        completed |= flow == JJ_NEXT;
        if (flow == JJ_BREAK || jj_failed(r))
            break;
    }
    if (!completed && n->loop.has_else && !jj_failed(r))
        run_else(r, n, outer);
}

struct jj_value jj_loop_recurse(struct jj_render *r, struct jj_loop *l, struct jj_value iterable)
{
    if (!l->node->loop.recursive) {
        jj_fail(r, "the loop is called but not marked 'recursive'");
        return jj_none();
    }
    struct buf text, *out = r->out;
    struct jj_scope *outer = r->scope;
    jj_buf(&text);
    r->out = &text;
    r->scope = l->scope;
    jj_exec_for(r, l->node, iterable, l->depth0 + 1);
    r->scope = outer;
    r->out = out;
    return jj_take_buf(r, &text);
}
