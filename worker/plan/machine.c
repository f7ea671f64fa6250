/* machine.c - see machine.h. */
#include "worker/plan/machine.h"

#include "shared/base/clock.h"
#include "worker/plan/gpus.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* --- memory and cores ------------------------------------------------------------------------ */

static bool read_number_file(const char *path, uint64_t *out)
{
    FILE *f = fopen(path, "r");
    unsigned long long v;
    const bool ok = f && fscanf(f, "%llu", &v) == 1; /* "max" is no number */
    if (f)
        fclose(f);
    if (ok)
        *out = v;
    return ok;
}

static void detect_memory(struct machine *m)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    unsigned long long kib;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %llu", &kib) == 1)
            m->ram_bytes = kib << 10;
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            m->ram_free_bytes = kib << 10;
    }
    if (f)
        fclose(f);
    /* In a container the group's limit counts. */
    uint64_t most, used;
    if (read_number_file("/sys/fs/cgroup/memory.max", &most) && most < m->ram_bytes) {
        m->ram_bytes = most;
        used = 0;
        (void)read_number_file("/sys/fs/cgroup/memory.current", &used);
        const uint64_t left = most > used ? most - used : 0;
        if (left < m->ram_free_bytes)
            m->ram_free_bytes = left;
    }
    m->ram_detected = true;
}

static int count_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return CPU_COUNT(&set) < 1 ? 1 : CPU_COUNT(&set);
}

/* --- bandwidth ------------------------------------------------------------------------------- */

enum { PASSES = 3, THREADS_MAX = 512 };

struct reader {
    pthread_t thread;
    const uint64_t *from;
    size_t n;
    uint64_t sum;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i + 4 <= r->n; i += 4) {
        a += r->from[i];
        b += r->from[i + 1];
        c += r->from[i + 2];
        d += r->from[i + 3];
    }
    r->sum = a + b + c + d;
    return NULL;
}

/* One pass of all threads; 0: not all could be started. Starting takes microseconds, reading tens
 * of milliseconds. */
static double read_once(struct reader *r, int n, size_t bytes)
{
    volatile uint64_t sink = 0; /* the sums are wanted */
    int started = 0;
    const uint64_t began = clock_mono_ns();
    while (started < n && pthread_create(&r[started].thread, NULL, read_all, &r[started]) == 0)
        started++;
    for (int i = 0; i < started; i++) {
        pthread_join(r[i].thread, NULL);
        sink += r[i].sum;
    }
    const uint64_t ns = clock_mono_ns() - began;
    (void)sink;
    return started == n && ns ? (double)bytes / (double)ns : 0;
}

double machine_measure_gb_s(int threads, uint64_t free_bytes)
{
    size_t bytes = (size_t)384 << 20; /* more than caches hold */
    if (bytes > free_bytes / 4)
        bytes = (size_t)(free_bytes / 4);
    threads = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    bytes -= bytes % ((size_t)threads * 4096);
    if (bytes < (size_t)64 << 20)
        return 0;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct reader *r = calloc((size_t)threads, sizeof *r);
    double best = 0;
    if (p != MAP_FAILED && r) {
        memset(p, 1, bytes); /* pages of their own, not the one of zeros */
        const size_t each = bytes / (size_t)threads / sizeof(uint64_t);
        for (int i = 0; i < threads; i++)
            r[i] = (struct reader){.from = (const uint64_t *)p + (size_t)i * each, .n = each};
        /* The best pass: the others were disturbed. */
        for (int pass = 0; pass < PASSES; pass++) {
            const double gb_s = read_once(r, threads, bytes);
            best = gb_s > best ? gb_s : best;
        }
    }
    free(r);
    if (p != MAP_FAILED)
        munmap(p, bytes);
    return best;
}

/* --- nvidia-smi ------------------------------------------------------------------------------ */

enum { SMI_MS = 5000, SMI_TEXT = 1 << 16 };

/* What the program writes; ERR_NOT_FOUND: there is no such program. */
static enum err ask_smi(char text[SMI_TEXT], struct errmsg *why)
{
    static const char *const argv[] = {"nvidia-smi", "--query-gpu=name,memory.total",
                                       "--format=csv,noheader,nounits", NULL};
    int fd[2];
    pid_t pid;
    text[0] = '\0';
    if (pipe2(fd, O_CLOEXEC) != 0)
        return err_set(why, ERR_IO, "nvidia-smi: %s", strerror(errno));
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, fd[1], 1);
    posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
    const int rc = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(fd[1]);
    if (rc) {
        close(fd[0]);
        return rc == ENOENT ? ERR_NOT_FOUND : err_set(why, ERR_IO, "nvidia-smi: %s", strerror(rc));
    }
    size_t n = 0;
    const uint64_t end = clock_mono_ms() + SMI_MS;
    bool late = false;
    for (;;) {
        const uint64_t now = clock_mono_ms();
        struct pollfd p = {.fd = fd[0], .events = POLLIN};
        late = now >= end || poll(&p, 1, (int)(end - now)) == 0;
        const ssize_t k = late ? 0 : read(fd[0], text + n, SMI_TEXT - 1 - n);
        if (k <= 0)
            break;
        n += (size_t)k;
    }
    text[n] = '\0';
    close(fd[0]);
    if (late)
        kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (late)
        return err_set(why, ERR_IO, "nvidia-smi gave no answer within %d s", SMI_MS / 1000);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return ERR_NOT_FOUND;
    if (status)
        return err_set(why, ERR_IO,
                       "nvidia-smi failed (status %d): say --gpu NAME --count N, or --cpu",
                       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return ERR_OK;
}

bool machine_read_smi_line(const char *line, char name[64], uint64_t *mib)
{
    const char *comma = strrchr(line, ',');
    char *end;
    if (!comma || comma == line)
        return false;
    const unsigned long long v = strtoull(comma + 1, &end, 10);
    if (end == comma + 1 || v == 0 || v > 1u << 24 || (*end && !strchr(" \r\n", *end)))
        return false;
    int n = (int)(comma - line < 63 ? comma - line : 63);
    for (int i = 0; i < n; i++)
        name[i] = line[i] >= ' ' && line[i] < 127 ? line[i] : '?';
    name[n] = '\0';
    *mib = v;
    return true;
}

struct kind {
    char name[64];
    uint64_t mib;
    uint32_t n;
};

static void take_kinds(struct machine *m, const struct kind *kinds, int n)
{
    const struct kind *most = &kinds[0];
    uint32_t all = 0;
    for (int i = 0; i < n; i++) {
        all += kinds[i].n;
        if (kinds[i].n > most->n || (kinds[i].n == most->n && kinds[i].mib > most->mib))
            most = &kinds[i];
    }
    const struct gpu_model *g = gpu_recognise(most->name, most->mib);
    snprintf(m->gpu_name, sizeof m->gpu_name, "%s", most->name);
    m->n_gpus = most->n;
    m->n_other_gpus = all - most->n;
    m->gpu_bytes = most->mib << 20;
    m->gpu_gb_s = g ? g->gb_s : 0;
    m->gpus = m->gpus_detected = true;
}

static enum err detect_gpus(struct machine *m, struct errmsg *why)
{
    enum { KINDS = 16 };
    struct kind kinds[KINDS];
    int n = 0;
    char *text = malloc(SMI_TEXT), *rest = NULL;
    if (!text)
        return err_set(why, ERR_NOMEM, "out of memory");
    enum err e = ask_smi(text, why);
    if (e == ERR_OK)
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            struct kind k = {.n = 1};
            int i = 0;
            if (!machine_read_smi_line(line, k.name, &k.mib))
                continue;
            while (i < n && (strcmp(kinds[i].name, k.name) != 0 || kinds[i].mib != k.mib))
                i++;
            if (i < n)
                kinds[i].n++;
            else if (n < KINDS)
                kinds[n++] = k;
        }
    free(text);
    if (e && e != ERR_NOT_FOUND)
        return e;
    if (!e && n)
        take_kinds(m, kinds, n);
    return ERR_OK;
}

enum err machine_detect(struct machine *m, bool with_gpus, struct errmsg *why)
{
    *m = (struct machine){.cores = count_cores()};
    detect_memory(m);
    return with_gpus ? detect_gpus(m, why) : ERR_OK;
}
