#include "gateway/config.h"
#include "gateway/auth/host.h"
#include "gateway/library/library.h"
#include "gateway/usage/usage.h"
#include "shared/base/json.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_FILE_MAX = 1 << 20 };

/* ---- the two tables ---------------------------------------------------------------------------
 */

enum option_kind {
    OPT_TEXT,
    OPT_FLAG,
    OPT_SECONDS,
    OPT_COUNT,
    OPT_BYTES,
    OPT_MODEL,
    OPT_FILE,
    OPT_HELP
};

struct option {
    const char *name, *arg;
    enum option_kind kind;
    size_t offset; /* in struct config */
    double min, max;
    const char *help;
};

#define AT(field) offsetof(struct config, field)
// clang-format off
static const struct option options[] = {
    {"config", "FILE", OPT_FILE, 0, 0, 0, "read options from a JSON file; the command line wins over it"},
    {"listen", "HOST:PORT", OPT_TEXT, AT(listen), 0, 0, "address to serve on (127.0.0.1:8080)"},
    {"model", "NAME[=FILE][,KEY=VALUE]...", OPT_MODEL, 0, 0, 0, "serve a GGUF file, or a pulled model, under a name; may be repeated (the demo model)"},
    {"data", "DIR", OPT_TEXT, AT(data_dir), 0, 0, "usage records ($XDG_STATE_HOME/millrace or ~/.local/state/millrace)"},
    {"models-dir", "DIR", OPT_TEXT, AT(models_dir), 0, 0, "where millrace pull puts models ($MILLRACE_MODELS, else DATA/models)"},
    {"ollama-models", "DIR|auto", OPT_TEXT, AT(ollama_models), 0, 0, "use models of an Ollama folder in place, too; auto: $OLLAMA_MODELS or ~/.ollama/models"},
    {"insecure", NULL, OPT_FLAG, AT(insecure), 0, 0, "serve on an address that others can reach although no keys are configured"},
    {"allow-host", "NAME[,NAME]...", OPT_TEXT, AT(allow_hosts), 0, 0, "Host header values served besides this machine's own, or *"},
    {"cors-origin", "ORIGIN[,ORIGIN]...", OPT_TEXT, AT(cors_origins), 0, 0, "web origins whose pages may read answers, or * (none)"},
    {"ping-interval", "S", OPT_SECONDS, AT(ping_interval_s), 0, 3600, "comment lines in silent streams every S seconds; 0: none (10)"},
    {"max-connections", "N", OPT_COUNT, AT(max_connections), 1, 1000000, "connections served at once (10000)"},
    {"max-loaded", "N", OPT_COUNT, AT(max_loaded), 1, CONFIG_MAX_MODELS, "models in memory at once: they load on first use, the least recently used idle one leaves (all load at start)"},
    {"memory-budget", "SIZE", OPT_BYTES, AT(memory_budget), 1, 0, "memory of all loaded models together, such as 24G: as --max-loaded (none)"},
    {"idle-unload", "TIME", OPT_SECONDS, AT(idle_unload_s), 0, 2592000, "a model without requests for so long leaves memory, such as 10m; 0: never (0)"},
    {"turn-seconds", "S", OPT_SECONDS, AT(turn_s), 0.1, 3600, "a busy model gives way to a waiting one after so long (10)"},
    {"queue-seconds", "S", OPT_SECONDS, AT(queue_s), 0, 86400, "a request not begun within gets 504; 0: waits without end (600)"},
    {"stall-seconds", "S", OPT_SECONDS, AT(stall_s), 1, 3600, "a busy worker that makes no step for so long is replaced (30)"},
    {"drain-seconds", "S", OPT_SECONDS, AT(drain_s), 0, 86400, "after SIGTERM running answers may take so long (30)"},
    {"drain-grace", "S", OPT_SECONDS, AT(drain_grace_s), 0, 3600, "after SIGTERM serve on so long, unready, for balancers to notice (5; on loopback 0)"},
    {"log-format", "plain|json", OPT_TEXT, AT(log_format_name), 0, 0, "one line per event on stderr (plain)"},
    {"log-level", "LEVEL", OPT_TEXT, AT(log_level_name), 0, 0, "debug, info, warn or error (info)"},
    {"worker", "FILE", OPT_TEXT, AT(worker), 0, 0, "the worker program (millrace-worker beside this one)"},
    {"help", NULL, OPT_HELP, AT(help), 0, 0, "this text"},
};

struct model_key {
    const char *name, *arg;
    enum { KEY_TEXT, KEY_U32, KEY_INT, KEY_BYTES } kind;
    size_t offset; /* in struct model_config */
    uint64_t min, max;
    const char *help;
};

#define IN(field) offsetof(struct model_config, field)
static const struct model_key model_keys[] = {
    {"device", "cpu|cuda:N", KEY_TEXT, IN(device), 0, 0, "where it runs (cpu)"},
    {"replicas", "N", KEY_INT, IN(replicas), 1, 64, "worker processes (1)"},
    {"context", "N", KEY_U32, IN(context), 1, 16 << 20, "tokens of prompt and answer together (the model's)"},
    {"slots", "N", KEY_U32, IN(slots), 1, 65536, "sequences in one batch (32)"},
    {"threads", "N", KEY_INT, IN(threads), 1, 4096, "threads per worker (cores divided by workers)"},
    {"chat-template", "FILE", KEY_TEXT, IN(chat_template), 0, 0, "Jinja template instead of the model's own"},
    {"kv-type", "TYPE", KEY_TEXT, IN(kv_type), 0, 0, "number type of the KV cache (f16)"},
    {"pooling", "mean|cls|last", KEY_TEXT, IN(pooling), 0, 0, "it gives embeddings, pooled so (as the file says)"},
    {"dimensions", "N", KEY_U32, IN(dimensions), 1, 65536, "requests may cut embeddings to N values or more (as known of the model)"},
    {"memory", "SIZE", KEY_BYTES, IN(memory_bytes), 1, 0, "weights and KV cache of all its workers, such as 8G; the KV cache is cut to fit (the budget)"},
    {"queue", "N", KEY_U32, IN(queue_limit), 1, 1000000, "requests waiting before new ones get 429 (512)"},
};
// clang-format on

enum {
    N_OPTIONS = sizeof(options) / sizeof(options[0]),
    N_MODEL_KEYS = sizeof(model_keys) / sizeof(model_keys[0])
};

const char *config_option_name(size_t i)
{
    return i < N_OPTIONS ? options[i].name : NULL;
}

const char *config_model_key(size_t i)
{
    return i < N_MODEL_KEYS ? model_keys[i].name : NULL;
}

static const struct option *find_option(struct str name)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (str_is(name, options[i].name))
            return &options[i];
    return NULL;
}

void config_print_help(struct buf *out)
{
    buf_puts(out,
             "usage: millrace serve [options]\n\noptions, with their defaults in parentheses:\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", options[i].name, options[i].arg ? " " : "",
                 options[i].arg ? options[i].arg : "");
        buf_printf(out, strlen(left) > 28 ? "  %s\n%32s%s\n" : "  %-28s%s%s\n", left,
                   strlen(left) > 28 ? "" : "  ", options[i].help);
    }
    buf_puts(
        out,
        "\nkeys of --model NAME=FILE,KEY=VALUE,... (without =FILE, NAME is a pulled model's):\n");
    for (size_t i = 0; i < N_MODEL_KEYS; i++) {
        char left[64];
        snprintf(left, sizeof(left), "%s=%s", model_keys[i].name, model_keys[i].arg);
        buf_printf(out, "  %-28s  %s\n", left, model_keys[i].help);
    }
    buf_puts(out,
             "\nThe file of --config is a JSON object with the same names; \"model\" is a list of\n"
             "objects with \"name\", \"file\" and the keys above (schemas/config.schema.json).\n");
}

/* ---- setting one option
 * -------------------------------------------------------------------------- */

static char *keep(struct config *c, struct str s, struct errmsg *why)
{
    char *z = memchr(s.p, '\0', s.n) ? NULL : arena_strndup(&c->arena, s.p, s.n);
    if (!z)
        (void)err_set(why, ERR_INVALID, "an option contains a NUL byte, or there is no memory");
    return z;
}

/* "10", "2.5", "90s", "10m", "2h". */
static bool parse_seconds(struct str s, double *out)
{
    static const struct {
        char unit;
        double seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    for (size_t i = 0; s.n && i < sizeof(units) / sizeof(units[0]); i++)
        if (s.p[s.n - 1] == units[i].unit) {
            bool good = str_to_f64((struct str){s.p, s.n - 1}, out);
            *out *= units[i].seconds;
            return good;
        }
    return str_to_f64(s, out);
}

static enum err set_option(struct config *c, const struct option *o, struct str value,
                           struct errmsg *why)
{
    char *field = (char *)c + o->offset;
    double number = 0;
    uint64_t count = 0;
    switch (o->kind) {
    case OPT_TEXT: {
        char *z = value.n ? keep(c, value, why) : NULL;
        if (!z)
            return err_set(why, ERR_INVALID, "--%s needs a value (%s)", o->name, o->arg);
        memcpy(field, &z, sizeof(z));
        return ERR_OK;
    }
    case OPT_SECONDS:
        if (!parse_seconds(value, &number) || number < o->min || number > o->max)
            return err_set(why, ERR_RANGE,
                           "--%s: expected seconds from %g to %g, got '" STR_FMT "'", o->name,
                           o->min, o->max, STR_ARG(value));
        memcpy(field, &number, sizeof(number));
        return ERR_OK;
    case OPT_COUNT: {
        if (!str_to_u64(value, (uint64_t)o->max, &count) || count < (uint64_t)o->min)
            return err_set(why, ERR_RANGE,
                           "--%s: expected a whole number from %g to %g, got '" STR_FMT "'",
                           o->name, o->min, o->max, STR_ARG(value));
        uint32_t n = (uint32_t)count;
        memcpy(field, &n, sizeof(n));
        return ERR_OK;
    }
    case OPT_BYTES:
        if (!str_to_bytes(value, &count))
            return err_set(why, ERR_RANGE,
                           "--%s: expected a size such as 24G or 800M, got '" STR_FMT "'", o->name,
                           STR_ARG(value));
        memcpy(field, &count, sizeof(count));
        return ERR_OK;
    case OPT_FLAG:
    case OPT_HELP:
        *(bool *)field = true;
        return ERR_OK;
    case OPT_MODEL:
    case OPT_FILE:
        break;
    }
    return err_set(why, ERR_INTERNAL, "--%s cannot be set here", o->name);
}

static enum err set_model_key(struct config *c, struct model_config *m, struct str key,
                              struct str value, struct errmsg *why)
{
    for (size_t i = 0; i < N_MODEL_KEYS; i++) {
        const struct model_key *k = &model_keys[i];
        char *field = (char *)m + k->offset;
        uint64_t n;
        if (!str_is(key, k->name))
            continue;
        if (k->kind == KEY_TEXT) {
            char *z = value.n ? keep(c, value, why) : NULL;
            if (!z)
                return err_set(why, ERR_INVALID, "--model " STR_FMT ": %s needs a value (%s)",
                               STR_ARG(m->name), k->name, k->arg);
            memcpy(field, &z, sizeof(z));
            return ERR_OK;
        }
        if (k->kind == KEY_BYTES) {
            if (!str_to_bytes(value, &n))
                return err_set(why, ERR_RANGE,
                               "--model " STR_FMT
                               ": %s: expected a size such as 8G or 800M, got '" STR_FMT "'",
                               STR_ARG(m->name), k->name, STR_ARG(value));
            memcpy(field, &n, sizeof(n));
            return ERR_OK;
        }
        if (!str_to_u64(value, k->max, &n) || n < k->min)
            return err_set(why, ERR_RANGE,
                           "--model " STR_FMT ": %s: expected a whole number from %llu to %llu, "
                           "got '" STR_FMT "'",
                           STR_ARG(m->name), k->name, (unsigned long long)k->min,
                           (unsigned long long)k->max, STR_ARG(value));
        if (k->kind == KEY_U32)
            *(uint32_t *)(void *)field = (uint32_t)n;
        else
            *(int *)(void *)field = (int)n;
        return ERR_OK;
    }
    return err_set(why, ERR_INVALID,
                   "--model " STR_FMT ": there is no key '" STR_FMT "' (see millrace serve --help)",
                   STR_ARG(m->name), STR_ARG(key));
}

static enum err add_model(struct config *c, struct str name, struct str file,
                          struct model_config **out, struct errmsg *why)
{
    if (name.n == 0 || (file.p && file.n == 0))
        return err_set(why, ERR_INVALID,
                       "--model: expected NAME[=FILE][,KEY=VALUE]..., got '" STR_FMT "'",
                       STR_ARG(name.n ? name : file));
    if (name.n > 95) /* the usage row's field */
        return err_set(why, ERR_RANGE, "--model: a name has at most 95 bytes");
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] <= ' ' || name.p[i] == 0x7f)
            return err_set(why, ERR_INVALID, "--model " STR_FMT ": a name has no blanks",
                           STR_ARG(name));
    for (size_t i = 0; i < c->n_models; i++)
        if (str_eq(c->models[i].name, name))
            return err_set(why, ERR_EXISTS, "--model " STR_FMT ": the name is given twice",
                           STR_ARG(name));
    if (c->n_models == CONFIG_MAX_MODELS)
        return err_set(why, ERR_RANGE, "--model: at most %d models", CONFIG_MAX_MODELS);
    char *z = keep(c, name, why), *path = z && file.p ? keep(c, file, why) : NULL;
    if (!z || (file.p && !path))
        return ERR_INVALID;
    struct model_config *m = &c->models[c->n_models++];
    *m = (struct model_config){.name = str_of(z), .path = path, .device = "cpu", .replicas = 1};
    *out = m;
    return ERR_OK;
}

/* "NAME=FILE,KEY=VALUE,..." or "NAME,KEY=VALUE,...": then the file is NULL until find_models(). */
static enum err parse_model(struct config *c, struct str text, struct errmsg *why)
{
    const char *comma = memchr(text.p, ',', text.n);
    struct str rest = {text.p, comma ? (size_t)(comma - text.p) : text.n};
    const char *eq = memchr(rest.p, '=', rest.n);
    struct str name = {text.p, eq ? (size_t)(eq - text.p) : rest.n};
    struct str file = {eq ? eq + 1 : NULL, eq ? rest.n - name.n - 1 : 0};
    rest = text;
    struct model_config *m = NULL;
    enum err e = add_model(c, name, file, &m, why);
    while (e == ERR_OK && comma) {
        rest = (struct str){comma + 1, rest.n - (size_t)(comma + 1 - rest.p)};
        comma = memchr(rest.p, ',', rest.n);
        struct str pair = {rest.p, comma ? (size_t)(comma - rest.p) : rest.n};
        eq = memchr(pair.p, '=', pair.n);
        struct str key = {pair.p, eq ? (size_t)(eq - pair.p) : pair.n};
        struct str value = eq ? (struct str){eq + 1, pair.n - key.n - 1} : (struct str){"", 0};
        e = set_model_key(c, m, key, value, why);
    }
    return e;
}

/* ---- the file
 * ---------------------------------------------------------------------------------------- */

/* Text as the command line would have it: the same setters judge both. */
static struct str as_text(const struct json *v)
{
    return v->kind == JSON_STRING ? v->s : v->raw;
}

static bool is_scalar(const struct json *v)
{
    return v->kind == JSON_STRING || json_is_number(v);
}

static enum err file_model(struct config *c, const struct json *v, const char *path,
                           struct errmsg *why)
{
    const struct json *name = json_get(v, "name"), *file = json_get(v, "file");
    if (!json_is(name, JSON_STRING) || (file && !json_is(file, JSON_STRING)))
        return err_set(why, ERR_INVALID,
                       "%s: each \"model\" needs a \"name\", and maybe a \"file\"", path);
    struct model_config *m = NULL;
    enum err e = add_model(c, name->s, file ? file->s : (struct str){0}, &m, why);
    for (const struct json *k = v->list.first; e == ERR_OK && k; k = k->next) {
        if (k == name || k == file)
            continue;
        if (!is_scalar(k))
            return err_set(why, ERR_INVALID,
                           "%s: model \"" STR_FMT "\": " STR_FMT " must be a text or a number",
                           path, STR_ARG(m->name), STR_ARG(k->key));
        e = set_model_key(c, m, k->key, as_text(k), why);
    }
    return e;
}

static enum err file_option(struct config *c, const struct json *v, const char *path,
                            struct errmsg *why)
{
    const struct option *o = find_option(v->key);
    if (!o || o->kind == OPT_FILE || o->kind == OPT_HELP)
        return err_set(why, ERR_INVALID,
                       "%s: there is no option \"" STR_FMT "\" (see millrace serve --help)", path,
                       STR_ARG(v->key));
    if (o->kind == OPT_MODEL) {
        if (v->kind != JSON_ARRAY)
            return err_set(why, ERR_INVALID, "%s: \"model\" must be a list", path);
        enum err e = ERR_OK;
        for (const struct json *m = v->list.first; e == ERR_OK && m; m = m->next)
            e = file_model(c, m, path, why);
        return e;
    }
    if (o->kind == OPT_FLAG) {
        if (v->kind != JSON_BOOL)
            return err_set(why, ERR_INVALID, "%s: \"%s\" must be true or false", path, o->name);
        *(bool *)((char *)c + o->offset) = v->b;
        return ERR_OK;
    }
    if (!is_scalar(v))
        return err_set(why, ERR_INVALID, "%s: \"%s\" must be a text or a number", path, o->name);
    return set_option(c, o, as_text(v), why);
}

static enum err read_config_file(struct config *c, const char *path, struct errmsg *why)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    char *text = arena_alloc(&c->arena, CONFIG_FILE_MAX + 1);
    size_t n = text ? fread(text, 1, CONFIG_FILE_MAX + 1, f) : 0;
    bool bad = !text || ferror(f);
    fclose(f);
    if (bad || n > CONFIG_FILE_MAX)
        return err_set(why, ERR_IO, "%s: cannot be read, or is larger than 1 MiB", path);
    struct json *root;
    struct errmsg fault;
    if (json_parse(&root, &c->arena, text, n, NULL, &fault) != ERR_OK)
        return err_set(why, ERR_INVALID, "%s: %s", path, fault.text);
    if (root->kind != JSON_OBJECT)
        return err_set(why, ERR_INVALID, "%s: expected a JSON object", path);
    enum err e = ERR_OK;
    for (const struct json *v = root->list.first; e == ERR_OK && v; v = v->next)
        e = file_option(c, v, path, why);
    return e;
}

/* ---- what only the whole shows
 * ------------------------------------------------------------------------- */

static enum err parse_listen(struct config *c, struct errmsg *why)
{
    const char *colon = strrchr(c->listen, ':');
    uint64_t port;
    if (!colon || !str_to_u64(str_of(colon + 1), 65535, &port))
        return err_set(why, ERR_INVALID,
                       "--listen %s: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
                       c->listen);
    struct str host = {c->listen, (size_t)(colon - c->listen)};
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct str){host.p + 1, host.n - 2};
    if (str_is(host, "localhost"))
        host = STR("127.0.0.1");
    if (str_is(host, "*") || host.n == 0)
        host = STR("0.0.0.0");
    char *z = keep(c, host, why);
    if (!z)
        return ERR_NOMEM;
    c->host = z;
    c->port = (int)port;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(z, c->port, &v4) != 0 && uv_ip6_addr(z, c->port, &v6) != 0)
        return err_set(why, ERR_INVALID,
                       "--listen %s: the host must be a numeric address (or localhost, or *)",
                       c->listen);
    c->loopback = host_is_loopback_address(z);
    if (!c->loopback && !c->insecure)
        return err_set(why, ERR_DENIED,
                       "--listen %s: others can reach this address and no keys are configured; "
                       "listen on 127.0.0.1, or add --insecure if the network is trusted",
                       c->listen);
    return ERR_OK;
}

bool config_near_self(char out[4096], const char *file, bool parent, int mode)
{
    char self[3800];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    for (int up = parent ? 2 : 1; up > 0; up--) {
        char *slash = strrchr(self, '/');
        if (!slash)
            return false;
        *slash = '\0';
    }
    snprintf(out, 4096, "%s/%.200s", self, file);
    return access(out, mode) == 0;
}

static const char *near_self(struct config *c, const char *file, bool parent, int mode)
{
    char path[4096];
    return config_near_self(path, file, parent, mode) ? arena_strndup(&c->arena, path, strlen(path))
                                                      : NULL;
}

static enum err find_worker(struct config *c, struct errmsg *why)
{
    if (!c->worker)
        c->worker = near_self(c, "millrace-worker", false, X_OK);
    if (!c->worker)
        return err_set(why, ERR_NOT_FOUND,
                       "millrace-worker is not beside this program; name it with --worker");
    if (access(c->worker, X_OK) != 0)
        return err_set(why, ERR_NOT_FOUND, "--worker %s: %s", c->worker, strerror(errno));
    return ERR_OK;
}

/* A spec without a file, or whose FILE is not there but reads like a name, means a pulled model. */
static enum err find_pulled(struct config *c, struct model_config *m, struct errmsg *why)
{
    struct library library;
    struct local_model found;
    struct model_name name;
    struct errmsg fault = {0};
    struct str text = m->path ? str_of(m->path) : m->name;
    if (m->path && access(m->path, F_OK) == 0)
        return ERR_OK;
    enum err e = name_parse(&name, text, &fault);
    if (e != ERR_OK && m->path)
        return ERR_OK; /* a path then: whoever opens it says what is wrong */
    if (e == ERR_OK)
        e = library_locate(&library, c->models_dir, c->data_dir, c->ollama_models, &fault);
    if (e == ERR_OK)
        e = library_find(&found, &library, &name, &fault);
    if (e == ERR_NOT_FOUND && m->path)
        return err_set(why, e, "--model " STR_FMT ": there is no file '%s', nor a pulled model",
                       STR_ARG(m->name), m->path);
    if (e != ERR_OK)
        return err_set(why, e, "--model " STR_FMT ": %s", STR_ARG(m->name), fault.text);
    m->path = arena_strndup(&c->arena, found.path, strlen(found.path));
    return m->path ? ERR_OK : err_set(why, ERR_NOMEM, "out of memory");
}

static enum err find_models(struct config *c, struct errmsg *why)
{
    static const char demo[] = "deploy/models/millrace-tiny-q8_0.gguf";
    struct model_config *m;
    if (c->n_models == 0) {
        const char *path = access(demo, R_OK) == 0 ? demo : near_self(c, demo, true, R_OK);
        if (!path)
            return err_set(why, ERR_NOT_FOUND,
                           "no --model is given and the demo model (%s) is not here", demo);
        enum err e = add_model(c, STR("millrace-tiny"), str_of(path), &m, why);
        if (e)
            return e;
    }
    for (m = c->models; m < c->models + c->n_models; m++) {
        enum err e = find_pulled(c, m, why);
        if (e != ERR_OK)
            return e;
        const char *const files[] = {m->path, m->chat_template};
        for (int i = 0; i < 2; i++)
            if (files[i] && access(files[i], R_OK) != 0)
                return err_set(why, ERR_NOT_FOUND, "--model " STR_FMT ": %s: %s", STR_ARG(m->name),
                               files[i], strerror(errno));
        uint64_t n;
        if (strcmp(m->device, "cpu") != 0 &&
            !(strncmp(m->device, "cuda:", 5) == 0 && str_to_u64(str_of(m->device + 5), 1023, &n)))
            return err_set(why, ERR_INVALID,
                           "--model " STR_FMT ": device: expected cpu or cuda:N, got '%s'",
                           STR_ARG(m->name), m->device);
    }
    return ERR_OK;
}

static enum err finish(struct config *c, struct errmsg *why)
{
    enum err e = parse_listen(c, why);
    if (e == ERR_OK)
        e = find_models(c, why);
    if (e == ERR_OK)
        e = find_worker(c, why);
    if (e)
        return e;
    if (!log_level_parse(c->log_level_name, &c->log_level))
        return err_set(why, ERR_INVALID,
                       "--log-level: expected debug, info, warn or error, got '%s'",
                       c->log_level_name);
    bool json = strcmp(c->log_format_name, "json") == 0;
    if (!json && strcmp(c->log_format_name, "plain") != 0)
        return err_set(why, ERR_INVALID, "--log-format: expected plain or json, got '%s'",
                       c->log_format_name);
    c->log_format = json ? LOG_JSON : LOG_PLAIN;
    if (!c->data_dir) {
        char dir[4096];
        usage_default_dir(dir, sizeof(dir));
        c->data_dir = arena_strndup(&c->arena, dir, strlen(dir));
        if (!c->data_dir)
            return err_set(why, ERR_NOMEM, "out of memory");
    }
    if (c->drain_grace_s < 0)
        c->drain_grace_s = c->loopback ? 0 : 5; /* nobody balances over loopback */
    return ERR_OK;
}

/* ---- the command line
 * ------------------------------------------------------------------------------------- */

/* "--name value", "--name=value". *value is empty for flags. */
static enum err next_word(int argc, const char *const *argv, int *i, const struct option **out,
                          struct str *value, struct errmsg *why)
{
    const char *word = argv[(*i)++];
    if (strcmp(word, "-h") == 0)
        word = "--help";
    if (strncmp(word, "--", 2) != 0)
        return err_set(why, ERR_INVALID, "serve: unexpected '%s' (see millrace serve --help)",
                       word);
    size_t n = strcspn(word + 2, "=");
    const struct option *o = find_option((struct str){word + 2, n});
    if (!o)
        return err_set(why, ERR_INVALID,
                       "serve: there is no option '%.*s' (see millrace serve --help)", (int)n + 2,
                       word);
    bool inline_value = word[2 + n] == '=';
    *out = o;
    *value = (struct str){"", 0};
    if (!o->arg)
        return inline_value ? err_set(why, ERR_INVALID, "--%s takes no value", o->name) : ERR_OK;
    if (inline_value)
        *value = str_of(word + 3 + n);
    else if (*i < argc)
        *value = str_of(argv[(*i)++]);
    else
        return err_set(why, ERR_INVALID, "--%s needs a value (%s)", o->name, o->arg);
    return ERR_OK;
}

/* Two passes: the file first, so that the command line wins. */
static enum err read_words(struct config *c, int argc, const char *const *argv, bool file_pass,
                           struct errmsg *why)
{
    enum err e = ERR_OK;
    for (int i = 0; e == ERR_OK && i < argc;) {
        const struct option *o = NULL;
        struct str value;
        if ((e = next_word(argc, argv, &i, &o, &value, why)))
            return e;
        if (file_pass != (o->kind == OPT_FILE))
            continue;
        if (file_pass)
            e = read_config_file(c, value.p, why);
        else if (o->kind == OPT_MODEL)
            e = parse_model(c, value, why);
        else
            e = set_option(c, o, value, why);
    }
    return e;
}

enum err config_load(struct config *c, int argc, const char *const *argv, struct errmsg *why)
{
    *c = (struct config){.listen = "127.0.0.1:8080",
                         .ping_interval_s = 10,
                         .log_format_name = "plain",
                         .log_level_name = "info",
                         .drain_s = 30,
                         .drain_grace_s = -1,
                         .max_connections = 10000,
                         .turn_s = 10,
                         .queue_s = 600,
                         .stall_s = 30};
    arena_init(&c->arena, 0);
    enum err e = read_words(c, argc, argv, true, why);
    if (e == ERR_OK)
        e = read_words(c, argc, argv, false, why);
    if (e == ERR_OK && !c->help)
        e = finish(c, why);
    if (e)
        config_free(c);
    return e;
}

void config_free(struct config *c)
{
    arena_fini(&c->arena);
}
