#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "producer/producer.h"

#include "shop.h"

#define PRODUCTS 200
#define PRODUCTS_ZIPF 0.8
#define NEW_USERS 0.03 /* of sessions */
#define AMOUNT_MEDIAN_MINOR 3500
#define AMOUNT_MOST_MINOR 1000000

static const char sql_load[] =
    "SELECT seed, word0, word1, word2, word3, epoch_ms, clock_ms, events,"
    " signups FROM shop";
static const char sql_load_visits[] =
    "SELECT slot, user, page, product FROM visits";
static const char sql_save[] =
    "INSERT INTO shop VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
    " ON CONFLICT (one) DO UPDATE SET seed = excluded.seed,"
    " word0 = excluded.word0, word1 = excluded.word1,"
    " word2 = excluded.word2, word3 = excluded.word3,"
    " epoch_ms = excluded.epoch_ms, clock_ms = excluded.clock_ms,"
    " events = excluded.events, signups = excluded.signups";
static const char sql_save_visit[] =
    "INSERT INTO visits VALUES (?1, ?2, ?3, ?4) ON CONFLICT (slot) DO UPDATE"
    " SET user = excluded.user, page = excluded.page,"
    " product = excluded.product";

/* Where a user goes from a page, in percent; the rest leaves. */
static const struct {
	enum shop_page to;
	int percent;
} ways[PAGES][5] = {
    [PAGE_HOME] = {{PAGE_PRODUCT, 40}, {PAGE_SEARCH, 35}, {PAGE_HOME, 5}},
    [PAGE_SEARCH] = {{PAGE_PRODUCT, 55}, {PAGE_SEARCH, 20}},
    [PAGE_PRODUCT] = {{PAGE_PRODUCT, 30}, {PAGE_CART, 25}, {PAGE_SEARCH, 15},
	{PAGE_HOME, 5}},
    [PAGE_CART] = {{PAGE_CHECKOUT, 50}, {PAGE_PRODUCT, 20}},
    [PAGE_CHECKOUT] = {{PAGE_BOUGHT, 70}},
    [PAGE_BOUGHT] = {{PAGE_HOME, 20}},
    [PAGE_SIGNUP] = {{PAGE_HOME, 60}, {PAGE_PRODUCT, 20}},
    [PAGE_NONE] = {{PAGE_HOME, 0}},
};
static const char *const paths[PAGES] = {
    [PAGE_HOME] = "/",
    [PAGE_SEARCH] = "/search",
    [PAGE_PRODUCT] = "/product/",
    [PAGE_CART] = "/cart",
    [PAGE_CHECKOUT] = "/checkout",
    [PAGE_BOUGHT] = "/checkout",
    [PAGE_SIGNUP] = "/signup",
    [PAGE_NONE] = "",
};

/* ---- chance ----------------------------------------------------------------- */

/* The integral of x^-s from 1 on, and its inverse. */
static double
zipf_sum(double x, double s)
{

	return (s == 1 ? log(x) : (pow(x, 1 - s) - 1) / (1 - s));
}

static double
zipf_rank(double sum, double s)
{

	return (s == 1 ? exp(sum) : pow(1 + sum * (1 - s), 1 / (1 - s)));
}

int64_t
shop_zipf(struct id_rng *rng, int64_t n, double s)
{
	const double least = zipf_sum(1.5, s) - 1;
	const double most = zipf_sum((double)n + 0.5, s);
	double sum, x, rank;

	do {
		sum = most + id_rng_uniform(rng) * (least - most);
		x = zipf_rank(sum, s);
		rank = fmin(fmax(round(x), 1), (double)n);
	} while (sum < zipf_sum(rank + 0.5, s) - pow(rank, -s));
	return ((int64_t)rank);
}

static enum shop_page
draw_way(struct id_rng *rng, enum shop_page from)
{
	double left = 100 * id_rng_uniform(rng);
	int i;

	for (i = 0; i < 5 && ways[from][i].percent > 0; i++) {
		if (left < ways[from][i].percent)
			return (ways[from][i].to);
		left -= ways[from][i].percent;
	}
	return (PAGE_NONE);
}

/* ---- visits ----------------------------------------------------------------- */

static void
begin_visit(struct shop *shop, const struct shop_settings *settings,
    struct shop_visit *visit)
{

	if (id_rng_uniform(&shop->rng) < NEW_USERS) {
		visit->user = settings->users + ++shop->signups;
		visit->page = PAGE_SIGNUP;
		return;
	}
	visit->user = shop_zipf(&shop->rng, settings->users, settings->zipf);
	visit->page = PAGE_HOME;
}

static void
move_visit(struct shop *shop, const struct shop_settings *settings,
    struct shop_visit *visit)
{

	visit->changed = 1;
	visit->page = draw_way(&shop->rng, visit->page);
	if (visit->page == PAGE_NONE)
		begin_visit(shop, settings, visit);
	else if (visit->page == PAGE_PRODUCT)
		visit->product = shop_zipf(&shop->rng, PRODUCTS, PRODUCTS_ZIPF);
}

static void
draw_amount(struct shop *shop, struct user_event *event)
{
	static const char currencies[][EVENT_CURRENCY_SIZE] = {"EUR", "EUR",
	    "EUR", "USD", "GBP"};
	const double amount = AMOUNT_MEDIAN_MINOR *
	    exp(0.8 * id_rng_normal(&shop->rng));

	event->amount_minor = (int64_t)fmin(fmax(round(amount), 1),
	    AMOUNT_MOST_MINOR);
	memcpy(event->currency,
	    currencies[(int)(5 * id_rng_uniform(&shop->rng))],
	    EVENT_CURRENCY_SIZE);
}

static int64_t
draw_time(struct shop *shop, const struct shop_settings *settings)
{
	int64_t ts_ms = shop->epoch_ms + (int64_t)shop->clock_ms;

	if (id_rng_uniform(&shop->rng) < settings->late_share)
		ts_ms += (int64_t)((double)settings->late_ms *
		    log1p(-id_rng_uniform(&shop->rng)));
	return (ts_ms > 0 ? ts_ms : 0);
}

static void
make_event(struct shop *shop, const struct shop_settings *settings)
{
	struct user_event *event = &shop->made[shop->made_count++];
	struct shop_visit *visit;

	visit = &shop->visits[(
	    int)(id_rng_uniform(&shop->rng) * (double)settings->sessions)];
	move_visit(shop, settings, visit);
	memset(event, 0, sizeof(*event));
	event->kind = visit->page == PAGE_BOUGHT ? USER_PURCHASE :
	    visit->page == PAGE_SIGNUP           ? USER_SIGNUP :
						   USER_CLICK;
	snprintf(event->event_id, sizeof(event->event_id), "%lld-%lld",
	    (long long)shop->seed, (long long)++shop->events);
	snprintf(event->user_id, sizeof(event->user_id), "user-%lld",
	    (long long)visit->user);
	if (visit->page == PAGE_PRODUCT)
		snprintf(event->page, sizeof(event->page), "%s%lld",
		    paths[visit->page], (long long)visit->product);
	else
		snprintf(event->page, sizeof(event->page), "%s",
		    paths[visit->page]);
	if (event->kind == USER_PURCHASE)
		draw_amount(shop, event);
	event->ts_ms = draw_time(shop, settings);
	shop->clock_ms += 1000 / settings->rate;
}

void
shop_step(struct shop *shop, const struct shop_settings *settings,
    int64_t now_ms, int count)
{

	if (shop->epoch_ms == 0)
		shop->epoch_ms = settings->start_ms != 0 ? settings->start_ms :
							   now_ms;
	if (settings->follow)
		shop->epoch_ms += producer_astray_ms(shop->epoch_ms +
			(int64_t)shop->clock_ms,
		    now_ms);
	shop->made_count = 0;
	while (shop->made_count < count && shop->made_count < SHOP_STEP_MOST)
		make_event(shop, settings);
}

/* ---- the file --------------------------------------------------------------- */

static int
load_visits(struct shop *shop, struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	struct shop_visit *visit;
	int64_t slot, page;
	int more;

	if ((rows = store_query(st, err, sql_load_visits)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		slot = store_get_i64(rows, 0);
		page = store_get_i64(rows, 2);
		if (slot >= SHOP_SESSIONS_MOST || page < 0 || page >= PAGES)
			continue;
		visit = &shop->visits[slot];
		visit->user = store_get_i64(rows, 1);
		visit->page = (enum shop_page)page;
		visit->product = store_get_i64(rows, 3);
	}
	store_rows_done(rows);
	return (more);
}

int
shop_load(struct shop *shop, const struct shop_settings *settings,
    struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int found, i;

	memset(shop, 0, offsetof(struct shop, made));
	shop->made_count = 0;
	for (i = 0; i < SHOP_SESSIONS_MOST; i++)
		shop->visits[i].page = PAGE_NONE;
	if ((rows = store_query(st, err, sql_load)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		shop->seed = store_get_i64(rows, 0);
		for (i = 0; i < 4; i++)
			shop->rng.s[i] = (uint64_t)store_get_i64(rows, 1 + i);
		shop->epoch_ms = store_get_i64(rows, 5);
		shop->clock_ms = store_get_f64(rows, 6);
		shop->events = store_get_i64(rows, 7);
		shop->signups = store_get_i64(rows, 8);
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 0 || shop->seed != settings->seed) {
		shop->seed = settings->seed;
		id_rng_seed(&shop->rng, (uint64_t)settings->seed);
	}
	return (load_visits(shop, st, err));
}

int
shop_save(const struct shop *shop, struct store *st, struct mr_error *err)
{
	const struct shop_visit *visit;
	int i;

	if (store_run(st, err, sql_save, store_i64(shop->seed),
		store_i64((int64_t)shop->rng.s[0]),
		store_i64((int64_t)shop->rng.s[1]),
		store_i64((int64_t)shop->rng.s[2]),
		store_i64((int64_t)shop->rng.s[3]), store_i64(shop->epoch_ms),
		store_f64(shop->clock_ms), store_i64(shop->events),
		store_i64(shop->signups)) == -1)
		return (-1);
	for (i = 0; i < SHOP_SESSIONS_MOST; i++) {
		visit = &shop->visits[i];
		if (visit->changed &&
		    store_run(st, err, sql_save_visit, store_i64(i),
			store_i64(visit->user), store_i64(visit->page),
			store_i64(visit->product)) == -1)
			return (-1);
	}
	return (0);
}
