/*
 * The protocol as a whole: where it starts, who may move, what must hold.
 */
#include <assert.h>
#include <string.h>

#include "parts.h"

static_assert(sizeof(struct state) ==
	offsetof(struct state, instance) + INSTANCES * sizeof(struct instance),
    "a state has no padding");

/* ---- Helpers of the parts ---- */

struct state *
step_add(struct turn *turn, enum move move, unsigned who, unsigned what)
{
	struct step *step;

	assert(turn->steps->count < MOVES_MAX);
	step = &turn->steps->step[turn->steps->count++];
	step->after = *turn->now;
	step->move = (uint8_t)move;
	step->who = (uint8_t)who;
	step->what = (uint8_t)what;
	return (&step->after);
}

static const struct topic *
topic_life(const struct world *world, unsigned life)
{

	return (life == 1 ? world->scope->topic : world->scope->recreated);
}

uint8_t
log_length(const struct world *world, unsigned life, unsigned p)
{
	const struct topic *topic = topic_life(world, life);
	uint8_t n;

	for (n = 0; n < LOG_RECORDS && topic->log[p][n].kind != NOTHING; n++)
		continue;
	return (n);
}

const struct record *
log_record(const struct world *world, unsigned life, unsigned p,
    unsigned offset)
{

	return (&topic_life(world, life)->log[p][offset]);
}

/* ---- The machine ---- */

void
protocol_start(const struct world *world, struct state *state)
{
	unsigned i, p;

	memset(state, 0, sizeof(*state));
	state->topic = state->file.topic = 1;
	state->file.id = state->ids = 1;
	for (i = 0; i < INSTANCES; i++) {
		state->instance[i].phase = READY;
		state->instance[i].current = 1;
		for (p = 0; p < PARTITIONS; p++)
			if (world->scope->stepwise &&
			    log_length(world, 1, p) > 0)
				fetch_assign(world, state, i, p);
	}
}

void
protocol_moves(const struct world *world, const struct state *state,
    struct steps *steps)
{
	struct turn turn = {world, state, steps};
	unsigned i;

	steps->count = 0;
	for (i = 0; i < INSTANCES; i++) {
		if (state->instance[i].phase != DOWN) {
			consume_moves(&turn, i);
			if (world->scope->emits)
				relay_moves(&turn, i);
		}
		process_moves(&turn, i);
	}
	reader_moves(&turn);
	world_moves(&turn);
}

void
protocol_canonical(struct state *state)
{
	struct instance first;

	if (memcmp(&state->instance[0], &state->instance[1],
		sizeof(struct instance)) <= 0)
		return;
	first = state->instance[0];
	state->instance[0] = state->instance[1];
	state->instance[1] = first;
	if (state->pen != 0)
		state->pen = (uint8_t)(3 - state->pen);
}

/* ---- What must hold ---- */

/*
 * Below the position every input has its effect.  Above it none has, but
 * for our own that the mark will skip; where there are no marks to rely on,
 * their second effect is waited for.
 */
static enum flaw
positions_agree(const struct world *world, const struct file *file)
{
	bool marks = keeps(world, RULE_MARK) &&
	    keeps(world, RULE_MARKS_CARRIED_OVER);
	const struct record *record;
	unsigned p, offset;
	bool done;

	for (p = 0; p < PARTITIONS; p++)
		for (offset = 0; offset < log_length(world, file->topic, p);
		     offset++) {
			record = log_record(world, file->topic, p, offset);
			if (record->kind == CONTROL)
				continue;
			done = file->done & bit(record->input);
			if (offset < file->position[p] && !done)
				return (FLAW_EFFECT_MISSING);
			if (offset < file->position[p] || !done)
				continue;
			if (record->kind == FOREIGN ||
			    (marks && record->seq > file->mark[p]))
				return (FLAW_EFFECT_EARLY);
		}
	return (FLAW_NONE);
}

/*
 * What this history of the file emitted has been read, or it still can be:
 * it is a row or a record, and the reader's mark is below it.
 */
static bool
all_will_be_read(const struct world *world, const struct state *state)
{
	unsigned missing = state->file.emitted & ~(unsigned)state->seen;
	unsigned recorded = 0, p, n, g;
	const struct emission *emission;
	const uint8_t *mark;

	if (missing == 0)
		return (true);
	for (p = 0; p < PARTITIONS; p++)
		for (n = 0; n < BACKLOG && state->log[p][n] != 0; n++)
			recorded |= bit((state->log[p][n] & 0x0fU) - 1U);
	if (missing & ~(recorded | state->file.rows))
		return (false);
	if (!keeps(world, RULE_MARK) || !keeps(world, RULE_SOURCE_IN_ROW))
		return (true);
	for (; missing != 0; missing &= missing - 1) {
		g = lowest(missing);
		emission = &state->emission[g];
		p = emission->partition;
		if (!keeps(world, RULE_MARK_BY_PARTITION))
			p = 0;
		mark = &state->mark[emission->source - 1][p];
		if (*mark >= emission->seq)
			return (false);
	}
	return (true);
}

enum flaw
protocol_flaw(const struct world *world, const struct state *state)
{
	enum flaw flaw;

	if (state->flaw != FLAW_NONE)
		return ((enum flaw)state->flaw);
	if (state->file.twice != 0 || state->file.commands > 1)
		return (FLAW_EFFECT_TWICE);
	/* A position in a topic that is gone says nothing any more. */
	if (state->file.topic == state->topic ||
	    keeps(world, RULE_FETCH_BY_TOPIC_ID))
		if ((flaw = positions_agree(world, &state->file)) != FLAW_NONE)
			return (flaw);
	if (state->answered > state->file.commands)
		return (FLAW_ANSWER_LOST);
	if (!all_will_be_read(world, state))
		return (FLAW_LOST);
	return (FLAW_NONE);
}

bool
protocol_quiet(const struct world *world, const struct state *state)
{
	unsigned i, p;

	for (p = 0; p < PARTITIONS; p++)
		if (state->file.position[p] <
			log_length(world, state->topic, p) ||
		    state->log[p][0] != 0)
			return (false);
	for (i = 0; i < INSTANCES; i++)
		if (state->instance[i].relay.in_flight != 0)
			return (false);
	return (state->file.topic == state->topic && state->pen == 0 &&
	    state->file.rows == 0);
}

const char *
protocol_flaw_name(enum flaw flaw)
{
	static const char *const name[FLAW_COUNT] = {
	    [FLAW_NONE] = "none",
	    [FLAW_EFFECT_TWICE] = "an input's effect twice",
	    [FLAW_EFFECT_MISSING] = "position past an input without effect",
	    [FLAW_EFFECT_EARLY] = "effect of an input above the position",
	    [FLAW_ANSWER_LOST] = "answered, but not in the file",
	    [FLAW_DUPLICATE] = "duplicate downstream effect",
	    [FLAW_LOST] = "emission lost",
	    [FLAW_ALARM] = "false loss alarm",
	};

	return (name[flaw]);
}

/* ---- Traces ---- */

/* % is the instance, # the number, & the emission. */
static const char *const sentence[MOVE_COUNT] = {
    [MOVE_START] = "% starts",
    [MOVE_CHECK] = "% compares Kafka with the file",
    [MOVE_CRASH] = "% crashes, nothing stays on its way",
    [MOVE_CRASH_LATE] = "% crashes, its request still on its way",
    [MOVE_ASSIGN] = "% is assigned partition # anew",
    [MOVE_FETCH] = "% fetches offset #",
    [MOVE_POLL] = "% polls offset #",
    [MOVE_IDLE] = "% stores its position, #, as idle",
    [MOVE_ASK] = "% is sent a command",
    [MOVE_BEGIN] = "% begins a transaction",
    [MOVE_APPLY] = "% filters and applies offset #",
    [MOVE_COMMAND] = "% applies the command",
    [MOVE_POSITIONS] = "% moves the positions",
    [MOVE_COMMIT] = "% commits",
    [MOVE_ROLLBACK] = "% rolls back",
    [MOVE_ANSWER] = "% answers the command",
    [MOVE_CONSUME] = "% applies offset #, emits and commits",
    [MOVE_TAKEOVER] = "% takes over the relay",
    [MOVE_LOAD] = "% reads row &",
    [MOVE_SEND] = "% sends &",
    [MOVE_LAND] = "the broker writes &, sent by %",
    [MOVE_REFUSE_FIRST] = "the broker takes & before its elder, both count",
    [MOVE_ACK] = "% is told that & is written",
    [MOVE_FAIL] = "% is told that & failed, makes a new producer",
    [MOVE_FAIL_LATE] = "% is told that & failed, but it is on its way",
    [MOVE_LATE_LAND] = "the broker writes the late &",
    [MOVE_DELETE] = "% deletes what is acknowledged",
    [MOVE_READ] = "the reader reads &",
    [MOVE_BACKUP] = "the file is copied",
    [MOVE_RESTORE] = "the restore command puts the copy back",
    [MOVE_PUT_BACK] = "somebody puts the copy back by hand",
    [MOVE_RECREATE] = "the input topic is made anew",
    [MOVE_ACCEPT] = "the operator accepts the new topic",
};

static void
print_emission(FILE *out, const struct state *state, unsigned g)
{
	const struct emission *emission = &state->emission[g];

	fprintf(out, "%c%u@p%u", 'a' + (int)g, emission->seq,
	    emission->partition);
	if (state->ids > 1)
		fprintf(out, "/id%u", emission->source);
}

static void
print_set(FILE *out, const struct state *state, const char *label, unsigned set)
{

	if (set == 0)
		return;
	fprintf(out, " %s", label);
	for (; set != 0; set &= set - 1) {
		fputc(' ', out);
		print_emission(out, state, lowest(set));
	}
	fputc(';', out);
}

/* What each instance has fetched and has in hand of one partition. */
static void
print_fetched(FILE *out, const struct state *state, unsigned p)
{
	const struct fetch *fetch;
	unsigned i, k;

	for (i = 0; i < INSTANCES; i++) {
		fetch = &state->instance[i].fetch[p];
		if (fetch->queue[0] == 0 && fetch->hand[0] == 0)
			continue;
		fprintf(out, " %c: hand", 'A' + (int)i);
		for (k = 0; k < HAND && fetch->hand[k] != 0; k++)
			fprintf(out, " %u",
			    (fetch->hand[k] & ENTRY_OFFSET) - 1U);
		fputs(" queue", out);
		for (k = 0; k < QUEUE && fetch->queue[k] != 0; k++)
			fprintf(out, " %u%s",
			    (fetch->queue[k] & ENTRY_OFFSET) - 1U,
			    fetch->queue[k] & ENTRY_STALE ? " (stale)" : "");
		fputc(';', out);
	}
}

static void
print_state(FILE *out, const struct world *world, const struct state *state)
{
	unsigned p, n, set;

	fprintf(out, "id %u, position", state->file.id);
	for (p = 0; p < PARTITIONS; p++)
		if (log_length(world, 1, p) > 0)
			fprintf(out, " %u", state->file.position[p]);
	fputc(';', out);
	for (p = 0; p < PARTITIONS; p++)
		print_fetched(out, state, p);
	if (!world->scope->emits)
		return;
	print_set(out, state, "rows", state->file.rows);
	for (p = 0, set = 0; p < PARTITIONS; p++)
		for (n = 0; n < BACKLOG && state->log[p][n] != 0; n++)
			set |= bit((state->log[p][n] & 0x0fU) - 1U);
	print_set(out, state, "unread", set);
	print_set(out, state, "seen", state->seen);
}

void
protocol_print_step(FILE *out, const struct world *world, size_t number,
    const struct step *step)
{
	const char *c;

	fprintf(out, "    %2zu. ", number);
	for (c = sentence[step->move]; *c != '\0'; c++)
		if (*c == '%')
			fputc('A' + step->who, out);
		else if (*c == '#')
			fprintf(out, "%u", step->what);
		else if (*c == '&')
			print_emission(out, &step->after, step->what);
		else
			fputc(*c, out);
	fputs("\n        [", out);
	print_state(out, world, &step->after);
	fputs("]\n", out);
}
