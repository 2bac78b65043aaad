/* kafka_admin_topics -- the declared topics: made, compared, set right. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "kafka/kafka_internal.h"

#define REPLICAS_MAX 3
#define PARTITIONS "partitions"
/* Between looks whether brokers show by now what was made. */
#define SEEN_NAP_NS 20000000

/* ---- settings -------------------------------------------------------------- */

/* One resource, a topic or a broker, asked about or changed. */
static rd_kafka_ConfigResource_t *
resource_new(rd_kafka_ResourceType_t type, const char *name,
    struct mr_error *err)
{
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(type,
	    name);

	if (resource == NULL)
		mr_error_set(err, MR_FATAL, "out of memory");
	return (resource);
}

/* The only answer about ${what} ("the settings of t"), if it isn't an error. */
static const rd_kafka_ConfigResource_t *
resource_answer(const rd_kafka_ConfigResource_t **answers, size_t count,
    const char *what, struct mr_error *err)
{
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__BAD_MSG;
	const char *why = "the broker's answer is about something else";

	if (count == 1) {
		code = rd_kafka_ConfigResource_error(answers[0]);
		why = rd_kafka_ConfigResource_error_string(answers[0]);
	}
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return (answers[0]);
	mr_error_set(err, client_error_kind(code), "can't %s: %s", what,
	    why != NULL ? why : rd_kafka_err2str(code));
	return (NULL);
}

static const char *
setting_of(const rd_kafka_ConfigResource_t *resource, const char *name)
{
	const rd_kafka_ConfigEntry_t **entries;
	size_t i, count = 0;

	entries = rd_kafka_ConfigResource_configs(resource, &count);
	for (i = 0; i < count; i++)
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
			return (rd_kafka_ConfigEntry_value(entries[i]));
	return (NULL);
}

/*
 * Ask for a resource's settings ("the settings of t") and have ${take} look at
 * them; what that returns, or -1.
 */
static int
ask_settings(struct kafka_admin *admin, rd_kafka_ResourceType_t type,
    const char *name,
    int (*take)(const rd_kafka_ConfigResource_t *answer, void *arg), void *arg,
    int timeout_ms, struct mr_error *err)
{
	rd_kafka_ConfigResource_t *resource;
	const rd_kafka_ConfigResource_t **answers, *answer;
	struct admin_request req = {0};
	char what[KAFKA_TOPIC_MAX + 40];
	size_t count = 0;
	int status = -1;

	snprintf(what, sizeof(what), "ask for the settings of %.*s",
	    KAFKA_TOPIC_MAX, name);
	if ((resource = resource_new(type, name, err)) == NULL)
		return (-1);
	if (admin_request_init(&req, admin, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
		timeout_ms, err) != 0)
		goto done;
	rd_kafka_DescribeConfigs(admin->client, &resource, 1, req.options,
	    req.queue);
	if (admin_request_wait(&req, timeout_ms, what, err) != 0)
		goto done;
	answers = rd_kafka_DescribeConfigs_result_resources(
	    rd_kafka_event_DescribeConfigs_result(req.event), &count);
	if ((answer = resource_answer(answers, count, what, err)) != NULL)
		status = take(answer, arg);
done:
	admin_request_done(&req);
	rd_kafka_ConfigResource_destroy(resource);
	return (status);
}

/* ---- making them ----------------------------------------------------------- */

static int
take_replicas(const rd_kafka_ConfigResource_t *answer, void *arg)
{
	const char *value = setting_of(answer, "default.replication.factor");
	long count = value == NULL ? 0 : strtol(value, NULL, 10);

	(void)arg;
	return (count > 0 && count <= INT16_MAX ? (int)count : 0);
}

/*
 * How many replicas new topics get: min(3, brokers), or what brokers give by
 * default if that is more.  A cluster whose brokers are still starting has few,
 * and refuses what it can't give yet.  0 or -1.
 */
static int
count_replicas(struct kafka_admin *admin, int *replicas, int timeout_ms,
    struct mr_error *err)
{
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t code;
	struct mr_error unknown = {MR_OK, ""};
	char broker[16] = "";
	int by_default;

	code = rd_kafka_metadata(admin->client, 0, NULL, &metadata, timeout_ms);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return (mr_error_set(err, client_error_kind(code),
		    "can't ask Kafka for its brokers: %s",
		    rd_kafka_err2str(code)));
	*replicas = metadata->broker_cnt < REPLICAS_MAX ? metadata->broker_cnt :
							  REPLICAS_MAX;
	if (metadata->broker_cnt > 0)
		snprintf(broker, sizeof(broker), "%d",
		    (int)metadata->brokers[0].id);
	rd_kafka_metadata_destroy(metadata);
	if (*replicas == 0) {
		*replicas = 1;
		return (0);
	}
	by_default = ask_settings(admin, RD_KAFKA_RESOURCE_BROKER, broker,
	    take_replicas, NULL, admin_ms_left(deadline), &unknown);
	/* Not everybody may ask, and not every broker answers that. */
	if (by_default == -1 && unknown.kind == MR_RETRY) {
		*err = unknown;
		return (-1);
	}
	if (by_default > *replicas)
		*replicas = by_default;
	return (0);
}

/* What is declared of a topic, besides its partitions; returns how many. */
static int
declared_settings(const struct kafka_topic *topic,
    struct kafka_difference settings[KAFKA_DIFFERENCES_MAX])
{
	int count = 0;

	settings[count].name = "cleanup.policy";
	snprintf(settings[count++].declared, sizeof(settings[0].declared), "%s",
	    topic->compacted ? "compact" : "delete");
	if (topic->retention_ms != 0) {
		settings[count].name = "retention.ms";
		snprintf(settings[count++].declared,
		    sizeof(settings[0].declared), "%lld",
		    (long long)topic->retention_ms);
	}
	/* Kept for ever: whatever the broker's default by size is. */
	if (topic->retention_ms == -1) {
		settings[count].name = "retention.bytes";
		snprintf(settings[count++].declared,
		    sizeof(settings[0].declared), "-1");
	}
	return (count);
}

static rd_kafka_NewTopic_t *
describe_new_topic(const struct kafka_topic *topic, int replicas,
    struct mr_error *err)
{
	struct kafka_difference settings[KAFKA_DIFFERENCES_MAX];
	rd_kafka_NewTopic_t *new_topic;
	int i, count = declared_settings(topic, settings);
	char why[160];

	new_topic = rd_kafka_NewTopic_new(topic->name, topic->partitions,
	    replicas, why, sizeof(why));
	if (new_topic == NULL) {
		mr_error_set(err, MR_REJECT, "can't create topic %s: %s",
		    topic->name, why);
		return (NULL);
	}
	for (i = 0; i < count; i++)
		rd_kafka_NewTopic_set_config(new_topic, settings[i].name,
		    settings[i].declared);
	return (new_topic);
}

/* Create those of ${states} that have no partitions. */
static int
create_missing(struct kafka_admin *admin,
    const struct kafka_topic_state *states, int count, int timeout_ms,
    struct mr_error *err)
{
	const rd_kafka_topic_result_t **results;
	rd_kafka_NewTopic_t **list;
	struct admin_request req = {0};
	size_t i, missing = 0, result_count = 0;
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	int replicas = 1, status = -1;

	if (count_replicas(admin, &replicas, timeout_ms, err) != 0)
		return (-1);
	if ((list = calloc((size_t)count, sizeof(rd_kafka_NewTopic_t *))) ==
	    NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	for (i = 0; i < (size_t)count; i++) {
		if (states[i].partitions != 0)
			continue;
		list[missing] = describe_new_topic(kafka_topic_find(
						       states[i].name),
		    replicas, err);
		if (list[missing] == NULL)
			goto done;
		missing++;
	}
	timeout_ms = admin_ms_left(deadline);
	if (admin_request_init(&req, admin, RD_KAFKA_ADMIN_OP_CREATETOPICS,
		timeout_ms, err) != 0)
		goto done;
	rd_kafka_CreateTopics(admin->client, list, missing, req.options,
	    req.queue);
	if (admin_request_wait(&req, timeout_ms, "create topics", err) != 0)
		goto done;
	results = rd_kafka_CreateTopics_result_topics(
	    rd_kafka_event_CreateTopics_result(req.event), &result_count);
	for (i = 0; i < result_count; i++) {
		rd_kafka_resp_err_t code = rd_kafka_topic_result_error(
		    results[i]);

		/* Another program may have been faster. */
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR ||
		    code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			continue;
		mr_error_set(err, client_error_kind(code),
		    "can't create topic %s: %s",
		    rd_kafka_topic_result_name(results[i]),
		    rd_kafka_topic_result_error_string(results[i]));
		goto done;
	}
	status = 0;
done:
	admin_request_done(&req);
	rd_kafka_NewTopic_destroy_array(list, missing);
	free(list);
	return (status);
}

static int
all_there(const struct kafka_topic_state *states, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		if (states[i].partitions == 0)
			return (0);
	}
	return (1);
}

int
kafka_admin_ensure(struct kafka_admin *admin, const char *const *names,
    int count, int timeout_ms, struct mr_error *err)
{
	const struct timespec nap = {.tv_nsec = SEEN_NAP_NS};
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	struct kafka_topic_state *states;
	int created = 0, i, status = -1;

	assert(count >= 0 && count <= ADMIN_TOPICS_MAX);
	if (count == 0)
		return (0);
	if ((states = calloc((size_t)count, sizeof(*states))) == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	for (i = 0; i < count; i++) {
		if (kafka_topic_find(names[i]) == NULL) {
			mr_error_set(err, MR_REJECT,
			    "topic %.*s is not among the declared ones",
			    KAFKA_TOPIC_MAX, names[i]);
			goto done;
		}
		snprintf(states[i].name, sizeof(states[i].name), "%s",
		    names[i]);
	}
	/* A topic just created can take a moment until brokers show it. */
	for (;;) {
		if (kafka_admin_describe(admin, states, count,
			admin_ms_left(deadline), err) != 0)
			goto done;
		if (all_there(states, count))
			break;
		if (admin_ms_left(deadline) == 0) {
			mr_error_set(err, MR_RETRY,
			    "topics can't be seen %d ms after their creation",
			    timeout_ms);
			goto done;
		}
		if (created)
			nanosleep(&nap, NULL);
		else if (create_missing(admin, states, count,
			     admin_ms_left(deadline), err) != 0)
			goto done;
		created = 1;
	}
	status = 0;
done:
	free(states);
	return (status);
}

/* ---- what differs ----------------------------------------------------------- */

struct declared {
	struct kafka_difference *list;
	int count;
};

/* Keep those that the cluster has otherwise; returns how many. */
static int
keep_differences(const rd_kafka_ConfigResource_t *resource, void *arg)
{
	const struct declared *declared = arg;
	struct kafka_difference *list = declared->list;
	const char *actual;
	int i, kept = 0;

	for (i = 0; i < declared->count; i++) {
		actual = setting_of(resource, list[i].name);
		if (actual != NULL && strcmp(actual, list[i].declared) == 0)
			continue;
		list[kept] = list[i];
		list[kept].can_be_altered = 1;
		snprintf(list[kept].actual, sizeof(list[kept].actual), "%s",
		    actual != NULL ? actual : "unknown");
		kept++;
	}
	return (kept);
}

int
kafka_admin_compare(struct kafka_admin *admin, const struct kafka_topic *topic,
    struct kafka_difference list[KAFKA_DIFFERENCES_MAX], int timeout_ms,
    struct mr_error *err)
{
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	struct kafka_topic_state state = {0};
	struct declared declared;
	int differing = 0, count;

	snprintf(state.name, sizeof(state.name), "%s", topic->name);
	if (kafka_admin_describe(admin, &state, 1, timeout_ms, err) != 0)
		return (-1);
	if (state.partitions != topic->partitions) {
		list[0].name = PARTITIONS;
		list[0].can_be_altered = state.partitions > 0 &&
		    state.partitions < topic->partitions;
		snprintf(list[0].declared, sizeof(list[0].declared), "%d",
		    topic->partitions);
		snprintf(list[0].actual, sizeof(list[0].actual), "%d",
		    state.partitions);
		differing = 1;
		if (state.partitions == 0)
			return (1);
	}
	declared.list = list + differing;
	declared.count = declared_settings(topic, declared.list);
	count = ask_settings(admin, RD_KAFKA_RESOURCE_TOPIC, topic->name,
	    keep_differences, &declared, admin_ms_left(deadline), err);
	return (count == -1 ? -1 : differing + count);
}

/* ---- setting it right -------------------------------------------------------- */

static int
add_partitions(struct kafka_admin *admin, const struct kafka_topic *topic,
    int timeout_ms, struct mr_error *err)
{
	const rd_kafka_topic_result_t **results;
	rd_kafka_NewPartitions_t *wanted;
	struct admin_request req = {0};
	rd_kafka_resp_err_t code;
	char why[160];
	size_t count = 0;
	int status = -1;

	wanted = rd_kafka_NewPartitions_new(topic->name,
	    (size_t)topic->partitions, why, sizeof(why));
	if (wanted == NULL)
		return (mr_error_set(err, MR_REJECT,
		    "can't add partitions to %s: %s", topic->name, why));
	if (admin_request_init(&req, admin, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS,
		timeout_ms, err) != 0)
		goto done;
	rd_kafka_CreatePartitions(admin->client, &wanted, 1, req.options,
	    req.queue);
	if (admin_request_wait(&req, timeout_ms, "add partitions", err) != 0)
		goto done;
	results = rd_kafka_CreatePartitions_result_topics(
	    rd_kafka_event_CreatePartitions_result(req.event), &count);
	code = count == 1 ? rd_kafka_topic_result_error(results[0]) :
			    RD_KAFKA_RESP_ERR__BAD_MSG;
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		mr_error_set(err, client_error_kind(code),
		    "can't add partitions to %s: %s", topic->name,
		    rd_kafka_err2str(code));
	else
		status = 0;
done:
	admin_request_done(&req);
	rd_kafka_NewPartitions_destroy(wanted);
	return (status);
}

static int
set_settings(struct kafka_admin *admin, const struct kafka_topic *topic,
    const struct kafka_difference *list, int count, int timeout_ms,
    struct mr_error *err)
{
	rd_kafka_ConfigResource_t *resource;
	const rd_kafka_ConfigResource_t **answers;
	struct admin_request req = {0};
	rd_kafka_error_t *error;
	char what[KAFKA_TOPIC_MAX + 40];
	size_t answered = 0;
	int i, status = -1;

	snprintf(what, sizeof(what), "change the settings of %.*s",
	    KAFKA_TOPIC_MAX, topic->name);
	if ((resource = resource_new(RD_KAFKA_RESOURCE_TOPIC, topic->name,
		 err)) == NULL)
		return (-1);
	for (i = 0; i < count; i++) {
		error = rd_kafka_ConfigResource_add_incremental_config(resource,
		    list[i].name, RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
		    list[i].declared);
		if (error == NULL)
			continue;
		mr_error_set(err, MR_REJECT, "can't %s: %s", what,
		    rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		goto done;
	}
	if (admin_request_init(&req, admin,
		RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout_ms,
		err) != 0)
		goto done;
	rd_kafka_IncrementalAlterConfigs(admin->client, &resource, 1,
	    req.options, req.queue);
	if (admin_request_wait(&req, timeout_ms, what, err) != 0)
		goto done;
	answers = rd_kafka_IncrementalAlterConfigs_result_resources(
	    rd_kafka_event_IncrementalAlterConfigs_result(req.event),
	    &answered);
	if (resource_answer(answers, answered, what, err) != NULL)
		status = 0;
done:
	admin_request_done(&req);
	rd_kafka_ConfigResource_destroy(resource);
	return (status);
}

/* Change what can be changed of ${list}; 0 or -1. */
static int
alter_differences(struct kafka_admin *admin, const struct kafka_topic *topic,
    const struct kafka_difference *list, int count, int64_t deadline,
    struct mr_error *err)
{
	int partitions = strcmp(list[0].name, PARTITIONS) == 0;

	if (partitions && list[0].can_be_altered &&
	    add_partitions(admin, topic, admin_ms_left(deadline), err) != 0)
		return (-1);
	if (count == partitions)
		return (0);
	return (set_settings(admin, topic, list + partitions,
	    count - partitions, admin_ms_left(deadline), err));
}

static int
any_can_be_altered(const struct kafka_difference *list, int count)
{
	int i;

	for (i = 0; i < count; i++)
		if (list[i].can_be_altered)
			return (1);
	return (0);
}

int
kafka_admin_alter(struct kafka_admin *admin, const struct kafka_topic *topic,
    int timeout_ms, struct mr_error *err)
{
	const struct timespec nap = {.tv_nsec = SEEN_NAP_NS};
	struct kafka_difference list[KAFKA_DIFFERENCES_MAX];
	int64_t deadline = clock_mono_us() + (int64_t)timeout_ms * 1000;
	int altered = 0, count;

	/* What has changed can take a moment until brokers show it. */
	for (;;) {
		if ((count = kafka_admin_compare(admin, topic, list,
			 admin_ms_left(deadline), err)) == -1)
			return (-1);
		if (!any_can_be_altered(list, count))
			return (0);
		if (admin_ms_left(deadline) == 0)
			return (mr_error_set(err, MR_RETRY,
			    "changes of topic %s can't be seen %d ms after "
			    "they were made",
			    topic->name, timeout_ms));
		if (altered)
			nanosleep(&nap, NULL);
		else if (alter_differences(admin, topic, list, count, deadline,
			     err) != 0)
			return (-1);
		altered = 1;
	}
}
