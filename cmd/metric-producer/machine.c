#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "event/event.h"

#include "machine.h"

#define FILE_MOST_BYTES 262144 /* what is behind isn't looked at */
#define COUNTER_MOST (UINT64_C(1) << 56) /* sums of a few don't overflow */
#define DEVICES_MOST 256 /* of a kind */
#define NAME_SIZE 64
#define SECTOR_BYTES 512
#define BLANKS " \t"

/* ---- text -------------------------------------------------------------------- */

/* The next number of a line, which moves on; 0 or -1. */
static int
take_number(const char **p, uint64_t *number)
{
	const char *c = *p + strspn(*p, BLANKS);
	uint64_t n = 0;

	if (*c < '0' || *c > '9')
		return (-1);
	for (; *c >= '0' && *c <= '9'; c++)
		if ((n = n * 10 + (uint64_t)(*c - '0')) >= COUNTER_MOST)
			return (-1);
	if (*c != '\0' && strchr(BLANKS "\n", *c) == NULL)
		return (-1);
	*number = n;
	*p = c;
	return (0);
}

/* How many of ${most} numbers the line has in a row. */
static int
take_numbers(const char **p, uint64_t *numbers, int most)
{
	int count = 0;

	while (count < most && take_number(p, &numbers[count]) == 0)
		count++;
	return (count);
}

/* A name up to a blank or ${end}, which moves on; 0 or -1. */
static int
take_name(const char **p, char end, char name[NAME_SIZE])
{
	const char *c = *p + strspn(*p, BLANKS);
	size_t length = 0;

	while (c[length] != '\0' && c[length] != end &&
	    strchr(BLANKS "\n", c[length]) == NULL)
		length++;
	if (length == 0 || length >= NAME_SIZE)
		return (-1);
	memcpy(name, c, length);
	name[length] = '\0';
	*p = c + length;
	return (0);
}

/* The line after; NULL at the end. */
static const char *
next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return (end != NULL && end[1] != '\0' ? end + 1 : NULL);
}

void
machine_parse_stat(const char *text, struct machine_counters *now)
{
	enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, TIMES };
	uint64_t times[TIMES] = {0};
	const char *p = text + 3;
	int i;

	/* The first line; "cpu0" and so on follow.  Guests are in user. */
	if (strncmp(text, "cpu ", 4) != 0 ||
	    take_numbers(&p, times, TIMES) <= IDLE)
		return;
	now->cpu_total = 0;
	for (i = 0; i < TIMES; i++)
		now->cpu_total += times[i];
	now->cpu_busy = now->cpu_total - times[IDLE] - times[IOWAIT];
	now->has_cpu = 1;
}

void
machine_parse_meminfo(const char *text, struct machine_counters *now)
{
	enum { TOTAL, AVAILABLE, FREE, BUFFERS, CACHED, LINES };
	static const char *const names[LINES] = {"MemTotal:", "MemAvailable:",
	    "MemFree:", "Buffers:", "Cached:"};
	uint64_t kb[LINES] = {0}, available;
	int found[LINES] = {0}, i;
	const char *line, *p;

	for (line = text; line != NULL; line = next_line(line)) {
		for (i = 0; i < LINES; i++) {
			p = line + strlen(names[i]);
			if (!found[i] &&
			    strncmp(line, names[i], strlen(names[i])) == 0)
				found[i] = take_number(&p, &kb[i]) == 0;
		}
	}
	/* Kernels before 3.14 don't say what is available. */
	available = found[AVAILABLE] ? kb[AVAILABLE] :
				       kb[FREE] + kb[BUFFERS] + kb[CACHED];
	if (!found[TOTAL] || kb[TOTAL] == 0 ||
	    (!found[AVAILABLE] && !found[FREE]))
		return;
	now->memory_total = kb[TOTAL];
	now->memory_used = available < kb[TOTAL] ? kb[TOTAL] - available : 0;
	now->has_memory = 1;
}

void
machine_parse_loadavg(const char *text, struct machine_counters *now)
{
	int64_t milli = 0;
	int digits;

	if (*text < '0' || *text > '9')
		return;
	for (; *text >= '0' && *text <= '9' && milli < 1000000000; text++)
		milli = milli * 10 + (*text - '0');
	if (*text++ != '.')
		return;
	for (digits = 0; digits < 3; digits++)
		milli = milli * 10 +
		    (*text >= '0' && *text <= '9' ? *text++ - '0' : 0);
	now->load_milli = milli;
	now->has_load = 1;
}

/* Whether ${name} is a partition of ${disk}: sda3 of sda, nvme0n1p3 of
 * nvme0n1, as the kernel names them. */
static int
is_partition_of(const char *name, const char *disk)
{
	const size_t length = strlen(disk);
	const char last = disk[length - 1];
	const char *rest = name + length;

	if (strncmp(name, disk, length) != 0)
		return (0);
	if (last >= '0' && last <= '9' && *rest++ != 'p')
		return (0);
	return (*rest != '\0' && strspn(rest, "0123456789") == strlen(rest));
}

static int
is_whole_disk(const char *name, char disks[][NAME_SIZE], uint64_t count)
{
	static const char *const others[] = {"loop", "ram", "zram", "dm-", "md",
	    "sr", "fd"};
	uint64_t i;

	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strncmp(name, others[i], strlen(others[i])) == 0)
			return (0);
	for (i = 0; i < count; i++)
		if (strcmp(name, disks[i]) == 0 ||
		    is_partition_of(name, disks[i]))
			return (0);
	return (1);
}

void
machine_parse_diskstats(const char *text, struct machine_counters *now)
{
	enum { SECTORS_READ = 2, SECTORS_WRITTEN = 6, BUSY_MS = 9, COUNTS };
	char disks[DEVICES_MOST][NAME_SIZE];
	uint64_t ids[2], counts[COUNTS];
	const char *line, *p;

	now->disks = now->sectors_read = now->sectors_written = 0;
	now->disk_busy_ms = 0;
	for (line = text; line != NULL && now->disks < DEVICES_MOST;
	     line = next_line(line)) {
		p = line;
		if (take_numbers(&p, ids, 2) != 2 ||
		    take_name(&p, '\0', disks[now->disks]) != 0 ||
		    take_numbers(&p, counts, COUNTS) != COUNTS ||
		    !is_whole_disk(disks[now->disks], disks, now->disks))
			continue;
		now->disks++;
		now->sectors_read += counts[SECTORS_READ];
		now->sectors_written += counts[SECTORS_WRITTEN];
		now->disk_busy_ms += counts[BUSY_MS];
	}
	now->has_disks = now->disks > 0;
}

void
machine_parse_net_dev(const char *text, struct machine_counters *now)
{
	enum { RECEIVED = 0, SENT = 8, COUNTS };
	uint64_t counts[COUNTS];
	char name[NAME_SIZE];
	const char *line, *p;
	int devices = 0;

	now->received = now->sent = 0;
	for (line = text; line != NULL && devices < DEVICES_MOST;
	     line = next_line(line)) {
		p = line;
		if (take_name(&p, ':', name) != 0 || *p++ != ':' ||
		    take_numbers(&p, counts, COUNTS) != COUNTS)
			continue;
		devices++;
		if (strcmp(name, "lo") == 0)
			continue;
		now->received += counts[RECEIVED];
		now->sent += counts[SENT];
	}
	now->has_network = devices > 0;
}

/* ---- files ------------------------------------------------------------------- */

/* The file's beginning, whole lines; NULL if there is none. */
static const char *
read_text(const char *folder, const char *name)
{
	static char text[FILE_MOST_BYTES + 1];
	char path[PATH_MAX];
	size_t length = 0;
	ssize_t got;
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >=
		(int)sizeof(path) ||
	    (fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (NULL);
	while (length < FILE_MOST_BYTES &&
	    ((got = read(fd, text + length, FILE_MOST_BYTES - length)) > 0 ||
		(got == -1 && errno == EINTR)))
		length += got > 0 ? (size_t)got : 0;
	close(fd);
	if (length == FILE_MOST_BYTES)
		while (length > 0 && text[length - 1] != '\n')
			length--;
	text[length] = '\0';
	return (length > 0 ? text : NULL);
}

void
machine_read(const char *folder, struct machine_counters *now)
{
	static const struct {
		const char *name;
		void (*parse)(const char *, struct machine_counters *);
	} files[] = {
	    {"stat", machine_parse_stat},
	    {"meminfo", machine_parse_meminfo},
	    {"loadavg", machine_parse_loadavg},
	    {"diskstats", machine_parse_diskstats},
	    {"net/dev", machine_parse_net_dev},
	};
	const char *text;
	size_t i;

	memset(now, 0, sizeof(*now));
	now->at_us = clock_mono_us();
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if ((text = read_text(folder, files[i].name)) != NULL)
			files[i].parse(text, now);
}

/* ---- what it means ----------------------------------------------------------- */

/* How much more it is now, in thousandths of ${unit} for each of ${by}; if
 * that is more than an event can say, it is nonsense. */
static void
set_change(struct sample *sample, enum metric_kind kind, uint64_t before,
    uint64_t now, double unit, double by)
{

	double milli;

	if (now < before || by <= 0)
		return;
	milli = round(1000 * unit * (double)(now - before) / by);
	sample->known[kind] = milli <= 1000.0 * EVENT_METRIC_MOST;
	if (sample->known[kind])
		sample->value_milli[kind] = (int64_t)milli;
}

static void
compare_disks(const struct machine_counters *before,
    const struct machine_counters *now, double passed_s, struct sample *sample)
{

	if (!before->has_disks || !now->has_disks ||
	    before->disks != now->disks)
		return;
	set_change(sample, METRIC_DISK_READ, before->sectors_read,
	    now->sectors_read, SECTOR_BYTES, passed_s);
	set_change(sample, METRIC_DISK_WRITTEN, before->sectors_written,
	    now->sectors_written, SECTOR_BYTES, passed_s);
	set_change(sample, METRIC_DISK_BUSY, before->disk_busy_ms,
	    now->disk_busy_ms, 0.1, passed_s * (double)now->disks);
}

void
machine_compare(const struct machine_counters *before,
    const struct machine_counters *now, struct sample *sample)
{
	const double passed_s = (double)(now->at_us - before->at_us) / 1e6;

	memset(sample, 0, sizeof(*sample));
	if (now->has_memory)
		set_change(sample, METRIC_MEMORY, 0, now->memory_used, 100,
		    (double)now->memory_total);
	if (now->has_load) {
		sample->known[METRIC_LOAD] = 1;
		sample->value_milli[METRIC_LOAD] = now->load_milli;
	}
	if (before->has_cpu && now->has_cpu &&
	    now->cpu_total > before->cpu_total)
		set_change(sample, METRIC_CPU, before->cpu_busy, now->cpu_busy,
		    100, (double)(now->cpu_total - before->cpu_total));
	compare_disks(before, now, passed_s, sample);
	if (before->has_network && now->has_network) {
		set_change(sample, METRIC_NET_RECEIVED, before->received,
		    now->received, 1, passed_s);
		set_change(sample, METRIC_NET_SENT, before->sent, now->sent, 1,
		    passed_s);
	}
}
