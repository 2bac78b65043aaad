#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "group/group.h"

#define SESSION_MS 6000
#define REBALANCE_MS 30000
#define TICKETS 64
#define TEXT_SIZE 320

/* What came under each ticket. */
struct answer {
	int joined, synced; /* how often */
	int16_t error;
	int32_t generation;
	int32_t members; /* in the leader's list */
	int skip;
	char member_id[TEXT_SIZE], leader[TEXT_SIZE], protocol[TEXT_SIZE];
	char assignment[TEXT_SIZE];
};

struct world {
	struct group_coordinator *c;
	struct answer answers[TICKETS];
	uint64_t next_ticket;
	int64_t now_ms;
	int ids;
	int version;
	const char *client; /* what members call themselves; NULL: nothing */
	char forgotten[TEXT_SIZE];
	int forgotten_count;
};

static void
keep(char to[TEXT_SIZE], const void *at, int32_t length)
{

	if (length < 0)
		length = 0;
	assert_true(length < TEXT_SIZE);
	if (length > 0)
		memcpy(to, at, (size_t)length);
	to[length] = '\0';
}

static void
joined(void *arg, uint64_t ticket,
    const struct wire_join_group_response *answer)
{
	struct answer *a = &((struct world *)arg)->answers[ticket];

	a->joined++;
	a->error = answer->error_code;
	a->generation = answer->generation_id;
	a->members = answer->members.count;
	a->skip = answer->skip_assignment;
	keep(a->member_id, answer->member_id.at, answer->member_id.length);
	keep(a->leader, answer->leader.at, answer->leader.length);
	keep(a->protocol, answer->protocol_name.at,
	    answer->protocol_name.length);
}

static void
synced(void *arg, uint64_t ticket,
    const struct wire_sync_group_response *answer)
{
	struct answer *a = &((struct world *)arg)->answers[ticket];

	a->synced++;
	a->error = answer->error_code;
	keep(a->assignment, answer->assignment.at, answer->assignment.length);
}

static void
make_id(void *arg, char *id, size_t size)
{

	snprintf(id, size, "m%d", ++((struct world *)arg)->ids);
}

static void
forgotten(void *arg, const char *group, const char *topic, int32_t partition,
    int64_t committed_ms)
{
	struct world *w = arg;

	snprintf(w->forgotten, sizeof(w->forgotten), "%s %s %d %lld", group,
	    topic, (int)partition, (long long)committed_ms);
	w->forgotten_count++;
}

static int
open_world(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mr_error err;
	struct group_conf conf = {
	    .session_least_ms = 1000,
	    .session_most_ms = 60000,
	    .offsets_retention_ms = 1000000,
	    .groups_most = 10,
	    .members_most = 3,
	    .bytes_most = 100000,
	    .arg = w,
	    .make_id = make_id,
	    .joined = joined,
	    .synced = synced,
	    .forgotten = forgotten,
	};

	assert_non_null(w);
	w->c = group_open(&conf, &err);
	assert_non_null(w->c);
	w->now_ms = 1000000;
	w->version = 9;
	*state = w;
	return (0);
}

static int
close_world(void **state)
{
	struct world *w = *state;

	group_close(w->c);
	free(w);
	return (0);
}

/* ---- what members do ---------------------------------------------------- */

static struct answer *
join_as(struct world *w, const char *id, const char *instance,
    const char *protocols)
{
	struct wire_join_group_request_protocol list[GROUP_PROTOCOLS_MOST + 1];
	struct wire_join_group_request req;
	struct group_caller caller = {.now_ms = w->now_ms,
	    .ticket = ++w->next_ticket,
	    .version = w->version,
	    .client_id = wire_text(w->client),
	    .client_host = "127.0.0.1"};

	assert_true(caller.ticket < TICKETS);
	wire_defaults(wire_join_group_request_layout(), &req);
	req.group_id = wire_text("g");
	req.session_timeout_ms = SESSION_MS;
	req.rebalance_timeout_ms = REBALANCE_MS;
	req.member_id = wire_text(id);
	req.group_instance_id = wire_text(instance);
	req.protocol_type = wire_text("consumer");
	req.protocols.at = list;
	/* One letter a protocol; the topic "t" is subscribed to. */
	for (; *protocols != '\0'; protocols++) {
		list[req.protocols.count].name.at = protocols;
		list[req.protocols.count].name.length = 1;
		list[req.protocols.count]
		    .metadata.at = (const uint8_t *)"\0\1\0\0\0\1\0\1t";
		list[req.protocols.count].metadata.length = 9;
		req.protocols.count++;
	}
	group_join(w->c, &caller, &req);
	return (&w->answers[caller.ticket]);
}

/* A dynamic member gets its id first, as clients do. */
static struct answer *
join(struct world *w, char id[TEXT_SIZE])
{
	struct answer *a = join_as(w, "", NULL, "r");

	assert_int_equal(a->error, WIRE_MEMBER_ID_REQUIRED);
	snprintf(id, TEXT_SIZE, "%s", a->member_id);
	return (join_as(w, id, NULL, "r"));
}

/* The leader assigns everybody their own id. */
static struct answer *
sync_as(struct world *w, const char *id, int32_t generation, int leads)
{
	struct wire_sync_group_request_assignment list[3];
	struct wire_sync_group_request req;
	struct group_caller caller = {.now_ms = w->now_ms,
	    .ticket = ++w->next_ticket,
	    .client_host = ""};
	static const char *const dynamic[] = {"m1", "m2", "m3"},
				 *const fixed[] = {"one-m1", "two-m2",
				     "two-m3"};
	const char *const *ids = strchr(id, '-') != NULL ? fixed : dynamic;
	int32_t i;

	wire_defaults(wire_sync_group_request_layout(), &req);
	req.group_id = wire_text("g");
	req.generation_id = generation;
	req.member_id = wire_text(id);
	if (leads) {
		req.assignments.at = list;
		req.assignments.count = 3;
		for (i = 0; i < 3; i++) {
			list[i].member_id = wire_text(ids[i]);
			list[i].assignment.at = (const uint8_t *)ids[i];
			list[i].assignment.length = (int32_t)strlen(ids[i]);
		}
	}
	group_sync(w->c, &caller, &req);
	return (&w->answers[caller.ticket]);
}

static int16_t
beat(struct world *w, const char *id, int32_t generation)
{
	struct wire_heartbeat_request req;

	wire_defaults(wire_heartbeat_request_layout(), &req);
	req.group_id = wire_text("g");
	req.member_id = wire_text(id);
	req.generation_id = generation;
	return (group_heartbeat(w->c, w->now_ms, &req));
}

static int16_t
leave(struct world *w, const char *id, const char *instance)
{
	struct wire_leave_group_request_member m;

	wire_defaults(wire_leave_group_request_member_layout(), &m);
	m.member_id = wire_text(id);
	m.group_instance_id = wire_text(instance);
	return (group_leave(w->c, w->now_ms, wire_text("g"), &m));
}

static int16_t
may_commit_in(struct world *w, const char *group, const char *id,
    int32_t generation)
{
	struct wire_offset_commit_request req;

	wire_defaults(wire_offset_commit_request_layout(), &req);
	req.group_id = wire_text(group);
	req.member_id = wire_text(id);
	req.generation_id = generation;
	return (group_may_commit(w->c, w->now_ms, &req));
}

static int16_t
may_commit(struct world *w, const char *id, int32_t generation)
{

	return (may_commit_in(w, "g", id, generation));
}

/* The time at which there is something to do next. */
static void
sleep_until_deadline(struct world *w)
{

	assert_true(group_deadline(w->c) < INT64_MAX);
	if (w->now_ms < group_deadline(w->c))
		w->now_ms = group_deadline(w->c);
	group_tick(w->c, w->now_ms);
}

static const char *
state_of(const struct world *w)
{
	const struct group *g = group_find(w->c, wire_text("g"));

	return (g != NULL ? group_state_name(g) : "none");
}

/* Two members, m1 (the leader) and m2, in a stable group; the generation. */
static int32_t
two_members(struct world *w, char one[TEXT_SIZE], char two[TEXT_SIZE])
{
	struct answer *a, *b;

	a = join(w, one);
	assert_int_equal(a->joined, 1);
	assert_int_equal(sync_as(w, one, a->generation, 1)->error, 0);
	b = join(w, two);
	assert_int_equal(b->joined, 0);
	assert_int_equal(beat(w, one, a->generation),
	    WIRE_REBALANCE_IN_PROGRESS);
	a = join_as(w, one, NULL, "r");
	assert_int_equal(a->joined, 1);
	assert_int_equal(b->joined, 1);
	assert_int_equal(a->generation, 2);
	assert_int_equal(b->generation, 2);
	assert_string_equal(a->leader, one);
	assert_int_equal(a->members, 2);
	assert_int_equal(b->members, 0);
	b = sync_as(w, two, 2, 0);
	assert_int_equal(b->synced, 0);
	a = sync_as(w, one, 2, 1);
	assert_string_equal(a->assignment, one);
	assert_int_equal(b->synced, 1);
	assert_string_equal(b->assignment, two);
	assert_string_equal(state_of(w), "Stable");
	return (2);
}

/* ---- the tests ---------------------------------------------------------- */

static void
members_join_and_each_gets_what_the_leader_assigns(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];

	(void)two_members(*state, one, two);
}

static void
ids_begin_with_what_members_call_themselves(void **state)
{
	enum { LONG = 402 };
	char name[LONG + 1], expected[TEXT_SIZE];
	struct world *w = *state;
	struct answer *a;
	int i;

	w->client = "rdkafka";
	assert_string_equal(join_as(w, "", "till", "r")->member_id, "till-m1");
	assert_string_equal(join_as(w, "", NULL, "r")->member_id, "rdkafka-m2");
	/* Too long, and cut between characters. */
	for (i = 0; i < LONG; i++)
		name[i] = "\xe2\x82\xac"[i % 3];
	name[LONG] = '\0';
	w->client = name;
	a = join_as(w, "", NULL, "r");
	assert_int_equal(a->error, WIRE_MEMBER_ID_REQUIRED);
	snprintf(expected, sizeof(expected), "%.*s-m3", 258 / 3 * 3, name);
	assert_string_equal(a->member_id, expected);
}

static void
what_comes_of_another_generation_is_refused(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;

	two_members(w, one, two);
	assert_int_equal(beat(w, one, 1), WIRE_ILLEGAL_GENERATION);
	assert_int_equal(beat(w, "x", 2), WIRE_UNKNOWN_MEMBER_ID);
	assert_int_equal(beat(w, one, 2), WIRE_NONE);
	assert_int_equal(sync_as(w, one, 1, 1)->error, WIRE_ILLEGAL_GENERATION);
	assert_int_equal(may_commit(w, one, 1), WIRE_ILLEGAL_GENERATION);
	assert_int_equal(may_commit(w, "x", 2), WIRE_UNKNOWN_MEMBER_ID);
	assert_int_equal(may_commit(w, "", -1), WIRE_UNKNOWN_MEMBER_ID);
	assert_int_equal(may_commit(w, two, 2), WIRE_NONE);
}

static void
a_clean_leave_starts_a_rebalance_at_once(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct answer *a;

	two_members(w, one, two);
	assert_int_equal(leave(w, two, NULL), WIRE_NONE);
	assert_int_equal(beat(w, one, 2), WIRE_REBALANCE_IN_PROGRESS);
	a = join_as(w, one, NULL, "r");
	assert_int_equal(a->joined, 1);
	assert_int_equal(a->members, 1);
	assert_int_equal(leave(w, two, NULL), WIRE_UNKNOWN_MEMBER_ID);
	assert_int_equal(leave(w, one, NULL), WIRE_NONE);
	assert_string_equal(state_of(w), "Empty");
}

static void
a_silent_member_is_dropped_when_its_session_ends(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct answer *a;

	two_members(w, one, two);
	w->now_ms += SESSION_MS - 1;
	group_tick(w->c, w->now_ms);
	assert_int_equal(beat(w, one, 2), WIRE_NONE);
	w->now_ms += 1;
	group_tick(w->c, w->now_ms);
	assert_int_equal(beat(w, one, 2), WIRE_REBALANCE_IN_PROGRESS);
	assert_int_equal(beat(w, two, 2), WIRE_UNKNOWN_MEMBER_ID);
	a = join_as(w, one, NULL, "r");
	assert_int_equal(a->joined, 1);
	assert_int_equal(a->members, 1);
}

static void
who_misses_a_rebalance_is_out(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE], three[TEXT_SIZE];
	struct world *w = *state;
	struct answer *c;
	int64_t until;

	two_members(w, one, two);
	c = join(w, three);
	assert_int_equal(c->joined, 0);
	/* Both beat, and never join. */
	until = w->now_ms + REBALANCE_MS;
	while (w->now_ms < until - 1000) {
		w->now_ms += 1000;
		assert_int_equal(beat(w, one, 2), WIRE_REBALANCE_IN_PROGRESS);
		assert_int_equal(beat(w, two, 2), WIRE_REBALANCE_IN_PROGRESS);
		group_tick(w->c, w->now_ms);
		assert_int_equal(c->joined, 0);
	}
	w->now_ms = until;
	group_tick(w->c, w->now_ms);
	assert_int_equal(c->joined, 1);
	assert_int_equal(c->generation, 3);
	assert_int_equal(c->members, 1);
	assert_int_equal(beat(w, one, 2), WIRE_UNKNOWN_MEMBER_ID);
}

static void
a_leader_that_never_assigns_is_dropped(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct answer *b;

	two_members(w, one, two);
	join_as(w, one, NULL, "r");
	join_as(w, two, NULL, "r");
	b = sync_as(w, two, 3, 0);
	assert_int_equal(b->synced, 0);
	/* The leader beats on, so that only the rebalance's time ends it. */
	while (b->synced == 0) {
		w->now_ms += 1000;
		(void)beat(w, one, 3);
		group_tick(w->c, w->now_ms);
		assert_true(w->now_ms < 2000000);
	}
	assert_int_equal(b->error, WIRE_REBALANCE_IN_PROGRESS);
	assert_int_equal(beat(w, one, 3), WIRE_UNKNOWN_MEMBER_ID);
}

static void
an_id_that_was_given_out_waits_for_its_member(void **state)
{
	struct world *w = *state;
	struct answer *a = join_as(w, "", NULL, "r");

	assert_int_equal(a->error, WIRE_MEMBER_ID_REQUIRED);
	assert_string_equal(a->member_id, "m1");
	/* Unused, it is forgotten with its session. */
	w->now_ms += SESSION_MS;
	group_tick(w->c, w->now_ms);
	assert_int_equal(join_as(w, "m1", NULL, "r")->error,
	    WIRE_UNKNOWN_MEMBER_ID);
	/* Older clients don't know of it. */
	w->version = 3;
	a = join_as(w, "", NULL, "r");
	assert_int_equal(a->error, WIRE_NONE);
	assert_string_equal(a->member_id, "m2");
}

static void
a_static_member_comes_back_without_a_rebalance(void **state)
{
	struct world *w = *state;
	struct answer *a, *b;

	a = join_as(w, "", "one", "r");
	assert_int_equal(a->joined, 1);
	assert_string_equal(a->member_id, "one-m1");
	sync_as(w, "one-m1", 1, 1);
	b = join_as(w, "", "two", "r");
	a = join_as(w, "one-m1", "one", "r");
	assert_int_equal(b->joined, 1);
	sync_as(w, "one-m1", 2, 1);
	assert_string_equal(sync_as(w, "two-m2", 2, 0)->assignment, "two-m2");
	/* The follower starts anew. */
	b = join_as(w, "", "two", "r");
	assert_int_equal(b->joined, 1);
	assert_int_equal(b->error, WIRE_NONE);
	assert_int_equal(b->generation, 2);
	assert_string_equal(b->member_id, "two-m3");
	assert_string_equal(sync_as(w, "two-m3", 2, 0)->assignment, "two-m2");
	assert_int_equal(beat(w, "one-m1", 2), WIRE_NONE);
	/* Its former self is fenced. */
	assert_int_equal(join_as(w, "two-m2", "two", "r")->error,
	    WIRE_FENCED_INSTANCE_ID);
	assert_int_equal(leave(w, "two-m2", "two"), WIRE_FENCED_INSTANCE_ID);
	/* The leader as well, who is told not to assign. */
	a = join_as(w, "", "one", "r");
	assert_int_equal(a->generation, 2);
	assert_string_equal(a->leader, "one-m4");
	assert_int_equal(a->skip, 1);
	/* A tool removes one by its instance. */
	assert_int_equal(leave(w, "", "two"), WIRE_NONE);
	assert_int_equal(leave(w, "", "two"), WIRE_UNKNOWN_MEMBER_ID);
}

/* Clients before version 9 would assign in vain: they are told of another
 * leader, but one that changes what it says, or asks again, is the leader. */
static void
an_old_static_leader_that_is_back_leads(void **state)
{
	static const int versions[] = {5, 7, 9};
	struct world *w = *state;
	struct answer *a;
	char id[TEXT_SIZE], instance[8];
	size_t i;

	for (i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		w->version = versions[i];
		snprintf(instance, sizeof(instance), "i%d", versions[i]);
		a = join_as(w, "", instance, "r");
		snprintf(id, sizeof(id), "%s", a->member_id);
		sync_as(w, id, a->generation, 1);
		a = join_as(w, "", instance, "r");
		assert_int_equal(a->error, WIRE_NONE);
		assert_int_equal(a->generation, 1);
		assert_int_equal(a->skip, versions[i] >= 9);
		assert_string_equal(a->leader,
		    versions[i] >= 9 ? a->member_id : id);
		assert_int_equal(a->members, versions[i] >= 9);
		/* As where a topic has more partitions. */
		snprintf(id, sizeof(id), "%s", a->member_id);
		a = join_as(w, id, instance, "r");
		assert_int_equal(a->generation, 2);
		assert_string_equal(a->leader, id);
		assert_int_equal(a->members, 1);
		close_world(state);
		open_world(state);
		w = *state;
	}
}

static void
gone(struct world *w, const struct answer *a)
{

	group_gone(w->c, w->now_ms, "g", (uint64_t)(a - w->answers));
}

static void
who_goes_while_it_waits_may_come_back_if_it_can(void **state)
{
	struct group_counts counts;
	struct world *w = *state;
	struct answer *a, *b;

	w->version = 3;
	(void)join_as(w, "", NULL, "r");
	b = join_as(w, "", NULL, "r");
	gone(w, b);
	group_count(w->c, &counts);
	assert_int_equal(counts.members, 1);
	a = join_as(w, "m1", NULL, "r");
	assert_int_equal(a->generation, 2);
	assert_int_equal(a->members, 1);
	assert_int_equal(b->joined, 0);
	/* One that has its id is waited for, until its session ends. */
	b = join_as(w, "", NULL, "r");
	(void)join_as(w, "m1", NULL, "r");
	assert_int_equal(b->generation, 3);
	b = join_as(w, b->member_id, NULL, "rs");
	gone(w, b);
	a = join_as(w, "m1", NULL, "r");
	assert_int_equal(a->joined, 0);
	w->now_ms += SESSION_MS;
	group_tick(w->c, w->now_ms);
	assert_int_equal(a->generation, 4);
	assert_int_equal(a->members, 1);
	assert_int_equal(b->joined, 0);
	gone(w, b);
}

static void
who_goes_while_others_are_assigned_gets_it_when_it_is_back(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct answer *a;

	join(w, one);
	(void)join(w, two);
	a = join_as(w, one, NULL, "r");
	assert_int_equal(a->generation, 2);
	a = sync_as(w, two, 2, 0);
	gone(w, a);
	(void)sync_as(w, one, 2, 1);
	assert_int_equal(a->synced, 0);
	assert_string_equal(sync_as(w, two, 2, 0)->assignment, two);
}

static void
the_protocol_is_one_that_all_have(void **state)
{
	struct world *w = *state;
	struct answer *a, *b;

	w->version = 3;
	a = join_as(w, "", NULL, "cr");
	assert_string_equal(a->protocol, "c");
	assert_int_equal(join_as(w, "", NULL, "x")->error,
	    WIRE_INCONSISTENT_GROUP_PROTOCOL);
	b = join_as(w, "", NULL, "rs");
	a = join_as(w, "m1", NULL, "cr");
	assert_string_equal(a->protocol, "r");
	assert_string_equal(b->protocol, "r");
}

static void
most_members_choose_the_protocol(void **state)
{
	struct world *w = *state;
	struct answer *a, *b, *c;

	w->version = 3;
	(void)join_as(w, "", NULL, "rcx");
	b = join_as(w, "", NULL, "cr");
	a = join_as(w, "m1", NULL, "rcx");
	assert_string_equal(a->protocol, "r");
	c = join_as(w, "", NULL, "crs");
	a = join_as(w, "m1", NULL, "rcx");
	b = join_as(w, "m2", NULL, "cr");
	assert_string_equal(a->protocol, "c");
	assert_string_equal(b->protocol, "c");
	assert_string_equal(c->protocol, "c");
}

static void
more_protocols_than_are_compared_are_refused(void **state)
{
	char many[GROUP_PROTOCOLS_MOST + 2];
	struct world *w = *state;

	w->version = 3;
	memset(many, 'r', sizeof(many));
	many[GROUP_PROTOCOLS_MOST + 1] = '\0';
	assert_int_equal(join_as(w, "", NULL, many)->error,
	    WIRE_INCONSISTENT_GROUP_PROTOCOL);
	many[GROUP_PROTOCOLS_MOST] = '\0';
	assert_string_equal(join_as(w, "", NULL, many)->protocol, "r");
}

static void
joins_that_can_not_be_are_refused(void **state)
{
	struct wire_join_group_request req;
	struct world *w = *state;
	struct group_caller caller = {.now_ms = 1,
	    .ticket = 60,
	    .version = 9,
	    .client_host = ""};
	char id[TEXT_SIZE];
	int i;

	wire_defaults(wire_join_group_request_layout(), &req);
	req.group_id = wire_text("");
	req.session_timeout_ms = SESSION_MS;
	group_join(w->c, &caller, &req);
	assert_int_equal(w->answers[60].error, WIRE_INVALID_GROUP_ID);
	req.group_id = wire_text("g");
	req.session_timeout_ms = 10;
	group_join(w->c, &caller, &req);
	assert_int_equal(w->answers[60].error, WIRE_INVALID_SESSION_TIMEOUT);
	assert_int_equal(join_as(w, "nobody", NULL, "r")->error,
	    WIRE_UNKNOWN_MEMBER_ID);
	join(w, id);
	join(w, id);
	/* An id that was given out is a place that is taken. */
	assert_int_equal(join_as(w, "", NULL, "r")->error,
	    WIRE_MEMBER_ID_REQUIRED);
	assert_int_equal(join_as(w, "", NULL, "r")->error,
	    WIRE_GROUP_MAX_SIZE_REACHED);
	w->now_ms += SESSION_MS;
	group_tick(w->c, w->now_ms);
	assert_int_equal(join_as(w, "", NULL, "r")->error,
	    WIRE_MEMBER_ID_REQUIRED);
	/* Older clients are members at once; one is still there. */
	w->version = 3;
	for (i = 0; i < 2; i++)
		assert_int_equal(join_as(w, "", NULL, "r")->joined, 0);
	assert_int_equal(join_as(w, "", NULL, "r")->error,
	    WIRE_GROUP_MAX_SIZE_REACHED);
}

/* Somebody joined after it was asked for, and before it was on disk. */
static void
a_group_that_is_deleted_and_joined_has_no_offsets(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct mr_error err;

	assert_int_equal(group_put_offset(w->c, "g", "t", 2, 42, 7, 1, "",
			     &err),
	    0);
	assert_int_equal(group_may_delete(w->c, wire_text("g")), WIRE_NONE);
	two_members(w, one, two);
	group_drop(w->c, "g");
	assert_null(group_get_offset(w->c, wire_text("g"), "t", 2));
	assert_string_equal(state_of(w), "Stable");
	assert_int_equal(group_put_offset(w->c, "g", "t", 2, 43, 7, 1, "",
			     &err),
	    0);
	assert_int_equal(group_get_offset(w->c, wire_text("g"), "t", 2)->offset,
	    43);
}

static void
offsets_are_kept_and_expire(void **state)
{
	struct world *w = *state;
	const struct group_offset *o;
	struct mr_error err;
	int64_t day = 86400000;

	assert_int_equal(may_commit(w, "", -1), WIRE_NONE);
	assert_int_equal(group_put_offset(w->c, "g", "t", 2, 42, 7, day, "meta",
			     &err),
	    0);
	o = group_get_offset(w->c, wire_text("g"), "t", 2);
	assert_non_null(o);
	assert_int_equal(o->offset, 42);
	assert_int_equal(o->leader_epoch, 7);
	assert_string_equal(o->metadata, "meta");
	assert_null(group_get_offset(w->c, wire_text("g"), "t", 1));
	assert_null(group_get_offset(w->c, wire_text("g"), "u", 2));
	group_expire_offsets(w->c, day + 999999);
	assert_int_equal(w->forgotten_count, 0);
	group_expire_offsets(w->c, day + 1000000);
	assert_int_equal(w->forgotten_count, 1);
	assert_string_equal(w->forgotten, "g t 2 86400000");
	assert_null(group_get_offset(w->c, wire_text("g"), "t", 2));
}

/* It may have had members until then, who read and had nothing to commit. */
static void
offsets_from_before_a_start_are_kept_for_as_long_again(void **state)
{
	int64_t day = 86400000, start = 10 * day;
	struct world *w = *state;
	struct mr_error err;

	group_put_offset(w->c, "g", "t", 0, 1, -1, day, "", &err);
	group_loaded(w->c, start);
	group_put_offset(w->c, "new", "t", 0, 1, -1, day, "", &err);
	group_expire_offsets(w->c, start + 999999);
	assert_int_equal(w->forgotten_count, 1);
	assert_string_equal(w->forgotten, "new t 0 86400000");
	group_expire_offsets(w->c, start + 1000000);
	assert_int_equal(w->forgotten_count, 2);
}

static void
a_group_that_has_nothing_left_can_be_deleted_for_ten_minutes(void **state)
{
	struct world *w = *state;
	struct mr_error err;
	int64_t day = 86400000;

	group_put_offset(w->c, "g", "t", 0, 1, -1, day, "", &err);
	group_drop_offset(w->c, "g", "t", 0);
	group_expire_offsets(w->c, day);
	group_expire_offsets(w->c, day + GROUP_SPENT_MS - 1);
	assert_string_equal(state_of(w), "Empty");
	/* An offset meanwhile, and it begins anew. */
	group_put_offset(w->c, "g", "t", 0, 1, -1, day, "", &err);
	group_expire_offsets(w->c, day + GROUP_SPENT_MS);
	group_drop_offset(w->c, "g", "t", 0);
	group_expire_offsets(w->c, day + 300 + GROUP_SPENT_MS);
	group_expire_offsets(w->c, day + 299 + 2 * GROUP_SPENT_MS);
	assert_string_equal(state_of(w), "Empty");
	assert_int_equal(group_may_delete(w->c, wire_text("g")), WIRE_NONE);
	group_expire_offsets(w->c, day + 300 + 2 * GROUP_SPENT_MS);
	assert_string_equal(state_of(w), "none");
	assert_int_equal(w->forgotten_count, 0);
}

static void
offsets_of_a_group_outlive_its_members_by_the_retention(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct mr_error err;

	two_members(w, one, two);
	group_put_offset(w->c, "g", "t", 0, 1, -1, 1000, "", &err);
	group_put_offset(w->c, "g", "u", 0, 1, -1, 1000, "", &err);
	/* Members read t, and nobody reads u. */
	group_expire_offsets(w->c, 5000000);
	assert_int_equal(w->forgotten_count, 1);
	assert_string_equal(w->forgotten, "g u 0 1000");
	leave(w, one, NULL);
	leave(w, two, NULL);
	group_expire_offsets(w->c, 6000000);
	group_expire_offsets(w->c, 6999999);
	assert_int_equal(w->forgotten_count, 1);
	group_expire_offsets(w->c, 7000000);
	assert_int_equal(w->forgotten_count, 2);
}

static void
only_what_nobody_reads_is_deleted(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct mr_error err;

	assert_int_equal(group_may_delete(w->c, wire_text("g")),
	    WIRE_GROUP_ID_NOT_FOUND);
	assert_int_equal(group_may_delete_offsets(w->c, wire_text("g"), "t"),
	    WIRE_GROUP_ID_NOT_FOUND);
	two_members(w, one, two);
	group_put_offset(w->c, "g", "u", 0, 1, -1, 1000, "", &err);
	assert_int_equal(group_may_delete(w->c, wire_text("g")),
	    WIRE_NON_EMPTY_GROUP);
	assert_int_equal(group_may_delete_offsets(w->c, wire_text("g"), "t"),
	    WIRE_GROUP_SUBSCRIBED_TO_TOPIC);
	assert_int_equal(group_may_delete_offsets(w->c, wire_text("g"), "u"),
	    WIRE_NONE);
	group_drop_offset(w->c, "g", "u", 0);
	assert_null(group_get_offset(w->c, wire_text("g"), "u", 0));
	leave(w, one, NULL);
	leave(w, two, NULL);
	assert_int_equal(group_may_delete(w->c, wire_text("g")), WIRE_NONE);
	group_drop(w->c, "g");
	assert_string_equal(state_of(w), "none");
}

/* What is committed may be refused yet, for its topic or its metadata. */
static void
a_commit_makes_no_group_until_it_is_accepted(void **state)
{
	struct world *w = *state;
	struct group_counts counts;

	assert_int_equal(may_commit(w, "", -1), WIRE_NONE);
	assert_int_equal(may_commit(w, "", 1), WIRE_ILLEGAL_GENERATION);
	group_count(w->c, &counts);
	assert_int_equal(counts.groups, 0);
	assert_int_equal(counts.bytes, 0);
	assert_int_equal(group_expect_offset(w->c, wire_text("g")), WIRE_NONE);
	assert_int_equal(group_expect_offset(w->c, wire_text("g")), WIRE_NONE);
	group_count(w->c, &counts);
	assert_int_equal(counts.groups, 1);
	assert_int_equal(may_commit(w, "", 1), WIRE_UNKNOWN_MEMBER_ID);
}

/* What was said to be committed must be found again, whatever the limit. */
static void
more_groups_than_may_be_are_refused_and_those_on_disk_kept(void **state)
{
	struct world *w = *state;
	struct mr_error err;
	char name[8];
	int i;

	for (i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		assert_int_equal(group_expect_offset(w->c, wire_text(name)),
		    WIRE_NONE);
	}
	assert_int_equal(group_expect_offset(w->c, wire_text("more")),
	    WIRE_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(group_expect_offset(w->c, wire_text("g3")), WIRE_NONE);
	assert_int_equal(group_put_offset(w->c, "on disk", "t", 0, 5, -1, 1, "",
			     &err),
	    0);
	assert_int_equal(group_get_offset(w->c, wire_text("on disk"), "t", 0)
			     ->offset,
	    5);
}

static void
what_groups_keep_is_bounded_and_given_back(void **state)
{
	struct world *w = *state;
	struct group_counts counts;
	struct mr_error err;
	char metadata[4001];
	int i, partitions = 0;

	memset(metadata, 'm', 4000);
	metadata[4000] = '\0';
	while (group_has_room(w->c, wire_text("g"), "t", partitions, 4000))
		assert_int_equal(group_put_offset(w->c, "g", "t", partitions++,
				     1, -1, 1, metadata, &err),
		    0);
	group_count(w->c, &counts);
	assert_in_range(counts.bytes, 90000, 100000);
	assert_in_range(partitions, 20, 25);
	/* Those that are there go on. */
	assert_true(group_has_room(w->c, wire_text("g"), "t", 3, 4000));
	assert_false(group_has_room(w->c, wire_text("g"), "t", 3, 14000));
	for (i = 0; i < 2; i++)
		group_put_offset(w->c, "g", "t", 3, 2, -1, 1, metadata, &err);
	group_drop_offset(w->c, "g", "t", 0);
	group_count(w->c, &counts);
	assert_in_range(counts.bytes, 86000, 96000);
	group_drop_topic(w->c, "t");
	group_drop(w->c, "g");
	group_count(w->c, &counts);
	assert_int_equal(counts.bytes, 0);
}

/* Ids that were given out and never came back count as well. */
static void
ids_given_out_are_bounded_too(void **state)
{
	struct world *w = *state;
	struct group_counts counts;
	int64_t before;
	int i;

	join_as(w, "", NULL, "r");
	group_count(w->c, &counts);
	before = counts.bytes;
	for (i = 0; i < 2; i++)
		join_as(w, "", NULL, "r");
	group_count(w->c, &counts);
	assert_true(counts.bytes >= before + 2 * 24);
	w->now_ms += SESSION_MS;
	group_tick(w->c, w->now_ms);
	group_expire_offsets(w->c, 1);
	group_expire_offsets(w->c, 1 + GROUP_SPENT_MS);
	group_count(w->c, &counts);
	assert_int_equal(counts.groups, 0);
	assert_int_equal(counts.bytes, 0);
}

static void
a_group_is_described_as_it_is(void **state)
{
	struct wire_describe_groups_response_group out;
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct wire_arena arena = {0};
	struct world *w = *state;
	struct group_counts counts;
	struct mr_error err;

	two_members(w, one, two);
	assert_int_equal(group_describe(group_find(w->c, wire_text("g")),
			     &arena, &out, &err),
	    0);
	assert_true(wire_string_is(out.group_state, "Stable"));
	assert_true(wire_string_is(out.protocol_type, "consumer"));
	assert_true(wire_string_is(out.protocol_data, "r"));
	assert_int_equal(out.members.count, 2);
	assert_true(wire_string_is(out.members.at[1].member_id, two));
	assert_true(
	    wire_string_is(out.members.at[1].client_host, "/127.0.0.1"));
	assert_int_equal(out.members.at[1].member_assignment.length, 2);
	assert_int_equal(out.members.at[1].member_metadata.length, 9);
	group_count(w->c, &counts);
	assert_int_equal(counts.groups, 1);
	assert_int_equal(counts.members, 2);
	wire_arena_clear(&arena);
}

static struct group_conf
delayed(struct world *w)
{
	struct group_conf conf = {.initial_delay_ms = 3000,
	    .session_least_ms = 1000,
	    .session_most_ms = 60000,
	    .groups_most = 10,
	    .members_most = 3,
	    .bytes_most = 100000,
	    .arg = w,
	    .make_id = make_id,
	    .joined = joined,
	    .synced = synced,
	    .forgotten = forgotten};

	return (conf);
}

static void
a_first_rebalance_waits_for_as_long_as_it_is_told(void **state)
{
	struct world *w = *state;
	struct group_conf conf = delayed(w);
	struct answer *a, *b;
	struct mr_error err;

	group_close(w->c);
	w->c = group_open(&conf, &err);
	assert_non_null(w->c);
	w->version = 3;
	a = join_as(w, "", NULL, "r");
	w->now_ms += 2500;
	group_tick(w->c, w->now_ms);
	b = join_as(w, "", NULL, "r");
	w->now_ms += 2500;
	group_tick(w->c, w->now_ms);
	assert_int_equal(a->joined, 0);
	sleep_until_deadline(w);
	assert_int_equal(a->joined, 1);
	assert_int_equal(b->joined, 1);
	assert_int_equal(a->generation, 1);
	assert_int_equal(b->generation, 1);
}

static void
a_first_rebalance_waits_no_longer_than_its_first_member_would(void **state)
{
	struct world *w = *state;
	struct group_conf conf = delayed(w);
	const struct answer *a;
	struct mr_error err;
	int64_t began;

	conf.members_most = 1000;
	group_close(w->c);
	w->c = group_open(&conf, &err);
	assert_non_null(w->c);
	w->version = 3;
	began = w->now_ms;
	a = join_as(w, "", NULL, "r");
	while (a->joined == 0 && w->now_ms < began + 2 * REBALANCE_MS) {
		w->now_ms += conf.initial_delay_ms * 9 / 10;
		group_tick(w->c, w->now_ms);
		if (a->joined == 0)
			(void)join_as(w, "", NULL, "r");
	}
	assert_in_range(w->now_ms - began, REBALANCE_MS,
	    REBALANCE_MS + conf.initial_delay_ms);
}

static void
a_first_member_waits_for_nobody_who_only_got_an_id(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct answer *a, *b;

	assert_int_equal(join_as(w, "", NULL, "r")->error,
	    WIRE_MEMBER_ID_REQUIRED);
	a = join(w, one);
	assert_int_equal(a->joined, 1);
	assert_int_equal(a->error, WIRE_NONE);
	assert_int_equal(sync_as(w, one, 1, 1)->error, WIRE_NONE);
	/* In a group that has members an id is waited for, as in Kafka. */
	b = join(w, two);
	a = join_as(w, one, NULL, "r");
	assert_int_equal(a->joined, 0);
	assert_int_equal(b->joined, 0);
	sleep_until_deadline(w);
	assert_int_equal(a->joined, 1);
	assert_int_equal(b->joined, 1);
}

/* Beats until ${w->now_ms} is ${until_ms}; the last answer. */
static int16_t
beat_until(struct world *w, const char *one, const char *two, int64_t until_ms)
{

	while (w->now_ms + 1000 < until_ms) {
		w->now_ms += 1000;
		group_tick(w->c, w->now_ms);
		assert_int_equal(beat(w, one, 2), WIRE_NONE);
		assert_int_equal(beat(w, two, 2), WIRE_NONE);
	}
	w->now_ms = until_ms;
	group_tick(w->c, w->now_ms);
	return (beat(w, one, 2));
}

static void
who_never_asks_for_its_assignment_is_dropped_though_it_beats(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;
	struct answer *a;
	int64_t joined_ms;

	a = join(w, one);
	assert_int_equal(sync_as(w, one, a->generation, 1)->error, WIRE_NONE);
	(void)join(w, two);
	(void)join_as(w, one, NULL, "r");
	joined_ms = w->now_ms;
	w->now_ms += 500;
	assert_int_equal(sync_as(w, one, 2, 1)->error, WIRE_NONE);
	assert_string_equal(state_of(w), "Stable");
	assert_int_equal(beat_until(w, one, two, joined_ms + REBALANCE_MS),
	    WIRE_REBALANCE_IN_PROGRESS);
	assert_int_equal(beat(w, two, 2), WIRE_UNKNOWN_MEMBER_ID);
}

static void
who_has_asked_for_its_assignment_stays(void **state)
{
	char one[TEXT_SIZE], two[TEXT_SIZE];
	struct world *w = *state;

	(void)two_members(w, one, two);
	assert_int_equal(beat_until(w, one, two,
			     w->now_ms + 3 * (int64_t)REBALANCE_MS),
	    WIRE_NONE);
	assert_int_equal(beat(w, two, 2), WIRE_NONE);
}

#define IN_A_WORLD(test) \
	cmocka_unit_test_setup_teardown(test, open_world, close_world)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    IN_A_WORLD(members_join_and_each_gets_what_the_leader_assigns),
	    IN_A_WORLD(ids_begin_with_what_members_call_themselves),
	    IN_A_WORLD(what_comes_of_another_generation_is_refused),
	    IN_A_WORLD(a_clean_leave_starts_a_rebalance_at_once),
	    IN_A_WORLD(a_silent_member_is_dropped_when_its_session_ends),
	    IN_A_WORLD(who_misses_a_rebalance_is_out),
	    IN_A_WORLD(a_leader_that_never_assigns_is_dropped),
	    IN_A_WORLD(an_id_that_was_given_out_waits_for_its_member),
	    IN_A_WORLD(a_static_member_comes_back_without_a_rebalance),
	    IN_A_WORLD(an_old_static_leader_that_is_back_leads),
	    IN_A_WORLD(who_goes_while_it_waits_may_come_back_if_it_can),
	    IN_A_WORLD(
		who_goes_while_others_are_assigned_gets_it_when_it_is_back),
	    IN_A_WORLD(the_protocol_is_one_that_all_have),
	    IN_A_WORLD(most_members_choose_the_protocol),
	    IN_A_WORLD(more_protocols_than_are_compared_are_refused),
	    IN_A_WORLD(joins_that_can_not_be_are_refused),
	    IN_A_WORLD(a_group_that_is_deleted_and_joined_has_no_offsets),
	    IN_A_WORLD(offsets_are_kept_and_expire),
	    IN_A_WORLD(offsets_from_before_a_start_are_kept_for_as_long_again),
	    IN_A_WORLD(
		a_group_that_has_nothing_left_can_be_deleted_for_ten_minutes),
	    IN_A_WORLD(offsets_of_a_group_outlive_its_members_by_the_retention),
	    IN_A_WORLD(only_what_nobody_reads_is_deleted),
	    IN_A_WORLD(a_commit_makes_no_group_until_it_is_accepted),
	    IN_A_WORLD(
		more_groups_than_may_be_are_refused_and_those_on_disk_kept),
	    IN_A_WORLD(what_groups_keep_is_bounded_and_given_back),
	    IN_A_WORLD(ids_given_out_are_bounded_too),
	    IN_A_WORLD(a_group_is_described_as_it_is),
	    IN_A_WORLD(a_first_rebalance_waits_for_as_long_as_it_is_told),
	    IN_A_WORLD(
		a_first_rebalance_waits_no_longer_than_its_first_member_would),
	    IN_A_WORLD(a_first_member_waits_for_nobody_who_only_got_an_id),
	    IN_A_WORLD(
		who_never_asks_for_its_assignment_is_dropped_though_it_beats),
	    IN_A_WORLD(who_has_asked_for_its_assignment_stays),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
