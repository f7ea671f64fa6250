/* formats.h - the functions behind the rows of qtype.c, one pair per format; nobody else calls them
 * by name. dequantize: dst[n] from n/block_elems blocks.  quantize: the inverse; src must be
 * finite. */
#ifndef MILLRACE_WORKER_QUANT_FORMATS_H
#define MILLRACE_WORKER_QUANT_FORMATS_H

#include <stddef.h>

/* X(format): everything that has a dequantizer. */
#define QUANT_DEQUANTIZERS(X)                                                                      \
    X(f32)                                                                                         \
    X(f16) X(bf16)                              /* half.c */                                       \
        X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(q8_0) /* basic.c */                                      \
        X(q4_k) X(q5_k) X(q6_k)                 /* kquant.c */

/* X(format): everything that can be written too. */
#define QUANT_QUANTIZERS(X) X(f32) X(f16) X(bf16) /* half.c */

#define X(format) void dequantize_##format(float *dst, const void *src, size_t n);
QUANT_DEQUANTIZERS(X)
#undef X
#define X(format) void quantize_##format(void *dst, const float *src, size_t n);
QUANT_QUANTIZERS(X)
#undef X

#endif
