/*
 * relay_transaction -- a lot of the outbox as one Kafka transaction.
 *
 * The cursor, the seq of the last row that was sent, is committed with the
 * rows themselves: as the position of a group that has no members.  So
 * whatever is killed, the rows above the cursor were not sent and those up to
 * it were, for everyone who reads committed records.
 *
 * Group and transactional id are the file's own, with its database id in them.
 * To register ends what a predecessor left open, one way or the other, and
 * shuts out whoever else believes to be the owner; only then is the cursor
 * read.  What it says holds until somebody else registers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "stream/relay_internal.h"

#define ASK_MS 1000 /* then the thread looks whether it is to stop */
#define CURSOR_MS 3000 /* likewise; it has yet to connect */
#define AGAIN_MS 50
#define LEAVE_MS 2000

void
relay_id(const char *service, const char *database_id, char id[RELAY_ID_SIZE])
{

	snprintf(id, RELAY_ID_SIZE, "%s-relay-%s", service, database_id);
}

/* ---- the cursor ----------------------------------------------------------- */

int
relay_cursor_read(const struct kafka_conf *conf, const char *service,
    const char *database_id, int stable, int64_t *seq, int timeout_ms,
    struct mr_error *err)
{
	char id[RELAY_ID_SIZE], metadata[80], expected[80];
	int found;

	relay_id(service, database_id, id);
	if ((found = kafka_group_furthest(conf, id, stable, seq, metadata,
		 sizeof(metadata), timeout_ms, err)) == -1)
		return (-1);
	if (found == 0) {
		mr_error_set(err, MR_REJECT,
		    "group %s has no cursor: what was sent last isn't known",
		    id);
		return (0);
	}
	snprintf(expected, sizeof(expected), "%s %lld", database_id,
	    (long long)*seq);
	if (strcmp(metadata, expected) == 0)
		return (1);
	mr_error_set(err, MR_REJECT,
	    "the position of group %s isn't its own cursor: offset %lld, "
	    "metadata \"%.60s\"",
	    id, (long long)*seq, metadata);
	return (0);
}

int
stream_end_relay(const struct kafka_conf *conf, const char *service,
    const char *database_id, int64_t *seq, int timeout_ms, struct mr_error *err)
{
	char id[RELAY_ID_SIZE];
	struct kafka_conf named = *conf;
	struct kafka_producer *producer;
	int found = -1;

	relay_id(service, database_id, id);
	named.transactional_id = id;
	if ((producer = kafka_producer_new(&named, KAFKA_TRANSACTIONAL, NULL,
		 NULL, err)) != NULL &&
	    kafka_producer_register(producer, timeout_ms, err) == 0)
		found = relay_cursor_read(conf, service, database_id, 1, seq,
		    timeout_ms, err);
	kafka_producer_free(producer);
	return (found);
}

int
relay_cursor_compare(struct stream *s, struct store *st, int64_t cursor,
    struct mr_error *err)
{
	int64_t issued = 0;

	/* Read after the cursor: another instance may be sending. */
	if (output_issued(st, &issued, err) == -1)
		return (-1);
	if (cursor <= issued)
		return (1);
	mr_error_set(err, MR_RETRY,
	    "%s is older than what it sent: seq %lld is in Kafka, and it has "
	    "given out %lld; stop the service, and `millrace state "
	    "accept-cursor` goes on",
	    s->db_path, (long long)cursor, (long long)issued);
	return (0);
}

static void
halt(struct sender *x, const char *why)
{

	x->halted = 1;
	x->lacking = 0; /* that would end, and take this with it */
	relay_halt(x, why);
}

/* Not now: again in a moment. */
static int
again(struct sender *x, const struct mr_error *err)
{
	int64_t suppressed;

	relay_trouble(x->relay, err->message);
	if (log_limit_take(&x->trouble_limit, &suppressed))
		log_warn("the relay waits", "reason", err->message,
		    "suppressed", log_i64(suppressed));
	x->resume_at_us = clock_mono_us() + 1000 * (int64_t)AGAIN_MS;
	return (0);
}

/* 1: read; 0: not now, or halted; -1. */
static int
cursor_load(struct sender *x, struct mr_error *err)
{
	int64_t cursor = 0;
	char why[HALT_REASON_SIZE];
	int found;

	found = relay_cursor_read(&x->s->conf->kafka, x->s->svc->name,
	    x->s->database_id, 1, &cursor, CURSOR_MS, err);
	if (found == -1)
		return (err->kind == MR_RETRY ? again(x, err) : -1);
	if (found == 0 && x->must_have_cursor) {
		snprintf(why, sizeof(why),
		    "%s; stop the service, and `millrace state accept-cursor` "
		    "goes on",
		    err->message);
		halt(x, why);
		return (0);
	}
	if (found == 0)
		cursor = 0;
	if (found == 1 &&
	    (found = relay_cursor_compare(x->s, x->reader, cursor, err)) != 1) {
		if (found == 0)
			halt(x, err->message);
		return (found);
	}
	(void)FAILPOINT("transaction.cursor");
	x->transaction.cursor = x->sent = cursor;
	/* What it covers may go. */
	if (cursor > atomic_load(&x->relay->acked)) {
		atomic_store(&x->relay->acked, cursor);
		relay_news(x->relay);
	}
	return (1);
}

/* ---- beginning ------------------------------------------------------------ */

/* 1: nobody else sends under our id; 0 not yet; -1. */
static int
register_id(struct sender *x, struct mr_error *err)
{
	struct transaction *t = &x->transaction;

	if (t->registered)
		return (1);
	if (kafka_producer_register(x->producer, ASK_MS, err) == -1) {
		if (err->kind == MR_RETRY)
			return (again(x, err));
		if (err->kind != MR_REJECT || x->must_have_cursor)
			return (-1);
		log_warn(
		    "this cluster takes no transactions of ours: the relay "
		    "stays idempotent",
		    "reason", err->message);
		atomic_store(&x->relay->found, RELAY_HAS_NO_TRANSACTIONS);
		x->more = 1;
		return (0);
	}
	(void)FAILPOINT("transaction.registered");
	memset(t, 0, sizeof(*t));
	t->registered = 1;
	t->cursor = -1;
	return (1);
}

int
transaction_begin(struct sender *x, struct mr_error *err)
{
	struct transaction *t = &x->transaction;

	if (kafka_producer_begin(x->producer, ASK_MS, err) == -1)
		return (-1);
	t->open = 1;
	t->positioned = t->committing = t->aborting = 0;
	return (0);
}

int
transaction_ready(struct sender *x, struct mr_error *err)
{
	struct transaction *t = &x->transaction;
	int status;

	if ((status = register_id(x, err)) != 1)
		return (status);
	if (t->cursor == -1 && (status = cursor_load(x, err)) != 1)
		return (status);
	if (t->placed && clock_mono_us() < t->refresh_at_us)
		return (1);
	/* One without records: the cursor is there, and stays. */
	if (transaction_begin(x, err) == -1)
		return (-1);
	return (transaction_end(x, err));
}

/* ---- ending --------------------------------------------------------------- */

static int
abort_lot(struct sender *x, struct mr_error *err)
{
	struct transaction *t = &x->transaction;

	t->aborting = 1;
	if (kafka_producer_abort(x->producer, ASK_MS, err) == -1)
		return (err->kind == MR_RETRY ? again(x, err) : -1);
	t->open = 0;
	metric_add(x->s->m_relay_aborted, 1);
	sender_back_off(x, t->cursor);
	return (0);
}

static int
position_send(struct sender *x, struct mr_error *err)
{
	const struct kafka_position at = {
	    .topic = x->s->outputs[0].topic,
	    .offset = x->sent,
	    .leader_epoch = -1,
	};
	char id[RELAY_ID_SIZE], metadata[80];

	relay_id(x->s->svc->name, x->s->database_id, id);
	snprintf(metadata, sizeof(metadata), "%s %lld", x->s->database_id,
	    (long long)x->sent);
	return (kafka_producer_send_position(x->producer, id, &at, metadata,
	    ASK_MS, err));
}

/* A step that isn't done: abort, ask again, or give up. */
static int
not_done(struct sender *x, int status, struct mr_error *err)
{
	char why[HALT_REASON_SIZE];

	if (status == -1)
		return (err->kind == MR_RETRY ? again(x, err) : -1);
	snprintf(why, sizeof(why), "a transaction is aborted: %s",
	    err->message);
	relay_trouble(x->relay, why);
	log_warn("relaying failed, starting over", "error", why);
	return (abort_lot(x, err));
}

static void
committed(struct sender *x)
{
	struct transaction *t = &x->transaction;

	(void)FAILPOINT("transaction.committed");
	t->open = 0;
	t->cursor = x->sent;
	t->placed = 1;
	t->refresh_at_us = clock_mono_us() + 1000 * (int64_t)RELAY_REFRESH_MS;
	metric_add(x->s->m_relay_committed, 1);
	x->backoff_ms = 0;
	relay_trouble(x->relay, "");
	if (atomic_exchange(&x->relay->found, RELAY_HAS_TRANSACTIONS) !=
	    RELAY_HAS_TRANSACTIONS)
		relay_news(x->relay);
}

int
transaction_end(struct sender *x, struct mr_error *err)
{
	struct transaction *t = &x->transaction;
	int status;

	if (!t->open)
		return (1);
	if (t->aborting || (x->failed && !t->committing))
		return (abort_lot(x, err));
	if (kafka_producer_in_flight(x->producer) > 0)
		return (0); /* a report wakes us */
	if (!t->positioned) {
		(void)FAILPOINT("transaction.written");
		if ((status = position_send(x, err)) != 1)
			return (not_done(x, status, err));
		t->positioned = 1;
		(void)FAILPOINT("transaction.positioned");
	}
	t->committing = 1;
	if ((status = kafka_producer_commit(x->producer, ASK_MS, err)) != 1)
		return (not_done(x, status, err));
	committed(x);
	return (1);
}

int
transaction_goes_on(const struct sender *x)
{

	return (
	    x->transaction.open && kafka_producer_in_flight(x->producer) == 0);
}

void
transaction_leave(struct sender *x)
{
	struct transaction *t = &x->transaction;
	struct mr_error err = {0};

	if (x->producer == NULL || !t->open)
		return;
	if (!t->committing)
		(void)kafka_producer_abort(x->producer, LEAVE_MS, &err);
	else if (kafka_producer_commit(x->producer, LEAVE_MS, &err) == 1)
		committed(x);
}
