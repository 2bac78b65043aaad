/*
 * rollups, driven: seconds, minutes and hours come out the same whatever dies
 * when, settled or not, and in whatever order samples arrive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "one_type.h"
#include "testing/testing.h"

int rollups_main(int argc, char **argv);
#define main rollups_main
#include "../../cmd/rollups/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/rollups/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/rollups/rollups.c" /* NOLINT(bugprone-suspicious-include) */

static const char topic[] = "system-metrics";

#define AT_MS TESTING_START_MS /* a full hour */
#define H1_CPU "/metrics-history?host=h1&metric=cpu"

/* ${at_ms} is counted from AT_MS. */
static void
feed(struct testing *t, const char *host, const char *metric, const char *value,
    int64_t at_ms)
{
	char text[256];

	snprintf(text, sizeof(text),
	    "{\"host\":\"%s\",\"metric\":\"%s\",\"value\":%s,\"ts_ms\":%lld}",
	    host, metric, value, (long long)(AT_MS + at_ms));
	testing_feed(t, topic, "metric.sampled", host, text);
}

static void
expect(struct testing *t, const char *target, int status, const char *part)
{
	const struct testing_answer *answer;

	answer = testing_request(t, "GET", target, NULL);
	if (answer->status != status || strstr(answer->body, part) == NULL)
		fail_msg("%s: %d %s, not %s", target, answer->status,
		    answer->body, part);
}

static void
all_is_counted_once_wherever_it_dies(void **state)
{
	static const char *const flags[] = {"--keep-seconds=10m", NULL};
	struct testing *t = testing_open(&rollups, flags);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed(t, "h1", "cpu", "10", 1000);
	feed(t, "h1", "cpu", "12.5", 2000);
	feed(t, "h2", "cpu", "1", 2000);
	testing_repeat(t, topic, 2);
	feed(t, "h1", "cpu", "11", 3600000 + 599999);
	feed(t, "h1", "cpu", "9", 0); /* just not late */
	feed(t, "h1", "cpu", "11", 3600000 + 600000);
	feed(t, "h1", "cpu", "7", 3599999); /* late */
	feed(t, "h1", "cpu", "high", 3600000);
	feed(t, "h1", "cpu", "1", INT64_C(90000000)); /* 25 h ahead */
	testing_advance(t, 1000);
	assert_int_equal(testing_number(t, "SELECT samples FROM progress"), 7);
	assert_int_equal(testing_number(t, "SELECT late FROM progress"), 1);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM seconds"), 2);
	assert_string_equal(
	    testing_text(t,
		"SELECT group_concat(host || step_ms || ':' || count || ' ' ||"
		" min_milli || ' ' || max_milli || ' ' || mean_milli || ' ' ||"
		" p50_milli || ' ' || p99_milli, ', ') FROM (SELECT * FROM"
		" rollups JOIN series ON id = series ORDER BY series, step_ms)"),
	    "h160000:3 9000 12500 10500.0 10000 12500, "
	    "h13600000:3 9000 12500 10500.0 10000 12500, "
	    "h260000:1 1000 1000 1000.0 1000 1000, "
	    "h23600000:1 1000 1000 1000.0 1000 1000");
	assert_int_equal(testing_emitted(t, "rollups.dead-letter"), 2);
	assert_non_null(
	    strstr(testing_record(t, "rollups.dead-letter", 0)->reason,
		"value: is no JSON"));
	assert_non_null(
	    strstr(testing_record(t, "rollups.dead-letter", 1)->reason,
		"ts_ms: is more than 86400 s (--ahead)"));
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

/* 1 to 100 in a minute, 7 three times in another, in no order. */
static void
feed_hour(struct testing *t)
{
	char value[16];
	int i;

	for (i = 0; i < 100; i++) {
		snprintf(value, sizeof(value), "%d", 1 + i * 37 % 100);
		feed(t, "h1", "cpu", value, i * 53 % 60 * 1000);
	}
	for (i = 0; i < 3; i++)
		feed(t, "h1", "cpu", i == 1 ? "7.001" : "7",
		    120000 + i % 2 * 500);
}

#define FIRST_MINUTE                                                     \
	"{\"ts_ms\":1800000000000,\"count\":100,\"min\":1.000,\"max\":"  \
	"100.000,\"mean\":50.5,\"p50\":50.000,\"p99\":99.000,\"score\":" \
	"null,\"unusual\":false},{\"ts_ms\":1800000120000,\"count\":3,"  \
	"\"min\":7.000,\"max\":7.001,"
#define HOUR                                                          \
	"\"points\":[{\"ts_ms\":1800000000000,\"count\":103,\"min\":" \
	"1.000,\"max\":100.000,"
#define HOUR_PERCENTILES "\"p50\":49.000,\"p99\":99.000,"

static void
percentiles_are_exact_settled_or_not(void **state)
{
	static const char *const flags[] = {"--keep-seconds=1h", NULL};
	struct testing *t = testing_open(&rollups, flags);

	(void)state;
	expect(t, H1_CPU, 200, "\"points\":[]");
	feed_hour(t);
	expect(t, H1_CPU, 200, "\"points\":[" FIRST_MINUTE);
	expect(t, H1_CPU "&step=1h", 200, HOUR);
	expect(t, H1_CPU "&step=1h", 200, HOUR_PERCENTILES);
	expect(t, H1_CPU "&step=1s", 200,
	    "\"ts_ms\":1800000120000,\"count\":3,\"min\":7.000,\"max\":7.001,");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM rollups"), 0);
	feed(t, "h2", "load", "1", 7200000);
	testing_advance(t, 1000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM rollups"), 3);
	expect(t, H1_CPU "&from=1800000000000", 200,
	    "\"points\":[" FIRST_MINUTE);
	expect(t, H1_CPU "&step=1h", 200, HOUR);
	expect(t, H1_CPU "&step=1h", 200, HOUR_PERCENTILES);
	expect(t, H1_CPU "&step=1s", 200, "\"points\":[]");
	testing_close(t);
}

static void
ranges_and_steps_are_what_was_asked_for(void **state)
{
	struct testing *t = testing_open(&rollups, NULL);
	const struct testing_answer *answer;

	(void)state;
	feed_hour(t);
	expect(t, "/metrics-history/series", 200,
	    "{\"series\":[{\"host\":\"h1\",\"metric\":\"cpu\"}],\"poll_ms\":");
	expect(t, H1_CPU "&from=1800000000001&to=1800000120000", 200,
	    "\"step_ms\":60000,\"from_ms\":1800000000000,\"to_ms\":"
	    "1800000120000,\"watermark_ms\":1800000120500,\"points\":[{\"ts_"
	    "ms\":1800000000000,\"count\":100,");
	answer = testing_request(t, "GET",
	    H1_CPU "&from=1800000060000&to=1800000120000", NULL);
	assert_non_null(strstr(answer->body, "\"points\":[]"));
	answer = testing_request(t, "GET",
	    H1_CPU "&step=1s&from=1800000003000&to=1800000004000", NULL);
	/* The 52nd and the 112th of 100: one is. */
	assert_non_null(strstr(answer->body, "\"ts_ms\":1800000003000"));
	assert_null(strstr(answer->body, "\"ts_ms\":1800000004000"));
	expect(t, "/metrics-history?metric=cpu", 422, "host");
	expect(t, "/metrics-history?host=h1", 422, "metric");
	expect(t, H1_CPU "&step=5m", 422, "must be 1s, 1m or 1h");
	expect(t, H1_CPU "&from=0", 422, "at most 10000 steps");
	expect(t, H1_CPU "&points=2", 200, "\"from_ms\":1800000060000,");
	expect(t, H1_CPU "&points=0", 422, "points");
	expect(t, H1_CPU "&limit=3", 422, "limit");
	expect(t, "/metrics-history?host=h9&metric=cpu", 200, "\"points\":[]");
	testing_close(t);
}

static void
each_level_is_kept_for_its_time(void **state)
{
	static const char *const flags[] = {"--keep-seconds=0",
	    "--keep-minutes=3h", "--keep-hours=24h", NULL};
	struct testing *t = testing_open(&rollups, flags);

	(void)state;
	feed(t, "h1", "cpu", "1", 0);
	feed(t, "h2", "cpu", "2", 3600000);
	testing_advance(t, 1000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM rollups"), 2);
	testing_advance(t, 200000); /* a thousand ticks a call at most */
	assert_int_equal(testing_number(t, "SELECT count(*) FROM rollups"), 2);
	feed(t, "h3", "cpu", "3", 14400000);
	testing_advance(t, 1000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM rollups"), 4);
	testing_close(t);
}

static void
a_series_is_forgotten_with_its_last_hour(void **state)
{
	static const char *const flags[] = {"--keep-seconds=0",
	    "--keep-minutes=1m", "--keep-hours=1m", NULL};
	struct testing *t = testing_open(&rollups, flags);

	(void)state;
	feed(t, "h1", "cpu", "1", -7200000);
	feed(t, "h2", "cpu", "2", -7200000);
	feed(t, "h2", "cpu", "2", -3600000);
	testing_advance(t, 1000);
	assert_string_equal(testing_text(t,
				"SELECT group_concat(host) FROM series"),
	    "h2");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM rollups"), 0);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM seconds"), 1);
	feed(t, "h1", "cpu", "1", 0);
	testing_advance(t, 1000);
	assert_string_equal(testing_text(t,
				"SELECT group_concat(host) FROM series"),
	    "h1");
	testing_close(t);
}

static void
other_types_are_refused(void **state)
{

	(void)state;
	expect_one_type(testing_open(&rollups, NULL), "system-metrics",
	    "metric.sampled",
	    "{\"host\":\"h\",\"metric\":\"cpu\",\"value\":1,\"ts_ms\":1800000000000}",
	    "SELECT sum(samples) FROM progress", "rollups.dead-letter");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_is_counted_once_wherever_it_dies),
	    cmocka_unit_test(percentiles_are_exact_settled_or_not),
	    cmocka_unit_test(ranges_and_steps_are_what_was_asked_for),
	    cmocka_unit_test(each_level_is_kept_for_its_time),
	    cmocka_unit_test(a_series_is_forgotten_with_its_last_hour),
	    cmocka_unit_test(other_types_are_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
