/* unpack_avx2.c - the sink of rows_vec.h that fills panels, 8 rows at once. */
#include "worker/cpu/vec_avx2.h"

#include "worker/cpu/unpack_vec.h"

const unpack_fn unpack_table_avx2[QTYPE_COUNT_] = UNPACK_TABLE;
