/* tag_call.c - arguments written as tags, made into a JSON object:
 *   Qwen3-Coder  <function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>
 *   GLM-4.5 <tool_call>NAME\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>
 *
 * The tags don't say what is a string. Where the tool's schema says string, the value is one and is
 * streamed; else it is what it reads as: JSON if it is that, a string if not. */
#include "worker/text/output/output_parts.h"

static void put(struct output *o, const char *z)
{
    call_args(o, z, strlen(z));
}

/* As the inside of a JSON string. */
static void put_escaped(struct output *o, const char *p, size_t n)
{
    buf_clear(&o->held);
    json_put_str(&o->held, p, n);
    if (o->held.n >= 2)
        call_args(o, o->held.p + 1, o->held.n - 2);
    buf_clear(&o->held);
}

void tag_start(struct output *o)
{
    o->n_keys = 0;
    out_state(o, S_KEYS);
}

static void close_object(struct output *o)
{
    put(o, o->n_keys ? "}" : "{}");
    call_finish(o);
}

size_t step_keys(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {f->key_open, f->close, f->section_close};
    size_t len;
    if (out_is_space(s[0]))
        return 1;
    switch (out_match(s, n, end, marks, 3, &len)) {
    case MATCH_MORE:
        return 0;
    case 0:
        buf_clear(&o->key);
        out_state(o, S_KEY);
        return len;
    case 1:
        close_object(o);
        o->close_due = f->section_close != NULL;
        return len;
    default: /* the end marker is missing */
        close_object(o);
        return OUT_AGAIN;
    }
}

static void start_value(struct output *o)
{
    o->arg = tool_list_arg(&o->job->tools, (struct str){o->name.p, o->name.n},
                           (struct str){o->key.p ? o->key.p : "", o->key.n});
    o->no_args = true;
    o->newline = false;
    buf_clear(&o->word);
    if (o->arg == ARG_STRING)
        put(o, "\"");
    out_state(o, S_VALUE);
}

size_t step_key(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {f->key_close};
    size_t len;
    int m = out_match(s, n, end, marks, 1, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m < 0 && (s[0] == '\n' || s[0] == '<' || o->key.n > MAX_NAME)) { /* no key */
        close_object(o);
        if (o->state != S_OVER) {
            out_content(o, f->key_open, strlen(f->key_open));
            out_content(o, o->key.p, o->key.n);
            out_state(o, S_TEXT);
        }
        return OUT_AGAIN;
    }
    if (m < 0) {
        buf_putc(&o->key, s[0]);
        return 1;
    }
    put(o, o->n_keys++ ? ", \"" : "{\"");
    put_escaped(o, o->key.p ? o->key.p : "", o->key.n);
    put(o, "\": ");
    if (f->value_open)
        out_state(o, S_VALUE_OPEN);
    else
        start_value(o);
    return len;
}

size_t step_value_open(struct output *o, const char *s, size_t n, bool end)
{
    const char *const marks[] = {out_form(o)->value_open};
    size_t len;
    if (out_is_space(s[0]))
        return 1;
    int m = out_match(s, n, end, marks, 1, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m == 0) {
        start_value(o);
        return len;
    }
    put(o, "null");
    out_state(o, S_KEYS);
    return OUT_AGAIN;
}

static void put_text(struct output *o, const char *s, size_t n)
{
    if (o->arg != ARG_STRING)
        buf_put(&o->word, s, n);
    else
        put_escaped(o, s, n);
}

static struct str trim(struct str s)
{
    while (s.n && out_is_space(s.p[0]))
        s.p++, s.n--;
    while (s.n && out_is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

static bool is_json(struct str s)
{
    struct arena a;
    struct json *v;
    arena_init(&a, 0);
    bool yes = s.n && json_parse(&v, &a, s.p, s.n, NULL, NULL) == ERR_OK;
    arena_fini(&a);
    return yes;
}

static void put_any(struct output *o, struct str text)
{
    static const char *const python[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    const struct str t = trim(text);
    if (o->arg == ARG_ANY) {
        for (int i = 0; i < 3; i++)
            if (str_is(t, python[i][0])) {
                put(o, python[i][1]);
                return;
            }
    }
    if (o->arg == ARG_ANY ? is_json(t) : str_is(t, "null")) {
        call_args(o, t.p, t.n);
        return;
    }
    put(o, "\"");
    put_escaped(o, text.p, text.n);
    put(o, "\"");
}

void tag_value_end(struct output *o, bool whole)
{
    if (o->newline && !(whole && out_form(o)->newlines))
        put_text(o, "\n", 1);
    o->newline = false;
    if (o->arg != ARG_STRING)
        put_any(o, (struct str){o->word.p ? o->word.p : "", o->word.n});
    else if (whole)
        put(o, "\"");
    buf_clear(&o->word);
}

size_t step_value(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {f->value_close};
    size_t len, k = 1;
    int m = out_match(s, n, end, marks, 1, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m == 0) {
        tag_value_end(o, true);
        out_state(o, S_KEYS);
        return len;
    }
    const bool first = o->no_args;
    o->no_args = false;
    if (s[0] == '\n' && f->newlines) {
        if (first)
            return 1;
        if (o->newline)
            put_text(o, "\n", 1);
        o->newline = true; /* perhaps the one before the end marker */
        return 1;
    }
    while (k < n && s[k] != '<' && s[k] != '\n')
        k++;
    if (o->newline)
        put_text(o, "\n", 1);
    o->newline = false;
    put_text(o, s, k);
    return k;
}
