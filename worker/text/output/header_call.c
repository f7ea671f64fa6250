/* header_call.c - calls that write the name before the JSON:
 *   DeepSeek-V3.1  <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜>
 *   DeepSeek-R1
 * <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n```<｜tool▁call▁end｜> Kimi-K2
 * <|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{...}<|tool_call_end|> Mistral
 * [TOOL_CALLS]NAME[CALL_ID]ID[ARGS]{...} functionary    <function=NAME>{...}</function>
 * >>>NAME\n{...}
 */
#include "worker/text/output/output_parts.h"

static bool in_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':' || c == '/' || (unsigned char)c >= 0x80;
}

/* White space around it goes; false: no name. */
static bool trim_name(struct buf *name)
{
    while (name->n && out_is_space(name->p[name->n - 1]))
        name->n--;
    for (size_t i = 0; i < name->n; i++)
        if (!in_name(name->p[i]))
            return false;
    return name->n > 0;
}

/* functions.NAME:3 */
static void strip_number(struct buf *name)
{
    static const char prefix[] = "functions.";
    size_t n = name->n;
    while (n && name->p[n - 1] >= '0' && name->p[n - 1] <= '9')
        n--;
    if (n > 1 && n < name->n && name->p[n - 1] == ':')
        name->n = n - 1;
    if (name->n > sizeof(prefix) - 1 && memcmp(name->p, prefix, sizeof(prefix) - 1) == 0)
        buf_drop_front(name, sizeof(prefix) - 1);
}

static size_t fall_back(struct output *o)
{
    call_fall_back(o);
    return OUT_AGAIN;
}

/* The name is whole; `len` bytes of separator follow it. */
static size_t name_over(struct output *o, const char *s, size_t len)
{
    const struct call_form *f = out_form(o);
    if (!trim_name(&o->name))
        return fall_back(o);
    if (f->numbered)
        strip_number(&o->name);
    if (f->to_all && str_is((struct str){o->name.p, o->name.n}, "all")) {
        buf_clear(&o->raw);
        buf_clear(&o->ws);
        o->after_marker = false;
        out_state(o, S_TEXT);
        return len;
    }
    if (f->body == CALL_XML && !call_commit(o))
        return fall_back(o);
    out_keep(o, s, len);
    buf_clear(&o->key);
    if (f->body == CALL_XML)
        tag_start(o);
    else
        out_state(o, f->late_name ? S_LATE : S_ARGS);
    return len ? len : OUT_AGAIN;
}

size_t step_name(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const bool open_tags = f->body == CALL_XML && !f->separator;
    const char *const ends[] = {f->separator, f->named ? "[ARGS]" : NULL,
                                f->named ? "[CALL_ID]" : NULL, open_tags ? f->key_open : NULL,
                                open_tags ? f->close : NULL};
    size_t len;
    int m = out_match(s, n, end, ends, 5, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m == 2 && !o->in_id) {
        o->in_id = true;
        out_keep(o, s, len);
        return len;
    }
    if (m == 0 || m == 1)
        return name_over(o, s, len);
    if (m == 3 || m == 4 || (open_tags && s[0] == '\n' && o->name.n) ||
        (f->named && s[0] == '{' && !o->in_id))
        return name_over(o, s, 0);
    const bool space = out_is_space(s[0]);
    if ((!space && !in_name(s[0])) || (s[0] == '\n' && o->name.n) || o->raw.n > MAX_NAME)
        return fall_back(o);
    if (!o->in_id && (!space || o->name.n))
        buf_putc(&o->name, s[0]);
    out_keep(o, s, 1);
    return 1;
}

size_t step_late(struct output *o, const char *s, size_t n, bool end)
{
    const bool over = s[0] == '{' || s[0] == '`' || s[0] == '<' || (s[0] == '\n' && o->key.n);
    (void)n, (void)end;
    if (over) {
        if (o->key.n) {
            if (!trim_name(&o->key))
                return fall_back(o);
            buf_clear(&o->name);
            buf_put(&o->name, o->key.p, o->key.n);
        }
        out_state(o, S_ARGS);
        return OUT_AGAIN;
    }
    const bool space = out_is_space(s[0]);
    if ((!space && !in_name(s[0])) || o->key.n > MAX_NAME)
        return fall_back(o);
    if (!space || o->key.n)
        buf_putc(&o->key, s[0]);
    out_keep(o, s, 1);
    return 1;
}

size_t step_args(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {o->fence ? NULL : "```json", o->fence ? NULL : "```", f->close,
                                 f->section_close};
    size_t len;
    if (out_is_space(s[0])) {
        out_keep(o, s, 1);
        return 1;
    }
    int m = out_match(s, n, end, marks, 4, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m == 0 || m == 1) {
        o->fence = true;
        out_keep(o, s, len);
        return len;
    }
    if ((m < 0 && s[0] != '{') || !call_commit(o))
        return fall_back(o);
    if (m >= 0) {
        call_args(o, "{}", 2);
        call_finish(o);
        return OUT_AGAIN;
    }
    call_args(o, s, 1);
    json_call_start(&o->json, true);
    out_state(o, S_JSON);
    return 1;
}
