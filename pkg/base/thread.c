#include <signal.h>

#include "base/thread.h"

int
thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
    void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int e;

	if ((e = pthread_attr_init(&attr)) != 0)
		return (e);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if ((e = pthread_attr_setstacksize(&attr, stack_bytes)) == 0 &&
	    (e = pthread_create(thread, &attr, run, arg)) == 0)
		pthread_setname_np(*thread, name);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return (e);
}
