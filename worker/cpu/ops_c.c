/* ops_c.c - the loops of ops.h, portable. */
#define OPS_TABLE cpu_ops_c
#include "worker/cpu/ops_body.h"
