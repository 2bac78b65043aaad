/*
 * ahead -- a thread that reads records ahead of their transaction.
 *
 * What a record's headers say, and what its service decodes, depends on the
 * record alone; what it does, on the file.  While a backlog is worked off the
 * next batch is in hand already, so another processor can read it while this
 * one is applied.  A record is read by whoever comes to it first, the thread or
 * the loop; how far ahead the thread is makes no difference but in time.  It is
 * started when there is something for it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "stream/internal.h"

#define STACK_BYTES ((size_t)256 * 1024)
#define BYTES_MOST ((size_t)2 * 1024 * 1024) /* of what is asked for at once */

/* Who has it.  The thread frees what it finds to be the loop's already; from
 * READ on it belongs to the loop. */
enum state {
	STATE_ASKED,
	STATE_READING, /* the thread's */
	STATE_AWAITED, /* likewise, and the loop sleeps until it is read */
	STATE_READ,
	STATE_TAKEN /* the loop reads it itself, or doesn't need it any more */
};

struct ahead {
	struct ahead *next; /* in the order in which they were asked for */
	_Atomic int state;
	int input;
	struct kafka_record record; /* its bytes and headers are the client's */
	struct identity identity;
	int is_decoded;
	max_align_t decoded[]; /* of svc->decoded_size bytes */
};

static size_t
size_of(const struct stream *s)
{

	return (sizeof(struct ahead) + s->svc->decoded_size);
}

static void
let_go(struct stream *s, struct ahead *a)
{

	atomic_fetch_sub(&s->ahead.bytes, size_of(s));
	free(a);
}

/* ---- the thread's side ---------------------------------------------------- */

static void
read_one(const struct stream *s, struct ahead *a)
{
	struct stream_record record;
	struct mr_error ignored = {0};

	identity_read(&a->record, &a->identity);
	batch_describe(s, a->input, &a->record, &a->identity, &record);
	/* One that can't be decoded is decoded once more by the loop, which
	 * can say so. */
	a->is_decoded = s->svc->decode != NULL &&
	    s->svc->decode(&record, a->decoded, &ignored) == 0;
}

static void
come_to(struct stream *s, struct ahead *a)
{
	struct ahead_queue *q = &s->ahead;
	int state = STATE_ASKED;

	if (!atomic_compare_exchange_strong(&a->state, &state, STATE_READING)) {
		let_go(s, a);
		return;
	}
	read_one(s, a);
	/* From here on it is the loop's. */
	if (atomic_exchange(&a->state, STATE_READ) == STATE_AWAITED) {
		pthread_mutex_lock(&q->lock);
		pthread_cond_signal(&q->read);
		pthread_mutex_unlock(&q->lock);
	}
}

static void *
thread_main(void *arg)
{
	struct stream *s = arg;
	struct ahead_queue *q = &s->ahead;
	struct ahead *a, *next;

	pthread_mutex_lock(&q->lock);
	while (q->first != NULL || !q->stop) {
		if (q->first == NULL) {
			pthread_cond_wait(&q->news, &q->lock);
			continue;
		}
		a = q->first;
		q->first = NULL;
		q->last = &q->first;
		pthread_mutex_unlock(&q->lock);
		for (; a != NULL; a = next) {
			next = a->next;
			come_to(s, a);
		}
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return (NULL);
}

/* ---- the loop's side ------------------------------------------------------ */

void
ahead_init(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;

	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->news, NULL);
	pthread_cond_init(&q->read, NULL);
	q->last = &q->first;
	q->asked_last = &q->asked;
}

struct ahead *
ahead_ask(struct stream *s, const struct kafka_record *record)
{
	struct ahead_queue *q = &s->ahead;
	struct ahead *a;

	if (q->failed || atomic_load(&q->bytes) + size_of(s) > BYTES_MOST ||
	    (a = malloc(size_of(s))) == NULL)
		return (NULL);
	atomic_fetch_add(&q->bytes, size_of(s));
	a->next = NULL;
	a->input = record->topic_index;
	a->record = *record;
	atomic_init(&a->state, STATE_ASKED);
	*q->asked_last = a;
	q->asked_last = &a->next;
	return (a);
}

void
ahead_go(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;
	int e;

	if (q->asked == NULL)
		return;
	pthread_mutex_lock(&q->lock);
	*q->last = q->asked;
	q->last = q->asked_last;
	pthread_cond_signal(&q->news);
	pthread_mutex_unlock(&q->lock);
	q->asked = NULL;
	q->asked_last = &q->asked;
	if (q->started || q->failed)
		return;
	if ((e = thread_start(&q->thread, "ahead", STACK_BYTES, thread_main,
		 s)) == 0) {
		q->started = 1;
		return;
	}
	q->failed = 1;
	log_warn("records are not read ahead", "error", strerror(e));
}

/* NULL, and whose it was is of no matter: the loop reads it. */
static struct ahead *
take(struct stream *s, struct ahead *a)
{
	struct ahead_queue *q = &s->ahead;
	int state = STATE_ASKED;

	if (atomic_compare_exchange_strong(&a->state, &state, STATE_TAKEN))
		return (NULL);
	if (state == STATE_READING &&
	    atomic_compare_exchange_strong(&a->state, &state, STATE_AWAITED)) {
		pthread_mutex_lock(&q->lock);
		while (atomic_load(&a->state) != STATE_READ)
			pthread_cond_wait(&q->read, &q->lock);
		pthread_mutex_unlock(&q->lock);
	}
	return (a);
}

const struct identity *
ahead_read(struct stream *s, struct held *h, struct identity *own,
    const void **decoded)
{

	*decoded = NULL;
	if (h->ahead != NULL)
		h->ahead = take(s, h->ahead);
	if (h->ahead == NULL) {
		identity_read(&h->record, own);
		return (own);
	}
	if (h->ahead->is_decoded)
		*decoded = h->ahead->decoded;
	return (&h->ahead->identity);
}

void
ahead_drop(struct stream *s, struct held *h)
{

	if (h->ahead == NULL || (h->ahead = take(s, h->ahead)) == NULL)
		return;
	let_go(s, h->ahead);
	h->ahead = NULL;
}

void
ahead_done(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;
	struct ahead *a;

	if (q->started) {
		pthread_mutex_lock(&q->lock);
		q->stop = 1;
		pthread_cond_signal(&q->news);
		pthread_mutex_unlock(&q->lock);
		pthread_join(q->thread, NULL);
		q->started = 0;
	}
	*q->last = q->asked;
	while ((a = q->first) != NULL) {
		q->first = a->next;
		let_go(s, a);
	}
	pthread_cond_destroy(&q->read);
	pthread_cond_destroy(&q->news);
	pthread_mutex_destroy(&q->lock);
}
