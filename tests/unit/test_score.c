/*
 * What is unusual is told from noise, by a median and by a level that moves.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "score/score.h"

static void
what_is_unusual_is_told_from_noise(void **state)
{
	double numbers[SCORE_WINDOW + 1], score;
	int i;

	(void)state;
	for (i = 0; i < SCORE_WINDOW; i++)
		numbers[i] = 50 + i % 5 - 2; /* 48 to 52, its MAD is 1 */
	numbers[SCORE_WINDOW] = 53;
	assert_int_equal(score_last(numbers, SCORE_WINDOW + 1, &score), 1);
	assert_true(fabs(score - 3 / 1.4826) < 1e-9);
	numbers[SCORE_WINDOW] = 97;
	numbers[7] = numbers[8] = 1e6; /* other outliers don't hide it */
	assert_int_equal(score_last(numbers, SCORE_WINDOW + 1, &score), 1);
	assert_true(score > SCORE_UNUSUAL);
	for (i = 0; i < SCORE_WINDOW; i++)
		numbers[i] = 100;
	numbers[SCORE_WINDOW] = 101; /* it never moved, but a hundredth */
	assert_int_equal(score_last(numbers, SCORE_WINDOW + 1, &score), 1);
	assert_true(fabs(score - 0.5) < 1e-9);
	assert_int_equal(score_last(numbers, SCORE_LEAST, &score), 0);
	assert_int_equal(score_last(numbers, SCORE_LEAST + 1, &score), 1);
	assert_int_equal(score_last(numbers, 1, &score), 0);
}

static void
a_level_follows_what_lasts_but_no_outlier(void **state)
{
	struct score_level level = {0};
	double score;
	int i;

	(void)state;
	for (i = 0; i < 30; i++)
		assert_int_equal(score_follow(&level, 50 + i % 5 - 2, 0.05, 30,
				     8, &score),
		    0);
	assert_int_equal(level.count, 30);
	/* As long as there are fewer than 1/alpha it is the plain mean. */
	assert_true(fabs(level.level - 50) < 0.5);
	assert_true(fabs(level.variance - 2) < 0.5);
	assert_int_equal(score_follow(&level, 1e6, 0.05, 30, 8, &score), 1);
	assert_true(score > 1e5);
	assert_true(level.level < 51.5); /* 0.05 of eight deviations */
	for (i = 0; i < 200; i++)
		score_follow(&level, 80, 0.05, 30, 8, &score);
	assert_true(fabs(level.level - 80) < 0.1);
	assert_true(score < 1);
}

static void
a_level_is_that_of_its_formula(void **state)
{
	static const double numbers[] = {10, 12.5, 11, 9, 30};
	struct score_level level = {0};
	double score = 0;
	int i;

	(void)state;
	for (i = 0; i < 5; i++)
		score_follow(&level, numbers[i], 0.5, 4, 3, &score);
	/* By hand: 10, 11.25, 11.125, 10.0625 with variance 1.5273...; 30 is
	 * taken for three deviations. */
	assert_true(fabs(score - (30 - 10.0625) / sqrt(1.52734375)) < 1e-12);
	assert_true(
	    fabs(level.level - (10.0625 + 1.5 * sqrt(1.52734375))) < 1e-12);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_unusual_is_told_from_noise),
	    cmocka_unit_test(a_level_follows_what_lasts_but_no_outlier),
	    cmocka_unit_test(a_level_is_that_of_its_formula),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
