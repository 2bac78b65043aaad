#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "wire/wire.h"
#include "wire/wire_internal.h"

/* ---- a value of any message, at random ---------------------------------- */

static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

static uint64_t
draw(struct id_rng *rng, uint64_t below)
{

	return (id_rng_next(rng) % below);
}

static void fill(struct id_rng *rng, const struct wire_layout *layout,
    struct wire_arena *arena, void *out);

static void
fill_any(struct id_rng *rng, const struct wire_field *field,
    struct wire_arena *arena, struct wire_any *any)
{
	const struct wire_layout *element;
	struct wire_any *strings;
	int32_t i, *numbers;

	any->at = NULL;
	any->count = (int32_t)draw(rng, 4);
	if (field->null_from != NEVER && draw(rng, 4) == 0)
		any->count = -1;
	if (any->count <= 0)
		return;
	switch (field->kind) {
	case FIELD_I32S:
		numbers = wire_arena_take(arena, 4 * sizeof(*numbers));
		for (i = 0; i < any->count; i++)
			numbers[i] = (int32_t)id_rng_next(rng);
		any->at = numbers;
		return;
	case FIELD_STRINGS:
		strings = wire_arena_take(arena, 4 * sizeof(*strings));
		for (i = 0; i < any->count; i++) {
			strings[i].at = (void *)(uintptr_t)letters;
			strings[i].count = (int32_t)draw(rng, 26);
		}
		any->at = strings;
		return;
	case FIELD_ARRAY:
		element = field->element();
		any->at = wire_arena_take(arena, 4 * element->size);
		for (i = 0; i < any->count; i++)
			fill(rng, element, arena,
			    (char *)any->at + (size_t)i * element->size);
		return;
	default:
		any->at = (void *)(uintptr_t)letters;
		any->count = (int32_t)draw(rng, 26);
	}
}

static void
fill(struct id_rng *rng, const struct wire_layout *layout,
    struct wire_arena *arena, void *out)
{
	uint64_t n;
	size_t i;
	char *slot;

	for (i = 0; i < layout->count; i++) {
		slot = (char *)out + layout->fields[i].place;
		n = id_rng_next(rng);
		switch (layout->fields[i].kind) {
		case FIELD_BOOL:
			*slot = (char)(n & 1);
			break;
		case FIELD_I8:
			*slot = (char)n;
			break;
		case FIELD_I16:
			memcpy(slot, &n, 2);
			break;
		case FIELD_I32:
			memcpy(slot, &n, 4);
			break;
		case FIELD_I64:
			memcpy(slot, &n, 8);
			break;
		case FIELD_UUID:
			memcpy(slot, &n, 8);
			memcpy(slot + 8, &n, 8);
			break;
		default:
			fill_any(rng, &layout->fields[i], arena,
			    (struct wire_any *)(void *)slot);
		}
	}
}

/* Read a copy that ends where the message does, so that a sanitizer sees. */
static int
read_copy(const struct wire_layout *layout, int version, int flexible_from,
    const char *bytes, size_t size, struct wire_arena *arena, void *out,
    void **copy)
{
	struct mr_error err = {0};

	*copy = malloc(size > 0 ? size : 1);
	assert_non_null(*copy);
	if (size > 0)
		memcpy(*copy, bytes, size);
	return (wire_read(layout, version, flexible_from, *copy, size, arena,
	    out, &err));
}

static void
check_message(struct id_rng *rng, const struct wire_layout *layout, int version,
    int flexible_from)
{
	struct wire_arena arena = {0};
	struct buffer first = {0}, second = {0};
	void *value = calloc(1, wire_size(layout));
	void *again = calloc(1, wire_size(layout));
	void *copy;
	size_t cut;

	assert_non_null(value);
	assert_non_null(again);
	fill(rng, layout, &arena, value);
	wire_write(layout, version, flexible_from, value, &first, NULL);
	assert_false(first.failed);
	assert_int_equal(read_copy(layout, version, flexible_from, first.data,
			     first.length, &arena, again, &copy),
	    0);
	wire_write(layout, version, flexible_from, again, &second, NULL);
	assert_int_equal(first.length, second.length);
	if (first.length > 0)
		assert_memory_equal(first.data, second.data, first.length);
	free(copy);
	/* Cut short anywhere it is refused: nothing at its end is optional. */
	for (cut = 0; cut < first.length; cut += 1 + draw(rng, 3)) {
		assert_int_equal(read_copy(layout, version, flexible_from,
				     first.data, cut, &arena, again, &copy),
		    -1);
		free(copy);
	}
	/* What follows it is left alone. */
	buffer_add(&first, "\0", 1);
	assert_int_equal(read_copy(layout, version, flexible_from, first.data,
			     first.length, &arena, again, &copy),
	    0);
	free(copy);
	buffer_free(&first);
	buffer_free(&second);
	wire_arena_clear(&arena);
	free(value);
	free(again);
}

static void
every_message_of_every_version_reads_back_as_written(void **state)
{
	const struct wire_api *api;
	struct id_rng rng;
	size_t i;
	int version, round;

	(void)state;
	id_rng_seed(&rng, 20261126);
	for (i = 0; (api = wire_api_at(i)) != NULL; i++)
		for (version = api->least; version <= api->most; version++)
			for (round = 0; round < 10; round++) {
				check_message(&rng, api->request(), version,
				    api->flexible_from);
				check_message(&rng, api->response(), version,
				    api->flexible_from);
			}
}

/* ---- bytes that are known ----------------------------------------------- */

static void
a_request_is_read_as_the_protocol_says(void **state)
{
	/* JoinGroup 7 (flexible), as a Java client would send it. */
	static const uint8_t frame[] = {0, 11, 0, 7, 0, 0, 0, 9, 0, 3, 'c', 'l',
	    'i', 0, /* header's tags */
	    2, 'g', 0, 0, 0x17, 0x70, 0, 0, 0x75, 0x30, 1, /* empty member */
	    0, /* no instance */
	    9, 'c', 'o', 'n', 's', 'u', 'm', 'e', 'r', /* type */
	    2, 6, 'r', 'a', 'n', 'g', 'e', 3, 0xca, 0xfe, 0, /* protocol */
	    1, 5, 2, 'x', 'y' /* a tag that nobody knows */};
	struct wire_join_group_request req;
	struct wire_arena arena = {0};
	struct wire_header header;
	struct mr_error err;

	(void)state;
	assert_int_equal(wire_header_read(frame, sizeof(frame), &header, &err),
	    0);
	assert_true(header.supported);
	assert_int_equal(header.correlation_id, 9);
	assert_true(wire_string_is(header.client_id, "cli"));
	assert_int_equal(wire_read(header.api->request(), 7,
			     header.api->flexible_from, header.body,
			     header.body_size, &arena, &req, &err),
	    0);
	assert_true(wire_string_is(req.group_id, "g"));
	assert_int_equal(req.session_timeout_ms, 6000);
	assert_int_equal(req.rebalance_timeout_ms, 30000);
	assert_int_equal(req.member_id.length, 0);
	assert_int_equal(req.group_instance_id.length, -1);
	assert_int_equal(req.protocols.count, 1);
	assert_int_equal(req.protocols.at[0].metadata.length, 2);
	/* What a later version has is null. */
	assert_int_equal(req.reason.length, -1);
	wire_arena_clear(&arena);
}

static void
an_answer_is_written_as_the_protocol_says(void **state)
{
	static const char v1[] = {0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 27};
	static const char v4[] = {0, 0, 0, 12, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 27,
	    0};
	struct wire_heartbeat_response out = {.error_code = 27};
	struct wire_header header = {.correlation_id = 5,
	    .api = wire_api_find(WIRE_API_Heartbeat),
	    .supported = 1,
	    .api_version = 1};
	struct buffer buf = {0};
	size_t start;

	(void)state;
	start = wire_response_begin(&header, &buf);
	wire_write(header.api->response(), 1, header.api->flexible_from, &out,
	    &buf, NULL);
	wire_response_end(&buf, start, 0);
	assert_int_equal(buf.length, sizeof(v1));
	assert_memory_equal(buf.data, v1, sizeof(v1));
	buffer_clear(&buf);
	header.api_version = 4;
	start = wire_response_begin(&header, &buf);
	wire_write(header.api->response(), 4, header.api->flexible_from, &out,
	    &buf, NULL);
	wire_response_end(&buf, start, 0);
	assert_int_equal(buf.length, sizeof(v4));
	assert_memory_equal(buf.data, v4, sizeof(v4));
	buffer_free(&buf);
}

static void
records_that_are_elsewhere_leave_their_place(void **state)
{
	struct wire_fetch_response_partition part;
	struct wire_fetch_response_topic topic = {.topic = wire_text("t")};
	struct wire_fetch_response out;
	struct wire_splices splices = {0};
	struct buffer buf = {0};

	(void)state;
	wire_defaults(wire_fetch_response_layout(), &out);
	wire_defaults(wire_fetch_response_partition_layout(), &part);
	part.records.length = 1000;
	topic.partitions.at = &part;
	topic.partitions.count = 1;
	out.topics.at = &topic;
	out.topics.count = 1;
	wire_write(wire_fetch_response_layout(), 4, 12, &out, &buf, &splices);
	assert_false(buf.failed);
	assert_int_equal(splices.count, 1);
	assert_int_equal(splices.list[0].length, 1000);
	assert_int_equal(splices.list[0].at, buf.length);
	/* Without anywhere to note it, it can't be written. */
	wire_write(wire_fetch_response_layout(), 4, 12, &out, &buf, NULL);
	assert_true(buf.failed);
	wire_splices_free(&splices);
	buffer_free(&buf);
}

/* ---- hostile bytes ------------------------------------------------------ */

static void
counts_beyond_the_bytes_are_refused_before_memory_is_taken(void **state)
{
	/* Metadata 1: two thousand million topics. */
	static const uint8_t body[] = {0x7f, 0xff, 0xff, 0xff, 0, 1, 'a'};
	/* 4.0: an array as a varint of five bytes. */
	static const uint8_t flexible[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0};
	static const uint8_t endless[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct wire_metadata_request req;
	struct wire_arena arena = {0};
	struct mr_error err;

	(void)state;
	assert_int_equal(wire_read(wire_metadata_request_layout(), 1, 9, body,
			     sizeof(body), &arena, &req, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "topics"));
	assert_int_equal(wire_read(wire_metadata_request_layout(), 12, 9,
			     flexible, sizeof(flexible), &arena, &req, &err),
	    -1);
	assert_int_equal(wire_read(wire_metadata_request_layout(), 12, 9,
			     endless, sizeof(endless), &arena, &req, &err),
	    -1);
	assert_int_equal(arena.total, 0);
}

static void
an_arena_keeps_to_its_ceiling(void **state)
{
	struct wire_arena arena = {.most = 10000};
	uint8_t body[4 + 3000 * 2] = {0, 0, 0x0b, 0xb8};
	struct wire_metadata_request req;
	struct mr_error err;

	(void)state;
	assert_int_equal(wire_read(wire_metadata_request_layout(), 1, 9, body,
			     sizeof(body), &arena, &req, &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	arena.most = 0;
	assert_int_equal(wire_read(wire_metadata_request_layout(), 1, 9, body,
			     sizeof(body), &arena, &req, &err),
	    0);
	assert_int_equal(req.topics.count, 3000);
	wire_arena_clear(&arena);
}

static void
what_is_not_spoken_is_told_apart(void **state)
{
	static const uint8_t later[] = {0, 18, 0, 99, 0, 0, 0, 7, 1, 2, 3};
	static const uint8_t unknown[] = {0x7f, 0, 0, 0, 0, 0, 0, 8};
	static const uint8_t negative[] = {0, 18, 0xff, 0xff, 0, 0, 0, 7};
	struct wire_header header;
	struct mr_error err;

	(void)state;
	assert_int_equal(wire_header_read(later, sizeof(later), &header, &err),
	    0);
	assert_false(header.supported);
	assert_non_null(header.api);
	assert_int_equal(header.correlation_id, 7);
	assert_int_equal(wire_header_read(unknown, sizeof(unknown), &header,
			     &err),
	    0);
	assert_null(header.api);
	assert_int_equal(wire_header_read(negative, sizeof(negative), &header,
			     &err),
	    0);
	assert_false(header.supported);
	assert_int_equal(wire_header_read(unknown, 7, &header, &err), -1);
}

static void
null_is_refused_where_it_can_not_be(void **state)
{
	/* Heartbeat 0 without a group's name. */
	static const uint8_t body[] = {0xff, 0xff, 0, 0, 0, 0, 0, 0};
	struct wire_heartbeat_request req;
	struct wire_arena arena = {0};
	struct mr_error err;

	(void)state;
	assert_int_equal(wire_read(wire_heartbeat_request_layout(), 0, 4, body,
			     sizeof(body), &arena, &req, &err),
	    -1);
	assert_string_equal(err.message,
	    "heartbeat_request: group_id: is null");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		every_message_of_every_version_reads_back_as_written),
	    cmocka_unit_test(a_request_is_read_as_the_protocol_says),
	    cmocka_unit_test(an_answer_is_written_as_the_protocol_says),
	    cmocka_unit_test(records_that_are_elsewhere_leave_their_place),
	    cmocka_unit_test(
		counts_beyond_the_bytes_are_refused_before_memory_is_taken),
	    cmocka_unit_test(an_arena_keeps_to_its_ceiling),
	    cmocka_unit_test(what_is_not_spoken_is_told_apart),
	    cmocka_unit_test(null_is_refused_where_it_can_not_be),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
