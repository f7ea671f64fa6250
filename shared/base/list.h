/* list.h - intrusive doubly linked list for things that are in exactly one list at a time.
 * A link that is in no list points at itself. */
#ifndef MILLRACE_BASE_LIST_H
#define MILLRACE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *prev, *next;
};

static inline void list_init(struct link *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct link *l)
{
    return l->next == l;
}

static inline void list_push_back(struct link *head, struct link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void list_push_front(struct link *head, struct link *l)
{
    list_push_back(head->next, l);
}

static inline void list_remove(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

#define list_entry(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
