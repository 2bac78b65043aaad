#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "segment/internal.h"

/* A checkpoint is due when the next open would scan too much without. */
static int
is_checkpoint_due(const struct plog *log)
{

	return (
	    log->checkpoint_due || log->checkpoint_bytes >= CHECKPOINT_STEP);
}

struct plog_sync *
plog_sync_begin(struct plog *log)
{
	struct plog_sync *sync = &log->sync;
	struct plog_segment *segment = NULL;
	size_t i;

	if (sync->under_way ||
	    (log->flushed_end == log->end && !is_checkpoint_due(log)))
		return (NULL);
	sync->count = 0;
	sync->bytes = 0;
	for (i = 0; i < log->count && sync->count < SYNC_SEGMENTS; i++) {
		segment = log->segments[i];
		if (!segment->unsynced)
			continue;
		sync->segments[sync->count++] = segment;
		sync->bytes += segment->size;
		if (segment->base == log->flushed_base)
			sync->bytes -= log->flushed_position;
		segment->refs++;
		segment->unsynced = 0;
	}
	/* If not all segments are in it, those before the end are. */
	if (i == log->count)
		segment = plog_active(log);
	assert(segment != NULL);
	sync->end = segment->next;
	sync->base = segment->base;
	sync->position = segment->size;
	sync->sync_folder = log->folder_dirty;
	sync->folder_fd = log->folder_fd;
	log->folder_dirty = 0;
	sync->checkpoint_end = -1;
	buffer_clear(&sync->checkpoint);
	if (is_checkpoint_due(log) && i == log->count) {
		segment = plog_active(log);
		if (segment_open(log, segment, NULL) == PLOG_OK)
			(void)index_writer_flush(&log->index, segment->index_fd,
			    &segment->entries);
		checkpoint_write(log, &sync->checkpoint);
		if (!sync->checkpoint.failed)
			sync->checkpoint_end = log->end;
		sync->checkpoint_start = log->start;
		log->checkpoint_due = 0;
		log->checkpoint_bytes = 0;
	}
	sync->log = log;
	sync->under_way = 1;
	return (sync);
}

int64_t
plog_sync_bytes(const struct plog_sync *sync)
{

	return (sync->bytes);
}

void
plog_sync_start(struct plog_sync *sync)
{
	int i;

	for (i = 0; i < sync->count; i++)
		(void)sync_file_range(sync->segments[i]->fd, 0, 0,
		    SYNC_FILE_RANGE_WRITE);
}

int
plog_sync_run(struct plog_sync *sync, struct mr_error *err)
{
	int i;

	for (i = 0; i < sync->count; i++)
		if (flush_data(sync->segments[i]->fd) == -1)
			return (mr_error_set(err, MR_FATAL,
			    "can't flush a segment of %s: %s", sync->log->path,
			    strerror(errno)));
	if (sync->sync_folder && fsync(sync->folder_fd) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "can't flush the folder %s: %s",
			sync->log->path, strerror(errno)));
	/* Only a hint for the next open, which will do with an older one. */
	(void)flushed_write(sync->folder_fd, sync->end);
	/* The same goes for a checkpoint: a full disk is no reason to end. */
	if (sync->checkpoint_end != -1 &&
	    write_file(sync->folder_fd, "checkpoint", sync->checkpoint.data,
		sync->checkpoint.length) == -1)
		sync->checkpoint_end = -1;
	return (0);
}

static void
give_back(struct plog *log, struct plog_sync *sync)
{
	int i;

	for (i = 0; i < sync->count; i++) {
		segment_left(log, sync->segments[i]);
		segment_release(log, sync->segments[i]);
	}
	sync->count = 0;
	sync->under_way = 0;
}

int
plog_sync_finish(struct plog *log, struct plog_sync *sync)
{

	give_back(log, sync);
	assert(sync->end >= log->flushed_end);
	log->flushed_end = sync->end;
	log->flushed_base = sync->base;
	log->flushed_position = sync->position;
	if (sync->checkpoint_end != -1) {
		log->checkpoint_end = sync->checkpoint_end;
		log->checkpoint_start = sync->checkpoint_start;
	}
	if (sync->checkpoint.length > 0 || sync->checkpoint.failed)
		log->checkpoint_old = sync->checkpoint_end == -1;
	/* What one big checkpoint needed isn't kept. */
	if (sync->checkpoint.capacity > 65536)
		buffer_free(&sync->checkpoint);
	return (log->flushed_end < log->end || is_checkpoint_due(log));
}

void
plog_sync_cancel(struct plog *log, struct plog_sync *sync)
{

	give_back(log, sync);
}
