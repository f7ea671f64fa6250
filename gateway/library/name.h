/* name.h - what people call models: [HOST/][NAMESPACE/]MODEL[:TAG], and URLs of GGUF files.
 *
 *   qwen2.5:0.5b                         registry.ollama.ai/library/qwen2.5:0.5b
 *   someone/model                        registry.ollama.ai/someone/model:latest
 *   hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0      a registry of its own
 *   https://host/dir/model-Q4_K_M.gguf   one file, or all parts of NAME-00001-of-0000N.gguf
 *
 * Promise: every part of a parsed name is safe as one component of a path and of a URL: letters,
 * digits, '_', '-', '.', starting with a letter, digit or '_', without "..", at most 80 bytes.
 * Pure functions of their text; no memory is owned. Thread: no shared state. */
#ifndef MILLRACE_GATEWAY_LIBRARY_NAME_H
#define MILLRACE_GATEWAY_LIBRARY_NAME_H

#include "shared/base/buf.h"
#include "shared/base/str.h"

#define NAME_DEFAULT_HOST "registry.ollama.ai"
#define NAME_DEFAULT_NS   "library"
#define NAME_DEFAULT_TAG  "latest"

enum { NAME_PART_MAX = 80, SPLIT_MAX_PARTS = 1000 };

struct model_name {
    char host[NAME_PART_MAX + 1]; /* may carry :PORT */
    char ns[NAME_PART_MAX + 1];
    char model[NAME_PART_MAX + 1];
    char tag[NAME_PART_MAX + 1];
};

/* Defaults are filled in. ERR_INVALID with one line in `why`. */
enum err name_parse(struct model_name *out, struct str text, struct errmsg *why) MUST_CHECK;
/* The shortest text that parses to the same name; :latest is left out. */
void name_put(struct buf *out, const struct model_name *n);
/* HOST/NS/MODEL/TAG: where a manifest lies below manifests/. */
void name_put_path(struct buf *out, const struct model_name *n);
bool name_eq(const struct model_name *a, const struct model_name *b);
/* `s` may stand as one component of a path: see above. */
bool name_part_ok(struct str s);

/* "sha256:" and 64 lowercase hex digits. */
enum { DIGEST_HEX = 64 };
bool digest_parse(char hex[DIGEST_HEX + 1], struct str text);

bool name_is_url(struct str text); /* http:// or https:// in any case of letters */

struct gguf_url {
    struct str text;        /* borrowed: the whole */
    struct str dir;         /* up to and with the last '/' of the path */
    struct str file;        /* the file's name, with .gguf */
    struct str query;       /* from '?' on; may be empty */
    struct str stem;        /* the file's name without -0000N-of-0000M and .gguf */
    uint32_t part, n_parts; /* from 1; 1 of 1 where the file is no part of a split set */
};

/* Refuses what is no http(s) URL of a *.gguf file, credentials inside the URL, and control bytes.
 */
enum err gguf_url_parse(struct gguf_url *out, struct str text, struct errmsg *why) MUST_CHECK;
/* File name and URL of part `no` (from 1). */
void gguf_url_put_file(struct buf *out, const struct gguf_url *u, uint32_t no);
void gguf_url_put(struct buf *out, const struct gguf_url *u, uint32_t no);
/* NAME-00002-of-00003.gguf: its number and count; 1 of 1 for every other name. */
void split_of_file(struct str file, uint32_t *part, uint32_t *n_parts);

#endif
