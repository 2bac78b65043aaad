/*
 * direct -- producing beside the stream.
 *
 * The thread owns a Kafka producer; the file's state is written for it by the
 * stream, as a command.  It waits for the stream, and so for the broker and
 * its topic, at its first command.
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
#include "metrics/metrics.h"

#include "price-producer.h"

#define IN_FLIGHT_MOST 512
#define SAVE_DEADLINE_MS 10000
#define WAIT_MS 1000 /* before something that failed is tried again */

/* A record on its way, for the log line when its fate is known. */
struct sent {
	int busy;
	int64_t ts_ms;
	char key[EVENT_SYMBOL_SIZE];
	char value[160];
};

struct direct {
	struct stream *s;
	pthread_t thread;
	int started;
	int stop_fd;
	_Atomic int stopping;
	struct kafka_producer *producer;
	struct walk walk;
	struct sent sent[IN_FLIGHT_MOST]; /* a ring */
	int next_sent;
	int failed; /* records not acknowledged, since it was cleared */
	struct log_limit limit;
	struct metric *delivered;
	struct metric *undelivered;
};

static struct direct direct;

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
		metric_add(d->undelivered, 1);
		if (log_limit_take(&d->limit, &suppressed))
			log_warn("not delivered", "topic", report->topic, "key",
			    sent->key, "value", sent->value, "reason",
			    report->reason, "lines_left_out",
			    log_i64(suppressed));
		return;
	}
	metric_add(d->delivered, 1);
	if (log_limit_take(&d->limit, &suppressed))
		log_info("delivered", "topic", report->topic, "partition",
		    log_i64(report->partition), "offset",
		    log_i64(report->offset), "timestamp_ms",
		    log_i64(sent->ts_ms), "key", sent->key, "value",
		    sent->value, "latency_us", log_i64(report->latency_us),
		    "headers", "content-type=application/json",
		    "lines_left_out", log_i64(suppressed));
}

/* 0, or -1: RETRY when too much is on its way. */
static int
send_price(struct direct *d, const struct price_event *event,
    struct mr_error *err)
{
	static const struct kafka_header header = {"content-type",
	    "application/json", 16};
	struct sent *sent = &d->sent[d->next_sent];
	struct buffer value = {0};
	int status = -1;

	if (sent->busy)
		return (mr_error_set(err, MR_RETRY,
		    "%d records are on their way already", IN_FLIGHT_MOST));
	price_event_encode(event, &value);
	if (value.failed) {
		mr_error_set(err, MR_RETRY, "no memory for an event");
		goto done;
	}
	sent->ts_ms = event->ts_ms;
	memcpy(sent->key, event->symbol, sizeof(sent->key));
	snprintf(sent->value, sizeof(sent->value), "%s", buffer_text(&value));
	status = kafka_producer_send(d->producer, PRICES_TOPIC, -1, sent->key,
	    strlen(sent->key), value.data, value.length, &header, 1,
	    event->ts_ms, sent, err);
	if (status == 0) {
		sent->busy = 1;
		d->next_sent = (d->next_sent + 1) % IN_FLIGHT_MOST;
	}
done:
	buffer_free(&value);
	return (status);
}

/* What can't be handed over counts as failed. */
static void
send_prices(struct direct *d)
{
	struct price_event event;
	struct mr_error err;
	int64_t now_ms = clock_wall_ms(), suppressed;
	int i;

	for (i = 0; i < d->walk.symbol_count; i++) {
		walk_event(&d->walk, i, now_ms, &event);
		if (send_price(d, &event, &err) == 0)
			continue;
		d->failed++;
		metric_add(d->undelivered, 1);
		if (log_limit_take(&d->limit, &suppressed))
			log_warn("not sent", "topic", PRICES_TOPIC, "key",
			    event.symbol, "reason", err.message,
			    "lines_left_out", log_i64(suppressed));
	}
}

/* Write the state, trying until it is done or we are to stop: 1 if it is. */
static int
save(struct direct *d)
{
	const struct stream_call call = {.kind = PRICE_PRODUCER_SAVE,
	    .input = &d->walk,
	    .deadline_ms = SAVE_DEADLINE_MS};
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

/* Write, then send: a crash in between loses a tick. */
static void
tick_at_most_once(struct direct *d)
{

	if (save(d))
		send_prices(d);
}

/* Send until all of it is acknowledged, then write: a crash in between sends
 * a tick again. */
static void
tick_at_least_once(struct direct *d)
{

	do {
		d->failed = 0;
		send_prices(d);
		while (
		    kafka_producer_in_flight(d->producer) > 0 && !d->stopping)
			pause_for(d, WAIT_MS);
		if (d->failed > 0)
			pause_for(d, WAIT_MS);
	} while (d->failed > 0 && !d->stopping);
	if (!d->stopping)
		save(d);
}

static void *
direct_thread(void *arg)
{
	struct direct *d = arg;
	const int64_t interval_us = settings.walk.interval_ms * 1000;
	struct mr_error err;
	int64_t next_us, now_us;

	if (!save(d))
		return (NULL);
	next_us = clock_mono_us();
	while (!d->stopping) {
		if ((now_us = clock_mono_us()) < next_us) {
			pause_for(d, (next_us - now_us + 999) / 1000);
			continue;
		}
		/* When late, no burst to catch up. */
		next_us = next_us + interval_us > now_us ?
		    next_us + interval_us :
		    now_us + interval_us;
		walk_step(&d->walk, &settings.walk);
		if (settings.delivery == KAFKA_AT_MOST_ONCE)
			tick_at_most_once(d);
		else
			tick_at_least_once(d);
		pause_for(d, 0);
	}
	if (kafka_producer_flush(d->producer,
		(int)stream_settings(d->s)->drain_ms, &err) != 0)
		log_warn("stopped with records on their way", "reason",
		    err.message);
	return (NULL);
}

int
direct_start(struct stream *s, struct mr_error *err)
{
	struct direct *d = &direct;
	const struct stream_conf *conf = stream_settings(s);
	int status;

	d->s = s;
	d->limit.per_second = conf->log_records_per_second;
	d->limit.burst = conf->log_records_per_second;
	d->delivered = metrics_counter("millrace_direct_delivered_total",
	    "topic=\"" PRICES_TOPIC "\"",
	    "Records produced directly that Kafka acknowledged.");
	d->undelivered = metrics_counter("millrace_direct_undelivered_total",
	    "topic=\"" PRICES_TOPIC "\"",
	    "Tries to produce a record directly that failed.");
	if (walk_load(&d->walk, &settings.walk, stream_store(s), err) != 0)
		return (-1);
	if ((d->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) == -1)
		return (mr_error_set(err, MR_FATAL, "eventfd: %s",
		    strerror(errno)));
	if ((d->producer = kafka_producer_new(&conf->kafka,
		 (enum kafka_delivery)settings.delivery, on_report, d, err)) ==
	    NULL)
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

void
direct_stop(void)
{
	struct direct *d = &direct;
	const uint64_t one = 1;

	if (!d->started)
		return;
	d->stopping = 1;
	(void)!write(d->stop_fd, &one, sizeof(one));
	pthread_join(d->thread, NULL);
	kafka_producer_free(d->producer);
	close(d->stop_fd);
	d->started = 0;
}
