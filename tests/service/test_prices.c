/*
 * prices, driven: points and candles come out the same whatever dies when, who
 * polls misses nothing, and a clock that was ahead holds up no symbol.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

int prices_main(int argc, char **argv);
#define main prices_main
#include "../../cmd/prices/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main
#include "../../cmd/prices/api.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/prices/prices.c" /* NOLINT(bugprone-suspicious-include) */

static const char topic[] = "stock-prices";
static const char letters[] = "prices.dead-letter";

#define HOUR_MS INT64_C(3600000)
#define AT_MS (TESTING_START_MS - HOUR_MS) /* a full hour, and gone by */
#define CENTURIES_MS INT64_C(200000000000000)
#define POLLS_MOST 64

/* ${at_ms} is counted from AT_MS. */
static void
feed(struct testing *t, const char *symbol, int64_t at_ms)
{
	char text[128];

	snprintf(text, sizeof(text),
	    "{\"symbol\":\"%s\",\"price\":1.5,\"ts_ms\":%lld}", symbol,
	    (long long)(AT_MS + at_ms));
	testing_feed(t, topic, PRICE_EVENT_TYPE, symbol, text);
}

/* The number that follows ${name}; its place is *next, for the next one. */
static int64_t
number_after(const char *body, const char *name, const char **next)
{
	const char *at = strstr(body, name);

	if (next != NULL)
		*next = at;
	return (at == NULL ? -1 : strtoll(at + strlen(name), NULL, 10));
}

static const char *
ask(struct testing *t, const char *base, int64_t since)
{
	const struct testing_answer *answer;
	char target[128];

	if (since == -1)
		snprintf(target, sizeof(target), "%s", base);
	else
		snprintf(target, sizeof(target), "%s%csince=%lld", base,
		    strchr(base, '?') == NULL ? '?' : '&', (long long)since);
	answer = testing_request(t, "GET", target, NULL);
	if (answer->status != 200)
		fail_msg("%s: %d %s", target, answer->status, answer->body);
	return (answer->body);
}

static int64_t
cursor_of(const char *body)
{

	return (number_after(body, "\"cursor\":", NULL));
}

/* How many rows an answer has, which are in the order of their time. */
static int
rows_of(const char *body, const char *name, int64_t *first_ms)
{
	const char *next = body;
	int64_t at_ms, last_ms = INT64_MIN;
	int count;

	for (count = 0;; count++, next++) {
		at_ms = number_after(next, name, &next);
		if (next == NULL)
			return (count);
		assert_true(at_ms >= last_ms);
		if (count == 0)
			*first_ms = at_ms - AT_MS;
		last_ms = at_ms;
	}
}

/* Poll from ${since} until there is nothing: how many rows came in all. */
static int
poll_all(struct testing *t, const char *base, const char *name, int64_t since)
{
	int64_t first_ms;
	const char *body;
	int all = 0, count, polls;

	for (polls = 0; polls < POLLS_MOST; polls++) {
		body = ask(t, base, since);
		if ((count = rows_of(body, name, &first_ms)) == 0)
			return (all);
		all += count;
		assert_true(cursor_of(body) > since);
		since = cursor_of(body);
	}
	fail_msg("%s: still not all after %d polls", base, polls);
	return (-1);
}

static void
it_comes_out_the_same_wherever_it_dies(void **state)
{
	struct testing *t = testing_open(&prices, NULL);
	struct mr_error err = {0};
	int crashes = 0;

	(void)state;
	feed(t, "ACME", 1000);
	feed(t, "GLOBEX", 1000);
	feed(t, "ACME", 61000);
	testing_repeat(t, topic, 2);
	feed(t, "ACME", 2000);
	testing_feed(t, topic, PRICE_EVENT_TYPE, "ACME", "{\"symbol\":7}");
	ask(t, "/prices/ACME/candles?interval=1s", 1);
	ask(t, "/prices/ACME", 1);
	testing_advance(t, 5000);
	assert_int_equal(testing_emitted(t, letters), 1);
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 10);
	testing_close(t);
}

static void
who_polls_misses_no_point(void **state)
{
	static const int count = POINTS_MOST + 3;
	static const char ts_ms[] = "\"ts_ms\":";
	struct testing *t = testing_open(&prices, NULL);
	int64_t first_ms, cursor;
	const char *body;
	int i;

	(void)state;
	feed(t, "ACME", 0);
	cursor = cursor_of(ask(t, "/prices/ACME", -1));
	assert_int_equal(cursor, 1);
	/* The newest comes first: its seq isn't that of the last row. */
	feed(t, "ACME", count);
	for (i = 1; i < count; i++)
		feed(t, "ACME", i);
	feed(t, "GLOBEX", 0);
	body = ask(t, "/prices/ACME", cursor);
	assert_int_equal(rows_of(body, ts_ms, &first_ms), POINTS_MOST);
	assert_int_equal(first_ms, 1);
	assert_int_equal(cursor_of(body), 1 + POINTS_MOST);
	assert_int_equal(poll_all(t, "/prices/ACME", ts_ms, cursor), count);
	/* All of them are within it. */
	assert_int_equal(poll_all(t, "/prices/ACME?window=60", ts_ms, cursor),
	    count);
	/* The first time it is the newest that count. */
	body = ask(t, "/prices/ACME", -1);
	assert_int_equal(rows_of(body, ts_ms, &first_ms), POINTS_MOST);
	assert_int_equal(first_ms, count + 1 - POINTS_MOST);
	assert_int_equal(cursor_of(body), count + 2);
	testing_close(t);
}

/* The ETag of what is asked for. */
static void
etag_of(struct testing *t, const char *target, char etag[64])
{
	const struct testing_answer *answer = testing_request(t, "GET", target,
	    NULL);

	assert_int_equal(answer->status, 200);
	assert_true(answer->etag[0] != '\0');
	snprintf(etag, 64, "%s", answer->etag);
}

/* 304 for a tail would keep from the client what is behind its limit, and for
 * a list that rows have gone from since. */
static void
an_etag_is_that_of_one_answer(void **state)
{
	static const char *const targets[] = {"/prices", "/prices/ACME",
	    "/prices/ACME?since=1", "/prices/ACME?since=2",
	    "/prices/ACME/candles?interval=1s",
	    "/prices/ACME/candles?interval=1s&since=0&limit=1",
	    "/prices/ACME/candles?interval=1s&since=1&limit=1",
	    "/prices/ACME/candles?interval=1h"};
	enum { TARGETS = sizeof(targets) / sizeof(targets[0]) };
	struct testing *t = testing_open(&prices, NULL);
	char etags[TARGETS][64], again[64];
	int i, k;

	(void)state;
	for (i = 0; i < 3; i++)
		feed(t, "ACME", i * INT64_C(1000));
	for (i = 0; i < TARGETS; i++) {
		etag_of(t, targets[i], etags[i]);
		etag_of(t, targets[i], again);
		assert_string_equal(again, etags[i]);
		for (k = 0; k < i; k++)
			assert_string_not_equal(etags[i], etags[k]);
	}
	/* The points and candles of a second go; no price has come. */
	testing_advance(t, prices_keep_points_ms + HOUR_MS);
	etag_of(t, "/prices/ACME", again);
	assert_string_not_equal(again, etags[1]);
	etag_of(t, "/prices/ACME/candles?interval=1h", again);
	assert_string_equal(again, etags[TARGETS - 1]);
	testing_close(t);
}

static void
who_polls_misses_no_candle(void **state)
{
#define CANDLES "/prices/ACME/candles?interval=1s&limit=3"
	static const char start_ms[] = "\"start_ms\":";
	struct testing *t = testing_open(&prices, NULL);
	int64_t first_ms;
	const char *body;
	int i;

	(void)state;
	feed(t, "ACME", 9000);
	for (i = 1; i < 8; i++)
		feed(t, "ACME", i * INT64_C(1000));
	body = ask(t, CANDLES, 0);
	assert_int_equal(rows_of(body, start_ms, &first_ms), 3);
	assert_int_equal(first_ms, 1000);
	assert_int_equal(cursor_of(body), 3);
	assert_int_equal(poll_all(t, CANDLES, start_ms, 0), 8);
	/* One that changes while the others are read is given again. */
	feed(t, "ACME", 1500);
	assert_int_equal(poll_all(t, CANDLES, start_ms, 3), 6);
	assert_int_equal(poll_all(t, CANDLES, start_ms, 0), 8);
	body = ask(t, CANDLES, -1);
	assert_int_equal(rows_of(body, start_ms, &first_ms), 3);
	assert_int_equal(first_ms, 6000);
	assert_int_equal(cursor_of(body), 9);
	testing_close(t);
}

/* What ${target} tells of the newest price's time, counted from AT_MS. */
static int64_t
newest_of(struct testing *t, const char *target)
{

	return (
	    number_after(ask(t, target, -1), "\"newest_ms\":", NULL) - AT_MS);
}

/* Half a second on, a price comes from a clock that is right. */
static void
come(struct testing *t, int64_t *now_ms)
{

	testing_advance(t, 500);
	*now_ms += 500;
	feed(t, "ACME", *now_ms);
}

static void
a_clock_that_was_ahead_holds_up_no_symbol(void **state)
{
	static const char ts_ms[] = "\"ts_ms\":", start_ms[] = "\"start_ms\":";
	static const int64_t ahead[] = {6000, HOUR_MS, HOUR_MS + 1,
	    CENTURIES_MS};
	struct testing *t = testing_open(&prices, NULL);
	int64_t now_ms = HOUR_MS, first_ms, cursor;
	size_t i;

	(void)state;
	come(t, &now_ms);
	for (i = 0; i < sizeof(ahead) / sizeof(ahead[0]); i++) {
		cursor = cursor_of(ask(t, "/prices/ACME", -1));
		feed(t, "ACME", now_ms + ahead[i]);
		come(t, &now_ms);
		assert_int_equal(newest_of(t, "/prices/ACME"), now_ms);
		/* Who polls is given the one that is ahead all the same. */
		assert_int_equal(rows_of(ask(t, "/prices/ACME", cursor), ts_ms,
				     &first_ms),
		    2);
	}
	assert_int_equal(number_after(ask(t, "/prices", -1), ts_ms, NULL),
	    AT_MS + now_ms);
	assert_int_equal(rows_of(ask(t, "/prices/ACME?window=60", -1), ts_ms,
			     &first_ms),
	    7);
	assert_int_equal(first_ms, HOUR_MS + 500);
	assert_int_equal(newest_of(t, "/prices/ACME/candles"), now_ms);
	assert_int_equal(rows_of(ask(t, "/prices/ACME/candles?interval=1s", -1),
			     start_ms, &first_ms),
	    3);
	assert_int_equal(testing_emitted(t, letters), 0);
	testing_close(t);
}

/* Made long before it was recorded, it is none that a clock put right gives. */
static void
a_late_price_is_not_the_newest(void **state)
{
	struct testing *t = testing_open(&prices, NULL);

	(void)state;
	feed(t, "ACME", HOUR_MS);
	feed(t, "ACME", HOUR_MS - 1);
	assert_int_equal(newest_of(t, "/prices/ACME"), HOUR_MS);
	testing_close(t);
}

static void
what_came_from_ahead_goes_as_all_does(void **state)
{
	struct testing *t = testing_open(&prices, NULL);

	(void)state;
	feed(t, "ACME", CENTURIES_MS);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM price_points"),
	    1);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM candles"), 3);
	testing_advance(t, prices_keep_points_ms + HOUR_MS);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM price_points"),
	    0);
	assert_int_equal(testing_number(t, "SELECT count(*) FROM candles"), 2);
	testing_close(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_comes_out_the_same_wherever_it_dies),
	    cmocka_unit_test(who_polls_misses_no_point),
	    cmocka_unit_test(who_polls_misses_no_candle),
	    cmocka_unit_test(an_etag_is_that_of_one_answer),
	    cmocka_unit_test(a_clock_that_was_ahead_holds_up_no_symbol),
	    cmocka_unit_test(a_late_price_is_not_the_newest),
	    cmocka_unit_test(what_came_from_ahead_goes_as_all_does),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
