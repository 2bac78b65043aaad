/*
 * stream/record: what a record's headers say of where it comes from, and
 * that nothing damaged is taken for an identity; the blob that headers are
 * kept in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream/internal.h"

#define SOURCE "/millrace/orders/0123456789abcdef0123456789abcdef"
#define TYPE_63 \
	"a23456789b23456789c23456789d23456789e23456789f23456789g23456789"

/* Headers as a test has them; a value of NULL ends the list. */
struct header {
	const char *name;
	const char *value;
	size_t size; /* 0: the text's length */
};

/* In place of pkg/kafka's. */
int
kafka_record_header_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header)
{
	const struct header *list = record->opaque;
	size_t i;

	for (i = 0; i <= index; i++)
		if (list[i].name == NULL)
			return (0);
	header->name = list[index].name;
	header->value = list[index].value;
	header->size = list[index].size;
	if (header->value != NULL && header->size == 0)
		header->size = strlen(list[index].value);
	return (1);
}

static void
read_list(struct header *list, struct identity *id)
{
	struct kafka_record record = {.opaque = list};

	/* What was there before must not shine through. */
	memset(id, 0x5a, sizeof(*id));
	identity_read(&record, id);
}

#define WHOLE                                         \
	{"ce_source", SOURCE, 0}, {"ce_id", "17", 0}, \
	{                                             \
		"ce_predecessor", "12", 0             \
	}

static void
reads_a_whole_identity(void **state)
{
	struct header list[] = {{"ce_specversion", "1.0", 0},
	    {"ce_type", "order.created", 0}, WHOLE,
	    {"ce_cause", "order-events/2/9007199254740993", 0},
	    {"content-type", "application/json", 0}, {NULL, NULL, 0}};
	struct identity id;

	(void)state;
	read_list(list, &id);
	assert_true(id.ours);
	assert_string_equal(id.source, SOURCE);
	assert_string_equal(id.type, "order.created");
	assert_int_equal(id.seq, 17);
	assert_int_equal(id.predecessor, 12);
	assert_string_equal(id.cause_topic, "order-events");
	assert_int_equal(id.cause_partition, 2);
	assert_int_equal(id.cause_offset, 9007199254740993);
}

static void
reads_the_largest_numbers(void **state)
{
	struct header list[] = {{"ce_source", SOURCE, 0},
	    {"ce_id", "9223372036854775807", 0},
	    {"ce_predecessor", "9223372036854775806", 0},
	    {"ce_cause", "t/2147483647/9223372036854775807", 0},
	    {NULL, NULL, 0}};
	struct identity id;

	(void)state;
	read_list(list, &id);
	assert_true(id.ours);
	assert_int_equal(id.seq, INT64_MAX);
	assert_int_equal(id.predecessor, INT64_MAX - 1);
	assert_int_equal(id.cause_partition, INT32_MAX);
	assert_int_equal(id.cause_offset, INT64_MAX);
}

static void
takes_nothing_damaged_for_an_identity(void **state)
{
	static char long_source[2 * SOURCE_SIZE];
	static const struct {
		const char *what;
		const char *name; /* this header of a whole one is replaced */
		const char *value;
		size_t size;
	} cases[] = {
	    {"a source of somebody else's", "ce_source", "/shop/orders", 0},
	    {"a source that begins alike", "ce_source", "/millraces/x", 0},
	    {"an empty source", "ce_source", "", 0},
	    {"no source", "ce_source", NULL, 0},
	    {"a source too long", "ce_source", long_source, 0},
	    {"a source with a NUL in it", "ce_source", "/millrace/a\0b", 13},
	    {"no seq", "ce_id", NULL, 0},
	    {"an empty seq", "ce_id", "", 0},
	    {"a negative seq", "ce_id", "-1", 0},
	    {"a seq with a sign", "ce_id", "+1", 0},
	    {"a seq with a space before", "ce_id", " 1", 0},
	    {"a seq with a space behind", "ce_id", "1 ", 0},
	    {"a seq in hexadecimal", "ce_id", "0x11", 0},
	    {"a seq that is a UUID", "ce_id",
		"0193f3c2-7a1e-7b52-8f0e-000000000000", 0},
	    {"a seq past 63 bits", "ce_id", "9223372036854775808", 0},
	    {"a seq with a NUL in it", "ce_id", "1\0002", 3},
	    {"no predecessor", "ce_predecessor", NULL, 0},
	    {"a negative predecessor", "ce_predecessor", "-1", 0},
	    {"a fraction as predecessor", "ce_predecessor", "1.5", 0},
	    {"a predecessor past 63 bits", "ce_predecessor",
		"99999999999999999999", 0},
	};
	struct identity id;
	size_t i, k;

	(void)state;
	snprintf(long_source, sizeof(long_source), "/millrace/%0*d",
	    SOURCE_SIZE, 0);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct header list[] = {{"ce_type", "order.created", 0}, WHOLE,
		    {"ce_cause", "order-events/2/7", 0}, {NULL, NULL, 0}};

		for (k = 0; list[k].name != NULL; k++)
			if (strcmp(list[k].name, cases[i].name) == 0) {
				list[k].value = cases[i].value;
				list[k].size = cases[i].size;
			}
		read_list(list, &id);
		if (id.ours || id.source[0] != '\0' || id.seq != -1 ||
		    id.cause_topic[0] != '\0')
			fail_msg("%s made an identity", cases[i].what);
		/* The type is everybody's. */
		assert_string_equal(id.type, "order.created");
	}
}

static void
finds_no_identity_where_there_are_no_headers(void **state)
{
	struct header none[] = {{NULL, NULL, 0}};
	struct header foreign[] = {{"ce_type", "click", 0},
	    {"traceparent", "00-1-2-3", 0}, {NULL, NULL, 0}};
	struct identity id;

	(void)state;
	read_list(none, &id);
	assert_false(id.ours);
	assert_string_equal(id.type, "");
	assert_int_equal(id.seq, -1);
	assert_int_equal(id.predecessor, 0);
	read_list(foreign, &id);
	assert_false(id.ours);
	assert_string_equal(id.type, "click");
}

static void
the_last_header_of_a_name_wins(void **state)
{
	struct header good[] = {{"ce_id", "x", 0}, {"ce_type", "old", 0}, WHOLE,
	    {"ce_type", "new", 0}, {NULL, NULL, 0}};
	struct header bad[] = {WHOLE, {"ce_id", "x", 0}, {NULL, NULL, 0}};
	struct header null[] = {WHOLE, {"ce_id", NULL, 0}, {NULL, NULL, 0}};
	struct header nul[] = {WHOLE, {"ce_predecessor", "1\0002", 3},
	    {NULL, NULL, 0}};
	struct header cause[] = {WHOLE, {"ce_cause", NULL, 0}, {NULL, NULL, 0}};
	struct header foreign[] = {WHOLE, {"ce_source", "/other", 0},
	    {NULL, NULL, 0}};
	struct identity id;

	(void)state;
	read_list(good, &id);
	assert_true(id.ours);
	assert_string_equal(id.type, "new");
	read_list(bad, &id);
	assert_false(id.ours);
	read_list(foreign, &id);
	assert_false(id.ours);
	read_list(null, &id);
	assert_false(id.ours);
	read_list(nul, &id);
	assert_false(id.ours);
	read_list(cause, &id);
	assert_true(id.ours);
	assert_string_equal(id.cause_topic, "");
}

static void
a_type_is_bounded(void **state)
{
	struct header fits[] = {WHOLE, {"ce_type", TYPE_63, 0},
	    {NULL, NULL, 0}};
	struct header too_long[] = {WHOLE, {"ce_type", TYPE_63 "h", 0},
	    {NULL, NULL, 0}};
	struct identity id;

	(void)state;
	assert_int_equal(strlen(TYPE_63), sizeof(id.type) - 1);
	read_list(fits, &id);
	assert_string_equal(id.type, TYPE_63);
	read_list(too_long, &id);
	assert_true(id.ours);
	assert_string_equal(id.type, "");
}

static void
leaves_out_a_cause_that_is_damaged(void **state)
{
	static char long_topic[KAFKA_TOPIC_MAX + 20];
	static const char *const causes[] = {"", "/", "topic", "topic/",
	    "topic/1", "topic/1/", "/1/2", "topic//2", "topic/a/2", "topic/1/b",
	    "topic/-1/2", "topic/1/-2", "topic/2147483648/2",
	    "topic/1/9223372036854775808", "topic/1/2/3", long_topic};
	struct identity id;
	size_t i;

	(void)state;
	memset(long_topic, 't', KAFKA_TOPIC_MAX + 1);
	memcpy(long_topic + KAFKA_TOPIC_MAX + 1, "/1/2", 5);
	for (i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		struct header list[] = {WHOLE, {"ce_cause", causes[i], 0},
		    {NULL, NULL, 0}};

		read_list(list, &id);
		assert_true(id.ours);
		if (id.cause_topic[0] != '\0')
			fail_msg("\"%s\" was taken for a cause", causes[i]);
	}
}

static void
the_longest_topic_is_a_cause(void **state)
{
	static char cause[KAFKA_TOPIC_MAX + 20];
	struct header list[] = {WHOLE, {"ce_cause", cause, 0}, {NULL, NULL, 0}};
	struct identity id;

	(void)state;
	memset(cause, 't', KAFKA_TOPIC_MAX);
	memcpy(cause + KAFKA_TOPIC_MAX, "/1/2", 5);
	read_list(list, &id);
	assert_int_equal(strlen(id.cause_topic), KAFKA_TOPIC_MAX);
	assert_int_equal(id.cause_partition, 1);
	assert_int_equal(id.cause_offset, 2);
}

/* ---- the blob ------------------------------------------------------------ */

static void
headers_come_back_as_they_were_put_in(void **state)
{
	static const struct {
		const char *name;
		const char *value;
		size_t size;
	} put[] = {{"trace", "abc", 3}, {"empty", "", 0}, {"", "no name", 7},
	    {"bytes", "\0\xff\0", 3}};
	struct buffer blob = {0};
	char name[64];
	const void *value;
	size_t i, size, at = 0;

	(void)state;
	for (i = 0; i < sizeof(put) / sizeof(put[0]); i++)
		headers_add(&blob, put[i].name, put[i].value, put[i].size);
	for (i = 0; i < sizeof(put) / sizeof(put[0]); i++) {
		assert_int_equal(headers_next(blob.data, blob.length, &at, name,
				     sizeof(name), &value, &size),
		    1);
		assert_string_equal(name, put[i].name);
		assert_int_equal(size, put[i].size);
		if (size > 0)
			assert_memory_equal(value, put[i].value, size);
	}
	assert_int_equal(headers_next(blob.data, blob.length, &at, name,
			     sizeof(name), &value, &size),
	    0);
	buffer_free(&blob);
}

static void
no_headers_make_an_empty_blob(void **state)
{
	char name[8];
	const void *value;
	size_t size, at = 0;

	(void)state;
	assert_int_equal(headers_next(NULL, 0, &at, name, sizeof(name), &value,
			     &size),
	    0);
}

/* Read all of a blob that lies at the very end of its memory. */
static int
read_all(const unsigned char *bytes, size_t size, size_t name_size)
{
	unsigned char *exact = malloc(size == 0 ? 1 : size);
	char name[64];
	const void *value;
	size_t value_size, at = 0;
	int status;

	assert_non_null(exact);
	memcpy(exact, bytes, size);
	while ((status = headers_next(exact, size, &at, name, name_size, &value,
		    &value_size)) == 1)
		assert_true(at <= size &&
		    (const unsigned char *)value + value_size <= exact + size);
	free(exact);
	return (status);
}

static void
a_blob_cut_anywhere_is_damaged(void **state)
{
	struct buffer blob = {0};
	size_t first, size;

	(void)state;
	headers_add(&blob, "one", "first", 5);
	first = blob.length;
	headers_add(&blob, "two", "second", 6);
	for (size = 0; size <= blob.length; size++)
		assert_int_equal(read_all((unsigned char *)blob.data, size, 64),
		    size == 0 || size == first || size == blob.length ? 0 : -1);
	buffer_free(&blob);
}

static void
lengths_past_the_blob_are_damage(void **state)
{
	static const struct {
		const char *what;
		unsigned char bytes[12];
		size_t size;
	} cases[] = {
	    {"a name that is all there is and more",
		{0, 0, 0, 5, 0, 0, 0, 0, 'a', 'b', 'c', 'd'}, 12},
	    {"a value past the end",
		{0, 0, 0, 2, 0, 0, 0, 3, 'a', 'b', 'c', 'd'}, 12},
	    {"the longest name", {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 'a'}, 9},
	    {"the longest value", {0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 'a'}, 9},
	    {"both, whose sum wraps at 32 bits",
		{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 'a', 'b'}, 10},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (read_all(cases[i].bytes, cases[i].size, 64) != -1)
			fail_msg("%s was read", cases[i].what);
}

static void
a_name_longer_than_its_room_is_refused(void **state)
{
	struct buffer blob = {0};

	(void)state;
	headers_add(&blob, "seven77", "v", 1);
	assert_int_equal(read_all((unsigned char *)blob.data, blob.length, 8),
	    0);
	assert_int_equal(read_all((unsigned char *)blob.data, blob.length, 7),
	    -1);
	buffer_free(&blob);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reads_a_whole_identity),
	    cmocka_unit_test(reads_the_largest_numbers),
	    cmocka_unit_test(takes_nothing_damaged_for_an_identity),
	    cmocka_unit_test(finds_no_identity_where_there_are_no_headers),
	    cmocka_unit_test(the_last_header_of_a_name_wins),
	    cmocka_unit_test(a_type_is_bounded),
	    cmocka_unit_test(leaves_out_a_cause_that_is_damaged),
	    cmocka_unit_test(the_longest_topic_is_a_cause),
	    cmocka_unit_test(headers_come_back_as_they_were_put_in),
	    cmocka_unit_test(no_headers_make_an_empty_blob),
	    cmocka_unit_test(a_blob_cut_anywhere_is_damaged),
	    cmocka_unit_test(lengths_past_the_blob_are_damage),
	    cmocka_unit_test(a_name_longer_than_its_room_is_refused),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
