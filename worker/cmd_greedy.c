/* cmd_greedy.c - millrace-worker greedy: the n most likely next tokens, one after the other, as a
 * JSON array. */
#include "worker/cmd_model.h"
#include "worker/commands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* -1: they are no numbers. */
static int32_t best_token(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return isfinite(logits[best]) ? (int32_t)best : -1;
}

int cmd_greedy(int argc, char **argv)
{
    struct model_args a = {.kv_type = QTYPE_F32, .step = 256, .n = 32};
    int status = EXIT_USAGE;
    struct model *m = NULL;
    float *logits = NULL;
    uint32_t pos = 0;
    if (!model_args_parse(&a, argc, argv,
                          OPT_TOKENS | OPT_N | OPT_CONTEXT | OPT_DEVICE | OPT_THREADS |
                              OPT_KV_TYPE | OPT_STEP))
        goto done;
    status = EXIT_FAILED;
    m = model_args_open(&a, a.n_tokens + a.n, 1);
    if (!m)
        goto done;
    logits = malloc(model_desc(m)->n_vocab * sizeof *logits);
    if (!logits) {
        command_failed(&a, "no memory for logits");
        goto done;
    }
    if (!model_args_run(&a, m, a.tokens, a.n_tokens, &pos, logits, false))
        goto done;
    for (uint32_t i = 0; i < a.n; i++) {
        const int32_t next = best_token(logits, model_desc(m)->n_vocab);
        if (next < 0) {
            printf("\n");
            command_failed(&a, "the model computed no number: the file may be damaged");
            goto done;
        }
        printf(i ? ",%d" : "[%d", next);
        if (i + 1 < a.n && !model_args_run(&a, m, &next, 1, &pos, logits, false)) {
            printf("\n");
            goto done;
        }
    }
    printf("]\n");
    status = fflush(stdout) == 0 ? EXIT_DONE : command_failed(&a, "stdout: can't write");
done:
    free(logits);
    model_close(m);
    model_args_fini(&a);
    return status;
}
