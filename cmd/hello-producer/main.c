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
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	(void)rk, (void)opaque;
	if (m->err && ++failed)
		fprintf(stderr, "not sent: %s\n", rd_kafka_err2str(m->err));
	else
		printf("partition %d, offset %lld: %.*s\n", m->partition,
		    (long long)m->offset, (int)m->len, (char *)m->payload);
}

/* Make the topic, three partitions wide, unless it is there already. */
static void
make_topic(rd_kafka_t *rk)
{
	rd_kafka_NewTopic_t *new = rd_kafka_NewTopic_new("hello", 3, -1, 0, 0);
	rd_kafka_queue_t *answers = rd_kafka_queue_new(rk);

	rd_kafka_CreateTopics(rk, &new, 1, NULL, answers);
	rd_kafka_event_destroy(rd_kafka_queue_poll(answers, 10000));
	rd_kafka_queue_destroy(answers);
	rd_kafka_NewTopic_destroy(new);
}

/* Hand a record to the library; it sends many at once where it can. */
static void
produce(rd_kafka_t *rk, char *key, char *text, size_t size)
{
	rd_kafka_resp_err_t err;

	while ((err = __extension__ rd_kafka_producev(rk,
		    RD_KAFKA_V_TOPIC("hello"),
		    RD_KAFKA_V_KEY(key, key ? strlen(key) : 0),
		    RD_KAFKA_V_VALUE(text, size),
		    RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
		    RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		rd_kafka_poll(rk, 100); /* let some leave */
	if (err && ++failed)
		fprintf(stderr, "not sent: %s\n", rd_kafka_err2str(err));
	rd_kafka_poll(rk, !err && isatty(0) ? -1 : 0); /* who types waits */
}

int
main(int argc, char **argv)
{
	static const struct option flags[] = {{"brokers", 1, 0, 'b'},
	    {"key", 1, 0, 'k'}, {"version", 0, 0, 'v'}, {"help", 0, 0, 'h'},
	    {0}};
	char *key = NULL, *brokers = getenv("MILLRACE_BROKERS");
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char line[65536];
	rd_kafka_t *rk;
	int c;

	while ((c = getopt_long(argc, argv, "", flags, NULL)) != -1) {
		if (strchr("bk", c) == NULL)
			return (fputs(usage, stdout), c == '?');
		*(c == 'k' ? &key : &brokers) = optarg;
	}
	__nss_configure_lookup("hosts", "files dns"); /* static: no modules */
	rd_kafka_conf_set(conf, "bootstrap.servers",
	    brokers ? brokers : "localhost:9092", NULL, 0);
	/* A key's partition as Java's clients choose it; repeats are dropped. */
	rd_kafka_conf_set(conf, "partitioner", "murmur2_random", NULL, 0);
	rd_kafka_conf_set(conf, "enable.idempotence", "true", NULL, 0);
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	if (!(rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, line, sizeof(line))))
		return (fprintf(stderr, "hello-producer: %s\n", line), 1);
	make_topic(rk);
	for (c = optind; c < argc; c++)
		produce(rk, key, argv[c], strlen(argv[c]));
	while (optind == argc && fgets(line, sizeof(line), stdin))
		produce(rk, key, line, strcspn(line, "\n"));
	rd_kafka_flush(rk, -1); /* nothing is sure before it was reported */
	return (rd_kafka_destroy(rk), failed > 0);
}
