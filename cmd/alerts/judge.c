#include "score/score.h"

#include "alerts.h"

#define HOUR_MS 3600000

static const char sql_keep[] = "INSERT INTO history VALUES (?1, ?2, ?3, ?4)";
static const char sql_window[] = "SELECT sum(count), sum(sum) FROM history"
				 " WHERE series = ?1 AND end_ms > ?2";
static const char sql_drop_before[] =
    "DELETE FROM history WHERE series = ?1 AND end_ms <= ?2";
static const char sql_points[] =
    "SELECT end_ms, count, sum FROM history WHERE series = ?1 ORDER BY end_ms";
static const char sql_season[] = "SELECT count, level, variance FROM seasons"
				 " WHERE series = ?1 AND hour = ?2";
static const char sql_keep_season[] =
    "INSERT INTO seasons VALUES (?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT (series, hour) DO UPDATE SET"
    " count = ?3, level = ?4, variance = ?5";
static const char sql_forget_history[] =
    "DELETE FROM history WHERE series = ?1";
static const char sql_forget_seasons[] =
    "DELETE FROM seasons WHERE series = ?1";

/* Samples are thousandths. */
static double
mean_of(int64_t count, int64_t sum)
{

	return ((double)sum / (double)count / 1000);
}

static int
keep(struct store *st, int64_t series, int64_t end_ms, int64_t count,
    int64_t sum, struct mr_error *err)
{

	return (store_run(st, err, sql_keep, store_i64(series),
		    store_i64(end_ms), store_i64(count), store_i64(sum)) == -1 ?
		-1 :
		0);
}

static int
judge_rate(struct store *st, const struct rule *rule, int64_t series,
    int64_t end_ms, struct verdict *verdict, struct mr_error *err)
{
	const struct store_value from = store_i64(end_ms - rule->window_ms);
	struct store_rows *rows;
	int64_t lines = 0, errors = 0;
	int found;

	if (store_run(st, err, sql_drop_before, store_i64(series), from) ==
		-1 ||
	    (rows = store_query(st, err, sql_window, store_i64(series),
		 from)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		lines = store_get_i64(rows, 0);
		errors = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	verdict->value = (double)errors / (double)lines;
	verdict->truth = lines >= rule->least && verdict->value > rule->bound;
	return (0);
}

/* The newest numbers before this one, for a robust z-score. */
static int
judge_score(struct store *st, const struct rule *rule, int64_t series,
    struct verdict *verdict, struct mr_error *err)
{
	double numbers[SCORE_WINDOW + 1];
	struct store_rows *rows;
	int64_t oldest_ms = 0;
	int count = 0, more;

	if ((rows = store_query(st, err, sql_points, store_i64(series))) ==
	    NULL)
		return (-1);
	while (count < SCORE_WINDOW && (more = store_next(rows, err)) == 1) {
		if (count == 0)
			oldest_ms = store_get_i64(rows, 0);
		numbers[count++] = mean_of(store_get_i64(rows, 1),
		    store_get_i64(rows, 2));
	}
	store_rows_done(rows);
	if (more == -1)
		return (-1);
	numbers[count] = verdict->value;
	verdict->scored = score_last(numbers, count + 1, &verdict->score);
	if (count >= rule->points &&
	    store_run(st, err, sql_drop_before, store_i64(series),
		store_i64(oldest_ms)) == -1)
		return (-1);
	return (0);
}

static int
judge_season(struct store *st, const struct rule *rule, int64_t series,
    int64_t end_ms, struct verdict *verdict, struct mr_error *err)
{
	const struct store_value hour = store_i64(
	    (end_ms - rule->every_ms) / HOUR_MS % 24);
	struct score_level level = {0};
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_season, store_i64(series),
		 hour)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		level = (struct score_level){store_get_i64(rows, 0),
		    store_get_f64(rows, 1), store_get_f64(rows, 2)};
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	verdict->scored = score_follow(&level, verdict->value, rule->alpha,
	    rule->least, rule->bound, &verdict->score);
	return (store_run(st, err, sql_keep_season, store_i64(series), hour,
		    store_i64(level.count), store_f64(level.level),
		    store_f64(level.variance)) == -1 ?
		-1 :
		0);
}

int
judge(struct store *st, const struct rule *rule, int64_t series, int64_t end_ms,
    int64_t count, int64_t sum, struct verdict *verdict, struct mr_error *err)
{

	*verdict = (struct verdict){.value = mean_of(count, sum)};
	switch (rule->kind) {
	case RULE_ERROR_RATE:
		if (keep(st, series, end_ms, count, sum, err) == -1)
			return (-1);
		return (judge_rate(st, rule, series, end_ms, verdict, err));
	case RULE_THRESHOLD:
		verdict->truth = rule->below ? verdict->value < rule->bound :
					       verdict->value > rule->bound;
		return (0);
	case RULE_ZSCORE:
		if (judge_score(st, rule, series, verdict, err) == -1 ||
		    keep(st, series, end_ms, count, sum, err) == -1)
			return (-1);
		break;
	case RULE_SEASONAL:
		if (judge_season(st, rule, series, end_ms, verdict, err) == -1)
			return (-1);
		break;
	}
	verdict->truth = verdict->scored &&
	    (verdict->score >= rule->bound || verdict->score <= -rule->bound);
	return (0);
}

int
judge_forget(struct store *st, int64_t series, struct mr_error *err)
{
	const struct store_value id = store_i64(series);

	return (store_run(st, err, sql_forget_history, id) == -1 ||
		    store_run(st, err, sql_forget_seasons, id) == -1 ?
		-1 :
		0);
}
