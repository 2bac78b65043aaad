/*
 * internal -- what the files of pkg/stream share, and nobody else sees.
 *
 *	stream.c	the loop: sleep, take what is ready, run a batch
 *	connect.c	the start: topics, cluster, outputs
 *	declare.c	the start: the file says what its service does
 *	look.c		the start: is the file as new as what it sent?
 *	partition.c	what is assigned and in hand, by partition
 *	ahead.c		the thread that reads what is in hand, and frees it
 *	batch.c		one transaction of records, commands and ticks
 *	position.c	positions, marks, the database id
 *	output.c	emitting into the outbox; dead letters
 *	placement.c	by how many partitions keys are placed, for who checks
 *	emit_buffer.c	emitting what was encoded into a buffer
 *	command.c	the queue of commands, and their answers
 *	replay.c	the core's own commands: a dead letter, again or dropped
 *	relay.c		the thread that sends the outbox to Kafka
 *	relay_transaction.c	a lot of it as one Kafka transaction
 *	record.c	the identity in a record's headers
 *
 * Everything belongs to the thread in stream_run, "the loop", except for what
 * says that it is shared.
 */
#ifndef MR_STREAM_INTERNAL_H
#define MR_STREAM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "metrics/metrics.h"
#include "stream/stream.h"

#define TOPICS_MOST 16 /* inputs, and outputs with the dead letters */
#define DATABASE_ID_SIZE 33 /* 32 hexadecimal digits and NUL */
#define SOURCE_SIZE 160 /* "/millrace/<service>/<database id>" */
#define OWNER_SIZE 33
#define TYPE_SIZE \
	64 /* of a ce_type, with its NUL: what readers have room for */
#define EMIT_BYTES_MOST 1000000
#define COMMANDS_MOST 1024 /* queued; more are refused */
#define COMMANDS_A_BATCH 256
#define HALT_REASON_SIZE 480

/* ---- record.c ----------------------------------------------------------- */

/* What a record's headers say of where it comes from. */
struct identity {
	int ours; /* a Millrace service emitted it; else the rest is empty */
	char source[SOURCE_SIZE];
	int64_t seq;
	int64_t predecessor; /* 0: the first of its source in this partition */
	char type[TYPE_SIZE]; /* "" if there is none, ours or not */
	char cause_topic[KAFKA_TOPIC_MAX + 1]; /* "": none */
	int cause_partition;
	int64_t cause_offset;
};

void identity_read(const struct kafka_record *record, struct identity *id);

/* A list of headers in one blob: for each, two big-endian 32-bit lengths,
 * name, value.  headers_next returns 1 and moves *at, 0 at the end, -1 if the
 * blob is damaged. */
void headers_add(struct buffer *blob, const char *name, const void *value,
    size_t size);
int headers_next(const void *blob, size_t size, size_t *at, char *name,
    size_t name_size, const void **value, size_t *value_size);

/* ---- partition.c -------------------------------------------------------- */

/* A record (or the end of the partition) that was fetched and not committed. */
struct held {
	struct kafka_record record;
	struct ahead *ahead; /* NULL: the loop reads it */
	int64_t assignment; /* that it was fetched under */
	int64_t before; /* where the fetch stood before it */
};

enum partition_state {
	PARTITION_READING,
	PARTITION_WAITING, /* RETRY: backs off until retry_at_us */
	PARTITION_UNVERIFIED, /* assigned, but the broker couldn't be asked */
	PARTITION_HALTED /* until somebody accepts what happened */
};

struct partition {
	int input;
	int number;
	char topic_id[KAFKA_TOPIC_ID_SIZE];
	enum partition_state state;
	int64_t asked_us; /* when it was verified last, or tried to be */
	char halted_by[HALT_REASON_SIZE];
	int64_t assignment; /* the number of this assignment or seek */
	int64_t start; /* where to begin if the file has no position */
	int64_t fetch_next; /* where the fetch stands */
	int32_t fetch_epoch; /* of the record before it; -1: not known */
	int64_t retry_at_us;
	int64_t backoff_ms;
	int paused; /* as last told to Kafka's client */
	int lost; /* as in a record's out_of_range: nothing comes from lost_at */
	int64_t lost_at;

	struct held *held; /* a ring */
	size_t held_first;
	size_t held_count;
	size_t held_capacity;
	int64_t held_bytes; /* of keys and values */

	/* Within a transaction, and void outside it. */
	size_t taken; /* of held, from the first */
	int loaded; /* next and expected are read */
	int64_t expected; /* position in the file; -1: none */
	int64_t next;
	int32_t leader_epoch;
	int refetch; /* a hole: fetch again from next */
	int waits; /* a record said RETRY */
	int halts; /* halted_by says why */
	int64_t applied;
	int64_t skipped;

	int64_t
	    committed; /* as of our last commit; for lag and group offsets */
	int32_t committed_epoch;
	int to_tell; /* the group's offset is behind `committed` */
	int64_t behind_since_us; /* lag was seen, and none before; 0: none */
	int heard; /* something came since it was looked at */
	int64_t silent_since_us; /* nothing came, though there may be more */
	int64_t silent_ask_us; /* not before: look whether there is */
	int64_t silent_end; /* there is, up to here; -1: not that we know */
	struct metric *lag;
	struct metric *lag_seconds;
	struct metric *halted;
};

struct partition *partition_find(struct stream *s, int input, int number);
/* Take a polled record in; owns it from here on. */
void partition_hold(struct stream *s, struct kafka_record *record);
struct held *partition_at(struct partition *p, size_t index);
/* From the first. */
void partition_drop(struct stream *s, struct partition *p, size_t count);
/* Fetch again from ${offset}, under a new assignment number.  ${leader_epoch}
 * is that of the record before it; -1: not known, and a cut isn't noticed. */
void partition_refetch(struct stream *s, struct partition *p, int64_t offset,
    int32_t leader_epoch);
void partition_halt(struct stream *s, struct partition *p);
void partition_wait(struct stream *s, struct partition *p);
/* Resume those whose time has come, verify those that aren't, pause or
 * resume all as s->holding says.  Returns µs until the next, or -1. */
int64_t partition_service(struct stream *s);
/* Records in hand that a batch could take now. */
int64_t partition_ready(const struct stream *s);
int64_t partition_ready_bytes(const struct stream *s);
/* Free what is in hand, which must not outlive the consumer. */
void partition_drop_all(struct stream *s);
void partition_free_all(struct stream *s);
/* The handlers given to kafka_consumer_new; arg is the stream. */
extern const struct kafka_group_handlers partition_handlers;
/* A watcher found topic ids changed or a partition gone: halt those. */
void partition_compare_ids(struct stream *s,
    const struct kafka_topic_state *states, int count);

/* Who told the group offsets of a topic, under another id than this file's: it
 * may have been this file's, too. */
#define OTHERS_MOST 16
struct group_others {
	char id[OTHERS_MOST][DATABASE_ID_SIZE];
	int count;
};

/* The same for an input that another file of this group works on. */
void partition_compare_group(struct stream *s, int input,
    const struct group_others *others);
/* Tell the group where we are, if there is news; ${at_once}: even if it hasn't
 * answered what it was told before. */
void partition_tell_group(struct stream *s, int at_once);

/* ---- ahead.c ------------------------------------------------------------ */

struct ahead_list {
	struct ahead *first;
	struct ahead **last;
	size_t count;
};

struct ahead_queue {
	struct ahead_list to_tell; /* the thread, in this order */
	struct ahead_list spare;
	char *slots; /* NULL: no backlog */
	size_t slots_count;
	int started;
	int failed; /* to start: never again */
	pthread_t thread;

	/* Shared, under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t news; /* for the thread */
	pthread_cond_t read; /* for the loop, which awaits one */
	struct ahead_list told;
	struct ahead_list back; /* of no more use to the thread */
	int stop;
};

void ahead_init(struct stream *s);
/* Have a record that isn't next read; ahead_go hands over what was asked for
 * or is to be freed, and starts the thread.  NULL: it won't be. */
struct ahead *ahead_ask(struct stream *s, const struct kafka_record *record);
void ahead_go(struct stream *s);
/* A record's identity, and what was decoded of it, or NULL: that wasn't, or
 * can't be.  Both are there until it is freed, or ${own} goes; as often as it
 * is asked. */
const struct identity *ahead_read(struct stream *s, struct held *h,
    struct identity *own, const void **decoded);
/* Free a record, here or, with the next ahead_go, over there. */
void ahead_free(struct stream *s, struct held *h);
/* When nothing is in hand any more: all of it is freed. */
void ahead_stop(struct stream *s);
void ahead_done(struct stream *s);

/* ---- position.c --------------------------------------------------------- */

struct mark {
	char source[SOURCE_SIZE];
	const struct partition *partition;
	int64_t seq; /* -1: none */
	int dirty;
	int64_t seq_at_save;
	int dirty_at_save;
};

int position_read(struct stream *s, const char *topic_id, int partition,
    int64_t *next, int32_t *leader_epoch, struct mr_error *err);
/* Have a partition without a position begin at an offset. */
int position_begin(struct stream *s, const char *topic, const char *topic_id,
    int partition, int64_t next, struct mr_error *err);
/* Whether the file has a position of this topic under this id (1), only
 * under another (2, and which), or none (0). */
int position_topic_known(struct stream *s, const char *topic,
    const char *topic_id, char other_id[KAFKA_TOPIC_ID_SIZE],
    struct mr_error *err);
int position_move(struct stream *s, struct partition *p, struct mr_error *err);
/* The mark of a source, read once a transaction; NULL on error. */
struct mark *mark_find(struct stream *s, const struct partition *p,
    const char *source, struct mr_error *err);
int mark_write_all(struct stream *s, struct mr_error *err);
/* With a savepoint: note the marks, go back to what was noted. */
void mark_save_all(struct stream *s);
void mark_undo_all(struct stream *s);

/* Read the file's database id; draw the first. */
int database_id_load(struct stream *s, struct mr_error *err);
/* Inside a transaction: still the one that we loaded?  FATAL if not.  And have
 * placement.c know whether the file has another row of its. */
int database_id_check(struct stream *s, struct mr_error *err);
int database_id_redraw(struct stream *s, struct mr_error *err);
/* 1 if this file has or had the id, 0 if not, -1 on error. */
int database_id_known(struct stream *s, const char *id, struct mr_error *err);

/* ---- output.c ----------------------------------------------------------- */

struct output {
	const char *topic;
	int partitions;
	int64_t tails[KAFKA_PARTITIONS_MAX]; /* as of now; -1: not read */
	int64_t turn; /* likewise */
	int known; /* some of them were */
	unsigned char changed[KAFKA_PARTITIONS_MAX]; /* tails to write */
	int turn_changed;
	/* Shared: the relay's last acknowledged offset, -1 if none; and the
	 * last one that is in the file. */
	_Atomic int64_t acked_offset[KAFKA_PARTITIONS_MAX];
	int64_t settled_offset[KAFKA_PARTITIONS_MAX];
	int dirty;
	int placing; /* as the file says it: a count, or enum placing */
	int64_t placing_number; /* of the row that says so; 0: none */
};

/* Tails, and the last number given out, are kept in memory, and written at the
 * end of a transaction.  As one begins: forget them, unless nobody else has
 * written. */
void output_begin(struct stream *s);
int output_write_tails(struct stream *s, struct mr_error *err);
/* The last number that a row of the outbox was given; 0: none yet. */
int output_issued(struct store *st, int64_t *seq, struct mr_error *err);
/* Undo what a savepoint's emits did to the tails in memory. */
void output_undo_tails(struct stream *s);
int output_dead_letter(struct stream *s, const struct partition *p,
    const struct kafka_record *record, const char *reason,
    struct mr_error *err);
/* Delete what Kafka acknowledged; note how many rows are left. */
int output_settle(struct stream *s, struct mr_error *err);
/* That transaction did not happen. */
void output_unsettle(struct stream *s);
/* Read which rows are there: outbox_first, outbox_last; 0 if there are none. */
int output_ends(struct stream *s, struct mr_error *err);

/* ---- placement.c -------------------------------------------------------- */

enum placing {
	PLACING_NOT_READ = 0,
	PLACING_OTHERWISE = -1, /* a partitioner does it */
	PLACING_UNSAID = -2 /* the file has no row of this output */
};

/* Before the partitions of the outputs are counted: rows that are written from
 * here on are of who counted later.  0 or -1. */
int placement_count(struct stream *s, struct mr_error *err);
/* As a transaction begins: the file's last row is ${last}. */
void placement_compare(struct stream *s, int64_t last);
/* Before a record is placed: read the file's last row of this output, unless it
 * is known, and have as many partitions as an instance that counted later. */
int placement_read(struct stream *s, struct output *o, struct mr_error *err);
/* A record with a key was placed, by it or not: write a row if those before it
 * were placed otherwise. */
int placement_note(struct stream *s, struct output *o, int by_key, int64_t seq,
    struct mr_error *err);
/* Read the rows again: one that we wrote was undone, or may have been. */
void placement_forget(struct stream *s);

/* ---- command.c ---------------------------------------------------------- */

struct command {
	struct command *next;
	const struct stream_call *call;
	struct stream_command command;
	struct stream_answer *answer;
	struct mr_error error;
	int64_t until_us; /* in the queue */
	/* Called once it is answered; the command is the caller's again. */
	void (*done)(struct command *c, const struct mr_error *err);
};

/* Shared: any thread queues, the loop takes, a thread of its own answers. */
struct command_queue {
	int made; /* 0: there is no queue; of the thread that makes it */
	pthread_mutex_t lock;
	struct command *first;
	struct command **last;
	_Atomic int count; /* changed under the lock */
	struct command *answered; /* and not told yet */
	pthread_cond_t news; /* for the thread that answers */
	pthread_t thread;
	int thread_failed;
	int64_t look_at_us; /* when it looks for passed deadlines */
	int ending;
	int open; /* refuse unless set */
	char refusal[120];
	int wake_fd;
};

int command_queue_init(struct command_queue *q, struct mr_error *err);
void command_queue_done(struct command_queue *q);
void command_queue_open(struct command_queue *q);
void command_queue_close(struct command_queue *q, const char *why);
/* Take up to ${most}, which no deadline cancels any more; NULL for none. */
struct command *command_take(struct command_queue *q, int most);
int command_waiting(const struct command_queue *q);
/* Run all inside the transaction, and with them those that come meanwhile, which
 * are added to ${commands} whatever happens; those that fail are undone, each by
 * itself.  -1: the transaction can't go on. */
int command_run_all(struct stream *s, struct command **commands,
    struct mr_error *err);
/* After the commit (err NULL), or after it didn't happen. */
void command_answer_all(struct command_queue *q, struct command *first,
    const struct mr_error *err);

/* ---- replay.c ----------------------------------------------------------- */

/* Run one of the core's own commands, inside the savepoint. */
int replay_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err);

/* ---- relay.c ------------------------------------------------------------ */

/* Whether the cluster has transactions, as found out before the first one. */
enum relay_found {
	RELAY_ASKS,
	RELAY_HAS_TRANSACTIONS,
	RELAY_HAS_NO_TRANSACTIONS
};

/*
 * The relay's thread sends the outbox's rows in order and has its own
 * read-only connection.  It watches the inputs' topic ids as well, since it is the one that
 * may wait for the broker.  Fields are shared as noted.
 */
struct relay {
	struct stream *s;
	pthread_t thread;
	int started;
	int wake_fd; /* the loop wakes the relay */
	int news_fd; /* the relay wakes the loop */
	_Atomic int64_t epoch; /* of our ownership; 0: not the owner */
	_Atomic int64_t acked; /* all up to it are acknowledged */
	_Atomic int stop;
	_Atomic int news; /* the loop was woken and hasn't looked */
	_Atomic int found; /* enum relay_found, by the thread */
	pthread_mutex_t lock; /* of what follows */
	char trouble[HALT_REASON_SIZE];
	char halted[HALT_REASON_SIZE]; /* "" unless it is */
	/* The file may say another way: under this epoch (0: it may not), no row
	 * above that one was sent. */
	int64_t change_epoch;
	int64_t change_above;
	struct kafka_topic_state watched[TOPICS_MOST];
	struct group_others others[TOPICS_MOST]; /* of each of them */
	int watched_count;
	int watched_new;
	/* While the thread asks by the loop's consumer, that can't be freed. */
	pthread_mutex_t asking;
};

int relay_start(struct stream *s, struct mr_error *err);
void relay_stop(struct stream *s);
void relay_wake(struct stream *s);
/* Inside a transaction: take, renew or leave the ownership.  After the
 * commit, relay_leased tells the thread. */
int relay_lease(struct stream *s, struct mr_error *err);
void relay_leased(struct stream *s);
int relay_release(struct stream *s, struct mr_error *err);
/* Is the ownership needed though nothing waits: to begin with transactions, or
 * to keep the cursor from expiring? */
int relay_is_due(const struct stream *s);
/* What the file says of how it relays, into s->transactional. */
int relay_mode_read(struct stream *s, struct mr_error *err);
/* Between transactions: have the file say another way to relay, if the thread
 * has proposed it; what was sent leaves the outbox with it.  0 or -1. */
int relay_mode_settle(struct stream *s, struct mr_error *err);

/* ---- relay_transaction.c ------------------------------------------------ */

#define RELAY_ID_SIZE 128
/* The broker forgets a group's positions after seven days by default. */
#define RELAY_REFRESH_MS 86400000

/* The transactional id of a file's relay, and the group of its cursor. */
void relay_id(const char *service, const char *database_id,
    char id[RELAY_ID_SIZE]);
/* The last seq that a file's relay committed: 1; 0 if there is none, or somebody
 * else wrote there, *err says which; or -1: RETRY, if ${stable}, while a
 * transaction is open that may move it. */
int relay_cursor_read(const struct kafka_conf *conf, const char *service,
    const char *database_id, int stable, int64_t *seq, int timeout_ms,
    struct mr_error *err);
/* Has the file, as read through ${st}, given out what the cursor, or a record
 * in its topics, says was sent?  1; 0 with *err saying that it is older, or -1. */
int relay_cursor_compare(struct stream *s, struct store *st, int64_t cursor,
    struct mr_error *err);

/* ---- the stream --------------------------------------------------------- */

struct stream {
	const struct stream_service *svc;
	const struct stream_conf *conf;
	const char *instance;
	char db_path[4096];
	void *data;

	struct store *st;
	struct kafka_consumer *consumer;
	struct kafka_admin *admin;
	char cluster_id[KAFKA_CLUSTER_ID_SIZE];

	int64_t database; /* number of the database id */
	char database_id[DATABASE_ID_SIZE];
	int database_is_new; /* drawn by us: nothing was emitted under it */
	struct look *look;
	char source[SOURCE_SIZE];
	char owner[OWNER_SIZE];
	char boot_id[37];

	const char *inputs[TOPICS_MOST];
	char met[TOPICS_MOST][KAFKA_TOPIC_ID_SIZE]; /* inputs new to the file */
	int input_count;
	struct input_metrics {
		struct metric *consumed;
		struct metric *skipped;
		struct metric *rejected;
		struct metric *retried;
	} input_metrics[TOPICS_MOST];
	struct output outputs[TOPICS_MOST];
	int output_count;
	char dead_letter_topic[KAFKA_TOPIC_MAX + 1];
	int64_t placements; /* the file's last row, as of the last look */
	int64_t placements_counted; /* and when the outputs were counted */

	struct partition **partitions;
	int partition_count;
	int64_t last_assignment;
	int unanswered; /* verifications in a row */
	int64_t ask_at_us; /* the broker didn't answer: none before */
	int holding; /* consuming is paused: outbox full, store in trouble */

	struct ahead_queue ahead;
	struct command_queue commands;
	struct relay relay;

	/* Of the transaction. */
	int in_batch;
	int undisturbed; /* nobody has written since our last one */
	int64_t version_left; /* of the file, by that one; -1: none */
	int64_t batch_now_ms;
	const struct stream_record *applying;
	void *decoded; /* what the loop itself decodes */
	int64_t note; /* the service's; see stream_note */
	int64_t issued; /* the last row's number; -1: not read */
	int64_t issued_in_file; /* as this transaction found it */
	int64_t emitted;
	int64_t emitted_at_save;
	int together; /* the savepoint is a whole turn's */
	int together_applied; /* records applied within it */
	struct tail_change {
		int64_t *tail;
		int64_t was;
	} * tail_changes; /* since the savepoint */
	size_t tail_change_count;
	size_t tail_change_capacity;
	int placement_noted;
	struct mark *marks;
	int mark_count;
	int mark_capacity;
	struct buffer said; /* packed: count byte, words with their NULs */
	size_t said_at_save;
	int64_t deleted_up_to;
	int64_t lease_epoch;
	int lease_changed;
	int transactional; /* the relay, as the file said last */
	int64_t relay_due_us; /* when its ownership is needed next */

	/* Of the outbox, as of the last transaction. */
	int64_t outbox_first;
	int64_t outbox_last;
	int64_t outbox_head; /* the first row when last looked at */
	int64_t outbox_head_since_us;
	int64_t acked_deleted;
	int64_t lease_renewed_ms; /* as the file has it; INT64_MAX: not known */

	int64_t next_tick_us[2];
	int64_t tick_expected[2];
	int tick_isnt_done[2]; /* the last one said so */
	int ticks[2]; /* due when the batch began */
	int64_t tick_every_ms[2];
	int64_t resume_at_us; /* the store was in trouble: not before */
	int64_t store_backoff_ms;
	int64_t look_round_us; /* with work at hand, not sooner */
	int64_t take_at_us; /* look for records, while commands wait */
	int64_t serve_at_us; /* and after partitions */
	int64_t tell_at_us;
	int64_t
	    settle_at_us; /* delete acknowledged rows, renew the lease; 0: no need */
	int64_t
	    peek_at_us; /* look for rows that nobody relays; before that, connect */

	struct log_limit commit_limit;
	struct log_limit say_limit;
	struct log_limit reject_limit;
	struct log_limit wait_limit;

	/* Shared. */
	_Atomic int stopping;
	_Atomic int64_t heartbeat_us;
	pthread_mutex_t status_lock;
	char status[2 * HALT_REASON_SIZE]; /* "" when ready */
	int connected;
	int assigned_once;

	struct metric *m_apply;
	struct metric *m_commit;
	struct metric *m_transactions;
	struct metric *m_outbox_depth;
	struct metric *m_store_log;
	struct metric *m_outbox_oldest;
	struct metric *m_rebalances;
	struct metric *m_commands;
	struct metric *m_ready;
	struct metric *m_health;
	struct metric *m_relayed;
	struct metric *m_relay_transactional;
	struct metric *m_relay_committed;
	struct metric *m_relay_aborted;
	struct metric *m_relay_halted;
	struct metric *m_produce_latency;
	struct metric *m_emitted;
};

/* declare.c: note in the file what the service does, if that is news. */
int declare_service(struct stream *s, struct mr_error *err);

/* Is the file as new as what it sent?  1 yes, or it has drawn a new id; 0 not
 * known yet, *err says why; -1 RETRY or FATAL. */
int look_back(struct stream *s, struct mr_error *err);
void look_free(struct stream *s);

/* Reach the broker: 1 done, 0 not yet (status says why), -1 FATAL. */
int connect_try(struct stream *s, struct mr_error *err);

/* One transaction of whatever is ready: 1 there was something, 0 nothing,
 * -1 FATAL. */
int batch_run(struct stream *s, struct mr_error *err);

/* When the next tick is due; INT64_MAX if none is. */
int64_t batch_next_tick_us(const struct stream *s);
int batch_schedule_ticks(struct stream *s, struct mr_error *err);
/* Begin a transaction: what is known of the file is forgotten, unless nobody
 * has written since our last commit, which left version_left. */
int batch_begin(struct stream *s, struct mr_error *err);
/* The last transaction of a drain: settle, and let go of the relay. */
int batch_last(struct stream *s, struct mr_error *err);

/* Savepoints around a service's code, with what memory must undo too. */
int batch_save(struct stream *s, struct mr_error *err);
int batch_keep(struct stream *s, struct mr_error *err);
int batch_undo(struct stream *s, struct mr_error *err);
/* A record as a service's apply gets it. */
void batch_describe(const struct stream *s, int input,
    const struct kafka_record *r, const struct identity *id,
    struct stream_record *record);
/* Have a service apply it, decoded first if it isn't. */
int batch_apply(struct stream *s, struct stream_record *record,
    struct mr_error *err);
/* Call a service's function done: is the transaction still sound? */
int batch_sound(struct stream *s, struct mr_error *err);
/* A service's function failed: one that doesn't say why is a bug, FATAL. */
void batch_blame(const struct stream *s, const char *function,
    struct mr_error *failure);

void stream_set_status(struct stream *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
