/*
 * calls, driven: sums are those of the topic whatever dies when, and a line
 * in the log is written once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "one_type.h"
#include "testing/testing.h"

int calls_main(int argc, char **argv);
#define main calls_main
#include "../../cmd/calls/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/calls/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/calls/calls.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/calls/long_log.c" /* NOLINT(bugprone-suspicious-include) */

static void
feed(struct testing *t, int number, const char *duration)
{
	char value[256];

	snprintf(value, sizeof(value),
	    "{\"call_id\":\"1-%d\",\"caller\":\"+49301\",\"callee\":\"+49302\","
	    "\"started_ms\":%lld,\"duration_s\":%s}",
	    number, (long long)(TESTING_START_MS + 20000 * (int64_t)number),
	    duration);
	testing_feed(t, "calls", "call.ended", "+49301", value);
}

static void
feed_a_life(struct testing *t)
{

	feed(t, 0, "0");
	feed(t, 1, "5.000");
	feed(t, 2, "5.001");
	feed(t, 3, "60");
	feed(t, 4, "60.001");
	testing_repeat(t, "calls", 2);
	testing_feed(t, "calls", "call.ended", "x", "{\"duration_s\":1}");
	feed(t, 5, "604800");
}

static void
test_sums_are_those_of_the_records(void **state)
{
	struct testing *t = testing_open(&calls, NULL);
	const char *body;

	(void)state;
	feed_a_life(t);
	assert_int_equal(testing_emitted(t, "calls.dead-letter"), 1);
	assert_int_equal(testing_number(t,
			     "SELECT sum(calls) FROM call_totals"),
	    6);
	assert_int_equal(testing_number(t,
			     "SELECT sum(duration_ms) FROM call_totals"),
	    604930002);
	/* 20 s apart, from the beginning of a minute. */
	assert_string_equal(
	    testing_text(t,
		"SELECT group_concat(calls || ':' || duration_ms)"
		" FROM call_minutes ORDER BY start_ms"),
	    "3:10001,3:604920001");
	assert_string_equal(testing_text(t,
				"SELECT group_concat(bucket || ':' || calls)"
				" FROM call_durations ORDER BY bucket"),
	    "0:2,1:1,11:1,12:1,120:1");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM long_calls"),
	    2);
	body = testing_request(t, "GET", "/calls?limit=1", NULL)->body;
	assert_non_null(
	    strstr(body, "{\"calls\":6,\"duration_s\":604930.002,"));
	assert_non_null(strstr(body, "\"long_calls\":[{\"seq\":2,"));
	assert_null(strstr(body, "{\"seq\":1,"));
	body = testing_request(t, "GET", "/metrics", NULL)->body;
	assert_non_null(strstr(body, "\nmillrace_calls_total 6\n"));
	assert_non_null(strstr(body,
	    "\nmillrace_call_duration_seconds_total 604930.002\n"));
	assert_non_null(strstr(body,
	    "\nmillrace_call_length_seconds_bucket{le=\"5\"} 2\n"));
	assert_non_null(strstr(body,
	    "\nmillrace_call_length_seconds_bucket{le=\"60\"} 4\n"));
	assert_non_null(strstr(body,
	    "\nmillrace_call_length_seconds_bucket{le=\"600\"} 5\n"));
	assert_non_null(
	    strstr(body, "\nmillrace_call_length_seconds_count 6\n"));
	testing_close(t);
}

static void
test_a_crash_anywhere_changes_nothing(void **state)
{
	struct testing *t = testing_open(&calls, NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed_a_life(t);
	testing_advance(t, 500);
	if (testing_crashes(t, &crashes, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

static void
test_another_machine_counts_the_same(void **state)
{
	struct testing *t = testing_open(&calls, NULL);
	struct mr_error err = {0};

	(void)state;
	feed_a_life(t);
	if (testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

static void
test_old_minutes_and_long_calls_go_and_sums_stay(void **state)
{
	static const char *const flags[] = {"--keep-minutes=1h",
	    "--keep-long-calls=1h", NULL};
	struct testing *t = testing_open(&calls, flags);

	(void)state;
	feed_a_life(t);
	testing_advance(t, 3600000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM long_calls"),
	    2);
	testing_advance(t, 101000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM long_calls"),
	    0);
	testing_advance(t, 60000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM call_minutes"),
	    0);
	assert_int_equal(testing_number(t,
			     "SELECT sum(calls) FROM call_totals"),
	    6);
	testing_close(t);
}

static void
test_calls_far_ahead_are_refused(void **state)
{
	struct testing *t = testing_open(&calls, NULL);

	(void)state;
	feed(t, 0, "1");
	feed(t, 4320, "1"); /* a day, by 20 s */
	feed(t, 4321, "1");
	assert_int_equal(testing_number(t,
			     "SELECT sum(calls) FROM call_totals"),
	    2);
	assert_int_equal(testing_emitted(t, "calls.dead-letter"), 1);
	assert_string_equal(testing_record(t, "calls.dead-letter", 0)->reason,
	    "started_ms: is more than 86400 s (--ahead) ahead of the record's "
	    "own time");
	testing_close(t);
}

/* How many minutes GET /calls answers with; the first begins at *first_ms. */
static int
minutes_shown(struct testing *t, int64_t *first_ms)
{
	static const char start[] = "{\"start_ms\":";
	const char *at = testing_request(t, "GET", "/calls", NULL)->body;
	int count = 0;

	while ((at = strstr(at, start)) != NULL) {
		at += sizeof(start) - 1;
		if (count++ == 0)
			*first_ms = strtoll(at, NULL, 10);
	}
	return (count);
}

static void
test_minutes_to_come_do_not_hold_the_window(void **state)
{
	struct testing *t = testing_open(&calls, NULL);
	int64_t first_ms = 0;

	(void)state;
	feed(t, 4320, "1");
	/* Our clock may be the wrong one: it is better than none. */
	assert_int_equal(minutes_shown(t, &first_ms), 1);
	assert_true(first_ms == TESTING_START_MS + 86400000);
	feed(t, 0, "1");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM call_minutes"),
	    2);
	assert_int_equal(minutes_shown(t, &first_ms), 1);
	assert_true(first_ms == TESTING_START_MS);
	testing_close(t);
}

/* ---- the log, by itself --------------------------------------------------- */

#define LINE(source, seq) \
	"{\"source\":\"" source "\",\"seq\":" seq ",\"call_id\":\"c\"}\n"

static char folder[] = "/tmp/test_calls.XXXXXX";
static char log_file[64], rotated[64];

static int
make_folder(void **state)
{

	(void)state;
	if (mkdtemp(folder) == NULL)
		return (-1);
	snprintf(log_file, sizeof(log_file), "%s/long", folder);
	snprintf(rotated, sizeof(rotated), "%s/long.1", folder);
	return (0);
}

static int
remove_folder(void **state)
{

	(void)state;
	unlink(log_file);
	unlink(rotated);
	return (rmdir(folder));
}

static void
put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void
assert_file(const char *path, const char *text)
{
	char have[1024];
	FILE *f = fopen(path, "re");
	size_t n;

	assert_non_null(f);
	n = fread(have, 1, sizeof(have) - 1, f);
	assert_int_equal(fclose(f), 0);
	have[n] = '\0';
	assert_string_equal(have, text);
}

/* What the log says that it has; ${line} is appended then, if there is one. */
static int64_t
reopen(int64_t remembered, const char *line)
{
	struct long_log log;
	struct mr_error err = {0};
	int64_t last = -1;

	if (long_log_open(&log, log_file, "me", remembered, &last, &err) != 0)
		fail_msg("%s", err.message);
	if (line != NULL &&
	    long_log_append(&log, line, strlen(line), &err) != 0)
		fail_msg("%s", err.message);
	long_log_close(&log);
	return (last);
}

static void
test_the_file_tells_what_the_commit_did_not(void **state)
{

	(void)state;
	unlink(log_file);
	unlink(rotated);
	assert_int_equal(reopen(0, LINE("me", "1") LINE("me", "2")), 0);
	assert_int_equal(reopen(0, NULL), 2);
	assert_int_equal(reopen(1, NULL), 2);
	assert_int_equal(reopen(2, LINE("me", "3")), 2);
	assert_file(log_file, LINE("me", "1") LINE("me", "2") LINE("me", "3"));
}

static void
test_a_broken_line_is_cut_off(void **state)
{

	(void)state;
	put(log_file, LINE("me", "1") "{\"source\":\"me\",\"seq\":2,\"ca");
	assert_int_equal(reopen(0, LINE("me", "2")), 1);
	assert_file(log_file, LINE("me", "1") LINE("me", "2"));
}

static void
test_lines_of_others_do_not_count(void **state)
{

	(void)state;
	put(log_file, LINE("me", "4") LINE("you", "9") "seq 12\n\n");
	assert_int_equal(reopen(3, LINE("me", "5")), 4);
	assert_file(log_file,
	    LINE("me", "4") LINE("you", "9") "seq 12\n\n" LINE("me", "5"));
}

static void
test_a_renamed_file_is_asked_too(void **state)
{

	(void)state;
	put(log_file, LINE("me", "1") LINE("me", "2"));
	assert_int_equal(rename(log_file, rotated), 0);
	assert_int_equal(reopen(1, LINE("me", "3")), 2);
	assert_file(log_file, LINE("me", "3"));
	assert_int_equal(unlink(rotated), 0);
	/* Compressed: only what was remembered is known. */
	assert_int_equal(unlink(log_file), 0);
	assert_int_equal(reopen(3, NULL), 3);
}

static void
test_a_truncated_file_goes_on(void **state)
{

	(void)state;
	put(log_file, "");
	put(rotated, LINE("me", "7"));
	assert_int_equal(reopen(7, LINE("me", "8")), 7);
	assert_file(log_file, LINE("me", "8"));
	assert_int_equal(unlink(rotated), 0);
}

static void
test_what_cannot_be_written_is_tried_again(void **state)
{
	struct long_log log = {.path = log_file};
	struct mr_error err = {0};
	int64_t last;

	(void)state;
	assert_int_equal(long_log_open(&log, "/nowhere/long", "me", 0, &last,
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	put(log_file, "");
	log.fd = open(log_file, O_RDONLY | O_CLOEXEC);
	assert_true(log.fd >= 0);
	assert_int_equal(long_log_append(&log, "x\n", 2, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	long_log_close(&log);
}

/* All of it together: rows, the tick, the file. */
static void
test_long_calls_are_lines_once(void **state)
{
	char flag[96];
	const char *flags[] = {flag, NULL};
	struct testing *t;
	struct stat st;

	(void)state;
	unlink(log_file);
	snprintf(flag, sizeof(flag), "--long-calls-log=%s", log_file);
	t = testing_open(&calls, flags);
	feed_a_life(t);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM long_calls"),
	    2);
	testing_advance(t, 500);
	assert_int_equal(testing_number(t, "SELECT logged FROM long_call_log"),
	    2);
	assert_int_equal(stat(log_file, &st), 0);
	testing_restart(t);
	testing_advance(t, 500);
	feed(t, 6, "3");
	testing_advance(t, 500);
	assert_int_equal(testing_number(t,
			     "SELECT sum(calls) FROM call_totals"),
	    7);
	{
		const off_t length = st.st_size;

		assert_true(length > 200);
		assert_int_equal(stat(log_file, &st), 0);
		assert_int_equal(st.st_size, length);
	}
	testing_close(t);
}

static void
test_other_types_are_refused(void **state)
{

	(void)state;
	expect_one_type(testing_open(&calls, NULL), "calls", "call.ended",
	    "{\"call_id\":\"1\",\"caller\":\"a\",\"callee\":\"b\",\"started_ms\":1800000000000,\"duration_s\":1}",
	    "SELECT sum(calls) FROM call_totals", "calls.dead-letter");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sums_are_those_of_the_records),
	    cmocka_unit_test(test_a_crash_anywhere_changes_nothing),
	    cmocka_unit_test(test_another_machine_counts_the_same),
	    cmocka_unit_test(test_old_minutes_and_long_calls_go_and_sums_stay),
	    cmocka_unit_test(test_calls_far_ahead_are_refused),
	    cmocka_unit_test(test_minutes_to_come_do_not_hold_the_window),
	    cmocka_unit_test(test_the_file_tells_what_the_commit_did_not),
	    cmocka_unit_test(test_a_broken_line_is_cut_off),
	    cmocka_unit_test(test_lines_of_others_do_not_count),
	    cmocka_unit_test(test_a_renamed_file_is_asked_too),
	    cmocka_unit_test(test_a_truncated_file_goes_on),
	    cmocka_unit_test(test_what_cannot_be_written_is_tried_again),
	    cmocka_unit_test(test_long_calls_are_lines_once),
	    cmocka_unit_test(test_other_types_are_refused),
	};

	return (cmocka_run_group_tests(tests, make_folder, remove_folder));
}
