/* subject.h - what is planned for: the sizes of a model, from a file's metadata or from a table of
 * published shapes, in one form.
 *
 * Promise: reads metadata only; a shape is measured by the loader's own rules (synth_outline()), so
 * that a file of that shape needs the same. Units: bytes. Thread: none shared.
 * Errors: one line that says what can be given instead. */
#ifndef MILLRACE_WORKER_PLAN_SUBJECT_H
#define MILLRACE_WORKER_PLAN_SUBJECT_H

#include "worker/model/arch.h"

struct subject {
    char name[128]; /* printable */
    char what[256]; /* one sentence: which shape was taken; a distilled model is called one */
    bool distilled; /* learnt from another model's answers: not that model */
    bool from_file;
    char quant[32];
    bool quant_assumed; /* nobody said which */
    const struct arch *arch;
    struct hparams h;
    uint64_t n_params, n_active; /* of one token: experts that are not chosen don't count */

    /* Weights as the file holds them. */
    uint64_t weight_bytes;
    uint64_t first_bytes, last_bytes; /* what stands before and after the layers; a tied embedding
                                         is both, and counted in each */
    uint64_t tied_bytes;              /* that part of last_bytes */
    uint64_t *layer_bytes;            /* owned; [h.n_layer] */
    /* What one token reads of them: all, but for the embedding's other rows and of the experts the
     * chosen ones. */
    uint64_t read_bytes, expert_bytes;
    /* The worker keeps these beside the mapped file: vectors as float32, MLA's turned matrices. */
    uint64_t copied_bytes;
    /* Columns of the widest product, per token, times the rows that a token has in it. */
    uint64_t quant_columns, float_columns;
    uint64_t metadata_bytes; /* of the file, without tensor data */
    uint64_t n_merges;
    char pre[32]; /* tokenizer.ggml.pre */
};

/* `quant` may be NULL: the file's own, or Q4_K_M for a shape. */
enum err subject_open_file(struct subject *s, const char *path, struct errmsg *why) MUST_CHECK;
enum err subject_open_shape(struct subject *s, const char *text, const char *quant,
                            struct errmsg *why) MUST_CHECK;
void subject_fini(struct subject *s);

#endif
