/* The job's body out of validated parameters. */
#include "gateway/api/validate.h"
#include "shared/ipc/body.h"
#include <stdlib.h>

/* {"messages":[...],"tools":[...],"chat_template_kwargs":{...}} */
static void put_request_json(struct buf *out, const struct api_params *p)
{
    buf_puts(out, "{\"messages\":");
    buf_put(out, p->messages->raw.p, p->messages->raw.n); /* as the client wrote them */
    if (p->tools && p->tools->list.count && !p->tools_off) {
        buf_puts(out, ",\"tools\":");
        buf_put(out, p->tools->raw.p, p->tools->raw.n);
    }
    const struct json *kwargs = p->template_kwargs;
    bool effort = p->reasoning_effort.n && !json_get(kwargs, "reasoning_effort");
    if (kwargs || effort) {
        buf_puts(out, ",\"chat_template_kwargs\":{");
        for (const struct json *v = kwargs ? kwargs->list.first : NULL; v; v = v->next) {
            if (v != kwargs->list.first)
                buf_putc(out, ',');
            json_put_str(out, v->key.p, v->key.n);
            buf_putc(out, ':');
            buf_put(out, v->raw.p, v->raw.n);
        }
        if (effort) {
            if (kwargs && kwargs->list.count)
                buf_putc(out, ',');
            buf_puts(out, "\"reasoning_effort\":");
            json_put_str(out, p->reasoning_effort.p, p->reasoning_effort.n);
            /* Templates that can only switch thinking on and off do it by this name. */
            if (str_is(p->reasoning_effort, "none") && !json_get(kwargs, "enable_thinking"))
                buf_puts(out, ",\"enable_thinking\":false");
        }
        buf_putc(out, '}');
    }
    buf_putc(out, '}');
}

void api_put_tokens(struct buf *body, enum job_section kind, const struct json *list)
{
    size_t n = list->list.count, i = 0;
    int32_t *tokens = calloc(n, sizeof(*tokens));
    if (!tokens) {
        body->failed = true;
        return;
    }
    for (const struct json *t = list->list.first; t; t = t->next)
        tokens[i++] = (int32_t)t->i;
    body_section(body, kind, tokens, n * sizeof(*tokens));
    free(tokens);
}

static void put_logit_bias(struct buf *body, const struct json *object)
{
    struct {
        int32_t token;
        float bias;
    } rows[PROTO_MAX_LOGIT_BIAS];
    size_t n = 0;
    for (const struct json *b = object->list.first; b && n < PROTO_MAX_LOGIT_BIAS; b = b->next) {
        uint64_t id = 0;
        (void)str_to_u64(b->key, INT32_MAX, &id); /* checked by the validator */
        rows[n].token = (int32_t)id;
        rows[n++].bias = (float)json_f64(b);
    }
    body_section(body, SECTION_LOGIT_BIAS, rows, n * sizeof(rows[0]));
}

enum err api_build_body(const struct api_params *p, struct buf *body)
{
    body_begin(body, &p->head);
    if (p->input) {
        api_put_inputs(body, p->input);
    } else if (p->messages) {
        struct buf request = {0};
        put_request_json(&request, p);
        body->failed |= request.failed;
        body_section(body, SECTION_REQUEST_JSON, request.p, request.n);
        buf_fini(&request);
    } else if (p->prompt->kind == JSON_STRING) {
        body_section(body, SECTION_PROMPT_TEXT, p->prompt->s.p, p->prompt->s.n);
    } else {
        api_put_tokens(body, SECTION_PROMPT_TOKENS, p->prompt);
    }
    for (int i = 0; i < p->n_stops; i++)
        body_section(body, SECTION_STOP, p->stops[i].p, p->stops[i].n);
    if (p->logit_bias)
        put_logit_bias(body, p->logit_bias);
    return body_end(body);
}

void api_add_prefixes(const struct dispatch *d, const struct api_params *p, struct job_spec *spec)
{
    if (p->cache_key.n)
        job_spec_add_prefix(d, spec, p->cache_key.p, p->cache_key.n);
    if (p->tools && !p->tools_off)
        job_spec_add_prefix(d, spec, p->tools->raw.p, p->tools->raw.n);
    if (!p->messages) {
        job_spec_add_prefix(d, spec, p->prompt->raw.p, p->prompt->raw.n);
        return;
    }
    for (const struct json *m = p->messages->list.first; m; m = m->next)
        job_spec_add_prefix(d, spec, m->raw.p, m->raw.n);
}
