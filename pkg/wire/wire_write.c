/*
 * wire_write -- structs into bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"
#include "wire/wire_internal.h"

struct writer {
	struct buffer *out;
	struct wire_splices *splices;
	int version;
	int flexible;
};

static void write_struct(struct writer *w, const struct wire_layout *layout,
    const void *value);

/* A number of 1 to 8 bytes, big end first. */
static void
write_int(struct writer *w, size_t size, int64_t n)
{
	uint64_t u = (uint64_t)n;
	uint8_t bytes[8];
	size_t i;

	for (i = size; i > 0; i--) {
		bytes[i - 1] = (uint8_t)u;
		u >>= 8;
	}
	buffer_add(w->out, bytes, size);
}

static void
write_uvarint(struct writer *w, uint32_t n)
{
	uint8_t bytes[5];
	size_t i = 0;

	for (; n >= 0x80; n >>= 7)
		bytes[i++] = (uint8_t)(n | 0x80);
	bytes[i++] = (uint8_t)n;
	buffer_add(w->out, bytes, i);
}

/* A length or count; null is empty where there is no null. */
static void
write_count(struct writer *w, const struct wire_field *field, size_t fixed,
    int32_t n)
{

	if (n < 0)
		n = w->version >= field->null_from ? -1 : 0;
	if (w->flexible)
		write_uvarint(w, (uint32_t)(n + 1));
	else
		write_int(w, fixed, n);
}

static void
note_splice(struct writer *w, size_t length)
{
	struct wire_splices *s = w->splices;
	struct wire_splice *list;
	size_t capacity;

	if (s == NULL) {
		w->out->failed = 1;
		return;
	}
	if (s->count == s->capacity) {
		capacity = s->capacity == 0 ? 16 : s->capacity * 2;
		list = realloc(s->list, capacity * sizeof(*list));
		if (list == NULL) {
			w->out->failed = 1;
			return;
		}
		s->list = list;
		s->capacity = capacity;
	}
	s->list[s->count].at = w->out->length;
	s->list[s->count].length = length;
	s->count++;
}

static void
write_string(struct writer *w, const struct wire_field *field,
    const struct wire_any *any)
{

	write_count(w, field, field->kind == FIELD_STRING ? 2 : 4, any->count);
	if (any->count <= 0)
		return;
	if (any->at == NULL)
		note_splice(w, (size_t)any->count);
	else
		buffer_add(w->out, any->at, (size_t)any->count);
}

static void
write_i32s(struct writer *w, const struct wire_field *field,
    const struct wire_any *any)
{
	const int32_t *list = any->at;
	int32_t i;

	write_count(w, field, 4, any->count);
	for (i = 0; i < any->count; i++)
		write_int(w, 4, list[i]);
}

static void
write_strings(struct writer *w, const struct wire_field *field,
    const struct wire_any *any)
{
	static const struct wire_field item = {.kind = FIELD_STRING,
	    .null_from = NEVER};
	const struct wire_any *list = any->at;
	int32_t i;

	write_count(w, field, 4, any->count);
	for (i = 0; i < any->count; i++)
		write_string(w, &item, &list[i]);
}

static void
write_structs(struct writer *w, const struct wire_field *field,
    const struct wire_any *any)
{
	const struct wire_layout *layout = field->element();
	int32_t i;

	write_count(w, field, 4, any->count);
	for (i = 0; i < any->count; i++)
		write_struct(w, layout,
		    (const char *)any->at + (size_t)i * layout->size);
}

static void
write_value(struct writer *w, const struct wire_field *field, const void *slot)
{

	switch (field->kind) {
	case FIELD_BOOL:
	case FIELD_I8:
		write_int(w, 1, *(const int8_t *)slot);
		return;
	case FIELD_I16:
		write_int(w, 2, *(const int16_t *)slot);
		return;
	case FIELD_I32:
		write_int(w, 4, *(const int32_t *)slot);
		return;
	case FIELD_I64:
		write_int(w, 8, *(const int64_t *)slot);
		return;
	case FIELD_UUID:
		buffer_add(w->out, slot, sizeof(struct wire_uuid));
		return;
	case FIELD_STRING:
	case FIELD_BYTES:
	case FIELD_RECORDS:
		write_string(w, field, slot);
		return;
	case FIELD_I32S:
		write_i32s(w, field, slot);
		return;
	case FIELD_STRINGS:
		write_strings(w, field, slot);
		return;
	case FIELD_ARRAY:
		write_structs(w, field, slot);
		return;
	}
}

/* ---- tagged fields ------------------------------------------------------ */

/* 1 if the field says no more than leaving it out does. */
static int
is_otherwise(const struct wire_field *field, const void *slot)
{
	max_align_t otherwise[2];
	struct wire_any *any = (struct wire_any *)otherwise;

	_Static_assert(sizeof(otherwise) >= sizeof(struct wire_uuid),
	    "room for any field");
	wire_default_field(field, otherwise);
	switch (field->kind) {
	case FIELD_BOOL:
	case FIELD_I8:
		return (memcmp(slot, otherwise, 1) == 0);
	case FIELD_I16:
		return (memcmp(slot, otherwise, 2) == 0);
	case FIELD_I32:
		return (memcmp(slot, otherwise, 4) == 0);
	case FIELD_I64:
		return (memcmp(slot, otherwise, 8) == 0);
	case FIELD_UUID:
		return (memcmp(slot, otherwise, sizeof(struct wire_uuid)) == 0);
	case FIELD_STRING:
	case FIELD_BYTES:
	case FIELD_RECORDS:
	case FIELD_I32S:
	case FIELD_STRINGS:
	case FIELD_ARRAY:
		break;
	}
	return (((const struct wire_any *)slot)->count == any->count);
}

static int
is_written(const struct writer *w, const struct wire_field *field,
    const void *value)
{

	return (field->tag != UNTAGGED && w->version >= field->from &&
	    !is_otherwise(field, (const char *)value + field->place));
}

/* Rows are in the order of their tags. */
static void
write_tags(struct writer *w, const struct wire_layout *layout,
    const void *value)
{
	const struct wire_field *field;
	struct buffer section = {0};
	struct writer inner = *w;
	uint32_t count = 0;
	size_t i;

	for (i = 0; i < layout->count; i++)
		count += (uint32_t)is_written(w, &layout->fields[i], value);
	write_uvarint(w, count);
	if (count == 0)
		return;
	inner.out = &section;
	inner.splices = NULL;
	for (i = 0; i < layout->count; i++) {
		field = &layout->fields[i];
		if (!is_written(w, field, value))
			continue;
		buffer_clear(&section);
		write_value(&inner, field, (const char *)value + field->place);
		if (section.failed)
			w->out->failed = 1;
		write_uvarint(w, (uint32_t)field->tag);
		write_uvarint(w, (uint32_t)section.length);
		buffer_add(w->out, section.data, section.length);
	}
	buffer_free(&section);
}

static void
write_struct(struct writer *w, const struct wire_layout *layout,
    const void *value)
{
	const struct wire_field *field;
	size_t i;

	for (i = 0; i < layout->count; i++) {
		field = &layout->fields[i];
		if (field->tag == UNTAGGED && w->version >= field->from &&
		    w->version <= field->to)
			write_value(w, field,
			    (const char *)value + field->place);
	}
	if (w->flexible)
		write_tags(w, layout, value);
}

void
wire_write(const struct wire_layout *layout, int version, int flexible_from,
    const void *value, struct buffer *out, struct wire_splices *splices)
{
	struct writer w = {.out = out,
	    .splices = splices,
	    .version = version,
	    .flexible = version >= flexible_from};

	write_struct(&w, layout, value);
}

void
wire_splices_free(struct wire_splices *splices)
{

	free(splices->list);
	memset(splices, 0, sizeof(*splices));
}

/* ---- the frame ---------------------------------------------------------- */

size_t
wire_response_begin(const struct wire_header *header, struct buffer *out)
{
	struct writer w = {.out = out};
	size_t start = out->length;

	write_int(&w, 4, 0);
	write_int(&w, 4, header->correlation_id);
	/* Whoever asks for the versions can't know how the answer begins. */
	if (header->supported && header->api->key != WIRE_API_ApiVersions &&
	    header->api_version >= header->api->flexible_from)
		write_uvarint(&w, 0);
	return (start);
}

void
wire_response_end(struct buffer *out, size_t start, size_t elsewhere)
{
	size_t length;
	int i;

	if (out->failed)
		return;
	length = out->length - start - 4 + elsewhere;
	if (length > INT32_MAX) {
		out->failed = 1;
		return;
	}
	for (i = 3; i >= 0; i--) {
		out->data[start + (size_t)i] = (char)(length & 0xff);
		length >>= 8;
	}
}
