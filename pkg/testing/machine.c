/*
 * Defined here, these stand in for the C library's in the whole test, since
 * what a program defines comes before what a library does.
 */
#include <sys/syscall.h>
#include <sys/time.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "testing/internal.h"

#define START_MONO_US INT64_C(1000000000)

static struct machine *shown;
static int64_t skew_ms;
static _Thread_local int is_inside;
static _Thread_local uint64_t draws;

/* As in <sys/random.h>, which isn't included so that this may differ from its
 * attributes. */
ssize_t getrandom(void *bytes, size_t length, unsigned int flags);

void
machine_use(struct machine *m)
{

	shown = m;
}

void
machine_start(struct machine *m)
{

	atomic_store(&m->wall_ms, TESTING_START_MS);
	atomic_store(&m->mono_us, START_MONO_US);
	atomic_store(&m->boot_ms, START_MONO_US / 1000);
}

void
machine_pass(struct machine *m, int64_t ms)
{

	atomic_fetch_add(&m->wall_ms, ms);
	atomic_fetch_add(&m->mono_us, 1000 * ms);
	atomic_fetch_add(&m->boot_ms, ms);
}

static int
real_clock(clockid_t id, struct timespec *ts)
{

	return ((int)syscall(SYS_clock_gettime, id, ts));
}

int64_t
machine_real_us(void)
{
	struct timespec ts;

	(void)real_clock(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

void
machine_inside(int inside)
{

	is_inside = inside;
}

void
machine_skew(int64_t ms)
{

	skew_ms = ms;
}

void
machine_draw(uint64_t seed)
{

	draws = seed;
}

static int64_t
wall_ms(void)
{

	return (atomic_load(&shown->wall_ms) + (is_inside ? skew_ms : 0));
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t us;

	if (shown == NULL)
		return (real_clock(id, ts));
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
		us = 1000 * wall_ms();
		break;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
		us = atomic_load(&shown->mono_us);
		break;
	case CLOCK_BOOTTIME:
		us = 1000 * atomic_load(&shown->boot_ms);
		break;
	default:
		return (real_clock(id, ts));
	}
	ts->tv_sec = us / 1000000;
	ts->tv_nsec = us % 1000000 * 1000;
	return (0);
}

time_t
time(time_t *out)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	if (out != NULL)
		*out = ts.tv_sec;
	return (ts.tv_sec);
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void)zone;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return (0);
}

/* splitmix64 */
static uint64_t
draw(void)
{
	uint64_t z = draws += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31));
}

ssize_t
getrandom(void *bytes, size_t length, unsigned int flags)
{
	unsigned char *p = bytes;
	size_t i;

	if (draws == 0)
		return (syscall(SYS_getrandom, bytes, length, flags));
	for (i = 0; i < length; i++)
		p[i] = (unsigned char)draw();
	return ((ssize_t)length);
}
