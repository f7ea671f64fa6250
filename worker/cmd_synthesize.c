/* cmd_synthesize.c - `millrace-worker synthesize OUT.gguf ...`: a model of random weights, of any
 * shape. */
#include "shared/base/clock.h"
#include "worker/cmd_io.h"
#include "worker/commands.h"
#include "worker/synth/synth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEMPLATE_MAX = 1 << 20 };

static int print_usage(FILE *f, int status)
{
    char presets[128];
    synth_preset_names(presets, sizeof presets);
    fprintf(f,
            "usage: millrace-worker synthesize OUT.gguf [--preset P] [--arch A] [--params "
            "NAME=V,...] [--quant Q]\n"
            "  --preset P            a published shape: %s\n"
            "  --arch A              llama, qwen2 ...\n"
            "  --params LIST         NAME=VALUE,... or a preset; each NAME is an option too "
            "(--layers 4):\n"
            "                       ",
            presets);
    int at = 0;
    for (int i = 0; i < SYNTH_NUMBERS_; i++) {
        static const char *const options[] = {
#define X(id, option, key, is_float) option,
            SYNTH_NUMBERS(X)
#undef X
        };
        at += fprintf(f, " %s", options[i]);
        if (at > 70 && i + 1 < SYNTH_NUMBERS_) {
            fprintf(f, "\n                       ");
            at = 0;
        }
    }
    fprintf(f, "\n"
               "  --quant Q             Q8_0 (default), F16, Q4_0, Q4_K, Q4_K_M, IQ4_XS ...; "
               "--pure: every matrix\n"
               "  --tie | --untie       with or without a matrix of its own for the output\n"
               "  --rope-freqs          with Llama 3.1's frequency factors\n"
               "  --seed N              the same seed gives the same file (default 1)\n"
               "  --chat-template FILE  instead of ChatML    --pre NAME  tokenizer.ggml.pre\n");
    return status;
}

static int unusable(const struct errmsg *why)
{
    fprintf(stderr, "millrace-worker synthesize: %s\n", why->text);
    return EXIT_USAGE;
}

static enum err read_template(struct buf *out, const char *path, struct errmsg *why)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    if (buf_reserve(out, TEMPLATE_MAX))
        out->n = fread(out->p, 1, TEMPLATE_MAX, f);
    bool whole = !ferror(f) && fgetc(f) == EOF && !out->failed;
    fclose(f);
    return whole ? ERR_OK
                 : err_set(why, ERR_IO, "%s: not readable, or larger than %d bytes", path,
                           TEMPLATE_MAX);
}

/* Switches, options with a text, and every number of the table. */
static enum err take_option(struct synth_params *p, struct buf *tmpl, const char *name,
                            const char *value, int *used, struct errmsg *why)
{
    *used = 1;
    if (strcmp(name, "tie") == 0)
        p->tie = YES;
    else if (strcmp(name, "untie") == 0)
        p->tie = NO;
    else if (strcmp(name, "rope-freqs") == 0)
        p->rope_freqs = true;
    else if (strcmp(name, "pure") == 0)
        p->pure = true;
    else if (!value)
        return err_set(why, ERR_INVALID, "--%s needs a value, or is no option", name);
    else {
        *used = 2;
        if (strcmp(name, "preset") == 0)
            return synth_use_preset(p, value, why);
        if (strcmp(name, "params") == 0)
            return synth_set_list(p, value, why);
        if (strcmp(name, "arch") == 0)
            snprintf(p->arch, sizeof p->arch, "%s", value);
        else if (strcmp(name, "quant") == 0)
            snprintf(p->quant, sizeof p->quant, "%s", value);
        else if (strcmp(name, "pre") == 0)
            p->pre = value;
        else if (strcmp(name, "seed") == 0)
            return str_to_u64(str_of(value), UINT64_MAX, &p->seed)
                       ? ERR_OK
                       : err_set(why, ERR_RANGE, "--seed: '%s' is no whole number", value);
        else if (strcmp(name, "chat-template") == 0) {
            enum err e = read_template(tmpl, value, why);
            p->tmpl = (struct str){tmpl->p, tmpl->n};
            return e;
        } else
            return synth_set_number(p, str_of(name), str_of(value), why);
    }
    return ERR_OK;
}

static int run(const char *path, const struct synth_params *p)
{
    struct synth_result r;
    struct errmsg why = {{0}};
    uint64_t start = clock_mono_ms();
    enum err e = synth_write(path, p, &r, &why);
    if (e == ERR_NOT_FOUND || e == ERR_RANGE)
        return unusable(&why);
    if (e)
        return cmd_failed("synthesize", &why);
    printf("%s: %s, %.2f million parameters in %llu tensors, %s, %.1f MB, %.1f s\n", path, p->arch,
           (double)r.n_params / 1e6, (unsigned long long)r.n_tensors, p->quant,
           (double)r.file_bytes / 1e6, (double)(clock_mono_ms() - start) / 1e3);
    return EXIT_DONE;
}

int cmd_synthesize(int argc, char **argv)
{
    struct synth_params p;
    struct buf tmpl;
    struct errmsg why = {{0}};
    const char *path = NULL;
    synth_params_init(&p);
    buf_init(&tmpl);
    int status = -1;
    for (int i = 1, used = 1; i < argc && status < 0; i += used) {
        used = 1;
        if (strcmp(argv[i], "--help") == 0)
            status = print_usage(stdout, EXIT_DONE);
        else if (strncmp(argv[i], "--", 2) == 0) {
            if (take_option(&p, &tmpl, argv[i] + 2, i + 1 < argc ? argv[i + 1] : NULL, &used, &why))
                status = unusable(&why);
        } else if (path)
            status = print_usage(stderr, EXIT_USAGE);
        else
            path = argv[i];
    }
    if (status < 0 && !path)
        status = print_usage(stderr, EXIT_USAGE);
    if (status < 0 && synth_params_finish(&p, &why))
        status = unusable(&why);
    if (status < 0)
        status = run(path, &p);
    buf_fini(&tmpl);
    return status;
}
