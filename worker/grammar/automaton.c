/* automaton.c - configurations, states, and the tables that remember them. */
#include "worker/grammar/automaton.h"

#include <stdlib.h>
#include <string.h>

enum { UNKNOWN = UINT32_MAX, TABLE_START = 1 << 10 };

enum { FRAME_BOTTOM = 0 }; /* the empty stack */

struct frame {
    uint32_t parent;
    uint32_t pc; /* RET: where to go on; NEXT: its LOOP */
    uint32_t count;
    uint32_t depth;
};

struct config {
    uint32_t pc, frame;
};

struct state {
    uint32_t first, n; /* configs: waiting at BYTES, sorted */
    bool accepts;
    int8_t takes_text; /* -1: not known yet */
    uint32_t *next;    /* [n_classes]; NULL until the first step */
};

struct table { /* open addressing; 0: free, otherwise index + 1 */
    uint32_t *slots;
    uint32_t mask, used;
};

struct automaton {
    struct program program;
    struct frame *frames;
    uint32_t n_frames, cap_frames;
    struct config *configs;
    uint32_t n_configs, cap_configs;
    struct state *states;
    uint32_t n_states, cap_states;
    struct table by_frame, by_state;
    /* Scratch of one closure. */
    struct config *todo, *found;
    uint32_t n_todo, n_found;
    struct table seen; /* of todo[] by configuration: n_todo only grows during a closure */
    bool accepts;
    size_t bytes;
    uint32_t start;
    bool failed;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static bool grow(struct automaton *a, void **items, uint32_t n, uint32_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    uint32_t more = *cap ? 2 * *cap : 256;
    size_t extra = (size_t)(more - *cap) * size;
    void *grown = a->bytes + extra <= AUTOMATON_BYTES ? realloc(*items, more * size) : NULL;
    if (!grown)
        return false;
    a->bytes += extra;
    *items = grown;
    *cap = more;
    return true;
}

static bool table_open(struct table *t)
{
    t->slots = calloc(TABLE_START, sizeof(*t->slots));
    t->mask = TABLE_START - 1;
    t->used = 0;
    return t->slots != NULL;
}

/* ---- frames */

static uint64_t frame_hash(const struct frame *f)
{
    return mix(mix(f->parent, f->pc), f->count);
}

static bool frame_table_grow(struct automaton *a)
{
    struct table *t = &a->by_frame;
    if (t->used * 2 < t->mask)
        return true;
    uint32_t n = 2 * (t->mask + 1);
    uint32_t *slots = calloc(n, sizeof(*slots));
    if (!slots)
        return false;
    for (uint32_t i = 0; i < a->n_frames; i++) {
        uint32_t at = (uint32_t)frame_hash(&a->frames[i]) & (n - 1);
        while (slots[at])
            at = (at + 1) & (n - 1);
        slots[at] = i + 1;
    }
    free(t->slots);
    t->slots = slots;
    t->mask = n - 1;
    a->bytes += n / 2 * sizeof(*slots);
    return true;
}

/* The one frame with these fields; UNKNOWN: too deep or out of memory. */
static uint32_t frame_of(struct automaton *a, uint32_t parent, uint32_t pc, uint32_t count)
{
    struct frame f = {parent, pc, count, a->frames[parent].depth + 1};
    struct table *t = &a->by_frame;
    uint32_t at = (uint32_t)frame_hash(&f) & t->mask;
    for (; t->slots[at]; at = (at + 1) & t->mask) {
        const struct frame *g = &a->frames[t->slots[at] - 1];
        if (g->parent == parent && g->pc == pc && g->count == count)
            return t->slots[at] - 1;
    }
    if (f.depth > FRAMES_DEEP)
        return UNKNOWN;
    if (!grow(a, (void **)&a->frames, a->n_frames, &a->cap_frames, sizeof(f))) {
        a->failed = true;
        return UNKNOWN;
    }
    a->frames[a->n_frames] = f;
    t->slots[at] = ++a->n_frames;
    t->used++;
    if (!frame_table_grow(a))
        a->failed = true;
    return a->n_frames - 1;
}

/* ---- closure: everywhere that can be reached without a byte */

static void visit(struct automaton *a, uint32_t pc, uint32_t frame)
{
    struct table *t = &a->seen;
    if (frame == UNKNOWN)
        return; /* nested too deeply: this way is closed */
    uint32_t at = (uint32_t)mix(pc, frame) & t->mask;
    for (; t->slots[at]; at = (at + 1) & t->mask) {
        const struct config *c = &a->todo[t->slots[at] - 1];
        if (c->pc == pc && c->frame == frame)
            return;
    }
    if (a->n_todo == CONFIGS_MAX) {
        a->failed = true;
        return;
    }
    a->todo[a->n_todo] = (struct config){pc, frame};
    t->slots[at] = ++a->n_todo;
}

static void go_round(struct automaton *a, uint32_t loop, uint32_t parent, uint32_t count)
{
    const struct instr *i = &a->program.code[loop];
    if (count >= i->min)
        visit(a, i->next, parent);
    /* What cannot be told apart any more is one state: counts beyond min of a loop without end. */
    if (i->max == EXPR_UNBOUNDED && count > i->min)
        count = i->min;
    if (count < i->max)
        visit(a, i->a, frame_of(a, parent, loop, count));
}

static void expand(struct automaton *a, struct config c)
{
    const struct program *p = &a->program;
    const struct instr *i = &p->code[c.pc];
    struct frame top = a->frames[c.frame];
    switch ((enum op)i->op) {
    case OP_NEVER:
        break;
    case OP_BYTES:
        a->found[a->n_found++] = c;
        break;
    case OP_SPLIT:
        for (uint32_t k = 0; k < i->b; k++)
            visit(a, p->targets[i->a + k], c.frame);
        break;
    case OP_CALL:
        visit(a, p->entry[i->a], i->tail ? c.frame : frame_of(a, c.frame, i->next, 0));
        break;
    case OP_RET:
        if (c.frame == FRAME_BOTTOM)
            a->accepts = true;
        else
            visit(a, top.pc, top.parent);
        break;
    case OP_LOOP:
        go_round(a, c.pc, c.frame, 0);
        break;
    case OP_NEXT:
        go_round(a, i->next, top.parent, top.count + 1);
        break;
    }
}

static void closure_begin(struct automaton *a)
{
    memset(a->seen.slots, 0, (a->seen.mask + 1) * sizeof(*a->seen.slots));
    a->n_todo = a->n_found = 0;
    a->accepts = false;
}

/* ---- states */

static int by_config(const void *x, const void *y)
{
    const struct config *a = x, *b = y;
    if (a->pc != b->pc)
        return a->pc < b->pc ? -1 : 1;
    return (a->frame > b->frame) - (a->frame < b->frame);
}

static uint64_t state_hash(const struct config *c, uint32_t n, bool accepts)
{
    uint64_t h = mix(n, accepts);
    for (uint32_t i = 0; i < n; i++)
        h = mix(h, (uint64_t)c[i].pc << 32 | c[i].frame);
    return h;
}

static bool state_table_grow(struct automaton *a)
{
    struct table *t = &a->by_state;
    if (t->used * 2 < t->mask)
        return true;
    uint32_t n = 2 * (t->mask + 1);
    uint32_t *slots = calloc(n, sizeof(*slots));
    if (!slots)
        return false;
    for (uint32_t i = 0; i < a->n_states; i++) {
        const struct state *s = &a->states[i];
        uint32_t at = (uint32_t)state_hash(a->configs + s->first, s->n, s->accepts) & (n - 1);
        while (slots[at])
            at = (at + 1) & (n - 1);
        slots[at] = i + 1;
    }
    free(t->slots);
    t->slots = slots;
    t->mask = n - 1;
    a->bytes += n / 2 * sizeof(*slots);
    return true;
}

/* The state of what is in found[] now. */
static uint32_t intern(struct automaton *a)
{
    struct table *t = &a->by_state;
    qsort(a->found, a->n_found, sizeof(*a->found), by_config);
    uint32_t at = (uint32_t)state_hash(a->found, a->n_found, a->accepts) & t->mask;
    for (; t->slots[at]; at = (at + 1) & t->mask) {
        const struct state *s = &a->states[t->slots[at] - 1];
        if (s->n == a->n_found && s->accepts == a->accepts &&
            (s->n == 0 || memcmp(a->configs + s->first, a->found, s->n * sizeof(*a->found)) == 0))
            return t->slots[at] - 1;
    }
    if (!grow(a, (void **)&a->states, a->n_states, &a->cap_states, sizeof(*a->states)))
        goto full;
    while (a->cap_configs - a->n_configs < a->n_found)
        if (!grow(a, (void **)&a->configs, a->cap_configs, &a->cap_configs, sizeof(*a->configs)))
            goto full;
    if (a->n_found)
        memcpy(a->configs + a->n_configs, a->found, a->n_found * sizeof(*a->found));
    a->states[a->n_states] = (struct state){
        .first = a->n_configs, .n = a->n_found, .accepts = a->accepts, .takes_text = -1};
    a->n_configs += a->n_found;
    t->slots[at] = ++a->n_states;
    t->used++;
    uint32_t id = a->n_states - 1;
    if (!state_table_grow(a))
        goto full;
    return id;
full:
    a->failed = true;
    return STATE_DEAD;
}

static uint32_t close_and_intern(struct automaton *a)
{
    for (uint32_t k = 0; k < a->n_todo && !a->failed; k++)
        expand(a, a->todo[k]);
    return a->failed ? STATE_DEAD : intern(a);
}

static uint32_t compute_step(struct automaton *a, uint32_t from, uint8_t byte)
{
    const struct state *s = &a->states[from];
    uint32_t first = s->first, n = s->n;
    closure_begin(a);
    for (uint32_t k = 0; k < n; k++) {
        struct config c = a->configs[first + k];
        const struct instr *i = &a->program.code[c.pc];
        if (a->program.sets[i->a].bits[byte / 64] >> byte % 64 & 1)
            visit(a, i->next, c.frame);
    }
    return close_and_intern(a);
}

uint32_t automaton_step(struct automaton *a, uint32_t state, uint8_t byte)
{
    uint32_t class = a->program.byte_class[byte];
    uint32_t *next = a->states[state].next;
    if (next && next[class] != UNKNOWN)
        return next[class];
    if (state == STATE_DEAD || a->failed)
        return STATE_DEAD;
    if (!next) {
        size_t bytes = a->program.n_classes * sizeof(*next);
        next = a->bytes + bytes <= AUTOMATON_BYTES ? malloc(bytes) : NULL;
        if (!next) {
            a->failed = true;
            return STATE_DEAD;
        }
        memset(next, 0xff, bytes);
        a->bytes += bytes;
        a->states[state].next = next;
    }
    uint32_t to = compute_step(a, state, byte);
    if (!a->failed)
        next[class] = to;
    return to;
}

/* ---- what a state is */

bool automaton_accepts(const struct automaton *a, uint32_t state)
{
    return a->states[state].accepts;
}

bool automaton_finished(const struct automaton *a, uint32_t state)
{
    return a->states[state].accepts && a->states[state].n == 0;
}

/* Whether every whole character that begins with `lead` leads from `state` back to it. `lo`..`hi`:
 * the second byte's range. */
static bool returns(struct automaton *a, uint32_t state, unsigned lead, int more, unsigned lo,
                    unsigned hi)
{
    uint32_t s = automaton_step(a, state, (uint8_t)lead);
    for (unsigned b = lo; more && s != STATE_DEAD && b <= hi; b++) {
        uint32_t t = automaton_step(a, s, (uint8_t)b);
        for (unsigned c = 0x80; more > 1 && c <= 0xbf; c += 0x3f) {
            uint32_t u = automaton_step(a, t, (uint8_t)c);
            if (more > 2 &&
                (automaton_step(a, u, 0x80) != state || automaton_step(a, u, 0xbf) != state))
                return false;
            if (more == 2 && u != state)
                return false;
        }
        if (more == 1 && t != state)
            return false;
    }
    return more ? s != STATE_DEAD : s == state;
}

bool automaton_takes_text(struct automaton *a, uint32_t state)
{
    if (state == STATE_DEAD || a->states[state].takes_text >= 0)
        return state != STATE_DEAD && a->states[state].takes_text == 1;
    bool yes = automaton_step(a, state, 'a') == state; /* most states end here */
    for (unsigned b = ' '; yes && b < 0x7f; b++)
        yes = b == '"' || b == '\\' || returns(a, state, b, 0, 0, 0);
    /* Inside one class of continuation bytes one answer holds; the ends of the ranges are looked at
     * by returns(), and classes that split them would show as more than three classes here. */
    const uint8_t *class = a->program.byte_class;
    for (unsigned b = 0x81; yes && b <= 0xbf; b++)
        yes = class[b] == class[b - 1] || b == 0x90 || b == 0xa0;
    for (unsigned b = 0xc2; yes && b <= 0xf4; b++) {
        int more = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
        unsigned lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
        unsigned hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
        yes = returns(a, state, b, more, lo, hi);
    }
    if (!a->failed)
        a->states[state].takes_text = yes;
    return yes && !a->failed;
}

bool automaton_failed(const struct automaton *a)
{
    return a->failed;
}

uint32_t automaton_start(const struct automaton *a)
{
    return a->start;
}

size_t automaton_bytes(const struct automaton *a)
{
    return a->bytes;
}

uint32_t automaton_n_states(const struct automaton *a)
{
    return a->n_states;
}

bool automaton_matches(struct automaton *a, const char *p, size_t n)
{
    uint32_t s = a->start;
    for (size_t i = 0; i < n && s != STATE_DEAD; i++)
        s = automaton_step(a, s, (uint8_t)p[i]);
    return automaton_accepts(a, s);
}

/* ---- life */

enum err automaton_open(struct automaton **out, struct expr_grammar *g, uint32_t start,
                        struct errmsg *why)
{
    struct automaton *a = calloc(1, sizeof(*a));
    if (!a)
        return err_set(why, ERR_NOMEM, "out of memory");
    enum err e = program_compile(&a->program, g, start, why);
    if (e) {
        free(a);
        return e;
    }
    a->todo = calloc(CONFIGS_MAX, sizeof(*a->todo));
    a->found = calloc(CONFIGS_MAX, sizeof(*a->found));
    a->seen.slots = calloc(4 * CONFIGS_MAX, sizeof(*a->seen.slots));
    a->seen.mask = 4 * CONFIGS_MAX - 1;
    bool ok = a->todo && a->found && a->seen.slots && table_open(&a->by_frame) &&
              table_open(&a->by_state) &&
              grow(a, (void **)&a->frames, 0, &a->cap_frames, sizeof(*a->frames));
    if (ok) {
        a->frames[a->n_frames++] = (struct frame){.parent = UNKNOWN};
        closure_begin(a);
        ok = intern(a) == STATE_DEAD && !a->failed; /* the first state is the one of nothing */
    }
    if (ok) {
        closure_begin(a);
        visit(a, a->program.start, FRAME_BOTTOM);
        a->start = close_and_intern(a);
        ok = !a->failed;
    }
    if (!ok) {
        automaton_close(a);
        return err_set(why, ERR_RANGE, "the grammar has too many choices at its start");
    }
    if (a->start == STATE_DEAD) {
        automaton_close(a);
        return err_set(why, ERR_INVALID, "no text satisfies it");
    }
    *out = a;
    return ERR_OK;
}

void automaton_close(struct automaton *a)
{
    if (!a)
        return;
    for (uint32_t i = 0; i < a->n_states; i++)
        free(a->states[i].next);
    free(a->states);
    free(a->configs);
    free(a->frames);
    free(a->by_frame.slots);
    free(a->by_state.slots);
    free(a->seen.slots);
    free(a->todo);
    free(a->found);
    program_fini(&a->program);
    free(a);
}
