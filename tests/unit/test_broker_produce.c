/*
 * broker: Produce and InitProducerId, from bytes to bytes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glob.h>

#include "broker_fixture.h"

#define HOUR_MS 3600000

static const char *const compacted[] = {"cleanup.policy", "compact", NULL};
static const char *const small[] = {"max.message.bytes", "1000", NULL};

static int
begin(void **state)
{

	(void)state;
	broker_begin(NULL);
	return (0);
}

/* Nothing is flushed that nobody waits for. */
static int
begin_rarely(void **state)
{
	static const char *const rarely[] = {"--flush-interval-ms", "1h", NULL};

	(void)state;
	broker_begin(rarely);
	return (0);
}

static int
end(void **state)
{

	(void)state;
	broker_end();
	return (0);
}

/* ---- what is refused ---------------------------------------------------- */

enum fault {
	FAULT_NONE,
	FAULT_CRC,
	FAULT_CUT, /* the last byte is missing */
	FAULT_TRAILING, /* bytes behind the batch */
	FAULT_MAGIC,
	FAULT_CODEC,
	FAULT_COUNT, /* of records */
	FAULT_TRANSACTIONAL,
	FAULT_CONTROL,
	FAULT_EMPTY,
	FAULT_NULL
};

static const struct refusal {
	const char *topic;
	int32_t partition;
	int acks;
	const char *key;
	int length;
	enum fault fault;
	int16_t error;
} refusals[] = {
    {"plain", 0, -1, "k", 10, FAULT_NONE, WIRE_NONE},
    {"plain", 0, 1, NULL, 10, FAULT_NONE, WIRE_NONE},
    {"plain", 0, 2, "k", 10, FAULT_NONE, WIRE_INVALID_REQUIRED_ACKS},
    {"plain", 0, -2, "k", 10, FAULT_NONE, WIRE_INVALID_REQUIRED_ACKS},
    {"plain", 1, -1, "k", 10, FAULT_NONE, WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"plain", -1, -1, "k", 10, FAULT_NONE, WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"none", 0, -1, "k", 10, FAULT_NONE, WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"", 0, -1, "k", 10, FAULT_NONE, WIRE_UNKNOWN_TOPIC_OR_PARTITION},
    {"plain", 0, -1, "k", 10, FAULT_CRC, WIRE_CORRUPT_MESSAGE},
    {"plain", 0, -1, "k", 10, FAULT_CUT, WIRE_CORRUPT_MESSAGE},
    {"plain", 0, -1, "k", 10, FAULT_TRAILING, WIRE_CORRUPT_MESSAGE},
    {"plain", 0, -1, "k", 10, FAULT_MAGIC, WIRE_INVALID_RECORD},
    {"plain", 0, -1, "k", 10, FAULT_CODEC, WIRE_UNSUPPORTED_COMPRESSION_TYPE},
    {"plain", 0, -1, "k", 10, FAULT_COUNT, WIRE_INVALID_RECORD},
    {"plain", 0, -1, "k", 10, FAULT_TRANSACTIONAL, WIRE_INVALID_RECORD},
    {"plain", 0, -1, "k", 10, FAULT_CONTROL, WIRE_INVALID_RECORD},
    {"plain", 0, -1, "k", 10, FAULT_EMPTY, WIRE_INVALID_RECORD},
    {"plain", 0, -1, "k", 10, FAULT_NULL, WIRE_INVALID_RECORD},
    {"small", 0, -1, "k", 2000, FAULT_NONE, WIRE_MESSAGE_TOO_LARGE},
    {"small", 0, -1, "k", 800, FAULT_NONE, WIRE_NONE},
    {"compacted", 0, -1, NULL, 10, FAULT_NONE, WIRE_INVALID_RECORD},
    {"compacted", 0, -1, "k", 10, FAULT_NONE, WIRE_NONE},
};

/* What is wrong with a batch; its size afterwards, -1 for null. */
static int64_t
spoil(uint8_t *bytes, size_t size, enum fault fault)
{

	switch (fault) {
	case FAULT_CRC:
		bytes[size - 1] ^= 1;
		return ((int64_t)size);
	case FAULT_CUT:
		return ((int64_t)size - 1);
	case FAULT_TRAILING:
		bytes[size] = 0;
		return ((int64_t)size + 1);
	case FAULT_MAGIC:
		bytes[BATCH_AT_MAGIC] = 1;
		return ((int64_t)size);
	case FAULT_CODEC:
		put_i16(bytes + BATCH_AT_ATTRIBUTES, 7);
		break;
	case FAULT_COUNT:
		put_i32(bytes + BATCH_AT_RECORD_COUNT, 3);
		break;
	case FAULT_TRANSACTIONAL:
		put_i16(bytes + BATCH_AT_ATTRIBUTES, 0x10);
		break;
	case FAULT_CONTROL:
		put_i16(bytes + BATCH_AT_ATTRIBUTES, 0x20);
		break;
	case FAULT_EMPTY:
		return (0);
	case FAULT_NULL:
		return (-1);
	default:
		break;
	}
	batch_seal(bytes, size);
	return ((int64_t)size);
}

static void
batches_are_taken_or_refused_and_leave_nothing(void **state)
{
	struct wire_produce_response_partition p;
	struct client c = client_connect();
	const struct refusal *r;
	int64_t size, next = 0, before;
	uint8_t bytes[4096];
	size_t i;

	(void)state;
	assert_int_equal(make_topic(&c, "plain", 1, NULL), WIRE_NONE);
	assert_int_equal(make_topic(&c, "small", 1, small), WIRE_NONE);
	assert_int_equal(make_topic(&c, "compacted", 1, compacted), WIRE_NONE);
	for (i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		r = &refusals[i];
		before = next = list_offset(&c,
		    r->topic[0] == '\0' || strcmp(r->topic, "none") == 0 ?
			"plain" :
			r->topic,
		    LATEST);
		size = spoil(bytes,
		    make_one(bytes, r->key, r->length, clock_wall_ms(), NULL),
		    r->fault);
		p = produce_bytes(&c, r->topic, r->partition, r->acks, bytes,
		    size);
		if (p.error_code != r->error)
			fail_msg("case %zu: %d instead of %d", i, p.error_code,
			    r->error);
		assert_int_equal(p.base_offset,
		    r->error == WIRE_NONE ? before : -1);
	}
	assert_int_equal(list_offset(&c, "plain", LATEST), 2);
	client_close(&c);
}

static void
a_request_of_many_batches_is_answered_one_by_one(void **state)
{
	struct wire_produce_request_partition parts[3];
	struct wire_produce_request_topic topics[2];
	struct wire_produce_response out;
	struct produce_ask ask;
	struct client c = client_connect();
	uint8_t good[200], bad[200];
	size_t size = make_one(good, "k", 10, clock_wall_ms(), NULL), i;

	(void)state;
	assert_int_equal(make_topic(&c, "three", 3, NULL), WIRE_NONE);
	(void)make_one(bad, "k", 10, clock_wall_ms(), NULL);
	bad[size - 1] ^= 1;
	(void)produce_ask(&ask, "three", 0, -1, good, (int64_t)size);
	topics[0] = topics[1] = ask.topic;
	for (i = 0; i < 3; i++) {
		parts[i] = ask.partition;
		parts[i].index = (int32_t)(2 - i);
	}
	parts[1].records.at = bad;
	topics[0].partitions.at = parts;
	topics[0].partitions.count = 3;
	topics[1].name = wire_text("none");
	ask.in.topics.at = topics;
	ask.in.topics.count = 2;
	client_call(&c, WIRE_API_Produce, 9, &ask.in, &out);
	assert_int_equal(out.topics.count, 2);
	for (i = 0; i < 3; i++) {
		assert_int_equal(out.topics.at[0].partitions.at[i].index,
		    2 - i);
		assert_int_equal(out.topics.at[0].partitions.at[i].error_code,
		    i == 1 ? WIRE_CORRUPT_MESSAGE : WIRE_NONE);
	}
	assert_int_equal(out.topics.at[1].partitions.at[0].error_code,
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	client_close(&c);
}

static void
topics_are_named_by_id_from_version_13_on(void **state)
{
	static const int16_t expected[] = {WIRE_NONE, WIRE_UNKNOWN_TOPIC_ID};
	struct client c = client_connect();
	struct wire_produce_response out;
	struct produce_ask ask;
	struct wire_uuid ids[2];
	uint8_t bytes[200];
	size_t size = make_one(bytes, "k", 10, clock_wall_ms(), NULL), i;

	(void)state;
	assert_int_equal(make_topic(&c, "named", 1, NULL), WIRE_NONE);
	ids[0] = ids[1] = topic_id(&c, "named");
	ids[1].bytes[15] ^= 1;
	for (i = 0; i < 2; i++) {
		(void)produce_ask(&ask, "", 0, -1, bytes, (int64_t)size);
		ask.topic.topic_id = ids[i];
		client_call(&c, WIRE_API_Produce, 13, &ask.in, &out);
		assert_memory_equal(&out.topics.at[0].topic_id, &ids[i],
		    sizeof(ids[i]));
		assert_int_equal(out.topics.at[0].partitions.at[0].error_code,
		    expected[i]);
	}
	client_close(&c);
}

static void
transactions_are_refused(void **state)
{
	struct wire_find_coordinator_request find;
	struct wire_find_coordinator_response found;
	struct wire_init_producer_id_request init;
	struct wire_init_producer_id_response given;
	struct client c = client_connect();
	struct wire_produce_response out;
	struct produce_ask ask;
	uint8_t bytes[200];
	size_t size = make_one(bytes, "k", 10, clock_wall_ms(), NULL);

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	(void)produce_ask(&ask, "t", 0, -1, bytes, (int64_t)size);
	ask.in.transactional_id = wire_text("me");
	client_call(&c, WIRE_API_Produce, 8, &ask.in, &out);
	assert_int_equal(out.topics.at[0].partitions.at[0].error_code,
	    WIRE_UNSUPPORTED_VERSION);
	wire_defaults(wire_init_producer_id_request_layout(), &init);
	init.transactional_id = wire_text("me");
	client_call(&c, WIRE_API_InitProducerId, 3, &init, &given);
	assert_int_equal(given.error_code, WIRE_UNSUPPORTED_VERSION);
	assert_int_equal(given.producer_id, -1);
	wire_defaults(wire_find_coordinator_request_layout(), &find);
	find.key = wire_text("me");
	find.key_type = 1;
	client_call(&c, WIRE_API_FindCoordinator, 2, &find, &found);
	assert_int_equal(found.error_code,
	    WIRE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
	assert_int_equal(list_offset(&c, "t", LATEST), 0);
	client_close(&c);
}

/* ---- acks --------------------------------------------------------------- */

static void
acks_0_is_not_answered_and_hangs_up_on_errors(void **state)
{
	struct client c = client_connect(), other = client_connect();
	struct produce_ask ask;
	uint8_t bytes[200];
	size_t size = make_one(bytes, "k", 10, clock_wall_ms(), NULL);

	(void)state;
	assert_int_equal(make_topic(&c, "silent", 1, NULL), WIRE_NONE);
	client_send(&c, WIRE_API_Produce, 8,
	    produce_ask(&ask, "silent", 0, 0, bytes, (int64_t)size));
	/* The next answer is to the next request, and sees the record. */
	assert_int_equal(produce_one(&c, "silent", "k", 10, clock_wall_ms()),
	    1);
	client_send(&other, WIRE_API_Produce, 8,
	    produce_ask(&ask, "none", 0, 0, bytes, (int64_t)size));
	assert_true(is_hung_up(&other));
	client_close(&other);
	client_close(&c);
}

/* The mark that a partition's flush leaves (the only topic's). */
static int
has_flushed(int partition)
{
	char pattern[200];
	glob_t found;
	int rc;

	snprintf(pattern, sizeof(pattern), "%s/topics/*/%d/flushed",
	    served.data, partition);
	rc = glob(pattern, GLOB_NOSORT, NULL, &found);
	globfree(&found);
	return (rc == 0);
}

static void
wait_for_end(struct client *c, const char *topic, int partition, int64_t end)
{
	int64_t deadline_us = clock_mono_us() + 60000000;

	while (list_offset_at(c, 7, topic, partition, LATEST, -1).offset < end)
		assert_true(clock_mono_us() < deadline_us);
}

static void
who_waits_for_the_disk_waits_for_no_others_records(void **state)
{
	struct client c = client_connect();
	uint8_t bytes[200];
	int64_t size = (int64_t)make_one(bytes, "k", 10, clock_wall_ms(), NULL);

	(void)state;
	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	assert_int_equal(produce_bytes(&c, "t", 0, 1, bytes, size).error_code,
	    WIRE_NONE);
	assert_int_equal(produce_bytes(&c, "t", 1, -1, bytes, size).error_code,
	    WIRE_NONE);
	assert_true(has_flushed(1));
	assert_false(has_flushed(0));
	wait_for_end(&c, "t", 0, 1); /* asking is reason enough */
	assert_true(has_flushed(0));
	client_close(&c);
}

static void
much_that_nobody_waits_for_is_flushed_in_turns(void **state)
{
	enum { VALUE = 3600, RECORDS = 250, BATCHES = 20, PARTITIONS = 3 };
	static uint8_t bytes[1 << 20];
	static struct test_record records[RECORDS];
	static char value[VALUE + 1];
	struct wire_list_offsets_request in;
	struct wire_list_offsets_request_topic t;
	struct wire_list_offsets_request_partition p[PARTITIONS];
	struct wire_list_offsets_response out;
	struct client c = client_connect();
	int64_t size, deadline_us = clock_mono_us() + 60000000;
	int i;

	(void)state;
	memset(value, 'v', VALUE);
	for (i = 0; i < RECORDS; i++)
		records[i] = (struct test_record){"k", value, clock_wall_ms()};
	size = (int64_t)make_batch(bytes, records, RECORDS, NULL);
	assert_int_equal(make_topic(&c, "t", PARTITIONS, NULL), WIRE_NONE);
	for (i = 0; i < BATCHES * PARTITIONS; i++)
		assert_int_equal(produce_bytes(&c, "t", i % PARTITIONS, 1,
				     bytes, size)
				     .error_code,
		    WIRE_NONE);
	/* All of them are due at once, more than one flush takes. */
	wire_defaults(wire_list_offsets_request_layout(), &in);
	wire_defaults(wire_list_offsets_request_topic_layout(), &t);
	for (i = 0; i < PARTITIONS; i++) {
		assert_false(has_flushed(i));
		wire_defaults(wire_list_offsets_request_partition_layout(),
		    &p[i]);
		p[i].partition_index = i;
		p[i].timestamp = LATEST;
		p[i].current_leader_epoch = -1;
	}
	t.name = wire_text("t");
	t.partitions.at = p;
	t.partitions.count = PARTITIONS;
	in.replica_id = -1;
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(&c, WIRE_API_ListOffsets, 7, &in, &out);
	for (i = 0; i < PARTITIONS; i++)
		while (!has_flushed(i))
			assert_true(clock_mono_us() < deadline_us);
	for (i = 0; i < PARTITIONS; i++)
		wait_for_end(&c, "t", i, RECORDS * BATCHES);
	client_close(&c);
}

static void
requests_that_follow_one_another_are_answered_in_order(void **state)
{
	struct wire_list_offsets_request list;
	struct wire_list_offsets_response offsets;
	struct client c = client_connect();
	struct wire_produce_response out;
	struct produce_ask ask;
	uint8_t bytes[200];
	size_t size = make_one(bytes, "k", 10, clock_wall_ms(), NULL);
	int i;

	(void)state;
	assert_int_equal(make_topic(&c, "ordered", 1, NULL), WIRE_NONE);
	wire_defaults(wire_list_offsets_request_layout(), &list);
	for (i = 0; i < 100; i++)
		client_send(&c, WIRE_API_Produce, 8,
		    produce_ask(&ask, i % 10 == 9 ? "none" : "ordered", 0,
			i % 3 == 0 ? 1 : -1, bytes, (int64_t)size));
	client_send(&c, WIRE_API_ListOffsets, 7, &list);
	for (i = 0; i < 100; i++) {
		assert_int_equal(client_receive(&c, WIRE_API_Produce, 8, &out),
		    1);
		assert_int_equal(c.asked.correlation_id,
		    c.correlation - 100 + i);
		assert_int_equal(out.topics.at[0].partitions.at[0].base_offset,
		    i % 10 == 9 ? -1 : i - i / 10);
	}
	assert_int_equal(client_receive(&c, WIRE_API_ListOffsets, 7, &offsets),
	    1);
	client_close(&c);
}

static void
append_time_is_the_brokers(void **state)
{
	static const char *const append[] = {"message.timestamp.type",
	    "LogAppendTime", NULL};
	struct wire_produce_response_partition p;
	struct client c = client_connect();
	int64_t before = clock_wall_ms();
	uint8_t bytes[200];

	(void)state;
	assert_int_equal(make_topic(&c, "stamped", 1, append), WIRE_NONE);
	p = produce_bytes(&c, "stamped", 0, -1, bytes,
	    (int64_t)make_one(bytes, "k", 10, before - HOUR_MS, NULL));
	assert_int_equal(p.error_code, WIRE_NONE);
	assert_in_range(p.log_append_time_ms, before, clock_wall_ms());
	/* Found by the broker's time, not by the producer's. */
	assert_int_equal(list_offset(&c, "stamped", before), 0);
	assert_int_equal(list_offset(&c, "stamped", before + HOUR_MS), -1);
	client_close(&c);
}

/* ---- idempotent producers ----------------------------------------------- */

static const struct step {
	int16_t epoch;
	int32_t sequence;
	int count;
	int16_t error;
	int64_t offset; /* of the first record */
} steps[] = {
    {0, 0, 2, WIRE_NONE, 0}, {0, 2, 1, WIRE_NONE, 2},
    {0, 2, 1, WIRE_NONE, 2}, /* again */
    {0, 0, 2, WIRE_NONE, 0}, /* the one before, again */
    {0, 1, 1, WIRE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* part of one */
    {0, 4, 1, WIRE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* a hole */
    {0, 3, 1, WIRE_NONE, 3},
    {1, 4, 1, WIRE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* epochs begin at 0 */
    {1, 0, 1, WIRE_NONE, 4},
    {0, 4, 1, WIRE_INVALID_PRODUCER_EPOCH, -1}, /* fenced */
    {1, 1, 1, WIRE_NONE, 5}, {1, 2, 1, WIRE_NONE, 6}, {1, 3, 1, WIRE_NONE, 7},
    {1, 4, 1, WIRE_NONE, 8}, {1, 5, 1, WIRE_NONE, 9},
    {1, 1, 1, WIRE_NONE, 5}, /* the fifth from the end is remembered */
    {1, 0, 1, WIRE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* the sixth isn't */
};

static size_t
make_step(uint8_t *bytes, int64_t producer_id, const struct step *s)
{
	struct test_record records[2] = {{"a", "1", clock_wall_ms()},
	    {"b", "2", clock_wall_ms()}};
	struct test_producer producer = {producer_id, s->epoch, s->sequence};

	return (make_batch(bytes, records, s->count, &producer));
}

static int64_t
new_producer(struct client *c)
{
	struct wire_init_producer_id_request in;
	struct wire_init_producer_id_response out;

	wire_defaults(wire_init_producer_id_request_layout(), &in);
	client_call(c, WIRE_API_InitProducerId, 4, &in, &out);
	assert_int_equal(out.error_code, WIRE_NONE);
	assert_int_equal(out.producer_epoch, 0);
	return (out.producer_id);
}

static void
check_step(struct client *c, int64_t producer_id, size_t i)
{
	struct wire_produce_response_partition p;
	uint8_t bytes[400];

	p = produce_bytes(c, "idempotent", 0, -1, bytes,
	    (int64_t)make_step(bytes, producer_id, &steps[i]));
	if (p.error_code != steps[i].error || p.base_offset != steps[i].offset)
		fail_msg("step %zu: error %d, offset %lld", i, p.error_code,
		    (long long)p.base_offset);
}

static void
producers_are_held_to_epoch_and_sequence_over_a_restart(void **state)
{
	size_t i, n = sizeof(steps) / sizeof(steps[0]);
	struct client c = client_connect();
	int64_t id = new_producer(&c), other;

	(void)state;
	assert_int_equal(make_topic(&c, "idempotent", 1, NULL), WIRE_NONE);
	for (i = 0; i < n; i++) {
		check_step(&c, id, i);
		if (i != 7 && i != 13)
			continue;
		client_close(&c);
		broker_restart();
		c = client_connect();
	}
	assert_int_equal(list_offset(&c, "idempotent", LATEST), 10);
	/* Ids are never given out again. */
	other = new_producer(&c);
	assert_true(other > id);
	client_close(&c);
}

/* An older broker.db that no epoch tells from the right one. */
static void
ids_that_a_log_has_are_not_given_out_again(void **state)
{
	struct client c = client_connect();
	char file[200], older[200];
	int64_t id;

	(void)state;
	snprintf(file, sizeof(file), "%s/broker.db", served.data);
	snprintf(older, sizeof(older), "%s/older.db", served.data);
	assert_int_equal(make_topic(&c, "idempotent", 1, NULL), WIRE_NONE);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	copy_file(file, older);
	broker_up();
	c = client_connect();
	id = new_producer(&c);
	check_step(&c, id, 0);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	assert_int_equal(rename(older, file), 0);
	broker_up();
	c = client_connect();
	assert_true(new_producer(&c) > id);
	client_close(&c);
}

static void
many_producers_get_ids_of_their_own(void **state)
{
	struct wire_init_producer_id_request in;
	struct wire_init_producer_id_response out;
	struct client all[8];
	int64_t last[8], id, most = -1;
	int i, k;

	(void)state;
	wire_defaults(wire_init_producer_id_request_layout(), &in);
	for (i = 0; i < 8; i++) {
		all[i] = client_connect();
		last[i] = -1;
	}
	/* More than are reserved at a time, asked for side by side. */
	for (k = 0; k < 300; k++) {
		for (i = 0; i < 8; i++)
			client_send(&all[i], WIRE_API_InitProducerId, 4, &in);
		for (i = 0; i < 8; i++) {
			assert_int_equal(client_receive(&all[i],
					     WIRE_API_InitProducerId, 4, &out),
			    1);
			assert_int_equal(out.error_code, WIRE_NONE);
			id = out.producer_id;
			assert_true(id > last[i]);
			last[i] = id;
			if (id > most)
				most = id;
		}
	}
	/* 2,400 different ones, without a hole, are as many numbers. */
	assert_int_equal(most, 8 * 300 - 1);
	for (i = 0; i < 8; i++)
		client_close(&all[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		batches_are_taken_or_refused_and_leave_nothing, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_request_of_many_batches_is_answered_one_by_one, begin, end),
	    cmocka_unit_test_setup_teardown(
		topics_are_named_by_id_from_version_13_on, begin, end),
	    cmocka_unit_test_setup_teardown(transactions_are_refused, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		acks_0_is_not_answered_and_hangs_up_on_errors, begin, end),
	    cmocka_unit_test_setup_teardown(
		who_waits_for_the_disk_waits_for_no_others_records,
		begin_rarely, end),
	    cmocka_unit_test_setup_teardown(
		much_that_nobody_waits_for_is_flushed_in_turns, begin_rarely,
		end),
	    cmocka_unit_test_setup_teardown(
		requests_that_follow_one_another_are_answered_in_order, begin,
		end),
	    cmocka_unit_test_setup_teardown(append_time_is_the_brokers, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		producers_are_held_to_epoch_and_sequence_over_a_restart, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		ids_that_a_log_has_are_not_given_out_again, begin, end),
	    cmocka_unit_test_setup_teardown(many_producers_get_ids_of_their_own,
		begin, end),
	};

	return (
	    cmocka_run_group_tests_name("broker_produce", tests, NULL, NULL));
}
