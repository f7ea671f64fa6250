#include "shared/ipc/shm.h"
#include "shared/base/checked.h"
#include "shared/base/str.h"
#include "shared/ipc/ring.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

uint64_t shm_build_id(void)
{
#define X(name, value, direction, payload, terminal)                                               \
    {#name "/" #payload "/" #direction, value, sizeof(payload)},
    static const struct {
        const char *text;
        uint32_t value;
        size_t bytes;
    } records[] = {PROTO_RECORDS(X)};
#undef X
    uint64_t h = PROTO_VERSION;
    for (size_t i = 0; i < sizeof(records) / sizeof(*records); i++) {
        uint64_t parts[4] = {h, str_hash(str_of(records[i].text)), records[i].value,
                             records[i].bytes};
        h = str_hash((struct str){(const char *)parts, sizeof(parts)});
    }
    uint64_t sizes[] = {h,
                        sizeof(struct job_head),
                        sizeof(struct shm_header),
                        sizeof(struct shm_status),
                        sizeof(struct logprob_entry),
                        RING_OVERHEAD};
    return str_hash((struct str){(const char *)sizes, sizeof(sizes)});
}

/* Advances *at past `bytes` and up to the next page. */
static bool place(uint64_t *at, uint64_t bytes)
{
    return add_u64(at, *at, bytes) && align_up_u64(at, *at, PAGE);
}

static bool lay_out(struct shm_header *h, const struct shm_spec *spec)
{
    uint64_t at = PAGE;
    *h = (struct shm_header){.magic = PROTO_MAGIC,
                             .version = PROTO_VERSION,
                             .build_id = spec->build_id,
                             .epoch = spec->epoch};
    h->status_offset = at;
    if (!place(&at, sizeof(struct shm_status)))
        return false;
    h->submit_offset = at;
    if (!add_u64(&h->submit_bytes, spec->submit_bytes, RING_OVERHEAD) ||
        !place(&at, h->submit_bytes))
        return false;
    h->event_offset = at;
    if (!add_u64(&h->event_bytes, spec->event_bytes, RING_OVERHEAD) || !place(&at, h->event_bytes))
        return false;
    h->payload_offset = at;
    if (!align_up_u64(&h->payload_bytes, spec->payload_bytes, PAGE) ||
        !place(&at, h->payload_bytes))
        return false;
    h->total_bytes = at;
    return at <= INT64_MAX; /* off_t */
}

static bool ring_size_ok(uint64_t bytes)
{
    uint64_t capacity = bytes - RING_OVERHEAD;
    return bytes > RING_OVERHEAD && capacity >= RING_MIN_CAPACITY &&
           (capacity & (capacity - 1)) == 0;
}

enum err shm_check(const struct shm_header *h, uint64_t actual_bytes, struct errmsg *why)
{
    if (h->magic != PROTO_MAGIC)
        return err_set(why, ERR_PROTOCOL, "shared memory: magic is 0x%08x, not ours", h->magic);
    if (h->version != PROTO_VERSION)
        return err_set(why, ERR_PROTOCOL,
                       "shared memory: protocol version %u, this build speaks %u", h->version,
                       PROTO_VERSION);
    if (h->total_bytes != actual_bytes)
        return err_set(why, ERR_PROTOCOL, "shared memory: says %llu bytes, has %llu",
                       (unsigned long long)h->total_bytes, (unsigned long long)actual_bytes);
    if (!ring_size_ok(h->submit_bytes) || !ring_size_ok(h->event_bytes))
        return err_set(why, ERR_PROTOCOL, "shared memory: a ring's size is no power of two");
    const struct {
        const char *name;
        uint64_t offset, bytes;
    } parts[] = {
        {"status", h->status_offset, sizeof(struct shm_status)},
        {"submit ring", h->submit_offset, h->submit_bytes},
        {"event ring", h->event_offset, h->event_bytes},
        {"payload space", h->payload_offset, h->payload_bytes},
    };
    uint64_t end =
        sizeof(struct shm_header); /* parts stand in the order of the drawing, so none overlap */
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        if (parts[i].offset % RING_LINE || parts[i].offset < end ||
            !range_ok(parts[i].offset, parts[i].bytes, actual_bytes))
            return err_set(why, ERR_PROTOCOL, "shared memory: the %s is not where it can be",
                           parts[i].name);
        end = parts[i].offset + parts[i].bytes;
    }
    return ERR_OK;
}

/* Maps fd; on success *out is complete and owns it. */
static enum err map(struct shm *out, int fd, const struct shm_header *head, struct errmsg *why)
{
    size_t bytes = (size_t)head->total_bytes;
    unsigned char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return err_set(why, errno == ENOMEM ? ERR_NOMEM : ERR_IO,
                       "shared memory: cannot map %zu bytes: %s", bytes, strerror(errno));
    *out = (struct shm){
        .fd = fd,
        .base = base,
        .head = *head,
        .status = (struct shm_status *)(void *)(base + head->status_offset),
        .submit = base + head->submit_offset,
        .events = base + head->event_offset,
        .payload = base + head->payload_offset,
    };
    return ERR_OK;
}

enum err shm_create(struct shm *out, const struct shm_spec *spec, struct errmsg *why)
{
    struct shm_header head;
    struct shm s = {.fd = -1};
    enum err e = ERR_IO;
    if (!lay_out(&head, spec))
        return err_set(why, ERR_INVALID, "shared memory: the sizes asked for overflow");
    if (!ring_size_ok(head.submit_bytes) || !ring_size_ok(head.event_bytes))
        return err_set(why, ERR_INVALID,
                       "shared memory: a ring's size must be a power of two, at least %d bytes",
                       RING_MIN_CAPACITY);
    int fd = memfd_create("millrace", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)head.total_bytes) || fcntl(fd, F_ADD_SEALS, SEALS)) {
        err_set(why, e, "shared memory: cannot make a sealed memfd of %llu bytes: %s",
                (unsigned long long)head.total_bytes, strerror(errno));
        goto fail;
    }
    if ((e = map(&s, fd, &head, why)))
        goto fail;
    memcpy(s.base, &head, sizeof(head));
    if ((e = ring_init(s.submit, head.submit_bytes)) || (e = ring_init(s.events, head.event_bytes)))
        goto fail;
    *out = s;
    return ERR_OK;
fail:
    if (s.base)
        munmap(s.base, (size_t)head.total_bytes);
    if (fd >= 0)
        close(fd);
    return e;
}

enum err shm_attach(struct shm *out, int fd, uint64_t build_id, struct errmsg *why)
{
    struct stat st;
    struct shm_header head;
    if (fstat(fd, &st) || st.st_size < 0)
        return err_set(why, ERR_IO, "shared memory: descriptor %d: %s", fd, strerror(errno));
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return err_set(why, ERR_PROTOCOL, "shared memory: descriptor %d is no sealed memfd", fd);
    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
        return err_set(why, ERR_PROTOCOL, "shared memory: too short for a header");
    enum err e = shm_check(&head, (uint64_t)st.st_size, why);
    if (e)
        return e;
    if (head.build_id != build_id)
        return err_set(why, ERR_PROTOCOL,
                       "shared memory: made by another build (%016llx, this is %016llx); install "
                       "gateway and worker together",
                       (unsigned long long)head.build_id, (unsigned long long)build_id);
    return map(out, fd, &head, why);
}

void shm_close(struct shm *s)
{
    if (s->base) {
        munmap(s->base, (size_t)s->head.total_bytes);
        close(s->fd);
    }
    *s = (struct shm){.fd = -1};
}

unsigned char *shm_extent(const struct shm *s, uint64_t offset, uint64_t n)
{
    return range_ok(offset, n, s->head.payload_bytes) ? s->payload + offset : NULL;
}
