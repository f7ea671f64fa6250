/* subject.c - see subject.h. Files and shapes meet in add_tensor(). */
#include "worker/plan/subject.h"

#include "worker/model/measure.h"
#include "worker/model/weights.h"
#include "worker/plan/shapes.h"
#include "worker/synth/synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- adding up ------------------------------------------------------------------------------- */

static bool of_experts(enum slot s)
{
    return s == MOE_GATE || s == MOE_UP || s == MOE_DOWN;
}

static void widen(uint64_t *columns, uint64_t n)
{
    if (n > *columns)
        *columns = n;
}

/* The columns that one token has in a product with this tensor. */
static void add_columns(struct subject *s, enum slot slot, enum qtype type, uint64_t n_in)
{
    const bool floats = type == QTYPE_F32 || type == QTYPE_F16 || type == QTYPE_BF16;
    if (slot == OUTPUT || slot == TOKEN_EMBD || slot == POS_EMBD || slot == TYPE_EMBD)
        return; /* a few rows at a time, or looked up */
    widen(floats ? &s->float_columns : &s->quant_columns,
          n_in * (of_experts(slot) ? s->h.n_expert_used : 1));
}

static void add_tensor(void *user, const struct synth_tensor *t)
{
    struct subject *s = user;
    const struct qtype_info *q = qtype_info((uint32_t)t->type);
    const uint64_t bytes = t->elems / q->block_elems * q->block_bytes;
    s->n_params += t->elems;
    s->weight_bytes += bytes;
    if (slot_of_layer(t->slot))
        s->layer_bytes[t->layer] += bytes;
    else if (t->slot == TOKEN_EMBD || t->slot == POS_EMBD || t->slot == TYPE_EMBD)
        s->first_bytes += bytes;
    else
        s->last_bytes += bytes;
    if (of_experts(t->slot)) {
        s->expert_bytes += bytes;
        s->n_active += t->elems / s->h.n_expert * s->h.n_expert_used;
    } else {
        s->n_active += t->elems;
        if (t->slot != TOKEN_EMBD && t->slot != POS_EMBD)
            s->read_bytes += bytes;
    }
    if (slot_is_vector(t->slot)) {
        s->copied_bytes += t->elems * sizeof(float);
        return;
    }
    add_columns(s, t->slot, t->type, t->ne[0]);
    if (t->slot == MLA_KV_B) { /* weights_derive() turns one half */
        const uint64_t nope = s->h.head_k - s->h.n_rot;
        s->copied_bytes += s->h.n_head * nope * s->h.kv_lora * (t->type == QTYPE_F32 ? 4 : 2);
    }
    if (t->slot == MLA_KV_B || t->slot == MLA_K_B)
        widen(&s->float_columns, s->h.n_head * (uint64_t)(s->h.head_k - s->h.n_rot));
}

/* A tied embedding is the output too: read whole for every token, and on the last device. */
static void add_tied(struct subject *s, bool own_output, uint64_t embd_bytes)
{
    if (own_output || s->arch->encoder)
        return;
    s->read_bytes += embd_bytes;
    s->last_bytes += embd_bytes;
    s->tied_bytes = embd_bytes;
}

static enum err begin(struct subject *s, struct errmsg *why)
{
    s->layer_bytes = calloc(s->h.n_layer, sizeof *s->layer_bytes);
    return s->layer_bytes ? ERR_OK : err_set(why, ERR_NOMEM, "out of memory");
}

/* --- from a file ----------------------------------------------------------------------------- */

static void show_found(struct subject *s, const struct tensor *t, enum slot slot, int layer)
{
    if (!t)
        return;
    add_tensor(s, &(struct synth_tensor){
                      .slot = slot,
                      .layer = layer,
                      .type = t->type,
                      .ne = {(uint64_t)t->n_in, (uint64_t)t->n_out, (uint64_t)t->n_mat},
                      .elems = (uint64_t)t->n_in * (uint64_t)t->n_out * (uint64_t)t->n_mat});
}

static void put_printable(char *out, size_t size, struct str text)
{
    size_t n = 0;
    for (; n + 1 < size && n < text.n; n++)
        out[n] = text.p[n] >= ' ' && text.p[n] < 127 ? text.p[n] : '?';
    out[n] = '\0';
}

static bool names_distill(struct str name)
{
    return name.n && (memmem(name.p, name.n, "istill", 6) || memmem(name.p, name.n, "ISTILL", 6));
}

static void name_file(struct subject *s, const struct gguf *g, const char *path)
{
    struct str name = {0};
    if (!gguf_get_str(g, "general.name", &name) || !name.n) {
        const char *slash = strrchr(path, '/');
        name = str_of(slash ? slash + 1 : path);
    }
    put_printable(s->name, sizeof s->name, name);
    s->distilled = names_distill(name);
    const struct str r1 = STR("R1");
    snprintf(s->what, sizeof s->what, "the file's own tensors, architecture %s%s%s", s->arch->name,
             s->distilled ? "; a distill: a model of that architecture that learnt " : "",
             s->distilled && memmem(name.p, name.n, r1.p, r1.n)
                 ? "R1's answers, not R1 (671B) itself"
             : s->distilled ? "another model's answers, not that model itself"
                            : "");
    model_mix_name(s->quant, g);
    const struct gguf_kv *merges = gguf_kv(g, "tokenizer.ggml.merges");
    s->n_merges = merges ? merges->count : 0;
    struct str pre = {0};
    if (gguf_get_str(g, "tokenizer.ggml.pre", &pre))
        put_printable(s->pre, sizeof s->pre, pre);
}

enum err subject_open_file(struct subject *s, const char *path, struct errmsg *why)
{
    *s = (struct subject){.from_file = true};
    struct gguf *g = NULL;
    struct arena mem;
    struct weights w;
    struct str arch;
    arena_init(&mem, 0);
    enum err e = gguf_open(&g, path, why);
    if (!e && !gguf_get_str(g, "general.architecture", &arch))
        e = err_set(why, ERR_INVALID, "%s: the key general.architecture is missing", path);
    if (!e && !(s->arch = arch_find(arch)))
        e = err_set(why, ERR_UNSUPPORTED, "%s: the architecture '" STR_FMT "' is not supported",
                    path, (int)(arch.n < 64 ? arch.n : 64), arch.p);
    if (!e)
        e = hparams_read(&s->h, s->arch, g, why);
    if (!e)
        e = weights_find(&w, &mem, s->arch, &s->h, g, why);
    if (!e)
        e = begin(s, why);
    if (!e) {
        for (enum slot slot = 0; slot < SLOTS_; slot++)
            for (uint32_t il = 0; il < (slot_of_layer(slot) ? s->h.n_layer : 1); il++)
                show_found(s,
                           slot_of_layer(slot) ? layer_tensor(&w.layers[il], slot)
                                               : model_tensor(&w, slot),
                           slot, (int)il);
        const struct tensor *embd = model_tensor(&w, TOKEN_EMBD);
        const struct qtype_info *q = qtype_info((uint32_t)(embd ? embd->type : QTYPE_F32));
        add_tied(s, model_tensor(&w, OUTPUT) != NULL,
                 embd ? (uint64_t)embd->n_out * ((uint64_t)embd->n_in / q->block_elems) *
                            q->block_bytes
                      : 0);
        name_file(s, g, path);
        s->metadata_bytes = gguf_file_bytes(g) > w.bytes ? gguf_file_bytes(g) - w.bytes : 0;
    }
    arena_fini(&mem);
    gguf_close(g);
    if (e)
        subject_fini(s);
    return e;
}

/* --- from a shape ---------------------------------------------------------------------------- */

struct outline {
    struct subject *s;
    bool own_output;
    uint64_t embd_bytes;
    bool failed;
};

static void see(void *user, const struct synth_tensor *t)
{
    struct outline *o = user;
    const struct qtype_info *q = qtype_info((uint32_t)t->type);
    if (!o->s->layer_bytes) { /* the numbers were read before the first tensor is shown */
        struct errmsg ignored;
        if (begin(o->s, &ignored))
            o->failed = true;
    }
    if (o->failed)
        return;
    o->own_output |= t->slot == OUTPUT;
    if (t->slot == TOKEN_EMBD)
        o->embd_bytes = t->elems / q->block_elems * q->block_bytes;
    add_tensor(o->s, t);
}

enum {
    TEXT_OF_TOKEN = 35
}; /* bytes of metadata per token: its text, its merge, their lengths and
      its type; measured on vocabularies of 32,000 to 256,000 */

enum err subject_open_shape(struct subject *s, const char *text, const char *quant,
                            struct errmsg *why)
{
    *s = (struct subject){0};
    struct synth_params p;
    struct shape_choice c;
    enum err e = shape_choose(&c, text, why);
    if (e)
        return e;
    if (!quant)
        quant = c.quant[0] ? c.quant : NULL;
    s->quant_assumed = !quant;
    if (!quant)
        quant = c.shape->quant ? c.shape->quant : "Q4_K_M";
    snprintf(s->name, sizeof s->name, "%s", text);
    snprintf(s->what, sizeof s->what, "%s", c.what);
    s->distilled = c.distilled;
    shape_params(&p, c.shape, c.untied);
    if (strlen(quant) >= sizeof p.quant)
        return err_set(why, ERR_NOT_FOUND, "no quantization '%.40s'", quant);
    snprintf(p.quant, sizeof p.quant, "%s", quant);
    struct outline o = {.s = s};
    e = synth_params_finish(&p, why);
    if (!e)
        e = synth_outline(&p, &s->arch, &s->h, see, &o, why);
    if (!e && o.failed)
        e = err_set(why, ERR_NOMEM, "out of memory");
    if (e) {
        subject_fini(s);
        return e;
    }
    add_tied(s, o.own_output, o.embd_bytes);
    for (size_t i = 0; i < sizeof s->quant - 1 && quant[i]; i++)
        s->quant[i] = (char)(quant[i] >= 'a' && quant[i] <= 'z' ? quant[i] - 32 : quant[i]);
    s->metadata_bytes = (uint64_t)s->h.n_vocab * TEXT_OF_TOKEN;
    /* SPM and WordPiece have no merges; vocabularies above 100,000 tokens are BPE. */
    s->n_merges = s->arch->encoder || s->h.n_vocab < 100000 ? 0 : s->h.n_vocab;
    snprintf(s->pre, sizeof s->pre, "%s", strcmp(s->arch->name, "llama") == 0 ? "llama-bpe" : "");
    return ERR_OK;
}

void subject_fini(struct subject *s)
{
    free(s->layer_bytes);
    s->layer_bytes = NULL;
}
