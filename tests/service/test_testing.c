/*
 * testing: what the driver drives, and that its checks see what they are
 * for: each flaw that a service can have is planted once.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"
#include "../unit/fake_kafka.h"
#include "testing/internal.h"
#include "testing/testing.h"

static const struct store_migration migrations[] = {
    {1, "notes",
	"CREATE TABLE notes (n INTEGER NOT NULL PRIMARY KEY, text TEXT NOT"
	" NULL, real REAL, note BLOB) STRICT;"
	"CREATE TABLE ticked (at_ms INTEGER NOT NULL PRIMARY KEY) STRICT;"},
    {0, NULL, NULL},
};
static const char sql_note[] = "INSERT INTO notes (n, text) VALUES"
			       " ((SELECT count(*) FROM notes), ?1)";
static const char sql_notes[] = "SELECT count(*) FROM notes";
static const char sql_ticked[] = "INSERT INTO ticked VALUES (?1)";
static const char sql_any[] = "SELECT n FROM notes LIMIT 1";
static const char sql_all[] = "SELECT n, text, real AS x FROM notes ORDER BY n";
static const char sql_blob[] = "SELECT x'00' AS b FROM notes";

/* What is wrong with the service this time. */
static enum flaw {
	SOUND,
	COUNTS_IN_MEMORY,
	ANSWERS_FROM_MEMORY,
	ASKS_THE_CLOCK,
	ASKS_SQL_THE_TIME,
	DRAWS,
	ROLLS,
	TRUSTS_ORDER,
	DRAWS_AN_ID,
	DECODES_BY_THE_CLOCK,
	PASSES_FEWER
} flaw;
static atomic_int *lives; /* of all processes */
static int in_memory;
static int retries;

static int
note(struct stream *s, const char *text, struct mr_error *err)
{

	return (
	    store_run(stream_store(s), err, sql_note, store_text(text)) == -1 ?
		-1 :
		0);
}

static int
noter_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{
	int64_t *n = decoded;

	(void)record;
	(void)err;
	*n = flaw == DECODES_BY_THE_CLOCK ? time(NULL) : 0;
	return (0);
}

static int
flawed(struct stream *s, const int64_t *decoded, char *text, size_t size,
    struct mr_error *err)
{
	static const char sql_now[] = "SELECT unixepoch('now')";
	char id[ID_UUID_SIZE];
	int64_t n = 0;

	switch (flaw) {
	case SOUND:
	case ANSWERS_FROM_MEMORY:
	case PASSES_FEWER:
		break;
	case DECODES_BY_THE_CLOCK:
		n = *decoded;
		break;
	case COUNTS_IN_MEMORY:
		n = ++in_memory;
		break;
	case ASKS_THE_CLOCK:
		n = time(NULL);
		break;
	case ASKS_SQL_THE_TIME:
		if (store_find(stream_store(s), err, &n, sql_now) == -1)
			return (-1);
		break;
	case DRAWS:
		id_random_bytes(&n, sizeof(n));
		break;
	case ROLLS:
		n = rand(); /* NOLINT: that is the flaw */
		break;
	case TRUSTS_ORDER:
		if (store_find(stream_store(s), err, &n, sql_any) == -1)
			return (-1);
		break;
	case DRAWS_AN_ID:
		id_uuid_v7(0, id);
		snprintf(text, size, "%s", id);
		return (0);
	}
	snprintf(text, size, "%lld", (long long)n);
	return (0);
}

int failpoint_hit(const char *name);

/* A hundred places more, except in a run or two in the middle. */
static void
pass_more(void)
{
	int life = atomic_fetch_add(lives, 1), i;

	for (i = 0; i < 100 && (life < 150 || life > 154); i++)
		(void)failpoint_hit("more");
}

static int
noter_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct buffer value = {0};
	char text[64];

	if (flaw == PASSES_FEWER)
		pass_more();
	if (record->value == NULL)
		return (note(s, "tombstone", err));
	if (record->value_size == 5 && memcmp(record->value, "later", 5) == 0 &&
	    retries++ < 1)
		return (mr_error_set(err, MR_RETRY, "not yet"));
	if (record->value_size == 3 && memcmp(record->value, "bad", 3) == 0)
		return (mr_error_set(err, MR_REJECT, "it is bad"));
	if (flawed(s, record->decoded, text, sizeof(text), err) == -1 ||
	    note(s, text, err) == -1)
		return (-1);
	buffer_add(&value, record->value, record->value_size);
	return (stream_emit_buffer(s, "noted", "note.taken", NULL, &value,
	    record->ts_ms, err));
}

static int
noter_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	if (command->kind == 2)
		return (mr_error_set(err, MR_REJECT, "no such note"));
	while (command->kind == 3)
		pause();
	answer->status = 201;
	snprintf(answer->location, sizeof(answer->location), "/notes/%s",
	    command->id);
	return (note(s, command->input != NULL ? command->input : "none", err));
}

static int
noter_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{

	return (store_run(stream_store(s), err, sql_ticked,
		    store_i64(now_ms)) == -1 ?
		-1 :
		0);
}

static void
get_notes(struct web_request *req, struct web_response *res)
{

	service_rows(req, res, "notes", sql_notes, sql_all);
}

static void
get_blobs(struct web_request *req, struct web_response *res)
{

	service_rows(req, res, "blobs", NULL, sql_blob);
}

/* Not /metrics, whose answers aren't compared, for all its name. */
static void
get_history(struct web_request *req, struct web_response *res)
{

	(void)req;
	buffer_addf(&res->body, "{\"asked\":%d}",
	    flaw == ANSWERS_FROM_MEMORY ? ++in_memory : 1);
}

static void
post_note(struct web_request *req, struct web_response *res)
{

	service_command(req, res, 1, NULL, 0);
}

static void
post_stuck(struct web_request *req, struct web_response *res)
{

	service_command(req, res, 3, NULL, 0);
}

static const struct stream_service noter_stream = {
    .name = "noter",
    .inputs = (const char *const[]){"order-events", NULL},
    .outputs = (const char *const[]){"noted", NULL},
    .migrations = migrations,
    .decode = noter_decode,
    .decoded_size = sizeof(int64_t),
    .apply = noter_apply,
    .command = noter_command,
    .tick = noter_tick,
    .tick_ms = 60000,
};

static const struct service noter = {
    .summary = "Takes notes.",
    .stream = &noter_stream,
    .routes = (const struct web_route[]){{"GET", "/notes", get_notes},
	{"GET", "/blobs", get_blobs}, {"GET", "/metrics-history", get_history},
	{"POST", "/notes", post_note}, {"POST", "/stuck", post_stuck},
	{NULL, NULL, NULL}},
    .gauges = (const struct service_gauge[]){{"notes_taken", "Notes.",
						 sql_notes},
	{NULL, NULL, NULL}},
    .topics = (const struct kafka_topic[]){{"noted", 2, -1, 0},
	{NULL, 0, 0, 0}},
};

static void
feed(struct testing *t, const char *value)
{

	testing_feed(t, "order-events", "order.created", NULL, value);
}

static struct testing *
open_sound(const char *const *flags)
{

	flaw = SOUND;
	in_memory = retries = 0;
	return (testing_open(&noter, flags));
}

static void
test_records_go_in_and_rows_and_records_come_out(void **state)
{
	struct testing *t = open_sound(NULL);
	const struct testing_record *r;

	(void)state;
	feed(t, "a");
	feed(t, "bad");
	testing_feed(t, "order-events", NULL, "k", NULL);
	assert_int_equal(testing_number(t, sql_notes), 2);
	assert_string_equal(testing_text(t,
				"SELECT text FROM notes ORDER BY n DESC"),
	    "tombstone");
	assert_int_equal(testing_emitted(t, "noted"), 1);
	assert_string_equal(testing_record(t, "noted", 0)->value, "a");
	assert_null(testing_record(t, "noted", 1));
	r = testing_record(t, "noter.dead-letter", 0);
	assert_string_equal(r->reason, "it is bad");
	assert_string_equal(r->value, "bad");
	testing_close(t);
}

static void
test_what_a_relay_repeats_is_dropped(void **state)
{
	struct testing *t = open_sound(NULL);

	(void)state;
	feed(t, "a");
	feed(t, "b");
	testing_repeat(t, "order-events", 2);
	assert_int_equal(testing_number(t, sql_notes), 2);
	/* In a transaction, and a process, that knows of it from the file. */
	testing_repeat(t, "order-events", 1);
	assert_int_equal(testing_number(t, sql_notes), 2);
	testing_restart(t);
	testing_repeat(t, "order-events", 2);
	feed(t, "c");
	assert_int_equal(testing_number(t, sql_notes), 3);
	testing_close(t);
}

static void
test_time_passes_only_when_told(void **state)
{
	static const char sql[] = "SELECT count(*) FROM ticked";
	struct testing *t = open_sound(NULL);

	(void)state;
	assert_int_equal(testing_number(t, sql), 1);
	assert_true(
	    testing_number(t, "SELECT at_ms FROM ticked") == TESTING_START_MS);
	testing_advance(t, 59999);
	assert_int_equal(testing_number(t, sql), 1);
	testing_advance(t, 120001);
	assert_int_equal(testing_number(t, sql), 4);
	testing_close(t);
}

static struct stream_service often_stream;
static struct service often;

/* The same with more ticks than are gone through one by one. */
static void
make_often(void)
{

	often_stream = noter_stream;
	often_stream.tick_ms = 1000;
	often = noter;
	often.stream = &often_stream;
}

static void
test_time_passes_to_the_millisecond(void **state)
{
	struct testing *t;

	(void)state;
	flaw = SOUND;
	make_often();
	t = testing_open(&often, NULL);
	testing_advance(t, 3601400);
	assert_int_equal(clock_wall_ms() - TESTING_START_MS, 3601400);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM ticked"),
	    1001);
	testing_close(t);
}

/* What a check does after a crash on the way. */
static void
test_the_rest_of_a_time_has_the_same_ticks(void **state)
{
	static const char sql[] = "SELECT count(*) FROM ticked"
				  " WHERE (at_ms - ?1) % 3602 <> 0";
	char folder[96], path[160];
	struct machine machine;
	struct life_conf conf = {.svc = &often,
	    .folder = folder,
	    .machine = &machine};
	struct mr_error err;
	struct store *st;
	struct life *l;
	int64_t other = -1;

	(void)state;
	flaw = SOUND;
	make_often();
	folder_make(folder, sizeof(folder));
	snprintf(path, sizeof(path), "%s/state.db", folder);
	machine_start(&machine);
	machine_use(&machine);
	cluster_make(&often);
	l = life_start(&conf);
	life_advance(l, 3602000, TESTING_START_MS + INT64_C(3602) * 500);
	life_advance(l, 3602000, TESTING_START_MS + 3602000);
	life_stop(l);
	st = store_open_reader(path, 0, &err);
	assert_non_null(st);
	assert_int_equal(store_find(st, &err, &other, sql,
			     store_i64(TESTING_START_MS)),
	    1);
	assert_int_equal(other, 0);
	store_close(st);
	fake_end();
	machine_use(NULL);
	folder_remove(folder);
}

static void
test_a_record_that_waits_is_tried_again(void **state)
{
	struct testing *t = open_sound(NULL);

	(void)state;
	feed(t, "later");
	feed(t, "after it");
	assert_int_equal(testing_number(t, sql_notes), 0);
	testing_advance(t, 100);
	assert_int_equal(testing_number(t, sql_notes), 2);
	testing_close(t);
}

static void
test_requests_and_commands_are_answered(void **state)
{
	struct testing *t = open_sound(NULL);
	const struct testing_answer *a;

	(void)state;
	a = testing_request(t, "POST", "/notes", NULL);
	assert_int_equal(a->status, 201);
	assert_memory_equal(a->location, "/notes/0", 8);
	a = testing_command(t, 1, "hello", 6);
	assert_int_equal(a->status, 201);
	assert_int_equal(testing_command(t, 1, NULL, 0)->status, 201);
	assert_int_equal(testing_number(t,
			     "SELECT count(*) FROM notes WHERE text = 'none'"),
	    2);
	a = testing_command(t, 2, NULL, 0);
	assert_int_equal(a->status, 422);
	assert_string_equal(a->body, "no such note");
	a = testing_request(t, "GET", "/notes", NULL);
	assert_int_equal(a->status, 200);
	assert_string_equal(a->body,
	    "{\"notes\":[{\"n\":0,\"text\":\"none\",\"x\":null},"
	    "{\"n\":1,\"text\":\"hello\",\"x\":null},"
	    "{\"n\":2,\"text\":\"none\",\"x\":null}],\"poll_ms\":1000}\n");
	assert_true(a->etag[0] != '\0');
	assert_int_equal(testing_request(t, "GET", "/blobs", NULL)->status,
	    500);
	assert_int_equal(testing_request(t, "GET", "/none", NULL)->status, 404);
	assert_non_null(
	    strstr(testing_request(t, "GET", "/metrics", NULL)->body,
		"\nnotes_taken 3\n"));
	testing_close(t);
}

/* What is left in ${folder} by who was ended, and the folder. */
static void
remove_left(const char *folder)
{
	struct dirent *entry;
	char path[400];
	DIR *dir;

	assert_non_null(dir = opendir(folder));
	while ((entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (entry->d_name[0] != '.')
			folder_remove(path);
	}
	closedir(dir);
	folder_remove(folder);
}

/* In a process that is ended by a signal, SIGALRM if by nothing else. */
static int
ends_by(void (*stuck)(struct testing *t))
{
	char folder[96], said[400];
	int status, errors[2];
	struct testing *t;
	ssize_t size;
	pid_t pid;

	folder_make(folder, sizeof(folder));
	assert_int_equal(pipe(errors), 0);
	fflush(NULL);
	assert_true((pid = fork()) != -1);
	if (pid == 0) {
		(void)dup2(errors[1], STDERR_FILENO);
		(void)setenv("TMPDIR", folder, 1);
		(void)alarm(20);
		t = open_sound(NULL);
		life_patience_us = 3000000;
		stuck(t);
		_exit(0);
	}
	close(errors[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	size = read(errors[0], said, sizeof(said) - 1);
	close(errors[0]);
	remove_left(folder);
	assert_true(size >= 0);
	said[size] = '\0';
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
		assert_non_null(strstr(said, "has not answered for 3 s"));
	return (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void
by_command(struct testing *t)
{

	testing_command(t, 3, NULL, 0);
}

static void
by_request(struct testing *t)
{

	testing_request(t, "POST", "/stuck", NULL);
}

static void
test_what_never_returns_ends_the_test(void **state)
{

	(void)state;
	assert_int_equal(ends_by(by_command), SIGABRT);
	assert_int_equal(ends_by(by_request), SIGABRT);
}

static void
test_a_restart_keeps_all(void **state)
{
	struct testing *t = open_sound(
	    (const char *const[]){"--batch-records=1", NULL});

	(void)state;
	feed(t, "a");
	testing_restart(t);
	feed(t, "b");
	assert_int_equal(testing_number(t, sql_notes), 2);
	assert_int_equal(testing_emitted(t, "noted"), 2);
	testing_close(t);
}

static void
feed_all(struct testing *t)
{

	feed(t, "a");
	feed(t, "b");
	feed(t, "c");
	assert_int_equal(testing_number(t, sql_notes), 3);
	testing_feed(t, "order-events", NULL, "k", NULL);
	feed(t, "bad");
	testing_request(t, "POST", "/notes", NULL);
	testing_command(t, 1, "hello", 6);
	testing_restart(t);
	testing_repeat(t, "order-events", 1);
	testing_advance(t, 150000);
	testing_request(t, "GET", "/notes", NULL);
}

static void
test_a_sound_service_survives_every_crash(void **state)
{
	struct testing *t = open_sound(NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed_all(t);
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 50);
	/* It goes on where it was. */
	feed(t, "d");
	assert_int_equal(testing_number(t, sql_notes), 7);
	testing_close(t);
}

static void
test_a_run_that_passes_fewer_places_is_not_the_last(void **state)
{
	struct testing *t = open_sound(NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	lives = mmap(NULL, sizeof(*lives), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(lives != MAP_FAILED);
	flaw = PASSES_FEWER;
	feed(t, "a");
	if (testing_crashes(t, &crashes, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 150);
	testing_close(t);
	(void)munmap(lives, sizeof(*lives));
}

static void
test_more_places_than_can_be_tried_are_refused(void **state)
{
	struct testing *t = open_sound(NULL);
	struct mr_error err = {0};
	int i;

	(void)state;
	for (i = 0; i < 700; i++)
		feed(t, "a");
	assert_int_equal(testing_crashes(t, NULL, &err), -1);
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "more than 5000"));
	testing_close(t);
}

static void
test_state_outside_of_the_file_is_seen(void **state)
{
	struct testing *t = open_sound(NULL);
	struct mr_error err = {0};

	(void)state;
	flaw = COUNTS_IN_MEMORY;
	feed_all(t);
	in_memory = 0;
	assert_int_equal(testing_crashes(t, NULL, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "a crash at "));
	assert_non_null(strstr(err.message, "notes n="));
	testing_close(t);
}

static void
test_answers_from_memory_are_seen(void **state)
{
	struct testing *t = open_sound(NULL);
	struct mr_error err = {0};

	(void)state;
	flaw = ANSWERS_FROM_MEMORY;
	testing_request(t, "GET", "/metrics-history", NULL);
	feed(t, "a");
	testing_request(t, "GET", "/metrics-history", NULL);
	in_memory = 0;
	assert_int_equal(testing_crashes(t, NULL, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "answer to step"));
	testing_close(t);
}

static void
test_what_differs_on_another_machine_is_seen(void **state)
{
	struct testing *t;
	struct mr_error err;
	int f;

	(void)state;
	for (f = ASKS_THE_CLOCK; f <= DECODES_BY_THE_CLOCK; f++) {
		t = open_sound(NULL);
		flaw = (enum flaw)f;
		err.message[0] = '\0';
		feed_all(t);
		if (testing_deterministic(t, &err) != -1)
			fail_msg("flaw %d was not seen", f);
		assert_int_equal(err.kind, MR_REJECT);
		assert_non_null(strstr(err.message, "another outcome"));
		testing_close(t);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test(name)
	    TEST(test_records_go_in_and_rows_and_records_come_out),
	    TEST(test_what_a_relay_repeats_is_dropped),
	    TEST(test_time_passes_only_when_told),
	    TEST(test_time_passes_to_the_millisecond),
	    TEST(test_the_rest_of_a_time_has_the_same_ticks),
	    TEST(test_a_record_that_waits_is_tried_again),
	    TEST(test_requests_and_commands_are_answered),
	    TEST(test_what_never_returns_ends_the_test),
	    TEST(test_a_restart_keeps_all),
	    TEST(test_a_sound_service_survives_every_crash),
	    TEST(test_a_run_that_passes_fewer_places_is_not_the_last),
	    TEST(test_more_places_than_can_be_tried_are_refused),
	    TEST(test_state_outside_of_the_file_is_seen),
	    TEST(test_answers_from_memory_are_seen),
	    TEST(test_what_differs_on_another_machine_is_seen),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
