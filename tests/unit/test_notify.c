/*
 * The service manager's side of systemd's protocol, as sd_notify(3) says: a
 * datagram socket that the process is told of by its environment.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "service/notify.h"

#define DEADLINE_S 20

static int manager;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

/* A socket at ${name}, where @ stands for the NUL of an abstract name. */
static void
listen_at(const char *name)
{
	struct timeval deadline = {.tv_sec = DEADLINE_S};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(manager >= 0);
	assert_int_equal(bind(manager, (const struct sockaddr *)&address,
			     (socklen_t)(offsetof(struct sockaddr_un,
					     sun_path) +
				 strlen(name))),
	    0);
	assert_int_equal(setsockopt(manager, SOL_SOCKET, SO_RCVTIMEO, &deadline,
			     sizeof(deadline)),
	    0);
	setenv("NOTIFY_SOCKET", name, 1);
}

static const char *
heard(void)
{
	static char text[256];
	ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

	assert_true(n > 0);
	text[n] = '\0';
	return (text);
}

static void
expect_silence(void)
{
	char byte;

	assert_int_equal(recv(manager, &byte, 1, MSG_DONTWAIT), -1);
}

static void
it_is_told_of_the_start_and_the_end(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "/tmp/test-notify-%d", getpid());
	listen_at(name);
	notify_open();
	assert_null(getenv("NOTIFY_SOCKET"));
	notify_ready(NULL, NULL);
	assert_string_equal(heard(), "READY=1");
	notify_draining();
	assert_string_equal(heard(), "STOPPING=1");
	notify_stopping(); /* once is enough */
	expect_silence();
	close(manager);
	unlink(name);
	notify_stopping(); /* nobody listens: no harm */
}

static void
a_long_start_asks_for_time(void **state)
{
	char name[64], text[64];
	int64_t until_us = clock_mono_us() + 10000000;
	ssize_t size;

	(void)state;
	snprintf(name, sizeof(name), "@test-notify-start-%d", getpid());
	listen_at(name);
	notify_open();
	notify_starting(); /* a short one has nothing to ask for */
	expect_silence();
	while ((size = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT)) ==
		-1 &&
	    clock_mono_us() < until_us) {
		notify_starting();
		(void)poll(NULL, 0, 10);
	}
	assert_true(size > 0);
	text[size] = '\0';
	assert_string_equal(text, "EXTEND_TIMEOUT_USEC=120000000");
	notify_starting(); /* it has them */
	expect_silence();
	close(manager);
}

/* As many datagrams as the manager's queue takes. */
static void
fill_queue(const char *name)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)&address,
			     (socklen_t)(offsetof(struct sockaddr_un,
					     sun_path) +
				 strlen(name))),
	    0);
	while (send(fd, "STATUS=", 7, MSG_DONTWAIT) == 7)
		continue;
	close(fd);
}

static void *
drain(void *unused)
{

	(void)unused;
	notify_draining();
	return (NULL);
}

static void
what_is_said_once_waits_for_a_full_queue(void **state)
{
	struct timespec until;
	pthread_t drainer;
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "@test-notify-full-%d", getpid());
	listen_at(name);
	notify_open();
	notify_ready(NULL, NULL);
	fill_queue(name);
	assert_int_equal(pthread_create(&drainer, NULL, drain, NULL), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 100000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	assert_int_equal(pthread_timedjoin_np(drainer, NULL, &until),
	    ETIMEDOUT);
	assert_string_equal(heard(), "READY=1");
	while (strcmp(heard(), "STOPPING=1") != 0)
		continue;
	assert_int_equal(pthread_join(drainer, NULL), 0);
	notify_stopping();
	close(manager);
}

static atomic_int lives, asked;

static int
is_alive(void *arg, char *reason, size_t reason_size)
{

	assert_ptr_equal(arg, &lives);
	snprintf(reason, reason_size, "the loop hangs");
	atomic_fetch_add(&asked, 1);
	return (atomic_load(&lives));
}

static void
the_watchdog_hears_of_the_living_only(void **state)
{
	char name[64], pid[24];
	int seen, i;

	(void)state;
	snprintf(name, sizeof(name), "@test-notify-%d", getpid());
	listen_at(name);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("WATCHDOG_PID", pid, 1);
	setenv("WATCHDOG_USEC", "40000", 1);
	notify_open();
	assert_null(getenv("WATCHDOG_USEC"));
	atomic_store(&lives, 1);
	notify_ready(is_alive, &lives);
	assert_string_equal(heard(), "READY=1");
	for (i = 0; i < 3; i++)
		assert_string_equal(heard(), "WATCHDOG=1");
	atomic_store(&lives, 0);
	/* What was under way comes yet; two questions later, nothing. */
	for (seen = atomic_load(&asked); atomic_load(&asked) < seen + 2;)
		usleep(1000);
	while (recv(manager, name, sizeof(name), MSG_DONTWAIT) > 0)
		;
	for (seen = atomic_load(&asked); atomic_load(&asked) < seen + 2;)
		usleep(1000);
	expect_silence();
	notify_stopping();
	assert_string_equal(heard(), "STOPPING=1");
	close(manager);
}

static void
anothers_watchdog_is_left_alone(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "@test-notify-2-%d", getpid());
	listen_at(name);
	setenv("WATCHDOG_PID", "1", 1);
	setenv("WATCHDOG_USEC", "1000", 1);
	notify_open();
	notify_ready(is_alive, &lives);
	assert_string_equal(heard(), "READY=1");
	notify_stopping();
	assert_string_equal(heard(), "STOPPING=1");
	expect_silence();
	close(manager);
}

static void
names_that_are_none_are_refused(void **state)
{
	char name[200];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	notify_open();
	notify_ready(NULL, NULL);
	setenv("NOTIFY_SOCKET", "relative", 1);
	notify_open();
	notify_ready(NULL, NULL);
	setenv("NOTIFY_SOCKET", "", 1);
	notify_open();
	notify_ready(NULL, NULL);
	notify_stopping();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_is_told_of_the_start_and_the_end),
	    cmocka_unit_test(a_long_start_asks_for_time),
	    cmocka_unit_test(what_is_said_once_waits_for_a_full_queue),
	    cmocka_unit_test(the_watchdog_hears_of_the_living_only),
	    cmocka_unit_test(anothers_watchdog_is_left_alone),
	    cmocka_unit_test(names_that_are_none_are_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
