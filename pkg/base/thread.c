#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "base/thread.h"

struct start {
	void *(*run)(void *arg);
	void *arg;
	const char *name;
	sem_t taken;
};

void
thread_name(const char *name)
{
	char cut[THREAD_NAME_SIZE];

	snprintf(cut, sizeof(cut), "%s", name);
	(void)prctl(PR_SET_NAME, cut, 0L, 0L, 0L);
}

/*
 * Without malloc: a thread's first call to it, free too, gives it an arena for
 * good, and those that never call it would have all that there are.
 */
static void *
run_named(void *arg)
{
	struct start *start = arg;
	void *(*run)(void *) = start->run;

	thread_name(start->name);
	arg = start->arg;
	sem_post(&start->taken);
	return (run(arg));
}

int
thread_start(pthread_t *thread, const char *name, size_t stack_bytes,
    void *(*run)(void *arg), void *arg)
{
	struct start start = {.run = run, .arg = arg, .name = name};
	pthread_attr_t attr;
	sigset_t all, before;
	int e;

	if ((e = pthread_attr_init(&attr)) != 0)
		return (e);
	(void)sem_init(&start.taken, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if ((e = pthread_attr_setstacksize(&attr, stack_bytes)) == 0)
		e = pthread_create(thread, &attr, run_named, &start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	while (e == 0 && sem_wait(&start.taken) == -1)
		; /* a signal */
	(void)sem_destroy(&start.taken);
	return (e);
}

/* ---- whose turn it is ---------------------------------------------------- */

#define RESET_ON_FORK UINT64_C(1) /* SCHED_FLAG_RESET_ON_FORK: and threads */
#define NICE_MOST 19
#define SLICE_LEAST_NS UINT64_C(100000) /* Linux takes no less */

/*
 * With ten more than the program's first, sched(7), a thread weighs a tenth.
 * What it asks for then counts ten times, so it asks for a tenth of what is
 * usual: 1.4 ms on two or three processors, at most 2.8.
 */
#define GIVE_WAY_NICE 10
#define GIVE_WAY_SLICE_NS UINT64_C(140000)

static void
schedule(int nicer, uint64_t slice_ns, uint64_t flags)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr),
	    .policy = SCHED_OTHER,
	    .flags = flags,
	    .nice = getpriority(PRIO_PROCESS, (id_t)getpid()) + nicer,
	    .runtime = slice_ns};

	if (attr.nice > NICE_MOST)
		attr.nice = NICE_MOST;
	(void)syscall(SYS_sched_setattr, 0, &attr, 0U);
}

void
thread_hurry(void)
{

	schedule(0, SLICE_LEAST_NS, RESET_ON_FORK);
}

void
thread_give_way(void)
{

	schedule(GIVE_WAY_NICE, GIVE_WAY_SLICE_NS, 0);
}
