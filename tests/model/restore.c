/*
 * What happens to processes, files and topics: starts and crashes, copies
 * put back, topics made anew.
 */
#include <assert.h>
#include <string.h>

#include "parts.h"

/* ---- Starting and dying ---- */

static void
make_ready(const struct world *world, struct state *state, unsigned i)
{
	unsigned p;

	state->instance[i].phase = READY;
	for (p = 0; p < PARTITIONS; p++)
		if (world->scope->stepwise && log_length(world, 1, p) > 0)
			fetch_assign(world, state, i, p);
}

/*
 * Before anything else a process asks Kafka for its file's highest own seq,
 * and only then looks what the file has issued.  The other order would take
 * what another instance relayed in between for the work of a later life.
 */
static void
move_start(struct turn *turn, unsigned i)
{
	struct state *state = step_add(turn, MOVE_START, i, 0);
	struct instance *instance = &state->instance[i];

	instance->current = 1;
	if (!turn->world->scope->check ||
	    !keeps(turn->world, RULE_CHECK_BEFORE_EMISSION)) {
		make_ready(turn->world, state, i);
		return;
	}
	instance->phase = CHECKING;
	if (keeps(turn->world, RULE_CHECK_KAFKA_FIRST))
		instance->found_seq = kafka_own(turn->world, state);
	else
		instance->found_issued = state->file.issued;
}

static void
move_check(struct turn *turn, unsigned i)
{
	struct state *state;
	struct instance *instance;
	uint8_t seq, issued;

	if (turn->now->pen != 0)
		return;
	state = step_add(turn, MOVE_CHECK, i, 0);
	instance = &state->instance[i];
	seq = instance->found_seq;
	issued = state->file.issued;
	if (!keeps(turn->world, RULE_CHECK_KAFKA_FIRST)) {
		seq = kafka_own(turn->world, state);
		issued = instance->found_issued;
	}
	instance->found_seq = instance->found_issued = 0;
	if (seq > issued) {
		if (state->ids == SOURCES) {
			/* The end of this model's ids: not explored. */
			turn->steps->count--;
			return;
		}
		file_redraw(state, i);
	}
	make_ready(turn->world, state, i);
}

static void
move_crash(struct turn *turn, unsigned i, bool late)
{
	const struct relay *relay = &turn->now->instance[i].relay;
	unsigned open = relay->in_flight & ~(unsigned)relay->landed;
	struct state *state;

	if (late &&
	    (open == 0 || turn->world->scope->late == 0 ||
		turn->now->late[turn->world->scope->late - 1] != 0))
		return;
	state = step_add(turn, late ? MOVE_CRASH_LATE : MOVE_CRASH, i, 0);
	if (late)
		late_add(state, lowest(open));
	if (state->pen == 1 + i)
		file_rollback(state);
	memset(&state->instance[i], 0, sizeof(struct instance));
}

void
process_moves(struct turn *turn, unsigned i)
{
	const struct instance *now = &turn->now->instance[i];

	if (now->phase == DOWN) {
		move_start(turn, i);
		return;
	}
	if (now->phase == CHECKING && now->current)
		move_check(turn, i);
	move_crash(turn, i, false);
	move_crash(turn, i, true);
}

/* ---- Files ---- */

/*
 * The file that everybody has open is no longer the one in place.  They see
 * it when they next queue for the pen, and exit; until then all that shows
 * of them is what their relay has in memory.
 */
static void
file_left(struct state *state)
{
	struct instance *instance, rest;
	unsigned i;

	for (i = 0; i < INSTANCES; i++) {
		instance = &state->instance[i];
		memset(&rest, 0, sizeof(rest));
		if (instance->relay.buffer != 0) {
			rest.phase = READY;
			rest.relay = instance->relay;
			rest.relay.acked = rest.relay.loaded = 0;
		}
		*instance = rest;
	}
}

void
file_redraw(struct state *state, unsigned by)
{
	struct instance instance = {0};

	assert(state->ids < SOURCES);
	state->file.id = ++state->ids;
	if (by < INSTANCES)
		instance = state->instance[by];
	file_left(state);
	if (by < INSTANCES)
		state->instance[by] = instance;
}

static void
put_back(const struct world *world, struct state *state)
{

	file_left(state);
	state->file = state->copy;
	if (state->restores == world->scope->restores &&
	    state->copies == world->scope->copies)
		memset(&state->copy, 0, sizeof(state->copy));
}

static bool
all_is_over(const struct state *state)
{
	unsigned i;

	for (i = 0; i < INSTANCES; i++)
		if (state->instance[i].phase != DOWN)
			return (false);
	return (state->late[0] == 0);
}

static void
file_moves(struct turn *turn)
{
	const struct scope *scope = turn->world->scope;
	const struct state *now = turn->now;
	struct state *state;

	if (now->restores == scope->restores && now->copies == scope->copies)
		return;
	if (now->copy.id == 0) {
		state = step_add(turn, MOVE_BACKUP, 0, 0);
		state->copy = state->file;
		return;
	}
	if (now->pen != 0)
		return;
	if (now->restores < scope->restores) {
		state = step_add(turn, MOVE_RESTORE, 0, 0);
		state->restores++;
		put_back(turn->world, state);
		file_redraw(state, NOBODY);
	}
	if (now->copies < scope->copies &&
	    (scope->unclean_copy || all_is_over(now))) {
		state = step_add(turn, MOVE_PUT_BACK, 0, 0);
		state->copies++;
		put_back(turn->world, state);
	}
}

/* ---- Topics ---- */

static void
topic_moves(struct turn *turn)
{
	const struct state *now = turn->now;
	struct state *state;
	unsigned p;

	if (turn->world->scope->recreated == NULL)
		return;
	if (now->topic == 1)
		step_add(turn, MOVE_RECREATE, 0, 0)->topic = 2;
	if (now->topic == 1 || now->file.topic == 2 || now->pen != 0 ||
	    !keeps(turn->world, RULE_TOPIC_ID))
		return;

	/* The operator accepts the new topic: from its start. */
	state = step_add(turn, MOVE_ACCEPT, 0, 0);
	state->file.topic = 2;
	for (p = 0; p < PARTITIONS; p++) {
		state->file.position[p] = 0;
		if (!keeps(turn->world, RULE_MARKS_CARRIED_OVER))
			state->file.mark[p] = 0;
	}
}

void
world_moves(struct turn *turn)
{

	file_moves(turn);
	topic_moves(turn);
}
