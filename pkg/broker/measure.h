/*
 * measure -- the broker's metrics.  measure_start registers them; before it
 * is called, and for APIs that aren't spoken, nothing is counted.
 */
#ifndef MR_BROKER_MEASURE_H
#define MR_BROKER_MEASURE_H

#include <stddef.h>
#include <stdint.h>

void measure_start(void);
void measure_request(int api_key, int64_t us);
void measure_refused(void);
void measure_received(size_t bytes);
void measure_sent(size_t bytes);
void measure_memory(int64_t bytes);
void measure_connections(int64_t n);
void measure_append(int64_t bytes);
void measure_sync(int64_t us);
void measure_partitions(int64_t n);
void measure_groups(int64_t groups, int64_t members);

#endif
