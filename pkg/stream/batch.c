/*
 * batch -- one transaction: effects, what was emitted, and positions.
 *
 * The order, which tests/model explores:
 *
 *	1  take the pen, BEGIN IMMEDIATE, check that the file is the one opened,
 *	   by its version each time and by its path every 10 ms
 *	2  commands and ticks, each undone alone if it fails
 *	3  records, each undone alone if it can't be applied; leave out what
 *	   is done already
 *	4  what Kafka acknowledged leaves the outbox; the relay's lease
 *	5  marks, and positions by compare-and-set
 *	6  COMMIT
 *	7  and only now: answers, log lines, the relay, the group's offsets
 *
 * Whatever fails before 6 is undone as a whole; records stay in hand.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "stream/internal.h"

#define RECORDS_A_TURN 64 /* of one partition, before the next has its turn */
#define STORE_BACKOFF_MOST_MS 5000
#define EXPIRE_A_TICK 2000
#define TICK_AGAIN_MS 100 /* after one that wasn't done */

enum { TICK_SERVICE, TICK_CORE, TICKS };

static const char *const tick_names[TICKS] = {"service", "core"};

static const char sql_tick_first[] =
    "INSERT INTO ticks (name, last_ms) VALUES (?1, ?2)"
    " ON CONFLICT DO NOTHING";
static const char sql_tick_move[] =
    "UPDATE ticks SET last_ms = ?3 WHERE name = ?1 AND last_ms = ?2";
static const char sql_tick_last[] = "SELECT last_ms FROM ticks WHERE name = ?1";
static const char sql_expire_keys[] =
    "DELETE FROM idempotency_keys WHERE (scope, key) IN (SELECT scope, key"
    " FROM idempotency_keys WHERE answered_at_ms < ?1"
    " ORDER BY answered_at_ms LIMIT ?2)";
static const char sql_expire_dead_letters[] =
    "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters"
    " WHERE put_at_ms < ?1 ORDER BY put_at_ms LIMIT ?2)";
static const char sql_expire_gone[] =
    "DELETE FROM dead_letters_gone WHERE id IN (SELECT id"
    " FROM dead_letters_gone WHERE put_at_ms < ?1"
    " ORDER BY put_at_ms LIMIT ?2)";

/* ---- savepoints ---------------------------------------------------------- */

int
batch_save(struct stream *s, struct mr_error *err)
{
	s->emitted_at_save = s->emitted;
	s->said_at_save = s->said.length;
	s->tail_change_count = 0;
	mark_save_all(s);
	return (store_save(s->st, err));
}

int
batch_keep(struct stream *s, struct mr_error *err)
{
	return (store_release(s->st, err));
}

int
batch_undo(struct stream *s, struct mr_error *err)
{
	s->note = 0;
	s->emitted = s->emitted_at_save;
	s->said.length = s->said_at_save;
	output_undo_tails(s);
	mark_undo_all(s);
	return (store_restore(s->st, err));
}

/*
 * SQLite rolls a transaction back by itself when it must, and what follows
 * would commit alone; so after everything that a service did, look.
 */
int
batch_sound(struct stream *s, struct mr_error *err)
{
	if (store_trouble(s->st, err) == -1)
		return (-1);
	if (!store_in_transaction(s->st))
		return (mr_error_set(err, MR_RETRY,
		    "the transaction on %s was rolled back by SQLite",
		    s->db_path));
	return (0);
}

/* It could be taken for success, or for the record's fault. */
void
batch_blame(const struct stream *s, const char *function,
    struct mr_error *failure)
{
	if (failure->kind == MR_OK)
		mr_error_set(failure, MR_FATAL,
		    "%s of %s failed without saying why", function,
		    s->svc->name);
}

/* ---- records ------------------------------------------------------------- */

enum step {
	STEP_ON, /* the position goes past this record */
	STEP_STAY, /* this partition's part of the batch ends before it */
	STEP_ALONE, /* it needs a savepoint of its own */
	STEP_FAILED /* the transaction can't go on */
};

static int
partition_load(struct stream *s, struct partition *p, struct mr_error *err)
{
	int found;

	if (p->loaded)
		return (0);
	if ((found = position_read(s, p->topic_id, p->number, &p->next,
		 &p->leader_epoch, err)) == -1)
		return (-1);
	p->expected = found == 1 ? p->next : -1;
	if (found == 0) {
		p->next = p->start;
		p->leader_epoch = -1;
	}
	p->loaded = 1;
	return (0);
}

/*
 * Compare a Millrace record with its source's mark: 1 apply it, 0 skip it, a
 * relay's repeat, -1 failed; *gap: what came before it is missing.
 */
static int
mark_compare(struct stream *s, struct partition *p, const struct identity *id,
    struct mark **mark, int *gap, struct mr_error *err)
{
	*gap = 0;
	if ((*mark = mark_find(s, p, id->source, err)) == NULL)
		return (-1);
	if (id->seq <= (*mark)->seq)
		return (0);
	if ((*mark)->seq == -1 || id->predecessor <= (*mark)->seq)
		return (1);
	*gap = 1;
	snprintf(p->halted_by, sizeof(p->halted_by),
	    "%s: its records after seq %lld up to %lld are missing before seq "
	    "%lld; `millrace state accept-gap` goes on without them",
	    id->source, (long long)(*mark)->seq, (long long)id->predecessor,
	    (long long)id->seq);
	return (0);
}

void
batch_describe(const struct stream *s, int input, const struct kafka_record *r,
    const struct identity *id, struct stream_record *record)
{
	record->topic = s->inputs[input];
	record->input = input;
	record->partition = r->partition;
	record->offset = r->offset;
	record->ts_ms = r->ts_ms;
	record->type = id->type[0] != '\0' ? id->type : NULL;
	record->source = id->ours ? id->source : NULL;
	record->seq = id->seq;
	record->cause_topic = id->cause_topic[0] != '\0' ? id->cause_topic :
							   NULL;
	record->cause_partition = id->cause_partition;
	record->cause_offset = id->cause_offset;
	record->key = r->key;
	record->key_size = r->key_size;
	record->value = r->value;
	record->value_size = r->value_size;
	record->decoded = NULL;
	record->raw = r;
}

int
batch_apply(struct stream *s, struct stream_record *record,
    struct mr_error *err)
{
	const struct stream_service *svc = s->svc;

	if (svc->decode != NULL && record->decoded == NULL) {
		if (svc->decode(record, s->decoded, err) != 0)
			return (-1);
		record->decoded = s->decoded;
	}
	return (svc->apply(s, record, err));
}

/* It can't be applied: undo what it did, and keep it as a dead letter. */
static enum step
record_reject(struct stream *s, struct partition *p,
    const struct kafka_record *r, const char *reason, struct mr_error *err)
{
	int64_t suppressed;

	metric_add(s->input_metrics[p->input].rejected, 1);
	if (log_limit_take(&s->reject_limit, &suppressed))
		log_warn("record rejected", "topic", s->inputs[p->input],
		    "partition", log_i64(p->number), "offset",
		    log_i64(r->offset), "reason", reason,
		    suppressed > 0 ? "lines_left_out" : NULL,
		    log_i64(suppressed));
	if (output_dead_letter(s, p, r, reason, err) == -1 ||
	    batch_sound(s, err) == -1)
		return (STEP_FAILED);
	return (STEP_ON);
}

static enum step
record_apply(struct stream *s, struct partition *p,
    const struct kafka_record *r, const struct identity *id,
    const void *decoded, struct mr_error *err)
{
	struct stream_record record;
	struct mr_error failure = {0};
	int status;

	batch_describe(s, p->input, r, id, &record);
	record.decoded = decoded;
	if (!s->together && batch_save(s, err) == -1)
		return (STEP_FAILED);
	s->applying = &record;
	store_guard(s->st, 1);
	status = batch_apply(s, &record, &failure);
	store_guard(s->st, 0);
	(void)FAILPOINT("record.applied");
	if (batch_sound(s, err) == -1) {
		s->applying = NULL;
		return (STEP_FAILED);
	}
	if (status == 0) {
		s->applying = NULL;
		if (s->together)
			s->together_applied++;
		else if (batch_keep(s, err) == -1)
			return (STEP_FAILED);
		return (STEP_ON);
	}
	batch_blame(s, "apply", &failure);
	if (s->together_applied > 0 && failure.kind != MR_FATAL) {
		s->applying = NULL;
		return (STEP_ALONE);
	}
	s->together = 0; /* the first: the savepoint was its own */
	if (failure.kind == MR_FATAL || batch_undo(s, err) == -1) {
		if (failure.kind == MR_FATAL)
			*err = failure;
		s->applying = NULL;
		return (STEP_FAILED);
	}
	if (failure.kind == MR_RETRY) {
		s->applying = NULL;
		metric_add(s->input_metrics[p->input].retried, 1);
		log_warn("record will be tried again", "topic",
		    s->inputs[p->input], "partition", log_i64(p->number),
		    "offset", log_i64(r->offset), "reason", failure.message);
		p->waits = 1;
		return (STEP_STAY);
	}
	status = (int)record_reject(s, p, r, failure.message, err);
	s->applying = NULL;
	return ((enum step)status);
}

/* One record in hand: leave it out, apply it, or stop before it. */
static enum step
record_step(struct stream *s, struct partition *p, struct held *h,
    struct mr_error *err)
{
	const struct kafka_record *r = &h->record;
	const struct identity *id;
	/* Half a kilobyte, which hardly any record needs. */
	__attribute__((uninitialized)) struct identity own;
	const void *decoded;
	struct mark *mark = NULL;
	enum step step;
	int gap, fresh;

	if (h->assignment != p->assignment)
		return (STEP_ON);
	if (r->offset < p->next)
		return (STEP_ON); /* another instance did it */
	if (h->before > p->next) {
		p->refetch = 1;
		return (STEP_STAY);
	}
	if (r->end_of_partition) {
		/* What lies between may be of a later epoch. */
		if (p->next != r->offset)
			p->leader_epoch = -1;
		p->next = r->offset;
		return (STEP_ON);
	}
	id = ahead_read(s, h, &own, &decoded);
	if (id->ours) {
		if ((fresh = mark_compare(s, p, id, &mark, &gap, err)) == -1)
			return (STEP_FAILED);
		if (gap) {
			p->halts = 1;
			return (STEP_STAY);
		}
		if (!fresh) {
			p->skipped++;
			mark = NULL;
		}
	} else {
		fresh = 1;
	}
	step = fresh ? record_apply(s, p, r, id, decoded, err) : STEP_ON;
	if (step != STEP_ON)
		return (step);
	if (mark != NULL) {
		mark->seq = id->seq;
		mark->dirty = 1;
	}
	p->next = r->offset + 1;
	p->leader_epoch = r->leader_epoch;
	p->applied++;
	return (STEP_ON);
}

/* Up to ${most} records of a partition; the step that ended it. */
static enum step
turn_run(struct stream *s, struct partition *p, int64_t most,
    struct mr_error *err)
{
	enum step step = STEP_ON;

	for (; step == STEP_ON && most > 0 && p->taken < p->held_count; most--)
		if ((step = record_step(s, p, partition_at(p, p->taken),
			 err)) == STEP_ON)
			p->taken++;
	return (step);
}

/*
 * The records of a turn share a savepoint, since one each takes a quarter of
 * the time.  Nearly always all of them can be applied.  If one can't, the
 * turn is undone and gone through again with a savepoint for each, which
 * comes to the same, since apply is deterministic.
 */
static enum step
turn_together(struct stream *s, struct partition *p, int64_t most,
    struct mr_error *err)
{
	const struct partition was = *p;
	enum step step;

	if (batch_save(s, err) == -1)
		return (STEP_FAILED);
	s->together = 1;
	s->together_applied = 0;
	step = turn_run(s, p, most, err);
	s->together_applied = 0;
	if (step == STEP_FAILED || !s->together) {
		s->together = 0;
		return (step);
	}
	s->together = 0;
	if (step != STEP_ALONE)
		return (batch_keep(s, err) == -1 ? STEP_FAILED : step);
	if (batch_undo(s, err) == -1)
		return (STEP_FAILED);
	p->taken = was.taken;
	p->next = was.next;
	p->leader_epoch = was.leader_epoch;
	p->applied = was.applied;
	p->skipped = was.skipped;
	return (turn_run(s, p, most, err));
}

/* A partition's turn: 1 it has more, 0 not now, -1 failed. */
static int
partition_turn(struct stream *s, struct partition *p, int64_t *room,
    struct mr_error *err)
{
	int64_t most = *room < RECORDS_A_TURN ? *room : RECORDS_A_TURN;
	size_t taken = p->taken;
	enum step step;

	if (p->state != PARTITION_READING || p->taken == p->held_count ||
	    p->refetch || p->waits || p->halts)
		return (0);
	if (partition_load(s, p, err) == -1)
		return (-1);
	if ((step = turn_together(s, p, most, err)) == STEP_FAILED)
		return (-1);
	*room -= (int64_t)(p->taken - taken);
	return (step == STEP_ON && p->taken < p->held_count);
}

static int
batch_records(struct stream *s, int64_t until_us, struct mr_error *err)
{
	int64_t room = s->conf->batch_records;
	int i, more, turn;

	if (s->holding || s->svc->apply == NULL)
		return (0);
	do {
		more = 0;
		for (i = 0; i < s->partition_count; i++) {
			if ((turn = partition_turn(s, s->partitions[i], &room,
				 err)) == -1)
				return (-1);
			more |= turn;
		}
	} while (more && room > 0 && clock_mono_us() < until_us);
	return (0);
}

/* ---- ticks --------------------------------------------------------------- */

/* When is this tick due, and what is the last one in the file? */
static int
tick_schedule(struct stream *s, int tick, struct mr_error *err)
{
	int64_t last = 0, due_ms, now_ms = clock_wall_ms();

	if (store_find(s->st, err, &last, sql_tick_last,
		store_text(tick_names[tick])) == -1)
		return (-1);
	s->tick_expected[tick] = last;
	due_ms = last + s->tick_every_ms[tick] - now_ms;
	if (due_ms < 0)
		due_ms = 0;
	/* A clock that was set back must not stop the ticks. */
	if (due_ms > s->tick_every_ms[tick])
		due_ms = s->tick_every_ms[tick];
	if (s->tick_isnt_done[tick] && due_ms > TICK_AGAIN_MS)
		due_ms = TICK_AGAIN_MS;
	s->next_tick_us[tick] = clock_mono_us() + 1000 * due_ms;
	return (0);
}

/* Old idempotency keys and dead letters go, a bounded number at a time: 1 if
 * there may be more. */
static int
core_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{
	const int64_t letters_ms = now_ms - s->conf->dead_letter_ms;
	int64_t keys, letters, gone;

	if ((keys = store_run(s->st, err, sql_expire_keys,
		 store_i64(now_ms - s->conf->idempotency_ms),
		 store_i64(EXPIRE_A_TICK))) == -1 ||
	    (letters = store_run(s->st, err, sql_expire_dead_letters,
		 store_i64(letters_ms), store_i64(EXPIRE_A_TICK))) == -1 ||
	    (gone = store_run(s->st, err, sql_expire_gone,
		 store_i64(letters_ms), store_i64(EXPIRE_A_TICK))) == -1)
		return (-1);
	return (keys == EXPIRE_A_TICK || letters == EXPIRE_A_TICK ||
	    gone == EXPIRE_A_TICK);
}

/*
 * The tick is ours if its last time is still the one that was expected when
 * it was scheduled; of several instances, one ticks.
 */
static int
tick_run(struct stream *s, int tick, int64_t now_ms, struct mr_error *err)
{
	struct mr_error failure = {0};
	int64_t moved;
	int status;

	s->tick_isnt_done[tick] = 0;
	if (store_run(s->st, err, sql_tick_first, store_text(tick_names[tick]),
		store_i64(0)) == -1 ||
	    (moved = store_run(s->st, err, sql_tick_move,
		 store_text(tick_names[tick]),
		 store_i64(s->tick_expected[tick]), store_i64(now_ms))) == -1)
		return (-1);
	if (moved == 0)
		return (0);
	if (batch_save(s, err) == -1)
		return (-1);
	if (tick == TICK_SERVICE) {
		store_guard(s->st, 1);
		status = s->svc->tick(s, now_ms, &failure);
		store_guard(s->st, 0);
	} else {
		status = core_tick(s, now_ms, &failure);
	}
	if (batch_sound(s, err) == -1)
		return (-1);
	if (status != -1) {
		s->tick_isnt_done[tick] = status;
		return (batch_keep(s, err));
	}
	batch_blame(s, "tick", &failure);
	if (failure.kind == MR_FATAL) {
		*err = failure;
		return (-1);
	}
	log_warn("a tick failed and was undone", "tick", tick_names[tick],
	    "error", failure.message);
	return (batch_undo(s, err));
}

/* A service's tick may emit, so it waits while the outbox is full. */
static int64_t
tick_at_us(const struct stream *s, int tick)
{
	if (s->tick_every_ms[tick] == 0 || (tick == TICK_SERVICE && s->holding))
		return (INT64_MAX);
	return (s->next_tick_us[tick]);
}

static int
tick_due(const struct stream *s, int tick)
{
	return (clock_mono_us() >= tick_at_us(s, tick));
}

int64_t
batch_next_tick_us(const struct stream *s)
{
	int64_t service = tick_at_us(s, TICK_SERVICE);
	int64_t core = tick_at_us(s, TICK_CORE);

	return (service < core ? service : core);
}

/* ---- the transaction ----------------------------------------------------- */

static void
transaction_reset(struct stream *s)
{
	struct partition *p;
	int i;

	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		p->taken = 0;
		p->loaded = p->refetch = p->waits = p->halts = 0;
		p->applied = p->skipped = 0;
	}
	s->mark_count = 0;
	s->note = 0;
	s->emitted = 0;
	s->applying = NULL;
	s->lease_changed = 0;
	buffer_clear(&s->said);
}

/*
 * Most often this instance alone writes to the file: then what it knows of it
 * since its last commit is so, and isn't asked again.
 */
int
batch_begin(struct stream *s, struct mr_error *err)
{

	transaction_reset(s);
	if (store_begin(s->st, err) == -1)
		return (-1);
	s->undisturbed = s->version_left != -1 &&
	    s->version_left == store_data_version(s->st);
	s->version_left = -1;
	if (!s->undisturbed)
		s->lease_renewed_ms = INT64_MAX; /* not known */
	output_begin(s);
	return (0);
}

static int
positions_write(struct stream *s, struct mr_error *err)
{
	struct partition *p;
	int i;

	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		if (p->loaded && p->next != p->expected &&
		    (p->taken > 0 || p->expected != -1) &&
		    position_move(s, p, err) == -1)
			return (-1);
	}
	return (0);
}

static int
transaction_fill(struct stream *s, struct command **commands,
    struct mr_error *err)
{
	int64_t until_us = clock_mono_us() + 1000 * s->conf->batch_ms;
	int tick;

	s->batch_now_ms = clock_wall_ms();
	if (!s->undisturbed && database_id_check(s, err) == -1)
		return (-1);
	if (command_run_all(s, commands, err) == -1)
		return (-1);
	for (tick = 0; tick < TICKS; tick++)
		if (s->ticks[tick] &&
		    tick_run(s, tick, s->batch_now_ms, err) == -1)
			return (-1);
	if (batch_records(s, until_us, err) == -1)
		return (-1);
	(void)FAILPOINT("batch.applied");
	if (output_settle(s, err) == -1 || relay_lease(s, err) == -1 ||
	    output_write_tails(s, err) == -1 || mark_write_all(s, err) == -1 ||
	    positions_write(s, err) == -1)
		return (-1);
	(void)FAILPOINT("positions.written");
	return (batch_sound(s, err));
}

/* ---- after the commit ---------------------------------------------------- */

static void
say_all(struct stream *s)
{
	const char *words[13] = {NULL};
	const char *at = s->said.data, *end = at + s->said.length;
	int64_t suppressed;
	int i, count;

	if (s->said.failed)
		return; /* no memory for lines */
	while (at < end) {
		count = (unsigned char)*at++;
		for (i = 0; i < count; i++) {
			words[i] = at;
			at += strlen(at) + 1;
		}
		for (; i < 13; i++)
			words[i] = NULL;
		if (!log_limit_take(&s->say_limit, &suppressed))
			continue;
		log_write(LOG_INFO, words[0], words[1], words[2], words[3],
		    words[4], words[5], words[6], words[7], words[8], words[9],
		    words[10], words[11], words[12], (const char *)NULL);
	}
}

static void
partition_committed(struct stream *s, struct partition *p)
{
	int64_t suppressed;

	if (p->loaded) {
		if (p->next != p->committed) {
			p->to_tell = 1;
			if (p->applied > 0 &&
			    log_limit_take(&s->commit_limit, &suppressed))
				log_info("committed", "topic",
				    s->inputs[p->input], "partition",
				    log_i64(p->number), "offset",
				    log_i64(p->next), "records",
				    log_i64(p->applied),
				    suppressed > 0 ? "lines_left_out" : NULL,
				    log_i64(suppressed));
			p->backoff_ms = 0;
		}
		p->committed = p->next;
		p->committed_epoch = p->leader_epoch;
		metric_add(s->input_metrics[p->input].consumed, p->applied);
		metric_add(s->input_metrics[p->input].skipped, p->skipped);
	}
	partition_drop(s, p, p->taken);
	if (p->refetch)
		partition_refetch(s, p, p->next, p->leader_epoch);
	else if (p->halts)
		partition_halt(s, p);
	else if (p->waits)
		partition_wait(s, p);
}

static void
transaction_done(struct stream *s, struct command *commands, int64_t applied_us)
{
	struct command *c;
	int64_t count = 0;
	int i;

	metric_observe_us(s->m_commit, clock_mono_us() - applied_us);
	metric_add(s->m_transactions, 1);
	metric_add(s->m_emitted, s->emitted);
	for (c = commands; c != NULL; c = c->next)
		count++;
	metric_add(s->m_commands, count);
	command_answer_all(&s->commands, commands, NULL);
	(void)FAILPOINT("batch.answered");
	relay_leased(s);
	if (s->emitted > 0)
		relay_wake(s);
	for (i = 0; i < s->partition_count; i++)
		partition_committed(s, s->partitions[i]);
	ahead_go(s);
	say_all(s);
	s->acked_deleted = s->deleted_up_to;
	metric_set(s->m_outbox_depth,
	    s->outbox_last == 0 ? 0 : s->outbox_last - s->outbox_first + 1);
	s->store_backoff_ms = 0;
}

/*
 * It did not happen.  Commands hear so; records stay in hand, and the loop
 * comes back after a pause.
 */
static void
transaction_undone(struct stream *s, struct command *commands,
    const struct mr_error *err)
{
	struct mr_error failure = *err;

	s->store_backoff_ms = s->store_backoff_ms == 0 ?
	    50 :
	    2 * s->store_backoff_ms;
	if (s->store_backoff_ms > STORE_BACKOFF_MOST_MS)
		s->store_backoff_ms = STORE_BACKOFF_MOST_MS;
	s->resume_at_us = clock_mono_us() + 1000 * s->store_backoff_ms;
	s->settle_at_us = s->resume_at_us; /* also if nothing else is to do */
	output_unsettle(s);
	stream_set_status(s, "the store is in trouble: %s", err->message);
	log_error("a transaction did not happen", "error", err->message,
	    "again_in_ms", log_i64(s->store_backoff_ms));
	failure.kind = MR_RETRY; /* it is known not to have happened */
	command_answer_all(&s->commands, commands, &failure);
}

/* Is there anything that a transaction is worth? */
static int
batch_worth(struct stream *s)
{
	int64_t now = clock_mono_us();

	if (partition_ready(s) > 0 && !s->holding)
		return (1);
	if (command_waiting(&s->commands) > 0)
		return (1);
	if (tick_due(s, TICK_SERVICE) || tick_due(s, TICK_CORE))
		return (1);
	return (s->settle_at_us != 0 && now >= s->settle_at_us);
}

static int
transaction_run(struct stream *s, struct command **commands,
    struct mr_error *err)
{
	int64_t began_us, applied_us;

	if (batch_begin(s, err) == -1)
		return (-1);
	began_us = clock_mono_us();
	s->in_batch = 1;
	(void)FAILPOINT("batch.begun");
	if (transaction_fill(s, commands, err) == -1) {
		s->in_batch = 0;
		store_guard(s->st, 0);
		store_rollback(s->st);
		return (-1);
	}
	s->in_batch = 0;
	(void)FAILPOINT("commit.before");
	applied_us = clock_mono_us();
	if (store_commit(s->st, err) == -1) {
		/* Of unknown outcome: nobody hears anything from us. */
		if (err->kind == MR_FATAL) {
			log_error("the outcome of a commit is unknown", "error",
			    err->message);
			_exit(70);
		}
		return (-1);
	}
	(void)FAILPOINT("commit.after");
	s->version_left = store_data_version(s->st);
	metric_observe_us(s->m_apply, applied_us - began_us);
	transaction_done(s, *commands, applied_us);
	(void)FAILPOINT("batch.done");
	return (0);
}

int
batch_run(struct stream *s, struct mr_error *err)
{
	struct command *commands;
	int tick;

	if (clock_mono_us() < s->resume_at_us || !batch_worth(s))
		return (0);
	/* One that falls due meanwhile is the next batch's, which schedules it. */
	for (tick = 0; tick < TICKS; tick++)
		s->ticks[tick] = tick_due(s, tick);
	s->settle_at_us = 0;
	commands = command_take(&s->commands, COMMANDS_A_BATCH);
	if (transaction_run(s, &commands, err) == -1) {
		transaction_undone(s, commands, err);
		transaction_reset(s);
		return (err->kind == MR_FATAL ? -1 : 0);
	}
	for (tick = 0; tick < TICKS; tick++)
		if (s->ticks[tick] && tick_schedule(s, tick, err) == -1)
			return (err->kind == MR_FATAL ? -1 : 1);
	return (1);
}

int
batch_last(struct stream *s, struct mr_error *err)
{
	if (batch_begin(s, err) == -1)
		return (-1);
	if (database_id_check(s, err) == -1 || output_settle(s, err) == -1 ||
	    relay_release(s, err) == -1) {
		store_rollback(s->st);
		return (-1);
	}
	return (store_commit(s->st, err));
}

int
batch_schedule_ticks(struct stream *s, struct mr_error *err)
{
	int tick;

	s->tick_every_ms[TICK_SERVICE] = s->svc->tick != NULL ?
	    s->svc->tick_ms :
	    0;
	s->tick_every_ms[TICK_CORE] = 60000;
	for (tick = 0; tick < TICKS; tick++)
		if (s->tick_every_ms[tick] > 0 &&
		    tick_schedule(s, tick, err) == -1)
			return (-1);
	return (0);
}
