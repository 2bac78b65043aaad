/*
 * json_body -- a JSON object into a handler's variables.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "web/web_internal.h"

#define DEPTH_MOST 32
#define NO_FIELD "is not a field of this body"
#define READ_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

/* The parser recurses: how deep is known before it is let loose. */
static int
depth_is_bounded(const char *text, size_t length)
{
	size_t i;
	int depth = 0, in_text = 0;

	for (i = 0; i < length; i++) {
		if (in_text) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				in_text = 0;
		} else if (text[i] == '"') {
			in_text = 1;
		} else if (text[i] == '{' || text[i] == '[') {
			if (++depth > DEPTH_MOST)
				return (0);
		} else if (text[i] == '}' || text[i] == ']') {
			depth--;
		}
	}
	return (1);
}

/* The length of the number (RFC 8259 section 6) that ${p} begins with, or 0. */
static size_t
number_length(const char *p)
{
	static const char digits[] = "0123456789";
	const char *begin = p;
	size_t n;

	p += *p == '-';
	n = strspn(p, digits);
	if (n == 0 || (n > 1 && *p == '0'))
		return (0);
	p += n;
	if (*p == '.') {
		if ((n = strspn(++p, digits)) == 0)
			return (0);
		p += n;
	}
	if (*p == 'e' || *p == 'E') {
		p++;
		p += *p == '+' || *p == '-';
		if ((n = strspn(p, digits)) == 0)
			return (0);
		p += n;
	}
	return ((size_t)(p - begin));
}

/*
 * A number that no double holds is JSON, but jansson can't read it: put one in
 * its place that it can, and that no field takes either.
 */
static void
tame_numbers(char *text)
{
	static const char large[] = "1e99"; /* what is larger is longer */
	size_t length;
	int in_text = 0;

	for (; *text != '\0'; text += length) {
		length = 1;
		if (in_text) {
			length += *text == '\\' && text[1] != '\0';
			in_text = *text != '"';
		} else if (*text == '"') {
			in_text = 1;
		} else if ((length = number_length(text)) == 0) {
			length = 1;
		} else if (isinf(strtod(text, NULL))) {
			memset(text, ' ', length);
			memcpy(text, large, sizeof(large) - 1);
		}
	}
}

/* The same once more, where a number is too large for jansson. */
static json_t *
read_large(const struct web_request *req, json_error_t *why, int *out_of_memory)
{
	json_t *root;
	char *copy;

	if ((copy = malloc(req->body_size + 1)) == NULL) {
		*out_of_memory = 1;
		return (NULL);
	}
	memcpy(copy, req->body, req->body_size);
	copy[req->body_size] = '\0';
	tame_numbers(copy);
	root = json_read(copy, req->body_size,
	    READ_FLAGS | JSON_DECODE_INT_AS_REAL, why, out_of_memory);
	free(copy);
	return (root);
}

/* The name that ends before ${end} in the body; NULL for lack of memory. */
static json_t *
name_before(const struct web_request *req, int end)
{
	const char *body = req->body;
	json_error_t why;
	int i, begin = 0, in_text = 0, out_of_memory;

	for (i = 0; i < end; i++) {
		if (body[i] == '"') {
			begin = in_text ? begin : i;
			in_text = !in_text;
		} else if (body[i] == '\\') {
			i++;
		}
	}
	return (json_read(body + begin, (size_t)(end - begin),
	    JSON_DECODE_ANY | JSON_ALLOW_NUL, &why, &out_of_memory));
}

/* Why the body couldn't be read. */
static void
refuse(const struct web_request *req, struct web_response *res,
    const json_error_t *why, int out_of_memory)
{
	const char *message = NULL;
	json_t *name = NULL;

	if (!out_of_memory && json_error_code(why) == json_error_duplicate_key)
		message = "must not be given twice";
	else if (!out_of_memory &&
	    json_error_code(why) == json_error_null_byte_in_key)
		message = NO_FIELD;
	if (message != NULL && (name = name_before(req, why->position)) == NULL)
		out_of_memory = 1;
	if (out_of_memory) {
		web_problem(res, 503, "out of memory");
		res->retry_after_s = 1;
	} else if (message != NULL) {
		web_problem_field(res, json_string_value(name), "%s", message);
	} else {
		web_problem(res, 400,
		    "the body is not JSON: line %d, column %d: %s", why->line,
		    why->column, why->text);
	}
	json_decref(name);
}

/* An object, or NULL with a problem. */
static json_t *
parse(const struct web_request *req, struct web_response *res)
{
	json_error_t why;
	json_t *root;
	int out_of_memory;

	/* jansson overlooks one that follows a number. */
	if (memchr(req->body, '\0', req->body_size) != NULL) {
		web_problem(res, 400, "the body has a NUL");
		return (NULL);
	}
	if (!depth_is_bounded(req->body, req->body_size)) {
		web_problem(res, 400, "the JSON is nested deeper than %d",
		    DEPTH_MOST);
		return (NULL);
	}
	root = json_read(req->body, req->body_size, READ_FLAGS, &why,
	    &out_of_memory);
	if (root == NULL && !out_of_memory &&
	    json_error_code(&why) == json_error_numeric_overflow)
		root = read_large(req, &why, &out_of_memory);
	if (root == NULL) {
		refuse(req, res, &why, out_of_memory);
		return (NULL);
	}
	if (!json_is_object(root)) {
		web_problem(res, 400, "the body must be a JSON object");
		json_decref(root);
		return (NULL);
	}
	return (root);
}

static int
read_text(const struct web_field *field, const json_t *value,
    struct mr_error *err)
{
	const char *text;
	size_t length;

	if (!json_is_string(value))
		return (mr_error_set(err, MR_REJECT, "must be a text"));
	text = json_string_value(value);
	length = json_string_length(value);
	/* The field's own rule first: it says all that must be. */
	if (field->check_text != NULL &&
	    field->check_text(text, length, err) == -1)
		return (-1);
	if (length >= field->size || strlen(text) != length)
		return (mr_error_set(err, MR_REJECT,
		    "must have at most %zu bytes, and no NUL",
		    field->size - 1));
	memcpy(field->target, text, length + 1);
	return (0);
}

static int
read_i64(const struct web_field *field, const json_t *value,
    struct mr_error *err)
{
	/* From 2^53 on a double may stand for its neighbour as well. */
	const double exact = 9007199254740991.0;
	double x;
	int64_t n = 0;
	int whole = json_is_integer(value);

	if (whole) {
		n = json_integer_value(value);
	} else if (json_is_real(value)) {
		x = json_real_value(value);
		/* Bounded first: a cast of what doesn't fit is undefined. */
		whole = x >= -exact && x <= exact && (double)(int64_t)x == x;
		n = whole ? (int64_t)x : 0;
	}
	if (!whole || n < field->least || n > field->most)
		return (mr_error_set(err, MR_REJECT,
		    "must be a whole number from %lld to %lld",
		    (long long)field->least, (long long)field->most));
	memcpy(field->target, &n, sizeof(n));
	return (0);
}

static void
read_field(const struct web_field *field, const json_t *root,
    struct web_response *res, struct web_errors *errors)
{
	const json_t *value = json_object_get(root, field->name);
	struct mr_error err = {MR_REJECT, "must be something else"};
	int status;

	if (value == NULL) {
		if (!field->optional)
			web_errors_add(errors, res, field->name,
			    "must be given");
		return;
	}
	switch (field->kind) {
	case WEB_FIELD_TEXT:
		status = read_text(field, value, &err);
		break;
	case WEB_FIELD_I64:
		status = read_i64(field, value, &err);
		break;
	default:
		assert(0 && "a field's kind");
		status = -1;
	}
	if (status == -1)
		web_errors_add(errors, res, field->name, err.message);
}

int
web_read_json(struct web_request *req, struct web_response *res,
    const struct web_field *fields)
{
	struct web_errors errors = {.count = 0};
	const struct web_field *field;
	json_t *root, *value;
	const char *name;

	if (!web_type_is_json(req->content_type)) {
		web_problem(res, 415,
		    "the body must be JSON in UTF-8, and its Content-Type "
		    "application/json");
		return (-1);
	}
	if ((root = parse(req, res)) == NULL)
		return (-1);
	for (field = fields; field->name != NULL; field++)
		read_field(field, root, res, &errors);
	json_object_foreach(root, name, value)
	{
		for (field = fields; field->name != NULL; field++) {
			if (strcmp(field->name, name) == 0)
				break;
		}
		if (field->name == NULL)
			web_errors_add(&errors, res, name, NO_FIELD);
	}
	json_decref(root);
	return (web_errors_end(&errors));
}
