/* clock.h - time. Durations come from the monotonic clock, timestamps from the wall clock. */
#ifndef MILLRACE_BASE_CLOCK_H
#define MILLRACE_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC; comparable between processes of one machine */
uint64_t clock_mono_ms(void);
int64_t clock_wall_ms(void); /* Unix time in milliseconds */

#endif
