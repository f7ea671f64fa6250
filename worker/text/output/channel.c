/* channel.c - gpt-oss' harmony format: an answer is a row of messages, each with a head.
 *
 *   <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
 *   <|start|>assistant<|channel|>commentary to=functions.NAME
 * <|constrain|>json<|message|>{...}<|call|>
 *
 * analysis is reasoning; final, and commentary to nobody, is content; what goes to a function is a
 * call; what goes to any other recipient is the model's own affair, thus reasoning. */
#include "worker/text/output/output_parts.h"

static const char channel[] = "<|channel|>", to[] = "to=", start[] = "<|start|>";

/* Could this still be a head? One starts with a marker, or says to whom it goes. */
static bool may_be_head(struct str raw)
{
    static const char *const begins[] = {"<|", " to=", "to=", "assistant"};
    if (str_starts(raw, str_of(start)))
        raw = (struct str){raw.p + sizeof(start) - 1, raw.n - (sizeof(start) - 1)};
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        size_t n = strlen(begins[i]);
        if (raw.n == 0 || memcmp(raw.p, begins[i], raw.n < n ? raw.n : n) == 0)
            return true;
    }
    return false;
}

/* The word after `key` in a head; empty: there is none. */
static struct str word_after(struct str head, const char *key)
{
    const char *at = memmem(head.p, head.n, key, strlen(key));
    if (!at)
        return (struct str){"", 0};
    struct str w = {at + strlen(key), 0};
    while (w.p + w.n < head.p + head.n && !out_is_space(w.p[w.n]) && w.p[w.n] != '<')
        w.n++;
    return w;
}

static void start_message(struct output *o)
{
    static const char prefix[] = "functions.";
    const struct str head = {o->raw.p ? o->raw.p : "", o->raw.n};
    struct str who = word_after(head, to), what = word_after(head, channel);
    const bool call = str_starts(who, str_of(prefix)) && who.n > sizeof(prefix) - 1;
    o->message = DELTA_CONTENT;
    if (call && o->job->wants.tools) {
        o->message = DELTA_TOOL_ARGS;
        buf_clear(&o->name);
        buf_put(&o->name, who.p + sizeof(prefix) - 1, who.n - (sizeof(prefix) - 1));
        o->no_args = true;
        (void)call_commit(o); /* any name will do */
    } else if (!call && (who.n || str_is(what, "analysis")) && o->job->wants.reasoning) {
        o->message = DELTA_REASONING;
    }
    buf_clear(&o->raw);
    out_state(o, S_MESSAGE);
}

void head_end(struct output *o)
{
    if (o->raw.n && o->raw.p[0] != '<')
        out_emit(o, DELTA_CONTENT, o->raw.p, o->raw.n);
    buf_clear(&o->raw);
}

size_t step_head(struct output *o, const char *s, size_t n, bool end)
{
    static const char *const marks[] = {"<|message|>", "<|end|>"};
    size_t len;
    int m = out_match(s, n, end, marks, 2, &len);
    o->defer = true; /* whose head it is shows at its end */
    if (m == MATCH_MORE)
        return 0;
    if (m == 0) {
        start_message(o);
        o->defer = false;
        o->label = o->message == DELTA_REASONING;
        return len;
    }
    if (m == 1) { /* a head without a message says nothing to anybody */
        head_end(o);
        o->defer = false;
        return len;
    }
    buf_putc(&o->raw, s[0]);
    if (o->raw.n <= MAX_NAME && may_be_head((struct str){o->raw.p, o->raw.n}))
        return 1;
    out_emit(o, DELTA_CONTENT, o->raw.p, o->raw.n);
    buf_clear(&o->raw);
    o->message = DELTA_CONTENT;
    o->defer = false;
    out_state(o, S_MESSAGE);
    return 1;
}

void message_end(struct output *o)
{
    if (o->message != DELTA_TOOL_ARGS)
        return;
    if (o->no_args)
        call_args(o, "{}", 2);
    o->committed = false;
    if (o->job->wants.single_call)
        out_state(o, S_OVER);
}

size_t step_message(struct output *o, const char *s, size_t n, bool end)
{
    static const char *const marks[] = {"<|end|>", "<|call|>", "<|return|>", start, channel};
    size_t len, k = 1;
    int m = out_match(s, n, end, marks, 5, &len);
    o->label = o->message == DELTA_REASONING;
    if (m == MATCH_MORE)
        return 0;
    if (m >= 0) {
        out_state(o, S_HEAD);
        message_end(o);
        if (m < 3)
            return len;
        o->label = false;
        return OUT_AGAIN;
    }
    if (o->message == DELTA_TOOL_ARGS && o->no_args && out_is_space(s[0]))
        return 1;
    while (k < n && s[k] != '<')
        k++;
    o->no_args = false;
    out_emit(o, o->message, s, k);
    return k;
}
