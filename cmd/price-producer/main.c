/*
 * price-producer -- simulated stock prices, as a stream of records.
 */
#include "migrations.h"
#include "service/service.h"

#include "price-producer.h"

/* In the order of their enum. */
static const char *const models[] = {"walk", "gbm", NULL};

static const struct config_option options[] = {
    {.name = "symbols",
	.kind = CONFIG_TEXT,
	.target = &settings.walk.symbols,
	.fallback = "ACME,GLOBEX,INITECH,HOOLI,UMBRELLA",
	.help = "symbols, with commas between; 64 at most",
	.group = "Prices"},
    {.name = "interval-ms",
	.kind = CONFIG_INT,
	.target = &settings.walk.interval_ms,
	.fallback = "500",
	.least = 1,
	.most = 3600000,
	.help = "time between two prices of a symbol, in milliseconds"},
    {.name = "model",
	.kind = CONFIG_CHOICE,
	.target = &settings.walk.model,
	.fallback = "gbm",
	.choices = models,
	.help = "arithmetic walk, or geometric Brownian motion"},
    {.name = "volatility",
	.kind = CONFIG_REAL,
	.target = &settings.walk.volatility,
	.fallback = "0.002",
	.most = 1,
	.help = "standard deviation of the relative change in a minute"},
    {.name = "drift",
	.kind = CONFIG_REAL,
	.target = &settings.walk.drift,
	.fallback = "0",
	.least = -1,
	.most = 1,
	.help = "mean of the relative change in a minute"},
    {.name = NULL},
};

static const struct service price_producer = {
    .summary = "Produces simulated stock prices to stock-prices, and goes on "
	       "where it stopped.",
    .stream = &price_producer_stream,
    .options = options,
    .common = PRODUCER_OPTIONS,
    .epilogue = PRODUCER_DELIVERIES
    "\n"
    "Examples:\n"
    "  price-producer --brokers localhost:9092\n"
    "  price-producer --symbols ACME,GLOBEX --interval-ms 100 --seed 42\n"
    "  price-producer --model walk --volatility 0.01 --drift 0.001\n"
    "  price-producer --delivery at-least-once --db /tmp/prices.db\n"
    "  sqlite3 -readonly data/price-producer.db "
    "'select * from walk_prices'\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &price_producer));
}
