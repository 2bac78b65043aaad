#include <limits.h>

#include "segment/batch.h"
#include "segment/bytes.h"

void
batch_header_read(const uint8_t *b, struct batch_header *h)
{

	h->base_offset = get_i64(b + BATCH_AT_BASE_OFFSET);
	h->length = get_i32(b + BATCH_AT_LENGTH);
	h->leader_epoch = get_i32(b + BATCH_AT_LEADER_EPOCH);
	h->magic = (int8_t)b[BATCH_AT_MAGIC];
	h->crc = get_u32(b + BATCH_AT_CRC);
	h->attributes = get_i16(b + BATCH_AT_ATTRIBUTES);
	h->last_offset_delta = get_i32(b + BATCH_AT_LAST_OFFSET_DELTA);
	h->base_timestamp_ms = get_i64(b + BATCH_AT_BASE_TIMESTAMP);
	h->max_timestamp_ms = get_i64(b + BATCH_AT_MAX_TIMESTAMP);
	h->producer_id = get_i64(b + BATCH_AT_PRODUCER_ID);
	h->producer_epoch = get_i16(b + BATCH_AT_PRODUCER_EPOCH);
	h->base_sequence = get_i32(b + BATCH_AT_BASE_SEQUENCE);
	h->record_count = get_i32(b + BATCH_AT_RECORD_COUNT);
}

int64_t
batch_size(const struct batch_header *h)
{

	return ((int64_t)h->length + 12);
}

void
batch_seal(uint8_t *batch, size_t size)
{

	put_u32(batch + BATCH_AT_CRC,
	    crc32c(0, batch + BATCH_AT_ATTRIBUTES, size - BATCH_AT_ATTRIBUTES));
}

/* A zigzag varint of at most ${bits} bits; NULL: there is none. */
static const uint8_t *
read_varint(const uint8_t *at, const uint8_t *end, int bits, int64_t *out)
{
	uint64_t n = 0;
	int shift;

	for (shift = 0; at < end && shift < bits; shift += 7) {
		n |= (uint64_t)(*at & 0x7f) << shift;
		if ((*at++ & 0x80) == 0) {
			*out = (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
			return (at);
		}
	}
	return (NULL);
}

/* Most numbers of a record are small: one byte, or two. */
static inline const uint8_t *
read_small(const uint8_t *at, const uint8_t *end, int32_t *out)
{
	uint32_t n;

	if (at == end)
		return (NULL);
	n = at[0];
	if ((n & 0x80) != 0) {
		if (end - at < 2 || (at[1] & 0x80) != 0)
			return (NULL);
		n = (n & 0x7f) | (uint32_t)at[1] << 7;
		at++;
	}
	*out = (int32_t)(n >> 1) ^ -(int32_t)(n & 1);
	return (at + 1);
}

static inline const uint8_t *
read_i32(const uint8_t *at, const uint8_t *end, int32_t *out)
{
	const uint8_t *behind = read_small(at, end, out);
	int64_t n;

	if (behind != NULL)
		return (behind);
	if ((at = read_varint(at, end, 35, &n)) == NULL || n < INT32_MIN ||
	    n > INT32_MAX)
		return (NULL);
	*out = (int32_t)n;
	return (at);
}

static inline const uint8_t *
read_i64(const uint8_t *at, const uint8_t *end, int64_t *out)
{
	int32_t small;
	const uint8_t *behind = read_small(at, end, &small);

	if (behind == NULL)
		return (read_varint(at, end, 70, out));
	*out = small;
	return (behind);
}

/* A length and that many bytes; -1 is null where ${null} allows it. */
static inline const uint8_t *
read_bytes(const uint8_t *at, const uint8_t *end, int null,
    const uint8_t **bytes, int32_t *length)
{

	if ((at = read_i32(at, end, length)) == NULL ||
	    *length < (null ? -1 : 0) || *length > end - at)
		return (NULL);
	*bytes = at;
	return (*length > 0 ? at + *length : at);
}

int
batch_record_next(const uint8_t **at, const uint8_t *end,
    struct batch_record *r)
{
	const uint8_t *p = *at, *ignored;
	int32_t length, headers;

	if (p == end)
		return (0);
	r->start = p;
	if ((p = read_i32(p, end, &length)) == NULL || length < 1 ||
	    length > end - p)
		return (-1);
	end = p + length;
	r->size = (size_t)(end - r->start);
	p++; /* attributes, none of which exists */
	if ((p = read_i64(p, end, &r->timestamp_delta)) == NULL ||
	    (p = read_i32(p, end, &r->offset_delta)) == NULL ||
	    (p = read_bytes(p, end, 1, &r->key, &r->key_length)) == NULL ||
	    (p = read_bytes(p, end, 1, &ignored, &r->value_length)) == NULL ||
	    (p = read_i32(p, end, &headers)) == NULL || headers < 0)
		return (-1);
	for (; headers > 0; headers--)
		if ((p = read_bytes(p, end, 0, &ignored, &length)) == NULL ||
		    (p = read_bytes(p, end, 1, &ignored, &length)) == NULL)
			return (-1);
	if (p != end)
		return (-1);
	*at = end;
	return (1);
}

#define RECORDS_AHEAD 384 /* bytes: some records of the usual sizes */

/* Uncompressed records: as many and numbered as the header says. */
static int
check_records(const uint8_t *at, const uint8_t *end,
    const struct batch_header *h, int need_keys, struct mr_error *err)
{
	struct batch_record r;
	int32_t count = 0;
	int rc;

	while ((rc = batch_record_next(&at, end, &r)) == 1) {
		/* A record says where the next one is, too late to have it. */
		__builtin_prefetch(at + RECORDS_AHEAD);
		if (r.offset_delta != count++)
			break;
		if (need_keys && r.key_length < 0) {
			mr_error_set(err, MR_REJECT,
			    "record %d of the batch has no key, and the topic "
			    "is compacted",
			    count - 1);
			return (PLOG_INVALID_RECORD);
		}
	}
	if (rc != 0 || count != h->record_count) {
		mr_error_set(err, MR_REJECT,
		    "record %d of %d in the batch is malformed", count,
		    h->record_count);
		return (PLOG_INVALID_RECORD);
	}
	return (PLOG_OK);
}

/* What is too large to be looked into, or there is no memory for, is believed. */
static int
check_compressed(const uint8_t *bytes, const struct batch_header *h,
    struct mr_error *err)
{
	struct buffer memory;
	const uint8_t *body;
	size_t size;
	int rc;

	buffer_init(&memory, 0);
	rc = batch_body(bytes, h, &memory, &body, &size);
	if (rc == -1)
		mr_error_set(err, MR_REJECT,
		    "the batch's records can't be uncompressed");
	if (rc == 1)
		rc = check_records(body, body + size, h, 1, err);
	else
		rc = rc == 0 ? PLOG_OK : PLOG_INVALID_RECORD;
	buffer_free(&memory);
	return (rc);
}

/* Where the batch ends, before anything else in it is believed. */
static int
check_frame(const uint8_t *bytes, size_t size, int64_t most,
    struct batch_header *h, struct mr_error *err)
{

	if (size < BATCH_PREFIX_SIZE) {
		mr_error_set(err, MR_REJECT, "%zu bytes are no record batch",
		    size);
		return (PLOG_CORRUPT);
	}
	if (bytes[BATCH_AT_MAGIC] < 2) {
		mr_error_set(err, MR_REJECT,
		    "message format %d is not supported, only 2",
		    bytes[BATCH_AT_MAGIC]);
		return (PLOG_OLD_FORMAT);
	}
	if (size < BATCH_HEADER_SIZE || bytes[BATCH_AT_MAGIC] != 2) {
		mr_error_set(err, MR_REJECT,
		    "%zu bytes of format %d are no record batch", size,
		    bytes[BATCH_AT_MAGIC]);
		return (PLOG_CORRUPT);
	}
	batch_header_read(bytes, h);
	if (h->length < BATCH_LENGTH_LEAST || batch_size(h) > (int64_t)size) {
		mr_error_set(err, MR_REJECT,
		    "the batch says %d bytes, %zu are there", h->length,
		    size - 12);
		return (PLOG_CORRUPT);
	}
	if (batch_size(h) > most) {
		mr_error_set(err, MR_REJECT,
		    "the batch has %lld bytes, at most %lld are allowed",
		    (long long)batch_size(h), (long long)most);
		return (PLOG_TOO_LARGE);
	}
	return (PLOG_OK);
}

static int
check_header(const struct batch_header *h, struct mr_error *err)
{

	if ((h->attributes & BATCH_CODEC_MASK) > BATCH_ZSTD) {
		mr_error_set(err, MR_REJECT, "codec %d is unknown",
		    h->attributes & BATCH_CODEC_MASK);
		return (PLOG_BAD_CODEC);
	}
	if ((h->attributes & (BATCH_CONTROL | BATCH_TRANSACTIONAL)) != 0) {
		mr_error_set(err, MR_REJECT, "%s batches are not supported",
		    (h->attributes & BATCH_CONTROL) ? "control" :
						      "transactional");
		return (PLOG_INVALID_RECORD);
	}
	if (h->record_count < 1 || h->last_offset_delta < 0 ||
	    h->last_offset_delta != h->record_count - 1) {
		mr_error_set(err, MR_REJECT,
		    "the batch says %d records and a last offset of %d",
		    h->record_count, h->last_offset_delta);
		return (PLOG_INVALID_RECORD);
	}
	if (h->producer_id >= 0 &&
	    (h->base_sequence < 0 || h->producer_epoch < 0)) {
		mr_error_set(err, MR_REJECT,
		    "producer %lld has epoch %d and sequence %d",
		    (long long)h->producer_id, h->producer_epoch,
		    h->base_sequence);
		return (PLOG_INVALID_RECORD);
	}
	return (PLOG_OK);
}

int
batch_check(const uint8_t *bytes, size_t size, int64_t most, int need_keys,
    struct batch_header *h, struct mr_error *err)
{
	int code;

	if ((code = check_frame(bytes, size, most, h, err)) != PLOG_OK)
		return (code);
	if (crc32c(0, bytes + BATCH_AT_ATTRIBUTES,
		(size_t)batch_size(h) - BATCH_AT_ATTRIBUTES) != h->crc) {
		mr_error_set(err, MR_REJECT,
		    "the batch's CRC is not that of its bytes");
		return (PLOG_CORRUPT);
	}
	if ((code = check_header(h, err)) != PLOG_OK)
		return (code);
	if ((h->attributes & BATCH_CODEC_MASK) == BATCH_NONE)
		return (check_records(bytes + BATCH_HEADER_SIZE,
		    bytes + batch_size(h), h, need_keys, err));
	return (need_keys ? check_compressed(bytes, h, err) : PLOG_OK);
}
