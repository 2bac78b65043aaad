#include <string.h>

#include "logs.h"

#define AHEAD_MOST_MS INT64_C(86400000) /* of the record's own time */
#define DROP_A_TICK 5000
#define DROP_A_RECORD 4 /* so that texts of any size are made up for */

int64_t logs_keep_ms;
int64_t logs_keep_bytes;
struct config_list logs_rules;

static const char sql_count[] =
    "UPDATE logs_state SET last_id = last_id + 1, entries = entries + 1,"
    " bytes = bytes + ?1";
static const char sql_state[] = "SELECT last_id, bytes FROM logs_state";
static const char sql_insert[] =
    "INSERT INTO entries (id, ts_ms, service, severity, host, request_id,"
    " message, stack, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
static const char sql_index[] =
    "INSERT INTO words (rowid, message, stack) VALUES (?1, ?2, ?3)";
/* By their own times: one that is ahead keeps none behind it. */
static const char sql_oldest[] =
    "SELECT id, bytes FROM entries WHERE ts_ms < ?1 ORDER BY ts_ms LIMIT 1";
/* In WHERE it would be asked of each line, though it is the same for all. */
static const char sql_first[] = "SELECT id, bytes FROM entries ORDER BY id"
				" LIMIT (SELECT bytes > ?1 FROM logs_state)";
/* FTS5 has to be told the words that it is to forget. */
static const char sql_unindex[] =
    "INSERT INTO words (words, rowid, message, stack)"
    " SELECT 'delete', id, message, stack FROM entries WHERE id = ?1";
static const char sql_delete[] = "DELETE FROM entries WHERE id = ?1";
static const char sql_uncount[] =
    "UPDATE logs_state SET entries = entries - 1, bytes = bytes - ?1";

int
logs_open(struct stream *s, struct mr_error *err)
{
	(void)s;
	return (rules_parse(&logs_rules, err));
}

/* The first line that ${sql} finds: 1 and its id, 0 if there is none, -1. */
static int
find_line(struct store *st, const char *sql, int64_t bound, int64_t *id,
    int64_t *bytes, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql, store_i64(bound))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		*id = store_get_i64(rows, 0);
		*bytes = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	return (found);
}

/* One that is older than ${before_ms}, or the first if all are too much:
 * 1 and its id, 0 if all may stay, -1. */
static int
find_outdated(struct store *st, int64_t before_ms, int64_t *id, int64_t *bytes,
    struct mr_error *err)
{
	int found = find_line(st, sql_oldest, before_ms, id, bytes, err);

	if (found != 0)
		return (found);
	return (find_line(st, sql_first, logs_keep_bytes, id, bytes, err));
}

/* Drop lines that may not stay, ${most} at the most. */
static int
drop_outdated(struct store *st, int64_t before_ms, int most,
    struct mr_error *err)
{
	int64_t id = 0, bytes = 0;
	int found = 0;

	for (; most > 0 &&
	     (found = find_outdated(st, before_ms, &id, &bytes, err)) == 1;
	     most--)
		if (store_run(st, err, sql_unindex, store_i64(id)) == -1 ||
		    store_run(st, err, sql_delete, store_i64(id)) == -1 ||
		    store_run(st, err, sql_uncount, store_i64(bytes)) == -1)
			return (-1);
	return (found == -1 ? -1 : 0);
}

static int
insert(struct store *st, const struct log_event *event, int64_t id,
    int64_t bytes, struct mr_error *err)
{
	const struct store_value message = store_text(event->message);
	const struct store_value stack = store_text(event->stack);

	if (store_run(st, err, sql_insert, store_i64(id),
		store_i64(event->ts_ms), store_text(event->service),
		store_i64(event->level), store_text(event->host),
		store_text(event->request_id), message, stack,
		store_i64(bytes)) == -1)
		return (-1);
	return (
	    store_run(st, err, sql_index, store_i64(id), message, stack) == -1 ?
		-1 :
		0);
}

/* The next id, and whether all texts are too much now. */
static int
count(struct store *st, int64_t bytes, int64_t *id, int *over,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if (store_run(st, err, sql_count, store_i64(bytes)) == -1 ||
	    (rows = store_query(st, err, sql_state)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		*id = store_get_i64(rows, 0);
		*over = store_get_i64(rows, 1) > logs_keep_bytes;
	}
	store_rows_done(rows);
	return (found == 1 ? 0 : -1);
}

static int
route(struct stream *s, const struct stream_record *record,
    const struct log_event *event, struct mr_error *err)
{
	const struct stream_output output = {.topic = "application-errors",
	    .type = "log.routed",
	    .key = event->service,
	    .key_size = strlen(event->service),
	    .value = record->value,
	    .value_size = record->value_size,
	    .ts_ms = event->ts_ms};

	return (rules_match(event) ? stream_emit(s, &output, err) : 0);
}

int
logs_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	int64_t bytes = (int64_t)record->value_size, id = 0;
	struct log_event event;
	int over = 0;

	if (log_event_decode(record->value, record->value_size, &event, err) !=
	    0)
		return (-1);
	if (event_check_ahead("ts_ms", event.ts_ms, record->ts_ms,
		AHEAD_MOST_MS, NULL, err) != 0)
		return (-1);
	if (count(st, bytes, &id, &over, err) == -1 ||
	    insert(st, &event, id, bytes, err) == -1)
		return (-1);
	if (over && drop_outdated(st, 0, DROP_A_RECORD, err) == -1)
		return (-1);
	return (route(s, record, &event, err));
}

int
logs_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	return (drop_outdated(stream_store(s), now_ms - logs_keep_ms,
	    DROP_A_TICK, err));
}
