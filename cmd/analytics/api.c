#include <math.h>
#include <string.h>

#include "service/service.h"

#include "analytics.h"

#define RANGE_MS 3600000 /* when none is given: the newest hour */
#define WINDOWS_MOST 1440
#define TOP_MOST 1000

static const char sql_revision[] =
    "SELECT coalesce(sum(events + closed_ms), 0) FROM progress";
/* The newest time of all, and that up to which all partitions are closed. */
static const char sql_watermarks[] =
    "SELECT coalesce(max(watermark_ms), 0), coalesce(min(closed_ms), 0),"
    " coalesce(sum(events), 0), coalesce(sum(late), 0) FROM progress";
static const char sql_kinds[] =
    "SELECT event, sum(count) FROM minutes"
    " WHERE start_ms >= ?1 AND start_ms < ?2 GROUP BY event ORDER BY event";
static const char sql_revenue[] =
    "SELECT currency, sum(count) AS purchases, sum(amount_minor) AS"
    " amount_minor FROM minutes WHERE start_ms >= ?1 AND start_ms < ?2"
    " AND currency <> '' GROUP BY currency HAVING sum(count) > 0"
    " ORDER BY currency";
static const char sql_late_range[] =
    "SELECT coalesce(sum(late), 0) FROM minutes"
    " WHERE start_ms >= ?1 AND start_ms < ?2";
static const char sql_users[] =
    "SELECT count(DISTINCT user_id) FROM minute_users"
    " WHERE start_ms >= ?1 AND start_ms < ?2";
static const char sql_steps[] =
    "SELECT steps, count(*), sum(events), sum(last_ms - start_ms)"
    " FROM sessions WHERE start_ms >= ?1 AND start_ms < ?2 GROUP BY steps";

/*
 * Windows of ?3 minutes that begin from ?1 until before ?2, a minute apart.
 * Each is made of the minutes in it.
 */
#define HOPS                                            \
	" FROM minutes AS m CROSS JOIN"                 \
	" (VALUES (0), (1), (2), (3), (4)) AS hops"     \
	" WHERE hops.column1 < ?3 AND m.start_ms >= ?1" \
	" AND m.start_ms < ?2 + (?3 - 1) * 60000"       \
	" AND m.start_ms - hops.column1 * 60000 BETWEEN ?1 AND ?2 - 1"
#define WINDOW "m.start_ms - hops.column1 * 60000 AS w"
static const char sql_windows[] =
    "SELECT w, clicks, purchases, signups, late,"
    " (SELECT count(DISTINCT user_id) FROM minute_users"
    "  WHERE start_ms >= w AND start_ms < w + ?3 * 60000)"
    " FROM (SELECT w, clicks, purchases, signups, late FROM"
    "  (SELECT " WINDOW ","
    "   coalesce(sum(m.count) FILTER (WHERE m.event = 'click'), 0) AS clicks,"
    "   coalesce(sum(m.count) FILTER (WHERE m.event = 'purchase'), 0)"
    "    AS purchases,"
    "   coalesce(sum(m.count) FILTER (WHERE m.event = 'signup'), 0) AS signups,"
    "   sum(m.late) AS late" HOPS " GROUP BY w)"
    "  ORDER BY w DESC LIMIT ?4) ORDER BY w";
static const char sql_window_revenue[] =
    "SELECT " WINDOW ", m.currency, sum(m.amount_minor)" HOPS
    " AND m.currency <> '' GROUP BY w, m.currency HAVING sum(m.count) > 0"
    " ORDER BY w, m.currency";
static const char sql_session_windows[] =
    "SELECT start_ms, last_ms, user_id, events, steps FROM sessions"
    " WHERE start_ms >= ?1 AND start_ms < ?2"
    " ORDER BY start_ms DESC, user_id LIMIT ?3";
static const char sql_top_users[] =
    "SELECT user_id AS name, sum(events) AS events FROM minute_users"
    " WHERE start_ms >= ?1 AND start_ms < ?2"
    " GROUP BY user_id ORDER BY 2 DESC, 1 LIMIT ?3";
static const char sql_top_pages[] =
    "SELECT page AS name, sum(events) AS events FROM minute_pages"
    " WHERE start_ms >= ?1 AND start_ms < ?2"
    " GROUP BY page ORDER BY 2 DESC, 1 LIMIT ?3";

static const char *const step_names[STEPS] = {"visit", "product", "cart",
    "checkout", "purchase", "search", "signup"};

/* ---- what is asked for ------------------------------------------------------ */

struct range {
	int64_t from_ms, to_ms; /* minutes that begin in it */
	int64_t newest_ms, closed_ms; /* of all partitions */
	int64_t events, late; /* ever */
};

/* 0 with the range; else the response has a problem, or a 304. */
static int
read_range(struct web_request *req, struct web_response *res,
    const char *const *known, struct range *range)
{
	struct store_rows *rows;
	struct mr_error err;
	int64_t revision;

	*range = (struct range){.from_ms = -1, .to_ms = -1};
	if (web_query_only(req, res, known) != 0 ||
	    web_query_i64(req, res, "from", 0, INT64_C(1) << 53,
		&range->from_ms) == -1 ||
	    web_query_i64(req, res, "to", 0, INT64_C(1) << 53, &range->to_ms) ==
		-1 ||
	    service_revision(req, res, sql_revision, &revision) != 0)
		return (-1);
	if ((rows = store_query(req->reader, &err, sql_watermarks)) == NULL ||
	    store_next(rows, &err) == -1) {
		store_rows_done(rows);
		web_problem_error(res, &err);
		return (-1);
	}
	range->newest_ms = store_get_i64(rows, 0);
	range->closed_ms = store_get_i64(rows, 1);
	range->events = store_get_i64(rows, 2);
	range->late = store_get_i64(rows, 3);
	store_rows_done(rows);
	if (range->to_ms == -1)
		range->to_ms = range->newest_ms / MINUTE_MS * MINUTE_MS +
		    MINUTE_MS;
	if (range->from_ms == -1)
		range->from_ms = range->to_ms > RANGE_MS ?
		    range->to_ms - RANGE_MS :
		    0;
	return (0);
}

static struct store_rows *
query_range(struct web_request *req, struct web_response *res, const char *sql,
    const struct range *range, struct mr_error *err)
{
	struct store_rows *rows = store_query(req->reader, err, sql,
	    store_i64(range->from_ms), store_i64(range->to_ms));

	if (rows == NULL)
		web_problem_error(res, err);
	return (rows);
}

static int
member_found(struct json_writer *w, struct web_request *req,
    struct web_response *res, const char *name, const char *sql,
    const struct range *range)
{
	struct mr_error err;
	int64_t value = 0;

	if (store_find(req->reader, &err, &value, sql,
		store_i64(range->from_ms), store_i64(range->to_ms)) == -1) {
		web_problem_error(res, &err);
		return (-1);
	}
	json_member_i64(w, name, value);
	return (0);
}

static void
begin_document(struct json_writer *w, struct web_response *res,
    const struct range *range)
{

	json_init(w, &res->body);
	json_object_open(w);
	json_member_i64(w, "from_ms", range->from_ms);
	json_member_i64(w, "to_ms", range->to_ms);
}

static void
end_document(struct json_writer *w)
{

	json_member_i64(w, "poll_ms", service_poll_ms());
	json_object_close(w);
}

/* ---- sessions by what they had ---------------------------------------------- */

struct session_sums {
	int64_t sessions, events, duration_ms;
	int64_t of[1 << STEPS]; /* sessions by their steps */
};

static int
sum_sessions(struct web_request *req, struct web_response *res,
    const struct range *range, struct session_sums *sums)
{
	struct store_rows *rows;
	struct mr_error err;
	int64_t steps;
	int more;

	memset(sums, 0, sizeof(*sums));
	if ((rows = query_range(req, res, sql_steps, range, &err)) == NULL)
		return (-1);
	while ((more = store_next(rows, &err)) == 1) {
		steps = store_get_i64(rows, 0) & ((1 << STEPS) - 1);
		sums->of[steps] += store_get_i64(rows, 1);
		sums->sessions += store_get_i64(rows, 1);
		sums->events += store_get_i64(rows, 2);
		sums->duration_ms += store_get_i64(rows, 3);
	}
	store_rows_done(rows);
	if (more == -1)
		web_problem_error(res, &err);
	return (more);
}

/* Sessions that had all of ${steps}. */
static int64_t
sessions_with(const struct session_sums *sums, int steps)
{
	int64_t count = 0;
	int i;

	for (i = 0; i < 1 << STEPS; i++)
		if ((i & steps) == steps)
			count += sums->of[i];
	return (count);
}

/* Pearson's phi of two steps in a session, from -1 to 1, to four decimals; NAN
 * if every session or none has one of them. */
static double
correlation(const struct session_sums *sums, int a, int b)
{
	const double n = (double)sums->sessions;
	const double with_a = (double)sessions_with(sums, a);
	const double with_b = (double)sessions_with(sums, b);
	const double both = (double)sessions_with(sums, a | b);
	const double scale = sqrt(with_a) * sqrt(n - with_a) * sqrt(with_b) *
	    sqrt(n - with_b);

	return (scale > 0 ?
		round((n * both - with_a * with_b) / scale * 10000) / 10000 :
		NAN);
}

static void
write_correlations(struct json_writer *w, const struct session_sums *sums)
{
	int a, b;

	json_key(w, "correlations");
	json_array_open(w);
	for (a = 1; a < STEPS; a++) {
		for (b = a + 1; b < STEPS; b++) {
			json_object_open(w);
			json_member_text(w, "a", step_names[a]);
			json_member_text(w, "b", step_names[b]);
			json_member_i64(w, "sessions",
			    sessions_with(sums, 1 << a | 1 << b));
			json_key(w, "phi");
			json_f64(w, correlation(sums, 1 << a, 1 << b));
			json_object_close(w);
		}
	}
	json_array_close(w);
}

static void
get_funnel(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"from", "to", NULL};
	struct session_sums sums;
	struct json_writer w;
	struct range range;
	int i, steps = 0;

	if (read_range(req, res, known, &range) != 0 ||
	    sum_sessions(req, res, &range, &sums) != 0)
		return;
	begin_document(&w, res, &range);
	json_member_i64(&w, "sessions", sums.sessions);
	json_key(&w, "funnel");
	json_array_open(&w);
	for (i = 0; i < FUNNEL_STEPS; i++) {
		steps |= 1 << i;
		json_object_open(&w);
		json_member_text(&w, "step", step_names[i]);
		json_member_i64(&w, "sessions", sessions_with(&sums, steps));
		json_object_close(&w);
	}
	json_array_close(&w);
	write_correlations(&w, &sums);
	end_document(&w);
}

/* ---- summary ---------------------------------------------------------------- */

static int
write_kinds(struct json_writer *w, struct web_request *req,
    struct web_response *res, const struct range *range)
{
	struct store_rows *rows;
	struct mr_error err;
	int64_t counts[USER_EVENT_KINDS] = {0};
	int more, i;

	if ((rows = query_range(req, res, sql_kinds, range, &err)) == NULL)
		return (-1);
	while ((more = store_next(rows, &err)) == 1)
		for (i = 0; i < USER_EVENT_KINDS; i++)
			if (strcmp(store_get_text(rows, 0),
				user_event_kind_text(
				    (enum user_event_kind)i)) == 0)
				counts[i] = store_get_i64(rows, 1);
	store_rows_done(rows);
	if (more == -1) {
		web_problem_error(res, &err);
		return (-1);
	}
	json_key(w, "events");
	json_object_open(w);
	for (i = 0; i < USER_EVENT_KINDS; i++)
		json_member_i64(w,
		    user_event_kind_text((enum user_event_kind)i), counts[i]);
	json_object_close(w);
	return (0);
}

static int
write_revenue(struct json_writer *w, struct web_request *req,
    struct web_response *res, const struct range *range)
{
	struct store_rows *rows;
	struct mr_error err;
	int more;

	if ((rows = query_range(req, res, sql_revenue, range, &err)) == NULL)
		return (-1);
	json_key(w, "revenue");
	json_array_open(w);
	while ((more = store_next(rows, &err)) == 1) {
		json_object_open(w);
		json_member_text(w, "currency", store_get_text(rows, 0));
		json_member_i64(w, "purchases", store_get_i64(rows, 1));
		json_member_i64(w, "amount_minor", store_get_i64(rows, 2));
		json_object_close(w);
	}
	json_array_close(w);
	store_rows_done(rows);
	if (more == -1)
		web_problem_error(res, &err);
	return (more);
}

static void
get_summary(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"from", "to", NULL};
	struct session_sums sums;
	struct json_writer w;
	struct range range;

	if (read_range(req, res, known, &range) != 0 ||
	    sum_sessions(req, res, &range, &sums) != 0)
		return;
	begin_document(&w, res, &range);
	if (write_kinds(&w, req, res, &range) != 0 ||
	    write_revenue(&w, req, res, &range) != 0 ||
	    member_found(&w, req, res, "late", sql_late_range, &range) != 0 ||
	    member_found(&w, req, res, "users", sql_users, &range) != 0)
		return;
	json_key(&w, "sessions");
	json_object_open(&w);
	json_member_i64(&w, "count", sums.sessions);
	json_member_i64(&w, "events", sums.events);
	json_member_i64(&w, "duration_ms", sums.duration_ms);
	json_member_i64(&w, "with_purchase",
	    sessions_with(&sums, STEP_PURCHASE));
	json_object_close(&w);
	json_key(&w, "ever");
	json_object_open(&w);
	json_member_i64(&w, "events", range.events);
	json_member_i64(&w, "late", range.late);
	json_object_close(&w);
	json_member_i64(&w, "watermark_ms", range.newest_ms);
	end_document(&w);
}

/* ---- windows ---------------------------------------------------------------- */

static void
write_window_bounds(struct json_writer *w, int64_t start_ms, int64_t end_ms,
    const struct range *range)
{

	json_member_i64(w, "start_ms", start_ms);
	json_member_i64(w, "end_ms", end_ms);
	json_member_bool(w, "closed", end_ms <= range->closed_ms);
}

/* Those of the window at hand; ${more} says whether ${rows} is at a row. */
static void
write_window_revenue(struct json_writer *w, struct store_rows *rows,
    int64_t start_ms, int *more, struct mr_error *err)
{

	json_key(w, "amount_minor");
	json_object_open(w);
	while (*more == 1 && store_get_i64(rows, 0) < start_ms)
		*more = store_next(rows, err);
	for (; *more == 1 && store_get_i64(rows, 0) == start_ms;
	     *more = store_next(rows, err))
		json_member_i64(w, store_get_text(rows, 1),
		    store_get_i64(rows, 2));
	json_object_close(w);
}

static void
write_windows(struct web_response *res, struct store_rows *rows,
    struct store_rows *revenue, const struct range *range, int64_t minutes)
{
	struct json_writer w;
	struct mr_error err;
	int64_t start_ms;
	int more, more_revenue;

	begin_document(&w, res, range);
	json_key(&w, "windows");
	json_array_open(&w);
	more_revenue = store_next(revenue, &err);
	while (more_revenue != -1 && (more = store_next(rows, &err)) == 1) {
		start_ms = store_get_i64(rows, 0);
		json_object_open(&w);
		write_window_bounds(&w, start_ms,
		    start_ms + minutes * MINUTE_MS, range);
		json_member_i64(&w, "click", store_get_i64(rows, 1));
		json_member_i64(&w, "purchase", store_get_i64(rows, 2));
		json_member_i64(&w, "signup", store_get_i64(rows, 3));
		json_member_i64(&w, "late", store_get_i64(rows, 4));
		json_member_i64(&w, "users", store_get_i64(rows, 5));
		write_window_revenue(&w, revenue, start_ms, &more_revenue,
		    &err);
		json_object_close(&w);
	}
	if (more_revenue == -1 || more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	end_document(&w);
}

static void
get_minutes(struct web_request *req, struct web_response *res,
    const struct range *range, int64_t minutes, int64_t limit)
{
	struct store_rows *rows, *revenue = NULL;
	struct mr_error err;

	rows = store_query(req->reader, &err, sql_windows,
	    store_i64(range->from_ms), store_i64(range->to_ms),
	    store_i64(minutes), store_i64(limit));
	if (rows != NULL)
		revenue = store_query(req->reader, &err, sql_window_revenue,
		    store_i64(range->from_ms), store_i64(range->to_ms),
		    store_i64(minutes));
	if (revenue == NULL)
		web_problem_error(res, &err);
	else
		write_windows(res, rows, revenue, range, minutes);
	store_rows_done(revenue);
	store_rows_done(rows);
}

static void
write_step_names(struct json_writer *w, int64_t steps)
{
	int i;

	json_key(w, "steps");
	json_array_open(w);
	for (i = 0; i < STEPS; i++)
		if (steps & 1 << i)
			json_text(w, step_names[i]);
	json_array_close(w);
}

static void
get_sessions(struct web_request *req, struct web_response *res,
    const struct range *range, int64_t limit)
{
	struct store_rows *rows;
	struct json_writer w;
	struct mr_error err;
	int more;

	if ((rows = store_query(req->reader, &err, sql_session_windows,
		 store_i64(range->from_ms), store_i64(range->to_ms),
		 store_i64(limit))) == NULL) {
		web_problem_error(res, &err);
		return;
	}
	begin_document(&w, res, range);
	json_key(&w, "windows");
	json_array_open(&w);
	while ((more = store_next(rows, &err)) == 1) {
		json_object_open(&w);
		write_window_bounds(&w, store_get_i64(rows, 0),
		    store_get_i64(rows, 1) + SESSION_GAP_MS, range);
		json_member_i64(&w, "last_ms", store_get_i64(rows, 1));
		json_member_text(&w, "user_id", store_get_text(rows, 2));
		json_member_i64(&w, "events", store_get_i64(rows, 3));
		write_step_names(&w, store_get_i64(rows, 4));
		json_object_close(&w);
	}
	store_rows_done(rows);
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	end_document(&w);
}

static void
get_windows(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"kind", "from", "to", "limit",
	    NULL};
	char kind[16] = "tumbling";
	int64_t limit = 60;
	struct range range;

	if (web_query_text(req, res, "kind", kind, sizeof(kind)) == -1 ||
	    web_query_i64(req, res, "limit", 1, WINDOWS_MOST, &limit) == -1)
		return;
	if (strcmp(kind, "tumbling") != 0 && strcmp(kind, "hopping") != 0 &&
	    strcmp(kind, "session") != 0) {
		web_problem_field(res, "kind",
		    "must be tumbling, hopping or session");
		return;
	}
	if (read_range(req, res, known, &range) != 0)
		return;
	if (kind[0] == 's')
		get_sessions(req, res, &range, limit);
	else
		get_minutes(req, res, &range, kind[0] == 't' ? 1 : HOP_MINUTES,
		    limit);
}

/* ---- top -------------------------------------------------------------------- */

static void
get_top(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"what", "from", "to", "limit",
	    NULL};
	char what[16] = "pages";
	int64_t limit = 10;
	struct range range;

	if (web_query_text(req, res, "what", what, sizeof(what)) == -1 ||
	    web_query_i64(req, res, "limit", 1, TOP_MOST, &limit) == -1)
		return;
	if (strcmp(what, "users") != 0 && strcmp(what, "pages") != 0) {
		web_problem_field(res, "what", "must be users or pages");
		return;
	}
	if (read_range(req, res, known, &range) != 0)
		return;
	service_rows(req, res, "top", NULL,
	    what[0] == 'u' ? sql_top_users : sql_top_pages,
	    store_i64(range.from_ms), store_i64(range.to_ms), store_i64(limit));
}

const struct web_route analytics_routes[] = {
    {"GET", "/analytics/summary", get_summary},
    {"GET", "/analytics/windows", get_windows},
    {"GET", "/analytics/funnel", get_funnel},
    {"GET", "/analytics/top", get_top},
    {NULL, NULL, NULL},
};
