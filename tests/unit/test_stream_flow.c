/*
 * stream: the way of records and commands through one instance: applied,
 * emitted, relayed, settled; rejected, tried again, answered.
 */
#include "fake_kafka.c"
#include "stream_driver.c"
#include "stream_ledger.h"

static void
applies_emits_relays_and_settles(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char metadata[64], source[SOURCE_SIZE];

	(void)state;
	WAIT(driver_ready(d));
	fake_put(INPUT, 0, "emit:k:hello");
	WAIT(fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1) == 1);
	assert_int_equal(entries(), 1);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	assert_int_equal(driver_number("SELECT next_offset FROM positions"), 1);
	WAIT(fake_committed(GROUP, INPUT, 0, metadata, sizeof(metadata)) == 1);
	assert_string_equal(metadata,
	    driver_text("SELECT database_id FROM database_ids"));
	snprintf(source, sizeof(source), "/millrace/" GROUP "/%s", metadata);
	driver_stop(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(applies_emits_relays_and_settles),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
