/* pull.c - `millrace pull`: options, and the run around take.c. */
#include "gateway/pull/pull.h"
#include "gateway/config.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_DONE_ = 0, EXIT_FAILED_ = 1, EXIT_UNUSABLE_ = 2 };

static const char help[] =
    "usage: millrace pull [options] NAME|URL\n\n"
    "NAME is [HOST/][NAMESPACE/]MODEL[:TAG]: qwen2.5:0.5b, someone/model:q8_0,\n"
    "hf.co/USER/REPOSITORY:QUANTIZATION. URL is https://.../FILE.gguf; of a split file\n"
    "(FILE-00001-of-00003.gguf) all parts are fetched. An interrupted pull goes on where it "
    "was.\n\n"
    "  --as NAME         the name that it gets here (the same; of a URL: the file's)\n"
    "  --registry URL    registry or mirror of names without HOST\n"
    "                    ($MILLRACE_REGISTRY, else https://" NAME_DEFAULT_HOST ")\n"
    "  --models-dir DIR  where models lie ($MILLRACE_MODELS, else DATA/models)\n"
    "  --data DIR        the gateway's data directory (as `millrace serve`)\n"
    "  --sha256 HEX      what a URL's file must have\n"
    "  --ca-file FILE    certificates of authorities to trust instead of the system's\n"
    "  --retries N       attempts in a row that bring nothing before giving up (6)\n"
    "  --timeout S       a transfer that stands still for so long is broken (60)\n"
    "  --insecure-http   take http from others than this machine, which anybody on the way can\n"
    "                    change; digests of a registry's manifest are then worth nothing\n"
    "  --quiet           errors only\n\n"
    "environment: MILLRACE_REGISTRY_TOKEN (bearer token for --registry or the default one),\n"
    "MILLRACE_URL_TOKEN (for a URL's host), HF_TOKEN and HF_ENDPOINT (for hf.co), https_proxy,\n"
    "NO_PROXY and the others that libcurl reads.\n";

struct options {
    const char *as, *registry, *models_dir, *data, *sha256, *ca_file, *retries, *timeout, *what;
    bool insecure_http, quiet, help;
};

static int unusable(const char *what, const char *which)
{
    fprintf(stderr, "millrace pull: %s%s%s; see 'millrace pull --help'\n", what, *which ? " " : "",
            which);
    return EXIT_UNUSABLE_;
}

/* "--name VALUE" or "--name=VALUE" of the table below; 0, or the exit status. */
static int read_options(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        const char **value;
        bool *flag;
    } table[] = {
        {"--as", &o->as, NULL},
        {"--registry", &o->registry, NULL},
        {"--models-dir", &o->models_dir, NULL},
        {"--data", &o->data, NULL},
        {"--sha256", &o->sha256, NULL},
        {"--ca-file", &o->ca_file, NULL},
        {"--retries", &o->retries, NULL},
        {"--timeout", &o->timeout, NULL},
        {"--insecure-http", NULL, &o->insecure_http},
        {"--quiet", NULL, &o->quiet},
        {"--help", NULL, &o->help},
        {"-h", NULL, &o->help},
    };
    for (int i = 1; i < argc; i++) {
        size_t k = 0, n = strcspn(argv[i], "=");
        if (argv[i][0] != '-') {
            if (o->what)
                return unusable("one name at a time; unexpected", argv[i]);
            o->what = argv[i];
            continue;
        }
        while (k < sizeof(table) / sizeof(table[0]) &&
               (strlen(table[k].name) != n || strncmp(table[k].name, argv[i], n) != 0))
            k++;
        if (k == sizeof(table) / sizeof(table[0]) || (table[k].flag && argv[i][n]))
            return unusable("unknown option", argv[i]);
        if (table[k].flag)
            *table[k].flag = true;
        else if (argv[i][n] == '=')
            *table[k].value = argv[i] + n + 1;
        else if (i + 1 < argc)
            *table[k].value = argv[++i];
        else
            return unusable("no value after", argv[i]);
    }
    return 0;
}

static int run(struct puller *p, const char *what)
{
    struct errmsg why = {0};
    struct pulled got;
    struct buf name = {0}, size = {0};
    int lock = -1;
    enum err e = library_lock(&p->library, false, &lock, &why);
    if (e == ERR_OK)
        e = name_is_url(str_of(what)) ? take_url(&got, p, what, &why)
                                      : take_name(&got, p, what, &why);
    progress_end(&p->progress);
    if (e != ERR_OK) {
        fprintf(stderr, "millrace pull: %s\n", why.text);
    } else if (!p->progress.quiet) {
        name_put(&name, &got.name);
        put_bytes(&size, got.bytes);
        printf("%s %s (%s); serve it: millrace serve --model %s\n",
               got.fetched ? "pulled" : "up to date:", name.p ? name.p : "", size.p ? size.p : "",
               name.p ? name.p : "");
    }
    buf_fini(&name);
    buf_fini(&size);
    if (lock >= 0)
        close(lock);
    return e == ERR_OK ? EXIT_DONE_ : EXIT_FAILED_;
}

int cmd_pull(int argc, char **argv)
{
    struct options o = {0};
    struct puller p = {0};
    struct errmsg why = {0};
    uint64_t retries = 6, timeout = 60;
    char hex[DIGEST_HEX + 1], digest[80];
    int status = read_options(&o, argc, argv);
    if (status)
        return status;
    if (o.help) {
        fputs(help, stdout);
        return EXIT_DONE_;
    }
    if (!o.what)
        return unusable("no model is named", "");
    if (o.retries && !str_to_u64(str_of(o.retries), 1000, &retries))
        return unusable("--retries: expected a whole number up to 1000, got", o.retries);
    if (o.timeout && (!str_to_u64(str_of(o.timeout), 3600, &timeout) || timeout == 0))
        return unusable("--timeout: expected seconds from 1 to 3600, got", o.timeout);
    if (o.sha256) {
        snprintf(digest, sizeof(digest), "%s%s", strchr(o.sha256, ':') ? "" : "sha256:", o.sha256);
        if (!digest_parse(hex, str_of(digest)))
            return unusable("--sha256: expected 64 lowercase hex digits, got", o.sha256);
    }
    if (o.ca_file && access(o.ca_file, R_OK) != 0)
        return unusable("--ca-file: cannot read", o.ca_file);
    const char *registry = getenv("MILLRACE_REGISTRY");
    p.registry = o.registry ? o.registry : registry && *registry ? registry : NULL;
    p.registry_given = o.registry != NULL;
    p.insecure_http = o.insecure_http;
    p.as = o.as;
    p.sha256 = o.sha256 ? hex : NULL;
    progress_init(&p.progress, o.quiet);
    const struct fetch_options f = {
        .ca_file = o.ca_file,
        .user_agent = "millrace/" MILLRACE_VERSION,
        .stall_s = (uint32_t)timeout,
        .retries = (uint32_t)retries,
        .insecure_http = o.insecure_http,
        .progress = &p.progress,
    };
    signal(SIGPIPE, SIG_IGN); /* a server that left is an error code, not an end */
    if (library_locate(&p.library, o.models_dir, o.data, NULL, &why) != ERR_OK ||
        fetcher_open(&p.fetcher, &f, &why) != ERR_OK) {
        fprintf(stderr, "millrace pull: %s\n", why.text);
        return EXIT_FAILED_;
    }
    status = run(&p, o.what);
    fetcher_close(p.fetcher);
    return status;
}
