/* filters.c - the table of filters. */
#include "worker/text/jinja/filters.h"

#include "worker/text/jinja/render.h"

// clang-format off
static const struct jj_filter filters[] = {
    /* name            function            parameters                                      required */
    {"abs",            jj_f_abs,            "", 0},
    {"attr",           jj_f_attr,           "name", 1},
    {"batch",          jj_f_batch,          "linecount fill_with", 1},
    {"capitalize",     jj_f_capitalize,     "", 0},
    {"center",         jj_f_center,         "width", 0},
    {"count",          jj_f_length,         "", 0},
    {"d",              jj_f_default,        "default_value boolean", 0},
    {"default",        jj_f_default,        "default_value boolean", 0},
    {"dictsort",       jj_f_dictsort,       "case_sensitive by reverse", 0},
    {"e",              jj_f_escape,         "", 0},
    {"escape",         jj_f_escape,         "", 0},
    {"filesizeformat", jj_f_filesizeformat, "binary", 0},
    {"first",          jj_f_first,          "", 0},
    {"float",          jj_f_float,          "default", 0},
    {"forceescape",    jj_f_forceescape,    "", 0},
    {"format",         jj_f_format,         NULL, 0},
    {"groupby",        jj_f_groupby,        "attribute default case_sensitive", 1},
    {"indent",         jj_f_indent,         "width first blank", 0},
    {"int",            jj_f_int,            "default base", 0},
    {"items",          jj_f_items,          "", 0},
    {"join",           jj_f_join,           "d attribute", 0},
    {"last",           jj_f_last,           "", 0},
    {"length",         jj_f_length,         "", 0},
    {"list",           jj_f_list,           "", 0},
    {"lower",          jj_f_lower,          "", 0},
    {"map",            jj_f_map,            NULL, 0},
    {"max",            jj_f_max,            "case_sensitive attribute", 0},
    {"min",            jj_f_min,            "case_sensitive attribute", 0},
    {"reject",         jj_f_reject,         NULL, 0},
    {"rejectattr",     jj_f_rejectattr,     NULL, 0},
    {"replace",        jj_f_replace,        "old new count", 2},
    {"reverse",        jj_f_reverse,        "", 0},
    {"round",          jj_f_round,          "precision method", 0},
    {"safe",           jj_f_safe,           "", 0},
    {"select",         jj_f_select,         NULL, 0},
    {"selectattr",     jj_f_selectattr,     NULL, 0},
    {"slice",          jj_f_slice,          "slices fill_with", 1},
    {"sort",           jj_f_sort,           "reverse case_sensitive attribute", 0},
    {"string",         jj_f_string,         "", 0},
    {"sum",            jj_f_sum,            "attribute start", 0},
    {"title",          jj_f_title,          "", 0},
    {"tojson",         jj_f_tojson,         "ensure_ascii indent separators sort_keys", 0},
    {"trim",           jj_f_trim,           "chars", 0},
    {"truncate",       jj_f_truncate,       "length killwords end leeway", 0},
    {"unique",         jj_f_unique,         "case_sensitive attribute", 0},
    {"upper",          jj_f_upper,          "", 0},
    {"urlencode",      jj_f_urlencode,      "", 0},
    {"wordcount",      jj_f_wordcount,      "", 0},
    {"xmlattr",        jj_f_xmlattr,        "autospace", 0},
};
// clang-format on

/* Jinja2's other filters: random output, HTML, or a whole library behind them. No published
 * template has one. */
static const char *const known[] = {"pprint", "random", "striptags", "urlize", "wordwrap"};

const struct jj_filter *jj_filter_find(struct str name)
{
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        if (str_is(name, filters[i].name))
            return &filters[i];
    return NULL;
}

bool jj_filter_known(struct str name)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (str_is(name, known[i]))
            return true;
    return jj_filter_find(name) != NULL;
}

struct jj_value jj_filter_apply(struct jj_render *r, const struct jj_filter *f, struct jj_value in,
                                const struct jj_call *c)
{
    struct jj_value a[JJ_MAX_PARAMS] = {{0}};
    if (f->params && !jj_bind(r, c, f->name, f->params, f->min, a))
        return jj_none();
    return f->fn(r, in, a, c);
}
