/* wake.h - eventfd wake-ups between two processes; each process sleeps on exactly one.
 *
 *   "work" wakes the worker:  records in the submit ring, or room in the event ring
 *   "news" wakes the gateway: records in the event ring, or room in the submit ring
 *
 * How to sleep without losing a wake-up (ring.h says why it holds):
 *     while (ring_read(&in, &rec) == ERR_OK)
 *         handle(&rec);
 *     if (ring_writer_needs_wake(&in))         // we made room: the peer may wait for it
 *         wake_send(peer);
 *     if (ring_reader_arm(&in))                // and ring_writer_arm(&out, n) while out was full
 *         wake_wait(mine, timeout_ms);
 * A wake-up means "look again", never more: spare ones happen.
 * A libuv loop polls the descriptor instead of wake_wait() and calls wake_clear() before it looks.
 * Thread: any; wake_send() is async-signal-safe. */
#ifndef MILLRACE_IPC_WAKE_H
#define MILLRACE_IPC_WAKE_H

#include "shared/base/err.h"

enum err wake_open(int *fd) MUST_CHECK; /* owned: wake_close(); non-blocking, close-on-exec */
void wake_close(int *fd);               /* sets it to -1; -1 is fine */
void wake_send(int fd);                 /* never blocks, never fails while the descriptor lives */
void wake_clear(int fd);
/* Sleeps until woken, then clears. -1: no timeout. ERR_TIMEOUT; ERR_AGAIN: a signal came; ERR_IO.
 */
enum err wake_wait(int fd, int timeout_ms) MUST_CHECK;

#endif
