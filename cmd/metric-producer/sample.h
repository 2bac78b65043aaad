/*
 * sample -- the metrics of a host, and their values at a moment.
 */
#ifndef MR_SAMPLE_H
#define MR_SAMPLE_H

#include <stdint.h>

/* In the order of metric_names. */
enum metric_kind {
	METRIC_CPU,
	METRIC_MEMORY,
	METRIC_LOAD,
	METRIC_DISK_READ,
	METRIC_DISK_WRITTEN,
	METRIC_DISK_BUSY,
	METRIC_NET_RECEIVED,
	METRIC_NET_SENT,
	METRICS
};
extern const char *const metric_names[METRICS];

struct sample {
	int64_t value_milli[METRICS]; /* thousandths */
	int known[METRICS]; /* 0: there is no value */
};

#endif
