#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rollups.h"

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
	scale = NORMAL_MAD * median_of(before, count);
	scale = fmax(scale, SCALE_SHARE * fabs(median));
	scale = fmax(scale, SCALE_LEAST);
	*score = (numbers[count] - median) / scale;
	return (1);
}
