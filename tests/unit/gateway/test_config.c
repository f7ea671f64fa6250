/* Options: what is taken, what is refused in one line, and that file, help and schema agree. */
#include "gateway/config.h"
#include "shared/base/json.h"
#include "tests/support/test.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char file[] = "/tmp/millrace-config-XXXXXX";

static int setup(void **state)
{
    UNUSED(state);
    int fd = mkstemp(file);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int teardown(void **state)
{
    UNUSED(state);
    return unlink(file);
}

#define WORDS(...)                                                                                 \
    (const char *[]){__VA_ARGS__},                                                                 \
        (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *))
/* Any readable and executable file will do for models and workers. */
#define TRUE_  "/bin/true"
#define WORKER "--worker", TRUE_

static enum err load(struct config *c, struct errmsg *why, const char *const *words, int n)
{
    *why = (struct errmsg){0};
    return config_load(c, n, words, why);
}

static void command_line_is_read(void **state)
{
    struct config c;
    struct errmsg why;
    UNUSED(state);
    enum err e =
        load(&c, &why,
             WORDS(WORKER, "--listen=[::1]:0", "--model",
                   "org/a=/bin/true,device=cuda:1,replicas=2,context=4096,slots=8,threads=3,"
                   "chat-template=/bin/sh,kv-type=q8_0,queue=9,memory=800MB",
                   "--model", "b=/bin/true", "--data", "/tmp/x", "--ping-interval", "2.5",
                   "--log-format", "json", "--log-level", "warn", "--drain-seconds", "7",
                   "--max-loaded", "1", "--memory-budget", "1.5G", "--idle-unload", "10m"));
    if (e)
        fail_msg("%s", why.text);
    assert_string_equal(c.host, "::1");
    assert_int_equal(c.port, 0);
    assert_int_equal(c.n_models, 2);
    const struct model_config *m = &c.models[0];
    assert_true(str_is(m->name, "org/a"));
    assert_string_equal(m->device, "cuda:1");
    assert_int_equal(m->replicas, 2);
    assert_int_equal(m->context, 4096);
    assert_int_equal(m->slots, 8);
    assert_int_equal(m->threads, 3);
    assert_int_equal(m->queue_limit, 9);
    assert_string_equal(m->chat_template, "/bin/sh");
    assert_string_equal(m->kv_type, "q8_0");
    assert_string_equal(c.models[1].device, "cpu");
    assert_true(c.ping_interval_s == 2.5 && c.drain_s == 7 && c.drain_grace_s == 0);
    assert_int_equal(c.max_loaded, 1);
    assert_true(c.memory_budget == 1536u << 20 && m->memory_bytes == 800000000);
    assert_true(c.idle_unload_s == 600 && c.turn_s == 10 && c.queue_s == 600);
    assert_int_equal(c.log_format, LOG_JSON);
    assert_int_equal(c.log_level, LOG_WARN);
    config_free(&c);
}

static void unusable_arguments_are_one_clear_line(void **state)
{
    // clang-format off
    static const struct { const char *words[8]; const char *part; } rows[] = {
        {{"--nope"}, "there is no option '--nope'"},
        {{"nope"}, "unexpected 'nope'"},
        {{"--listen"}, "--listen needs a value"},
        {{"--listen", "8080"}, "expected HOST:PORT"},
        {{"--listen", "127.0.0.1:99999"}, "expected HOST:PORT"},
        {{"--listen", "example.org:80"}, "numeric address"},
        {{"--listen", "0.0.0.0:80"}, "--insecure"},
        {{"--insecure=yes"}, "takes no value"},
        {{"--model", "=x"}, "expected NAME[=FILE]"},
        {{"--model", "x="}, "expected NAME[=FILE]"},
        {{"--model", "x:no", "--models-dir", "/nonexistent"}, "fetch it: millrace pull x:no"},
        {{"--model", "x,slots=2", "--models-dir", "/nonexistent"}, "fetch it: millrace pull x"},
        {{"--model", "x/../y", "--models-dir", "/nonexistent"}, "is no name of a model"},
        {{"--model", "x=gone:1", "--models-dir", "/nonexistent"}, "nor a pulled model"},
        {{"--model", "x", "--ollama-models", "/nonexistent"}, "is no folder"},
        {{"--model", "a b=" TRUE_}, "no blanks"},
        {{"--model", "x=/nonexistent.gguf"}, "No such file"},
        {{"--model", "x=" TRUE_ ",slots=0"}, "whole number from 1 to 65536"},
        {{"--model", "x=" TRUE_ ",slots"}, "slots: expected a whole number"},
        {{"--model", "x=" TRUE_ ",sluts=1"}, "no key 'sluts'"},
        {{"--model", "x=" TRUE_ ",device=tpu"}, "expected cpu or cuda:N"},
        {{"--model", "x=" TRUE_, "--model", "x=" TRUE_}, "given twice"},
        {{"--ping-interval", "-1"}, "expected seconds from 0 to 3600"},
        {{"--ping-interval", "soon"}, "expected seconds"},
        {{"--max-loaded", "0"}, "expected a whole number from 1 to 64"},
        {{"--memory-budget", "lots"}, "expected a size such as 24G"},
        {{"--memory-budget", "24X"}, "expected a size such as 24G"},
        {{"--memory-budget", "0G"}, "expected a size such as 24G"},
        {{"--memory-budget", "1Gi"}, "expected a size such as 24G"},
        {{"--memory-budget", "G"}, "expected a size such as 24G"},
        {{"--idle-unload", "1y"}, "expected seconds from 0"},
        {{"--model", "x=" TRUE_ ",memory=-1G"}, "memory: expected a size such as 8G"},
        {{"--max-connections", "0"}, "expected a whole number from 1"},
        {{"--log-level", "loud"}, "expected debug, info, warn or error"},
        {{"--log-format", "xml"}, "expected plain or json"},
        {{"--worker", "/nonexistent"}, "No such file"},
        {{"--config", "/nonexistent"}, "No such file"},
    };
    // clang-format on
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *words[16] = {WORKER, "--model", "m=" TRUE_};
        int n = 4;
        struct config c;
        struct errmsg why = {0};
        for (int k = 0; k < 8 && rows[i].words[k]; k++)
            words[n++] = rows[i].words[k];
        if (config_load(&c, n, words, &why) == ERR_OK)
            fail_msg("taken: %s", rows[i].words[0]);
        if (!strstr(why.text, rows[i].part) || strchr(why.text, '\n'))
            fail_msg("%s %s: %s", rows[i].words[0], rows[i].words[1], why.text);
    }
}

static void write_file(const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void command_line_wins_over_the_file(void **state)
{
    struct config c;
    struct errmsg why;
    UNUSED(state);
    write_file(
        "{\"listen\":\"0.0.0.0:1\",\"insecure\":true,\"ping-interval\":3,"
        "\"model\":[{\"name\":\"a\",\"file\":\"/bin/true\",\"slots\":5,\"device\":\"cpu\"}]}");
    enum err e =
        load(&c, &why,
             WORDS("--ping-interval", "4", WORKER, "--model", "b=/bin/true", "--config", file));
    if (e)
        fail_msg("%s", why.text);
    assert_string_equal(c.host, "0.0.0.0");
    assert_true(c.insecure && !c.loopback);
    assert_true(c.ping_interval_s == 4 && c.drain_grace_s == 5);
    assert_int_equal(c.n_models, 2);
    assert_int_equal(c.models[0].slots, 5);
    config_free(&c);
}

static void faults_of_the_file_name_it(void **state)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        {"{", "invalid JSON"},
        {"[]", "expected a JSON object"},
        {"{\"nope\":1}", "there is no option \"nope\""},
        {"{\"config\":\"x\"}", "there is no option \"config\""},
        {"{\"insecure\":\"yes\"}", "must be true or false"},
        {"{\"listen\":[]}", "must be a text or a number"},
        {"{\"model\":{}}", "must be a list"},
        {"{\"model\":[{\"file\":\"/bin/true\"}]}", "needs a \"name\""},
        {"{\"model\":[{\"name\":\"a\",\"file\":7}]}", "needs a \"name\""},
        {"{\"model\":[{\"name\":\"a\",\"file\":\"/bin/true\",\"slots\":[]}]}", "text or a number"},
    };
    UNUSED(state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct config c;
        struct errmsg why;
        write_file(rows[i].text);
        assert_int_not_equal(load(&c, &why, WORDS(WORKER, "--config", file)), ERR_OK);
        if (!strstr(why.text, rows[i].part) || !strstr(why.text, file))
            fail_msg("%s: %s", rows[i].text, why.text);
    }
}

static void help_lists_every_option(void **state)
{
    struct buf b = {0};
    char word[64];
    UNUSED(state);
    config_print_help(&b);
    for (size_t i = 0; config_option_name(i); i++) {
        snprintf(word, sizeof(word), "  --%s", config_option_name(i));
        if (!strstr(b.p, word))
            fail_msg("%s", word);
    }
    buf_fini(&b);
}

/* The schema is written by hand; this holds it to the table. */
static void schema_has_the_same_options(void **state)
{
    static char text[65536];
    struct arena a;
    struct json *root = NULL;
    UNUSED(state);
    FILE *f = fopen("schemas/config.schema.json", "rb");
    if (!f) {
        print_message("skipped: not run from the root of the repository\n");
        skip();
    }
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    arena_init(&a, 0);
    assert_int_equal(json_parse(&root, &a, text, n, NULL, NULL), ERR_OK);
    const struct json *properties = json_get(root, "properties");
    const struct json *model =
        json_get(json_get(json_get(properties, "model"), "items"), "properties");
    size_t options = 0, keys = 0;
    for (size_t i = 0; config_option_name(i); i++) {
        const char *name = config_option_name(i);
        if (strcmp(name, "config") == 0 || strcmp(name, "help") == 0)
            continue;
        options++;
        if (!json_get(properties, name))
            fail_msg("the schema lacks %s", name);
    }
    for (; config_model_key(keys); keys++)
        if (!json_get(model, config_model_key(keys)))
            fail_msg("the schema lacks model's %s", config_model_key(keys));
    assert_int_equal(properties->list.count, options);
    assert_int_equal(model->list.count, keys + 2); /* name and file */
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_line_is_read),
        cmocka_unit_test(unusable_arguments_are_one_clear_line),
        cmocka_unit_test(command_line_wins_over_the_file),
        cmocka_unit_test(faults_of_the_file_name_it),
        cmocka_unit_test(help_lists_every_option),
        cmocka_unit_test(schema_has_the_same_options),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
