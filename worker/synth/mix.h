/* mix.h - which type each matrix of a quantized file has.
 *
 * --quant names a type (all matrices; the output, where it is coarser, Q6_K) or one of the mixes
 * that published files come in (Q4_K_M ...), which give more bits to values and down projections of
 * some layers. */
#ifndef MILLRACE_WORKER_SYNTH_MIX_H
#define MILLRACE_WORKER_SYNTH_MIX_H

#include "worker/model/arch.h"

struct mix; /* opaque; constant */

/* ERR_NOT_FOUND with the names. `file_type`: the id that general.file_type carries. */
enum err mix_find(const struct mix **out, const char *name, struct errmsg *why) MUST_CHECK;
uint32_t mix_file_type(const struct mix *m);
const char *mix_name(const struct mix *m);

/* The type of one tensor with rows of n_in elements. */
enum qtype mix_type(const struct mix *m, const struct hparams *h, enum slot s, int il,
                    uint64_t n_in, bool tied, bool pure);

#endif
