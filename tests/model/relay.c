/*
 * The way out: the relay, the broker's side of the output topic, and the
 * reader behind it.
 */
#include <assert.h>

#include "parts.h"

#define LOG_EMISSION 0x0f
#define LOG_SOURCE_SHIFT 4

/* ---- The broker ---- */

static bool
log_has_room(const struct world *world, const struct state *state, unsigned p)
{

	return (state->log[p][world->scope->backlog - 1] == 0);
}

/*
 * The source that a record is sent with: the row's.  With the rule removed,
 * that of the file which the sender has open; a sender whose file is no
 * longer in place still has the one that the row is from.
 */
static uint8_t
source_sent(const struct world *world, const struct state *state, unsigned i,
    unsigned g)
{

	if (keeps(world, RULE_SOURCE_IN_ROW) || i == NOBODY ||
	    !state->instance[i].current)
		return (state->emission[g].source);
	return (state->file.id);
}

static void
log_append(const struct world *world, struct state *state, unsigned i,
    unsigned p, unsigned g)
{
	unsigned source = source_sent(world, state, i, g);
	uint8_t seq = state->emission[g].seq;
	unsigned n;

	for (n = 0; state->log[p][n] != 0; n++)
		assert(n + 1 < BACKLOG);
	state->log[p][n] = (uint8_t)((1 + g) | source << LOG_SOURCE_SHIFT);
	if (!world->scope->check)
		return;
	if (!keeps(world, RULE_CHECK_HIGHEST))
		state->newest[source - 1][p] = seq;
	else if (state->highest[source - 1] < seq)
		state->highest[source - 1] = seq;
}

uint8_t
kafka_own(const struct world *world, const struct state *state)
{
	const uint8_t *newest = state->newest[state->file.id - 1];

	if (keeps(world, RULE_CHECK_HIGHEST))
		return (state->highest[state->file.id - 1]);
	return (newest[0] > newest[1] ? newest[0] : newest[1]);
}

/*
 * Write emission ${g} where its row says; with the partition chosen at
 * sending, anywhere.  ${change} has the rest of what happens in this move.
 */
static void
land(struct turn *turn, enum move move, unsigned i, unsigned g,
    void (*change)(struct state *, unsigned i, unsigned g))
{
	struct state *state;
	unsigned p;

	for (p = 0; p < PARTITIONS; p++) {
		if (p != turn->now->emission[g].partition &&
		    keeps(turn->world, RULE_PARTITION_IN_ROW))
			continue;
		if (!log_has_room(turn->world, turn->now, p))
			continue;
		state = step_add(turn, move, i, g);
		log_append(turn->world, state, i, p, g);
		change(state, i, g);
	}
}

/* A request without a producer is kept, sorted, until it lands. */
static bool
late_has_room(const struct world *world, const struct state *state)
{

	return (
	    world->scope->late > 0 && state->late[world->scope->late - 1] == 0);
}

void
late_add(struct state *state, unsigned g)
{
	unsigned n;

	for (n = LATE - 1; n > 0; n--) {
		if (state->late[n - 1] != 0 && state->late[n - 1] <= 1 + g)
			break;
		state->late[n] = state->late[n - 1];
	}
	state->late[n] = (uint8_t)(1 + g);
}

static void
late_landed(struct state *state, unsigned i, unsigned g)
{
	unsigned n;

	(void)i;
	for (n = 0; state->late[n] != 1 + g; n++)
		continue;
	for (; n + 1 < LATE; n++)
		state->late[n] = state->late[n + 1];
	state->late[LATE - 1] = 0;
}

/* ---- The relay ---- */

static void
move_takeover(struct turn *turn, unsigned i)
{
	const struct file *file = &turn->now->file;
	struct state *state;

	if (turn->now->instance[i].relay.active || file->rows == 0)
		return;
	state = step_add(turn, MOVE_TAKEOVER, i, 0);
	state->instance[i].relay.active = 1;
	if (!keeps(turn->world, RULE_TAKEOVER_AT_FIRST_ROW))
		state->instance[i].relay.loaded = (uint8_t)(1 +
		    lowest(file->rows));

	/* Where the design first had it: too late, as this model shows. */
	if (turn->world->scope->check &&
	    !keeps(turn->world, RULE_CHECK_BEFORE_EMISSION) &&
	    kafka_own(turn->world, state) > state->file.issued)
		file_redraw(state, i);
}

/* Two rows are enough of a buffer: one on its way, one behind it. */
static void
move_load(struct turn *turn, unsigned i)
{
	const struct relay *now = &turn->now->instance[i].relay;
	unsigned more = turn->now->file.rows & ~(bit(now->loaded) - 1U);
	struct relay *relay;
	unsigned g;

	if (!now->active || more == 0 || (now->buffer & (now->buffer - 1)) != 0)
		return;
	g = lowest(more);
	relay = &step_add(turn, MOVE_LOAD, i, g)->instance[i].relay;
	relay->buffer |= bit(g);
	relay->loaded = (uint8_t)(1 + g);
}

static void
move_send(struct turn *turn, unsigned i)
{
	const struct relay *now = &turn->now->instance[i].relay;
	unsigned waiting = now->buffer & ~(unsigned)now->in_flight;
	unsigned g;

	if (waiting == 0)
		return;
	if (now->in_flight != 0 && keeps(turn->world, RULE_IN_FLIGHT_ONE))
		return;
	g = lowest(waiting);
	step_add(turn, MOVE_SEND, i, g)->instance[i].relay.in_flight |= bit(g);
}

static void
relay_landed(struct state *state, unsigned i, unsigned g)
{

	state->instance[i].relay.landed |= bit(g);
}

/* Acknowledged, with all that was sent before it. */
static void
relay_acked(struct state *state, unsigned i, unsigned g)
{
	struct relay *relay = &state->instance[i].relay;
	uint8_t done = relay->in_flight & (uint8_t)((2U << g) - 1U);

	relay->acked |= done;
	relay->buffer &= (uint8_t)~done;
	relay->in_flight &= (uint8_t)~done;
	relay->landed &= (uint8_t)~done;
}

/*
 * A broker that doesn't know this producer refuses its first batch and
 * takes the second; librdkafka then counts both as done.
 */
static void
move_refuse_first(struct turn *turn, unsigned i)
{
	const struct relay *now = &turn->now->instance[i].relay;
	unsigned second = now->in_flight & (now->in_flight - 1U);

	if (second != 0 && now->landed == 0)
		land(turn, MOVE_REFUSE_FIRST, i, lowest(second), relay_acked);
}

/*
 * The first request failed, written or not.  The relay drops the producer
 * and goes on from there with a new one.  What the old one had on its way
 * may be gone, or, if ${late}, still arrive.
 */
static void
move_fail(struct turn *turn, unsigned i, bool late)
{
	const struct relay *now = &turn->now->instance[i].relay;
	unsigned behind = now->buffer & ~(unsigned)now->in_flight;
	unsigned open = now->in_flight & ~(unsigned)now->landed;
	unsigned g = lowest(now->in_flight);
	struct state *state;

	if (late && (open == 0 || !late_has_room(turn->world, turn->now)))
		return;
	state = step_add(turn, late ? MOVE_FAIL_LATE : MOVE_FAIL, i, g);
	state->instance[i].relay.in_flight = 0;
	state->instance[i].relay.landed = 0;
	if (late)
		late_add(state, lowest(open));

	/* Not gapless: the old producer's queue still sends the next one. */
	if (behind != 0 && !keeps(turn->world, RULE_GAPLESS))
		state->instance[i].relay.in_flight = bit(lowest(behind));
}

static void
move_delete(struct turn *turn, unsigned i)
{
	const struct relay *now = &turn->now->instance[i].relay;
	struct state *state;
	uint8_t gone = now->acked;

	if (!keeps(turn->world, RULE_DELETE_ACKED_ONLY))
		gone |= now->in_flight;
	if (gone == 0 || turn->now->pen != 0)
		return;
	state = step_add(turn, MOVE_DELETE, i, 0);
	state->file.rows &= (uint8_t)~gone;
	state->instance[i].relay.acked = 0;
}

void
relay_moves(struct turn *turn, unsigned i)
{
	const struct instance *now = &turn->now->instance[i];
	const struct relay *relay = &now->relay;
	unsigned open = relay->in_flight & ~(unsigned)relay->landed;

	/* What touches the file needs the one in place. */
	if (now->phase == READY && now->current) {
		move_takeover(turn, i);
		move_load(turn, i);
		move_delete(turn, i);
	}
	if (!relay->active)
		return;
	move_send(turn, i);
	if (open != 0)
		land(turn, MOVE_LAND, i, lowest(open), relay_landed);
	if (!keeps(turn->world, RULE_IN_FLIGHT_ONE))
		move_refuse_first(turn, i);
	if (relay->landed != 0)
		relay_acked(step_add(turn, MOVE_ACK, i, lowest(relay->landed)),
		    i, lowest(relay->landed));
	if (relay->in_flight != 0) {
		move_fail(turn, i, false);
		move_fail(turn, i, true);
	}
}

/* ---- The reader ---- */

static void
reader_apply(const struct world *world, struct state *state, unsigned g,
    unsigned source, unsigned p)
{
	const struct emission *emission = &state->emission[g];
	uint8_t *mark = &state->mark[source - 1][p];

	if (!keeps(world, RULE_MARK_BY_PARTITION))
		mark = &state->mark[source - 1][0];
	if (keeps(world, RULE_MARK)) {
		if (emission->seq <= *mark)
			return;
		if (*mark != 0 && emission->predecessor > *mark) {
			state->flaw = FLAW_ALARM;
			return;
		}
		*mark = emission->seq;
	}
	if (state->seen & bit(g))
		state->flaw = FLAW_DUPLICATE;
	state->seen |= bit(g);
}

void
reader_moves(struct turn *turn)
{
	struct state *state;
	unsigned p, n;

	for (p = 0; p < PARTITIONS; p++) {
		uint8_t entry = turn->now->log[p][0];

		if (entry == 0)
			continue;
		state = step_add(turn, MOVE_READ, p,
		    (entry & LOG_EMISSION) - 1U);
		for (n = 0; n + 1 < BACKLOG; n++)
			state->log[p][n] = state->log[p][n + 1];
		state->log[p][BACKLOG - 1] = 0;
		reader_apply(turn->world, state, (entry & LOG_EMISSION) - 1U,
		    entry >> LOG_SOURCE_SHIFT, p);
	}
	for (n = 0; n < LATE; n++)
		if (turn->now->late[n] != 0 &&
		    (n == 0 || turn->now->late[n] != turn->now->late[n - 1]))
			land(turn, MOVE_LATE_LAND, NOBODY,
			    turn->now->late[n] - 1U, late_landed);
}
