/* fetch.h - one HTTP GET at a time, by libcurl: who is asked, what may follow, what a failure
 * means.
 *
 * Rules that hold for every transfer:
 *   - https only; http is for loopback, or where the user said --insecure-http. A redirect from
 *     https never leads to http, at most FETCH_MAX_REDIRECTS are followed, none to another scheme.
 *   - TLS is always verified (--ca-file names other roots).
 *   - the token goes to the host that was asked, never along a redirect to another one.
 *   - proxies are libcurl's: https_proxy, http_proxy, ALL_PROXY, NO_PROXY.
 *   - a transfer that stands still for stall_s seconds fails.
 * libcurl is a guest of this module alone. Thread: one. */
#ifndef MILLRACE_GATEWAY_PULL_FETCH_H
#define MILLRACE_GATEWAY_PULL_FETCH_H

#include "gateway/pull/progress.h"
#include "shared/base/buf.h"

enum { FETCH_MAX_REDIRECTS = 5, FETCH_TEXT_MAX = 160 };

struct fetch_options {
    const char *ca_file; /* NULL: the system's */
    const char *user_agent;
    uint32_t stall_s;
    uint32_t retries;          /* attempts in a row that bring nothing new */
    bool insecure_http;        /* http to others than loopback */
    struct progress *progress; /* borrowed */
};

struct fetcher; /* owns one libcurl handle: connections are kept and used again */

enum err fetcher_open(struct fetcher **out, const struct fetch_options *o,
                      struct errmsg *why) MUST_CHECK;
void fetcher_close(struct fetcher *f); /* NULL is fine */

/* What came before the body. Of several responses (redirects) the last one's, but for `linked_*`.
 */
struct fetch_head {
    long status;
    int64_t length;                          /* of this body; -1: not stated */
    bool has_range;                          /* Content-Range could be read: */
    uint64_t range_from;                     /* its first byte */
    int64_t range_total;                     /* of the whole file; -1: '*' */
    char etag[FETCH_TEXT_MAX], modified[64]; /* strong validators only; empty: none */
    char challenge[512];                     /* WWW-Authenticate */
    char digest[80];                         /* Docker-Content-Digest */
    char linked_sha256[65]; /* X-Linked-ETag of the host that was asked, when it is a SHA-256: how
                               Hugging Face states the digest of a file that another host serves */
    uint32_t retry_after_s; /* 0: none */
};

struct fetch_request {
    const char *url;
    const char *accept;        /* NULL: none */
    const char *bearer;        /* NULL: no token */
    uint64_t from;             /* > 0: Range: bytes=from- */
    const char *if_range;      /* validator for `from`; NULL: none */
    const char *if_none_match; /* NULL: none */
    /* Called once before the first byte of a body with status 200 or 206, and for an empty one. An
     * error ends the transfer with it. NULL is fine. */
    enum err (*on_head)(void *user, const struct fetch_head *h, struct errmsg *why);
    enum err (*on_body)(void *user, const void *p, size_t n, struct errmsg *why);
    void *user;
};

struct fetch_result {
    struct fetch_head head;
    bool retry;   /* another attempt may do better */
    bool refused; /* on_head or on_body ended it */
};

/* ERR_OK: status 200, 206 or 304, and the body came whole as far as HTTP can tell. Else `why` is
 * one line that names the host, never the token or a redirect's query. */
enum err fetch_get(struct fetcher *f, const struct fetch_request *r, struct fetch_result *out,
                   struct errmsg *why) MUST_CHECK;

/* Between attempts: waits with growing pauses (or as Retry-After says), says so, and counts. false:
 * no further attempt is due. */
struct fetch_patience {
    uint32_t failures; /* in a row; set 0 when something new came */
};
bool fetch_again(struct fetcher *f, struct fetch_patience *p, const struct fetch_result *r,
                 const char *fault);

/* Whole body into `out`, at most `max` bytes, with attempts. */
enum err fetch_text(struct fetcher *f, struct fetch_request *r, size_t max, struct buf *out,
                    struct fetch_result *result, struct errmsg *why) MUST_CHECK;

/* Checks scheme and host by the rule above; host is copied out (NUL-terminated, at most 255). */
enum err fetch_check_url(const char *url, bool insecure_http, char host[256],
                         struct errmsg *why) MUST_CHECK;

#endif
