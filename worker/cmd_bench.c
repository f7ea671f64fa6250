/* cmd_bench.c - millrace-worker bench: tokens per second of prefill, of decoding alone and of
 * decoding in batches. */
#include "worker/cmd_model.h"
#include "worker/commands.h"

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <stdio.h>
#include <stdlib.h>

struct bench {
    const struct model_args *a;
    struct model *m;
    uint32_t max_seqs, per_seq; /* KV blocks of each sequence */
    uint32_t *blocks, *ring;    /* [max_seqs][per_seq]; ring: of the windows' pool */
    int32_t *tokens;            /* [prompt or max_seqs]: arbitrary ids */
    float *logits;              /* [max_seqs][n_vocab] */
    struct step_seq *seqs;
};

static double seconds_since(uint64_t start)
{
    return (double)(clock_mono_ns() - start) * 1e-9;
}

/* n tokens of one prompt, in steps as serving takes them. */
static bool prefill(struct bench *b, uint32_t n)
{
    struct errmsg why = {0};
    for (uint32_t at = 0, part; at < n; at += part) {
        part = n - at < b->a->step ? n - at : b->a->step;
        const struct step_seq s = {.tokens = b->tokens + at,
                                   .n_tok = part,
                                   .pos = at,
                                   .blocks = b->blocks,
                                   .n_blocks = b->per_seq,
                                   .window_blocks = b->ring,
                                   .n_logits = at + part == n,
                                   .logits = b->logits};
        if (model_step(b->m, &s, 1, NULL, &why) != ERR_OK)
            return command_failed(b->a, why.text) == EXIT_DONE;
    }
    return true;
}

/* n steps of one token for each of `size` sequences, from position 0 on. */
static bool decode(struct bench *b, uint32_t size, uint32_t n)
{
    struct errmsg why = {0};
    const size_t n_vocab = model_desc(b->m)->n_vocab;
    for (uint32_t pos = 0; pos < n; pos++) {
        for (uint32_t i = 0; i < size; i++)
            b->seqs[i] = (struct step_seq){.tokens = &b->tokens[i],
                                           .n_tok = 1,
                                           .pos = pos,
                                           .blocks = b->blocks + (size_t)i * b->per_seq,
                                           .n_blocks = b->per_seq,
                                           .window_blocks = b->ring + (size_t)i * b->per_seq,
                                           .n_logits = 1,
                                           .logits = b->logits + i * n_vocab};
        if (model_step(b->m, b->seqs, (int)size, NULL, &why) != ERR_OK)
            return command_failed(b->a, why.text) == EXIT_DONE;
    }
    return true;
}

static bool bench_open(struct bench *b, const struct model_args *a)
{
    const uint32_t longest = a->prompt > a->n ? a->prompt : a->n;
    b->a = a;
    b->max_seqs = 1;
    for (uint32_t i = 0; i < a->n_batches; i++)
        b->max_seqs = a->batches[i] > b->max_seqs ? a->batches[i] : b->max_seqs;
    b->m = model_args_open(a, longest, b->max_seqs);
    if (!b->m)
        return false;
    const struct model_desc *d = model_desc(b->m);
    const uint32_t n_tokens = longest > b->max_seqs ? longest : b->max_seqs;
    b->per_seq = (longest + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    b->blocks = calloc((size_t)b->max_seqs * b->per_seq, sizeof *b->blocks);
    b->ring = calloc((size_t)b->max_seqs * b->per_seq, sizeof *b->ring);
    b->tokens = calloc(n_tokens, sizeof *b->tokens);
    b->logits = calloc((size_t)b->max_seqs * d->n_vocab, sizeof *b->logits);
    b->seqs = calloc(b->max_seqs, sizeof *b->seqs);
    if (!b->blocks || !b->ring || !b->tokens || !b->logits || !b->seqs)
        return command_failed(a, "no memory for the benchmark") == EXIT_DONE;
    for (uint32_t i = 0; i < b->max_seqs * b->per_seq; i++)
        b->blocks[i] = i;
    for (uint32_t i = 0; d->kv_ring_blocks && i < b->max_seqs * b->per_seq; i++)
        b->ring[i] = i / b->per_seq * d->kv_ring_blocks + i % b->per_seq % d->kv_ring_blocks;
    uint32_t x = 1;
    for (uint32_t i = 0; i < n_tokens; i++) {
        x = x * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        b->tokens[i] = (int32_t)((x >> 8) % d->n_vocab);
    }
    return true;
}

static bool bench_run(struct bench *b, struct buf *out)
{
    const struct model_args *a = b->a;
    const struct model_desc *d = model_desc(b->m);
    if (!prefill(b, a->prompt < 32 ? a->prompt : 32) ||
        !decode(b, 1, 2)) /* pages in the file, wakes the cores */
        return false;
    uint64_t start = clock_mono_ns();
    if (!prefill(b, a->prompt))
        return false;
    const double p = seconds_since(start);
    start = clock_mono_ns();
    if (!decode(b, 1, a->n))
        return false;
    const double t = seconds_since(start);
    buf_puts(out, "{\"model\":");
    json_put_cstr(out, a->path);
    buf_puts(out, ",\"arch\":");
    json_put_str(out, d->arch.p, d->arch.n);
    buf_puts(out, ",\"quant\":");
    json_put_cstr(out, d->quant);
    buf_puts(out, ",\"device\":");
    json_put_cstr(out, d->device);
    buf_printf(out, ",\"n_params\":%llu,\"weight_bytes\":%llu", (unsigned long long)d->n_params,
               (unsigned long long)d->weight_bytes);
    buf_printf(out, ",\"kv_type\":\"%s\"", qtype_info(a->kv_type)->name);
    buf_printf(out, ",\"prefill\":{\"tokens\":%u,\"tok_s\":%.2f}", a->prompt, a->prompt / p);
    buf_printf(out, ",\"decode\":{\"tokens\":%u,\"tok_s\":%.2f},\"batch\":[", a->n, a->n / t);
    for (uint32_t i = 0; i < a->n_batches; i++) {
        start = clock_mono_ns();
        if (!decode(b, a->batches[i], a->n))
            return false;
        const double s = seconds_since(start);
        buf_printf(out, "%s{\"size\":%u,\"tok_s\":%.2f}", i ? "," : "", a->batches[i],
                   a->n * (double)a->batches[i] / s);
    }
    buf_puts(out, "]}\n");
    return true;
}

int cmd_bench(int argc, char **argv)
{
    struct model_args a = {.kv_type = QTYPE_F16,
                           .step = 512,
                           .prompt = 512,
                           .n = 128,
                           .batches = {1, 8, 32},
                           .n_batches = 3};
    struct bench b = {0};
    struct buf out;
    int status = EXIT_USAGE;
    buf_init(&out);
    if (!model_args_parse(&a, argc, argv,
                          OPT_BENCH | OPT_N | OPT_CONTEXT | OPT_DEVICE | OPT_THREADS | OPT_KV_TYPE |
                              OPT_STEP))
        goto done;
    status = EXIT_FAILED;
    if (!bench_open(&b, &a) || !bench_run(&b, &out))
        goto done;
    if (out.failed || fwrite(out.p, 1, out.n, stdout) != out.n || fflush(stdout) != 0) {
        command_failed(&a, "stdout: can't write");
        goto done;
    }
    status = EXIT_DONE;
done:
    buf_fini(&out);
    free(b.seqs);
    free(b.logits);
    free(b.tokens);
    free(b.ring);
    free(b.blocks);
    model_close(b.m);
    model_args_fini(&a);
    return status;
}
