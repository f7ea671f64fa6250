/* inspect.h - what a model file is, what it needs and whether it would run, without loading it.
 *
 * Promise: reads metadata and tensor infos only, so that a file of any size answers at once. A file
 * that can be read gives a report, also when the model can't run here: then `refusal` says why.
 * Thread: none shared. Memory: strings are borrowed from the report's own gguf. */
#ifndef MILLRACE_WORKER_INSPECT_H
#define MILLRACE_WORKER_INSPECT_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "worker/model/gguf.h"
#include "worker/text/output/format.h"

struct inspect_opts {
    uint32_t context; /* 0: the model's own */
    uint32_t slots;   /* parallel sequences */
    enum qtype kv_type;
    bool list_tensors;
};

struct inspect_type {
    enum qtype type;
    uint64_t tensors, elems, bytes;
};

struct inspect {
    struct gguf *g; /* owned */
    struct str arch, name, size_label;
    const char *families; /* NULL: an architecture that is not in the table */
    bool runs, encoder;
    struct errmsg refusal; /* when !runs */
    char mix[32];
    uint64_t n_params, n_active; /* of one token: experts that are not chosen don't count */
    uint64_t weight_bytes;
    struct inspect_type types[QTYPE_COUNT_]; /* by bytes, largest first */
    int n_types;
    uint64_t layers, embd, heads, heads_kv, ff, experts, experts_used, context_train, vocab;
    char tokenizer[64]; /* "bpe/qwen2"; empty: none, or not readable (then it is the refusal) */
    bool has_template, template_works;
    struct errmsg template_error;
    bool tools, reasoning, system_role, images;
    struct output_format format; /* the forms in which answers are parsed */
    uint32_t context, slots;
    uint64_t kv_bytes_per_token, kv_bytes; /* 0: not known */
};

enum err inspect_open(struct inspect *r, const char *path, const struct inspect_opts *o,
                      struct errmsg *why) MUST_CHECK;
void inspect_close(struct inspect *r);

void inspect_text(const struct inspect *r, const struct inspect_opts *o, struct buf *out);
void inspect_json(const struct inspect *r, const struct inspect_opts *o, struct buf *out);

#endif
