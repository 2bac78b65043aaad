/*
 * machine -- the metrics of the host that this runs on, from /proc.
 *
 *	cpu_percent		of all processors' time, not idle and not
 *				waiting for disks
 *	memory_percent		of all memory, not available for a new program
 *	load_1m			the load average of a minute
 *	disk_*_bytes_per_s	of all whole disks: no partitions, no loop or
 *				RAM disks, nothing that is made of others
 *	disk_busy_percent	of the time, the mean of those disks
 *	network_*_bytes_per_s	of all interfaces but lo
 *
 * All but memory and load are of the time between two looks.  What is
 * missing, isn't a number, is cut short or runs backwards has no value, and
 * the others have theirs.
 */
#ifndef MR_MACHINE_H
#define MR_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include "sample.h"

/* As the kernel counts, from its start on. */
struct machine_counters {
	int64_t at_us; /* when, by a clock that doesn't jump */
	int has_cpu, has_memory, has_load, has_disks, has_network;
	uint64_t cpu_busy, cpu_total; /* ticks */
	uint64_t memory_used, memory_total; /* kB */
	int64_t load_milli;
	uint64_t disks; /* how many */
	uint64_t sectors_read, sectors_written; /* of 512 bytes */
	uint64_t disk_busy_ms; /* the sum of theirs */
	uint64_t received, sent; /* bytes */
};

/*
 * machine_read -- look at the files below ${folder}, "/proc" but in tests and
 * where a host's is mounted elsewhere.  What can't be read isn't counted.
 */
void machine_read(const char *folder, struct machine_counters *now);

/* machine_compare -- what there is to say now; ${before} may be all 0. */
void machine_compare(const struct machine_counters *before,
    const struct machine_counters *now, struct sample *sample);

/*
 * The files one by one, as text: /proc/stat, meminfo, loadavg, diskstats and
 * net/dev.  Each sets what it finds, and has_* only where that is whole.
 */
void machine_parse_stat(const char *text, struct machine_counters *now);
void machine_parse_meminfo(const char *text, struct machine_counters *now);
void machine_parse_loadavg(const char *text, struct machine_counters *now);
void machine_parse_diskstats(const char *text, struct machine_counters *now);
void machine_parse_net_dev(const char *text, struct machine_counters *now);

#endif
