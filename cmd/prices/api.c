#include <string.h>

#include "service/service.h"

#include "prices.h"

#define POINTS_MOST 5000
#define CANDLES_MOST 5000

/* Both give the symbol's seq, or that of all, and the cursor. */
static const char sql_cursor[] = "SELECT seq, seq FROM prices_cursor";
static const char sql_state[] =
    "SELECT s.seq, c.seq, s.ts_ms"
    " FROM symbols AS s, prices_cursor AS c WHERE s.symbol = ?1";
static const char sql_symbols[] =
    "SELECT symbol, price_minor, ts_ms, price_minor - before_minor"
    " FROM symbols ORDER BY symbol";
/*
 * The tail is found by seq, a window by time.  Cut to what one answer holds, a
 * tail gives what came first, so that the next one has the rest.  A window ends
 * at the newest price, which others of a wrong clock may be ahead of.
 */
#define NEWEST_MS "(SELECT ts_ms FROM symbols WHERE symbol = ?1)"
static const char sql_tail[] =
    "SELECT ts_ms, price_minor, seq FROM"
    " (SELECT ts_ms, price_minor, seq FROM price_points"
    "  INDEXED BY price_points_by_seq"
    "  WHERE symbol = ?1 AND seq > ?2 AND seq <= ?3 AND +ts_ms >= ?4"
    "  ORDER BY seq LIMIT ?5)"
    " ORDER BY ts_ms, seq";
static const char sql_window[] =
    "SELECT ts_ms, price_minor, seq FROM"
    " (SELECT ts_ms, price_minor, seq FROM price_points"
    "  WHERE symbol = ?1 AND +seq > ?2 AND +seq <= ?3"
    "   AND ts_ms BETWEEN ?4 AND " NEWEST_MS
    "  ORDER BY ts_ms DESC, seq DESC LIMIT ?5)"
    " ORDER BY ts_ms, seq";
#define CANDLE_COLUMNS \
	"start_ms, open_minor, high_minor, low_minor, close_minor, count, seq"
static const char sql_candles_newest[] =
    "SELECT " CANDLE_COLUMNS " FROM (SELECT " CANDLE_COLUMNS
    "  FROM candles WHERE symbol = ?1 AND start_ms <= " NEWEST_MS
    "   AND interval = ?2 AND +seq > ?3 ORDER BY start_ms DESC LIMIT ?4)"
    " ORDER BY start_ms";
static const char sql_candles_changed[] =
    "SELECT " CANDLE_COLUMNS " FROM (SELECT " CANDLE_COLUMNS
    "  FROM candles INDEXED BY candles_by_seq"
    "  WHERE symbol = ?1 AND interval = ?2 AND seq > ?3"
    "  ORDER BY seq LIMIT ?4)"
    " ORDER BY start_ms";

/* What a symbol (NULL: all of them) has come to. */
struct state {
	int64_t seq; /* of its last record */
	int64_t cursor; /* of any symbol's last record */
	int64_t newest_ms; /* the time of its newest price */
};

/*
 * Where the client goes on after an answer.  Rows are in the order of their
 * time, so the last one needn't have the highest seq, nor be the newest price.
 */
struct tail {
	int64_t newest_ms;
	int64_t cursor; /* if all is given */
	int64_t limit; /* this many rows of a poll may not be all; 0: no poll */
	int64_t count;
	int64_t last; /* highest seq given */
};

static void
tail_count(struct tail *tail, int64_t seq)
{

	tail->count++;
	if (seq > tail->last)
		tail->last = seq;
}

static int64_t
tail_cursor(const struct tail *tail)
{

	return (tail->limit != 0 && tail->count == tail->limit ? tail->last :
								 tail->cursor);
}

/* 0 and the state; -1 with the problem given. */
static int
state_read(struct web_request *req, struct web_response *res,
    const char *symbol, struct state *state)
{
	struct mr_error err;
	struct store_rows *rows;
	int found = -1;

	rows = symbol != NULL ?
	    store_query(req->reader, &err, sql_state, store_text(symbol)) :
	    store_query(req->reader, &err, sql_cursor);
	if (rows != NULL && (found = store_next(rows, &err)) == 1) {
		state->seq = store_get_i64(rows, 0);
		state->cursor = store_get_i64(rows, 1);
		if (symbol != NULL)
			state->newest_ms = store_get_i64(rows, 2);
	}
	store_rows_done(rows);
	if (found == 1)
		return (0);
	if (found == -1)
		web_problem_error(res, &err);
	else
		web_problem(res, 404, "there are no prices of this symbol");
	return (-1);
}

static void
member_price(struct json_writer *w, const char *key, int64_t minor)
{

	json_key(w, key);
	json_decimal(w, minor, 2);
}

/*
 * Rows expire and cursors move without a price of this symbol, and a tail that
 * was cut is not the one after it: only the answer itself tells whether the
 * client has it.
 */
static void
end_document(struct web_request *req, struct web_response *res,
    struct json_writer *w, int64_t cursor)
{

	json_array_close(w);
	json_member_i64(w, "cursor", cursor);
	json_member_i64(w, "poll_ms", service_poll_ms());
	json_object_close(w);
	web_not_modified_body(req, res);
}

static void
get_prices(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {NULL};
	struct json_writer w;
	struct mr_error err;
	struct store_rows *rows;
	struct state state = {0};
	int more;

	if (web_query_only(req, res, known) != 0 ||
	    state_read(req, res, NULL, &state) != 0)
		return;
	if ((rows = store_query(req->reader, &err, sql_symbols)) == NULL) {
		web_problem_error(res, &err);
		return;
	}
	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, "symbols");
	json_array_open(&w);
	while ((more = store_next(rows, &err)) == 1) {
		json_object_open(&w);
		json_member_text(&w, "symbol", store_get_text(rows, 0));
		member_price(&w, "price", store_get_i64(rows, 1));
		json_member_i64(&w, "ts_ms", store_get_i64(rows, 2));
		member_price(&w, "change", store_get_i64(rows, 3));
		json_object_close(&w);
	}
	store_rows_done(rows);
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	end_document(req, res, &w, state.cursor);
}

/* Without rows there is nothing new. */
static void
write_points(struct web_request *req, struct web_response *res,
    const char *symbol, struct store_rows *rows, struct tail *tail)
{
	struct json_writer w;
	struct mr_error err;
	int more = 0;

	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "symbol", symbol);
	json_member_i64(&w, "newest_ms", tail->newest_ms);
	json_key(&w, "points");
	json_array_open(&w);
	while (rows != NULL && (more = store_next(rows, &err)) == 1) {
		json_object_open(&w);
		json_member_i64(&w, "ts_ms", store_get_i64(rows, 0));
		member_price(&w, "price", store_get_i64(rows, 1));
		json_object_close(&w);
		tail_count(tail, store_get_i64(rows, 2));
	}
	if (more == -1)
		web_problem_error(res, &err);
	else
		end_document(req, res, &w, tail_cursor(tail));
}

static void
get_points(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"since", "window", NULL};
	const char *symbol = web_param(req, "symbol");
	struct store_rows *rows = NULL;
	struct mr_error err;
	struct state state = {0};
	struct tail tail = {0};
	int64_t since = -1, window_s = 0, from_ms = 0;

	if (web_query_only(req, res, known) != 0 ||
	    web_query_i64(req, res, "since", 0, INT64_MAX, &since) == -1 ||
	    web_query_i64(req, res, "window", 1, INT64_C(366) * 86400,
		&window_s) == -1 ||
	    state_read(req, res, symbol, &state) != 0)
		return;
	/* The window ends at the newest price, whatever the clocks say. */
	if (window_s != 0)
		from_ms = state.newest_ms - window_s * 1000;
	/* A cursor from the future is one of a file that was restored. */
	if (since > state.cursor)
		since = -1;
	tail.newest_ms = state.newest_ms;
	tail.cursor = state.cursor;
	tail.limit = since == -1 ? 0 : POINTS_MOST;
	if (since < state.seq &&
	    (rows = store_query(req->reader, &err,
		 since == -1 ? sql_window : sql_tail, store_text(symbol),
		 store_i64(since), store_i64(state.cursor), store_i64(from_ms),
		 store_i64(POINTS_MOST))) == NULL)
		web_problem_error(res, &err);
	else
		write_points(req, res, symbol, rows, &tail);
	store_rows_done(rows);
}

static void
write_candles(struct web_request *req, struct web_response *res,
    const char *symbol, const char *interval, struct store_rows *rows,
    struct tail *tail)
{
	static const char *const ends[] = {"open", "high", "low", "close"};
	struct json_writer w;
	struct mr_error err;
	int more = 0, i;

	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "symbol", symbol);
	json_member_text(&w, "interval", interval);
	json_member_i64(&w, "newest_ms", tail->newest_ms);
	json_key(&w, "candles");
	json_array_open(&w);
	while (rows != NULL && (more = store_next(rows, &err)) == 1) {
		json_object_open(&w);
		json_member_i64(&w, "start_ms", store_get_i64(rows, 0));
		for (i = 0; i < 4; i++)
			member_price(&w, ends[i], store_get_i64(rows, 1 + i));
		json_member_i64(&w, "count", store_get_i64(rows, 5));
		json_object_close(&w);
		tail_count(tail, store_get_i64(rows, 6));
	}
	if (more == -1)
		web_problem_error(res, &err);
	else
		end_document(req, res, &w, tail_cursor(tail));
}

static void
get_candles(struct web_request *req, struct web_response *res)
{
	static const char *const known[] = {"interval", "since", "limit", NULL};
	const char *symbol = web_param(req, "symbol");
	struct store_rows *rows = NULL;
	struct mr_error err;
	struct state state = {0};
	struct tail tail = {0};
	char interval[8] = "1m";
	int64_t since = -1, limit = 1000;

	if (web_query_only(req, res, known) != 0 ||
	    web_query_text(req, res, "interval", interval, sizeof(interval)) ==
		-1 ||
	    web_query_i64(req, res, "since", 0, INT64_MAX, &since) == -1 ||
	    web_query_i64(req, res, "limit", 1, CANDLES_MOST, &limit) == -1)
		return;
	if (strcmp(interval, "1s") != 0 && strcmp(interval, "1m") != 0 &&
	    strcmp(interval, "1h") != 0) {
		web_problem_field(res, "interval", "must be 1s, 1m or 1h");
		return;
	}
	if (state_read(req, res, symbol, &state) != 0)
		return;
	if (since > state.cursor)
		since = -1;
	tail.newest_ms = state.newest_ms;
	tail.cursor = state.cursor;
	tail.limit = since == -1 ? 0 : limit;
	if (since < state.seq &&
	    (rows = store_query(req->reader, &err,
		 since == -1 ? sql_candles_newest : sql_candles_changed,
		 store_text(symbol), store_text(interval), store_i64(since),
		 store_i64(limit))) == NULL)
		web_problem_error(res, &err);
	else
		write_candles(req, res, symbol, interval, rows, &tail);
	store_rows_done(rows);
}

const struct web_route prices_routes[] = {
    {"GET", "/prices", get_prices},
    {"GET", "/prices/{symbol}", get_points},
    {"GET", "/prices/{symbol}/candles", get_candles},
    {NULL, NULL, NULL},
};
