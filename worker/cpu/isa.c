/* isa.c - what the processor and the operating system offer, asked once. */
#include "worker/cpu/isa.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[] = {"c", "avx2", "avx512", "amx"};

const char *cpu_isa_name(enum cpu_isa isa)
{
    return names[isa];
}

enum cpu_isa cpu_isa_hardware(void)
{
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    int f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    /* __builtin_cpu_supports() also asks whether the OS saves the wide registers. */
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return CPU_ISA_C;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        return CPU_ISA_AVX512;
    return CPU_ISA_AVX2;
#else
    return CPU_ISA_C;
#endif
}

enum err cpu_isa_wanted(enum cpu_isa *out, struct errmsg *why)
{
    const char *env = getenv("MILLRACE_CPU_ISA");
    enum cpu_isa have = cpu_isa_hardware();
    if (!env || !*env) {
        *out = have;
        return ERR_OK;
    }
    for (int i = CPU_ISA_C; i <= CPU_ISA_AVX512; i++) {
        if (strcmp(env, names[i]) != 0)
            continue;
        if (i > (int)have)
            return err_set(why, ERR_UNSUPPORTED, "MILLRACE_CPU_ISA=%s: this machine has only '%s'",
                           env, names[have]);
        *out = (enum cpu_isa)i;
        return ERR_OK;
    }
    return err_set(why, ERR_INVALID, "MILLRACE_CPU_ISA=%s: use c, avx2 or avx512", env);
}

enum cpu_isa cpu_isa_best(void)
{
    enum cpu_isa isa = CPU_ISA_C;
    return cpu_isa_wanted(&isa, NULL) == ERR_OK ? isa : cpu_isa_hardware();
}
