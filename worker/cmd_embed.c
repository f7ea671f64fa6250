/* cmd_embed.c - millrace-worker embed: float32 [n_embd], or [n_tokens, n_embd] without pooling, on
 * stdout. */
#include "worker/cmd_model.h"
#include "worker/commands.h"

#include <stdio.h>
#include <stdlib.h>

int cmd_embed(int argc, char **argv)
{
    struct model_args a = {.kv_type = QTYPE_F32, .step = 256, .pooling = POOL_MODEL};
    int status = EXIT_USAGE;
    struct model *m = NULL;
    float *out = NULL;
    struct errmsg why = {0};
    if (!model_args_parse(&a, argc, argv,
                          OPT_TOKENS | OPT_CONTEXT | OPT_DEVICE | OPT_THREADS | OPT_KV_TYPE |
                              OPT_POOLING | OPT_STEP))
        goto done;
    status = EXIT_FAILED;
    m = model_args_open(&a, a.n_tokens, 1);
    if (!m)
        goto done;
    const struct model_desc *d = model_desc(m);
    const enum pooling pooling = a.pooling == POOL_MODEL ? d->pooling : a.pooling;
    const size_t columns = pooling == POOL_RANK ? d->n_labels : d->n_embd,
                 rows = pooling == POOL_NONE ? a.n_tokens : 1;
    out = calloc(columns * rows + 1, sizeof *out); /* not 0 bytes for a file without the head */
    if (!out) {
        command_failed(&a, "no memory for the embeddings");
        goto done;
    }
    if (model_embed(m, a.tokens, a.n_tokens, pooling, a.normalize, out, &why) != ERR_OK) {
        command_failed(&a, why.text);
        goto done;
    }
    const bool written =
        fwrite(out, columns * sizeof *out, rows, stdout) == rows && fflush(stdout) == 0;
    status = written ? EXIT_DONE : command_failed(&a, "stdout: can't write");
done:
    free(out);
    model_close(m);
    model_args_fini(&a);
    return status;
}
