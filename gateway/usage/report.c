/* report.c - `millrace usage`: sums over the usage store, as a table, JSON or CSV. */
#include "gateway/usage/usage.h"
#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    MAX_GROUPS = 8,
    MAX_COLUMNS = 24,
    CELL_MAX = 40
};

/* What --by accepts: fixed SQL, so that nothing a user types becomes SQL. */
// clang-format off
static const struct group {
    const char *name, *sql;
} groups[] = {
    {"model",   "model"},
    {"key",     "key_id"},
    {"user",    "end_user"},
    {"dialect", "dialect"},
    {"outcome", "outcome"},
    {"cause",   "cause"},
    {"minute",  "strftime('%Y-%m-%dT%H:%MZ', created_ms / 1000, 'unixepoch')"},
    {"hour",    "strftime('%Y-%m-%dT%H:00Z', created_ms / 1000, 'unixepoch')"},
    {"day",     "strftime('%Y-%m-%d', created_ms / 1000, 'unixepoch')"},
    {"month",   "strftime('%Y-%m', created_ms / 1000, 'unixepoch')"},
};

static const char measures[] =
    "count(*) AS jobs, sum(prompt_tokens) AS prompt, sum(cached_tokens) AS cached, sum(completion_tokens) AS completion,"
    " sum(reasoning_tokens) AS reasoning, sum(delivered_tokens) AS delivered, sum(computed_tokens) AS computed,"
    " sum(outcome <> 'finished') AS not_finished, sum(failovers) AS failovers,"
    " CAST(ifnull(avg(nullif(ttft_us, 0)), 0) / 1000 AS INTEGER) AS ttft_ms,"
    " CAST(avg(duration_us) / 1000 AS INTEGER) AS duration_ms";
// clang-format on

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV };

static int unusable(const char *what, const char *value, const char *hint)
{
    fprintf(stderr, "millrace usage: %s '%s'; %s\n", what, value, hint);
    return EXIT_USAGE;
}

/* "7d", "24h", "30m", or a UTC date "2026-11-01": the first millisecond that counts. */
static bool parse_since(const char *s, int64_t *out)
{
    struct tm tm = {0};
    int y, m, d, end = 0;
    if (sscanf(s, "%4d-%2d-%2d%n", &y, &m, &d, &end) == 3 && s[end] == 0 && m >= 1 && m <= 12 &&
        d >= 1 && d <= 31) {
        tm.tm_year = y - 1900;
        tm.tm_mon = m - 1;
        tm.tm_mday = d;
        *out = (int64_t)timegm(&tm) * 1000;
        return true;
    }
    size_t n = strlen(s);
    uint64_t v;
    if (n < 2 || !str_to_u64((struct str){s, n - 1}, 1000000, &v))
        return false;
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'m', 60000}, {'h', 3600000}, {'d', 86400000}, {'w', 604800000}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (s[n - 1] == units[i].unit) {
            *out = clock_wall_ms() - (int64_t)v * units[i].ms;
            return true;
        }
    }
    return false;
}

static bool parse_by(const char *by, const struct group **out, int *n, char *bad, size_t bad_size)
{
    while (*by) {
        size_t len = strcspn(by, ",");
        const struct group *found = NULL;
        for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
            if (strlen(groups[i].name) == len && memcmp(groups[i].name, by, len) == 0)
                found = &groups[i];
        if (!found || *n == MAX_GROUPS) {
            snprintf(bad, bad_size, "%.*s", (int)len, by);
            return false;
        }
        out[(*n)++] = found;
        by += len + (by[len] == ',');
    }
    return true;
}

/* ---- printing
 * ------------------------------------------------------------------------------------------------------
 */

static void print_json(struct buf *b, sqlite3_stmt *st, bool first)
{
    buf_puts(b, first ? "[\n  {" : ",\n  {");
    for (int c = 0; c < sqlite3_column_count(st); c++) {
        buf_puts(b, c ? ", " : "");
        json_put_cstr(b, sqlite3_column_name(st, c));
        buf_puts(b, ": ");
        if (sqlite3_column_type(st, c) == SQLITE_INTEGER)
            buf_put_i64(b, sqlite3_column_int64(st, c));
        else
            json_put_str(b, (const char *)sqlite3_column_text(st, c),
                         (size_t)sqlite3_column_bytes(st, c));
    }
    buf_putc(b, '}');
}

/* RFC 4180; a value that a spreadsheet would take for a formula gets a leading apostrophe. */
static void print_csv_cell(struct buf *b, const char *s, bool is_text)
{
    bool formula = is_text && *s && strchr("=+-@\t\r", *s);
    bool quote = formula || strpbrk(s, ",\"\r\n");
    if (!quote) {
        buf_puts(b, s);
        return;
    }
    buf_puts(b, formula ? "\"'" : "\"");
    for (; *s; s++) {
        if (*s == '"')
            buf_putc(b, '"');
        buf_putc(b, *s);
    }
    buf_putc(b, '"');
}

static void print_csv(struct buf *b, sqlite3_stmt *st, bool first)
{
    int n = sqlite3_column_count(st);
    if (first)
        for (int c = 0; c < n; c++)
            buf_printf(b, "%s%s", sqlite3_column_name(st, c), c + 1 < n ? "," : "\r\n");
    for (int c = 0; c < n; c++) {
        const char *text = (const char *)sqlite3_column_text(st, c);
        print_csv_cell(b, text ? text : "", sqlite3_column_type(st, c) == SQLITE_TEXT);
        buf_puts(b, c + 1 < n ? "," : "\r\n");
    }
}

/* Rows are printed when all widths are known: sums of groups are few. */
struct table {
    struct buf cells; /* NUL-terminated, row by row */
    size_t width[MAX_COLUMNS];
    bool right[MAX_COLUMNS];
    int n_columns;
    size_t n_rows;
};

static void table_cell(struct table *t, int c, const char *s)
{
    char cell[CELL_MAX + 1];
    snprintf(cell, sizeof(cell), "%s", s && *s ? s : "-");
    for (char *p = cell; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = '?';
    size_t w = strlen(cell);
    t->width[c] = w > t->width[c] ? w : t->width[c];
    buf_put(&t->cells, cell, w + 1);
}

static void table_row(struct table *t, sqlite3_stmt *st, bool first)
{
    if (first) {
        t->n_columns = sqlite3_column_count(st);
        for (int c = 0; c < t->n_columns; c++)
            table_cell(t, c, sqlite3_column_name(st, c));
        t->n_rows++;
    }
    for (int c = 0; c < t->n_columns; c++) {
        t->right[c] = sqlite3_column_type(st, c) != SQLITE_TEXT;
        table_cell(t, c, (const char *)sqlite3_column_text(st, c));
    }
    t->n_rows++;
}

static void table_print(const struct table *t)
{
    const char *p = t->cells.p;
    for (size_t r = 0; r < t->n_rows; r++) {
        for (int c = 0; c < t->n_columns; c++, p += strlen(p) + 1)
            printf(t->right[c] ? "%s%*s" : "%s%-*s", c ? "  " : "", (int)t->width[c], p);
        putchar('\n');
    }
}

/* ---- the query
 * -------------------------------------------------------------------------------------------------------
 */

static int run_report(sqlite3 *db, int64_t since_ms, const struct group **by, int n_by,
                      enum format format)
{
    struct buf sql, out;
    buf_init(&sql);
    buf_init(&out);
    buf_puts(&sql, "SELECT ");
    for (int i = 0; i < n_by; i++)
        buf_printf(&sql, "%s AS %s, ", by[i]->sql, by[i]->name);
    buf_printf(&sql, "%s FROM jobs WHERE created_ms >= ?1", measures);
    for (int i = 0; i < n_by; i++)
        buf_printf(&sql, "%s%d", i ? ", " : " GROUP BY ", i + 1);
    for (int i = 0; i < n_by; i++)
        buf_printf(&sql, "%s%d", i ? ", " : " ORDER BY ", i + 1);

    sqlite3_stmt *st = NULL;
    struct table table = {0};
    int rc = sql.failed ? SQLITE_NOMEM : sqlite3_prepare_v2(db, sql.p, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 1, since_ms);
    bool first = true;
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        rc = SQLITE_OK;
        if (n_by == 0 && sqlite3_column_int64(st, 0) == 0)
            continue; /* a sum over nothing is no row */
        if (format == FORMAT_JSON)
            print_json(&out, st, first);
        else if (format == FORMAT_CSV)
            print_csv(&out, st, first);
        else
            table_row(&table, st, first);
        first = false;
        fwrite(out.p ? out.p : "", 1, out.n, stdout);
        buf_clear(&out);
    }
    if (rc != SQLITE_DONE) {
        fprintf(stderr, "millrace usage: cannot read the usage store: %s\n", sqlite3_errmsg(db));
    } else if (format == FORMAT_JSON) {
        fputs(first ? "[]\n" : "\n]\n", stdout);
    } else if (format == FORMAT_TABLE) {
        if (first)
            puts("no jobs in this time");
        else
            table_print(&table);
    }
    sqlite3_finalize(st);
    buf_fini(&sql);
    buf_fini(&out);
    buf_fini(&table.cells);
    return rc == SQLITE_DONE && fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

static void print_help(void)
{
    puts("usage: millrace usage [--since 7d] [--by model,key,day,...] [--format table|json|csv] "
         "[--data DIR]\n\n"
         "  --since   30m, 24h, 7d, 4w, or a UTC date such as 2026-11-01 (default: 7d)\n"
         "  --by      any of model key user dialect outcome cause minute hour day month (default: "
         "model)\n"
         "  --format  table (default), json or csv\n"
         "  --data    the data directory of the gateway (default: as `millrace serve`)");
}

int cmd_usage(int argc, char **argv)
{
    const char *since = "7d", *by = "model", *format = "table", *data = NULL;
    const struct {
        const char *name;
        const char **value;
    } options[] = {{"--since", &since}, {"--by", &by}, {"--format", &format}, {"--data", &data}};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            return EXIT_DONE;
        }
        bool known = false;
        for (size_t k = 0; k < sizeof(options) / sizeof(options[0]); k++) {
            if (strcmp(argv[i], options[k].name) != 0)
                continue;
            known = true;
            if (i + 1 == argc)
                return unusable("no value after", argv[i], "see 'millrace usage --help'");
            *options[k].value = argv[++i];
            break;
        }
        if (!known)
            return unusable("unknown option", argv[i], "see 'millrace usage --help'");
    }

    int64_t since_ms;
    if (!parse_since(since, &since_ms))
        return unusable("cannot read --since", since,
                        "write 30m, 24h, 7d, 4w or a date such as 2026-11-01");
    const struct group *chosen[MAX_GROUPS];
    char bad[64];
    int n_by = 0;
    if (!parse_by(by, chosen, &n_by, bad, sizeof(bad)))
        return unusable(
            "unknown group", bad,
            "--by takes model, key, user, dialect, outcome, cause, minute, hour, day, month");
    enum format f = FORMAT_TABLE;
    if (strcmp(format, "json") == 0)
        f = FORMAT_JSON;
    else if (strcmp(format, "csv") == 0)
        f = FORMAT_CSV;
    else if (strcmp(format, "table") != 0)
        return unusable("unknown format", format, "--format takes table, json or csv");

    char path[4200], dir[4096];
    if (!data) {
        usage_default_dir(dir, sizeof(dir));
        data = dir;
    }
    snprintf(path, sizeof(path), "%s/usage.db", data);
    sqlite3 *db = NULL;
    int status;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
        fprintf(stderr,
                "millrace usage: %s: cannot open; name the gateway's data directory with --data\n",
                path);
        status = EXIT_FAILED;
    } else {
        sqlite3_busy_timeout(db, 2000);
        status = run_report(db, since_ms, chosen, n_by, f);
    }
    sqlite3_close(db);
    return status;
}
