/*
 * broker: topics made, grown, deleted and described, from bytes to bytes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "broker_fixture.h"

#define MANY_X "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define NAME_OF_249                                                    \
	MANY_X MANY_X MANY_X MANY_X "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
				    "xxxxxxxxxxxxxxxxx"

static const char *const few[] = {"--partitions-most", "6", "--partitions", "2",
    "--auto-create-topics", NULL};

static int
begin(void **state)
{

	(void)state;
	broker_begin(few);
	return (0);
}

static int
end(void **state)
{

	(void)state;
	broker_end();
	return (0);
}

static int
count_folders(void)
{
	char path[200];
	struct dirent *entry;
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/topics", served.data);
	if ((dir = opendir(path)) == NULL)
		return (-1);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return (n);
}

/* Folders of deleted topics go some time after the answer. */
static void
wait_for_folders(int wanted)
{
	int64_t until = clock_mono_us() + (int64_t)PATIENCE_S * 1000000;

	while (count_folders() != wanted && clock_mono_us() < until)
		(void)poll(NULL, 0, 1);
	assert_int_equal(count_folders(), wanted);
}

/* ---- CreateTopics ------------------------------------------------------- */

struct create_ask {
	struct wire_create_topics_request in;
	struct wire_create_topics_request_topic topics[3];
	struct wire_create_topics_request_config config;
	struct wire_create_topics_request_assignment assignments[2];
	int32_t ids[2];
};

static struct create_ask *
create_ask(struct create_ask *ask, const char *name, int32_t partitions,
    int16_t replicas)
{
	int i;

	wire_defaults(wire_create_topics_request_layout(), &ask->in);
	for (i = 0; i < 3; i++) {
		wire_defaults(wire_create_topics_request_topic_layout(),
		    &ask->topics[i]);
		ask->topics[i].name = wire_text(name);
		ask->topics[i].num_partitions = partitions;
		ask->topics[i].replication_factor = replicas;
	}
	ask->in.topics.at = ask->topics;
	ask->in.topics.count = 1;
	return (ask);
}

static struct wire_create_topics_response_topic
create(struct client *c, const struct create_ask *ask)
{
	struct wire_create_topics_response out;

	client_call(c, WIRE_API_CreateTopics, 7, &ask->in, &out);
	assert_int_equal(out.topics.count, ask->in.topics.count);
	return (out.topics.at[0]);
}

static const struct made {
	const char *name;
	int32_t partitions;
	int16_t replicas;
	const char *setting, *value;
	int16_t error;
} table[] = {
    {"a", 1, 1, NULL, NULL, WIRE_NONE},
    {"a", 1, 1, NULL, NULL, WIRE_TOPIC_ALREADY_EXISTS},
    {"b", 0, 1, NULL, NULL, WIRE_INVALID_PARTITIONS},
    {"b", -2, 1, NULL, NULL, WIRE_INVALID_PARTITIONS},
    {"b", 6, 1, NULL, NULL, WIRE_INVALID_PARTITIONS}, /* 7 in all */
    {"b", 1, 2, NULL, NULL, WIRE_INVALID_REPLICATION_FACTOR},
    {"b", 1, 0, NULL, NULL, WIRE_INVALID_REPLICATION_FACTOR},
    {"", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {".", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"..", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"a/b", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"../b", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"a b", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {NAME_OF_249 "x", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"b", 1, 1, "no.such.setting", "1", WIRE_INVALID_CONFIG},
    {"__consumer_offsets", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"__transaction_state", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"__share_group_state", 1, 1, NULL, NULL, WIRE_INVALID_TOPIC},
    {"b", 1, 1, "retention.ms", NULL, WIRE_INVALID_CONFIG},
    {"b", 1, 1, "retention.ms", "soon", WIRE_INVALID_CONFIG},
    {"b", 1, 1, "retention.ms", "-2", WIRE_INVALID_CONFIG},
    {"b", 1, 1, "cleanup.policy", "shred", WIRE_INVALID_CONFIG},
    {NAME_OF_249, 1, 1, "cleanup.policy", "compact,delete", WIRE_NONE},
    {"b", -1, -1, NULL, NULL, WIRE_NONE}, /* 2, as --partitions says */
};

static void
topics_are_made_or_refused(void **state)
{
	struct wire_create_topics_response_topic t;
	struct client c = client_connect();
	struct create_ask ask;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		(void)create_ask(&ask, table[i].name, table[i].partitions,
		    table[i].replicas);
		ask.config.name = wire_text(table[i].setting);
		ask.config.value = wire_text(table[i].value);
		ask.topics[0].configs.at = &ask.config;
		ask.topics[0].configs.count = table[i].setting != NULL;
		t = create(&c, &ask);
		if (t.error_code != table[i].error)
			fail_msg("case %zu: %d", i, t.error_code);
		assert_true(
		    t.error_code == WIRE_NONE || t.error_message.length > 0);
	}
	assert_int_equal(t.num_partitions, 2);
	assert_int_equal(t.replication_factor, 1);
	client_close(&c);
	/* The same after a start, and nothing of what was refused. */
	broker_restart();
	c = client_connect();
	assert_int_equal(count_folders(), 3);
	assert_int_equal(make_topic(&c, NAME_OF_249, 1, NULL),
	    WIRE_TOPIC_ALREADY_EXISTS);
	client_close(&c);
}

/* Also those that were loaded at start; a deleted topic's is free. */
static void
names_that_are_alike_collide(void **state)
{
	struct client c = client_connect();

	(void)state;
	assert_int_equal(make_topic(&c, "a.b", 1, NULL), WIRE_NONE);
	assert_int_equal(make_topic(&c, "a_b", 1, NULL), WIRE_INVALID_TOPIC);
	client_close(&c);
	broker_restart();
	c = client_connect();
	assert_int_equal(make_topic(&c, "a_b", 1, NULL), WIRE_INVALID_TOPIC);
	assert_int_equal(make_topic(&c, "a.b", 1, NULL),
	    WIRE_TOPIC_ALREADY_EXISTS);
	assert_int_equal(delete_topic(&c, "a.b"), WIRE_NONE);
	assert_int_equal(make_topic(&c, "a_b", 1, NULL), WIRE_NONE);
	assert_int_equal(make_topic(&c, "a.b", 1, NULL), WIRE_INVALID_TOPIC);
	client_close(&c);
}

static void
topics_of_one_request_count_together(void **state)
{
	static const int16_t expected[] = {WIRE_NONE, WIRE_INVALID_PARTITIONS,
	    WIRE_NONE};
	static const char *const names[] = {"a", "b", "c"};
	struct wire_create_topics_response out;
	struct client c = client_connect();
	struct create_ask ask;
	int i, tried;

	(void)state;
	/* What is only tried takes no room. */
	for (tried = 1; tried >= 0; tried--) {
		(void)create_ask(&ask, "a", 3, 1);
		for (i = 0; i < 3; i++)
			ask.topics[i].name = wire_text(names[i]);
		ask.topics[1].num_partitions = 4;
		ask.in.topics.count = 3;
		ask.in.validate_only = (uint8_t)tried;
		client_call(&c, WIRE_API_CreateTopics, 5, &ask.in, &out);
		for (i = 0; i < 3; i++)
			assert_int_equal(out.topics.at[i].error_code,
			    expected[i]);
	}
	assert_int_equal(count_folders(), 2);
	/* One that is deleted makes room. */
	assert_int_equal(make_topic(&c, "d", 1, NULL), WIRE_INVALID_PARTITIONS);
	assert_int_equal(delete_topic(&c, "a"), WIRE_NONE);
	assert_int_equal(make_topic(&c, "d", 3, NULL), WIRE_NONE);
	client_close(&c);
}

static void
names_said_twice_are_refused(void **state)
{
	struct wire_create_topics_response out;
	struct client c = client_connect();
	struct create_ask ask;

	(void)state;
	(void)create_ask(&ask, "a", 1, 1);
	ask.in.topics.count = 2;
	client_call(&c, WIRE_API_CreateTopics, 5, &ask.in, &out);
	assert_int_equal(out.topics.at[0].error_code, WIRE_INVALID_REQUEST);
	assert_int_equal(out.topics.at[1].error_code, WIRE_INVALID_REQUEST);
	assert_int_equal(count_folders(), 0);
	client_close(&c);
}

static void
assignments_are_to_the_one_broker(void **state)
{
	static const struct {
		int32_t index, broker;
		int32_t partitions;
		int16_t error;
	} cases[] = {
	    {1, 7, -1, WIRE_INVALID_REPLICA_ASSIGNMENT},
	    {2, 1, -1, WIRE_INVALID_REPLICA_ASSIGNMENT},
	    {-1, 1, -1, WIRE_INVALID_REPLICA_ASSIGNMENT},
	    {0, 1, -1, WIRE_INVALID_REPLICA_ASSIGNMENT}, /* 0 twice */
	    {1, 1, 2, WIRE_INVALID_REQUEST},
	    {1, 1, -1, WIRE_NONE},
	};
	struct wire_create_topics_response_topic t;
	struct client c = client_connect();
	struct create_ask ask;
	size_t i;
	int k;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)create_ask(&ask, "a", cases[i].partitions, -1);
		for (k = 0; k < 2; k++) {
			ask.assignments[k].partition_index = k == 0 ?
			    0 :
			    cases[i].index;
			ask.ids[k] = k == 0 ? 1 : cases[i].broker;
			ask.assignments[k].broker_ids.at = &ask.ids[k];
			ask.assignments[k].broker_ids.count = 1;
		}
		ask.topics[0].assignments.at = ask.assignments;
		ask.topics[0].assignments.count = 2;
		t = create(&c, &ask);
		if (t.error_code != cases[i].error)
			fail_msg("case %zu: %d", i, t.error_code);
	}
	assert_int_equal(t.num_partitions, 2);
	client_close(&c);
}

/* ---- CreatePartitions --------------------------------------------------- */

static int16_t
grow(struct client *c, const char *name, int32_t count, int validate_only)
{
	struct wire_create_partitions_request in;
	struct wire_create_partitions_request_topic t;
	struct wire_create_partitions_response out;

	wire_defaults(wire_create_partitions_request_layout(), &in);
	t.name = wire_text(name);
	t.count = count;
	t.assignments.count = -1;
	in.topics.at = &t;
	in.topics.count = 1;
	in.validate_only = (uint8_t)validate_only;
	client_call(c, WIRE_API_CreatePartitions, 2, &in, &out);
	return (out.results.at[0].error_code);
}

static void
partitions_are_added_and_keep_what_is_there(void **state)
{
	struct client c = client_connect();

	(void)state;
	assert_int_equal(make_topic(&c, "a", 2, NULL), WIRE_NONE);
	assert_int_equal(produce_one(&c, "a", "k", 10, clock_wall_ms()), 0);
	assert_int_equal(grow(&c, "a", 2, 0), WIRE_INVALID_PARTITIONS);
	assert_int_equal(grow(&c, "a", 1, 0), WIRE_INVALID_PARTITIONS);
	assert_int_equal(grow(&c, "a", 7, 0), WIRE_INVALID_PARTITIONS);
	assert_int_equal(grow(&c, "none", 3, 0),
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(grow(&c, "a", 4, 1), WIRE_NONE); /* only tried */
	assert_int_equal(list_offset_at(&c, 7, "a", 3, LATEST, -1).error_code,
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(grow(&c, "a", 4, 0), WIRE_NONE);
	client_close(&c);
	broker_restart();
	c = client_connect();
	assert_int_equal(list_offset_at(&c, 7, "a", 3, LATEST, -1).error_code,
	    WIRE_NONE);
	assert_int_equal(list_offset(&c, "a", LATEST), 1);
	client_close(&c);
}

/* ---- DeleteTopics ------------------------------------------------------- */

static void
deleted_topics_are_gone_and_their_names_free(void **state)
{
	struct wire_delete_topics_request in;
	struct wire_delete_topics_request_topic t;
	struct wire_delete_topics_response out;
	struct client c = client_connect();
	struct wire_uuid id, again;

	(void)state;
	assert_int_equal(delete_topic(&c, "a"),
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(make_topic(&c, "a", 1, NULL), WIRE_NONE);
	assert_int_equal(produce_one(&c, "a", "k", 10, clock_wall_ms()), 0);
	id = topic_id(&c, "a");
	assert_int_equal(delete_topic(&c, "a"), WIRE_NONE);
	/* By its id; and not the new one of its name. */
	assert_int_equal(make_topic(&c, "a", 1, NULL), WIRE_NONE);
	again = topic_id(&c, "a");
	assert_memory_not_equal(&id, &again, sizeof(id));
	assert_int_equal(list_offset(&c, "a", LATEST), 0);
	wire_defaults(wire_delete_topics_request_layout(), &in);
	t.name = wire_text(NULL);
	t.topic_id = id;
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(&c, WIRE_API_DeleteTopics, 6, &in, &out);
	assert_int_equal(out.topics.at[0].error_code, WIRE_UNKNOWN_TOPIC_ID);
	t.topic_id = again;
	client_call(&c, WIRE_API_DeleteTopics, 6, &in, &out);
	assert_int_equal(out.topics.at[0].error_code, WIRE_NONE);
	assert_true(wire_string_is(out.topics.at[0].name, "a"));
	wait_for_folders(0);
	client_close(&c);
	broker_restart();
	assert_int_equal(count_folders(), 0);
}

/* ---- Metadata ----------------------------------------------------------- */

static void
ids_are_asked_by_from_version_12_on(void **state)
{
	static const struct {
		int version;
		const char *name;
		int by_id;
		int16_t error;
	} cases[] = {
	    {9, "a", 0, WIRE_NONE},
	    {10, "a", 0, WIRE_NONE},
	    {10, NULL, 1, WIRE_INVALID_REQUEST},
	    {11, "a", 1, WIRE_INVALID_REQUEST},
	    {11, NULL, 0, WIRE_INVALID_REQUEST},
	    {12, NULL, 1, WIRE_NONE},
	    {13, "a", 1, WIRE_NONE},
	};
	struct client c = client_connect();
	struct wire_metadata_request in;
	struct wire_metadata_request_topic t;
	struct wire_metadata_response out;
	struct wire_uuid id;
	size_t i;

	(void)state;
	assert_int_equal(make_topic(&c, "a", 1, NULL), WIRE_NONE);
	id = topic_id(&c, "a");
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_defaults(wire_metadata_request_layout(), &in);
		wire_defaults(wire_metadata_request_topic_layout(), &t);
		t.name = wire_text(cases[i].name);
		if (cases[i].by_id)
			t.topic_id = id;
		in.topics.at = &t;
		in.topics.count = 1;
		client_call(&c, WIRE_API_Metadata, cases[i].version, &in, &out);
		assert_int_equal(out.topics.count, 1);
		if (out.topics.at[0].error_code != cases[i].error)
			fail_msg("case %zu: %d", i,
			    out.topics.at[0].error_code);
		assert_int_equal(out.topics.at[0].partitions.count,
		    cases[i].error == WIRE_NONE);
	}
	client_close(&c);
}

/* ---- DescribeCluster ---------------------------------------------------- */

static void
brokers_are_described_and_no_controllers(void **state)
{
	static const struct {
		int8_t type;
		int16_t error;
	} cases[] = {
	    {0, WIRE_UNSUPPORTED_ENDPOINT_TYPE},
	    {1, WIRE_NONE},
	    {2, WIRE_MISMATCHED_ENDPOINT_TYPE},
	    {3, WIRE_UNSUPPORTED_ENDPOINT_TYPE},
	};
	struct wire_describe_cluster_request in;
	struct wire_describe_cluster_response out;
	struct client c = client_connect();
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_defaults(wire_describe_cluster_request_layout(), &in);
		in.endpoint_type = cases[i].type;
		client_call(&c, WIRE_API_DescribeCluster, 1, &in, &out);
		assert_int_equal(out.error_code, cases[i].error);
		assert_int_equal(out.endpoint_type, 1);
		assert_int_equal(out.brokers.count,
		    cases[i].error == WIRE_NONE);
	}
	client_close(&c);
}

/* ---- folders and rows ---------------------------------------------------- */

static void
shell(const char *command)
{
	char line[400];

	snprintf(line, sizeof(line), "cd %s && %s", served.data, command);
	assert_int_equal(system(line), 0);
}

static void
one_record(struct client *c)
{

	assert_int_equal(make_topic(c, "t", 1, NULL), WIRE_NONE);
	assert_int_equal(produce_one(c, "t", "k", 10, clock_wall_ms()), 0);
}

static void
logs_without_the_file_they_belong_to_stay(void **state)
{
	struct client c;

	(void)state;
	assert_int_equal(broker_down(), 0);
	shell("cp broker.db older.db");
	broker_up();
	c = client_connect();
	one_record(&c);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	shell("mv broker.db away.db");
	check_refused(&served.conf,
	    "put back the broker.db that belongs to these logs");
	shell("mv older.db broker.db");
	check_refused(&served.conf,
	    "put back the broker.db that belongs to these logs");
	shell("mv away.db broker.db");
	broker_up();
	c = client_connect();
	assert_int_equal(list_offset(&c, "t", LATEST), 1);
	client_close(&c);
}

/* It counts starts anew, and none that was refused. */
static void
logs_of_later_starts_than_their_file_knows_stay(void **state)
{
	struct client c = client_connect();
	int i;

	(void)state;
	one_record(&c);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	shell("cp broker.db older.db");
	for (i = 0; i < 3; i++) {
		broker_up();
		c = client_connect();
		assert_int_equal(produce_one(&c, "t", "k", 10, clock_wall_ms()),
		    1 + i);
		client_close(&c);
		assert_int_equal(broker_down(), 0);
	}
	shell("mv broker.db away.db && mv older.db broker.db");
	for (i = 0; i < 4; i++)
		check_refused(&served.conf, "a backup of the whole folder");
	shell("mv away.db broker.db");
	broker_up();
	c = client_connect();
	assert_int_equal(list_offset(&c, "t", LATEST), 4);
	client_close(&c);
}

/* A kill after its row was gone left the folder. */
static void
a_topic_that_was_deleted_goes_with_the_next_start(void **state)
{
	struct client c = client_connect();

	(void)state;
	one_record(&c);
	shell("cp -r topics copy");
	assert_int_equal(delete_topic(&c, "t"), WIRE_NONE);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	shell("mv copy/* topics/");
	broker_up();
	shell("rmdir copy topics && mkdir topics");
	broker_restart();
}

static void
topics_are_made_when_asked_for_if_that_is_allowed(void **state)
{
	static const struct {
		const char *name;
		int allowed;
		int16_t error;
		int32_t partitions;
	} cases[] = {
	    {"a", 0, WIRE_UNKNOWN_TOPIC_OR_PARTITION, 0},
	    {"a", 1, WIRE_NONE, 2},
	    {"a", 0, WIRE_NONE, 2},
	    {"a b", 1, WIRE_INVALID_TOPIC, 0},
	};
	struct wire_metadata_request in;
	struct wire_metadata_request_topic t;
	struct wire_metadata_response out;
	struct client c = client_connect();
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		wire_defaults(wire_metadata_request_layout(), &in);
		wire_defaults(wire_metadata_request_topic_layout(), &t);
		t.name = wire_text(cases[i].name);
		in.topics.at = &t;
		in.topics.count = 1;
		in.allow_auto_topic_creation = (uint8_t)cases[i].allowed;
		client_call(&c, WIRE_API_Metadata, 9, &in, &out);
		assert_int_equal(out.topics.at[0].error_code, cases[i].error);
		assert_int_equal(out.topics.at[0].partitions.count,
		    cases[i].partitions);
	}
	/* All: null; none: an empty list, but in version 0. */
	in.topics.count = -1;
	client_call(&c, WIRE_API_Metadata, 9, &in, &out);
	assert_int_equal(out.topics.count, 1);
	in.topics.count = 0;
	client_call(&c, WIRE_API_Metadata, 9, &in, &out);
	assert_int_equal(out.topics.count, 0);
	client_call(&c, WIRE_API_Metadata, 0, &in, &out);
	assert_int_equal(out.topics.count, 1);
	assert_int_equal(out.brokers.at[0].port, broker_port(served.broker, 0));
	client_close(&c);
}

/* Of 40 partitions, each with three files that stay open. */
static void
a_shell_s_limit_of_descriptors_is_raised(void **state)
{
	static const char *const forty[] = {"--partitions-most", "40", NULL};
	struct rlimit limit, before;
	struct client c;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	broker_begin(forty);
	c = client_connect();
	assert_int_equal(make_topic(&c, "forty", 40, NULL), WIRE_NONE);
	client_close(&c);
	broker_end();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* The partitions that are there stay, and so does the room for their files. */
static void
fewer_partitions_than_there_are_may_be_set(void **state)
{
	static const char *const forty[] = {"--partitions-most", "40",
	    "--connections-most", "1", NULL};
	struct wire_fetch_request_partition parts[40];
	struct rlimit limit, before;
	struct wire_fetch_response out;
	struct fetch_ask ask;
	struct client c;
	int i;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 100;
	broker_begin(forty);
	c = client_connect();
	assert_int_equal(make_topic(&c, "forty", 40, NULL), WIRE_NONE);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	served.conf.partitions_most = 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	broker_up();
	c = client_connect();
	(void)fetch_ask(&ask, "forty", 0, 0);
	for (i = 0; i < 40; i++) {
		parts[i] = ask.partition;
		parts[i].partition = i;
	}
	ask.topic.partitions.at = parts;
	ask.topic.partitions.count = 40;
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	assert_int_equal(out.error_code, WIRE_NONE);
	assert_int_equal(out.topics.at[0].partitions.count, 40);
	assert_int_equal(make_topic(&c, "more", 1, NULL),
	    WIRE_INVALID_PARTITIONS);
	client_close(&c);
	broker_end();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_shell_s_limit_of_descriptors_is_raised),
	    cmocka_unit_test(fewer_partitions_than_there_are_may_be_set),
	    cmocka_unit_test_setup_teardown(topics_are_made_or_refused, begin,
		end),
	    cmocka_unit_test_setup_teardown(ids_are_asked_by_from_version_12_on,
		begin, end),
	    cmocka_unit_test_setup_teardown(
		brokers_are_described_and_no_controllers, begin, end),
	    cmocka_unit_test_setup_teardown(names_that_are_alike_collide, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		topics_of_one_request_count_together, begin, end),
	    cmocka_unit_test_setup_teardown(names_said_twice_are_refused, begin,
		end),
	    cmocka_unit_test_setup_teardown(assignments_are_to_the_one_broker,
		begin, end),
	    cmocka_unit_test_setup_teardown(
		partitions_are_added_and_keep_what_is_there, begin, end),
	    cmocka_unit_test_setup_teardown(
		deleted_topics_are_gone_and_their_names_free, begin, end),
	    cmocka_unit_test_setup_teardown(
		logs_without_the_file_they_belong_to_stay, begin, end),
	    cmocka_unit_test_setup_teardown(
		logs_of_later_starts_than_their_file_knows_stay, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_topic_that_was_deleted_goes_with_the_next_start, begin, end),
	    cmocka_unit_test_setup_teardown(
		topics_are_made_when_asked_for_if_that_is_allowed, begin, end),
	};

	return (
	    cmocka_run_group_tests_name("broker_topics", tests, NULL, NULL));
}
