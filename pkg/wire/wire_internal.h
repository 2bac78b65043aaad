/*
 * wire_internal -- the rows behind a layout; for pkg/wire only.
 */
#ifndef MR_WIRE_INTERNAL_H
#define MR_WIRE_INTERNAL_H

#include "wire/wire.h"

#define LATEST 127
#define NEVER 128 /* no version: never null, never flexible */
#define UNTAGGED (-1)

enum wire_kind {
	FIELD_BOOL,
	FIELD_I8,
	FIELD_I16,
	FIELD_I32,
	FIELD_I64,
	FIELD_UUID,
	FIELD_STRING,
	FIELD_BYTES,
	FIELD_RECORDS,
	FIELD_I32S,
	FIELD_STRINGS,
	FIELD_ARRAY
};

struct wire_field {
	const char *name;
	enum wire_kind kind;
	int16_t from, to; /* versions */
	int16_t null_from;
	int16_t tag;
	size_t place; /* in the struct */
	int64_t otherwise;
	const struct wire_layout *(*element)(void); /* of an array */
};

struct wire_layout {
	const char *name;
	size_t size;
	const struct wire_field *fields;
	size_t count;
};

/* What strings, bytes and arrays have in common: an address and a number. */
struct wire_any {
	void *at;
	int32_t count;
};

/* wire_default_field -- what the field is where the bytes don't say. */
void wire_default_field(const struct wire_field *field, void *slot);

#endif
