/* manifest.c - reads and writes manifests. */
#include "gateway/library/manifest.h"
#include "shared/base/checked.h"
#include "shared/base/json.h"
#include <stdio.h>

static const char title_key[] = "org.opencontainers.image.title";
static const char model_type[] = "application/vnd.ollama.image.model";

// clang-format off
static const struct { enum layer_kind kind; const char *name, *media_type; } kinds[] = {
    {LAYER_MODEL,     "model",     model_type},
    {LAYER_PROJECTOR, "projector", "application/vnd.ollama.image.projector"},
    {LAYER_ADAPTER,   "adapter",   "application/vnd.ollama.image.adapter"},
    {LAYER_TENSOR,    "tensor",    "application/vnd.ollama.image.tensor"},
    {LAYER_TEMPLATE,  "template",  "application/vnd.ollama.image.template"},
    {LAYER_TEMPLATE,  "template",  "application/vnd.ollama.image.prompt"}, /* its older name */
    {LAYER_SYSTEM,    "system",    "application/vnd.ollama.image.system"},
    {LAYER_PARAMS,    "params",    "application/vnd.ollama.image.params"},
    {LAYER_MESSAGES,  "messages",  "application/vnd.ollama.image.messages"},
    {LAYER_LICENSE,   "license",   "application/vnd.ollama.image.license"},
};
// clang-format on

const char *layer_kind_name(enum layer_kind kind)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].kind == kind)
            return kinds[i].name;
    return kind == LAYER_CONFIG ? "config" : "unknown";
}

static enum layer_kind kind_of(struct str media_type)
{
    const char *semicolon = media_type.n ? memchr(media_type.p, ';', media_type.n) : NULL;
    if (semicolon) /* parameters, such as a template's name */
        media_type.n = (size_t)(semicolon - media_type.p);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (str_is(media_type, kinds[i].media_type))
            return kinds[i].kind;
    return LAYER_UNKNOWN;
}

/* ---- reading ------------------------------------------------------------------------------ */

static enum err read_layer(struct layer *out, const struct json *v, const char *what,
                           struct errmsg *why)
{
    const struct json *type = json_get(v, "mediaType"), *digest = json_get(v, "digest"),
                      *size = json_get(v, "size"),
                      *title = json_get(json_get(v, "annotations"), title_key);
    struct layer l = {0};
    if (!json_is(v, JSON_OBJECT))
        return err_set(why, ERR_INVALID, "manifest: %s is no object", what);
    if (!json_is(digest, JSON_STRING) || !digest_parse(l.hex, digest->s))
        return err_set(why, ERR_INVALID,
                       "manifest: %s: the digest is not sha256: and 64 hex digits", what);
    if (!json_is(size, JSON_INT) || size->i < 0)
        return err_set(why, ERR_INVALID, "manifest: %s: the size is no whole number", what);
    l.size = (uint64_t)size->i;
    if (json_is(type, JSON_STRING))
        l.media_type = type->s;
    l.kind = kind_of(l.media_type);
    if (json_is(title, JSON_STRING)) {
        l.title = title->s;
        /* It becomes a file name: the same alphabet as names, but longer. */
        bool ok = l.title.n > 0 && l.title.n <= 200 && l.title.p[0] != '.';
        for (size_t i = 0; ok && i < l.title.n; i++)
            ok = l.title.p[i] > ' ' && l.title.p[i] < 0x7f && l.title.p[i] != '/';
        if (!ok && l.kind == LAYER_MODEL)
            return err_set(why, ERR_INVALID, "manifest: %s: the title is no file name", what);
        if (!ok)
            l.title = (struct str){0};
    }
    *out = l;
    return ERR_OK;
}

static struct str text_of(const struct json *object, const char *key)
{
    const struct json *v = json_get(object, key);
    return json_is(v, JSON_STRING) ? v->s : (struct str){0};
}

enum err manifest_parse(struct manifest *out, struct arena *a, const char *p, size_t n,
                        struct errmsg *why)
{
    const struct json_limits limits = {.max_depth = 16, .max_nodes = 20000};
    struct json *root = NULL;
    struct errmsg fault = {0};
    struct manifest m = {0};
    if (n > MANIFEST_MAX_BYTES)
        return err_set(why, ERR_RANGE, "manifest: more than %d bytes", MANIFEST_MAX_BYTES);
    if (json_parse(&root, a, p, n, &limits, &fault) != ERR_OK)
        return err_set(why, ERR_INVALID, "manifest: %s", fault.text);
    if (!json_is(root, JSON_OBJECT))
        return err_set(why, ERR_INVALID, "manifest: no JSON object");
    const struct json *version = json_get(root, "schemaVersion"),
                      *layers = json_get(root, "layers"), *config = json_get(root, "config");
    if (json_get(root, "manifests"))
        return err_set(why, ERR_UNSUPPORTED,
                       "manifest: a list of images for several platforms, not a model");
    if (!json_is(version, JSON_INT) || version->i != 2)
        return err_set(why, ERR_UNSUPPORTED, "manifest: schemaVersion is not 2");
    if (!json_is(layers, JSON_ARRAY))
        return err_set(why, ERR_INVALID, "manifest: no list of layers");
    bool has_config = json_is(config, JSON_OBJECT);
    if (layers->list.count + has_config > MANIFEST_MAX_LAYERS)
        return err_set(why, ERR_RANGE, "manifest: more than %d layers", MANIFEST_MAX_LAYERS);
    m.layers = arena_array(a, layers->list.count + 1, sizeof(*m.layers));
    if (!m.layers)
        return err_set(why, ERR_NOMEM, "manifest: out of memory");
    const struct json *v = layers->list.first;
    for (size_t i = 0; i < layers->list.count + has_config; i++) {
        char what[32] = "config";
        bool is_config = i == layers->list.count;
        if (!is_config)
            snprintf(what, sizeof(what), "layer %zu", i);
        struct layer *l = &m.layers[m.n_layers++];
        enum err e = read_layer(l, is_config ? config : v, what, why);
        if (e)
            return e;
        if (is_config)
            l->kind = LAYER_CONFIG;
        else
            v = v->next;
        if (!add_u64(&m.total_bytes, m.total_bytes, l->size) || m.total_bytes > INT64_MAX)
            return err_set(why, ERR_RANGE, "manifest: the layers' sizes overflow");
    }
    m.source = text_of(json_get(root, "millrace"), "source");
    m.kind = text_of(json_get(root, "millrace"), "kind");
    *out = m;
    return ERR_OK;
}

size_t manifest_count(const struct manifest *m, enum layer_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_layers; i++)
        n += m->layers[i].kind == kind;
    return n;
}

const struct layer *manifest_first(const struct manifest *m, enum layer_kind kind)
{
    for (size_t i = 0; i < m->n_layers; i++)
        if (m->layers[i].kind == kind)
            return &m->layers[i];
    return NULL;
}

enum err manifest_check_model(const struct manifest *m, struct errmsg *why)
{
    size_t n = manifest_count(m, LAYER_MODEL);
    uint32_t at = 0;
    if (manifest_first(m, LAYER_TENSOR))
        return err_set(why, ERR_UNSUPPORTED,
                       "its weights are single tensors, not a GGUF file: Millrace reads GGUF");
    if (manifest_first(m, LAYER_ADAPTER))
        return err_set(why, ERR_UNSUPPORTED,
                       "it needs an adapter over its weights, which Millrace does not apply");
    if (n == 0)
        return err_set(why, ERR_INVALID,
                       "its manifest has no model layer (application/vnd.ollama.image.model)");
    for (size_t i = 0; n > 1 && i < m->n_layers; i++) {
        const struct layer *l = &m->layers[i];
        uint32_t part, of;
        if (l->kind != LAYER_MODEL)
            continue;
        split_of_file(l->title, &part, &of);
        if (of != n || part != ++at)
            return err_set(why, ERR_UNSUPPORTED,
                           "its manifest has %zu model layers that are not named as the parts of "
                           "one split GGUF file",
                           n);
    }
    return ERR_OK;
}

/* ---- writing ------------------------------------------------------------------------------ */

static void put_layer(struct buf *out, const struct layer *l)
{
    buf_puts(out, "{\"mediaType\":");
    json_put_str(out, l->media_type.p, l->media_type.n);
    buf_printf(out, ",\"digest\":\"sha256:%s\",\"size\":", l->hex);
    buf_put_u64(out, l->size);
    if (l->title.n) {
        buf_printf(out, ",\"annotations\":{\"%s\":", title_key);
        json_put_str(out, l->title.p, l->title.n);
        buf_putc(out, '}');
    }
    buf_putc(out, '}');
}

void manifest_put(struct buf *out, const struct manifest *m)
{
    const struct layer *config = manifest_first(m, LAYER_CONFIG);
    bool first = true;
    buf_puts(out, "{\"schemaVersion\":2,"
                  "\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\"");
    if (config) {
        buf_puts(out, ",\"config\":");
        put_layer(out, config);
    }
    buf_puts(out, ",\n \"layers\":[");
    for (size_t i = 0; i < m->n_layers; i++) {
        if (m->layers[i].kind == LAYER_CONFIG)
            continue;
        buf_puts(out, first ? "\n  " : ",\n  ");
        put_layer(out, &m->layers[i]);
        first = false;
    }
    buf_puts(out, "],\n \"millrace\":{\"kind\":");
    json_put_str(out, m->kind.p, m->kind.n);
    buf_puts(out, ",\"source\":");
    json_put_str(out, m->source.p, m->source.n);
    buf_puts(out, "}}\n");
}
