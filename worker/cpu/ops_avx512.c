/* ops_avx512.c - the loops of ops.h, for AVX-512. */
#define OPS_TABLE cpu_ops_avx512
#include "worker/cpu/ops_body.h"
