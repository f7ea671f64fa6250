/* Rows survive: a killed process, a store that can't be written, a second start. */
#include "gateway/usage/usage.h"
#include "gateway/usage/journal.h"
#include "shared/base/clock.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64];

static int fresh_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/millrace-usage-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static struct usage *open_usage(uint32_t *recovered, uint32_t max_jobs)
{
    struct usage *u = NULL;
    struct errmsg why = {0};
    uint32_t n = 0;
    struct usage_options o = {.data_dir = dir, .max_jobs = max_jobs};
    if (usage_open(&u, &o, recovered ? recovered : &n, &why) != ERR_OK)
        fail_msg("%s", why.text);
    return u;
}

static int64_t query(const char *sql)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/usage.db", dir);
    sqlite3 *db;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return v;
}

static struct usage_row *begin(struct usage *u, int i)
{
    struct usage_row *r = usage_take(u);
    assert_non_null(r);
    snprintf(r->id, sizeof(r->id), "job-%d", i);
    snprintf(r->model, sizeof(r->model), "tiny");
    snprintf(r->dialect, sizeof(r->dialect), "chat");
    r->created_ms = clock_wall_ms();
    usage_begin(u, r);
    return r;
}

static void ended_jobs_should_become_rows_once(void **state)
{
    (void)state;
    struct usage *u = open_usage(NULL, 64);
    for (int i = 0; i < 500; i++) { /* more than slots: they are reused once committed */
        struct usage_row *r;
        while ((r = usage_take(u)) == NULL)
            usage_flush(u, 1000);
        snprintf(r->id, sizeof(r->id), "job-%d", i);
        usage_begin(u, r);
        r->completion_tokens = 2;
        usage_end(u, r);
    }
    usage_close(u); /* commits what is queued */
    assert_int_equal(query("SELECT count(*) FROM jobs"), 500);
    assert_int_equal(query("SELECT sum(completion_tokens) FROM jobs"), 1000);
}

static void kill_9_should_leave_one_row_per_begun_job(void **state)
{
    (void)state;
    int go[2];
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct usage *u = open_usage(NULL, 64);
        usage_take(u); /* taken, not begun: nothing was promised */
        struct usage_row *running = begin(u, 1);
        running->prompt_tokens = 5;
        running->completion_tokens = 3;
        struct usage_row *done = begin(u, 2);
        done->outcome = USAGE_FINISHED;
        usage_end(u, done);
        (void)!write(go[1], "x", 1);
        pause();
    }
    char c;
    assert_int_equal(read(go[0], &c, 1), 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    uint32_t recovered = 0;
    usage_close(open_usage(&recovered, 64));
    assert_in_range(recovered, 1, 2); /* the ended one may have been committed */
    assert_int_equal(query("SELECT count(*) FROM jobs"), 2);
    assert_int_equal(
        query("SELECT count(*) FROM jobs WHERE id='job-1' AND outcome='interrupted' AND "
              "completion_tokens=3 AND cause='gateway_killed'"),
        1);
    assert_int_equal(query("SELECT count(*) FROM jobs WHERE id='job-2' AND outcome='finished'"), 1);
    usage_close(open_usage(&recovered, 64));
    assert_int_equal(recovered, 0);
    assert_int_equal(query("SELECT count(*) FROM jobs"), 2);
}

static void locked_store_should_keep_rows_and_write_them_later(void **state)
{
    (void)state;
    struct usage *u = open_usage(NULL, 64);
    char path[128];
    snprintf(path, sizeof(path), "%s/usage.db", dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    usage_end(u, begin(u, 1));
    uint64_t end = clock_mono_ms() + 10000;
    while (usage_healthy(u) && clock_mono_ms() < end)
        usleep(10000);
    assert_false(usage_healthy(u));
    assert_int_equal(usage_pending(u), 1);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    usage_flush(u, 10000);
    assert_true(usage_healthy(u));
    usage_close(u);
    assert_int_equal(query("SELECT count(*) FROM jobs"), 1);
}

static void all_slots_taken_should_be_said_not_overwritten(void **state)
{
    (void)state;
    struct usage *u = open_usage(NULL, 4);
    struct usage_row *r[4];
    for (int i = 0; i < 4; i++)
        r[i] = begin(u, i);
    assert_null(usage_take(u));
    usage_end(u, r[2]);
    usage_flush(u, 5000);
    assert_non_null(usage_take(u));
    usage_close(u);
}

static void second_gateway_on_the_same_data_should_be_refused(void **state)
{
    (void)state;
    struct usage *u = open_usage(NULL, 4), *second;
    struct errmsg why = {0};
    uint32_t n;
    struct usage_options o = {.data_dir = dir};
    assert_int_equal(usage_open(&second, &o, &n, &why), ERR_EXISTS);
    assert_non_null(strstr(why.text, "another millrace"));
    usage_close(u);
}

static void foreign_journal_should_be_refused_not_erased(void **state)
{
    (void)state;
    usage_close(open_usage(NULL, 4));
    char path[128];
    snprintf(path, sizeof(path), "%s/usage.journal", dir);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "MRUSAGE\0\xff\0\0\0", 12, 0), 12);
    close(fd);
    struct usage *u;
    struct errmsg why = {0};
    uint32_t n;
    struct usage_options o = {.data_dir = dir};
    assert_int_equal(usage_open(&u, &o, &n, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "another version"));
}

static void texts_of_a_damaged_slot_should_stay_inside_their_arrays(void **state)
{
    (void)state;
    usage_close(open_usage(NULL, 4));
    struct journal j;
    struct errmsg why = {0};
    char path[128];
    snprintf(path, sizeof(path), "%s/usage.journal", dir);
    assert_int_equal(journal_open(&j, path, 4, &why), ERR_OK);
    memset(&j.slots[0].row, 'A', sizeof(j.slots[0].row)); /* no NUL anywhere */
    j.slots[0].state = SLOT_ENDED;
    journal_close(&j);
    usage_close(open_usage(NULL, 4));
    assert_int_equal(query("SELECT length(model) FROM jobs"),
                     (int64_t)sizeof(((struct usage_row *)0)->model));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        T(ended_jobs_should_become_rows_once),
        T(kill_9_should_leave_one_row_per_begun_job),
        T(locked_store_should_keep_rows_and_write_them_later),
        T(all_slots_taken_should_be_said_not_overwritten),
        T(second_gateway_on_the_same_data_should_be_refused),
        T(foreign_journal_should_be_refused_not_erased),
        T(texts_of_a_damaged_slot_should_stay_inside_their_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
