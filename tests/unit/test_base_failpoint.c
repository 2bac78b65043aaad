#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The code itself, so that every kind of build tests it. */
#ifndef MR_FAILPOINTS
#define MR_FAILPOINTS 1
#endif
#include "base/failpoint.c" /* NOLINT(bugprone-suspicious-include) */

/*
 * Run ${passes} passes of failpoint "a" in a child with ${spec} set.  Returns
 * its wait status; it exits with the number of passes that were told to fail
 * times 10, plus the number of the first of those.
 */
static int
run(const char *spec, int passes)
{
	int i, errors = 0, first = 0, status = 0;
	pid_t pid;

	if ((pid = fork()) == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(99);
		setenv("MILLRACE_FAILPOINT", spec, 1);
		for (i = 1; i <= passes; i++) {
			if (FAILPOINT("a")) {
				errors++;
				if (first == 0)
					first = i;
			}
		}
		_exit(errors * 10 + first);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (WIFSTOPPED(status)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return (status);
}

static void
acts_once_after_the_passes_let_through(void **state)
{
	static const struct {
		const char *spec;
		int passes, exit_status;
	} cases[] = {
	    {"", 5, 0},
	    {"a=error", 5, 11},
	    {"a=error@0", 5, 11},
	    {"a=error@3", 5, 14},
	    {"a=error@5", 5, 0},
	    {"b=kill", 5, 0},
	    {"b=kill,a=error@1", 5, 12},
	    {"a=error@1,a=error@2", 5, 22},
	    {"a=kill@5", 5, 0},
	};
	size_t i;
	int status;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		status = run(cases[i].spec, cases[i].passes);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), cases[i].exit_status);
	}
}

static void
kills_and_stops_the_process(void **state)
{
	int status;

	(void)state;
	status = run("a=kill@4", 5);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	status = run("a=stop@4", 5);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

static void
escape_makes_a_file_outside(void **state)
{
	char folder[] = "/tmp/test_failpoint.XXXXXX", made[64];
	int status;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(made, sizeof(made), "%s/made", folder);
	setenv("MILLRACE_OUTSIDE", folder, 1);
	status = run("a=escape@1", 1);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(access(made, F_OK), -1);
	status = run("a=escape@1", 2);
	unsetenv("MILLRACE_OUTSIDE");
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(unlink(made), 0);
	assert_int_equal(rmdir(folder), 0);
}

static void
aborts_for_a_misspelt_spec(void **state)
{
	static const char *const bad[] = {"a", "a=", "a=explode", "=kill",
	    "a=kill@", "a=kill@x", "a=kill@1x", "a=kill@-1", "b=kill,a",
	    "a=escape" /* from where? */};
	size_t i;
	int status;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		status = run(bad[i], 1);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(acts_once_after_the_passes_let_through),
	    cmocka_unit_test(kills_and_stops_the_process),
	    cmocka_unit_test(escape_makes_a_file_outside),
	    cmocka_unit_test(aborts_for_a_misspelt_spec),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
