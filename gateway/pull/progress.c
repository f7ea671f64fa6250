/* progress.c - the bar and the plain lines. */
#include "gateway/pull/progress.h"
#include "gateway/library/library.h"
#include "shared/base/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    PAINT_TTY_MS = 200,
    PAINT_PLAIN_MS = 10000,
    RATE_SPAN_MS = 1000,
    BAR_CELLS = 24,
};

void progress_init(struct progress *p, bool quiet)
{
    uint64_t now = clock_mono_ms();
    *p =
        (struct progress){.quiet = quiet, .tty = isatty(2) == 1, .painted_ms = now, .rate_ms = now};
}

void progress_have(struct progress *p, uint64_t bytes)
{
    p->done += bytes;
}

void progress_lose(struct progress *p, uint64_t bytes)
{
    p->done -= bytes < p->done ? bytes : p->done;
}

static void measure_rate(struct progress *p, uint64_t now)
{
    uint64_t span = now - p->rate_ms;
    if (span < RATE_SPAN_MS)
        return;
    double rate = (double)(p->fetched - p->rate_fetched) * 1000 / (double)span;
    p->rate = p->rate > 0 ? 0.7 * p->rate + 0.3 * rate : rate;
    p->rate_ms = now;
    p->rate_fetched = p->fetched;
}

static void put_left(struct buf *b, const struct progress *p)
{
    if (p->rate < 1 || p->total <= p->done)
        return;
    double s = (double)(p->total - p->done) / p->rate;
    if (s < 100)
        buf_printf(b, "  %.0f s left", s);
    else if (s < 100 * 60)
        buf_printf(b, "  %.0f min left", s / 60);
    else
        buf_printf(b, "  %.1f h left", s / 3600);
}

/* A line longer than the terminal would wrap, and repainting would scroll. */
static size_t columns(void)
{
    struct winsize w;
    return ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col : 80;
}

static void paint(struct progress *p)
{
    struct buf b = {0};
    unsigned percent = p->total ? (unsigned)(100.0 * (double)p->done / (double)p->total) : 0;
    buf_printf(&b, p->tty ? "\r%.30s  " : "%s  ", p->label);
    if (p->total) {
        unsigned cells = percent * BAR_CELLS / 100;
        buf_printf(&b, "%3u %% ", percent);
        for (unsigned i = 0; p->tty && i < BAR_CELLS; i++)
            buf_putc(&b, i < cells ? '#' : '.');
        buf_puts(&b, p->tty ? "  " : " ");
    }
    put_bytes(&b, p->done);
    if (p->total) {
        buf_puts(&b, " of ");
        put_bytes(&b, p->total);
    }
    if (p->rate > 0) {
        buf_puts(&b, "  ");
        put_bytes(&b, (uint64_t)p->rate);
        buf_puts(&b, "/s");
    }
    put_left(&b, p);
    if (p->tty && !b.failed && b.n > columns())
        b.n = columns(); /* the first byte is the carriage return */
    buf_puts(&b, p->tty ? "\033[K" : "\n");
    if (!b.failed)
        fwrite(b.p, 1, b.n, stderr);
    fflush(stderr);
    p->painted = p->tty;
    buf_fini(&b);
}

void progress_tick(struct progress *p)
{
    uint64_t now = clock_mono_ms();
    measure_rate(p, now);
    if (p->quiet || now - p->painted_ms < (p->tty ? PAINT_TTY_MS : PAINT_PLAIN_MS))
        return;
    p->painted_ms = now;
    paint(p);
}

void progress_add(struct progress *p, uint64_t bytes)
{
    p->done += bytes;
    p->fetched += bytes;
    progress_tick(p);
}

void progress_end(struct progress *p)
{
    if (p->painted)
        fputc('\n', stderr);
    p->painted = false;
}

void progress_note(struct progress *p, const char *fmt, ...)
{
    va_list ap;
    if (p->quiet)
        return;
    progress_end(p);
    fputs("millrace pull: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}
