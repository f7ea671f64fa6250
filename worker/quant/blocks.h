/* blocks.h - the byte layout of every quantized block, as it stands in GGUF files (little-endian).
 *
 * A block stores `elems` consecutive weights of one row. Halves (IEEE binary16) are kept as
 * uint16_t bits: read them with f16_to_f32(). The structs are packed (alignment 1), so a pointer
 * into a file is enough; members wider than a byte must be read through the struct, not through a
 * pointer to them.
 *
 * Notation: d, m, dmin are halves; q is the stored integer; x the weight.
 * Bit orders are drawn as "element of byte": most 4-bit formats of 32 elements put element j in the
 * low nibble of byte j and element j+16 in its high nibble, so that one mask and one shift give two
 * runs of 16. Layouts: github.com/ggml-org/ggml, documentation of the GGUF tensor types.
 */
#ifndef MILLRACE_WORKER_QUANT_BLOCKS_H
#define MILLRACE_WORKER_QUANT_BLOCKS_H

#include <assert.h>
#include <stdint.h>

#define PACKED_BLOCK struct __attribute__((packed))

enum { QK_SMALL = 32, QK_SUPER = 256 };

/* --- 32 elements, one scale ------------------------------------------------------------------ */

PACKED_BLOCK block_q4_0
{ /* x = d * (q - 8) */
    uint16_t d;
    uint8_t qs[16]; /* low nibbles: 0..15, high nibbles: 16..31 */
};
PACKED_BLOCK block_q4_1
{ /* x = d * q + m */
    uint16_t d, m;
    uint8_t qs[16];
};
PACKED_BLOCK block_q5_0
{ /* x = d * (q - 16); bit 4 of element j is bit j of qh, read as a little-endian u32 */
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};
PACKED_BLOCK block_q5_1
{ /* x = d * q + m */
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
PACKED_BLOCK block_q8_0
{ /* x = d * q */
    uint16_t d;
    int8_t qs[32];
};
PACKED_BLOCK block_iq4_nl
{ /* x = d * codebook_iq4[q] */
    uint16_t d;
    uint8_t qs[16];
};
PACKED_BLOCK block_mxfp4
{ /* x = 2^(e - 128) * codebook_fp4x2[q]: OCP Microscaling v1.0, E8M0 scale, E2M1 elements */
    uint8_t e;
    uint8_t qs[16];
};

/* --- 256 elements, K-quants: scales of sub-blocks are integers times d ----------------------- */

PACKED_BLOCK block_q2_K
{ /* 16 sub-blocks of 16: x = d * (scale & 15) * q - dmin * (scale >> 4) */
    uint8_t scales[16];
    uint8_t qs[64]; /* per half of 128: 32 bytes; bits 2k..2k+1 of byte i hold element 32k + i of
                       that half */
    uint16_t d, dmin;
};
PACKED_BLOCK block_q3_K
{ /* 16 sub-blocks of 16: x = d * (scale - 32) * (q - 4), q = low 2 bits | hmask bit << 2 */
    uint8_t hmask[32];  /* bit k of byte i: element 32k + i of the block */
    uint8_t qs[64];     /* as in q2_K */
    uint8_t scales[12]; /* 16 six-bit numbers: see q3k_scales() */
    uint16_t d;
};
PACKED_BLOCK block_q4_K
{ /* 8 sub-blocks of 32: x = d * scale * q - dmin * min */
    uint16_t d, dmin;
    uint8_t scales[12]; /* 8 six-bit scales and 8 six-bit mins: see q4k_scales() */
    uint8_t qs[128];    /* 32 bytes per pair of sub-blocks: the low nibbles are the first, the high
                           ones the second */
};
PACKED_BLOCK block_q5_K
{ /* as q4_K with a fifth bit */
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32]; /* bit k of byte i: element i of sub-block k */
    uint8_t qs[128];
};
PACKED_BLOCK block_q6_K
{ /* 16 sub-blocks of 16: x = d * scale * (q - 32) */
    uint8_t
        ql[128]; /* per half of 128: byte i holds elements i (low) and 64 + i (high), i in 0..63 */
    uint8_t qh[64]; /* per half: bits 2k..2k+1 of byte i are bits 4..5 of element 32k + i */
    int8_t scales[16];
    uint16_t d;
};
PACKED_BLOCK block_iq4_xs
{ /* 8 sub-blocks of 32: x = d * (scale - 32) * codebook_iq4[q] */
    uint16_t d;
    uint16_t scales_h;   /* bits 2k..2k+1: high bits of scale k */
    uint8_t scales_l[4]; /* nibble k: low bits of scale k */
    uint8_t qs[128];     /* 16 bytes per sub-block, nibbles as in iq4_nl */
};

/* --- 256 elements, ternary ------------------------------------------------------------------- */

PACKED_BLOCK block_tq1_0
{ /* x = d * (q - 1); five base-3 digits per byte as a fraction of 256: see tq1_0 in ternary.c */
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
};
PACKED_BLOCK block_tq2_0
{ /* x = d * (q - 1); per half of 128: bits 2k..2k+1 of byte i are element 32k + i */
    uint8_t qs[64];
    uint16_t d;
};

/* --- 256 elements, grids: groups of 8 (or 4) weights are one entry of a codebook, signs apart  */

PACKED_BLOCK block_iq2_xxs
{ /* per 32: 4 grid bytes, then u32: 4 x 7 sign bits, 4-bit scale on top */
    uint16_t d;
    uint8_t qs[64];
};
PACKED_BLOCK block_iq2_xs
{ /* per 8: 9 bits grid, 7 bits signs; 4-bit scale per 16 */
    uint16_t d;
    uint16_t qs[32];
    uint8_t scales[8];
};
PACKED_BLOCK block_iq2_s
{ /* per 8: 8 bits grid + 2 in qh, 8 sign bits; 4-bit scale per 16 */
    uint16_t d;
    uint8_t qs[32];
    uint8_t signs[32];
    uint8_t qh[8];
    uint8_t scales[8];
};
PACKED_BLOCK block_iq3_xxs
{ /* per 4: 8 bits grid; per 32: u32 of 4 x 7 sign bits and a 4-bit scale */
    uint16_t d;
    uint8_t qs[64];
    uint8_t scales_signs[32];
};
PACKED_BLOCK block_iq3_s
{ /* per 4: 8 bits grid + 1 in qh; per 8: 8 sign bits; 4-bit scale per 32 */
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
};
PACKED_BLOCK block_iq1_s
{ /* per 8: 8 bits grid + 3 in qh; per 32: 3-bit scale and the sign of the 1/8 shift in qh */
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8];
};
PACKED_BLOCK block_iq1_m
{ /* per 8: 8 bits grid + 3 and a shift sign in qh; d is spread over the tops of `scales` */
    uint8_t qs[32];
    uint8_t qh[16];
    uint8_t scales[8]; /* four little-endian u16: 4 x 3-bit scales each, the upper nibble is a
                          quarter of d */
};

// clang-format off
static_assert(sizeof(struct block_q4_0)    ==  18, "q4_0");
static_assert(sizeof(struct block_q4_1)    ==  20, "q4_1");
static_assert(sizeof(struct block_q5_0)    ==  22, "q5_0");
static_assert(sizeof(struct block_q5_1)    ==  24, "q5_1");
static_assert(sizeof(struct block_q8_0)    ==  34, "q8_0");
static_assert(sizeof(struct block_iq4_nl)  ==  18, "iq4_nl");
static_assert(sizeof(struct block_mxfp4)   ==  17, "mxfp4");
static_assert(sizeof(struct block_q2_K)    ==  84, "q2_K");
static_assert(sizeof(struct block_q3_K)    == 110, "q3_K");
static_assert(sizeof(struct block_q4_K)    == 144, "q4_K");
static_assert(sizeof(struct block_q5_K)    == 176, "q5_K");
static_assert(sizeof(struct block_q6_K)    == 210, "q6_K");
static_assert(sizeof(struct block_iq4_xs)  == 136, "iq4_xs");
static_assert(sizeof(struct block_tq1_0)   ==  54, "tq1_0");
static_assert(sizeof(struct block_tq2_0)   ==  66, "tq2_0");
static_assert(sizeof(struct block_iq2_xxs) ==  66, "iq2_xxs");
static_assert(sizeof(struct block_iq2_xs)  ==  74, "iq2_xs");
static_assert(sizeof(struct block_iq2_s)   ==  82, "iq2_s");
static_assert(sizeof(struct block_iq3_xxs) ==  98, "iq3_xxs");
static_assert(sizeof(struct block_iq3_s)   == 110, "iq3_s");
static_assert(sizeof(struct block_iq1_s)   ==  50, "iq1_s");
static_assert(sizeof(struct block_iq1_m)   ==  56, "iq1_m");
// clang-format on

/* The packed scales of q4_K and q5_K, unpacked to one byte each (0..63).
 *   byte  0..3   low 6 bits: scale 0..3    high 2 bits: bits 4..5 of scale 4..7
 *   byte  4..7   low 6 bits: min 0..3      high 2 bits: bits 4..5 of min 4..7
 *   byte  8..11  low nibble: scale 4..7    high nibble: min 4..7 */
static inline void q4k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    for (int i = 0; i < 4; i++) {
        scale[i] = packed[i] & 63;
        min[i] = packed[4 + i] & 63;
        scale[4 + i] = (uint8_t)((packed[8 + i] & 15) | (packed[i] >> 6) << 4);
        min[4 + i] = (uint8_t)((packed[8 + i] >> 4) | (packed[4 + i] >> 6) << 4);
    }
}

/* The packed scales of q3_K, 0..63 each; 32 stands for zero.
 *   byte  0..7   low nibble: scale 0..7, high nibble: scale 8..15 (their low four bits)
 *   byte  8..11  bits 2k..2k+1 of byte 8 + i: bits 4..5 of scale 4k + i */
static inline void q3k_scales(const uint8_t packed[12], uint8_t scale[16])
{
    for (int i = 0; i < 16; i++) {
        int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
        int high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
        scale[i] = (uint8_t)(low | high << 4);
    }
}

#endif
