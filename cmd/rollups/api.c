#include <stdlib.h>
#include <string.h>

#include "score/score.h"
#include "service/service.h"

#include "rollups.h"

#define POINTS_MOST 10000
#define POINTS_USUAL 300 /* when no range is given */

static const char sql_revision[] =
    "SELECT coalesce(sum(samples + settled_ms), 0) FROM progress";
static const char sql_newest[] =
    "SELECT max(watermark_ms) FROM progress WHERE partition IN"
    " (SELECT partition FROM series WHERE host = ?1 AND metric = ?2)";
static const char sql_series[] =
    "SELECT DISTINCT host, metric FROM series ORDER BY host, metric"
    " LIMIT 20000";
/*
 * Steps of ?5 that begin from ?3 on until before ?4: what is settled, and what
 * is made now of the seconds of hours that aren't.
 */
static const char sql_points[] =
    "WITH ids (id, partition) AS (SELECT id, partition FROM series"
    "  WHERE host = ?1 AND metric = ?2),"
    " hours (id, partition, hour_ms) AS"
    "  (SELECT id, partition, (SELECT min(s.hour_ms) FROM seconds AS s"
    "    WHERE s.partition = ids.partition AND s.hour_ms > ?3 - 3600000)"
    "   FROM ids UNION ALL"
    "   SELECT id, partition, (SELECT min(s.hour_ms) FROM seconds AS s"
    "    WHERE s.partition = hours.partition AND s.hour_ms > hours.hour_ms)"
    "   FROM hours WHERE hour_ms < ?4),"
    " samples AS (SELECT (s.hour_ms + s.second * 1000) / ?5 * ?5 AS start_ms,"
    "   s.value_milli, s.count FROM hours CROSS JOIN seconds AS s"
    "   WHERE s.partition = hours.partition AND s.hour_ms = hours.hour_ms"
    "   AND s.series = hours.id"
    "   AND s.hour_ms + s.second * 1000 >= ?3"
    "   AND s.hour_ms + s.second * 1000 < ?4),"
    " parts AS (SELECT start_ms, sum(count) AS count,"
    "   min(value_milli) AS min_milli, max(value_milli) AS max_milli,"
    "   sum(CAST(value_milli AS REAL) * count) / sum(count) AS mean_milli,"
    "   min(value_milli) FILTER (WHERE upto * 100 >= whole * 50) AS p50_milli,"
    "   min(value_milli) FILTER (WHERE upto * 100 >= whole * 99) AS p99_milli"
    "   FROM (SELECT start_ms, value_milli, count,"
    "    sum(count) OVER (PARTITION BY start_ms ORDER BY value_milli"
    "     ROWS UNBOUNDED PRECEDING) AS upto,"
    "    sum(count) OVER (PARTITION BY start_ms) AS whole FROM samples)"
    "   GROUP BY start_ms"
    "  UNION ALL SELECT r.start_ms, r.count, r.min_milli, r.max_milli,"
    "   r.mean_milli, r.p50_milli, r.p99_milli"
    "   FROM ids CROSS JOIN rollups AS r WHERE r.series = ids.id"
    "   AND r.step_ms = ?5 AND r.start_ms >= ?3 AND r.start_ms < ?4)"
    " SELECT start_ms, sum(count), min(min_milli), max(max_milli),"
    "  CASE count(*) WHEN 1 THEN min(mean_milli)"
    "   ELSE sum(mean_milli * count) / sum(count) END,"
    "  CASE count(*) WHEN 1 THEN min(p50_milli) END,"
    "  CASE count(*) WHEN 1 THEN min(p99_milli) END"
    " FROM parts GROUP BY start_ms ORDER BY start_ms";

/* ---- what is asked for ---------------------------------------------------------- */

struct range {
	char host[EVENT_NAME_SIZE], metric[EVENT_NAME_SIZE];
	int64_t step_ms;
	int64_t from_ms, to_ms; /* whole steps; the last isn't in it */
	int64_t newest_ms; /* 0: there is nothing */
};

/* 0 or -1 with a 422. */
static int
read_name(struct web_request *req, struct web_response *res, const char *name,
    char out[EVENT_NAME_SIZE])
{
	const int given = web_query_text(req, res, name, out, EVENT_NAME_SIZE);

	if (given == 0)
		return (web_problem_field(res, name, "must be given"));
	return (given == 1 ? 0 : -1);
}

static int
read_step(struct web_request *req, struct web_response *res, int64_t *step_ms)
{
	char step[8] = "1m";

	if (web_query_text(req, res, "step", step, sizeof(step)) == -1)
		return (-1);
	if (strcmp(step, "1s") == 0)
		*step_ms = SECOND_MS;
	else if (strcmp(step, "1m") == 0)
		*step_ms = MINUTE_MS;
	else if (strcmp(step, "1h") == 0)
		*step_ms = HOUR_MS;
	else
		return (web_problem_field(res, "step", "must be 1s, 1m or 1h"));
	return (0);
}

/* 0 with the range; else the response has a problem, or a 304. */
static int
read_range(struct web_request *req, struct web_response *res,
    struct range *range)
{
	static const char *const known[] = {"host", "metric", "from", "to",
	    "step", "points", NULL};
	int64_t revision, from_ms = -1, to_ms = -1, points = POINTS_USUAL;
	struct mr_error err;

	memset(range, 0, sizeof(*range));
	if (web_query_only(req, res, known) != 0 ||
	    read_name(req, res, "host", range->host) != 0 ||
	    read_name(req, res, "metric", range->metric) != 0 ||
	    read_step(req, res, &range->step_ms) != 0 ||
	    web_query_i64(req, res, "from", 0, INT64_C(1) << 53, &from_ms) ==
		-1 ||
	    web_query_i64(req, res, "to", 0, INT64_C(1) << 53, &to_ms) == -1 ||
	    web_query_i64(req, res, "points", 1, POINTS_MOST, &points) == -1 ||
	    service_revision(req, res, sql_revision, &revision) != 0)
		return (-1);
	if (store_find(req->reader, &err, &range->newest_ms, sql_newest,
		store_text(range->host), store_text(range->metric)) == -1) {
		web_problem_error(res, &err);
		return (-1);
	}
	if (to_ms == -1)
		to_ms = range->newest_ms + 1;
	to_ms += range->step_ms - 1;
	range->to_ms = to_ms - to_ms % range->step_ms;
	if (from_ms == -1)
		from_ms = range->to_ms > points * range->step_ms ?
		    range->to_ms - points * range->step_ms :
		    0;
	range->from_ms = from_ms - from_ms % range->step_ms;
	if (range->to_ms - range->from_ms > POINTS_MOST * range->step_ms)
		return (web_problem_field(res, "from",
		    "must be at most %d steps before to", POINTS_MOST));
	return (0);
}

/* ---- points ---------------------------------------------------------------------- */

static void
member_milli(struct json_writer *w, const char *name, struct store_rows *rows,
    int column)
{

	json_key(w, name);
	if (store_is_null(rows, column))
		json_nil(w);
	else
		json_decimal(w, store_get_i64(rows, column), 3);
}

/* The means of a point and of those before it, for its score. */
struct means {
	double of[SCORE_WINDOW + 1];
	int count;
};

static void
add_mean(struct means *means, double mean)
{

	if (means->count == SCORE_WINDOW + 1)
		memmove(means->of, means->of + 1,
		    (size_t)--means->count * sizeof(means->of[0]));
	means->of[means->count++] = mean;
}

static void
write_point(struct json_writer *w, struct store_rows *rows,
    const struct means *means)
{
	double score = 0;
	int known = score_last(means->of, means->count, &score);

	json_object_open(w);
	json_member_i64(w, "ts_ms", store_get_i64(rows, 0));
	json_member_i64(w, "count", store_get_i64(rows, 1));
	member_milli(w, "min", rows, 2);
	member_milli(w, "max", rows, 3);
	json_key(w, "mean");
	json_f64(w, means->of[means->count - 1]);
	member_milli(w, "p50", rows, 5);
	member_milli(w, "p99", rows, 6);
	json_key(w, "score");
	if (known)
		json_f64(w, score);
	else
		json_nil(w);
	json_member_bool(w, "unusual",
	    score >= SCORE_UNUSUAL || score <= -SCORE_UNUSUAL);
	json_object_close(w);
}

static void
get_history(struct web_request *req, struct web_response *res)
{
	struct means means = {.count = 0};
	struct store_rows *rows;
	struct json_writer w;
	struct mr_error err;
	struct range range;
	int more;

	if (read_range(req, res, &range) != 0)
		return;
	if ((rows = store_query(req->reader, &err, sql_points,
		 store_text(range.host), store_text(range.metric),
		 store_i64(range.from_ms - SCORE_WINDOW * range.step_ms),
		 store_i64(range.to_ms), store_i64(range.step_ms))) == NULL) {
		web_problem_error(res, &err);
		return;
	}
	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "host", range.host);
	json_member_text(&w, "metric", range.metric);
	json_member_i64(&w, "step_ms", range.step_ms);
	json_member_i64(&w, "from_ms", range.from_ms);
	json_member_i64(&w, "to_ms", range.to_ms);
	json_member_i64(&w, "watermark_ms", range.newest_ms);
	json_key(&w, "points");
	json_array_open(&w);
	while ((more = store_next(rows, &err)) == 1) {
		add_mean(&means, store_get_f64(rows, 4) / 1000);
		if (store_get_i64(rows, 0) >= range.from_ms)
			write_point(&w, rows, &means);
	}
	store_rows_done(rows);
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

static void
get_series(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {NULL};

	if (web_query_only(req, res, known) == 0)
		service_rows(req, res, "series", NULL, sql_series);
}

const struct web_route rollups_routes[] = {
    {"GET", "/metrics-history", get_history},
    {"GET", "/metrics-history/series", get_series},
    {NULL, NULL, NULL},
};
