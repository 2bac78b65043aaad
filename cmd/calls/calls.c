#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#include "calls.h"
#include "long_log.h"

#define DELETE_MOST 2000 /* rows of a table, a tick */
#define LINES_MOST 5000 /* likewise */
#define READ_DEADLINE_MS 2000
#define PATH_SIZE 1024

struct calls_settings calls_settings;

static const char sql_total[] =
    "INSERT INTO call_totals VALUES (?1, 1, ?2) ON CONFLICT (partition)"
    " DO UPDATE SET calls = calls + 1, duration_ms = duration_ms + ?2";
static const char sql_minute[] =
    "INSERT INTO call_minutes VALUES (?1, ?2, 1, ?3)"
    " ON CONFLICT (start_ms, partition)"
    " DO UPDATE SET calls = calls + 1, duration_ms = duration_ms + ?3";
static const char sql_duration[] =
    "INSERT INTO call_durations VALUES (?1, ?2, 1)"
    " ON CONFLICT (bucket, partition) DO UPDATE SET calls = calls + 1";
static const char sql_give[] =
    "UPDATE long_call_log SET given = given + 1 RETURNING given";
static const char sql_long[] =
    "INSERT INTO long_calls VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

static const char sql_logged[] = "SELECT logged FROM long_call_log";
static const char sql_pending[] =
    "SELECT 1 FROM long_call_log WHERE given > logged";
static const char sql_source[] =
    "SELECT database_id FROM database_ids ORDER BY number DESC LIMIT 1";
static const char sql_unlogged[] =
    "SELECT seq, call_id, caller, callee, started_ms, duration_ms"
    " FROM long_calls WHERE seq > ?1 ORDER BY seq LIMIT ?2";
static const char sql_remember[] = "UPDATE long_call_log SET logged = ?1";
static const char sql_expire_minutes[] =
    "DELETE FROM call_minutes WHERE (start_ms, partition) IN"
    " (SELECT start_ms, partition FROM call_minutes WHERE start_ms < ?1"
    "  LIMIT ?2)";
static const char sql_expire_long[] =
    "DELETE FROM long_calls WHERE seq IN"
    " (SELECT seq FROM long_calls INDEXED BY long_calls_by_start"
    "  WHERE started_ms < ?1 AND seq <= (SELECT logged FROM long_call_log)"
    "  ORDER BY started_ms LIMIT ?2)";

/* ---- a record ------------------------------------------------------------ */

static int64_t
bucket_of(int64_t duration_ms)
{
	int64_t bucket = duration_ms == 0 ? 0 :
					    (duration_ms - 1) / CALLS_BUCKET_MS;

	return (bucket < CALLS_BUCKETS ? bucket : CALLS_BUCKETS - 1);
}

static int
keep_long_call(struct store *st, const struct call_event *call,
    struct mr_error *err)
{
	int64_t seq;

	if (store_find(st, err, &seq, sql_give) != 1)
		return (-1);
	return (store_run(st, err, sql_long, store_i64(seq),
		    store_text(call->call_id), store_text(call->caller),
		    store_text(call->callee), store_i64(call->started_ms),
		    store_i64(call->duration_ms)) == -1 ?
		-1 :
		0);
}

int
calls_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (event_check_type(record->type, CALL_EVENT_TYPE, err) != 0 ?
		-1 :
		call_event_decode(record->value, record->value_size, decoded,
		    err));
}

int
calls_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	struct store_value partition = store_i64(record->partition), duration;
	const struct call_event *call = record->decoded;

	/* One that is far ahead would hold the window of minutes. */
	if (event_check_ahead("started_ms", call->started_ms, record->ts_ms,
		calls_settings.ahead_ms, "--ahead", err) != 0)
		return (-1);
	duration = store_i64(call->duration_ms);
	if (store_run(st, err, sql_total, partition, duration) == -1 ||
	    store_run(st, err, sql_minute,
		store_i64(call->started_ms - call->started_ms % 60000),
		partition, duration) == -1 ||
	    store_run(st, err, sql_duration,
		store_i64(bucket_of(call->duration_ms)), partition) == -1)
		return (-1);
	if (call->duration_ms > calls_settings.long_call_s * 1000)
		return (keep_long_call(st, call, err));
	return (0);
}

/* ---- the log of long calls ----------------------------------------------- */

/*
 * Rows are read through a connection that sees only what is committed: this
 * transaction's own rows may yet be undone, and a line can't be.
 */
static struct store *committed;

static void
write_line(struct buffer *lines, const char *source, struct store_rows *rows)
{
	struct json_writer w;
	char started_at[25];

	clock_rfc3339(store_get_i64(rows, 4), started_at);
	json_init(&w, lines);
	json_object_open(&w);
	json_member_text(&w, "source", source);
	json_member_i64(&w, "seq", store_get_i64(rows, 0));
	json_member_text(&w, "call_id", store_get_text(rows, 1));
	json_member_text(&w, "caller", store_get_text(rows, 2));
	json_member_text(&w, "callee", store_get_text(rows, 3));
	json_member_text(&w, "started_at", started_at);
	json_key(&w, "duration_s");
	json_decimal(&w, store_get_i64(rows, 5), 3);
	json_object_close(&w);
	buffer_add(lines, "\n", 1);
}

/*
 * Lines of the rows after ${from}; *logged becomes the seq of the last one.
 * *known is how many bytes of them are of rows up to ${in_file}.
 */
static int
collect_lines(struct buffer *lines, const char *source, int64_t from,
    int64_t in_file, int64_t *logged, size_t *known, struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	*known = 0;
	if ((rows = store_query(committed, err, sql_unlogged, store_i64(from),
		 store_i64(LINES_MOST))) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		write_line(lines, source, rows);
		*logged = store_get_i64(rows, 0);
		if (*logged <= in_file)
			*known = lines->length;
	}
	store_rows_done(rows);
	if (more == 0 && lines->failed)
		return (mr_error_set(err, MR_RETRY,
		    "no memory for lines of the log"));
	return (more);
}

/* Everything after ${from} that is committed, to the file and to stdout. */
static int
write_log(const char *path, const char *source, int64_t from, int64_t *logged,
    struct mr_error *err)
{
	struct buffer lines = {0};
	struct long_log log;
	int64_t in_file;
	size_t known;
	int status = -1;

	if (long_log_open(&log, path, source, from, &in_file, err) == -1)
		return (-1);
	if (collect_lines(&lines, source, from, in_file, logged, &known, err) ==
	    -1)
		goto done;
	if (lines.length > known &&
	    long_log_append(&log, lines.data + known, lines.length - known,
		err) == -1)
		goto done;
	/* What the file had already may not have been said. */
	if (lines.length > 0) {
		fwrite(lines.data, 1, lines.length, stdout);
		fflush(stdout);
	}
	status = 0;
done:
	buffer_free(&lines);
	long_log_close(&log);
	return (status);
}

/* Where the log is; ${size} bytes at ${path}.  0 or -1. */
static int
log_path(struct stream *s, char *path, size_t size, struct mr_error *err)
{
	const char *db = stream_db_path(s), *slash = strrchr(db, '/');
	int n;

	if (calls_settings.long_calls_log != NULL)
		n = snprintf(path, size, "%s", calls_settings.long_calls_log);
	else
		n = snprintf(path, size, "%.*slong-calls.log",
		    slash == NULL ? 0 : (int)(slash - db + 1), db);
	if (n < 0 || (size_t)n >= size)
		return (mr_error_set(err, MR_FATAL,
		    "the path of the log of long calls is too long"));
	return (0);
}

/* The database id that rows are numbered under. */
static int
find_source(struct store *st, char source[64], struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_source)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		snprintf(source, 64, "%s", store_get_text(rows, 0));
	store_rows_done(rows);
	if (found == 0)
		return (
		    mr_error_set(err, MR_FATAL, "the file has no database id"));
	return (found == 1 ? 0 : -1);
}

static int
log_long_calls(struct stream *s, struct mr_error *err)
{
	struct store *st = stream_store(s);
	char path[PATH_SIZE], source[64];
	int64_t from, logged, pending;
	int found;

	if ((found = store_find(st, err, &pending, sql_pending)) != 1)
		return (found);
	if (store_find(st, err, &from, sql_logged) != 1 ||
	    find_source(st, source, err) != 0 ||
	    log_path(s, path, sizeof(path), err) != 0)
		return (-1);
	if (committed == NULL &&
	    (committed = store_open_reader(stream_db_path(s), READ_DEADLINE_MS,
		 err)) == NULL)
		return (-1);
	logged = from;
	if (write_log(path, source, from, &logged, err) != 0)
		return (-1);
	return (
	    store_run(st, err, sql_remember, store_i64(logged)) == -1 ? -1 : 0);
}

int
calls_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct store_value most = store_i64(DELETE_MOST);

	if (store_run(st, err, sql_expire_minutes,
		store_i64(now_ms - calls_settings.keep_minutes_ms),
		most) == -1 ||
	    store_run(st, err, sql_expire_long,
		store_i64(now_ms - calls_settings.keep_long_calls_ms),
		most) == -1)
		return (-1);
	return (log_long_calls(s, err));
}

void
calls_close(struct stream *s)
{

	(void)s;
	store_close(committed);
	committed = NULL;
}
