/*
 * broker: DescribeConfigs, AlterConfigs and IncrementalAlterConfigs, from bytes to
 * bytes, and what a changed setting does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/keeper.h"
#include "broker_fixture.h"

enum { TOPIC = 2, BROKER = 4 };
enum { SET = 0, DELETE = 1, APPEND = 2, SUBTRACT = 3 };
enum { OF_TOPIC = 1, OF_BROKER = 5 };

/* The keeper's next so many changes fail, once the gate is open. */
static _Atomic int failures, gate;

int __real_keeper_set_overrides(struct broker *b, const char *id_text,
    char *const overrides[SETTING_COUNT], struct mr_error *err);
int __wrap_keeper_set_overrides(struct broker *b, const char *id_text,
    char *const overrides[SETTING_COUNT], struct mr_error *err);

int
__wrap_keeper_set_overrides(struct broker *b, const char *id_text,
    char *const overrides[SETTING_COUNT], struct mr_error *err)
{
	if (failures == 0)
		return (
		    __real_keeper_set_overrides(b, id_text, overrides, err));
	while (gate)
		(void)poll(NULL, 0, 1);
	failures--;
	return (mr_error_set(err, MR_RETRY, "the disk is full"));
}

static int
begin(void **state)
{

	(void)state;
	broker_begin(NULL);
	return (0);
}

static int
end(void **state)
{

	(void)state;
	broker_end();
	return (0);
}

/* A setting's value and source into *source; "" and the error if refused. */
static const char *
describe(struct client *c, int type, const char *resource, const char *name,
    int *source)
{
	static char value[64];
	struct wire_describe_configs_request in;
	struct wire_describe_configs_request_resource r;
	struct wire_describe_configs_response out;
	const struct wire_describe_configs_response_resource *got;
	struct wire_string key = wire_text(name);

	wire_defaults(wire_describe_configs_request_layout(), &in);
	r.resource_type = (int8_t)type;
	r.resource_name = wire_text(resource);
	r.configuration_keys.at = &key;
	r.configuration_keys.count = name != NULL ? 1 : -1;
	in.resources.at = &r;
	in.resources.count = 1;
	in.include_synonyms = 1;
	client_call(c, WIRE_API_DescribeConfigs, 4, &in, &out);
	got = &out.resources.at[0];
	*source = got->error_code;
	if (got->error_code != WIRE_NONE || got->configs.count == 0)
		return ("");
	*source = (unsigned char)got->configs.at[0].config_source;
	keep_text(value, sizeof(value), got->configs.at[0].value);
	return (value);
}

static void
settings_are_described(void **state)
{
	static const char *const settings[] = {"retention.ms", "1000", NULL};
	static const struct {
		int type;
		const char *resource, *name;
		const char *value;
		int source; /* or the error */
	} cases[] = {
	    {TOPIC, "t", "retention.ms", "1000", OF_TOPIC},
	    {TOPIC, "t", "cleanup.policy", "delete", OF_BROKER},
	    {TOPIC, "t", "no.such.setting", "", WIRE_NONE},
	    {TOPIC, "none", "retention.ms", "",
		WIRE_UNKNOWN_TOPIC_OR_PARTITION},
	    {TOPIC, "a b", "retention.ms", "", WIRE_INVALID_TOPIC},
	    {TOPIC, "t", "log.retention.ms", "", WIRE_NONE},
	    {BROKER, "1", "retention.ms", "", WIRE_NONE},
	    {BROKER, "1", "log.retention.ms", "604800000", OF_BROKER},
	    {BROKER, "", "log.retention.ms", "604800000", OF_BROKER},
	    {BROKER, "1", "auto.create.topics.enable", "false", OF_BROKER},
	    {BROKER, "1", "offsets.retention.minutes", "10080", OF_BROKER},
	    {BROKER, "1", "min.insync.replicas", "1", OF_BROKER},
	    {BROKER, "2", "log.retention.ms", "", WIRE_INVALID_REQUEST},
	    {8, "1", "retention.ms", "", WIRE_INVALID_REQUEST},
	};
	struct client c = client_connect();
	const char *value;
	int source;
	size_t i;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, settings), WIRE_NONE);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		value = describe(&c, cases[i].type, cases[i].resource,
		    cases[i].name, &source);
		if (strcmp(value, cases[i].value) != 0 ||
		    source != cases[i].source)
			fail_msg("case %zu: %s, %d", i, value, source);
	}
	client_close(&c);
}

/* ---- altering ----------------------------------------------------------- */

struct wish {
	const char *name;
	int op;
	const char *value;
};

/* Up to three settings of a resource, which may be named twice. */
static void
alter_send(struct client *c, int type, const char *resource, int times,
    const struct wish *wishes, int count, int validate_only)
{
	struct wire_incremental_alter_configs_request in;
	struct wire_incremental_alter_configs_request_resource r[2];
	struct wire_incremental_alter_configs_request_config list[3];
	int i;

	wire_defaults(wire_incremental_alter_configs_request_layout(), &in);
	for (i = 0; i < count; i++) {
		list[i].name = wire_text(wishes[i].name);
		list[i].config_operation = (int8_t)wishes[i].op;
		list[i].value = wire_text(wishes[i].value);
	}
	for (i = 0; i < times; i++) {
		r[i].resource_type = (int8_t)type;
		r[i].resource_name = wire_text(resource);
		r[i].configs.at = list;
		r[i].configs.count = count;
	}
	in.resources.at = r;
	in.resources.count = times;
	in.validate_only = (uint8_t)validate_only;
	client_send(c, WIRE_API_IncrementalAlterConfigs, 1, &in);
}

static int16_t
alter_receive(struct client *c, const char *resource, int times)
{
	struct wire_incremental_alter_configs_response out;

	assert_int_equal(client_receive(c, WIRE_API_IncrementalAlterConfigs, 1,
			     &out),
	    1);
	assert_int_equal(out.resources.count, times);
	assert_int_equal(out.resources.at[0].error_code,
	    out.resources.at[times - 1].error_code);
	assert_true(
	    wire_string_is(out.resources.at[0].resource_name, resource));
	return (out.resources.at[0].error_code);
}

static int16_t
alter(struct client *c, int type, const char *resource, int times,
    const struct wish *wishes, int count, int validate_only)
{

	alter_send(c, type, resource, times, wishes, count, validate_only);
	return (alter_receive(c, resource, times));
}

static const struct altered {
	int type;
	const char *resource;
	struct wish wishes[2];
	int16_t error;
	const char *retention, *cleanup; /* of "t" afterwards */
} table[] = {
    {TOPIC, "t", {{"retention.ms", SET, "5"}}, WIRE_NONE, "5", "delete"},
    {TOPIC, "t", {{"retention.ms", SET, "soon"}}, WIRE_INVALID_CONFIG, "5",
	"delete"},
    {TOPIC, "t", {{"retention.ms", SET, "-2"}}, WIRE_INVALID_CONFIG, "5",
	"delete"},
    {TOPIC, "t", {{"retention.ms", SET, NULL}}, WIRE_INVALID_REQUEST, "5",
	"delete"},
    {TOPIC, "t", {{"retention.ms", 9, "6"}}, WIRE_INVALID_REQUEST, "5",
	"delete"},
    {TOPIC, "t", {{"retention.ms", APPEND, "6"}}, WIRE_INVALID_CONFIG, "5",
	"delete"},
    {TOPIC, "t", {{"no.such.setting", SET, "6"}}, WIRE_INVALID_CONFIG, "5",
	"delete"},
    {TOPIC, "t", {{"no.such.setting", DELETE, NULL}}, WIRE_NONE, "5", "delete"},
    /* All of a resource, or nothing. */
    {TOPIC, "t", {{"retention.ms", SET, "7"}, {"cleanup.policy", SET, "x"}},
	WIRE_INVALID_CONFIG, "5", "delete"},
    {TOPIC, "t", {{"retention.ms", SET, "7"}, {"retention.ms", SET, "8"}},
	WIRE_INVALID_REQUEST, "5", "delete"},
    {TOPIC, "t", {{"cleanup.policy", APPEND, "compact"}}, WIRE_NONE, "5",
	"delete,compact"},
    {TOPIC, "t", {{"cleanup.policy", APPEND, "shred"}}, WIRE_INVALID_CONFIG,
	"5", "delete,compact"},
    {TOPIC, "t", {{"cleanup.policy", APPEND, NULL}}, WIRE_INVALID_REQUEST, "5",
	"delete,compact"},
    {TOPIC, "t", {{"cleanup.policy", SUBTRACT, "delete"}}, WIRE_NONE, "5",
	"compact"},
    {TOPIC, "t", {{"cleanup.policy", SUBTRACT, "compact"}}, WIRE_INVALID_CONFIG,
	"5", "compact"},
    {TOPIC, "t", {{"retention.ms", DELETE, NULL}}, WIRE_NONE, "604800000",
	"compact"},
    {TOPIC, "none", {{"retention.ms", SET, "5"}},
	WIRE_UNKNOWN_TOPIC_OR_PARTITION, "604800000", "compact"},
    {BROKER, "1", {{"retention.ms", SET, "5"}}, WIRE_INVALID_REQUEST,
	"604800000", "compact"},
};

static void
check_settings(struct client *c, size_t i, const char *retention,
    const char *cleanup)
{
	int source;

	if (strcmp(describe(c, TOPIC, "t", "retention.ms", &source),
		retention) != 0)
		fail_msg("case %zu: retention", i);
	if (strcmp(describe(c, TOPIC, "t", "cleanup.policy", &source),
		cleanup) != 0)
		fail_msg("case %zu: cleanup", i);
}

static void
settings_are_changed_or_refused_whole(void **state)
{
	size_t i, n = sizeof(table) / sizeof(table[0]);
	struct client c = client_connect();
	const struct wish set = {"retention.ms", SET, "9"};
	int16_t error;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	for (i = 0; i < n; i++) {
		error = alter(&c, table[i].type, table[i].resource, 1,
		    table[i].wishes, table[i].wishes[1].name != NULL ? 2 : 1,
		    0);
		if (error != table[i].error)
			fail_msg("case %zu: %d", i, error);
		check_settings(&c, i, table[i].retention, table[i].cleanup);
	}
	assert_int_equal(alter(&c, TOPIC, "t", 2, &set, 1, 0),
	    WIRE_INVALID_REQUEST);
	assert_int_equal(alter(&c, TOPIC, "t", 1, &set, 1, 1), WIRE_NONE);
	check_settings(&c, n, "604800000", "compact");
	client_close(&c);
	broker_restart();
	c = client_connect();
	check_settings(&c, n + 1, "604800000", "compact");
	client_close(&c);
}

static int16_t
alter_all(struct client *c, const char *resource, const char *name,
    const char *value, int count)
{
	struct wire_alter_configs_request in;
	struct wire_alter_configs_request_resource r;
	struct wire_alter_configs_request_config list[2];
	struct wire_alter_configs_response out;

	wire_defaults(wire_alter_configs_request_layout(), &in);
	list[0].name = list[1].name = wire_text(name);
	list[0].value = list[1].value = wire_text(value);
	r.resource_type = TOPIC;
	r.resource_name = wire_text(resource);
	r.configs.at = list;
	r.configs.count = count;
	in.resources.at = &r;
	in.resources.count = 1;
	client_call(c, WIRE_API_AlterConfigs, 2, &in, &out);
	return (out.resources.at[0].error_code);
}

static void
the_old_way_replaces_all_of_them(void **state)
{
	static const char *const settings[] = {"retention.ms", "1000", NULL};
	struct client c = client_connect();

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, settings), WIRE_NONE);
	assert_int_equal(alter_all(&c, "none", "retention.ms", "5", 1),
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(alter_all(&c, "t", "retention.ms", NULL, 1),
	    WIRE_INVALID_REQUEST);
	assert_int_equal(alter_all(&c, "t", "retention.ms", "5", 2),
	    WIRE_INVALID_REQUEST);
	check_settings(&c, 0, "1000", "delete");
	assert_int_equal(alter_all(&c, "t", "cleanup.policy", "compact", 1),
	    WIRE_NONE);
	check_settings(&c, 1, "604800000", "compact");
	client_close(&c);
	broker_restart();
	c = client_connect();
	check_settings(&c, 2, "604800000", "compact");
	client_close(&c);
}

static void
a_change_holds_for_what_comes_next(void **state)
{
	const struct wish limit = {"max.message.bytes", SET, "500"};
	const struct wish lift = {"max.message.bytes", DELETE, NULL};
	struct client c = client_connect();
	uint8_t bytes[2000];
	int64_t size = (int64_t)make_one(bytes, "k", 1000, clock_wall_ms(),
	    NULL);

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	assert_int_equal(alter(&c, TOPIC, "t", 1, &limit, 1, 0), WIRE_NONE);
	assert_int_equal(produce_bytes(&c, "t", 0, -1, bytes, size).error_code,
	    WIRE_MESSAGE_TOO_LARGE);
	assert_int_equal(alter(&c, TOPIC, "t", 1, &lift, 1, 0), WIRE_NONE);
	assert_int_equal(produce_bytes(&c, "t", 0, -1, bytes, size).error_code,
	    WIRE_NONE);
	client_close(&c);
}

/* Each begins before the others are on disk. */
static void
changes_at_once_all_hold(void **state)
{
	static const struct wish wishes[] = {{"retention.ms", SET, "60001"},
	    {"segment.ms", SET, "60002"}, {"retention.bytes", SET, "60003"},
	    {"max.message.bytes", SET, "60004"}};
	enum { COUNT = sizeof(wishes) / sizeof(wishes[0]) };
	struct client all[COUNT];
	int i, source;

	(void)state;
	for (i = 0; i < COUNT; i++)
		all[i] = client_connect();
	assert_int_equal(make_topic(&all[0], "t", 1, NULL), WIRE_NONE);
	for (i = 0; i < COUNT; i++)
		alter_send(&all[i], TOPIC, "t", 1, &wishes[i], 1, 0);
	for (i = 0; i < COUNT; i++)
		assert_int_equal(alter_receive(&all[i], "t", 1), WIRE_NONE);
	for (i = 0; i < COUNT; i++)
		assert_string_equal(describe(&all[0], TOPIC, "t",
					wishes[i].name, &source),
		    wishes[i].value);
	for (i = 0; i < COUNT; i++)
		client_close(&all[i]);
}

/* The second adds to the first, which fails; the third comes later. */
static void
what_adds_to_a_change_that_failed_fails_too(void **state)
{
	static const struct wish wishes[] = {{"retention.ms", SET, "60001"},
	    {"segment.ms", SET, "60002"}, {"retention.bytes", SET, "60003"}};
	struct client one = client_connect(), two = client_connect();
	int source;

	(void)state;
	assert_int_equal(make_topic(&one, "t", 1, NULL), WIRE_NONE);
	gate = failures = 1;
	alter_send(&one, TOPIC, "t", 1, &wishes[0], 1, 0);
	assert_false(is_answered_within(&one, 50));
	alter_send(&two, TOPIC, "t", 1, &wishes[1], 1, 0);
	assert_false(is_answered_within(&two, 50));
	gate = 0;
	assert_int_equal(alter_receive(&one, "t", 1), WIRE_KAFKA_STORAGE_ERROR);
	assert_int_equal(alter_receive(&two, "t", 1), WIRE_KAFKA_STORAGE_ERROR);
	assert_int_equal(alter(&one, TOPIC, "t", 1, &wishes[2], 1, 0),
	    WIRE_NONE);
	assert_string_equal(describe(&one, TOPIC, "t", "retention.ms", &source),
	    "604800000");
	assert_string_equal(describe(&one, TOPIC, "t", "segment.ms", &source),
	    "604800000");
	assert_string_equal(describe(&one, TOPIC, "t", "retention.bytes",
				&source),
	    "60003");
	client_close(&two);
	client_close(&one);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(settings_are_described, begin, end),
	    cmocka_unit_test_setup_teardown(changes_at_once_all_hold, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		what_adds_to_a_change_that_failed_fails_too, begin, end),
	    cmocka_unit_test_setup_teardown(
		settings_are_changed_or_refused_whole, begin, end),
	    cmocka_unit_test_setup_teardown(the_old_way_replaces_all_of_them,
		begin, end),
	    cmocka_unit_test_setup_teardown(a_change_holds_for_what_comes_next,
		begin, end),
	};

	return (
	    cmocka_run_group_tests_name("broker_configs", tests, NULL, NULL));
}
