#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "segment/bytes.h"
#include "segment/internal.h"

/* Descriptors of what a crash left unflushed, at most about so many. */
#define FOUND_FDS 128

/* What recovery knows while it goes from segment to segment. */
struct recovery {
	struct plog *log;
	struct plog_recovery *found;
	int64_t kept; /* below this the disk had everything */
	int unknown; /* no checkpoint says how far compaction got */
	int cut; /* a torn end was found: what follows goes */
	int scanned; /* batches behind the checkpoint */
	int kept_found; /* a batch ends there: where is in the log */
};

/* ---- The folder --------------------------------------------------------- */

static int
has_suffix(const char *name, const char *suffix)
{
	size_t length = strlen(name), tail = strlen(suffix);

	return (length >= tail && strcmp(name + length - tail, suffix) == 0);
}

/* The base offset that a log's file name says; -1: it is no such name. */
static int64_t
base_of(const char *name)
{
	char again[NAME_SIZE];
	char *end;
	long long base;

	errno = 0;
	base = strtoll(name, &end, 10);
	if (errno != 0 || end == name || base < 0)
		return (-1);
	file_name(again, base, ".log");
	return (strcmp(again, name) == 0 ? base : -1);
}

static int
by_base(const void *a, const void *b)
{
	const struct plog_segment *x = *(struct plog_segment *const *)a;
	const struct plog_segment *y = *(struct plog_segment *const *)b;

	return ((x->base > y->base) - (x->base < y->base));
}

/* One name in the folder: into the list, or away.  0 or -1. */
static int
note_file(struct plog *log, const char *name, struct mr_error *err)
{
	struct plog_segment *segment;
	int64_t base;

	if ((has_suffix(name, ".new") || has_suffix(name, ".cleaned")) &&
	    unlinkat(log->folder_fd, name, 0) == -1) {
		(void)io_error(err, "delete", log->path, name);
		return (-1);
	}
	if (!has_suffix(name, ".log") || (base = base_of(name)) == -1)
		return (0);
	if ((segment = segment_new(base)) == NULL ||
	    segments_add(log, segment) == -1) {
		free(segment);
		return (mr_error_set(err, MR_RETRY,
		    "no memory for the segments of %s", log->path));
	}
	return (0);
}

static int
list_segments(struct plog *log, struct mr_error *err)
{
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	if ((dir = opendir(log->path)) == NULL) {
		(void)io_error(err, "list", log->path, "");
		return (-1);
	}
	while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL)
		rc = note_file(log, entry->d_name, err);
	if (rc == 0 && errno != 0) {
		(void)io_error(err, "list", log->path, "");
		rc = -1;
	}
	closedir(dir);
	if (log->count > 1)
		qsort(log->segments, log->count, sizeof(void *), by_base);
	return (rc);
}

/* ---- One segment -------------------------------------------------------- */

static void
note_damage(struct recovery *r, const struct plog_segment *segment,
    int64_t position, int64_t offset)
{

	if (r->found->damaged++ > 0)
		return;
	file_name(r->found->damaged_file, segment->base, ".log");
	r->found->damaged_position = position;
	r->found->damaged_offset = offset;
}

/*
 * The entries of an index that can be believed, up to an offset: they are in
 * order, right by their own CRCs, and inside of the log's file.  *at is the last
 * of them, from which the segment is scanned.
 */
static void
load_index(struct plog *log, struct plog_segment *segment, int64_t upto,
    struct index_entry *at)
{
	uint8_t bytes[INDEX_PENDING * INDEX_ENTRY_SIZE];
	struct index_entry e;
	ssize_t n, i;

	memset(at, 0, sizeof(*at));
	at->offset = segment->base;
	at->max_time_ms = NO_TIME;
	index_writer_init(&log->index);
	segment->entries = 0;
	for (;;) {
		n = pread(segment->index_fd, bytes, sizeof(bytes),
		    (off_t)(segment->entries * INDEX_ENTRY_SIZE));
		for (i = 0; i + INDEX_ENTRY_SIZE <= n; i += INDEX_ENTRY_SIZE) {
			if (!index_entry_read(bytes + i, segment->base, &e) ||
			    e.offset > upto || e.offset <= at->offset ||
			    e.position <= at->position ||
			    e.position > segment->size)
				return;
			*at = e;
			log->index.last_position = e.position;
			log->index.max_time_ms = e.max_time_ms;
			segment->entries++;
		}
		if (n < (ssize_t)sizeof(bytes))
			return;
	}
}

/* A batch ends, or a segment begins, at ${offset}. */
static void
note_boundary(struct recovery *r, const struct plog_segment *segment,
    int64_t offset, int64_t position)
{

	if (offset != r->kept)
		return;
	r->kept_found = 1;
	r->log->flushed_base = segment->base;
	r->log->flushed_position = position;
}

/* A batch that a scan found.  0 or -1 with *err. */
static int
note_batch(struct recovery *r, struct plog_segment *segment,
    const struct scanner *s, struct mr_error *err)
{
	struct plog *log = r->log;
	const struct batch_header *h = &s->h;
	int append_time = (h->attributes & BATCH_APPEND_TIME) != 0;

	segment->compacted |= s->behind_hole;
	if (index_writer_add(&log->index, segment->base, s->batch_position,
		h->base_offset, h->max_timestamp_ms, s->head) &&
	    index_writer_flush(&log->index, segment->index_fd,
		&segment->entries) == -1) {
		(void)io_error(err, "write an index of", log->path, "");
		return (-1);
	}
	if (h->base_offset < log->checkpoint_end)
		return (0);
	r->scanned = 1;
	if (s->next_offset > r->kept)
		segment->unsynced = 1;
	log->checkpoint_bytes += batch_size(h);
	if (epochs_note(log, h->leader_epoch, h->base_offset) == -1 ||
	    (h->producer_id >= 0 &&
		producers_reserve(&log->producers, h->producer_id,
		    log->conf.producers_most) == -1))
		return (mr_error_set(err, MR_RETRY,
		    "no memory for the producers of %s", log->path));
	if (h->producer_id >= 0)
		producers_note(&log->producers, h, s->next_offset - 1,
		    append_time ? h->max_timestamp_ms : -1, clock_wall_ms());
	return (0);
}

static int
cut_file(struct recovery *r, struct plog_segment *segment, int64_t position,
    struct mr_error *err)
{
	char name[NAME_SIZE];

	file_name(name, segment->base, ".log");
	if (ftruncate(segment->fd, (off_t)position) == -1) {
		(void)io_error(err, "cut the torn end of", r->log->path, name);
		return (-1);
	}
	r->found->cut_bytes += segment->size - position;
	memcpy(r->found->cut_file, name, sizeof(name));
	r->found->cut_position = position;
	segment->size = position;
	segment->unsynced = 1;
	r->scanned = 1;
	return (0);
}

static int
refuse_newer(const struct plog *log, const char *name, int32_t epoch,
    struct mr_error *err)
{

	return (mr_error_set(err, MR_REJECT,
	    "broker.db (leader epoch %d) is older than the logs (%d): put back "
	    "the one that belongs to them, or a backup of the whole folder; "
	    "seen in %s/%s",
	    (int)log->leader_epoch, (int)epoch, log->path, name));
}

/*
 * Before a cut: what is right but for an epoch above the broker's may have been
 * acknowledged by a broker whose broker.db this isn't, so it stays, and the log
 * isn't opened.  Looks at the scanner's position, with ${behind} at all that
 * follows as well.  0, or -1 with *err.
 */
static int
check_newer(const struct recovery *r, const struct plog_segment *segment,
    const struct scanner *s, int behind, struct mr_error *err)
{
	struct scanner again;
	struct damage d;
	char name[NAME_SIZE];
	int rc;

	if (scanner_init(&again, segment->fd, s->position, s->size,
		s->next_offset, s->limit_offset, 0) == -1)
		return (mr_error_set(err, MR_RETRY, "no memory to scan %s",
		    r->log->path));
	do {
		rc = scanner_next(&again);
		if (rc == -1 && behind &&
		    (rc = scanner_resync(&again, &d)) == 1)
			rc = scanner_next(&again);
	} while (
	    behind && rc == 1 && again.h.leader_epoch <= r->log->leader_epoch);
	scanner_done(&again);
	if (rc == -2) {
		(void)io_error(err, "read a segment of", r->log->path, "");
		return (-1);
	}
	if (rc != 1 || again.h.leader_epoch <= r->log->leader_epoch)
		return (0);
	file_name(name, segment->base, ".log");
	return (refuse_newer(r->log, name, again.h.leader_epoch, err));
}

/*
 * What is at the scanner's position is no batch.  Above what was flushed it is
 * a torn end; below, damage to step over.  0, or -1 with *err.
 */
static int
step_over(struct recovery *r, struct plog_segment *segment, struct scanner *s,
    struct mr_error *err)
{
	struct damage d;
	int64_t position = s->position;
	int rc;

	if (s->next_offset >= r->kept) {
		if (check_newer(r, segment, s, 0, err) == -1)
			return (-1);
		r->cut = 1;
		s->size = position;
		return (cut_file(r, segment, position, err));
	}
	if ((rc = scanner_resync(s, &d)) == -2) {
		(void)io_error(err, "read a segment of", r->log->path, "");
		return (-1);
	}
	note_damage(r, segment, d.position, d.from);
	r->log->index.heads = 0;
	if (rc == 1 || s->limit_offset <= r->log->checkpoint_end)
		return (0);
	s->position = position;
	if (check_newer(r, segment, s, 1, err) == -1)
		return (-1);
	/* Nothing right behind it: the rest is gone, but its offsets aren't
	 * given again. */
	s->size = position;
	return (cut_file(r, segment, position, err));
}

static int64_t
began_ms(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME | STATX_MTIME, &sx) == -1)
		return (0);
	if ((sx.stx_mask & STATX_BTIME) != 0)
		return (sx.stx_btime.tv_sec * 1000);
	return (sx.stx_mtime.tv_sec * 1000);
}

/* Go through a segment from the last place that its index vouches for.  A hole
 * in its offsets is damage if ${strict}, and else was made by compaction. */
static int
scan_segment(struct recovery *r, struct plog_segment *segment, int64_t limit,
    int64_t vouched, int strict, struct mr_error *err)
{
	struct plog *log = r->log;
	struct index_entry at;
	struct scanner s;
	int rc = 0, failed = 0;

	load_index(log, segment, vouched, &at);
	if (scanner_init(&s, segment->fd, at.position, segment->size, at.offset,
		limit, strict) == -1)
		return (mr_error_set(err, MR_RETRY, "no memory to scan %s",
		    log->path));
	s.epoch_most = log->leader_epoch;
	segment->trusted_from = at.position;
	note_boundary(r, segment, at.offset, at.position);
	while (!failed && (rc = scanner_next(&s)) != 0) {
		if (rc == -2)
			(void)io_error(err, "read a segment of", log->path, "");
		failed = rc == -2 ||
		    (rc == 1 ? note_batch(r, segment, &s, err) :
			       step_over(r, segment, &s, err)) == -1;
		note_boundary(r, segment, s.next_offset, s.position);
	}
	r->found->scanned_bytes += segment->size - at.position;
	segment->next = s.next_offset;
	segment->max_time_ms = log->index.max_time_ms;
	/* Damage in it: let reading find it, and not trust what is here. */
	if (r->found->damaged > 0)
		segment->trusted_from = segment->size;
	segment->began_ms = segment->size > 0 ? began_ms(segment->fd) : 0;
	scanner_done(&s);
	/* Nothing stale may stand behind the entries that are still to come. */
	if (!failed &&
	    ftruncate(segment->index_fd,
		(off_t)(segment->entries * INDEX_ENTRY_SIZE)) == -1) {
		(void)io_error(err, "cut an index of", log->path, "");
		failed = 1;
	}
	return (failed ? -1 : 0);
}

/* A segment that isn't the last: by its footer, or by a scan. */
static int
recover_sealed(struct recovery *r, struct plog_segment *segment, int64_t limit,
    struct mr_error *err)
{
	struct plog *log = r->log;
	int behind = limit > log->checkpoint_end, footer;

	segment->sealed = 1;
	footer = index_read_footer(segment->index_fd, segment->size, segment) &&
	    segment->next <= limit;
	if (!behind && footer) {
		if (segment->compacted)
			segment->next = limit;
		segment->trusted_from = segment->size;
		return (0);
	}
	if (!footer)
		segment->compacted = segment->base < log->cleaned_to;
	if (!behind)
		r->found->indexes_rebuilt++;
	/* Without a checkpoint only the footer knows if it was compacted, and
	 * without that, too, it may have been. */
	if (scan_segment(r, segment, limit, behind ? log->checkpoint_end : -1,
		!segment->compacted && (footer || !r->unknown), err) == -1)
		return (-1);
	if (segment->compacted)
		segment->next = limit;
	/* Its last batches never came to the disk, though the next one's name
	 * did: nothing in that can have been acknowledged. */
	if (behind && segment->next < limit && segment->next >= r->kept)
		r->cut = 1;
	if (!r->cut && segment->next < limit)
		note_damage(r, segment, segment->size, segment->next);
	if (!r->cut &&
	    index_writer_seal(&log->index, segment->index_fd, segment) == -1) {
		(void)io_error(err, "write an index of", log->path, "");
		return (-1);
	}
	return (0);
}

/* The last, which is appended to. */
static int
recover_active(struct recovery *r, struct plog_segment *segment,
    struct mr_error *err)
{

	segment->sealed = 0;
	segment->compacted = 0;
	return (scan_segment(r, segment, INT64_MAX, r->log->checkpoint_end,
	    segment->base >= r->log->cleaned_to, err));
}

static int
recover_segment(struct recovery *r, size_t i, struct mr_error *err)
{
	struct plog *log = r->log;
	struct plog_segment *segment = log->segments[i];
	struct stat st;

	if (segment_open(log, segment, err) != PLOG_OK)
		return (-1);
	if (fstat(segment->fd, &st) == -1) {
		(void)io_error(err, "look at a segment of", log->path, "");
		return (-1);
	}
	segment->size = st.st_size;
	segment->written_ms = st.st_mtim.tv_sec * 1000 +
	    st.st_mtim.tv_nsec / 1000000;
	segment->reserved_to = (int64_t)st.st_blocks * 512;
	if (i + 1 == log->count) {
		if (recover_active(r, segment, err) == -1)
			return (-1);
	} else if (recover_sealed(r, segment, log->segments[i + 1]->base,
		       err) == -1)
		return (-1);
	log->size += segment->size;
	return (0);
}

/* ---- All of them -------------------------------------------------------- */

/* What follows a torn end was never acknowledged. */
static int
drop_behind(struct recovery *r, size_t from, struct mr_error *err)
{
	struct plog *log = r->log;
	struct stat st;
	size_t i;

	for (i = from; i < log->count; i++) {
		char name[NAME_SIZE];

		file_name(name, log->segments[i]->base, ".log");
		if (fstatat(log->folder_fd, name, &st, 0) == 0)
			r->found->cut_bytes += st.st_size;
		if (segment_unlink(log->folder_fd, log->segments[i]->base) ==
		    -1) {
			(void)io_error(err, "delete", log->path, name);
			return (-1);
		}
		log->segments[i]->size = 0;
	}
	segments_drop(log, from, log->count - from);
	log->folder_dirty = 1;
	log->segments[from - 1]->sealed = 0;
	return (0);
}

/* Offsets up to what was flushed are never given again, whatever became of
 * their records. */
static int
reserve_offsets(struct recovery *r, struct mr_error *err)
{
	struct plog *log = r->log;
	int64_t least = r->kept > log->start ? r->kept : log->start;
	const struct plog_segment *last;

	if (log->count == 0) {
		log->end = least;
		if (plog_roll(log, least, err) != PLOG_OK)
			return (-1);
		note_boundary(r, plog_active(log), least, 0);
		return (0);
	}
	last = plog_active(log);
	log->end = last->next;
	note_boundary(r, last, last->next, last->size);
	if (log->end >= least)
		return (0);
	if (r->found->damaged == 0)
		note_damage(r, last, last->size, last->next);
	log->end = least;
	return (plog_roll(log, least, err) == PLOG_OK ? 0 : -1);
}

/* What was found is made to last before anything else is done. */
static int
flush_all(struct recovery *r, struct mr_error *err)
{
	struct plog *log = r->log;
	struct buffer *buf = &log->sync.checkpoint;

	if (segments_flush(log, err) == -1)
		return (-1);
	checkpoint_write(log, buf);
	if (buf->failed)
		return (mr_error_set(err, MR_RETRY,
		    "no memory for a checkpoint of %s", log->path));
	if (write_file(log->folder_fd, "checkpoint", buf->data, buf->length) ==
	    -1) {
		(void)io_error(err, "write", log->path, "checkpoint");
		return (-1);
	}
	log->checkpoint_end = log->end;
	log->checkpoint_bytes = 0;
	return (0);
}

/*
 * What is above the flushed mark was shown to nobody: it can wait for the first
 * flush, which may have half a gigabyte to write, and is shown then.  Where the
 * mark says nothing, or something is amiss, all is flushed here.
 */
static int
settle_flushed(struct recovery *r, struct mr_error *err)
{
	struct plog *log = r->log;
	const struct plog_recovery *found = r->found;

	if (log->folder_dirty && fsync(log->folder_fd) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "can't flush the folder %s: %s",
			log->path, strerror(errno)));
	log->folder_dirty = 0;
	if (r->kept_found && found->damaged == 0 && !found->checkpoint_lost) {
		log->flushed_end = r->kept;
		log->checkpoint_due = log->checkpoint_bytes >=
		    CHECKPOINT_STEP / 4;
		return (0);
	}
	if (flush_all(r, err) == -1)
		return (-1);
	log->flushed_end = log->end;
	log->flushed_base = plog_active(log)->base;
	log->flushed_position = plog_active(log)->size;
	return (0);
}

static int
recover_segments(struct recovery *r, struct mr_error *err)
{
	struct plog *log = r->log;
	size_t i;

	for (i = 0; i < log->count && !r->cut; i++) {
		if (recover_segment(r, i, err) == -1)
			return (-1);
		/* What isn't flushed stays open until it is. */
		if (log->open_fds > FOUND_FDS && segments_flush(log, err) == -1)
			return (-1);
		segments_close_idle(log, PLOG_ACTIVE_FDS);
	}
	if (r->cut && i < log->count)
		return (drop_behind(r, i, err));
	return (0);
}

int
plog_recover(struct plog *log, struct plog_recovery *found,
    struct mr_error *err)
{
	struct recovery r = {.log = log, .found = found};
	int damaged, rc;

	if (list_segments(log, err) == -1 ||
	    (rc = checkpoint_read(log, &damaged, err)) == -1)
		return (-1);
	/* Before anything is scanned: what would be taken for torn is right. */
	if (log->epoch_count > 0 &&
	    log->epochs[log->epoch_count - 1].epoch > log->leader_epoch)
		return (refuse_newer(log, "checkpoint",
		    log->epochs[log->epoch_count - 1].epoch, err));
	/* One is written with the first flush that follows a roll. */
	found->checkpoint_lost = damaged ||
	    (rc == 0 && log->count > 1 && log->segments[0]->base > 0);
	r.unknown = rc == 0;
	r.kept = flushed_read(log->folder_fd);
	if (r.kept < log->checkpoint_end)
		r.kept = log->checkpoint_end;
	/* What becomes the last may have been closed as one in the middle. */
	if (recover_segments(&r, err) == -1 || reserve_offsets(&r, err) == -1 ||
	    segment_open(log, plog_active(log), err) != PLOG_OK)
		return (-1);
	segments_close_idle(log, PLOG_ACTIVE_FDS);
	log->checkpoint_start = log->start;
	if (log->segments[0]->base > log->start)
		log->start = log->segments[0]->base;
	if (log->cleaned_to < log->start)
		log->cleaned_to = log->start;
	epochs_trim(log);
	found->clean = !r.scanned && log->end == log->checkpoint_end;
	if (settle_flushed(&r, err) == -1)
		return (-1);
	/* A kill may have come between a roll and the flush of the new file's
	 * name.  One that has records below the checkpoint has its name, too. */
	if (!found->clean || plog_active(log)->size == 0)
		log->folder_dirty = 1;
	return (0);
}
