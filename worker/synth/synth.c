/* synth.c - see synth.h. The row of the architecture says which tensors there are, the loader's own
 * reading of the metadata says how large; what is decided here is how large their numbers are. */
#include "worker/synth/synth.h"
#include "worker/model/gguf_parts.h"
#include "worker/model/gguf_write.h"
#include "worker/model/pooling.h"
#include "worker/model/weights.h"
#include "worker/quant/random.h"
#include "worker/synth/mix.h"
#include "worker/synth/vocab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct synth {
    const struct synth_params *p;
    const struct arch *arch;
    const struct mix *mix;
    struct hparams h;
    struct gguf_writer *w;
    struct arena mem;
    struct synth_result *result;
    void (*see)(void *user, const struct synth_tensor *t); /* of an outline */
    void *user;
};

enum { WINDOW_TOKENS = 4096 }; /* where layers with a window alternate and none was asked for */

/* By wish, or because the family's files have no output matrix at all. */
static bool tied(const struct synth *s)
{
    bool own = false;
    for (const struct tensor_need *n = s->arch->tensors; n->need != NEED_END_; n++)
        own |= n->slot == OUTPUT;
    return s->p->tie == YES || !own;
}

/* --- metadata -------------------------------------------------------------------------------- */

static void put_key(struct synth *s, const char *key, double v, bool is_float)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", s->arch->name, key);
    if (is_float)
        gguf_put_f32(s->w, full, (float)v);
    else
        gguf_put_u32(s->w, full, (uint32_t)v);
}

static void put_numbers(struct synth *s)
{
    const struct synth_params *p = s->p;
    for (int i = 0; i < SYNTH_NUMBERS_; i++) {
        bool is_float;
        const char *key = synth_number_key((enum synth_number)i, &is_float);
        if (key && p->number[i] >= 0 && !(i == SYNTH_ROT && s->arch->rope == ROPE_NONE))
            put_key(s, key, p->number[i], is_float);
    }
    if (s->arch->window == WINDOW_PERIOD && !s->arch->window_default && p->number[SYNTH_WINDOW] < 0)
        put_key(s, "attention.sliding_window", WINDOW_TOKENS, false);
    put_key(s,
            s->arch->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon"
                                      : "attention.layer_norm_epsilon",
            p->number[SYNTH_EPS], true);
    if (p->number[SYNTH_ROPE_FACTOR] > 0) {
        char full[128];
        snprintf(full, sizeof full, "%s.rope.scaling.type", s->arch->name);
        gguf_put_str(s->w, full, p->number[SYNTH_ROPE_CONTEXT] > 0 ? STR("yarn") : STR("linear"));
    }
    if (s->arch->encoder) {
        char full[128];
        snprintf(full, sizeof full, "%s.attention.causal", s->arch->name);
        gguf_put_bool(s->w, full, false);
        if (p->number[SYNTH_POOLING] < 0)
            put_key(s, "pooling_type", POOL_MEAN, false);
        gguf_put_u32(s->w, "tokenizer.ggml.token_type_count", 2);
    }
}

static void put_general(struct synth *s)
{
    char text[160];
    gguf_put_str(s->w, "general.architecture", str_of(s->arch->name));
    gguf_put_str(s->w, "general.type", STR("model"));
    snprintf(text, sizeof text, "synthetic %gx%g %s", s->p->number[SYNTH_LAYERS],
             s->p->number[SYNTH_EMBD], mix_name(s->mix));
    gguf_put_str(s->w, "general.name", str_of(text));
    snprintf(text, sizeof text,
             "random weights, seed %llu: made to be loaded and timed, it knows nothing",
             (unsigned long long)s->p->seed);
    gguf_put_str(s->w, "general.description", str_of(text));
    gguf_put_u32(s->w, "general.quantization_version", 2);
    gguf_put_u32(s->w, "general.file_type", mix_file_type(s->mix));
}

static enum err put_wordpiece(struct synth *s, struct errmsg *why)
{
    struct synth_vocab v;
    enum err e = synth_wordpiece_make(&v, &s->mem, (size_t)s->p->number[SYNTH_VOCAB], why);
    if (e)
        return e;
    gguf_put_str(s->w, "tokenizer.ggml.model", STR("bert"));
    gguf_put_str_array(s->w, "tokenizer.ggml.tokens", v.tokens, v.n);
    gguf_put_i32_array(s->w, "tokenizer.ggml.token_type", v.types, v.n);
    gguf_put_u32(s->w, "tokenizer.ggml.bos_token_id", SYNTH_CLS);
    gguf_put_u32(s->w, "tokenizer.ggml.cls_token_id", SYNTH_CLS);
    gguf_put_u32(s->w, "tokenizer.ggml.seperator_token_id", SYNTH_SEP); /* as it is spelled */
    gguf_put_u32(s->w, "tokenizer.ggml.unknown_token_id", SYNTH_UNK);
    gguf_put_u32(s->w, "tokenizer.ggml.padding_token_id", SYNTH_PAD);
    gguf_put_u32(s->w, "tokenizer.ggml.mask_token_id", SYNTH_MASK);
    return ERR_OK;
}

static enum err put_tokenizer(struct synth *s, struct errmsg *why)
{
    if (s->arch->encoder && !s->p->pre)
        return put_wordpiece(s, why);
    struct synth_vocab v;
    enum err e = synth_vocab_make(&v, &s->mem, (size_t)s->p->number[SYNTH_VOCAB], why);
    if (e)
        return e;
    const char *pre = s->p->pre                                ? s->p->pre
                      : strncmp(s->arch->name, "qwen", 4) == 0 ? "qwen2"
                                                               : "llama-bpe";
    gguf_put_str(s->w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(s->w, "tokenizer.ggml.pre", str_of(pre));
    gguf_put_str_array(s->w, "tokenizer.ggml.tokens", v.tokens, v.n);
    gguf_put_i32_array(s->w, "tokenizer.ggml.token_type", v.types, v.n);
    gguf_put_str_array(s->w, "tokenizer.ggml.merges", v.merges, v.n_merges);
    gguf_put_u32(s->w, "tokenizer.ggml.bos_token_id", v.end_of_text);
    gguf_put_u32(s->w, "tokenizer.ggml.eos_token_id", v.im_end);
    gguf_put_u32(s->w, "tokenizer.ggml.padding_token_id", v.end_of_text);
    gguf_put_bool(s->w, "tokenizer.ggml.add_bos_token", false);
    if (!s->arch->encoder && s->p->tmpl.n)
        gguf_put_str(s->w, "tokenizer.chat_template", s->p->tmpl);
    return ERR_OK;
}

/* Our own keys, read back by the rules of the loader: so the sizes here and there can't differ. */
static enum err read_back(struct synth *s, struct errmsg *why)
{
    struct buf head;
    struct gguf *g = NULL;
    buf_init(&head);
    enum err e = gguf_writer_head(s->w, &head, why);
    if (!e)
        e = gguf_open_memory(&g, head.p, head.n, why);
    if (!e)
        e = hparams_read(&s->h, s->arch, g, why);
    if (s->arch->encoder)
        s->h.n_types = 2; /* the loader takes it from the tensor, which is not there yet */
    gguf_close(g);
    buf_fini(&head);
    return e;
}

/* --- the tensors: one walk for their list, one for their data -------------------------------- */

struct made {
    char name[TENSOR_NAME_MAX];
    struct synth_tensor t;
    int n_dims;
};

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && strcmp(name + n - k, tail) == 0;
}

static bool left_out(const struct synth *s, enum slot slot, enum need need)
{
    if (slot == OUTPUT)
        return tied(s) && !weights_must(need);
    if (slot == ROPE_FREQS)
        return !s->p->rope_freqs;
    if (slot == TYPE_EMBD ||
        (s->p->biases && slot != OUTPUT_B && ends_with(arch_slots[slot].name, ".bias")))
        return slot == CLS_B || slot == CLS_OUT_B;
    if (slot == MLA_KV_B) /* one of two forms of the same matrix: this one is made */
        return false;
    return !weights_must(need);
}

static bool describe(const struct synth *s, const struct tensor_need *n, int il, struct made *t)
{
    const struct slot_info *info = &arch_slots[n->slot];
    if (!weights_wanted(&s->h, n->slot, n->need, il) || left_out(s, n->slot, n->need))
        return false;
    /* A row may name a slot twice (may, then must): the later one counts. */
    for (const struct tensor_need *later = n + 1; later->need != NEED_END_; later++)
        if (later->slot == n->slot && weights_wanted(&s->h, n->slot, later->need, il))
            return false;
    weights_tensor_name(t->name, n->slot, il);
    t->t.slot = n->slot;
    t->t.layer = il;
    t->n_dims = info->mat != D_ONE ? 3 : info->out != D_ONE ? 2 : 1;
    t->t.ne[0] = hparams_dim(&s->h, s->arch, info->in);
    t->t.ne[1] = hparams_dim(&s->h, s->arch, info->out);
    t->t.ne[2] = hparams_dim(&s->h, s->arch, info->mat);
    t->t.elems = t->t.ne[0] * t->t.ne[1] * t->t.ne[2];
    t->t.type = mix_type(s->mix, &s->h, n->slot, il, t->t.ne[0], tied(s), s->p->pure);
    return true;
}

typedef enum err (*visit_fn)(struct synth *s, const struct made *t, struct errmsg *why);

static enum err for_each_tensor(struct synth *s, visit_fn visit, struct errmsg *why)
{
    for (int pass = 0; pass < 2; pass++) { /* the model's tensors, then layer by layer */
        int layers = pass ? (int)s->h.n_layer : 1;
        for (int il = 0; il < layers; il++)
            for (const struct tensor_need *n = s->arch->tensors; n->need != NEED_END_; n++) {
                struct made t;
                if (slot_of_layer(n->slot) != (pass == 1) || !describe(s, n, il, &t))
                    continue;
                enum err e = visit(s, &t, why);
                if (e)
                    return e;
            }
    }
    return ERR_OK;
}

static enum err declare(struct synth *s, const struct made *t, struct errmsg *why)
{
    (void)why;
    gguf_add_tensor(s->w, t->name, t->t.type, t->n_dims, t->t.ne);
    s->result->n_params += t->t.elems;
    s->result->n_tensors++;
    return ERR_OK;
}

/* --- how large the numbers are --------------------------------------------------------------- */

/* Of the output matrix: logits that a sampler can choose from. */
static float output_std(const struct synth *s)
{
    return 2.5f / sqrtf((float)s->h.n_embd) / fmaxf(1e-6f, fabsf(s->h.logit_scale));
}

static float embedding_std(const struct synth *s)
{
    return tied(s) ? output_std(s) : 1;
}

/* What one addition to the residual stream shall measure. The stream starts with the embedding and
 * gets two additions a layer; all of them together outweigh the embedding, the more so when the
 * output is the embedding too: it would else find its own token in the stream and repeat it for
 * ever. */
static float addition_std(const struct synth *s)
{
    const float stream = embedding_std(s) * s->h.embd_scale;
    const float share = tied(s) ? 2 * sqrtf((float)s->h.n_embd) : 4;
    return stream * share / sqrtf(2 * (float)s->h.n_layer) / fmaxf(1e-6f, s->h.residual_scale);
}

/* The standard deviation of a matrix. Inputs of a matrix have about unit variance (they were
 * normed), so 1/sqrt(n_in) keeps it. */
static float matrix_std(const struct synth *s, const struct made *t)
{
    const float in = 1 / sqrtf((float)t->t.ne[0]);
    switch (t->t.slot) {
    case TOKEN_EMBD:
        return embedding_std(s);
    case POS_EMBD:
    case TYPE_EMBD:
        return 0.5f;
    case OUTPUT:
        return output_std(s);
    case ATTN_Q:
    case ATTN_K:
        return 1.5f * in; /* scores that differ */
    case ATTN_OUT:
    case FFN_DOWN:
    case MOE_DOWN:
    case SHARED_DOWN:
        return s->arch->block == BLOCK_POST_NORM ? in : in * addition_std(s);
    default:
        return in;
    }
}

/* The frequency factors of Llama 3.1: wavelengths beyond the first context are stretched eight
 * times, those within a quarter of it not at all (as the models' config.json has it). */
static void rope_factors(const struct hparams *h, float *out)
{
    for (uint32_t i = 0; i < h->n_rot / 2; i++) {
        double wave = 2 * M_PI * pow((double)h->rope_base, 2.0 * i / h->n_rot), turns = 8192 / wave;
        double smooth = (turns - 1) / (4 - 1);
        out[i] = (float)(turns > 4 ? 1 : turns < 1 ? 8 : 1 / ((1 - smooth) / 8 + smooth));
    }
}

static void fill_vector(const struct synth *s, const struct made *t, float *out, struct qrandom *r)
{
    if (t->t.slot == ROPE_FREQS) {
        rope_factors(&s->h, out);
        return;
    }
    const bool addition = t->t.slot == ATTN_POST || t->t.slot == FFN_POST;
    const float center = addition ? addition_std(s) : ends_with(t->name, "norm.weight") ? 1 : 0;
    const float spread = center > 0 ? 0.1f * center : 0.1f;
    for (uint64_t i = 0; i < t->t.elems; i++)
        out[i] = center + spread * qrandom_unit(r);
}

enum { CHUNK_ELEMS = 1 << 20 }; /* a multiple of every block */

static enum err write_tensor(struct synth *s, const struct made *t, struct errmsg *why)
{
    const struct qtype_info *q = qtype_info((uint32_t)t->t.type);
    size_t chunk = t->t.elems < CHUNK_ELEMS ? (size_t)t->t.elems : CHUNK_ELEMS;
    void *data = malloc(chunk / q->block_elems * q->block_bytes);
    if (!data)
        return err_set(why, ERR_NOMEM, "out of memory for %s", t->name);
    struct qrandom r;
    qrandom_seed(&r, s->p->seed * 0x9e3779b97f4a7c15u ^ str_hash(str_of(t->name)));
    enum err e = ERR_OK;
    if (slot_is_vector(t->t.slot)) {
        if (t->t.elems > CHUNK_ELEMS)
            e = err_set(why, ERR_RANGE, "%s has %llu elements", t->name,
                        (unsigned long long)t->t.elems);
        else
            fill_vector(s, t, data, &r);
        if (!e)
            e = gguf_write_data(s->w, data, (size_t)t->t.elems * sizeof(float), why);
        free(data);
        return e;
    }
    const float std = matrix_std(s, t);
    for (uint64_t at = 0; at < t->t.elems && !e; at += chunk) {
        size_t n = t->t.elems - at < chunk ? (size_t)(t->t.elems - at) : chunk;
        qrandom_blocks(data, t->t.type, n, std, &r);
        e = gguf_write_data(s->w, data, n / q->block_elems * q->block_bytes, why);
    }
    free(data);
    return e;
}

/* --- all of it ------------------------------------------------------------------------------- */

static enum err write_all(struct synth *s, struct errmsg *why)
{
    put_general(s);
    put_numbers(s);
    enum err e = put_tokenizer(s, why);
    if (!e)
        e = read_back(s, why);
    if (!e)
        e = for_each_tensor(s, declare, why);
    if (!e)
        e = for_each_tensor(s, write_tensor, why);
    return e;
}

static enum err find_row(struct synth *s, struct errmsg *why)
{
    s->arch = arch_find(str_of(s->p->arch));
    if (s->arch)
        return ERR_OK;
    char list[200];
    size_t at = 0;
    list[0] = '\0';
    for (int i = 0; arch_at(i) && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, " %s", arch_at(i)->name);
    return err_set(why, ERR_NOT_FOUND, "no architecture '%s'; there are%s", s->p->arch, list);
}

enum err synth_write(const char *path, const struct synth_params *p, struct synth_result *result,
                     struct errmsg *why)
{
    *result = (struct synth_result){0};
    struct synth s = {.p = p, .result = result};
    enum err e = find_row(&s, why);
    if (!e)
        e = mix_find(&s.mix, p->quant, why);
    if (!e)
        e = gguf_writer_open(&s.w, path, why);
    if (e)
        return e;
    arena_init(&s.mem, 0);
    e = write_all(&s, why);
    arena_fini(&s.mem);
    if (e) {
        gguf_writer_abort(s.w);
        return e;
    }
    result->file_bytes = gguf_writer_bytes(s.w);
    return gguf_writer_finish(s.w, why);
}

static enum err show(struct synth *s, const struct made *t, struct errmsg *why)
{
    (void)why;
    s->see(s->user, &t->t);
    return ERR_OK;
}

enum err synth_outline(const struct synth_params *p, const struct arch **arch, struct hparams *h,
                       void (*see)(void *user, const struct synth_tensor *t), void *user,
                       struct errmsg *why)
{
    struct synth s = {.p = p, .see = see, .user = user};
    enum err e = find_row(&s, why);
    if (!e)
        e = mix_find(&s.mix, p->quant, why);
    if (!e)
        e = gguf_writer_open(&s.w, NULL, why);
    if (e)
        return e;
    put_numbers(&s);
    put_key(&s, "vocab_size", p->number[SYNTH_VOCAB], false);
    e = read_back(&s, why);
    if (!e) {
        *arch = s.arch;
        *h = s.h;
        e = for_each_tensor(&s, show, why);
    }
    gguf_writer_abort(s.w);
    return e;
}
