/* gguf_write.c - see gguf_write.h. Keys and tensor infos collect in two buffers, because the counts
 * stand in front. */
#include "worker/model/gguf_write.h"
#include "shared/base/checked.h"
#include "worker/model/gguf_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct file_head {
    char magic[4];
    uint32_t version;
    uint64_t n_tensors, n_keys;
};

struct gguf_writer {
    char *path, *temp; /* owned */
    int fd;
    struct buf keys, infos;
    uint64_t n_keys;
    uint64_t *sizes; /* owned: bytes of each tensor, in order */
    size_t n_tensors, cap;
    uint64_t next_offset; /* of the tensor to be added, relative to the data */
    uint64_t total;       /* bytes written */
    bool created, in_data, bad_tensor;
    size_t current;   /* tensor being written */
    uint64_t written; /* bytes of it */
};

enum err gguf_writer_open(struct gguf_writer **out, const char *path, struct errmsg *why)
{
    struct gguf_writer *w = calloc(1, sizeof *w);
    const bool memory = !path;
    if (memory)
        path = "(memory)";
    if (!w)
        return err_set(why, ERR_NOMEM, "%s: out of memory", path);
    w->fd = -1;
    buf_init(&w->keys);
    buf_init(&w->infos);
    size_t n = strlen(path) + sizeof ".partial.4294967295";
    w->path = strdup(path);
    w->temp = malloc(n);
    enum err e = ERR_OK;
    if (!w->path || !w->temp) {
        e = err_set(why, ERR_NOMEM, "%s: out of memory", path);
    } else if (!memory) {
        snprintf(w->temp, n, "%s.partial.%u", path, (unsigned)getpid());
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        w->created = w->fd >= 0;
        if (!w->created)
            e = err_set(why, ERR_IO, "%s: can't be written: %s", path, strerror(errno));
    }
    if (e)
        gguf_writer_abort(w);
    else
        *out = w;
    return e;
}

/* --- keys ------------------------------------------------------------------------------------ */

static void put_str(struct buf *b, struct str s)
{
    uint64_t n = s.n;
    buf_put(b, &n, sizeof n);
    buf_put(b, s.p, s.n);
}

static void put_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    put_str(&w->keys, str_of(key));
    buf_put(&w->keys, &type, sizeof type);
    w->n_keys++;
}

static void put_array_key(struct gguf_writer *w, const char *key, uint32_t elem, uint64_t n)
{
    put_key(w, key, GGUF_ARRAY);
    buf_put(&w->keys, &elem, sizeof elem);
    buf_put(&w->keys, &n, sizeof n);
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    put_key(w, key, GGUF_U32);
    buf_put(&w->keys, &v, sizeof v);
}

void gguf_put_u64(struct gguf_writer *w, const char *key, uint64_t v)
{
    put_key(w, key, GGUF_U64);
    buf_put(&w->keys, &v, sizeof v);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v)
{
    put_key(w, key, GGUF_F32);
    buf_put(&w->keys, &v, sizeof v);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
    put_key(w, key, GGUF_BOOL);
    buf_putc(&w->keys, v ? 1 : 0);
}

void gguf_put_str(struct gguf_writer *w, const char *key, struct str v)
{
    put_key(w, key, GGUF_STRING);
    put_str(&w->keys, v);
}

void gguf_put_str_array(struct gguf_writer *w, const char *key, const struct str *v, size_t n)
{
    put_array_key(w, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        put_str(&w->keys, v[i]);
}

void gguf_put_i32_array(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    put_array_key(w, key, GGUF_I32, n);
    buf_put(&w->keys, v, n * sizeof *v);
}

void gguf_put_f32_array(struct gguf_writer *w, const char *key, const float *v, size_t n)
{
    put_array_key(w, key, GGUF_F32, n);
    buf_put(&w->keys, v, n * sizeof *v);
}

enum err gguf_writer_head(const struct gguf_writer *w, struct buf *out, struct errmsg *why)
{
    const struct file_head head = {{'G', 'G', 'U', 'F'}, 3, 0, w->n_keys};
    buf_put(out, &head, sizeof head);
    buf_put(out, w->keys.p, w->keys.n);
    if (w->keys.failed || out->failed)
        return err_set(why, ERR_NOMEM, "%s: out of memory", w->path);
    return ERR_OK;
}

/* --- tensors --------------------------------------------------------------------------------- */

static bool tensor_bytes(enum qtype type, int n_dims, const uint64_t *ne, uint64_t *bytes)
{
    const struct qtype_info *q = qtype_info((uint32_t)type);
    if (!q || n_dims < 1 || n_dims > 4 || ne[0] % q->block_elems != 0)
        return false;
    uint64_t elems = 1;
    for (int d = 0; d < n_dims; d++)
        if (ne[d] == 0 || !mul_u64(&elems, elems, ne[d]))
            return false;
    return mul_u64(bytes, elems / q->block_elems, q->block_bytes);
}

void gguf_add_tensor(struct gguf_writer *w, const char *name, enum qtype type, int n_dims,
                     const uint64_t *ne)
{
    uint64_t bytes, end;
    if (w->in_data || !tensor_bytes(type, n_dims, ne, &bytes) ||
        !add_u64(&end, w->next_offset, bytes) || !align_up_u64(&end, end, GGUF_ALIGN_DEFAULT)) {
        w->bad_tensor = true;
        return;
    }
    if (w->n_tensors == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        uint64_t *more = realloc(w->sizes, cap * sizeof *more);
        if (!more) {
            w->infos.failed = true;
            return;
        }
        w->sizes = more;
        w->cap = cap;
    }
    w->sizes[w->n_tensors++] = bytes;
    uint32_t dims = (uint32_t)n_dims, id = (uint32_t)type;
    put_str(&w->infos, str_of(name));
    buf_put(&w->infos, &dims, sizeof dims);
    buf_put(&w->infos, ne, dims * sizeof *ne);
    buf_put(&w->infos, &id, sizeof id);
    buf_put(&w->infos, &w->next_offset, sizeof w->next_offset);
    w->next_offset = end;
}

static enum err write_all(struct gguf_writer *w, const void *data, size_t n, struct errmsg *why)
{
    const char *p = data;
    while (n > 0) {
        ssize_t k = write(w->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return err_set(why, errno == ENOSPC ? ERR_FULL : ERR_IO, "%s: writing failed: %s",
                           w->path, strerror(errno));
        p += k;
        n -= (size_t)k;
        w->total += (uint64_t)k;
    }
    return ERR_OK;
}

static enum err pad(struct gguf_writer *w, uint64_t at, struct errmsg *why)
{
    static const char zeros[GGUF_ALIGN_DEFAULT];
    return write_all(w, zeros, (size_t)(-at % GGUF_ALIGN_DEFAULT), why);
}

static enum err begin_data(struct gguf_writer *w, struct errmsg *why)
{
    if (w->bad_tensor)
        return err_set(why, ERR_INVALID,
                       "%s: a tensor's shape does not fit its type, or came too late", w->path);
    if (w->keys.failed || w->infos.failed)
        return err_set(why, ERR_NOMEM, "%s: out of memory", w->path);
    struct file_head head = {{'G', 'G', 'U', 'F'}, 3, w->n_tensors, w->n_keys};
    enum err e;
    if ((e = write_all(w, &head, sizeof head, why)) ||
        (e = write_all(w, w->keys.p, w->keys.n, why)) ||
        (e = write_all(w, w->infos.p, w->infos.n, why)) ||
        (e = pad(w, sizeof head + w->keys.n + w->infos.n, why)))
        return e;
    w->in_data = true;
    return ERR_OK;
}

enum err gguf_write_data(struct gguf_writer *w, const void *data, size_t n, struct errmsg *why)
{
    enum err e = w->in_data ? ERR_OK : begin_data(w, why);
    if (e)
        return e;
    if (w->current >= w->n_tensors || n > w->sizes[w->current] - w->written)
        return err_set(why, ERR_INVALID, "%s: more data than the tensors have room for", w->path);
    if ((e = write_all(w, data, n, why)))
        return e;
    w->written += n;
    if (w->written < w->sizes[w->current])
        return ERR_OK;
    w->written = 0;
    return pad(w, w->sizes[w->current++], why);
}

uint64_t gguf_writer_bytes(const struct gguf_writer *w)
{
    return w->total;
}

static void writer_free(struct gguf_writer *w)
{
    buf_fini(&w->keys);
    buf_fini(&w->infos);
    free(w->sizes);
    free(w->path);
    free(w->temp);
    free(w);
}

enum err gguf_writer_finish(struct gguf_writer *w, struct errmsg *why)
{
    enum err e = w->in_data ? ERR_OK : begin_data(w, why);
    if (!e && w->current < w->n_tensors)
        e = err_set(why, ERR_INVALID, "%s: the data of %zu tensors is missing", w->path,
                    w->n_tensors - w->current);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0 && !e)
        e = err_set(why, ERR_IO, "%s: writing failed: %s", w->path, strerror(errno));
    if (!e && rename(w->temp, w->path) != 0)
        e = err_set(why, ERR_IO, "%s: can't be written: %s", w->path, strerror(errno));
    if (e)
        gguf_writer_abort(w);
    else
        writer_free(w);
    return e;
}

void gguf_writer_abort(struct gguf_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    if (w->created)
        unlink(w->temp);
    writer_free(w);
}
