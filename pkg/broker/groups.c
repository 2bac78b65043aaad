/*
 * groups -- requests about consumer groups, and their offsets to disk.
 *
 * Commits of offsets are collected while the keeper writes; then all that came
 * meanwhile go into one transaction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "broker/catalog.h"
#include "broker/connection.h"
#include "broker/groups.h"
#include "broker/keeper.h"
#include "broker/measure.h"

/* gcc's analyser can't follow what is put into lists. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define METADATA_MOST 4096 /* offset.metadata.max.bytes */
#define MEMBERS_MOST 1000 /* of a group */

/* ---- members ------------------------------------------------------------ */

static void
make_caller(const struct broker *b, struct request *req,
    struct group_caller *caller)
{

	caller->now_ms = b->now_ms;
	caller->ticket = (uint64_t)(uintptr_t)req;
	caller->version = req->version;
	caller->client_id = req->header.client_id;
	caller->client_host = request_peer_host(req);
}

/* A ticket is the request, which stays until it is answered. */
static struct request *
request_of(uint64_t ticket)
{

	return ((struct request *)(uintptr_t)ticket);
}

static void
joined(void *arg, uint64_t ticket,
    const struct wire_join_group_response *answer)
{

	(void)arg;
	request_answer(request_of(ticket), answer);
}

static void
synced(void *arg, uint64_t ticket,
    const struct wire_sync_group_response *answer)
{

	(void)arg;
	request_answer(request_of(ticket), answer);
}

static void
make_id(void *arg, char *id, size_t size)
{
	char uuid[ID_UUID_SIZE];

	(void)arg;
	id_uuid_v7(clock_wall_us(), uuid);
	snprintf(id, size, "%s", uuid);
}

static void
leave_waiting(struct request *req)
{

	group_gone(req->broker->groups, req->broker->now_ms, req->waits_for,
	    (uint64_t)(uintptr_t)req);
	request_silent(req);
}

/* For the others: the group has what was asked. */
static void
wait_in_group(struct request *req)
{

	if (req->state != REQUEST_BUSY)
		return;
	request_drop_frame(req);
	request_wait(req, INT64_MAX, NULL, leave_waiting);
}

void
handle_join_group(struct broker *b, struct request *req)
{
	const struct wire_join_group_request *in = req->body;
	struct group_caller caller;

	if ((req->waits_for = request_text(req, in->group_id)) == NULL)
		return;
	make_caller(b, req, &caller);
	group_join(b->groups, &caller, in);
	wait_in_group(req);
}

void
handle_sync_group(struct broker *b, struct request *req)
{
	const struct wire_sync_group_request *in = req->body;
	struct group_caller caller;

	if ((req->waits_for = request_text(req, in->group_id)) == NULL)
		return;
	make_caller(b, req, &caller);
	group_sync(b->groups, &caller, in);
	wait_in_group(req);
}

void
handle_heartbeat(struct broker *b, struct request *req)
{
	struct wire_heartbeat_response out;

	wire_defaults(wire_heartbeat_response_layout(), &out);
	out.error_code = group_heartbeat(b->groups, b->now_ms, req->body);
	request_answer(req, &out);
}

void
handle_leave_group(struct broker *b, struct request *req)
{
	const struct wire_leave_group_request *in = req->body;
	struct wire_leave_group_request_member one;
	struct wire_leave_group_response_member *list;
	struct wire_leave_group_response out;
	int32_t i;

	wire_defaults(wire_leave_group_response_layout(), &out);
	if (req->version < 3) {
		wire_defaults(wire_leave_group_request_member_layout(), &one);
		one.member_id = in->member_id;
		out.error_code = group_leave(b->groups, b->now_ms, in->group_id,
		    &one);
		request_answer(req, &out);
		return;
	}
	/* Each is looked for among the members. */
	if (in->members.count > MEMBERS_MOST) {
		out.error_code = WIRE_INVALID_REQUEST;
		request_answer(req, &out);
		return;
	}
	list = request_take(req, (size_t)in->members.count * sizeof(*list));
	if (list == NULL)
		return;
	out.members.at = list;
	out.members.count = in->members.count;
	for (i = 0; i < in->members.count; i++) {
		list[i].member_id = in->members.at[i].member_id;
		list[i].group_instance_id = in->members.at[i].group_instance_id;
		list[i].error_code = group_leave(b->groups, b->now_ms,
		    in->group_id, &in->members.at[i]);
	}
	request_answer(req, &out);
}

/*
 * There is only the classic kind of group, which is told as a Kafka does whose
 * group.version is 0: librdkafka gives up at once, where it would wait for ever,
 * and say nothing, if this weren't spoken.
 */
void
handle_consumer_group_heartbeat(struct broker *b, struct request *req)
{
	struct wire_consumer_group_heartbeat_response out;

	(void)b;
	wire_defaults(wire_consumer_group_heartbeat_response_layout(), &out);
	out.error_code = WIRE_UNSUPPORTED_VERSION;
	request_answer(req, &out);
}

/* ---- listing ------------------------------------------------------------ */

static int
is_among(const struct wire_strings *filter, const char *word)
{
	int32_t i;
	size_t length = strlen(word);

	for (i = 0; i < filter->count; i++)
		if ((size_t)filter->at[i].length == length &&
		    strncasecmp(filter->at[i].at, word, length) == 0)
			return (1);
	return (filter->count <= 0);
}

void
handle_list_groups(struct broker *b, struct request *req)
{
	const struct wire_list_groups_request *in = req->body;
	struct wire_list_groups_response_group *list;
	struct wire_list_groups_response out;
	struct group_counts counts;
	const struct group *g;
	size_t at = 0;

	wire_defaults(wire_list_groups_response_layout(), &out);
	group_count(b->groups, &counts);
	list = request_take(req, (size_t)counts.groups * sizeof(*list));
	if (list == NULL)
		return;
	out.groups.at = list;
	while ((g = group_next(b->groups, &at)) != NULL) {
		if (!is_among(&in->states_filter, group_state_name(g)) ||
		    !is_among(&in->types_filter, "classic"))
			continue;
		list->group_id = wire_text(group_id(g));
		list->protocol_type = wire_text(group_protocol_type(g));
		list->group_state = wire_text(group_state_name(g));
		list->group_type = wire_text("classic");
		list++;
		out.groups.count++;
	}
	request_answer(req, &out);
}

static int
describe(struct broker *b, struct request *req, struct wire_string id,
    struct wire_describe_groups_response_group *out)
{
	const struct wire_describe_groups_request *in = req->body;
	const struct group *g = group_find(b->groups, id);
	int32_t may = in->include_authorized_operations ? OPERATIONS_OF_GROUP :
							  INT32_MIN;
	struct mr_error err;

	if (g != NULL) {
		if (group_describe(g, &req->arena, out, &err) == -1) {
			request_abandon(req, err.message);
			return (-1);
		}
		out->authorized_operations = may;
		return (0);
	}
	wire_defaults(wire_describe_groups_response_group_layout(), out);
	out->group_id = id;
	out->group_state = wire_text("Dead");
	out->authorized_operations = may;
	if (req->version >= 6) {
		out->authorized_operations = INT32_MIN;
		out->error_code = WIRE_GROUP_ID_NOT_FOUND;
		out->error_message = wire_text("there is no such group");
	}
	return (0);
}

void
handle_describe_groups(struct broker *b, struct request *req)
{
	const struct wire_describe_groups_request *in = req->body;
	struct wire_describe_groups_response_group *list;
	struct wire_describe_groups_response out;
	int32_t i;

	wire_defaults(wire_describe_groups_response_layout(), &out);
	list = request_take(req, (size_t)in->groups.count * sizeof(*list));
	if (list == NULL)
		return;
	out.groups.at = list;
	out.groups.count = in->groups.count;
	for (i = 0; i < in->groups.count; i++)
		if (describe(b, req, in->groups.at[i], &list[i]) == -1)
			return;
	request_answer(req, &out);
}

/* ---- changes to offsets, by way of the keeper --------------------------- */

/*
 * A request whose changes are to be durable before it is answered.  It is in
 * the request's memory, which stays until then.
 */
struct change {
	struct change *next;
	struct request *req;
	struct keeper_offset *list; /* NULL topic ids are left out */
	const char **topics; /* names, by the list's index */
	size_t count;
	void (*answer)(struct change *change, int16_t error);
	void *response; /* the handler's, filled in but for errors */
};

/* One transaction of the keeper: all changes that waited. */
struct change_round {
	struct worker_job job;
	struct broker *broker;
	struct change *first;
	struct keeper_offset *list;
	size_t count;
};

static void start_round(struct broker *b);

static void
run_round(struct worker_job *job, void *arg)
{
	struct change_round *round = (struct change_round *)job;

	(void)keeper_put_offsets(arg, round->list, round->count, &job->err);
}

static int
is_there(const struct broker *b, const char *topic, const char *id_text)
{
	const struct topic *t = catalog_find(b, wire_text(topic));

	return (t != NULL && strcmp(t->id_text, id_text) == 0);
}

/* What is durable is taken into memory, or told to have failed, so that it is
 * sent again. */
static int16_t
apply(struct broker *b, const struct change *change)
{
	const struct keeper_offset *o;
	int16_t error = WIRE_NONE;
	struct mr_error err;
	size_t i;

	for (i = 0; i < change->count; i++) {
		o = &change->list[i];
		if (o->topic_id == NULL)
			group_drop(b->groups, o->group);
		else if (!is_there(b, change->topics[i], o->topic_id))
			continue; /* deleted meanwhile */
		else if (o->offset < 0)
			group_drop_offset(b->groups, o->group,
			    change->topics[i], o->partition);
		else if (group_put_offset(b->groups, o->group,
			     change->topics[i], o->partition, o->offset,
			     o->leader_epoch, o->committed_ms, o->metadata,
			     &err) == -1) {
			log_warn("an offset is on disk and not in memory",
			    "group", o->group, "topic", change->topics[i],
			    "error", err.message);
			error = WIRE_COORDINATOR_NOT_AVAILABLE;
		}
	}
	return (error);
}

static void
finish_round(struct worker_job *job, void *arg)
{
	struct change_round *round = (struct change_round *)job;
	struct broker *b = arg;
	struct change *change, *next;

	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	else if (job->err.kind != MR_OK)
		log_warn("offsets could not be written", "error",
		    job->err.message);
	b->changing = 0;
	for (change = round->first; change != NULL; change = next) {
		next = change->next;
		change->answer(change,
		    job->err.kind == MR_OK ? apply(b, change) :
					     WIRE_COORDINATOR_NOT_AVAILABLE);
	}
	free(round->list);
	free(round);
	start_round(b);
}

static void
refuse_all(struct change *change)
{
	struct change *next;

	for (; change != NULL; change = next) {
		next = change->next;
		change->answer(change, WIRE_COORDINATOR_NOT_AVAILABLE);
	}
}

static void
start_round(struct broker *b)
{
	struct change_round *round;
	struct change *change;
	size_t count = 0;

	if (b->changing || b->changes == NULL)
		return;
	for (change = b->changes; change != NULL; change = change->next)
		count += change->count;
	if ((round = calloc(1, sizeof(*round))) == NULL ||
	    (round->list = calloc(count + 1, sizeof(*round->list))) == NULL) {
		free(round);
		change = b->changes;
		b->changes = NULL;
		b->changes_last = &b->changes;
		refuse_all(change);
		return;
	}
	round->first = b->changes;
	b->changes = NULL;
	b->changes_last = &b->changes;
	for (change = round->first; change != NULL; change = change->next) {
		memcpy(round->list + round->count, change->list,
		    change->count * sizeof(*round->list));
		round->count += change->count;
	}
	round->job.run = run_round;
	round->job.finish = finish_round;
	b->changing = 1;
	worker_give(b->keeper, &round->job);
}

static void
make_change(struct broker *b, struct change *change)
{

	change->next = NULL;
	*b->changes_last = change;
	b->changes_last = &change->next;
	start_round(b);
}

/* Room for ${count} changes; NULL: the request was given up. */
static struct change *
new_change(struct request *req, size_t count)
{
	struct change *change = request_take(req, sizeof(*change));

	if (change == NULL)
		return (NULL);
	change->req = req;
	change->list = request_take(req, (count + 1) * sizeof(*change->list));
	if (change->list == NULL)
		return (NULL);
	change->topics = request_take(req,
	    (count + 1) * sizeof(*change->topics));
	return (change->topics != NULL ? change : NULL);
}

static void
add_to_change(struct change *change, const char *group, const struct topic *t,
    int32_t partition, int64_t offset)
{
	struct keeper_offset *o = &change->list[change->count];

	o->group = group;
	o->topic_id = t->id_text;
	o->partition = partition;
	o->offset = offset;
	o->leader_epoch = -1;
	o->metadata = "";
	o->committed_ms = INT64_MAX; /* deletes whatever there is */
	/* The topic may be deleted meanwhile: names live in the request. */
	change->topics[change->count++] = t->name;
}

/*
 * A copy of what a change keeps of a topic, since the topic can be gone
 * before the keeper is done with it.
 */
static const struct topic *
keep_topic(struct request *req, const struct topic *t)
{
	struct topic *copy = request_take(req, sizeof(*copy));

	if (copy != NULL) {
		memcpy(copy->name, t->name, sizeof(copy->name));
		memcpy(copy->id_text, t->id_text, sizeof(copy->id_text));
	}
	return (copy);
}

/* ---- OffsetCommit ------------------------------------------------------- */

static void
answer_commit(struct change *change, int16_t error)
{
	struct wire_offset_commit_response *out = change->response;
	struct wire_offset_commit_response_partition *p;
	int32_t i, k;

	for (i = 0; error != WIRE_NONE && i < out->topics.count; i++)
		for (k = 0; k < out->topics.at[i].partitions.count; k++) {
			p = &out->topics.at[i].partitions.at[k];
			if (p->error_code == WIRE_NONE)
				p->error_code = error;
		}
	request_answer(change->req, out);
}

/* ${error} is the group's, which nobody is told of what isn't there. */
static int16_t
check_offset(const struct broker *b, const struct request *req,
    const char *group, int16_t error, const struct topic *t,
    const struct wire_offset_commit_request_partition *p)
{

	if (t == NULL && req->version >= 10)
		return (WIRE_UNKNOWN_TOPIC_ID);
	if (catalog_partition(t, p->partition_index) == NULL)
		return (WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	if (error != WIRE_NONE)
		return (error);
	if (p->committed_metadata.length > METADATA_MOST)
		return (WIRE_OFFSET_METADATA_TOO_LARGE);
	if (!group_has_room(b->groups, wire_text(group), t->name,
		p->partition_index, p->committed_metadata.length))
		return (WIRE_COORDINATOR_NOT_AVAILABLE);
	return (group_expect_offset(b->groups, wire_text(group)));
}

/* One topic's offsets into the change.  0, or -1: the request was given up. */
static int
commit_topic(struct broker *b, struct request *req, struct change *change,
    const char *group, int16_t error,
    const struct wire_offset_commit_request_topic *in,
    struct wire_offset_commit_response_topic *out)
{
	const struct wire_offset_commit_request_partition *p;
	const struct topic *t, *kept = NULL;
	struct keeper_offset *o;
	int32_t i;

	t = req->version >= 10 ? catalog_find_id(b, &in->topic_id) :
				 catalog_find(b, in->name);
	if (t != NULL && (kept = keep_topic(req, t)) == NULL)
		return (-1);
	for (i = 0; i < in->partitions.count; i++) {
		p = &in->partitions.at[i];
		out->partitions.at[i].partition_index = p->partition_index;
		out->partitions.at[i].error_code = check_offset(b, req, group,
		    error, t, p);
		if (out->partitions.at[i].error_code != WIRE_NONE ||
		    kept == NULL)
			continue;
		o = &change->list[change->count];
		/* One below 0 takes back what was committed: to those who
		 * ask for it, there is none either way. */
		add_to_change(change, group, kept, p->partition_index,
		    p->committed_offset);
		if (p->committed_offset < 0)
			continue;
		o->leader_epoch = p->committed_leader_epoch;
		o->committed_ms = clock_wall_ms();
		o->metadata = request_text(req, p->committed_metadata);
		if (o->metadata == NULL)
			return (-1);
	}
	return (0);
}

static size_t
count_commits(const struct wire_offset_commit_request *in)
{
	size_t n = 0;
	int32_t i;

	for (i = 0; i < in->topics.count; i++)
		n += (size_t)in->topics.at[i].partitions.count;
	return (n);
}

void
handle_offset_commit(struct broker *b, struct request *req)
{
	const struct wire_offset_commit_request *in = req->body;
	struct wire_offset_commit_response *out;
	struct wire_offset_commit_response_topic *t;
	struct change *change;
	const char *group;
	int16_t error;
	int32_t i;

	if ((out = request_take(req, sizeof(*out))) == NULL ||
	    (change = new_change(req, count_commits(in))) == NULL ||
	    (group = request_text(req, in->group_id)) == NULL ||
	    (t = request_take(req, (size_t)in->topics.count * sizeof(*t))) ==
		NULL)
		return;
	wire_defaults(wire_offset_commit_response_layout(), out);
	out->topics.at = t;
	out->topics.count = in->topics.count;
	error = group_may_commit(b->groups, b->now_ms, in);
	for (i = 0; i < in->topics.count; i++, t++) {
		t->name = in->topics.at[i].name;
		t->topic_id = in->topics.at[i].topic_id;
		t->partitions.count = in->topics.at[i].partitions.count;
		t->partitions.at = request_take(req,
		    (size_t)t->partitions.count * sizeof(*t->partitions.at));
		if (t->partitions.at == NULL ||
		    commit_topic(b, req, change, group, error,
			&in->topics.at[i], t) == -1)
			return;
	}
	change->response = out;
	change->answer = answer_commit;
	if (change->count == 0)
		answer_commit(change, WIRE_NONE);
	else
		make_change(b, change);
}

/* ---- OffsetFetch -------------------------------------------------------- */

static void
put_offset(const struct broker *b, struct wire_string group, const char *topic,
    int32_t partition, struct wire_offset_fetch_response_partition *out)
{
	const struct group_offset *o;

	wire_defaults(wire_offset_fetch_response_partition_layout(), out);
	out->partition_index = partition;
	out->committed_offset = -1;
	out->metadata = wire_text("");
	o = topic != NULL ?
	    group_get_offset(b->groups, group, topic, partition) :
	    NULL;
	if (o == NULL)
		return;
	out->committed_offset = o->offset;
	out->committed_leader_epoch = o->leader_epoch;
	out->metadata = wire_text(o->metadata);
}

/* The topics that were asked for.  0 or -1. */
static int
fetch_asked(struct broker *b, struct request *req, struct wire_string group,
    const struct wire_offset_fetch_request_topic *in, int32_t count,
    struct wire_offset_fetch_response_topic **list)
{
	struct wire_offset_fetch_response_topic *out;
	const struct topic *t;
	int32_t i, k, n;

	out = request_take(req, (size_t)count * sizeof(*out));
	if ((*list = out) == NULL)
		return (-1);
	for (i = 0; i < count; i++, in++, out++) {
		t = req->version >= 10 ? catalog_find_id(b, &in->topic_id) :
					 catalog_find(b, in->name);
		out->name = in->name;
		out->topic_id = in->topic_id;
		n = in->partition_indexes.count;
		out->partitions.at = request_take(req,
		    (size_t)n * sizeof(*out->partitions.at));
		if (out->partitions.at == NULL)
			return (-1);
		out->partitions.count = n;
		for (k = 0; k < n; k++) {
			put_offset(b, group, t != NULL ? t->name : NULL,
			    in->partition_indexes.at[k],
			    &out->partitions.at[k]);
			if (t == NULL && req->version >= 10)
				out->partitions.at[k]
				    .error_code = WIRE_UNKNOWN_TOPIC_ID;
		}
	}
	return (0);
}

/* All topics that the group has offsets in.  0 or -1. */
static int
fetch_all(struct broker *b, struct request *req, struct wire_string group,
    struct wire_offset_fetch_response_topic **list, int32_t *count)
{
	struct wire_offset_fetch_response_topic *out = NULL;
	struct group_cursor cursor = {0};
	const struct group_offset *o;
	const struct topic *t = NULL;
	const char *topic, *last = NULL;
	int32_t partition;

	*count = 0;
	out = request_take(req, b->topics.count * sizeof(*out));
	if ((*list = out) == NULL)
		return (-1);
	while (group_next_offset(b->groups, group, &cursor, &topic, &partition,
	    &o)) {
		if (last == NULL || strcmp(last, topic) != 0) {
			last = topic;
			t = catalog_find(b, wire_text(topic));
			if (t == NULL || (size_t)*count == b->topics.count)
				continue;
			out = &(*list)[(*count)++];
			out->name = wire_text(t->name);
			out->topic_id = t->id;
			out->partitions.at = request_take(req,
			    (size_t)t->partition_count *
				sizeof(*out->partitions.at));
			if (out->partitions.at == NULL)
				return (-1);
			out->partitions.count = 0;
		}
		if (t != NULL && out->partitions.count < t->partition_count)
			put_offset(b, group, topic, partition,
			    &out->partitions.at[out->partitions.count++]);
	}
	return (0);
}

static int
fetch_group(struct broker *b, struct request *req,
    const struct wire_offset_fetch_request_group *in,
    struct wire_offset_fetch_response_group *out)
{
	int rc;

	wire_defaults(wire_offset_fetch_response_group_layout(), out);
	out->group_id = in->group_id;
	if (in->topics.count >= 0) {
		out->topics.count = in->topics.count;
		return (fetch_asked(b, req, in->group_id, in->topics.at,
		    in->topics.count, &out->topics.at));
	}
	rc = fetch_all(b, req, in->group_id, &out->topics.at,
	    &out->topics.count);
	return (rc);
}

void
handle_offset_fetch(struct broker *b, struct request *req)
{
	const struct wire_offset_fetch_request *in = req->body;
	struct wire_offset_fetch_response_group *list;
	struct wire_offset_fetch_request_group one;
	struct wire_offset_fetch_response out;
	int32_t i;

	wire_defaults(wire_offset_fetch_response_layout(), &out);
	list = request_take(req,
	    (size_t)(in->groups.count + 1) * sizeof(*list));
	if (list == NULL)
		return;
	if (req->version < 8) {
		wire_defaults(wire_offset_fetch_request_group_layout(), &one);
		one.group_id = in->group_id;
		one.topics.at = in->topics.at;
		one.topics.count = in->topics.count;
		if (fetch_group(b, req, &one, list) == -1)
			return;
		out.topics.at = list->topics.at;
		out.topics.count = list->topics.count;
		request_answer(req, &out);
		return;
	}
	for (i = 0; i < in->groups.count; i++)
		if (fetch_group(b, req, &in->groups.at[i], &list[i]) == -1)
			return;
	out.groups.at = list;
	out.groups.count = in->groups.count;
	request_answer(req, &out);
}

/* ---- OffsetDelete and DeleteGroups -------------------------------------- */

static void
answer_offset_delete(struct change *change, int16_t error)
{
	struct wire_offset_delete_response *out = change->response;

	out->error_code = error;
	request_answer(change->req, out);
}

static int
delete_in_topic(struct broker *b, struct request *req, struct change *change,
    const struct wire_offset_delete_request *in, const char *group, int32_t at,
    struct wire_offset_delete_response_topic *out)
{
	const struct wire_offset_delete_request_topic *asked = &in->topics
								    .at[at];
	const struct topic *t = catalog_find(b, asked->name), *kept = NULL;
	struct wire_offset_delete_response_partition *p;
	int16_t may = WIRE_NONE;
	int32_t i;

	out->name = asked->name;
	p = request_take(req, (size_t)asked->partitions.count * sizeof(*p));
	if (p == NULL || (t != NULL && (kept = keep_topic(req, t)) == NULL))
		return (-1);
	out->partitions.at = p;
	out->partitions.count = asked->partitions.count;
	if (t != NULL)
		may = group_may_delete_offsets(b->groups, in->group_id,
		    t->name);
	for (i = 0; i < asked->partitions.count; i++, p++) {
		p->partition_index = asked->partitions.at[i].partition_index;
		if (kept == NULL ||
		    catalog_partition(t, p->partition_index) == NULL) {
			p->error_code = WIRE_UNKNOWN_TOPIC_OR_PARTITION;
			continue;
		}
		if ((p->error_code = may) == WIRE_NONE)
			add_to_change(change, group, kept, p->partition_index,
			    -1);
	}
	return (0);
}

void
handle_offset_delete(struct broker *b, struct request *req)
{
	const struct wire_offset_delete_request *in = req->body;
	struct wire_offset_delete_response *out;
	struct wire_offset_delete_response_topic *list;
	struct change *change;
	const char *group;
	size_t count = 0;
	int32_t i;

	for (i = 0; i < in->topics.count; i++)
		count += (size_t)in->topics.at[i].partitions.count;
	if ((out = request_take(req, sizeof(*out))) == NULL ||
	    (change = new_change(req, count)) == NULL ||
	    (group = request_text(req, in->group_id)) == NULL ||
	    (list = request_take(req,
		 (size_t)in->topics.count * sizeof(*list))) == NULL)
		return;
	wire_defaults(wire_offset_delete_response_layout(), out);
	out->error_code = group_may_delete_offsets(b->groups, in->group_id,
	    NULL);
	if (out->error_code != WIRE_NONE) {
		request_answer(req, out);
		return;
	}
	out->topics.at = list;
	out->topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++)
		if (delete_in_topic(b, req, change, in, group, i, &list[i]) ==
		    -1)
			return;
	change->response = out;
	change->answer = answer_offset_delete;
	make_change(b, change);
}

static void
answer_delete_groups(struct change *change, int16_t error)
{
	struct wire_delete_groups_response *out = change->response;
	int32_t i;

	for (i = 0; error != WIRE_NONE && i < out->results.count; i++)
		if (out->results.at[i].error_code == WIRE_NONE)
			out->results.at[i].error_code = error;
	request_answer(change->req, out);
}

void
handle_delete_groups(struct broker *b, struct request *req)
{
	const struct wire_delete_groups_request *in = req->body;
	struct wire_delete_groups_response *out;
	struct wire_delete_groups_response_result *list;
	struct change *change;
	const char *group;
	int32_t i;

	if ((out = request_take(req, sizeof(*out))) == NULL ||
	    (change = new_change(req, (size_t)in->groups.count)) == NULL ||
	    (list = request_take(req,
		 (size_t)in->groups.count * sizeof(*list))) == NULL)
		return;
	wire_defaults(wire_delete_groups_response_layout(), out);
	out->results.at = list;
	out->results.count = in->groups.count;
	for (i = 0; i < in->groups.count; i++) {
		list[i].group_id = in->groups.at[i];
		list[i].error_code = group_may_delete(b->groups,
		    in->groups.at[i]);
		if (list[i].error_code != WIRE_NONE)
			continue;
		if ((group = request_text(req, in->groups.at[i])) == NULL)
			return;
		change->list[change->count].group = group;
		change->list[change->count++].offset = -1;
	}
	change->response = out;
	change->answer = answer_delete_groups;
	make_change(b, change);
}

/* ---- expiry ------------------------------------------------------------- */

/* Deletions of what memory has forgotten already, by one look at all groups;
 * nobody is answered. */
struct forget_job {
	struct worker_job job;
	struct keeper_offset *list;
	char **texts; /* theirs: a group and a topic's id each */
	size_t count, capacity;
};

static void
run_forget(struct worker_job *job, void *arg)
{
	struct forget_job *forget = (struct forget_job *)job;

	(void)keeper_put_offsets(arg, forget->list, forget->count, &job->err);
}

static void
finish_forget(struct worker_job *job, void *arg)
{
	struct forget_job *forget = (struct forget_job *)job;
	size_t i;

	if (job->err.kind == MR_FATAL)
		broker_fail(arg, &job->err);
	for (i = 0; i < 2 * forget->count; i++)
		free(forget->texts[i]);
	free(forget->texts);
	free(forget->list);
	free(forget);
}

/* Room for one more: 0 or -1. */
static int
grow_forget(struct forget_job *forget)
{
	size_t capacity = forget->capacity > 0 ? 2 * forget->capacity : 16;
	struct keeper_offset *list;
	char **texts;

	if (forget->count < forget->capacity)
		return (0);
	list = reallocarray(forget->list, capacity, sizeof(*list));
	if (list == NULL)
		return (-1);
	forget->list = list;
	texts = reallocarray(forget->texts, 2 * capacity, sizeof(*texts));
	if (texts == NULL)
		return (-1);
	forget->texts = texts;
	forget->capacity = capacity;
	return (0);
}

/* Without memory it stays on disk, and expires again after a start. */
static void
forgotten(void *arg, const char *group, const char *topic, int32_t partition,
    int64_t committed_ms)
{
	struct broker *b = arg;
	const struct topic *t = catalog_find(b, wire_text(topic));
	struct forget_job *forget = b->forget;
	struct keeper_offset *offset;
	char **texts;

	if (t == NULL || forget == NULL || grow_forget(forget) == -1)
		return;
	texts = &forget->texts[2 * forget->count];
	texts[0] = strdup(group);
	texts[1] = strdup(t->id_text);
	if (texts[0] == NULL || texts[1] == NULL) {
		free(texts[0]);
		free(texts[1]);
		return;
	}
	offset = &forget->list[forget->count++];
	memset(offset, 0, sizeof(*offset));
	/* A commit that is on its way to the disk is younger, and stays. */
	offset->committed_ms = committed_ms;
	offset->group = texts[0];
	offset->topic_id = texts[1];
	offset->partition = partition;
	offset->offset = -1;
}

static void
expire(struct broker *b)
{
	struct forget_job *forget = calloc(1, sizeof(*forget));

	b->forget = forget;
	group_expire_offsets(b->groups, clock_wall_ms());
	b->forget = NULL;
	if (forget == NULL)
		return;
	forget->job.run = run_forget;
	forget->job.finish = finish_forget;
	if (forget->count > 0)
		worker_give(b->keeper, &forget->job);
	else
		finish_forget(&forget->job, b);
}

/* ---- their lives -------------------------------------------------------- */

int
groups_open(struct broker *b, struct mr_error *err)
{
	struct group_conf conf = {
	    .initial_delay_ms = b->conf.rebalance_delay_ms,
	    .session_least_ms = b->conf.session_least_ms,
	    .session_most_ms = b->conf.session_most_ms,
	    .offsets_retention_ms = b->conf.offsets_retention_ms,
	    .groups_most = 10000,
	    .members_most = MEMBERS_MOST,
	    .bytes_most = b->conf.memory_most,
	    .arg = b,
	    .make_id = make_id,
	    .joined = joined,
	    .synced = synced,
	    .forgotten = forgotten,
	};

	b->changes_last = &b->changes;
	b->groups = group_open(&conf, err);
	return (b->groups != NULL ? 0 : -1);
}

void
groups_tick(struct broker *b)
{
	struct group_counts counts;

	expire(b);
	group_count(b->groups, &counts);
	measure_groups(counts.groups, counts.members);
}
