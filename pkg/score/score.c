#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "score/score.h"

#define NORMAL_MAD 1.4826
#define SCALE_SHARE 0.02 /* of the median */
#define SCALE_LEAST 0.1

static int
compare_numbers(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return ((x > y) - (x < y));
}

/* Sorts them. */
static double
median_of(double *numbers, int count)
{

	qsort(numbers, (size_t)count, sizeof(numbers[0]), compare_numbers);
	return ((numbers[(count - 1) / 2] + numbers[count / 2]) / 2);
}

static double
scale_of(double deviation, double centre)
{

	return (fmax(fmax(deviation, SCALE_SHARE * fabs(centre)), SCALE_LEAST));
}

int
score_last(const double *numbers, int count, double *score)
{
	double before[SCORE_WINDOW], median, scale;
	int i;

	if (--count < SCORE_LEAST)
		return (0);
	memcpy(before, numbers, (size_t)count * sizeof(numbers[0]));
	median = median_of(before, count);
	for (i = 0; i < count; i++)
		before[i] = fabs(before[i] - median);
	scale = scale_of(NORMAL_MAD * median_of(before, count), median);
	*score = (numbers[count] - median) / scale;
	return (1);
}

int
score_follow(struct score_level *level, double number, double alpha,
    int64_t least, double limit, double *score)
{
	const double scale = scale_of(sqrt(level->variance), level->level);
	const int known = level->count >= least;
	double distance = number - level->level, weight, step;

	*score = distance / scale;
	if (known) {
		distance = fmin(distance, limit * scale);
		distance = fmax(distance, -(limit * scale));
	}
	level->count++;
	weight = fmax(alpha, 1.0 / (double)level->count);
	step = weight * distance;
	level->level += step;
	level->variance = (1 - weight) * (level->variance + distance * step);
	return (known);
}
