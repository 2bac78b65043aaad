/*
 * stream -- the exactly-once core of a service.
 *
 * A service reads records from Kafka, changes its rows in one SQLite file,
 * and emits records.  The core makes one transaction of a batch of records:
 * their effects, what they emitted, and the offsets that they were read at are
 * committed together, or not at all.  Emitted records wait in the file's outbox and are relayed to
 * Kafka after the commit; readers that are Millrace services recognise what a
 * relay sends twice, and drop it.  So whatever is killed at whatever moment,
 * each record has its effects once.  docs/ARCHITECTURE.md has the reasoning,
 * tests/model the proof over a bounded space.
 *
 * What the core refuses to do: skip a record, apply one twice, guess the
 * outcome of a commit, go on after a gap in a source's sequence, after a
 * topic was made anew, or with somebody else's group offsets.  It halts that
 * partition instead, says so in the log, in /readyz and in the metrics, and
 * names the command that accepts what happened.
 *
 * One thread, the one in stream_run, owns the only writing connection and
 * calls all of a service's functions, except decode.  stream_call,
 * stream_submit and the status calls are for any thread.
 */
#ifndef MR_STREAM_H
#define MR_STREAM_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/config.h"
#include "base/error.h"
#include "base/id.h"
#include "kafka/kafka.h"
#include "store/store.h"

struct stream;

/* A record to apply.  Pointers are good until apply returns. */
struct stream_record {
	const char *topic;
	int input; /* index into the service's inputs */
	int partition;
	int64_t offset;
	int64_t ts_ms; /* the record's timestamp; -1: none */
	const char *type; /* the header ce_type; NULL: none */
	const char *
	    source; /* ce_source of a Millrace service; NULL: a stranger's record */
	int64_t seq; /* ce_id in that source; -1 with a stranger's */
	/* where the record was that this one was emitted for; cause_topic is NULL if none */
	const char *cause_topic;
	int cause_partition;
	int64_t cause_offset;
	const void *key; /* NULL: none */
	size_t key_size;
	const void *value; /* NULL: a tombstone */
	size_t value_size;
	const void *decoded; /* what decode made of it; NULL: there is none */
	const struct kafka_record *raw; /* headers and all */
};

/* A record to emit. */
struct stream_output {
	const char *topic; /* one of the service's outputs */
	const char *type; /* ce_type */
	const void *key; /* NULL: none, partitions in turn */
	size_t key_size;
	const void *value; /* NULL: a tombstone */
	size_t value_size;
	int64_t ts_ms; /* the record's timestamp and ce_time */
	/* as struct kafka_conf has it, and part of the transaction: it is asked
	 * again with the same turn if that is undone.  FATAL if it names a
	 * partition that isn't there.  NULL: by key, or in turn */
	kafka_partitioner *partitioner;
};

/*
 * A command: something that an HTTP request or an operator wants done.  Time
 * and id are drawn once, before queueing, so that running it
 * again gives the same.
 */
struct stream_command {
	int kind; /* the service's own */
	const void *input; /* the service's own struct */
	int64_t now_ms;
	char id[ID_UUID_SIZE]; /* a UUIDv7 of now_ms */
};

/* What the caller gets, after the commit and never before. */
struct stream_answer {
	int status; /* an HTTP status; 200 unless changed */
	struct buffer body; /* JSON; the caller's to free */
	char location[256];
	int replayed; /* 1: stored under an idempotency key */
};

struct stream_service {
	const char *name; /* consumer group, file, source */
	const char *const *inputs; /* topics, NULL-terminated, or NULL */
	const char *const *outputs; /* likewise */
	const struct store_migration *migrations;

	/* Once, before anything else; may read and write (in a transaction of its own).
	 * May be NULL, like the rest. */
	int (*open)(struct stream *s, struct mr_error *err);
	/*
	 * Optional: what a record says, into decoded_size bytes for
	 * record->decoded.  0; or -1, as apply, which isn't called then.  Of
	 * the record alone, and nothing else is touched: it is called by
	 * another thread while records before it are applied, for records that
	 * may never be, and again.  A few hundred bytes are the most that is
	 * worth it: 4 MiB are for what is decoded ahead.
	 */
	int (*decode)(const struct stream_record *record, void *decoded,
	    struct mr_error *err);
	size_t decoded_size;
	/*
	 * Apply one record.  0: done.  REJECT: undone, and a dead letter; RETRY:
	 * undone, its partition waits and tries again; FATAL: the process ends.
	 * What was applied may be undone and applied again, before it is committed.
	 * Deterministic: time, ids and randomness come from the record and the
	 * file.  Must not block on anything but the store.
	 */
	int (*apply)(struct stream *s, const struct stream_record *record,
	    struct mr_error *err);
	/* Run one command.  -1 undoes it: REJECT answers 422 with the message,
	 * RETRY 503; an answer with another status and 0 keeps what was written.
	 * It may be undone and run again, before it is committed. */
	int (*command)(struct stream *s, const struct stream_command *command,
	    struct stream_answer *answer, struct mr_error *err);
	/* Every tick_ms, by one instance; now_ms is the tick's time.  0; 1: it
	 * isn't done, and is called again soon; -1: undone. */
	int (*tick)(struct stream *s, int64_t now_ms, struct mr_error *err);
	int64_t tick_ms; /* 0: no ticks; may be changed by open */
	void (*close)(struct stream *s);
};

/* How a service's records reach Kafka; docs/ARCHITECTURE.md, section 5, says
 * what each promises to whom. */
enum stream_relay { STREAM_RELAY_IDEMPOTENT, STREAM_RELAY_TRANSACTIONAL };

struct stream_conf {
	struct kafka_conf kafka;
	const char
	    *instance; /* in logs and metrics; default: the service's name */
	const char *db_path; /* default: data/<name>.db */
	int64_t batch_records;
	int64_t batch_ms;
	int64_t
	    outbox_most; /* rows; above it consuming pauses, commands get 503 */
	int64_t retry_ms; /* first back-off of RETRY; doubles to 30 s */
	int64_t idempotency_ms; /* how long an answer is kept under its key */
	int64_t dead_letter_ms; /* how long a dead letter's row is kept */
	int64_t
	    upgrade_backups; /* copies made before migrating that are kept */
	int64_t
	    log_records_per_second; /* lines about records; the rest is counted */
	int relay; /* enum stream_relay, once what was sent is acknowledged */
	int64_t drain_ms;
	void (*on_progress)(void); /* again and again while stream_new opens,
	    checks, copies or migrates the file; NULL: nothing */
	void (*on_drain)(void); /* when stream_run begins to; NULL: nothing */
};

/* Flags for all but Kafka's (kafka_options), for config_parse. */
const struct config_option *stream_options(struct stream_conf *conf);

/*
 * stream_new -- open or make the file of ${svc}, and everything but Kafka's
 * connections.  ${conf} and ${svc} are borrowed for the stream's life.
 * Returns NULL on error.
 */
struct stream *stream_new(const struct stream_service *svc,
    const struct stream_conf *conf, struct mr_error *err);
/*
 * stream_run -- work until ${signal_fd} (signals_open) says to drain, or -1:
 * until stream_stop.  Waits for the broker visibly.  Returns 0 after a clean
 * drain, -1 FATAL.
 */
int stream_run(struct stream *s, int signal_fd, struct mr_error *err);
void stream_stop(struct stream *s); /* any thread, or a signal handler */
void stream_free(struct stream *s); /* NULL is a no-op */

/* ---- for a service's functions, inside the transaction ------------------ */

struct store *stream_store(struct stream *s);
const struct stream_conf *stream_settings(const struct stream *s);
/* A pointer of the service's own, e.g. set by open and freed by close. */
void stream_set_data(struct stream *s, void *data);
void *stream_data(struct stream *s);

/*
 * stream_note -- a number for the service to keep within a transaction.
 *
 * It is 0 when a transaction begins, and again after something in it was
 * undone; so what it says about the file, if it isn't 0, holds.
 */
int64_t *stream_note(struct stream *s);

/*
 * stream_emit -- put a record into the outbox, with this transaction.
 *
 * The partition is chosen now and for ever: as the record's partitioner says, or
 * murmur2 of the key as in Java, in turn without one.  REJECT for what is larger than 1,000,000 bytes in
 * all, has no type or too long a one, or names a topic that isn't declared as
 * an output.  Returns 0 or -1.
 */
int stream_emit(struct stream *s, const struct stream_output *output,
    struct mr_error *err);

/*
 * stream_emit_buffer -- the same, of a value encoded into a buffer and a text
 * key (NULL: none).  Takes ${value}: it is freed, whatever happens.  RETRY if
 * the buffer failed.
 */
int stream_emit_buffer(struct stream *s, const char *topic, const char *type,
    const char *key, struct buffer *value, int64_t ts_ms, struct mr_error *err);

/* stream_say -- a log line, written after the commit and only then, subject to
 * the rate limit.  Pairs as for log_write, at most six. */
void stream_say(struct stream *s, const char *message, ...)
    __attribute__((sentinel));

/* ---- for any thread ----------------------------------------------------- */

/*
 * Two commands of the core's own, for any service; their input names a row of
 * dead_letters.  Replaying applies the record once more, in
 * this transaction: what it does is kept and the row is gone, or it is
 * refused as it was before (422, with the reason) and the row stays.  It is
 * applied out of its partition's order, and moves neither position nor mark.
 * That a row went on purpose is kept for as long as the row would have been,
 * for who checks the file against the dead-letter topic.
 * Both answer 404 where there is no such row, and 409 if the service works with
 * another file than the one that is meant: rows are numbered from 1 in each.
 * Replaying answers 409 as well if the service doesn't read that topic.
 */
enum {
	STREAM_REPLAY_DEAD_LETTER = INT_MIN,
	STREAM_DROP_DEAD_LETTER = INT_MIN + 1
};

struct stream_dead_letter {
	char database_id[33]; /* of the file, as stream_database_id has it */
	int64_t id; /* of the row */
};

struct stream_call {
	int kind; /* the service's own, or one of these two */
	const void *input; /* must stay until there is an answer */
	/* "POST /orders" and the client's key, or NULL; body for comparison */
	const char *scope;
	const char *key;
	const void *body;
	size_t body_size;
	int64_t deadline_ms; /* how long to wait in the queue */
};

/*
 * stream_call -- run a command, and wait for its durable outcome.
 *
 * With a key, a call that was answered before gets the stored answer
 * (replayed set), and one with another body REJECT.  Returns 0 with *answer
 * filled in, after the commit; -1 with whatever kind the command failed by
 * itself, which was undone; -1 RETRY when it did not run and never will (not
 * ready, outbox full, queue full, deadline passed, shutting down, disk full).
 * Where the outcome of a commit is unknown, the process ends at once, and
 * nobody is answered.
 */
int stream_call(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct mr_error *err);

/* Room for what the stream keeps of a submitted command; its own meanwhile. */
#define STREAM_PENDING_BYTES 448
struct stream_pending {
	max_align_t bytes[STREAM_PENDING_BYTES / sizeof(max_align_t)];
};

/*
 * stream_submit -- the same without the wait, for callers who have no thread
 * to spare for it.
 *
 * 0 when it is queued: ${done} is then called exactly once, maybe before this
 * returns, with NULL and *answer filled in, or with what stream_call's error
 * would be.  It is called by a thread of the stream, must not block (all who
 * are answered later wait behind it), and may free what it was called for.
 * *call, what it points to, *answer and *pending must stay until then.  -1 if it
 * wasn't queued, as stream_call; ${done} is not called.
 */
int stream_submit(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct stream_pending *pending,
    void (*done)(void *arg, const struct mr_error *err), void *arg,
    struct mr_error *err);

/*
 * stream_unsent -- rows of the outbox that Kafka hasn't acknowledged, as of the
 * last transaction; 0 while this instance isn't the one to send them: another
 * is, or it hasn't reached the broker yet.  For the loop's thread, and for who
 * has seen stream_run end.
 */
int64_t stream_unsent(const struct stream *s);
/* stream_all_sent -- 1 if Kafka has acknowledged all that is in the outbox, as of
 * the last look at it; whoever sends it.  Threads as stream_unsent. */
int stream_all_sent(const struct stream *s);

/* 1 when ready: file open, broker reached, first rebalance over, nothing
 * halted; else 0 with why. */
int stream_ready(struct stream *s, char *reason, size_t reason_size);
/* 1 unless the loop has not come round for 30 s. */
int stream_alive(struct stream *s, char *reason, size_t reason_size);

/*
 * stream_renew_file -- for tools, inside a transaction of their own on a file
 * that goes back in time: it draws a new database id, since the numbers that
 * it will give out next were given out before, and nobody owns its relay.
 * Rows of the outbox keep the id that they were emitted under.  0 or -1.
 */
int stream_renew_file(struct store *st, struct mr_error *err);
/*
 * stream_drop_letter -- for tools, inside a transaction of their own: what
 * STREAM_DROP_DEAD_LETTER does.  1; 0 if there is no row of that id; -1, REJECT
 * if the file is of a version that doesn't keep what was dropped.
 */
int stream_drop_letter(struct store *st, int64_t id, struct mr_error *err);

/*
 * stream_end_relay -- for tools, while nothing has the file open: end what its
 * transactional relay left open in Kafka, shut out whoever may still send under
 * its name, and say how far it came.  1 and the last seq that was sent; 0 if
 * that isn't known any more, *err says why; -1 error.  Waits, at most about twice
 * ${timeout_ms}.
 */
int stream_end_relay(const struct kafka_conf *conf, const char *service,
    const char *database_id, int64_t *seq, int timeout_ms,
    struct mr_error *err);
/*
 * stream_forget_cursor -- for tools, inside a transaction of their own: the
 * rows that wait go out by an idempotent relay, though some of them may have
 * been sent, and what comes after them gets a new cursor.  0 or -1.
 */
int stream_forget_cursor(struct store *st, struct mr_error *err);

const char *stream_name(const struct stream *s);
const char *stream_db_path(const struct stream *s);
/* The file's; a restore draws another one. */
const char *stream_database_id(const struct stream *s);

#endif
