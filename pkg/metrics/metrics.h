/*
 * metrics -- counters, gauges and histograms in Prometheus' text format, and
 * in OpenMetrics'.
 *
 * Metrics are registered once and never taken away; values are atomics, so
 * any thread may change and any may write them out.  Labels
 * are given as one literal string at registration (`topic="orders",
 * partition="0"`), so the set is bounded by the code and by the declared
 * topics.  Names follow Prometheus' naming practice: base units, _total on
 * counters.  OpenMetrics calls a counter's family by its name without _total,
 * which no other family may have.  Registering allocates; of the rest only metrics_write does.
 * Changing a metric by a call that isn't for its type is an assertion, and so
 * is a counter that goes down.
 */
#ifndef MR_METRICS_H
#define MR_METRICS_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

struct metric;

/*
 * metrics_counter, metrics_gauge, metrics_histogram -- find or register the
 * metric ${name} with ${labels} (text as between braces, or NULL).  ${help}
 * is used by the first of that name.  The pointer is good until the process
 * ends.  They lock, so fetch the pointer once and keep it.  Out of memory they
 * give one that takes everything and is written nowhere; whoever asks again
 * later gets the real one.  A name registered with another type, or a counter
 * and another family that would be one in OpenMetrics, aborts: it's a bug.
 * Histograms of seconds use buckets 0.0001 to 10 in steps of about 1, 2.5, 5.
 */
struct metric *metrics_counter(const char *name, const char *labels,
    const char *help);
struct metric *metrics_gauge(const char *name, const char *labels,
    const char *help);
struct metric *metrics_histogram(const char *name, const char *labels,
    const char *help);

/*
 * Counters and histograms of what is counted elsewhere, in a service's file.
 * metric_set_total says what a counter has come to.  A histogram with bounds
 * of its own (the last one INT64_MAX and "+Inf"; borrowed for ever) is told
 * how many fell into each of them, and their sum.  Both are for collectors.
 */
struct metric_bound {
	int64_t most_us; /* of a bucket, that included */
	const char *le; /* the same in seconds, as it is written */
};
struct metric *metrics_histogram_kept(const char *name, const char *help,
    const struct metric_bound *bounds);
void metric_set_total(struct metric *m, double total);
void metric_set_histogram(struct metric *m, const int64_t *counts,
    int64_t sum_us);

/*
 * metrics_label -- labels text `a="b"` with the value escaped, appended to
 * the text in ${out}, with a comma if that isn't empty.  Returns 0, or -1 if
 * it doesn't fit (${out} is as it was).
 */
int metrics_label(char *out, uint64_t out_size, const char *key,
    const char *value);

void metric_add(struct metric *m, int64_t n); /* counter, gauge */
void metric_set(struct metric *m, int64_t value); /* gauge */
/* gauge; one set so is never set or added to otherwise */
void metric_set_f64(struct metric *m, double value);
void metric_observe_us(struct metric *m, int64_t us); /* histogram, seconds */
/* metric_value -- as it is now; of a histogram, how many were observed. */
int64_t metric_value(const struct metric *m);
/* metric_quantile_us -- the value that a share ${q} (0 to 1) of a histogram's
 * observations doesn't exceed, interpolated within its bucket as Prometheus'
 * histogram_quantile does; past the last bound that bound; 0 of none. */
int64_t metric_quantile_us(const struct metric *m, double q);

/*
 * metrics_collector -- have ${collect} called at the start of every
 * metrics_write, by its thread, to set what is only looked up when somebody
 * asks.  Calls are one at a time.  One a process; NULL takes it away.
 */
void metrics_collector(void (*collect)(void *arg), void *arg);

/*
 * metrics_watch_disk -- have millrace_disk_free_bytes (what unprivileged users
 * may still write) and millrace_disk_size_bytes tell of the file system that
 * holds ${path}, a file or a folder, which is copied.  One a process.
 */
void metrics_watch_disk(const char *path);

/*
 * metrics_restarts -- register millrace_restarts_total, which a supervisor
 * knows and the process was told.
 */
void metrics_restarts(int64_t restarts);

enum metrics_format {
	METRICS_TEXT, /* Prometheus' text format 0.0.4 */
	METRICS_OPENMETRICS /* OpenMetrics 1.0 */
};

/*
 * metrics_format_asked -- the format that ${accept}, a request's Accept
 * header or NULL, asks for: OpenMetrics where it names that by a version that
 * is spoken here and likes nothing else better, text otherwise.
 */
enum metrics_format metrics_format_asked(const char *accept);
const char *metrics_content_type(enum metrics_format format);

/*
 * metrics_write -- everything, families together and sorted by name.  A
 * bucket's bound is written alike in both formats, so that a series is the
 * same whichever was asked for.  Process metrics
 * (process_resident_memory_bytes, process_virtual_memory_bytes,
 * process_cpu_seconds_total, process_open_fds, process_max_fds,
 * process_start_time_seconds) are included, as far as there is a /proc.  A
 * failed buffer is the caller's to check.  Locks out registration and other
 * writers.
 */
void metrics_write(struct buffer *out, enum metrics_format format);

#endif
