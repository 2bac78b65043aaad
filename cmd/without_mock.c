/*
 * without_mock -- in place of librdkafka's mock cluster, in programs.
 *
 * The library makes one when a property asks it to (test.mock.num.brokers);
 * half a megabyte of a broker that no program of ours has a use for.  Linked
 * before the library, this keeps it out: such a client can't be made, and the
 * rest is never called.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stddef.h>

int unittest_mock_cluster(void);

rd_kafka_mock_cluster_t *
rd_kafka_mock_cluster_new(rd_kafka_t *rk, int broker_cnt)
{

	(void)rk;
	(void)broker_cnt;
	return (NULL);
}

void
rd_kafka_mock_cluster_destroy(rd_kafka_mock_cluster_t *mcluster)
{

	(void)mcluster;
}

const char *
rd_kafka_mock_cluster_bootstraps(const rd_kafka_mock_cluster_t *mcluster)
{

	(void)mcluster;
	return ("");
}

rd_kafka_resp_err_t
rd_kafka_mock_broker_set_rtt(rd_kafka_mock_cluster_t *mcluster,
    int32_t broker_id, int rtt_ms)
{

	(void)mcluster;
	(void)broker_id;
	(void)rtt_ms;
	return (RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED);
}

/* Of the library's own tests, which nobody calls. */
int
unittest_mock_cluster(void)
{

	return (0);
}
