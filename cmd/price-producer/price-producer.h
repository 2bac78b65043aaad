/*
 * price-producer -- what the files of this program share.
 *
 * Exactly once, a tick of the stream moves state and outbox together.  The
 * other two deliveries produce directly, from a thread of their own, and show
 * what that costs: at most once, the state is written first, and a record
 * that gets lost is not sent again; at least once, the state is written when
 * Kafka has acknowledged, and what was sent before a crash is sent again.
 */
#ifndef MR_PRICE_PRODUCER_H
#define MR_PRICE_PRODUCER_H

#include "stream/stream.h"

#include "walk.h"

#define PRICES_TOPIC "stock-prices"

struct settings {
	int delivery; /* enum kafka_delivery */
	struct walk_settings walk;
};
extern struct settings settings;

/* The service; its open sets tick_ms. */
extern struct stream_service price_producer_stream;

/* The only command, of the direct deliveries: its input is a struct walk. */
enum price_producer_command { PRICE_PRODUCER_SAVE };

/*
 * direct_start -- produce without the stream's outbox, from where the file's
 * state stands, until direct_stop.  0 or -1.
 */
int direct_start(struct stream *s, struct mr_error *err);
/* Stop and wait for the thread; a no-op if there is none. */
void direct_stop(void);

#endif
