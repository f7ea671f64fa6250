/* decode_c.c - the table of how each type becomes a panel, and its blocks decoded one by one.
 *
 * Each function reads one block (layouts: worker/quant/blocks.h) and yields bytes u, scales s, mins
 * m with weight = s*(u - offset) + m; s and m are exact in float32, and equal to what dequantize
 * multiplies with. This is the specification of the vectorized unpackers, which must fill the same
 * panel bit for bit. */
#include "worker/cpu/kernels.h"

#include <string.h>

#include "worker/cpu/decode.h"
#include "worker/quant/blocks.h"

/* Low nibbles are columns 0..15, high nibbles 16..31. */
static void nibbles_32(const uint8_t *qs, uint8_t *u)
{
    for (int j = 0; j < 16; j++) {
        u[j] = qs[j] & 15;
        u[j + 16] = qs[j] >> 4;
    }
}

/* Bit j of the 32-bit word is the fifth bit of column j. */
static void fifth_bits_32(const uint8_t *qh, uint8_t *u)
{
    for (int j = 0; j < 32; j++)
        u[j] |= (uint8_t)((qh[j / 8] >> (j % 8) & 1) << 4);
}

static void decode_q4_0(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_q4_0 *b = (const void *)block;
    s[0] = f16_to_f32(b->d);
    nibbles_32(b->qs, u);
}

static void decode_q4_1(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    const struct block_q4_1 *b = (const void *)block;
    s[0] = f16_to_f32(b->d);
    m[0] = f16_to_f32(b->m);
    nibbles_32(b->qs, u);
}

static void decode_q5_0(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_q5_0 *b = (const void *)block;
    s[0] = f16_to_f32(b->d);
    nibbles_32(b->qs, u);
    fifth_bits_32(b->qh, u);
}

static void decode_q5_1(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    const struct block_q5_1 *b = (const void *)block;
    s[0] = f16_to_f32(b->d);
    m[0] = f16_to_f32(b->m);
    nibbles_32(b->qs, u);
    fifth_bits_32(b->qh, u);
}

static void decode_q8_0(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_q8_0 *b = (const void *)block;
    s[0] = f16_to_f32(b->d);
    for (int j = 0; j < 32; j++)
        u[j] = (uint8_t)(b->qs[j] + 128);
}

/* Two bits per column: byte l of each 32-byte half holds columns l, l+32, l+64, l+96 of its 128. */
static void crumbs_256(const uint8_t *qs, uint8_t *u)
{
    for (int i = 0; i < 256; i++)
        u[i] = qs[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3;
}

static void decode_q2_k(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    const struct block_q2_K *b = (const void *)block;
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int j = 0; j < 16; j++) {
        s[j] = d * (float)(b->scales[j] & 15);
        m[j] = -dmin * (float)(b->scales[j] >> 4);
    }
    crumbs_256(b->qs, u);
}

static void decode_q3_k(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_q3_K *b = (const void *)block;
    float d = f16_to_f32(b->d);
    uint8_t scale[16];
    q3k_scales(b->scales, scale);
    for (int j = 0; j < 16; j++)
        s[j] = d * (float)(scale[j] - 32);
    crumbs_256(b->qs, u);
    for (int i = 0; i < 256; i++)
        u[i] |= (uint8_t)((b->hmask[i % 32] >> (i / 32) & 1) << 2);
}

/* The header that Q4_K and Q5_K share. */
static void scales_q45_k(float d, float dmin, const uint8_t *packed, float *s, float *m)
{
    uint8_t scale[8], min[8];
    q4k_scales(packed, scale, min);
    for (int j = 0; j < 8; j++) {
        s[j] = d * (float)scale[j];
        m[j] = -dmin * (float)min[j];
    }
}

/* Byte l of each 32-byte quarter: low nibble column l of its 64, high nibble column l+32. */
static void nibbles_256(const uint8_t *qs, uint8_t *u)
{
    for (int i = 0; i < 256; i++)
        u[i] = qs[i / 64 * 32 + i % 32] >> (4 * (i % 64 / 32)) & 15;
}

static void decode_q4_k(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    const struct block_q4_K *b = (const void *)block;
    scales_q45_k(f16_to_f32(b->d), f16_to_f32(b->dmin), b->scales, s, m);
    nibbles_256(b->qs, u);
}

static void decode_q5_k(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    const struct block_q5_K *b = (const void *)block;
    scales_q45_k(f16_to_f32(b->d), f16_to_f32(b->dmin), b->scales, s, m);
    nibbles_256(b->qs, u);
    for (int i = 0; i < 256; i++)
        u[i] |= (uint8_t)((b->qh[i % 32] >> (i / 32) & 1) << 4);
}

static void decode_q6_k(const uint8_t *block, uint8_t *u, float *s, float *m)
{
    (void)m;
    const struct block_q6_K *b = (const void *)block;
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 16; j++)
        s[j] = d * (float)b->scales[j];
    for (int i = 0; i < 256; i++) {
        int half = i / 128, k = i % 128; /* column k of this half */
        int low = b->ql[64 * half + k % 64] >> (4 * (k / 64)) & 15;
        int high = b->qh[32 * half + k % 32] >> (2 * (k / 32)) & 3;
        u[i] = (uint8_t)(low | high << 4);
    }
}

// clang-format off
const struct pack pack_table[QTYPE_COUNT_] = {
    /*                 group min offset max_u   slow */
    [QTYPE_Q4_0]    = { 32,  0,   8,     15, decode_q4_0, 0 },
    [QTYPE_Q4_1]    = { 32,  1,   0,     15, decode_q4_1, 0 },
    [QTYPE_Q5_0]    = { 32,  0,  16,     31, decode_q5_0, 0 },
    [QTYPE_Q5_1]    = { 32,  1,   0,     31, decode_q5_1, 0 },
    [QTYPE_Q8_0]    = { 32,  0, 128,    255, decode_q8_0, 0 },
    [QTYPE_Q2_K]    = { 16,  1,   0,      3, decode_q2_k, 0 },
    [QTYPE_Q3_K]    = { 16,  0,   4,      7, decode_q3_k, 0 },
    [QTYPE_Q4_K]    = { 32,  1,   0,     15, decode_q4_k, 0 },
    [QTYPE_Q5_K]    = { 32,  1,   0,     31, decode_q5_k, 0 },
    [QTYPE_Q6_K]    = { 16,  0,  32,     63, decode_q6_k, 0 },
    [QTYPE_IQ4_NL]  = { 32,  0, 128,    241, decode_iq4_nl, 0 },
    [QTYPE_IQ4_XS]  = { 32,  0, 128,    241, decode_iq4_xs, 0 },
    [QTYPE_MXFP4]   = { 32,  0,  12,     24, decode_mxfp4, 0 },
    [QTYPE_IQ2_XXS] = { 32,  0,  64,    107, decode_iq2_xxs, 1 },
    [QTYPE_IQ2_XS]  = { 16,  0,  64,    107, decode_iq2_xs, 1 },
    [QTYPE_IQ2_S]   = { 16,  0,  64,    107, decode_iq2_s, 1 },
    [QTYPE_IQ3_XXS] = { 32,  0,  64,    126, decode_iq3_xxs, 1 },
    [QTYPE_IQ3_S]   = { 32,  0,  16,     31, decode_iq3_s, 1 },
    [QTYPE_IQ1_S]   = { 32,  0,  16,     25, decode_iq1_s, 1 },
    [QTYPE_IQ1_M]   = { 16,  0,  16,     25, decode_iq1_m, 1 },
    [QTYPE_TQ1_0]   = { 32,  0,   1,      2, decode_tq1_0, 1 },
    [QTYPE_TQ2_0]   = { 32,  0,   1,      3, decode_tq2_0, 0 },
};
// clang-format on

/* Scatters row r's bytes into the panel. */
static void put_row(uint8_t *panel, int r, const uint8_t *u, int n)
{
    for (int k = 0; k < n; k += 4)
        memcpy(panel + (size_t)k * PANEL_ROWS + 4 * r, u + k, 4);
}

void unpack_any(enum qtype type, const struct panel *p, const uint8_t *rows, size_t row_bytes,
                int kc)
{
    const struct qtype_info *info = qtype_info(type);
    const struct pack *how = &pack_table[type];
    int elems = (int)info->block_elems;
    if (!how->group) {
        float tmp[256];
        int step = elems > 1 ? elems : 256;
        for (int r = 0; r < PANEL_ROWS; r++) {
            const uint8_t *b = rows + (size_t)r * row_bytes;
            for (int k = 0; k < kc; k += step) {
                int n = kc - k < step ? kc - k : step;
                info->dequantize(tmp, b, (size_t)n);
                b += (size_t)(n / elems) * info->block_bytes;
                for (int j = 0; j < n; j++)
                    p->w[(size_t)(k + j) * PANEL_ROWS + r] = tmp[j];
            }
        }
        return;
    }
    uint8_t u[256];
    float s[16], m[16];
    int n_groups = elems / how->group;
    for (int r = 0; r < PANEL_ROWS; r++) {
        const uint8_t *b = rows + (size_t)r * row_bytes;
        float *ps = p->s + r, *pm = p->m + r;
        for (int k = 0; k < kc; k += elems, b += info->block_bytes) {
            how->decode(b, u, s, m);
            put_row(p->u + (size_t)k * PANEL_ROWS, r, u, elems);
            for (int g = 0; g < n_groups; g++, ps += PANEL_ROWS)
                *ps = s[g];
            if (how->has_min)
                for (int g = 0; g < n_groups; g++, pm += PANEL_ROWS)
                    *pm = m[g];
        }
    }
}
