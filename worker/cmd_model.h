/* cmd_model.h - what the subcommands that compute with a model share: options, opening, running
 * over a token list. Errors go to stderr as one line. */
#ifndef MILLRACE_WORKER_CMD_MODEL_H
#define MILLRACE_WORKER_CMD_MODEL_H

#include "shared/base/arena.h"
#include "worker/model/model.h"

/* Options that a subcommand may take; each names those it does. */
enum {
    OPT_TOKENS = 1,   /* --tokens 1,2,3 (needed) */
    OPT_N = 2,        /* -n N */
    OPT_CONTEXT = 4,  /* --context N */
    OPT_DEVICE = 8,   /* --device D */
    OPT_THREADS = 16, /* -t N, --threads N */
    OPT_KV_TYPE = 32, /* --kv-type f16|f32|bf16|q8_0 */
    OPT_POOLING = 64, /* --pooling mean|cls|last|none, --normalize */
    OPT_BENCH = 128,  /* -p N, -b 1,8,32 */
    OPT_STEP = 256,   /* --step N: tokens per step */
};

struct model_args {
    const char *path;
    int32_t *tokens; /* owned by mem */
    uint32_t n_tokens;
    uint32_t n, prompt, context, threads, step;
    uint32_t batches[16];
    uint32_t n_batches;
    const char *device;
    enum qtype kv_type;
    enum pooling pooling;
    bool normalize;
    struct arena mem;
};

/* Fills what is given, keeps the caller's defaults for the rest. False: already reported; exit with
 * EXIT_USAGE. */
bool model_args_parse(struct model_args *a, int argc, char **argv, int options);
void model_args_fini(struct model_args *a);

/* Opens for one sequence of `positions`, or for several (max_seqs, each as long). NULL: already
 * reported. */
struct model *model_args_open(const struct model_args *a, uint32_t positions, uint32_t max_seqs);

/* One sequence, from position *pos on, in steps of a->step tokens; logits of the last token
 * ([n_vocab]), or of all
 * ([n, n_vocab]). Advances *pos. False: already reported. */
bool model_args_run(const struct model_args *a, struct model *m, const int32_t *tokens, uint32_t n,
                    uint32_t *pos, float *logits, bool all);

int command_failed(const struct model_args *a, const char *text); /* prints one line; EXIT_FAILED */

#endif
