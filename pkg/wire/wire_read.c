/*
 * wire_read -- bytes into structs.  Everything here is hostile.
 */
#include <assert.h>
#include <string.h>

#include "wire/wire.h"
#include "wire/wire_internal.h"

struct reader {
	const uint8_t *p;
	size_t left;
	int version;
	int flexible;
	struct wire_arena *arena;
	struct mr_error *err; /* what is said first stays */
};

static int read_struct(struct reader *r, const struct wire_layout *layout,
    void *out);

static int
fail(struct reader *r, const char *what)
{

	return (mr_error_set(r->err, MR_REJECT, "%s", what));
}

/* The next bytes, or NULL. */
static const uint8_t *
take(struct reader *r, size_t size)
{
	const uint8_t *bytes = r->p;

	if (size > r->left) {
		fail(r, "is cut short");
		return (NULL);
	}
	r->p += size;
	r->left -= size;
	return (bytes);
}

/* A number of 1 to 8 bytes, big end first, signed. */
static int
read_int(struct reader *r, size_t size, int64_t *n)
{
	const uint8_t *bytes = take(r, size);
	uint64_t u;
	size_t i;

	if (bytes == NULL)
		return (-1);
	u = bytes[0] & 0x80 ? UINT64_MAX : 0;
	for (i = 0; i < size; i++)
		u = u << 8 | bytes[i];
	*n = (int64_t)u;
	return (0);
}

/* An unsigned varint of at most 32 bits. */
static int
read_uvarint(struct reader *r, uint32_t *n)
{
	const uint8_t *byte;
	int shift;

	*n = 0;
	for (shift = 0; shift < 35; shift += 7) {
		if ((byte = take(r, 1)) == NULL)
			return (-1);
		if (shift == 28 && (*byte & 0xf0) != 0)
			break;
		*n |= (uint32_t)(*byte & 0x7f) << shift;
		if ((*byte & 0x80) == 0)
			return (0);
	}
	return (fail(r, "has a varint that is too long"));
}

/* A length or count, -1 for null; fixed is how many bytes it has otherwise. */
static int
read_count(struct reader *r, size_t fixed, int64_t *n)
{
	uint32_t u;

	if (!r->flexible)
		return (read_int(r, fixed, n));
	if (read_uvarint(r, &u) == -1)
		return (-1);
	*n = (int64_t)u - 1;
	return (0);
}

/* Whether a count may be: 0, or -1. */
static int
check_count(struct reader *r, const struct wire_field *field, int64_t n)
{

	if (n == -1) {
		if (r->version >= field->null_from)
			return (0);
		return (fail(r, "is null"));
	}
	if (n < 0)
		return (fail(r, "has a negative length"));
	if (n > INT32_MAX)
		return (fail(r, "is too long"));
	return (0);
}

static int
read_string(struct reader *r, const struct wire_field *field,
    struct wire_any *any)
{
	size_t fixed = field->kind == FIELD_STRING ? 2 : 4;
	const uint8_t *bytes;
	int64_t n;

	assert(any != NULL);
	if (read_count(r, fixed, &n) == -1 || check_count(r, field, n) == -1)
		return (-1);
	any->at = NULL;
	any->count = (int32_t)n;
	if (n <= 0)
		return (0);
	if ((bytes = take(r, (size_t)n)) == NULL)
		return (-1);
	any->at = (void *)(uintptr_t)bytes;
	return (0);
}

/* The fewest bytes that a field takes. */
static size_t
least_size(const struct reader *r, const struct wire_field *field)
{

	switch (field->kind) {
	case FIELD_BOOL:
	case FIELD_I8:
		return (1);
	case FIELD_I16:
		return (2);
	case FIELD_I32:
		return (4);
	case FIELD_I64:
		return (8);
	case FIELD_UUID:
		return (16);
	case FIELD_STRING:
		return (r->flexible ? 1 : 2);
	case FIELD_BYTES:
	case FIELD_RECORDS:
	case FIELD_I32S:
	case FIELD_STRINGS:
	case FIELD_ARRAY:
		break;
	}
	return (r->flexible ? 1 : 4);
}

static int
is_there(const struct reader *r, const struct wire_field *field)
{

	return (field->tag == UNTAGGED && r->version >= field->from &&
	    r->version <= field->to);
}

static size_t
least_struct_size(const struct reader *r, const struct wire_layout *layout)
{
	size_t i, size = r->flexible ? 1 : 0;

	for (i = 0; i < layout->count; i++)
		if (is_there(r, &layout->fields[i]))
			size += least_size(r, &layout->fields[i]);
	return (size);
}

/*
 * The array's count and memory.  Elements that take at least ${least} bytes
 * each have to fit into what is left, so that memory goes with the frame.
 */
static int
read_array_start(struct reader *r, const struct wire_field *field, size_t least,
    size_t element_size, struct wire_any *any)
{
	int64_t n;

	if (read_count(r, 4, &n) == -1 || check_count(r, field, n) == -1)
		return (-1);
	any->at = NULL;
	any->count = (int32_t)n;
	if (n <= 0)
		return (0);
	if (least == 0 || (size_t)n > r->left / least)
		return (fail(r, "has more elements than bytes"));
	any->at = wire_arena_take(r->arena, (size_t)n * element_size);
	if (any->at == NULL)
		return (mr_error_set(r->err, MR_RETRY,
		    "takes more memory than a request may"));
	return (0);
}

static int
read_i32s(struct reader *r, const struct wire_field *field,
    struct wire_any *any)
{
	int32_t *list, i;
	int64_t n;

	if (read_array_start(r, field, 4, sizeof(*list), any) == -1)
		return (-1);
	list = any->at;
	assert(list != NULL || any->count <= 0);
	for (i = 0; i < any->count; i++) {
		if (read_int(r, 4, &n) == -1)
			return (-1);
		list[i] = (int32_t)n;
	}
	return (0);
}

static int
read_strings(struct reader *r, const struct wire_field *field,
    struct wire_any *any)
{
	static const struct wire_field item = {.kind = FIELD_STRING,
	    .null_from = NEVER};
	struct wire_any *list;
	int32_t i;

	_Static_assert(sizeof(struct wire_string) == sizeof(struct wire_any),
	    "all are an address and a number");
	if (read_array_start(r, field, least_size(r, &item), sizeof(*list),
		any) == -1)
		return (-1);
	list = any->at;
	for (i = 0; i < any->count; i++)
		if (read_string(r, &item, &list[i]) == -1)
			return (-1);
	return (0);
}

static int
read_structs(struct reader *r, const struct wire_field *field,
    struct wire_any *any)
{
	const struct wire_layout *layout = field->element();
	int32_t i;

	if (read_array_start(r, field, least_struct_size(r, layout),
		layout->size, any) == -1)
		return (-1);
	for (i = 0; i < any->count; i++)
		if (read_struct(r, layout,
			(char *)any->at + (size_t)i * layout->size) == -1)
			return (-1);
	return (0);
}

static int
read_value(struct reader *r, const struct wire_field *field, void *slot)
{
	const uint8_t *bytes;
	int64_t n = 0;

	switch (field->kind) {
	case FIELD_BOOL:
		if (read_int(r, 1, &n) == -1)
			return (-1);
		*(uint8_t *)slot = n != 0;
		return (0);
	case FIELD_I8:
		if (read_int(r, 1, &n) == -1)
			return (-1);
		*(int8_t *)slot = (int8_t)n;
		return (0);
	case FIELD_I16:
		if (read_int(r, 2, &n) == -1)
			return (-1);
		*(int16_t *)slot = (int16_t)n;
		return (0);
	case FIELD_I32:
		if (read_int(r, 4, &n) == -1)
			return (-1);
		*(int32_t *)slot = (int32_t)n;
		return (0);
	case FIELD_I64:
		if (read_int(r, 8, &n) == -1)
			return (-1);
		*(int64_t *)slot = n;
		return (0);
	case FIELD_UUID:
		if ((bytes = take(r, sizeof(struct wire_uuid))) == NULL)
			return (-1);
		memcpy(slot, bytes, sizeof(struct wire_uuid));
		return (0);
	case FIELD_STRING:
	case FIELD_BYTES:
	case FIELD_RECORDS:
		return (read_string(r, field, slot));
	case FIELD_I32S:
		return (read_i32s(r, field, slot));
	case FIELD_STRINGS:
		return (read_strings(r, field, slot));
	case FIELD_ARRAY:
		return (read_structs(r, field, slot));
	}
	return (fail(r, "is of no known kind"));
}

/* One tagged field's bytes: into its slot if it is known here. */
static int
read_tagged(struct reader *r, const struct wire_layout *layout, uint32_t tag,
    void *out)
{
	const struct wire_field *field;
	struct reader section = *r;
	const uint8_t *bytes;
	uint32_t size;
	size_t i;

	if (read_uvarint(r, &size) == -1 || (bytes = take(r, size)) == NULL)
		return (-1);
	section.p = bytes;
	section.left = size;
	for (i = 0; i < layout->count; i++) {
		field = &layout->fields[i];
		if (field->tag == UNTAGGED || (uint32_t)field->tag != tag ||
		    r->version < field->from)
			continue;
		if (read_value(&section, field, (char *)out + field->place) ==
		    -1)
			return (mr_error_wrap(r->err, "%s", field->name));
		return (section.left == 0 ?
			0 :
			fail(r, "a tagged field has bytes left over"));
	}
	return (0);
}

static int
read_tags(struct reader *r, const struct wire_layout *layout, void *out)
{
	uint32_t count, tag, last = 0, i;

	if (read_uvarint(r, &count) == -1)
		return (-1);
	for (i = 0; i < count; i++) {
		if (read_uvarint(r, &tag) == -1)
			return (-1);
		if (i > 0 && tag <= last)
			return (fail(r, "has tags out of order"));
		last = tag;
		if (read_tagged(r, layout, tag, out) == -1)
			return (-1);
	}
	return (0);
}

static int
read_struct(struct reader *r, const struct wire_layout *layout, void *out)
{
	const struct wire_field *field;
	void *slot;
	size_t i;

	for (i = 0; i < layout->count; i++) {
		field = &layout->fields[i];
		slot = (char *)out + field->place;
		if (!is_there(r, field))
			wire_default_field(field, slot);
		else if (read_value(r, field, slot) == -1)
			return (mr_error_wrap(r->err, "%s", field->name));
	}
	return (r->flexible ? read_tags(r, layout, out) : 0);
}

int
wire_read(const struct wire_layout *layout, int version, int flexible_from,
    const uint8_t *bytes, size_t size, struct wire_arena *arena, void *out,
    struct mr_error *err)
{
	struct mr_error unheard = {MR_OK, ""};
	struct reader r = {.p = bytes,
	    .left = size,
	    .version = version,
	    .flexible = version >= flexible_from,
	    .arena = arena,
	    .err = err != NULL ? err : &unheard};

	if (read_struct(&r, layout, out) == -1)
		return (mr_error_wrap(r.err, "%s", layout->name));
	return (0);
}

int
wire_header_read(const uint8_t *frame, size_t size, struct wire_header *header,
    struct mr_error *err)
{
	static const struct wire_layout no_fields = {.name = "header"};
	static const struct wire_field client_id = {.kind = FIELD_STRING,
	    .null_from = 0};
	struct mr_error unheard = {MR_OK, ""};
	struct reader r = {.p = frame,
	    .left = size,
	    .err = err != NULL ? err : &unheard};
	struct wire_any text = {NULL, -1};
	int64_t key = 0, version = 0, correlation_id = 0;

	memset(header, 0, sizeof(*header));
	header->client_id.length = -1;
	if (read_int(&r, 2, &key) == -1 || read_int(&r, 2, &version) == -1 ||
	    read_int(&r, 4, &correlation_id) == -1)
		return (mr_error_wrap(r.err, "header"));
	header->api_key = (int16_t)key;
	header->api_version = (int16_t)version;
	header->correlation_id = (int32_t)correlation_id;
	header->api = wire_api_find((int)key);
	header->supported = header->api != NULL &&
	    version >= header->api->least && version <= header->api->most;
	if (!header->supported)
		return (0);
	/* The client's id never has a varint before it. */
	if (read_string(&r, &client_id, &text) == -1)
		return (mr_error_wrap(r.err, "header: client_id"));
	header->client_id.at = text.at;
	header->client_id.length = text.count;
	if (version >= header->api->flexible_from &&
	    read_tags(&r, &no_fields, NULL) == -1)
		return (mr_error_wrap(r.err, "header: tags"));
	header->body = r.p;
	header->body_size = r.left;
	return (0);
}
