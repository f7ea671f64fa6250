/* synth_model.h - small random models of any row of the architecture table, for test programs. */
#ifndef MILLRACE_TESTS_SYNTH_MODEL_H
#define MILLRACE_TESTS_SYNTH_MODEL_H

#include "tests/support/test.h"
#include "worker/model/arch.h"
#include "worker/synth/synth.h"

#include <stdio.h>

static inline struct synth_result synth_model(const char *to, const char *arch, const char *quant,
                                              const char *params, uint64_t seed)
{
    struct synth_params p;
    struct synth_result r = {0};
    struct errmsg why = {{0}};
    synth_params_init(&p);
    p.seed = seed;
    snprintf(p.arch, sizeof p.arch, "%s", arch);
    snprintf(p.quant, sizeof p.quant, "%s", quant);
    if (synth_set_list(&p, params, &why) || synth_params_finish(&p, &why) ||
        synth_write(to, &p, &r, &why))
        fail_msg("%s %s %s: %s", arch, quant, params, why.text);
    return r;
}

static inline bool arch_has(const struct arch *a, enum slot s)
{
    for (const struct tensor_need *n = a->tensors; n->need != NEED_END_; n++)
        if (n->slot == s)
            return true;
    return false;
}

/* What a row needs beyond layers, widths and heads, for SMALL shapes. */
static inline const char *arch_extras(const struct arch *a)
{
    if (a->attn == ATTN_MLA)
        return ",q-lora=64,kv-lora=32,head-dim=48,value-dim=32,rot=16,experts=4,experts-used=2,"
               "expert-ff=256,shared-ff=256";
    return arch_has(a, MOE_GATE) ? ",experts=4,experts-used=2,expert-ff=256,shared-ff=256" : "";
}

#endif
