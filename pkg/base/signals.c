#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/signals.h"

static void
stop_signals(sigset_t *set)
{

	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
}

int
signals_open(struct mr_error *err)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;
	int fd, rc;

	sigemptyset(&ignore.sa_mask);
	sigaction(SIGPIPE, &ignore, NULL);
	stop_signals(&set);
	if ((rc = pthread_sigmask(SIG_BLOCK, &set, NULL)) != 0)
		return (mr_error_set(err, MR_FATAL, "blocking signals: %s",
		    strerror(rc)));
	if ((fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)) < 0)
		return (mr_error_set(err, MR_FATAL, "opening a signalfd: %s",
		    strerror(errno)));
	return (fd);
}

int
signals_take(int fd)
{
	struct sigaction by_default = {.sa_handler = SIG_DFL};
	struct signalfd_siginfo info;
	sigset_t set;
	ssize_t n;

	do {
		n = read(fd, &info, sizeof(info));
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(info))
		return (0);
	sigemptyset(&by_default.sa_mask);
	sigaction(SIGTERM, &by_default, NULL);
	sigaction(SIGINT, &by_default, NULL);
	stop_signals(&set);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return (1);
}
