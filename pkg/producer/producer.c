/*
 * The thread of a direct delivery owns a Kafka producer; the file's state is
 * written for it by the stream, as a command.  It waits for the stream, and so
 * for the broker and its topic, at its first command.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "producer/internal.h"

#define IN_FLIGHT_MOST 4096
#define SAVE_DEADLINE_MS 10000
#define WAIT_MS 1000 /* before something that failed is tried again */

/* A record on its way, for the log line when its fate is known. */
struct sent {
	int busy;
	int64_t ts_ms;
	char key[PRODUCER_KEY_SIZE];
	char value[200];
};

struct direct {
	const struct producer *p;
	struct stream *s;
	pthread_t thread;
	int started;
	int stop_fd;
	_Atomic int stopping;
	struct kafka_producer *producer;
	struct sent sent[IN_FLIGHT_MOST]; /* a ring */
	int next_sent;
	int failed; /* records not acknowledged, since it was cleared */
	int unsaved; /* a step is with Kafka and not in the file */
	char transactional_id[KAFKA_TOPIC_MAX];
	struct mr_error trouble; /* FATAL: what the program is to end with */
	struct log_limit limit;
};

static struct direct direct;
static struct producer_pace pace;
static int opened;
static kafka_partitioner *partitioner;

/* Serve reports; first sleep, at most ${timeout_ms}, until there are some. */
static void
pause_for(struct direct *d, int64_t timeout_ms)
{
	struct pollfd fds[2] = {
	    {.fd = d->stop_fd, .events = POLLIN},
	    {.fd = kafka_producer_fd(d->producer), .events = POLLIN},
	};

	if (timeout_ms > 0)
		(void)poll(fds, 2, (int)timeout_ms);
	kafka_producer_poll(d->producer, 0);
}

static void
on_report(void *arg, const struct kafka_report *report)
{
	struct direct *d = arg;
	struct sent *sent = report->tag;
	int64_t suppressed;

	sent->busy = 0;
	if (report->kind != MR_OK) {
		d->failed++;
		producer_report_failed();
		if (log_limit_take(&d->limit, &suppressed))
			log_warn("not delivered", "topic", report->topic, "key",
			    sent->key, "value", sent->value, "reason",
			    report->reason, "lines_left_out",
			    log_i64(suppressed));
		return;
	}
	producer_report_delivered(report->latency_us);
	if (log_limit_take(&d->limit, &suppressed))
		log_info("delivered", "topic", report->topic, "partition",
		    log_i64(report->partition), "offset",
		    log_i64(report->offset), "timestamp_ms",
		    log_i64(sent->ts_ms), "key", sent->key, "value",
		    sent->value, "latency_us", log_i64(report->latency_us),
		    "headers", "content-type=application/json",
		    "lines_left_out", log_i64(suppressed));
}

/* Hand a record over, when there is room for it.  0 or -1. */
static int
send_record(struct direct *d, const struct producer_record *record,
    struct mr_error *err)
{
	static const struct kafka_header header = {"content-type",
	    "application/json", 16};
	struct sent *sent = &d->sent[d->next_sent];
	const int spread = producer_settings.partitioner == PRODUCER_SPREAD;

	while (sent->busy && !d->stopping)
		pause_for(d, WAIT_MS);
	if (sent->busy)
		return (mr_error_set(err, MR_RETRY, "stopping"));
	if (record->value.failed)
		return (mr_error_set(err, MR_RETRY, "no memory for a record"));
	sent->ts_ms = record->ts_ms;
	memcpy(sent->key, record->key, sizeof(sent->key));
	snprintf(sent->value, sizeof(sent->value), "%s",
	    buffer_text(&record->value));
	if (kafka_producer_send(d->producer, d->p->source->topic, -1,
		spread ? NULL : sent->key, spread ? 0 : strlen(sent->key),
		record->value.data, record->value.length, &header, 1,
		record->ts_ms, sent, err) != 0)
		return (-1);
	sent->busy = 1;
	d->next_sent = (d->next_sent + 1) % IN_FLIGHT_MOST;
	return (0);
}

/* Until nothing is on its way, or we are to stop. */
static void
wait_for_reports(struct direct *d)
{

	while (kafka_producer_in_flight(d->producer) > 0 && !d->stopping)
		pause_for(d, WAIT_MS);
}

/* What can't be handed over counts as failed.  1, or 0 if we are to stop before
 * all of it is. */
static int
send_step(struct direct *d)
{
	const struct producer *p = d->p;
	const int count = p->source->count(p->state);
	const int64_t now_ms = clock_wall_ms();
	struct producer_record record;
	struct mr_error err;
	int64_t suppressed;
	int i;

	for (i = 0; i < count && !d->stopping; i++) {
		memset(&record, 0, sizeof(record));
		p->source->record(p->state, i, now_ms, &record);
		producer_report_made(1, (int64_t)record.value.length);
		if (send_record(d, &record, &err) != 0) {
			d->failed++;
			producer_report_failed();
			if (log_limit_take(&d->limit, &suppressed))
				log_warn("not sent", "topic", p->source->topic,
				    "key", record.key, "reason", err.message,
				    "lines_left_out", log_i64(suppressed));
		}
		buffer_free(&record.value);
		if (producer_settings.one_by_one)
			wait_for_reports(d);
	}
	return (i == count);
}

/* Write the state, trying until it is done or we are to stop: 1 if it is. */
static int
save(struct direct *d)
{
	const struct stream_call call = {.deadline_ms = SAVE_DEADLINE_MS};
	struct stream_answer answer;
	struct mr_error err;
	int done = 0, said = 0;

	while (!done && !d->stopping) {
		memset(&answer, 0, sizeof(answer));
		done = stream_call(d->s, &call, &answer, &err) == 0 &&
		    answer.status == 200;
		buffer_free(&answer.body);
		if (done)
			break;
		if (!said)
			log_info("waiting to write the state", "reason",
			    err.message);
		said = 1;
		pause_for(d, WAIT_MS);
	}
	return (done);
}

/* Write, then send: a crash in between loses a step. */
static void
step_at_most_once(struct direct *d)
{

	if (save(d))
		(void)send_step(d);
}

/* Send until all of it is acknowledged, then write: a crash in between sends
 * a step again. */
static void
step_at_least_once(struct direct *d)
{
	int whole;

	do {
		d->failed = 0;
		whole = send_step(d);
		wait_for_reports(d);
		if (d->failed > 0)
			pause_for(d, WAIT_MS);
	} while (d->failed > 0 && !d->stopping);
	d->unsaved = whole && d->failed == 0 &&
	    kafka_producer_in_flight(d->producer) == 0;
	d->unsaved = d->unsaved && !save(d);
}

/* Have the program end as failed: the command for that hands it on. */
static void
give_up(struct direct *d, const struct mr_error *why)
{

	d->trouble = *why;
	d->trouble.kind = MR_FATAL;
	save(d);
}

/* Commit what the step sent, or abort it: 1 if it was committed, 0 if not, and
 * -1 if it isn't for us to say any more. */
static int
end_transaction(struct direct *d, struct mr_error *err)
{
	const int64_t drain_ms = stream_settings(d->s)->drain_ms;
	int ended = d->stopping || d->failed > 0 ? 0 : -1;

	err->kind = MR_RETRY;
	while (ended == -1 && err->kind == MR_RETRY && !d->stopping)
		ended = kafka_producer_commit(d->producer, WAIT_MS, err);
	if (ended == 1 || err->kind == MR_FATAL)
		return (ended);
	if (ended == 0 && !d->stopping)
		log_warn("transaction aborted", "reason",
		    d->failed > 0 ? "records were not sent" : err->message);
	while (kafka_producer_abort(d->producer,
		   d->stopping ? (int)drain_ms : WAIT_MS, err) != 0)
		if (err->kind != MR_RETRY || d->stopping)
			return (-1);
	return (0);
}

/* Commit all of it to Kafka at once, then write: a crash in between sends a
 * step again, whole. */
static void
step_transactional(struct direct *d)
{
	struct mr_error err;
	int done = 0, said = 0;

	while (done != 1 && !d->stopping) {
		d->failed = 0;
		done = kafka_producer_begin(d->producer, WAIT_MS, &err);
		if (done == 0) {
			(void)send_step(d);
			done = end_transaction(d, &err);
		} else if (err.kind == MR_RETRY && !said) {
			log_info("waiting to begin a transaction", "reason",
			    err.message);
			said = 1;
		}
		if (done == -1 && err.kind != MR_RETRY) {
			give_up(d, &err);
			return;
		}
		if (done != 1)
			pause_for(d, WAIT_MS);
	}
	d->unsaved = done == 1;
	d->unsaved = d->unsaved && !save(d);
}

/* How many are due; -1 where it ends. */
static int
steps_due(const struct producer *p, int64_t now_ms)
{

	if (p->source->ended != NULL && p->source->ended(p->state))
		return (-1);
	return (producer_pace_due(&pace, now_ms, p->interval_ms,
	    p->source->made(p->state)));
}

static void
step(struct direct *d)
{

	switch (producer_settings.delivery) {
	case KAFKA_AT_MOST_ONCE:
		step_at_most_once(d);
		break;
	case KAFKA_TRANSACTIONAL:
		step_transactional(d);
		break;
	default:
		step_at_least_once(d);
	}
}

static void *
direct_thread(void *arg)
{
	struct direct *d = arg;
	const int64_t interval_us = d->p->interval_ms * 1000;
	struct mr_error err;
	int64_t next_us, now_us;
	int due;

	if (!save(d))
		return (NULL);
	next_us = clock_mono_us();
	while (!d->stopping) {
		producer_report_progress();
		if ((now_us = clock_mono_us()) < next_us) {
			pause_for(d, (next_us - now_us + 999) / 1000);
			continue;
		}
		/* When late, no burst to catch up. */
		next_us = next_us + interval_us > now_us ?
		    next_us + interval_us :
		    now_us + interval_us;
		if ((due = steps_due(d->p, clock_wall_ms())) == -1) {
			wait_for_reports(d);
			stream_stop(d->s);
			break;
		}
		d->p->source->step(d->p->state, clock_wall_ms(), due);
		step(d);
		pause_for(d, 0);
	}
	if (kafka_producer_flush(d->producer,
		(int)stream_settings(d->s)->drain_ms, &err) != 0)
		log_warn("stopped with records on their way", "reason",
		    err.message);
	return (NULL);
}

static int
direct_start(const struct producer *p, struct stream *s, struct mr_error *err)
{
	struct direct *d = &direct;
	const struct stream_conf *conf = stream_settings(s);
	struct kafka_conf kafka = conf->kafka;
	int status;

	d->p = p;
	d->s = s;
	d->limit.per_second = conf->log_records_per_second;
	d->limit.burst = conf->log_records_per_second;
	if (p->source->load(p->state, stream_store(s), err) != 0)
		return (-1);
	if ((d->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) == -1)
		return (mr_error_set(err, MR_FATAL, "eventfd: %s",
		    strerror(errno)));
	/* The file's alone: whoever goes on from it takes it over. */
	snprintf(d->transactional_id, sizeof(d->transactional_id), "%s-%s",
	    stream_name(s), stream_database_id(s));
	kafka.transactional_id = d->transactional_id;
	kafka.partitioner = partitioner;
	if ((d->producer = kafka_producer_new(&kafka,
		 (enum kafka_delivery)producer_settings.delivery, on_report, d,
		 err)) == NULL)
		goto fail_fd;
	if ((status = pthread_create(&d->thread, NULL, direct_thread, d)) !=
	    0) {
		mr_error_set(err, MR_FATAL, "pthread_create: %s",
		    strerror(status));
		goto fail_producer;
	}
	d->started = 1;
	return (0);

fail_producer:
	kafka_producer_free(d->producer);
fail_fd:
	close(d->stop_fd);
	return (-1);
}

/* The stream takes no more commands; its thread, and file, are ours. */
static int
save_at_the_end(struct direct *d, struct mr_error *err)
{
	struct store *st = stream_store(d->s);

	if (store_begin(st, err) == -1)
		return (-1);
	if (d->p->source->save(d->p->state, st, err) != 0) {
		store_rollback(st);
		return (-1);
	}
	return (store_commit(st, err));
}

static void
direct_stop(struct direct *d)
{
	const uint64_t one = 1;
	struct mr_error err;

	if (!d->started)
		return;
	d->stopping = 1;
	(void)!write(d->stop_fd, &one, sizeof(one));
	pthread_join(d->thread, NULL);
	if (d->unsaved && save_at_the_end(d, &err) != 0)
		log_warn("the last step wasn't written, and will be sent again",
		    "reason", err.message);
	kafka_producer_free(d->producer);
	close(d->stop_fd);
	d->started = 0;
}

void
producer_close(void)
{

	if (!opened)
		return;
	direct_stop(&direct);
	producer_report_close();
	opened = 0;
}

int
producer_open(struct producer *p, struct stream *s, int64_t *tick_ms,
    struct mr_error *err)
{
	const int exactly_once = producer_settings.delivery ==
	    KAFKA_EXACTLY_ONCE;
	const struct producer_settings *set = &producer_settings;
	const struct kafka_batching batching = {.linger_ms = set->linger_ms,
	    .batch_bytes = set->batch_bytes,
	    .compression = set->compression < 0 ?
		NULL :
		producer_compressions[set->compression]};

	if (producer_partitioner(p, &partitioner, err) != 0)
		return (-1);
	memset(&pace, 0, sizeof(pace));
	kafka_producer_batching(&batching);
	if (p->interval_ms == 0)
		p->interval_ms = producer_pace_interval_ms(producer_rate(10));
	*tick_ms = exactly_once ? p->interval_ms : 0;
	producer_report_open(p->source->topic, exactly_once);
	opened = 1;
	return (exactly_once ? 0 : direct_start(p, s, err));
}

static int
emit_record(const struct producer_source *source, struct stream *s,
    const struct producer_record *record, struct mr_error *err)
{
	const int spread = producer_settings.partitioner == PRODUCER_SPREAD;
	const struct stream_output output = {.topic = source->topic,
	    .type = source->type,
	    .key = spread ? NULL : record->key,
	    .key_size = spread ? 0 : strlen(record->key),
	    .value = buffer_text(&record->value),
	    .value_size = record->value.length,
	    .ts_ms = record->ts_ms,
	    .partitioner = partitioner};

	if (record->value.failed)
		return (mr_error_set(err, MR_RETRY, "no memory for a record"));
	return (stream_emit(s, &output, err));
}

/* Emit what the step made; 0 or -1. */
static int
emit_step(const struct producer *p, struct stream *s, int64_t now_ms,
    struct mr_error *err)
{
	const struct producer_source *source = p->source;
	struct producer_record record;
	int64_t bytes = 0;
	int i, status = 0, count = source->count(p->state);

	for (i = 0; i < count && status == 0; i++) {
		memset(&record, 0, sizeof(record));
		source->record(p->state, i, now_ms, &record);
		bytes += (int64_t)record.value.length;
		status = emit_record(source, s, &record, err);
		buffer_free(&record.value);
	}
	if (status != 0)
		return (-1);
	producer_report_made(count, bytes);
	return (0);
}

int
producer_tick(const struct producer *p, struct stream *s, int64_t now_ms,
    struct mr_error *err)
{
	const struct producer_source *source = p->source;
	int due;

	producer_report_progress();
	if (source->load(p->state, stream_store(s), err) != 0)
		return (-1);
	if ((due = steps_due(p, now_ms)) == -1) {
		/* The lease may be one of an earlier life, killed just now. */
		if (stream_all_sent(s))
			stream_stop(s);
		return (0);
	}
	source->step(p->state, now_ms, due);
	if (emit_step(p, s, now_ms, err) == -1)
		return (-1);
	return (source->save(p->state, stream_store(s), err));
}

int
producer_command(const struct producer *p, struct stream *s,
    struct mr_error *err)
{

	if (direct.trouble.kind == MR_FATAL) {
		*err = direct.trouble;
		return (-1);
	}
	return (p->source->save(p->state, stream_store(s), err));
}
