/*
 * wire_messages -- the structs of messages.def, and their layouts.
 *
 * FIELD(I32, index, ...) is an int32_t index; ARRAY(x, list, ...) is
 * struct { struct wire_x *at; int32_t count; } list.  Included by wire.h.
 */
#ifndef MR_WIRE_MESSAGES_H
#define MR_WIRE_MESSAGES_H

#define WIRE_BOOL uint8_t
#define WIRE_I8 int8_t
#define WIRE_I16 int16_t
#define WIRE_I32 int32_t
#define WIRE_I64 int64_t
#define WIRE_UUID struct wire_uuid
#define WIRE_STRING struct wire_string
#define WIRE_BYTES struct wire_bytes
#define WIRE_RECORDS struct wire_bytes
#define WIRE_I32S struct wire_i32s
#define WIRE_STRINGS struct wire_strings

/* clang-format off */
#define STRUCT(name) struct wire_##name {
#define END(name) };
#define FIELD(kind, name, from, to) WIRE_##kind name;
#define ARRAY(element, name, from, to)     \
	struct {                           \
		struct wire_##element *at; \
		int32_t count;             \
	} name; /* NOLINT(bugprone-macro-parentheses) */
#include "wire/messages.def"
/* clang-format on */

/* wire_x_layout() -- the rows of struct wire_x. */
#define STRUCT(name) const struct wire_layout *wire_##name##_layout(void);
#include "wire/messages.def"

/* The keys of the APIs: WIRE_API_ListOffsets. */
#define API(key, name, stem, least, most, flexible) WIRE_API_##name = (key),
enum wire_key {
#include "wire/messages.def"
};

#endif
