/*
 * Statistics of librdkafka's, as STATISTICS.md of its source describes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kafka/kafka_internal.h"

static void
take(struct client_stats *stats, const char *text)
{

	client_stats_take(stats, text, strlen(text));
}

static void
counters_go_on_with_the_next_client(void **state)
{
	struct client_stats stats;

	(void)state;
	client_stats_init(&stats, "test");
	take(&stats,
	    "{\"msg_cnt\":3,\"brokers\":{"
	    "\"a:1/1\":{\"tx\":10,\"txerrs\":1,\"rxerrs\":2,\"txretries\":4,"
	    "\"req_timeouts\":5,\"disconnects\":6,\"rtt\":{\"p99\":1500}},"
	    "\"b:1/2\":{\"tx\":20,\"rtt\":{\"p99\":2500000}}},"
	    "\"topics\":{\"t\":{\"partitions\":{\"0\":{\"fetchq_cnt\":7},"
	    "\"-1\":{\"fetchq_cnt\":1}}}}}");
	assert_int_equal(metric_value(stats.counters[0]), 30);
	assert_int_equal(metric_value(stats.counters[1]), 3);
	assert_int_equal(metric_value(stats.counters[2]), 4);
	assert_int_equal(metric_value(stats.counters[3]), 5);
	assert_int_equal(metric_value(stats.counters[4]), 6);
	assert_int_equal(metric_value(stats.round_trip), 2); /* 2.5 s */
	assert_int_equal(metric_value(stats.queued), 11);
	take(&stats, "{\"brokers\":{\"a:1/1\":{\"tx\":35}}}");
	assert_int_equal(metric_value(stats.counters[0]), 35);
	client_stats_init(&stats, "test");
	take(&stats, "{\"brokers\":{\"a:1/1\":{\"tx\":5}}}");
	assert_int_equal(metric_value(stats.counters[0]), 40);
	assert_int_equal(metric_value(stats.round_trip), 0);
}

static void
what_is_no_statistics_changes_nothing(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "7",
	    "{\"brokers\":7,\"topics\":[1]}",
	    "{\"brokers\":{\"a\":1,\"b\":{\"tx\":\"many\",\"rtt\":2}}}",
	    "{\"topics\":{\"t\":{\"partitions\":null},\"u\":0}}"};
	struct client_stats stats;
	size_t i;

	(void)state;
	client_stats_init(&stats, "other");
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		take(&stats, texts[i]);
	assert_int_equal(metric_value(stats.counters[0]), 0);
	assert_int_equal(metric_value(stats.queued), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counters_go_on_with_the_next_client),
	    cmocka_unit_test(what_is_no_statistics_changes_nothing),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
