/*
 * records -- as many records as a broker takes, and gives.
 *
 *	records produce BROKERS TOPIC PARTITIONS RECORDS SIZE ACKS BATCH
 *	records consume BROKERS TOPIC PARTITIONS RECORDS
 *	records mock TOPIC PARTITIONS
 *
 * Bare librdkafka.  produce makes the topic if it isn't there (where the
 * broker can), fills batches of ${BATCH} records of ${SIZE} bytes in turn for
 * each partition, and is done when all are acknowledged; consume reads
 * from the beginning.  mock is librdkafka's mock cluster in a process of its own:
 * it prints its address and serves until it is killed.
 */
#include <string.h>
#include <time.h>

#include "base/clock.h"

#include "client.h"

#include <librdkafka/rdkafka_mock.h>

#define SETTINGS(list) (list), sizeof(list) / sizeof((list)[0])
#define SIZE_MOST 65536

static int64_t acknowledged;

static int64_t
number(const char *text, int64_t most)
{
	int64_t n = strtoll(text, NULL, 10);

	if (n < 1 || n > most)
		die(text, "isn't a number that fits");
	return (n);
}

static void
report(int64_t records, int64_t began_us)
{
	int64_t took_us = clock_mono_us() - began_us;

	printf("rate=%.0f seconds=%.3f cpu_s=%.3f\n",
	    (double)records * 1e6 / (double)took_us, (double)took_us / 1e6,
	    (double)clock() / CLOCKS_PER_SEC);
	/* What follows is no part of the bench. */
	fflush(stdout);
	_exit(0);
}

static void
on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *arg)
{

	(void)rk;
	(void)arg;
	if (message->err != 0)
		die("producing", rd_kafka_err2str(message->err));
	acknowledged++;
}

static void
send_one(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition,
    char *value, size_t size)
{

	while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, value,
		   size, NULL, 0, NULL) == -1) {
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			die("producing",
			    rd_kafka_err2str(rd_kafka_last_error()));
		rd_kafka_poll(rk, 10);
	}
}

static rd_kafka_t *
new_producer(const char *brokers, const char *acks, const char *batch)
{
	const struct client_setting settings[] = {{"bootstrap.servers",
						      brokers},
	    {"acks", acks}, {"batch.num.messages", batch},
	    {"linger.ms", strcmp(batch, "1") == 0 ? "0" : "50"}};

	return (client_new(RD_KAFKA_PRODUCER, SETTINGS(settings), on_report));
}

/* A mock can't be asked to make a topic, but has it. */
static void
make_topic(rd_kafka_t *rk, const char *name, int partitions)
{
	const struct rd_kafka_metadata *known;
	rd_kafka_resp_err_t error;
	int i, found = 0;

	error = rd_kafka_metadata(rk, 1, NULL, &known, 20000);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("metadata", rd_kafka_err2str(error));
	for (i = 0; i < known->topic_cnt; i++)
		found |= strcmp(known->topics[i].topic, name) == 0;
	rd_kafka_metadata_destroy(known);
	if (!found)
		client_make_topic(rk, name, partitions);
}

static void
produce(char **argv)
{
	rd_kafka_t *rk = new_producer(argv[0], argv[5], argv[6]);
	int partitions = (int)number(argv[2], 1000);
	int64_t count = number(argv[3], INT64_MAX), n, began_us;
	size_t size = (size_t)number(argv[4], SIZE_MOST);
	int64_t batch = number(argv[6], 100000);
	static char value[SIZE_MOST];
	rd_kafka_topic_t *topic;
	int i;

	make_topic(rk, argv[1], partitions);
	for (i = 0; i < partitions; i++)
		(void)client_end(rk, argv[1], i);
	if ((topic = rd_kafka_topic_new(rk, argv[1], NULL)) == NULL)
		die(argv[1], rd_kafka_err2str(rd_kafka_last_error()));
	for (i = 0; (size_t)i < size; i++)
		value[i] = (char)('a' + i % 26);
	began_us = clock_mono_us();
	for (n = 0; n < count; n++) {
		send_one(rk, topic, (int32_t)(n / batch % partitions), value,
		    size);
		if (n % 64 == 0)
			rd_kafka_poll(rk, 0);
	}
	while (acknowledged < count)
		rd_kafka_poll(rk, 100);
	report(count, began_us);
}

/* ---- consume ------------------------------------------------------------ */

static void
consume(char **argv)
{
	const struct client_setting settings[] = {{"bootstrap.servers",
						      argv[0]},
	    {"group.id", "records"}, {"enable.auto.commit", "false"},
	    {"fetch.error.backoff.ms", "0"}};
	rd_kafka_t *rk = client_new(RD_KAFKA_CONSUMER, SETTINGS(settings),
	    NULL);
	int64_t count = number(argv[3], INT64_MAX), n = 0, began_us = 0;
	rd_kafka_message_t *messages[1000];
	rd_kafka_queue_t *queue;
	ssize_t got, i;

	rd_kafka_poll_set_consumer(rk);
	(void)client_end(rk, argv[1], 0);
	if ((queue = rd_kafka_queue_get_consumer(rk)) == NULL)
		die(argv[1], "no queue");
	began_us = clock_mono_us();
	client_assign(rk, argv[1], (int)number(argv[2], 1000),
	    RD_KAFKA_OFFSET_BEGINNING);
	while (n < count) {
		got = rd_kafka_consume_batch_queue(queue, 20000, messages,
		    sizeof(messages) / sizeof(messages[0]));
		if (got <= 0)
			die("consuming", "nothing for 20 s");
		for (i = 0; i < got; i++) {
			if (messages[i]->err != 0)
				die("consuming",
				    rd_kafka_message_errstr(messages[i]));
			rd_kafka_message_destroy(messages[i]);
		}
		n += got;
	}
	report(n, began_us);
}

/* ---- mock --------------------------------------------------------------- */

static void
mock(char **argv)
{
	rd_kafka_t *rk = client_new(RD_KAFKA_PRODUCER, NULL, 0, NULL);
	rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(rk, 1);

	if (cluster == NULL ||
	    rd_kafka_mock_topic_create(cluster, argv[0],
		(int)number(argv[1], 1000), 1) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("mock", "could not be made");
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	for (;;)
		pause();
}

int
main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		void (*run)(char **argv);
	} modes[] = {{"produce", 7, produce}, {"consume", 4, consume},
	    {"mock", 2, mock}};
	size_t i;

	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (argc == modes[i].arguments + 2 &&
		    strcmp(argv[1], modes[i].name) == 0)
			modes[i].run(argv + 2);
	fprintf(stderr,
	    "usage: records produce BROKERS TOPIC PARTITIONS RECORDS "
	    "SIZE ACKS BATCH\n"
	    "       records consume BROKERS TOPIC PARTITIONS RECORDS\n"
	    "       records mock TOPIC PARTITIONS\n");
	return (2);
}
