/* registry.h - what an OCI-style registry is asked (distribution-spec, "Pull"):
 *
 *   GET BASE/v2/NS/MODEL/manifests/TAG         the manifest
 *   GET BASE/v2/NS/MODEL/blobs/sha256:HEX      a blob, mostly by redirect to a file server
 *
 * A registry that wants a token answers 401 with WWW-Authenticate: Bearer realm=...,service=...,
 * scope=...  With a token from the user that one is sent from the start; without, an anonymous one
 * is asked for at the realm, which hands them out for public models.
 * Thread: one. */
#ifndef MILLRACE_GATEWAY_PULL_REGISTRY_H
#define MILLRACE_GATEWAY_PULL_REGISTRY_H

#include "gateway/library/manifest.h"
#include "gateway/pull/fetch.h"

struct registry {
    struct fetcher *fetcher; /* borrowed */
    char base[512];          /* https://HOST[:PORT][/PREFIX], no '/' at the end */
    bool insecure_http;
    char user_token[4096]; /* empty: none */
    char got_token[8192];  /* asked for at the realm; empty: none */
};

/* base: a URL or a bare host. Refuses queries, credentials, and http where it is not allowed. */
enum err registry_open(struct registry *r, struct fetcher *f, const char *base,
                       const char *user_token, bool insecure_http, struct errmsg *why) MUST_CHECK;

const char *registry_token(const struct registry *r); /* NULL: none */
/* After a 401: a token from the realm that it names, or NULL. For blob_source.renew. */
const char *registry_renew(void *registry, const struct fetch_head *h);

/* The manifest's bytes into `text`, parsed into `out` (which borrows from both). Checked against
 * the digest that the registry states. */
enum err registry_manifest(struct manifest *out, struct arena *a, struct buf *text,
                           struct registry *r, const struct model_name *n,
                           struct errmsg *why) MUST_CHECK;

void registry_blob_url(struct buf *out, const struct registry *r, const struct model_name *n,
                       const char *hex);

#endif
