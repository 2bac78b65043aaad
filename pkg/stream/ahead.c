/*
 * ahead -- a thread that reads records ahead of their transaction, and frees
 * them after it.
 *
 * What a record's headers say, and what its service decodes, depends on the
 * record alone; what it does, on the file.  While a backlog is worked off the
 * next batch is in hand already, so another processor can read it while this
 * one is applied.  A record is read by whoever comes to it first, the thread or
 * the loop; how far ahead the thread is makes no difference but in time.  It is
 * started when there is something for it.
 *
 * What it has read it also frees: the memory is Kafka's client's, and the loop
 * would wait for locks that this client's threads hold.
 */
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "stream/internal.h"

#define STACK_BYTES ((size_t)256 * 1024)
#define BYTES_MOST ((size_t)4 * 1024 * 1024) /* of all slots */
#define SPINS 4000 /* some microseconds, as reading takes */

/* Whose a slot is, and what is to be done with its record. */
enum state {
	STATE_ASKED, /* whose reads it who comes first */
	STATE_READING, /* the thread's */
	STATE_AWAITED, /* likewise, and the loop sleeps until it is read */
	STATE_READ, /* the loop's */
	STATE_TAKEN, /* the thread's to give back: the loop reads the record */
	STATE_SPENT /* the thread's to give back, once it has freed the record */
};

struct ahead {
	struct ahead *next;
	_Atomic int state;
	int input;
	struct kafka_record record; /* the bytes and headers are the client's */
	struct identity identity;
	int is_decoded;
	max_align_t decoded[]; /* of svc->decoded_size bytes */
};

static void
list_clear(struct ahead_list *list)
{

	list->first = NULL;
	list->last = &list->first;
	list->count = 0;
}

static void
list_add(struct ahead_list *list, struct ahead *a)
{

	a->next = NULL;
	*list->last = a;
	list->last = &a->next;
	list->count++;
}

static struct ahead *
list_take(struct ahead_list *list)
{
	struct ahead *a = list->first;

	if (a == NULL)
		return (NULL);
	list->first = a->next;
	if (--list->count == 0)
		list->last = &list->first;
	return (a);
}

/* All of ${from} to the end of ${list}. */
static void
list_join(struct ahead_list *list, struct ahead_list *from)
{

	if (from->count == 0)
		return;
	*list->last = from->first;
	list->last = from->last;
	list->count += from->count;
	list_clear(from);
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
come_to(struct stream *s, struct ahead *a, struct ahead_list *back)
{
	struct ahead_queue *q = &s->ahead;
	int state = STATE_ASKED;

	if (atomic_compare_exchange_strong(&a->state, &state, STATE_READING)) {
		read_one(s, a);
		state = STATE_READING;
		if (atomic_compare_exchange_strong(&a->state, &state,
			STATE_READ))
			return; /* from here on it is the loop's */
		if (state == STATE_AWAITED) {
			pthread_mutex_lock(&q->lock);
			atomic_store(&a->state, STATE_READ);
			pthread_cond_signal(&q->read);
			pthread_mutex_unlock(&q->lock);
			return;
		}
	}
	if (state == STATE_SPENT)
		kafka_record_free(&a->record);
	list_add(back, a);
}

static void *
thread_main(void *arg)
{
	struct stream *s = arg;
	struct ahead_queue *q = &s->ahead;
	struct ahead_list mine, back;
	struct ahead *a;

	thread_give_way();
	list_clear(&mine);
	list_clear(&back);
	pthread_mutex_lock(&q->lock);
	while (q->told.count > 0 || !q->stop) {
		if (q->told.count == 0) {
			pthread_cond_wait(&q->news, &q->lock);
			continue;
		}
		list_join(&mine, &q->told);
		pthread_mutex_unlock(&q->lock);
		while ((a = list_take(&mine)) != NULL)
			come_to(s, a, &back);
		pthread_mutex_lock(&q->lock);
		list_join(&q->back, &back);
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
	list_clear(&q->to_tell);
	list_clear(&q->spare);
	list_clear(&q->told);
	list_clear(&q->back);
}

/*
 * All slots at once, which malloc maps by themselves, so that they leave nothing
 * behind: for three batches and a half in hand, and for what the thread hasn't
 * given back yet.
 */
static void
slots_make(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;
	const size_t align = alignof(max_align_t);
	size_t size, i, count = 7 * (size_t)s->conf->batch_records;

	size = sizeof(struct ahead) + s->svc->decoded_size;
	size = (size + align - 1) / align * align;
	if (count > BYTES_MOST / size)
		count = BYTES_MOST / size;
	if (count == 0)
		return;
	if ((q->slots = malloc(count * size)) == NULL)
		return;
	for (i = 0; i < count; i++)
		list_add(&q->spare, (void *)(q->slots + i * size));
	q->slots_count = count;
}

static void
slots_free(struct ahead_queue *q)
{

	free(q->slots);
	q->slots = NULL;
	list_clear(&q->spare);
}

struct ahead *
ahead_ask(struct stream *s, const struct kafka_record *record)
{
	struct ahead_queue *q = &s->ahead;
	struct ahead *a;

	if (q->failed)
		return (NULL);
	if (q->slots == NULL)
		slots_make(s);
	if ((a = list_take(&q->spare)) == NULL)
		return (NULL);
	a->input = record->topic_index;
	a->record = *record;
	atomic_init(&a->state, STATE_ASKED);
	list_add(&q->to_tell, a);
	return (a);
}

static void
hand_over(struct ahead_queue *q, int stop)
{

	pthread_mutex_lock(&q->lock);
	list_join(&q->told, &q->to_tell);
	/* Those first that are in the processor's cache. */
	list_join(&q->back, &q->spare);
	list_join(&q->spare, &q->back);
	q->stop = stop;
	if (q->told.count > 0 || stop)
		pthread_cond_signal(&q->news);
	pthread_mutex_unlock(&q->lock);
}

void
ahead_go(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;
	int e;

	if (q->slots == NULL)
		return;
	hand_over(q, 0);
	if (q->spare.count == q->slots_count)
		slots_free(q);
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

/*
 * Until the thread isn't reading it any more: the client looks for a record's
 * headers when they are first asked for, which only one thread may do.
 */
static void
settle(struct ahead_queue *q, struct ahead *a)
{
	int state, i;

	for (i = 0; (state = atomic_load(&a->state)) == STATE_READING; i++)
		if (i == SPINS &&
		    atomic_compare_exchange_strong(&a->state, &state,
			STATE_AWAITED)) {
			pthread_mutex_lock(&q->lock);
			while (atomic_load(&a->state) != STATE_READ)
				pthread_cond_wait(&q->read, &q->lock);
			pthread_mutex_unlock(&q->lock);
		}
}

const struct identity *
ahead_read(struct stream *s, struct held *h, struct identity *own,
    const void **decoded)
{
	struct ahead *a = h->ahead;
	int state = STATE_ASKED;

	*decoded = NULL;
	if (a == NULL ||
	    atomic_compare_exchange_strong(&a->state, &state, STATE_TAKEN)) {
		h->ahead = NULL;
		identity_read(&h->record, own);
		return (own);
	}
	settle(&s->ahead, a);
	if (a->is_decoded)
		*decoded = a->decoded;
	return (&a->identity);
}

void
ahead_free(struct stream *s, struct held *h)
{
	struct ahead *a = h->ahead;
	int state = STATE_ASKED;

	h->ahead = NULL;
	if (a == NULL ||
	    atomic_compare_exchange_strong(&a->state, &state, STATE_TAKEN))
		kafka_record_free(&h->record);
	else if (atomic_exchange(&a->state, STATE_SPENT) == STATE_READ)
		list_add(&s->ahead.to_tell, a);
}

void
ahead_stop(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;

	if (q->started) {
		hand_over(q, 1);
		pthread_join(q->thread, NULL);
		q->started = 0;
	}
	/* Without a thread none was read, and none is to be freed. */
	list_clear(&q->to_tell);
	list_clear(&q->told);
	list_clear(&q->back);
	slots_free(q);
}

void
ahead_done(struct stream *s)
{
	struct ahead_queue *q = &s->ahead;

	pthread_cond_destroy(&q->read);
	pthread_cond_destroy(&q->news);
	pthread_mutex_destroy(&q->lock);
}
