/* take.c - from what was asked for to a name in the library. */
#include "gateway/library/files.h"
#include "gateway/pull/pull.h"
#include "shared/base/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { SMALL_LAYER_MAX = 16 << 20 }; /* licenses, templates: the longest known has 50 kB */

static const char *env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static bool is_hugging_face(const char *host)
{
    return strcasecmp(host, "hf.co") == 0 || strcasecmp(host, "huggingface.co") == 0;
}

static enum err local_name(struct model_name *out, const struct puller *p, struct str derived,
                           struct errmsg *why)
{
    struct errmsg fault = {0};
    enum err e = name_parse(out, p->as ? str_of(p->as) : derived, &fault);
    if (e != ERR_OK)
        return err_set(why, e, "%s%s", fault.text, p->as ? "" : "; choose one with --as NAME");
    return ERR_OK;
}

/* A name keeps meaning the same thing: nothing is put under a name that came from elsewhere. */
static enum err check_name_is_free(const struct puller *p, const struct model_name *n,
                                   const char *kind, const char *source, struct errmsg *why)
{
    struct arena a;
    struct manifest m = {0};
    arena_init(&a, 64 << 20);
    enum err e = library_read(&m, &a, &p->library, n, NULL);
    bool ours = str_is(m.kind, kind) && (strcmp(kind, "registry") == 0 || str_is(m.source, source));
    struct buf name = {0};
    name_put(&name, n);
    if (e == ERR_OK && !ours)
        e = err_set(why, ERR_EXISTS,
                    "'%s' is here already, from %.*s; choose another name with --as, or remove it "
                    "with millrace rm",
                    name.p ? name.p : "", (int)(m.source.n < 100 ? m.source.n : 100),
                    m.source.n ? m.source.p : "");
    else
        e = ERR_OK; /* a damaged manifest is replaced */
    buf_fini(&name);
    arena_fini(&a);
    return e;
}

/* ---- from a registry ---------------------------------------------------------------------- */

static enum err open_registry(struct registry *r, const struct puller *p,
                              const struct model_name *n, struct errmsg *why)
{
    char base[NAME_PART_MAX + 16];
    if (strcmp(n->host, NAME_DEFAULT_HOST) == 0)
        return registry_open(r, p->fetcher,
                             p->registry ? p->registry : "https://" NAME_DEFAULT_HOST,
                             env("MILLRACE_REGISTRY_TOKEN"), p->insecure_http, why);
    if (p->registry_given)
        return err_set(why, ERR_INVALID,
                       "the name says its registry itself (%s): leave it or --registry out",
                       n->host);
    snprintf(base, sizeof(base), "https://%s", n->host);
    if (is_hugging_face(n->host))
        return registry_open(r, p->fetcher, env("HF_ENDPOINT") ? env("HF_ENDPOINT") : base,
                             env("HF_TOKEN"), p->insecure_http, why);
    /* The token of one registry is no business of another that a name mentions. */
    return registry_open(r, p->fetcher, base, NULL, p->insecure_http, why);
}

/* Drops what is not taken, refuses what can't be a model. */
static enum err choose_layers(struct puller *p, struct manifest *m, struct errmsg *why)
{
    size_t kept = 0;
    enum err e = manifest_check_model(m, why);
    if (e != ERR_OK)
        return e;
    m->total_bytes = 0;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct layer *l = &m->layers[i];
        if (l->kind == LAYER_UNKNOWN) {
            progress_note(&p->progress, "a layer of unknown type '%.*s' is left out",
                          (int)(l->media_type.n < 80 ? l->media_type.n : 80),
                          l->media_type.n ? l->media_type.p : "");
            continue;
        }
        if (l->kind != LAYER_MODEL && l->kind != LAYER_PROJECTOR && l->size > SMALL_LAYER_MAX)
            return err_set(why, ERR_RANGE, "its %s layer has %llu bytes, more than the %d allowed",
                           layer_kind_name(l->kind), (unsigned long long)l->size, SMALL_LAYER_MAX);
        m->total_bytes += l->size; /* no overflow: the sum of all was checked */
        m->layers[kept++] = *l;
    }
    m->n_layers = kept;
    return ERR_OK;
}

static enum err check_room(const struct puller *p, const struct manifest *m, struct errmsg *why)
{
    uint64_t need = 0;
    for (size_t i = 0; i < m->n_layers; i++)
        need += blob_room(&p->library, m->layers[i].hex, m->layers[i].size);
    return blob_check_room(&p->library, need, why);
}

static void announce(struct puller *p, const char *what, const char *from, uint64_t bytes,
                     size_t files)
{
    struct buf size = {0};
    put_bytes(&size, bytes);
    progress_note(&p->progress, "%s from %s: %zu file%s, %s", what, from, files,
                  files == 1 ? "" : "s", size.p ? size.p : "");
    buf_fini(&size);
}

/* Names what came along and is not used, so that nobody takes it for applied. */
static void note_unused(struct puller *p, const struct manifest *m)
{
    const struct layer *params = manifest_first(m, LAYER_PARAMS);
    struct buf text = {0}, path = {0}, keys = {0};
    struct json *root = NULL;
    struct arena a;
    arena_init(&a, 16 << 20);
    if (params) {
        library_blob_path(&path, &p->library, params->hex);
        if (!path.failed && files_read(&text, path.p, SMALL_LAYER_MAX, NULL) == ERR_OK &&
            json_parse(&root, &a, text.p ? text.p : "", text.n, NULL, NULL) == ERR_OK &&
            json_is(root, JSON_OBJECT))
            for (const struct json *v = root->list.first; v && keys.n < 200; v = v->next)
                buf_printf(&keys, "%s" STR_FMT, keys.n ? ", " : " (", STR_ARG(v->key));
        struct errmsg safe; /* the keys are a stranger's: control bytes become '?' */
        (void)err_set(&safe, ERR_OK, "%s%s", keys.n ? keys.p : "", keys.n ? ")" : "");
        progress_note(&p->progress, "its params layer%s is kept, not applied: requests say so",
                      safe.text);
    }
    if (manifest_first(m, LAYER_SYSTEM))
        progress_note(&p->progress, "its system prompt is kept, not applied: requests say so");
    if (manifest_first(m, LAYER_TEMPLATE))
        progress_note(&p->progress, "its Go template is kept, not used: the chat template inside "
                                    "the GGUF file is");
    arena_fini(&a);
    buf_fini(&text);
    buf_fini(&path);
    buf_fini(&keys);
}

static enum err bring_layers(struct pulled *out, struct puller *p, struct registry *r,
                             const struct model_name *remote, const struct manifest *m,
                             struct errmsg *why)
{
    enum err e = ERR_OK;
    p->progress.total = m->total_bytes;
    for (size_t i = 0; e == ERR_OK && i < m->n_layers; i++) {
        const struct layer *l = &m->layers[i];
        struct buf url = {0};
        struct blob blob;
        struct errmsg fault = {0};
        registry_blob_url(&url, r, remote, l->hex);
        const struct blob_source s = {
            .url = url.p,
            .bearer = registry_token(r),
            .hex = l->hex,
            .size = l->size,
            .gguf = l->kind == LAYER_MODEL || l->kind == LAYER_PROJECTOR,
            .renew = registry_renew,
            .user = r,
        };
        snprintf(p->progress.label, sizeof(p->progress.label), "%s", layer_kind_name(l->kind));
        e = url.failed ? err_set(&fault, ERR_NOMEM, "out of memory")
                       : blob_bring(&blob, &p->library, p->fetcher, &p->progress, &s, &fault);
        if (e == ERR_OK)
            out->fetched += blob.fetched;
        else
            (void)err_set(why, e, "the %s sha256:%.12s...: %.190s", layer_kind_name(l->kind),
                          l->hex, fault.text);
        buf_fini(&url);
    }
    progress_end(&p->progress);
    return e;
}

enum err take_name(struct pulled *out, struct puller *p, const char *text, struct errmsg *why)
{
    struct model_name remote;
    struct registry *r = calloc(1, sizeof(*r));
    struct manifest m = {0};
    struct buf body = {0};
    struct errmsg fault = {0};
    struct arena a;
    arena_init(&a, 64 << 20);
    *out = (struct pulled){.bytes = 0};
    enum err e =
        r ? name_parse(&remote, str_of(text), why) : err_set(why, ERR_NOMEM, "out of memory");
    if (e == ERR_OK && p->sha256)
        e = err_set(why, ERR_INVALID, "--sha256 is for URLs: a registry's manifest has digests");
    if (e == ERR_OK)
        e = local_name(&out->name, p, str_of(text), why);
    if (e == ERR_OK)
        e = open_registry(r, p, &remote, why);
    if (e == ERR_OK)
        e = check_name_is_free(p, &out->name, "registry", "", why);
    if (e == ERR_OK)
        e = registry_manifest(&m, &a, &body, r, &remote, why);
    if (e == ERR_OK && (e = choose_layers(p, &m, &fault)) != ERR_OK)
        (void)err_set(why, e, "%.100s: %s", text, fault.text);
    if (e == ERR_OK)
        e = check_room(p, &m, why);
    if (e == ERR_OK) {
        announce(p, text, r->base, m.total_bytes, m.n_layers);
        e = bring_layers(out, p, r, &remote, &m, why);
    }
    if (e == ERR_OK) {
        struct buf source = {0};
        buf_printf(&source, "%s/v2/%s/%s/manifests/%s", r->base, remote.ns, remote.model,
                   remote.tag);
        m.kind = STR("registry");
        m.source = (struct str){source.p, source.n};
        e = library_save(&p->library, &out->name, &m, why);
        buf_fini(&source);
    }
    if (e == ERR_OK)
        note_unused(p, &m);
    out->bytes = m.total_bytes;
    arena_fini(&a);
    buf_fini(&body);
    free(r);
    return e;
}

/* ---- from a URL --------------------------------------------------------------------------- */

static enum err bring_part(struct layer *out, uint64_t *fetched, struct puller *p,
                           const struct gguf_url *u, uint32_t no, const char *token,
                           struct arena *a, struct errmsg *why)
{
    struct buf url = {0}, file = {0};
    struct blob blob;
    struct errmsg fault = {0};
    gguf_url_put(&url, u, no);
    gguf_url_put_file(&file, u, no);
    const struct blob_source s = {
        .url = url.p, .bearer = token, .promised = p->sha256, .size = UINT64_MAX, .gguf = true};
    /* Each part has a bar of its own: nobody states the size of the whole set. */
    progress_init(&p->progress, p->progress.quiet);
    snprintf(p->progress.label, sizeof(p->progress.label), "%.90s", file.p ? file.p : "");
    enum err e = url.failed || file.failed
                     ? err_set(&fault, ERR_NOMEM, "out of memory")
                     : blob_bring(&blob, &p->library, p->fetcher, &p->progress, &s, &fault);
    progress_end(&p->progress);
    if (e == ERR_OK) {
        char *title = arena_strndup(a, file.p, file.n);
        *out = (struct layer){.kind = LAYER_MODEL,
                              .media_type = STR("application/vnd.ollama.image.model"),
                              .size = blob.size,
                              .title = str_of(title)};
        memcpy(out->hex, blob.hex, sizeof(out->hex));
        *fetched += blob.fetched;
        e = title ? e : err_set(&fault, ERR_NOMEM, "out of memory");
    }
    if (e != ERR_OK)
        (void)err_set(why, e, "%.80s: %.160s", file.p ? file.p : "", fault.text);
    buf_fini(&url);
    buf_fini(&file);
    return e;
}

enum err take_url(struct pulled *out, struct puller *p, const char *text, struct errmsg *why)
{
    struct gguf_url u;
    struct manifest m = {.kind = STR("url"), .source = str_of(text)};
    char host[256];
    struct arena a;
    *out = (struct pulled){.bytes = 0};
    enum err e = gguf_url_parse(&u, str_of(text), why);
    if (e == ERR_OK)
        e = fetch_check_url(text, p->insecure_http, host, why);
    if (e == ERR_OK && p->sha256 && u.n_parts > 1)
        e = err_set(why, ERR_INVALID, "--sha256 is for one file, this is a set of %u", u.n_parts);
    if (e == ERR_OK)
        e = local_name(&out->name, p, u.stem, why);
    if (e == ERR_OK)
        e = check_name_is_free(p, &out->name, "url", text, why);
    if (e != ERR_OK)
        return e;
    arena_init(&a, 1 << 20);
    const char *token = is_hugging_face(host) ? env("HF_TOKEN") : env("MILLRACE_URL_TOKEN");
    m.layers = arena_array(&a, u.n_parts, sizeof(*m.layers));
    if (!m.layers)
        e = err_set(why, ERR_NOMEM, "out of memory");
    for (uint32_t no = 1; e == ERR_OK && no <= u.n_parts; no++) {
        struct layer *l = &m.layers[m.n_layers++];
        e = bring_part(l, &out->fetched, p, &u, no, token, &a, why);
        m.total_bytes += e == ERR_OK ? l->size : 0;
    }
    if (e == ERR_OK)
        e = library_save(&p->library, &out->name, &m, why);
    out->bytes = m.total_bytes;
    arena_fini(&a);
    return e;
}
