/* stop_match.c - see stop_match.h.
 *
 * Each stop string is followed by its own Knuth-Morris-Pratt automaton: `matched` is how much of it
 * the text so far ends with. So the text that must be held is the longest `matched`, exactly, and a
 * byte costs a few steps per stop string whatever the text (a handful of stop strings is what
 * requests have: no need for Aho-Corasick). */
#include "worker/text/stop_match.h"

#include <assert.h>
#include <stdlib.h>

struct stop {
    char *text; /* owned */
    size_t n, matched;
    size_t *border; /* owned; [n] border[i]: longest proper prefix of text[0..i] that it also ends
                       with */
};

struct stop_match {
    struct stop *stops; /* owned */
    size_t n_stops;
    struct buf held; /* text not yet delivered: after each feed what may become a stop string */
    bool stopped;
};

static bool stop_init(struct stop *s, struct str text)
{
    assert(text.n > 0);
    *s = (struct stop){.n = text.n};
    s->text = malloc(text.n);
    s->border = calloc(text.n, sizeof *s->border);
    if (!s->text || !s->border)
        return false;
    memcpy(s->text, text.p, text.n);
    for (size_t i = 1, k = 0; i < text.n; i++) {
        while (k > 0 && text.p[i] != text.p[k])
            k = s->border[k - 1];
        k += text.p[i] == text.p[k];
        s->border[i] = k;
    }
    return true;
}

/* True: the stop string is complete. Nobody steps on from there. */
static bool stop_step(struct stop *s, char c)
{
    while (s->matched > 0 && s->text[s->matched] != c)
        s->matched = s->border[s->matched - 1];
    s->matched += s->text[s->matched] == c;
    return s->matched == s->n;
}

enum err stop_match_open(struct stop_match **out, const struct str *stops, size_t n_stops)
{
    struct stop_match *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    buf_init(&s->held);
    s->stops = n_stops ? calloc(n_stops, sizeof *s->stops) : NULL;
    bool room = n_stops == 0 || s->stops;
    for (size_t i = 0; i < n_stops && room; i++) {
        s->n_stops = i + 1;
        room = stop_init(&s->stops[i], stops[i]);
    }
    if (!room) {
        stop_match_close(s);
        return ERR_NOMEM;
    }
    *out = s;
    return ERR_OK;
}

void stop_match_close(struct stop_match *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_stops; i++) {
        free(s->stops[i].text);
        free(s->stops[i].border);
    }
    free(s->stops);
    buf_fini(&s->held);
    free(s);
}

/* Index of the stop string that is complete with byte c, the longest of several; -1: none. */
static int32_t step_all(struct stop_match *s, char c)
{
    int32_t best = -1;
    for (size_t i = 0; i < s->n_stops; i++)
        if (stop_step(&s->stops[i], c) && (best < 0 || s->stops[i].n > s->stops[best].n))
            best = (int32_t)i;
    return best;
}

enum err stop_match_feed(struct stop_match *s, struct str text, struct buf *out, int32_t *stop)
{
    size_t longest = 0;
    assert(!s->stopped);
    *stop = -1;
    if (s->n_stops == 0) {
        buf_put(out, text.p, text.n);
        return out->failed ? ERR_NOMEM : ERR_OK;
    }
    for (size_t i = 0; i < text.n; i++) {
        int32_t found = step_all(s, text.p[i]);
        if (found < 0)
            continue;
        buf_put(&s->held, text.p, i + 1);
        s->stopped = true;
        *stop = found;
        if (s->held.failed)
            return ERR_NOMEM;
        buf_put(out, s->held.p, s->held.n - s->stops[found].n);
        return out->failed ? ERR_NOMEM : ERR_OK;
    }
    buf_put(&s->held, text.p, text.n);
    if (s->held.failed)
        return ERR_NOMEM;
    for (size_t i = 0; i < s->n_stops; i++)
        if (s->stops[i].matched > longest)
            longest = s->stops[i].matched;
    buf_put(out, s->held.p, s->held.n - longest);
    buf_drop_front(&s->held, s->held.n - longest);
    return out->failed ? ERR_NOMEM : ERR_OK;
}

enum err stop_match_end(struct stop_match *s, struct buf *out)
{
    if (!s->stopped)
        buf_put(out, s->held.p, s->held.n);
    buf_clear(&s->held);
    return out->failed ? ERR_NOMEM : ERR_OK;
}
