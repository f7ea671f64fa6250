/* test_gguf.c - writing and reading back: values, conversions, tensors, split sets, files that are
 * none. */
#include "worker/model/gguf.h"
#include "worker/model/gguf_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/millrace-gguf-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static int turn;
    char *p = path[turn = (turn + 1) % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static struct gguf *open_ok(const char *path)
{
    struct gguf *g = NULL;
    struct errmsg why;
    if (gguf_open(&g, path, &why))
        fail_msg("%s", why.text);
    return g;
}

static void write_sample(const char *path)
{
    struct gguf_writer *w;
    struct errmsg why;
    assert_int_equal(gguf_writer_open(&w, path, &why), ERR_OK);
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_u32(w, "a.u32", 7);
    gguf_put_u64(w, "a.u64", 1ull << 40);
    gguf_put_f32(w, "a.f32", 0.5f);
    gguf_put_bool(w, "a.yes", true);
    gguf_put_bool(w, "a.no", false);
    gguf_put_str(w, "a.empty", STR(""));
    gguf_put_str_array(w, "a.words", (struct str[]){STR("one"), STR(""), STR("drei")}, 3);
    gguf_put_i32_array(w, "a.ints", (int32_t[]){-1, 2, 3}, 3);
    gguf_put_f32_array(w, "a.floats", (float[]){1.5f, -2}, 2);
    gguf_add_tensor(w, "vector", QTYPE_F32, 1, (uint64_t[]){3});
    gguf_add_tensor(w, "matrix", QTYPE_Q8_0, 2, (uint64_t[]){32, 2});
    const float v[3] = {1, 2, 3};
    char blocks[68];
    memset(blocks, 0x3c, sizeof blocks);
    assert_int_equal(gguf_write_data(w, v, sizeof v, &why), ERR_OK);
    assert_int_equal(gguf_write_data(w, blocks, 30, &why), ERR_OK); /* in two pieces */
    assert_int_equal(gguf_write_data(w, blocks + 30, 38, &why), ERR_OK);
    assert_int_equal(gguf_writer_finish(w, &why), ERR_OK);
}

static void what_was_written_is_read_back(void **state)
{
    (void)state;
    const char *path = in_dir("sample.gguf");
    write_sample(path);
    struct gguf *g = open_ok(path);
    assert_string_equal(gguf_path(g), path);
    assert_int_equal(gguf_n_kv(g), 10);
    assert_true(str_is(gguf_kv_at(g, 1)->key, "a.u32"));
    assert_null(gguf_kv_at(g, 10));
    struct str s;
    assert_true(gguf_get_str(g, "general.architecture", &s) && str_is(s, "llama"));
    assert_true(gguf_get_str(g, "a.empty", &s) && s.n == 0);
    bool b = false;
    assert_true(gguf_get_bool(g, "a.yes", &b) && b);
    assert_true(gguf_get_bool(g, "a.no", &b) && !b);
    const struct gguf_kv *words = gguf_kv(g, "a.words");
    assert_non_null(words);
    assert_int_equal(words->count, 3);
    assert_true(gguf_elem_str(words, 2, &s) && str_is(s, "drei"));
    assert_false(gguf_elem_str(words, 3, &s));

    assert_int_equal(gguf_n_tensors(g), 2);
    const struct gguf_tensor *t = gguf_tensor(g, "vector");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 1);
    assert_int_equal(t->ne[0], 3);
    assert_int_equal(t->ne[1], 1);
    assert_int_equal(t->bytes, 12);
    assert_true(((const float *)t->data)[2] == 3);
    t = gguf_tensor(g, "matrix");
    assert_non_null(t);
    assert_int_equal(t->type, QTYPE_Q8_0);
    assert_int_equal(t->bytes, 68);
    assert_int_equal((uintptr_t)t->data % 32, 0);
    assert_int_equal(((const char *)t->data)[67], 0x3c);
    assert_null(gguf_tensor(g, "matri"));
    assert_null(gguf_tensor(g, "matrixx"));
    gguf_close(g);
}

static void numbers_convert_when_the_value_fits(void **state)
{
    (void)state;
    const char *path = in_dir("numbers.gguf");
    write_sample(path);
    struct gguf *g = open_ok(path);
    uint32_t u32 = 99;
    uint64_t u64 = 99;
    int64_t i64 = 99;
    float f = 99;
    bool b = true;
    assert_true(gguf_get_u64(g, "a.u32", &u64) && u64 == 7);
    assert_true(gguf_get_i64(g, "a.u64", &i64) && i64 == 1ll << 40);
    assert_true(gguf_get_f32(g, "a.u32", &f) && f == 7);
    assert_true(gguf_get_f32(g, "a.f32", &f) && f == 0.5f);
    assert_false(gguf_get_u32(g, "a.u64", &u32)); /* does not fit */
    assert_false(gguf_get_u32(g, "a.f32", &u32)); /* not an integer */
    assert_false(gguf_get_u32(g, "a.yes", &u32));
    assert_false(gguf_get_u32(g, "a.words", &u32));
    assert_false(gguf_get_u32(g, "a.ints", &u32)); /* an array is no scalar */
    assert_false(gguf_get_u32(g, "absent", &u32));
    assert_false(gguf_get_bool(g, "a.u32", &b));
    assert_int_equal(u32, 99);
    const struct gguf_kv *ints = gguf_kv(g, "a.ints");
    assert_true(gguf_elem_i64(ints, 0, &i64) && i64 == -1);
    assert_false(gguf_elem_u64(ints, 0, &u64)); /* negative */
    assert_true(gguf_elem_u64(ints, 2, &u64) && u64 == 3);
    assert_false(gguf_elem_u64(ints, 3, &u64));
    assert_true(gguf_elem_f32(gguf_kv(g, "a.floats"), 1, &f) && f == -2);
    gguf_close(g);
}

static void write_part(const char *name, uint32_t no, uint32_t count, const char *tensor)
{
    struct gguf_writer *w;
    struct errmsg why;
    assert_int_equal(gguf_writer_open(&w, in_dir(name), &why), ERR_OK);
    gguf_put_u32(w, "split.no", no);
    gguf_put_u32(w, "split.count", count);
    gguf_put_u32(w, "split.tensors.count", count);
    gguf_add_tensor(w, tensor, QTYPE_F32, 1, (uint64_t[]){1});
    const float v = (float)no;
    assert_int_equal(gguf_write_data(w, &v, sizeof v, &why), ERR_OK);
    assert_int_equal(gguf_writer_finish(w, &why), ERR_OK);
}

static void refused(const char *name, enum err want, const char *says)
{
    struct gguf *g;
    struct errmsg why = {{0}};
    enum err e = gguf_open(&g, in_dir(name), &why);
    if (e != want || !strstr(why.text, says))
        fail_msg("%s: got %s \"%s\", want \"%s\"", name, err_name(e), why.text, says);
}

static void a_split_set_opens_as_one_model(void **state)
{
    (void)state;
    write_part("m-00001-of-00003.gguf", 0, 3, "a");
    write_part("m-00002-of-00003.gguf", 1, 3, "b");
    write_part("m-00003-of-00003.gguf", 2, 3, "c");
    struct gguf *g = open_ok(in_dir("m-00001-of-00003.gguf"));
    assert_int_equal(gguf_n_tensors(g), 3);
    assert_true(((const float *)gguf_tensor(g, "c")->data)[0] == 2);
    struct stat st;
    assert_int_equal(stat(in_dir("m-00001-of-00003.gguf"), &st), 0);
    assert_true(gguf_file_bytes(g) == 3 * (uint64_t)st.st_size);
    gguf_close(g);
}

static void a_broken_split_set_is_refused(void **state)
{
    (void)state;
    refused("m-00002-of-00003.gguf", ERR_INVALID, "part 2 of 3; open the first part");
    write_part("n-00001-of-00002.gguf", 0, 2, "a");
    refused("n-00001-of-00002.gguf", ERR_NOT_FOUND, "n-00002-of-00002.gguf: can't be opened");
    write_part("n-00002-of-00002.gguf", 0, 2, "b");
    refused("n-00001-of-00002.gguf", ERR_INVALID, "is not part 2 of 2");
    write_part("n-00002-of-00002.gguf", 1, 2, "a");
    refused("n-00001-of-00002.gguf", ERR_INVALID, "tensor a occurs twice");
    write_part("renamed.gguf", 0, 2, "a");
    refused("renamed.gguf", ERR_INVALID, "must be named ...-00001-of-00002.gguf");
    write_part("o-00001-of-00001.gguf", 3, 2, "a");
    refused("o-00001-of-00001.gguf", ERR_INVALID, "make no sense");
}

static void what_is_no_model_file_is_refused(void **state)
{
    (void)state;
    refused("absent.gguf", ERR_NOT_FOUND, "No such file");
    refused("", ERR_INVALID, "not a regular file");
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    refused("fifo", ERR_INVALID, "not a regular file");
    FILE *f = fopen(in_dir("empty.gguf"), "w");
    assert_non_null(f);
    fclose(f);
    refused("empty.gguf", ERR_INVALID, "empty");
}

static void an_unfinished_file_never_appears(void **state)
{
    (void)state;
    struct gguf_writer *w;
    struct errmsg why;
    const char *path = in_dir("half.gguf");
    assert_int_equal(gguf_writer_open(&w, path, &why), ERR_OK);
    gguf_add_tensor(w, "t", QTYPE_F32, 1, (uint64_t[]){2});
    const float v = 1;
    assert_int_equal(gguf_write_data(w, &v, sizeof v, &why), ERR_OK);
    assert_int_equal(gguf_writer_finish(w, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "the data of 1 tensors is missing"));
    assert_int_equal(access(path, F_OK), -1);
}

static void the_writer_refuses_impossible_tensors_and_too_much_data(void **state)
{
    (void)state;
    struct gguf_writer *w;
    struct errmsg why;
    assert_int_equal(gguf_writer_open(&w, in_dir("bad.gguf"), &why), ERR_OK);
    gguf_add_tensor(w, "t", QTYPE_Q4_K, 2, (uint64_t[]){128, 2}); /* half a block */
    assert_int_equal(gguf_writer_finish(w, &why), ERR_INVALID);
    assert_int_equal(gguf_writer_open(&w, in_dir("bad.gguf"), &why), ERR_OK);
    gguf_add_tensor(w, "t", QTYPE_F32, 1, (uint64_t[]){1});
    assert_int_equal(gguf_write_data(w, "12345678", 8, &why), ERR_INVALID);
    gguf_writer_abort(w);
    assert_int_equal(access(in_dir("bad.gguf"), F_OK), -1);
}

static void the_demo_model_opens(void **state)
{
    (void)state;
    struct gguf *g = open_ok("deploy/models/millrace-tiny-q8_0.gguf");
    struct str arch;
    assert_true(gguf_get_str(g, "general.architecture", &arch));
    assert_non_null(gguf_tensor(g, "token_embd.weight"));
    gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_back),
        cmocka_unit_test(numbers_convert_when_the_value_fits),
        cmocka_unit_test(a_split_set_opens_as_one_model),
        cmocka_unit_test(a_broken_split_set_is_refused),
        cmocka_unit_test(what_is_no_model_file_is_refused),
        cmocka_unit_test(an_unfinished_file_never_appears),
        cmocka_unit_test(the_writer_refuses_impossible_tensors_and_too_much_data),
        cmocka_unit_test(the_demo_model_opens),
    };
    return cmocka_run_group_tests_name("gguf", tests, make_dir, drop_dir);
}
