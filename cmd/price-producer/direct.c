#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/signals.h"
#include "metrics/metrics.h"

#include "price-producer.h"

#define IN_FLIGHT_MOST 512
#define ASK_TIMEOUT_MS 5000
#define WAIT_MS 2000 /* between two tries to reach the broker */

/* A record on its way, for the log line when its fate is known. */
struct sent {
	int busy;
	int64_t ts_ms;
	char key[EVENT_SYMBOL_SIZE];
	char value[160];
};

struct direct {
	const struct stream_conf *conf;
	struct store *st;
	int signal_fd;
	int stopping;
	struct kafka_producer *producer;
	struct sent sent[IN_FLIGHT_MOST];
	int next_sent;
	int failed; /* reports other than "acknowledged" since it was cleared */
	struct log_limit limit;
	struct metric *produced;
	struct metric *lost;
};

static _Atomic int is_ready;

int
direct_ready(void *arg, char *reason, size_t reason_size)
{

	(void)arg;
	if (is_ready)
		return (1);
	snprintf(reason, reason_size, "the broker was not reached yet");
	return (0);
}

/* Sleep, at most ${timeout_ms}, until there is something to do. */
static void
pause_for(struct direct *d, int64_t timeout_ms)
{
	struct pollfd fds[2] = {
	    {.fd = d->signal_fd, .events = POLLIN},
	    {.fd = d->producer == NULL ? -1 : kafka_producer_fd(d->producer),
		.events = POLLIN},
	};

	if (timeout_ms > 0 && !d->stopping)
		(void)poll(fds, 2, (int)timeout_ms);
	if (signals_take(d->signal_fd))
		d->stopping = 1;
	if (d->producer != NULL)
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
		metric_add(d->lost, 1);
		log_warn("price not delivered", "topic", report->topic, "key",
		    sent->key, "reason", report->reason);
		return;
	}
	metric_add(d->produced, 1);
	if (!log_limit_take(&d->limit, &suppressed))
		return;
	log_info("price delivered", "topic", report->topic, "partition",
	    log_i64(report->partition), "offset", log_i64(report->offset),
	    "timestamp", log_i64(sent->ts_ms), "headers",
	    "content-type=application/json", "key", sent->key, "value",
	    sent->value, "latency_us", log_i64(report->latency_us),
	    "not_logged", log_i64(suppressed));
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

static int
send_prices(struct direct *d, const struct walk *walk, struct mr_error *err)
{
	struct price_event event;
	int64_t now_ms = clock_wall_ms();
	int i;

	for (i = 0; i < walk->symbol_count; i++) {
		walk_event(walk, i, now_ms, &event);
		if (send_price(d, &event, err) != 0)
			return (-1);
	}
	return (0);
}

static int
save(struct direct *d, const struct walk *walk, struct mr_error *err)
{

	if (store_begin(d->st, err) != 0)
		return (-1);
	if (walk_save(walk, d->st, err) != 0) {
		store_rollback(d->st);
		return (-1);
	}
	return (store_commit(d->st, err));
}

/* Write first, then send: a crash in between loses a tick. */
static int
tick_at_most_once(struct direct *d, struct walk *walk, struct mr_error *err)
{

	walk_step(walk, &settings.walk);
	if (save(d, walk, err) != 0)
		return (-1);
	if (send_prices(d, walk, err) == 0)
		return (0);
	if (err->kind == MR_FATAL)
		return (-1);
	metric_add(d->lost, 1);
	log_warn("prices not sent", "reason", err->message);
	return (0);
}

/* Send until all of it is acknowledged, then write: a crash in between
 * sends a tick again. */
static int
tick_at_least_once(struct direct *d, struct walk *walk, struct mr_error *err)
{

	walk_step(walk, &settings.walk);
	for (;;) {
		d->failed = 0;
		if (send_prices(d, walk, err) != 0) {
			if (err->kind != MR_RETRY)
				return (-1);
			d->failed++;
		}
		while (
		    kafka_producer_in_flight(d->producer) > 0 && !d->stopping)
			pause_for(d, WAIT_MS);
		if (kafka_producer_in_flight(d->producer) > 0 &&
		    kafka_producer_flush(d->producer, (int)d->conf->drain_ms,
			err) != 0)
			return (0); /* stopping; sent again at the next start */
		if (d->failed == 0)
			return (save(d, walk, err));
		if (d->stopping)
			return (0);
		pause_for(d, WAIT_MS);
	}
}

/* Make the topic, waiting for the broker: 0, also when told to stop. */
static int
reach_broker(struct direct *d, struct mr_error *err)
{
	static const char *const topic = PRICES_TOPIC;
	struct kafka_admin *admin;
	int status;

	if ((admin = kafka_admin_new(&d->conf->kafka, err)) == NULL)
		return (-1);
	while ((status = kafka_admin_ensure(admin, &topic, 1, ASK_TIMEOUT_MS,
		    err)) != 0 &&
	    err->kind == MR_RETRY && !d->stopping) {
		log_warn("waiting for the broker", "reason", err->message);
		pause_for(d, WAIT_MS);
	}
	kafka_admin_free(admin);
	return (d->stopping ? 0 : status);
}

static int
tick_for_ever(struct direct *d, struct mr_error *err)
{
	struct walk walk;
	int64_t next_us, now_us;

	if (walk_load(&walk, &settings.walk, d->st, err) != 0)
		return (-1);
	next_us = clock_mono_us();
	while (!d->stopping) {
		if ((now_us = clock_mono_us()) < next_us) {
			pause_for(d, (next_us - now_us + 999) / 1000);
			continue;
		}
		next_us += settings.walk.interval_ms * 1000;
		if (next_us < now_us) /* late: don't catch up in a burst */
			next_us = now_us;
		if (settings.delivery == KAFKA_AT_MOST_ONCE) {
			if (tick_at_most_once(d, &walk, err) != 0)
				return (-1);
		} else if (tick_at_least_once(d, &walk, err) != 0) {
			return (-1);
		}
		pause_for(d, 0);
	}
	return (0);
}

int
direct_run(const struct stream_conf *conf, struct store *st, int signal_fd,
    struct mr_error *err)
{
	static struct direct d;
	int status = -1;

	d.conf = conf;
	d.st = st;
	d.signal_fd = signal_fd;
	d.limit.per_second = conf->log_records_per_second;
	d.limit.burst = conf->log_records_per_second;
	d.produced = metrics_counter("millrace_messages_produced_total",
	    "topic=\"" PRICES_TOPIC "\"", "Records that Kafka acknowledged.");
	d.lost = metrics_counter("millrace_messages_undelivered_total",
	    "topic=\"" PRICES_TOPIC "\"", "Records that were not delivered.");
	if (reach_broker(&d, err) != 0)
		return (-1);
	if (d.stopping)
		return (0);
	if ((d.producer = kafka_producer_new(&conf->kafka,
		 (enum kafka_delivery)settings.delivery, on_report, &d, err)) ==
	    NULL)
		return (-1);
	is_ready = 1;
	status = tick_for_ever(&d, err);
	is_ready = 0;
	if (status == 0 &&
	    kafka_producer_flush(d.producer, (int)conf->drain_ms, err) != 0)
		log_warn("stopped with records on their way", "reason",
		    err->message);
	kafka_producer_free(d.producer);
	return (status);
}
