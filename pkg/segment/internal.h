/*
 * internal -- what the files of pkg/segment share.
 *
 * Files of a log, in its folder; docs/ARCHITECTURE.md has their formats:
 *
 *	<base offset>.log	batches, one behind the other
 *	<base offset>.index	sparse: offsets, positions and times
 *	checkpoint		producers, leader epochs, log start
 *	flushed			how far the disk is known to have it
 *	*.new, *.cleaned	not finished: deleted at open
 */
#ifndef MR_SEGMENT_INTERNAL_H
#define MR_SEGMENT_INTERNAL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/map.h"
#include "segment/batch.h"
#include "segment/segment.h"

#define INDEX_STEP 4096 /* bytes of log between two entries */
#define INDEX_ENTRY_SIZE 24
#define INDEX_FOOTER_SIZE 48
#define CLEAN_BYTES 16 /* of a segment's clean_ms in a checkpoint */
#define INDEX_PENDING 64 /* entries kept back before they are written */
#define HEAD_SIZE 21 /* of a batch: with its CRC, what the CRC leaves out */
#define NAME_SIZE PLOG_NAME_SIZE
#define CURSORS 8
#define SYNC_SEGMENTS 8
#define CHECKPOINT_STEP ((int64_t)16 << 20) /* bytes scanned at the next open */
#define RESERVE_STEP ((int64_t)1 << 20) /* of the disk, for an active segment */
#define RESERVE_LEAST ((size_t)16 << 10) /* bytes written at once */
#define NO_TIME INT64_MIN

/* How a scan of a file goes on behind what is wrong. */
struct damage {
	int64_t position; /* -1: none */
	int64_t from, to; /* offsets */
	int64_t resume; /* position behind it; the file's size if nothing is */
};

struct plog_segment {
	int64_t base;
	int64_t size; /* of whole batches */
	int64_t
	    next; /* behind its last offset; the next segment's base if sealed */
	int64_t max_time_ms; /* NO_TIME: no batches */
	int64_t
	    began_ms; /* active: when its first batch arrived; 0: none has */
	int64_t written_ms; /* when its last did; its file's mtime, once left */
	int64_t reserved_to; /* its blocks on disk, if more than its size */
	int64_t
	    clean_ms; /* when its first round of compaction was; 0: not yet */
	/* Written or scanned by this process: from here to the end. */
	int64_t trusted_from;
	/* Checked since by reading; empty if both are the same. */
	int64_t checked_from, checked_to;
	struct damage known; /* what was found last */
	int fd, index_fd; /* -1: not open */
	int refs; /* spans and jobs */
	int sealed;
	int compacted; /* offsets may be missing */
	int gone; /* not in the log any more: closed with its last reference */
	int unsynced;
	int64_t entries; /* in the index's file */
	int index_lost; /* it was damaged: done without until the next open */
	uint32_t last_heads; /* sealed: heads behind the last entry */
	int64_t used_ms; /* last read */
};

/* One entry of an index: a batch, and what was before it in the segment. */
struct index_entry {
	int64_t offset, position;
	int64_t max_time_ms; /* of all batches before it */
	uint32_t heads; /* of the batches from the entry before to this one */
};

/* An index that is being written. */
struct index_writer {
	uint8_t pending[INDEX_PENDING * INDEX_ENTRY_SIZE];
	int pending_count;
	int64_t last_position; /* of the last entry, 0 for none */
	int64_t max_time_ms;
	uint32_t heads;
	int lost; /* it gets no more entries, and no footer */
};

struct producer_batch {
	int32_t first_sequence, last_sequence;
	int64_t last_offset;
	int64_t append_time_ms; /* -1: create time */
};

struct producer {
	int64_t id;
	int16_t epoch;
	int8_t count;
	int64_t last_ms;
	struct producer *older, *newer;
	struct producer_batch batches[5]; /* the newest last */
};

struct producers {
	struct map by_id;
	struct producer *oldest, *newest; /* by last use */
};

struct leader_epoch {
	int32_t epoch;
	int64_t start;
};

struct cursor {
	int64_t offset;
	const struct plog_segment *segment;
	int64_t position;
};

struct plog_sync {
	struct plog *log;
	struct plog_segment *segments[SYNC_SEGMENTS];
	int count;
	int sync_folder;
	int folder_fd;
	int64_t end; /* flushed afterwards */
	int64_t base, position; /* where that is */
	int64_t bytes;
	struct buffer checkpoint; /* empty: none is due */
	int64_t checkpoint_end, checkpoint_start;
	int under_way;
};

struct plog {
	char *path;
	int folder_fd;
	struct plog_conf conf;
	int32_t leader_epoch;
	struct plog_segment **segments; /* ascending; the last is active */
	size_t count, capacity;
	int64_t start, end;
	int64_t flushed_end;
	int64_t flushed_base, flushed_position; /* where that is */
	int64_t size;
	struct index_writer index; /* of the active segment */
	int tail_dirty; /* bytes may be behind the end of the active file */
	int folder_dirty; /* a file was made that the folder may not keep */
	int open_fds; /* of segments */
	struct cursor cursors[CURSORS];
	unsigned next_cursor;
	int doubted; /* a read met what was well before */
	struct leader_epoch *epochs;
	size_t epoch_count, epoch_capacity;
	struct producers producers;
	int64_t checkpoint_end, checkpoint_start; /* on disk */
	int64_t checkpoint_bytes; /* appended since */
	int checkpoint_due;
	int checkpoint_old; /* the last couldn't be written */
	int64_t cleaned_to;
	int tidying;
	int64_t
	    *undeleted; /* bases of segments that are out, and still there */
	int undeleted_count;
	struct plog_sync sync;
};

/* ---- files.c: names, and reads and writes that are whole ------------------ */
void file_name(char name[NAME_SIZE], int64_t base, const char *suffix);
/* All bytes: 0, or -1 with errno (a short read sets EIO). */
int read_whole(int fd, void *bytes, size_t size, int64_t position);
int write_whole(int fd, const void *bytes, size_t size, int64_t position);
/* What was written to the disk: 0, or -1 with errno. */
int flush_data(int fd);
/* A file put in place by a rename, both synced.  0, or -1 with errno. */
int write_file(int folder_fd, const char *name, const void *bytes, size_t size);
/* PLOG_NO_SPACE or PLOG_IO with *err, from errno. */
int io_error(struct mr_error *err, const char *what, const char *path,
    const char *name);

/* ---- index.c -------------------------------------------------------------- */
void index_writer_init(struct index_writer *w);
/*
 * A batch of the segment is at ${position}, where its ${head} begins.  Adds an
 * entry before it if one is due.  Returns 1 if the pending ones should be written.
 */
int index_writer_add(struct index_writer *w, int64_t segment_base,
    int64_t position, int64_t offset, int64_t max_time_ms,
    const uint8_t head[HEAD_SIZE]);
/* Write what is pending behind ${*entries}; 0 or -1 with errno. */
int index_writer_flush(struct index_writer *w, int fd, int64_t *entries);
/* ... and the footer, which seals it. */
int index_writer_seal(struct index_writer *w, int fd,
    struct plog_segment *segment);
/* The footer of a sealed index into *segment: 1, or 0 if it has none that fits
 * the log's file. */
int index_read_footer(int fd, int64_t log_size, struct plog_segment *segment);
/* Decode; 0 if its own CRC is wrong. */
int index_entry_read(const uint8_t bytes[INDEX_ENTRY_SIZE],
    int64_t segment_base, struct index_entry *e);
/*
 * The last entry whose key is at most (or, for times, whose maximum is below)
 * ${key}.  *number is -1 and *e the segment's beginning if none is.  An index
 * with an entry that can't be read is emptied, so that all of it is made anew when
 * the log is next opened; until then its segment is read from the beginning.
 */
enum index_key { INDEX_OFFSET, INDEX_POSITION, INDEX_TIME };
void index_find(struct plog *log, struct plog_segment *segment,
    enum index_key by, int64_t key, int64_t *number, struct index_entry *e);
/* The ${number}th entry: 1, 0 past the last. */
int index_get(struct plog *log, struct plog_segment *segment, int64_t number,
    struct index_entry *e);

/* ---- scan.c ---------------------------------------------------------------- */
/* Reads a file's batches one by one, through a window. */
struct scanner {
	int fd;
	int64_t position, size;
	int64_t next_offset; /* the least that the next batch may have */
	int64_t limit_offset; /* and below this */
	int strict; /* it must be that one */
	int32_t epoch_most;
	uint8_t *window;
	int64_t window_at;
	int64_t window_length;
	/* The batch that was last found. */
	struct batch_header h;
	int64_t batch_position;
	int behind_hole; /* offsets are missing before it, with no damage */
	uint8_t head[BATCH_HEADER_SIZE];
};
/* From a position, where that offset is next.  0, or -1 out of memory. */
int scanner_init(struct scanner *s, int fd, int64_t position, int64_t size,
    int64_t next_offset, int64_t limit_offset, int strict);
/*
 * The next batch, its CRC checked: 1; 0 at the end; -1 if what is there is no
 * batch that may follow (the position stays); -2 with errno if it can't be read.
 */
int scanner_next(struct scanner *s);
/*
 * After -1: find the next batch that is right.  1 and the scanner stands before
 * it, 0 and the scanner stands at the end, -2 with errno.  *d is what is in
 * between.
 */
int scanner_resync(struct scanner *s, struct damage *d);
void scanner_done(struct scanner *s);
/*
 * Check what is in [from, to) of a segment and not known to be right, against
 * CRCs and index.  *d is what is wrong first and reaches beyond ${from}.  0, or a
 * code.
 */
int segment_check(struct plog *log, struct plog_segment *segment, int64_t from,
    int64_t to, struct damage *d, struct mr_error *err);

/* ---- segments.c ------------------------------------------------------------- */
struct plog_segment *segment_new(int64_t base);
/* Close what is open and free it. */
void segment_free(struct plog *log, struct plog_segment *segment);
/* Have its files open: 0 or a code. */
int segment_open(struct plog *log, struct plog_segment *segment,
    struct mr_error *err);
void segment_release(struct plog *log, struct plog_segment *segment);
/* The caller, who lets go of it then, has flushed it: one that isn't written to
 * any more, and not read, needs no descriptors. */
void segment_left(struct plog *log, struct plog_segment *segment);
/* Into the array, behind the last; 0 or -1. */
int segments_add(struct plog *log, struct plog_segment *segment);
/* Where in the array the last segment is whose base is at most ${offset}. */
size_t segments_find(const struct plog *log, int64_t offset);
struct plog_segment *plog_active(const struct plog *log);
/* What a failed write or a reservation left behind its end goes, before anything
 * follows it: 0 or a code. */
int plog_cut_tail(struct plog *log, struct plog_segment *active,
    struct mr_error *err);
/* A new active segment at ${base}; the one before is sealed.  0 or a code. */
int plog_roll(struct plog *log, int64_t base, struct mr_error *err);
/* Out of the array; the files are the caller's to unlink. */
void segments_drop(struct plog *log, size_t from, size_t count);
/* Its files: 0, or -1 with errno.  One that isn't there is fine. */
int segment_unlink(int folder_fd, int64_t base);
/* What isn't on disk yet: 0, or -1 FATAL. */
int segments_flush(struct plog *log, struct mr_error *err);
/* Close files that nobody reads until at most so many are open. */
void segments_close_idle(struct plog *log, int most);
/* Where plog_high is: a segment's base and a position. */
void plog_high_at(const struct plog *log, int64_t *base, int64_t *position);

/* ---- recover.c -------------------------------------------------------------- */
/* Find the segments, scan what has to be, cut what is torn.  0 or -1. */
int plog_recover(struct plog *log, struct plog_recovery *found,
    struct mr_error *err);

/* ---- producers.c ------------------------------------------------------------ */
/* What a batch of an idempotent producer is: a code.  *again for DUPLICATE. */
int producers_check(const struct producers *p, const struct batch_header *h,
    struct producer_batch *again, struct mr_error *err);
/* Have a place for it, so that producers_note can't fail; 0 or -1. */
int producers_reserve(struct producers *p, int64_t id, int32_t most);
void producers_note(struct producers *p, const struct batch_header *h,
    int64_t last_offset, int64_t append_time_ms, int64_t now_ms);
int producers_expire(struct producers *p, int64_t before_ms);
void producers_free(struct producers *p);

/* ---- checkpoint.c ----------------------------------------------------------- */
/* As of the log's end; buf->failed if there is no memory. */
void checkpoint_write(const struct plog *log, struct buffer *buf);
/*
 * Read the file into the log (checkpoint_end, start, cleaned_to, epochs,
 * producers, clean_ms of the segments that are listed already): 1, 0 if there
 * is none or it is damaged (*damaged), -1 no memory.
 */
int checkpoint_read(struct plog *log, int *damaged, struct mr_error *err);
/* The mark of what was flushed. */
int flushed_write(int folder_fd, int64_t end);
int64_t flushed_read(int folder_fd); /* 0: unknown */

/* ---- epochs, in checkpoint.c ------------------------------------------------ */
/* An epoch begins at an offset, if it is new.  0 or -1. */
int epochs_note(struct plog *log, int32_t epoch, int64_t offset);
/* Forget those that end at or below the log's start, but for the last. */
void epochs_trim(struct plog *log);

#endif
