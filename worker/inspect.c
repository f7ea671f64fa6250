/* inspect.c - gathers the report; inspect_print.c shows it. */
#include "worker/inspect.h"
#include "shared/base/checked.h"
#include "worker/model/measure.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"
#include "worker/text/chat_prompt.h"
#include "worker/text/template.h"
#include "worker/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "ARCH.key" as a number; 0 when absent, the largest where it is a list of one per layer. */
static uint64_t number(const struct inspect *r, const char *key)
{
    char full[160];
    snprintf(full, sizeof full, STR_FMT ".%s", (int)(r->arch.n < 64 ? r->arch.n : 64), r->arch.p,
             key);
    const struct gguf_kv *kv = gguf_kv(r->g, full);
    uint64_t most = 0, v;
    for (uint64_t i = 0; kv && i < kv->count; i++)
        if (gguf_elem_u64(kv, i, &v) && v > most)
            most = v;
    return most;
}

static int by_bytes(const void *a, const void *b)
{
    const struct inspect_type *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static bool contains(struct str text, const char *word)
{
    return text.n > 0 && memmem(text.p, text.n, word, strlen(word)) != NULL;
}

static void count_tensors(struct inspect *r)
{
    uint64_t in_experts = 0;
    for (size_t i = 0; i < gguf_n_tensors(r->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(r->g, i);
        uint64_t elems = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; /* checked when it was opened */
        struct inspect_type *type = &r->types[t->type];
        type->type = t->type;
        type->tensors++;
        type->elems += elems;
        type->bytes += t->bytes;
        r->n_params += elems;
        r->weight_bytes += t->bytes;
        if (contains(t->name, "_exps."))
            in_experts += elems;
    }
    qsort(r->types, QTYPE_COUNT_, sizeof r->types[0], by_bytes);
    while (r->n_types < QTYPE_COUNT_ && r->types[r->n_types].tensors)
        r->n_types++;
    r->n_active = r->n_params;
    if (r->experts && r->experts_used <= r->experts)
        r->n_active -= in_experts / r->experts * (r->experts - r->experts_used);
}

/* The loader's own checks of numbers, shapes and tensors. */
static enum err would_load(struct inspect *r, const struct inspect_opts *o, struct errmsg *why)
{
    const struct arch *a = arch_find(r->arch);
    if (!r->arch.n)
        return err_set(why, ERR_INVALID, "the key general.architecture is missing");
    if (!a) {
        char list[180];
        size_t at = 0;
        list[0] = '\0';
        for (int i = 0; arch_at(i) && at < sizeof list; i++)
            at += (size_t)snprintf(list + at, sizeof list - at, " %s", arch_at(i)->name);
        return err_set(why, ERR_UNSUPPORTED,
                       "the architecture '" STR_FMT "' is not supported; known:%s",
                       (int)(r->arch.n < 40 ? r->arch.n : 40), r->arch.p, list);
    }
    r->families = a->families;
    r->encoder = a->encoder;
    struct hparams h;
    struct weights w;
    struct arena mem;
    enum err e = hparams_read(&h, a, r->g, why);
    if (e)
        return e;
    r->vocab = h.n_vocab;
    r->heads_kv = h.n_head_kv;
    struct kv_need kv;
    e = model_kv_need(
        &kv, &h, a, backend_find("cpu"),
        &(struct kv_ask){.context = r->context, .slots = r->slots, .type = o->kv_type}, why);
    if (e)
        return e;
    r->kv_bytes_per_token = kv.token_bytes;
    r->kv_bytes = kv.bytes;
    arena_init(&mem, 0);
    e = weights_find(&w, &mem, a, &h, r->g, why);
    arena_fini(&mem);
    if (!e && r->context > h.n_ctx_train)
        e = err_set(why, ERR_RANGE,
                    "context %u is longer than the %u tokens that the model is made for",
                    r->context, h.n_ctx_train);
    return e;
}

static enum err read_tokenizer(struct inspect *r, struct errmsg *why)
{
    struct str model;
    if (!gguf_get_str(r->g, "tokenizer.ggml.model", &model) || str_is(model, "none"))
        return err_set(why, ERR_INVALID, "the file has no tokenizer: it runs on token ids only");
    struct tokenizer *t;
    enum err e = tokenizer_open(&t, r->g, why);
    if (e)
        return e;
    snprintf(r->tokenizer, sizeof r->tokenizer, "%s", tokenizer_kind(t));
    tokenizer_close(t);
    return ERR_OK;
}

/* What the template has words for. Found by its text: a variable that it never names it can't use;
 * whether it shows tools to the model, by trying. */
static void read_template(struct inspect *r)
{
    struct str src;
    if (!gguf_get_str(r->g, "tokenizer.chat_template", &src))
        return;
    struct chat_template *t;
    r->has_template = true;
    r->template_works = !template_compile(&t, src.p, src.n, &r->template_error);
    r->format = output_format_of(src);
    r->tools = contains(src, "tools");
    if (r->template_works) {
        const struct chat_prompt_env env = {.template_source = src};
        r->tools = !chat_wants_of(t, &env).no_tools;
        template_free(t);
    }
    r->reasoning = r->format.reasoning != NULL;
    r->system_role = contains(src, "system");
    r->images = contains(src, "image");
}

enum err inspect_open(struct inspect *r, const char *path, const struct inspect_opts *o,
                      struct errmsg *why)
{
    *r = (struct inspect){.slots = o->slots ? o->slots : 1};
    enum err e = gguf_open(&r->g, path, why);
    if (e)
        return e;
    (void)gguf_get_str(r->g, "general.architecture", &r->arch);
    (void)gguf_get_str(r->g, "general.name", &r->name);
    (void)gguf_get_str(r->g, "general.size_label", &r->size_label);
    r->layers = number(r, "block_count");
    r->embd = number(r, "embedding_length");
    r->heads = number(r, "attention.head_count");
    r->heads_kv = number(r, "attention.head_count_kv");
    r->ff = number(r, "feed_forward_length");
    r->experts = number(r, "expert_count");
    r->experts_used = number(r, "expert_used_count");
    r->context_train = number(r, "context_length");
    r->vocab = number(r, "vocab_size");
    r->context = o->context                      ? o->context
                 : r->context_train < UINT32_MAX ? (uint32_t)r->context_train
                                                 : UINT32_MAX;
    if (gguf_n_tensors(r->g))
        model_mix_name(r->mix, r->g);
    count_tensors(r);
    read_template(r);
    struct errmsg token_why = {{0}};
    e = would_load(r, o, &r->refusal);
    r->runs = e == ERR_OK;
    if (read_tokenizer(r, &token_why) && r->runs) {
        struct str model;
        /* Without a tokenizer a model still computes; with one that isn't known it must not. */
        r->runs = !gguf_get_str(r->g, "tokenizer.ggml.model", &model) || str_is(model, "none");
        r->refusal = token_why;
    }
    return ERR_OK;
}

void inspect_close(struct inspect *r)
{
    gguf_close(r->g);
    r->g = NULL;
}
