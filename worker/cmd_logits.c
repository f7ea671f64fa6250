/* cmd_logits.c - millrace-worker logits: float32 [n_tokens, n_vocab] on stdout.
 * The KV cache is float32 unless asked otherwise: the command exists to compare numbers. */
#include "worker/cmd_model.h"
#include "worker/commands.h"

#include <stdio.h>
#include <stdlib.h>

int cmd_logits(int argc, char **argv)
{
    struct model_args a = {.kv_type = QTYPE_F32, .step = 256};
    int status = EXIT_USAGE;
    struct model *m = NULL;
    float *logits = NULL;
    uint32_t pos = 0;
    if (!model_args_parse(&a, argc, argv,
                          OPT_TOKENS | OPT_CONTEXT | OPT_DEVICE | OPT_THREADS | OPT_KV_TYPE |
                              OPT_STEP))
        goto done;
    status = EXIT_FAILED;
    m = model_args_open(&a, a.n_tokens, 1);
    if (!m)
        goto done;
    const size_t n_vocab = model_desc(m)->n_vocab;
    logits = malloc((size_t)a.step * n_vocab * sizeof *logits);
    if (!logits) {
        command_failed(&a, "no memory for the logits of a step");
        goto done;
    }
    while (pos < a.n_tokens) {
        const uint32_t left = a.n_tokens - pos, n = left < a.step ? left : a.step;
        if (!model_args_run(&a, m, a.tokens + pos, n, &pos, logits, true))
            goto done;
        if (fwrite(logits, n_vocab * sizeof *logits, n, stdout) != n) {
            command_failed(&a, "stdout: can't write");
            goto done;
        }
    }
    status = fflush(stdout) == 0 ? EXIT_DONE : command_failed(&a, "stdout: can't write");
done:
    free(logits);
    model_close(m);
    model_args_fini(&a);
    return status;
}
