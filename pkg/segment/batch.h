/*
 * batch -- inside a record batch: records, and bodies that are compressed (body.c).
 *
 * The format is KIP-98's (magic 2).  Any thread; nothing here keeps state.
 */
#ifndef MR_SEGMENT_BATCH_H
#define MR_SEGMENT_BATCH_H

#include "base/buffer.h"
#include "segment/segment.h"

/* Where the fields of a batch's header are. */
enum batch_field {
	BATCH_AT_BASE_OFFSET = 0,
	BATCH_AT_LENGTH = 8,
	BATCH_AT_LEADER_EPOCH = 12,
	BATCH_AT_MAGIC = 16,
	BATCH_AT_CRC = 17,
	BATCH_AT_ATTRIBUTES = 21,
	BATCH_AT_LAST_OFFSET_DELTA = 23,
	BATCH_AT_BASE_TIMESTAMP = 27,
	BATCH_AT_MAX_TIMESTAMP = 35,
	BATCH_AT_PRODUCER_ID = 43,
	BATCH_AT_PRODUCER_EPOCH = 51,
	BATCH_AT_BASE_SEQUENCE = 53,
	BATCH_AT_RECORD_COUNT = 57
};
#define BATCH_LENGTH_LEAST (BATCH_HEADER_SIZE - 12)

/* One record, pointing into the body; lengths are -1 for null. */
struct batch_record {
	const uint8_t *start;
	size_t size;
	int64_t timestamp_delta;
	int32_t offset_delta;
	const uint8_t *key;
	int32_t key_length;
	int32_t value_length;
};
/* batch_record_next -- 1, 0 at the end, -1 if the bytes are no record. */
int batch_record_next(const uint8_t **at, const uint8_t *end,
    struct batch_record *r);

/*
 * batch_body -- the records of a whole batch, uncompressed.  They point into
 * the batch or into ${memory}.  1; 0 if they can't be read (memory ran out, they
 * have more than 16 MiB, or no codec has that number); -1 if they are broken.
 */
int batch_body(const uint8_t *batch, const struct batch_header *h,
    struct buffer *memory, const uint8_t **body, size_t *size);

/*
 * batch_pack -- compress the records of a batch of *size bytes where they are, if
 * that makes them smaller and there is memory for it.  What they are in then:
 * ${codec}, or BATCH_NONE.  The header isn't touched.
 */
int batch_pack(uint8_t *batch, size_t *size, int codec);

/* batch_seal -- put the CRC in, over ${size} bytes of a whole batch. */
void batch_seal(uint8_t *batch, size_t size);

#endif
