#include "gateway/supervise/inspect.h"

#include "shared/base/buf.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REPORT_MAX = 1 << 20,
    ERROR_MAX = 4096,
    LIMIT_MS = 30000, /* metadata only: a slow disk, not a large file */
    MAX_ARGS = 40,
};

struct pipe_in {
    uv_pipe_t pipe;
    struct inspection *i;
    struct buf text;
    char block[4096];
};

struct inspection {
    struct inspect_spec spec;
    uv_process_t process;
    uv_timer_t timer;
    struct pipe_in out, err;
    int open_handles;
    bool exited, late;
    int64_t status;
    int sig;
    void (*on_closed)(void *user); /* set: cancelled */
    void *closed_user;
    bool cancelled;
};

/* ---- the end
 * ------------------------------------------------------------------------------------------ */

/* The program's own line, without its name; else what became of it. */
static void put_error(const struct inspection *i, char *out, size_t size)
{
    const struct buf *b = &i->err.text;
    size_t n = 0;
    while (n < b->n && b->p[n] != '\n')
        n++;
    const char *line = n ? b->p : "";
    static const char prefix[] = "millrace-worker inspect: ";
    size_t skip = sizeof(prefix) - 1;
    if (n > skip && memcmp(line, prefix, skip) == 0) {
        line += skip;
        n -= skip;
    }
    if (i->late)
        snprintf(out, size, "the file could not be inspected in time");
    else if (n)
        snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), line);
    else if (i->sig)
        snprintf(out, size, "the inspection was killed by signal %d (%s)", i->sig,
                 strsignal(i->sig));
    else
        snprintf(out, size, "the inspection ended with status %d", (int)i->status);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct inspection *i = h->data;
    if (--i->open_handles)
        return;
    if (i->cancelled) {
        if (i->on_closed)
            i->on_closed(i->closed_user);
    } else {
        char error[ERROR_MAX] = "";
        bool good = i->exited && !i->late && !i->sig && i->status == 0 && i->out.text.n &&
                    !i->out.text.failed;
        if (!good)
            put_error(i, error, sizeof(error));
        struct str json = {good ? i->out.text.p : "", good ? i->out.text.n : 0};
        i->spec.on_done(i->spec.user, json, error);
    }
    buf_fini(&i->out.text);
    buf_fini(&i->err.text);
    free(i);
}

static void close_pipe(struct pipe_in *p)
{
    if (!uv_is_closing((uv_handle_t *)&p->pipe))
        uv_close((uv_handle_t *)&p->pipe, on_handle_closed);
}

/* The process handle stays until its exit was seen, so that no zombie remains. */
static void close_rest(struct inspection *i)
{
    close_pipe(&i->out);
    close_pipe(&i->err);
    if (!uv_is_closing((uv_handle_t *)&i->timer))
        uv_close((uv_handle_t *)&i->timer, on_handle_closed);
    if (i->exited && !uv_is_closing((uv_handle_t *)&i->process))
        uv_close((uv_handle_t *)&i->process, on_handle_closed);
}

static bool pipes_ended(const struct inspection *i)
{
    return uv_is_closing((const uv_handle_t *)&i->out.pipe) &&
           uv_is_closing((const uv_handle_t *)&i->err.pipe);
}

static void on_exit_seen(uv_process_t *p, int64_t status, int sig)
{
    struct inspection *i = p->data;
    i->exited = true;
    i->status = status;
    i->sig = sig;
    if (i->cancelled || i->late || pipes_ended(i))
        close_rest(i);
}

static void on_late(uv_timer_t *t)
{
    struct inspection *i = t->data;
    i->late = true;
    if (!i->exited)
        uv_process_kill(&i->process, SIGKILL);
    close_rest(i);
}

/* ---- what it says
 * ------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *b)
{
    struct pipe_in *p = (struct pipe_in *)(void *)h;
    (void)n;
    *b = uv_buf_init(p->block, sizeof(p->block));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct pipe_in *p = (struct pipe_in *)(void *)s;
    if (n > 0) {
        buf_put(&p->text, b->base, (size_t)n);
        return;
    }
    if (n == 0)
        return;
    close_pipe(p);
    if (p->i->exited && pipes_ended(p->i))
        close_rest(p->i);
}

/* ---- start and cancel
 * --------------------------------------------------------------------------------- */

static void open_pipe(struct inspection *i, struct pipe_in *p, size_t limit)
{
    p->i = i;
    buf_init(&p->text);
    p->text.limit = limit;
    uv_pipe_init(i->spec.loop, &p->pipe, 0);
    p->pipe.data = i;
}

enum err inspect_start(struct inspection **out, const struct inspect_spec *spec, struct errmsg *why)
{
    struct inspection *i = calloc(1, sizeof(*i));
    if (!i)
        return err_set(why, ERR_NOMEM, "out of memory");
    i->spec = *spec;
    const char *argv[MAX_ARGS + 2];
    int n = 0;
    argv[n++] = spec->program;
    for (const char *const *a = spec->argv; *a && n <= MAX_ARGS; a++)
        argv[n++] = *a;
    argv[n] = NULL;
    open_pipe(i, &i->out, REPORT_MAX);
    open_pipe(i, &i->err, ERROR_MAX);
    uv_timer_init(spec->loop, &i->timer);
    i->timer.data = i->process.data = i;
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&i->out.pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&i->err.pipe}};
    uv_process_options_t o = {.exit_cb = on_exit_seen,
                              .file = spec->program,
                              .args = (char **)(uintptr_t)argv, /* libuv does not write to it */
                              .stdio_count = 3,
                              .stdio = stdio};
    i->open_handles = 4;
    int rc = uv_spawn(spec->loop, &i->process, &o);
    if (rc) { /* also then the handle wants closing */
        i->exited = i->cancelled = true;
        close_rest(i);
        return err_set(why, ERR_IO, "%s: cannot start: %s", spec->program, uv_strerror(rc));
    }
    uv_read_start((uv_stream_t *)&i->out.pipe, on_alloc, on_read);
    uv_read_start((uv_stream_t *)&i->err.pipe, on_alloc, on_read);
    uv_timer_start(&i->timer, on_late, spec->limit_ms ? spec->limit_ms : LIMIT_MS, 0);
    *out = i;
    return ERR_OK;
}

void inspect_cancel(struct inspection *i, void (*on_closed)(void *user), void *user)
{
    i->cancelled = true;
    i->on_closed = on_closed;
    i->closed_user = user;
    if (!i->exited)
        uv_process_kill(&i->process, SIGKILL);
    close_rest(i);
}
