/* qtype.c - the table of weight types. A new type is one row here and one pair of functions. */
#include "worker/quant/qtype.h"
#include "worker/quant/blocks.h"
#include "worker/quant/formats.h"

#include <stdio.h>
#include <strings.h>

// clang-format off
#define RW(f) .dequantize = dequantize_##f, .quantize = quantize_##f /* can be read and written */
#define RO(f) .dequantize = dequantize_##f                           /* can be read */
#define PLAIN .dequantize = NULL                                     /* numbers, no weights */
#define SMALL(b) QK_SMALL, sizeof(struct block_##b)
#define SUPER(b) QK_SUPER, sizeof(struct block_##b)
static const struct qtype_info types[QTYPE_COUNT_] = {
    [QTYPE_F32]     = {"F32", 1, 4, RW(f32)},
    [QTYPE_F16]     = {"F16", 1, 2, RW(f16)},
    [QTYPE_BF16]    = {"BF16", 1, 2, RW(bf16)},
    [QTYPE_Q4_0]    = {"Q4_0", SMALL(q4_0), RW(q4_0)},
    [QTYPE_Q4_1]    = {"Q4_1", SMALL(q4_1), RW(q4_1)},
    [QTYPE_Q5_0]    = {"Q5_0", SMALL(q5_0), RW(q5_0)},
    [QTYPE_Q5_1]    = {"Q5_1", SMALL(q5_1), RW(q5_1)},
    [QTYPE_Q8_0]    = {"Q8_0", SMALL(q8_0), RW(q8_0)},
    [QTYPE_Q2_K]    = {"Q2_K", SUPER(q2_K), RO(q2_k)},
    [QTYPE_Q3_K]    = {"Q3_K", SUPER(q3_K), RO(q3_k)},
    [QTYPE_Q4_K]    = {"Q4_K", SUPER(q4_K), RW(q4_k)},
    [QTYPE_Q5_K]    = {"Q5_K", SUPER(q5_K), RW(q5_k)},
    [QTYPE_Q6_K]    = {"Q6_K", SUPER(q6_K), RW(q6_k)},
    [QTYPE_IQ2_XXS] = {"IQ2_XXS", SUPER(iq2_xxs), RO(iq2_xxs)},
    [QTYPE_IQ2_XS]  = {"IQ2_XS", SUPER(iq2_xs), RO(iq2_xs)},
    [QTYPE_IQ2_S]   = {"IQ2_S", SUPER(iq2_s), RO(iq2_s)},
    [QTYPE_IQ3_XXS] = {"IQ3_XXS", SUPER(iq3_xxs), RO(iq3_xxs)},
    [QTYPE_IQ3_S]   = {"IQ3_S", SUPER(iq3_s), RO(iq3_s)},
    [QTYPE_IQ1_S]   = {"IQ1_S", SUPER(iq1_s), RO(iq1_s)},
    [QTYPE_IQ1_M]   = {"IQ1_M", SUPER(iq1_m), RO(iq1_m)},
    [QTYPE_IQ4_NL]  = {"IQ4_NL", SMALL(iq4_nl), RO(iq4_nl)},
    [QTYPE_IQ4_XS]  = {"IQ4_XS", SUPER(iq4_xs), RO(iq4_xs)},
    [QTYPE_TQ1_0]   = {"TQ1_0", SUPER(tq1_0), RO(tq1_0)},
    [QTYPE_TQ2_0]   = {"TQ2_0", SUPER(tq2_0), RO(tq2_0)},
    [QTYPE_MXFP4]   = {"MXFP4", SMALL(mxfp4), RO(mxfp4)},
    [QTYPE_I8]      = {"I8", 1, 1, PLAIN},
    [QTYPE_I16]     = {"I16", 1, 2, PLAIN},
    [QTYPE_I32]     = {"I32", 1, 4, PLAIN},
    [QTYPE_I64]     = {"I64", 1, 8, PLAIN},
    [QTYPE_F64]     = {"F64", 1, 8, PLAIN},
};
// clang-format on

const struct qtype_info *qtype_info(uint32_t id)
{
    return id < QTYPE_COUNT_ && types[id].name ? &types[id] : NULL;
}

int qtype_by_name(const char *name)
{
    for (int id = 0; id < QTYPE_COUNT_; id++)
        if (types[id].name && strcasecmp(types[id].name, name) == 0)
            return id;
    return -1;
}

void qtype_list(char *out, size_t n)
{
    size_t at = 0;
    out[0] = '\0';
    for (int id = 0; id < QTYPE_COUNT_; id++) {
        if (!types[id].dequantize)
            continue;
        int len = snprintf(out + at, n - at, "%s%s", at ? " " : "", types[id].name);
        if (len < 0 || (size_t)len >= n - at)
            return;
        at += (size_t)len;
    }
}
