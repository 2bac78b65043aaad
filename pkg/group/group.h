/*
 * group -- the coordinator of consumer groups.
 *
 * A state machine without clock, sockets or files: every call is told the
 * time (milliseconds of one steady clock), and what waits for others (a join, a
 * sync) is answered through the callbacks under the ticket it came with.  It is
 * the protocol of Kafka's classic groups: members join, one of them assigns,
 * all take their assignment by sync.  A generation counts the rebalances, and
 * what comes with another one is refused.
 *
 *	EMPTY -> PREPARING (waits for joins) -> COMPLETING (waits for the
 *	leader's assignment) -> STABLE -> PREPARING ...
 *
 * Offsets committed are kept here in memory; writing them down is the
 * caller's, who tells of each when it is durable.  Members aren't kept over a
 * restart: they find themselves unknown and join again.
 *
 * Error codes are the protocol's (enum wire_error_code).  What is passed in is
 * borrowed for the call; what a callback is given is good until it returns, and
 * it must not call back into this module.  Belongs to one thread.
 */
#ifndef MR_GROUP_H
#define MR_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "wire/wire.h"

#define GROUP_ID_MOST 249
/* Of a member (assignors): all members' are compared with each other. */
#define GROUP_PROTOCOLS_MOST 100

enum group_state {
	GROUP_EMPTY,
	GROUP_PREPARING,
	GROUP_COMPLETING,
	GROUP_STABLE
};

struct group_conf {
	int64_t initial_delay_ms; /* a first rebalance waits for more members */
	int64_t session_least_ms, session_most_ms;
	int64_t offsets_retention_ms; /* of groups without members */
	int64_t groups_most, members_most; /* members: of one group */
	/* Of all that is kept; what is on disk already is taken in beyond. */
	int64_t bytes_most;

	void *arg;
	/* The end of a new member's id, behind what its client calls itself: at
	 * most ${size} bytes with the NUL, never twice. */
	void (*make_id)(void *arg, char *id, size_t size);
	void (*joined)(void *arg, uint64_t ticket,
	    const struct wire_join_group_response *answer);
	void (*synced)(void *arg, uint64_t ticket,
	    const struct wire_sync_group_response *answer);
	/* The group's offset there, as committed then, isn't kept any longer. */
	void (*forgotten)(void *arg, const char *group, const char *topic,
	    int32_t partition, int64_t committed_ms);
};

struct group_coordinator;

struct group_coordinator *group_open(const struct group_conf *conf,
    struct mr_error *err);
void group_close(struct group_coordinator *c); /* NULL is a no-op */

/* Who asks, and how. */
struct group_caller {
	int64_t now_ms;
	uint64_t ticket; /* not 0 */
	int version; /* of the request */
	struct wire_string client_id;
	const char *client_host; /* its address; described behind a '/' */
};

/*
 * group_join, group_sync -- JoinGroup and SyncGroup.  Answered once through the
 * callback, during the call or later.
 */
void group_join(struct group_coordinator *c, const struct group_caller *caller,
    const struct wire_join_group_request *req);
void group_sync(struct group_coordinator *c, const struct group_caller *caller,
    const struct wire_sync_group_request *req);
/*
 * group_gone -- who waits under that ticket doesn't any more: it isn't answered.
 * As a member it may come back within its session; one that was never told its
 * id can't, and is dropped.  A ticket that nobody waits under is a no-op.
 */
void group_gone(struct group_coordinator *c, int64_t now_ms,
    const char *group_id, uint64_t ticket);
int16_t group_heartbeat(struct group_coordinator *c, int64_t now_ms,
    const struct wire_heartbeat_request *req);
/*
 * group_leave -- one of LeaveGroup's members.  An empty id with an instance id
 * removes whoever is that instance.
 */
int16_t group_leave(struct group_coordinator *c, int64_t now_ms,
    struct wire_string group_id,
    const struct wire_leave_group_request_member *m);

/*
 * group_deadline -- when group_tick has to be called next, or INT64_MAX.
 * group_tick ends sessions and rebalances that are overdue.
 */
int64_t group_deadline(const struct group_coordinator *c);
void group_tick(struct group_coordinator *c, int64_t now_ms);

/* ---- offsets ------------------------------------------------------------ */

struct group_offset {
	int64_t offset; /* -1: none */
	int32_t leader_epoch;
	int64_t committed_ms; /* wall time */
	char *metadata; /* never NULL; no NUL within */
};

/*
 * group_may_commit -- whether OffsetCommit is in its right: WIRE_NONE, and the
 * member's session goes on; or the error for all of its partitions that there
 * are.  A consumer that is in no group may commit to one that isn't there.
 */
int16_t group_may_commit(struct group_coordinator *c, int64_t now_ms,
    const struct wire_offset_commit_request *req);
/* group_has_room -- may an offset with metadata of that length be kept?  To
 * overwrite one with no more than it has is always possible. */
int group_has_room(const struct group_coordinator *c,
    struct wire_string group_id, const char *topic, int32_t partition,
    int64_t metadata_length);

/*
 * group_expect_offset -- one that nothing speaks against is to be written: makes
 * the group, if there is none, so that what is durable then has its place.
 * WIRE_NONE, or COORDINATOR_NOT_AVAILABLE if there are groups_most.
 */
int16_t group_expect_offset(struct group_coordinator *c,
    struct wire_string group_id);

/*
 * group_put_offset -- remember an offset that is durable, beyond all limits.
 * Makes the group if there is none.  0 or -1 RETRY (out of memory).
 */
int group_put_offset(struct group_coordinator *c, const char *group_id,
    const char *topic, int32_t partition, int64_t offset, int32_t leader_epoch,
    int64_t committed_ms, const char *metadata, struct mr_error *err);
/* group_get_offset -- NULL if there is none; good until the next call. */
const struct group_offset *group_get_offset(const struct group_coordinator *c,
    struct wire_string group_id, const char *topic, int32_t partition);

/* All offsets of a group: start with a zeroed cursor. */
struct group_cursor {
	size_t topic;
	int32_t partition;
	void *internal;
};
int group_next_offset(const struct group_coordinator *c,
    struct wire_string group_id, struct group_cursor *cursor,
    const char **topic, int32_t *partition, const struct group_offset **offset);

/*
 * group_loaded -- all that was put so far is of before a start, at ${wall_ms}:
 * whether these groups had members isn't known any more, so they had them until
 * then.
 */
void group_loaded(struct group_coordinator *c, int64_t wall_ms);
/*
 * group_expire_offsets -- drop offsets that are older than the retention, each
 * told to `forgotten`, and groups that have been seen here with neither members
 * nor offsets for GROUP_SPENT_MS: until then they can be described and deleted,
 * as in Kafka, which looks every ten minutes.  ${wall_ms} is the time of day, as
 * in committed_ms.  The offsets of a group that had members are kept from when
 * it was first seen here without them, of one without those from their commit; while
 * it has members, those are kept that they read, and all if they aren't consumers.
 */
#define GROUP_SPENT_MS 600000
void group_expire_offsets(struct group_coordinator *c, int64_t wall_ms);

/*
 * group_may_delete_offsets -- OffsetDelete's answer for the group, and whether
 * members read that topic.  WIRE_NONE, INVALID_GROUP_ID (an empty one),
 * GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP or GROUP_SUBSCRIBED_TO_TOPIC.  ${topic}
 * NULL asks of the group alone.
 */
int16_t group_may_delete_offsets(const struct group_coordinator *c,
    struct wire_string group_id, const char *topic);
/* group_drop_offset -- forget one; `forgotten` isn't called. */
void group_drop_offset(struct group_coordinator *c, const char *group_id,
    const char *topic, int32_t partition);
/* group_drop_topic -- a topic is deleted: all offsets in it go. */
void group_drop_topic(struct group_coordinator *c, const char *topic);

/* ---- looking ------------------------------------------------------------ */

struct group;

/* group_next -- each group once: start with *at = 0 until NULL. */
const struct group *group_next(const struct group_coordinator *c, size_t *at);
const struct group *group_find(const struct group_coordinator *c,
    struct wire_string group_id);
const char *group_id(const struct group *g);
const char *group_protocol_type(const struct group *g); /* "" if none */
const char *group_state_name(const struct group *g); /* as Kafka: "Stable" */

/*
 * group_describe -- the group into an answer of DescribeGroups; members are
 * taken from ${arena} and point into the group.  0, or -1 RETRY.
 */
int group_describe(const struct group *g, struct wire_arena *arena,
    struct wire_describe_groups_response_group *out, struct mr_error *err);

/* group_may_delete -- DeleteGroups: WIRE_NONE, or why not. */
int16_t group_may_delete(const struct group_coordinator *c,
    struct wire_string group_id);
/*
 * group_drop -- forget a group and its offsets, which aren't on disk any more.
 * If somebody has joined since it was empty, only the offsets.
 */
void group_drop(struct group_coordinator *c, const char *group_id);

struct group_counts {
	int64_t groups, members, offsets;
	int64_t bytes; /* of what bytes_most bounds */
};
void group_count(const struct group_coordinator *c,
    struct group_counts *counts);

#endif
