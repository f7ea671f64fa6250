/* utf8.h - UTF-8 as Unicode 15 table 3-7 has it: no overlong forms, no surrogates, at most
 * U+10FFFF. */
#ifndef MILLRACE_BASE_UTF8_H
#define MILLRACE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the longest valid prefix; equals n when all is valid. */
size_t utf8_valid_prefix(const char *p, size_t n);
bool utf8_valid(const char *p, size_t n);

/* Decodes one code point. Returns its bytes (1..4), or 0 when p[0..n) does not start with a whole
 * valid sequence; then *cp is untouched. */
int utf8_decode(const char *p, size_t n, uint32_t *cp);

/* Writes 1..4 bytes; returns how many, 0 for a surrogate or beyond U+10FFFF. */
int utf8_encode(uint32_t cp, char out[4]);

/* How many bytes at the end of p[0..n) are the start of a sequence that more bytes could complete
 * (0..3). Streaming holds exactly these back. */
size_t utf8_incomplete_tail(const char *p, size_t n);

/* Copies to `out` (at least 3*n bytes) with each maximal invalid subpart replaced by U+FFFD;
 * returns bytes. */
size_t utf8_sanitize(const char *p, size_t n, char *out);

#endif
