/* test_gguf_hostile.c - files that lie. Each is refused with one line that names what is wrong;
 * none may be read outside its bytes (the sanitizers watch: every file lies in an allocation of
 * exactly its size). */
#include "shared/base/buf.h"
#include "worker/model/gguf_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- a small valid file, every part of which a case may change ------------------------------- */

struct spec {
    const char *magic;
    uint32_t version;
    uint64_t n_tensors, n_kv;
    const char *key;
    uint64_t key_bytes;
    uint32_t key_type;
    uint64_t array_count; /* of the array key */
    uint32_t array_elem;
    uint64_t value_bytes; /* length of the string value */
    uint8_t flag;         /* value of the bool key */
    uint32_t alignment;
    const char *second_key;
    const char *name;
    uint64_t name_bytes;
    uint32_t n_dims, type;
    uint64_t ne0, ne1, offset, second_offset;
    const char *second_name;
};

static const struct spec good = {
    .magic = "GGUF",
    .version = 3,
    .n_tensors = 2,
    .n_kv = 5,
    .key = "general.name",
    .key_bytes = 12,
    .key_type = GGUF_STRING,
    .array_count = 3,
    .array_elem = GGUF_U16,
    .value_bytes = 4,
    .flag = 1,
    .alignment = 32,
    .second_key = "a.flag",
    .name = "weight",
    .name_bytes = 6,
    .n_dims = 2,
    .type = QTYPE_F32,
    .ne0 = 8,
    .ne1 = 2,
    .offset = 0,
    .second_offset = 64,
    .second_name = "second",
};

static void put32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, sizeof v);
}

static void put64(struct buf *b, uint64_t v)
{
    buf_put(b, &v, sizeof v);
}

static void put_text(struct buf *b, const char *s)
{
    put64(b, strlen(s));
    buf_puts(b, s);
}

static void build(struct buf *b, const struct spec *s)
{
    buf_init(b);
    buf_put(b, s->magic, 4);
    put32(b, s->version);
    put64(b, s->n_tensors);
    put64(b, s->n_kv);
    put64(b, s->key_bytes); /* 1: a string */
    buf_puts(b, s->key);
    put32(b, s->key_type);
    put64(b, s->value_bytes);
    buf_puts(b, "tiny");
    put_text(b, "an.array"); /* 2 */
    put32(b, GGUF_ARRAY);
    put32(b, s->array_elem);
    put64(b, s->array_count);
    for (uint16_t i = 0; i < 3; i++)
        buf_put(b, &i, sizeof i);
    put_text(b, s->second_key); /* 3 */
    put32(b, GGUF_BOOL);
    buf_putc(b, (char)s->flag);
    put_text(b, "general.alignment"); /* 4 */
    put32(b, GGUF_U32);
    put32(b, s->alignment);
    put_text(b, "some.words"); /* 5 */
    put32(b, GGUF_ARRAY);
    put32(b, GGUF_STRING);
    put64(b, 2);
    put_text(b, "one");
    put_text(b, "");

    put64(b, s->name_bytes);
    buf_puts(b, s->name);
    put32(b, s->n_dims);
    put64(b, s->ne0);
    put64(b, s->ne1);
    put32(b, s->type);
    put64(b, s->offset);
    put_text(b, s->second_name);
    put32(b, 1);
    put64(b, 8);
    put32(b, QTYPE_F32);
    put64(b, s->second_offset);
    while (b->n % 32)
        buf_putc(b, 0);
    for (int i = 0; i < 96; i++)
        buf_putc(b, (char)i);
    assert_false(b->failed);
}

/* Opens exactly b's bytes, in an allocation without slack. */
static enum err open_bytes(struct gguf **g, const char *p, size_t n, char **copy,
                           struct errmsg *why)
{
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    memcpy(*copy, p, n);
    why->text[0] = '\0';
    return gguf_open_memory(g, *copy, n, why);
}

static void the_file_that_the_cases_change_is_valid(void **state)
{
    (void)state;
    struct buf b;
    struct gguf *g;
    struct errmsg why;
    char *copy;
    build(&b, &good);
    assert_int_equal(open_bytes(&g, b.p, b.n, &copy, &why), ERR_OK);
    assert_int_equal(gguf_n_kv(g), 5);
    assert_int_equal(gguf_n_tensors(g), 2);
    gguf_close(g);
    free(copy);
    buf_fini(&b);
}

static void a_file_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    struct buf b;
    build(&b, &good);
    for (size_t n = 0; n < b.n; n++) {
        struct gguf *g;
        struct errmsg why;
        char *copy;
        enum err e = open_bytes(&g, b.p, n, &copy, &why);
        if (e == ERR_OK)
            fail_msg("accepted when cut to %zu of %zu bytes", n, b.n);
        assert_true(why.text[0] != '\0');
        free(copy);
    }
    buf_fini(&b);
}

static void a_file_with_any_byte_changed_never_leaves_its_bounds(void **state)
{
    (void)state;
    struct buf b;
    build(&b, &good);
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at < b.n; at++)
        for (size_t v = 0; v < sizeof values; v++) {
            struct gguf *g;
            struct errmsg why;
            char *copy, old = b.p[at];
            b.p[at] = (char)values[v];
            if (open_bytes(&g, b.p, b.n, &copy, &why) == ERR_OK) {
                unsigned sum = 0;
                for (size_t i = 0; i < gguf_n_tensors(g); i++)
                    for (size_t k = 0; k < gguf_tensor_at(g, i)->bytes; k++)
                        sum += ((const uint8_t *)gguf_tensor_at(g, i)->data)[k];
                assert_true(sum < 1u << 31);
                gguf_close(g);
            }
            b.p[at] = old;
            free(copy);
        }
    buf_fini(&b);
}

/* --- the table ------------------------------------------------------------------------------- */

struct hostile {
    const char *name;
    struct spec change; /* fields that differ from zero replace those of `good` */
    bool zero;          /* the one field in `zero_field` becomes zero */
    size_t zero_at, zero_size;
    enum err want;
    const char *says; /* must stand in the message */
};

#define ZERO(field)                                                                                \
    .zero = true, .zero_at = offsetof(struct spec, field),                                         \
    .zero_size = sizeof((struct spec){0}.field)

// clang-format off
static const struct hostile table[] = {
    {"wrong magic", {.magic = "GGML"}, .want = ERR_INVALID, .says = "not a GGUF file"},
    {"big-endian", {.version = 0x03000000}, .want = ERR_UNSUPPORTED, .says = "big-endian"},
    {"version 1", {.version = 1}, .want = ERR_UNSUPPORTED, .says = "GGUF version 1"},
    {"version 4", {.version = 4}, .want = ERR_UNSUPPORTED, .says = "GGUF version 4"},
    {"version 0", {0}, ZERO(version), .want = ERR_UNSUPPORTED, .says = "GGUF version 0"},
    {"huge key count", {.n_kv = UINT64_MAX}, .want = ERR_INVALID, .says = "18446744073709551615 keys"},
    {"huge tensor count", {.n_tensors = 1ull << 62}, .want = ERR_INVALID, .says = "tensors: too many"},
    {"one key too many", {.n_kv = 6}, .want = ERR_INVALID, .says = ""},
    {"one key too few", {.n_kv = 4}, .want = ERR_INVALID, .says = ""},
    {"one tensor too many", {.n_tensors = 3}, .want = ERR_INVALID, .says = ""},
    {"key longer than the file", {.key_bytes = 1 << 20}, .want = ERR_INVALID, .says = "ends inside a key"},
    {"key length overflows", {.key_bytes = UINT64_MAX - 3}, .want = ERR_INVALID, .says = "ends inside a key"},
    {"empty key", {.key = ""}, ZERO(key_bytes), .want = ERR_INVALID, .says = "key 0 is empty"},
    {"key is not UTF-8", {.key = "general.nam\xff"}, .want = ERR_INVALID, .says = "not UTF-8"},
    {"key is an overlong form", {.key = "general.na\xc0\xaf"}, .want = ERR_INVALID, .says = "not UTF-8"},
    {"duplicate key", {.second_key = "general.name"}, .want = ERR_INVALID, .says = "general.name occurs twice"},
    {"unknown value type", {.key_type = 13}, .want = ERR_INVALID, .says = "unknown value type 13"},
    {"unknown element type", {.array_elem = 99}, .want = ERR_INVALID, .says = "unknown value type 99"},
    {"array of arrays", {.array_elem = GGUF_ARRAY}, .want = ERR_UNSUPPORTED, .says = "array of arrays"},
    {"array longer than the file", {.array_count = 1 << 20}, .want = ERR_INVALID, .says = "ends inside a value"},
    {"array size overflows", {.array_count = UINT64_MAX / 2 + 2}, .want = ERR_INVALID, .says = "an.array"},
    {"string array too long", {.array_elem = GGUF_STRING, .array_count = 1ull << 60}, .want = ERR_INVALID, .says = "an.array counts"},
    {"string longer than the file", {.value_bytes = 1 << 30}, .want = ERR_INVALID, .says = "ends inside a string"},
    {"string length overflows", {.value_bytes = UINT64_MAX}, .want = ERR_INVALID, .says = "ends inside a string"},
    {"bool of 2", {.flag = 2}, .want = ERR_INVALID, .says = "neither 0 nor 1"},
    {"alignment 0", {0}, ZERO(alignment), .want = ERR_INVALID, .says = "general.alignment"},
    {"alignment 24", {.alignment = 24}, .want = ERR_INVALID, .says = "general.alignment"},
    {"alignment 2^31", {.alignment = 1u << 31}, .want = ERR_INVALID, .says = "general.alignment"},
    {"no dimensions", {0}, ZERO(n_dims), .want = ERR_INVALID, .says = "0 dimensions"},
    {"five dimensions", {.n_dims = 5}, .want = ERR_INVALID, .says = "5 dimensions"},
    {"dimension of 0", {0}, ZERO(ne1), .want = ERR_INVALID, .says = "impossible shape (dimension 1 is 0)"},
    {"size overflows 64 bits", {.ne0 = 1ull << 33, .ne1 = 1ull << 33}, .want = ERR_INVALID, .says = "impossible shape"},
    {"size overflows 63 bits", {.ne0 = 1ull << 62, .ne1 = 2}, .want = ERR_INVALID, .says = "impossible shape"},
    {"bytes overflow", {.ne0 = 1ull << 61, .ne1 = 2}, .want = ERR_INVALID, .says = "larger than any memory"},
    {"tensor past the end", {.ne1 = 4}, .want = ERR_INVALID, .says = "ends past the end"},
    {"offset past the end", {.second_offset = 96}, .want = ERR_INVALID, .says = "second (32 bytes at offset 96)"},
    {"offset overflows", {.second_offset = UINT64_MAX - 31}, .want = ERR_INVALID, .says = "ends past the end"},
    {"unaligned offset", {.second_offset = 65}, .want = ERR_INVALID, .says = "not a multiple of the alignment 32"},
    {"overlapping tensors", {.second_offset = 32}, .want = ERR_INVALID, .says = "weight and second overlap"},
    {"duplicate tensor", {.second_name = "weight"}, .want = ERR_INVALID, .says = "weight occurs twice"},
    {"empty tensor name", {.name = ""}, ZERO(name_bytes), .want = ERR_INVALID, .says = "name of tensor 0"},
    {"tensor name is not UTF-8", {.name = "w\xed\xa0\x80ht"}, .want = ERR_INVALID, .says = "not UTF-8"},
    {"unknown tensor type", {.type = 77}, .want = ERR_UNSUPPORTED, .says = "weight has type 77 (unknown); supported: F32 F16"},
    {"withdrawn tensor type", {.type = 31}, .want = ERR_UNSUPPORTED, .says = "type 31 (Q4_0_4_4, withdrawn); supported: F32"},
    {"activation type", {.type = QTYPE_Q8_1}, .want = ERR_UNSUPPORTED, .says = "type 9 (Q8_1)"},
    {"row is no whole block", {.type = QTYPE_Q8_0}, .want = ERR_INVALID, .says = "Q8_0 comes in blocks of 32"},
    {"control characters in a name", {.name = "w\n\x1b[2J", .type = 77}, .want = ERR_UNSUPPORTED, .says = "w??[2J has type"},
};
// clang-format on

/* Every field of `change` that is not zero wins. */
static struct spec apply(const struct hostile *h)
{
    struct spec s = good;
#define PICK(f)                                                                                    \
    if (h->change.f)                                                                               \
    s.f = h->change.f
    PICK(magic);
    PICK(version);
    PICK(n_tensors);
    PICK(n_kv);
    PICK(key);
    PICK(key_bytes);
    PICK(key_type);
    PICK(array_count);
    PICK(array_elem);
    PICK(value_bytes);
    PICK(flag);
    PICK(alignment);
    PICK(second_key);
    PICK(name);
    PICK(n_dims);
    PICK(type);
    PICK(ne0);
    PICK(ne1);
    PICK(offset);
    PICK(second_offset);
    PICK(second_name);
#undef PICK
    if (h->change.key && !h->change.key_bytes)
        s.key_bytes = strlen(s.key);
    s.name_bytes = strlen(s.name);
    if (h->zero)
        memset((char *)&s + h->zero_at, 0, h->zero_size);
    return s;
}

static void lying_files_are_refused_with_a_message(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct hostile *h = &table[i];
        struct spec s = apply(h);
        struct buf b;
        struct gguf *g;
        struct errmsg why;
        char *copy;
        build(&b, &s);
        enum err e = open_bytes(&g, b.p, b.n, &copy, &why);
        if (e != h->want || !strstr(why.text, h->says) || strchr(why.text, '\n'))
            fail_msg("%s: got %s \"%s\", want %s with \"%s\"", h->name, e ? err_name(e) : "OK",
                     e ? why.text : "", err_name(h->want), h->says);
        free(copy);
        buf_fini(&b);
    }
}

static void an_unknown_type_is_told_with_all_supported_ones(void **state)
{
    (void)state;
    struct spec s = good;
    s.type = 41;
    struct buf b;
    struct gguf *g;
    struct errmsg why;
    char *copy;
    build(&b, &s);
    assert_int_equal(open_bytes(&g, b.p, b.n, &copy, &why), ERR_UNSUPPORTED);
    for (uint32_t id = 0; id < QTYPE_COUNT_; id++)
        if (qtype_info(id) && qtype_info(id)->dequantize && !strstr(why.text, qtype_info(id)->name))
            fail_msg("\"%s\" lacks %s", why.text, qtype_info(id)->name);
    free(copy);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_that_the_cases_change_is_valid),
        cmocka_unit_test(a_file_cut_at_any_byte_is_refused),
        cmocka_unit_test(a_file_with_any_byte_changed_never_leaves_its_bounds),
        cmocka_unit_test(lying_files_are_refused_with_a_message),
        cmocka_unit_test(an_unknown_type_is_told_with_all_supported_ones),
    };
    return cmocka_run_group_tests_name("gguf_hostile", tests, NULL, NULL);
}
