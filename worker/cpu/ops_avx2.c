/* ops_avx2.c - the loops of ops.h, for AVX2 and FMA. */
#define OPS_TABLE cpu_ops_avx2
#include "worker/cpu/ops_body.h"
