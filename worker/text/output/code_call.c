/* code_call.c - what Llama 3 writes behind <|python_tag|> when it is not JSON:
 *   NAME.call(key="value", other=3)    a built-in tool, if the request has one of that name
 *   any other text                     code, the one argument of the request's tool for code */
#include "worker/text/output/output_parts.h"

#include <stdlib.h>

static const char *const code_tools[] = {"python", "code_interpreter", "ipython"};

static struct str code_tool(const struct output *o)
{
    for (size_t i = 0; i < sizeof(code_tools) / sizeof(code_tools[0]); i++)
        if (tool_list_has(&o->job->tools, str_of(code_tools[i])))
            return str_of(code_tools[i]);
    return (struct str){NULL, 0};
}

static void put_escaped(struct output *o, const char *p, size_t n)
{
    struct buf *b = &o->held;
    buf_clear(b);
    json_put_str(b, p, n);
    if (b->n >= 2)
        call_args(o, b->p + 1, b->n - 2);
    buf_clear(b);
}

void code_start(struct output *o)
{
    buf_clear(&o->word);
    buf_clear(&o->name);
    o->in_args = false;
    out_state(o, S_BUILTIN);
}

/* What was read so far, and all that follows, is code; or content. */
static void to_code(struct output *o)
{
    struct str tool = code_tool(o);
    if (!tool.p) {
        call_fall_back(o);
        return;
    }
    buf_clear(&o->held);
    buf_clear(&o->name);
    buf_put(&o->name, tool.p, tool.n);
    (void)call_commit(o); /* a known name */
    static const char head[] = "{\"code\": \"";
    call_args(o, head, sizeof(head) - 1);
    put_escaped(o, o->word.p ? o->word.p : "", o->word.n);
    buf_clear(&o->word);
    out_state(o, S_CODE);
}

size_t step_code(struct output *o, const char *s, size_t n, bool end)
{
    (void)end;
    put_escaped(o, s, n);
    return n;
}

static bool in_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* May `w` go on to become NAME.call( ? */
static bool may_be_builtin(struct str w, bool *whole, struct str *name)
{
    static const char call[] = ".call(";
    size_t i = 0;
    while (i < w.n && in_word(w.p[i]))
        i++;
    size_t rest = w.n - i;
    *name = (struct str){w.p, i};
    *whole = rest == sizeof(call) - 1;
    return i > 0 && i < MAX_NAME && rest <= sizeof(call) - 1 && memcmp(w.p + i, call, rest) == 0;
}

size_t step_builtin(struct output *o, const char *s, size_t n, bool end)
{
    bool whole;
    struct str name;
    (void)end;
    if (o->in_args) {
        buf_put(&o->word, s, n);
        out_keep(o, s, n);
        return n;
    }
    buf_putc(&o->word, s[0]);
    if (o->word.failed)
        return 1;
    bool may = may_be_builtin((struct str){o->word.p, o->word.n}, &whole, &name);
    if (may && whole && !tool_list_has(&o->job->tools, name))
        may = false;
    if (!may) {
        o->word.n--; /* the byte at hand is not taken */
        to_code(o);
        return OUT_AGAIN;
    }
    if (whole)
        o->in_args = true;
    out_keep(o, s, 1);
    return 1;
}

static struct str skip(struct str s)
{
    while (s.n && out_is_space(s.p[0]))
        s.p++, s.n--;
    return s;
}

/* key=VALUE, key=VALUE) as a JSON object; VALUE is written as JSON is. */
static bool read_keywords(struct str s, struct buf *out)
{
    buf_putc(out, '{');
    for (bool first = true;; first = false) {
        s = skip(s);
        if (s.n && s.p[0] == ')') {
            buf_putc(out, '}');
            return skip((struct str){s.p + 1, s.n - 1}).n == 0;
        }
        if (!first) {
            if (!s.n || s.p[0] != ',')
                return false;
            s = skip((struct str){s.p + 1, s.n - 1});
            buf_puts(out, ", ");
        }
        size_t k = 0, v = 0;
        bool quoted = false;
        while (k < s.n && in_word(s.p[k]))
            k++;
        if (k == 0 || k == s.n || s.p[k] != '=')
            return false;
        json_put_str(out, s.p, k);
        buf_puts(out, ": ");
        s = skip((struct str){s.p + k + 1, s.n - k - 1});
        while (v < s.n && (quoted || (s.p[v] != ',' && s.p[v] != ')'))) {
            if (s.p[v] == '"')
                quoted = !quoted;
            v += s.p[v] == '\\' && v + 1 < s.n ? 2 : 1;
        }
        struct arena a;
        struct json *value;
        arena_init(&a, 0);
        bool ok = v && json_parse(&value, &a, s.p, v, NULL, NULL) == ERR_OK;
        arena_fini(&a);
        if (!ok)
            return false;
        buf_put(out, s.p, v);
        s = (struct str){s.p + v, s.n - v};
    }
}

void builtin_end(struct output *o)
{
    struct buf args;
    bool whole;
    struct str name = {"", 0}, w = {o->word.p ? o->word.p : "", o->word.n};
    const char *paren = w.n ? memchr(w.p, '(', w.n) : NULL;
    buf_init(&args);
    if (o->in_args && paren &&
        may_be_builtin((struct str){w.p, (size_t)(paren + 1 - w.p)}, &whole, &name) &&
        read_keywords((struct str){paren + 1, w.n - (size_t)(paren + 1 - w.p)}, &args) &&
        !args.failed) {
        buf_clear(&o->held);
        buf_put(&o->name, name.p, name.n);
        (void)call_commit(o); /* a known name */
        call_args(o, args.p, args.n);
    } else {
        to_code(o);
        if (o->state == S_CODE)
            call_args(o, "\"}", 2);
    }
    o->failed |= args.failed;
    buf_fini(&args);
}
