#include "sample.h"

const char *const metric_names[METRICS] = {
    [METRIC_CPU] = "cpu_percent",
    [METRIC_MEMORY] = "memory_percent",
    [METRIC_LOAD] = "load_1m",
    [METRIC_DISK_READ] = "disk_read_bytes_per_s",
    [METRIC_DISK_WRITTEN] = "disk_written_bytes_per_s",
    [METRIC_DISK_BUSY] = "disk_busy_percent",
    [METRIC_NET_RECEIVED] = "network_received_bytes_per_s",
    [METRIC_NET_SENT] = "network_sent_bytes_per_s",
};
