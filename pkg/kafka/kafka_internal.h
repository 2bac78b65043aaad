/*
 * kafka_internal -- what the files of this module share.  Nobody else's.
 */
#ifndef MR_KAFKA_INTERNAL_H
#define MR_KAFKA_INTERNAL_H

#include <librdkafka/rdkafka.h>

#include "base/error.h"
#include "kafka/kafka.h"

enum client_kind { CLIENT_ADMIN, CLIENT_CONSUMER, CLIENT_PRODUCER };

struct setting {
	const char *name;
	const char *value; /* NULL: left alone */
};

/*
 * client_conf_new -- librdkafka's settings for one client.
 *
 * In this order: ours for every client, ${defaults} (of this kind), the
 * properties file, ${conf}->properties, and ${fixed}, which nothing
 * overrides.  Both tables end with a NULL name.  Returns NULL with REJECT if
 * a property is refused, unknown or out of range.  ${opaque} is what
 * callbacks get.
 */
rd_kafka_conf_t *client_conf_new(const struct kafka_conf *conf,
    const struct setting *defaults, const struct setting *fixed, void *opaque,
    struct mr_error *err);

/* client_new -- a handle; takes ${settings}, also when it fails. */
rd_kafka_t *client_new(rd_kafka_type_t type, rd_kafka_conf_t *settings,
    struct mr_error *err);

/* client_error_kind -- what to do about an error of librdkafka's. */
enum mr_error_kind client_error_kind(rd_kafka_resp_err_t code);

/* client_wake_new -- a non-blocking event descriptor, readable, or -1. */
int client_wake_new(struct mr_error *err);
void client_wake_set(int fd);
void client_wake_clear(int fd);

/* client_watch -- have librdkafka write to ${fd} when ${queue} gets its first
 * entry. */
void client_watch(rd_kafka_queue_t *queue, int fd);

/* client_unconst -- for librdkafka's interfaces that promise not to write but
 * say void *. */
void *client_unconst(const void *p);

#endif
