/* decode.h - inside of worker/cpu: blocks decoded one by one, in plain C; decode_c.c says what for.
 * Thread: constant data. */
#ifndef MILLRACE_WORKER_CPU_DECODE_H
#define MILLRACE_WORKER_CPU_DECODE_H

#include <stdint.h>

/* decode_block_fn of kernels.h; none of these types has mins, so m is left alone. */
void decode_iq4_nl(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq4_xs(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_mxfp4(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq2_xxs(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq2_xs(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq2_s(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq3_xxs(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq3_s(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq1_s(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_iq1_m(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_tq1_0(const uint8_t *block, uint8_t *u, float *s, float *m);
void decode_tq2_0(const uint8_t *block, uint8_t *u, float *s, float *m);

/* u = offset + value, by code. The sign of a grid's weight (for IQ1, whether the shift is down) is
 * the bit above its code. */
extern const uint8_t u_iq4[16], u_fp4[16], u_iq2[16], u_iq1[16], u_iq3_xxs[16], u_iq3_s[16];
/* MXFP4: bits 16..23 of the scale with exponent 0 and 1; 0 for 2. */
extern const uint8_t u_e8m0_low[16];

#endif
