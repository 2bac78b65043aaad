#include <stdio.h>
#include <string.h>

#include "alerts.h"

static const char sql_next_alert[] =
    "UPDATE alerts_state SET alert = alert + 1 RETURNING alert";
static const char sql_next_seq[] =
    "UPDATE alerts_state SET seq = seq + 1 RETURNING seq";
static const char sql_insert[] =
    "INSERT INTO alerts (id, rule, kind, severity, summary, service, host,"
    " metric, partition, bound, state, value, score, started_ms, fired_ms,"
    " last_seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12,"
    " ?13, ?14, CASE ?11 WHEN 'firing' THEN ?14 END, 0)";
static const char sql_enter[] =
    "UPDATE alerts SET state = ?2, value = ?3, score = ?4, last_seq = ?6,"
    " fired_ms = CASE ?2 WHEN 'firing' THEN ?5 ELSE fired_ms END,"
    " resolved_ms = CASE ?2 WHEN 'resolved' THEN ?5 END WHERE id = ?1";
static const char sql_transition[] =
    "INSERT INTO transitions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
static const char sql_event[] =
    "SELECT " TRANSITION_COLUMNS " FROM transitions AS t"
    " JOIN alerts AS a ON a.id = t.alert WHERE t.seq = ?1";
static const char sql_ending[] =
    "SELECT a.rule, a.service, a.host, a.metric, a.partition, a.started_ms,"
    " a.value, a.score, p.watermark_ms FROM alerts AS a JOIN progress AS p"
    " ON p.partition = a.partition AND p.input = (a.service = '')"
    " WHERE a.id = ?1";

/*
 * The same transition, computed again from the same records, has the same
 * fingerprint: FNV-1a of 64 bits, as Prometheus's own are made.
 */
static void
hash_text(uint64_t *hash, const char *text)
{

	do {
		*hash = (*hash ^ (unsigned char)*text) *
		    UINT64_C(0x100000001b3);
	} while (*text++ != '\0');
}

struct identity {
	const char *rule, *subject, *metric;
	int64_t partition, started_ms;
};

static void
fingerprint(const struct identity *identity, const char *state,
    char out[EVENT_FINGERPRINT_SIZE])
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	char numbers[48];

	snprintf(numbers, sizeof(numbers), "%lld/%lld",
	    (long long)identity->partition, (long long)identity->started_ms);
	hash_text(&hash, identity->rule);
	hash_text(&hash, identity->subject);
	hash_text(&hash, identity->metric);
	hash_text(&hash, numbers);
	hash_text(&hash, state);
	snprintf(out, EVENT_FINGERPRINT_SIZE, "%016llx",
	    (unsigned long long)hash);
}

static void
take(char *out, size_t size, struct store_rows *rows, int column)
{

	snprintf(out, size, "%s", store_get_text(rows, column));
}

void
transition_read(struct store_rows *rows, struct alert_event *event)
{

	*event = (struct alert_event){.alert_id = store_get_i64(rows, 0),
	    .bound = store_get_f64(rows, 8),
	    .value = store_get_f64(rows, 10),
	    .scored = !store_is_null(rows, 11),
	    .score = store_get_f64(rows, 11),
	    .started_ms = store_get_i64(rows, 12),
	    .fired_ms = store_get_i64(rows, 13),
	    .resolved_ms = store_get_i64(rows, 14),
	    .ts_ms = store_get_i64(rows, 15)};
	take(event->rule, sizeof(event->rule), rows, 1);
	take(event->kind, sizeof(event->kind), rows, 2);
	take(event->severity, sizeof(event->severity), rows, 3);
	take(event->summary, sizeof(event->summary), rows, 4);
	take(event->service, sizeof(event->service), rows, 5);
	take(event->host, sizeof(event->host), rows, 6);
	take(event->metric, sizeof(event->metric), rows, 7);
	take(event->state, sizeof(event->state), rows, 9);
	take(event->reason, sizeof(event->reason), rows, 16);
	take(event->fingerprint, sizeof(event->fingerprint), rows, 17);
	/* The row may have gone on since. */
	if (strcmp(event->state, "resolved") != 0)
		event->resolved_ms = 0;
	if (strcmp(event->state, "pending") == 0)
		event->fired_ms = 0;
}

static int
emit(struct stream *s, int64_t seq, struct mr_error *err)
{
	char type[32], key[4 * EVENT_NAME_SIZE];
	struct buffer value = {0};
	struct alert_event event;
	struct store_rows *rows;
	int found;

	if ((rows = store_query(stream_store(s), err, sql_event,
		 store_i64(seq))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		transition_read(rows, &event);
	store_rows_done(rows);
	if (found != 1)
		return (-1);
	snprintf(type, sizeof(type), "alert.%.9s", event.state);
	snprintf(key, sizeof(key), "%s/%s%s/%s", event.rule, event.service,
	    event.host, event.metric);
	alert_event_encode(&event, &value);
	stream_say(s, "an alert", "state", event.state, "what", key, NULL);
	return (stream_emit_buffer(s, "alerts", type, key, &value, event.ts_ms,
	    err));
}

/* The row of the transition, what it makes of its alert's, and the record. */
static int
enter(struct stream *s, int64_t alert, const struct identity *identity,
    const char *state, int64_t at_ms, const struct verdict *verdict,
    const char *reason, struct mr_error *err)
{
	const struct store_value value = store_f64(verdict->value),
				 score = verdict->scored ?
	    store_f64(verdict->score) :
	    store_null();
	struct store *st = stream_store(s);
	char print[EVENT_FINGERPRINT_SIZE];
	int64_t seq;

	fingerprint(identity, state, print);
	if (store_find(st, err, &seq, sql_next_seq) != 1 ||
	    store_run(st, err, sql_enter, store_i64(alert), store_text(state),
		value, score, store_i64(at_ms), store_i64(seq)) == -1 ||
	    store_run(st, err, sql_transition, store_i64(seq), store_i64(alert),
		store_text(state), store_i64(at_ms), value, score,
		store_text(reason), store_text(print)) == -1)
		return (-1);
	return (emit(s, seq, err));
}

static int
insert(struct store *st, const struct series *series, const struct rule *rule,
    int64_t id, const char *state, const struct verdict *verdict,
    struct mr_error *err)
{
	const int host = series->input == INPUT_METRICS;

	return (store_run(st, err, sql_insert, store_i64(id),
		    store_text(rule->name), store_text(rule->kind_text),
		    store_text(rule->severity), store_text(rule->summary),
		    store_text(host ? "" : series->subject),
		    store_text(host ? series->subject : ""),
		    store_text(series->metric), store_i64(series->partition),
		    store_f64(rule->bound), store_text(state),
		    store_f64(verdict->value),
		    verdict->scored ? store_f64(verdict->score) : store_null(),
		    store_i64(series->track.started_ms)) == -1 ?
		-1 :
		0);
}

int
transition_add(struct stream *s, struct series *series, const struct rule *rule,
    enum track_state state, int64_t at_ms, const struct verdict *verdict,
    const char *reason, struct mr_error *err)
{
	const struct identity identity = {rule->name, series->subject,
	    series->metric, series->partition, series->track.started_ms};
	const char *text = track_state_text(state);
	struct store *st = stream_store(s);
	int64_t alert = series->alert;

	if (alert == 0 &&
	    (store_find(st, err, &alert, sql_next_alert) != 1 ||
		insert(st, series, rule, alert, text, verdict, err) == -1))
		return (-1);
	if (enter(s, alert, &identity, text, at_ms, verdict, reason, err) == -1)
		return (-1);
	series->alert = state == TRACK_RESOLVED ? 0 : alert;
	return (0);
}

int
transition_end(struct stream *s, int64_t alert, struct mr_error *err)
{
	char rule[EVENT_NAME_SIZE], subject[EVENT_NAME_SIZE],
	    metric[EVENT_NAME_SIZE];
	struct identity identity = {rule, subject, metric, 0, 0};
	struct verdict verdict = {0};
	struct store_rows *rows;
	int64_t at_ms = 0;
	int found;

	if ((rows = store_query(stream_store(s), err, sql_ending,
		 store_i64(alert))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		take(rule, sizeof(rule), rows, 0);
		snprintf(subject, sizeof(subject), "%s%s",
		    store_get_text(rows, 1), store_get_text(rows, 2));
		take(metric, sizeof(metric), rows, 3);
		identity.partition = store_get_i64(rows, 4);
		identity.started_ms = store_get_i64(rows, 5);
		verdict.value = store_get_f64(rows, 6);
		verdict.scored = !store_is_null(rows, 7);
		verdict.score = store_get_f64(rows, 7);
		at_ms = store_get_i64(rows, 8);
	}
	store_rows_done(rows);
	if (found != 1)
		return (found);
	return (enter(s, alert, &identity, "resolved", at_ms, &verdict,
	    "rule changed", err));
}
