/*
 * kafka_internal -- what the files of this module share.  Nobody else's.
 */
#ifndef MR_KAFKA_INTERNAL_H
#define MR_KAFKA_INTERNAL_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include "base/error.h"
#include "kafka/kafka.h"
#include "metrics/metrics.h"

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

/* client_conf_set -- further settings, in a table that ends with a NULL name;
 * those with a NULL value are left out.  0, or -1 REJECT. */
int client_conf_set(rd_kafka_conf_t *settings, const struct setting *table,
    struct mr_error *err);

/*
 * client_new -- a handle, whose threads give way (thread.h); takes ${settings},
 * also when it fails.  NULL: REJECT, or RETRY where no thread could be started.
 */
rd_kafka_t *client_new(rd_kafka_type_t type, rd_kafka_conf_t *settings,
    struct mr_error *err);

/*
 * client_tls_set -- have the reasons for which certificates aren't accepted
 * kept, and logged.  0 or -1.
 *
 * client_tls_explain -- what librdkafka gave as ${reason} of an error into
 * ${text}, with the reason for which this process last didn't accept a
 * certificate, if it is about one.  Any thread.
 */
int client_tls_set(rd_kafka_conf_t *settings, struct mr_error *err);
void client_tls_explain(const char *reason, char *text, size_t size);

/* client_error_kind -- what to do about an error of librdkafka's. */
enum mr_error_kind client_error_kind(rd_kafka_resp_err_t code);

/* client_wake_new -- a non-blocking event descriptor, readable, or -1. */
int client_wake_new(struct mr_error *err);
void client_wake_set(int fd);
void client_wake_clear(int fd);

/* client_watch -- have librdkafka write to ${fd} when ${queue} gets its first
 * entry. */
void client_watch(rd_kafka_queue_t *queue, int fd);

/* ---- the admin client's files -------------------------------------------- */

#define ADMIN_TOPICS_MAX 1024 /* in one request */

/* Its threads share it: a stream's loop and its relay. */
struct kafka_admin {
	rd_kafka_t *client;
	pthread_mutex_t lock; /* of: */
	struct admin_trouble {
		char text[200];
	} trouble; /* why a broker can't be asked; "": none known */
};

/* admin_trouble -- what is known by now of why brokers don't answer, to be put
 * behind a message: ": ..." or "". */
struct admin_trouble admin_trouble(struct kafka_admin *admin);

/* What a request is sent with, and where its answer comes to. */
struct admin_request {
	struct kafka_admin *admin;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_queue_t *queue;
	rd_kafka_event_t *event;
};
int admin_request_init(struct admin_request *req, struct kafka_admin *admin,
    rd_kafka_admin_op_t op, int timeout_ms, struct mr_error *err);
/* The answer to ${what}: 0, or -1 if there is none or all of it failed. */
int admin_request_wait(struct admin_request *req, int timeout_ms,
    const char *what, struct mr_error *err);
/* To be called whatever came of it. */
void admin_request_done(struct admin_request *req);
/* Until a time of clock_mono_us; at least 0. */
int admin_ms_left(int64_t deadline_us);

/*
 * client_stats -- a client's statistics, as metrics labelled with the kind of
 * client.  init registers them and begins a client; take is given what
 * librdkafka says (JSON) from time to time, by one thread at a time.
 */
#define CLIENT_STATS_COUNTERS 5
#define CLIENT_STATS_MS "5000"
struct client_stats {
	struct metric *counters[CLIENT_STATS_COUNTERS];
	int64_t seen[CLIENT_STATS_COUNTERS]; /* of this client */
	struct metric *round_trip;
	struct metric *queued;
};
void client_stats_init(struct client_stats *stats, const char *client);
void client_stats_take(struct client_stats *stats, const char *text,
    size_t size);

/*
 * client_committed -- fill in what the client's group has committed for the
 * partitions of a list.  Asks again while the group's coordinator moves or
 * loads what it has, as it does when a broker has started.
 */
rd_kafka_resp_err_t client_committed(rd_kafka_t *client,
    rd_kafka_topic_partition_list_t *list, int timeout_ms);

/* client_metadata -- what was committed with an offset, cut to fit. */
void client_metadata(const rd_kafka_topic_partition_t *entry, char *text,
    size_t size);

/* client_unconst -- for librdkafka's interfaces that promise not to write but
 * say void *. */
void *client_unconst(const void *p);

#endif
