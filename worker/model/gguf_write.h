/* gguf_write.h - writes a GGUF v3 file: keys, tensor list, then tensor data as a stream.
 *
 *   open -> put keys -> add tensors -> write data of all tensors, in the order added -> finish
 *
 * Promise: the file appears under its name only when it is complete (written beside it, then
 * renamed), so a full disk or a kill leaves nothing that looks like a model. Padding between
 * tensors is the writer's business. Errors: puts and adds can't fail one by one; what went wrong is
 * told by the next write or by finish. Ownership: texts are copied. Thread: one. */
#ifndef MILLRACE_WORKER_MODEL_GGUF_WRITE_H
#define MILLRACE_WORKER_MODEL_GGUF_WRITE_H

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/str.h"
#include "worker/model/gguf.h"

struct gguf_writer; /* opaque */

/* path NULL: keys only, for gguf_writer_head(); end it with gguf_writer_abort(). */
enum err gguf_writer_open(struct gguf_writer **out, const char *path,
                          struct errmsg *why) MUST_CHECK;

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_u64(struct gguf_writer *w, const char *key, uint64_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_str(struct gguf_writer *w, const char *key, struct str v);
void gguf_put_str_array(struct gguf_writer *w, const char *key, const struct str *v, size_t n);
void gguf_put_i32_array(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_put_f32_array(struct gguf_writer *w, const char *key, const float *v, size_t n);

/* The keys so far as a GGUF file without tensors, appended to `out` (readable by
 * gguf_open_memory()): who writes a model reads its own metadata back by the rules of the loader.
 */
enum err gguf_writer_head(const struct gguf_writer *w, struct buf *out,
                          struct errmsg *why) MUST_CHECK;

/* ne[0] is the fastest and a multiple of the type's block. */
void gguf_add_tensor(struct gguf_writer *w, const char *name, enum qtype type, int n_dims,
                     const uint64_t *ne);

/* Appends to the current tensor; the first call ends the list of keys and tensors. A call never
 * crosses the end of a tensor. */
enum err gguf_write_data(struct gguf_writer *w, const void *data, size_t n,
                         struct errmsg *why) MUST_CHECK;

uint64_t gguf_writer_bytes(const struct gguf_writer *w); /* written so far */

/* Takes `w` in any case. The file exists when this returns ERR_OK; ERR_INVALID when data is
 * missing. */
enum err gguf_writer_finish(struct gguf_writer *w, struct errmsg *why) MUST_CHECK;
void gguf_writer_abort(struct gguf_writer *w); /* removes what was written; NULL is fine */

#endif
