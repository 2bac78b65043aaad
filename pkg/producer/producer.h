/*
 * producer -- a program that makes records up, and goes on where it stopped.
 *
 * A source has a state, which is kept in the program's file, and makes a few
 * records with each step.  How they reach Kafka is a choice:
 *
 *	exactly once	a tick of the stream moves state and outbox together
 *	at least once	produced directly, from a thread of its own; the state
 *			is written when Kafka has acknowledged, and what was
 *			sent before a crash is sent again
 *	at most once	likewise, but the state is written first: what gets
 *			lost isn't sent again
 *
 * A program hands open, tick, command and close of its stream_service on to
 * the functions below.  One a process.
 */
#ifndef MR_PRODUCER_H
#define MR_PRODUCER_H

#include "base/buffer.h"
#include "base/config.h"
#include "stream/stream.h"

#define PRODUCER_KEY_SIZE 65

struct producer_record {
	char key[PRODUCER_KEY_SIZE];
	struct buffer value; /* empty; freed by the module */
	int64_t ts_ms;
};

/* One thread at a time calls these; load and save inside a transaction. */
struct producer_source {
	const char *topic;
	const char *type; /* ce_type */
	/* The state as the file has it; or a new one.  0 or -1. */
	int (*load)(void *state, struct store *st, struct mr_error *err);
	int (*save)(const void *state, struct store *st, struct mr_error *err);
	/* Move on by an interval; ${now_ms} is the time of it. */
	void (*step)(void *state, int64_t now_ms);
	/* How many records the last step made, and each of them; again if asked
	 * again. */
	int (*count)(const void *state);
	void (*record)(const void *state, int index, int64_t now_ms,
	    struct producer_record *record);
};

struct producer {
	const struct producer_source *source;
	void *state; /* the source's */
	int64_t interval_ms; /* between steps */
	int delivery; /* enum kafka_delivery */
	int one_by_one; /* produced directly: wait for each record */
};

/* The values of --delivery, for CONFIG_CHOICE, in the order of its enum. */
extern const char *const producer_deliveries[];

/*
 * producer_open -- start; *tick_ms becomes what the stream_service's has to
 * be.  ${p} is borrowed until producer_close.  0 or -1.
 */
int producer_open(const struct producer *p, struct stream *s, int64_t *tick_ms,
    struct mr_error *err);
int producer_tick(const struct producer *p, struct stream *s, int64_t now_ms,
    struct mr_error *err);
/* The only command, of the direct deliveries: write the state. */
int producer_command(const struct producer *p, struct stream *s,
    struct mr_error *err);
/* Stop and wait for the thread; a no-op if there is none. */
void producer_close(void);

#endif
