#include "gateway/api/validate.h"
#include <stdio.h>
#include <sys/random.h>

/* ---- the table ---------------------------------------------------------------------------------
 */

enum field_kind {
    F_FLOAT,  /* a number in [min, max], stored as float */
    F_U32,    /* an integer in [min, max], stored as uint32_t */
    F_BOOL,   /* stored as bool */
    F_TEXT,   /* at most `max` bytes, stored as struct str */
    F_CUSTOM, /* `take` decides */
    F_IGNORE, /* accepted on purpose without effect: it can't change the answer */
    F_REFUSE, /* would change the answer and is not done here: refused, whatever the value */
};

struct field {
    const char *name;
    int dialects;
    enum field_kind kind;
    double min, max;
    size_t offset; /* in struct api_params */
    bool (*take)(const struct json *v, struct api_params *p, struct api_fault *f);
};

#define P(field)    offsetof(struct api_params, field)
#define H(field)    offsetof(struct api_params, head.field)
#define BOTH        (FOR_CHAT | FOR_COMPLETIONS)
#define ALL         (FOR_CHAT | FOR_COMPLETIONS | FOR_EMBEDDINGS)
#define MAX_TOKENS_ 2147483647.0

typedef bool taker(const struct json *v, struct api_params *p, struct api_fault *f);
static taker take_model, take_messages, take_prompt, take_stop, take_logit_bias, take_seed, take_n,
    take_top_k, take_top_logprobs, take_logprobs_count, take_stream_options, take_tools,
    take_tool_choice, take_response_format, take_store, take_service_tier, take_metadata,
    take_template_kwargs, take_reasoning_effort, take_verbosity, take_parallel, take_modalities,
    take_reasoning_format, take_suffix, take_flag_echo, take_flag_ignore_eos, take_input,
    take_encoding_format;

// clang-format off
static const struct field fields[] = {
    /* name                   where            kind      min    max    stored at, or taken by */
    {"model",                 ALL,             F_CUSTOM, 0, 0, 0, take_model},
    {"messages",              FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_messages},
    {"prompt",                FOR_COMPLETIONS, F_CUSTOM, 0, 0, 0, take_prompt},
    {"input",                 FOR_EMBEDDINGS,  F_CUSTOM, 0, 0, 0, take_input},
    {"encoding_format",       FOR_EMBEDDINGS,  F_CUSTOM, 0, 0, 0, take_encoding_format},
    {"dimensions",            FOR_EMBEDDINGS,  F_U32,    1, PROTO_MAX_DIMS, H(dimensions), NULL},
    {"temperature",           BOTH,            F_FLOAT,  0, 2, H(temperature), NULL},
    {"top_p",                 BOTH,            F_FLOAT,  0, 1, H(top_p), NULL},
    {"min_p",                 BOTH,            F_FLOAT,  0, 1, H(min_p), NULL},
    {"top_k",                 BOTH,            F_CUSTOM, 0, 0, 0, take_top_k},
    {"frequency_penalty",     BOTH,            F_FLOAT, -2, 2, H(frequency_penalty), NULL},
    {"presence_penalty",      BOTH,            F_FLOAT, -2, 2, H(presence_penalty), NULL},
    {"repetition_penalty",    BOTH,            F_FLOAT,  0.01, 100, H(repetition_penalty), NULL},
    {"logit_bias",            BOTH,            F_CUSTOM, 0, 0, 0, take_logit_bias},
    {"seed",                  BOTH,            F_CUSTOM, 0, 0, 0, take_seed},
    {"stop",                  BOTH,            F_CUSTOM, 0, 0, 0, take_stop},
    {"n",                     BOTH,            F_CUSTOM, 0, 0, 0, take_n},
    {"max_tokens",            BOTH,            F_U32,    1, MAX_TOKENS_, P(max_tokens), NULL},
    {"max_completion_tokens", FOR_CHAT,        F_U32,    1, MAX_TOKENS_, P(max_completion_tokens), NULL},
    {"min_tokens",            BOTH,            F_U32,    0, MAX_TOKENS_, H(min_tokens), NULL},
    {"ignore_eos",            BOTH,            F_CUSTOM, 0, 0, 0, take_flag_ignore_eos},
    {"stream",                BOTH,            F_BOOL,   0, 0, P(stream), NULL},
    {"stream_options",        BOTH,            F_CUSTOM, 0, 0, 0, take_stream_options},
    {"logprobs",              FOR_CHAT,        F_BOOL,   0, 0, P(logprobs), NULL},
    {"logprobs",              FOR_COMPLETIONS, F_CUSTOM, 0, 0, 0, take_logprobs_count},
    {"top_logprobs",          FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_top_logprobs},
    {"echo",                  FOR_COMPLETIONS, F_CUSTOM, 0, 0, 0, take_flag_echo},
    {"best_of",               FOR_COMPLETIONS, F_U32,    1, 20, P(best_of), NULL},
    {"suffix",                FOR_COMPLETIONS, F_CUSTOM, 0, 0, 0, take_suffix},
    {"tools",                 FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_tools},
    {"tool_choice",           FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_tool_choice},
    {"parallel_tool_calls",   FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_parallel},
    {"response_format",       FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_response_format},
    {"chat_template_kwargs",  FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_template_kwargs},
    {"reasoning_effort",      FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_reasoning_effort},
    {"reasoning_format",      FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_reasoning_format},
    {"include_reasoning",     FOR_CHAT,        F_BOOL,   0, 0, P(include_reasoning), NULL},
    {"verbosity",             FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_verbosity},
    {"modalities",            FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_modalities},
    {"store",                 FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_store},
    {"service_tier",          FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_service_tier},
    {"metadata",              FOR_CHAT,        F_CUSTOM, 0, 0, 0, take_metadata},
    {"user",                  ALL,             F_TEXT,   0, 512, P(user), NULL},
    {"safety_identifier",     FOR_CHAT,        F_TEXT,   0, 64, P(safety_identifier), NULL},
    {"prompt_cache_key",      FOR_CHAT,        F_TEXT,   0, 512, P(cache_key), NULL},
    /* Hints about cost and speed: the answer is the same without them. */
    {"prompt_cache_retention", FOR_CHAT,       F_IGNORE, 0, 0, 0, NULL},
    {"prediction",            FOR_CHAT,        F_IGNORE, 0, 0, 0, NULL},
    /* These would change the answer. */
    {"functions",             FOR_CHAT,        F_REFUSE, 0, 0, 0, NULL},
    {"function_call",         FOR_CHAT,        F_REFUSE, 0, 0, 0, NULL},
    {"audio",                 FOR_CHAT,        F_REFUSE, 0, 0, 0, NULL},
    {"web_search_options",    FOR_CHAT,        F_REFUSE, 0, 0, 0, NULL},
    {"moderation",            FOR_CHAT,        F_REFUSE, 0, 0, 0, NULL},
    {"add_generation_prompt", FOR_CHAT,        F_REFUSE, 0, 0, 0, NULL},
    {"continue_final_message", FOR_CHAT,       F_REFUSE, 0, 0, 0, NULL},
};
// clang-format on

static const struct field *find_field(struct str name, enum dialect_bit dialect)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if ((fields[i].dialects & dialect) && str_is(name, fields[i].name))
            return &fields[i];
    return NULL;
}

/* ---- simple kinds
 * -------------------------------------------------------------------------------- */

bool api_in_range_int(const struct json *v, const char *param, int64_t min, int64_t max,
                      struct api_fault *f)
{
    if (v->kind != JSON_INT)
        return fault_type(f, param, "an integer", v);
    if (v->i > max)
        return fault_set(f, API_INT_ABOVE, param,
                         "Invalid '%s': integer above maximum value. Expected a value <= %lld, but "
                         "got %lld instead.",
                         param, (long long)max, (long long)v->i);
    if (v->i < min)
        return fault_set(f, API_INT_BELOW, param,
                         "Invalid '%s': integer below minimum value. Expected a value >= %lld, but "
                         "got %lld instead.",
                         param, (long long)min, (long long)v->i);
    return true;
}

static bool in_range_number(const struct json *v, const char *param, double min, double max,
                            struct api_fault *f)
{
    if (!json_is_number(v))
        return fault_type(f, param, "a decimal", v);
    double d = json_f64(v);
    struct str spelled = fault_cut(v->raw, 40);
    if (d > max)
        return fault_set(f, API_DECIMAL_ABOVE, param,
                         "Invalid '%s': decimal above maximum value. Expected a value <= %g, but "
                         "got " STR_FMT " instead.",
                         param, max, STR_ARG(spelled));
    if (d < min)
        return fault_set(f, API_DECIMAL_BELOW, param,
                         "Invalid '%s': decimal below minimum value. Expected a value >= %g, but "
                         "got " STR_FMT " instead.",
                         param, min, STR_ARG(spelled));
    return true;
}

static bool short_text(const struct json *v, const char *param, size_t max, struct api_fault *f)
{
    if (v->kind != JSON_STRING)
        return fault_type(f, param, "a string", v);
    if (v->s.n <= max)
        return true;
    return fault_set(
        f, API_STRING_TOO_LONG, param,
        "Invalid '%s': string too long. Expected a string with maximum length %zu, but "
        "got a string with length %zu instead.",
        param, max, v->s.n);
}

static bool one_of(const struct json *v, const char *param, const char *const *values, int n,
                   const char *listed, struct api_fault *f)
{
    if (v->kind != JSON_STRING)
        return fault_type(f, param, "a string", v);
    for (int i = 0; i < n; i++)
        if (str_is(v->s, values[i]))
            return true;
    struct str got = fault_cut(v->s, 60);
    return fault_set(f, API_VALUE, param, "Invalid value: '" STR_FMT "'. Supported values are: %s.",
                     STR_ARG(got), listed);
}

static bool take_field(const struct field *row, const struct json *v, struct api_params *p,
                       struct api_fault *f)
{
    char *at = (char *)p + row->offset;
    switch (row->kind) {
    case F_FLOAT: {
        if (!in_range_number(v, row->name, row->min, row->max, f))
            return false;
        float x = (float)json_f64(v);
        memcpy(at, &x, sizeof(x));
        return true;
    }
    case F_U32: {
        if (!api_in_range_int(v, row->name, (int64_t)row->min, (int64_t)row->max, f))
            return false;
        uint32_t n = (uint32_t)v->i;
        memcpy(at, &n, sizeof(n));
        return true;
    }
    case F_BOOL:
        if (v->kind != JSON_BOOL)
            return fault_type(f, row->name, "a boolean", v);
        memcpy(at, &v->b, sizeof(v->b));
        return true;
    case F_TEXT:
        if (!short_text(v, row->name, (size_t)row->max, f))
            return false;
        memcpy(at, &v->s, sizeof(v->s));
        return true;
    case F_CUSTOM:
        return row->take(v, p, f);
    case F_IGNORE:
        return true;
    case F_REFUSE:
        break;
    }
    return fault_set(f, API_UNSUPPORTED, row->name, "Unsupported parameter: '%s' is not supported.",
                     row->name);
}

/* ---- takers
 * ---------------------------------------------------------------------------------------- */

static bool take_model(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (!short_text(v, "model", 256, f))
        return false;
    p->model = v->s;
    return true;
}

static bool take_messages(const struct json *v, struct api_params *p, struct api_fault *f)
{
    p->messages = v;
    return api_check_messages(v, f);
}

static bool take_prompt(const struct json *v, struct api_params *p, struct api_fault *f)
{
    const char *expected = "a string or an array of token ids";
    if (v->kind == JSON_ARRAY && v->list.count == 1 && v->list.first->kind != JSON_INT)
        v = v->list.first; /* a list of one prompt is that prompt */
    if (v->kind != JSON_STRING && v->kind != JSON_ARRAY)
        return fault_type(f, "prompt", expected, v);
    if (v->kind == JSON_ARRAY && v->list.count == 0)
        return fault_set(f, API_EMPTY_ARRAY, "prompt",
                         "Invalid 'prompt': empty array. Expected an array with minimum length 1, "
                         "but got an empty array instead.");
    int i = 0;
    char param[32];
    for (const struct json *t = v->kind == JSON_ARRAY ? v->list.first : NULL; t; t = t->next, i++) {
        if (t->kind == JSON_STRING || t->kind == JSON_ARRAY)
            return fault_set(f, API_UNSUPPORTED_VALUE, "prompt",
                             "Several prompts in one request are not supported: send one request "
                             "for each.");
        snprintf(param, sizeof(param), "prompt[%d]", i);
        if (!api_in_range_int(t, param, 0, INT32_MAX, f))
            return false;
    }
    p->prompt = v;
    return true;
}

static bool take_input(const struct json *v, struct api_params *p, struct api_fault *f)
{
    p->input = v;
    return api_check_input(v, f);
}

static bool take_encoding_format(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"float", "base64"};
    if (!one_of(v, "encoding_format", values, 2, "'float' and 'base64'", f))
        return false;
    p->base64 = str_is(v->s, "base64");
    return true;
}

static bool one_stop(const struct json *v, const char *param, struct api_params *p,
                     struct api_fault *f)
{
    if (!short_text(v, param, PROTO_MAX_STOP_BYTES, f))
        return false;
    if (v->s.n == 0)
        return fault_set(f, API_EMPTY_STRING, param,
                         "Invalid '%s': empty string. Expected a string with minimum length 1, but "
                         "got an empty string instead.",
                         param);
    p->stops[p->n_stops++] = v->s;
    return true;
}

static bool take_stop(const struct json *v, struct api_params *p, struct api_fault *f)
{
    p->n_stops = 0;
    if (v->kind == JSON_STRING)
        return one_stop(v, "stop", p, f);
    if (v->kind != JSON_ARRAY)
        return fault_type(f, "stop", "a string or an array of strings", v);
    if (v->list.count > API_MAX_STOPS)
        return fault_set(
            f, API_ARRAY_TOO_LONG, "stop",
            "Invalid 'stop': array too long. Expected an array with maximum length %d, "
            "but got an array with length %zu instead.",
            API_MAX_STOPS, v->list.count);
    int i = 0;
    for (const struct json *s = v->list.first; s; s = s->next, i++) {
        char param[24];
        snprintf(param, sizeof(param), "stop[%d]", i);
        if (!one_stop(s, param, p, f))
            return false;
    }
    return true;
}

static bool take_logit_bias(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (v->kind != JSON_OBJECT)
        return fault_type(f, "logit_bias", "an object", v);
    if (v->list.count > PROTO_MAX_LOGIT_BIAS)
        return fault_set(
            f, API_OBJECT_TOO_LARGE, "logit_bias",
            "Invalid 'logit_bias': too many properties. Expected an object with at most "
            "%d properties, but got an object with %zu properties instead.",
            PROTO_MAX_LOGIT_BIAS, v->list.count);
    for (const struct json *b = v->list.first; b; b = b->next) {
        struct str key = fault_cut(b->key, 40);
        char param[64];
        uint64_t id;
        if (!str_to_u64(b->key, INT32_MAX, &id))
            return fault_set(f, API_VALUE, "logit_bias",
                             "Invalid key in 'logit_bias': '" STR_FMT
                             "'. Expected a token id as a whole number.",
                             STR_ARG(key));
        snprintf(param, sizeof(param), "logit_bias." STR_FMT, STR_ARG(key));
        if (!in_range_number(b, param, -100, 100, f))
            return false;
    }
    p->logit_bias = v->list.count ? v : NULL;
    return true;
}

static bool take_seed(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (v->kind != JSON_INT)
        return fault_type(f, "seed", "an integer", v);
    p->head.seed = (uint64_t)v->i;
    p->has_seed = true;
    return true;
}

static bool take_n(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (!api_in_range_int(v, "n", 1, PROTO_MAX_CHOICES, f))
        return false;
    p->head.n = (uint16_t)v->i;
    return true;
}

/* -1 and 0 both mean "all": vLLM's and llama.cpp's spelling. */
static bool take_top_k(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (!api_in_range_int(v, "top_k", -1, INT32_MAX, f))
        return false;
    p->head.top_k = v->i < 0 ? 0 : (int32_t)v->i;
    return true;
}

static bool take_top_logprobs(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (!api_in_range_int(v, "top_logprobs", 0, PROTO_MAX_TOP_LOGPROBS, f))
        return false;
    p->head.top_logprobs = (uint16_t)v->i;
    p->has_top_logprobs = true;
    return true;
}

/* Completions: the number is the alternatives per token; 0 gives the chosen tokens alone. */
static bool take_logprobs_count(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (!api_in_range_int(v, "logprobs", 0, 5, f))
        return false;
    p->head.top_logprobs = (uint16_t)v->i;
    p->logprobs = true;
    return true;
}

static bool take_flag(const struct json *v, const char *name, uint32_t flag, struct api_params *p,
                      struct api_fault *f)
{
    if (v->kind != JSON_BOOL)
        return fault_type(f, name, "a boolean", v);
    p->head.flags |= v->b ? flag : 0;
    return true;
}

static bool take_flag_echo(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (v->kind != JSON_BOOL)
        return fault_type(f, "echo", "a boolean", v);
    p->echo = v->b;
    return true;
}

static bool take_flag_ignore_eos(const struct json *v, struct api_params *p, struct api_fault *f)
{
    return take_flag(v, "ignore_eos", JOB_IGNORE_EOS, p, f);
}

static bool take_stream_options(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (v->kind != JSON_OBJECT)
        return fault_type(f, "stream_options", "an object", v);
    p->has_stream_options = true;
    for (const struct json *o = v->list.first; o; o = o->next) {
        char param[80];
        struct str key = fault_cut(o->key, 40);
        snprintf(param, sizeof(param), "stream_options." STR_FMT, STR_ARG(key));
        bool usage = str_is(o->key, "include_usage");
        /* Padding against eavesdroppers on token lengths; taken, but none is added. */
        if (!usage && !str_is(o->key, "include_obfuscation"))
            return fault_set(f, API_UNKNOWN, param, "Unknown parameter: '%s'.", param);
        if (o->kind == JSON_NULL)
            continue;
        if (o->kind != JSON_BOOL)
            return fault_type(f, param, "a boolean", o);
        if (usage)
            p->include_usage = o->b;
    }
    return true;
}

static bool take_tools(const struct json *v, struct api_params *p, struct api_fault *f)
{
    p->tools = v;
    return api_check_tools(v, f);
}

static bool take_tool_choice(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"none", "auto"};
    if (v->kind == JSON_OBJECT || (v->kind == JSON_STRING && str_is(v->s, "required")))
        return fault_set(f, API_UNSUPPORTED_VALUE, "tool_choice",
                         "Unsupported value: 'tool_choice' must be 'none' or 'auto'; forced tool "
                         "calls are not supported.");
    if (!one_of(v, "tool_choice", values, 2, "'none' and 'auto'", f))
        return false;
    p->tools_off = str_is(v->s, "none");
    return true;
}

static bool take_parallel(const struct json *v, struct api_params *p, struct api_fault *f)
{
    if (v->kind != JSON_BOOL)
        return fault_type(f, "parallel_tool_calls", "a boolean", v);
    p->has_parallel_false = !v->b;
    return true;
}

static bool take_response_format(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"text", "json_object", "json_schema"};
    (void)p;
    if (v->kind != JSON_OBJECT)
        return fault_type(f, "response_format", "an object", v);
    const struct json *type = json_get(v, "type");
    if (!type)
        return fault_missing(f, "response_format.type");
    if (!one_of(type, "response_format.type", values, 3, "'text', 'json_object', and 'json_schema'",
                f))
        return false;
    if (!str_is(type->s, "text"))
        return fault_set(f, API_UNSUPPORTED_VALUE, "response_format",
                         "Unsupported value: 'response_format' of type '" STR_FMT
                         "' is not supported.",
                         STR_ARG(type->s));
    return true;
}

static bool take_template_kwargs(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const ours[] = {"messages", "tools", "bos_token", "eos_token"};
    if (v->kind != JSON_OBJECT)
        return fault_type(f, "chat_template_kwargs", "an object", v);
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (json_get(v, ours[i]))
            return fault_set(f, API_VALUE, "chat_template_kwargs",
                             "Invalid 'chat_template_kwargs': '%s' cannot be set here.", ours[i]);
    p->template_kwargs = v;
    return true;
}

/* Handed to the chat template, where the models that know it have it (as vLLM does). */
static bool take_reasoning_effort(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    if (!one_of(v, "reasoning_effort", values, 6,
                "'none', 'minimal', 'low', 'medium', 'high', and 'xhigh'", f))
        return false;
    p->reasoning_effort = v->s;
    return true;
}

/* llama-server's switch: "none" leaves the thoughts in the content, as the model wrote them. */
static bool take_reasoning_format(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"auto", "deepseek", "none"};
    if (!one_of(v, "reasoning_format", values, 3, "'auto', 'deepseek', and 'none'", f))
        return false;
    p->reasoning_off = str_is(v->s, "none");
    return true;
}

static bool take_verbosity(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"low", "medium", "high"};
    (void)p;
    if (!one_of(v, "verbosity", values, 3, "'low', 'medium', and 'high'", f))
        return false;
    if (str_is(v->s, "medium")) /* the default */
        return true;
    return fault_set(f, API_UNSUPPORTED_VALUE, "verbosity",
                     "Unsupported value: 'verbosity' can only be 'medium'.");
}

static bool take_modalities(const struct json *v, struct api_params *p, struct api_fault *f)
{
    (void)p;
    if (v->kind != JSON_ARRAY)
        return fault_type(f, "modalities", "an array of strings", v);
    for (const struct json *m = v->list.first; m; m = m->next)
        if (!json_is(m, JSON_STRING) || !str_is(m->s, "text"))
            return fault_set(f, API_UNSUPPORTED_VALUE, "modalities",
                             "Unsupported value: 'modalities' can only be ['text'].");
    return true;
}

static bool take_store(const struct json *v, struct api_params *p, struct api_fault *f)
{
    (void)p;
    if (v->kind != JSON_BOOL)
        return fault_type(f, "store", "a boolean", v);
    return v->b ? fault_set(f, API_UNSUPPORTED_VALUE, "store",
                            "Unsupported value: 'store' can only be false; answers are not stored.")
                : true;
}

static bool take_service_tier(const struct json *v, struct api_params *p, struct api_fault *f)
{
    static const char *const values[] = {"auto", "default"};
    (void)p;
    return one_of(v, "service_tier", values, 2, "'auto' and 'default'", f);
}

/* For OpenAI's dashboards; nothing here shows it, and nothing of the answer hangs on it. */
static bool take_metadata(const struct json *v, struct api_params *p, struct api_fault *f)
{
    (void)p;
    if (v->kind != JSON_OBJECT)
        return fault_type(f, "metadata", "an object", v);
    if (v->list.count > 16)
        return fault_set(f, API_OBJECT_TOO_LARGE, "metadata",
                         "Invalid 'metadata': too many properties. Expected an object with at most "
                         "16 properties, but got an object with %zu properties instead.",
                         v->list.count);
    for (const struct json *m = v->list.first; m; m = m->next) {
        char param[80];
        struct str key = fault_cut(m->key, 64);
        snprintf(param, sizeof(param), "metadata." STR_FMT, STR_ARG(key));
        if (m->key.n > 64)
            return fault_set(f, API_STRING_TOO_LONG, "metadata",
                             "Invalid 'metadata': a key has at most 64 characters.");
        if (!short_text(m, param, 512, f))
            return false;
    }
    return true;
}

static bool take_suffix(const struct json *v, struct api_params *p, struct api_fault *f)
{
    (void)p;
    if (v->kind != JSON_STRING)
        return fault_type(f, "suffix", "a string", v);
    return v->s.n == 0 ? true
                       : fault_set(f, API_UNSUPPORTED, "suffix",
                                   "Unsupported parameter: 'suffix' is not supported.");
}

/* ---- the whole
 * ----------------------------------------------------------------------------------------- */

/* What only several fields together show. */
static bool check_together(enum dialect_bit dialect, struct api_params *p, struct api_fault *f)
{
    struct job_head *h = &p->head;
    if (!p->model.n)
        return fault_missing(f, "model");
    if (dialect == FOR_CHAT && !p->messages)
        return fault_missing(f, "messages");
    if (dialect == FOR_COMPLETIONS && !p->prompt)
        return fault_missing(f, "prompt");
    if (dialect == FOR_EMBEDDINGS && !p->input)
        return fault_missing(f, "input");
    if (p->has_stream_options && !p->stream)
        return fault_set(
            f, API_VALUE, "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    if (p->has_top_logprobs && !p->logprobs)
        return fault_set(
            f, API_VALUE, "top_logprobs",
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.");
    if (!p->include_reasoning && p->reasoning_off)
        return fault_set(f, API_VALUE, "include_reasoning",
                         "Invalid 'include_reasoning': it cannot be false with 'reasoning_format' "
                         "'none', which leaves the reasoning in the content.");
    if (p->echo && (p->logprobs || (p->prompt && p->prompt->kind != JSON_STRING)))
        return fault_set(
            f, API_UNSUPPORTED_VALUE, "echo",
            "Unsupported value: 'echo' needs a prompt given as a string, and no 'logprobs'.");
    if (p->best_of && p->best_of != h->n)
        return fault_set(f, API_UNSUPPORTED_VALUE, "best_of",
                         "Unsupported value: 'best_of' can only be equal to 'n'.");
    /* Clients send the old and the new name at once, for servers that know only one. */
    uint32_t a = p->max_tokens, b = p->max_completion_tokens;
    h->max_tokens = a && b ? (a < b ? a : b) : a ? a : b;
    if (dialect == FOR_COMPLETIONS && !h->max_tokens)
        h->max_tokens = 16; /* OpenAI's default, there alone */
    if (h->max_tokens && h->min_tokens > h->max_tokens)
        return fault_set(
            f, API_INT_ABOVE, "min_tokens",
            "Invalid 'min_tokens': integer above maximum value. Expected a value <= %u, "
            "but got %u instead.",
            h->max_tokens, h->min_tokens);
    if (p->logprobs)
        h->flags |= JOB_LOGPROBS;
    if (dialect == FOR_CHAT && !p->reasoning_off)
        h->flags |= JOB_PARSE_REASONING;
    if (p->tools && p->tools->list.count && !p->tools_off)
        h->flags |= JOB_PARSE_TOOLS | (p->has_parallel_false ? JOB_SINGLE_CALL : 0);
    return true;
}

static bool draw_seed(struct api_params *p, struct api_fault *f)
{
    if (p->has_seed ||
        getrandom(&p->head.seed, sizeof(p->head.seed), 0) == (ssize_t)sizeof(p->head.seed))
        return true;
    return fault_set(f, API_INTERNAL, NULL, "The system gives no random numbers.");
}

bool api_validate(const struct json *root, enum dialect_bit dialect, struct api_params *out,
                  struct api_fault *fault)
{
    *fault = (struct api_fault){0};
    *out = (struct api_params){
        .head = {.kind = dialect == FOR_CHAT          ? JOB_CHAT
                         : dialect == FOR_COMPLETIONS ? JOB_COMPLETION
                                                      : JOB_EMBEDDING,
                 .n = 1,
                 .temperature = 1,
                 .top_p = 1,
                 .repetition_penalty = 1,
                 .penalty_last_n = -1},
        .include_reasoning = true,
    };
    if (root->kind != JSON_OBJECT)
        return fault_set(fault, API_MALFORMED, NULL,
                         "The JSON body of the request must be an object.");
    for (const struct json *v = root->list.first; v; v = v->next) {
        const struct field *row = find_field(v->key, dialect);
        if (!row) {
            struct str key = fault_cut(v->key, 64);
            char param[72];
            snprintf(param, sizeof(param), STR_FMT, STR_ARG(key));
            return fault_set(fault, API_UNKNOWN, param, "Unknown parameter: '%s'.", param);
        }
        bool required = row->take == take_messages || row->take == take_model ||
                        row->take == take_prompt || row->take == take_input;
        if (v->kind == JSON_NULL && !required)
            continue;
        if (!take_field(row, v, out, fault))
            return false;
    }
    return check_together(dialect, out, fault) && draw_seed(out, fault);
}
