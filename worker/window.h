/* window.h - what a sliding window shows, said once: for attention, for the KV cache's books, for
 * what memory it takes. Thread: no state. */
#ifndef MILLRACE_WORKER_WINDOW_H
#define MILLRACE_WORKER_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

/* The first position that a query at `pos` sees. window: 0: none. chunked: not the last `window`
 * positions but those since the last multiple of it (Llama 4). */
static inline uint32_t kv_first_seen(uint32_t window, bool chunked, uint32_t pos)
{
    if (window == 0)
        return 0;
    return chunked ? pos / window * window : pos >= window ? pos - window + 1 : 0;
}

#endif
