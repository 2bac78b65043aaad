#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka.h"
#include "metrics/metrics.h"
#include "producer/internal.h"

#define PROGRESS_US 1000000

static struct {
	int opened;
	int terminal;
	int64_t began_us, shown_us;
	int64_t shown; /* delivered, when it was last shown */
	int64_t records, bytes; /* made */
	struct metric *delivered; /* the relay's with exactly-once */
	int64_t delivered_before;
	struct metric *failed;
	struct metric *latency;
} report;

void
producer_report_open(const char *topic, int exactly_once)
{
	char labels[KAFKA_TOPIC_MAX + 16] = "";

	(void)metrics_label(labels, sizeof(labels), "topic", topic);
	report.delivered = exactly_once ?
	    metrics_counter("millrace_messages_relayed_total", NULL, NULL) :
	    metrics_counter("millrace_direct_delivered_total", labels,
		"Records produced directly that Kafka acknowledged.");
	report.failed = metrics_counter("millrace_direct_undelivered_total",
	    labels, "Tries to produce a record directly that failed.");
	report.latency = metrics_histogram("millrace_produce_latency_seconds",
	    NULL, NULL);
	report.delivered_before = metric_value(report.delivered);
	report.records = report.bytes = report.shown = 0;
	report.terminal = isatty(STDERR_FILENO) == 1;
	report.began_us = report.shown_us = clock_mono_us();
	report.opened = 1;
}

void
producer_report_made(int64_t records, int64_t bytes)
{

	report.records += records;
	report.bytes += bytes;
}

void
producer_report_delivered(int64_t latency_us)
{

	metric_add(report.delivered, 1);
	metric_observe_us(report.latency, latency_us);
}

void
producer_report_failed(void)
{

	metric_add(report.failed, 1);
}

static int64_t
delivered(void)
{

	return (metric_value(report.delivered) - report.delivered_before);
}

void
producer_report_progress(void)
{
	const int64_t now_us = clock_mono_us(), total = delivered();
	const int64_t elapsed_us = now_us - report.shown_us;

	if (!report.terminal || elapsed_us < PROGRESS_US)
		return;
	fprintf(stderr,
	    "\r\033[K%.0f records/s, %lld delivered, %lld in flight, %lld "
	    "errors",
	    (double)(total - report.shown) * 1e6 / (double)elapsed_us,
	    (long long)total,
	    (long long)(report.records > total ? report.records - total : 0),
	    (long long)metric_value(report.failed));
	report.shown_us = now_us;
	report.shown = total;
}

void
producer_report_close(void)
{
	const int64_t elapsed_us = clock_mono_us() - report.began_us;
	const int64_t total = delivered();

	if (!report.opened)
		return;
	if (report.terminal && report.shown_us != report.began_us)
		fputc('\n', stderr);
	log_info("produced", "records", log_i64(report.records), "bytes",
	    log_i64(report.bytes), "delivered", log_i64(total), "errors",
	    log_i64(metric_value(report.failed)), "duration_ms",
	    log_i64(elapsed_us / 1000), "records_per_second",
	    log_i64(elapsed_us > 0 ? report.records * 1000000 / elapsed_us : 0),
	    "latency_p50_us", log_i64(metric_quantile_us(report.latency, 0.5)),
	    "latency_p99_us",
	    log_i64(metric_quantile_us(report.latency, 0.99)));
	report.opened = 0;
}
