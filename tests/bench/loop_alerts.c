/*
 * loop_alerts -- alerts' work without Millrace: the bare loop to compare
 * with.
 *
 *	loop_alerts DB RECORDS BATCH
 *
 * The statements of the service, steps judged among them by the rules of the
 * program, and of its core, on SQLite directly; samples as of
 * metric-producer --simulate 5 --seed 1.  What an alert is to be written is
 * left out, so the loop has a little less to do.
 */
#include "bare.h"

#include "../../cmd/alerts/alerts.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/alerts/deliver.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/alerts/judge.c" /* NOLINT(bugprone-suspicious-include) */
#undef HOUR_MS
#include "../../cmd/alerts/rules.c" /* NOLINT(bugprone-suspicious-include) */
#undef METRICS
#undef COUNT
#include "../../cmd/alerts/track.c" /* NOLINT(bugprone-suspicious-include) */
#define insert transition_insert
#define emit transition_emit
#define take transition_take
#include "../../cmd/alerts/transition.c" /* NOLINT(bugprone-suspicious-include) */
#undef take
#include "../../cmd/metric-producer/fleet.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/metric-producer/sample.c" /* NOLINT(bugprone-suspicious-include) */

#define SOURCE "/millrace/metric-producer/00000000000000000000000000000b1c"
#define TOPIC "system-metrics"
#define PARTITIONS 4
#define GRACE_MS 5000
#define KEEP_MS INT64_C(2592000000)

enum statement {
	PROGRESS = BARE_OWN,
	FIND_SERIES,
	ADD_SERIES,
	STEP,
	DUE,
	SERIES,
	UPDATE_SERIES,
	JUDGED,
	HISTORY,
	DROP_BEFORE,
	POINTS,
	SEASON,
	KEEP_SEASON,
	STATEMENTS
};
static const char *const sql[STATEMENTS - BARE_OWN] = {sql_progress,
    sql_find_series, sql_add_series, sql_step, sql_due, sql_series,
    sql_update_series, sql_judged, sql_keep, sql_drop_before, sql_points,
    sql_season, sql_keep_season};
static const struct fleet_settings settings = {.hosts = 5,
    .every_ms = 1000,
    .anomaly_every_ms = 600000,
    .start_ms = INT64_C(1790000000000),
    .seed = 1};

static void
real(int s, int i, double value)
{

	sqlite3_bind_double(bare_stmts[s], i, value);
}

static double
real_column(int s, int i)
{

	return (sqlite3_column_double(bare_stmts[s], i));
}

static void
open_file(const char *path)
{
	struct mr_error err;

	if (rules_read(NULL, &alerts_rules, &err) == -1)
		bare_die(err.message);
	bare_open(path, "alerts", migrations_alerts, sql, STATEMENTS - BARE_OWN,
	    "");
}

static void
encode(int64_t n, struct buffer *value)
{
	static struct fleet fleet;

	(void)n;
	fleet_step(&fleet, &settings, settings.start_ms, 1);
	metric_event_encode(&fleet.made[0], value);
}

static void
before(void)
{

	bare_begin(SOURCE, PARTITIONS);
}

/* ---- a step --------------------------------------------------------------- */

static void
keep_step(const struct due *due)
{

	bare_number(HISTORY, 1, due->series);
	bare_number(HISTORY, 2, due->at_ms);
	bare_number(HISTORY, 3, due->count);
	bare_number(HISTORY, 4, due->sum);
	bare_run(HISTORY);
}

static int
robust(const struct rule *rule, const struct due *due, double value)
{
	double numbers[SCORE_WINDOW + 1], score = 0;
	int64_t oldest_ms = 0;
	int count = 0, known;

	bare_number(POINTS, 1, due->series);
	while (bare_step(POINTS)) {
		if (count == 0)
			oldest_ms = bare_column(POINTS, 0);
		numbers[count++] = mean_of(bare_column(POINTS, 1),
		    bare_column(POINTS, 2));
	}
	numbers[count] = value;
	known = score_last(numbers, count + 1, &score);
	if (count >= rule->points) {
		bare_number(DROP_BEFORE, 1, due->series);
		bare_number(DROP_BEFORE, 2, oldest_ms);
		bare_run(DROP_BEFORE);
	}
	keep_step(due);
	return (known && (score >= rule->bound || score <= -rule->bound));
}

static int
seasonal(const struct rule *rule, const struct due *due, double value)
{
	const int64_t hour = (due->at_ms - rule->every_ms) / 3600000 % 24;
	struct score_level level = {0};
	double score;
	int known;

	bare_number(SEASON, 1, due->series);
	bare_number(SEASON, 2, hour);
	while (bare_step(SEASON))
		level = (struct score_level){bare_column(SEASON, 0),
		    real_column(SEASON, 1), real_column(SEASON, 2)};
	known = score_follow(&level, value, rule->alpha, rule->least,
	    rule->bound, &score);
	bare_number(KEEP_SEASON, 1, due->series);
	bare_number(KEEP_SEASON, 2, hour);
	bare_number(KEEP_SEASON, 3, level.count);
	real(KEEP_SEASON, 4, level.level);
	real(KEEP_SEASON, 5, level.variance);
	bare_run(KEEP_SEASON);
	return (known && (score >= rule->bound || score <= -rule->bound));
}

static void
judge_step(const struct due *due)
{
	const double value = mean_of(due->count, due->sum);
	const struct rule *rule;
	struct track track;
	int truth;

	bare_number(SERIES, 1, due->series);
	if (!bare_step(SERIES))
		bare_die("a step without its series");
	rule = rule_find(&alerts_rules,
	    (const char *)sqlite3_column_text(bare_stmts[SERIES], 0));
	track = (struct track){(enum track_state)bare_column(SERIES, 3),
	    bare_column(SERIES, 5), bare_column(SERIES, 6)};
	bare_run(SERIES);
	truth = rule->kind == RULE_ZSCORE ? robust(rule, due, value) :
	    rule->kind == RULE_SEASONAL   ? seasonal(rule, due, value) :
					    value > rule->bound;
	track_step(&track, rule, due->at_ms, truth);
	bare_number(UPDATE_SERIES, 1, due->series);
	bare_number(UPDATE_SERIES, 2, track.state);
	bare_number(UPDATE_SERIES, 3, track.state != TRACK_NONE);
	bare_number(UPDATE_SERIES, 4, track.started_ms);
	bare_number(UPDATE_SERIES, 5, track.cool_ms);
	bare_number(UPDATE_SERIES, 6, due->at_ms + KEEP_MS);
	bare_run(UPDATE_SERIES);
	bare_number(JUDGED, 1, INPUT_METRICS);
	bare_number(JUDGED, 2, due->partition);
	bare_number(JUDGED, 3, due->at_ms);
	bare_number(JUDGED, 4, due->series);
	bare_run(JUDGED);
}

static int
judge_next(int partition, int64_t until_ms)
{
	struct due due = {.partition = partition};

	bare_number(DUE, 1, INPUT_METRICS);
	bare_number(DUE, 2, partition);
	bare_number(DUE, 3, until_ms);
	if (!bare_step(DUE))
		return (0);
	due.at_ms = bare_column(DUE, 0);
	due.series = bare_column(DUE, 1);
	due.count = bare_column(DUE, 2);
	due.sum = bare_column(DUE, 3);
	bare_run(DUE);
	judge_step(&due);
	return (1);
}

/* ---- a record ------------------------------------------------------------- */

static int64_t
series_of(const struct rule *rule, const struct metric_event *event,
    int partition, int64_t end_ms)
{
	int64_t id = 0;
	int s;

	for (s = FIND_SERIES; id == 0 && s <= ADD_SERIES; s++) {
		bare_text(s, 1, rule->name);
		bare_number(s, 2, INPUT_METRICS);
		bare_number(s, 3, partition);
		bare_text(s, 4, event->host);
		bare_text(s, 5, event->metric);
		if (s == ADD_SERIES)
			bare_number(s, 6, end_ms + KEEP_MS);
		while (bare_step(s))
			id = bare_column(s, 0);
	}
	return (id);
}

static void
add_to_steps(const struct metric_event *event, int partition)
{
	const struct rule *rule;
	int64_t end_ms;
	int i;

	for (i = 0; i < alerts_rules.count; i++) {
		rule = &alerts_rules.list[i];
		if (!rule_fits(rule, INPUT_METRICS, event->host, event->metric))
			continue;
		end_ms = event->ts_ms - event->ts_ms % rule->every_ms +
		    rule->every_ms;
		bare_number(STEP, 1, INPUT_METRICS);
		bare_number(STEP, 2, partition);
		bare_number(STEP, 3, end_ms);
		bare_number(STEP, 4, series_of(rule, event, partition, end_ms));
		bare_number(STEP, 5, event->value_milli);
		bare_run(STEP);
	}
}

static void
apply_record(const struct buffer *value, int64_t n)
{
	struct metric_event event;
	struct mr_error err;
	int64_t judged_ms = 0;
	int partition, i;

	if (metric_event_decode(value->data, value->length, &event, &err) == -1)
		bare_die(err.message);
	partition = kafka_partition_of(event.host, strlen(event.host),
	    PARTITIONS);
	bare_number(PROGRESS, 1, INPUT_METRICS);
	bare_number(PROGRESS, 2, partition);
	bare_number(PROGRESS, 3, event.ts_ms);
	bare_number(PROGRESS, 4, GRACE_MS);
	while (bare_step(PROGRESS))
		judged_ms = bare_column(PROGRESS, 0);
	add_to_steps(&event, partition);
	for (i = 0; i < DUE_A_RECORD && judge_next(partition, judged_ms); i++)
		;
	bare_marks[partition] = n + 1;
	bare_nexts[partition]++;
}

static void
after(int64_t n)
{

	(void)n;
	bare_commit(SOURCE, TOPIC, PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before,
	    apply_record, after};

	return (bare_main(argc, argv, &loop));
}
