#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <nss.h>
#endif

#include "base/program.h"
#include "base/thread.h"

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

void
program_start(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	take_standard_descriptors();
#ifdef __GLIBC__
	(void)__nss_configure_lookup("hosts", "files dns");
#endif
	/*
	 * With one broker, one for each thread that takes memory all the time:
	 * in an arena that it shared with another, the loop waited for its lock
	 * 4,000 times a second.  More would hold memory that others could use.
	 */
	(void)mallopt(M_ARENA_MAX, 16);
	(void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	/* Each thread's own cache has the small ones; these would be gathered
	 * up again whenever something large is freed. */
	(void)mallopt(M_MXFAST, 0);
	thread_hurry();
	umask(007);
	sigemptyset(&ignore.sa_mask);
	sigaction(SIGPIPE, &ignore, NULL);
}
