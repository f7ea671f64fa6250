/* POST /v1/completions: the old dialect; one shape for chunks and bodies. */
#include "gateway/api/generate.h"
#include "shared/base/json.h"
#include "shared/ipc/msg.h"

static void open_body(const struct gen *g, struct buf *out)
{
    buf_puts(out, "{\"id\":\"");
    buf_puts(out, g->id);
    buf_puts(out, "\",\"object\":\"text_completion\",\"created\":");
    buf_put_i64(out, g->created);
    buf_puts(out, ",\"model\":");
    json_put_str(out, g->model.p, g->model.n);
    buf_puts(out, ",\"system_fingerprint\":\"");
    buf_puts(out, g->fingerprint);
    buf_puts(out, "\",\"choices\":[");
}

/* The old log probabilities are four parallel lists. */
struct lists {
    struct buf *tokens, *logprobs, *tops, *offsets;
};

static void put_comma(struct buf *b)
{
    if (b->n)
        buf_putc(b, ',');
}

static uint32_t code_points(struct str s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80; /* all but continuation bytes */
    return n;
}

/* Two tokens of equal text would be one key: JSON has no room for both, the likelier one stays. */
static bool seen_before(const struct str *texts, uint16_t n, struct str text)
{
    for (uint16_t i = 0; i < n; i++)
        if (str_eq(texts[i], text))
            return true;
    return false;
}

static void add_tokens(struct gen_choice *c, const struct lists *l, struct str packed)
{
    struct logprob_entry e, alternative;
    struct str text, texts[PROTO_MAX_TOP_LOGPROBS];
    while (msg_next_logprob(&packed, &e, &text)) {
        put_comma(l->tokens);
        json_put_str(l->tokens, text.p, text.n);
        put_comma(l->logprobs);
        gen_put_logprob(l->logprobs, e.logprob);
        put_comma(l->offsets);
        buf_put_u64(l->offsets, c->text_offset);
        c->text_offset += code_points(text);
        put_comma(l->tops);
        buf_putc(l->tops, '{');
        uint16_t n = 0;
        for (uint16_t i = 0; i < e.n_top && msg_next_logprob(&packed, &alternative, &text); i++) {
            if (n == PROTO_MAX_TOP_LOGPROBS || seen_before(texts, n, text))
                continue;
            if (n)
                buf_putc(l->tops, ',');
            texts[n++] = text;
            json_put_str(l->tops, text.p, text.n);
            buf_putc(l->tops, ':');
            gen_put_logprob(l->tops, alternative.logprob);
        }
        buf_putc(l->tops, '}');
    }
}

static void put_list(struct buf *out, const char *key, const struct buf *list)
{
    buf_puts(out, key);
    buf_putc(out, '[');
    buf_put(out, list->p ? list->p : "", list->n);
    buf_putc(out, ']');
}

static void put_lists(struct buf *out, const struct lists *l)
{
    put_list(out, "{\"tokens\":", l->tokens);
    put_list(out, ",\"token_logprobs\":", l->logprobs);
    put_list(out, ",\"top_logprobs\":", l->tops);
    put_list(out, ",\"text_offset\":", l->offsets);
    buf_putc(out, '}');
}

/* lists NULL: null. finish NULL: null. */
static void put_choice(struct buf *out, uint32_t index, struct str text, const struct lists *lists,
                       const char *finish)
{
    buf_puts(out, "{\"index\":");
    buf_put_u64(out, index);
    buf_puts(out, ",\"text\":");
    json_put_str(out, text.p ? text.p : "", text.n);
    buf_puts(out, ",\"logprobs\":");
    if (lists)
        put_lists(out, lists);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"finish_reason\":");
    if (finish) {
        buf_putc(out, '"');
        buf_puts(out, finish);
        buf_puts(out, "\"}");
    } else {
        buf_puts(out, "null}");
    }
}

/* There are no tool calls in this dialect. */
static const char *finish_name(enum finish_reason reason)
{
    return reason == FINISH_LENGTH ? "length" : "stop";
}

/* ---- streaming
 * ------------------------------------------------------------------------------------- */

static void close_chunk(const struct gen *g, struct buf *out)
{
    buf_puts(out, g->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

static void put_delta(struct gen *g, struct buf *out, const struct job_delta *d)
{
    struct buf b[4] = {0};
    struct lists lists = {&b[0], &b[1], &b[2], &b[3]};
    bool logprobs = g->logprobs && d->logprobs.n;
    if (g->echo.n && !g->choices[d->choice].started) { /* before the choice's first text */
        g->choices[d->choice].started = true;
        buf_puts(out, "data: ");
        open_body(g, out);
        put_choice(out, d->choice, g->echo, NULL, NULL);
        close_chunk(g, out);
    }
    if (logprobs)
        add_tokens(&g->choices[d->choice], &lists, d->logprobs);
    if (d->text.n || logprobs) {
        buf_puts(out, "data: ");
        open_body(g, out);
        put_choice(out, d->choice, d->text, logprobs ? &lists : NULL, NULL);
        close_chunk(g, out);
    }
    for (size_t i = 0; i < 4; i++) {
        out->failed |= b[i].failed;
        buf_fini(&b[i]);
    }
}

static void put_finish(struct gen *g, struct buf *out, uint32_t choice)
{
    buf_puts(out, "data: ");
    open_body(g, out);
    put_choice(out, choice, STR(""), NULL, finish_name(g->choices[choice].reason));
    close_chunk(g, out);
}

static void put_usage(struct gen *g, struct buf *out, const struct job_usage *u)
{
    buf_puts(out, "data: ");
    open_body(g, out);
    buf_puts(out, "],\"usage\":");
    gen_put_usage(out, u);
    buf_puts(out, "}\n\n");
}

/* ---- whole
 * ------------------------------------------------------------------------------------------- */

static struct lists lists_of(struct gen_choice *c)
{
    return (struct lists){&c->logprobs, &c->more[0], &c->more[1], &c->more[2]};
}

static void collect(struct gen *g, const struct job_delta *d)
{
    struct gen_choice *c = &g->choices[d->choice];
    struct lists lists = lists_of(c);
    if (!c->started)
        buf_put(&c->text, g->echo.p, g->echo.n);
    c->started = true;
    buf_put(&c->text, d->text.p, d->text.n);
    if (g->logprobs)
        add_tokens(c, &lists, d->logprobs);
}

static void put_whole(struct gen *g, struct buf *out, const struct job_usage *u)
{
    open_body(g, out);
    for (uint32_t i = 0; i < g->n; i++) {
        struct gen_choice *c = &g->choices[i];
        struct lists lists = lists_of(c);
        if (i)
            buf_putc(out, ',');
        put_choice(out, i, (struct str){c->text.p, c->text.n}, g->logprobs ? &lists : NULL,
                   finish_name(c->reason));
        out->failed |= c->more[0].failed || c->more[1].failed || c->more[2].failed;
    }
    buf_puts(out, "],\"usage\":");
    gen_put_usage(out, u);
    buf_puts(out, "}\n");
}

const struct dialect dialect_completions = {
    .name = "completions",
    .id_prefix = "cmpl-",
    .bit = FOR_COMPLETIONS,
    .put_delta = put_delta,
    .put_finish = put_finish,
    .put_usage = put_usage,
    .collect = collect,
    .put_whole = put_whole,
};

void api_completions(struct http_request *r, void *app)
{
    gen_start(r, app, &dialect_completions);
}
