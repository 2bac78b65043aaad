/*
 * segment_codecs -- batches in every way that clients compress them.
 */
#ifndef MR_TEST_SEGMENT_CODECS_H
#define MR_TEST_SEGMENT_CODECS_H

#include <sys/uio.h>

#include <zlib.h>
#include <zstd.h>

#include <librdkafka/lz4frame.h>
#include <librdkafka/snappy.h>

#include "segment_batches.h"

enum { GZIP, SNAPPY, SNAPPY_JAVA, LZ4, ZSTD, FORMATS };
static const int codec_of[] = {BATCH_GZIP, BATCH_SNAPPY, BATCH_SNAPPY,
    BATCH_LZ4, BATCH_ZSTD};

static inline size_t
snappy_into(uint8_t *to, size_t room, const uint8_t *from, size_t size)
{
	struct snappy_env env;
	struct iovec in = {(void *)(uintptr_t)from, size}, out = {to, room};

	assert_true(room >= rd_kafka_snappy_max_compressed_length(size));
	assert_int_equal(rd_kafka_snappy_init_env(&env), 0);
	assert_int_equal(rd_kafka_snappy_compress_iov(&env, &in, 1, size, &out),
	    0);
	rd_kafka_snappy_free_env(&env);
	return (out.iov_len);
}

/* As Java's clients do: blocks of so many bytes. */
static inline size_t
snappy_java_into(uint8_t *to, size_t room, const uint8_t *from, size_t size)
{
	static const uint8_t head[16] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0,
	    0, 0, 0, 1, 0, 0, 0, 1};
	const size_t most = size > 1000 ? 32768 : 10;
	size_t at = sizeof(head), piece, length;

	memcpy(to, head, sizeof(head));
	for (; size > 0; from += piece, size -= piece) {
		piece = size < most ? size : most;
		length = snappy_into(to + at + 4, room - at - 4, from, piece);
		put_i32(to + at, (int32_t)length);
		at += 4 + length;
	}
	return (at);
}

static inline size_t
gzip_into(uint8_t *to, size_t room, const uint8_t *from, size_t size)
{
	z_stream z;

	memset(&z, 0, sizeof(z));
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8,
			     Z_DEFAULT_STRATEGY),
	    Z_OK);
	z.next_in = (Bytef *)(uintptr_t)from;
	z.avail_in = (uInt)size;
	z.next_out = to;
	z.avail_out = (uInt)room;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return (room - z.avail_out);
}

static inline size_t
lz4_into(uint8_t *to, size_t room, const uint8_t *from, size_t size)
{
	LZ4F_preferences_t prefs;
	size_t length;

	memset(&prefs, 0, sizeof(prefs));
	prefs.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
	/* Better than what compaction does. */
	prefs.compressionLevel = 12;
	length = LZ4F_compressFrame(to, room, from, size, &prefs);
	assert_false(LZ4F_isError(length));
	return (length);
}

static inline size_t
compress_into(int format, uint8_t *to, size_t room, const uint8_t *from,
    size_t size)
{
	size_t length;

	switch (format) {
	case GZIP:
		return (gzip_into(to, room, from, size));
	case SNAPPY:
		return (snappy_into(to, room, from, size));
	case SNAPPY_JAVA:
		return (snappy_java_into(to, room, from, size));
	case LZ4:
		return (lz4_into(to, room, from, size));
	default:
		length = ZSTD_compress(to, room, from, size, 3);
		assert_false(ZSTD_isError(length));
		return (length);
	}
}

/* A batch of 2,048 bytes at most. */
static inline size_t
make_compressed(uint8_t *bytes, int format, const struct test_record *records,
    int count)
{
	uint8_t plain[1024], *to = bytes + BATCH_HEADER_SIZE;
	size_t size = (size_t)(make_records(plain, records, count) - plain);

	size = compress_into(format, to, 2048 - BATCH_HEADER_SIZE, plain, size);
	return (finish_batch(bytes, to + size, codec_of[format], records, count,
	    NULL));
}

#endif
