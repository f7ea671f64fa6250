/* random.c - every byte of a block is random; then the fields that carry the scale are set so that
 * the values come out as wanted. Where those fields stand is a row of a table. */
#include "worker/quant/random.h"
#include "worker/quant/blocks.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

uint64_t qrandom_u64(struct qrandom *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17;
    x = (x << 7 | x >> 57) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return x;
}

void qrandom_seed(struct qrandom *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) { /* splitmix64 (Steele, Lea, Flood 2014) */
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        r->s[i] = z ^ z >> 31;
    }
}

float qrandom_unit(struct qrandom *r)
{
    return (float)(int32_t)(qrandom_u64(r) >> 32) * 0x1p-31f;
}

static void random_bytes(void *dst, size_t n, struct qrandom *r)
{
    uint8_t *p = dst;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v = qrandom_u64(r);
        memcpy(p, &v, 8);
    }
    if (n) {
        uint64_t v = qrandom_u64(r);
        memcpy(p, &v, n);
    }
}

/* Where the scale of a block stands, and the offset that makes its mean zero. */
struct scale_field {
    enum {
        SCALE_NONE,
        SCALE_D,
        SCALE_D_TERNARY,
        SCALE_D_M,
        SCALE_LINES_6BIT,
        SCALE_LINES_4BIT,
        SCALE_E8M0,
        SCALE_SPREAD
    } kind;
    uint8_t d, m; /* offsets of the halves */
    float
        center; /* the mean of the codes: m = -center * d, or dmin = center * d with min = scale */
};

// clang-format off
#define AT(b, field) offsetof(struct block_##b, field)
static const struct scale_field fields[QTYPE_COUNT_] = {
    [QTYPE_Q4_0]    = {SCALE_D, AT(q4_0, d), 0, 0},
    [QTYPE_Q4_1]    = {SCALE_D_M, AT(q4_1, d), AT(q4_1, m), 7.5f},
    [QTYPE_Q5_0]    = {SCALE_D, AT(q5_0, d), 0, 0},
    [QTYPE_Q5_1]    = {SCALE_D_M, AT(q5_1, d), AT(q5_1, m), 15.5f},
    [QTYPE_Q8_0]    = {SCALE_D, AT(q8_0, d), 0, 0},
    [QTYPE_Q2_K]    = {SCALE_LINES_4BIT, AT(q2_K, d), AT(q2_K, dmin), 1.5f},
    [QTYPE_Q3_K]    = {SCALE_D, AT(q3_K, d), 0, 0},
    [QTYPE_Q4_K]    = {SCALE_LINES_6BIT, AT(q4_K, d), AT(q4_K, dmin), 7.5f},
    [QTYPE_Q5_K]    = {SCALE_LINES_6BIT, AT(q5_K, d), AT(q5_K, dmin), 15.5f},
    [QTYPE_Q6_K]    = {SCALE_D, AT(q6_K, d), 0, 0},
    [QTYPE_IQ2_XXS] = {SCALE_D, AT(iq2_xxs, d), 0, 0},
    [QTYPE_IQ2_XS]  = {SCALE_D, AT(iq2_xs, d), 0, 0},
    [QTYPE_IQ2_S]   = {SCALE_D, AT(iq2_s, d), 0, 0},
    [QTYPE_IQ3_XXS] = {SCALE_D, AT(iq3_xxs, d), 0, 0},
    [QTYPE_IQ3_S]   = {SCALE_D, AT(iq3_s, d), 0, 0},
    [QTYPE_IQ1_S]   = {SCALE_D, AT(iq1_s, d), 0, 0},
    [QTYPE_IQ1_M]   = {SCALE_SPREAD, 0, 0, 0},
    [QTYPE_IQ4_NL]  = {SCALE_D, AT(iq4_nl, d), 0, 0},
    [QTYPE_IQ4_XS]  = {SCALE_D, AT(iq4_xs, d), 0, 0},
    [QTYPE_TQ1_0]   = {SCALE_D, AT(tq1_0, d), 0, 0},
    [QTYPE_TQ2_0]   = {SCALE_D_TERNARY, AT(tq2_0, d), 0, 0},
    [QTYPE_MXFP4]   = {SCALE_E8M0, AT(mxfp4, e), 0, 0},
};
#undef AT
// clang-format on

static void put_half(uint8_t *block, unsigned at, float v)
{
    uint16_t h = f32_to_f16(v);
    if ((h & 0x7fff) == 0) /* a scale too small for a half is the smallest, not zero */
        h |= 1;
    memcpy(block + at, &h, sizeof h);
}

/* min k = scale k, in the packed order of q4k_scales(). */
static void mins_follow_scales(uint8_t packed[12])
{
    memcpy(packed + 4, packed, 4);
    for (int i = 8; i < 12; i++)
        packed[i] = (uint8_t)((packed[i] & 15) * 0x11);
}

static void set_scale(uint8_t *block, const struct scale_field *f, float d, struct qrandom *r)
{
    switch (f->kind) {
    case SCALE_NONE:
        break;
    case SCALE_D: /* signs both ways: formats of an odd range (-8..7) are off zero otherwise */
        put_half(block, f->d, qrandom_u64(r) >> 63 ? -d : d);
        break;
    case SCALE_D_TERNARY: /* of the four codes three are used: 3 becomes 2 */
        for (int i = 0; i < 64; i++)
            block[i] &= (uint8_t) ~(block[i] >> 1 & block[i] & 0x55);
        put_half(block, f->d, qrandom_u64(r) >> 63 ? -d : d);
        break;
    case SCALE_D_M:
        put_half(block, f->d, d);
        put_half(block, f->m, -f->center * d);
        break;
    case SCALE_LINES_6BIT:
        put_half(block, f->d, d);
        put_half(block, f->m, f->center * d);
        mins_follow_scales(block +
                           offsetof(struct block_q4_K, scales)); /* q5_K has them there too */
        break;
    case SCALE_LINES_4BIT:
        put_half(block, f->d, d);
        put_half(block, f->m, f->center * d);
        for (int i = 0; i < 16; i++)
            block[i] = (uint8_t)((block[i] & 15) * 0x11);
        break;
    case SCALE_E8M0: { /* d is 2^(e - 128) */
        int e;
        (void)frexpf(d, &e);
        e += 128 - (int)(qrandom_u64(r) >> 63);
        block[f->d] = (uint8_t)(e < 0 ? 0 : e > 254 ? 254 : e);
        break;
    }
    case SCALE_SPREAD: { /* the nibbles of the half stand on top of four words */
        uint16_t h = f32_to_f16(d);
        uint8_t *scales = block + offsetof(struct block_iq1_m, scales);
        for (int k = 0; k < 4; k++)
            scales[2 * k + 1] = (uint8_t)((scales[2 * k + 1] & 15) | (h >> (4 * k) & 15) << 4);
        break;
    }
    }
}

/* Blocks with the scale d, varied by a quarter so that no two are alike. */
static void fill(uint8_t *dst, const struct qtype_info *q, const struct scale_field *f,
                 size_t n_blocks, float d, struct qrandom *r)
{
    random_bytes(dst, n_blocks * q->block_bytes, r);
    for (size_t i = 0; i < n_blocks; i++)
        set_scale(dst + i * q->block_bytes, f, d * (1 + 0.25f * qrandom_unit(r)), r);
}

/* The standard deviation of blocks with d = 1, measured on a few. */
static float unit_std(const struct qtype_info *q, const struct scale_field *f)
{
    enum { BLOCKS = 32 };
    uint8_t raw[BLOCKS * sizeof(struct block_q6_K)]; /* the largest */
    float x[QK_SUPER];
    double sum = 0;
    struct qrandom r;
    qrandom_seed(&r, 1);
    fill(raw, q, f, BLOCKS, 1, &r);
    for (int i = 0; i < BLOCKS; i++) {
        q->dequantize(x, raw + (size_t)i * q->block_bytes, q->block_elems);
        for (uint32_t k = 0; k < q->block_elems; k++)
            sum += (double)x[k] * (double)x[k];
    }
    return (float)sqrt(sum / (BLOCKS * (double)q->block_elems));
}

void qrandom_blocks(void *dst, enum qtype type, size_t n, float std, struct qrandom *r)
{
    const struct qtype_info *q = qtype_info((uint32_t)type);
    if (q->block_elems == 1) { /* F32, F16, BF16: uniform, by way of float */
        float x[256];
        for (size_t at = 0; at < n; at += 256) {
            size_t k = n - at < 256 ? n - at : 256;
            for (size_t i = 0; i < k; i++)
                x[i] = qrandom_unit(r) * std * 1.7320508f;
            q->quantize((uint8_t *)dst + at * q->block_bytes, x, k);
        }
        return;
    }
    const struct scale_field *f = &fields[type];
    fill(dst, q, f, n / q->block_elems, std / unit_std(q, f), r);
}
