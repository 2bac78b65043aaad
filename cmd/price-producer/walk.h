/*
 * walk -- simulated prices, and their state in the file.
 *
 * Same seed, symbols and settings: same prices, on every machine.  The state
 * is read and written by the caller's transaction.
 */
#ifndef MR_WALK_H
#define MR_WALK_H

#include "base/id.h"
#include "event/event.h"
#include "store/store.h"

#define WALK_SYMBOLS_MOST 64

enum walk_model { WALK_ARITHMETIC, WALK_GBM };

struct walk_settings {
	const char *symbols; /* "ACME,GLOBEX" */
	int model; /* enum walk_model */
	double
	    volatility; /* of a minute's relative change: standard deviation */
	double drift; /* of a minute's relative change: mean */
	int64_t interval_ms;
	int64_t seed;
};

struct walk_symbol {
	char symbol[EVENT_SYMBOL_SIZE];
	double price;
	double start_price;
};

struct walk {
	int64_t seed;
	struct id_rng rng;
	int64_t tick_count;
	int64_t record_count; /* one a tick of each symbol there was */
	struct walk_symbol symbols[WALK_SYMBOLS_MOST];
	int symbol_count;
};

/*
 * walk_check -- 0 if the list of symbols is one: 1 to WALK_SYMBOLS_MOST of
 * them, each valid and there once; else -1 REJECT.
 */
int walk_check(const struct walk_settings *settings, struct mr_error *err);

/*
 * walk_load -- where the prices stand in the file.
 *
 * Symbols that the file doesn't know get a price to start at.  With another
 * seed than the file's the numbers begin anew; the prices go on.  0 or -1.
 */
int walk_load(struct walk *walk, const struct walk_settings *settings,
    struct store *st, struct mr_error *err);

/* walk_step -- move every price by one interval. */
void walk_step(struct walk *walk, const struct walk_settings *settings);

/* walk_save -- write the state to the file.  0 or -1. */
int walk_save(const struct walk *walk, struct store *st, struct mr_error *err);

/* walk_event -- the event for the price of the ${index}-th symbol. */
void walk_event(const struct walk *walk, int index, int64_t ts_ms,
    struct price_event *event);

#endif
