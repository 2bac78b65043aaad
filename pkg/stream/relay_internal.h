/*
 * relay_internal -- what the relay's thread knows; nobody else sees it.
 *
 * relay.c reads rows and hands them over, relay_transaction.c makes a
 * transaction of each lot where the file says so.
 */
#ifndef MR_RELAY_INTERNAL_H
#define MR_RELAY_INTERNAL_H

#include "stream/internal.h"

#define IN_FLIGHT_MOST 4096 /* a power of two */

/* Of the transactional way; void while no producer is there. */
struct transaction {
	int registered; /* nobody else can commit under our transactional id */
	int64_t cursor; /* the last seq that is committed; -1: not read yet */
	int placed; /* the cursor is in Kafka, and will be until refresh_at_us */
	int64_t refresh_at_us;
	int open; /* begun, and not ended */
	int positioned; /* it has the cursor that it will commit */
	int committing; /* the commit was asked for, and may have happened */
	int aborting;
};

struct sender {
	struct relay *relay;
	struct stream *s;
	struct store *reader;
	struct kafka_producer *producer;
	int transactional; /* what the producer is, or will be */
	int must_have_cursor; /* the file says that rows go by transactions */
	struct transaction transaction;
	int64_t epoch; /* that we send under; 0: none */
	int64_t taken_epoch; /* under which the outbox was looked at first */
	int64_t
	    doubtful; /* up to it, rows may have been sent and not reported */
	int64_t sent; /* the last seq handed over */
	int failed; /* a record failed: start over */
	int halted; /* until somebody accepts what happened */
	int lacking; /* halted until a partition is there */
	int there[TOPICS_MOST]; /* partitions of each output, as far as known */
	int more; /* rows may be waiting */
	int64_t backoff_ms;
	int64_t resume_at_us;
	int64_t watch_at_us;
	int64_t next_lot_us; /* not before */
	int64_t lot_ms; /* the clock when the lot's rows were read */
	int64_t lot_most; /* rows: fewer after some were too large together */
	int64_t grow_at_us; /* when it may have more again */
	char source_id[DATABASE_ID_SIZE]; /* whose ce_source is in ${source} */
	char source[SOURCE_SIZE];
	struct log_limit limit;
	struct log_limit trouble_limit;
	/* In flight, in seq order: ring[first] is the oldest. */
	struct {
		int64_t seq;
		int acked;
		int64_t offset;
		int64_t latency_us;
	} ring[IN_FLIGHT_MOST];
	uint64_t first;
	uint64_t last; /* one past the newest */
};

/* relay.c: what shows in /readyz; "" when all is well. */
void relay_trouble(struct relay *r, const char *what);
void relay_news(struct relay *r);
/* Have /readyz, the metric and the log say that it is halted, and why. */
void relay_halt(struct sender *x, const char *why);
/* Forget the lot in hand, and come back later for what follows ${sent}. */
void sender_back_off(struct sender *x, int64_t sent);

/*
 * transaction_ready -- register, and read where to go on, before anything is
 * sent; from time to time write the cursor again.  1: send what follows
 * x->sent; 0: not now; -1: the producer is of no more use.
 */
int transaction_ready(struct sender *x, struct mr_error *err);
/* Begin the one of a lot.  0 or -1. */
int transaction_begin(struct sender *x, struct mr_error *err);
/*
 * transaction_end -- take what was handed over a step nearer to its end: wait
 * for reports, add the cursor, commit; or abort.  1: it is committed, or there
 * is none; 0: not yet; -1: the producer is of no more use.
 */
int transaction_end(struct sender *x, struct mr_error *err);
/* Is there a step to take, which no report and no wake-up will announce? */
int transaction_goes_on(const struct sender *x);
/* At the thread's end: leave no reader waiting, within about two seconds. */
void transaction_leave(struct sender *x);

#endif
