/* mix.c - the mixes of llama.cpp's quantize tool as rows, so that a synthetic file has the sizes
 * and the memory traffic of a published one. */
#include "worker/synth/mix.h"

#include <stdio.h>
#include <strings.h>

/* Sets of layers, as a function of layer and number of layers. */
enum layers {
    ALL,
    MORE,      /* the first and last eighth, and every third between */
    EIGHTH,    /* the first eighth */
    SIXTEENTH, /* the first sixteenth */
    FIRST_4,
    FIRST_2
};

static bool in_layers(enum layers set, int il, int n)
{
    switch (set) {
    case ALL:
        return true;
    case MORE:
        return il < n / 8 || il >= 7 * n / 8 || (il - n / 8) % 3 == 2;
    case EIGHTH:
        return il < n / 8;
    case SIXTEENTH:
        return il < n / 16;
    case FIRST_4:
        return il < 4;
    case FIRST_2:
        return il < 2;
    }
    return false;
}

enum part { PART_END, PART_V, PART_QKV, PART_O, PART_DOWN, PART_EXPERTS };

struct rule {
    enum part part;
    enum layers layers;
    enum qtype type;
};

/* The first rule that fits wins; what none fits has the base type. */
struct mix {
    const char *name;
    uint32_t file_type;
    enum qtype base;
    struct rule rules[6];
};

// clang-format off
#define PLAIN(type, id) {#type, id, QTYPE_##type, {{PART_END, ALL, 0}}}
static const struct mix mixes[] = {
    PLAIN(F32, 0), PLAIN(F16, 1), PLAIN(BF16, 32),
    PLAIN(Q4_0, 2), PLAIN(Q4_1, 3), PLAIN(Q8_0, 7), PLAIN(Q5_0, 8), PLAIN(Q5_1, 9),
    PLAIN(Q2_K, 10), PLAIN(Q3_K, 11), PLAIN(Q4_K, 14), PLAIN(Q5_K, 16), PLAIN(Q6_K, 18),
    PLAIN(IQ2_XXS, 19), PLAIN(IQ2_XS, 20), PLAIN(IQ3_XXS, 23), PLAIN(IQ1_S, 24), PLAIN(IQ4_NL, 25),
    PLAIN(IQ3_S, 26), PLAIN(IQ2_S, 28), PLAIN(IQ4_XS, 30), PLAIN(IQ1_M, 31),
    PLAIN(TQ1_0, 36), PLAIN(TQ2_0, 37), PLAIN(MXFP4, 38),
    {"MXFP4_MOE", 38, QTYPE_Q8_0, {{PART_EXPERTS, ALL, QTYPE_MXFP4}}},
    {"Q3_K_S", 11, QTYPE_Q3_K, {{PART_END, ALL, 0}}},
    {"Q3_K_M", 12, QTYPE_Q3_K, {{PART_V, FIRST_2, QTYPE_Q5_K}, {PART_V, ALL, QTYPE_Q4_K},
                                {PART_DOWN, SIXTEENTH, QTYPE_Q5_K}, {PART_DOWN, ALL, QTYPE_Q4_K},
                                {PART_O, ALL, QTYPE_Q4_K}, {PART_QKV, ALL, QTYPE_Q4_K}}},
    {"Q3_K_L", 13, QTYPE_Q3_K, {{PART_V, ALL, QTYPE_Q5_K}, {PART_DOWN, ALL, QTYPE_Q5_K},
                                {PART_O, ALL, QTYPE_Q5_K}, {PART_QKV, ALL, QTYPE_Q4_K}}},
    {"Q4_K_S", 14, QTYPE_Q4_K, {{PART_V, FIRST_4, QTYPE_Q5_K}, {PART_DOWN, EIGHTH, QTYPE_Q5_K}}},
    {"Q4_K_M", 15, QTYPE_Q4_K, {{PART_V, MORE, QTYPE_Q6_K}, {PART_DOWN, MORE, QTYPE_Q6_K},
                                {PART_QKV, ALL, QTYPE_Q5_K}}},
    {"Q5_K_S", 16, QTYPE_Q5_K, {{PART_END, ALL, 0}}},
    {"Q5_K_M", 17, QTYPE_Q5_K, {{PART_V, MORE, QTYPE_Q6_K}, {PART_DOWN, MORE, QTYPE_Q6_K},
                                {PART_QKV, ALL, QTYPE_Q6_K}}},
};
#undef PLAIN
// clang-format on
enum { MIXES = sizeof mixes / sizeof *mixes };

enum err mix_find(const struct mix **out, const char *name, struct errmsg *why)
{
    for (int i = 0; i < MIXES; i++)
        if (strcasecmp(mixes[i].name, name) == 0) {
            *out = &mixes[i];
            return ERR_OK;
        }
    char list[240];
    size_t at = 0;
    for (int i = 0; i < MIXES && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, " %s", mixes[i].name);
    return err_set(why, ERR_NOT_FOUND, "no quantization '%s'; there are%s", name, list);
}

uint32_t mix_file_type(const struct mix *m)
{
    return m->file_type;
}

const char *mix_name(const struct mix *m)
{
    return m->name;
}

static enum part part_of(enum slot s)
{
    switch (s) {
    case ATTN_V:
        return PART_V;
    case ATTN_QKV:
        return PART_QKV;
    case ATTN_OUT:
        return PART_O;
    case FFN_DOWN:
    case MOE_DOWN:
    case SHARED_DOWN:
        return PART_DOWN;
    default:
        return PART_END;
    }
}

static bool of_experts(enum slot s)
{
    return s == MOE_GATE || s == MOE_UP || s == MOE_DOWN;
}

/* Rows that are no whole number of blocks take the nearest type that fits. */
static enum qtype fit(enum qtype t, uint64_t n_in)
{
    while (n_in % qtype_info((uint32_t)t)->block_elems != 0) {
        if (qtype_info((uint32_t)t)->block_elems == 32)
            return QTYPE_F16;
        switch (t) {
        case QTYPE_Q4_K:
            t = QTYPE_Q5_0;
            break;
        case QTYPE_Q5_K:
            t = QTYPE_Q5_1;
            break;
        case QTYPE_Q6_K:
            t = QTYPE_Q8_0;
            break;
        case QTYPE_TQ1_0:
        case QTYPE_TQ2_0:
            t = QTYPE_Q4_0;
            break;
        default:
            t = QTYPE_IQ4_NL;
            break;
        }
    }
    return t;
}

static double bits(enum qtype t)
{
    const struct qtype_info *q = qtype_info((uint32_t)t);
    return 8.0 * q->block_bytes / q->block_elems;
}

enum qtype mix_type(const struct mix *m, const struct hparams *h, enum slot s, int il,
                    uint64_t n_in, bool tied, bool pure)
{
    if (slot_is_vector(s))
        return QTYPE_F32;
    switch (s) {
    case MOE_ROUTER: /* small, and a wrong choice of expert is no small error */
    case SHARED_ROUTER:
    case POS_EMBD:
    case TYPE_EMBD:
        return QTYPE_F32;
    default:
        break;
    }
    if (pure)
        return fit(m->base, n_in);
    if (s == OUTPUT || (s == TOKEN_EMBD && tied))
        return n_in % qtype_info((uint32_t)m->base)->block_elems != 0 ? fit(QTYPE_Q8_0, n_in)
               : bits(m->base) < bits(QTYPE_Q6_K)                     ? fit(QTYPE_Q6_K, n_in)
                                                                      : m->base;
    enum qtype t = m->base;
    enum part part = part_of(s);
    for (int i = 0; i < 6 && m->rules[i].part != PART_END; i++)
        if ((m->rules[i].part == part || (m->rules[i].part == PART_EXPERTS && of_experts(s))) &&
            in_layers(m->rules[i].layers, il, (int)h->n_layer)) {
            t = m->rules[i].type;
            break;
        }
    /* K and V are small where many heads share them (70B), or beside eight experts. */
    if (m->rules[0].part != PART_END) {
        if (s == ATTN_V && h->n_layer == 80 && (t == QTYPE_Q3_K || t == QTYPE_Q4_K))
            t = QTYPE_Q5_K;
        if ((s == ATTN_V || s == ATTN_K) && h->n_expert == 8)
            t = QTYPE_Q8_0;
    }
    return fit(t, n_in);
}
