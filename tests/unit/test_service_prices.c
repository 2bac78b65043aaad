/*
 * prices: points and candles are the same whatever order records come in,
 * except where two have the same time; old ones go.  And price-producer's
 * walk: same seed, same prices, and it goes on where it stopped.
 */
#include "service_fake.h"

#include "../../cmd/price-producer/walk.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/prices/prices.c" /* NOLINT(bugprone-suspicious-include) */

static int
setup(void **state)
{
	(void)state;
	fake_open("prices", migrations_prices);
	return (0);
}

static int
setup_walk(void **state)
{
	(void)state;
	fake_open("price-producer", migrations_price_producer);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	fake_close();
	return (0);
}

static int
apply(const char *symbol, int64_t minor, int64_t ts_ms, struct mr_error *err)
{
	struct stream_record record;
	char value[160];

	snprintf(value, sizeof(value),
	    "{\"symbol\":\"%s\",\"price\":%lld.%02lld,\"ts_ms\":%lld}", symbol,
	    (long long)(minor / 100), (long long)(minor % 100),
	    (long long)ts_ms);
	record = fake_record("stock-prices", NULL, value);
	return (fake_apply(prices_decode, prices_apply, &record, err));
}

static const char sql_all_candles[] =
    "SELECT group_concat(concat_ws(' ', interval, start_ms, open_minor,"
    " high_minor, low_minor, close_minor, count), '; ' ORDER BY interval,"
    " start_ms) FROM candles WHERE symbol = 'ACME'";

static void
check_candles(const char *expected)
{
	struct mr_error err;
	struct store_rows *rows;

	rows = store_query(fake.st, &err, sql_all_candles);
	assert_int_equal(store_next(rows, &err), 1);
	assert_string_equal(store_get_text(rows, 0), expected);
	store_rows_done(rows);
}

static void
test_candles_do_not_depend_on_the_order_of_records(void **state)
{
	static const struct {
		int64_t minor;
		int64_t ts_ms;
	} points[] = {{1000, 3600100}, {1500, 3600400}, {900, 3600700},
	    {1200, 3660000}};
	static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0},
	    {1, 0, 3, 2}, {2, 3, 0, 1}, {2, 0, 1, 3}};
	static const char forget[] = "DELETE FROM candles";
	struct mr_error err;
	size_t i;
	int j;

	(void)state;
	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		for (j = 0; j < 4; j++)
			assert_int_equal(apply("ACME",
					     points[orders[i][j]].minor,
					     points[orders[i][j]].ts_ms, &err),
			    0);
		assert_int_equal(apply("OTHER", 77, 3600100, &err), 0);
		check_candles("1h 3600000 1000 1500 900 1200 4; "
			      "1m 3600000 1000 1500 900 900 3; "
			      "1m 3660000 1200 1200 1200 1200 1; "
			      "1s 3600000 1000 1500 900 900 3; "
			      "1s 3660000 1200 1200 1200 1200 1");
		assert_true(store_run(fake.st, &err, forget) > 0);
	}
}

static void
test_the_newest_price_is_by_time_and_every_record_moves_seq(void **state)
{
	struct mr_error err;

	(void)state;
	assert_int_equal(apply("ACME", 1000, 1000, &err), 0);
	assert_int_equal(apply("ACME", 1100, 2000, &err), 0);
	assert_int_equal(apply("ACME", 900, 1500, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM symbols WHERE"
				     " (price_minor, ts_ms, before_minor, seq)"
				     " = (1100, 2000, 1000, 3)"),
	    1);
	assert_int_equal(fake_number("SELECT count(*) FROM price_points"), 3);
	assert_int_equal(fake_number("SELECT seq FROM prices_cursor"), 3);
}

static void
test_a_broken_price_is_a_dead_letter(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(apply("acme", 1000, 1000, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(apply("ACME", 0, 1000, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(fake_number("SELECT seq FROM prices_cursor"), 0);
}

static void
test_a_record_of_another_type_is_a_dead_letter(void **state)
{
	static const char value[] =
	    "{\"symbol\":\"ACME\",\"price\":10.00,\"ts_ms\":1000}";
	struct stream_record of_another = fake_record("stock-prices",
	    "price.corrected", value);
	struct stream_record of_its_own = fake_record("stock-prices",
	    PRICE_EVENT_TYPE, value);
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(fake_apply(prices_decode, prices_apply, &of_another,
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "price.corrected"));
	assert_int_equal(fake_number("SELECT seq FROM prices_cursor"), 0);
	assert_int_equal(fake_apply(prices_decode, prices_apply, &of_its_own,
			     &err),
	    0);
	assert_int_equal(fake_number("SELECT seq FROM prices_cursor"), 1);
}

static void
test_old_points_and_candles_go(void **state)
{
	struct mr_error err;

	(void)state;
	prices_keep_points_ms = 60000;
	prices_keep_candles_ms = 7200000;
	assert_int_equal(apply("ACME", 1000, 3600000, &err), 0);
	assert_int_equal(apply("ACME", 1100, 3661000, &err), 0);
	assert_int_equal(apply("GLOBEX", 1100, 3661000, &err), 0);
	assert_int_equal(prices_tick(NULL, 3670000, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM price_points"), 2);
	assert_int_equal(fake_number("SELECT min(ts_ms) FROM price_points"),
	    3661000);
	check_candles("1h 3600000 1000 1100 1000 1100 2; "
		      "1m 3600000 1000 1000 1000 1000 1; "
		      "1m 3660000 1100 1100 1100 1100 1; "
		      "1s 3661000 1100 1100 1100 1100 1");
	assert_int_equal(prices_tick(NULL, 3670000 + 7200000, &err), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM candles"), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM price_points"), 0);
	assert_int_equal(fake_number("SELECT count(*) FROM symbols"), 2);
}

static const struct walk_settings usual = {.symbols = "ACME,GLOBEX",
    .model = WALK_GBM,
    .volatility = 0.01,
    .interval_ms = 500,
    .seed = 7};

static void
steps(struct walk *walk, int count, int reload)
{
	struct mr_error err;
	int i;

	for (i = 0; i < count; i++) {
		if (i == 0 || reload)
			assert_int_equal(walk_load(walk, &usual, fake.st, &err),
			    0);
		walk_step(walk, &usual);
		if (i == count - 1 || reload)
			assert_int_equal(walk_save(walk, fake.st, &err), 0);
	}
}

static void
test_a_walk_goes_on_where_it_stopped(void **state)
{
	static const char forget[] = "DELETE FROM walk";
	static const char forget_prices[] = "DELETE FROM walk_prices";
	struct walk whole, parts;
	struct mr_error err;

	(void)state;
	steps(&whole, 100, 0);
	assert_int_equal(store_run(fake.st, &err, forget), 1);
	assert_int_equal(store_run(fake.st, &err, forget_prices), 2);
	steps(&parts, 100, 1);
	assert_memory_equal(&whole, &parts, sizeof(whole));
	assert_int_equal(parts.tick_count, 100);
	assert_int_equal(parts.record_count, 200);
	assert_true(parts.symbols[0].price != parts.symbols[0].start_price);
}

static void
test_prices_stay_within_what_an_event_may_say(void **state)
{
	static const double drifts[] = {-1, 1};
	struct walk_settings wild = usual;
	struct price_event event;
	struct walk walk;
	struct mr_error err;
	int i, model, drift;

	(void)state;
	wild.volatility = 1;
	wild.interval_ms = 3600000;
	for (model = WALK_ARITHMETIC; model <= WALK_GBM; model++) {
		for (drift = 0; drift < 2; drift++) {
			wild.model = model;
			wild.drift = drifts[drift];
			assert_int_equal(walk_load(&walk, &wild, fake.st, &err),
			    0);
			for (i = 0; i < 2000; i++) {
				walk_step(&walk, &wild);
				walk_event(&walk, 1, 1, &event);
				assert_true(event.price_minor >= 1);
				assert_true(event.price_minor <=
				    EVENT_PRICE_MOST_MINOR);
			}
			assert_int_equal(walk_save(&walk, fake.st, &err), 0);
		}
	}
}

static void
test_a_list_of_symbols_is_checked(void **state)
{
	static const struct {
		const char *symbols;
		int status;
	} cases[] = {
	    {"ACME", 0},
	    {"ACME,GLOBEX", 0},
	    {"", -1},
	    {",", -1},
	    {"ACME,,GLOBEX", -1},
	    {"ACME,ACME", -1},
	    {"acme", -1},
	    {"ABCDEFGHIJKLM", -1},
	};
	struct walk_settings settings = usual;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		settings.symbols = cases[i].symbols;
		assert_int_equal(walk_check(&settings, &err), cases[i].status);
	}
}

int
main(void)
{
#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_candles_do_not_depend_on_the_order_of_records, setup),
	    TEST(test_the_newest_price_is_by_time_and_every_record_moves_seq,
		setup),
	    TEST(test_a_broken_price_is_a_dead_letter, setup),
	    TEST(test_a_record_of_another_type_is_a_dead_letter, setup),
	    TEST(test_old_points_and_candles_go, setup),
	    TEST(test_a_walk_goes_on_where_it_stopped, setup_walk),
	    TEST(test_prices_stay_within_what_an_event_may_say, setup_walk),
	    TEST(test_a_list_of_symbols_is_checked, setup_walk),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
