/*
 * wire -- Kafka's protocol: messages between bytes and structs.
 *
 * messages.def describes every message once, with the versions that each
 * field exists in; from it come the structs (wire_messages.h) and what reads
 * and writes them.  Another version is a row there.
 *
 * Reading trusts nothing: it stays inside of the bytes given, takes no memory
 * but from the caller's arena, and an array may not be longer than what is left
 * of the bytes has room for.  What it gives points into these bytes (strings,
 * byte strings, records) or into the arena (arrays).  Strings end in no NUL.
 *
 * No call here blocks or logs.  Any thread, a value by one at a time.
 */
#ifndef MR_WIRE_H
#define MR_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* Lengths and counts are -1 for null. */
struct wire_string {
	const char *at;
	int32_t length;
};
struct wire_bytes {
	const uint8_t *at;
	int32_t length;
};
struct wire_uuid {
	uint8_t bytes[16];
};
struct wire_i32s {
	int32_t *at;
	int32_t count;
};
struct wire_strings {
	struct wire_string *at;
	int32_t count;
};

#include "wire/wire_messages.h"

/* Error codes of the protocol. */
enum wire_error_code {
	WIRE_UNKNOWN_SERVER_ERROR = -1,
	WIRE_NONE = 0,
	WIRE_OFFSET_OUT_OF_RANGE = 1,
	WIRE_CORRUPT_MESSAGE = 2,
	WIRE_UNKNOWN_TOPIC_OR_PARTITION = 3,
	WIRE_LEADER_NOT_AVAILABLE = 5,
	WIRE_NOT_LEADER_OR_FOLLOWER = 6,
	WIRE_MESSAGE_TOO_LARGE = 10,
	WIRE_OFFSET_METADATA_TOO_LARGE = 12,
	WIRE_COORDINATOR_LOAD_IN_PROGRESS = 14,
	WIRE_COORDINATOR_NOT_AVAILABLE = 15,
	WIRE_INVALID_TOPIC = 17,
	WIRE_INVALID_REQUIRED_ACKS = 21,
	WIRE_ILLEGAL_GENERATION = 22,
	WIRE_INCONSISTENT_GROUP_PROTOCOL = 23,
	WIRE_INVALID_GROUP_ID = 24,
	WIRE_UNKNOWN_MEMBER_ID = 25,
	WIRE_INVALID_SESSION_TIMEOUT = 26,
	WIRE_REBALANCE_IN_PROGRESS = 27,
	WIRE_INVALID_TIMESTAMP = 32,
	WIRE_ILLEGAL_SASL_STATE = 34,
	WIRE_UNSUPPORTED_VERSION = 35,
	WIRE_TOPIC_ALREADY_EXISTS = 36,
	WIRE_INVALID_PARTITIONS = 37,
	WIRE_INVALID_REPLICATION_FACTOR = 38,
	WIRE_INVALID_REPLICA_ASSIGNMENT = 39,
	WIRE_INVALID_CONFIG = 40,
	WIRE_INVALID_REQUEST = 42,
	WIRE_POLICY_VIOLATION = 44,
	WIRE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
	WIRE_OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
	WIRE_DUPLICATE_SEQUENCE_NUMBER = 46,
	WIRE_INVALID_PRODUCER_EPOCH = 47,
	WIRE_INVALID_TXN_STATE = 48,
	WIRE_KAFKA_STORAGE_ERROR = 56,
	WIRE_NON_EMPTY_GROUP = 68,
	WIRE_GROUP_ID_NOT_FOUND = 69,
	WIRE_FETCH_SESSION_ID_NOT_FOUND = 70,
	WIRE_FENCED_LEADER_EPOCH = 74,
	WIRE_UNKNOWN_LEADER_EPOCH = 75,
	WIRE_UNSUPPORTED_COMPRESSION_TYPE = 76,
	WIRE_MEMBER_ID_REQUIRED = 79,
	WIRE_GROUP_MAX_SIZE_REACHED = 81,
	WIRE_FENCED_INSTANCE_ID = 82,
	WIRE_GROUP_SUBSCRIBED_TO_TOPIC = 86,
	WIRE_INVALID_RECORD = 87,
	WIRE_UNKNOWN_TOPIC_ID = 100,
	WIRE_MISMATCHED_ENDPOINT_TYPE = 114,
	WIRE_UNSUPPORTED_ENDPOINT_TYPE = 115,
};

/* A message's rows; what it holds is the module's own. */
struct wire_layout;

struct wire_api {
	int16_t key;
	const char *name; /* as Kafka writes it: "ListOffsets" */
	int16_t least, most; /* versions */
	int16_t flexible_from;
	const struct wire_layout *(*request)(void);
	const struct wire_layout *(*response)(void);
};

/* wire_api_find -- the row of an API; NULL if it isn't spoken here. */
const struct wire_api *wire_api_find(int api_key);
/* wire_api_at -- the i-th, in ascending order of keys; NULL past the last. */
const struct wire_api *wire_api_at(size_t i);

/*
 * Memory for what is read, given back at once.  Zero-initialise, or set
 * `most`: more than that many bytes (0: 16 MiB) are refused.
 */
struct wire_arena {
	struct wire_chunk *chunks;
	size_t used; /* of the newest chunk */
	size_t total;
	size_t most;
};
/* wire_arena_take -- zeroed, aligned for anything; NULL if there is none. */
void *wire_arena_take(struct wire_arena *arena, size_t size);
/* wire_arena_clear -- all of it back; the arena can be used again. */
void wire_arena_clear(struct wire_arena *arena);

/* A request's header, versions 0 to 2. */
struct wire_header {
	int16_t api_key;
	int16_t api_version;
	int32_t correlation_id;
	struct wire_string client_id;
	const struct wire_api *api; /* NULL: not spoken here */
	int supported; /* the version is */
	const uint8_t *body;
	size_t body_size;
};

/*
 * wire_header_read -- the header at the start of a frame of ${size} bytes (the
 * frame's own length not included).  0, or -1 REJECT: it is no request.  For a
 * version or an API that isn't spoken here only the first three fields are
 * set, since what follows isn't known.
 */
int wire_header_read(const uint8_t *frame, size_t size,
    struct wire_header *header, struct mr_error *err);

/*
 * wire_read -- a message of ${version} into the struct ${out} that goes with
 * ${layout}.  Bytes left over at the end are left alone, as Kafka leaves them:
 * librdkafka ends some requests with a few.  0, or -1 REJECT with the field
 * that is wrong, or RETRY when the arena is full.
 */
int wire_read(const struct wire_layout *layout, int version, int flexible_from,
    const uint8_t *bytes, size_t size, struct wire_arena *arena, void *out,
    struct mr_error *err);

/*
 * Where in a message bytes are to be put that are elsewhere: records with a
 * length but no address are written as a length only, and noted here in
 * order.  Zero-initialise; wire_splices_free when done.
 */
struct wire_splices {
	struct wire_splice {
		size_t at; /* index into the buffer */
		size_t length;
	} * list;
	size_t count, capacity;
};
void wire_splices_free(struct wire_splices *splices);

/*
 * wire_write -- append a message to ${out}.  ${splices} may be NULL where no
 * records are elsewhere.  Null where the version has no null is written as
 * empty.  Out of memory: out->failed.
 */
void wire_write(const struct wire_layout *layout, int version,
    int flexible_from, const void *value, struct buffer *out,
    struct wire_splices *splices);

/*
 * wire_defaults -- make ${out} what reading gives where nothing is said: for
 * a response's elements, so that only what matters needs to be set.
 */
void wire_defaults(const struct wire_layout *layout, void *out);
/* wire_size -- of the struct that goes with a layout. */
size_t wire_size(const struct wire_layout *layout);

/*
 * wire_response_begin -- the length (not known yet: 0), correlation id and, where
 * the version has one, the empty section of tags.  wire_response_end writes
 * the length, with ${elsewhere} more bytes that aren't in the buffer.  The
 * response starts at ${start} of the buffer.
 */
size_t wire_response_begin(const struct wire_header *header,
    struct buffer *out);
void wire_response_end(struct buffer *out, size_t start, size_t elsewhere);

/* Strings. */
struct wire_string wire_text(const char *text); /* NULL is null */
int wire_string_is(struct wire_string s, const char *text);

#endif
