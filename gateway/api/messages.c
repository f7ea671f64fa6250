/* Chat messages and tools: their shape is checked here, their meaning is the model's template's. */
#include "gateway/api/validate.h"
#include <stdio.h>

struct at {
    char path[120]; /* "messages[3].content[1]" */
};

static const char *under(struct at *buf, const char *path, const char *key)
{
    snprintf(buf->path, sizeof(buf->path), "%.90s.%.28s", path, key);
    return buf->path;
}

static bool text_or_null(const struct json *object, const char *path, const char *key,
                         struct api_fault *f)
{
    struct at at;
    const struct json *v = json_get(object, key);
    if (!v || v->kind == JSON_NULL || v->kind == JSON_STRING)
        return true;
    return fault_type(f, under(&at, path, key), "a string", v);
}

static bool required_text(const struct json *object, const char *path, const char *key,
                          struct api_fault *f)
{
    struct at at;
    const struct json *v = json_get(object, key);
    under(&at, path, key);
    if (!v)
        return fault_missing(f, at.path);
    return v->kind == JSON_STRING ? true : fault_type(f, at.path, "a string", v);
}

static bool check_part(const struct json *part, const char *path, struct api_fault *f)
{
    struct at at;
    if (part->kind != JSON_OBJECT)
        return fault_type(f, path, "an object", part);
    if (!required_text(part, path, "type", f))
        return false;
    struct str type = json_get(part, "type")->s;
    if (str_is(type, "text"))
        return required_text(part, path, "text", f);
    under(&at, path, "type");
    if (str_is(type, "image_url") || str_is(type, "input_audio") || str_is(type, "file") ||
        str_is(type, "refusal"))
        return fault_set(f, API_UNSUPPORTED_VALUE, at.path,
                         "Unsupported value: content parts of type '" STR_FMT
                         "' are not supported by this model.",
                         STR_ARG(type));
    struct str shown = fault_cut(type, 60);
    return fault_set(f, API_VALUE, at.path,
                     "Invalid value: '" STR_FMT "'. Supported values are: 'text'.", STR_ARG(shown));
}

static bool check_content(const struct json *content, const char *path, struct api_fault *f)
{
    if (content->kind == JSON_STRING)
        return true;
    if (content->kind != JSON_ARRAY)
        return fault_type(f, path, "a string or an array of content parts", content);
    if (content->list.count == 0)
        return fault_set(f, API_EMPTY_ARRAY, path,
                         "Invalid '%s': empty array. Expected an array with minimum length 1, but "
                         "got an empty array instead.",
                         path);
    int i = 0;
    for (const struct json *part = content->list.first; part; part = part->next, i++) {
        struct at at;
        snprintf(at.path, sizeof(at.path), "%.90s[%d]", path, i);
        if (!check_part(part, at.path, f))
            return false;
    }
    return true;
}

static bool check_tool_call(const struct json *call, const char *path, struct api_fault *f)
{
    struct at at;
    if (call->kind != JSON_OBJECT)
        return fault_type(f, path, "an object", call);
    if (!required_text(call, path, "id", f) || !required_text(call, path, "type", f))
        return false;
    if (!str_is(json_get(call, "type")->s, "function"))
        return fault_set(f, API_UNSUPPORTED_VALUE, under(&at, path, "type"),
                         "Unsupported value: tool calls can only be of type 'function'.");
    const struct json *fn = json_get(call, "function");
    under(&at, path, "function");
    if (!fn)
        return fault_missing(f, at.path);
    if (fn->kind != JSON_OBJECT)
        return fault_type(f, at.path, "an object", fn);
    return required_text(fn, at.path, "name", f) && required_text(fn, at.path, "arguments", f);
}

/* *any: the message holds calls, so that it needs no content. */
static bool check_tool_calls(const struct json *message, const char *path, bool *any,
                             struct api_fault *f)
{
    struct at at, item;
    const struct json *calls = json_get(message, "tool_calls");
    if (!calls || calls->kind == JSON_NULL)
        return true;
    under(&at, path, "tool_calls");
    if (calls->kind != JSON_ARRAY)
        return fault_type(f, at.path, "an array", calls);
    int i = 0;
    for (const struct json *c = calls->list.first; c; c = c->next, i++) {
        snprintf(item.path, sizeof(item.path), "%.90s[%d]", at.path, i);
        if (!check_tool_call(c, item.path, f))
            return false;
        *any = true;
    }
    return true;
}

enum role { ROLE_SYSTEM, ROLE_DEVELOPER, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, N_ROLES };

static bool read_role(const struct json *m, const char *path, enum role *out, struct api_fault *f)
{
    static const char *const names[N_ROLES] = {"system", "developer", "user", "assistant", "tool"};
    struct at at;
    if (!required_text(m, path, "role", f))
        return false;
    struct str role = json_get(m, "role")->s;
    for (int i = 0; i < N_ROLES; i++)
        if (str_is(role, names[i])) {
            *out = (enum role)i;
            return true;
        }
    struct str shown = fault_cut(role, 60);
    return fault_set(f, API_VALUE, under(&at, path, "role"),
                     "Invalid value: '" STR_FMT "'. Supported values are: 'system', 'developer', "
                     "'user', 'assistant', and 'tool'.",
                     STR_ARG(shown));
}

static bool check_message(const struct json *m, const char *path, struct api_fault *f)
{
    struct at at;
    enum role role = ROLE_USER;
    bool calls = false;
    if (m->kind != JSON_OBJECT)
        return fault_type(f, path, "an object", m);
    if (!read_role(m, path, &role, f) || !text_or_null(m, path, "name", f))
        return false;
    const struct json *content = json_get(m, "content");
    if (role == ROLE_ASSISTANT) {
        const struct json *old = json_get(m, "function_call");
        if (old && old->kind != JSON_NULL)
            return fault_set(f, API_UNSUPPORTED, under(&at, path, "function_call"),
                             "Unsupported parameter: '%s.function_call' is not supported; use "
                             "'tool_calls'.",
                             path);
        if (!check_tool_calls(m, path, &calls, f) || !text_or_null(m, path, "refusal", f) ||
            !text_or_null(m, path, "reasoning_content", f) ||
            !text_or_null(m, path, "reasoning", f))
            return false;
        if (content && content->kind == JSON_NULL)
            content = NULL;
        if (!content && calls)
            return true;
        const struct json *refusal = json_get(m, "refusal");
        if (!content && json_is(refusal, JSON_STRING))
            return true;
    }
    if (role == ROLE_TOOL && !required_text(m, path, "tool_call_id", f))
        return false;
    under(&at, path, "content");
    return content ? check_content(content, at.path, f) : fault_missing(f, at.path);
}

bool api_check_messages(const struct json *messages, struct api_fault *f)
{
    if (messages->kind != JSON_ARRAY)
        return fault_type(f, "messages", "an array of objects", messages);
    if (messages->list.count == 0)
        return fault_set(
            f, API_EMPTY_ARRAY, "messages",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.");
    int i = 0;
    for (const struct json *m = messages->list.first; m; m = m->next, i++) {
        char path[32];
        snprintf(path, sizeof(path), "messages[%d]", i);
        if (!check_message(m, path, f))
            return false;
    }
    return true;
}

static bool name_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return false;
    }
    return s.n >= 1 && s.n <= 64;
}

static bool check_tool(const struct json *tool, const char *path, struct api_fault *f)
{
    struct at at, inner;
    if (tool->kind != JSON_OBJECT)
        return fault_type(f, path, "an object", tool);
    if (!required_text(tool, path, "type", f))
        return false;
    if (!str_is(json_get(tool, "type")->s, "function"))
        return fault_set(f, API_UNSUPPORTED_VALUE, under(&at, path, "type"),
                         "Unsupported value: tools can only be of type 'function'.");
    const struct json *fn = json_get(tool, "function");
    under(&at, path, "function");
    if (!fn)
        return fault_missing(f, at.path);
    if (fn->kind != JSON_OBJECT)
        return fault_type(f, at.path, "an object", fn);
    if (!required_text(fn, at.path, "name", f) || !text_or_null(fn, at.path, "description", f))
        return false;
    if (!name_ok(json_get(fn, "name")->s))
        return fault_set(f, API_VALUE, under(&inner, at.path, "name"),
                         "Invalid '%s.name': expected 1 to 64 letters, digits, '_' or '-'.",
                         at.path);
    const struct json *schema = json_get(fn, "parameters");
    if (schema && schema->kind != JSON_NULL && schema->kind != JSON_OBJECT)
        return fault_type(f, under(&inner, at.path, "parameters"), "an object", schema);
    const struct json *strict = json_get(fn, "strict");
    under(&inner, at.path, "strict");
    if (strict && strict->kind != JSON_NULL && strict->kind != JSON_BOOL)
        return fault_type(f, inner.path, "a boolean", strict);
    if (strict && strict->kind == JSON_BOOL && strict->b)
        return fault_set(f, API_UNSUPPORTED_VALUE, inner.path,
                         "Unsupported value: '%s' can only be false.", inner.path);
    return true;
}

bool api_check_tools(const struct json *tools, struct api_fault *f)
{
    if (tools->kind != JSON_ARRAY)
        return fault_type(f, "tools", "an array of objects", tools);
    if (tools->list.count > API_MAX_TOOLS)
        return fault_set(f, API_ARRAY_TOO_LONG, "tools",
                         "Invalid 'tools': array too long. Expected an array with maximum length "
                         "%d, but got an array with length %zu instead.",
                         API_MAX_TOOLS, tools->list.count);
    int i = 0;
    for (const struct json *t = tools->list.first; t; t = t->next, i++) {
        char path[32];
        snprintf(path, sizeof(path), "tools[%d]", i);
        if (!check_tool(t, path, f))
            return false;
    }
    return true;
}
