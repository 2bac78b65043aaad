/*
 * kafka -- librdkafka, in the few shapes that Millrace uses it in.
 *
 * Only this module includes rdkafka.h.  Every client takes its properties
 * from a struct kafka_conf; what isn't named there can be set by
 * `properties` ("key=value"), as in librdkafka's CONFIGURATION.md, except for those
 * that the guarantees rest on, which are refused by name.  Secrets are taken
 * from the properties file alone, and from the key files that it names, none of
 * which may be readable by others; a process that has read one leaves no core
 * dump.
 * librdkafka's log lines become log lines of ours.
 *
 * A consumer or producer belongs to one thread.  Descriptors returned by
 * *_fd are readable while there is something to poll: watch them for input,
 * level-triggered, and don't read them.  Whoever can't take more for the
 * time being leaves the descriptor out, not the poll: a group member has to
 * poll at least every 300 s, and should every second or so.
 */
#ifndef MR_KAFKA_H
#define MR_KAFKA_H

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/error.h"

#define KAFKA_TOPIC_MAX 249 /* a topic name's characters */
#define KAFKA_TOPIC_ID_SIZE 23 /* base64 of a topic id, and NUL */
#define KAFKA_CLUSTER_ID_SIZE 64
#define KAFKA_PARTITIONS_MAX 1024 /* of a topic, that we work with */

/*
 * kafka_partitioner -- the partition, 0 to ${partitions} - 1, of a record with
 * this key (NULL: none), which is the ${turn}-th one, from 0, that it is asked
 * about.  It may depend on nothing else, and any thread may call it.
 */
typedef int kafka_partitioner(const void *key, size_t key_size, int64_t turn,
    int partitions);

struct kafka_conf {
	const char *brokers; /* "host:port,..." */
	const char *client_id; /* the instance's name */
	const char *properties_file; /* "key=value" lines, or NULL */
	const char *transactional_id; /* of a producer that is to be
					 KAFKA_TRANSACTIONAL: what it goes on
					 as, alone */
	struct config_list properties; /* --property key=value */
	/* of a producer; NULL: kafka_partition_of */
	kafka_partitioner *partitioner;
};

/* kafka_options -- the flags --brokers, --property, --properties-file, all
 * into ${conf}, which the caller owns; a table for config_parse. */
const struct config_option *kafka_options(struct kafka_conf *conf);

/*
 * kafka_reads -- call ${reads} for each file and folder that a client of
 * these settings may read at any time: the properties file, what properties
 * name, where systems keep their certificates.  The path is good during the
 * call.  Returns 0, or -1 REJECT where kafka_producer_new would.
 */
int kafka_reads(const struct kafka_conf *conf,
    void (*reads)(void *arg, const char *path), void *arg,
    struct mr_error *err);

/*
 * Topics, declared once for all programs: what is made at start, and what
 * `millrace topics` compares with.
 */
struct kafka_topic {
	const char *name;
	int partitions;
	int64_t retention_ms; /* -1: kept for ever; 0: the broker's default */
	int compacted;
};
/* kafka_topic_find -- the declared topic, or NULL.  "<program>.dead-letter"
 * is declared for any program, with one partition kept for ever; that answer
 * is good until the calling thread's next call. */
const struct kafka_topic *kafka_topic_find(const char *name);
/* kafka_topic_declare -- topics of a program of one's own, besides those; a
 * table that ends in a NULL name, borrowed for good.  One a process, before
 * threads start; NULL: none. */
void kafka_topic_declare(const struct kafka_topic *own);
/* kafka_topic_list -- all that all programs share; sets *count. */
const struct kafka_topic *kafka_topic_list(int *count);

struct kafka_header {
	const char *name;
	const void *value; /* NULL: a null header */
	size_t size;
};

/*
 * kafka_partition_of -- the partition of a key, as Java's producer chooses
 * it: murmur2 (Austin Appleby's, seed 0x9747b28c) without its sign bit,
 * modulo ${partitions}, which must be above 0.  A key of no bytes is a key.
 */
int kafka_partition_of(const void *key, size_t size, int partitions);
/* kafka_hash_of -- the same before the modulo, for any number of partitions. */
int64_t kafka_hash_of(const void *key, size_t size);

/* ---- what the cluster looks like ---------------------------------------- */

struct kafka_topic_state {
	char name[KAFKA_TOPIC_MAX + 1];
	char id[KAFKA_TOPIC_ID_SIZE]; /* "" when the broker gives none */
	int partitions; /* 0: there is no such topic */
};

/*
 * An admin client: asks and waits, at most ${timeout_ms}, so it is used where
 * that may be: at start, by tools, by the relay, and by the loop for partitions
 * that it can't read yet.  RETRY when the broker doesn't answer.
 */
struct kafka_admin;
struct kafka_admin *kafka_admin_new(const struct kafka_conf *conf,
    struct mr_error *err);
void kafka_admin_free(struct kafka_admin *admin);
int kafka_admin_cluster_id(struct kafka_admin *admin,
    char id[KAFKA_CLUSTER_ID_SIZE], int timeout_ms, struct mr_error *err);
/* Fill in id and partitions of states[].name; a topic that isn't there gets 0
 * partitions and is no error. */
int kafka_admin_describe(struct kafka_admin *admin,
    struct kafka_topic_state *states, int count, int timeout_ms,
    struct mr_error *err);
/* Create what is missing of the declared topics ${names}, with min(3, brokers)
 * replicas or what the brokers' default.replication.factor says if that is
 * more, and wait until they can be seen; existing ones are left alone.  RETRY
 * while fewer brokers are up than that.
 * REJECT names what isn't declared or not allowed. */
int kafka_admin_ensure(struct kafka_admin *admin, const char *const *names,
    int count, int timeout_ms, struct mr_error *err);
/*
 * What a topic has that isn't as declared: its partitions, cleanup.policy,
 * retention.ms (where one is declared) and retention.bytes (where it is kept
 * for ever).
 */
#define KAFKA_DIFFERENCES_MAX 4
struct kafka_difference {
	const char *name; /* "partitions", or the topic's setting */
	char declared[24];
	char actual[64]; /* "0" partitions: there is no such topic */
	int can_be_altered; /* by kafka_admin_alter */
};
/* kafka_admin_compare -- fill in ${list}; how many there are, or -1. */
int kafka_admin_compare(struct kafka_admin *admin,
    const struct kafka_topic *topic,
    struct kafka_difference list[KAFKA_DIFFERENCES_MAX], int timeout_ms,
    struct mr_error *err);
/* kafka_admin_alter -- make a topic that is there as declared, by adding
 * partitions, of which Kafka takes none away, and changing settings, and wait
 * until that can be seen: RETRY if it can't in time.  With more partitions
 * keys may go to other ones from then on. */
int kafka_admin_alter(struct kafka_admin *admin,
    const struct kafka_topic *topic, int timeout_ms, struct mr_error *err);
int kafka_admin_delete(struct kafka_admin *admin, const char *topic,
    int timeout_ms, struct mr_error *err);
/* The first and the next offset of a partition, as a consumer gets to see it:
 * not what lies behind an open transaction.  REJECT if there is none. */
int kafka_admin_offsets(struct kafka_admin *admin, const char *topic,
    int partition, int64_t *first, int64_t *next, int timeout_ms,
    struct mr_error *err);
/* kafka_admin_end -- the next offset, with what lies behind an open one. */
int kafka_admin_end(struct kafka_admin *admin, const char *topic, int partition,
    int64_t *end, int timeout_ms, struct mr_error *err);
/*
 * kafka_group_furthest -- the highest offset that a group has committed of any
 * topic's first partition, and its metadata, cut to fit.  ${stable}: RETRY
 * while a transaction that commits one is open.  Connects for this alone.  1,
 * 0 if it has committed none, or -1.
 */
int kafka_group_furthest(const struct kafka_conf *conf, const char *group,
    int stable, int64_t *offset, char *metadata, size_t metadata_size,
    int timeout_ms, struct mr_error *err);

/* ---- consuming ---------------------------------------------------------- */

/*
 * A record, borrowed: good until kafka_record_free.  Its memory pins the
 * whole fetch buffer that it came in, so don't hold on to few of many.
 */
struct kafka_record {
	const char *topic;
	int topic_index; /* in subscribe's names; as given to assign */
	int partition;
	int64_t offset;
	/* where the fetch stood before this record: the offset after the
	 * partition's record before it, or the one assigned or sought.  Between
	 * that and `offset` the log holds nothing for us (control records,
	 * aborted or compacted ones) */
	int64_t fetch_offset;
	int32_t leader_epoch; /* -1: not known */
	int64_t ts_ms; /* -1: none */
	const void *key; /* NULL: none */
	size_t key_size;
	const void *value; /* NULL: a tombstone */
	size_t value_size;
	/* set instead of a payload: the end of the partition as of now; offset is where the
	 * fetch stands, past any control records */
	int end_of_partition;
	/* set instead of a payload: the record at this offset can't be had.  1:
	 * the offset isn't there (log truncated, or retention outran us); 2: what
	 * is there can't be read (damaged, or a codec that isn't known; on_error
	 * said what); 3: the log was cut below the offset, and may have grown
	 * again with other records (KIP-320: its leader epoch ended before it).  Nothing more comes of the partition until a seek or an
	 * assignment */
	int out_of_range;
	/* the headers of a record that isn't the client's but was kept in a file;
	 * NULL: ask the client's */
	const struct kafka_header *kept;
	size_t kept_count;
	void *opaque; /* the module's own */
};

/* Look a header up; the last of that name wins.  1 if found, else 0.  What it
 * points to is there until a walk ends, or the record is freed. */
int kafka_record_header(const struct kafka_record *record, const char *name,
    const void **value, size_t *size);
/* The same of a record that was kept, for the two functions around this. */
int kafka_record_kept(const struct kafka_record *record, const char *name,
    const void **value, size_t *size);
int kafka_record_kept_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header);
/* Walk the headers: 1 and the ${index}-th, or 0 past the last, which ends the
 * walk: what headers pointed to is gone then. */
int kafka_record_header_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header);
/* kafka_record_headers_lost -- 1 if the record has headers that nobody can
 * have: the library reads at most 100,000, and none that are malformed.  To
 * the calls above it has none then. */
int kafka_record_headers_lost(const struct kafka_record *record);
void kafka_record_free(struct kafka_record *record); /* zeroes *record */
/* Records must be freed before the consumer that they came from. */

struct kafka_position {
	const char *topic;
	int topic_index;
	int partition;
	int64_t offset; /* next to read; filled in by on_assign */
	/* of the record before it, as that record said: with it the broker can
	 * tell whether the log was cut meanwhile; -1: not known */
	int32_t leader_epoch;
};

/*
 * What a group member is told, inside kafka_consumer_poll or _free, by its
 * thread.  on_assign gets partitions (cooperative: those added) and fills in
 * the offset of each, absolute; one that must not be read keeps offset -1: it
 * stays this member's, and nothing is fetched of it until a seek.  on_revoke
 * gets partitions that are being taken away (lost is 1 if they may already
 * be somebody else's), with the offset that poll would have gone on at.
 * on_error is told in words what went wrong: not reachable, not allowed, no
 * such topic; fatal is 1, once, when this consumer is of no more use, as one is
 * that has no memory for what it is assigned: none of that is read then.  It
 * may be called without anything having changed, and repeats itself.
 */
struct kafka_group_handlers {
	void (
	    *on_assign)(void *arg, struct kafka_position *positions, int count);
	void (*on_revoke)(void *arg, const struct kafka_position *positions,
	    int count, int lost);
	void (*on_error)(void *arg, const char *what, int fatal);
};

struct kafka_consumer;

/*
 * kafka_consumer_new -- a member of ${group} (NULL: no group, use
 * kafka_consumer_assign).  No automatic commits, auto.offset.reset=error,
 * read committed, cooperative-sticky, session timeout 10 s, bounded fetch
 * queues, partition ends reported.  Doesn't touch the network by itself.
 */
struct kafka_consumer *kafka_consumer_new(const struct kafka_conf *conf,
    const char *group, const struct kafka_group_handlers *handlers, void *arg,
    struct mr_error *err);
/* Leave the group (on_revoke is called), close, free.  Bounded to about 5 s.
 * NULL is a no-op. */
void kafka_consumer_free(struct kafka_consumer *consumer);
int kafka_consumer_fd(const struct kafka_consumer *consumer);
int kafka_consumer_subscribe(struct kafka_consumer *consumer,
    const char *const *topics, int count, struct mr_error *err);
/* Without a group: read exactly these, from these offsets.  Again: instead of
 * those before.  Once per consumer: kafka_consumer_subscribe. */
int kafka_consumer_assign(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count, struct mr_error *err);
/*
 * kafka_consumer_poll -- take what has arrived, at most ${most} records,
 * waiting up to ${timeout_ms} for the first.  Handlers run inside.  Returns
 * how many; errors go to on_error.
 *
 * Each record returned belongs to its partition's assignment as it is when
 * poll returns: what was fetched before a revocation, an assignment or a seek
 * is left out, also when the handler ran in the middle of this poll.  Within
 * one assignment offsets only rise, and are not repeated.
 */
int kafka_consumer_poll(struct kafka_consumer *consumer,
    struct kafka_record *records, int most, int timeout_ms);
/* Stop fetching; what is queued inside the library is dropped and fetched
 * again after resume.  REJECT if the partition isn't ours. */
int kafka_consumer_pause(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err);
int kafka_consumer_resume(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err);
/* Fetch again from an absolute offset; what was fetched before it and is
 * still queued inside the library is dropped.  Also starts a partition that
 * was assigned with offset -1, or that has ended with out_of_range.  A paused
 * one stays paused. */
int kafka_consumer_seek(struct kafka_consumer *consumer,
    const struct kafka_position *position, struct mr_error *err);
/*
 * Tell the group where we are, for tools that show lag; ${metadata} (at most
 * 4000 characters, or NULL) rides along.  Asynchronous; failures are only
 * counted, and read with kafka_consumer_commit_failures.
 *
 * Whoever commits all the time waits with the next until kafka_consumer_committing
 * is 0: a broker works off a connection's requests one after the other, and
 * while a replica is dead but still waited for, a commit takes 5 s; a heartbeat
 * behind two of them comes after the session's end.
 */
int kafka_consumer_commit(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count, const char *metadata,
    struct mr_error *err);
/* How many commits have had no answer yet; poll takes answers. */
int kafka_consumer_committing(const struct kafka_consumer *consumer);
int64_t kafka_consumer_commit_failures(const struct kafka_consumer *consumer);
/*
 * What the group has committed for a partition: the offset (-1: nothing),
 * and the metadata cut to fit.  Waits, at most ${timeout_ms}; may be called
 * from a handler.
 */
int kafka_consumer_committed(struct kafka_consumer *consumer, const char *topic,
    int partition, int64_t *offset, char *metadata, size_t metadata_size,
    int timeout_ms, struct mr_error *err);
/*
 * kafka_consumer_tellers -- with which metadata the group has committed for the
 * first ${partitions} of a topic: ${each} is called for each that has some.
 * Waits, at most ${timeout_ms}.  Any thread, while the consumer lives.  0 or -1.
 */
int kafka_consumer_tellers(struct kafka_consumer *consumer, const char *topic,
    int partitions, int timeout_ms,
    void (*each)(void *arg, const char *metadata), void *arg,
    struct mr_error *err);
/*
 * kafka_readable_find -- where a partition can be read again behind ${offset},
 * which can't be: the first offset that anything but damage comes from, or
 * ${next}, if there is none below it.  Connects for this alone, and asks of
 * one offset after the other, since a step that is larger could pass over some
 * that are whole; each takes a millisecond or so.  Every 5 s ${tell} (or NULL)
 * hears where it is.  -1: RETRY when nothing came for 10 s.
 */
int64_t kafka_readable_find(const struct kafka_conf *conf, const char *topic,
    int partition, int64_t offset, int64_t next,
    void (*tell)(void *arg, int64_t offset), void *arg, struct mr_error *err);
/* The end of a partition as last heard of with a fetch; -1: not known.  Doesn't wait. */
int64_t kafka_consumer_end(struct kafka_consumer *consumer, const char *topic,
    int partition);

/* ---- producing ---------------------------------------------------------- */

enum kafka_delivery {
	KAFKA_AT_MOST_ONCE, /* acks=0, no retries, given up after 30 s */
	KAFKA_AT_LEAST_ONCE, /* acks=all, retries, one request in flight, never
				given up */
	KAFKA_EXACTLY_ONCE, /* idempotent, gapless, one request in flight, and it
				never gives up a record by time; waits 50 ms for more unless
				flushed, so hand over a lot, flush, and go on when it is acknowledged */
	KAFKA_TRANSACTIONAL /* idempotent, one request in flight, and only
				within a transaction, which is given up when it is
				10 s old */
};

struct kafka_report {
	void *tag; /* as given to kafka_producer_send */
	const char *topic;
	int partition;
	int64_t offset; /* -1: failed, or not told (at most once) */
	int64_t latency_us;
	enum mr_error_kind
	    kind; /* MR_OK: acknowledged; RETRY; REJECT: too large, no such
				    topic, not allowed */
	int too_large; /* REJECT, and maybe only for what was sent with it */
	const char *reason; /* when not MR_OK; good inside on_report */
};

struct kafka_producer;

/*
 * kafka_producer_batching -- how the producers of this process make batches,
 * whatever properties say: librdkafka's linger.ms, batch.size (bytes) and
 * compression.type; below 0 and NULL: not said.  One a process, before the
 * first producer.
 */
struct kafka_batching {
	int64_t linger_ms;
	int64_t batch_bytes;
	const char *compression; /* borrowed for good */
};
void kafka_producer_batching(const struct kafka_batching *batching);

/*
 * kafka_producer_new -- ${on_report} is called inside kafka_producer_poll
 * for each record once its fate is known, in send order for each partition.
 * After a report that isn't MR_OK under KAFKA_EXACTLY_ONCE the producer is
 * spent: free it (without flushing) and make a new one.
 */
struct kafka_producer *kafka_producer_new(const struct kafka_conf *conf,
    enum kafka_delivery delivery,
    void (*on_report)(void *arg, const struct kafka_report *report), void *arg,
    struct mr_error *err);
/* Throws away what wasn't sent; flush first to keep it.  NULL is a no-op. */
void kafka_producer_free(struct kafka_producer *producer);
int kafka_producer_fd(const struct kafka_producer *producer);
/*
 * kafka_producer_send -- hand over a copy of a record.  key NULL: none; value
 * NULL: a tombstone; at most 128 headers.  partition -1: as the partitioner
 * says; without one by the key as kafka_partition_of does it, at random without
 * a key.  ts_ms 0: now.  Returns 0; -1 with RETRY when
 * the queue is full (poll, then again), REJECT when this record can't be
 * sent, FATAL when the producer is spent.
 */
int kafka_producer_send(struct kafka_producer *producer, const char *topic,
    int partition, const void *key, size_t key_size, const void *value,
    size_t value_size, const struct kafka_header *headers, int header_count,
    int64_t ts_ms, void *tag, struct mr_error *err);
/* Serve reports, waiting up to timeout_ms; returns how many events were served. */
int kafka_producer_poll(struct kafka_producer *producer, int timeout_ms);
/* Wait until everything has a report: 0, or -1 RETRY after ${timeout_ms}. */
int kafka_producer_flush(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err);
/* Records handed over and not reported. */
int kafka_producer_in_flight(const struct kafka_producer *producer);

/*
 * Transactions, of a KAFKA_TRANSACTIONAL producer: begin, send, then commit or
 * abort.  Who reads committed records only gets all of a transaction or
 * nothing.  All wait, at most ${timeout_ms}, and serve reports meanwhile.  -1
 * with RETRY: not yet, call it again.  REJECT: never, as the broker is.  FATAL:
 * the producer is spent, for another one with its transactional id has begun.
 *
 * The first begin ends what was left open under the transactional id, and
 * whoever else used it can't send any more.
 */
int kafka_producer_begin(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err);
/* What the first begin does before it begins, for who has something to look up
 * in between: from then on nothing changes under the transactional id but by
 * this producer.  Again: nothing. */
int kafka_producer_register(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err);
/*
 * kafka_producer_send_position -- have the transaction commit a position of a
 * group, which needs no members; its topic and partition must be there, the
 * leader epoch doesn't ride along.  Once what was sent is acknowledged: before
 * that the broker may put it off.  1, or 0 and -1 as from kafka_producer_commit.
 */
int kafka_producer_send_position(struct kafka_producer *producer,
    const char *group, const struct kafka_position *position,
    const char *metadata, int timeout_ms, struct mr_error *err);
/* 1 if it is committed; 0 if it can't be, *err says why, and it is to be
 * aborted. */
int kafka_producer_commit(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err);
/* 0: nothing of it will be seen, and what wasn't sent is thrown away. */
int kafka_producer_abort(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err);

/* librdkafka's version. */
const char *kafka_version_text(void);

#endif
