#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "kafka/kafka.h"

#define DAY_MS (INT64_C(24) * 60 * 60 * 1000)
#define DEAD_LETTER ".dead-letter"

static const struct kafka_topic topics[] = {
    /* name, partitions, retention, compacted */
    {"order-events", 3, -1, 0},
    {"inventory-events", 3, -1, 0},
    {"stock-prices", 3, 7 * DAY_MS, 0},
    {"user-events", 3, 0, 0},
    {"application-logs", 2, 0, 0},
    {"application-errors", 2, 0, 0},
    {"system-metrics", 4, 0, 0},
    {"alerts", 1, 0, 0},
    {"calls", 3, 0, 0},
    {"hello", 3, 0, 0},
    {"_schemas", 1, 0, 1},
};
#define TOPICS ((int)(sizeof(topics) / sizeof(topics[0])))

static const struct kafka_topic *own_topics;

void
kafka_topic_declare(const struct kafka_topic *own)
{

	own_topics = own;
}

/* Whether Kafka takes ${name}: 1 to 249 of [a-zA-Z0-9._-], not "." or "..". */
static int
name_is_legal(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > KAFKA_TOPIC_MAX)
		return (0);
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return (0);
	return (strspn(name,
		    "abcdefghijklmnopqrstuvwxyz"
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "0123456789._-") == length);
}

const struct kafka_topic *
kafka_topic_find(const char *name)
{
	static _Thread_local struct kafka_topic dead_letter;
	static _Thread_local char dead_letter_name[KAFKA_TOPIC_MAX + 1];
	const size_t tail = sizeof(DEAD_LETTER) - 1;
	const struct kafka_topic *own;
	size_t length;
	int i;

	for (i = 0; i < TOPICS; i++) {
		if (strcmp(name, topics[i].name) == 0)
			return (&topics[i]);
	}
	for (own = own_topics; own != NULL && own->name != NULL; own++) {
		if (strcmp(name, own->name) == 0)
			return (own);
	}
	length = strlen(name);
	if (length <= tail || strcmp(name + length - tail, DEAD_LETTER) != 0)
		return (NULL);
	if (!name_is_legal(name))
		return (NULL);
	if (name != dead_letter_name)
		memcpy(dead_letter_name, name, length + 1);
	dead_letter = (struct kafka_topic){.name = dead_letter_name,
	    .partitions = 1,
	    .retention_ms = -1};
	return (&dead_letter);
}

const struct kafka_topic *
kafka_topic_list(int *count)
{

	*count = TOPICS;
	return (topics);
}

/* Murmur2, 32 bits, as Kafka's Java client has it (Utils.murmur2). */
static uint32_t
murmur2(const unsigned char *p, size_t size)
{
	const uint32_t m = 0x5bd1e995;
	uint32_t h = 0x9747b28cU ^ (uint32_t)size;
	uint32_t k;

	for (; size >= 4; p += 4, size -= 4) {
		k = (uint32_t)p[0] | (uint32_t)p[1] << 8 |
		    (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		k *= m;
		k ^= k >> 24;
		k *= m;
		h *= m;
		h ^= k;
	}
	if (size == 3)
		h ^= (uint32_t)p[2] << 16;
	if (size >= 2)
		h ^= (uint32_t)p[1] << 8;
	if (size >= 1) {
		h ^= p[0];
		h *= m;
	}
	h ^= h >> 13;
	h *= m;
	h ^= h >> 15;
	return (h);
}

int64_t
kafka_hash_of(const void *key, size_t size)
{

	return ((int64_t)(murmur2(key, size) & 0x7fffffff));
}

int
kafka_partition_of(const void *key, size_t size, int partitions)
{

	assert(partitions > 0);
	return ((int)(kafka_hash_of(key, size) % partitions));
}
