#include "rollups.h"

#define SETTLE_MOST 50 /* series a tick, of an hour each */
#define EXPIRE_MOST 50 /* series a tick */

int64_t rollups_keep_seconds_ms;
int64_t rollups_keep_minutes_ms;
int64_t rollups_keep_hours_ms;
int64_t rollups_ahead_ms;

static const char sql_progress[] =
    "INSERT INTO progress (partition, watermark_ms, samples) VALUES (?1, ?2, 1)"
    " ON CONFLICT (partition) DO UPDATE SET"
    " watermark_ms = max(watermark_ms, ?2), samples = samples + 1";
/* The time that everything before is late. */
static const char sql_late_before[] =
    "SELECT max(settled_ms, (watermark_ms - ?2) / 3600000 * 3600000)"
    " FROM progress WHERE partition = ?1";
static const char sql_late[] =
    "UPDATE progress SET late = late + 1 WHERE partition = ?1";
static const char sql_find_series[] =
    "SELECT id FROM series WHERE host = ?1 AND metric = ?2 AND partition = ?3";
static const char sql_add_series[] =
    "INSERT INTO series (host, metric, partition) VALUES (?1, ?2, ?3)"
    " RETURNING id";
static const char sql_second[] =
    "INSERT INTO seconds VALUES (?1, ?2, ?3, ?4, ?5, 1)"
    " ON CONFLICT (partition, hour_ms, series, second, value_milli)"
    " DO UPDATE SET count = count + 1";

/* The oldest hour of a partition that is to be settled now, if there is one,
 * and the first series in it. */
static const char sql_due[] =
    "SELECT partition, hour_ms, (SELECT min(series) FROM seconds AS s"
    "  WHERE s.partition = p.partition AND s.hour_ms = p.hour_ms)"
    " FROM (SELECT partition, watermark_ms, (SELECT min(hour_ms) FROM seconds"
    "   WHERE seconds.partition = progress.partition) AS hour_ms"
    "  FROM progress) AS p"
    " WHERE hour_ms + 3600000 <= watermark_ms - ?1 ORDER BY partition LIMIT 1";
static const char sql_settled[] =
    "UPDATE progress SET settled_ms = max(settled_ms, ?2 + 3600000)"
    " WHERE partition = ?1";
/* Steps of ?4 seconds of an hour. */
static const char sql_settle[] =
    "INSERT INTO rollups SELECT ?3, ?4 * 1000, ?2 + step * ?4 * 1000, sum(count),"
    " min(value_milli), max(value_milli),"
    " sum(CAST(value_milli AS REAL) * count) / sum(count),"
    " min(value_milli) FILTER (WHERE upto * 100 >= whole * 50),"
    " min(value_milli) FILTER (WHERE upto * 100 >= whole * 99)"
    " FROM (SELECT second / ?4 AS step, value_milli, count,"
    "  sum(count) OVER (PARTITION BY second / ?4 ORDER BY value_milli"
    "   ROWS UNBOUNDED PRECEDING) AS upto,"
    "  sum(count) OVER (PARTITION BY second / ?4) AS whole"
    "  FROM seconds WHERE partition = ?1 AND hour_ms = ?2 AND series = ?3)"
    " GROUP BY step";
static const char sql_unsettle[] =
    "DELETE FROM seconds WHERE partition = ?1 AND hour_ms = ?2 AND series = ?3";

static const char sql_next_series[] =
    "SELECT id, partition FROM series WHERE id > (SELECT series FROM upkeep)"
    " ORDER BY id LIMIT 1";
static const char sql_upkeep[] = "UPDATE upkeep SET series = ?1";
static const char sql_expire[] =
    "DELETE FROM rollups WHERE series = ?1 AND step_ms = ?2 AND start_ms < ?3";
/* Only if nothing is left of it, nor has yet to be settled. */
static const char sql_forget[] =
    "DELETE FROM series WHERE id = ?1"
    " AND NOT EXISTS (SELECT 1 FROM rollups WHERE series = ?1)"
    " AND NOT EXISTS (WITH hours (hour_ms) AS"
    "  (SELECT min(hour_ms) FROM seconds WHERE partition = ?2"
    "   UNION ALL SELECT (SELECT min(s.hour_ms) FROM seconds AS s"
    "    WHERE s.partition = ?2 AND s.hour_ms > hours.hour_ms)"
    "   FROM hours WHERE hour_ms IS NOT NULL)"
    "  SELECT 1 FROM hours CROSS JOIN seconds AS s WHERE s.partition = ?2"
    "   AND s.hour_ms = hours.hour_ms AND s.series = ?1)";

static int
find_series(struct store *st, const struct metric_event *event, int partition,
    int64_t *id, struct mr_error *err)
{
	int found = store_find(st, err, id, sql_find_series,
	    store_text(event->host), store_text(event->metric),
	    store_i64(partition));

	if (found == 0)
		found = store_find(st, err, id, sql_add_series,
		    store_text(event->host), store_text(event->metric),
		    store_i64(partition));
	return (found == 1 ? 0 : -1);
}

int
rollups_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (event_check_type(record->type, METRIC_EVENT_TYPE, err) != 0 ?
		-1 :
		metric_event_decode(record->value, record->value_size, decoded,
		    err));
}

int
rollups_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct store_value partition = store_i64(record->partition);
	const struct metric_event *event = record->decoded;
	int64_t late_ms, id, hour_ms;

	/* One that is far ahead would make all that follow late. */
	if (event_check_ahead("ts_ms", event->ts_ms, record->ts_ms,
		rollups_ahead_ms, "--ahead", err) != 0)
		return (-1);
	if (store_run(st, err, sql_progress, partition,
		store_i64(event->ts_ms)) == -1 ||
	    store_find(st, err, &late_ms, sql_late_before, partition,
		store_i64(rollups_keep_seconds_ms)) != 1)
		return (-1);
	if (event->ts_ms < late_ms)
		return (store_run(st, err, sql_late, partition) == -1 ? -1 : 0);
	if (find_series(st, event, record->partition, &id, err) == -1)
		return (-1);
	hour_ms = event->ts_ms - event->ts_ms % HOUR_MS;
	return (
	    store_run(st, err, sql_second, partition, store_i64(hour_ms),
		store_i64(id), store_i64((event->ts_ms - hour_ms) / SECOND_MS),
		store_i64(event->value_milli)) == -1 ?
		-1 :
		0);
}

/* ---- upkeep -------------------------------------------------------------------- */

/* Settle an hour of a series: 1 if there was one to settle, else 0 or -1. */
static int
settle_one(struct store *st, struct mr_error *err)
{
	struct store_value partition, hour, series;
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_due,
		 store_i64(rollups_keep_seconds_ms))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		partition = store_i64(store_get_i64(rows, 0));
		hour = store_i64(store_get_i64(rows, 1));
		series = store_i64(store_get_i64(rows, 2));
	}
	store_rows_done(rows);
	if (found != 1)
		return (found);
	if (store_run(st, err, sql_settled, partition, hour) == -1 ||
	    store_run(st, err, sql_settle, partition, hour, series,
		store_i64(MINUTE_MS / SECOND_MS)) == -1 ||
	    store_run(st, err, sql_settle, partition, hour, series,
		store_i64(HOUR_MS / SECOND_MS)) == -1 ||
	    store_run(st, err, sql_unsettle, partition, hour, series) == -1)
		return (-1);
	return (1);
}

/* Go on to the next series, and drop what is kept no longer of it; 1 if there
 * was one, 0 if it was the last, or -1. */
static int
expire_one(struct store *st, int64_t now_ms, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t id = 0, partition = 0;
	int found;

	if ((rows = store_query(st, err, sql_next_series)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		id = store_get_i64(rows, 0);
		partition = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	if (found == -1 || store_run(st, err, sql_upkeep, store_i64(id)) == -1)
		return (-1);
	if (found == 0)
		return (0);
	if (store_run(st, err, sql_expire, store_i64(id), store_i64(MINUTE_MS),
		store_i64(now_ms - rollups_keep_minutes_ms)) == -1 ||
	    store_run(st, err, sql_expire, store_i64(id), store_i64(HOUR_MS),
		store_i64(now_ms - rollups_keep_hours_ms)) == -1 ||
	    store_run(st, err, sql_forget, store_i64(id),
		store_i64(partition)) == -1)
		return (-1);
	return (1);
}

int
rollups_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	struct store *st = stream_store(s);
	int i, more = 1;

	for (i = 0; i < SETTLE_MOST && more == 1; i++)
		more = settle_one(st, err);
	if (more == -1)
		return (-1);
	for (i = 0, more = 1; i < EXPIRE_MOST && more == 1; i++)
		more = expire_one(st, now_ms, err);
	return (more == -1 ? -1 : 0);
}
