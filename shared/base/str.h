/* str.h - a borrowed piece of text: pointer and length, no NUL promised. */
#ifndef MILLRACE_BASE_STR_H
#define MILLRACE_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p; /* borrowed from whoever made it */
    size_t n;
};

#define STR(lit)   ((struct str){(lit), sizeof(lit) - 1})
#define STR_FMT    "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_of(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *z)
{
    return str_eq(a, str_of(z));
}

static inline bool str_starts(struct str a, struct str prefix)
{
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}

/* FNV-1a, 64 bit: tables inside one process. Not for anything a stranger may choose to collide. */
static inline uint64_t str_hash(struct str s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    return h;
}

/* Whole text is one number in [min, max], decimal, no spaces, no sign for the unsigned one. */
bool str_to_u64(struct str s, uint64_t max, uint64_t *out);
bool str_to_i64(struct str s, int64_t min, int64_t max, int64_t *out);
bool str_to_f64(struct str s, double *out); /* finite only */
/* A size: "24G", "1.5GiB", "800MB", "4096". Letters alone and those with iB are powers of 1024,
 * with B of 1000. At least one byte. */
bool str_to_bytes(struct str s, uint64_t *out);

#endif
