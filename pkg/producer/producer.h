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
 *	transactional	as at least once, but a step's records are one Kafka
 *			transaction: who reads committed records only sees all
 *			of them or none.  Not with a broker without transactions
 *
 * The settings that all such programs have are here as well, and what they
 * tell: on a terminal a line about progress, and at the end a summary in the
 * log.  With --count or --duration the program ends by itself, drained, when
 * all is made; started again on the same file after --count it ends at once.
 *
 * A program hands open, tick, command and close of its stream_service on to
 * the functions below.  One a process.
 */
#ifndef MR_PRODUCER_H
#define MR_PRODUCER_H

#include "base/buffer.h"
#include "base/config.h"
#include "event/event.h"
#include "stream/stream.h"

#define PRODUCER_KEY_SIZE 65
#define PRODUCER_STEP_MOST 1000 /* records that a paced step makes at most */

enum producer_partitioner {
	PRODUCER_BY_KEY, /* as kafka_partition_of */
	PRODUCER_SPREAD, /* sent without a key: anywhere, in no order */
	/* These have their keys, which say nothing of where they go: */
	PRODUCER_ROUND_ROBIN, /* each to the next partition */
	PRODUCER_STICKY, /* PRODUCER_STICKY_RECORDS to one, then to the next */
	PRODUCER_EXPLICIT, /* all to --partition */
	PRODUCER_CUSTOM /* as struct producer's partitioner says */
};
#define PRODUCER_STICKY_RECORDS 100

struct producer_settings {
	double rate; /* records a second; 0: as fast as possible; below 0: not
			given, see producer_rate */
	int64_t count; /* records in all, as the file counts; 0: no end */
	int64_t duration_ms; /* 0: no end */
	int64_t seed;
	int delivery; /* enum kafka_delivery */
	int one_by_one; /* produced directly: wait for each record */
	int partitioner; /* enum producer_partitioner */
	int64_t partition; /* for PRODUCER_EXPLICIT; below 0: not given */
	/* see kafka_batching; below 0: not given */
	int64_t linger_ms, batch_bytes;
	int compression; /* index into the choices */
};
extern struct producer_settings producer_settings;

/* Their flags, for `common` of struct service; and the same without --rate,
 * for a source with a pace of its own. */
extern const struct config_option producer_paced_options[];
#define PRODUCER_OPTIONS (&producer_paced_options[1])

/* producer_rate -- the rate, ${otherwise} if none was given; it is set to that.
 * For a program's open, before producer_open; without, it is 10. */
double producer_rate(double otherwise);

/* For epilogues: what --delivery means. */
#define PRODUCER_DELIVERIES                                                   \
	"Deliveries:\n"                                                       \
	"  exactly-once   records and the state that they come from are\n"    \
	"                 committed together, and relayed by an\n"            \
	"                 idempotent producer\n"                              \
	"  at-least-once  acks=all with retries; a crash repeats a step\n"    \
	"  at-most-once   acks=0; a crash, or a broker that is away, loses\n" \
	"  transactional  a step's records in one Kafka transaction: seen\n"  \
	"                 together or not at all; a crash repeats a step\n"

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
	/* Move on by an interval; ${now_ms} is the time of it.  ${due} is how
	 * many records --rate wants of this step, 0 to PRODUCER_STEP_MOST; a
	 * source with a pace of its own needn't look. */
	void (*step)(void *state, int64_t now_ms, int due);
	/* How many records the last step made, and each of them; again if asked
	 * again. */
	int (*count)(const void *state);
	void (*record)(const void *state, int index, int64_t now_ms,
	    struct producer_record *record);
	/* How many it has made in all, for --count. */
	int64_t (*made)(const void *state);
	/* 1 if there will be no more, and the program is to end; NULL: never. */
	int (*ended)(const void *state);
};

struct producer {
	const struct producer_source *source;
	void *state; /* the source's */
	int64_t interval_ms; /* between steps; 0: as --rate needs it */
	/* for --partitioner custom, as in struct kafka_conf; NULL: none */
	kafka_partitioner *partitioner;
};

/*
 * producer_open -- start; *tick_ms becomes what the stream_service's has to
 * be.  ${p} is borrowed until producer_close, and producer_settings are to be
 * filled in.  0 or -1.
 */
int producer_open(struct producer *p, struct stream *s, int64_t *tick_ms,
    struct mr_error *err);
int producer_tick(const struct producer *p, struct stream *s, int64_t now_ms,
    struct mr_error *err);
/* The only command, of the direct deliveries: write the state, or end as failed
 * if the thread has to give up. */
int producer_command(const struct producer *p, struct stream *s,
    struct mr_error *err);
/* Stop and wait for the thread, and say what was done; a no-op if it wasn't
 * opened. */
void producer_close(void);

/*
 * producer_astray_ms -- what to add to the clock of a source that makes times
 * up, to have it at ${now_ms} again: 0 unless they are more than a minute
 * apart, be it that the program was stopped, that it ran faster than time goes
 * or that the machine's clock was set.
 */
int64_t producer_astray_ms(int64_t clock_ms, int64_t now_ms);

/* producer_host_name -- this machine's, as an event's host; "" if it has none
 * that fits. */
void producer_host_name(char name[EVENT_NAME_SIZE]);

#endif
