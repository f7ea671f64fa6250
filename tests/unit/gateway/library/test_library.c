/* Manifests of strangers, and the folder that models lie in. */
#include "gateway/library/files.h"
#include "gateway/library/library.h"
#include "tests/support/test.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define LAYER(type, hex, size)                                                                     \
    "{\"mediaType\":\"application/vnd.ollama.image." type "\",\"digest\":\"sha256:" hex            \
    "\",\"size\":" size "}"
#define PART(hex, size, title)                                                                     \
    "{\"mediaType\":\"application/vnd.ollama.image.model\",\"digest\":\"sha256:" hex               \
    "\",\"size\":" size ",\"annotations\":{\"org.opencontainers.image.title\":\"" title "\"}}"
#define MANIFEST(layers) "{\"schemaVersion\":2,\"layers\":[" layers "]}"

/* ---- manifests ---- */

static void manifest_lists_layers_and_config(void **state)
{
    static const char text[] =
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1"
        "+json\",\"digest\":\"sha256:" HEX_B "\",\"size\":7},\"layers\":[" LAYER(
            "model", HEX_A, "5") "," LAYER("template; name=x", HEX_B, "1") "]}";
    struct arena a;
    struct manifest m;
    UNUSED(state);
    arena_init(&a, 0);
    assert_int_equal(manifest_parse(&m, &a, text, sizeof(text) - 1, NULL), ERR_OK);
    assert_int_equal(m.n_layers, 3);
    assert_int_equal(m.total_bytes, 13);
    assert_int_equal(m.layers[1].kind, LAYER_TEMPLATE);
    assert_string_equal(manifest_first(&m, LAYER_MODEL)->hex, HEX_A);
    assert_int_equal(manifest_first(&m, LAYER_CONFIG)->size, 7);
    assert_int_equal(manifest_check_model(&m, NULL), ERR_OK);
    arena_fini(&a);
}

static void manifest_that_lies_is_refused_in_one_line(void **state)
{
    // clang-format off
    static const struct { const char *text, *part; } rows[] = {
        {"", "manifest: "}, {"{", "manifest: "}, {"[]", "no JSON object"}, {"{}", "schemaVersion"},
        {"{\"schemaVersion\":1,\"layers\":[]}", "schemaVersion"},
        {"{\"schemaVersion\":2}", "no list of layers"},
        {"{\"schemaVersion\":2,\"layers\":{}}", "no list of layers"},
        {"{\"schemaVersion\":2,\"manifests\":[]}", "several platforms"},
        {MANIFEST("7"), "layer 0 is no object"},
        {MANIFEST("{}"), "the digest is not"},
        {MANIFEST(LAYER("model", "../../etc/passwd", "5")), "the digest is not"},
        {MANIFEST(LAYER("model", HEX_A, "-1")), "size is no whole number"},
        {MANIFEST(LAYER("model", HEX_A, "1.5")), "size is no whole number"},
        {MANIFEST(LAYER("model", HEX_A, "\"1\"")), "size is no whole number"},
        {MANIFEST(LAYER("model", HEX_A, "9223372036854775807") "," LAYER("model", HEX_B, "1")), "overflow"},
        {MANIFEST(PART(HEX_A, "5", "../x-00001-of-00002.gguf")), "title is no file name"},
        {MANIFEST(PART(HEX_A, "5", ".x")), "title is no file name"},
    };
    // clang-format on
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena a;
        struct manifest m;
        struct errmsg why = {0};
        arena_init(&a, 0);
        if (manifest_parse(&m, &a, rows[i].text, strlen(rows[i].text), &why) == ERR_OK)
            fail_msg("taken: %s", rows[i].text);
        if (!strstr(why.text, rows[i].part) || strchr(why.text, '\n'))
            fail_msg("%s: %s", rows[i].text, why.text);
        arena_fini(&a);
    }
}

static void layers_that_would_change_the_answer_are_refused(void **state)
{
    // clang-format off
    static const struct { const char *text, *part; } rows[] = {
        {MANIFEST(LAYER("template", HEX_A, "5")), "no model layer"},
        {MANIFEST(LAYER("model", HEX_A, "5") "," LAYER("adapter", HEX_B, "5")), "adapter"},
        {MANIFEST(LAYER("tensor", HEX_A, "5")), "reads GGUF"},
        {MANIFEST(LAYER("model", HEX_A, "5") "," LAYER("model", HEX_B, "5")), "2 model layers"},
        {MANIFEST(PART(HEX_A, "5", "x-00002-of-00002.gguf") "," PART(HEX_B, "5", "x-00001-of-00002.gguf")), "2 model layers"},
    };
    // clang-format on
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena a;
        struct manifest m;
        struct errmsg why = {0};
        arena_init(&a, 0);
        assert_int_equal(manifest_parse(&m, &a, rows[i].text, strlen(rows[i].text), NULL), ERR_OK);
        if (manifest_check_model(&m, &why) == ERR_OK || !strstr(why.text, rows[i].part))
            fail_msg("%s: %s", rows[i].text, why.text);
        arena_fini(&a);
    }
}

/* ---- the folder ---- */

struct home {
    struct library l;
    char dir[64];
};

static int setup(void **state)
{
    static struct home h;
    h = (struct home){.dir = "/tmp/millrace-library-XXXXXX"};
    int fd;
    if (!mkdtemp(h.dir) || library_locate(&h.l, h.dir, NULL, NULL, NULL) != ERR_OK ||
        library_lock(&h.l, false, &fd, NULL) != ERR_OK)
        return -1;
    close(fd);
    *state = &h;
    return 0;
}

static int teardown(void **state)
{
    struct home *h = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", h->dir);
    return system(command);
}

static void put_blob(const struct home *h, const char *hex, size_t n)
{
    struct buf path = {0};
    library_blob_path(&path, &h->l, hex);
    char *bytes = calloc(1, n + 1);
    assert_int_equal(files_replace(path.p, bytes, n, NULL), ERR_OK);
    free(bytes);
    buf_fini(&path);
}

static struct model_name save(const struct home *h, const char *name, const char *text)
{
    struct model_name n;
    struct arena a;
    struct manifest m;
    arena_init(&a, 0);
    assert_int_equal(name_parse(&n, str_of(name), NULL), ERR_OK);
    assert_int_equal(manifest_parse(&m, &a, text, strlen(text), NULL), ERR_OK);
    m.kind = STR("registry");
    m.source = STR("https://example.org/\"quoted\"");
    assert_int_equal(library_save(&h->l, &n, &m, NULL), ERR_OK);
    arena_fini(&a);
    return n;
}

static void saved_name_is_found_with_its_source(void **state)
{
    struct home *h = *state;
    struct local_model found;
    struct manifest m;
    struct arena a;
    put_blob(h, HEX_A, 5);
    struct model_name n = save(h, "a:1", MANIFEST(LAYER("model", HEX_A, "5")));
    assert_int_equal(library_find(&found, &h->l, &n, NULL), ERR_OK);
    assert_non_null(strstr(found.path, "/blobs/sha256-" HEX_A));
    arena_init(&a, 0);
    assert_int_equal(library_read(&m, &a, &h->l, &n, NULL), ERR_OK);
    assert_true(str_is(m.source, "https://example.org/\"quoted\""));
    arena_fini(&a);
}

static void name_whose_blob_is_missing_or_short_is_not_given_out(void **state)
{
    struct home *h = *state;
    struct local_model found;
    struct errmsg why = {0};
    struct model_name n = save(h, "a:1", MANIFEST(LAYER("model", HEX_A, "5")));
    assert_int_equal(library_find(&found, &h->l, &n, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "is missing"));
    put_blob(h, HEX_A, 4);
    assert_int_equal(library_find(&found, &h->l, &n, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "has 4 bytes instead of 5"));
    assert_string_equal(found.path, "");
}

static void parts_of_a_split_set_find_each_other_by_name(void **state)
{
    struct home *h = *state;
    struct local_model found;
    put_blob(h, HEX_A, 5);
    put_blob(h, HEX_B, 6);
    static const char text[] = MANIFEST(
        PART(HEX_A, "5", "x-00001-of-00002.gguf") "," PART(HEX_B, "6", "x-00002-of-00002.gguf"));
    struct model_name n = save(h, "split", text);
    assert_int_equal(library_find(&found, &h->l, &n, NULL), ERR_OK);
    char *at = strstr(found.path, "x-00001-of-00002.gguf");
    assert_non_null(at);
    memcpy(at, "x-00002-of-00002.gguf", 21);
    assert_int_equal(files_size(found.path), 6);
}

static void removal_keeps_blobs_that_others_use(void **state)
{
    struct home *h = *state;
    struct local_model found;
    struct errmsg why = {0};
    uint64_t freed;
    put_blob(h, HEX_A, 5);
    put_blob(h, HEX_B, 6);
    struct model_name one =
        save(h, "one", MANIFEST(LAYER("model", HEX_A, "5") "," LAYER("params", HEX_B, "6")));
    struct model_name two = save(h, "two", MANIFEST(LAYER("model", HEX_A, "5")));
    assert_int_equal(library_remove(&h->l, &one, &freed, NULL), ERR_OK);
    assert_int_equal(freed, 6);
    assert_int_equal(library_find(&found, &h->l, &one, NULL), ERR_NOT_FOUND);
    assert_int_equal(library_find(&found, &h->l, &two, NULL), ERR_OK);
    assert_int_equal(library_remove(&h->l, &two, &freed, NULL), ERR_OK);
    assert_int_equal(freed, 5);
    assert_int_equal(library_remove(&h->l, &two, &freed, &why), ERR_NOT_FOUND);
}

static void no_blob_goes_while_a_manifest_cannot_be_read(void **state)
{
    struct home *h = *state;
    char path[256];
    uint64_t freed;
    put_blob(h, HEX_A, 5);
    struct model_name one = save(h, "one", MANIFEST(LAYER("model", HEX_A, "5")));
    snprintf(path, sizeof(path), "%s/manifests/registry.ollama.ai/library/bad", h->dir);
    assert_int_equal(mkdir(path, 0755), 0);
    strncat(path, "/latest", sizeof(path) - strlen(path) - 1);
    assert_int_equal(files_replace(path, "{", 1, NULL), ERR_OK);
    assert_int_not_equal(library_remove(&h->l, &one, &freed, NULL), ERR_OK);
    assert_true(library_has_blob(&h->l, HEX_A, 5));
}

static void ollama_folder_is_read_in_place_and_ours_wins(void **state)
{
    struct home *h = *state;
    struct home ollama = {.dir = "/tmp/millrace-ollama-XXXXXX"};
    struct local_model found;
    char old[256], now[256];
    int fd;
    assert_non_null(mkdtemp(ollama.dir));
    assert_int_equal(library_locate(&ollama.l, ollama.dir, NULL, NULL, NULL), ERR_OK);
    assert_int_equal(library_lock(&ollama.l, false, &fd, NULL), ERR_OK);
    close(fd);
    put_blob(&ollama, HEX_A, 5);
    struct model_name n = save(&ollama, "both:1", MANIFEST(LAYER("model", HEX_A, "5")));
    assert_int_equal(library_locate(&h->l, h->dir, NULL, ollama.dir, NULL), ERR_OK);
    assert_int_equal(library_find(&found, &h->l, &n, NULL), ERR_OK);
    assert_true(found.ollama && strncmp(found.path, ollama.dir, strlen(ollama.dir)) == 0);
    /* The spelling of older Ollamas. */
    snprintf(old, sizeof(old), "%s/blobs/sha256-" HEX_A, ollama.dir);
    snprintf(now, sizeof(now), "%s/blobs/sha256:" HEX_A, ollama.dir);
    assert_int_equal(rename(old, now), 0);
    assert_int_equal(library_find(&found, &h->l, &n, NULL), ERR_OK);
    put_blob(h, HEX_A, 5);
    save(h, "both:1", MANIFEST(LAYER("model", HEX_A, "5")));
    assert_int_equal(library_find(&found, &h->l, &n, NULL), ERR_OK);
    assert_false(found.ollama);
    struct buf table = {0};
    assert_int_equal(library_print(&h->l, false, &table, NULL), ERR_OK);
    assert_non_null(strstr(table.p, "(ollama)"));
    buf_fini(&table);
    void *p = &ollama;
    teardown(&p);
}

static void removal_waits_for_no_pull(void **state)
{
    struct home *h = *state;
    int pull, second, rm;
    assert_int_equal(library_lock(&h->l, false, &pull, NULL), ERR_OK);
    assert_int_equal(library_lock(&h->l, false, &second, NULL), ERR_OK);
    assert_int_equal(library_lock(&h->l, true, &rm, NULL), ERR_AGAIN);
    close(pull);
    close(second);
    assert_int_equal(library_lock(&h->l, true, &rm, NULL), ERR_OK);
    close(rm);
}

#define WITH_HOME(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest_lists_layers_and_config),
        cmocka_unit_test(manifest_that_lies_is_refused_in_one_line),
        cmocka_unit_test(layers_that_would_change_the_answer_are_refused),
        WITH_HOME(saved_name_is_found_with_its_source),
        WITH_HOME(name_whose_blob_is_missing_or_short_is_not_given_out),
        WITH_HOME(parts_of_a_split_set_find_each_other_by_name),
        WITH_HOME(removal_keeps_blobs_that_others_use),
        WITH_HOME(no_blob_goes_while_a_manifest_cannot_be_read),
        WITH_HOME(ollama_folder_is_read_in_place_and_ours_wins),
        WITH_HOME(removal_waits_for_no_pull),
    };
    return RUN_TESTS(tests);
}
