#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment/internal.h"

struct plog_segment *
segment_new(int64_t base)
{
	struct plog_segment *segment;

	if ((segment = calloc(1, sizeof(*segment))) == NULL)
		return (NULL);
	segment->base = base;
	segment->next = base;
	segment->max_time_ms = NO_TIME;
	segment->fd = -1;
	segment->index_fd = -1;
	return (segment);
}

static void
close_files(struct plog *log, struct plog_segment *segment)
{

	if (segment->fd != -1) {
		close(segment->fd);
		log->open_fds--;
	}
	if (segment->index_fd != -1) {
		close(segment->index_fd);
		log->open_fds--;
	}
	segment->fd = segment->index_fd = -1;
}

void
segment_free(struct plog *log, struct plog_segment *segment)
{

	if (segment == NULL)
		return;
	close_files(log, segment);
	free(segment);
}

static int
open_one(struct plog *log, struct plog_segment *segment, const char *suffix,
    int flags, int *fd, struct mr_error *err)
{
	char name[NAME_SIZE];

	if (*fd != -1)
		return (PLOG_OK);
	file_name(name, segment->base, suffix);
	*fd = openat(log->folder_fd, name, flags | O_CLOEXEC, 0640);
	if (*fd == -1)
		return (io_error(err, "open", log->path, name));
	log->open_fds++;
	return (PLOG_OK);
}

int
segment_open(struct plog *log, struct plog_segment *segment,
    struct mr_error *err)
{
	int code;

	if (segment->fd != -1 && segment->index_fd != -1)
		return (PLOG_OK);
	segment->refs++;
	segments_close_idle(log, PLOG_OTHER_FDS);
	segment->refs--;
	code = open_one(log, segment, ".log", O_RDWR, &segment->fd, err);
	if (code == PLOG_OK)
		code = open_one(log, segment, ".index", O_RDWR | O_CREAT,
		    &segment->index_fd, err);
	return (code);
}

void
segment_release(struct plog *log, struct plog_segment *segment)
{

	segment->refs--;
	if (segment->gone && segment->refs == 0)
		segment_free(log, segment);
}

void
segment_left(struct plog *log, struct plog_segment *segment)
{

	if (segment->sealed && segment->refs == 1 && !segment->unsynced &&
	    segment->used_ms == 0)
		close_files(log, segment);
}

void
segments_close_idle(struct plog *log, int most)
{
	struct plog_segment *segment;
	size_t i;

	for (i = 0; i + 1 < log->count && log->open_fds > most; i++) {
		segment = log->segments[i];
		if (segment->refs == 0 && !segment->unsynced)
			close_files(log, segment);
	}
}

int
segments_flush(struct plog *log, struct mr_error *err)
{
	struct plog_segment *segment;
	size_t i;

	for (i = 0; i < log->count; i++) {
		segment = log->segments[i];
		if (segment->unsynced && flush_data(segment->fd) == -1)
			return (mr_error_set(err, MR_FATAL,
			    "can't flush a segment of %s: %s", log->path,
			    strerror(errno)));
		segment->unsynced = 0;
	}
	return (0);
}

int
segments_add(struct plog *log, struct plog_segment *segment)
{
	struct plog_segment **grown;
	size_t capacity;

	if (log->count == log->capacity) {
		capacity = log->capacity > 0 ? log->capacity * 2 : 4;
		grown = realloc(log->segments, capacity * sizeof(void *));
		if (grown == NULL)
			return (-1);
		log->segments = grown;
		log->capacity = capacity;
	}
	log->segments[log->count++] = segment;
	return (0);
}

size_t
segments_find(const struct plog *log, int64_t offset)
{
	size_t low = 0, high = log->count, middle;

	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (log->segments[middle]->base <= offset)
			low = middle;
		else
			high = middle;
	}
	return (low);
}

struct plog_segment *
plog_active(const struct plog *log)
{

	return (log->segments[log->count - 1]);
}

void
segments_drop(struct plog *log, size_t from, size_t count)
{
	struct plog_segment *segment;
	size_t i;
	int c;

	if (count == 0)
		return; /* and there may be no list to move */
	for (i = from; i < from + count; i++) {
		segment = log->segments[i];
		for (c = 0; c < CURSORS; c++)
			if (log->cursors[c].segment == segment)
				log->cursors[c].segment = NULL;
		log->size -= segment->size;
		segment->gone = 1;
		if (segment->refs == 0)
			segment_free(log, segment);
	}
	memmove(log->segments + from, log->segments + from + count,
	    (log->count - from - count) * sizeof(void *));
	log->count -= count;
}

int
segment_unlink(int folder_fd, int64_t base)
{
	char name[NAME_SIZE];

	file_name(name, base, ".log");
	if (unlinkat(folder_fd, name, 0) == -1 && errno != ENOENT)
		return (-1);
	file_name(name, base, ".index");
	if (unlinkat(folder_fd, name, 0) == -1 && errno != ENOENT)
		return (-1);
	return (0);
}

/* Make the files of a segment; nothing is left of them on failure. */
static int
make_files(struct plog *log, struct plog_segment *segment, struct mr_error *err)
{
	int code;

	code = open_one(log, segment, ".log", O_RDWR | O_CREAT | O_TRUNC,
	    &segment->fd, err);
	if (code == PLOG_OK)
		code = open_one(log, segment, ".index",
		    O_RDWR | O_CREAT | O_TRUNC, &segment->index_fd, err);
	if (code != PLOG_OK && segment->fd != -1)
		(void)segment_unlink(log->folder_fd, segment->base);
	return (code);
}

/* Cutting a file is no write to its records: records without times are as old
 * as its last one says, when the log is opened again. */
static void
keep_written(const struct plog_segment *segment)
{
	const int64_t ms = segment->written_ms;
	const struct timespec times[2] = {{0, UTIME_OMIT},
	    {ms / 1000, ms % 1000 * 1000000}};

	if (segment->size > 0)
		(void)futimens(segment->fd, times);
}

int
plog_cut_tail(struct plog *log, struct plog_segment *active,
    struct mr_error *err)
{
	char name[NAME_SIZE];

	file_name(name, active->base, ".log");
	if (ftruncate(active->fd, (off_t)active->size) == -1)
		return (io_error(err, "cut", log->path, name));
	keep_written(active);
	active->reserved_to = 0;
	log->tail_dirty = 0;
	return (PLOG_OK);
}

int
plog_roll(struct plog *log, int64_t base, struct mr_error *err)
{
	struct plog_segment *old, *segment;
	char name[NAME_SIZE];
	int code;

	old = log->count > 0 ? plog_active(log) : NULL;
	if ((segment = segment_new(base)) == NULL) {
		mr_error_set(err, MR_RETRY, "no memory for a segment of %s",
		    log->path);
		return (PLOG_NO_MEMORY);
	}
	if (old != NULL &&
	    ((code = segment_open(log, old, err)) != PLOG_OK ||
		(code = plog_cut_tail(log, old, err)) != PLOG_OK))
		goto fail;
	if (old != NULL &&
	    index_writer_seal(&log->index, old->index_fd, old) == -1) {
		file_name(name, old->base, ".index");
		code = io_error(err, "write", log->path, name);
		goto fail;
	}
	if ((code = make_files(log, segment, err)) != PLOG_OK)
		goto fail;
	if (segments_add(log, segment) == -1) {
		(void)segment_unlink(log->folder_fd, base);
		mr_error_set(err, MR_RETRY, "no memory for a segment of %s",
		    log->path);
		code = PLOG_NO_MEMORY;
		goto fail;
	}
	if (old != NULL) {
		old->sealed = 1;
		log->checkpoint_due = 1;
	}
	index_writer_init(&log->index);
	log->folder_dirty = 1;
	return (PLOG_OK);
fail:
	segment_free(log, segment);
	return (code);
}

void
plog_high_at(const struct plog *log, int64_t *base, int64_t *position)
{
	const struct plog_segment *active = plog_active(log), *at;

	if (log->conf.high_is_flushed) {
		*base = log->flushed_base;
		*position = log->flushed_position;
		/* At the end of one that was left since: it may be gone by now,
		 * or shorter, and what comes is in the next. */
		at = log->segments[segments_find(log, log->flushed_end)];
		if (*base < at->base) {
			*base = at->base;
			*position = 0;
		}
		return;
	}
	*base = active->base;
	*position = active->size;
}
