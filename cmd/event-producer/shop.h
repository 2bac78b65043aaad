/*
 * shop -- the users of a simulated web shop, and its state in the file.
 *
 * So many users are in a session at a time.  Each event is of one of them,
 * chosen evenly, and events are evenly apart, so that the time between two of
 * a session, in which its user thinks, is geometric (about exponential) with
 * a mean of sessions / rate.  A session goes from page to page by fixed odds,
 * a Markov chain whose way through product, cart and checkout to a purchase
 * is the funnel; where it ends, the next one begins in its place: that of a
 * new user, who signs up, or of a known one, drawn by Zipf's law.  Products
 * are, too.  Some events are late: their time is a while before that of those
 * around them, as from a telephone that was out of reach.
 *
 * Same seed and settings: same events, on every machine, however they are cut
 * into steps; times are counted from the first start.  Where they have come
 * to be a minute apart from the machine's, since the program was stopped or ran
 * faster, they are brought to it, unless the start was given.
 */
#ifndef MR_SHOP_H
#define MR_SHOP_H

#include "base/id.h"
#include "event/event.h"
#include "store/store.h"

#define SHOP_SESSIONS_MOST 1000
#define SHOP_STEP_MOST 1000

enum shop_page {
	PAGE_HOME,
	PAGE_SEARCH,
	PAGE_PRODUCT,
	PAGE_CART,
	PAGE_CHECKOUT,
	PAGE_BOUGHT,
	PAGE_SIGNUP,
	PAGE_NONE, /* not in the shop */
	PAGES
};

struct shop_settings {
	double rate; /* events a second of the shop's own clock; above 0 */
	double zipf; /* the law's exponent: 0, all alike, to 5 */
	double late_share; /* of events, 0 to 1 */
	int64_t late_ms; /* mean */
	int64_t users; /* that are there at first */
	int64_t sessions; /* at a time, at most SHOP_SESSIONS_MOST */
	int64_t
	    start_ms; /* the first event's time; 0: that of the first step */
	int64_t seed;
	int follow; /* bring times to the machine's */
};

struct shop_visit {
	int64_t user;
	int64_t product;
	enum shop_page page;
	int changed; /* since it was loaded */
};

struct shop {
	int64_t seed;
	struct id_rng rng;
	int64_t epoch_ms;
	double clock_ms;
	int64_t events;
	int64_t signups;
	struct shop_visit visits[SHOP_SESSIONS_MOST];
	struct user_event made[SHOP_STEP_MOST]; /* by the last step */
	int made_count;
};

/* shop_load -- where the shop stands in the file; 0 or -1.  With another seed
 * than the file's the numbers begin anew; visits and the clock go on. */
int shop_load(struct shop *shop, const struct shop_settings *settings,
    struct store *st, struct mr_error *err);
int shop_save(const struct shop *shop, struct store *st, struct mr_error *err);

/* shop_step -- make ${count} events; ${now_ms} is the time now. */
void shop_step(struct shop *shop, const struct shop_settings *settings,
    int64_t now_ms, int count);

/*
 * shop_zipf -- a rank from 1 to ${n}, with a probability proportional to
 * rank^-s, by rejection-inversion (Hormann and Derflinger, ACM Transactions on
 * Modeling and Computer Simulation 6, 1996).
 */
int64_t shop_zipf(struct id_rng *rng, int64_t n, double s);

#endif
