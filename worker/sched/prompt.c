/* prompt.c - templates and tokenizer in one step. */
#include "worker/sched/prompt.h"

#include "shared/base/clock.h"
#include "worker/text/chat_prompt.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

static enum err read_file(struct buf *out, const char *path, struct errmsg *why)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(why, ERR_IO, "%s: cannot open the chat template: %s", path, strerror(errno));
    char piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof(piece), f)) > 0 && out->n <= MAX_TEMPLATE_BYTES)
        buf_put(out, piece, n);
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad || out->failed || out->n > MAX_TEMPLATE_BYTES)
        return err_set(why, ERR_IO, "%s: cannot read the chat template (at most %d bytes)", path,
                       MAX_TEMPLATE_BYTES);
    return ERR_OK;
}

static struct str special_text(const struct tokenizer *t, int32_t id)
{
    return id < 0 ? (struct str){"", 0} : tokenizer_piece(t, id, true);
}

static struct chat_prompt_env prompt_env(const struct prompt_maker *p)
{
    return (struct chat_prompt_env){
        .bos_token = special_text(p->tokenizer, tokenizer_bos(p->tokenizer)),
        .eos_token = special_text(p->tokenizer, tokenizer_eos(p->tokenizer)),
        .template_source = {p->source.p, p->source.n},
        .wants = p->wants,
        .calls = p->format.calls,
        .now_unix = clock_wall_ms() / 1000};
}

enum err prompt_maker_open(struct prompt_maker *p, const struct gguf *g, const struct tokenizer *t,
                           const char *file, struct errmsg *why)
{
    *p = (struct prompt_maker){.tokenizer = t};
    buf_init(&p->source);
    struct str own;
    if (file) {
        enum err e = read_file(&p->source, file, why);
        if (e != ERR_OK)
            return e;
    } else if (gguf_get_str(g, "tokenizer.chat_template", &own)) {
        buf_put(&p->source, own.p, own.n);
    } else {
        return ERR_OK;
    }
    struct errmsg detail = {0};
    enum err e = template_compile(&p->chat, p->source.p ? p->source.p : "", p->source.n, &detail);
    if (e == ERR_OK) {
        const struct chat_prompt_env env = prompt_env(p);
        p->format = output_format_of(env.template_source);
        p->wants = chat_wants_of(p->chat, &env);
        return ERR_OK;
    }
    if (file || e == ERR_NOMEM)
        return err_set(why, e, "%s: chat template: %s", file ? file : gguf_path(g), detail.text);
    p->unusable = detail;
    return ERR_OK;
}

void prompt_maker_fini(struct prompt_maker *p)
{
    template_free(p->chat);
    buf_fini(&p->source);
    *p = (struct prompt_maker){0};
}

/* Moves the list's ids out; empty lists give a non-NULL pointer, so that "prepared" can be told
 * from "not". */
static bool take_ids(struct token_list *list, int32_t **ids, size_t *n)
{
    *ids = list->ids ? list->ids : calloc(1, sizeof(**ids));
    *n = list->n;
    *list = (struct token_list){0};
    return *ids != NULL;
}

static bool encode(const struct prompt_maker *p, struct str text, unsigned flags, int32_t **ids,
                   size_t *n, enum job_param param, struct job_fault *fault)
{
    struct token_list list = {0};
    struct errmsg why = {0};
    enum err e = tokenizer_encode(p->tokenizer, text.p ? text.p : "", text.n, flags, &list, &why);
    if (e == ERR_OK && take_ids(&list, ids, n))
        return true;
    token_list_fini(&list);
    return job_fault_set(fault, e == ERR_OK ? ERR_NOMEM : e, param, "%s",
                         e == ERR_OK ? "out of memory" : why.text);
}

/* What the answer will be parsed with, if it is to be parsed and the model has a form for it.
 * gpt-oss writes nothing without its channels: those are read even when nobody asks. */
static bool prepare_output(const struct prompt_maker *p, struct job_req *r, struct str prompt,
                           struct job_fault *fault)
{
    const struct output_wants wants = {
        .reasoning = (r->head.flags & JOB_PARSE_REASONING) && p->format.reasoning,
        .tools = (r->head.flags & JOB_PARSE_TOOLS) && p->format.calls,
        .single_call = r->head.flags & JOB_SINGLE_CALL};
    const bool channels = p->format.calls && p->format.calls->body == CALL_CHANNEL;
    struct errmsg why = {0};
    if (!wants.reasoning && !wants.tools && !channels)
        return true;
    enum err e = output_job_new(&r->output, &p->format, &wants, r->request_json, prompt, &why);
    return e == ERR_OK ||
           job_fault_set(fault, e, PARAM_TOOLS, "%s", why.text[0] ? why.text : err_text(e));
}

static bool prepare_chat(const struct prompt_maker *p, struct job_req *r, struct job_fault *fault)
{
    if (p->unusable.text[0])
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_MESSAGES,
                             "this model's chat template can't be used (%s); serve it with "
                             "chat-template=FILE, or use /v1/completions",
                             p->unusable.text);
    if (!p->chat)
        return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_MESSAGES,
                             "this model's file has no chat template; serve it with "
                             "chat-template=FILE, or use /v1/completions");
    if (p->wants.no_tools && (r->head.flags & JOB_PARSE_TOOLS))
        return job_fault_set(
            fault, ERR_UNSUPPORTED, PARAM_TOOLS,
            "this model's chat template does not show tools to the model; serve it "
            "with chat-template=FILE, or leave 'tools' out");
    const struct chat_prompt_env env = prompt_env(p);
    struct buf text;
    buf_init(&text);
    struct errmsg why = {0};
    enum err e = chat_prompt_build(p->chat, r->request_json, &env, &text, &why);
    bool ok = e == ERR_OK ? encode(p, (struct str){text.p, text.n}, TOK_PARSE_SPECIAL, &r->prompt,
                                   &r->n_prompt, PARAM_MESSAGES, fault)
                          : job_fault_set(fault, e, PARAM_MESSAGES, "%s", why.text);
    ok = ok && prepare_output(p, r, (struct str){text.p, text.n}, fault);
    buf_fini(&text);
    return ok;
}

static bool prepare_completion(const struct prompt_maker *p, struct job_req *r,
                               struct job_fault *fault)
{
    if (!r->has_text) { /* given as tokens, checked already */
        r->prompt = malloc((r->prompt_ids.n + 1) * sizeof(*r->prompt));
        if (!r->prompt)
            return job_fault_set(fault, ERR_NOMEM, PARAM_PROMPT, "out of memory");
        if (r->prompt_ids.n)
            memcpy(r->prompt, r->prompt_ids.ids, r->prompt_ids.n * sizeof(*r->prompt));
        r->n_prompt = r->prompt_ids.n;
        return true;
    }
    unsigned flags = TOK_PARSE_SPECIAL | (r->head.flags & JOB_NO_ADD_SPECIAL ? 0 : TOK_ADD_SPECIAL);
    return encode(p, r->prompt_text, flags, &r->prompt, &r->n_prompt, PARAM_PROMPT, fault);
}

/* Before any template or text is looked at: what is wrong is the model, not the request's text. */
static bool right_model(const struct prompt_maker *p, const struct job_req *r,
                        struct job_fault *fault)
{
    const bool wants = r->head.kind == JOB_EMBEDDING;
    if (wants == p->embeds)
        return true;
    return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_MODEL,
                         wants ? "this model writes text; it gives no embeddings"
                               : "this model gives embeddings; it writes no text");
}

bool prompt_prepare(const struct prompt_maker *p, struct job_req *r, struct job_fault *fault)
{
    if (!right_model(p, r, fault))
        return false;
    switch ((enum job_kind)r->head.kind) {
    case JOB_CHAT:
        return prepare_chat(p, r, fault);
    case JOB_COMPLETION:
        return prepare_completion(p, r, fault);
    case JOB_EMBEDDING:
        for (size_t i = 0; i < r->n_inputs; i++) {
            struct job_input *in = &r->inputs[i];
            if (in->is_text && !in->ids &&
                !encode(p, in->text, TOK_ADD_SPECIAL, &in->ids, &in->n, PARAM_INPUT, fault))
                return false;
        }
        return true;
    case JOB_TOKENIZE:
    case JOB_DETOKENIZE:
        break;
    }
    return job_fault_set(fault, ERR_UNSUPPORTED, PARAM_NONE,
                         "this worker has no jobs of that kind");
}
