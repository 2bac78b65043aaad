/*
 * relay -- the thread that sends the outbox to Kafka, strictly in order.
 *
 * One instance at a time relays: the owner in the file's `relay` row.  Rows go out by
 * sequence number through an idempotent, gapless producer with one
 * request in flight.  At the first record that fails, the producer is thrown
 * away and a new one begins at the first row that was not acknowledged, so
 * what readers see twice is always a suffix, in order, in the same partition:
 * what their marks drop.
 *
 * Where the file says so, each lot goes out in a Kafka transaction instead
 * (relay_transaction.c), and readers of committed records see nothing twice.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/thread.h"
#include "stream/relay_internal.h"

#define LEASE_MS 5000
#define RENEW_MS 1500
#define ROWS_A_READ 2000
#define FLUSH_MS 100
#define PACED_ROWS 16
#define PACE_US 25000 /* a request costs Kafka more than its records */
#define WATCH_MS 10000
#define TELLERS_MS 500 /* the relay, and maybe the end, wait for them */
#define LACKING_US 2000000
#define GROW_US 10000000
#define ASK_MS 5000
#define BACKOFF_LEAST_MS 100
#define BACKOFF_MOST_MS 5000
#define HEADERS_MOST 24
#define STACK_BYTES 524288

static const char sql_lease[] =
    "SELECT owner, epoch, boot_id, renewed_boot_ms, transactional FROM relay";
static const char sql_lease_renew[] =
    "UPDATE relay SET renewed_boot_ms = ?3 WHERE owner = ?1 AND epoch = ?2";
static const char sql_lease_take[] =
    "UPDATE relay SET owner = ?1, epoch = ?2, boot_id = ?3,"
    " renewed_boot_ms = ?4 WHERE epoch = ?2 - 1";
static const char sql_lease_release[] =
    "UPDATE relay SET owner = '' WHERE owner = ?1";

#define ROW_COLUMNS                                                         \
	"o.seq, o.topic, o.partition, o.type, o.key, o.value, o.ts_ms,"     \
	" o.predecessor, o.cause_topic, o.cause_partition, o.cause_offset," \
	" o.headers, d.database_id"                                         \
	" FROM outbox o JOIN database_ids d ON d.number = o.database"

/*
 * One look at the file: what changes hands, or how, has no more rows for us.
 * Not EXISTS, which SQLite (since 3.51) makes another table of the join and
 * then sorts all rows for each lot.
 */
static const char sql_rows[] =
    "SELECT " ROW_COLUMNS " WHERE o.seq > ?1 AND ?4 = (SELECT epoch FROM relay"
    " WHERE owner = ?3 AND transactional = ?5) ORDER BY o.seq LIMIT ?2";
static const char sql_row[] = "SELECT " ROW_COLUMNS " WHERE o.seq = ?1";

static const char sql_last[] = "SELECT coalesce(max(seq), 0) FROM outbox";
static const char sql_mode[] = "SELECT transactional FROM relay";
static const char sql_mode_change[] =
    "UPDATE relay SET transactional = ?1 WHERE owner = ?2 AND epoch = ?3";
static const char sql_mode_clear[] = "DELETE FROM outbox WHERE seq <= ?1";

void
relay_trouble(struct relay *r, const char *what)
{
	pthread_mutex_lock(&r->lock);
	snprintf(r->trouble, sizeof(r->trouble), "%s", what);
	pthread_mutex_unlock(&r->lock);
}

void
relay_news(struct relay *r)
{
	uint64_t one = 1;

	if (atomic_exchange(&r->news, 1) == 0 &&
	    write(r->news_fd, &one, sizeof(one)) == -1)
		log_error("waking the stream failed", "error", strerror(errno));
}

void
relay_halt(struct sender *x, const char *why)
{
	struct relay *r = x->relay;

	pthread_mutex_lock(&r->lock);
	snprintf(r->halted, sizeof(r->halted), "%s", why);
	pthread_mutex_unlock(&r->lock);
	log_error("relay halted", "reason", why, "database", x->s->database_id);
	relay_news(r);
}

/* What it lacked is there, or another instance's to wait for. */
static void
halt_end(struct sender *x)
{
	struct relay *r = x->relay;

	if (!x->lacking)
		return;
	x->lacking = 0;
	pthread_mutex_lock(&r->lock);
	r->halted[0] = '\0';
	pthread_mutex_unlock(&r->lock);
	log_info("relay not halted any more");
	relay_news(r);
}

void
relay_wake(struct stream *s)
{
	uint64_t one = 1;

	if (write(s->relay.wake_fd, &one, sizeof(one)) == -1 && errno != EAGAIN)
		log_error("waking the relay failed", "error", strerror(errno));
}

/* ---- sending ------------------------------------------------------------- */

/* A row as headers; the texts live in the struct. */
struct row_headers {
	struct kafka_header list[HEADERS_MOST];
	int count;
	char seq[INT64_TEXT_SIZE];
	char predecessor[INT64_TEXT_SIZE];
	char time[25];
	char cause[KAFKA_TOPIC_MAX + 2 * INT64_TEXT_SIZE + 2];
	char names[HEADERS_MOST][64];
};

static void
header_set(struct row_headers *h, const char *name, const char *value)
{
	h->list[h->count].name = name;
	h->list[h->count].value = value;
	h->list[h->count].size = strlen(value);
	h->count++;
}

/* ce_source, which hardly ever differs from the row's before. */
static const char *
source_of_row(struct sender *x, struct store_rows *row)
{
	const char *id = store_get_text(row, 12);

	if (strcmp(x->source_id, id) != 0) {
		snprintf(x->source_id, sizeof(x->source_id), "%s", id);
		snprintf(x->source, sizeof(x->source), "/millrace/%s/%s",
		    x->s->svc->name, id);
	}
	return (x->source);
}

/* topic/partition/offset */
static void
cause_of_row(struct store_rows *row, char *cause)
{
	const char *topic = store_get_text(row, 8);
	size_t at = strnlen(topic, KAFKA_TOPIC_MAX);

	memcpy(cause, topic, at);
	cause[at++] = '/';
	at += int64_text(cause + at, store_get_i64(row, 9));
	cause[at++] = '/';
	(void)int64_text(cause + at, store_get_i64(row, 10));
}

static void
headers_of_row(struct sender *x, struct store_rows *row, struct row_headers *h)
{
	const void *blob, *value;
	size_t blob_size, size, at = 0;
	int64_t ts_ms = store_get_i64(row, 6);

	h->count = 0;
	(void)int64_text(h->seq, store_get_i64(row, 0));
	(void)int64_text(h->predecessor, store_get_i64(row, 7));
	clock_rfc3339(ts_ms, h->time);
	header_set(h, "ce_specversion", "1.0");
	header_set(h, "ce_type", store_get_text(row, 3));
	header_set(h, "ce_source", source_of_row(x, row));
	header_set(h, "ce_id", h->seq);
	header_set(h, "ce_time", h->time);
	header_set(h, "content-type", "application/json");
	header_set(h, "ce_predecessor", h->predecessor);
	if (!store_is_null(row, 8)) {
		cause_of_row(row, h->cause);
		header_set(h, "ce_cause", h->cause);
	}
	blob = store_get_blob(row, 11, &blob_size);
	while (h->count < HEADERS_MOST &&
	    headers_next(blob, blob_size, &at, h->names[h->count],
		sizeof(h->names[0]), &value, &size) == 1) {
		h->list[h->count].name = h->names[h->count];
		h->list[h->count].value = value;
		h->list[h->count].size = size;
		h->count++;
	}
}

/*
 * A record's timestamp for Kafka, never ahead of the clock: a broker refuses
 * what is an hour ahead of its own (message.timestamp.after.max.ms), and one
 * event from a clock that was wrong would hold up all behind it.  ce_time and
 * the payload keep what the event says.
 */
static int64_t
stamp_ms(const struct sender *x, struct store_rows *row)
{
	int64_t ts_ms = store_get_i64(row, 6);

	return (ts_ms < x->lot_ms ? ts_ms : x->lot_ms);
}

/* Hand one row over: 1 done, 0 the queue is full, -1 failed. */
static int
row_send(struct sender *x, struct store_rows *row, struct mr_error *err)
{
	struct row_headers h;
	const void *key, *value;
	size_t key_size, value_size;
	uint64_t slot;

	if (x->last - x->first == IN_FLIGHT_MOST)
		return (0);
	headers_of_row(x, row, &h);
	key = store_get_blob(row, 4, &key_size);
	value = store_get_blob(row, 5, &value_size);
	slot = x->last % IN_FLIGHT_MOST;
	if (kafka_producer_send(x->producer, store_get_text(row, 1),
		(int)store_get_i64(row, 2), store_is_null(row, 4) ? NULL : key,
		key_size, store_is_null(row, 5) ? NULL : value, value_size,
		h.list, h.count, stamp_ms(x, row), (void *)(uintptr_t)slot,
		err) == -1)
		return (err->kind == MR_RETRY ? 0 : -1);
	x->ring[slot].seq = x->sent = store_get_i64(row, 0);
	if (!x->transactional)
		x->doubtful = x->sent;
	x->ring[slot].acked = 0;
	x->last++;
	return (1);
}

/* Are we still the owner, as of what is committed now?  1, 0, -1. */
static int
still_owner(struct sender *x, struct mr_error *err)
{
	struct store_rows *rows;
	int found, ours = 0;

	if ((rows = store_query(x->reader, err, sql_lease)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		ours = strcmp(store_get_text(rows, 0), x->s->owner) == 0 &&
		    store_get_i64(rows, 1) == x->epoch;
		x->must_have_cursor = store_get_i64(rows, 4) != 0;
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : ours);
}

/* Ask whether a partition is there: 1, 0, which halts, -1. */
static int
partition_ask(struct sender *x, struct store_rows *row, int output,
    struct mr_error *err)
{
	struct kafka_topic_state topic = {.partitions = 0};
	int64_t partition = store_get_i64(row, 2);
	char why[HALT_REASON_SIZE];

	snprintf(topic.name, sizeof(topic.name), "%s", store_get_text(row, 1));
	if (kafka_admin_describe(x->s->admin, &topic, 1, ASK_MS, err) == -1)
		return (-1);
	if (output < x->s->output_count)
		x->there[output] = topic.partitions;
	if (partition < topic.partitions) {
		halt_end(x);
		return (1);
	}
	snprintf(why, sizeof(why),
	    "seq %lld is for partition %lld of topic %.200s, which has only %d "
	    "(was the file bound to another cluster, or the topic deleted?); "
	    "`millrace topics ensure --alter` adds those that are declared, "
	    "and the relay goes on",
	    (long long)store_get_i64(row, 0), (long long)partition, topic.name,
	    topic.partitions);
	if (!x->lacking)
		relay_halt(x, why);
	x->lacking = 1;
	return (0);
}

/*
 * Rows keep the partition that they were emitted to.  Kafka's client would wait
 * for one that isn't there, as when the file was bound to another cluster whose
 * topic has fewer, or the topic was deleted.  1 if it is there, 0 if not, which
 * halts; -1.
 */
static int
partition_is_there(struct sender *x, struct store_rows *row,
    struct mr_error *err)
{
	const char *topic = store_get_text(row, 1);
	int i;

	for (i = 0; i < x->s->output_count; i++)
		if (strcmp(x->s->outputs[i].topic, topic) == 0)
			break;
	/* An older version had others. */
	if (i < x->s->output_count && store_get_i64(row, 2) < x->there[i])
		return (1);
	return (partition_ask(x, row, i, err));
}

/* A record is refused where its topic or partition isn't there any more: ask
 * before the next one is sent. */
static void
topics_doubt(struct sender *x)
{

	memset(x->there, 0, sizeof(x->there));
}

/* How many rows a lot may have; twice as many as before, after a while. */
static int64_t
lot_most(struct sender *x)
{
	if (x->lot_most < ROWS_A_READ && clock_mono_us() >= x->grow_at_us) {
		x->lot_most *= 2;
		if (x->lot_most > ROWS_A_READ)
			x->lot_most = ROWS_A_READ;
		x->grow_at_us = clock_mono_us() + GROW_US;
	}
	return (x->lot_most);
}

/* Records of a partition that are sent at once are one batch, which its topic
 * bounds: 1 if fewer are sent next, 0 if it was a single one. */
static int
lot_halve(struct sender *x)
{
	int64_t rows = (int64_t)(x->last - x->first);

	if (rows < 2)
		return (0);
	x->lot_most = rows / 2;
	x->grow_at_us = clock_mono_us() + GROW_US;
	return (1);
}

/* Hand over what is in the outbox beyond what was sent: how many, or -1. */
static int
rows_send(struct sender *x, struct mr_error *err)
{
	struct store_rows *rows;
	int found, sent = 1, there, count = 0;

	if ((rows = store_query(x->reader, err, sql_rows, store_i64(x->sent),
		 store_i64(lot_most(x)), store_text(x->s->owner),
		 store_i64(x->epoch), store_i64(x->transactional))) == NULL)
		return (-1);
	x->lot_ms = clock_wall_ms();
	(void)FAILPOINT("relay.read");
	while ((found = store_next(rows, err)) == 1) {
		if ((there = partition_is_there(x, rows, err)) != 1)
			sent = there;
		else if (count == 0 && x->transactional &&
		    transaction_begin(x, err) == -1)
			found = -1;
		else if ((sent = row_send(x, rows, err)) == 1)
			count++;
		if (found == -1 || sent != 1)
			break;
	}
	store_rows_done(rows);
	return (found == -1 || sent == -1 ? -1 : count);
}

/* At the first look under an epoch: what is there may have been sent. */
static int
take_over(struct sender *x, struct mr_error *err)
{
	int64_t last = 0;

	if (x->taken_epoch == x->epoch)
		return (0);
	if (store_find(x->reader, err, &last, sql_last) == -1)
		return (-1);
	if (last > x->doubtful)
		x->doubtful = last;
	x->taken_epoch = x->epoch;
	return (0);
}

/* Nothing was sent without transactions that isn't acknowledged, whoever did. */
static int
is_drained(const struct sender *x)
{

	return (atomic_load(&x->relay->acked) >= x->doubtful);
}

/*
 * How to send what comes next: as the file says; and where it is yet to say
 * that transactions are used, as finding out whether there are any takes, or as
 * will do once the loop has changed the file.
 */
static int
way_choose(const struct sender *x)
{
	int found = atomic_load(&x->relay->found);

	if (x->must_have_cursor)
		return (1);
	if (x->s->conf->relay != STREAM_RELAY_TRANSACTIONAL ||
	    found == RELAY_HAS_NO_TRANSACTIONS)
		return (0);
	return (found == RELAY_ASKS || is_drained(x));
}

/*
 * The file says another way than was asked for: propose to change it, since
 * all that was sent is acknowledged, and send nothing until it is.
 * 1 if so.
 */
static int
change_propose(struct sender *x)
{
	struct relay *r = x->relay;
	int wanted = x->s->conf->relay == STREAM_RELAY_TRANSACTIONAL;

	if (wanted == x->must_have_cursor || !x->transactional)
		return (0);
	pthread_mutex_lock(&r->lock);
	r->change_epoch = x->epoch;
	r->change_above = atomic_load(&r->acked);
	pthread_mutex_unlock(&r->lock);
	relay_news(r);
	return (1);
}

static void sender_reset(struct sender *x, int backoff);

/* Send a lot, or go on with the one under way: 0, or -1 failed. */
static int
lot_send(struct sender *x, struct mr_error *err)
{
	int64_t now = clock_mono_us();
	int ours, way, ready, count;

	x->more = 0;
	if (x->transaction.open)
		return (transaction_end(x, err) == -1 ? -1 : 0);
	/* One lot at a time: what is committed meanwhile makes the next one
	 * larger, and costs Kafka less. */
	if (x->first != x->last)
		return (0); /* a report wakes us */
	if ((ours = still_owner(x, err)) != 1) {
		if (ours == 0)
			x->epoch = 0;
		return (ours);
	}
	if (take_over(x, err) == -1)
		return (-1);
	if ((way = way_choose(x)) != x->transactional) {
		sender_reset(x, 0);
		x->transactional = way;
		x->more = 1;
		return (0);
	}
	if (x->transactional && (ready = transaction_ready(x, err)) != 1)
		return (ready);
	if (is_drained(x) && change_propose(x))
		return (0);
	if ((count = rows_send(x, err)) == 0 && x->lacking) {
		/* The client that goes on has to know of the new ones. */
		sender_reset(x, 0);
		x->resume_at_us = now + LACKING_US;
	}
	if (count <= 0)
		return (count);
	(void)FAILPOINT("relay.sent");
	if (count >= PACED_ROWS && count < x->lot_most)
		x->next_lot_us = now + PACE_US;
	(void)kafka_producer_flush(x->producer, FLUSH_MS, NULL);
	return (x->transactional && transaction_end(x, err) == -1 ? -1 : 0);
}

static void
delivery_log(struct sender *x, uint64_t slot)
{
	struct store_rows *row;
	struct row_headers h;
	struct buffer text = {0};
	const void *key, *value;
	size_t key_size, value_size;
	int64_t suppressed;
	int i;

	if (!log_limit_take(&x->limit, &suppressed) ||
	    (row = store_query(x->reader, NULL, sql_row,
		 store_i64(x->ring[slot].seq))) == NULL)
		return;
	if (store_next(row, NULL) == 1) {
		headers_of_row(x, row, &h);
		for (i = 0; i < h.count; i++)
			buffer_addf(&text, "%s%s=%.*s", i == 0 ? "" : " ",
			    h.list[i].name, (int)h.list[i].size,
			    (const char *)h.list[i].value);
		key = store_get_blob(row, 4, &key_size);
		value = store_get_blob(row, 5, &value_size);
		log_info("delivered", "topic", store_get_text(row, 1),
		    "partition", log_i64(store_get_i64(row, 2)), "offset",
		    log_i64(x->ring[slot].offset), "timestamp_ms",
		    log_i64(store_get_i64(row, 6)), "key",
		    log_bytes(key, key_size), "value",
		    log_bytes(value, value_size), "latency_us",
		    log_i64(x->ring[slot].latency_us), "headers",
		    buffer_text(&text),
		    suppressed > 0 ? "lines_left_out" : NULL,
		    log_i64(suppressed));
	}
	store_rows_done(row);
	buffer_free(&text);
}

/* For the next start: behind this offset nothing of ours is newer. */
static void
acked_offset_note(struct stream *s, const struct kafka_report *report)
{
	int i;

	for (i = 0; i < s->output_count; i++)
		if (strcmp(s->outputs[i].topic, report->topic) == 0) {
			atomic_store(&s->outputs[i]
					  .acked_offset[report->partition],
			    report->offset);
			return;
		}
}

static void
on_report(void *arg, const struct kafka_report *report)
{
	struct sender *x = arg;
	uint64_t slot = (uint64_t)(uintptr_t)report->tag;
	const char *others = "";
	char why[HALT_REASON_SIZE];

	if (x->failed)
		return;
	if (report->kind != MR_OK) {
		x->failed = 1;
		if (report->kind == MR_REJECT)
			topics_doubt(x);
		if (report->too_large && lot_halve(x))
			others = ", with others";
		snprintf(why, sizeof(why), "seq %lld to %s/%d%s: %s",
		    (long long)x->ring[slot].seq, report->topic,
		    report->partition, others, report->reason);
		relay_trouble(x->relay, why);
		log_warn("relaying failed, starting over", "record", why);
		return;
	}
	x->ring[slot].acked = 1;
	x->ring[slot].offset = report->offset;
	x->ring[slot].latency_us = report->latency_us;
	metric_observe_us(x->s->m_produce_latency, report->latency_us);
	acked_offset_note(x->s, report);
}

/* Publish the acknowledged prefix; of a transaction, once it is committed. */
static void
acks_publish(struct sender *x)
{
	int64_t acked = 0, count = 0;

	while (!x->transaction.open && x->first != x->last &&
	    x->ring[x->first % IN_FLIGHT_MOST].acked) {
		acked = x->ring[x->first % IN_FLIGHT_MOST].seq;
		delivery_log(x, x->first % IN_FLIGHT_MOST);
		x->first++;
		count++;
	}
	if (count == 0)
		return;
	(void)FAILPOINT("relay.acked");
	x->backoff_ms = 0;
	relay_trouble(x->relay, "");
	metric_add(x->s->m_relayed, count);
	if (acked > atomic_load(&x->relay->acked))
		atomic_store(&x->relay->acked, acked);
	relay_news(x->relay);
	x->more = 1;
}

static void
lot_forget(struct sender *x, int64_t sent)
{
	x->first = x->last = 0;
	x->failed = 0;
	x->sent = sent;
}

void
sender_back_off(struct sender *x, int64_t sent)
{
	lot_forget(x, sent);
	x->backoff_ms = x->backoff_ms == 0 ? BACKOFF_LEAST_MS :
					     2 * x->backoff_ms;
	if (x->backoff_ms > BACKOFF_MOST_MS)
		x->backoff_ms = BACKOFF_MOST_MS;
	x->resume_at_us = clock_mono_us() + 1000 * x->backoff_ms;
	x->more = 1;
}

/* Throw away the producer and what is under way, and come back later from the
 * first row that is still there, or from the cursor. */
static void
sender_reset(struct sender *x, int backoff)
{
	kafka_producer_free(x->producer);
	x->producer = NULL;
	memset(&x->transaction, 0, sizeof(x->transaction));
	lot_forget(x, 0);
	if (backoff)
		sender_back_off(x, 0);
}

/* The settings of a producer; those of a transactional one point into ${id}. */
static struct kafka_conf
sender_conf(const struct sender *x, char id[RELAY_ID_SIZE])
{
	struct kafka_conf conf = x->s->conf->kafka;

	relay_id(x->s->svc->name, x->s->database_id, id);
	conf.transactional_id = id;
	return (conf);
}

static int
sender_ready(struct sender *x, struct mr_error *err)
{
	char id[RELAY_ID_SIZE];
	struct kafka_conf conf = sender_conf(x, id);

	if (x->reader == NULL &&
	    (x->reader = store_open_reader(x->s->db_path, 0, err)) == NULL)
		return (-1);
	if (x->producer == NULL &&
	    (x->producer = kafka_producer_new(&conf,
		 x->transactional ? KAFKA_TRANSACTIONAL : KAFKA_EXACTLY_ONCE,
		 on_report, x, err)) == NULL)
		return (-1);
	return (0);
}

/*
 * One round of work.  The producer is made before there is anything to send,
 * since a broker can take half a second to give a new one its id.
 */
static void
sender_work(struct sender *x)
{
	struct mr_error err = {0};
	int64_t epoch = atomic_load(&x->relay->epoch);

	if (epoch != x->epoch) {
		if (x->sent != 0 || x->transaction.registered)
			sender_reset(x, 0);
		halt_end(x);
		x->epoch = epoch;
	}
	if (x->s->output_count == 0 || x->halted ||
	    clock_mono_us() < x->resume_at_us)
		return;
	if (sender_ready(x, &err) == -1 ||
	    (x->epoch != 0 && lot_send(x, &err) == -1)) {
		if (err.kind == MR_REJECT)
			topics_doubt(x);
		relay_trouble(x->relay, err.message);
		log_warn("relaying failed, starting over", "error",
		    err.message);
		sender_reset(x, 1);
		return;
	}
	if (x->producer == NULL)
		return; /* another one is to be made */
	kafka_producer_poll(x->producer, 0);
	acks_publish(x);
	if (x->failed && !x->transaction.open)
		sender_reset(x, 1);
}

/* ---- watching ------------------------------------------------------------ */

struct tellers {
	const char *own;
	struct group_others *others;
};

/* One who told the group where it is. */
static void
take_teller(void *arg, const char *metadata)
{
	const struct tellers *tellers = arg;
	struct group_others *others = tellers->others;
	int i;

	if (strlen(metadata) != DATABASE_ID_SIZE - 1 ||
	    strcmp(metadata, tellers->own) == 0 || others->count == OTHERS_MOST)
		return;
	for (i = 0; i < others->count; i++)
		if (strcmp(others->id[i], metadata) == 0)
			return;
	memcpy(others->id[others->count++], metadata, DATABASE_ID_SIZE);
}

/*
 * A file that joined the group after this one has partitions of its own, so that
 * this one's never show it.
 */
static void
watch_group(struct sender *x, const struct kafka_topic_state *states,
    struct group_others *others)
{
	struct tellers tellers = {.own = x->s->database_id};
	struct relay *r = x->relay;
	int i;

	pthread_mutex_lock(&r->asking);
	for (i = 0; x->s->consumer != NULL && i < x->s->input_count; i++) {
		tellers.others = &others[i];
		if (states[i].partitions > 0 &&
		    kafka_consumer_tellers(x->s->consumer, states[i].name,
			states[i].partitions, TELLERS_MS, take_teller, &tellers,
			NULL) == -1)
			break; /* the next time, then */
	}
	pthread_mutex_unlock(&r->asking);
}

/* A topic that lost partitions: what is on its way there has nowhere to go. */
static void
watch_outputs(struct sender *x)
{
	struct kafka_topic_state states[TOPICS_MOST];
	int i;

	memset(states, 0, sizeof(states));
	for (i = 0; i < x->s->output_count; i++)
		snprintf(states[i].name, sizeof(states[i].name), "%s",
		    x->s->outputs[i].topic);
	if (i == 0 ||
	    kafka_admin_describe(x->s->admin, states, i, ASK_MS, NULL) == -1)
		return;
	while (--i >= 0) {
		if (states[i].partitions >= x->there[i])
			continue;
		x->there[i] = states[i].partitions;
		x->failed |= x->first != x->last;
	}
}

static void
watch_inputs(struct sender *x)
{
	struct kafka_topic_state states[TOPICS_MOST];
	struct group_others others[TOPICS_MOST];
	struct mr_error err = {0};
	int i;

	if (x->s->input_count == 0)
		return;
	memset(states, 0, sizeof(states));
	for (i = 0; i < x->s->input_count; i++)
		snprintf(states[i].name, sizeof(states[i].name), "%s",
		    x->s->inputs[i]);
	if (kafka_admin_describe(x->s->admin, states, x->s->input_count, ASK_MS,
		&err) == -1)
		return; /* the broker is away: that shows elsewhere */
	memset(others, 0, sizeof(others));
	watch_group(x, states, others);
	pthread_mutex_lock(&x->relay->lock);
	memcpy(x->relay->watched, states, sizeof(states));
	memcpy(x->relay->others, others, sizeof(others));
	x->relay->watched_count = x->s->input_count;
	x->relay->watched_new = 1;
	pthread_mutex_unlock(&x->relay->lock);
	relay_news(x->relay);
}

static void
watch(struct sender *x)
{

	if (clock_mono_us() < x->watch_at_us)
		return;
	x->watch_at_us = clock_mono_us() + 1000 * (int64_t)WATCH_MS;
	watch_inputs(x);
	watch_outputs(x);
}

/* ---- the thread ---------------------------------------------------------- */

static void
sender_sleep(struct sender *x)
{
	struct pollfd fds[2];
	nfds_t count = 1;
	int64_t left_us, ignored;
	int timeout_ms = 5000;

	fds[0].fd = x->relay->wake_fd;
	fds[0].events = POLLIN;
	left_us = x->resume_at_us - clock_mono_us();
	if (x->producer != NULL && left_us <= 0) {
		fds[1].fd = kafka_producer_fd(x->producer);
		fds[1].events = POLLIN;
		count = 2;
	}
	if (x->s->output_count == 0 || x->halted)
		;
	else if (left_us > 0)
		timeout_ms = (int)(left_us / 1000 + 1);
	else if (x->producer == NULL || (x->epoch != 0 && x->more) ||
	    transaction_goes_on(x))
		timeout_ms = 0;
	/* Under load, lots are paced: nothing wakes us meanwhile. */
	left_us = x->next_lot_us - clock_mono_us();
	if (x->first == x->last && left_us > 0)
		poll(NULL, 0, (int)((left_us + 999) / 1000));
	if (poll(fds, count, timeout_ms) > 0 && (fds[0].revents & POLLIN) &&
	    read(x->relay->wake_fd, &ignored, sizeof(ignored)) == -1 &&
	    errno != EAGAIN)
		log_error("reading the relay's wake-up failed", "error",
		    strerror(errno));
}

static void *
relay_main(void *arg)
{
	struct sender *x = arg;

	thread_give_way();
	while (!atomic_load(&x->relay->stop)) {
		sender_work(x);
		watch(x);
		sender_sleep(x);
	}
	transaction_leave(x);
	acks_publish(x);
	kafka_producer_free(x->producer);
	store_close(x->reader);
	free(x);
	return (NULL);
}

int
relay_start(struct stream *s, struct mr_error *err)
{
	struct relay *r = &s->relay;
	struct sender *x;
	int e, i;

	if ((x = calloc(1, sizeof(*x))) == NULL)
		return (mr_error_set(err, MR_FATAL,
		    "starting the relay's thread: out of memory"));
	x->relay = r;
	x->s = s;
	x->lot_most = ROWS_A_READ;
	for (i = 0; i < s->output_count; i++)
		x->there[i] = s->outputs[i].partitions;
	x->limit.per_second = x->limit.burst = s->conf->log_records_per_second;
	x->trouble_limit.per_second = x->trouble_limit.burst = 1;
	x->watch_at_us = clock_mono_us() + 1000 * (int64_t)WATCH_MS;
	if ((e = thread_start(&r->thread, "relay", STACK_BYTES, relay_main,
		 x)) != 0) {
		free(x);
		return (mr_error_set(err, MR_FATAL,
		    "starting the relay's thread: %s", strerror(e)));
	}
	r->started = 1;
	return (0);
}

void
relay_stop(struct stream *s)
{
	struct relay *r = &s->relay;

	if (!r->started)
		return;
	atomic_store(&r->stop, 1);
	relay_wake(s);
	pthread_join(r->thread, NULL);
	r->started = 0;
}

/* ---- the loop's side: who relays ------------------------------------------ */

int
relay_lease(struct stream *s, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t now = clock_boot_ms(), epoch = 0, renewed = 0;
	int found, mine = 0, lapsed = 0;

	s->lease_changed = 0;
	if (s->outbox_last == 0 && !relay_is_due(s))
		return (0); /* nothing to relay: whoever has it may keep it */
	if (s->lease_epoch != 0 && s->lease_renewed_ms <= now &&
	    now - s->lease_renewed_ms < RENEW_MS) {
		s->lease_changed = 1; /* it is ours, and was just now */
		return (0);
	}
	if ((rows = store_query(s->st, err, sql_lease)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		int same_boot = strcmp(store_get_text(rows, 2), s->boot_id) ==
		    0;

		epoch = store_get_i64(rows, 1);
		renewed = store_get_i64(rows, 3);
		mine = same_boot &&
		    strcmp(store_get_text(rows, 0), s->owner) == 0;
		lapsed = store_get_text(rows, 0)[0] == '\0' || !same_boot ||
		    renewed > now || now - renewed > LEASE_MS;
	}
	store_rows_done(rows);
	if (found != 1)
		return (found == 0 ?
			mr_error_set(err, MR_FATAL,
			    "the relay's row is missing in %s", s->db_path) :
			-1);
	if (mine) {
		s->lease_epoch = epoch;
		s->lease_changed = 1;
		s->lease_renewed_ms = renewed;
		if (now - renewed < RENEW_MS)
			return (0);
		s->lease_renewed_ms = now;
		return (
		    store_run(s->st, err, sql_lease_renew, store_text(s->owner),
			store_i64(epoch), store_i64(now)) == -1 ?
			-1 :
			0);
	}
	s->lease_epoch = 0;
	s->lease_changed = 1;
	if (!lapsed)
		return (0);
	s->lease_epoch = epoch + 1;
	s->lease_renewed_ms = now;
	log_info("taking over the relay", "epoch", log_i64(epoch + 1));
	return (store_run(s->st, err, sql_lease_take, store_text(s->owner),
		    store_i64(epoch + 1), store_text(s->boot_id),
		    store_i64(now)) == 1 ?
		0 :
		-1);
}

void
relay_leased(struct stream *s)
{
	if (s->lease_changed && relay_is_due(s))
		s->relay_due_us = clock_mono_us() +
		    1000 * (int64_t)RELAY_REFRESH_MS;
	if (s->lease_changed &&
	    atomic_exchange(&s->relay.epoch, s->lease_epoch) != s->lease_epoch)
		relay_wake(s);
}

int
relay_release(struct stream *s, struct mr_error *err)
{
	return (store_run(s->st, err, sql_lease_release,
		    store_text(s->owner)) == -1 ?
		-1 :
		0);
}

int
relay_is_due(const struct stream *s)
{
	return ((s->transactional ||
		    s->conf->relay == STREAM_RELAY_TRANSACTIONAL) &&
	    s->output_count > 0 && clock_mono_us() >= s->relay_due_us);
}

int
relay_mode_read(struct stream *s, struct mr_error *err)
{
	int64_t transactional = 0;

	if (store_find(s->st, err, &transactional, sql_mode) == -1)
		return (-1);
	s->transactional = transactional != 0;
	metric_set(s->m_relay_transactional, transactional);
	return (0);
}

int
relay_mode_settle(struct stream *s, struct mr_error *err)
{
	int wanted = s->conf->relay == STREAM_RELAY_TRANSACTIONAL;
	int64_t epoch, above, changed;

	if (s->transactional == wanted)
		return (0);
	pthread_mutex_lock(&s->relay.lock);
	epoch = s->relay.change_epoch;
	above = s->relay.change_above;
	s->relay.change_epoch = 0;
	pthread_mutex_unlock(&s->relay.lock);
	if (epoch == 0)
		return (0);
	if (store_begin(s->st, err) == -1)
		return (err->kind == MR_FATAL ? -1 : 0);
	if ((changed = store_run(s->st, err, sql_mode_change, store_i64(wanted),
		 store_text(s->owner), store_i64(epoch))) == 1 &&
	    store_run(s->st, err, sql_mode_clear, store_i64(above)) == -1)
		changed = -1;
	if (changed != 1)
		store_rollback(s->st);
	else if (store_commit(s->st, err) == -1)
		changed = -1;
	/* Not now, then: the relay will propose it again. */
	if (changed != 1)
		return (changed == -1 && err->kind == MR_FATAL ? -1 : 0);
	s->transactional = wanted;
	metric_set(s->m_relay_transactional, wanted);
	log_info("the relay's way changed", "relay",
	    wanted ? "transactional" : "idempotent");
	relay_wake(s);
	return (0);
}
