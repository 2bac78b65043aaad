#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "calls/calls.h"
#include "service/service.h"

#include "calls.h"

#define MINUTES_MOST 1440
#define LONG_CALLS_MOST 200

/* Every record moves it. */
static const char sql_revision[] =
    "SELECT coalesce(sum(calls), 0) FROM call_totals";
/* One statement, so that all of it is of one commit; -1 are the totals. */
static const char sql_sums[] =
    "SELECT -1, coalesce(sum(calls), 0), coalesce(sum(duration_ms), 0)"
    " FROM call_totals"
    " UNION ALL SELECT bucket, sum(calls), 0 FROM call_durations"
    " GROUP BY bucket";
/* Counted back from the newest that isn't after ?2, now: a clock that is ahead
 * doesn't hold the window.  If all are after it, it is ours that is wrong. */
static const char sql_minutes[] =
    "WITH newest (ms) AS (SELECT coalesce("
    " (SELECT max(start_ms) FROM call_minutes WHERE start_ms <= ?2),"
    " (SELECT max(start_ms) FROM call_minutes)))"
    " SELECT start_ms, sum(calls), sum(duration_ms) FROM call_minutes"
    " WHERE start_ms > (SELECT ms FROM newest) - 60000 * ?1"
    " AND start_ms <= (SELECT ms FROM newest)"
    " GROUP BY start_ms ORDER BY start_ms";
static const char sql_latest_long[] =
    "SELECT seq, call_id, caller, callee, started_ms, duration_ms"
    " FROM long_calls ORDER BY seq DESC LIMIT ?1";

struct sums {
	int64_t calls;
	int64_t duration_ms;
	int64_t buckets[CALLS_BUCKETS];
};

/* 0, or -1 with *err. */
static int
read_sums(struct store *reader, struct sums *sums, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t bucket;
	int more;

	memset(sums, 0, sizeof(*sums));
	if ((rows = store_query(reader, err, sql_sums)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		bucket = store_get_i64(rows, 0);
		if (bucket >= 0 && bucket < CALLS_BUCKETS) {
			sums->buckets[bucket] = store_get_i64(rows, 1);
		} else {
			sums->calls = store_get_i64(rows, 1);
			sums->duration_ms = store_get_i64(rows, 2);
		}
	}
	store_rows_done(rows);
	return (more);
}

static void
member_seconds(struct json_writer *w, const char *key, int64_t ms)
{

	json_key(w, key);
	json_decimal(w, ms, 3);
}

static void
write_sums(struct json_writer *w, const struct sums *sums)
{
	int i;

	json_member_i64(w, "calls", sums->calls);
	member_seconds(w, "duration_s", sums->duration_ms);
	json_member_i64(w, "bucket_s", CALLS_BUCKET_MS / 1000);
	json_key(w, "durations");
	json_array_open(w);
	for (i = 0; i < CALLS_BUCKETS; i++)
		json_i64(w, sums->buckets[i]);
	json_array_close(w);
}

static int
write_minutes(struct json_writer *w, struct store *reader, int64_t minutes,
    struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query(reader, err, sql_minutes, store_i64(minutes),
		 store_i64(clock_wall_ms()))) == NULL)
		return (-1);
	json_key(w, "minutes");
	json_array_open(w);
	while ((more = store_next(rows, err)) == 1) {
		json_object_open(w);
		json_member_i64(w, "start_ms", store_get_i64(rows, 0));
		json_member_i64(w, "calls", store_get_i64(rows, 1));
		member_seconds(w, "duration_s", store_get_i64(rows, 2));
		json_object_close(w);
	}
	json_array_close(w);
	store_rows_done(rows);
	return (more);
}

static int
write_long_calls(struct json_writer *w, struct store *reader, int64_t limit,
    struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query(reader, err, sql_latest_long,
		 store_i64(limit))) == NULL)
		return (-1);
	json_member_i64(w, "long_call_s", calls_settings.long_call_s);
	json_key(w, "long_calls");
	json_array_open(w);
	while ((more = store_next(rows, err)) == 1) {
		json_object_open(w);
		json_member_i64(w, "seq", store_get_i64(rows, 0));
		json_member_text(w, "call_id", store_get_text(rows, 1));
		json_member_text(w, "caller", store_get_text(rows, 2));
		json_member_text(w, "callee", store_get_text(rows, 3));
		json_member_i64(w, "started_ms", store_get_i64(rows, 4));
		member_seconds(w, "duration_s", store_get_i64(rows, 5));
		json_object_close(w);
	}
	json_array_close(w);
	store_rows_done(rows);
	return (more);
}

static void
get_calls(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"minutes", "limit", NULL};
	int64_t revision, minutes = 60, limit = 20;
	struct json_writer w;
	struct mr_error err;
	struct sums sums;

	if (web_query_only(req, res, known) != 0 ||
	    web_query_i64(req, res, "minutes", 1, MINUTES_MOST, &minutes) ==
		-1 ||
	    web_query_i64(req, res, "limit", 1, LONG_CALLS_MOST, &limit) == -1)
		return;
	if (service_revision(req, res, sql_revision, &revision) != 0)
		return;
	json_init(&w, &res->body);
	json_object_open(&w);
	if (read_sums(req->reader, &sums, &err) != 0) {
		web_problem_error(res, &err);
		return;
	}
	write_sums(&w, &sums);
	if (write_minutes(&w, req->reader, minutes, &err) != 0 ||
	    write_long_calls(&w, req->reader, limit, &err) != 0) {
		web_problem_error(res, &err);
		return;
	}
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

const struct web_route calls_routes[] = {
    {"GET", "/calls", get_calls},
    {NULL, NULL, NULL},
};

/* ---- metrics -------------------------------------------------------------- */

void
calls_collect(struct store *reader)
{
	int64_t counts[CALLS_BOUNDS] = {0};
	struct mr_error err;
	struct sums sums;
	int i;

	if (read_sums(reader, &sums, &err) != 0) {
		log_warn("the sums of calls can't be read", "error",
		    err.message);
		return;
	}
	for (i = 0; i < CALLS_BUCKETS; i++)
		counts[calls_bound_of((int64_t)(i + 1) * CALLS_BUCKET_MS)] +=
		    sums.buckets[i];
	calls_show(sums.calls, sums.duration_ms, counts);
}
