/*
 * internal -- what the files of pkg/broker share.
 */
#ifndef MR_BROKER_INTERNAL_H
#define MR_BROKER_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "broker/broker.h"
#include "broker/worker.h"
#include "group/group.h"
#include "store/store.h"
#include "wire/wire.h"

#define BROKER_NODE_ID 1
#define BROKER_SCRATCH_SIZE ((size_t)65536)
#define TOPIC_NAME_MOST 249
#define ID_TEXT_SIZE 33 /* of a topic id in hexadecimal */

/* What may be done, as sets of Kafka's numbers of operations: everything, as
 * there are no rights to be had. */
enum operations {
	OPERATION_READ = 1 << 3,
	OPERATION_WRITE = 1 << 4,
	OPERATION_CREATE = 1 << 5,
	OPERATION_DELETE = 1 << 6,
	OPERATION_ALTER = 1 << 7,
	OPERATION_DESCRIBE = 1 << 8,
	OPERATION_CLUSTER_ACTION = 1 << 9,
	OPERATION_DESCRIBE_CONFIGS = 1 << 10,
	OPERATION_ALTER_CONFIGS = 1 << 11,
	OPERATION_IDEMPOTENT_WRITE = 1 << 12,

	OPERATIONS_OF_GROUP = OPERATION_READ | OPERATION_DELETE |
	    OPERATION_DESCRIBE | OPERATION_DESCRIBE_CONFIGS |
	    OPERATION_ALTER_CONFIGS,
	OPERATIONS_OF_TOPIC = OPERATIONS_OF_GROUP | OPERATION_WRITE |
	    OPERATION_CREATE | OPERATION_ALTER,
	OPERATIONS_OF_CLUSTER = OPERATION_CREATE | OPERATION_ALTER |
	    OPERATION_DESCRIBE | OPERATION_CLUSTER_ACTION |
	    OPERATION_DESCRIBE_CONFIGS | OPERATION_ALTER_CONFIGS |
	    OPERATION_IDEMPOTENT_WRITE
};

struct connection;
struct request;
struct partition;
struct change;
struct sync_round;
struct producer_job;

struct listener {
	int fd;
	int port;
};

struct broker {
	struct broker_conf conf;
	int lock_fd;
	int epoll_fd;
	int wake_fd; /* written to by the workers */
	struct listener listeners[BROKER_LISTEN_MOST * 2];
	size_t listener_count;
	int accepting; /* listeners are in the epoll set */
	int64_t accept_at_ms; /* not before */
	int64_t now_ms; /* steady, as of this turn */
	int64_t next_tick_ms, next_slow_tick_ms;
	int signalled; /* the signals' descriptor is readable */
	int stopping;
	struct mr_error fatal; /* kind not MR_OK: end */

	struct worker *keeper; /* SQLite and files that go */
	struct worker *syncer; /* flushes */
	struct worker *tidier; /* deletes and compacts */
	struct store *st; /* the keeper's, once it runs */

	struct map topics; /* by name, of struct topic */
	struct map topics_by_id;
	struct map making; /* topics that the keeper is making, by name */
	struct map alike; /* topics of both kinds, by `alike` */
	int64_t partition_count;
	int64_t partitions_making; /* claimed, not in partition_count yet */
	char cluster_id[32];
	int32_t leader_epoch; /* how often this broker was started */
	int64_t producer_id_next, producer_id_end; /* reserved */
	struct producer_job *reserving; /* under way */

	struct group_coordinator *groups;
	struct forget_job *forget; /* of offsets that expire right now */
	struct change *changes, **changes_last; /* wait for the keeper */
	int changing; /* the keeper writes some */
	struct sync_round *sync; /* under way, or NULL */
	struct partition *unsynced, **unsynced_last; /* to be flushed */
	size_t unsynced_count;
	int64_t next_flush_ms; /* of the first that is due, or INT64_MAX */
	int64_t wakes; /* how often a partition's readers were woken */
	struct partition *tidying; /* in the tidier's hands */
	/* Partitions that this round has shortened, and compacted, so far. */
	int64_t shortened, compacted;
	int compacting; /* the round isn't through with that */
	int64_t next_tidy_ms; /* in the past while logs are shortened */

	struct connection *connections;
	struct connection *touched;
	int64_t connection_count;
	int64_t memory; /* of requests and answers */
	int64_t starved; /* connections that wait for memory */
	int gave_back; /* some memory, since they were last looked at */
	struct request *waiting; /* with a deadline */
	int64_t deadline_ms; /* no later than the earliest of them */
	uint8_t *scratch;

	_Atomic int64_t turned_ms; /* when the loop last turned */
	_Atomic int is_ready;
};

/* loop.c */
int64_t broker_now_ms(void);
/* Something can't go on: the loop ends after this turn. */
void broker_fail(struct broker *b, const struct mr_error *err);

/* listen.c */
int listeners_sandbox(const struct broker_conf *conf, struct sandbox *sb,
    struct mr_error *err);
int listeners_open(struct broker *b, struct mr_error *err);
void listeners_close(struct broker *b);
void listeners_accept(struct broker *b, int on);

/* dispatch.c */
/* request_start -- read the body and hand it to its function. */
void request_start(struct request *req);
/* What to say to a request of another version; -1: close. */
int request_refuse(struct request *req);

/* A handler answers now or waits. */
typedef void request_handler(struct broker *b, struct request *req);
request_handler handle_produce, handle_fetch, handle_list_offsets,
    handle_metadata, handle_offset_commit, handle_offset_fetch,
    handle_find_coordinator, handle_join_group, handle_heartbeat,
    handle_leave_group, handle_sync_group, handle_describe_groups,
    handle_list_groups, handle_api_versions, handle_create_topics,
    handle_delete_topics, handle_delete_records, handle_init_producer_id,
    handle_offset_for_leader_epoch, handle_describe_configs,
    handle_alter_configs, handle_describe_log_dirs, handle_create_partitions,
    handle_delete_groups, handle_incremental_alter_configs,
    handle_offset_delete, handle_describe_cluster, handle_describe_producers,
    handle_sasl_handshake, handle_sasl_authenticate,
    handle_consumer_group_heartbeat;

#endif
