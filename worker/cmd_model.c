/* cmd_model.c - see cmd_model.h. */
#include "worker/cmd_model.h"

#include "worker/commands.h"

#include <stdio.h>
#include <stdlib.h>

int command_failed(const struct model_args *a, const char *text)
{
    fprintf(stderr, "millrace-worker: %s%s%s\n", a->path ? a->path : "", a->path ? ": " : "", text);
    return EXIT_FAILED;
}

static bool bad(const char *command, const char *option, const char *want)
{
    fprintf(stderr, "millrace-worker %s: %s %s; 'millrace-worker --help' shows the arguments\n",
            command, option, want);
    return false;
}

static bool parse_u32(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t v;
    if (!text || !str_to_u64(str_of(text), max, &v) || v == 0)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* "1,2,3": numbers 0..max with commas between, one or more; calls add for each. */
static bool parse_list(const char *text, uint64_t max,
                       void (*add)(struct model_args *a, uint64_t v), struct model_args *a)
{
    if (!text)
        return false;
    for (const char *p = text;; p++) {
        const char *end = strchr(p, ',');
        const struct str one = {p, end ? (size_t)(end - p) : strlen(p)};
        uint64_t v;
        if (!str_to_u64(one, max, &v))
            return false;
        add(a, v);
        if (!end)
            return true;
        p = end;
    }
}

static void add_token(struct model_args *a, uint64_t v)
{
    a->tokens[a->n_tokens++] = (int32_t)v;
}

static void add_batch(struct model_args *a, uint64_t v)
{
    if (a->n_batches < sizeof a->batches / sizeof *a->batches)
        a->batches[a->n_batches++] = (uint32_t)v;
}

static bool parse_tokens(struct model_args *a, const char *text)
{
    /* no more numbers than characters */
    a->tokens = arena_array(&a->mem, text ? strlen(text) + 1 : 1, sizeof *a->tokens);
    a->n_tokens = 0;
    return a->tokens && parse_list(text, INT32_MAX, add_token, a);
}

static bool parse_kv_type(struct model_args *a, const char *text)
{
    const int type = text ? qtype_by_name(text) : -1;
    if (type != QTYPE_F16 && type != QTYPE_F32 && type != QTYPE_BF16 && type != QTYPE_Q8_0)
        return false;
    a->kv_type = (enum qtype)type;
    return true;
}

static bool parse_batches(struct model_args *a, const char *text)
{
    a->n_batches = 0;
    if (!parse_list(text, 1024, add_batch, a))
        return false;
    for (uint32_t i = 0; i < a->n_batches; i++)
        if (a->batches[i] == 0)
            return false;
    return true;
}

bool model_args_parse(struct model_args *a, int argc, char **argv, int options)
{
    const char *cmd = argv[0];
    arena_init(&a->mem, 0);
    for (int i = 1; i < argc; i++) {
        const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        bool ok = true, flag = false;
        if ((options & OPT_TOKENS) && strcmp(o, "--tokens") == 0)
            ok = parse_tokens(a, v);
        else if ((options & OPT_N) && strcmp(o, "-n") == 0)
            ok = parse_u32(v, 1 << 20, &a->n);
        else if ((options & OPT_CONTEXT) && strcmp(o, "--context") == 0)
            ok = parse_u32(v, 1 << 30, &a->context);
        else if ((options & OPT_DEVICE) && strcmp(o, "--device") == 0)
            ok = (a->device = v) != NULL;
        else if ((options & OPT_THREADS) && (strcmp(o, "-t") == 0 || strcmp(o, "--threads") == 0))
            ok = parse_u32(v, 512, &a->threads);
        else if ((options & OPT_KV_TYPE) && strcmp(o, "--kv-type") == 0)
            ok = parse_kv_type(a, v);
        else if ((options & OPT_POOLING) && strcmp(o, "--pooling") == 0)
            ok = pooling_by_name(v, &a->pooling);
        else if ((options & OPT_POOLING) && strcmp(o, "--normalize") == 0)
            a->normalize = flag = true;
        else if ((options & OPT_BENCH) && strcmp(o, "-p") == 0)
            ok = parse_u32(v, 1 << 16, &a->prompt);
        else if ((options & OPT_BENCH) && strcmp(o, "-b") == 0)
            ok = parse_batches(a, v);
        else if ((options & OPT_STEP) && strcmp(o, "--step") == 0)
            ok = parse_u32(v, 1 << 16, &a->step);
        else if (o[0] == '-')
            return bad(cmd, o, "is no option of this command");
        else if (a->path)
            return bad(cmd, o, "is a second model");
        else {
            a->path = o;
            flag = true;
        }
        if (!ok)
            return bad(cmd, o, "needs another value");
        i += !flag;
    }
    if (!a->path)
        return bad(cmd, "MODEL", "is missing");
    if ((options & OPT_TOKENS) && !a->n_tokens)
        return bad(cmd, "--tokens", "is missing");
    return true;
}

void model_args_fini(struct model_args *a)
{
    arena_fini(&a->mem);
}

struct model *model_args_open(const struct model_args *a, uint32_t positions, uint32_t max_seqs)
{
    struct errmsg why = {0};
    struct model *m = NULL;
    const struct model_opts o = {
        .device = a->device,
        .n_threads = (int)a->threads,
        .context = a->context,
        .max_seqs = max_seqs,
        .max_step_tokens = a->step > max_seqs ? a->step : max_seqs,
        .kv_blocks = (positions + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS * max_seqs,
        .kv_type = a->kv_type,
    };
    if (model_open(&m, a->path, &o, &why) != ERR_OK) {
        fprintf(stderr, "millrace-worker: %s\n", why.text);
        return NULL;
    }
    if (model_desc(m)->context < positions) {
        fprintf(stderr, "millrace-worker: %s: %u tokens, but the context is %u\n", a->path,
                positions, model_desc(m)->context);
        model_close(m);
        return NULL;
    }
    return m;
}

bool model_args_run(const struct model_args *a, struct model *m, const int32_t *tokens, uint32_t n,
                    uint32_t *pos, float *logits, bool all)
{
    const struct model_desc *d = model_desc(m);
    uint32_t *blocks = calloc(d->kv_blocks, sizeof *blocks),
             *ring = calloc(d->kv_blocks, sizeof *ring);
    struct errmsg why = {"no memory for a block table"};
    bool ok = blocks && ring;
    for (uint32_t i = 0; ok && i < d->kv_blocks; i++) {
        blocks[i] = i;
        ring[i] = d->kv_ring_blocks ? i % d->kv_ring_blocks : 0;
    }
    for (uint32_t at = 0, part; ok && at < n; at += part) {
        part = n - at < a->step ? n - at : a->step;
        const struct step_seq s = {.tokens = tokens + at,
                                   .n_tok = part,
                                   .pos = *pos,
                                   .blocks = blocks,
                                   .n_blocks = d->kv_blocks,
                                   .window_blocks = ring,
                                   .n_logits = all ? part : at + part == n,
                                   .logits = all ? logits + (size_t)at * d->n_vocab : logits};
        ok = model_step(m, &s, 1, NULL, &why) == ERR_OK;
        *pos += part;
    }
    free(ring);
    free(blocks);
    if (!ok)
        command_failed(a, why.text);
    return ok;
}
