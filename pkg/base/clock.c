#include <sys/mman.h>

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define MS_PER_DAY INT64_C(86400000)

/* 0001-01-01 and the last millisecond of 9999. */
#define WALL_LEAST INT64_C(-62135596800000)
#define WALL_MOST INT64_C(253402300799999)

static struct timespec
read_clock(clockid_t id)
{
	struct timespec ts;
	int rc;

	rc = clock_gettime(id, &ts);
	assert(rc == 0);
	(void)rc;
	return (ts);
}

#ifdef MR_FAILPOINTS
static const _Atomic int64_t *shift;
static pthread_once_t shift_once = PTHREAD_ONCE_INIT;

static void
map_shift(void)
{
	static const _Atomic int64_t none;
	const char *path = getenv("MILLRACE_CLOCK_SHIFT");
	void *map;
	int fd;

	shift = &none;
	if (path == NULL)
		return;
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1 ||
	    (map = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0)) ==
		MAP_FAILED)
		abort();
	close(fd);
	shift = map;
}

static int64_t
wall_shift_ms(void)
{
	(void)pthread_once(&shift_once, map_shift);
	return (atomic_load(shift));
}
#else
#define wall_shift_ms() INT64_C(0)
#endif

int64_t
clock_wall_ms(void)
{

	return (clock_wall_us() / 1000);
}

int64_t
clock_wall_us(void)
{
	struct timespec ts = read_clock(CLOCK_REALTIME);

	return ((int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 +
	    1000 * wall_shift_ms());
}

int64_t
clock_mono_us(void)
{
	struct timespec ts = read_clock(CLOCK_MONOTONIC);

	return ((int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

int64_t
clock_boot_ms(void)
{
	struct timespec ts = read_clock(CLOCK_BOOTTIME);

	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

void
clock_boot_id(char id[37])
{
	ssize_t n = -1;
	int fd;

	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, id, 36);
		close(fd);
	}
	if (n != 36)
		memcpy(id, "00000000-0000-0000-0000-000000000000", 36);
	id[36] = '\0';
}

static char *
put_digits(char *p, int64_t n, int width)
{
	int i;

	for (i = width - 1; i >= 0; i--) {
		p[i] = (char)('0' + n % 10);
		n /= 10;
	}
	return (p + width);
}

/*
 * A calendar date from days since 1970-01-01.  Years are counted from 1
 * March, so that a leap day is a year's last and months have a regular
 * length.  (gmtime_r would take a lock for the time zone.)
 */
static void
date_of_days(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
	int64_t era, in_era, year_of_era, in_year, m;

	days += 719468; /* since 0000-03-01 */
	era = (days >= 0 ? days : days - 146096) / 146097;
	in_era = days - era * 146097;
	year_of_era = (in_era - in_era / 1460 + in_era / 36524 -
			  in_era / 146096) /
	    365;
	in_year = in_era -
	    (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	m = (5 * in_year + 2) / 153;
	*day = in_year - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = year_of_era + era * 400 + (*month <= 2);
}

void
clock_rfc3339(int64_t wall_ms, char text[25])
{
	int64_t days, ms, year, month, day;
	char *p = text;

	if (wall_ms < WALL_LEAST)
		wall_ms = WALL_LEAST;
	if (wall_ms > WALL_MOST)
		wall_ms = WALL_MOST;
	days = wall_ms / MS_PER_DAY;
	ms = wall_ms % MS_PER_DAY;
	if (ms < 0) {
		ms += MS_PER_DAY;
		days--;
	}
	date_of_days(days, &year, &month, &day);
	p = put_digits(p, year, 4);
	*p++ = '-';
	p = put_digits(p, month, 2);
	*p++ = '-';
	p = put_digits(p, day, 2);
	*p++ = 'T';
	p = put_digits(p, ms / 3600000, 2);
	*p++ = ':';
	p = put_digits(p, ms / 60000 % 60, 2);
	*p++ = ':';
	p = put_digits(p, ms / 1000 % 60, 2);
	*p++ = '.';
	p = put_digits(p, ms % 1000, 3);
	*p++ = 'Z';
	*p = '\0';
}
