/*
 * price-producer -- what the files of this program share.
 */
#ifndef MR_PRICE_PRODUCER_H
#define MR_PRICE_PRODUCER_H

#include "producer/producer.h"

#include "walk.h"

#define PRICES_TOPIC "stock-prices"

struct settings {
	struct walk_settings walk;
};
extern struct settings settings;

/* The service; its open sets tick_ms. */
extern struct stream_service price_producer_stream;

#endif
