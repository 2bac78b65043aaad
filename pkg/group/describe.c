/*
 * describe -- groups as tools want to see them.
 */
#include <string.h>

#include "group/internal.h"

const struct group *
group_next(const struct group_coordinator *c, size_t *at)
{

	return (map_next(&c->groups, at));
}

const struct group *
group_find(const struct group_coordinator *c, struct wire_string id)
{

	return (group_get(c, id));
}

const char *
group_id(const struct group *g)
{

	return (g->id);
}

const char *
group_protocol_type(const struct group *g)
{

	return (g->protocol_type != NULL ? g->protocol_type : "");
}

const char *
group_state_name(const struct group *g)
{

	switch (g->state) {
	case GROUP_EMPTY:
		return ("Empty");
	case GROUP_PREPARING:
		return ("PreparingRebalance");
	case GROUP_COMPLETING:
		return ("CompletingRebalance");
	case GROUP_STABLE:
		break;
	}
	return ("Stable");
}

static void
describe_member(const struct group *g, const struct member *m,
    struct wire_describe_groups_response_member *out)
{
	int32_t i;

	wire_defaults(wire_describe_groups_response_member_layout(), out);
	out->member_id = wire_text(m->id);
	out->group_instance_id = wire_text(m->instance_id);
	out->client_id = wire_text(m->client_id);
	out->client_host = wire_text(m->client_host);
	/* As Kafka has it: only a stable group's are settled. */
	if (g->state != GROUP_STABLE)
		return;
	out->member_assignment = m->assignment;
	for (i = 0; g->protocol_name != NULL && i < m->protocol_count; i++)
		if (strcmp(m->protocols[i].name, g->protocol_name) == 0)
			out->member_metadata = m->protocols[i].metadata;
}

int
group_describe(const struct group *g, struct wire_arena *arena,
    struct wire_describe_groups_response_group *out, struct mr_error *err)
{
	struct wire_describe_groups_response_member *list;
	const struct member *m;

	wire_defaults(wire_describe_groups_response_group_layout(), out);
	out->group_id = wire_text(g->id);
	out->group_state = wire_text(group_state_name(g));
	out->protocol_type = wire_text(group_protocol_type(g));
	if (g->state == GROUP_STABLE && g->protocol_name != NULL)
		out->protocol_data = wire_text(g->protocol_name);
	if (g->member_count == 0)
		return (0);
	list = wire_arena_take(arena, (size_t)g->member_count * sizeof(*list));
	if (list == NULL)
		return (mr_error_set(err, MR_RETRY,
		    "group %s: no memory to describe it", g->id));
	out->members.at = list;
	out->members.count = g->member_count;
	for (m = g->members; m != NULL; m = m->next)
		describe_member(g, m, list++);
	return (0);
}

int16_t
group_may_delete(const struct group_coordinator *c, struct wire_string id)
{
	const struct group *g = group_get(c, id);

	if (g == NULL)
		return (WIRE_GROUP_ID_NOT_FOUND);
	return (g->state == GROUP_EMPTY ? WIRE_NONE : WIRE_NON_EMPTY_GROUP);
}

void
group_drop(struct group_coordinator *c, const char *id)
{
	struct group *g = group_get(c, wire_text(id));

	if (g == NULL)
		return;
	if (g->state == GROUP_EMPTY)
		group_remove(c, g);
	else
		offsets_free(c, g);
}

void
group_count(const struct group_coordinator *c, struct group_counts *counts)
{
	const struct group *g;
	size_t at = 0;

	memset(counts, 0, sizeof(*counts));
	counts->bytes = c->bytes;
	while ((g = map_next(&c->groups, &at)) != NULL) {
		counts->groups++;
		counts->members += g->member_count;
		counts->offsets += g->offset_count;
	}
}
