/*
 * inventory: stock is taken once an order and never below zero, given back
 * once, and every decision is an event.
 */
#include "service_fake.h"

#include "../../cmd/inventory/inventory.c" /* NOLINT(bugprone-suspicious-include) */

#define ORDER_A "01a1fbfe-4c0c-775c-ba95-8384c7ef2c93"
#define ORDER_B "01a1fbfe-4c33-7032-b1c9-de6bdf1cd5a7"

static int
setup(void **state)
{
	(void)state;
	fake_open("inventory", migrations_inventory);
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
apply(const char *type, const char *order_id, const char *item, int quantity,
    struct mr_error *err)
{
	struct stream_record record;
	char value[256];

	snprintf(value, sizeof(value),
	    "{\"order_id\":\"%s\",\"item\":\"%s\",\"quantity\":%d,"
	    "\"ts_ms\":1795229109260}",
	    order_id, item, quantity);
	record = fake_record("order-events", type, value);
	return (fake_apply(inventory_decode, inventory_apply, &record, err));
}

static const char sql_laptops[] =
    "SELECT on_hand FROM inventory WHERE item = 'Laptop'";
static const char sql_laptops_reserved[] =
    "SELECT reserved FROM inventory WHERE item = 'Laptop'";

static void
test_each_order_is_decided_as_stock_allows(void **state)
{
	static const struct {
		const char *item;
		int quantity;
		const char *type;
		const char *reason;
		int64_t laptops;
	} cases[] = {
	    {"Laptop", 1, "inventory.reserved", NULL, 999},
	    {"Laptop", 999, "inventory.reserved", NULL, 0},
	    {"Laptop", 1, "inventory.rejected", "not enough stock: 0 on hand",
		0},
	    {"laptop", 1, "inventory.rejected", "unknown item", 0},
	    {"Phone", 1001, "inventory.rejected",
		"not enough stock: 1000 on hand", 0},
	};
	struct mr_error err;
	char id[] = "01a1fbfe-4c0c-775c-ba95-8384c7ef2c90";
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		id[35] = (char)('0' + i);
		assert_int_equal(apply("order.created", id, cases[i].item,
				     cases[i].quantity, &err),
		    0);
		assert_int_equal(fake.emitted_count, (int)i + 1);
		assert_string_equal(fake.emitted[i].topic, "inventory-events");
		assert_string_equal(fake.emitted[i].type, cases[i].type);
		assert_string_equal(fake.emitted[i].key, id);
		assert_int_equal(fake.emitted[i].ts_ms, FAKE_TS_MS);
		if (cases[i].reason != NULL)
			assert_non_null(
			    strstr(fake.emitted[i].value, cases[i].reason));
		assert_int_equal(fake_number(sql_laptops), cases[i].laptops);
	}
}

static void
test_an_order_that_comes_twice_takes_stock_once(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(apply("order.created", ORDER_A, "Laptop", 3, &err), 0);
	assert_int_equal(apply("order.created", ORDER_A, "Laptop", 3, &err), 0);
	assert_int_equal(fake_number(sql_laptops), 997);
	assert_int_equal(fake.emitted_count, 1);
}

static void
test_a_cancelled_order_gives_back_once(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(apply("order.created", ORDER_A, "Laptop", 3, &err), 0);
	assert_int_equal(fake_number(sql_laptops_reserved), 3);
	assert_int_equal(apply("order.cancelled", ORDER_A, "Laptop", 3, &err),
	    0);
	assert_int_equal(apply("order.cancelled", ORDER_A, "Laptop", 3, &err),
	    0);
	assert_int_equal(fake_number(sql_laptops), 1000);
	assert_int_equal(fake_number(sql_laptops_reserved), 0);
	assert_int_equal(fake.emitted_count, 2);
	assert_string_equal(fake.emitted[1].type, "inventory.released");
}

static void
test_a_rejected_order_is_cancelled_once_and_gives_nothing_back(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(apply("order.created", ORDER_A, "Laptop", 2000, &err),
	    0);
	assert_int_equal(apply("order.cancelled", ORDER_A, "Laptop", 2000,
			     &err),
	    0);
	assert_int_equal(apply("order.cancelled", ORDER_A, "Laptop", 2000,
			     &err),
	    0);
	assert_int_equal(fake_number(sql_laptops), 1000);
	assert_int_equal(fake.emitted_count, 2);
	assert_string_equal(fake.emitted[1].type, "inventory.cancelled");
	assert_string_equal(fake.emitted[1].key, ORDER_A);
	assert_string_equal(fake.emitted[1].value,
	    "{\"order_id\":\"" ORDER_A "\",\"item\":\"Laptop\","
	    "\"quantity\":2000,\"ts_ms\":1795229109260}");
}

static void
test_what_was_never_created_is_a_dead_letter(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(apply("order.cancelled", ORDER_B, "Laptop", 1, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(apply("order.renamed", ORDER_B, "Laptop", 1, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(apply("order.created", ORDER_B, "Laptop", 0, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(fake.emitted_count, 0);
}

static void
test_sql_refuses_stock_below_zero_or_from_nowhere(void **state)
{
	static const char below[] =
	    "UPDATE inventory SET on_hand = on_hand - 1001,"
	    " reserved = reserved + 1001 WHERE item = 'Laptop'";
	static const char nowhere[] =
	    "UPDATE inventory SET on_hand = on_hand + 1 WHERE item = 'Laptop'";
	struct mr_error err;

	(void)state;
	assert_int_equal(store_run(fake.st, &err, below), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(store_run(fake.st, &err, nowhere), -1);
	assert_int_equal(err.kind, MR_REJECT);
}

static void
test_restocking_adds_to_an_item_or_makes_it(void **state)
{
	static const struct {
		const char *item;
		int64_t quantity;
		int status;
		const char *body;
	} cases[] = {
	    {"Laptop", 5, 200, "{\"item\":\"Laptop\",\"on_hand\":1005}"},
	    {"Mouse", 7, 201, "{\"item\":\"Mouse\",\"on_hand\":7}"},
	    {"Mouse", 1, 200, "{\"item\":\"Mouse\",\"on_hand\":8}"},
	};
	struct inventory_restock input;
	struct stream_command command = {.kind = INVENTORY_RESTOCK,
	    .input = &input,
	    .now_ms = FAKE_TS_MS};
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stream_answer answer = {.status = 200};

		snprintf(input.item, sizeof(input.item), "%s", cases[i].item);
		input.quantity = cases[i].quantity;
		assert_int_equal(inventory_command(NULL, &command, &answer,
				     &err),
		    0);
		assert_int_equal(answer.status, cases[i].status);
		assert_string_equal(buffer_text(&answer.body), cases[i].body);
		buffer_free(&answer.body);
		assert_string_equal(fake.emitted[i].type, "inventory.adjusted");
		assert_string_equal(fake.emitted[i].key, cases[i].item);
	}
}

/* Its event could say no more, and would be a dead letter to all readers. */
static void
test_no_item_grows_beyond_what_an_event_says(void **state)
{
	static const char almost[] =
	    "UPDATE inventory SET on_hand = ?1, received = ?1"
	    " WHERE item = 'Laptop'";
	struct inventory_restock input = {.item = "Laptop", .quantity = 5};
	const struct stream_command command = {.kind = INVENTORY_RESTOCK,
	    .input = &input,
	    .now_ms = FAKE_TS_MS};
	static const int statuses[] = {409, 200};
	struct mr_error err;
	int i;

	(void)state;
	assert_int_equal(store_run(fake.st, &err, almost,
			     store_i64(EVENT_STOCK_MOST - 4)),
	    1);
	for (i = 0; i < 2; i++, input.quantity--) {
		struct stream_answer answer = {.status = 200};

		assert_int_equal(inventory_command(NULL, &command, &answer,
				     &err),
		    0);
		assert_int_equal(answer.status, statuses[i]);
		buffer_free(&answer.body);
		assert_int_equal(fake.emitted_count, i);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	    TEST(test_each_order_is_decided_as_stock_allows),
	    TEST(test_an_order_that_comes_twice_takes_stock_once),
	    TEST(test_a_cancelled_order_gives_back_once),
	    TEST(
		test_a_rejected_order_is_cancelled_once_and_gives_nothing_back),
	    TEST(test_what_was_never_created_is_a_dead_letter),
	    TEST(test_sql_refuses_stock_below_zero_or_from_nowhere),
	    TEST(test_restocking_adds_to_an_item_or_makes_it),
	    TEST(test_no_item_grows_beyond_what_an_event_says),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
