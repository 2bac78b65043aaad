#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka_internal.h"

#define TOPICS_MAX 1024
#define METADATA_MAX 4000
#define AWAIT_MS 1000 /* leaders are waited for, to be sooner */
#define CALL_MS 2000 /* what librdkafka's own threads may take to answer */
#define CLOSE_MS 4000 /* to leave the group in */

/*
 * What is known of one partition.  `fresh_from` is how many records of the
 * poll that is going on were there already when the partition was last
 * revoked, assigned or sought: those of it below that are stale.
 */
struct partition {
	int64_t next; /* the offset that poll gives next, or after */
	int32_t leader_epoch; /* of the record before it; -1: not known */
	int fresh_from; /* see above */
	int suspect; /* an out-of-range report that didn't fit was retried */
	unsigned int assigned : 1;
	unsigned int fetching : 1; /* librdkafka has it assigned too */
	unsigned int paused : 1;
	unsigned int ended : 1; /* out_of_range was reported */
	unsigned int unchecked : 1; /* see epochs_check */
	unsigned int held : 1; /* see fetchers_resume */
};

struct topic {
	char name[KAFKA_TOPIC_MAX + 1];
	int index; /* the caller's */
	struct partition *partitions;
	int count;
};

struct kafka_consumer {
	rd_kafka_t *client;
	rd_kafka_queue_t *queue;
	int fd;
	int has_group;
	int is_set; /* subscribed or assigned */
	struct kafka_group_handlers handlers;
	void *arg;
	struct topic **topics; /* each stays where it is: records point there */
	int topic_count;
	struct topic *last; /* the topic of the record before */
	int collected; /* by the poll that is going on */
	int stale; /* some of those may be */
	int unchecked, held; /* some partitions are */
	int said_fatal;
	int committing; /* commits without an answer yet */
	int64_t commit_failures;
	struct client_stats stats;
};

/*
 * What the caller may change.  The fetch limits: a million records of 120
 * bytes, worked off at 300,000 a second, took 13 MiB of memory at the most;
 * librdkafka's own limits took 65, and were 1.3 times as fast only when the
 * reader did nothing with the records (1.0 million a second).
 * fetch.max.bytes can't be below message.max.bytes.  While the queue is full
 * librdkafka looks every fetch.queue.backoff.ms whether it still is, and what is
 * in it lasts longer than five.
 */
static const struct setting defaults[] = {
    {"queued.max.messages.kbytes", "2048"},
    {"queued.min.messages", "5000"},
    {"fetch.message.max.bytes", "524288"},
    {"fetch.max.bytes", "1048576"},
    {"fetch.queue.backoff.ms", "5"},
    {"session.timeout.ms", "10000"},
    {"heartbeat.interval.ms", "1000"},
    {"max.poll.interval.ms", "300000"},
    {"statistics.interval.ms", CLIENT_STATS_MS},
    {NULL, NULL},
};

static const struct setting fixed[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"auto.offset.reset", "error"},
    {"isolation.level", "read_committed"},
    {"enable.partition.eof", "true"},
    {"check.crcs", "true"},
    {"group.protocol", "classic"},
    {"partition.assignment.strategy", "cooperative-sticky"},
    {"allow.auto.create.topics", "false"},
    {NULL, NULL},
};

/* ---- topics and partitions ---------------------------------------------- */

static struct topic *
topic_find(struct kafka_consumer *consumer, const char *name)
{
	int i;

	if (consumer->last != NULL && strcmp(consumer->last->name, name) == 0)
		return (consumer->last);
	for (i = 0; i < consumer->topic_count; i++) {
		if (strcmp(consumer->topics[i]->name, name) == 0) {
			consumer->last = consumer->topics[i];
			return (consumer->last);
		}
	}
	return (NULL);
}

static struct topic *
topic_add(struct kafka_consumer *consumer, const char *name, int index,
    struct mr_error *err)
{
	struct topic *topic, **grown;
	size_t length = strlen(name);

	if ((topic = topic_find(consumer, name)) != NULL) {
		topic->index = index;
		return (topic);
	}
	if (length > KAFKA_TOPIC_MAX || consumer->topic_count == TOPICS_MAX) {
		mr_error_set(err, MR_REJECT,
		    "topic name %.80s is too long, or there are more than %d",
		    name, TOPICS_MAX);
		return (NULL);
	}
	grown = reallocarray(consumer->topics,
	    (size_t)consumer->topic_count + 1, sizeof(struct topic *));
	if (grown == NULL)
		goto fail;
	consumer->topics = grown;
	if ((topic = calloc(1, sizeof(*topic))) == NULL)
		goto fail;
	memcpy(topic->name, name, length + 1);
	topic->index = index;
	consumer->topics[consumer->topic_count++] = topic;
	return (topic);
fail:
	mr_error_set(err, MR_FATAL, "out of memory");
	return (NULL);
}

/* A partition's state, made if need be.  NULL with REJECT past the limit, with
 * FATAL without memory. */
static struct partition *
partition_make(struct topic *topic, int number, struct mr_error *err)
{
	struct partition *grown;
	int count;

	if (number < 0 || number >= KAFKA_PARTITIONS_MAX) {
		mr_error_set(err, MR_REJECT,
		    "can't read %s [%d]: at most %d partitions", topic->name,
		    number, KAFKA_PARTITIONS_MAX);
		return (NULL);
	}
	if (number >= topic->count) {
		for (count = 8; count <= number;)
			count *= 2;
		grown = reallocarray(topic->partitions, (size_t)count,
		    sizeof(*grown));
		if (grown == NULL) {
			mr_error_set(err, MR_FATAL, "out of memory");
			return (NULL);
		}
		memset(grown + topic->count, 0,
		    (size_t)(count - topic->count) * sizeof(*grown));
		topic->partitions = grown;
		topic->count = count;
	}
	return (&topic->partitions[number]);
}

/* The state of a partition that is assigned, or NULL. */
static struct partition *
partition_find(struct kafka_consumer *consumer, const char *name, int number)
{
	struct topic *topic = topic_find(consumer, name);

	if (topic == NULL || number < 0 || number >= topic->count ||
	    !topic->partitions[number].assigned)
		return (NULL);
	return (&topic->partitions[number]);
}

/* From here on its records are of a new assignment, beginning at ${next}. */
static void
partition_restart(struct kafka_consumer *consumer, struct partition *part,
    int64_t next, int32_t leader_epoch)
{

	part->next = next;
	part->leader_epoch = leader_epoch;
	part->ended = 0;
	part->suspect = 0;
	part->fresh_from = consumer->collected;
	consumer->stale = consumer->collected > 0;
}

static void
tell_error(struct kafka_consumer *consumer, int fatal, const char *what)
{

	if (fatal && consumer->said_fatal)
		return;
	if (fatal)
		consumer->said_fatal = 1;
	if (consumer->handlers.on_error != NULL)
		consumer->handlers.on_error(consumer->arg, what, fatal);
	else
		log_error("kafka consumer", "error", what, "fatal",
		    log_i64(fatal));
}

/* Tell of a failed call; takes ${error}.  Returns whether there was one. */
static int
tell_failed(struct kafka_consumer *consumer, const char *what,
    rd_kafka_error_t *error)
{
	char text[400];

	if (error == NULL)
		return (0);
	snprintf(text, sizeof(text), "%s: %s", what,
	    rd_kafka_error_string(error));
	tell_error(consumer, rd_kafka_error_is_fatal(error), text);
	rd_kafka_error_destroy(error);
	return (1);
}

static void
list_add(rd_kafka_topic_partition_list_t *list, const char *topic,
    int partition, int64_t offset, int32_t leader_epoch)
{
	rd_kafka_topic_partition_t *entry;

	entry = rd_kafka_topic_partition_list_add(list, topic, partition);
	entry->offset = offset;
	if (leader_epoch >= 0)
		rd_kafka_topic_partition_set_leader_epoch(entry, leader_epoch);
}

/* ---- rebalancing -------------------------------------------------------- */

/*
 * The positions that handlers are shown, of those in ${list} that we can
 * keep track of.  NULL, and a fatal error is told, without memory, also for
 * one of them: the others would be read as if that one were, too.  Sets *count.
 */
static struct kafka_position *
positions_new(struct kafka_consumer *consumer,
    const rd_kafka_topic_partition_list_t *list, int assigning, int *count)
{
	struct kafka_position *positions;
	struct partition *part;
	struct topic *topic;
	struct mr_error why = {.kind = MR_OK};
	int i;

	*count = 0;
	positions = calloc((size_t)list->cnt + 1, sizeof(*positions));
	if (positions == NULL)
		goto fail;
	for (i = 0; i < list->cnt; i++) {
		const rd_kafka_topic_partition_t *entry = &list->elems[i];

		if ((topic = topic_find(consumer, entry->topic)) == NULL)
			continue;
		part = partition_make(topic, entry->partition, &why);
		if (part == NULL && why.kind == MR_FATAL)
			goto fail;
		if (part == NULL) {
			tell_error(consumer, 0, why.message);
			continue;
		}
		if (!assigning && !part->assigned)
			continue;
		positions[*count] = (struct kafka_position){
		    .topic = topic->name,
		    .topic_index = topic->index,
		    .partition = entry->partition,
		    .offset = assigning ? -1 : part->next,
		    .leader_epoch = -1,
		};
		(*count)++;
	}
	return (positions);
fail:
	tell_error(consumer, 1, "out of memory in a rebalance");
	free(positions);
	*count = 0;
	return (NULL);
}

/*
 * Whether the log still has what was read of it is compared by its leader's
 * epochs (KIP-320), and librdkafka asks its leader that at a seek, but at an
 * assignment only if it hadn't heard of the leader yet.  So a partition that is
 * assigned with an epoch is sought as well, to where it is; until that is
 * accepted (a fetcher may not have started yet, then poll tries again) what is
 * fetched is left out.
 */
static void
epochs_check(struct kafka_consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_error_t *error = NULL;
	struct partition *part;
	int i, j;

	list = rd_kafka_topic_partition_list_new(8);
	for (i = 0; i < consumer->topic_count; i++)
		for (j = 0; j < consumer->topics[i]->count; j++) {
			part = &consumer->topics[i]->partitions[j];
			if (part->ended)
				part->unchecked = 0;
			if (part->unchecked)
				list_add(list, consumer->topics[i]->name, j,
				    part->next, part->leader_epoch);
		}
	if (list->cnt > 0)
		error = rd_kafka_seek_partitions(consumer->client, list,
		    CALL_MS);
	consumer->unchecked = 0;
	for (i = 0; i < list->cnt; i++) {
		part = partition_find(consumer, list->elems[i].topic,
		    list->elems[i].partition);
		if (part == NULL)
			continue;
		part->unchecked = list->elems[i].err != 0;
		consumer->unchecked |= part->unchecked;
	}
	if (error != NULL)
		rd_kafka_error_destroy(error);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * What is held in librdkafka goes on.  It leaves out what it doesn't know at the
 * moment, as a topic that a broker that has just started doesn't, and holds it
 * again later: then poll tries again.
 */
static void
fetchers_resume(struct kafka_consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;
	struct partition *part;
	int i, j;

	list = rd_kafka_topic_partition_list_new(8);
	for (i = 0; i < consumer->topic_count; i++)
		for (j = 0; j < consumer->topics[i]->count; j++)
			if (consumer->topics[i]->partitions[j].held)
				list_add(list, consumer->topics[i]->name, j, -1,
				    -1);
	rd_kafka_resume_partitions(consumer->client, list);
	consumer->held = 0;
	for (i = 0; i < list->cnt; i++) {
		part = partition_find(consumer, list->elems[i].topic,
		    list->elems[i].partition);
		if (part == NULL)
			continue;
		part->held = list->elems[i].err != 0;
		consumer->held |= part->held;
	}
	rd_kafka_topic_partition_list_destroy(list);
}

static int
fetches_any(const struct kafka_consumer *consumer)
{
	int i, j;

	for (i = 0; i < consumer->topic_count; i++)
		for (j = 0; j < consumer->topics[i]->count; j++)
			if (consumer->topics[i]->partitions[j].fetching)
				return (1);
	return (0);
}

/*
 * librdkafka fetches as soon as one partition may be read, and until that fetch
 * is answered, for half a second if there is nothing, its leader answers nothing
 * else: not what is asked after epochs, and no fetch of the other partitions.  So
 * the fetchers of a first assignment are held, and then let go all together.
 */
static void
fetchers_hold(struct kafka_consumer *consumer,
    rd_kafka_topic_partition_list_t *list)
{
	struct partition *part;
	int64_t low, high;
	int i;

	/* Only what it knows of can be paused; to be asked for makes it known. */
	for (i = 0; i < list->cnt; i++)
		(void)rd_kafka_get_watermark_offsets(consumer->client,
		    list->elems[i].topic, list->elems[i].partition, &low,
		    &high);
	rd_kafka_pause_partitions(consumer->client, list);
	for (i = 0; i < list->cnt; i++) {
		part = partition_find(consumer, list->elems[i].topic,
		    list->elems[i].partition);
		if (part == NULL || list->elems[i].err != 0)
			continue;
		part->held = 1;
		consumer->held = 1;
	}
}

/* Until the leaders have answered what was asked of them before.  They know where
 * a log begins, and needn't wait for its flush, as for where it ends. */
static void
leaders_await(struct kafka_consumer *consumer,
    const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_topic_partition_list_t *starts;
	int i;

	starts = rd_kafka_topic_partition_list_copy(list);
	for (i = 0; i < starts->cnt; i++)
		starts->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
	(void)rd_kafka_offsets_for_times(consumer->client, starts, AWAIT_MS);
	rd_kafka_topic_partition_list_destroy(starts);
}

static void
fetchers_let_go(struct kafka_consumer *consumer,
    const rd_kafka_topic_partition_list_t *list)
{

	leaders_await(consumer, list);
	fetchers_resume(consumer);
	/* Who fetches sleeps for up to a second, unless there is something to
	 * send. */
	leaders_await(consumer, list);
}

/* Give librdkafka what is to be fetched of ${positions}, which are ours now. */
static void
start_fetching(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count)
{
	rd_kafka_topic_partition_list_t *list;
	int i, are_first = !fetches_any(consumer);

	list = rd_kafka_topic_partition_list_new(count);
	for (i = 0; i < count; i++) {
		const struct kafka_position *at = &positions[i];
		struct topic *topic = topic_find(consumer, at->topic);
		struct partition *part = &topic->partitions[at->partition];

		/* librdkafka's pause outlives an assignment; ours doesn't. */
		part->held |= part->paused;
		consumer->held |= part->held;
		partition_restart(consumer, part, at->offset, at->leader_epoch);
		part->paused = 0;
		part->assigned = 1;
		part->fetching = at->offset >= 0;
		part->unchecked = at->offset > 0 && at->leader_epoch >= 0;
		consumer->unchecked |= part->unchecked;
		if (part->fetching)
			list_add(list, at->topic, at->partition, at->offset,
			    at->leader_epoch);
	}
	are_first = are_first && (list->cnt > 1 || consumer->unchecked);
	if (are_first)
		fetchers_hold(consumer, list);
	else if (consumer->held)
		fetchers_resume(consumer);
	tell_failed(consumer, "can't assign partitions",
	    rd_kafka_incremental_assign(consumer->client, list));
	if (consumer->unchecked)
		epochs_check(consumer);
	if (are_first)
		fetchers_let_go(consumer, list);
	rd_kafka_topic_partition_list_destroy(list);
}

static void
stop_fetching(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count)
{
	rd_kafka_topic_partition_list_t *list;
	int i;

	list = rd_kafka_topic_partition_list_new(count);
	for (i = 0; i < count; i++) {
		const struct kafka_position *at = &positions[i];
		struct topic *topic = topic_find(consumer, at->topic);
		struct partition *part = &topic->partitions[at->partition];

		if (part->fetching)
			list_add(list, at->topic, at->partition, -1, -1);
		partition_restart(consumer, part, -1, -1);
		part->assigned = 0;
		part->fetching = 0;
		part->unchecked = 0;
	}
	tell_failed(consumer, "can't give up partitions",
	    rd_kafka_incremental_unassign(consumer->client, list));
	rd_kafka_topic_partition_list_destroy(list);
}

static void
rebalance(rd_kafka_t *client, rd_kafka_resp_err_t code,
    rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct kafka_consumer *consumer = opaque;
	struct kafka_position *positions;
	int assigning = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
	int count, lost;

	positions = positions_new(consumer, list, assigning, &count);
	if (assigning) {
		if (count > 0 && consumer->handlers.on_assign != NULL)
			consumer->handlers.on_assign(consumer->arg, positions,
			    count);
		start_fetching(consumer, positions, count);
	} else {
		lost = rd_kafka_assignment_lost(client);
		if (count > 0 && consumer->handlers.on_revoke != NULL)
			consumer->handlers.on_revoke(consumer->arg, positions,
			    count, lost);
		stop_fetching(consumer, positions, count);
	}
	free(positions);
}

static void
take_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
	char why[400], text[400];
	int fatal = code == RD_KAFKA_RESP_ERR__FATAL;

	/* Why each is down was told before, and librdkafka doesn't repeat that
	 * for half a minute; this it does all the time. */
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		return;
	if (fatal && rd_kafka_fatal_error(client, why, sizeof(why)) != 0)
		reason = why;
	client_tls_explain(reason, text, sizeof(text));
	tell_error(opaque, fatal, text);
}

static void
take_commit(rd_kafka_t *client, rd_kafka_resp_err_t code,
    rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct kafka_consumer *consumer = opaque;

	(void)client;
	(void)list;
	consumer->committing--;
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR &&
	    code != RD_KAFKA_RESP_ERR__NO_OFFSET)
		consumer->commit_failures++;
}

/* ---- opening and closing ------------------------------------------------ */

static int
take_stats(rd_kafka_t *client, char *text, size_t size, void *opaque)
{
	struct kafka_consumer *consumer = opaque;

	(void)client;
	client_stats_take(&consumer->stats, text, size);
	return (0); /* librdkafka frees the text */
}

struct kafka_consumer *
kafka_consumer_new(const struct kafka_conf *conf, const char *group,
    const struct kafka_group_handlers *handlers, void *arg,
    struct mr_error *err)
{
	struct kafka_consumer *consumer;
	rd_kafka_conf_t *settings;

	if ((consumer = calloc(1, sizeof(*consumer))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	consumer->has_group = group != NULL;
	if (handlers != NULL)
		consumer->handlers = *handlers;
	consumer->arg = arg;
	if ((consumer->fd = client_wake_new(err)) == -1)
		goto fail_consumer;
	settings = client_conf_new(conf, defaults, fixed, consumer, err);
	if (settings == NULL)
		goto fail_fd;
	/* librdkafka wants a group for any assignment; one that is never joined
	 * will do. */
	if (rd_kafka_conf_set(settings, "group.id",
		group != NULL ? group : "millrace-no-group", NULL,
		0) != RD_KAFKA_CONF_OK) {
		mr_error_set(err, MR_REJECT, "can't use %.100s as a group id",
		    group);
		rd_kafka_conf_destroy(settings);
		goto fail_fd;
	}
	rd_kafka_conf_set_rebalance_cb(settings, rebalance);
	rd_kafka_conf_set_error_cb(settings, take_error);
	rd_kafka_conf_set_stats_cb(settings, take_stats);
	client_stats_init(&consumer->stats, "consumer");
	rd_kafka_conf_set_offset_commit_cb(settings, take_commit);
	consumer->client = client_new(RD_KAFKA_CONSUMER, settings, err);
	if (consumer->client == NULL)
		goto fail_fd;
	/* Errors come to the one queue too. */
	rd_kafka_poll_set_consumer(consumer->client);
	consumer->queue = rd_kafka_queue_get_consumer(consumer->client);
	client_watch(consumer->queue, consumer->fd);
	return (consumer);
fail_fd:
	close(consumer->fd);
fail_consumer:
	free(consumer);
	return (NULL);
}

void
kafka_consumer_free(struct kafka_consumer *consumer)
{
	int64_t deadline = clock_mono_us() + CLOSE_MS * INT64_C(1000);
	rd_kafka_message_t *msg;
	rd_kafka_error_t *error;
	int i;

	if (consumer == NULL)
		return;
	/* rd_kafka_consumer_close would wait for as long as it takes. */
	consumer->collected = 0;
	error = rd_kafka_consumer_close_queue(consumer->client,
	    consumer->queue);
	if (error != NULL)
		rd_kafka_error_destroy(error);
	while (error == NULL && !rd_kafka_consumer_closed(consumer->client) &&
	    clock_mono_us() < deadline) {
		msg = rd_kafka_consume_queue(consumer->queue, 50);
		if (msg != NULL)
			rd_kafka_message_destroy(msg);
	}
	rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(consumer->queue);
	rd_kafka_destroy_flags(consumer->client,
	    RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	for (i = 0; i < consumer->topic_count; i++) {
		free(consumer->topics[i]->partitions);
		free(consumer->topics[i]);
	}
	free(consumer->topics);
	close(consumer->fd);
	free(consumer);
}

int
kafka_consumer_fd(const struct kafka_consumer *consumer)
{

	return (consumer->fd);
}

int
kafka_consumer_subscribe(struct kafka_consumer *consumer,
    const char *const *topics, int count, struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;
	int i;

	if (!consumer->has_group || consumer->is_set)
		return (mr_error_set(err, MR_REJECT,
		    "can't subscribe without a group, or twice"));
	list = rd_kafka_topic_partition_list_new(count);
	for (i = 0; i < count; i++) {
		if (topic_add(consumer, topics[i], i, err) == NULL) {
			rd_kafka_topic_partition_list_destroy(list);
			return (-1);
		}
		rd_kafka_topic_partition_list_add(list, topics[i],
		    RD_KAFKA_PARTITION_UA);
	}
	code = rd_kafka_subscribe(consumer->client, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(code),
		    "can't subscribe: %s", rd_kafka_err2str(code)));
	consumer->is_set = 1;
	return (0);
}

/* Take everything back that kafka_consumer_assign gave. */
static int
unassign_all(struct kafka_consumer *consumer, struct mr_error *err)
{
	struct kafka_position *positions;
	rd_kafka_topic_partition_list_t *list;
	int count;

	if (rd_kafka_assignment(consumer->client, &list) !=
	    RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, MR_RETRY,
		    "can't ask for the assignment"));
	positions = positions_new(consumer, list, 0, &count);
	rd_kafka_topic_partition_list_destroy(list);
	if (positions == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	stop_fetching(consumer, positions, count);
	free(positions);
	return (0);
}

int
kafka_consumer_assign(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count, struct mr_error *err)
{
	struct topic *topic;
	int i;

	if (consumer->has_group)
		return (mr_error_set(err, MR_REJECT,
		    "a group member is assigned by its group"));
	if (consumer->is_set && unassign_all(consumer, err) != 0)
		return (-1);
	for (i = 0; i < count; i++) {
		topic = topic_add(consumer, positions[i].topic,
		    positions[i].topic_index, err);
		if (topic == NULL)
			return (-1);
		if (partition_make(topic, positions[i].partition, err) == NULL)
			return (-1);
	}
	consumer->is_set = 1;
	start_fetching(consumer, positions, count);
	return (0);
}

/* Tell librdkafka whether to fetch; it keeps that across assignments. */
static rd_kafka_resp_err_t
pause_fetcher(struct kafka_consumer *consumer, const char *topic, int partition,
    int paused)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;

	list = rd_kafka_topic_partition_list_new(1);
	list_add(list, topic, partition, -1, -1);
	if (paused)
		code = rd_kafka_pause_partitions(consumer->client, list);
	else
		code = rd_kafka_resume_partitions(consumer->client, list);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		code = list->elems[0].err;
	rd_kafka_topic_partition_list_destroy(list);
	return (code);
}

/* Assign one partition anew: its fetcher can be started no other way. */
static rd_kafka_error_t *
reassign(struct kafka_consumer *consumer, struct partition *part,
    const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_error_t *error;

	if (part->fetching) {
		error = rd_kafka_incremental_unassign(consumer->client, list);
		if (error != NULL)
			return (error);
		part->fetching = 0;
	}
	error = rd_kafka_incremental_assign(consumer->client, list);
	if (error == NULL)
		part->fetching = 1;
	return (error);
}

/* Have librdkafka fetch ${part} from ${position}. */
static int
move_fetcher(struct kafka_consumer *consumer, struct partition *part,
    const struct kafka_position *position, struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_error_t *error = NULL;
	int must_assign;

	list = rd_kafka_topic_partition_list_new(1);
	list_add(list, position->topic, position->partition, position->offset,
	    position->leader_epoch);
	must_assign = !part->fetching;
	if (!must_assign) {
		/* It refuses where the fetcher has stopped. */
		error = rd_kafka_seek_partitions(consumer->client, list,
		    CALL_MS);
		must_assign = error != NULL || list->elems[0].err != 0;
		if (error != NULL)
			rd_kafka_error_destroy(error);
		list->elems[0].err = RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	error = must_assign ? reassign(consumer, part, list) : NULL;
	rd_kafka_topic_partition_list_destroy(list);
	part->unchecked = must_assign && position->offset > 0 &&
	    position->leader_epoch >= 0;
	consumer->unchecked |= part->unchecked;
	if (must_assign && error == NULL)
		pause_fetcher(consumer, position->topic, position->partition,
		    (int)part->paused);
	if (error == NULL)
		return (0);
	mr_error_set(err, client_error_kind(rd_kafka_error_code(error)),
	    "can't seek %s [%d] to %lld: %s", position->topic,
	    position->partition, (long long)position->offset,
	    rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return (-1);
}

/* ---- records ------------------------------------------------------------ */

static void
fill_record(struct kafka_record *record, struct topic *topic,
    const rd_kafka_message_t *msg, int64_t offset)
{

	memset(record, 0, sizeof(*record));
	record->topic = topic->name;
	record->topic_index = topic->index;
	record->partition = msg->partition;
	record->offset = offset;
	record->fetch_offset = topic->partitions[msg->partition].next;
	record->leader_epoch = -1;
	record->ts_ms = -1;
}

/* A record of what isn't there, or can't be read.  The partition rests. */
static int
take_loss(struct topic *topic, const rd_kafka_message_t *msg, int64_t offset,
    int why, struct kafka_record *record)
{

	fill_record(record, topic, msg, offset);
	record->out_of_range = why;
	topic->partitions[msg->partition].ended = 1;
	return (1);
}

/* Only the words tell a log that was cut from an offset that isn't there. */
static int
is_truncation(const rd_kafka_message_t *msg)
{

	return (msg->err == RD_KAFKA_RESP_ERR__LOG_TRUNCATION ||
	    strstr(rd_kafka_message_errstr(msg),
		rd_kafka_err2str(RD_KAFKA_RESP_ERR__LOG_TRUNCATION)) != NULL);
}

/*
 * Out of range, librdkafka says of an offset, without saying under which
 * assignment.  Below what comes next it is an old message.  Above it, it may
 * be: ask again from where we are, once.
 */
static int
take_out_of_range(struct kafka_consumer *consumer, struct topic *topic,
    const rd_kafka_message_t *msg, struct kafka_record *record)
{
	int truncated = is_truncation(msg);
	struct partition *part = &topic->partitions[msg->partition];
	struct kafka_position at = {.topic = topic->name,
	    .partition = msg->partition,
	    .offset = part->next,
	    .leader_epoch = part->leader_epoch};

	if (msg->offset >= 0 && msg->offset < part->next)
		return (0);
	if (msg->offset != part->next && !part->suspect &&
	    move_fetcher(consumer, part, &at, NULL) == 0) {
		part->suspect = 1;
		return (0);
	}
	return (take_loss(topic, msg, part->next, truncated ? 3 : 1, record));
}

/* An error in place of a record: 1 if it makes one of ours. */
static int
take_failed(struct kafka_consumer *consumer, struct topic *topic,
    const rd_kafka_message_t *msg, struct kafka_record *record)
{
	struct partition *part = topic != NULL ?
	    &topic->partitions[msg->partition] :
	    NULL;
	char text[400], why[240];
	int fatal = msg->err == RD_KAFKA_RESP_ERR__FATAL;

	switch ((int)msg->err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		if (part == NULL || msg->offset < part->next || part->unchecked)
			return (0);
		fill_record(record, topic, msg, msg->offset);
		record->end_of_partition = 1;
		/* What lies between may be of a later epoch. */
		if (part->next != msg->offset)
			part->leader_epoch = -1;
		part->next = msg->offset;
		return (1);
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
	case RD_KAFKA_RESP_ERR__LOG_TRUNCATION:
		if (part == NULL)
			return (0);
		return (take_out_of_range(consumer, topic, msg, record));
	default:
		break;
	}
	/* Nobody joins the group that isn't one. */
	if (!consumer->has_group && msg->rkt == NULL && !fatal)
		return (0);
	if (fatal &&
	    rd_kafka_fatal_error(consumer->client, why, sizeof(why)) != 0)
		tell_error(consumer, 1, why);
	else if (msg->rkt != NULL) {
		snprintf(text, sizeof(text), "%s [%d]: %s",
		    rd_kafka_topic_name(msg->rkt), (int)msg->partition,
		    rd_kafka_message_errstr(msg));
		tell_error(consumer, fatal, text);
	} else
		tell_error(consumer, fatal, rd_kafka_message_errstr(msg));
	/* librdkafka goes on behind what it can't read; we must not. */
	switch ((int)msg->err) {
	case RD_KAFKA_RESP_ERR__BAD_MSG:
	case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
	case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
	case RD_KAFKA_RESP_ERR__UNDERFLOW:
	case RD_KAFKA_RESP_ERR_INVALID_MSG:
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
	case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
		if (part != NULL)
			return (take_loss(topic, msg, part->next, 2, record));
		return (0);
	default:
		return (0);
	}
}

/* Make a record of a message: 1, and it holds the message; 0, and it's gone. */
static int
take_message(struct kafka_consumer *consumer, rd_kafka_message_t *msg,
    struct kafka_record *record)
{
	struct partition *part;
	struct topic *topic = NULL;
	rd_kafka_timestamp_type_t type;
	int kept = 0;

	if (msg->rkt != NULL)
		topic = topic_find(consumer, rd_kafka_topic_name(msg->rkt));
	if (topic != NULL &&
	    (msg->partition < 0 || msg->partition >= topic->count))
		topic = NULL;
	part = topic != NULL ? &topic->partitions[msg->partition] : NULL;
	if (part != NULL && (!part->assigned || part->ended))
		goto drop;
	if (msg->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		kept = take_failed(consumer, topic, msg, record);
		goto drop;
	}
	if (part == NULL || msg->offset < part->next || part->unchecked)
		goto drop;
	fill_record(record, topic, msg, msg->offset);
	record->leader_epoch = rd_kafka_message_leader_epoch(msg);
	record->ts_ms = rd_kafka_message_timestamp(msg, &type);
	if (record->ts_ms < 0)
		record->ts_ms = -1; /* foreign producers may send any number */
	record->key = msg->key;
	record->key_size = msg->key_len;
	record->value = msg->payload;
	record->value_size = msg->len;
	record->opaque = msg;
	part->next = msg->offset + 1;
	part->leader_epoch = record->leader_epoch;
	part->suspect = 0;
	return (1);
drop:
	rd_kafka_message_destroy(msg);
	return (kept);
}

/* Leave out what a handler has made stale since it was collected. */
static int
drop_stale(struct kafka_consumer *consumer, struct kafka_record *records, int n)
{
	const struct partition *part;
	int i, kept = 0;

	for (i = 0; i < n; i++) {
		part = partition_find(consumer, records[i].topic,
		    records[i].partition);
		if (part == NULL || i < part->fresh_from)
			kafka_record_free(&records[i]);
		else
			records[kept++] = records[i];
	}
	return (kept);
}

/* What poll keeps count by is of no meaning outside of it. */
static void
forget_stale(struct kafka_consumer *consumer)
{
	int i, j;

	for (i = 0; i < consumer->topic_count; i++) {
		for (j = 0; j < consumer->topics[i]->count; j++)
			consumer->topics[i]->partitions[j].fresh_from = 0;
	}
	consumer->stale = 0;
}

/*
 * One message a call, not rd_kafka_consume_batch_queue: a handler that runs
 * in the middle of a batch can't tell which messages were before it.
 */
int
kafka_consumer_poll(struct kafka_consumer *consumer,
    struct kafka_record *records, int most, int timeout_ms)
{
	rd_kafka_message_t *msg;
	int n = 0, full;

	/* First: what comes later makes the descriptor readable again. */
	client_wake_clear(consumer->fd);
	if (consumer->unchecked)
		epochs_check(consumer);
	if (consumer->held)
		fetchers_resume(consumer);
	while (n < most) {
		msg = rd_kafka_consume_queue(consumer->queue, timeout_ms);
		if (msg == NULL)
			break;
		timeout_ms = 0;
		n += take_message(consumer, msg, &records[n]);
		consumer->collected = n;
	}
	consumer->collected = 0;
	full = n == most;
	if (consumer->stale) {
		n = drop_stale(consumer, records, n);
		forget_stale(consumer);
	}
	/* librdkafka writes when its queue stops being empty; there may be
	 * more in it now. */
	if (full)
		client_wake_set(consumer->fd);
	return (n);
}

int
kafka_record_header(const struct kafka_record *record, const char *name,
    const void **value, size_t *size)
{
	rd_kafka_headers_t *headers;

	if (record->kept != NULL)
		return (kafka_record_kept(record, name, value, size));
	if (record->opaque == NULL ||
	    rd_kafka_message_headers(record->opaque, &headers) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return (0);
	return (rd_kafka_header_get_last(headers, name, value, size) ==
	    RD_KAFKA_RESP_ERR_NO_ERROR);
}

int
kafka_record_header_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header)
{
	rd_kafka_headers_t *headers;

	if (record->kept != NULL)
		return (kafka_record_kept_at(record, index, header));
	if (record->opaque == NULL ||
	    rd_kafka_message_headers(record->opaque, &headers) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return (0);
	if (rd_kafka_header_get_all(headers, index, &header->name,
		&header->value, &header->size) == RD_KAFKA_RESP_ERR_NO_ERROR)
		return (1);
	/* The library parses them into an allocation each.  Given back now,
	 * they are the next record's; with the record, hundreds of others are
	 * in between.  It parses them again if it is asked again. */
	if (rd_kafka_message_detach_headers(record->opaque, &headers) ==
	    RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_headers_destroy(headers);
	return (0);
}

int
kafka_record_headers_lost(const struct kafka_record *record)
{
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t code;

	if (record->kept != NULL || record->opaque == NULL)
		return (0);
	code = rd_kafka_message_headers(record->opaque, &headers);
	return (code != RD_KAFKA_RESP_ERR_NO_ERROR &&
	    code != RD_KAFKA_RESP_ERR__NOENT);
}

void
kafka_record_free(struct kafka_record *record)
{

	if (record->opaque != NULL)
		rd_kafka_message_destroy(record->opaque);
	memset(record, 0, sizeof(*record));
}

/* ---- moving about ------------------------------------------------------- */

/* A partition that is ours, or NULL with REJECT. */
static struct partition *
partition_ours(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err)
{
	struct partition *part = partition_find(consumer, topic, partition);

	if (part == NULL)
		mr_error_set(err, MR_REJECT, "%s [%d] is not assigned to us",
		    topic, partition);
	return (part);
}

static int
set_paused(struct kafka_consumer *consumer, const char *topic, int partition,
    int paused, struct mr_error *err)
{
	struct partition *part;
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

	part = partition_ours(consumer, topic, partition, err);
	if (part == NULL)
		return (-1);
	/* One that isn't fetched is paused when a seek starts it. */
	if (part->fetching && part->paused != (unsigned int)paused)
		code = pause_fetcher(consumer, topic, partition, paused);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, MR_RETRY, "can't %s %s [%d]: %s",
		    paused ? "pause" : "resume", topic, partition,
		    rd_kafka_err2str(code)));
	part->paused = paused ? 1 : 0;
	part->held &= !paused;
	return (0);
}

int
kafka_consumer_pause(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err)
{

	return (set_paused(consumer, topic, partition, 1, err));
}

int
kafka_consumer_resume(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err)
{

	return (set_paused(consumer, topic, partition, 0, err));
}

int
kafka_consumer_seek(struct kafka_consumer *consumer,
    const struct kafka_position *position, struct mr_error *err)
{
	struct partition *part;

	part = partition_ours(consumer, position->topic, position->partition,
	    err);
	if (part == NULL)
		return (-1);
	if (position->offset < 0)
		return (mr_error_set(err, MR_REJECT,
		    "can't seek %s [%d] to %lld: not an offset",
		    position->topic, position->partition,
		    (long long)position->offset));
	if (move_fetcher(consumer, part, position, err) != 0)
		return (-1);
	partition_restart(consumer, part, position->offset,
	    position->leader_epoch);
	return (0);
}

/* ---- the group's offsets ------------------------------------------------ */

int
kafka_consumer_commit(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count, const char *metadata,
    struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_topic_partition_t *entry;
	rd_kafka_resp_err_t code;
	size_t length = metadata != NULL ? strlen(metadata) : 0;
	int i;

	if (!consumer->has_group || length > METADATA_MAX)
		return (mr_error_set(err, MR_REJECT,
		    "can't commit without a group, or %zu characters of "
		    "metadata",
		    length));
	if (count == 0)
		return (0);
	list = rd_kafka_topic_partition_list_new(count);
	for (i = 0; i < count; i++) {
		list_add(list, positions[i].topic, positions[i].partition,
		    positions[i].offset, positions[i].leader_epoch);
		if (length == 0)
			continue;
		entry = &list->elems[list->cnt - 1];
		entry->metadata = rd_kafka_mem_malloc(consumer->client, length);
		if (entry->metadata == NULL) {
			rd_kafka_topic_partition_list_destroy(list);
			return (mr_error_set(err, MR_RETRY, "out of memory"));
		}
		memcpy(entry->metadata, metadata, length);
		entry->metadata_size = length;
	}
	code = rd_kafka_commit(consumer->client, list, 1);
	rd_kafka_topic_partition_list_destroy(list);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(code),
		    "can't commit to the group: %s", rd_kafka_err2str(code)));
	consumer->committing++;
	return (0);
}

int
kafka_consumer_committing(const struct kafka_consumer *consumer)
{

	return (consumer->committing);
}

int64_t
kafka_consumer_commit_failures(const struct kafka_consumer *consumer)
{

	return (consumer->commit_failures);
}

static int
coordinator_is_away(rd_kafka_resp_err_t code)
{

	return (code == RD_KAFKA_RESP_ERR_NOT_COORDINATOR ||
	    code == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE ||
	    code == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
}

static rd_kafka_resp_err_t
first_error(const rd_kafka_topic_partition_list_t *list)
{
	int i;

	for (i = 0; i < list->cnt; i++)
		if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return (list->elems[i].err);
	return (RD_KAFKA_RESP_ERR_NO_ERROR);
}

rd_kafka_resp_err_t
client_committed(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list,
    int timeout_ms)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	int64_t left_ms = timeout_ms,
		until_us = clock_mono_us() + 1000 * left_ms;
	rd_kafka_resp_err_t code;

	for (;;) {
		code = rd_kafka_committed(client, list, (int)left_ms);
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			code = first_error(list);
		left_ms = (until_us - clock_mono_us()) / 1000;
		if (!coordinator_is_away(code) || left_ms <= 100)
			return (code);
		nanosleep(&pause, NULL);
		left_ms -= 100;
	}
}

int
kafka_consumer_committed(struct kafka_consumer *consumer, const char *topic,
    int partition, int64_t *offset, char *metadata, size_t metadata_size,
    int timeout_ms, struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *list;
	const rd_kafka_topic_partition_t *entry;
	rd_kafka_resp_err_t code;

	if (!consumer->has_group)
		return (mr_error_set(err, MR_REJECT,
		    "no offsets are committed without a group"));
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, partition);
	entry = &list->elems[0];
	code = client_committed(consumer->client, list, timeout_ms);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
		*offset = entry->offset >= 0 ? entry->offset : -1;
		client_metadata(entry, metadata, metadata_size);
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(code),
		    "can't ask what the group has committed for %s [%d]: %s",
		    topic, partition, rd_kafka_err2str(code)));
	return (0);
}

int
kafka_consumer_tellers(struct kafka_consumer *consumer, const char *topic,
    int partitions, int timeout_ms,
    void (*each)(void *arg, const char *metadata), void *arg,
    struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;
	char metadata[64];
	int i;

	list = rd_kafka_topic_partition_list_new(partitions);
	rd_kafka_topic_partition_list_add_range(list, topic, 0, partitions - 1);
	code = client_committed(consumer->client, list, timeout_ms);
	for (i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++) {
		client_metadata(&list->elems[i], metadata, sizeof(metadata));
		if (metadata[0] != '\0')
			each(arg, metadata);
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(code),
		    "can't ask what the group has committed for %s: %s", topic,
		    rd_kafka_err2str(code)));
	return (0);
}

int64_t
kafka_consumer_end(struct kafka_consumer *consumer, const char *topic,
    int partition)
{
	int64_t first, next;

	if (partition_find(consumer, topic, partition) == NULL)
		return (-1);
	if (rd_kafka_get_watermark_offsets(consumer->client, topic, partition,
		&first, &next) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (-1);
	return (next >= 0 ? next : -1);
}
