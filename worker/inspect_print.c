/* inspect_print.c - the report as lines for people and as JSON for programs. */
#include "worker/inspect.h"
#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include "worker/cmd_io.h"

#include <inttypes.h>
#include <stdio.h>

static const char *kv_name(const struct inspect *r, const struct inspect_opts *o)
{
    return qtype_info(r->encoder ? QTYPE_F32 : (uint32_t)o->kv_type)->name;
}

/* --- for people ------------------------------------------------------------------------------ */

static void put_count(struct buf *out, uint64_t n)
{
    if (n >= 1000000000)
        buf_printf(out, "%.2f billion", (double)n / 1e9);
    else
        buf_printf(out, "%.2f million", (double)n / 1e6);
}

/* Text of a file goes to a terminal: what is no printable character becomes '?'. */
static void put_name(struct buf *out, struct str s)
{
    size_t n = s.n < 120 ? s.n : 120;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int len = utf8_decode(s.p + i, n - i, &cp);
        bool plain =
            len > 0 && cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0) && cp != 0x2028 && cp != 0x2029;
        if (plain)
            buf_put(out, s.p + i, (size_t)len);
        else
            buf_putc(out, '?');
        i += len ? (size_t)len : 1;
    }
}

static void put_shape(struct buf *out, const struct inspect *r)
{
    buf_printf(out,
               "shape         %" PRIu64 " layers, width %" PRIu64 ", %" PRIu64 " heads (%" PRIu64
               " of K and V), feed-forward %" PRIu64 ", vocabulary %" PRIu64 ", context %" PRIu64
               "\n",
               r->layers, r->embd, r->heads, r->heads_kv, r->ff, r->vocab, r->context_train);
    if (r->experts)
        buf_printf(out, "experts       %" PRIu64 ", of which %" PRIu64 " are used for a token\n",
                   r->experts, r->experts_used);
}

static void put_types(struct buf *out, const struct inspect *r)
{
    buf_printf(out, "quantization  %s:", r->mix[0] ? r->mix : "none");
    for (int i = 0; i < r->n_types; i++)
        buf_printf(out, "%s %s %.1f %% (%" PRIu64 " tensors)", i ? "," : "",
                   qtype_info((uint32_t)r->types[i].type)->name,
                   100.0 * (double)r->types[i].bytes / (double)r->weight_bytes,
                   r->types[i].tensors);
    buf_puts(out, "\n");
}

static void put_template(struct buf *out, const struct inspect *r)
{
    buf_puts(out, "template      ");
    if (!r->has_template) {
        buf_puts(out, "none: chat needs one to be given\n");
        return;
    }
    buf_printf(out, "yes%s%s%s%s\n", r->system_role ? ", system messages" : "",
               r->tools ? ", tools" : "", r->reasoning ? ", reasoning" : "",
               r->images ? ", images" : "");
    if (!r->template_works)
        buf_printf(out, "              not usable: %s\n", r->template_error.text);
    buf_printf(out, "answers       tool calls as %s, reasoning as %s\n",
               output_format_calls(&r->format), output_format_reasoning(&r->format));
}

static void put_memory(struct buf *out, const struct inspect *r, const struct inspect_opts *o)
{
    buf_puts(out, "memory        weights ");
    cmd_put_size(out, 1, r->weight_bytes);
    if (r->kv_bytes) {
        buf_puts(out, ", KV cache ");
        cmd_put_size(out, 1, r->kv_bytes);
        buf_printf(
            out,
            " (%s, %" PRIu64 " bytes a token, %" PRIu32 " tokens, %" PRIu32 " slot%s), together ",
            kv_name(r, o), r->kv_bytes_per_token, r->context, r->slots, r->slots == 1 ? "" : "s");
        cmd_put_size(out, 1, r->weight_bytes + r->kv_bytes);
    }
    buf_puts(out, "\n");
}

static void put_tensors(struct buf *out, const struct inspect *r)
{
    for (size_t i = 0; i < gguf_n_tensors(r->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(r->g, i);
        buf_printf(out, "  %-8s ", qtype_info((uint32_t)t->type)->name);
        put_name(out, t->name);
        for (int d = 0; d < t->n_dims; d++)
            buf_printf(out, "%s%" PRIu64, d ? " x " : "  ", t->ne[d]);
        buf_puts(out, "\n");
    }
}

void inspect_text(const struct inspect *r, const struct inspect_opts *o, struct buf *out)
{
    buf_puts(out, "file          ");
    put_name(out, str_of(gguf_path(r->g)));
    buf_puts(out, " (");
    cmd_put_size(out, 1, gguf_file_bytes(r->g));
    buf_puts(out, ")\nname          ");
    put_name(out, r->name.n ? r->name : STR("(none)"));
    buf_puts(out, "\narchitecture  ");
    put_name(out, r->arch.n ? r->arch : STR("(none)"));
    if (r->families)
        buf_printf(out, ": %s", r->families);
    buf_puts(out, "\nparameters    ");
    put_count(out, r->n_params);
    if (r->n_active != r->n_params) {
        buf_puts(out, ", ");
        put_count(out, r->n_active);
        buf_puts(out, " of them for a token");
    }
    buf_printf(out, " in %zu tensors\n", gguf_n_tensors(r->g));
    put_shape(out, r);
    put_types(out, r);
    buf_printf(out, "tokenizer     %s\n", r->tokenizer[0] ? r->tokenizer : "none");
    if (!r->encoder)
        put_template(out, r);
    put_memory(out, r, o);
    if (r->runs && !r->refusal.text[0])
        buf_printf(out, "would run     yes%s\n", r->encoder ? " (embeddings)" : "");
    else
        buf_printf(out, "would run     %s: %s\n", r->runs ? "yes, but" : "no", r->refusal.text);
    if (o->list_tensors)
        put_tensors(out, r);
}

/* --- for programs ---------------------------------------------------------------------------- */

static void put_json_tensors(struct buf *out, const struct inspect *r)
{
    json_put_key(out, "tensors");
    buf_putc(out, '[');
    for (size_t i = 0; i < gguf_n_tensors(r->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(r->g, i);
        buf_puts(out, i ? ",{" : "{");
        json_put_member_str(out, "name", t->name);
        json_put_member_str(out, "type", str_of(qtype_info((uint32_t)t->type)->name));
        json_put_key(out, "shape");
        for (int d = 0; d < t->n_dims; d++)
            buf_printf(out, "%s%" PRIu64, d ? "," : "[", t->ne[d]);
        buf_putc(out, ']');
        json_put_member_u64(out, "bytes", t->bytes);
        buf_putc(out, '}');
    }
    buf_putc(out, ']');
}

void inspect_json(const struct inspect *r, const struct inspect_opts *o, struct buf *out)
{
    buf_putc(out, '{');
    json_put_member_str(out, "path", str_of(gguf_path(r->g)));
    json_put_member_u64(out, "file_bytes", gguf_file_bytes(r->g));
    json_put_member_str(out, "name", r->name);
    json_put_member_str(out, "architecture", r->arch);
    json_put_member_bool(out, "runs", r->runs);
    json_put_member_str(out, "refusal", str_of(r->refusal.text));
    json_put_member_bool(out, "encoder", r->encoder);
    json_put_member_u64(out, "parameters", r->n_params);
    json_put_member_u64(out, "active_parameters", r->n_active);
    json_put_member_u64(out, "layers", r->layers);
    json_put_member_u64(out, "embedding_length", r->embd);
    json_put_member_u64(out, "heads", r->heads);
    json_put_member_u64(out, "kv_heads", r->heads_kv);
    json_put_member_u64(out, "feed_forward_length", r->ff);
    json_put_member_u64(out, "experts", r->experts);
    json_put_member_u64(out, "experts_used", r->experts_used);
    json_put_member_u64(out, "vocabulary", r->vocab);
    json_put_member_u64(out, "context_length", r->context_train);
    json_put_member_str(out, "quantization", str_of(r->mix));
    json_put_key(out, "types");
    buf_putc(out, '{');
    for (int i = 0; i < r->n_types; i++)
        json_put_member_u64(out, qtype_info((uint32_t)r->types[i].type)->name, r->types[i].bytes);
    buf_putc(out, '}');
    json_put_member_str(out, "tokenizer", str_of(r->tokenizer));
    json_put_member_bool(out, "template", r->has_template && r->template_works);
    json_put_member_bool(out, "tools", r->tools);
    json_put_member_bool(out, "reasoning", r->reasoning);
    json_put_member_str(out, "tool_format", str_of(output_format_calls(&r->format)));
    json_put_member_str(out, "reasoning_format", str_of(output_format_reasoning(&r->format)));
    json_put_member_u64(out, "weight_bytes", r->weight_bytes);
    json_put_member_str(out, "kv_type", str_of(kv_name(r, o)));
    json_put_member_u64(out, "kv_bytes_per_token", r->kv_bytes_per_token);
    json_put_member_u64(out, "context", r->context);
    json_put_member_u64(out, "slots", r->slots);
    json_put_member_u64(out, "kv_bytes", r->kv_bytes);
    if (o->list_tensors)
        put_json_tensors(out, r);
    buf_puts(out, "}\n");
}
