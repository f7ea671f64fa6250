/* ops_body.h - the loops of ops.h, written once over v16.h; ops_c.c, ops_avx2.c and ops_avx512.c
 * compile it. Before the include: OPS_TABLE, the name of the table to define. */
#include "worker/cpu/ops.h"
#include "worker/cpu/v16.h"

/* Runs BODY(load, store) over n floats: whole vectors, then the rest. */
#define EACH_V16(i, n, whole, part)                                                                \
    do {                                                                                           \
        int i = 0;                                                                                 \
        for (; i + 16 <= (n); i += 16) {                                                           \
            whole;                                                                                 \
        }                                                                                          \
        if (i < (n)) {                                                                             \
            const int rest = (n)-i;                                                                \
            part;                                                                                  \
        }                                                                                          \
    } while (0)

static float dot(const float *a, const float *b, int n)
{
    v16 s = v16_set1(0);
    EACH_V16(i, n, s = v16_fma(v16_load(a + i), v16_load(b + i), s),
             s = v16_fma(v16_load_n(a + i, rest), v16_load_n(b + i, rest), s));
    return v16_sum(s);
}

static void add(float *y, const float *x, int n)
{
    EACH_V16(i, n, v16_store(y + i, v16_add(v16_load(y + i), v16_load(x + i))),
             v16_store_n(y + i, v16_add(v16_load_n(y + i, rest), v16_load_n(x + i, rest)), rest));
}

static void add_scaled(float *y, const float *x, float f, int n)
{
    const v16 c = v16_set1(f);
    EACH_V16(
        i, n, v16_store(y + i, v16_fma(c, v16_load(x + i), v16_load(y + i))),
        v16_store_n(y + i, v16_fma(c, v16_load_n(x + i, rest), v16_load_n(y + i, rest)), rest));
}

static void scale(float *y, float f, int n)
{
    const v16 c = v16_set1(f);
    EACH_V16(i, n, v16_store(y + i, v16_mul(c, v16_load(y + i))),
             v16_store_n(y + i, v16_mul(c, v16_load_n(y + i, rest)), rest));
}

static void norm(float *y, const float *x, const struct norm *w, int n)
{
    v16 mean = v16_set1(0);
    if (w->kind == NORM_LAYER) {
        v16 s = v16_set1(0);
        EACH_V16(i, n, s = v16_add(s, v16_load(x + i)), s = v16_add(s, v16_load_n(x + i, rest)));
        mean = v16_set1(v16_sum(s) / (float)n);
    }
    v16 sq = v16_set1(0);
    EACH_V16(
        i, n,
        {
            v16 d = v16_sub(v16_load(x + i), mean);
            sq = v16_fma(d, d, sq);
        },
        {
            v16 d = v16_sub(v16_load_n(x + i, rest), mean);
            d = v16_keep(d, (1u << rest) - 1, 0);
            sq = v16_fma(d, d, sq);
        });
    const v16 r = v16_set1(1 / sqrtf(v16_sum(sq) / (float)n + w->eps));
    const float *g = w->w, *b = w->b;
    EACH_V16(
        i, n,
        {
            v16 z = v16_mul(v16_mul(v16_sub(v16_load(x + i), mean), r), v16_load(g + i));
            v16_store(y + i, b ? v16_add(z, v16_load(b + i)) : z);
        },
        {
            v16 z = v16_mul(v16_mul(v16_sub(v16_load_n(x + i, rest), mean), r),
                            v16_load_n(g + i, rest));
            v16_store_n(y + i, b ? v16_add(z, v16_load_n(b + i, rest)) : z, rest);
        });
}

static v16 cap16(v16 x, float cap)
{
    return v16_mul(v16_set1(cap), v16_tanh(v16_div(x, v16_set1(cap))));
}

static void softcap(float *y, float cap, int n)
{
    EACH_V16(i, n, v16_store(y + i, cap16(v16_load(y + i), cap)),
             v16_store_n(y + i, cap16(v16_load_n(y + i, rest), cap), rest));
}

static v16 act16(v16 x, enum act_kind kind)
{
    if (kind == ACT_SILU) /* x * sigmoid(x) */
        return v16_div(x, v16_add(v16_set1(1), v16_exp(v16_sub(v16_set1(0), x))));
    if (kind == ACT_GELU) { /* Hendrycks and Gimpel 2016: x/2 (1 + tanh(sqrt(2/pi)(x + 0.044715
                               x^3))) = x sigmoid(2u) */
        v16 x2 = v16_mul(x, x);
        v16 u = v16_mul(x, v16_fma(x2, v16_set1(0.044715F * 1.5957691216057308F),
                                   v16_set1(1.5957691216057308F)));
        return v16_div(x, v16_add(v16_set1(1), v16_exp(v16_sub(v16_set1(0), u))));
    }
    v16 p = v16_max(v16_set1(0), x);
    return v16_mul(p, p);
}

/* act(g) * u, or what the kind makes of both. */
static v16 gated16(v16 g, v16 u, enum act_kind kind)
{
    if (kind != ACT_SWIGLU_OAI)
        return v16_mul(act16(g, kind), u);
    const v16 one = v16_set1(1), limit = v16_set1(7);
    g = v16_min(limit, g);
    u = v16_max(v16_set1(-7), v16_min(limit, u));
    const v16 e = v16_exp(v16_mul(v16_set1(-1.702F), g));
    return v16_mul(v16_div(g, v16_add(one, e)), v16_add(u, one));
}

static void activate(float *f, const float *gate, const float *up, const float *bg, const float *bu,
                     enum act_kind kind, int n)
{
    const v16 zero = v16_set1(0);
    EACH_V16(
        i, n,
        {
            v16 u = v16_add(v16_load(up + i), bu ? v16_load(bu + i) : zero);
            if (gate)
                u = gated16(v16_add(v16_load(gate + i), bg ? v16_load(bg + i) : zero), u, kind);
            else
                u = act16(u, kind);
            v16_store(f + i, u);
        },
        {
            v16 u = v16_add(v16_load_n(up + i, rest), bu ? v16_load_n(bu + i, rest) : zero);
            if (gate)
                u = gated16(
                    v16_add(v16_load_n(gate + i, rest), bg ? v16_load_n(bg + i, rest) : zero), u,
                    kind);
            else
                u = act16(u, kind);
            v16_store_n(f + i, u, rest);
        });
}

static void exps(float *y, const float *x, int n)
{
    EACH_V16(i, n, v16_store(y + i, v16_exp(v16_load(x + i))),
             v16_store_n(y + i, v16_exp(v16_load_n(x + i, rest)), rest));
}

static void rotate(float *restrict x, const float *restrict cs, const float *restrict sn, int n_rot,
                   enum rope_kind kind)
{
    const int half = n_rot / 2;
    if (kind == ROPE_NEOX) {
        for (int i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * cs[i] - b * sn[i];
            x[i + half] = a * sn[i] + b * cs[i];
        }
    } else {
        for (int i = 0; i < half; i++) {
            float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cs[i] - b * sn[i];
            x[2 * i + 1] = a * sn[i] + b * cs[i];
        }
    }
}

static void convert_f16(uint16_t *y, const float *x, int n)
{
    int i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store_f16(y + i, v16_load(x + i));
    for (; i < n; i++)
        y[i] = f32_to_f16(x[i]);
}

/* --- attention ------------------------------------------------------------------------------- */

/* n values of a KV tile as floats; scales are applied by the caller. n is a multiple of 16. */
static void widen(float *restrict y, const void *restrict src, enum qtype type, int n)
{
    if (type == QTYPE_F16)
        for (int i = 0; i < n; i += 16)
            v16_store(y + i, v16_load_f16((const uint16_t *)src + i));
    else if (type == QTYPE_BF16)
        for (int i = 0; i < n; i += 16)
            v16_store(y + i, v16_load_bf16((const uint16_t *)src + i));
    else
        for (int i = 0; i < n; i += 16)
            v16_store(y + i, v16_load_i8((const int8_t *)src + i));
}

/* K of a block as [head_k][KV_TOKENS] floats. */
static const float *load_k(const struct kv_layout *l, const char *head, float *tile)
{
    if (l->type == QTYPE_F32)
        return (const float *)(const void *)head;
    widen(tile, head, l->type, l->head_k * KV_TOKENS);
    if (l->type == QTYPE_Q8_0) {
        const uint16_t *d = (const uint16_t *)(const void *)(head + l->k_scales);
        for (int i = 0; i < l->head_k; i++)
            for (int j = 0; j < KV_TOKENS; j += 16) {
                float *p = tile + i * KV_TOKENS + j;
                v16_store(p, v16_mul(v16_load(p), v16_load_f16(d + i / KV_GROUP * KV_TOKENS + j)));
            }
    }
    return tile;
}

typedef float row8 __attribute__((vector_size(32), aligned(4), may_alias));
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

/* 8 x 8 floats, turned: rows `from` apart become rows `to` apart. Three rounds exchange the halves
 * of ever larger squares. */
static inline void turn_8x8(float *restrict y, int to, const float *restrict x, int from)
{
    row8 r[8], t[8];
    for (int i = 0; i < 8; i++)
        r[i] = *(const row8 *)(const void *)(x + i * from);
    for (int i = 0; i < 8; i += 2) {
        t[i] = PICK(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        t[i + 1] = PICK(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int h = 0; h < 8; h += 4)
        for (int i = h; i < h + 2; i++) {
            r[i] = PICK(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            r[i + 2] = PICK(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        *(row8 *)(void *)(y + i * to) = PICK(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(row8 *)(void *)(y + (i + 4) * to) = PICK(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#undef PICK

/* V out of a tile of K, for the first n positions at least: [head_v][KV_TOKENS] turned to
 * [KV_TOKENS][pad_v]. */
static const float *turn_v(const struct kv_layout *l, const float *restrict k, float *restrict tile,
                           int n)
{
    int d = 0;
    for (; d + 8 <= l->head_v; d += 8)
        for (int j = 0; j < n; j += 8)
            turn_8x8(tile + j * l->pad_v + d, l->pad_v, k + d * KV_TOKENS + j, KV_TOKENS);
    for (; d < l->pad_v; d++)
        for (int j = 0; j < n; j++)
            tile[j * l->pad_v + d] = d < l->head_v ? k[d * KV_TOKENS + j] : 0;
    return tile;
}

/* The first n rows of V as [KV_TOKENS][pad_v] floats. k: the block's K. */
static const float *load_v(const struct kv_layout *l, const char *head, const float *k, float *tile,
                           int n)
{
    if (l->v_in_k)
        return turn_v(l, k, tile, n);
    if (l->type == QTYPE_F32)
        return (const float *)(const void *)(head + l->v_off);
    widen(tile, head + l->v_off, l->type, n * l->pad_v);
    if (l->type == QTYPE_Q8_0) {
        const uint16_t *d = (const uint16_t *)(const void *)(head + l->v_scales);
        for (int j = 0; j < n; j++)
            for (int i = 0; i < l->pad_v; i += 16) {
                float *p = tile + j * l->pad_v + i;
                v16_store(p, v16_mul(v16_load(p),
                                     v16_set1(f16_to_f32(d[j * l->groups_v + i / KV_GROUP]))));
            }
    }
    return tile;
}

/* s[r][j] = sum over d of q[r][d] * k[d][j], one lane per position j, d ascending. R is a constant
 * after inlining. */
static inline __attribute__((always_inline)) void qk(float *s, const float *const *q,
                                                     const float *k, int head_k, const int R)
{
    v16 a[V16_ROWS], b[V16_ROWS];
    for (int r = 0; r < R; r++)
        a[r] = b[r] = v16_set1(0);
    for (int d = 0; d < head_k; d++) {
        const v16 k0 = v16_load(k + d * KV_TOKENS), k1 = v16_load(k + d * KV_TOKENS + 16);
        for (int r = 0; r < R; r++) {
            const v16 x = v16_set1(q[r][d]);
            a[r] = v16_fma(x, k0, a[r]);
            b[r] = v16_fma(x, k1, b[r]);
        }
    }
    for (int r = 0; r < R; r++) {
        v16_store(s + r * KV_TOKENS, a[r]);
        v16_store(s + r * KV_TOKENS + 16, b[r]);
    }
}

/* acc[r] += sum over positions lo..hi-1, ascending, of p[r][j] * v[j]. */
static inline __attribute__((always_inline)) void pv(float *acc, const float *p, const float *v,
                                                     int pad_v, int lo, int hi, const int R)
{
    int c = 0;
    for (; c + 16 * V16_COLS <= pad_v; c += 16 * V16_COLS) {
        v16 a[V16_ROWS][V16_COLS];
        for (int r = 0; r < R; r++)
            for (int i = 0; i < V16_COLS; i++)
                a[r][i] = v16_load(acc + r * pad_v + c + 16 * i);
        for (int j = lo; j < hi; j++)
            for (int i = 0; i < V16_COLS; i++) {
                const v16 x = v16_load(v + j * pad_v + c + 16 * i);
                for (int r = 0; r < R; r++)
                    a[r][i] = v16_fma(v16_set1(p[r * KV_TOKENS + j]), x, a[r][i]);
            }
        for (int r = 0; r < R; r++)
            for (int i = 0; i < V16_COLS; i++)
                v16_store(acc + r * pad_v + c + 16 * i, a[r][i]);
    }
    for (; c < pad_v; c += 16) {
        v16 a[V16_ROWS];
        for (int r = 0; r < R; r++)
            a[r] = v16_load(acc + r * pad_v + c);
        for (int j = lo; j < hi; j++) {
            const v16 x = v16_load(v + j * pad_v + c);
            for (int r = 0; r < R; r++)
                a[r] = v16_fma(v16_set1(p[r * KV_TOKENS + j]), x, a[r]);
        }
        for (int r = 0; r < R; r++)
            v16_store(acc + r * pad_v + c, a[r]);
    }
}

static float exp1(float x)
{
    float t[16];
    v16_store(t, v16_exp(v16_set1(x)));
    return t[0];
}

/* One row's scores of a block become weights e^(s-m); what was summed so far is brought to the new
 * maximum m (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"). */
static void weigh(float *s, const struct attn_task *t, const struct attn_scratch *w, int row,
                  int lo, int hi)
{
    const int pad_v = t->kv->pad_v;
    const uint32_t lanes = (hi < 32 ? (1u << hi) - 1 : ~0u) & ~((1u << lo) - 1);
    const v16 f = v16_set1(t->scale);
    v16 a = v16_mul(v16_load(s), f), b = v16_mul(v16_load(s + 16), f);
    if (t->softcap != 0) {
        a = cap16(a, t->softcap);
        b = cap16(b, t->softcap);
    }
    a = v16_keep(a, lanes & 0xffff, -INFINITY);
    b = v16_keep(b, lanes >> 16, -INFINITY);
    const float m = v16_hmax(v16_max(a, b)), old = w->m[row];
    float *l = w->l + row * 16;
    if (m > old) {
        w->m[row] = m;
        const v16 c = v16_set1(exp1(old - m));
        v16_store(l, v16_mul(v16_load(l), c));
        for (int i = 0; i < pad_v; i += 16)
            v16_store(w->acc + row * pad_v + i, v16_mul(v16_load(w->acc + row * pad_v + i), c));
    }
    const v16 top = v16_set1(w->m[row]);
    a = v16_exp(v16_sub(a, top));
    b = v16_exp(v16_sub(b, top));
    v16_store(s, a);
    v16_store(s + 16, b);
    v16_store(l, v16_add(v16_add(v16_load(l), a), b));
}

/* Rows row .. row+R-1 against one block that starts at position `at`. A row skips what it doesn't
 * see, so that its arithmetic is the same whatever rows are beside it. */
static inline __attribute__((always_inline)) void rows_block(const struct attn_task *t,
                                                             const struct attn_scratch *w,
                                                             const float *k, const float *v, int at,
                                                             int row, const int R)
{
    const struct kv_layout *l = t->kv;
    const float *q[V16_ROWS];
    int lo[V16_ROWS], hi[V16_ROWS];
    bool whole = true, any = false;
    for (int r = 0; r < R; r++) {
        const int i = (row + r) / t->n_h, h = (row + r) % t->n_h, p = t->pos + i;
        const int end = t->n_kv ? t->n_kv : p + 1,
                  begin = (int)kv_first_seen((uint32_t)t->window, t->chunked, (uint32_t)p);
        q[r] = t->q + (size_t)i * (size_t)t->ldq + (size_t)h * (size_t)l->head_k;
        lo[r] = begin > at ? begin - at : 0;
        hi[r] = end - at < KV_TOKENS ? end - at : KV_TOKENS;
        whole = whole && lo[r] == 0 && hi[r] == KV_TOKENS;
        any = any || lo[r] < hi[r];
    }
    if (!any)
        return;
    qk(w->s, q, k, l->head_k, R);
    for (int r = 0; r < R; r++)
        if (lo[r] < hi[r])
            weigh(w->s + r * KV_TOKENS, t, w, row + r, lo[r], hi[r]);
    if (whole) {
        pv(w->acc + row * l->pad_v, w->s, v, l->pad_v, 0, KV_TOKENS, R);
        return;
    }
    for (int r = 0; r < R; r++)
        if (lo[r] < hi[r])
            pv(w->acc + (row + r) * l->pad_v, w->s + r * KV_TOKENS, v, l->pad_v, lo[r], hi[r], 1);
}

static void attend(const struct attn_task *t, const struct attn_scratch *w)
{
    const struct kv_layout *l = t->kv;
    const int rows = t->n_q * t->n_h;
    for (int r = 0; r < rows; r++) {
        w->m[r] = -INFINITY;
        memset(w->l + r * 16, 0, 16 * sizeof(float));
        memset(w->acc + r * l->pad_v, 0, (size_t)l->pad_v * sizeof(float));
    }
    const int end = t->n_kv ? t->n_kv : t->pos + t->n_q;
    const int begin = (int)kv_first_seen((uint32_t)t->window, t->chunked, (uint32_t)t->pos);
    for (int at = begin / KV_TOKENS * KV_TOKENS; at < end; at += KV_TOKENS) {
        const char *head = t->base + (size_t)t->blocks[at / KV_TOKENS] * l->block_bytes;
        const float *k = load_k(l, head, w->k);
        const float *v = load_v(l, head, k, w->v, end - at < KV_TOKENS ? end - at : KV_TOKENS);
        int r = 0;
        for (; r + V16_ROWS <= rows; r += V16_ROWS)
            rows_block(t, w, k, v, at, r, V16_ROWS);
        for (; r < rows; r++)
            rows_block(t, w, k, v, at, r, 1);
    }
    for (int r = 0; r < rows; r++) {
        const int i = r / t->n_h, h = r % t->n_h;
        float sum = v16_sum(v16_load(w->l + r * 16)), c = 1;
        if (t->sinks) {
            const float m = w->m[r] > t->sinks[h] ? w->m[r] : t->sinks[h];
            c = exp1(w->m[r] - m);
            sum = sum * c + exp1(t->sinks[h] - m);
        }
        const v16 f = v16_set1(c / sum);
        float *o = t->out + (size_t)i * (size_t)t->ldo + (size_t)h * (size_t)l->head_v;
        const float *a = w->acc + r * l->pad_v;
        EACH_V16(d, l->head_v, v16_store(o + d, v16_mul(v16_load(a + d), f)),
                 v16_store_n(o + d, v16_mul(v16_load(a + d), f), rest));
    }
}

const struct cpu_ops OPS_TABLE = {
    .dot = dot,
    .norm = norm,
    .add = add,
    .add_scaled = add_scaled,
    .scale = scale,
    .softcap = softcap,
    .activate = activate,
    .exp = exps,
    .rotate = rotate,
    .attend = attend,
    .convert_f16 = convert_f16,
};
