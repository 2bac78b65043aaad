/*
 * orders: the state machine, whichever way events and commands meet, and the
 * trace that they leave.
 */
#include "service_fake.h"

#include "../../cmd/orders/orders.c" /* NOLINT(bugprone-suspicious-include) */

#define ORDER "01a1fbfe-4c0c-775c-ba95-8384c7ef2c93"

static int
setup(void **state)
{
	(void)state;
	fake_open("orders", migrations_orders);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	fake_close();
	return (0);
}

/* Run a command and return the answer's status; 0 is an error. */
static int
run(int kind, const void *input)
{
	struct stream_command command = {.kind = kind,
	    .input = input,
	    .now_ms = FAKE_TS_MS,
	    .id = ORDER};
	struct stream_answer answer = {.status = 200};
	struct mr_error err;
	int status;

	if (orders_command(NULL, &command, &answer, &err) != 0)
		answer.status = 0;
	status = answer.status;
	buffer_free(&answer.body);
	return (status);
}

static int
place_one(void)
{
	static const struct orders_place input = {"Laptop", 2};

	return (run(ORDERS_PLACE, &input));
}

static int
cancel_it(void)
{
	static const struct orders_cancel input = {ORDER};

	return (run(ORDERS_CANCEL, &input));
}

static int
apply(const char *type, const char *order_id, struct mr_error *err)
{
	struct stream_record record;
	char value[256];

	snprintf(value, sizeof(value),
	    "{\"order_id\":\"%s\",\"item\":\"Laptop\",\"quantity\":2,"
	    "\"reason\":\"not enough stock: 1 on hand\","
	    "\"delta\":5,\"on_hand\":9,\"ts_ms\":1795229109260}",
	    order_id);
	record = fake_record("inventory-events", type, value);
	record.cause_topic = "order-events";
	record.cause_partition = 2;
	record.cause_offset = 70 + record.offset;
	return (fake_apply(orders_decode, orders_apply, &record, err));
}

static void
test_events_and_cancellation_lead_where_they_should(void **state)
{
	/* c cancels; v, x, r, k: reserved, rejected, released, cancelled. */
	static const struct {
		const char *way;
		const char *status;
		int64_t traced;
	} cases[] = {
	    {"", "PENDING", 0},
	    {"v", "CONFIRMED", 2},
	    {"x", "REJECTED", 2},
	    {"c", "CANCELLED", 0},
	    {"vc", "CANCELLED", 2},
	    {"vcr", "CANCELLED", 4},
	    {"cvr", "CANCELLED", 4},
	    {"cx", "CANCELLED", 2},
	    {"cc", "CANCELLED", 0},
	    {"vx", "CONFIRMED", 4},
	    {"xv", "REJECTED", 4},
	    {"cxk", "CANCELLED", 4},
	    {"xkx", "CANCELLED", 6},
	    /* a restored file's ways */
	    {"vr", "CANCELLED", 4},
	    {"xk", "CANCELLED", 4},
	};
	static const char forget[] = "DELETE FROM orders";
	static const char forget_trace[] = "DELETE FROM order_trace";
	static const char sql_status[] = "SELECT status FROM orders";
	struct mr_error err;
	struct store_rows *rows;
	const char *step, *type;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(place_one(), 201);
		for (step = cases[i].way; *step != '\0'; step++) {
			type = *step == 'v' ? "inventory.reserved" :
			    *step == 'x'    ? "inventory.rejected" :
			    *step == 'k'    ? "inventory.cancelled" :
					      "inventory.released";
			if (*step == 'c')
				assert_int_equal(cancel_it(), 200);
			else
				assert_int_equal(apply(type, ORDER, &err), 0);
		}
		rows = store_query(fake.st, &err, sql_status);
		assert_int_equal(store_next(rows, &err), 1);
		if (strcmp(store_get_text(rows, 0), cases[i].status) != 0)
			fail_msg("%s: %s", cases[i].way,
			    store_get_text(rows, 0));
		store_rows_done(rows);
		assert_int_equal(fake_number(
				     "SELECT count(*) FROM order_trace"),
		    cases[i].traced);
		assert_int_equal(store_run(fake.st, &err, forget), 1);
		assert_true(store_run(fake.st, &err, forget_trace) >= 0);
	}
}

static void
test_a_rejected_order_keeps_its_reason_and_refuses_to_be_cancelled(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(place_one(), 201);
	assert_int_equal(apply("inventory.rejected", ORDER, &err), 0);
	assert_int_equal(cancel_it(), 409);
	assert_int_equal(fake.emitted_count, 1);
	assert_int_equal(fake_number("SELECT count(*) FROM orders WHERE"
				     " reason = 'not enough stock: 1 on hand'"),
	    1);
}

static void
test_cancelling_twice_says_so_once(void **state)
{
	(void)state;
	assert_int_equal(cancel_it(), 404);
	assert_int_equal(place_one(), 201);
	assert_int_equal(cancel_it(), 200);
	assert_int_equal(cancel_it(), 200);
	assert_int_equal(fake.emitted_count, 2);
	assert_string_equal(fake.emitted[0].type, "order.created");
	assert_string_equal(fake.emitted[1].type, "order.cancelled");
	assert_string_equal(fake.emitted[1].key, "Laptop");
	assert_string_equal(fake.emitted[1].value,
	    "{\"order_id\":\"" ORDER "\",\"item\":\"Laptop\",\"quantity\":2,"
	    "\"ts_ms\":1795229109260}");
}

static void
test_an_event_of_an_unknown_order_is_a_dead_letter(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(apply("inventory.reserved", ORDER, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(fake_number("SELECT count(*) FROM order_trace"), 0);
}

static void
test_restocking_is_not_the_orders_business(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(apply("inventory.adjusted", ORDER, &err), 0);
	assert_int_equal(fake_number("SELECT revision FROM orders_revision"),
	    0);
}

static void
test_every_change_moves_the_revision(void **state)
{
	static const char sql[] = "SELECT revision FROM orders_revision";
	struct mr_error err;

	(void)state;
	assert_int_equal(place_one(), 201);
	assert_int_equal(fake_number(sql), 1);
	assert_int_equal(apply("inventory.reserved", ORDER, &err), 0);
	assert_int_equal(fake_number(sql), 2);
	assert_int_equal(cancel_it(), 200);
	assert_int_equal(fake_number(sql), 3);
	assert_int_equal(cancel_it(), 200);
	assert_int_equal(fake_number(sql), 3);
	assert_int_equal(fake_number("SELECT revision FROM orders"), 3);
}

static void
test_the_trace_has_the_cause_and_the_record(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(place_one(), 201);
	assert_int_equal(apply("inventory.reserved", ORDER, &err), 0);
	assert_int_equal(cancel_it(), 200);
	assert_int_equal(apply("inventory.released", ORDER, &err), 0);
	assert_int_equal(
	    fake_number("SELECT count(*) FROM order_trace WHERE"
			" (type, topic, partition, offset) IN (VALUES"
			" ('order.created', 'order-events', 2, 70),"
			" ('inventory.reserved', 'inventory-events', 1, 0),"
			" ('order.cancelled', 'order-events', 2, 71),"
			" ('inventory.released', 'inventory-events', 1, 1))"),
	    4);
}

/* A file of the first version, with an order of each status. */
static void
test_orders_outlive_the_migration(void **state)
{
	static const char insert[] =
	    "INSERT INTO orders SELECT '01a1fbfe-4c0c-775c-ba95-8384c7ef2c9' ||"
	    " key, 'Laptop', 2, value, iif(value = 'REJECTED', 'none', NULL), 7,"
	    " key FROM json_each('[\"PENDING\",\"CONFIRMED\",\"REJECTED\","
	    "\"CANCELLED\"]')";
	static const char wrong[] = "UPDATE orders SET status = 'LOST'"
				    " WHERE status = 'PENDING'";
	const struct store_migration first[] = {migrations_orders[0], {0}};
	struct mr_error err;
	char path[128];
	struct store_options options = {.path = path,
	    .service = "orders",
	    .core = migrations_core,
	    .own = migrations_orders};

	(void)state;
	fake_open("orders", first);
	assert_int_equal(store_run(fake.st, &err, insert), 4);
	assert_int_equal(store_commit(fake.st, &err), 0);
	store_close(fake.st);
	snprintf(path, sizeof(path), "%s/state.db", fake.folder);
	if ((fake.st = store_open(&options, &err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(store_begin(fake.st, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM orders"
				     " WHERE created_at_ms = 7"),
	    4);
	assert_int_equal(fake_number(
			     "SELECT count(*) FROM orders"
			     " INDEXED BY orders_by_status"
			     " WHERE status = 'CANCELLED' AND revision = 3"),
	    1);
	assert_int_equal(store_run(fake.st, &err, wrong), -1);
	assert_int_equal(err.kind, MR_REJECT);
	fake_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	    TEST(test_events_and_cancellation_lead_where_they_should),
	    TEST(
		test_a_rejected_order_keeps_its_reason_and_refuses_to_be_cancelled),
	    TEST(test_cancelling_twice_says_so_once),
	    TEST(test_an_event_of_an_unknown_order_is_a_dead_letter),
	    TEST(test_restocking_is_not_the_orders_business),
	    TEST(test_every_change_moves_the_revision),
	    TEST(test_the_trace_has_the_cause_and_the_record),
	    cmocka_unit_test(test_orders_outlive_the_migration),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
