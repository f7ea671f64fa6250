/* log.h - one line per event on stderr: time, level, module, message, key=value. Plain text or
 * JSON.
 *
 *   2026-11-23T10:00:00.123Z info  supervise worker ready pid=12 model=tiny load_ms=41
 *   {"ts":"2026-11-23T10:00:00.123Z","level":"info","module":"supervise","msg":"worker
 * ready","pid":12,...}
 *
 * Promise: one write(2) per line, never more than LOG_LINE_MAX bytes, control characters escaped,
 * so that a hostile value can't forge a line. Prompts, completions and keys are never logged.
 * Thread: any; a line is built on the stack. */
#ifndef MILLRACE_BASE_LOG_H
#define MILLRACE_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_PLAIN, LOG_JSON };
enum { LOG_LINE_MAX = 2048 };

void log_setup(enum log_level min, enum log_format format, int fd);
bool log_level_parse(const char *name, enum log_level *out);

struct log_kv {
    const char *key;
    enum { LOG_KV_STR, LOG_KV_INT, LOG_KV_UINT, LOG_KV_F64 } kind;
    union {
        const char *s;
        int64_t i;
        uint64_t u;
        double f;
    };
};

void log_event(enum log_level level, const char *module, const char *msg, const struct log_kv *kv,
               int n_kv);

/* log_info("supervise", "worker ready", KV_I("pid", pid), KV_S("model", name)); */
#define KV_S(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_STR, .s = (v)})
#define KV_I(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_INT, .i = (int64_t)(v)})
#define KV_U(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_UINT, .u = (uint64_t)(v)})
#define KV_F(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_F64, .f = (v)})
#define LOG_KVS_(...)                                                                              \
    (const struct log_kv[]){__VA_ARGS__},                                                          \
        (int)(sizeof((const struct log_kv[]){__VA_ARGS__}) / sizeof(struct log_kv))
#define log_debug(module, msg, ...) log_event(LOG_DEBUG, module, msg, LOG_KVS_(__VA_ARGS__))
#define log_info(module, msg, ...)  log_event(LOG_INFO, module, msg, LOG_KVS_(__VA_ARGS__))
#define log_warn(module, msg, ...)  log_event(LOG_WARN, module, msg, LOG_KVS_(__VA_ARGS__))
#define log_error(module, msg, ...) log_event(LOG_ERROR, module, msg, LOG_KVS_(__VA_ARGS__))

#endif
