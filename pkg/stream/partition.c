/*
 * partition -- what the group gave us, and the records of it in hand.
 *
 * A record in hand carries the number of the assignment that it was fetched
 * under and where the fetch stood before it.  The number goes up with each
 * assignment and each seek, so a record from before one is known and dropped;
 * "before" tells a hole in what we fetched (fetch again) from one in the log
 * (a compacted or control record, nothing missing).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

/*
 * For each of the broker's answers, which the loop and its commands wait for.
 * One try in so many waits for longer, for a broker that is slow for good.
 */
#define ASK_MS 500
#define ASK_LONG_MS 3000
#define ASK_LONG_EVERY 16
#define ASK_AGAIN_US 1000000
#define BACKOFF_MOST_MS 30000
#define TELL_EVERY_US 250000
#define SILENT_US 30000000 /* a fetch waits for half a second */
#define AHEAD_FROM 64 /* those before it are applied too soon */

struct partition *
partition_find(struct stream *s, int input, int number)
{
	int i;

	for (i = 0; i < s->partition_count; i++)
		if (s->partitions[i]->input == input &&
		    s->partitions[i]->number == number)
			return (s->partitions[i]);
	return (NULL);
}

struct held *
partition_at(struct partition *p, size_t index)
{
	return (&p->held[(p->held_first + index) % p->held_capacity]);
}

static int64_t
size_of(const struct kafka_record *record)
{

	return ((int64_t)(record->key_size + record->value_size));
}

void
partition_drop(struct stream *s, struct partition *p, size_t count)
{
	for (; count > 0; count--) {
		p->held_bytes -= size_of(&p->held[p->held_first].record);
		ahead_free(s, &p->held[p->held_first]);
		p->held_first = (p->held_first + 1) % p->held_capacity;
		p->held_count--;
	}
}

static int
partition_grow(struct partition *p)
{
	struct held *grown;
	size_t capacity, i;

	capacity = p->held_capacity == 0 ? 64 : 2 * p->held_capacity;
	if ((grown = malloc(capacity * sizeof(*grown))) == NULL)
		return (-1);
	for (i = 0; i < p->held_count; i++)
		grown[i] = *partition_at(p, i);
	free(p->held);
	p->held = grown;
	p->held_capacity = capacity;
	p->held_first = 0;
	return (0);
}

static void halt(struct stream *s, struct partition *p, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
halt(struct stream *s, struct partition *p, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(p->halted_by, sizeof(p->halted_by), format, ap);
	va_end(ap);
	partition_halt(s, p);
}

static int
ask_ms(const struct stream *s)
{

	return (s->unanswered % ASK_LONG_EVERY == ASK_LONG_EVERY - 1 ?
		ASK_LONG_MS :
		ASK_MS);
}

/*
 * The offset isn't in the log: below its start, retention was faster than
 * we; above its end, the log was cut.  If it was cut, the end may be above us
 * again: then what comes next isn't what followed on what we have read.
 */
static void
out_of_range(struct stream *s, struct partition *p, int64_t offset, int cut)
{
	struct mr_error err = {0};
	int64_t first = 0, next = 0;

	if (kafka_admin_offsets(s->admin, s->inputs[p->input], p->number,
		&first, &next, ask_ms(s), &err) == 0 &&
	    (offset < first || offset > next || cut)) {
		if (offset < first)
			halt(s, p,
			    "records %lld to %lld were deleted by retention "
			    "before they were read; `millrace state "
			    "accept-gap` goes on at %lld",
			    (long long)offset, (long long)first - 1,
			    (long long)first);
		else if (offset <= next)
			halt(s, p,
			    "the log was cut below %lld, up to which we have "
			    "read, and has grown again to %lld; `millrace "
			    "state accept-gap` goes on where it was cut",
			    (long long)offset, (long long)next);
		else
			halt(s, p,
			    "the log ends at %lld but we have read up to %lld: "
			    "it was truncated; `millrace state accept-gap` "
			    "goes on at %lld",
			    (long long)next, (long long)offset,
			    (long long)next);
		return;
	}
	p->state = PARTITION_UNVERIFIED;
	p->retry_at_us = clock_mono_us() + 1000000;
}

/* Nothing more comes, and what was in hand is applied: say why. */
static void
partition_lost(struct stream *s, struct partition *p)
{
	int why = p->lost;

	p->lost = 0;
	if (why != 2)
		out_of_range(s, p, p->lost_at, why == 3);
	else
		halt(s, p,
		    "what is at offset %lld can't be read, it is damaged; "
		    "`millrace state accept-gap` goes on behind it",
		    (long long)p->lost_at);
}

void
partition_hold(struct stream *s, struct kafka_record *record)
{
	struct partition *p;
	struct held *h;

	p = partition_find(s, record->topic_index, record->partition);
	if (p == NULL || p->state == PARTITION_HALTED ||
	    p->state == PARTITION_UNVERIFIED)
		goto drop;
	if (record->out_of_range) {
		/* What is in hand may be nowhere else: it goes first. */
		p->lost = record->out_of_range;
		p->lost_at = record->offset;
		goto drop;
	}
	/* Polled in one array with what made us seek: not of this fetch. */
	if (record->fetch_offset != p->fetch_next) {
		partition_refetch(s, p, p->fetch_next, p->fetch_epoch);
		goto drop;
	}
	if (record->end_of_partition && record->offset == p->fetch_next) {
		p->heard = 1;
		goto drop; /* nothing new */
	}
	if (p->held_count == p->held_capacity && partition_grow(p) == -1) {
		log_error("out of memory for fetched records", "topic",
		    s->inputs[p->input], "partition", log_i64(p->number));
		partition_refetch(s, p, p->fetch_next, p->fetch_epoch);
		goto drop;
	}
	h = &p->held[(p->held_first + p->held_count) % p->held_capacity];
	h->record = *record;
	h->ahead = p->held_count < AHEAD_FROM || record->end_of_partition ?
	    NULL :
	    ahead_ask(s, record);
	p->heard = 1;
	h->assignment = p->assignment;
	h->before = record->fetch_offset;
	p->held_count++;
	p->held_bytes += size_of(record);
	p->fetch_next = record->end_of_partition ? record->offset :
						   record->offset + 1;
	p->fetch_epoch = record->leader_epoch;
	return;
drop:
	kafka_record_free(record);
}

void
partition_refetch(struct stream *s, struct partition *p, int64_t offset,
    int32_t leader_epoch)
{
	struct mr_error err = {0};
	struct kafka_position position = {.topic = s->inputs[p->input],
	    .topic_index = p->input,
	    .partition = p->number,
	    .offset = offset,
	    .leader_epoch = leader_epoch};

	partition_drop(s, p, p->held_count);
	p->lost = 0;
	p->assignment = ++s->last_assignment;
	p->heard = 1; /* from here on */
	p->fetch_next = offset;
	p->fetch_epoch = leader_epoch;
	if (kafka_consumer_seek(s->consumer, &position, &err) == -1) {
		log_warn("seeking failed, trying again", "topic",
		    position.topic, "partition", log_i64(p->number), "offset",
		    log_i64(offset), "error", err.message);
		p->state = PARTITION_UNVERIFIED;
		p->retry_at_us = clock_mono_us() + 1000000;
	}
}

/* Pause or resume at Kafka's client, if that isn't how it is already. */
static void
partition_pause(struct stream *s, struct partition *p, int pause)
{
	struct mr_error err = {0};
	int status;

	if (p->paused == pause)
		return;
	status = pause ? kafka_consumer_pause(s->consumer, s->inputs[p->input],
			     p->number, &err) :
			 kafka_consumer_resume(s->consumer, s->inputs[p->input],
			     p->number, &err);
	if (status == -1)
		log_warn(pause ? "pausing failed" : "resuming failed", "topic",
		    s->inputs[p->input], "partition", log_i64(p->number),
		    "error", err.message);
	else
		p->paused = pause;
}

void
partition_halt(struct stream *s, struct partition *p)
{
	p->state = PARTITION_HALTED;
	partition_drop(s, p, p->held_count);
	partition_pause(s, p, 1);
	metric_set(p->halted, 1);
	log_error("partition halted", "topic", s->inputs[p->input], "partition",
	    log_i64(p->number), "reason", p->halted_by);
}

void
partition_wait(struct stream *s, struct partition *p)
{
	p->backoff_ms = p->backoff_ms == 0 ? s->conf->retry_ms :
					     2 * p->backoff_ms;
	if (p->backoff_ms > BACKOFF_MOST_MS)
		p->backoff_ms = BACKOFF_MOST_MS;
	p->retry_at_us = clock_mono_us() + 1000 * p->backoff_ms;
	p->state = PARTITION_WAITING;
	partition_pause(s, p, 1);
}

/* ---- verification: is this the topic that our positions are of? ---------- */

static void
halt_beside(struct stream *s, struct partition *p, const char *id)
{

	halt(s, p,
	    "group %s has offsets committed by database %s, not by this file "
	    "(%s): two files in one group would do everything twice; stop the "
	    "other, or accept with `millrace state rebind`",
	    s->svc->name, id, s->database_id);
}

/* The group's offset, committed under the id of another file? */
static int
verify_group(struct stream *s, struct partition *p, struct mr_error *err)
{
	char metadata[64];
	int64_t offset;
	int known;

	if (kafka_consumer_committed(s->consumer, s->inputs[p->input],
		p->number, &offset, metadata, sizeof(metadata), ask_ms(s),
		err) == -1)
		return (-1);
	if (offset < 0 || strlen(metadata) != DATABASE_ID_SIZE - 1)
		return (0);
	if ((known = database_id_known(s, metadata, err)) == -1)
		return (-1);
	if (known == 0)
		halt_beside(s, p, metadata);
	return (0);
}

/* Where to start without a position: a service that is new to the topic
 * takes what there is; one that isn't has met a new partition. */
static int
verify_start(struct stream *s, struct partition *p, int known,
    struct mr_error *err)
{
	int64_t first = 0, next = 0;

	if (kafka_admin_offsets(s->admin, s->inputs[p->input], p->number,
		&first, &next, ask_ms(s), err) == -1)
		return (-1);
	p->start = 0;
	if (first > 0 && known == 1)
		halt(s, p,
		    "a new partition whose first %lld records were deleted "
		    "by retention before they were read; `millrace state "
		    "accept-gap` goes on at %lld",
		    (long long)first, (long long)first);
	else
		p->start = first;
	return (0);
}

/*
 * A service that is new to a topic takes what retention has left of it.  That
 * is noted for all partitions at once: when one of them has a position, the
 * start of another would look like one that we came too late for.
 */
static int
topic_meet(struct stream *s, const struct kafka_topic_state *topic, char *met,
    struct mr_error *err)
{
	int64_t first[KAFKA_PARTITIONS_MAX] = {0}, next;
	int k, count = topic->partitions, cut = 0;

	if (strcmp(met, topic->id) == 0)
		return (0);
	if (count > KAFKA_PARTITIONS_MAX)
		count = KAFKA_PARTITIONS_MAX;
	for (k = 0; k < count; k++) {
		if (kafka_admin_offsets(s->admin, topic->name, k, &first[k],
			&next, ask_ms(s), err) == -1)
			return (-1);
		cut |= first[k] > 0;
	}
	if (cut && store_begin(s->st, err) == -1)
		return (-1);
	for (k = 0; cut && k < count; k++)
		if (first[k] > 0 &&
		    position_begin(s, topic->name, topic->id, k, first[k],
			err) == -1) {
			store_rollback(s->st);
			return (-1);
		}
	if (cut && store_commit(s->st, err) == -1)
		return (-1);
	memcpy(met, topic->id, KAFKA_TOPIC_ID_SIZE);
	return (0);
}

/*
 * Find out the topic's id and where to start; state, start, fetch_next and
 * committed are set.  -1: the broker couldn't be asked.
 */
static int
verify(struct stream *s, struct partition *p, struct mr_error *err)
{
	struct kafka_topic_state topic = {.partitions = 0};
	char other[KAFKA_TOPIC_ID_SIZE] = "";
	int known, found;

	p->state = PARTITION_UNVERIFIED;
	snprintf(topic.name, sizeof(topic.name), "%s", s->inputs[p->input]);
	if (kafka_admin_describe(s->admin, &topic, 1, ask_ms(s), err) == -1)
		return (-1);
	if (topic.id[0] == '\0')
		return (mr_error_set(err, MR_RETRY,
		    "the broker tells no id of topic %s (Apache Kafka does "
		    "from 2.8 on)",
		    topic.name));
	memcpy(p->topic_id, topic.id, sizeof(p->topic_id));
	if ((known = position_topic_known(s, topic.name, topic.id, other,
		 err)) == -1)
		return (-1);
	p->state = PARTITION_READING;
	if (known == 2) {
		halt(s, p,
		    "topic %s was made anew (id %s, positions are of %s); "
		    "`millrace state accept-gap` goes on at its start",
		    topic.name, topic.id, other);
		return (0);
	}
	if ((known == 0 &&
		topic_meet(s, &topic, s->met[p->input], err) == -1) ||
	    (found = position_read(s, p->topic_id, p->number, &p->committed,
		 &p->committed_epoch, err)) == -1)
		goto fail;
	if (found == 0) {
		p->committed = -1;
		p->committed_epoch = -1;
		if (verify_start(s, p, known, err) == -1)
			goto fail;
	}
	if (p->state == PARTITION_READING && verify_group(s, p, err) == -1)
		goto fail;
	p->fetch_next = p->committed == -1 ? p->start : p->committed;
	p->fetch_epoch = p->committed_epoch;
	return (0);
fail:
	p->state = PARTITION_UNVERIFIED;
	return (-1);
}

/*
 * Verify, or try again in a second.  When one partition was waited for in vain
 * the others aren't asked for: with each of them, a broker that has stalled
 * would keep the loop from its commands.
 */
static void
verify_or_wait(struct stream *s, struct partition *p)
{
	struct mr_error err = {0};

	if (clock_mono_us() < s->ask_at_us) {
		p->state = PARTITION_UNVERIFIED;
		p->retry_at_us = s->ask_at_us;
		return;
	}
	p->asked_us = clock_mono_us();
	if (verify(s, p, &err) == 0) {
		s->unanswered = 0;
		return;
	}
	s->unanswered++;
	s->ask_at_us = clock_mono_us() + ASK_AGAIN_US;
	p->retry_at_us = s->ask_at_us;
	log_warn("waiting to verify a partition", "topic", s->inputs[p->input],
	    "partition", log_i64(p->number), "error", err.message);
}

/* ---- the group's handlers ------------------------------------------------ */

static struct partition *
partition_new(struct stream *s, int input, int number)
{
	struct partition *p, **grown;
	char labels[KAFKA_TOPIC_MAX + 64] = "";
	char text[16];

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	grown = realloc(s->partitions,
	    ((size_t)s->partition_count + 1) * sizeof(struct partition *));
	if (grown == NULL) {
		free(p);
		return (NULL);
	}
	s->partitions = grown;
	s->partitions[s->partition_count++] = p;
	p->input = input;
	p->number = number;
	p->heard = 1; /* from here on */
	p->silent_end = -1;
	snprintf(text, sizeof(text), "%d", number);
	metrics_label(labels, sizeof(labels), "topic", s->inputs[input]);
	metrics_label(labels, sizeof(labels), "partition", text);
	p->lag = metrics_gauge("millrace_consumer_lag_records", labels,
	    "Records in the partition that are not applied yet.");
	p->lag_seconds = metrics_gauge("millrace_consumer_lag_seconds", labels,
	    "Age of the next record to be applied; 0 if there is none.");
	p->halted = metrics_gauge("millrace_partition_halted", labels,
	    "1 while the partition is halted until somebody accepts what "
	    "happened.");
	return (p);
}

static void
on_assign(void *arg, struct kafka_position *positions, int count)
{
	struct stream *s = arg;
	struct partition *p;
	int i;

	s->assigned_once = 1;
	metric_add(s->m_rebalances, 1);
	for (i = 0; i < count; i++) {
		positions[i].offset = -1;
		p = partition_find(s, positions[i].topic_index,
		    positions[i].partition);
		if (p == NULL &&
		    (p = partition_new(s, positions[i].topic_index,
			 positions[i].partition)) == NULL) {
			log_error("out of memory for an assignment", "topic",
			    positions[i].topic);
			atomic_store(&s->stopping, 2);
			return;
		}
		partition_drop(s, p, p->held_count);
		p->lost = 0;
		p->assignment = ++s->last_assignment;
		p->paused = 1; /* as offset -1 leaves it */
		p->backoff_ms = 0;
		metric_set(p->halted, 0);
		verify_or_wait(s, p);
		if (p->state == PARTITION_READING) {
			positions[i].offset = p->fetch_next;
			positions[i].leader_epoch = p->fetch_epoch;
			p->paused = 0;
		}
		log_info("partition assigned", "topic", positions[i].topic,
		    "partition", log_i64(p->number), "offset",
		    log_i64(positions[i].offset));
	}
}

/* Take a partition out of the list: the caller frees it.  NULL: not ours. */
static struct partition *
partition_take_out(struct stream *s, int input, int number)
{
	struct partition *p;
	int i;

	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		if (p->input == input && p->number == number) {
			s->partitions[i] = s->partitions[--s->partition_count];
			return (p);
		}
	}
	return (NULL);
}

static void
partition_free(struct stream *s, struct partition *p)
{
	partition_drop(s, p, p->held_count);
	free(p->held);
	free(p);
}

static void
on_revoke(void *arg, const struct kafka_position *positions, int count,
    int lost)
{
	struct stream *s = arg;
	struct partition *p;
	int i;

	metric_add(s->m_rebalances, 1);
	if (!lost)
		partition_tell_group(s, 1);
	for (i = 0; i < count; i++) {
		p = partition_take_out(s, positions[i].topic_index,
		    positions[i].partition);
		if (p == NULL)
			continue;
		log_info(lost ? "partition lost" : "partition revoked", "topic",
		    positions[i].topic, "partition", log_i64(p->number));
		metric_set(p->lag, 0);
		metric_set_f64(p->lag_seconds, 0);
		metric_set(p->halted, 0);
		partition_free(s, p);
	}
}

static void
on_error(void *arg, const char *what, int fatal)
{
	struct stream *s = arg;

	if (fatal) {
		log_error("the consumer can't go on", "error", what);
		atomic_store(&s->stopping, 2);
	} else {
		log_warn("the consumer reports", "error", what);
	}
}

const struct kafka_group_handlers partition_handlers = {
    .on_assign = on_assign,
    .on_revoke = on_revoke,
    .on_error = on_error,
};

/* ---- what the loop asks -------------------------------------------------- */

void
partition_compare_ids(struct stream *s, const struct kafka_topic_state *states,
    int count)
{
	struct partition *p;
	int i, k;

	for (k = 0; k < s->partition_count; k++) {
		p = s->partitions[k];
		if (p->state != PARTITION_READING &&
		    p->state != PARTITION_WAITING)
			continue;
		for (i = 0; i < count; i++) {
			if (strcmp(states[i].name, s->inputs[p->input]) != 0)
				continue;
			if (states[i].partitions == 0)
				halt(s, p,
				    "topic %s is gone; once it is made again, "
				    "`millrace state accept-gap` goes on at "
				    "its start",
				    states[i].name);
			else if (states[i].id[0] != '\0' &&
			    strcmp(states[i].id, p->topic_id) != 0)
				halt(s, p,
				    "topic %s was made anew (id %s, positions "
				    "are of %s); `millrace state accept-gap` "
				    "goes on at its start",
				    states[i].name, states[i].id, p->topic_id);
		}
	}
}

/* Those of one input that read: another file does the same work. */
static void
halt_input(struct stream *s, int input, const char *id)
{
	struct partition *p;
	int k;

	for (k = 0; k < s->partition_count; k++) {
		p = s->partitions[k];
		if (p->input == input &&
		    (p->state == PARTITION_READING ||
			p->state == PARTITION_WAITING))
			halt_beside(s, p, id);
	}
}

void
partition_compare_group(struct stream *s, int input,
    const struct group_others *others)
{
	struct mr_error err;
	int i;

	for (i = 0; i < others->count; i++)
		if (database_id_known(s, others->id[i], &err) == 0)
			halt_input(s, input, others->id[i]);
}

/*
 * One that it is time to verify: that which was asked for longest ago, so that
 * none waits behind another whose broker never answers.
 */
static struct partition *
partition_due(const struct stream *s, int64_t now_us)
{
	struct partition *p, *due = NULL;
	int i;

	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		if (p->state == PARTITION_UNVERIFIED &&
		    now_us >= p->retry_at_us &&
		    (due == NULL || p->asked_us < due->asked_us))
			due = p;
	}
	return (due);
}

/* At most one a turn: commands have theirs in between. */
static void
partition_verify_one(struct stream *s, int64_t now_us)
{
	struct partition *p = partition_due(s, now_us);

	if (p == NULL)
		return;
	verify_or_wait(s, p);
	if (p->state == PARTITION_READING)
		partition_refetch(s, p, p->fetch_next, p->fetch_epoch);
}

/*
 * Is there something that doesn't come?  Kafka's client asks again for ever,
 * and says nothing, where a broker can't read its disk.  Only what it has never
 * heard the end of, or hasn't come to, is asked about: who is at the end costs
 * nothing.
 */
static void
look_for_silence(struct stream *s, struct partition *p, int64_t now_us)
{
	int64_t end = kafka_consumer_end(s->consumer, s->inputs[p->input],
	    p->number);
	struct mr_error err = {0};
	int64_t first = 0, next = 0;
	int i;

	if (p->heard || p->held_count > 0 || p->paused || p->lost ||
	    p->state != PARTITION_READING ||
	    (end >= 0 && end <= p->fetch_next)) {
		p->heard = 0;
		p->silent_since_us = now_us;
		p->silent_end = -1;
		return;
	}
	if (now_us - p->silent_since_us < SILENT_US ||
	    now_us < p->silent_ask_us)
		return;
	p->silent_ask_us = now_us + SILENT_US;
	if (kafka_admin_offsets(s->admin, s->inputs[p->input], p->number,
		&first, &next, ASK_MS, &err) == -1) {
		/* The broker is away, which others say: the loop waits once. */
		for (i = 0; i < s->partition_count; i++)
			s->partitions[i]->silent_ask_us = now_us + SILENT_US;
		return;
	}
	if (next <= p->fetch_next) {
		p->silent_since_us = now_us;
		return;
	}
	if (p->silent_end == -1)
		log_warn("nothing comes of a partition, though there is more; "
			 "the broker's log may say why",
		    "topic", s->inputs[p->input], "partition",
		    log_i64(p->number), "offset", log_i64(p->fetch_next), "end",
		    log_i64(next));
	p->silent_end = next;
}

/*
 * How far behind is it?  In time, by the next record where that is in hand;
 * else since when it is behind: what isn't fetched has no time yet.
 */
static void
measure_lag(struct stream *s, struct partition *p, int64_t now_us)
{
	int64_t end = kafka_consumer_end(s->consumer, s->inputs[p->input],
	    p->number);
	int64_t lag, next, ts_ms = -1, age_ms;

	if (p->silent_end > end)
		end = p->silent_end;
	if (end < 0 || (p->committed < 0 && p->silent_end == -1))
		return;
	next = p->committed < 0 ? p->start : p->committed;
	lag = end > next ? end - next : 0;
	metric_set(p->lag, lag);
	if (lag == 0)
		p->behind_since_us = 0;
	else if (p->behind_since_us == 0)
		p->behind_since_us = now_us;
	if (lag > 0 && p->held_count > 0)
		ts_ms = partition_at(p, 0)->record.ts_ms;
	if (lag == 0)
		age_ms = 0;
	else if (ts_ms >= 0)
		age_ms = clock_wall_ms() - ts_ms;
	else
		age_ms = (now_us - p->behind_since_us) / 1000;
	metric_set_f64(p->lag_seconds, age_ms > 0 ? (double)age_ms / 1000 : 0);
}

int64_t
partition_service(struct stream *s)
{
	int64_t now = clock_mono_us(), next = -1, left;
	struct partition *p;
	int i;

	partition_verify_one(s, now);
	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		look_for_silence(s, p, now);
		measure_lag(s, p, now);
		if (p->state == PARTITION_HALTED)
			continue;
		if (p->state == PARTITION_WAITING && now >= p->retry_at_us)
			p->state = PARTITION_READING;
		if (p->state == PARTITION_READING && p->lost &&
		    p->held_count == 0)
			partition_lost(s, p);
		if (p->state != PARTITION_READING &&
		    p->state != PARTITION_HALTED) {
			left = p->retry_at_us - now;
			if (next == -1 || left < next)
				next = left > 0 ? left : 0;
			continue;
		}
		partition_pause(s, p,
		    s->holding || s->store_backoff_ms > 0 ||
			p->state == PARTITION_HALTED);
	}
	return (next);
}

int64_t
partition_ready(const struct stream *s)
{
	int64_t ready = 0;
	int i;

	for (i = 0; i < s->partition_count; i++)
		if (s->partitions[i]->state == PARTITION_READING)
			ready += (int64_t)s->partitions[i]->held_count;
	return (ready);
}

int64_t
partition_ready_bytes(const struct stream *s)
{
	int64_t ready = 0;
	int i;

	for (i = 0; i < s->partition_count; i++)
		if (s->partitions[i]->state == PARTITION_READING)
			ready += s->partitions[i]->held_bytes;
	return (ready);
}

void
partition_drop_all(struct stream *s)
{
	int i;

	for (i = 0; i < s->partition_count; i++)
		partition_drop(s, s->partitions[i],
		    s->partitions[i]->held_count);
	ahead_stop(s);
}

void
partition_free_all(struct stream *s)
{
	int i;

	for (i = 0; i < s->partition_count; i++)
		partition_free(s, s->partitions[i]);
	free(s->partitions);
	s->partitions = NULL;
	s->partition_count = 0;
}

void
partition_tell_group(struct stream *s, int at_once)
{
	struct kafka_position told[64];
	struct mr_error err = {0};
	struct partition *p;
	int i, count = 0;

	s->tell_at_us = clock_mono_us() + TELL_EVERY_US;
	if (!at_once && kafka_consumer_committing(s->consumer) > 0)
		return;
	for (i = 0; i < s->partition_count && count < 64; i++) {
		p = s->partitions[i];
		if (!p->to_tell)
			continue;
		p->to_tell = 0;
		told[count].topic = s->inputs[p->input];
		told[count].topic_index = p->input;
		told[count].partition = p->number;
		told[count].offset = p->committed;
		told[count].leader_epoch = p->committed_epoch;
		count++;
	}
	if (count > 0 &&
	    kafka_consumer_commit(s->consumer, told, count, s->database_id,
		&err) == -1)
		log_warn("telling the group our offsets failed", "error",
		    err.message);
}
