/* qtype.h - the table of weight types: ids and sizes as GGUF has them, and how to read a block as
 * float32.
 *
 * A matrix [n_out, n_in] is n_out rows; a row is n_in/block_elems blocks of block_bytes, without
 * padding. Ids are those of the GGUF specification (ggml_type), because they stand in files. */
#ifndef MILLRACE_WORKER_QUANT_QTYPE_H
#define MILLRACE_WORKER_QUANT_QTYPE_H

#include <stddef.h>
#include <stdint.h>

enum qtype {
    QTYPE_F32 = 0,
    QTYPE_F16 = 1,
    QTYPE_Q4_0 = 2,
    QTYPE_Q4_1 = 3,
    QTYPE_Q5_0 = 6,
    QTYPE_Q5_1 = 7,
    QTYPE_Q8_0 = 8,
    QTYPE_Q8_1 = 9, /* never in files */
    QTYPE_Q2_K = 10,
    QTYPE_Q3_K = 11,
    QTYPE_Q4_K = 12,
    QTYPE_Q5_K = 13,
    QTYPE_Q6_K = 14,
    QTYPE_Q8_K = 15, /* never in files */
    QTYPE_IQ2_XXS = 16,
    QTYPE_IQ2_XS = 17,
    QTYPE_IQ3_XXS = 18,
    QTYPE_IQ1_S = 19,
    QTYPE_IQ4_NL = 20,
    QTYPE_IQ3_S = 21,
    QTYPE_IQ2_S = 22,
    QTYPE_IQ4_XS = 23,
    QTYPE_I8 = 24,
    QTYPE_I16 = 25,
    QTYPE_I32 = 26,
    QTYPE_I64 = 27,
    QTYPE_F64 = 28,
    QTYPE_IQ1_M = 29,
    QTYPE_BF16 = 30,
    QTYPE_TQ1_0 = 34,
    QTYPE_TQ2_0 = 35,
    QTYPE_MXFP4 = 39,
    QTYPE_COUNT_ = 40
};

struct qtype_info {
    const char *name;     /* "Q4_K"; NULL: no such type */
    uint32_t block_elems; /* elements per block */
    uint32_t block_bytes;
    /* dst[n] from n/block_elems blocks; NULL for types that are no weights. The specification of
     * the type: bit-exact in float32 with the reference. n is a multiple of block_elems; src needs
     * no alignment. */
    void (*dequantize)(float *dst, const void *src, size_t n);
    /* The inverse for `synthesize` and tests; NULL where not offered. Needs not match other
     * quantizers. */
    void (*quantize)(void *dst, const float *src, size_t n);
};

/* NULL for an id that is not in the table. */
const struct qtype_info *qtype_info(uint32_t id);
/* Id by name, any case ("q4_k", "Q4_K"); -1 when unknown. */
int qtype_by_name(const char *name);
/* "F32 F16 Q4_0 ...": the types that dequantize, for messages; cut at n bytes. */
void qtype_list(char *out, size_t n);

/* Scalar conversions, bit-exact IEEE 754. */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even */
static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}
uint16_t f32_to_bf16(float f);

#endif
