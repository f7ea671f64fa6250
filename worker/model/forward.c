/* forward.c - the pass itself. Read block() first; everything else is one of its lines.
 *
 * Vaswani et al. 2017, in the shape that Llama (Touvron et al. 2023) gave it:
 *     n = norm(x);  q, k, v = W n;  rotate q, k;  y = W_o softmax(q K) V;  x += y
 *     n = norm(x);  y = W_down (act(W_gate n) * W_up n);                   x += y
 * A residual addition and the norm that follows it are one operation of the backend. */
#include "worker/model/forward.h"

#include <assert.h>
#include <string.h>

struct pass {
    struct forward *f;
    const struct layer *l;
    int il;
    int rows; /* all tokens; in the last layer, after attention, only those whose result is wanted
               */
    const float *in; /* input of the next product: f->n, or f->x where norms come after */
};

static struct norm norm_of(const struct forward *f, const float *w, const float *b)
{
    return (struct norm){f->a->norm, f->h->eps, w, b};
}

static struct norm layer_norm_of(const struct pass *p, enum slot w, enum slot b)
{
    return norm_of(p->f, layer_vector(p->l, w), layer_vector(p->l, b));
}

static void product(const struct pass *p, enum slot s, float *y, int ldy, const float *x, int ldx)
{
    const struct product one = {layer_tensor(p->l, s), y, ldy};
    p->f->ops->matmul(p->f->b, &one, 1, x, ldx, p->rows);
}

/* Where layer il keeps its K and V. An encoder's are needed by that layer alone. */
static enum kv_kind kv_kind_of(const struct forward *f, int il)
{
    return f->rings && layer_window(f->h, f->a, (uint32_t)il) ? KV_WINDOW : KV_WHOLE;
}

static int kv_layer_of(const struct forward *f, int il)
{
    return f->a->encoder ? 0 : f->rings ? (int)layer_number(f->h, f->a, (uint32_t)il) : il;
}

/* --- attention ------------------------------------------------------------------------------- */

/* Grouped-query attention (Ainslie et al. 2023), multi-head attention being the case of one query
 * per group. y = W_o ... */
static void attention_gqa(const struct pass *p)
{
    struct forward *f = p->f;
    const struct hparams *h = f->h;
    const int n_embd = (int)h->n_embd, nq = (int)(h->n_head * h->head_k),
              nk = (int)(h->n_head_kv * h->head_k), nv = (int)(h->n_head_kv * h->head_v),
              ld = nq + nk + nv, no = (int)(h->n_head * h->head_v);
    float *q = f->qkv, *k = q + nq, *v = k + nk;
    const float *bq = layer_vector(p->l, ATTN_Q_BIAS), *bk = layer_vector(p->l, ATTN_K_BIAS),
                *bv = layer_vector(p->l, ATTN_V_BIAS), *fused = layer_vector(p->l, ATTN_QKV_BIAS);
    if (layer_tensor(p->l, ATTN_QKV)) {
        product(p, ATTN_QKV, q, ld, p->in, n_embd);
    } else {
        const struct product qkv[3] = {{layer_tensor(p->l, ATTN_Q), q, ld},
                                       {layer_tensor(p->l, ATTN_K), k, ld},
                                       {layer_tensor(p->l, ATTN_V), v, ld}};
        f->ops->matmul(f->b, qkv, 3, p->in, n_embd, p->rows);
    }
    const uint32_t window = layer_window(h, f->a, (uint32_t)p->il);
    const bool local = window && h->local_rope_base > 0,
               still = f->a->rope == ROPE_NONE || h->no_rope || (f->a->rope_local_only && !window);
    /* (a norm without weights doesn't mind that the head turns after it) */
    const float *unit = h->unit_norms && !still ? f->ones : NULL;
    const float *norm_q = layer_vector(p->l, ATTN_Q_NORM),
                *norm_k = layer_vector(p->l, ATTN_K_NORM);
    f->ops->qkv(f->b, &(struct qkv){
                          .kind = kv_kind_of(f, p->il),
                          .layer = kv_layer_of(f, p->il),
                          .n_head = (int)h->n_head,
                          .n_head_kv = (int)h->n_head_kv,
                          .head_k = (int)h->head_k,
                          .head_v = (int)h->head_v,
                          .q = q,
                          .k = k,
                          .v = v,
                          .ldq = ld,
                          .ldk = ld,
                          .ldv = ld,
                          .bias_q = fused ? fused : bq,
                          .bias_k = fused ? fused + nq : bk,
                          .bias_v = fused ? fused + nq + nk : bv,
                          .norm_q = norm_of(f, unit ? unit : norm_q, NULL),
                          .norm_k = norm_of(f, unit ? unit : norm_k, NULL),
                          .norm_n = (int)h->head_k,
                          .rope = still   ? -1
                                  : local ? 1
                                          : 0,
                          .warm_floor = f->a->warm_floor,
                          .warm_scale = window ? 0 : f->a->warm_scale,
                      });
    f->ops->attention(f->b, &(struct attention){
                                .kind = kv_kind_of(f, p->il),
                                .layer = kv_layer_of(f, p->il),
                                .n_head = (int)h->n_head,
                                .q = q,
                                .out = f->att,
                                .ldq = ld,
                                .ldo = no,
                                .scale = h->attn_scale,
                                .softcap = h->attn_softcap,
                                .window = (int)window,
                                .chunked = f->a->chunked,
                                .causal = h->causal,
                                .sinks = layer_vector(p->l, ATTN_SINKS),
                            });
    product(p, ATTN_OUT, f->y, n_embd, f->att, no);
}

/* Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1) in its absorbed form:
 * what is cached per position is the latent c and one rotated key k', the same for all heads. With
 * K = U c and V = W c per head,
 *     q.K + q'.k' = (U^T q).c + q'.k'        sum_j p_j V_j = W sum_j p_j c_j
 * so every head is a query of kv_lora + n_rot values against the cache itself, and K and V are
 * never formed. One form for prefill and decode: their numbers must agree. */
static void attention_mla(const struct pass *p)
{
    struct forward *f = p->f;
    const struct hparams *h = f->h;
    const int n_embd = (int)h->n_embd, n_head = (int)h->n_head, lora = (int)h->kv_lora,
              n_kv = lora + (int)h->n_rot, head_k = (int)h->head_k, head_v = (int)h->head_v,
              q_lora = (int)h->q_lora;
    if (layer_tensor(p->l, MLA_Q_A)) { /* q through a latent of its own */
        const struct product down[2] = {{layer_tensor(p->l, MLA_Q_A), f->q_a, q_lora},
                                        {layer_tensor(p->l, MLA_KV_A), f->kv_a, n_kv}};
        const struct norm norm = norm_of(f, layer_vector(p->l, MLA_Q_A_NORM), NULL);
        f->ops->matmul(f->b, down, 2, p->in, n_embd, p->rows);
        f->ops->norm(f->b, f->q_a, q_lora, f->q_a, q_lora, &norm, q_lora, p->rows);
        product(p, MLA_Q_B, f->qkv, n_head * head_k, f->q_a, q_lora);
    } else {
        const struct product both[2] = {{layer_tensor(p->l, ATTN_Q), f->qkv, n_head * head_k},
                                        {layer_tensor(p->l, MLA_KV_A), f->kv_a, n_kv}};
        f->ops->matmul(f->b, both, 2, p->in, n_embd, p->rows);
    }
    f->ops->heads(f->b, &(struct heads){
                            .w = &p->l->k_up,
                            .x = f->qkv,
                            .y = f->q_lat,
                            .ldx = head_k,
                            .ldy = n_kv,
                            .n_copy = (int)h->n_rot,
                            .rows = p->rows,
                        });
    f->ops->qkv(f->b, &(struct qkv){
                          .layer = p->il,
                          .n_head = n_head,
                          .n_head_kv = 1,
                          .head_k = n_kv,
                          .head_v = lora,
                          .q = f->q_lat,
                          .k = f->kv_a,
                          .ldq = n_head * n_kv,
                          .ldk = n_kv,
                          .norm_k = norm_of(f, layer_vector(p->l, MLA_KV_A_NORM), NULL),
                          .norm_n = lora,
                          .rope = 0,
                          .rope_from = lora,
                      });
    f->ops->attention(f->b, &(struct attention){
                                .layer = p->il,
                                .n_head = n_head,
                                .q = f->q_lat,
                                .out = f->o_lat,
                                .ldq = n_head * n_kv,
                                .ldo = n_head * lora,
                                .scale = h->attn_scale,
                                .causal = true,
                            });
    f->ops->heads(f->b, &(struct heads){
                            .w = &p->l->v_up,
                            .x = f->o_lat,
                            .y = f->att,
                            .ldx = lora,
                            .ldy = head_v,
                            .rows = p->rows,
                        });
    product(p, ATTN_OUT, f->y, n_embd, f->att, n_head * head_v);
}

/* --- feed-forward ---------------------------------------------------------------------------- */

/* y = W_down f, f = act(W_gate n) * (W_up n) (Shazeer 2020, "GLU variants"), or act(W_up n) without
 * a gate. */
static void ffn_dense(const struct pass *p, enum slot gate, enum slot up, enum slot down, int n_ff,
                      float *y)
{
    struct forward *f = p->f;
    const int n_embd = (int)f->h->n_embd, ld = f->a->ffn == FFN_PLAIN ? n_ff : 2 * n_ff;
    float *u = f->a->ffn == FFN_PLAIN ? f->up : f->up + n_ff;
    if (f->a->ffn == FFN_GATED) {
        const struct product both[2] = {{layer_tensor(p->l, gate), f->up, ld},
                                        {layer_tensor(p->l, up), u, ld}};
        f->ops->matmul(f->b, both, 2, p->in, n_embd, p->rows);
    } else {
        product(p, up, f->up, ld, p->in, n_embd);
    }
    const float *bias = up == FFN_UP ? layer_vector(p->l, FFN_UP_BIAS) : NULL;
    const bool fused = f->a->ffn == FFN_FUSED && bias;
    f->ops->activation(f->b, &(struct activation){
                                 .kind = f->a->act,
                                 .gate = f->a->ffn == FFN_PLAIN ? NULL : f->up,
                                 .up = u,
                                 .f = f->up,
                                 .ld_gate = ld,
                                 .ld_up = ld,
                                 .ld_f = ld,
                                 .bias_gate = fused              ? bias
                                              : gate == FFN_GATE ? layer_vector(p->l, FFN_GATE_BIAS)
                                                                 : NULL,
                                 .bias_up = fused ? bias + n_ff : bias,
                                 .n = n_ff,
                                 .rows = p->rows,
                             });
    product(p, down, y, n_embd, f->up, ld);
}

/* Mixture of experts (Shazeer et al. 2017; Fedus et al. 2021), with shared experts where the layer
 * has them (Dai et al. 2024, "DeepSeekMoE"). */
static void ffn_experts(const struct pass *p)
{
    struct forward *f = p->f;
    const struct hparams *h = f->h;
    const int n_embd = (int)h->n_embd, n_used = (int)h->n_expert_used, n_ff = (int)h->n_ff_exp;
    const float *router_bias = layer_vector(p->l, MOE_ROUTER_B);
    product(p, MOE_ROUTER, f->router, (int)h->n_expert, p->in, n_embd);
    if (router_bias)
        f->ops->logits(f->b, f->router, router_bias, 1, 0, (int)h->n_expert, p->rows);
    f->ops->route(f->b, &(struct route){
                            .logits = f->router,
                            .bias = layer_vector(p->l, MOE_BIAS),
                            .n_expert = (int)h->n_expert,
                            .n_used = n_used,
                            .n_group = (int)h->n_group,
                            .n_group_used = (int)h->n_group_used,
                            .gating = (enum gating)h->gating,
                            .renorm = h->renorm,
                            .scale = h->expert_scale,
                            .ids = f->ids,
                            .weights = f->ids_weights,
                            .rows = p->rows,
                        });
    f->ops->matmul_experts(f->b, layer_tensor(p->l, MOE_GATE), f->ids, n_used, p->in, n_embd, false,
                           f->exp_gate, n_ff, p->rows);
    f->ops->matmul_experts(f->b, layer_tensor(p->l, MOE_UP), f->ids, n_used, p->in, n_embd, false,
                           f->exp_up, n_ff, p->rows);
    f->ops->activation(f->b, &(struct activation){
                                 .kind = f->a->act,
                                 .gate = f->exp_gate,
                                 .up = f->exp_up,
                                 .f = f->exp_gate,
                                 .ld_gate = n_ff,
                                 .ld_up = n_ff,
                                 .ld_f = n_ff,
                                 .bias_gate = layer_vector(p->l, MOE_GATE_B),
                                 .bias_up = layer_vector(p->l, MOE_UP_B),
                                 .ids = f->ids,
                                 /* W (w x) = w (W x) */
                                 .row_scale = f->a->weigh_input ? f->ids_weights : NULL,
                                 .n = n_ff,
                                 .rows = p->rows * n_used,
                             });
    f->ops->matmul_experts(f->b, layer_tensor(p->l, MOE_DOWN), f->ids, n_used, f->exp_gate, n_ff,
                           true, f->exp_out, n_embd, p->rows);
    const bool shared = layer_tensor(p->l, SHARED_DOWN), gated = layer_tensor(p->l, SHARED_ROUTER);
    if (shared)
        ffn_dense(p, SHARED_GATE, SHARED_UP, SHARED_DOWN, (int)h->n_ff_shared, f->shared);
    if (gated)
        product(p, SHARED_ROUTER, f->shared_gate, 1, p->in, n_embd);
    f->ops->combine(f->b, &(struct combine){
                              .y = f->y,
                              .d = f->exp_out,
                              .weights = f->a->weigh_input ? NULL : f->ids_weights,
                              .bias = layer_vector(p->l, MOE_DOWN_B),
                              .ids = f->ids,
                              .shared = shared ? f->shared : NULL,
                              .gate = gated ? f->shared_gate : NULL,
                              .n_used = n_used,
                              .n = n_embd,
                              .rows = p->rows,
                          });
}

/* --- one block ------------------------------------------------------------------------------- */

/* x += y (+ bias, its own norm, a scale), then the norm that the next product reads. */
static void add_and_norm(struct pass *p, enum slot bias, enum slot post, struct norm next)
{
    struct forward *f = p->f;
    const bool in_place = f->a->block == BLOCK_POST_NORM;
    const float *w = f->a->norm_after_is_before ? NULL : layer_vector(p->l, post);
    f->ops->residual(f->b, &(struct residual){
                               .x = f->x,
                               .y = f->y,
                               .bias = layer_vector(p->l, bias),
                               .post = norm_of(f, w, NULL),
                               .scale = f->h->residual_scale,
                               .next = next,
                               .h = in_place ? f->x
                                    : next.w ? f->n
                                             : NULL,
                               .n = (int)f->h->n_embd,
                               .rows = p->rows,
                           });
}

/* From here on only the wanted rows matter: x, y and the norm shrink to them. */
static void keep_rows(struct pass *p, const int32_t *rows, int n_rows)
{
    struct forward *f = p->f;
    const int n = (int)f->h->n_embd;
    float **live[] = {&f->x, &f->y, &f->n};
    if (n_rows == p->rows) /* all of them, in order */
        return;
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        f->ops->gather(f->b, f->picked, *live[i], rows, n_rows, n);
        float *t = *live[i];
        *live[i] = f->picked;
        f->picked = t;
    }
    p->in = f->a->block == BLOCK_POST_NORM ? f->x : f->n;
    p->rows = n_rows;
}

/* The norm of what this block leaves, which the next one (or the output) reads. */
static struct norm norm_after(const struct forward *f, int il)
{
    if (il + 1 < (int)f->h->n_layer) {
        const struct layer *next = &f->w->layers[il + 1];
        return norm_of(f, layer_vector(next, ATTN_NORM), layer_vector(next, ATTN_NORM_B));
    }
    return norm_of(f, model_vector(f->w, OUT_NORM), model_vector(f->w, OUT_NORM_B));
}

static void block(struct pass *p, const int32_t *rows, int n_rows)
{
    struct forward *f = p->f;
    const bool last = p->il + 1 == (int)f->h->n_layer;

    if (f->a->attn == ATTN_MLA)
        attention_mla(p);
    else
        attention_gqa(p);
    if (last)
        keep_rows(p, rows, n_rows);
    if (p->rows == 0)
        return;
    switch (f->a->block) {
    case BLOCK_SERIAL:
        add_and_norm(
            p, ATTN_OUT_BIAS, ATTN_POST,
            layer_norm_of(p, f->a->norm_after_is_before ? ATTN_POST : FFN_NORM, FFN_NORM_B));
        break;
    case BLOCK_PARALLEL:
        add_and_norm(p, ATTN_OUT_BIAS, ATTN_POST, (struct norm){0});
        break;
    case BLOCK_POST_NORM:
        add_and_norm(p, ATTN_OUT_BIAS, ATTN_POST, layer_norm_of(p, ATTN_RES_NORM, ATTN_RES_NORM_B));
        break;
    }
    if (layer_has_experts(f->h, (uint32_t)p->il))
        ffn_experts(p);
    else
        ffn_dense(p, FFN_GATE, FFN_UP, FFN_DOWN, (int)f->h->n_ff, f->y);
    add_and_norm(p, FFN_DOWN_BIAS, FFN_POST,
                 f->a->block == BLOCK_POST_NORM ? layer_norm_of(p, FFN_RES_NORM, FFN_RES_NORM_B)
                                                : norm_after(f, p->il));
}

enum err forward_layers(struct forward *f, const struct batch *batch, const int32_t *rows,
                        int n_rows, const volatile int *stop)
{
    const int n_embd = (int)f->h->n_embd;
    struct pass p = {.f = f, .rows = batch->n_tok};
    assert(batch->n_tok <= f->max_tok && n_rows <= batch->n_tok);
    f->ops->begin(f->b, batch);
    f->ops->embed(f->b, f->x, model_tensor(f->w, TOKEN_EMBD), f->h->embd_scale,
                  model_tensor(f->w, POS_EMBD), model_tensor(f->w, TYPE_EMBD), n_embd);
    const struct norm first =
        f->a->block == BLOCK_POST_NORM
            ? norm_of(f, model_vector(f->w, EMBD_NORM), model_vector(f->w, EMBD_NORM_B))
            : norm_after(f, -1);
    f->ops->norm(f->b, f->a->block == BLOCK_POST_NORM ? f->x : f->n, n_embd, f->x, n_embd, &first,
                 n_embd, p.rows);
    p.in = f->a->block == BLOCK_POST_NORM ? f->x : f->n;
    enum err e = ERR_OK;
    for (p.il = 0; p.il < (int)f->h->n_layer && !e; p.il++) {
        p.l = &f->w->layers[p.il];
        block(&p, rows, n_rows);
        if (f->on_layer)
            f->on_layer(f->user);
        if (stop && *stop)
            e = ERR_CANCELLED;
    }
    f->ops->end(f->b);
    return e;
}

void forward_logits(struct forward *f, int first, int n)
{
    const struct hparams *h = f->h;
    const struct tensor *tied = model_tensor(f->w, TOKEN_EMBD), *own = model_tensor(f->w, OUTPUT);
    const struct product p = {own ? own : tied, f->logits, (int)h->n_vocab};
    f->ops->matmul(f->b, &p, 1, f->n + (size_t)first * h->n_embd, (int)h->n_embd, n);
    f->ops->logits(f->b, f->logits, model_vector(f->w, OUTPUT_B), h->logit_scale, h->logit_softcap,
                   (int)h->n_vocab, n);
}

void forward_read_logits(struct forward *f, int row, float *out)
{
    f->ops->download(f->b, out, f->logits + (size_t)row * f->h->n_vocab, f->h->n_vocab);
}

void forward_states(struct forward *f, int n_rows, float *out)
{
    const float *states = f->a->block == BLOCK_POST_NORM ? f->x : f->n;
    f->ops->download(f->b, out, states, (size_t)n_rows * f->h->n_embd);
}

void forward_rank(struct forward *f, const float *state, float *out)
{
    const int n = (int)f->h->n_embd, labels = (int)f->h->n_labels;
    const struct product hidden = {model_tensor(f->w, CLS), f->y, n};
    const struct product score = {model_tensor(f->w, CLS_OUT), f->up, labels};
    f->ops->upload(f->b, f->n, state, (size_t)n);
    if (hidden.w) {
        f->ops->matmul(f->b, &hidden, 1, f->n, n, 1);
        f->ops->logits(f->b, f->y, model_vector(f->w, CLS_B), 1, 1, n, 1); /* softcap 1 is tanh */
    }
    f->ops->matmul(f->b, &score, 1, hidden.w ? f->y : f->n, n, 1);
    f->ops->logits(f->b, f->up, model_vector(f->w, CLS_OUT_B), 1, 0, labels, 1);
    f->ops->download(f->b, out, f->up, (size_t)labels);
}

struct buffer {
    float **to;
    uint64_t floats;
};
enum { BUFFERS = 21 };

/* Every buffer of a pass and how large it is: `f` needs a, h and max_tok. */
static void list_buffers(struct forward *f, float **ids, struct buffer out[BUFFERS])
{
    const struct hparams *h = f->h;
    const uint64_t t = (uint64_t)f->max_tok, n = h->n_embd, u = h->n_expert ? h->n_expert_used : 0;
    const uint64_t ff = h->n_ff > h->n_ff_shared ? h->n_ff : h->n_ff_shared;
    const bool mla = f->a->attn == ATTN_MLA;
    const uint64_t n_kv = (uint64_t)h->kv_lora + h->n_rot;
    const struct buffer buffers[BUFFERS] = {
        {&f->x, t * n},
        {&f->n, t * n},
        {&f->y, t * n},
        {&f->picked, t * n},
        {&f->qkv, t * hparams_dim(h, f->a, D_QKV)},
        {&f->att, t * hparams_dim(h, f->a, D_O)},
        {&f->q_a, t * h->q_lora},
        {&f->kv_a, mla ? t * n_kv : 0},
        {&f->q_lat, mla ? t * h->n_head * n_kv : 0},
        {&f->o_lat, mla ? t * h->n_head * h->kv_lora : 0},
        {&f->up, t * 2 * ff + h->n_labels},
        {&f->logits, f->a->encoder ? 0 : (uint64_t)LOGITS_ROWS * h->n_vocab},
        {&f->router, u ? t * h->n_expert : 0},
        {&f->ids_weights, t * u},
        {&f->exp_gate, t * u * h->n_ff_exp},
        {&f->exp_up, t * u * h->n_ff_exp},
        {&f->exp_out, t * u * n},
        {&f->shared, h->n_ff_shared ? t * n : 0},
        {&f->shared_gate, h->n_ff_shared ? t : 0},
        {&f->ones, h->unit_norms ? h->head_k : 0},
        {ids, t * u},
    };
    memcpy(out, buffers, sizeof buffers);
}

uint64_t forward_bytes(const struct arch *a, const struct hparams *h, uint32_t max_tok)
{
    struct forward f = {.a = a, .h = h, .max_tok = (int)max_tok};
    struct buffer buffers[BUFFERS];
    float *ids;
    uint64_t floats = 0;
    list_buffers(&f, &ids, buffers);
    for (int i = 0; i < BUFFERS; i++)
        floats += buffers[i].floats;
    return floats * sizeof(float);
}

enum err forward_open(struct forward *f, struct errmsg *why)
{
    const struct hparams *h = f->h;
    struct buffer buffers[BUFFERS];
    float *ids = NULL;
    list_buffers(f, &ids, buffers);
    for (int i = 0; i < BUFFERS; i++) {
        if (!buffers[i].floats)
            continue;
        *buffers[i].to = f->ops->alloc(f->b, buffers[i].floats);
        if (!*buffers[i].to)
            return err_set(why, ERR_NOMEM,
                           "no memory for the activations of %d tokens; lower the tokens per step",
                           f->max_tok);
    }
    f->ids = (int32_t *)(void *)ids;
    for (uint32_t i = 0; f->ones && i < h->head_k; i++) {
        const float one = 1;
        f->ops->upload(f->b, f->ones + i, &one, 1);
    }
    return ERR_OK;
}
