/* library.c - where models lie: finding, saving and listing them. */
#include "gateway/library/library.h"
#include "gateway/library/files.h"
#include "gateway/usage/usage.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- where -------------------------------------------------------------------------------- */

static enum err set_dir(char out[LIBRARY_PATH_MAX], const char *dir, const char *below,
                        struct errmsg *why)
{
    int n = snprintf(out, LIBRARY_PATH_MAX, "%s%s", dir, below);
    /* Room for what comes below it: manifests/ and four parts of a name. */
    if (n < 0 || n >= LIBRARY_PATH_MAX - 600)
        return err_set(why, ERR_RANGE, "%.60s...: the path of the models is too long", dir);
    return ERR_OK;
}

static bool is_dir(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static enum err locate_ollama(struct library *out, const char *dir, struct errmsg *why)
{
    static const char service[] = "/usr/share/ollama/.ollama/models";
    const char *own = getenv("OLLAMA_MODELS"), *home = getenv("HOME");
    enum err e;
    if (strcmp(dir, "auto") != 0)
        e = set_dir(out->ollama, dir, "", why);
    else if (own && *own)
        e = set_dir(out->ollama, own, "", why);
    else {
        e = set_dir(out->ollama, home && *home ? home : "/root", "/.ollama/models", why);
        if (e == ERR_OK && !is_dir(out->ollama) && is_dir(service))
            e = set_dir(out->ollama, service, "", why);
    }
    if (e == ERR_OK && !is_dir(out->ollama))
        return err_set(why, ERR_NOT_FOUND,
                       "--ollama-models: %.150s is no folder; name Ollama's models folder (the one "
                       "with blobs and manifests)",
                       out->ollama);
    return e;
}

enum err library_locate(struct library *out, const char *models_dir, const char *data_dir,
                        const char *ollama_dir, struct errmsg *why)
{
    const char *env = getenv("MILLRACE_MODELS");
    char data[LIBRARY_PATH_MAX];
    enum err e;
    *out = (struct library){.dir = ""};
    if (!models_dir && env && *env)
        models_dir = env;
    if (!models_dir && !data_dir) {
        usage_default_dir(data, sizeof(data));
        data_dir = data;
    }
    e = models_dir ? set_dir(out->dir, models_dir, "", why)
                   : set_dir(out->dir, data_dir, "/models", why);
    if (e == ERR_OK && ollama_dir)
        e = locate_ollama(out, ollama_dir, why);
    return e;
}

void library_blob_path(struct buf *out, const struct library *l, const char *hex)
{
    buf_printf(out, "%s/blobs/sha256-%s", l->dir, hex);
}

bool library_has_blob(const struct library *l, const char *hex, uint64_t size)
{
    struct buf path = {0};
    library_blob_path(&path, l, hex);
    bool has = !path.failed && files_size(path.p) == (int64_t)size;
    buf_fini(&path);
    return has;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* root/manifests/HOST/NS/MODEL/TAG */
static enum err manifest_path(char out[LIBRARY_PATH_MAX], const char *root,
                              const struct model_name *n, struct errmsg *why)
{
    int len = snprintf(out, LIBRARY_PATH_MAX, "%s/manifests/%s/%s/%s/%s", root, n->host, n->ns,
                       n->model, n->tag);
    if (len < 0 || len >= LIBRARY_PATH_MAX)
        return err_set(why, ERR_RANGE, "%.60s...: the path is too long", root);
    return ERR_OK;
}

static enum err read_manifest(struct manifest *out, struct arena *a, const char *root,
                              const struct model_name *n, struct errmsg *why)
{
    char path[LIBRARY_PATH_MAX];
    struct buf text = {0};
    enum err e = manifest_path(path, root, n, why);
    if (e == ERR_OK)
        e = files_read(&text, path, MANIFEST_MAX_BYTES, why);
    if (e == ERR_OK) {
        struct errmsg fault = {0};
        char *kept = arena_strndup(a, text.p ? text.p : "", text.n);
        e = kept ? manifest_parse(out, a, kept, text.n, &fault) : ERR_NOMEM;
        if (e)
            (void)err_set(why, e, "%.120s: %s", path, kept ? fault.text : "out of memory");
    }
    buf_fini(&text);
    return e;
}

enum err library_read(struct manifest *out, struct arena *a, const struct library *l,
                      const struct model_name *n, struct errmsg *why)
{
    return read_manifest(out, a, l->dir, n, why);
}

static bool set_path(char out[LIBRARY_PATH_MAX], const char *root, const char *fmt, const char *hex)
{
    int n = snprintf(out, LIBRARY_PATH_MAX, "%s/blobs/", root);
    if (n < 0 || n >= LIBRARY_PATH_MAX - 100)
        return false;
    snprintf(out + n, (size_t)(LIBRARY_PATH_MAX - n), "%s%s", fmt, hex);
    return true;
}

/* The blob's path if it is there and whole. Ollama wrote sha256:HEX before it wrote sha256-HEX. */
static enum err find_blob(char out[LIBRARY_PATH_MAX], const char *root, const struct layer *layer,
                          struct errmsg *why)
{
    static const char *const prefixes[] = {"sha256-", "sha256:"};
    int64_t size = -1;
    for (int i = 0; i < 2 && size < 0; i++)
        if (set_path(out, root, prefixes[i], layer->hex))
            size = files_size(out);
    if (size < 0)
        return err_set(why, ERR_INVALID, "its %s blob sha256-%.12s... is missing",
                       layer_kind_name(layer->kind), layer->hex);
    if ((uint64_t)size != layer->size)
        return err_set(why, ERR_INVALID,
                       "its %s blob sha256-%.12s... has %lld bytes instead of %llu",
                       layer_kind_name(layer->kind), layer->hex, (long long)size,
                       (unsigned long long)layer->size);
    return ERR_OK;
}

static enum err find_files(struct local_model *out, const char *root, const struct manifest *m,
                           struct errmsg *why)
{
    const struct layer *first = manifest_first(m, LAYER_MODEL);
    char path[LIBRARY_PATH_MAX];
    enum err e = manifest_check_model(m, why);
    for (size_t i = 0; e == ERR_OK && i < m->n_layers; i++)
        if (m->layers[i].kind == LAYER_MODEL || m->layers[i].kind == LAYER_PROJECTOR)
            e = find_blob(path, root, &m->layers[i], why);
    if (e)
        return e;
    if (manifest_count(m, LAYER_MODEL) == 1)
        return find_blob(out->path, root, first, why);
    int n = snprintf(out->path, sizeof(out->path), "%s/splits/%s/" STR_FMT, root, first->hex,
                     STR_ARG(first->title));
    if (n < 0 || n >= (int)sizeof(out->path) || files_size(out->path) != (int64_t)first->size)
        return err_set(why, ERR_INVALID, "the links of its split files are missing");
    return ERR_OK;
}

/* Fills all but `fault`; on failure out->path is empty. */
static enum err find_in(struct local_model *out, const char *root, const struct model_name *n,
                        struct errmsg *why)
{
    struct arena a;
    struct manifest m = {0};
    struct stat s;
    char path[LIBRARY_PATH_MAX];
    *out = (struct local_model){.name = *n};
    arena_init(&a, 64 << 20);
    enum err e = read_manifest(&m, &a, root, n, why);
    if (e == ERR_OK) {
        out->bytes = m.total_bytes;
        e = find_files(out, root, &m, why);
    }
    if (e != ERR_OK)
        out->path[0] = '\0';
    if (manifest_path(path, root, n, NULL) == ERR_OK && stat(path, &s) == 0)
        out->changed_s = (int64_t)s.st_mtime;
    arena_fini(&a);
    return e;
}

enum err library_find(struct local_model *out, const struct library *l, const struct model_name *n,
                      struct errmsg *why)
{
    const char *const roots[] = {l->dir, l->ollama};
    struct errmsg fault = {0};
    struct buf name = {0};
    enum err e = ERR_NOT_FOUND;
    name_put(&name, n);
    for (int i = 0; i < 2 && e == ERR_NOT_FOUND; i++) {
        if (!roots[i][0])
            continue;
        e = find_in(out, roots[i], n, &fault);
        out->ollama = i == 1;
    }
    if (e == ERR_NOT_FOUND)
        (void)err_set(why, e, "there is no model '%s' in %.80s%s%.80s; fetch it: millrace pull %s",
                      name.p ? name.p : "", l->dir, l->ollama[0] ? " or " : "", l->ollama,
                      name.p ? name.p : "");
    else if (e != ERR_OK)
        (void)err_set(why, e, "%s: %.150s%s", name.p ? name.p : "", fault.text,
                      out->ollama ? "" : "; pull it again");
    buf_fini(&name);
    return e;
}

/* ---- writing ------------------------------------------------------------------------------ */

enum err library_lock(const struct library *l, bool exclusive, int *fd, struct errmsg *why)
{
    static const char *const folders[] = {"blobs", "manifests", "splits", "partial"};
    char path[LIBRARY_PATH_MAX + 16];
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", l->dir, folders[i]);
        enum err e = files_make_dirs(path, why);
        if (e)
            return e;
    }
    snprintf(path, sizeof(path), "%s/lock", l->dir);
    int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (f < 0)
        return files_fault(why, path, "open it", errno);
    int rc;
    do
        rc = flock(f, exclusive ? LOCK_EX | LOCK_NB : LOCK_SH);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        int number = errno;
        close(f);
        if (number == EWOULDBLOCK)
            return err_set(why, ERR_AGAIN,
                           "%.150s: a pull is under way there; try again when it has ended",
                           l->dir);
        return files_fault(why, path, "lock it", number);
    }
    *fd = f;
    return ERR_OK;
}

/* splits/HEX/TITLE -> ../../blobs/sha256-HEX. Links that are right stay. */
static enum err link_split(const struct library *l, const struct manifest *m, struct errmsg *why)
{
    const struct layer *first = manifest_first(m, LAYER_MODEL);
    char dir[LIBRARY_PATH_MAX + 100], path[LIBRARY_PATH_MAX + 400], target[128], now[128];
    snprintf(dir, sizeof(dir), "%s/splits/%s", l->dir, first->hex);
    enum err e = files_make_dirs(dir, why);
    for (size_t i = 0; e == ERR_OK && i < m->n_layers; i++) {
        const struct layer *layer = &m->layers[i];
        if (layer->kind != LAYER_MODEL)
            continue;
        snprintf(path, sizeof(path), "%s/" STR_FMT, dir, STR_ARG(layer->title));
        snprintf(target, sizeof(target), "../../blobs/sha256-%s", layer->hex);
        ssize_t n = readlink(path, now, sizeof(now));
        if (n == (ssize_t)strlen(target) && memcmp(now, target, (size_t)n) == 0)
            continue;
        if (unlink(path) != 0 && errno != ENOENT)
            e = files_fault(why, path, "replace it", errno);
        else if (symlink(target, path) != 0)
            e = files_fault(why, path, "link it", errno);
    }
    return e == ERR_OK ? files_sync_parent(path, why) : e;
}

enum err library_save(const struct library *l, const struct model_name *n, const struct manifest *m,
                      struct errmsg *why)
{
    char path[LIBRARY_PATH_MAX], dir[LIBRARY_PATH_MAX];
    struct buf text = {0};
    enum err e = manifest_path(path, l->dir, n, why);
    if (e == ERR_OK && manifest_count(m, LAYER_MODEL) > 1)
        e = link_split(l, m, why);
    if (e == ERR_OK) {
        memcpy(dir, path, sizeof(dir));
        *strrchr(dir, '/') = '\0';
        e = files_make_dirs(dir, why);
    }
    if (e == ERR_OK) {
        manifest_put(&text, m);
        e = text.failed ? err_set(why, ERR_NOMEM, "out of memory")
                        : files_replace(path, text.p, text.n, why);
    }
    buf_fini(&text);
    return e;
}

/* ---- walking all names -------------------------------------------------------------------- */

struct names {
    struct model_name *p; /* owned */
    size_t n, cap;
};

static bool add_name(struct names *s, const struct model_name *n)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 32;
        struct model_name *p = reallocarray(s->p, cap, sizeof(*p));
        if (!p)
            return false;
        s->p = p;
        s->cap = cap;
    }
    s->p[s->n++] = *n;
    return true;
}

/* Four levels of folders; names that are none of ours (temporary files) are passed over. */
static enum err walk(struct names *out, char path[LIBRARY_PATH_MAX], int level, struct str parts[4],
                     struct errmsg *why)
{
    size_t length = strlen(path);
    DIR *d = opendir(path);
    enum err e = ERR_OK;
    if (!d)
        return errno == ENOENT || errno == ENOTDIR
                   ? ERR_OK
                   : files_fault(why, path, "list the folder", errno);
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d));) {
        struct str file = str_of(entry->d_name);
        const char *colon = level == 0 ? strchr(entry->d_name, ':') : NULL; /* a host's port */
        struct str checked = {file.p, colon ? (size_t)(colon - file.p) : file.n};
        if (!name_part_ok(checked) || file.n > NAME_PART_MAX ||
            length + 1 + file.n >= LIBRARY_PATH_MAX)
            continue;
        parts[level] = file;
        if (level < 3) {
            path[length] = '/';
            memcpy(path + length + 1, file.p, file.n + 1);
            e = walk(out, path, level + 1, parts, why);
            path[length] = '\0';
        } else {
            struct model_name n;
            snprintf(n.host, sizeof(n.host), STR_FMT, STR_ARG(parts[0]));
            snprintf(n.ns, sizeof(n.ns), STR_FMT, STR_ARG(parts[1]));
            snprintf(n.model, sizeof(n.model), STR_FMT, STR_ARG(parts[2]));
            snprintf(n.tag, sizeof(n.tag), STR_FMT, STR_ARG(parts[3]));
            if (!add_name(out, &n))
                e = err_set(why, ERR_NOMEM, "out of memory");
        }
    }
    closedir(d);
    return e;
}

static int by_name(const void *a, const void *b)
{
    const struct model_name *x = a, *y = b;
    int c = strcmp(x->host, y->host);
    c = c ? c : strcmp(x->ns, y->ns);
    c = c ? c : strcmp(x->model, y->model);
    return c ? c : strcmp(x->tag, y->tag);
}

/* Owned by the caller, also on failure: free(out->p). */
static enum err all_names(struct names *out, const char *root, struct errmsg *why)
{
    char path[LIBRARY_PATH_MAX];
    struct str parts[4];
    snprintf(path, sizeof(path), "%.*s/manifests", LIBRARY_PATH_MAX - 16, root);
    enum err e = walk(out, path, 0, parts, why);
    if (e == ERR_OK && out->n)
        qsort(out->p, out->n, sizeof(*out->p), by_name);
    return e;
}

enum err library_list(const struct library *l,
                      void (*on_model)(void *user, const struct local_model *m), void *user,
                      struct errmsg *why)
{
    const char *const roots[] = {l->dir, l->ollama};
    enum err e = ERR_OK;
    for (int i = 0; i < 2 && e == ERR_OK; i++) {
        struct names names = {0};
        if (roots[i][0])
            e = all_names(&names, roots[i], why);
        for (size_t k = 0; e == ERR_OK && k < names.n; k++) {
            struct local_model m;
            struct errmsg fault = {0};
            if (find_in(&m, roots[i], &names.p[k], &fault) != ERR_OK)
                snprintf(m.fault, sizeof(m.fault), "%.159s", fault.text);
            m.ollama = i == 1;
            on_model(user, &m);
        }
        free(names.p);
    }
    return e;
}

/* ---- removing ----------------------------------------------------------------------------- */

/* Does any name but `except` use this blob? Errors count as yes: nothing is removed on a guess. */
static enum err blob_is_used(bool *used, const struct library *l, const struct names *names,
                             const struct model_name *except, const char *hex, struct errmsg *why)
{
    enum err e = ERR_OK;
    *used = false;
    for (size_t i = 0; e == ERR_OK && !*used && i < names->n; i++) {
        struct arena a;
        struct manifest m;
        if (name_eq(&names->p[i], except))
            continue;
        arena_init(&a, 64 << 20);
        e = read_manifest(&m, &a, l->dir, &names->p[i], why);
        for (size_t k = 0; e == ERR_OK && k < m.n_layers; k++)
            *used = *used || strcmp(m.layers[k].hex, hex) == 0;
        arena_fini(&a);
    }
    return e;
}

static void remove_split_links(const struct library *l, const struct manifest *m)
{
    const struct layer *first = manifest_first(m, LAYER_MODEL);
    char path[LIBRARY_PATH_MAX + 400];
    for (size_t i = 0; i < m->n_layers; i++) {
        if (m->layers[i].kind != LAYER_MODEL || !m->layers[i].title.n)
            continue;
        snprintf(path, sizeof(path), "%s/splits/%s/" STR_FMT, l->dir, first->hex,
                 STR_ARG(m->layers[i].title));
        (void)unlink(path);
    }
    snprintf(path, sizeof(path), "%s/splits/%s", l->dir, first->hex);
    (void)rmdir(path);
}

static enum err remove_blobs(const struct library *l, const struct model_name *n,
                             const struct manifest *m, uint64_t *freed, struct errmsg *why)
{
    struct names names = {0};
    const struct layer *first = manifest_first(m, LAYER_MODEL);
    enum err e = all_names(&names, l->dir, why);
    for (size_t i = 0; e == ERR_OK && i < m->n_layers; i++) {
        struct buf path = {0};
        bool used = true;
        e = blob_is_used(&used, l, &names, n, m->layers[i].hex, why);
        library_blob_path(&path, l, m->layers[i].hex);
        if (e == ERR_OK && !used && !path.failed) {
            int64_t size = files_size(path.p);
            if (&m->layers[i] == first && manifest_count(m, LAYER_MODEL) > 1)
                remove_split_links(l, m);
            if (unlink(path.p) == 0)
                *freed += size > 0 ? (uint64_t)size : 0;
            else if (errno != ENOENT)
                e = files_fault(why, path.p, "remove it", errno);
        }
        buf_fini(&path);
    }
    free(names.p);
    return e;
}

enum err library_remove(const struct library *l, const struct model_name *n, uint64_t *freed_bytes,
                        struct errmsg *why)
{
    char path[LIBRARY_PATH_MAX];
    struct arena a;
    struct manifest m = {0};
    struct errmsg fault = {0};
    *freed_bytes = 0;
    arena_init(&a, 64 << 20);
    enum err known = library_read(&m, &a, l, n, &fault);
    enum err e = manifest_path(path, l->dir, n, why);
    /* The name first: whatever happens after that, nothing half-removed is found under it. */
    if (e == ERR_OK && unlink(path) != 0)
        e = files_fault(why, path, "remove it", errno);
    if (e == ERR_OK)
        e = files_sync_parent(path, why);
    if (e == ERR_OK && known != ERR_OK)
        e = err_set(why, known, "removed, but its blobs stay: %.180s", fault.text);
    if (e == ERR_OK)
        e = remove_blobs(l, n, &m, freed_bytes, why);
    for (int up = 0; up < 3; up++) { /* folders that are empty now */
        char *slash = strrchr(path, '/');
        if (!slash)
            break;
        *slash = '\0';
        if (rmdir(path) != 0)
            break;
    }
    arena_fini(&a);
    return e;
}

enum err library_remove_partial(const struct library *l, uint64_t *freed_bytes, struct errmsg *why)
{
    char dir[LIBRARY_PATH_MAX + 16], path[LIBRARY_PATH_MAX + 400];
    enum err e = ERR_OK;
    *freed_bytes = 0;
    snprintf(dir, sizeof(dir), "%s/partial", l->dir);
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? ERR_OK : files_fault(why, dir, "list the folder", errno);
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d));) {
        if (strncmp(entry->d_name, "sha256-", 7) != 0 && strncmp(entry->d_name, "url-", 4) != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        int64_t size = files_size(path);
        if (unlink(path) != 0)
            e = files_fault(why, path, "remove it", errno);
        else
            *freed_bytes += size > 0 ? (uint64_t)size : 0;
    }
    closedir(d);
    return e;
}
