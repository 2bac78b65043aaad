/* relayed -- what a service's transactional relay has sent, as Kafka knows. */
#ifndef MILLRACE_RELAYED_H
#define MILLRACE_RELAYED_H

#include <stdint.h>

#include "kafka/kafka.h"
#include "store/store.h"

struct relayed {
	/* of the file */
	int transactional; /* else the rest is empty */
	char service[64];
	char database_id[33];
	char cluster_id[KAFKA_CLUSTER_ID_SIZE]; /* "": it has met none */
	int64_t issued;
	int64_t waiting; /* rows of the outbox */
	/* of Kafka */
	int found;
	int64_t cursor; /* the last seq that was sent */
	char why[240]; /* if it isn't known */
};

/* relayed_read -- what the file says.  0 or -1. */
int relayed_read(struct store *st, struct relayed *r, struct mr_error *err);
/*
 * relayed_cluster_check -- REJECT if the brokers are another cluster than the
 * one that the file works with, ${cluster_id} ("": it has met none).  0 or -1.
 */
int relayed_cluster_check(const struct kafka_conf *conf, const char *cluster_id,
    struct mr_error *err);

/*
 * relayed_ask -- what Kafka says, once nobody can send under the file's id any
 * more.  REJECT if that isn't the file's cluster.  0 or -1.
 */
int relayed_ask(const struct kafka_conf *conf, struct relayed *r,
    struct mr_error *err);
/* relayed_drop -- within a transaction: the rows that were sent.  0 or -1. */
int relayed_drop(struct store *st, const struct relayed *r,
    struct mr_error *err);

#endif
