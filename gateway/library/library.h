/* library.h - the models that are on this machine: the models directory, and an Ollama folder
 * beside it.
 *
 *   DIR/blobs/sha256-HEX                  a file, whole and checked: it got this name by rename(2)
 *   DIR/manifests/HOST/NS/MODEL/TAG       which blobs a name means (manifest.h)
 *   DIR/splits/HEX/X-00001-of-00003.gguf  links to blobs, because the parts of a split set find
 * each other by their names; HEX is the first part's DIR/partial/                          what is
 * under way (gateway/pull/blob.h); never read here DIR/lock                              shared by
 * pulls, exclusive for removals: flock(2)
 *
 * The first two are how Ollama keeps its models, so the same functions read an Ollama folder; that
 * one is never written.
 * Promise: library_find() gives a path only if every blob of the model exists with the size that
 * the manifest states. A manifest is written after all of its blobs.
 * Thread: any, no shared state; processes are kept apart by DIR/lock. */
#ifndef MILLRACE_GATEWAY_LIBRARY_LIBRARY_H
#define MILLRACE_GATEWAY_LIBRARY_LIBRARY_H

#include "gateway/library/manifest.h"

enum { LIBRARY_PATH_MAX = 4096 };

struct library {
    char dir[LIBRARY_PATH_MAX];    /* our models; need not exist */
    char ollama[LIBRARY_PATH_MAX]; /* empty: none */
};

/* models_dir: NULL means $MILLRACE_MODELS, else DATA/models, where data_dir NULL means the
 * gateway's default (usage_default_dir()). ollama_dir: NULL means none; "auto" means
 * $OLLAMA_MODELS, else
 * ~/.ollama/models, else the service's /usr/share/ollama/.ollama/models. */
enum err library_locate(struct library *out, const char *models_dir, const char *data_dir,
                        const char *ollama_dir, struct errmsg *why) MUST_CHECK;

struct local_model {
    struct model_name name;
    char path[LIBRARY_PATH_MAX]; /* the GGUF file, or the first part of a split set */
    uint64_t bytes;              /* of all layers */
    int64_t changed_s;           /* Unix time of the manifest */
    bool ollama;                 /* lies in the Ollama folder */
    char fault[160];             /* empty: whole. Else why it can't be used; path is empty then */
};

/* The directory's own models win over the Ollama folder's. ERR_NOT_FOUND: nobody has it;
 * ERR_INVALID and others: it is there and can't be used, `why` says why. */
enum err library_find(struct local_model *out, const struct library *l, const struct model_name *n,
                      struct errmsg *why) MUST_CHECK;

/* Calls on_model for each, ordered by name, the Ollama folder's last; also for damaged ones. */
enum err library_list(const struct library *l,
                      void (*on_model)(void *user, const struct local_model *m), void *user,
                      struct errmsg *why) MUST_CHECK;

/* Prints the table (or JSON array) of `millrace models --local`. */
enum err library_print(const struct library *l, bool json, struct buf *out,
                       struct errmsg *why) MUST_CHECK;

/* ---- writing: for pull and rm ---- */

/* Takes DIR/lock. `exclusive` fails with ERR_AGAIN while others hold it; shared waits. *fd is
 * owned: close(2) gives the lock back. Creates DIR and its folders. */
enum err library_lock(const struct library *l, bool exclusive, int *fd,
                      struct errmsg *why) MUST_CHECK;

void library_blob_path(struct buf *out, const struct library *l, const char *hex);
/* The blob is there with this size. */
bool library_has_blob(const struct library *l, const char *hex, uint64_t size);

/* The manifest of a name as it lies in the directory. ERR_NOT_FOUND when there is none. Texts in
 * `a`. */
enum err library_read(struct manifest *out, struct arena *a, const struct library *l,
                      const struct model_name *n, struct errmsg *why) MUST_CHECK;

/* Links split sets, then writes the manifest: temporary file, fsync, rename, fsync of the folder.
 * All blobs must be there. */
enum err library_save(const struct library *l, const struct model_name *n, const struct manifest *m,
                      struct errmsg *why) MUST_CHECK;

/* Removes the name and every blob that no other name uses. *freed_bytes: of removed blobs. With a
 * manifest that can't be read in the directory no blob is removed, and that is the error. Hold the
 * exclusive lock. */
enum err library_remove(const struct library *l, const struct model_name *n, uint64_t *freed_bytes,
                        struct errmsg *why) MUST_CHECK;

/* Removes what interrupted pulls left. Hold the exclusive lock. */
enum err library_remove_partial(const struct library *l, uint64_t *freed_bytes,
                                struct errmsg *why) MUST_CHECK;

/* `millrace rm NAME...`: returns the exit status. */
int cmd_rm(int argc, char **argv);

/* Bytes for people: "512 B", "1.3 GB" (powers of ten, as registries count). */
void put_bytes(struct buf *out, uint64_t bytes);

#endif
