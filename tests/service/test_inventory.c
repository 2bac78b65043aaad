/*
 * inventory, driven: stock adds up, whatever dies when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

int inventory_main(int argc, char **argv);
#define main inventory_main
#include "../../cmd/inventory/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/inventory/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/inventory/inventory.c" /* NOLINT(bugprone-suspicious-include) */

#define ORDER(n) "01a1fbfe-4c0c-775c-ba95-8384c7ef2c9" n
#define EVENT(n, quantity)                                    \
	"{\"order_id\":\"" ORDER(n) "\",\"item\":\"Laptop\"," \
				    "\"quantity\":" quantity  \
				    ",\"ts_ms\":1800000000000}"

static const char orders[] = "order-events";
static const char decisions[] = "inventory-events";
static const char sql_laptops[] =
    "SELECT on_hand FROM inventory WHERE item = 'Laptop'";

/* Two fit, one doesn't, one is given back, stock comes, a relay repeats. */
static void
feed_a_day(struct testing *t)
{

	testing_feed(t, orders, "order.created", "Laptop", EVENT("1", "600"));
	testing_feed(t, orders, "order.created", "Laptop", EVENT("2", "300"));
	testing_feed(t, orders, "order.created", "Laptop", EVENT("3", "200"));
	assert_int_equal(testing_number(t, sql_laptops), 100);
	testing_feed(t, orders, "order.cancelled", "Laptop", EVENT("1", "600"));
	testing_repeat(t, orders, 3);
	testing_feed(t, orders, "order.cancelled", "Laptop", EVENT("3", "200"));
	assert_int_equal(testing_request(t, "POST", "/stock/Laptop",
			     "{\"quantity\":50}")
			     ->status,
	    200);
	testing_feed(t, orders, "order.renamed", "Laptop", EVENT("4", "1"));
	assert_int_equal(testing_number(t, sql_laptops), 750);
}

static void
test_stock_adds_up_wherever_it_dies(void **state)
{
	static const char *const types[] = {"inventory.reserved",
	    "inventory.reserved", "inventory.rejected", "inventory.released",
	    "inventory.cancelled", "inventory.adjusted"};
	struct testing *t = testing_open(&inventory, NULL);
	struct mr_error err = {0};
	int crashes = 0, i;

	(void)state;
	feed_a_day(t);
	assert_int_equal(testing_emitted(t, decisions), 6);
	for (i = 0; i < 6; i++)
		assert_string_equal(testing_record(t, decisions, i)->type,
		    types[i]);
	assert_int_equal(testing_emitted(t, "inventory.dead-letter"), 1);
	if (testing_crashes(t, &crashes, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 40);
	testing_close(t);
}

static void
test_another_machine_decides_the_same(void **state)
{
	struct testing *t = testing_open(&inventory, NULL);
	struct mr_error err = {0};

	(void)state;
	feed_a_day(t);
	if (testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_stock_adds_up_wherever_it_dies),
	    cmocka_unit_test(test_another_machine_decides_the_same),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
