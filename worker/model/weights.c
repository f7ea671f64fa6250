/* weights.c - walks the row's list of tensors; see weights.h. */
#include "worker/model/weights.h"

#include <math.h>
#include <stdio.h>

void weights_tensor_name(char out[TENSOR_NAME_MAX], enum slot s, int il)
{
    if (slot_of_layer(s))
        snprintf(out, TENSOR_NAME_MAX, "blk.%d.%s", il, arch_slots[s].name);
    else
        snprintf(out, TENSOR_NAME_MAX, "%s", arch_slots[s].name);
}

static void shape_text(char *out, size_t n, const uint64_t *ne, int n_dims)
{
    size_t at = 0;
    for (int i = 0; i < n_dims && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, i ? ", %llu" : "[%llu", (unsigned long long)ne[i]);
    if (at < n)
        snprintf(out + at, n - at, "]");
}

bool weights_wanted(const struct hparams *h, enum slot s, enum need need, int il)
{
    const bool moe = slot_of_layer(s) && layer_has_experts(h, (uint32_t)il);
    switch (need) {
    case DENSE:
        return !moe;
    case MOE:
    case MAY_MOE:
        return moe;
    case SHARED:
        return moe && h->n_ff_shared > 0;
    case WITH_Q_LORA:
        return h->q_lora > 0;
    case NO_Q_LORA:
        return h->q_lora == 0;
    default:
        return true;
    }
}

bool weights_must(enum need need)
{
    return need != MAY && need != MAY_MOE;
}

/* Fills *t from the file's tensor of that name, if its shape and type are right. */
static enum err find_one(struct tensor *t, const struct arch *a, const struct hparams *h,
                         const struct gguf *g, enum slot s, int il, bool must, struct errmsg *why)
{
    char name[TENSOR_NAME_MAX];
    weights_tensor_name(name, s, il);
    const struct gguf_tensor *f = gguf_tensor(g, name);
    if (!f) {
        if (must)
            return err_set(why, ERR_INVALID, "%s: the tensor %s is missing", gguf_path(g), name);
        return ERR_OK;
    }
    const struct slot_info *info = &arch_slots[s];
    const uint64_t want[4] = {hparams_dim(h, a, info->in), hparams_dim(h, a, info->out),
                              hparams_dim(h, a, info->mat), 1};
    bool same = true;
    for (int i = 0; i < 4; i++)
        same = same && f->ne[i] == want[i];
    if (!same) {
        char expected[64], found[64];
        shape_text(expected, sizeof expected, want,
                   info->mat != D_ONE   ? 3
                   : info->out != D_ONE ? 2
                                        : 1);
        shape_text(found, sizeof found, f->ne, f->n_dims);
        return err_set(why, ERR_INVALID,
                       "%s: the tensor %s has the shape %s, but the file's metadata asks for %s",
                       gguf_path(g), name, found, expected);
    }
    const struct qtype_info *q = qtype_info(f->type);
    if (!q || !q->dequantize)
        return err_set(why, ERR_UNSUPPORTED,
                       "%s: the tensor %s has the type %s, which is not supported", gguf_path(g),
                       name, q && q->name ? q->name : "unknown");
    *t = (struct tensor){.type = f->type,
                         .n_in = (int)want[0],
                         .n_out = (int)want[1],
                         .n_mat = (int)want[2],
                         .mat_bytes = f->bytes / (size_t)want[2],
                         .data = f->data};
    return ERR_OK;
}

/* A tensor that no part of the row reads would change the answer unnoticed: refuse it. */
static enum err refuse_unknown(const struct arch *a, const struct hparams *h, const struct gguf *g,
                               struct errmsg *why)
{
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *f = gguf_tensor_at(g, i);
        struct str name = f->name;
        uint64_t il = 0;
        bool layered = false;
        if (str_starts(name, STR("blk."))) {
            struct str number = {name.p + 4, 0};
            while (number.n < name.n - 4 && number.p[number.n] != '.')
                number.n++;
            if (number.n + 5 < name.n && str_to_u64(number, UINT32_MAX, &il)) {
                layered = true;
                name = (struct str){number.p + number.n + 1, name.n - 5 - number.n};
            }
        }
        bool known = false;
        for (const struct tensor_need *n = a->tensors; n->need != NEED_END_ && !known; n++)
            known = slot_of_layer(n->slot) == layered && str_is(name, arch_slots[n->slot].name) &&
                    (!layered || (il < h->n_layer && weights_wanted(h, n->slot, n->need, (int)il)));
        /* Layers that guess further tokens are no part of the answer. */
        known = known || (layered && il >= h->n_layer && il < (uint64_t)h->n_layer + h->n_nextn);
        if (!known)
            return err_set(why, ERR_UNSUPPORTED,
                           "%s: the tensor " STR_FMT
                           " is no part of a %s model with %u layers as known here",
                           gguf_path(g), (int)(f->name.n < 80 ? f->name.n : 80), f->name.p, a->name,
                           h->n_layer);
    }
    return ERR_OK;
}

enum err weights_find(struct weights *w, struct arena *mem, const struct arch *a,
                      const struct hparams *h, const struct gguf *g, struct errmsg *why)
{
    *w = (struct weights){.layers = arena_array(mem, h->n_layer, sizeof *w->layers)};
    if (!w->layers)
        return err_set(why, ERR_NOMEM, "no memory for %u layers", h->n_layer);
    for (const struct tensor_need *n = a->tensors; n->need != NEED_END_; n++) {
        const int layers = slot_of_layer(n->slot) ? (int)h->n_layer : 1;
        for (int il = 0; il < layers; il++) {
            if (!weights_wanted(h, n->slot, n->need, il))
                continue;
            struct tensor *t = slot_of_layer(n->slot) ? &w->layers[il].t[n->slot - MODEL_SLOTS_]
                                                      : &w->model[n->slot];
            const enum err e = find_one(t, a, h, g, n->slot, il, weights_must(n->need), why);
            if (e)
                return e;
        }
    }
    if (!a->may_tie && !a->encoder && !model_tensor(w, OUTPUT))
        return err_set(why, ERR_INVALID, "%s: the tensor output.weight is missing", gguf_path(g));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *f = gguf_tensor_at(g, i);
        w->bytes += f->bytes;
        w->n_params += f->ne[0] * f->ne[1] * f->ne[2] * f->ne[3];
    }
    return refuse_unknown(a, h, g, why);
}

/* attn_kv_b is [n_head][nope + head_v] rows of kv_lora values. */
static enum err split_kv_b(struct layer *l, struct arena *mem, const struct hparams *h,
                           struct errmsg *why)
{
    const struct tensor *kv_b = layer_tensor(l, MLA_KV_B);
    const struct qtype_info *q = qtype_info(kv_b->type);
    const size_t lora = h->kv_lora, nope = h->head_k - h->n_rot, n_head = h->n_head,
                 row_bytes = lora / q->block_elems * q->block_bytes,
                 head_bytes = (nope + h->head_v) * row_bytes;
    const bool wide = kv_b->type == QTYPE_F32;
    const size_t value = wide ? sizeof(float) : sizeof(uint16_t);
    float *row = arena_array(mem, lora, sizeof *row);
    char *turned = arena_array(mem, n_head * lora, nope * value);
    if (!row || !turned)
        return err_set(why, ERR_NOMEM, "no memory for the turned half of attn_kv_b");
    for (size_t i = 0; i < n_head * nope; i++) {
        const size_t head = i / nope, d = i % nope;
        q->dequantize(row, (const char *)kv_b->data + head * head_bytes + d * row_bytes, lora);
        for (size_t c = 0; c < lora; c++) {
            const size_t at = (head * lora + c) * nope + d;
            if (wide)
                ((float *)(void *)turned)[at] = row[c];
            else
                ((uint16_t *)(void *)turned)[at] = f32_to_f16(row[c]);
        }
    }
    l->k_up = (struct tensor){.type = wide ? QTYPE_F32 : QTYPE_F16,
                              .n_in = (int)nope,
                              .n_out = (int)lora,
                              .n_mat = (int)n_head,
                              .mat_bytes = nope * lora * value,
                              .data = turned};
    l->v_up = (struct tensor){.type = kv_b->type,
                              .n_in = (int)lora,
                              .n_out = (int)h->head_v,
                              .n_mat = (int)n_head,
                              .mat_bytes = head_bytes,
                              .data = (const char *)kv_b->data + nope * row_bytes};
    return ERR_OK;
}

enum err weights_derive(struct weights *w, struct arena *mem, const struct arch *a,
                        const struct hparams *h, struct errmsg *why)
{
    for (uint32_t il = 0; a->attn == ATTN_MLA && il < h->n_layer; il++) {
        struct layer *l = &w->layers[il];
        const struct tensor *k = layer_tensor(l, MLA_K_B), *v = layer_tensor(l, MLA_V_B);
        if (layer_tensor(l, MLA_KV_B)) {
            const enum err e = split_kv_b(l, mem, h, why);
            if (e)
                return e;
        } else if (k && v) {
            l->k_up = *k;
            l->v_up = *v;
        } else {
            return err_set(why, ERR_INVALID, "the tensor blk.%u.attn_kv_b.weight is missing", il);
        }
    }
    return ERR_OK;
}

enum err tensor_floats(float *out, const struct tensor *t, const char *name, struct errmsg *why)
{
    const size_t n = (size_t)t->n_in * (size_t)t->n_out;
    qtype_info(t->type)->dequantize(out, t->data, n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return err_set(why, ERR_INVALID, "the tensor %s is not finite at %zu", name, i);
    return ERR_OK;
}

static enum err bind_one(struct tensor *t, enum slot s, int il, float *tmp,
                         const struct backend_ops *ops, struct backend *b, struct errmsg *why)
{
    if (!t->data)
        return ERR_OK;
    if (slot_is_vector(s)) {
        char name[TENSOR_NAME_MAX];
        weights_tensor_name(name, s, il);
        const enum err e = tensor_floats(tmp, t, name, why);
        if (e)
            return e;
    }
    return ops->bind(b, t, slot_is_vector(s), why);
}

enum err weights_bind(struct weights *w, const struct hparams *h, const struct backend_ops *ops,
                      struct backend *b, struct errmsg *why)
{
    struct arena tmp;
    arena_init(&tmp, 0);
    size_t widest = 1;
    for (enum slot s = 0; s < SLOTS_; s++)
        for (uint32_t il = 0; il < (slot_of_layer(s) ? h->n_layer : 1); il++) {
            const struct tensor *t =
                slot_of_layer(s) ? &w->layers[il].t[s - MODEL_SLOTS_] : &w->model[s];
            const size_t n = t->data ? (size_t)t->n_in * (size_t)t->n_out : 0;
            if (slot_is_vector(s) && n > widest)
                widest = n;
        }
    float *floats = arena_array(&tmp, widest, sizeof *floats);
    enum err e = floats ? ERR_OK : err_set(why, ERR_NOMEM, "no memory for %zu values", widest);
    for (enum slot s = 0; !e && s < SLOTS_; s++)
        for (uint32_t il = 0; !e && il < (slot_of_layer(s) ? h->n_layer : 1); il++)
            e = bind_one(slot_of_layer(s) ? &w->layers[il].t[s - MODEL_SLOTS_] : &w->model[s], s,
                         (int)il, floats, ops, b, why);
    arena_fini(&tmp);
    for (uint32_t il = 0; !e && il < h->n_layer; il++) {
        struct layer *l = &w->layers[il];
        if (l->k_up.data)
            e = ops->bind(b, &l->k_up, false, why);
        if (!e && l->v_up.data)
            e = ops->bind(b, &l->v_up, false, why);
    }
    return e;
}
