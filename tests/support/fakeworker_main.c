/* fakeworker - a worker without a model: speaks the protocol of shared/ipc/proto.h from a script,
 * for tests of the gateway and for its bench. It stands in for `millrace-worker serve SCRIPT
 * --shm-fd N ...`; SCRIPT is a JSON file:
 *
 *   { "pieces": ["Hel", "lo"],     text of token 0, 1, ...; the answer is all of them
 *     "prompt_tokens": 7, "token_us": 0, "load_ms": 0,
 *     "slots": 1000000,
 *     "die_at": 3,                 token before which the process kills itself ... "die_times": 1
 * (counted in SCRIPT.deaths) "stall_at": 3,               token before which it stops stepping for
 * good "fail": "message",           every job fails with ERR_TEMPLATE and this message "lie":
 * "job|delta|taken|garbage"   breaks the protocol at the first token "refuse": "message" } FATAL
 * instead of READY
 *
 * An embedding job has one vector per input, [input, 1, 2, 3], each worth two tokens; die_at and
 * token_us count inputs; "lie": "order|dims|short" breaks the protocol at the second of them.
 * Token ids are the indexes of the pieces; a replay of n tokens continues at piece n. */
/* `fakeworker inspect SCRIPT --json` answers with "weight_bytes" and "kv_bytes" of the script, or
 * fails with its "inspect_fail". With "ignore_drain" it does not end when it is asked to, with
 * "load_die" it kills itself at the end of loading (die_times, as above). */
#include "shared/base/clock.h"
#include "shared/base/json.h"
#include "shared/base/list.h"
#include "shared/ipc/body.h"
#include "shared/ipc/msg.h"
#include "shared/ipc/shm.h"
#include "shared/ipc/wake.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct script {
    const struct json *pieces;
    struct str *piece;
    uint32_t n_pieces;
    int64_t prompt_tokens, token_us, load_ms, slots, die_at, die_times, stall_at;
    int64_t weight_bytes, kv_bytes;
    bool ignore_drain, load_die;
    struct str fail, lie, refuse, inspect_fail;
    const char *path;
};

struct fake_job {
    struct link link;
    uint64_t id;
    uint32_t pos, max_tokens;
    uint32_t n_inputs; /* 0: it is no embedding job */
    uint64_t due_ns;
    bool admitted, paused;
    uint64_t extent;
};

struct fake {
    struct script script;
    struct shm shm;
    struct ring_reader in;
    struct ring_writer out;
    struct buf scratch;
    int work_fd, news_fd;
    bool draining;
    struct link jobs;
    int64_t running;
};

static void die(const char *what)
{
    fprintf(stderr, "fakeworker: %s\n", what);
    exit(1);
}

static int64_t number(const struct json *o, const char *key, int64_t otherwise)
{
    const struct json *v = json_get(o, key);
    return json_is(v, JSON_INT) ? v->i : otherwise;
}

static struct str text(const struct json *o, const char *key)
{
    const struct json *v = json_get(o, key);
    return json_is(v, JSON_STRING) ? v->s : (struct str){0};
}

static void script_load(struct script *s, struct arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    static char bytes[1 << 20];
    size_t n = f ? fread(bytes, 1, sizeof(bytes), f) : 0;
    if (f)
        fclose(f);
    struct json *o;
    struct errmsg why = {0};
    if (json_parse(&o, a, bytes, n, NULL, &why) != ERR_OK)
        die(why.text);
    *s = (struct script){.path = path,
                         .pieces = json_get(o, "pieces"),
                         .prompt_tokens = number(o, "prompt_tokens", 7),
                         .token_us = number(o, "token_us", 0),
                         .load_ms = number(o, "load_ms", 0),
                         .slots = number(o, "slots", 1 << 20),
                         .die_at = number(o, "die_at", -1),
                         .die_times = number(o, "die_times", 1),
                         .stall_at = number(o, "stall_at", -1),
                         .fail = text(o, "fail"),
                         .lie = text(o, "lie"),
                         .weight_bytes = number(o, "weight_bytes", 1 << 20),
                         .kv_bytes = number(o, "kv_bytes", 1 << 20),
                         .ignore_drain = json_get(o, "ignore_drain") != NULL,
                         .load_die = json_get(o, "load_die") != NULL,
                         .inspect_fail = text(o, "inspect_fail"),
                         .refuse = text(o, "refuse")};
    s->n_pieces = json_is(s->pieces, JSON_ARRAY) ? (uint32_t)s->pieces->list.count : 0;
    s->piece = arena_array(a, s->n_pieces + 1, sizeof(*s->piece));
    uint32_t i = 0;
    for (const struct json *v = s->n_pieces ? s->pieces->list.first : NULL; v; v = v->next)
        s->piece[i++] = v->s;
}

/* True while SCRIPT.deaths counts fewer than die_times deaths; counts this one. */
static bool should_die(const struct script *s)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s.deaths", s->path);
    FILE *f = fopen(path, "a+");
    if (!f)
        return false;
    fseek(f, 0, SEEK_END);
    bool yes = ftell(f) < s->die_times;
    if (yes)
        fputc('x', f);
    fclose(f);
    return yes;
}

static void send_msg(struct fake *k, const struct msg *m)
{
    enum err e;
    while ((e = msg_send(&k->out, &k->scratch, m)) == ERR_FULL) {
        if (ring_writer_arm(&k->out, k->scratch.n)) {
            wake_send(k->news_fd);
            (void)!wake_wait(k->work_fd, 100);
        }
    }
    if (e != ERR_OK)
        die("cannot write an event");
}

static void bump(struct fake *k)
{
    struct shm_status *s = k->shm.status;
    atomic_fetch_add_explicit(&s->steps, 1, memory_order_relaxed);
    atomic_store_explicit(&s->last_step_ns, clock_mono_ns(), memory_order_relaxed);
    atomic_store_explicit(&s->running, (uint32_t)k->running, memory_order_relaxed);
}

static struct fake_job *find(struct fake *k, uint64_t id)
{
    for (struct link *l = k->jobs.next; l != &k->jobs; l = l->next)
        if (list_entry(l, struct fake_job, link)->id == id)
            return list_entry(l, struct fake_job, link);
    return NULL;
}

static void finish(struct fake *k, struct fake_job *j, enum finish_reason reason)
{
    uint32_t prompt = j->n_inputs ? 2 * j->n_inputs : (uint32_t)k->script.prompt_tokens;
    if (reason != FINISH_CANCELLED && !j->n_inputs)
        send_msg(k, &(struct msg){.type = REC_CHOICE_DONE,
                                  .job = j->id,
                                  .choice_done = {.reason = (uint16_t)reason,
                                                  .completion_tokens = j->pos,
                                                  .stop_index = -1}});
    send_msg(k, &(struct msg){
                    .type = REC_FINISHED,
                    .job = j->id,
                    .finished = {.reason = reason,
                                 .prompt_tokens = prompt,
                                 .completion_tokens = j->n_inputs ? 0 : j->pos,
                                 .computed_tokens = j->n_inputs ? 2 * j->pos : prompt + j->pos}});
    k->running -= j->admitted;
    list_remove(&j->link);
    free(j);
}

static void on_submit(struct fake *k, const struct msg *m)
{
    const unsigned char *p = shm_extent(&k->shm, m->submit.offset, m->submit.bytes);
    void *copy = malloc(m->submit.bytes ? m->submit.bytes : 1);
    struct fake_job *j = calloc(1, sizeof(*j));
    if (!p || !copy || !j)
        die("bad extent, or out of memory");
    memcpy(copy, p, m->submit.bytes);
    struct body body;
    struct errmsg why = {0};
    if (body_open(&body, copy, m->submit.bytes, &why) != ERR_OK)
        die(why.text);
    struct body_part part;
    for (size_t at = 0; body_next(&body, &at, &part);)
        if (part.kind == SECTION_REPLAY)
            j->pos = (uint32_t)body_part_replay(&part).n;
        else if (part.kind == SECTION_INPUT_TEXT || part.kind == SECTION_INPUT_TOKENS)
            j->n_inputs++;
    j->id = m->job;
    j->max_tokens = body.head.max_tokens;
    j->due_ns = clock_mono_ns();
    j->extent = m->submit.offset;
    free(copy);
    list_push_back(&k->jobs, &j->link);
    send_msg(k, &(struct msg){.type = REC_TAKEN, .taken = {.offset = m->submit.offset}});
}

static void handle(struct fake *k, const struct msg *m)
{
    struct fake_job *j = m->type == REC_SUBMIT ? NULL : find(k, m->job);
    if (m->type == REC_SUBMIT)
        on_submit(k, m);
    else if (j && m->type == REC_CANCEL)
        finish(k, j, FINISH_CANCELLED);
    else if (j && (m->type == REC_PAUSE || m->type == REC_RESUME))
        j->paused = m->type == REC_PAUSE;
    else if (m->type == REC_DRAIN)
        k->draining = !k->script.ignore_drain;
}

static void lie(struct fake *k, struct fake_job *j)
{
    const struct str how = k->script.lie;
    if (str_is(how, "job"))
        send_msg(k, &(struct msg){.type = REC_FINISHED, .job = j->id + 1000000});
    else if (str_is(how, "taken"))
        send_msg(k, &(struct msg){.type = REC_TAKEN, .taken = {.offset = 12345 * 64}});
    else if (str_is(how, "delta"))
        send_msg(k,
                 &(struct msg){.type = REC_DELTA, .job = j->id, .delta = {.head = {.choice = 99}}});
    else
        memset((char *)k->shm.events + 64, 0xff,
               256); /* the indexes, and whatever lies behind them */
    wake_send(k->news_fd);
}

/* One input of an embedding job. False: the job is gone. */
static bool embed(struct fake *k, struct fake_job *j)
{
    const struct str how = k->script.lie;
    const bool lies = j->pos == 1;
    const float values[4] = {(float)j->pos, 1, 2, 3};
    const struct rec_embedding head = {.index = j->pos + (lies && str_is(how, "order")),
                                       .n_dims = lies && str_is(how, "dims") ? 3 : 4,
                                       .n_tokens = 2};
    if (!(lies && str_is(how, "short"))) {
        send_msg(k, &(struct msg){.type = REC_EMBEDDING,
                                  .job = j->id,
                                  .embedding = {.head = head, .values = values}});
        j->pos++;
    }
    if (j->pos >= j->n_inputs || (lies && how.p)) {
        finish(k, j, FINISH_STOP);
        return false;
    }
    j->due_ns += (uint64_t)k->script.token_us * 1000;
    return true;
}

/* One token of one job. False: the job is gone. */
static bool step(struct fake *k, struct fake_job *j)
{
    const struct script *s = &k->script;
    if (s->fail.p) {
        send_msg(k, &(struct msg){.type = REC_FAILED,
                                  .job = j->id,
                                  .failed = {.head = {.err = ERR_TEMPLATE, .param = PARAM_MESSAGES},
                                             .message = s->fail}});
        list_remove(&j->link);
        free(j);
        return false;
    }
    if (!j->admitted) {
        if (k->running >= s->slots)
            return true;
        j->admitted = true;
        k->running++;
        send_msg(
            k, &(struct msg){.type = REC_ADMITTED,
                             .job = j->id,
                             .admitted = {.prompt_tokens = j->n_inputs ? 2 * j->n_inputs
                                                                       : (uint32_t)s->prompt_tokens,
                                          .context = 4096}});
    }
    if (s->lie.p && !j->n_inputs) {
        lie(k, j);
        return true;
    }
    if ((int64_t)j->pos == s->die_at && should_die(s)) {
        wake_send(k->news_fd);
        kill(getpid(), SIGKILL);
    }
    if ((int64_t)j->pos == s->stall_at && should_die(s))
        for (;;)
            pause();
    if (j->n_inputs)
        return embed(k, j);
    if (j->pos >= s->n_pieces) {
        finish(k, j, FINISH_STOP);
        return false;
    }
    int32_t id = (int32_t)j->pos;
    send_msg(k, &(struct msg){.type = REC_DELTA,
                              .job = j->id,
                              .delta = {.tokens = &id, .n_tokens = 1, .text = s->piece[j->pos]}});
    j->pos++;
    if (j->max_tokens && j->pos >= j->max_tokens) {
        finish(k, j, FINISH_LENGTH);
        return false;
    }
    j->due_ns += (uint64_t)s->token_us * 1000;
    return true;
}

static void serve(struct fake *k)
{
    for (;;) {
        struct ring_record rec;
        struct msg m;
        struct errmsg why = {0};
        while (ring_read(&k->in, &rec) == ERR_OK) {
            if (msg_read(&m, TO_WORKER, &rec, &why) != ERR_OK)
                die(why.text);
            handle(k, &m);
        }
        if (ring_writer_needs_wake(&k->in))
            wake_send(k->news_fd);
        if (k->draining && list_empty(&k->jobs))
            exit(0);
        uint64_t now = clock_mono_ns(), next = now + 250000000;
        for (struct link *l = k->jobs.next; l != &k->jobs;) {
            struct fake_job *j = list_entry(l, struct fake_job, link);
            l = l->next;
            while (!j->paused && j->due_ns <= now && step(k, j))
                if (!j->admitted || k->script.token_us || k->script.lie.p)
                    break;
        }
        for (struct link *l = k->jobs.next; l != &k->jobs; l = l->next) {
            struct fake_job *j = list_entry(l, struct fake_job, link);
            if (!j->paused && j->due_ns < next)
                next = j->due_ns;
        }
        bump(k);
        if (ring_reader_needs_wake(&k->out))
            wake_send(k->news_fd);
        now = clock_mono_ns();
        if (ring_reader_arm(&k->in) && next > now)
            (void)!wake_wait(k->work_fd,
                             (int)((next - now) / 1000000) + (k->script.token_us < 1000 ? 0 : 1));
    }
}

static int inspect(const struct script *s)
{
    if (s->inspect_fail.p) {
        fprintf(stderr, "millrace-worker inspect: " STR_FMT "\n", STR_ARG(s->inspect_fail));
        return 1;
    }
    printf("{\"runs\":true,\"refusal\":\"\",\"quantization\":\"FAKE\",\"context\":4096,"
           "\"kv_bytes_per_token\":1,\"weight_bytes\":%lld,\"kv_bytes\":%lld}\n",
           (long long)s->weight_bytes, (long long)s->kv_bytes);
    return 0;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc < 3 || (strcmp(argv[1], "serve") != 0 && strcmp(argv[1], "inspect") != 0))
        die("usage: fakeworker serve SCRIPT --shm-fd N --work-fd N --news-fd N");
    static struct fake k;
    int shm_fd = -1;
    k.work_fd = k.news_fd = -1;
    for (int i = 3; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--shm-fd") == 0)
            shm_fd = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--work-fd") == 0)
            k.work_fd = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--news-fd") == 0)
            k.news_fd = atoi(argv[i + 1]);
    }
    struct arena arena;
    arena_init(&arena, 0);
    list_init(&k.jobs);
    buf_init(&k.scratch);
    script_load(&k.script, &arena, argv[2]);
    if (strcmp(argv[1], "inspect") == 0)
        return inspect(&k.script);
    struct errmsg why = {0};
    if (shm_attach(&k.shm, shm_fd, shm_build_id(), &why) != ERR_OK ||
        ring_reader_open(&k.in, k.shm.submit, k.shm.head.submit_bytes) != ERR_OK ||
        ring_writer_open(&k.out, k.shm.events, k.shm.head.event_bytes) != ERR_OK)
        die(why.text);
    atomic_store(&k.shm.status->state, WORKER_LOADING);
    usleep((useconds_t)k.script.load_ms * 1000);
    if (k.script.load_die && should_die(&k.script))
        kill(getpid(), SIGKILL);
    if (k.script.refuse.p) {
        send_msg(&k, &(struct msg){.type = REC_FATAL, .text = k.script.refuse});
        wake_send(k.news_fd);
        return 1;
    }
    send_msg(&k, &(struct msg){.type = REC_MODEL_INFO, .text = STR("{\"context\":4096}")});
    bump(&k);
    atomic_store(&k.shm.status->state, WORKER_READY);
    wake_send(k.news_fd);
    serve(&k);
}
