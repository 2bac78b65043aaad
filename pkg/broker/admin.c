/*
 * admin -- CreateTopics, DeleteTopics, CreatePartitions.
 *
 * The loop checks and prepares, the keeper writes rows and makes folders, and
 * the loop then changes the catalog and answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "broker/admin.h"
#include "broker/catalog.h"
#include "broker/connection.h"
#include "broker/keeper.h"
#include "broker/named.h"
#include "broker/partition.h"

#define PARTITIONS_OF_A_TOPIC_MOST 10000

static const char named_twice[] = "the topic is named twice";

/* Why a topic can't be made, and what is said of it. */
struct verdict {
	int16_t error;
	const char *message; /* constant, or the request's memory; or NULL */
};

/* A request that makes topics, by the keeper's hand. */
struct create_job {
	struct worker_job job;
	struct request *req;
	struct topic **topics; /* NULL: refused */
	struct verdict *verdicts;
	size_t count;
	void (*answer)(struct create_job *create);
};

/* In the request's memory; NULL: there is none left. */
static char *
copy_text(struct request *req, const char *text, size_t length)
{
	char *copy = wire_arena_take(&req->arena, length + 1);

	if (copy != NULL && length > 0)
		memcpy(copy, text, length);
	return (copy);
}

static int16_t
error_of(const struct mr_error *err)
{

	return (err->kind == MR_REJECT ? WIRE_INVALID_CONFIG :
					 WIRE_KAFKA_STORAGE_ERROR);
}

/* ---- what is made ------------------------------------------------------- */

/* Partitions without a log yet.  0 or -1. */
static int
set_partition_count(struct topic *t, int32_t count)
{

	t->partitions = calloc((size_t)count, sizeof(struct partition *));
	if (t->partitions == NULL)
		return (-1);
	t->partition_count = count;
	return (0);
}

static int
open_logs(struct broker *b, struct topic *t, struct mr_error *err)
{
	int32_t i;

	for (i = 0; i < t->partition_count; i++)
		if (t->partitions[i] == NULL &&
		    (t->partitions[i] = partition_open(b, t, i, err)) == NULL)
			return (-1);
	return (0);
}

static void
run_create(struct worker_job *job, void *arg)
{
	struct create_job *create = (struct create_job *)job;
	size_t i;

	/* Folders first: a row promises that they are there. */
	for (i = 0; i < create->count; i++)
		if (create->topics[i] != NULL &&
		    open_logs(arg, create->topics[i], &job->err) == -1)
			return;
	(void)keeper_add_topics(arg, create->topics, create->count, &job->err);
}

/* Names, and partitions, that are being made are taken, too. */
static int
claim(struct broker *b, struct topic *t)
{

	if (map_add(&b->making, t->name, strlen(t->name), t) == -1)
		return (-1);
	if (catalog_claim(b, t) == -1) {
		map_remove(&b->making, t->name, strlen(t->name));
		return (-1);
	}
	b->partitions_making += t->partition_count;
	return (0);
}

static void
unclaim(struct broker *b, struct topic *t)
{

	catalog_unclaim(b, t);
	map_remove(&b->making, t->name, strlen(t->name));
	b->partitions_making -= t->partition_count;
}

static void
drop_new(struct create_job *create, size_t i, int16_t error)
{
	struct topic *t = create->topics[i];
	char id_text[ID_TEXT_SIZE];

	memcpy(id_text, t->id_text, sizeof(id_text));
	create->topics[i] = NULL;
	create->verdicts[i].error = error;
	topic_free(t);
	topic_remove_folder(create->req->broker, id_text);
}

static void
finish_create(struct worker_job *job, void *arg)
{
	struct create_job *create = (struct create_job *)job;
	struct broker *b = arg;
	struct mr_error err;
	struct topic *t;
	size_t i;

	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	else if (job->err.kind != MR_OK)
		log_warn("topics could not be made", "error", job->err.message);
	for (i = 0; i < create->count; i++) {
		if ((t = create->topics[i]) == NULL)
			continue;
		unclaim(b, t);
		if (job->err.kind != MR_OK) {
			drop_new(create, i, WIRE_KAFKA_STORAGE_ERROR);
			continue;
		}
		if (catalog_add(b, t, &err) == -1) {
			broker_fail(b, &err);
			drop_new(create, i, WIRE_KAFKA_STORAGE_ERROR);
			continue;
		}
		log_info("topic made", "topic", t->name, "partitions",
		    log_i64(t->partition_count), "id", t->id_text);
	}
	create->answer(create);
}

/* Hand over what is to be made; or, if that is nothing, answer at once. */
static void
start_create(struct broker *b, struct create_job *create, int validate_only)
{
	size_t i, wanted = 0;

	for (i = 0; i < create->count; i++)
		wanted += create->topics[i] != NULL;
	if (wanted > 0 && !validate_only) {
		create->job.run = run_create;
		create->job.finish = finish_create;
		worker_give(b->keeper, &create->job);
		return;
	}
	for (i = 0; i < create->count; i++)
		if (create->topics[i] != NULL)
			unclaim(b, create->topics[i]);
	create->answer(create);
	/* What was only tried: the answer is out. */
}

static struct create_job *
new_create(struct request *req, size_t count)
{
	struct create_job *create = request_take(req, sizeof(*create));

	if (create == NULL)
		return (NULL);
	create->req = req;
	create->count = count;
	create->topics = request_take(req,
	    (count + 1) * sizeof(struct topic *));
	if (create->topics == NULL)
		return (NULL);
	create->verdicts = request_take(req,
	    (count + 1) * sizeof(*create->verdicts));
	return (create->verdicts != NULL ? create : NULL);
}

/* ---- CreateTopics ------------------------------------------------------- */

static int
has_room(const struct broker *b, int32_t count)
{

	return (b->partition_count + b->partitions_making + count <=
	    b->conf.partitions_most);
}

static int16_t
check_count(const struct broker *b, int32_t count, struct verdict *v)
{

	if (count < 1) {
		v->message = "the number of partitions must be larger than 0";
		return (v->error = WIRE_INVALID_PARTITIONS);
	}
	if (count > PARTITIONS_OF_A_TOPIC_MOST || !has_room(b, count)) {
		v->message = "that is more partitions than this broker takes";
		return (v->error = WIRE_INVALID_PARTITIONS);
	}
	return (WIRE_NONE);
}

/* Each partition once, on the one broker that there is. */
static int16_t
check_each(struct request *req,
    const struct wire_create_topics_request_topic *in, struct verdict *v)
{
	const struct wire_create_topics_request_assignment *a;
	int32_t i, count = in->assignments.count;
	uint8_t *seen = wire_arena_take(&req->arena, (size_t)count);

	if (seen == NULL)
		return (v->error = WIRE_KAFKA_STORAGE_ERROR);
	for (i = 0; i < count; i++) {
		a = &in->assignments.at[i];
		if (a->broker_ids.count != 1 ||
		    a->broker_ids.at[0] != BROKER_NODE_ID ||
		    a->partition_index < 0 || a->partition_index >= count ||
		    seen[a->partition_index]++ > 0) {
			v->message = "there is one broker, and partitions are "
				     "numbered from 0, each once";
			return (v->error = WIRE_INVALID_REPLICA_ASSIGNMENT);
		}
	}
	return (WIRE_NONE);
}

/* How many partitions, where they are assigned by hand. */
static int16_t
check_assignments(struct request *req,
    const struct wire_create_topics_request_topic *in, int32_t *count,
    struct verdict *v)
{

	if (in->assignments.count <= 0) {
		if (in->replication_factor == 1 || in->replication_factor == -1)
			return (WIRE_NONE);
		v->message = "there is one broker: the replication factor "
			     "can only be 1";
		return (v->error = WIRE_INVALID_REPLICATION_FACTOR);
	}
	if (in->num_partitions != -1 || in->replication_factor != -1) {
		v->message = "partitions are either assigned or counted";
		return (v->error = WIRE_INVALID_REQUEST);
	}
	*count = in->assignments.count;
	return (check_each(req, in, v));
}

/* 0, or -1: a setting is wrong, and the verdict says so. */
static int
take_settings(struct broker *b, struct request *req, struct topic *t,
    const struct wire_create_topics_request_topic *in, struct verdict *v)
{
	const struct wire_create_topics_request_config *c;
	struct mr_error err;
	char *value;
	int32_t i;
	int setting;

	for (i = 0; i < in->configs.count; i++) {
		c = &in->configs.at[i];
		if (c->value.length < 0) {
			v->error = WIRE_INVALID_CONFIG;
			v->message = "a setting's value can't be null";
			return (-1);
		}
		value = copy_text(req, c->value.at, (size_t)c->value.length);
		if (value == NULL) {
			v->error = WIRE_KAFKA_STORAGE_ERROR;
			return (-1);
		}
		setting = setting_find(c->name.at, (size_t)c->name.length);
		if (setting == -1)
			mr_error_set(&err, MR_REJECT,
			    "%.*s: there is no such setting here",
			    (int)(c->name.length < 100 ? c->name.length : 100),
			    c->name.at);
		if (setting == -1 ||
		    topic_override(b, t, setting, value, &err) == -1) {
			v->error = error_of(&err);
			v->message = copy_text(req, err.message,
			    strlen(err.message));
			return (-1);
		}
	}
	return (0);
}

/* Where Apache Kafka keeps what this broker has in broker.db, or hasn't: a client
 * that finds one of them expects Kafka's records in it. */
static int
is_internal(struct wire_string name)
{

	return (wire_string_is(name, "__consumer_offsets") ||
	    wire_string_is(name, "__transaction_state") ||
	    wire_string_is(name, "__share_group_state"));
}

/* Can a topic get this name?  Then it is put, with its NUL, into ${copy}. */
static int16_t
check_name(const struct broker *b, struct wire_string name,
    char copy[TOPIC_NAME_MOST + 1], struct verdict *v)
{

	if ((v->error = topic_check_name(name, &v->message)) != WIRE_NONE)
		return (v->error);
	if (is_internal(name)) {
		v->message = "that is the name of an internal topic";
		return (v->error = WIRE_INVALID_TOPIC);
	}
	memcpy(copy, name.at, (size_t)name.length);
	copy[name.length] = '\0';
	if (catalog_find(b, name) != NULL ||
	    map_find(&b->making, copy, strlen(copy)) != NULL) {
		v->message = "a topic of this name exists";
		return (v->error = WIRE_TOPIC_ALREADY_EXISTS);
	}
	if (catalog_collides(b, copy)) {
		v->message = "a topic exists whose name differs only in '.' "
			     "and '_'";
		return (v->error = WIRE_INVALID_TOPIC);
	}
	return (WIRE_NONE);
}

/* A topic to be made, claimed; NULL and the verdict if it can't be. */
static struct topic *
prepare(struct broker *b, struct request *req,
    const struct wire_create_topics_request_topic *in, struct verdict *v)
{
	int32_t count = in->num_partitions == -1 ? (int32_t)b->conf.partitions :
						   in->num_partitions;
	char name[TOPIC_NAME_MOST + 1];
	struct topic *t;

	if (check_name(b, in->name, name, v) != WIRE_NONE ||
	    check_assignments(req, in, &count, v) != WIRE_NONE ||
	    check_count(b, count, v) != WIRE_NONE)
		return (NULL);
	if ((t = topic_new(b, name)) == NULL ||
	    set_partition_count(t, count) == -1 || claim(b, t) == -1) {
		topic_free(t);
		v->error = WIRE_KAFKA_STORAGE_ERROR;
		return (NULL);
	}
	if (take_settings(b, req, t, in, v) == -1) {
		unclaim(b, t);
		topic_free(t);
		return (NULL);
	}
	return (t);
}

/* All settings, as CreateTopics tells them of a new topic. */
static int
list_settings(struct request *req, const struct topic *t,
    struct wire_create_topics_response_topic *out)
{
	struct wire_create_topics_response_config *c;
	char text[64];
	int i;

	c = request_take(req, SETTING_COUNT * sizeof(*c));
	if ((out->configs.at = c) == NULL)
		return (-1);
	out->configs.count = SETTING_COUNT;
	for (i = 0; i < SETTING_COUNT; i++, c++) {
		setting_write(i, &t->settings, text, sizeof(text));
		c->name = wire_text(setting_name(i));
		c->value = wire_text(copy_text(req, text, strlen(text)));
		if (c->value.at == NULL) {
			request_abandon(req,
			    "its answer takes too much memory");
			return (-1);
		}
		c->config_source = t->overrides[i] != NULL ? 1 : 5;
	}
	return (0);
}

static void
answer_create(struct create_job *create)
{
	struct request *req = create->req;
	const struct wire_create_topics_request *in = req->body;
	struct wire_create_topics_response_topic *list;
	struct wire_create_topics_response out;
	const struct topic *t;
	size_t i;

	wire_defaults(wire_create_topics_response_layout(), &out);
	list = request_take(req, create->count * sizeof(*list));
	if (list == NULL)
		return;
	out.topics.at = list;
	out.topics.count = (int32_t)create->count;
	for (i = 0; i < create->count; i++, list++) {
		wire_defaults(wire_create_topics_response_topic_layout(), list);
		list->name = in->topics.at[i].name;
		list->error_code = create->verdicts[i].error;
		list->error_message = wire_text(create->verdicts[i].message);
		if ((t = create->topics[i]) == NULL)
			continue;
		if (!in->validate_only)
			list->topic_id = t->id;
		list->num_partitions = t->partition_count;
		list->replication_factor = 1;
		if (list_settings(req, t, list) == -1)
			break;
	}
	if (i == create->count)
		request_answer(req, &out);
}

/* NULL: the request was given up. */
static const struct named *
find_made_twice(struct request *req)
{
	const struct wire_create_topics_request *in = req->body;
	size_t i, count = (size_t)in->topics.count;
	struct named *list = request_take(req, (count + 1) * sizeof(*list));

	if (list == NULL)
		return (NULL);
	for (i = 0; i < count; i++)
		list[i] = named_as(in->topics.at[i].name);
	return (named_find_twice(req, list, count) == 0 ? list : NULL);
}

/* Topics that were only tried. */
static void
free_tried(struct topic **topics, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		topic_free(topics[i]);
}

void
handle_create_topics(struct broker *b, struct request *req)
{
	const struct wire_create_topics_request *in = req->body;
	size_t count = (size_t)in->topics.count, i;
	struct create_job *create = new_create(req, count);
	struct topic **tried = NULL;
	const struct named *named;

	if (create == NULL || (named = find_made_twice(req)) == NULL)
		return;
	create->answer = answer_create;
	for (i = 0; i < count; i++) {
		if (named[i].twice && named[i].length > 0) {
			create->verdicts[i].error = WIRE_INVALID_REQUEST;
			create->verdicts[i].message = named_twice;
			continue;
		}
		create->topics[i] = prepare(b, req, &in->topics.at[i],
		    &create->verdicts[i]);
	}
	/* The answer frees the request, and with it the list of topics. */
	if (in->validate_only &&
	    (tried = calloc(count + 1, sizeof(struct topic *))) != NULL)
		memcpy(tried, create->topics, count * sizeof(struct topic *));
	start_create(b, create, in->validate_only);
	if (tried != NULL)
		free_tried(tried, count);
	free(tried);
}

/* ---- by asking for them ------------------------------------------------- */

static void
answer_auto(struct create_job *create)
{

	metadata_answer(create->req->broker, create->req);
}

int
admin_auto_create(struct broker *b, struct request *req)
{
	const struct wire_metadata_request *in = req->body;
	struct wire_create_topics_request_topic wanted;
	size_t count = (size_t)in->topics.count, i;
	struct create_job *create;
	int any = 0;

	for (i = 0; i < count; i++)
		any |= in->topics.at[i].name.length > 0 &&
		    catalog_find(b, in->topics.at[i].name) == NULL;
	if (!any)
		return (0);
	if ((create = new_create(req, count)) == NULL)
		return (1);
	create->answer = answer_auto;
	for (i = 0; i < count; i++) {
		if (in->topics.at[i].name.length <= 0 ||
		    catalog_find(b, in->topics.at[i].name) != NULL)
			continue;
		wire_defaults(wire_create_topics_request_topic_layout(),
		    &wanted);
		wanted.name = in->topics.at[i].name;
		wanted.num_partitions = -1;
		wanted.replication_factor = -1;
		create->topics[i] = prepare(b, req, &wanted,
		    &create->verdicts[i]);
	}
	start_create(b, create, 0);
	return (1);
}

/* ---- DeleteTopics ------------------------------------------------------- */

struct delete_job {
	struct worker_job job;
	struct request *req;
	struct topic **topics; /* held; NULL: not found */
	char (*names)[TOPIC_NAME_MOST + 1];
	size_t count;
	struct wire_delete_topics_response out;
};

static void
run_delete(struct worker_job *job, void *arg)
{
	struct delete_job *del = (struct delete_job *)job;

	(void)keeper_remove_topics(arg, del->topics, del->count, &job->err);
}

static void
take_out(struct broker *b, struct topic *t)
{

	catalog_remove(b, t);
	group_drop_topic(b->groups, t->name);
	log_info("topic deleted", "topic", t->name, "id", t->id_text);
	topic_retire(b, t);
}

/* The row is gone: now it is out of the catalog, and its folder goes. */
static void
finish_delete(struct worker_job *job, void *arg)
{
	struct delete_job *del = (struct delete_job *)job;
	struct broker *b = arg;
	struct topic *t;
	size_t i;

	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	for (i = 0; i < del->count; i++) {
		if ((t = del->topics[i]) == NULL)
			continue;
		if (job->err.kind != MR_OK)
			del->out.topics.at[i]
			    .error_code = WIRE_KAFKA_STORAGE_ERROR;
		else if (!t->retired)
			take_out(b, t);
		topic_release(b, t);
	}
	request_answer(del->req, &del->out);
}

/* By its name, or by its id: in old versions only the former. */
static struct topic *
find_deleted(const struct broker *b,
    const struct wire_delete_topics_request_topic *in,
    struct wire_delete_topics_response_topic *out)
{
	int by_id = in->name.length < 0;
	struct topic *t;

	wire_defaults(wire_delete_topics_response_topic_layout(), out);
	out->name = in->name;
	out->topic_id = in->topic_id;
	if (by_id == uuid_is_zero(&in->topic_id)) {
		out->error_message = wire_text(
		    "a topic is named by either its name or its id");
		out->error_code = WIRE_INVALID_REQUEST;
		return (NULL);
	}
	t = by_id ? catalog_find_id(b, &in->topic_id) :
		    catalog_find(b, in->name);
	if (t != NULL)
		out->topic_id = t->id;
	else
		out->error_code = by_id ? WIRE_UNKNOWN_TOPIC_ID :
					  WIRE_UNKNOWN_TOPIC_OR_PARTITION;
	return (t);
}

/* The i-th that is asked for, as new versions say it. */
static struct wire_delete_topics_request_topic
asked_deletion(const struct request *req, size_t i)
{
	const struct wire_delete_topics_request *in = req->body;
	struct wire_delete_topics_request_topic asked;

	if (req->version >= 6)
		return (in->topics.at[i]);
	wire_defaults(wire_delete_topics_request_topic_layout(), &asked);
	asked.name = in->topic_names.at[i];
	return (asked);
}

/* One that was found is named twice also if once by its id.  0 or -1. */
static int
refuse_deleted_twice(struct request *req, struct delete_job *del)
{
	struct named *list = request_take(req,
	    (del->count + 1) * sizeof(*list));
	struct wire_delete_topics_response_topic *out;
	size_t i;

	if (list == NULL)
		return (-1);
	for (i = 0; i < del->count; i++) {
		out = &del->out.topics.at[i];
		list[i] = named_as(out->name);
		if (del->topics[i] == NULL && out->name.length >= 0)
			continue;
		list[i].at = out->topic_id.bytes;
		list[i].length = sizeof(out->topic_id.bytes);
		list[i].number = 1;
	}
	if (named_find_twice(req, list, del->count) == -1)
		return (-1);
	for (i = 0; i < del->count; i++) {
		if (!list[i].twice)
			continue;
		del->topics[i] = NULL;
		del->out.topics.at[i].error_code = WIRE_INVALID_REQUEST;
		del->out.topics.at[i].error_message = wire_text(named_twice);
	}
	return (0);
}

/* Until it is answered: the answer's names outlive the topics. */
static void
hold_deleted(struct delete_job *del)
{
	size_t i;

	for (i = 0; i < del->count; i++) {
		if (del->topics[i] == NULL)
			continue;
		topic_hold(del->topics[i]);
		memcpy(del->names[i], del->topics[i]->name,
		    sizeof(del->names[i]));
		del->out.topics.at[i].name = wire_text(del->names[i]);
	}
}

/* NULL: the request was given up. */
static struct delete_job *
new_delete(struct request *req, size_t count)
{
	struct delete_job *del = request_take(req, sizeof(*del));

	if (del == NULL ||
	    (del->topics = request_take(req,
		 (count + 1) * sizeof(struct topic *))) == NULL ||
	    (del->names = request_take(req,
		 (count + 1) * sizeof(*del->names))) == NULL)
		return (NULL);
	wire_defaults(wire_delete_topics_response_layout(), &del->out);
	del->req = req;
	del->count = count;
	del->out.topics.count = (int32_t)count;
	del->out.topics.at = request_take(req,
	    (count + 1) * sizeof(*del->out.topics.at));
	return (del->out.topics.at != NULL ? del : NULL);
}

void
handle_delete_topics(struct broker *b, struct request *req)
{
	const struct wire_delete_topics_request *in = req->body;
	struct wire_delete_topics_request_topic asked;
	struct delete_job *del;
	size_t i;

	del = new_delete(req,
	    (size_t)(req->version < 6 ? in->topic_names.count :
					in->topics.count));
	if (del == NULL)
		return;
	for (i = 0; i < del->count; i++) {
		asked = asked_deletion(req, i);
		del->topics[i] = find_deleted(b, &asked,
		    &del->out.topics.at[i]);
	}
	if (refuse_deleted_twice(req, del) == -1)
		return;
	hold_deleted(del);
	del->job.run = run_delete;
	del->job.finish = finish_delete;
	worker_give(b->keeper, &del->job);
}

/* ---- CreatePartitions --------------------------------------------------- */

struct grow_job {
	struct worker_job job;
	struct request *req;
	struct grow {
		struct topic *topic; /* NULL: refused */
		struct topic *more; /* the new partitions, for a while */
		int32_t count;
		int made; /* on disk */
	} * list;
	struct named *named;
	size_t count;
	struct wire_create_partitions_response out;
};

/*
 * The topic is the loop's; so the new partitions are opened into a topic of
 * their own, and moved when they are there.  0 or -1.
 */
static int
grow_one(struct broker *b, struct grow *g, struct mr_error *err)
{
	int32_t k;

	for (k = g->topic->partition_count; k < g->count; k++)
		if ((g->more->partitions[k] = partition_open(b, g->topic, k,
			 err)) == NULL)
			return (-1);
	return (keeper_set_partitions(b, g->more->id_text, g->count, err));
}

static void
run_grow(struct worker_job *job, void *arg)
{
	struct grow_job *grow = (struct grow_job *)job;
	struct grow *g;
	size_t i;

	for (i = 0; i < grow->count && job->err.kind != MR_FATAL; i++)
		if ((g = &grow->list[i])->topic != NULL)
			g->made = grow_one(arg, g, &job->err) == 0;
}

static void
move_partitions(struct broker *b, struct grow *g)
{
	struct topic *t = g->topic, *more = g->more;
	struct partition **list = more->partitions;
	int32_t i;

	memcpy(list, t->partitions,
	    (size_t)t->partition_count * sizeof(struct partition *));
	more->partitions = t->partitions;
	more->partition_count = 0;
	t->partitions = list;
	b->partition_count += g->count - t->partition_count;
	/* The settings may have changed while they were opened. */
	for (i = t->partition_count; i < g->count; i++)
		partition_configure(b, list[i]);
	t->partition_count = g->count;
}

static void
finish_grow(struct worker_job *job, void *arg)
{
	struct grow_job *grow = (struct grow_job *)job;
	struct broker *b = arg;
	struct grow *g;
	size_t i;

	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	else if (job->err.kind != MR_OK)
		log_warn("partitions could not be added", "error",
		    job->err.message);
	for (i = 0; i < grow->count; i++) {
		if ((g = &grow->list[i])->topic == NULL)
			continue;
		g->topic->growing = 0;
		b->partitions_making -= g->count - g->topic->partition_count;
		if (g->made && !g->topic->retired)
			move_partitions(b, g);
		else
			grow->out.results.at[i]
			    .error_code = WIRE_KAFKA_STORAGE_ERROR;
		topic_free(g->more);
		topic_release(b, g->topic);
	}
	request_answer(grow->req, &grow->out);
}

/* Are the new partitions assigned, if at all, to the one broker? */
static int
are_assigned_here(const struct wire_create_partitions_request_topic *in,
    const struct topic *t)
{
	const struct wire_i32s *ids;
	int32_t i;

	if (in->assignments.count < 0)
		return (1);
	for (i = 0; i < in->assignments.count; i++) {
		ids = &in->assignments.at[i].broker_ids;
		if (ids->count != 1 || ids->at[0] != BROKER_NODE_ID)
			return (0);
	}
	return (in->assignments.count == in->count - t->partition_count);
}

static int16_t
check_grow(const struct broker *b,
    const struct wire_create_partitions_request_topic *in, int twice,
    const struct topic *t, const char **why)
{

	*why = named_twice;
	if (twice)
		return (WIRE_INVALID_REQUEST);
	*why = NULL;
	if (t == NULL)
		return (WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	*why = "the topic is being changed by another request";
	if (t->growing)
		return (WIRE_INVALID_REQUEST);
	*why = "the topic has that many partitions, or more";
	if (in->count <= t->partition_count)
		return (WIRE_INVALID_PARTITIONS);
	*why = "that is more partitions than this broker takes";
	if (in->count > PARTITIONS_OF_A_TOPIC_MOST ||
	    !has_room(b, in->count - t->partition_count))
		return (WIRE_INVALID_PARTITIONS);
	*why = "there is one broker, to assign each new partition to";
	if (!are_assigned_here(in, t))
		return (WIRE_INVALID_REPLICA_ASSIGNMENT);
	*why = NULL;
	return (WIRE_NONE);
}

static void
prepare_grow(struct broker *b, struct grow *g, int32_t count, struct topic *t,
    struct wire_create_partitions_response_result *out)
{

	if ((g->more = topic_new(b, t->name)) == NULL ||
	    set_partition_count(g->more, count) == -1) {
		topic_free(g->more);
		g->more = NULL;
		out->error_code = WIRE_KAFKA_STORAGE_ERROR;
		return;
	}
	memcpy(g->more->id_text, t->id_text, sizeof(t->id_text));
	g->topic = t;
	g->count = count;
	t->growing = 1;
	b->partitions_making += count - t->partition_count;
	topic_hold(t);
}

/* NULL: the request was given up. */
static struct grow_job *
new_grow(struct request *req)
{
	const struct wire_create_partitions_request *in = req->body;
	struct grow_job *grow = request_take(req, sizeof(*grow));
	size_t count = (size_t)in->topics.count;

	if (grow == NULL ||
	    (grow->list = request_take(req,
		 (count + 1) * sizeof(*grow->list))) == NULL ||
	    (grow->named = request_take(req,
		 (count + 1) * sizeof(*grow->named))) == NULL)
		return (NULL);
	wire_defaults(wire_create_partitions_response_layout(), &grow->out);
	grow->req = req;
	grow->count = count;
	grow->out.results.count = in->topics.count;
	grow->out.results.at = request_take(req,
	    (count + 1) * sizeof(*grow->out.results.at));
	return (grow->out.results.at != NULL ? grow : NULL);
}

void
handle_create_partitions(struct broker *b, struct request *req)
{
	const struct wire_create_partitions_request *in = req->body;
	struct wire_create_partitions_response_result *out;
	struct grow_job *grow = new_grow(req);
	const char *why;
	struct topic *t;
	size_t i;

	if (grow == NULL)
		return;
	for (i = 0; i < grow->count; i++)
		grow->named[i] = named_as(in->topics.at[i].name);
	if (named_find_twice(req, grow->named, grow->count) == -1)
		return;
	for (i = 0, out = grow->out.results.at; i < grow->count; i++, out++) {
		t = catalog_find(b, in->topics.at[i].name);
		wire_defaults(wire_create_partitions_response_result_layout(),
		    out);
		out->name = in->topics.at[i].name;
		out->error_code = check_grow(b, &in->topics.at[i],
		    grow->named[i].twice, t, &why);
		out->error_message = wire_text(why);
		if (out->error_code == WIRE_NONE && !in->validate_only)
			prepare_grow(b, &grow->list[i], in->topics.at[i].count,
			    t, out);
	}
	grow->job.run = run_grow;
	grow->job.finish = finish_grow;
	worker_give(b->keeper, &grow->job);
}
