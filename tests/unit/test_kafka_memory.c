/*
 * kafka: memory runs out once, at each allocation of a client's life, against
 * librdkafka's mock cluster.  What fails says so and can be done again; or a
 * consumer says that it can't go on, and never reads some of its partitions as
 * if they were all.  Nothing is left behind, and the next client works.
 *
 * Only this module's own allocations fail: librdkafka gives up the process for
 * one of its.  It is in the same binary, so the linker can't tell them apart,
 * and the module's files that allocate are compiled in here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka_internal.h"

static int64_t to_go; /* until the one that fails; 0 and below: none does */
static int64_t
    alive; /* made and not freed; strdup's are librdkafka's to free */

static int
gone(void)
{
	return (to_go > 0 && --to_go == 0);
}

static void *
our_calloc(size_t n, size_t size)
{
	void *p = gone() ? NULL : calloc(n, size);

	alive += p != NULL;
	return (p);
}

static void *
our_reallocarray(void *p, size_t n, size_t size)
{
	void *grown = gone() ? NULL : reallocarray(p, n, size);

	alive += p == NULL && grown != NULL;
	return (grown);
}

static void
our_free(void *p)
{
	alive -= p != NULL;
	free(p);
}

static char *
our_strdup(const char *text)
{
	return (gone() ? NULL : strdup(text));
}

static void *
our_mem_malloc(rd_kafka_t *client, size_t size)
{
	return (gone() ? NULL : rd_kafka_mem_malloc(client, size));
}

#define malloc(size) our_calloc(1, size)
#define calloc(n, size) our_calloc(n, size)
#define realloc(p, size) our_reallocarray(p, 1, size)
#define reallocarray(p, n, size) our_reallocarray(p, n, size)
#define free(p) our_free(p)
#define strdup(text) our_strdup(text)
#define rd_kafka_mem_malloc(client, size) our_mem_malloc(client, size)
#define defaults consumer_defaults
#define fixed consumer_fixed
#define take_error consumer_take_error
#define take_stats consumer_take_stats
#include "kafka/kafka_consumer.c" /* NOLINT(bugprone-suspicious-include) */
#undef defaults
#undef fixed
#undef take_error
#undef take_stats
#define defaults producer_defaults
#define fixed producer_fixed
#define take_error producer_take_error
#include "kafka/kafka_producer.c" /* NOLINT(bugprone-suspicious-include) */
#undef defaults
#undef fixed
#undef take_error
#include "kafka/kafka_admin.c" /* NOLINT(bugprone-suspicious-include) */
#include "kafka/kafka_admin_topics.c" /* NOLINT(bugprone-suspicious-include) */
#undef malloc
#undef calloc
#undef realloc
#undef reallocarray
#undef free
#undef strdup
#undef rd_kafka_mem_malloc

#define DEADLINE_US (INT64_C(30) * 1000 * 1000)
#define WAIT_MS 20000
#define FEW 2
#define MANY 9 /* more than are made room for at first */
#define ALL (FEW + MANY)

static rd_kafka_t *mock_client;
static rd_kafka_mock_cluster_t *mock;
static struct kafka_conf conf;
static const char *const topics[] = {"few", "many"};

/* One that failed, for want of memory. */
static void
memory_is_why(const struct mr_error *err, enum mr_error_kind kind)
{
	if (err->kind != kind || strstr(err->message, "memory") == NULL)
		fail_msg("kind %d: %s", (int)err->kind, err->message);
}

/* Have each allocation of ${life} fail, one a life; then none does. */
static void
fail_each(void (*life)(void), int64_t least)
{
	int64_t n = 0, left;

	alive = 0; /* a test that failed may have left some */
	do {
		to_go = ++n;
		life();
		left = to_go;
		to_go = 0;
		if (alive != 0)
			fail_msg("allocation %lld failed: %lld are left",
			    (long long)n, (long long)alive);
	} while (left == 0);
	print_message("# %lld allocations\n", (long long)n - 1);
	assert_true(n - 1 >= least);
}

/* ---- consumers ---------------------------------------------------------- */

struct reader {
	struct kafka_consumer *consumer;
	int owned;
	int fatal;
	int past_limit;
};

static void
on_assign(void *arg, struct kafka_position *positions, int count)
{
	struct reader *reader = arg;
	int i;

	for (i = 0; i < count; i++)
		positions[i].offset = 0;
	reader->owned += count;
}

static void
on_revoke(void *arg, const struct kafka_position *positions, int count,
    int lost)
{
	struct reader *reader = arg;

	(void)positions, (void)lost;
	reader->owned -= count;
}

static void
on_error(void *arg, const char *what, int fatal)
{
	struct reader *reader = arg;

	if (fatal && strstr(what, "memory") == NULL)
		fail_msg("%s", what);
	reader->fatal += fatal;
	reader->past_limit += !fatal && strstr(what, "at most") != NULL;
}

static const struct kafka_group_handlers handlers = {on_assign, on_revoke,
    on_error};

/* Read ${count} partitions to their ends, of one record each: 0, or -1 if the
 * consumer has said that it can't go on. */
static int
read_to_the_ends(struct reader *reader, int count)
{
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	struct kafka_record r[ALL];
	int n, i, got = 0, ends = 0;

	while (got < count || ends < count) {
		n = kafka_consumer_poll(reader->consumer, r, ALL, 100);
		for (i = 0; i < n; i++) {
			assert_false(r[i].out_of_range);
			ends += r[i].end_of_partition;
			got += !r[i].end_of_partition;
			kafka_record_free(&r[i]);
		}
		if (reader->fatal)
			return (-1);
		if (clock_mono_us() > deadline)
			fail_msg("%d records and %d ends of %d partitions", got,
			    ends, count);
	}
	assert_int_equal(got, count);
	return (0);
}

/* Tell the group, and have it told; the metadata is never left out. */
static void
commit(struct reader *reader)
{
	const struct kafka_position at = {.topic = "few",
	    .offset = 1,
	    .leader_epoch = -1};
	int64_t deadline = clock_mono_us() + DEADLINE_US, offset = -1;
	struct kafka_record r;
	struct mr_error err;
	char metadata[24];

	if (kafka_consumer_commit(reader->consumer, &at, 1, "an id", &err) !=
	    0) {
		memory_is_why(&err, MR_RETRY);
		assert_int_equal(kafka_consumer_committing(reader->consumer),
		    0);
		assert_int_equal(kafka_consumer_commit(reader->consumer, &at, 1,
				     "an id", &err),
		    0);
	}
	while (kafka_consumer_committing(reader->consumer) > 0 &&
	    clock_mono_us() < deadline)
		assert_int_equal(kafka_consumer_poll(reader->consumer, &r, 1,
				     20),
		    0);
	assert_int_equal(kafka_consumer_commit_failures(reader->consumer), 0);
	assert_int_equal(kafka_consumer_committed(reader->consumer, "few", 0,
			     &offset, metadata, sizeof(metadata), WAIT_MS,
			     &err),
	    0);
	assert_int_equal(offset, 1);
	assert_string_equal(metadata, "an id");
}

/* 0, or -1 if it could not be given what is its to read. */
static int
member_runs(struct reader *reader)
{
	const struct kafka_position first = {.topic = "many",
	    .partition = MANY - 1,
	    .leader_epoch = -1};
	struct mr_error err;

	if (kafka_consumer_subscribe(reader->consumer, topics, 2, &err) != 0) {
		memory_is_why(&err, MR_FATAL);
		assert_int_equal(kafka_consumer_subscribe(reader->consumer,
				     topics, 2, &err),
		    0);
	}
	if (read_to_the_ends(reader, ALL) != 0) {
		assert_int_equal(reader->owned, 0);
		return (-1);
	}
	assert_int_equal(reader->owned, ALL);
	commit(reader);
	assert_int_equal(kafka_consumer_seek(reader->consumer, &first, &err),
	    0);
	assert_int_equal(read_to_the_ends(reader, 1), 0);
	return (0);
}

/* Each in a group of its own: the mock waits for who has left one. */
static void
member_lives(void)
{
	static int lives;
	struct reader reader = {.owned = 0};
	struct mr_error err;
	char group[24];
	int status;

	snprintf(group, sizeof(group), "group-%d", ++lives);
	reader.consumer = kafka_consumer_new(&conf, group, &handlers, &reader,
	    &err);
	if (reader.consumer == NULL) {
		memory_is_why(&err, MR_FATAL);
		return;
	}
	status = member_runs(&reader);
	kafka_consumer_free(reader.consumer);
	/* What it had was taken from it, or it has said that it can't be. */
	assert_int_equal(reader.fatal, status != 0 || reader.owned != 0);
}

static void
any_allocation_of_a_group_member_may_fail(void **state)
{
	(void)state;
	fail_each(member_lives, 10);
}

/* Read all partitions, and then a topic's alone; -1 without memory. */
static int
loner_runs(struct reader *reader, struct mr_error *err)
{
	struct kafka_position at[ALL];
	int i;

	for (i = 0; i < ALL; i++)
		at[i] = (struct kafka_position){.topic = topics[i >= FEW],
		    .partition = i < FEW ? i : i - FEW,
		    .leader_epoch = -1};
	if (kafka_consumer_assign(reader->consumer, at, ALL, err) != 0)
		return (-1);
	assert_int_equal(read_to_the_ends(reader, ALL), 0);
	if (kafka_consumer_assign(reader->consumer, at, FEW, err) != 0)
		return (-1);
	assert_int_equal(read_to_the_ends(reader, FEW), 0);
	return (0);
}

static void
loner_lives(void)
{
	struct reader reader = {.owned = 0};
	struct mr_error err;

	reader.consumer = kafka_consumer_new(&conf, NULL, &handlers, &reader,
	    &err);
	if (reader.consumer == NULL || loner_runs(&reader, &err) != 0)
		memory_is_why(&err, MR_FATAL);
	kafka_consumer_free(reader.consumer);
}

static void
any_allocation_of_a_reader_without_a_group_may_fail(void **state)
{
	(void)state;
	fail_each(loner_lives, 9);
}

/* The limit isn't memory's: it goes on with the others. */
static void
a_partition_past_the_limit_is_told_and_the_others_are_read(void **state)
{
	struct reader reader = {.owned = 0};
	rd_kafka_topic_partition_list_t *list;
	struct kafka_position *positions;
	struct kafka_consumer *consumer;
	struct mr_error err;
	int count;

	(void)state;
	consumer = kafka_consumer_new(&conf, "group", &handlers, &reader, &err);
	assert_non_null(consumer);
	assert_non_null(topic_add(consumer, "few", 0, &err));
	list = rd_kafka_topic_partition_list_new(2);
	rd_kafka_topic_partition_list_add(list, "few", KAFKA_PARTITIONS_MAX);
	rd_kafka_topic_partition_list_add(list, "few", 1);
	positions = positions_new(consumer, list, 1, &count);
	assert_int_equal(count, 1);
	assert_int_equal(positions[0].partition, 1);
	assert_int_equal(reader.fatal, 0);
	assert_int_equal(reader.past_limit, 1);
	our_free(positions);
	rd_kafka_topic_partition_list_destroy(list);
	kafka_consumer_free(consumer);
	assert_int_equal(alive, 0);
}

/* ---- a producer --------------------------------------------------------- */

static void
on_report(void *arg, const struct kafka_report *report)
{
	int *acknowledged = arg;

	assert_int_equal(report->kind, MR_OK);
	(*acknowledged)++;
}

static void
send_one(struct kafka_producer *producer, const char *topic, int partition)
{
	static const struct kafka_header headers[] = {{"ce_id", "1", 1},
	    {"none", NULL, 0}};
	struct mr_error err;

	assert_int_equal(kafka_producer_send(producer, topic, partition, "k", 1,
			     "v", 1, headers, 2, 0, NULL, &err),
	    0);
}

/* Send a record and, with it, a position of a group.  The mock keeps none, so
 * that it was sent whole is known by what is said alone. */
static void
transact(struct kafka_producer *producer)
{
	const struct kafka_position at = {.topic = "few", .offset = 1};
	struct mr_error err;
	int64_t left;
	int sent;

	assert_int_equal(kafka_producer_begin(producer, WAIT_MS, &err), 0);
	send_one(producer, "sent", 0);
	assert_int_equal(kafka_producer_flush(producer, WAIT_MS, &err), 0);
	assert_int_equal(kafka_producer_in_flight(producer), 0);
	left = to_go;
	sent = kafka_producer_send_position(producer, "sender", &at, "an id",
	    WAIT_MS, &err);
	if (left > 0 && to_go == 0) {
		assert_int_equal(sent, -1);
		memory_is_why(&err, MR_RETRY);
		sent = kafka_producer_send_position(producer, "sender", &at,
		    "an id", WAIT_MS, &err);
	}
	assert_int_equal(sent, 1);
	assert_int_equal(kafka_producer_commit(producer, WAIT_MS, &err), 1);
}

static void
producer_lives(void)
{
	struct kafka_producer *producer;
	struct mr_error err;
	int acknowledged = 0;

	producer = kafka_producer_new(&conf, KAFKA_TRANSACTIONAL, on_report,
	    &acknowledged, &err);
	if (producer == NULL) {
		memory_is_why(&err, MR_FATAL);
		return;
	}
	transact(producer);
	assert_int_equal(acknowledged, 1);
	kafka_producer_free(producer);
}

static void
any_allocation_of_a_producer_may_fail(void **state)
{
	(void)state;
	fail_each(producer_lives, 2);
}

/* ---- an admin client ---------------------------------------------------- */

static void
describe(struct kafka_admin *admin)
{
	struct kafka_topic_state states[] = {{.name = "few"}, {.name = "many"}};
	struct mr_error err;

	if (kafka_admin_describe(admin, states, 2, WAIT_MS, &err) != 0) {
		memory_is_why(&err, MR_FATAL);
		assert_int_equal(kafka_admin_describe(admin, states, 2, WAIT_MS,
				     &err),
		    0);
	}
	assert_int_equal(states[0].partitions, FEW);
	assert_int_equal(states[1].partitions, MANY);
}

/* The mock can't make a topic: what comes behind is as if it were refused. */
static void
ensure(struct kafka_admin *admin)
{
	static const char *const missing[] = {"alerts"};
	struct mr_error err;

	assert_int_equal(kafka_admin_ensure(admin, missing, 1, WAIT_MS, &err),
	    -1);
	if (err.kind != MR_REJECT || strstr(err.message, "create") == NULL) {
		memory_is_why(&err, MR_FATAL);
		assert_int_equal(kafka_admin_ensure(admin, missing, 1, WAIT_MS,
				     &err),
		    -1);
	}
	assert_int_equal(err.kind, MR_REJECT);
}

static void
admin_lives(void)
{
	struct kafka_admin *admin;
	struct mr_error err;

	if ((admin = kafka_admin_new(&conf, &err)) == NULL) {
		memory_is_why(&err, MR_FATAL);
		return;
	}
	describe(admin);
	ensure(admin);
	kafka_admin_free(admin);
}

static void
any_allocation_of_an_admin_client_may_fail(void **state)
{
	(void)state;
	fail_each(admin_lives, 5);
}

/* ---- the cluster -------------------------------------------------------- */

/* A record in each partition of ${topic}. */
static void
make_topic(struct kafka_producer *producer, const char *topic, int partitions)
{
	int i;

	assert_int_equal(rd_kafka_mock_topic_create(mock, topic, partitions, 1),
	    0);
	for (i = 0; i < partitions; i++)
		send_one(producer, topic, i);
}

static int
setup(void **state)
{
	rd_kafka_conf_t *settings = rd_kafka_conf_new();
	struct kafka_producer *producer;
	struct mr_error err;
	char why[200];
	int acknowledged = 0;

	(void)state;
	log_init("test", LOG_LOGFMT, LOG_ERROR);
	rd_kafka_conf_set(settings, "bootstrap.servers", "127.0.0.1:1", NULL,
	    0);
	rd_kafka_conf_set_log_cb(settings, NULL);
	mock_client = rd_kafka_new(RD_KAFKA_PRODUCER, settings, why,
	    sizeof(why));
	if (mock_client == NULL ||
	    (mock = rd_kafka_mock_cluster_new(mock_client, 1)) == NULL)
		return (-1);
	rd_kafka_mock_group_initial_rebalance_delay_ms(mock, 0);
	rd_kafka_mock_set_controller_id(mock, 1);
	conf.brokers = rd_kafka_mock_cluster_bootstraps(mock);
	conf.client_id = "test";
	conf.transactional_id = "sender";
	if ((producer = kafka_producer_new(&conf, KAFKA_AT_LEAST_ONCE,
		 on_report, &acknowledged, &err)) == NULL)
		return (-1);
	make_topic(producer, "few", FEW);
	make_topic(producer, "many", MANY);
	make_topic(producer, "sent", 1);
	if (kafka_producer_flush(producer, WAIT_MS, &err) != 0)
		return (-1);
	kafka_producer_free(producer);
	return (0);
}

static int
teardown(void **state)
{
	(void)state;
	rd_kafka_mock_cluster_destroy(mock);
	rd_kafka_destroy(mock_client);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(any_allocation_of_a_group_member_may_fail),
	    cmocka_unit_test(
		any_allocation_of_a_reader_without_a_group_may_fail),
	    cmocka_unit_test(
		a_partition_past_the_limit_is_told_and_the_others_are_read),
	    cmocka_unit_test(any_allocation_of_a_producer_may_fail),
	    cmocka_unit_test(any_allocation_of_an_admin_client_may_fail),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}
