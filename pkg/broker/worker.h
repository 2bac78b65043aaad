/*
 * worker -- a thread that does one thing after another for an event loop.
 *
 * A job is run on the worker's thread, in the order given, and finished on
 * the loop's thread by worker_finish, which the loop calls when the worker's
 * descriptor is readable.  Jobs are the caller's memory until they are
 * finished.
 */
#ifndef MR_BROKER_WORKER_H
#define MR_BROKER_WORKER_H

#include "base/error.h"

struct worker;

struct worker_job {
	struct worker_job *next;
	void (*run)(struct worker_job *job, void *arg); /* worker's thread */
	void (*finish)(struct worker_job *job, void *arg); /* loop's thread */
	struct mr_error err; /* for run to fill in */
};

/*
 * worker_start -- a thread named ${name} (15 characters); ${arg} is handed to
 * the jobs.  ${wake_fd} is an eventfd that is written to when a job is
 * done; it is borrowed.  NULL on error.
 */
struct worker *worker_start(const char *name, int wake_fd, void *arg,
    struct mr_error *err);
void worker_give(struct worker *w, struct worker_job *job);
/* worker_finish -- finish what is done.  Returns how many. */
int worker_finish(struct worker *w);
/* worker_stop -- run what was given, stop, finish it, free.  NULL: no-op. */
void worker_stop(struct worker *w);

#endif
