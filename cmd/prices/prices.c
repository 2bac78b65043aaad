#include "prices.h"

#define DELETE_MOST 5000 /* rows of a kind a tick */
#define AHEAD_MOST_MS INT64_C(3600000) /* of its record's time */
#define DISORDER_MOST_MS INT64_C(5000) /* of records that come late */

int64_t prices_keep_points_ms;
int64_t prices_keep_candles_ms;

static const char sql_count[] = "UPDATE prices_cursor SET seq = seq + 1";
static const char sql_counted[] = "SELECT seq FROM prices_cursor";
/*
 * A newest price that is ahead of what the log has by now, ?5, is one of a clock
 * that was wrong: the price that comes is the newest then.
 */
#define IS_NEWEST "excluded.ts_ms >= ts_ms OR ?5 < ts_ms"
static const char sql_symbol[] =
    "INSERT INTO symbols (symbol, price_minor, ts_ms, before_minor, seq)"
    " VALUES (?1, ?2, ?3, ?2, ?4) ON CONFLICT (symbol) DO UPDATE SET"
    " before_minor = CASE WHEN " IS_NEWEST
    "   THEN price_minor ELSE before_minor END,"
    " price_minor = CASE WHEN " IS_NEWEST
    "   THEN excluded.price_minor ELSE price_minor END,"
    " ts_ms = CASE WHEN " IS_NEWEST " THEN excluded.ts_ms ELSE ts_ms END,"
    " seq = excluded.seq";
static const char sql_point[] =
    "INSERT INTO price_points (symbol, price_minor, ts_ms, seq)"
    " VALUES (?1, ?2, ?3, ?4)";
static const char sql_candles[] =
    "INSERT INTO candles (symbol, interval, start_ms, open_minor, high_minor,"
    " low_minor, close_minor, count, first_ts_ms, last_ts_ms, seq)"
    " SELECT ?1, column1, ?3 - ?3 % column2, ?2, ?2, ?2, ?2, 1, ?3, ?3, ?4"
    " FROM (VALUES ('1s', 1000), ('1m', 60000), ('1h', 3600000)) WHERE true"
    " ON CONFLICT (symbol, interval, start_ms) DO UPDATE SET"
    " open_minor = CASE WHEN excluded.first_ts_ms < first_ts_ms"
    "   THEN excluded.open_minor ELSE open_minor END,"
    " high_minor = max(high_minor, excluded.high_minor),"
    " low_minor = min(low_minor, excluded.low_minor),"
    " close_minor = CASE WHEN excluded.last_ts_ms >= last_ts_ms"
    "   THEN excluded.close_minor ELSE close_minor END,"
    " count = count + 1,"
    " first_ts_ms = min(first_ts_ms, excluded.first_ts_ms),"
    " last_ts_ms = max(last_ts_ms, excluded.last_ts_ms),"
    " seq = excluded.seq";
static const char sql_expire_points[] =
    "DELETE FROM price_points WHERE (symbol, ts_ms, seq) IN"
    " (SELECT p.symbol, p.ts_ms, p.seq FROM symbols AS s"
    "  CROSS JOIN price_points AS p ON p.symbol = s.symbol AND p.ts_ms < ?1"
    "  LIMIT ?2)";
static const char sql_expire_candles[] =
    "DELETE FROM candles WHERE (symbol, interval, start_ms) IN"
    " (SELECT c.symbol, c.interval, c.start_ms FROM symbols AS s"
    "  CROSS JOIN candles AS c ON c.symbol = s.symbol AND c.interval = ?3"
    "   AND c.start_ms < ?1 LIMIT ?2)";

/* No clock that is right has passed this when a record comes. */
static int64_t
passed_by(const struct stream_record *record)
{

	if (record->ts_ms == -1 || record->ts_ms > INT64_MAX - DISORDER_MOST_MS)
		return (INT64_MAX);
	return (record->ts_ms + DISORDER_MOST_MS);
}

/* One that is far ahead would stay for as long: it goes by its record's time. */
static int64_t
time_of(const struct price_event *event, const struct stream_record *record)
{

	if (record->ts_ms != -1 && event->ts_ms - AHEAD_MOST_MS > record->ts_ms)
		return (record->ts_ms);
	return (event->ts_ms);
}

int
prices_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (event_check_type(record->type, PRICE_EVENT_TYPE, err) != 0 ?
		-1 :
		price_event_decode(record->value, record->value_size, decoded,
		    err));
}

int
prices_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct price_event *event = record->decoded;
	struct store_value symbol, price, ts;
	int64_t seq;

	symbol = store_text(event->symbol);
	price = store_i64(event->price_minor);
	ts = store_i64(time_of(event, record));
	if (store_run(st, err, sql_count) == -1 ||
	    store_find(st, err, &seq, sql_counted) != 1 ||
	    store_run(st, err, sql_symbol, symbol, price, ts, store_i64(seq),
		store_i64(passed_by(record))) == -1 ||
	    store_run(st, err, sql_point, symbol, price, ts, store_i64(seq)) ==
		-1 ||
	    store_run(st, err, sql_candles, symbol, price, ts,
		store_i64(seq)) == -1)
		return (-1);
	return (0);
}

int
prices_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct store_value most = store_i64(DELETE_MOST);
	const struct {
		const char *interval;
		int64_t keep_ms;
	} candles[] = {
	    {"1s", prices_keep_points_ms},
	    {"1m", prices_keep_candles_ms},
	    {"1h", prices_keep_candles_ms},
	};
	int64_t deleted;
	size_t i;
	int more;

	if ((deleted = store_run(st, err, sql_expire_points,
		 store_i64(now_ms - prices_keep_points_ms), most)) == -1)
		return (-1);
	more = deleted == DELETE_MOST;
	for (i = 0; i < sizeof(candles) / sizeof(candles[0]); i++) {
		if ((deleted = store_run(st, err, sql_expire_candles,
			 store_i64(now_ms - candles[i].keep_ms), most,
			 store_text(candles[i].interval))) == -1)
			return (-1);
		more |= deleted == DELETE_MOST;
	}
	return (more);
}
