/* POST /v1/chat/completions: chunks and bodies. */
#include "gateway/api/generate.h"
#include "shared/base/json.h"
#include "shared/ipc/msg.h"

/* ---- pieces
 * -------------------------------------------------------------------------------------- */

/* The same bytes begin every chunk; built afresh, because it is a memcpy of 200 bytes either way.
 */
static void open_chunk(const struct gen *g, struct buf *out)
{
    buf_puts(out, "data: {\"id\":\"");
    buf_puts(out, g->id);
    buf_puts(out, "\",\"object\":\"chat.completion.chunk\",\"created\":");
    buf_put_i64(out, g->created);
    buf_puts(out, ",\"model\":");
    json_put_str(out, g->model.p, g->model.n);
    buf_puts(out, ",\"service_tier\":\"default\",\"system_fingerprint\":\"");
    buf_puts(out, g->fingerprint);
    buf_puts(out, "\",\"choices\":[");
}

static void open_choice(const struct gen *g, struct buf *out, uint32_t choice)
{
    open_chunk(g, out);
    buf_puts(out, "{\"index\":");
    buf_put_u64(out, choice);
    buf_puts(out, ",\"delta\":{");
}

/* finish: NULL is null. */
static void close_choice(const struct gen *g, struct buf *out, struct str logprobs,
                         const char *finish)
{
    buf_puts(out, "},\"logprobs\":");
    if (logprobs.n) {
        buf_puts(out, "{\"content\":[");
        buf_put(out, logprobs.p, logprobs.n);
        buf_puts(out, "],\"refusal\":null}");
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, ",\"finish_reason\":");
    if (finish) {
        buf_putc(out, '"');
        buf_puts(out, finish);
        buf_putc(out, '"');
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, g->include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n");
}

static void put_token(struct buf *out, const struct logprob_entry *e, struct str text)
{
    buf_puts(out, "{\"token\":");
    json_put_str(out, text.p, text.n); /* half a code point shows as U+FFFD; `bytes` is exact */
    buf_puts(out, ",\"logprob\":");
    gen_put_logprob(out, e->logprob);
    buf_puts(out, ",\"bytes\":[");
    for (size_t i = 0; i < text.n; i++) {
        if (i)
            buf_putc(out, ',');
        buf_put_u64(out, (unsigned char)text.p[i]);
    }
    buf_putc(out, ']');
}

/* Packed entries to JSON objects divided by commas. */
static void put_logprobs(struct buf *out, struct str packed)
{
    struct logprob_entry e, alternative;
    struct str text;
    for (bool first = true; msg_next_logprob(&packed, &e, &text); first = false) {
        if (!first)
            buf_putc(out, ',');
        put_token(out, &e, text);
        buf_puts(out, ",\"top_logprobs\":[");
        for (uint16_t i = 0; i < e.n_top && msg_next_logprob(&packed, &alternative, &text); i++) {
            if (i)
                buf_putc(out, ',');
            put_token(out, &alternative, text);
            buf_putc(out, '}');
        }
        buf_puts(out, "]}");
    }
}

/* A choice's `more`: the arguments of the call at hand (whole answers), and the log probabilities
 * of tokens that have shown no text yet. A token may be held back because a call may begin with it:
 * when content comes of it, they go out with that, and when a call does, they are no content's. */
enum { MORE_ARGS, MORE_HELD };

static void put_more(struct buf *out, const struct buf *b)
{
    if (out->n && b->n)
        buf_putc(out, ',');
    buf_put(out, b->p, b->n);
}

/* Appends what goes out with this delta. */
static void take_logprobs(struct gen *g, const struct job_delta *d, struct buf *out)
{
    struct buf *held = &g->choices[d->choice].more[MORE_HELD];
    if (!g->logprobs)
        return;
    if (d->kind == DELTA_CONTENT && d->logprobs.n) {
        if (held->n)
            buf_putc(held, ',');
        put_logprobs(held, d->logprobs);
    }
    if (d->text.n == 0 && !(g->hide_reasoning && d->kind == DELTA_REASONING))
        return;
    if (d->kind == DELTA_CONTENT)
        put_more(out, held);
    out->failed |= held->failed;
    buf_clear(held);
}

/* Call ids are the request's, numbered: unique, and nothing has to be drawn for them. */
static void put_call_head(const struct gen *g, struct buf *out, uint32_t choice, uint32_t index,
                          struct str name)
{
    buf_printf(out, "\"id\":\"call_%s%02x%02x\",\"type\":\"function\",\"function\":{\"name\":",
               g->r->id + 4, choice & 0xff, index);
    json_put_str(out, name.p, name.n);
    buf_puts(out, ",\"arguments\":");
}

/* ---- streaming
 * ------------------------------------------------------------------------------------- */

static void put_role(struct gen *g, struct buf *out, uint32_t choice)
{
    struct gen_choice *c = &g->choices[choice];
    if (c->started)
        return;
    c->started = true;
    open_choice(g, out, choice);
    buf_puts(out, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    close_choice(g, out, (struct str){0}, NULL);
}

static void put_delta(struct gen *g, struct buf *out, const struct job_delta *d)
{
    struct buf logprobs = {0};
    take_logprobs(g, d, &logprobs);
    put_role(g, out, d->choice); /* with the first token, even one that shows no text yet */
    if (d->text.n) {
        open_choice(g, out, d->choice);
        switch (d->kind) {
        case DELTA_CONTENT:
            buf_puts(out, "\"content\":");
            json_put_str(out, d->text.p, d->text.n);
            break;
        case DELTA_REASONING: /* the name most clients know, and the one that came after it */
            buf_puts(out, "\"reasoning_content\":");
            json_put_str(out, d->text.p, d->text.n);
            buf_puts(out, ",\"reasoning\":");
            json_put_str(out, d->text.p, d->text.n);
            break;
        case DELTA_TOOL_NAME:
            buf_puts(out, "\"tool_calls\":[{\"index\":");
            buf_put_u64(out, d->tool_index);
            buf_putc(out, ',');
            put_call_head(g, out, d->choice, d->tool_index, d->text);
            buf_puts(out, "\"\"}}]");
            break;
        case DELTA_TOOL_ARGS:
            buf_puts(out, "\"tool_calls\":[{\"index\":");
            buf_put_u64(out, d->tool_index);
            buf_puts(out, ",\"function\":{\"arguments\":");
            json_put_str(out, d->text.p, d->text.n);
            buf_puts(out, "}}]");
            break;
        }
        close_choice(g, out, (struct str){logprobs.p, logprobs.n}, NULL);
    }
    out->failed |= logprobs.failed;
    buf_fini(&logprobs);
}

static void put_finish(struct gen *g, struct buf *out, uint32_t choice)
{
    struct buf *held = &g->choices[choice].more[MORE_HELD];
    put_role(g, out, choice);
    if (held->n || held->failed) { /* of the end token, and of content that was held to the end */
        open_choice(g, out, choice);
        buf_puts(out, "\"content\":\"\"");
        close_choice(g, out, (struct str){held->p, held->n}, NULL);
        out->failed |= held->failed;
        buf_clear(held);
    }
    open_choice(g, out, choice);
    close_choice(g, out, (struct str){0}, gen_finish_name(g->choices[choice].reason));
}

static void put_usage(struct gen *g, struct buf *out, const struct job_usage *u)
{
    open_chunk(g, out);
    buf_puts(out, "],\"usage\":");
    gen_put_usage(out, u);
    buf_puts(out, "}\n\n");
}

/* ---- whole
 * ------------------------------------------------------------------------------------------- */

static void collect_call(struct gen *g, const struct job_delta *d)
{
    struct gen_choice *c = &g->choices[d->choice];
    struct buf *out = &c->tool_calls, *args = &c->more[MORE_ARGS];
    if (d->kind == DELTA_TOOL_ARGS) {
        buf_put(args, d->text.p, d->text.n);
        return;
    }
    if (c->n_tool_calls) { /* the one before is complete now */
        json_put_str(out, args->p ? args->p : "", args->n);
        buf_puts(out, "}},");
        buf_clear(args);
    }
    buf_putc(out, '{');
    put_call_head(g, out, d->choice, c->n_tool_calls++, d->text);
}

static void collect(struct gen *g, const struct job_delta *d)
{
    struct gen_choice *c = &g->choices[d->choice];
    struct buf logprobs = {0};
    take_logprobs(g, d, &logprobs);
    put_more(&c->logprobs, &logprobs);
    c->logprobs.failed |= logprobs.failed;
    buf_fini(&logprobs);
    switch (d->kind) {
    case DELTA_CONTENT:
        buf_put(&c->text, d->text.p, d->text.n);
        break;
    case DELTA_REASONING:
        buf_put(&c->reasoning, d->text.p, d->text.n);
        break;
    case DELTA_TOOL_NAME:
    case DELTA_TOOL_ARGS:
        collect_call(g, d);
        break;
    }
}

static void put_message(struct gen_choice *c, struct buf *out)
{
    buf_puts(out, "{\"role\":\"assistant\",\"content\":");
    if (c->text.n || !c->n_tool_calls)
        json_put_str(out, c->text.p ? c->text.p : "", c->text.n);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"refusal\":null,\"annotations\":[]");
    if (c->reasoning.n) {
        buf_puts(out, ",\"reasoning_content\":");
        json_put_str(out, c->reasoning.p, c->reasoning.n);
        buf_puts(out, ",\"reasoning\":");
        json_put_str(out, c->reasoning.p, c->reasoning.n);
    }
    if (c->n_tool_calls) {
        buf_puts(out, ",\"tool_calls\":[");
        buf_put(out, c->tool_calls.p, c->tool_calls.n);
        const struct buf *args = &c->more[MORE_ARGS];
        json_put_str(out, args->p ? args->p : "", args->n);
        out->failed |= args->failed;
        buf_puts(out, "}}]");
    }
    buf_putc(out, '}');
}

static void put_whole(struct gen *g, struct buf *out, const struct job_usage *u)
{
    buf_puts(out, "{\"id\":\"");
    buf_puts(out, g->id);
    buf_puts(out, "\",\"object\":\"chat.completion\",\"created\":");
    buf_put_i64(out, g->created);
    buf_puts(out, ",\"model\":");
    json_put_str(out, g->model.p, g->model.n);
    buf_puts(out, ",\"choices\":[");
    for (uint32_t i = 0; i < g->n; i++) {
        struct gen_choice *c = &g->choices[i];
        buf_puts(out, i ? ",{\"index\":" : "{\"index\":");
        buf_put_u64(out, i);
        buf_puts(out, ",\"message\":");
        put_message(c, out);
        buf_puts(out, ",\"logprobs\":");
        if (g->logprobs) {
            put_more(&c->logprobs, &c->more[MORE_HELD]);
            out->failed |= c->logprobs.failed || c->more[MORE_HELD].failed;
            buf_puts(out, "{\"content\":[");
            buf_put(out, c->logprobs.p, c->logprobs.n);
            buf_puts(out, "],\"refusal\":null}");
        } else {
            buf_puts(out, "null");
        }
        buf_puts(out, ",\"finish_reason\":\"");
        buf_puts(out, gen_finish_name(c->reason));
        buf_puts(out, "\"}");
    }
    buf_puts(out, "],\"usage\":");
    gen_put_usage(out, u);
    buf_puts(out, ",\"service_tier\":\"default\",\"system_fingerprint\":\"");
    buf_puts(out, g->fingerprint);
    buf_puts(out, "\"}\n");
}

const struct dialect dialect_chat = {
    .name = "chat",
    .id_prefix = "chatcmpl-",
    .bit = FOR_CHAT,
    .put_delta = put_delta,
    .put_finish = put_finish,
    .put_usage = put_usage,
    .collect = collect,
    .put_whole = put_whole,
};

void api_chat(struct http_request *r, void *app)
{
    gen_start(r, app, &dialect_chat);
}
