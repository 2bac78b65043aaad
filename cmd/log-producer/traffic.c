#include <math.h>
#include <stdio.h>
#include <string.h>

#include "traffic.h"

#define FAILURES 0.01 /* at a step, by itself */
#define FAILURES_IN_BURST 0.6
#define LINES_A_BURST 200
#define BURSTS (1.0 / 2000) /* at a line, when there is none */
#define USERS 500

static const char sql_load[] =
    "SELECT seed, word0, word1, word2, word3, lines, requests, burst_service,"
    " burst_left FROM traffic";
static const char sql_load_requests[] =
    "SELECT slot, number, step, user FROM requests";
static const char sql_save[] =
    "INSERT INTO traffic VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
    " ON CONFLICT (one) DO UPDATE SET seed = excluded.seed,"
    " word0 = excluded.word0, word1 = excluded.word1,"
    " word2 = excluded.word2, word3 = excluded.word3,"
    " lines = excluded.lines, requests = excluded.requests,"
    " burst_service = excluded.burst_service,"
    " burst_left = excluded.burst_left";
static const char sql_save_request[] =
    "INSERT INTO requests VALUES (?1, ?2, ?3, ?4) ON CONFLICT (slot) DO UPDATE"
    " SET number = excluded.number, step = excluded.step,"
    " user = excluded.user";

enum shop_service { GATEWAY, WEB_SHOP, PAYMENTS, INVENTORY, SERVICES };
static const char *const names[SERVICES] = {"gateway", "web-shop", "payments",
    "inventory"};
/* A request's way; it ends where it began. */
static const enum shop_service way[] = {GATEWAY, WEB_SHOP, PAYMENTS, INVENTORY,
    GATEWAY};
#define STEPS ((int64_t)(sizeof(way) / sizeof(way[0])))
#define FAILED STEPS /* a step behind the last: the gateway says so */

static const char *const paths[] = {"/", "/search", "/product/7", "/cart",
    "/checkout"};
static const char *const items[] = {"Laptop", "Monitor", "Keyboard", "Mouse"};
static const struct {
	const char *message, *stack;
} failures[SERVICES] = {
    [WEB_SHOP] = {"template cart.html: price of an item is missing",
	"TypeError: Cannot read properties of undefined (reading 'price')\n"
	"\tat renderCart (/srv/shop/cart.js:118:31)\n"
	"\tat handle (/srv/shop/router.js:54:12)\n"
	"\tat process.processTicksAndRejections (node:internal/process)"},
    [PAYMENTS] = {"card can't be authorised: timeout after 3000 ms",
	"java.net.SocketTimeoutException: Read timed out\n"
	"\tat com.shop.pay.Acquirer.authorise(Acquirer.java:77)\n"
	"\tat com.shop.pay.PaymentService.charge(PaymentService.java:140)\n"
	"Caused by: java.io.IOException: connection reset by peer"},
    [INVENTORY] = {"stock can't be reserved: database is locked",
	"Traceback (most recent call last):\n"
	"  File \"/srv/inventory/stock.py\", line 61, in reserve\n"
	"    cursor.execute(RESERVE, (item, quantity))\n"
	"sqlite3.OperationalError: database is locked"},
};

static int64_t
draw(struct traffic *traffic, int64_t many)
{

	return ((int64_t)(id_rng_uniform(&traffic->rng) * (double)many));
}

/* How long something took: most of it is quick. */
static int64_t
draw_ms(struct traffic *traffic, double mean_ms)
{

	return (
	    1 + (int64_t)(-mean_ms * log1p(-id_rng_uniform(&traffic->rng))));
}

#define SAY(event, severity, ...)                                      \
	((event)->level = (severity),                                  \
	    (void)snprintf((event)->message, sizeof((event)->message), \
		__VA_ARGS__))

static void
say_step(struct traffic *traffic, const struct traffic_request *request,
    struct log_event *event)
{
	int64_t n;

	switch (request->step) {
	case 0:
		SAY(event, LOG_EVENT_INFO, "GET %s from 10.0.%lld.%lld",
		    paths[draw(traffic, 5)], (long long)draw(traffic, 8),
		    (long long)draw(traffic, 250));
		break;
	case 1:
		SAY(event, LOG_EVENT_DEBUG, "cart of user-%lld has %lld items",
		    (long long)request->user, (long long)draw(traffic, 9));
		break;
	case 2:
		n = draw_ms(traffic, 150);
		SAY(event, n > 500 ? LOG_EVENT_WARN : LOG_EVENT_INFO,
		    "card of user-%lld authorised in %lld ms%s",
		    (long long)request->user, (long long)n,
		    n > 500 ? ", which is slow" : "");
		break;
	case 3:
		n = draw(traffic, 60);
		SAY(event, n < 4 ? LOG_EVENT_WARN : LOG_EVENT_INFO,
		    n < 4 ? "stock of %s is low: %lld left" :
			    "reserved %s, %lld left",
		    items[draw(traffic, 4)], (long long)n);
		break;
	default:
		SAY(event,
		    request->step == FAILED ? LOG_EVENT_WARN : LOG_EVENT_INFO,
		    "%d in %lld ms", request->step == FAILED ? 502 : 200,
		    (long long)draw_ms(traffic, 220));
		break;
	}
}

static int
fails(struct traffic *traffic, enum shop_service service)
{
	double share = FAILURES;

	if (service == GATEWAY)
		return (0);
	if (traffic->burst_left > 0 && traffic->burst_service == (int)service)
		share = FAILURES_IN_BURST;
	return (id_rng_uniform(&traffic->rng) < share);
}

static void
move_burst(struct traffic *traffic)
{

	if (traffic->burst_left > 0) {
		traffic->burst_left--;
	} else if (id_rng_uniform(&traffic->rng) < BURSTS) {
		traffic->burst_service = WEB_SHOP + draw(traffic, SERVICES - 1);
		traffic->burst_left = LINES_A_BURST;
	}
}

static void
make_line(struct traffic *traffic, int64_t now_ms, struct log_event *event)
{
	struct traffic_request
	    *request = &traffic->under_way[draw(traffic, TRAFFIC_REQUESTS)];
	enum shop_service service;

	move_burst(traffic);
	if (request->number == 0 || request->step > FAILED) {
		request->number = ++traffic->requests;
		request->step = 0;
		request->user = 1 + draw(traffic, USERS);
	}
	service = request->step == FAILED ? GATEWAY : way[request->step];
	snprintf(event->service, sizeof(event->service), "%s", names[service]);
	snprintf(event->host, sizeof(event->host), "%s-%lld", names[service],
	    1 + (long long)(request->number % 3));
	snprintf(event->request_id, sizeof(event->request_id), "%llx-%llx",
	    (unsigned long long)traffic->seed,
	    (unsigned long long)request->number);
	event->stack[0] = '\0';
	event->ts_ms = now_ms;
	if (fails(traffic, service)) {
		SAY(event, LOG_EVENT_ERROR, "%s", failures[service].message);
		snprintf(event->stack, sizeof(event->stack), "%s",
		    failures[service].stack);
		request->step = FAILED;
	} else {
		say_step(traffic, request, event);
		/* Behind the last one and a failure, it is over. */
		request->step = request->step >= STEPS - 1 ? FAILED + 1 :
							     request->step + 1;
	}
	traffic->lines++;
}

void
traffic_step(struct traffic *traffic, int64_t now_ms, int count,
    struct lines *lines)
{
	static struct log_event event; /* too large for a stack */

	for (; count > 0; count--) {
		make_line(traffic, now_ms, &event);
		lines_add(lines, &event);
	}
}

/* ---- the file ---------------------------------------------------------------- */

static int
load_requests(struct traffic *traffic, struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t slot, step;
	int more;

	if ((rows = store_query(st, err, sql_load_requests)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		slot = store_get_i64(rows, 0);
		step = store_get_i64(rows, 2);
		if (slot >= TRAFFIC_REQUESTS || step < 0 || step > FAILED + 1)
			continue;
		traffic->under_way[slot] =
		    (struct traffic_request){store_get_i64(rows, 1), step,
			store_get_i64(rows, 3)};
	}
	store_rows_done(rows);
	return (more);
}

int
traffic_load(struct traffic *traffic, int64_t seed, struct store *st,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found, i;

	memset(traffic, 0, sizeof(*traffic));
	if ((rows = store_query(st, err, sql_load)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		traffic->seed = store_get_i64(rows, 0);
		for (i = 0; i < 4; i++)
			traffic->rng.s[i] = (uint64_t)store_get_i64(rows,
			    1 + i);
		traffic->lines = store_get_i64(rows, 5);
		traffic->requests = store_get_i64(rows, 6);
		traffic->burst_service = store_get_i64(rows, 7);
		traffic->burst_left = store_get_i64(rows, 8);
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 0 || traffic->seed != seed) {
		traffic->seed = seed;
		id_rng_seed(&traffic->rng, (uint64_t)seed);
	}
	return (load_requests(traffic, st, err));
}

int
traffic_save(const struct traffic *traffic, struct store *st,
    struct mr_error *err)
{
	const struct traffic_request *request;
	int i;

	if (store_run(st, err, sql_save, store_i64(traffic->seed),
		store_i64((int64_t)traffic->rng.s[0]),
		store_i64((int64_t)traffic->rng.s[1]),
		store_i64((int64_t)traffic->rng.s[2]),
		store_i64((int64_t)traffic->rng.s[3]),
		store_i64(traffic->lines), store_i64(traffic->requests),
		store_i64(traffic->burst_service),
		store_i64(traffic->burst_left)) == -1)
		return (-1);
	for (i = 0; i < TRAFFIC_REQUESTS; i++) {
		request = &traffic->under_way[i];
		if (store_run(st, err, sql_save_request, store_i64(i),
			store_i64(request->number), store_i64(request->step),
			store_i64(request->user)) == -1)
			return (-1);
	}
	return (0);
}
