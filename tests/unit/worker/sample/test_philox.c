#include "worker/sample/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The known answers published with Random123 (kat_vectors, philox4x32 10). */
static void gives_the_published_answers(void **state)
{
    (void)state;
    static const struct {
        struct philox_block counter;
        uint64_t key;
        struct philox_block answer;
    } cases[] = {
        {{{0, 0, 0, 0}}, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         0xffffffffffffffffu,
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         0x299f31d0a4093822u,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct philox_block got = philox4x32(cases[i].counter, cases[i].key);
        assert_memory_equal(&got, &cases[i].answer, sizeof got);
    }
}

static void uniform_numbers_fill_the_interval_and_differ_by_choice_and_position(void **state)
{
    (void)state;
    unsigned bins[16] = {0};
    double before = -1;
    for (uint32_t choice = 0; choice < 4; choice++)
        for (uint32_t pos = 0; pos < 4000; pos++) {
            double u = philox_uniform(42, choice, pos);
            assert_true(u >= 0 && u < 1 && u != before);
            before = u;
            bins[(int)(u * 16)]++;
        }
    for (int i = 0; i < 16; i++) /* 1000 expected, sigma 31 */
        assert_in_range(bins[i], 850, 1150);
    assert_true(philox_uniform(42, 0, 1) != philox_uniform(42, 1, 0));
    assert_true(philox_uniform(42, 0, 1) != philox_uniform(43, 0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_answers),
        cmocka_unit_test(uniform_numbers_fill_the_interval_and_differ_by_choice_and_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
