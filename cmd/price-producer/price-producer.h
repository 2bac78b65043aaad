/*
 * price-producer -- what the files of this program share.
 *
 * Exactly once, a tick is a command of the stream: state and outbox move
 * together.  The other two deliveries produce directly and show what they
 * cost: at most once, the state is written first and a record that gets lost
 * is not sent again; at least once, the state is written when Kafka has
 * acknowledged, and what was sent before a crash is sent again.
 */
#ifndef MR_PRICE_PRODUCER_H
#define MR_PRICE_PRODUCER_H

#include "stream/stream.h"
#include "web/web.h"

#include "walk.h"

#define PRICES_TOPIC "stock-prices"

struct settings {
	int delivery; /* enum kafka_delivery */
	struct walk_settings walk;
};
extern struct settings settings;

/* The service; its tick_ms is set by its open. */
extern struct stream_service price_producer_stream;

/*
 * direct_run -- produce without the stream until ${signal_fd} says to stop.
 * ${st} is the service's file.  Waits for the broker visibly.  0 or -1 FATAL.
 */
int direct_run(const struct stream_conf *conf, struct store *st, int signal_fd,
    struct mr_error *err);
/* For /readyz of a program in direct_run: any thread. */
int direct_ready(void *arg, char *reason, size_t reason_size);

#endif
