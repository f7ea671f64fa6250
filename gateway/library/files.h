/* files.h - small file-system steps that the library and the pull share.
 *
 * Errors name the path and errno's text. Thread: no shared state. */
#ifndef MILLRACE_GATEWAY_LIBRARY_FILES_H
#define MILLRACE_GATEWAY_LIBRARY_FILES_H

#include "shared/base/buf.h"

/* mkdir -p, 0755. */
enum err files_make_dirs(const char *path, struct errmsg *why) MUST_CHECK;
/* Appends the file's bytes. ERR_NOT_FOUND when there is none, ERR_RANGE past max. */
enum err files_read(struct buf *out, const char *path, size_t max, struct errmsg *why) MUST_CHECK;
/* Whole or not at all: a hidden file beside it, fsync, rename, fsync of the folder. */
enum err files_replace(const char *path, const void *p, size_t n, struct errmsg *why) MUST_CHECK;
/* Makes renames and removals in the folder of `path` outlive a power loss. */
enum err files_sync_parent(const char *path, struct errmsg *why) MUST_CHECK;
/* -1: no regular file there (a link is followed). */
int64_t files_size(const char *path);
/* err_set() for a failed system call: ENOSPC and EDQUOT become ERR_FULL, ENOENT ERR_NOT_FOUND. */
enum err files_fault(struct errmsg *why, const char *path, const char *doing, int error_number);

#endif
