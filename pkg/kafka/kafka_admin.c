#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kafka/kafka_internal.h"

/* Called from admin_trouble alone.  The library says once in a while why a
 * broker can't be reached, and all the time that none can. */
static void
take_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
	struct kafka_admin *admin = opaque;
	struct admin_trouble trouble = {": "};

	(void)client;
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		return;
	client_tls_explain(reason, trouble.text + 2, sizeof(trouble.text) - 2);
	pthread_mutex_lock(&admin->lock);
	admin->trouble = trouble;
	pthread_mutex_unlock(&admin->lock);
}

struct admin_trouble
admin_trouble(struct kafka_admin *admin)
{
	struct admin_trouble trouble;

	while (rd_kafka_poll(admin->client, 0) > 0)
		;
	pthread_mutex_lock(&admin->lock);
	trouble = admin->trouble;
	pthread_mutex_unlock(&admin->lock);
	return (trouble);
}

/* They answer. */
static void
admin_trouble_forget(struct kafka_admin *admin)
{

	pthread_mutex_lock(&admin->lock);
	admin->trouble = (struct admin_trouble){""};
	pthread_mutex_unlock(&admin->lock);
}

struct kafka_admin *
kafka_admin_new(const struct kafka_conf *conf, struct mr_error *err)
{
	static const struct setting none[] = {{NULL, NULL}};
	struct kafka_admin *admin;
	rd_kafka_conf_t *settings;

	if ((admin = calloc(1, sizeof(*admin))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	pthread_mutex_init(&admin->lock, NULL);
	if ((settings = client_conf_new(conf, none, none, admin, err)) == NULL)
		goto fail_admin;
	rd_kafka_conf_set_error_cb(settings, take_error);
	admin->client = client_new(RD_KAFKA_PRODUCER, settings, err);
	if (admin->client == NULL)
		goto fail_admin;
	return (admin);
fail_admin:
	free(admin);
	return (NULL);
}

void
kafka_admin_free(struct kafka_admin *admin)
{

	if (admin == NULL)
		return;
	rd_kafka_destroy(admin->client);
	pthread_mutex_destroy(&admin->lock);
	free(admin);
}

int
kafka_admin_cluster_id(struct kafka_admin *admin,
    char id[KAFKA_CLUSTER_ID_SIZE], int timeout_ms, struct mr_error *err)
{
	char *text;
	int status = 0;

	if ((text = rd_kafka_clusterid(admin->client, timeout_ms)) == NULL)
		return (mr_error_set(err, MR_RETRY,
		    "no answer from Kafka within %d ms%s", timeout_ms,
		    admin_trouble(admin).text));
	admin_trouble_forget(admin);
	if (strlen(text) >= KAFKA_CLUSTER_ID_SIZE)
		status = mr_error_set(err, MR_REJECT,
		    "the cluster id %.80s is longer than %d characters", text,
		    KAFKA_CLUSTER_ID_SIZE - 1);
	else
		memcpy(id, text, strlen(text) + 1);
	rd_kafka_mem_free(admin->client, text);
	return (status);
}

int
admin_request_init(struct admin_request *req, struct kafka_admin *admin,
    rd_kafka_admin_op_t op, int timeout_ms, struct mr_error *err)
{
	char why[160];

	memset(req, 0, sizeof(*req));
	req->admin = admin;
	req->options = rd_kafka_AdminOptions_new(admin->client, op);
	req->queue = rd_kafka_queue_new(admin->client);
	if (rd_kafka_AdminOptions_set_request_timeout(req->options,
		timeout_ms > 0 ? timeout_ms : 1, why, sizeof(why)) != 0)
		return (mr_error_set(err, MR_REJECT,
		    "can't ask Kafka with a timeout of %d ms: %s", timeout_ms,
		    why));
	return (0);
}

int
admin_request_wait(struct admin_request *req, int timeout_ms, const char *what,
    struct mr_error *err)
{
	rd_kafka_resp_err_t code;

	/* librdkafka answers at the timeout itself; the second is slack. */
	req->event = rd_kafka_queue_poll(req->queue, timeout_ms + 1000);
	if (req->event == NULL)
		return (mr_error_set(err, MR_RETRY,
		    "can't %s: no answer from Kafka within %d ms%s", what,
		    timeout_ms, admin_trouble(req->admin).text));
	code = rd_kafka_event_error(req->event);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (
		    mr_error_set(err, client_error_kind(code), "can't %s: %s%s",
			what, rd_kafka_event_error_string(req->event),
			code == RD_KAFKA_RESP_ERR__TIMED_OUT ?
			    admin_trouble(req->admin).text :
			    ""));
	return (0);
}

void
admin_request_done(struct admin_request *req)
{

	if (req->event != NULL)
		rd_kafka_event_destroy(req->event);
	if (req->queue != NULL)
		rd_kafka_queue_destroy(req->queue);
	if (req->options != NULL)
		rd_kafka_AdminOptions_destroy(req->options);
}

int
admin_ms_left(int64_t deadline_us)
{
	int64_t left = (deadline_us - clock_mono_us()) / 1000;

	return (left > 0 ? (int)left : 0);
}

static int
take_description(struct kafka_topic_state *states, int count,
    const rd_kafka_TopicDescription_t *topic, struct mr_error *err)
{
	const char *name = rd_kafka_TopicDescription_name(topic);
	const rd_kafka_error_t *error = rd_kafka_TopicDescription_error(topic);
	const rd_kafka_Uuid_t *uuid = rd_kafka_TopicDescription_topic_id(topic);
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	const char *id = "";
	size_t partitions = 0;
	int i;

	if (code != RD_KAFKA_RESP_ERR_NO_ERROR &&
	    code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		return (mr_error_set(err, client_error_kind(code),
		    "can't describe topic %s: %s", name,
		    rd_kafka_error_string(error)));
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
		rd_kafka_TopicDescription_partitions(topic, &partitions);
		if (uuid != NULL &&
		    (rd_kafka_Uuid_most_significant_bits(uuid) != 0 ||
			rd_kafka_Uuid_least_significant_bits(uuid) != 0))
			id = rd_kafka_Uuid_base64str(uuid);
	}
	if (partitions > KAFKA_PARTITIONS_MAX)
		return (mr_error_set(err, MR_REJECT,
		    "topic %s has %zu partitions; at most %d can be used", name,
		    partitions, KAFKA_PARTITIONS_MAX));
	for (i = 0; i < count; i++) {
		if (strcmp(states[i].name, name) != 0)
			continue;
		states[i].partitions = (int)partitions;
		snprintf(states[i].id, sizeof(states[i].id), "%s",
		    id != NULL ? id : "");
	}
	return (0);
}

/*
 * A broker that has just answered, or -1 where it has told us no number: we
 * reached it by a name that isn't its own.  -2: none answers.  librdkafka asks
 * the controller, and clients of Apache Kafka's are told any broker for it, so
 * it may be one that has died a moment ago: that it would try to reach without
 * a pause, thousands of times a second, until the request's time is over.
 */
static int
find_someone(struct kafka_admin *admin, int64_t deadline_us,
    struct mr_error *err)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t code;
	int broker = -1, tries;

	/* Its number comes with its first answer, and is known at the next. */
	for (tries = 0; broker < 0 && tries < 2; tries++) {
		code = rd_kafka_metadata(admin->client, 0, NULL, &metadata,
		    admin_ms_left(deadline_us));
		if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
			mr_error_set(err, client_error_kind(code), "%s%s",
			    rd_kafka_err2str(code), admin_trouble(admin).text);
			return (-2);
		}
		broker = metadata->orig_broker_id;
		rd_kafka_metadata_destroy(metadata);
	}
	return (broker >= 0 ? broker : -1);
}

/* The same as admin_request_init, for what any broker can answer. */
static int
anyone_request_init(struct admin_request *req, struct kafka_admin *admin,
    rd_kafka_admin_op_t op, int timeout_ms, struct mr_error *err)
{
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	int broker = find_someone(admin, deadline, err);
	char why[160];

	memset(req, 0, sizeof(*req));
	if (broker == -2 ||
	    admin_request_init(req, admin, op, admin_ms_left(deadline), err) !=
		0)
		return (-1);
	if (broker >= 0 &&
	    rd_kafka_AdminOptions_set_broker(req->options, broker, why,
		sizeof(why)) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, MR_REJECT, "can't ask broker %d: %s",
		    broker, why));
	return (0);
}

int
kafka_admin_describe(struct kafka_admin *admin,
    struct kafka_topic_state *states, int count, int timeout_ms,
    struct mr_error *err)
{
	const rd_kafka_TopicDescription_t **topics;
	rd_kafka_TopicCollection_t *collection;
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	const char **names;
	struct admin_request req;
	size_t i, topic_count = 0;
	int status = -1;

	assert(count >= 0 && count <= ADMIN_TOPICS_MAX);
	if (count == 0)
		return (0);
	if ((names = calloc((size_t)count, sizeof(*names))) == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	for (i = 0; i < (size_t)count; i++) {
		names[i] = states[i].name;
		states[i].partitions = 0;
		states[i].id[0] = '\0';
	}
	collection = rd_kafka_TopicCollection_of_topic_names(names,
	    (size_t)count);
	if (anyone_request_init(&req, admin, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
		timeout_ms, err) != 0) {
		mr_error_wrap(err, "can't describe topics");
		goto done;
	}
	rd_kafka_DescribeTopics(admin->client, collection, req.options,
	    req.queue);
	if (admin_request_wait(&req, admin_ms_left(deadline), "describe topics",
		err) != 0)
		goto done;
	topics = rd_kafka_DescribeTopics_result_topics(
	    rd_kafka_event_DescribeTopics_result(req.event), &topic_count);
	for (i = 0; i < topic_count; i++) {
		if (take_description(states, count, topics[i], err) != 0)
			goto done;
	}
	status = 0;
done:
	admin_request_done(&req);
	rd_kafka_TopicCollection_destroy(collection);
	free(names);
	return (status);
}

int
kafka_admin_delete(struct kafka_admin *admin, const char *topic, int timeout_ms,
    struct mr_error *err)
{
	const rd_kafka_topic_result_t **results;
	rd_kafka_DeleteTopic_t *doomed = rd_kafka_DeleteTopic_new(topic);
	rd_kafka_resp_err_t code;
	struct admin_request req;
	size_t i, count = 0;
	int status = -1;

	if (admin_request_init(&req, admin, RD_KAFKA_ADMIN_OP_DELETETOPICS,
		timeout_ms, err) != 0)
		goto done;
	rd_kafka_DeleteTopics(admin->client, &doomed, 1, req.options,
	    req.queue);
	if (admin_request_wait(&req, timeout_ms, "delete topics", err) != 0)
		goto done;
	results = rd_kafka_DeleteTopics_result_topics(
	    rd_kafka_event_DeleteTopics_result(req.event), &count);
	for (i = 0; i < count; i++) {
		code = rd_kafka_topic_result_error(results[i]);
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		mr_error_set(err, client_error_kind(code),
		    "can't delete topic %s: %s", topic,
		    rd_kafka_topic_result_error_string(results[i]));
		goto done;
	}
	status = 0;
done:
	admin_request_done(&req);
	rd_kafka_DeleteTopic_destroy(doomed);
	return (status);
}

int
kafka_admin_offsets(struct kafka_admin *admin, const char *topic, int partition,
    int64_t *first, int64_t *next, int timeout_ms, struct mr_error *err)
{
	rd_kafka_resp_err_t code;

	code = rd_kafka_query_watermark_offsets(admin->client, topic, partition,
	    first, next, timeout_ms);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(code),
		    "can't ask for the offsets of %s [%d]: %s", topic,
		    partition, rd_kafka_err2str(code)));
	return (0);
}

static int
take_end(const struct admin_request *req, int64_t *end, struct mr_error *err)
{
	const rd_kafka_ListOffsetsResultInfo_t **infos;
	const rd_kafka_topic_partition_t *told;
	size_t count = 0;

	infos =
	    rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(
						  req->event),
		&count);
	if (count != 1)
		return (mr_error_set(err, MR_RETRY,
		    "%zu answers to a question for an end", count));
	told = rd_kafka_ListOffsetsResultInfo_topic_partition(infos[0]);
	if (told->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(told->err),
		    "can't ask for the end of %s [%d]: %s", told->topic,
		    (int)told->partition, rd_kafka_err2str(told->err)));
	*end = told->offset;
	return (0);
}

int
kafka_admin_end(struct kafka_admin *admin, const char *topic, int partition,
    int64_t *end, int timeout_ms, struct mr_error *err)
{
	rd_kafka_topic_partition_list_t *asked;
	struct admin_request req = {0};
	int status = -1;

	asked = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(asked, topic, partition)
	    ->offset = RD_KAFKA_OFFSET_SPEC_LATEST;
	if (admin_request_init(&req, admin, RD_KAFKA_ADMIN_OP_LISTOFFSETS,
		timeout_ms, err) != 0)
		goto done;
	rd_kafka_error_destroy(
	    rd_kafka_AdminOptions_set_isolation_level(req.options,
		RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED));
	rd_kafka_ListOffsets(admin->client, asked, req.options, req.queue);
	if (admin_request_wait(&req, timeout_ms, "ask for an end", err) == 0)
		status = take_end(&req, end, err);
done:
	admin_request_done(&req);
	rd_kafka_topic_partition_list_destroy(asked);
	return (status);
}

/* ---- a group's positions -------------------------------------------------- */

/* The first partition of each topic that can be seen; NULL on error. */
static rd_kafka_topic_partition_list_t *
first_partitions(struct kafka_admin *reader, int timeout_ms,
    struct mr_error *err)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;
	int i;

	code = rd_kafka_metadata(reader->client, 1, NULL, &metadata,
	    timeout_ms);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
		mr_error_set(err, client_error_kind(code),
		    "can't list topics: %s%s", rd_kafka_err2str(code),
		    admin_trouble(reader).text);
		return (NULL);
	}
	list = rd_kafka_topic_partition_list_new(metadata->topic_cnt);
	for (i = 0; i < metadata->topic_cnt; i++)
		rd_kafka_topic_partition_list_add(list,
		    metadata->topics[i].topic, 0);
	rd_kafka_metadata_destroy(metadata);
	return (list);
}

/* The furthest of them: 1, or 0 if the group has committed none. */
static int
take_furthest(const rd_kafka_topic_partition_list_t *list, int64_t *offset,
    char *metadata, size_t metadata_size)
{
	const rd_kafka_topic_partition_t *entry;
	int i, found = 0;

	for (i = 0; i < list->cnt; i++) {
		entry = &list->elems[i];
		if (entry->offset < 0 || (found && entry->offset <= *offset))
			continue;
		found = 1;
		*offset = entry->offset;
		client_metadata(entry, metadata, metadata_size);
	}
	return (found);
}

static int
read_furthest(struct kafka_admin *reader, const char *group, int64_t *offset,
    char *metadata, size_t metadata_size, int timeout_ms, struct mr_error *err)
{
	int64_t deadline_us = clock_mono_us() + (int64_t)timeout_ms * 1000;
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t code;
	int found;

	if ((list = first_partitions(reader, timeout_ms, err)) == NULL)
		return (-1);
	code = client_committed(reader->client, list,
	    admin_ms_left(deadline_us));
	found = code == RD_KAFKA_RESP_ERR_NO_ERROR ?
	    take_furthest(list, offset, metadata, metadata_size) :
	    mr_error_set(err, client_error_kind(code),
		"can't read the positions of group %s: %s%s", group,
		rd_kafka_err2str(code), admin_trouble(reader).text);
	rd_kafka_topic_partition_list_destroy(list);
	return (found);
}

/*
 * By a client of its own, since one that knows a coordinator goes on asking
 * that one after it has died (librdkafka's issue 5511); and a consumer, since
 * an answer that comes when the admin client's time for it is over ends the
 * process (an assertion in rd_kafka_enq_once_del_source_return).
 */
int
kafka_group_furthest(const struct kafka_conf *conf, const char *group,
    int stable, int64_t *offset, char *metadata, size_t metadata_size,
    int timeout_ms, struct mr_error *err)
{
	const struct setting fixed[] = {{"group.id", group},
	    {"enable.auto.commit", "false"},
	    {"isolation.level", stable ? "read_committed" : "read_uncommitted"},
	    {NULL, NULL}};
	static const struct setting none[] = {{NULL, NULL}};
	struct kafka_admin reader = {.lock = PTHREAD_MUTEX_INITIALIZER};
	rd_kafka_conf_t *settings;
	int found;

	if ((settings = client_conf_new(conf, none, fixed, &reader, err)) ==
	    NULL)
		return (-1);
	rd_kafka_conf_set_error_cb(settings, take_error);
	if ((reader.client = client_new(RD_KAFKA_CONSUMER, settings, err)) ==
	    NULL)
		return (-1);
	found = read_furthest(&reader, group, offset, metadata, metadata_size,
	    timeout_ms, err);
	rd_kafka_destroy_flags(reader.client,
	    RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return (found);
}
