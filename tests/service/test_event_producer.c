/*
 * event-producer, driven: the same events once, whatever dies when and on
 * whatever machine; and its shop: users by Zipf's law, a funnel that narrows,
 * think times as the settings say.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

#include "../../cmd/event-producer/shop.c" /* NOLINT(bugprone-suspicious-include) */

int event_producer_main(int argc, char **argv);
#define main event_producer_main
#include "../../cmd/event-producer/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main

static const char topic[] = "user-events";

static void
events_come_once_wherever_it_dies(void **state)
{
	static const char *const flags[] = {"--rate=50", "--sessions=4", NULL};
	struct testing *t = testing_open(&event_producer, flags);
	const struct testing_record *record;
	struct mr_error err = {0};
	struct user_event event;
	char id[32];
	int crashes = 0, i;

	(void)state;
	testing_advance(t, 200);
	testing_restart(t);
	testing_advance(t, 200);
	assert_true(testing_emitted(t, topic) >= 15);
	assert_int_equal(testing_number(t, "SELECT events FROM shop"),
	    testing_emitted(t, topic));
	for (i = 0; i < testing_emitted(t, topic); i++) {
		record = testing_record(t, topic, i);
		if (user_event_decode(record->value, strlen(record->value),
			&event, &err) != 0)
			fail_msg("%s: %s", record->value, err.message);
		snprintf(id, sizeof(id), "1-%d", i + 1);
		assert_string_equal(event.event_id, id);
		assert_string_equal(event.user_id, record->key);
		assert_true(event.ts_ms <= TESTING_START_MS + 600);
	}
	if (testing_crashes(t, &crashes, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	assert_true(crashes > 20);
	testing_close(t);
}

static void
spread_records_have_no_key(void **state)
{
	static const char *const flags[] = {"--rate=50", "--partitioner=spread",
	    NULL};
	struct testing *t = testing_open(&event_producer, flags);

	(void)state;
	testing_advance(t, 500);
	assert_true(testing_emitted(t, topic) > 0);
	assert_null(testing_record(t, topic, 0)->key);
	testing_close(t);
}

/* What --partitioner= and --partition= say of the ${turn}-th record. */
static void
records_go_where_the_partitioner_says(void **state)
{
	static const struct {
		const char *flags[4];
		int divisor, add; /* turn / divisor + add, modulo 3 */
	} cases[] = {
	    {{"--rate=900", "--partitioner=round-robin", NULL}, 1, 0},
	    {{"--rate=900", "--partitioner=sticky", NULL}, 100, 0},
	    {{"--rate=900", "--partitioner=explicit", "--partition=2", NULL},
		100000, 2},
	};
	const struct testing_record *record;
	struct testing *t;
	struct mr_error err;
	size_t i;
	int k, count, rejoined;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		t = testing_open(&event_producer, cases[i].flags);
		testing_advance(t, 200);
		testing_restart(t); /* turns are in the file */
		rejoined = testing_emitted(t, topic);
		testing_advance(t, 200);
		count = testing_emitted(t, topic);
		assert_true(rejoined > 100 && count > rejoined + 100);
		for (k = 0; k < count; k++) {
			record = testing_record(t, topic, k);
			assert_non_null(record->key);
			assert_int_equal(record->partition,
			    (k / cases[i].divisor + cases[i].add) % 3);
		}
		if (testing_deterministic(t, &err) == -1)
			fail_msg("%s", err.message);
		testing_close(t);
	}
}

/* ---- the shop --------------------------------------------------------------- */

static struct shop one, other;

static struct shop_settings
plain(int64_t seed)
{

	return ((struct shop_settings){.rate = 100,
	    .zipf = 1,
	    .users = 1000,
	    .sessions = 50,
	    .seed = seed});
}

static void
set_up(struct shop *at, const struct shop_settings *set)
{
	int i;

	memset(at, 0, sizeof(*at));
	at->seed = set->seed;
	id_rng_seed(&at->rng, (uint64_t)set->seed);
	for (i = 0; i < SHOP_SESSIONS_MOST; i++)
		at->visits[i].page = PAGE_NONE;
}

static void
steps_of_any_size_make_the_same_stream(void **state)
{
	const struct shop_settings set = plain(7);
	int i, done = 0, size = 1;

	(void)state;
	set_up(&one, &set);
	set_up(&other, &set);
	shop_step(&one, &set, TESTING_START_MS, 1000);
	while (done < 1000) {
		shop_step(&other, &set, TESTING_START_MS,
		    size < 1000 - done ? size : 1000 - done);
		for (i = 0; i < other.made_count; i++)
			assert_memory_equal(&other.made[i], &one.made[done + i],
			    sizeof(one.made[0]));
		done += other.made_count;
		size = size % 37 + 3;
	}
	set_up(&other, &(const struct shop_settings){.seed = 8});
	shop_step(&other, &set, TESTING_START_MS, 1000);
	assert_memory_not_equal(&other.made[5], &one.made[5],
	    sizeof(one.made[0]));
}

#define DRAWS 100000
#define RANKS 50
#define CHI_49_ONE_PERMILLE 85.35

static double
distance_from_zipf(int64_t seed, double s, double expected_s)
{
	static int counts[RANKS + 1];
	double total = 0, expected, chi = 0;
	struct id_rng rng;
	int i;

	memset(counts, 0, sizeof(counts));
	id_rng_seed(&rng, (uint64_t)seed);
	for (i = 0; i < DRAWS; i++)
		counts[shop_zipf(&rng, RANKS, s)]++;
	for (i = 1; i <= RANKS; i++)
		total += pow(i, -expected_s);
	for (i = 1; i <= RANKS; i++) {
		expected = DRAWS * pow(i, -expected_s) / total;
		chi += (counts[i] - expected) * (counts[i] - expected) /
		    expected;
	}
	return (chi);
}

static void
ranks_follow_zipfs_law(void **state)
{
	static const double exponents[] = {0, 0.5, 1, 1.2, 2};
	double chi;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(exponents) / sizeof(exponents[0]); i++) {
		chi = distance_from_zipf(3, exponents[i], exponents[i]);
		if (chi > CHI_49_ONE_PERMILLE)
			fail_msg("s = %g: %g", exponents[i], chi);
		/* And the check sees an exponent that is off by a twentieth. */
		assert_true(distance_from_zipf(3, exponents[i],
				exponents[i] + 0.05) > CHI_49_ONE_PERMILLE);
	}
}

static void
a_funnel_narrows_and_thinking_takes_its_time(void **state)
{
	struct shop_settings set = plain(5);
	int64_t carts = 0, checkouts = 0, purchases = 0, signups = 0;
	int64_t late = 0, last_ms = 0;
	const struct user_event *event;
	int step, i;

	(void)state;
	set.late_share = 0.05;
	set.late_ms = 30000;
	set_up(&one, &set);
	for (step = 0; step < 100; step++) {
		shop_step(&one, &set, TESTING_START_MS, 1000);
		for (i = 0; i < one.made_count; i++) {
			event = &one.made[i];
			carts += strcmp(event->page, "/cart") == 0;
			checkouts += event->kind == USER_CLICK &&
			    strcmp(event->page, "/checkout") == 0;
			purchases += event->kind == USER_PURCHASE;
			signups += event->kind == USER_SIGNUP;
			late += event->ts_ms < last_ms;
			if (event->ts_ms > last_ms)
				last_ms = event->ts_ms;
		}
	}
	/* Half of the carts lead to a checkout, 70 % of those to a purchase:
	 * within five standard deviations. */
	assert_true(fabs((double)checkouts - 0.5 * (double)carts) <
	    5 * sqrt(0.25 * (double)carts));
	assert_true(fabs((double)purchases - 0.7 * (double)checkouts) <
	    5 * sqrt(0.21 * (double)checkouts));
	assert_true(signups > 0 && signups == one.signups);
	assert_true(fabs((double)late - 0.05 * 100000) < 5 * sqrt(4750) + 100);
	/* 100,000 events at 100 a second. */
	assert_true(llabs(last_ms - TESTING_START_MS - 1000000) < 1000);
}

static void
times_are_brought_to_the_clock_where_they_follow(void **state)
{
	struct shop_settings set = plain(1);

	(void)state;
	set_up(&one, &set);
	set.follow = 1;
	shop_step(&one, &set, TESTING_START_MS, 10);
	shop_step(&one, &set, TESTING_START_MS + 3600000, 1);
	assert_true(one.made[0].ts_ms == TESTING_START_MS + 3600000);
	/* A run as fast as possible gets a day ahead; a plain one goes back. */
	set.follow = 0;
	set.rate = 0.01;
	shop_step(&one, &set, TESTING_START_MS + 3600000, 1000);
	assert_true(one.made[999].ts_ms > TESTING_START_MS + 86400000);
	set.follow = 1;
	set.rate = 100;
	shop_step(&one, &set, TESTING_START_MS + 3600000, 10);
	assert_true(one.made[0].ts_ms == TESTING_START_MS + 3600000);
	assert_true(one.made[9].ts_ms == TESTING_START_MS + 3600090);
	set.follow = 0;
	set.start_ms = 5000;
	set_up(&one, &set);
	shop_step(&one, &set, TESTING_START_MS, 2);
	assert_true(one.made[0].ts_ms == 5000);
	assert_true(one.made[1].ts_ms == 5010);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(events_come_once_wherever_it_dies),
	    cmocka_unit_test(spread_records_have_no_key),
	    cmocka_unit_test(records_go_where_the_partitioner_says),
	    cmocka_unit_test(steps_of_any_size_make_the_same_stream),
	    cmocka_unit_test(ranks_follow_zipfs_law),
	    cmocka_unit_test(a_funnel_narrows_and_thinking_takes_its_time),
	    cmocka_unit_test(times_are_brought_to_the_clock_where_they_follow),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
