#include "gateway/usage/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 4096, MAX_SLOTS = 1 << 22 };

struct journal_header {
    char magic[8];
    uint32_t version, row_bytes, n_slots, zero;
};

static const struct journal_header layout = {
    .magic = "MRUSAGE", .version = 1, .row_bytes = sizeof(struct usage_row)};

enum err journal_open(struct journal *j, const char *path, uint32_t n_slots, struct errmsg *why)
{
    *j = (struct journal){.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), .base = MAP_FAILED};
    if (j->fd < 0)
        return err_set(why, ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    struct journal_header h = {0};
    enum err e = ERR_OK;
    if (fstat(j->fd, &st) != 0 || st.st_size < 0) {
        e = err_set(why, ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
    } else if (st.st_size > 0) {
        /* A crash between creation and the first header leaves zeros: that is an empty journal. */
        ssize_t got = pread(j->fd, &h, sizeof(h), 0);
        static const struct journal_header none;
        if (got != sizeof(h))
            e = err_set(why, ERR_IO, "%s: cannot read the header", path);
        else if (memcmp(&h, &none, sizeof(h)) != 0 &&
                 (memcmp(h.magic, layout.magic, sizeof(h.magic)) != 0 ||
                  h.version != layout.version || h.row_bytes != layout.row_bytes ||
                  h.n_slots > MAX_SLOTS ||
                  (uint64_t)st.st_size < HEADER_BYTES + (uint64_t)h.n_slots * sizeof(struct slot)))
            e = err_set(why, ERR_INVALID,
                        "%s: a usage journal of another version; start the version that wrote it "
                        "once more, or move the "
                        "file away (jobs that were running at its last end then have no row)",
                        path);
    }
    if (e != ERR_OK)
        goto fail;

    j->n = h.n_slots > n_slots ? h.n_slots : n_slots;
    j->bytes = HEADER_BYTES + (size_t)j->n * sizeof(struct slot);
    int rc = posix_fallocate(j->fd, 0, (off_t)j->bytes);
    if (rc != 0) {
        e = err_set(why, ERR_IO, "%s: cannot reserve %zu bytes: %s", path, j->bytes, strerror(rc));
        goto fail;
    }
    j->base = mmap(NULL, j->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);
    if (j->base == MAP_FAILED) {
        e = err_set(why, ERR_NOMEM, "%s: cannot map: %s", path, strerror(errno));
        goto fail;
    }
    j->slots = (struct slot *)((char *)j->base + HEADER_BYTES);
    h = layout;
    h.n_slots = j->n;
    memcpy(j->base, &h, sizeof(h));
    return ERR_OK;
fail:
    journal_close(j);
    return e;
}

void journal_close(struct journal *j)
{
    if (j->base && j->base != MAP_FAILED)
        munmap(j->base, j->bytes);
    if (j->fd >= 0)
        close(j->fd);
    *j = (struct journal){.fd = -1};
}
