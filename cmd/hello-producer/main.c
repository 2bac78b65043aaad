/*
 * hello-producer -- sends lines of text to the topic "hello".
 *
 * A topic is a log, cut into partitions: each only grows at its end, and a
 * record's place in it is its offset.  Records with the same key go to the
 * same partition, and so stay in order; records without one are spread.
 */
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <nss.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: hello-producer [--brokers HOST:PORT,...] [--key KEY] [TEXT...]\n\n"
    "Sends each TEXT, or else each line of its input, to the topic hello and\n"
    "prints where it went. MILLRACE_BROKERS stands in for --brokers.\n\n"
    "This is version " MR_VERSION ".\n";
static int failed; /* records that Kafka didn't take */

/* What became of a record.  The library calls it from poll and flush. */
static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	(void)rk, (void)opaque;
	if (msg->err && ++failed)
		fprintf(stderr, "not sent: %s\n", rd_kafka_err2str(msg->err));
	else
		printf("partition %d, offset %lld: %.*s\n", msg->partition,
		    (long long)msg->offset, (int)msg->len,
		    (const char *)msg->payload);
}

/* Make the topic, three partitions wide, unless it is there already. */
static void
make_topic(rd_kafka_t *rk)
{
	rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new("hello", 3, -1, 0, 0);
	rd_kafka_queue_t *answers = rd_kafka_queue_new(rk);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_event_t *answer;
	size_t count = 0;

	rd_kafka_CreateTopics(rk, &new, 1, NULL, answers);
	if ((answer = rd_kafka_queue_poll(answers, 10000)))
		err = rd_kafka_event_error(answer); /* of the request */
	if (answer && !err) /* and of its one topic */
		err = rd_kafka_topic_result_error(
		    *rd_kafka_CreateTopics_result_topics(
			rd_kafka_event_CreateTopics_result(answer), &count));
	if (err && err != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		fprintf(stderr, "topic not made: %s\n", rd_kafka_err2str(err));
	rd_kafka_event_destroy(answer);
	rd_kafka_queue_destroy(answers);
	rd_kafka_NewTopic_destroy(new);
}

/* Hand a record to the library; it sends many at once where it can. */
static void
produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, const char *key, char *text)
{
	rd_kafka_resp_err_t err;

	while (
	    rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
		text, strlen(text), key, key ? strlen(key) : 0, NULL) == -1) {
		err = rd_kafka_last_error();
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
			failed++;
			fprintf(stderr, "not sent: %s\n",
			    rd_kafka_err2str(err));
			break;
		}
		rd_kafka_poll(rk, 100); /* its queue is full: let some leave */
	}
	rd_kafka_poll(rk, 0);
}

/* Produce each line of the input, and say meanwhile what became of others. */
static void
produce_lines(rd_kafka_t *rk, rd_kafka_topic_t *topic, const char *key)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char line[65536];

	setvbuf(stdin, NULL, _IONBF, 0); /* no line is where poll can't see */
	for (;;) {
		while (poll(&input, 1, 100) == 0)
			rd_kafka_poll(rk, 0);
		if (!fgets(line, sizeof(line), stdin))
			return;
		line[strcspn(line, "\n")] = '\0';
		produce(rk, topic, key, line);
	}
}

int
main(int argc, char **argv)
{
	static const struct option flags[] = {{"brokers", 1, 0, 'b'},
	    {"key", 1, 0, 'k'}, {"version", 0, 0, 'v'}, {"help", 0, 0, 'h'},
	    {0}};
	const char *key = NULL, *brokers = getenv("MILLRACE_BROKERS");
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_t *topic;
	rd_kafka_t *rk;
	char why[512];
	int c;

	while ((c = getopt_long(argc, argv, "", flags, NULL)) != -1) {
		if (strchr("bk", c) == NULL)
			return (fputs(usage, stdout), c == '?');
		*(c == 'k' ? &key : &brokers) = optarg;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	__nss_configure_lookup("hosts", "files dns"); /* static: no modules */
	rd_kafka_conf_set(conf, "bootstrap.servers",
	    brokers ? brokers : "localhost:9092", NULL, 0);
	/* A key's partition as Java's clients choose it; repeats are dropped. */
	rd_kafka_conf_set(conf, "partitioner", "murmur2_random", NULL, 0);
	rd_kafka_conf_set(conf, "enable.idempotence", "true", NULL, 0);
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	if (!(rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why))))
		return (fprintf(stderr, "hello-producer: %s\n", why), 1);
	make_topic(rk);
	topic = rd_kafka_topic_new(rk, "hello", NULL);
	for (c = optind; c < argc; c++)
		produce(rk, topic, key, argv[c]);
	if (optind == argc)
		produce_lines(rk, topic, key);
	while (rd_kafka_flush(rk, 1000) != 0)
		; /* nothing is sure before its delivery was reported */
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return (failed > 0);
}
