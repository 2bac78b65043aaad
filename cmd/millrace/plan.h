/*
 * plan -- what accepting a gap changes in a service's file.
 *
 * A service halts a partition rather than guess.  Whoever has looked and
 * accepts what happened lets it go on: the position, or a source's mark, is
 * moved past what is missing.  A plan is made first, from the file and from
 * what Kafka says, so that it can be shown; then it is carried out in one
 * transaction.
 */
#ifndef MILLRACE_PLAN_H
#define MILLRACE_PLAN_H

#include <stdint.h>

#include "kafka/kafka.h"
#include "store/store.h"

#define PLAN_SOURCE_SIZE 192

/* What Kafka says of a partition. */
struct gap_facts {
	const char *topic;
	char topic_id[KAFKA_TOPIC_ID_SIZE];
	int partition;
	int partitions; /* of the topic */
	const int64_t *firsts; /* the first offset of each of them */
	int64_t next; /* the end of ours */
	/* The record at the file's position, or the first after it. */
	int has_record;
	int64_t offset;
	int unreadable; /* there is one, and it is damaged */
	int64_t readable; /* then: where one can be read again, or the end */
	int was_cut; /* the log was cut below the position, and grew again */
	int64_t cut_at; /* where */
	char source[PLAN_SOURCE_SIZE]; /* "": not a service's */
	int64_t seq;
	int64_t predecessor;
};

enum gap_kind {
	GAP_NONE, /* nothing halts this partition */
	GAP_ANEW, /* the topic was made anew: all of its partitions */
	GAP_PARTITION, /* a new partition that retention was faster with */
	GAP_RETENTION,
	GAP_TRUNCATED,
	GAP_UNREADABLE,
	GAP_SEQUENCE /* records of a source are missing */
};

struct gap_plan {
	enum gap_kind kind;
	char says[640]; /* what will be done, a sentence or two */
	int64_t from; /* the position, or the mark, as it is */
	int64_t to;
};

/*
 * Where records are left out, the next one of each source names a
 * predecessor that was never applied.  So the marks of all sources move to
 * what their next record names.
 */
struct gap_mark {
	int partition;
	char source[PLAN_SOURCE_SIZE];
	int64_t seq;
	int64_t to; /* -1: stays */
	int met; /* the source's next record was seen */
};
struct gap_marks {
	struct gap_mark *list; /* the caller's to free */
	int count;
	int left; /* not met yet */
};

/* gap_marks_read -- add the marks of a partition, under whatever id the topic
 * had.  0 or -1. */
int gap_marks_read(struct store *st, const char *topic, int partition,
    struct gap_marks *marks, struct mr_error *err);
/* gap_marks_meet -- a record that is to be applied, in the order of offsets. */
void gap_marks_meet(struct gap_marks *marks, int partition, const char *source,
    int64_t seq, int64_t predecessor);

/* gap_leaves_out -- 1 if a plan skips records, so that marks must be met. */
int gap_leaves_out(const struct gap_plan *plan);

/*
 * gap_position -- the file's position, if it is of the topic as it is now.
 *
 * Sets *position, -1 if there is none.  Returns 1 if the file knows the topic
 * under this id, 2 only under another, 0 not at all; -1 on error.
 */
int gap_position(struct store *st, const char *topic, const char *topic_id,
    int partition, int64_t *position, struct mr_error *err);
/* gap_epoch -- the leader epoch of the record before it; -1 if unknown. */
int gap_epoch(struct store *st, const char *topic_id, int partition,
    int64_t *epoch, struct mr_error *err);

/* gap_plan_make -- what would be done; GAP_NONE says why nothing would. */
int gap_plan_make(struct store *st, const struct gap_facts *facts,
    struct gap_plan *plan, struct mr_error *err);

/* gap_plan_apply -- do it, if what the plan stands on is still so; FATAL if
 * not. */
int gap_plan_apply(struct store *st, const struct gap_facts *facts,
    const struct gap_plan *plan, const struct gap_marks *marks,
    struct mr_error *err);

/*
 * rebind_apply -- work with this cluster, and take the group's offsets that
 * were committed by ${ids} for this file's own.  0 or -1.
 */
int rebind_apply(struct store *st, const char *cluster_id,
    const char (*ids)[33], int count, int64_t now_ms, struct mr_error *err);

#endif
