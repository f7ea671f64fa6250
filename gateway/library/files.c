/* files.c - small file-system steps. */
#include "gateway/library/files.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum err files_fault(struct errmsg *why, const char *path, const char *doing, int error_number)
{
    enum err e = error_number == ENOSPC || error_number == EDQUOT ? ERR_FULL
                 : error_number == ENOENT                         ? ERR_NOT_FOUND
                 : error_number == EACCES || error_number == EPERM || error_number == EROFS
                     ? ERR_DENIED
                     : ERR_IO;
    return err_set(why, e, "%s: cannot %s: %s", path, doing, strerror(error_number));
}

enum err files_make_dirs(const char *path, struct errmsg *why)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(part))
        return err_set(why, ERR_RANGE, "%.60s: too long for a path, or empty", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char keep = part[i];
        part[i] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return files_fault(why, part, "create the folder", errno);
        part[i] = keep;
    }
    return ERR_OK;
}

enum err files_read(struct buf *out, const char *path, size_t max, struct errmsg *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return files_fault(why, path, "open it", errno);
    enum err e = ERR_OK;
    size_t total = 0;
    for (;;) {
        if (!buf_reserve(out, 65536)) {
            e = err_set(why, ERR_NOMEM, "%s: out of memory", path);
            break;
        }
        ssize_t n = read(fd, out->p + out->n, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            e = files_fault(why, path, "read it", errno);
        if (n <= 0)
            break;
        total += (size_t)n;
        out->n += (size_t)n;
        out->p[out->n] = '\0';
        if (total > max) {
            e = err_set(why, ERR_RANGE, "%s: more than %zu bytes", path, max);
            break;
        }
    }
    close(fd);
    return e;
}

enum err files_sync_parent(const char *path, struct errmsg *why)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    int fd = open(dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return files_fault(why, dir, "open the folder", errno);
    /* Some file systems have no fsync of folders and say EINVAL: then there is nothing to do. */
    enum err e = fsync(fd) != 0 && errno != EINVAL ? files_fault(why, dir, "sync the folder", errno)
                                                   : ERR_OK;
    close(fd);
    return e;
}

static enum err write_all(int fd, const char *p, size_t n, const char *path, struct errmsg *why)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return files_fault(why, path, "write it", errno);
        p += w;
        n -= (size_t)w;
    }
    return fsync(fd) != 0 ? files_fault(why, path, "sync it", errno) : ERR_OK;
}

enum err files_replace(const char *path, const void *p, size_t n, struct errmsg *why)
{
    char tmp[PATH_MAX + 32];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    /* The dot keeps it out of every list of names: none starts with one. */
    snprintf(tmp, sizeof(tmp), "%.*s.%s.tmp-%ld", (int)(base - path), path, base, (long)getpid());
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return files_fault(why, tmp, "create it", errno);
    enum err e = write_all(fd, p, n, tmp, why);
    if (close(fd) != 0 && e == ERR_OK)
        e = files_fault(why, tmp, "close it", errno);
    if (e == ERR_OK && rename(tmp, path) != 0)
        e = files_fault(why, path, "rename to it", errno);
    if (e != ERR_OK) {
        unlink(tmp);
        return e;
    }
    return files_sync_parent(path, why);
}

int64_t files_size(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) ? (int64_t)s.st_size : -1;
}
