/* output_case.h - an answer cut into tokens, parsed, and what came of it as one line of text:
 * R[reasoning]C[content]N0[name of call 0]A0[its arguments], neighbours of one kind joined. */
#ifndef MILLRACE_TESTS_OUTPUT_CASE_H
#define MILLRACE_TESTS_OUTPUT_CASE_H

#include "shared/base/buf.h"
#include "shared/base/utf8.h"
#include "worker/text/output/output.h"

#include <stdio.h>
#include <stdlib.h>

struct transcript {
    struct buf text;             /* owned; transcript_fini() */
    enum delta_kind kind;        /* of the last event */
    uint32_t tool_index, events; /* so far */
    uint32_t reasoning_tokens;
    bool called, over;
    bool bad_utf8; /* an event was cut inside a character */
};

static inline void transcript_fini(struct transcript *t)
{
    buf_fini(&t->text);
}

static inline void transcript_take(struct transcript *t, struct output *o)
{
    static const char letters[] = "CRNA";
    struct output_event ev;
    while (output_next(o, &ev)) {
        t->bad_utf8 |= !utf8_valid(ev.text.p, ev.text.n);
        if (!t->events || ev.kind != t->kind || ev.tool_index != t->tool_index) {
            if (t->events)
                buf_putc(&t->text, ']');
            buf_putc(&t->text, letters[ev.kind]);
            if (ev.kind >= DELTA_TOOL_NAME)
                buf_put_u64(&t->text, ev.tool_index);
            buf_putc(&t->text, '[');
        }
        t->events++;
        t->kind = ev.kind;
        t->tool_index = ev.tool_index;
        buf_put(&t->text, ev.text.p, ev.text.n);
    }
}

/* Cuts before the bytes of `cuts` (ascending, n of them), moved back to the start of a character.
 */
static inline struct transcript transcribe(const struct output_job *job, struct str text,
                                           const size_t *cuts, size_t n)
{
    struct transcript t = {.events = 0};
    struct output *o;
    buf_init(&t.text);
    if (output_open(&o, job))
        abort();
    size_t at = 0;
    for (size_t i = 0; i <= n; i++) {
        size_t to = i < n ? cuts[i] : text.n;
        while (to > at && to < text.n && ((unsigned char)text.p[to] & 0xc0) == 0x80)
            to--;
        if (output_feed(o, (struct str){text.p + at, to - at}))
            abort();
        transcript_take(&t, o);
        at = to;
        t.over |= output_over(o);
    }
    if (output_end(o))
        abort();
    transcript_take(&t, o);
    if (t.events)
        buf_putc(&t.text, ']');
    t.reasoning_tokens = output_reasoning_tokens(o);
    t.called = output_called(o);
    output_close(o);
    return t;
}

#endif
