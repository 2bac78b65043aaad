/*
 * stream: full outboxes, full disks, services that hide it, and stopping in
 * the middle of all that.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

static int64_t
outputs(void)
{
	return (fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1));
}

/* How often commands were turned away for the outbox. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
void __real_command_queue_close(struct command_queue *q, const char *why);
void __wrap_command_queue_close(struct command_queue *q, const char *why);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

static _Atomic int closings;

void
__wrap_command_queue_close(struct command_queue *q, const char *why)
{
	__real_command_queue_close(q, why);
	if (strstr(why, "wait for Kafka") != NULL)
		atomic_fetch_add(&closings, 1);
}

/* ---- the outbox's ceiling ---------------------------------------------------- */

static void
full_outbox_pauses_and_refuses_until_half_is_gone(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;
	int64_t held;
	int i;

	(void)state;
	conf.outbox_most = 20;
	conf.batch_records = 10;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	atomic_store(&closings, 0);
	fake_fail_sends(OUTPUT, 0, -1, FAKE_STUCK);
	for (i = 0; i < 100; i++)
		fake_put(INPUT, i % 2, "emit:k:x");
	WAIT(driver_says(d, "above --outbox-most"));
	/* It says so before it refuses anybody. */
	WAIT(atomic_load(&closings) > 0);
	held = entries();
	assert_in_range(held, 21, 30);
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 503);
	NEVER(entries() != held, 50);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), held);
	fake_release();
	WAIT(entries() == 100);
	WAIT(outputs() == 100);
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "b"), 201);
	driver_stop(d);
}

/* A tick's emissions would else grow the outbox without end. */
static void
full_outbox_holds_the_service_ticks(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;
	int64_t looks;
	int i;

	(void)state;
	conf.outbox_most = 10;
	atomic_store(&ledger.tick_emits, 1);
	d = driver_run(&ledger_ticking, "one", &conf);
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 0, -1, FAKE_STUCK);
	for (i = 0; i < 30; i++)
		driver_pass_ms(100);
	for (i = 0; i < 200 && !driver_says(d, "above --outbox-most"); i++) {
		driver_pass_ms(100);
		(void)driver_late(INT64_MAX);
	}
	WAIT(driver_says(d, "above --outbox-most"));
	for (i = 0; i < 50; i++) {
		driver_pass_ms(100);
		(void)driver_late(INT64_MAX);
	}
	assert_in_range(driver_number("SELECT count(*) FROM outbox"), 11, 12);
	/* And it doesn't spin over the tick that is due. */
	looks = fake_looks(GROUP, 0);
	NEVER(0, 200);
	assert_true(fake_looks(GROUP, 0) - looks < 20);
	fake_release();
	WAIT(driver_ready(d));
	WAIT(outputs() > 12);
	driver_stop(d);
}

/* Another instance's row shows up in an outbox that was empty: the depth is
 * counted from the first row that is there, not from the first that ever was. */
static void
high_sequence_numbers_are_no_full_outbox(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.outbox_most = 1000;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 201);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	atomic_store(&closings, 0);
	fake_fail_sends(OUTPUT, 0, -1, FAKE_STUCK);
	driver_exec("INSERT INTO outbox (seq, database, topic, partition, type,"
		    " value, ts_ms, predecessor) VALUES (500000, 1, '" OUTPUT
		    "', 0, 't', x'41', 1, 0)");
	driver_pass_ms(2000);
	NEVER(0, 50);
	fake_release();
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	assert_int_equal(atomic_load(&closings), 0);
	driver_stop(d);
}

/* ---- the disk ----------------------------------------------------------------- */

static void
full_disk_is_waited_for_and_nothing_is_lost(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	WAIT(driver_ready(d));
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	driver_disk_full(1);
	fake_put_from(INPUT, 0, "/millrace/shop/x", 1, 0, "emit:k:b");
	fake_put(INPUT, 0, "reject:c");
	WAIT(driver_says(d, "the store is in trouble"));
	assert_true(driver_says(d, "free space"));
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 503);
	assert_int_equal(entries(), 1);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 0);
	driver_disk_full(0);
	for (i = 0; i < 4; i++)
		driver_pass_ms(5000);
	WAIT(entries() == 2);
	WAIT(outputs() == 1);
	WAIT(fake_next(DEAD_LETTERS, 0) == 1);
	WAIT(driver_ready(d));
	assert_int_equal(atomic_load(&ledger.gate), 0);
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 201);
	assert_int_equal(driver_number("SELECT count(*) FROM calls"), 1);
	driver_stop(d);
}

/* Only a command failed, nobody calls again: it must find out by itself that
 * the disk has room again. */
static void
idle_service_gets_ready_again_after_trouble(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	driver_disk_full(1);
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 503);
	WAIT(driver_says(d, "the store is in trouble"));
	WAIT(metric_value(driver_stream(d)->m_ready) == 0);
	driver_disk_full(0);
	driver_pass_ms(5000);
	WAIT(driver_ready(d));
	WAIT(metric_value(driver_stream(d)->m_ready) == 1);
	driver_stop(d);
}

/* In trouble the group must still hear of us, and memory has an end. */
static void
trouble_neither_spins_nor_stops_polling_nor_hoards(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;
	int64_t looks, polls, until;
	int i;

	(void)state;
	conf.batch_records = 10;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	driver_disk_full(1);
	for (i = 0; i < 5000; i++)
		fake_put(INPUT, 0, "a");
	WAIT(driver_says(d, "the store is in trouble"));
	/* Let the pauses grow. */
	for (i = 0; i < 8; i++) {
		driver_pass_ms(5000);
		NEVER(0, 20);
	}
	looks = fake_looks(GROUP, 0);
	polls = fake_polls(GROUP, 0);
	for (until = driver_moment(300); !driver_late(until);)
		;
	assert_true(fake_looks(GROUP, 0) - looks < 30);
	driver_pass_ms(5000);
	WAIT(fake_polls(GROUP, 0) > polls);
	assert_true(partition_ready(driver_stream(d)) < 2000);
	driver_disk_full(0);
	driver_pass_ms(5000);
	WAIT(entries() == 5000);
	driver_stop(d);
}

static void
hidden_failure_is_found_and_the_record_tried_again(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	driver_disk_full(1);
	fake_put(INPUT, 0, "before");
	fake_put(INPUT, 0, "swallow");
	WAIT(driver_says(d, "the store is in trouble"));
	assert_int_equal(entries(), 0);
	driver_disk_full(0);
	driver_pass_ms(5000);
	WAIT(entries() == 2);
	assert_int_equal(driver_number("SELECT count(*) FROM bulk"), 1);
	assert_int_equal(driver_number("SELECT next_offset FROM positions"), 2);
	driver_stop(d);
}

/* A COMMIT inside of apply would part effects from position. */
static void
service_cannot_end_the_transaction(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "before");
	fake_put(INPUT, 0, "escape");
	driver_begin(d);
	driver_failed(d, "");
	assert_int_equal(entries(), 0);
	assert_int_equal(driver_number("SELECT count(*) FROM positions"), 0);
}

/* ---- stopping -------------------------------------------------------------------- */

static void
stopping_relays_and_settles_what_is_there(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 0, -1, FAKE_STUCK);
	for (i = 0; i < 40; i++)
		fake_put(INPUT, 0, "emit:k:x");
	WAIT(entries() == 40);
	driver_ask(d);
	NEVER(driver_over(d), 50);
	fake_release();
	driver_stop(d);
	assert_int_equal(outputs(), 40);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 0);
	assert_string_equal(driver_text("SELECT owner FROM relay"), "");
	assert_int_equal(fake_committed(GROUP, INPUT, 0, NULL, 0), 40);
}

static atomic_int drains;

static void
note_drain(void)
{

	atomic_fetch_add(&drains, 1);
}

static void
stopping_is_bounded_while_the_broker_is_away(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.drain_ms = 60000;
	conf.on_drain = note_drain;
	atomic_store(&drains, 0);
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	fake_reach(0);
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 201);
	driver_ask(d);
	WAIT(atomic_load(&drains) == 1);
	driver_pass_ms(30000);
	NEVER(driver_over(d), 150);
	WAIT((driver_pass_ms(30000), driver_over(d)));
	driver_stop(d);
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 1);
	assert_string_equal(driver_text("SELECT owner FROM relay"), "");
	fake_reach(1);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(outputs() == 1);
	driver_stop(d);
}

/* Whoever waits for the end gives it its time from there on. */
static void
stopping_is_told_before_what_is_left_is_sent(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.drain_ms = 60000;
	conf.on_drain = note_drain;
	atomic_store(&drains, 0);
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	fake_reach(0);
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 201);
	assert_int_equal(atomic_load(&drains), 0);
	driver_ask(d);
	WAIT(atomic_load(&drains) == 1);
	assert_false(driver_over(d));
	assert_int_equal(driver_number("SELECT count(*) FROM outbox"), 1);
	fake_reach(1);
	driver_stop(d);
	assert_int_equal(atomic_load(&drains), 1);
	assert_int_equal(outputs(), 1);
}

static void
stopping_runs_the_commands_that_were_queued(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	struct called calls[3];
	int i;

	(void)state;
	WAIT(driver_ready(d));
	atomic_store(&ledger.gate, 1);
	fake_put(INPUT, 0, "gate");
	WAIT(atomic_load(&ledger.at_gate) == 1);
	for (i = 0; i < 3; i++) {
		call_start(&calls[i], d, LEDGER_WRITE, "a", 60000);
		WAIT(command_waiting(&driver_stream(d)->commands) == i + 1);
	}
	driver_ask(d);
	atomic_store(&ledger.gate, 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(call_wait(&calls[i]), 0);
	driver_stop(d);
	assert_int_equal(driver_number("SELECT count(*) FROM calls"), 3);
	assert_int_equal(outputs(), 3);
}

/* They can't run, with the disk full: their callers hear it with the end of
 * the drain, not at their own deadlines. */
static void
stopping_answers_the_commands_that_cannot_run(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;
	struct called call;

	(void)state;
	conf.drain_ms = 100;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	driver_disk_full(1);
	assert_int_equal(call_now(d, LEDGER_WRITE, "a"), 503);
	fake_put(INPUT, 0, "a");
	driver_pass_ms(5000);
	NEVER(0, 50);
	driver_pass_ms(5000);
	NEVER(0, 50);
	driver_pass_ms(5000);
	NEVER(0, 50);
	/* Within the pause of the store's back-off. */
	call_start(&call, d, LEDGER_WRITE, "b", 600000);
	NEVER(0, 50);
	driver_ask(d);
	WAIT(driver_over(d));
	WAIT(atomic_load(&call.over));
	assert_int_equal(call_wait(&call), -1);
	assert_int_equal(call.err.kind, MR_RETRY);
	driver_disk_full(0);
}

static void
stopping_before_the_broker_was_ever_reached(void **state)
{
	struct driven *d;

	(void)state;
	fake_reach(0);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "waiting for the broker"));
	driver_stop(d);
}

/* Closing the consumer can give up before it tells of the revocation. */
static void
stopping_frees_records_before_their_consumer(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	atomic_store(&ledger.retrying, 1);
	fake_put(INPUT, 0, "retry");
	fake_put(INPUT, 0, "in hand");
	WAIT(atomic_load(&ledger.applied) > 0);
	fake_mute_close(1);
	driver_stop(d);
}

static void
failing_frees_records_before_their_consumer(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "fatal");
	fake_put(INPUT, 0, "in hand");
	fake_mute_close(1);
	driver_begin(d);
	driver_failed(d, "no more of this");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(full_outbox_pauses_and_refuses_until_half_is_gone),
	    LEDGER_TEST(full_outbox_holds_the_service_ticks),
	    LEDGER_TEST(high_sequence_numbers_are_no_full_outbox),
	    LEDGER_TEST(full_disk_is_waited_for_and_nothing_is_lost),
	    LEDGER_TEST(idle_service_gets_ready_again_after_trouble),
	    LEDGER_TEST(trouble_neither_spins_nor_stops_polling_nor_hoards),
	    LEDGER_TEST(hidden_failure_is_found_and_the_record_tried_again),
	    LEDGER_TEST(service_cannot_end_the_transaction),
	    LEDGER_TEST(stopping_relays_and_settles_what_is_there),
	    LEDGER_TEST(stopping_is_bounded_while_the_broker_is_away),
	    LEDGER_TEST(stopping_is_told_before_what_is_left_is_sent),
	    LEDGER_TEST(stopping_runs_the_commands_that_were_queued),
	    LEDGER_TEST(stopping_answers_the_commands_that_cannot_run),
	    LEDGER_TEST(stopping_before_the_broker_was_ever_reached),
	    LEDGER_TEST(stopping_frees_records_before_their_consumer),
	    LEDGER_TEST(failing_frees_records_before_their_consumer),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
