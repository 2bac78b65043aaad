/*
 * wire -- the table of messages, memory for what is read, and headers.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"
#include "wire/wire_internal.h"

/* ---- the table ---------------------------------------------------------- */

/*
 * A function a struct, so that each can have its own meaning of `self`.  The
 * rows are constants all the same.
 */
/* clang-format off */
#define ROW(row_kind, row_name, row_from, row_to, row_null, row_tag, other, \
    row_element)                                                            \
	{.name = #row_name,                                                 \
	    .kind = (row_kind),                                             \
	    .from = (row_from),                                             \
	    .to = (row_to),                                                 \
	    .null_from = (row_null),                                        \
	    .tag = (row_tag),                                               \
	    .place = offsetof(self, row_name),                              \
	    .otherwise = (other),                                           \
	    .element = (row_element)},

#define STRUCT(name)                                   \
	const struct wire_layout *                     \
	wire_##name##_layout(void)                     \
	{                                              \
		typedef struct wire_##name self;       \
		static const struct wire_field rows[] = {
#define END(struct_name)                                          \
		};                                                \
		static const struct wire_layout layout = {        \
		    .name = #struct_name,                         \
		    .size = sizeof(self),                         \
		    .fields = rows,                               \
		    .count = sizeof(rows) / sizeof(rows[0]),      \
		};                                                \
		return (&layout);                                 \
	}
#define FIELD(kind, name, from, to) \
	ROW(FIELD_##kind, name, from, to, NEVER, UNTAGGED, 0, NULL)
#define FIELD_ELSE(kind, name, from, to, otherwise) \
	ROW(FIELD_##kind, name, from, to, NEVER, UNTAGGED, otherwise, NULL)
#define FIELD_OR_NULL(kind, name, from, to, null_from) \
	ROW(FIELD_##kind, name, from, to, null_from, UNTAGGED, 0, NULL)
#define TAGGED(kind, name, tag, from, otherwise) \
	ROW(FIELD_##kind, name, from, LATEST, from, tag, otherwise, NULL)
#define ARRAY(element, name, from, to)                         \
	ROW(FIELD_ARRAY, name, from, to, NEVER, UNTAGGED, 0, \
	    wire_##element##_layout)
#define ARRAY_OR_NULL(element, name, from, to, null_from)          \
	ROW(FIELD_ARRAY, name, from, to, null_from, UNTAGGED, 0, \
	    wire_##element##_layout)
#include "wire/messages.def"
/* clang-format on */

#define API(api_key, api_name, stem, api_least, api_most, flexible) \
	{.key = (api_key),                                          \
	    .name = #api_name,                                      \
	    .least = (api_least),                                   \
	    .most = (api_most),                                     \
	    .flexible_from = (flexible),                            \
	    .request = wire_##stem##_request_layout,                \
	    .response = wire_##stem##_response_layout},
static const struct wire_api apis[] = {
#include "wire/messages.def"
};

#define API_COUNT (sizeof(apis) / sizeof(apis[0]))

const struct wire_api *
wire_api_at(size_t i)
{

	return (i < API_COUNT ? &apis[i] : NULL);
}

const struct wire_api *
wire_api_find(int api_key)
{
	size_t i;

	for (i = 0; i < API_COUNT; i++)
		if (apis[i].key == api_key)
			return (&apis[i]);
	return (NULL);
}

size_t
wire_size(const struct wire_layout *layout)
{

	return (layout->size);
}

void
wire_default_field(const struct wire_field *field, void *slot)
{
	struct wire_any *any = slot;
	int32_t none = field->null_from == NEVER ? 0 : -1;

	switch (field->kind) {
	case FIELD_BOOL:
	case FIELD_I8:
		*(int8_t *)slot = (int8_t)field->otherwise;
		break;
	case FIELD_I16:
		*(int16_t *)slot = (int16_t)field->otherwise;
		break;
	case FIELD_I32:
		*(int32_t *)slot = (int32_t)field->otherwise;
		break;
	case FIELD_I64:
		*(int64_t *)slot = field->otherwise;
		break;
	case FIELD_UUID:
		memset(slot, 0, sizeof(struct wire_uuid));
		break;
	case FIELD_STRING:
	case FIELD_BYTES:
	case FIELD_RECORDS:
	case FIELD_I32S:
	case FIELD_STRINGS:
	case FIELD_ARRAY:
		any->at = NULL;
		any->count = none;
		break;
	}
}

void
wire_defaults(const struct wire_layout *layout, void *out)
{
	size_t i;

	for (i = 0; i < layout->count; i++)
		wire_default_field(&layout->fields[i],
		    (char *)out + layout->fields[i].place);
}

/* ---- memory ------------------------------------------------------------- */

#define CHUNK_LEAST ((size_t)4096)
#define ARENA_MOST ((size_t)16 * 1024 * 1024)
#define ALIGNMENT sizeof(max_align_t)

struct wire_chunk {
	struct wire_chunk *next;
	size_t size;
	max_align_t bytes[];
};

void *
wire_arena_take(struct wire_arena *arena, size_t size)
{
	struct wire_chunk *chunk = arena->chunks;
	size_t most = arena->most != 0 ? arena->most : ARENA_MOST;
	void *taken;

	if (size > most)
		return (NULL);
	size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (chunk == NULL || size > chunk->size - arena->used) {
		size_t room = size > CHUNK_LEAST ? size : CHUNK_LEAST;

		if (room > most || arena->total > most - room)
			return (NULL);
		if ((chunk = calloc(1, sizeof(*chunk) + room)) == NULL)
			return (NULL);
		chunk->size = room;
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		arena->total += room;
		arena->used = 0;
	}
	taken = (char *)chunk->bytes + arena->used;
	arena->used += size;
	return (taken);
}

void
wire_arena_clear(struct wire_arena *arena)
{
	struct wire_chunk *chunk;

	while ((chunk = arena->chunks) != NULL) {
		arena->chunks = chunk->next;
		free(chunk);
	}
	arena->used = 0;
	arena->total = 0;
}

/* ---- strings ------------------------------------------------------------ */

struct wire_string
wire_text(const char *text)
{
	struct wire_string s = {text, -1};

	if (text != NULL)
		s.length = (int32_t)strlen(text);
	return (s);
}

int
wire_string_is(struct wire_string s, const char *text)
{
	size_t length = strlen(text);

	return (s.length >= 0 && (size_t)s.length == length &&
	    (length == 0 || memcmp(s.at, text, length) == 0));
}
