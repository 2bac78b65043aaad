#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buffer.h"
#include "base/utf8.h"

/* The names that the linker's --wrap wants.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

static int refuse_memory;

void *
__wrap_realloc(void *p, size_t size)
{

	return (refuse_memory ? NULL : __real_realloc(p, size));
}

static void
grows_and_stays_nul_terminated(void **state)
{
	struct buffer buf = {0};
	int i;

	(void)state;
	assert_string_equal(buffer_text(&buf), "");
	assert_null(buf.data);
	for (i = 0; i < 10000; i++) {
		buffer_add_i64(&buf, i % 10);
		assert_int_equal(buf.length, i + 1);
		assert_int_equal(buf.data[buf.length], '\0');
		assert_int_equal(buf.data[i], '0' + i % 10);
	}
	buffer_addf(&buf, "%s-%d", "x", 7);
	assert_string_equal(buf.data + 10000, "x-7");
	buffer_clear(&buf);
	assert_string_equal(buffer_text(&buf), "");
	buffer_add(&buf, "a\0b", 3);
	assert_int_equal(buf.length, 3);
	buffer_free(&buf);
	assert_null(buf.data);
	buffer_add_text(&buf, "again");
	assert_string_equal(buffer_text(&buf), "again");
	buffer_free(&buf);
	buffer_free(NULL);
}

static void
formats_across_a_growth(void **state)
{
	struct buffer buf = {0};
	size_t n;

	(void)state;
	for (n = 0; n < 300; n++) {
		buffer_clear(&buf);
		buffer_free(&buf);
		while (buf.length < n)
			buffer_add(&buf, ".", 1);
		buffer_addf(&buf, "%0200d", 5);
		assert_int_equal(buf.failed, 0);
		assert_int_equal(buf.length, n + 200);
		assert_int_equal(buf.data[n + 199], '5');
		assert_int_equal(buf.data[n + 200], '\0');
	}
	buffer_free(&buf);
}

static void
keeps_to_its_ceiling_and_the_failure_sticks(void **state)
{
	struct buffer buf;

	(void)state;
	buffer_init(&buf, 10);
	buffer_add_text(&buf, "0123456789");
	assert_int_equal(buf.failed, 0);
	buffer_add(&buf, "", 0);
	assert_int_equal(buf.failed, 0);
	buffer_add_text(&buf, "x");
	assert_int_equal(buf.failed, 1);
	buffer_clear(&buf);
	assert_int_equal(buf.failed, 0);
	buffer_addf(&buf, "%s", "0123456789a");
	assert_int_equal(buf.failed, 1);
	buffer_add_text(&buf, "b");
	buffer_addf(&buf, "%s", "b");
	assert_int_equal(buf.length, 0);
	assert_string_equal(buffer_text(&buf), "");
	buffer_free(&buf);
	buffer_addf(&buf, "%s", "0123456789a");
	assert_int_equal(buf.failed, 1);
	assert_string_equal(buffer_text(&buf), "");
	buffer_free(&buf);
}

static void
keeps_what_it_has_when_memory_is_refused(void **state)
{
	struct buffer buf = {0};

	(void)state;
	buffer_add_text(&buf, "kept");
	refuse_memory = 1;
	buffer_addf(&buf, "%0500d", 1);
	refuse_memory = 0;
	assert_int_equal(buf.failed, 1);
	assert_string_equal(buffer_text(&buf), "kept");
	buffer_add_text(&buf, "more");
	assert_string_equal(buffer_text(&buf), "kept");
	buffer_free(&buf);
	refuse_memory = 1;
	buffer_add(&buf, "", 0);
	refuse_memory = 0;
	assert_int_equal(buf.failed, 1);
	buffer_free(&buf);
}

static void
writes_whole_numbers(void **state)
{
	static const struct {
		int64_t n;
		const char *text;
	} cases[] = {
	    {0, "0"},
	    {-1, "-1"},
	    {INT64_MAX, "9223372036854775807"},
	    {INT64_MIN, "-9223372036854775808"},
	};
	struct buffer buf = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&buf);
		buffer_add_i64(&buf, cases[i].n);
		assert_string_equal(buffer_text(&buf), cases[i].text);
	}
	buffer_free(&buf);
}

static void
writes_decimals_with_a_fixed_point(void **state)
{
	static const struct {
		int64_t scaled;
		int decimals;
		const char *text;
	} cases[] = {
	    {1999, 2, "19.99"},
	    {5, 2, "0.05"},
	    {-5, 2, "-0.05"},
	    {0, 2, "0.00"},
	    {100, 2, "1.00"},
	    {7, 0, "7"},
	    {70, 0, "70"},
	    {1, 18, "0.000000000000000001"},
	    {INT64_MIN, 18, "-9.223372036854775808"},
	    {INT64_MAX, 2, "92233720368547758.07"},
	};
	struct buffer buf = {0};
	struct json_writer w;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&buf);
		json_init(&w, &buf);
		json_decimal(&w, cases[i].scaled, cases[i].decimals);
		assert_string_equal(buffer_text(&buf), cases[i].text);
	}
	buffer_free(&buf);
}

static void
writes_reals_that_read_back_the_same(void **state)
{
	static const double cases[] = {0.1, 1.0 / 3, 1e300, -2.5e-7, 5, DBL_MAX,
	    DBL_MIN, 4.9406564584124654e-324, 123456789.123456789};
	struct buffer buf = {0};
	struct json_writer w;
	size_t i;
	double back;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&buf);
		buffer_add_f64(&buf, cases[i]);
		back = strtod(buffer_text(&buf), NULL);
		assert_memory_equal(&back, &cases[i], sizeof(back));
	}
	buffer_clear(&buf);
	json_init(&w, &buf);
	json_array_open(&w);
	json_f64(&w, 0.1);
	json_f64(&w, (double)NAN);
	json_f64(&w, (double)INFINITY);
	json_array_close(&w);
	assert_string_equal(buffer_text(&buf), "[0.1,null,null]");
	buffer_free(&buf);
}

static void
puts_commas_and_colons_where_they_belong(void **state)
{
	struct buffer buf = {0};
	struct json_writer w;

	(void)state;
	json_init(&w, &buf);
	json_object_open(&w);
	json_member_text(&w, "id", "a");
	json_member_text(&w, "none", NULL);
	json_key(&w, "list");
	json_array_open(&w);
	json_i64(&w, 1);
	json_array_open(&w);
	json_array_close(&w);
	json_object_open(&w);
	json_object_close(&w);
	json_text_n(&w, "xyz", 2);
	json_nil(&w);
	json_array_close(&w);
	json_member_i64(&w, "n", -3);
	json_member_bool(&w, "yes", 1);
	json_member_bool(&w, "no", 0);
	json_object_close(&w);
	assert_string_equal(buffer_text(&buf),
	    "{\"id\":\"a\",\"none\":null,\"list\":[1,[],{},\"xy\",null],"
	    "\"n\":-3,\"yes\":true,\"no\":false}");
	assert_int_equal(w.depth, 0);
	buffer_add_text(&buf, "\n");
	json_object_open(&w);
	json_object_close(&w);
	assert_string_equal(strchr(buffer_text(&buf), '\n'), "\n{}");
	buffer_free(&buf);
}

static void
keys_are_escaped_like_values(void **state)
{
	struct buffer buf = {0};
	struct json_writer w;

	(void)state;
	json_init(&w, &buf);
	json_object_open(&w);
	json_member_i64(&w, "a\"b", 1);
	json_member_i64(&w, "", 2);
	json_member_i64(&w, "\xC3\xA9\n", 3);
	json_member_i64(&w, "plain", 4);
	json_object_close(&w);
	assert_string_equal(buffer_text(&buf),
	    "{\"a\\\"b\":1,\"\":2,\"\xC3\xA9\\n\":3,\"plain\":4}");
	/* No room for the second key: that fails the whole. */
	buffer_free(&buf);
	buffer_init(&buf, 9);
	json_init(&w, &buf);
	json_object_open(&w);
	json_member_i64(&w, "a", 1);
	json_member_i64(&w, "b", 2);
	assert_int_equal(buf.failed, 1);
	buffer_free(&buf);
}

static void
nests_sixty_two_levels(void **state)
{
	struct buffer buf = {0};
	struct json_writer w;
	json_t *root;
	int i;

	(void)state;
	json_init(&w, &buf);
	for (i = 0; i < 31; i++) {
		json_array_open(&w);
		json_i64(&w, i);
		json_object_open(&w);
		json_key(&w, "a");
	}
	json_i64(&w, 1);
	for (i = 0; i < 31; i++) {
		json_member_i64(&w, "b", i);
		json_object_close(&w);
		json_i64(&w, i);
		json_array_close(&w);
	}
	root = json_loadb(buf.data, buf.length, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	json_decref(root);
	buffer_free(&buf);
}

static void
escapes_text_and_mends_what_is_not_utf8(void **state)
{
#define BAD "\xEF\xBF\xBD"
	static const struct {
		const char *text;
		size_t length;
		const char *json;
	} cases[] = {
	    {"", 0, "\"\""},
	    {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
	    {"\n\r\t\b\x1f", 5, "\"\\n\\r\\t\\u0008\\u001f\""},
	    {"a\0b", 3, "\"a\\u0000b\""},
	    {"\x7f", 1, "\"\x7f\""},
	    {"gr\xC3\xBC\xC3\x9F", 6, "\"gr\xC3\xBC\xC3\x9F\""},
	    {"\xF0\x9F\x98\x80", 4, "\"\xF0\x9F\x98\x80\""},
	    {"\xC3", 1, "\"" BAD "\""},
	    {"x\xC0\x80y", 4, "\"x" BAD BAD "y\""},
	    {"\xED\xA0\x80", 3, "\"" BAD BAD BAD "\""},
	    {"\xF4\x90\x80\x80", 4, "\"" BAD BAD BAD BAD "\""},
	    {"\xE2\x82", 2, "\"" BAD BAD "\""},
	};
	struct buffer buf = {0};
	struct json_writer w;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&buf);
		json_init(&w, &buf);
		json_text_n(&w, cases[i].text, cases[i].length);
		assert_string_equal(buffer_text(&buf), cases[i].json);
	}
	buffer_free(&buf);
}

/* Long text is looked at by eight bytes, short text byte by byte. */
static void
a_byte_is_written_alike_wherever_it_stands(void **state)
{
	struct buffer buf = {0}, alone = {0};
	struct json_writer w;
	char text[18], expected[40];
	int byte, length, place;

	(void)state;
	for (byte = 0; byte < 256; byte++) {
		buffer_clear(&alone);
		json_init(&w, &alone);
		text[0] = (char)byte;
		json_text_n(&w, text, 1);
		for (length = 1; length < 18; length++) {
			for (place = 0; place < length; place++) {
				memset(text, 'x', sizeof(text));
				text[place] = (char)byte;
				snprintf(expected, sizeof(expected),
				    "\"%.*s%.*s%.*s\"", place,
				    "xxxxxxxxxxxxxxxxx", (int)alone.length - 2,
				    alone.data + 1, length - 1 - place,
				    "xxxxxxxxxxxxxxxxx");
				buffer_clear(&buf);
				json_init(&w, &buf);
				json_text_n(&w, text, (size_t)length);
				assert_string_equal(buf.data, expected);
			}
		}
	}
	buffer_free(&alone);
	buffer_free(&buf);
}

static void
every_pair_of_bytes_makes_json_that_parses(void **state)
{
	struct buffer buf = {0};
	struct json_writer w;
	json_t *root;
	char text[2];
	int a, b;

	(void)state;
	for (a = 0; a < 256; a++) {
		buffer_clear(&buf);
		json_init(&w, &buf);
		json_array_open(&w);
		for (b = 0; b < 256; b++) {
			text[0] = (char)a;
			text[1] = (char)b;
			json_text_n(&w, text, 2);
		}
		json_array_close(&w);
		root = json_loadb(buf.data, buf.length, JSON_ALLOW_NUL, NULL);
		assert_non_null(root);
		assert_int_equal(json_array_size(root), 256);
		json_decref(root);
	}
	buffer_free(&buf);
}

static void
knows_well_formed_utf8(void **state)
{
	static const struct {
		const char *text;
		size_t n, length;
	} cases[] = {
	    {"", 0, 0},
	    {"", 1, 1},
	    {"a", 1, 1},
	    {"\x80", 1, 0},
	    {"\xC1\xBF", 2, 0},
	    {"\xC2\x80", 2, 2},
	    {"\xC2", 1, 0},
	    {"\xC2"
	     "a",
		2, 0},
	    {"\xDF\xBF", 2, 2},
	    {"\xE0\x9F\xBF", 3, 0},
	    {"\xE0\xA0\x80", 3, 3},
	    {"\xED\x9F\xBF", 3, 3},
	    {"\xED\xA0\x80", 3, 0},
	    {"\xEE\x80\x80", 3, 3},
	    {"\xEF\xBF\xBF", 2, 0},
	    {"\xF0\x8F\xBF\xBF", 4, 0},
	    {"\xF0\x90\x80\x80", 4, 4},
	    {"\xF4\x8F\xBF\xBF", 4, 4},
	    {"\xF4\x90\x80\x80", 4, 0},
	    {"\xF5\x80\x80\x80", 4, 0},
	    {"\xF0\x90\x80", 3, 0},
	    {"\xFF", 1, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(utf8_length(cases[i].text, cases[i].n),
		    cases[i].length);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grows_and_stays_nul_terminated),
	    cmocka_unit_test(formats_across_a_growth),
	    cmocka_unit_test(keeps_to_its_ceiling_and_the_failure_sticks),
	    cmocka_unit_test(keeps_what_it_has_when_memory_is_refused),
	    cmocka_unit_test(writes_whole_numbers),
	    cmocka_unit_test(writes_decimals_with_a_fixed_point),
	    cmocka_unit_test(writes_reals_that_read_back_the_same),
	    cmocka_unit_test(puts_commas_and_colons_where_they_belong),
	    cmocka_unit_test(keys_are_escaped_like_values),
	    cmocka_unit_test(nests_sixty_two_levels),
	    cmocka_unit_test(escapes_text_and_mends_what_is_not_utf8),
	    cmocka_unit_test(a_byte_is_written_alike_wherever_it_stands),
	    cmocka_unit_test(every_pair_of_bytes_makes_json_that_parses),
	    cmocka_unit_test(knows_well_formed_utf8),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
