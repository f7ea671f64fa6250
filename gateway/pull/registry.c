/* registry.c - manifests and tokens. */
#include "gateway/pull/registry.h"
#include "gateway/auth/host.h"
#include "shared/base/json.h"
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char accepted[] = "application/vnd.docker.distribution.manifest.v2+json, "
                               "application/vnd.oci.image.manifest.v1+json";

enum err registry_open(struct registry *r, struct fetcher *f, const char *base,
                       const char *user_token, bool insecure_http, struct errmsg *why)
{
    char host[256];
    *r = (struct registry){.fetcher = f, .insecure_http = insecure_http};
    int n = snprintf(r->base, sizeof(r->base), "%s%s", strstr(base, "://") ? "" : "https://", base);
    if (n < 0 || n >= (int)sizeof(r->base) || strpbrk(base, " ?#"))
        return err_set(why, ERR_INVALID,
                       "--registry %.100s: expected https://HOST[:PORT][/PATH], nothing more",
                       base);
    while (n > 0 && r->base[n - 1] == '/')
        r->base[--n] = '\0';
    if (user_token && strlen(user_token) >= sizeof(r->user_token))
        return err_set(why, ERR_RANGE, "the token has more than %zu bytes",
                       sizeof(r->user_token) - 1);
    snprintf(r->user_token, sizeof(r->user_token), "%s", user_token ? user_token : "");
    return fetch_check_url(r->base, insecure_http, host, why);
}

const char *registry_token(const struct registry *r)
{
    return r->got_token[0] ? r->got_token : r->user_token[0] ? r->user_token : NULL;
}

/* ---- tokens ------------------------------------------------------------------------------- */

/* The value of NAME="..." in a challenge (RFC 7235); no escapes, which nobody uses in these. */
static bool challenge_value(char *out, size_t size, const char *challenge, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = challenge; (p = strcasestr(p, name)); p += n) {
        const char *end;
        bool starts = p == challenge || p[-1] == ' ' || p[-1] == ',';
        if (!starts || p[n] != '=' || p[n + 1] != '"' || !(end = strchr(p + n + 2, '"')))
            continue;
        size_t length = (size_t)(end - (p + n + 2));
        if (length >= size)
            return false;
        memcpy(out, p + n + 2, length);
        out[length] = '\0';
        return true;
    }
    return false;
}

static void put_query(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "%c%s=", out->p && strchr(out->p, '?') ? '&' : '?', name);
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~:/", c);
        buf_printf(out, plain ? "%c" : "%%%02X", c);
    }
}

static bool read_token(struct registry *r, const struct buf *text)
{
    struct arena a;
    struct json *root = NULL;
    const struct json *v = NULL;
    arena_init(&a, 1 << 20);
    if (text->n && json_parse(&root, &a, text->p, text->n, NULL, NULL) == ERR_OK) {
        v = json_get(root, "token");
        v = v ? v : json_get(root, "access_token");
    }
    bool ok = json_is(v, JSON_STRING) && v->s.n && v->s.n < sizeof(r->got_token) &&
              !memchr(v->s.p, '\0', v->s.n);
    if (ok) {
        memcpy(r->got_token, v->s.p, v->s.n);
        r->got_token[v->s.n] = '\0';
    }
    arena_fini(&a);
    return ok;
}

const char *registry_renew(void *registry, const struct fetch_head *h)
{
    struct registry *r = registry;
    char realm[400], service[128], scope[256];
    struct buf url = {0}, text = {0};
    struct fetch_result result;
    bool ok = strncasecmp(h->challenge, "bearer ", 7) == 0 && !r->user_token[0] &&
              challenge_value(realm, sizeof(realm), h->challenge, "realm") &&
              name_is_url(str_of(realm));
    if (!ok)
        return NULL;
    buf_puts(&url, realm);
    if (challenge_value(service, sizeof(service), h->challenge, "service"))
        put_query(&url, "service", service);
    if (challenge_value(scope, sizeof(scope), h->challenge, "scope"))
        put_query(&url, "scope", scope);
    r->got_token[0] = '\0';
    struct fetch_request q = {.url = url.p, .accept = "application/json"};
    ok = !url.failed && fetch_text(r->fetcher, &q, 64 << 10, &text, &result, NULL) == ERR_OK &&
         read_token(r, &text);
    buf_fini(&url);
    buf_fini(&text);
    return ok ? r->got_token : NULL;
}

/* ---- manifests ---------------------------------------------------------------------------- */

static enum err check_stated_digest(const struct buf *text, const char *stated, struct errmsg *why)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[DIGEST_HEX + 1], promised[DIGEST_HEX + 1];
    if (!stated[0])
        return ERR_OK;
    if (sodium_init() < 0 || !digest_parse(promised, str_of(stated)))
        return err_set(why, ERR_PROTOCOL, "the registry states a digest that is none");
    crypto_hash_sha256(sum, (const unsigned char *)text->p, text->n);
    sodium_bin2hex(hex, sizeof(hex), sum, sizeof(sum));
    if (strcmp(hex, promised) != 0)
        return err_set(why, ERR_PROTOCOL,
                       "the manifest is not what the registry's own digest says (%.12s..., not "
                       "%.12s...)",
                       hex, promised);
    return ERR_OK;
}

static enum err explain(struct registry *r, const struct model_name *n, enum err e,
                        const struct fetch_result *result, const char *fault, struct errmsg *why)
{
    struct buf name = {0};
    name_put(&name, n);
    const char *z = name.p ? name.p : "";
    if (e == ERR_NOT_FOUND && result->head.status)
        (void)err_set(why, e, "%s: there is no such model or tag at %.80s; %.100s", z, r->base,
                      fault);
    else if (e == ERR_DENIED && result->head.status)
        (void)err_set(why, e, "%s: %.120s; %s", z, fault,
                      r->user_token[0]
                          ? "the token in MILLRACE_REGISTRY_TOKEN is not good for it"
                          : "it may not exist, or want a token: set MILLRACE_REGISTRY_TOKEN");
    else
        (void)err_set(why, e, "%s: %.200s", z, fault);
    buf_fini(&name);
    return e;
}

enum err registry_manifest(struct manifest *out, struct arena *a, struct buf *text,
                           struct registry *r, const struct model_name *n, struct errmsg *why)
{
    struct buf url = {0};
    struct fetch_result result;
    struct errmsg fault = {0};
    buf_printf(&url, "%s/v2/%s/%s/manifests/%s", r->base, n->ns, n->model, n->tag);
    if (url.failed)
        return err_set(why, ERR_NOMEM, "out of memory");
    struct fetch_request q = {.url = url.p, .accept = accepted, .bearer = registry_token(r)};
    enum err e = fetch_text(r->fetcher, &q, MANIFEST_MAX_BYTES, text, &result, &fault);
    if (e != ERR_OK && result.head.status == 401 && registry_renew(r, &result.head)) {
        q.bearer = registry_token(r);
        e = fetch_text(r->fetcher, &q, MANIFEST_MAX_BYTES, text, &result, &fault);
    }
    if (e == ERR_OK)
        e = check_stated_digest(text, result.head.digest, &fault);
    if (e == ERR_OK)
        e = manifest_parse(out, a, text->p ? text->p : "", text->n, &fault);
    buf_fini(&url);
    return e == ERR_OK ? e : explain(r, n, e, &result, fault.text, why);
}

void registry_blob_url(struct buf *out, const struct registry *r, const struct model_name *n,
                       const char *hex)
{
    buf_printf(out, "%s/v2/%s/%s/blobs/sha256:%s", r->base, n->ns, n->model, hex);
}
