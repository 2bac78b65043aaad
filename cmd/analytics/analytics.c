#include <string.h>

#include "analytics.h"

#define DELETE_MOST 5000 /* rows of a kind a tick */

int64_t analytics_grace_ms;
int64_t analytics_keep_ms;
int64_t analytics_ahead_ms;

static const char sql_progress[] =
    "INSERT INTO progress (partition, watermark_ms, closed_ms, events)"
    " VALUES (?1, ?2, max(?2 - ?3, 0), 1)"
    " ON CONFLICT (partition) DO UPDATE SET"
    " watermark_ms = max(watermark_ms, ?2), events = events + 1,"
    " closed_ms = max(closed_ms, watermark_ms - ?3, ?2 - ?3)"
    " RETURNING closed_ms";
/* Where no event comes: --grace may be less than before. */
static const char sql_close[] =
    "UPDATE progress SET closed_ms = watermark_ms - ?1"
    " WHERE closed_ms < watermark_ms - ?1";
static const char sql_late[] =
    "UPDATE progress SET late = late + 1 WHERE partition = ?1";
static const char sql_minute[] =
    "INSERT INTO minutes (start_ms, event, currency, count, amount_minor, late)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
    " ON CONFLICT (start_ms, event, currency) DO UPDATE SET"
    " count = count + ?4, amount_minor = amount_minor + ?5, late = late + ?6";
static const char sql_user[] =
    "INSERT INTO minute_users (start_ms, user_id, events) VALUES (?1, ?2, 1)"
    " ON CONFLICT (start_ms, user_id) DO UPDATE SET events = events + 1";
static const char sql_page[] =
    "INSERT INTO minute_pages (start_ms, page, events) VALUES (?1, ?2, 1)"
    " ON CONFLICT (start_ms, page) DO UPDATE SET events = events + 1";
/* Sessions that an event at ?2 belongs to: one, or two that it joins. */
static const char sql_sessions[] =
    "SELECT start_ms, last_ms, events, steps FROM sessions"
    " WHERE user_id = ?1 AND start_ms < ?2 + ?3 AND last_ms > ?2 - ?3"
    " ORDER BY start_ms DESC LIMIT 2";
static const char sql_session_insert[] =
    "INSERT INTO sessions (user_id, start_ms, last_ms, events, steps)"
    " VALUES (?1, ?2, ?3, ?4, ?5)";
static const char sql_session_update[] =
    "UPDATE sessions SET last_ms = ?3, events = ?4, steps = ?5"
    " WHERE user_id = ?1 AND start_ms = ?2";
static const char sql_session_delete[] =
    "DELETE FROM sessions WHERE user_id = ?1 AND start_ms = ?2";

static const char sql_expire_minutes[] =
    "DELETE FROM minutes WHERE (start_ms, event, currency) IN"
    " (SELECT start_ms, event, currency FROM minutes WHERE start_ms < ?1"
    "  ORDER BY start_ms, event, currency LIMIT ?2)";
static const char sql_expire_users[] =
    "DELETE FROM minute_users WHERE (start_ms, user_id) IN"
    " (SELECT start_ms, user_id FROM minute_users WHERE start_ms < ?1"
    "  ORDER BY start_ms, user_id LIMIT ?2)";
static const char sql_expire_pages[] =
    "DELETE FROM minute_pages WHERE (start_ms, page) IN"
    " (SELECT start_ms, page FROM minute_pages WHERE start_ms < ?1"
    "  ORDER BY start_ms, page LIMIT ?2)";
static const char sql_expire_sessions[] =
    "DELETE FROM sessions WHERE (user_id, start_ms) IN"
    " (SELECT user_id, start_ms FROM sessions WHERE start_ms < ?1"
    "  ORDER BY start_ms, user_id LIMIT ?2)";

/* ---- sessions --------------------------------------------------------------- */

struct session {
	int64_t start_ms, last_ms, events, steps;
};

static int
steps_of(const struct user_event *event)
{
	int steps = STEP_VISIT;

	if (strncmp(event->page, "/product", 8) == 0 &&
	    (event->page[8] == '/' || event->page[8] == '\0'))
		steps |= STEP_PRODUCT;
	if (strcmp(event->page, "/cart") == 0)
		steps |= STEP_CART;
	if (strcmp(event->page, "/checkout") == 0)
		steps |= STEP_CHECKOUT;
	if (strcmp(event->page, "/search") == 0)
		steps |= STEP_SEARCH;
	if (event->kind == USER_PURCHASE)
		steps |= STEP_PURCHASE;
	if (event->kind == USER_SIGNUP)
		steps |= STEP_SIGNUP;
	return (steps);
}

/* How many there are that the event belongs to, the later one first; or -1. */
static int
find_sessions(struct store *st, const struct user_event *event,
    struct session found[2], struct mr_error *err)
{
	struct store_rows *rows;
	int count = 0, more = 0;

	if ((rows = store_query(st, err, sql_sessions,
		 store_text(event->user_id), store_i64(event->ts_ms),
		 store_i64(SESSION_GAP_MS))) == NULL)
		return (-1);
	while (count < 2 && (more = store_next(rows, err)) == 1)
		found[count++] = (struct session){store_get_i64(rows, 0),
		    store_get_i64(rows, 1), store_get_i64(rows, 2),
		    store_get_i64(rows, 3)};
	store_rows_done(rows);
	return (more == -1 ? -1 : count);
}

static int
write_session(struct store *st, const char *sql, const char *user_id,
    const struct session *session, struct mr_error *err)
{

	return (
	    store_run(st, err, sql, store_text(user_id),
		store_i64(session->start_ms), store_i64(session->last_ms),
		store_i64(session->events), store_i64(session->steps)) == -1 ?
		-1 :
		0);
}

static int
apply_session(struct store *st, const struct user_event *event,
    struct mr_error *err)
{
	struct session found[2],
	    all = {event->ts_ms, event->ts_ms, 1, steps_of(event)};
	int count, i;

	if ((count = find_sessions(st, event, found, err)) == -1)
		return (-1);
	for (i = 0; i < count; i++) {
		if (found[i].start_ms < all.start_ms)
			all.start_ms = found[i].start_ms;
		if (found[i].last_ms > all.last_ms)
			all.last_ms = found[i].last_ms;
		all.events += found[i].events;
		all.steps |= found[i].steps;
	}
	/* By far the most: the session goes on. */
	if (count == 1 && found[0].start_ms == all.start_ms)
		return (write_session(st, sql_session_update, event->user_id,
		    &all, err));
	for (i = 0; i < count; i++)
		if (store_run(st, err, sql_session_delete,
			store_text(event->user_id),
			store_i64(found[i].start_ms)) == -1)
			return (-1);
	return (
	    write_session(st, sql_session_insert, event->user_id, &all, err));
}

/* ---- windows ---------------------------------------------------------------- */

static int
apply_minute(struct store *st, const struct user_event *event, int64_t start_ms,
    int late, struct mr_error *err)
{

	return (store_run(st, err, sql_minute, store_i64(start_ms),
		    store_text(user_event_kind_text(event->kind)),
		    store_text(event->currency), store_i64(!late),
		    store_i64(late ? 0 : event->amount_minor),
		    store_i64(late)) == -1 ?
		-1 :
		0);
}

/* 1 if the event is late; 0 if it isn't; or -1. */
static int
move_watermark(struct store *st, int partition, int64_t ts_ms, int64_t start_ms,
    struct mr_error *err)
{
	int64_t closed_ms;

	if (store_find(st, err, &closed_ms, sql_progress, store_i64(partition),
		store_i64(ts_ms), store_i64(analytics_grace_ms)) != 1)
		return (-1);
	if (start_ms + MINUTE_MS > closed_ms)
		return (0);
	return (
	    store_run(st, err, sql_late, store_i64(partition)) == -1 ? -1 : 1);
}

int
analytics_decode(const struct stream_record *record, void *decoded,
    struct mr_error *err)
{

	return (event_check_type(record->type, USER_EVENT_TYPE, err) != 0 ?
		-1 :
		user_event_decode(record->value, record->value_size, decoded,
		    err));
}

int
analytics_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	struct store *st = stream_store(s);
	const struct user_event *event = record->decoded;
	int64_t start_ms;
	int late;

	/* One that is far ahead would make all that follow late. */
	if (event_check_ahead("ts_ms", event->ts_ms, record->ts_ms,
		analytics_ahead_ms, "--ahead", err) != 0)
		return (-1);
	start_ms = event->ts_ms - event->ts_ms % MINUTE_MS;
	late = move_watermark(st, record->partition, event->ts_ms, start_ms,
	    err);
	if (late == -1 || apply_minute(st, event, start_ms, late, err) == -1)
		return (-1);
	if (late)
		return (0);
	if (store_run(st, err, sql_user, store_i64(start_ms),
		store_text(event->user_id)) == -1 ||
	    store_run(st, err, sql_page, store_i64(start_ms),
		store_text(event->page)) == -1)
		return (-1);
	return (apply_session(st, event, err));
}

int
analytics_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	static const char *const expire[] = {sql_expire_minutes,
	    sql_expire_users, sql_expire_pages, sql_expire_sessions};
	const struct store_value before = store_i64(now_ms - analytics_keep_ms);
	int64_t deleted;
	int more = 0;
	size_t i;

	if (store_run(stream_store(s), err, sql_close,
		store_i64(analytics_grace_ms)) == -1)
		return (-1);
	for (i = 0; i < sizeof(expire) / sizeof(expire[0]); i++) {
		if ((deleted = store_run(stream_store(s), err, expire[i],
			 before, store_i64(DELETE_MOST))) == -1)
			return (-1);
		more |= deleted == DELETE_MOST;
	}
	return (more);
}
