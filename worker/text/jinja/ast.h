/* ast.h - the syntax tree of a template: what parser.c builds, names.c checks and eval.c / exec.c
 * walk. All of it lives in the program's arena and is read-only once compiled. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_AST_H
#define MILLRACE_WORKER_TEXT_JINJA_AST_H

#include "shared/base/arena.h"
#include "worker/text/jinja/value.h"

enum jj_node_kind {
    /* expressions */
    N_CONST,   /* value */
    N_NAME,    /* name */
    N_NSREF,   /* name, attr: the target of {% set ns.attr = ... %} */
    N_TUPLE,   /* list */
    N_LIST,    /* list */
    N_DICT,    /* list: key, value, key, value ... */
    N_NEG,     /* a */
    N_POS,     /* a */
    N_NOT,     /* a */
    N_AND,     /* a, b */
    N_OR,      /* a, b */
    N_BINARY,  /* op, a, b */
    N_CONCAT,  /* list */
    N_COMPARE, /* list: the first operand, then one N_OPERAND (op, a) each */
    N_OPERAND,
    N_COND,    /* a if b else c; c may be NULL */
    N_GETATTR, /* of, attr */
    N_GETITEM, /* a, b */
    N_SLICE,   /* a[b:c:d], each of b, c, d may be NULL */
    N_CALL,    /* call */
    N_FILTER,  /* call; of is NULL at the head of a filter block: the captured text */
    N_TEST,    /* call */
    N_KEYWORD, /* attr = of, inside call arguments */
    /* statements */
    S_DATA,  /* value: text of the template */
    S_PRINT, /* list */
    S_IF,
    S_FOR,
    S_SET,       /* a = b */
    S_SET_BLOCK, /* scoped; target a, filter b or NULL */
    S_MACRO,
    S_CALL_BLOCK,   /* macro is the body, macro.call the call */
    S_GENERATION,   /* scoped */
    S_FILTER_BLOCK, /* scoped; filter b */
    S_WITH,         /* scoped; a: targets, b: values (lists by next) */
    S_BREAK,
    S_CONTINUE,
};

enum jj_op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

struct jj_node;
struct jj_filter;
struct jj_test;

/* Names that a scope assigns somewhere but that are read earlier, from an inner scope: Jinja2
 * decides while compiling that such a name belongs to this scope, so that the outer variable is
 * hidden from the start. names.c finds them; entering the scope binds them to "missing". */
struct jj_frame {
    uint32_t *missing; /* name ids */
    size_t n_missing;
};

struct jj_args {
    struct jj_node *pos, *kw;     /* lists by next; kw: N_KEYWORD */
    struct jj_node *star, *star2; /* *args, **kwargs */
};

struct jj_param {
    uint32_t id;
    struct jj_text *name;
    struct jj_node *def; /* default; NULL: none */
};

struct jj_macro {
    struct jj_text *name; /* NULL: the body of a call block */
    uint32_t id;
    struct jj_param *params;
    size_t n_params;
    struct jj_node *body;
    struct jj_node *call; /* of a call block: N_CALL */
    struct jj_frame frame;
    bool takes_caller, takes_kwargs, takes_varargs; /* the body mentions caller, kwargs, varargs */
    bool explicit_caller;                           /* a parameter is named caller */
};

struct jj_node {
    uint8_t kind; /* enum jj_node_kind */
    uint8_t op;
    uint16_t height; /* of the expression below, against JJ_MAX_TREE */
    uint32_t line;
    struct jj_node *next; /* in a list */
    union {
        struct jj_value value;
        struct {
            uint32_t id;
            struct jj_text *text;
            struct jj_value attr; /* N_NSREF */
        } name;
        struct {
            struct jj_node *first;
            size_t n;
        } list;
        struct {
            struct jj_node *a, *b, *c, *d;
        };
        struct {
            struct jj_node *of;
            struct jj_value attr;
        } get; /* N_GETATTR, N_KEYWORD */
        struct {
            struct jj_node *of;
            struct jj_args args;
            struct jj_text *name;           /* of the filter or test */
            const struct jj_filter *filter; /* NULL: no such filter; an error where it is reached */
            const struct jj_test *test;
        } call;
        struct {
            struct jj_node *test, *body, *elifs,
                *orelse; /* elifs: S_IF by next, without elifs of their own */
        } cond;
        struct {
            struct jj_node *target, *iter, *test, *body, *orelse;
            struct jj_frame *frames; /* body, else */
            bool recursive, has_else;
        } loop;
        struct {
            struct jj_node *a, *b, *body;
            struct jj_frame *frame;
        } scoped;
        struct jj_macro *macro;
    };
};

struct jj_program {
    struct arena arena;
    struct jj_node *body;
    struct jj_frame frame;
    struct jj_text **names; /* by id */
    uint32_t n_names;
    uint32_t id_loop, id_caller, id_kwargs, id_varargs;
};

#endif
