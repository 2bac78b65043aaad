/*
 * fuzz_wire -- frames that clients send, and answers of all kinds.
 *
 * What is read can be written, reads back, and comes to the same bytes then.
 * Memory stays in proportion to the frame.
 */
#include "fuzz.h"
#include "wire/wire.h"

/* The most that a struct takes for each of its bytes on the wire, and the
 * chunks that an arena begins with. */
#define MEMORY_FOR_A_BYTE 64
#define MEMORY_LEAST 16384

static void
check_again(const struct wire_layout *layout, const struct wire_api *api,
    int version, const void *value)
{
	struct wire_arena arena = {0};
	struct buffer first = {0}, second = {0};
	void *again = calloc(1, wire_size(layout));
	struct mr_error err;

	assert(again != NULL);
	wire_write(layout, version, api->flexible_from, value, &first, NULL);
	assert(!first.failed);
	assert(wire_read(layout, version, api->flexible_from,
		   (const uint8_t *)buffer_text(&first), first.length, &arena,
		   again, &err) == 0);
	wire_write(layout, version, api->flexible_from, again, &second, NULL);
	assert(first.length == second.length);
	assert(first.length == 0 ||
	    memcmp(first.data, second.data, first.length) == 0);
	buffer_free(&first);
	buffer_free(&second);
	wire_arena_clear(&arena);
	free(again);
}

static void
check_body(const struct wire_layout *layout, const struct wire_api *api,
    int version, const uint8_t *body, size_t size)
{
	struct wire_arena arena = {0};
	void *value = calloc(1, wire_size(layout));
	struct mr_error err;

	assert(value != NULL);
	if (wire_read(layout, version, api->flexible_from, body, size, &arena,
		value, &err) == 0)
		check_again(layout, api, version, value);
	else
		assert(err.message[0] != '\0');
	assert(arena.total <= size * MEMORY_FOR_A_BYTE + MEMORY_LEAST);
	wire_arena_clear(&arena);
	free(value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_header header;
	struct mr_error err;

	if (wire_header_read(data, size, &header, &err) == -1)
		return (0);
	if (!header.supported)
		return (0);
	check_body(header.api->request(), header.api, header.api_version,
	    header.body, header.body_size);
	check_body(header.api->response(), header.api, header.api_version,
	    header.body, header.body_size);
	return (0);
}
