#include <stdio.h>
#include <string.h>

#include "alerts.h"
#include "deliver.h"

#define DUE_A_RECORD 64 /* steps and silences that a record may bring about */
#define DUE_A_TICK 500
#define EXPIRE_MOST 500 /* alerts a tick */

struct rules alerts_rules;
const char *alerts_rules_path;
int64_t alerts_grace_ms;
int64_t alerts_keep_ms;
int64_t alerts_ahead_ms;

/* The rules in force, as of the start: alerts_state's rules_changes. */
static int64_t rules_changes;

/* An older version's instance may have left series of a rule that was gone. */
static const char sql_known[] =
    "SELECT name, definition FROM rules UNION ALL SELECT rule, '' FROM"
    " (SELECT DISTINCT rule FROM series) WHERE rule NOT IN"
    " (SELECT name FROM rules) ORDER BY name";
static const char sql_rule[] =
    "INSERT INTO rules VALUES (?1, ?2) ON CONFLICT DO NOTHING";
static const char sql_rules_changed[] =
    "UPDATE alerts_state SET rules_changes = rules_changes + 1";
static const char sql_rules_changes[] =
    "SELECT rules_changes FROM alerts_state";
static const char sql_drop_rule[] = "DELETE FROM rules WHERE name = ?1";
/* The alerts of a rule's series are for the next tick to resolve. */
static const char sql_end_alerts[] =
    "INSERT INTO ending SELECT alert FROM series"
    " WHERE rule = ?1 AND alert <> 0";
static const char sql_end_history[] =
    "DELETE FROM history WHERE series IN"
    " (SELECT id FROM series WHERE rule = ?1)";
static const char sql_end_seasons[] =
    "DELETE FROM seasons WHERE series IN"
    " (SELECT id FROM series WHERE rule = ?1)";
static const char sql_end_steps[] = "DELETE FROM steps WHERE series IN"
				    " (SELECT id FROM series WHERE rule = ?1)";
static const char sql_end_series[] = "DELETE FROM series WHERE rule = ?1";
static const char sql_next_ending[] =
    "SELECT alert FROM ending ORDER BY alert LIMIT 1";
static const char sql_ended[] = "DELETE FROM ending WHERE alert = ?1";

static const char sql_progress[] =
    "INSERT INTO progress (input, partition, watermark_ms, judged_ms, records)"
    " VALUES (?1, ?2, ?3, ?3 - ?4, 1)"
    " ON CONFLICT (input, partition) DO UPDATE SET"
    " watermark_ms = max(watermark_ms, ?3), records = records + 1,"
    " judged_ms = max(judged_ms, watermark_ms - ?4, ?3 - ?4)"
    " RETURNING judged_ms";
/* Where no record comes: --grace may be less than before. */
static const char sql_judge[] =
    "UPDATE progress SET judged_ms = watermark_ms - ?1"
    " WHERE judged_ms < watermark_ms - ?1";
static const char sql_late[] =
    "UPDATE progress SET late = late + 1 WHERE input = ?1 AND partition = ?2";
static const char sql_find_series[] =
    "SELECT id FROM series WHERE rule = ?1 AND input = ?2 AND partition = ?3"
    " AND subject = ?4 AND metric = ?5";
static const char sql_add_series[] =
    "INSERT INTO series (rule, input, partition, subject, metric, due_ms)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id";
/* A sum of nine thousand of the largest there are stays as it is. */
static const char sql_step[] =
    "INSERT INTO steps VALUES (?1, ?2, ?3, ?4, 1, ?5)"
    " ON CONFLICT (input, partition, end_ms, series) DO UPDATE SET"
    " count = count + 1,"
    " sum = iif(abs(sum) > 9000000000000000000, sum, sum + ?5)";

/*
 * What is due next in a partition, up to ?3: a step that ended, or the time of
 * a series that none came for; steps first, at the same time.
 */
static const char sql_due[] =
    "SELECT at_ms, series, count, sum FROM"
    " (SELECT * FROM (SELECT end_ms AS at_ms, series, count, sum FROM steps"
    "   WHERE input = ?1 AND partition = ?2 AND end_ms <= ?3"
    "   ORDER BY end_ms, series LIMIT 1)"
    "  UNION ALL"
    "  SELECT * FROM (SELECT due_ms, id, 0, 0 FROM series"
    "   WHERE input = ?1 AND partition = ?2 AND due_ms <= ?3"
    "   ORDER BY due_ms, id LIMIT 1))"
    " ORDER BY at_ms, count = 0 LIMIT 1";
static const char sql_series[] =
    "SELECT rule, subject, metric, state, alert, started_ms, cool_ms"
    " FROM series WHERE id = ?1";
static const char sql_update_series[] =
    "UPDATE series SET state = ?2, alert = ?3, started_ms = ?4, cool_ms = ?5,"
    " due_ms = ?6 WHERE id = ?1";
static const char sql_judged[] =
    "DELETE FROM steps WHERE input = ?1 AND partition = ?2 AND end_ms = ?3"
    " AND series = ?4";
static const char sql_more_steps[] =
    "SELECT 1 FROM steps WHERE input = ?1 AND partition = ?2 AND series = ?3"
    " LIMIT 1";
static const char sql_drop_series[] = "DELETE FROM series WHERE id = ?1";

static const char sql_partitions[] =
    "SELECT input, partition, judged_ms FROM progress"
    " WHERE (input, partition) > (?1, ?2) ORDER BY input, partition LIMIT 1";
/* Never before it was delivered.  By the other index, which SQLite would take,
 * all that were resolved are read and sorted, for each that goes. */
static const char sql_expired[] =
    "SELECT id FROM alerts INDEXED BY alerts_resolved"
    " WHERE state = 'resolved' AND resolved_ms < ?1"
    " AND (fired_ms IS NULL OR last_seq <="
    "  coalesce((SELECT min(seq) FROM deliveries), last_seq))"
    " ORDER BY resolved_ms, id LIMIT 1";
static const char sql_drop_transitions[] =
    "DELETE FROM transitions WHERE alert = ?1";
static const char sql_drop_alert[] = "DELETE FROM alerts WHERE id = ?1";
static const char sql_count_expired[] =
    "UPDATE alerts_state SET expired = expired + 1";

static const char sql_acknowledge[] =
    "UPDATE alerts SET acknowledged_ms = ?2"
    " WHERE id = ?1 AND acknowledged_ms IS NULL";
static const char sql_count_acknowledged[] =
    "UPDATE alerts_state SET acknowledged = acknowledged + 1";
static const char sql_acknowledged[] =
    "SELECT acknowledged_ms FROM alerts WHERE id = ?1";

/* ---- rules that have changed -------------------------------------------------- */

/* One that the file has and that isn't in force as it reads there: 1 and its
 * name, 0 if there is none, -1. */
static int
find_outdated(struct store *st, char name[EVENT_NAME_SIZE],
    struct mr_error *err)
{
	const struct rule *rule;
	struct store_rows *rows;
	int more;

	if ((rows = store_query(st, err, sql_known)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		snprintf(name, EVENT_NAME_SIZE, "%s", store_get_text(rows, 0));
		rule = rule_find(&alerts_rules, name);
		if (rule == NULL ||
		    strcmp(rule->definition, store_get_text(rows, 1)) != 0)
			break;
	}
	store_rows_done(rows);
	return (more);
}

/* End one that isn't in force as it reads. */
static int
end_rule(struct store *st, const char *name, struct mr_error *err)
{
	static const char *const end[] = {sql_end_alerts, sql_end_history,
	    sql_end_seasons, sql_end_steps, sql_end_series, sql_drop_rule};
	size_t i;

	for (i = 0; i < sizeof(end) / sizeof(end[0]); i++)
		if (store_run(st, err, end[i], store_text(name)) == -1)
			return (-1);
	return (0);
}

/* Have those of the file in force: 1 if they weren't, 0 or -1. */
static int
set_rules(struct store *st, struct mr_error *err)
{
	char name[EVENT_NAME_SIZE];
	int64_t added;
	int i, found, changed = 0;

	while ((found = find_outdated(st, name, err)) == 1) {
		if (end_rule(st, name, err) == -1)
			return (-1);
		changed = 1;
	}
	for (i = 0; found == 0 && i < alerts_rules.count; i++) {
		if ((added = store_run(st, err, sql_rule,
			 store_text(alerts_rules.list[i].name),
			 store_text(alerts_rules.list[i].definition))) == -1)
			return (-1);
		changed |= added == 1;
	}
	return (found == 0 ? changed : -1);
}

int
alerts_open(struct stream *s, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int changed;

	if (rules_read(alerts_rules_path, &alerts_rules, err) == -1 ||
	    (changed = set_rules(st, err)) == -1 ||
	    (changed && store_run(st, err, sql_rules_changed) == -1) ||
	    store_find(st, err, &rules_changes, sql_rules_changes) != 1)
		return (-1);
	return (deliver_open(s, err));
}

/* The rules in force are those of this instance: 0, or -1. */
static int
check_rules(struct store *st, struct mr_error *err)
{
	int64_t now = 0;

	if (store_find(st, err, &now, sql_rules_changes) != 1)
		return (-1);
	return (now == rules_changes ?
		0 :
		mr_error_set(err, MR_FATAL,
		    "another instance has started with other rules: give all "
		    "the same --rules"));
}

void
alerts_close(struct stream *s)
{

	(void)s;
	deliver_close();
}

/* Resolve alerts whose rules are no more, ${most} at the most; 0 or -1. */
static int
end_alerts(struct stream *s, int most, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int64_t alert;
	int found = 0;

	for (; most > 0 &&
	     (found = store_find(st, err, &alert, sql_next_ending)) == 1;
	     most--)
		if (transition_end(s, alert, err) == -1 ||
		    store_run(st, err, sql_ended, store_i64(alert)) == -1)
			return (-1);
	return (found == -1 ? -1 : 0);
}

/* ---- what is due --------------------------------------------------------------- */

struct due {
	enum rule_input input;
	int partition;
	int64_t at_ms, series;
	int64_t count, sum; /* 0: nothing came */
};

/* 1, 0 if nothing is due yet, -1. */
static int
find_due(struct store *st, int64_t until_ms, struct due *due,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_due, store_i64(due->input),
		 store_i64(due->partition), store_i64(until_ms))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		due->at_ms = store_get_i64(rows, 0);
		due->series = store_get_i64(rows, 1);
		due->count = store_get_i64(rows, 2);
		due->sum = store_get_i64(rows, 3);
	}
	store_rows_done(rows);
	return (found);
}

/* The series, and its rule: which there is, or alerts_open had ended it.
 * NULL on error. */
static const struct rule *
load_series(struct store *st, const struct due *due, struct series *series,
    struct mr_error *err)
{
	const struct rule *rule = NULL;
	struct store_rows *rows;
	int found;

	*series = (struct series){.id = due->series,
	    .input = due->input,
	    .partition = due->partition};
	if ((rows = store_query(st, err, sql_series, store_i64(due->series))) ==
	    NULL)
		return (NULL);
	if ((found = store_next(rows, err)) == 1) {
		rule = rule_find(&alerts_rules, store_get_text(rows, 0));
		snprintf(series->subject, sizeof(series->subject), "%s",
		    store_get_text(rows, 1));
		snprintf(series->metric, sizeof(series->metric), "%s",
		    store_get_text(rows, 2));
		series->track = (struct track){(enum track_state)
						   store_get_i64(rows, 3),
		    store_get_i64(rows, 5), store_get_i64(rows, 6)};
		series->alert = store_get_i64(rows, 4);
	}
	store_rows_done(rows);
	if (found != -1 && rule == NULL)
		mr_error_set(err, MR_FATAL,
		    "the file has a series of a rule that isn't in force");
	return (rule);
}

/* A judgement, or none, and what follows; and when it is due again. */
static int
step_series(struct stream *s, struct series *series, const struct rule *rule,
    int64_t at_ms, const struct verdict *verdict, const char *reason,
    struct mr_error *err)
{
	const enum track_state entered = track_step(&series->track, rule, at_ms,
	    verdict->truth);
	const char *why = entered == TRACK_RESOLVED ? reason : "";

	if (entered != TRACK_NONE &&
	    transition_add(s, series, rule, entered, at_ms, verdict, why,
		err) == -1)
		return (-1);
	return (
	    store_run(stream_store(s), err, sql_update_series,
		store_i64(series->id), store_i64(series->track.state),
		store_i64(series->alert), store_i64(series->track.started_ms),
		store_i64(series->track.cool_ms),
		store_i64(at_ms +
		    (series->alert != 0 ? rule->silent_ms : alerts_keep_ms))) ==
		    -1 ?
		-1 :
		0);
}

static int
forget_series(struct store *st, const struct due *due, struct mr_error *err)
{
	const struct store_value id = store_i64(due->series);
	int64_t one;
	int found;

	if (judge_forget(st, due->series, err) == -1 ||
	    (found = store_find(st, err, &one, sql_more_steps,
		 store_i64(due->input), store_i64(due->partition), id)) == -1)
		return (-1);
	/* It has come back, and begins anew. */
	if (found == 1)
		return (store_run(st, err, sql_update_series, id, store_i64(0),
			    store_i64(0), store_i64(0), store_i64(0),
			    store_i64(due->at_ms + alerts_keep_ms)) == -1 ?
			-1 :
			0);
	return (store_run(st, err, sql_drop_series, id) == -1 ? -1 : 0);
}

static int
work_off(struct stream *s, const struct due *due, struct mr_error *err)
{
	struct store *st = stream_store(s);
	struct verdict verdict = {0};
	const struct rule *rule;
	struct series series;

	if ((rule = load_series(st, due, &series, err)) == NULL)
		return (-1);
	if (due->count == 0) {
		if (series.alert == 0)
			return (forget_series(st, due, err));
		return (step_series(s, &series, rule, due->at_ms, &verdict,
		    "silent", err));
	}
	if (judge(st, rule, series.id, due->at_ms, due->count, due->sum,
		&verdict, err) == -1 ||
	    step_series(s, &series, rule, due->at_ms, &verdict, "cleared",
		err) == -1)
		return (-1);
	return (store_run(st, err, sql_judged, store_i64(due->input),
		    store_i64(due->partition), store_i64(due->at_ms),
		    store_i64(due->series)) == -1 ?
		-1 :
		0);
}

/* All that is due in a partition, but ${most} at the most; how much, or -1. */
static int
drain(struct stream *s, struct due *due, int64_t judged_ms, int most,
    struct mr_error *err)
{
	int done, found = 0;

	for (done = 0; done < most; done++) {
		found = find_due(stream_store(s), judged_ms, due, err);
		if (found != 1)
			break;
		if (work_off(s, due, err) == -1)
			return (-1);
	}
	return (found == -1 ? -1 : done);
}

/* ---- a record ------------------------------------------------------------------ */

/* What a record says, whichever input it is of. */
struct observation {
	enum rule_input input;
	int partition;
	const char *subject, *metric;
	int64_t ts_ms;
	int64_t level; /* of a line */
	int64_t value_milli; /* of a sample */
};

static int
find_series(struct store *st, const struct rule *rule,
    const struct observation *o, int64_t end_ms, int64_t *id,
    struct mr_error *err)
{
	const struct store_value name = store_text(rule->name),
				 input = store_i64(o->input),
				 partition = store_i64(o->partition),
				 subject = store_text(o->subject),
				 metric = store_text(o->metric);
	int found = store_find(st, err, id, sql_find_series, name, input,
	    partition, subject, metric);

	if (found == 0)
		found = store_find(st, err, id, sql_add_series, name, input,
		    partition, subject, metric,
		    store_i64(end_ms + alerts_keep_ms));
	return (found == 1 ? 0 : -1);
}

/* Add it to the steps of all rules that are about it: 1 if it is too late for
 * one of them, 0 or -1. */
static int
observe(struct store *st, const struct observation *o, int64_t judged_ms,
    struct mr_error *err)
{
	const struct rule *rule;
	int64_t end_ms, series, sum;
	int i, late = 0;

	for (i = 0; i < alerts_rules.count; i++) {
		rule = &alerts_rules.list[i];
		if (!rule_fits(rule, o->input, o->subject, o->metric))
			continue;
		end_ms = o->ts_ms - o->ts_ms % rule->every_ms + rule->every_ms;
		if (end_ms <= judged_ms) {
			late = 1;
			continue;
		}
		sum = o->input == INPUT_LOGS ? o->level >= rule->level :
					       o->value_milli;
		if (find_series(st, rule, o, end_ms, &series, err) == -1 ||
		    store_run(st, err, sql_step, store_i64(o->input),
			store_i64(o->partition), store_i64(end_ms),
			store_i64(series), store_i64(sum)) == -1)
			return (-1);
	}
	return (late);
}

static int
apply(struct stream *s, const struct stream_record *record,
    const struct observation *o, struct mr_error *err)
{
	struct due due = {.input = o->input, .partition = o->partition};
	struct store *st = stream_store(s);
	int64_t judged_ms;
	int late;

	if (check_rules(st, err) == -1)
		return (-1);
	/* One that is far ahead would make all that follow late. */
	if (event_check_ahead("ts_ms", o->ts_ms, record->ts_ms, alerts_ahead_ms,
		"--ahead", err) != 0)
		return (-1);
	if (store_find(st, err, &judged_ms, sql_progress, store_i64(o->input),
		store_i64(o->partition), store_i64(o->ts_ms),
		store_i64(alerts_grace_ms)) != 1 ||
	    (late = observe(st, o, judged_ms, err)) == -1)
		return (-1);
	if (late &&
	    store_run(st, err, sql_late, store_i64(o->input),
		store_i64(o->partition)) == -1)
		return (-1);
	return (drain(s, &due, judged_ms, DUE_A_RECORD, err) == -1 ? -1 : 0);
}

static int
apply_line(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct log_event event;

	if (log_event_decode(record->value, record->value_size, &event, err) !=
	    0)
		return (-1);
	return (apply(s, record,
	    &(struct observation){.input = INPUT_LOGS,
		.partition = record->partition,
		.subject = event.service,
		.metric = "",
		.ts_ms = event.ts_ms,
		.level = event.level},
	    err));
}

int
alerts_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct metric_event event;

	if (record->input == INPUT_LOGS)
		return (apply_line(s, record, err));
	if (event_check_type(record->type, METRIC_EVENT_TYPE, err) != 0 ||
	    metric_event_decode(record->value, record->value_size, &event,
		err) != 0)
		return (-1);
	return (apply(s, record,
	    &(struct observation){.input = INPUT_METRICS,
		.partition = record->partition,
		.subject = event.host,
		.metric = event.metric,
		.ts_ms = event.ts_ms,
		.value_milli = event.value_milli},
	    err));
}

/* ---- commands and ticks -------------------------------------------------------- */

static int
acknowledge(struct stream *s, int64_t id, int64_t now_ms,
    struct stream_answer *answer, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int64_t changed, acknowledged_ms;
	struct json_writer w;
	int found;

	if ((changed = store_run(st, err, sql_acknowledge, store_i64(id),
		 store_i64(now_ms))) == -1 ||
	    (changed == 1 &&
		store_run(st, err, sql_count_acknowledged) == -1) ||
	    (found = store_find(st, err, &acknowledged_ms, sql_acknowledged,
		 store_i64(id))) == -1)
		return (-1);
	if (found == 0) {
		answer->status = 404;
		buffer_add_text(&answer->body, "there is no alert of this id");
		return (0);
	}
	json_init(&w, &answer->body);
	json_object_open(&w);
	json_member_i64(&w, "id", id);
	json_member_i64(&w, "acknowledged_ms", acknowledged_ms);
	json_object_close(&w);
	return (0);
}

int
alerts_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{
	int64_t id;

	switch ((enum alerts_command)command->kind) {
	case ALERTS_ACKNOWLEDGE:
		memcpy(&id, command->input, sizeof(id));
		return (acknowledge(s, id, command->now_ms, answer, err));
	case ALERTS_DELIVER:
		return (deliver_note(stream_store(s), command->input,
		    command->now_ms, err));
	}
	return (mr_error_set(err, MR_REJECT, "no such command"));
}

/* The next partition after the one in *due: 1, 0 if there is none, -1. */
static int
next_partition(struct store *st, struct due *due, int64_t *judged_ms,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_partitions, store_i64(due->input),
		 store_i64(due->partition))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		due->input = (enum rule_input)store_get_i64(rows, 0);
		due->partition = (int)store_get_i64(rows, 1);
		*judged_ms = store_get_i64(rows, 2);
	}
	store_rows_done(rows);
	return (found);
}

static int
expire(struct store *st, int64_t before_ms, struct mr_error *err)
{
	int64_t id;
	int i, found = 1;

	for (i = 0; i < EXPIRE_MOST; i++) {
		found = store_find(st, err, &id, sql_expired,
		    store_i64(before_ms));
		if (found != 1)
			break;
		if (store_run(st, err, sql_drop_transitions, store_i64(id)) ==
			-1 ||
		    store_run(st, err, sql_drop_alert, store_i64(id)) == -1 ||
		    store_run(st, err, sql_count_expired) == -1)
			return (-1);
	}
	return (found == -1 ? -1 : 0);
}

int
alerts_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	struct due due = {.input = INPUT_LOGS, .partition = -1};
	struct store *st = stream_store(s);
	int64_t judged_ms = 0;
	int most = DUE_A_TICK, done, found;

	if (check_rules(st, err) == -1 || end_alerts(s, most, err) == -1 ||
	    store_run(st, err, sql_judge, store_i64(alerts_grace_ms)) == -1 ||
	    deliver_forget(s, err) == -1)
		return (-1);
	while (most > 0 &&
	    (found = next_partition(st, &due, &judged_ms, err)) != 0) {
		if (found == -1 ||
		    (done = drain(s, &due, judged_ms, most, err)) == -1)
			return (-1);
		most -= done;
	}
	return (expire(st, now_ms - alerts_keep_ms, err));
}
