/* unpack_avx512.c - the sink of rows_vec.h that fills panels, 16 rows at once. */
#include "worker/cpu/vec_avx512.h"

#include "worker/cpu/unpack_vec.h"

const unpack_fn unpack_table_avx512[QTYPE_COUNT_] = UNPACK_TABLE;
