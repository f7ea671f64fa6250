/* sampler.c - the steps of the header, one function each. */
#include "worker/sample/sampler.h"

#include "worker/sample/philox.h"
#include "worker/sample/select.h"
#include "worker/sample/vexp.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FEW = 128,                   /* top_k up to here is found by a scan with insertion */
    SUM_BLOCK = 16 * VEXP_LANES, /* weights are summed in blocks: a draw can skip them */
};

struct sampler {
    uint32_t n_vocab, n_padded; /* padded to SUM_BLOCK: vector loops have no rest */
    float *x;                   /* [n_padded] logits on their way; the pad is -inf */
    float *w;                   /* [n_padded] weights */
    int32_t *keep, *pick;       /* [n_padded] kept ids, ascending; the same in kept_* */
    float *kept_x, *kept_w;     /* [n_padded] x and w of the kept, between top_k and top_p */
    uint32_t *seen;    /* [n_vocab] SEEN_BIT | count in the completion; zero between calls */
    double *block_sum; /* [n_padded / SUM_BLOCK] */
    struct select_scratch select;
};

static const uint32_t SEEN_BIT = 1u << 31;

enum err sampler_open(struct sampler **out, uint32_t n_vocab, struct errmsg *why)
{
    if (n_vocab < 1 || n_vocab > 1u << 28)
        return err_set(why, ERR_INVALID, "a vocabulary of %u tokens is not possible", n_vocab);
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(why, ERR_NOMEM, "no memory for the sampler");
    s->n_vocab = n_vocab;
    s->n_padded = (n_vocab + SUM_BLOCK - 1) / SUM_BLOCK * SUM_BLOCK;
    s->x = malloc(s->n_padded * sizeof *s->x);
    s->w = malloc(s->n_padded * sizeof *s->w);
    s->kept_x = malloc(s->n_padded * sizeof *s->kept_x);
    s->kept_w = malloc(s->n_padded * sizeof *s->kept_w);
    s->keep = malloc(s->n_padded * sizeof *s->keep);
    s->pick = malloc(s->n_padded * sizeof *s->pick);
    s->seen = calloc(n_vocab, sizeof *s->seen);
    s->block_sum = malloc(s->n_padded / SUM_BLOCK * sizeof *s->block_sum);
    if (!s->x || !s->w || !s->kept_x || !s->kept_w || !s->keep || !s->pick || !s->seen ||
        !s->block_sum) {
        sampler_close(s);
        return err_set(why, ERR_NOMEM, "no memory to sample from %u tokens", n_vocab);
    }
    *out = s;
    return ERR_OK;
}

void sampler_close(struct sampler *s)
{
    if (!s)
        return;
    free(s->x);
    free(s->w);
    free(s->kept_x);
    free(s->kept_w);
    free(s->keep);
    free(s->pick);
    free(s->seen);
    free(s->block_sum);
    free(s);
}

/* --- whole-vocabulary passes
 * ------------------------------------------------------------------------- */

/* Copies the logits into the padded scratch and refuses infinities and NaN. */
static enum err load_logits(struct sampler *s, const float *logits, struct errmsg *why)
{
    uint32_t bad = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    if (bad) {
        uint32_t i = 0;
        while (isfinite(logits[i]))
            i++;
        return err_set(why, ERR_INTERNAL,
                       "the model computed %s for token %u: the model file may be damaged",
                       isnan(logits[i]) ? "not a number" : "infinity", i);
    }
    memcpy(s->x, logits, s->n_vocab * sizeof *logits);
    for (uint32_t i = s->n_vocab; i < s->n_padded; i++)
        s->x[i] = -INFINITY;
    return ERR_OK;
}

static float greatest(const float *x, uint32_t n_padded)
{
    float lane[VEXP_LANES];
    memcpy(lane, x, sizeof lane);
    for (uint32_t i = VEXP_LANES; i < n_padded; i += VEXP_LANES)
        for (uint32_t k = 0; k < VEXP_LANES; k++)
            lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    float m = lane[0];
    for (uint32_t k = 1; k < VEXP_LANES; k++)
        m = lane[k] > m ? lane[k] : m;
    return m;
}

/* w = exp(x - shift); block sums in double; returns their total. */
static double weigh(struct sampler *s, float shift)
{
    double total = 0;
    for (uint32_t b = 0; b < s->n_padded; b += SUM_BLOCK) {
        double lane[VEXP_LANES] = {0};
        for (uint32_t i = b; i < b + SUM_BLOCK; i += VEXP_LANES) {
            float z[VEXP_LANES];
            for (uint32_t k = 0; k < VEXP_LANES; k++)
                z[k] = s->x[i + k] - shift;
            vexp_lanes(s->w + i, z);
            for (uint32_t k = 0; k < VEXP_LANES; k++)
                lane[k] += (double)s->w[i + k];
        }
        double sum = 0;
        for (uint32_t k = 0; k < VEXP_LANES; k++)
            sum += lane[k];
        s->block_sum[b / SUM_BLOCK] = sum;
        total += sum;
    }
    return total;
}

/* --- logprobs
 * ---------------------------------------------------------------------------------------- */

static double log_of_sum(struct sampler *s)
{
    float max = greatest(s->x, s->n_padded);
    return (double)max + log(weigh(s, max));
}

static void find_alternatives(const float *logits, uint32_t n_vocab, double log_sum, int n_top,
                              struct sample_out *out)
{
    int32_t best[SAMPLE_MAX_TOP];
    out->n_top = (int)select_best(logits, n_vocab, (uint32_t)n_top, best);
    for (int i = 0; i < out->n_top; i++) {
        out->top[i].token = best[i];
        out->top[i].logprob = (float)((double)logits[best[i]] - log_sum);
    }
}

/* --- penalties, bias, bans
 * --------------------------------------------------------------------------- */

static void apply_penalties(struct sampler *s, const struct sample_params *p,
                            const struct sample_in *in)
{
    if (p->repetition_penalty == 1 && p->frequency_penalty == 0 && p->presence_penalty == 0)
        return;
    size_t from = 0;
    if (p->penalty_last_n >= 0 && in->n_history > (size_t)p->penalty_last_n)
        from = in->n_history - (size_t)p->penalty_last_n;
    for (size_t i = from; i < in->n_history; i++) {
        uint32_t *seen = &s->seen[in->history[i]];
        *seen = (*seen | SEEN_BIT) + (i >= in->n_prompt);
    }
    for (size_t i = from; i < in->n_history; i++) {
        int32_t id = in->history[i];
        uint32_t seen = s->seen[id];
        if (!seen)
            continue; /* done: it stands in the window more than once */
        s->seen[id] = 0;
        uint32_t count = seen & ~SEEN_BIT;
        float x = s->x[id];
        x = x > 0 ? x / p->repetition_penalty : x * p->repetition_penalty;
        if (count > 0)
            x -= p->frequency_penalty * (float)count + p->presence_penalty;
        s->x[id] = x;
    }
}

static void apply_bias_and_bans(struct sampler *s, const struct sample_params *p,
                                const struct sample_in *in)
{
    for (size_t i = 0; i < p->n_bias; i++)
        s->x[p->bias[i].token] += p->bias[i].bias;
    for (size_t i = 0; i < in->n_banned; i++)
        s->x[in->banned[i]] = -INFINITY;
}

/* --- the draw
 * ---------------------------------------------------------------------------------------- */

/* Inverse distribution over all weights: whole blocks are skipped by their sums. */
static int32_t draw_from_all(const struct sampler *s, double total, double u)
{
    double want = u * total, sum = 0;
    uint32_t last_block = 0;
    for (uint32_t b = 0; b < s->n_padded / SUM_BLOCK; b++) {
        if (s->block_sum[b] <= 0)
            continue;
        last_block = b;
        if (sum + s->block_sum[b] > want)
            break;
        sum += s->block_sum[b];
    }
    /* Inside, sums run in another order than block_sum did: by rounding `want` may lie just past
     * the last weight; then the last token that has any is meant. */
    int32_t last = -1;
    for (uint32_t i = last_block * SUM_BLOCK; i < (last_block + 1) * SUM_BLOCK; i++) {
        if (s->w[i] <= 0)
            continue;
        last = (int32_t)i;
        sum += (double)s->w[i];
        if (sum > want)
            break;
    }
    return last;
}

static int32_t draw_from_kept(const float *w, const int32_t *keep, uint32_t n, double u)
{
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        total += (double)w[keep[i]];
    double want = u * total;
    int32_t last = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (w[keep[i]] <= 0)
            continue;
        last = keep[i];
        sum += (double)w[last];
        if (sum > want)
            break;
    }
    return last;
}

/* The usual top_k is small: one scan instead of two and no weights but those of the kept. Same ids
 * as select_prefix() would keep. */
static uint32_t keep_few(struct sampler *s, uint32_t k)
{
    uint32_t n = select_best(s->x, s->n_vocab, k, s->keep);
    for (uint32_t i = 1; i < n; i++) { /* by id, as everything after expects */
        int32_t id = s->keep[i];
        uint32_t at = i;
        for (; at > 0 && s->keep[at - 1] > id; at--)
            s->keep[at] = s->keep[at - 1];
        s->keep[at] = id;
    }
    for (uint32_t i = 0; i < n; i++)
        s->w[s->keep[i]] = vexp_one(s->x[s->keep[i]]);
    return n;
}

/* Leaves s->keep[0 .. n) with the part of it that top_p admits. */
static uint32_t narrow_to_mass(struct sampler *s, uint32_t n, float top_p)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->kept_x[i] = s->x[s->keep[i]];
        s->kept_w[i] = s->w[s->keep[i]];
        total += (double)s->kept_w[i];
    }
    n = select_prefix(s->kept_x, s->kept_w, n, (double)top_p * total, s->pick, &s->select);
    for (uint32_t i = 0; i < n; i++) /* both ascend and pick[i] >= i: in place */
        s->keep[i] = s->keep[s->pick[i]];
    return n;
}

static uint32_t narrow_to_min(struct sampler *s, uint32_t n, float min_p)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->w[s->keep[i]] >= min_p) /* the best weighs 1 */
            s->keep[m++] = s->keep[i];
    return m;
}

static int32_t draw(struct sampler *s, const struct sample_params *p, const struct sample_in *in,
                    float max)
{
    uint32_t k = p->top_k > 0 && (uint32_t)p->top_k < s->n_vocab ? (uint32_t)p->top_k : 0;
    double u = philox_uniform(p->seed, in->choice, in->position), total = 0;
    /* Relative to the best first: a tiny temperature then gives -inf, never inf or NaN. */
    for (uint32_t i = 0; i < s->n_padded; i++)
        s->x[i] = (s->x[i] - max) / p->temperature;
    bool few = k > 0 && k <= FEW;
    if (!few)
        total = weigh(s, 0);
    if (k == 0 && p->top_p >= 1 && p->min_p <= 0)
        return draw_from_all(s, total, u);

    uint32_t n = s->n_vocab;
    if (few) {
        n = keep_few(s, k);
    } else if (k > 0) {
        n = select_prefix(s->x, NULL, n, k, s->keep, &s->select);
    } else if (p->top_p < 1) {
        n = select_prefix(s->x, s->w, n, (double)p->top_p * total, s->keep, &s->select);
    } else {
        for (uint32_t i = 0; i < n; i++)
            s->keep[i] = (int32_t)i;
    }
    if (k > 0 && p->top_p < 1)
        n = narrow_to_mass(s, n, p->top_p);
    if (p->min_p > 0)
        n = narrow_to_min(s, n, p->min_p);
    return draw_from_kept(s->w, s->keep, n, u);
}

static int32_t lowest_id_of(const struct sampler *s, float max)
{
    uint32_t i = 0;
    while (s->x[i] != max)
        i++;
    return (int32_t)i;
}

enum err sampler_draw(struct sampler *s, const struct sample_params *p, const struct sample_in *in,
                      struct sample_out *out, struct errmsg *why)
{
    assert(in->n_top <= SAMPLE_MAX_TOP);
    enum err e = load_logits(s, in->logits, why);
    if (e)
        return e;
    double log_sum = in->n_top >= 0 ? log_of_sum(s) : 0;

    apply_penalties(s, p, in);
    apply_bias_and_bans(s, p, in);
    float max = greatest(s->x, s->n_padded);
    if (!isfinite(max))
        return err_set(why, ERR_INTERNAL, "no token can come next: %s",
                       max < 0 ? "all are banned" : "a penalty made a logit infinite");

    out->token = p->temperature > 0 ? draw(s, p, in, max) : lowest_id_of(s, max);
    out->n_top = 0;
    out->logprob = 0;
    if (in->n_top >= 0) {
        out->logprob = (float)((double)in->logits[out->token] - log_sum);
        find_alternatives(in->logits, s->n_vocab, log_sum, in->n_top, out);
    }
    return ERR_OK;
}
