/* blob.c - a partial file, its growth and its end. */
#include "gateway/pull/blob.h"
#include "gateway/library/files.h"
#include "shared/base/json.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    HASH_CHUNK = 1 << 20,
    NEWS_BYTES = 1 << 20,   /* so much progress makes a failed attempt no failure */
    SLOW_TO_HASH = 1 << 30, /* takes seconds: say what is being done */
    SIDECAR_MAX = 16 << 10,
    MAX_FRESH_STARTS = 1, /* a resumed file with a wrong digest gets one more try, from byte 0 */
};

/* The sidecar of a URL: what its partial bytes, or the finished blob, belong to. */
struct origin {
    char etag[FETCH_TEXT_MAX], modified[64];
    char hex[DIGEST_HEX + 1]; /* of the finished blob; empty: not finished */
    uint64_t size;            /* of the finished blob */
};

struct bring {
    const struct library *l;
    struct fetcher *f;
    struct progress *p;
    const struct blob_source *s;
    struct blob *out;
    char path[LIBRARY_PATH_MAX + 100], sidecar[LIBRARY_PATH_MAX + 108];
    int fd;
    uint64_t have;               /* bytes in the partial file, all hashed */
    uint64_t resumed;            /* of these: from an earlier run */
    uint64_t size;               /* UINT64_MAX: unknown */
    char expect[DIGEST_HEX + 1]; /* empty: unknown */
    struct origin origin;
    crypto_hash_sha256_state hash;
};

/* ---- room --------------------------------------------------------------------------------- */

enum err blob_check_room(const struct library *l, uint64_t bytes, struct errmsg *why)
{
    struct statvfs v;
    if (statvfs(l->dir, &v) != 0)
        return files_fault(why, l->dir, "ask for free space", errno);
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (bytes <= room)
        return ERR_OK;
    struct buf need = {0}, has = {0};
    put_bytes(&need, bytes);
    put_bytes(&has, room);
    enum err e = err_set(why, ERR_FULL,
                         "%.120s has %s free and %s are needed: make room, or name another place "
                         "with --models-dir",
                         l->dir, has.p ? has.p : "?", need.p ? need.p : "?");
    buf_fini(&need);
    buf_fini(&has);
    return e;
}

/* What a file of `size` bytes still takes from the disk: blocks that a partial file holds, written
 * or reserved, are no longer counted as free. */
static uint64_t more_room(const struct stat *st, uint64_t size)
{
    uint64_t held = (uint64_t)st->st_blocks * 512;
    held = held > (uint64_t)st->st_size ? held : (uint64_t)st->st_size;
    return held < size ? size - held : 0;
}

uint64_t blob_room(const struct library *l, const char *hex, uint64_t size)
{
    char path[LIBRARY_PATH_MAX + 100];
    struct stat st;
    if (library_has_blob(l, hex, size))
        return 0;
    snprintf(path, sizeof(path), "%s/partial/sha256-%s", l->dir, hex);
    return stat(path, &st) == 0 ? more_room(&st, size) : size;
}

/* ---- the sidecar -------------------------------------------------------------------------- */

static void read_text(char *out, size_t size, const struct json *v)
{
    if (json_is(v, JSON_STRING) && v->s.n < size && !memchr(v->s.p, '\0', v->s.n)) {
        memcpy(out, v->s.p, v->s.n);
        out[v->s.n] = '\0';
    }
}

/* One that can't be read says nothing, which costs a fresh start. */
static void read_origin(struct bring *b)
{
    struct buf text = {0};
    struct arena a;
    struct json *root = NULL;
    char digest[80] = "";
    arena_init(&a, 1 << 20);
    b->origin = (struct origin){.size = 0};
    if (files_read(&text, b->sidecar, SIDECAR_MAX, NULL) == ERR_OK &&
        json_parse(&root, &a, text.p ? text.p : "", text.n, NULL, NULL) == ERR_OK &&
        json_is(json_get(root, "url"), JSON_STRING) &&
        str_is(json_get(root, "url")->s, b->s->url)) {
        const struct json *size = json_get(root, "size");
        read_text(b->origin.etag, sizeof(b->origin.etag), json_get(root, "etag"));
        read_text(b->origin.modified, sizeof(b->origin.modified), json_get(root, "modified"));
        read_text(digest, sizeof(digest), json_get(root, "digest"));
        if (json_is(size, JSON_INT) && size->i >= 0 && digest_parse(b->origin.hex, str_of(digest)))
            b->origin.size = (uint64_t)size->i;
    }
    arena_fini(&a);
    buf_fini(&text);
}

static enum err write_origin(const struct bring *b, struct errmsg *why)
{
    struct buf text = {0};
    buf_puts(&text, "{\"url\":");
    json_put_cstr(&text, b->s->url);
    buf_puts(&text, ",\"etag\":");
    json_put_cstr(&text, b->origin.etag);
    buf_puts(&text, ",\"modified\":");
    json_put_cstr(&text, b->origin.modified);
    if (b->origin.hex[0])
        buf_printf(&text, ",\"digest\":\"sha256:%s\",\"size\":%llu", b->origin.hex,
                   (unsigned long long)b->origin.size);
    buf_puts(&text, "}\n");
    enum err e = text.failed ? err_set(why, ERR_NOMEM, "out of memory")
                             : files_replace(b->sidecar, text.p, text.n, why);
    buf_fini(&text);
    return e;
}

static const char *validator(const struct bring *b)
{
    return b->origin.etag[0] ? b->origin.etag : b->origin.modified[0] ? b->origin.modified : NULL;
}

/* ---- the partial file --------------------------------------------------------------------- */

static enum err lock_partial(struct bring *b, struct errmsg *why)
{
    for (;;) {
        struct stat ours, named;
        b->fd = open(b->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (b->fd < 0)
            return files_fault(why, b->path, "create it", errno);
        int rc = flock(b->fd, LOCK_EX | LOCK_NB);
        if (rc != 0 && errno == EWOULDBLOCK) {
            progress_note(b->p, "another pull is fetching this file: waiting for it");
            do
                rc = flock(b->fd, LOCK_EX);
            while (rc != 0 && errno == EINTR);
        }
        if (rc != 0 || fstat(b->fd, &ours) != 0)
            return files_fault(why, b->path, "lock it", errno);
        /* Who had the lock may have renamed the file away: then this is no partial file any more.
         */
        if (stat(b->path, &named) == 0 && named.st_ino == ours.st_ino &&
            named.st_dev == ours.st_dev)
            return ERR_OK;
        close(b->fd);
        b->fd = -1;
    }
}

static enum err start_fresh(struct bring *b, struct errmsg *why)
{
    progress_lose(b->p, b->have);
    b->have = b->resumed = 0;
    crypto_hash_sha256_init(&b->hash);
    return ftruncate(b->fd, 0) != 0 ? files_fault(why, b->path, "empty it", errno) : ERR_OK;
}

/* Hashes what an earlier run left, so that the rest can be added to the sum. */
static enum err take_up(struct bring *b, struct errmsg *why)
{
    struct stat st;
    if (fstat(b->fd, &st) != 0)
        return files_fault(why, b->path, "look at it", errno);
    uint64_t size = (uint64_t)st.st_size;
    crypto_hash_sha256_init(&b->hash);
    b->have = b->resumed = 0;
    if (size == 0)
        return ERR_OK;
    if ((b->size != UINT64_MAX && size > b->size) || (!b->s->hex && !validator(b)))
        return start_fresh(b, why);
    if (size >= SLOW_TO_HASH)
        progress_note(b->p, "checking what an earlier run left");
    unsigned char *chunk = malloc(HASH_CHUNK);
    enum err e = chunk ? ERR_OK : err_set(why, ERR_NOMEM, "out of memory");
    while (e == ERR_OK && b->have < size) {
        ssize_t n = pread(b->fd, chunk, HASH_CHUNK, (off_t)b->have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            e = files_fault(why, b->path, "read it", n < 0 ? errno : EIO);
        } else {
            crypto_hash_sha256_update(&b->hash, chunk, (unsigned long long)n);
            b->have += (uint64_t)n;
        }
    }
    free(chunk);
    b->resumed = b->have;
    progress_have(b->p, b->have);
    return e;
}

/* ---- what comes in ------------------------------------------------------------------------ */

static enum err lies(struct errmsg *why, uint64_t says, uint64_t size)
{
    return err_set(
        why, ERR_PROTOCOL,
        "the server announces a file of %llu bytes, %llu were promised: nothing was taken",
        (unsigned long long)says, (unsigned long long)size);
}

/* Room for the whole file now rather than a full disk later. File systems without this say so. */
static enum err reserve(struct bring *b, struct errmsg *why)
{
    struct stat st;
    if (b->size == UINT64_MAX || b->size <= b->have)
        return ERR_OK;
    if (fstat(b->fd, &st) != 0)
        return files_fault(why, b->path, "look at it", errno);
    enum err e = blob_check_room(b->l, more_room(&st, b->size), why);
    if (e != ERR_OK)
        return e;
    if (fallocate(b->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)b->size) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return files_fault(why, b->path, "reserve its space", errno);
    return ERR_OK;
}

/* The whole file comes again although a part was asked for: what is here is worth nothing. */
static enum err begin_whole(struct bring *b, const struct fetch_head *h, struct errmsg *why)
{
    if (b->have) {
        progress_note(b->p, "the file has changed, or the server cannot resume: from the start");
        enum err e = start_fresh(b, why);
        if (e)
            return e;
    }
    if (!b->s->hex) {
        snprintf(b->origin.etag, sizeof(b->origin.etag), "%s", h->etag);
        snprintf(b->origin.modified, sizeof(b->origin.modified), "%s", h->modified);
        b->origin.hex[0] = '\0';
        return write_origin(b, why);
    }
    return ERR_OK;
}

static enum err on_head(void *user, const struct fetch_head *h, struct errmsg *why)
{
    struct bring *b = user;
    int64_t says = -1;
    enum err e = ERR_OK;
    if (h->status == 206 && b->have > 0) {
        if (!h->has_range || h->range_from != b->have)
            return err_set(why, ERR_PROTOCOL,
                           "the server answers with another part of the file "
                           "than was asked for");
        says = h->range_total >= 0 ? h->range_total
               : h->length >= 0    ? (int64_t)b->have + h->length
                                   : -1;
    } else if (h->status == 206) {
        return err_set(why, ERR_PROTOCOL, "the server answers with a part of the file, unasked");
    } else {
        e = begin_whole(b, h, why);
        says = h->length;
    }
    if (e == ERR_OK && says >= 0) {
        if (b->size != UINT64_MAX && (uint64_t)says != b->size)
            return lies(why, (uint64_t)says, b->size);
        if (b->s->max_size && (uint64_t)says > b->s->max_size)
            return err_set(why, ERR_RANGE, "a file of %lld bytes, more than the %llu allowed",
                           (long long)says, (unsigned long long)b->s->max_size);
        if (b->size == UINT64_MAX && !b->p->total)
            b->p->total = (uint64_t)says;
        b->size = (uint64_t)says;
    }
    if (e == ERR_OK && !b->s->hex && h->linked_sha256[0]) {
        if (b->expect[0] && strcmp(b->expect, h->linked_sha256) != 0)
            return err_set(why, ERR_PROTOCOL, "the server states another SHA-256 than expected");
        memcpy(b->expect, h->linked_sha256, sizeof(b->expect));
    }
    return e == ERR_OK ? reserve(b, why) : e;
}

/* A login page or an error text should not be fetched to its last gigabyte. */
static enum err check_magic(const struct bring *b, const unsigned char *p, size_t n,
                            struct errmsg *why)
{
    static const unsigned char magic[4] = {'G', 'G', 'U', 'F'};
    char shown[24];
    size_t at = (size_t)b->have;
    if (!b->s->gguf || at >= sizeof(magic))
        return ERR_OK;
    size_t k = n < sizeof(magic) - at ? n : sizeof(magic) - at;
    if (memcmp(p, magic + at, k) == 0)
        return ERR_OK;
    snprintf(shown, sizeof(shown), "%.*s", (int)(n < 12 ? n : 12), (const char *)p);
    return err_set(why, ERR_INVALID, "what is served there is no GGUF file; it starts with '%s'",
                   shown);
}

static enum err on_body(void *user, const void *p, size_t n, struct errmsg *why)
{
    struct bring *b = user;
    const unsigned char *bytes = p;
    enum err e = check_magic(b, bytes, n, why);
    if (e != ERR_OK)
        return e;
    if (n > b->size - b->have)
        return err_set(why, ERR_PROTOCOL, "the server sends more than the %llu bytes promised",
                       (unsigned long long)b->size);
    if (b->s->max_size && b->have + n > b->s->max_size)
        return err_set(why, ERR_RANGE, "more than the %llu bytes allowed",
                       (unsigned long long)b->s->max_size);
    for (size_t done = 0; done < n;) {
        ssize_t w = pwrite(b->fd, bytes + done, n - done, (off_t)(b->have));
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0) {
            e = files_fault(why, b->path, "write it", errno);
            if (e == ERR_FULL)
                return err_set(why, e,
                               "%.120s: the disk is full; what came is kept: make room and run the "
                               "same command again",
                               b->l->dir);
            return e;
        }
        crypto_hash_sha256_update(&b->hash, bytes + done, (unsigned long long)w);
        b->have += (uint64_t)w;
        b->out->fetched += (uint64_t)w;
        done += (size_t)w;
    }
    progress_add(b->p, n);
    return ERR_OK;
}

/* ---- attempts ----------------------------------------------------------------------------- */

/* Until all bytes are here. *unchanged: the server says that the finished blob is still right. */
static enum err fetch_rest(struct bring *b, bool *unchanged, struct errmsg *why)
{
    struct fetch_patience patience = {0};
    const char *bearer = b->s->bearer;
    bool renewed = false, whole = false;
    *unchanged = false;
    while (!whole && (b->size == UINT64_MAX || b->have < b->size)) {
        struct fetch_result r;
        struct errmsg fault = {0};
        uint64_t before = b->have;
        bool finished = !b->s->hex && b->origin.hex[0] && b->have == 0 &&
                        library_has_blob(b->l, b->origin.hex, b->origin.size);
        const struct fetch_request q = {
            .url = b->s->url,
            .bearer = bearer,
            .from = b->have,
            .if_range = b->s->hex ? NULL : validator(b),
            .if_none_match = finished && b->origin.etag[0] ? b->origin.etag : NULL,
            .on_head = on_head,
            .on_body = on_body,
            .user = b,
        };
        enum err e = fetch_get(b->f, &q, &r, &fault);
        if (e == ERR_OK && r.head.status == 304) {
            *unchanged = finished;
            return finished ? ERR_OK
                            : err_set(why, ERR_PROTOCOL,
                                      "the server says 'not modified' although nothing is here");
        }
        if (e == ERR_OK && b->size == UINT64_MAX) {
            whole = true; /* no length was stated: the end of the body is the end */
            continue;
        }
        if (e == ERR_OK && b->have == b->size)
            continue;
        if (b->have > before && b->have - before >= NEWS_BYTES)
            patience.failures = 0;
        if (r.head.status == 401 && b->s->renew && !renewed) {
            renewed = true;
            bearer = b->s->renew(b->s->user, &r.head);
            if (bearer)
                continue;
        }
        if (e != ERR_OK && r.head.status == 416 && b->have > 0 && b->resumed) {
            /* The partial file is no start of what is there now. */
            e = start_fresh(b, &fault);
            if (e == ERR_OK)
                continue;
        }
        if (e == ERR_OK) { /* less than promised, and HTTP saw nothing wrong */
            r.retry = true;
            e = err_set(&fault, ERR_CLOSED, "the body ended %llu bytes early",
                        (unsigned long long)(b->size - b->have));
        }
        if (r.refused || !fetch_again(b->f, &patience, &r, fault.text))
            return err_set(why, e, "%s", fault.text);
    }
    b->size = b->have;
    if (b->s->gguf && b->have < 4)
        return err_set(why, ERR_INVALID, "what is served there is no GGUF file: it has %u bytes",
                       (unsigned)b->have);
    return ERR_OK;
}

static enum err check_digest(struct bring *b, bool *again, struct errmsg *why)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    char hex[DIGEST_HEX + 1];
    crypto_hash_sha256_state copy = b->hash;
    crypto_hash_sha256_final(&copy, sum);
    sodium_bin2hex(hex, sizeof(hex), sum, sizeof(sum));
    *again = false;
    if (b->expect[0] && strcmp(b->expect, hex) != 0) {
        *again = b->resumed > 0; /* bytes of an earlier run may have been damaged since */
        return err_set(
            why, ERR_INVALID,
            "what came has the SHA-256 %.16s..., %.16s... was promised: nothing was kept", hex,
            b->expect);
    }
    memcpy(b->out->hex, hex, sizeof(hex));
    b->out->size = b->have;
    return ERR_OK;
}

static enum err publish(struct bring *b, struct errmsg *why)
{
    struct buf path = {0};
    enum err e = ERR_OK;
    library_blob_path(&path, b->l, b->out->hex);
    if (path.failed)
        e = err_set(why, ERR_NOMEM, "out of memory");
    else if (ftruncate(b->fd, (off_t)b->have) != 0 || fdatasync(b->fd) != 0)
        e = files_fault(why, b->path, "sync it", errno);
    else if (rename(b->path, path.p) != 0)
        e = files_fault(why, path.p, "rename to it", errno);
    else
        e = files_sync_parent(path.p, why);
    if (e == ERR_OK && !b->s->hex) {
        memcpy(b->origin.hex, b->out->hex, sizeof(b->origin.hex));
        b->origin.size = b->out->size;
        e = write_origin(b, why);
    }
    buf_fini(&path);
    return e;
}

/* Drops what is worth nothing, and gives back space that was reserved beyond what came. */
static void leave(struct bring *b, enum err e)
{
    if (b->fd < 0)
        return;
    if (e != ERR_OK && b->have == 0)
        (void)unlink(b->path);
    else if (e != ERR_OK && ftruncate(b->fd, (off_t)b->have) != 0)
        progress_note(b->p, "%s: cannot give back reserved space: %s", b->path, strerror(errno));
    close(b->fd);
}

static enum err bring_locked(struct bring *b, struct errmsg *why)
{
    bool again = false, unchanged = false;
    enum err e;
    if (b->s->hex && library_has_blob(b->l, b->s->hex, b->s->size)) {
        memcpy(b->out->hex, b->s->hex, DIGEST_HEX + 1);
        b->out->size = b->s->size;
        progress_have(b->p, b->s->size);
        (void)unlink(b->path);
        return ERR_OK;
    }
    if (!b->s->hex)
        read_origin(b);
    e = take_up(b, why);
    for (int fresh = 0; e == ERR_OK; fresh++) {
        e = fetch_rest(b, &unchanged, why);
        if (e == ERR_OK && unchanged && b->expect[0] && strcmp(b->expect, b->origin.hex) != 0)
            return err_set(why, ERR_INVALID, "the file has the SHA-256 %.16s..., not %.16s...",
                           b->origin.hex, b->expect);
        if (e == ERR_OK && unchanged) {
            memcpy(b->out->hex, b->origin.hex, sizeof(b->out->hex));
            b->out->size = b->origin.size;
            progress_have(b->p, b->origin.size);
            (void)unlink(b->path);
            return ERR_OK;
        }
        if (e != ERR_OK)
            break; /* the bytes are good as far as they go */
        e = check_digest(b, &again, why);
        if (e == ERR_OK)
            return publish(b, why);
        struct errmsg ignored;
        if (start_fresh(b, &ignored) != ERR_OK || !again || fresh == MAX_FRESH_STARTS)
            break;
        progress_note(b->p, "%s; the resumed part may be damaged: once more from the start",
                      why->text);
        e = ERR_OK;
    }
    return e;
}

enum err blob_bring(struct blob *out, const struct library *l, struct fetcher *f,
                    struct progress *p, const struct blob_source *s, struct errmsg *why)
{
    struct bring *b = calloc(1, sizeof(*b));
    struct blob found = {.fetched = 0};
    if (!b || sodium_init() < 0) {
        free(b);
        return err_set(why, ERR_NOMEM, "out of memory");
    }
    *b = (struct bring){.l = l, .f = f, .p = p, .s = s, .out = &found, .fd = -1, .size = s->size};
    if (s->hex) {
        snprintf(b->path, sizeof(b->path), "%s/partial/sha256-%s", l->dir, s->hex);
        memcpy(b->expect, s->hex, sizeof(b->expect));
    } else {
        if (s->promised)
            snprintf(b->expect, sizeof(b->expect), "%s", s->promised);
        unsigned char sum[crypto_hash_sha256_BYTES];
        char hex[DIGEST_HEX + 1];
        crypto_hash_sha256(sum, (const unsigned char *)s->url, strlen(s->url));
        sodium_bin2hex(hex, sizeof(hex), sum, sizeof(sum));
        snprintf(b->path, sizeof(b->path), "%s/partial/url-%s", l->dir, hex);
        snprintf(b->sidecar, sizeof(b->sidecar), "%s.json", b->path);
    }
    enum err e = lock_partial(b, why);
    if (e == ERR_OK)
        e = bring_locked(b, why);
    leave(b, e);
    free(b);
    if (e == ERR_OK)
        *out = found;
    return e;
}
