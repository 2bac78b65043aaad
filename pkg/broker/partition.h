/*
 * partition -- a log, who waits for it, and its turns at the disk.
 *
 * For the loop's thread, but for partition_open and topic_remove_folder.
 */
#ifndef MR_BROKER_PARTITION_H
#define MR_BROKER_PARTITION_H

#include "broker/catalog.h"
#include "segment/segment.h"

/* Somebody who waits until what is in the log now is on disk. */
struct flush_wait {
	struct flush_wait *next;
	int64_t need; /* the number of the flush */
	int64_t end; /* and how far */
	void (*done)(struct flush_wait *wait, int16_t error);
	struct request *req;
};

/* A fetch that waits for records. */
struct waiter {
	struct waiter *next, *prev;
	struct partition *partition; /* NULL: in no list */
	struct request *req;
};

struct partition {
	struct topic *topic;
	int32_t index;
	struct plog *log;
	struct waiter *waiters;

	struct plog_sync *sync; /* under way */
	int64_t begun; /* flushes */
	struct flush_wait *flush_waits, **flush_waits_last;
	struct partition *unsynced_next;
	int unsynced; /* in the broker's list */
	int64_t flush_at_ms; /* then it is due, if it is there */

	struct plog_tidy *tidy; /* under way */
};

/*
 * partition_open -- open or begin the log.  Any thread, as long as nobody else
 * has the topic's folder in hand.
 */
struct partition *partition_open(struct broker *b, struct topic *t,
    int32_t index, struct mr_error *err);
/* partition_free -- close the log, written down; who waits, whose connection is
 * gone by then, is let go.  NULL is a no-op. */
void partition_free(struct partition *p);
/* partition_abandon -- without a flush: its topic goes, or the process fails. */
void partition_abandon(struct partition *p);
/* partitions_open -- those of all topics, at start; folders of topics that
 * aren't known any more are removed. */
int partitions_open(struct broker *b, struct mr_error *err);
/* partitions_last_producer -- the largest producer id in their logs that may be
 * one of ours; -1: none. */
int64_t partitions_last_producer(const struct broker *b);
/* partition_configure -- after the topic's settings changed. */
void partition_configure(const struct broker *b, struct partition *p);

/* partition_changed -- there are new records to be flushed, or to be read. */
void partition_changed(struct broker *b, struct partition *p);
/* partition_hurry -- somebody wants to read what isn't flushed yet: don't put
 * that off. */
void partition_hurry(struct broker *b, struct partition *p);
/*
 * partition_wait -- call back when what is in the log now is on disk; at once
 * where that isn't waited for.
 */
void partition_wait(struct broker *b, struct partition *p,
    struct flush_wait *wait);
void waiter_add(struct partition *p, struct waiter *w);
void waiter_remove(struct waiter *w);
/* fetch_wake -- the waiter's request may have something to read now.  1 if it
 * was answered. */
int fetch_wake(struct request *req);

/* A flush of what is due, if it is time and none is under way. */
void sync_start(struct broker *b);
/*
 * Housekeeping of the next partitions, when it is time.  A round shortens all logs
 * before it compacts any, and goes on as soon as the tidier is done with one.
 */
void tidy_start(struct broker *b);
/* Then there is some to be done; INT64_MAX while the tidier is at work. */
int64_t tidy_due_ms(const struct broker *b);
/* Ask for the end of what is under way. */
void tidy_stop(struct broker *b);

/* A topic that is in use elsewhere (a job, a span) stays until released. */
void topic_hold(struct topic *t);
void topic_release(struct broker *b, struct topic *t);
/* topic_retire -- out of the catalog already: whoever waits is told, and when
 * it isn't held any longer it is freed and its folder removed. */
void topic_retire(struct broker *b, struct topic *t);
/* topic_remove_folder -- some time later, by the tidier: what has gigabytes to
 * unlink holds up no commit of an offset. */
void topic_remove_folder(struct broker *b, const char *id_text);

/* partition_error -- Kafka's code for a plog_code. */
int16_t partition_error(int code);
/* partition_check_epoch -- what to say to a client that knows this leader
 * epoch: it can be behind us, or ahead.  Below 0 it doesn't say. */
int16_t partition_check_epoch(const struct broker *b, int32_t epoch);

#endif
