#include "shared/base/arena.h"
#include "tests/support/test.h"

static void pointers_are_aligned_distinct_and_unmoved(void **state)
{
    UNUSED(state);
    struct arena a;
    enum { N = 3000 };
    static unsigned char *p[N];
    static size_t size[N];
    arena_init(&a, 0);
    for (size_t i = 0; i < N; i++) { /* all sizes: inside a chunk, a chunk of its own, zero */
        size[i] = i % 97 == 0 ? 300000 : i * 7 % 501;
        p[i] = arena_alloc(&a, size[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)(i % 251), size[i]);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k++)
            if (p[i][k] != i % 251)
                fail_msg("allocation %zu was overwritten at byte %zu", i, k);
    arena_fini(&a);
}

static void the_limit_refuses_but_what_fits_still_fits(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 1000);
    assert_non_null(arena_alloc(&a, 900));
    assert_null(arena_alloc(&a, 200));
    assert_non_null(arena_alloc(&a, 64));
    assert_true(a.used <= 1000);
    arena_reset(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_alloc(&a, 900));
    arena_fini(&a);
}

static void sizes_that_overflow_are_refused(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 15));
    assert_null(arena_array(&a, SIZE_MAX / 8 + 1, 8));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    assert_non_null(arena_alloc(&a, 1));
    arena_fini(&a);
}

static void cleared_memory_is_clear_after_reuse(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    memset(arena_alloc(&a, 2048), 0xee, 2048);
    arena_reset(&a);
    unsigned char *z = arena_zalloc(&a, 1000), *arr = arena_array(&a, 100, 10);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(z[i] | arr[i], 0);
    arena_fini(&a);
}

static void reset_and_fini_leave_a_usable_arena(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    arena_reset(&a);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++)
            assert_non_null(arena_alloc(&a, 5000));
        round == 1 ? arena_fini(&a) : arena_reset(&a);
        assert_int_equal(a.used, 0);
    }
    arena_fini(&a);
}

static void strndup_adds_a_nul(void **state)
{
    UNUSED(state);
    struct arena a;
    arena_init(&a, 0);
    assert_string_equal(arena_strndup(&a, "millrace", 4), "mill");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pointers_are_aligned_distinct_and_unmoved),
        cmocka_unit_test(the_limit_refuses_but_what_fits_still_fits),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(cleared_memory_is_clear_after_reuse),
        cmocka_unit_test(reset_and_fini_leave_a_usable_arena),
        cmocka_unit_test(strndup_adds_a_nul),
    };
    return RUN_TESTS(tests);
}
