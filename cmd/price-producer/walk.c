#include <math.h>
#include <stdio.h>
#include <string.h>

#include "walk.h"

#define PRICE_LEAST 0.01
#define PRICE_MOST ((double)EVENT_PRICE_MOST_MINOR / 100)

static const char sql_load[] = "SELECT seed, word0, word1, word2, word3,"
			       " tick_count, records FROM walk";
static const char sql_load_price[] =
    "SELECT price, start_price FROM walk_prices WHERE symbol = ?1";
static const char sql_save[] =
    "INSERT INTO walk VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)"
    " ON CONFLICT (one) DO UPDATE SET seed = excluded.seed,"
    " word0 = excluded.word0, word1 = excluded.word1,"
    " word2 = excluded.word2, word3 = excluded.word3,"
    " tick_count = excluded.tick_count, records = excluded.records";
static const char sql_save_price[] =
    "INSERT INTO walk_prices VALUES (?1, ?2, ?3) ON CONFLICT (symbol)"
    " DO UPDATE SET price = excluded.price";

/* The next of a list with commas: 1, 0 at the end, -1 if it is no symbol. */
static int
next_symbol(const char **list, char symbol[EVENT_SYMBOL_SIZE],
    struct mr_error *err)
{
	size_t length;

	if (**list == '\0')
		return (0);
	length = strcspn(*list, ",");
	if (event_check_symbol(*list, length, err) != 0)
		return (mr_error_wrap(err, "a symbol of \"%s\"", *list));
	memcpy(symbol, *list, length);
	symbol[length] = '\0';
	*list += length;
	if (**list == ',')
		(*list)++;
	return (1);
}

/* Fill in the names. */
static int
take_symbols(struct walk *walk, const char *list, struct mr_error *err)
{
	char symbol[EVENT_SYMBOL_SIZE];
	int i, more;

	walk->symbol_count = 0;
	while ((more = next_symbol(&list, symbol, err)) == 1) {
		if (walk->symbol_count == WALK_SYMBOLS_MOST)
			return (mr_error_set(err, MR_REJECT,
			    "there are more than %d symbols",
			    WALK_SYMBOLS_MOST));
		for (i = 0; i < walk->symbol_count; i++) {
			if (strcmp(walk->symbols[i].symbol, symbol) == 0)
				return (mr_error_set(err, MR_REJECT,
				    "symbol %s is there twice", symbol));
		}
		snprintf(walk->symbols[walk->symbol_count++].symbol,
		    EVENT_SYMBOL_SIZE, "%s", symbol);
	}
	if (more == 0 && walk->symbol_count == 0)
		return (mr_error_set(err, MR_REJECT, "there are no symbols"));
	return (more);
}

int
walk_check(const struct walk_settings *settings, struct mr_error *err)
{
	struct walk walk;

	return (take_symbols(&walk, settings->symbols, err));
}

/* A price, or one between 20 and 500 for a symbol that the file doesn't have. */
static int
load_price(struct walk *walk, struct walk_symbol *symbol, struct store *st,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_load_price,
		 store_text(symbol->symbol))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		symbol->price = store_get_f64(rows, 0);
		symbol->start_price = store_get_f64(rows, 1);
	} else if (found == 0) {
		symbol->price = 20 + 480 * id_rng_uniform(&walk->rng);
		symbol->start_price = symbol->price;
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

int
walk_load(struct walk *walk, const struct walk_settings *settings,
    struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int found, i;

	memset(walk, 0, sizeof(*walk));
	if (take_symbols(walk, settings->symbols, err) != 0)
		return (-1);
	if ((rows = store_query(st, err, sql_load)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		walk->seed = store_get_i64(rows, 0);
		for (i = 0; i < 4; i++)
			walk->rng.s[i] = (uint64_t)store_get_i64(rows, 1 + i);
		walk->tick_count = store_get_i64(rows, 5);
		walk->record_count = store_get_i64(rows, 6);
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 0 || walk->seed != settings->seed) {
		walk->seed = settings->seed;
		id_rng_seed(&walk->rng, (uint64_t)settings->seed);
	}
	for (i = 0; i < walk->symbol_count; i++) {
		if (load_price(walk, &walk->symbols[i], st, err) != 0)
			return (-1);
	}
	return (0);
}

/*
 * Geometric Brownian motion: the logarithm moves by (m - v^2/2) t + v sqrt(t) z,
 * with drift m and volatility v by the minute, and z standard normal
 * (Black and Scholes, 1973).  The arithmetic walk moves by as much as that
 * is at the price it began at, and turns back at the least price.
 */
void
walk_step(struct walk *walk, const struct walk_settings *settings)
{
	const double minutes = (double)settings->interval_ms / 60000;
	const double v = settings->volatility, m = settings->drift;
	struct walk_symbol *symbol;
	double z;
	int i;

	for (i = 0; i < walk->symbol_count; i++) {
		symbol = &walk->symbols[i];
		z = id_rng_normal(&walk->rng);
		if (settings->model == WALK_GBM)
			symbol->price *= exp(
			    (m - v * v / 2) * minutes + v * sqrt(minutes) * z);
		else
			symbol->price += symbol->start_price *
			    (m * minutes + v * sqrt(minutes) * z);
		if (symbol->price < PRICE_LEAST)
			symbol->price = 2 * PRICE_LEAST - symbol->price;
		symbol->price = fmin(fmax(symbol->price, PRICE_LEAST),
		    PRICE_MOST);
	}
	walk->tick_count++;
	walk->record_count += walk->symbol_count;
}

int
walk_save(const struct walk *walk, struct store *st, struct mr_error *err)
{
	const struct walk_symbol *symbol;
	int i;

	if (store_run(st, err, sql_save, store_i64(walk->seed),
		store_i64((int64_t)walk->rng.s[0]),
		store_i64((int64_t)walk->rng.s[1]),
		store_i64((int64_t)walk->rng.s[2]),
		store_i64((int64_t)walk->rng.s[3]), store_i64(walk->tick_count),
		store_i64(walk->record_count)) == -1)
		return (-1);
	for (i = 0; i < walk->symbol_count; i++) {
		symbol = &walk->symbols[i];
		if (store_run(st, err, sql_save_price,
			store_text(symbol->symbol), store_f64(symbol->price),
			store_f64(symbol->start_price)) == -1)
			return (-1);
	}
	return (0);
}

void
walk_event(const struct walk *walk, int index, int64_t ts_ms,
    struct price_event *event)
{
	const struct walk_symbol *symbol = &walk->symbols[index];

	memset(event, 0, sizeof(*event));
	memcpy(event->symbol, symbol->symbol, sizeof(event->symbol));
	event->price_minor = (int64_t)llround(symbol->price * 100);
	event->ts_ms = ts_ms;
}
