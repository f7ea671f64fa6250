/* unicode.h - properties and case of code points, as Python's str methods use them (Unicode 14/15).
 */
#ifndef MILLRACE_WORKER_TEXT_JINJA_UNICODE_H
#define MILLRACE_WORKER_TEXT_JINJA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool uni_is_space(uint32_t cp); /* str.isspace(); what strip() and split() remove */
bool uni_is_printable(uint32_t cp);
bool uni_is_alpha(uint32_t cp);
bool uni_is_decimal(uint32_t cp);
bool uni_is_digit(uint32_t cp);
bool uni_is_numeric(uint32_t cp);
bool uni_is_word(uint32_t cp); /* \w of a Python pattern */
bool uni_is_lower(uint32_t cp);
bool uni_is_upper(uint32_t cp);
bool uni_is_title(uint32_t cp);
bool uni_is_case_ignorable(uint32_t cp);

enum uni_case { UNI_UPPER, UNI_LOWER, UNI_TITLE, UNI_FOLD };
enum { UNI_CASE_MAX = 4 };
/* Full mapping of one code point (SpecialCasing included, final sigma left to the caller);
 * returns 1..4. */
int uni_case_map(uint32_t cp, enum uni_case to, uint32_t out[UNI_CASE_MAX]);

/* Bytes of leading (trailing) white space of a UTF-8 text. */
size_t uni_leading_space(const char *p, size_t n);
size_t uni_trailing_space(const char *p, size_t n);

#endif
