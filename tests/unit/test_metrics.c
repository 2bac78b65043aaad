#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "metrics/metrics.h"

#define THREADS 4
#define ROUNDS 20000

static struct buffer out;

static const char *
written(void)
{

	buffer_clear(&out);
	metrics_write(&out, METRICS_TEXT);
	assert_int_equal(out.failed, 0);
	return (buffer_text(&out));
}

/* The value of the line that starts with ${series} and a space. */
static double
value_of(const char *series)
{
	const char *text = written(), *line;
	size_t n = strlen(series);

	for (line = text; line != NULL && *line != '\0';
	     line = strchr(line, '\n') + 1)
		if (strncmp(line, series, n) == 0 && line[n] == ' ')
			return (strtod(line + n, NULL));
	fail_msg("no \"%s\" in:\n%s", series, text);
	return (0);
}

static void
families_are_sorted_and_together(void **state)
{
	struct metric *m;

	(void)state;
	metric_add(metrics_counter("test_z_total", "t=\"b\"", "Of z."), 3);
	metric_set(metrics_gauge("test_a", NULL, "A back\\slash,\nand two."),
	    -4);
	metric_add(metrics_counter("test_z_total", "t=\"a\"", "Not used."), 1);
	metric_add(metrics_counter("test_z_total", NULL, NULL), 2);
	m = metrics_counter("test_z_total", "t=\"b\"", NULL);
	metric_add(m, 4);
	assert_int_equal(metric_value(m), 7);
	assert_non_null(strstr(written(),
	    "# HELP test_a A back\\\\slash,\\nand two.\n"
	    "# TYPE test_a gauge\n"
	    "test_a -4\n"
	    "# HELP test_z_total Of z.\n"
	    "# TYPE test_z_total counter\n"
	    "test_z_total 2\n"
	    "test_z_total{t=\"a\"} 1\n"
	    "test_z_total{t=\"b\"} 7\n"));
}

static void
openmetrics_has_its_own_families_and_an_end(void **state)
{
	const char *text;

	(void)state;
	metric_add(metrics_counter("test_om_total", "t=\"a\"",
		       "Said \"so\".\nTwice."),
	    5);
	metric_add(metrics_counter("test_odd", NULL, "Without a suffix."), 1);
	buffer_clear(&out);
	metrics_write(&out, METRICS_OPENMETRICS);
	assert_int_equal(out.failed, 0);
	text = buffer_text(&out);
	assert_non_null(strstr(text,
	    "# HELP test_om Said \\\"so\\\".\\nTwice.\n"
	    "# TYPE test_om counter\n"
	    "test_om_total{t=\"a\"} 5\n"));
	assert_non_null(strstr(text, "# TYPE test_odd counter\n"));
	assert_non_null(strstr(text, "# TYPE process_cpu_seconds counter\n"));
	assert_string_equal(text + strlen(text) - 7, "\n# EOF\n");
	assert_non_null(
	    strstr(written(), "# HELP test_om_total Said \"so\".\\nTwice.\n"));
	assert_null(strstr(written(), "EOF"));
}

static void
accept_chooses_the_format(void **state)
{
	static const struct {
		const char *accept;
		enum metrics_format format;
	} cases[] = {
	    {NULL, METRICS_TEXT},
	    {"", METRICS_TEXT},
	    {"*/*", METRICS_TEXT},
	    {"text/plain", METRICS_TEXT},
	    {"application/openmetrics-text", METRICS_OPENMETRICS},
	    {"Application/OpenMetrics-Text ; Version=1.0.0",
		METRICS_OPENMETRICS},
	    /* As Prometheus asks, 2.42 and 3. */
	    {"application/openmetrics-text;version=1.0.0,application/"
	     "openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;"
	     "q=0.5,*/*;q=0.1",
		METRICS_OPENMETRICS},
	    {"application/openmetrics-text;version=1.0.0;escaping="
	     "allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2",
		METRICS_OPENMETRICS},
	    {"text/plain;version=0.0.4;q=0.9, "
	     "application/openmetrics-text;q=0.8",
		METRICS_TEXT},
	    {"application/openmetrics-text;q=0", METRICS_TEXT},
	    {"application/openmetrics-text;q=nan", METRICS_TEXT},
	    {"application/openmetrics-text;version=0.0.1", METRICS_TEXT},
	    {"application/openmetrics-texts", METRICS_TEXT},
	    {"text/html,application/xhtml+xml,*/*;q=0.8", METRICS_TEXT},
	    {",,;q=1,application/openmetrics-text;;q=;", METRICS_TEXT},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (metrics_format_asked(cases[i].accept) != cases[i].format)
			fail_msg("wrong format for \"%s\"", cases[i].accept);
}

static void
gauges_take_reals(void **state)
{
	struct metric *m = metrics_gauge("test_real", NULL, NULL);

	(void)state;
	metric_set_f64(m, 0.1);
	assert_non_null(strstr(written(), "\ntest_real 0.1\n"));
	metric_set_f64(m, (double)INFINITY);
	assert_non_null(strstr(written(), "\ntest_real +Inf\n"));
	assert_true(metric_value(m) == INT64_MAX);
	metric_set_f64(m, -(double)INFINITY);
	assert_non_null(strstr(written(), "\ntest_real -Inf\n"));
	assert_true(metric_value(m) == INT64_MIN);
	metric_set_f64(m, (double)NAN);
	assert_non_null(strstr(written(), "\ntest_real NaN\n"));
	assert_int_equal(metric_value(m), 0);
	metric_set_f64(m, -7.9);
	assert_int_equal(metric_value(m), -7);
}

static void
histograms_count_up_to_infinity(void **state)
{
	static const int64_t observed[] = {0, 100, 101, 9999, 10000, 1000001,
	    10000001, -5};
	struct metric *m = metrics_histogram("test_seconds", "p=\"1\"", "H.");
	const char *text;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(observed) / sizeof(observed[0]); i++)
		metric_observe_us(m, observed[i]);
	assert_int_equal(metric_value(m), 8);
	text = written();
	assert_non_null(strstr(text,
	    "# TYPE test_seconds histogram\n"
	    "test_seconds_bucket{p=\"1\",le=\"0.0001\"} 3\n"
	    "test_seconds_bucket{p=\"1\",le=\"0.00025\"} 4\n"
	    "test_seconds_bucket{p=\"1\",le=\"0.0005\"} 4\n"));
	assert_non_null(strstr(text,
	    "test_seconds_bucket{p=\"1\",le=\"0.005\"} 4\n"
	    "test_seconds_bucket{p=\"1\",le=\"0.01\"} 6\n"));
	assert_non_null(strstr(text,
	    "test_seconds_bucket{p=\"1\",le=\"1\"} 6\n"
	    "test_seconds_bucket{p=\"1\",le=\"2.5\"} 7\n"
	    "test_seconds_bucket{p=\"1\",le=\"5\"} 7\n"
	    "test_seconds_bucket{p=\"1\",le=\"10\"} 7\n"
	    "test_seconds_bucket{p=\"1\",le=\"+Inf\"} 8\n"
	    "test_seconds_sum{p=\"1\"} 11.020202\n"
	    "test_seconds_count{p=\"1\"} 8\n"));
	metrics_histogram("test_plain_seconds", NULL, NULL);
	assert_non_null(strstr(written(),
	    "\ntest_plain_seconds_bucket{le=\"+Inf\"} 0\n"
	    "test_plain_seconds_sum 0.000000\n"
	    "test_plain_seconds_count 0\n"));
}

static void
labels_are_escaped_and_must_fit(void **state)
{
	char text[64] = "";

	(void)state;
	assert_int_equal(metrics_label(text, sizeof(text), "a", "x\"y"), 0);
	assert_int_equal(metrics_label(text, sizeof(text), "b", "\\\n\xFF"), 0);
	assert_string_equal(text, "a=\"x\\\"y\",b=\"\\\\\\n\xEF\xBF\xBD\"");
	text[0] = '\0';
	assert_int_equal(metrics_label(text, 6, "a", "bc"), -1);
	assert_string_equal(text, "");
	assert_int_equal(metrics_label(text, 7, "a", "bc"), 0);
	assert_string_equal(text, "a=\"bc\"");
	assert_int_equal(metrics_label(text, 7, "b", ""), -1);
	assert_int_equal(metrics_label(text, 12, "b", "\n"), -1);
	assert_int_equal(metrics_label(text, 13, "b", "\n"), -1);
	assert_string_equal(text, "a=\"bc\"");
	assert_int_equal(metrics_label(text, 13, "b", "n"), 0);
	assert_string_equal(text, "a=\"bc\",b=\"n\"");
}

static void
the_process_is_measured(void **state)
{
	struct rusage usage;
	double fds;
	int fd;

	(void)state;
	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	assert_true(value_of("process_resident_memory_bytes") > 100000);
	assert_true(value_of("process_virtual_memory_bytes") >=
	    value_of("process_resident_memory_bytes"));
	assert_true(value_of("process_max_fds") > 2);
	assert_true(value_of("process_resident_memory_bytes") <=
	    (double)usage.ru_maxrss * 1024 * 2);
	fds = value_of("process_open_fds");
	assert_true((fd = dup(0)) >= 0);
	assert_true(value_of("process_open_fds") > fds);
	close(fd);
	assert_true(value_of("process_open_fds") < fds + 1);
	assert_true(fabs(value_of("process_start_time_seconds") -
			(double)time(NULL)) < 120);
	assert_true(value_of("process_cpu_seconds_total") >= 0);
	assert_true(value_of("process_cpu_seconds_total") < 600);
}

static void
expect_abort(struct metric *(*make)(const char *, const char *, const char *),
    const char *name)
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0) {
		make(name, "a=\"b\"", NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
quantiles_are_interpolated(void **state)
{
	struct metric *m;
	int i;

	(void)state;
	m = metrics_histogram("test_quantile_seconds", NULL, NULL);
	assert_int_equal(metric_quantile_us(m, 0.5), 0);
	for (i = 0; i < 90; i++)
		metric_observe_us(m, 700); /* 500 to 1000 */
	for (i = 0; i < 10; i++)
		metric_observe_us(m, 9000); /* 5000 to 10000 */
	assert_int_equal(metric_quantile_us(m, 0.45), 750);
	assert_int_equal(metric_quantile_us(m, 0.9), 1000);
	assert_int_equal(metric_quantile_us(m, 0.95), 7500);
	metric_observe_us(m, INT64_MAX / 2);
	assert_int_equal(metric_quantile_us(m, 1), 10000000);
}

static void
two_types_of_one_name_abort(void **state)
{

	(void)state;
	metrics_counter("test_typed_total", NULL, NULL);
	expect_abort(metrics_gauge, "test_typed_total");
}

/* In OpenMetrics these would be one family, of two types. */
static void
two_families_of_one_stem_abort(void **state)
{

	(void)state;
	metrics_counter("test_stem_seconds_total", NULL, NULL);
	expect_abort(metrics_histogram, "test_stem_seconds");
	metrics_gauge("test_other_stem", NULL, NULL);
	expect_abort(metrics_counter, "test_other_stem_total");
}

static void
the_disk_and_restarts_are_measured(void **state)
{

	(void)state;
	metrics_watch_disk("/");
	metrics_restarts(3);
	assert_true(value_of("millrace_disk_size_bytes") > 0);
	assert_true(value_of("millrace_disk_free_bytes") <=
	    value_of("millrace_disk_size_bytes"));
	assert_true(value_of("millrace_restarts_total") > 2.5);
}

static void *
change_and_write(void *arg)
{
	struct buffer buf = {0};
	struct metric *counter, *histogram, *own;
	char labels[32] = "";
	int i;

	counter = metrics_counter("test_shared_total", NULL, NULL);
	histogram = metrics_histogram("test_shared_seconds", NULL, NULL);
	metrics_label(labels, sizeof(labels), "thread", arg);
	own = metrics_gauge("test_own", labels, NULL);
	for (i = 0; i < ROUNDS; i++) {
		metric_add(counter, 1);
		metric_observe_us(histogram, i);
		metric_set_f64(own, i);
		if (i % 4000 == 0) {
			buffer_clear(&buf);
			metrics_write(&buf, METRICS_OPENMETRICS);
		}
	}
	buffer_free(&buf);
	return (NULL);
}

static void
threads_lose_no_count(void **state)
{
	static char names[THREADS][2] = {"0", "1", "2", "3"};
	pthread_t threads[THREADS];
	int i;

	(void)state;
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
				     change_and_write, names[i]),
		    0);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(metric_value(
			     metrics_counter("test_shared_total", NULL, NULL)),
	    THREADS * ROUNDS);
	assert_int_equal(metric_value(metrics_histogram("test_shared_seconds",
			     NULL, NULL)),
	    THREADS * ROUNDS);
	assert_true(value_of("test_own{thread=\"3\"}") > ROUNDS - 2);
}

#define TURNS 2000

static struct metric *turning[TURNS];
static atomic_int read_at; /* the one that is being read */

static void *
set_in_turn(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < TURNS; i++) {
		while (atomic_load(&read_at) < i)
			continue;
		metric_set_f64(turning[i], 1);
	}
	return (NULL);
}

static void
a_gauge_set_to_a_real_is_never_read_as_its_bits(void **state)
{
	char labels[32];
	pthread_t thread;
	int64_t value;
	int i;

	(void)state;
	for (i = 0; i < TURNS; i++) {
		snprintf(labels, sizeof(labels), "turn=\"%d\"", i);
		turning[i] = metrics_gauge("test_turning", labels, "Turns.");
	}
	assert_int_equal(pthread_create(&thread, NULL, set_in_turn, NULL), 0);
	for (i = 0; i < TURNS; i++) {
		atomic_store(&read_at, i);
		while ((value = metric_value(turning[i])) == 0)
			continue;
		if (value != 1)
			fail_msg("turn %d: %lld", i, (long long)value);
	}
	pthread_join(thread, NULL);
}

static int
free_out(void **state)
{

	(void)state;
	buffer_free(&out);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(families_are_sorted_and_together),
	    cmocka_unit_test(openmetrics_has_its_own_families_and_an_end),
	    cmocka_unit_test(accept_chooses_the_format),
	    cmocka_unit_test(gauges_take_reals),
	    cmocka_unit_test(histograms_count_up_to_infinity),
	    cmocka_unit_test(labels_are_escaped_and_must_fit),
	    cmocka_unit_test(the_process_is_measured),
	    cmocka_unit_test(quantiles_are_interpolated),
	    cmocka_unit_test(two_types_of_one_name_abort),
	    cmocka_unit_test(two_families_of_one_stem_abort),
	    cmocka_unit_test(the_disk_and_restarts_are_measured),
	    cmocka_unit_test(threads_lose_no_count),
	    cmocka_unit_test(a_gauge_set_to_a_real_is_never_read_as_its_bits),
	};

	return (cmocka_run_group_tests(tests, NULL, free_out));
}
