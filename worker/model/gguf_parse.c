/* gguf_parse.c - the metadata of one GGUF file: a cursor that can't leave the bytes, and the
 * checks. Every number in here comes from a stranger. */
#include "worker/model/gguf_parts.h"
#include "shared/base/checked.h"
#include "shared/base/utf8.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF values are read in place");

struct cursor {
    const uint8_t *base;
    uint64_t at, size;
    const char *label;
    struct errmsg *why;
};

/* n bytes, or NULL with the message set. */
static const void *take(struct cursor *c, uint64_t n, const char *what)
{
    if (!range_ok(c->at, n, c->size)) {
        (void)err_set(c->why, ERR_INVALID,
                      "%s: the file ends inside %s (byte %" PRIu64
                      "); it is truncated or damaged: copy or download it again",
                      c->label, what, c->at);
        return NULL;
    }
    const void *p = c->base + c->at;
    c->at += n;
    return p;
}

static bool take_u32(struct cursor *c, uint32_t *out, const char *what)
{
    const void *p = take(c, sizeof *out, what);
    if (p)
        memcpy(out, p, sizeof *out);
    return p != NULL;
}

static bool take_u64(struct cursor *c, uint64_t *out, const char *what)
{
    const void *p = take(c, sizeof *out, what);
    if (p)
        memcpy(out, p, sizeof *out);
    return p != NULL;
}

static bool take_str(struct cursor *c, struct str *out, const char *what)
{
    uint64_t n;
    if (!take_u64(c, &n, what))
        return false;
    const void *p = take(c, n, what);
    if (p)
        *out = (struct str){p, (size_t)n};
    return p != NULL;
}

size_t gguf_scalar_bytes(uint32_t type)
{
    // clang-format off
    static const uint8_t bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
        [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    // clang-format on
    return type < sizeof bytes ? bytes[type] : 0;
}

/* Names stand in messages, tables and file names: text only, no NUL in it. */
static bool name_ok(struct str s, size_t max)
{
    return s.n > 0 && s.n <= max && utf8_valid(s.p, s.n) && memchr(s.p, 0, s.n) == NULL;
}

/* --- header ---------------------------------------------------------------------------------- */

static enum err parse_header(struct cursor *c, uint64_t *n_tensors, uint64_t *n_kv)
{
    const char *magic = take(c, 4, "the magic number");
    if (!magic)
        return ERR_INVALID;
    if (memcmp(magic, "GGUF", 4) != 0)
        return err_set(c->why, ERR_INVALID,
                       "%s: not a GGUF file (it starts with %02x %02x %02x %02x)", c->label,
                       (uint8_t)magic[0], (uint8_t)magic[1], (uint8_t)magic[2], (uint8_t)magic[3]);
    uint32_t version;
    if (!take_u32(c, &version, "the version"))
        return ERR_INVALID;
    if (version != 0 && (version & 0xffff) == 0)
        return err_set(c->why, ERR_UNSUPPORTED,
                       "%s: a big-endian GGUF file; convert the model to little-endian", c->label);
    if (version != 2 && version != 3)
        return err_set(c->why, ERR_UNSUPPORTED,
                       "%s: GGUF version %" PRIu32 "; versions 2 and 3 can be read", c->label,
                       version);
    if (!take_u64(c, n_tensors, "the tensor count") || !take_u64(c, n_kv, "the key count"))
        return ERR_INVALID;
    /* The smallest key is 8 + 1 + 4 + 1 bytes, the smallest tensor 8 + 1 + 4 + 8 + 4 + 8. */
    uint64_t rest = c->size - c->at;
    if (*n_kv > rest / 14 || *n_tensors > rest / 33 || *n_kv > GGUF_KV_MAX ||
        *n_tensors > GGUF_TENSORS_MAX)
        return err_set(c->why, ERR_INVALID,
                       "%s: the header counts %" PRIu64 " keys and %" PRIu64
                       " tensors: too many for a file of %" PRIu64 " bytes",
                       c->label, *n_kv, *n_tensors, c->size);
    return ERR_OK;
}

/* --- keys and values ------------------------------------------------------------------------- */

static enum err parse_strings(struct cursor *c, struct gguf_kv *kv)
{
    if (kv->count > GGUF_STRINGS_MAX || kv->count > (c->size - c->at) / 8)
        return err_set(c->why, ERR_INVALID, "%s: key " STR_FMT " counts %" PRIu64 " strings",
                       c->label, STR_ARG(kv->key), kv->count);
    struct str *list = calloc(kv->count ? kv->count : 1, sizeof *list);
    if (!list)
        return err_set(c->why, ERR_NOMEM, "%s: out of memory for key " STR_FMT, c->label,
                       STR_ARG(kv->key));
    kv->strings = list; /* owned by kv from here on, freed by gguf_part_fini() */
    for (uint64_t i = 0; i < kv->count; i++)
        if (!take_str(c, &list[i], "a string value"))
            return ERR_INVALID;
    return ERR_OK;
}

static enum err parse_value(struct cursor *c, struct gguf_kv *kv)
{
    uint32_t type, elem;
    if (!take_u32(c, &type, "a value type"))
        return ERR_INVALID;
    elem = type;
    kv->count = 1;
    if (type == GGUF_ARRAY &&
        (!take_u32(c, &elem, "an array") || !take_u64(c, &kv->count, "an array")))
        return ERR_INVALID;
    if (elem == GGUF_ARRAY)
        return err_set(c->why, ERR_UNSUPPORTED, "%s: key " STR_FMT " is an array of arrays",
                       c->label, STR_ARG(kv->key));
    if (elem != GGUF_STRING && gguf_scalar_bytes(elem) == 0)
        return err_set(c->why, ERR_INVALID,
                       "%s: key " STR_FMT " has the unknown value type %" PRIu32, c->label,
                       STR_ARG(kv->key), elem);
    kv->type = (enum gguf_type)type;
    kv->elem = (enum gguf_type)elem;
    kv->data = c->base + c->at;
    if (elem == GGUF_STRING)
        return parse_strings(c, kv);
    uint64_t bytes;
    if (!mul_u64(&bytes, kv->count, gguf_scalar_bytes(elem)))
        return err_set(c->why, ERR_INVALID, "%s: key " STR_FMT " counts %" PRIu64 " elements",
                       c->label, STR_ARG(kv->key), kv->count);
    if (!take(c, bytes, "a value"))
        return ERR_INVALID;
    for (uint64_t i = 0; elem == GGUF_BOOL && i < kv->count; i++)
        if (((const uint8_t *)kv->data)[i] > 1)
            return err_set(c->why, ERR_INVALID,
                           "%s: key " STR_FMT " has a bool that is neither 0 nor 1", c->label,
                           STR_ARG(kv->key));
    return ERR_OK;
}

static enum err parse_keys(struct cursor *c, struct gguf_part *part, uint64_t n_kv)
{
    part->kv = calloc(n_kv ? n_kv : 1, sizeof *part->kv);
    if (!part->kv)
        return err_set(c->why, ERR_NOMEM, "%s: out of memory for %" PRIu64 " keys", c->label, n_kv);
    for (uint64_t i = 0; i < n_kv; i++) {
        struct gguf_kv *kv = &part->kv[i];
        if (c->at > GGUF_METADATA_MAX)
            return err_set(c->why, ERR_INVALID, "%s: its keys and values take more than 1 GiB",
                           c->label);
        if (!take_str(c, &kv->key, "a key"))
            return ERR_INVALID;
        if (!name_ok(kv->key, GGUF_KEY_MAX))
            return err_set(c->why, ERR_INVALID,
                           "%s: key %" PRIu64 " is empty, longer than %d bytes or not UTF-8 text",
                           c->label, i, GGUF_KEY_MAX);
        part->n_kv = i + 1; /* counted before its value, so that its memory is freed on failure */
        enum err e = parse_value(c, kv);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err find_alignment(struct cursor *c, const struct gguf_part *part, uint64_t *align)
{
    *align = GGUF_ALIGN_DEFAULT;
    for (size_t i = 0; i < part->n_kv; i++) {
        if (!str_is(part->kv[i].key, "general.alignment"))
            continue;
        if (part->kv[i].type == GGUF_ARRAY || !gguf_elem_u64(&part->kv[i], 0, align) ||
            *align < 8 || *align > GGUF_ALIGN_MAX || (*align & (*align - 1)) != 0)
            return err_set(c->why, ERR_INVALID,
                           "%s: general.alignment must be a power of two from 8 to %d", c->label,
                           GGUF_ALIGN_MAX);
    }
    return ERR_OK;
}

/* --- tensors --------------------------------------------------------------------------------- */

/* Types that stand in files but not in our table: the message shall say what they are. */
static const char *foreign_type(uint32_t id)
{
    // clang-format off
    static const struct { uint32_t id; const char *name; } known[] = {
        {4, "Q4_2, withdrawn"}, {5, "Q4_3, withdrawn"}, {9, "Q8_1"}, {15, "Q8_K"},
        {31, "Q4_0_4_4, withdrawn"}, {32, "Q4_0_4_8, withdrawn"}, {33, "Q4_0_8_8, withdrawn"},
        {36, "IQ4_NL_4_4, withdrawn"}, {37, "IQ4_NL_4_8, withdrawn"}, {38, "IQ4_NL_8_8, withdrawn"},
        {40, "NVFP4"}, {41, "Q1_0"}, {42, "Q2_0"},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].id == id)
            return known[i].name;
    return "unknown";
}

static enum err unknown_type(struct cursor *c, struct str name, uint32_t id)
{
    char list[160];
    qtype_list(list, sizeof list);
    return err_set(c->why, ERR_UNSUPPORTED,
                   "%s: tensor " STR_FMT " has type %" PRIu32 " (%s); supported: %s", c->label,
                   STR_ARG(name), id, foreign_type(id), list);
}

static enum err parse_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t index,
                             uint64_t *offset)
{
    uint32_t n_dims, type;
    if (!take_str(c, &t->name, "a tensor's name"))
        return ERR_INVALID;
    if (!name_ok(t->name, GGUF_NAME_MAX))
        return err_set(c->why, ERR_INVALID,
                       "%s: the name of tensor %" PRIu64
                       " is empty, longer than %d bytes or not UTF-8 text",
                       c->label, index, GGUF_NAME_MAX);
    if (!take_u32(c, &n_dims, "a tensor's shape"))
        return ERR_INVALID;
    if (n_dims < 1 || n_dims > 4)
        return err_set(c->why, ERR_INVALID,
                       "%s: tensor " STR_FMT " has %" PRIu32 " dimensions, not 1 to 4", c->label,
                       STR_ARG(t->name), n_dims);
    t->n_dims = (int)n_dims;
    uint64_t elems = 1;
    for (uint32_t d = 0; d < 4; d++) {
        t->ne[d] = 1;
        if (d < n_dims && !take_u64(c, &t->ne[d], "a tensor's shape"))
            return ERR_INVALID;
        /* Up to INT64_MAX, so that signed arithmetic on shapes is safe as well. */
        if (t->ne[d] == 0 || !mul_u64(&elems, elems, t->ne[d]) || elems > INT64_MAX)
            return err_set(c->why, ERR_INVALID,
                           "%s: tensor " STR_FMT " has an impossible shape (dimension %" PRIu32
                           " is %" PRIu64 ")",
                           c->label, STR_ARG(t->name), d, t->ne[d]);
    }
    if (!take_u32(c, &type, "a tensor's type") || !take_u64(c, offset, "a tensor's offset"))
        return ERR_INVALID;
    const struct qtype_info *q = qtype_info(type);
    if (!q)
        return unknown_type(c, t->name, type);
    if (t->ne[0] % q->block_elems != 0)
        return err_set(c->why, ERR_INVALID,
                       "%s: tensor " STR_FMT " has rows of %" PRIu64
                       " elements, but %s comes in blocks of %" PRIu32,
                       c->label, STR_ARG(t->name), t->ne[0], q->name, q->block_elems);
    t->type = (enum qtype)type;
    uint64_t bytes;
    if (!mul_u64(&bytes, elems / q->block_elems, q->block_bytes) || bytes > SIZE_MAX)
        return err_set(c->why, ERR_INVALID, "%s: tensor " STR_FMT " is larger than any memory",
                       c->label, STR_ARG(t->name));
    t->bytes = (size_t)bytes;
    return ERR_OK;
}

static int by_data(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
    const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

/* Two tensors in the same bytes: no writer does that, so one of the offsets is a lie. */
static enum err check_overlap(struct cursor *c, const struct gguf_part *part)
{
    if (part->n_tensors < 2)
        return ERR_OK;
    const struct gguf_tensor **list = malloc(part->n_tensors * sizeof *list);
    if (!list)
        return err_set(c->why, ERR_NOMEM, "%s: out of memory for %zu tensors", c->label,
                       part->n_tensors);
    for (size_t i = 0; i < part->n_tensors; i++)
        list[i] = &part->tensors[i];
    qsort(list, part->n_tensors, sizeof *list, by_data);
    enum err e = ERR_OK;
    for (size_t i = 1; i < part->n_tensors && !e; i++)
        if ((const char *)list[i - 1]->data + list[i - 1]->bytes > (const char *)list[i]->data)
            e = err_set(c->why, ERR_INVALID,
                        "%s: tensors " STR_FMT " and " STR_FMT " overlap in the file", c->label,
                        STR_ARG(list[i - 1]->name), STR_ARG(list[i]->name));
    free(list);
    return e;
}

static enum err parse_tensors(struct cursor *c, struct gguf_part *part, uint64_t n_tensors,
                              uint64_t align)
{
    part->tensors = calloc(n_tensors ? n_tensors : 1, sizeof *part->tensors);
    uint64_t *offsets = calloc(n_tensors ? n_tensors : 1, sizeof *offsets);
    enum err e = ERR_OK;
    if (!part->tensors || !offsets)
        e = err_set(c->why, ERR_NOMEM, "%s: out of memory for %" PRIu64 " tensors", c->label,
                    n_tensors);
    for (uint64_t i = 0; i < n_tensors && !e; i++)
        e = parse_tensor(c, &part->tensors[i], i, &offsets[i]);
    uint64_t data_at = 0;
    if (!e && n_tensors > 0 && (!align_up_u64(&data_at, c->at, align) || data_at > c->size))
        e = err_set(c->why, ERR_INVALID, "%s: the file ends before its tensor data", c->label);
    for (uint64_t i = 0; i < n_tensors && !e; i++) {
        struct gguf_tensor *t = &part->tensors[i];
        if (offsets[i] % align != 0)
            e = err_set(c->why, ERR_INVALID,
                        "%s: tensor " STR_FMT " stands at offset %" PRIu64
                        ", not a multiple of the alignment %" PRIu64,
                        c->label, STR_ARG(t->name), offsets[i], align);
        else if (!range_ok(offsets[i], t->bytes, c->size - data_at))
            e = err_set(
                c->why, ERR_INVALID,
                "%s: tensor " STR_FMT " (%zu bytes at offset %" PRIu64
                ") ends past the end of the file; it is truncated: copy or download it again",
                c->label, STR_ARG(t->name), t->bytes, offsets[i]);
        else
            t->data = c->base + data_at + offsets[i];
    }
    free(offsets);
    if (e)
        return e;
    part->n_tensors = n_tensors;
    return check_overlap(c, part);
}

enum err gguf_part_parse(struct gguf_part *part, const char *label, struct errmsg *why)
{
    struct cursor c = {.base = part->base, .size = part->size, .label = label, .why = why};
    uint64_t n_tensors, n_kv, align;
    enum err e = parse_header(&c, &n_tensors, &n_kv);
    if (e)
        return e;
    if ((e = parse_keys(&c, part, n_kv)) || (e = find_alignment(&c, part, &align)))
        return e;
    return parse_tensors(&c, part, n_tensors, align);
}

void gguf_part_fini(struct gguf_part *part)
{
    for (size_t i = 0; i < part->n_kv; i++)
        free((void *)part->kv[i].strings);
    free(part->kv);
    free(part->tensors);
    if (part->mapped)
        munmap((void *)(uintptr_t)part->base, (size_t)part->size);
    *part = (struct gguf_part){0};
}
