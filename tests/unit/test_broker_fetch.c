/*
 * broker: Fetch, from bytes to bytes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker_fixture.h"

#define LONG_MS 20000

static int
begin(void **state)
{

	(void)state;
	broker_begin(NULL);
	return (0);
}

static int
begin_with_many(void **state)
{
	static const char *const flags[] = {"--partitions-most", "10000", NULL};

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

/* Ten records, of offsets 0 to 9, the first three deleted. */
static void
fill(struct client *c, const char *topic)
{
	int i;

	assert_int_equal(make_topic(c, topic, 1, NULL), WIRE_NONE);
	for (i = 0; i < 10; i++)
		assert_int_equal(produce_one(c, topic, "k", 100,
				     clock_wall_ms()),
		    i);
	assert_int_equal(delete_records(c, topic, 0, 3).low_watermark, 3);
}

static const struct asked {
	const char *topic;
	int32_t partition;
	int64_t offset;
	int32_t epoch;
	int16_t error;
	int64_t first; /* base offset of what comes; -1: nothing */
} table[] = {
    {"ten", 0, 3, -1, WIRE_NONE, 3},
    {"ten", 0, 9, -1, WIRE_NONE, 9},
    {"ten", 0, 10, -1, WIRE_NONE, -1}, /* the end: nothing yet */
    {"ten", 0, 2, -1, WIRE_OFFSET_OUT_OF_RANGE, -1}, /* deleted */
    {"ten", 0, 11, -1, WIRE_OFFSET_OUT_OF_RANGE, -1},
    {"ten", 0, -1, -1, WIRE_OFFSET_OUT_OF_RANGE, -1},
    {"ten", 1, 0, -1, WIRE_UNKNOWN_TOPIC_OR_PARTITION, -1},
    {"ten", -1, 0, -1, WIRE_UNKNOWN_TOPIC_OR_PARTITION, -1},
    {"none", 0, 0, -1, WIRE_UNKNOWN_TOPIC_OR_PARTITION, -1},
    {"ten", 0, 3, 1, WIRE_NONE, 3}, /* the second start */
    {"ten", 0, 3, 0, WIRE_FENCED_LEADER_EPOCH, -1},
    {"ten", 0, 3, 2, WIRE_UNKNOWN_LEADER_EPOCH, -1},
};

static void
offsets_and_epochs_are_checked(void **state)
{
	struct wire_fetch_response_partition p;
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	size_t i;

	(void)state;
	fill(&c, "ten");
	client_close(&c);
	broker_restart();
	c = client_connect();
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		(void)fetch_ask(&ask, table[i].topic, table[i].offset, 0);
		ask.partition.partition = table[i].partition;
		ask.partition.current_leader_epoch = table[i].epoch;
		ask.partition.partition_max_bytes = 1;
		client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
		p = *only_partition(&out);
		if (p.error_code != table[i].error)
			fail_msg("case %zu: %d", i, p.error_code);
		if (table[i].first < 0) {
			assert_true(p.records.length <= 0);
		} else {
			/* One batch comes, however little is asked for. */
			assert_true(p.records.length > 61);
			assert_int_equal(get_i64(p.records.at), table[i].first);
			assert_int_equal(p.records.length,
			    12 + get_i32(p.records.at + 8));
		}
		assert_int_equal(p.high_watermark,
		    table[i].error == WIRE_NONE ? 10 : -1);
		assert_int_equal(p.log_start_offset,
		    table[i].error == WIRE_NONE ? 3 : -1);
	}
	client_close(&c);
}

/* It read what this log never had: of a broker that was put back, say. */
static void
who_has_read_in_an_epoch_to_come_starts_again(void **state)
{
	static const int16_t errors[] = {WIRE_NONE, WIRE_NONE, WIRE_NONE,
	    WIRE_OFFSET_OUT_OF_RANGE};
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int32_t epoch;

	(void)state;
	fill(&c, "ten");
	client_close(&c);
	broker_restart();
	c = client_connect();
	for (epoch = -1; epoch <= 2; epoch++) {
		(void)fetch_ask(&ask, "ten", 5, 0);
		ask.partition.last_fetched_epoch = epoch;
		client_call(&c, WIRE_API_Fetch, 12, &ask.in, &out);
		assert_int_equal(only_partition(&out)->error_code,
		    errors[epoch + 1]);
	}
	client_close(&c);
}

static void
limits_are_kept_to(void **state)
{
	static const struct {
		int32_t max_bytes, partition_max_bytes;
		int most; /* batches */
	} limits[] = {
	    {1 << 20, 1 << 20, 7},
	    {1, 1 << 20, 1},
	    {1 << 20, 1, 1},
	    {0, 0, 1},
	    {-1, -1, 1},
	    {400, 1 << 20, 2},
	};
	struct wire_fetch_response_partition p;
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int64_t size, whole;
	size_t i;

	(void)state;
	fill(&c, "ten");
	whole = fetch(&c, "ten", 3, 0).records.length / 7;
	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		(void)fetch_ask(&ask, "ten", 3, 0);
		ask.in.max_bytes = limits[i].max_bytes;
		ask.partition.partition_max_bytes = limits[i]
							.partition_max_bytes;
		client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
		p = *only_partition(&out);
		size = p.records.length;
		assert_int_equal(p.error_code, WIRE_NONE);
		assert_in_range(size, whole, whole * limits[i].most);
	}
	client_close(&c);
}

static void
sessions_are_declined(void **state)
{
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;

	(void)state;
	fill(&c, "ten");
	(void)fetch_ask(&ask, "ten", 3, 0);
	ask.in.session_epoch = 0; /* one is asked for */
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	assert_int_equal(out.session_id, 0);
	assert_true(only_partition(&out)->records.length > 0);
	ask.in.session_id = 7; /* and one that nobody gave */
	ask.in.session_epoch = 1;
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	assert_int_equal(out.error_code, WIRE_FETCH_SESSION_ID_NOT_FOUND);
	assert_int_equal(out.topics.count, 0);
	client_close(&c);
}

static void
topics_are_named_by_id_from_version_13_on(void **state)
{
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;

	(void)state;
	fill(&c, "ten");
	(void)fetch_ask(&ask, "", 3, 0);
	ask.topic.topic_id = topic_id(&c, "ten");
	client_call(&c, WIRE_API_Fetch, 13, &ask.in, &out);
	assert_true(only_partition(&out)->records.length > 0);
	ask.topic.topic_id.bytes[0] ^= 1;
	client_call(&c, WIRE_API_Fetch, 13, &ask.in, &out);
	assert_int_equal(only_partition(&out)->error_code,
	    WIRE_UNKNOWN_TOPIC_ID);
	client_close(&c);
}

/* ---- long polls --------------------------------------------------------- */

static void
a_fetch_without_records_waits_its_time(void **state)
{
	struct wire_fetch_response_partition p;
	struct client c = client_connect();
	int64_t began;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	client_settle(&c, "t");
	began = clock_mono_us();
	p = fetch(&c, "t", 0, 200);
	assert_int_equal(p.error_code, WIRE_NONE);
	assert_true(p.records.length <= 0);
	assert_true(clock_mono_us() - began >= 200000);
	client_close(&c);
}

/* The partitions that a client adds come with its next fetch. */
static void
a_fetch_of_other_partitions_waits_little(void **state)
{
	struct wire_fetch_request_partition both[2];
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int64_t began = clock_mono_us();

	(void)state;
	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	(void)fetch(&c, "t", 0, LONG_MS);
	client_settle(&c, "t");
	(void)fetch_ask(&ask, "t", 0, LONG_MS);
	both[0] = both[1] = ask.partition;
	both[1].partition = 1;
	ask.topic.partitions.at = both;
	ask.topic.partitions.count = 2;
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	assert_int_equal(out.topics.at[0].partitions.count, 2);
	assert_true(clock_mono_us() - began < INT64_C(1000) * LONG_MS / 2);
	client_close(&c);
}

/* Clients leave out partitions that they have records of. */
static void
a_fetch_of_fewer_partitions_waits_its_time_and_so_do_all_again(void **state)
{
	struct wire_fetch_request_partition both[2];
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int64_t began;
	int i;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	(void)fetch_ask(&ask, "t", 0, 200);
	both[0] = both[1] = ask.partition;
	both[1].partition = 1;
	ask.topic.partitions.at = both;
	ask.topic.partitions.count = 2;
	/* The broker's while began before the first answer. */
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	began = clock_mono_us();
	while (clock_mono_us() - began < 150000)
		client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	for (i = 0; i < 4; i++) {
		ask.topic.partitions.count = 1 + i % 2;
		began = clock_mono_us();
		client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
		assert_true(clock_mono_us() - began >= 200000);
	}
	client_close(&c);
}

/* What ends the wait of a fetch. */
enum event { RECORDS, DELETION, GONE };

static void
wake(struct client *c, enum event event)
{
	struct client writer = client_connect();

	if (event == RECORDS)
		(void)produce_one(&writer, "t", "k", 100, clock_wall_ms());
	else if (event == DELETION)
		assert_int_equal(delete_topic(&writer, "t"), WIRE_NONE);
	else
		client_close(c);
	client_close(&writer);
}

static void
a_waiting_fetch_is_ended_by(enum event event, int16_t error, int64_t bytes)
{
	const struct wire_fetch_response_partition *p;
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;

	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	client_settle(&c, "t");
	client_send(&c, WIRE_API_Fetch, 11, fetch_ask(&ask, "t", 0, LONG_MS));
	assert_false(is_answered_within(&c, 50));
	wake(&c, event);
	if (event == GONE)
		return;
	assert_true(is_answered_within(&c, LONG_MS / 2));
	assert_int_equal(client_receive(&c, WIRE_API_Fetch, 11, &out), 1);
	p = only_partition(&out);
	assert_int_equal(p->error_code, error);
	assert_true(
	    bytes == 0 ? p->records.length <= 0 : p->records.length > 0);
	client_close(&c);
}

static void
records_end_the_wait(void **state)
{

	(void)state;
	a_waiting_fetch_is_ended_by(RECORDS, WIRE_NONE, 1);
}

static void
deletion_of_the_topic_ends_the_wait(void **state)
{

	(void)state;
	a_waiting_fetch_is_ended_by(DELETION, WIRE_UNKNOWN_TOPIC_OR_PARTITION,
	    0);
}

static void
who_waits_may_go(void **state)
{
	struct client c;

	(void)state;
	a_waiting_fetch_is_ended_by(GONE, WIRE_NONE, 0);
	c = client_connect();
	assert_int_equal(produce_one(&c, "t", "k", 100, clock_wall_ms()), 0);
	client_close(&c);
}

static void
a_wait_is_for_min_bytes(void **state)
{
	struct client c = client_connect(), writer = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	client_settle(&c, "t");
	(void)fetch_ask(&ask, "t", 0, LONG_MS);
	ask.in.min_bytes = 2000;
	client_send(&c, WIRE_API_Fetch, 11, &ask.in);
	(void)produce_one(&writer, "t", "k", 900, clock_wall_ms());
	assert_false(is_answered_within(&c, 100));
	(void)produce_one(&writer, "t", "k", 900, clock_wall_ms());
	(void)produce_one(&writer, "t", "k", 900, clock_wall_ms());
	assert_true(is_answered_within(&c, LONG_MS / 2));
	assert_int_equal(client_receive(&c, WIRE_API_Fetch, 11, &out), 1);
	assert_true(only_partition(&out)->records.length >= 2000);
	client_close(&writer);
	client_close(&c);
}

static void
many_wait_and_all_are_woken(void **state)
{
	enum { READERS = 20 };
	struct client readers[READERS], writer = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int i;

	(void)state;
	assert_int_equal(make_topic(&writer, "t", 1, NULL), WIRE_NONE);
	for (i = 0; i < READERS; i++) {
		readers[i] = client_connect();
		client_settle(&readers[i], "t");
		client_send(&readers[i], WIRE_API_Fetch, 11,
		    fetch_ask(&ask, "t", 0, LONG_MS));
	}
	assert_false(is_answered_within(&readers[READERS - 1], 50));
	client_close(&readers[3]);
	(void)produce_one(&writer, "t", "k", 100, clock_wall_ms());
	for (i = 0; i < READERS; i++) {
		if (i == 3)
			continue;
		assert_true(is_answered_within(&readers[i], LONG_MS / 2));
		assert_int_equal(client_receive(&readers[i], WIRE_API_Fetch, 11,
				     &out),
		    1);
		assert_true(only_partition(&out)->records.length > 0);
		client_close(&readers[i]);
	}
	client_close(&writer);
}

/* Microseconds of a processor that the broker's loop has had. */
static int64_t
loop_cpu_us(void)
{
	clockid_t clock;
	struct timespec t;

	assert_int_equal(pthread_getcpuclockid(served.thread, &clock), 0);
	assert_int_equal(clock_gettime(clock, &t), 0);
	return ((int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000);
}

/* What it takes the loop to wake a fetch that names a partition ${times}. */
static int64_t
wake_us_of(const char *topic, int32_t times)
{
	struct wire_fetch_request_partition *parts;
	const struct timespec a_while = {.tv_nsec = 150000000};
	struct client c = client_connect(), writer = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int64_t began;
	int32_t i;

	assert_int_equal(make_topic(&c, topic, 1, NULL), WIRE_NONE);
	(void)fetch_ask(&ask, topic, 0, LONG_MS);
	ask.in.min_bytes = 1 << 30;
	parts = calloc((size_t)times, sizeof(*parts));
	assert_non_null(parts);
	for (i = 0; i < times; i++)
		parts[i] = ask.partition;
	ask.topic.partitions.at = parts;
	ask.topic.partitions.count = times;
	/* The first is answered soon, and what it asks is what settles. */
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	nanosleep(&a_while, NULL);
	client_send(&c, WIRE_API_Fetch, 11, &ask.in);
	assert_false(is_answered_within(&c, 50));
	began = loop_cpu_us();
	(void)produce_one(&writer, topic, "k", 100, clock_wall_ms());
	began = loop_cpu_us() - began;
	client_close(&writer);
	client_close(&c);
	free(parts);
	return (began);
}

/* Eight times as many take about as many times longer, and not their square. */
static void
a_fetch_is_looked_at_once_a_wake(void **state)
{
	int64_t few = wake_us_of("few", 1000), many = wake_us_of("many", 8000);

	(void)state;
	if (many > 30 * few)
		fail_msg("1000: %lld us, 8000: %lld us", (long long)few,
		    (long long)many);
}

static void
more_partitions_than_there_may_be_are_refused(void **state)
{
	static struct wire_fetch_request_partition parts[2001];
	struct client c = client_connect();
	struct wire_fetch_response out;
	struct fetch_ask ask;
	size_t i;

	(void)state;
	(void)fetch_ask(&ask, "t", 0, 0);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		parts[i] = ask.partition;
	ask.topic.partitions.at = parts;
	ask.topic.partitions.count = 2001;
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	assert_int_equal(out.error_code, WIRE_INVALID_REQUEST);
	ask.topic.partitions.count = 2000;
	client_call(&c, WIRE_API_Fetch, 11, &ask.in, &out);
	assert_int_equal(out.error_code, WIRE_NONE);
	assert_int_equal(out.topics.at[0].partitions.count, 2000);
	client_close(&c);
}

/* ---- damage ------------------------------------------------------------- */

/* The file that the broker keeps topic t's records in. */
static void
path_of_log(const struct wire_uuid *id, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/topics/", served.data);
	size_t i;

	for (i = 0; i < sizeof(id->bytes); i++)
		n += snprintf(path + n, size - (size_t)n, "%02x", id->bytes[i]);
	snprintf(path + n, size - (size_t)n, "/0/%020d.log", 0);
}

static void
a_damaged_range_is_an_error_and_the_rest_is_read(void **state)
{
	struct wire_fetch_response_partition p;
	struct client c = client_connect();
	struct wire_uuid id;
	char path[300];
	int64_t whole;
	uint8_t byte;
	int fd, i;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	for (i = 0; i < 200; i++)
		(void)produce_one(&c, "t", "k", 1000, clock_wall_ms());
	p = fetch(&c, "t", 0, 0);
	whole = 12 + get_i32(p.records.at + 8);
	id = topic_id(&c, "t");
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	path_of_log(&id, path, sizeof(path));
	assert_int_not_equal(fd = open(path, O_RDWR), -1);
	assert_int_equal(pread(fd, &byte, 1, whole * 100 + 500), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, whole * 100 + 500), 1);
	close(fd);
	broker_up();
	c = client_connect();
	assert_int_equal(fetch(&c, "t", 100, 0).error_code,
	    WIRE_CORRUPT_MESSAGE);
	p = fetch(&c, "t", 199, 0);
	assert_int_equal(p.error_code, WIRE_NONE);
	assert_int_equal(get_i64(p.records.at), 199);
	p = fetch(&c, "t", 0, 0);
	assert_int_equal(p.error_code, WIRE_NONE);
	assert_in_range(p.records.length, whole, whole * 100);
	client_close(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(offsets_and_epochs_are_checked,
		begin, end),
	    cmocka_unit_test_setup_teardown(
		who_has_read_in_an_epoch_to_come_starts_again, begin, end),
	    cmocka_unit_test_setup_teardown(limits_are_kept_to, begin, end),
	    cmocka_unit_test_setup_teardown(sessions_are_declined, begin, end),
	    cmocka_unit_test_setup_teardown(
		topics_are_named_by_id_from_version_13_on, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_fetch_without_records_waits_its_time, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_fetch_of_other_partitions_waits_little, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_fetch_of_fewer_partitions_waits_its_time_and_so_do_all_again,
		begin, end),
	    cmocka_unit_test_setup_teardown(records_end_the_wait, begin, end),
	    cmocka_unit_test_setup_teardown(deletion_of_the_topic_ends_the_wait,
		begin, end),
	    cmocka_unit_test_setup_teardown(who_waits_may_go, begin, end),
	    cmocka_unit_test_setup_teardown(a_wait_is_for_min_bytes, begin,
		end),
	    cmocka_unit_test_setup_teardown(many_wait_and_all_are_woken, begin,
		end),
	    cmocka_unit_test_setup_teardown(a_fetch_is_looked_at_once_a_wake,
		begin_with_many, end),
	    cmocka_unit_test_setup_teardown(
		more_partitions_than_there_may_be_are_refused, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_damaged_range_is_an_error_and_the_rest_is_read, begin, end),
	};

	return (cmocka_run_group_tests_name("broker_fetch", tests, NULL, NULL));
}
