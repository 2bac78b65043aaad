/*
 * producer: a step's records add up to the rate that was asked for, however
 * the rate divides into steps; --count and --duration end it to the record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "producer/internal.h"

#define NOW_MS INT64_C(1800000000000)

static int64_t
made_in(double rate, int64_t steps)
{
	const int64_t interval_ms = producer_pace_interval_ms(rate);
	struct producer_pace pace = {0};
	int64_t i, made = 0;

	producer_settings = (struct producer_settings){.rate = rate};
	for (i = 0; i < steps; i++)
		made += producer_pace_due(&pace, NOW_MS + i * interval_ms,
		    interval_ms, made);
	return (made);
}

static void
rates_add_up(void **state)
{
	static const struct {
		double rate;
		int64_t interval_ms, steps, made;
	} cases[] = {
	    {10, 100, 600, 600},
	    {1000, 100, 100, 10000},
	    {10000, 100, 10, 10000}, /* the most a step makes */
	    {33.3, 100, 1000, 3330},
	    {1, 1000, 60, 60},
	    {0.25, 4000, 15, 15},
	    {0.001, 60000, 50, 3},
	    {0, 1, 5, 5 * PRODUCER_STEP_MOST},
	};
	size_t i;
	int64_t made;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(producer_pace_interval_ms(cases[i].rate),
		    cases[i].interval_ms);
		made = made_in(cases[i].rate, cases[i].steps);
		if (made != cases[i].made)
			fail_msg("rate %g: %lld", cases[i].rate,
			    (long long)made);
	}
}

static void
a_step_that_is_late_catches_up_to_a_second(void **state)
{
	struct producer_pace pace = {0};

	(void)state;
	producer_settings = (struct producer_settings){.rate = 100};
	assert_int_equal(producer_pace_due(&pace, NOW_MS, 100, 0), 10);
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 300, 100, 10), 30);
	/* undone, and asked again */
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 300, 100, 10), 30);
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 9300, 100, 40), 100);
	/* a clock that was set back */
	assert_int_equal(producer_pace_due(&pace, NOW_MS, 100, 140), 0);
}

static void
count_and_duration_end_it(void **state)
{
	struct producer_pace pace = {0};

	(void)state;
	producer_settings = (struct producer_settings){.count = 1500};
	assert_int_equal(producer_pace_due(&pace, NOW_MS, 1, 0), 1000);
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 1, 1, 1000), 500);
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 2, 1, 1500), -1);
	memset(&pace, 0, sizeof(pace));
	producer_settings = (struct producer_settings){.rate = 10,
	    .duration_ms = 200};
	assert_int_equal(producer_pace_due(&pace, NOW_MS, 100, 0), 1);
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 199, 100, 1), 1);
	assert_int_equal(producer_pace_due(&pace, NOW_MS + 200, 100, 3), -1);
}

static void
a_clock_is_astray_by_more_than_a_minute(void **state)
{
	static const int64_t hour = 3600000;

	(void)state;
	assert_int_equal(producer_astray_ms(NOW_MS, NOW_MS), 0);
	assert_int_equal(producer_astray_ms(NOW_MS - 60000, NOW_MS), 0);
	assert_int_equal(producer_astray_ms(NOW_MS + 60000, NOW_MS), 0);
	assert_int_equal(producer_astray_ms(NOW_MS - hour, NOW_MS), hour);
	assert_int_equal(producer_astray_ms(NOW_MS + hour, NOW_MS), -hour);
}

static void
a_rate_that_was_not_given_is_the_programs(void **state)
{

	(void)state;
	producer_settings = (struct producer_settings){.rate = -1};
	assert_true(producer_rate(7) == 7);
	assert_true(producer_rate(10) == 7);
	producer_settings.rate = 0;
	assert_true(producer_rate(10) == 0);
}

static int
last(const void *key, size_t key_size, int64_t turn, int partitions)
{

	(void)key, (void)key_size, (void)turn;
	return (partitions - 1);
}

static void
partitioners_are_chosen_and_misuse_is_refused(void **state)
{
	static const struct {
		enum producer_partitioner name;
		int64_t partition;
		int custom;
		int expected; /* of the 250th record and 3 partitions; -1:
				 the client's own; -2: refused */
	} cases[] = {
	    {PRODUCER_BY_KEY, -1, 1, -1},
	    {PRODUCER_SPREAD, -1, 0, -1},
	    {PRODUCER_ROUND_ROBIN, -1, 0, 1},
	    {PRODUCER_STICKY, -1, 0, 2},
	    {PRODUCER_EXPLICIT, 0, 0, 0},
	    {PRODUCER_CUSTOM, -1, 1, 2},
	    {PRODUCER_CUSTOM, -1, 0, -2},
	    {PRODUCER_EXPLICIT, -1, 0, -2},
	    {PRODUCER_STICKY, 1, 0, -2},
	};
	kafka_partitioner *chosen;
	struct producer p = {0};
	struct mr_error err = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		producer_settings =
		    (struct producer_settings){.partitioner = (int)cases[i]
								  .name,
			.partition = cases[i].partition};
		p.partitioner = cases[i].custom ? last : NULL;
		if (cases[i].expected == -2) {
			assert_int_equal(producer_partitioner(&p, &chosen,
					     &err),
			    -1);
			assert_int_equal(err.kind, MR_FATAL);
			continue;
		}
		assert_int_equal(producer_partitioner(&p, &chosen, &err), 0);
		if (cases[i].expected == -1)
			assert_null(chosen);
		else
			assert_int_equal(chosen("k", 1, 250, 3),
			    cases[i].expected);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_clock_is_astray_by_more_than_a_minute),
	    cmocka_unit_test(a_rate_that_was_not_given_is_the_programs),
	    cmocka_unit_test(rates_add_up),
	    cmocka_unit_test(a_step_that_is_late_catches_up_to_a_second),
	    cmocka_unit_test(count_and_duration_end_it),
	    cmocka_unit_test(partitioners_are_chosen_and_misuse_is_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
