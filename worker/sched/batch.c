/* batch.c - who is in the next step: lists by rank, admission, preemption, budget. */
#include "worker/sched/sched_parts.h"

#include <assert.h>

enum {
    FIRST_CHUNK_BLOCKS = 4, /* prefill per step, in blocks, while its speed isn't known yet */
    ALONE_FACTOR = 4,       /* a step may take so many targets when nobody waits for a token */
    MAX_SKIPS = 8, /* waiting choices looked at past those that wait for somebody's blocks: probing
                      the cache costs time in every step */
};

/* --- rank: priority, then arrival, then choice
 * ------------------------------------------------------- */

static bool job_before(const struct job *a, const struct job *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->arrival < b->arrival;
}

static bool choice_before(const struct choice *a, const struct choice *b)
{
    return a->job == b->job ? a->index < b->index : job_before(a->job, b->job);
}

/* From the end: most come in order. */
static void insert_by_rank(struct link *list, struct choice *c)
{
    struct link *at = list->prev;
    while (at != list && choice_before(c, list_entry(at, struct choice, link)))
        at = at->prev;
    list_push_front(at, &c->link); /* behind `at` */
}

void choice_enqueue(struct sched *s, struct choice *c)
{
    c->state = CHOICE_WAITING;
    insert_by_rank(&s->waiting, c);
}

void choice_leave(struct choice *c)
{
    list_remove(&c->link);
    kv_seq_free(c->kv);
    c->kv = NULL;
}

/* --- residents
 * --------------------------------------------------------------------------------------- */

static uint32_t count_active(struct sched *s)
{
    uint32_t n = 0;
    for (struct link *l = s->resident.next; l != &s->resident; l = l->next)
        n += !list_entry(l, struct choice, link)->job->paused;
    return n;
}

static uint64_t pending_prefill(struct sched *s)
{
    uint64_t n = 0;
    for (struct link *l = s->resident.next; l != &s->resident; l = l->next) {
        const struct choice *c = list_entry(l, struct choice, link);
        if (!c->job->paused && choice_to_go(c) > 1)
            n += choice_to_go(c);
    }
    return n;
}

static void preempt(struct sched *s, struct choice *c)
{
    choice_leave(c);
    choice_enqueue(s, c);
    s->stats.preemptions++;
}

/* The resident of lowest rank that is paused (or not). */
static struct choice *lowest(struct sched *s, bool paused)
{
    for (struct link *l = s->resident.prev; l != &s->resident; l = l->prev) {
        struct choice *c = list_entry(l, struct choice, link);
        if (c->job->paused == paused)
            return c;
    }
    return NULL;
}

/* A resident that needs a block takes it from paused ones, then from those of lower rank. */
static bool make_room_to_grow(struct sched *s, const struct choice *c)
{
    struct choice *victim = lowest(s, true);
    if (!victim) {
        victim = lowest(s, false);
        if (!victim || !choice_before(c, victim))
            return false;
    }
    preempt(s, victim);
    return true;
}

static bool outranks_somebody(struct sched *s, const struct choice *c)
{
    const struct choice *last = lowest(s, false);
    return last && last->job->priority < c->job->priority;
}

/* One that waits takes from paused ones, else only from lower priority: among equals who runs goes
 * on. */
static bool make_room_to_enter(struct sched *s, const struct choice *c, bool paused_too)
{
    struct choice *victim = paused_too ? lowest(s, true) : NULL;
    if (!victim && !outranks_somebody(s, c))
        return false;
    preempt(s, victim ? victim : lowest(s, false));
    return true;
}

/* --- admission
 * --------------------------------------------------------------------------------------- */

/* Somebody of better rank is computing the block that `c` needs next. */
static bool waits_for_block(struct sched *s, const struct choice *c)
{
    uint64_t hash = kv_seq_next_hash(c->kv, c->tokens, choice_n_tokens(c));
    if (!hash || kv_seq_len(c->kv) % s->engine->block_tokens)
        return false;
    for (struct link *l = s->resident.next; l != &s->resident; l = l->next) {
        const struct choice *o = list_entry(l, struct choice, link);
        if (o == c)
            return false; /* the rest is of lower rank */
        if (!o->job->paused && choice_before(o, c) && choice_to_go(o) > 1 &&
            kv_seq_next_hash(o->kv, o->tokens, choice_n_tokens(o)) == hash)
            return true;
    }
    return false;
}

enum entry { ENTERED, LATER, NO_ROOM, OUT_OF_MEMORY };

static enum entry try_enter(struct sched *s, struct choice *c)
{
    const struct job *j = c->job;
    bool shares = !(j->req->head.flags & JOB_NO_PREFIX_CACHE);
    if (choice_load(c) || kv_seq_new(s->kv, j->req->head.cache_salt, shares, &c->kv))
        return OUT_OF_MEMORY;
    kv_seq_attach(c->kv, c->tokens, choice_n_tokens(c));
    enum entry result = ENTERED;
    if (waits_for_block(s, c)) {
        result = LATER;
    } else {
        for (;;) {
            struct kv_stats st;
            uint32_t active = count_active(s);
            enum err e = kv_seq_grow(c->kv, choice_n_tokens(c));
            kv_stats(s->kv, &st);
            /* One block in reserve for each that runs, lest the newcomer be thrown out at once. */
            if (!e && (active == 0 || st.n_blocks - st.held >= active))
                break;
            if (!make_room_to_enter(s, c, true)) {
                result = NO_ROOM;
                break;
            }
        }
    }
    if (result != ENTERED) {
        kv_seq_free(c->kv);
        c->kv = NULL;
    }
    return result;
}

static void enter(struct sched *s, struct choice *c)
{
    struct job *j = c->job;
    list_remove(&c->link);
    c->state = CHOICE_RESIDENT;
    insert_by_rank(&s->resident, c);
    if (!j->admitted) {
        uint32_t cached = kv_seq_len(c->kv); /* a replay may lie in the cache, too */
        j->cached_tokens = cached < j->n_prompt ? cached : j->n_prompt - 1;
        job_admit(s, j);
    }
}

static void admit(struct sched *s)
{
    int skips = 0;
    struct link *next;
    for (struct link *l = s->waiting.next; l != &s->waiting && skips < MAX_SKIPS; l = next) {
        struct choice *c = list_entry(l, struct choice, link);
        next = l->next;
        if (c->job->paused)
            continue;
        if (count_active(s) >= s->engine->max_seqs && !make_room_to_enter(s, c, false))
            return;
        if (pending_prefill(s) >= s->engine->max_step_tokens && !outranks_somebody(s, c))
            return; /* more would only hold blocks */
        switch (try_enter(s, c)) {
        case ENTERED:
            enter(s, c);
            break;
        case LATER:
            skips++;
            break;
        case NO_ROOM:
            return; /* and nobody passes it: that is how it gets its turn */
        case OUT_OF_MEMORY:
            job_fail(s, c->job, &(struct job_fault){.err = ERR_NOMEM});
            return; /* the list has changed; the others have their turn in the next step */
        }
    }
}

/* --- composing
 * --------------------------------------------------------------------------------------- */

static void add(struct sched *s, struct choice *c, uint32_t n_tok)
{
    struct batch *b = &s->batch;
    struct step_seq *q = &b->seqs[b->n];
    uint32_t pos = kv_seq_len(c->kv);
    bool last = pos + n_tok == choice_n_tokens(c);
    *q = (struct step_seq){
        .tokens = c->tokens + pos,
        .n_tok = n_tok,
        .pos = pos,
        .n_logits = last ? 1 : 0,
        .logits = last ? s->logits + (size_t)b->n * s->engine->n_vocab : NULL,
    };
    q->blocks = kv_seq_blocks(c->kv, &q->n_blocks);
    q->window_blocks = kv_seq_window_blocks(c->kv);
    b->who[b->n++] = c;
    b->n_tokens += n_tok;
}

static bool full(const struct sched *s)
{
    return s->batch.n == (int)s->engine->max_seqs ||
           s->batch.n_tokens >= s->engine->max_step_tokens;
}

/* In order of rank, so that a victim (always of lower rank, or paused) is never in the batch
 * already. */
static void add_decodes(struct sched *s)
{
    struct link *next;
    for (struct link *l = s->resident.next; l != &s->resident && !full(s); l = next) {
        struct choice *c = list_entry(l, struct choice, link);
        next = l->next;
        if (c->job->paused || choice_to_go(c) != 1)
            continue;
        enum err e;
        while ((e = kv_seq_grow(c->kv, choice_n_tokens(c))) == ERR_KV_FULL)
            if (!make_room_to_grow(s, c))
                break;
        if (e) { /* the lowest itself: everybody behind it is gone, too */
            preempt(s, c);
            return;
        }
        next = l->next;
        add(s, c, 1);
    }
}

/* Positions of prefill that this step can afford. */
static uint32_t prefill_allowance(const struct sched *s)
{
    uint32_t left = s->engine->max_step_tokens - s->batch.n_tokens;
    uint32_t allow = left, block = s->engine->block_tokens;
    if (s->opts.target_ns && s->token_ns > 0) {
        double target = (double)s->opts.target_ns * (s->batch.n > 0 ? 1 : ALONE_FACTOR);
        double n = target / s->token_ns;
        allow = n < (double)left ? (uint32_t)n : left;
    } else if (s->opts.target_ns) {
        allow = FIRST_CHUNK_BLOCKS * block;
    }
    allow = allow < block ? block : allow; /* always some progress */
    return allow < left ? allow : left;
}

static void add_prefills(struct sched *s)
{
    uint32_t allow = prefill_allowance(s), block = s->engine->block_tokens;
    for (struct link *l = s->resident.next; l != &s->resident; l = l->next) {
        struct choice *c = list_entry(l, struct choice, link);
        if (allow == 0 || full(s))
            return;
        if (c->job->paused || choice_to_go(c) <= 1)
            continue;
        kv_seq_attach(c->kv, c->tokens, choice_n_tokens(c)); /* what others finished meanwhile */
        if (waits_for_block(s, c))
            continue;
        uint32_t n = choice_to_go(c), pos = kv_seq_len(c->kv);
        if (n > allow) { /* stop at the end of a block: it can be shared at once */
            n = allow;
            uint32_t over = (pos + n) % block;
            n -= over < n ? over : 0;
        }
        add(s, c, n);
        allow -= n;
    }
}

void batch_compose(struct sched *s)
{
    s->batch.n = 0;
    s->batch.n_tokens = 0;
    admit(s);
    add_decodes(s);
    add_prefills(s);
}
