/* value.h - the values of a running template: Python's, as far as a template can see them.
 *
 *   struct jj_value   16 bytes, passed by value; what it points to lives in the render's arena (or
 * in the program's, for constants) and does not change once built. growth            text and lists
 * made by + share their storage: appending to the newest of a chain writes behind it, so that
 * building a prompt piece by piece costs what it is long:
 *
 *                       jj_list a [0..3) --+--> jj_vec | v0 v1 v2 v3 |  used = 4, cap = 8
 *                       jj_list b [0..4) --'           b = a + [v3]; a still ends at 3
 *
 * Errors are sticky in the render (render.h): a constructor that fails records the error and gives
 * a harmless value back, and the loops look. Thread: a render belongs to one thread. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_VALUE_H
#define MILLRACE_WORKER_TEXT_JINJA_VALUE_H

#include "shared/base/str.h"

struct jj_render;

enum jj_kind {
    JJ_UNDEFINED,
    JJ_NONE,
    JJ_BOOL,
    JJ_INT,
    JJ_BIG, /* an integer of the request beyond 64 bits: can be printed, not calculated with */
    JJ_FLOAT,
    JJ_STR,
    JJ_LIST,
    JJ_TUPLE,
    JJ_DICT,
    JJ_VIEW, /* dict.keys(), .values(), .items() */
    JJ_RANGE,
    JJ_GEN, /* a generator: can be walked once */
    JJ_NAMESPACE,
    JJ_FUNC, /* macro, method of a value, global function */
    JJ_LOOP,
    JJ_CYCLER,
    JJ_JOINER,
    JJ_MISSING, /* inside only: an argument that was not given, a variable not yet assigned */
};

struct jj_value {
    uint8_t kind;
    bool aux; /* JJ_STR: it is Markup (|safe); JJ_TUPLE: an element of |groupby */
    union {
        bool b;
        int64_t i;
        double f;
        struct jj_text *s; /* JJ_STR, JJ_BIG */
        struct jj_list *l; /* JJ_LIST, JJ_TUPLE */
        struct jj_dict *d; /* JJ_DICT, JJ_NAMESPACE */
        struct jj_view *view;
        struct jj_range *range;
        struct jj_gen *gen;
        struct jj_undef *undef; /* NULL: nothing is known about it */
        struct jj_func *func;
        struct jj_loop *loop;
        struct jj_cycler *cycler; /* JJ_CYCLER, JJ_JOINER */
    };
};

struct jj_bytes {
    size_t used, cap;
    char p[];
};
struct jj_text {
    const char *p; /* valid UTF-8 */
    size_t n;
    size_t n_cp; /* code points; SIZE_MAX: not counted yet. Constants of a program are counted by
                    the parser */
    struct jj_bytes *grow; /* NULL: borrowed storage */
};

struct jj_vec {
    size_t used, cap;
    struct jj_value v[];
};
struct jj_list {
    struct jj_value *v;
    size_t n;
    struct jj_vec *vec; /* NULL: empty */
};

struct jj_pair {
    struct jj_value key, value;
    uint64_t hash;
};
struct jj_dict {
    struct jj_pair *v; /* in order of insertion */
    size_t n, cap;
    uint32_t *index; /* position + 1 by hash, open addressing; NULL while small */
    size_t n_index;
};
enum jj_view_what { JJ_KEYS, JJ_VALUES, JJ_ITEMS };
struct jj_view {
    struct jj_dict *d;
    enum jj_view_what what;
};
struct jj_range {
    int64_t start, stop, step;
    int64_t n;
};
struct jj_gen { /* computed ahead; an error met on the way is raised where the walk would meet it */
    struct jj_list items;
    size_t at;
    const char *type;
    struct jj_error *later; /* NULL: none */
};
struct jj_undef {     /* why a value is undefined: put into words only when that becomes an error */
    const char *hint; /* the message; else: `name` is not defined, or is no attribute of a value of
                         `owner` */
    struct jj_value name; /* JJ_STR, or the key of an item */
    bool attribute, security;
    uint8_t owner;
};
struct jj_cycler {
    struct jj_list *items; /* NULL: a joiner */
    size_t at;
    struct jj_value sep;
    bool used;
};

/* --- making values
 * ------------------------------------------------------------------------------------- */
static inline struct jj_value jj_none(void)
{
    return (struct jj_value){.kind = JJ_NONE};
}
static inline struct jj_value jj_bool(bool b)
{
    return (struct jj_value){.kind = JJ_BOOL, .b = b};
}
static inline struct jj_value jj_int(int64_t i)
{
    return (struct jj_value){.kind = JJ_INT, .i = i};
}
static inline struct jj_value jj_float(double f)
{
    return (struct jj_value){.kind = JJ_FLOAT, .f = f};
}
static inline struct jj_value jj_missing(void)
{
    return (struct jj_value){.kind = JJ_MISSING};
}
static inline struct jj_value jj_of_list(struct jj_list *l)
{
    return (struct jj_value){.kind = JJ_LIST, .l = l};
}
static inline struct jj_value jj_of_tuple(struct jj_list *l)
{
    return (struct jj_value){.kind = JJ_TUPLE, .l = l};
}
static inline struct jj_value jj_of_dict(struct jj_dict *d)
{
    return (struct jj_value){.kind = JJ_DICT, .d = d};
}

struct jj_value jj_str(struct jj_render *r, const char *p, size_t n); /* copies */
struct jj_value jj_str_borrow(struct jj_render *r, const char *p,
                              size_t n); /* p must outlive the render */
struct jj_value jj_cstr(struct jj_render *r, const char *literal);
struct jj_value jj_char(struct jj_render *r, uint32_t cp);
struct jj_value jj_concat(struct jj_render *r, struct jj_value a,
                          struct jj_value b); /* two JJ_STR */
static inline struct jj_value jj_mark(struct jj_value v, bool markup)
{
    v.aux = markup;
    return v;
}

struct jj_list *jj_list_new(struct jj_render *r, size_t cap); /* never NULL */
void jj_list_push(struct jj_render *r, struct jj_list *l, struct jj_value v);
struct jj_value jj_pair_tuple(struct jj_render *r, struct jj_value a, struct jj_value b);

struct jj_dict *jj_dict_new(struct jj_render *r); /* never NULL */
/* An unhashable key (a list) is an error. The first insertion of a key keeps its place. */
void jj_dict_set(struct jj_render *r, struct jj_dict *d, struct jj_value key, struct jj_value v);
bool jj_hashable(struct jj_render *r, struct jj_value v);
/* NULL: absent, or an error (an unhashable key). */
const struct jj_value *jj_dict_get(struct jj_render *r, const struct jj_dict *d,
                                   struct jj_value key);
const struct jj_value *jj_dict_find(struct jj_render *r, const struct jj_dict *d, struct str key);

struct jj_value jj_undefined(struct jj_render *r, const char *hint);
struct jj_value jj_undefined_name(struct jj_render *r, struct jj_text *name);
struct jj_value jj_undefined_attr(struct jj_render *r, struct jj_value owner, struct jj_value name);
struct jj_value jj_gen_new(struct jj_render *r, const char *type, struct jj_list *items);

/* --- asking values
 * ------------------------------------------------------------------------------------- */
static inline struct str jj_s(struct jj_value v) /* of JJ_STR */
{
    return (struct str){v.s->p, v.s->n};
}
static inline bool jj_is_number(struct jj_value v) /* int, float, bool */
{
    return v.kind == JJ_INT || v.kind == JJ_FLOAT || v.kind == JJ_BOOL;
}
static inline bool jj_is_int(struct jj_value v) /* int or bool, as Python's isinstance(v, int) */
{
    return v.kind == JJ_INT || v.kind == JJ_BOOL;
}
static inline int64_t jj_as_int(struct jj_value v) /* of jj_is_int() */
{
    return v.kind == JJ_BOOL ? v.b : v.i;
}
static inline double jj_as_f64(struct jj_value v) /* of jj_is_number() */
{
    return v.kind == JJ_FLOAT ? v.f : (double)jj_as_int(v);
}
const char *jj_type_name(struct jj_value v); /* as Python spells it */
bool jj_truth(struct jj_render *r, struct jj_value v);
bool jj_length(struct jj_render *r, struct jj_value v,
               int64_t *n);       /* false: has no length; no error is recorded */
size_t jj_cps(struct jj_value v); /* code points of JJ_STR */
bool jj_equal(struct jj_render *r, struct jj_value a, struct jj_value b);
/* -1, 0, 1; 2: not ordered (NaN). An error when Python has no order for the two. */
int jj_compare(struct jj_render *r, struct jj_value a, struct jj_value b);
bool jj_contains(struct jj_render *r, struct jj_value box, struct jj_value item);
bool jj_same(struct jj_value a, struct jj_value b); /* Python's `is` */

/* --- walking
 * ------------------------------------------------------------------------------------------- */
struct jj_iter {
    struct jj_value of;
    size_t at;
};
bool jj_iter_init(struct jj_render *r, struct jj_iter *it,
                  struct jj_value v); /* false: error recorded */
bool jj_iterable(struct jj_value v);
bool jj_iter_next(struct jj_render *r, struct jj_iter *it,
                  struct jj_value *out); /* false: end, or error */
struct jj_list *jj_list_of(struct jj_render *r,
                           struct jj_value v); /* a fresh list of what v gives */

#endif
