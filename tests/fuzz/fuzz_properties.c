/*
 * A properties file for Kafka's clients: whatever is in it, it is taken whole
 * or refused with its name; what the core relies on keeps its value.
 */
#include <sys/mman.h>
#include <sys/stat.h>

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "fuzz.h"
#include "kafka/kafka_internal.h"

/* What may not be set, aliases among them. */
static const char *const kept[] = {"bootstrap.servers", "metadata.broker.list",
    "client.id", "group.id", "group.protocol", "partition.assignment.strategy",
    "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset",
    "isolation.level", "enable.partition.eof", "check.crcs",
    "enable.idempotence", "enable.gapless.guarantee", "transactional.id",
    "acks", "request.required.acks", "retries", "max.in.flight",
    "max.in.flight.requests.per.connection", "message.timeout.ms",
    "message.max.bytes", "queuing.strategy", "partitioner"};
#define KEPT (sizeof(kept) / sizeof(kept[0]))
#define VALUE_SIZE 256

/* What each of them is; "" where it isn't set. */
static void
read_kept(const rd_kafka_conf_t *settings, char values[KEPT][VALUE_SIZE])
{
	size_t i, size;

	for (i = 0; i < KEPT; i++) {
		size = VALUE_SIZE;
		if (rd_kafka_conf_get(settings, kept[i], values[i], &size) !=
		    RD_KAFKA_CONF_OK)
			values[i][0] = '\0';
	}
}

static rd_kafka_conf_t *
settings_new(const char *properties_file, struct mr_error *err)
{
	/* Nothing here that would hide what got past the refusals. */
	static const struct setting none[] = {{NULL, NULL}};
	const struct kafka_conf conf = {.brokers = "localhost:9092",
	    .client_id = "fuzz-1",
	    .properties_file = properties_file};

	return (client_conf_new(&conf, none, none, NULL, err));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static char path[64], before[KEPT][VALUE_SIZE], after[KEPT][VALUE_SIZE];
	struct mr_error err = {MR_OK, ""};
	rd_kafka_conf_t *settings;
	size_t i;

	if (fd == -1) {
		log_init("fuzz", LOG_LOGFMT, LOG_ERROR + 1);
		fd = memfd_create("properties", MFD_CLOEXEC);
		assert(fd != -1 && fchmod(fd, 0600) == 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		settings = settings_new(NULL, &err);
		assert(settings != NULL);
		read_kept(settings, before);
		assert(strcmp(before[0], "localhost:9092") == 0);
		rd_kafka_conf_destroy(settings);
	}
	assert(ftruncate(fd, 0) == 0);
	assert(pwrite(fd, data, size, 0) == (ssize_t)size);
	if ((settings = settings_new(path, &err)) != NULL) {
		read_kept(settings, after);
		for (i = 0; i < KEPT; i++)
			assert(strcmp(before[i], after[i]) == 0);
		rd_kafka_conf_destroy(settings);
		return (0);
	}
	assert(err.kind == MR_REJECT);
	assert(strncmp(err.message, path, strlen(path)) == 0);
	assert(memchr(err.message, '\0', MR_ERROR_SIZE) != NULL);
	return (0);
}
