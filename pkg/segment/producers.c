#include <stdlib.h>

#include "segment/internal.h"

/*
 * Sequences count records from 0 to 2^31 - 1 and begin again at 0 (KIP-98).
 */
static int32_t
sequence_after(int32_t sequence, int32_t count)
{

	return ((int32_t)(((uint32_t)sequence + (uint32_t)count) & INT32_MAX));
}

static int32_t
last_sequence(const struct batch_header *h)
{

	return (sequence_after(h->base_sequence, h->last_offset_delta));
}

static int
refuse(struct mr_error *err, int code, const struct batch_header *h,
    const struct producer *pr)
{

	mr_error_set(err, MR_REJECT,
	    "producer %lld sent epoch %d, sequence %d, where epoch %d and "
	    "sequence %d are next",
	    (long long)h->producer_id, h->producer_epoch, h->base_sequence,
	    pr->epoch,
	    sequence_after(pr->batches[pr->count - 1].last_sequence, 1));
	return (code);
}

int
producers_check(const struct producers *p, const struct batch_header *h,
    struct producer_batch *again, struct mr_error *err)
{
	const struct producer *pr;
	const struct producer_batch *b;
	int i;

	pr = map_find(&p->by_id, &h->producer_id, sizeof(h->producer_id));
	/* What came before may be deleted, or its producer forgotten. */
	if (pr == NULL || pr->count == 0)
		return (PLOG_OK);
	if (h->producer_epoch < pr->epoch)
		return (refuse(err, PLOG_FENCED, h, pr));
	if (h->producer_epoch > pr->epoch)
		return (h->base_sequence == 0 ?
			PLOG_OK :
			refuse(err, PLOG_OUT_OF_ORDER, h, pr));
	for (i = 0; i < pr->count; i++) {
		b = &pr->batches[i];
		if (b->first_sequence == h->base_sequence &&
		    b->last_sequence == last_sequence(h)) {
			*again = *b;
			return (PLOG_DUPLICATE);
		}
	}
	if (h->base_sequence !=
	    sequence_after(pr->batches[pr->count - 1].last_sequence, 1))
		return (refuse(err, PLOG_OUT_OF_ORDER, h, pr));
	return (PLOG_OK);
}

static void
unlink_producer(struct producers *p, struct producer *pr)
{

	if (pr->older != NULL)
		pr->older->newer = pr->newer;
	else
		p->oldest = pr->newer;
	if (pr->newer != NULL)
		pr->newer->older = pr->older;
	else
		p->newest = pr->older;
	pr->older = pr->newer = NULL;
}

static void
link_newest(struct producers *p, struct producer *pr)
{

	pr->older = p->newest;
	pr->newer = NULL;
	if (p->newest != NULL)
		p->newest->newer = pr;
	else
		p->oldest = pr;
	p->newest = pr;
}

static void
forget(struct producers *p, struct producer *pr)
{

	(void)map_remove(&p->by_id, &pr->id, sizeof(pr->id));
	unlink_producer(p, pr);
	free(pr);
}

int
producers_reserve(struct producers *p, int64_t id, int32_t most)
{
	struct producer *pr;

	if (map_find(&p->by_id, &id, sizeof(id)) != NULL)
		return (0);
	if ((pr = calloc(1, sizeof(*pr))) == NULL)
		return (-1);
	pr->id = id;
	if (map_add(&p->by_id, &pr->id, sizeof(pr->id), pr) == -1) {
		free(pr);
		return (-1);
	}
	link_newest(p, pr);
	while (p->by_id.count > (size_t)most && p->oldest != pr)
		forget(p, p->oldest);
	return (0);
}

void
producers_note(struct producers *p, const struct batch_header *h,
    int64_t last_offset, int64_t append_time_ms, int64_t now_ms)
{
	struct producer *pr;
	struct producer_batch *b;
	int i;

	pr = map_find(&p->by_id, &h->producer_id, sizeof(h->producer_id));
	if (pr == NULL)
		return;
	if (pr->epoch != h->producer_epoch)
		pr->count = 0;
	pr->epoch = h->producer_epoch;
	pr->last_ms = now_ms;
	if (pr->count == 5) {
		for (i = 0; i < 4; i++)
			pr->batches[i] = pr->batches[i + 1];
		pr->count--;
	}
	b = &pr->batches[pr->count++];
	b->first_sequence = h->base_sequence;
	b->last_sequence = last_sequence(h);
	b->last_offset = last_offset;
	b->append_time_ms = append_time_ms;
	unlink_producer(p, pr);
	link_newest(p, pr);
}

int
producers_expire(struct producers *p, int64_t before_ms)
{
	int count = 0;

	while (p->oldest != NULL && p->oldest->last_ms < before_ms) {
		forget(p, p->oldest);
		count++;
	}
	return (count);
}

void
producers_free(struct producers *p)
{

	while (p->oldest != NULL)
		forget(p, p->oldest);
	map_free(&p->by_id);
}

int
plog_producer_next(const struct plog *log, size_t *at,
    struct plog_producer *out)
{
	const struct producer *pr;
	const struct producer_batch *b;

	if ((pr = map_next(&log->producers.by_id, at)) == NULL)
		return (0);
	b = pr->count > 0 ? &pr->batches[pr->count - 1] : NULL;
	out->producer_id = pr->id;
	out->epoch = pr->epoch;
	out->last_sequence = b != NULL ? b->last_sequence : -1;
	out->last_offset = b != NULL ? b->last_offset : -1;
	out->last_time_ms = pr->last_ms;
	return (1);
}
