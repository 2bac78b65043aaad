/*
 * The JSON writer: a document of any shape, texts and numbers is read back by
 * another parser as the same, bytes that aren't UTF-8 as U+FFFD each.
 */
#include <math.h>

#include <jansson.h>

#include "base/buffer.h"
#include "fuzz.h"

#define DEPTH_MOST 60
#define VALUES_MOST 400

struct both {
	struct fuzz_input in;
	struct json_writer w;
	int values;
};

/* What a text is read back as. */
static json_t *
expected_text(const char *text, size_t length)
{
	struct buffer clean = {0};
	json_t *value;
	size_t n;

	for (; length > 0; text += n, length -= n) {
		if ((n = utf8_length(text, length)) > 0) {
			buffer_add(&clean, text, n);
		} else {
			buffer_add(&clean, "\xEF\xBF\xBD", 3);
			n = 1;
		}
	}
	value = json_stringn(buffer_text(&clean), clean.length);
	assert(value != NULL);
	buffer_free(&clean);
	return (value);
}

static double
take_f64(struct fuzz_input *in)
{
	int64_t bits = fuzz_i64(in);
	double x;

	memcpy(&x, &bits, sizeof(x));
	return (x);
}

/* Written so that it reads back as the very same. */
static void
check_f64(double x)
{
	struct buffer text = {0};
	char *end;

	buffer_add_f64(&text, x);
	assert(!text.failed);
	assert(strtod(text.data, &end) == x && *end == '\0');
	assert(signbit(strtod(text.data, NULL)) == signbit(x));
	buffer_free(&text);
}

static json_t *write_value(struct both *b, int depth);

static json_t *
write_array(struct both *b, int depth)
{
	json_t *array = json_array();
	int count = fuzz_byte(&b->in) % 8;

	json_array_open(&b->w);
	for (; count > 0; count--)
		json_array_append_new(array, write_value(b, depth + 1));
	json_array_close(&b->w);
	return (array);
}

static json_t *
write_object(struct both *b, int depth)
{
	json_t *object = json_object(), *name;
	int count = fuzz_byte(&b->in) % 8;
	const char *bytes;
	size_t length;
	char *key;

	json_object_open(&b->w);
	for (; count > 0; count--) {
		bytes = fuzz_bytes(&b->in, fuzz_byte(&b->in) % 16, &length);
		key = fuzz_text(bytes, length);
		json_key(&b->w, key);
		name = expected_text(key, strlen(key));
		json_object_set_new(object, json_string_value(name),
		    write_value(b, depth + 1));
		json_decref(name);
		free(key);
	}
	json_object_close(&b->w);
	return (object);
}

static json_t *
write_number(struct both *b)
{
	int64_t n = fuzz_i64(&b->in);
	double x;

	switch (fuzz_byte(&b->in) % 3) {
	case 0:
		json_i64(&b->w, n);
		return (json_integer(n));
	case 1:
		/* 10 to the 18th fits into a double's range, not exactly. */
		json_decimal(&b->w, n, fuzz_byte(&b->in) % 19);
		return (json_true());
	default:
		x = take_f64(&b->in);
		json_f64(&b->w, x);
		if (!isfinite(x))
			return (json_null());
		check_f64(x);
		return (json_real(x));
	}
}

static json_t *
write_value(struct both *b, int depth)
{
	const char *bytes;
	size_t length;
	uint8_t kind = fuzz_byte(&b->in) % 6;

	if (++b->values > VALUES_MOST || (depth >= DEPTH_MOST && kind < 2))
		kind = 5;
	switch (kind) {
	case 0:
		return (write_array(b, depth));
	case 1:
		return (write_object(b, depth));
	case 2:
		bytes = fuzz_bytes(&b->in, fuzz_byte(&b->in), &length);
		json_text_n(&b->w, bytes, length);
		return (expected_text(bytes, length));
	case 3:
		return (write_number(b));
	case 4:
		json_bool(&b->w, fuzz_byte(&b->in) & 1);
		return (json_true());
	default:
		json_nil(&b->w);
		return (json_null());
	}
}

/*
 * As json_equal, but a true in what is expected stands for any truth value
 * and any decimal, and a number for the same number in either kind.
 */
static int
is_same(const json_t *expected, const json_t *read)
{
	const char *key;
	json_t *value, *array = json_incref((json_t *)(uintptr_t)expected);
	size_t i;
	int same = 1;

	if (json_is_true(expected)) {
		same = json_is_boolean(read) || json_is_number(read);
	} else if (json_is_number(expected)) {
		same = json_is_number(read) &&
		    (json_is_integer(expected) && json_is_integer(read) ?
			    json_integer_value(expected) ==
				json_integer_value(read) :
			    json_number_value(expected) ==
				json_number_value(read));
	} else if (json_is_array(expected)) {
		same = json_is_array(read) &&
		    json_array_size(expected) == json_array_size(read);
		for (i = 0; same && i < json_array_size(expected); i++)
			same = is_same(json_array_get(expected, i),
			    json_array_get(read, i));
	} else if (json_is_object(expected)) {
		same = json_is_object(read) &&
		    json_object_size(expected) == json_object_size(read);
		json_object_foreach(array, key, value)
		    same = same && is_same(value, json_object_get(read, key));
	} else {
		same = json_equal(expected, read);
	}
	json_decref(array);
	return (same);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct both b = {.in = {data, size}};
	struct buffer out = {0}, small;
	json_t *expected, *read;
	json_error_t why;

	json_init(&b.w, &out);
	expected = write_value(&b, 0);
	assert(!out.failed && out.data[out.length] == '\0');
	assert(fuzz_is_utf8(out.data, out.length));
	read = json_loadb(out.data, out.length,
	    JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
	assert(read != NULL);
	assert(is_same(expected, read));
	json_decref(read);
	json_decref(expected);

	/* With a ceiling it is written whole, or fails and stays below it. */
	buffer_init(&small, 1 + size);
	json_init(&b.w, &small);
	b.in = (struct fuzz_input){data, size};
	b.values = 0;
	json_decref(write_value(&b, 0));
	assert(small.failed ? out.length >= small.length :
			      small.length == out.length);
	assert(small.length <= 1 + size);
	assert(small.failed || memcmp(small.data, out.data, out.length) == 0);
	buffer_free(&small);
	buffer_free(&out);
	return (0);
}
