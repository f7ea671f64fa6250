#include "gateway/auth/host.h"
#include "tests/support/test.h"

static void names_of_this_machine_are_served(void **state)
{
    static const char *const ok[] = {"localhost",   "localhost:8080", "LOCALHOST", "127.0.0.1",
                                     "127.0.0.1:1", "127.9.9.9",      "[::1]",     "[::1]:8080",
                                     "localhost.",  "app.localhost:5"};
    UNUSED(state);
    for (size_t i = 0; i < COUNT(ok); i++)
        if (!host_allowed(str_of(ok[i]), NULL))
            fail_msg("%s", ok[i]);
}

static void other_names_are_not(void **state)
{
    static const char *const bad[] = {"",
                                      "evil.example",
                                      "localhost.evil.example",
                                      "127.0.0.1.evil.example",
                                      "evillocalhost",
                                      "[::1",
                                      "0.0.0.0",
                                      "10.0.0.1",
                                      ":8080",
                                      "128.0.0.1",
                                      "[::2]",
                                      "127.0.0.1@evil.example"};
    UNUSED(state);
    for (size_t i = 0; i < COUNT(bad); i++)
        if (host_allowed(str_of(bad[i]), NULL))
            fail_msg("%s", bad[i]);
}

static void configured_names_are_served_besides(void **state)
{
    UNUSED(state);
    assert_true(host_allowed(STR("gpu-box:8080"), "a.example,gpu-box"));
    assert_true(host_allowed(STR("localhost"), "a.example"));
    assert_false(host_allowed(STR("gpu-box.evil"), "a.example,gpu-box"));
    assert_false(host_allowed(STR("gpu"), "gpu-box"));
    assert_true(host_allowed(STR("anything"), "*"));
}

static void loopback_addresses_are_told_from_others(void **state)
{
    UNUSED(state);
    assert_true(host_is_loopback_address("127.0.0.1") && host_is_loopback_address("::1"));
    assert_false(host_is_loopback_address("0.0.0.0") || host_is_loopback_address("::") ||
                 host_is_loopback_address("192.168.0.1") || host_is_loopback_address("localhost"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_this_machine_are_served),
        cmocka_unit_test(other_names_are_not),
        cmocka_unit_test(configured_names_are_served_besides),
        cmocka_unit_test(loopback_addresses_are_told_from_others),
    };
    return RUN_TESTS(tests);
}
