/*
 * broker: requests about groups, and their offsets, from bytes to bytes.
 * tests/unit/test_group.c has the groups' own rules.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/internal.h"
#include "broker/keeper.h"
#include "broker_fixture.h"

#define SESSION_MS 60000 /* longer than anything here is waited for */

static int
begin(void **state)
{

	(void)state;
	broker_begin(NULL);
	return (0);
}

static int
begin_with_little_memory(void **state)
{
	static const char *const flags[] = {"--memory-most", "1m",
	    "--request-most", "1m", "--message-most", "1m", NULL};

	(void)state;
	broker_begin(flags);
	return (0);
}

static int
end(void **state)
{

	(void)state;
	broker_end();
	return (0);
}

/* ---- offsets ------------------------------------------------------------ */

struct commit {
	const char *group, *topic;
	int32_t partition;
	int64_t offset;
	int metadata; /* bytes */
	int32_t generation;
	const char *member;
	int16_t error;
};

static const struct commit commits[] = {
    {"g", "t", 0, 5, 1, -1, "", WIRE_NONE},
    {"g", "t", 1, 6, 4096, -1, "", WIRE_NONE},
    {"g", "t", 0, 7, 4097, -1, "", WIRE_OFFSET_METADATA_TOO_LARGE},
    {"g", "t", 2, 7, 0, -1, "", WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"g", "none", 0, 7, 0, -1, "", WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"g", "t", 0, 7, 0, 1, "nobody", WIRE_UNKNOWN_MEMBER_ID},
    {"h", "t", 0, 0, 0, -1, "", WIRE_NONE},
    {"h", "t", 1, 3, 0, -1, "", WIRE_NONE},
    {"h", "t", 1, -5, 0, -1, "", WIRE_NONE}, /* takes it back */
};

static int16_t
commit(struct client *c, const struct commit *what)
{
	static char metadata[5000];
	struct wire_offset_commit_request in;
	struct wire_offset_commit_request_topic t;
	struct wire_offset_commit_request_partition p;
	struct wire_offset_commit_response out;

	memset(metadata, 'm', sizeof(metadata));
	wire_defaults(wire_offset_commit_request_layout(), &in);
	wire_defaults(wire_offset_commit_request_topic_layout(), &t);
	wire_defaults(wire_offset_commit_request_partition_layout(), &p);
	in.group_id = wire_text(what->group);
	in.member_id = wire_text(what->member);
	in.generation_id = what->generation;
	p.partition_index = what->partition;
	p.committed_offset = what->offset;
	p.committed_metadata.at = metadata;
	p.committed_metadata.length = what->metadata;
	t.name = wire_text(what->topic);
	t.partitions.at = &p;
	t.partitions.count = 1;
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(c, WIRE_API_OffsetCommit, 8, &in, &out);
	return (out.topics.at[0].partitions.at[0].error_code);
}

/* What group ${group} has of t's partition: -1 for nothing. */
static int64_t
committed(struct client *c, const char *group, int32_t partition)
{
	struct wire_offset_fetch_request in;
	struct wire_offset_fetch_request_topic t;
	struct wire_offset_fetch_response out;

	wire_defaults(wire_offset_fetch_request_layout(), &in);
	wire_defaults(wire_offset_fetch_request_topic_layout(), &t);
	in.group_id = wire_text(group);
	t.name = wire_text("t");
	t.partition_indexes.at = &partition;
	t.partition_indexes.count = 1;
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(c, WIRE_API_OffsetFetch, 5, &in, &out);
	assert_int_equal(out.error_code, WIRE_NONE);
	return (out.topics.at[0].partitions.at[0].committed_offset);
}

/* How many offsets the group has in all, by the other way to ask. */
static int
count_committed(struct client *c, const char *group)
{
	struct wire_offset_fetch_request in;
	struct wire_offset_fetch_request_group g;
	struct wire_offset_fetch_response out;
	int32_t i;
	int n = 0;

	wire_defaults(wire_offset_fetch_request_layout(), &in);
	wire_defaults(wire_offset_fetch_request_group_layout(), &g);
	g.group_id = wire_text(group);
	g.topics.count = -1;
	in.groups.at = &g;
	in.groups.count = 1;
	client_call(c, WIRE_API_OffsetFetch, 8, &in, &out);
	assert_int_equal(out.groups.count, 1);
	for (i = 0; i < out.groups.at[0].topics.count; i++)
		n += out.groups.at[0].topics.at[i].partitions.count;
	return (n);
}

static void
check_commits(struct client *c)
{

	assert_int_equal(committed(c, "g", 0), 5);
	assert_int_equal(committed(c, "g", 1), 6);
	assert_int_equal(committed(c, "g", 9), -1);
	assert_int_equal(committed(c, "h", 0), 0);
	assert_int_equal(committed(c, "h", 1), -1);
	assert_int_equal(count_committed(c, "h"), 1);
	assert_int_equal(committed(c, "none", 0), -1);
	assert_int_equal(count_committed(c, "g"), 2);
	assert_int_equal(count_committed(c, "none"), 0);
}

static struct client
begin_commits(void)
{
	struct client c = client_connect();
	size_t i;

	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	for (i = 0; i < sizeof(commits) / sizeof(commits[0]); i++)
		if (commit(&c, &commits[i]) != commits[i].error)
			fail_msg("case %zu", i);
	return (c);
}

static void
offsets_are_kept_or_refused(void **state)
{
	struct client c = begin_commits();

	(void)state;
	check_commits(&c);
	client_close(&c);
	broker_restart();
	c = client_connect();
	check_commits(&c);
	client_close(&c);
}

static void
offsets_go_with_their_topic(void **state)
{
	struct client c = begin_commits();

	(void)state;
	assert_int_equal(delete_topic(&c, "t"), WIRE_NONE);
	assert_int_equal(count_committed(&c, "g"), 0);
	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	assert_int_equal(committed(&c, "g", 0), -1);
	client_close(&c);
	broker_restart();
	c = client_connect();
	assert_int_equal(committed(&c, "g", 0), -1);
	client_close(&c);
}

static int16_t
delete_offset(struct client *c, const char *group, const char *topic,
    int32_t partition)
{
	struct wire_offset_delete_request in;
	struct wire_offset_delete_request_topic t;
	struct wire_offset_delete_request_partition p = {partition};
	struct wire_offset_delete_response out;

	wire_defaults(wire_offset_delete_request_layout(), &in);
	in.group_id = wire_text(group);
	t.name = wire_text(topic);
	t.partitions.at = &p;
	t.partitions.count = 1;
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(c, WIRE_API_OffsetDelete, 0, &in, &out);
	if (out.error_code != WIRE_NONE)
		return (out.error_code);
	return (out.topics.at[0].partitions.at[0].error_code);
}

static int16_t
delete_group(struct client *c, const char *group)
{
	struct wire_delete_groups_request in;
	struct wire_delete_groups_response out;
	struct wire_string name = wire_text(group);

	wire_defaults(wire_delete_groups_request_layout(), &in);
	in.groups.at = &name;
	in.groups.count = 1;
	client_call(c, WIRE_API_DeleteGroups, 2, &in, &out);
	assert_int_equal(out.results.count, 1);
	return (out.results.at[0].error_code);
}

static const struct commit refused[] = {
    {"none", "none", 0, 7, 0, -1, "", WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"none", "t", 2, 7, 0, -1, "", WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"none", "t", 0, 7, 4097, -1, "", WIRE_OFFSET_METADATA_TOO_LARGE},
    {"none", "t", 0, 7, 0, 1, "", WIRE_ILLEGAL_GENERATION},
    {"none", "none", 0, 7, 0, 1, "", WIRE_UNKNOWN_TOPIC_OR_PARTITION},
};

/* Else whoever mistakes a topic's name would take the places of others' groups. */
static void
a_commit_that_is_refused_makes_no_group(void **state)
{
	struct client c = begin_commits();
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (commit(&c, &refused[i]) != refused[i].error)
			fail_msg("case %zu", i);
		if (delete_group(&c, "none") != WIRE_GROUP_ID_NOT_FOUND)
			fail_msg("case %zu made a group", i);
	}
	client_close(&c);
}

static void
offsets_and_groups_are_deleted_for_good(void **state)
{
	struct client c = begin_commits();

	(void)state;
	assert_int_equal(delete_offset(&c, "none", "t", 0),
	    WIRE_GROUP_ID_NOT_FOUND);
	assert_int_equal(delete_offset(&c, "", "t", 0), WIRE_INVALID_GROUP_ID);
	assert_int_equal(delete_offset(&c, "g", "none", 0),
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(delete_offset(&c, "g", "t", 2),
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(delete_offset(&c, "g", "t", 0), WIRE_NONE);
	assert_int_equal(delete_group(&c, "none"), WIRE_GROUP_ID_NOT_FOUND);
	assert_int_equal(delete_group(&c, "h"), WIRE_NONE);
	client_close(&c);
	broker_restart();
	c = client_connect();
	assert_int_equal(committed(&c, "g", 0), -1);
	assert_int_equal(committed(&c, "g", 1), 6);
	assert_int_equal(count_committed(&c, "h"), 0);
	assert_int_equal(delete_group(&c, "h"), WIRE_GROUP_ID_NOT_FOUND);
	client_close(&c);
}

static void
offsets_expire_for_good(void **state)
{
	struct client c = begin_commits();
	int64_t until = clock_mono_us() + (int64_t)PATIENCE_S * 1000000;
	int64_t kept_ms = served.conf.offsets_retention_ms;

	(void)state;
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	served.conf.offsets_retention_ms = 0;
	broker_up();
	c = client_connect();
	while (count_committed(&c, "g") + count_committed(&c, "h") > 0 &&
	    clock_mono_us() < until)
		(void)poll(NULL, 0, 1);
	assert_int_equal(committed(&c, "g", 0), -1);
	assert_int_equal(count_committed(&c, "h"), 0);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	served.conf.offsets_retention_ms = kept_ms;
	broker_up();
	c = client_connect();
	assert_int_equal(count_committed(&c, "g"), 0);
	assert_int_equal(count_committed(&c, "h"), 0);
	client_close(&c);
}

/* Forget what was committed to t-0 by then, as expiry does. */
static void
forget_until(int64_t committed_ms)
{
	struct keeper_offset o = {.group = "g",
	    .offset = -1,
	    .committed_ms = committed_ms};
	struct mr_error err = {MR_OK, ""};
	struct broker *b;

	assert_int_equal(broker_down(), 0);
	assert_non_null(b = broker_open(&served.conf, &err));
	o.topic_id = catalog_find(b, wire_text("t"))->id_text;
	assert_int_equal(keeper_put_offsets(b, &o, 1, &err), 0);
	broker_close(b);
	broker_up();
}

static void
expiry_leaves_what_was_committed_meanwhile(void **state)
{
	struct client c = begin_commits();

	(void)state;
	client_close(&c);
	forget_until(clock_wall_ms() - 60000);
	c = client_connect();
	assert_int_equal(committed(&c, "g", 0), 5);
	client_close(&c);
	forget_until(clock_wall_ms());
	c = client_connect();
	assert_int_equal(committed(&c, "g", 0), -1);
	assert_int_equal(committed(&c, "g", 1), 6);
	client_close(&c);
}

/* ---- members ------------------------------------------------------------ */

static void
join_send(struct client *c, const char *member)
{
	struct wire_join_group_request in;
	struct wire_join_group_request_protocol p;

	wire_defaults(wire_join_group_request_layout(), &in);
	in.group_id = wire_text("g");
	in.session_timeout_ms = SESSION_MS;
	in.rebalance_timeout_ms = SESSION_MS;
	in.member_id = wire_text(member);
	in.protocol_type = wire_text("consumer");
	p.name = wire_text("range");
	p.metadata.at = (const uint8_t *)"m";
	p.metadata.length = 1;
	in.protocols.at = &p;
	in.protocols.count = 1;
	client_send(c, WIRE_API_JoinGroup, 3, &in);
}

/* Version 3 gives an id without a second asking. */
static int32_t
join_receive(struct client *c, char *member, size_t size)
{
	struct wire_join_group_response out;

	assert_int_equal(client_receive(c, WIRE_API_JoinGroup, 3, &out), 1);
	assert_int_equal(out.error_code, WIRE_NONE);
	keep_text(member, size, out.member_id);
	return (out.generation_id);
}

static int16_t
beat(struct client *c, const char *member, int32_t generation)
{
	struct wire_heartbeat_request in;
	struct wire_heartbeat_response out;

	wire_defaults(wire_heartbeat_request_layout(), &in);
	in.group_id = wire_text("g");
	in.member_id = wire_text(member);
	in.generation_id = generation;
	client_call(c, WIRE_API_Heartbeat, 3, &in, &out);
	return (out.error_code);
}

static void
sync_send(struct client *c, const char *member, int32_t generation)
{
	struct wire_sync_group_request in;
	struct wire_sync_group_request_assignment a;

	wire_defaults(wire_sync_group_request_layout(), &in);
	in.group_id = wire_text("g");
	in.member_id = wire_text(member);
	in.generation_id = generation;
	a.member_id = wire_text(member);
	a.assignment.at = (const uint8_t *)"mine";
	a.assignment.length = 4;
	in.assignments.at = &a;
	in.assignments.count = 1;
	client_send(c, WIRE_API_SyncGroup, 3, &in);
}

static void
check_state(struct client *c, const char *expected)
{
	struct wire_describe_groups_request in;
	struct wire_describe_groups_response out;
	struct wire_list_groups_request list;
	struct wire_list_groups_response listed;
	struct wire_string name = wire_text("g"), state = wire_text(expected);

	wire_defaults(wire_describe_groups_request_layout(), &in);
	in.groups.at = &name;
	in.groups.count = 1;
	client_call(c, WIRE_API_DescribeGroups, 4, &in, &out);
	assert_true(wire_string_is(out.groups.at[0].group_state, expected));
	wire_defaults(wire_list_groups_request_layout(), &list);
	list.states_filter.at = &state;
	list.states_filter.count = 1;
	client_call(c, WIRE_API_ListGroups, 4, &list, &listed);
	assert_int_equal(listed.groups.count, strcmp(expected, "Dead") != 0);
	state = wire_text("PreparingRebalance");
	client_call(c, WIRE_API_ListGroups, 4, &list, &listed);
	assert_int_equal(listed.groups.count,
	    strcmp(expected, "PreparingRebalance") == 0);
}

static void
a_group_lives_while_its_members_do(void **state)
{
	struct wire_sync_group_response synced;
	struct client one = client_connect(), two = client_connect(),
		      other = client_connect();
	char first[80], again[80];
	int32_t generation;

	(void)state;
	check_state(&other, "Dead");
	join_send(&one, "");
	generation = join_receive(&one, first, sizeof(first));
	sync_send(&one, first, generation);
	assert_int_equal(client_receive(&one, WIRE_API_SyncGroup, 3, &synced),
	    1);
	assert_int_equal(synced.assignment.length, 4);
	check_state(&other, "Stable");
	assert_int_equal(beat(&one, first, generation), WIRE_NONE);
	assert_int_equal(beat(&one, first, generation + 1),
	    WIRE_ILLEGAL_GENERATION);
	assert_int_equal(beat(&one, "nobody", generation),
	    WIRE_UNKNOWN_MEMBER_ID);
	assert_int_equal(delete_group(&other, "g"), WIRE_NON_EMPTY_GROUP);
	/* Who waits for a rebalance, and goes, isn't answered to. */
	join_send(&two, "");
	assert_false(is_answered_within(&two, 50));
	check_state(&other, "PreparingRebalance");
	assert_int_equal(beat(&one, first, generation),
	    WIRE_REBALANCE_IN_PROGRESS);
	client_close(&two);
	join_send(&one, first);
	assert_true(join_receive(&one, again, sizeof(again)) > generation);
	assert_string_equal(first, again);
	client_close(&one);
	client_close(&other);
	/* Members don't outlive the process: they are told, and join again. */
	broker_restart();
	one = client_connect();
	assert_int_equal(beat(&one, first, generation), WIRE_UNKNOWN_MEMBER_ID);
	client_close(&one);
}

static void
leave(struct client *c, const char *id)
{
	struct wire_leave_group_request in;
	struct wire_leave_group_response out;

	wire_defaults(wire_leave_group_request_layout(), &in);
	in.group_id = wire_text("g");
	in.member_id = wire_text(id);
	client_call(c, WIRE_API_LeaveGroup, 1, &in, &out);
	assert_int_equal(out.error_code, WIRE_NONE);
}

/* The member's place in the next generation, which it alone assigns. */
static int32_t
join_alone(struct client *c, char *member, size_t size)
{
	struct wire_sync_group_response synced;
	char known[80];
	int32_t generation;

	snprintf(known, sizeof(known), "%s", member);
	join_send(c, known);
	generation = join_receive(c, member, size);
	sync_send(c, member, generation);
	assert_int_equal(client_receive(c, WIRE_API_SyncGroup, 3, &synced), 1);
	assert_int_equal(synced.assignment.length, 4);
	return (generation);
}

/* Beat until the member hears that others have come. */
static void
wait_rebalance(struct client *c, const char *member, int32_t generation)
{
	int64_t until = clock_mono_us() + (int64_t)PATIENCE_S * 1000000;
	int16_t error;

	while ((error = beat(c, member, generation)) == WIRE_NONE &&
	    clock_mono_us() < until)
		;
	assert_int_equal(error, WIRE_REBALANCE_IN_PROGRESS);
}

/* No time-out is part of it: the session's would be a minute, and what is waited
 * for is the other member's next heartbeat, which comes at once here. */
static void
a_clean_leave_is_followed_by_a_rebalance_at_once(void **state)
{
	struct client one = client_connect(), two = client_connect();
	char first[80] = "", second[80] = "";
	int32_t generation;
	int64_t began_us;

	(void)state;
	generation = join_alone(&one, first, sizeof(first));
	join_send(&two, "");
	wait_rebalance(&one, first, generation);
	join_send(&one, first);
	generation = join_receive(&one, first, sizeof(first));
	assert_int_equal(join_receive(&two, second, sizeof(second)),
	    generation);
	began_us = clock_mono_us();
	leave(&two, second);
	assert_int_equal(beat(&one, first, generation),
	    WIRE_REBALANCE_IN_PROGRESS);
	assert_true(join_alone(&one, first, sizeof(first)) > generation);
	assert_in_range(clock_mono_us() - began_us, 0,
	    INT64_C(1000000) * PATIENCE_S);
	client_close(&two);
	client_close(&one);
}

/* A group of two, in which all that is left to do is the leader's to say. */
static int32_t
join_both(struct client *leader, char first[80], struct client *other,
    char second[80])
{
	int32_t generation;

	first[0] = '\0';
	generation = join_alone(leader, first, 80);
	join_send(other, "");
	wait_rebalance(leader, first, generation);
	join_send(leader, first);
	generation = join_receive(leader, first, 80);
	assert_int_equal(join_receive(other, second, 80), generation);
	return (generation);
}

/*
 * The leader's fetch is answered after it went away, which its host tells, and
 * then its assignments come, whose answer can't be written: behind the one of
 * the other member, who is to have it all the same.
 */
static void
a_leader_that_is_gone_takes_nobody_with_it(void **state)
{
	struct client leader = client_connect(), other = client_connect();
	struct wire_sync_group_response synced;
	struct fetch_ask ask;
	char first[80], second[80];
	int32_t generation;

	(void)state;
	assert_int_equal(make_topic(&other, "t", 1, NULL), WIRE_NONE);
	generation = join_both(&leader, first, &other, second);
	sync_send(&other, second, generation);
	assert_false(is_answered_within(&other, 50));
	client_send(&leader, WIRE_API_Fetch, 11, fetch_ask(&ask, "t", 0, 1000));
	sync_send(&leader, first, generation);
	client_close(&leader);
	assert_true(is_answered_within(&other, 5000));
	assert_int_equal(client_receive(&other, WIRE_API_SyncGroup, 3, &synced),
	    1);
	client_close(&other);
}

/* Each of a list is looked for among the members. */
static void
lists_longer_than_a_group_can_be_are_refused(void **state)
{
	enum { MANY = 1001 };
	static struct wire_sync_group_request_assignment assigned[MANY];
	static struct wire_leave_group_request_member gone[MANY];
	struct client c = client_connect();
	struct wire_sync_group_request sync;
	struct wire_sync_group_response synced;
	struct wire_leave_group_request in;
	struct wire_leave_group_response out;
	char member[80] = "";
	int i;

	(void)state;
	for (i = 0; i < MANY; i++)
		gone[i].member_id = gone[i].group_instance_id = wire_text("x");
	join_send(&c, "");
	wire_defaults(wire_sync_group_request_layout(), &sync);
	sync.group_id = wire_text("g");
	sync.generation_id = join_receive(&c, member, sizeof(member));
	sync.member_id = wire_text(member);
	sync.assignments.at = assigned;
	for (i = 0; i < 2; i++) {
		sync.assignments.count = MANY - i;
		client_call(&c, WIRE_API_SyncGroup, 3, &sync, &synced);
		assert_int_equal(synced.error_code,
		    i == 0 ? WIRE_INVALID_REQUEST : WIRE_NONE);
	}
	wire_defaults(wire_leave_group_request_layout(), &in);
	in.group_id = wire_text("g");
	in.members.at = gone;
	for (i = 0; i < 2; i++) {
		in.members.count = MANY - i;
		client_call(&c, WIRE_API_LeaveGroup, 3, &in, &out);
		assert_int_equal(out.error_code,
		    i == 0 ? WIRE_INVALID_REQUEST : WIRE_NONE);
		assert_int_equal(out.members.count, i == 0 ? 0 : MANY - i);
	}
	client_close(&c);
}

static void
coordinators_are_of_groups_alone(void **state)
{
	static const struct {
		int8_t type;
		int16_t old_error, error; /* by version 2 and 4 */
		int32_t node;
	} cases[] = {
	    {0, WIRE_NONE, WIRE_NONE, 1},
	    /* of transactions */
	    {1, WIRE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
		WIRE_UNSUPPORTED_VERSION, -1},
	    {2, WIRE_INVALID_REQUEST, WIRE_INVALID_REQUEST, -1},
	};
	struct wire_find_coordinator_request in;
	struct wire_find_coordinator_response out;
	struct wire_string keys[2] = {wire_text("g"), wire_text("h")};
	struct client c = client_connect();
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_defaults(wire_find_coordinator_request_layout(), &in);
		in.key = keys[0];
		in.key_type = cases[i].type;
		in.coordinator_keys.at = keys;
		in.coordinator_keys.count = 2;
		client_call(&c, WIRE_API_FindCoordinator, 2, &in, &out);
		assert_int_equal(out.error_code, cases[i].old_error);
		assert_int_equal(out.node_id, cases[i].node);
		client_call(&c, WIRE_API_FindCoordinator, 4, &in, &out);
		assert_int_equal(out.coordinators.count, 2);
		assert_int_equal(out.coordinators.at[1].error_code,
		    cases[i].error);
		assert_int_equal(out.coordinators.at[1].node_id, cases[i].node);
		assert_true(wire_string_is(out.coordinators.at[1].key, "h"));
	}
	client_close(&c);
}

/* To whom the request isn't answered, it waits for ever without a word. */
static void
who_wants_the_newer_kind_of_group_is_told_at_once(void **state)
{
	static struct wire_string topics[] = {{"t", 1}};
	struct wire_consumer_group_heartbeat_request in;
	struct wire_consumer_group_heartbeat_response out;
	struct client c = client_connect();
	int version;

	(void)state;
	wire_defaults(wire_consumer_group_heartbeat_request_layout(), &in);
	in.group_id = wire_text("g");
	in.member_id = wire_text("m");
	in.subscribed_topic_names.at = topics;
	in.subscribed_topic_names.count = 1;
	for (version = 0; version <= 1; version++) {
		client_call(&c, WIRE_API_ConsumerGroupHeartbeat, version, &in,
		    &out);
		assert_int_equal(out.error_code, WIRE_UNSUPPORTED_VERSION);
		assert_int_equal(out.assignment, -1);
	}
	client_close(&c);
}

/* Thousands of times the same, each with its 4 KiB. */
static void
an_answer_larger_than_there_is_memory_for_is_not_given(void **state)
{
	static const struct commit large = {"g", "t", 0, 5, 4096, -1, "",
	    WIRE_NONE};
	enum { MANY = 5000 };
	struct client c = client_connect(), other = client_connect();
	struct wire_offset_fetch_request in;
	struct wire_offset_fetch_request_topic t;
	struct wire_offset_fetch_response out;
	static int32_t partitions[MANY];

	(void)state;
	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	assert_int_equal(commit(&c, &large), WIRE_NONE);
	wire_defaults(wire_offset_fetch_request_layout(), &in);
	wire_defaults(wire_offset_fetch_request_topic_layout(), &t);
	in.group_id = wire_text("g");
	t.name = wire_text("t");
	t.partition_indexes.at = partitions;
	t.partition_indexes.count = MANY;
	in.topics.at = &t;
	in.topics.count = 1;
	client_send(&c, WIRE_API_OffsetFetch, 5, &in);
	assert_true(is_hung_up(&c));
	client_close(&c);
	t.partition_indexes.count = 100;
	client_call(&other, WIRE_API_OffsetFetch, 5, &in, &out);
	assert_int_equal(out.topics.at[0].partitions.count, 100);
	client_close(&other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(offsets_are_kept_or_refused, begin,
		end),
	    cmocka_unit_test_setup_teardown(offsets_go_with_their_topic, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		expiry_leaves_what_was_committed_meanwhile, begin, end),
	    cmocka_unit_test_setup_teardown(offsets_expire_for_good, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		a_commit_that_is_refused_makes_no_group, begin, end),
	    cmocka_unit_test_setup_teardown(
		offsets_and_groups_are_deleted_for_good, begin, end),
	    cmocka_unit_test_setup_teardown(a_group_lives_while_its_members_do,
		begin, end),
	    cmocka_unit_test_setup_teardown(
		a_clean_leave_is_followed_by_a_rebalance_at_once, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_leader_that_is_gone_takes_nobody_with_it, begin, end),
	    cmocka_unit_test_setup_teardown(
		lists_longer_than_a_group_can_be_are_refused, begin, end),
	    cmocka_unit_test_setup_teardown(coordinators_are_of_groups_alone,
		begin, end),
	    cmocka_unit_test_setup_teardown(
		who_wants_the_newer_kind_of_group_is_told_at_once, begin, end),
	    cmocka_unit_test_setup_teardown(
		an_answer_larger_than_there_is_memory_for_is_not_given,
		begin_with_little_memory, end),
	};

	return (
	    cmocka_run_group_tests_name("broker_groups", tests, NULL, NULL));
}
