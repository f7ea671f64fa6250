/* test.h - cmocka with the headers it wants included first, and the shape of a test program:
 *
 *     static void name_is_the_requirement(void **state) { UNUSED(state); given, when, then }
 *     int main(void) { const struct CMUnitTest tests[] = {...}; return RUN_TESTS(tests); } */
#ifndef MILLRACE_TESTS_TEST_H
#define MILLRACE_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define UNUSED(x)        (void)(x)
#define COUNT(a)         (sizeof(a) / sizeof(*(a)))
#define RUN_TESTS(tests) cmocka_run_group_tests(tests, NULL, NULL)

#endif
