/*
 * join -- who may join, who is known already, and who starts a rebalance.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "group/internal.h"

#define UNIQUE_SIZE 40 /* of a member's id */

/* Not all of a frame may stay here: what one member may say. */
#define MEMBER_BYTES_MOST ((size_t)1024 * 1024)

static void
refuse_join(struct group_coordinator *c, uint64_t ticket, int16_t error,
    struct wire_string member_id)
{
	struct wire_join_group_response answer;

	wire_defaults(wire_join_group_response_layout(), &answer);
	answer.error_code = error;
	answer.member_id = member_id;
	c->conf.joined(c->conf.arg, ticket, &answer);
}

/* ---- what a member says ------------------------------------------------- */

static size_t
size_of(const struct group_caller *caller,
    const struct wire_join_group_request *req)
{
	size_t size = sizeof(struct member) + MEMBER_ID_SIZE;
	int32_t i;

	if (req->group_instance_id.length > 0)
		size += (size_t)req->group_instance_id.length;
	if (caller->client_id.length > 0)
		size += (size_t)caller->client_id.length;
	for (i = 0; i < req->protocols.count; i++)
		size += sizeof(struct protocol) +
		    (size_t)req->protocols.at[i].name.length +
		    (size_t)req->protocols.at[i].metadata.length;
	return (size);
}

static void
free_protocols(struct protocol *list, int32_t count)
{
	int32_t i;

	for (i = 0; i < count; i++) {
		free(list[i].name);
		free((void *)(uintptr_t)list[i].metadata.at);
	}
	free(list);
}

/* Put what the request says in place of what was said before.  0 or -1. */
static int
take_protocols(struct group_coordinator *c, struct member *m,
    const struct group_caller *caller,
    const struct wire_join_group_request *req)
{
	size_t bytes = size_of(caller, req);
	struct protocol *list;
	int32_t i;

	if (req->protocols.count <= 0 ||
	    (list = calloc((size_t)req->protocols.count, sizeof(*list))) ==
		NULL)
		return (-1);
	for (i = 0; i < req->protocols.count; i++) {
		list[i].name = group_copy(req->protocols.at[i].name);
		if (list[i].name == NULL ||
		    group_copy_bytes(&list[i].metadata,
			req->protocols.at[i].metadata) == -1) {
			free_protocols(list, i + 1);
			return (-1);
		}
	}
	free_protocols(m->protocols, m->protocol_count);
	m->protocols = list;
	m->protocol_count = req->protocols.count;
	m->session_timeout_ms = req->session_timeout_ms;
	m->rebalance_timeout_ms = req->rebalance_timeout_ms >= 0 ?
	    req->rebalance_timeout_ms :
	    req->session_timeout_ms;
	c->bytes += (int64_t)bytes - (int64_t)m->bytes;
	m->bytes = bytes;
	return (0);
}

/* Whether a member says now what it said before. */
static int
says_the_same(const struct member *m, const struct wire_join_group_request *req)
{
	const struct wire_join_group_request_protocol *p;
	int32_t i;

	if (m->protocol_count != req->protocols.count)
		return (0);
	for (i = 0; i < m->protocol_count; i++) {
		p = &req->protocols.at[i];
		if (!wire_string_is(p->name, m->protocols[i].name) ||
		    p->metadata.length != m->protocols[i].metadata.length ||
		    (p->metadata.length > 0 &&
			memcmp(p->metadata.at, m->protocols[i].metadata.at,
			    (size_t)p->metadata.length) != 0))
			return (0);
	}
	return (1);
}

/* Whether the group could have a protocol with this one in it. */
static int
fits(const struct group *g, const struct wire_join_group_request *req)
{
	const struct member *m;
	int32_t i, k;

	if (req->protocol_type.length <= 0 || req->protocols.count <= 0 ||
	    req->protocols.count > GROUP_PROTOCOLS_MOST)
		return (0);
	if (g->member_count == 0)
		return (1);
	if (g->protocol_type == NULL ||
	    !wire_string_is(req->protocol_type, g->protocol_type))
		return (0);
	for (i = 0; i < req->protocols.count; i++) {
		for (m = g->members; m != NULL; m = m->next) {
			for (k = 0; k < m->protocol_count; k++)
				if (wire_string_is(req->protocols.at[i].name,
					m->protocols[k].name))
					break;
			if (k == m->protocol_count)
				break;
		}
		if (m == NULL)
			return (1);
	}
	return (0);
}

/* ---- members come ------------------------------------------------------- */

static void
free_new(struct member *m)
{

	free(m->id);
	free(m->instance_id);
	free(m->client_id);
	free(m->client_host);
	free(m);
}

/* As Java writes an address that it hasn't looked up the name of. */
static char *
copy_host(const char *host)
{
	size_t size = strlen(host) + 2;
	char *copy = malloc(size);

	if (copy != NULL)
		snprintf(copy, size, "/%s", host);
	return (copy);
}

/* A member at the end of the list; NULL: out of memory. */
static struct member *
add_member(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req, struct wire_string id)
{
	struct member *m = calloc(1, sizeof(*m)), **at;
	char *type;

	if (m == NULL)
		return (NULL);
	m->id = group_copy(id);
	m->client_id = group_copy(caller->client_id);
	m->client_host = copy_host(caller->client_host);
	if (req->group_instance_id.length >= 0)
		m->instance_id = group_copy(req->group_instance_id);
	m->told = req->member_id.length > 0 ||
	    req->group_instance_id.length >= 0;
	if (m->id == NULL || m->client_id == NULL || m->client_host == NULL ||
	    (req->group_instance_id.length >= 0 && m->instance_id == NULL) ||
	    (type = group_copy(req->protocol_type)) == NULL) {
		free_new(m);
		return (NULL);
	}
	if (take_protocols(c, m, caller, req) == -1) {
		free(type);
		free_new(m);
		return (NULL);
	}
	free(g->protocol_type);
	g->protocol_type = type;
	for (at = &g->members; *at != NULL; at = &(*at)->next)
		;
	*at = m;
	g->member_count++;
	c->member_count++;
	return (m);
}

/* The member waits for the group now. */
static void
wait_for_join(struct group_coordinator *c, struct group *g, struct member *m,
    const struct group_caller *caller)
{

	/* Who asks twice waits for the second answer. */
	if (m->join_ticket != 0)
		refuse_join(c, m->join_ticket, WIRE_REBALANCE_IN_PROGRESS,
		    wire_text(m->id));
	m->join_ticket = caller->ticket;
	if (g->state == GROUP_PREPARING) {
		/* The delay of a first rebalance begins anew, to a limit. */
		if (g->initial) {
			g->deadline_ms = caller->now_ms +
			    c->conf.initial_delay_ms;
			if (g->deadline_ms > g->latest_ms)
				g->deadline_ms = g->latest_ms;
			group_wake_at(c, g->deadline_ms);
		}
		rebalance_check(c, g, caller->now_ms);
	} else {
		rebalance_start(c, g, caller->now_ms);
	}
}

static void
join_new(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req, struct wire_string id)
{
	struct member *m;

	if (g->member_count >= c->conf.members_most) {
		refuse_join(c, caller->ticket, WIRE_GROUP_MAX_SIZE_REACHED, id);
		return;
	}
	if ((m = add_member(c, g, caller, req, id)) == NULL) {
		refuse_join(c, caller->ticket, WIRE_COORDINATOR_NOT_AVAILABLE,
		    id);
		return;
	}
	wait_for_join(c, g, m, caller);
}

/* Give out an id, to come back with: so that joins sent twice are one. */
static void
give_id(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req, const char *id)
{
	struct pending *p;

	if (g->member_count + g->pending_count >= c->conf.members_most) {
		refuse_join(c, caller->ticket, WIRE_GROUP_MAX_SIZE_REACHED,
		    wire_text(""));
		return;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL || (p->id = strdup(id)) == NULL) {
		free(p);
		refuse_join(c, caller->ticket, WIRE_COORDINATOR_NOT_AVAILABLE,
		    wire_text(""));
		return;
	}
	p->expires_ms = caller->now_ms + req->session_timeout_ms;
	p->next = g->pending;
	g->pending = p;
	g->pending_count++;
	c->bytes += (int64_t)(sizeof(*p) + strlen(p->id));
	group_wake_at(c, p->expires_ms);
	refuse_join(c, caller->ticket, WIRE_MEMBER_ID_REQUIRED, wire_text(id));
}

/*
 * The instance is known and comes anew: it takes the old one's place.  If it
 * says the same, and the group is stable, nobody else need notice.
 */
static void
replace_instance(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req, struct member *m, const char *id)
{
	int same = says_the_same(m, req), led;
	char *old_id = m->id, *new_id = strdup(id), *leader = NULL;

	led = g->leader != NULL && strcmp(g->leader, old_id) == 0;
	if (new_id == NULL || (led && (leader = strdup(id)) == NULL) ||
	    take_protocols(c, m, caller, req) == -1) {
		free(new_id);
		free(leader);
		refuse_join(c, caller->ticket, WIRE_COORDINATOR_NOT_AVAILABLE,
		    wire_text(""));
		return;
	}
	/* Whoever still waits as the old one is fenced. */
	if (m->join_ticket != 0)
		refuse_join(c, m->join_ticket, WIRE_FENCED_INSTANCE_ID,
		    wire_text(old_id));
	m->join_ticket = 0;
	if (m->sync_ticket != 0)
		rebalance_answer_sync(c, g, m, WIRE_FENCED_INSTANCE_ID);
	m->id = new_id;
	if (led) {
		free(g->leader);
		g->leader = leader;
	}
	if (g->state == GROUP_STABLE && same) {
		m->join_ticket = caller->ticket;
		/* An old client would assign: let it follow whom it was. */
		rebalance_answer_join(c, g, m,
		    led && caller->version < 9 ? old_id : g->leader,
		    caller->now_ms);
	} else {
		wait_for_join(c, g, m, caller);
	}
	free(old_id);
}

/* As Kafka's: what the client calls itself, as far as there is room, and what
 * is never given twice. */
static void
make_member_id(struct group_coordinator *c, const struct group_caller *caller,
    const struct wire_join_group_request *req, char id[MEMBER_ID_SIZE])
{
	struct wire_string name = req->group_instance_id.length >= 0 ?
	    req->group_instance_id :
	    caller->client_id;
	size_t n, room = MEMBER_ID_SIZE - UNIQUE_SIZE - 1, length = 0;
	char unique[UNIQUE_SIZE];

	while (name.length > 0 && length < (size_t)name.length &&
	    (n = utf8_length(name.at + length, (size_t)name.length - length)) >
		0 &&
	    length + n <= room)
		length += n;
	c->conf.make_id(c->conf.arg, unique, sizeof(unique));
	snprintf(id, MEMBER_ID_SIZE, "%.*s%s%s", (int)length,
	    length > 0 ? name.at : "", length > 0 ? "-" : "", unique);
}

static void
join_unknown(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req)
{
	char id[MEMBER_ID_SIZE];
	struct member *m;

	make_member_id(c, caller, req, id);
	if (req->group_instance_id.length >= 0) {
		m = group_instance(g, req->group_instance_id);
		if (m != NULL)
			replace_instance(c, g, caller, req, m, id);
		else
			join_new(c, g, caller, req, wire_text(id));
	} else if (caller->version >= 4) {
		give_id(c, g, caller, req, id);
	} else {
		join_new(c, g, caller, req, wire_text(id));
	}
}

/* A member that is known joins again. */
static void
join_again(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req, struct member *m)
{
	int same = says_the_same(m, req);
	int leads = g->leader != NULL && strcmp(g->leader, m->id) == 0;

	/* Its answer got lost; or a follower looks around. */
	if (same &&
	    (g->state == GROUP_COMPLETING ||
		(g->state == GROUP_STABLE && !leads))) {
		m->join_ticket = caller->ticket;
		rebalance_answer_join(c, g, m, g->leader, caller->now_ms);
		return;
	}
	if (take_protocols(c, m, caller, req) == -1) {
		refuse_join(c, caller->ticket, WIRE_COORDINATOR_NOT_AVAILABLE,
		    req->member_id);
		return;
	}
	wait_for_join(c, g, m, caller);
}

static void
join_known(struct group_coordinator *c, struct group *g,
    const struct group_caller *caller,
    const struct wire_join_group_request *req)
{
	struct member *m = NULL;
	struct pending *p = group_pending(g, req->member_id);
	int16_t error;

	if (p != NULL && req->group_instance_id.length < 0) {
		group_pending_remove(c, g, p);
		join_new(c, g, caller, req, req->member_id);
		return;
	}
	error = group_identify(g, req->member_id, req->group_instance_id, &m);
	if (error != WIRE_NONE)
		refuse_join(c, caller->ticket, error, req->member_id);
	else
		join_again(c, g, caller, req, m);
}

/* What can be said without looking at the group. */
static int16_t
check_join(const struct group_coordinator *c, const struct group_caller *caller,
    const struct wire_join_group_request *req)
{
	size_t size = size_of(caller, req);

	if (req->reason.length > 0)
		size += (size_t)req->reason.length; /* while it waits */
	if (req->group_id.length <= 0 || req->group_id.length > GROUP_ID_MOST ||
	    memchr(req->group_id.at, '\0', (size_t)req->group_id.length) !=
		NULL)
		return (WIRE_INVALID_GROUP_ID);
	if (req->session_timeout_ms < c->conf.session_least_ms ||
	    req->session_timeout_ms > c->conf.session_most_ms)
		return (WIRE_INVALID_SESSION_TIMEOUT);
	if (size > MEMBER_BYTES_MOST || req->member_id.length >= MEMBER_ID_SIZE)
		return (WIRE_INVALID_REQUEST);
	if (c->bytes + (int64_t)size > c->conf.bytes_most)
		return (WIRE_COORDINATOR_NOT_AVAILABLE);
	return (WIRE_NONE);
}

void
group_join(struct group_coordinator *c, const struct group_caller *caller,
    const struct wire_join_group_request *req)
{
	struct group *g = group_get(c, req->group_id);
	int16_t error = check_join(c, caller, req);

	if (error == WIRE_NONE && g == NULL && req->member_id.length > 0)
		error = WIRE_UNKNOWN_MEMBER_ID;
	if (error == WIRE_NONE && g == NULL &&
	    (g = group_admit(c, req->group_id)) == NULL)
		error = WIRE_COORDINATOR_NOT_AVAILABLE;
	if (error == WIRE_NONE && !fits(g, req))
		error = WIRE_INCONSISTENT_GROUP_PROTOCOL;
	if (error != WIRE_NONE)
		refuse_join(c, caller->ticket, error, req->member_id);
	else if (req->member_id.length == 0)
		join_unknown(c, g, caller, req);
	else
		join_known(c, g, caller, req);
}

/* ---- sync --------------------------------------------------------------- */

static void
refuse_sync(struct group_coordinator *c, const struct group_caller *caller,
    int16_t error)
{
	struct wire_sync_group_response answer;

	wire_defaults(wire_sync_group_response_layout(), &answer);
	answer.error_code = error;
	c->conf.synced(c->conf.arg, caller->ticket, &answer);
}

/* The leader has assigned.  0 or -1: then nothing is assigned. */
static int
take_assignments(struct group_coordinator *c, struct group *g,
    const struct wire_sync_group_request *req)
{
	const struct wire_sync_group_request_assignment *a;
	struct wire_bytes copy;
	struct member *m;
	int32_t i;

	for (i = 0; i < req->assignments.count; i++) {
		a = &req->assignments.at[i];
		if ((m = group_member(g, a->member_id)) == NULL)
			continue;
		if (c->bytes + a->assignment.length > c->conf.bytes_most ||
		    group_copy_bytes(&copy, a->assignment) == -1)
			return (-1);
		free((void *)(uintptr_t)m->assignment.at);
		c->bytes += copy.length - m->assignment.length;
		m->bytes += (size_t)copy.length - (size_t)m->assignment.length;
		m->assignment = copy;
	}
	return (0);
}

static int
names_differ(struct wire_string said, const char *name)
{

	return (
	    said.length >= 0 && (name == NULL || !wire_string_is(said, name)));
}

static int16_t
check_sync(const struct group_coordinator *c, const struct group *g,
    const struct wire_sync_group_request *req, struct member **m)
{
	int16_t error;

	if (g == NULL)
		return (WIRE_UNKNOWN_MEMBER_ID);
	error = group_identify(g, req->member_id, req->group_instance_id, m);
	if (error != WIRE_NONE)
		return (error);
	if (req->generation_id != g->generation)
		return (WIRE_ILLEGAL_GENERATION);
	if (names_differ(req->protocol_type, g->protocol_type) ||
	    names_differ(req->protocol_name, g->protocol_name))
		return (WIRE_INCONSISTENT_GROUP_PROTOCOL);
	if (g->state == GROUP_PREPARING)
		return (WIRE_REBALANCE_IN_PROGRESS);
	/* Each is looked for among the members. */
	if (req->assignments.count > c->conf.members_most)
		return (WIRE_INVALID_REQUEST);
	return (g->state == GROUP_EMPTY ? WIRE_UNKNOWN_MEMBER_ID : WIRE_NONE);
}

/* All that wait have their assignment now. */
static void
become_stable(struct group_coordinator *c, struct group *g, int64_t now_ms)
{
	struct member *m;

	g->state = GROUP_STABLE;
	for (m = g->members; m != NULL; m = m->next) {
		group_touch(c, m, now_ms);
		if (m->sync_ticket != 0)
			rebalance_answer_sync(c, g, m, WIRE_NONE);
	}
}

void
group_sync(struct group_coordinator *c, const struct group_caller *caller,
    const struct wire_sync_group_request *req)
{
	struct group *g = group_get(c, req->group_id);
	struct member *m = NULL;
	int16_t error = WIRE_INVALID_GROUP_ID;

	/* From then on clients have to say what they take it to be. */
	if (caller->version >= 5 &&
	    (req->protocol_type.length < 0 || req->protocol_name.length < 0))
		error = WIRE_INCONSISTENT_GROUP_PROTOCOL;
	else if (req->group_id.length > 0)
		error = check_sync(c, g, req, &m);
	if (error != WIRE_NONE) {
		refuse_sync(c, caller, error);
		return;
	}
	group_touch(c, m, caller->now_ms);
	if (m->sync_ticket != 0)
		rebalance_answer_sync(c, g, m, WIRE_REBALANCE_IN_PROGRESS);
	m->sync_ticket = caller->ticket;
	m->synced = 1;
	if (g->state == GROUP_STABLE) {
		rebalance_answer_sync(c, g, m, WIRE_NONE);
		return;
	}
	if (g->leader == NULL || strcmp(g->leader, m->id) != 0)
		return;
	if (take_assignments(c, g, req) == -1)
		rebalance_start(c, g, caller->now_ms);
	else
		become_stable(c, g, caller->now_ms);
}
