/* output.c - the loop over states, the answer's text and its reasoning, events, counting. */
#include "worker/text/output/output_parts.h"

#include <stdlib.h>

bool out_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

int out_match(const char *s, size_t n, bool end, const char *const *list, int count, size_t *len)
{
    int best = MATCH_NONE;
    bool more = false;
    *len = 0;
    for (int i = 0; i < count; i++) {
        if (!list[i] || list[i][0] != s[0])
            continue;
        size_t m = strlen(list[i]);
        if (n < m)
            more |= memcmp(s, list[i], n) == 0; /* longer than any that is whole */
        else if (m > *len && memcmp(s, list[i], m) == 0) {
            best = i;
            *len = m;
        }
    }
    return more && !end ? MATCH_MORE : best;
}

void out_state(struct output *o, enum state state)
{
    o->state = state;
}

/* ---- events -----------------------------------------------------------------------------------
 */

void out_emit(struct output *o, enum delta_kind kind, const char *p, size_t n)
{
    const bool tool = kind == DELTA_TOOL_NAME || kind == DELTA_TOOL_ARGS;
    const uint32_t index = tool ? o->n_calls - 1 : 0;
    struct event *last = o->n_events > o->next_event ? &o->events[o->n_events - 1] : NULL;
    if (n == 0 || o->seeding)
        return;
    if (last && last->kind == kind && last->tool_index == index && kind != DELTA_TOOL_NAME) {
        buf_put(&o->text, p, n);
        last->n += n;
        return;
    }
    if (o->n_events == o->cap_events) {
        size_t cap = o->cap_events ? o->cap_events * 2 : 8;
        struct event *grown = realloc(o->events, cap * sizeof(*grown));
        if (!grown) {
            o->failed = true;
            return;
        }
        o->events = grown;
        o->cap_events = cap;
    }
    o->events[o->n_events++] = (struct event){kind, index, o->text.n, n};
    buf_put(&o->text, p, n);
}

bool output_next(struct output *o, struct output_event *ev)
{
    if (o->next_event == o->n_events || o->failed)
        return false;
    const struct event *e = &o->events[o->next_event++];
    *ev = (struct output_event){e->kind, e->tool_index, {o->text.p + e->at, e->n}};
    return true;
}

static void put_space(struct output *o, enum delta_kind kind)
{
    if (!o->after_marker)
        out_emit(o, kind, o->ws.p, o->ws.n);
    buf_clear(&o->ws);
    o->after_marker = false;
}

void out_content(struct output *o, const char *p, size_t n)
{
    if (n == 0)
        return;
    put_space(o, DELTA_CONTENT);
    o->fresh = false;
    out_emit(o, DELTA_CONTENT, p, n);
}

/* ---- text and reasoning ------------------------------------------------------------------------
 */

static const struct reasoning_form *tags(const struct output *o)
{
    const struct call_form *c = o->job->format.calls;
    return o->job->wants.reasoning && !(c && c->body == CALL_CHANNEL) ? o->job->format.reasoning
                                                                      : NULL;
}

static size_t space_run(const char *s, size_t n)
{
    size_t k = 0;
    while (k < n && out_is_space(s[k]))
        k++;
    return k;
}

static size_t text_run(const struct output *o, const char *s, size_t n)
{
    size_t k = 1;
    while (k < n && !o->stops[(unsigned char)s[k]])
        k++;
    return k;
}

enum text_mark {
    MARK_REASON,
    MARK_REASON_END, /* nothing was reasoned, or the template had ended it already */
    MARK_WRAP,
    MARK_WRAP_END,
    MARK_SECTION,
    MARK_CALL,
    MARK_CALL_END,
    MARK_SECTION_END,
    N_TEXT_MARKS
};

static size_t text_mark(struct output *o, enum text_mark mark, const char *s, size_t len)
{
    switch (mark) {
    case MARK_REASON:
        out_state(o, S_REASON);
        o->label = true;
        break;
    case MARK_REASON_END:
        o->label = true;
        break;
    case MARK_WRAP:
    case MARK_WRAP_END:
        o->wrapped = mark == MARK_WRAP;
        break;
    case MARK_SECTION:
        out_keep(o, s, len);
        out_state(o, S_SECTION);
        return len; /* white space before it may yet be text */
    case MARK_CALL:
        call_open(o, s, len, out_form(o)->body == CALL_JSON ? S_BODY : S_NAME);
        return len;
    case MARK_CALL_END:
    case MARK_SECTION_END:
        o->close_due = mark == MARK_CALL_END && out_form(o)->section_close;
        break;
    case N_TEXT_MARKS:
        break;
    }
    buf_clear(&o->ws);
    o->after_marker = true;
    return len;
}

static size_t step_text(struct output *o, const char *s, size_t n, bool end)
{
    const struct reasoning_form *r = tags(o);
    const struct call_form *f = out_form(o);
    if (out_is_space(s[0])) {
        size_t k = space_run(s, n);
        buf_put(&o->ws, s, k);
        return k;
    }
    const char *const marks[N_TEXT_MARKS] = {
        [MARK_REASON] = r && o->fresh ? r->open : NULL,
        [MARK_REASON_END] = r && o->fresh ? r->close : NULL,
        [MARK_WRAP] = r && o->fresh ? r->wrap_open : NULL,
        [MARK_WRAP_END] = r && o->wrapped ? r->wrap_close : NULL,
        [MARK_SECTION] = f ? f->section_open : NULL,
        [MARK_CALL] = f ? f->open : NULL,
        [MARK_CALL_END] = f && o->close_due ? f->close : NULL,
        [MARK_SECTION_END] = f && o->close_due ? f->section_close : NULL,
    };
    size_t len;
    int m = out_match(s, n, end, marks, N_TEXT_MARKS, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m >= 0)
        return text_mark(o, (enum text_mark)m, s, len);
    if (f && f->bare && o->fresh && s[0] == '{') {
        call_open(o, "", 0, S_BODY);
        return OUT_AGAIN;
    }
    size_t k = text_run(o, s, n);
    out_content(o, s, k);
    return k;
}

static size_t step_reason(struct output *o, const char *s, size_t n, bool end)
{
    const char *const marks[] = {tags(o)->close};
    size_t len, k;
    o->label = true;
    if (out_is_space(s[0])) {
        k = space_run(s, n);
        buf_put(&o->ws, s, k);
        return k;
    }
    int m = out_match(s, n, end, marks, 1, &len);
    if (m == MATCH_MORE)
        return 0;
    if (m == 0) {
        buf_clear(&o->ws);
        o->after_marker = true;
        out_state(o, S_TEXT);
        return len;
    }
    k = text_run(o, s, n);
    put_space(o, DELTA_REASONING);
    out_emit(o, DELTA_REASONING, s, k);
    return k;
}

static size_t step_over(struct output *o, const char *s, size_t n, bool end)
{
    (void)o, (void)s, (void)end;
    return n;
}

static step_fn *const steps[N_STATES] = {
    [S_TEXT] = step_text,   [S_REASON] = step_reason,   [S_SECTION] = step_section,
    [S_BODY] = step_body,   [S_JSON] = step_json,       [S_AFTER] = step_after,
    [S_NAME] = step_name,   [S_LATE] = step_late,       [S_ARGS] = step_args,
    [S_KEYS] = step_keys,   [S_KEY] = step_key,         [S_VALUE_OPEN] = step_value_open,
    [S_VALUE] = step_value, [S_CODE] = step_code,       [S_BUILTIN] = step_builtin,
    [S_HEAD] = step_head,   [S_MESSAGE] = step_message, [S_OVER] = step_over,
};

/* ---- counting ----------------------------------------------------------------------------------
 */

/* The next n bytes are reasoning, or not. */
static void count(struct output *o, uint64_t n, bool reasoning)
{
    uint64_t from = o->counted, limit = from + n;
    while (o->first_token < o->n_tokens) {
        struct token_end *t = &o->tokens[o->first_token];
        if (from < limit && t->at > from)
            t->reasoning |= reasoning;
        if (t->at > limit)
            break;
        o->reasoning_tokens += t->reasoning;
        o->first_token++;
        from = t->at > from ? t->at : from;
    }
    o->counted = limit;
    if (o->first_token == o->n_tokens)
        o->first_token = o->n_tokens = 0;
}

static void push_token(struct output *o, size_t n)
{
    o->fed += n;
    if (o->n_tokens == o->cap_tokens) {
        size_t cap = o->cap_tokens ? o->cap_tokens * 2 : 16;
        struct token_end *grown = realloc(o->tokens, cap * sizeof(*grown));
        if (!grown) {
            o->failed = true;
            return;
        }
        o->tokens = grown;
        o->cap_tokens = cap;
    }
    /* One that adds no text (yet) belongs to what it stands in. */
    o->tokens[o->n_tokens++] =
        (struct token_end){o->fed, n == 0 && output_kind(o) == DELTA_REASONING};
}

/* ---- the loop ----------------------------------------------------------------------------------
 */

static void run(struct output *o, bool end)
{
    size_t at = 0;
    while (at < o->pend.n && !o->failed) {
        o->label = o->defer = false;
        size_t k = steps[o->state](o, o->pend.p + at, o->pend.n - at, end);
        if (k == 0)
            break;
        if (k == OUT_AGAIN)
            continue;
        at += k;
        o->deferred += k;
        if (!o->defer) {
            count(o, o->deferred, o->label);
            o->deferred = 0;
        }
    }
    buf_drop_front(&o->pend, at);
}

static enum err status(struct output *o)
{
    const struct buf *all[] = {&o->pend, &o->ws,   &o->raw,  &o->name,
                               &o->key,  &o->word, &o->held, &o->text};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        o->failed |= all[i]->failed;
    return o->failed ? ERR_NOMEM : ERR_OK;
}

static void drop_events(struct output *o)
{
    if (o->next_event < o->n_events)
        return;
    o->next_event = o->n_events = 0;
    buf_clear(&o->text);
}

enum err output_feed(struct output *o, struct str text)
{
    if (o->failed)
        return ERR_NOMEM;
    drop_events(o);
    push_token(o, text.n);
    buf_put(&o->pend, text.p, text.n);
    count(o, 0, false); /* one that adds nothing where nothing waits */
    run(o, false);
    return status(o);
}

/* Of an answer that ends among its calls, commas and the like mean nothing. */
static bool only_separators(const struct output *o)
{
    for (size_t i = 0; i < o->raw.n; i++)
        if (!out_is_space(o->raw.p[i]) && o->raw.p[i] != ',' && o->raw.p[i] != ';')
            return false;
    return o->n_calls > 0;
}

static void end_state(struct output *o)
{
    switch (o->state) {
    case S_TEXT:
        put_space(o, DELTA_CONTENT);
        break;
    case S_REASON:
        put_space(o, DELTA_REASONING);
        break;
    case S_SECTION:
    case S_BODY:
    case S_NAME:
    case S_LATE:
    case S_ARGS:
        if (!only_separators(o))
            call_fall_back(o);
        break;
    case S_JSON:
        if (!o->committed)
            call_fall_back(o);
        else if (o->json.state == J_ARGS_WORD)
            call_args(o, o->word.p, o->word.n);
        else if (o->json.state == J_ARGS_STRING) {
            buf_clear(&o->word);
            unescape_end(&o->json.u, &o->word);
            call_args(o, o->word.p, o->word.n);
        }
        break;
    case S_VALUE:
        tag_value_end(o, false);
        break;
    case S_CODE:
        call_args(o, "\"}", 2);
        break;
    case S_BUILTIN:
        builtin_end(o);
        break;
    case S_HEAD:
        head_end(o);
        break;
    case S_MESSAGE:
        message_end(o);
        break;
    case S_AFTER:
    case S_KEYS:
    case S_KEY:
    case S_VALUE_OPEN:
    case S_OVER:
    case N_STATES:
        break;
    }
}

enum err output_end(struct output *o)
{
    if (o->failed)
        return ERR_NOMEM;
    drop_events(o);
    run(o, true);
    end_state(o);
    count(o, o->deferred, false);
    o->deferred = 0;
    return status(o);
}

/* ---- a job -------------------------------------------------------------------------------------
 */

bool output_job_marks(const struct output_job *j, struct str text)
{
    return output_format_marks(&j->format, text, j->wants.reasoning, j->wants.tools);
}

static bool ends_with(struct str s, const char *z)
{
    size_t n = z ? strlen(z) : 0;
    return n && s.n >= n && memcmp(s.p + s.n - n, z, n) == 0;
}

/* The markers that the prompt ends with, which the answer therefore doesn't repeat. */
static struct str seed_of(const struct output_job *j, struct str prompt)
{
    static const char head[] = "<|start|>assistant";
    const struct reasoning_form *r = j->wants.reasoning ? j->format.reasoning : NULL;
    const struct call_form *f = j->format.calls;
    struct str none = {"", 0};
    if (f && f->body == CALL_CHANNEL) {
        const char *at = NULL;
        for (size_t i = prompt.n > MAX_SEED ? prompt.n - MAX_SEED : 0; i < prompt.n; i++)
            if (str_starts((struct str){prompt.p + i, prompt.n - i}, STR("<|start|>")))
                at = prompt.p + i;
        struct str tail = at ? (struct str){at, (size_t)(prompt.p + prompt.n - at)} : none;
        return str_starts(tail, str_of(head))
                   ? (struct str){tail.p + strlen(head), tail.n - strlen(head)}
                   : none;
    }
    while (prompt.n && out_is_space(prompt.p[prompt.n - 1]))
        prompt.n--;
    const char *const marks[] = {r ? r->open : NULL, r ? r->wrap_open : NULL,
                                 f && j->wants.tools ? f->section_open : NULL,
                                 f && j->wants.tools ? f->open : NULL};
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (ends_with(prompt, marks[i]))
            return str_of(marks[i]);
    return none;
}

enum err output_job_new(struct output_job **out, const struct output_format *format,
                        const struct output_wants *wants, struct str request_json,
                        struct str prompt, struct errmsg *why)
{
    struct output_job *j = calloc(1, sizeof(*j));
    if (!j)
        return err_set(why, ERR_NOMEM, "out of memory");
    j->format = *format;
    j->wants = *wants;
    j->wants.tools &= format->calls != NULL;
    if (j->wants.tools) {
        enum err e = tool_list_read(&j->tools, request_json, why);
        if (e) {
            free(j);
            return e;
        }
    }
    struct str seed = seed_of(j, prompt);
    j->n_seed = seed.n < MAX_SEED ? seed.n : 0;
    memcpy(j->seed, seed.p, j->n_seed);
    *out = j;
    return ERR_OK;
}

void output_job_free(struct output_job *j)
{
    if (!j)
        return;
    if (j->wants.tools)
        tool_list_fini(&j->tools);
    free(j);
}

/* ---- a choice ----------------------------------------------------------------------------------
 */

static void set_stops(struct output *o)
{
    const struct reasoning_form *r = tags(o);
    const struct call_form *f = out_form(o);
    const char *const marks[] = {r ? r->open : NULL,         r ? r->close : NULL,
                                 r ? r->wrap_open : NULL,    r ? r->wrap_close : NULL,
                                 f ? f->section_open : NULL, f ? f->section_close : NULL,
                                 f ? f->open : NULL,         f ? f->close : NULL};
    for (int c = 0; c < 256; c++)
        o->stops[c] = out_is_space((char)c);
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (marks[i])
            o->stops[(unsigned char)marks[i][0]] = true;
}

enum err output_open(struct output **out, const struct output_job *job)
{
    struct output *o = calloc(1, sizeof(*o));
    if (!o)
        return ERR_NOMEM;
    const struct call_form *f = job->format.calls;
    o->job = job;
    o->fresh = true;
    o->state = f && f->body == CALL_CHANNEL ? S_HEAD : S_TEXT;
    set_stops(o);
    o->seeding = true;
    buf_put(&o->pend, job->seed, job->n_seed);
    run(o, false);
    o->seeding = false;
    o->counted = o->deferred = 0;
    o->after_marker |= job->n_seed > 0 && o->state != S_HEAD && o->state != S_MESSAGE;
    if (status(o)) {
        output_close(o);
        return ERR_NOMEM;
    }
    *out = o;
    return ERR_OK;
}

void output_close(struct output *o)
{
    if (!o)
        return;
    struct buf *const all[] = {&o->pend, &o->ws,   &o->raw,  &o->name,
                               &o->key,  &o->word, &o->held, &o->text};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_fini(all[i]);
    free(o->events);
    free(o->tokens);
    free(o);
}

uint32_t output_reasoning_tokens(const struct output *o)
{
    return o->reasoning_tokens;
}

bool output_called(const struct output *o)
{
    return o->n_calls > 0;
}

bool output_over(const struct output *o)
{
    return o->state == S_OVER;
}

enum delta_kind output_kind(const struct output *o)
{
    if (o->state == S_REASON)
        return DELTA_REASONING;
    if (o->state == S_MESSAGE)
        return o->message;
    return o->committed || o->state == S_AFTER || o->state == S_OVER ? DELTA_TOOL_ARGS
                                                                     : DELTA_CONTENT;
}
