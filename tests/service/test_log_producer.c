/*
 * log-producer, driven: simulated lines and those of a file go out once,
 * whatever dies when; files that grow, are rotated or cut are followed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "testing/testing.h"

static int64_t passed_us;

/* Time, and what tests of single steps let pass. */
static int64_t
passing_us(void)
{

	return (clock_mono_us() + passed_us);
}

#define clock_mono_us passing_us
#include "../../cmd/log-producer/follow.c" /* NOLINT(bugprone-suspicious-include) */
#undef clock_mono_us
#include "../../cmd/log-producer/lines.c" /* NOLINT(bugprone-suspicious-include) */
#define sql_load sql_load_traffic
#define sql_save sql_save_traffic
#include "../../cmd/log-producer/traffic.c" /* NOLINT(bugprone-suspicious-include) */
#undef sql_load
#undef sql_save

int log_producer_main(int argc, char **argv);
#define main log_producer_main
#include "../../cmd/log-producer/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main

static const char topic[] = "application-logs";
static char folder[64], path[96], rotated[96];

static int
setup(void **state)
{

	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/millrace-test-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/app.log", folder);
	snprintf(rotated, sizeof(rotated), "%s/app.log.1", folder);
	return (0);
}

static int
teardown(void **state)
{

	(void)state;
	(void)unlink(path);
	(void)unlink(rotated);
	return (rmdir(folder));
}

static void
append(const char *name, const char *text)
{
	FILE *f = fopen(name, "ae");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void
simulated_lines_come_once_wherever_it_dies(void **state)
{
	static const char *const flags[] = {"--rate=50", NULL};
	struct testing *t = testing_open(&log_producer, flags);
	static struct log_event event;
	const struct testing_record *record;
	struct mr_error err = {0};
	int i;

	(void)state;
	testing_advance(t, 200);
	testing_restart(t);
	testing_advance(t, 200);
	assert_true(testing_emitted(t, topic) >= 15);
	assert_int_equal(testing_number(t, "SELECT lines FROM traffic"),
	    testing_emitted(t, topic));
	for (i = 0; i < testing_emitted(t, topic); i++) {
		record = testing_record(t, topic, i);
		if (log_event_decode(record->value, strlen(record->value),
			&event, &err) != 0)
			fail_msg("%s: %s", record->value, err.message);
		assert_string_equal(event.service, record->key);
		assert_string_not_equal(event.request_id, "");
	}
	if (testing_crashes(t, NULL, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

static void
a_files_lines_go_out_once_wherever_it_dies(void **state)
{
	char flag[128];
	const char *const flags[] = {flag, "--follow", "--service=shop",
	    "--host=h1", NULL};
	struct mr_error err = {0};
	struct testing *t;

	(void)state;
	snprintf(flag, sizeof(flag), "--from-file=%s", path);
	append(path,
	    "started\nERROR no such card\n\tat pay()\n"
	    "{\"service\":\"web\",\"level\":\"warn\",\"message\":\"slow\","
	    "\"ts_ms\":5}\nhalf a li");
	t = testing_open(&log_producer, flags);
	testing_advance(t, 100);
	assert_int_equal(testing_emitted(t, topic), 3);
	assert_non_null(strstr(testing_record(t, topic, 1)->value,
	    "\"service\":\"shop\",\"level\":\"error\",\"message\":\"ERROR no "
	    "such card\",\"host\":\"h1\",\"stack\":\"\\tat pay()\""));
	assert_string_equal(testing_record(t, topic, 2)->value,
	    "{\"service\":\"web\",\"level\":\"warn\",\"message\":\"slow\","
	    "\"ts_ms\":5}");
	if (testing_crashes(t, NULL, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_restart(t);
	append(path, "ne\n");
	testing_advance(t, 100);
	assert_int_equal(testing_emitted(t, topic), 4);
	assert_non_null(strstr(testing_record(t, topic, 3)->value,
	    "\"message\":\"half a line\""));
	testing_close(t);
}

/* ---- following ------------------------------------------------------------------ */

static struct lines made;
static struct follow follow;

static void
begin(int onward_too)
{

	follow_init(&follow, path);
	follow.onward = onward_too;
	follow.service = "s";
	follow.host = "h";
}

/* The messages that a step makes, with a | after each. */
static const char *
step(int count)
{
	static char messages[512];
	static struct log_event event;
	struct mr_error err;
	const char *line;
	size_t size, length = 0;
	int i;

	messages[0] = '\0';
	lines_clear(&made);
	follow_step(&follow, TESTING_START_MS, count, &made);
	for (i = 0; i < made.count; i++) {
		line = lines_get(&made, i, &size);
		if (log_event_decode(line, size, &event, &err) != 0)
			fail_msg("%.*s: %s", (int)size, line, err.message);
		length += (size_t)snprintf(messages + length,
		    sizeof(messages) - length, "%.100s|", event.message);
		assert_true(length < sizeof(messages));
	}
	return (messages);
}

static void
pass(int64_t seconds)
{

	passed_us += 1000000 * seconds;
}

static void
a_file_that_grows_is_read_in_lines(void **state)
{

	(void)state;
	begin(1);
	assert_string_equal(step(10), ""); /* there is none yet */
	append(path, "a\nb\n\n\r\nc");
	assert_string_equal(step(1), "a|");
	assert_string_equal(step(10), "b|");
	assert_string_equal(step(10), "");
	append(path, "d\r\ne\n");
	assert_string_equal(step(10), "cd|e|");
	assert_string_equal(step(10), "");
	assert_false(follow.ended);
	assert_true(follow.lines == 4);
	follow_close(&follow);
}

/* However few records a step may make. */
static void
a_stack_trace_stays_whole(void **state)
{
	static const char stack[] =
	    "\"stack\":\"\\tat a()\\n\\tat b()\\nCaused by: y\"";
	static const struct {
		const char *first, *second;
		int trace; /* which of the first ones has it */
	} cases[] = {
	    {"ERROR x|", "ok|", 0},
	    {"ERROR x|ok|", "ERROR z|ok|", 0},
	    {"ERROR x|ok|ERROR z|", "ok|", 2},
	};
	const char *line;
	size_t i, size;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(1);
		append(path,
		    "ERROR x\n\tat a()\n\tat b()\nCaused by: y\nok\n"
		    "ERROR z\n\tat a()\n\tat b()\nCaused by: y\nok\n");
		assert_string_equal(step((int)i + 1), cases[i].first);
		line = lines_get(&made, cases[i].trace, &size);
		assert_non_null(memmem(line, size, stack, strlen(stack)));
		assert_string_equal(step((int)i + 1), cases[i].second);
		follow_close(&follow);
		assert_int_equal(unlink(path), 0);
	}
}

static void
a_rotated_file_is_read_to_its_end_first(void **state)
{

	(void)state;
	begin(1);
	append(path, "a\nb\n");
	assert_string_equal(step(1), "a|");
	assert_int_equal(rename(path, rotated), 0);
	append(rotated, "c\nd");
	append(path, "e\n");
	assert_string_equal(step(10), "b|c|");
	assert_string_equal(step(10), "");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "d|"); /* there won't be more of it */
	assert_string_equal(step(10), "");
	assert_string_equal(step(10), "e|");
	follow_close(&follow);
}

static void
who_writes_on_into_a_rotated_file_is_heard(void **state)
{
	char line[16], wanted[16];
	int i;

	(void)state;
	begin(1);
	append(path, "a\n");
	assert_string_equal(step(10), "a|");
	/* Quiet since long before is no quiet since. */
	pass(3600);
	assert_int_equal(rename(path, rotated), 0);
	assert_string_equal(step(10), ""); /* there is no new one yet */
	append(path, "new\n");
	assert_string_equal(step(10), "");
	append(rotated, "b\nc");
	assert_string_equal(step(10), "b|");
	for (i = 0; i < 3; i++) {
		pass(FOLLOW_QUIET_S - 1);
		assert_string_equal(step(10), "");
		snprintf(line, sizeof(line), "%d\nc", i);
		append(rotated, line);
		snprintf(wanted, sizeof(wanted), "c%d|", i);
		assert_string_equal(step(10), wanted);
	}
	/* It is what was found that counts, not when it was looked for. */
	append(rotated, "d\n");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "cd|");
	assert_string_equal(step(10), "");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "");
	assert_string_equal(step(10), "new|");
	assert_true(follow.lines == 7);
	follow_close(&follow);
}

static void
what_is_rotated_twice_in_a_while_is_read_all_the_same(void **state)
{

	(void)state;
	begin(1);
	append(path, "a\n");
	assert_string_equal(step(10), "a|");
	assert_int_equal(rename(path, rotated), 0);
	append(path, "b\n");
	assert_string_equal(step(10), "");
	assert_int_equal(rename(path, rotated), 0);
	append(path, "c\n");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "");
	assert_string_equal(step(10), "b|");
	append(rotated, "b2\n");
	assert_string_equal(step(10), "b2|");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "");
	assert_string_equal(step(10), "c|");
	follow_close(&follow);
}

static void
a_new_file_that_cant_be_read_is_waited_for(void **state)
{

	(void)state;
	begin(1);
	append(path, "a\n");
	assert_string_equal(step(10), "a|");
	assert_int_equal(rename(path, rotated), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_string_equal(step(10), "");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "");
	append(rotated, "b\n");
	assert_string_equal(step(10), "b|");
	assert_int_equal(rmdir(path), 0);
	append(path, "c\n");
	assert_string_equal(step(10), "");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "");
	assert_string_equal(step(10), "c|");
	follow_close(&follow);
}

static void
a_file_that_was_rotated_while_away_goes_on_at_its_place(void **state)
{

	(void)state;
	begin(1);
	append(path, "a\nb\n");
	assert_string_equal(step(1), "a|");
	follow_close(&follow);
	assert_int_equal(rename(path, rotated), 0);
	append(path, "c\n");
	assert_string_equal(step(10), "b|");
	/* Who wrote may have gone on, also after another stop. */
	follow_close(&follow);
	pass(FOLLOW_QUIET_S);
	append(rotated, "b2\n");
	assert_string_equal(step(10), "b2|");
	pass(FOLLOW_QUIET_S);
	assert_string_equal(step(10), "");
	assert_string_equal(step(10), "c|");
	/* And if the old one is gone, the new one is read from its start. */
	follow_close(&follow);
	assert_int_equal(unlink(rotated), 0);
	assert_int_equal(rename(path, rotated), 0);
	assert_int_equal(unlink(rotated), 0);
	append(path, "d\n");
	append(rotated, "x\n");
	assert_string_equal(step(10), "d|");
	follow_close(&follow);
}

static void
a_file_that_was_cut_is_read_anew(void **state)
{

	(void)state;
	begin(1);
	append(path, "first\nsecond\n");
	assert_string_equal(step(10), "first|second|");
	assert_int_equal(truncate(path, 0), 0);
	append(path, "third\n");
	assert_string_equal(step(10), "third|");
	/* Also when it has grown again by the next look. */
	assert_int_equal(truncate(path, 0), 0);
	append(path, "fourth\nfifth\n");
	assert_string_equal(step(10), "fourth|fifth|");
	follow_close(&follow);
}

static void
without_follow_it_ends_with_the_file(void **state)
{

	(void)state;
	begin(0);
	append(path, "a\nb");
	assert_string_equal(step(10), "a|b|");
	assert_false(follow.ended); /* what was made may be undone */
	assert_string_equal(step(10), "");
	assert_true(follow.ended);
	follow_close(&follow);
}

/* Standard input is a pipe; what it was before is back after. */
static int
pipe_in(int *before)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_true((*before = dup(STDIN_FILENO)) >= 0);
	assert_true(dup2(ends[0], STDIN_FILENO) == STDIN_FILENO);
	close(ends[0]);
	return (ends[1]);
}

static void
pipe_back(int before)
{

	assert_true(dup2(before, STDIN_FILENO) == STDIN_FILENO);
	close(before);
}

static void
put(int fd, const char *text)
{

	assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void
what_is_piped_in_is_read_to_its_end(void **state)
{
	int before, fd = pipe_in(&before);

	(void)state;
	follow_init(&follow, NULL);
	follow.service = "s";
	follow.host = "h";
	assert_string_equal(step(10), ""); /* it doesn't wait */
	put(fd, "a\nb\nhalf a");
	assert_string_equal(step(1), "a|");
	/* Undone: its state is loaded anew, and the same comes again. */
	follow.lines = 0;
	follow.fresh = 1;
	assert_string_equal(step(1), "a|");
	assert_string_equal(step(10), "b|");
	put(fd, " line\nlast");
	assert_string_equal(step(10), "half a line|");
	assert_false(follow.ended);
	close(fd);
	assert_string_equal(step(10), "last|");
	assert_string_equal(step(10), "");
	assert_true(follow.ended);
	assert_int_equal(follow.lines, 4);
	follow_close(&follow);
	pipe_back(before);
}

static void
what_is_piped_in_goes_out(void **state)
{
	static const char *const flags[] = {"--from-stdin", "--service=shop",
	    "--host=h1", NULL};
	int before, fd = pipe_in(&before);
	struct testing *t;

	(void)state;
	from_file = NULL; /* a test before gave one */
	put(fd, "started\nERROR no such card\n\tat pay()\nhal");
	t = testing_open(&log_producer, flags);
	testing_advance(t, 500);
	put(fd, "f a line\n");
	testing_advance(t, 500);
	assert_int_equal(testing_emitted(t, topic), 3);
	assert_string_equal(testing_record(t, topic, 0)->key, "shop");
	assert_non_null(strstr(testing_record(t, topic, 1)->value,
	    "\"level\":\"error\",\"message\":\"ERROR no such card\",\"host\":"
	    "\"h1\",\"stack\":\"\\tat pay()\""));
	assert_non_null(strstr(testing_record(t, topic, 2)->value,
	    "\"message\":\"half a line\""));
	assert_int_equal(testing_number(t, "SELECT lines FROM shipped"), 3);
	testing_close(t);
	close(fd);
	pipe_back(before);
}

static void
any_bytes_become_a_message(void **state)
{
	static char longest[70001];
	static const struct {
		const char *line, *message;
		enum log_event_level level;
	} cases[] = {
	    {"plain", "plain", LOG_EVENT_INFO},
	    {"2026-01-01 [WARN] disk", "2026-01-01 [WARN] disk",
		LOG_EVENT_WARN},
	    {"level=error msg=x", "level=error msg=x", LOG_EVENT_ERROR},
	    {"terror and errors", "terror and errors", LOG_EVENT_INFO},
	    {"kernel panic", "kernel panic", LOG_EVENT_FATAL},
	    {"a\x1b[31m\x80z\xC3\xBC\xC2\x85", "a?[31m?z\xC3\xBC?",
		LOG_EVENT_INFO},
	    {"{\"service\":\"x\"}", "{\"service\":\"x\"}", LOG_EVENT_INFO},
	};
	static struct log_event event;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(lines_parse(cases[i].line,
				     strlen(cases[i].line), &event),
		    1);
		assert_string_equal(event.message, cases[i].message);
		assert_int_equal(event.level, cases[i].level);
	}
	assert_int_equal(lines_parse("\r", 1, &event), 0);
	memset(longest, '"', sizeof(longest) - 1);
	assert_int_equal(lines_parse(longest, strlen(longest), &event), 1);
	assert_int_equal(strlen(event.message), EVENT_MESSAGE_SIZE - 1);
	/* One line, but more than a record may have: several. */
	begin(1);
	append(path, longest);
	append(path, "\nb\n");
	assert_true(strlen(step(10)) > 0);
	assert_int_equal(made.count, 3);
	follow_close(&follow);
}

static void
errors_come_in_bursts_and_requests_are_told_by_their_ids(void **state)
{
	static struct traffic traffic;
	static struct log_event event;
	static struct lines lines;
	struct mr_error err;
	int64_t errors = 0, in_bursts = 0, bursts = 0, was_left = 0;
	const char *line;
	size_t size;
	int i;

	(void)state;
	id_rng_seed(&traffic.rng, 5);
	for (i = 0; i < 50000; i++) {
		lines_clear(&lines);
		traffic_step(&traffic, TESTING_START_MS, 1, &lines);
		line = lines_get(&lines, 0, &size);
		assert_int_equal(log_event_decode(line, size, &event, &err), 0);
		bursts += was_left == 0 && traffic.burst_left > 0;
		was_left = traffic.burst_left;
		if (event.level < LOG_EVENT_ERROR)
			continue;
		assert_string_not_equal(event.stack, "");
		errors++;
		in_bursts += traffic.burst_left > 0;
	}
	assert_true(bursts > 5 && bursts < 60);
	/* A few lines in a hundred are in a burst, most errors are. */
	assert_true(errors > 500 && in_bursts * 2 > errors);
	buffer_free(&lines.text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(simulated_lines_come_once_wherever_it_dies),
	    cmocka_unit_test_setup_teardown(
		a_files_lines_go_out_once_wherever_it_dies, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_file_that_grows_is_read_in_lines,
		setup, teardown),
	    cmocka_unit_test_setup_teardown(a_stack_trace_stays_whole, setup,
		teardown),
	    cmocka_unit_test_setup_teardown(
		a_rotated_file_is_read_to_its_end_first, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		who_writes_on_into_a_rotated_file_is_heard, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		what_is_rotated_twice_in_a_while_is_read_all_the_same, setup,
		teardown),
	    cmocka_unit_test_setup_teardown(
		a_new_file_that_cant_be_read_is_waited_for, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		a_file_that_was_rotated_while_away_goes_on_at_its_place, setup,
		teardown),
	    cmocka_unit_test_setup_teardown(a_file_that_was_cut_is_read_anew,
		setup, teardown),
	    cmocka_unit_test_setup_teardown(
		without_follow_it_ends_with_the_file, setup, teardown),
	    cmocka_unit_test(what_is_piped_in_is_read_to_its_end),
	    cmocka_unit_test(what_is_piped_in_goes_out),
	    cmocka_unit_test_setup_teardown(any_bytes_become_a_message, setup,
		teardown),
	    cmocka_unit_test(
		errors_come_in_bursts_and_requests_are_told_by_their_ids),
	};
	int status = cmocka_run_group_tests(tests, NULL, NULL);

	buffer_free(&made.text);
	return (status);
}
