/*
 * stream_ledger -- a service for tests of pkg/stream: it does what its
 * records and commands say, and writes down what it did.
 *
 * A record's value is a verb, and words behind it with colons between:
 *
 *	emit:KEY:TEXT	emit it to inventory-events; no KEY: without one
 *	reject:WHY	emit something, then say REJECT
 *	retry		RETRY for as long as ledger.retrying
 *	picky:NAME	RETRY in the instance of that name
 *	fatal		FATAL
 *	silent		-1, and no word of why
 *	gate		wait in apply until ledger.gate is 0, or has a pass
 *	swallow		fill the disk, and say that all is well
 *	escape		try to COMMIT, and say that all is well
 *
 * All but the failed ones leave a row in `entries`; so does any other value.
 */
#ifndef MR_STREAM_LEDGER_H
#define MR_STREAM_LEDGER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "stream_driver.h"

#define INPUT "order-events"
#define OUTPUT "inventory-events"
#define OTHER_OUTPUT "alerts"
#define GROUP "ledger"
#define DEAD_LETTERS "ledger.dead-letter"

/* Commands: the kind says what to do, the input is a text. */
enum {
	LEDGER_WRITE, /* a row in `calls`, and emit the text */
	LEDGER_REJECT, /* write, then REJECT */
	LEDGER_RETRY, /* write, then RETRY */
	LEDGER_CONFLICT, /* write, and answer 409 */
	LEDGER_GATE, /* write, then wait for the gate */
	LEDGER_SILENT, /* write, then -1 without a word */
	LEDGER_BUSY /* write, and answer 503 */
};

static struct {
	_Atomic int retrying;
	_Atomic int gate; /* 1: closed */
	_Atomic int passes; /* how many it lets through all the same */
	_Atomic int at_gate; /* how many wait */
	_Atomic int applied; /* calls of apply */
	_Atomic int tick_emits;
	char notes[64]; /* stream_note as each command found it, a digit each */
} ledger;

static const struct store_migration ledger_migrations[] = {
    {1, "ledger",
	"CREATE TABLE entries (n INTEGER NOT NULL PRIMARY KEY, instance TEXT "
	"NOT NULL, partition INTEGER NOT NULL, record_offset INTEGER NOT NULL,"
	" value TEXT NOT NULL) STRICT;"
	"CREATE TABLE calls (n INTEGER NOT NULL PRIMARY KEY, text TEXT NOT "
	"NULL, id TEXT NOT NULL) STRICT;"
	"CREATE TABLE ticked (n INTEGER NOT NULL PRIMARY KEY, instance TEXT "
	"NOT NULL, now_ms INTEGER NOT NULL) STRICT;"
	"CREATE TABLE bulk (n INTEGER NOT NULL PRIMARY KEY, bytes BLOB) "
	"STRICT;"},
    {0},
};

static const char sql_entry[] =
    "INSERT INTO entries (instance, partition, record_offset, value)"
    " VALUES (?1, ?2, ?3, ?4)";
static const char sql_call[] = "INSERT INTO calls (text, id) VALUES (?1, ?2)";
static const char sql_ticked[] =
    "INSERT INTO ticked (instance, now_ms) VALUES (?1, ?2)";
static const char sql_bulk[] =
    "INSERT INTO bulk (bytes) VALUES (zeroblob(16000000))";
static const char sql_escape[] = "COMMIT";

static int
ledger_emit(struct stream *s, const char *topic, const char *key,
    size_t key_size, const char *text, struct mr_error *err)
{
	return (stream_emit(s,
	    &(struct stream_output){.topic = topic,
		.type = "ledger.entry",
		.key = key_size > 0 ? key : NULL,
		.key_size = key_size,
		.value = text,
		.value_size = strlen(text),
		.ts_ms = 7},
	    err));
}

/* Where a test wants it to wait: until the gate is open, or lets one through. */
static void
ledger_gate(void)
{
	atomic_fetch_add(&ledger.at_gate, 1);
	while (atomic_load(&ledger.gate)) {
		if (atomic_load(&ledger.passes) > 0) {
			atomic_fetch_sub(&ledger.passes, 1);
			break;
		}
		(void)driver_late(INT64_MAX);
	}
	atomic_fetch_sub(&ledger.at_gate, 1);
}

static int
ledger_do(struct stream *s, const char *text, struct mr_error *err)
{
	const char *words = strchr(text, ':');
	const char *rest = words == NULL ? NULL : strchr(words + 1, ':');

	if (strncmp(text, "emit:", 5) == 0 && rest != NULL)
		return (ledger_emit(s, OUTPUT, words + 1,
		    (size_t)(rest - words - 1), rest + 1, err));
	if (strncmp(text, "reject:", 7) == 0) {
		stream_say(s, "never said", NULL);
		if (ledger_emit(s, OUTPUT, "undone", 6, "undone", err) == -1)
			return (-1);
		return (mr_error_set(err, MR_REJECT, "%s", words + 1));
	}
	if (strcmp(text, "retry") == 0 && atomic_load(&ledger.retrying))
		return (mr_error_set(err, MR_RETRY, "not now"));
	if (strncmp(text, "picky:", 6) == 0 &&
	    strcmp(words + 1, stream_settings(s)->instance) == 0)
		return (mr_error_set(err, MR_RETRY, "not here"));
	if (strcmp(text, "fatal") == 0)
		return (mr_error_set(err, MR_FATAL, "no more of this"));
	if (strcmp(text, "silent") == 0)
		return (-1);
	if (strcmp(text, "gate") == 0)
		ledger_gate();
	if (strcmp(text, "swallow") == 0)
		(void)store_run(stream_store(s), err, sql_bulk);
	if (strcmp(text, "escape") == 0)
		(void)store_run(stream_store(s), err, sql_escape);
	return (0);
}

struct ledger_record {
	char text[256];
};

static int
ledger_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{
	struct ledger_record *entry = decoded;

	(void)err;
	snprintf(entry->text, sizeof(entry->text), "%.*s",
	    (int)record->value_size,
	    record->value == NULL ? "" : (const char *)record->value);
	return (0);
}

static int
ledger_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct ledger_record own;
	const struct ledger_record *entry = record->decoded;
	const char *text;

	atomic_fetch_add(&ledger.applied, 1);
	if (entry == NULL) {
		if (ledger_decode(record, &own, err) == -1)
			return (-1);
		entry = &own;
	}
	text = entry->text;
	if (store_run(stream_store(s), err, sql_entry,
		store_text(stream_settings(s)->instance),
		store_i64(record->partition), store_i64(record->offset),
		store_text(text)) == -1)
		return (-1);
	return (ledger_do(s, text, err));
}

static int
ledger_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	const char *text = command->input;
	size_t count = strlen(ledger.notes);
	int64_t *note = stream_note(s);

	if (count + 1 < sizeof(ledger.notes))
		ledger.notes[count] = (char)('0' + (*note)++);
	if (store_run(stream_store(s), err, sql_call, store_text(text),
		store_text(command->id)) == -1 ||
	    ledger_emit(s, OUTPUT, text, strlen(text), text, err) == -1)
		return (-1);
	buffer_addf(&answer->body, "{\"text\":\"%s\"}", text);
	snprintf(answer->location, sizeof(answer->location), "/calls/%s", text);
	switch (command->kind) {
	case LEDGER_REJECT:
		return (mr_error_set(err, MR_REJECT, "%s is wrong", text));
	case LEDGER_RETRY:
		return (mr_error_set(err, MR_RETRY, "%s is early", text));
	case LEDGER_CONFLICT:
		answer->status = 409;
		return (0);
	case LEDGER_GATE:
		ledger_gate();
		return (0);
	case LEDGER_SILENT:
		return (-1);
	case LEDGER_BUSY:
		answer->status = 503;
		return (0);
	default:
		answer->status = 201;
		return (0);
	}
}

static int
ledger_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	if (store_run(stream_store(s), err, sql_ticked,
		store_text(stream_settings(s)->instance),
		store_i64(now_ms)) == -1)
		return (-1);
	if (atomic_load(&ledger.tick_emits))
		return (ledger_emit(s, OUTPUT, "tick", 4, "tick", err));
	return (0);
}

static const char *const ledger_inputs[] = {INPUT, NULL};
static const char *const ledger_outputs[] = {OUTPUT, OTHER_OUTPUT, NULL};

static const struct stream_service ledger_service = {
    .name = GROUP,
    .inputs = ledger_inputs,
    .outputs = ledger_outputs,
    .migrations = ledger_migrations,
    .apply = ledger_apply,
    .command = ledger_command,
};

/* The same, and records are decoded before they are applied. */
static const struct stream_service ledger_decoding = {
    .name = GROUP,
    .inputs = ledger_inputs,
    .outputs = ledger_outputs,
    .migrations = ledger_migrations,
    .decode = ledger_decode,
    .decoded_size = sizeof(struct ledger_record),
    .apply = ledger_apply,
    .command = ledger_command,
};

/* The same with a tick every 100 ms. */
static const struct stream_service ledger_ticking = {
    .name = GROUP,
    .inputs = ledger_inputs,
    .outputs = ledger_outputs,
    .migrations = ledger_migrations,
    .apply = ledger_apply,
    .command = ledger_command,
    .tick = ledger_tick,
    .tick_ms = 100,
};

/* ---- calling it ----------------------------------------------------------- */

/* A call by a thread of its own; wait for it with call_wait. */
struct called {
	struct stream *s;
	struct stream_call call;
	struct stream_answer answer;
	struct mr_error err;
	int status;
	_Atomic int over;
	pthread_t thread;
};

static void *
called_main(void *arg)
{
	struct called *c = arg;

	c->status = stream_call(c->s, &c->call, &c->answer, &c->err);
	atomic_store(&c->over, 1);
	return (NULL);
}

static inline void
call_start(struct called *c, struct driven *d, int kind, const char *text,
    int64_t deadline_ms)
{
	memset(c, 0, sizeof(*c));
	c->s = driver_stream(d);
	c->call.kind = kind;
	c->call.input = text;
	c->call.deadline_ms = deadline_ms;
	assert_int_equal(pthread_create(&c->thread, NULL, called_main, c), 0);
}

static inline int
call_wait(struct called *c)
{
	pthread_join(c->thread, NULL);
	buffer_free(&c->answer.body);
	return (c->status);
}

/* A call by this thread: its status as HTTP would see it. */
static inline int
call_now(struct driven *d, int kind, const char *text)
{
	struct stream_call call = {.kind = kind,
	    .input = text,
	    .deadline_ms = 10000};
	struct stream_answer answer = {.status = 0};
	struct mr_error err = {0};
	int status;

	status = stream_call(driver_stream(d), &call, &answer, &err);
	buffer_free(&answer.body);
	if (status == 0)
		return (answer.status);
	return (err.kind == MR_REJECT ? 422 : err.kind == MR_RETRY ? 503 : 500);
}

/* ---- around each test ------------------------------------------------------ */

static inline int
ledger_setup(void **state)
{
	(void)state;
	memset(&ledger, 0, sizeof(ledger));
	driver_start();
	fake_topic(INPUT, 2);
	fake_topic(OUTPUT, 2);
	fake_topic(OTHER_OUTPUT, 3);
	return (0);
}

static inline int
ledger_teardown(void **state)
{
	(void)state;
	atomic_store(&ledger.gate, 0);
	fake_release();
	fake_reach(1);
	driver_end();
	return (0);
}

#define LEDGER_TEST(name) \
	cmocka_unit_test_setup_teardown(name, ledger_setup, ledger_teardown)

/* The value of the topic's one record with this text, or NULL; *partition and
 * *offset say where. */
static inline const char *
find_output(const char *topic, const char *text, int *partition,
    int64_t *offset)
{
	const char *value;
	int p;
	int64_t o;

	for (p = 0; p < 3; p++)
		for (o = 0; o < fake_next(topic, p); o++)
			if ((value = fake_value(topic, p, o)) != NULL &&
			    strcmp(value, text) == 0) {
				*partition = p;
				*offset = o;
				return (value);
			}
	return (NULL);
}

/*
 * Read a topic as a Millrace consumer does: by its marks.  What is accepted
 * is counted; a gap fails the test.
 */
static inline int64_t
accepted_outputs(const char *topic, int partitions)
{
	struct {
		char source[SOURCE_SIZE];
		int64_t seq;
	} marks[8] = {{"", -1}};
	const char *source;
	int64_t o, seq, before, accepted = 0;
	int p, m, count;

	for (p = 0; p < partitions; p++)
		for (count = 0, o = 0; o < fake_next(topic, p); o++) {
			if ((source = fake_header(topic, p, o, "ce_source")) ==
			    NULL)
				continue;
			seq = strtoll(fake_header(topic, p, o, "ce_id"), NULL,
			    10);
			before = strtoll(fake_header(topic, p, o,
					     "ce_predecessor"),
			    NULL, 10);
			for (m = 0;
			     m < count && strcmp(marks[m].source, source) != 0;
			     m++)
				;
			if (m == count) {
				assert_true(count < 8);
				snprintf(marks[count].source, SOURCE_SIZE, "%s",
				    source);
				marks[count++].seq = -1;
			}
			if (seq <= marks[m].seq)
				continue;
			if (marks[m].seq != -1 && before > marks[m].seq)
				fail_msg("%s/%d: %lld to %lld are missing",
				    topic, p, (long long)marks[m].seq,
				    (long long)before);
			marks[m].seq = seq;
			accepted++;
		}
	return (accepted);
}

/* The group of the file's cursor, and the cursor. */
static inline const char *
relay_group(void)
{
	static char id[RELAY_ID_SIZE];

	relay_id(GROUP,
	    driver_text("SELECT database_id FROM database_ids"
			" ORDER BY number DESC LIMIT 1"),
	    id);
	return (id);
}

static inline int64_t
relay_cursor(void)
{
	return (fake_committed(relay_group(), OUTPUT, 0, NULL, 0));
}

static inline int64_t
entries(void)
{
	return (driver_number("SELECT count(*) FROM entries"));
}

#endif
