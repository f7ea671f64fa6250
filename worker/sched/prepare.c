/* prepare.c - two threads over one queue. */
#include "worker/sched/prepare.h"

#include "shared/base/clock.h"
#include "shared/base/list.h"
#include "shared/ipc/wake.h"
#include <pthread.h>
#include <stdlib.h>

/* A job up to here is small: it is ready in a millisecond or two. One thread takes nothing else, so
 * that somebody's megabytes don't delay everybody's next message. */
enum { SMALL_BYTES = 64 << 10, THREADS = 2 };

struct item {
    struct link link;
    void *bytes; /* owned until parsed */
    size_t n;
    struct prepared result;
};

struct prepare {
    const struct prompt_maker *maker;
    uint32_t n_vocab;
    int wake_fd;
    struct worker {
        struct prepare *p;
        pthread_t thread;
        bool small_only;
        uint64_t since_ns; /* guarded: start of the job at hand; 0: none */
    } workers[THREADS];
    int n_started;
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t more;
    struct link queue, done;
    bool closing;
};

static void work(const struct prepare *p, struct item *it)
{
    struct prepared *r = &it->result;
    struct job_req *req = NULL;
    void *bytes = it->bytes;
    it->bytes = NULL;
    if (!job_req_parse(&req, bytes, it->n, p->n_vocab, &r->fault))
        return;
    if (!prompt_prepare(p->maker, req, &r->fault)) {
        job_req_free(req);
        return;
    }
    r->req = req;
}

static struct item *next_item(const struct prepare *p, bool small_only)
{
    for (struct link *l = p->queue.next; l != &p->queue; l = l->next) {
        struct item *it = list_entry(l, struct item, link);
        if (!small_only || it->n <= SMALL_BYTES)
            return it;
    }
    return NULL;
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct prepare *p = w->p;
    pthread_mutex_lock(&p->mutex);
    for (;;) {
        struct item *it;
        while (!(it = next_item(p, w->small_only)) && !p->closing)
            pthread_cond_wait(&p->more, &p->mutex);
        if (p->closing)
            break;
        list_remove(&it->link);
        w->since_ns = clock_mono_ns();
        pthread_mutex_unlock(&p->mutex);
        work(p, it);
        pthread_mutex_lock(&p->mutex);
        w->since_ns = 0;
        list_push_back(&p->done, &it->link);
        wake_send(p->wake_fd);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

enum err prepare_open(struct prepare **out, const struct prompt_maker *maker, uint32_t n_vocab,
                      int wake_fd, struct errmsg *why)
{
    struct prepare *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(why, ERR_NOMEM, "out of memory");
    p->maker = maker;
    p->n_vocab = n_vocab;
    p->wake_fd = wake_fd;
    list_init(&p->queue);
    list_init(&p->done);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->more, NULL);
    for (int i = 0; i < THREADS; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker){.p = p, .small_only = i > 0};
        if (pthread_create(&w->thread, NULL, thread_main, w) != 0) {
            prepare_close(p);
            return err_set(why, ERR_NOMEM, "cannot start the preparation threads");
        }
        p->n_started++;
    }
    *out = p;
    return ERR_OK;
}

static void drop(struct link *list)
{
    while (!list_empty(list)) {
        struct item *it = list_entry(list->next, struct item, link);
        list_remove(&it->link);
        job_req_free(it->result.req);
        free(it->bytes);
        free(it);
    }
}

void prepare_close(struct prepare *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->closing = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    drop(&p->queue);
    drop(&p->done);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

enum err prepare_push(struct prepare *p, uint64_t job, void *bytes, size_t n)
{
    struct item *it = calloc(1, sizeof(*it));
    if (!it) {
        free(bytes);
        return ERR_NOMEM;
    }
    it->bytes = bytes;
    it->n = n;
    it->result.job = job;
    pthread_mutex_lock(&p->mutex);
    list_push_back(&p->queue, &it->link);
    pthread_cond_broadcast(&p->more); /* a signal could go to the thread that won't take it */
    pthread_mutex_unlock(&p->mutex);
    return ERR_OK;
}

bool prepare_pop(struct prepare *p, struct prepared *out)
{
    struct item *it = NULL;
    pthread_mutex_lock(&p->mutex);
    if (!list_empty(&p->done)) {
        it = list_entry(p->done.next, struct item, link);
        list_remove(&it->link);
    }
    pthread_mutex_unlock(&p->mutex);
    if (!it)
        return false;
    *out = it->result;
    free(it);
    return true;
}

bool prepare_ready(struct prepare *p)
{
    pthread_mutex_lock(&p->mutex);
    bool ready = !list_empty(&p->done);
    pthread_mutex_unlock(&p->mutex);
    return ready;
}

uint64_t prepare_busy_since_ns(struct prepare *p)
{
    uint64_t since = 0;
    pthread_mutex_lock(&p->mutex);
    for (int i = 0; i < p->n_started; i++) {
        uint64_t at = p->workers[i].since_ns;
        if (at && (!since || at < since))
            since = at;
    }
    pthread_mutex_unlock(&p->mutex);
    return since;
}
