/* fetch.c - transfers by libcurl. */
#include "gateway/pull/fetch.h"
#include "gateway/auth/host.h"
#include "shared/base/arena.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

enum {
    CONNECT_TIMEOUT_S = 20,
    ERROR_BODY_MAX = 4096,
    FIRST_PAUSE_MS = 500,
    LAST_PAUSE_MS = 30000,
    LONGEST_RETRY_AFTER_S = 120, /* a server that wants more is told goodbye */
};

struct fetcher {
    CURL *curl; /* owned */
    struct fetch_options o;
    bool reached; /* some answer came: later faults of the network may pass */
};

/* One transfer. */
struct transfer {
    struct fetcher *f;
    const struct fetch_request *r;
    struct fetch_result *out;
    struct errmsg *why;
    enum err refused;
    bool head_done;
    uint64_t news_ms; /* when the last byte came */
    int hops;
    struct buf error_body; /* of an answer that is no success */
};

enum err fetcher_open(struct fetcher **out, const struct fetch_options *o, struct errmsg *why)
{
    struct fetcher *f = calloc(1, sizeof(*f));
    if (f && curl_global_init(CURL_GLOBAL_DEFAULT) == 0)
        f->curl = curl_easy_init();
    if (!f || !f->curl) {
        free(f);
        return err_set(why, ERR_NOMEM, "out of memory, or libcurl cannot start");
    }
    f->o = *o;
    *out = f;
    return ERR_OK;
}

void fetcher_close(struct fetcher *f)
{
    if (!f)
        return;
    curl_easy_cleanup(f->curl);
    curl_global_cleanup();
    free(f);
}

/* ---- who may be asked --------------------------------------------------------------------- */

enum err fetch_check_url(const char *url, bool insecure_http, char host[256], struct errmsg *why)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *name = NULL, *user = NULL;
    enum err e = ERR_OK;
    if (!u)
        return err_set(why, ERR_NOMEM, "out of memory");
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_HOST, &name, 0) != CURLUE_OK || strlen(name) > 255)
        e = err_set(why, ERR_INVALID, "%.120s: not a URL", url);
    else if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
        e = err_set(
            why, ERR_INVALID,
            "the URL carries credentials; put a token into MILLRACE_REGISTRY_TOKEN (of a file's "
            "URL: MILLRACE_URL_TOKEN)");
    else if (strcasecmp(scheme, "https") != 0 && strcasecmp(scheme, "http") != 0)
        e = err_set(why, ERR_UNSUPPORTED, "%.120s: only https can be fetched", url);
    else if (strcasecmp(scheme, "http") == 0 && !insecure_http && !host_allowed(str_of(name), NULL))
        e = err_set(why, ERR_DENIED,
                    "%.120s: plain http would let anybody on the way change what is fetched; use "
                    "https, or add --insecure-http",
                    url);
    else
        snprintf(host, 256, "%s", name);
    curl_free(scheme);
    curl_free(name);
    curl_free(user);
    curl_url_cleanup(u);
    return e;
}

/* ---- headers ------------------------------------------------------------------------------ */

static struct str trimmed(const char *p, size_t n)
{
    while (n && (*p == ' ' || *p == '\t')) {
        p++;
        n--;
    }
    while (n && (p[n - 1] == '\r' || p[n - 1] == '\n' || p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    return (struct str){p, n};
}

/* Too long a value is no value: a cut validator would be a wrong one. */
static void keep(char *out, size_t size, struct str v)
{
    if (v.n < size && !memchr(v.p, '\0', v.n)) {
        memcpy(out, v.p, v.n);
        out[v.n] = '\0';
    }
}

/* bytes 5-9/10, bytes 5-9/ * */
static void read_range(struct fetch_head *h, struct str v)
{
    unsigned long long from, to, total;
    char text[96] = "", star;
    keep(text, sizeof(text), v);
    h->range_total = -1;
    if (sscanf(text, "bytes %llu-%llu/%llu", &from, &to, &total) == 3 && total <= INT64_MAX)
        h->range_total = (int64_t)total;
    else if (sscanf(text, "bytes %llu-%llu/%c", &from, &to, &star) != 3 || star != '*')
        return;
    h->has_range = from <= to;
    h->range_from = from;
}

static void read_linked(struct fetch_head *h, struct str v)
{
    if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
        v = (struct str){v.p + 1, v.n - 2};
    if (v.n != 64)
        return;
    for (size_t i = 0; i < v.n; i++)
        if (!((v.p[i] >= '0' && v.p[i] <= '9') || (v.p[i] >= 'a' && v.p[i] <= 'f')))
            return;
    keep(h->linked_sha256, sizeof(h->linked_sha256), v);
}

static void read_header(struct transfer *t, struct str name, struct str v)
{
    struct fetch_head *h = &t->out->head;
    uint64_t n;
#define IS(z) (name.n == sizeof(z) - 1 && strncasecmp(name.p, z, name.n) == 0)
    if (IS("content-length") && str_to_u64(v, INT64_MAX, &n))
        h->length = (int64_t)n;
    else if (IS("content-range"))
        read_range(h, v);
    else if (IS("etag") && v.n && v.p[0] == '"') /* weak ones are no good for If-Range */
        keep(h->etag, sizeof(h->etag), v);
    else if (IS("last-modified"))
        keep(h->modified, sizeof(h->modified), v);
    else if (IS("www-authenticate"))
        keep(h->challenge, sizeof(h->challenge), v);
    else if (IS("docker-content-digest"))
        keep(h->digest, sizeof(h->digest), v);
    else if (IS("x-linked-etag") && t->hops == 1)
        read_linked(h, v);
    else if (IS("retry-after") && str_to_u64(v, 1000000, &n))
        h->retry_after_s = (uint32_t)n;
#undef IS
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    (void)size; /* always 1 */
    struct str line = trimmed(p, n);
    t->news_ms = clock_mono_ms();
    if (line.n >= 9 && memcmp(line.p, "HTTP/", 5) == 0) {
        char linked[65];
        memcpy(linked, t->out->head.linked_sha256, sizeof(linked));
        t->out->head = (struct fetch_head){.length = -1, .range_total = -1};
        memcpy(t->out->head.linked_sha256, linked, sizeof(linked));
        const char *space = memchr(line.p, ' ', line.n);
        t->out->head.status = space ? strtol(space, NULL, 10) : 0;
        t->hops += t->out->head.status >= 200;
        buf_clear(&t->error_body);
        return n;
    }
    const char *colon = memchr(line.p, ':', line.n);
    if (colon)
        read_header(t, (struct str){line.p, (size_t)(colon - line.p)},
                    trimmed(colon + 1, line.n - (size_t)(colon + 1 - line.p)));
    return n;
}

/* ---- the body ----------------------------------------------------------------------------- */

static bool is_success(long status)
{
    return status == 200 || status == 206;
}

static bool begin_body(struct transfer *t)
{
    if (!t->head_done && t->r->on_head)
        t->refused = t->r->on_head(t->r->user, &t->out->head, t->why);
    t->head_done = true;
    return t->refused == ERR_OK;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    (void)size;
    t->news_ms = clock_mono_ms();
    if (!is_success(t->out->head.status)) {
        size_t room = ERROR_BODY_MAX - t->error_body.n;
        buf_put(&t->error_body, p, n < room ? n : room);
        return n;
    }
    if (!begin_body(t))
        return 0;
    t->refused = t->r->on_body(t->r->user, p, n, t->why);
    return t->refused == ERR_OK ? n : 0;
}

static int on_tick(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct transfer *t = user;
    (void)a, (void)b, (void)c, (void)d;
    progress_tick(t->f->o.progress);
    /* libcurl's own low-speed limit averages over seconds, and so comes late. */
    return clock_mono_ms() - t->news_ms > (uint64_t)t->f->o.stall_s * 1000;
}

/* ---- what a failure means ----------------------------------------------------------------- */

static bool may_pass(const struct fetcher *f, CURLcode rc)
{
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return f->reached; /* a mistyped host should say so at once */
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_ABORTED_BY_CALLBACK: /* on_tick: it stood still */
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
        return true;
    default:
        return false;
    }
}

/* What the server says of its refusal, on one short line: registries answer
 * {"errors":[{"message"}]} or {"error":"..."}. */
static void server_words(char *out, size_t size, const struct buf *body)
{
    struct arena a;
    struct json *root = NULL;
    const struct json *v = NULL;
    out[0] = '\0';
    arena_init(&a, 1 << 20);
    if (body->n && json_parse(&root, &a, body->p, body->n, NULL, NULL) == ERR_OK) {
        v = json_get(json_at(json_get(root, "errors"), 0), "message");
        v = v ? v : json_get(root, "error");
        if (json_is(v, JSON_STRING) && v->s.n)
            snprintf(out, size, " (it says: %.*s)", (int)(v->s.n < 100 ? v->s.n : 100), v->s.p);
    }
    arena_fini(&a);
}

static enum err status_fault(struct transfer *t, const char *host)
{
    long status = t->out->head.status;
    char words[128];
    server_words(words, sizeof(words), &t->error_body);
    t->out->retry = status == 408 || status == 425 || status == 429 || status >= 500;
    switch (status) {
    case 401:
    case 403:
        return err_set(t->why, ERR_DENIED, "%s refuses: status %ld%s", host, status, words);
    case 404:
    case 410:
        return err_set(t->why, ERR_NOT_FOUND, "%s does not have it: status %ld%s", host, status,
                       words);
    case 416:
        return err_set(t->why, ERR_RANGE, "%s cannot go on from byte %llu: status 416", host,
                       (unsigned long long)t->r->from);
    case 429:
        return err_set(t->why, ERR_AGAIN, "%s asks to slow down: status 429%s", host, words);
    default:
        return err_set(t->why, status >= 500 ? ERR_AGAIN : ERR_IO, "%s answers with status %ld%s",
                       host, status, words);
    }
}

static enum err transfer_fault(struct transfer *t, CURLcode rc, const char *host,
                               const char *detail)
{
    struct fetcher *f = t->f;
    t->out->retry = may_pass(f, rc);
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(t->why, ERR_NOT_FOUND, "%s: there is no host of this name", host);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(t->why, ERR_TIMEOUT, "%s: no connection within %d s", host,
                       CONNECT_TIMEOUT_S);
    case CURLE_ABORTED_BY_CALLBACK:
        return err_set(t->why, ERR_TIMEOUT, "%s: nothing came for %u s", host, f->o.stall_s);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
        return err_set(t->why, ERR_CLOSED, "%s: the connection ended early", host);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(
            t->why, ERR_DENIED,
            "%s: its certificate cannot be verified (%.60s); a private authority: --ca-file", host,
            detail);
    case CURLE_TOO_MANY_REDIRECTS:
        return err_set(t->why, ERR_IO, "%s: more than %d redirects", host, FETCH_MAX_REDIRECTS);
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(t->why, ERR_DENIED, "%s: it redirects to what is not https: not followed",
                       host);
    default:
        return err_set(t->why, ERR_IO, "%s: %.140s", host, detail);
    }
}

/* ---- one GET ------------------------------------------------------------------------------ */

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    struct buf b = {0};
    struct curl_slist *longer = NULL;
    if (!value)
        return true;
    buf_printf(&b, "%s: %s", name, value);
    if (!b.failed)
        longer = curl_slist_append(*list, b.p);
    buf_fini(&b);
    if (longer)
        *list = longer;
    return longer != NULL;
}

static bool set_options(struct transfer *t, struct curl_slist *headers, char *detail)
{
    CURL *c = t->f->curl;
    const struct fetch_options *o = &t->f->o;
    const struct fetch_request *r = t->r;
    bool tls = strncasecmp(r->url, "https:", 6) == 0, ok = true;
    char range[32];
    curl_easy_reset(c);
#define SET(option, value) ok = ok && curl_easy_setopt(c, CURLOPT_##option, value) == CURLE_OK
    SET(URL, r->url);
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(PROTOCOLS_STR, tls ? "https" : "http");
    SET(REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
#else /* before 7.85 they were bits */
    SET(PROTOCOLS, tls ? (long)CURLPROTO_HTTPS : (long)CURLPROTO_HTTP);
    SET(REDIR_PROTOCOLS, (long)CURLPROTO_HTTPS | (tls ? 0L : (long)CURLPROTO_HTTP));
#endif
    SET(FOLLOWLOCATION, 1L);
    SET(MAXREDIRS, (long)FETCH_MAX_REDIRECTS);
    SET(HTTPHEADER, headers);
    SET(USERAGENT, o->user_agent);
    SET(NOSIGNAL, 1L);
    SET(SSL_VERIFYPEER, 1L);
    SET(SSL_VERIFYHOST, 2L);
    if (o->ca_file)
        SET(CAINFO, o->ca_file);
    SET(CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    SET(TCP_KEEPALIVE, 1L);
    SET(BUFFERSIZE, 512L * 1024);
    SET(SUPPRESS_CONNECT_HEADERS, 1L);
    SET(HEADERFUNCTION, on_header);
    SET(HEADERDATA, t);
    SET(WRITEFUNCTION, on_body);
    SET(WRITEDATA, t);
    SET(NOPROGRESS, 0L);
    SET(XFERINFOFUNCTION, on_tick);
    SET(XFERINFODATA, t);
    SET(ERRORBUFFER, detail);
    if (r->from > 0) {
        /* Not RESUME_FROM: what a server does with the request is for on_head to judge. */
        snprintf(range, sizeof(range), "%llu-", (unsigned long long)r->from);
        SET(RANGE, range);
    }
#undef SET
    return ok;
}

enum err fetch_get(struct fetcher *f, const struct fetch_request *r, struct fetch_result *out,
                   struct errmsg *why)
{
    char host[256], detail[CURL_ERROR_SIZE] = "", token[4200];
    struct curl_slist *headers = NULL;
    struct transfer t = {.f = f, .r = r, .out = out, .why = why, .news_ms = clock_mono_ms()};
    *out = (struct fetch_result){.head = {.length = -1, .range_total = -1}};
    enum err e = fetch_check_url(r->url, f->o.insecure_http, host, why);
    if (e)
        return e;
    bool ok = add_header(&headers, "Accept", r->accept) &&
              add_header(&headers, "If-Range", r->from ? r->if_range : NULL) &&
              add_header(&headers, "If-None-Match", r->if_none_match);
    if (r->bearer) {
        int n = snprintf(token, sizeof(token), "Bearer %s", r->bearer);
        if (n >= (int)sizeof(token) || strpbrk(r->bearer, "\r\n"))
            e = err_set(why, ERR_INVALID, "the token is longer than 4 kB or has line breaks");
        /* libcurl sends Authorization to the first host only (CURLOPT_UNRESTRICTED_AUTH is off). */
        ok = ok && e == ERR_OK && add_header(&headers, "Authorization", token);
    }
    if (e == ERR_OK && (!ok || !set_options(&t, headers, detail)))
        e = err_set(why, ERR_NOMEM, "libcurl refuses a setting: out of memory, or too old");
    if (e == ERR_OK) {
        CURLcode rc = curl_easy_perform(f->curl);
        f->reached = f->reached || out->head.status != 0;
        if (rc == CURLE_OK && is_success(out->head.status))
            (void)begin_body(&t); /* an empty body calls nothing */
        if (t.refused) {
            e = t.refused;
            out->refused = true;
        } else if (rc != CURLE_OK) {
            e = transfer_fault(&t, rc, host, detail[0] ? detail : curl_easy_strerror(rc));
        } else if (!is_success(out->head.status) && out->head.status != 304) {
            e = status_fault(&t, host);
        }
    }
    curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    buf_fini(&t.error_body);
    return e;
}

/* ---- again -------------------------------------------------------------------------------- */

static void wait_ms(struct fetcher *f, uint64_t ms)
{
    uint64_t end = clock_mono_ms() + ms;
    for (uint64_t now; (now = clock_mono_ms()) < end;) {
        uint64_t left = end - now < 200 ? end - now : 200;
        struct timespec t = {0, (long)left * 1000000};
        nanosleep(&t, NULL);
        progress_tick(f->o.progress);
    }
}

bool fetch_again(struct fetcher *f, struct fetch_patience *p, const struct fetch_result *r,
                 const char *fault)
{
    if (!r->retry || p->failures >= f->o.retries || r->head.retry_after_s > LONGEST_RETRY_AFTER_S)
        return false;
    uint64_t pause = (uint64_t)FIRST_PAUSE_MS << (p->failures < 10 ? p->failures : 10);
    pause = pause < LAST_PAUSE_MS ? pause : LAST_PAUSE_MS;
    if (r->head.retry_after_s)
        pause = (uint64_t)r->head.retry_after_s * 1000;
    p->failures++;
    progress_note(f->o.progress, "%s; trying again in %.1f s (%u of %u)", fault,
                  (double)pause / 1000, p->failures, f->o.retries);
    wait_ms(f, pause);
    return true;
}

struct text_sink {
    struct buf *out;
    size_t max;
};

static enum err text_head(void *user, const struct fetch_head *h, struct errmsg *why)
{
    struct text_sink *s = user;
    buf_clear(s->out);
    if (h->length > (int64_t)s->max)
        return err_set(why, ERR_RANGE, "the answer has %lld bytes, more than the %zu allowed",
                       (long long)h->length, s->max);
    return ERR_OK;
}

static enum err text_body(void *user, const void *p, size_t n, struct errmsg *why)
{
    struct text_sink *s = user;
    if (n > s->max - s->out->n)
        return err_set(why, ERR_RANGE, "the answer has more than the %zu bytes allowed", s->max);
    buf_put(s->out, p, n);
    return s->out->failed ? err_set(why, ERR_NOMEM, "out of memory") : ERR_OK;
}

enum err fetch_text(struct fetcher *f, struct fetch_request *r, size_t max, struct buf *out,
                    struct fetch_result *result, struct errmsg *why)
{
    struct text_sink sink = {out, max};
    struct fetch_patience patience = {0};
    struct errmsg fault = {0};
    enum err e;
    r->on_head = text_head;
    r->on_body = text_body;
    r->user = &sink;
    do
        e = fetch_get(f, r, result, &fault);
    while (e != ERR_OK && fetch_again(f, &patience, result, fault.text));
    return e == ERR_OK ? e : err_set(why, e, "%s", fault.text);
}
