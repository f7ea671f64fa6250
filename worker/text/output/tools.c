#include "worker/text/output/tools.h"

enum { MAX_DEPTH = 100 };

enum err tool_list_read(struct tool_list *t, struct str request, struct errmsg *why)
{
    struct json_limits limits = {.max_depth = MAX_DEPTH};
    struct json *root;
    arena_init(&t->arena, 0);
    buf_init(&t->text);
    t->tools = NULL;
    buf_put(&t->text, request.p, request.n);
    enum err e = t->text.failed ? ERR_NOMEM
                                : json_parse(&root, &t->arena, t->text.p ? t->text.p : "",
                                             t->text.n, &limits, why);
    if (e != ERR_OK) {
        tool_list_fini(t);
        return e;
    }
    const struct json *tools = json_get(root, "tools");
    t->tools = json_is(tools, JSON_ARRAY) ? tools : NULL;
    return ERR_OK;
}

void tool_list_fini(struct tool_list *t)
{
    arena_fini(&t->arena);
    buf_fini(&t->text);
    t->tools = NULL;
}

static const struct json *find(const struct tool_list *t, struct str name)
{
    const struct json *tool = t->tools ? t->tools->list.first : NULL;
    for (; tool; tool = tool->next) {
        const struct json *fn = json_get(tool, "function");
        const struct json *n = json_get(fn ? fn : tool, "name");
        if (json_is(n, JSON_STRING) && str_eq(n->s, name))
            return fn ? fn : tool;
    }
    return NULL;
}

bool tool_list_has(const struct tool_list *t, struct str name)
{
    return find(t, name) != NULL;
}

static bool is_string(const struct json *v, const char *z)
{
    return json_is(v, JSON_STRING) && str_is(v->s, z);
}

enum arg_type tool_list_arg(const struct tool_list *t, struct str tool, struct str arg)
{
    const struct json *props = json_get(json_get(find(t, tool), "parameters"), "properties");
    const struct json *p = json_is(props, JSON_OBJECT) ? props->list.first : NULL;
    while (p && !str_eq(p->key, arg))
        p = p->next;
    const struct json *type = json_get(p, "type"), *values = json_get(p, "enum");
    if (is_string(type, "string"))
        return ARG_STRING;
    if (json_is(type, JSON_ARRAY) && type->list.count == 2 &&
        ((is_string(json_at(type, 0), "string") && is_string(json_at(type, 1), "null")) ||
         (is_string(json_at(type, 1), "string") && is_string(json_at(type, 0), "null"))))
        return ARG_STRING_OR_NULL;
    if (!type && json_is(values, JSON_ARRAY) && values->list.count) {
        for (const struct json *v = values->list.first; v; v = v->next)
            if (v->kind != JSON_STRING)
                return ARG_ANY;
        return ARG_STRING;
    }
    return ARG_ANY;
}
