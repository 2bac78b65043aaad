/* stream -- a service's life: open, connect, the loop, drain. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/signals.h"
#include "migrations.h"
#include "stream/internal.h"

#define SLEEP_MOST_MS 10000
#define LOOK_ROUND_US INT64_C(10000)
#define LOOK_IN_US INT64_C(1000) /* for records, while commands wait */
#define CONNECT_EVERY_MS 250
#define SETTLE_DELAY_US 400000
#define PEEK_EVERY_US 2000000
#define POLLED_MOST 256
#define IN_HAND_BYTES ((int64_t)8 * 1024 * 1024) /* at which polling ends */

/* ---- settings -------------------------------------------------------------- */

const struct config_option *
stream_options(struct stream_conf *conf)
{
	static const char *const ways[] = {"idempotent", "transactional", NULL};
	static struct config_option table[13];
	int n = 0;

#define OPTION(name_, kind_, field, fallback_, least_, most_, help_) \
	table[n++] = (struct config_option){.name = (name_),         \
	    .kind = (kind_),                                         \
	    .target = &conf->field,                                  \
	    .fallback = (fallback_),                                 \
	    .least = (least_),                                       \
	    .most = (most_),                                         \
	    .help = (help_)}
	OPTION("db", CONFIG_TEXT, db_path, NULL, 0, 0,
	    "the file with all state; its folder must exist");
	OPTION("batch-records", CONFIG_INT, batch_records, "500", 1, 10000,
	    "records in a transaction, at most");
	OPTION("batch-ms", CONFIG_DURATION, batch_ms, "20ms", 1, 1000,
	    "time spent applying in a transaction, about");
	OPTION("outbox-most", CONFIG_INT, outbox_most, "100000", 1000, 1e8,
	    "rows waiting for Kafka above which nothing new is taken");
	OPTION("retry-ms", CONFIG_DURATION, retry_ms, "100ms", 1, 30000,
	    "first pause before a record is tried again; doubles to 30 s");
	OPTION("keep-idempotency-keys", CONFIG_DURATION, idempotency_ms, "24h",
	    1000, 1e12, "how long a repeated request is recognised");
	OPTION("keep-dead-letters", CONFIG_DURATION, dead_letter_ms, "720h",
	    1000, 1e12, "how long the row of a dead letter is kept");
	OPTION("upgrade-backups", CONFIG_INT, upgrade_backups, "2", 0, 1000,
	    "copies of the file, made before it is migrated, that are kept");
	OPTION("log-records-per-second", CONFIG_INT, log_records_per_second,
	    "20", 0, 1e6, "log lines about records; more are left out");
	OPTION("drain-ms", CONFIG_DURATION, drain_ms, "5s", 0, 60000,
	    "time to finish and relay when told to stop");
	OPTION("relay", CONFIG_CHOICE, relay, "idempotent", 0, 0,
	    "how records reach Kafka: idempotent, or transactional, for "
	    "readers that aren't Millrace's");
	table[n - 1].choices = ways;
#undef OPTION
	table[0].group = "State and stream";
	table[n] = (struct config_option){.name = NULL};
	return (table);
}

/* ---- status ---------------------------------------------------------------- */

void
stream_set_status(struct stream *s, const char *format, ...)
{
	va_list ap;

	pthread_mutex_lock(&s->status_lock);
	va_start(ap, format);
	vsnprintf(s->status, sizeof(s->status), format, ap);
	va_end(ap);
	pthread_mutex_unlock(&s->status_lock);
}

/* 1 and why, if the relay is halted. */
static int
relay_is_halted(struct stream *s, char why[HALT_REASON_SIZE])
{
	pthread_mutex_lock(&s->relay.lock);
	memcpy(why, s->relay.halted, HALT_REASON_SIZE);
	pthread_mutex_unlock(&s->relay.lock);
	return (why[0] != '\0');
}

static void
status_holding(struct stream *s)
{
	int64_t depth = s->outbox_last - s->outbox_first + 1;
	char trouble[HALT_REASON_SIZE];

	pthread_mutex_lock(&s->relay.lock);
	snprintf(trouble, sizeof(trouble), "%s", s->relay.trouble);
	pthread_mutex_unlock(&s->relay.lock);
	stream_set_status(s,
	    "%lld records wait for Kafka, above --outbox-most%s%s",
	    (long long)depth, trouble[0] == '\0' ? "" : ": ", trouble);
}

/* What keeps us from being ready, if anything. */
static void
status_refresh(struct stream *s)
{
	const struct partition *p;
	char why[HALT_REASON_SIZE];
	int i, halted = relay_is_halted(s, why);

	metric_set(s->m_relay_halted, halted);
	if (s->store_backoff_ms > 0)
		goto done; /* said by the batch that failed */
	for (i = 0; i < s->partition_count; i++) {
		p = s->partitions[i];
		if (p->state == PARTITION_HALTED) {
			stream_set_status(s, "%s/%d is halted: %s%s%s",
			    s->inputs[p->input], p->number, p->halted_by,
			    halted ? "; so is the relay: " : "", why);
			goto done;
		}
		if (p->state == PARTITION_UNVERIFIED) {
			stream_set_status(s, "%s/%d is not verified yet%s%s",
			    s->inputs[p->input], p->number,
			    halted ? "; the relay is halted: " : "", why);
			goto done;
		}
		if (p->silent_end != -1) {
			stream_set_status(s,
			    "nothing comes of %s/%d from offset %lld on, though "
			    "it ends at %lld; the broker's log may say why%s%s",
			    s->inputs[p->input], p->number,
			    (long long)p->fetch_next, (long long)p->silent_end,
			    halted ? "; the relay is halted: " : "", why);
			goto done;
		}
	}
	if (s->input_count > 0 && !s->assigned_once)
		stream_set_status(s, "waiting for the first rebalance");
	else if (why[0] != '\0')
		stream_set_status(s, "the relay is halted: %s", why);
	else if (s->holding)
		status_holding(s);
	else
		stream_set_status(s, "%s", "");
done:
	metric_set(s->m_ready, s->status[0] == '\0');
	metric_set(s->m_health, s->status[0] == '\0');
}

int
stream_ready(struct stream *s, char *reason, size_t reason_size)
{
	int ready;

	pthread_mutex_lock(&s->status_lock);
	ready = s->status[0] == '\0';
	snprintf(reason, reason_size, "%s", s->status);
	pthread_mutex_unlock(&s->status_lock);
	return (ready);
}

int
stream_alive(struct stream *s, char *reason, size_t reason_size)
{
	int64_t age_us = clock_mono_us() - atomic_load(&s->heartbeat_us);

	if (age_us < 30000000)
		return (1);
	snprintf(reason, reason_size, "the loop has not come round for %lld s",
	    (long long)(age_us / 1000000));
	return (0);
}

/* ---- small accessors ------------------------------------------------------- */

struct store *
stream_store(struct stream *s)
{
	return (s->st);
}

const struct stream_conf *
stream_settings(const struct stream *s)
{
	return (s->conf);
}

void
stream_set_data(struct stream *s, void *data)
{
	s->data = data;
}

void *
stream_data(struct stream *s)
{
	return (s->data);
}

int64_t *
stream_note(struct stream *s)
{
	return (&s->note);
}

const char *
stream_name(const struct stream *s)
{
	return (s->svc->name);
}

const char *
stream_db_path(const struct stream *s)
{
	return (s->db_path);
}

const char *
stream_database_id(const struct stream *s)
{

	return (s->database_id);
}

/* Packed into the transaction's buffer; batch.c writes the lines. */
void
stream_say(struct stream *s, const char *message, ...)
{
	const char *words[13];
	const char *word = message;
	unsigned char count = 0, i;
	va_list ap;

	va_start(ap, message);
	while (word != NULL && count < 13) {
		words[count++] = word;
		word = va_arg(ap, const char *);
		if (word == NULL && count % 2 == 0)
			word = ""; /* a value may be missing, a key not */
	}
	va_end(ap);
	buffer_add(&s->said, &count, 1);
	for (i = 0; i < count; i++)
		buffer_add(&s->said, words[i], strlen(words[i]) + 1);
}

/* ---- making one ------------------------------------------------------------ */

static int
topics_list(struct stream *s, struct mr_error *err)
{
	const char *const *name;

	for (name = s->svc->inputs; name != NULL && *name != NULL; name++) {
		if (s->input_count == TOPICS_MOST)
			return (mr_error_set(err, MR_FATAL,
			    "more than %d inputs", TOPICS_MOST));
		s->inputs[s->input_count++] = *name;
	}
	for (name = s->svc->outputs; name != NULL && *name != NULL; name++) {
		if (s->output_count == TOPICS_MOST - 1)
			return (mr_error_set(err, MR_FATAL,
			    "more than %d outputs", TOPICS_MOST - 1));
		s->outputs[s->output_count++].topic = *name;
	}
	if (s->input_count > 0) {
		snprintf(s->dead_letter_topic, sizeof(s->dead_letter_topic),
		    "%s.dead-letter", s->svc->name);
		s->outputs[s->output_count++].topic = s->dead_letter_topic;
	}
	return (0);
}

static struct metric *
topic_counter(const char *name, const char *topic, const char *help)
{
	char labels[KAFKA_TOPIC_MAX + 32] = "";

	metrics_label(labels, sizeof(labels), "topic", topic);
	return (metrics_counter(name, labels, help));
}

static void
metrics_register(struct stream *s)
{
	struct input_metrics *m;
	int i;

	for (i = 0; i < s->input_count; i++) {
		m = &s->input_metrics[i];
		m->consumed = topic_counter("millrace_messages_consumed_total",
		    s->inputs[i], "Records whose position was committed.");
		m->skipped = topic_counter("millrace_messages_skipped_total",
		    s->inputs[i], "Records dropped as a relay's repeat.");
		m->rejected = topic_counter("millrace_dead_letters_total",
		    s->inputs[i], "Records rejected and kept as dead letters.");
		m->retried = topic_counter("millrace_messages_retried_total",
		    s->inputs[i], "Attempts that ended in trying again later.");
	}
	s->m_emitted = metrics_counter("millrace_messages_emitted_total", NULL,
	    "Records committed to the outbox.");
	s->m_apply = metrics_histogram("millrace_apply_duration_seconds", NULL,
	    "Time that a transaction's records, commands and ticks took to "
	    "apply, COMMIT not included.");
	s->m_commit = metrics_histogram("millrace_commit_duration_seconds",
	    NULL, "Time that COMMIT took, fsync included.");
	s->m_transactions = metrics_counter("millrace_transactions_total", NULL,
	    "Write transactions committed.");
	s->m_outbox_depth = metrics_gauge("millrace_outbox_depth", NULL,
	    "Records committed and not yet acknowledged by Kafka.");
	s->m_store_log = metrics_gauge("millrace_store_log_bytes", NULL,
	    "Size of the file's write-ahead log.");
	s->m_outbox_oldest = metrics_gauge("millrace_outbox_oldest_seconds",
	    NULL,
	    "How long the first row that waits for Kafka has been the first, "
	    "as this process saw it.");
	s->m_rebalances = metrics_counter("millrace_rebalances_total", NULL,
	    "Assignments and revocations by the group.");
	s->m_commands = metrics_counter("millrace_commands_total", NULL,
	    "Commands run and committed.");
	s->m_ready = metrics_gauge("millrace_ready", NULL,
	    "1 when /readyz answers 200.");
	s->m_health = metrics_gauge("millrace_health_status", NULL,
	    "The same as millrace_ready.");
	s->m_relayed = metrics_counter("millrace_messages_relayed_total", NULL,
	    "Records of the outbox acknowledged by Kafka.");
	s->m_relay_transactional = metrics_gauge("millrace_relay_transactional",
	    NULL, "1 where lots of the outbox are Kafka transactions.");
	s->m_relay_committed =
	    metrics_counter("millrace_relay_transactions_total",
		"outcome=\"committed\"",
		"Kafka transactions of the relay, by how they ended.");
	s->m_relay_aborted =
	    metrics_counter("millrace_relay_transactions_total",
		"outcome=\"aborted\"",
		"Kafka transactions of the relay, by how they ended.");
	s->m_relay_halted = metrics_gauge("millrace_relay_halted", NULL,
	    "1 while the relay waits for somebody to accept or mend what it "
	    "found.");
	s->m_produce_latency =
	    metrics_histogram("millrace_produce_latency_seconds", NULL,
		"Time from handing a record to the Kafka client to its "
		"acknowledgement.");
}

static int
relay_prepare(struct stream *s, struct mr_error *err)
{
	struct relay *r = &s->relay;

	r->s = s;
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->asking, NULL);
	r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r->news_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (r->wake_fd == -1 || r->news_fd == -1)
		return (mr_error_set(err, MR_FATAL, "eventfd: %s",
		    strerror(errno)));
	return (0);
}

static int
file_open(struct stream *s, struct mr_error *err)
{
	struct store_options options = {0};
	char bytes[16], *at;
	size_t i;

	options.path = s->db_path;
	options.service = s->svc->name;
	options.core = migrations_core;
	options.own = s->svc->migrations;
	options.keep_backups = s->conf->upgrade_backups;
	options.on_progress = s->conf->on_progress;
	if ((s->st = store_open(&options, err)) == NULL)
		return (-1);
	/* A link may lead elsewhere tomorrow: readers follow the writer. */
	snprintf(s->db_path, sizeof(s->db_path), "%s", store_path(s->st));
	clock_boot_id(s->boot_id);
	id_random_bytes(bytes, sizeof(bytes));
	for (i = 0, at = s->owner; i < sizeof(bytes); i++, at += 2)
		snprintf(at, 3, "%02x", (unsigned char)bytes[i]);
	return (database_id_load(s, err) == -1 ? -1 : declare_service(s, err));
}

static int
service_open(struct stream *s, struct mr_error *err)
{
	if (s->svc->open == NULL)
		return (0);
	if (store_begin(s->st, err) == -1)
		return (-1);
	if (s->svc->open(s, err) == -1) {
		store_rollback(s->st);
		return (-1);
	}
	return (store_commit(s->st, err));
}

struct stream *
stream_new(const struct stream_service *svc, const struct stream_conf *conf,
    struct mr_error *err)
{
	struct stream *s;

	if ((s = calloc(1, sizeof(*s))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	s->svc = svc;
	s->conf = conf;
	s->instance = conf->instance != NULL ? conf->instance : svc->name;
	s->relay.wake_fd = s->relay.news_fd = -1;
	s->version_left = -1;
	pthread_mutex_init(&s->status_lock, NULL);
	ahead_init(s);
	stream_set_status(s, "starting");
	atomic_store(&s->heartbeat_us, clock_mono_us());
	if (conf->db_path != NULL)
		snprintf(s->db_path, sizeof(s->db_path), "%s", conf->db_path);
	else
		snprintf(s->db_path, sizeof(s->db_path), "data/%s.db",
		    svc->name);
	s->commit_limit.per_second = s->commit_limit
					 .burst = conf->log_records_per_second;
	s->say_limit = s->reject_limit = s->commit_limit;
	if (svc->decode != NULL &&
	    (s->decoded = malloc(svc->decoded_size)) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		goto fail;
	}
	if (command_queue_init(&s->commands, err) == -1 ||
	    relay_prepare(s, err) == -1 || topics_list(s, err) == -1)
		goto fail;
	metrics_register(s);
	if (file_open(s, err) == -1 || service_open(s, err) == -1)
		goto fail;
	return (s);
fail:
	stream_free(s);
	return (NULL);
}

void
stream_free(struct stream *s)
{
	if (s == NULL)
		return;
	relay_stop(s);
	look_free(s);
	partition_drop_all(s);
	ahead_done(s);
	kafka_consumer_free(s->consumer);
	partition_free_all(s);
	kafka_admin_free(s->admin);
	if (s->svc->close != NULL && s->st != NULL)
		s->svc->close(s);
	store_close(s->st);
	command_queue_done(&s->commands);
	if (s->relay.wake_fd != -1)
		close(s->relay.wake_fd);
	if (s->relay.news_fd != -1)
		close(s->relay.news_fd);
	free(s->decoded);
	free(s->marks);
	free(s->tail_changes);
	buffer_free(&s->said);
	free(s);
}

/* Unless it ends already, since it can't go on. */
static void
stop_orderly(struct stream *s)
{
	int goes_on = 0;

	(void)atomic_compare_exchange_strong(&s->stopping, &goes_on, 1);
}

void
stream_stop(struct stream *s)
{
	uint64_t one = 1;

	stop_orderly(s);
	(void)!write(s->relay.news_fd, &one, sizeof(one));
}

/* ---- the loop -------------------------------------------------------------- */

static void
fd_drain(int fd)
{
	uint64_t ignored;

	(void)!read(fd, &ignored, sizeof(ignored));
}

static int
earlier(int64_t now_us, int64_t at_us, int timeout_ms)
{
	int64_t left_ms = at_us <= now_us ? 0 : (at_us - now_us + 999) / 1000;

	return (left_ms < timeout_ms ? (int)left_ms : timeout_ms);
}

static int
timeout_of(struct stream *s, int64_t partition_us)
{
	int64_t now = clock_mono_us();
	int timeout_ms = SLEEP_MOST_MS, i;

	timeout_ms = earlier(now, batch_next_tick_us(s), timeout_ms);
	if (partition_us >= 0)
		timeout_ms = earlier(now, now + partition_us, timeout_ms);
	if (s->settle_at_us != 0)
		timeout_ms = earlier(now, s->settle_at_us, timeout_ms);
	for (i = 0; i < s->partition_count; i++)
		if (s->partitions[i]->to_tell)
			timeout_ms = earlier(now, s->tell_at_us, timeout_ms);
	timeout_ms = earlier(now, s->peek_at_us, timeout_ms);
	if ((partition_ready(s) > 0 && !s->holding) ||
	    command_waiting(&s->commands) > 0)
		timeout_ms = 0;
	/* In trouble, only the pause's end can help. */
	if (now < s->resume_at_us)
		timeout_ms = earlier(now, s->resume_at_us, SLEEP_MOST_MS);
	return (timeout_ms);
}

/*
 * Sleep until something is ready; 1 if we were told to drain.  With work at
 * hand already, a look at what isn't part of it is worth its calls only so
 * often.
 */
static int
loop_sleep(struct stream *s, int signal_fd, int timeout_ms)
{
	struct pollfd fds[4];
	nfds_t count = 0;
	int64_t now = clock_mono_us();

	if (timeout_ms == 0 && now < s->look_round_us) {
		atomic_store(&s->heartbeat_us, now);
		return (atomic_load(&s->stopping));
	}
	s->look_round_us = now + LOOK_ROUND_US;
	fds[count++] = (struct pollfd){s->commands.wake_fd, POLLIN, 0};
	fds[count++] = (struct pollfd){s->relay.news_fd, POLLIN, 0};
	fds[count++] = (struct pollfd){signal_fd, POLLIN, 0};
	if (s->consumer != NULL)
		fds[count++] = (struct pollfd){kafka_consumer_fd(s->consumer),
		    POLLIN, 0};
	if (poll(fds, count, timeout_ms) > 0) {
		if (fds[0].revents & POLLIN)
			fd_drain(s->commands.wake_fd);
		if (fds[1].revents & POLLIN)
			fd_drain(s->relay.news_fd);
		if ((fds[2].revents & POLLIN) && signals_take(signal_fd))
			stop_orderly(s);
	}
	atomic_store(&s->heartbeat_us, clock_mono_us());
	return (atomic_load(&s->stopping));
}

/* The relay's news: rows to delete soon, topics that changed. */
static void
loop_news(struct stream *s)
{
	/* These and loop_take's are 40 KB, which the compiler would set to zero
	 * in each turn. */
	struct kafka_topic_state states[TOPICS_MOST]
	    __attribute__((uninitialized));
	struct group_others others[TOPICS_MOST] __attribute__((uninitialized));
	int i, count = 0;

	if (atomic_exchange(&s->relay.news, 0) == 0)
		return;
	if (s->settle_at_us == 0 &&
	    atomic_load(&s->relay.acked) > s->acked_deleted)
		s->settle_at_us = clock_mono_us() + SETTLE_DELAY_US;
	pthread_mutex_lock(&s->relay.lock);
	if (s->relay.watched_new) {
		s->relay.watched_new = 0;
		count = s->relay.watched_count;
		memcpy(states, s->relay.watched, sizeof(states));
		memcpy(others, s->relay.others, sizeof(others));
	}
	pthread_mutex_unlock(&s->relay.lock);
	if (count > 0)
		partition_compare_ids(s, states, count);
	for (i = 0; i < count; i++)
		partition_compare_group(s, i, &others[i]);
}

/*
 * Rows that nobody relays, say of an instance that died: a look every two
 * seconds, and a transaction (which takes the lease over) if there are any.
 */
static int
loop_peek(struct stream *s, struct mr_error *err)
{
	int64_t now = clock_mono_us();

	if (relay_mode_settle(s, err) == -1)
		return (-1);
	if (now < s->peek_at_us)
		return (0);
	s->peek_at_us = now + PEEK_EVERY_US;
	/*
	 * Not at each commit: a write after its file was asked for changes
	 * the time stamp (else it does every few ms, since Linux 6.13), and
	 * the commit's flush may then have the inode to write as well.
	 */
	metric_set(s->m_store_log, store_log_bytes(s->st));
	/* Another instance, told otherwise, may have changed how to relay. */
	if (output_ends(s, err) == -1 || relay_mode_read(s, err) == -1)
		return (err->kind == MR_FATAL ? -1 : 0);
	if ((s->outbox_last != 0 || relay_is_due(s)) && s->settle_at_us == 0)
		s->settle_at_us = now;
	return (0);
}

static void
loop_measure(struct stream *s)
{
	int64_t now = clock_mono_us();

	if (s->outbox_first != s->outbox_head) {
		s->outbox_head = s->outbox_first;
		s->outbox_head_since_us = now;
	}
	metric_set_f64(s->m_outbox_oldest,
	    s->outbox_last == 0 ?
		0 :
		(double)(now - s->outbox_head_since_us) / 1e6);
}

/* Above the outbox's ceiling nothing new is taken in, until half is gone. */
static void
loop_ceiling(struct stream *s)
{
	int64_t depth = s->outbox_last == 0 ?
	    0 :
	    s->outbox_last - s->outbox_first + 1;

	if (!s->holding && depth > s->conf->outbox_most) {
		s->holding = 1;
		status_holding(s); /* before anybody is refused */
		command_queue_close(&s->commands,
		    "too many records wait for Kafka");
		log_warn("outbox above its ceiling: taking nothing new",
		    "depth", log_i64(depth));
	} else if (s->holding && depth <= s->conf->outbox_most / 2) {
		s->holding = 0;
		command_queue_open(&s->commands);
		log_info("outbox below its ceiling: going on", "depth",
		    log_i64(depth));
	}
}

/*
 * Whether a batch has all that it can use: of large records fewer than it may
 * take, since what is in hand takes memory.
 */
static int
in_hand_suffices(const struct stream *s, int64_t records)
{

	return (partition_ready(s) >= records ||
	    partition_ready_bytes(s) >= IN_HAND_BYTES);
}

/* Two batches and a half, so that the thread which reads ahead may wait for a
 * processor while one and a half are applied. */
static int64_t
in_hand_least(const struct stream *s)
{

	return (5 * s->conf->batch_records / 2);
}

/* While commands wait, and no records are in hand: only so often. */
static int
look_is_due(const struct stream *s, int64_t at_us)
{

	return (partition_ready(s) > 0 || command_waiting(&s->commands) == 0 ||
	    clock_mono_us() >= at_us);
}

/* Take what has arrived, up to what batches can use. */
static void
loop_take(struct stream *s)
{
	struct kafka_record records[POLLED_MOST] __attribute__((uninitialized));
	int got, i;

	if (s->consumer == NULL || !look_is_due(s, s->take_at_us))
		return;
	s->take_at_us = clock_mono_us() + LOOK_IN_US;
	do {
		got = kafka_consumer_poll(s->consumer, records, POLLED_MOST, 0);
		for (i = 0; i < got; i++)
			partition_hold(s, &records[i]);
	} while (got == POLLED_MOST &&
	    !in_hand_suffices(s, in_hand_least(s) + s->conf->batch_records));
	ahead_go(s);
}

static int
loop_connect(struct stream *s, struct mr_error *err)
{
	int64_t now = clock_mono_us();
	int status;

	if (s->connected || now < s->peek_at_us)
		return (0);
	s->peek_at_us = now + 1000 * (int64_t)CONNECT_EVERY_MS;
	if ((status = connect_try(s, err)) == -1)
		return (-1);
	if (status == 0) {
		stream_set_status(s, "waiting for the broker: %s",
		    err->message);
		if (log_limit_take(&s->wait_limit, &(int64_t){0}))
			log_warn("waiting for the broker", "brokers",
			    s->conf->kafka.brokers, "error", err->message);
		return (0);
	}
	if (batch_schedule_ticks(s, err) == -1 || relay_start(s, err) == -1)
		return (-1);
#ifdef __GLIBC__
	/* Threads that looked back at what was sent are gone, and their arenas
	 * keep what they freed. */
	(void)malloc_trim(0);
#endif
	command_queue_open(&s->commands);
	return (0);
}

/* One batch: a backlog is no reason not to hear of signals, or of a partition
 * that is to be looked at. */
static int
loop_work(struct stream *s, struct mr_error *err)
{

	if (loop_connect(s, err) == -1)
		return (-1);
	if (!s->connected)
		return (0);
	loop_news(s);
	/* Paused, little comes, but the group must hear of us. */
	if (!in_hand_suffices(s, in_hand_least(s)) || s->holding ||
	    s->store_backoff_ms > 0)
		loop_take(s);
	if (batch_run(s, err) == -1 || loop_peek(s, err) == -1)
		return (-1);
	loop_measure(s);
	loop_ceiling(s);
	if (s->consumer != NULL && clock_mono_us() >= s->tell_at_us)
		partition_tell_group(s, 0);
	return (0);
}

int64_t
stream_unsent(const struct stream *s)
{
	int64_t acked = atomic_load(&s->relay.acked);

	if (s->outbox_last <= acked || atomic_load(&s->relay.epoch) == 0)
		return (0);
	return (s->outbox_last -
	    (acked >= s->outbox_first ? acked : s->outbox_first - 1));
}

int
stream_all_sent(const struct stream *s)
{

	return (s->outbox_last == 0 ||
	    (atomic_load(&s->relay.epoch) != 0 && stream_unsent(s) == 0));
}

/*
 * Commands that were queued still run; then the relay has until the drain's
 * end to send what is in the outbox, and lets go of it.
 */
static int
drain(struct stream *s, struct mr_error *err)
{
	int64_t until_us;
	int status = 0;

	command_queue_close(&s->commands, "the service is stopping");
	stream_set_status(s, "stopping");
	s->holding = 1;
	if (s->consumer != NULL) {
		partition_tell_group(s, 1);
		partition_drop_all(s);
		pthread_mutex_lock(&s->relay.asking);
		kafka_consumer_free(s->consumer);
		s->consumer = NULL;
		pthread_mutex_unlock(&s->relay.asking);
		partition_free_all(s);
	}
	if (!s->connected)
		return (0);
	s->peek_at_us = 0;
	until_us = clock_mono_us() + 1000 * s->conf->drain_ms;
	while (status == 0 && clock_mono_us() < until_us) {
		s->tick_every_ms[0] = s->tick_every_ms[1] = 0;
		if (batch_run(s, err) == -1 || loop_peek(s, err) == -1)
			return (-1);
		if (command_waiting(&s->commands) == 0 && stream_unsent(s) == 0)
			break;
		poll(&(struct pollfd){s->relay.news_fd, POLLIN, 0}, 1, 50);
		fd_drain(s->relay.news_fd);
	}
	relay_stop(s);
	return (batch_last(s, err));
}

/* Nobody takes from the queue any more. */
static void
turn_away(struct stream *s)
{
	command_answer_all(&s->commands,
	    command_take(&s->commands, COMMANDS_MOST),
	    &(struct mr_error){MR_RETRY, "the service is stopping"});
}

/* For how long the partitions can be left alone, in microseconds; -1: for any
 * time. */
static int64_t
loop_serve(struct stream *s)
{

	if (!s->connected)
		return (-1);
	if (!look_is_due(s, s->serve_at_us))
		return (LOOK_IN_US);
	s->serve_at_us = clock_mono_us() + LOOK_IN_US;
	return (partition_service(s));
}

int
stream_run(struct stream *s, int signal_fd, struct mr_error *err)
{
	int64_t partition_us;

	s->wait_limit.per_second = 1;
	s->wait_limit.burst = 1;
	for (;;) {
		partition_us = loop_serve(s);
		if (s->connected)
			status_refresh(s);
		if (loop_sleep(s, signal_fd, timeout_of(s, partition_us)))
			break;
		if (loop_work(s, err) == -1)
			goto fail;
	}
	if (atomic_load(&s->stopping) == 2) {
		mr_error_set(err, MR_FATAL, "the consumer can't go on");
		goto fail;
	}
	log_info("draining");
	if (s->conf->on_drain != NULL)
		s->conf->on_drain();
	if (drain(s, err) == -1)
		goto fail;
	turn_away(s);
	return (0);
fail:
	command_queue_close(&s->commands, "the service is stopping");
	stream_set_status(s, "stopping: %s", err->message);
	turn_away(s);
	err->kind = MR_FATAL;
	return (-1);
}
