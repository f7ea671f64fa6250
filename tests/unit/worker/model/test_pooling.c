/* From rows to a vector, wherever an input is cut; and whose vectors may be shortened. */
#include "tests/support/test.h"
#include "worker/model/matryoshka.h"
#include "worker/model/pooling.h"

#include <math.h>
#include <string.h>

enum { N = 3, ROWS = 7 };

static void pool(enum pooling kind, uint32_t cut, float out[ROWS * N])
{
    float rows[ROWS][N];
    double sums[N];
    struct pooled p = {.kind = kind, .n = N, .sums = sums, .vector = out};
    for (int t = 0; t < ROWS; t++)
        for (int i = 0; i < N; i++)
            rows[t][i] = (float)sin(t * 3 + i) * (t == 3 ? 1e8f : 1);
    for (uint32_t at = 0, n; at < ROWS; at += n) {
        uint32_t first;
        n = ROWS - at < cut ? ROWS - at : cut;
        const uint32_t wanted = pooled_wants(&p, n, at + n == ROWS, &first);
        assert_true(first + wanted <= n);
        pooled_add(&p, wanted ? rows[at + first] : NULL, n, at + n == ROWS);
    }
    assert_int_equal(p.n_rows, ROWS);
}

static void what_is_pooled_does_not_depend_on_the_cuts(void **state)
{
    UNUSED(state);
    for (int kind = POOL_NONE; kind <= POOL_RANK; kind++) {
        const size_t bytes = (kind == POOL_NONE ? ROWS * N : N) * sizeof(float);
        float whole[ROWS * N], pieces[ROWS * N];
        pool((enum pooling)kind, ROWS, whole);
        for (uint32_t cut = 1; cut < ROWS; cut++) {
            pool((enum pooling)kind, cut, pieces);
            assert_memory_equal(whole, pieces, bytes);
        }
    }
    float cls[ROWS * N], last[ROWS * N], mean[ROWS * N];
    pool(POOL_CLS, 2, cls);
    pool(POOL_LAST, 2, last);
    pool(POOL_MEAN, 2, mean);
    double sum = 0;
    for (int t = 0; t < ROWS; t++)
        sum += (double)((float)sin(t * 3 + 1) * (t == 3 ? 1e8f : 1));
    assert_true(cls[1] == (float)sin(1) && last[1] == (float)sin(19));
    assert_true(mean[1] == (float)(sum / ROWS));
}

static void a_normalised_vector_has_length_one_and_zeros_stay(void **state)
{
    UNUSED(state);
    float v[2] = {3e-30f, 4e-30f}, zeros[2] = {0, 0};
    pooled_normalize(v, 2);
    assert_true(v[0] == 0.6f && v[1] == 0.8f);
    pooled_normalize(zeros, 2);
    assert_true(zeros[0] == 0 && zeros[1] == 0);
}

static void names_of_poolings_are_the_command_lines(void **state)
{
    UNUSED(state);
    enum pooling kind;
    for (int k = POOL_NONE; k <= POOL_RANK; k++) {
        assert_true(pooling_by_name(pooling_name((enum pooling)k), &kind));
        assert_int_equal(kind, k);
    }
    assert_false(pooling_by_name("max", &kind));
    assert_false(pooling_by_name(NULL, &kind));
}

static void published_matryoshka_families_are_known_however_they_are_spelled(void **state)
{
    UNUSED(state);
    static const struct {
        const char *name;
        uint32_t min;
    } rows[] = {
        {"nomic-embed-text-v1.5", 64},
        {"Nomic Embed Text v1.5", 64},
        {"nomic-embed-text-v1", 0},
        {"Qwen3 Embedding 0.6B", 32},
        {"Qwen3-Embedding-8B", 32},
        {"Qwen3 0.6B", 0},
        {"mxbai-embed-large-v1", 64},
        {"Snowflake Arctic Embed M v1.5", 256},
        {"snowflake-arctic-embed-m", 0},
        {"bge-large-en-v1.5", 0},
        {"snowflake-arctic-embed-l-v2.0", 256},
        {"all-MiniLM-L6-v2", 0},
        {"bge-m3", 0},
        {"", 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        if (matryoshka_min(str_of(rows[i].name)) != rows[i].min)
            fail_msg("%s: %u", rows[i].name, matryoshka_min(str_of(rows[i].name)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_pooled_does_not_depend_on_the_cuts),
        cmocka_unit_test(a_normalised_vector_has_length_one_and_zeros_stay),
        cmocka_unit_test(names_of_poolings_are_the_command_lines),
        cmocka_unit_test(published_matryoshka_families_are_known_however_they_are_spelled),
    };
    return RUN_TESTS(tests);
}
