/*
 * The way in: fetching, polling, and the transaction that applies records
 * and moves positions.
 */
#include <assert.h>
#include <string.h>

#include "parts.h"

/* ---- Fetching ---- */

static unsigned
filled(const uint8_t *slot, unsigned size)
{
	unsigned n;

	for (n = 0; n < size && slot[n] != 0; n++)
		continue;
	return (n);
}

static void
shift(uint8_t *slot, unsigned size, unsigned by)
{

	assert(by <= size);
	memmove(slot, slot + by, size - by);
	memset(slot + size - by, 0, by);
}

/*
 * Fetch from ${at} on; all that was fetched before is of an earlier
 * assignment.  The hand is emptied at once, which is the same as dropping
 * each record when its turn comes; the queue belongs to the client.
 */
static void
fetch_seek(struct fetch *fetch, uint8_t at)
{
	unsigned k;

	memset(fetch->hand, 0, sizeof(fetch->hand));
	memset(fetch->before, 0, sizeof(fetch->before));
	fetch->handled = 0;
	for (k = 0; k < QUEUE; k++)
		if (fetch->queue[k] != 0)
			fetch->queue[k] |= ENTRY_STALE;
	fetch->stood = fetch->next = at;
}

void
fetch_assign(const struct world *world, struct state *state, unsigned i,
    unsigned p)
{
	struct fetch *fetch = &state->instance[i].fetch[p];

	/* A topic with another id is not ours to read: halted. */
	if (state->topic != state->file.topic && keeps(world, RULE_TOPIC_ID)) {
		fetch->topic = fetch->expected = 0;
		fetch_seek(fetch, 0);
		return;
	}
	fetch->topic = state->topic;
	fetch->expected = state->file.position[p];
	fetch_seek(fetch, fetch->expected);
}

static void
move_fetch(struct turn *turn, unsigned i, unsigned p)
{
	const struct fetch *now = &turn->now->instance[i].fetch[p];
	unsigned n = filled(now->queue, QUEUE);
	unsigned life = turn->now->topic;
	unsigned at = now->next, length = log_length(turn->world, life, p);
	struct fetch *fetch;

	if (now->topic == 0 || n >= turn->world->scope->queue)
		return;
	if (now->topic != life && keeps(turn->world, RULE_FETCH_BY_TOPIC_ID))
		return;
	while (at < length &&
	    log_record(turn->world, life, p, at)->kind == CONTROL)
		at++;
	if (at > length)
		return;
	fetch = &step_add(turn, MOVE_FETCH, i, at)->instance[i].fetch[p];
	fetch->queue[n] = (uint8_t)(1 + at);
	if (life == 2)
		fetch->queue[n] |= ENTRY_RECREATED;
	fetch->next = (uint8_t)(at + 1);
}

static void
move_poll(struct turn *turn, unsigned i, unsigned p)
{
	const struct fetch *now = &turn->now->instance[i].fetch[p];
	unsigned n = filled(now->hand, HAND);
	uint8_t entry = now->queue[0];
	unsigned offset = (entry & ENTRY_OFFSET) - 1U;
	unsigned life = (entry & ENTRY_RECREATED) ? 2 : 1;
	struct fetch *fetch;

	if (entry == 0 || n >= turn->world->scope->hand)
		return;
	fetch = &step_add(turn, MOVE_POLL, i, offset)->instance[i].fetch[p];
	shift(fetch->queue, QUEUE, 1);
	if ((entry & ENTRY_STALE) &&
	    keeps(turn->world, RULE_ASSIGNMENT_NUMBERS))
		return;
	if (fetch->topic == 0)
		return;
	if (offset >= log_length(turn->world, life, p)) {
		fetch->stood = (uint8_t)offset;
		return;
	}
	fetch->hand[n] = entry & (ENTRY_OFFSET | ENTRY_RECREATED);
	fetch->before[n] = fetch->stood;
	fetch->stood = (uint8_t)(offset + 1);
}

/*
 * Nothing in hand, and polling has passed what is never delivered: store
 * that, in a transaction of its own.
 */
static void
move_idle(struct turn *turn, unsigned i, unsigned p)
{
	const struct fetch *now = &turn->now->instance[i].fetch[p];
	struct state *state;

	if (now->topic == 0 || now->stood <= now->expected ||
	    turn->now->pen != 0)
		return;
	if (now->hand[0] != 0 && keeps(turn->world, RULE_IDLE_EMPTY_HANDED))
		return;
	state = step_add(turn, MOVE_IDLE, i, now->stood);
	if (state->file.topic == now->topic &&
	    state->file.position[p] == now->expected) {
		state->file.position[p] = now->stood;
		state->instance[i].fetch[p].expected = now->stood;
	} else {
		fetch_assign(turn->world, state, i, p);
	}
}

/* ---- Applying ---- */

static void
emit(const struct world *world, struct state *state, struct file *file,
    unsigned p)
{
	struct emission *emission;
	unsigned n = state->emissions;

	assert(n < EMISSIONS);
	emission = &state->emission[n];
	if (keeps(world, RULE_SEQ_NEVER_REUSED)) {
		file->issued++;
	} else {
		/* As without AUTOINCREMENT: one above the highest row. */
		unsigned g, top = 0;

		for (g = 0; g < n; g++)
			if (file->rows & bit(g))
				top = state->emission[g].seq;
		file->issued = (uint8_t)(top + 1);
	}
	emission->source = file->id;
	emission->partition = (uint8_t)p;
	emission->seq = file->issued;
	emission->predecessor = file->last[p];
	file->last[p] = file->issued;
	file->rows |= bit(n);
	file->emitted |= bit(n);
	state->emissions++;
}

/*
 * Apply one record to ${file}.  Returns false if it shows that one before
 * it is missing: then the partition halts here.
 */
static bool
apply(const struct world *world, struct state *state, struct file *file,
    unsigned p, const struct record *record)
{

	if (record->kind == OURS && keeps(world, RULE_MARK)) {
		uint8_t mark = file->mark[p];

		if (record->seq <= mark)
			return (true);
		if (mark != 0 && record->predecessor > mark)
			return (false);
		file->mark[p] = record->seq;
	}
	file->twice |= file->done & bit(record->input);
	file->done |= bit(record->input);
	if (world->scope->emits)
		emit(world, state, file, record->output);
	return (true);
}

/*
 * A loss was found.  It had better be one: the missing record is neither in
 * this life of the topic nor was it applied in an earlier one.
 */
static void
alarm_raised(const struct world *world, struct state *state, unsigned now,
    unsigned p, const struct record *missed_by)
{
	const struct record *record;
	unsigned life, offset;

	for (life = 1; life <= now; life++)
		for (offset = 0; offset < log_length(world, life, p);
		     offset++) {
			record = log_record(world, life, p, offset);
			if (record->seq == missed_by->predecessor &&
			    (life == now ||
				(state->work.done & bit(record->input))))
				state->flaw = FLAW_ALARM;
		}
}

/* ---- The transaction, step by step ---- */

static void
forget_transaction(struct instance *instance)
{
	unsigned p;

	for (p = 0; p < PARTITIONS; p++)
		instance->fetch[p].cursor = instance->fetch[p].handled = 0;
	if (instance->command == RUNNING)
		instance->command = QUEUED;
	instance->phase = READY;
}

/* Undo what the open transaction did, the numbering of emissions too. */
void
file_rollback(struct state *state)
{

	while (state->emissions > 0 &&
	    (state->work.emitted & ~state->file.emitted &
		bit(state->emissions - 1U))) {
		state->emissions--;
		memset(&state->emission[state->emissions], 0,
		    sizeof(struct emission));
	}
	memset(&state->work, 0, sizeof(state->work));
	state->pen = 0;
}

static void
move_begin(struct turn *turn, unsigned i)
{
	const struct instance *now = &turn->now->instance[i];
	struct state *state;
	bool work = now->command == QUEUED;
	unsigned p;

	for (p = 0; p < PARTITIONS; p++)
		if (now->fetch[p].hand[0] != 0)
			work = true;
	if (!work || turn->now->pen != 0)
		return;
	state = step_add(turn, MOVE_BEGIN, i, 0);
	state->pen = (uint8_t)(1 + i);
	state->work = state->file;
	state->instance[i].phase = IN_TRANSACTION;
	for (p = 0; p < PARTITIONS; p++)
		state->instance[i].fetch[p].cursor =
		    state->instance[i].fetch[p].expected;
}

/* Filter and apply the next record in hand. */
static void
move_apply(struct turn *turn, unsigned i, unsigned p)
{
	const struct fetch *now = &turn->now->instance[i].fetch[p];
	const struct record *record;
	struct state *state;
	struct fetch *fetch;
	unsigned offset, life;

	if (now->handled >= HAND || now->hand[now->handled] == 0)
		return;
	offset = (now->hand[now->handled] & ENTRY_OFFSET) - 1U;
	life = (now->hand[now->handled] & ENTRY_RECREATED) ? 2 : 1;
	record = log_record(turn->world, life, p, offset);
	state = step_add(turn, MOVE_APPLY, i, offset);
	fetch = &state->instance[i].fetch[p];

	if (offset < now->cursor) {
		fetch->handled++; /* another instance did it */
	} else if (now->before[now->handled] > now->cursor) {
		fetch_seek(fetch, fetch->cursor); /* a hole */
	} else if (apply(turn->world, state, &state->work, p, record)) {
		fetch->handled++;
		fetch->cursor = (uint8_t)(offset + 1);
	} else {
		/* Halted: it will never get past this record. */
		if (fetch->topic == life)
			alarm_raised(turn->world, state, life, p, record);
		fetch_seek(fetch, fetch->cursor);
	}
}

static void
move_command(struct turn *turn, unsigned i)
{
	struct state *state;

	if (turn->now->instance[i].command != QUEUED)
		return;
	state = step_add(turn, MOVE_COMMAND, i, 0);
	state->work.commands++;
	state->instance[i].command = RUNNING;
}

/* Move the positions, by compare-and-set; the loser rolls back, rereads. */
static void
move_positions(struct turn *turn, unsigned i)
{
	struct state *state = step_add(turn, MOVE_POSITIONS, i, 0);
	struct fetch *fetch;
	unsigned p;

	for (p = 0; p < PARTITIONS; p++) {
		fetch = &state->instance[i].fetch[p];
		if (fetch->cursor == fetch->expected)
			continue;
		if (keeps(turn->world, RULE_COMPARE_AND_SET) &&
		    (state->work.position[p] != fetch->expected ||
			(state->work.topic != fetch->topic &&
			    keeps(turn->world, RULE_TOPIC_ID))))
			break;
		state->work.position[p] = fetch->cursor;
		state->work.topic = fetch->topic;
	}
	state->instance[i].phase = MOVED;
	if (p == PARTITIONS)
		return;
	file_rollback(state);
	forget_transaction(&state->instance[i]);
	for (p = 0; p < PARTITIONS; p++) {
		fetch = &state->instance[i].fetch[p];
		if (fetch->topic == state->file.topic)
			fetch->expected = state->file.position[p];
		else if (fetch->topic != 0)
			fetch_assign(turn->world, state, i, p);
	}
}

static void
move_commit(struct turn *turn, unsigned i)
{
	struct state *state = step_add(turn, MOVE_COMMIT, i, 0);
	struct instance *instance = &state->instance[i];
	struct fetch *fetch;
	unsigned p;

	state->file = state->work;
	memset(&state->work, 0, sizeof(state->work));
	state->pen = 0;
	for (p = 0; p < PARTITIONS; p++) {
		fetch = &instance->fetch[p];
		fetch->expected = fetch->cursor;
		shift(fetch->hand, HAND, fetch->handled);
		shift(fetch->before, HAND, fetch->handled);
		fetch->cursor = fetch->handled = 0;
	}
	instance->phase = READY;
	if (instance->command == RUNNING) {
		instance->command = DONE;
		instance->phase = COMMITTED;
	}
}

/* A COMMIT that did not happen: the records stay in hand. */
static void
move_rollback(struct turn *turn, unsigned i)
{
	struct state *state = step_add(turn, MOVE_ROLLBACK, i, 0);

	file_rollback(state);
	forget_transaction(&state->instance[i]);
}

static void
move_answer(struct turn *turn, unsigned i)
{
	const struct instance *now = &turn->now->instance[i];
	struct state *state;

	if (now->command == DONE ||
	    (now->command == RUNNING &&
		!keeps(turn->world, RULE_ANSWER_AFTER_COMMIT))) {
		state = step_add(turn, MOVE_ANSWER, i, 0);
		state->answered = 1;
		if (now->command == DONE) {
			state->instance[i].command = NO_COMMAND;
			state->instance[i].phase = READY;
		}
	}
}

/* ---- The transaction as one step, for scopes that look elsewhere ---- */

static void
move_consume(struct turn *turn, unsigned i, unsigned p)
{
	const struct file *now = &turn->now->file;
	const struct record *record;
	struct state *state;
	uint8_t offset = now->position[p];

	if (turn->now->pen != 0 ||
	    offset >= log_length(turn->world, now->topic, p))
		return;
	record = log_record(turn->world, now->topic, p, offset);
	state = step_add(turn, MOVE_CONSUME, i, offset);
	apply(turn->world, state, &state->file, p, record);
	state->file.position[p]++;
}

void
consume_moves(struct turn *turn, unsigned i)
{
	const struct state *now = turn->now;
	const struct scope *scope = turn->world->scope;
	unsigned p;

	if (now->instance[i].phase == READY && now->instance[i].current) {
		for (p = 0; p < PARTITIONS; p++) {
			if (log_length(turn->world, 1, p) == 0)
				continue;
			if (!scope->stepwise) {
				move_consume(turn, i, p);
				continue;
			}
			fetch_assign(turn->world,
			    step_add(turn, MOVE_ASSIGN, i, p), i, p);
			move_fetch(turn, i, p);
			move_poll(turn, i, p);
			move_idle(turn, i, p);
		}
		move_begin(turn, i);
		if (scope->commands && now->asked == 0) {
			struct state *state = step_add(turn, MOVE_ASK, i, 0);

			state->asked = 1;
			state->instance[i].command = QUEUED;
		}
	}
	if (now->instance[i].phase == IN_TRANSACTION) {
		for (p = 0; p < PARTITIONS; p++)
			move_apply(turn, i, p);
		move_command(turn, i);
		move_positions(turn, i);
	}
	if (now->instance[i].phase == MOVED)
		move_commit(turn, i);
	if (now->instance[i].phase == IN_TRANSACTION ||
	    now->instance[i].phase == MOVED)
		move_rollback(turn, i);
	move_answer(turn, i);
}
