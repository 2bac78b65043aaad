/*
 * parts -- what the parts of the protocol share with each other.
 *
 * protocol.c puts together what the other files describe: consume.c reading
 * and transactions, relay.c the way out and the reader there, restore.c
 * starts, crashes, older files and recreated topics.
 */
#ifndef PARTS_H_
#define PARTS_H_

#include "protocol.h"

/* Where one set of successors is being collected. */
struct turn {
	const struct world *world;
	const struct state *now;
	struct steps *steps;
};

/* keeps -- whether the protocol is explored with ${rule} in it. */
static inline bool
keeps(const struct world *world, enum rule rule)
{

	return ((world->removed & (UINT32_C(1) << rule)) == 0);
}

static inline uint8_t
bit(unsigned n)
{

	return ((uint8_t)(1U << n));
}

/* lowest -- the number of the lowest bit in ${set}, which has one. */
static inline unsigned
lowest(unsigned set)
{

	return ((unsigned)__builtin_ctz(set));
}

/*
 * step_add -- a copy of the present to be made into a successor.  Valid
 * until the next call.
 */
struct state *step_add(struct turn *turn, enum move move, unsigned who,
    unsigned what);

/* log_length -- records in a partition of the topic's life ${life}. */
uint8_t log_length(const struct world *world, unsigned life, unsigned p);

/* log_record -- the record at an offset there. */
const struct record *log_record(const struct world *world, unsigned life,
    unsigned p, unsigned offset);

/* able -- up, with the file in place open, and outside a transaction. */
bool able(const struct state *state, unsigned i);

/*
 * fetch_assign -- (re)assign a partition, or seek, at the stored position.
 * What was fetched before is from now on of an earlier assignment.
 */
void fetch_assign(const struct world *world, struct state *state, unsigned i,
    unsigned p);

/*
 * file_redraw -- a new database id, drawn by instance ${by} or NOBODY; all
 * others opened a file that is no longer theirs, and must exit.
 */
#define NOBODY INSTANCES
void file_redraw(struct state *state, unsigned by);

/*
 * kafka_own -- the own seq that a look into the output topic finds: the
 * highest of the file's source, or with the rule removed the highest among
 * the last records of each partition.
 */
uint8_t kafka_own(const struct world *world, const struct state *state);

/* file_rollback -- end the open transaction as if it had not been. */
void file_rollback(struct state *state);

/* late_add -- a request outlives its producer. */
void late_add(struct state *state, unsigned g);

void consume_moves(struct turn *turn, unsigned i);
void relay_moves(struct turn *turn, unsigned i);
void process_moves(struct turn *turn, unsigned i);
void world_moves(struct turn *turn);
void reader_moves(struct turn *turn);

#endif /* !PARTS_H_ */
