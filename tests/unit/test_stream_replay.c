/*
 * stream/replay: a dead letter that is applied once more is the record that
 * it was, once, and nothing else is touched.
 */
#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_ledger.h"

static const struct fake_record poison = {.key = "the key",
    .value = "reject:it smells",
    .ts_ms = 12345,
    .headers = {"ce_type", "odd", "trace", "abc"}};

static int64_t
letters(void)
{
	return (driver_number("SELECT count(*) FROM dead_letters"));
}

/* What the file says of rows that went: each one's id, outcome and origin. */
static const char *
gone(void)
{
	return (driver_text("SELECT coalesce(group_concat(id || ' ' || outcome"
			    " || ' ' || topic || '/' || partition || '/' ||"
			    " record_offset, ', '), '') FROM"
			    " dead_letters_gone"));
}

/* The status that HTTP would see; what was said goes to ${says}. */
static int
replay_of(struct driven *d, const char *meant, int kind, int64_t id, char *says,
    size_t size)
{
	struct stream_dead_letter letter = {.id = id};
	struct stream_call call = {.kind = kind,
	    .input = &letter,
	    .deadline_ms = 10000};
	struct stream_answer answer = {.status = 0};
	struct mr_error err = {0};
	int status;

	snprintf(letter.database_id, sizeof(letter.database_id), "%s", meant);
	status = stream_call(driver_stream(d), &call, &answer, &err);
	snprintf(says, size, "%s",
	    status == 0 ? buffer_text(&answer.body) : err.message);
	buffer_free(&answer.body);
	if (status == 0)
		return (answer.status);
	return (err.kind == MR_REJECT ? 422 : err.kind == MR_RETRY ? 503 : 500);
}

static int
replay(struct driven *d, int kind, int64_t id, char *says, size_t size)
{

	return (replay_of(d, stream_database_id(driver_stream(d)), kind, id,
	    says, size));
}

static struct driven *
run_with_a_dead_letter(const struct stream_service *svc)
{
	struct driven *d = driver_run(svc, "one", NULL);

	fake_put(INPUT, 0, "before");
	fake_append(INPUT, 0, &poison);
	fake_put(INPUT, 0, "after");
	WAIT(fake_next(DEAD_LETTERS, 0) == 1);
	WAIT(entries() == 2);
	return (d);
}

/* What apply was given last. */
static struct {
	char text[256];
	char trace[16];
	int headers;
} given;

static int
curious_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct kafka_header h;
	const void *value;
	size_t size;

	snprintf(given.text, sizeof(given.text),
	    "%s/%d/%d/%lld at %lld: %s %.*s", record->topic, record->input,
	    record->partition, (long long)record->offset,
	    (long long)record->ts_ms, record->type == NULL ? "" : record->type,
	    (int)record->key_size,
	    record->key == NULL ? "" : (const char *)record->key);
	given.trace[0] = '\0';
	if (kafka_record_header(record->raw, "trace", &value, &size))
		snprintf(given.trace, sizeof(given.trace), "%.*s", (int)size,
		    (const char *)value);
	for (given.headers = 0;
	     kafka_record_header_at(record->raw, (size_t)given.headers, &h);
	     given.headers++)
		;
	return (ledger_apply(s, record, err));
}

static const struct stream_service curious = {
    .name = GROUP,
    .inputs = ledger_inputs,
    .outputs = ledger_outputs,
    .migrations = ledger_migrations,
    .apply = curious_apply,
};

static void
dead_letter_is_applied_as_the_record_that_it_was(void **state)
{
	struct driven *d = run_with_a_dead_letter(&curious);
	int64_t offset, at;
	char says[256];
	int partition;

	(void)state;
	at = driver_number("SELECT next_offset FROM positions");
	driver_exec("UPDATE dead_letters SET value = CAST('emit:k:again' AS"
		    " BLOB)");
	memset(&given, 0, sizeof(given));
	assert_int_equal(replay(d, STREAM_REPLAY_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    200);
	assert_string_equal(says, "{\"id\":1,\"outcome\":\"applied\"}");
	assert_string_equal(given.text, INPUT "/0/0/1 at 12345: odd the key");
	assert_string_equal(given.trace, "abc");
	assert_int_equal(given.headers, 2);
	assert_int_equal(letters(), 0);
	assert_string_equal(gone(), "1 applied " INPUT "/0/1");
	assert_string_equal(driver_text("SELECT partition || '/' ||"
					" record_offset || '/' || value FROM"
					" entries ORDER BY n DESC LIMIT 1"),
	    "0/1/emit:k:again");
	WAIT(find_output(OUTPUT, "again", &partition, &offset) != NULL);
	assert_string_equal(fake_header(OUTPUT, partition, offset, "ce_cause"),
	    INPUT "/0/1");
	assert_int_equal(driver_number("SELECT next_offset FROM positions"),
	    at);
	/* Once: the row is gone. */
	assert_int_equal(replay(d, STREAM_REPLAY_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    404);
	assert_int_equal(entries(), 3);
	driver_stop(d);
}

static void
what_is_refused_again_stays_and_leaves_nothing(void **state)
{
	struct driven *d = run_with_a_dead_letter(&ledger_service);
	char says[256];

	(void)state;
	assert_int_equal(replay(d, STREAM_REPLAY_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    422);
	assert_string_equal(says, "it smells");
	assert_int_equal(letters(), 1);
	assert_string_equal(gone(), "");
	assert_int_equal(entries(), 2);
	/* Not a second dead letter, and nothing of what was undone. */
	fake_put(INPUT, 0, "emit:k:later");
	WAIT(fake_next(OUTPUT, 0) + fake_next(OUTPUT, 1) == 1);
	assert_int_equal(fake_next(DEAD_LETTERS, 0), 1);
	driver_stop(d);
}

static void
topic_that_is_no_longer_read_is_a_conflict(void **state)
{
	struct driven *d = run_with_a_dead_letter(&ledger_service);
	char says[256];

	(void)state;
	driver_exec("UPDATE dead_letters SET topic = 'of-old'");
	assert_int_equal(replay(d, STREAM_REPLAY_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    409);
	assert_string_equal(says, GROUP " doesn't read topic of-old");
	assert_int_equal(letters(), 1);
	driver_stop(d);
}

/* Ids begin with 1 in every file: who means another one's means another row. */
static void
letter_of_another_file_is_a_conflict(void **state)
{
	static const int kinds[] = {STREAM_REPLAY_DEAD_LETTER,
	    STREAM_DROP_DEAD_LETTER};
	static const char *const others[] = {"",
	    "00112233445566778899aabbccddeeff"};
	struct driven *d = run_with_a_dead_letter(&ledger_service);
	char says[256], wanted[256];
	size_t i;

	(void)state;
	snprintf(wanted, sizeof(wanted),
	    GROUP " works with another file, whose database id is %s",
	    stream_database_id(driver_stream(d)));
	for (i = 0; i < 4; i++) {
		assert_int_equal(replay_of(d, others[i / 2], kinds[i % 2], 1,
				     says, sizeof(says)),
		    409);
		assert_string_equal(says, wanted);
	}
	assert_int_equal(letters(), 1);
	assert_string_equal(gone(), "");
	driver_stop(d);
}

static void
damaged_headers_end_where_they_are_damaged(void **state)
{
	struct driven *d = run_with_a_dead_letter(&curious);
	char says[256];

	(void)state;
	driver_exec(
	    "UPDATE dead_letters SET value = CAST('x' AS BLOB),"
	    " headers = CAST(headers || x'7fffffff7fffffff61' AS BLOB)");
	assert_int_equal(replay(d, STREAM_REPLAY_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    200);
	assert_int_equal(given.headers, 2);
	assert_string_equal(given.trace, "abc");
	driver_stop(d);
}

static void
dropped_letter_is_gone_and_not_applied(void **state)
{
	struct driven *d = run_with_a_dead_letter(&ledger_service);
	int applied = atomic_load(&ledger.applied);
	char says[256];

	(void)state;
	assert_int_equal(replay(d, STREAM_DROP_DEAD_LETTER, 7, says,
			     sizeof(says)),
	    404);
	assert_string_equal(says, GROUP " has no dead letter 7");
	assert_int_equal(letters(), 1);
	assert_int_equal(replay(d, STREAM_DROP_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    200);
	assert_string_equal(says, "{\"id\":1,\"outcome\":\"dropped\"}");
	assert_int_equal(letters(), 0);
	assert_string_equal(gone(), "1 dropped " INPUT "/0/1");
	assert_int_equal(atomic_load(&ledger.applied), applied);
	driver_stop(d);
}

static void
what_is_kept_of_a_letter_goes_when_the_letter_would_have(void **state)
{
	struct driven *d = run_with_a_dead_letter(&ledger_service);
	char says[256];

	(void)state;
	fake_append(INPUT, 0, &poison);
	WAIT(letters() == 2);
	driver_exec("UPDATE dead_letters SET put_at_ms = put_at_ms + 7200000"
		    " WHERE id = 2");
	assert_int_equal(replay(d, STREAM_DROP_DEAD_LETTER, 1, says,
			     sizeof(says)),
	    200);
	assert_int_equal(replay(d, STREAM_DROP_DEAD_LETTER, 2, says,
			     sizeof(says)),
	    200);
	driver_pass_ms(driver_conf().dead_letter_ms - 3600000);
	NEVER(driver_number("SELECT count(*) FROM dead_letters_gone") != 2,
	    200);
	driver_pass_ms(2 * 3600000);
	WAIT(driver_number("SELECT count(*) FROM dead_letters_gone") == 1);
	assert_string_equal(gone(), "2 dropped " INPUT "/0/3");
	driver_stop(d);
}

/* By a tool, as the service does it; nothing where it couldn't be kept. */
static void
tool_drops_a_letter_as_its_service_does(void **state)
{
	struct driven *d = driver_open(&ledger_service, "one", NULL);
	struct store *st = stream_store(driver_stream(d));
	struct mr_error err = {0};

	(void)state;
	driver_exec("INSERT INTO dead_letters (topic, topic_id, partition,"
		    " record_offset, ts_ms, headers, reason, put_at_ms) VALUES"
		    " ('" INPUT "', 'id', 1, 7, 1, x'', 'it smells', 5)");
	assert_int_equal(store_begin(st, &err), 0);
	assert_int_equal(stream_drop_letter(st, 2, &err), 0);
	assert_int_equal(stream_drop_letter(st, 1, &err), 1);
	assert_int_equal(stream_drop_letter(st, 1, &err), 0);
	assert_int_equal(store_commit(st, &err), 0);
	assert_int_equal(letters(), 0);
	assert_string_equal(gone(), "1 dropped " INPUT "/1/7");
	assert_int_equal(driver_number("SELECT put_at_ms FROM"
				       " dead_letters_gone"),
	    5);
	driver_exec("DELETE FROM schema_versions WHERE component = 'core' AND"
		    " version > 4");
	assert_int_equal(store_begin(st, &err), 0);
	assert_int_equal(stream_drop_letter(st, 1, &err), -1);
	store_rollback(st);
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "start the service once"));
	driver_stop(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    LEDGER_TEST(dead_letter_is_applied_as_the_record_that_it_was),
	    LEDGER_TEST(what_is_refused_again_stays_and_leaves_nothing),
	    LEDGER_TEST(topic_that_is_no_longer_read_is_a_conflict),
	    LEDGER_TEST(letter_of_another_file_is_a_conflict),
	    LEDGER_TEST(damaged_headers_end_where_they_are_damaged),
	    LEDGER_TEST(dropped_letter_is_gone_and_not_applied),
	    LEDGER_TEST(
		what_is_kept_of_a_letter_goes_when_the_letter_would_have),
	    LEDGER_TEST(tool_drops_a_letter_as_its_service_does),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
