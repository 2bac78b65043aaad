/*
 * analytics, driven: windows, sessions and late events come out the same
 * whatever dies when, and in whatever order events arrive.
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

int analytics_main(int argc, char **argv);
#define main analytics_main
#include "../../cmd/analytics/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/analytics/analytics.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/analytics/api.c" /* NOLINT(bugprone-suspicious-include) */

static const char topic[] = "user-events";

#define AT_MS TESTING_START_MS /* a full minute */

/* ${at_ms} is counted from AT_MS. */
static void
feed(struct testing *t, const char *user, const char *kind, const char *page,
    int64_t at_ms)
{
	char value[512];

	snprintf(value, sizeof(value),
	    "{\"event_id\":\"%s%lld\",\"user_id\":\"%s\",\"event\":\"%s\","
	    "\"page\":\"%s\",\"amount_minor\":250,\"currency\":\"EUR\","
	    "\"ts_ms\":%lld}",
	    user, (long long)at_ms, user, kind, page,
	    (long long)(AT_MS + at_ms));
	testing_feed(t, topic, "user.acted", user, value);
}

static void
feed_some(struct testing *t)
{
	feed(t, "ann", "click", "/", 1000);
	feed(t, "ann", "click", "/product/7", 2000);
	feed(t, "bob", "signup", "/signup", 59999);
	feed(t, "ann", "click", "/cart", 60000);
	testing_repeat(t, topic, 2);
	feed(t, "bob", "click", "/search", 50000); /* in its grace */
	feed(t, "ann", "click", "/checkout", 70000);
	feed(t, "ann", "purchase", "/checkout", 75000);
	feed(t, "cid", "click", "/", 200000);
	feed(t, "ann", "click", "/", 59000); /* late */
	feed(t, "ann", "dance", "/", 200000);
	feed(t, "ann", "click", "/", INT64_C(90000000)); /* 25 h ahead */
}

static void
all_is_counted_once_wherever_it_dies(void **state)
{
	struct testing *t = testing_open(&analytics, NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed_some(t);
	assert_int_equal(testing_number(t, "SELECT sum(count) FROM minutes"),
	    8);
	assert_int_equal(testing_number(t, "SELECT sum(late) FROM minutes"), 1);
	assert_int_equal(testing_number(t, "SELECT late FROM progress"), 1);
	assert_int_equal(testing_number(t, "SELECT events FROM progress"), 9);
	assert_int_equal(
	    testing_number(t,
		"SELECT count FROM minutes WHERE event = 'signup'"),
	    1);
	assert_int_equal(testing_emitted(t, "analytics.dead-letter"), 2);
	assert_non_null(
	    strstr(testing_record(t, "analytics.dead-letter", 0)->reason,
		"event: must be click, purchase or signup"));
	assert_non_null(
	    strstr(testing_record(t, "analytics.dead-letter", 1)->reason,
		"ts_ms: is more than 86400 s (--ahead)"));
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

static void
sessions_join_in_any_order(void **state)
{
	static const int64_t minutes[] = {0, 50, 25, 85, 200, 115, 170, 144};
	/* 0-25-50, 85, 115, 144, 170, 200: 35 and 30 minutes are gaps. */
	static const char *const sessions =
	    "SELECT group_concat(((start_ms - 1800000000000) / 60000) || '-' ||"
	    " ((last_ms - 1800000000000) / 60000) || ':' || events, ' ')"
	    " FROM (SELECT * FROM sessions ORDER BY start_ms)";
	static const char *const flags[] = {"--grace=10d", NULL};
	struct testing *t = testing_open(&analytics, flags);
	size_t i, n = sizeof(minutes) / sizeof(minutes[0]);

	(void)state;
	for (i = 0; i < n; i++)
		feed(t, "ann", "click", "/", minutes[i] * 60000);
	assert_string_equal(testing_text(t, sessions),
	    "0-50:3 85-85:1 115-170:3 200-200:1");
	/* A millisecond nearer, and they are one. */
	feed(t, "ann", "click", "/", INT64_C(170) * 60000 + 1);
	feed(t, "ann", "click", "/", INT64_C(115) * 60000 - 1);
	assert_string_equal(testing_text(t, sessions), "0-50:3 85-200:7");
	testing_close(t);
}

static void
expect(struct testing *t, const char *target, int status, const char *part)
{
	const struct testing_answer *answer;

	answer = testing_request(t, "GET", target, NULL);
	if (answer->status != status || strstr(answer->body, part) == NULL)
		fail_msg("%s: %d %s", target, answer->status, answer->body);
}

static void
urls_answer_with_windows(void **state)
{
	struct testing *t = testing_open(&analytics, NULL);

	(void)state;
	expect(t, "/analytics/summary", 200, "\"users\":0");
	expect(t, "/analytics/windows", 200, "\"windows\":[]");
	expect(t, "/analytics/funnel", 200, "\"sessions\":0");
	expect(t, "/analytics/top", 200, "\"top\":[]");
	feed_some(t);
	expect(t, "/analytics/summary", 200,
	    "\"events\":{\"click\":6,\"purchase\":1,\"signup\":1},"
	    "\"revenue\":[{\"currency\":\"EUR\",\"purchases\":1,"
	    "\"amount_minor\":250}],\"late\":1,\"users\":3,"
	    "\"sessions\":{\"count\":3,\"events\":8,\"duration_ms\":83999,"
	    "\"with_purchase\":1},\"ever\":{\"events\":9,\"late\":1},"
	    "\"watermark_ms\":1800000200000");
	expect(t, "/analytics/windows", 200,
	    "\"windows\":[{\"start_ms\":1800000000000,"
	    "\"end_ms\":1800000060000,\"closed\":true,\"click\":3,"
	    "\"purchase\":0,\"signup\":1,\"late\":1,\"users\":2,"
	    "\"amount_minor\":{}},{\"start_ms\":1800000060000,"
	    "\"end_ms\":1800000120000,\"closed\":true,\"click\":2,"
	    "\"purchase\":1,\"signup\":0,\"late\":0,\"users\":1,"
	    "\"amount_minor\":{\"EUR\":250}},{\"start_ms\":1800000180000,"
	    "\"end_ms\":1800000240000,\"closed\":false,\"click\":1,");
	expect(t, "/analytics/windows?kind=hopping&from=1799999940000", 200,
	    "\"windows\":[{\"start_ms\":1799999940000,"
	    "\"end_ms\":1800000240000,\"closed\":false,\"click\":6,"
	    "\"purchase\":1,\"signup\":1,\"late\":1,\"users\":3,"
	    "\"amount_minor\":{\"EUR\":250}},");
	expect(t, "/analytics/windows?kind=session&limit=1", 200,
	    "\"windows\":[{\"start_ms\":1800000200000,"
	    "\"end_ms\":1800002000000,\"closed\":false,"
	    "\"last_ms\":1800000200000,\"user_id\":\"cid\",\"events\":1,"
	    "\"steps\":[\"visit\"]}]");
	expect(t, "/analytics/funnel", 200,
	    "\"sessions\":3,\"funnel\":[{\"step\":\"visit\",\"sessions\":3},"
	    "{\"step\":\"product\",\"sessions\":1},{\"step\":\"cart\","
	    "\"sessions\":1},{\"step\":\"checkout\",\"sessions\":1},"
	    "{\"step\":\"purchase\",\"sessions\":1}]");
	expect(t, "/analytics/funnel", 200,
	    "{\"a\":\"cart\",\"b\":\"purchase\",\"sessions\":1,\"phi\":1}");
	expect(t, "/analytics/funnel", 200,
	    "{\"a\":\"cart\",\"b\":\"search\",\"sessions\":0,\"phi\":-0.5}");
	expect(t, "/analytics/top?what=users&limit=1", 200,
	    "\"top\":[{\"name\":\"ann\",\"events\":5}]");
	expect(t, "/analytics/top?limit=2", 200,
	    "\"top\":[{\"name\":\"/\",\"events\":2},{\"name\":\"/checkout\","
	    "\"events\":2}]");
	expect(t, "/analytics/windows?kind=sliding", 422, "kind");
	expect(t, "/analytics/top?what=cats", 422, "what");
	expect(t, "/analytics/summary?from=x", 422, "from");
	testing_close(t);
}

static void
expect_first_closed(struct testing *t, const char *closed)
{
	char part[96];

	snprintf(part, sizeof(part),
	    "\"windows\":[{\"start_ms\":%lld,\"end_ms\":%lld,\"closed\":%s,",
	    (long long)AT_MS, (long long)AT_MS + MINUTE_MS, closed);
	expect(t, "/analytics/windows", 200, part);
}

/* A shorter one closes it, with no event to come. */
static void
a_longer_grace_opens_no_minute_again(void **state)
{
	const char *flags[] = {"--grace=10m", NULL};
	struct testing *t = testing_open(&analytics, flags);

	(void)state;
	feed(t, "ann", "click", "/", 1000);
	feed(t, "ann", "click", "/", 100000);
	testing_advance(t, 20000);
	expect_first_closed(t, "false");
	flags[0] = "--grace=30s";
	testing_restart(t);
	testing_advance(t, 20000);
	expect_first_closed(t, "true");
	flags[0] = "--grace=10m";
	testing_restart(t);
	testing_advance(t, 20000);
	expect_first_closed(t, "true");
	feed(t, "ann", "click", "/", 2000); /* late */
	feed(t, "ann", "click", "/", 61000);
	assert_int_equal(testing_number(t, "SELECT late FROM progress"), 1);
	assert_int_equal(testing_number(t, "SELECT sum(count) FROM minutes"),
	    3);
	expect_first_closed(t, "true");
	testing_close(t);
}

static void
the_oldest_go(void **state)
{
	static const char *const flags[] = {"--keep=1h", NULL};
	struct testing *t = testing_open(&analytics, flags);
	struct mr_error err = {0};

	(void)state;
	feed_some(t);
	testing_advance(t, 3600000 + 70000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM minutes"), 1);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM sessions"), 1);
	testing_advance(t, 600000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM minute_users"),
	    0);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM minute_pages"),
	    0);
	if (testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

static void
other_types_are_refused(void **state)
{

	(void)state;
	expect_one_type(testing_open(&analytics, NULL), "user-events",
	    "user.acted",
	    "{\"event_id\":\"1\",\"user_id\":\"u\",\"event\":\"click\",\"page\":\"/\",\"ts_ms\":1800000000000}",
	    "SELECT sum(events) FROM progress", "analytics.dead-letter");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_is_counted_once_wherever_it_dies),
	    cmocka_unit_test(sessions_join_in_any_order),
	    cmocka_unit_test(urls_answer_with_windows),
	    cmocka_unit_test(a_longer_grace_opens_no_minute_again),
	    cmocka_unit_test(the_oldest_go),
	    cmocka_unit_test(other_types_are_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
