/*
 * worker -- two lists under one lock.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "broker/worker.h"

struct jobs {
	struct worker_job *first;
	struct worker_job **last;
};

struct worker {
	pthread_t thread;
	char name[THREAD_NAME_SIZE];
	pthread_mutex_t lock;
	pthread_cond_t given;
	struct jobs todo, done;
	int stopping;
	int wake_fd;
	void *arg;
};

static void
add(struct jobs *jobs, struct worker_job *job)
{

	job->next = NULL;
	*jobs->last = job;
	jobs->last = &job->next;
}

static struct worker_job *
take_first(struct jobs *jobs)
{
	struct worker_job *job = jobs->first;

	if (job == NULL)
		return (NULL);
	if ((jobs->first = job->next) == NULL)
		jobs->last = &jobs->first;
	job->next = NULL;
	return (job);
}

static void
wake_loop(const struct worker *w)
{
	uint64_t one = 1;
	ssize_t n;

	/* A full counter wakes as well. */
	n = write(w->wake_fd, &one, sizeof(one));
	(void)n;
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct worker_job *job;

	thread_name(w->name);
	pthread_mutex_lock(&w->lock);
	for (;;) {
		if ((job = take_first(&w->todo)) == NULL) {
			if (w->stopping)
				break;
			pthread_cond_wait(&w->given, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		job->run(job, w->arg);
		pthread_mutex_lock(&w->lock);
		add(&w->done, job);
		wake_loop(w);
	}
	pthread_mutex_unlock(&w->lock);
	return (NULL);
}

struct worker *
worker_start(const char *name, int wake_fd, void *arg, struct mr_error *err)
{
	struct worker *w = calloc(1, sizeof(*w));
	int e;

	if (w == NULL) {
		mr_error_set(err, MR_FATAL, "%s: out of memory", name);
		return (NULL);
	}
	w->todo.last = &w->todo.first;
	w->done.last = &w->done.first;
	snprintf(w->name, sizeof(w->name), "%s", name);
	w->wake_fd = wake_fd;
	w->arg = arg;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->given, NULL);
	if ((e = pthread_create(&w->thread, NULL, work, w)) != 0) {
		mr_error_set(err, MR_FATAL, "%s: no thread: %s", name,
		    strerror(e));
		pthread_cond_destroy(&w->given);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return (NULL);
	}
	return (w);
}

void
worker_give(struct worker *w, struct worker_job *job)
{

	job->err.kind = MR_OK;
	pthread_mutex_lock(&w->lock);
	add(&w->todo, job);
	pthread_cond_signal(&w->given);
	pthread_mutex_unlock(&w->lock);
}

int
worker_finish(struct worker *w)
{
	struct worker_job *job;
	int n = 0;

	for (;;) {
		pthread_mutex_lock(&w->lock);
		job = take_first(&w->done);
		pthread_mutex_unlock(&w->lock);
		if (job == NULL)
			return (n);
		job->finish(job, w->arg);
		n++;
	}
}

void
worker_stop(struct worker *w)
{

	if (w == NULL)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = 1;
	pthread_cond_signal(&w->given);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	worker_finish(w);
	pthread_cond_destroy(&w->given);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
