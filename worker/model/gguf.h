/* gguf.h - reads a GGUF file (v2, v3; one file or a split set), memory-mapped.
 * Specification: github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * Promise: after gguf_open() every key, string, array, tensor name, shape and data range has been
 * checked to lie inside its file; reading through these functions can't leave it. Counts are
 * bounded before anything is allocated for them. Nothing is written to the file. Ownership: keys,
 * strings and tensor data are BORROWED from the mapping, valid until gguf_close(). Errors: one line
 * that names the file, what is wrong and where.  Thread: read-only after open, any thread. Known
 * hole of mmap: a file truncated by someone else while mapped raises SIGBUS; the worker dies and is
 * replaced (docs/ARCHITECTURE.md). */
#ifndef MILLRACE_WORKER_MODEL_GGUF_H
#define MILLRACE_WORKER_MODEL_GGUF_H

#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/quant/qtype.h"

enum gguf_type { /* ids of the specification */
                 GGUF_U8 = 0,
                 GGUF_I8 = 1,
                 GGUF_U16 = 2,
                 GGUF_I16 = 3,
                 GGUF_U32 = 4,
                 GGUF_I32 = 5,
                 GGUF_F32 = 6,
                 GGUF_BOOL = 7,
                 GGUF_STRING = 8,
                 GGUF_ARRAY = 9,
                 GGUF_U64 = 10,
                 GGUF_I64 = 11,
                 GGUF_F64 = 12
};

struct gguf_kv {
    struct str key;
    enum gguf_type type; /* of the value; GGUF_ARRAY: see elem */
    enum gguf_type elem; /* of an array's elements (arrays of arrays are refused) */
    uint64_t count;      /* elements of an array, 1 otherwise */
    const void *data; /* borrowed: first value, unaligned, little-endian; read it with the functions
                         below */
    const struct str *strings; /* owned by the gguf: elements of a string or string array */
};

struct gguf_tensor {
    struct str name;
    enum qtype type;
    int n_dims;       /* 1..4 */
    uint64_t ne[4];   /* ne[0] is the fastest; unused are 1. A matrix [n_out, n_in] has ne = {n_in,
                         n_out} */
    const void *data; /* borrowed; aligned as the file says */
    size_t bytes;
};

struct gguf; /* opaque */

enum err gguf_open(struct gguf **out, const char *path, struct errmsg *why) MUST_CHECK;
void gguf_close(struct gguf *g); /* NULL is fine */

const char *gguf_path(const struct gguf *g);
uint64_t gguf_file_bytes(const struct gguf *g); /* of all parts */
size_t gguf_n_kv(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i);
const struct gguf_kv *gguf_kv(const struct gguf *g, const char *key); /* NULL: absent */
size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name); /* NULL: absent */

/* Typed reads. False: absent, or of another kind (*out untouched). Integers of any width convert
 * when the value fits; floats convert between widths; an integer is accepted where a float is asked
 * for. */
bool gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out);
bool gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out);
bool gguf_get_i64(const struct gguf *g, const char *key, int64_t *out);
bool gguf_get_f32(const struct gguf *g, const char *key, float *out);
bool gguf_get_bool(const struct gguf *g, const char *key, bool *out);
bool gguf_get_str(const struct gguf *g, const char *key, struct str *out);
/* Element i of an array (or the scalar itself for i == 0), with the same conversions. */
bool gguf_elem_u64(const struct gguf_kv *kv, uint64_t i, uint64_t *out);
bool gguf_elem_i64(const struct gguf_kv *kv, uint64_t i, int64_t *out);
bool gguf_elem_f32(const struct gguf_kv *kv, uint64_t i, float *out);
bool gguf_elem_str(const struct gguf_kv *kv, uint64_t i, struct str *out);

#endif
