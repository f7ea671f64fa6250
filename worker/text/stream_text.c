/* stream_text.c - see stream_text.h. */
#include "worker/text/stream_text.h"
#include "shared/base/utf8.h"
#include "worker/text/stop_match.h"

#include <assert.h>
#include <stdlib.h>

struct stream_text {
    const struct tokenizer *tokenizer; /* borrowed */
    struct stop_match *stops;          /* owned */
    struct buf
        raw; /* bytes not yet text: after each feed the start of a code point, 0 to 3 bytes */
    struct buf text; /* scratch: whole code points of `raw` */
    bool stopped;
};

enum err stream_text_open(struct stream_text **out, const struct tokenizer *t,
                          const struct str *stops, size_t n_stops)
{
    struct stream_text *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->tokenizer = t;
    buf_init(&s->raw);
    buf_init(&s->text);
    if (stop_match_open(&s->stops, stops, n_stops) != ERR_OK) {
        free(s);
        return ERR_NOMEM;
    }
    *out = s;
    return ERR_OK;
}

void stream_text_close(struct stream_text *s)
{
    if (!s)
        return;
    stop_match_close(s->stops);
    buf_fini(&s->raw);
    buf_fini(&s->text);
    free(s);
}

static enum err pass_on(struct stream_text *s, struct str text, struct buf *out, int32_t *stop)
{
    enum err e = stop_match_feed(s->stops, text, out, stop);
    s->stopped = *stop >= 0;
    return e;
}

/* The first n bytes of `raw` as text. */
static enum err take_raw(struct stream_text *s, size_t n, struct buf *out, int32_t *stop)
{
    if (n == 0)
        return ERR_OK;
    buf_clear(&s->text);
    if (!buf_reserve(&s->text, n * 3))
        return ERR_NOMEM;
    s->text.n = utf8_sanitize(s->raw.p, n, s->text.p);
    buf_drop_front(&s->raw, n);
    return pass_on(s, (struct str){s->text.p, s->text.n}, out, stop);
}

static enum err feed(struct stream_text *s, struct str piece, struct buf *out, int32_t *stop)
{
    assert(!s->stopped);
    *stop = -1;
    if (s->stopped || piece.n == 0)
        return ERR_OK;
    if (s->raw.n == 0 && utf8_valid(piece.p, piece.n)) /* nearly every token */
        return pass_on(s, piece, out, stop);
    buf_put(&s->raw, piece.p, piece.n);
    if (s->raw.failed)
        return ERR_NOMEM;
    return take_raw(s, s->raw.n - utf8_incomplete_tail(s->raw.p, s->raw.n), out, stop);
}

enum err stream_text_feed(struct stream_text *s, int32_t id, struct buf *out, int32_t *stop)
{
    return feed(s, tokenizer_piece(s->tokenizer, id, false), out, stop);
}

enum err stream_text_feed_shown(struct stream_text *s, int32_t id, struct buf *out, int32_t *stop)
{
    return feed(s, tokenizer_piece(s->tokenizer, id, true), out, stop);
}

enum err stream_text_end(struct stream_text *s, struct buf *out)
{
    int32_t stop = -1;
    if (s->stopped)
        return ERR_OK;
    enum err e = take_raw(s, s->raw.n, out, &stop); /* U+FFFD may complete a stop string too */
    return e || s->stopped ? e : stop_match_end(s->stops, out);
}
