/* gpus.c - see gpus.h. */
#include "worker/plan/gpus.h"

#include "worker/plan/shapes.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
static const struct gpu_model gpus[] = {
    {"B200-180GB",       183359, 8000},
    {"H200-141GB",       143771, 4800},
    {"H100-80GB",         81559, 3350}, /* SXM */
    {"H100-PCIe-80GB",    81559, 2039},
    {"H100-NVL-94GB",     95830, 3938},
    {"H800-80GB",         81559, 3350},
    {"H20-96GB",          97871, 4000},
    {"A100-80GB",         81920, 2039}, /* SXM */
    {"A100-PCIe-80GB",    81920, 1935},
    {"A100-40GB",         40960, 1555},
    {"A800-80GB",         81920, 2039},
    {"L40S-48GB",         46068,  864},
    {"L40-48GB",          46068,  864},
    {"L20-48GB",          46068,  864},
    {"L4-24GB",           23034,  300},
    {"A40-48GB",          46068,  696},
    {"A30-24GB",          24576,  933},
    {"A10-24GB",          23028,  600},
    {"RTX6000Ada-48GB",   49140,  960},
    {"A6000-48GB",        49140,  768},
    {"A5000-24GB",        24564,  768},
    {"A4000-16GB",        16376,  448},
    {"V100-32GB",         32768,  900},
    {"V100-16GB",         16384,  900},
    {"T4-16GB",           15360,  320},
    {"P40-24GB",          23040,  346},
    {"RTX5090-32GB",      32607, 1792},
    {"RTX5080-16GB",      16303,  960},
    {"RTX4090-24GB",      24564, 1008},
    {"RTX4090D-24GB",     24564, 1008},
    {"RTX4080-16GB",      16376,  717},
    {"RTX4070-12GB",      12282,  504},
    {"RTX4060Ti-16GB",    16380,  288},
    {"RTX4060-8GB",        8188,  272},
    {"RTX3090-24GB",      24576,  936},
    {"RTX3080-10GB",      10240,  760},
    {"RTX3060-12GB",      12288,  360},
    {"RTX2080Ti-11GB",    11264,  616},
};
// clang-format on
enum { GPUS = sizeof gpus / sizeof *gpus, NAME_MAX_ = 64 };

const struct gpu_model *gpu_at(int i)
{
    return i >= 0 && i < GPUS ? &gpus[i] : NULL;
}

/* Capital letters and digits alone. */
static void plain(char out[NAME_MAX_], const char *name)
{
    size_t n = 0;
    for (; *name && n + 1 < NAME_MAX_; name++)
        if (isalnum((unsigned char)*name))
            out[n++] = (char)toupper((unsigned char)*name);
    out[n] = '\0';
}

/* The name without its size, as plain(). */
static void plain_model(char out[NAME_MAX_], const struct gpu_model *g)
{
    char model[NAME_MAX_];
    snprintf(model, sizeof model, "%.*s", (int)(strrchr(g->name, '-') - g->name), g->name);
    plain(out, model);
}

static enum err unknown(const char *name, struct errmsg *why)
{
    char list[200], key[NAME_MAX_], other[NAME_MAX_];
    size_t at = 0;
    int listed = 0;
    list[0] = '\0';
    plain(key, name);
    const size_t model =
        strcspn(key, "0123456789") + strspn(key + strcspn(key, "0123456789"), "0123456789");
    for (unsigned far = 0; far < 16 && listed < 4; far++)
        for (int i = 0; i < GPUS && listed < 6; i++) {
            plain(other, gpus[i].name);
            const bool same_model = model > 1 && strncmp(key, other, model < 4 ? model : 4) == 0;
            if ((same_model ? 0 : text_distance(key, other)) != far || at + 32 > sizeof list)
                continue;
            at += (size_t)snprintf(list + at, sizeof list - at, " %s", gpus[i].name);
            listed++;
        }
    return err_set(why, ERR_NOT_FOUND,
                   "no GPU '%.40s' is known here; near names:%s; for another one say --gpu-memory "
                   "SIZE --bandwidth GB/S",
                   name, list);
}

enum err gpu_find(const struct gpu_model **out, const char *name, struct errmsg *why)
{
    char key[NAME_MAX_], other[NAME_MAX_], list[160];
    const struct gpu_model *found = NULL;
    int n = 0;
    size_t at = 0;
    plain(key, strncmp(name, "NVIDIA ", 7) == 0 ? name + 7 : name);
    for (int i = 0; i < GPUS; i++) {
        plain(other, gpus[i].name);
        if (strcmp(key, other) == 0) {
            *out = &gpus[i];
            return ERR_OK;
        }
        plain_model(other, &gpus[i]);
        if (strcmp(key, other) == 0) {
            found = &gpus[i];
            n++;
            if (at + 32 < sizeof list)
                at += (size_t)snprintf(list + at, sizeof list - at, " %s", gpus[i].name);
        }
    }
    if (n > 1)
        return err_set(why, ERR_INVALID, "there are several GPUs '%.40s': say which of%s", name,
                       list);
    if (!found)
        return unknown(name, why);
    *out = found;
    return ERR_OK;
}

const struct gpu_model *gpu_recognise(const char *driver_name, uint64_t mib)
{
    char key[NAME_MAX_], other[NAME_MAX_];
    const struct gpu_model *best = NULL;
    size_t longest = 0;
    plain(key, driver_name);
    for (int i = 0; i < GPUS; i++) {
        plain_model(other, &gpus[i]);
        const uint64_t want = gpus[i].mib;
        if (strstr(key, other) && strlen(other) > longest && mib * 20 > want * 19 &&
            mib * 20 < want * 21) {
            best = &gpus[i];
            longest = strlen(other);
        }
    }
    return best;
}
