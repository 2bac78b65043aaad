/*
 * logs, driven: what arrives is found by its words, once, whatever dies when;
 * errors go on; the oldest go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

int logs_main(int argc, char **argv);
#define main logs_main
#include "../../cmd/logs/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/logs/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/logs/logs.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/logs/rules.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/logs/search.c" /* NOLINT(bugprone-suspicious-include) */

static const char input[] = "application-logs";
static const char output[] = "application-errors";

#define START "1800000000000"
#define LINE(service, level, message)                           \
	"{\"service\":\"" service "\",\"level\":\"" level "\"," \
	"\"message\":\"" message "\",\"ts_ms\":" START "}"

static void
feed(struct testing *t, const char *line)
{
	testing_feed(t, input, NULL, NULL, line);
}

static void
feed_some(struct testing *t)
{
	feed(t, LINE("payments", "error", "card refused: do not honour"));
	feed(t, LINE("payments", "info", "card accepted"));
	feed(t, LINE("web-shop", "warn", "slow page \\u00fcber 3 s"));
	testing_feed(t, input, "log.written", "web-shop",
	    "{\"service\":\"web-shop\",\"level\":\"fatal\",\"host\":\"web-3\","
	    "\"request_id\":\"7f3a\",\"message\":\"unhandled\","
	    "\"stack\":\"at refuse()\\n\\tat main()\",\"ts_ms\":1800000005000}");
	testing_repeat(t, input, 1);
	feed(t, LINE("payments", "loud", "hello"));
	feed(t, "no JSON");
}

/* How many lines GET /logs answers with. */
static int
found(struct testing *t, const char *query)
{
	const struct testing_answer *answer;
	const char *at;
	char target[256];
	int count = 0;

	snprintf(target, sizeof(target), "/logs?%s", query);
	answer = testing_request(t, "GET", target, NULL);
	if (answer->status != 200)
		return (-answer->status);
	for (at = answer->body; (at = strstr(at, "\"id\":")) != NULL; at++)
		count++;
	return (count);
}

static void
test_lines_are_kept_once_wherever_it_dies(void **state)
{
	struct testing *t = testing_open(&logs, NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed_some(t);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM entries"), 4);
	assert_int_equal(testing_number(t, "SELECT entries FROM logs_state"),
	    4);
	assert_int_equal(testing_emitted(t, "logs.dead-letter"), 2);
	assert_non_null(strstr(testing_record(t, "logs.dead-letter", 0)->reason,
	    "level: must be debug, info, warn, error or fatal"));
	assert_int_equal(found(t, "q=card"), 2);
	if (testing_crashes(t, &crashes, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

static void
test_another_machine_keeps_the_same(void **state)
{
	static const char *const flags[] = {"--keep=1h", NULL};
	struct testing *t = testing_open(&logs, flags);
	struct mr_error err = {0};

	(void)state;
	feed_some(t);
	testing_advance(t, 3601400); /* all but the last go */
	assert_int_equal(testing_number(t, "SELECT count(*) FROM entries"), 1);
	assert_int_equal(found(t, "q=card"), 0);
	assert_int_equal(found(t, "q=unhandled"), 1);
	if (testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

static void
test_what_was_typed_finds_lines(void **state)
{
	static const struct {
		const char *query;
		int lines;
	} cases[] = {
	    {"", 4},
	    {"q=card", 2},
	    {"q=CARD", 2},
	    {"q=card+refused", 1},
	    {"q=refused+card", 1},
	    {"q=%22refused+card%22", 0},
	    {"q=%22card+refused%22", 1},
	    {"q=card+-refused", 1},
	    {"q=acc*", 1},
	    {"q=acc", 0},
	    {"q=refuse", 1}, /* in a stack trace */
	    {"q=%C3%BCber", 1},
	    {"q=uber", 1}, /* unicode61 leaves accents out */
	    {"q=card+OR+unhandled", 0}, /* a word like any other */
	    {"q=card+--+%26%26", 2},
	    {"q=card+%E2%86%92+refused", 1}, /* an arrow is no word */
	    {"q=%E2%80%94+card+%F0%9F%92%B3", 2}, /* a dash, a card's emoji */
	    {"q=card+%22%E2%86%92+refused%22", 1},
	    {"q=card+%E2%86%92*+-accepted", 1},
	    {"q=card+-%E2%86%92+-accepted", 1},
	    {"q=%E2%86%92+card+-%E2%80%94", 2},
	    {"q=%E2%86%92", 0},
	    {"q=message:card", 0},
	    {"q=NEAR(card", 0},
	    {"q=%22card", 2}, /* a quote that never ends */
	    {"q=%22%22+card%22", 2},
	    {"q=*", -422},
	    {"q=-card", -422},
	    {"q=%22", -422},
	    {"level=error", 2},
	    {"level=warn&service=web-shop", 2},
	    {"level=loud", -422},
	    {"service=payments", 2},
	    {"service=nobody", 0},
	    {"request_id=7f3a", 1},
	    {"request_id=7f3a&service=payments", 0},
	    {"q=card&service=payments&level=error", 1},
	    {"q=unhandled&request_id=7f3a", 1},
	    {"from=1800000000001", 1},
	    {"to=1800000000500", 3},
	    {"from=1800000000000&to=1800000000000", 0},
	    {"limit=3", 3},
	    {"limit=0", -422},
	    {"since=0", 4},
	    {"since=3", 1},
	    {"since=99", 0},
	    {"after=3", 2},
	    {"after=3&since=1", -422},
	    {"unknown=1", -422},
	};
	struct testing *t = testing_open(&logs, NULL);
	size_t i;
	int lines;

	(void)state;
	feed_some(t);
	(void)testing_number(t, "SELECT 1");
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if ((lines = found(t, cases[i].query)) != cases[i].lines)
			fail_msg("%s found %d", cases[i].query, lines);
	testing_close(t);
}

static void
test_answers_say_where_words_are_and_how_to_go_on(void **state)
{
	struct testing *t = testing_open(&logs, NULL);
	const struct testing_answer *answer;
	char etag[64];

	(void)state;
	feed_some(t);
	(void)testing_number(t, "SELECT 1");
	answer = testing_request(t, "GET", "/logs?q=s+slow", NULL);
	assert_non_null(strstr(answer->body,
	    "\"message\":\"slow page \xc3\xbc"
	    "ber 3 s\",\"message_hits\":[[0,4],[17,1]]"));
	answer = testing_request(t, "GET", "/logs?limit=1", NULL);
	assert_non_null(strstr(answer->body,
	    "{\"id\":4,\"ts_ms\":1800000005000,\"level\":\"fatal\","
	    "\"service\":\"web-shop\",\"host\":\"web-3\","
	    "\"request_id\":\"7f3a\",\"message\":\"unhandled\","
	    "\"stack\":\"at refuse()\\n\\tat main()\"}]"));
	assert_non_null(
	    strstr(answer->body, "\"next_after\":4,\"cursor\":4,\"poll_ms\""));
	answer = testing_request(t, "GET", "/logs?since=0&limit=2", NULL);
	assert_non_null(strstr(answer->body, "],\"cursor\":2,"));
	answer = testing_request(t, "GET", "/logs/services", NULL);
	assert_non_null(strstr(answer->body,
	    "[{\"service\":\"payments\"},{\"service\":\"web-shop\"}]"));
	snprintf(etag, sizeof(etag), "%s", answer->etag);
	feed(t, LINE("auth", "info", "hello"));
	(void)testing_number(t, "SELECT 1");
	answer = testing_request(t, "GET", "/logs/services", NULL);
	assert_string_not_equal(answer->etag, etag);
	testing_close(t);
}

static void
test_rules_choose_what_goes_on(void **state)
{
	static const char *const flags[] = {"--route=level>=fatal",
	    "--route=service=payments  level>=info", NULL};
	struct testing *t = testing_open(&logs, NULL);

	(void)state;
	feed_some(t);
	assert_int_equal(testing_emitted(t, output), 2);
	assert_string_equal(testing_record(t, output, 0)->key, "payments");
	assert_string_equal(testing_record(t, output, 0)->value,
	    LINE("payments", "error", "card refused: do not honour"));
	testing_close(t);
	t = testing_open(&logs, flags);
	feed_some(t);
	assert_int_equal(testing_emitted(t, output), 3);
	testing_close(t);
}

static void
test_bad_rules_are_named(void **state)
{
	static const char *const bad[] = {"level>=loud", "level=error",
	    "service=", "everything"};
	struct config_list rules = {.count = 1};
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rules.items[0] = bad[i];
		assert_int_equal(rules_parse(&rules, &err), -1);
		assert_non_null(strstr(err.message, bad[i]));
	}
}

static void
test_all_texts_together_stay_below_their_most(void **state)
{
	static const char *const flags[] = {"--keep-bytes=1m", NULL};
	struct testing *t = testing_open(&logs, flags);
	char line[12000], message[11000];
	int i;

	(void)state;
	memset(message, 'x', sizeof(message));
	message[sizeof(message) - 1] = '\0';
	for (i = 0; i < 200; i++) {
		snprintf(line, sizeof(line),
		    "{\"service\":\"s\",\"level\":\"info\","
		    "\"message\":\"n%d %s\",\"ts_ms\":" START "}",
		    i, message);
		feed(t, line);
	}
	assert_in_range(testing_number(t, "SELECT bytes FROM logs_state"),
	    1000000, 1048576);
	assert_int_equal(testing_number(t,
			     "SELECT sum(e.bytes) = s.bytes AND count(*) ="
			     " s.entries FROM entries AS e, logs_state AS s"),
	    1);
	assert_int_equal(found(t, "q=n0"), 0);
	assert_int_equal(found(t, "q=n199"), 1);
	assert_int_equal(testing_number(t, "SELECT max(id) FROM entries"), 200);
	testing_close(t);
}

static void
test_a_line_from_ahead_keeps_none_behind_it(void **state)
{
	static const char *const flags[] = {"--keep=1h", NULL};
	struct testing *t = testing_open(&logs, flags);

	(void)state;
	feed(t,
	    "{\"service\":\"s\",\"level\":\"info\",\"message\":\"ahead\","
	    "\"ts_ms\":1800080000000}");
	feed(t,
	    "{\"service\":\"s\",\"level\":\"info\",\"message\":\"now\","
	    "\"ts_ms\":" START "}");
	testing_advance(t, 3500000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM entries"), 2);
	testing_advance(t, 200000);
	assert_string_equal(testing_text(t,
				"SELECT group_concat(message) FROM entries"),
	    "ahead");
	assert_int_equal(found(t, "q=now"), 0);
	testing_close(t);
}

static void
test_times_far_ahead_are_refused(void **state)
{
	struct testing *t = testing_open(&logs, NULL);

	(void)state;
	feed(t,
	    "{\"service\":\"s\",\"level\":\"info\",\"message\":\"m\","
	    "\"ts_ms\":1800086400000}");
	feed(t,
	    "{\"service\":\"s\",\"level\":\"info\",\"message\":\"m\","
	    "\"ts_ms\":1800086400001}");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM entries"), 1);
	assert_int_equal(testing_emitted(t, "logs.dead-letter"), 1);
	assert_string_equal(testing_record(t, "logs.dead-letter", 0)->reason,
	    "ts_ms: is more than 86400 s ahead of the record's own time");
	testing_close(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines_are_kept_once_wherever_it_dies),
	    cmocka_unit_test(test_another_machine_keeps_the_same),
	    cmocka_unit_test(test_what_was_typed_finds_lines),
	    cmocka_unit_test(test_answers_say_where_words_are_and_how_to_go_on),
	    cmocka_unit_test(test_rules_choose_what_goes_on),
	    cmocka_unit_test(test_bad_rules_are_named),
	    cmocka_unit_test(test_all_texts_together_stay_below_their_most),
	    cmocka_unit_test(test_a_line_from_ahead_keeps_none_behind_it),
	    cmocka_unit_test(test_times_far_ahead_are_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
