/* manifest.h - which blobs a model consists of: the JSON that a registry serves and that lies in
 * manifests/.
 *
 *   { "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
 *     "config": {"mediaType": ..., "digest": "sha256:...", "size": 1},
 *     "layers": [ {"mediaType": "application/vnd.ollama.image.model", "digest": ..., "size": ...,
 *                  "annotations": {"org.opencontainers.image.title": "m-00001-of-00002.gguf"}} ],
 *     "millrace": {"source": "https://...", "kind": "registry|url"} }
 *
 * That is the image manifest of Docker and OCI (distribution-spec, image-spec manifest.md) with the
 * layer types that Ollama's registry uses. "millrace" is ours, in the files that we write; readers
 * of such manifests ignore what they don't know. The same reader serves the registry's answers, our
 * own files and an Ollama folder: all of them are strangers' bytes.
 * Promise: a manifest that manifest_parse() returns has at most MANIFEST_MAX_LAYERS layers, digests
 * of 64 hex digits, sizes whose sum does not overflow, and titles that are plain file names.
 * Memory: texts are borrowed from the parsed bytes or live in the arena. Thread: no shared state.
 */
#ifndef MILLRACE_GATEWAY_LIBRARY_MANIFEST_H
#define MILLRACE_GATEWAY_LIBRARY_MANIFEST_H

#include "gateway/library/name.h"
#include "shared/base/arena.h"

enum {
    MANIFEST_MAX_BYTES = 4 << 20, /* what registries accept at most, too */
    MANIFEST_MAX_LAYERS = SPLIT_MAX_PARTS + 24,
};

enum layer_kind {
    LAYER_MODEL,     /* weights: a GGUF file, or a part of one */
    LAYER_PROJECTOR, /* the image encoder of a vision model, GGUF */
    LAYER_ADAPTER,   /* weights over the model's: refused, the answers would differ without */
    LAYER_TENSOR,    /* weights that are not GGUF: refused */
    LAYER_TEMPLATE,  /* a Go template: kept, never used */
    LAYER_SYSTEM,    /* kept, not applied */
    LAYER_PARAMS,    /* kept, not applied */
    LAYER_MESSAGES,  /* kept, not applied */
    LAYER_LICENSE,
    LAYER_CONFIG,
    LAYER_UNKNOWN,
};

struct layer {
    enum layer_kind kind;
    struct str media_type;
    char hex[DIGEST_HEX + 1];
    uint64_t size;
    struct str title; /* file name; empty: none */
};

struct manifest {
    struct layer *layers; /* the config among them, last */
    size_t n_layers;
    uint64_t total_bytes;
    struct str source; /* empty: not one of ours */
    struct str kind;   /* "registry", "url"; empty */
};

/* On failure `why` is one line. Says nothing of whether the layers make a model that can run. */
enum err manifest_parse(struct manifest *out, struct arena *a, const char *p, size_t n,
                        struct errmsg *why) MUST_CHECK;
/* At least one LAYER_MODEL, several only as a whole split set in order, none that is refused. */
enum err manifest_check_model(const struct manifest *m, struct errmsg *why) MUST_CHECK;
void manifest_put(struct buf *out, const struct manifest *m);
const char *layer_kind_name(enum layer_kind kind); /* "model" */
size_t manifest_count(const struct manifest *m, enum layer_kind kind);
const struct layer *manifest_first(const struct manifest *m, enum layer_kind kind); /* or NULL */

#endif
