/*
 * rebalance -- joins are waited for, then the leader's assignment.
 */
#include <stdlib.h>
#include <string.h>

#include "group/internal.h"

/* A member that hasn't asked for its assignment by then is given up. */
static int64_t
longest_rebalance_ms(const struct group *g)
{
	const struct member *m;
	int64_t longest = 0;

	for (m = g->members; m != NULL; m = m->next)
		if (m->rebalance_timeout_ms > longest)
			longest = m->rebalance_timeout_ms;
	return (longest);
}

static void
clear_assignments(struct group *g)
{
	struct member *m;

	for (m = g->members; m != NULL; m = m->next) {
		free((void *)(uintptr_t)m->assignment.at);
		m->assignment.at = NULL;
		m->assignment.length = 0;
	}
}

/* ---- answers ------------------------------------------------------------ */

/* What a member said under the protocol that was chosen. */
static struct wire_bytes
metadata_of(const struct group *g, const struct member *m)
{
	struct wire_bytes nothing = {NULL, 0};
	int32_t i;

	for (i = 0; g->protocol_name != NULL && i < m->protocol_count; i++)
		if (strcmp(m->protocols[i].name, g->protocol_name) == 0)
			return (m->protocols[i].metadata);
	return (nothing);
}

/* The leader's list; 0, or -1 out of memory. */
static int
list_members(const struct group *g, struct wire_join_group_response *answer)
{
	struct wire_join_group_response_member *list;
	const struct member *m;

	list = calloc((size_t)g->member_count, sizeof(*list));
	if (list == NULL)
		return (-1);
	answer->members.at = list;
	for (m = g->members; m != NULL; m = m->next, list++) {
		list->member_id = wire_text(m->id);
		list->group_instance_id = wire_text(m->instance_id);
		list->metadata = metadata_of(g, m);
		answer->members.count++;
	}
	return (0);
}

void
rebalance_answer_join(struct group_coordinator *c, struct group *g,
    struct member *m, const char *leader, int64_t now_ms)
{
	struct wire_join_group_response answer;
	uint64_t ticket = m->join_ticket;

	wire_defaults(wire_join_group_response_layout(), &answer);
	answer.generation_id = g->generation;
	answer.protocol_type = wire_text(g->protocol_type);
	answer.protocol_name = wire_text(g->protocol_name);
	answer.leader = wire_text(leader != NULL ? leader : "");
	answer.member_id = wire_text(m->id);
	if (leader != NULL && strcmp(leader, m->id) == 0) {
		if (list_members(g, &answer) == -1)
			answer.error_code = WIRE_COORDINATOR_NOT_AVAILABLE;
		/* A static leader that is back gets the list without a task. */
		answer.skip_assignment = g->state == GROUP_STABLE;
	}
	m->join_ticket = 0;
	m->told = 1;
	group_touch(c, m, now_ms);
	c->conf.joined(c->conf.arg, ticket, &answer);
	free(answer.members.at);
}

void
rebalance_answer_sync(struct group_coordinator *c, struct group *g,
    struct member *m, int16_t error)
{
	struct wire_sync_group_response answer;
	uint64_t ticket = m->sync_ticket;

	wire_defaults(wire_sync_group_response_layout(), &answer);
	answer.error_code = error;
	if (error == WIRE_NONE) {
		answer.protocol_type = wire_text(g->protocol_type);
		answer.protocol_name = wire_text(g->protocol_name);
		answer.assignment = m->assignment;
	}
	m->sync_ticket = 0;
	c->conf.synced(c->conf.arg, ticket, &answer);
}

/* ---- from state to state ------------------------------------------------ */

static int
has_protocol(const struct member *m, const char *name)
{
	int32_t i;

	for (i = 0; i < m->protocol_count; i++)
		if (strcmp(m->protocols[i].name, name) == 0)
			return (1);
	return (0);
}

/* Those of the first member's that all have. */
struct ballot {
	const char *names[GROUP_PROTOCOLS_MOST];
	int32_t votes[GROUP_PROTOCOLS_MOST];
	int count;
};

static void
open_ballot(const struct group *g, struct ballot *ballot)
{
	const struct member *m;
	const char *name;
	int32_t i;

	ballot->count = 0;
	for (i = 0; g->members != NULL && i < g->members->protocol_count; i++) {
		name = g->members->protocols[i].name;
		for (m = g->members; m != NULL && has_protocol(m, name);)
			m = m->next;
		if (m != NULL)
			continue;
		ballot->names[ballot->count] = name;
		ballot->votes[ballot->count++] = 0;
	}
}

/* Which of them a member likes best; -1: there are none. */
static int
vote_of(const struct ballot *ballot, const struct member *m)
{
	int32_t i;
	int k;

	for (i = 0; i < m->protocol_count; i++)
		for (k = 0; k < ballot->count; k++)
			if (strcmp(ballot->names[k], m->protocols[i].name) == 0)
				return (k);
	return (-1);
}

/* The protocol that most members like best, among those that all have. */
static const char *
choose_protocol(const struct group *g)
{
	const struct member *m;
	struct ballot ballot;
	int i, best = 0;

	open_ballot(g, &ballot);
	if (ballot.count == 0)
		return (NULL);
	for (m = g->members; m != NULL; m = m->next)
		ballot.votes[vote_of(&ballot, m)]++;
	for (i = 1; i < ballot.count; i++)
		if (ballot.votes[i] > ballot.votes[best])
			best = i;
	return (ballot.names[best]);
}

static int
set_protocol(struct group *g)
{
	const char *chosen = choose_protocol(g);
	char *copy;

	if (chosen == NULL || (copy = strdup(chosen)) == NULL)
		return (-1);
	free(g->protocol_name);
	g->protocol_name = copy;
	return (0);
}

/* A leader that joined; static members that didn't may stay without. */
static int
elect(struct group *g)
{
	struct member *m, *first = NULL;

	for (m = g->members; m != NULL; m = m->next) {
		if (m->join_ticket == 0)
			continue;
		if (g->leader != NULL && strcmp(m->id, g->leader) == 0)
			return (0);
		if (first == NULL)
			first = m;
	}
	free(g->leader);
	g->leader = NULL;
	if (first == NULL)
		return (0);
	g->leader = strdup(first->id);
	return (g->leader != NULL ? 0 : -1);
}

static void
unlink_member(struct group_coordinator *c, struct group *g, struct member *m)
{
	struct member **at;

	for (at = &g->members; *at != NULL; at = &(*at)->next)
		if (*at == m) {
			*at = m->next;
			break;
		}
	g->member_count--;
	c->member_count--;
	if (g->leader != NULL && strcmp(g->leader, m->id) == 0) {
		free(g->leader);
		g->leader = NULL;
	}
}

/* Whose request still waits is told that it isn't a member. */
static void
dismiss(struct group_coordinator *c, struct group *g, struct member *m)
{
	struct wire_join_group_response answer;

	if (m->join_ticket != 0) {
		wire_defaults(wire_join_group_response_layout(), &answer);
		answer.error_code = WIRE_UNKNOWN_MEMBER_ID;
		answer.member_id = wire_text(m->id);
		c->conf.joined(c->conf.arg, m->join_ticket, &answer);
		m->join_ticket = 0;
	}
	if (m->sync_ticket != 0)
		rebalance_answer_sync(c, g, m, WIRE_UNKNOWN_MEMBER_ID);
	unlink_member(c, g, m);
	group_member_free(c, m);
}

static void
become_empty(struct group *g)
{

	g->generation++;
	g->state = GROUP_EMPTY;
	free(g->protocol_name);
	g->protocol_name = NULL;
	g->empty_since_ms = 0;
}

/* All that came are the members of the next generation. */
static void
complete_join(struct group_coordinator *c, struct group *g, int64_t now_ms)
{
	struct member *m, *next;

	for (m = g->members; m != NULL; m = next) {
		next = m->next;
		if (m->join_ticket == 0 && m->instance_id == NULL)
			dismiss(c, g, m);
	}
	if (g->member_count == 0) {
		become_empty(g);
		return;
	}
	if (elect(g) == -1 || g->leader == NULL || set_protocol(g) == -1) {
		/* No memory; or static members only, and none is back. */
		g->deadline_ms = now_ms + longest_rebalance_ms(g);
		group_wake_at(c, g->deadline_ms);
		return;
	}
	g->generation++;
	clear_assignments(g);
	g->state = GROUP_COMPLETING;
	g->deadline_ms = now_ms + longest_rebalance_ms(g);
	group_wake_at(c, g->deadline_ms);
	for (m = g->members; m != NULL; m = m->next) {
		m->synced = 0;
		if (m->join_ticket != 0)
			rebalance_answer_join(c, g, m, g->leader, now_ms);
	}
}

void
rebalance_check(struct group_coordinator *c, struct group *g, int64_t now_ms)
{
	const struct member *m;

	if (g->state != GROUP_PREPARING || g->initial || g->pending != NULL)
		return;
	for (m = g->members; m != NULL; m = m->next)
		if (m->join_ticket == 0)
			return;
	complete_join(c, g, now_ms);
}

void
rebalance_start(struct group_coordinator *c, struct group *g, int64_t now_ms)
{
	struct member *m;
	int first;

	if (g->state == GROUP_COMPLETING) {
		clear_assignments(g);
		for (m = g->members; m != NULL; m = m->next) {
			if (m->sync_ticket == 0)
				continue;
			group_touch(c, m, now_ms);
			rebalance_answer_sync(c, g, m,
			    WIRE_REBALANCE_IN_PROGRESS);
		}
	}
	first = g->state == GROUP_EMPTY;
	g->initial = first && c->conf.initial_delay_ms > 0;
	g->state = GROUP_PREPARING;
	g->latest_ms = now_ms + longest_rebalance_ms(g);
	g->deadline_ms = g->initial ? now_ms + c->conf.initial_delay_ms :
				      g->latest_ms;
	group_wake_at(c, g->deadline_ms);
	/* Whoever got an id of an empty group may be long gone: as in Kafka, a
	 * first rebalance waits for its delay alone. */
	if (first && !g->initial)
		complete_join(c, g, now_ms);
	else
		rebalance_check(c, g, now_ms);
}

void
rebalance_overdue(struct group_coordinator *c, struct group *g, int64_t now_ms)
{
	struct member *m, *next;
	int gone = 0;

	if (g->state == GROUP_PREPARING) {
		g->initial = 0;
		complete_join(c, g, now_ms);
		return;
	}
	/* Who hasn't asked for an assignment is gone, heartbeats or not. */
	for (m = g->members; m != NULL; m = next) {
		next = m->next;
		if (!m->synced) {
			dismiss(c, g, m);
			gone = 1;
		}
	}
	g->deadline_ms = INT64_MAX;
	if (gone || g->state == GROUP_COMPLETING)
		rebalance_start(c, g, now_ms);
}

void
rebalance_drop_member(struct group_coordinator *c, struct group *g,
    struct member *m, int64_t now_ms)
{

	dismiss(c, g, m);
	if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
		rebalance_start(c, g, now_ms);
	else
		rebalance_check(c, g, now_ms);
}
