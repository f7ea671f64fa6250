/* json_call.c - {"name": "...", "arguments": {...}} byte by byte, arguments passed on as they come.
 *
 * Lenient inside the arguments: only strings and brackets are followed, so what a model writes
 * there reaches the client even when it is no JSON. */
#include "worker/text/output/output_parts.h"

#include "shared/base/utf8.h"

void json_call_start(struct json_call *j, bool alone)
{
    *j = (struct json_call){.state = alone ? J_ARGS_TREE : J_KEY_OR_END, .alone = alone};
    j->depth = alone ? 1 : 0;
}

/* ---- strings ----------------------------------------------------------------------------------
 */

static void put_code_point(struct buf *out, uint32_t cp)
{
    char text[4];
    buf_put(out, text, utf8_encode(cp, text));
}

static void drop_high(struct unescape *u, struct buf *out)
{
    if (u->high)
        put_code_point(out, 0xfffd);
    u->high = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_unit(struct unescape *u, struct buf *out)
{
    uint32_t unit = u->unit;
    if (u->high && unit >= 0xdc00 && unit <= 0xdfff) {
        put_code_point(out, 0x10000 + ((u->high - 0xd800) << 10) + (unit - 0xdc00));
        u->high = 0;
        return;
    }
    drop_high(u, out);
    if (unit >= 0xd800 && unit <= 0xdbff)
        u->high = unit;
    else
        put_code_point(out, unit >= 0xdc00 && unit <= 0xdfff ? 0xfffd : unit);
}

bool unescape_byte(struct unescape *u, char c, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (u->hex) {
        int d = hex_digit(c);
        if (d >= 0) {
            u->unit = u->unit << 4 | (uint32_t)d;
            if (--u->hex == 0)
                put_unit(u, out);
            return true;
        }
        u->hex = 0; /* no escape after all: four digits are missing */
        drop_high(u, out);
        put_code_point(out, 0xfffd);
    }
    if (u->esc) {
        const char *at = c ? strchr(from, c) : NULL;
        u->esc = false;
        if (c == 'u') {
            u->hex = 4;
            u->unit = 0;
            return true;
        }
        drop_high(u, out);
        if (!at)
            buf_putc(out, '\\');
        buf_putc(out, at ? to[at - from] : c);
        return true;
    }
    if (c == '\\') {
        u->esc = true;
        return true;
    }
    drop_high(u, out);
    if (c == '"')
        return false;
    buf_putc(out, c);
    return true;
}

void unescape_end(struct unescape *u, struct buf *out)
{
    drop_high(u, out);
    *u = (struct unescape){0};
}

/* ---- the object --------------------------------------------------------------------------------
 */

static bool is_name_key(const struct buf *key)
{
    const struct str k = {key->p, key->n};
    return str_is(k, "name") || str_is(k, "tool_name") || str_is(k, "function");
}

static bool is_args_key(const struct buf *key)
{
    const struct str k = {key->p, key->n};
    return str_is(k, "arguments") || str_is(k, "parameters");
}

static enum json_verdict start_args(struct output *o, enum json_state state)
{
    struct json_call *j = &o->json;
    j->state = state;
    j->has_args = true;
    j->any = false;
    return !j->has_name || call_commit(o) ? JSON_GO : JSON_BAD;
}

static enum json_verdict start_value(struct output *o, char c)
{
    struct json_call *j = &o->json;
    const bool tree = c == '{' || c == '[';
    j->in_string = j->esc = false;
    j->depth = tree ? 1 : 0;
    j->u = (struct unescape){0};
    if (c == ',' || c == '}' || c == ']' || c == ':')
        return JSON_BAD;
    if (is_name_key(&o->key) && !j->has_name) {
        if (c == '{' && !j->nested && str_is((struct str){o->key.p, o->key.n}, "function")) {
            j->nested = true;
            j->state = J_KEY_OR_END;
            return JSON_GO;
        }
        if (c != '"')
            return JSON_BAD;
        buf_clear(&o->name);
        j->state = J_NAME;
        return JSON_GO;
    }
    if (is_args_key(&o->key) && !j->has_args) {
        enum json_verdict v = start_args(o, tree       ? J_ARGS_TREE
                                            : c == '"' ? J_ARGS_STRING
                                                       : J_ARGS_WORD);
        buf_clear(&o->word);
        if (v == JSON_GO && tree)
            call_args(o, &c, 1);
        else if (c != '"')
            buf_putc(&o->word, c);
        return v;
    }
    j->state = tree ? J_SKIP_TREE : c == '"' ? J_SKIP_STRING : J_SKIP_WORD;
    return JSON_GO;
}

static enum json_verdict end_object(struct output *o)
{
    struct json_call *j = &o->json;
    const struct call_form *f = out_form(o);
    if (j->nested) {
        j->nested = false;
        j->state = J_NEXT;
        return JSON_GO;
    }
    if (!j->has_name || (!j->has_args && f && f->bare))
        return JSON_BAD;
    if (!j->has_args) {
        if (start_args(o, J_NEXT) == JSON_BAD)
            return JSON_BAD;
        call_args(o, "{}", 2);
    }
    return JSON_DONE;
}

static enum json_verdict name_byte(struct output *o, char c)
{
    struct json_call *j = &o->json;
    if (unescape_byte(&j->u, c, &o->name))
        return o->name.n > MAX_NAME ? JSON_BAD : JSON_GO;
    if (o->name.n == 0)
        return JSON_BAD;
    j->has_name = true;
    j->state = J_NEXT;
    return !j->has_args || call_commit(o) ? JSON_GO : JSON_BAD;
}

/* True: the value is over with this byte. */
static bool tree_byte(struct json_call *j, char c)
{
    if (j->in_string) {
        if (j->esc)
            j->esc = false;
        else if (c == '\\')
            j->esc = true;
        else if (c == '"')
            j->in_string = false;
        return false;
    }
    if (c == '"')
        j->in_string = true;
    else if (c == '{' || c == '[')
        j->depth++;
    else if (c == '}' || c == ']')
        return --j->depth == 0;
    return false;
}

static bool ends_word(char c)
{
    return out_is_space(c) || c == ',' || c == '}' || c == ']';
}

static void args_string_byte(struct output *o, char c)
{
    struct json_call *j = &o->json;
    buf_clear(&o->word);
    bool on = unescape_byte(&j->u, c, &o->word);
    j->any |= o->word.n > 0;
    call_args(o, o->word.p, o->word.n);
    if (on)
        return;
    if (!j->any)
        call_args(o, "{}", 2);
    j->state = J_NEXT;
}

static void args_word_end(struct output *o)
{
    const struct str w = {o->word.p, o->word.n};
    if (str_is(w, "null"))
        call_args(o, "{}", 2);
    else
        call_args(o, w.p, w.n);
    o->json.state = J_NEXT;
}

enum json_verdict json_call_byte(struct output *o, char c)
{
    struct json_call *j = &o->json;
    const bool space = out_is_space(c);
    if (j->state == J_ARGS_WORD && ends_word(c))
        args_word_end(o);
    if (j->state == J_SKIP_WORD && ends_word(c))
        j->state = J_NEXT;
    switch (j->state) {
    case J_KEY_OR_END:
        if (c == '}')
            return end_object(o);
        /* fall through */
    case J_KEY_START:
        if (space)
            return JSON_GO;
        if (c != '"')
            return JSON_BAD;
        buf_clear(&o->key);
        j->u = (struct unescape){0};
        j->state = J_KEY;
        return JSON_GO;
    case J_KEY:
        if (!unescape_byte(&j->u, c, &o->key))
            j->state = J_COLON;
        return o->key.n > MAX_NAME ? JSON_BAD : JSON_GO;
    case J_COLON:
        j->state = c == ':' ? J_VALUE : J_COLON;
        return space || c == ':' ? JSON_GO : JSON_BAD;
    case J_VALUE:
        return space ? JSON_GO : start_value(o, c);
    case J_NAME:
        return name_byte(o, c);
    case J_ARGS_TREE: {
        bool over = tree_byte(j, c);
        call_args(o, &c, 1);
        if (over)
            j->state = J_NEXT;
        return over && j->alone ? JSON_DONE : JSON_GO;
    }
    case J_ARGS_STRING:
        args_string_byte(o, c);
        return JSON_GO;
    case J_ARGS_WORD:
        buf_putc(&o->word, c);
        return JSON_GO;
    case J_SKIP_TREE:
        if (tree_byte(j, c))
            j->state = J_NEXT;
        return JSON_GO;
    case J_SKIP_STRING:
        buf_clear(&o->word);
        if (!unescape_byte(&j->u, c, &o->word))
            j->state = J_NEXT;
        return JSON_GO;
    case J_SKIP_WORD:
        return JSON_GO;
    case J_NEXT:
        if (c == '}')
            return end_object(o);
        if (c == ',')
            j->state = J_KEY_START;
        return space || c == ',' ? JSON_GO : JSON_BAD;
    }
    return JSON_BAD;
}
