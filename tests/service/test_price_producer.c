/*
 * price-producer, driven: prices come once, whatever dies when, and as many
 * in all as --count says, also where symbols came and went.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

#include "../../cmd/price-producer/walk.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/price-producer/price-producer.c" /* NOLINT(bugprone-suspicious-include) */

int price_producer_main(int argc, char **argv);
#define main price_producer_main
#include "../../cmd/price-producer/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main

#define INTERVAL "--interval-ms=100"

static const char topic[] = "stock-prices";

static void
prices_come_once_wherever_it_dies(void **state)
{
	static const char *const flags[] = {"--symbols=ACME,GLOBEX", INTERVAL,
	    NULL};
	struct testing *t = testing_open(&price_producer, flags);
	struct mr_error err = {0};
	int crashes = 0, i;

	(void)state;
	testing_advance(t, 500);
	testing_restart(t);
	testing_advance(t, 500);
	assert_true(testing_emitted(t, topic) >= 10);
	assert_int_equal(testing_number(t, "SELECT records FROM walk"),
	    testing_emitted(t, topic));
	for (i = 0; i < testing_emitted(t, topic); i++)
		assert_string_equal(testing_record(t, topic, i)->key,
		    i % 2 == 0 ? "ACME" : "GLOBEX");
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

/* Twenty of one symbol, and five times five are 45.  One more tick and the
 * program ends, which the driver takes for a failure. */
static void
a_count_is_of_all_symbols_that_there_were(void **state)
{
	const char *flags[] = {"--symbols=ACME", INTERVAL, "--count=45", NULL};
	struct testing *t = testing_open(&price_producer, flags);
	int i;

	(void)state;
	for (i = 0; i < 30 && testing_emitted(t, topic) < 20; i++)
		testing_advance(t, 100);
	assert_int_equal(testing_emitted(t, topic), 20);
	flags[0] = "--symbols=ACME,GLOBEX,INITECH,HOOLI,UMBRELLA";
	testing_restart(t);
	for (i = 0; i < 30 && testing_emitted(t, topic) < 45; i++)
		testing_advance(t, 100);
	assert_int_equal(testing_emitted(t, topic), 45);
	assert_int_equal(testing_number(t, "SELECT records FROM walk"), 45);
	testing_close(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(prices_come_once_wherever_it_dies),
	    cmocka_unit_test(a_count_is_of_all_symbols_that_there_were),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
