#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <nss.h>
#endif

#include "base/program.h"

/*
 * Were 2 free, the next file opened would be written over by log lines.
 * Where there is no /dev/null an event descriptor keeps the number taken.
 */
static void
take_standard_descriptors(void)
{
	int fd;

	do {
		if ((fd = open("/dev/null", O_RDWR)) < 0)
			fd = eventfd(0, EFD_NONBLOCK);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

#define SLICE_NS UINT64_C(100000)
#define RESET_ON_FORK UINT64_C(1) /* SCHED_FLAG_RESET_ON_FORK: and threads */

/*
 * The first thread is a program's loop, for which everybody waits, and it
 * sleeps at every sync: with a short slice it gets a processor as soon as it
 * wakes, instead of when somebody else's slice is over.  Its share stays what
 * it was.  sched_setattr(2); Linux takes the slice from 6.12 on, and those
 * before ignore it.
 */
static void
wake_soon(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr),
	    .policy = SCHED_OTHER,
	    .flags = RESET_ON_FORK,
	    .runtime = SLICE_NS};

	(void)syscall(SYS_sched_setattr, 0, &attr, 0U);
}

void
program_start(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	take_standard_descriptors();
#ifdef __GLIBC__
	(void)__nss_configure_lookup("hosts", "files dns");
#endif
	/* An arena a thread would hold memory that others could use. */
	(void)mallopt(M_ARENA_MAX, 4);
	(void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	/* Each thread's own cache has the small ones; these would be gathered
	 * up again whenever something large is freed. */
	(void)mallopt(M_MXFAST, 0);
	wake_soon();
	umask(007);
	sigemptyset(&ignore.sa_mask);
	sigaction(SIGPIPE, &ignore, NULL);
}
