#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/program.h"
#include "base/signals.h"

static int
is_readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return (poll(&pfd, 1, 0) == 1);
}

/* What the child says by its exit status: 0, or the number of a failure. */
static int
drain_then_die(int signo)
{
	struct mr_error err;
	int fd;

	if ((fd = signals_open(&err)) < 0)
		return (1);
	if (is_readable(fd) || signals_take(fd) != 0)
		return (2);
	kill(getpid(), signo);
	if (!is_readable(fd) || signals_take(fd) != 1)
		return (3);
	if (is_readable(fd) || signals_take(fd) != 0)
		return (4);
	kill(getpid(), signo);
	return (5);
}

static void
the_first_signal_drains_and_the_second_ends(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT};
	int i, status;
	pid_t pid;

	(void)state;
	for (i = 0; i < 2; i++) {
		if ((pid = fork()) == 0)
			_exit(drain_then_die(signals[i]));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), signals[i]);
	}
}

static void
a_program_starts_with_safe_descriptors_and_mask(void **state)
{
	int fds[2], status;
	pid_t pid;

	(void)state;
	if ((pid = fork()) == 0) {
		close(STDERR_FILENO);
		close(STDIN_FILENO);
		program_start();
		if (fcntl(STDIN_FILENO, F_GETFD) < 0 ||
		    fcntl(STDERR_FILENO, F_GETFD) < 0)
			_exit(1);
		if (umask(0) != 007)
			_exit(2);
		if (pipe(fds) != 0 || fds[0] < 3)
			_exit(3);
		close(fds[0]);
		if (write(fds[1], "x", 1) != -1 || errno != EPIPE)
			_exit(4);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_first_signal_drains_and_the_second_ends),
	    cmocka_unit_test(a_program_starts_with_safe_descriptors_and_mask),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
