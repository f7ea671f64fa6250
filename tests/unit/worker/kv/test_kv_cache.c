/* The books of the KV cache, with a shadow of what the engine would have written into each block.
 */
#include "worker/kv/kv_cache.h"
#include "worker/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct kv_cache *open_kv(uint32_t n_blocks, uint32_t block_tokens, uint32_t max_seq)
{
    struct kv_cache *kv = NULL;
    struct kv_shape shape = {
        .n_blocks = n_blocks, .block_tokens = block_tokens, .max_seq_tokens = max_seq};
    struct errmsg why = {""};
    assert_int_equal(kv_open(&kv, &shape, &why), ERR_OK);
    return kv;
}

static struct kv_seq *new_seq(struct kv_cache *kv, uint64_t salt, bool shares)
{
    struct kv_seq *s = NULL;
    assert_int_equal(kv_seq_new(kv, salt, shares, &s), ERR_OK);
    return s;
}

static void audit(const struct kv_cache *kv)
{
    struct errmsg why = {""};
    if (!kv_audit(kv, &why))
        fail_msg("%s", why.text);
}

/* grow and commit tokens[from .. to) */
static void compute(struct kv_seq *s, const int32_t *tokens, uint32_t from, uint32_t to)
{
    assert_int_equal(kv_seq_len(s), from);
    assert_int_equal(kv_seq_grow(s, to), ERR_OK);
    kv_seq_commit(s, tokens + from, to - from);
}

static const int32_t count_up[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                     12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
                                     24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35};

static void a_later_equal_prompt_reuses_full_blocks_and_computes_at_least_one_token(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(16, 4, 64);
    struct kv_seq *a = new_seq(kv, 7, true), *b = new_seq(kv, 7, true);
    compute(a, count_up, 0, 12);

    assert_int_equal(kv_seq_attach(b, count_up, 12), 8); /* not 12: the last logits are wanted */
    uint32_t na, nb;
    const uint32_t *ta = kv_seq_blocks(a, &na), *tb = kv_seq_blocks(b, &nb);
    assert_int_equal(nb, 2);
    assert_memory_equal(ta, tb, 2 * sizeof *ta);
    kv_seq_reset(b);
    assert_int_equal(kv_seq_attach(b, count_up, 13), 12);
    audit(kv);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_close(kv);
}

static void blocks_survive_their_sequence_until_room_is_needed(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(4, 4, 16);
    struct kv_seq *a = new_seq(kv, 1, true);
    compute(a, count_up, 0, 13);
    kv_seq_free(a);
    struct kv_stats st;
    kv_stats(kv, &st);
    assert_int_equal(st.held, 0);
    assert_int_equal(st.cached, 3);

    struct kv_seq *b =
        new_seq(kv, 2, true); /* another tenant: sees nothing, evicts two from the end */
    assert_int_equal(kv_seq_attach(b, count_up, 16), 0);
    assert_int_equal(kv_seq_grow(b, 12), ERR_OK);
    kv_seq_free(b);
    struct kv_seq *c = new_seq(kv, 1, true);
    assert_int_equal(kv_seq_attach(c, count_up, 16), 4);
    kv_stats(kv, &st);
    assert_int_equal(st.evicted, 2);
    audit(kv);
    kv_seq_free(c);
    kv_close(kv);
}

static void prefixes_are_never_shared_between_salts(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(8, 4, 32);
    struct kv_seq *a = new_seq(kv, 1, true), *b = new_seq(kv, 2, true);
    compute(a, count_up, 0, 9);
    assert_int_equal(kv_seq_attach(b, count_up, 9), 0);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_close(kv);
}

static void a_private_sequence_neither_takes_nor_leaves_blocks(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(8, 4, 32);
    struct kv_seq *a = new_seq(kv, 1, true), *p = new_seq(kv, 1, false);
    compute(a, count_up, 0, 9);
    assert_int_equal(kv_seq_attach(p, count_up, 9), 0);
    assert_int_equal(kv_seq_next_hash(p, count_up, 9), 0);
    compute(p, count_up, 0, 9);
    audit(kv);
    kv_seq_free(p);
    struct kv_stats st;
    kv_stats(kv, &st);
    assert_int_equal(st.cached, 0);
    kv_seq_free(a);
    kv_close(kv);
}

static void growth_is_all_or_nothing(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(4, 4, 16);
    struct kv_seq *a = new_seq(kv, 1, true), *b = new_seq(kv, 1, true);
    assert_int_equal(kv_seq_grow(a, 8), ERR_OK);
    assert_int_equal(kv_seq_grow(b, 12), ERR_KV_FULL);
    uint32_t n;
    kv_seq_blocks(b, &n);
    assert_int_equal(n, 0);
    assert_int_equal(kv_seq_grow(b, 8), ERR_OK);
    assert_int_equal(kv_seq_grow(b, 17), ERR_RANGE);
    audit(kv);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_close(kv);
}

static void a_twin_computed_at_the_same_time_is_swapped_for_the_first(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(8, 4, 32);
    struct kv_seq *a = new_seq(kv, 1, true), *b = new_seq(kv, 1, true);
    assert_int_equal(kv_seq_next_hash(a, count_up, 9), kv_seq_next_hash(b, count_up, 9));
    compute(a, count_up, 0, 9);
    compute(b, count_up, 0, 9);
    uint32_t n;
    const uint32_t *ta = kv_seq_blocks(a, &n), *tb = kv_seq_blocks(b, &n);
    assert_memory_equal(ta, tb, 2 * sizeof *ta);
    assert_true(ta[2] != tb[2]); /* not full: private */
    struct kv_stats st;
    kv_stats(kv, &st);
    assert_int_equal(st.held, 4);
    audit(kv);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_close(kv);
}

static void attach_gives_back_room_that_was_reserved(void **state)
{
    (void)state;
    struct kv_cache *kv = open_kv(8, 4, 32);
    struct kv_seq *a = new_seq(kv, 1, true), *b = new_seq(kv, 1, true);
    assert_int_equal(kv_seq_grow(b, 12), ERR_OK);
    compute(a, count_up, 0, 12);
    assert_int_equal(kv_seq_attach(b, count_up, 12), 8);
    struct kv_stats st;
    kv_stats(kv, &st);
    assert_int_equal(st.held, 4);
    compute(b, count_up, 8, 12);
    kv_stats(kv, &st);
    assert_int_equal(st.held, 3); /* the last one was a twin, too */
    audit(kv);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_close(kv);
}

/* The hash takes 32 bits of a token into a 64-bit state, so two first tokens whose states agree in
 * the upper half (a birthday among 2^17) can be led together again by the second token. */
static void two_prompts_with_one_hash_are_not_confused(void **state)
{
    (void)state;
    enum { N = 1 << 18 };
    struct kv_cache *one = open_kv(4, 1, 4);
    struct kv_seq *probe = new_seq(one, 9, true);
    struct seen {
        uint32_t upper, lower;
        int32_t token;
    } *seen = calloc(N * 2, sizeof *seen);
    assert_non_null(seen);
    int32_t pair[2][3] = {{0}, {0}};
    bool found = false;
    srand(1); /* consecutive tokens would spread too evenly to meet */
    for (int i = 0; i < N && !found; i++) {
        int32_t t = 1 + rand() % 0x7ffffff0;
        uint64_t h = kv_seq_next_hash(probe, (int32_t[]){t, 0}, 2);
        uint32_t upper = (uint32_t)(h >> 32), at = upper & (N * 2 - 1);
        while (seen[at].token && seen[at].upper != upper)
            at = (at + 1) & (N * 2 - 1);
        if (seen[at].token && seen[at].token != t) {
            pair[0][0] = seen[at].token;
            pair[1][0] = t;
            pair[0][1] = 5;
            pair[1][1] = (int32_t)(5u ^ seen[at].lower ^ (uint32_t)h);
            found = true;
        }
        seen[at] = (struct seen){upper, (uint32_t)h, t};
    }
    free(seen);
    kv_seq_free(probe);
    kv_close(one);
    assert_true(found);

    struct kv_cache *kv = open_kv(8, 2, 8);
    struct kv_seq *a = new_seq(kv, 9, true), *b = new_seq(kv, 9, true);
    assert_int_equal(kv_seq_next_hash(a, pair[0], 3), kv_seq_next_hash(b, pair[1], 3));
    compute(a, pair[0], 0, 3);
    assert_int_equal(kv_seq_attach(b, pair[1], 3), 0);
    compute(b, pair[1], 0, 3);
    audit(kv);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_close(kv);
}

static void a_pool_smaller_than_one_context_is_refused(void **state)
{
    (void)state;
    struct kv_cache *kv = NULL;
    struct errmsg why = {""};
    assert_int_equal(
        kv_open(&kv, &(struct kv_shape){.n_blocks = 3, .block_tokens = 4, .max_seq_tokens = 13},
                &why),
        ERR_INVALID);
    assert_non_null(strstr(why.text, "needs 4 KV blocks, the pool has 3"));
    assert_int_equal(kv_open(&kv, &(struct kv_shape){.n_blocks = 3, .max_seq_tokens = 13}, &why),
                     ERR_INVALID);
}

/* --- random histories against a shadow
 * --------------------------------------------------------------- */

enum { BLOCKS = 24, BT = 4, CONTEXT = 40, SEQS = 7, WINDOW_BLOCKS = 26, STEP = 9 };

struct shadow {
    struct kv_shape shape;
    uint64_t windows[WINDOW_BLOCKS][BT];
    uint64_t data[BLOCKS]
                 [BT]; /* what a batch-invariant engine writes: a function of salt and prefix */
    struct {
        struct kv_seq *s;
        uint64_t salt;
        int32_t tokens[CONTEXT];
        uint32_t n;
    } seq[SEQS];
};

static uint64_t engine_value(uint64_t salt, const int32_t *tokens, uint32_t p)
{
    uint64_t h = salt * 31 + 7;
    for (uint32_t i = 0; i <= p; i++)
        h = h * 6364136223846793005u + (uint32_t)tokens[i] + 1;
    return h;
}

/* Every position that the token at n (or n, being the last of a full block: at its border) sees. */
static void check_window(const struct shadow *m, int i, uint32_t n)
{
    const uint32_t *table = kv_seq_window_blocks(m->seq[i].s);
    if (!m->shape.n_window_blocks)
        return;
    for (uint32_t p = kv_first_seen(m->shape.window, m->shape.chunked, n); p < n; p++)
        assert_int_equal(m->windows[table[p / BT]][p % BT],
                         ~engine_value(m->seq[i].salt, m->seq[i].tokens, p));
}

static void check_contents(const struct shadow *m, int i)
{
    uint32_t n_blocks, n = kv_seq_len(m->seq[i].s);
    const uint32_t *table = kv_seq_blocks(m->seq[i].s, &n_blocks);
    assert_true(n <= n_blocks * BT);
    for (uint32_t p = 0; p < n; p++)
        assert_int_equal(m->data[table[p / BT]][p % BT],
                         engine_value(m->seq[i].salt, m->seq[i].tokens, p));
    check_window(m, i, n);
}

static void shadow_compute(struct shadow *m, int i, uint32_t to)
{
    struct kv_seq *s = m->seq[i].s;
    uint32_t from = kv_seq_len(s), n_blocks;
    if (to <= from || kv_seq_grow(s, to) != ERR_OK)
        return;
    const uint32_t *table = kv_seq_blocks(s, &n_blocks);
    const uint32_t *windows = kv_seq_window_blocks(s);
    for (uint32_t p = from; p < to; p++) {
        const uint64_t v = engine_value(m->seq[i].salt, m->seq[i].tokens, p);
        m->data[table[p / BT]][p % BT] = v;
        if (windows) {
            m->windows[windows[p / BT]][p % BT] = ~v;
            check_window(m, i, p);
        }
    }
    kv_seq_commit(s, m->seq[i].tokens + from, to - from);
}

static void walk_histories(struct kv_shape shape)
{
    struct kv_stats st = {0};
    uint64_t attached = 0, evicted = 0, swapped = 0;
    for (unsigned seed = 0; seed < 60; seed++) {
        srand(seed);
        struct shadow m = {.shape = shape};
        struct errmsg why = {""};
        struct kv_cache *kv = NULL;
        assert_int_equal(kv_open(&kv, &shape, &why), ERR_OK);
        for (int turn = 0; turn < 1500; turn++) {
            int i = rand() % SEQS;
            if (!m.seq[i].s) {
                bool shares = rand() % 5 != 0;
                m.seq[i].salt = shares ? rand() % 2 : 100 + turn;
                m.seq[i].s = new_seq(kv, m.seq[i].salt, shares);
                m.seq[i].n = 1 + rand() % CONTEXT;
                int fork = rand() % CONTEXT; /* few distinct prefixes: many hits */
                for (int t = 0; t < CONTEXT; t++)
                    m.seq[i].tokens[t] = t < fork ? 1 : rand() % 2;
                continue;
            }
            switch (rand() % 8) {
            case 0:
                kv_seq_free(m.seq[i].s);
                m.seq[i].s = NULL;
                break;
            case 1:
                kv_seq_reset(m.seq[i].s);
                break;
            case 2:
            case 3: {
                uint32_t before = kv_seq_len(m.seq[i].s);
                uint32_t got = kv_seq_attach(m.seq[i].s, m.seq[i].tokens, m.seq[i].n);
                assert_int_equal(kv_seq_len(m.seq[i].s), before + got);
                if (got)
                    assert_true(before + got < m.seq[i].n);
                break;
            }
            default: {
                uint32_t to = kv_seq_len(m.seq[i].s) + 1 + rand() % STEP;
                shadow_compute(&m, i, to < m.seq[i].n ? to : m.seq[i].n);
            }
            }
            audit(kv);
            for (int k = 0; k < SEQS; k++)
                if (m.seq[k].s)
                    check_contents(&m, k);
        }
        kv_stats(kv, &st);
        attached += st.attached, evicted += st.evicted, swapped += st.swapped;
        for (int k = 0; k < SEQS; k++)
            kv_seq_free(m.seq[k].s);
        kv_stats(kv, &st);
        assert_int_equal(st.held, 0);
        assert_int_equal(st.window_held, 0);
        kv_close(kv);
    }
    assert_true(attached > 1000 && evicted > 1000 && swapped > 100); /* the paths were walked */
}

static void any_history_keeps_the_books_and_the_contents_right(void **state)
{
    (void)state;
    walk_histories(
        (struct kv_shape){.n_blocks = BLOCKS, .block_tokens = BT, .max_seq_tokens = CONTEXT});
}

static void any_history_with_windows_keeps_the_books_and_the_contents_right(void **state)
{
    (void)state;
    const struct {
        uint32_t window, n_blocks;
        bool chunked;
    } cases[] = {{1, 26, false}, {5, 26, false}, {8, 22, false}, {11, 26, false}, {8, 24, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        walk_histories(
            (struct kv_shape){.n_blocks = BLOCKS,
                              .block_tokens = BT,
                              .max_seq_tokens = CONTEXT,
                              .n_window_blocks = cases[i].n_blocks,
                              .ring_blocks = (cases[i].window - 1 + BT - 1 + STEP - 2) / BT + 2,
                              .window = cases[i].window,
                              .chunked = cases[i].chunked});
}

/* 4 tokens a block, a window of 6: what the next token sees is two blocks. */
static struct kv_cache *open_windows(uint32_t n_window_blocks)
{
    struct kv_cache *kv = NULL;
    struct errmsg why = {""};
    assert_int_equal(kv_open(&kv,
                             &(struct kv_shape){.n_blocks = 32,
                                                .block_tokens = 4,
                                                .max_seq_tokens = 64,
                                                .n_window_blocks = n_window_blocks,
                                                .ring_blocks = 4,
                                                .window = 6},
                             &why),
                     ERR_OK);
    return kv;
}

static void a_long_sequence_holds_its_ring_of_window_blocks_and_no_more(void **state)
{
    (void)state;
    struct kv_cache *kv = open_windows(8);
    struct kv_seq *s = new_seq(kv, 1, true);
    struct kv_stats st;
    assert_int_equal(kv_seq_grow(s, 60), ERR_OK);
    for (uint32_t at = 0; at < 60; at += 4) {
        kv_seq_commit(s, count_up + at, 4);
        kv_stats(kv, &st);
        assert_true(st.window_held <= 4);
        audit(kv);
    }
    assert_int_equal(st.held, 15);
    kv_seq_free(s);
    kv_close(kv);
}

static void a_prefix_is_reused_up_to_a_border_whose_window_is_complete(void **state)
{
    (void)state;
    struct kv_cache *kv = open_windows(8);
    struct kv_seq *a = new_seq(kv, 1, true), *b = new_seq(kv, 1, true);
    for (uint32_t at = 0; at < 32; at += 4) /* a ring of 4 blocks: for steps of 4 */
        compute(a, count_up, at, at + 4);
    compute(a, count_up, 32, 33);
    kv_seq_free(a);
    /* A follow-up of the whole: everything is there. */
    assert_int_equal(kv_seq_attach(b, count_up, 60), 32);
    audit(kv);
    kv_seq_reset(b);
    /* Another one needs 8 - 4 = 4 of the cached: the oldest go, the end of the prefix stays. */
    struct kv_seq *c = new_seq(kv, 2, true);
    for (uint32_t at = 0; at < 16; at += 4)
        compute(c, count_up, at, at + 4);
    assert_int_equal(kv_seq_attach(b, count_up, 60), 32);
    kv_seq_reset(b);
    /* Of a shorter prompt only what has its window: none, for the first blocks' are gone. */
    assert_int_equal(kv_seq_attach(b, count_up, 14), 0);
    audit(kv);
    kv_seq_free(b);
    kv_seq_free(c);
    kv_close(kv);
}

static void a_window_pool_with_every_ring_reserved_is_full(void **state)
{
    (void)state;
    struct kv_cache *kv = open_windows(8);
    struct kv_seq *a = new_seq(kv, 1, true), *b = new_seq(kv, 1, true), *c = new_seq(kv, 1, true);
    assert_int_equal(kv_seq_grow(a, 40), ERR_OK);
    assert_int_equal(kv_seq_grow(b, 40), ERR_OK);
    assert_int_equal(kv_seq_grow(c, 1), ERR_KV_FULL);
    audit(kv);
    kv_seq_reset(a);
    assert_int_equal(kv_seq_grow(c, 1), ERR_OK);
    audit(kv);
    kv_seq_free(a);
    kv_seq_free(b);
    kv_seq_free(c);
    kv_close(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_sequence_holds_its_ring_of_window_blocks_and_no_more),
        cmocka_unit_test(a_prefix_is_reused_up_to_a_border_whose_window_is_complete),
        cmocka_unit_test(a_window_pool_with_every_ring_reserved_is_full),
        cmocka_unit_test(any_history_with_windows_keeps_the_books_and_the_contents_right),
        cmocka_unit_test(a_later_equal_prompt_reuses_full_blocks_and_computes_at_least_one_token),
        cmocka_unit_test(blocks_survive_their_sequence_until_room_is_needed),
        cmocka_unit_test(prefixes_are_never_shared_between_salts),
        cmocka_unit_test(a_private_sequence_neither_takes_nor_leaves_blocks),
        cmocka_unit_test(growth_is_all_or_nothing),
        cmocka_unit_test(a_twin_computed_at_the_same_time_is_swapped_for_the_first),
        cmocka_unit_test(attach_gives_back_room_that_was_reserved),
        cmocka_unit_test(two_prompts_with_one_hash_are_not_confused),
        cmocka_unit_test(a_pool_smaller_than_one_context_is_refused),
        cmocka_unit_test(any_history_keeps_the_books_and_the_contents_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
