/*
 * The identity in a record's headers, and the blob that headers are kept in.
 * The input is a list of headers: the lengths of name and value (from 200 on in
 * steps of 16, 255: none), name, value; it is taken as a damaged blob, too.
 */
#include "fuzz.h"
#include "stream/internal.h"

#define HEADERS_MOST 16

struct header {
	char *name;
	const char *value;
	size_t size;
};

struct list {
	struct header headers[HEADERS_MOST];
	size_t count;
};

/* In place of pkg/kafka's. */
int
kafka_record_header_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header)
{
	const struct list *list = record->opaque;

	if (index >= list->count)
		return (0);
	header->name = list->headers[index].name;
	header->value = list->headers[index].value;
	header->size = list->headers[index].size;
	return (1);
}

static void
check_identity(struct list *list)
{
	struct kafka_record record = {.opaque = list};
	struct identity id;

	memset(&id, 0x5a, sizeof(id));
	identity_read(&record, &id);
	assert(memchr(id.source, '\0', sizeof(id.source)) != NULL);
	assert(memchr(id.type, '\0', sizeof(id.type)) != NULL);
	assert(memchr(id.cause_topic, '\0', sizeof(id.cause_topic)) != NULL);
	if (!id.ours) {
		assert(id.source[0] == '\0' && id.cause_topic[0] == '\0');
		assert(id.seq == -1 && id.predecessor == 0);
		return;
	}
	assert(strncmp(id.source, "/millrace/", 10) == 0);
	assert(id.seq >= 0 && id.predecessor >= 0);
	if (id.cause_topic[0] != '\0') {
		assert(strchr(id.cause_topic, '/') == NULL);
		assert(id.cause_partition >= 0 && id.cause_offset >= 0);
	}
}

/* What was added comes out again, in order. */
static void
check_round_trip(const struct list *list)
{
	struct buffer blob = {0};
	char name[256];
	const void *value;
	size_t at = 0, i, size;

	for (i = 0; i < list->count; i++)
		headers_add(&blob, list->headers[i].name,
		    list->headers[i].value, list->headers[i].size);
	assert(!blob.failed);
	for (i = 0; i < list->count; i++) {
		assert(headers_next(blob.data, blob.length, &at, name,
			   sizeof(name), &value, &size) == 1);
		assert(strcmp(name, list->headers[i].name) == 0);
		assert(size == list->headers[i].size);
		assert(size == 0 ||
		    memcmp(value, list->headers[i].value, size) == 0);
	}
	assert(headers_next(blob.data, blob.length, &at, name, sizeof(name),
		   &value, &size) == 0);
	buffer_free(&blob);
}

static void
check_damaged(const uint8_t *blob, size_t blob_size, size_t name_size)
{
	char name[256];
	const void *value;
	size_t at = 0, before = 0, size;
	int rc;

	while ((rc = headers_next(blob, blob_size, &at, name, name_size, &value,
		    &size)) == 1) {
		assert(at >= before + 8 && at <= blob_size);
		assert(memchr(name, '\0', name_size) != NULL);
		assert((const uint8_t *)value + size == blob + at);
		before = at;
	}
	assert(rc == 0 ? at == blob_size : rc == -1 && at == before);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct list list = {.count = 0};
	struct header *header;
	const char *name;
	size_t i, name_size, value_size;

	while (in.left > 0 && list.count < HEADERS_MOST) {
		header = &list.headers[list.count++];
		name_size = fuzz_byte(&in) % 32;
		value_size = fuzz_byte(&in);
		name = fuzz_bytes(&in, name_size, &name_size);
		/* A NUL ends a name: it came as one. */
		header->name = fuzz_text(name, name_size);
		if (value_size < 255)
			header->value = fuzz_bytes(&in, value_size * 2,
			    &header->size);
	}
	check_identity(&list);
	check_round_trip(&list);
	for (i = 0; i < list.count; i++)
		free(list.headers[i].name);
	check_damaged(data, size, 256);
	check_damaged(data, size, 5);
	return (0);
}
