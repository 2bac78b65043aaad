#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "segment/tidy.h"

/* By its newest record, as in Kafka; one without times by its last write. */
static int
is_expired(const struct plog *log, const struct plog_segment *segment,
    int64_t now_ms)
{
	int64_t newest = segment->max_time_ms;

	if ((log->conf.cleanup & PLOG_DELETE) == 0 ||
	    log->conf.retention_ms < 0)
		return (0);
	if (newest < 0)
		newest = segment->written_ms;
	return (newest < now_ms - log->conf.retention_ms);
}

static int
is_too_much(const struct plog *log, const struct plog_segment *segment)
{

	return ((log->conf.cleanup & PLOG_DELETE) != 0 &&
	    log->conf.retention_bytes >= 0 &&
	    log->size - segment->size >= log->conf.retention_bytes);
}

static void
roll_if_old(struct plog *log, int64_t now_ms)
{
	const struct plog_segment *active = plog_active(log);

	if (active->size > 0 &&
	    (now_ms - active->began_ms >= log->conf.segment_ms ||
		is_expired(log, active, now_ms) || active->next <= log->start))
		(void)plog_roll(log, log->end, NULL);
}

/*
 * Whether the oldest segment is old, or too much.  One that compaction left
 * nothing of is what the next is that has records: Kafka merges the two.
 */
static int
is_outlived(const struct plog *log, int64_t now_ms)
{
	size_t i = 0;

	while (i + 1 < log->count && log->segments[i]->size == 0)
		i++;
	return (i + 1 < log->count &&
	    (is_expired(log, log->segments[i], now_ms) ||
		is_too_much(log, log->segments[i])));
}

/* The oldest segments, as long as there is a reason. */
static void
drop_oldest(struct plog *log, struct plog_tidy *tidy)
{
	const struct plog_segment *oldest;

	while (log->count > 1 && tidy->unlink_count < TIDY_UNLINK_MOST) {
		oldest = log->segments[0];
		if (oldest->next > log->flushed_end ||
		    (oldest->next > log->start &&
			!is_outlived(log, tidy->now_ms)))
			break;
		tidy->unlink[tidy->unlink_count++] = oldest->base;
		segments_drop(log, 0, 1);
		tidy->did.segments_deleted++;
		if (log->start < log->segments[0]->base)
			log->start = log->segments[0]->base;
		log->checkpoint_due = 1;
	}
	if (log->cleaned_to < log->start)
		log->cleaned_to = log->start;
	epochs_trim(log);
}

/* Segments that compaction left nothing of, once that is on disk. */
static void
drop_empty(struct plog *log, struct plog_tidy *tidy)
{
	const struct plog_segment *segment;
	size_t i;

	for (i = 1; i + 1 < log->count;) {
		segment = log->segments[i];
		if (segment->size > 0 || !segment->compacted ||
		    !log->segments[i - 1]->compacted ||
		    tidy->unlink_count == TIDY_UNLINK_MOST) {
			i++;
			continue;
		}
		log->segments[i - 1]->next = segment->next;
		tidy->unlink[tidy->unlink_count++] = segment->base;
		segments_drop(log, i, 1);
	}
}

/*
 * When compaction was first over a segment, whether or not it took anything from
 * it.  A time that is lost, or that an older program didn't keep, is noted anew:
 * tombstones stay for longer then, and never go earlier.
 */
static void
note_clean(struct plog *log, int64_t now_ms)
{
	struct plog_segment *segment;
	size_t i;

	for (i = 0; i + 1 < log->count; i++) {
		segment = log->segments[i];
		if (segment->next > log->cleaned_to)
			break;
		if (segment->clean_ms > 0)
			continue;
		segment->clean_ms = now_ms;
		log->checkpoint_due = 1;
	}
}

/* How many of the oldest segments may be compacted, and whether it is worth it. */
static size_t
count_cleanable(const struct plog *log, int64_t now_ms)
{
	const struct plog_segment *segment;
	int64_t clean = 0, dirty = 0;
	size_t i;

	if ((log->conf.cleanup & PLOG_COMPACT) == 0)
		return (0);
	for (i = 0; i + 1 < log->count; i++) {
		segment = log->segments[i];
		if (segment->next > log->checkpoint_end ||
		    segment->next > log->flushed_end ||
		    (log->conf.compaction_lag_ms > 0 &&
			segment->max_time_ms >
			    now_ms - log->conf.compaction_lag_ms))
			break;
		if (segment->next > log->cleaned_to)
			dirty += segment->size;
		else
			clean += segment->size;
	}
	return (dirty > 0 &&
		    (double)dirty >=
			log->conf.dirty_ratio_least * (double)(clean + dirty) ?
		i :
		0);
}

static void
take_cleanable(struct plog *log, struct plog_tidy *tidy)
{
	size_t i, count = count_cleanable(log, tidy->now_ms);
	struct plog_segment *segment;

	if (count == 0)
		return;
	note_clean(log, tidy->now_ms);
	tidy->segments = calloc(count, sizeof(*tidy->segments));
	if (tidy->segments == NULL)
		return;
	for (i = 0; i < count; i++) {
		segment = log->segments[i];
		if (segment_open(log, segment, NULL) != PLOG_OK)
			break;
		segment->refs++;
		tidy->segments[tidy->count++].old = segment;
	}
	tidy->dirty_from = log->cleaned_to;
	tidy->cleaned_to = log->cleaned_to;
	tidy->delete_retention_ms = log->conf.delete_retention_ms;
}

/* All but compaction. */
static void
shorten(struct plog *log, struct plog_tidy *tidy)
{

	tidy->did.producers_forgotten = producers_expire(&log->producers,
	    tidy->now_ms - log->conf.producer_expiry_ms);
	roll_if_old(log, tidy->now_ms);
	drop_oldest(log, tidy);
	drop_empty(log, tidy);
	tidy->did.more = tidy->unlink_count == TIDY_UNLINK_MOST;
}

/* What couldn't be deleted is in no segment of the log any more: the next round
 * begins with it. */
static void
undeleted_take(struct plog *log, struct plog_tidy *tidy)
{

	if (log->undeleted_count == 0)
		return;
	tidy->unlink_count = log->undeleted_count;
	memcpy(tidy->unlink, log->undeleted,
	    (size_t)log->undeleted_count * sizeof(*tidy->unlink));
	log->undeleted_count = 0;
}

/* Without memory the next start finds them. */
static void
undeleted_keep(struct plog *log, const struct plog_tidy *tidy)
{

	if (tidy->unlink_count == 0)
		return;
	if (log->undeleted == NULL &&
	    (log->undeleted = calloc(TIDY_UNLINK_MOST,
		 sizeof(*log->undeleted))) == NULL)
		return;
	memcpy(log->undeleted, tidy->unlink,
	    (size_t)tidy->unlink_count * sizeof(*tidy->unlink));
	log->undeleted_count = tidy->unlink_count;
}

struct plog_tidy *
plog_tidy_begin(struct plog *log, int what, int64_t now_ms)
{
	struct plog_tidy *tidy;

	if (log->tidying || (tidy = calloc(1, sizeof(*tidy))) == NULL)
		return (NULL);
	tidy->log = log;
	tidy->path = log->path;
	tidy->folder_fd = log->folder_fd;
	tidy->now_ms = now_ms;
	atomic_init(&tidy->stop, 0);
	undeleted_take(log, tidy);
	if ((what & PLOG_DELETE) != 0)
		shorten(log, tidy);
	segments_close_idle(log, PLOG_ACTIVE_FDS);
	if ((what & PLOG_COMPACT) != 0)
		take_cleanable(log, tidy);
	if (tidy->unlink_count == 0 && tidy->count == 0) {
		free(tidy->segments);
		free(tidy);
		return (NULL);
	}
	log->tidying = 1;
	return (tidy);
}

int
plog_tidy_run(struct plog_tidy *tidy, struct mr_error *err)
{
	int i, left = 0, error = 0;

	for (i = 0; i < tidy->unlink_count; i++)
		if (segment_unlink(tidy->folder_fd, tidy->unlink[i]) == -1) {
			error = errno;
			tidy->unlink[left++] = tidy->unlink[i];
		}
	tidy->unlink_count = left;
	if (tidy->count > 0 && tidy_compact(tidy, err) == -1)
		return (-1);
	return (left == 0 ? 0 :
			    mr_error_set(err, MR_RETRY,
				"can't delete %d segments of %s: %s", left,
				tidy->path, strerror(error)));
}

void
plog_tidy_stop(struct plog_tidy *tidy)
{

	atomic_store(&tidy->stop, 1);
}

/* What a segment became takes its place. */
static void
replace(struct plog *log, struct tidy_segment *ts, struct plog_tidied *did)
{
	size_t i = segments_find(log, ts->old->base);
	int c;

	assert(log->segments[i] == ts->old);
	did->segments_compacted++;
	did->bytes_before += ts->old->size;
	did->bytes_after += ts->fresh->size;
	log->size += ts->fresh->size - ts->old->size;
	log->segments[i] = ts->fresh;
	ts->old->gone = 1;
	for (c = 0; c < CURSORS; c++)
		if (log->cursors[c].segment == ts->old)
			log->cursors[c].segment = NULL;
}

void
plog_tidy_finish(struct plog *log, struct plog_tidy *tidy,
    struct plog_tidied *did)
{
	size_t i;

	for (i = 0; i < tidy->count; i++) {
		if (tidy->segments[i].fresh != NULL)
			replace(log, &tidy->segments[i], &tidy->did);
		segment_release(log, tidy->segments[i].old);
	}
	if (tidy->cleaned_to > log->cleaned_to) {
		log->cleaned_to = tidy->cleaned_to;
		log->checkpoint_due = 1;
	}
	note_clean(log, tidy->now_ms);
	undeleted_keep(log, tidy);
	if (did != NULL)
		*did = tidy->did;
	log->tidying = 0;
	free(tidy->segments);
	free(tidy);
}

int
plog_delete_records(struct plog *log, int64_t offset, struct mr_error *err)
{

	if (offset == -1)
		offset = plog_high(log);
	if (offset < 0 || offset > plog_high(log)) {
		mr_error_set(err, MR_REJECT,
		    "offset %lld is above the high watermark %lld",
		    (long long)offset, (long long)plog_high(log));
		return (PLOG_OUT_OF_RANGE);
	}
	if (offset > log->start)
		log->start = offset;
	if (!plog_start_is_kept(log))
		log->checkpoint_due = 1;
	return (PLOG_OK);
}

int
plog_start_is_kept(const struct plog *log)
{

	return (log->start <= log->checkpoint_start ||
	    log->start <= log->segments[0]->base);
}
