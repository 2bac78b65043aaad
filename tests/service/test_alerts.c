/*
 * alerts, driven: rules are read or refused, states follow from judgements,
 * and whatever dies when, the same alerts come out, each transition once.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "one_type.h"
#include "testing/testing.h"

int alerts_main(int argc, char **argv);
#define main alerts_main
#include "../../cmd/alerts/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/alerts/alerts.c" /* NOLINT(bugprone-suspicious-include) */
#undef COLUMNS
#include "../../cmd/alerts/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/alerts/deliver.c" /* NOLINT(bugprone-suspicious-include) */
#undef IDLE_MS
#include "../../cmd/alerts/judge.c" /* NOLINT(bugprone-suspicious-include) */
#undef COUNT
#undef HOUR_MS
#include "../../cmd/alerts/rules.c" /* NOLINT(bugprone-suspicious-include) */
#undef COUNT
#undef METRICS
#include "../../cmd/alerts/track.c" /* NOLINT(bugprone-suspicious-include) */
#define insert transition_insert
#define emit transition_emit
#define take transition_take
#include "../../cmd/alerts/transition.c" /* NOLINT(bugprone-suspicious-include) */
#undef take
#include "../../cmd/metric-producer/fleet.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/metric-producer/sample.c" /* NOLINT(bugprone-suspicious-include) */

#define AT_MS TESTING_START_MS /* a full hour */

/* ---- rules ---------------------------------------------------------------- */

#define RULES(text) "{\"rules\":[" text "]}"
#define CPU                                                                    \
	"{\"name\":\"cpu\",\"kind\":\"threshold\",\"metric\":\"cpu_percent\"," \
	"\"above\":90"

static void
what_is_wrong_with_rules_is_said_with_its_place(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
	    {"", "f:1:0: is no JSON: "},
	    {"{\"rules\":[\n  {]}", "f:2:4: is no JSON: "},
	    {"{}", "f: must be {\"rules\":[...]} with 1 to 64 rules"},
	    {RULES(""), "f: must be {\"rules\":[...]} with 1 to 64 rules"},
	    {RULES("7"), "f: rule 1 (no name): must be an object"},
	    {RULES("{\"name\":\"x\"}"),
		"f: rule 1 (x): kind: must be error_rate, threshold, zscore or "
		"seasonal"},
	    {RULES(CPU "}," CPU "}"),
		"f: rule 2 (cpu): name: must be another one, there is a rule "
		"of it already"},
	    {RULES(CPU ",\"for_s\":\"5m\"}"),
		"f: rule 1 (cpu): for_s: must be a whole number from 0 to "
		"604800"},
	    {RULES(CPU ",\"every_s\":0.5}"),
		"f: rule 1 (cpu): every_s: must be a whole number from 1 to "
		"3600"},
	    {RULES(CPU ",\"below\":1}"),
		"f: rule 1 (cpu): above: one of above and below must be given"},
	    {RULES(CPU ",\"abov\":1}"),
		"f: rule 1 (cpu): abov: is no field of kind threshold: name, "
		"kind, summary, severity, every_s, for_s, cooldown_s, "
		"silent_s, host, metric, above, below"},
	    {RULES(CPU ",\"name\":\"y\"}"), "is no JSON: duplicate object key"},
	    {RULES(CPU ",\"severity\":\"\"}"), "severity: must be 1 to 64"},
	    {RULES(CPU ",\"silent_s\":59}"),
		"silent_s: must be at least every_s"},
	    {RULES("{\"name\":\"x\",\"kind\":\"threshold\",\"above\":1}"),
		"f: rule 1 (x): metric: must be given"},
	    {RULES("{\"kind\":\"zscore\"}"),
		"f: rule 1 (no name): name: must be given"},
	    {RULES("{\"name\":\"x\",\"kind\":\"error_rate\",\"above\":2}"),
		"f: rule 1 (x): above: must be a number from 0 to 1"},
	    {RULES("{\"name\":\"x\",\"kind\":\"error_rate\",\"above\":0.1,"
		   "\"every_s\":45}"),
		"window_s: must be 1 to 1000 times every_s"},
	    {RULES("{\"name\":\"x\",\"kind\":\"error_rate\",\"above\":0.1,"
		   "\"level\":\"loud\"}"),
		"level: must be debug, info, warn, error or fatal"},
	    {RULES("{\"name\":\"x\",\"kind\":\"zscore\",\"points\":61}"),
		"points: must be a whole number from 12 to 60"},
	    {"{\"rules\":[" CPU "}],\"more\":1}",
		"f: must be {\"rules\":[...]} with 1 to 64 rules"},
	    {RULES("{\"name\":\"x\",\"kind\":\"threshold\",\"metric\":\"m\"}"),
		"f: rule 1 (x): above: one of above and below must be given"},
	    {RULES(CPU ",\"for_s\":-1}"),
		"for_s: must be a whole number from 0 to 604800"},
	    {RULES(CPU ",\"every_s\":1.5}"),
		"every_s: must be a whole number from 1 to 3600"},
	    {RULES("{\"name\":7,\"kind\":\"zscore\"}"),
		"f: rule 1 (no name): name: must be text"},
	    {RULES("{\"name\":\"x\",\"kind\":\"error_rate\",\"above\":0.1,"
		   "\"every_s\":1,\"window_s\":1001}"),
		"window_s: must be 1 to 1000 times every_s"},
	};
	static struct rules rules;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = (struct mr_error){0};
		if (rules_parse(bad[i].text, strlen(bad[i].text), "f", &rules,
			&err) != -1 ||
		    err.kind != MR_FATAL ||
		    strstr(err.message, bad[i].why) == NULL)
			fail_msg("%s: %s, not %s", bad[i].text, err.message,
			    bad[i].why);
	}
	assert_int_equal(rules_read("/nowhere/rules.json", &rules, &err), -1);
	assert_non_null(strstr(err.message,
	    "could not open the rules at /nowhere/rules.json (--rules)"));
}

/* ${count} rules of different names, each with a summary of that length. */
static void
make_rules(struct buffer *text, int count, int summary_bytes)
{
	int i;

	buffer_clear(text);
	buffer_addf(text, "{\"rules\":[");
	for (i = 0; i < count; i++)
		buffer_addf(text,
		    "%s{\"name\":\"r%d\",\"kind\":\"zscore\",\"summary\":"
		    "\"%0*d\"}",
		    i == 0 ? "" : ",", i, summary_bytes, 0);
	buffer_addf(text, "]}");
}

static void
rules_are_bounded(void **state)
{
	static struct rules rules;
	struct buffer text = {0};
	struct mr_error err;
	int i;

	(void)state;
	make_rules(&text, RULES_MOST, EVENT_SUMMARY_SIZE - 1);
	assert_int_equal(rules_parse(buffer_text(&text), text.length, "f",
			     &rules, &err),
	    0);
	assert_int_equal(rules.count, RULES_MOST);
	make_rules(&text, RULES_MOST + 1, 1);
	assert_int_equal(rules_parse(buffer_text(&text), text.length, "f",
			     &rules, &err),
	    -1);
	assert_string_equal(err.message,
	    "f: must be {\"rules\":[...]} with 1 to 64 rules");
	make_rules(&text, 1, EVENT_SUMMARY_SIZE);
	assert_int_equal(rules_parse(buffer_text(&text), text.length, "f",
			     &rules, &err),
	    -1);
	assert_non_null(
	    strstr(err.message, "f: rule 1 (r0): summary: must be at most "));
	/* A control character is written as six. */
	buffer_clear(&text);
	buffer_addf(&text, RULES(CPU ",\"summary\":\""));
	text.length -= 2;
	for (i = 0; i < EVENT_SUMMARY_SIZE - 1; i++)
		buffer_addf(&text, "\\u0001");
	buffer_addf(&text, "\"}]}");
	assert_int_equal(rules_parse(buffer_text(&text), text.length, "f",
			     &rules, &err),
	    -1);
	assert_string_equal(err.message,
	    "f: rule 1 (cpu): must be at most 1023 bytes as JSON");
	buffer_free(&text);
}

static void
rules_of_the_program_are_good(void **state)
{
	static struct rules rules;
	const struct rule *rule;
	struct mr_error err;

	(void)state;
	assert_int_equal(rules_read(NULL, &rules, &err), 0);
	assert_int_equal(rules.count, 4);
	assert_non_null(rule = rule_find(&rules, "error-rate"));
	assert_int_equal(rule->every_ms, 30000);
	assert_int_equal(rule->for_ms, 0);
	assert_int_equal(rule->cooldown_ms, 300000);
	assert_int_equal(rule->silent_ms, 600000);
	assert_string_equal(rule->severity, "warning");
	assert_int_equal(rule->level, LOG_EVENT_ERROR);
	assert_memory_equal(rule->definition, "{\"above\":0.2,", 13);
	assert_true(rule_fits(rule, INPUT_LOGS, "web", ""));
	assert_false(rule_fits(rule, INPUT_METRICS, "web", "cpu_percent"));
	assert_non_null(rule = rule_find(&rules, "cpu-high"));
	assert_true(rule_fits(rule, INPUT_METRICS, "h", "cpu_percent"));
	assert_false(rule_fits(rule, INPUT_METRICS, "h", "load1"));
}

static void
rules_fit_whom_they_name(void **state)
{
	static const char text[] = RULES(CPU ",\"host\":\"h1\"}");
	static struct rules rules;
	struct mr_error err;

	(void)state;
	assert_int_equal(rules_parse(text, strlen(text), "f", &rules, &err), 0);
	assert_true(
	    rule_fits(&rules.list[0], INPUT_METRICS, "h1", "cpu_percent"));
	assert_false(
	    rule_fits(&rules.list[0], INPUT_METRICS, "h2", "cpu_percent"));
}

/* ---- states ---------------------------------------------------------------- */

static void
states_follow_from_judgements(void **state)
{
	static const struct rule rule = {.for_ms = 20, .cooldown_ms = 50};
	static const struct {
		int64_t at_ms;
		int truth;
		enum track_state entered;
	} steps[] = {
	    {10, 0, TRACK_NONE}, {20, 1, TRACK_PENDING},
	    {30, 0, TRACK_RESOLVED}, /* not for long enough: no cool-down */
	    {40, 1, TRACK_PENDING}, {50, 1, TRACK_NONE}, {60, 1, TRACK_FIRING},
	    {70, 1, TRACK_NONE}, /* said once */
	    {80, 0, TRACK_RESOLVED}, {90, 0, TRACK_NONE},
	    {100, 1, TRACK_NONE}, /* cooling down */
	    {129, 1, TRACK_NONE}, {130, 1, TRACK_PENDING},
	    {200, 1, TRACK_FIRING}, /* after a gap */
	};
	static const struct rule at_once = {.cooldown_ms = 0};
	struct track track = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (track_step(&track, &rule, steps[i].at_ms, steps[i].truth) !=
		    steps[i].entered)
			fail_msg("at %lld", (long long)steps[i].at_ms);
	assert_int_equal(track.started_ms, 130);
	track = (struct track){0};
	assert_int_equal(track_step(&track, &at_once, 1, 1), TRACK_FIRING);
	assert_int_equal(track_step(&track, &at_once, 2, 0), TRACK_RESOLVED);
	assert_int_equal(track_step(&track, &at_once, 3, 1), TRACK_FIRING);
}

/* ---- the service ----------------------------------------------------------- */

static char rules_path[64];
static char rules_flag[80];

static void
write_rules(const char *text)
{
	FILE *file = fopen(rules_path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int
make_rules_file(void **state)
{
	int fd;

	(void)state;
	snprintf(rules_path, sizeof(rules_path), "/tmp/test_alerts.XXXXXX");
	if ((fd = mkstemp(rules_path)) == -1)
		return (-1);
	snprintf(rules_flag, sizeof(rules_flag), "--rules=%s", rules_path);
	return (close(fd));
}

static int
drop_rules_file(void **state)
{

	(void)state;
	return (unlink(rules_path));
}

static void
a_file_of_rules_is_bounded(void **state)
{
	static char text[FILE_MOST_BYTES + 2];
	static struct rules rules;
	struct mr_error err;
	size_t length;

	(void)state;
	/* Spaces behind the rules are good, until they are too many. */
	length = (size_t)snprintf(text, sizeof(text), RULES(CPU "}"));
	memset(text + length, ' ', FILE_MOST_BYTES - length);
	write_rules(text);
	if (rules_read(rules_path, &rules, &err) == -1)
		fail_msg("%s", err.message);
	text[FILE_MOST_BYTES] = ' ';
	write_rules(text);
	assert_int_equal(rules_read(rules_path, &rules, &err), -1);
	assert_non_null(strstr(err.message, ": must be at most 1048576 bytes"));
}

/* ${at_ms} is counted from AT_MS. */
static void
feed_metric(struct testing *t, const char *host, const char *metric,
    const char *value, int64_t at_ms)
{
	char text[256];

	snprintf(text, sizeof(text),
	    "{\"host\":\"%s\",\"metric\":\"%s\",\"value\":%s,\"ts_ms\":%lld}",
	    host, metric, value, (long long)(AT_MS + at_ms));
	testing_feed(t, "system-metrics", "metric.sampled", host, text);
}

static void
feed_lines(struct testing *t, const char *service, const char *level, int count,
    int64_t at_ms)
{
	char text[256];

	while (count-- > 0) {
		snprintf(text, sizeof(text),
		    "{\"service\":\"%s\",\"level\":\"%s\",\"message\":\"m\","
		    "\"ts_ms\":%lld}",
		    service, level, (long long)(AT_MS + at_ms));
		testing_feed(t, "application-logs", "log.written", service,
		    text);
	}
}

static void
expect(struct testing *t, const char *method, const char *target, int status,
    const char *part)
{
	const struct testing_answer *answer;

	answer = testing_request(t, method, target, NULL);
	if (answer->status != status || strstr(answer->body, part) == NULL)
		fail_msg("%s: %d %s, not %s", target, answer->status,
		    answer->body, part);
}

/* "cpu/h1 pending 20, ...": all transitions, seconds from AT_MS. */
static const char sql_all_transitions[] =
    "SELECT coalesce(group_concat(a.rule || '/' || a.service || a.host || ' '"
    " || t.state || ' ' || ((t.at_ms - 1800000000000) / 1000) ||"
    " iif(t.reason = '', '', ' ' || t.reason), ', '), 'none') FROM"
    " (SELECT * FROM transitions ORDER BY seq) AS t"
    " JOIN alerts AS a ON a.id = t.alert";

static void
expect_transitions(struct testing *t, const char *wanted)
{
	const char *found = testing_text(t, sql_all_transitions);

	if (strcmp(found, wanted) != 0)
		fail_msg("%s, not %s", found, wanted);
}

#define CPU_RULE                                                       \
	"{\"name\":\"cpu\",\"kind\":\"threshold\",\"metric\":\"cpu\"," \
	"\"above\":90,\"every_s\":10,\"for_s\":10,\"cooldown_s\":60,"  \
	"\"silent_s\":120}"
#define ERRORS_RULE                                                    \
	"{\"name\":\"errors\",\"kind\":\"error_rate\",\"every_s\":10," \
	"\"window_s\":30,\"above\":0.5,\"least\":2,\"cooldown_s\":0}"

/* Threshold and error rate, out of order, late, repeated and broken. */
static void
feed_story(struct testing *t)
{
	feed_metric(t, "h1", "cpu", "95", 1000);
	feed_metric(t, "h1", "cpu", "99.5", 12000);
	testing_repeat(t, "system-metrics", 2);
	feed_metric(t, "h1", "cpu", "92", 9999); /* out of order, in time */
	feed_metric(t, "h1", "cpu", "93", 15000); /* ends the first step */
	feed_metric(t, "h1", "cpu", "1", 9999); /* late */
	feed_metric(t, "h1", "cpu", "10", 25000);
	feed_metric(t, "h1", "cpu", "high", 25000);
	feed_metric(t, "h1", "cpu", "1", INT64_C(90000000)); /* 25 h ahead */
	feed_metric(t, "h1", "cpu", "99", 35000);
	/* Then the lines: what waits in two topics may come in any order. */
	testing_request(t, "GET", "/alerts", NULL);
	feed_lines(t, "pay", "error", 1, 1000);
	feed_lines(t, "pay", "fatal", 1, 1000);
	feed_lines(t, "pay", "info", 2, 12000);
	feed_lines(t, "pay", "info", 1, 25000);
	feed_lines(t, "pay", "loud", 1, 25000);
}

static const char story[] =
    "cpu/h1 pending 10, cpu/h1 firing 20, cpu/h1 resolved 30 cleared, "
    "errors/pay firing 10, errors/pay resolved 20 cleared";

static void
each_transition_comes_once_wherever_it_dies(void **state)
{
	const char *const flags[] = {rules_flag, NULL};
	const struct testing_record *record;
	struct mr_error err = {0};
	struct testing *t;
	int crashes = 0;

	(void)state;
	write_rules("{\"rules\":[" CPU_RULE "," ERRORS_RULE "]}");
	t = testing_open(&alerts, flags);
	feed_story(t);
	testing_request(t, "POST", "/alerts/1/acknowledge", NULL);
	testing_advance(t, 2000);
	expect_transitions(t, story);
	assert_int_equal(testing_number(t,
			     "SELECT sum(records) * 100 + sum(late)"
			     " FROM progress"),
	    1201);
	assert_int_equal(testing_emitted(t, "alerts"), 5);
	record = testing_record(t, "alerts", 1);
	assert_string_equal(record->type, "alert.firing");
	assert_string_equal(record->key, "cpu/h1/cpu");
	assert_non_null(strstr(record->value,
	    "\"alert_id\":1,\"rule\":\"cpu\",\"kind\":\"threshold\","
	    "\"severity\":\"warning\",\"state\":\"firing\",\"host\":\"h1\","
	    "\"metric\":\"cpu\",\"value\":96.25,\"bound\":90,\"started_ms\":"
	    "1800000010000,\"fired_ms\":1800000020000,\"ts_ms\":1800000020000"
	    "}"));
	record = testing_record(t, "alerts", 3);
	assert_non_null(strstr(record->value,
	    "\"service\":\"pay\",\"value\":1,\"bound\":0.5,"));
	assert_int_equal(testing_emitted(t, "alerts.dead-letter"), 3);
	assert_non_null(
	    strstr(testing_record(t, "alerts.dead-letter", 0)->reason,
		"value: is no JSON"));
	assert_non_null(
	    strstr(testing_record(t, "alerts.dead-letter", 1)->reason,
		"ts_ms: is more than 86400 s (--ahead)"));
	assert_non_null(
	    strstr(testing_record(t, "alerts.dead-letter", 2)->reason,
		"level: must be debug, info, warn, error or fatal"));
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

static void
each_kind_judges_by_its_bound(void **state)
{
	const char *const flags[] = {rules_flag, NULL};
	struct testing *t;
	int i;

	(void)state;
	write_rules("{\"rules\":["
		    "{\"name\":\"low\",\"kind\":\"threshold\","
		    "\"metric\":\"load\",\"below\":2,\"every_s\":10},"
		    "{\"name\":\"high\",\"kind\":\"threshold\","
		    "\"metric\":\"cpu\",\"above\":90,\"every_s\":10},"
		    "{\"name\":\"few\",\"kind\":\"error_rate\","
		    "\"every_s\":10,\"window_s\":10,\"above\":0.5,"
		    "\"least\":3},"
		    "{\"name\":\"drop\",\"kind\":\"zscore\","
		    "\"metric\":\"rate\",\"every_s\":10,\"score\":8}]}");
	t = testing_open(&alerts, flags);
	feed_metric(t, "h1", "load", "1.999", 1000);
	feed_metric(t, "h2", "load", "2", 1000);
	feed_metric(t, "h1", "load", "2", 11000);
	feed_metric(t, "h1", "cpu", "90", 21000);
	feed_metric(t, "h2", "cpu", "90.001", 21000);
	feed_metric(t, "h2", "cpu", "90", 31000);
	/* A deviation is a fiftieth of 50 at least: these are 7 and 8. */
	for (i = 4; i < 20; i++)
		feed_metric(t, "h1", "rate", "50", 10000 * i);
	feed_metric(t, "h1", "rate", "43", 200000);
	feed_metric(t, "h1", "rate", "50", 210000);
	feed_metric(t, "h1", "rate", "42", 220000);
	feed_metric(t, "h1", "rate", "50", 230000);
	feed_metric(t, "h1", "rate", "50", 245000);
	testing_request(t, "GET", "/alerts", NULL);
	feed_lines(t, "pay", "error", 2, 1000);
	feed_lines(t, "web", "error", 3, 1000);
	feed_lines(t, "web", "info", 3, 11000);
	feed_lines(t, "web", "info", 1, 25000);
	expect_transitions(t,
	    "low/h1 firing 10, low/h1 resolved 20 cleared, "
	    "high/h2 firing 30, high/h2 resolved 40 cleared, "
	    "drop/h1 firing 230, drop/h1 resolved 240 cleared, "
	    "few/web firing 10, few/web resolved 20 cleared");
	testing_close(t);
}

static void
silence_resolves_and_then_forgets(void **state)
{
	const char *const flags[] = {rules_flag, "--keep=1h", NULL};
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":[" CPU_RULE "]}");
	t = testing_open(&alerts, flags);
	feed_metric(t, "h1", "cpu", "95", 1000);
	feed_metric(t, "h2", "cpu", "95", 1000);
	feed_metric(t, "h2", "cpu", "95", 31000);
	feed_metric(t, "h2", "cpu", "95", 46000);
	/* h1 has said nothing since 10, h2 was judged at 60 for the last time. */
	feed_metric(t, "h3", "cpu", "1", 134999);
	expect_transitions(t,
	    "cpu/h1 pending 10, cpu/h2 pending 10, cpu/h2 firing 40");
	feed_metric(t, "h3", "cpu", "1", 135000);
	expect_transitions(t,
	    "cpu/h1 pending 10, cpu/h2 pending 10, cpu/h2 firing 40, "
	    "cpu/h1 resolved 130 silent");
	feed_metric(t, "h3", "cpu", "1", 170000);
	feed_metric(t, "h3", "cpu", "1", 185000);
	expect_transitions(t,
	    "cpu/h1 pending 10, cpu/h2 pending 10, cpu/h2 firing 40, "
	    "cpu/h1 resolved 130 silent, cpu/h2 resolved 170 silent");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM series"), 3);
	feed_metric(t, "h3", "cpu", "1", 3600000 + 134999);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM series"), 3);
	feed_metric(t, "h2", "cpu", "95", 3600000 + 175000); /* comes back */
	assert_string_equal(testing_text(t,
				"SELECT group_concat(subject) FROM series"),
	    "h2,h3");
	testing_close(t);
}

/* A step that ends with an hour is that hour's. */
static void
numbers_before_are_kept_and_forgotten(void **state)
{
	const char *const flags[] = {rules_flag, "--keep=1h", NULL};
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":["
		    "{\"name\":\"odd\",\"kind\":\"zscore\"},"
		    "{\"name\":\"season\",\"kind\":\"seasonal\"}]}");
	t = testing_open(&alerts, flags);
	feed_metric(t, "h1", "cpu", "5", 3541000);
	feed_metric(t, "h1", "cpu", "5", 3601000);
	feed_metric(t, "h2", "cpu", "5", 3700000);
	assert_string_equal(
	    testing_text(t,
		"SELECT group_concat(hour || ':' || count) FROM seasons"),
	    "8:1,9:1");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM history"), 2);
	feed_metric(t, "h2", "cpu", "5", 10800000);
	assert_string_equal(testing_text(t,
				"SELECT group_concat(DISTINCT subject)"
				" FROM series"),
	    "h2");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM history"), 0);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM seasons"), 0);
	testing_close(t);
}

static void
a_rule_that_changes_begins_anew(void **state)
{
	const char *const flags[] = {rules_flag, NULL};
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":[" CPU_RULE "," ERRORS_RULE "]}");
	t = testing_open(&alerts, flags);
	feed_metric(t, "h1", "cpu", "95", 1000);
	feed_metric(t, "h1", "cpu", "95", 11000);
	feed_lines(t, "pay", "error", 4, 1000);
	feed_lines(t, "pay", "error", 4, 18000);
	expect_transitions(t, "errors/pay firing 10");
	feed_metric(t, "h1", "cpu", "95", 15000);
	testing_restart(t); /* nothing changes */
	expect_transitions(t, "errors/pay firing 10, cpu/h1 pending 10");
	write_rules("{\"rules\":[" ERRORS_RULE "]}");
	testing_restart(t);
	testing_advance(t, 1000);
	expect_transitions(t,
	    "errors/pay firing 10, cpu/h1 pending 10, "
	    "cpu/h1 resolved 15 rule changed");
	assert_int_equal(testing_emitted(t, "alerts"), 3);
	assert_int_equal(testing_number(t,
			     "SELECT (SELECT count(*) FROM series) * 100 +"
			     " (SELECT count(*) FROM steps)"),
	    101);
	expect(t, "GET", "/alerts/rules", 200,
	    "{\"rules\":[{\"above\":0.5,\"cooldown_s\":0,");
	testing_close(t);
}

/* As an older version's instance left them, that had started before. */
static void
series_of_a_rule_that_is_gone_go(void **state)
{
	const char *const flags[] = {rules_flag, NULL};
	static struct rules both;
	struct mr_error err;
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":[" ERRORS_RULE "]}");
	t = testing_open(&alerts, flags);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM series"), 0);
	if (rules_parse(RULES(CPU_RULE "," ERRORS_RULE),
		strlen(RULES(CPU_RULE "," ERRORS_RULE)), "f", &both,
		&err) == -1)
		fail_msg("%s", err.message);
	alerts_rules = both;
	feed_metric(t, "h1", "cpu", "95", 1000);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM series"), 1);
	testing_restart(t);
	feed_metric(t, "h1", "cpu", "95", 15000);
	assert_int_equal(testing_number(t,
			     "SELECT (SELECT count(*) FROM series) +"
			     " (SELECT count(*) FROM steps)"),
	    0);
	assert_int_equal(testing_number(t, "SELECT records FROM progress"), 2);
	testing_close(t);
}

/* Its step was judged when the grace was less: it is late for good. */
static void
a_longer_grace_opens_no_step_again(void **state)
{
	const char *flags[] = {rules_flag, "--grace=0", NULL};
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":[" ERRORS_RULE "]}");
	t = testing_open(&alerts, flags);
	feed_lines(t, "pay", "error", 4, 1000);
	feed_lines(t, "pay", "info", 1, 11000);
	expect_transitions(t, "errors/pay firing 10");
	flags[1] = "--grace=1m";
	testing_restart(t);
	feed_lines(t, "pay", "error", 1, 9000); /* late */
	feed_lines(t, "pay", "error", 1, 12000);
	feed_lines(t, "pay", "info", 9, 75000);
	feed_lines(t, "pay", "info", 1, 105000);
	expect_transitions(t, "errors/pay firing 10");
	feed_lines(t, "pay", "info", 1, 140000);
	expect_transitions(t,
	    "errors/pay firing 10, errors/pay resolved 80 cleared");
	assert_int_equal(testing_number(t, "SELECT late FROM progress"), 1);
	assert_int_equal(testing_emitted(t, "alerts.dead-letter"), 0);
	testing_close(t);
}

static void
a_shorter_grace_judges_without_a_record(void **state)
{
	const char *flags[] = {rules_flag, "--grace=10m", NULL};
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":[" ERRORS_RULE "]}");
	t = testing_open(&alerts, flags);
	feed_lines(t, "pay", "error", 4, 1000);
	feed_lines(t, "pay", "info", 1, 18000);
	expect_transitions(t, "none");
	flags[1] = "--grace=5s";
	testing_restart(t);
	testing_advance(t, 2000);
	expect_transitions(t, "errors/pay firing 10");
	testing_close(t);
}

static void
no_step_has_too_much_for_its_sum(void **state)
{
	const char *const flags[] = {rules_flag, NULL};
	struct testing *t;
	int i;

	(void)state;
	write_rules("{\"rules\":[" CPU_RULE "]}");
	t = testing_open(&alerts, flags);
	for (i = 0; i < 9300; i++)
		feed_metric(t, "h1", "cpu", "1000000000000", 1000);
	feed_metric(t, "h1", "cpu", "1", 15000);
	expect_transitions(t, "cpu/h1 pending 10");
	assert_int_equal(testing_number(t, "SELECT records FROM progress"),
	    9301);
	assert_int_equal(testing_emitted(t, "alerts.dead-letter"), 0);
	testing_close(t);
}

static void
alerts_are_found_and_acknowledged(void **state)
{
	const char *const flags[] = {rules_flag, "--keep=2m", NULL};
	const struct testing_answer *answer;
	char etag[64];
	struct testing *t;

	(void)state;
	write_rules("{\"rules\":[" CPU_RULE "," ERRORS_RULE "]}");
	t = testing_open(&alerts, flags);
	expect(t, "GET", "/alerts", 200,
	    "{\"alerts\":[],\"pending\":0,\"firing\":0,\"records\":0,"
	    "\"next_after\":null,\"poll_ms\":");
	feed_story(t);
	expect(t, "GET", "/alerts", 200,
	    "{\"alerts\":[{\"id\":2,\"rule\":\"errors\",\"kind\":\"error_rate\","
	    "\"severity\":\"warning\",\"service\":\"pay\",\"state\":"
	    "\"resolved\",\"value\":0.5,\"score\":null,\"bound\":0.5,"
	    "\"started_ms\":1800000010000,\"fired_ms\":1800000010000,"
	    "\"resolved_ms\":1800000020000,\"acknowledged_ms\":null},"
	    "{\"id\":1,\"rule\":\"cpu\"");
	/* What breaks no rule is another answer, too: it says how many came. */
	answer = testing_request(t, "GET", "/alerts", NULL);
	snprintf(etag, sizeof(etag), "%s", answer->etag);
	feed_metric(t, "h1", "cpu", "1", 70000);
	answer = testing_request(t, "GET", "/alerts", NULL);
	assert_string_not_equal(etag, answer->etag);
	expect(t, "GET", "/alerts?limit=1", 200, "\"next_after\":2");
	expect(t, "GET", "/alerts?after=2", 200, "{\"alerts\":[{\"id\":1,");
	expect(t, "GET", "/alerts?rule=cpu", 200, "{\"alerts\":[{\"id\":1,");
	expect(t, "GET", "/alerts?rule=cpu&state=firing", 200,
	    "{\"alerts\":[],");
	expect(t, "GET", "/alerts?state=resolved", 200, "\"id\":1,");
	expect(t, "GET", "/alerts?state=none", 422, "pending, firing or");
	expect(t, "GET", "/alerts?since=1", 422, "since");
	expect(t, "GET", "/alerts/1", 200,
	    "\"acknowledged_ms\":null,\"transitions\":[{\"seq\":1,\"state\":"
	    "\"pending\",\"at_ms\":1800000010000,\"value\":93.5,"
	    "\"score\":null,\"fingerprint\":\"");
	expect(t, "GET", "/alerts/1", 200, "\"reason\":\"cleared\"");
	expect(t, "GET", "/alerts/3", 404, "no alert of this id");
	expect(t, "GET", "/alerts/x", 404, "no alert's id");
	answer = testing_request(t, "GET", "/alerts", NULL);
	snprintf(etag, sizeof(etag), "%s", answer->etag);
	expect(t, "POST", "/alerts/1/acknowledge", 200,
	    "{\"id\":1,\"acknowledged_ms\":1800000000000}");
	testing_advance(t, 5000);
	expect(t, "POST", "/alerts/1/acknowledge", 200,
	    "{\"id\":1,\"acknowledged_ms\":1800000000000}");
	expect(t, "POST", "/alerts/3/acknowledge", 404, "no alert of this id");
	expect(t, "GET", "/alerts/1", 200, "\"acknowledged_ms\":1800000000000");
	answer = testing_request(t, "GET", "/alerts", NULL);
	assert_string_not_equal(etag, answer->etag);
	testing_advance(t, 140000);
	expect(t, "GET", "/alerts/1", 200,
	    "\"id\":1"); /* it was resolved at 30 */
	testing_advance(t, 60000);
	expect(t, "GET", "/alerts", 200, "{\"alerts\":[],");
	assert_int_equal(testing_number(t, "SELECT count(*) FROM transitions"),
	    0);
	testing_close(t);
}

/* ---- an Alertmanager -------------------------------------------------------- */

#define POSTS 512

/* Keeps what it is posted, and answers 200, or 503 where the body has
 * ${refused} in it. */
static struct {
	int listening;
	pthread_t thread;
	pthread_mutex_t lock;
	const char *refused; /* NULL: nothing */
	char *posts[POSTS]; /* each with its headers; those with a 200 */
	int count;
	char flag[64];
} manager = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Header and body, as much as was announced; how long it is. */
static size_t
read_post(int fd, char *text, size_t size)
{
	size_t have = 0, whole = size - 1;
	const char *end, *length;
	ssize_t n;

	text[0] = '\0';
	while (have < whole && (n = read(fd, text + have, whole - have)) > 0) {
		have += (size_t)n;
		text[have] = '\0';
		length = strstr(text, "Content-Length: ");
		end = strstr(text, "\r\n\r\n");
		if (end != NULL && length != NULL)
			whole = (size_t)(end - text) + 4 +
			    strtoul(length + 16, NULL, 10);
	}
	return (have);
}

static void *
serve_posts(void *unused)
{
	static const char good[] = "HTTP/1.1 200 OK\r\n\r\n",
			  bad[] = "HTTP/1.1 503 No\r\n\r\n";
	static char text[262144];
	int fd, refused;

	(void)unused;
	while ((fd = accept(manager.listening, NULL, NULL)) != -1) {
		(void)read_post(fd, text, sizeof(text));
		pthread_mutex_lock(&manager.lock);
		refused = manager.refused != NULL &&
		    strstr(text, manager.refused) != NULL;
		if (!refused && manager.count < POSTS)
			manager.posts[manager.count++] = strdup(text);
		pthread_mutex_unlock(&manager.lock);
		(void)!write(fd, refused ? bad : good, sizeof(good) - 1);
		close(fd);
	}
	return (NULL);
}

/* And a service that tells it of errors. */
static int
manager_start(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static const char *const flags[] = {rules_flag, manager.flag, NULL};
	socklen_t size = sizeof(address);

	manager.refused = NULL;
	manager.listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(manager.listening, (struct sockaddr *)&address, size) != 0 ||
	    listen(manager.listening, 16) != 0 ||
	    getsockname(manager.listening, (struct sockaddr *)&address,
		&size) != 0)
		return (-1);
	snprintf(manager.flag, sizeof(manager.flag),
	    "--alertmanager=http://127.0.0.1:%d", ntohs(address.sin_port));
	if (pthread_create(&manager.thread, NULL, serve_posts, NULL) != 0)
		return (-1);
	write_rules("{\"rules\":[" ERRORS_RULE "]}");
	*state = testing_open(&alerts, flags);
	return (0);
}

/* It knows of nothing any more. */
static void
manager_forget(void)
{

	pthread_mutex_lock(&manager.lock);
	while (manager.count > 0)
		free(manager.posts[--manager.count]);
	pthread_mutex_unlock(&manager.lock);
}

static int
manager_stop(void **state)
{

	testing_close(*state); /* however the test ended */
	deliver_urls[DELIVER_ALERTMANAGER] = NULL; /* of later tests */
	shutdown(manager.listening, SHUT_RDWR);
	pthread_join(manager.thread, NULL);
	close(manager.listening);
	manager_forget();
	return (0);
}

static void
manager_refuse(const char *what)
{

	pthread_mutex_lock(&manager.lock);
	manager.refused = what;
	pthread_mutex_unlock(&manager.lock);
}

/* Wait for so many posts, and give the last one. */
static const char *
wait_for_posts(int count)
{
	const char *last = "";
	int i, have = 0;

	for (i = 0; i < 1000 && have < count; i++) {
		(void)poll(NULL, 0, i == 0 ? 0 : 10);
		pthread_mutex_lock(&manager.lock);
		have = manager.count;
		last = have > 0 ? manager.posts[have - 1] : "";
		pthread_mutex_unlock(&manager.lock);
	}
	if (have != count)
		fail_msg("%d posts, not %d; the last: %s", have, count, last);
	return (last);
}

static void
wait_for_text(struct testing *t, const char *sql, const char *wanted)
{
	const char *text = "";
	int i;

	for (i = 0; i < 1000; i++) {
		text = testing_text(t, sql);
		if (strcmp(text, wanted) == 0)
			return;
		(void)poll(NULL, 0, 10);
	}
	fail_msg("%s, not %s", text, wanted);
}

static int
times(const char *text, const char *part)
{
	int count = 0;

	for (; (text = strstr(text, part)) != NULL; text++)
		count++;
	return (count);
}

static const char sql_delivery[] =
    "SELECT delivered || ' delivered, ' || failed || ' failed, ' || attempts"
    " || ' in a row: ' || error FROM deliveries";

/* Errors of a service, and one more by which they are judged. */
static void
fire(struct testing *t, const char *service, int64_t at_ms)
{

	feed_lines(t, service, "error", 4, at_ms);
	feed_lines(t, service, "error", 1, at_ms + 15000);
}

static void
what_fires_is_repeated_each_minute(void **state)
{
	struct testing *t = *state;
	const char *post;

	fire(t, "pay", 1000);
	fire(t, "web", 17000);
	post = wait_for_posts(2);
	assert_non_null(strstr(post, "Idempotency-Key: "));
	assert_non_null(strstr(post,
	    "\"startsAt\":\"2027-01-15T08:00:00.000Z\","
	    "\"endsAt\":\"2027-01-15T08:05:00.000Z\""));
	wait_for_text(t, sql_delivery, "2 delivered, 0 failed, 0 in a row: ");
	manager_forget();
	testing_advance(t, 60000);
	post = wait_for_posts(1);
	assert_null(strstr(post, "Idempotency-Key: "));
	assert_int_equal(times(post, "\"service\":\"pay\""), 1);
	assert_int_equal(times(post, "\"service\":\"web\""), 1);
	assert_int_equal(times(post, "\"endsAt\":\"2027-01-15T08:06:00.000Z\""),
	    2);
	/* What is resolved is said to be, and not repeated. */
	feed_lines(t, "pay", "info", 20, 43000);
	feed_lines(t, "pay", "info", 1, 56000);
	assert_non_null(strstr(wait_for_posts(2),
	    "\"endsAt\":\"2027-01-15T08:00:50.000Z\""));
	testing_advance(t, 60000);
	post = wait_for_posts(3);
	assert_int_equal(times(post, "\"service\":\"web\""), 1);
	assert_int_equal(times(post, "\"service\":"), 1);
	wait_for_text(t, sql_delivery, "3 delivered, 0 failed, 0 in a row: ");
	/* A new life repeats at once: the one before may be long over. */
	testing_restart(t);
	assert_int_equal(times(wait_for_posts(4), "\"service\":\"web\""), 1);
}

static void
an_alertmanager_that_comes_back_knows_what_fires(void **state)
{
	struct testing *t = *state;
	char refusal[128];

	fire(t, "pay", 1000);
	(void)wait_for_posts(1);
	wait_for_text(t, sql_delivery, "1 delivered, 0 failed, 0 in a row: ");
	manager_forget();
	manager_refuse("");
	testing_advance(t, 60000);
	snprintf(refusal, sizeof(refusal),
	    "1 delivered, 1 failed, 1 in a row: 127.0.0.1 port %s answered 503",
	    strrchr(manager.flag, ':') + 1);
	wait_for_text(t, sql_delivery, refusal);
	manager_refuse(NULL);
	testing_advance(t, 60000);
	assert_int_equal(times(wait_for_posts(1), "\"service\":\"pay\""), 1);
	wait_for_text(t, sql_delivery, "1 delivered, 1 failed, 0 in a row: ");
}

static void
a_transition_that_is_refused_holds_up_no_repeats(void **state)
{
	struct testing *t = *state;

	fire(t, "pay", 1000);
	(void)wait_for_posts(1);
	manager_refuse("\"web\"");
	fire(t, "web", 17000);
	wait_for_text(t, "SELECT attempts FROM deliveries", "1");
	manager_forget();
	testing_advance(t, 60000);
	/* It isn't in it, as it was never said to fire. */
	assert_int_equal(times(wait_for_posts(1), "\"service\":"), 1);
	wait_for_text(t, "SELECT attempts FROM deliveries", "2");
	assert_non_null(strstr(testing_text(t, sql_delivery),
	    "1 delivered, 2 failed, 2 in a row: 127.0.0.1 port "));
}

static void
many_that_fire_are_repeated_in_parts(void **state)
{
	char service[16];
	struct testing *t = *state;
	int i;

	for (i = 0; i < REPEAT_MOST + 20; i++) {
		snprintf(service, sizeof(service), "s%d", i);
		feed_lines(t, service, "error", 2, 1000);
	}
	feed_lines(t, "s0", "error", 2, 16000);
	testing_advance(t, 1000);
	(void)wait_for_posts(REPEAT_MOST + 20);
	wait_for_text(t, "SELECT delivered FROM deliveries", "120");
	manager_forget();
	testing_advance(t, 60000);
	assert_int_equal(times(wait_for_posts(2), "\"service\":"), 20);
	assert_int_equal(times(manager.posts[0], "\"service\":"), REPEAT_MOST);
}

static void
an_alert_ends_after_its_start(void **state)
{
	struct alert_event event = {.fired_ms = 5000};

	(void)state;
	assert_true(start_of(&event, 6000) == 5000);
	assert_true(end_of(&event, 6000) == 6000 + HOLD_MS);
	event.resolved_ms = 5500;
	assert_true(end_of(&event, 6000) == 5500);
	/* By a clock that is ahead: it's over there all the same. */
	assert_true(start_of(&event, 4000) == 4000);
	assert_true(end_of(&event, 4000) == 4000);
	assert_true(end_of(&event, 5200) == 5200);
	/* By one that was set back. */
	event.resolved_ms = 4500;
	assert_true(end_of(&event, 6000) == 5000);
}

/* ---- planted anomalies ------------------------------------------------------ */

#define PLANTED_RULE                                                \
	"{\"name\":\"unusual\",\"kind\":\"zscore\",\"every_s\":60," \
	"\"score\":8,\"cooldown_s\":0}"
#define SPANS 8
#define SPAN_MS (2 * HOUR_MS)

static const struct fleet_settings fleet = {.hosts = 1,
    .every_ms = 60000,
    .anomaly_every_ms = SPAN_MS,
    .seed = 7};

static void
feed_fleet(struct testing *t)
{
	char value[32];
	int64_t at_ms;
	int kind;

	for (at_ms = 0; at_ms < SPANS * SPAN_MS; at_ms += fleet.every_ms)
		for (kind = 0; kind < METRICS; kind++) {
			snprintf(value, sizeof(value), "%.3f",
			    (double)fleet_value(&fleet, 1,
				(enum metric_kind)kind, AT_MS + at_ms) /
				1000);
			feed_metric(t, "host-1", metric_names[kind], value,
			    at_ms);
		}
}

/* An alert of the metric fires within the anomaly: 1 or 0. */
static int
found_within(struct testing *t, const struct fleet_anomaly *a)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
	    "SELECT count(*) FROM alerts WHERE metric = '%s' AND fired_ms >"
	    " %lld AND fired_ms <= %lld",
	    metric_names[a->kind], (long long)a->from_ms,
	    (long long)a->to_ms + 60000);
	return (testing_number(t, sql) > 0);
}

static void
planted_anomalies_are_found(void **state)
{
	const char *const flags[] = {rules_flag, "--ahead=30d", NULL};
	struct fleet_anomaly anomaly;
	int planted = 0, found = 0;
	struct testing *t;
	int64_t at_ms;

	(void)state;
	write_rules("{\"rules\":[" PLANTED_RULE "]}");
	t = testing_open(&alerts, flags);
	feed_fleet(t);
	/* In the first span there is too little before. */
	for (at_ms = SPAN_MS; at_ms < SPANS * SPAN_MS; at_ms += SPAN_MS) {
		if (!fleet_anomaly(&fleet, 1, AT_MS + at_ms, &anomaly))
			continue;
		planted++;
		found += found_within(t, &anomaly);
	}
	/* The fourth falls to next to nothing where the noise is a fifth. */
	assert_int_equal(planted, 4);
	assert_int_equal(found, 3);
	/* And the first span's, and one for nothing in 7680 judgements. */
	assert_int_equal(testing_number(t, "SELECT count(*) FROM alerts"), 5);
	testing_close(t);
}

static void
other_types_are_refused(void **state)
{

	(void)state;
	expect_one_type(testing_open(&alerts, NULL), "system-metrics",
	    "metric.sampled",
	    "{\"host\":\"h\",\"metric\":\"cpu\",\"value\":1,\"ts_ms\":1800000000000}",
	    "SELECT sum(records) FROM progress", "alerts.dead-letter");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_wrong_with_rules_is_said_with_its_place),
	    cmocka_unit_test(rules_are_bounded),
	    cmocka_unit_test(a_file_of_rules_is_bounded),
	    cmocka_unit_test(rules_of_the_program_are_good),
	    cmocka_unit_test(rules_fit_whom_they_name),
	    cmocka_unit_test(states_follow_from_judgements),
	    cmocka_unit_test(each_transition_comes_once_wherever_it_dies),
	    cmocka_unit_test(each_kind_judges_by_its_bound),
	    cmocka_unit_test(silence_resolves_and_then_forgets),
	    cmocka_unit_test(numbers_before_are_kept_and_forgotten),
	    cmocka_unit_test(a_rule_that_changes_begins_anew),
	    cmocka_unit_test(series_of_a_rule_that_is_gone_go),
	    cmocka_unit_test(a_longer_grace_opens_no_step_again),
	    cmocka_unit_test(a_shorter_grace_judges_without_a_record),
	    cmocka_unit_test(no_step_has_too_much_for_its_sum),
	    cmocka_unit_test(alerts_are_found_and_acknowledged),
	    cmocka_unit_test_setup_teardown(what_fires_is_repeated_each_minute,
		manager_start, manager_stop),
	    cmocka_unit_test_setup_teardown(
		an_alertmanager_that_comes_back_knows_what_fires, manager_start,
		manager_stop),
	    cmocka_unit_test_setup_teardown(
		a_transition_that_is_refused_holds_up_no_repeats, manager_start,
		manager_stop),
	    cmocka_unit_test_setup_teardown(
		many_that_fire_are_repeated_in_parts, manager_start,
		manager_stop),
	    cmocka_unit_test(an_alert_ends_after_its_start),
	    cmocka_unit_test(planted_anomalies_are_found),
	    cmocka_unit_test(other_types_are_refused),
	};

	return (
	    cmocka_run_group_tests(tests, make_rules_file, drop_rules_file));
}
