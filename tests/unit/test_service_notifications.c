/*
 * notifications: one an order and outcome, in words, and not for ever.
 */
#include "service_fake.h"

#include "../../cmd/notifications/notifications.c" /* NOLINT(bugprone-suspicious-include) */

#define ORDER "01a1fbfe-4c0c-775c-ba95-8384c7ef2c93"

static int
setup(void **state)
{
	(void)state;
	fake_open("notifications", migrations_notifications);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	fake_close();
	return (0);
}

static int
apply(const char *type, int64_t ts_ms, struct mr_error *err)
{
	struct stream_record record;
	char value[256];

	snprintf(value, sizeof(value),
	    "{\"order_id\":\"" ORDER "\",\"item\":\"Laptop\",\"quantity\":1,"
	    "\"reason\":\"unknown item\",\"delta\":5,\"on_hand\":9,"
	    "\"ts_ms\":%lld}",
	    (long long)ts_ms);
	record = fake_record("inventory-events", type, value);
	return (fake_apply(notifications_decode, notifications_apply, &record,
	    err));
}

static void
test_each_outcome_is_told_once_and_in_words(void **state)
{
	static const struct {
		const char *type;
		const char *sql;
	} cases[] = {
	    {"inventory.reserved",
		"SELECT seq FROM notifications WHERE outcome = 'confirmed'"
		" AND message = 'Your order of 1 Laptop is confirmed'"},
	    {"inventory.rejected",
		"SELECT seq FROM notifications WHERE outcome = 'rejected' AND"
		" message = 'Your order of 1 Laptop was rejected: unknown item'"},
	    {"inventory.released",
		"SELECT seq FROM notifications WHERE outcome = 'cancelled'"
		" AND message = 'Your order of 1 Laptop was cancelled'"},
	};
	struct mr_error err;
	int i, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 3; i++) {
			assert_int_equal(apply(cases[i].type, FAKE_TS_MS, &err),
			    0);
			assert_int_equal(fake_number(cases[i].sql), i + 1);
			assert_int_equal(fake.said, round == 0 ? i + 1 : 3);
		}
	}
	assert_int_equal(fake_number("SELECT count(*) FROM notifications"), 3);
	assert_int_equal(fake_number("SELECT seq FROM notifications_cursor"),
	    3);
}

static void
test_a_rejected_order_is_told_of_its_cancellation_once(void **state)
{
	struct mr_error err;
	int round;

	(void)state;
	assert_int_equal(apply("inventory.rejected", FAKE_TS_MS, &err), 0);
	for (round = 0; round < 2; round++)
		assert_int_equal(apply("inventory.cancelled", FAKE_TS_MS, &err),
		    0);
	assert_int_equal(fake_number("SELECT count(*) FROM notifications"), 2);
	assert_int_equal(
	    fake_number("SELECT seq FROM notifications WHERE"
			" outcome = 'cancelled' AND"
			" message = 'Your order of 1 Laptop was cancelled'"),
	    2);
}

static void
test_restocking_tells_nobody(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(apply("inventory.adjusted", FAKE_TS_MS, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM notifications"), 0);
	assert_int_equal(fake.said, 0);
}

static void
test_old_ones_go_and_the_cursor_stays(void **state)
{
	struct mr_error err;

	(void)state;
	notifications_keep_ms = 1000;
	assert_int_equal(apply("inventory.reserved", FAKE_TS_MS, &err), 0);
	assert_int_equal(apply("inventory.released", FAKE_TS_MS + 500, &err),
	    0);
	assert_int_equal(notifications_tick(NULL, FAKE_TS_MS + 1000, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM notifications"), 2);
	assert_int_equal(notifications_tick(NULL, FAKE_TS_MS + 1001, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM notifications"), 1);
	assert_int_equal(notifications_tick(NULL, FAKE_TS_MS + 9000, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM notifications"), 0);
	assert_int_equal(fake_number("SELECT seq FROM notifications_cursor"),
	    2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	    TEST(test_each_outcome_is_told_once_and_in_words),
	    TEST(test_a_rejected_order_is_told_of_its_cancellation_once),
	    TEST(test_restocking_tells_nobody),
	    TEST(test_old_ones_go_and_the_cursor_stays),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
