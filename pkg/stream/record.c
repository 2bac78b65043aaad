/* record -- the identity that rides in a record's headers. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream/internal.h"

/* Copy a header's value as text; 0, or -1 if it doesn't fit or isn't text. */
static int
text_of(const struct kafka_header *header, char *out, size_t out_size)
{
	if (header->value == NULL || header->size >= out_size ||
	    memchr(header->value, '\0', header->size) != NULL)
		return (-1);
	memcpy(out, header->value, header->size);
	out[header->size] = '\0';
	return (0);
}

/* A whole decimal number that isn't negative; 0 or -1. */
static int
number_of(const char *text, int64_t *n)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return (-1);
	errno = 0;
	*n = strtoll(text, &end, 10);
	return (errno != 0 || *end != '\0' ? -1 : 0);
}

/* "topic/partition/offset"; a topic's name has no slash. */
static int
cause_of(char *text, struct identity *id)
{
	char *partition, *offset;
	int64_t number;

	if ((partition = strchr(text, '/')) == NULL || partition == text)
		return (-1);
	*partition++ = '\0';
	if ((offset = strchr(partition, '/')) == NULL)
		return (-1);
	*offset++ = '\0';
	if (strlen(text) > KAFKA_TOPIC_MAX || number_of(partition, &number) ||
	    number > INT32_MAX || number_of(offset, &id->cause_offset))
		return (-1);
	id->cause_partition = (int)number;
	memcpy(id->cause_topic, text, strlen(text) + 1);
	return (0);
}

static int
is_named(const struct kafka_header *header, const char *name)
{
	return (strcmp(header->name, name) == 0);
}

void
identity_read(const struct kafka_record *record, struct identity *id)
{
	static const char ours[] = "/millrace/";
	struct kafka_header h;
	char text[KAFKA_TOPIC_MAX + 64];
	int have_source = 0, have_seq = 0, have_predecessor = 0;
	size_t i;

	id->ours = 0;
	id->source[0] = id->type[0] = id->cause_topic[0] = '\0';
	id->seq = -1;
	id->predecessor = 0;
	id->cause_partition = 0;
	id->cause_offset = 0;
	for (i = 0; kafka_record_header_at(record, i, &h); i++) {
		if (strncmp(h.name, "ce_", 3) != 0)
			continue;
		if (is_named(&h, "ce_type")) {
			if (text_of(&h, id->type, sizeof(id->type)) == -1)
				id->type[0] = '\0';
		} else if (is_named(&h, "ce_source")) {
			have_source = text_of(&h, id->source,
					  sizeof(id->source)) == 0 &&
			    strncmp(id->source, ours, sizeof(ours) - 1) == 0;
			continue;
		}
		/* The last one of a name counts, also if it says nothing. */
		if (text_of(&h, text, sizeof(text)) == -1)
			text[0] = '\0';
		if (is_named(&h, "ce_id")) {
			have_seq = number_of(text, &id->seq) == 0;
		} else if (is_named(&h, "ce_predecessor")) {
			have_predecessor = number_of(text, &id->predecessor) ==
			    0;
		} else if (is_named(&h, "ce_cause")) {
			if (cause_of(text, id) == -1)
				id->cause_topic[0] = '\0';
		}
	}
	id->ours = have_source && have_seq && have_predecessor;
	if (!id->ours) {
		id->source[0] = id->cause_topic[0] = '\0';
		id->seq = -1;
		id->predecessor = 0;
	}
}

static void
add_length(struct buffer *blob, size_t n)
{
	unsigned char b[4];

	b[0] = (unsigned char)(n >> 24);
	b[1] = (unsigned char)(n >> 16);
	b[2] = (unsigned char)(n >> 8);
	b[3] = (unsigned char)n;
	buffer_add(blob, b, sizeof(b));
}

void
headers_add(struct buffer *blob, const char *name, const void *value,
    size_t size)
{
	size_t length = strlen(name);

	add_length(blob, length);
	add_length(blob, size);
	buffer_add(blob, name, length);
	if (size > 0)
		buffer_add(blob, value, size);
}

static size_t
length_at(const unsigned char *b)
{
	return ((size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 |
	    (size_t)b[3]);
}

int
headers_next(const void *blob, size_t size, size_t *at, char *name,
    size_t name_size, const void **value, size_t *value_size)
{
	const unsigned char *b = blob;
	size_t name_length, rest;

	if (*at == size)
		return (0);
	if (size - *at < 8)
		return (-1);
	name_length = length_at(b + *at);
	*value_size = length_at(b + *at + 4);
	rest = size - *at - 8;
	if (name_length >= name_size || name_length > rest ||
	    *value_size > rest - name_length)
		return (-1);
	memcpy(name, b + *at + 8, name_length);
	name[name_length] = '\0';
	*value = b + *at + 8 + name_length;
	*at += 8 + name_length + *value_size;
	return (1);
}
