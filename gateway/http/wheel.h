/* wheel.h - one timer for all connections: deadlines hashed into slots of 100 ms.
 *
 *   slot  0   1   2  ...  now ...  511        a deadline beyond the horizon (51 s) waits in the
 *         |   |   |        |        |         farthest slot and is looked at again when it comes up
 *         o   o   o        o-o      o
 *
 * Deadlines are lazy: pushing one back costs nothing (the owner compares when its slot comes up and
 * arms again), only bringing one forward moves the link. So a stream that writes every few
 * milliseconds never touches the wheel. Thread: the loop's. Memory: the link inside the owner. */
#ifndef MILLRACE_GATEWAY_HTTP_WHEEL_H
#define MILLRACE_GATEWAY_HTTP_WHEEL_H

#include "shared/base/list.h"
#include <stdint.h>

enum { WHEEL_TICK_MS = 100, WHEEL_SLOTS = 512 };

struct wheel {
    struct link slots[WHEEL_SLOTS];
    uint64_t tick; /* slots up to and including this one have been served */
};

struct wheel_timer {
    struct link link;
    uint64_t at_ms; /* UINT64_MAX: not armed */
};

void wheel_init(struct wheel *w, uint64_t now_ms);
void wheel_timer_init(struct wheel_timer *t);
/* Fires at `at_ms` or up to one tick later; a timer that is armed for earlier stays. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t at_ms);
void wheel_disarm(struct wheel_timer *t);
/* Calls `fire` for what is due, disarmed first: it may arm, disarm and free any timer. */
void wheel_advance(struct wheel *w, uint64_t now_ms, void (*fire)(struct wheel_timer *t));

#endif
