/*
 * segment -- one partition's log: record batches in files, as they arrived.
 *
 * A struct plog is a folder of segments.  Batches (message format 2: KIP-98,
 * and "Record Batch" in Kafka's protocol guide) are kept byte for byte but for
 * what a broker fills in: base offset, leader epoch, and with append time the
 * maximum timestamp, one attribute bit and the CRC.  They are never decoded to
 * be stored or read.  docs/ARCHITECTURE.md has the files.
 *
 * Invariants:
 * - offsets are never given twice: not after a crash, not after a deletion;
 * - bytes below plog_flushed_end are on disk; batches above plog_high are
 *   never given to a reader;
 * - a batch that this process has neither written nor scanned is checked by
 *   CRC before it is first given out, so damage is an error, not wrong data;
 *   and all of a segment anew, once a reader meets what is no batch in it;
 * - each change of files is one rename, or can be done again at the next open.
 *
 * Threads: one thread (the loop) owns a struct plog and makes all calls but
 * those named *_run, which do what takes long on any thread, between a
 * *_begin and a *_finish on the loop's.  Calls of the owner write to the page
 * cache and read from it; none waits for the disk to flush, but for
 * plog_open, plog_close, and a roll that makes a file.
 *
 * Errors: an int that is not 0 or a negative enum plog_code; *err says more.
 * What it refuses: message formats 0 and 1, and compressing.
 */
#ifndef MR_SEGMENT_H
#define MR_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * What an operation came to, and what Kafka calls it.  PLOG_OK is 0 and all
 * others are negative.  err->kind is REJECT for what the client did, RETRY
 * for a full disk, FATAL where the process can't go on.
 */
enum plog_code {
	PLOG_OK = 0,
	/* Offset is not in the log: OFFSET_OUT_OF_RANGE. */
	PLOG_OUT_OF_RANGE = -1,
	/* Bytes aren't whole batches, or a CRC is wrong: CORRUPT_MESSAGE. */
	PLOG_CORRUPT = -2,
	/* Magic 0 or 1: INVALID_RECORD as well, told before the log is asked. */
	PLOG_OLD_FORMAT = -3,
	/* A batch is above batch_most: MESSAGE_TOO_LARGE. */
	PLOG_TOO_LARGE = -4,
	/* Counts, deltas, a missing key in a compacted topic, a control or
	 * transactional batch from a client: INVALID_RECORD. */
	PLOG_INVALID_RECORD = -5,
	/* A codec number that isn't one: UNSUPPORTED_COMPRESSION_TYPE. */
	PLOG_BAD_CODEC = -6,
	/* OUT_OF_ORDER_SEQUENCE_NUMBER. */
	PLOG_OUT_OF_ORDER = -7,
	/* An older epoch of its producer: INVALID_PRODUCER_EPOCH. */
	PLOG_FENCED = -8,
	/* More than one batch: INVALID_RECORD, likewise. */
	PLOG_SEVERAL = -9,
	/* One of the last five batches of its producer; nothing is written, the
	 * answer has the offsets of the first time: answered as success. */
	PLOG_DUPLICATE = -10,
	/* No space or quota; the log is as before: KAFKA_STORAGE_ERROR. */
	PLOG_NO_SPACE = -11,
	/* This range of the log is damaged on disk; *err has file and
	 * position, the log goes on behind it: CORRUPT_MESSAGE. */
	PLOG_DAMAGED = -12,
	/* Any other failure of the file system: KAFKA_STORAGE_ERROR. */
	PLOG_IO = -13,
	PLOG_NO_MEMORY = -14,
	/* Further ahead of the clock than time_ahead_most_ms:
	 * INVALID_TIMESTAMP. */
	PLOG_AHEAD = -15
};

/* cleanup.policy, both possible. */
enum plog_cleanup { PLOG_DELETE = 1, PLOG_COMPACT = 2 };

struct plog_conf {
	int64_t segment_bytes; /* at most 2^31 - 1; roll before it is passed */
	int64_t segment_ms; /* roll that long after the first batch's arrival */
	int64_t batch_most; /* max.message.bytes; bytes of a batch */
	int64_t retention_ms, retention_bytes; /* -1: for ever */
	int64_t delete_retention_ms; /* tombstones, once compacted */
	int64_t compaction_lag_ms; /* min.compaction.lag.ms */
	double dirty_ratio_least; /* min.cleanable.dirty.ratio */
	int cleanup; /* enum plog_cleanup, or both */
	int append_time; /* 1: LogAppendTime, 0: CreateTime */
	int64_t time_ahead_most_ms; /* of a CreateTime, before the clock's */
	/* 1: plog_high is what was flushed, 0: what was appended. */
	int high_is_flushed;
	int64_t producer_expiry_ms; /* idle that long: forgotten */
	int32_t producers_most; /* then the longest idle is forgotten */
};

/* plog_conf_default -- Kafka's defaults, and high_is_flushed. */
void plog_conf_default(struct plog_conf *conf);

struct plog;

/* Descriptors that a log has open beside its folder's: two of the segment that is
 * appended to, and so many of others while they are read. */
#define PLOG_ACTIVE_FDS 2
#define PLOG_OTHER_FDS 16
#define PLOG_NAME_SIZE 48 /* of a file's name in the folder */

/* What plog_open found, for one line in the log. */
struct plog_recovery {
	int clean; /* nothing is behind the checkpoint, as after plog_close */
	int64_t scanned_bytes;
	int64_t cut_bytes; /* a torn end */
	char cut_file
	    [PLOG_NAME_SIZE]; /* where; its position is in cut_position */
	int64_t cut_position;
	int indexes_rebuilt;
	int checkpoint_lost; /* producers were rebuilt from the batches */
	/* Batches in the middle that are damaged: the first, and how many. */
	int damaged;
	char damaged_file[PLOG_NAME_SIZE];
	int64_t damaged_position, damaged_offset;
};

/*
 * plog_open -- open the log in the folder ${path}, or begin one at offset 0.
 *
 * Makes the folder (its parent must exist) and syncs it into its parent.
 * Reads and checks by CRC what is behind the last checkpoint (at most about
 * 16 MiB after a crash, or what came since the flush before, and nothing after a
 * clean close), cuts the end that is torn, and rebuilds indexes that are missing
 * or doubtful.  What a crash left unflushed still is: plog_flushed_end is where
 * it was, and the caller begins a flush.  ${conf} is copied.  Batches that are
 * appended get ${leader_epoch}, which must not be below any before; what has
 * been appended under which one is kept with the log.  *found (may be
 * NULL) is filled in.  NULL on error: RETRY (no memory, no space, too many
 * files), REJECT (there are batches of a later epoch, which nothing was cut of)
 * or FATAL.
 */
struct plog *plog_open(const char *path, const struct plog_conf *conf,
    int32_t leader_epoch, struct plog_recovery *found, struct mr_error *err);
/*
 * plog_close -- flush, write a checkpoint if anything changed, close.  Spans and
 * jobs must be back.  0, or -1 FATAL if it couldn't be flushed (it is closed all
 * the same).  NULL is a no-op.
 */
int plog_close(struct plog *log, struct mr_error *err);
/* plog_abandon -- close without writing anything: a log that is deleted, or
 * one whose flush failed. */
void plog_abandon(struct plog *log);
/* plog_configure -- other settings, from now on. */
void plog_configure(struct plog *log, const struct plog_conf *conf);

/* Offsets.  start <= flushed_end <= end, and high is one of the last two. */
int64_t plog_start(const struct plog *log); /* log start offset */
int64_t plog_end(const struct plog *log); /* of the next record */
int64_t plog_flushed_end(const struct plog *log);
int64_t plog_high(const struct plog *log); /* high watermark */
/* plog_size -- bytes of batches in all segments. */
int64_t plog_size(const struct plog *log);
int plog_segments(const struct plog *log);

/* ---- Appending ---------------------------------------------------------- */

struct plog_appended {
	int64_t base_offset; /* of the first record; -1 if refused */
	int64_t last_offset;
	/* What the broker put in (LogAppendTime), or -1 (CreateTime). */
	int64_t append_time_ms;
	int64_t log_start;
};

/*
 * plog_append -- put a batch at the end.
 *
 * ${bytes} is one whole batch as a client sent it, and is changed in
 * place.  It is validated first.  Returns PLOG_OK; PLOG_DUPLICATE
 * with *out filled in from the first time (it may not be flushed yet: answer
 * when plog_flushed_end is above last_offset, as for PLOG_OK); or another code.
 * Only with PLOG_OK was anything written.  Allocates only when a segment or
 * a producer is new.
 */
int plog_append(struct plog *log, uint8_t *bytes, size_t size, int64_t now_ms,
    struct plog_appended *out, struct mr_error *err);

/* ---- Flushing ----------------------------------------------------------- */

/*
 * One flush.  Any number of appends may share one: those from before its begin.
 * One job of a log at a time.  Belongs to the log; don't look inside.
 */
struct plog_sync;

/* plog_sync_begin -- what is to be flushed now; NULL: nothing is. */
struct plog_sync *plog_sync_begin(struct plog *log);
/* plog_sync_bytes -- how many of the log it takes to the disk. */
int64_t plog_sync_bytes(const struct plog_sync *sync);
/*
 * plog_sync_start -- have the disk begin, and wait for nothing.  A hint, for
 * several logs that are flushed one after another: their writes overlap, and
 * share the file system's commits.  Any thread.
 */
void plog_sync_start(struct plog_sync *sync);
/*
 * plog_sync_run -- flush it (fdatasync), and see that the file system can still
 * be written; now and then also write a checkpoint.
 * Any thread; waits for the disk; touches nothing that the loop's calls use.
 * 0, or -1 FATAL: nobody knows what is on disk, so end the process.
 */
int plog_sync_run(struct plog_sync *sync, struct mr_error *err);
/*
 * plog_sync_finish -- after a run that returned 0: plog_flushed_end (and with
 * high_is_flushed plog_high) moves to what plog_end was at its begin.  Returns 1
 * if there is more to flush by now.
 */
int plog_sync_finish(struct plog *log, struct plog_sync *sync);
/* plog_sync_cancel -- instead of a finish, before plog_abandon. */
void plog_sync_cancel(struct plog *log, struct plog_sync *sync);

/* ---- Reading ------------------------------------------------------------ */

/*
 * Whole batches in one file: sendfile(socket, span.fd, &position, length).
 * The file stays as it is until the span is released, whatever becomes of the
 * log's segments; release it before plog_close.
 */
struct plog_span {
	int fd; /* borrowed */
	int64_t position;
	int64_t length; /* 0: nothing there (yet) */
	int64_t base_offset; /* of the first batch; at most the one asked for */
	int64_t next_offset; /* behind the last batch */
	struct plog_segment *segment; /* the log's */
};

/*
 * plog_read -- where the batches from ${offset} on are, ${most} bytes at most.
 *
 * The first batch holds ${offset} (or what comes after it, where compaction
 * left a hole).  It is whole even if it is larger than ${most} when ${whole} is
 * 1; with 0 a first batch that doesn't fit makes length 0.  Ends at a file's end,
 * at plog_high, or before what is damaged.  From plog_high on the length is 0.  0 and
 * *span (to be released, even if its length is 0); PLOG_OUT_OF_RANGE below plog_start
 * or above plog_end; PLOG_DAMAGED, and then *span has the damaged range in
 * base_offset and next_offset (nothing to release); PLOG_IO.  Reads what isn't in
 * the page cache from disk.
 */
int plog_read(struct plog *log, int64_t offset, int64_t most, int whole,
    struct plog_span *span, struct mr_error *err);
void plog_release(struct plog *log, struct plog_span *span);
/* plog_available -- about how many bytes a reader at ${offset} has before it, for
 * fetch.min.bytes: exact at the end of the log, an estimate elsewhere. */
int64_t plog_available(const struct plog *log, int64_t offset);

struct plog_found {
	int64_t offset; /* -1: none */
	int64_t timestamp_ms;
	int32_t leader_epoch;
};

/*
 * plog_find_time -- the first record whose timestamp is ${timestamp_ms} or later,
 * below plog_high.  In a batch whose records can't be read (damaged, or above
 * 16 MiB uncompressed) the batch's first.  0 with offset -1 if there is none.
 * Codes as plog_read's.
 */
int plog_find_time(struct plog *log, int64_t timestamp_ms,
    struct plog_found *out, struct mr_error *err);
/* plog_find_latest_time -- the first record with the largest timestamp
 * (KIP-734); in a batch that can't be read, its last.  As with Kafka it may be
 * below plog_start, as long as its segment is there. */
int plog_find_latest_time(struct plog *log, struct plog_found *out,
    struct mr_error *err);
/*
 * plog_epoch_end -- the answer to OffsetForLeaderEpoch (KIP-101, KIP-320): the
 * largest epoch at or below ${epoch} and the offset behind its last record.
 * Below the oldest that is known: ${epoch}, and where that begins.  *epoch_out
 * and *end are -1 when ${epoch} is above the newest, or there are no records.
 */
void plog_epoch_end(const struct plog *log, int32_t epoch, int32_t *epoch_out,
    int64_t *end);
/* plog_epoch_at -- the leader epoch of an offset; -1: unknown. */
int32_t plog_epoch_at(const struct plog *log, int64_t offset);

/* ---- Deleting and compacting -------------------------------------------- */

/*
 * plog_delete_records -- readers see nothing below ${offset} (-1: plog_high)
 * from now on.  0 or PLOG_OUT_OF_RANGE (above plog_high).  An offset below
 * plog_start changes nothing.  On disk after the next flush: plog_sync_begin has
 * something to do then.  A flush can do without it, though, so ask afterwards.
 */
int plog_delete_records(struct plog *log, int64_t offset, struct mr_error *err);
/* plog_start_is_kept -- 1: plog_start is on disk; 0: after a restart there may be
 * records before it. */
int plog_start_is_kept(const struct plog *log);

/*
 * One round of housekeeping: roll what is old, drop segments by time, size
 * and log start, compact if it is worth it, forget idle producers.  One job of a
 * log at a time; belongs to the log.
 */
struct plog_tidy;

/*
 * plog_tidy_begin -- see what there is to do, and do what is short.  NULL: no
 * more to do.  ${what} is of enum plog_cleanup: PLOG_COMPACT compacts, PLOG_DELETE
 * is all the rest, which takes less long; as far as conf's cleanup has them.
 * Segments that have to go are out of the log after this, and plog_start has
 * moved.
 */
struct plog_tidy *plog_tidy_begin(struct plog *log, int what, int64_t now_ms);
/* plog_tidy_run -- unlink, compact.  Any thread; takes long.  0, or -1: RETRY
 * (the next round tries again), or FATAL (end the process). */
int plog_tidy_run(struct plog_tidy *tidy, struct mr_error *err);
struct plog_tidied {
	int segments_deleted; /* by retention and log start */
	int more; /* so many went as do in one round: begin another */
	int segments_compacted;
	int64_t bytes_before, bytes_after; /* of what was compacted */
	/* Kept as they are: what is compressed in a batch is damaged or above
	 * 16 MiB, or memory ran out; or a segment isn't whole batches. */
	int64_t unreadable_batches;
	int64_t damaged_segments;
	int producers_forgotten;
};
/* plog_tidy_finish -- whatever the run returned; *did (may be NULL). */
void plog_tidy_finish(struct plog *log, struct plog_tidy *tidy,
    struct plog_tidied *did);
/* plog_tidy_stop -- make a run that is under way end soon.  The loop's thread. */
void plog_tidy_stop(struct plog_tidy *tidy);

/* ---- Producers ---------------------------------------------------------- */

struct plog_producer {
	int64_t producer_id;
	int16_t epoch;
	int32_t last_sequence; /* -1: none */
	int64_t last_offset;
	int64_t last_time_ms; /* of its last append */
};
/*
 * plog_producer_next -- each producer that is known; start with *at = 0.
 * Returns 1, or 0 after the last.  In between no appends.
 */
int plog_producer_next(const struct plog *log, size_t *at,
    struct plog_producer *out);

/* ---- Folders ------------------------------------------------------------ */

/*
 * plog_folder_retire -- take a folder (a topic with its partitions) away: renamed
 * to ${path}.deleted and that synced, so that it is gone for good once this
 * returns 0.  One that isn't there is gone already.  -1 RETRY.  Its logs must be
 * closed or abandoned.
 */
int plog_folder_retire(const char *path, struct mr_error *err);
/*
 * plog_folder_purge -- delete every *.deleted in ${parent}, with what is in them.
 * At start, and after plog_folder_retire.  Any thread; takes long.  0, or -1 RETRY.
 */
int plog_folder_purge(const char *parent, struct mr_error *err);
/* plog_folder_is_empty -- of a topic: 1 if no log in it has a record, 0, or -1
 * RETRY. */
int plog_folder_is_empty(const char *path, struct mr_error *err);
/* plog_folder_make -- mkdir if it isn't there, and sync it into its parent. */
int plog_folder_make(const char *path, struct mr_error *err);

/* ---- Batches ------------------------------------------------------------ */

#define BATCH_HEADER_SIZE 61
/* Up to and including the magic byte: what is before the part with a CRC. */
#define BATCH_PREFIX_SIZE 17

enum batch_codec {
	BATCH_NONE = 0,
	BATCH_GZIP = 1,
	BATCH_SNAPPY = 2,
	BATCH_LZ4 = 3,
	BATCH_ZSTD = 4
};
#define BATCH_CODEC_MASK 0x07
#define BATCH_APPEND_TIME 0x08
#define BATCH_TRANSACTIONAL 0x10
#define BATCH_CONTROL 0x20

/* A batch's header (KIP-98; big-endian on the wire). */
struct batch_header {
	int64_t base_offset;
	int32_t length; /* of what follows this field: size - 12 */
	int32_t leader_epoch;
	int8_t magic;
	uint32_t crc; /* CRC-32C of everything from the attributes on */
	int16_t attributes;
	int32_t last_offset_delta;
	int64_t base_timestamp_ms;
	int64_t max_timestamp_ms;
	int64_t producer_id; /* -1: not idempotent */
	int16_t producer_epoch;
	int32_t base_sequence;
	int32_t record_count;
};
/* batch_header_read -- from BATCH_HEADER_SIZE bytes; checks nothing. */
void batch_header_read(const uint8_t *bytes, struct batch_header *h);
/* batch_size -- in bytes, header and all; may be nonsense if length is. */
int64_t batch_size(const struct batch_header *h);
/*
 * batch_check -- what a broker asks of a batch that a client sends: PLOG_OK, or
 * the code.  ${size} bytes are left, from this batch on; the batch has to be
 * whole.  ${most} is max.message.bytes; ${need_keys}: the topic is compacted.
 */
int batch_check(const uint8_t *bytes, size_t size, int64_t most, int need_keys,
    struct batch_header *h, struct mr_error *err);

/* crc32c -- RFC 3720's CRC-32C of more bytes; ${crc} is that of those before, 0 at
 * first.  By the processor's instruction where it has one. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);
/* crc32c_portable -- the same without it, for the tests. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);

#endif
