/*
 * offsets -- what groups have committed.
 */
#include <stdlib.h>
#include <string.h>

#include "group/internal.h"

/* The analyser loses sight of what is kept in a list that grows. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

/* Of one topic: more partitions than any topic has. */
#define PARTITIONS_MOST 1000000

/* What a topic takes, but for metadata. */
static int64_t
topic_bytes(const struct topic_offsets *t)
{

	return ((int64_t)(sizeof(*t) + strlen(t->topic)) +
	    t->capacity * (int64_t)sizeof(*t->list));
}

static int64_t
metadata_bytes(const struct group_offset *o)
{

	return (o->metadata != NULL ? (int64_t)strlen(o->metadata) + 1 : 0);
}

static void
free_topic(struct group_coordinator *c, struct topic_offsets *t)
{
	int32_t i;

	c->bytes -= topic_bytes(t);
	for (i = 0; i < t->capacity; i++) {
		c->bytes -= metadata_bytes(&t->list[i]);
		free(t->list[i].metadata);
	}
	free(t->list);
	free(t->topic);
	free(t);
}

void
offsets_free(struct group_coordinator *c, struct group *g)
{
	struct topic_offsets *t;
	size_t at = 0;

	while ((t = map_next(&g->topics, &at)) != NULL)
		free_topic(c, t);
	map_free(&g->topics);
	g->offset_count = 0;
}

int16_t
group_may_commit(struct group_coordinator *c, int64_t now_ms,
    const struct wire_offset_commit_request *req)
{
	struct group *g = group_get(c, req->group_id);
	struct member *m = NULL;
	int16_t error;

	if (req->group_id.length <= 0 || req->group_id.length > GROUP_ID_MOST ||
	    memchr(req->group_id.at, '\0', (size_t)req->group_id.length) !=
		NULL)
		return (WIRE_INVALID_GROUP_ID);
	if (req->generation_id < 0 && (g == NULL || g->state == GROUP_EMPTY))
		return (WIRE_NONE);
	if (g == NULL)
		return (WIRE_ILLEGAL_GENERATION);
	error = group_identify(g, req->member_id, req->group_instance_id, &m);
	if (error != WIRE_NONE)
		return (error);
	if (req->generation_id != g->generation)
		return (WIRE_ILLEGAL_GENERATION);
	if (g->state == GROUP_COMPLETING)
		return (WIRE_REBALANCE_IN_PROGRESS);
	group_touch(c, m, now_ms);
	return (WIRE_NONE);
}

/* The topic's list, with room for the partition; NULL: out of memory. */
static struct topic_offsets *
make_topic(struct group_coordinator *c, struct group *g, const char *topic)
{
	struct topic_offsets *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return (NULL);
	if ((t->topic = strdup(topic)) == NULL ||
	    map_add(&g->topics, t->topic, strlen(topic), t) == -1) {
		free(t->topic);
		free(t);
		return (NULL);
	}
	c->bytes += topic_bytes(t);
	return (t);
}

static struct topic_offsets *
make_room(struct group_coordinator *c, struct group *g, const char *topic,
    int32_t partition)
{
	struct topic_offsets *t = map_find(&g->topics, topic, strlen(topic));
	struct group_offset *list;
	int32_t capacity, i;

	if (t == NULL && (t = make_topic(c, g, topic)) == NULL)
		return (NULL);
	if (partition < t->capacity)
		return (t);
	capacity = partition + 4;
	list = realloc(t->list, (size_t)capacity * sizeof(*list));
	if (list == NULL)
		return (NULL);
	for (i = t->capacity; i < capacity; i++)
		list[i] = (struct group_offset){.offset = -1};
	t->list = list;
	c->bytes -= topic_bytes(t);
	t->capacity = capacity;
	c->bytes += topic_bytes(t);
	return (t);
}

int
group_has_room(const struct group_coordinator *c, struct wire_string id,
    const char *topic, int32_t partition, int64_t metadata_length)
{
	const struct group *g = group_get(c, id);
	const struct topic_offsets *t = g != NULL ?
	    map_find(&g->topics, topic, strlen(topic)) :
	    NULL;
	int64_t more = metadata_length + 1;

	if (t != NULL && partition < t->capacity)
		more -= metadata_bytes(&t->list[partition]);
	else
		more += (partition + 4) * (int64_t)sizeof(*t->list);
	return (more <= 0 || c->bytes + more <= c->conf.bytes_most);
}

int16_t
group_expect_offset(struct group_coordinator *c, struct wire_string id)
{

	return (group_get(c, id) != NULL || group_admit(c, id) != NULL ?
		WIRE_NONE :
		WIRE_COORDINATOR_NOT_AVAILABLE);
}

int
group_put_offset(struct group_coordinator *c, const char *id, const char *topic,
    int32_t partition, int64_t offset, int32_t leader_epoch,
    int64_t committed_ms, const char *metadata, struct mr_error *err)
{
	struct group *g = group_get(c, wire_text(id));
	struct group_offset *o;
	struct topic_offsets *t;
	char *copy;

	if (partition < 0 || partition >= PARTITIONS_MOST || offset < 0)
		return (mr_error_set(err, MR_REJECT,
		    "group %s: no offset for %s-%d", id, topic, partition));
	if ((g == NULL && (g = group_make(c, wire_text(id))) == NULL) ||
	    (t = make_room(c, g, topic, partition)) == NULL ||
	    (copy = strdup(metadata)) == NULL)
		return (mr_error_set(err, MR_RETRY,
		    "group %s: no memory for its offsets", id));
	o = &t->list[partition];
	g->offset_count += o->offset < 0;
	c->bytes -= metadata_bytes(o);
	free(o->metadata);
	o->metadata = copy;
	c->bytes += metadata_bytes(o);
	o->offset = offset;
	o->leader_epoch = leader_epoch;
	o->committed_ms = committed_ms;
	return (0);
}

const struct group_offset *
group_get_offset(const struct group_coordinator *c, struct wire_string id,
    const char *topic, int32_t partition)
{
	const struct group *g = group_get(c, id);
	const struct topic_offsets *t;

	if (g == NULL || partition < 0)
		return (NULL);
	t = map_find(&g->topics, topic, strlen(topic));
	if (t == NULL || partition >= t->capacity ||
	    t->list[partition].offset < 0)
		return (NULL);
	return (&t->list[partition]);
}

int
group_next_offset(const struct group_coordinator *c, struct wire_string id,
    struct group_cursor *cursor, const char **topic, int32_t *partition,
    const struct group_offset **offset)
{
	const struct group *g = group_get(c, id);
	const struct topic_offsets *t;

	if (g == NULL)
		return (0);
	for (;;) {
		if (cursor->internal == NULL) {
			cursor->partition = 0;
			cursor->internal = map_next(&g->topics, &cursor->topic);
			if (cursor->internal == NULL)
				return (0);
		}
		t = cursor->internal;
		while (cursor->partition < t->capacity) {
			*partition = cursor->partition++;
			if (t->list[*partition].offset < 0)
				continue;
			*topic = t->topic;
			*offset = &t->list[*partition];
			return (1);
		}
		cursor->internal = NULL;
	}
}

/* ---- forgetting --------------------------------------------------------- */

static void
clear_offset(struct group_coordinator *c, struct group *g,
    struct group_offset *o)
{

	if (o->offset >= 0)
		g->offset_count--;
	c->bytes -= metadata_bytes(o);
	free(o->metadata);
	*o = (struct group_offset){.offset = -1};
}

void
group_drop_offset(struct group_coordinator *c, const char *id,
    const char *topic, int32_t partition)
{
	struct group *g = group_get(c, wire_text(id));
	struct topic_offsets *t;

	if (g == NULL)
		return;
	t = map_find(&g->topics, topic, strlen(topic));
	if (t != NULL && partition >= 0 && partition < t->capacity)
		clear_offset(c, g, &t->list[partition]);
}

void
group_drop_topic(struct group_coordinator *c, const char *topic)
{
	struct topic_offsets *t;
	struct group *g;
	size_t at = 0;
	int32_t i;

	while ((g = map_next(&c->groups, &at)) != NULL) {
		t = map_remove(&g->topics, topic, strlen(topic));
		if (t == NULL)
			continue;
		for (i = 0; i < t->capacity; i++)
			g->offset_count -= t->list[i].offset >= 0;
		free_topic(c, t);
	}
}

/* Whether a member's subscription (version, then topics) has the topic. */
static int
subscribes(struct wire_bytes metadata, const char *topic)
{
	const uint8_t *p = metadata.at;
	size_t left = metadata.length > 0 ? (size_t)metadata.length : 0;
	size_t length = strlen(topic), n;
	uint32_t count;

	if (left < 6)
		return (0);
	count = (uint32_t)p[2] << 24 | (uint32_t)p[3] << 16 |
	    (uint32_t)p[4] << 8 | p[5];
	for (p += 6, left -= 6; count > 0 && left >= 2; count--) {
		n = (size_t)(p[0] << 8 | p[1]);
		if (n > left - 2)
			return (0);
		if (n == length && memcmp(p + 2, topic, n) == 0)
			return (1);
		p += 2 + n;
		left -= 2 + n;
	}
	return (0);
}

static int
is_read(const struct group *g, const char *topic)
{
	const struct member *m;
	int32_t i;

	for (m = g->members; m != NULL; m = m->next)
		for (i = 0; i < m->protocol_count; i++)
			if (subscribes(m->protocols[i].metadata, topic))
				return (1);
	return (0);
}

int16_t
group_may_delete_offsets(const struct group_coordinator *c,
    struct wire_string id, const char *topic)
{
	const struct group *g = group_get(c, id);

	if (id.length <= 0)
		return (WIRE_INVALID_GROUP_ID);
	if (g == NULL)
		return (WIRE_GROUP_ID_NOT_FOUND);
	if (g->state == GROUP_EMPTY)
		return (WIRE_NONE);
	if (g->protocol_type == NULL ||
	    strcmp(g->protocol_type, "consumer") != 0)
		return (WIRE_NON_EMPTY_GROUP);
	return (topic != NULL && is_read(g, topic) ?
		WIRE_GROUP_SUBSCRIBED_TO_TOPIC :
		WIRE_NONE);
}

static void
expire_in(struct group_coordinator *c, struct group *g, int64_t wall_ms)
{
	int64_t oldest = wall_ms - c->conf.offsets_retention_ms;
	struct topic_offsets *t;
	size_t at = 0;
	int32_t i;

	while ((t = map_next(&g->topics, &at)) != NULL) {
		if (g->state != GROUP_EMPTY && is_read(g, t->topic))
			continue;
		for (i = 0; i < t->capacity; i++) {
			if (t->list[i].offset < 0 ||
			    t->list[i].committed_ms > oldest)
				continue;
			c->conf.forgotten(c->conf.arg, g->id, t->topic, i,
			    t->list[i].committed_ms);
			clear_offset(c, g, &t->list[i]);
		}
	}
}

static void
note_spent(struct group *g, int64_t wall_ms)
{

	if (g->state != GROUP_EMPTY || g->offset_count > 0 ||
	    g->pending != NULL)
		g->spent_since_ms = 0;
	else if (g->spent_since_ms == 0)
		g->spent_since_ms = wall_ms;
}

/* The first group that had nothing left for long; one call frees one. */
static struct group *
find_spent(const struct group_coordinator *c, int64_t wall_ms)
{
	struct group *g;
	size_t at = 0;

	while ((g = map_next(&c->groups, &at)) != NULL)
		if (g->spent_since_ms != 0 &&
		    g->spent_since_ms <= wall_ms - GROUP_SPENT_MS)
			return (g);
	return (NULL);
}

/* Whether the group's offsets age: members keep those of what they read, and
 * having had them lately keeps them all. */
static int
may_expire(const struct group_coordinator *c, struct group *g, int64_t wall_ms)
{

	if (g->state != GROUP_EMPTY) {
		g->empty_since_ms = 0;
		/* What others read can't be told. */
		return (g->protocol_type != NULL &&
		    strcmp(g->protocol_type, "consumer") == 0);
	}
	if (g->protocol_type == NULL && g->empty_since_ms == 0)
		return (1);
	if (g->empty_since_ms == 0)
		g->empty_since_ms = wall_ms;
	return (g->empty_since_ms <= wall_ms - c->conf.offsets_retention_ms);
}

void
group_loaded(struct group_coordinator *c, int64_t wall_ms)
{
	struct group *g;
	size_t at = 0;

	while ((g = map_next(&c->groups, &at)) != NULL)
		g->empty_since_ms = wall_ms;
}

void
group_expire_offsets(struct group_coordinator *c, int64_t wall_ms)
{
	struct group *g;
	size_t at = 0;

	while ((g = map_next(&c->groups, &at)) != NULL) {
		if (may_expire(c, g, wall_ms))
			expire_in(c, g, wall_ms);
		note_spent(g, wall_ms);
	}
	while ((g = find_spent(c, wall_ms)) != NULL)
		group_remove(c, g);
}
