/* What an embeddings request may have as `input`: a text, a list of texts, a list of token ids, or
 * a list of such lists. */
#include "gateway/api/validate.h"
#include "shared/ipc/body.h"
#include <stdio.h>
#include <stdlib.h>

static bool empty_text(struct api_fault *f, const char *param)
{
    return fault_set(f, API_EMPTY_STRING, param,
                     "Invalid '%s': empty string. Expected a string with minimum length 1, but got "
                     "an empty string instead.",
                     param);
}

static bool empty_list(struct api_fault *f, const char *param)
{
    return fault_set(f, API_EMPTY_ARRAY, param,
                     "Invalid '%s': empty array. Expected an array with minimum length 1, but got "
                     "an empty array instead.",
                     param);
}

/* A flat list of token ids is one input. */
static bool is_one(const struct json *input)
{
    return input->kind == JSON_STRING || input->list.first->kind == JSON_INT;
}

static bool check_tokens(const struct json *list, const char *param, struct api_fault *f)
{
    size_t i = 0;
    for (const struct json *t = list->list.first; t; t = t->next, i++) {
        char at[80];
        if (t->kind == JSON_INT && t->i >= 0 && t->i <= INT32_MAX)
            continue;
        snprintf(at, sizeof(at), "%s[%zu]", param, i);
        return api_in_range_int(t, at, 0, INT32_MAX, f);
    }
    return list->list.count ? true : empty_list(f, param);
}

bool api_check_input(const struct json *v, struct api_fault *f)
{
    if (v->kind == JSON_STRING)
        return v->s.n ? true : empty_text(f, "input");
    if (v->kind != JSON_ARRAY)
        return fault_type(f, "input", "a string, an array of strings, or token ids", v);
    if (!v->list.first)
        return empty_list(f, "input");
    if (is_one(v))
        return check_tokens(v, "input", f);
    if (v->list.count > PROTO_MAX_INPUTS)
        return fault_set(f, API_ARRAY_TOO_LONG, "input",
                         "Invalid 'input': array too long. Expected an array with maximum length "
                         "%d, but got an array with length %zu instead.",
                         PROTO_MAX_INPUTS, v->list.count);
    const enum json_kind kind = v->list.first->kind;
    size_t i = 0;
    for (const struct json *one = v->list.first; one; one = one->next, i++) {
        char param[40];
        snprintf(param, sizeof(param), "input[%zu]", i);
        if (kind != JSON_STRING && kind != JSON_ARRAY)
            return fault_type(f, param, "a string, a token id, or an array of token ids", one);
        if (one->kind != kind)
            return fault_type(f, param,
                              kind == JSON_STRING ? "a string, like the first input"
                                                  : "an array of token ids, like the first input",
                              one);
        if (kind == JSON_ARRAY && !check_tokens(one, param, f))
            return false;
        if (kind == JSON_STRING && one->s.n == 0)
            return empty_text(f, param);
    }
    return true;
}

uint32_t api_count_inputs(const struct json *input)
{
    return is_one(input) ? 1 : (uint32_t)input->list.count;
}

static void put_one(struct buf *body, const struct json *one)
{
    if (one->kind == JSON_STRING)
        body_section(body, SECTION_INPUT_TEXT, one->s.p, one->s.n);
    else
        api_put_tokens(body, SECTION_INPUT_TOKENS, one);
}

void api_put_inputs(struct buf *body, const struct json *input)
{
    if (is_one(input)) {
        put_one(body, input);
        return;
    }
    for (const struct json *one = input->list.first; one; one = one->next)
        put_one(body, one);
}
