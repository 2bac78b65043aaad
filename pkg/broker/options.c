/*
 * options -- the broker's settings.
 */
#include <string.h>

#include "broker/broker.h"

static struct broker_conf set;

static const char *const flush_words[] = {"request", "interval", NULL};

static const struct config_option options[] = {
    {.name = "listen",
	.kind = CONFIG_LIST,
	.target = &set.listen,
	.fallback = "127.0.0.1:9092 [::1]:9092",
	.help = "HOST:PORT to take Kafka clients at",
	.group = "Clients"},
    {.name = "advertise",
	.kind = CONFIG_TEXT,
	.target = &set.advertise,
	.help = "host name that clients are told to connect to (default: the "
		"address that they came to)"},
    {.name = "connections-most",
	.kind = CONFIG_INT,
	.target = &set.connections_most,
	.fallback = "1000",
	.least = 1,
	.most = 100000,
	.help = "more connections wait"},
    {.name = "request-most",
	.kind = CONFIG_SIZE,
	.target = &set.request_most,
	.fallback = "16m",
	.least = 65536,
	.most = 1073741824,
	.help = "a larger request closes its connection"},
    {.name = "answer-most",
	.kind = CONFIG_SIZE,
	.target = &set.answer_most,
	.fallback = "8m",
	.least = 65536,
	.most = 1073741824,
	.help = "of records in an answer to a fetch, whatever a client allows; "
		"a single batch may be larger"},
    {.name = "memory-most",
	.kind = CONFIG_SIZE,
	.target = &set.memory_most,
	.fallback = "64m",
	.least = 1048576,
	.most = 0,
	.help = "of requests under way and answers not read yet; more wait "
		"in their sockets"},
    {.name = "request-ms",
	.kind = CONFIG_DURATION,
	.target = &set.request_ms,
	.fallback = "10s",
	.least = 100,
	.most = 0,
	.help = "how long a request may take to arrive, or wait with more than "
		"64 KiB, while others wait for the memory that it takes"},
    {.name = "idle-ms",
	.kind = CONFIG_DURATION,
	.target = &set.idle_ms,
	.fallback = "10m",
	.least = 1000,
	.most = 0,
	.help = "an idle connection is closed after that"},
    {.name = "drain-ms",
	.kind = CONFIG_DURATION,
	.target = &set.drain_ms,
	.fallback = "5s",
	.help = "how long requests may finish after SIGTERM"},

    {.name = "data",
	.kind = CONFIG_TEXT,
	.target = &set.data,
	.fallback = "data/broker",
	.help = "folder of logs and broker.db",
	.group = "Storage"},
    {.name = "flush",
	.kind = CONFIG_CHOICE,
	.target = &set.flush,
	.fallback = "request",
	.choices = flush_words,
	.help = "when acks=all is answered: request: when the records are on "
		"disk; interval: at once, and the disk follows"},
    {.name = "flush-interval-ms",
	.kind = CONFIG_DURATION,
	.target = &set.flush_interval_ms,
	.fallback = "1s",
	.least = 1,
	.most = 3600000,
	.help = "what a power cut may lose of records that nobody waits for: "
		"with acks=1 or 0, or --flush interval"},
    {.name = "segment-bytes",
	.kind = CONFIG_SIZE,
	.target = &set.segment_bytes,
	.fallback = "256m",
	.least = 1048576,
	.most = 2147483647,
	.help = "how large a segment file grows"},
    {.name = "segment-ms",
	.kind = CONFIG_DURATION,
	.target = &set.segment_ms,
	.fallback = "7d",
	.least = 1,
	.most = 0,
	.help = "how old a segment grows before the next is begun"},
    {.name = "retention-check-ms",
	.kind = CONFIG_DURATION,
	.target = &set.retention_check_ms,
	.fallback = "1m",
	.least = 100,
	.most = 0,
	.help = "how often logs are looked at for what can go"},

    {.name = "auto-create-topics",
	.kind = CONFIG_BOOL,
	.target = &set.auto_create,
	.fallback = "no",
	.help = "make a topic when a client asks for it",
	.group = "Topics"},
    {.name = "partitions",
	.kind = CONFIG_INT,
	.target = &set.partitions,
	.fallback = "1",
	.least = 1,
	.most = 10000,
	.help = "of topics that are made without saying how many"},
    {.name = "partitions-most",
	.kind = CONFIG_INT,
	.target = &set.partitions_most,
	.fallback = "2000",
	.least = 1,
	.most = 100000,
	.help = "of all topics"},
    {.name = "message-most",
	.kind = CONFIG_SIZE,
	.target = &set.message_most,
	.fallback = "1048588",
	.least = 1024,
	.most = 1073741824,
	.help = "bytes of a batch (a topic's max.message.bytes)"},
    {.name = "retention-ms",
	.kind = CONFIG_DURATION,
	.target = &set.retention_ms,
	.fallback = "7d",
	.least = 1,
	.most = 0,
	.help = "how long records are kept (a topic's retention.ms; there -1: "
		"for ever)"},
    {.name = "retention-bytes",
	.kind = CONFIG_SIZE,
	.target = &set.retention_bytes,
	.help = "how large a partition may grow (a topic's retention.bytes; "
		"default: no limit)"},

    {.name = "rebalance-delay-ms",
	.kind = CONFIG_DURATION,
	.target = &set.rebalance_delay_ms,
	.fallback = "0",
	.most = 60000,
	.help = "how long a group's first member waits for others",
	.group = "Groups"},
    {.name = "session-least-ms",
	.kind = CONFIG_DURATION,
	.target = &set.session_least_ms,
	.fallback = "1s",
	.least = 1,
	.most = 0,
	.help = "the shortest session timeout that a member may have"},
    {.name = "session-most-ms",
	.kind = CONFIG_DURATION,
	.target = &set.session_most_ms,
	.fallback = "30m",
	.least = 1000,
	.most = 0,
	.help = "the longest"},
    {.name = "offsets-retention-ms",
	.kind = CONFIG_DURATION,
	.target = &set.offsets_retention_ms,
	.fallback = "7d",
	.least = 1000,
	.most = 0,
	.help = "how long the offsets of a group without members are kept"},
    {.name = NULL},
};

const struct config_option *
broker_options(struct broker_conf *conf)
{
	static struct config_option table[sizeof(options) / sizeof(options[0])];
	const char *base = (const char *)&set;
	size_t i;

	/* The same table, with targets in the caller's. */
	memset(conf, 0, sizeof(*conf));
	conf->retention_bytes = -1;
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		table[i] = options[i];
		if (options[i].target != NULL)
			table[i].target = (char *)conf +
			    ((const char *)options[i].target - base);
	}
	return (table);
}
