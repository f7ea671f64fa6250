/* cmd_kernelbench.c - millrace-worker kernelbench: how fast one matrix product is, by type, number
 * of tokens and instruction set. One JSON object per line: "gb_s" counts the bytes of W that are
 * read once, "gops" two operations per weight and token. Weights are arbitrary bytes: speed does
 * not depend on them. */
#include "worker/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/clock.h"
#include "worker/cpu/matmul.h"

struct options {
    const char *types, *toks;
    int n_in, n_out, threads, millis, mem_mib;
    enum cpu_isa isa;
};

/* Products walk over as many matrices as fit: 512 MiB is more than any cache holds, 1 MiB less. */
static size_t mem_bytes(const struct options *o)
{
    return (size_t)o->mem_mib << 20;
}

static int bench_one(const struct options *o, enum qtype type, int n_tok, struct pool *pool,
                     uint8_t *mem)
{
    const struct qtype_info *info = qtype_info(type);
    struct weight w = {.type = type, .n_in = o->n_in, .n_out = o->n_out};
    w.row_bytes = (size_t)o->n_in / info->block_elems * info->block_bytes;
    size_t bytes = w.row_bytes * (size_t)o->n_out, n_weights = mem_bytes(o) / bytes;
    if (o->n_in % (int)info->block_elems != 0 || n_weights < 1) {
        fprintf(stderr, "millrace-worker kernelbench: %s does not fit %d x %d\n", info->name,
                o->n_out, o->n_in);
        return EXIT_USAGE;
    }
    struct errmsg why = {0};
    struct matmul_ws *ws;
    if (matmul_ws_open(&ws, n_tok, o->n_in, o->threads, o->isa, &why) != ERR_OK) {
        fprintf(stderr, "millrace-worker kernelbench: %s\n", why.text);
        return EXIT_FAILED;
    }
    float *x = malloc(sizeof(float) * (size_t)n_tok * (size_t)o->n_in);
    float *y = malloc(sizeof(float) * (size_t)n_tok * (size_t)o->n_out);
    if (!x || !y) {
        fprintf(stderr, "millrace-worker kernelbench: out of memory\n");
        free(x);
        free(y);
        matmul_ws_close(ws);
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < (size_t)n_tok * (size_t)o->n_in; i++)
        x[i] = (float)(int)(i * 2654435761u % 2001) / 1000.0f - 1.0f;

    /* The fastest of several rounds: others use the machine, too. */
    double best_ns = 1e30;
    uint64_t end = clock_mono_ns() + (uint64_t)o->millis * 1000000u;
    size_t at = 0;
    for (int round = 0; round < 3 || clock_mono_ns() < end; round++) {
        uint64_t start = clock_mono_ns();
        int n = 0;
        do {
            w.data = mem + at * bytes;
            at = (at + 1) % n_weights;
            struct matmul_out out = {&w, y, o->n_out};
            matmul(pool, ws, &out, 1, x, o->n_in, n_tok);
            n++;
        } while (clock_mono_ns() - start < 2000000u);
        double ns = (double)(clock_mono_ns() - start) / n;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    printf("{\"type\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"n_in\":%d,\"n_out\":%d,\"n_tok\":%d,"
           "\"us\":%.1f,\"gb_s\":%.2f,\"gops\":%.1f}\n",
           info->name, cpu_isa_name(o->isa), o->threads, o->n_in, o->n_out, n_tok, best_ns / 1e3,
           (double)bytes / best_ns, 2.0 * o->n_in * o->n_out * n_tok / best_ns);
    fflush(stdout);
    free(x);
    free(y);
    matmul_ws_close(ws);
    return EXIT_DONE;
}

/* Calls bench_one for every type and every number of tokens of the two lists. */
static int bench_all(const struct options *o, struct pool *pool, uint8_t *mem)
{
    char types[512], toks[256], *save_type, *save_tok;
    snprintf(types, sizeof types, "%s", o->types);
    for (char *name = strtok_r(types, ",", &save_type); name;
         name = strtok_r(NULL, ",", &save_type)) {
        int type = qtype_by_name(name);
        if (type < 0 || !matmul_supports((enum qtype)type)) {
            fprintf(stderr, "millrace-worker kernelbench: --type %s: no such weight type\n", name);
            return EXIT_USAGE;
        }
        snprintf(toks, sizeof toks, "%s", o->toks);
        for (char *n = strtok_r(toks, ",", &save_tok); n; n = strtok_r(NULL, ",", &save_tok)) {
            int n_tok = atoi(n);
            if (n_tok < 1 || n_tok > 65536) {
                fprintf(stderr, "millrace-worker kernelbench: --tokens %s: use 1..65536\n", n);
                return EXIT_USAGE;
            }
            int rc = bench_one(o, (enum qtype)type, n_tok, pool, mem);
            if (rc != EXIT_DONE)
                return rc;
        }
    }
    return EXIT_DONE;
}

static int parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        int n = value ? atoi(value) : 0, *number = NULL;
        if (value && strcmp(argv[i], "--type") == 0)
            o->types = value;
        else if (value && strcmp(argv[i], "--tokens") == 0)
            o->toks = value;
        else if (strcmp(argv[i], "--in") == 0)
            number = &o->n_in;
        else if (strcmp(argv[i], "--out") == 0)
            number = &o->n_out;
        else if (strcmp(argv[i], "--millis") == 0)
            number = &o->millis;
        else if (strcmp(argv[i], "--mem") == 0)
            number = &o->mem_mib;
        else if (strcmp(argv[i], "-t") == 0)
            number = &o->threads;
        else
            value = NULL;
        if (!value || (number && (n < 1 || n > 1 << 20))) {
            fprintf(stderr, "millrace-worker kernelbench: %s: unknown, or without a usable value\n",
                    argv[i]);
            return EXIT_USAGE;
        }
        if (number)
            *number = n;
    }
    return EXIT_DONE;
}

int cmd_kernelbench(int argc, char **argv)
{
    struct options o = {.types = "Q4_0,Q8_0,Q4_K,Q5_K,Q6_K,F16,BF16,F32",
                        .toks = "1,8,32,512",
                        .n_in = 2048,
                        .n_out = 2048,
                        .threads = 1,
                        .millis = 300,
                        .mem_mib = 512,
                        .isa = cpu_isa_best()};
    int rc = parse(&o, argc, argv);
    if (rc != EXIT_DONE)
        return rc;
    struct errmsg why = {0};
    struct pool *pool;
    if (pool_open(&pool, o.threads, &why) != ERR_OK) {
        fprintf(stderr, "millrace-worker kernelbench: %s\n", why.text);
        return EXIT_FAILED;
    }
    uint8_t *mem = malloc(mem_bytes(&o));
    if (!mem) {
        fprintf(stderr, "millrace-worker kernelbench: out of memory (%d MiB)\n", o.mem_mib);
        pool_close(pool);
        return EXIT_FAILED;
    }
    /* 0x20..0x3f: any two of them are a normal half, so no denormals disturb the measurement. */
    for (size_t i = 0; i < mem_bytes(&o); i++)
        mem[i] = (uint8_t)(0x20 | (i * 2654435761u >> 20 & 0x1f));
    rc = bench_all(&o, pool, mem);
    free(mem);
    pool_close(pool);
    return rc;
}
