/* models.c - see models.h. Three sources, one shape of row:
 *
 *   configured   --config and --model, as `serve` takes them; each file is inspected by the worker
 *   running      GET /v1/models of --url
 *   pulled       the library's own table (library_print) */
#include "gateway/models.h"

#include "gateway/config.h"
#include "gateway/library/library.h"
#include "gateway/pull/fetch.h"
#include "gateway/supervise/inspect.h"
#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_DONE_ = 0, EXIT_FAILED_ = 1, EXIT_UNUSABLE_ = 2, ANSWER_MAX = 4 << 20, STALL_S = 10 };

static const char help[] =
    "usage: millrace models [--config FILE] [--model NAME[=FILE][,KEY=VALUE]...]... [options]\n"
    "       millrace models --url URL [options]\n"
    "       millrace models --local [options]\n"
    "\n"
    "Lists what `millrace serve` with the same words would serve (each file is inspected, none is\n"
    "loaded); with --url, what a running server has, and in which state; with --local, what was\n"
    "pulled.\n"
    "\n"
    "options:\n"
    "  --url URL              a server, such as http://127.0.0.1:8080; its key is "
    "$MILLRACE_API_KEY\n"
    "  --format table|json    how to print (table)\n"
    "  --ca-file FILE         roots of TLS instead of the system's\n"
    "  --insecure-http        http to others than this machine, too: the key travels in the clear\n"
    "  --local                the pulled models\n"
    "  --models-dir DIR, --ollama-models DIR|auto, --data DIR, --worker FILE    as for `serve`\n";

struct row { /* texts borrowed; empty: not known */
    struct str name, state, file, device, arch, quant, error;
    int64_t context, slots, memory, workers, ready, running, queued, loads, unloads;
    bool live; /* of a running server */
};

static int64_t number(const struct json *o, const char *key)
{
    const struct json *v = json_get(o, key);
    return json_is(v, JSON_INT) ? v->i : 0;
}

static struct str text(const struct json *o, const char *key)
{
    const struct json *v = json_get(o, key);
    return json_is(v, JSON_STRING) ? v->s : (struct str){"", 0};
}

/* ---- printing
 * ------------------------------------------------------------------------------------------- */

/* What a server or a file says goes to a terminal: no control characters. */
static void put_clean(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        int len = utf8_decode(s.p + i, s.n - i, &cp);
        if (len > 0 && cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0))
            buf_put(out, s.p + i, (size_t)len);
        else
            buf_putc(out, '?');
        i += len > 0 ? (size_t)len : 1;
    }
}

enum column {
    NAME,
    STATE,
    CONTEXT,
    SLOTS,
    QUANT,
    MEMORY,
    WORKERS,
    RUNNING,
    QUEUED,
    FILE_,
    N_COLUMNS
};

static const char *const titles[N_COLUMNS] = {"model",  "state",   "context", "slots",  "quant",
                                              "memory", "workers", "running", "queued", "file"};

static void put_number(struct buf *out, int64_t v)
{
    if (v)
        buf_put_i64(out, v);
    else
        buf_putc(out, '-');
}

static void put_cell(struct buf *out, const struct row *r, enum column c)
{
    switch (c) {
    case NAME:
        put_clean(out, r->name);
        break;
    case STATE:
        put_clean(out, r->state);
        break;
    case CONTEXT:
        put_number(out, r->context);
        break;
    case SLOTS:
        put_number(out, r->slots);
        break;
    case QUANT:
        put_clean(out, r->quant.n ? r->quant : STR("-"));
        break;
    case MEMORY:
        if (r->memory > 0)
            put_bytes(out, (uint64_t)r->memory);
        else
            buf_putc(out, '-');
        break;
    case WORKERS:
        if (r->live)
            buf_printf(out, "%lld/%lld", (long long)r->ready, (long long)r->workers);
        else
            put_number(out, r->workers);
        break;
    case RUNNING:
        buf_put_i64(out, r->running);
        break;
    case QUEUED:
        buf_put_i64(out, r->queued);
        break;
    case FILE_:
        put_clean(out, r->file);
        break;
    case N_COLUMNS:
        break;
    }
}

static bool shown(enum column c, bool live)
{
    return c == FILE_ ? !live : live || (c != RUNNING && c != QUEUED);
}

static int width_of(const struct buf *b)
{
    int n = 0;
    for (size_t i = 0; i < b->n; i++)
        n += ((unsigned char)b->p[i] & 0xc0) != 0x80; /* code points */
    return n;
}

static void put_table(struct buf *out, const struct row *rows, size_t n, bool live)
{
    int width[N_COLUMNS];
    struct buf cell = {0};
    for (enum column c = NAME; c < N_COLUMNS; c++) {
        width[c] = (int)strlen(titles[c]);
        for (size_t i = 0; i < n; i++) {
            buf_clear(&cell);
            put_cell(&cell, &rows[i], c);
            width[c] = width_of(&cell) > width[c] ? width_of(&cell) : width[c];
        }
    }
    for (size_t i = 0; i <= n; i++) { /* line 0: the titles */
        size_t start = out->n;
        for (enum column c = NAME; c < N_COLUMNS; c++) {
            if (!shown(c, live))
                continue;
            buf_clear(&cell);
            if (i)
                put_cell(&cell, &rows[i - 1], c);
            else
                buf_puts(&cell, titles[c]);
            bool right = c != NAME && c != STATE && c != QUANT && c != FILE_;
            if (out->n > start)
                buf_puts(out, "  ");
            buf_printf(out, "%*s%s%*s", right ? width[c] - width_of(&cell) : 0, "",
                       cell.p ? cell.p : "", right ? 0 : width[c] - width_of(&cell), "");
        }
        while (out->n > start && out->p[out->n - 1] == ' ')
            out->p[--out->n] = 0;
        buf_putc(out, '\n');
        if (i && rows[i - 1].error.n) {
            buf_puts(out, "  ");
            put_clean(out, rows[i - 1].error);
            buf_putc(out, '\n');
        }
    }
    buf_fini(&cell);
}

static void put_json(struct buf *out, const struct row *rows, size_t n)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        const struct {
            const char *key;
            struct str value;
        } texts[] = {{"name", r->name},     {"state", r->state},       {"file", r->file},
                     {"device", r->device}, {"architecture", r->arch}, {"quantization", r->quant},
                     {"error", r->error}};
        const struct {
            const char *key;
            int64_t value;
            bool always;
        } numbers[] = {{"context", r->context, false},     {"slots", r->slots, false},
                       {"memory_bytes", r->memory, false}, {"workers", r->workers, true},
                       {"ready", r->ready, r->live},       {"running", r->running, r->live},
                       {"queued", r->queued, r->live},     {"loads", r->loads, r->live},
                       {"unloads", r->unloads, r->live}};
        buf_puts(out, i ? ",{" : "{");
        const char *comma = "";
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            if (!texts[k].value.n)
                continue;
            buf_printf(out, "%s\"%s\":", comma, texts[k].key);
            json_put_str(out, texts[k].value.p, texts[k].value.n);
            comma = ",";
        }
        for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
            if (!numbers[k].value && !numbers[k].always)
                continue;
            buf_printf(out, "%s\"%s\":%lld", comma, numbers[k].key, (long long)numbers[k].value);
            comma = ",";
        }
        buf_putc(out, '}');
    }
    buf_puts(out, "]\n");
}

static int print_rows(const struct row *rows, size_t n, bool live, bool json)
{
    struct buf out = {0};
    if (json)
        put_json(&out, rows, n);
    else
        put_table(&out, rows, n, live);
    bool good = !out.failed && fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0;
    buf_fini(&out);
    if (!good)
        fprintf(stderr, "millrace models: the list can't be written\n");
    return good ? EXIT_DONE_ : EXIT_FAILED_;
}

/* ---- a running server
 * ----------------------------------------------------------------------------------- */

struct options {
    const char *url, *ca_file, *format, *models_dir, *data, *ollama;
    bool insecure_http, local, json;
    const char *words[256]; /* for the configuration */
    int n_words;
};

static void server_row(struct row *r, const struct json *m)
{
    const struct json *x = json_get(m, "millrace"); /* absent: another kind of server */
    *r = (struct row){.live = true,
                      .name = text(m, "id"),
                      .state = x ? text(x, "state") : STR("-"),
                      .arch = text(x, "architecture"),
                      .quant = text(x, "quantization"),
                      .error = text(x, "error"),
                      .context = number(m, "context_length"),
                      .slots = number(x, "slots"),
                      .memory = number(x, "memory_bytes"),
                      .workers = number(x, "workers"),
                      .ready = number(x, "ready"),
                      .running = number(x, "running"),
                      .queued = number(x, "queued"),
                      .loads = number(x, "loads"),
                      .unloads = number(x, "unloads")};
    if (!r->context)
        r->context = number(m, "max_model_len");
}

static int print_answer(const struct options *o, struct arena *a, const struct buf *answer)
{
    struct json *root;
    struct errmsg why = {0};
    enum err e = json_parse(&root, a, answer->p ? answer->p : "", answer->n, NULL, &why);
    const struct json *data = e == ERR_OK ? json_get(root, "data") : NULL;
    size_t n = json_is(data, JSON_ARRAY) ? data->list.count : 0, i = 0;
    struct row *rows = arena_array(a, n + 1, sizeof(*rows));
    if (!json_is(data, JSON_ARRAY) || !rows) {
        fprintf(stderr, "millrace models: %s does not answer with a list of models%s%s\n", o->url,
                e ? ": " : "", why.text);
        return EXIT_FAILED_;
    }
    for (const struct json *m = data->list.first; m; m = m->next)
        server_row(&rows[i++], m);
    return print_rows(rows, n, true, o->json);
}

static int list_server(const struct options *o)
{
    struct progress progress;
    struct fetcher *fetcher = NULL;
    struct fetch_result result = {0};
    struct errmsg why = {0};
    struct buf url = {0}, answer = {0};
    struct arena a;
    const char *key = getenv("MILLRACE_API_KEY");
    size_t n = strlen(o->url);
    while (n && o->url[n - 1] == '/')
        n--;
    if (n >= 3 && memcmp(o->url + n - 3, "/v1", 3) == 0) /* base_url, as SDKs have it */
        n -= 3;
    buf_put(&url, o->url, n);
    buf_puts(&url, "/v1/models");
    progress_init(&progress, true);
    arena_init(&a, 0);
    const struct fetch_options f = {.ca_file = o->ca_file,
                                    .user_agent = "millrace/" MILLRACE_VERSION,
                                    .stall_s = STALL_S,
                                    .insecure_http = o->insecure_http,
                                    .progress = &progress};
    struct fetch_request r = {
        .url = url.p, .accept = "application/json", .bearer = key && *key ? key : NULL};
    int status = EXIT_FAILED_;
    char host[256];
    if (url.failed || fetch_check_url(url.p, o->insecure_http, host, &why) != ERR_OK) {
        fprintf(stderr, "millrace models: --url: %s\n", url.failed ? "out of memory" : why.text);
        status = EXIT_UNUSABLE_;
    } else if (fetcher_open(&fetcher, &f, &why) != ERR_OK ||
               fetch_text(fetcher, &r, ANSWER_MAX, &answer, &result, &why) != ERR_OK) {
        bool denied = result.head.status == 401 || result.head.status == 403;
        fprintf(stderr, "millrace models: %s%s\n", why.text,
                denied ? "; set MILLRACE_API_KEY to one of its keys" : "");
    } else {
        status = print_answer(o, &a, &answer);
    }
    fetcher_close(fetcher);
    arena_fini(&a);
    buf_fini(&answer);
    buf_fini(&url);
    return status;
}

/* ---- the configuration
 * ---------------------------------------------------------------------------------- */

struct listing {
    const struct config *config;
    uv_loop_t loop;
    struct row rows[CONFIG_MAX_MODELS];
    size_t at; /* the one being inspected */
    struct arena arena;
    const char *argv[12];
    char numbers[2][24];
};

static void inspect_next(struct listing *l);

static void on_inspected(void *user, struct str report, const char *error)
{
    struct listing *l = user;
    struct row *r = &l->rows[l->at];
    struct json *root = NULL;
    char *copy =
        arena_strndup(&l->arena, report.n ? report.p : error, report.n ? report.n : strlen(error));
    r->state = STR("unusable");
    if (!copy) {
        r->error = STR("out of memory");
    } else if (!report.n) {
        r->error = str_of(copy);
    } else if (json_parse(&root, &l->arena, copy, report.n, NULL, NULL) != ERR_OK) {
        r->error = STR("its inspection can't be read");
    } else {
        const struct json *runs = json_get(root, "runs");
        const int64_t replicas = r->workers, kv = number(root, "kv_bytes");
        r->arch = text(root, "architecture");
        r->quant = text(root, "quantization");
        r->error = text(root, "refusal");
        r->context = number(root, "context");
        r->memory = (number(root, "weight_bytes") + kv) * replicas;
        if (json_is(runs, JSON_BOOL) && runs->b)
            r->state = STR("usable");
    }
    l->at++;
    inspect_next(l);
}

static void inspect_next(struct listing *l)
{
    const struct config *c = l->config;
    struct inspection *i;
    struct errmsg why = {0};
    for (; l->at < c->n_models; l->at++) {
        const struct model_config *m = &c->models[l->at];
        struct row *r = &l->rows[l->at];
        int n = 0;
        *r = (struct row){.name = m->name,
                          .file = str_of(m->path),
                          .device = str_of(m->device),
                          .slots = m->slots ? m->slots : 32,
                          .workers = m->replicas};
        snprintf(l->numbers[0], sizeof(l->numbers[0]), "%lld", (long long)r->slots);
        snprintf(l->numbers[1], sizeof(l->numbers[1]), "%u", m->context);
        l->argv[n++] = "inspect";
        l->argv[n++] = m->path;
        l->argv[n++] = "--json";
        l->argv[n++] = "--slots";
        l->argv[n++] = l->numbers[0];
        if (m->context) {
            l->argv[n++] = "--context";
            l->argv[n++] = l->numbers[1];
        }
        if (m->kv_type) {
            l->argv[n++] = "--kv-type";
            l->argv[n++] = m->kv_type;
        }
        l->argv[n] = NULL;
        const struct inspect_spec spec = {.loop = &l->loop,
                                          .program = c->worker,
                                          .argv = l->argv,
                                          .user = l,
                                          .on_done = on_inspected};
        if (inspect_start(&i, &spec, &why) == ERR_OK)
            return;
        char *copy = arena_strndup(&l->arena, why.text, strlen(why.text));
        r->state = STR("unusable");
        r->error = str_of(copy ? copy : "out of memory");
    }
}

static int list_config(const struct options *o)
{
    struct config c;
    struct errmsg why = {0};
    if (config_load(&c, o->n_words, o->words, &why) != ERR_OK) {
        fprintf(stderr, "millrace models: %s\n", why.text);
        return EXIT_UNUSABLE_;
    }
    struct listing *l = calloc(1, sizeof(*l));
    if (!l || uv_loop_init(&l->loop) != 0) {
        fprintf(stderr, "millrace models: out of memory\n");
        free(l);
        config_free(&c);
        return EXIT_FAILED_;
    }
    l->config = &c;
    arena_init(&l->arena, 0);
    inspect_next(l);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    uv_loop_close(&l->loop);
    int status = print_rows(l->rows, c.n_models, false, o->json);
    arena_fini(&l->arena);
    free(l);
    config_free(&c);
    return status;
}

/* ---- what was pulled
 * ------------------------------------------------------------------------------------ */

static int list_local(const struct options *o)
{
    struct library l;
    struct errmsg why = {0};
    struct buf out = {0};
    enum err e = library_locate(&l, o->models_dir, o->data, o->ollama, &why);
    if (e == ERR_OK)
        e = library_print(&l, o->json, &out, &why);
    if (e == ERR_OK && out.n && (fwrite(out.p, 1, out.n, stdout) != out.n || fflush(stdout) != 0))
        e = err_set(&why, ERR_IO, "the list can't be written");
    if (e != ERR_OK)
        fprintf(stderr, "millrace models: %s\n", why.text);
    buf_fini(&out);
    return e == ERR_OK ? EXIT_DONE_ : EXIT_FAILED_;
}

/* ---- the command line
 * ----------------------------------------------------------------------------------- */

static int unusable(const char *what, const char *value)
{
    fprintf(stderr, "millrace models: %s '%s' (see millrace models --help)\n", what, value);
    return EXIT_UNUSABLE_;
}

static int read_options(struct options *o, int argc, char **argv)
{
    struct {
        const char *name;
        const char **value;
        bool *flag;
        bool word; /* goes to the configuration as it is */
    } table[] = {
        {"--config", NULL, NULL, true},
        {"--model", NULL, NULL, true},
        {"--worker", NULL, NULL, true},
        {"--models-dir", &o->models_dir, NULL, true},
        {"--ollama-models", &o->ollama, NULL, true},
        {"--data", &o->data, NULL, true},
        {"--url", &o->url, NULL, false},
        {"--format", &o->format, NULL, false},
        {"--ca-file", &o->ca_file, NULL, false},
        {"--insecure-http", NULL, &o->insecure_http, false},
        {"--local", NULL, &o->local, false},
    };
    enum { N = sizeof(table) / sizeof(table[0]) };
    bool configured = false;
    for (int i = 1; i < argc; i++) {
        size_t k = 0, n = strcspn(argv[i], "=");
        while (k < N && (strlen(table[k].name) != n || strncmp(table[k].name, argv[i], n) != 0))
            k++;
        if (k == N || (table[k].flag && argv[i][n]))
            return unusable("unknown option", argv[i]);
        if (table[k].flag) {
            *table[k].flag = true;
            continue;
        }
        const char *value = argv[i][n] == '=' ? argv[i] + n + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value || !*value)
            return unusable("no value after", table[k].name);
        if (table[k].value)
            *table[k].value = value;
        if (table[k].word) {
            if (o->n_words + 2 > (int)(sizeof(o->words) / sizeof(o->words[0])))
                return unusable("too many options at", table[k].name);
            o->words[o->n_words++] = table[k].name;
            o->words[o->n_words++] = value;
        }
        configured |= k < 2;
    }
    o->json = o->format && strcmp(o->format, "json") == 0;
    if (o->format && !o->json && strcmp(o->format, "table") != 0)
        return unusable("--format: expected table or json, got", o->format);
    if (o->ca_file && access(o->ca_file, R_OK) != 0)
        return unusable("--ca-file: cannot read", o->ca_file);
    if ((o->url != NULL) + o->local + configured > 1)
        return unusable("one of --url, --local and the configuration; unexpected",
                        o->url && o->local ? "--local"
                        : o->url           ? "--url"
                                           : "--local");
    return EXIT_DONE_;
}

int cmd_models(int argc, char **argv)
{
    struct options o = {0};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return EXIT_DONE_;
        }
    int status = read_options(&o, argc, argv);
    if (status)
        return status;
    signal(SIGPIPE, SIG_IGN);
    return o.url ? list_server(&o) : o.local ? list_local(&o) : list_config(&o);
}
