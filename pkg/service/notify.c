/* notify -- systemd's protocol for services. */
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/notify.h"

#define QUEUE_WAIT_US INT64_C(2000000)
#define EXTEND_EVERY_US INT64_C(1000000)

static struct notify {
	int fd; /* -1: nobody listens */
	int64_t watchdog_us; /* 0: there is none */
	int64_t extended_us; /* when more time was asked for, or none needed */
	int stopping; /* it was said */
	int watching; /* the thread runs */
	pthread_t thread;
	int (*alive)(void *arg, char *reason, size_t reason_size);
	void *arg;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t ended;
	int end;
} notify = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* The watchdog's time, if it is this process's. */
static int64_t
watchdog_us(void)
{
	const char *pid = getenv("WATCHDOG_PID"), *us = getenv("WATCHDOG_USEC");
	int64_t value;

	if (us == NULL || (pid != NULL && strtoll(pid, NULL, 10) != getpid()))
		return (0);
	value = strtoll(us, NULL, 10);
	return (value > 0 ? value : 0);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	int fd;

	/* A path, or a name in the abstract space with @ for its NUL. */
	if ((path[0] != '/' && path[0] != '@') || length < 2 ||
	    length >= sizeof(to.sun_path))
		return (-1);
	memcpy(to.sun_path, path, length);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		 0)) == -1)
		return (-1);
	if (connect(fd, (const struct sockaddr *)&to,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) ==
	    -1) {
		close(fd);
		return (-1);
	}
	return (fd);
}

void
notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (notify.fd != -1)
		close(notify.fd);
	notify.fd = -1;
	notify.watchdog_us = 0;
	notify.extended_us = clock_mono_us();
	if (path != NULL && (notify.fd = connect_to(path)) == -1)
		log_warn("the service manager can't be told", "socket", path,
		    "error", strerror(errno));
	if (notify.fd != -1)
		notify.watchdog_us = watchdog_us();
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
}

/* 0, or -1 with errno. */
static int
tell(const char *text)
{

	if (notify.fd == -1)
		return (0);
	return (
	    send(notify.fd, text, strlen(text), MSG_NOSIGNAL) == -1 ? -1 : 0);
}

/* What is said once: wait while the manager's queue is full. */
static void
tell_once(const char *text)
{
	struct pollfd queue = {.fd = notify.fd, .events = POLLOUT};
	int64_t left_ms, until_us = clock_mono_us() + QUEUE_WAIT_US;

	while (tell(text) == -1 && (errno == EAGAIN || errno == EINTR)) {
		left_ms = (until_us - clock_mono_us()) / 1000;
		if (left_ms <= 0)
			return;
		(void)poll(&queue, 1, (int)left_ms);
	}
}

/* Wait half the watchdog's time; 1 if told to end before. */
static int
wait_half(void)
{
	struct timespec until;
	int64_t ns;
	int ended;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns = until.tv_nsec + notify.watchdog_us / 2 * 1000;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	pthread_mutex_lock(&notify.lock);
	while (!notify.end &&
	    pthread_cond_timedwait(&notify.ended, &notify.lock, &until) !=
		ETIMEDOUT)
		;
	ended = notify.end;
	pthread_mutex_unlock(&notify.lock);
	return (ended);
}

/* The watchdog's thread: says that the process lives, while it does. */
static void *
watch(void *unused)
{
	char reason[640];
	int told = 1;

	(void)unused;
	do {
		if (notify.alive == NULL ||
		    notify.alive(notify.arg, reason, sizeof(reason))) {
			(void)tell("WATCHDOG=1");
			told = 0;
		} else if (!told) {
			log_error("not alive: the watchdog isn't told",
			    "reason", reason);
			told = 1;
		}
	} while (!wait_half());
	return (NULL);
}

void
notify_starting(void)
{
	int64_t now_us = clock_mono_us();

	if (now_us - notify.extended_us < EXTEND_EVERY_US)
		return;
	notify.extended_us = now_us;
	(void)tell("EXTEND_TIMEOUT_USEC=120000000");
}

void
notify_ready(int (*alive)(void *arg, char *reason, size_t reason_size),
    void *arg)
{
	pthread_condattr_t attr;

	notify.stopping = 0;
	tell_once("READY=1");
	if (notify.watchdog_us == 0)
		return;
	notify.alive = alive;
	notify.arg = arg;
	notify.end = 0;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&notify.ended, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&notify.thread, NULL, watch, NULL) == 0)
		notify.watching = 1;
	else
		log_error("no thread for the watchdog");
}

void
notify_draining(void)
{

	if (!notify.stopping)
		tell_once("STOPPING=1");
	notify.stopping = 1;
}

void
notify_stopping(void)
{

	notify_draining();
	if (!notify.watching)
		return;
	pthread_mutex_lock(&notify.lock);
	notify.end = 1;
	pthread_cond_signal(&notify.ended);
	pthread_mutex_unlock(&notify.lock);
	pthread_join(notify.thread, NULL);
	pthread_cond_destroy(&notify.ended);
	notify.watching = 0;
}
