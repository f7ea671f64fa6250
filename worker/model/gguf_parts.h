/* gguf_parts.h - the inside of a gguf, shared by gguf*.c; everybody else uses gguf.h.
 *
 *   file:  "GGUF" | version | n_tensors | n_kv | kv ... | tensor info ... | pad | tensor data ...
 *          <------------------- metadata, parsed once ------------------>       ^ data_at
 *
 * A model is one part or several (split files); keys come from the first part, tensors from all. */
#ifndef MILLRACE_WORKER_MODEL_GGUF_PARTS_H
#define MILLRACE_WORKER_MODEL_GGUF_PARTS_H

#include "worker/model/gguf.h"

enum {
    GGUF_KEY_MAX = 65535,     /* specification */
    GGUF_NAME_MAX = 255,      /* the specification says 64; some converters write longer names */
    GGUF_ALIGN_DEFAULT = 32,  /* specification */
    GGUF_ALIGN_MAX = 1 << 20, /* more would only waste the file */
    GGUF_STRINGS_MAX =
        1 << 24, /* elements of one string array; the largest vocabularies have 2^18 */
    GGUF_METADATA_MAX =
        1 << 30, /* bytes of keys and values; bounds what a hostile file can make us allocate */
    GGUF_KV_MAX = 1 << 16,      /* likewise; real files have some fifty keys */
    GGUF_TENSORS_MAX = 1 << 20, /* likewise; the largest have 50,000 (one per expert) */
    GGUF_PARTS_MAX = 99999,     /* five digits in the file names */
};

struct gguf_part {
    const uint8_t *base; /* owned mapping, or borrowed memory when !mapped */
    uint64_t size;
    bool mapped;
    struct gguf_kv *kv; /* owned, in file order; string arrays owned by each entry */
    size_t n_kv;
    struct gguf_tensor
        *tensors; /* owned, in file order; moved into the gguf when all parts are read */
    size_t n_tensors;
};

struct gguf {
    char *path; /* owned; of the first part */
    struct gguf_part *parts;
    size_t n_parts;
    struct gguf_tensor *tensors; /* owned */
    size_t n_tensors;
    uint32_t *kv_by_key, *tensor_by_name; /* owned: indices in ascending order of the text */
};

/* Parses the metadata of one part. `label` names the file in messages. On failure the part may hold
 * memory: gguf_part_fini() frees it in any case. */
enum err gguf_part_parse(struct gguf_part *part, const char *label, struct errmsg *why) MUST_CHECK;
void gguf_part_fini(struct gguf_part *part); /* unmaps too */

/* Maps a regular file read-only. */
enum err gguf_part_map(struct gguf_part *part, const char *path, const char *label,
                       struct errmsg *why) MUST_CHECK;

/* Parses one GGUF that lies in memory (BORROWED until gguf_close()): for fuzzing and tests. A split
 * set is refused. */
enum err gguf_open_memory(struct gguf **out, const void *bytes, size_t n,
                          struct errmsg *why) MUST_CHECK;

/* Bytes of one value of a type; 0 for strings, arrays and unknown types. */
size_t gguf_scalar_bytes(uint32_t type);

#endif
