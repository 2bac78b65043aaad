/*
 * loop_analytics -- analytics' work without Millrace: the bare loop to compare
 * with.
 *
 *	loop_analytics DB RECORDS BATCH
 *
 * The statements of the service and of its core, on SQLite directly; events as
 * of event-producer --pace 50 --late-share 0 --seed 1.
 */
#include "bare.h"

#include "../../cmd/analytics/analytics.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/event-producer/shop.c" /* NOLINT(bugprone-suspicious-include) */

#define SOURCE "/millrace/event-producer/00000000000000000000000000000b1c"
#define TOPIC "user-events"
#define PARTITIONS 3
#define GRACE_MS 60000

enum statement {
	PROGRESS = BARE_OWN,
	MINUTE,
	USER,
	PAGE,
	SESSIONS,
	INSERT,
	UPDATE,
	DELETE,
	STATEMENTS
};
static const char *const sql[STATEMENTS - BARE_OWN] = {sql_progress, sql_minute,
    sql_user, sql_page, sql_sessions, sql_session_insert, sql_session_update,
    sql_session_delete};
static const struct shop_settings settings = {.rate = 50,
    .zipf = 1,
    .users = 1000,
    .sessions = 50,
    .start_ms = INT64_C(1790000000000),
    .seed = 1};
static struct shop shop;

static void
open_file(const char *path)
{
	int i;

	bare_open(path, "analytics", migrations_analytics, sql,
	    STATEMENTS - BARE_OWN, "");
	shop.seed = settings.seed;
	id_rng_seed(&shop.rng, (uint64_t)settings.seed);
	for (i = 0; i < SHOP_SESSIONS_MOST; i++)
		shop.visits[i].page = PAGE_NONE;
}

static void
encode(int64_t n, struct buffer *value)
{

	(void)n;
	shop_step(&shop, &settings, settings.start_ms, 1);
	user_event_encode(&shop.made[0], value);
}

static void
before(void)
{

	bare_begin(SOURCE, PARTITIONS);
}

static void
write_one(int s, const char *user_id, const struct session *session)
{

	bare_text(s, 1, user_id);
	bare_number(s, 2, session->start_ms);
	if (s != DELETE) {
		bare_number(s, 3, session->last_ms);
		bare_number(s, 4, session->events);
		bare_number(s, 5, session->steps);
	}
	bare_run(s);
}

static void
apply_to_sessions(const struct user_event *event)
{
	struct session found[2],
	    all = {event->ts_ms, event->ts_ms, 1, steps_of(event)};
	int count = 0, i;

	bare_text(SESSIONS, 1, event->user_id);
	bare_number(SESSIONS, 2, event->ts_ms);
	bare_number(SESSIONS, 3, SESSION_GAP_MS);
	for (; bare_step(SESSIONS); count++)
		found[count] = (struct session){bare_column(SESSIONS, 0),
		    bare_column(SESSIONS, 1), bare_column(SESSIONS, 2),
		    bare_column(SESSIONS, 3)};
	for (i = 0; i < count; i++) {
		if (found[i].start_ms < all.start_ms)
			all.start_ms = found[i].start_ms;
		if (found[i].last_ms > all.last_ms)
			all.last_ms = found[i].last_ms;
		all.events += found[i].events;
		all.steps |= found[i].steps;
	}
	if (count == 1 && found[0].start_ms == all.start_ms) {
		write_one(UPDATE, event->user_id, &all);
		return;
	}
	for (i = 0; i < count; i++)
		write_one(DELETE, event->user_id, &found[i]);
	write_one(INSERT, event->user_id, &all);
}

static void
apply(const struct buffer *value, int64_t n)
{
	struct user_event event;
	struct mr_error err;
	int64_t start_ms;
	int partition;

	if (user_event_decode(value->data, value->length, &event, &err) == -1)
		bare_die(err.message);
	partition = kafka_partition_of(event.user_id, strlen(event.user_id),
	    PARTITIONS);
	start_ms = event.ts_ms - event.ts_ms % MINUTE_MS;
	bare_number(PROGRESS, 1, partition);
	bare_number(PROGRESS, 2, event.ts_ms);
	bare_number(PROGRESS, 3, GRACE_MS);
	bare_run(PROGRESS);
	bare_number(MINUTE, 1, start_ms);
	bare_text(MINUTE, 2, user_event_kind_text(event.kind));
	bare_text(MINUTE, 3, event.currency);
	bare_number(MINUTE, 4, 1);
	bare_number(MINUTE, 5, event.amount_minor);
	bare_number(MINUTE, 6, 0);
	bare_run(MINUTE);
	bare_number(USER, 1, start_ms);
	bare_text(USER, 2, event.user_id);
	bare_run(USER);
	bare_number(PAGE, 1, start_ms);
	bare_text(PAGE, 2, event.page);
	bare_run(PAGE);
	apply_to_sessions(&event);
	bare_marks[partition] = n + 1;
	bare_nexts[partition]++;
}

static void
after(int64_t n)
{

	(void)n;
	bare_commit(SOURCE, TOPIC, PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before, apply,
	    after};

	return (bare_main(argc, argv, &loop));
}
