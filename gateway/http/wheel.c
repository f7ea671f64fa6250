#include "gateway/http/wheel.h"

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    for (int i = 0; i < WHEEL_SLOTS; i++)
        list_init(&w->slots[i]);
    w->tick = now_ms / WHEEL_TICK_MS;
}

void wheel_timer_init(struct wheel_timer *t)
{
    list_init(&t->link);
    t->at_ms = UINT64_MAX;
}

void wheel_disarm(struct wheel_timer *t)
{
    list_remove(&t->link);
    t->at_ms = UINT64_MAX;
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t at_ms)
{
    if (at_ms >= t->at_ms)
        return;
    list_remove(&t->link);
    uint64_t tick = at_ms / WHEEL_TICK_MS + (at_ms % WHEEL_TICK_MS != 0);
    if (tick <= w->tick)
        tick = w->tick + 1;
    if (tick - w->tick > WHEEL_SLOTS - 1)
        tick = w->tick + WHEEL_SLOTS - 1;
    t->at_ms = at_ms;
    list_push_back(&w->slots[tick % WHEEL_SLOTS], &t->link);
}

void wheel_advance(struct wheel *w, uint64_t now_ms, void (*fire)(struct wheel_timer *t))
{
    uint64_t target = now_ms / WHEEL_TICK_MS;
    if (target > w->tick + WHEEL_SLOTS) /* the machine slept: one round serves every slot */
        w->tick = target - WHEEL_SLOTS;
    while (w->tick < target) {
        struct link due, *slot = &w->slots[++w->tick % WHEEL_SLOTS];
        list_init(&due);
        while (!list_empty(slot)) { /* `fire` may arm into this very slot: take the list first */
            struct link *l = slot->next;
            list_remove(l);
            list_push_back(&due, l);
        }
        while (!list_empty(&due)) {
            struct wheel_timer *t = list_entry(due.next, struct wheel_timer, link);
            uint64_t at = t->at_ms;
            wheel_disarm(t);
            if (at / WHEEL_TICK_MS + (at % WHEEL_TICK_MS != 0) > w->tick)
                wheel_arm(w, t, at); /* was beyond the horizon */
            else
                fire(t);
        }
    }
}
