/* unpack.h - the vectorized unpackers by type; NULL where unpack_any() serves. All fill the same
 * panel, bit for bit. */
#ifndef MILLRACE_WORKER_CPU_UNPACK_H
#define MILLRACE_WORKER_CPU_UNPACK_H

#include "worker/cpu/kernels.h"

extern const unpack_fn unpack_table_avx2[QTYPE_COUNT_];
extern const unpack_fn unpack_table_avx512[QTYPE_COUNT_];

#endif
