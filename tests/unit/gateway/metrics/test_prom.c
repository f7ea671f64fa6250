#include "gateway/metrics/metrics.h"
#include "tests/support/test.h"

static void labels_are_escaped_and_histograms_cumulate(void **state)
{
    static const double bounds[] = {0.1, 1};
    struct histogram h;
    struct buf b = {0};
    const struct prom_label label = {"model", STR("a\"\\\n")};
    UNUSED(state);
    histogram_init(&h, bounds, 2);
    histogram_observe(&h, 0.1); /* an upper bound is inclusive */
    histogram_observe(&h, 0.5);
    histogram_observe(&h, 7);
    prom_family(&b, "x", "histogram", "Help.");
    prom_histogram(&b, "x", &label, 1, &h);
    assert_string_equal(b.p, "# HELP x Help.\n# TYPE x histogram\n"
                             "x_bucket{model=\"a\\\"\\\\\\n\",le=\"0.1\"} 1\n"
                             "x_bucket{model=\"a\\\"\\\\\\n\",le=\"1\"} 2\n"
                             "x_bucket{model=\"a\\\"\\\\\\n\",le=\"+Inf\"} 3\n"
                             "x_sum{model=\"a\\\"\\\\\\n\"} 7.6\n"
                             "x_count{model=\"a\\\"\\\\\\n\"} 3\n");
    buf_fini(&b);
}

static void requests_are_counted_by_route_and_status(void **state)
{
    static const char *const routes[] = {"/a", "/b"};
    const struct str models[] = {STR("m")};
    struct metrics *m;
    struct buf b = {0};
    UNUSED(state);
    assert_int_equal(metrics_open(&m, routes, 2, models, 1), ERR_OK);
    metrics_count_request(m, 1, 200);
    metrics_count_request(m, 1, 200);
    metrics_count_request(m, -1, 404);
    metrics_count_request(m, 99, 299); /* neither in a table */
    metrics_model(m, STR("m"))->outcomes[1] = 5;
    assert_null(metrics_model(m, STR("other")));
    metrics_write(m, &b);
    assert_non_null(strstr(b.p, "millrace_http_requests_total{route=\"/b\",status=\"200\"} 2\n"));
    assert_non_null(strstr(b.p, "millrace_http_requests_total{route=\"none\",status=\"404\"} 1\n"));
    assert_non_null(strstr(b.p, "millrace_http_requests_total{route=\"none\",status=\"0\"} 1\n"));
    assert_non_null(strstr(b.p, "millrace_jobs_total{model_name=\"m\",outcome=\"cancelled\"} 5\n"));
    buf_fini(&b);
    metrics_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_escaped_and_histograms_cumulate),
        cmocka_unit_test(requests_are_counted_by_route_and_status),
    };
    return RUN_TESTS(tests);
}
