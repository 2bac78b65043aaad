#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* For the error codes; the library is linked statically. */
#define LZ4F_STATIC_LINKING_ONLY
#include <librdkafka/lz4frame.h>
#include <librdkafka/snappy.h>

#include "segment/batch.h"
#include "segment/bytes.h"

#define BODY_MOST ((size_t)16 << 20)
#define BODY_PIECE 65536
#define SNAPPY_SLOTS 16384 /* snappy.c's kmax_hash_table_size */
#define SNAPPY_SLACK 64 /* what its length takes, and more */

/* ---- Uncompressing ------------------------------------------------------ */

/*
 * Each of these puts what it uncompresses into a buffer whose ceiling is
 * BODY_MOST: 1; 0 if memory or that is not enough; -1 if the bytes are damaged.
 */

static int
inflate_body(const uint8_t *in, size_t size, struct buffer *memory)
{
	uint8_t piece[BODY_PIECE];
	z_stream z;
	int rc;

	memset(&z, 0, sizeof(z));
	/* 31: the widest window, and gzip's own header. */
	if (inflateInit2(&z, 31) != Z_OK)
		return (0);
	z.next_in = (Bytef *)(uintptr_t)in;
	z.avail_in = (uInt)size;
	do {
		z.next_out = piece;
		z.avail_out = sizeof(piece);
		rc = inflate(&z, Z_NO_FLUSH);
		if (rc != Z_OK && rc != Z_STREAM_END)
			break;
		buffer_add(memory, piece, sizeof(piece) - z.avail_out);
	} while (rc == Z_OK && !memory->failed);
	inflateEnd(&z);
	if (memory->failed || rc == Z_MEM_ERROR)
		return (0);
	return (rc == Z_STREAM_END ? 1 : -1);
}

static int
unzstd_body(const uint8_t *in, size_t size, struct buffer *memory)
{
	uint8_t piece[BODY_PIECE];
	ZSTD_inBuffer from = {in, size, 0};
	ZSTD_outBuffer to = {piece, sizeof(piece), 0};
	ZSTD_DCtx *ctx;
	size_t rc = 1;

	if ((ctx = ZSTD_createDCtx()) == NULL)
		return (0);
	while (!memory->failed) {
		to.pos = 0;
		rc = ZSTD_decompressStream(ctx, &to, &from);
		if (ZSTD_isError(rc))
			break;
		buffer_add(memory, piece, to.pos);
		if (rc == 0 || (from.pos == from.size && to.pos < to.size))
			break;
	}
	ZSTD_freeDCtx(ctx);
	if (memory->failed ||
	    ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation)
		return (0);
	return (rc == 0 ? 1 : -1);
}

static int
unlz4_body(const uint8_t *in, size_t size, struct buffer *memory)
{
	uint8_t piece[BODY_PIECE];
	LZ4F_dctx *ctx;
	size_t rc, taken, given;
	int failed;

	if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION)))
		return (0);
	do {
		taken = size;
		given = sizeof(piece);
		rc = LZ4F_decompress(ctx, piece, &given, in, &taken, NULL);
		if (LZ4F_isError(rc))
			break;
		buffer_add(memory, piece, given);
		in += taken;
		size -= taken;
		/* 0: the frame has ended.  Clients write one. */
	} while (rc != 0 && (taken > 0 || given > 0) && !memory->failed);
	failed = memory->failed ||
	    LZ4F_getErrorCode(rc) == LZ4F_ERROR_allocation_failed;
	(void)LZ4F_freeDecompressionContext(ctx);
	if (failed)
		return (0);
	return (rc == 0 ? 1 : -1);
}

/* The length that snappy's bytes say is believed up to what there is room for;
 * that it's right is seen by uncompressing them. */
static int
unsnappy_block(const uint8_t *in, size_t size, struct buffer *memory)
{
	const char *from = (const char *)in;
	size_t length;
	char *block;
	int ok;

	if (!rd_kafka_snappy_uncompressed_length(from, size, &length))
		return (-1);
	if (length > BODY_MOST - memory->length ||
	    (block = malloc(length > 0 ? length : 1)) == NULL)
		return (0);
	ok = rd_kafka_snappy_uncompress(from, size, block) == 0;
	if (ok)
		buffer_add(memory, block, length);
	free(block);
	if (memory->failed)
		return (0);
	return (ok ? 1 : -1);
}

/* Kafka's Java clients write snappy-java's frame: a magic, two versions, and
 * blocks with their lengths.  Others write one block and nothing around it. */
static int
unsnappy_body(const uint8_t *in, size_t size, struct buffer *memory)
{
	static const uint8_t magic[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
	const uint8_t *end = in + size;
	uint32_t length;
	int rc = 1;

	if (size < sizeof(magic) || memcmp(in, magic, sizeof(magic)) != 0)
		return (unsnappy_block(in, size, memory));
	if (size < sizeof(magic) + 8)
		return (-1);
	for (in += sizeof(magic) + 8; in < end && rc == 1; in += length) {
		if (end - in < 4)
			return (-1);
		length = get_u32(in);
		in += 4;
		if (length > (size_t)(end - in))
			return (-1);
		rc = unsnappy_block(in, length, memory);
	}
	return (rc);
}

static int
unpack(int codec, const uint8_t *in, size_t size, struct buffer *memory)
{

	switch (codec) {
	case BATCH_GZIP:
		return (inflate_body(in, size, memory));
	case BATCH_SNAPPY:
		return (unsnappy_body(in, size, memory));
	case BATCH_LZ4:
		return (unlz4_body(in, size, memory));
	case BATCH_ZSTD:
		return (unzstd_body(in, size, memory));
	default:
		return (0);
	}
}

int
batch_body(const uint8_t *batch, const struct batch_header *h,
    struct buffer *memory, const uint8_t **body, size_t *size)
{
	const uint8_t *in = batch + BATCH_HEADER_SIZE;
	size_t in_size = (size_t)batch_size(h) - BATCH_HEADER_SIZE;
	int codec = h->attributes & BATCH_CODEC_MASK, rc;

	if (codec == BATCH_NONE) {
		*body = in;
		*size = in_size;
		return (1);
	}
	buffer_clear(memory);
	memory->ceiling = BODY_MOST;
	rc = unpack(codec, in, in_size, memory);
	*body = (const uint8_t *)buffer_text(memory);
	*size = memory->length;
	return (rc);
}

/* ---- Compressing -------------------------------------------------------- */

/* Each of these gives the size of what it put there, 0 if it couldn't. */

static size_t
deflate_body(const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
	z_stream z;
	int rc;

	memset(&z, 0, sizeof(z));
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 31, 8,
		Z_DEFAULT_STRATEGY) != Z_OK)
		return (0);
	z.next_in = (Bytef *)(uintptr_t)in;
	z.avail_in = (uInt)size;
	z.next_out = out;
	z.avail_out = (uInt)room;
	rc = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return (rc == Z_STREAM_END ? room - z.avail_out : 0);
}

/* The library's own way to this memory aborts where there is none. */
static size_t
snappy_body(const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
	struct iovec from = {(void *)(uintptr_t)in, size}, to = {out, room};
	struct snappy_env env = {NULL, NULL, NULL};
	int rc;

	env.hash_table = malloc(SNAPPY_SLOTS * sizeof(*env.hash_table));
	if (env.hash_table == NULL)
		return (0);
	rc = rd_kafka_snappy_compress_iov(&env, &from, 1, size, &to);
	free(env.hash_table);
	return (rc == 0 ? to.iov_len : 0);
}

/* Kafka's Java clients don't read blocks that depend on each other. */
static size_t
lz4_body(const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
	LZ4F_preferences_t prefs;
	size_t n;

	memset(&prefs, 0, sizeof(prefs));
	prefs.frameInfo.blockMode = LZ4F_blockIndependent;
	n = LZ4F_compressFrame(out, room, in, size, &prefs);
	return (LZ4F_isError(n) ? 0 : n);
}

static size_t
zstd_body(const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
	size_t n = ZSTD_compress(out, room, in, size, ZSTD_CLEVEL_DEFAULT);

	return (ZSTD_isError(n) ? 0 : n);
}

static size_t
pack(int codec, const uint8_t *in, size_t size, uint8_t *out, size_t room)
{

	switch (codec) {
	case BATCH_GZIP:
		return (deflate_body(in, size, out, room));
	case BATCH_SNAPPY:
		return (snappy_body(in, size, out, room));
	case BATCH_LZ4:
		return (lz4_body(in, size, out, room));
	case BATCH_ZSTD:
		return (zstd_body(in, size, out, room));
	default:
		return (0);
	}
}

/* LZ4 and snappy begin a block only where its worst would fit. */
static size_t
packing_room(size_t size)
{
	size_t lz4 = LZ4F_compressFrameBound(size, NULL);
	size_t snappy = rd_kafka_snappy_max_compressed_length(size) +
	    SNAPPY_SLACK;

	return (lz4 > snappy ? lz4 : snappy);
}

int
batch_pack(uint8_t *batch, size_t *size, int codec)
{
	uint8_t *records = batch + BATCH_HEADER_SIZE, *packed;
	size_t plain = *size - BATCH_HEADER_SIZE, room = packing_room(plain), n;

	if (codec == BATCH_NONE || (packed = malloc(room)) == NULL)
		return (BATCH_NONE);
	n = pack(codec, records, plain, packed, room);
	if (n == 0 || n >= plain)
		codec = BATCH_NONE;
	else {
		memcpy(records, packed, n);
		*size = BATCH_HEADER_SIZE + n;
	}
	free(packed);
	return (codec);
}
