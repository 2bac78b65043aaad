/*
 * hello-consumer -- prints what is in the topic "hello".
 *
 * Consumers of one group share a topic's partitions: start another and watch
 * them being dealt out anew.  How far the group has read, an offset for each
 * partition, is kept in Kafka, so that it goes on there the next time.
 */
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <nss.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: hello-consumer [--brokers HOST:PORT,...] [--group NAME]\n\n"
    "Prints what is in the topic hello and its group has not read yet, and waits\n"
    "for more. MILLRACE_BROKERS stands in for --brokers.\n\n"
    "This is version " MR_VERSION ".\n";
static volatile sig_atomic_t stopped; /* a signal, or -1: by a failure */

static void
on_signal(int number)
{
	stopped = number;
}

/* Partitions were given to this consumer, or are to be given up. */
static void
on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err,
    rd_kafka_topic_partition_list_t *parts, void *opaque)
{
	int given = err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;

	(void)opaque;
	for (int i = 0; i < parts->cnt; i++)
		printf("%s partition %d\n", given ? "given" : "giving up",
		    parts->elems[i].partition);
	rd_kafka_assign(rk, given ? parts : NULL);
}

/* Print a record, then commit its offset.  What comes in between may repeat it,
 * but nothing can lose it: one that can't be printed ends the program. */
static void
show(rd_kafka_t *rk, rd_kafka_message_t *msg)
{
	if (msg->err)
		fprintf(stderr, "%s\n", rd_kafka_message_errstr(msg));
	else if (printf("partition %d, offset %lld, key '%.*s': %.*s\n",
		     msg->partition, (long long)msg->offset, (int)msg->key_len,
		     (char *)msg->key, (int)msg->len, (char *)msg->payload) > 0)
		rd_kafka_commit_message(rk, msg, 1);
	else
		stopped = -1, perror("hello-consumer: not printed");
	rd_kafka_message_destroy(msg);
}

int
main(int argc, char **argv)
{
	static const struct option flags[] = {{"brokers", 1, 0, 'b'},
	    {"group", 1, 0, 'g'}, {"version", 0, 0, 'v'}, {"help", 0, 0, 'h'},
	    {0}};
	const char *group = "hello-consumer",
		   *brokers = getenv("MILLRACE_BROKERS");
	rd_kafka_topic_partition_list_t
	    *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_message_t *msg;
	rd_kafka_t *rk;
	char why[512];
	int c;

	while ((c = getopt_long(argc, argv, "", flags, NULL)) != -1) {
		if (c != 'b' && c != 'g')
			return (fputs(usage, stdout), c == '?');
		*(c == 'g' ? &group : &brokers) = optarg;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	setvbuf(stdout, NULL, _IOLBF, 0);
	__nss_configure_lookup("hosts", "files dns"); /* static: no modules */
	rd_kafka_conf_set(conf, "bootstrap.servers",
	    brokers ? brokers : "localhost:9092", NULL, 0);
	rd_kafka_conf_set(conf, "group.id", group, NULL, 0);
	rd_kafka_conf_set(conf, "auto.offset.reset", "earliest", NULL, 0);
	rd_kafka_conf_set(conf, "enable.auto.commit", "false", NULL, 0);
	rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	if (!(rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why))))
		return (fprintf(stderr, "hello-consumer: %s\n", why), 1);
	rd_kafka_topic_partition_list_add(list, "hello", RD_KAFKA_PARTITION_UA);
	rd_kafka_subscribe(rk, list);
	while (!stopped)
		if ((msg = rd_kafka_consumer_poll(rk, 200)))
			show(rk, msg);
	rd_kafka_consumer_close(rk); /* others take over at once */
	rd_kafka_topic_partition_list_destroy(list);
	return (rd_kafka_destroy(rk), stopped < 0);
}
