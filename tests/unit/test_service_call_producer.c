/*
 * call-producer: calls a minute are Poisson, times between calls and
 * durations are exponential, at fixed seeds and held against theory; a
 * centre goes on where it stopped, however its work is cut into steps.
 */
#include "service_fake.h"

#include <math.h>

#include "../../cmd/call-producer/center.c" /* NOLINT(bugprone-suspicious-include) */

#define DAY_START_MS INT64_C(1800000000000) /* 08:00 UTC */
#define LATER_MS (DAY_START_MS + INT64_C(1000) * DAY_MS)
#define CALLS 20000

static struct center center, other;

static int
setup(void **state)
{
	(void)state;
	fake_open("call-producer", migrations_call_producer);
	memset(&center, 0, sizeof(center));
	memset(&other, 0, sizeof(other));
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	fake_close();
	return (0);
}

static struct center_settings
plain(int64_t seed)
{

	return ((struct center_settings){.calls_per_minute = 6,
	    .mean_duration_s = 30,
	    .speedup = 600,
	    .interval_ms = 100,
	    .batch = 1000,
	    .seed = seed,
	    .customers = 100,
	    .agents = 5});
}

/* A sample of calls, in the order of their making. */
static struct {
	double gaps_ms[CALLS];
	double durations_s[CALLS];
	double starts_ms[CALLS];
} sample;

static void
draw_sample(const struct center_settings *settings)
{
	double before_ms = 0;
	int i, count = 0;

	memset(&center, 0, sizeof(center));
	id_rng_seed(&center.rng, (uint64_t)settings->seed);
	center.epoch_ms = DAY_START_MS;
	while (count < CALLS) {
		center_step(&center, settings, LATER_MS);
		for (i = 0; i < center.made_count && count < CALLS; i++) {
			sample.starts_ms[count] =
			    (double)(center.made[i].started_ms - DAY_START_MS);
			sample.gaps_ms[count] = sample.starts_ms[count] -
			    before_ms;
			before_ms = sample.starts_ms[count];
			sample.durations_s[count++] = (double)center.made[i]
							  .duration_ms /
			    1000;
		}
	}
}

static int
by_size(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return ((x > y) - (x < y));
}

/* Kolmogorov-Smirnov: sqrt(n) D against an exponential distribution. */
static double
distance_from_exponential(double *values, int n, double mean)
{
	double worst = 0, cdf;
	int i;

	qsort(values, (size_t)n, sizeof(values[0]), by_size);
	for (i = 0; i < n; i++) {
		cdf = 1 - exp(-values[i] / mean);
		worst = fmax(worst, fabs(cdf - (double)i / n));
		worst = fmax(worst, fabs(cdf - (double)(i + 1) / n));
	}
	return (sqrt(n) * worst);
}
#define KS_ONE_PERMILLE 1.9495

static void
durations_and_gaps_are_exponential(void **state)
{
	struct center_settings settings;
	double d;
	int64_t seed;

	(void)state;
	for (seed = 1; seed <= 5; seed++) {
		settings = plain(seed);
		draw_sample(&settings);
		d = distance_from_exponential(sample.durations_s, CALLS, 30);
		if (d > KS_ONE_PERMILLE)
			fail_msg("seed %lld: durations %g", (long long)seed, d);
		d = distance_from_exponential(sample.gaps_ms, CALLS, 10000);
		if (d > KS_ONE_PERMILLE)
			fail_msg("seed %lld: gaps %g", (long long)seed, d);
		/* And the check sees a mean that is off by a twentieth. */
		assert_true(distance_from_exponential(sample.durations_s, CALLS,
				31.5) > KS_ONE_PERMILLE);
	}
}

#define MINUTE_BINS 13 /* 0 or 1 call, 2 to 12, more */
#define CHI_12_ONE_PERMILLE 32.909

/* Chi-square of calls by the minute against Poisson with ${mean}. */
static double
distance_from_poisson(int minutes, double mean)
{
	double expected, chi = 0, p = exp(-mean), rest = 1;
	int counts[MINUTE_BINS] = {0};
	int i, bin, calls = 0, minute = 0;

	for (i = 0; i < CALLS && minute < minutes; i++, calls++) {
		while (minute < minutes &&
		    sample.starts_ms[i] >= (minute + 1) * 60000.0) {
			bin = calls < 2 ? 0 : calls - 1;
			counts[bin < MINUTE_BINS ? bin : MINUTE_BINS - 1]++;
			calls = 0;
			minute++;
		}
	}
	assert_int_equal(minute, minutes);
	p += mean * exp(-mean);
	for (bin = 0; bin < MINUTE_BINS; bin++) {
		if (bin > 0)
			p = exp(
			    -mean + (bin + 1) * log(mean) - lgamma(bin + 2));
		if (bin == MINUTE_BINS - 1)
			p = rest;
		rest -= p;
		expected = minutes * p;
		chi += (counts[bin] - expected) * (counts[bin] - expected) /
		    expected;
	}
	return (chi);
}

static void
calls_by_the_minute_are_poisson(void **state)
{
	struct center_settings settings;
	double chi;
	int64_t seed;

	(void)state;
	for (seed = 1; seed <= 5; seed++) {
		settings = plain(seed);
		draw_sample(&settings);
		chi = distance_from_poisson(3000, 6);
		if (chi > CHI_12_ONE_PERMILLE)
			fail_msg("seed %lld: %g", (long long)seed, chi);
		assert_true(
		    distance_from_poisson(3000, 6.3) > CHI_12_ONE_PERMILLE);
	}
}

/* Each hour's calls, over many days, are within 5 standard deviations. */
static void
a_profile_thins_the_hours(void **state)
{
	struct center_settings settings = plain(3);
	double hours[24] = {0}, days, mean;
	int i;

	(void)state;
	settings.profile = CENTER_OFFICE;
	draw_sample(&settings);
	days = floor(sample.starts_ms[CALLS - 1] / 86400000.0);
	assert_true(days >= 2);
	for (i = 0; i < CALLS && sample.starts_ms[i] < days * 86400000; i++)
		hours[(int)(fmod(sample.starts_ms[i] / HOUR_MS + 8, 24))]++;
	for (i = 0; i < 24; i++) {
		mean = days * 60 * center_rate(&settings, i * HOUR_MS);
		if (fabs(hours[i] - mean) > 5 * sqrt(mean))
			fail_msg("hour %d: %g calls, expected %g", i, hours[i],
			    mean);
	}
}

static void
load_into(struct center *into, const struct center_settings *settings)
{
	struct mr_error err;

	if (center_load(into, settings, fake.st, &err) != 0)
		fail_msg("%s", err.message);
}

static void
a_centre_goes_on_where_it_stopped(void **state)
{
	struct center_settings settings = plain(7), small;
	struct mr_error err;
	int i, total = 0;

	(void)state;
	load_into(&center, &settings);
	settings.speedup = 6000;
	center_step(&center, &settings, DAY_START_MS);
	assert_true(center.made_count > 20);
	/* The same in steps of three calls, saved after each. */
	small = settings;
	small.batch = 3;
	for (total = 0; total + 3 <= center.made_count; total += 3) {
		load_into(&other, &small);
		center_step(&other, &small, DAY_START_MS);
		assert_int_equal(other.made_count, 3);
		for (i = 0; i < 3; i++)
			assert_memory_equal(&other.made[i],
			    &center.made[total + i], sizeof(other.made[0]));
		assert_int_equal(center_save(&other, fake.st, &err), 0);
	}
	load_into(&other, &small);
	assert_int_equal(other.calls, total);
	assert_int_equal(fake_number("SELECT sum(calls) FROM center_durations"),
	    total);
	/* Another seed: other calls, the same sums. */
	small.seed = 8;
	load_into(&other, &small);
	assert_int_equal(other.calls, total);
	center_step(&other, &small, DAY_START_MS);
	assert_memory_not_equal(&other.made[0], &center.made[0],
	    sizeof(other.made[0]));
}

static void
another_rate_or_profile_is_in_force_at_once(void **state)
{
	struct center_settings settings = plain(7);
	double next_ms, clock_ms;
	struct mr_error err;
	int i, profile;

	(void)state;
	for (profile = CENTER_FLAT; profile <= CENTER_OFFICE; profile++) {
		settings.profile = profile;
		settings.speedup = 1;
		settings.calls_per_minute = 0.001; /* less than two a day */
		load_into(&center, &settings);
		for (i = 0; i < 3; i++)
			center_step(&center, &settings, DAY_START_MS);
		assert_int_equal(center_save(&center, fake.st, &err), 0);
		next_ms = center.next_ms;
		clock_ms = center.clock_ms;
		assert_true(next_ms > clock_ms + 60000);
		/* The same settings: the same next call. */
		load_into(&center, &settings);
		center_step(&center, &settings, DAY_START_MS);
		assert_true(center.next_ms == next_ms);
		settings.calls_per_minute = 6000;
		load_into(&center, &settings);
		center_step(&center, &settings, DAY_START_MS);
		assert_true(center.made_count > 0);
		for (i = 0; i < center.made_count; i++)
			assert_true(center.made[i].started_ms >=
			    center.epoch_ms + (int64_t)clock_ms);
		/* And back: none is left of the higher rate. */
		assert_int_equal(center_save(&center, fake.st, &err), 0);
		settings.calls_per_minute = 0.001;
		load_into(&center, &settings);
		center_step(&center, &settings, DAY_START_MS);
		assert_int_equal(center.made_count, 0);
		assert_int_equal(center_save(&center, fake.st, &err), 0);
	}
}

/* A file of before has no settings: its next call stays. */
static void
what_an_older_file_drew_stays(void **state)
{
	static const char forget[] = "UPDATE center SET calls_per_minute = 0";
	struct center_settings settings = plain(7);
	struct mr_error err;

	(void)state;
	load_into(&other, &settings);
	center_step(&other, &settings, LATER_MS);
	assert_int_equal(center_save(&other, fake.st, &err), 0);
	assert_true(store_run(fake.st, &err, forget) == 1);
	load_into(&center, &settings);
	center_step(&center, &settings, LATER_MS);
	center_step(&other, &settings, LATER_MS);
	assert_true(center.made_count > 0);
	assert_int_equal(center.made_count, other.made_count);
	assert_memory_equal(&center.made[0], &other.made[0],
	    sizeof(center.made[0]));
	assert_true(center.calls_per_minute == settings.calls_per_minute);
}

/* Ten days in steps of half a day. */
static void
sped_up_days_go_by_again_and_none_is_to_come(void **state)
{
	struct center_settings settings = plain(5);
	int64_t plain_ms, started_ms;
	int i, step;

	(void)state;
	settings.calls_per_minute = 1;
	settings.speedup = 12.0 * HOUR_MS / 100;
	settings.profile = CENTER_OFFICE;
	load_into(&center, &settings);
	load_into(&other, &settings);
	other.epoch_ms = DAY_START_MS;
	for (step = 0; step < 20; step++) {
		center_step(&center, &settings, DAY_START_MS + step * 100);
		center_step(&other, &settings, LATER_MS);
		assert_int_equal(center.made_count, other.made_count);
		assert_true(center.made_count > 0);
		for (i = 0; i < center.made_count; i++) {
			started_ms = center.made[i].started_ms;
			plain_ms = other.made[i].started_ms;
			assert_true(started_ms <= DAY_START_MS + step * 100);
			assert_true(started_ms > DAY_START_MS - DAY_MS);
			/* But for whole days they are the same. */
			assert_int_equal((plain_ms - started_ms) % DAY_MS, 0);
			center.made[i].started_ms = plain_ms;
			assert_memory_equal(&center.made[i], &other.made[i],
			    sizeof(center.made[i]));
		}
	}
	/* In real time again, it is at the machine's time at once. */
	settings.speedup = 1;
	center_step(&center, &settings, DAY_START_MS);
	assert_true(
	    center.epoch_ms + (int64_t)center.clock_ms == DAY_START_MS + 100);
}

static void
times_are_brought_to_the_clock_and_a_count_ends_it(void **state)
{
	struct center_settings settings = plain(1);
	int i;

	(void)state;
	settings.speedup = 1;
	settings.calls_per_minute = 6000;
	load_into(&center, &settings);
	center_step(&center, &settings, DAY_START_MS);
	assert_true(center.made_count > 0);
	center_step(&center, &settings, DAY_START_MS + HOUR_MS);
	assert_true(center.made_count > 0);
	assert_true(center.made[0].started_ms >= DAY_START_MS + HOUR_MS);
	assert_true(center.made[0].started_ms <= DAY_START_MS + HOUR_MS + 100);
	/* And back, where the clock was put right. */
	center_step(&center, &settings, DAY_START_MS);
	assert_true(center.made_count > 0);
	assert_true(center.made[0].started_ms >= DAY_START_MS);
	assert_true(center.made[0].started_ms <= DAY_START_MS + 200);
	settings.count = center.calls + 5;
	for (i = 0; i < 50; i++)
		center_step(&center, &settings, DAY_START_MS + HOUR_MS);
	assert_int_equal(center.calls, settings.count);
	assert_int_equal(center.made_count, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(durations_and_gaps_are_exponential,
		setup, teardown),
	    cmocka_unit_test_setup_teardown(calls_by_the_minute_are_poisson,
		setup, teardown),
	    cmocka_unit_test_setup_teardown(a_profile_thins_the_hours, setup,
		teardown),
	    cmocka_unit_test_setup_teardown(a_centre_goes_on_where_it_stopped,
		setup, teardown),
	    cmocka_unit_test_setup_teardown(
		another_rate_or_profile_is_in_force_at_once, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_an_older_file_drew_stays,
		setup, teardown),
	    cmocka_unit_test_setup_teardown(
		sped_up_days_go_by_again_and_none_is_to_come, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		times_are_brought_to_the_clock_and_a_count_ends_it, setup,
		teardown),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
