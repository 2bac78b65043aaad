#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segment/bytes.h"
#include "segment/internal.h"

void
plog_conf_default(struct plog_conf *conf)
{

	memset(conf, 0, sizeof(*conf));
	conf->segment_bytes = (int64_t)1 << 30;
	conf->segment_ms = (int64_t)7 * 24 * 3600 * 1000;
	conf->batch_most = 1048588;
	conf->retention_ms = conf->segment_ms;
	conf->retention_bytes = -1;
	conf->delete_retention_ms = (int64_t)24 * 3600 * 1000;
	conf->dirty_ratio_least = 0.5;
	conf->cleanup = PLOG_DELETE;
	conf->time_ahead_most_ms = (int64_t)3600 * 1000;
	conf->high_is_flushed = 1;
	conf->producer_expiry_ms = conf->delete_retention_ms;
	conf->producers_most = 10000;
}

void
plog_configure(struct plog *log, const struct plog_conf *conf)
{

	log->conf = *conf;
	if (log->conf.segment_bytes > INT32_MAX)
		log->conf.segment_bytes = INT32_MAX;
	if (log->conf.producers_most < 1)
		log->conf.producers_most = 1;
}

struct plog *
plog_open(const char *path, const struct plog_conf *conf, int32_t leader_epoch,
    struct plog_recovery *found, struct mr_error *err)
{
	struct plog_recovery unwanted;
	struct plog *log;

	if (found == NULL)
		found = &unwanted;
	memset(found, 0, sizeof(*found));
	if (plog_folder_make(path, err) == -1)
		return (NULL);
	if ((log = calloc(1, sizeof(*log))) == NULL ||
	    (log->path = strdup(path)) == NULL) {
		free(log);
		mr_error_set(err, MR_RETRY, "no memory for the log %s", path);
		return (NULL);
	}
	plog_configure(log, conf);
	log->leader_epoch = leader_epoch;
	index_writer_init(&log->index);
	log->folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (log->folder_fd == -1) {
		(void)io_error(err, "open", path, "");
		plog_abandon(log);
		return (NULL);
	}
	if (plog_recover(log, found, err) == -1) {
		plog_abandon(log);
		return (NULL);
	}
	return (log);
}

void
plog_abandon(struct plog *log)
{

	if (log == NULL)
		return;
	segments_drop(log, 0, log->count);
	free(log->segments);
	free(log->epochs);
	free(log->undeleted);
	producers_free(&log->producers);
	buffer_free(&log->sync.checkpoint);
	if (log->folder_fd != -1)
		close(log->folder_fd);
	free(log->path);
	free(log);
}

/* What is on disk already, where nothing has changed since.  A name that the
 * folder may not keep is of a file without records then. */
static int
checkpoint_is_current(const struct plog *log)
{

	return (log->checkpoint_end == log->end && !log->checkpoint_due &&
	    !log->checkpoint_old && plog_start_is_kept(log));
}

/* Everything on disk, and a checkpoint that says so. */
static int
close_cleanly(struct plog *log, struct mr_error *err)
{
	struct plog_segment *active = plog_active(log);
	struct buffer *buf = &log->sync.checkpoint;

	if (segments_flush(log, err) == -1)
		return (-1);
	/* Without its last entries an index is only read a little longer. */
	if (segment_open(log, active, NULL) == PLOG_OK) {
		(void)index_writer_flush(&log->index, active->index_fd,
		    &active->entries);
		if (active->reserved_to - active->size > (int64_t)RESERVE_LEAST)
			(void)plog_cut_tail(log, active, NULL);
	}
	if (checkpoint_is_current(log))
		return (0);
	checkpoint_write(log, buf);
	if (buf->failed ||
	    write_file(log->folder_fd, "checkpoint", buf->data, buf->length) ==
		-1) {
		/* The one that is there will do; opening takes longer. */
		if (fsync(log->folder_fd) == -1)
			return (mr_error_set(err, MR_FATAL,
			    "can't flush the folder %s: %s", log->path,
			    strerror(errno)));
		(void)flushed_write(log->folder_fd, log->end);
	}
	return (0);
}

int
plog_close(struct plog *log, struct mr_error *err)
{
	int rc;

	if (log == NULL)
		return (0);
	rc = close_cleanly(log, err);
	plog_abandon(log);
	return (rc);
}

int64_t
plog_start(const struct plog *log)
{

	return (log->start);
}

int64_t
plog_end(const struct plog *log)
{

	return (log->end);
}

int64_t
plog_flushed_end(const struct plog *log)
{

	return (log->flushed_end);
}

int64_t
plog_high(const struct plog *log)
{

	return (log->conf.high_is_flushed ? log->flushed_end : log->end);
}

int64_t
plog_size(const struct plog *log)
{

	return (log->size);
}

int
plog_segments(const struct plog *log)
{

	return ((int)log->count);
}

/* ---- Appending ---------------------------------------------------------- */

static int
check(const struct plog *log, const uint8_t *bytes, size_t size, int64_t now_ms,
    struct batch_header *h, struct mr_error *err)
{
	int need_keys = (log->conf.cleanup & PLOG_COMPACT) != 0;
	int64_t behind;
	int code;

	code = batch_check(bytes, size, log->conf.batch_most, need_keys, h,
	    err);
	if (code != PLOG_OK)
		return (code);
	if ((behind = (int64_t)size - batch_size(h)) > 0) {
		mr_error_set(err, MR_REJECT,
		    "%lld bytes follow the batch: one is taken at a time",
		    (long long)behind);
		return (
		    behind < BATCH_HEADER_SIZE ? PLOG_CORRUPT : PLOG_SEVERAL);
	}
	/* Of its records, whichever codec they are in. */
	if (!log->conf.append_time && h->max_timestamp_ms > now_ms &&
	    h->max_timestamp_ms - now_ms > log->conf.time_ahead_most_ms) {
		mr_error_set(err, MR_REJECT,
		    "a record is %lld ms ahead of the clock, at most %lld are "
		    "allowed",
		    (long long)(h->max_timestamp_ms - now_ms),
		    (long long)log->conf.time_ahead_most_ms);
		return (PLOG_AHEAD);
	}
	return (PLOG_OK);
}

/* Fill in what a broker does. */
static void
stamp(const struct plog *log, uint8_t *batch, struct batch_header *h,
    int64_t offset, int64_t now_ms)
{
	int16_t attributes = h->attributes;

	h->base_offset = offset;
	h->leader_epoch = log->leader_epoch;
	put_i64(batch + BATCH_AT_BASE_OFFSET, offset);
	put_i32(batch + BATCH_AT_LEADER_EPOCH, log->leader_epoch);
	attributes = (int16_t)(attributes & ~BATCH_APPEND_TIME);
	if (log->conf.append_time) {
		attributes |= BATCH_APPEND_TIME;
		h->max_timestamp_ms = now_ms;
		put_i64(batch + BATCH_AT_MAX_TIMESTAMP, now_ms);
	}
	if (!log->conf.append_time && attributes == h->attributes)
		return;
	h->attributes = attributes;
	put_i16(batch + BATCH_AT_ATTRIBUTES, attributes);
	batch_seal(batch, (size_t)batch_size(h));
}

static int
roll_if_due(struct plog *log, size_t size, int64_t records, int64_t now_ms,
    struct mr_error *err)
{
	const struct plog_segment *active = plog_active(log);

	if (active->size == 0 ||
	    (active->size + (int64_t)size <= log->conf.segment_bytes &&
		log->end + records - active->base <= INT32_MAX &&
		now_ms - active->began_ms < log->conf.segment_ms))
		return (PLOG_OK);
	return (plog_roll(log, log->end, err));
}

/*
 * Have the file system find places for what comes next in one go, not one for
 * each page that is written.  Only a help: the file stays as long as it is, and
 * whether there is room for a write, the write tells.
 */
static void
reserve(struct plog_segment *active, size_t size)
{
	int64_t end = active->size + (int64_t)size;
	int64_t more = RESERVE_STEP;

	if (size < RESERVE_LEAST || end <= active->reserved_to)
		return;
	while (more < (int64_t)size)
		more += RESERVE_STEP;
	if (active->reserved_to < active->size)
		active->reserved_to = active->size;
	if (fallocate(active->fd, FALLOC_FL_KEEP_SIZE,
		(off_t)active->reserved_to, (off_t)more) == 0)
		active->reserved_to += more;
}

/* Write, or leave the file as it was. */
static int
write_tail(struct plog *log, const uint8_t *bytes, size_t size,
    struct mr_error *err)
{
	struct plog_segment *active = plog_active(log);
	char name[NAME_SIZE];
	int code;

	file_name(name, active->base, ".log");
	if (log->tail_dirty &&
	    (code = plog_cut_tail(log, active, err)) != PLOG_OK)
		return (code);
	reserve(active, size);
	if (write_whole(active->fd, bytes, size, active->size) == 0)
		return (PLOG_OK);
	code = io_error(err, "write", log->path, name);
	log->tail_dirty = 1;
	(void)plog_cut_tail(log, active, NULL);
	return (code);
}

/* What is in the file goes into the index and the numbers. */
static void
note_batch(struct plog *log, const uint8_t *bytes, const struct batch_header *h,
    int64_t append_time_ms, int64_t now_ms)
{
	struct plog_segment *active = plog_active(log);

	if (index_writer_add(&log->index, active->base, active->size,
		h->base_offset, h->max_timestamp_ms, bytes) &&
	    segment_open(log, active, NULL) == PLOG_OK)
		(void)index_writer_flush(&log->index, active->index_fd,
		    &active->entries);
	if (active->size == 0)
		active->began_ms = now_ms;
	active->written_ms = now_ms;
	active->size += batch_size(h);
	log->end = h->base_offset + h->last_offset_delta + 1;
	if (h->producer_id >= 0)
		producers_note(&log->producers, h, log->end - 1, append_time_ms,
		    now_ms);
	active->max_time_ms = log->index.max_time_ms;
	active->next = log->end;
	active->unsynced = 1;
	log->size += batch_size(h);
	log->checkpoint_bytes += batch_size(h);
}

static int
append(struct plog *log, uint8_t *bytes, struct batch_header *h, int64_t now_ms,
    int64_t append_time_ms, struct mr_error *err)
{
	size_t size = (size_t)batch_size(h);
	int code;

	stamp(log, bytes, h, log->end, now_ms);
	code = roll_if_due(log, size, (int64_t)h->last_offset_delta + 1, now_ms,
	    err);
	if (code != PLOG_OK)
		return (code);
	if (epochs_note(log, log->leader_epoch, log->end) == -1 ||
	    (h->producer_id >= 0 &&
		producers_reserve(&log->producers, h->producer_id,
		    log->conf.producers_most) == -1)) {
		mr_error_set(err, MR_RETRY, "no memory to append to %s",
		    log->path);
		return (PLOG_NO_MEMORY);
	}
	if ((code = write_tail(log, bytes, size, err)) != PLOG_OK)
		return (code);
	note_batch(log, bytes, h, append_time_ms, now_ms);
	return (PLOG_OK);
}

int
plog_append(struct plog *log, uint8_t *bytes, size_t size, int64_t now_ms,
    struct plog_appended *out, struct mr_error *err)
{
	int64_t append_time_ms = log->conf.append_time ? now_ms : -1;
	struct producer_batch again;
	struct batch_header h;
	int code;

	out->base_offset = out->last_offset = -1;
	out->append_time_ms = append_time_ms;
	out->log_start = log->start;
	if ((code = check(log, bytes, size, now_ms, &h, err)) != PLOG_OK)
		return (code);
	if (h.producer_id >= 0 &&
	    (code = producers_check(&log->producers, &h, &again, err)) !=
		PLOG_OK) {
		if (code == PLOG_DUPLICATE) {
			out->last_offset = again.last_offset;
			out->base_offset = again.last_offset -
			    h.last_offset_delta;
			out->append_time_ms = again.append_time_ms;
		}
		return (code);
	}
	out->base_offset = log->end;
	code = append(log, bytes, &h, now_ms, append_time_ms, err);
	if (code != PLOG_OK) {
		out->base_offset = -1;
		return (code);
	}
	out->last_offset = log->end - 1;
	return (PLOG_OK);
}
