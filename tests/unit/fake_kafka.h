/*
 * fake_kafka -- a Kafka cluster in this process's memory, for tests.
 *
 * fake_kafka.c defines what kafka/kafka.h declares of admin clients,
 * consumers and producers; linked (or included) before the archive it takes
 * the place of librdkafka.  Nothing happens in it by time or by chance: a
 * record is there once it is appended, a rebalance is over once the members
 * have polled, and what goes wrong is what a test asked for.
 *
 * The contracts in kafka.h are kept to the letter, and those that its callers
 * have are checked: a record or a client left over, or a call for a partition
 * that isn't assigned, fails the test.  Records are copies, so that a
 * sanitizer sees one used after it was freed.
 *
 * Everything here may be called by any thread.
 */
#ifndef MR_FAKE_KAFKA_H
#define MR_FAKE_KAFKA_H

#include <stddef.h>
#include <stdint.h>

#include "kafka/kafka.h"

#define FAKE_HEADERS_MOST 24

/* fake_start -- an empty cluster of this id, reachable.  fake_end -- check
 * that all clients were freed, and forget everything. */
void fake_start(const char *cluster_id);
void fake_end(void);

/* fake_reach -- 0: nothing is answered any more; 1: again, and what waited
 * goes on. */
void fake_reach(int reachable);

/* ---- topics -------------------------------------------------------------- */

/* fake_topic -- make a topic, or make it anew: empty, with another id. */
void fake_topic(const char *name, int partitions);
void fake_topic_delete(const char *name);
/* 1: topics tell no id, as brokers before 2.8. */
void fake_hide_ids(int hide);

/* A record to append; zero is none of everything. */
struct fake_record {
	const char *key; /* text, or NULL */
	const void *value; /* NULL: a tombstone */
	size_t value_size; /* 0: the text's length */
	int64_t ts_ms;
	/* name, value, name, value; at most 12 of them */
	const char *headers[25];
	int headers_lost; /* there are others, which can't be had */
};
/* Each returns the offset. */
int64_t fake_append(const char *topic, int partition,
    const struct fake_record *record);
int64_t fake_put(const char *topic, int partition, const char *value);
/* A Millrace service's: ${seq} of ${source}, after ${predecessor}. */
int64_t fake_put_from(const char *topic, int partition, const char *source,
    int64_t seq, int64_t predecessor, const char *value);
/* An offset that holds nothing: a transaction's mark, a compacted record. */
int64_t fake_put_nothing(const char *topic, int partition);
/* A record that can't be read. */
int64_t fake_put_damaged(const char *topic, int partition);

/* A stranger's transaction is open from ${offset} on, and what lies behind it
 * isn't shown; -1: it has ended. */
void fake_hold(const char *topic, int partition, int64_t offset);

/* Retention: the log begins at ${first} now. */
void fake_cut_front(const char *topic, int partition, int64_t first);
/* Truncation: the log ends before ${next} now. */
void fake_cut_end(const char *topic, int partition, int64_t next);

/* What was produced.  The texts are good until the topic is gone; fake_value
 * gives NULL for what isn't there, "" for a tombstone. */
int64_t fake_next(const char *topic, int partition);
const char *fake_value(const char *topic, int partition, int64_t offset);
size_t fake_value_size(const char *topic, int partition, int64_t offset);
int fake_is_tombstone(const char *topic, int partition, int64_t offset);
int64_t fake_ts_ms(const char *topic, int partition, int64_t offset);
const char *fake_key(const char *topic, int partition, int64_t offset);
/* NULL if there is no such header. */
const char *fake_header(const char *topic, int partition, int64_t offset,
    const char *name);

/* ---- groups -------------------------------------------------------------- */

/*
 * Members are numbered from 0 in the order in which they subscribed; without
 * further words partition p is the (p modulo n)-th living member's.  A
 * rebalance is cooperative: taken from one, then given to another, each in
 * its own poll.
 */
#define FAKE_NOBODY (-2)
/* fake_move -- have a partition given to that member (or to none), for good. */
void fake_move(const char *group, const char *topic, int partition, int member);
/* fake_steal -- likewise, without asking its owner: the session timed out.
 * The owner hears of it in its next poll. */
void fake_steal(const char *group, const char *topic, int partition,
    int member);
/* fake_owner -- whose a partition is by now; -1: nobody's. */
int fake_owner(const char *group, const char *topic, int partition);
/* fake_freeze -- 1: that member's polls give nothing, not even a rebalance. */
void fake_freeze(const char *group, int member, int freeze);
/* fake_allow -- that member gets so many records more; -1: any number. */
void fake_allow(const char *group, int member, int64_t records);
/* fake_late_rebalance -- 1: rebalances come after the records in a poll. */
void fake_late_rebalance(int late);
/* fake_mute_close -- 1: closing doesn't reach on_revoke, as with a timeout. */
void fake_mute_close(int mute);
/* fake_upset -- on_error of that member, in its next poll. */
void fake_upset(const char *group, int member, const char *what, int fatal);
/* How often it polled, and asked for its descriptor: is a loop spinning? */
int64_t fake_polls(const char *group, int member);
int64_t fake_looks(const char *group, int member);
/* How many records it had at once that it hadn't freed. */
int64_t fake_in_hand_most(const char *group, int member);

/* fake_mute_commits -- 1: what is committed is noted, but not answered. */
void fake_mute_commits(int mute);
/* What a group has committed; fake_committed gives -1 for nothing. */
void fake_commit(const char *group, const char *topic, int partition,
    int64_t offset, const char *metadata);
int64_t fake_committed(const char *group, const char *topic, int partition,
    char *metadata, size_t metadata_size);

/* ---- what goes wrong ----------------------------------------------------- */

enum fake_send {
	FAKE_REFUSED, /* not written, reported as failed */
	FAKE_UNHEARD, /* written, reported as failed */
	FAKE_STUCK, /* not written, not reported, until fake_release */
	FAKE_UNACKED, /* written, not reported, until fake_release */
	/* as FAKE_STUCK, but on its way: freeing the producer doesn't stop
	 * it, and fake_release writes it, late */
	FAKE_LATE
};
/* fake_fail_sends -- let ${skip} records to ${topic} through, then do this to
 * ${count} (-1: all). */
void fake_fail_sends(const char *topic, int64_t skip, int64_t count,
    enum fake_send how);
/* fake_release -- end all of that, and let go of what was held back. */
void fake_release(void);

/* fake_fail -- the next ${count} calls of that kind (-1: all) give RETRY. */
enum fake_call {
	FAKE_CLUSTER_ID,
	FAKE_DESCRIBE,
	FAKE_ENSURE,
	FAKE_OFFSETS,
	FAKE_COMMITTED,
	FAKE_SEEK,
	FAKE_FURTHEST,
	FAKE_REGISTER,
	FAKE_POSITION,
	FAKE_COMMIT, /* the broker didn't hear of it */
	FAKE_COMMIT_UNHEARD, /* it did, and commits; the answer was lost */
	FAKE_ABORT,
	FAKE_CALLS
};
void fake_fail(enum fake_call call, int64_t count);
/* fake_to_fail -- how many of these are still to come. */
int64_t fake_to_fail(enum fake_call call);

/*
 * Transactions.  A record of one takes its offset when it is written, and
 * holds nothing until the commit; readers go past it, which in Kafka wait for
 * the transaction's end.
 *
 * fake_transactions -- 0: the cluster has none.  fake_doom -- the next ${count}
 * commits say that there is only to abort.  fake_fence -- all transactional
 * ids are registered by somebody else.  fake_begun -- transactions that were
 * begun so far, fake_ended those committed.
 */
void fake_transactions(int has);
void fake_doom(int64_t count);
void fake_fence(void);
int64_t fake_begun(void);
int64_t fake_ended(void);
/* How many producers were made so far. */
int64_t fake_producers(void);

#endif
