/*
 * json_read against jansson's own reading: documents of every shape, and each
 * of them with bytes of it changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/json_read.h"

static const char *const documents[] = {
    "{\"order_id\":\"0192f1c4-7a3b-7c5d-8e9f-0123456789ab\",\"item\":"
    "\"Laptop\",\"quantity\":1,\"ts_ms\":1764000000000}",
    " {\n\t\"a\" : \"b\" , \"\":-0 ,\"t\":true,\"f\":false,\"z\":null }\r\n",
    "{\"a\":0,\"b\":-12,\"c\":999999999999999999,\"d\":-999999999999999999}",
    "{\"a\":9223372036854775807,\"b\":-9223372036854775808}",
    "{\"a\":9223372036854775808}",
    "{\"a\":1.5,\"b\":1e3,\"c\":-0.25}",
    "{\"a\":1,\"b\":2,\"a\":3}",
    "{\"a\":1,\"A\":2,\"aa\":3}",
    "{\"a\":{\"b\":[1,2]},\"c\":[]}",
    "{\"a\\u0041\":\"b\\n\\u0000\",\"c\":\"\\\"\"}",
    "{\"\xC3\xBC\":\"\xE2\x82\xAC\x7f\"}",
    "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,"
    "\"i\":9,\"j\":10,\"k\":11,\"l\":12,\"m\":13,\"n\":14,\"o\":15,"
    "\"p\":16}",
    "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,"
    "\"i\":9,\"j\":10,\"k\":11,\"l\":12,\"m\":13,\"n\":14,\"o\":15,"
    "\"p\":16,\"q\":17}",
    "{}",
    "[1]",
    "\"a\"",
    "{\"a\":1,}",
    "{\"a\":1}}",
    "{\"a\":01}",
    "{\"a\":-}",
    "{\"a\":truex}",
    "{\"a\" 1}",
    "{\"a\":\"b",
    "{",
    "",
};
static const size_t flags[] = {0, JSON_REJECT_DUPLICATES,
    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, JSON_DECODE_ANY,
    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* 1 if it is a document. */
static int
compare(const char *bytes, size_t size, size_t with)
{
	json_error_t why, expected_why;
	int out_of_memory, is;
	json_t *read = json_read(bytes, size, with, &why, &out_of_memory);
	json_t *expected = json_loadb(bytes, size, with, &expected_why);
	char *text, *expected_text;

	assert_false(out_of_memory);
	is = expected != NULL;
	if ((read != NULL) != is)
		fail_msg("%.*s: %s", (int)size, bytes,
		    is ? why.text : "was taken");
	if (is) {
		/* Of the same members in the same order. */
		text = json_dumps(read, JSON_ENCODE_ANY);
		expected_text = json_dumps(expected, JSON_ENCODE_ANY);
		assert_string_equal(text, expected_text);
		assert_true(json_equal(read, expected));
		free(text);
		free(expected_text);
	} else {
		assert_string_equal(why.text, expected_why.text);
		assert_int_equal(why.position, expected_why.position);
	}
	json_decref(read);
	json_decref(expected);
	return (is);
}

static void
documents_are_read_as_jansson_reads_them(void **state)
{
	size_t i, k, taken = 0;

	(void)state;
	for (i = 0; i < COUNT(documents); i++)
		for (k = 0; k < COUNT(flags); k++)
			taken += (size_t)compare(documents[i],
			    strlen(documents[i]), flags[k]);
	assert_true(taken > 40);
}

static void
what_is_cut_short_is_refused_as_there(void **state)
{
	size_t i, size;

	(void)state;
	for (i = 0; i < COUNT(documents); i++)
		for (size = 0; size < strlen(documents[i]); size++)
			(void)compare(documents[i], size,
			    flags[i % COUNT(flags)]);
}

static void
changed_bytes_are_read_as_there(void **state)
{
	static const char likely[] =
	    "\"\\{}[]:,-+.eE0123 \t\n\r\0atfnul\x7f\x80\xff";
	struct id_rng rng;
	char bytes[256], *at;
	size_t i, k, n, size;

	(void)state;
	id_rng_seed(&rng, 7);
	for (n = 0; n < 200000; n++) {
		i = id_rng_next(&rng) % COUNT(documents);
		size = strlen(documents[i]);
		if (size == 0)
			continue;
		memcpy(bytes, documents[i], size);
		for (k = id_rng_next(&rng) % 3 + 1; k > 0; k--) {
			at = &bytes[id_rng_next(&rng) % size];
			*at = likely[id_rng_next(&rng) % (sizeof(likely) - 1)];
			if (id_rng_next(&rng) % 8 == 0)
				*at = (char)id_rng_next(&rng);
		}
		(void)compare(bytes, size, flags[n % COUNT(flags)]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(documents_are_read_as_jansson_reads_them),
	    cmocka_unit_test(what_is_cut_short_is_refused_as_there),
	    cmocka_unit_test(changed_bytes_are_read_as_there),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
