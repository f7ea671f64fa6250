/* cmd_plan.c - `millrace-worker plan MODEL ...`: what fits, on how many GPUs, and about how fast.
 */
#include "worker/cmd_io.h"
#include "worker/commands.h"
#include "worker/plan/gpus.h"
#include "worker/plan/report.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct plan_args {
    const char *model, *quant, *gpu;
    uint32_t count;
    uint64_t gpu_memory, ram;
    double bandwidth;
    bool cpu, thumb, json, counted;
    struct load load;
};

static int print_usage(FILE *f, int status)
{
    fputs(
        "usage: millrace plan MODEL [--quant Q] [--context N] [--slots N] [machine] [--json]\n"
        "       millrace plan --rule-of-thumb [--context N] [--slots N] [--json]\n\n"
        "MODEL is a GGUF file, a name (deepseek-r1:7b, llama3.1:8b-q8_0) or a size (70B).\n\n"
        "  --quant Q          of a name or a size: F16, Q8_0, Q4_K_M (the default) ...\n"
        "  --context N        tokens of one request (8192, or what the model has)\n"
        "  --slots N          requests at a time (1)\n"
        "  --kv-type T        f16 (default), f32, bf16 or q8_0\n"
        "  --step-tokens N    tokens of one engine step (512)\n"
        "  --rule-of-thumb    the usual table, and the computed need beside it\n"
        "  --json             for programs\n"
        "  --models-dir DIR, --data DIR, --ollama-models DIR|auto: where pulled models lie, which\n"
        "                     are planned by their own file unless --quant asks for another\n\n"
        "The machine is this one, with the GPUs that nvidia-smi finds, unless it is said:\n"
        "  --gpu NAME         H100-80GB, A100-40GB, RTX4090 ...       --count N  of them (1)\n"
        "  --gpu-memory SIZE  of one that is not listed, such as 24G\n"
        "  --cpu              the processor, also where there are GPUs\n"
        "  --memory SIZE      free memory of the processor, such as 64G\n"
        "  --bandwidth GB/S   of that memory, instead of measuring or the data sheet\n\n"
        "Speeds are estimates from bandwidth; nothing is run on a GPU.\n",
        f);
    return status;
}

/* --- the arguments --------------------------------------------------------------------------- */

static enum err take_u32(const char *name, const char *text, uint32_t max, uint32_t *out,
                         struct errmsg *why)
{
    uint64_t v;
    if (!str_to_u64(str_of(text), max, &v) || v == 0)
        return err_set(why, ERR_RANGE, "%s '%.40s': a whole number from 1 to %u is wanted", name,
                       text, max);
    *out = (uint32_t)v;
    return ERR_OK;
}

static enum err take_size(const char *name, const char *text, uint64_t *out, struct errmsg *why)
{
    if (!str_to_bytes(str_of(text), out))
        return err_set(why, ERR_RANGE, "%s '%.40s': a size such as 24G is wanted", name, text);
    if (*out < 1 << 20 || *out > 1000000000000000u)
        return err_set(why, ERR_RANGE, "%s '%.40s': not within 1M to 900T", name, text);
    return ERR_OK;
}

static enum err take_value(struct plan_args *a, const char *o, const char *v, struct errmsg *why)
{
    if (strcmp(o, "--quant") == 0)
        a->quant = v;
    else if (strcmp(o, "--gpu") == 0)
        a->gpu = v;
    else if (strcmp(o, "--count") == 0) {
        a->counted = true;
        return take_u32(o, v, GPUS_MAX, &a->count, why);
    } else if (strcmp(o, "--context") == 0)
        return take_u32(o, v, 1 << 30, &a->load.context, why);
    else if (strcmp(o, "--slots") == 0)
        return take_u32(o, v, SLOTS_LIMIT, &a->load.slots, why);
    else if (strcmp(o, "--step-tokens") == 0)
        return take_u32(o, v, 1 << 16, &a->load.step_tokens, why);
    else if (strcmp(o, "--gpu-memory") == 0)
        return take_size(o, v, &a->gpu_memory, why);
    else if (strcmp(o, "--memory") == 0)
        return take_size(o, v, &a->ram, why);
    else if (strcmp(o, "--bandwidth") == 0)
        return str_to_f64(str_of(v), &a->bandwidth) && a->bandwidth > 0 && a->bandwidth < 1e6
                   ? ERR_OK
                   : err_set(why, ERR_RANGE, "--bandwidth '%.40s': 10^9 bytes a second are wanted",
                             v);
    else if (strcmp(o, "--kv-type") == 0) {
        const int t = qtype_by_name(v);
        if (t != QTYPE_F16 && t != QTYPE_F32 && t != QTYPE_BF16 && t != QTYPE_Q8_0)
            return err_set(why, ERR_INVALID, "--kv-type '%.40s': write f16, f32, bf16 or q8_0", v);
        a->load.kv_type = (enum qtype)t;
    } else
        return err_set(why, ERR_INVALID, "unknown option '%.40s'", o);
    return ERR_OK;
}

static enum err read_args(struct plan_args *a, int argc, char **argv, struct errmsg *why)
{
    for (int i = 1; i < argc; i++) {
        const char *o = argv[i];
        if (strcmp(o, "--cpu") == 0)
            a->cpu = true;
        else if (strcmp(o, "--rule-of-thumb") == 0)
            a->thumb = true;
        else if (strcmp(o, "--json") == 0)
            a->json = true;
        else if (o[0] != '-' && a->model)
            return err_set(why, ERR_INVALID, "'%.60s' is a second model", o);
        else if (o[0] != '-')
            a->model = o;
        else if (i + 1 == argc)
            return err_set(why, ERR_INVALID, "'%.40s': no value after it, or no such option", o);
        else {
            const enum err e = take_value(a, o, argv[++i], why);
            if (e)
                return e;
        }
    }
    const bool gpu = a->gpu || a->gpu_memory;
    if (!a->model && !a->thumb)
        return err_set(why, ERR_INVALID, "MODEL is missing: a file, a name or a size such as 70B");
    if (a->thumb &&
        (a->model || a->quant || gpu || a->counted || a->cpu || a->ram || a->bandwidth > 0))
        return err_set(why, ERR_INVALID,
                       "--rule-of-thumb has its own models and GPUs: only --context, --slots, "
                       "--kv-type and --json go with it");
    if (a->gpu && a->gpu_memory)
        return err_set(why, ERR_INVALID, "--gpu knows its memory: leave out --gpu-memory");
    if (gpu && (a->cpu || a->ram))
        return err_set(why, ERR_INVALID, "--gpu and --cpu (or --memory) exclude each other");
    if (a->counted && !gpu)
        return err_set(why, ERR_INVALID, "--count needs --gpu or --gpu-memory");
    return ERR_OK;
}

/* --- the machine ----------------------------------------------------------------------------- */

static enum err said_gpus(struct machine *m, const struct plan_args *a, struct errmsg *why)
{
    *m = (struct machine){.gpus = true, .n_gpus = a->count ? a->count : 1};
    if (a->gpu) {
        const struct gpu_model *g;
        const enum err e = gpu_find(&g, a->gpu, why);
        if (e)
            return e;
        snprintf(m->gpu_name, sizeof m->gpu_name, "%s", g->name);
        m->gpu_bytes = (uint64_t)g->mib << 20;
        m->gpu_gb_s = g->gb_s;
    } else {
        snprintf(m->gpu_name, sizeof m->gpu_name, "GPU");
        m->gpu_bytes = a->gpu_memory;
    }
    return ERR_OK;
}

static enum err find_machine(struct machine *m, const struct plan_args *a, struct errmsg *why)
{
    enum err e = ERR_OK;
    if (a->gpu || a->gpu_memory) {
        e = said_gpus(m, a, why);
    } else {
        e = machine_detect(m, !a->cpu && !a->ram, why);
        if (a->ram) {
            m->ram_free_bytes = a->ram;
            m->ram_bytes = a->ram > m->ram_bytes ? a->ram : m->ram_bytes;
            m->ram_detected = false;
        }
    }
    if (e)
        return e;
    if (a->bandwidth > 0) {
        *(m->gpus ? &m->gpu_gb_s : &m->ram_gb_s) = a->bandwidth;
        *(m->gpus ? &m->gpu_gb_s_given : &m->ram_gb_s_given) = true;
    } else if (!m->gpus) {
        m->ram_gb_s = machine_measure_gb_s(m->cores, m->ram_free_bytes);
    }
    return ERR_OK;
}

/* --- the command ----------------------------------------------------------------------------- */

static bool is_path(const char *text)
{
    const size_t n = strlen(text);
    return access(text, F_OK) == 0 || strchr(text, '/') ||
           (n > 5 && strcasecmp(text + n - 5, ".gguf") == 0);
}

static enum err open_subject(struct subject *s, const struct plan_args *a, struct errmsg *why)
{
    if (!is_path(a->model))
        return subject_open_shape(s, a->model, a->quant, why);
    if (a->quant)
        return err_set(why, ERR_INVALID,
                       "--quant: the file has its own; plan for a size or a name to compare");
    return subject_open_file(s, a->model, why);
}

static enum err run(const struct plan_args *a, struct buf *out, struct errmsg *why)
{
    if (a->thumb)
        return (a->json ? thumb_json : thumb_text)(&a->load, out, why);
    struct subject s;
    struct machine m;
    struct plan p;
    enum err e = open_subject(&s, a, why);
    if (e)
        return e;
    e = find_machine(&m, a, why);
    if (!e)
        e = plan_make(&p, &s, &m, &a->load, why);
    if (!e)
        (a->json ? plan_json : plan_text)(&p, out);
    subject_fini(&s);
    return e;
}

int cmd_plan(int argc, char **argv)
{
    struct plan_args a = {.load = {.kv_type = QTYPE_F16}};
    struct errmsg why = {{0}};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return print_usage(stdout, EXIT_DONE);
    if (read_args(&a, argc, argv, &why)) {
        fprintf(stderr, "millrace plan: %s\n", why.text);
        return EXIT_USAGE;
    }
    struct buf out;
    buf_init(&out);
    enum err e = run(&a, &out, &why);
    if (!e)
        e = out.failed ? err_set(&why, ERR_NOMEM, "out of memory")
                       : cmd_write_stdout(out.p, out.n, &why);
    buf_fini(&out);
    if (!e)
        return EXIT_DONE;
    fprintf(stderr, "millrace plan: %s\n", why.text);
    return EXIT_FAILED;
}
