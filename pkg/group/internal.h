/*
 * internal -- what the files of pkg/group share.
 */
#ifndef MR_GROUP_INTERNAL_H
#define MR_GROUP_INTERNAL_H

#include "base/map.h"
#include "group/group.h"

#define MEMBER_ID_SIZE 300

struct protocol {
	char *name;
	struct wire_bytes metadata; /* owned */
};

struct member {
	struct member *next; /* in the order of joining */
	char *id;
	char *instance_id; /* NULL: a dynamic member */
	char *client_id;
	char *client_host;
	struct protocol *protocols;
	int32_t protocol_count;
	struct wire_bytes assignment; /* owned */
	int32_t session_timeout_ms;
	int32_t rebalance_timeout_ms;
	int64_t expires_ms; /* while no ticket waits */
	uint64_t join_ticket; /* 0: doesn't wait */
	uint64_t sync_ticket;
	int synced; /* has asked for this generation's assignment */
	int told; /* its client knows the id, or the instance's */
	size_t bytes; /* of all above */
};

/* An id that was given out with MEMBER_ID_REQUIRED and isn't back yet. */
struct pending {
	struct pending *next;
	char *id;
	int64_t expires_ms;
};

struct topic_offsets {
	char *topic;
	struct group_offset *list; /* by partition */
	int32_t capacity;
};

struct group {
	char *id;
	enum group_state state;
	char *protocol_type; /* NULL: never had members */
	char *protocol_name; /* chosen; NULL: none */
	char *leader; /* a member's id, or NULL */
	int32_t generation;
	struct member *members;
	int32_t member_count;
	struct pending *pending;
	int32_t pending_count;
	int64_t deadline_ms; /* to join; to sync, though it be STABLE */
	int64_t latest_ms; /* of an initial delay that is prolonged */
	int initial; /* PREPARING after EMPTY: only the deadline ends it */
	int64_t
	    empty_since_ms; /* wall; 0: not seen empty yet, or never had any */
	int64_t spent_since_ms; /* without offsets, too; likewise */
	struct map topics; /* of struct topic_offsets */
	int64_t offset_count;
};

struct group_coordinator {
	struct group_conf conf;
	struct map groups;
	int64_t deadline_ms;
	int64_t bytes; /* of groups, members, ids given out and offsets */
	int64_t member_count;
};

/* group.c */
struct group *group_get(const struct group_coordinator *c,
    struct wire_string id);
/* NULL: out of memory. */
struct group *group_make(struct group_coordinator *c, struct wire_string id);
/* Likewise, for somebody who asks for it; NULL as well where it's too much. */
struct group *group_admit(struct group_coordinator *c, struct wire_string id);
void group_remove(struct group_coordinator *c, struct group *g);
struct member *group_member(const struct group *g, struct wire_string id);
struct member *group_instance(const struct group *g, struct wire_string id);
struct pending *group_pending(const struct group *g, struct wire_string id);
void group_member_free(struct group_coordinator *c, struct member *m);
void group_pending_remove(struct group_coordinator *c, struct group *g,
    const struct pending *p);
char *group_copy(struct wire_string s); /* NULL: out of memory */
int group_copy_bytes(struct wire_bytes *to, struct wire_bytes from);
/* Let group_deadline be no later than that. */
void group_wake_at(struct group_coordinator *c, int64_t at_ms);
/* Who is this?  WIRE_NONE and *m, or what is wrong. */
int16_t group_identify(const struct group *g, struct wire_string id,
    struct wire_string instance_id, struct member **m);
void group_touch(struct group_coordinator *c, struct member *m, int64_t now_ms);

/* rebalance.c */
void rebalance_start(struct group_coordinator *c, struct group *g,
    int64_t now_ms);
/* Goes on if all that are waited for have come. */
void rebalance_check(struct group_coordinator *c, struct group *g,
    int64_t now_ms);
/* The deadline to join, or to sync, has passed. */
void rebalance_overdue(struct group_coordinator *c, struct group *g,
    int64_t now_ms);
void rebalance_drop_member(struct group_coordinator *c, struct group *g,
    struct member *m, int64_t now_ms);
/* ${leader}: whom the member is told of; it assigns if that is itself. */
void rebalance_answer_join(struct group_coordinator *c, struct group *g,
    struct member *m, const char *leader, int64_t now_ms);
void rebalance_answer_sync(struct group_coordinator *c, struct group *g,
    struct member *m, int16_t error);

/* offsets.c */
void offsets_free(struct group_coordinator *c, struct group *g);

#endif
