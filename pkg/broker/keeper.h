/*
 * keeper -- the SQLite file: what is done to it, on the keeper's thread.
 *
 * Each call but keeper_load is a transaction of its own, durable when it
 * returns 0.  -1 RETRY: it did not happen, as with a full disk; FATAL: the
 * process has to end.
 */
#ifndef MR_BROKER_KEEPER_H
#define MR_BROKER_KEEPER_H

#include "broker/catalog.h"

/* keeper_open -- open or make the file and load the catalog (without logs) and
 * the groups' offsets.  The loop must not run yet. */
int keeper_open(struct broker *b, struct mr_error *err);
/*
 * keeper_start -- the logs are open: make this start's leader epoch last, before
 * anything is written under it.  No producer id up to ${last_producer}, the
 * largest in the logs, is given out from now on (-1: they have none).  Where the
 * logs are refused this isn't called, so that the next start refuses them, too.
 */
int keeper_start(struct broker *b, int64_t last_producer, struct mr_error *err);

/*
 * keeper_add_topics -- rows and settings of ${count} topics, NULLs left out.
 */
int keeper_add_topics(struct broker *b, struct topic *const *topics,
    size_t count, struct mr_error *err);
int keeper_remove_topics(struct broker *b, struct topic *const *topics,
    size_t count, struct mr_error *err);
/*
 * keeper_was_deleted -- was there a topic of that id whose folder may go?  1, 0,
 * or -1.  keeper_forget_deleted: there are no such folders any more.  At start.
 */
int keeper_was_deleted(struct broker *b, const char *id_text,
    struct mr_error *err);
int keeper_forget_deleted(struct broker *b, struct mr_error *err);
int keeper_set_partitions(struct broker *b, const char *id_text,
    int32_t partitions, struct mr_error *err);
/* keeper_set_overrides -- all of a topic's, in place of what there was. */
int keeper_set_overrides(struct broker *b, const char *id_text,
    char *const overrides[SETTING_COUNT], struct mr_error *err);
int keeper_reserve_producers(struct broker *b, int64_t count, int64_t *first,
    struct mr_error *err);

struct keeper_offset {
	const char *group; /* topic NULL: all of the group's */
	const char *topic_id; /* as text */
	int32_t partition;
	int64_t offset; /* -1: delete what was committed by committed_ms */
	int32_t leader_epoch;
	const char *metadata;
	int64_t committed_ms;
};
int keeper_put_offsets(struct broker *b, const struct keeper_offset *list,
    size_t count, struct mr_error *err);

#endif
