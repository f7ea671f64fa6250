/* gguf.c - opening: map the file or the set of split files, parse each, index names and keys. */
#include "worker/model/gguf.h"
#include "shared/base/checked.h"
#include "worker/model/gguf_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Messages have one line: of a long path the end says more. */
struct label {
    char text[80];
};

static struct label label_of(const char *path)
{
    struct label l;
    size_t n = strlen(path);
    if (n < sizeof l.text)
        memcpy(l.text, path, n + 1);
    else
        snprintf(l.text, sizeof l.text, "...%s", path + n - (sizeof l.text - 4));
    return l;
}

enum err gguf_part_map(struct gguf_part *part, const char *path, const char *label,
                       struct errmsg *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: a FIFO must not hang us */
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int code = errno;
        if (fd >= 0)
            close(fd);
        return err_set(why,
                       code == ENOENT   ? ERR_NOT_FOUND
                       : code == EACCES ? ERR_DENIED
                                        : ERR_IO,
                       "%s: can't be opened: %s", label, strerror(code));
    }
    enum err e = ERR_OK;
    void *p = MAP_FAILED;
    if (!S_ISREG(st.st_mode))
        e = err_set(why, ERR_INVALID, "%s: not a regular file; give the path of a .gguf file",
                    label);
    else if (st.st_size == 0)
        e = err_set(why, ERR_INVALID, "%s: the file is empty", label);
    else if ((uint64_t)st.st_size > SIZE_MAX ||
             (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        e = err_set(why, ERR_IO, "%s: can't be mapped: %s", label, strerror(errno));
    close(fd);
    if (e)
        return e;
    part->base = p;
    part->size = (uint64_t)st.st_size;
    part->mapped = true;
    return ERR_OK;
}

static const struct gguf_kv *part_kv(const struct gguf_part *part, const char *key)
{
    for (size_t i = 0; i < part->n_kv; i++)
        if (str_is(part->kv[i].key, key))
            return &part->kv[i];
    return NULL;
}

/* An unsigned key of one part; `fallback` when absent, UINT64_MAX when it is no such number. */
static uint64_t part_u64(const struct gguf_part *part, const char *key, uint64_t fallback)
{
    const struct gguf_kv *kv = part_kv(part, key);
    uint64_t v;
    if (!kv)
        return fallback;
    return kv->type != GGUF_ARRAY && gguf_elem_u64(kv, 0, &v) ? v : UINT64_MAX;
}

/* --- split sets: PREFIX-00001-of-00003.gguf, keys split.no (from 0), split.count,
 * split.tensors.count  */

enum { SPLIT_SUFFIX = sizeof "-00001-of-00003.gguf" - 1 };

static enum err split_path(char **out, const char *first, uint64_t no, uint64_t count,
                           const char *label, struct errmsg *why)
{
    char suffix[64];
    size_t n = strlen(first);
    snprintf(suffix, sizeof suffix, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", (uint64_t)1, count);
    if (n < SPLIT_SUFFIX || strcmp(first + n - SPLIT_SUFFIX, suffix) != 0)
        return err_set(why, ERR_INVALID,
                       "%s: the first of %" PRIu64
                       " parts must be named ...%s, so that the others can be found",
                       label, count, suffix);
    snprintf(suffix, sizeof suffix, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", no + 1, count);
    *out = strdup(first);
    if (!*out)
        return err_set(why, ERR_NOMEM, "%s: out of memory", label);
    memcpy(*out + n - SPLIT_SUFFIX, suffix, SPLIT_SUFFIX);
    return ERR_OK;
}

static enum err open_part(struct gguf *g, uint64_t no, uint64_t count, struct errmsg *why)
{
    char *path;
    enum err e = split_path(&path, g->path, no, count, label_of(g->path).text, why);
    if (e)
        return e;
    struct label l = label_of(path);
    struct gguf_part *part = &g->parts[no];
    if (!(e = gguf_part_map(part, path, l.text, why)) &&
        !(e = gguf_part_parse(part, l.text, why)) &&
        (part_u64(part, "split.no", UINT64_MAX) != no || part_u64(part, "split.count", 0) != count))
        e = err_set(why, ERR_INVALID, "%s: is not part %" PRIu64 " of %" PRIu64 " as its name says",
                    l.text, no + 1, count);
    free(path);
    return e;
}

static enum err open_other_parts(struct gguf *g, struct errmsg *why)
{
    struct label l = label_of(g->path);
    uint64_t count = part_u64(&g->parts[0], "split.count", 1);
    uint64_t no = part_u64(&g->parts[0], "split.no", 0);
    if (count == 0 && no == 0) /* written by some tools for "not split" */
        count = 1;
    if (count > GGUF_PARTS_MAX || no >= count)
        return err_set(why, ERR_INVALID, "%s: split.no and split.count make no sense", l.text);
    if (no != 0)
        return err_set(why, ERR_INVALID, "%s: part %" PRIu64 " of %" PRIu64 "; open the first part",
                       l.text, no + 1, count);
    if (count == 1)
        return ERR_OK;
    if (!g->parts[0].mapped)
        return err_set(why, ERR_UNSUPPORTED, "%s: a split set can't be read from memory", l.text);
    struct gguf_part *more = calloc(count, sizeof *more);
    if (!more)
        return err_set(why, ERR_NOMEM, "%s: out of memory for %" PRIu64 " parts", l.text, count);
    more[0] = g->parts[0];
    free(g->parts);
    g->parts = more;
    g->n_parts = count;
    for (uint64_t i = 1; i < count; i++) {
        enum err e = open_part(g, i, count, why);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err merge_tensors(struct gguf *g, struct errmsg *why)
{
    size_t total = 0;
    for (size_t i = 0; i < g->n_parts; i++)
        total += g->parts[i]
                     .n_tensors; /* each at most GGUF_TENSORS_MAX, at most GGUF_PARTS_MAX of them */
    uint64_t declared = part_u64(&g->parts[0], "split.tensors.count", total);
    if (declared != total && g->n_parts > 1)
        return err_set(why, ERR_INVALID,
                       "%s: its parts hold %zu tensors, split.tensors.count says %" PRIu64,
                       label_of(g->path).text, total, declared);
    if (total > GGUF_TENSORS_MAX)
        return err_set(why, ERR_INVALID, "%s: its parts hold %zu tensors, more than any model",
                       label_of(g->path).text, total);
    g->tensors = calloc(total ? total : 1, sizeof *g->tensors);
    if (!g->tensors)
        return err_set(why, ERR_NOMEM, "%s: out of memory for %zu tensors", label_of(g->path).text,
                       total);
    for (size_t i = 0; i < g->n_parts; i++) {
        struct gguf_part *part = &g->parts[i];
        if (part->n_tensors)
            memcpy(g->tensors + g->n_tensors, part->tensors, part->n_tensors * sizeof *g->tensors);
        g->n_tensors += part->n_tensors;
        free(part->tensors);
        part->tensors = NULL;
        part->n_tensors = 0;
    }
    return ERR_OK;
}

/* --- the index: sorted, because hostile names must not be able to make lookups slow ---------- */

static int compare(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int by_key(const void *a, const void *b, void *list)
{
    const struct gguf_kv *kv = list;
    return compare(kv[*(const uint32_t *)a].key, kv[*(const uint32_t *)b].key);
}

static int by_name(const void *a, const void *b, void *list)
{
    const struct gguf_tensor *t = list;
    return compare(t[*(const uint32_t *)a].name, t[*(const uint32_t *)b].name);
}

static uint32_t *sorted_index(size_t n, int (*cmp)(const void *, const void *, void *), void *list)
{
    uint32_t *index = malloc((n ? n : 1) * sizeof *index);
    for (size_t i = 0; index && i < n; i++)
        index[i] = (uint32_t)i;
    if (index)
        qsort_r(index, n, sizeof *index, cmp, list);
    return index;
}

static enum err build_index(struct gguf *g, struct errmsg *why)
{
    struct label l = label_of(g->path);
    const struct gguf_part *first = &g->parts[0];
    g->kv_by_key = sorted_index(first->n_kv, by_key, first->kv);
    g->tensor_by_name = sorted_index(g->n_tensors, by_name, g->tensors);
    if (!g->kv_by_key || !g->tensor_by_name)
        return err_set(why, ERR_NOMEM, "%s: out of memory for the index", l.text);
    for (size_t i = 1; i < first->n_kv; i++)
        if (by_key(&g->kv_by_key[i - 1], &g->kv_by_key[i], first->kv) == 0)
            return err_set(why, ERR_INVALID, "%s: key " STR_FMT " occurs twice", l.text,
                           STR_ARG(first->kv[g->kv_by_key[i]].key));
    for (size_t i = 1; i < g->n_tensors; i++)
        if (by_name(&g->tensor_by_name[i - 1], &g->tensor_by_name[i], g->tensors) == 0)
            return err_set(why, ERR_INVALID, "%s: tensor " STR_FMT " occurs twice", l.text,
                           STR_ARG(g->tensors[g->tensor_by_name[i]].name));
    return ERR_OK;
}

/* --- open, close, look up -------------------------------------------------------------------- */

static struct gguf *gguf_new(const char *path)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->path = strdup(path);
    g->parts = calloc(1, sizeof *g->parts);
    g->n_parts = g->parts ? 1 : 0;
    if (!g->path || !g->parts) {
        gguf_close(g);
        return NULL;
    }
    return g;
}

/* Takes over `g`: it becomes *out, or is freed. */
static enum err finish_open(struct gguf **out, struct gguf *g, struct errmsg *why)
{
    enum err e = gguf_part_parse(&g->parts[0], label_of(g->path).text, why);
    if (!e)
        e = open_other_parts(g, why);
    if (!e)
        e = merge_tensors(g, why);
    if (!e)
        e = build_index(g, why);
    if (e)
        gguf_close(g);
    else
        *out = g;
    return e;
}

enum err gguf_open(struct gguf **out, const char *path, struct errmsg *why)
{
    struct gguf *g = gguf_new(path);
    if (!g)
        return err_set(why, ERR_NOMEM, "%s: out of memory", label_of(path).text);
    enum err e = gguf_part_map(&g->parts[0], path, label_of(path).text, why);
    if (e) {
        gguf_close(g);
        return e;
    }
    return finish_open(out, g, why);
}

enum err gguf_open_memory(struct gguf **out, const void *bytes, size_t n, struct errmsg *why)
{
    struct gguf *g = gguf_new("(memory)");
    if (!g)
        return err_set(why, ERR_NOMEM, "out of memory");
    g->parts[0].base = bytes;
    g->parts[0].size = n;
    return finish_open(out, g, why);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_parts; i++)
        gguf_part_fini(&g->parts[i]);
    free(g->parts);
    free(g->tensors);
    free(g->kv_by_key);
    free(g->tensor_by_name);
    free(g->path);
    free(g);
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < g->n_parts; i++)
        sum += g->parts[i].size;
    return sum;
}

size_t gguf_n_kv(const struct gguf *g)
{
    return g->parts[0].n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i)
{
    return i < g->parts[0].n_kv ? &g->parts[0].kv[i] : NULL;
}

const struct gguf_kv *gguf_kv(const struct gguf *g, const char *key)
{
    struct str want = str_of(key);
    size_t low = 0, high = g->parts[0].n_kv;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct gguf_kv *kv = &g->parts[0].kv[g->kv_by_key[mid]];
        int c = compare(want, kv->key);
        if (c == 0)
            return kv;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    struct str want = str_of(name);
    size_t low = 0, high = g->n_tensors;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct gguf_tensor *t = &g->tensors[g->tensor_by_name[mid]];
        int c = compare(want, t->name);
        if (c == 0)
            return t;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}
