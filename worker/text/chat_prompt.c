#include "worker/text/chat_prompt.h"

#include <string.h>

enum { MAX_DEPTH = 100 };

struct builder {
    const struct chat_prompt_env *env;
    struct arena *arena;
    bool knows_developer, knows_thinking, merge_system;
    struct buf *out; /* the variables as JSON */
    struct errmsg *why;
};

static bool contains(struct str text, const char *word)
{
    return memmem(text.p ? text.p : "", text.n, word, strlen(word)) != NULL;
}

static void put_key(struct buf *b, bool *first, const char *key)
{
    buf_putc(b, *first ? '{' : ',');
    *first = false;
    json_put_cstr(b, key);
    buf_putc(b, ':');
}

/* ---- one message ------------------------------------------------------------------------------
 */

/* The text of a string, or of text parts; false with `why` for anything else. */
static bool content_text(struct builder *b, const struct json *content, struct buf *text)
{
    if (json_is(content, JSON_STRING)) {
        buf_put(text, content->s.p, content->s.n);
        return true;
    }
    bool first = true;
    for (const struct json *p = content->list.first; p; p = p->next, first = false) {
        const struct json *type = json_get(p, "type"), *t = json_get(p, "text");
        if (!json_is(type, JSON_STRING) || !str_is(type->s, "text") || !json_is(t, JSON_STRING)) {
            (void)err_set(b->why, ERR_UNSUPPORTED,
                          "this model takes content parts of type text only");
            return false;
        }
        if (!first)
            buf_putc(text, '\n');
        buf_put(text, t->s.p, t->s.n);
    }
    return true;
}

static bool wants_parts(const struct builder *b, const struct json *message)
{
    static const char *const names[CHAT_ROLES] = {
        [CHAT_SYSTEM] = "system",
        [CHAT_USER] = "user",
        [CHAT_ASSISTANT] = "assistant",
        [CHAT_TOOL] = "tool",
    };
    const struct json *role = json_get(message, "role");
    for (int i = 0; i < CHAT_ROLES; i++)
        if (json_is(role, JSON_STRING) && str_is(role->s, names[i]))
            return b->env->wants.parts[i];
    return false;
}

/* Text parts go to the template as they are where it goes through them itself. */
static enum err put_content(struct builder *b, const struct json *message,
                            const struct json *content)
{
    if (!json_is(content, JSON_ARRAY)) {
        buf_put(b->out, content->raw.p, content->raw.n);
        return ERR_OK;
    }
    struct buf text;
    buf_init(&text);
    bool ok = content_text(b, content, &text); /* other parts are refused either way */
    if (ok && wants_parts(b, message))
        buf_put(b->out, content->raw.p, content->raw.n);
    else if (ok)
        json_put_str(b->out, text.p ? text.p : "", text.n);
    ok = ok && !text.failed;
    buf_fini(&text);
    return ok ? ERR_OK : ERR_UNSUPPORTED;
}

/* Arguments are a string that holds JSON; when it holds an object, most templates want that. */
static void put_arguments(struct builder *b, const struct json *arguments)
{
    struct json *parsed;
    struct json_limits limits = {.max_depth = MAX_DEPTH};
    if (!b->env->wants.text_arguments && json_is(arguments, JSON_STRING) &&
        json_parse(&parsed, b->arena, arguments->s.p, arguments->s.n, &limits, NULL) == ERR_OK &&
        json_is(parsed, JSON_OBJECT))
        buf_put(b->out, parsed->raw.p, parsed->raw.n);
    else
        buf_put(b->out, arguments->raw.p, arguments->raw.n);
}

static void put_member(struct buf *out, bool *first, const struct json *m)
{
    buf_putc(out, *first ? '{' : ',');
    *first = false;
    json_put_str(out, m->key.p, m->key.n);
    buf_putc(out, ':');
}

/* Nine letters and digits, the same ones for the same id; one that is so already stays. */
static void put_id(struct builder *b, const struct json *id)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char text[9];
    bool fits = json_is(id, JSON_STRING) && id->s.n == sizeof(text);
    for (size_t i = 0; fits && i < sizeof(text); i++)
        fits = id->s.p[i] && strchr(digits, id->s.p[i]);
    if (fits || !b->env->wants.short_ids || !json_is(id, JSON_STRING)) {
        buf_put(b->out, id->raw.p, id->raw.n);
        return;
    }
    uint64_t h = str_hash(id->s);
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    for (size_t i = 0; i < sizeof(text); i++, h /= 62)
        text[i] = digits[h % 62];
    json_put_str(b->out, text, sizeof(text));
}

static void put_function(struct builder *b, const struct json *function)
{
    bool first = true;
    for (const struct json *m = function->list.first; m; m = m->next) {
        put_member(b->out, &first, m);
        if (str_is(m->key, "arguments"))
            put_arguments(b, m);
        else
            buf_put(b->out, m->raw.p, m->raw.n);
    }
    buf_puts(b->out, first ? "{}" : "}");
}

static void put_tool_calls(struct builder *b, const struct json *calls)
{
    buf_putc(b->out, '[');
    for (const struct json *call = calls->list.first; call; call = call->next) {
        bool first = true;
        if (call != calls->list.first)
            buf_putc(b->out, ',');
        if (!json_is(call, JSON_OBJECT)) {
            buf_put(b->out, call->raw.p, call->raw.n);
            continue;
        }
        for (const struct json *m = call->list.first; m; m = m->next) {
            put_member(b->out, &first, m);
            if (str_is(m->key, "function") && m->kind == JSON_OBJECT)
                put_function(b, m);
            else if (str_is(m->key, "id"))
                put_id(b, m);
            else
                buf_put(b->out, m->raw.p, m->raw.n);
        }
        buf_puts(b->out, first ? "{}" : "}");
    }
    buf_putc(b->out, ']');
}

static bool is_system(const struct builder *b, const struct json *message)
{
    const struct json *role = json_get(message, "role");
    return json_is(role, JSON_STRING) &&
           (str_is(role->s, "system") || (!b->knows_developer && str_is(role->s, "developer")));
}

static bool is_text(const struct json *v)
{
    return json_is(v, JSON_STRING) && v->s.n > 0;
}

/* Clients give thoughts back under the name that they had them by; templates know one of two.
 * gpt-oss' raises on thoughts beside content and calls: then the content is what goes on. */
static void put_thoughts(struct builder *b, const struct json *message, bool *first)
{
    const struct json *named = json_get(message, "reasoning_content");
    const struct json *other = json_get(message, "reasoning");
    const struct json *thoughts = is_text(named) ? named : other;
    if (other && !named) {
        put_key(b->out, first, "reasoning_content");
        buf_put(b->out, other->raw.p, other->raw.n);
    }
    if (!b->knows_thinking || !is_text(thoughts) || json_get(message, "thinking") ||
        (is_text(json_get(message, "content")) && json_get(message, "tool_calls")))
        return;
    put_key(b->out, first, "thinking");
    buf_put(b->out, thoughts->raw.p, thoughts->raw.n);
}

/* Beside calls. Clients send null, "" or nothing; transformers gives None. */
static void put_no_content(struct builder *b)
{
    buf_puts(b->out, b->env->wants.empty_content ? "\"\"" : "null");
}

/* A call as the model writes it, where its form is a list of JSON after a marker. */
static void write_calls(struct buf *text, const struct call_form *form, const struct json *calls)
{
    buf_puts(text, form->open);
    buf_putc(text, '[');
    for (const struct json *c = calls->list.first; c; c = c->next) {
        const struct json *fn = json_get(c, "function"), *name = json_get(fn, "name"),
                          *args = json_get(fn, "arguments");
        buf_puts(text, c == calls->list.first ? "{\"name\": " : ", {\"name\": ");
        if (name)
            buf_put(text, name->raw.p, name->raw.n);
        buf_puts(text, ", \"arguments\": ");
        if (json_is(args, JSON_STRING))
            buf_put(text, args->s.p, args->s.n);
        else if (args)
            buf_put(text, args->raw.p, args->raw.n);
        buf_putc(text, '}');
    }
    buf_putc(text, ']');
}

/* The template would leave them out: they stand in the content, as the model wrote them. */
static enum err put_calls_as_content(struct builder *b, const struct json *message)
{
    const struct call_form *form = b->env->calls;
    const struct json *content = json_get(message, "content");
    struct buf text;
    bool first = true, ok = true;
    if (!form || form->body != CALL_JSON || !form->open || form->close || form->bare)
        return err_set(b->why, ERR_UNSUPPORTED,
                       "this model's chat template leaves past tool calls out of the conversation");
    for (const struct json *m = message->list.first; m; m = m->next) {
        if (str_is(m->key, "content") || str_is(m->key, "tool_calls"))
            continue;
        put_member(b->out, &first, m);
        buf_put(b->out, m->raw.p, m->raw.n);
    }
    buf_init(&text);
    if (json_is(content, JSON_STRING) || json_is(content, JSON_ARRAY))
        ok = content_text(b, content, &text);
    write_calls(&text, form, json_get(message, "tool_calls"));
    put_key(b->out, &first, "content");
    json_put_str(b->out, text.p ? text.p : "", text.n);
    put_thoughts(b, message, &first);
    buf_putc(b->out, '}');
    ok = ok && !text.failed;
    buf_fini(&text);
    return ok ? ERR_OK : ERR_UNSUPPORTED;
}

static enum err put_message(struct builder *b, const struct json *message)
{
    const struct json *calls = json_get(message, "tool_calls");
    const bool has_calls = json_is(calls, JSON_ARRAY) && calls->list.count;
    bool first = true, has_content = false;
    enum err e = ERR_OK;
    if (has_calls && b->env->wants.no_calls)
        return put_calls_as_content(b, message);
    for (const struct json *m = message->list.first; m && e == ERR_OK; m = m->next) {
        put_member(b->out, &first, m);
        if (str_is(m->key, "role") && is_system(b, message)) {
            buf_puts(b->out, "\"system\"");
        } else if (str_is(m->key, "content")) {
            has_content = true;
            if (has_calls && (m->kind == JSON_NULL || (m->kind == JSON_STRING && m->s.n == 0)))
                put_no_content(b);
            else
                e = put_content(b, message, m);
        } else if (str_is(m->key, "tool_calls") && m->kind == JSON_ARRAY) {
            put_tool_calls(b, m);
        } else if (str_is(m->key, "tool_call_id")) {
            put_id(b, m);
        } else {
            buf_put(b->out, m->raw.p, m->raw.n);
        }
    }
    if (has_calls && !has_content) {
        put_key(b->out, &first, "content");
        put_no_content(b);
    }
    put_thoughts(b, message, &first);
    buf_puts(b->out, first ? "{}" : "}");
    return e;
}

/* ---- all messages -----------------------------------------------------------------------------
 */

static enum err put_merged_system(struct builder *b, const struct json *messages)
{
    struct buf text;
    buf_init(&text);
    bool ok = true, first = true;
    for (const struct json *m = messages->list.first; m && ok; m = m->next) {
        const struct json *content = json_get(m, "content");
        if (!is_system(b, m) || !(json_is(content, JSON_STRING) || json_is(content, JSON_ARRAY)))
            continue;
        buf_puts(&text, first ? "" : "\n\n");
        ok = content_text(b, content, &text);
        first = false;
    }
    buf_puts(b->out, "{\"role\":\"system\",\"content\":");
    json_put_str(b->out, text.p ? text.p : "", text.n);
    buf_putc(b->out, '}');
    ok = ok && !text.failed;
    buf_fini(&text);
    return ok ? ERR_OK : ERR_UNSUPPORTED;
}

static enum err put_messages(struct builder *b, const struct json *messages)
{
    enum err e = ERR_OK;
    bool first = true;
    buf_putc(b->out, '[');
    if (b->merge_system) {
        e = put_merged_system(b, messages);
        first = false;
    }
    for (const struct json *m = messages->list.first; m && e == ERR_OK; m = m->next) {
        if (b->merge_system && is_system(b, m))
            continue;
        if (!first)
            buf_putc(b->out, ',');
        first = false;
        e = json_is(m, JSON_OBJECT) ? put_message(b, m)
                                    : err_set(b->why, ERR_INVALID, "a message is not an object");
    }
    buf_putc(b->out, ']');
    return e;
}

/* Is there more than one system message, or one that is not the first? */
static bool scattered_system(const struct builder *b, const struct json *messages)
{
    size_t i = 0;
    for (const struct json *m = messages->list.first; m; m = m->next, i++)
        if (i > 0 && is_system(b, m))
            return true;
    return false;
}

static enum err put_variables(struct builder *b, const struct json *request)
{
    const struct json *messages = json_get(request, "messages"),
                      *tools = json_get(request, "tools");
    const struct json *kwargs = json_get(request, "chat_template_kwargs");
    bool first = true;
    put_key(b->out, &first, "messages");
    enum err e = put_messages(b, messages);
    if (e != ERR_OK)
        return e;
    put_key(b->out, &first, "tools"); /* transformers passes None where there are none */
    if (json_is(tools, JSON_ARRAY) && tools->list.count)
        buf_put(b->out, tools->raw.p, tools->raw.n);
    else
        buf_puts(b->out, "null");
    put_key(b->out, &first, "bos_token");
    json_put_str(b->out, b->env->bos_token.p ? b->env->bos_token.p : "", b->env->bos_token.n);
    put_key(b->out, &first, "eos_token");
    json_put_str(b->out, b->env->eos_token.p ? b->env->eos_token.p : "", b->env->eos_token.n);
    bool has_generation = false;
    for (const struct json *m = json_is(kwargs, JSON_OBJECT) ? kwargs->list.first : NULL; m;
         m = m->next) {
        static const char *const taken[] = {"messages", "tools", "bos_token", "eos_token"};
        for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
            if (str_is(m->key, taken[i]))
                return err_set(b->why, ERR_INVALID,
                               "chat_template_kwargs: '%s' has a field of its own", taken[i]);
        has_generation |= str_is(m->key, "add_generation_prompt");
        put_member(b->out, &first, m);
        buf_put(b->out, m->raw.p, m->raw.n);
    }
    if (!has_generation) {
        put_key(b->out, &first, "add_generation_prompt");
        buf_puts(b->out, "true");
    }
    buf_putc(b->out, '}');
    return b->out->failed ? err_set(b->why, ERR_NOMEM, "out of memory") : ERR_OK;
}

static enum err render(struct builder *b, const struct chat_template *t, const struct json *request,
                       struct buf *out)
{
    struct buf vars;
    buf_init(&vars);
    b->out = &vars;
    enum err e = put_variables(b, request);
    struct json *parsed = NULL;
    /* Deeper than the request by what this module adds around it. */
    struct json_limits limits = {.max_depth = MAX_DEPTH + 64};
    if (e == ERR_OK)
        e = json_parse(&parsed, b->arena, vars.p, vars.n, &limits, b->why);
    if (e == ERR_OK) {
        const struct template_env env = {
            .vars = parsed, .now_unix = b->env->now_unix, .max_steps = b->env->max_steps};
        size_t before = out->n;
        e = template_render(t, &env, out, b->why);
        if (e != ERR_OK)
            out->n = before;
    }
    buf_fini(&vars);
    return e;
}

enum err chat_prompt_build(const struct chat_template *t, struct str request_json,
                           const struct chat_prompt_env *env, struct buf *out, struct errmsg *why)
{
    struct arena arena;
    arena_init(&arena, 0);
    struct json *request;
    struct json_limits limits = {.max_depth = MAX_DEPTH};
    enum err e = json_parse(&request, &arena, request_json.p, request_json.n, &limits, why);
    const struct json *messages = e == ERR_OK ? json_get(request, "messages") : NULL;
    if (e == ERR_OK && !json_is(messages, JSON_ARRAY))
        e = err_set(why, ERR_INVALID, "the request has no messages");
    if (e == ERR_OK) {
        struct builder b = {.env = env,
                            .arena = &arena,
                            .knows_developer = contains(env->template_source, "developer"),
                            .knows_thinking = contains(env->template_source, "message.thinking"),
                            .why = why};
        e = render(&b, t, request, out);
        if (e == ERR_TEMPLATE && scattered_system(&b, messages)) {
            struct errmsg first = why ? *why : (struct errmsg){0};
            b.merge_system = true;
            e = render(&b, t, request, out);
            if (e == ERR_TEMPLATE && why)
                *why = first; /* the complaint about the messages as they were sent */
        }
    }
    arena_fini(&arena);
    return e;
}
