/* limits.h - what a template may use. A template comes with a model file, so it is a stranger's
 * program: each of these ends a hostile one with an error. Published templates stay below a
 * hundredth of every number here. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_LIMITS_H
#define MILLRACE_WORKER_TEXT_JINJA_LIMITS_H

enum {
    JJ_MAX_SOURCE = 1 << 20,   /* bytes of template source */
    JJ_MAX_PROGRAM = 64 << 20, /* bytes of syntax tree */
    JJ_MAX_NESTING = 150, /* parentheses, operators and blocks inside each other, while parsing */
    JJ_MAX_TREE = 400,    /* height of the syntax tree: long chains of + count, too */
    JJ_MAX_DEPTH =
        2400, /* tree nodes being evaluated at once, through macros and recursive loops */
    JJ_MAX_VALUE_DEPTH = 400,  /* lists inside lists, when compared or printed */
    JJ_MAX_OUTPUT = 64 << 20,  /* bytes of text */
    JJ_MAX_MEMORY = 256 << 20, /* bytes of values during one render */
    JJ_MAX_STEPS =
        50 * 1000 * 1000, /* nodes evaluated, elements visited, 32-byte pieces of text touched */
    JJ_MAX_RANGE =
        100 * 1000, /* items of range(): the number is Jinja2's own (sandbox.MAX_RANGE) */
};

#endif
