/*
 * protocol -- the stream core as a finite machine (docs/ARCHITECTURE.md).
 *
 * A struct state is everything that the protocol's safety can depend on at
 * one moment: the service's file, two processes that share it, the broker's
 * side of two output partitions and the reader behind them.  It is plain
 * bytes without padding, so that two states are the same if memcmp says so.
 *
 * protocol_moves lists every state that one step of anybody can lead to;
 * protocol_flaw says whether a state breaks a promise.  Both are pure: no
 * clock, no chance, no memory of their own.
 *
 * What a process may do is limited only by what the design says that it
 * checks.  In particular nobody is ever fair or timely here: a process that
 * takes no step is a stopped one, and when it takes its next it is a zombie
 * woken up; both may believe that a partition is theirs; both may relay at
 * once (which is why the relay's ownership row is not in the model: it only
 * spares work, and everything is shown to hold without it).
 */
#ifndef PROTOCOL_H_
#define PROTOCOL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define INSTANCES 2
#define PARTITIONS 2
#define INPUTS 8 /* different inputs in a scope, a bit each */
#define LOG_RECORDS 6 /* records of one input partition */
#define EMISSIONS 8 /* records emitted in a run, a bit each */
#define SOURCES 4 /* database ids drawn in a run */
#define QUEUE 2 /* fetched, not yet polled */
#define HAND 2 /* polled, not yet committed */
#define BACKLOG 3 /* output records that the reader hasn't read */
#define LATE 2 /* requests still on their way without a producer */
#define MOVES_MAX 96 /* successors of one state */

/*
 * The rules.  Each can be taken out of the protocol by itself; the last few
 * are decisions that the text of the design leaves open.
 */
enum rule {
	RULE_PARTITION_IN_ROW,
	RULE_IN_FLIGHT_ONE,
	RULE_GAPLESS,
	RULE_MARK_BY_PARTITION,
	RULE_SEQ_NEVER_REUSED,
	RULE_TAKEOVER_AT_FIRST_ROW,
	RULE_DELETE_ACKED_ONLY,
	RULE_MARK,
	RULE_ASSIGNMENT_NUMBERS,
	RULE_COMPARE_AND_SET,
	RULE_ANSWER_AFTER_COMMIT,
	RULE_IDLE_EMPTY_HANDED,
	RULE_SOURCE_IN_ROW,
	RULE_CHECK_BEFORE_EMISSION,
	RULE_CHECK_HIGHEST,
	RULE_CHECK_KAFKA_FIRST,
	RULE_TOPIC_ID,
	RULE_MARKS_CARRIED_OVER,
	RULE_FETCH_BY_TOPIC_ID,
	RULE_COUNT
};

/*
 * One record of an input partition.  OURS has a seq and a predecessor;
 * FOREIGN has only its offset; CONTROL takes an offset and is never
 * delivered.  ${input} is which input it is: a repeat has the number of
 * what it repeats.  ${output} is the partition that its emission goes to.
 */
enum kind { NOTHING, OURS, FOREIGN, CONTROL };
struct record {
	enum kind kind;
	uint8_t seq;
	uint8_t predecessor;
	uint8_t input;
	uint8_t output;
};

/* A topic's life: what each partition holds, ended by NOTHING. */
struct topic {
	struct record log[PARTITIONS][LOG_RECORDS];
};

/*
 * What one exploration covers.  Everything that is not switched on here
 * can't happen in it.
 */
struct scope {
	const char *name;
	const char *covers;
	const struct topic *topic; /* the input topic */
	const struct topic *recreated; /* what it is made anew as, or NULL */
	bool stepwise; /* a transaction is many steps, not one */
	bool emits; /* each effect emits one record */
	bool commands; /* a client asks for something, once */
	bool check; /* a process compares with Kafka when it starts */
	uint8_t restores; /* times the restore command is run */
	uint8_t copies; /* times an older file is put in place by hand */
	bool unclean_copy; /* ... with old requests and processes about */
	uint8_t queue, hand, backlog, late; /* at most the above */
};

struct world {
	const struct scope *scope;
	uint32_t removed; /* rules left out: bits by enum rule */
};

/* The service's file.  Id 0: there is no such file. */
struct file {
	uint8_t id; /* the database id */
	uint8_t issued; /* highest seq ever issued in it */
	uint8_t topic; /* life of the topic it reads: 1, 2 */
	uint8_t position[PARTITIONS]; /* next input offset */
	uint8_t mark[PARTITIONS]; /* highest input seq applied */
	uint8_t done; /* inputs with an effect, bits */
	uint8_t twice; /* inputs with two */
	uint8_t commands; /* commands with an effect */
	uint8_t last[PARTITIONS]; /* last seq emitted to each */
	uint8_t rows; /* the outbox: emissions, bits */
	uint8_t emitted; /* all that this history emitted */
};

/*
 * A fetched record is 1 + its offset, so that 0 is none, with these bits.
 * One past the log's end stands for the news that the end was reached.
 */
#define ENTRY_OFFSET 0x0f
#define ENTRY_STALE 0x10 /* fetched under an earlier assignment */
#define ENTRY_RECREATED 0x20 /* of the topic's second life */

/* One instance's reading of one input partition. */
struct fetch {
	uint8_t topic; /* life of the topic assigned; 0: none */
	uint8_t expected; /* stored position, as last seen */
	uint8_t stood; /* where polling stands */
	uint8_t next; /* where the client will fetch next */
	uint8_t queue[QUEUE];
	uint8_t hand[HAND];
	uint8_t before[HAND]; /* where polling stood before each */
	uint8_t cursor; /* in a transaction: the new position */
	uint8_t handled; /* in a transaction: of the hand */
};

/* One instance's relay.  Sets of emissions, bits; they go in bit order. */
struct relay {
	uint8_t active;
	uint8_t loaded; /* 1 + the last row taken into memory */
	uint8_t buffer; /* rows in memory, unacknowledged */
	uint8_t in_flight; /* of these, sent */
	uint8_t landed; /* of these, written by the broker */
	uint8_t acked; /* acknowledged, not yet deleted */
};

enum phase { DOWN, CHECKING, READY, IN_TRANSACTION, MOVED, COMMITTED };
enum command { NO_COMMAND, QUEUED, RUNNING, DONE };

struct instance {
	uint8_t phase;
	uint8_t current; /* its open file is the one in place */
	uint8_t command;
	uint8_t found_seq; /* checking: own seq found in Kafka */
	uint8_t found_issued; /* checking, file first: issued then */
	struct fetch fetch[PARTITIONS];
	struct relay relay;
};

/* An emission, for good: what its row and its record say. */
struct emission {
	uint8_t source;
	uint8_t partition;
	uint8_t seq;
	uint8_t predecessor;
};

struct state {
	struct file file;
	struct file work; /* as the open transaction would leave it */
	struct file copy; /* a backup */
	uint8_t pen; /* 1 + who is in a transaction; 0: none */
	uint8_t topic; /* which life the input topic is in */
	uint8_t ids; /* database ids drawn */
	uint8_t emissions; /* emissions made */
	uint8_t asked; /* commands sent by the client */
	uint8_t answered; /* commands answered */
	uint8_t restores;
	uint8_t copies;
	uint8_t flaw; /* seen happening, not visible in a state */
	struct emission emission[EMISSIONS];

	/* The broker: 1 + emission in the low bits, source above. */
	uint8_t log[PARTITIONS][BACKLOG];
	uint8_t late[LATE];
	uint8_t highest[SOURCES]; /* seq in the topic, by source */
	uint8_t newest[SOURCES][PARTITIONS]; /* seq of the last record */

	/* The reader downstream: marks from 1, and emissions applied. */
	uint8_t mark[SOURCES][PARTITIONS];
	uint8_t seen;

	struct instance instance[INSTANCES];
};

enum flaw {
	FLAW_NONE,
	FLAW_EFFECT_TWICE,
	FLAW_EFFECT_MISSING,
	FLAW_EFFECT_EARLY,
	FLAW_ANSWER_LOST,
	FLAW_DUPLICATE,
	FLAW_LOST,
	FLAW_ALARM,
	FLAW_COUNT
};

enum move {
	MOVE_START,
	MOVE_CHECK,
	MOVE_CRASH,
	MOVE_CRASH_LATE,
	MOVE_ASSIGN,
	MOVE_FETCH,
	MOVE_POLL,
	MOVE_IDLE,
	MOVE_ASK,
	MOVE_BEGIN,
	MOVE_APPLY,
	MOVE_COMMAND,
	MOVE_POSITIONS,
	MOVE_COMMIT,
	MOVE_ROLLBACK,
	MOVE_ANSWER,
	MOVE_CONSUME,
	MOVE_TAKEOVER,
	MOVE_LOAD,
	MOVE_SEND,
	MOVE_LAND,
	MOVE_REFUSE_FIRST,
	MOVE_ACK,
	MOVE_FAIL,
	MOVE_FAIL_LATE,
	MOVE_LATE_LAND,
	MOVE_DELETE,
	MOVE_READ,
	MOVE_BACKUP,
	MOVE_RESTORE,
	MOVE_PUT_BACK,
	MOVE_RECREATE,
	MOVE_ACCEPT,
	MOVE_COUNT
};

struct step {
	struct state after;
	uint8_t move; /* enum move */
	uint8_t who; /* instance, where one is meant */
	uint8_t what; /* partition, emission: by the move */
};

struct steps {
	size_t count;
	struct step step[MOVES_MAX];
};

/* protocol_start -- the first state: an empty file, both processes up. */
void protocol_start(const struct world *world, struct state *state);

/* protocol_moves -- replace ${steps} by all that can happen next. */
void protocol_moves(const struct world *world, const struct state *state,
    struct steps *steps);

/* protocol_flaw -- the promise that ${state} breaks, or FLAW_NONE. */
enum flaw protocol_flaw(const struct world *world, const struct state *state);

/*
 * protocol_quiet -- whether all the work is done: every input consumed,
 * every row relayed, deleted and read, and nobody in the middle of anything.
 */
bool protocol_quiet(const struct world *world, const struct state *state);

/*
 * protocol_canonical -- make ${state} the chosen one of the two that differ
 * only in which instance is called A.
 */
void protocol_canonical(struct state *state);

/* protocol_flaw_name -- a flaw in words. */
const char *protocol_flaw_name(enum flaw flaw);

/* protocol_print_step -- one line of a trace: what happened, what is now. */
void protocol_print_step(FILE *out, const struct world *world, size_t number,
    const struct step *step);

#endif /* !PROTOCOL_H_ */
