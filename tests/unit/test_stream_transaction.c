/*
 * stream/relay_transaction: whatever fails, a plain reader of committed
 * records, who knows nothing of sources and marks, gets each record once, in
 * order; and what the relay can't know halts it.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

static struct stream_conf
transactional(void)
{
	struct stream_conf conf = driver_conf();

	conf.relay = STREAM_RELAY_TRANSACTIONAL;
	return (conf);
}

static struct driven *
run_it(void)
{
	struct stream_conf conf = transactional();

	return (driver_run(&ledger_service, "one", &conf));
}

static int64_t
mode(void)
{
	return (driver_number("SELECT transactional FROM relay"));
}

static int64_t
outbox(void)
{
	return (driver_number("SELECT count(*) FROM outbox"));
}

/* All that a plain reader sees; a seq that isn't above the one before it in its
 * partition fails the test. */
static int64_t
plain_outputs(void)
{
	const char *id;
	int64_t o, seq, last, count = 0;
	int p;

	for (p = 0; p < 2; p++)
		for (last = 0, o = 0; o < fake_next(OUTPUT, p); o++) {
			if ((id = fake_header(OUTPUT, p, o, "ce_id")) == NULL)
				continue;
			seq = strtoll(id, NULL, 10);
			if (seq <= last)
				fail_msg("%s/%d: seq %lld after %lld", OUTPUT,
				    p, (long long)seq, (long long)last);
			last = seq;
			count++;
		}
	return (count);
}

/* The commits that change the way: so many more fail, as for want of room. */
static _Atomic int refuses, refused;

int __real_store_commit(struct store *st, struct mr_error *err);
int __wrap_store_commit(struct store *st, struct mr_error *err);

int
__wrap_store_commit(struct store *st, struct mr_error *err)
{
	int64_t way = 0;

	if (atomic_load(&refuses) == 0 ||
	    store_find(st, NULL, &way, "SELECT transactional FROM relay") !=
		1 ||
	    way != 1)
		return (__real_store_commit(st, err));
	atomic_fetch_sub(&refuses, 1);
	atomic_fetch_add(&refused, 1);
	store_rollback(st);
	return (mr_error_set(err, MR_RETRY, "no room"));
}

static void
emit_some(int count)
{
	int i;

	for (i = 0; i < count; i++)
		fake_put(INPUT, 0,
		    i % 3 == 0     ? "emit:a:x" :
			i % 3 == 1 ? "emit:b:y" :
				     "emit::z");
}

/* Running, with ${count} records sent. */
static struct driven *
run_and_send(int count)
{
	struct driven *d = run_it();

	WAIT(driver_ready(d));
	WAIT(mode() == 1);
	emit_some(count);
	WAIT(plain_outputs() == count);
	WAIT(outbox() == 0);
	return (d);
}

static void
cursor_rides_with_the_records(void **state)
{
	struct driven *d = run_and_send(9);
	char metadata[80], expected[80];

	(void)state;
	assert_int_equal(relay_cursor(), 9);
	(void)fake_committed(relay_group(), OUTPUT, 0, metadata,
	    sizeof(metadata));
	snprintf(expected, sizeof(expected), "%s 9",
	    driver_text("SELECT database_id FROM database_ids"));
	assert_string_equal(metadata, expected);
	assert_true(fake_ended() >= 2);
	driver_stop(d);
}

static void
idempotent_relay_uses_no_transaction(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	emit_some(9);
	WAIT(plain_outputs() == 9);
	assert_int_equal(fake_begun(), 0);
	assert_int_equal(mode(), 0);
	driver_stop(d);
}

static void
cluster_without_transactions_is_relayed_to_as_before(void **state)
{
	struct driven *d;

	(void)state;
	fake_transactions(0);
	d = run_it();
	WAIT(driver_ready(d));
	emit_some(9);
	WAIT(plain_outputs() == 9);
	WAIT(outbox() == 0);
	assert_int_equal(mode(), 0);
	driver_stop(d);
}

static void
aborted_lot_is_sent_again_from_the_cursor(void **state)
{
	struct driven *d = run_and_send(3);

	(void)state;
	fake_doom(2);
	emit_some(20);
	WAIT(plain_outputs() == 23);
	WAIT(outbox() == 0);
	assert_true(fake_begun() >= fake_ended() + 2);
	assert_int_equal(relay_cursor(), 23);
	driver_stop(d);
}

static void
failed_record_aborts_its_lot(void **state)
{
	struct driven *d = run_and_send(3);

	(void)state;
	fake_fail_sends(OUTPUT, 3, 1, FAKE_REFUSED);
	fake_fail_sends(OUTPUT, 9, 1, FAKE_UNHEARD);
	emit_some(20);
	WAIT(plain_outputs() == 23);
	WAIT(outbox() == 0);
	driver_stop(d);
}

static void
commit_that_times_out_is_asked_again(void **state)
{
	struct driven *d = run_and_send(3);
	int64_t begun = fake_begun();

	(void)state;
	fake_fail(FAKE_POSITION, 2);
	fake_fail(FAKE_COMMIT, 2);
	fake_fail(FAKE_COMMIT_UNHEARD, 2);
	emit_some(1);
	WAIT(plain_outputs() == 4);
	WAIT(outbox() == 0);
	assert_int_equal(fake_begun(), begun + 1);
	driver_stop(d);
}

static void
abort_that_times_out_is_asked_again(void **state)
{
	struct driven *d = run_and_send(3);

	(void)state;
	fake_doom(1);
	fake_fail(FAKE_ABORT, 2);
	emit_some(5);
	WAIT(plain_outputs() == 8);
	driver_stop(d);
}

/* The commit reached the broker; who asked was stopped before it heard. */
static void
commit_of_unknown_outcome_is_found_out_at_the_next_start(void **state)
{
	struct stream_conf conf = transactional();
	struct driven *d = run_and_send(3);

	(void)state;
	driver_stop(d);
	conf.drain_ms = 50;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	NEVER(0, 30);
	fake_fail(FAKE_COMMIT_UNHEARD, -1);
	emit_some(5);
	WAIT(entries() == 8);
	NEVER(plain_outputs() != 3, 100);
	driver_stop(d);
	assert_int_equal(outbox(), 5);
	fake_fail(FAKE_COMMIT_UNHEARD, 0);
	d = run_it();
	WAIT(outbox() == 0);
	assert_int_equal(plain_outputs(), 8);
	emit_some(3);
	WAIT(plain_outputs() == 11);
	driver_stop(d);
}

static void
fenced_owner_registers_again(void **state)
{
	struct driven *d = run_and_send(3);
	int64_t made = fake_producers();

	(void)state;
	fake_fence();
	emit_some(5);
	WAIT(plain_outputs() == 8);
	WAIT(outbox() == 0);
	assert_true(fake_producers() > made);
	/* In the middle of a lot, too. */
	fake_fail_sends(OUTPUT, 2, 1, FAKE_STUCK);
	emit_some(5);
	WAIT(entries() == 13);
	NEVER(plain_outputs() > 10, 50);
	fake_fence();
	fake_release();
	WAIT(plain_outputs() == 13);
	driver_stop(d);
}

static void
whatever_fails_a_plain_reader_gets_each_record_once(void **state)
{
	static const enum fake_send ways[] = {FAKE_REFUSED, FAKE_UNHEARD,
	    FAKE_STUCK, FAKE_UNACKED};
	static const enum fake_call calls[] = {FAKE_POSITION, FAKE_COMMIT,
	    FAKE_COMMIT_UNHEARD, FAKE_ABORT, FAKE_REGISTER, FAKE_FURTHEST};
	struct stream_conf conf = transactional();
	struct driven *d = run_and_send(0);
	struct id_rng rng;
	const char *given = getenv("SEED");
	uint64_t seed = given == NULL ? 1 : strtoull(given, NULL, 10);
	int round, total = 0;

	(void)state;
	driver_stop(d);
	print_message("seed %llu\n", (unsigned long long)seed);
	id_rng_seed(&rng, seed);
	conf.drain_ms = 20;
	conf.batch_records = 7;
	for (round = 0; round < 12; round++) {
		fake_fail_sends(OUTPUT, (int64_t)(id_rng_next(&rng) % 20),
		    1 + (int64_t)(id_rng_next(&rng) % 2),
		    ways[id_rng_next(&rng) % 4]);
		fake_fail(calls[id_rng_next(&rng) % 6],
		    (int64_t)(id_rng_next(&rng) % 3));
		fake_doom((int64_t)(id_rng_next(&rng) % 2));
		d = driver_run(&ledger_service, "one", &conf);
		emit_some(20);
		total += 20;
		WAIT(entries() == total);
		if (id_rng_next(&rng) % 2)
			fake_fence();
		if (id_rng_next(&rng) % 2)
			fake_release();
		driver_stop(d);
		fake_release();
	}
	d = run_it();
	WAIT(outbox() == 0);
	assert_int_equal(plain_outputs(), total);
	assert_int_equal(relay_cursor(), total);
	driver_stop(d);
}

/* ---- what halts it ---------------------------------------------------------- */

static void
missing_cursor_halts_and_names_the_command(void **state)
{
	struct driven *d = run_and_send(3);

	(void)state;
	driver_stop(d);
	fake_commit(relay_group(), OUTPUT, 0, -1, "");
	d = run_it();
	WAIT(driver_says(d, "has no cursor"));
	assert_true(driver_says(d, "millrace state accept-cursor"));
	emit_some(3);
	WAIT(entries() == 6);
	NEVER(plain_outputs() != 3, 100);
	driver_stop(d);
}

static void
cursor_that_somebody_wrote_halts(void **state)
{
	struct driven *d = run_and_send(3);

	(void)state;
	driver_stop(d);
	fake_commit(relay_group(), OUTPUT, 0, 2, "by hand");
	d = run_it();
	WAIT(driver_says(d, "isn't its own cursor"));
	emit_some(3);
	WAIT(entries() == 6);
	NEVER(plain_outputs() != 3, 100);
	driver_stop(d);
}

static void
file_older_than_its_cursor_emits_nothing(void **state)
{
	struct driven *d = run_and_send(3);

	(void)state;
	driver_stop(d);
	driver_save();
	d = run_it();
	emit_some(3);
	WAIT(plain_outputs() == 6);
	driver_stop(d);
	driver_restore();
	fake_cut_front(OUTPUT, 0, fake_next(OUTPUT, 0));
	fake_cut_front(OUTPUT, 1, fake_next(OUTPUT, 1));
	d = run_it();
	WAIT(driver_says(d, "older than what it sent"));
	assert_true(driver_says(d, "millrace state accept-cursor"));
	NEVER(entries() != 3, 100);
	assert_int_equal(driver_number("SELECT count(*) FROM database_ids"), 1);
	driver_stop(d);
}

/* ---- the ways, and how long the cursor stays ---------------------------------- */

static void
way_changes_only_once_what_was_sent_is_acknowledged(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.drain_ms = 50;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	fake_fail_sends(OUTPUT, 2, -1, FAKE_STUCK);
	emit_some(9);
	WAIT(entries() == 9);
	WAIT(fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1) == 2);
	driver_stop(d);
	assert_int_equal(outbox(), 7);
	d = run_it();
	WAIT(fake_ended() == 1); /* it has looked: there are transactions */
	NEVER(mode() != 0, 100);
	fake_release();
	WAIT(mode() == 1);
	assert_int_equal(outbox(), 0);
	emit_some(3);
	WAIT(plain_outputs() == 12);
	driver_stop(d);
	/* And back. */
	d = driver_run(&ledger_service, "one", NULL);
	emit_some(3);
	WAIT(plain_outputs() == 15);
	WAIT(outbox() == 0);
	driver_pass_ms(2500);
	WAIT(mode() == 0);
	driver_stop(d);
}

static void
way_that_cannot_be_written_down_yet_is_changed_later(void **state)
{
	struct driven *d;

	(void)state;
	driver_stop(driver_run(&ledger_service, "one", NULL));
	atomic_store(&refused, 0);
	atomic_store(&refuses, 2);
	d = run_it();
	WAIT(mode() == 1);
	assert_int_equal(atomic_load(&refused), 2);
	driver_stop(d);
}

static void
cursor_is_written_again_before_it_expires(void **state)
{
	struct driven *d = run_and_send(3);
	int64_t ended = fake_ended();

	(void)state;
	NEVER(fake_ended() != ended, 100);
	driver_pass_ms(RELAY_REFRESH_MS + 3000);
	WAIT(fake_ended() == ended + 1);
	assert_int_equal(relay_cursor(), 3);
	driver_stop(d);
	/* Each start does it, too, though there is nothing to send. */
	d = run_it();
	WAIT(fake_ended() == ended + 2);
	driver_stop(d);
}

static void
next_instance_goes_on_from_the_cursor(void **state)
{
	struct stream_conf conf = transactional();
	struct driven *one = run_and_send(3), *two;

	(void)state;
	two = driver_run(&ledger_service, "two", &conf);
	WAIT(driver_ready(two));
	driver_stop(one);
	emit_some(5);
	WAIT(plain_outputs() == 8);
	WAIT(outbox() == 0);
	driver_stop(two);
}

/* Another one had changed it, with this one there already. */
static void
next_instance_that_is_told_otherwise_changes_the_way_back(void **state)
{
	struct driven *two = driver_run(&ledger_service, "two", NULL), *one;

	(void)state;
	WAIT(driver_ready(two));
	one = run_and_send(3);
	driver_stop(one);
	emit_some(5);
	driver_pass_ms(2500);
	WAIT(mode() == 0);
	WAIT(plain_outputs() == 8);
	WAIT(outbox() == 0);
	driver_stop(two);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(cursor_rides_with_the_records),
	    LEDGER_TEST(idempotent_relay_uses_no_transaction),
	    LEDGER_TEST(cluster_without_transactions_is_relayed_to_as_before),
	    LEDGER_TEST(aborted_lot_is_sent_again_from_the_cursor),
	    LEDGER_TEST(failed_record_aborts_its_lot),
	    LEDGER_TEST(commit_that_times_out_is_asked_again),
	    LEDGER_TEST(abort_that_times_out_is_asked_again),
	    LEDGER_TEST(
		commit_of_unknown_outcome_is_found_out_at_the_next_start),
	    LEDGER_TEST(fenced_owner_registers_again),
	    LEDGER_TEST(whatever_fails_a_plain_reader_gets_each_record_once),
	    LEDGER_TEST(missing_cursor_halts_and_names_the_command),
	    LEDGER_TEST(cursor_that_somebody_wrote_halts),
	    LEDGER_TEST(file_older_than_its_cursor_emits_nothing),
	    LEDGER_TEST(way_changes_only_once_what_was_sent_is_acknowledged),
	    LEDGER_TEST(way_that_cannot_be_written_down_yet_is_changed_later),
	    LEDGER_TEST(cursor_is_written_again_before_it_expires),
	    LEDGER_TEST(next_instance_goes_on_from_the_cursor),
	    LEDGER_TEST(
		next_instance_that_is_told_otherwise_changes_the_way_back),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
