#include <sys/prctl.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/thread.h"

struct start {
	void *(*run)(void *arg);
	void *arg;
	char name[THREAD_NAME_SIZE];
};

void
thread_name(const char *name)
{
	char cut[THREAD_NAME_SIZE];

	snprintf(cut, sizeof(cut), "%s", name);
	(void)prctl(PR_SET_NAME, cut, 0L, 0L, 0L);
}

static void *
run_named(void *arg)
{
	const struct start start = *(struct start *)arg;

	free(arg);
	thread_name(start.name);
	return (start.run(start.arg));
}

int
thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
    void *(*run)(void *arg), void *arg)
{
	struct start *start;
	pthread_attr_t attr;
	sigset_t all, before;
	int e;

	if ((start = malloc(sizeof(*start))) == NULL)
		return (ENOMEM);
	start->run = run;
	start->arg = arg;
	snprintf(start->name, sizeof(start->name), "%s", name);
	if ((e = pthread_attr_init(&attr)) != 0) {
		free(start);
		return (e);
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if ((e = pthread_attr_setstacksize(&attr, stack_bytes)) == 0)
		e = pthread_create(thread, &attr, run_named, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (e != 0)
		free(start);
	return (e);
}
