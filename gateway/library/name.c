/* name.c - names of models and URLs of GGUF files, taken apart and checked. */
#include "gateway/library/name.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool name_part_ok(struct str s)
{
    if (s.n == 0 || s.n > NAME_PART_MAX || !is_word((unsigned char)s.p[0]))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (!is_word(c) && c != '-' && c != '.')
            return false;
        if (c == '.' && i + 1 < s.n && s.p[i + 1] == '.')
            return false;
    }
    return true;
}

/* A host may carry a port. */
static bool host_ok(struct str s)
{
    const char *colon = memchr(s.p, ':', s.n);
    struct str name = {s.p, colon ? (size_t)(colon - s.p) : s.n};
    uint64_t port;
    if (colon && !str_to_u64((struct str){colon + 1, s.n - name.n - 1}, 65535, &port))
        return false;
    return s.n <= NAME_PART_MAX && name_part_ok(name);
}

static void copy_part(char out[NAME_PART_MAX + 1], struct str s)
{
    memcpy(out, s.p, s.n); /* checked: at most NAME_PART_MAX */
    out[s.n] = '\0';
}

static enum err bad_name(struct str text, struct errmsg *why)
{
    return err_set(why, ERR_INVALID,
                   "'" STR_FMT
                   "' is no name of a model: expected [HOST/][NAMESPACE/]MODEL[:TAG] of "
                   "letters, digits, '_', '-' and '.'",
                   (int)(text.n < 80 ? text.n : 80), text.p);
}

enum err name_parse(struct model_name *out, struct str text, struct errmsg *why)
{
    struct str part[3], tag = STR(NAME_DEFAULT_TAG), rest = text;
    size_t n = 0;
    for (;;) {
        const char *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
        if (n == 3)
            return bad_name(text, why);
        part[n++] = (struct str){rest.p, slash ? (size_t)(slash - rest.p) : rest.n};
        if (!slash)
            break;
        rest = (struct str){slash + 1, rest.n - (size_t)(slash + 1 - rest.p)};
    }
    struct str model = part[n - 1];
    const char *colon = model.n ? memchr(model.p, ':', model.n) : NULL;
    if (colon) {
        tag = (struct str){colon + 1, model.n - (size_t)(colon + 1 - model.p)};
        model.n = (size_t)(colon - model.p);
    }
    struct str ns = n > 1 ? part[n - 2] : STR(NAME_DEFAULT_NS);
    struct str host = n > 2 ? part[0] : STR(NAME_DEFAULT_HOST);
    if (!name_part_ok(model) || !name_part_ok(tag) || !name_part_ok(ns) || !host_ok(host))
        return bad_name(text, why);
    copy_part(out->host, host);
    copy_part(out->ns, ns);
    copy_part(out->model, model);
    copy_part(out->tag, tag);
    return ERR_OK;
}

void name_put(struct buf *out, const struct model_name *n)
{
    bool host = strcmp(n->host, NAME_DEFAULT_HOST) != 0;
    if (host)
        buf_printf(out, "%s/", n->host);
    if (host || strcmp(n->ns, NAME_DEFAULT_NS) != 0)
        buf_printf(out, "%s/", n->ns);
    buf_puts(out, n->model);
    if (strcmp(n->tag, NAME_DEFAULT_TAG) != 0)
        buf_printf(out, ":%s", n->tag);
}

void name_put_path(struct buf *out, const struct model_name *n)
{
    buf_printf(out, "%s/%s/%s/%s", n->host, n->ns, n->model, n->tag);
}

bool name_eq(const struct model_name *a, const struct model_name *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->ns, b->ns) == 0 &&
           strcmp(a->model, b->model) == 0 && strcmp(a->tag, b->tag) == 0;
}

bool digest_parse(char hex[DIGEST_HEX + 1], struct str text)
{
    if (text.n != 7 + DIGEST_HEX || memcmp(text.p, "sha256:", 7) != 0)
        return false;
    for (size_t i = 7; i < text.n; i++) {
        char c = text.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    memcpy(hex, text.p + 7, DIGEST_HEX);
    hex[DIGEST_HEX] = '\0';
    return true;
}

/* ---- URLs --------------------------------------------------------------------------------- */

static size_t scheme_length(struct str s)
{
    if (s.n >= 8 && strncasecmp(s.p, "https://", 8) == 0)
        return 8;
    return s.n >= 7 && strncasecmp(s.p, "http://", 7) == 0 ? 7 : 0;
}

bool name_is_url(struct str text)
{
    return scheme_length(text) > 0;
}

static bool is_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    return true;
}

static uint32_t five_digits(const char *p)
{
    uint32_t v = 0;
    for (int i = 0; i < 5; i++)
        v = v * 10 + (uint32_t)(p[i] - '0');
    return v;
}

/* The naming of split sets: llama.cpp's gguf-split writes PREFIX-%05d-of-%05d.gguf. */
enum { SPLIT_SUFFIX = sizeof("-00001-of-00003.gguf") - 1, GGUF_SUFFIX = sizeof(".gguf") - 1 };

void split_of_file(struct str file, uint32_t *part, uint32_t *n_parts)
{
    *part = *n_parts = 1;
    if (file.n <= SPLIT_SUFFIX)
        return;
    const char *p = file.p + file.n - SPLIT_SUFFIX;
    if (p[0] != '-' || !is_digits(p + 1, 5) || memcmp(p + 6, "-of-", 4) != 0 ||
        !is_digits(p + 10, 5) || memcmp(p + 15, ".gguf", 5) != 0)
        return;
    uint32_t no = five_digits(p + 1), of = five_digits(p + 10);
    if (no < 1 || no > of || of < 2)
        return;
    *part = no;
    *n_parts = of;
}

enum err gguf_url_parse(struct gguf_url *out, struct str text, struct errmsg *why)
{
    size_t scheme = scheme_length(text);
    if (scheme == 0)
        return err_set(why, ERR_INVALID, "a URL starts with https://");
    if (text.n > 2000)
        return err_set(why, ERR_RANGE, "the URL has more than 2000 bytes");
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] <= ' ' || (unsigned char)text.p[i] >= 0x7f)
            return err_set(why, ERR_INVALID,
                           "the URL contains a blank or a byte beyond ASCII: "
                           "write it percent-encoded");
    struct gguf_url u = {.text = text};
    size_t end = text.n;
    for (size_t i = scheme; i < text.n; i++)
        if (text.p[i] == '?' || text.p[i] == '#') {
            end = i;
            break;
        }
    size_t query_end = end;
    while (query_end < text.n && text.p[query_end] != '#') /* a fragment is the browser's */
        query_end++;
    u.query = (struct str){text.p + end, query_end - end};
    size_t host_end = scheme;
    while (host_end < end && text.p[host_end] != '/')
        host_end++;
    if (memchr(text.p + scheme, '@', host_end - scheme))
        return err_set(why, ERR_INVALID,
                       "the URL carries credentials: put a token into "
                       "MILLRACE_URL_TOKEN instead");
    size_t slash = end;
    while (slash > host_end && text.p[slash - 1] != '/')
        slash--;
    u.dir = (struct str){text.p, slash};
    u.file = (struct str){text.p + slash, end - slash};
    if (host_end == scheme || slash <= host_end || u.file.n <= GGUF_SUFFIX ||
        memcmp(u.file.p + u.file.n - GGUF_SUFFIX, ".gguf", GGUF_SUFFIX) != 0)
        return err_set(why, ERR_INVALID,
                       "the URL does not name a GGUF file (https://HOST/PATH/FILE.gguf)");
    split_of_file(u.file, &u.part, &u.n_parts);
    if (u.n_parts > SPLIT_MAX_PARTS)
        return err_set(why, ERR_RANGE, "a split set of more than %d parts", SPLIT_MAX_PARTS);
    u.stem = (struct str){u.file.p, u.file.n - (u.n_parts > 1 ? SPLIT_SUFFIX : GGUF_SUFFIX)};
    *out = u;
    return ERR_OK;
}

void gguf_url_put_file(struct buf *out, const struct gguf_url *u, uint32_t no)
{
    buf_put(out, u->stem.p, u->stem.n);
    if (u->n_parts > 1)
        buf_printf(out, "-%05u-of-%05u", no, u->n_parts);
    buf_puts(out, ".gguf");
}

void gguf_url_put(struct buf *out, const struct gguf_url *u, uint32_t no)
{
    buf_put(out, u->dir.p, u->dir.n);
    gguf_url_put_file(out, u, no);
    buf_put(out, u->query.p, u->query.n);
}
