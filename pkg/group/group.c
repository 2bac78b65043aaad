/*
 * group -- groups and their members, heartbeats, leaving, and time.
 */
#include <stdlib.h>
#include <string.h>

#include "group/internal.h"

/* ---- copies ------------------------------------------------------------- */

char *
group_copy(struct wire_string s)
{
	size_t length = s.length > 0 ? (size_t)s.length : 0;
	char *copy = malloc(length + 1);

	if (copy == NULL)
		return (NULL);
	if (length > 0)
		memcpy(copy, s.at, length);
	copy[length] = '\0';
	return (copy);
}

int
group_copy_bytes(struct wire_bytes *to, struct wire_bytes from)
{
	uint8_t *copy;

	to->at = NULL;
	to->length = 0;
	if (from.length <= 0)
		return (0);
	if ((copy = malloc((size_t)from.length)) == NULL)
		return (-1);
	memcpy(copy, from.at, (size_t)from.length);
	to->at = copy;
	to->length = from.length;
	return (0);
}

static void
free_bytes(struct wire_bytes *bytes)
{

	free((void *)(uintptr_t)bytes->at);
	bytes->at = NULL;
	bytes->length = 0;
}

/* ---- members ------------------------------------------------------------ */

struct member *
group_member(const struct group *g, struct wire_string id)
{
	struct member *m;

	for (m = g->members; m != NULL; m = m->next)
		if (wire_string_is(id, m->id))
			return (m);
	return (NULL);
}

struct member *
group_instance(const struct group *g, struct wire_string id)
{
	struct member *m;

	for (m = g->members; m != NULL; m = m->next)
		if (m->instance_id != NULL &&
		    wire_string_is(id, m->instance_id))
			return (m);
	return (NULL);
}

struct pending *
group_pending(const struct group *g, struct wire_string id)
{
	struct pending *p;

	for (p = g->pending; p != NULL; p = p->next)
		if (wire_string_is(id, p->id))
			return (p);
	return (NULL);
}

void
group_pending_remove(struct group_coordinator *c, struct group *g,
    const struct pending *p)
{
	struct pending **at, *gone;

	for (at = &g->pending; *at != NULL; at = &(*at)->next) {
		if (*at != p)
			continue;
		gone = *at;
		*at = gone->next;
		g->pending_count--;
		c->bytes -= (int64_t)(sizeof(*gone) + strlen(gone->id));
		free(gone->id);
		free(gone);
		return;
	}
}

void
group_member_free(struct group_coordinator *c, struct member *m)
{
	int32_t i;

	if (m == NULL)
		return;
	c->bytes -= (int64_t)m->bytes;
	for (i = 0; i < m->protocol_count; i++) {
		free(m->protocols[i].name);
		free_bytes(&m->protocols[i].metadata);
	}
	free(m->protocols);
	free_bytes(&m->assignment);
	free(m->id);
	free(m->instance_id);
	free(m->client_id);
	free(m->client_host);
	free(m);
}

int16_t
group_identify(const struct group *g, struct wire_string id,
    struct wire_string instance_id, struct member **m)
{

	if (instance_id.length >= 0) {
		if ((*m = group_instance(g, instance_id)) == NULL)
			return (WIRE_UNKNOWN_MEMBER_ID);
		if (!wire_string_is(id, (*m)->id))
			return (WIRE_FENCED_INSTANCE_ID);
		return (WIRE_NONE);
	}
	*m = group_member(g, id);
	return (*m != NULL ? WIRE_NONE : WIRE_UNKNOWN_MEMBER_ID);
}

void
group_touch(struct group_coordinator *c, struct member *m, int64_t now_ms)
{

	m->expires_ms = now_ms + m->session_timeout_ms;
	group_wake_at(c, m->expires_ms);
}

/* ---- groups ------------------------------------------------------------- */

struct group *
group_get(const struct group_coordinator *c, struct wire_string id)
{

	if (id.length <= 0)
		return (NULL);
	return (map_find(&c->groups, id.at, (size_t)id.length));
}

struct group *
group_admit(struct group_coordinator *c, struct wire_string id)
{

	if ((int64_t)c->groups.count >= c->conf.groups_most ||
	    c->bytes >= c->conf.bytes_most)
		return (NULL);
	return (group_make(c, id));
}

struct group *
group_make(struct group_coordinator *c, struct wire_string id)
{
	struct group *g;

	if ((g = calloc(1, sizeof(*g))) == NULL)
		return (NULL);
	if ((g->id = group_copy(id)) == NULL ||
	    map_add(&c->groups, g->id, strlen(g->id), g) == -1) {
		free(g->id);
		free(g);
		return (NULL);
	}
	c->bytes += (int64_t)(sizeof(*g) + strlen(g->id));
	return (g);
}

/* All of a group but its place among the others. */
static void
free_group(struct group_coordinator *c, struct group *g)
{
	struct member *m;

	while ((m = g->members) != NULL) {
		g->members = m->next;
		c->member_count--;
		group_member_free(c, m);
	}
	while (g->pending != NULL)
		group_pending_remove(c, g, g->pending);
	offsets_free(c, g);
	c->bytes -= (int64_t)(sizeof(*g) + strlen(g->id));
	free(g->protocol_type);
	free(g->protocol_name);
	free(g->leader);
	free(g->id);
	free(g);
}

void
group_remove(struct group_coordinator *c, struct group *g)
{

	map_remove(&c->groups, g->id, strlen(g->id));
	free_group(c, g);
}

struct group_coordinator *
group_open(const struct group_conf *conf, struct mr_error *err)
{
	struct group_coordinator *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		mr_error_set(err, MR_FATAL, "group: out of memory");
		return (NULL);
	}
	c->conf = *conf;
	c->deadline_ms = INT64_MAX;
	return (c);
}

void
group_close(struct group_coordinator *c)
{
	struct group *g;
	size_t at = 0;

	if (c == NULL)
		return;
	while ((g = map_next(&c->groups, &at)) != NULL)
		free_group(c, g);
	map_free(&c->groups);
	free(c);
}

/* ---- heartbeats and leaving --------------------------------------------- */

int16_t
group_heartbeat(struct group_coordinator *c, int64_t now_ms,
    const struct wire_heartbeat_request *req)
{
	struct group *g = group_get(c, req->group_id);
	struct member *m = NULL;
	int16_t error;

	if (req->group_id.length <= 0)
		return (WIRE_INVALID_GROUP_ID);
	if (g == NULL)
		return (WIRE_UNKNOWN_MEMBER_ID);
	error = group_identify(g, req->member_id, req->group_instance_id, &m);
	if (error != WIRE_NONE)
		return (error);
	if (req->generation_id != g->generation)
		return (WIRE_ILLEGAL_GENERATION);
	group_touch(c, m, now_ms);
	return (g->state == GROUP_PREPARING ? WIRE_REBALANCE_IN_PROGRESS :
					      WIRE_NONE);
}

void
group_gone(struct group_coordinator *c, int64_t now_ms, const char *group_id,
    uint64_t ticket)
{
	struct group *g = group_get(c, wire_text(group_id));
	struct member *m = g != NULL ? g->members : NULL;

	while (
	    m != NULL && m->join_ticket != ticket && m->sync_ticket != ticket)
		m = m->next;
	if (m == NULL)
		return;
	if (m->join_ticket == ticket)
		m->join_ticket = 0;
	else
		m->sync_ticket = 0;
	if (m->told)
		group_touch(c, m, now_ms);
	else
		rebalance_drop_member(c, g, m, now_ms);
}

int16_t
group_leave(struct group_coordinator *c, int64_t now_ms,
    struct wire_string group_id,
    const struct wire_leave_group_request_member *m)
{
	struct group *g = group_get(c, group_id);
	struct member *found = NULL;
	struct pending *p;
	int16_t error;

	if (group_id.length <= 0)
		return (WIRE_INVALID_GROUP_ID);
	if (g == NULL)
		return (WIRE_UNKNOWN_MEMBER_ID);
	if (m->group_instance_id.length >= 0 && m->member_id.length == 0) {
		found = group_instance(g, m->group_instance_id);
		error = found != NULL ? WIRE_NONE : WIRE_UNKNOWN_MEMBER_ID;
	} else {
		error = group_identify(g, m->member_id, m->group_instance_id,
		    &found);
	}
	if (error == WIRE_UNKNOWN_MEMBER_ID &&
	    (p = group_pending(g, m->member_id)) != NULL) {
		group_pending_remove(c, g, p);
		rebalance_check(c, g, now_ms);
		return (WIRE_NONE);
	}
	if (error == WIRE_NONE)
		rebalance_drop_member(c, g, found, now_ms);
	return (error);
}

/* ---- time --------------------------------------------------------------- */

void
group_wake_at(struct group_coordinator *c, int64_t at_ms)
{

	if (at_ms < c->deadline_ms)
		c->deadline_ms = at_ms;
}

int64_t
group_deadline(const struct group_coordinator *c)
{

	return (c->deadline_ms);
}

/* A member whose request waits is alive; the rebalance's deadline is its. */
static int
is_overdue(const struct member *m, int64_t now_ms)
{

	return (m->join_ticket == 0 && m->sync_ticket == 0 &&
	    m->expires_ms <= now_ms);
}

static void
tick_group(struct group_coordinator *c, struct group *g, int64_t now_ms)
{
	struct pending *p, *p_next;
	struct member *m, *m_next;

	for (p = g->pending; p != NULL; p = p_next) {
		p_next = p->next;
		if (p->expires_ms <= now_ms)
			group_pending_remove(c, g, p);
		else
			group_wake_at(c, p->expires_ms);
	}
	for (m = g->members; m != NULL; m = m_next) {
		m_next = m->next;
		if (is_overdue(m, now_ms)) {
			rebalance_drop_member(c, g, m, now_ms);
			/* Others may have gone with it: look again. */
			m_next = g->members;
		}
	}
	if (g->state != GROUP_EMPTY) {
		if (g->deadline_ms <= now_ms)
			rebalance_overdue(c, g, now_ms);
		else
			rebalance_check(c, g, now_ms);
	}
	for (m = g->members; m != NULL; m = m->next)
		if (m->join_ticket == 0 && m->sync_ticket == 0)
			group_wake_at(c, m->expires_ms);
	if (g->state != GROUP_EMPTY)
		group_wake_at(c, g->deadline_ms);
}

void
group_tick(struct group_coordinator *c, int64_t now_ms)
{
	struct group *g;
	size_t at = 0;

	c->deadline_ms = INT64_MAX;
	while ((g = map_next(&c->groups, &at)) != NULL)
		tick_group(c, g, now_ms);
}
