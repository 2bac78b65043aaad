/*
 * score -- how unusual a number is, among those before it.
 *
 * Pure functions of their arguments, in IEEE doubles and a fixed order of
 * operations: whoever computes the same elsewhere comes to the same bits.
 * Numbers must be finite.  A score is a distance in standard deviations, of
 * whatever stands for one; that scale is taken to be at least a fiftieth of
 * the centre and a tenth, so that what hardly moves isn't unusual when it
 * does.  Any thread may call.
 */
#ifndef MR_SCORE_H
#define MR_SCORE_H

#include <stdint.h>

#define SCORE_WINDOW 60 /* numbers before the one that is judged, at most */
#define SCORE_LEAST 12 /* fewer than these say nothing */
#define SCORE_UNUSUAL 8 /* from here on, either way, by default */

/*
 * score_last -- how unusual the last of ${count} numbers is, of up to
 * SCORE_WINDOW + 1.  It is the robust z-score: its distance from the median
 * of those before it, by their median absolute deviation times 1.4826, which
 * is a normal distribution's standard deviation (Iglewicz and Hoaglin, How to
 * Detect and Handle Outliers, 1993).  1 and *score; 0 if there are too few
 * before it.
 */
int score_last(const double *numbers, int count, double *score);

/* A level that moves, and how far numbers are from it.  Begins as zeros. */
struct score_level {
	int64_t count; /* numbers followed so far */
	double level; /* their exponentially weighted mean */
	double variance; /* likewise */
};

/*
 * score_follow -- how unusual ${number} is for a level; then let the level
 * follow it.
 *
 * The level is an exponentially weighted moving average (Roberts, Control
 * Chart Tests Based on Geometric Moving Averages, 1959), the variance goes
 * with it (Finch, Incremental Calculation of Weighted Mean and Variance, 2009,
 * section 9):
 *
 *	d = number - level		score = d / sqrt(variance)
 *	level += w d			variance = (1 - w) (variance + w d d)
 *
 * The weight w is ${alpha}, but 1/count while that is more, so that the first
 * numbers count alike.  Once there were ${least} numbers (at least 2), one
 * further away than ${limit} scales moves the level as if it were that far
 * away (Gelper, Fried and Croux, Robust Forecasting with Exponential and
 * Holt-Winters Smoothing, 2010), so that an anomaly doesn't become the level
 * at once, but what lasts does in the end.  A level for each hour of the day
 * makes the season.  1 and *score; 0 if there were fewer than ${least}.
 */
int score_follow(struct score_level *level, double number, double alpha,
    int64_t least, double limit, double *score);

#endif
