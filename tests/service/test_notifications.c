/*
 * notifications, driven: each outcome is told once, whatever dies when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

int notifications_main(int argc, char **argv);
#define main notifications_main
#include "../../cmd/notifications/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/notifications/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/notifications/notifications.c" /* NOLINT(bugprone-suspicious-include) */

#define ORDER "01a1fbfe-4c0c-775c-ba95-8384c7ef2c93"
#define EVENT(id)                                                      \
	"{\"order_id\":\"" id "\",\"item\":\"Laptop\",\"quantity\":1," \
	"\"reason\":\"unknown item\",\"ts_ms\":1800000000000}"

static const char input[] = "inventory-events";
static const char sql_told[] = "SELECT count(*) FROM notifications";

static void
feed_a_life(struct testing *t)
{
	testing_feed(t, input, "inventory.reserved", ORDER, EVENT(ORDER));
	testing_feed(t, input, "inventory.released", ORDER, EVENT(ORDER));
	testing_repeat(t, input, 2);
	assert_int_equal(testing_number(t, sql_told), 2);
	testing_feed(t, input, "inventory.reserved", "x", "{\"order_id\":7}");
}

static void
test_each_outcome_is_told_once_wherever_it_dies(void **state)
{
	struct testing *t = testing_open(&notifications, NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed_a_life(t);
	assert_int_equal(testing_emitted(t, "notifications.dead-letter"), 1);
	assert_non_null(
	    strstr(testing_record(t, "notifications.dead-letter", 0)->reason,
		"order_id"));
	assert_int_equal(testing_request(t, "GET", "/notifications?limit=9",
			     NULL)
			     ->status,
	    200);
	if (testing_crashes(t, &crashes, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

static void
test_another_machine_tells_the_same(void **state)
{
	struct testing *t = testing_open(&notifications, NULL);
	struct mr_error err = {0};

	(void)state;
	feed_a_life(t);
	if (testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

static void
test_old_ones_go_when_their_time_has_come(void **state)
{
	static const char *const flags[] = {"--keep=1h", NULL};
	struct testing *t = testing_open(&notifications, flags);

	(void)state;
	testing_feed(t, input, "inventory.reserved", ORDER, EVENT(ORDER));
	testing_advance(t, 3600000);
	assert_int_equal(testing_number(t, sql_told), 1);
	testing_advance(t, 10000);
	assert_int_equal(testing_number(t, sql_told), 0);
	testing_close(t);
}

/* Else who got as many as the limit would be told that there are no more. */
static void
test_the_next_page_has_another_etag(void **state)
{
	static const char *const pages[] = {"/notifications?since=0&limit=1",
	    "/notifications?since=1&limit=1"};
	struct testing *t = testing_open(&notifications, NULL);
	char etags[2][64];
	int i;

	(void)state;
	feed_a_life(t);
	for (i = 0; i < 2; i++)
		snprintf(etags[i], sizeof(etags[i]), "%s",
		    testing_request(t, "GET", pages[i], NULL)->etag);
	assert_string_not_equal(etags[0], etags[1]);
	assert_string_equal(testing_request(t, "GET", pages[0], NULL)->etag,
	    etags[0]);
	testing_close(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_outcome_is_told_once_wherever_it_dies),
	    cmocka_unit_test(test_another_machine_tells_the_same),
	    cmocka_unit_test(test_old_ones_go_when_their_time_has_come),
	    cmocka_unit_test(test_the_next_page_has_another_etag),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
