/*
 * pkg/kafka against librdkafka's mock cluster, in this process.
 */
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka.h"
#include "kafka/kafka_internal.h"

#define API_PRODUCE 0 /* numbers of Kafka's protocol */
#define API_FETCH 1
#define API_OFFSET_FETCH 9
#define DEADLINE_US (INT64_C(60) * 1000 * 1000)
#define MOST 512

static rd_kafka_t *mock_client;
static rd_kafka_mock_cluster_t *mock;
static struct kafka_conf conf;

static int
start_mock(void **state)
{
	rd_kafka_conf_t *settings = rd_kafka_conf_new();
	char why[200];

	(void)state;
	log_init("test_kafka", LOG_LOGFMT, LOG_ERROR);
	rd_kafka_conf_set(settings, "bootstrap.servers", "127.0.0.1:1", NULL,
	    0);
	rd_kafka_conf_set_log_cb(settings, NULL);
	mock_client = rd_kafka_new(RD_KAFKA_PRODUCER, settings, why,
	    sizeof(why));
	if (mock_client == NULL)
		return (-1);
	mock = rd_kafka_mock_cluster_new(mock_client, 1);
	if (mock == NULL)
		return (-1);
	rd_kafka_mock_group_initial_rebalance_delay_ms(mock, 0);
	rd_kafka_mock_set_controller_id(mock, 1);
	conf.brokers = rd_kafka_mock_cluster_bootstraps(mock);
	conf.client_id = "test";
	return (0);
}

static int
stop_mock(void **state)
{

	(void)state;
	rd_kafka_mock_cluster_destroy(mock);
	rd_kafka_destroy(mock_client);
	return (0);
}

static void
make_topic(const char *name, int partitions)
{

	assert_int_equal(rd_kafka_mock_topic_create(mock, name, partitions, 1),
	    0);
}

/* ---- without a cluster -------------------------------------------------- */

static void
keys_go_to_the_partitions_that_java_chooses(void **state)
{
	/* From org.apache.kafka.common.utils.Utils of kafka-clients 4.1.1:
	 * toPositive(murmur2(key)) modulo 3, 1000 and 2^31 - 1. */
	static const struct {
		const char *key;
		size_t size;
		int of_3, of_1000, of_most;
	} cases[] = {
	    {"", 0, 0, 681, 275646681},
	    {"a", 1, 1, 524, 584102524},
	    {"ab", 2, 2, 434, 316155434},
	    {"abc", 3, 0, 107, 479470107},
	    {"Laptop", 6, 1, 903, 554509903},
	    {"kafka", 5, 1, 580, 1348980580},
	    {"AAPL", 4, 0, 177, 1691292177},
	    {"0192f0c1-7b5e-7c3a-9d53-0242ac120002", 36, 0, 22, 1984349022},
	    {"\xff\xfe\x80\x00\x01", 5, 0, 733, 2034974733},
	    {"\x00\x00\x00\x00", 4, 1, 120, 850957120},
	    {"giberish123456789", 17, 2, 820, 257239820},
	    {"\xc3\xbc\xe4\xb8\xad", 5, 2, 334, 11206334},
	};
	int64_t sum = 0;
	char key[32];
	size_t i;
	int n;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(kafka_partition_of(cases[i].key, cases[i].size,
				     3),
		    cases[i].of_3);
		assert_int_equal(kafka_partition_of(cases[i].key, cases[i].size,
				     1000),
		    cases[i].of_1000);
		assert_int_equal(kafka_partition_of(cases[i].key, cases[i].size,
				     INT32_MAX),
		    cases[i].of_most);
	}
	/* And a hundred thousand of them, folded. */
	for (i = 0; i < 100000; i++) {
		n = snprintf(key, sizeof(key), "key-%zu", i);
		sum = (sum * 31 +
			  kafka_partition_of(key, (size_t)n, INT32_MAX) %
			      1000003) %
		    1000000007;
	}
	assert_int_equal(sum, 770072402);
}

static void
topics_are_declared_once_and_dead_letters_for_any_program(void **state)
{
	static const struct {
		const char *name;
		int partitions;
		int64_t retention_ms;
		int compacted;
	} cases[] = {
	    {"order-events", 3, -1, 0},
	    {"inventory-events", 3, -1, 0},
	    {"stock-prices", 3, 604800000, 0},
	    {"user-events", 3, 0, 0},
	    {"application-logs", 2, 0, 0},
	    {"application-errors", 2, 0, 0},
	    {"system-metrics", 4, 0, 0},
	    {"alerts", 1, 0, 0},
	    {"calls", 3, 0, 0},
	    {"hello", 3, 0, 0},
	    {"_schemas", 1, 0, 1},
	    {"orders.dead-letter", 1, -1, 0},
	    {"my-own.dead-letter", 1, -1, 0},
	};
	static const char *const strangers[] = {"", "orders", "dead-letter",
	    ".dead-letter", "a b.dead-letter", "x.dead-letter.y"};
	const struct kafka_topic *topic;
	char longest[300];
	size_t i;
	int count;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		topic = kafka_topic_find(cases[i].name);
		assert_non_null(topic);
		assert_string_equal(topic->name, cases[i].name);
		assert_int_equal(topic->partitions, cases[i].partitions);
		assert_int_equal(topic->retention_ms, cases[i].retention_ms);
		assert_int_equal(topic->compacted, cases[i].compacted);
	}
	for (i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++)
		assert_null(kafka_topic_find(strangers[i]));
	memset(longest, 'a', sizeof(longest));
	strcpy(longest + 250 - strlen(".dead-letter"), ".dead-letter");
	assert_null(kafka_topic_find(longest));
	assert_non_null(kafka_topic_find(longest + 1));
	topic = kafka_topic_list(&count);
	assert_int_equal(count, 11);
	assert_string_equal(topic[0].name, "order-events");
}

/* Whether a producer can be made with ${property}; what was said otherwise. */
static int
takes_property(const char *property, struct mr_error *err)
{
	struct kafka_conf with = {.brokers = "localhost:1",
	    .client_id = "test"};
	struct kafka_producer *producer;

	with.properties.items[0] = property;
	with.properties.count = 1;
	producer = kafka_producer_new(&with, KAFKA_EXACTLY_ONCE, NULL, NULL,
	    err);
	if (producer == NULL)
		return (0);
	kafka_producer_free(producer);
	return (1);
}

static void
properties_that_guarantees_rest_on_are_refused_by_name(void **state)
{
	static const char *const cases[] = {"enable.auto.commit=true",
	    "auto.commit.enable=true", "enable.auto.offset.store=true",
	    "auto.offset.reset=earliest", "isolation.level=read_uncommitted",
	    "enable.partition.eof=false", "enable.idempotence=false", "acks=0",
	    "request.required.acks=1", "max.in.flight=5",
	    "max.in.flight.requests.per.connection=5", "transactional.id=x",
	    "group.id=x", "group.protocol=consumer",
	    "enable.gapless.guarantee=false", "message.timeout.ms=1000",
	    "delivery.timeout.ms=1000", "partition.assignment.strategy=range",
	    "delivery.report.only.error=true", "retries=0",
	    "queuing.strategy=lifo", "partitioner=random", "check.crcs=false",
	    " acks = 1", "bootstrap.servers=x:1", "topic.queuing.strategy=lifo",
	    "topic.acks=0", "topic.auto.offset.reset=earliest"};
	struct mr_error err;
	char name[80];
	size_t i, length;
	const char *from;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_false(takes_property(cases[i], &err));
		assert_int_equal(err.kind, MR_REJECT);
		from = cases[i] + strspn(cases[i], " ");
		length = strcspn(from, " =");
		snprintf(name, sizeof(name),
		    "property %.*s can't be set: ", (int)length, from);
		assert_non_null(strstr(err.message, name));
	}
}

/* From a property of a client without any of its own. */
static int
milliseconds_of(rd_kafka_conf_t *settings, const char *name)
{
	char value[24];
	size_t size = sizeof(value);

	assert_int_equal(rd_kafka_conf_get(settings, name, value, &size),
	    RD_KAFKA_CONF_OK);
	return ((int)strtol(value, NULL, 10));
}

static void
a_network_that_was_silent_is_found_again_within_15_s(void **state)
{
	static const struct setting none[] = {{NULL, NULL}};
	rd_kafka_conf_t *settings;
	struct mr_error err;
	int connecting_ms;

	(void)state;
	settings = client_conf_new(&conf, none, none, NULL, &err);
	assert_non_null(settings);
	/* An attempt that began during the silence, the pause, and the next. */
	connecting_ms = milliseconds_of(settings,
	    "socket.connection.setup.timeout.ms");
	assert_true(connecting_ms +
		milliseconds_of(settings, "reconnect.backoff.max.ms") * 3 / 2 <=
	    15000 - 4000);
	/* Or an attempt of TCP's, twice as late as the request's. */
	assert_true(milliseconds_of(settings, "socket.timeout.ms") <= 10000);
	rd_kafka_conf_destroy(settings);
}

static void
other_properties_pass_and_librdkafka_judges_them(void **state)
{
	static const struct {
		const char *property;
		int taken;
		const char *says;
	} cases[] = {
	    {"linger.ms=7", 1, NULL},
	    {" compression.type = zstd ", 1, NULL},
	    {"fetch.wait.max.ms=100", 1, NULL},
	    {"security.protocol=plaintext", 1, NULL},
	    {"no.such.thing=1", 0, "no.such.thing"},
	    {"linger.ms=soon", 0, "linger.ms"},
	    {"linger.ms", 0, "key=value"},
	    {"sasl.password=hunter2", 0, "--properties-file"},
	    {"ssl.key.password=hunter2", 0, "--properties-file"},
	};
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(takes_property(cases[i].property, &err),
		    cases[i].taken);
		if (cases[i].taken)
			continue;
		assert_int_equal(err.kind, MR_REJECT);
		assert_non_null(strstr(err.message, cases[i].says));
		assert_null(strstr(err.message, "hunter2"));
	}
}

static void
properties_files_must_be_private_and_errors_name_the_line(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *says; /* NULL: taken */
	} cases[] = {
	    {"", 0600, NULL},
	    {"# a comment\n\n  linger.ms = 3\r\nsasl.password=a=b\n", 0400,
		NULL},
	    {"linger.ms=3", 0600, NULL},
	    {"linger.ms=3\n", 0644, "chmod 600"},
	    {"linger.ms=3\n", 0660, "chmod 600"},
	    {"linger.ms=3\n", 0604, "chmod 600"},
	    {"linger.ms=3\nacks=1\n", 0600, "line 2: Kafka property acks"},
	    {"#\nnonsense\n", 0600, "line 2"},
	    {"no.such=1\n", 0600, "line 1"},
	    {"ssl.key.location=/proc/version\n", 0600, "can be read"},
	    {"\nssl.keystore.location = /proc/version\n", 0600, "line 2"},
	    {"ssl.key.location=/nonesuch\n", 0600, NULL},
	    {"ssl.ca.location=/proc/version\n", 0600, NULL},
	};
	struct rlimit dumps = {0, 0};
	struct kafka_conf with = {.brokers = "localhost:1",
	    .client_id = "test"};
	struct kafka_admin *admin;
	struct mr_error err;
	char path[] = "/tmp/test_kafka.XXXXXX";
	size_t i;
	int fd;

	(void)state;
	assert_int_not_equal(fd = mkstemp(path), -1);
	with.properties_file = path;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, cases[i].text,
				     strlen(cases[i].text), 0),
		    (ssize_t)strlen(cases[i].text));
		assert_int_equal(fchmod(fd, cases[i].mode), 0);
		admin = kafka_admin_new(&with, &err);
		if (cases[i].says == NULL) {
			assert_non_null(admin);
		} else {
			assert_null(admin);
			assert_int_equal(err.kind, MR_REJECT);
			assert_non_null(strstr(err.message, cases[i].says));
		}
		kafka_admin_free(admin);
	}
	/* Root's own may be for a group that services run in. */
	memset(&err, 0, sizeof(err));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(fchmod(fd, 0640), 0);
	admin = kafka_admin_new(&with, &err);
	assert_int_equal(admin != NULL, geteuid() == 0);
	kafka_admin_free(admin);
	close(fd);
	unlink(path);
	assert_null(kafka_admin_new(&with, &err));
	with.properties_file = "/tmp";
	assert_null(kafka_admin_new(&with, &err));
	assert_non_null(strstr(err.message, "no regular file"));
	/* Secrets may be in memory: no core. */
	assert_int_equal(getrlimit(RLIMIT_CORE, &dumps), 0);
	assert_true(dumps.rlim_max <= 1);
}

/* ---- producing ---------------------------------------------------------- */

struct reports {
	int count;
	int ok;
	int failed;
	int64_t last_offset;
	int last_tag;
	int disorder;
	enum mr_error_kind kind;
	char reason[120];
};

static void
on_report(void *arg, const struct kafka_report *report)
{
	struct reports *reports = arg;
	int tag = (int)(intptr_t)report->tag;

	reports->count++;
	if (tag != reports->last_tag + 1)
		reports->disorder++;
	reports->last_tag = tag;
	reports->last_offset = report->offset;
	if (report->kind == MR_OK) {
		reports->ok++;
		return;
	}
	reports->failed++;
	reports->kind = report->kind;
	snprintf(reports->reason, sizeof(reports->reason), "%s",
	    report->reason);
}

static int
send_one(struct kafka_producer *producer, const char *topic, int partition,
    const char *value, int tag, struct mr_error *err)
{

	return (kafka_producer_send(producer, topic, partition, "key", 3, value,
	    strlen(value), NULL, 0, 0, (void *)(intptr_t)tag, err));
}

/* Produce the numbers 0 to n-1 as text. */
static void
fill(const char *topic, int partition, int n)
{
	struct reports reports = {.last_tag = -1};
	struct kafka_producer *producer;
	struct mr_error err = {0};
	char value[16];
	int i;

	producer = kafka_producer_new(&conf, KAFKA_EXACTLY_ONCE, on_report,
	    &reports, &err);
	assert_non_null(producer);
	for (i = 0; i < n; i++) {
		snprintf(value, sizeof(value), "%d", i);
		assert_int_equal(send_one(producer, topic, partition, value, i,
				     &err),
		    0);
	}
	assert_int_equal(kafka_producer_flush(producer, 20000, &err), 0);
	assert_int_equal(reports.ok, n);
	assert_int_equal(reports.disorder, 0);
	kafka_producer_free(producer);
}

/* Two in a row to each partition, whatever the key; the ninth nowhere. */
static int
in_pairs(const void *key, size_t key_size, int64_t turn, int partitions)
{

	assert_int_equal(key_size, 3);
	assert_memory_equal(key, "key", 3);
	return (turn == 8 ? partitions : (int)(turn / 2 % partitions));
}

static void
on_partition_report(void *arg, const struct kafka_report *report)
{
	int *partitions = arg;

	partitions[(intptr_t)report->tag] = report->kind == MR_OK ?
	    report->partition :
	    -1;
}

static void
a_partitioner_is_asked_about_each_record_in_turn(void **state)
{
	static const int expected[] = {0, 0, 1, 1, 2, 2, 0, 0, -1};
	struct kafka_conf with = conf;
	struct kafka_producer *producer;
	struct mr_error err = {0};
	int partitions[9] = {0}, i;

	(void)state;
	make_topic("partitioned", 3);
	with.partitioner = in_pairs;
	producer = kafka_producer_new(&with, KAFKA_AT_LEAST_ONCE,
	    on_partition_report, partitions, &err);
	assert_non_null(producer);
	/* The ninth is refused at once where the topic is known by now. */
	for (i = 0; i < 9; i++)
		if (send_one(producer, "partitioned", -1, "value", i, &err) !=
		    0)
			partitions[i] = i == 8 ? -1 : -2;
	assert_int_equal(kafka_producer_flush(producer, 20000, &err), 0);
	assert_memory_equal(partitions, expected, sizeof(expected));
	kafka_producer_free(producer);
}

static void
reports_come_once_each_in_order_and_wake_the_descriptor(void **state)
{
	static const enum kafka_delivery deliveries[] = {KAFKA_AT_MOST_ONCE,
	    KAFKA_AT_LEAST_ONCE, KAFKA_EXACTLY_ONCE};
	int64_t deadline;
	size_t i;
	int k;

	(void)state;
	make_topic("reports", 1);
	for (i = 0; i < 3; i++) {
		struct reports reports = {.last_tag = -1};
		struct kafka_producer *producer;
		struct mr_error err = {0};
		struct pollfd ready = {.events = POLLIN};

		producer = kafka_producer_new(&conf, deliveries[i], on_report,
		    &reports, &err);
		assert_non_null(producer);
		ready.fd = kafka_producer_fd(producer);
		for (k = 0; k < 100; k++)
			assert_int_equal(send_one(producer, "reports", 0,
					     "value", k, &err),
			    0);
		assert_int_equal(kafka_producer_in_flight(producer), 100);
		deadline = clock_mono_us() + DEADLINE_US;
		while (reports.count < 100 && clock_mono_us() < deadline) {
			/* Nothing but the descriptor says when to poll. */
			assert_int_equal(poll(&ready, 1, 15000), 1);
			kafka_producer_poll(producer, 0);
		}
		assert_int_equal(reports.ok, 100);
		assert_int_equal(reports.disorder, 0);
		assert_int_equal(kafka_producer_in_flight(producer), 0);
		if (deliveries[i] != KAFKA_AT_MOST_ONCE)
			assert_true(reports.last_offset >= 99);
		assert_int_equal(kafka_producer_flush(producer, 0, &err), 0);
		kafka_producer_free(producer);
	}
}

static void
transient_refusals_are_retried_unseen(void **state)
{
	struct reports reports = {.last_tag = -1};
	struct kafka_producer *producer;
	struct mr_error err = {0};
	int i;

	(void)state;
	make_topic("retried", 1);
	rd_kafka_mock_push_request_errors(mock, API_PRODUCE, 3,
	    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
	    RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
	    RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
	producer = kafka_producer_new(&conf, KAFKA_EXACTLY_ONCE, on_report,
	    &reports, &err);
	assert_non_null(producer);
	for (i = 0; i < 20; i++)
		assert_int_equal(send_one(producer, "retried", 0, "value", i,
				     &err),
		    0);
	assert_int_equal(kafka_producer_flush(producer, 20000, &err), 0);
	assert_int_equal(reports.ok, 20);
	assert_int_equal(reports.disorder, 0);
	assert_int_equal(reports.last_offset, 19);
	kafka_producer_free(producer);
}

static void
a_refused_record_spends_an_exactly_once_producer_alone(void **state)
{
	static const struct {
		enum kafka_delivery delivery;
		int spent;
	} cases[] = {{KAFKA_AT_LEAST_ONCE, 0}, {KAFKA_EXACTLY_ONCE, 1}};
	size_t i;

	(void)state;
	make_topic("refused", 1);
	for (i = 0; i < 2; i++) {
		struct reports reports = {.last_tag = -1};
		struct kafka_producer *producer;
		struct mr_error err = {0};

		producer = kafka_producer_new(&conf, cases[i].delivery,
		    on_report, &reports, &err);
		assert_non_null(producer);
		rd_kafka_mock_push_request_errors(mock, API_PRODUCE, 1,
		    RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
		assert_int_equal(send_one(producer, "refused", 0, "value", 0,
				     &err),
		    0);
		kafka_producer_flush(producer, 10000, &err);
		assert_int_equal(reports.failed, 1);
		assert_int_equal(reports.kind, MR_REJECT);
		assert_int_equal(reports.last_offset, -1);
		memset(&err, 0, sizeof(err));
		if (cases[i].spent) {
			assert_int_equal(send_one(producer, "refused", 0,
					     "next", 1, &err),
			    -1);
			assert_int_equal(err.kind, MR_FATAL);
		} else {
			assert_int_equal(send_one(producer, "refused", 0,
					     "next", 1, &err),
			    0);
			kafka_producer_flush(producer, 10000, &err);
			assert_int_equal(reports.ok, 1);
		}
		kafka_producer_free(producer);
	}
}

static void
what_cant_be_sent_is_refused_at_once_and_a_full_queue_says_retry(void **state)
{
	struct kafka_conf small = conf;
	struct reports reports = {.last_tag = -1};
	struct kafka_header many[129];
	struct kafka_producer *producer;
	struct mr_error err = {0};
	char *large;
	int i;

	(void)state;
	small.properties.items[0] = "queue.buffering.max.messages=10";
	small.properties.items[1] = "linger.ms=1000";
	small.properties.count = 2;
	producer = kafka_producer_new(&small, KAFKA_EXACTLY_ONCE, on_report,
	    &reports, &err);
	assert_non_null(producer);
	assert_non_null(large = calloc(1, 2000000));
	assert_int_equal(kafka_producer_send(producer, "reports", 0, NULL, 0,
			     large, 2000000, NULL, 0, 0, NULL, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	free(large);
	for (i = 0; i < 129; i++)
		many[i] = (struct kafka_header){"h", "v", 1};
	assert_int_equal(kafka_producer_send(producer, "reports", 0, NULL, 0,
			     "v", 1, many, 129, 0, NULL, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	for (i = 0; i < 10; i++)
		assert_int_equal(send_one(producer, "reports", 0, "value", i,
				     &err),
		    0);
	assert_int_equal(send_one(producer, "reports", 0, "value", i, &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(kafka_producer_flush(producer, 20000, &err), 0);
	assert_int_equal(reports.ok, 10);
	kafka_producer_free(producer);
}

static void
batches_are_made_as_the_program_says(void **state)
{
	static const struct {
		struct kafka_batching batching;
		const char *property; /* NULL: they are taken */
	} cases[] = {
	    {{-1, -1, "zip"}, "compression.type"},
	    {{1000000, -1, NULL}, "linger.ms"},
	    {{-1, INT64_C(1) << 40, NULL}, "batch.size"},
	    {{300, 100000, "zstd"}, NULL},
	};
	static const struct kafka_batching usual = {-1, -1, NULL};
	struct kafka_conf lazy = conf;
	struct reports reports = {.last_tag = -1};
	struct kafka_producer *producer = NULL;
	struct mr_error err = {0};
	int64_t began_us;
	size_t i;

	(void)state;
	lazy.properties.items[0] = "linger.ms=0"; /* the flag wins */
	lazy.properties.count = 1;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kafka_producer_batching(&cases[i].batching);
		producer = kafka_producer_new(&lazy, KAFKA_AT_LEAST_ONCE,
		    on_report, &reports, &err);
		assert_int_equal(producer != NULL, cases[i].property == NULL);
		if (producer == NULL)
			assert_non_null(strstr(err.message, cases[i].property));
	}
	began_us = clock_mono_us();
	assert_int_equal(send_one(producer, "reports", 0, "value", 0, &err), 0);
	while (reports.ok == 0)
		kafka_producer_poll(producer, 100);
	assert_true(clock_mono_us() - began_us >= 300000);
	kafka_producer_free(producer);
	kafka_producer_batching(&usual);
}

/* The connections to the mock's broker, each by its own port. */
static int
connections(unsigned ports[8])
{
	unsigned broker = (unsigned)atoi(strrchr(conf.brokers, ':') + 1);
	unsigned local, remote, state;
	char line[300];
	int count = 0;
	FILE *f = fopen("/proc/self/net/tcp", "r");

	assert_non_null(f);
	while (count < 8 && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "%*d: %*x:%x %*x:%x %x", &local, &remote,
			&state) == 3 &&
		    remote == broker && state == 1 /* established */)
			ports[count++] = local;
	fclose(f);
	return (count);
}

static int
all_are_there(const unsigned *ports, int count)
{
	unsigned now[8];
	int n = connections(now), i, j;

	for (i = 0; i < count; i++) {
		for (j = 0; j < n && now[j] != ports[i]; j++)
			;
		if (j == n)
			return (0);
	}
	return (1);
}

static void
commit_one(struct kafka_producer *producer, int tag)
{
	struct mr_error err = {0};

	assert_int_equal(kafka_producer_begin(producer, 20000, &err), 0);
	assert_int_equal(send_one(producer, "reports", 0, "value", tag, &err),
	    0);
	assert_int_equal(kafka_producer_commit(producer, 20000, &err), 1);
}

/* Or it would wait for a coordinator that is gone, see ARCHITECTURE.md. */
static void
a_transactional_producer_leaves_connections_that_are_idle(void **state)
{
	struct kafka_conf own = conf;
	struct reports reports = {.last_tag = -1};
	struct kafka_producer *producer;
	struct mr_error err = {0};
	unsigned ports[8];
	int64_t deadline;
	int count;

	(void)state;
	own.transactional_id = "idle";
	producer = kafka_producer_new(&own, KAFKA_TRANSACTIONAL, on_report,
	    &reports, &err);
	assert_non_null(producer);
	commit_one(producer, 0);
	count = connections(ports);
	assert_true(count > 0);
	deadline = clock_mono_us() + DEADLINE_US / 3;
	while (all_are_there(ports, count) && clock_mono_us() < deadline)
		kafka_producer_poll(producer, 50);
	assert_false(all_are_there(ports, count));
	commit_one(producer, 1);
	assert_int_equal(reports.ok, 2);
	kafka_producer_free(producer);
}

/* Threads of this process that weigh less than the calling one. */
static int
threads_behind(void)
{
	const int own = getpriority(PRIO_PROCESS, 0);
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	int behind = 0;

	assert_non_null(tasks);
	while ((entry = readdir(tasks)) != NULL)
		behind += entry->d_name[0] != '.' &&
		    getpriority(PRIO_PROCESS,
			(id_t)strtoul(entry->d_name, NULL, 10)) ==
			MIN(own + 10, 19);
	closedir(tasks);
	return (behind);
}

static void
the_threads_of_a_client_give_way(void **state)
{
	struct kafka_producer *producer;
	int64_t until_us = clock_mono_us() + DEADLINE_US;

	(void)state;
	if (getpriority(PRIO_PROCESS, 0) == 19)
		skip(); /* nothing weighs less */
	assert_int_equal(threads_behind(), 0);
	producer = kafka_producer_new(&conf, KAFKA_EXACTLY_ONCE, NULL, NULL,
	    NULL);
	assert_non_null(producer);
	/* librdkafka's main one, and one for each broker that it knows. */
	while (threads_behind() < 2) {
		assert_true(clock_mono_us() < until_us);
		kafka_producer_poll(producer, 10);
	}
	kafka_producer_free(producer);
}

static void
an_unreachable_broker_is_waited_for(void **state)
{
	struct kafka_conf nowhere = {.brokers = "127.0.0.1:1",
	    .client_id = "test"};
	struct reports reports = {.last_tag = -1};
	struct kafka_producer *producer;
	struct kafka_admin *admin;
	struct kafka_consumer *consumer;
	struct kafka_record record;
	struct mr_error err = {0};
	char id[KAFKA_CLUSTER_ID_SIZE];
	const char *const topics[] = {"order-events"};
	int64_t began;

	(void)state;
	producer = kafka_producer_new(&nowhere, KAFKA_EXACTLY_ONCE, on_report,
	    &reports, &err);
	assert_non_null(producer);
	assert_int_equal(send_one(producer, "reports", 0, "value", 0, &err), 0);
	assert_int_equal(kafka_producer_flush(producer, 300, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(kafka_producer_in_flight(producer), 1);
	kafka_producer_free(producer);

	admin = kafka_admin_new(&nowhere, &err);
	assert_non_null(admin);
	began = clock_mono_us();
	assert_int_equal(kafka_admin_cluster_id(admin, id, 200, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(kafka_admin_ensure(admin, topics, 1, 200, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_true(clock_mono_us() - began < 5000000);
	kafka_admin_free(admin);

	consumer = kafka_consumer_new(&nowhere, "group", NULL, NULL, &err);
	assert_non_null(consumer);
	assert_int_equal(kafka_consumer_subscribe(consumer, topics, 1, &err),
	    0);
	assert_int_equal(kafka_consumer_poll(consumer, &record, 1, 100), 0);
	began = clock_mono_us();
	kafka_consumer_free(consumer);
	assert_true(clock_mono_us() - began < 6000000);
}

/* ---- administering ------------------------------------------------------ */

static void
topics_are_described_and_ids_tell_a_remade_one(void **state)
{
	struct kafka_topic_state states[] = {{.name = "described"},
	    {.name = "nonesuch"}, {.name = "hello"}};
	const char *const there[] = {"hello"};
	const char *const stranger[] = {"hello", "described"};
	struct kafka_admin *admin;
	struct mr_error err = {0};
	char id[KAFKA_CLUSTER_ID_SIZE];
	int64_t first = -1, next = -1;

	(void)state;
	make_topic("described", 5);
	make_topic("hello", 2);
	admin = kafka_admin_new(&conf, &err);
	assert_non_null(admin);
	/* It takes no controller: that one died. */
	rd_kafka_mock_set_controller_id(mock, 7);
	assert_int_equal(kafka_admin_describe(admin, states, 3, 3000, &err), 0);
	assert_int_equal(states[0].partitions, 5);
	rd_kafka_mock_set_controller_id(mock, 1);
	assert_int_equal(kafka_admin_cluster_id(admin, id, 10000, &err), 0);
	assert_true(strlen(id) > 0);
	assert_int_equal(kafka_admin_describe(admin, states, 3, 10000, &err),
	    0);
	assert_int_equal(states[0].partitions, 5);
	assert_int_equal(strlen(states[0].id), KAFKA_TOPIC_ID_SIZE - 1);
	assert_int_equal(states[1].partitions, 0);
	assert_string_equal(states[1].id, "");
	assert_int_equal(states[2].partitions, 2);
	assert_string_not_equal(states[0].id, states[2].id);
	/* One that is there is left as it is, with its own partitions. */
	assert_int_equal(kafka_admin_ensure(admin, there, 1, 10000, &err), 0);
	assert_int_equal(kafka_admin_ensure(admin, stranger, 2, 10000, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "described"));
	fill("described", 1, 7);
	assert_int_equal(kafka_admin_offsets(admin, "described", 1, &first,
			     &next, 10000, &err),
	    0);
	assert_int_equal(first, 0);
	assert_int_equal(next, 7);
	assert_int_equal(kafka_admin_offsets(admin, "described", 5, &first,
			     &next, 10000, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	next = 0;
	assert_int_equal(kafka_admin_end(admin, "described", 1, &next, 10000,
			     &err),
	    0);
	assert_int_equal(next, 7);
	assert_int_equal(kafka_admin_end(admin, "described", 5, &next, 2000,
			     &err),
	    -1);
	assert_non_null(strstr(err.message, "ask for"));
	kafka_admin_free(admin);
}

/* ---- consuming ---------------------------------------------------------- */

static void
records_arrive_whole(void **state)
{
	static const struct kafka_header headers[] = {{"ce_id", "1", 1},
	    {"ce_id", "2", 1}, {"none", NULL, 0}};
	struct kafka_position from = {.topic = "whole",
	    .topic_index = 7,
	    .leader_epoch = -1};
	struct kafka_consumer *consumer;
	struct kafka_producer *producer;
	struct reports reports = {.last_tag = -1};
	struct kafka_header header;
	struct kafka_record r[5];
	struct mr_error err = {0};
	const void *value;
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	size_t size;
	int n = 0, i;

	(void)state;
	make_topic("whole", 1);
	producer = kafka_producer_new(&conf, KAFKA_EXACTLY_ONCE, on_report,
	    &reports, &err);
	assert_non_null(producer);
	assert_int_equal(kafka_producer_send(producer, "whole", 0, "k\0y", 3,
			     "v\0l", 3, headers, 3, 1234567890123, NULL, &err),
	    0);
	assert_int_equal(kafka_producer_send(producer, "whole", 0, NULL, 0,
			     NULL, 0, NULL, 0, 0, NULL, &err),
	    0);
	assert_int_equal(kafka_producer_send(producer, "whole", 0, "", 0, "", 0,
			     NULL, 0, 0, NULL, &err),
	    0);
	assert_int_equal(kafka_producer_send(producer, "whole", 0, NULL, 0,
			     NULL, 0, NULL, 0, -62135596800000, NULL, &err),
	    0);
	assert_int_equal(kafka_producer_flush(producer, 20000, &err), 0);
	kafka_producer_free(producer);

	consumer = kafka_consumer_new(&conf, NULL, NULL, NULL, &err);
	assert_non_null(consumer);
	assert_int_equal(kafka_consumer_assign(consumer, &from, 1, &err), 0);
	while (n < 5 && clock_mono_us() < deadline)
		n += kafka_consumer_poll(consumer, r + n, 5 - n, 100);
	assert_int_equal(n, 5);

	assert_string_equal(r[0].topic, "whole");
	assert_int_equal(r[0].topic_index, 7);
	assert_int_equal(r[0].partition, 0);
	assert_int_equal(r[0].offset, 0);
	assert_int_equal(r[0].fetch_offset, 0);
	assert_int_equal(r[0].ts_ms, 1234567890123);
	assert_int_equal(r[0].key_size, 3);
	assert_memory_equal(r[0].key, "k\0y", 3);
	assert_int_equal(r[0].value_size, 3);
	assert_memory_equal(r[0].value, "v\0l", 3);
	assert_true(kafka_record_header(&r[0], "ce_id", &value, &size));
	assert_int_equal(size, 1);
	assert_memory_equal(value, "2", 1);
	assert_true(kafka_record_header(&r[0], "none", &value, &size));
	assert_null(value);
	assert_false(kafka_record_header(&r[0], "other", &value, &size));
	for (i = 0; i < 3; i++) {
		assert_true(kafka_record_header_at(&r[0], (size_t)i, &header));
		assert_string_equal(header.name, headers[i].name);
	}
	assert_false(kafka_record_header_at(&r[0], 3, &header));
	/* The walk has ended; another one begins. */
	assert_true(kafka_record_header(&r[0], "ce_id", &value, &size));
	assert_int_equal(size, 1);
	assert_false(kafka_record_header_at(&r[0], 3, &header));

	assert_null(r[1].key);
	assert_null(r[1].value);
	assert_true(r[1].ts_ms > 1700000000000);
	assert_false(kafka_record_header(&r[1], "ce_id", &value, &size));
	assert_non_null(r[2].key);
	assert_non_null(r[2].value);
	assert_int_equal(r[2].key_size, 0);
	assert_int_equal(r[2].value_size, 0);

	/* A time before there were any is none. */
	assert_int_equal(r[3].ts_ms, -1);

	assert_true(r[4].end_of_partition);
	assert_int_equal(r[4].offset, 4);
	assert_int_equal(kafka_consumer_end(consumer, "whole", 0), 4);
	assert_int_equal(kafka_consumer_end(consumer, "whole", 1), -1);
	for (i = 0; i < 5; i++) {
		kafka_record_free(&r[i]);
		assert_null(r[i].topic);
	}
	kafka_consumer_free(consumer);
}

/* What a group member in a test is told, and does. */
struct member {
	struct kafka_consumer *consumer;
	int64_t start[2];
	int owned[2];
	int assigns;
	int revoked;
	int errors;
	int64_t seen_committed;
	char seen_metadata[64];
	int64_t seek_on_error; /* -1: no */
	int sought;
};

static void
on_assign(void *arg, struct kafka_position *positions, int count)
{
	struct member *member = arg;
	struct mr_error err = {0};
	int i;

	member->assigns++;
	for (i = 0; i < count; i++) {
		assert_int_equal(positions[i].offset, -1);
		positions[i].offset = member->start[positions[i].partition];
		member->owned[positions[i].partition] = 1;
		if (positions[i].partition == 0)
			assert_int_equal(
			    kafka_consumer_committed(member->consumer,
				positions[i].topic, 0, &member->seen_committed,
				member->seen_metadata,
				sizeof(member->seen_metadata), 10000, &err),
			    0);
	}
}

static void
on_revoke(void *arg, const struct kafka_position *positions, int count,
    int lost)
{
	struct member *member = arg;
	int i;

	(void)lost;
	member->revoked += count;
	for (i = 0; i < count; i++)
		member->owned[positions[i].partition] = 0;
}

static void
on_error(void *arg, const char *what, int fatal)
{
	struct member *member = arg;
	struct kafka_position to = {.topic = "stale", .leader_epoch = -1};

	assert_non_null(what);
	assert_false(fatal);
	member->errors++;
	if (member->seek_on_error < 0)
		return;
	to.offset = member->seek_on_error;
	assert_int_equal(kafka_consumer_seek(member->consumer, &to, NULL), 0);
	member->sought++;
}

static const struct kafka_group_handlers handlers = {on_assign, on_revoke,
    on_error};

static void
join(struct member *member, const char *group, const char *topic)
{
	struct mr_error err = {0};

	member->seek_on_error = -1;
	member->consumer = kafka_consumer_new(&conf, group, &handlers, member,
	    &err);
	assert_non_null(member->consumer);
	assert_int_equal(kafka_consumer_subscribe(member->consumer, &topic, 1,
			     &err),
	    0);
}

/*
 * Read until ${partition} ends, and check that its numbers are those from
 * ${from} to ${to}-1, each once.  Records of others are passed over.
 */
static void
expect_numbers(struct member *member, int partition, int from, int to)
{
	static struct kafka_record r[MOST];
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	int i, n, ended = 0;
	char text[16];

	while (!ended && clock_mono_us() < deadline) {
		n = kafka_consumer_poll(member->consumer, r, MOST, 100);
		for (i = 0; i < n; i++) {
			assert_false(r[i].out_of_range);
			if (r[i].partition != partition) {
				kafka_record_free(&r[i]);
				continue;
			}
			if (r[i].end_of_partition) {
				ended = 1;
				continue;
			}
			snprintf(text, sizeof(text), "%d", from);
			assert_int_equal(r[i].offset, from);
			assert_int_equal(r[i].fetch_offset, from);
			assert_int_equal(r[i].value_size, strlen(text));
			assert_memory_equal(r[i].value, text, r[i].value_size);
			kafka_record_free(&r[i]);
			from++;
		}
	}
	assert_true(ended);
	assert_int_equal(from, to);
}

static void
a_member_reads_from_where_it_says_and_not_what_it_must_not(void **state)
{
	struct member member = {.start = {40, -1}, .seen_committed = -5};
	struct kafka_position at = {.topic = "placed",
	    .partition = 1,
	    .leader_epoch = -1};
	struct mr_error err = {0};
	struct kafka_record r[8];
	int64_t deadline;

	(void)state;
	make_topic("placed", 2);
	fill("placed", 0, 100);
	fill("placed", 1, 100);
	join(&member, "placed", "placed");
	expect_numbers(&member, 0, 40, 100);
	assert_true(member.owned[0] && member.owned[1]);
	assert_int_equal(member.seen_committed, -1);
	/* Nothing came of partition 1, and nothing comes. */
	assert_int_equal(kafka_consumer_poll(member.consumer, r, 8, 700), 0);
	assert_int_equal(kafka_consumer_resume(member.consumer, "placed", 1,
			     &err),
	    0);
	assert_int_equal(kafka_consumer_poll(member.consumer, r, 8, 300), 0);
	/* Until it is sought; paused before, it waits for that too. */
	assert_int_equal(kafka_consumer_pause(member.consumer, "placed", 1,
			     &err),
	    0);
	at.offset = 10;
	assert_int_equal(kafka_consumer_seek(member.consumer, &at, &err), 0);
	assert_int_equal(kafka_consumer_poll(member.consumer, r, 8, 700), 0);
	assert_int_equal(kafka_consumer_resume(member.consumer, "placed", 1,
			     &err),
	    0);
	expect_numbers(&member, 1, 10, 100);
	at.offset = 90;
	assert_int_equal(kafka_consumer_seek(member.consumer, &at, &err), 0);
	expect_numbers(&member, 1, 90, 100);

	/* The group is told, and tells the next member. */
	at.partition = 0;
	at.offset = 77;
	assert_int_equal(kafka_consumer_commit(member.consumer, &at, 1,
			     "a database id", &err),
	    0);
	assert_int_equal(kafka_consumer_committing(member.consumer), 1);
	member.seen_committed = -5;
	deadline = clock_mono_us() + DEADLINE_US;
	while (member.seen_committed != 77 && clock_mono_us() < deadline) {
		kafka_consumer_poll(member.consumer, r, 8, 20);
		assert_int_equal(kafka_consumer_committed(member.consumer,
				     "placed", 0, &member.seen_committed, NULL,
				     0, 10000, &err),
		    0);
	}
	while (kafka_consumer_committing(member.consumer) > 0 &&
	    clock_mono_us() < deadline)
		kafka_consumer_poll(member.consumer, r, 8, 20);
	assert_int_equal(kafka_consumer_committing(member.consumer), 0);
	/* A coordinator that moves is asked again. */
	member.seen_committed = -5;
	rd_kafka_mock_push_request_errors(mock, API_OFFSET_FETCH, 2,
	    RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
	    RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
	assert_int_equal(kafka_consumer_committed(member.consumer, "placed", 0,
			     &member.seen_committed, NULL, 0, 10000, &err),
	    0);
	assert_int_equal(member.seen_committed, 77);
	assert_int_equal(kafka_consumer_commit_failures(member.consumer), 0);
	kafka_consumer_free(member.consumer);
	assert_int_equal(member.revoked, 2);

	memset(&member, 0, sizeof(member));
	member.start[0] = 77;
	member.start[1] = 100;
	join(&member, "placed", "placed");
	expect_numbers(&member, 0, 77, 100);
	assert_int_equal(member.seen_committed, 77);
	assert_string_equal(member.seen_metadata, "a database id");
	kafka_consumer_free(member.consumer);
}

/* By somebody who isn't a member, and whoever has committed it. */
static void
furthest_position_of_a_group_is_found(void **state)
{
	static const struct kafka_group_handlers none;
	const struct kafka_position at[] = {
	    {.topic = "placed", .offset = 9, .leader_epoch = -1},
	    {.topic = "aside", .offset = 7, .leader_epoch = -1},
	    {.topic = "placed",
		.partition = 1,
		.offset = 99,
		.leader_epoch = -1},
	};
	int64_t offset = -1, deadline = clock_mono_us() + DEADLINE_US;
	struct kafka_conf nowhere = conf;
	struct kafka_consumer *member;
	struct kafka_record r[8];
	struct mr_error err = {0};
	char metadata[8];

	(void)state;
	make_topic("aside", 1);
	member = kafka_consumer_new(&conf, "furthest", &none, NULL, &err);
	assert_non_null(member);
	assert_int_equal(kafka_consumer_commit(member, &at[1], 2, "7", &err),
	    0);
	assert_int_equal(kafka_consumer_commit(member, at, 1, "nine and more",
			     &err),
	    0);
	while (
	    kafka_consumer_committing(member) > 0 && clock_mono_us() < deadline)
		kafka_consumer_poll(member, r, 8, 20);
	kafka_consumer_free(member);

	rd_kafka_mock_push_request_errors(mock, API_OFFSET_FETCH, 1,
	    RD_KAFKA_RESP_ERR_NOT_COORDINATOR);
	assert_int_equal(kafka_group_furthest(&conf, "furthest", 1, &offset,
			     metadata, sizeof(metadata), 10000, &err),
	    1);
	assert_int_equal(offset, 9);
	assert_string_equal(metadata, "nine an");
	assert_int_equal(kafka_group_furthest(&conf, "nobody", 0, &offset,
			     metadata, sizeof(metadata), 10000, &err),
	    0);
	nowhere.brokers = "127.0.0.1:1";
	assert_int_equal(kafka_group_furthest(&nowhere, "furthest", 1, &offset,
			     metadata, sizeof(metadata), 300, &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
}

static void
calls_about_partitions_of_others_are_refused(void **state)
{
	struct kafka_position at = {.topic = "placed", .leader_epoch = -1};
	struct kafka_position none = {.topic = "placed",
	    .offset = -1,
	    .leader_epoch = -1};
	struct member member = {.start = {0, 0}};
	struct kafka_consumer *alone;
	struct mr_error err = {0};
	const char *topic = "placed";
	int64_t offset;

	(void)state;
	join(&member, "others", "placed");
	assert_int_equal(kafka_consumer_seek(member.consumer, &at, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(kafka_consumer_pause(member.consumer, "nonesuch", 0,
			     &err),
	    -1);
	assert_int_equal(kafka_consumer_subscribe(member.consumer, &topic, 1,
			     &err),
	    -1);
	assert_int_equal(kafka_consumer_assign(member.consumer, &at, 1, &err),
	    -1);
	expect_numbers(&member, 0, 0, 100);
	assert_int_equal(kafka_consumer_seek(member.consumer, &none, &err), -1);
	assert_int_equal(err.kind, MR_REJECT);
	kafka_consumer_free(member.consumer);

	alone = kafka_consumer_new(&conf, NULL, NULL, NULL, &err);
	assert_non_null(alone);
	assert_int_equal(kafka_consumer_subscribe(alone, &topic, 1, &err), -1);
	assert_int_equal(kafka_consumer_commit(alone, &at, 1, NULL, &err), -1);
	assert_int_equal(kafka_consumer_committed(alone, "placed", 0, &offset,
			     NULL, 0, 1000, &err),
	    -1);
	at.partition = KAFKA_PARTITIONS_MAX;
	assert_int_equal(kafka_consumer_assign(alone, &at, 1, &err), -1);
	kafka_consumer_free(alone);
	kafka_consumer_free(NULL);
}

static void
what_a_poll_leaves_keeps_the_descriptor_readable(void **state)
{
	struct kafka_position from = {.topic = "left", .leader_epoch = -1};
	struct pollfd ready = {.events = POLLIN};
	struct kafka_consumer *consumer;
	struct kafka_record r[3];
	struct mr_error err = {0};
	int i, n, got = 0, ended = 0;

	(void)state;
	make_topic("left", 1);
	fill("left", 0, 100);
	consumer = kafka_consumer_new(&conf, NULL, NULL, NULL, &err);
	assert_non_null(consumer);
	ready.fd = kafka_consumer_fd(consumer);
	assert_int_equal(kafka_consumer_assign(consumer, &from, 1, &err), 0);
	while (!ended) {
		/* Nothing but the descriptor says when to poll. */
		assert_int_equal(poll(&ready, 1, 15000), 1);
		n = kafka_consumer_poll(consumer, r, 3, 0);
		for (i = 0; i < n; i++) {
			if (r[i].end_of_partition)
				ended = 1;
			else
				assert_int_equal(r[i].offset, got++);
			kafka_record_free(&r[i]);
		}
	}
	assert_int_equal(got, 100);
	/* And when all is taken it is not readable. */
	while (kafka_consumer_poll(consumer, r, 3, 0) > 0)
		;
	assert_int_equal(poll(&ready, 1, 0), 0);
	kafka_consumer_free(consumer);
}

static void
paused_partitions_rest_and_nothing_is_lost_or_repeated(void **state)
{
	struct member member = {.start = {0, 0}};
	struct mr_error err = {0};
	struct kafka_record r[7];
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	int i, n, next = 0, ended = 0, turn = 0;

	(void)state;
	make_topic("paused", 1);
	fill("paused", 0, 3000);
	join(&member, "paused", "paused");
	while (!ended && clock_mono_us() < deadline) {
		n = kafka_consumer_poll(member.consumer, r, 7, 100);
		for (i = 0; i < n; i++) {
			if (r[i].end_of_partition)
				ended = 1;
			else
				assert_int_equal(r[i].offset, next++);
			kafka_record_free(&r[i]);
		}
		if (n == 0 || ++turn % 40 != 0)
			continue;
		assert_int_equal(kafka_consumer_pause(member.consumer, "paused",
				     0, &err),
		    0);
		assert_int_equal(kafka_consumer_poll(member.consumer, r, 7, 5),
		    0);
		assert_int_equal(kafka_consumer_resume(member.consumer,
				     "paused", 0, &err),
		    0);
	}
	assert_int_equal(next, 3000);
	kafka_consumer_free(member.consumer);
}

static void
an_offset_that_isnt_there_ends_the_partition_until_sought(void **state)
{
	struct member member = {.start = {500, 0}};
	struct kafka_position to = {.topic = "range",
	    .offset = 3,
	    .leader_epoch = -1};
	struct kafka_record r[8];
	struct mr_error err = {0};
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	int n = 0;

	(void)state;
	make_topic("range", 1);
	fill("range", 0, 10);
	join(&member, "range", "range");
	while (n == 0 && clock_mono_us() < deadline)
		n = kafka_consumer_poll(member.consumer, r, 8, 100);
	assert_int_equal(n, 1);
	assert_int_equal(r[0].out_of_range, 1);
	assert_int_equal(r[0].offset, 500);
	assert_null(r[0].value);
	kafka_record_free(&r[0]);
	assert_int_equal(kafka_consumer_poll(member.consumer, r, 8, 300), 0);
	assert_int_equal(kafka_consumer_seek(member.consumer, &to, &err), 0);
	expect_numbers(&member, 0, 3, 10);
	kafka_consumer_free(member.consumer);
}

/*
 * Four records of epoch 0 are read, of which the log then keeps two; four of
 * epoch 1 follow.  The consumer knows the leader by then: it has read them.
 */
static void
a_log_that_was_cut_and_grew_again_is_told_at_assignment(void **state)
{
	struct kafka_position at = {.topic = "cut", .leader_epoch = -1};
	struct kafka_consumer *consumer;
	struct kafka_record r[8] = {0};
	struct mr_error err = {0};
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	int32_t older;
	int n = 0;

	(void)state;
	make_topic("cut", 1);
	fill("cut", 0, 2);
	consumer = kafka_consumer_new(&conf, NULL, NULL, NULL, &err);
	assert_non_null(consumer);
	assert_int_equal(kafka_consumer_assign(consumer, &at, 1, &err), 0);
	while (n < 1 && clock_mono_us() < deadline)
		n = kafka_consumer_poll(consumer, r, 1, 100);
	assert_int_equal(n, 1);
	older = r[0].leader_epoch;
	kafka_record_free(&r[0]);
	assert_int_equal(rd_kafka_mock_partition_set_leader(mock, "cut", 0, 1),
	    0);
	fill("cut", 0, 4);
	for (n = 0; n < 6 && clock_mono_us() < deadline;) {
		if (kafka_consumer_poll(consumer, r, 1, 100) == 0)
			continue;
		n = (int)r[0].offset + 1;
		kafka_record_free(&r[0]);
	}
	assert_int_equal(n, 6);

	at.offset = 4;
	at.leader_epoch = older;
	assert_int_equal(kafka_consumer_assign(consumer, &at, 1, &err), 0);
	for (n = 0; n == 0 && clock_mono_us() < deadline;)
		n = kafka_consumer_poll(consumer, r, 1, 100);
	assert_int_equal(n, 1);
	assert_int_equal(r[0].out_of_range, 3);
	assert_int_equal(r[0].offset, 4);
	kafka_record_free(&r[0]);

	/* With the right epoch it is read. */
	at.leader_epoch = older + 1;
	assert_int_equal(kafka_consumer_assign(consumer, &at, 1, &err), 0);
	for (n = 0; n == 0 && clock_mono_us() < deadline;)
		n = kafka_consumer_poll(consumer, r, 1, 100);
	assert_int_equal(n, 1);
	assert_int_equal(r[0].out_of_range, 0);
	assert_int_equal(r[0].offset, 4);
	kafka_record_free(&r[0]);
	kafka_consumer_free(consumer);
}

static void
what_cant_be_read_ends_the_partition_and_is_never_skipped(void **state)
{
	struct member member = {.start = {5, 0}};
	struct kafka_position to = {.topic = "damaged",
	    .offset = 5,
	    .leader_epoch = -1};
	struct kafka_record r[8];
	struct mr_error err = {0};
	int64_t deadline = clock_mono_us() + DEADLINE_US;
	int n = 0;

	(void)state;
	make_topic("damaged", 1);
	fill("damaged", 0, 10);
	rd_kafka_mock_partition_push_request_errors(mock, "damaged", 0,
	    API_FETCH, 1, RD_KAFKA_RESP_ERR_INVALID_MSG);
	join(&member, "damaged", "damaged");
	while (n == 0 && clock_mono_us() < deadline)
		n = kafka_consumer_poll(member.consumer, r, 8, 100);
	assert_int_equal(n, 1);
	assert_int_equal(r[0].out_of_range, 2);
	assert_int_equal(r[0].offset, 5);
	assert_int_equal(member.errors, 1);
	kafka_record_free(&r[0]);
	/* librdkafka goes on; what it brings is left out. */
	assert_int_equal(kafka_consumer_poll(member.consumer, r, 8, 1500), 0);
	assert_int_equal(kafka_consumer_seek(member.consumer, &to, &err), 0);
	expect_numbers(&member, 0, 5, 10);
	kafka_consumer_free(member.consumer);
}

/*
 * A handler that seeks in the middle of a poll: what that poll had collected
 * is of before, and must not be given out.  The error that wakes the handler
 * comes of another partition; the nap lets it line up behind the records, and
 * is taken again when it didn't.  One that came in an answer librdkafka no
 * longer wanted is never told, so that another is ordered after a while.
 */
static void
a_seek_in_a_handler_drops_what_the_poll_had_collected(void **state)
{
	static struct kafka_record r[4096];
	const struct timespec nap = {.tv_nsec = 300 * 1000 * 1000};
	struct member member = {.start = {0, 0}};
	int64_t deadline = clock_mono_us() + 2 * DEADLINE_US;
	int64_t push_at = 0;
	int i, n, next = 0, ended = 0, seen = -1;

	(void)state;
	make_topic("stale", 2);
	fill("stale", 0, 3000);
	join(&member, "stale", "stale");
	while (!(ended && member.sought >= 3) && clock_mono_us() < deadline) {
		/* Read it all again, until the handler has interfered. */
		member.seek_on_error = member.sought < 3 ? 0 : -1;
		if (member.assigns > 0 && member.sought < 3 &&
		    (seen < member.errors || clock_mono_us() >= push_at)) {
			rd_kafka_mock_partition_push_request_errors(mock,
			    "stale", 1, API_FETCH, 1,
			    RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP);
			seen = member.errors;
			push_at = clock_mono_us() + INT64_C(2000000);
		}
		if (member.sought < 3)
			nanosleep(&nap, NULL);
		i = member.sought;
		n = kafka_consumer_poll(member.consumer, r, 4096, 50);
		if (member.sought > i) {
			next = 0;
			ended = 0;
		}
		for (i = 0; i < n; i++) {
			if (r[i].partition == 0 && r[i].end_of_partition)
				ended = 1;
			else if (r[i].partition == 0)
				assert_int_equal(r[i].offset, next++);
			kafka_record_free(&r[i]);
		}
	}
	assert_int_equal(member.sought, 3);
	assert_int_equal(next, 3000);
	kafka_consumer_free(member.consumer);
}

static void
a_second_member_takes_over_without_loss(void **state)
{
	static struct kafka_record r[MOST];
	struct member members[2] = {{.start = {0, 0}}, {.start = {0, 0}}};
	int64_t deadline = clock_mono_us() + 2 * DEADLINE_US;
	int i, k, n, shared = 0, next[2] = {0, 0};

	(void)state;
	make_topic("shared", 2);
	fill("shared", 0, 2000);
	fill("shared", 1, 2000);
	join(&members[0], "shared", "shared");
	for (k = 0; clock_mono_us() < deadline; k = !k) {
		/* The second joins when the first has begun. */
		if (members[1].consumer == NULL && next[0] + next[1] > 100)
			join(&members[1], "shared", "shared");
		if (members[k].consumer == NULL)
			continue;
		n = kafka_consumer_poll(members[k].consumer, r, 20, 20);
		for (i = 0; i < n; i++) {
			/* Only of what is this member's, in order. */
			assert_true(members[k].owned[r[i].partition]);
			if (!r[i].end_of_partition) {
				assert_int_equal(r[i].offset,
				    next[r[i].partition]);
				next[r[i].partition]++;
			}
			kafka_record_free(&r[i]);
		}
		for (i = 0; i < 2; i++) {
			members[0].start[i] = next[i];
			members[1].start[i] = next[i];
		}
		if (members[0].owned[0] + members[0].owned[1] == 1 &&
		    members[1].owned[0] + members[1].owned[1] == 1)
			shared = 1;
		if (shared && next[0] == 2000 && next[1] == 2000)
			break;
	}
	assert_true(shared);
	assert_int_equal(next[0], 2000);
	assert_int_equal(next[1], 2000);
	kafka_consumer_free(members[1].consumer);
	kafka_consumer_free(members[0].consumer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_partitioner_is_asked_about_each_record_in_turn),
	    cmocka_unit_test(keys_go_to_the_partitions_that_java_chooses),
	    cmocka_unit_test(
		topics_are_declared_once_and_dead_letters_for_any_program),
	    cmocka_unit_test(
		properties_that_guarantees_rest_on_are_refused_by_name),
	    cmocka_unit_test(
		a_network_that_was_silent_is_found_again_within_15_s),
	    cmocka_unit_test(other_properties_pass_and_librdkafka_judges_them),
	    cmocka_unit_test(
		properties_files_must_be_private_and_errors_name_the_line),
	    cmocka_unit_test(
		reports_come_once_each_in_order_and_wake_the_descriptor),
	    cmocka_unit_test(transient_refusals_are_retried_unseen),
	    cmocka_unit_test(
		a_refused_record_spends_an_exactly_once_producer_alone),
	    cmocka_unit_test(
		what_cant_be_sent_is_refused_at_once_and_a_full_queue_says_retry),
	    cmocka_unit_test(batches_are_made_as_the_program_says),
	    cmocka_unit_test(
		a_transactional_producer_leaves_connections_that_are_idle),
	    cmocka_unit_test(the_threads_of_a_client_give_way),
	    cmocka_unit_test(an_unreachable_broker_is_waited_for),
	    cmocka_unit_test(topics_are_described_and_ids_tell_a_remade_one),
	    cmocka_unit_test(records_arrive_whole),
	    cmocka_unit_test(
		a_member_reads_from_where_it_says_and_not_what_it_must_not),
	    cmocka_unit_test(furthest_position_of_a_group_is_found),
	    cmocka_unit_test(calls_about_partitions_of_others_are_refused),
	    cmocka_unit_test(what_a_poll_leaves_keeps_the_descriptor_readable),
	    cmocka_unit_test(
		paused_partitions_rest_and_nothing_is_lost_or_repeated),
	    cmocka_unit_test(
		an_offset_that_isnt_there_ends_the_partition_until_sought),
	    cmocka_unit_test(
		a_log_that_was_cut_and_grew_again_is_told_at_assignment),
	    cmocka_unit_test(
		what_cant_be_read_ends_the_partition_and_is_never_skipped),
	    cmocka_unit_test(
		a_seek_in_a_handler_drops_what_the_poll_had_collected),
	    cmocka_unit_test(a_second_member_takes_over_without_loss),
	};

	return (
	    cmocka_run_group_tests_name("kafka", tests, start_mock, stop_mock));
}
