/* formats.h - the functions behind the rows of qtype.c, by family; nobody else calls them by name.
 * dequantize: dst[n] from n/block_elems blocks.  quantize: the inverse; src must be finite. */
#ifndef MILLRACE_WORKER_QUANT_FORMATS_H
#define MILLRACE_WORKER_QUANT_FORMATS_H

#include <stddef.h>

// clang-format off
#define DECODE(f) void dequantize_##f(float *dst, const void *src, size_t n)
#define ENCODE(f) void quantize_##f(void *dst, const float *src, size_t n)
DECODE(f32); DECODE(f16); DECODE(bf16);                                         /* half.c */
ENCODE(f32); ENCODE(f16); ENCODE(bf16);
DECODE(q4_0); DECODE(q4_1); DECODE(q5_0); DECODE(q5_1); DECODE(q8_0);           /* basic.c */
ENCODE(q4_0); ENCODE(q4_1); ENCODE(q5_0); ENCODE(q5_1); ENCODE(q8_0);           /* encode_basic.c */
DECODE(q2_k); DECODE(q3_k); DECODE(q4_k); DECODE(q5_k); DECODE(q6_k);           /* kquant.c */
ENCODE(q4_k); ENCODE(q5_k); ENCODE(q6_k);                                       /* encode_k.c */
DECODE(iq4_nl); DECODE(iq4_xs); DECODE(mxfp4);                                  /* nonlinear.c */
DECODE(iq2_xxs); DECODE(iq2_xs); DECODE(iq2_s); DECODE(iq3_xxs); DECODE(iq3_s); /* grid.c */
DECODE(iq1_s); DECODE(iq1_m);
DECODE(tq1_0); DECODE(tq2_0);                                                   /* ternary.c */
#undef DECODE
#undef ENCODE
// clang-format on

#endif
