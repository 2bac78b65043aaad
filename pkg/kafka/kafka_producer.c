#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka_internal.h"

#define HEADERS_MAX 128

struct kafka_producer {
	rd_kafka_t *client;
	rd_kafka_queue_t *queue;
	int fd;
	enum kafka_delivery delivery;
	int spent;
	int registered; /* its transactional id is its own */
	int in_flight;
	void (*on_report)(void *arg, const struct kafka_report *report);
	void *arg;
	struct log_limit limit;
	struct client_stats stats;
	kafka_partitioner *partitioner;
	_Atomic int64_t turn; /* records that it was asked about */
};

/*
 * What the caller may change.  The exactly-once producer is to be flushed
 * after each lot, which sends it at once and whole: lingering less, it would
 * send the lot's first records alone, and librdkafka's thread polls without
 * a pause while others wait behind five or more in flight (half of a core at
 * 5,000 orders a second).  The others keep no such pace, and send twice to
 * four times as fast with 1 as without.
 */
static const struct setting defaults[][6] = {
    [KAFKA_AT_MOST_ONCE] =
	{
	    {"linger.ms", "1"},
	    {"queue.buffering.max.kbytes", "16384"},
	    {"sticky.partitioning.linger.ms", "0"},
	    {"statistics.interval.ms", CLIENT_STATS_MS},
	    {NULL, NULL},
	},
    [KAFKA_AT_LEAST_ONCE] =
	{
	    {"linger.ms", "1"},
	    {"queue.buffering.max.kbytes", "16384"},
	    {"sticky.partitioning.linger.ms", "0"},
	    {"statistics.interval.ms", CLIENT_STATS_MS},
	    {NULL, NULL},
	},
    [KAFKA_EXACTLY_ONCE] =
	{
	    {"linger.ms", "50"},
	    {"queue.buffering.max.kbytes", "16384"},
	    {"sticky.partitioning.linger.ms", "0"},
	    {"statistics.interval.ms", CLIENT_STATS_MS},
	    {NULL, NULL},
	},
    [KAFKA_TRANSACTIONAL] =
	{
	    {"linger.ms", "1"},
	    {"queue.buffering.max.kbytes", "16384"},
	    {"sticky.partitioning.linger.ms", "0"},
	    /*
	     * Sending a position waits for its group's coordinator without
	     * end, and looks for another one only when a connection comes or
	     * goes (librdkafka's issues 5456 and 5511): so they go.
	     */
	    {"connections.max.idle.ms", "3000"},
	    {"statistics.interval.ms", CLIENT_STATS_MS},
	    {NULL, NULL},
	},
};

/* What a delivery promises rests on these. */
static const struct setting fixed[][10] = {
    [KAFKA_AT_MOST_ONCE] =
	{
	    {"acks", "0"},
	    {"retries", "0"},
	    {"message.timeout.ms", "30000"},
	    {"partitioner", "murmur2_random"},
	    {NULL, NULL},
	},
    [KAFKA_AT_LEAST_ONCE] =
	{
	    {"acks", "all"},
	    {"max.in.flight", "1"},
	    {"message.timeout.ms", "0"},
	    {"partitioner", "murmur2_random"},
	    {NULL, NULL},
	},
    [KAFKA_EXACTLY_ONCE] =
	{
	    {"enable.idempotence", "true"},
	    {"enable.gapless.guarantee", "true"},
	    {"acks", "all"},
	    {"max.in.flight", "1"},
	    {"message.timeout.ms", "0"},
	    /* An outbox's row is within 1,000,000 bytes without its headers,
	     * which the library counts; a topic takes 1,048,588. */
	    {"message.max.bytes", "1020000"},
	    {"partitioner", "murmur2_random"},
	    {NULL, NULL},
	},
    [KAFKA_TRANSACTIONAL] =
	{
	    {"enable.idempotence", "true"},
	    {"acks", "all"},
	    {"max.in.flight", "1"},
	    /* Readers wait that long for a producer that died. */
	    {"transaction.timeout.ms", "10000"},
	    {"message.timeout.ms", "10000"},
	    {"message.max.bytes", "1020000"}, /* an outbox's row, as above */
	    {"partitioner", "murmur2_random"},
	    {NULL, NULL},
	},
};

static char linger_ms[24], batch_bytes[24];
static struct setting batches[] = {
    {"linger.ms", NULL},
    {"batch.size", NULL},
    {"compression.type", NULL},
    {NULL, NULL},
};

void
kafka_producer_batching(const struct kafka_batching *batching)
{

	snprintf(linger_ms, sizeof(linger_ms), "%lld",
	    (long long)batching->linger_ms);
	snprintf(batch_bytes, sizeof(batch_bytes), "%lld",
	    (long long)batching->batch_bytes);
	batches[0].value = batching->linger_ms >= 0 ? linger_ms : NULL;
	batches[1].value = batching->batch_bytes >= 0 ? batch_bytes : NULL;
	batches[2].value = batching->compression;
}

static void
take_report(rd_kafka_t *client, const rd_kafka_message_t *msg, void *opaque)
{
	struct kafka_producer *producer = opaque;
	struct kafka_report report = {
	    .tag = msg->_private,
	    .topic = rd_kafka_topic_name(msg->rkt),
	    .partition = msg->partition,
	    .offset = msg->offset >= 0 ? msg->offset : -1,
	    .latency_us = rd_kafka_message_latency(msg),
	    .kind = client_error_kind(msg->err),
	    .too_large = msg->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
		msg->err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
	};

	(void)client;
	producer->in_flight--;
	if (report.kind != MR_OK) {
		/* What comes after a failed record is the next producer's. */
		if (report.kind == MR_FATAL)
			report.kind = MR_RETRY;
		report.offset = -1;
		report.reason = rd_kafka_err2str(msg->err);
		if (producer->delivery == KAFKA_EXACTLY_ONCE)
			producer->spent = 1;
	}
	if (producer->on_report != NULL)
		producer->on_report(producer->arg, &report);
}

static void
take_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
	struct kafka_producer *producer = opaque;
	char why[240], text[400];
	int64_t suppressed;

	/* Why each is down was told before. */
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		return;
	if (code == RD_KAFKA_RESP_ERR__FATAL) {
		producer->spent = 1;
		if (rd_kafka_fatal_error(client, why, sizeof(why)) != 0)
			reason = why;
	}
	client_tls_explain(reason, text, sizeof(text));
	if (log_limit_take(&producer->limit, &suppressed))
		log_warn("kafka producer", "error", text, "code",
		    rd_kafka_err2name((rd_kafka_resp_err_t)code), "suppressed",
		    log_i64(suppressed));
}

static int
take_stats(rd_kafka_t *client, char *text, size_t size, void *opaque)
{
	struct kafka_producer *producer = opaque;

	(void)client;
	client_stats_take(&producer->stats, text, size);
	return (0); /* librdkafka frees the text */
}

/* One that isn't there fails the record. */
static int32_t
take_partition(const rd_kafka_topic_t *topic, const void *key, size_t size,
    int32_t partitions, void *opaque, void *tag)
{
	struct kafka_producer *producer = opaque;
	int64_t turn = atomic_fetch_add(&producer->turn, 1);

	(void)topic, (void)tag;
	return (producer->partitioner(key, size, turn, partitions));
}

static void
set_partitioner(struct kafka_producer *producer, rd_kafka_conf_t *settings)
{
	rd_kafka_topic_conf_t *topic;

	if (producer->partitioner == NULL)
		return;
	topic = rd_kafka_conf_get_default_topic_conf(settings);
	rd_kafka_topic_conf_set_opaque(topic, producer);
	rd_kafka_topic_conf_set_partitioner_cb(topic, take_partition);
}

struct kafka_producer *
kafka_producer_new(const struct kafka_conf *conf, enum kafka_delivery delivery,
    void (*on_report)(void *arg, const struct kafka_report *report), void *arg,
    struct mr_error *err)
{
	const struct setting transactions[] = {
	    {"transactional.id",
		delivery == KAFKA_TRANSACTIONAL ? conf->transactional_id :
						  NULL},
	    {NULL, NULL},
	};
	struct kafka_producer *producer;
	rd_kafka_conf_t *settings;

	if ((producer = calloc(1, sizeof(*producer))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	producer->delivery = delivery;
	producer->on_report = on_report;
	producer->arg = arg;
	producer->partitioner = conf->partitioner;
	producer->limit = (struct log_limit){.per_second = 1, .burst = 5};
	if ((producer->fd = client_wake_new(err)) == -1)
		goto fail_producer;
	settings = client_conf_new(conf, defaults[delivery], fixed[delivery],
	    producer, err);
	if (settings == NULL)
		goto fail_fd;
	if (client_conf_set(settings, batches, err) != 0 ||
	    client_conf_set(settings, transactions, err) != 0) {
		rd_kafka_conf_destroy(settings);
		goto fail_fd;
	}
	set_partitioner(producer, settings);
	rd_kafka_conf_set_dr_msg_cb(settings, take_report);
	rd_kafka_conf_set_error_cb(settings, take_error);
	rd_kafka_conf_set_stats_cb(settings, take_stats);
	client_stats_init(&producer->stats, "producer");
	producer->client = client_new(RD_KAFKA_PRODUCER, settings, err);
	if (producer->client == NULL)
		goto fail_fd;
	producer->queue = rd_kafka_queue_get_main(producer->client);
	client_watch(producer->queue, producer->fd);
	return (producer);
fail_fd:
	close(producer->fd);
fail_producer:
	free(producer);
	return (NULL);
}

void
kafka_producer_free(struct kafka_producer *producer)
{

	if (producer == NULL)
		return;
	/* The descriptor goes last: librdkafka's threads may write to it. */
	producer->on_report = NULL;
	rd_kafka_queue_io_event_enable(producer->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(producer->queue);
	rd_kafka_purge(producer->client,
	    RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_destroy(producer->client);
	close(producer->fd);
	free(producer);
}

int
kafka_producer_fd(const struct kafka_producer *producer)
{

	return (producer->fd);
}

static int
send_failed(struct kafka_producer *producer, rd_kafka_error_t *error,
    const char *topic, int partition, struct mr_error *err)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);

	if (code == RD_KAFKA_RESP_ERR__FATAL)
		producer->spent = 1;
	mr_error_set(err, client_error_kind(code), "can't send to %s [%d]: %s",
	    topic, partition, rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return (-1);
}

int
kafka_producer_send(struct kafka_producer *producer, const char *topic,
    int partition, const void *key, size_t key_size, const void *value,
    size_t value_size, const struct kafka_header *headers, int header_count,
    int64_t ts_ms, void *tag, struct mr_error *err)
{
	/* Ten thousand bytes, of which the compiler would set each to zero. */
	__attribute__((uninitialized)) rd_kafka_vu_t parts[7 + HEADERS_MAX];
	rd_kafka_error_t *error;
	size_t n = 0;
	int i;

	if (producer->spent)
		return (mr_error_set(err, MR_FATAL,
		    "this producer is spent: make a new one"));
	if (header_count > HEADERS_MAX)
		return (mr_error_set(err, MR_REJECT,
		    "can't send to %s: %d headers; at most %d can be", topic,
		    header_count, HEADERS_MAX));
	parts[n].vtype = RD_KAFKA_VTYPE_TOPIC;
	parts[n++].u.cstr = topic;
	parts[n].vtype = RD_KAFKA_VTYPE_PARTITION;
	parts[n++].u.i32 = partition;
	parts[n].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	parts[n++].u.i = RD_KAFKA_MSG_F_COPY;
	parts[n].vtype = RD_KAFKA_VTYPE_KEY;
	parts[n].u.mem.ptr = client_unconst(key);
	parts[n++].u.mem.size = key_size;
	parts[n].vtype = RD_KAFKA_VTYPE_VALUE;
	parts[n].u.mem.ptr = client_unconst(value);
	parts[n++].u.mem.size = value_size;
	parts[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
	parts[n++].u.i64 = ts_ms;
	parts[n].vtype = RD_KAFKA_VTYPE_OPAQUE;
	parts[n++].u.ptr = tag;
	for (i = 0; i < header_count; i++, n++) {
		parts[n].vtype = RD_KAFKA_VTYPE_HEADER;
		parts[n].u.header.name = headers[i].name;
		parts[n].u.header.val = headers[i].value;
		parts[n].u.header.size = (ssize_t)headers[i].size;
	}
	error = rd_kafka_produceva(producer->client, parts, n);
	if (error != NULL)
		return (send_failed(producer, error, topic, partition, err));
	producer->in_flight++;
	return (0);
}

int
kafka_producer_poll(struct kafka_producer *producer, int timeout_ms)
{

	client_wake_clear(producer->fd);
	return (rd_kafka_poll(producer->client, timeout_ms));
}

int
kafka_producer_flush(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{

	rd_kafka_flush(producer->client, timeout_ms);
	if (producer->in_flight > 0)
		return (mr_error_set(err, MR_RETRY,
		    "%d records have no report after %d ms",
		    kafka_producer_in_flight(producer), timeout_ms));
	return (0);
}

int
kafka_producer_in_flight(const struct kafka_producer *producer)
{

	return (producer->in_flight);
}

/* ---- transactions --------------------------------------------------------- */

/* Say what a call about a transaction failed by; takes ${error}.  -1. */
static int
transaction_failed(struct kafka_producer *producer, rd_kafka_error_t *error,
    const char *what, struct mr_error *err)
{
	const rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	enum mr_error_kind kind = MR_RETRY;
	const char *why;

	if (code == RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION ||
	    code == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE ||
	    code == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED) {
		why = rd_kafka_error_string(error);
		if (strstr(why, "Broker: ") != NULL) /* what it says itself */
			why = strstr(why, "Broker: ");
		mr_error_set(err, MR_REJECT,
		    "can't %s: %.100s; use Apache Kafka, or another --delivery",
		    what, why);
		rd_kafka_error_destroy(error);
		return (-1);
	}
	if (rd_kafka_error_is_fatal(error)) {
		producer->spent = 1;
		kind = MR_FATAL;
	} else if (!rd_kafka_error_is_retriable(error) &&
	    !rd_kafka_error_txn_requires_abort(error))
		kind = client_error_kind(code);
	mr_error_set(err, kind, "can't %s: %s", what,
	    rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return (-1);
}

int
kafka_producer_register(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	rd_kafka_error_t *error;

	if (producer->registered)
		return (0);
	error = rd_kafka_init_transactions(producer->client, timeout_ms);
	if (error != NULL)
		return (transaction_failed(producer, error,
		    "register for transactions", err));
	producer->registered = 1;
	return (0);
}

int
kafka_producer_begin(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	rd_kafka_error_t *error;

	if (kafka_producer_register(producer, timeout_ms, err) == -1)
		return (-1);
	if ((error = rd_kafka_begin_transaction(producer->client)) != NULL)
		return (transaction_failed(producer, error,
		    "begin a transaction", err));
	return (0);
}

/* What came of a step towards the commit: 1, 0 if there is only to abort, -1. */
static int
transaction_step(struct kafka_producer *producer, rd_kafka_error_t *error,
    const char *what, struct mr_error *err)
{
	int to_abort;

	if (error == NULL)
		return (1);
	/* Asked for in this order: one that is fatal may say both. */
	to_abort = !rd_kafka_error_is_fatal(error) &&
	    rd_kafka_error_txn_requires_abort(error);
	(void)transaction_failed(producer, error, what, err);
	return (to_abort ? 0 : -1);
}

int
kafka_producer_send_position(struct kafka_producer *producer, const char *group,
    const struct kafka_position *position, const char *metadata, int timeout_ms,
    struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_topic_partition_t *entry;
	rd_kafka_consumer_group_metadata_t *member;
	rd_kafka_error_t *error;

	list = rd_kafka_topic_partition_list_new(1);
	entry = rd_kafka_topic_partition_list_add(list, position->topic,
	    position->partition);
	entry->offset = position->offset;
	/* The list frees it, by rd_free, which is free. */
	if (metadata != NULL && (entry->metadata = strdup(metadata)) != NULL)
		entry->metadata_size = strlen(metadata);
	if (metadata != NULL && entry->metadata == NULL) {
		rd_kafka_topic_partition_list_destroy(list);
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	}
	member = rd_kafka_consumer_group_metadata_new(group);
	error = rd_kafka_send_offsets_to_transaction(producer->client, list,
	    member, timeout_ms);
	rd_kafka_consumer_group_metadata_destroy(member);
	rd_kafka_topic_partition_list_destroy(list);
	return (transaction_step(producer, error,
	    "send a position with a transaction", err));
}

int
kafka_producer_commit(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{

	return (transaction_step(producer,
	    rd_kafka_commit_transaction(producer->client, timeout_ms),
	    "commit a transaction", err));
}

int
kafka_producer_abort(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	rd_kafka_error_t *error;

	error = rd_kafka_abort_transaction(producer->client, timeout_ms);
	return (error == NULL ? 0 :
				transaction_failed(producer, error,
				    "abort a transaction", err));
}
