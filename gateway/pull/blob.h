/* blob.h - brings one file into the models directory: resumed, checked, then renamed.
 *
 *   partial/sha256-HEX, partial/url-HEX   bytes from the start of the file, nothing else; locked
 *                                         (flock) by the pull that writes it
 *   partial/url-HEX.json                  of a URL: the validator that these bytes belong to, and,
 *                                         once whole, the blob that they became
 *      │ length and SHA-256 are right, fdatasync
 *      ▼ rename(2), fsync of blobs/
 *   blobs/sha256-HEX
 *
 * Promise: nothing gets into blobs/ unless all of it came and its SHA-256 is the name. kill -9, a
 * full disk, a lost connection leave a partial file, from which the next pull goes on by Range. A
 * wrong digest leaves nothing. A file that another pull is fetching is waited for, then taken as it
 * is. Thread: one. */
#ifndef MILLRACE_GATEWAY_PULL_BLOB_H
#define MILLRACE_GATEWAY_PULL_BLOB_H

#include "gateway/library/library.h"
#include "gateway/pull/fetch.h"

struct blob_source {
    const char *url;
    const char *bearer;   /* NULL: none */
    const char *hex;      /* expected SHA-256; NULL: unknown until it is whole (URLs) */
    const char *promised; /* with hex NULL: what the user says its SHA-256 is; NULL: nothing */
    uint64_t size;        /* expected; UINT64_MAX: the server says */
    uint64_t max_size;    /* 0: no limit of its own */
    bool gguf;            /* must start with GGUF's magic */
    /* Status 401 in mid-pull: a new token (tokens of registries live for minutes), or NULL. NULL is
     * fine. */
    const char *(*renew)(void *user, const struct fetch_head *h);
    void *user;
};

struct blob {
    char hex[DIGEST_HEX + 1];
    uint64_t size;
    uint64_t fetched; /* bytes that came over the network now; 0: it was here */
};

enum err blob_bring(struct blob *out, const struct library *l, struct fetcher *f,
                    struct progress *p, const struct blob_source *s, struct errmsg *why) MUST_CHECK;

/* Room on disk that a blob still needs: its size less what a partial file holds; 0: it is here. */
uint64_t blob_room(const struct library *l, const char *hex, uint64_t size);

/* ERR_FULL with one line when the file system of the models has less room than `bytes`. */
enum err blob_check_room(const struct library *l, uint64_t bytes, struct errmsg *why) MUST_CHECK;

#endif
