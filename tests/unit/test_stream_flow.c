/*
 * stream: the way of records through one instance: applied, emitted, relayed,
 * settled; rejected, tried again, dropped as repeats, or halted before a gap.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

#define SHOP "/millrace/shop/0123456789abcdef0123456789abcdef"
#define OTHER_SHOP "/millrace/shop/fedcba9876543210fedcba9876543210"

static const char sql_values[] =
    "SELECT group_concat(value, ',') FROM (SELECT value FROM entries"
    " ORDER BY n)";

static int64_t
outputs(void)
{
	return (fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1));
}

static void
applies_emits_relays_and_settles(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	char id[64], source[SOURCE_SIZE];
	int partition = -1;
	int64_t offset = -1;

	(void)state;
	WAIT(driver_ready(d));
	fake_put(INPUT, 1, "plain");
	fake_put(INPUT, 1, "emit:k:hello");
	WAIT(outputs() == 1);
	assert_int_equal(entries(), 2);
	WAIT(driver_number("SELECT count(*) FROM outbox") == 0);
	assert_int_equal(driver_number(
			     "SELECT next_offset FROM positions WHERE "
			     "topic = '" INPUT "' AND partition = 1"),
	    2);
	WAIT(fake_committed(GROUP, INPUT, 1, id, sizeof(id)) == 2);
	assert_string_equal(id,
	    driver_text("SELECT database_id FROM database_ids"));
	assert_non_null(find_output(OUTPUT, "hello", &partition, &offset));
	assert_int_equal(partition, kafka_partition_of("k", 1, 2));
	assert_string_equal(fake_key(OUTPUT, partition, offset), "k");
	snprintf(source, sizeof(source), "/millrace/" GROUP "/%s", id);
#define HAS(name, value) \
	assert_string_equal(fake_header(OUTPUT, partition, offset, name), value)
	HAS("ce_specversion", "1.0");
	HAS("ce_type", "ledger.entry");
	HAS("ce_source", source);
	HAS("ce_id", "1");
	HAS("ce_predecessor", "0");
	HAS("ce_time", "1970-01-01T00:00:00.007Z");
	HAS("ce_cause", INPUT "/1/1");
	HAS("content-type", "application/json");
	driver_stop(d);
}

/* A heartbeat isn't to wait behind what a group is slow to note. */
/* Of small ones as many as batches can use; of large ones eight megabytes, and
 * what comes with the last of them, and as many that are being freed. */
static void
large_records_in_hand_are_fewer(void **state)
{
	static char large[65536];
	struct driven *d;
	int i;

	(void)state;
	for (i = 0; i < 1200; i++)
		fake_put(INPUT, 0, "small");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 1200);
	assert_true(fake_in_hand_most(GROUP, 0) >= 1000);
	driver_stop(d);
	memset(large, 'l', sizeof(large) - 1);
	for (i = 0; i < 1200; i++)
		fake_put(INPUT, 0, large);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 2400);
	assert_in_range(fake_in_hand_most(GROUP, 1), 256, 2 * (128 + 256));
	driver_stop(d);
}

static void
a_group_that_hasnt_answered_is_told_no_more(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int64_t polls;
	int i;

	(void)state;
	WAIT(driver_ready(d));
	fake_mute_commits(1);
	fake_put(INPUT, 0, "a");
	WAIT(fake_committed(GROUP, INPUT, 0, NULL, 0) == 1);
	fake_put(INPUT, 0, "b");
	WAIT(entries() == 2);
	for (i = 0; i < 3; i++) {
		polls = fake_polls(GROUP, 0);
		driver_pass_ms(300);
		WAIT(fake_polls(GROUP, 0) > polls + 1);
	}
	assert_int_equal(fake_committed(GROUP, INPUT, 0, NULL, 0), 1);
	fake_mute_commits(0);
	WAIT(fake_committed(GROUP, INPUT, 0, NULL, 0) == 2);
	/* The last word is said in any case. */
	fake_put(INPUT, 0, "c");
	WAIT(fake_committed(GROUP, INPUT, 0, NULL, 0) == 3);
	fake_mute_commits(1);
	fake_put(INPUT, 0, "d");
	WAIT(fake_committed(GROUP, INPUT, 0, NULL, 0) == 4);
	fake_put(INPUT, 0, "e");
	WAIT(entries() == 5);
	driver_stop(d);
	assert_int_equal(fake_committed(GROUP, INPUT, 0, NULL, 0), 5);
}

static void
each_record_names_the_one_before_it_in_its_partition(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int64_t offset, before, seq;
	int i, p;

	(void)state;
	for (i = 0; i < 30; i++)
		fake_put(INPUT, i % 2,
		    i % 3 == 0     ? "emit:a:1" :
			i % 3 == 1 ? "emit:b:2" :
				     "emit::3");
	WAIT(outputs() == 30);
	driver_stop(d);
	/* And across a restart. */
	d = driver_run(&ledger_service, "one", NULL);
	for (i = 0; i < 10; i++)
		fake_put(INPUT, 0, "emit::4");
	WAIT(outputs() == 40);
	for (p = 0; p < 2; p++)
		for (before = 0, offset = 0; offset < fake_next(OUTPUT, p);
		     offset++) {
			seq = strtoll(fake_header(OUTPUT, p, offset, "ce_id"),
			    NULL, 10);
			assert_true(seq > before);
			assert_int_equal(strtoll(fake_header(OUTPUT, p, offset,
						     "ce_predecessor"),
					     NULL, 10),
			    before);
			before = seq;
		}
	driver_stop(d);
}

static void
records_without_a_key_take_partitions_in_turn(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 5; i++)
		fake_put(INPUT, 0, "emit::x");
	WAIT(outputs() == 5);
	driver_stop(d);
	d = driver_run(&ledger_service, "one", NULL);
	fake_put(INPUT, 0, "emit::x");
	WAIT(outputs() == 6);
	assert_int_equal(fake_next(OUTPUT, 0), 3);
	assert_null(fake_key(OUTPUT, 0, 0));
	driver_stop(d);
}

static void
strangers_records_go_by_their_offset_alone(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "same");
	fake_put(INPUT, 0, "same");
	fake_append(INPUT, 0, &(struct fake_record){.key = NULL});
	WAIT(entries() == 3);
	assert_string_equal(driver_text(sql_values), "same,same,");
	assert_int_equal(driver_number("SELECT count(*) FROM marks"), 0);
	driver_stop(d);
}

static void
what_a_restart_finds_done_stays_done(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	int i;

	(void)state;
	for (i = 0; i < 100; i++)
		fake_put(INPUT, i % 2, "emit:k:x");
	WAIT(entries() == 100);
	driver_stop(d);
	d = driver_run(&ledger_service, "one", NULL);
	fake_put(INPUT, 0, "emit:k:x");
	WAIT(entries() == 101);
	WAIT(outputs() == 101);
	NEVER(entries() != 101 || outputs() != 101, 50);
	driver_stop(d);
}

static void
control_records_at_the_end_are_passed(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	fake_put_nothing(INPUT, 0);
	fake_put_nothing(INPUT, 0);
	WAIT(driver_number("SELECT next_offset FROM positions") == 3);
	fake_put(INPUT, 0, "b");
	fake_put_nothing(INPUT, 0);
	fake_put(INPUT, 0, "c");
	WAIT(driver_number("SELECT next_offset FROM positions") == 6);
	assert_string_equal(driver_text(sql_values), "a,b,c");
	driver_stop(d);
}

/* ---- rejected -------------------------------------------------------------- */

static void
rejected_record_is_a_dead_letter_with_all_of_it(void **state)
{
	static const struct fake_record poison = {.key = "the key",
	    .value = "reject:it smells",
	    .ts_ms = 12345,
	    .headers = {"ce_type", "odd", "trace", "abc"}};
	struct driven *d = driver_run(&ledger_service, "one", NULL);
	const void *value;
	struct buffer headers = {0};
	char name[16];
	size_t size, at = 0, i;
	const char *hex;
	char digits[3] = "";
	unsigned char byte;

	(void)state;
	fake_put(INPUT, 0, "before");
	fake_append(INPUT, 0, &poison);
	fake_put(INPUT, 0, "after");
	WAIT(fake_next(DEAD_LETTERS, 0) == 1);
	WAIT(entries() == 2);
	assert_string_equal(driver_text(sql_values), "before,after");
	assert_int_equal(outputs(), 0);
#define ROW(what, expected)                                                   \
	assert_string_equal(driver_text("SELECT " what " FROM dead_letters"), \
	    expected)
	ROW("topic", INPUT);
	ROW("partition || '/' || record_offset || '/' || ts_ms", "0/1/12345");
	ROW("cast(key AS TEXT)", "the key");
	ROW("cast(value AS TEXT)", "reject:it smells");
	ROW("reason", "it smells");
	hex = driver_text("SELECT hex(headers) FROM dead_letters");
	for (i = 0; hex[i] != '\0'; i += 2) {
		memcpy(digits, hex + i, 2);
		byte = (unsigned char)strtoul(digits, NULL, 16);
		buffer_add(&headers, &byte, 1);
	}
	assert_int_equal(headers_next(headers.data, headers.length, &at, name,
			     sizeof(name), &value, &size),
	    1);
	assert_string_equal(name, "ce_type");
	assert_int_equal(headers_next(headers.data, headers.length, &at, name,
			     sizeof(name), &value, &size),
	    1);
	assert_string_equal(name, "trace");
	assert_memory_equal(value, "abc", 3);
	buffer_free(&headers);
#define LETTER(name_, value_) \
	assert_string_equal(fake_header(DEAD_LETTERS, 0, 0, name_), value_)
	assert_string_equal(fake_value(DEAD_LETTERS, 0, 0), "reject:it smells");
	assert_string_equal(fake_key(DEAD_LETTERS, 0, 0), "the key");
	LETTER("dead_letter_topic", INPUT);
	LETTER("dead_letter_partition", "0");
	LETTER("dead_letter_offset", "1");
	LETTER("dead_letter_reason", "it smells");
	LETTER("dead_letter_key_bytes", "7");
	LETTER("dead_letter_value_bytes", "16");
	LETTER("ce_cause", INPUT "/0/1");
	driver_stop(d);
}

static void
large_dead_letter_is_cut_to_fit_and_its_row_is_whole(void **state)
{
	static char large[3000000];
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	memset(large, 'x', sizeof(large));
	memcpy(large, "reject:", 7); /* NOLINT(bugprone-not-null-*) */
	fake_append(INPUT, 0,
	    &(struct fake_record){.key = "key",
		.value = large,
		.value_size = sizeof(large)});
	WAIT(fake_next(DEAD_LETTERS, 0) == 1);
	assert_int_equal(fake_value_size(DEAD_LETTERS, 0, 0),
	    EMIT_BYTES_MOST - 3);
	LETTER("dead_letter_value_bytes", "3000000");
	assert_int_equal(driver_number(
			     "SELECT length(value) FROM dead_letters"),
	    sizeof(large));
	driver_stop(d);
}

static void
dead_letter_whose_headers_cannot_be_had_says_so(void **state)
{
	static const char reason[] =
	    "it smells; its headers are not kept: they are malformed, or more "
	    "than the client library reads";
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_append(INPUT, 0,
	    &(struct fake_record){.value = "reject:it smells",
		.headers_lost = 1});
	WAIT(fake_next(DEAD_LETTERS, 0) == 1);
	ROW("reason", reason);
	ROW("cast(value AS TEXT)", "reject:it smells");
	LETTER("dead_letter_reason", reason);
	driver_stop(d);
}

static void
mark_moves_past_a_rejected_record(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put_from(INPUT, 0, SHOP, 1, 0, "a");
	fake_put_from(INPUT, 0, SHOP, 2, 1, "reject:no");
	fake_put_from(INPUT, 0, SHOP, 2, 1, "reject:no");
	fake_put_from(INPUT, 0, SHOP, 3, 2, "c");
	WAIT(entries() == 2);
	assert_int_equal(driver_number("SELECT seq FROM marks"), 3);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 1);
	driver_stop(d);
}

/* Also where it is the first of its source in the transaction, whatever else
 * the transaction has. */
static void
mark_moves_past_a_record_that_is_rejected_first(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.batch_records = 1;
	d = driver_run(&ledger_service, "one", &conf);
	fake_put_from(INPUT, 0, SHOP, 1, 0, "a");
	WAIT(entries() == 1);
	fake_put_from(INPUT, 0, SHOP, 2, 1, "reject:no");
	WAIT(driver_number("SELECT count(*) FROM dead_letters") == 1);
	assert_int_equal(driver_number("SELECT seq FROM marks"), 2);
	fake_put_from(INPUT, 0, SHOP, 2, 1, "reject:no");
	fake_put_from(INPUT, 0, SHOP, 3, 2, "c");
	WAIT(entries() == 2);
	assert_int_equal(driver_number("SELECT seq FROM marks"), 3);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 1);
	driver_stop(d);
}

/* Whatever mixture of good and bad a transaction has, and however large it
 * is: all of the good ones once, in order, and the bad ones as dead letters. */
static void
one_bad_record_undoes_no_good_one(void **state)
{
	static const int sizes[] = {1, 2, 3, 7, 64, 500};
	static const char *const values[] = {"a", "emit:k:x", "reject:no",
	    "emit::y", "reject:never", "b", "c"};
	struct stream_conf conf = driver_conf();
	struct driven *d;
	size_t size;
	int i, good, bad = 0, emitted = 0;

	(void)state;
	for (size = 0, good = 0; size < sizeof(sizes) / sizeof(sizes[0]);
	     size++) {
		for (i = 0; i < 140; i++) {
			fake_put_from(INPUT, 0, SHOP,
			    140 * (int64_t)size + i + 1,
			    140 * (int64_t)size + i, values[i % 7]);
			bad += values[i % 7][0] == 'r';
			good += values[i % 7][0] != 'r';
			emitted += values[i % 7][0] == 'e';
		}
		conf.batch_records = sizes[size];
		d = driver_run(&ledger_service, "one", &conf);
		WAIT(entries() == good);
		WAIT(fake_next(DEAD_LETTERS, 0) == bad);
		WAIT(outputs() == emitted);
		assert_int_equal(accepted_outputs(OUTPUT, 2), emitted);
		assert_int_equal(driver_number(
				     "SELECT count(*) FROM dead_letters"),
		    bad);
		assert_int_equal(driver_number("SELECT seq FROM marks"),
		    140 * ((int64_t)size + 1));
		assert_int_equal(
		    driver_number("SELECT count(*) FROM entries a JOIN entries"
				  " b ON b.n > a.n WHERE b.record_offset <="
				  " a.record_offset"),
		    0);
		driver_stop(d);
	}
}

/* What is not declared, or too large, is the record's fault. */
static int
careless_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	static char large[EMIT_BYTES_MOST + 1];
	static char long_type[80];
	struct stream_output out = {.topic = OUTPUT,
	    .type = "t",
	    .value = large,
	    .value_size = 3,
	    .ts_ms = 1};

	if (memcmp(record->value, "topic", 5) == 0)
		out.topic = "stock-prices";
	if (memcmp(record->value, "value", 5) == 0)
		out.value_size = sizeof(large);
	if (memcmp(record->value, "types", 5) == 0) {
		memset(long_type, 't', sizeof(long_type) - 1);
		out.type = long_type;
	}
	if (memcmp(record->value, "keyed", 5) == 0) {
		out.key = large;
		out.key_size = EMIT_BYTES_MOST - 2;
	}
	return (stream_emit(s, &out, err));
}

static void
what_can_never_be_sent_fails_when_it_is_emitted(void **state)
{
	struct stream_service careless = ledger_service;
	struct driven *d;

	(void)state;
	careless.apply = careless_apply;
	d = driver_run(&careless, "one", NULL);
	fake_put(INPUT, 0, "topic");
	fake_put(INPUT, 0, "value");
	fake_put(INPUT, 0, "keyed");
	fake_put(INPUT, 0, "types");
	fake_put(INPUT, 0, "fine!");
	WAIT(outputs() == 1);
	WAIT(driver_number("SELECT count(*) FROM dead_letters") == 4);
	driver_stop(d);
}

/* ---- tried again ------------------------------------------------------------ */

static void
partition_waits_for_its_record_while_others_go_on(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	atomic_store(&ledger.retrying, 1);
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 0, "retry");
	fake_put(INPUT, 0, "b");
	WAIT(atomic_load(&ledger.applied) >= 3);
	fake_put(INPUT, 1, "other");
	WAIT(entries() == 2);
	fake_put(INPUT, 0, "c");
	NEVER(entries() != 2, 50);
	atomic_store(&ledger.retrying, 0);
	WAIT(entries() == 5);
	assert_string_equal(driver_text(sql_values), "a,other,retry,b,c");
	driver_stop(d);
}

static void
pauses_double_and_begin_anew_after_progress(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;

	(void)state;
	conf.retry_ms = 4000;
	d = driver_run(&ledger_service, "one", &conf);
	WAIT(driver_ready(d));
	atomic_store(&ledger.retrying, 1);
	fake_put(INPUT, 0, "retry");
	WAIT(atomic_load(&ledger.applied) == 1);
	NEVER(atomic_load(&ledger.applied) != 1, 30);
	driver_pass_ms(4000);
	WAIT(atomic_load(&ledger.applied) == 2);
	driver_pass_ms(4000);
	NEVER(atomic_load(&ledger.applied) != 2, 30);
	driver_pass_ms(4000);
	WAIT(atomic_load(&ledger.applied) == 3);
	atomic_store(&ledger.retrying, 0);
	driver_pass_ms(16000);
	WAIT(entries() == 1);
	atomic_store(&ledger.retrying, 1);
	fake_put(INPUT, 0, "retry");
	WAIT(atomic_load(&ledger.applied) == 5);
	NEVER(atomic_load(&ledger.applied) != 5, 30);
	driver_pass_ms(4000);
	WAIT(atomic_load(&ledger.applied) == 6);
	driver_stop(d);
}

static void
stopping_does_not_wait_for_what_is_tried_again(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	atomic_store(&ledger.retrying, 1);
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 0, "retry");
	WAIT(atomic_load(&ledger.applied) >= 2);
	driver_stop(d);
	assert_int_equal(entries(), 1);
	assert_int_equal(driver_number("SELECT next_offset FROM positions"), 1);
	atomic_store(&ledger.retrying, 0);
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 2);
	driver_stop(d);
}

/* ---- the end of the process -------------------------------------------------- */

static void
fatal_record_ends_the_run_and_leaves_nothing(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "a");
	fake_put(INPUT, 0, "fatal");
	driver_begin(d);
	driver_failed(d, "no more of this");
	assert_int_equal(entries(), 0);
	assert_int_equal(driver_number("SELECT count(*) FROM positions"), 0);
}

static void
failing_without_a_reason_is_nobodys_success(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);

	(void)state;
	fake_put(INPUT, 0, "silent");
	driver_begin(d);
	driver_failed(d, "without");
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 0);
}

static void
fatal_consumer_ends_the_run(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	WAIT(driver_ready(d));
	fake_upset(GROUP, 0, "no such luck", 0);
	fake_put(INPUT, 0, "a");
	WAIT(entries() == 1);
	fake_upset(GROUP, 0, "fenced", 1);
	driver_failed(d, "consumer");
}

/* ---- repeats and gaps --------------------------------------------------------- */

static void
repeats_of_a_relay_are_dropped(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put_from(INPUT, 0, SHOP, 3, 0, "a");
	fake_put_from(INPUT, 0, SHOP, 5, 3, "b");
	fake_put_from(INPUT, 0, SHOP, 9, 5, "c");
	/* The suffix again, and on. */
	fake_put_from(INPUT, 0, SHOP, 5, 3, "b");
	fake_put_from(INPUT, 0, SHOP, 9, 5, "c");
	fake_put_from(INPUT, 0, SHOP, 10, 9, "d");
	WAIT(entries() == 4);
	WAIT(driver_number("SELECT next_offset FROM positions") == 6);
	assert_string_equal(driver_text(sql_values), "a,b,c,d");
	driver_stop(d);
	/* The file remembers. */
	d = driver_run(&ledger_service, "one", NULL);
	fake_put_from(INPUT, 0, SHOP, 10, 9, "d");
	fake_put_from(INPUT, 0, SHOP, 11, 10, "e");
	WAIT(driver_number("SELECT next_offset FROM positions") == 8);
	assert_string_equal(driver_text(sql_values), "a,b,c,d,e");
	driver_stop(d);
}

static void
marks_are_kept_by_source_and_by_partition(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put_from(INPUT, 0, SHOP, 7, 0, "a");
	fake_put_from(INPUT, 1, SHOP, 2, 0, "b");
	fake_put_from(INPUT, 0, OTHER_SHOP, 1, 0, "c");
	fake_put(INPUT, 0, "d");
	WAIT(entries() == 4);
	assert_int_equal(driver_number("SELECT count(*) FROM marks"), 3);
	driver_stop(d);
}

static void
missing_predecessor_halts_that_partition_alone(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put_from(INPUT, 0, SHOP, 3, 0, "a");
	fake_put_from(INPUT, 0, SHOP, 6, 5, "c");
	fake_put_from(INPUT, 0, SHOP, 7, 6, "d");
	WAIT(driver_says(d, "is halted"));
	assert_true(driver_says(d,
	    INPUT "/0 is halted: " SHOP ": its records after seq 3 up to 5 "
		  "are missing before seq 6"));
	fake_put(INPUT, 1, "other");
	WAIT(entries() == 2);
	assert_string_equal(driver_text(sql_values), "a,other");
	assert_int_equal(driver_number("SELECT next_offset FROM positions"
				       " WHERE partition = 0"),
	    1);
	driver_stop(d);
	/* Until somebody accepts it. */
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(driver_says(d, "are missing before seq 6"));
	driver_stop(d);
	driver_exec("UPDATE marks SET seq = 5 WHERE partition = 0");
	d = driver_run(&ledger_service, "one", NULL);
	WAIT(entries() == 4);
	assert_string_equal(driver_text(sql_values), "a,other,c,d");
	WAIT(driver_ready(d));
	driver_stop(d);
}

static void
first_record_of_a_source_may_have_any_predecessor(void **state)
{
	struct driven *d = driver_run(&ledger_service, "one", NULL);

	(void)state;
	fake_put_from(INPUT, 0, SHOP, 900, 880, "a");
	fake_put_from(INPUT, 0, SHOP, 901, 900, "b");
	WAIT(entries() == 2);
	driver_stop(d);
}

static void
fair_turns_keep_a_long_partition_from_starving_the_other(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d;
	int i;

	(void)state;
	conf.batch_records = 100;
	d = driver_open(&ledger_service, "one", &conf);
	for (i = 0; i < 2000; i++)
		fake_put(INPUT, 0, "long");
	fake_put(INPUT, 1, "short");
	driver_begin(d);
	WAIT(entries() == 2001);
	assert_true(
	    driver_number("SELECT n FROM entries WHERE value = 'short'") < 300);
	driver_stop(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(applies_emits_relays_and_settles),
	    LEDGER_TEST(large_records_in_hand_are_fewer),
	    LEDGER_TEST(a_group_that_hasnt_answered_is_told_no_more),
	    LEDGER_TEST(each_record_names_the_one_before_it_in_its_partition),
	    LEDGER_TEST(records_without_a_key_take_partitions_in_turn),
	    LEDGER_TEST(strangers_records_go_by_their_offset_alone),
	    LEDGER_TEST(what_a_restart_finds_done_stays_done),
	    LEDGER_TEST(control_records_at_the_end_are_passed),
	    LEDGER_TEST(rejected_record_is_a_dead_letter_with_all_of_it),
	    LEDGER_TEST(dead_letter_whose_headers_cannot_be_had_says_so),
	    LEDGER_TEST(large_dead_letter_is_cut_to_fit_and_its_row_is_whole),
	    LEDGER_TEST(mark_moves_past_a_rejected_record),
	    LEDGER_TEST(mark_moves_past_a_record_that_is_rejected_first),
	    LEDGER_TEST(one_bad_record_undoes_no_good_one),
	    LEDGER_TEST(what_can_never_be_sent_fails_when_it_is_emitted),
	    LEDGER_TEST(partition_waits_for_its_record_while_others_go_on),
	    LEDGER_TEST(pauses_double_and_begin_anew_after_progress),
	    LEDGER_TEST(stopping_does_not_wait_for_what_is_tried_again),
	    LEDGER_TEST(fatal_record_ends_the_run_and_leaves_nothing),
	    LEDGER_TEST(failing_without_a_reason_is_nobodys_success),
	    LEDGER_TEST(fatal_consumer_ends_the_run),
	    LEDGER_TEST(repeats_of_a_relay_are_dropped),
	    LEDGER_TEST(marks_are_kept_by_source_and_by_partition),
	    LEDGER_TEST(missing_predecessor_halts_that_partition_alone),
	    LEDGER_TEST(first_record_of_a_source_may_have_any_predecessor),
	    LEDGER_TEST(
		fair_turns_keep_a_long_partition_from_starving_the_other),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
