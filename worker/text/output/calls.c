/* calls.c - where calls begin and end: sections, lists, separators, and falling back to content. */
#include "worker/text/output/output_parts.h"

void out_keep(struct output *o, const char *s, size_t n)
{
    if (!o->committed)
        buf_put(&o->raw, s, n);
}

void call_open(struct output *o, const char *s, size_t n, enum state state)
{
    buf_put(&o->raw, s, n);
    buf_clear(&o->name);
    buf_clear(&o->held);
    o->committed = o->close_due = o->in_list = o->fence = o->in_id = false;
    out_state(o, state);
}

bool call_commit(struct output *o)
{
    const struct call_form *f = out_form(o);
    if (f->known_names &&
        !tool_list_has(&o->job->tools, (struct str){o->name.p ? o->name.p : "", o->name.n}))
        return false;
    buf_clear(&o->ws);
    buf_clear(&o->raw);
    o->committed = o->after_marker = true;
    o->fresh = false;
    o->n_calls++;
    out_emit(o, DELTA_TOOL_NAME, o->name.p, o->name.n);
    out_emit(o, DELTA_TOOL_ARGS, o->held.p, o->held.n);
    buf_clear(&o->held);
    return true;
}

void call_args(struct output *o, const char *p, size_t n)
{
    if (o->committed)
        out_emit(o, DELTA_TOOL_ARGS, p, n);
    else
        buf_put(&o->held, p, n);
}

void call_finish(struct output *o)
{
    const struct call_form *f = out_form(o);
    o->committed = false;
    o->after_marker = true;
    o->close_due = f->close || f->section_close;
    buf_clear(&o->raw);
    buf_clear(&o->name);
    buf_clear(&o->held);
    out_state(o, o->job->wants.single_call ? S_OVER : S_AFTER);
}

void call_fall_back(struct output *o)
{
    if (o->committed) { /* it has been told; it ends here, as broken as it is */
        call_finish(o);
        return;
    }
    out_state(o, S_TEXT);
    out_content(o, o->raw.p, o->raw.n);
    o->fresh = false;
    o->in_list = o->fence = false;
    buf_clear(&o->raw);
    buf_clear(&o->held);
}

static size_t fall_back(struct output *o)
{
    call_fall_back(o);
    return OUT_AGAIN;
}

/* How a call goes on behind its opening marker. */
static enum state opened(const struct call_form *f)
{
    return f->body == CALL_JSON ? S_BODY : S_NAME;
}

size_t step_section(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {f->open, f->section_close};
    size_t len;
    if (out_is_space(s[0])) {
        out_keep(o, s, 1);
        return 1;
    }
    switch (out_match(s, n, end, marks, 2, &len)) {
    case MATCH_MORE:
        return 0;
    case 0:
        call_open(o, s, len, opened(f));
        return len;
    case 1:
        out_keep(o, s, len);
        call_fall_back(o);
        return len;
    default:
        return fall_back(o);
    }
}

static bool starts_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

size_t step_body(struct output *o, const char *s, size_t n, bool end)
{
    static const char *const fences[] = {"```json", "```"};
    const struct call_form *f = out_form(o);
    size_t len;
    if (out_is_space(s[0])) {
        out_keep(o, s, 1);
        return 1;
    }
    if (s[0] == '{') {
        out_keep(o, s, 1);
        json_call_start(&o->json, false);
        out_state(o, S_JSON);
        return 1;
    }
    if (s[0] == '[' && !o->in_list) {
        o->in_list = true;
        out_keep(o, s, 1);
        return 1;
    }
    if (!o->in_list && !o->fence) {
        int m = out_match(s, n, end, fences, 2, &len);
        if (m == MATCH_MORE)
            return 0;
        if (m >= 0) {
            o->fence = true;
            out_keep(o, s, len);
            return len;
        }
    }
    if (f->named && !o->in_list && starts_name(s[0])) {
        out_state(o, S_NAME);
        return OUT_AGAIN;
    }
    if (f->code && !o->in_list && !o->fence && o->raw.n && o->raw.n >= strlen(f->open) &&
        memcmp(o->raw.p, f->open, strlen(f->open)) == 0) {
        code_start(o);
        return OUT_AGAIN;
    }
    return fall_back(o);
}

/* An end marker inside arguments, outside any string: no JSON holds that, so the call breaks off.
 */
static int breaks_off(const struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {f->close, f->section_close};
    size_t len;
    if (s[0] != '<' || o->json.state != J_ARGS_TREE || o->json.in_string)
        return MATCH_NONE;
    return out_match(s, n, end, marks, 2, &len);
}

size_t step_json(struct output *o, const char *s, size_t n, bool end)
{
    for (size_t i = 0; i < n; i++) {
        int m = breaks_off(o, s + i, n - i, end);
        if (m == MATCH_MORE)
            return i;
        enum json_verdict v = m >= 0 ? JSON_BAD : json_call_byte(o, s[i]);
        if (v != JSON_BAD)
            out_keep(o, s + i, 1);
        if (v == JSON_GO)
            continue;
        if (v == JSON_DONE) {
            call_finish(o);
            return i + 1;
        }
        call_fall_back(o);
        return i ? i : OUT_AGAIN;
    }
    return n;
}

size_t step_after(struct output *o, const char *s, size_t n, bool end)
{
    const struct call_form *f = out_form(o);
    const char *const marks[] = {f->close, f->section_close, f->open, f->section_open,
                                 o->fence ? "```" : NULL};
    const bool json = f->body == CALL_JSON;
    size_t len;
    if (out_is_space(s[0]))
        return 1;
    switch (out_match(s, n, end, marks, 5, &len)) {
    case MATCH_MORE:
        return 0;
    case 0:
        o->close_due = f->section_close != NULL;
        o->in_list = o->fence = false;
        return len;
    case 1:
        o->close_due = false;
        return len;
    case 2:
        call_open(o, s, len, opened(f));
        return len;
    case 3:
        out_keep(o, s, len);
        out_state(o, S_SECTION);
        return len;
    case 4:
        o->fence = false;
        return len;
    default:
        break;
    }
    if (json && (((s[0] == ',' || s[0] == ';') && (o->in_list || f->bare)))) {
        out_keep(o, s, 1);
        out_state(o, S_BODY);
        return 1;
    }
    if (o->in_list && s[0] == ']') {
        o->in_list = false;
        return 1;
    }
    out_state(o, json && s[0] == '{' ? S_BODY : S_TEXT);
    return OUT_AGAIN;
}
