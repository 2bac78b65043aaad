/*
 * prices -- keeps stock prices as points and candles, for charts.
 */
#include "migrations.h"
#include "service/service.h"

#include "prices.h"

static const struct config_option options[] = {
    {.name = "keep-points",
	.kind = CONFIG_DURATION,
	.group = "Prices",
	.target = &prices_keep_points_ms,
	.fallback = "24h",
	.least = 1000,
	.most = 3e12,
	.help = "how long single prices and candles of a second are kept"},
    {.name = "keep-candles",
	.kind = CONFIG_DURATION,
	.target = &prices_keep_candles_ms,
	.fallback = "30d",
	.least = 1000,
	.most = 3e12,
	.help = "how long candles of a minute and an hour are kept"},
    {.name = NULL},
};

static const struct stream_service stream = {
    .name = "prices",
    .inputs = (const char *const[]){"stock-prices", NULL},
    .migrations = migrations_prices,
    .decode = prices_decode,
    .decoded_size = sizeof(struct price_event),
    .apply = prices_apply,
    .tick = prices_tick,
    .tick_ms = 5000,
};

static const struct service prices = {
    .summary = "Reads stock-prices and keeps the single prices and candles "
	       "of a second, a minute and an hour, for charts to poll.",
    .stream = &stream,
    .routes = prices_routes,
    .options = options,
    .epilogue =
	"URLs:\n"
	"  GET /prices                   the newest price of each symbol\n"
	"  GET /prices/{symbol}          ?since=&window=SECONDS: single prices\n"
	"  GET /prices/{symbol}/candles  ?interval=1s|1m|1h&since=&limit=\n"
	"With ?since=CURSOR an answer has only what is new or changed since the\n"
	"answer that gave the cursor: of more than 5000 prices, or limit=\n"
	"candles (1000), the oldest, and its cursor leads to the others.\n"
	"Without it the newest 5000 prices, or limit= candles, are given.\n"
	"\n"
	"Examples:\n"
	"  prices --brokers localhost:9092 --fcgi unix:run/prices.sock\n"
	"  curl localhost:8000/prices\n"
	"  curl 'localhost:8000/prices/ACME?window=60'\n"
	"  curl 'localhost:8000/prices/ACME/candles?interval=1m'\n"
	"  prices --keep-points 6h --keep-candles 90d\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &prices));
}
