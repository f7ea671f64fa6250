/* expr.h - what a grammar says, as a tree of byte expressions with named rules.
 *
 * Every front end (JSON Schema, regex, GBNF) ends here; program.c compiles it. The alphabet is
 * bytes: code points are spelled out as UTF-8 by expr_chars().
 *
 * Errors: builders never fail by themselves. Out of memory or past the limit sets g->failed, and
 * they return NULL, which every builder accepts; check once at the end.
 * Memory: all nodes live in g->arena. Thread: one owner. */
#ifndef MILLRACE_WORKER_GRAMMAR_EXPR_H
#define MILLRACE_WORKER_GRAMMAR_EXPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/arena.h"
#include "shared/base/str.h"

enum { EXPR_UNBOUNDED = UINT32_MAX };

enum expr_kind {
    EXPR_EMPTY, /* matches nothing, successfully */
    EXPR_NEVER, /* matches no text at all */
    EXPR_BYTES, /* one byte of a set */
    EXPR_SEQ,
    EXPR_ALT,
    EXPR_REPEAT,
    EXPR_RULE,
};

struct byte_set {
    uint64_t bits[4];
};

struct expr {
    enum expr_kind kind;
    uint8_t known; /* program.c's: what it found out about this node */
    union {
        struct byte_set set;
        struct {
            const struct expr **items;
            uint32_t n;
        } list; /* EXPR_SEQ, EXPR_ALT */
        struct {
            const struct expr *body;
            uint32_t min, max; /* max may be EXPR_UNBOUNDED */
        } repeat;
        uint32_t rule;
    };
};

struct expr_grammar {
    struct arena arena;
    const struct expr **rules; /* owned; [n_rules]; NULL while a rule is declared only */
    uint32_t n_rules, cap_rules;
    bool failed;
};

void expr_grammar_init(struct expr_grammar *g, size_t limit_bytes);
void expr_grammar_fini(struct expr_grammar *g);

const struct expr *expr_empty(struct expr_grammar *g);
const struct expr *expr_never(struct expr_grammar *g);
const struct expr *expr_byte_range(struct expr_grammar *g, uint8_t lo, uint8_t hi);
const struct expr *expr_literal(struct expr_grammar *g, struct str text);
const struct expr *expr_lit(struct expr_grammar *g, const char *text);

/* Sequences and alternatives of n items; the array is copied. Alternatives of nothing: never. */
const struct expr *expr_seq(struct expr_grammar *g, const struct expr *const *items, size_t n);
const struct expr *expr_alt(struct expr_grammar *g, const struct expr *const *items, size_t n);
const struct expr *expr_seq2(struct expr_grammar *g, const struct expr *a, const struct expr *b);
const struct expr *expr_alt2(struct expr_grammar *g, const struct expr *a, const struct expr *b);

const struct expr *expr_repeat(struct expr_grammar *g, const struct expr *body, uint32_t min,
                               uint32_t max);
const struct expr *expr_optional(struct expr_grammar *g, const struct expr *body);
const struct expr *expr_star(struct expr_grammar *g, const struct expr *body);

/* A rule may be used before it is defined: that is how recursion is written. */
uint32_t expr_rule_declare(struct expr_grammar *g);
void expr_rule_define(struct expr_grammar *g, uint32_t rule, const struct expr *e);
const struct expr *expr_rule(struct expr_grammar *g, uint32_t rule);

/* Lists that grow, for front ends that don't know their length. */
struct expr_list {
    const struct expr **items;
    size_t n, cap;
};
void expr_push(struct expr_grammar *g, struct expr_list *l, const struct expr *e);

/* ---- code points */

struct cp_range {
    uint32_t lo, hi;
};
enum { CP_MAX = 0x10ffff };

/* A set of code points: sorted, disjoint, not touching, after charset_normalize(). */
struct charset {
    struct cp_range *r; /* in the grammar's arena */
    size_t n, cap;
};
void charset_add(struct expr_grammar *g, struct charset *c, uint32_t lo, uint32_t hi);
void charset_normalize(struct charset *c);
void charset_invert(struct expr_grammar *g, struct charset *c); /* normalized in, normalized out */
bool charset_has(const struct charset *c, uint32_t cp);

/* How characters are written. */
enum text_form {
    TEXT_RAW,  /* as UTF-8 */
    TEXT_JSON, /* as they stand between the quotes of a JSON string: what must be escaped is, in
                  the short form where there is one, and nothing else */
};

/* One character of the set. Surrogates in it are ignored. */
const struct expr *expr_chars(struct expr_grammar *g, const struct charset *c, enum text_form form);

#endif
