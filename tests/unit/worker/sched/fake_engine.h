/* fake_engine.h - a model of 40 tokens for tests of the scheduler, honest about its KV cache.
 *
 * The KV pool holds, per position, a hash of all tokens up to it, computed from the hash of the
 * position before as found through the block table. Logits are drawn from that hash. So a sequence
 * that was given a wrong block, or a stale one, or was continued at a wrong position, says
 * something else. With a window, the second pool holds the same hashes, and a position that sees a
 * wrong one through the window's table says something else, too. Text: token i is the letter 'a'+i
 * (26 of them); END ends; THINK toggles reasoning; CALL is a whole tool call, so text of three
 * kinds where letters were held; NAN_TOKEN in a prompt makes logits that are not numbers; BAD_TOKEN
 * makes the step fail. Stop strings are held back while they may still come. Time: a clock that
 * only steps move.
 */
#ifndef MILLRACE_TESTS_FAKE_ENGINE_H
#define MILLRACE_TESTS_FAKE_ENGINE_H

#include "shared/base/buf.h"
#include "worker/sched/sched.h"
#include "worker/window.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FAKE_VOCAB = 40,
    FAKE_END = 26,
    FAKE_THINK = 27,
    FAKE_NAN = 28,
    FAKE_BAD = 29,
    FAKE_CALL = 30,
    FAKE_EMBD = 3
};

struct fake {
    struct engine engine;
    uint64_t *kv;        /* [kv_blocks, block_tokens] */
    uint64_t *window_kv; /* [window_blocks, block_tokens] */
    uint64_t now_ns, ns_per_token, ns_per_step;
    uint64_t n_steps, n_positions;
    uint32_t max_chunk; /* the largest n_tok seen */
    int end_bias;       /* added to END's logit: how long answers are */
    int fail_steps;     /* so many of the next steps fail */
};

static inline uint64_t fake_mix(uint64_t h, uint64_t v)
{
    h = (h + v + 1) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 31);
}

static inline void fake_logits(const struct fake *f, uint64_t h, bool nan, float *out)
{
    for (uint32_t i = 0; i < FAKE_VOCAB; i++)
        out[i] = i > FAKE_THINK && i != FAKE_CALL
                     ? -30
                     : (float)(fake_mix(h, i) >> 40) / (float)(1 << 24) * 6 - 3;
    out[FAKE_END] += (float)f->end_bias;
    out[FAKE_THINK] -= 2;
    out[FAKE_CALL] += 1; /* rarely drawn, it would prove little */
    if (nan)
        out[5] = NAN;
}

static inline uint64_t *fake_at(uint64_t *kv, const uint32_t *blocks, uint32_t bt, uint32_t p)
{
    return &kv[blocks[p / bt] * bt + p % bt];
}

/* Writes position p, and looks at all that it sees. */
static inline uint64_t fake_see(struct fake *f, const struct step_seq *q, uint32_t p, uint64_t h)
{
    const uint32_t bt = f->engine.block_tokens;
    if (!f->engine.window_blocks)
        return h;
    *fake_at(f->window_kv, q->window_blocks, bt, p) = h;
    for (uint32_t j = kv_first_seen(f->engine.window, f->engine.chunked, p); j < p; j++)
        if (*fake_at(f->window_kv, q->window_blocks, bt, j) != *fake_at(f->kv, q->blocks, bt, j))
            return h ^ 0xbad;
    return h;
}

static inline enum err fake_step(void *self, const struct step_seq *seqs, int n, struct errmsg *why)
{
    struct fake *f = self;
    uint32_t bt = f->engine.block_tokens, total = 0;
    for (int i = 0; i < n; i++) {
        total += seqs[i].n_tok;
        for (uint32_t t = 0; t < seqs[i].n_tok; t++)
            if (seqs[i].tokens[t] == FAKE_BAD)
                return err_set(why, ERR_INTERNAL, "a bad token");
    }
    if (f->fail_steps > 0 && n > 1) {
        f->fail_steps--;
        return err_set(why, ERR_INTERNAL, "a hiccup");
    }
    if (n > (int)f->engine.max_seqs || total > f->engine.max_step_tokens)
        abort();
    for (int i = 0; i < n; i++) {
        const struct step_seq *q = &seqs[i];
        if (q->n_tok < 1 || (q->pos + q->n_tok + bt - 1) / bt > q->n_blocks)
            abort();
        bool nan = false;
        for (uint32_t t = 0; t < q->n_tok; t++) {
            uint32_t p = q->pos + t;
            uint64_t before = p ? *fake_at(f->kv, q->blocks, bt, p - 1) : 77;
            uint64_t h = fake_mix(before, (uint64_t)q->tokens[t]);
            *fake_at(f->kv, q->blocks, bt, p) = h;
            h = fake_see(f, q, p, h);
            nan |= q->tokens[t] == FAKE_NAN;
            if (t + q->n_logits >= q->n_tok)
                fake_logits(f, h, nan, q->logits + (t + q->n_logits - q->n_tok) * FAKE_VOCAB);
        }
        f->max_chunk = q->n_tok > f->max_chunk ? q->n_tok : f->max_chunk;
    }
    f->n_steps++;
    f->n_positions += total;
    f->now_ns += f->ns_per_step + total * f->ns_per_token;
    return ERR_OK;
}

/* A token's state is made of the hash of all tokens up to it, read through the block table; of an
 * encoder's, of the hash of the whole input. */
static inline enum err fake_embed(void *self, const struct embed_seq *seqs, int n,
                                  struct errmsg *why)
{
    struct fake *f = self;
    uint32_t bt = f->engine.block_tokens, total = 0;
    for (int i = 0; i < n; i++) {
        total += seqs[i].n_tok;
        for (uint32_t t = 0; t < seqs[i].n_tok; t++)
            if (seqs[i].tokens[t] == FAKE_BAD)
                return err_set(why, ERR_INTERNAL, "a bad token");
    }
    if (f->fail_steps > 0 && n > 1) {
        f->fail_steps--;
        return err_set(why, ERR_INTERNAL, "a hiccup");
    }
    if (n > (int)f->engine.max_seqs || total > f->engine.max_step_tokens)
        abort();
    for (int i = 0; i < n; i++) {
        const struct embed_seq *q = &seqs[i];
        float rows[1000][FAKE_EMBD];
        if (q->n_tok < 1 || q->n_tok > 1000 || (q->pos + q->n_tok + bt - 1) / bt > q->n_blocks ||
            (f->engine.is_encoder && (q->pos || !q->last)))
            abort();
        for (uint32_t t = 0; t < q->n_tok; t++) {
            uint32_t p = q->pos + t;
            uint64_t before = p ? f->kv[q->blocks[(p - 1) / bt] * bt + (p - 1) % bt] : 77;
            f->kv[q->blocks[p / bt] * bt + p % bt] = fake_mix(before, (uint64_t)q->tokens[t]);
        }
        for (uint32_t t = 0; t < q->n_tok; t++) {
            uint32_t p = q->pos + (f->engine.is_encoder ? q->n_tok - 1 : t);
            uint64_t h = f->kv[q->blocks[p / bt] * bt + p % bt];
            rows[t][0] = (float)(h >> 40) / (float)(1 << 24);
            rows[t][1] = (float)q->tokens[t];
            rows[t][2] = q->tokens[t] == FAKE_NAN ? NAN : 1;
        }
        uint32_t first, wanted = pooled_wants(q->pooled, q->n_tok, q->last, &first);
        pooled_add(q->pooled, wanted ? rows[first] : NULL, q->n_tok, q->last);
        f->max_chunk = q->n_tok > f->max_chunk ? q->n_tok : f->max_chunk;
    }
    f->n_steps++;
    f->n_positions += total;
    f->now_ns += f->ns_per_step + total * f->ns_per_token;
    return ERR_OK;
}

static inline struct str fake_piece(void *self, int32_t id)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    (void)self;
    return id >= 0 && id < 26 ? (struct str){letters + id, 1} : (struct str){"", 0};
}

/* --- text: letters, held back while they may become a stop string
 * ------------------------------------ */

struct text_pipe {
    const struct job_req *r;
    char held[64];
    size_t n_held;
    bool reasoning;
    uint32_t n_reasoning, n_calls;
    enum { FAKE_NO_PART, FAKE_NAME, FAKE_ARGS } next;
};

static inline enum err fake_text_open(void *self, const struct job_req *r, uint32_t choice,
                                      struct text_pipe **out)
{
    (void)self;
    (void)choice;
    *out = calloc(1, sizeof **out);
    (*out)->r = r;
    return ERR_OK;
}

static inline void fake_text_close(struct text_pipe *p)
{
    free(p);
}

/* How many of the last letters could be the start of a stop string. */
static inline size_t fake_hold(const struct text_pipe *p)
{
    for (size_t n = p->n_held; n > 0; n--)
        for (uint32_t s = 0; s < p->r->n_stops; s++)
            if (n < p->r->stops[s].n && memcmp(p->held + p->n_held - n, p->r->stops[s].p, n) == 0)
                return n;
    return 0;
}

static inline void fake_give(struct text_pipe *p, size_t n, struct text_out *out)
{
    out->kind = p->reasoning ? DELTA_REASONING : DELTA_CONTENT;
    buf_put(&out->text, p->held, n);
    memmove(p->held, p->held + n, p->n_held - n);
    p->n_held -= n;
}

static inline enum err fake_text_more(struct text_pipe *p, struct text_out *out)
{
    bool name = p->next == FAKE_NAME;
    out->kind = name ? DELTA_TOOL_NAME : DELTA_TOOL_ARGS;
    out->tool_index = p->n_calls;
    out->called = true;
    buf_puts(&out->text, name ? "N" : "{}");
    p->next = name ? FAKE_ARGS : FAKE_NO_PART;
    p->n_calls += !name;
    out->more = name;
    return ERR_OK;
}

static inline enum err fake_text_feed(struct text_pipe *p, int32_t id, struct text_out *out)
{
    p->n_reasoning += p->reasoning;
    out->reasoning_tokens = p->n_reasoning;
    if (id == FAKE_CALL) {
        p->next = FAKE_NAME;
        if (p->n_held == 0)
            return fake_text_more(p, out);
        fake_give(p, p->n_held, out);
        out->more = true;
        return ERR_OK;
    }
    if (id == FAKE_THINK) { /* what was held belongs to the old kind */
        fake_give(p, p->n_held, out);
        p->reasoning = !p->reasoning;
        return ERR_OK;
    }
    struct str letter = fake_piece(NULL, id);
    if (letter.n)
        p->held[p->n_held++] = letter.p[0];
    for (uint32_t s = 0; s < p->r->n_stops; s++) {
        const struct str *stop = &p->r->stops[s];
        if (p->n_held >= stop->n && memcmp(p->held + p->n_held - stop->n, stop->p, stop->n) == 0) {
            fake_give(p, p->n_held - stop->n, out);
            out->stop = (int32_t)s;
            return ERR_OK;
        }
    }
    fake_give(p, p->n_held - fake_hold(p), out);
    return ERR_OK;
}

static inline enum err fake_text_end(struct text_pipe *p, struct text_out *out)
{
    fake_give(p, p->n_held, out);
    out->reasoning_tokens = p->n_reasoning;
    return ERR_OK;
}

static const int32_t fake_end_tokens[1] = {FAKE_END};

static inline void fake_open(struct fake *f, uint32_t slots, uint32_t step_tokens, uint32_t blocks,
                             uint32_t context)
{
    *f = (struct fake){
        .engine = {.self = f,
                   .n_vocab = FAKE_VOCAB,
                   .n_embd = FAKE_EMBD,
                   .context = context,
                   .kv_blocks = blocks,
                   .block_tokens = 4,
                   .max_seqs = slots,
                   .max_step_tokens = step_tokens,
                   .end_tokens = fake_end_tokens,
                   .n_end_tokens = 1,
                   .step = fake_step,
                   .piece = fake_piece,
                   .text_open = fake_text_open,
                   .text_close = fake_text_close,
                   .text_feed = fake_text_feed,
                   .text_more = fake_text_more,
                   .text_end = fake_text_end},
        .kv = calloc((size_t)blocks * 4, sizeof *f->kv),
        .ns_per_token = 1000,
        .now_ns = 1000000,
    };
}

/* Of `blocks` window blocks; the ring that a step of the engine's size needs. */
static inline void fake_open_windows(struct fake *f, uint32_t window, bool chunked, uint32_t blocks)
{
    struct engine *e = &f->engine;
    e->window = window;
    e->chunked = chunked;
    e->ring_blocks = (window + e->max_step_tokens + e->block_tokens) / e->block_tokens + 2;
    e->window_blocks = blocks ? blocks : e->ring_blocks * (e->max_seqs + 1);
    f->window_kv = calloc((size_t)e->window_blocks * e->block_tokens, sizeof *f->window_kv);
}

/* From now on it embeds, and writes no text. */
static inline void fake_make_embed(struct fake *f, enum pooling pooling, bool encoder)
{
    f->engine.embeds = true;
    f->engine.is_encoder = encoder;
    f->engine.pooling = pooling;
    f->engine.min_dims = 2;
    f->engine.step = NULL;
    f->engine.embed = fake_embed;
}

static inline void fake_close(struct fake *f)
{
    free(f->window_kv);
    free(f->kv);
}

#endif
